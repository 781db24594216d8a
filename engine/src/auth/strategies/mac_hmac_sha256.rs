//! `mac-hmac-sha256`: HMAC-SHA-256 of the block (RFC 2104, FIPS 198-1), cut to its first 128 bits.
//!
//! What most deployed systems use, and the yardstick for `mac`. RFC 2104, section 5, allows to cut a tag to half the
//! hash's length; each guess succeeds with chance 2⁻¹²⁸. The states of the inner and the outer hash behind the key are
//! made once, so that a tag takes three runs of SHA-256's compression function, by the processor's SHA instructions
//! where there are some.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::shared_key::{SharedKey, TagScheme};
use super::{About, Reach, Weight};
use crate::auth::AuthBlock;

pub(super) static STRATEGY: SharedKey<HmacSha256> = SharedKey::new();

/// What BLAKE3's key derivation is told that a key is for.
const KEY_CONTEXT: &str = "hippodrome 2026 mac-hmac-sha256 key";
const TAG_BYTES: usize = 16;

#[derive(Debug)]
pub(super) struct HmacSha256;

impl TagScheme for HmacSha256 {
    const ABOUT: &'static About = &About {
        name: "mac-hmac-sha256",
        aliases: &[],
        summary: "a tag for each receiver: HMAC-SHA-256, 128 bits",
        keys: "32 bytes derived from the pair's key",
        proof_bytes: TAG_BYTES,
        reach: Reach::Receiver,
        weight: Weight::Light,
    };

    type Key = Hmac<Sha256>;

    fn key(pair: &[u8; 32]) -> Self::Key {
        let key = Zeroizing::new(blake3::derive_key(KEY_CONTEXT, pair));
        Hmac::new_from_slice(&*key).expect("a key of HMAC may have any length")
    }

    fn tag(key: &Self::Key, block: &AuthBlock, out: &mut Vec<u8>) {
        out.extend_from_slice(&key.clone().chain_update(block.0).finalize().into_bytes()[..TAG_BYTES]);
    }

    fn holds(key: &Self::Key, block: &AuthBlock, tag: &[u8]) -> bool {
        key.clone().chain_update(block.0).verify_truncated_left(tag).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 2104's definition, written out.
    #[test]
    fn a_tag_is_hmac_sha_256_by_its_definition() {
        use sha2::Digest as _;

        let (pair, block) = ([7; 32], AuthBlock([9; 64]));
        let key = blake3::derive_key(KEY_CONTEXT, &pair);
        let padded = |with: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ with).collect() };
        let inner = Sha256::new().chain_update(padded(0x36)).chain_update(block.0).finalize();
        let outer = Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize();
        let mut tag = Vec::new();
        HmacSha256::tag(&HmacSha256::key(&pair), &block, &mut tag);
        assert_eq!(tag, outer[..16]);
    }
}
