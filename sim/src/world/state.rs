//! Snapshots: what the executor keeps, hands out and takes over.

use bytes::Bytes;
use hippodrome_engine::execute::Executor;
use hippodrome_engine::protocol::message::{FetchState, StateChunk};
use hippodrome_engine::protocol::pbft::Pbft;
use hippodrome_engine::types::{Digest, SequenceNumber};

use super::disk::Snapshot;

pub(super) fn keep(_executor: &mut Executor, _sequence: SequenceNumber) {}

pub(super) fn kept(_executor: &Executor, _sequence: SequenceNumber) -> Option<Snapshot> {
    None
}

pub(super) fn read(_executor: &Executor, fetch: FetchState) -> StateChunk {
    StateChunk { sequence: fetch.sequence, index: fetch.index, count: 0, bytes: Bytes::new() }
}

pub(super) fn install(_executor: &mut Executor, _sequence: SequenceNumber, _digest: Digest, _chunks: &[Bytes]) -> bool {
    false
}

pub(super) fn limit_history(_core: &mut Pbft, _batches: usize) {}
