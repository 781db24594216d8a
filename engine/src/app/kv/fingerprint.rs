//! The digest of a store, kept up to date leaf by leaf: a hash tree of three levels over the ordered keys.
//!
//! A leaf covers the records whose keys agree but for the lowest 6 bits, a group covers 64 leaves, the root all groups.
//! Leaves of dense keys are several kB long, where BLAKE3 hashes many blocks side by side. Measured with a million
//! records of 100 bytes, leaves of 16 keys make a digest after all have changed three times as expensive, and one after
//! 1 % at random have changed no cheaper.

use std::collections::BTreeMap;

use super::{Key, operation};
use crate::types::Digest;

/// Keys of one leaf: 2^6.
const LEAF_BITS: u32 = 6;
/// Leaves of one group: 2^6.
const LEAVES_BITS: u32 = 6;
/// Least number of noted changes at which duplicates among them are removed.
const CHANGES_MIN: usize = 4096;

/// The hash tree, without the records themselves.
#[derive(Default)]
pub(super) struct Fingerprint {
    leaves: BTreeMap<u64, Digest>,
    groups: BTreeMap<u64, Digest>,
    /// Leaves that changed since the last digest, with duplicates.
    changed: Vec<u64>,
    /// Changes that were left when duplicates were last removed.
    distinct: usize,
    /// A leaf in the form that is hashed; kept to be used again.
    scratch: Vec<u8>,
}

impl Fingerprint {
    /// Notes that the record of `key` changed.
    pub(super) fn touch(&mut self, key: Key) {
        self.changed.push(key >> LEAF_BITS);
        // Bounded by twice the number of leaves, however long no digest is asked for, at constant amortised cost.
        if self.changed.len() >= CHANGES_MIN.max(2 * self.distinct) {
            sort_and_dedup(&mut self.changed);
            self.distinct = self.changed.len();
        }
    }

    /// The digest of `records`, which differ from those of the last call only in what was [touched](Self::touch) since.
    /// Records are removed only when their insertion is taken back: what has no records then has no digest either.
    pub(super) fn digest(&mut self, records: &BTreeMap<Key, Vec<u8>>) -> Digest {
        sort_and_dedup(&mut self.changed);
        let mut changed_groups = Vec::new();
        for leaf in std::mem::take(&mut self.changed) {
            match self.leaf_digest(leaf, records) {
                Some(digest) => drop(self.leaves.insert(leaf, digest)),
                None => drop(self.leaves.remove(&leaf)),
            }
            changed_groups.push(leaf >> LEAVES_BITS);
        }
        self.distinct = 0;
        changed_groups.dedup();
        for group in changed_groups {
            let mut leaves = self.leaves.range(group << LEAVES_BITS..=last_of(group, LEAVES_BITS)).peekable();
            if leaves.peek().is_some() {
                self.groups.insert(group, digest_of_digests("hippodrome 2026 kv group", leaves));
            } else {
                self.groups.remove(&group);
            }
        }
        digest_of_digests("hippodrome 2026 kv root", self.groups.iter())
    }

    /// The digest of a leaf; `None` if it has no records.
    fn leaf_digest(&mut self, leaf: u64, records: &BTreeMap<Key, Vec<u8>>) -> Option<Digest> {
        self.scratch.clear();
        for (&key, value) in records.range(leaf << LEAF_BITS..=last_of(leaf, LEAF_BITS)) {
            operation::encode_record(key, value, &mut self.scratch);
        }
        if self.scratch.is_empty() {
            return None;
        }
        let mut hasher = blake3::Hasher::new_derive_key("hippodrome 2026 kv leaf");
        hasher.update(&self.scratch);
        Some(hasher.finalize().into())
    }
}

/// The last number whose bits above the lowest `bits` are `prefix`.
const fn last_of(prefix: u64, bits: u32) -> u64 {
    (prefix << bits) | ((1 << bits) - 1)
}

fn sort_and_dedup(numbers: &mut Vec<u64>) {
    numbers.sort_unstable();
    numbers.dedup();
}

fn digest_of_digests<'a>(context: &'static str, digests: impl Iterator<Item = (&'a u64, &'a Digest)>) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for (number, digest) in digests {
        hasher.update(&number.to_le_bytes());
        hasher.update(&digest.0);
    }
    hasher.finalize().into()
}
