//! `ed25519-zip215-batch`: Ed25519 signatures, verified in batches, by the rule of ZIP 215 ("Explicitly Defining and
//! Modifying Ed25519 Validation Rules", Zcash, 2020), alone and in batches.
//!
//! # The rule
//! A signature (R, s) of message M by key A is good if and only if
//! 1. A and R decode to points of the curve; encodings need not be canonical, and points of small order are points,
//! 2. s is canonical: s < ℓ, and
//! 3. 8·(s·B − k·A − R) = 0 with k = SHA-512(R ‖ A ‖ M), where R and A are hashed as they were encoded.
//!
//! # Why no batch changes a verdict
//! The combined check is 8·Σ zᵢ·Dᵢ = 0 with Dᵢ = sᵢ·B − kᵢ·Aᵢ − Rᵢ and 128-bit zᵢ. If every signature is good each 8·Dᵢ
//! is zero, and so is the sum: unlike dalek's combined check, this one never refuses a good batch. If one is bad, 8·Dᵢ
//! is not zero and of prime order, so that the sum is zero for one zᵢ at most: a chance of 2⁻¹²⁸, since zᵢ comes from a
//! hash of the whole batch. Torsion parts cost nothing here; with `ed25519-batch` each costs a search.
//!
//! Terms of equal keys are one term: Σ zᵢ·kᵢ for each distinct key, and one scalar multiplication with it. A batch of
//! requests comes from few client nodes, so a signature costs one multiplication, by a scalar of half the length, where
//! it would be two.
//!
//! # Beside the rule of `ed25519` and `ed25519-batch`
//! For keys of prime order in canonical encoding the two rules are the same. They differ in other keys: those rules'
//! first part refuses all of them, ZIP 215 takes them. No node of a cluster has one, whatever the strategy: a keyring
//! is not made with it, because anybody can sign for a key of small order, and an identity must have one spelling. So
//! replicas of one cluster, which agree on the strategy, agree on every signature; and no cluster would judge a
//! signature differently under the other rule.

use std::collections::HashMap;

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::VartimeMultiscalarMul as _;
use ed25519_dalek::VerifyingKey;

use super::signed::{SignatureScheme, Signed};
use super::{About, Reach, Weight};
use crate::auth::signature::{self, Rule, Standing};
use crate::limits::SIGNATURE_BYTES;

pub(super) static STRATEGY: Signed<InBatches> = Signed::new();

/// What BLAKE3's key derivation is told that the factors of a batch are for.
const FACTORS_CONTEXT: &str = "hippodrome 2026 ed25519-zip215-batch factors";

#[derive(Debug)]
pub(super) struct InBatches;

impl SignatureScheme for InBatches {
    const ABOUT: &'static About = &About {
        name: "ed25519-zip215-batch",
        aliases: &[],
        summary: "Ed25519 signatures by the rule of ZIP 215, verified in batches in which equal keys count once",
        keys: "the nodes' identities",
        proof_bytes: SIGNATURE_BYTES,
        reach: Reach::Everybody,
        weight: Weight::Heavy,
    };

    const IN_BATCHES: bool = true;

    type Rule = Zip215;
}

/// The rule of ZIP 215.
#[derive(Debug)]
pub struct Zip215;

impl Rule for Zip215 {
    /// None is odd: what is good never makes a combined check fail.
    fn standing(key: &VerifyingKey, message: &[u8], signature: &[u8; SIGNATURE_BYTES], _: bool) -> Standing {
        if signature::satisfies_equation(key, message, signature) { Standing::Good } else { Standing::Bad }
    }

    fn all_good(keys: &[VerifyingKey], messages: &[&[u8]], signatures: &[[u8; SIGNATURE_BYTES]]) -> bool {
        let mut transcript = blake3::Hasher::new_derive_key(FACTORS_CONTEXT);
        let (mut nonce_points, mut s_and_k) = (Vec::with_capacity(keys.len()), Vec::with_capacity(keys.len()));
        for ((key, message), signature) in keys.iter().zip(messages).zip(signatures) {
            let (r_bytes, s_bytes) = signature::halves(signature);
            let Some(s) = Scalar::from_canonical_bytes(s_bytes).into_option() else { return false };
            let Some(r) = CompressedEdwardsY(r_bytes).decompress() else { return false };
            let k = signature::challenge(&r_bytes, key, message);
            // The message is in k.
            transcript.update(key.as_bytes()).update(signature).update(k.as_bytes());
            nonce_points.push(r);
            s_and_k.push((s, k));
        }
        let mut factors = transcript.finalize_xof();
        let (mut of_base, mut of_nonces) = (Scalar::ZERO, Vec::with_capacity(keys.len()));
        let mut of_keys: HashMap<&[u8; 32], (Scalar, EdwardsPoint)> = HashMap::new();
        for (key, (s, k)) in keys.iter().zip(s_and_k) {
            let mut z = [0; 16];
            factors.fill(&mut z);
            let z = Scalar::from(u128::from_le_bytes(z));
            of_base -= z * s;
            of_nonces.push(z);
            of_keys.entry(key.as_bytes()).or_insert_with(|| (Scalar::ZERO, key.to_edwards())).0 += z * k;
        }
        let scalars = of_keys.values().map(|(scalar, _)| scalar).chain(&of_nonces).chain([&of_base]);
        let points = of_keys.values().map(|(_, point)| point).chain(&nonce_points).chain([&ED25519_BASEPOINT_POINT]);
        EdwardsPoint::vartime_multiscalar_mul(scalars, points).is_small_order() // 8·Σ = 0
    }
}

#[cfg(test)]
mod tests;
