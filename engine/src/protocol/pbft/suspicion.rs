//! When the primary has had its time (Castro & Liskov, OSDI'99, section 4.4): timers run while it has something to do
//! that it does not get done, and stop when that is done by whatever path.
//!
//! Three things are timed: batches that it has proposed and that do not commit; requests that clients sent to all
//! replicas and that it does not order; a view that it does not start. The time-out doubles with each view change that
//! leads to nothing, and is what it was again as soon as a batch commits. A primary that misses no deadline and is late
//! all the same is found by `slowness`.
//!
//! A suspicion binds nobody: whoever suspects the primary says so in its status and goes on voting (as with the STOP
//! messages of Mod-SMaRt, EDCC'12). Of f + 1 who suspect it one is correct, so the others join; the view is left when Q
//! suspect it. So neither a faulty client nor a primary that lies to one replica can part that replica from the others,
//! which matters because what it once leaves it can never vote in again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::slowness::Slowness;
use super::transitions::Phase;
use super::votes::{set_of, size};
use super::{Pbft, Turn};
use crate::limits::PENDING_BYTES_MAX;
use crate::protocol::planted::Planted;
use crate::protocol::{Ignored, Message, Output, Record, Timer};
use crate::requests::{Batch, RequestTable, TableBuilder};
use crate::types::{ClientId, ReplicaId, SequenceNumber, Time, View};

/// The time-outs of requests of a principal that was waited for in vain double up to this power.
const PATIENCE_MAX: u32 = 6;

/// A timer that fires later than this part of the time-out says more of this replica than of the primary.
const OVERSLEPT_FRACTION: u64 = 4;

/// How many time-outs in a row a replica takes the blame itself while others are known to have gone on without it: what
/// it misses is to be had from them. Not for ever: f of those who say that they have gone on may be lying.
const EXCUSES_MAX: u32 = 8;

/// A request is passed on to the primary again after this part of the time-out, however often its client asks.
const FORWARD_FRACTION: u64 = 4;

/// What the primary is waited for.
#[derive(Debug)]
pub(super) struct Suspicion {
    first_ns: u64,
    longest_ns: u64,
    timeout_ns: u64,
    /// Whether a batch has committed since the last view change began.
    progressed: bool,
    /// Whether the timer fired late the last time.
    overslept: bool,
    /// When the timer expires, if it is set.
    armed: Option<Time>,
    /// Time-outs since the last progress that were this replica's own fault, as it seems.
    excuses: u32,
    /// The highest sequence number that this view's primary has assigned.
    pub(super) proposed: SequenceNumber,
    /// Since when the next of these has been awaited.
    waiting_since: Time,
    /// When a batch last committed.
    committed_at: Option<Time>,
    /// While a view is to be started: when patience ends, once Q replicas have asked for it.
    view_due: Option<Time>,
    /// The newest view that each replica, this one included, has said to suspect.
    suspected: Vec<Option<View>>,
    slowness: Slowness,
    /// Since when the primary is known to be too slow.
    too_slow: Option<Time>,
    /// Requests that clients sent to this backup, by client, at most one each.
    requests: BTreeMap<ClientId, Awaited>,
    /// The same, by the time at which they are due.
    due: BTreeSet<(Time, ClientId)>,
    bytes: usize,
    /// By principal: requests that were waited for in vain.
    in_vain: BTreeMap<u32, InVain>,
    /// By principal: the primaries that proposed requests which did not prove themselves here and stopped a slot.
    accusers: BTreeMap<u32, u64>,
}

/// A request that the primary is to order.
#[derive(Debug)]
struct Awaited {
    /// Since when this primary has had time for it.
    since: Time,
    /// For how long the primary had been idle by then.
    idle_ns: u64,
    due: Time,
    /// When it was last passed on to the primary.
    forwarded: Time,
    /// Its time is up, and the executor was asked whether it has been executed by a path that is not known here.
    recalled: bool,
    /// It was waited for in vain, it or an earlier request of its client.
    in_vain: bool,
    /// This request alone, with all its proofs.
    request: RequestTable,
}

/// Requests of one principal that were waited for in vain.
#[derive(Clone, Copy, Debug, Default)]
struct InVain {
    /// How often, one after the other.
    times: u32,
    /// How many of them are still waited for. With the last one, all is forgiven.
    outstanding: u32,
}

impl Suspicion {
    /// Nothing is waited for at `now`, among `n` replicas. Time-outs begin at `first_ns` and grow to `longest_ns`.
    pub(super) fn new(n: usize, first_ns: u64, longest_ns: u64, now: Time) -> Self {
        Self {
            first_ns,
            longest_ns: longest_ns.max(first_ns),
            timeout_ns: first_ns,
            progressed: true,
            overslept: false,
            armed: None,
            excuses: 0,
            proposed: SequenceNumber(0),
            waiting_since: Time(0),
            committed_at: None,
            view_due: None,
            suspected: vec![None; n],
            slowness: Slowness::new(first_ns, now),
            too_slow: None,
            requests: BTreeMap::new(),
            due: BTreeSet::new(),
            bytes: 0,
            in_vain: BTreeMap::new(),
            accusers: BTreeMap::new(),
        }
    }

    /// A view change begins: the longer, the more of them have led to nothing.
    pub(super) fn back_off(&mut self) {
        self.timeout_ns =
            if self.progressed { self.first_ns } else { self.timeout_ns.saturating_mul(2).min(self.longest_ns) };
        self.progressed = false;
        self.view_due = None;
    }

    /// Q replicas have asked for the view: its primary's time begins.
    pub(super) fn await_view(&mut self, now: Time) {
        if self.view_due.is_none() {
            self.view_due = Some(now.after(self.timeout_ns));
        }
    }

    /// The view has started, with assignments up to `proposed` of which those up to `committed` are done: everything is
    /// timed anew.
    pub(super) fn enter_view(
        &mut self,
        now: Time,
        proposed: SequenceNumber,
        committed: SequenceNumber,
        principal: impl Fn(ClientId) -> u32,
    ) {
        self.view_due = None;
        self.excuses = 0;
        self.proposed = proposed;
        self.slowness.begin_view(proposed > committed, now);
        self.time_anew(now, principal);
    }

    fn time_anew(&mut self, now: Time, principal: impl Fn(ClientId) -> u32) {
        self.view_due = self.view_due.map(|_| now.after(self.timeout_ns));
        self.too_slow = None;
        self.waiting_since = now;
        self.due.clear();
        let idle_ns = self.slowness.idle_ns(now);
        for (client, awaited) in &mut self.requests {
            let in_vain = self.in_vain.get(&principal(*client));
            awaited.since = now;
            awaited.idle_ns = idle_ns;
            awaited.recalled = false;
            awaited.due = now.after(patience_ns(self.timeout_ns, in_vain));
            self.due.insert((awaited.due, *client));
        }
    }

    /// The primary owes something else, when everything up to `committed` was done: its time begins.
    pub(super) fn note_owed(&mut self, committed: SequenceNumber, now: Time) {
        if self.proposed <= committed {
            self.waiting_since = now;
        }
    }

    /// The primary has assigned `sequence`, when everything up to `committed` was done.
    pub(super) fn note_proposed(&mut self, sequence: SequenceNumber, committed: SequenceNumber, now: Time) {
        self.note_owed(committed, now);
        self.proposed = self.proposed.max(sequence);
        self.slowness.note_work(self.proposed > committed, now);
    }

    /// The batch at `sequence` has committed: its requests are waited for no longer, and the next batch has its time.
    pub(super) fn note_committed(
        &mut self,
        sequence: SequenceNumber,
        batch: &Batch,
        principal: impl Fn(ClientId) -> u32,
        now: Time,
    ) {
        self.waiting_since = now;
        self.committed_at = Some(now);
        self.progressed = true;
        self.excuses = 0;
        self.timeout_ns = self.first_ns;
        if !self.requests.is_empty() {
            let rows = batch.requests.clients.iter().zip(&batch.requests.timestamps);
            for (client, timestamp) in rows {
                if self.requests.get(client).is_some_and(|awaited| awaited.request.timestamps[0] <= *timestamp) {
                    self.note_served(*client, principal(*client), now);
                }
            }
        }
        self.slowness.note_work(self.proposed > sequence, now);
    }

    /// How often requests of a principal were waited for in vain, one after the other.
    #[cfg(test)]
    pub(super) fn in_vain_times(&self, principal: u32) -> u32 {
        self.in_vain.get(&principal).map_or(0, |in_vain| in_vain.times)
    }

    /// Whether any primary has accused a principal.
    #[cfg(test)]
    pub(super) fn is_accused(&self, principal: u32) -> bool {
        self.accusers.contains_key(&principal)
    }

    /// Whether the primary was found to be too slow.
    pub(super) const fn finds_too_slow(&self) -> bool {
        self.too_slow.is_some()
    }

    /// What was waited for is done. Whose requests no primary can order says nothing of how fast this one is.
    fn note_served(&mut self, client: ClientId, principal: u32, now: Time) {
        let counts = !self.in_vain.contains_key(&principal);
        let Some(awaited) = self.remove(client, principal) else { return };
        if counts && self.slowness.note_served(principal, awaited.since, awaited.idle_ns, now) {
            self.too_slow = Some(now);
        }
    }

    fn remove(&mut self, client: ClientId, principal: u32) -> Option<Awaited> {
        let awaited = self.requests.remove(&client)?;
        self.due.remove(&(awaited.due, client));
        self.bytes -= awaited.request.bytes();
        if awaited.in_vain
            && let Some(in_vain) = self.in_vain.get_mut(&principal)
        {
            in_vain.outstanding -= 1;
            if in_vain.outstanding == 0 {
                self.in_vain.remove(&principal);
            }
        }
        Some(awaited)
    }

    /// Waits for a request that nobody waited for, or for a newer one of its client.
    fn insert(&mut self, client: ClientId, principal: u32, request: RequestTable, now: Time) {
        // A newer request of a client whose last one was in vain takes its place in that, too.
        let in_vain = self.requests.get_mut(&client).is_some_and(|earlier| std::mem::take(&mut earlier.in_vain));
        self.remove(client, principal);
        let due = now.after(patience_ns(self.timeout_ns, self.in_vain.get(&principal)));
        self.bytes += request.bytes();
        self.due.insert((due, client));
        let idle_ns = self.slowness.idle_ns(now);
        let awaited = Awaited { since: now, idle_ns, due, forwarded: now, recalled: false, in_vain, request };
        self.requests.insert(client, awaited);
    }

    /// Requests whose time is up, for the executor to say whether they have been executed. Those of which it had
    /// nothing to say the last time have been.
    fn take_due(&mut self, now: Time, principal: impl Fn(ClientId) -> u32) -> Vec<RequestTable> {
        let mut clients = Vec::new();
        while let Some(&(due, client)) = self.due.first().filter(|(due, _)| *due <= now) {
            self.due.remove(&(due, client));
            let Some(awaited) = self.requests.get_mut(&client) else { continue };
            if awaited.recalled {
                self.remove(client, principal(client));
            } else {
                awaited.recalled = true;
                awaited.due = now.after(self.timeout_ns);
                clients.push((awaited.due, client));
            }
        }
        self.due.extend(&clients);
        tables(clients.iter().map(|(_, client)| &self.requests[client].request))
    }

    /// The executor has not executed requests that it was asked about: they were waited for in vain, which counts once
    /// for each principal. Where nothing else was committed meanwhile, that says nothing of whoever made them.
    fn note_in_vain(&mut self, clients: &[(ClientId, u32)]) {
        let mut principals = BTreeSet::new();
        for (client, principal) in clients {
            let Some(awaited) = self.requests.get_mut(client) else { continue };
            awaited.recalled = false;
            if self.committed_at.is_none_or(|at| at < awaited.since) {
                continue;
            }
            let in_vain = self.in_vain.entry(*principal).or_default();
            in_vain.times = in_vain.times.saturating_add(u32::from(principals.insert(*principal)));
            in_vain.outstanding += u32::from(!awaited.in_vain);
            awaited.in_vain = true;
        }
    }
}

/// Requests, each in a table of its own, in as few tables as possible.
fn tables<'a>(requests: impl Iterator<Item = &'a RequestTable>) -> Vec<RequestTable> {
    let mut tables = Vec::new();
    let mut builder = TableBuilder::default();
    for request in requests {
        if !builder.has_room_for(request, 0) {
            tables.push(builder.finish());
        }
        builder.push(request, 0);
    }
    if !builder.is_empty() {
        tables.push(builder.finish());
    }
    tables
}

/// How long a request may take whose principal was waited for in vain: whoever makes requests that no primary can order
/// must not wear out one primary after the other.
fn patience_ns(timeout_ns: u64, in_vain: Option<&InVain>) -> u64 {
    timeout_ns.saturating_mul(1 << in_vain.map_or(0, |in_vain| in_vain.times).min(PATIENCE_MAX))
}

impl Pbft {
    /// Backup: these requests reached this replica and have not been executed. The primary has its time for them from
    /// now on, unless it runs already. Returns those that the primary is to be told of.
    pub(super) fn await_requests(&mut self, table: &RequestTable, turn: &mut Turn<'_>) -> Vec<usize> {
        let mut to_forward = Vec::new();
        if !self.config.voting {
            return to_forward;
        }
        let again_ns = self.config.view_timeout_ns / FORWARD_FRACTION;
        let (mut full, mut in_vain) = (false, Vec::new());
        for (index, (&client, &timestamp)) in table.clients.iter().zip(&table.timestamps).enumerate() {
            if client.0 >= self.config.clients || self.is_distrusted(client) {
                continue;
            }
            let principal = self.principal(client);
            let known = self.suspicion.requests.get_mut(&client);
            match known.filter(|awaited| awaited.request.timestamps[0] >= timestamp) {
                Some(awaited) if awaited.request.timestamps[0] > timestamp => {}
                Some(awaited) => {
                    if turn.now.since(awaited.forwarded) >= again_ns {
                        awaited.forwarded = turn.now;
                        to_forward.push(index);
                    }
                    if awaited.recalled {
                        in_vain.push((client, principal));
                    }
                }
                None => {
                    let request = table.select(&[index]);
                    if self.suspicion.bytes + request.bytes() > PENDING_BYTES_MAX {
                        full = true;
                        continue;
                    }
                    self.suspicion.insert(client, principal, request, turn.now);
                    to_forward.push(index);
                }
            }
        }
        if full {
            turn.outputs.push(Output::Ignored(Ignored::RequestQueueFull));
        }
        self.suspicion.note_in_vain(&in_vain);
        if !in_vain.is_empty() && self.views.active && !self.is_primary() {
            self.suspect(turn);
        }
        self.arm_view_timer(turn);
        to_forward
    }

    /// The view has started: its primary gets what is waited for.
    pub(super) fn forward_awaited(&mut self, turn: &mut Turn<'_>) {
        for awaited in self.suspicion.requests.values_mut() {
            awaited.forwarded = turn.now;
        }
        for table in tables(self.suspicion.requests.values().map(|awaited| &awaited.request)) {
            if self.is_primary() {
                self.on_requests_at_primary(Arc::new(table), turn);
            } else {
                turn.send(self.primary(), Message::Forward(Arc::new(table)));
            }
        }
        // What clients have sent to everybody need not be sent again.
        if self.leads() {
            for table in self.bodies.newest() {
                self.on_requests_at_primary(Arc::new(table), turn);
            }
        }
    }

    /// Sets the timer for whatever is due first. An earlier setting is left to come: it finds nothing due and sets the
    /// timer again, which is cheaper than moving it with every batch.
    pub(super) fn arm_view_timer(&mut self, turn: &mut Turn<'_>) {
        let due = self.view_due().filter(|_| !self.config.has(Planted::TimerForgotten));
        let Some(due) = due else { return };
        if self.suspicion.armed.is_none_or(|armed| due < armed) {
            self.suspicion.armed = Some(due);
            turn.outputs.push(Output::SetTimer(Timer::View, due));
        }
    }

    /// When the primary's time is up, or that of a request which it may have ordered.
    fn view_due(&self) -> Option<Time> {
        let request = self.suspicion.due.first().filter(|_| self.views.active && !self.is_primary());
        let request = request.map(|(due, _)| *due).filter(|_| self.config.voting && !self.suspects_view());
        request.into_iter().chain(self.primary_due()).min()
    }

    /// When the primary's time is up, whatever became of requests.
    fn primary_due(&self) -> Option<Time> {
        let suspicion = &self.suspicion;
        if !self.config.voting || self.suspects_view() {
            return None; // it has said what it thinks
        }
        if !self.views.active {
            return suspicion.view_due;
        }
        // A primary times its own batches as well: where a faulty replica helps some to commit and not others, it may be
        // among the few that notice, and f + 1 must.
        // Without a state this replica hands nothing to its executor, and can not tell what has been done.
        let owes = !self.log.lacks_state() && (suspicion.proposed > self.log.committed || self.owes_padding());
        let batch = owes.then(|| suspicion.waiting_since.after(suspicion.timeout_ns));
        batch.into_iter().chain(suspicion.too_slow.filter(|_| !self.is_primary())).min()
    }

    /// Time may be up.
    pub(super) fn on_view_timer(&mut self, turn: &mut Turn<'_>) {
        let armed = self.suspicion.armed.take().unwrap_or(turn.now);
        let late = turn.now.since(armed) > self.suspicion.timeout_ns / OVERSLEPT_FRACTION;
        if late && !self.suspicion.overslept {
            // This replica itself did not run. What the primary sent meanwhile is still to be read.
            self.time_anew(turn.now);
        }
        // Once in a row: on a machine that is always late, the primary must still be replaced.
        self.suspicion.overslept = late;
        let is_up = |due: Option<Time>| due.is_some_and(|due| due <= turn.now);
        if !is_up(self.view_due()) {
            self.arm_view_timer(turn);
            return;
        }
        if self.views.active && self.is_behind() && self.suspicion.excuses < EXCUSES_MAX {
            self.suspicion.excuses += 1;
            self.time_anew(turn.now);
            self.arm_view_timer(turn);
            return;
        }
        if is_up(self.primary_due()) {
            self.suspect(turn);
            return;
        }
        // It may have been executed by a path that is not seen here: before it was waited for, or in a state that was
        // fetched. The executor knows.
        let principals = &self.config.principals;
        for table in self.suspicion.take_due(turn.now, |client| principal_of(principals, client)) {
            turn.outputs.push(Output::Recall(Arc::new(table)));
        }
        self.arm_view_timer(turn);
    }

    /// Whatever is waited for gets its full time again.
    pub(super) fn time_anew(&mut self, now: Time) {
        let principals = &self.config.principals;
        self.suspicion.time_anew(now, |client| principal_of(principals, client));
    }

    /// The primary is faulty, or seems so. Tells everybody, and goes on as before until enough others think so too.
    pub(super) fn suspect(&mut self, turn: &mut Turn<'_>) {
        if self.config.voting && !self.suspects_view() {
            self.suspect_up_to(self.view, turn);
            self.count_suspicions(turn);
        }
    }

    fn suspect_up_to(&mut self, view: View, turn: &mut Turn<'_>) {
        self.suspicion.suspected[usize::from(self.config.own.0)] = Some(view);
        self.persist(turn, || Record::Suspected(view));
        turn.broadcast(Message::Status(self.status()));
    }

    /// It has said so before it was started anew. Whoever left the view since then has counted on it.
    pub(super) fn resume_suspicion(&mut self, view: View) {
        self.suspicion.suspected[usize::from(self.config.own.0)] = Some(view);
    }

    /// Whether this replica suspects the primary of the view that it is in, or waits for.
    pub(super) fn suspects_view(&self) -> bool {
        self.suspicion.suspected[usize::from(self.config.own.0)] >= Some(self.view)
    }

    /// Another replica suspects the primary of `view`.
    pub(super) fn on_suspicion(&mut self, sender: ReplicaId, view: View, turn: &mut Turn<'_>) {
        let newest = &mut self.suspicion.suspected[usize::from(sender.0)];
        if *newest < Some(view) {
            *newest = Some(view);
            self.count_suspicions(turn);
        }
    }

    /// Joins f + 1 who suspect the primary, one of whom is correct, and leaves the view with Q. Whoever suspects the
    /// primary of a later view, or asks for one, is lost to this one too. Views that Q suspect are passed over at once.
    pub(super) fn count_suspicions(&mut self, turn: &mut Turn<'_>) {
        if !self.config.voting {
            return;
        }
        let (own, quorums) = (usize::from(self.config.own.0), self.config.quorums);
        if let Some(view) = self.suspected_by(quorums.weak())
            && view >= self.view
            && self.suspicion.suspected[own] < Some(view)
        {
            self.suspect_up_to(view, turn);
        }
        if let Some(view) = self.suspected_by(quorums.quorum()).filter(|view| *view >= self.view) {
            self.start_view_change(View(view.0.saturating_add(1)), turn);
        }
    }

    /// The highest view that so many replicas suspect, or have left.
    fn suspected_by(&self, count: usize) -> Option<View> {
        let left = |replica| self.views.asked(replica).and_then(|view| view.0.checked_sub(1)).map(View);
        let newest = |replica| left(replica).max(self.suspicion.suspected[replica]);
        let mut views: Vec<Option<View>> = (0..self.config.quorums.n()).map(newest).collect();
        views.sort_unstable_by(|a, b| b.cmp(a));
        views[count - 1]
    }

    /// The view ends with slots that requests stopped which did not prove themselves here. Either their client is
    /// faulty or the primary is; a client whom f + 1 primaries accuse is.
    pub(super) fn accuse_unproven(&mut self) {
        let primary = self.primary();
        let stopped = self.log.slots().filter(|slot| slot.phase == Phase::Held);
        let clients: BTreeSet<ClientId> = stopped.flat_map(|slot| slot.unproven.iter().copied()).collect();
        for client in clients {
            let principal = self.principal(client);
            *self.suspicion.accusers.entry(principal).or_default() |= set_of(primary);
        }
    }

    /// Whether requests of this client have stopped f + 1 primaries, one of them correct.
    pub(super) fn is_distrusted(&self, client: ClientId) -> bool {
        let accusers = &self.suspicion.accusers;
        !accusers.is_empty()
            && accusers.get(&self.principal(client)).is_some_and(|set| size(*set) >= self.config.quorums.weak())
    }

    /// The requests of a table but for those of clients that are not to be trusted; `None` if none is left.
    pub(super) fn without_distrusted(
        &self,
        table: Arc<RequestTable>,
        turn: &mut Turn<'_>,
    ) -> Option<Arc<RequestTable>> {
        if self.suspicion.accusers.is_empty() {
            return Some(table);
        }
        let trusted: Vec<usize> = (0..table.len()).filter(|&index| !self.is_distrusted(table.clients[index])).collect();
        if trusted.len() == table.len() {
            return Some(table);
        }
        turn.outputs.push(Output::Ignored(Ignored::DistrustedClient));
        (!trusted.is_empty()).then(|| Arc::new(table.select(&trusted)))
    }

    /// The principal of a client, named by its first client.
    pub(super) fn principal(&self, client: ClientId) -> u32 {
        principal_of(&self.config.principals, client)
    }
}

/// The first client of the range that holds `client`: each range is one principal, and so is a client in none.
pub(super) fn principal_of(principals: &[Range<u32>], client: ClientId) -> u32 {
    let after = principals.partition_point(|range| range.start <= client.0);
    let range = after.checked_sub(1).map(|index| &principals[index]);
    range.filter(|range| range.contains(&client.0)).map_or(client.0, |range| range.start)
}
