//! What a new view starts from: a pure function of the view-changes that it rests on (Castro & Liskov, TOCS'02, section
//! 4.4), with Q and f + 1 in place of the paper's 2f + 1 and f + 1. The primary and every backup compute it for
//! themselves.

use std::collections::{BTreeMap, BTreeSet};

use crate::limits::{PRE_PREPARED_MAX, WINDOW_MAX};
use crate::protocol::message::{Checkpoint, ViewChange, Vote};
use crate::quorum::Quorums;
use crate::requests::Batch;
use crate::types::{Digest, SequenceNumber, View};

/// Where a new view starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    /// The checkpoint that it starts from: what lies at or below is settled. A weak quorum vouches for its digest (the
    /// initial state, at 0, has none).
    pub(super) stable: Checkpoint,
    /// The digests of the sequence numbers that follow it, one each without a gap; that of the null request where
    /// nothing can have been decided.
    pub(super) assigned: Vec<Digest>,
}

impl Decision {
    /// The assignments, with their sequence numbers.
    pub(super) fn assignments(&self) -> impl Iterator<Item = (SequenceNumber, Digest)> + '_ {
        (self.stable.sequence.0 + 1..).map(SequenceNumber).zip(self.assigned.iter().copied())
    }

    /// The last sequence number that is settled or assigned.
    pub(super) const fn last(&self) -> SequenceNumber {
        SequenceNumber(self.stable.sequence.0 + self.assigned.len() as u64)
    }
}

/// Whether a view-change is one that a correct replica could send, as far as itself shows: checkpoints aligned and
/// between its watermarks, entries in order, within its window and of views before its own. The stable checkpoint need
/// not be among the checkpoints: a replica may have gone on behind one whose state it does not have (see `transfer`).
pub(super) fn is_well_formed(change: &ViewChange, window: u64, interval: u64) -> bool {
    let low = change.stable.0;
    let Some(high) = low.checked_add(window) else { return false };
    let in_window = |sequence: SequenceNumber| sequence.0 > low && sequence.0 <= high;
    let aligned = |sequence: SequenceNumber| sequence.0.is_multiple_of(interval);
    let checkpoints = &change.checkpoints;
    let entry_is_right = |entry: &Vote| in_window(entry.sequence) && entry.view < change.view;
    let key = |entry: &Vote| (entry.sequence, entry.digest);
    let few_at_each = change
        .pre_prepared
        .windows(PRE_PREPARED_MAX + 1)
        .all(|entries| entries[0].sequence != entries[PRE_PREPARED_MAX].sequence);
    change.view > View(0)
        && aligned(change.stable)
        && checkpoints.iter().all(|c| aligned(c.sequence) && c.sequence.0 >= low.max(1) && c.sequence.0 <= high)
        && checkpoints.is_sorted_by(|a, b| a.sequence < b.sequence)
        && change.prepared.iter().all(entry_is_right)
        && change.prepared.is_sorted_by(|a, b| a.sequence < b.sequence)
        && change.pre_prepared.iter().all(entry_is_right)
        && change.pre_prepared.is_sorted_by(|a, b| key(a) < key(b))
        && few_at_each
}

/// What a new view on these view-changes (of distinct replicas, to the same view) starts from. `None` if they are too
/// few, or leave open what may have been decided somewhere: more of them are needed then.
///
/// Those of all correct replicas always suffice. The highest checkpoint that is stable at one of them has been left
/// behind by none, and is vouched for by f + 1, since of Q replicas that shared it so many are correct and a
/// view-change tells of every checkpoint of its sender from its low watermark on. What lies above is open to all of
/// them, so a batch that was prepared there meets condition A, and where none was, B holds.
///
/// The lowest checkpoint that leads to a decision is taken. Every one is safe, but the state at a high one may be had
/// from nobody: of the f + 1 that vouch for it f may lie, and the one that does not may have passed it. What follows a
/// low one is proposed again, at most two windows, and no vote on it is missing.
pub(super) fn decide(quorums: Quorums, changes: &[&ViewChange]) -> Option<Decision> {
    if changes.len() < quorums.quorum() {
        return None;
    }
    checkpoints(quorums, changes).into_iter().find_map(|stable| decide_from(stable, quorums, changes))
}

/// What a new view that starts from this checkpoint assigns, if these view-changes tell.
fn decide_from(stable: Checkpoint, quorums: Quorums, changes: &[&ViewChange]) -> Option<Decision> {
    let open: BTreeSet<SequenceNumber> = changes
        .iter()
        .flat_map(|change| &change.prepared)
        .map(|entry| entry.sequence)
        .filter(|sequence| *sequence > stable.sequence)
        .collect();
    let mut chosen = BTreeMap::new();
    for sequence in open {
        if let Some(digest) = assignment(quorums, changes, sequence)? {
            chosen.insert(sequence, digest);
        }
    }
    let last = chosen.keys().next_back().copied().unwrap_or(stable.sequence);
    // With at most f faulty replicas the span is two windows at most; beyond that nothing here is to be relied on.
    if last.0 - stable.sequence.0 > 4 * WINDOW_MAX {
        return None;
    }
    let null = Batch::null().digest;
    // Where no view-change tells of anything prepared, none of the Q that start at or below the checkpoint has.
    let digest = |sequence| chosen.get(&SequenceNumber(sequence)).copied().unwrap_or(null);
    let assigned = (stable.sequence.0 + 1..=last.0).map(digest).collect();
    Some(Decision { stable, assigned })
}

/// The checkpoints that a weak quorum vouches for and that a quorum has not left behind, from the lowest on: a correct
/// replica has executed everything up to there, and nothing that is decided above can be missing from all view-changes.
fn checkpoints(quorums: Quorums, changes: &[&ViewChange]) -> Vec<Checkpoint> {
    let reached = |sequence| changes.iter().filter(|change| change.stable <= sequence).count() >= quorums.quorum();
    let mut vouchers: BTreeMap<(SequenceNumber, Digest), usize> = BTreeMap::new();
    for checkpoint in changes.iter().flat_map(|change| &change.checkpoints) {
        *vouchers.entry((checkpoint.sequence, checkpoint.digest)).or_default() += 1;
    }
    // Everybody has had the initial state.
    vouchers.insert((SequenceNumber(0), Digest::default()), changes.len());
    let candidates =
        vouchers.into_iter().filter(|((sequence, _), count)| *count >= quorums.weak() && reached(*sequence));
    candidates.map(|((sequence, digest), _)| Checkpoint { sequence, digest }).collect()
}

/// What may have been decided at `sequence`: `Some(Some(digest))` by condition A, `Some(None)` if nothing can have been
/// by condition B, `None` if these view-changes do not tell.
fn assignment(quorums: Quorums, changes: &[&ViewChange], sequence: SequenceNumber) -> Option<Option<Digest>> {
    let entries: Vec<Option<Vote>> = changes.iter().map(|change| prepared_at(change, sequence)).collect();
    let mut candidates: Vec<Vote> = entries.iter().flatten().copied().collect();
    candidates.sort_unstable_by_key(|entry| (std::cmp::Reverse(entry.view), entry.digest));
    candidates.dedup();
    let open_to = |change: &&ViewChange| change.stable < sequence;
    for candidate in candidates {
        // A1: a quorum has prepared nothing else there in that view or a later one.
        let compatible = |entry: &Option<Vote>| {
            entry.is_none_or(|other| other.view < candidate.view || other.digest == candidate.digest)
        };
        let a1 = changes.iter().zip(&entries).filter(|(change, entry)| open_to(change) && compatible(entry)).count();
        // A2: a correct replica has pre-prepared it there in that view or a later one, so it is no invention.
        let tells = |change: &&&ViewChange| {
            let mut of_sequence = pre_prepared_at(change, sequence);
            of_sequence.any(|entry| entry.digest == candidate.digest && entry.view >= candidate.view)
        };
        let a2 = changes.iter().filter(tells).count();
        if a1 >= quorums.quorum() && a2 >= quorums.weak() {
            return Some(Some(candidate.digest));
        }
    }
    // B: a quorum has prepared nothing there.
    let b = changes.iter().zip(&entries).filter(|(change, entry)| open_to(change) && entry.is_none()).count();
    (b >= quorums.quorum()).then_some(None)
}

fn prepared_at(change: &ViewChange, sequence: SequenceNumber) -> Option<Vote> {
    let index = change.prepared.binary_search_by_key(&sequence, |entry| entry.sequence).ok()?;
    Some(change.prepared[index])
}

fn pre_prepared_at(change: &ViewChange, sequence: SequenceNumber) -> impl Iterator<Item = &Vote> {
    let start = change.pre_prepared.partition_point(|entry| entry.sequence < sequence);
    change.pre_prepared[start..].iter().take_while(move |entry| entry.sequence == sequence)
}

#[cfg(test)]
#[path = "tests/decision.rs"]
mod tests;
