//! `mac` (`mac-blake3`): keyed BLAKE3 of the block, cut to 128 bits.
//!
//! A block is one BLAKE3 block, so a tag is one run of the compression function, and [`wide`](crate::auth::wide) makes
//! 16 of them side by side. Keyed BLAKE3 is a pseudo-random function (BLAKE3 paper, section 4), and one may be cut:
//! each guess at a tag succeeds with chance 2⁻¹²⁸.

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::shared_key::{Claims, SharedKey, TagScheme};
use super::{About, Reach, Weight};
use crate::auth::wide::{check_tags, each_tag, keyed_tags};
use crate::auth::{AuthBlock, Tag};
use crate::limits::TAG_BYTES;

pub(super) static STRATEGY: SharedKey<Blake3> = SharedKey::new();

#[derive(Debug)]
pub(super) struct Blake3;

impl TagScheme for Blake3 {
    const ABOUT: &'static About = &About {
        // Kept as it is, for it is part of the fingerprints of clusters.
        name: "mac",
        aliases: &["mac-blake3"],
        summary: "a tag for each receiver: keyed BLAKE3, 128 bits, made 16 at a time",
        keys: "the pair's key as it is",
        proof_bytes: TAG_BYTES,
        reach: Reach::Receiver,
        weight: Weight::Light,
    };

    type Key = Zeroizing<[u8; 32]>;

    fn key(pair: &[u8; 32]) -> Self::Key {
        Zeroizing::new(*pair)
    }

    fn tag(key: &Self::Key, block: &AuthBlock, out: &mut Vec<u8>) {
        out.extend_from_slice(&blake3::keyed_hash(key, &block.0).as_bytes()[..TAG_BYTES]);
    }

    fn tags(key: &Self::Key, blocks: &[AuthBlock], out: &mut Vec<u8>) {
        keyed_tags(key, blocks, out);
    }

    fn holds(key: &Self::Key, block: &AuthBlock, tag: &[u8]) -> bool {
        blake3::keyed_hash(key, &block.0).as_bytes().first_chunk().is_some_and(|expected| same_tag(expected, tag))
    }

    fn check_each(key: &Self::Key, blocks: &[AuthBlock], tags: &[u8], good: &mut [bool]) {
        check_tags(key, blocks, tags, good);
    }

    fn check(key: &Self::Key, claims: Claims<'_>, mut verdict: impl FnMut(usize, bool)) {
        each_tag(key, claims.blocks(), |at, expected| verdict(at, same_tag(expected, claims.tag(at))));
    }
}

/// Whether two tags are equal, in time that does not depend on where they differ. As numbers, because comparing bytes
/// one by one in constant time costs more than the tag itself.
fn same_tag(a: &Tag, b: &[u8]) -> bool {
    b.try_into().is_ok_and(|b| u128::from_le_bytes(*a).ct_eq(&u128::from_le_bytes(b)).into())
}
