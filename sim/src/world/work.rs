//! The execute stage: takes up one thing after the other, and answers the core and the clients.

use hippodrome_engine::execute::Done;
use hippodrome_engine::protocol::Input;
use hippodrome_engine::protocol::client::VERSION_BYTES;
use hippodrome_engine::requests::{ReplyTable, RequestTable};
use hippodrome_engine::settings::options::Replies;
use hippodrome_engine::types::{Digest, SequenceNumber, View};

use super::event::{Event, Reply};
use super::replica::Work;
use super::{Endpoint, World};
use crate::trace::{requests, short};

/// How long the executor takes for one thing, at least and at most.
const WORK_NS: (u64, u64) = (5_000, 150_000);
/// How long its answers take to the core, at most.
const FEEDBACK_NS: u64 = 20_000;

impl World<'_> {
    /// Puts something at the end of an executor's queue.
    pub(super) fn work(&mut self, at: usize, work: Work) {
        let Some(process) = &mut self.replicas[at].process else { return };
        process.work.push_back(work);
        if process.work.len() == 1 {
            self.take_up(at);
        }
    }

    /// Puts something behind what an executor is at, or at the end of its queue.
    pub(super) fn work_at(&mut self, at: usize, work: Work, first: bool) {
        match &mut self.replicas[at].process {
            Some(process) if first && !process.work.is_empty() => process.work.insert(1, work),
            _ => self.work(at, work),
        }
    }

    fn take_up(&mut self, at: usize) {
        let replica = &mut self.replicas[at];
        let takes = replica.random.range(WORK_NS.0, WORK_NS.1);
        self.queue.push(self.now + takes, Event::Worked { at, life: replica.life });
    }

    /// The executor is done with what is in front of its queue.
    pub(super) fn worked(&mut self, at: usize) {
        let Some(process) = &mut self.replicas[at].process else { return };
        let Some(work) = process.work.pop_front() else { return };
        let more = !process.work.is_empty();
        let mut done = Vec::new();
        match work {
            Work::Execute(execution) if execution.tentative => return self.execute_tentatively(at, execution, more),
            Work::Execute(execution) => return self.execute(at, &execution, more),
            Work::Confirm(sequence) => return self.confirm(at, sequence, more),
            Work::RollBack(to) => return self.roll_back(at, to, more),
            Work::Query(view, table) => return self.query(at, view, &table, more),
            Work::Recall(view, table) => process.executor.recall(view, &table, &mut done),
            Work::Keep(sequence) => {
                process.executor.keep(sequence);
                if let Some(shadow) = &mut process.shadow {
                    shadow.keep(sequence);
                }
            }
            Work::Read(to, fetch) => {
                let chunk = match &process.shadow {
                    Some(shadow) => {
                        self.coverage.lies += 1;
                        shadow.read(fetch)
                    }
                    None => process.executor.read(fetch.sequence, fetch.index),
                };
                self.answer(at, Input::StateRead(to, chunk));
            }
            Work::Install(sequence, digest, chunks) => {
                let several = chunks.len() > 1;
                let good = process.executor.install(sequence, digest, chunks);
                self.coverage.states_of_chunks += u64::from(good && several);
                self.installed(at, sequence, digest, good);
            }
        }
        self.settle(at, done, more);
    }

    /// Answers read-only requests.
    fn query(&mut self, at: usize, view: View, table: &RequestTable, more: bool) {
        let replica = &self.replicas[at];
        let (honest, who) = (replica.is_honest(), replica.id);
        let stale = replica.behaviour.as_ref().is_some_and(|faulty| faulty.stale_reads);
        let by = if stale { self.farthest_behind().unwrap_or(at) } else { at };
        self.coverage.lies += u64::from(by != at);
        let Some(process) = &mut self.replicas[by].process else { return };
        let mut done = Vec::new();
        process.executor.query(view, table, &mut done);
        let executed = process.executor.executed();
        if process.executor.confirmed() < executed {
            process.tentative.asked(table);
        }
        let replies = done.iter().filter_map(|done| match done {
            Done::Replies { replies, .. } if honest => Some(replies),
            _ => None,
        });
        for replies in replies {
            for (index, result) in answers(replies) {
                let number = replies.timestamps[index];
                let asked = table.timestamps.iter().position(|timestamp| *timestamp == number).unwrap_or_default();
                self.checks.answered_read(who, executed, table.operation(asked), result);
            }
        }
        self.settle(at, done, more);
    }

    /// The honest replica that has executed least and answers.
    fn farthest_behind(&self) -> Option<usize> {
        // Its answers must not wait for anything there.
        let executed = |at: usize| {
            let executor = self.replicas[at].process.as_ref().map(|process| &process.executor)?;
            Some(executor.executed()).filter(|executed| executor.confirmed() == *executed)
        };
        let honest =
            (0..self.replicas.len()).filter(|at| self.replicas[*at].is_correct() && self.replicas[*at].life == 1);
        honest.filter_map(|at| Some((executed(at)?, at))).min().map(|(_, at)| at)
    }

    fn execute(&mut self, at: usize, execution: &hippodrome_engine::protocol::Execution, more: bool) {
        let replica = &self.replicas[at];
        let (honest, id, name) = (replica.is_honest(), replica.id, replica.name());
        let table = &execution.batch.requests;
        let (sequence, digest) = (execution.sequence, execution.batch.digest);
        self.trace.line(&name, || format!("** executes s{sequence} {} {}", short(&digest), requests(table)));
        self.trace.count(u64::from_le_bytes(digest.0[..8].try_into().unwrap_or_default()));
        if honest {
            let prover = &self.prover;
            self.checks.executing(id, execution, |index| prover.is_valid(table, index));
        }
        let Some(process) = &mut self.replicas[at].process else { return };
        let mut done = Vec::new();
        process.executor.execute(execution, &mut done);
        if let Some(shadow) = &mut process.shadow {
            shadow.execute(execution);
        }
        if honest {
            self.checks.executed(id, sequence, process.executor.ledger());
            self.checks.client_table(id, sequence, || process.executor.clients());
        }
        self.settle(at, done, more);
    }

    fn installed(&mut self, at: usize, sequence: SequenceNumber, digest: Digest, good: bool) {
        let (honest, id, name) = (self.replicas[at].is_honest(), self.replicas[at].id, self.replicas[at].name());
        self.trace.line(&name, || format!("** takes over the state at s{sequence} {}: {good}", short(&digest)));
        if good {
            self.write_snapshot(at, sequence); // the log alone does not lead there
        }
        if good && honest {
            self.checks.state(id, sequence, digest);
        }
        self.answer(at, Input::StateInstalled { sequence, good });
    }

    /// Hands on what the executor said, and takes up the next thing.
    pub(super) fn settle(&mut self, at: usize, done: Vec<Done>, more: bool) {
        for done in done {
            match done {
                Done::Replies { view, sequence, replies, .. }
                    if sequence.0 > 0 && self.plan.replies == Replies::BatchDigest =>
                {
                    self.reply_to_batch(at, view, sequence, replies);
                }
                Done::Replies { view, reads, tentative, replies, .. } => {
                    self.reply(at, view, (reads, tentative), &replies);
                }
                Done::Executed(sequence) => self.answer(at, Input::Executed(sequence)),
                Done::Checkpoint(sequence, digest) => {
                    let replica = &self.replicas[at];
                    if replica.is_honest() {
                        self.checks.state(replica.id, sequence, digest);
                    }
                    self.answer(at, Input::CheckpointTaken(sequence, digest));
                }
                Done::NotExecuted(table) => self.answer(at, Input::NotExecuted(table)),
            }
        }
        if more {
            self.take_up(at);
        }
    }

    /// Tells the core, in order.
    fn answer(&mut self, at: usize, input: Input) {
        let replica = &mut self.replicas[at];
        let Some(process) = &mut replica.process else { return };
        process.answered = process.answered.max(self.now + replica.random.below(FEEDBACK_NS));
        self.queue.push(process.answered, Event::Feedback { at, life: replica.life, input: Box::new(input) });
    }

    fn reply(&mut self, at: usize, view: View, (reads, tentative): (bool, bool), replies: &ReplyTable) {
        let replica = &self.replicas[at];
        let (from, honest, twin) = (replica.id, replica.is_honest(), replica.twin);
        let corrupts = replica.corrupts_replies();
        let sender = Endpoint::replica(from, twin);
        for index in 0..replies.len() {
            let (client, timestamp) = (replies.clients[index], replies.timestamps[index]);
            let mut result = replies.result(index).to_vec();
            let is_digest = replies.is_digest(index);
            if honest && tentative {
                self.told_tentatively(at, client, timestamp, &result, is_digest);
            } else if honest && !reads {
                self.checks.replied(from, client, timestamp, &result, is_digest);
            }
            // A liar tells of what it has only prepared, if at all, as if it were committed.
            let says_tentative = tentative && (honest || self.replicas[at].random.chance(500));
            self.coverage.lies += u64::from(says_tentative != tentative);
            if corrupts {
                self.coverage.lies += 1;
                if is_digest {
                    result[0] ^= 1;
                } else {
                    result.push(0xBA);
                }
            }
            if !self.twins.deal(from.0, twin, Endpoint::CLIENTS) {
                continue;
            }
            for arrival in self.network.arrivals(self.now, sender, Endpoint::CLIENTS).into_iter().flatten() {
                let result = result.clone();
                let tentative = says_tentative;
                let reply = Reply { from, view, client, timestamp, result, is_digest, reads, tentative };
                self.queue.push(arrival, Event::Reply(reply));
            }
        }
    }
}

/// The answers among replies to read-only requests, without their versions: which, and what they give.
pub(super) fn answers(replies: &ReplyTable) -> impl Iterator<Item = (usize, &[u8])> {
    let whole = (0..replies.len()).filter(|index| !replies.is_digest(*index));
    whole.filter_map(|index| Some((index, replies.result(index).split_last_chunk::<VERSION_BYTES>()?.0)))
}
