//! BLAKE3 of what is long: frames of replies, batches by their requests' digests, pre-prepares by digests, outcomes.
//!
//! BLAKE3 hashes chunks of 1 KiB side by side, 16 of them on the widest SIMD level, as quickly as one. What is left
//! over is hashed in smaller groups and at last block by block, so that 16,000 bytes take three to four times as long
//! as 16,384 (AVX-512). Inputs of some KiB are what batches come to, so they are filled up with zeros to a number of
//! chunks that is hashed at once, and end with their length, by which no two are filled up to the same.

use std::cell::Cell;

use crate::types::Digest;

/// Bytes that are hashed side by side.
const GROUP_BYTES: usize = 16 << 10;
/// What is shorter, length included, is not filled up: it takes no longer than two chunks side by side.
const UNPADDED_BYTES_MAX: usize = 2 << 10;
const LENGTH_BYTES: usize = 8;

thread_local! {
    /// Memory for what does not fill a group, kept from one digest to the next.
    static PENDING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The digest of `bytes`: BLAKE3 of these, filled up, and their length.
#[must_use]
pub fn digest(bytes: &[u8]) -> Digest {
    if bytes.len() < GROUP_BYTES {
        // All at once: the state of a hasher is larger than most of what comes in small batches.
        let mut pending = PENDING.take();
        pending.clear();
        pending.extend_from_slice(bytes);
        pad(&mut pending, bytes.len() as u64);
        let digest = blake3::hash(&pending).into();
        PENDING.set(pending);
        return digest;
    }
    let mut hasher = LongHasher::new();
    hasher.update(bytes);
    hasher.finish()
}

/// Makes the digest of what is given piece by piece.
#[derive(Debug)]
pub struct LongHasher {
    hasher: blake3::Hasher,
    bytes: u64,
    /// What has not filled a group.
    pending: Vec<u8>,
}

impl Default for LongHasher {
    fn default() -> Self {
        Self::new()
    }
}

impl LongHasher {
    /// Nothing was given yet.
    #[must_use]
    pub fn new() -> Self {
        Self::with(blake3::Hasher::new())
    }

    /// The same for a purpose of its own: by BLAKE3's key derivation with `context`.
    #[must_use]
    pub fn for_context(context: &str) -> Self {
        Self::with(blake3::Hasher::new_derive_key(context))
    }

    fn with(hasher: blake3::Hasher) -> Self {
        let mut pending = PENDING.take();
        pending.clear();
        Self { hasher, bytes: 0, pending }
    }

    /// Goes on with `bytes`.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        if !self.pending.is_empty() {
            let (fill, rest) = bytes.split_at(bytes.len().min(GROUP_BYTES - self.pending.len()));
            self.pending.extend_from_slice(fill);
            bytes = rest;
            if self.pending.len() == GROUP_BYTES {
                self.hasher.update(&self.pending);
                self.pending.clear();
            }
        }
        let (groups, rest) = bytes.split_at(bytes.len() / GROUP_BYTES * GROUP_BYTES);
        self.hasher.update(groups);
        self.pending.extend_from_slice(rest);
    }

    /// The digest of all that was given.
    #[must_use]
    pub fn finish(mut self) -> Digest {
        pad(&mut self.pending, self.bytes);
        let digest = self.hasher.update(&self.pending).finalize().into();
        PENDING.set(self.pending);
        digest
    }
}

/// Pads the last of an input of `bytes` bytes, and ends it with that length.
fn pad(last: &mut Vec<u8>, bytes: u64) {
    let end = padded_len(last.len() + LENGTH_BYTES);
    last.resize(end - LENGTH_BYTES, 0);
    last.extend_from_slice(&bytes.to_le_bytes());
}

/// How far `bytes`, the last of an input with its length, are filled up: to a whole group or a power of two below.
const fn padded_len(bytes: usize) -> usize {
    if bytes <= UNPADDED_BYTES_MAX {
        bytes
    } else if bytes <= GROUP_BYTES {
        bytes.next_power_of_two()
    } else {
        GROUP_BYTES + LENGTH_BYTES
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By the words of docs/wire.md.
    fn by_the_book(bytes: &[u8]) -> Digest {
        let last = bytes.len() % 16384 + 8;
        let padded_len = match last {
            0..=2048 => last,
            2049..=4096 => 4096,
            4097..=8192 => 8192,
            8193..=16384 => 16384,
            _ => 16392,
        };
        let mut input = bytes.to_vec();
        input.resize(bytes.len() + padded_len - last, 0);
        input.extend((bytes.len() as u64).to_le_bytes());
        blake3::hash(&input).into()
    }

    #[test]
    fn every_length_is_filled_up_as_documented() {
        let bytes: Vec<u8> = (0..70_000_u32).map(|at| ((at * 31) >> 3) as u8).collect();
        let edges = [2040, 4088, 8184, 16376, 16384, 18424, 32760, 32768, 65536];
        let near = edges.iter().flat_map(|edge| edge - 10..edge + 10);
        for length in (0..200).chain(near).chain([10_087, 16_000, 70_000]) {
            assert_eq!(digest(&bytes[..length]), by_the_book(&bytes[..length]), "{length}");
        }
    }

    #[test]
    fn zeros_at_the_end_count() {
        for length in [0, 100, 2039, 3000, 16_000, 16_380, 20_000] {
            assert_ne!(digest(&vec![0; length]), digest(&vec![0; length + 1]), "{length}");
        }
        assert_ne!(LongHasher::for_context("a").finish(), LongHasher::for_context("b").finish());
    }

    proptest! {
        #[test]
        fn pieces_are_put_together(pieces in prop::collection::vec(0usize..20_000, 0..6)) {
            let mut hasher = LongHasher::new();
            let mut whole = Vec::new();
            for (number, length) in pieces.into_iter().enumerate() {
                let piece = vec![number as u8; length];
                hasher.update(&piece);
                whole.extend(piece);
            }
            prop_assert_eq!(hasher.finish(), digest(&whole));
        }
    }
}
