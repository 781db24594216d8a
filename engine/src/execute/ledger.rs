//! The ledger: a hash chain over executed batches and their results. Replicas whose ledgers agree at a sequence number
//! executed the same requests, in the same order, with the same results, up to there.

use crate::limits::LEDGER_RETAINED;
use crate::types::{Digest, SequenceNumber};

/// The hash chain: `ledger(i) = BLAKE3(ledger(i − 1) | i | digest of batch i | digest of its outcome)`.
///
/// Views are left out on purpose: after a view change replicas may have committed one batch in different views.
pub struct Ledger {
    sequence: SequenceNumber,
    /// The first sequence number whose digest is known: 0, or where the state was taken over.
    first: SequenceNumber,
    /// The digest after sequence number s is at s mod [`LEDGER_RETAINED`]; grows to that length, then turns over.
    digests: Vec<Digest>,
}

impl Default for Ledger {
    /// The empty ledger at sequence number 0.
    fn default() -> Self {
        let genesis = blake3::Hasher::new_derive_key("hippodrome 2026 ledger").finalize().into();
        Self::at(SequenceNumber(0), genesis)
    }
}

impl Ledger {
    /// A ledger that has `digest` after `sequence`. What came before is not known.
    #[must_use]
    pub fn at(sequence: SequenceNumber, digest: Digest) -> Self {
        let slots = sequence.0.saturating_add(1).min(LEDGER_RETAINED as u64);
        #[allow(clippy::cast_possible_truncation, reason = "at most LEDGER_RETAINED")]
        let mut digests = vec![Digest::default(); slots as usize];
        digests[slot(sequence)] = digest;
        Self { sequence, first: sequence, digests }
    }

    /// Adds the batch at `sequence`.
    ///
    /// # Panics
    /// If `sequence` is not the next one.
    pub fn append(&mut self, sequence: SequenceNumber, batch: &Digest, outcome: &Digest) {
        assert_eq!(sequence, self.sequence.next(), "the ledger has no gaps");
        let mut hasher = blake3::Hasher::new_derive_key("hippodrome 2026 ledger");
        hasher.update(&self.digest().0);
        hasher.update(&sequence.0.to_le_bytes());
        hasher.update(&batch.0);
        hasher.update(&outcome.0);
        let digest = hasher.finalize().into();
        if self.digests.len() < LEDGER_RETAINED {
            self.digests.push(digest);
        } else {
            self.digests[slot(sequence)] = digest;
        }
        self.sequence = sequence;
    }

    /// Forgets the batches above `to`, fewer than [`LEDGER_RETAINED`].
    ///
    /// # Panics
    /// If the digest after `to` is not known any more.
    pub(super) fn truncate(&mut self, to: SequenceNumber) {
        assert!(self.digest_at(to).is_some(), "the ledger goes back to what it still knows");
        // What the forgotten ones have taken the places of is not known any more.
        let oldest = self.sequence.0.saturating_add(1).saturating_sub(LEDGER_RETAINED as u64);
        self.first = self.first.max(SequenceNumber(oldest));
        #[allow(clippy::cast_possible_truncation, reason = "at most LEDGER_RETAINED")]
        self.digests.truncate(to.0.saturating_add(1).min(LEDGER_RETAINED as u64) as usize);
        self.sequence = to;
    }

    /// The last sequence number, 0 if there is none.
    #[must_use]
    pub const fn sequence(&self) -> SequenceNumber {
        self.sequence
    }

    /// The digest after the last batch.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digests[slot(self.sequence)]
    }

    /// The digest after `sequence` (0: the empty ledger's), or `None` if it lies ahead, is no longer kept or was never
    /// known.
    #[must_use]
    pub fn digest_at(&self, sequence: SequenceNumber) -> Option<Digest> {
        let age = self.sequence.0.checked_sub(sequence.0)?;
        (age < LEDGER_RETAINED as u64 && sequence >= self.first).then(|| self.digests[slot(sequence)])
    }
}

#[allow(clippy::cast_possible_truncation, reason = "less than LEDGER_RETAINED")]
const fn slot(sequence: SequenceNumber) -> usize {
    (sequence.0 % LEDGER_RETAINED as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u64) -> Digest {
        blake3::hash(&n.to_le_bytes()).into()
    }

    #[test]
    fn the_chain_depends_on_every_part_and_on_the_past() {
        let end = |batches: &[(u64, u64)]| {
            let mut ledger = Ledger::default();
            for (sequence, (batch, outcome)) in (1..).zip(batches) {
                ledger.append(SequenceNumber(sequence), &digest(*batch), &digest(*outcome));
            }
            ledger.digest()
        };
        assert_eq!(end(&[(1, 2), (3, 4)]), end(&[(1, 2), (3, 4)]));
        for other in [&[(9, 2), (3, 4)][..], &[(1, 9), (3, 4)], &[(1, 2), (3, 9)], &[(3, 4), (1, 2)], &[(1, 2)]] {
            assert_ne!(end(&[(1, 2), (3, 4)]), end(other));
        }
    }

    #[test]
    fn the_newest_digests_are_kept_and_no_others() {
        let mut ledger = Ledger::default();
        let genesis = ledger.digest();
        let last = 2 * LEDGER_RETAINED as u64 + 10;
        let mut digests = vec![genesis];
        for sequence in 1..=last {
            ledger.append(SequenceNumber(sequence), &digest(sequence), &digest(0));
            digests.push(ledger.digest());
            let kept = if sequence < LEDGER_RETAINED as u64 { Some(genesis) } else { None };
            assert_eq!(ledger.digest_at(SequenceNumber(0)), kept);
        }
        let oldest = last - LEDGER_RETAINED as u64 + 1;
        assert_eq!(ledger.digest_at(SequenceNumber(oldest - 1)), None);
        for sequence in oldest..=last {
            assert_eq!(ledger.digest_at(SequenceNumber(sequence)), Some(digests[sequence as usize]));
        }
        assert_eq!(ledger.digest_at(SequenceNumber(last + 1)), None);
    }

    #[test]
    fn a_ledger_that_was_cut_goes_on_like_one_that_never_had_more() {
        let retained = LEDGER_RETAINED as u64;
        for to in [0, 3, retained - 2, retained - 1, retained, 2 * retained + 5] {
            for more in [1, 100] {
                let (mut cut, mut plain) = (Ledger::default(), Ledger::default());
                for sequence in 1..=to {
                    cut.append(SequenceNumber(sequence), &digest(sequence), &digest(0));
                    plain.append(SequenceNumber(sequence), &digest(sequence), &digest(0));
                }
                for sequence in to + 1..=to + more {
                    cut.append(SequenceNumber(sequence), &digest(sequence), &digest(1));
                }
                cut.truncate(SequenceNumber(to));
                assert_eq!((cut.sequence(), cut.digest()), (plain.sequence(), plain.digest()));
                for sequence in to + 1..=to + 200 {
                    cut.append(SequenceNumber(sequence), &digest(sequence), &digest(0));
                    plain.append(SequenceNumber(sequence), &digest(sequence), &digest(0));
                    assert_eq!(cut.digest(), plain.digest());
                }
                let oldest = (to + more + 1).saturating_sub(retained);
                for sequence in 0..=to + 200 {
                    let known = cut.digest_at(SequenceNumber(sequence));
                    let right = plain.digest_at(SequenceNumber(sequence));
                    assert!(known == right || (known.is_none() && sequence < oldest), "{sequence} of {to}, {more}");
                }
            }
        }
    }

    #[test]
    fn a_ledger_that_was_taken_over_goes_on_alike_and_knows_nothing_older() {
        for start in [0, 1, LEDGER_RETAINED as u64 - 1, LEDGER_RETAINED as u64, 3 * LEDGER_RETAINED as u64 + 7] {
            let mut ledger = Ledger::default();
            for sequence in 1..=start {
                ledger.append(SequenceNumber(sequence), &digest(sequence), &digest(0));
            }
            let mut taken_over = Ledger::at(SequenceNumber(start), ledger.digest());
            for sequence in start + 1..start + 2 * LEDGER_RETAINED as u64 {
                for ledger in [&mut ledger, &mut taken_over] {
                    ledger.append(SequenceNumber(sequence), &digest(sequence), &digest(0));
                }
                assert_eq!(taken_over.digest(), ledger.digest());
                let at = |sequence: u64| taken_over.digest_at(SequenceNumber(sequence));
                let kept = sequence - start < LEDGER_RETAINED as u64;
                assert_eq!(at(start), ledger.digest_at(SequenceNumber(start)));
                assert_eq!(at(start).is_some(), kept);
                assert_eq!(start.checked_sub(1).and_then(at), None);
            }
        }
    }
}
