//! `mac-siphash`: SipHash-2-4 of the block, 128 bits (Aumasson and Bernstein, INDOCRYPT 2012).
//!
//! The worked example of CONTRIBUTING.md, registered in tests alone: they show that this file is all it takes.

use std::hash::Hasher as _;

use siphasher::sip128::{Hasher128 as _, SipHasher24};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::shared_key::{SharedKey, TagScheme};
use super::{About, Reach, Weight};
use crate::auth::AuthBlock;

pub(super) static STRATEGY: SharedKey<SipHash> = SharedKey::new();

/// What BLAKE3's key derivation is told that a key is for.
const KEY_CONTEXT: &str = "hippodrome 2026 mac-siphash key";

#[derive(Debug)]
pub(super) struct SipHash;

impl SipHash {
    fn hash(key: &[u8; 16], block: &AuthBlock) -> [u8; 16] {
        let mut hasher = SipHasher24::new_with_key(key);
        hasher.write(&block.0);
        hasher.finish128().as_bytes()
    }
}

impl TagScheme for SipHash {
    const ABOUT: &'static About = &About {
        name: "mac-siphash",
        aliases: &[],
        summary: "a tag for each receiver: SipHash-2-4, 128 bits",
        keys: "16 bytes derived from the pair's key",
        proof_bytes: 16,
        reach: Reach::Receiver,
        weight: Weight::Light,
    };

    type Key = Zeroizing<[u8; 16]>;

    fn key(pair: &[u8; 32]) -> Self::Key {
        let derived = Zeroizing::new(blake3::derive_key(KEY_CONTEXT, pair));
        let mut key = Zeroizing::new([0; 16]);
        key.copy_from_slice(&derived[..16]);
        key
    }

    fn tag(key: &Self::Key, block: &AuthBlock, out: &mut Vec<u8>) {
        out.extend_from_slice(&Self::hash(key, block));
    }

    fn holds(key: &Self::Key, block: &AuthBlock, tag: &[u8]) -> bool {
        Self::hash(key, block).ct_eq(tag).into()
    }
}
