//! When the primary has had its time (Castro & Liskov, OSDI'99, section 4.4): timers run while it has something to do
//! that it does not get done, and stop when that is done by whatever path.
//!
//! Three things are timed: batches that it has proposed and that do not commit; requests that clients sent to all
//! replicas and that it does not order; a view that it does not start. The time-out doubles with each view change that
//! leads to nothing, and is what it was again as soon as a batch commits.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::transitions::Phase;
use super::votes::{set_of, size};
use super::{Pbft, Turn};
use crate::limits::PENDING_BYTES_MAX;
use crate::protocol::planted::Planted;
use crate::protocol::{Ignored, Message, Output, Timer};
use crate::requests::{Batch, RequestTable, TableBuilder};
use crate::types::{ClientId, SequenceNumber, Time, Timestamp, View};

/// The time-outs of requests of a principal that was waited for in vain double up to this power.
const PATIENCE_MAX: u32 = 6;

/// A timer that fires later than this part of the time-out says more of this replica than of the primary.
const OVERSLEPT_FRACTION: u64 = 4;

/// How many time-outs in a row a replica takes the blame itself while others are known to have gone on without it: what
/// it misses is to be had from them. Not for ever: f of those who say that they have gone on may be lying.
const EXCUSES_MAX: u32 = 8;

/// A primary that orders everything, but so late that clients keep asking everybody, is slow on purpose or not fit for
/// its task: if at each of so many looks in a row some request has been waited for longer than from one look to the
/// next, it is replaced. A client alone can not bring that about: its requests are ordered at once when they are
/// forwarded, and if that can not be, those of its principal do not count here.
const SLOW_LOOKS_MAX: u32 = 8;
/// Looks are this part of the time-out apart.
const LOOK_FRACTION: u64 = 4;

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
    /// While a view is to be started: when patience ends, once Q replicas have asked for it.
    view_due: Option<Time>,
    /// When the primary is next looked at, and how often in a row it was found slow.
    look_at: Time,
    slow_looks: u32,
    /// Requests that clients sent to this backup, by client, at most one each.
    requests: BTreeMap<ClientId, Awaited>,
    /// The same, by the time at which they are due.
    due: BTreeSet<(Time, ClientId)>,
    bytes: usize,
    /// By principal: how often one of its requests was waited for in vain since the last that was executed.
    in_vain: BTreeMap<u32, u32>,
    /// By principal: the primaries that proposed requests which did not prove themselves here and stopped a slot.
    accusers: BTreeMap<u32, u64>,
}

/// A request that the primary is to order.
#[derive(Debug)]
struct Awaited {
    timestamp: Timestamp,
    /// Since when this primary has had time for it.
    since: Time,
    due: Time,
    /// This request alone, with all its proofs.
    request: RequestTable,
}

impl Suspicion {
    /// Nothing is waited for. Time-outs begin at `first_ns` and grow to `longest_ns`.
    pub(super) fn new(first_ns: u64, longest_ns: u64) -> Self {
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
            view_due: None,
            look_at: Time(0),
            slow_looks: 0,
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

    /// The view has started, with assignments up to `proposed`: everything is timed anew.
    pub(super) fn enter_view(&mut self, now: Time, proposed: SequenceNumber, principal: impl Fn(ClientId) -> u32) {
        self.view_due = None;
        self.proposed = proposed;
        self.time_anew(now, principal);
    }

    fn time_anew(&mut self, now: Time, principal: impl Fn(ClientId) -> u32) {
        self.view_due = self.view_due.map(|_| now.after(self.timeout_ns));
        self.slow_looks = 0;
        self.waiting_since = now;
        self.due.clear();
        for (client, awaited) in &mut self.requests {
            let patience = patience_ns(self.timeout_ns, self.in_vain.get(&principal(*client)).copied());
            awaited.since = now;
            awaited.due = now.after(patience);
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
    }

    /// A batch has committed: its requests are waited for no longer, and the next batch has its time.
    pub(super) fn note_committed(&mut self, batch: &Batch, principal: impl Fn(ClientId) -> u32, now: Time) {
        self.waiting_since = now;
        self.progressed = true;
        self.excuses = 0;
        self.timeout_ns = self.first_ns;
        if self.requests.is_empty() {
            return;
        }
        let rows = batch.requests.clients.iter().zip(&batch.requests.timestamps);
        for (client, timestamp) in rows {
            if self.requests.get(client).is_some_and(|awaited| awaited.timestamp <= *timestamp) {
                self.remove(*client);
                self.in_vain.remove(&principal(*client));
            }
        }
    }

    fn remove(&mut self, client: ClientId) {
        if let Some(awaited) = self.requests.remove(&client) {
            self.due.remove(&(awaited.due, client));
            self.bytes -= awaited.request.bytes();
        }
    }

    fn insert(&mut self, client: ClientId, awaited: Awaited) {
        self.remove(client);
        if self.requests.is_empty() {
            self.slow_looks = 0;
            self.look_at = awaited.since.after(self.timeout_ns / LOOK_FRACTION);
        }
        self.bytes += awaited.request.bytes();
        self.due.insert((awaited.due, client));
        self.requests.insert(client, awaited);
    }

    /// Looks whether anything has been waited for too long, when it is time to. True if that is so again and again.
    fn is_too_slow(&mut self, now: Time, principal: impl Fn(ClientId) -> u32) -> bool {
        if self.requests.is_empty() || now < self.look_at {
            return false;
        }
        let pause = self.timeout_ns / LOOK_FRACTION;
        self.look_at = now.after(pause);
        let counts = |client: ClientId| !self.in_vain.contains_key(&principal(client));
        let late = |(client, awaited): (&ClientId, &Awaited)| now.since(awaited.since) >= pause && counts(*client);
        let late = self.requests.iter().any(late);
        self.slow_looks = if late { self.slow_looks + 1 } else { 0 };
        self.slow_looks >= SLOW_LOOKS_MAX
    }

    /// All requests that are waited for, as few tables as possible.
    fn tables(&self) -> Vec<RequestTable> {
        let mut tables = Vec::new();
        let mut builder = TableBuilder::default();
        for awaited in self.requests.values() {
            if !builder.has_room_for(&awaited.request, 0) {
                tables.push(builder.finish());
            }
            builder.push(&awaited.request, 0);
        }
        if !builder.is_empty() {
            tables.push(builder.finish());
        }
        tables
    }
}

/// How long a request may take whose principal was waited for in vain so many times: whoever makes requests that no
/// primary can order must not wear out one primary after the other.
fn patience_ns(timeout_ns: u64, in_vain: Option<u32>) -> u64 {
    timeout_ns.saturating_mul(1 << in_vain.unwrap_or(0).min(PATIENCE_MAX))
}

impl Pbft {
    /// Backup: these requests reached this replica and have not been executed. The primary has its time for them from
    /// now on, unless it runs already.
    pub(super) fn await_requests(&mut self, table: &RequestTable, turn: &mut Turn<'_>) {
        if !self.config.voting {
            return;
        }
        let mut full = false;
        for (index, (&client, &timestamp)) in table.clients.iter().zip(&table.timestamps).enumerate() {
            let newer = self.suspicion.requests.get(&client).is_none_or(|awaited| awaited.timestamp < timestamp);
            if !newer || client.0 >= self.config.clients || self.is_distrusted(client) {
                continue;
            }
            let request = table.select(&[index]);
            if self.suspicion.bytes + request.bytes() > PENDING_BYTES_MAX {
                full = true;
                continue;
            }
            let in_vain = self.suspicion.in_vain.get(&self.principal(client)).copied();
            let due = turn.now.after(patience_ns(self.suspicion.timeout_ns, in_vain));
            self.suspicion.insert(client, Awaited { timestamp, since: turn.now, due, request });
        }
        if full {
            turn.outputs.push(Output::Ignored(Ignored::RequestQueueFull));
        }
        self.arm_view_timer(turn);
    }

    /// The view has started: its primary gets what is waited for.
    pub(super) fn forward_awaited(&mut self, turn: &mut Turn<'_>) {
        for table in self.suspicion.tables() {
            if self.is_primary() {
                self.on_requests_at_primary(Arc::new(table), turn);
            } else {
                turn.send(self.primary(), Message::Forward(Arc::new(table)));
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

    /// When the primary's time is up.
    fn view_due(&self) -> Option<Time> {
        if !self.config.voting {
            return None;
        }
        let suspicion = &self.suspicion;
        if !self.views.active {
            return suspicion.view_due;
        }
        // A primary times its own batches as well: where a faulty replica helps some to commit and not others, it may be
        // among the few that notice, and f + 1 must.
        let owes = suspicion.proposed > self.log.committed || self.owes_padding();
        let batch = owes.then(|| suspicion.waiting_since.after(suspicion.timeout_ns));
        let request = suspicion.due.first().filter(|_| !self.is_primary());
        let request = request.map(|(due, _)| (*due).min(suspicion.look_at));
        batch.into_iter().chain(request).min()
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
        let principals = &self.config.principals;
        let slow = self.views.active
            && !self.is_primary()
            && self.suspicion.is_too_slow(turn.now, |client| principal_of(principals, client));
        if !slow && self.view_due().is_none_or(|due| due > turn.now) {
            self.arm_view_timer(turn);
            return;
        }
        if self.views.active && self.is_behind() && self.suspicion.excuses < EXCUSES_MAX {
            self.suspicion.excuses += 1;
            self.time_anew(turn.now);
            self.arm_view_timer(turn);
            return;
        }
        // Requests that are due stay; when they are due again is said when the next view starts.
        let mut in_vain = BTreeSet::new();
        while let Some(&(due, client)) = self.suspicion.due.first().filter(|(due, _)| *due <= turn.now) {
            self.suspicion.due.remove(&(due, client));
            in_vain.insert(self.principal(client));
        }
        for principal in in_vain {
            let times = self.suspicion.in_vain.entry(principal).or_default();
            *times = times.saturating_add(1);
        }
        self.suspect(turn);
    }

    /// Whatever is waited for gets its full time again.
    pub(super) fn time_anew(&mut self, now: Time) {
        let principals = &self.config.principals;
        self.suspicion.time_anew(now, |client| principal_of(principals, client));
    }

    /// The primary is faulty, or seems so: on to the next.
    pub(super) fn suspect(&mut self, turn: &mut Turn<'_>) {
        let next = View(self.view.0.saturating_add(1));
        self.start_view_change(next, turn);
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
