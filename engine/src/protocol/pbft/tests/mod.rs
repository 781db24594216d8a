//! Lists of inputs against lists of outputs, then whole clusters under a hostile network.
//!
//! `phases`, `primary`, `checkpoints`, `repair`, `transfer`, `views`, `suspicion`, `recovery` and `dissemination` drive
//! one replica by hand; `batching` is the conformance suite of batching policies, and runs over all that are
//! registered; `properties` runs seeds of a `cluster`, `standstill` scripts faulty replicas of one.

mod batching;
mod checkpoints;
mod cluster;
mod dissemination;
mod phases;
mod primary;
mod properties;
mod recovery;
mod repair;
mod standstill;
mod suspicion;
mod tentative;
mod transfer;
mod views;

use std::sync::Arc;

use super::{Config, Pbft};
use crate::protocol::batching::Batching;
use crate::protocol::message::{
    Authentic, Body, Checkpoint, Message, NewView, PrePrepare, Signed, Status, Verdict, ViewChange, Vote,
};
use crate::protocol::{Ignored, Input, Output, Protocol, Timer};
use crate::quorum::Quorums;
use crate::requests::{Batch, Proofs, RequestTable};
use crate::settings::options::{Dissemination, ExecutionChoice};
use crate::types::{ClientId, Digest, ReplicaId, SequenceNumber, Time, Timestamp, View};

/// The sizes of clusters that every rule about quorums is tested with.
const SIZES: [usize; 5] = [4, 5, 6, 7, 10];
const WINDOW: u64 = 8;
const INTERVAL: u64 = 4;
const STATUS_NS: u64 = 1_000_000;
const VIEW_TIMEOUT_NS: u64 = 10 * STATUS_NS;

fn config(n: usize, own: u16) -> Config {
    Config {
        quorums: Quorums::new(n).unwrap(),
        own: ReplicaId(own),
        window: WINDOW,
        checkpoint_interval: INTERVAL,
        batching: batching("none"),
        dissemination: Dissemination::Inline,
        execution: ExecutionChoice::Committed,
        clients: 100,
        principals: Arc::default(),
        status_interval_ns: STATUS_NS,
        view_timeout_ns: VIEW_TIMEOUT_NS,
        view_timeout_max_ns: 64 * VIEW_TIMEOUT_NS,
        durable: false,
        voting: true,
        planted: None,
    }
}

fn batching(text: &str) -> Batching {
    text.parse().unwrap()
}

/// Strategies in turn that do not hold requests back for as long as the view time-out of these tests, which is short.
fn any_batching(seed: u64) -> Batching {
    let texts = ["none", "fixed:3", "time:4,1ms", "adaptive:8,2", "adaptive", "latency-target:1ms,8,2"];
    batching(texts[usize::try_from(seed).unwrap() % texts.len()])
}

/// One replica, driven by hand.
struct Replica {
    core: Pbft,
    now: Time,
    /// When the view timer expires, once it was set. Left out of the outputs: it is set lazily.
    view_timer: Option<Time>,
}

impl Replica {
    fn new(n: usize, own: u16) -> Self {
        Self::with(config(n, own))
    }

    fn with(config: Config) -> Self {
        let mut outputs = Vec::new();
        let status = Output::SetTimer(Timer::Status, Time(config.status_interval_ns));
        let core = Pbft::new(config, Time(0), &mut outputs);
        assert_eq!(outputs, [status]);
        Self { core, now: Time(1), view_timer: None }
    }

    fn step(&mut self, input: Input) -> Vec<Output> {
        let mut outputs = Vec::new();
        self.core.step(self.now, input, &mut outputs);
        outputs.retain(|output| match output {
            Output::SetTimer(Timer::View, due) => {
                self.view_timer = Some(*due);
                false
            }
            _ => true,
        });
        outputs
    }

    fn requests(&mut self, requests: &[(u32, u64)]) -> Vec<Output> {
        self.step(Input::Requests(table(requests)))
    }

    /// What a message of `sender` leads to.
    fn hear(&mut self, sender: u16, message: Message) -> Vec<Output> {
        self.hear_as(sender, message, true)
    }

    fn hear_as(&mut self, sender: u16, message: Message, requests_authentic: bool) -> Vec<Output> {
        let sender = ReplicaId(sender);
        let requests = if requests_authentic { Verdict::GOOD } else { unproven() };
        self.step(Input::Message(Authentic { sender, message, signature: None, requests }))
    }

    /// Commits and executes `sequence` by the claims of `f + 1` others and a body.
    fn execute(&mut self, sequence: u64, batch: &Arc<Batch>) {
        let weak = self.core.config.quorums.weak();
        let own = self.core.config.own.0;
        let others: Vec<u16> = (0..).filter(|&other| other != own).take(weak).collect();
        for &other in &others {
            self.hear(other, committed(sequence, batch));
        }
        self.hear(others[0], body(sequence, batch));
        assert_eq!(self.core.position().committed, SequenceNumber(sequence));
        assert_eq!(self.step(Input::Executed(SequenceNumber(sequence))), []);
    }

    /// Lets the view timer expire until something comes of it, or it is not set again. What the executor is asked about
    /// has not been executed.
    fn expire(&mut self) -> Vec<Output> {
        let mut outputs = Vec::new();
        assert!(self.view_timer.is_some(), "the view timer is set");
        while outputs.is_empty()
            && let Some(due) = self.view_timer.take()
        {
            self.now = due;
            outputs = self.step(Input::Timer(Timer::View));
            if let Some(Output::Recall(table)) = outputs.first() {
                outputs = self.step(Input::NotExecuted(Arc::clone(table)));
            }
        }
        outputs
    }

    /// Lets the view timer expire, upon which this replica suspects its primary, and then others suspect it too, as
    /// many as it takes. Returns what it does when the view ends.
    fn end_view(&mut self) -> Vec<Output> {
        let outputs = self.expire();
        assert!(self.core.suspects_view(), "{outputs:?}");
        assert!(outputs.iter().any(says_to_suspect), "{outputs:?}");
        self.agree()
    }

    /// Others suspect the primary, as many as it takes to end the view.
    fn agree(&mut self) -> Vec<Output> {
        let (view, own) = (self.core.view, self.core.config.own.0);
        for other in (0..self.core.config.quorums.n()).map(|other| u16::try_from(other).unwrap()) {
            if other == own {
                continue;
            }
            assert_eq!(self.core.view, view);
            let outputs = self.hear(other, suspicion(view.0));
            if self.core.view > view {
                return outputs;
            }
        }
        panic!("the view did not end");
    }

    /// Waits for the status timer `times` times and returns what came of it.
    fn ticks(&mut self, times: u32) -> Vec<Output> {
        let mut outputs = Vec::new();
        for _ in 0..times {
            self.now = self.now.after(STATUS_NS);
            outputs.extend(self.step(Input::Timer(Timer::Status)));
        }
        outputs
    }
}

/// The status of a replica at the initial state that suspects the primary of `view`.
fn suspicion(view: u64) -> Message {
    Message::Status(Status { view: View(view), active: true, suspects: true, ..Status::default() })
}

fn says_to_suspect(output: &Output) -> bool {
    matches!(output, Output::Broadcast(message) if matches!(&**message, Message::Status(Status { suspects: true, .. })))
}

/// The authenticator of client 0 does not hold.
fn unproven() -> Verdict {
    Verdict { unproven: vec![ClientId(0)], invalid: false }
}

/// Requests of (client, timestamp), with an operation of four bytes.
pub(super) fn table(requests: &[(u32, u64)]) -> Arc<RequestTable> {
    sized_table(requests, 4)
}

pub(super) fn sized_table(requests: &[(u32, u64)], bytes: usize) -> Arc<RequestTable> {
    let digest = |&(client, timestamp): &(u32, u64)| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&client.to_le_bytes()).update(&timestamp.to_le_bytes());
        Digest::from(hasher.finalize())
    };
    Arc::new(RequestTable {
        clients: requests.iter().map(|&(client, _)| ClientId(client)).collect(),
        timestamps: requests.iter().map(|&(_, timestamp)| Timestamp(timestamp)).collect(),
        operation_ends: (1..=requests.len()).map(|end| u32::try_from(end * bytes).unwrap()).collect(),
        operations: vec![7; requests.len() * bytes].into(),
        digests: requests.iter().map(digest).collect(),
        proofs: Proofs::None,
    })
}

fn batch(requests: &[(u32, u64)]) -> Arc<Batch> {
    Batch::new(table(requests).as_ref().clone())
}

fn vote(sequence: u64, batch: &Batch) -> Vote {
    Vote { view: View(0), sequence: SequenceNumber(sequence), digest: batch.digest }
}

fn pre_prepare(sequence: u64, batch: &Arc<Batch>) -> Message {
    Message::PrePrepare(PrePrepare { view: View(0), sequence: SequenceNumber(sequence), batch: Arc::clone(batch) })
}

fn prepare(sequence: u64, batch: &Batch) -> Message {
    Message::Prepare(vote(sequence, batch))
}

fn commit(sequence: u64, batch: &Batch) -> Message {
    Message::Commit(vote(sequence, batch))
}

fn committed(sequence: u64, batch: &Batch) -> Message {
    Message::Committed(vote(sequence, batch))
}

fn body(sequence: u64, batch: &Arc<Batch>) -> Message {
    Message::Body(Body { sequence: SequenceNumber(sequence), batch: Arc::clone(batch) })
}

fn checkpoint(sequence: u64, state: u8) -> Message {
    Message::Checkpoint(Checkpoint { sequence: SequenceNumber(sequence), digest: Digest([state; 32]) })
}

fn broadcast(message: Message) -> Output {
    Output::Broadcast(Arc::new(message))
}

fn send(to: u16, message: Message) -> Output {
    Output::Send(ReplicaId(to), Arc::new(message))
}

fn ignored(reason: Ignored) -> Vec<Output> {
    vec![Output::Ignored(reason)]
}

/// The sequence numbers and digests handed to the executor.
fn executions(outputs: &[Output]) -> Vec<(u64, Digest)> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Execute(execution) => Some((execution.sequence.0, execution.batch.digest)),
            _ => None,
        })
        .collect()
}
