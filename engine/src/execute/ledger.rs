//! The ledger: a hash chain over executed batches and their results. Replicas whose ledgers agree at a sequence number
//! executed the same requests, in the same order, with the same results, up to there.

use crate::limits::LEDGER_RETAINED;
use crate::types::{Digest, SequenceNumber};

/// The hash chain: `ledger(i) = BLAKE3(ledger(i − 1) | i | digest of batch i | digest of its outcome)`.
///
/// Views are left out on purpose: after a view change replicas may have committed one batch in different views.
pub struct Ledger {
    sequence: SequenceNumber,
    /// The digest after sequence number s is at s mod [`LEDGER_RETAINED`]; grows to that length, then turns over.
    digests: Vec<Digest>,
}

impl Default for Ledger {
    /// The empty ledger at sequence number 0.
    fn default() -> Self {
        let genesis = blake3::Hasher::new_derive_key("hippodrome 2026 ledger").finalize().into();
        Self { sequence: SequenceNumber(0), digests: vec![genesis] }
    }
}

impl Ledger {
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

    /// The digest after `sequence` (0: the empty ledger's), or `None` if it lies ahead or is no longer kept.
    #[must_use]
    pub fn digest_at(&self, sequence: SequenceNumber) -> Option<Digest> {
        let age = self.sequence.0.checked_sub(sequence.0)?;
        (age < LEDGER_RETAINED as u64).then(|| self.digests[slot(sequence)])
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
}
