//! When the primary has had its time (Castro & Liskov, OSDI'99, section 4.4): timers run while it has something to do
//! that it does not get done, and stop when that is done by whatever path.
//!
//! Three things are timed: batches that it has proposed and that do not commit; requests that clients sent to all
//! replicas and that it does not order; a view that it does not start. The time-out doubles with each view change that
//! leads to nothing, and is what it was again as soon as a batch commits. Which requests are waited for `awaited`
//! knows, whose are not to be `distrust`. A primary that misses no deadline and is late all the same is found by
//! `slowness`.
//!
//! A suspicion binds nobody: whoever suspects the primary says so in its status and goes on voting (as with the STOP
//! messages of Mod-SMaRt, EDCC'12). Of f + 1 who suspect it one is correct, so the others join; the view is left when Q
//! suspect it. So neither a faulty client nor a primary that lies to one replica can part that replica from the others,
//! which matters because what it once leaves it can never vote in again.

use std::sync::Arc;

use super::awaited::Awaited;
use super::distrust::{Accusers, principal_of};
use super::slowness::Slowness;
use super::{Pbft, Turn};
use crate::protocol::planted::Planted;
use crate::protocol::{Message, Output, Record, Timer};
use crate::requests::Batch;
use crate::types::{ClientId, ReplicaId, SequenceNumber, Time, View};

/// A timer that fires later than this part of the time-out says more of this replica than of the primary.
const OVERSLEPT_FRACTION: u64 = 4;

/// How many time-outs in a row a replica takes the blame itself while others are known to have gone on without it: what
/// it misses is to be had from them. Not for ever: f of those who say that they have gone on may be lying.
const EXCUSES_MAX: u32 = 8;

/// What the primary is waited for.
#[derive(Debug)]
pub(super) struct Suspicion {
    first_ns: u64,
    longest_ns: u64,
    pub(super) timeout_ns: u64,
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
    pub(super) committed_at: Option<Time>,
    /// While a view is to be started: when patience ends, once Q replicas have asked for it.
    view_due: Option<Time>,
    /// The newest view that each replica, this one included, has said to suspect.
    suspected: Vec<Option<View>>,
    slowness: Slowness,
    /// Since when the primary is known to be too slow.
    too_slow: Option<Time>,
    /// Requests that clients sent to this backup.
    pub(super) awaited: Awaited,
    /// Who proposed requests that did not prove themselves here.
    pub(super) accusers: Accusers,
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
            awaited: Awaited::default(),
            accusers: Accusers::default(),
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
        self.awaited.time_anew(now, self.timeout_ns, self.slowness.idle_ns(now), principal);
    }

    /// For how long the primary has been idle by now, in all.
    pub(super) fn idle_ns(&self, now: Time) -> u64 {
        self.slowness.idle_ns(now)
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
        if !self.awaited.is_empty() {
            let rows = batch.requests.clients.iter().zip(&batch.requests.timestamps);
            for (client, timestamp) in rows {
                if self.awaited.is_covered(*client, *timestamp) {
                    self.note_served(*client, principal(*client), now);
                }
            }
        }
        self.slowness.note_work(self.proposed > sequence, now);
    }

    /// Whether the primary was found to be too slow.
    pub(super) const fn finds_too_slow(&self) -> bool {
        self.too_slow.is_some()
    }

    /// What was waited for is done. Whose requests no primary can order says nothing of how fast this one is.
    fn note_served(&mut self, client: ClientId, principal: u32, now: Time) {
        let counts = !self.awaited.is_in_vain(principal);
        let Some(awaited) = self.awaited.remove(client, principal) else { return };
        if counts && self.slowness.note_served(principal, awaited.since, awaited.idle_ns, now) {
            self.too_slow = Some(now);
        }
    }
}

impl Pbft {
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
        let request = self.suspicion.awaited.first_due().filter(|_| self.views.active && !self.is_primary());
        let request = request.filter(|_| self.config.voting && !self.suspects_view());
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
        // A primary times its own batches as well: where a faulty replica helps some to commit and not others, it may
        // be among the few that notice, and f + 1 must.
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
        let (principals, timeout_ns) = (&self.config.principals, self.suspicion.timeout_ns);
        let principal = |client| principal_of(principals, client);
        for table in self.suspicion.awaited.take_due(turn.now, timeout_ns, principal) {
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
}
