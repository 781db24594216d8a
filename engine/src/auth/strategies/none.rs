//! `none`: nothing is proven. The crypto-free baseline, against which the price of the others is measured.

use std::sync::Arc;

use super::{About, Definition, Judge, Reach, Seal, Shares, Weight};
use crate::auth::{AuthBlock, Check, Keyring, RequestChecks};
use crate::types::NodeId;

pub(super) static STRATEGY: Nothing = Nothing;

#[derive(Debug)]
pub(super) struct Nothing;

impl Definition for Nothing {
    fn about(&self) -> &'static About {
        &About {
            name: "none",
            aliases: &[],
            summary: "nothing is proven: the crypto-free baseline",
            keys: "none",
            proof_bytes: 0,
            reach: Reach::Nobody,
            weight: Weight::Light,
        }
    }

    fn seal(&self, _: &Arc<Keyring>) -> Box<dyn Seal> {
        Box::new(Self)
    }

    fn judge(&self, keyring: &Arc<Keyring>) -> Box<dyn Judge> {
        Box::new(AnyNode { nodes: keyring.nodes() })
    }
}

impl Seal for Nothing {
    fn seal(&self, _: NodeId, _: &AuthBlock, _: &mut Vec<u8>) {}
}

/// Believes every node of the cluster, so that only who is not in it is refused.
#[derive(Debug)]
struct AnyNode {
    nodes: usize,
}

impl Judge for AnyNode {
    fn judge(&mut self, checks: &[Check<'_>], _: Shares<'_>, good: &mut [bool]) {
        for (check, good) in checks.iter().zip(good) {
            *good = check.proof.is_empty() && usize::from(check.signer.0) < self.nodes;
        }
    }

    fn judge_requests(&mut self, requests: &RequestChecks<'_>, good: &mut [bool]) {
        good.fill(requests.proofs().0.is_empty() && usize::from(requests.signer().0) < self.nodes);
    }
}
