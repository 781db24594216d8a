//! The family of signatures by the nodes' Ed25519 identities: one signature convinces everybody and can be passed on.
//!
//! A file of this family says by which rule a signature is good, and whether signatures are verified in batches
//! ([`SignatureScheme`]). Batches never change a verdict: see [`Rule`].

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use ed25519_dalek::Signer as _;

use super::by_signer::BySigner;
use super::{About, Definition, Judge, Seal, Shares, batches};
use crate::auth::signature::{Effort, Rule, SignatureBatch};
use crate::auth::{AuthBlock, Check, Keyring};
use crate::limits::SIGNATURE_BYTES;
use crate::types::NodeId;

/// How signatures are judged.
pub trait SignatureScheme: fmt::Debug + Send + Sync + 'static {
    /// What the strategy says of itself.
    const ABOUT: &'static About;

    /// Whether signatures are verified in batches.
    const IN_BATCHES: bool;

    /// When a signature is good.
    type Rule: Rule;
}

/// A strategy of this family.
#[derive(Debug)]
pub struct Signed<S>(PhantomData<S>);

impl<S> Signed<S> {
    /// To be registered.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "a default can not be made in a static")]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<S: SignatureScheme> Definition for Signed<S> {
    fn about(&self) -> &'static About {
        S::ABOUT
    }

    fn seal(&self, keyring: &Arc<Keyring>) -> Box<dyn Seal> {
        Box::new(Identity(Arc::clone(keyring)))
    }

    fn judge(&self, keyring: &Arc<Keyring>) -> Box<dyn Judge> {
        let keyring = Arc::clone(keyring);
        if S::IN_BATCHES {
            let (order, odd, effort) = (BySigner::default(), Vec::new(), Effort::default());
            Box::new(InBatches::<S::Rule> { keyring, order, odd, effort, rule: PhantomData })
        } else {
            Box::new(OneByOne::<S::Rule> { keyring, rule: PhantomData })
        }
    }
}

/// Signs by a node's identity.
#[derive(Debug)]
struct Identity(Arc<Keyring>);

impl Seal for Identity {
    fn seal(&self, _: NodeId, block: &AuthBlock, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.signing().sign(&block.0).to_bytes());
    }
}

#[derive(Debug)]
struct OneByOne<R> {
    keyring: Arc<Keyring>,
    rule: PhantomData<R>,
}

impl<R: Rule> Judge for OneByOne<R> {
    fn judge(&mut self, checks: &[Check<'_>], _: Shares<'_>, good: &mut [bool]) {
        for (check, good) in checks.iter().zip(good) {
            let key = self.keyring.public(check.signer);
            let proof: Option<&[u8; SIGNATURE_BYTES]> = check.proof.try_into().ok();
            *good = key.zip(proof).is_some_and(|(key, proof)| R::verify(key, &check.block.0, proof));
        }
    }
}

#[derive(Debug)]
struct InBatches<R> {
    keyring: Arc<Keyring>,
    order: BySigner,
    odd: Vec<usize>,
    effort: Effort,
    rule: PhantomData<R>,
}

impl<R: Rule> InBatches<R> {
    /// Checks those of `checks` whose indices are in `parts`, each the business of another party.
    fn judge_batch(
        &mut self,
        checks: &[Check<'_>],
        parts: impl Iterator<Item = impl Iterator<Item = usize>>,
        good: &mut [bool],
    ) {
        let mut batch = SignatureBatch::<R>::with_capacity(checks.len());
        let mut indices = Vec::with_capacity(checks.len());
        for part in parts {
            for index in part {
                let check = &checks[index];
                let proof: Option<&[u8; SIGNATURE_BYTES]> = check.proof.try_into().ok();
                if let Some((key, proof)) = self.keyring.public(check.signer).zip(proof) {
                    batch.push(key, &check.block.0, proof);
                    indices.push(index);
                }
            }
            batch.end_part();
        }
        for (index, verdict) in indices.iter().zip(batch.verify()) {
            good[*index] = verdict;
        }
        self.odd.extend(batch.odd().iter().map(|at| indices[*at]));
        self.effort += batch.effort();
    }
}

impl<R: Rule> Judge for InBatches<R> {
    fn judge(&mut self, checks: &[Check<'_>], shares: Shares<'_>, good: &mut [bool]) {
        self.odd.clear();
        match shares {
            Shares::OfSigners => {
                let mut order = std::mem::take(&mut self.order);
                order.sort(checks, self.keyring.nodes(), SIGNATURE_BYTES);
                let parts = order.signers().map(|(_, indices)| indices.iter().map(|&index| index as usize));
                self.judge_batch(checks, parts, good);
                self.order = order;
            }
            Shares::OfParts(parts) => {
                for ranges in batches(parts) {
                    self.judge_batch(checks, ranges.into_iter(), good);
                }
            }
        }
    }

    fn odd(&self) -> &[usize] {
        &self.odd
    }

    fn effort(&self) -> Effort {
        self.effort
    }
}
