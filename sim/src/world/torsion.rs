//! One signature that lax verifiers judge differently, judged by every replica.
//!
//! Replicas verify signatures one by one or in batches, as they happen to arrive. Real keys, real signatures and the
//! engine's real verification, by the rule of one strategy or another: if the rule differs between these paths, correct
//! replicas disagree about a request.

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::scalar::Scalar;
use ed25519_dalek::{Digest as _, Sha512, Signature, Signer as _, SigningKey, Verifier as _, VerifyingKey};
use hippodrome_engine::auth::signature::{PrimeOrder, Rule, SignatureBatch};
use hippodrome_engine::auth::strategies::ed25519_zip215_batch::Zip215;
use hippodrome_engine::protocol::planted::Planted;

use crate::random::Random;

const MESSAGE: &[u8] = b"a request of a client who makes odd signatures";

/// The signature and who accepts it.
pub(super) struct Torsion {
    seed: u64,
    replicas: usize,
    planted: Option<Planted>,
    accepting: std::cell::Cell<Option<u64>>,
}

impl Torsion {
    pub(super) const fn new(seed: u64, replicas: usize, planted: Option<Planted>) -> Self {
        Self { seed, replicas, planted, accepting: std::cell::Cell::new(None) }
    }

    /// The replicas that accept it. Computed when it is first asked for: it takes a while.
    pub(super) fn accepting(&self) -> u64 {
        self.accepting.get().unwrap_or_else(|| {
            // One cluster, one strategy.
            let accepting =
                if self.seed.is_multiple_of(2) { self.judge::<PrimeOrder>() } else { self.judge::<Zip215>() };
            self.accepting.set(Some(accepting));
            accepting
        })
    }

    fn judge<R: Rule>(&self) -> u64 {
        let mut random = Random::new(self.seed, "torsion", 0);
        let key = SigningKey::from_bytes(&[7; 32]);
        let signature = odd_signature(&key, random.index(EIGHT_TORSION.len()), random.next());
        let honest = key.sign(MESSAGE).to_bytes();
        let verifier = key.verifying_key();
        let accepts = |replica: usize| {
            // Each replica has it in another company.
            let company = random.index(4);
            match self.planted {
                Some(Planted::SignatureRules) if replica % 2 == 1 => lax(&verifier, &signature),
                _ if company == 0 => R::verify(&verifier, MESSAGE, &signature),
                _ => {
                    let mut batch = SignatureBatch::<R>::with_capacity(company + 1);
                    for index in 0..=company {
                        batch.push(&verifier, MESSAGE, if index == replica % 2 { &signature } else { &honest });
                    }
                    batch.verify()[replica % 2]
                }
            }
        };
        let verdicts: Vec<bool> = (0..self.replicas).map(accepts).collect();
        verdicts.iter().rev().fold(0, |set, &accepts| set << 1 | u64::from(accepts))
    }
}

/// Without the cofactor: what a plain call of the library says.
fn lax(key: &VerifyingKey, signature: &[u8; 64]) -> bool {
    key.verify(MESSAGE, &Signature::from_bytes(signature)).is_ok()
}

/// By the key's owner, with a nonce point that has a torsion part.
fn odd_signature(key: &SigningKey, torsion: usize, nonce: u64) -> [u8; 64] {
    let r = Scalar::from(nonce);
    let r_bytes = (ED25519_BASEPOINT_POINT * r + EIGHT_TORSION[torsion]).compress().0;
    let hash = Sha512::new().chain_update(r_bytes).chain_update(key.verifying_key().as_bytes()).chain_update(MESSAGE);
    let k = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&r_bytes);
    signature[32..].copy_from_slice((r + k * key.to_scalar()).as_bytes());
    signature
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_gives_one_verdict_and_the_planted_one_does_not() {
        let accepting = |seed, planted| Torsion::new(seed, 7, planted).accepting();
        assert!((0..20).all(|seed| accepting(seed, None) == 0x7f));
        assert!((0..20).any(|seed| accepting(seed, Some(Planted::SignatureRules)) == 0b101_0101));
    }
}
