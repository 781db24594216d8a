use std::sync::Arc;
use std::sync::mpsc::channel;

use super::*;
use crate::app::null::Null;
use crate::auth::testing::{cluster, keyring, table};
use crate::execute::ExecutorConfig;
use crate::limits::{REPLIES_UNDER_WAY_BYTES_MAX, REQUESTS_MAX, RESULT_BYTES_MAX};
use crate::pipeline::credit::Credit;
use crate::requests::{Batch, RequestTable};
use crate::ring::doorbell::Doorbell;
use crate::ring::ring;
use crate::types::{ReplicaId, SequenceNumber};

fn link<T>() -> (Sender<T>, Receiver<T>) {
    let (producer, consumer) = ring(256);
    (Sender::new(producer, Doorbell::parker().0), Receiver::new(consumer))
}

/// An executor of replica 0 for the four clients of node 4, with results of so many bytes.
fn executor(reply_bytes: usize) -> Executor {
    let config = ExecutorConfig {
        own: ReplicaId(0),
        client_nodes: vec![(NodeId(4), 0..4)],
        checkpoint_interval: 128,
        designates: None,
        tentative: false,
    };
    Executor::new(config, Box::new(Null::new(reply_bytes)))
}

/// Credit that nothing has been taken of.
fn credit() -> Credit {
    Credit::new(&keyring(&cluster("mac", 4, &[4]), 0), 1)
}

/// Reads of node 4, on credit.
fn reads_on(credit: &Credit, table: RequestTable) -> VerifiedReads {
    credit.take(NodeId(4), 7);
    VerifiedReads { table: Arc::new(table), loan: Some(Arc::new(credit.lend(NodeId(4), 7))) }
}

/// On one thread egress gets the replies of several batches at once.
#[test]
fn another_thread_gets_the_replies_of_each_batch_at_once() {
    for (across, sent) in [(true, 3), (false, 1)] {
        let ((mut work, input), (feedback, _fed)) = (link(), link());
        let (answers, mut answered) = link();
        let (_ask, queries) = channel();
        let mut execute =
            Execute::new(executor(8), Clock::start(), input, feedback, answers.across_threads(across), queries);
        let batch = |sequence| {
            let batch = Batch::new(table(&[(0, sequence, Vec::new())]));
            let (sequence, view, stamps) = (SequenceNumber(sequence), View(0), Stamps::default());
            Work::Execute(Execution { sequence, view, tentative: false, batch, stamps })
        };
        work.send((1..=3).map(batch).collect());
        assert!(execute.step(Time(0)));
        let handed_on: Vec<Vec<Answers>> = std::iter::from_fn(|| answered.receive()).collect();
        assert_eq!(handed_on.len(), sent);
        assert_eq!(handed_on.iter().map(Vec::len).sum::<usize>(), 3);
    }
}

/// Reads without end, and batches behind them: both get on in every step.
#[test]
fn reads_and_batches_do_not_wait_for_each_other_to_end() {
    let executor = executor(8);
    let ((mut work, input), (feedback, _fed)) = (link(), link());
    let (answers, mut answered) = link();
    let (_ask, queries) = channel();
    let (mut reads, input_of_reads) = link();
    let links = ReadLinks { input: vec![input_of_reads], reached: Reached::default() };
    let mut execute = Execute::new(executor, Clock::start(), input, feedback, answers, queries).reading(links);
    let (credit, table) = (credit(), table(&[(0, 1, Vec::new())]));
    (0..256).for_each(|_| reads.send(reads_on(&credit, table.clone())));
    for sequence in 1..=64 {
        let batch = Batch::new(table.clone());
        let sequence = SequenceNumber(sequence);
        work.send(vec![Work::Execute(Execution {
            sequence,
            view: View(0),
            tentative: false,
            batch,
            stamps: Stamps::default(),
        })]);
    }
    for step in 1..=4 {
        assert!(execute.step(Time(0)));
        assert_eq!(execute.executor.executed(), SequenceNumber(16 * step));
        assert_eq!(execute.executor.counters().reads, 4 * step);
        assert_eq!(u64::from(credit.taken(NodeId(4))), 7 * (256 - 4 * step), "of what is answered");
    }
    let of_reads = std::iter::from_fn(|| answered.receive()).flatten().filter(|answers| answers.reads).count();
    assert_eq!(of_reads, 16);
    assert!(execute.has_work(), "more reads wait");
}

/// One frame may ask for thousands of scans: no step answers all of them, and what is ordered comes in between.
#[test]
fn a_table_of_reads_is_answered_step_by_step_behind_what_is_ordered() {
    for (reply_bytes, rows) in [(RESULT_BYTES_MAX / 4, 100), (8, REQUESTS_MAX)] {
        let executor = executor(reply_bytes);
        let ((mut work, input), (feedback, _fed)) = (link(), link());
        let (answers, mut answered) = link();
        let (_ask, queries) = channel();
        let (mut reads, input_of_reads) = link();
        let links = ReadLinks { input: vec![input_of_reads], reached: Reached::default() };
        let mut execute = Execute::new(executor, Clock::start(), input, feedback, answers, queries).reading(links);
        let scans: Vec<(u32, u64, Vec<u8>)> = (1..=rows as u64).map(|number| (0, number, Vec::new())).collect();
        let credit = credit();
        reads.send(reads_on(&credit, table(&scans)));

        let mut read = Vec::new();
        let mut steps = 0;
        while execute.has_work() {
            assert!(execute.step(Time(0)), "{} of {rows} reads", read.len());
            steps += 1;
            let mut of_step: Vec<Answers> = std::iter::from_fn(|| answered.receive()).flatten().collect();
            if steps == 2 {
                assert_eq!(execute.executor.executed(), SequenceNumber(1));
                assert!(!of_step.remove(0).reads, "what was ordered comes first");
            }
            assert!(of_step.iter().all(|answers| answers.reads));
            let bytes: usize = of_step.iter().map(|answers| answers.replies.results.len()).sum();
            assert!(bytes <= REPLIES_PER_STEP_BYTES + RESULT_BYTES_MAX, "{bytes} bytes in a step");
            let before = read.len();
            read.extend(of_step.into_iter().flat_map(|answers| answers.replies.timestamps));
            assert!((1..=READS_PER_STEP_MAX).contains(&(read.len() - before)), "in step {steps}");
            assert_eq!(credit.taken(NodeId(4)) == 0, read.len() == rows, "credit comes back with the last answer");
            if steps == 1 {
                assert!(read.len() < rows);
                let batch = Batch::new(table(&[(1, 1, Vec::new())]));
                let (sequence, stamps) = (SequenceNumber(1), Stamps::default());
                work.send(vec![Work::Execute(Execution { sequence, view: View(0), tentative: false, batch, stamps })]);
            }
        }
        assert_eq!(read, (1..=rows as u64).map(Timestamp).collect::<Vec<_>>(), "each once, in order");
    }
}

/// One item of work that asks for a gigabyte of cached results, of an egress stage that is slow.
#[test]
fn replies_under_way_are_bounded_whatever_is_asked_for() {
    const RECALLS: usize = 256;
    let executor = executor(RESULT_BYTES_MAX);
    let ((mut work, input), (feedback, _fed)) = (link(), link());
    let (answers, mut answered) = link();
    let answers = answers.bounded(REPLIES_UNDER_WAY_BYTES_MAX);
    let (_ask, queries) = channel();
    let mut execute = Execute::new(executor, Clock::start(), input, feedback, answers, queries);
    let requests = table(&[0, 1, 2, 3].map(|client| (client, 1, Vec::new())));
    let batch = Batch::new(requests.clone());
    let execution =
        Execution { sequence: SequenceNumber(1), view: View(0), tentative: false, batch, stamps: Stamps::default() };
    let recalls = (0..RECALLS).map(|_| Work::Recall(View(0), Arc::new(requests.clone())));
    work.send([Work::Execute(execution)].into_iter().chain(recalls).collect());

    let (mut tables, mut steps) = (0, 0);
    while execute.has_work() || execute.is_stalled() {
        execute.step(Time(0));
        steps += 1;
        if execute.is_stalled() || !execute.has_work() {
            let under_way: Vec<Answers> = std::iter::from_fn(|| answered.receive()).flatten().collect();
            let bytes: usize = under_way.iter().map(|answers| answers.replies.results.len()).sum();
            assert!(bytes <= REPLIES_UNDER_WAY_BYTES_MAX + 2 * REPLIES_PER_STEP_BYTES, "{bytes} bytes");
            tables += under_way.len();
        }
    }
    assert_eq!((tables, steps >= RECALLS), (1 + RECALLS, true), "in {steps} steps");
}
