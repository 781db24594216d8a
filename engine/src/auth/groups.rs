//! Digests of groups of requests: what one proof covers with `--auth-granularity frame`.
//!
//! The digest of up to 32 requests is keyed BLAKE3 of their digests, one after the other, with zeros up to a multiple
//! of 64 bytes. That of more is keyed BLAKE3 of the digests of the first 32 and of the others. So nothing that is
//! hashed is longer than a chunk, and groups are hashed side by side ([`super::wide`]), in half a compression for each
//! request. How many requests there are stands in the block that is proven
//! ([`AuthBlock::group`](super::AuthBlock::group)), which makes padding and halves unambiguous; the key keeps such
//! digests apart from those of requests and batches.

use super::wide::{BLOCK_BYTES, CHUNK_BLOCKS, keyed_digest_padded};
use crate::limits::{DIGEST_BYTES, GROUP_REQUESTS_MAX};
use crate::types::Digest;

const KEY: &[u8; 32] = b"hippodrome group of requests    ";

/// Requests whose digests are hashed in one go.
const HALF: usize = CHUNK_BLOCKS * BLOCK_BYTES / DIGEST_BYTES;
const _: () = assert!(2 * HALF == GROUP_REQUESTS_MAX && 2 * DIGEST_BYTES == BLOCK_BYTES);

/// Computes digests of groups. Keeps its scratch memory from call to call.
#[derive(Debug, Default)]
pub struct GroupDigester {
    /// The halves of all groups that were pushed, one after the other, each padded.
    padded: Vec<u8>,
    halves: Vec<Half>,
    /// Halves of one length, next to each other.
    gathered: Vec<u8>,
    hashed: Vec<[u8; 32]>,
    /// The digest of each half, in order.
    digests: Vec<[u8; 32]>,
}

/// A group, or its first or second half.
#[derive(Clone, Copy, Debug)]
struct Half {
    /// Where it starts in `padded`.
    start: usize,
    blocks: usize,
    /// Whether it is the second one of a group.
    second: bool,
}

impl GroupDigester {
    /// Adds a group of requests with these digests.
    ///
    /// # Panics
    /// If no group has none or as many: that would be our own error.
    pub fn push<'a>(&mut self, digests: impl IntoIterator<Item = &'a Digest>) {
        let (mut count, mut start) = (0, self.padded.len());
        for digest in digests {
            if count == HALF {
                self.end_half(start, false);
                start = self.padded.len();
            }
            self.padded.extend_from_slice(&digest.0);
            count += 1;
        }
        assert!((1..=GROUP_REQUESTS_MAX).contains(&count), "a group of {count} requests");
        self.end_half(start, count > HALF);
    }

    fn end_half(&mut self, start: usize, second: bool) {
        let blocks = (self.padded.len() - start).div_ceil(BLOCK_BYTES);
        self.padded.resize(start + blocks * BLOCK_BYTES, 0);
        self.halves.push(Half { start, blocks, second });
    }

    /// The digests of the groups that were pushed, in order; the next one is the first again.
    pub fn finish(&mut self) -> Vec<Digest> {
        if self.halves.is_empty() {
            return Vec::new();
        }
        self.hash_halves();
        self.gathered.clear();
        for pair in self.halves.windows(2).zip(self.digests.windows(2)) {
            if let ([_, Half { second: true, .. }], digests) = pair {
                self.gathered.extend_from_slice(digests.as_flattened());
            }
        }
        self.hashed.clear();
        self.hashed.resize(self.gathered.len() / BLOCK_BYTES, [0; 32]);
        keyed_digest_padded(KEY, 1, &self.gathered, &mut self.hashed);
        let mut roots = self.hashed.iter();
        let mut digests: Vec<Digest> = Vec::with_capacity(self.halves.len());
        for (half, digest) in self.halves.iter().zip(&self.digests) {
            if half.second {
                let root = roots.next().expect("a root for each pair of halves");
                *digests.last_mut().expect("a first half") = Digest(*root);
            } else {
                digests.push(Digest(*digest));
            }
        }
        self.padded.clear();
        self.halves.clear();
        digests
    }

    fn hash_halves(&mut self) {
        self.digests.clear();
        self.digests.resize(self.halves.len(), [0; 32]);
        for blocks in 1..=CHUNK_BLOCKS {
            let alike = || self.halves.iter().enumerate().filter(|(_, half)| half.blocks == blocks);
            self.gathered.clear();
            for (_, half) in alike() {
                self.gathered.extend_from_slice(&self.padded[half.start..][..blocks * BLOCK_BYTES]);
            }
            if self.gathered.is_empty() {
                continue;
            }
            self.hashed.clear();
            self.hashed.resize(self.gathered.len() / (blocks * BLOCK_BYTES), [0; 32]);
            keyed_digest_padded(KEY, blocks, &self.gathered, &mut self.hashed);
            for ((at, _), digest) in alike().zip(&self.hashed) {
                self.digests[at] = *digest;
            }
        }
    }
}

#[cfg(test)]
mod tests;
