//! The execute stage: applies batches in order and answers clients.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Receiver as Queries;
use std::vec::IntoIter;

use hdrhistogram::Histogram;

use crate::control::ClientsAnswer;
use crate::execute::{Done, Executor};
use crate::limits::{HELD_READS_BYTES_MAX, READS_PER_STEP_MAX, REPLIES_PER_STEP_BYTES};
use crate::pipeline::board::{Board, Query, Reached};
use crate::pipeline::clock::Clock;
use crate::pipeline::link::{Receiver, Sender};
use crate::pipeline::order::{Feedback, Work, phase_histogram, phase_report};
use crate::pipeline::stage::{Counts, Stage, count_many};
use crate::protocol::{Execution, Stamps};
use crate::requests::{ReplyTable, RequestTable};
use crate::sampling::{ExecutionNote, Notes, Sampling, take_answered};
use crate::types::{ClientId, NodeId, SequenceNumber, Time, Timestamp, View};

/// Replies of one batch to one client node, on their way to the egress stage.
#[derive(Debug)]
pub struct Answers {
    /// The client node.
    pub node: NodeId,
    /// The view in which the batch committed, or is prepared.
    pub view: View,
    /// When the batch was executed.
    pub executed: Time,
    /// Whether they answer read-only requests.
    pub reads: bool,
    /// Whether the batch is only prepared.
    pub tentative: bool,
    /// The replies.
    pub replies: ReplyTable,
    /// Those of these operations that are followed.
    pub followed: Vec<(ClientId, Timestamp)>,
}

/// What comes to the execute stage past the order stage: read-only requests, verified.
#[derive(Default)]
pub struct ReadLinks {
    /// One from each verify stage.
    pub input: Vec<Receiver<Arc<RequestTable>>>,
    /// Told by the order stage.
    pub reached: Reached,
}

/// Most link items that one step takes.
const ITEMS_PER_STEP: usize = 16;
/// Most tables of read-only requests that one step answers, after what was ordered: a few, so that batches never wait
/// for long, and always some, so that reads do not wait for the batches to end.
const READ_TABLES_PER_STEP: usize = 4;

/// The stage's context.
pub struct Execute {
    executor: Executor,
    clock: Clock,
    input: Receiver<Vec<Work>>,
    reads: ReadLinks,
    /// Whose reads are next.
    next_read: usize,
    /// The table of reads that the last step has not come to the end of, and the first row that it has not answered.
    read_in_hand: Option<(Arc<RequestTable>, usize)>,
    /// What is left of the item that was taken last.
    in_hand: IntoIter<Work>,
    feedback: Sender<Vec<Feedback>>,
    answers: Sender<Vec<Answers>>,
    queries: Queries<Query>,
    done: Vec<Done>,
    phases: Phases,
    notes: Notes<ExecutionNote>,
    /// Operations that are followed, of which the replies were not handed on yet.
    followed: Vec<(ClientId, Timestamp)>,
}

/// Time between phases, ns.
struct Phases {
    pre_prepare: Histogram<u64>,
    prepared: Histogram<u64>,
    committed: Histogram<u64>,
    executed: Histogram<u64>,
    /// Of batches that were executed tentatively: when they were prepared.
    tentative: VecDeque<(SequenceNumber, Time)>,
}

impl Phases {
    /// The times of an executed batch. What does not wait until it is committed is executed after it is prepared; the
    /// time that the commitment takes besides is [noted](Self::note_committed) when it is there.
    fn note(&mut self, execution: &Execution, executed: Time) {
        let Execution { sequence, stamps, tentative, .. } = execution;
        self.pre_prepare.saturating_record(stamps.pre_prepared.since(stamps.received));
        self.prepared.saturating_record(stamps.prepared.since(stamps.pre_prepared));
        if *tentative {
            self.tentative.push_back((*sequence, stamps.prepared));
        } else {
            self.committed.saturating_record(stamps.committed.since(stamps.prepared));
        }
        self.executed.saturating_record(executed.since(stamps.committed));
    }

    fn note_committed(&mut self, sequence: SequenceNumber, committed: Time) {
        // One that waited for its confirmation has been executed by none of those that are noted.
        if self.tentative.front().is_some_and(|(first, _)| *first == sequence)
            && let Some((_, prepared)) = self.tentative.pop_front()
        {
            self.committed.saturating_record(committed.since(prepared));
        }
    }

    /// Those above `to` have been undone.
    fn forget(&mut self, to: SequenceNumber) {
        self.tentative.retain(|(sequence, _)| *sequence <= to);
    }
}

impl Execute {
    /// Executes what comes over `input`.
    #[must_use]
    pub fn new(
        executor: Executor,
        clock: Clock,
        input: Receiver<Vec<Work>>,
        feedback: Sender<Vec<Feedback>>,
        answers: Sender<Vec<Answers>>,
        queries: Queries<Query>,
    ) -> Self {
        Self {
            executor,
            clock,
            input,
            reads: ReadLinks::default(),
            next_read: 0,
            read_in_hand: None,
            in_hand: Vec::new().into_iter(),
            feedback,
            answers,
            queries,
            done: Vec::new(),
            phases: Phases {
                pre_prepare: phase_histogram(),
                prepared: phase_histogram(),
                committed: phase_histogram(),
                executed: phase_histogram(),
                tentative: VecDeque::new(),
            },
            notes: Notes::default(),
            followed: Vec::new(),
        }
    }

    /// This stage, noting when the operations pass that `sampling` follows.
    #[must_use]
    pub fn following(self, sampling: Sampling) -> Self {
        Self { notes: Notes::of_stage(sampling), ..self }
    }

    /// The same stage, answering the read-only requests that come over these links too.
    #[must_use]
    pub fn reading(self, reads: ReadLinks) -> Self {
        Self { reads, ..self }
    }

    /// Answers some read-only requests, from each link in turn, until the step has made as many bytes or answered as
    /// many reads as it may. One table may ask for far more than that: what is left of it waits for the next step,
    /// behind what is ordered by then.
    fn answer_reads(&mut self, mut bytes: usize) -> bool {
        let mut any = false;
        let mut rows_left = READS_PER_STEP_MAX;
        for _ in 0..READ_TABLES_PER_STEP {
            if bytes >= REPLIES_PER_STEP_BYTES || rows_left == 0 || self.is_stalled() || !self.may_read() {
                break;
            }
            let Some((table, first)) = self.read_in_hand.take().or_else(|| self.receive_reads()) else { break };
            any = true;
            let rows = first..table.len().min(first + rows_left);
            let bytes_left = REPLIES_PER_STEP_BYTES - bytes;
            let view = self.reads.reached.view();
            let (next, read) = self.executor.query_some(view, &table, rows, bytes_left, &mut self.done);
            self.hand_on();
            bytes += read;
            rows_left -= next - first;
            if next < table.len() {
                self.read_in_hand = Some((table, next));
            }
        }
        any
    }

    /// Whether there is room for more answers to read-only requests, of those that wait for a commitment.
    fn may_read(&self) -> bool {
        self.executor.held_read_bytes() < HELD_READS_BYTES_MAX
    }

    /// The next table of reads, from each link in turn.
    fn receive_reads(&mut self) -> Option<(Arc<RequestTable>, usize)> {
        let links = self.reads.input.len();
        for _ in 0..links {
            self.next_read = (self.next_read + 1) % links;
            if let Some(table) = self.reads.input[self.next_read].receive() {
                return Some((table, 0));
            }
        }
        None
    }

    /// Does what is in hand, as long as replies are fewer than a step makes. Returns the bytes of the replies.
    fn work(&mut self) -> usize {
        let mut bytes = 0;
        while bytes < REPLIES_PER_STEP_BYTES {
            let Some(item) = self.in_hand.next() else { break };
            if !matches!(item, Work::Execute(_) | Work::Confirm(..) | Work::RollBack(_) | Work::Recall(..)) {
                self.hand_on(); // what comes back is in the order of the work
            }
            let before = self.done.len();
            match item {
                Work::Execute(execution) => self.execute(&execution),
                Work::Confirm(sequence, committed) => {
                    self.executor.confirm(sequence, &mut self.done);
                    self.phases.note_committed(sequence, committed);
                }
                Work::RollBack(to) => {
                    self.executor.roll_back(to, &mut self.done);
                    self.phases.forget(to);
                }
                Work::Recall(view, table) => self.executor.recall(view, &table, &mut self.done),
                Work::Keep(sequence) => self.executor.keep(sequence),
                Work::Read(to, fetch) => {
                    let chunk = self.executor.read(fetch.sequence, fetch.index);
                    self.feedback.send(vec![Feedback::Read(to, chunk)]);
                }
                Work::Install(sequence, digest, chunks) => {
                    let good = self.executor.install(sequence, digest, chunks);
                    self.feedback.send(vec![Feedback::Installed(sequence, good)]);
                }
                Work::Save(request) => {
                    let kept = self.executor.kept(request.sequence());
                    request.answer(kept);
                }
            }
            bytes += self.done.get(before..).unwrap_or_default().iter().map(Done::reply_bytes).sum::<usize>();
        }
        self.hand_on();
        bytes
    }

    fn execute(&mut self, execution: &Execution) {
        let sampling = self.notes.sampling();
        let started = if sampling.is_on() { self.clock.now() } else { Time(0) };
        self.executor.execute(execution, &mut self.done);
        let executed = self.clock.now();
        let Execution { sequence, view, batch, stamps, .. } = execution;
        self.phases.note(execution, executed);
        let requests = &batch.requests;
        sampling.find(&requests.clients, &requests.timestamps, |index| {
            let (client, timestamp) = (requests.clients[index], requests.timestamps[index]);
            let Stamps { pre_prepared, prepared, committed, durable, .. } = *stamps;
            self.followed.push((client, timestamp));
            self.notes.push(ExecutionNote {
                client,
                timestamp,
                sequence: *sequence,
                view: *view,
                pre_prepared,
                prepared,
                committed,
                durable,
                started,
                executed,
            });
        });
    }

    fn hand_on(&mut self) {
        let executed = self.clock.now();
        let mut feedback = Vec::new();
        let mut answers = Vec::new();
        let bytes = self.done.iter().map(Done::reply_bytes).sum();
        for done in self.done.drain(..) {
            match done {
                Done::Replies { node, view, reads, tentative, replies } => {
                    // Numbers of reads are no timestamps: a read that has one's number is none of those.
                    let followed = if reads { Vec::new() } else { take_answered(&mut self.followed, &replies) };
                    answers.push(Answers { node, view, executed, reads, tentative, replies, followed });
                }
                Done::Executed(sequence) => feedback.push(Feedback::Executed(sequence)),
                Done::Checkpoint(sequence, digest) => feedback.push(Feedback::Checkpoint(sequence, digest)),
                Done::NotExecuted(table) => feedback.push(Feedback::NotExecuted(table)),
            }
        }
        self.followed.clear(); // of what else there is nobody is answered
        if !feedback.is_empty() {
            self.feedback.send(feedback);
        }
        if !answers.is_empty() {
            self.answers.send_weighed(answers, bytes);
        }
    }

    fn answer_queries(&mut self) -> bool {
        let mut any = false;
        while let Ok(query) = self.queries.try_recv() {
            any = true;
            // Whoever asked may have given up waiting: then nobody misses the answer.
            let _ = match query {
                Query::Ledger(sequences, answer) => {
                    answer.send(sequences.iter().map(|sequence| self.executor.ledger_at(*sequence)).collect()).is_ok()
                }
                Query::Clients(answer) => {
                    let (executed, last_timestamp) = self.executor.clients();
                    let executed_ops = self.executor.counters().operations;
                    answer.send(ClientsAnswer { executed_ops, executed, last_timestamp }).is_ok()
                }
            };
        }
        any
    }
}

impl Stage for Execute {
    fn name(&self) -> &'static str {
        "execute"
    }

    fn step(&mut self, _now: Time) -> bool {
        let mut any = self.answer_queries();
        if !(self.feedback.flush() & self.answers.flush()) {
            return any;
        }
        let mut bytes = 0;
        for _ in 0..ITEMS_PER_STEP {
            if self.in_hand.as_slice().is_empty() {
                let Some(work) = self.input.receive() else { break };
                self.in_hand = work.into_iter();
            }
            any = true;
            bytes += self.work();
            if bytes >= REPLIES_PER_STEP_BYTES || self.is_stalled() {
                break;
            }
        }
        any | self.answer_reads(bytes)
    }

    fn has_work(&self) -> bool {
        !self.in_hand.as_slice().is_empty()
            || !self.input.is_empty()
            || (self.may_read()
                && (self.read_in_hand.is_some() || self.reads.input.iter().any(|link| !link.is_empty())))
    }

    fn is_stalled(&self) -> bool {
        self.feedback.is_held() || self.answers.is_held()
    }

    fn queue_len(&self) -> usize {
        self.input.len() + self.reads.input.iter().map(Receiver::len).sum::<usize>()
    }

    fn post(&mut self, board: &mut Board) {
        board.notes.executions.take(&mut self.notes);
        let report = &mut board.report;
        let counters = self.executor.counters();
        report.executed_ops = counters.operations;
        report.batches = counters.batches;
        report.reads = counters.reads;
        report.rolled_back = counters.rolled_back;
        report.executed_sequence = self.executor.confirmed();
        report.ledger_digest = self.executor.ledger().to_string();
        let phases = [
            ("pre_prepare", &self.phases.pre_prepare),
            ("prepared", &self.phases.prepared),
            ("committed", &self.phases.committed),
            ("executed", &self.phases.executed),
        ];
        for (name, histogram) in phases {
            report.phases.insert(name.into(), phase_report(histogram));
        }
        let passed_over = [
            ("reply_resent", counters.resent),
            ("reply_repeated", counters.repeated),
            ("reply_withheld", counters.withheld),
            ("request_outdated", counters.outdated),
            ("client_unknown", counters.unknown),
            ("read_not_answered", counters.reads_refused),
        ];
        let mut ignored = Counts::new();
        for (reason, many) in passed_over {
            count_many(&mut ignored, reason, many);
        }
        board.post_ignored("execute", &ignored);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::app::null::Null;
    use crate::auth::testing::table;
    use crate::execute::ExecutorConfig;
    use crate::limits::{REPLIES_UNDER_WAY_BYTES_MAX, REQUESTS_MAX, RESULT_BYTES_MAX};
    use crate::requests::Batch;
    use crate::ring::doorbell::Doorbell;
    use crate::ring::ring;
    use crate::types::{ReplicaId, SequenceNumber};

    fn link<T>() -> (Sender<T>, Receiver<T>) {
        let (producer, consumer) = ring(256);
        (Sender::new(producer, Doorbell::parker().0), Receiver::new(consumer))
    }

    /// Reads without end, and batches behind them: both get on in every step.
    #[test]
    fn reads_and_batches_do_not_wait_for_each_other_to_end() {
        let config = ExecutorConfig {
            own: ReplicaId(0),
            client_nodes: vec![(NodeId(4), 0..4)],
            checkpoint_interval: 128,
            designates: None,
            tentative: false,
        };
        let executor = Executor::new(config, Box::new(Null::new(8)));
        let ((mut work, input), (feedback, _fed)) = (link(), link());
        let (answers, mut answered) = link();
        let (_ask, queries) = channel();
        let (mut reads, input_of_reads) = link();
        let links = ReadLinks { input: vec![input_of_reads], reached: Reached::default() };
        let mut execute = Execute::new(executor, Clock::start(), input, feedback, answers, queries).reading(links);
        let table = Arc::new(table(&[(0, 1, Vec::new())]));
        (0..256).for_each(|_| reads.send(Arc::clone(&table)));
        for sequence in 1..=64 {
            let batch = Batch::new(table.as_ref().clone());
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
        }
        let of_reads = std::iter::from_fn(|| answered.receive()).flatten().filter(|answers| answers.reads).count();
        assert_eq!(of_reads, 16);
        assert!(execute.has_work(), "more reads wait");
    }

    /// One frame may ask for thousands of scans: no step answers all of them, and what is ordered comes in between.
    #[test]
    fn a_table_of_reads_is_answered_step_by_step_behind_what_is_ordered() {
        for (reply_bytes, rows) in [(RESULT_BYTES_MAX / 4, 100), (8, REQUESTS_MAX)] {
            let config = ExecutorConfig {
                own: ReplicaId(0),
                client_nodes: vec![(NodeId(4), 0..4)],
                checkpoint_interval: 128,
                designates: None,
                tentative: false,
            };
            let executor = Executor::new(config, Box::new(Null::new(reply_bytes)));
            let ((mut work, input), (feedback, _fed)) = (link(), link());
            let (answers, mut answered) = link();
            let (_ask, queries) = channel();
            let (mut reads, input_of_reads) = link();
            let links = ReadLinks { input: vec![input_of_reads], reached: Reached::default() };
            let mut execute = Execute::new(executor, Clock::start(), input, feedback, answers, queries).reading(links);
            let scans: Vec<(u32, u64, Vec<u8>)> = (1..=rows as u64).map(|number| (0, number, Vec::new())).collect();
            reads.send(Arc::new(table(&scans)));

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
                if steps == 1 {
                    assert!(read.len() < rows);
                    let batch = Batch::new(table(&[(1, 1, Vec::new())]));
                    let (sequence, stamps) = (SequenceNumber(1), Stamps::default());
                    work.send(vec![Work::Execute(Execution {
                        sequence,
                        view: View(0),
                        tentative: false,
                        batch,
                        stamps,
                    })]);
                }
            }
            assert_eq!(read, (1..=rows as u64).map(Timestamp).collect::<Vec<_>>(), "each once, in order");
        }
    }

    /// One item of work that asks for a gigabyte of cached results, of an egress stage that is slow.
    #[test]
    fn replies_under_way_are_bounded_whatever_is_asked_for() {
        const RECALLS: usize = 256;
        let config = ExecutorConfig {
            own: ReplicaId(0),
            client_nodes: vec![(NodeId(4), 0..4)],
            checkpoint_interval: 128,
            designates: None,
            tentative: false,
        };
        let executor = Executor::new(config, Box::new(Null::new(RESULT_BYTES_MAX)));
        let ((mut work, input), (feedback, _fed)) = (link(), link());
        let (answers, mut answered) = link();
        let answers = answers.bounded(REPLIES_UNDER_WAY_BYTES_MAX);
        let (_ask, queries) = channel();
        let mut execute = Execute::new(executor, Clock::start(), input, feedback, answers, queries);
        let requests = table(&[0, 1, 2, 3].map(|client| (client, 1, Vec::new())));
        let batch = Batch::new(requests.clone());
        let execution = Execution {
            sequence: SequenceNumber(1),
            view: View(0),
            tentative: false,
            batch,
            stamps: Stamps::default(),
        };
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
}
