//! Snapshots that are kept for replicas that fell behind, and those that are still to be taken.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use crate::limits::{HISTORY_BATCHES_MAX, REPLICAS_MAX, SNAPSHOTS_KEPT_MAX, STATE_CHUNKS_MAX};
use crate::protocol::message::StateChunk;
use crate::types::{Digest, SequenceNumber};

/// The state at one sequence number, as chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The last sequence number that it reflects.
    pub sequence: SequenceNumber,
    /// The digest of the state (not of the chunks).
    pub digest: Digest,
    /// The chunks, in order, each at most [`STATE_CHUNK_BYTES_MAX`](crate::limits::STATE_CHUNK_BYTES_MAX). Shared: a
    /// clone copies none of them.
    pub chunks: Vec<Bytes>,
}

/// The snapshots of one executor.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Coming checkpoints to be kept.
    wanted: BTreeSet<SequenceNumber>,
    /// Oldest first; at most [`SNAPSHOTS_KEPT_MAX`].
    snapshots: VecDeque<Snapshot>,
}

impl Kept {
    /// Wishes for a snapshot. One wish for each replica is the most that is remembered.
    pub(super) fn want(&mut self, sequence: SequenceNumber) {
        if self.wanted.len() < REPLICAS_MAX {
            self.wanted.insert(sequence);
        }
    }

    /// Whether a snapshot is wanted now that `sequence` was executed. Forgets that wish, older ones, and snapshots that
    /// are of no use to a laggard any more: nobody keeps the batches after them.
    pub(super) fn reach(&mut self, sequence: SequenceNumber) -> bool {
        let wanted = self.wanted.remove(&sequence);
        self.wanted.retain(|wanted| *wanted > sequence);
        self.snapshots.retain(|kept| kept.sequence.0.saturating_add(HISTORY_BATCHES_MAX as u64) > sequence.0);
        wanted
    }

    /// Keeps a snapshot; the oldest one goes if there are too many.
    pub(super) fn keep(&mut self, snapshot: Snapshot) {
        self.snapshots.retain(|kept| kept.sequence != snapshot.sequence);
        self.snapshots.push_back(snapshot);
        while self.snapshots.len() > SNAPSHOTS_KEPT_MAX {
            self.snapshots.pop_front();
        }
    }

    /// The snapshot at `sequence`.
    pub(super) fn get(&self, sequence: SequenceNumber) -> Option<&Snapshot> {
        self.snapshots.iter().find(|kept| kept.sequence == sequence)
    }

    /// Chunk `index` of the snapshot at `sequence`; without one, an empty chunk with a count of 0.
    pub(super) fn read(&self, sequence: SequenceNumber, index: u32) -> StateChunk {
        let found = self.get(sequence).and_then(|kept| {
            let count = u32::try_from(kept.chunks.len()).ok().filter(|count| *count <= STATE_CHUNKS_MAX)?;
            Some((count, kept.chunks.get(index as usize)?.clone()))
        });
        let (count, bytes) = found.unwrap_or_default();
        StateChunk { sequence, index, count, bytes }
    }
}
