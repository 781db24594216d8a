//! What each strategy accepts, and that nothing else is.

use std::iter::once;

use proptest::prelude::*;

use super::*;
use crate::auth::testing::{cluster, keyring, table};
use crate::auth::{BlockKind, Sealer};
use crate::settings::Authentication;
use crate::types::{ClientId, Digest, ReplicaId, SequenceNumber, Timestamp, View};

const CLASSES: [LinkClass; 3] = [LinkClass::ClientToReplica, LinkClass::ReplicaToReplica, LinkClass::ReplicaToClient];

fn block(cluster: [u8; 8], sender: u16, sequence: u64) -> AuthBlock {
    let (view, sequence) = (View(3), SequenceNumber(sequence));
    AuthBlock::message(BlockKind::Prepare, cluster, ReplicaId(sender), view, sequence, &Digest([8; 32]))
}

fn verify_one(verifier: &mut Verifier, class: LinkClass, signer: u16, block: AuthBlock, proof: &[u8]) -> bool {
    let mut good = vec![true; 5];
    verifier.verify(class, &[Check { signer: NodeId(signer), block, proof }], &mut good);
    assert_eq!(good.len(), 1);
    good[0]
}

#[test]
fn what_is_sealed_verifies_at_its_receiver_alone() {
    for strategy in Authentication::PRESETS {
        let file = cluster(strategy, 4, &[8]);
        let sealer = Sealer::new(keyring(&file, 1));
        let mut verifiers: Vec<_> = (0..5).map(|node| Verifier::new(keyring(&file, node))).collect();
        for class in CLASSES {
            let block = block(sealer.keyring().cluster(), 1, 9);
            let mut proof = Vec::new();
            sealer.seal(class, NodeId(2), &block, &mut proof);
            assert_eq!(proof.len(), sealer.proof_bytes(class), "{strategy} {class:?}");
            for (node, verifier) in verifiers.iter_mut().enumerate() {
                let expected = node == 2 || sealer.same_for_all(class);
                assert_eq!(verify_one(verifier, class, 1, block, &proof), expected, "{strategy} {class:?} at {node}");
            }
            // A proof of no use: an unknown signer, a proof that is too short or too long.
            assert!(!verify_one(&mut verifiers[2], class, 5, block, &proof));
            assert!(!verify_one(&mut verifiers[2], class, u16::MAX, block, &proof));
            assert!(!verify_one(&mut verifiers[2], class, 1, block, &[&proof[..], &[0]].concat()));
            if let Some((_, shorter)) = proof.split_last() {
                assert!(!verify_one(&mut verifiers[2], class, 1, block, shorter));
                assert!(!verify_one(&mut verifiers[2], class, 0, block, &proof), "another signer");
            }
        }
    }
}

#[test]
fn a_proof_binds_every_byte_of_the_block_and_the_direction() {
    for strategy in ["mac", "ed25519", "ed25519-batch"] {
        let file = cluster(strategy, 4, &[8]);
        let sealer = Sealer::new(keyring(&file, 1));
        let mut verifier = Verifier::new(keyring(&file, 2));
        let class = LinkClass::ReplicaToReplica;
        let good = block(sealer.keyring().cluster(), 1, 9);
        let mut proof = Vec::new();
        sealer.seal(class, NodeId(2), &good, &mut proof);
        for byte in 0..64 {
            let mut bad = good;
            bad.0[byte] ^= 1;
            assert!(!verify_one(&mut verifier, class, 1, bad, &proof), "byte {byte}");
        }
        // What 1 sealed for 2, sent back to 1 as if 2 had sealed it.
        assert!(!verify_one(&mut Verifier::new(keyring(&file, 1)), class, 2, good, &proof));
    }
}

#[test]
fn verdicts_keep_their_order_whoever_signed() {
    for strategy in ["mac", "ed25519-batch"] {
        let file = cluster(strategy, 7, &[8, 8]);
        let class = LinkClass::ReplicaToReplica;
        let sealers: Vec<_> = (0..9).map(|node| Sealer::new(keyring(&file, node))).collect();
        let mut verifier = Verifier::new(keyring(&file, 3));
        let signers: Vec<u16> = (0..50).map(|index| index * 5 % 9).collect();
        let mut proofs: Vec<Vec<u8>> = Vec::new();
        let blocks: Vec<_> =
            (0u64..).zip(&signers).map(|(at, &signer)| block(sealers[0].keyring().cluster(), signer, at)).collect();
        for (&signer, block) in signers.iter().zip(&blocks) {
            let mut proof = Vec::new();
            sealers[usize::from(signer)].seal(class, NodeId(3), block, &mut proof);
            proofs.push(proof);
        }
        proofs[7][3] ^= 1;
        proofs[20].pop();
        let checks: Vec<_> =
            (0..50).map(|at| Check { signer: NodeId(signers[at]), block: blocks[at], proof: &proofs[at] }).collect();
        let mut good = Vec::new();
        verifier.verify(class, &checks, &mut good);
        assert_eq!(good, (0..50).map(|at| ![7, 20].contains(&at)).collect::<Vec<_>>(), "{strategy}");
    }
}

fn sealed(strategy: &str) -> (Vec<Verifier>, RequestTable, RequestTable) {
    let file = cluster(strategy, 4, &[3, 5]);
    let seal = |node: u16, requests: &[(u32, u64, Vec<u8>)]| {
        let mut table = table(requests);
        table.proofs = Sealer::new(keyring(&file, node)).seal_requests(&table);
        table
    };
    let first = seal(4, &[(0, 1, vec![1]), (2, 7, vec![2; 90]), (1, 1, vec![])]);
    let second = seal(5, &[(3, 2, vec![4; 64]), (7, 1, vec![5])]);
    ((0..4).map(|node| Verifier::new(keyring(&file, node))).collect(), first, second)
}

fn parts<'a>(tables: &[&'a RequestTable; 2], batches: [usize; 2]) -> [Part<'a>; 2] {
    [0, 1].map(|at| Part::whole(tables[at], batches[at]))
}

#[test]
fn requests_of_several_tables_verify_together_at_every_replica() {
    for strategy in Authentication::PRESETS {
        let (mut verifiers, first, second) = sealed(strategy);
        let mut good = vec![false; 99];
        for verifier in &mut verifiers {
            for batches in [[0, 0], [0, 1]] {
                verifier.verify_requests(&parts(&[&first, &second], batches), &mut good);
                assert_eq!(good, [true; 5], "{strategy}");
            }
        }
        // One changed request is bad and touches no other.
        let mut changed = first.clone();
        changed.timestamps[1] = Timestamp(8);
        for batches in [[0, 0], [0, 1]] {
            verifiers[3].verify_requests(&parts(&[&changed, &second], batches), &mut good);
            assert_eq!(good, [true, *strategy == "none", true, true, true], "{strategy}");
        }
        let some = [Part { range: 1..3, ..Part::whole(&changed, 0) }, Part { range: 1..1, ..Part::whole(&second, 0) }];
        verifiers[3].verify_requests(&some, &mut good);
        assert_eq!(good, [*strategy == "none", true], "{strategy}");
        // So is a client of another node, and one beyond the cluster's clients, even where nothing is proven.
        for (client, none) in [(4, true), (8, false), (u32::MAX, false)] {
            let mut changed = first.clone();
            changed.clients[0] = ClientId(client);
            verifiers[0].verify_requests(&[Part::whole(&changed, 0)], &mut good);
            assert_eq!(good, [none && *strategy == "none", true, true], "{strategy}: {client}");
        }
    }
}

/// Whoever sends bad signatures pays for the search by itself; what the others pay does not grow with it.
#[test]
fn bad_signatures_cost_those_who_share_a_batch_one_combined_check() {
    let file = cluster("ed25519-batch", 4, &[40, 40]);
    let of = |node: u16, first: u32| {
        let requests: Vec<_> = (first..first + 40).map(|client| (client, 1, vec![7])).collect();
        let mut table = table(&requests);
        table.proofs = Sealer::new(keyring(&file, node)).seal_requests(&table);
        table
    };
    let (mut bad, good_ones) = (of(4, 0), of(5, 40));
    let Proofs::Signatures(bytes) = &bad.proofs else { panic!("signatures") };
    bad.proofs = Proofs::Signatures(bytes.iter().map(|byte| !byte).collect());
    let mut good = Vec::new();
    let mut cost = |parts: &[Part<'_>]| {
        let mut verifier = Verifier::new(keyring(&file, 2));
        verifier.verify_requests(parts, &mut good);
        (verifier.effort(), good.iter().filter(|good| **good).count())
    };
    let (alone, none) = cost(&[Part::whole(&bad, 0)]);
    assert_eq!((alone.single, none), (40, 0));
    let (shared, accepted) = cost(&[Part::whole(&bad, 0), Part::whole(&good_ones, 0)]);
    assert_eq!(accepted, 40);
    assert_eq!((shared.single, shared.combined), (alone.single, alone.combined + 2), "one for all, one for the good");
    let (apart, accepted) = cost(&[Part::whole(&bad, 1), Part::whole(&good_ones, 0)]);
    assert_eq!(accepted, 40);
    assert_eq!((apart.single, apart.combined), (alone.single, alone.combined + 1));
}

#[test]
fn messages_of_one_sender_do_not_make_those_of_another_slow() {
    let file = cluster("ed25519-batch", 4, &[8]);
    let class = LinkClass::ReplicaToReplica;
    let mut proofs = Vec::new();
    let checks: Vec<(u16, AuthBlock)> = (0..40)
        .map(|at| {
            let signer = at % 2;
            let sealer = Sealer::new(keyring(&file, signer));
            let block = block(sealer.keyring().cluster(), signer, u64::from(at));
            let mut proof = Vec::new();
            sealer.seal(class, NodeId(2), &block, &mut proof);
            proof[40] ^= u8::try_from(signer).unwrap();
            proofs.push(proof);
            (signer, block)
        })
        .collect();
    let checks: Vec<_> = checks
        .iter()
        .zip(&proofs)
        .map(|((signer, block), proof)| Check { signer: NodeId(*signer), block: *block, proof })
        .collect();
    let mut verifier = Verifier::new(keyring(&file, 2));
    let mut good = Vec::new();
    verifier.verify(class, &checks, &mut good);
    assert_eq!(good, (0..40).map(|at| at % 2 == 0).collect::<Vec<_>>());
    assert_eq!(verifier.effort().single, 20, "those of the sender of bad ones");
}

#[test]
fn a_single_column_is_its_receivers() {
    let (mut verifiers, first, _) = sealed("mac");
    let Proofs::Tags { bytes, .. } = &first.proofs else { panic!("tags") };
    let mut good = Vec::new();
    for column in 0..4 {
        let own = bytes.slice(column * 48..(column + 1) * 48);
        let copy = RequestTable { proofs: Proofs::Tags { columns: 1, bytes: own }, ..first.clone() };
        for (replica, verifier) in verifiers.iter_mut().enumerate() {
            verifier.verify_requests(&[Part::whole(&copy, 0)], &mut good);
            assert_eq!(good, [replica == column; 3]);
        }
    }
}

#[test]
fn proofs_of_another_kind_or_number_are_all_bad() {
    let tag_table = sealed("mac").1;
    let signed_table = sealed("ed25519").1;
    let Proofs::Tags { bytes, .. } = &tag_table.proofs else { panic!("tags") };
    let with = |proofs| RequestTable { proofs, ..tag_table.clone() };
    let bad = [
        with(Proofs::None),
        with(Proofs::Tags { columns: 0, bytes: bytes.slice(..0) }),
        with(Proofs::Tags { columns: 2, bytes: bytes.slice(..96) }),
        with(Proofs::Tags { columns: 4, bytes: bytes.slice(..96) }),
        with(Proofs::Tags { columns: 5, bytes: vec![0; 240].into() }),
        with(Proofs::Tags { columns: 1, bytes: bytes.slice(..32) }),
        signed_table,
    ];
    let mut good = Vec::new();
    for table in &bad {
        sealed("mac").0[0].verify_requests(&[Part::whole(table, 0)], &mut good);
        assert_eq!(good, [false; 3], "{:?}", table.proofs);
    }
    for strategy in ["none", "ed25519", "hybrid"] {
        sealed(strategy).0[0].verify_requests(&[Part::whole(&tag_table, 0)], &mut good);
        assert_eq!(good, [false; 3], "{strategy}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_two_signature_strategies_agree(flips in prop::collection::vec((0usize..3 * 64, any::<u8>()), 0..4)) {
        let mut verdicts = Vec::new();
        let (_, table, _) = sealed("ed25519");
        let Proofs::Signatures(bytes) = &table.proofs else { panic!("signatures") };
        let mut bytes = bytes.to_vec();
        for (at, mask) in flips {
            bytes[at] ^= mask;
        }
        // The cluster's tag differs with the strategy, so the same keyring is asked in both ways.
        let mut verifier = sealed("ed25519").0.remove(0);
        let table = RequestTable { proofs: Proofs::Signatures(bytes.into()), ..table };
        let mut checks = Vec::new();
        verifier.push_checks(&Part::whole(&table, 0), &mut checks);
        for batch in [false, true] {
            let mut good = vec![false; checks.len()];
            if batch { verifier.verify_batch(&checks, once(0..checks.len()), &mut good) } else { verifier.verify_singly(&checks, &mut good) }
            verdicts.push(good);
        }
        let mut good = Vec::new();
        verifier.verify_requests(&[Part::whole(&table, 0)], &mut good);
        prop_assert_eq!(&verdicts[0], &verdicts[1]);
        prop_assert_eq!(&verdicts[0], &good);
    }
}
