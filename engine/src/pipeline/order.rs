//! The order stage: drives the protocol core. Single writer, no locks, no I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use hdrhistogram::Histogram;

use crate::control::PhaseReport;
use crate::pipeline::board::{Board, Reached};
use crate::pipeline::link::Receiver;
use crate::pipeline::persist::{Departure, Onward, SaveRequest};
use crate::pipeline::stage::{Counts, Stage, count};
use crate::pipeline::verify::Verified;
use crate::platform;
use crate::protocol::message::{Checkpoint, FetchState, StateChunk};
use crate::protocol::{Execution, Input, Message, Output, Protocol, Record, StableCheckpoint, Timer};
use crate::requests::RequestTable;
use crate::types::{Digest, ReplicaId, SequenceNumber, Time, View};

/// What the execute stage is asked to do.
#[derive(Debug)]
pub enum Work {
    /// Execute a batch.
    Execute(Execution),
    /// The batch at this sequence number, which was executed tentatively, has been committed then.
    Confirm(SequenceNumber, Time),
    /// Undo the batches above this sequence number.
    RollBack(SequenceNumber),
    /// Answer these from the reply cache, hand back those that were not executed.
    Recall(View, Arc<RequestTable>),
    /// Keep a snapshot of the state at this coming checkpoint.
    Keep(SequenceNumber),
    /// Read a chunk of a snapshot, for this replica.
    Read(ReplicaId, FetchState),
    /// Replace the state by the one with this digest.
    Install(SequenceNumber, Digest, Vec<Bytes>),
    /// Hand over the snapshot that was kept, to be written to disk.
    Save(SaveRequest),
}

/// What the execute stage tells.
#[derive(Debug)]
pub enum Feedback {
    /// This sequence number has been executed, for good.
    Executed(SequenceNumber),
    /// The state after this sequence number has this digest.
    Checkpoint(SequenceNumber, Digest),
    /// These were recalled and have not been executed.
    NotExecuted(Arc<RequestTable>),
    /// A chunk for this replica.
    Read(ReplicaId, StateChunk),
    /// Whether the state was replaced by the one at this checkpoint.
    Installed(SequenceNumber, bool),
}

/// A message of the protocol on its way to the egress stage.
#[derive(Debug)]
pub enum Outbound {
    /// To one replica.
    To(ReplicaId, Arc<Message>),
    /// To all others.
    All(Arc<Message>),
}

/// Most link items that one step takes.
const ITEMS_PER_STEP: usize = 16;

/// The links of the order stage.
pub struct OrderLinks {
    /// One from each verify stage.
    pub verified: Vec<Receiver<Verified>>,
    /// From the execute stage.
    pub feedback: Receiver<Vec<Feedback>>,
    /// To the execute and egress stages.
    pub onward: Onward,
    /// Told to the verify stages.
    pub reached: Reached,
}

/// The stage's context.
pub struct Order {
    own: ReplicaId,
    protocol: Box<dyn Protocol>,
    links: OrderLinks,
    timers: BTreeMap<Timer, Time>,
    outputs: Vec<Output>,
    records: Vec<Record>,
    stable: Vec<Checkpoint>,
    work: Vec<Work>,
    outbound: Vec<Outbound>,
    ignored: Counts,
    diverged: Option<String>,
    /// The state that is being fetched, as it was last logged.
    fetching: Option<(SequenceNumber, Option<ReplicaId>)>,
    ingress_verify: Histogram<u64>,
    next: usize,
}

impl Order {
    /// Drives `protocol`; `first` are the outputs of its construction.
    #[must_use]
    pub fn new(own: ReplicaId, protocol: Box<dyn Protocol>, first: Vec<Output>, links: OrderLinks) -> Self {
        let mut order = Self {
            own,
            protocol,
            links,
            timers: BTreeMap::new(),
            outputs: first,
            records: Vec::new(),
            stable: Vec::new(),
            work: Vec::new(),
            outbound: Vec::new(),
            ignored: Counts::new(),
            diverged: None,
            fetching: None,
            ingress_verify: phase_histogram(),
            next: 0,
        };
        order.dispatch();
        order.hand_on();
        order
    }

    fn feed(&mut self, now: Time, input: Input) {
        self.protocol.step(now, input, &mut self.outputs);
        self.dispatch();
    }

    fn dispatch(&mut self) {
        let mut transfer = false;
        for output in self.outputs.drain(..) {
            match output {
                Output::Send(to, message) => {
                    transfer |= matches!(*message, Message::FetchState(_));
                    self.outbound.push(Outbound::To(to, message));
                }
                Output::Broadcast(message) => {
                    transfer |= matches!(*message, Message::StateWanted(_));
                    self.outbound.push(Outbound::All(message));
                }
                Output::Execute(execution) => self.work.push(Work::Execute(execution)),
                Output::Confirm(sequence, committed) => self.work.push(Work::Confirm(sequence, committed)),
                Output::RollBack(to) => self.work.push(Work::RollBack(to)),
                Output::Recall(table) => self.work.push(Work::Recall(self.protocol.position().view, table)),
                Output::SetTimer(timer, at) => {
                    self.timers.insert(timer, at);
                }
                Output::CancelTimer(timer) => {
                    self.timers.remove(&timer);
                }
                Output::StableCheckpoint(StableCheckpoint { sequence, digest, .. }) => {
                    self.stable.push(Checkpoint { sequence, digest });
                }
                Output::Diverged { sequence, own, quorum } => {
                    let text = format!("at checkpoint {sequence} its state is {own:?}, a quorum's is {quorum:?}");
                    platform::log(&format!("replica {}: diverged: {text}", self.own));
                    self.diverged = Some(text);
                }
                Output::KeepState(sequence) => self.work.push(Work::Keep(sequence)),
                Output::ReadState { to, fetch } => self.work.push(Work::Read(to, fetch)),
                Output::InstallState { sequence, digest, chunks } => {
                    self.work.push(Work::Install(sequence, digest, chunks));
                }
                Output::Persist(record) => self.records.push(record),
                Output::Ignored(reason) => count(&mut self.ignored, reason.name()),
            }
        }
        if transfer {
            self.note_fetching();
        }
    }

    /// Logs what has become of the state transfer, if anything has.
    fn note_fetching(&mut self) {
        let fetching = self.protocol.position().fetching;
        let before = std::mem::replace(&mut self.fetching, fetching);
        if fetching == before {
            return;
        }
        if let (Some((sequence, Some(skipped))), Some((next, Some(_)))) = (before, fetching)
            && sequence == next
        {
            platform::log(&format!("replica {}: replica {skipped} gave no state at {sequence}", self.own));
        }
        match fetching {
            Some(fetching) => platform::log(&format!("replica {}: {}", self.own, describe(fetching))),
            None => platform::log(&format!("replica {}: no longer fetches a state", self.own)),
        }
    }

    fn log_installed(&self, sequence: SequenceNumber, good: bool) {
        let outcome = if good { "took over" } else { "was given a wrong state instead of" };
        platform::log(&format!("replica {}: {outcome} the state at {sequence}", self.own));
    }

    fn hand_on(&mut self) {
        self.links.onward.send(Departure {
            records: std::mem::take(&mut self.records),
            stable: std::mem::take(&mut self.stable),
            work: std::mem::take(&mut self.work),
            outbound: std::mem::take(&mut self.outbound),
        });
    }

    /// Taken even while output is held back: what is between this stage and execute is bounded by the window, and
    /// stopping here would lock both up.
    fn take_feedback(&mut self, now: Time) -> bool {
        let mut any = false;
        while let Some(items) = self.links.feedback.receive() {
            any = true;
            for item in items {
                let input = match item {
                    Feedback::Executed(sequence) => Input::Executed(sequence),
                    Feedback::Checkpoint(sequence, digest) => Input::CheckpointTaken(sequence, digest),
                    Feedback::NotExecuted(table) => Input::NotExecuted(table),
                    Feedback::Read(to, chunk) => Input::StateRead(to, chunk),
                    Feedback::Installed(sequence, good) => {
                        self.log_installed(sequence, good);
                        Input::StateInstalled { sequence, good }
                    }
                };
                self.feed(now, input);
            }
        }
        any
    }

    fn take_verified(&mut self, now: Time) -> bool {
        let mut any = false;
        let links = self.links.verified.len();
        for _ in 0..ITEMS_PER_STEP {
            let mut item = None;
            for _ in 0..links {
                self.next = (self.next + 1) % links;
                item = self.links.verified[self.next].receive();
                if item.is_some() {
                    break;
                }
            }
            let Some(Verified { received, inputs }) = item else { break };
            any = true;
            self.ingress_verify.saturating_record(now.since(received));
            for input in inputs {
                self.feed(now, input);
            }
            if self.links.onward.is_across_threads() {
                self.hand_on();
            }
        }
        any
    }

    fn fire_timers(&mut self, now: Time) -> bool {
        let due: Vec<Timer> = self.timers.iter().filter(|(_, at)| **at <= now).map(|(timer, _)| *timer).collect();
        for timer in &due {
            self.timers.remove(timer);
            self.feed(now, Input::Timer(*timer));
        }
        !due.is_empty()
    }
}

impl Stage for Order {
    fn name(&self) -> &'static str {
        "order"
    }

    fn step(&mut self, now: Time) -> bool {
        let flushed = self.links.onward.flush();
        let mut any = self.take_feedback(now);
        any |= self.fire_timers(now);
        if flushed {
            any |= self.take_verified(now);
        }
        self.hand_on();
        if any {
            let position = self.protocol.position();
            self.links.reached.publish(position.view, position.stable_checkpoint);
        }
        any
    }

    fn has_work(&self) -> bool {
        !self.links.feedback.is_empty() || self.links.verified.iter().any(|link| !link.is_empty())
    }

    fn is_stalled(&self) -> bool {
        self.links.onward.is_held()
    }

    fn deadline(&self) -> Option<Time> {
        self.timers.values().min().copied()
    }

    fn queue_len(&self) -> usize {
        self.links.verified.iter().map(Receiver::len).sum()
    }

    fn post(&mut self, board: &mut Board) {
        self.note_fetching();
        let position = self.protocol.position();
        board.report.id = self.own;
        board.report.view = position.view;
        board.report.active = position.active;
        board.report.view_changes = position.view_changes;
        board.report.states_installed = position.states_installed;
        board.report.stable_checkpoint = position.stable_checkpoint;
        board.report.diverged.clone_from(&self.diverged);
        board.report.left_behind = self.fetching.map(describe);
        board.report.phases.insert("ingress_verify".into(), phase_report(&self.ingress_verify));
        board.post_ignored("order", &self.ignored);
    }
}

fn describe((sequence, source): (SequenceNumber, Option<ReplicaId>)) -> String {
    match source {
        Some(source) => format!("fetching the state at {sequence} from replica {source}"),
        None => format!("waiting for the others to get to {sequence}, to fetch their state there"),
    }
}

/// A histogram for times between phases, ns.
#[must_use]
pub fn phase_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 2).expect("constant bounds are valid")
}

/// A phase's percentiles, µs.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "nanoseconds below a minute are exact in f64")]
pub fn phase_report(histogram: &Histogram<u64>) -> PhaseReport {
    let us = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
    if histogram.is_empty() {
        return PhaseReport::default();
    }
    PhaseReport { p50: us(0.5), p99: us(0.99) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::link::Sender;
    use crate::protocol::Position;
    use crate::ring::doorbell::Doorbell;
    use crate::ring::ring;

    /// Recalls whatever is asked for.
    struct Recalling;

    impl Protocol for Recalling {
        fn step(&mut self, _now: Time, input: Input, outputs: &mut Vec<Output>) {
            if let Input::Requests(table) = input {
                outputs.push(Output::Recall(table));
            }
        }

        fn position(&self) -> Position {
            Position::default()
        }
    }

    fn link<T>() -> (Sender<T>, Receiver<T>) {
        let (producer, consumer) = ring(64);
        (Sender::new(producer, Doorbell::parker().0), Receiver::new(consumer))
    }

    /// On one thread all that was verified is ordered first.
    #[test]
    fn another_thread_gets_what_follows_from_each_item_at_once() {
        for (across, sent) in [(true, 3), (false, 1)] {
            let ((mut verify, verified), (_feed, feedback)) = (link(), link());
            let ((work, mut worked), (outbound, _sent)) = (link(), link());
            let onward = Onward::Direct { work: work.across_threads(across), outbound };
            let links = OrderLinks { verified: vec![verified], feedback, onward, reached: Reached::default() };
            let mut order = Order::new(ReplicaId(0), Box::new(Recalling), Vec::new(), links);
            for _ in 0..3 {
                let inputs = vec![Input::Requests(Arc::new(RequestTable::empty()))];
                verify.send(Verified { received: Time(0), inputs });
            }
            assert!(order.step(Time(1)));
            let handed_on: Vec<Vec<Work>> = std::iter::from_fn(|| worked.receive()).collect();
            assert_eq!(handed_on.len(), sent);
            assert_eq!(handed_on.iter().map(Vec::len).sum::<usize>(), 3);
        }
    }
}
