//! `ed25519-merkle`: one Ed25519 signature for up to 64 blocks that are sealed together, as the requests of a client's
//! frame are. Each block's proof is that signature with the block's path to the signed root of a hash tree (Merkle,
//! CRYPTO'87).
//!
//! Batches are cut anew by the primary, and requests are forwarded and dropped one by one, so each has to prove itself
//! alone; and a signature for each is what signed requests cost. Here each still does, in any company, and what is dear
//! is done once: the same root under the same signature is verified once however many blocks lead to it, and is
//! remembered while the rest of a table or of a batch is on its way. What is left for each block is seven hashes at
//! most.
//!
//! # The proof
//! Depth of the tree (1 byte, at most 6), place of the leaf (1), six sibling nodes from the leaf up (32 each, zeros
//! beyond the depth), signature (64). The signature covers 58 bytes: a context, the depth and the root; nothing else
//! that nodes sign is as long. Leaves and inner nodes are keyed BLAKE3 of 64 bytes each, a block or two nodes, under
//! different keys: a block that looks like two nodes is none (the defect of trees without such a difference). Places
//! without a block are zeros.
//!
//! # Verdicts
//! A proof is good if its path leads to a root whose signature is good by the rule of
//! [`signature`](crate::auth::signature), alone and in batches. Nobody but the signer can make one for another block,
//! short of a second pre-image of BLAKE3. What is remembered was good by that rule, with every byte of the signature.
//!
//! # Who pays
//! A client may send a tree for each request. That costs as much as single signatures do, so checks count as dear, and
//! parties pay for the search in what they sent themselves.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ed25519_dalek::Signer as _;

use super::by_signer::BySigner;
use super::{About, Definition, Judge, Reach, Seal, Shares, Weight, batches};
use crate::auth::signature::{Effort, PrimeOrder, SignatureBatch};
use crate::auth::{AuthBlock, Check, Keyring};
use crate::limits::SIGNATURE_BYTES;
use crate::types::NodeId;

pub(super) static STRATEGY: Merkle = Merkle;

const DEPTH_MAX: usize = 6;
const LEAVES_MAX: usize = 1 << DEPTH_MAX;
const NODE_BYTES: usize = 32;
const PROOF_BYTES: usize = 2 + DEPTH_MAX * NODE_BYTES + SIGNATURE_BYTES;

const LEAF_KEY: &[u8; 32] = b"hippodrome ed25519-merkle leaf  ";
const NODE_KEY: &[u8; 32] = b"hippodrome ed25519-merkle node  ";
const ROOT_CONTEXT: &[u8; 25] = b"hippodrome ed25519-merkle";
const ROOT_BYTES: usize = ROOT_CONTEXT.len() + 1 + NODE_BYTES;

/// Roots that are remembered as signed: at least so many of the newest, at most twice as many.
const KNOWN_MIN: usize = 1024;

type Node = [u8; NODE_BYTES];

#[derive(Debug)]
pub(super) struct Merkle;

impl Definition for Merkle {
    fn about(&self) -> &'static About {
        &About {
            name: "ed25519-merkle",
            aliases: &[],
            summary: "one Ed25519 signature for up to 64 requests of a frame, each with its path in a hash tree",
            keys: "the nodes' identities",
            proof_bytes: PROOF_BYTES,
            reach: Reach::Everybody,
            weight: Weight::HeavyTogether,
        }
    }

    fn seal(&self, keyring: &Arc<Keyring>) -> Box<dyn Seal> {
        Box::new(Trees(Arc::clone(keyring)))
    }

    fn judge(&self, keyring: &Arc<Keyring>) -> Box<dyn Judge> {
        let keyring = Arc::clone(keyring);
        Box::new(Paths {
            keyring,
            order: BySigner::default(),
            known: Known::default(),
            odd: Vec::new(),
            effort: Effort::default(),
        })
    }
}

fn leaf(block: &AuthBlock) -> Node {
    blake3::keyed_hash(LEAF_KEY, &block.0).into()
}

fn parent(left: &Node, right: &Node) -> Node {
    blake3::keyed_hash(NODE_KEY, [*left, *right].as_flattened()).into()
}

/// What is signed.
fn root_message(depth: u8, root: &Node) -> [u8; ROOT_BYTES] {
    let mut message = [0; ROOT_BYTES];
    message[..ROOT_CONTEXT.len()].copy_from_slice(ROOT_CONTEXT);
    message[ROOT_CONTEXT.len()] = depth;
    message[ROOT_CONTEXT.len() + 1..].copy_from_slice(root);
    message
}

/// Signs by a node's identity.
#[derive(Debug)]
struct Trees(Arc<Keyring>);

impl Seal for Trees {
    fn seal(&self, to: NodeId, block: &AuthBlock, out: &mut Vec<u8>) {
        self.seal_all(to, std::slice::from_ref(block), out);
    }

    fn seal_all(&self, _: NodeId, blocks: &[AuthBlock], out: &mut Vec<u8>) {
        for blocks in blocks.chunks(LEAVES_MAX) {
            self.seal_tree(blocks, out);
        }
    }
}

impl Trees {
    #[allow(clippy::cast_possible_truncation, reason = "a tree has no more than LEAVES_MAX leaves")]
    fn seal_tree(&self, blocks: &[AuthBlock], out: &mut Vec<u8>) {
        let mut level: Vec<Node> = blocks.iter().map(leaf).collect();
        level.resize(blocks.len().next_power_of_two(), [0; NODE_BYTES]);
        let mut below = Vec::with_capacity(DEPTH_MAX);
        while level.len() > 1 {
            let above = level.as_chunks().0.iter().map(|[left, right]| parent(left, right)).collect();
            below.push(std::mem::replace(&mut level, above));
        }
        let depth = below.len() as u8;
        let signature = self.0.signing().sign(&root_message(depth, &level[0])).to_bytes();
        for index in 0..blocks.len() {
            out.extend_from_slice(&[depth, index as u8]);
            for at in 0..DEPTH_MAX {
                out.extend_from_slice(below.get(at).map_or(&[0; NODE_BYTES], |level| &level[(index >> at) ^ 1]));
            }
            out.extend_from_slice(&signature);
        }
    }
}

/// A root that somebody is said to have signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Signed {
    signer: NodeId,
    message: [u8; ROOT_BYTES],
    signature: [u8; SIGNATURE_BYTES],
}

impl Signed {
    /// Where the path of a claim leads; `None` if its proof is none.
    fn root_of(check: &Check<'_>) -> Option<Self> {
        let proof: &[u8; PROOF_BYTES] = check.proof.try_into().ok()?;
        let ([depth, index], rest) = proof.split_first_chunk()?;
        let (path, signature) = rest.split_last_chunk()?;
        let (levels, index) = (usize::from(*depth), usize::from(*index));
        if levels > DEPTH_MAX || index >= 1 << levels {
            return None;
        }
        let (siblings, unused) = path.as_chunks::<NODE_BYTES>().0.split_at(levels);
        if unused.iter().any(|node| *node != [0; NODE_BYTES]) {
            return None;
        }
        let up = |node: Node, (at, sibling): (usize, &Node)| {
            if index >> at & 1 == 0 { parent(&node, sibling) } else { parent(sibling, &node) }
        };
        let root = siblings.iter().enumerate().fold(leaf(&check.block), up);
        Some(Self { signer: check.signer, message: root_message(*depth, &root), signature: *signature })
    }
}

/// The newest roots whose signatures were good.
#[derive(Debug, Default)]
struct Known {
    newer: HashSet<Signed>,
    older: HashSet<Signed>,
}

impl Known {
    fn contains(&self, root: &Signed) -> bool {
        self.newer.contains(root) || self.older.contains(root)
    }

    fn insert(&mut self, root: Signed) {
        if self.newer.len() >= KNOWN_MIN {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(root);
    }
}

#[derive(Debug)]
struct Paths {
    keyring: Arc<Keyring>,
    order: BySigner,
    known: Known,
    odd: Vec<usize>,
    effort: Effort,
}

impl Paths {
    /// Judges the claims whose indices are in `parts`, each the business of another party, by their roots.
    fn judge_batch(
        &mut self,
        roots: &[Option<Signed>],
        parts: impl Iterator<Item = impl Iterator<Item = usize>>,
        good: &mut [bool],
    ) {
        let mut batch = SignatureBatch::<PrimeOrder>::with_capacity(roots.len().div_ceil(LEAVES_MAX));
        let mut places: HashMap<&Signed, usize> = HashMap::new();
        let mut open = Vec::new();
        for part in parts {
            for index in part {
                let Some(root) = &roots[index] else { continue };
                if self.known.contains(root) {
                    good[index] = true;
                    continue;
                }
                let Some(key) = self.keyring.public(root.signer) else { continue };
                let next = places.len();
                let place = *places.entry(root).or_insert_with(|| {
                    batch.push(key, &root.message, &root.signature);
                    next
                });
                open.push((index, place));
            }
            batch.end_part();
        }
        let verdicts = batch.verify();
        places.into_iter().filter(|(_, place)| verdicts[*place]).for_each(|(root, _)| self.known.insert(*root));
        for (index, place) in open {
            good[index] = verdicts[place];
            self.odd.extend(batch.odd().contains(&place).then_some(index));
        }
        self.effort += batch.effort();
    }
}

impl Judge for Paths {
    fn judge(&mut self, checks: &[Check<'_>], shares: Shares<'_>, good: &mut [bool]) {
        self.odd.clear();
        let roots: Vec<Option<Signed>> = checks.iter().map(Signed::root_of).collect();
        match shares {
            Shares::OfSigners => {
                let mut order = std::mem::take(&mut self.order);
                order.sort(checks, self.keyring.nodes(), PROOF_BYTES);
                let parts = order.signers().map(|(_, indices)| indices.iter().map(|&index| index as usize));
                self.judge_batch(&roots, parts, good);
                self.order = order;
            }
            Shares::OfParts(parts) => {
                for ranges in batches(parts) {
                    self.judge_batch(&roots, ranges.into_iter(), good);
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

#[cfg(test)]
mod tests;
