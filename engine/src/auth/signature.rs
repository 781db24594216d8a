//! Ed25519 signatures: batches of them, and the acceptance rule of `ed25519` and `ed25519-batch`, [`PrimeOrder`], which
//! is one for single and for batch verification. Whatever is signed in every mode (handshakes, view-changes) goes by
//! it, too.
//!
//! # The rule
//! A signature (R, s) of message M by key A is good if and only if
//! 1. A is a registered key: the canonical encoding of a point of prime order (checked when the keyring is made),
//! 2. s is canonical: s < ℓ, as RFC 8032 demands,
//! 3. R decodes to a point of the curve, and
//! 4. 8·(s·B − k·A − R) = 0 with k = SHA-512(R ‖ A ‖ M), where R and A are hashed as they were encoded.
//!
//! That is RFC 8032's cofactored equation (section 5.1.7) with ZIP-215's treatment of R, for keys of prime order.
//!
//! # Why not ed25519-dalek's verdicts as they are
//! Its `verify` and its `verify_batch` are both cofactorless, yet differ: the first compares encodings of R, the second
//! checks one random linear combination, where torsion parts of several R can cancel out. A faulty client that makes R
//! with a torsion part would so be believed by one replica and not by another, and by the same replica in one batch and
//! not in the next. Chalkias, Garillot and Nikolaenko, "Taming the many EdDSAs" (2020), section 3, survey such
//! disagreements.
//!
//! # Why the fast paths are safe
//! Both are used as filters which accept only what the rule accepts; whatever they refuse is decided by the equation
//! itself, one signature at a time. So every verdict is the rule's, whatever the batch was:
//! - `verify` accepts: R is the encoding of s·B − k·A and s is canonical, so the difference in rule 4 is zero.
//! - `verify_batch` accepts: every s is canonical, every R decodes, and Σ zᵢ·Dᵢ = 0 with Dᵢ = sᵢ·B − kᵢ·Aᵢ − Rᵢ and
//!   128-bit zᵢ drawn from a hash of the whole batch. Split each Dᵢ into its prime-order and its torsion part: the
//!   prime-order parts of the sum vanish too, so all of them are zero but for a chance of 2⁻¹²⁸. What is left of Dᵢ is
//!   torsion, and 8·Dᵢ = 0.
//!
//! The price is that a signature with a torsion part, or a bad one, costs a slow path. Nobody but a faulty client makes
//! them, and whoever makes one has its signatures checked apart from others' for a while.
//!
//! # What bad signatures cost
//! A combined check that fails is repeated on halves: the divide-and-conquer verifier of Pastuszak, Michałek, Pieprzyk
//! and Seberry, "Identification of Bad Signatures in Batches" (PKC 2000), with the inference of Law and Matt, "Finding
//! Invalid Signatures in Pairing-Based Batches" (2007): what fails as a whole and is good on the left fails on the
//! right, unasked. Let n be a part's signatures, k ≥ 1 the bad ones among them, N the next power of two, or n if it is
//! one. Level j has halves of N/2ʲ signatures at most, of which no more than k fail.
//!
//! - *Combined checks*: of each half that fails no more than two are made on the level below, so that there are
//!   1 + Σⱼ 2·min(k, 2ʲ⁻¹) at most, over the levels j = 1, 2, .. whose halves have more than two signatures.
//! - *Signatures in them*, which is what they cost: no more than N a level, and below level ⌈log₂ k⌉ no more than
//!   2k·N/2ʲ, which add up to 2N: all in all N·(3 + ⌈log₂ k⌉).
//! - *Alone*: 5k, as long as fewer checks fail than `FAILURES_MAX`; never more than n.
//!
//! After `FAILURES_MAX` = 2⁵ checks that failed, the rest is verified one by one. So whatever is bad, and wherever, a
//! signature is in fewer than 6 combined checks on average, and verified alone once at most. Where a signature alone
//! costs three times what it costs in a combined check, 1,024 signatures cost less than 6.5 times what good ones cost.
//! `tests/cost.rs` finds both by going through all placements of bad ones.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{AddAssign, Range};

use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity as _;
use ed25519_dalek::{Digest as _, Sha512, Signature, Verifier as _, VerifyingKey};

use crate::limits::SIGNATURE_BYTES;

/// Up to here signatures are verified one by one: combining so few saves nothing.
const SINGLES_MAX: usize = 2;
/// Combined checks that may fail in one part of a batch before the rest of it is verified one by one. Searching for one
/// bad signature among 1,024 fails 9 checks and pays; among many bad ones it does not, and must not become a lever
/// against the replica.
const FAILURES_MAX: usize = 32;

/// What is to be said of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is good.
    Good,
    /// It is good, but combined checks with it may fail: nobody makes such ones but to make others search.
    Odd,
    /// It is bad.
    Bad,
}

/// When a signature is good: one answer, whether it is asked for alone or in a batch.
pub trait Rule: fmt::Debug + Send + 'static {
    /// What is to be said of `signature` of `message` by `key`; of a `suspect`, by the way that is shortest where it is
    /// likely to be bad.
    fn standing(key: &VerifyingKey, message: &[u8], signature: &[u8; SIGNATURE_BYTES], suspect: bool) -> Standing;

    /// Whether `signature` of `message` by `key` is good.
    fn verify(key: &VerifyingKey, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        Self::standing(key, message, signature, false) != Standing::Bad
    }

    /// Whether a combined check of all these succeeds, columns of one length. If so, all of them are good but for a
    /// negligible chance; if not, nothing is known of any.
    fn all_good(keys: &[VerifyingKey], messages: &[&[u8]], signatures: &[[u8; SIGNATURE_BYTES]]) -> bool;
}

/// The rule of this module.
#[derive(Debug)]
pub struct PrimeOrder;

impl Rule for PrimeOrder {
    fn standing(key: &VerifyingKey, message: &[u8], signature: &[u8; SIGNATURE_BYTES], suspect: bool) -> Standing {
        // To ask the filter first would make each bad one cost twice as much.
        if !suspect && key.verify(message, &Signature::from_bytes(signature)).is_ok() {
            return Standing::Good;
        }
        match difference(key, message, signature) {
            Some(difference) if difference.is_identity() => Standing::Good,
            Some(difference) if difference.is_small_order() => Standing::Odd,
            _ => Standing::Bad,
        }
    }

    fn all_good(keys: &[VerifyingKey], messages: &[&[u8]], signatures: &[[u8; SIGNATURE_BYTES]]) -> bool {
        let signatures: Vec<Signature> = signatures.iter().map(Signature::from_bytes).collect();
        ed25519_dalek::verify_batch(messages, &signatures, keys).is_ok()
    }
}

/// Whether `signature` of `message` by `key` is good by [`PrimeOrder`].
#[must_use]
pub fn verify(key: &VerifyingKey, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
    PrimeOrder::verify(key, message, signature)
}

/// Rules 2 to 4, computed as they are written.
pub(super) fn satisfies_equation(key: &VerifyingKey, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
    difference(key, message, signature).is_some_and(|difference| difference.is_small_order()) // 8·D = 0
}

/// D = s·B − k·A − R, by rules 2 and 3.
fn difference(key: &VerifyingKey, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> Option<EdwardsPoint> {
    let (r_bytes, s_bytes) = halves(signature);
    let s = Scalar::from_canonical_bytes(s_bytes).into_option()?;
    let r = CompressedEdwardsY(r_bytes).decompress()?;
    let k = challenge(&r_bytes, key, message);
    Some(EdwardsPoint::vartime_double_scalar_mul_basepoint(&k, &-key.to_edwards(), &s) - r)
}

/// R and s as they are encoded.
pub(super) fn halves(signature: &[u8; SIGNATURE_BYTES]) -> ([u8; 32], [u8; 32]) {
    let (mut r_bytes, mut s_bytes) = ([0; 32], [0; 32]);
    r_bytes.copy_from_slice(&signature[..32]);
    s_bytes.copy_from_slice(&signature[32..]);
    (r_bytes, s_bytes)
}

/// k = SHA-512(R ‖ A ‖ M).
pub(super) fn challenge(r_bytes: &[u8; 32], key: &VerifyingKey, message: &[u8]) -> Scalar {
    let hash = Sha512::new().chain_update(r_bytes).chain_update(key.as_bytes()).chain_update(message);
    Scalar::from_bytes_mod_order_wide(&hash.finalize().into())
}

/// Many signatures to verify together, in columns.
///
/// They may come in parts, one for each party that answers for its signatures. All of them share one combined check; if
/// that fails each part is settled by itself, so that no party pays for the search in another one's part.
#[derive(Debug)]
pub struct SignatureBatch<'a, R> {
    rule: PhantomData<R>,
    keys: Vec<VerifyingKey>,
    messages: Vec<&'a [u8]>,
    signatures: Vec<[u8; SIGNATURE_BYTES]>,
    /// Where each part ends. What follows the last end is one more part.
    part_ends: Vec<usize>,
    /// Combined checks that failed in the part that is being settled.
    failures: usize,
    /// Those that were found to be [odd](Standing::Odd).
    odd: Vec<usize>,
    effort: Effort,
}

/// What verdicts have cost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// Combined checks of several signatures.
    pub combined: u64,
    /// Signatures that were in them; one that was in several counts in each.
    pub combined_signatures: u64,
    /// Signatures that were verified one by one.
    pub single: u64,
}

impl AddAssign for Effort {
    fn add_assign(&mut self, other: Self) {
        self.combined += other.combined;
        self.combined_signatures += other.combined_signatures;
        self.single += other.single;
    }
}

impl<'a, R: Rule> SignatureBatch<'a, R> {
    /// An empty batch with room for `capacity` signatures.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            rule: PhantomData,
            keys: Vec::with_capacity(capacity),
            messages: Vec::with_capacity(capacity),
            signatures: Vec::with_capacity(capacity),
            part_ends: Vec::new(),
            failures: 0,
            odd: Vec::new(),
            effort: Effort::default(),
        }
    }

    /// Adds one signature.
    pub fn push(&mut self, key: &VerifyingKey, message: &'a [u8], signature: &[u8; SIGNATURE_BYTES]) {
        self.keys.push(*key);
        self.messages.push(message);
        self.signatures.push(*signature);
    }

    /// What is added from here on is another party's.
    pub fn end_part(&mut self) {
        if self.part_ends.last().copied().unwrap_or(0) < self.keys.len() {
            self.part_ends.push(self.keys.len());
        }
    }

    /// One verdict for each signature, in the order in which they were added: the rule's.
    #[must_use]
    pub fn verify(&mut self) -> Vec<bool> {
        let mut good = vec![true; self.keys.len()];
        self.end_part();
        let ends = std::mem::take(&mut self.part_ends);
        if ends.len() > 1 && self.keys.len() > SINGLES_MAX && self.all_good(0..self.keys.len()) {
            return good;
        }
        let mut start = 0;
        for end in ends {
            self.failures = 0;
            let odd = self.odd.len();
            let all_good = self.settle(start..end, false, &mut good);
            // A check failed, and yet nobody was found: whoever makes checks succeed at times is not let off for it.
            if all_good && self.failures > 0 && self.odd.len() == odd {
                self.odd.push(start);
            }
            start = end;
        }
        good
    }

    /// Those that were found to be [odd](Standing::Odd), in the order in which they were added. Not all of them are
    /// found: only those for which something was searched. Where a part's combined check failed, all of it is good, and
    /// none was found, its first one stands for whichever it is.
    #[must_use]
    pub fn odd(&self) -> &[usize] {
        &self.odd
    }

    /// What the verdicts have cost.
    #[must_use]
    pub const fn effort(&self) -> Effort {
        self.effort
    }

    /// Settles the verdicts of `range`: all at once if that succeeds, else by halves. `suspect`: a combined check is
    /// known to fail here. Returns whether all are good.
    fn settle(&mut self, range: Range<usize>, suspect: bool, good: &mut [bool]) -> bool {
        if range.len() <= SINGLES_MAX || self.failures >= FAILURES_MAX {
            let suspect = self.failures > 0;
            self.effort.single += range.len() as u64;
            for index in range.clone() {
                let (key, message, signature) = (&self.keys[index], self.messages[index], &self.signatures[index]);
                let standing = R::standing(key, message, signature, suspect);
                good[index] = standing != Standing::Bad;
                self.odd.extend((standing == Standing::Odd).then_some(index));
            }
            return good[range].iter().all(|&good| good);
        }
        if !suspect {
            if self.all_good(range.clone()) {
                return true;
            }
            self.failures += 1;
        }
        let middle = range.start + range.len() / 2;
        let left = self.settle(range.start..middle, false, good);
        // What failed as a whole and is good on the left fails on the right.
        let right = self.settle(middle..range.end, left, good);
        left && right
    }

    fn all_good(&mut self, range: Range<usize>) -> bool {
        self.effort.combined += 1;
        self.effort.combined_signatures += range.len() as u64;
        R::all_good(&self.keys[range.clone()], &self.messages[range.clone()], &self.signatures[range])
    }
}

#[cfg(test)]
pub(super) mod tests;
