//! Exactly-once execution, agreement of two executors, and what the audit sees of a wrong one.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::app::faulty::Wrong;
use crate::app::kv::{self, Kv};
use crate::app::null::{self, Null};
use crate::protocol::Stamps;
use crate::requests::{Batch, Proofs};
use crate::types::{ClientId, Timestamp};

const CHECKPOINT_INTERVAL: u64 = 4;

fn executor(app: impl Application + 'static) -> Executor {
    let client_nodes = vec![(NodeId(4), 0..10), (NodeId(5), 10..11), (NodeId(6), 11..20)];
    Executor::new(
        ExecutorConfig { own: ReplicaId(0), client_nodes, checkpoint_interval: CHECKPOINT_INTERVAL },
        Box::new(app),
    )
}

/// Requests as (client, timestamp), each with an operation of its own that reads or writes the store.
fn table(requests: &[(u32, u64)]) -> RequestTable {
    let mut table = RequestTable::empty();
    let mut operations = Vec::new();
    for &(client, timestamp) in requests {
        let key = (u64::from(client) + timestamp) % 5;
        let value = [timestamp as u8; 60];
        kv::Operation::ReadModifyWrite { key, value: &value[..timestamp as usize % 60] }.encode(&mut operations);
        table.clients.push(ClientId(client));
        table.timestamps.push(Timestamp(timestamp));
        table.operation_ends.push(operations.len() as u32);
        table.digests.push(blake3::hash(format!("{client} {timestamp}").as_bytes()).into());
    }
    table.operations = operations.into();
    table
}

fn execute(executor: &mut Executor, requests: &[(u32, u64)]) -> Vec<Done> {
    let (sequence, batch) = (executor.executed().next(), Batch::new(table(requests)));
    let execution = Execution { sequence, view: View(3), batch, stamps: Stamps::default() };
    let mut out = Vec::new();
    executor.execute(&execution, &mut out);
    out
}

/// The replies in `out` as (node, client, timestamp, result).
fn replies(out: &[Done]) -> Vec<(u16, u32, u64, Vec<u8>)> {
    let tables = out.iter().filter_map(|done| match done {
        Done::Replies { node, view, replies } => {
            assert_eq!(*view, View(3));
            Some((node, replies))
        }
        _ => None,
    });
    let rows = tables.flat_map(|(node, replies)| {
        (0..replies.len()).map(|index| {
            (node.0, replies.clients[index].0, replies.timestamps[index].0, replies.result(index).to_vec())
        })
    });
    rows.collect()
}

#[test]
fn a_batch_is_answered_by_client_node_and_reported() {
    let mut executor = executor(Null::new(4));
    let out = execute(&mut executor, &[(12, 1), (0, 1), (10, 1), (9, 1), (19, 1)]);
    let result = null::result(4);
    let expected = [(4, 0), (4, 9), (5, 10), (6, 12), (6, 19)].map(|(node, client)| (node, client, 1, result.clone()));
    assert_eq!(replies(&out), expected);
    assert_eq!(out[3..], [Done::Executed(SequenceNumber(1))]);
    assert_eq!(executor.counters(), Counters { operations: 5, batches: 1, ..Counters::default() });
    assert_eq!(executor.executed(), SequenceNumber(1));
    assert_eq!(executor.ledger_at(SequenceNumber(1)), Some(executor.ledger()));
    assert_eq!(executor.ledger_at(SequenceNumber(2)), None);
}

#[test]
fn duplicates_are_answered_from_the_cache_and_older_requests_dropped() {
    let mut executor = executor(Kv::with_records(5, 50));
    let first = replies(&execute(&mut executor, &[(0, 1)]));
    // The second copy of (0, 2) comes between (0, 2) and (0, 3): its reply is that of (0, 2).
    let out = replies(&execute(&mut executor, &[(0, 1), (0, 2), (0, 2), (0, 3), (0, 1), (0, 2), (99, 1)]));
    assert_eq!(out[0], first[0]);
    assert_eq!(out.iter().map(|reply| reply.2).collect::<Vec<_>>(), [1, 2, 2, 3]);
    assert_eq!(out[1], out[2]);
    assert_eq!(executor.counters(), Counters { operations: 3, batches: 2, resent: 2, outdated: 2, unknown: 1 });
    let (executed, last_timestamp) = executor.clients();
    assert_eq!((executed[0], last_timestamp[0], executed.len()), (3, 3, 20));
}

#[test]
fn null_requests_do_nothing_but_are_part_of_the_ledger_and_of_checkpoints() {
    let mut executor = executor(Null::new(0));
    let mut ledgers = vec![executor.ledger()];
    for sequence in 1..=CHECKPOINT_INTERVAL {
        let out = execute(&mut executor, &[]);
        let digest = executor.state_digest();
        let mut expected = vec![Done::Executed(SequenceNumber(sequence))];
        if sequence == CHECKPOINT_INTERVAL {
            expected.push(Done::Checkpoint(SequenceNumber(sequence), digest));
        }
        assert_eq!(out, expected);
        ledgers.push(executor.ledger());
    }
    ledgers.sort();
    ledgers.dedup();
    assert_eq!(ledgers.len() as u64, 1 + CHECKPOINT_INTERVAL);
    assert_eq!(executor.counters(), Counters::default());
}

#[test]
fn recalled_requests_are_answered_or_handed_back() {
    let mut executor = executor(Kv::with_records(5, 50));
    execute(&mut executor, &[(0, 1), (12, 5)]);
    let answers = replies(&execute(&mut executor, &[(0, 2)]));
    let mut recalled = table(&[(0, 1), (0, 2), (0, 3), (1, 1), (12, 4), (77, 1)]);
    recalled.proofs = Proofs::Signatures((0..6u8).flat_map(|request| [request; 64]).collect::<Vec<_>>().into());

    let (mut out, ledger) = (Vec::new(), executor.ledger());
    executor.recall(View(3), &recalled, &mut out);
    assert_eq!(replies(&out), answers);
    let Some(Done::NotExecuted(rest)) = out.last() else { panic!("{out:?}") };
    assert_eq!(**rest, recalled.select(&[2, 3]));
    assert_eq!((executor.ledger(), executor.counters().operations), (ledger, 3));

    out.clear();
    executor.recall(View(3), &recalled.select(&[0, 4]), &mut out);
    assert_eq!(out, []);
}

#[test]
fn a_wrong_application_shows_in_replies_and_ledger_from_its_first_wrong_result() {
    for reply_bytes in [0, 16] {
        let mut right = executor(Null::new(reply_bytes));
        let mut wrong = executor(Wrong::new(Box::new(Null::new(reply_bytes)), 4));
        for timestamp in 1..=3 {
            let requests = [(0, timestamp), (1, timestamp)];
            let same = replies(&execute(&mut right, &requests)) == replies(&execute(&mut wrong, &requests));
            assert_eq!(same, timestamp == 1);
            assert_eq!(right.ledger() == wrong.ledger(), timestamp == 1);
            assert_eq!(right.state_digest() == wrong.state_digest(), timestamp == 1);
        }
    }
}

/// Results so long that they do not fit one table: nothing is lost, and no table exceeds what a frame takes.
#[test]
fn long_results_are_split_over_several_tables() {
    let mut executor = executor(Null::new(RESULT_BYTES_MAX));
    let requests: Vec<_> = (0..10).map(|client| (client, 1)).collect();
    let out = execute(&mut executor, &requests);
    let sizes: Vec<_> = out
        .iter()
        .filter_map(|done| match done {
            Done::Replies { replies, .. } => Some(replies.results.len()),
            _ => None,
        })
        .collect();
    assert_eq!(sizes, [4, 4, 2].map(|results| results * RESULT_BYTES_MAX));
    assert!(sizes.iter().all(|size| *size <= crate::limits::REPLIES_BYTES_MAX));
    let result = null::result(RESULT_BYTES_MAX);
    assert!(
        replies(&out).iter().zip(&requests).all(|(reply, request)| (reply.1, reply.2) == *request && reply.3 == result)
    );
}

#[test]
#[should_panic(expected = "batch out of order")]
fn a_gap_in_the_order_is_our_own_error() {
    let mut executor = executor(Null::new(0));
    let execution =
        Execution { sequence: SequenceNumber(2), view: View(0), batch: Batch::null(), stamps: Stamps::default() };
    executor.execute(&execution, &mut Vec::new());
}

proptest! {
    /// Batches with replays and duplicates, within one batch and across: each request is executed at most once, in
    /// increasing order for each client, is always answered alike, and two executors agree on everything.
    #[test]
    fn execution_is_exactly_once_and_deterministic(
        batches in prop::collection::vec(prop::collection::vec((0u32..22, 0u64..6), 0..30), 1..12),
    ) {
        let mut executors = [executor(Kv::with_records(5, 50)), executor(Kv::with_records(5, 50))];
        let mut last = HashMap::new();
        let mut answered = HashMap::new();
        let mut operations = 0;
        for batch in &batches {
            let [out, other] = executors.each_mut().map(|executor| execute(executor, batch));
            prop_assert_eq!(&out, &other);

            let mut expected: Vec<_> = Vec::new();
            for &(client, timestamp) in batch.iter().filter(|(client, timestamp)| *client < 20 && *timestamp > 0) {
                let last = last.entry(client).or_insert(0);
                operations += u64::from(timestamp > *last);
                if timestamp >= *last {
                    *last = timestamp;
                    expected.push((client, timestamp));
                }
            }
            let node = |client: u32| match client { 0..10 => 4, 10 => 5, _ => 6 };
            expected.sort_by_key(|(client, _)| node(*client)); // stable: the order within a node stays
            let replies = replies(&out);
            prop_assert_eq!(replies.iter().map(|reply| (reply.1, reply.2)).collect::<Vec<_>>(), expected);
            for (at, client, timestamp, result) in replies {
                prop_assert_eq!(at, node(client));
                prop_assert_eq!(answered.entry((client, timestamp)).or_insert_with(|| result.clone()), &result);
            }
        }
        let [one, two] = &mut executors;
        prop_assert_eq!(one.counters().operations, operations);
        prop_assert_eq!(one.counters().operations, answered.len() as u64);
        prop_assert_eq!(one.clients().0.iter().sum::<u64>(), operations);
        prop_assert_eq!(one.state_digest(), two.state_digest());
        prop_assert_eq!(one.ledger(), two.ledger());
    }
}
