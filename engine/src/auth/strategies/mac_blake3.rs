//! `mac` (`mac-blake3`): keyed BLAKE3 of the block, cut to 128 bits.
//!
//! A block is one BLAKE3 block, so a tag is one run of the compression function, and [`wide`](crate::auth::wide) makes
//! 16 of them side by side. Keyed BLAKE3 is a pseudo-random function (BLAKE3 paper, section 4), and one may be cut:
//! each guess at a tag succeeds with chance 2⁻¹²⁸.

use zeroize::Zeroizing;

use super::shared_key::{SharedKey, TagScheme};
use super::{About, Reach, Weight};
use crate::auth::AuthBlock;
use crate::auth::wide::{check_tags, keyed_tags};
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
        let mut good = [false];
        if tag.len() != TAG_BYTES {
            return false;
        }
        check_tags(key, std::slice::from_ref(block), tag, &mut good);
        good == [true]
    }

    fn check_tags(key: &Self::Key, blocks: &[AuthBlock], tags: &[u8], good: &mut [bool]) {
        check_tags(key, blocks, tags, good);
    }
}
