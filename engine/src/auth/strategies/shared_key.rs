//! The family of tags: each pair of nodes shares a key for each direction, and a tag convinces its receiver alone.
//!
//! A file of this family says how one key makes and checks a tag ([`TagScheme`]); who has which key, and that what one
//! signer says is checked side by side, is done here.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::by_signer::BySigner;
use super::{About, Definition, Judge, Seal, Shares};
use crate::auth::{AuthBlock, Check, Keyring, RequestClaims};
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

    /// Sets in `good`, for each of `blocks`, whether its place in `tags` holds one of its tags. To be written anew where
    /// many at a time cost less.
    fn check_each(key: &Self::Key, blocks: &[AuthBlock], tags: &[u8], good: &mut [bool]) {
        for ((block, tag), good) in blocks.iter().zip(tags.chunks(Self::ABOUT.proof_bytes)).zip(good) {
            *good = Self::holds(key, block, tag);
        }
    }

    /// Tells the verdict of each claim, all of which one signer is said to have made. To be written anew where many at
    /// a time cost less.
    fn check(key: &Self::Key, claims: Claims<'_>, mut verdict: impl FnMut(usize, bool)) {
        for at in 0..claims.len() {
            verdict(at, Self::holds(key, claims.block(at), claims.tag(at)));
        }
    }
}

/// Blocks of requests that are made at a time, which stay in the L1 cache: four runs of the widest SIMD level, 4 KiB.
const SLICE: usize = 64;

/// Claims of one signer, each with a tag of the right length.
#[derive(Clone, Copy, Debug)]
pub struct Claims<'a> {
    checks: &'a [Check<'a>],
    indices: &'a [u32],
}

impl<'a> Claims<'a> {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// What claim `at` is about.
    #[must_use]
    pub fn block(&self, at: usize) -> &'a AuthBlock {
        &self.checks[self.indices[at] as usize].block
    }

    /// What should prove it.
    #[must_use]
    pub fn tag(&self, at: usize) -> &'a [u8] {
        self.checks[self.indices[at] as usize].proof
    }

    /// What all of them are about, in order.
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = &'a AuthBlock> {
        let Self { checks, indices } = *self;
        indices.iter().map(move |&index| &checks[index as usize].block)
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

struct TagJudge<S: TagScheme> {
    keys: Keys<S>,
    order: BySigner,
    /// Of requests; memory that is used again.
    blocks: Vec<AuthBlock>,
}

impl<S: TagScheme> fmt::Debug for TagJudge<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.keys.fmt(f)
    }
}

impl<S: TagScheme> Judge for TagJudge<S> {
    /// Signer by signer, because what one signer made shares a key; whose business it is makes no difference.
    fn judge(&mut self, checks: &[Check<'_>], _: Shares<'_>, good: &mut [bool]) {
        let keys = &self.keys.0;
        self.order.sort(checks, keys.len(), S::ABOUT.proof_bytes);
        for ((_, indices), key) in self.order.signers().zip(keys) {
            S::check(key, Claims { checks, indices }, |at, verdict| good[indices[at] as usize] = verdict);
        }
    }

    fn judge_requests(&mut self, claims: &RequestClaims<'_>, good: &mut [bool]) {
        let (proofs, proof_bytes) = claims.proofs();
        let Some(key) = self.keys.0.get(usize::from(claims.signer().0)) else { return };
        assert_eq!(proof_bytes, S::ABOUT.proof_bytes, "a table's proofs have the strategy's length");
        self.blocks.resize(SLICE, AuthBlock::EMPTY);
        let slices = proofs.chunks(SLICE * proof_bytes).zip(good.chunks_mut(SLICE));
        for (start, (tags, good)) in (0..).step_by(SLICE).zip(slices) {
            let blocks = &mut self.blocks[..good.len()];
            claims.set_blocks(start, blocks);
            S::check_each(key, blocks, tags, good);
        }
    }
}
