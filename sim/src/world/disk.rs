//! A replica's disk: a log of records that become durable some time after they were written, and one snapshot.
//!
//! What was written outlives the process in the page cache of the machine, but not a power failure before it is synced:
//! by the process that wrote it, or by the recovery of the next one.

use std::collections::{BTreeSet, VecDeque};

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
    /// How many of all ever written the process knows to be durable.
    durable: usize,
    /// How many of them really are: they outlive a power failure.
    safe: usize,
    /// How many of them a process before this one has left.
    inherited: usize,
    /// Whether it is busy making some durable.
    syncing: bool,
    snapshot: Option<Snapshot>,
    /// On their way, not durable yet.
    writing: VecDeque<Snapshot>,
}

impl Disk {
    pub(super) const fn new() -> Self {
        Self {
            records: Vec::new(),
            cut: 0,
            durable: 0,
            safe: 0,
            inherited: 0,
            syncing: false,
            snapshot: None,
            writing: VecDeque::new(),
        }
    }

    /// Appends a record.
    pub(super) fn append(&mut self, record: Record) {
        self.records.push(record);
    }

    /// How many records were ever written.
    pub(super) const fn written(&self) -> usize {
        self.cut + self.records.len()
    }

    /// How many of these the process knows to be durable.
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
        self.safe = self.safe.max(records);
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
            Record::ViewChange(_) | Record::NewView(..) | Record::Suspected(_) => false,
        };
        let safe = self.safe - self.cut;
        let first = self.records[..safe].iter().position(|record| !covered(record)).unwrap_or(safe);
        self.records.drain(..first);
        self.cut += first;
        self.snapshot = Some(snapshot);
    }

    /// The process dies: of what it had not synced, a part at the front is with the machine, though not durable.
    pub(super) fn crash(&mut self, random: &mut Random) {
        let written = self.durable + random.index(self.written() - self.durable + 1);
        self.end(written);
    }

    /// The power fails: of what was not synced, a part at the front may be there all the same. What is found there
    /// afterwards was read from the disk, so it is durable. Returns how many of the records were lost that a process
    /// before the last one had left, which had outlived that one's death.
    pub(super) fn lose_power(&mut self, random: &mut Random) -> u64 {
        let left = self.safe + random.index(self.written() - self.safe + 1);
        let lost = self.inherited.min(self.written()).saturating_sub(left);
        self.end(left);
        (self.durable, self.safe) = (left, left);
        lost as u64
    }

    fn end(&mut self, left: usize) {
        self.records.truncate(left - self.cut);
        self.inherited = left;
        self.syncing = false;
        self.writing.clear();
    }

    /// What a process that is started on this disk finds. It syncs that first, or it would go on from what may still be
    /// lost: `unsynced` is the mistake of a planted bug.
    pub(super) fn recover(&mut self, unsynced: bool) -> (Checkpoint, Vec<Record>, Option<&Snapshot>) {
        self.durable = self.written();
        if !unsynced {
            self.safe = self.durable;
        }
        let saved = self.snapshot.as_ref().map_or_else(
            || Checkpoint { sequence: SequenceNumber(0), digest: Digest::default() },
            |snapshot| Checkpoint { sequence: snapshot.sequence, digest: snapshot.digest },
        );
        (saved, self.records.clone(), self.snapshot.as_ref())
    }

    /// Whether this disk would know after a power failure that this batch was prepared or decided, or, if that is
    /// enough, pre-prepared.
    pub(super) fn keeps(&self, sequence: SequenceNumber, digest: Digest, pre_prepared: bool) -> bool {
        let is_it = |record: &Record| match record {
            Record::PrePrepared(message) => {
                pre_prepared && message.sequence == sequence && message.batch.digest == digest
            }
            Record::Prepared(vote) => vote.sequence == sequence && vote.digest == digest,
            Record::Committed(at, decided) => *at == sequence && *decided == digest,
            _ => false,
        };
        self.snapshot.as_ref().is_some_and(|snapshot| snapshot.sequence >= sequence)
            || self.records[..self.safe - self.cut].iter().rev().any(is_it)
    }

    /// Of which decisions this disk would know after a power failure: all up to a sequence number, whose state it has,
    /// and single batches that it has prepared or seen decided.
    pub(super) fn outlasting(&self) -> (SequenceNumber, BTreeSet<(SequenceNumber, Digest)>) {
        let state = self.snapshot.as_ref().map_or(SequenceNumber(0), |snapshot| snapshot.sequence);
        let batches = self.records[..self.safe - self.cut].iter().filter_map(|record| match record {
            Record::Prepared(vote) => Some((vote.sequence, vote.digest)),
            Record::Committed(sequence, digest) => Some((*sequence, *digest)),
            _ => None,
        });
        (state, batches.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(records: u64) -> Disk {
        let mut disk = Disk::new();
        (1..=records).for_each(|at| disk.append(Record::Committed(SequenceNumber(at), Digest::default())));
        disk
    }

    /// A disk with `records` records, none of them synced, all of which outlived their process.
    fn left_behind(records: u64) -> (Disk, Random) {
        let mut random = Random::new(0, "disk", 0);
        let disk = std::iter::repeat_with(|| {
            let mut disk = disk(records);
            disk.crash(&mut random);
            disk
        });
        let all = usize::try_from(records).unwrap_or(0);
        let disk = disk.take(1000).find(|disk| disk.written() == all).expect("one of a thousand keeps all");
        (disk, random)
    }

    #[test]
    fn what_outlives_its_process_is_lost_with_the_power_unless_a_recovery_syncs_it() {
        let (mut disk, mut random) = left_behind(4);
        assert_eq!(disk.outlasting().1.len(), 0);
        let _ = disk.recover(true);
        assert_eq!((disk.durable(), disk.outlasting().1.len()), (4, 0), "a mistaken recovery takes it for durable");
        let lost = std::iter::repeat_with(|| left_behind(4).0).take(50).map(|mut disk| disk.lose_power(&mut random));
        assert!(lost.max() > Some(0));

        let (mut disk, mut random) = left_behind(4);
        let _ = disk.recover(false);
        assert_eq!(disk.outlasting().1.len(), 4);
        assert_eq!(disk.lose_power(&mut random), 0);
        assert_eq!(disk.recover(false).1.len(), 4);
    }

    #[test]
    fn what_was_synced_outlives_everything() {
        let (mut disk, mut random) = (disk(5), Random::new(1, "disk", 0));
        let records = disk.begin_sync().expect("there is something to sync");
        disk.append(Record::Committed(SequenceNumber(6), Digest::default()));
        disk.synced(records);
        disk.crash(&mut random);
        disk.lose_power(&mut random);
        assert!(disk.written() >= 5);
    }
}
