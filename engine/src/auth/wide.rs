//! BLAKE3 of many short messages side by side.
//!
//! A short message keeps one SIMD lane busy and leaves the others idle. The blake3 crate hashes many chunks at once
//! inside, for its tree mode, through `blake3::platform::Platform::hash_many`; here it is used on independent messages
//! instead, which makes each of them about 15 times cheaper. That function is hidden from the crate's documentation, so
//! the crate's version is pinned, nothing outside this file knows of it, and tests show that the results are those of
//! `blake3::hash` and `blake3::keyed_hash`, bit for bit, on every SIMD level and without SIMD.
//!
//! The flags are those of the BLAKE3 paper, section 2.2: a message of one chunk is the tree's root. Of longer ones
//! the chunks are hashed side by side, the first of all messages, the second, and so on, and then the parents (section
//! 2.1).

use blake3::IncrementCounter;
use blake3::platform::Platform;
use subtle::ConstantTimeEq as _;

use super::{AuthBlock, Tag};
use crate::limits::TAG_BYTES;

/// Bytes of a BLAKE3 block.
pub const BLOCK_BYTES: usize = 64;
/// Blocks of a BLAKE3 chunk.
pub const CHUNK_BLOCKS: usize = 16;
/// Most blocks of what is hashed side by side. Longer messages have chunks enough of their own to fill SIMD lanes with.
pub const BLOCKS_MAX: usize = 8 * CHUNK_BLOCKS;
/// Messages handed over at a time: the widest SIMD level takes 16.
pub const LANES: usize = 16;

const CHUNK_START: u8 = 1;
const CHUNK_END: u8 = 1 << 1;
const PARENT: u8 = 1 << 2;
const ROOT: u8 = 1 << 3;
const KEYED_HASH: u8 = 1 << 4;
/// BLAKE3's initial value, which is SHA-256's.
const IV: [u32; 8] =
    [0x6A09_E667, 0xBB67_AE85, 0x3C6E_F372, 0xA54F_F53A, 0x510E_527F, 0x9B05_688C, 0x1F83_D9AB, 0x5BE0_CD19];

/// Which instructions these hashes are computed by: `avx512`, `avx2`, `sse41`, `sse2`, `neon` or `portable`.
#[must_use]
pub fn platform() -> String {
    format!("{:?}", Platform::detect()).to_lowercase()
}

/// Appends the tag of each block under `key`: the first [`TAG_BYTES`] of `blake3::keyed_hash(key, block)`.
pub fn keyed_tags(key: &[u8; 32], blocks: &[AuthBlock], out: &mut Vec<u8>) {
    keyed_tags_on(Platform::detect(), key, blocks, out);
}

fn keyed_tags_on(platform: Platform, key: &[u8; 32], blocks: &[AuthBlock], out: &mut Vec<u8>) {
    out.reserve(blocks.len() * TAG_BYTES);
    let words = words(key);
    let mut hashes = [[0; 32]; LANES];
    let mut tags = [[0; TAG_BYTES]; LANES];
    for blocks in blocks.chunks(LANES) {
        let (hashes, tags) = (&mut hashes[..blocks.len()], &mut tags[..blocks.len()]);
        hash_lanes(platform, &words, (0, TAG), blocks.iter().map(|block| &block.0), hashes);
        tags.iter_mut().zip(hashes).for_each(|(tag, hash)| *tag = *tag_of(hash));
        out.extend_from_slice(tags.as_flattened());
    }
}

/// Sets in `good`, for each of `blocks`, whether its place in `tags`, which follow each other, holds its tag under
/// `key`. How long that takes may tell which of the tags are wrong, and never which of a tag's bits.
///
/// # Panics
/// If there are not as many of each.
pub fn check_tags(key: &[u8; 32], blocks: &[AuthBlock], tags: &[u8], good: &mut [bool]) {
    check_tags_on(Platform::detect(), key, blocks, tags, good);
}

fn check_tags_on(platform: Platform, key: &[u8; 32], blocks: &[AuthBlock], tags: &[u8], good: &mut [bool]) {
    let (tags, rest) = tags.as_chunks::<TAG_BYTES>();
    assert!(rest.is_empty() && tags.len() == blocks.len() && good.len() == blocks.len(), "a tag for each block");
    let words = words(key);
    let mut hashes = [[0; 32]; LANES];
    for ((blocks, tags), good) in blocks.chunks(LANES).zip(tags.chunks(LANES)).zip(good.chunks_mut(LANES)) {
        hash_lanes(platform, &words, (0, TAG), blocks.iter().map(|block| &block.0), &mut hashes[..blocks.len()]);
        let differences = hashes.iter().zip(tags).map(|(hash, tag)| difference(hash, tag));
        if is_zero(differences.clone().fold(0, |all, one| all | one)) {
            good.fill(true);
        } else {
            good.iter_mut().zip(differences).for_each(|(good, difference)| *good = is_zero(difference));
        }
    }
}

/// The tag that is cut from this hash.
fn tag_of(hash: &[u8; 32]) -> &Tag {
    hash.first_chunk().expect("a tag is shorter than a hash")
}

/// Where a tag is not the beginning of this hash.
fn difference(hash: &[u8; 32], tag: &Tag) -> u128 {
    u128::from_le_bytes(*tag_of(hash)) ^ u128::from_le_bytes(*tag)
}

/// In time that does not depend on which bits are set. A number, because looking at bytes one by one in constant time
/// costs more than the tag itself.
fn is_zero(difference: u128) -> bool {
    difference.ct_eq(&0).into()
}

/// Digests of messages of `blocks` whole blocks each, which follow each other in `padded`: `blake3::hash` of each.
///
/// # Panics
/// If `blocks` is not in 1..=[`BLOCKS_MAX`], or `padded` does not hold exactly one message for each of `out`.
pub fn digest_padded(blocks: usize, padded: &[u8], out: &mut [[u8; 32]]) {
    digest_padded_on(Platform::detect(), blocks, padded, out);
}

fn digest_padded_on(platform: Platform, blocks: usize, padded: &[u8], out: &mut [[u8; 32]]) {
    digest_by_length(platform, (&IV, 0), blocks, padded, out);
}

/// The same keyed: `blake3::keyed_hash` of each message under `key`.
///
/// # Panics
/// As [`digest_padded`] does.
pub fn keyed_digest_padded(key: &[u8; 32], blocks: usize, padded: &[u8], out: &mut [[u8; 32]]) {
    digest_by_length(Platform::detect(), (&words(key), KEYED_HASH), blocks, padded, out);
}

fn digest_by_length(
    platform: Platform,
    (key, flags): (&[u32; 8], u8),
    blocks: usize,
    padded: &[u8],
    out: &mut [[u8; 32]],
) {
    assert!((1..=BLOCKS_MAX).contains(&blocks), "{blocks} blocks");
    let bytes = blocks * BLOCK_BYTES;
    assert_eq!(padded.len(), bytes * out.len(), "one message for each digest");
    let tree = Tree { platform, key, flags, bytes };
    for (messages, out) in padded.chunks(bytes * LANES).zip(out.chunks_mut(LANES)) {
        tree.hash(messages, (0, blocks), ROOT, out);
    }
}

/// How messages of so many bytes are hashed, at most [`LANES`] at a time.
struct Tree<'a> {
    platform: Platform,
    key: &'a [u32; 8],
    /// What every run of the compression function is told.
    flags: u8,
    bytes: usize,
}

impl Tree<'_> {
    /// Hashes a subtree of each of these messages: `blocks` blocks from chunk `first` on. `root` is [`ROOT`], if that
    /// is all of them, or 0.
    fn hash(&self, messages: &[u8], (first, blocks): (usize, usize), root: u8, out: &mut [[u8; 32]]) {
        if blocks <= CHUNK_BLOCKS {
            return self.hash_chunks(messages, (first, blocks), root, out);
        }
        // The left one has a power of two of chunks, as many as leave something to the right one.
        let left = blocks.div_ceil(CHUNK_BLOCKS).next_power_of_two() / 2;
        let (mut lefts, mut rights) = ([[0; 32]; LANES], [[0; 32]; LANES]);
        let (lefts, rights) = (&mut lefts[..out.len()], &mut rights[..out.len()]);
        self.hash(messages, (first, left * CHUNK_BLOCKS), 0, lefts);
        self.hash(messages, (first + left, blocks - left * CHUNK_BLOCKS), 0, rights);
        let mut parents = [[0; BLOCK_BYTES]; LANES];
        for (parent, (left, right)) in parents.iter_mut().zip(lefts.iter().zip(rights)) {
            parent[..32].copy_from_slice(left);
            parent[32..].copy_from_slice(right);
        }
        let flags = Flags { all: self.flags | PARENT, start: 0, end: root };
        hash_lanes(self.platform, self.key, (0, flags), parents.iter(), out);
    }

    fn hash_chunks(&self, messages: &[u8], (first, blocks): (usize, usize), root: u8, out: &mut [[u8; 32]]) {
        // The length of a chunk is a constant to `hash_many`.
        macro_rules! by_length {
            ($($blocks:literal)*) => {
                match blocks {
                    $($blocks => self.hash_equal_chunks::<{ $blocks * BLOCK_BYTES }>(messages, first, root, out),)*
                    _ => unreachable!("a chunk has 1 to {CHUNK_BLOCKS} blocks"),
                }
            };
        }
        by_length!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
    }

    fn hash_equal_chunks<const BYTES: usize>(&self, messages: &[u8], first: usize, root: u8, out: &mut [[u8; 32]]) {
        let at = first * CHUNK_BLOCKS * BLOCK_BYTES;
        let chunks = messages.chunks_exact(self.bytes).map(|message| {
            let chunk: &[u8; BYTES] = message[at..].first_chunk().expect("messages have so many blocks");
            chunk
        });
        let flags = Flags { all: self.flags, start: CHUNK_START, end: CHUNK_END | root };
        hash_lanes(self.platform, self.key, (first as u64, flags), chunks, out);
    }
}

/// Hashes at most [`LANES`] inputs, as many as `out` takes.
fn hash_lanes<'a, const BYTES: usize>(
    platform: Platform,
    key: &[u32; 8],
    position: (u64, Flags),
    messages: impl Iterator<Item = &'a [u8; BYTES]>,
    out: &mut [[u8; 32]],
) {
    let mut inputs = [&[0; BYTES]; LANES];
    for (input, message) in inputs.iter_mut().zip(messages.take(out.len())) {
        *input = message;
    }
    let lanes = lanes_hashed(platform, out.len());
    if lanes == out.len() {
        hash_many(platform, key, position, &inputs[..lanes], out);
    } else {
        let mut hashes = [[0; 32]; LANES];
        hash_many(platform, key, position, &inputs[..lanes], &mut hashes[..lanes]);
        out.copy_from_slice(&hashes[..out.len()]);
    }
}

/// How many lanes to hash for so many messages. What does not fill a SIMD level is hashed in several smaller runs, each
/// of which takes about as long as one that is twice as wide; so lanes are filled up, no further than this level.
fn lanes_hashed(platform: Platform, messages: usize) -> usize {
    let rest = messages % platform.simd_degree();
    let filled = if rest == 0 { 0 } else { rest.next_power_of_two() };
    messages - rest + filled
}

/// A key as BLAKE3 takes it.
fn words(key: &[u8; 32]) -> [u32; 8] {
    let mut words = [0; 8];
    for (word, bytes) in words.iter_mut().zip(key.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    words
}

/// What the compression function is told of its blocks: of all, besides of the first, and of the last.
#[derive(Clone, Copy)]
struct Flags {
    all: u8,
    start: u8,
    end: u8,
}

/// What is told of a block whose tag is made.
const TAG: Flags = Flags { all: KEYED_HASH, start: CHUNK_START, end: CHUNK_END | ROOT };

/// Hashes inputs that are all in the same place of their trees: chunks with this number, or parents, which have 0.
fn hash_many<const BYTES: usize>(
    platform: Platform,
    key: &[u32; 8],
    (counter, flags): (u64, Flags),
    inputs: &[&[u8; BYTES]],
    out: &mut [[u8; 32]],
) {
    let Flags { all, start, end } = flags;
    platform.hash_many(inputs, key, counter, IncrementCounter::No, all, start, end, out.as_flattened_mut());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every SIMD level that this machine has, down to none.
    fn platforms() -> Vec<Platform> {
        let mut platforms = vec![Platform::detect(), Platform::portable()];
        #[cfg(target_arch = "x86_64")]
        platforms.extend([Platform::sse2(), Platform::sse41(), Platform::avx2()].into_iter().flatten());
        platforms
    }

    fn noise(bytes: usize, seed: usize) -> Vec<u8> {
        let mut out = vec![0; bytes];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
        out
    }

    #[test]
    fn tags_are_those_of_the_documented_function() {
        for platform in platforms() {
            for count in (0..=70).chain([127, 128, 1000]) {
                let key: [u8; 32] = noise(32, count).try_into().unwrap();
                let blocks: Vec<_> = (0..count).map(|index| AuthBlock(noise(64, index).try_into().unwrap())).collect();
                let mut tags = Vec::new();
                keyed_tags_on(platform, &key, &blocks, &mut tags);
                let expected = blocks.iter().map(|block| blake3::keyed_hash(&key, &block.0));
                let expected: Vec<u8> = expected.flat_map(|hash| hash.as_bytes()[..TAG_BYTES].to_vec()).collect();
                assert_eq!(tags, expected, "{platform:?}: {count}");
                // Which of them are wrong: none, all, each alone, every third.
                let mut patterns = vec![vec![false; count], vec![true; count]];
                patterns.push((0..count).map(|at| at % 3 == 1).collect());
                patterns.extend((0..count.min(70)).map(|bad| (0..count).map(|at| at == bad).collect()));
                for wrong in patterns {
                    let mut tags = tags.clone();
                    for (at, _) in wrong.iter().enumerate().filter(|(_, wrong)| **wrong) {
                        tags[at * TAG_BYTES + at % TAG_BYTES] ^= 1 << (at % 8);
                    }
                    let mut good = vec![false; count];
                    check_tags_on(platform, &key, &blocks, &tags, &mut good);
                    assert!(good.iter().zip(&wrong).all(|(good, wrong)| good != wrong), "{platform:?}: {wrong:?}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "a tag for each block")]
    fn a_tag_too_few_is_our_own_error() {
        check_tags(&[1; 32], &[AuthBlock([1; 64]); 2], &[0; TAG_BYTES], &mut [false; 2]);
    }

    #[test]
    fn tags_are_appended() {
        let (key, blocks) = ([3; 32], [AuthBlock([1; 64]), AuthBlock([2; 64])]);
        let mut out = vec![9];
        keyed_tags(&key, &blocks, &mut out);
        let tag = |block: &AuthBlock| blake3::keyed_hash(&key, &block.0).as_bytes()[..TAG_BYTES].to_vec();
        assert_eq!(out, [vec![9], tag(&blocks[0]), tag(&blocks[1])].concat());
    }

    #[test]
    fn digests_are_those_of_the_documented_function() {
        for platform in platforms() {
            for blocks in (1..=CHUNK_BLOCKS + 2).chain([31, 32, 33, 47, 48, 49, 63, 64, 65, 80, 96, 100, 112, 127, 128])
            {
                for count in [0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 65] {
                    let padded = noise(blocks * BLOCK_BYTES * count, blocks + count);
                    let mut out = vec![[0; 32]; count];
                    digest_padded_on(platform, blocks, &padded, &mut out);
                    for (message, digest) in padded.chunks(blocks * BLOCK_BYTES).zip(&out) {
                        assert_eq!(blake3::hash(message), *digest, "{platform:?}: {count} of {blocks} blocks");
                    }
                    let key: [u8; 32] = noise(32, count).try_into().unwrap();
                    digest_by_length(platform, (&words(&key), KEYED_HASH), blocks, &padded, &mut out);
                    for (message, digest) in padded.chunks(blocks * BLOCK_BYTES).zip(&out) {
                        assert_eq!(blake3::keyed_hash(&key, message), *digest, "{platform:?}: {count}, {blocks}");
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "one message for each digest")]
    fn a_wrong_length_is_our_own_error() {
        digest_padded(2, &[0; 64], &mut [[0; 32]]);
    }
}
