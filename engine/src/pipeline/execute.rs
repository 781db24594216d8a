//! The execute stage: applies batches in order and answers clients.

use std::collections::VecDeque;
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
use crate::pipeline::verify::VerifiedReads;
use crate::protocol::{Execution, Stamps};
use crate::requests::ReplyTable;
use crate::sampling::{ExecutionNote, Notes, Sampling, take_answered};
use crate::types::{ClientId, NodeId, SequenceNumber, Time, Timestamp, View};

/// Replies of one batch to one client node, on their way to the egress stage.
#[derive(Debug)]
pub struct Answers {
    /// The client node.
    pub node: NodeId,
    /// The view in which the batch committed, or is prepared.
    pub view: View,
    /// The batch, if these are all replies to it for that node, or else 0.
    pub sequence: SequenceNumber,
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
    pub input: Vec<Receiver<VerifiedReads>>,
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
    /// The reads that the last step has not come to the end of, and the first row that it has not answered.
    read_in_hand: Option<(VerifiedReads, usize)>,
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
        // One that waited for its confirmation was not noted.
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
            let Some((reads, first)) = self.read_in_hand.take().or_else(|| self.receive_reads()) else { break };
            any = true;
            let table = &reads.table;
            let rows = first..table.len().min(first + rows_left);
            let bytes_left = REPLIES_PER_STEP_BYTES - bytes;
            let view = self.reads.reached.view();
            let (next, read) = self.executor.query_some(view, table, rows, bytes_left, &mut self.done);
            self.hand_on();
            bytes += read;
            rows_left -= next - first;
            if next < table.len() {
                self.read_in_hand = Some((reads, next));
            }
        }
        any
    }

    /// Whether there is room for more answers to read-only requests, of those that wait for a commitment.
    fn may_read(&self) -> bool {
        self.executor.held_read_bytes() < HELD_READS_BYTES_MAX
    }

    /// The next table of reads, from each link in turn.
    fn receive_reads(&mut self) -> Option<(VerifiedReads, usize)> {
        let links = self.reads.input.len();
        for _ in 0..links {
            self.next_read = (self.next_read + 1) % links;
            if let Some(reads) = self.reads.input[self.next_read].receive() {
                return Some((reads, 0));
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
            let is_batch = matches!(item, Work::Execute(_));
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
            if is_batch && self.answers.is_across_threads() {
                self.hand_on();
            }
        }
        self.hand_on();
        bytes
    }

    fn execute(&mut self, execution: &Execution) {
        let sampling = self.notes.sampling();
        let started = if sampling.is_on() { self.clock.now() } else { Time(0) };
        self.executor.execute(execution, &mut self.done);
        if self.executor.executed() < execution.sequence {
            return; // for want of room it waits until it is committed
        }
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
                Done::Replies { node, view, sequence, reads, tentative, replies } => {
                    // Numbers of reads are no timestamps: a read that has one's number is none of those.
                    let followed = if reads { Vec::new() } else { take_answered(&mut self.followed, &replies) };
                    answers.push(Answers { node, view, sequence, executed, reads, tentative, replies, followed });
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
mod tests;
