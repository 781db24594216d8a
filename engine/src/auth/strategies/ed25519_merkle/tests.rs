//! What a path proves, and that a signature is paid for once. What every strategy must do is tested of this one, too.

use super::*;
use crate::auth::strategies::Strategy;
use crate::auth::testing::{cluster, keyring};

fn blocks(count: u8) -> Vec<AuthBlock> {
    (0..count).map(|at| AuthBlock([at; 64])).collect()
}

/// Of node 0.
fn sealed(blocks: &[AuthBlock]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    Merkle.seal(&keyring(&cluster("ed25519-merkle", 4, &[1]), 0)).seal_all(NodeId(1), blocks, &mut out);
    out.chunks(PROOF_BYTES).map(<[u8]>::to_vec).collect()
}

fn judge() -> Box<dyn Judge> {
    Strategy::named("ed25519-merkle").unwrap().judge(&keyring(&cluster("ed25519-merkle", 4, &[1]), 1))
}

fn verdicts(judge: &mut dyn Judge, claims: &[(AuthBlock, &[u8])]) -> Vec<bool> {
    let checks: Vec<_> = claims.iter().map(|&(block, proof)| Check { signer: NodeId(0), block, proof }).collect();
    let mut good = vec![false; checks.len()];
    judge.judge(&checks, Shares::OfSigners, &mut good);
    good
}

fn claims<'a>(blocks: &[AuthBlock], proofs: &'a [Vec<u8>]) -> Vec<(AuthBlock, &'a [u8])> {
    blocks.iter().copied().zip(proofs.iter().map(Vec::as_slice)).collect()
}

#[test]
fn one_signature_is_for_64_blocks_and_is_verified_once() {
    let blocks = blocks(130);
    let proofs = sealed(&blocks);
    let signatures: HashSet<&[u8]> = proofs.iter().map(|proof| &proof[PROOF_BYTES - SIGNATURE_BYTES..]).collect();
    assert_eq!(signatures.len(), 3);
    let mut judge = judge();
    // Of each tree some, in any order, and the rest later, as tables are cut into slices.
    let claims = claims(&blocks, &proofs);
    let mut some: Vec<_> = claims.iter().copied().step_by(3).collect();
    some.reverse();
    assert_eq!(verdicts(&mut *judge, &some), vec![true; some.len()]);
    let of_three = Effort { combined: 1, combined_signatures: 3, single: 0 };
    assert_eq!(judge.effort(), of_three, "of three signatures");
    assert_eq!(verdicts(&mut *judge, &claims), [true; 130]);
    assert_eq!(judge.effort(), of_three, "what is known costs nothing");
}

#[test]
fn trees_of_every_size_prove_each_block_alone_in_its_own_place() {
    for count in 1..=64 {
        let blocks = blocks(count);
        let proofs = sealed(&blocks);
        let mut judge = judge();
        for (at, (block, proof)) in blocks.iter().zip(&proofs).enumerate() {
            let other = AuthBlock([0xff; 64]);
            let moved = blocks[(at + 1) % blocks.len()];
            let claims: [(AuthBlock, &[u8]); 3] = [(*block, proof), (other, proof), (moved, proof)];
            assert_eq!(verdicts(&mut *judge, &claims), [true, false, count == 1], "{at} of {count}");
        }
    }
}

#[test]
fn what_is_bad_is_not_remembered_and_spoils_no_other() {
    let blocks = blocks(64);
    let mut proofs = sealed(&blocks);
    // Another signature on the same root: it is another claim.
    proofs[7][PROOF_BYTES - 5] ^= 1;
    let mut judge = judge();
    for _ in 0..3 {
        let expected: Vec<bool> = (0..64).map(|at| at != 7).collect();
        assert_eq!(verdicts(&mut *judge, &claims(&blocks, &proofs)), expected);
    }
    assert_eq!(judge.effort().single, 4, "both at first, the bad one each time");
    // The same by somebody else.
    let claim = Check { signer: NodeId(2), block: blocks[0], proof: &proofs[0] };
    let mut good = [false];
    judge.judge(&[claim], Shares::OfSigners, &mut good);
    assert_eq!(good, [false]);
}

/// An inner node is the hash of 64 bytes, as a leaf is; under one key they could be taken for each other.
#[test]
fn two_nodes_are_no_block() {
    let blocks = blocks(4);
    let proofs = sealed(&blocks);
    let mut pair = AuthBlock([0; 64]);
    pair.0[..32].copy_from_slice(&leaf(&blocks[0]));
    pair.0[32..].copy_from_slice(&leaf(&blocks[1]));
    let mut shorter = vec![0; PROOF_BYTES];
    shorter[0] = 1;
    shorter[2..34].copy_from_slice(&proofs[0][34..66]);
    shorter[PROOF_BYTES - SIGNATURE_BYTES..].copy_from_slice(&proofs[0][PROOF_BYTES - SIGNATURE_BYTES..]);
    assert_eq!(verdicts(&mut *judge(), &[(pair, &shorter)]), [false]);
}

#[test]
fn a_proof_has_one_spelling() {
    let blocks = blocks(3);
    let proofs = sealed(&blocks);
    let spoiled = |at: usize, value: u8| {
        let mut proof = proofs[1].clone();
        proof[at] = value;
        proof
    };
    assert_eq!(proofs[1][..2], [2, 1], "depth and place");
    for (at, value) in [(0, 3), (0, 1), (0, 7), (0, 255), (1, 5), (1, 4), (1, 0), (2 + 2 * 32, 1), (2 + 6 * 32 - 1, 1)]
    {
        assert_eq!(verdicts(&mut *judge(), &[(blocks[1], &spoiled(at, value))]), [false], "{value} at {at}");
    }
}

#[test]
fn a_bounded_number_of_roots_is_remembered() {
    let mut known = Known::default();
    let root = |at: usize| {
        let mut signature = [0; SIGNATURE_BYTES];
        signature[..8].copy_from_slice(&at.to_le_bytes());
        Signed { signer: NodeId(0), message: [0; ROOT_BYTES], signature }
    };
    for at in 0..10 * KNOWN_MIN {
        known.insert(root(at));
        assert!(known.newer.len() + known.older.len() <= 2 * KNOWN_MIN);
        assert!((at.saturating_sub(KNOWN_MIN - 1)..=at).all(|newest| at % 97 != 0 || known.contains(&root(newest))));
    }
}
