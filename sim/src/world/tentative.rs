//! What an executor has executed before it was committed: it is confirmed, and only then compared with what others have
//! executed, or undone.

use std::collections::{BTreeMap, VecDeque};

use hippodrome_engine::execute::Done;
use hippodrome_engine::protocol::Execution;
use hippodrome_engine::requests::RequestTable;
use hippodrome_engine::types::{ClientId, SequenceNumber, Timestamp};

use super::World;
use super::work::answers;
use crate::trace::{requests, short};

/// What one process has not confirmed.
#[derive(Default)]
pub(super) struct Tentative {
    executions: VecDeque<Execution>,
    /// What clients were told of these: whom, of which operation, the result, and whether it is a digest.
    told: Vec<(ClientId, Timestamp, Vec<u8>, bool)>,
    /// Operations of read-only requests whose answers may wait for a confirmation.
    asked: BTreeMap<(ClientId, Timestamp), Vec<u8>>,
}

impl Tentative {
    /// Read-only requests are being answered.
    pub(super) fn asked(&mut self, table: &RequestTable) {
        for index in 0..table.len() {
            let number = (table.clients[index], table.timestamps[index]);
            self.asked.insert(number, table.operation(index).to_vec());
        }
    }

    /// Takes out what clients were told of this batch.
    fn take_told(&mut self, table: &RequestTable) -> Vec<(ClientId, Timestamp, Vec<u8>, bool)> {
        let is_in = |client, timestamp| {
            table.clients.iter().zip(&table.timestamps).any(|(one, other)| (*one, *other) == (client, timestamp))
        };
        let (of_batch, others) =
            std::mem::take(&mut self.told).into_iter().partition(|(client, timestamp, ..)| is_in(*client, *timestamp));
        self.told = others;
        of_batch
    }
}

impl World<'_> {
    /// An executor takes up a batch that is prepared.
    pub(super) fn execute_tentatively(&mut self, at: usize, execution: Execution, more: bool) {
        let replica = &self.replicas[at];
        let (honest, name) = (replica.is_honest(), replica.name());
        let (sequence, digest) = (execution.sequence, execution.batch.digest);
        let table = &execution.batch.requests;
        self.trace.line(&name, || format!("** tries s{sequence} {} {}", short(&digest), requests(table)));
        self.trace.count(u64::from_le_bytes(digest.0[..8].try_into().unwrap_or_default()));
        if honest {
            self.checks.executing_tentatively(&execution);
            self.coverage.tentative += 1;
        }
        let Some(process) = &mut self.replicas[at].process else { return };
        let mut done = Vec::new();
        process.executor.execute(&execution, &mut done);
        process.tentative.executions.push_back(execution);
        self.settle(at, done, more);
    }

    /// What an executor has executed first of that is committed.
    pub(super) fn confirm(&mut self, at: usize, sequence: SequenceNumber, more: bool) {
        let replica = &mut self.replicas[at];
        let (honest, id, name) = (replica.is_honest(), replica.id, replica.name());
        self.trace.line(&name, || format!("** confirms s{sequence}"));
        self.trace.count(sequence.0);
        let Some(process) = &mut replica.process else { return };
        let execution = process.tentative.executions.pop_front().expect("what is confirmed was executed");
        assert_eq!(execution.sequence, sequence, "{name} confirms in order");
        let told = process.tentative.take_told(&execution.batch.requests);
        let mut done = Vec::new();
        process.executor.confirm(sequence, &mut done);
        if let Some(shadow) = &mut process.shadow {
            shadow.execute(&execution);
        }
        if honest {
            let (prover, table) = (&self.prover, &execution.batch.requests);
            self.checks.executing(id, &execution, |index| prover.is_valid(table, index));
            self.checks.executed(id, sequence, process.executor.ledger());
            self.checks.client_table(id, sequence, || process.executor.clients());
            for (client, timestamp, result, is_digest) in told {
                self.checks.replied(id, client, timestamp, &result, is_digest);
            }
            for done in &done {
                let Done::Replies { reads: true, replies, .. } = done else { continue };
                for (index, result) in answers(replies) {
                    let number = (replies.clients[index], replies.timestamps[index]);
                    let Some(operation) = process.tentative.asked.get(&number) else { continue };
                    self.checks.answered_read(id, sequence, operation, result);
                }
            }
        }
        self.settle(at, done, more);
    }

    /// What an executor has executed above `to` comes to nothing.
    pub(super) fn roll_back(&mut self, at: usize, to: SequenceNumber, more: bool) {
        let replica = &mut self.replicas[at];
        let (honest, name) = (replica.is_honest(), replica.name());
        self.trace.line(&name, || format!("** rolls back to s{to}"));
        self.trace.count(to.0);
        let Some(process) = &mut replica.process else { return };
        while process.tentative.executions.back().is_some_and(|last| last.sequence > to) {
            let Some(execution) = process.tentative.executions.pop_back() else { break };
            process.tentative.take_told(&execution.batch.requests);
            self.coverage.rolled_back += u64::from(honest);
        }
        let mut done = Vec::new();
        process.executor.roll_back(to, &mut done);
        self.settle(at, done, more);
    }

    /// An honest replica tells a client of what it has not confirmed: whether that was right is seen when it does.
    pub(super) fn told_tentatively(
        &mut self,
        at: usize,
        client: ClientId,
        timestamp: Timestamp,
        result: &[u8],
        is_digest: bool,
    ) {
        if let Some(process) = &mut self.replicas[at].process {
            process.tentative.told.push((client, timestamp, result.to_vec(), is_digest));
        }
    }
}
