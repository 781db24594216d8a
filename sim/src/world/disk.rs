//! A replica's disk: a log of records that become durable some time after they were written, and one snapshot.

use std::collections::VecDeque;

use hippodrome_engine::execute::Snapshot;
use hippodrome_engine::protocol::Record;
use hippodrome_engine::protocol::message::Checkpoint;
use hippodrome_engine::types::{Digest, SequenceNumber};

use crate::random::Random;

/// What is on the disk, and what is on its way there.
pub(super) struct Disk {
    /// All records that were written and not cut off behind a snapshot.
    records: Vec<Record>,
    /// How many were cut off.
    cut: usize,
    /// How many of all ever written are durable.
    durable: usize,
    /// Whether it is busy making some durable.
    syncing: bool,
    snapshot: Option<Snapshot>,
    /// On their way, not durable yet.
    writing: VecDeque<Snapshot>,
}

impl Disk {
    pub(super) const fn new() -> Self {
        Self { records: Vec::new(), cut: 0, durable: 0, syncing: false, snapshot: None, writing: VecDeque::new() }
    }

    /// Appends a record.
    pub(super) fn append(&mut self, record: Record) {
        self.records.push(record);
    }

    /// How many records were ever written.
    pub(super) const fn written(&self) -> usize {
        self.cut + self.records.len()
    }

    /// How many of these are durable.
    pub(super) const fn durable(&self) -> usize {
        self.durable
    }

    /// Begins to make everything durable that was written, if there is anything and nothing is under way: up to which
    /// record.
    pub(super) fn begin_sync(&mut self) -> Option<usize> {
        if self.syncing || self.durable == self.written() {
            return None;
        }
        self.syncing = true;
        Some(self.written())
    }

    /// Records up to this number are durable.
    pub(super) fn synced(&mut self, records: usize) {
        self.syncing = false;
        self.durable = self.durable.max(records);
    }

    /// Begins to write a snapshot.
    pub(super) fn write_snapshot(&mut self, snapshot: Snapshot) {
        self.writing.push_back(snapshot);
    }

    /// Whether a snapshot is being written.
    pub(super) fn is_writing_snapshot(&self) -> bool {
        !self.writing.is_empty()
    }

    /// The oldest snapshot under way is durable: what it covers is cut off the front of the log, as far as nothing else
    /// is in between.
    pub(super) fn snapshot_written(&mut self) {
        let Some(snapshot) = self.writing.pop_front() else { return };
        if self.snapshot.as_ref().is_some_and(|newest| newest.sequence >= snapshot.sequence) {
            return;
        }
        let covered = |record: &Record| match record {
            Record::PrePrepared(message) => message.sequence <= snapshot.sequence,
            Record::Prepared(vote) => vote.sequence <= snapshot.sequence,
            Record::Committed(sequence, _) => *sequence <= snapshot.sequence,
            Record::Stable(checkpoint) => checkpoint.sequence <= snapshot.sequence,
            Record::ViewChange(_) | Record::NewView(..) => false,
        };
        let durable = self.durable - self.cut;
        let first = self.records[..durable].iter().position(|record| !covered(record)).unwrap_or(durable);
        self.records.drain(..first);
        self.cut += first;
        self.snapshot = Some(snapshot);
    }

    /// The process dies: of what was not durable yet, a part at the front may be there all the same.
    pub(super) fn crash(&mut self, random: &mut Random) {
        let survive = self.durable - self.cut + random.index(self.written() - self.durable + 1);
        self.records.truncate(survive);
        self.durable = self.written();
        self.syncing = false;
        self.writing.clear();
    }

    /// What a process that is started on this disk finds.
    pub(super) fn recover(&self) -> (Checkpoint, Vec<Record>, Option<&Snapshot>) {
        let saved = self.snapshot.as_ref().map_or_else(
            || Checkpoint { sequence: SequenceNumber(0), digest: Digest::default() },
            |snapshot| Checkpoint { sequence: snapshot.sequence, digest: snapshot.digest },
        );
        (saved, self.records.clone(), self.snapshot.as_ref())
    }
}
