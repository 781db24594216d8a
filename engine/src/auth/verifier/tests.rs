//! What verdicts cost whom. That they are right is tested of every strategy (`strategies::conformance`).

use proptest::prelude::*;

use super::*;
use crate::auth::testing::{cluster, keyring, table};
use crate::auth::{BlockKind, Sealer, Strategy};
use crate::limits::SIGNATURE_BYTES;
use crate::types::{Digest, ReplicaId, SequenceNumber, View};

fn block(cluster: [u8; 8], sender: u16, sequence: u64) -> AuthBlock {
    let (view, sequence) = (View(3), SequenceNumber(sequence));
    AuthBlock::message(BlockKind::Prepare, cluster, ReplicaId(sender), view, sequence, &Digest([8; 32]))
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn strategies_of_plain_signatures_agree(flips in prop::collection::vec((0usize..6 * 64, any::<u8>()), 0..4)) {
        let file = cluster("ed25519", 4, &[3, 5]);
        let mut table = table(&(0..6).map(|at| (at % 3, u64::from(at), vec![at as u8; 40])).collect::<Vec<_>>());
        table.proofs = Sealer::new(keyring(&file, 4)).seal_requests(&table);
        let Proofs::Signatures(bytes) = &table.proofs else { panic!("signatures") };
        let mut bytes = bytes.to_vec();
        for (at, mask) in flips {
            bytes[at] ^= mask;
        }
        table.proofs = Proofs::Signatures(bytes.into());
        // The cluster's tag differs with the strategy, so the same keyring is asked in all ways.
        let own = keyring(&file, 2);
        let mut verifier = Verifier::new(Arc::clone(&own));
        let mut expected = Vec::new();
        verifier.verify_requests(&[Part::whole(&table, 0)], &mut expected);
        let mut checks = Vec::new();
        verifier.push_checks(&Part::whole(&table, 0), &mut checks);
        let is_plain = |strategy: &Strategy| strategy.is_transferable() && strategy.proof_bytes() == SIGNATURE_BYTES;
        for strategy in Strategy::all().filter(is_plain) {
            for shares in [Shares::OfSigners, Shares::OfParts(&[Part::whole(&table, 0)])] {
                let mut good = vec![false; checks.len()];
                strategy.judge(&own).judge(&checks, shares, &mut good);
                prop_assert_eq!(&good, &expected, "{}", strategy);
            }
        }
    }
}
