//! Replies on their way out: one sheet of columns for each client node, handed over as a table once per batch.

use std::ops::Range;

use super::Done;
use crate::limits::{REPLIES_BYTES_MAX, REQUESTS_MAX};
use crate::requests::ReplyTable;
use crate::types::{ClientId, NodeId, Timestamp, View};

/// The replies that were not handed over yet, by client node.
pub(super) struct Replies {
    sheets: Vec<Sheet>,
    /// The sheet of the last reply. Requests come in frames of one node each, so the next reply mostly belongs there
    /// too.
    current: usize,
    /// Bytes of cached results since the last [`finish`](Self::finish).
    cached_bytes: usize,
}

/// The replies for one client node.
struct Sheet {
    node: NodeId,
    range: Range<u32>,
    clients: Vec<ClientId>,
    timestamps: Vec<Timestamp>,
    result_ends: Vec<u32>,
    results: Vec<u8>,
    /// Size of the last table handed over, in replies and bytes of results: the next one is likely to be like it, so
    /// its columns are allocated once.
    expected: (usize, usize),
}

impl Replies {
    /// # Panics
    /// If the ranges do not follow each other without gaps, from 0.
    pub(super) fn new(client_nodes: Vec<(NodeId, Range<u32>)>) -> Self {
        let mut next = 0;
        for (node, range) in &client_nodes {
            assert_eq!(range.start, next, "client node {node}: ranges of clients leave no gaps");
            assert!(range.end >= range.start, "client node {node}: range of clients");
            next = range.end;
        }
        let sheets = client_nodes.into_iter().map(|(node, range)| Sheet::new(node, range)).collect();
        Self { sheets, current: 0, cached_bytes: 0 }
    }

    /// Adds a reply; its client's node must be known.
    #[inline]
    pub(super) fn push(
        &mut self,
        client: ClientId,
        timestamp: Timestamp,
        result: &[u8],
        view: View,
        out: &mut Vec<Done>,
    ) {
        if !self.sheets[self.current].range.contains(&client.0) {
            self.current = self.sheets.partition_point(|sheet| sheet.range.end <= client.0);
        }
        let sheet = &mut self.sheets[self.current];
        if sheet.results.len() + result.len() > REPLIES_BYTES_MAX || sheet.clients.len() == REQUESTS_MAX {
            sheet.hand_over(view, out);
        }
        sheet.push(client, timestamp, result);
    }

    /// Adds a reply out of the cache. False, and it is not added, if there would be too many bytes of those.
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
        self.push(client, timestamp, result, view, out);
        true
    }

    /// Hands over what was added, in order of the nodes. Another table of requests begins.
    pub(super) fn finish(&mut self, view: View, out: &mut Vec<Done>) {
        self.cached_bytes = 0;
        for sheet in &mut self.sheets {
            sheet.hand_over(view, out);
        }
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
            expected: (0, 0),
        }
    }

    #[inline]
    fn push(&mut self, client: ClientId, timestamp: Timestamp, result: &[u8]) {
        if self.clients.is_empty() {
            self.reserve();
        }
        self.clients.push(client);
        self.timestamps.push(timestamp);
        self.results.extend_from_slice(result);
        #[allow(clippy::cast_possible_truncation, reason = "at most REPLIES_BYTES_MAX")]
        self.result_ends.push(self.results.len() as u32);
    }

    #[cold]
    fn reserve(&mut self) {
        let (rows, bytes) = self.expected;
        self.clients.reserve_exact(rows);
        self.timestamps.reserve_exact(rows);
        self.result_ends.reserve_exact(rows);
        self.results.reserve_exact(bytes);
    }

    fn hand_over(&mut self, view: View, out: &mut Vec<Done>) {
        if self.clients.is_empty() {
            return;
        }
        self.expected = (self.clients.len(), self.results.len());
        let replies = ReplyTable {
            clients: std::mem::take(&mut self.clients),
            timestamps: std::mem::take(&mut self.timestamps),
            result_ends: std::mem::take(&mut self.result_ends),
            results: std::mem::take(&mut self.results).into(),
        };
        out.push(Done::Replies { node: self.node, view, replies });
    }
}
