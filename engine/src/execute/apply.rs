//! What a batch's requests do: which are executed, what they give, and what becomes of that.

use std::ops::Range;

use super::replies::Run;
use super::undo::Record;
use super::{Admission, Done, Executor, NOT_EXECUTED, SETTLE_BYTES};
use crate::app::execute_each;
use crate::auth::long::LongHasher;
use crate::columns::leading;
use crate::limits::RESULT_BYTES_MAX;
use crate::protocol::planted::Planted;
use crate::requests::RequestTable;
use crate::types::{ClientId, Digest, Timestamp, View};

impl Executor {
    /// Decides what happens to each request and takes note of those to execute. A loop of its own, because its loads
    /// are all independent of each other: the rows of a whole batch are on their way from memory at once and are at
    /// hand when results are stored.
    pub(super) fn admit(&mut self, requests: &RequestTable, record: Option<&mut Record>) {
        self.admissions.clear();
        if let Some(record) = record {
            self.admit_undoably(requests, record);
        } else {
            let rows = requests.clients.iter().zip(&requests.timestamps);
            self.admissions.extend(rows.map(|(&client, &timestamp)| self.state.clients.admit(client, timestamp)));
        }
        if self.planted == Some(Planted::DuplicateExecution) {
            let repeated = self.admissions.iter_mut().filter(|admission| **admission == Admission::Repeated);
            repeated.for_each(|admission| *admission = Admission::New);
        }
        if self.admissions.contains(&Admission::Repeated) {
            self.answer_once(requests);
        }
    }

    /// Leaves of those that come again in this batch one a client, and that only if the batch does not execute it.
    #[cold]
    fn answer_once(&mut self, requests: &RequestTable) {
        self.state.clients.begin_table();
        for (admission, &client) in self.admissions.iter_mut().zip(&requests.clients) {
            match admission {
                Admission::New => {
                    self.state.clients.note_answered(client);
                }
                Admission::Repeated if !self.state.clients.note_answered(client) => *admission = Admission::Answered,
                Admission::Repeated | Admission::Answered | Admission::Outdated | Admission::Unknown => {}
            }
        }
    }

    /// Executes what was admitted, caches and replies. Returns the digest of the batch's outcome: which requests were
    /// executed and the result of each, in order.
    pub(super) fn apply(
        &mut self,
        requests: &RequestTable,
        view: View,
        mut record: Option<&mut Record>,
        out: &mut Vec<Done>,
    ) -> Digest {
        let tentative = record.is_some();
        let mut hasher = LongHasher::for_context("hippodrome 2026 batch outcome");
        self.result_lengths.clear();
        let mut settled = 0;
        while self.result_lengths.len() < requests.len() {
            self.execute_some(requests, record.as_deref_mut());
            if self.results.len() >= SETTLE_BYTES {
                let executed = self.result_lengths.len();
                self.settle(requests, settled..executed, (view, tentative), &mut hasher, out);
                settled = executed;
            }
        }
        self.settle(requests, settled..requests.len(), (view, tentative), &mut hasher, out);

        // The lengths come last and their number at the very end, so the input can be read back in one way only.
        self.length_bytes.resize(self.result_lengths.len(), [0; 4]);
        let places = self.length_bytes.iter_mut().zip(&self.result_lengths);
        places.for_each(|(place, length)| *place = length.to_le_bytes());
        hasher.update(self.length_bytes.as_flattened());
        hasher.update(&(self.result_lengths.len() as u64).to_le_bytes());
        hasher.finish()
    }

    /// Executes the next run of admitted requests, up to [`SETTLE_BYTES`] of results, or notes that the next request
    /// was not admitted. Notes what it takes to undo them, if that is asked.
    fn execute_some(&mut self, requests: &RequestTable, record: Option<&mut Record>) {
        let start = self.result_lengths.len();
        let new = run_of_new(&self.admissions[start..]);
        if new == 0 {
            self.result_lengths.push(NOT_EXECUTED);
            return;
        }
        let operations = requests.operations(start..start + new);
        let (app, results, lengths) = (self.state.app.as_mut(), &mut self.results, &mut self.result_lengths);
        let before = results.len();
        match record {
            Some(record) => {
                let execute = |operation: &[u8], results: &mut Vec<u8>| record.execute(app, operation, results);
                execute_each(operations, SETTLE_BYTES, (results, lengths), execute);
            }
            None => app.execute_run(operations, SETTLE_BYTES, results, lengths),
        }
        let lengths = &self.result_lengths[start..];
        let longest = lengths.iter().copied().max().unwrap_or(0) as usize;
        let bytes: usize = lengths.iter().map(|&length| length as usize).sum();
        assert!(longest <= RESULT_BYTES_MAX, "a result of {longest} bytes: at most {RESULT_BYTES_MAX} are allowed");
        assert!(
            (1..=new).contains(&lengths.len()) && before + bytes == self.results.len(),
            "a result of each operation"
        );
    }

    /// Hashes, caches and replies the results of the requests in `rows`, which are what `results` holds.
    fn settle(
        &mut self,
        requests: &RequestTable,
        rows: Range<usize>,
        (view, tentative): (View, bool),
        hasher: &mut LongHasher,
        out: &mut Vec<Done>,
    ) {
        let mut gathered = std::mem::take(&mut self.results);
        hasher.update(&gathered);
        let mut rest = gathered.as_slice();
        let mut start = rows.start;
        while start < rows.end {
            let new = start..start + run_of_new(&self.admissions[start..rows.end]);
            let (clients, lengths) = (&requests.clients[new.clone()], &self.result_lengths[new.clone()]);
            let timestamps = &requests.timestamps[new.clone()];
            let (results, after) = rest.split_at(self.state.clients.store_run(clients, lengths, rest));
            rest = after;
            self.counters.operations += new.len() as u64;
            let run = Run { clients, timestamps, lengths, results };
            let replies = match &mut self.undo {
                Some(undo) if tentative => &mut undo.replies,
                _ => &mut self.replies,
            };
            replies.push_run(run, view, out);
            start = new.end;
            if start == rows.end {
                break;
            }
            let (client, timestamp) = (requests.clients[start], requests.timestamps[start]);
            match self.admissions[start] {
                // In order, so the cache still holds what this very request gave, even if its client's next one follows
                // in the same batch.
                Admission::Repeated => self.answer_cached(client, timestamp, view, out),
                other => self.counters.passed_over(other),
            }
            start += 1;
        }
        assert!(rest.is_empty(), "every result belongs to a request");
        gathered.clear();
        self.results = gathered;
    }

    /// Answers a client's last executed request from the cache: tentatively, in the view in which it was executed, as
    /// long as it may be undone.
    pub(super) fn answer_cached(&mut self, client: ClientId, timestamp: Timestamp, view: View, out: &mut Vec<Done>) {
        let result = self.state.clients.result(client);
        let answered = match (self.tentative_view(client), &mut self.undo) {
            (Some(view), Some(undo)) => undo.replies.push_cached(client, timestamp, result, view, out),
            _ => self.replies.push_cached(client, timestamp, result, view, out),
        };
        self.counters.recalled(answered);
    }
}

/// How many of these are new before the first that is not.
fn run_of_new(admissions: &[Admission]) -> usize {
    leading(admissions, |admission| *admission == Admission::New)
}
