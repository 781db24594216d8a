//! Tentative execution: batches are executed once they are prepared, and undone if a view change decides otherwise
//! (Castro & Liskov, OSDI'99, section 5.1; TOCS'02, section 5.1.2).
//!
//! Of each batch that is not confirmed yet this keeps what it overwrote: rows of the client table with their results,
//! and whatever the application needs. The paper goes back to the last checkpoint, and so needs a copy of all that has
//! changed since; here the last confirmed batch is enough, and what is kept is gone as soon as a batch is confirmed.
//!
//! A checkpoint is taken of confirmed state alone: the protocol hands out nothing beyond one that is not confirmed.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use super::client_table::ClientRow;
use super::replies::Replies;
use super::{Admission, Done, Executor, NO_BATCH};
use crate::app::Application;
use crate::limits::UNDO_BYTES_MAX;
use crate::protocol::Execution;
use crate::protocol::planted::Planted;
use crate::requests::{ReplyTable, RequestTable};
use crate::types::{ClientId, SequenceNumber, View};

/// Bytes that a row takes beside its result.
const ROW_BYTES: usize = 4 + 3 * 8 + size_of::<usize>();

/// What is executed and not confirmed.
pub(super) struct Undo {
    /// Batches that were executed tentatively, oldest first.
    records: VecDeque<Record>,
    /// Those after them for which there was no room: they are executed when they are confirmed.
    deferred: VecDeque<Execution>,
    /// What `records` take.
    bytes: usize,
    bytes_max: usize,
    /// By client, the last batch that changed its row tentatively, unless it was undone.
    changed_at: Vec<SequenceNumber>,
    /// Replies that tell of what is not confirmed.
    pub(super) replies: Replies,
    /// Answers to read-only requests, each with the batch that it reflects, and which must be confirmed before it
    /// leaves.
    held: VecDeque<(SequenceNumber, Done)>,
    held_bytes: usize,
    /// Behind this, no read-only request is answered: clients may know of what has been undone here.
    reads_from: SequenceNumber,
}

/// What one batch has overwritten.
pub(super) struct Record {
    execution: Execution,
    /// Rows of the client table, in the order in which they were overwritten.
    clients: Vec<ClientId>,
    last_timestamps: Vec<u64>,
    executed: Vec<u64>,
    changed_at: Vec<SequenceNumber>,
    result_ends: Vec<usize>,
    results: Vec<u8>,
    /// What the application has noted, operation by operation.
    application: Vec<u8>,
    application_ends: Vec<usize>,
}

impl Undo {
    /// Nothing executed for `clients` clients.
    pub(super) fn new(clients: u32, replies: Replies) -> Self {
        Self {
            records: VecDeque::new(),
            deferred: VecDeque::new(),
            bytes: 0,
            bytes_max: UNDO_BYTES_MAX,
            changed_at: vec![SequenceNumber(0); clients as usize],
            replies: replies.for_tentative(),
            held: VecDeque::new(),
            held_bytes: 0,
            reads_from: SequenceNumber(0),
        }
    }

    /// The last confirmed batch, if one after it was executed.
    fn confirmed(&self) -> Option<SequenceNumber> {
        self.records.front().map(|record| SequenceNumber(record.execution.sequence.0 - 1))
    }

    /// The view in which what is not confirmed was executed, and replies tell of it: all of it in the same one, since
    /// whoever leaves a view undoes what is left.
    fn view(&self) -> Option<View> {
        self.records.back().map(|record| record.execution.view)
    }
}

impl Record {
    fn new(execution: &Execution) -> Self {
        let rows = execution.batch.requests.len();
        Self {
            execution: execution.clone(),
            clients: Vec::with_capacity(rows),
            last_timestamps: Vec::with_capacity(rows),
            executed: Vec::with_capacity(rows),
            changed_at: Vec::with_capacity(rows),
            result_ends: Vec::with_capacity(rows),
            results: Vec::new(),
            application: Vec::new(),
            application_ends: Vec::with_capacity(rows),
        }
    }

    /// Executes an operation, and notes what the application needs to undo it.
    pub(super) fn execute(&mut self, app: &mut dyn Application, operation: &[u8], results: &mut Vec<u8>) {
        app.execute_undoably(operation, results, &mut self.application);
        self.application_ends.push(self.application.len());
    }

    fn bytes(&self) -> usize {
        self.clients.len() * ROW_BYTES + self.results.len() + self.application.len()
    }

    /// How many it has executed.
    const fn operations(&self) -> u64 {
        self.application_ends.len() as u64
    }

    /// Each row as it was, last one first.
    fn rows(&self) -> impl Iterator<Item = (ClientRow<'_>, SequenceNumber)> {
        (0..self.clients.len()).rev().map(|index| {
            let row = ClientRow {
                client: self.clients[index].0,
                last_timestamp: self.last_timestamps[index],
                executed: self.executed[index],
                result: &self.results[range_of(&self.result_ends, index)],
            };
            (row, self.changed_at[index])
        })
    }
}

/// Where the bytes of number `index` lie, of those that end at `ends`.
fn range_of(ends: &[usize], index: usize) -> Range<usize> {
    index.checked_sub(1).map_or(0, |before| ends[before])..ends[index]
}

impl Executor {
    /// Executes a batch that is prepared, and sends tentative replies; if there is no room for what that would take to
    /// undo, it waits for its confirmation.
    ///
    /// # Panics
    /// If this executor does not execute tentatively, if the batch is not the next one, or if it lies beyond a
    /// checkpoint that is not confirmed: these are our own errors.
    pub(super) fn execute_tentatively(&mut self, execution: &Execution, out: &mut Vec<Done>) {
        let before = SequenceNumber(execution.sequence.0 - 1);
        let at_checkpoint = before.0.is_multiple_of(self.checkpoint_interval);
        assert!(!at_checkpoint || self.confirmed() == before, "replica {}: beyond a checkpoint", self.own);
        let own = self.own;
        let room = self.room_for(&execution.batch.requests);
        let undo = self.undo.as_mut().expect("an executor of a cluster with tentative execution");
        if !room || !undo.deferred.is_empty() {
            let last = undo.deferred.back().map_or(self.state.ledger.sequence(), |last| last.sequence);
            assert_eq!(execution.sequence, last.next(), "replica {own}: batch out of order");
            undo.deferred.push_back(execution.clone());
            return;
        }
        assert!(undo.view().is_none_or(|view| view == execution.view), "replica {own}: two views at a time");
        self.run_tentatively(execution, out);
    }

    /// The batch at this sequence number, which was handed over as a tentative one, is committed. What the default
    /// order of things does at once follows now: the batch is reported, a checkpoint is taken where one is due, and
    /// answers to read-only requests leave that reflect it.
    ///
    /// # Panics
    /// If it is not the first one that is not confirmed.
    pub fn confirm(&mut self, sequence: SequenceNumber, out: &mut Vec<Done>) {
        let own = self.own;
        let undo = self.undo.as_mut().expect("an executor of a cluster with tentative execution");
        if let Some(record) = undo.records.pop_front() {
            assert_eq!(record.execution.sequence, sequence, "replica {own}: confirmed out of order");
            undo.bytes -= record.bytes();
        } else {
            let execution = undo.deferred.pop_front();
            let execution = execution.unwrap_or_else(|| panic!("replica {own}: nothing to confirm at {sequence}"));
            assert_eq!(execution.sequence, sequence, "replica {own}: confirmed out of order");
            self.run(&execution, None, out);
        }
        self.complete(sequence, out);
        self.release_reads(sequence, out);
    }

    /// Undoes all batches above `to`. Answers to read-only requests that reflect them are not given.
    ///
    /// # Panics
    /// If `to` is below what is confirmed.
    pub fn roll_back(&mut self, to: SequenceNumber, out: &mut Vec<Done>) {
        assert!(to >= self.confirmed(), "replica {}: nothing confirmed is undone", self.own);
        let executed = self.executed();
        while self.executed() > to && self.undo_last().is_some() {
            self.counters.rolled_back += 1;
        }
        let Some(undo) = &mut self.undo else { return };
        undo.deferred.retain(|execution| execution.sequence <= to);
        if executed > to {
            undo.reads_from = executed.max(undo.reads_from);
        }
        while undo.held.back().is_some_and(|(sequence, _)| *sequence > to) {
            let Some((_, answers)) = undo.held.pop_back() else { break };
            undo.held_bytes -= answers.reply_bytes();
            out.push(without_answers(answers));
        }
    }

    /// The highest sequence number that is executed and can not be undone.
    #[must_use]
    pub fn confirmed(&self) -> SequenceNumber {
        self.undo.as_ref().and_then(|undo| undo.confirmed()).unwrap_or(self.executed())
    }

    /// Bytes of the answers to read-only requests that wait until what they reflect is confirmed.
    #[must_use]
    pub fn held_read_bytes(&self) -> usize {
        self.undo.as_ref().map_or(0, |undo| undo.held_bytes)
    }

    /// Keeps at most so many bytes to undo executions: for tests, whose batches are small.
    #[cfg(test)]
    pub(super) fn limit_undo(&mut self, bytes: usize) {
        self.undo.as_mut().expect("an executor of a cluster with tentative execution").bytes_max = bytes;
    }

    /// Does something with the confirmed state, and executes the others again: their replies have been sent.
    pub(super) fn at_confirmed<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let undone: Vec<Execution> = std::iter::from_fn(|| self.undo_last()).collect();
        let done = work(self);
        for execution in undone.iter().rev() {
            self.run_tentatively(execution, &mut Vec::new());
        }
        done
    }

    /// The columns of the client table (operations executed, last timestamp) as they were after what is confirmed.
    pub(super) fn confirmed_columns(&self) -> (Vec<u64>, Vec<u64>) {
        let (mut executed, mut last_timestamps) = self.state.clients.columns();
        let records = self.undo.iter().flat_map(|undo| undo.records.iter().rev());
        for (row, _) in records.flat_map(Record::rows) {
            executed[row.client as usize] = row.executed;
            last_timestamps[row.client as usize] = row.last_timestamp;
        }
        (executed, last_timestamps)
    }

    /// Operations and batches that are executed and not confirmed, null requests not counted.
    pub(super) fn unconfirmed(&self) -> (u64, u64) {
        let records = self.undo.iter().flat_map(|undo| &undo.records);
        records.fold((0, 0), |(operations, batches), record| {
            (operations + record.operations(), batches + u64::from(!record.execution.batch.is_null()))
        })
    }

    /// In which view the last request of this client was executed tentatively; `None` if that is confirmed.
    pub(super) fn tentative_view(&self, client: ClientId) -> Option<View> {
        let undo = self.undo.as_ref()?;
        let changed_at = *undo.changed_at.get(client.0 as usize)?;
        undo.view().filter(|_| undo.confirmed().is_some_and(|confirmed| changed_at > confirmed))
    }

    /// Whether read-only requests may be answered, as far as it is known what clients were told before.
    pub(super) fn reflects_what_it_told(&self) -> bool {
        self.undo.as_ref().is_none_or(|undo| self.executed() >= undo.reads_from)
    }

    /// Hands over cached replies that are tentative, if any.
    pub(super) fn finish_tentative(&mut self, out: &mut Vec<Done>) {
        if let Some(undo) = &mut self.undo
            && let Some(view) = undo.view()
        {
            undo.replies.finish(view, NO_BATCH, out);
        }
    }

    /// Holds back the answers to read-only requests that are in `out` from `start` on, until what they reflect is
    /// confirmed.
    pub(super) fn hold_reads(&mut self, start: usize, out: &mut Vec<Done>) {
        let sequence = self.executed();
        let Some(undo) = self.undo.as_mut().filter(|undo| !undo.records.is_empty()) else { return };
        for answers in out.drain(start..) {
            undo.held_bytes += answers.reply_bytes();
            undo.held.push_back((sequence, answers));
        }
    }

    fn release_reads(&mut self, confirmed: SequenceNumber, out: &mut Vec<Done>) {
        let Some(undo) = &mut self.undo else { return };
        while undo.held.front().is_some_and(|(sequence, _)| *sequence <= confirmed) {
            let Some((_, answers)) = undo.held.pop_front() else { break };
            undo.held_bytes -= answers.reply_bytes();
            out.push(answers);
        }
    }

    fn run_tentatively(&mut self, execution: &Execution, out: &mut Vec<Done>) {
        let mut record = Record::new(execution);
        self.run(execution, Some(&mut record), out);
        if let Some(undo) = &mut self.undo {
            undo.bytes += record.bytes();
            undo.records.push_back(record);
        }
    }

    /// Whether there is room for the rows that a batch may overwrite.
    fn room_for(&self, requests: &RequestTable) -> bool {
        let Some(undo) = &self.undo else { return false };
        let row = |client: &ClientId| self.state.clients.row(*client).map_or(0, |row| ROW_BYTES + row.result.len());
        let mut bytes = undo.bytes;
        requests.clients.iter().all(|client| {
            bytes += row(client);
            bytes <= undo.bytes_max
        })
    }

    /// Undoes the last batch that is not confirmed, and hands it back; `None` if there is none.
    fn undo_last(&mut self) -> Option<Execution> {
        let undo = self.undo.as_mut()?;
        let record = undo.records.pop_back()?;
        undo.bytes -= record.bytes();
        let operations = record.application_ends.len();
        let undone = if self.planted == Some(Planted::RollBackForgotten) { 0 } else { operations };
        for index in (0..undone).rev() {
            self.state.app.undo(&record.application[range_of(&record.application_ends, index)]);
        }
        for (row, changed_at) in record.rows() {
            undo.changed_at[row.client as usize] = changed_at;
            self.state.clients.put_back(&row);
        }
        self.state.ledger.truncate(SequenceNumber(record.execution.sequence.0 - 1));
        self.counters.operations -= record.operations();
        self.counters.batches -= u64::from(!record.execution.batch.is_null());
        Some(record.execution)
    }

    /// As [`admit`](Self::admit), and notes the row of each request that is to be executed.
    pub(super) fn admit_undoably(&mut self, requests: &RequestTable, record: &mut Record) {
        let Some(undo) = &mut self.undo else { return };
        for (&client, &timestamp) in requests.clients.iter().zip(&requests.timestamps) {
            if self.state.clients.probe(client, timestamp) == Admission::New
                && let Some(row) = self.state.clients.row(client)
            {
                record.clients.push(client);
                record.last_timestamps.push(row.last_timestamp);
                record.executed.push(row.executed);
                record.results.extend_from_slice(row.result);
                record.result_ends.push(record.results.len());
                let changed_at = &mut undo.changed_at[client.0 as usize];
                record.changed_at.push(std::mem::replace(changed_at, record.execution.sequence));
            }
            self.admissions.push(self.state.clients.admit(client, timestamp));
        }
    }
}

/// The same answers as those of a replica that gives none.
fn without_answers(answers: Done) -> Done {
    match answers {
        Done::Replies { node, view, sequence, reads, tentative, replies } => {
            let result_ends = vec![0; replies.len()];
            let replies = ReplyTable { result_ends, results: Bytes::new(), digested: Vec::new(), ..replies };
            Done::Replies { node, view, sequence, reads, tentative, replies }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
