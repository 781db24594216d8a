//! Replies on their way out: one sheet of columns for each client node, handed over as a table once per batch.

use std::ops::Range;

use super::{Done, NO_BATCH};
use crate::columns::leading;
use crate::limits::{DIGEST_BYTES, REPLIES_BYTES_MAX, REQUESTS_MAX};
use crate::protocol::client::designated;
use crate::requests::{ReplyTable, result_digest};
use crate::types::{ClientId, Digest, NodeId, ReplicaId, SequenceNumber, Timestamp, View};

/// Which results a replica sends whole, where only the [designated] one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Designation {
    /// This replica.
    pub(super) own: ReplicaId,
    /// How many there are.
    pub(super) replicas: usize,
}

/// The replies that were not handed over yet, by client node.
pub(super) struct Replies {
    sheets: Vec<Sheet>,
    /// Whether these answer read-only requests.
    reads: bool,
    /// Whether these tell of what is not committed yet.
    tentative: bool,
    /// Set where results that are not this replica's to send go out as digests.
    designation: Option<Designation>,
    /// The sheet of the last reply. Requests come in frames of one node each, so the next reply mostly belongs there
    /// too.
    current: usize,
    /// Bytes of cached results since the last [`finish`](Self::finish).
    cached_bytes: usize,
}

/// What a row of a batch's requests gave: columns of the same length.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) clients: &'a [ClientId],
    pub(super) timestamps: &'a [Timestamp],
    /// The length of each result.
    pub(super) lengths: &'a [u32],
    /// The results, one after the other.
    pub(super) results: &'a [u8],
}

/// The replies for one client node.
struct Sheet {
    node: NodeId,
    range: Range<u32>,
    clients: Vec<ClientId>,
    timestamps: Vec<Timestamp>,
    result_ends: Vec<u32>,
    results: Vec<u8>,
    /// Which results are digests; empty as long as none is.
    digested: Vec<bool>,
    /// Whether replies to the same requests were handed over already.
    is_split: bool,
    /// Size of the last table handed over, in replies and bytes of results: the next one is likely to be like it, so
    /// its columns are allocated once.
    expected: (usize, usize),
}

impl Replies {
    /// # Panics
    /// If the ranges do not follow each other without gaps, from 0.
    pub(super) fn new(client_nodes: Vec<(NodeId, Range<u32>)>, designation: Option<Designation>) -> Self {
        let mut next = 0;
        for (node, range) in &client_nodes {
            assert_eq!(range.start, next, "client node {node}: ranges of clients leave no gaps");
            assert!(range.end >= range.start, "client node {node}: range of clients");
            next = range.end;
        }
        let sheets = client_nodes.into_iter().map(|(node, range)| Sheet::new(node, range)).collect();
        Self { sheets, reads: false, tentative: false, designation, current: 0, cached_bytes: 0 }
    }

    /// The same for answers to read-only requests.
    pub(super) fn for_reads(self) -> Self {
        Self { reads: true, ..self }
    }

    /// The same for replies to what is not committed yet.
    pub(super) fn for_tentative(self) -> Self {
        Self { tentative: true, ..self }
    }

    /// Adds a reply for each row; their clients' nodes must be known. Column by column where nothing is to be decided
    /// row by row.
    pub(super) fn push_run(&mut self, mut run: Run<'_>, view: View, out: &mut Vec<Done>) {
        while let Some(&client) = run.clients.first() {
            let row_by_row = self.designation.is_some();
            let sheet = self.sheet(client, 0, view, out);
            let Range { start, end } = sheet.range;
            let (part, rest) = run.split_at(leading(run.clients, |client| (start..end).contains(&client.0)));
            run = rest;
            if !row_by_row && sheet.has_room_for(&part) {
                sheet.extend(&part);
            } else {
                part.rows().for_each(|(client, timestamp, result)| self.push(client, timestamp, result, view, out));
            }
        }
    }

    /// Adds a reply. A result that is longer than its digest goes out as that where another replica is designated to
    /// send it.
    pub(super) fn push(
        &mut self,
        client: ClientId,
        timestamp: Timestamp,
        result: &[u8],
        view: View,
        out: &mut Vec<Done>,
    ) {
        if let Some(Designation { own, replicas }) = self.designation
            && result.len() > DIGEST_BYTES
            && designated(client, timestamp, replicas) != own
        {
            let digest = result_digest(result);
            self.sheet(client, DIGEST_BYTES, view, out).push_digest(client, timestamp, &digest);
        } else {
            self.push_whole(client, timestamp, result, view, out);
        }
    }

    /// Adds a reply with its result as it is.
    #[inline]
    fn push_whole(&mut self, client: ClientId, timestamp: Timestamp, result: &[u8], view: View, out: &mut Vec<Done>) {
        self.sheet(client, result.len(), view, out).push(client, timestamp, result);
    }

    /// The sheet of this client's node, with room for so many bytes.
    #[inline]
    fn sheet(&mut self, client: ClientId, bytes: usize, view: View, out: &mut Vec<Done>) -> &mut Sheet {
        if !self.sheets[self.current].range.contains(&client.0) {
            self.current = self.sheets.partition_point(|sheet| sheet.range.end <= client.0);
        }
        let sheet = &mut self.sheets[self.current];
        if sheet.results.len() + bytes > REPLIES_BYTES_MAX || sheet.clients.len() == REQUESTS_MAX {
            sheet.hand_over(self.reads, self.tentative, view, NO_BATCH, out);
            sheet.is_split = true;
        }
        sheet
    }

    /// Adds a reply out of the cache, always whole: who asks again may have missed the result itself. False, and it is
    /// not added, if there would be too many bytes of those.
    pub(super) fn push_cached(
        &mut self,
        client: ClientId,
        timestamp: Timestamp,
        result: &[u8],
        view: View,
        out: &mut Vec<Done>,
    ) -> bool {
        if self.cached_bytes + result.len() > REPLIES_BYTES_MAX {
            return false;
        }
        self.cached_bytes += result.len();
        self.push_whole(client, timestamp, result, view, out);
        true
    }

    /// Hands over what was added, in order of the nodes: all replies to the batch at `sequence`, if that is not
    /// [`NO_BATCH`]. Another table of requests begins.
    pub(super) fn finish(&mut self, view: View, sequence: SequenceNumber, out: &mut Vec<Done>) {
        self.cached_bytes = 0;
        for sheet in &mut self.sheets {
            let sequence = if std::mem::take(&mut sheet.is_split) { NO_BATCH } else { sequence };
            sheet.hand_over(self.reads, self.tentative, view, sequence, out);
        }
    }
}

impl<'a> Run<'a> {
    /// The first `rows` and the rest.
    fn split_at(self, rows: usize) -> (Self, Self) {
        let (lengths, after_lengths) = self.lengths.split_at(rows);
        let bytes = if after_lengths.is_empty() {
            self.results.len()
        } else {
            lengths.iter().map(|&length| length as usize).sum()
        };
        let (results, after_results) = self.results.split_at(bytes);
        let (clients, after_clients) = self.clients.split_at(rows);
        let (timestamps, after_timestamps) = self.timestamps.split_at(rows);
        let first = Self { clients, timestamps, lengths, results };
        let rest = Self {
            clients: after_clients,
            timestamps: after_timestamps,
            lengths: after_lengths,
            results: after_results,
        };
        (first, rest)
    }

    fn rows(&self) -> impl Iterator<Item = (ClientId, Timestamp, &'a [u8])> {
        let mut rest = self.results;
        self.clients.iter().zip(self.timestamps).zip(self.lengths).map(move |((&client, &timestamp), &length)| {
            let (result, after) = rest.split_at(length as usize);
            rest = after;
            (client, timestamp, result)
        })
    }
}

impl Sheet {
    const fn new(node: NodeId, range: Range<u32>) -> Self {
        Self {
            node,
            range,
            clients: Vec::new(),
            timestamps: Vec::new(),
            result_ends: Vec::new(),
            results: Vec::new(),
            digested: Vec::new(),
            is_split: false,
            expected: (0, 0),
        }
    }

    const fn has_room_for(&self, run: &Run<'_>) -> bool {
        self.results.len() + run.results.len() <= REPLIES_BYTES_MAX
            && self.clients.len() + run.clients.len() <= REQUESTS_MAX
    }

    fn extend(&mut self, run: &Run<'_>) {
        if self.clients.is_empty() {
            self.reserve();
        }
        #[allow(clippy::cast_possible_truncation, reason = "at most REPLIES_BYTES_MAX")]
        let mut end = self.results.len() as u32;
        self.clients.extend_from_slice(run.clients);
        self.timestamps.extend_from_slice(run.timestamps);
        self.results.extend_from_slice(run.results);
        self.result_ends.extend(run.lengths.iter().map(|length| {
            end += length;
            end
        }));
        if !self.digested.is_empty() {
            self.digested.resize(self.clients.len(), false);
        }
    }

    #[inline]
    fn push(&mut self, client: ClientId, timestamp: Timestamp, result: &[u8]) {
        self.push_columns(client, timestamp, result);
        if !self.digested.is_empty() {
            self.digested.push(false);
        }
    }

    #[inline]
    fn push_columns(&mut self, client: ClientId, timestamp: Timestamp, result: &[u8]) {
        if self.clients.is_empty() {
            self.reserve();
        }
        self.clients.push(client);
        self.timestamps.push(timestamp);
        self.results.extend_from_slice(result);
        #[allow(clippy::cast_possible_truncation, reason = "at most REPLIES_BYTES_MAX")]
        self.result_ends.push(self.results.len() as u32);
    }

    fn push_digest(&mut self, client: ClientId, timestamp: Timestamp, digest: &Digest) {
        if self.digested.is_empty() {
            self.digested.reserve_exact(self.expected.0.max(self.clients.len() + 1));
            self.digested.resize(self.clients.len(), false);
        }
        self.push_columns(client, timestamp, &digest.0);
        self.digested.push(true);
    }

    #[cold]
    fn reserve(&mut self) {
        let (rows, bytes) = self.expected;
        self.clients.reserve_exact(rows);
        self.timestamps.reserve_exact(rows);
        self.result_ends.reserve_exact(rows);
        self.results.reserve_exact(bytes);
    }

    fn hand_over(&mut self, reads: bool, tentative: bool, view: View, sequence: SequenceNumber, out: &mut Vec<Done>) {
        if self.clients.is_empty() {
            return;
        }
        self.expected = (self.clients.len(), self.results.len());
        // Which results are digests differs from replica to replica.
        let sequence = if self.digested.is_empty() { sequence } else { NO_BATCH };
        let replies = ReplyTable {
            clients: std::mem::take(&mut self.clients),
            timestamps: std::mem::take(&mut self.timestamps),
            result_ends: std::mem::take(&mut self.result_ends),
            results: std::mem::take(&mut self.results).into(),
            digested: std::mem::take(&mut self.digested),
        };
        out.push(Done::Replies { node: self.node, view, sequence, reads, tentative, replies });
    }
}
