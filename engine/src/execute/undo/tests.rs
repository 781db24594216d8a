//! What is undone never was: the executor against a fresh one that executes what is left.

use proptest::prelude::*;

use super::super::{ExecutorConfig, Snapshot};
use super::*;
use crate::app::kv::{self, Kv};
use crate::app::null::Null;
use crate::protocol::Stamps;
use crate::requests::{Batch, Proofs};
use crate::types::{Digest, NodeId, ReplicaId, Timestamp};

const INTERVAL: u64 = 4;
const VIEW: View = View(3);

fn executor(tentative: bool) -> Executor {
    let app = Kv::new().versioned().preloaded(6, 8);
    let config = ExecutorConfig {
        own: ReplicaId(0),
        client_nodes: vec![(NodeId(4), 0..4), (NodeId(5), 4..6)],
        checkpoint_interval: INTERVAL,
        designates: None,
        tentative,
    };
    Executor::new(config, Box::new(app))
}

/// Requests as (client, timestamp). What each asks for follows from these.
fn batch(requests: &[(u32, u64)]) -> std::sync::Arc<Batch> {
    let mut table = RequestTable::empty();
    let mut operations = Vec::new();
    for &(client, timestamp) in requests {
        let number = u64::from(client) + 5 * timestamp;
        let (key, value) = (number % 9, vec![7; timestamp as usize * 9]);
        let operation = match number % 5 {
            0 => kv::Operation::Read { key },
            1 => kv::Operation::Insert { key: key << 40, value: &value },
            2 => kv::Operation::Update { key, value: &value },
            3 => kv::Operation::ReadModifyWrite { key, value: &value },
            _ => kv::Operation::Scan { start: 0, count: 3 },
        };
        operation.encode(&mut operations);
        table.clients.push(ClientId(client));
        table.timestamps.push(Timestamp(timestamp));
        table.operation_ends.push(operations.len() as u32);
        table.digests.push(blake3::hash(format!("{client} {timestamp}").as_bytes()).into());
    }
    table.operations = operations.into();
    table.proofs = Proofs::None;
    Batch::new(table)
}

fn execution(sequence: u64, requests: &[(u32, u64)], tentative: bool) -> Execution {
    let (sequence, batch) = (SequenceNumber(sequence), batch(requests));
    Execution { sequence, view: VIEW, tentative, batch, stamps: Stamps::default() }
}

/// One that has executed these batches for good, and what it has said of checkpoints.
fn fresh(batches: &[Vec<(u32, u64)>]) -> (Executor, Vec<Done>) {
    let mut fresh = executor(false);
    let mut out = Vec::new();
    for (sequence, requests) in (1..).zip(batches) {
        fresh.execute(&execution(sequence, requests, false), &mut out);
    }
    (fresh, out)
}

fn checkpoints(out: &[Done]) -> Vec<(SequenceNumber, Digest)> {
    let checkpoint = |done: &Done| match done {
        Done::Checkpoint(sequence, digest) => Some((*sequence, *digest)),
        _ => None,
    };
    out.iter().filter_map(checkpoint).collect()
}

/// The replies in `out`: whether tentative, client, timestamp, result.
fn replies(out: &[Done]) -> Vec<(bool, u32, u64, Vec<u8>)> {
    let mut all = Vec::new();
    for done in out {
        let Done::Replies { view, tentative, replies, reads: false, .. } = done else { continue };
        assert_eq!(*view, VIEW);
        all.extend((0..replies.len()).map(|index| {
            let (client, timestamp) = (replies.clients[index].0, replies.timestamps[index].0);
            (*tentative, client, timestamp, replies.result(index).to_vec())
        }));
    }
    all
}

/// What happens to an executor.
#[derive(Clone, Debug)]
enum Step {
    /// A prepared batch.
    Try(Vec<(u32, u64)>),
    /// A committed batch, after what is tentative is confirmed.
    Execute(Vec<(u32, u64)>),
    /// So many are confirmed, if there are as many.
    Confirm(usize),
    /// So many are undone.
    Undo(usize),
    /// A snapshot of the confirmed state is wanted.
    Keep,
}

fn step() -> impl Strategy<Value = Step> {
    let requests = || prop::collection::vec((0u32..7, 1u64..12), 0..6);
    prop_oneof![
        5 => requests().prop_map(Step::Try),
        1 => requests().prop_map(Step::Execute),
        3 => (1usize..4).prop_map(Step::Confirm),
        3 => (1usize..4).prop_map(Step::Undo),
        1 => Just(Step::Keep),
    ]
}

/// An executor, and the batches that it should have executed.
struct Pair {
    executor: Executor,
    batches: Vec<Vec<(u32, u64)>>,
    confirmed: usize,
    out: Vec<Done>,
}

impl Pair {
    fn confirm(&mut self, many: usize) {
        for _ in 0..many.min(self.batches.len() - self.confirmed) {
            self.confirmed += 1;
            self.executor.confirm(SequenceNumber(self.confirmed as u64), &mut self.out);
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Try(requests) => {
                if (self.batches.len() as u64).is_multiple_of(INTERVAL) {
                    self.confirm(usize::MAX);
                }
                self.batches.push(requests.clone());
                self.executor.execute(&execution(self.batches.len() as u64, requests, true), &mut self.out);
            }
            Step::Execute(requests) => {
                self.confirm(usize::MAX);
                self.batches.push(requests.clone());
                self.confirmed = self.batches.len();
                self.executor.execute(&execution(self.batches.len() as u64, requests, false), &mut self.out);
            }
            Step::Confirm(many) => self.confirm(*many),
            Step::Undo(many) => {
                let left = self.batches.len().saturating_sub(*many).max(self.confirmed);
                self.batches.truncate(left);
                self.executor.roll_back(SequenceNumber(left as u64), &mut self.out);
            }
            Step::Keep => self.executor.keep(SequenceNumber(self.confirmed as u64)),
        }
    }

    /// Compares with an executor that has executed what is left and nothing else.
    fn check(&mut self) -> Result<(), TestCaseError> {
        let executed = usize::try_from(self.executor.executed().0).unwrap();
        prop_assert!((self.confirmed..=self.batches.len()).contains(&executed));
        prop_assert_eq!(self.executor.confirmed().0, self.confirmed as u64);
        let (mut all, _) = fresh(&self.batches[..executed]);
        prop_assert_eq!(self.executor.state_digest(), all.state_digest());
        let (confirmed, said) = fresh(&self.batches[..self.confirmed]);
        prop_assert_eq!(self.executor.ledger(), confirmed.ledger());
        prop_assert_eq!(self.executor.clients(), confirmed.clients());
        let counted = |executor: &Executor| (executor.counters().operations, executor.counters().batches);
        prop_assert_eq!(counted(&self.executor), counted(&confirmed));
        for sequence in (0..=self.batches.len() as u64 + 1).map(SequenceNumber) {
            prop_assert_eq!(self.executor.ledger_at(sequence), confirmed.ledger_at(sequence));
        }
        prop_assert_eq!(checkpoints(&self.out), checkpoints(&said));
        let done = self.out.iter().filter_map(|done| match done {
            Done::Executed(sequence) => Some(sequence.0),
            _ => None,
        });
        prop_assert_eq!(done.collect::<Vec<_>>(), (1..=self.confirmed as u64).collect::<Vec<_>>());
        Ok(())
    }
}

proptest! {
    /// Room for everything, for some batches, for none: whatever is undone, what is left is what was not, to its
    /// digest, client table, ledger and versions.
    #[test]
    fn what_is_undone_never_was(
        steps in prop::collection::vec(step(), 1..40),
        room in prop_oneof![Just(UNDO_BYTES_MAX), Just(600usize), Just(0usize)],
    ) {
        let mut pair = Pair { executor: executor(true), batches: Vec::new(), confirmed: 0, out: Vec::new() };
        pair.executor.limit_undo(room);
        for step in &steps {
            pair.take(step);
            pair.check()?;
        }
        pair.confirm(usize::MAX);
        pair.check()?;
        prop_assert_eq!(pair.executor.undo.as_ref().map(|undo| undo.bytes), Some(0));
    }
}

#[test]
fn replies_are_tentative_until_the_batch_is_confirmed() {
    let mut executor = executor(true);
    let mut out = Vec::new();
    executor.execute(&execution(1, &[(1, 5), (4, 5)], true), &mut out);
    let told = replies(&out);
    assert_eq!(told.iter().map(|reply| (reply.0, reply.1)).collect::<Vec<_>>(), [(true, 1), (true, 4)]);
    assert!(out.iter().all(|done| matches!(done, Done::Replies { .. })), "nothing else is said: {out:?}");
    let recall = |executor: &mut Executor, view: u64| {
        let mut out = Vec::new();
        executor.recall(View(view), &batch(&[(1, 5)]).requests, &mut out);
        out
    };
    // In whatever view the replica is by the time that it is asked, it tells of the one in which that is prepared.
    assert_eq!(replies(&recall(&mut executor, 9)), told[..1]);
    out.clear();
    executor.execute(&execution(2, &[(4, 5), (1, 6)], true), &mut out);
    let told: Vec<_> = replies(&out).iter().map(|reply| (reply.0, reply.1, reply.2)).collect();
    assert_eq!(told, [(true, 1, 6), (true, 4, 5)], "by client node");
    out.clear();
    executor.confirm(SequenceNumber(1), &mut out);
    assert_eq!(out, [Done::Executed(SequenceNumber(1))], "nobody is told again");
    // A batch that repeats what is confirmed by now says so, in a table of its own.
    out.clear();
    executor.execute(&execution(3, &[(4, 5), (2, 1)], true), &mut out);
    let mut told: Vec<_> = replies(&out).iter().map(|reply| (reply.0, reply.1, reply.2)).collect();
    told.sort_unstable();
    assert_eq!(told, [(false, 4, 5), (true, 2, 1)]);
    for sequence in [2, 3] {
        executor.confirm(SequenceNumber(sequence), &mut Vec::new());
    }
    let told = recall(&mut executor, VIEW.0);
    assert_eq!(replies(&told), [], "the client has moved on");
    let mut out = Vec::new();
    executor.recall(VIEW, &batch(&[(1, 6)]).requests, &mut out);
    assert_eq!(replies(&out).iter().map(|reply| (reply.0, reply.1, reply.2)).collect::<Vec<_>>(), [(false, 1, 6)]);
}

#[test]
fn a_request_of_an_undone_batch_is_not_executed() {
    let mut executor = executor(true);
    executor.execute(&execution(1, &[(1, 5)], true), &mut Vec::new());
    executor.roll_back(SequenceNumber(0), &mut Vec::new());
    assert_eq!(executor.counters().rolled_back, 1);
    let mut out = Vec::new();
    executor.recall(VIEW, &batch(&[(1, 5)]).requests, &mut out);
    assert!(matches!(&out[..], [Done::NotExecuted(table)] if table.clients == [ClientId(1)]), "{out:?}");
}

#[test]
fn a_snapshot_is_of_the_confirmed_state_whatever_lies_above_it() {
    let mut executor = executor(true);
    let batches: Vec<Vec<(u32, u64)>> = (1..=6).map(|number| vec![(0, number), (1, number)]).collect();
    for (sequence, requests) in (1..).zip(&batches[..4]) {
        executor.execute(&execution(sequence, requests, false), &mut Vec::new());
    }
    for (sequence, requests) in (5..).zip(&batches[4..]) {
        executor.execute(&execution(sequence, requests, true), &mut Vec::new());
    }
    let before = executor.state_digest();
    executor.keep(SequenceNumber(4));
    let expected: Snapshot = fresh(&batches[..4]).0.snapshot_now();
    assert_eq!(executor.kept(SequenceNumber(4)), Some(&expected));
    assert_eq!(executor.state_digest(), before, "what lies above it is executed again");
    // A wish for the next one is remembered until that is confirmed.
    executor.keep(SequenceNumber(8));
    for sequence in [5, 6] {
        executor.confirm(SequenceNumber(sequence), &mut Vec::new());
    }
    for sequence in [7, 8] {
        executor.execute(&execution(sequence, &[(2, sequence)], true), &mut Vec::new());
    }
    assert!(executor.kept(SequenceNumber(8)).is_none());
    let mut out = Vec::new();
    executor.confirm(SequenceNumber(7), &mut out);
    executor.confirm(SequenceNumber(8), &mut out);
    let digest = executor.state_digest();
    assert_eq!(checkpoints(&out), [(SequenceNumber(8), digest)]);
    assert_eq!(executor.kept(SequenceNumber(8)).map(|kept| kept.digest), Some(digest));
}

#[test]
#[should_panic(expected = "beyond a checkpoint")]
fn nothing_is_executed_beyond_a_checkpoint_that_is_not_confirmed() {
    let mut executor = executor(true);
    for sequence in 1..=INTERVAL + 1 {
        executor.execute(&execution(sequence, &[], true), &mut Vec::new());
    }
}

#[test]
#[should_panic(expected = "nothing confirmed is undone")]
fn what_is_confirmed_is_not_undone() {
    let mut executor = executor(true);
    executor.execute(&execution(1, &[], true), &mut Vec::new());
    executor.confirm(SequenceNumber(1), &mut Vec::new());
    executor.roll_back(SequenceNumber(0), &mut Vec::new());
}

/// The read-only requests that are answered, and those that get no answer.
fn reads(out: &[Done]) -> (Vec<u64>, Vec<u64>) {
    let (mut answered, mut refused) = (Vec::new(), Vec::new());
    for done in out {
        let Done::Replies { reads: true, replies, tentative: false, .. } = done else { continue };
        for index in 0..replies.len() {
            let list = if replies.result(index).is_empty() { &mut refused } else { &mut answered };
            list.push(replies.timestamps[index].0);
        }
    }
    (answered, refused)
}

fn read(executor: &mut Executor, number: u64) -> (Vec<u64>, Vec<u64>) {
    let mut operations = Vec::new();
    kv::Operation::Read { key: 1 }.encode(&mut operations);
    let mut table = RequestTable::empty();
    table.clients.push(ClientId(1));
    table.timestamps.push(Timestamp(number));
    table.operation_ends.push(operations.len() as u32);
    table.operations = operations.into();
    let mut out = Vec::new();
    executor.query(VIEW, &table, &mut out);
    reads(&out)
}

#[test]
fn answers_to_reads_wait_for_what_they_reflect() {
    let mut executor = executor(true);
    executor.execute(&execution(1, &[(1, 1)], false), &mut Vec::new());
    assert_eq!(read(&mut executor, 1), (vec![1], vec![]), "all is confirmed");
    for sequence in [2, 3, 4] {
        executor.execute(&execution(sequence, &[(1, sequence)], true), &mut Vec::new());
        assert_eq!(read(&mut executor, sequence), (vec![], vec![]));
    }
    assert!(executor.held_read_bytes() > 0);
    let mut out = Vec::new();
    executor.confirm(SequenceNumber(2), &mut out);
    assert_eq!(reads(&out), (vec![2], vec![]));
    // Of what is undone nothing is told, and clients do without.
    out.clear();
    executor.roll_back(SequenceNumber(3), &mut out);
    assert_eq!(reads(&out), (vec![], vec![4]));
    // Somebody may know that the fourth batch is done: until it is here again, a read could tell of the time before.
    assert_eq!(read(&mut executor, 5), (vec![], vec![5]));
    out.clear();
    executor.confirm(SequenceNumber(3), &mut out);
    assert_eq!(reads(&out), (vec![3], vec![]));
    assert_eq!(read(&mut executor, 6), (vec![], vec![6]));
    executor.execute(&execution(4, &[(1, 4)], true), &mut Vec::new());
    assert_eq!(read(&mut executor, 7), (vec![], vec![]), "it waits again");
    out.clear();
    executor.confirm(SequenceNumber(4), &mut out);
    assert_eq!((reads(&out), executor.held_read_bytes()), ((vec![7], vec![]), 0));
}

#[test]
fn the_null_application_forgets_too() {
    let config = ExecutorConfig {
        own: ReplicaId(0),
        client_nodes: vec![(NodeId(4), 0..9)],
        checkpoint_interval: INTERVAL,
        designates: None,
        tentative: true,
    };
    let mut executor = Executor::new(config, Box::new(Null::new(60)));
    executor.execute(&execution(1, &[(1, 1)], false), &mut Vec::new());
    let before = executor.state_digest();
    executor.execute(&execution(2, &[(1, 2), (2, 1), (1, 3)], true), &mut Vec::new());
    assert_ne!(executor.state_digest(), before);
    executor.roll_back(SequenceNumber(1), &mut Vec::new());
    assert_eq!(executor.state_digest(), before);
}
