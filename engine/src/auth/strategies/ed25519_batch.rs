//! `ed25519-batch`: Ed25519 signatures, verified in batches, by the rule of [`signature`](crate::auth::signature),
//! which gives the same verdicts as `ed25519`. A batch that fails is searched for the bad ones by halves.

use super::signed::{SignatureScheme, Signed};
use super::{About, Reach, Weight};
use crate::auth::signature::PrimeOrder;
use crate::limits::SIGNATURE_BYTES;

pub(super) static STRATEGY: Signed<InBatches> = Signed::new();

#[derive(Debug)]
pub(super) struct InBatches;

impl SignatureScheme for InBatches {
    const ABOUT: &'static About = &About {
        name: "ed25519-batch",
        aliases: &[],
        summary: "Ed25519 signatures, verified in batches",
        keys: "the nodes' identities",
        proof_bytes: SIGNATURE_BYTES,
        reach: Reach::Everybody,
        weight: Weight::Heavy,
    };

    const IN_BATCHES: bool = true;

    type Rule = PrimeOrder;
}
