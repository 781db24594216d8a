//! `mac-gmac`: AES-256-GMAC of the block (NIST SP 800-38D), a 96-bit nonce and a 128-bit tag.
//!
//! # Nonces
//! A tag is a polynomial in a secret point, hidden by AES of a nonce. Two messages under one key and one nonce give
//! that point away, and with it every later tag (Joux, "Authentication failures in NIST version of GCM", 2006). So no
//! nonce may ever be used twice under a key, and none may depend on what others can choose: digests, timestamps and
//! sequence numbers come again when a message is sent again with other content, or can be made to. A nonce is therefore
//! a count of tags and travels with its tag:
//!
//! - Within a process there is **one counter for all keys**, an atomic that every stage and thread takes numbers from.
//!   Nonces are then unique in the process, so they are under each key, however many stages seal under it and however
//!   often keyrings are made.
//! - Across restarts, and if two processes hold the same identity, what differs is **where the count starts**: 96
//!   random bits from the operating system for each process, 32 of which stay and 64 of which are counted up (they
//!   wrap). Two processes that make 2ᵏ tags each meet with chance 2ᵏ⁻⁹⁵: for 2⁴⁸ tags, nine years at a million a
//!   second, 2⁻⁴⁷.
//! - A process whose memory is copied while it runs (a virtual machine that is resumed twice from one snapshot) would
//!   count on from the same number twice. Such a replica must be started anew instead; nothing here can notice it.
//!
//! The receiver takes the nonce as it comes: a forger gains nothing by choosing it, and that a message is sent again is
//! not for authentication to find out.
//!
//! # Strength
//! A guess at a tag succeeds with chance at most 5·2⁻¹²⁸: the polynomial of a block of 64 bytes has degree 5.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use aes_gcm::aead::AeadInOut as _;
use aes_gcm::{Aes256Gcm, KeyInit as _, Nonce, Tag};
use zeroize::Zeroizing;

use super::shared_key::{SharedKey, TagScheme};
use super::{About, Reach, Weight};
use crate::auth::AuthBlock;
use crate::auth::keys::fresh_nonce;

pub(super) static STRATEGY: SharedKey<Gmac> = SharedKey::new();

/// What BLAKE3's key derivation is told that a key is for.
const KEY_CONTEXT: &str = "hippodrome 2026 mac-gmac key";
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// The count of this process, for all keys.
static NONCES: LazyLock<Nonces> = LazyLock::new(Nonces::from_the_operating_system);

#[derive(Debug)]
pub(super) struct Gmac;

impl TagScheme for Gmac {
    const ABOUT: &'static About = &About {
        name: "mac-gmac",
        aliases: &[],
        summary: "a tag for each receiver: AES-256-GMAC, 128 bits, with a 96-bit nonce",
        keys: "32 bytes derived from the pair's key; a nonce is never used twice in a process, whatever the key",
        proof_bytes: NONCE_BYTES + TAG_BYTES,
        reach: Reach::Receiver,
        weight: Weight::Light,
    };

    type Key = Aes256Gcm;

    fn key(pair: &[u8; 32]) -> Self::Key {
        let key = Zeroizing::new(blake3::derive_key(KEY_CONTEXT, pair));
        Aes256Gcm::new(&(*key).into())
    }

    fn tag(key: &Self::Key, block: &AuthBlock, out: &mut Vec<u8>) {
        Self::tags(key, std::slice::from_ref(block), out);
    }

    fn tags(key: &Self::Key, blocks: &[AuthBlock], out: &mut Vec<u8>) {
        for (block, nonce) in blocks.iter().zip(NONCES.take(blocks.len())) {
            let tag = key.encrypt_inout_detached(&Nonce::from(nonce), &block.0, (&mut [][..]).into());
            out.extend_from_slice(&nonce);
            out.extend_from_slice(&tag.expect("nothing is encrypted, so nothing is too long"));
        }
    }

    fn holds(key: &Self::Key, block: &AuthBlock, proof: &[u8]) -> bool {
        let Some((nonce, tag)) = proof.split_first_chunk::<NONCE_BYTES>() else { return false };
        let Ok(tag) = <[u8; TAG_BYTES]>::try_from(tag) else { return false };
        key.decrypt_inout_detached(&Nonce::from(*nonce), &block.0, (&mut [][..]).into(), &Tag::from(tag)).is_ok()
    }
}

/// Numbers, each of which is given away once.
#[derive(Debug)]
struct Nonces {
    fixed: [u8; 4],
    next: AtomicU64,
}

impl Nonces {
    /// # Panics
    /// If there is no randomness. A node without it can not answer a handshake's challenge either, and a count that
    /// starts where an earlier one did would give keys away.
    fn from_the_operating_system() -> Self {
        let random = fresh_nonce().unwrap_or_else(|error| panic!("mac-gmac can not seal: {error}"));
        Self::starting_at(&random)
    }

    fn starting_at(random: &[u8; 32]) -> Self {
        let [a, b, c, d, rest @ ..] = *random;
        let start = rest.first_chunk().map_or(0, |start| u64::from_le_bytes(*start));
        Self { fixed: [a, b, c, d], next: AtomicU64::new(start) }
    }

    /// The next `many`, in order. Nobody else gets one of them; who asks for none takes none.
    fn take(&self, many: usize) -> impl Iterator<Item = [u8; NONCE_BYTES]> {
        // Only that numbers differ matters, not what else has happened when one is taken.
        let first = self.next.fetch_add(many as u64, Ordering::Relaxed);
        let fixed = self.fixed;
        (0..many as u64).map(move |at| {
            let mut nonce = [0; NONCE_BYTES];
            nonce[..4].copy_from_slice(&fixed);
            nonce[4..].copy_from_slice(&first.wrapping_add(at).to_le_bytes());
            nonce
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::thread;

    use super::*;
    use crate::auth::testing::{cluster, keyring, table};
    use crate::auth::{LinkClass, Sealer};
    use crate::requests::Proofs;
    use crate::types::NodeId;

    /// Every tag of a process, whoever makes it and for whom, has a nonce of its own.
    #[test]
    fn no_stage_of_a_process_uses_a_nonce_that_another_one_has_used() {
        let requests: Vec<_> = (0..50).map(|client| (client, 1, vec![7])).collect();
        let seal = || {
            // As each stage does, and as a process does that holds several identities.
            let file = cluster("mac-gmac", 4, &[50]);
            let mut proofs = Vec::new();
            for _ in 0..10 {
                let mut clients = Sealer::new(keyring(&file, 4));
                let Proofs::Tags { bytes, .. } = clients.seal_requests(&table(&requests)) else { panic!("tags") };
                proofs.extend_from_slice(&bytes);
                let replica = Sealer::new(keyring(&file, 0));
                for to in [1, 2, 3, 4] {
                    replica.seal(LinkClass::ReplicaToReplica, NodeId(to), &AuthBlock([1; 64]), &mut proofs);
                }
            }
            proofs
        };
        let proofs: Vec<Vec<u8>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(seal)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let all = proofs.concat();
        let nonces: HashSet<&[u8]> = all.chunks(NONCE_BYTES + TAG_BYTES).map(|proof| &proof[..NONCE_BYTES]).collect();
        assert_eq!(nonces.len(), 4 * 10 * (4 * 50 + 4));
    }

    #[test]
    fn a_count_begins_anywhere_and_wraps_without_coming_back() {
        let starts: HashSet<Vec<[u8; 12]>> =
            (0..100).map(|_| Nonces::from_the_operating_system().take(1).collect()).collect();
        assert_eq!(starts.len(), 100, "each start is another one");
        let mut random = [9; 32];
        random[4..12].copy_from_slice(&(u64::MAX - 4).to_le_bytes());
        let nonces = Nonces::starting_at(&random);
        let mut taken: Vec<[u8; 12]> = (0..4).flat_map(|many| nonces.take(many).collect::<Vec<_>>()).collect();
        taken.extend(nonces.take(3));
        assert_eq!(taken.iter().collect::<HashSet<_>>().len(), 9);
        let low: [u8; 8] = taken[8][4..].try_into().unwrap();
        assert_eq!((&taken[8][..4], u64::from_le_bytes(low)), (&[9; 4][..], 3), "wrapped");
    }

    #[test]
    fn the_same_block_gets_another_proof_each_time_and_all_of_them_hold() {
        let (key, block) = (Gmac::key(&[1; 32]), AuthBlock([2; 64]));
        let mut proofs = Vec::new();
        Gmac::tags(&key, &[block; 3], &mut proofs);
        let proofs: HashSet<&[u8]> = proofs.chunks(NONCE_BYTES + TAG_BYTES).collect();
        assert_eq!(proofs.len(), 3);
        assert!(proofs.iter().all(|proof| Gmac::holds(&key, &block, proof)));
        assert!(proofs.iter().all(|proof| !Gmac::holds(&Gmac::key(&[3; 32]), &block, proof)));
    }
}
