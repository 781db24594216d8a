//! What was executed for each logical client: the table that makes execution exactly-once, with the replies kept to be
//! sent again.

use crate::limits::RESULT_BYTES_MAX;
use crate::short;
use crate::types::{ClientId, Digest, Timestamp};

/// Clients whose rows are hashed together.
const PAGE_CLIENTS: usize = 256;
/// Results up to this size lie in the row itself; it makes a row one cache line.
const INLINE_BYTES: usize = 44;

/// What the table says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Newer than all that its client had executed.
    New,
    /// The client's last executed one again: its reply is cached.
    Repeated,
    /// That one once more in the same table: it is answered there already.
    Answered,
    /// Older than that (or with timestamp 0, which no request has).
    Outdated,
    /// The client is not in the table.
    Unknown,
}

/// A client's row. All of it is touched together, at random places of the table, hence one line and not one column
/// each.
#[derive(Clone)]
#[repr(align(64))]
struct Row {
    last_timestamp: u64,
    executed: u64,
    result_length: u32,
    inline: [u8; INLINE_BYTES],
}

const _: () = assert!(size_of::<Row>() == 64);

/// A client's row, as a snapshot has it.
pub(super) struct ClientRow<'a> {
    pub(super) client: u32,
    pub(super) last_timestamp: u64,
    pub(super) executed: u64,
    pub(super) result: &'a [u8],
}

/// The client table: one row per logical client, and a digest that costs in proportion to the pages that changed.
///
/// Part of the checkpointed state, cached results included: a replica that takes over a checkpoint must be able to
/// answer what it did not execute itself. Memory: 94 bytes a client, and for clients whose results exceed 44 bytes
/// their largest result so far.
pub struct ClientTable {
    rows: Vec<Row>,
    /// Results longer than [`INLINE_BYTES`], by client; the buffers are used again and again.
    long_results: Vec<Vec<u8>>,
    /// Whether a page changed since its digest was computed.
    dirty: Vec<bool>,
    /// By client, the last table of requests in which it is answered from the cache; see
    /// [`note_answered`](Self::note_answered). No part of the state.
    answered_in: Vec<u32>,
    table: u32,
    page_digests: Vec<Digest>,
    /// A page in the form that is hashed; kept to be used again.
    scratch: Vec<u8>,
}

impl ClientTable {
    /// A table of `clients` clients, none of which had anything executed.
    #[must_use]
    pub fn new(clients: u32) -> Self {
        let clients = clients as usize;
        let pages = clients.div_ceil(PAGE_CLIENTS);
        let row = Row { last_timestamp: 0, executed: 0, result_length: 0, inline: [0; INLINE_BYTES] };
        Self {
            rows: vec![row; clients],
            long_results: vec![Vec::new(); clients],
            dirty: vec![true; pages],
            answered_in: vec![0; clients],
            table: 0,
            page_digests: vec![Digest::default(); pages],
            scratch: Vec::new(),
        }
    }

    /// What to do with a request.
    #[must_use]
    pub fn probe(&self, client: ClientId, timestamp: Timestamp) -> Admission {
        self.rows.get(client.0 as usize).map_or(Admission::Unknown, |row| admission(row, timestamp))
    }

    /// What to do with a request; a [`Admission::New`] one is now the client's last. The caller owes its result:
    /// [`store`](Self::store) follows, in the order of admission.
    pub fn admit(&mut self, client: ClientId, timestamp: Timestamp) -> Admission {
        let Some(row) = self.rows.get_mut(client.0 as usize) else { return Admission::Unknown };
        let admission = admission(row, timestamp);
        if admission == Admission::New {
            row.last_timestamp = timestamp.0;
            row.executed += 1;
        }
        admission
    }

    /// Another table of requests begins: every client may be answered again.
    pub(super) fn begin_table(&mut self) {
        self.table = self.table.wrapping_add(1);
        if self.table == 0 {
            self.answered_in.fill(0);
            self.table = 1;
        }
    }

    /// Notes that the client's last request is answered in the table that has [begun](Self::begin_table). False if it
    /// is already, or if there is no such client. Of a client only one request is answered from the cache, so that a
    /// table full of copies, or of old requests of one client, is answered once.
    pub(super) fn note_answered(&mut self, client: ClientId) -> bool {
        let table = self.table;
        self.answered_in.get_mut(client.0 as usize).is_some_and(|answered_in| {
            let is_first = *answered_in != table;
            *answered_in = table;
            is_first
        })
    }

    /// Keeps the result of an admitted request.
    ///
    /// # Panics
    /// If the client is not in the table.
    #[inline]
    pub fn store(&mut self, client: ClientId, result: &[u8]) {
        let index = client.0 as usize;
        let row = &mut self.rows[index];
        #[allow(clippy::cast_possible_truncation, reason = "at most RESULT_BYTES_MAX")]
        {
            row.result_length = result.len() as u32;
        }
        if let Some(inline) = row.inline.get_mut(..result.len()) {
            short::copy(result, inline);
        } else {
            let long = &mut self.long_results[index];
            long.clear();
            long.extend_from_slice(result);
        }
        self.dirty[index / PAGE_CLIENTS] = true;
    }

    /// Keeps the results of admitted requests, of these lengths and one after the other at the start of `results`.
    /// Returns how many bytes they have.
    ///
    /// # Panics
    /// If a client is not in the table.
    pub(super) fn store_run(&mut self, clients: &[ClientId], lengths: &[u32], results: &[u8]) -> usize {
        let mut start = 0;
        for (&client, &length) in clients.iter().zip(lengths) {
            let end = start + length as usize;
            self.store(client, &results[start..end]);
            start = end;
        }
        start
    }

    /// The cached result of the client's last executed request; empty if there is none.
    ///
    /// # Panics
    /// If the client is not in the table.
    #[must_use]
    pub fn result(&self, client: ClientId) -> &[u8] {
        let index = client.0 as usize;
        let row = &self.rows[index];
        row.inline.get(..row.result_length as usize).unwrap_or(&self.long_results[index])
    }

    /// How many clients there are.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "made of a u32")]
    pub const fn len(&self) -> u32 {
        self.rows.len() as u32
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows of the clients of which anything was executed, in order of their ids.
    pub(super) fn rows(&self) -> impl Iterator<Item = ClientRow<'_>> {
        let executed = (0..).zip(&self.rows).filter(|(_, row)| row.last_timestamp > 0);
        executed.map(|(client, row)| ClientRow {
            client,
            last_timestamp: row.last_timestamp,
            executed: row.executed,
            result: self.result(ClientId(client)),
        })
    }

    /// Writes a row of another table. `false` if no table has one like it.
    pub(super) fn restore_row(&mut self, client: u32, last_timestamp: u64, executed: u64, result: &[u8]) -> bool {
        let Some(row) = self.rows.get_mut(client as usize) else { return false };
        if last_timestamp == 0 || result.len() > RESULT_BYTES_MAX {
            return false;
        }
        row.last_timestamp = last_timestamp;
        row.executed = executed;
        self.store(ClientId(client), result);
        true
    }

    /// The row of a client, if it is in the table.
    pub(super) fn row(&self, client: ClientId) -> Option<ClientRow<'_>> {
        let row = self.rows.get(client.0 as usize)?;
        let Row { last_timestamp, executed, .. } = *row;
        Some(ClientRow { client: client.0, last_timestamp, executed, result: self.result(client) })
    }

    /// Writes back what a row was, all zero and empty if nothing had been executed for its client.
    ///
    /// # Panics
    /// If the client is not in the table.
    pub(super) fn put_back(&mut self, before: &ClientRow<'_>) {
        let row = &mut self.rows[before.client as usize];
        row.last_timestamp = before.last_timestamp;
        row.executed = before.executed;
        self.store(ClientId(before.client), before.result);
    }

    /// Two columns over all clients: operations executed, and the timestamp of the last one.
    #[must_use]
    pub fn columns(&self) -> (Vec<u64>, Vec<u64>) {
        self.rows.iter().map(|row| (row.executed, row.last_timestamp)).unzip()
    }

    /// The digest over all rows and cached results: BLAKE3 over the digests of the pages. Only pages that changed since
    /// the last call are hashed again.
    pub fn digest(&mut self) -> Digest {
        for page in 0..self.dirty.len() {
            if std::mem::take(&mut self.dirty[page]) {
                self.page_digests[page] = self.page_digest(page);
            }
        }
        let mut hasher = blake3::Hasher::new_derive_key("hippodrome 2026 client table");
        hasher.update(&(self.rows.len() as u64).to_le_bytes());
        for digest in &self.page_digests {
            hasher.update(&digest.0);
        }
        hasher.finalize().into()
    }

    /// The digest of one page: fixed-width columns first (timestamps, executed operations, lengths), then the results.
    fn page_digest(&mut self, page: usize) -> Digest {
        let start = page * PAGE_CLIENTS;
        let end = self.rows.len().min(start + PAGE_CLIENTS);
        let rows = &self.rows[start..end];
        let bytes = &mut self.scratch;
        bytes.clear();
        bytes.extend(rows.iter().flat_map(|row| row.last_timestamp.to_le_bytes()));
        bytes.extend(rows.iter().flat_map(|row| row.executed.to_le_bytes()));
        bytes.extend(rows.iter().flat_map(|row| row.result_length.to_le_bytes()));
        for (row, long) in rows.iter().zip(&self.long_results[start..end]) {
            bytes.extend_from_slice(row.inline.get(..row.result_length as usize).unwrap_or(long));
        }
        let mut hasher = blake3::Hasher::new_derive_key("hippodrome 2026 client table page");
        hasher.update(bytes);
        hasher.finalize().into()
    }
}

const fn admission(row: &Row, timestamp: Timestamp) -> Admission {
    if timestamp.0 > row.last_timestamp {
        Admission::New
    } else if timestamp.0 == row.last_timestamp && timestamp.0 > 0 {
        Admission::Repeated
    } else {
        Admission::Outdated
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn execute(table: &mut ClientTable, client: u32, timestamp: u64, result: &[u8]) {
        assert_eq!(table.admit(ClientId(client), Timestamp(timestamp)), Admission::New);
        table.store(ClientId(client), result);
    }

    #[test]
    fn a_request_is_new_then_repeated_then_outdated() {
        let mut table = ClientTable::new(3);
        let client = ClientId(2);
        execute(&mut table, 2, 5, b"five");
        assert_eq!(table.probe(client, Timestamp(5)), Admission::Repeated);
        assert_eq!(table.admit(client, Timestamp(5)), Admission::Repeated);
        assert_eq!(table.admit(client, Timestamp(4)), Admission::Outdated);
        assert_eq!(table.probe(client, Timestamp(6)), Admission::New);
        assert_eq!(table.result(client), b"five");
        assert_eq!(table.columns(), (vec![0, 0, 1], vec![0, 0, 5]));
    }

    #[test]
    fn timestamp_zero_and_unknown_clients_are_never_executed() {
        let mut table = ClientTable::new(1);
        assert_eq!(table.admit(ClientId(0), Timestamp(0)), Admission::Outdated);
        assert_eq!(table.admit(ClientId(1), Timestamp(1)), Admission::Unknown);
        assert_eq!(table.probe(ClientId(u32::MAX), Timestamp(1)), Admission::Unknown);
    }

    #[test]
    fn everything_in_a_row_shows_in_the_digest() {
        let digest = |timestamp, result: &[u8]| {
            let mut table = ClientTable::new(300);
            execute(&mut table, 299, timestamp, result);
            table.digest()
        };
        let long = [7; INLINE_BYTES + 1];
        let mut digests = vec![digest(1, b""), digest(2, b""), digest(1, b"\0"), digest(1, b"\0\0"), digest(1, &long)];
        digests.push(ClientTable::new(300).digest());
        digests.push(ClientTable::new(301).digest());
        let all = digests.len();
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), all);
    }

    proptest! {
        /// Long and short results in turn, digests taken in between: the incremental digest equals one from scratch,
        /// and the last result is kept.
        #[test]
        fn the_incremental_digest_equals_one_from_scratch(
            steps in prop::collection::vec(
                (0u32..600, prop::collection::vec(any::<u8>(), 0..100), any::<bool>()),
                1..80,
            ),
        ) {
            let mut table = ClientTable::new(600);
            let mut scratch = ClientTable::new(600);
            for (timestamp, (client, result, take_digest)) in (1..).zip(&steps) {
                execute(&mut table, *client, timestamp, result);
                execute(&mut scratch, *client, timestamp, result);
                prop_assert_eq!(table.result(ClientId(*client)), result);
                if *take_digest {
                    table.digest();
                }
            }
            prop_assert_eq!(table.digest(), scratch.digest());
        }
    }
}
