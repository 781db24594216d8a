//! `ed25519`: Ed25519 signatures, verified one by one, by the rule of [`signature`](crate::auth::signature).

use super::signed::{SignatureScheme, Signed};
use super::{About, Reach, Weight};
use crate::auth::signature::PrimeOrder;
use crate::limits::SIGNATURE_BYTES;

pub(super) static STRATEGY: Signed<OneByOne> = Signed::new();

#[derive(Debug)]
pub(super) struct OneByOne;

impl SignatureScheme for OneByOne {
    const ABOUT: &'static About = &About {
        name: "ed25519",
        aliases: &[],
        summary: "Ed25519 signatures, verified one by one",
        keys: "the nodes' identities",
        proof_bytes: SIGNATURE_BYTES,
        reach: Reach::Everybody,
        weight: Weight::Heavy,
    };

    const IN_BATCHES: bool = false;

    type Rule = PrimeOrder;
}
