//! What is answered without being ordered, from the state that the executor has come to (Castro's thesis, section
//! 5.1.3). Where that state is not committed yet, an answer waits until all is that it reflects; and a replica that has
//! undone something answers none before it has come as far again, for clients may have been told that it is done.

use std::ops::Range;

use super::{Done, Executor, NO_BATCH};
use crate::limits::RESULT_BYTES_MAX;
use crate::protocol::client::VERSION_BYTES;
use crate::requests::RequestTable;
use crate::types::View;

impl Executor {
    /// Answers no read-only requests from now on: this replica was started anew, and may have told clients of a state
    /// ahead of the one that it has. A quorum with it in the place of a correct replica would not tell of everything
    /// that was complete. It says so, and clients do without its answer.
    pub const fn refuse_reads(&mut self) {
        self.answers_reads = false;
    }

    /// Answers all read-only requests of `table`, as [`query_some`](Self::query_some) does.
    pub fn query(&mut self, view: View, table: &RequestTable, out: &mut Vec<Done>) {
        self.query_some(view, table, 0..table.len(), usize::MAX, out);
    }

    /// Answers the read-only requests in these `rows` of `table`, with `view` as the replica's view, and appends the
    /// replies to `out`. Ends early when what was read has `bytes_max` bytes; the last result may exceed that. Returns
    /// the first row that was not answered and how many bytes were read: sent whole, as a digest or not at all, they
    /// cost the same.
    ///
    /// The client table has no part in it: they are numbered apart, and to answer one twice does no harm. Each answer
    /// ends with the version of what was read; what can not be answered gets an empty one, so that nobody waits for it.
    ///
    /// # Panics
    /// If the table has no such rows.
    pub fn query_some(
        &mut self,
        view: View,
        table: &RequestTable,
        rows: Range<usize>,
        bytes_max: usize,
        out: &mut Vec<Done>,
    ) -> (usize, usize) {
        let (mut next, mut bytes) = (rows.start, 0_usize);
        let (held_from, answers) = (out.len(), self.answers_reads && self.reflects_what_it_told());
        for index in rows {
            if bytes >= bytes_max {
                break;
            }
            next = index + 1;
            let client = table.clients[index];
            if client.0 >= self.state.clients.len() {
                self.counters.unknown += 1;
                continue;
            }
            self.results.clear();
            let version = if answers { self.state.app.query(table.operation(index), &mut self.results) } else { None };
            bytes += self.results.len() + VERSION_BYTES;
            let fits = self.results.len() + VERSION_BYTES <= RESULT_BYTES_MAX;
            let Some(version) = version.filter(|_| fits) else {
                self.counters.reads_refused += 1;
                self.read_replies.push(client, table.timestamps[index], &[], view, out);
                continue;
            };
            self.results.extend_from_slice(&version.to_le_bytes());
            self.read_replies.push(client, table.timestamps[index], &self.results, view, out);
            self.counters.reads += 1;
        }
        self.results.clear();
        self.read_replies.finish(view, NO_BATCH, out);
        if answers {
            self.hold_reads(held_from, out);
        }
        (next, bytes)
    }
}
