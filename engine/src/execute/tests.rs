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
        ExecutorConfig {
            own: ReplicaId(0),
            client_nodes,
            checkpoint_interval: CHECKPOINT_INTERVAL,
            designates: None,
            tentative: false,
        },
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
    let execution = Execution { sequence, view: View(3), tentative: false, batch, stamps: Stamps::default() };
    let mut out = Vec::new();
    executor.execute(&execution, &mut out);
    out
}

/// The replies in `out` as (node, client, timestamp, result).
fn replies(out: &[Done]) -> Vec<(u16, u32, u64, Vec<u8>)> {
    let tables = out.iter().filter_map(|done| match done {
        Done::Replies { node, view, replies, .. } => {
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
    // The second copies of (0, 1) and (0, 2) come right behind them: this batch answers them already.
    let requests = [(0, 1), (0, 1), (0, 2), (0, 2), (0, 3), (0, 1), (0, 2), (99, 1)];
    let out = replies(&execute(&mut executor, &requests));
    assert_eq!(out[0], first[0]);
    assert_eq!(out.iter().map(|reply| reply.2).collect::<Vec<_>>(), [1, 2, 3]);
    let counters =
        Counters { operations: 3, batches: 2, resent: 1, repeated: 2, outdated: 2, unknown: 1, ..Counters::default() };
    assert_eq!(executor.counters(), counters);
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

/// A few hundred kilobytes of copies must not ask for gigabytes, whether a client sends them or a primary orders them.
#[test]
fn copies_of_one_request_are_answered_once() {
    const RESULT: usize = 256 << 10;
    const COPIES: usize = crate::limits::REQUESTS_MAX;
    let mut executor = executor(Null::new(RESULT));
    let first = replies(&execute(&mut executor, &[(0, 1)]));
    let copies = vec![(0, 1); COPIES];
    for round in 1..3 {
        let mut out = Vec::new();
        executor.recall(View(3), &table(&copies), &mut out);
        assert!(replies(&out) == first, "{} answers to a recall", out.len());
        let out = execute(&mut executor, &copies);
        assert!(replies(&out) == first, "{} answers to a batch", out.len());
        let Counters { resent, repeated, .. } = executor.counters();
        assert_eq!((resent, repeated), (2 * round, 2 * round * (COPIES as u64 - 1)));
    }
}

#[test]
fn no_table_recalls_more_than_a_table_of_replies_takes() {
    let mut executor = executor(Null::new(RESULT_BYTES_MAX));
    let requests: Vec<_> = (0..10).map(|client| (client, 1)).collect();
    execute(&mut executor, &requests);
    let mut out = Vec::new();
    executor.recall(View(3), &table(&requests), &mut out);
    let answered = |out: &[Done]| replies(out).iter().map(|reply| reply.1).collect::<Vec<_>>();
    assert_eq!(answered(&out), [0, 1, 2, 3]);
    assert_eq!(answered(&execute(&mut executor, &requests)), [0, 1, 2, 3]);
    assert_eq!((executor.counters().resent, executor.counters().withheld), (8, 12));
    // Clients that got their answers do not ask again, and the others' turn comes.
    out.clear();
    executor.recall(View(3), &table(&requests[4..]), &mut out);
    assert_eq!(answered(&out), [4, 5, 6, 7]);
    assert!(out.iter().map(Done::reply_bytes).sum::<usize>() <= crate::limits::REPLIES_BYTES_MAX + 4 * 16);
}

#[test]
#[should_panic(expected = "batch out of order")]
fn a_gap_in_the_order_is_our_own_error() {
    let mut executor = executor(Null::new(0));
    let execution = Execution {
        sequence: SequenceNumber(2),
        view: View(0),
        tentative: false,
        batch: Batch::null(),
        stamps: Stamps::default(),
    };
    executor.execute(&execution, &mut Vec::new());
}

#[test]
fn snapshots_are_cut_as_told() {
    let mut whole = executor(Kv::with_records(20, 10));
    let mut source = executor(Kv::with_records(20, 10));
    source.cut_snapshots(100);
    for executor in [&mut whole, &mut source] {
        execute(executor, &[(0, 1)]);
    }
    let Snapshot { sequence, digest, chunks } = source.snapshot_now();
    assert!(chunks.len() > 3 && chunks[..chunks.len() - 1].iter().all(|chunk| chunk.len() == 100));
    assert_eq!(chunks.concat(), whole.snapshot_now().chunks.concat());
    let mut laggard = executor(Kv::new());
    assert!(laggard.install(sequence, digest, chunks));
    assert_equal(&mut source, &mut laggard);
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
                if timestamp >= *last && !expected.contains(&(client, timestamp)) {
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

/// Where a laggard takes over the state of `source`: everything equal, the cached replies too, and it stays so.
fn assert_equal(source: &mut Executor, other: &mut Executor) {
    assert_eq!((source.executed(), source.ledger()), (other.executed(), other.ledger()));
    assert_eq!(source.clients(), other.clients());
    assert_eq!(source.counters().operations, other.counters().operations);
    assert_eq!(source.state_digest(), other.state_digest());
    let all: Vec<_> = (0..20).flat_map(|client| (0..8).map(move |timestamp| (client, timestamp))).collect();
    let mut answers = [Vec::new(), Vec::new()];
    source.recall(View(3), &table(&all), &mut answers[0]);
    other.recall(View(3), &table(&all), &mut answers[1]);
    assert_eq!(answers[0], answers[1]);
}

/// The digest that the last checkpoint in `out` has.
fn checkpoint(out: &[Done]) -> (SequenceNumber, Digest) {
    let taken = out.iter().find_map(|done| match done {
        Done::Checkpoint(sequence, digest) => Some((*sequence, *digest)),
        _ => None,
    });
    taken.expect("a checkpoint was due")
}

#[test]
fn a_snapshot_is_kept_where_it_was_asked_for_and_the_oldest_goes() {
    let mut executor = executor(Kv::with_records(5, 50));
    executor.keep(SequenceNumber(3)); // no checkpoint
    for checkpoint in [4, 8, 16, 20] {
        executor.keep(SequenceNumber(checkpoint));
    }
    let none = |executor: &Executor, sequence| {
        let chunk = executor.read(SequenceNumber(sequence), 0);
        executor.kept(SequenceNumber(sequence)).is_none() && chunk.count == 0 && chunk.bytes.is_empty()
    };
    for sequence in 1..=20 {
        let out = execute(&mut executor, &[(0, sequence)]);
        if sequence == 4 {
            let kept = executor.kept(SequenceNumber(4)).unwrap().clone();
            assert_eq!((kept.sequence, kept.digest), checkpoint(&out));
            assert_eq!(executor.snapshot_now(), kept);
            let chunk = executor.read(SequenceNumber(4), 0);
            assert_eq!((chunk.count, &chunk.bytes), (1, &kept.chunks[0]));
            assert_eq!(executor.read(SequenceNumber(4), 1).count, 0, "there is no second chunk");
        }
        if sequence == 12 {
            executor.keep(SequenceNumber(12)); // just in time
            assert_eq!(executor.kept(SequenceNumber(12)).map(|kept| kept.digest), Some(executor.state_digest()));
        }
        if sequence == 13 {
            executor.keep(SequenceNumber(4)); // too late: it has made way
        }
    }
    assert!(none(&executor, 3) && none(&executor, 4) && none(&executor, 8) && none(&executor, 12));
    assert!(!none(&executor, 16) && !none(&executor, 20));
}

#[test]
fn a_snapshot_that_nobody_can_go_on_from_is_forgotten() {
    let mut executor = executor(Null::new(0));
    executor.keep(SequenceNumber(4));
    let last = 4 + crate::limits::HISTORY_BATCHES_MAX as u64;
    for sequence in 1..=last {
        execute(&mut executor, &[]);
        assert_eq!(executor.kept(SequenceNumber(4)).is_some(), (4..last).contains(&sequence));
    }
}

#[test]
fn nothing_but_the_vouched_state_ahead_is_installed() {
    let mut source = executor(Kv::with_records(200, 50));
    for timestamp in 1..=4 {
        execute(&mut source, &[(0, timestamp), (12, timestamp)]);
    }
    let Snapshot { sequence, digest, chunks } = source.snapshot_now();
    let whole = chunks.concat();
    let mut laggard = executor(Kv::with_records(5, 50));
    execute(&mut laggard, &[(3, 1)]);
    let before = (laggard.state_digest(), laggard.counters(), laggard.clients());

    let cut = |at: usize| vec![Bytes::copy_from_slice(&whole[..at])];
    let changed = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        vec![bytes.into()]
    };
    let mut wrong = vec![vec![], vec![Bytes::new()], vec![Bytes::from(vec![0xff; 5000])]];
    wrong.extend((0..whole.len()).step_by(7).map(cut));
    wrong.extend((0..whole.len()).map(changed));
    wrong.push(vec![whole.clone().into(), Bytes::from_static(&[0])]);
    wrong.push(vec![whole.clone().into(), Bytes::from_static(&[1, 0, 0, 0, 7])]);
    for chunks in wrong {
        assert!(!laggard.install(sequence, digest, chunks));
    }
    // A whole snapshot, but not the one that is vouched for.
    let other = SnapshotError::OtherDigest { found: digest, wanted: Digest([1; 32]) };
    assert_eq!(laggard.restore(sequence, Digest([1; 32]), &chunks), Err(other));
    assert!(!laggard.install(SequenceNumber(8), digest, chunks.clone()));
    let mut smaller = Executor::new(
        ExecutorConfig {
            own: ReplicaId(1),
            client_nodes: vec![(NodeId(4), 0..3)],
            checkpoint_interval: 4,
            designates: None,
            tentative: false,
        },
        Box::new(Kv::new()),
    );
    assert_eq!(smaller.restore(sequence, digest, &chunks), Err(SnapshotError::OtherClients { found: 20, wanted: 3 }));
    assert_eq!((laggard.state_digest(), laggard.counters(), laggard.clients()), before);
    assert!(laggard.kept(sequence).is_none());

    assert!(laggard.install(sequence, digest, chunks.clone()));
    assert_equal(&mut source, &mut laggard);
    assert_eq!(laggard.kept(sequence).unwrap().chunks, chunks, "it can help others now");
    // Never backwards, and not twice.
    let not_ahead = SnapshotError::NotAhead { found: sequence, executed: sequence };
    assert_eq!(laggard.restore(sequence, digest, &chunks), Err(not_ahead));
}

#[test]
fn a_large_snapshot_is_cut_into_chunks_and_may_come_in_any() {
    let mut source = executor(Kv::with_records(30_000, 100));
    execute(&mut source, &[(0, 1)]);
    let Snapshot { sequence, digest, chunks } = source.snapshot_now();
    assert!(chunks.len() > 3);
    assert!(chunks[..chunks.len() - 1].iter().all(|chunk| chunk.len() == SNAPSHOT_CHUNK_BYTES));
    let whole = Bytes::from(chunks.concat());
    for size in [SNAPSHOT_CHUNK_BYTES, whole.len(), 999] {
        let chunks = whole.chunks(size).map(|chunk| whole.slice_ref(chunk)).collect();
        let mut laggard = executor(Kv::new());
        assert!(laggard.install(sequence, digest, chunks));
        assert_equal(&mut source, &mut laggard);
    }
}

proptest! {
    #[test]
    fn an_installed_state_is_the_same_and_goes_on_alike(
        before in prop::collection::vec(prop::collection::vec((0u32..22, 0u64..6), 0..30), 1..8),
        after in prop::collection::vec(prop::collection::vec((0u32..22, 0u64..8), 0..30), 0..6),
    ) {
        let mut source = executor(Kv::with_records(5, 50));
        let mut laggard = executor(Kv::with_records(5, 50));
        for batch in &before {
            execute(&mut source, batch);
        }
        let Snapshot { sequence, digest, chunks } = source.snapshot_now();
        prop_assert!(laggard.install(sequence, digest, chunks));
        assert_equal(&mut source, &mut laggard);
        for batch in &after {
            prop_assert_eq!(execute(&mut source, batch), execute(&mut laggard, batch));
        }
        assert_equal(&mut source, &mut laggard);
    }

    #[test]
    fn any_bytes_are_refused_as_a_snapshot(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..5),
        magic in any::<bool>(),
    ) {
        let mut executor = executor(Kv::new());
        let mut bytes = if magic { [&b"hippo-st"[..], &1u64.to_le_bytes(), &[7; 32], &20u32.to_le_bytes()].concat() }
            else { Vec::new() };
        bytes.extend(chunks.concat());
        prop_assert!(!executor.install(SequenceNumber(1), Digest([3; 32]), vec![bytes.into()]));
        prop_assert_eq!(executor.executed(), SequenceNumber(0));
    }
}

/// Of which batch each table of replies has all.
fn sequences(out: &[Done]) -> Vec<u64> {
    let sequence = |done: &Done| if let Done::Replies { sequence, .. } = done { Some(sequence.0) } else { None };
    out.iter().filter_map(sequence).collect()
}

#[test]
fn replies_tell_of_which_batch_they_are_all() {
    let mut two_nodes = Executor::new(
        ExecutorConfig {
            own: ReplicaId(0),
            client_nodes: vec![(NodeId(4), 0..10), (NodeId(5), 10..20)],
            checkpoint_interval: CHECKPOINT_INTERVAL,
            designates: None,
            tentative: false,
        },
        Box::new(Null::new(4)),
    );
    assert_eq!(sequences(&execute(&mut two_nodes, &[(3, 1), (12, 1), (4, 1)])), [1, 1]);
    // One that is repeated is answered in its batch, at every replica alike.
    assert_eq!(sequences(&execute(&mut two_nodes, &[(3, 1), (12, 2)])), [2, 2]);
    let mut again = Vec::new();
    two_nodes.recall(View(3), &table(&[(3, 1), (12, 2)]), &mut again);
    assert_eq!(sequences(&again), [0, 0], "what comes out of the cache is of no batch");
    // So many bytes take more than one table: none has all of them.
    let mut long = executor(Null::new(RESULT_BYTES_MAX));
    let requests: Vec<(u32, u64)> = (0..6).map(|client| (client, 1)).collect();
    assert_eq!(sequences(&execute(&mut long, &requests)), [0, 0]);
    assert_eq!(sequences(&execute(&mut long, &[(0, 2)])), [2], "the next batch is another one");
}

#[test]
fn where_batches_may_be_undone_replies_are_those_of_no_batch() {
    let config = ExecutorConfig {
        own: ReplicaId(0),
        client_nodes: vec![(NodeId(4), 0..20)],
        checkpoint_interval: CHECKPOINT_INTERVAL,
        designates: None,
        tentative: true,
    };
    let mut executor = Executor::new(config, Box::new(Null::new(4)));
    assert_eq!(sequences(&execute(&mut executor, &[(3, 1), (4, 1)])), [0]);
}

/// Replica `own` of four, which send digests.
fn designating(own: u16, app: impl Application + 'static) -> Executor {
    let config = ExecutorConfig {
        own: ReplicaId(own),
        client_nodes: vec![(NodeId(4), 0..20)],
        checkpoint_interval: CHECKPOINT_INTERVAL,
        designates: Some(4),
        tentative: false,
    };
    Executor::new(config, Box::new(app))
}

fn tables(out: &[Done]) -> Vec<&ReplyTable> {
    out.iter().filter_map(|done| if let Done::Replies { replies, .. } = done { Some(replies) } else { None }).collect()
}

#[test]
fn of_each_long_result_one_replica_sends_it_and_the_others_its_digest() {
    let requests: Vec<(u32, u64)> = (0..12).map(|client| (client, 1)).collect();
    let mut whole = vec![0; requests.len()];
    let mut states = Vec::new();
    for own in 0..4 {
        let mut executor = designating(own, Null::new(33));
        let out = execute(&mut executor, &requests);
        let [table] = tables(&out)[..] else { panic!("{out:?}") };
        assert_eq!(sequences(&out), [0], "no two replicas send the same");
        for (index, whole) in whole.iter_mut().enumerate() {
            let (digest, result) = (crate::requests::result_digest(&null::result(33)), table.result(index));
            let expected = if table.is_digest(index) { &digest.0[..] } else { &null::result(33)[..] };
            assert_eq!(result, expected);
            *whole += u32::from(!table.is_digest(index));
        }
        states.push(executor.state_digest());
        // Whoever asks again gets it whole.
        let mut again = Vec::new();
        executor.recall(View(3), &self::table(&requests), &mut again);
        let [table] = tables(&again)[..] else { panic!("{again:?}") };
        assert!((0..table.len()).all(|index| !table.is_digest(index) && table.result(index) == null::result(33)));
    }
    assert_eq!(whole, vec![1; requests.len()]);
    assert!(states.iter().all(|state| *state == states[0]), "who sends what is no part of the state");
}

#[test]
fn short_results_are_sent_by_all() {
    for own in 0..4 {
        let mut executor = designating(own, Null::new(32));
        let out = execute(&mut executor, &[(0, 1), (1, 1), (2, 1), (3, 1)]);
        assert!(tables(&out).iter().all(|table| table.digested.is_empty()), "{out:?}");
    }
}

/// Reads of these keys, one a client.
fn reads(keys: &[u64]) -> RequestTable {
    let (mut table, mut operations) = (RequestTable::empty(), Vec::new());
    for (client, key) in (0..).zip(keys) {
        kv::Operation::Read { key: *key }.encode(&mut operations);
        table.clients.push(ClientId(client));
        table.timestamps.push(Timestamp(77));
        table.operation_ends.push(operations.len() as u32);
    }
    table.operations = operations.into();
    table
}

fn query(executor: &mut Executor, table: &RequestTable) -> Vec<Done> {
    let mut out = Vec::new();
    executor.query(View(3), table, &mut out);
    out
}

#[test]
fn reads_are_answered_from_what_was_executed_and_leave_no_trace() {
    let mut executor = executor(Kv::new().versioned().preloaded(5, 20));
    execute(&mut executor, &[(0, 1), (1, 1)]); // writes to keys 1 and 2
    let (state, clients) = (executor.state_digest(), executor.clients());
    let out = query(&mut executor, &reads(&[1, 2, 3]));
    let [Done::Replies { node: NodeId(4), view: View(3), sequence: NO_BATCH, reads: true, tentative: false, replies }] =
        &out[..]
    else {
        panic!("{out:?}")
    };
    assert_eq!(replies.timestamps, [Timestamp(77); 3]);
    // Five records were written when the store was made.
    let value = [1; 1];
    for (index, (value, version)) in
        [(&value[..], 6u64), (&value[..], 7), (&kv::preloaded_value(3, 20), 4)].into_iter().enumerate()
    {
        let mut expected = Vec::new();
        kv::Outcome::Value(value).encode(&mut expected);
        expected.extend(version.to_le_bytes());
        assert_eq!(replies.result(index), expected, "reply {index}");
    }
    assert_eq!((executor.state_digest(), executor.clients()), (state, clients));
    assert_eq!((executor.counters().reads, executor.counters().operations), (3, 2));
    // To ask again does no harm.
    assert_eq!(query(&mut executor, &reads(&[1, 2, 3])), out);
}

#[test]
fn what_can_not_be_answered_without_order_gets_an_empty_answer() {
    let mut executor = executor(Kv::new().versioned().preloaded(5, 20));
    let mut mixed = reads(&[1, 2]);
    let mut operations = mixed.operations.to_vec();
    kv::Operation::Insert { key: 1, value: b"new" }.encode(&mut operations);
    mixed.clients.extend([ClientId(2), ClientId(99)]);
    mixed.timestamps.extend([Timestamp(1); 2]);
    mixed.operation_ends.extend([operations.len() as u32; 2]);
    mixed.operations = operations.into();
    let state = executor.state_digest();
    let out = query(&mut executor, &mixed);
    let [table] = tables(&out)[..] else { panic!("{out:?}") };
    assert_eq!(table.clients, [ClientId(0), ClientId(1), ClientId(2)], "nobody owns the last one");
    assert!(!table.result(1).is_empty() && table.result(2).is_empty());
    assert_eq!(executor.state_digest(), state, "nothing was written");
    let counters = executor.counters();
    assert_eq!((counters.reads, counters.reads_refused, counters.unknown), (2, 1, 1));

    // A replica that was started again may be behind what it has told.
    executor.refuse_reads();
    let out = query(&mut executor, &reads(&[1, 2]));
    let [table] = tables(&out)[..] else { panic!("{out:?}") };
    assert!((0..2).all(|index| table.result(index).is_empty()));

    // A result that leaves no room for its version.
    let mut executor = self::executor(Null::new(RESULT_BYTES_MAX));
    let out = query(&mut executor, &reads(&[1]));
    assert!(tables(&out)[0].result(0).is_empty());
}
