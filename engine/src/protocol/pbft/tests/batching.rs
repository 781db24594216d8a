//! The conformance suite of batching: whatever arrives and is executed when, a primary with any registered policy keeps
//! what policies promise. A strategy is tested here by being registered.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestCaseError, TestRunner};

use super::*;
use crate::limits::{OPERATION_BYTES_MAX, OPERATIONS_BYTES_MAX, REQUESTS_MAX};
use crate::protocol::batching::{Decision, Executed, Policy, Waiting};

/// What happens to a primary.
#[derive(Clone, Debug)]
enum Happens {
    /// So many requests arrive together.
    Small(u32),
    /// A request arrives whose operation is as long as one may be: few of them make the bytes of a batch.
    Large,
    /// The oldest batch in flight is executed.
    Execution,
    /// Time passes, µs.
    Passes(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (1..40_u32).prop_map(Happens::Small),
        1 => Just(Happens::Large),
        6 => Just(Happens::Execution),
        4 => (1..8_000_u64).prop_map(Happens::Passes),
    ]
}

/// A primary, and what the suite knows of it.
struct Primary {
    replica: Replica,
    /// States what is promised.
    policy: Box<dyn Policy>,
    timer: Option<Time>,
    /// Client and arrival of what was not proposed yet.
    waiting: VecDeque<(u32, Time)>,
    in_flight: VecDeque<(u64, Arc<Batch>)>,
    last_execution: Time,
    clients: u32,
}

impl Primary {
    const CLIENTS: u32 = 10_000;
    const INTERVAL: u64 = 16;

    fn new(batching: &Batching) -> Self {
        let config = Config {
            batching: batching.clone(),
            clients: Self::CLIENTS,
            window: 4 * Self::INTERVAL,
            checkpoint_interval: Self::INTERVAL,
            ..config(4, 0)
        };
        Self {
            replica: Replica::with(config),
            policy: batching.policy(),
            timer: None,
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            last_execution: Time(0),
            clients: 0,
        }
    }

    fn happen(&mut self, what: &Happens) {
        match *what {
            Happens::Small(requests) => self.arrive(requests, 4),
            Happens::Large => self.arrive(1, OPERATION_BYTES_MAX),
            Happens::Execution => self.execute(),
            Happens::Passes(micros) => self.pass(self.replica.now.after(micros * 1000)),
        }
    }

    fn arrive(&mut self, requests: u32, bytes: usize) {
        let clients = self.clients..self.clients + requests;
        self.clients = clients.end;
        let requests: Vec<(u32, u64)> = clients.clone().map(|client| (client, 1)).collect();
        self.waiting.extend(clients.map(|client| (client, self.replica.now)));
        let outputs = self.replica.step(Input::Requests(sized_table(&requests, bytes)));
        self.note(outputs);
    }

    /// Two backups vote for the oldest batch in flight, and the executor is done with it.
    fn execute(&mut self) {
        let Some((sequence, batch)) = self.in_flight.pop_front() else { return };
        self.last_execution = self.replica.now;
        let messages: [fn(u64, &Batch) -> Message; 2] = [prepare, commit];
        for message in messages {
            for backup in [1, 2] {
                let outputs = self.replica.hear(backup, message(sequence, &batch));
                self.note_proposals(outputs);
            }
        }
        let outputs = self.replica.step(Input::Executed(SequenceNumber(sequence)));
        if sequence.is_multiple_of(Self::INTERVAL) {
            self.note_proposals(outputs);
            let outputs = self.replica.step(Input::CheckpointTaken(SequenceNumber(sequence), Digest([1; 32])));
            self.note_proposals(outputs);
            for backup in [1, 2] {
                let outputs = self.replica.hear(backup, checkpoint(sequence, 1));
                self.note_proposals(outputs);
            }
            self.check();
        } else {
            self.note(outputs);
        }
    }

    /// Until then nothing happens but what a timer was set for.
    fn pass(&mut self, until: Time) {
        while let Some(due) = self.timer.filter(|&due| due <= until) {
            self.timer = None;
            self.replica.now = due;
            let outputs = self.replica.step(Input::Timer(Timer::Batch));
            self.note(outputs);
        }
        self.replica.now = until;
        self.check_hold();
    }

    fn note(&mut self, outputs: Vec<Output>) {
        self.note_proposals(outputs);
        self.check();
    }

    /// Batches have requests, no more and no longer ones than they may have, in the order of arrival.
    fn note_proposals(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            if let Output::SetTimer(Timer::Batch, due) = output {
                assert!(due > self.replica.now, "a timer for what is past");
                self.timer = Some(due);
            }
            let Output::Broadcast(message) = output else { continue };
            let Message::PrePrepare(proposal) = &*message else { continue };
            let requests = &proposal.batch.requests;
            let most = self.policy.requests_max();
            assert!((1..=REQUESTS_MAX).contains(&most));
            assert!((1..=most).contains(&requests.len()), "{} requests, promised {most}", requests.len());
            assert!(requests.operations.len() <= OPERATIONS_BYTES_MAX, "{} bytes", requests.operations.len());
            let left: Vec<u32> = self.waiting.drain(..requests.len()).map(|(client, _)| client).collect();
            assert!(requests.clients.iter().map(|client| client.0).eq(left), "out of order");
            self.in_flight.push_back((proposal.sequence.0, Arc::clone(&proposal.batch)));
        }
    }

    /// Whatever waits has something to wait for.
    fn check(&self) {
        let core = &self.replica.core;
        assert_eq!(core.position().waiting_requests, self.waiting.len());
        let is_blocked = core.next > core.log.high();
        match core.queue.decide(self.replica.now, core.next, core.log.done()) {
            None => assert!(self.waiting.is_empty()),
            Some(_) if is_blocked => assert!(!self.in_flight.is_empty()),
            Some(Decision::Close { .. }) => panic!("a batch may close and does not"),
            Some(Decision::At(due)) => assert!(self.timer.is_some_and(|set| set <= due), "no timer for {due:?}"),
            Some(Decision::Wait) => assert!(!self.in_flight.is_empty(), "waits for nothing"),
        }
        self.check_hold();
    }

    /// While nothing is in flight, the oldest request is not kept for longer than promised.
    fn check_hold(&self) {
        if let Some(&(_, arrived)) = self.waiting.front().filter(|_| self.in_flight.is_empty()) {
            let held = Duration::from_nanos(self.replica.now.since(arrived.max(self.last_execution)));
            assert!(held <= self.policy.hold(), "held for {held:?}, promised {:?}", self.policy.hold());
        }
    }

    /// As long as batches are executed and timers expire, everything leaves.
    fn drain(&mut self) {
        while !self.waiting.is_empty() || !self.in_flight.is_empty() {
            if self.in_flight.is_empty() {
                let due = self.timer.expect("what waits with nothing in flight is due some time");
                self.pass(due);
            } else {
                self.execute();
            }
        }
    }
}

/// Lets all this happen to a primary, and everything leave.
fn conforms(batching: &Batching, history: &[Happens]) {
    let mut primary = Primary::new(batching);
    for what in history {
        primary.happen(what);
    }
    primary.drain();
}

#[test]
fn every_policy_keeps_its_promises() {
    for batching in Batching::samples() {
        let histories = proptest::collection::vec(happens(), 1..120);
        let mut runner = TestRunner::new(Cases { cases: 32, failure_persistence: None, ..Cases::default() });
        let result = runner.run(&histories, |history| {
            conforms(&batching, &history);
            Ok::<(), TestCaseError>(())
        });
        result.unwrap_or_else(|error| panic!("{batching}: {error}"));
    }
}

/// Long enough that policies which learn have learned, with more and with less to do.
#[test]
fn policies_that_learn_keep_their_promises() {
    for batching in Batching::samples() {
        let mut primary = Primary::new(&batching);
        for round in 0..400_u64 {
            let is_busy = round / 100 % 2 == 0;
            primary.happen(&Happens::Small(if is_busy { 20 } else { 1 }));
            primary.happen(&Happens::Passes(if is_busy { 50 } else { 900 }));
            (0..1 + round % 3).for_each(|_| primary.happen(&Happens::Execution));
        }
        primary.drain();
    }
}

/// Breaks one promise, to see that the suite notices.
#[derive(Clone, Debug)]
struct Broken(fn(&Waiting) -> Decision);

impl Policy for Broken {
    fn decide(&self, waiting: &Waiting) -> Decision {
        self.0(waiting)
    }

    fn requests_max(&self) -> usize {
        8
    }

    fn hold(&self) -> Duration {
        Duration::from_millis(1)
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken")
    }
}

fn breaks(decide: fn(&Waiting) -> Decision) {
    conforms(&Batching::of(Broken(decide)), &[Happens::Small(20), Happens::Passes(5000), Happens::Execution]);
}

#[test]
#[should_panic = "waits for nothing"]
fn a_policy_that_waits_for_ever_is_noticed() {
    breaks(|waiting| if waiting.requests > 15 { Decision::Close { requests_max: 8 } } else { Decision::Wait });
}

#[test]
#[should_panic = "promised 8"]
fn a_policy_whose_batches_are_too_large_is_noticed() {
    breaks(|_| Decision::Close { requests_max: 9 });
}

#[test]
#[should_panic = "held for"]
fn a_policy_that_holds_requests_back_is_noticed() {
    breaks(|waiting| Decision::At(waiting.now.after(1_000_001)));
}

#[test]
#[should_panic = "waits for what is past"]
fn a_policy_that_waits_for_the_past_is_noticed() {
    breaks(|waiting| Decision::At(waiting.now));
}

/// What a policy has learned, and what it was waiting to hear of, ends with its view.
#[test]
fn policies_begin_each_view_anew() {
    let mut primary = Primary::new(&batching("half:16"));
    primary.happen(&Happens::Small(10));
    primary.happen(&Happens::Execution);
    // Half of ten are waited for ..
    primary.happen(&Happens::Small(4));
    assert!(primary.in_flight.is_empty() && primary.timer.is_some());
    let Primary { mut replica, .. } = primary;
    let core = &mut replica.core;
    let decide = |core: &Pbft| core.queue.decide(replica.now, core.next, core.log.done());
    assert!(matches!(decide(core), Some(Decision::At(_))));
    // .. in this view.
    core.queue.leave_view();
    assert_eq!(decide(core), Some(Decision::Close { requests_max: 16 }));
}

/// Writes down what a policy is told.
#[derive(Clone, Debug)]
struct Listener(Arc<std::sync::Mutex<Vec<Executed>>>);

impl Policy for Listener {
    fn decide(&self, _: &Waiting) -> Decision {
        Decision::Close { requests_max: 2 }
    }

    fn requests_max(&self) -> usize {
        2
    }

    fn hold(&self) -> Duration {
        Duration::ZERO
    }

    fn on_executed(&mut self, executed: &Executed) {
        self.0.lock().unwrap().push(*executed);
    }
}

impl std::fmt::Display for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("listener")
    }
}

#[test]
fn policies_are_told_of_each_executed_batch() {
    let told = Arc::default();
    let mut primary = Primary::new(&Batching::of(Listener(Arc::clone(&told))));
    primary.pass(Time(1000));
    primary.happen(&Happens::Small(3));
    primary.pass(Time(5000));
    primary.drain();
    let executed = |sequence, requests| Executed {
        now: Time(5000),
        sequence: SequenceNumber(sequence),
        requests,
        arrived: Time(1000),
        proposed: Time(1000),
    };
    assert_eq!(*told.lock().unwrap(), [executed(1, 2), executed(2, 1)]);
    // Of what was executed by way of a fetched state nothing is known; nor of what left before the view.
    let core = &mut primary.replica.core;
    for sequence in 3..6 {
        core.queue.push(table(&[(9000, 1)]), vec![0], Time(6000));
        core.queue.take(1, SequenceNumber(sequence), Time(7000));
    }
    core.queue.on_executed(SequenceNumber(4), Time(9000));
    core.queue.leave_view();
    core.queue.on_executed(SequenceNumber(5), Time(9000));
    let last = Executed {
        now: Time(9000),
        sequence: SequenceNumber(4),
        requests: 1,
        arrived: Time(6000),
        proposed: Time(7000),
    };
    assert_eq!((last.total_ns(), last.waited_ns()), (3000, 1000));
    assert_eq!(told.lock().unwrap()[2..], [last]);
}
