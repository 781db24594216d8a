//! The chunks of a fetched state, from one source at a time.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use crate::limits::{STATE_BYTES_MAX, STATE_CHUNK_BYTES_MAX, STATE_CHUNKS_MAX};
use crate::protocol::message::StateChunk;
use crate::types::{Digest, ReplicaId, Time};

/// Chunks on their way from a source at a time.
const CHUNKS_OUTSTANDING: usize = 4;

/// The chunks of one source.
#[derive(Debug)]
pub(super) struct Gathering {
    pub(super) digest: Digest,
    pub(super) source: ReplicaId,
    /// Sources that were asked so far, this one included.
    pub(super) tried: u64,
    pub(super) began: Time,
    /// When it last sent something new.
    pub(super) heard: Time,
    /// When it was last asked for something again.
    pub(super) asked_again: Time,
    /// How many chunks there are, once it has said so.
    count: Option<u32>,
    /// How many it was asked for, from the first on.
    pub(super) asked: u32,
    pub(super) chunks: Vec<Bytes>,
    /// Chunks that came before the ones in front of them; fewer than [`CHUNKS_OUTSTANDING`].
    ahead: BTreeMap<u32, Bytes>,
    bytes: usize,
    /// All chunks went to the executor, which has not answered yet.
    pub(super) installing: bool,
}

impl Gathering {
    pub(super) fn new(digest: Digest, source: ReplicaId, tried: u64, now: Time) -> Self {
        Self {
            digest,
            source,
            tried,
            began: now,
            heard: now,
            asked_again: now,
            count: None,
            asked: 0,
            chunks: Vec::new(),
            ahead: BTreeMap::new(),
            bytes: 0,
            installing: false,
        }
    }

    pub(super) fn has(&self, index: u32) -> bool {
        (index as usize) < self.chunks.len() || self.ahead.contains_key(&index)
    }

    /// Whether a chunk that is not here yet is what an honest source might send.
    pub(super) const fn is_plausible(&self, chunk: &StateChunk) -> bool {
        let same_count = match self.count {
            Some(count) => count == chunk.count,
            None => true,
        };
        same_count
            && chunk.count <= STATE_CHUNKS_MAX
            && chunk.index < chunk.count
            && chunk.index < self.asked
            && chunk.bytes.len() <= STATE_CHUNK_BYTES_MAX
            && self.bytes + chunk.bytes.len() <= STATE_BYTES_MAX
    }

    /// Adds a plausible chunk. True if it was the last one.
    pub(super) fn add(&mut self, chunk: StateChunk, now: Time) -> bool {
        self.heard = now;
        self.count = Some(chunk.count);
        self.bytes += chunk.bytes.len();
        self.ahead.insert(chunk.index, chunk.bytes);
        while let Some(next) = u32::try_from(self.chunks.len()).ok().and_then(|next| self.ahead.remove(&next)) {
            self.chunks.push(next);
        }
        self.chunks.len() == chunk.count as usize
    }

    /// The indices to ask for now that were not asked for before: the first chunk alone, until it tells how many there
    /// are.
    pub(super) fn wanted(&mut self) -> Range<u32> {
        let reach = u32::try_from(self.chunks.len() + CHUNKS_OUTSTANDING).unwrap_or(u32::MAX);
        let from = self.asked;
        self.asked = from.max(self.count.map_or(1, |count| count.min(reach)));
        from..self.asked
    }
}
