//! The family of tags: each pair of nodes shares a key for each direction, and a tag convinces its receiver alone.
//!
//! A file of this family says how one key makes and checks a tag ([`TagScheme`]); who has which key, and that what one
//! signer says is checked side by side, is done here.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::by_signer::BySigner;
use super::{About, Definition, Judge, Seal, Shares};
use crate::auth::{AuthBlock, Check, Keyring, RequestChecks};
use crate::types::NodeId;

/// How a key that two nodes share proves a block.
pub trait TagScheme: fmt::Debug + Send + Sync + 'static {
    /// What the strategy says of itself.
    const ABOUT: &'static About;

    /// A key, ready for use.
    type Key: Send + Sync;

    /// Prepares the key of one pair in one direction: 32 secret bytes that belong to this pair, this direction and this
    /// cluster (see [`Keyring`]).
    fn key(pair: &[u8; 32]) -> Self::Key;

    /// Appends the tag of `block`: exactly [`About::proof_bytes`].
    fn tag(key: &Self::Key, block: &AuthBlock, out: &mut Vec<u8>);

    /// Appends the tags of all `blocks`, in order. To be written anew where many at a time cost less.
    fn tags(key: &Self::Key, blocks: &[AuthBlock], out: &mut Vec<u8>) {
        for block in blocks {
            Self::tag(key, block, out);
        }
    }

    /// Whether `tag`, of [`About::proof_bytes`], is one of `block`, in time that does not depend on where it differs.
    fn holds(key: &Self::Key, block: &AuthBlock, tag: &[u8]) -> bool;

    /// Sets in `good`, for each of `blocks`, whether its place in `tags` holds one of its tags. To be written anew
    /// where many at a time cost less.
    fn check_tags(key: &Self::Key, blocks: &[AuthBlock], tags: &[u8], good: &mut [bool]) {
        for ((block, tag), good) in blocks.iter().zip(tags.chunks(Self::ABOUT.proof_bytes)).zip(good) {
            *good = Self::holds(key, block, tag);
        }
    }
}

/// A strategy of this family.
#[derive(Debug)]
pub struct SharedKey<S>(PhantomData<S>);

impl<S> SharedKey<S> {
    /// To be registered.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "a default can not be made in a static")]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<S: TagScheme> Definition for SharedKey<S> {
    fn about(&self) -> &'static About {
        S::ABOUT
    }

    fn seal(&self, keyring: &Arc<Keyring>) -> Box<dyn Seal> {
        Box::new(Keys::<S>(keyring.outgoing().map(S::key).collect()))
    }

    fn judge(&self, keyring: &Arc<Keyring>) -> Box<dyn Judge> {
        Box::new(TagJudge::<S> {
            keys: Keys(keyring.incoming().map(S::key).collect()),
            order: BySigner::default(),
            blocks: Vec::new(),
            tags: Vec::new(),
            verdicts: Vec::new(),
        })
    }
}

/// The keys of one node in one direction, by the node at the other end.
struct Keys<S: TagScheme>(Vec<S::Key>);

impl<S: TagScheme> fmt::Debug for Keys<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({} of {})", self.0.len(), S::ABOUT.name)
    }
}

impl<S: TagScheme> Keys<S> {
    fn to(&self, to: NodeId) -> &S::Key {
        self.0.get(usize::from(to.0)).expect("messages go to nodes of the cluster")
    }
}

impl<S: TagScheme> Seal for Keys<S> {
    fn seal(&self, to: NodeId, block: &AuthBlock, out: &mut Vec<u8>) {
        S::tag(self.to(to), block, out);
    }

    fn seal_all(&self, to: NodeId, blocks: &[AuthBlock], out: &mut Vec<u8>) {
        S::tags(self.to(to), blocks, out);
    }
}

/// Blocks of which the tags are checked at a time, 4 KiB, which stay in the L1 cache: four runs of the widest SIMD
/// level.
const BLOCKS_PER_SLICE: usize = 64;

/// Checks tags. What else it has is memory that is used again.
struct TagJudge<S: TagScheme> {
    keys: Keys<S>,
    order: BySigner,
    blocks: Vec<AuthBlock>,
    tags: Vec<u8>,
    verdicts: Vec<bool>,
}

impl<S: TagScheme> fmt::Debug for TagJudge<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.keys.fmt(f)
    }
}

impl<S: TagScheme> Judge for TagJudge<S> {
    /// Signer by signer, because what one signer made shares a key; whose business it is makes no difference.
    fn judge(&mut self, checks: &[Check<'_>], _: Shares<'_>, good: &mut [bool]) {
        let Self { keys: Keys(keys), order, blocks, tags, verdicts } = self;
        order.sort(checks, keys.len(), S::ABOUT.proof_bytes);
        for ((_, indices), key) in order.signers().zip(keys) {
            for indices in indices.chunks(BLOCKS_PER_SLICE) {
                let own = || indices.iter().map(|&index| &checks[index as usize]);
                blocks.clear();
                blocks.extend(own().map(|check| check.block));
                tags.clear();
                own().for_each(|check| tags.extend_from_slice(check.proof));
                verdicts.clear();
                verdicts.resize(indices.len(), false);
                S::check_tags(key, blocks, tags, verdicts);
                indices.iter().zip(&*verdicts).for_each(|(&index, verdict)| good[index as usize] = *verdict);
            }
        }
    }

    fn judge_requests(&mut self, requests: &RequestChecks<'_>, good: &mut [bool]) {
        let (proofs, proof_bytes) = requests.proofs();
        let Some(key) = self.keys.0.get(usize::from(requests.signer().0)) else { return };
        assert_eq!(proof_bytes, S::ABOUT.proof_bytes, "a table's proofs have the strategy's length");
        self.blocks.resize(BLOCKS_PER_SLICE, AuthBlock::EMPTY);
        let slices = proofs.chunks(BLOCKS_PER_SLICE * proof_bytes).zip(good.chunks_mut(BLOCKS_PER_SLICE));
        for (start, (tags, good)) in (0..).step_by(BLOCKS_PER_SLICE).zip(slices) {
            let blocks = &mut self.blocks[..good.len()];
            requests.set_blocks(start, blocks);
            S::check_tags(key, blocks, tags, good);
        }
    }
}
