//! What every strategy must do, tested of each that is registered: it accepts what it sealed, and nothing that differs
//! from it in anything, whatever is checked beside it.

use std::collections::HashSet;

use super::*;
use crate::auth::testing::{cluster, key, keyring, table};
use crate::auth::verifier::for_each_signer;
use crate::auth::{BlockKind, LinkClass, Part, Sealer, Verifier};
use crate::limits::{PROOF_BYTES_MAX, RECEIVER_PROOF_BYTES_MAX, REQUESTS_MAX};
use crate::requests::{Proofs, RequestTable};
use crate::settings::Authentication;
use crate::types::{ClientId, Digest, ReplicaId, SequenceNumber, Timestamp, View};
use crate::wire::{Decoder, FrameKind, FrameReader, encode_and_seal, encode_reads, encode_requests};

/// Of the cluster of these tests: replicas 0 to 3, and two client nodes with clients 0 to 2 and 3 to 7.
const NODES: u16 = 6;
const CLIENTS: [u32; 2] = [3, 5];
const CLASS: LinkClass = LinkClass::ReplicaToReplica;

fn block(cluster: [u8; 8], sender: u16, sequence: u64) -> AuthBlock {
    let (view, sequence) = (View(3), SequenceNumber(sequence));
    AuthBlock::message(BlockKind::Prepare, cluster, ReplicaId(sender), view, sequence, &Digest([8; 32]))
}

fn sealer(strategy: Strategy, node: u16) -> Sealer {
    Sealer::new(keyring(&cluster(strategy.name(), 4, &CLIENTS), node))
}

fn verifier(strategy: Strategy, node: u16) -> Verifier {
    Verifier::new(keyring(&cluster(strategy.name(), 4, &CLIENTS), node))
}

/// A block that `from` proves to `to`.
fn sealed(strategy: Strategy, class: LinkClass, from: u16, to: u16) -> (AuthBlock, Vec<u8>) {
    let sealer = sealer(strategy, from);
    let block = block(sealer.keyring().cluster(), from, 9);
    let mut proof = Vec::new();
    sealer.seal(class, NodeId(to), &block, &mut proof);
    assert_eq!(proof.len(), strategy.proof_bytes(), "{strategy}");
    (block, proof)
}

/// The verdict alone, which must be the one among others.
fn holds(verifier: &mut Verifier, class: LinkClass, signer: u16, block: AuthBlock, proof: &[u8]) -> bool {
    let check = Check { signer: NodeId(signer), block, proof };
    let mut good = vec![true; 5];
    verifier.verify(class, &[check], &mut good);
    let &[alone] = &good[..] else { panic!("one verdict") };
    verifier.verify(class, &[check; 3], &mut good);
    assert_eq!(good, [alone; 3], "in company");
    alone
}

/// Everything about the claim is right but one byte of the block or of the proof.
#[test]
fn a_proof_is_of_every_byte_of_its_block_and_of_itself() {
    for strategy in Strategy::all() {
        let (good, proof) = sealed(strategy, CLASS, 1, 2);
        let mut verifier = verifier(strategy, 2);
        assert!(holds(&mut verifier, CLASS, 1, good, &proof), "{strategy}");
        let is_proven = strategy.proof_bytes() > 0;
        for (byte, mask) in (0..64).flat_map(|byte| [(byte, 1), (byte, 0x80)]) {
            let mut bad = good;
            bad.0[byte] ^= mask;
            assert_eq!(holds(&mut verifier, CLASS, 1, bad, &proof), !is_proven, "{strategy}: byte {byte} of the block");
        }
        for (byte, mask) in (0..proof.len()).flat_map(|byte| [(byte, 1), (byte, 0x80)]) {
            let mut bad = proof.clone();
            bad[byte] ^= mask;
            assert!(!holds(&mut verifier, CLASS, 1, good, &bad), "{strategy}: byte {byte} of the proof");
        }
        for length in (0..proof.len()).chain([proof.len() + 1, 2 * proof.len() + 1]) {
            let mut bad = proof.repeat(3);
            bad.resize(length, 0);
            assert!(!holds(&mut verifier, CLASS, 1, good, &bad), "{strategy}: {length} bytes");
        }
    }
}

#[test]
fn a_proof_is_of_its_signer_and_for_its_receiver() {
    for (strategy, class) in Strategy::all().flat_map(|strategy| LinkClass::ALL.map(|class| (strategy, class))) {
        let (block, proof) = sealed(strategy, class, 1, 2);
        for receiver in 0..NODES {
            let verifier = &mut verifier(strategy, receiver);
            let expected = receiver == 2 || strategy.about().reach != Reach::Receiver;
            assert_eq!(holds(verifier, class, 1, block, &proof), expected, "{strategy} {class:?} at {receiver}");
            for signer in (0..NODES).filter(|signer| *signer != 1) {
                let expected = strategy.proof_bytes() == 0;
                assert_eq!(holds(verifier, class, signer, block, &proof), expected, "{strategy} {class:?} by {signer}");
            }
            for stranger in [NODES, NODES + 1, u16::MAX] {
                assert!(!holds(verifier, class, stranger, block, &proof), "{strategy} {class:?} by {stranger}");
            }
        }
    }
}

/// Not sent back, and not carried to a cluster of the same nodes with other settings.
#[test]
fn a_proof_is_of_its_direction_and_its_cluster() {
    for strategy in Strategy::all().filter(|strategy| strategy.proof_bytes() > 0) {
        let (block, proof) = sealed(strategy, CLASS, 1, 2);
        assert!(!holds(&mut verifier(strategy, 1), CLASS, 2, block, &proof), "{strategy}: sent back");
        let mut other = cluster(strategy.name(), 4, &CLIENTS);
        other.settings.window += 1;
        let other = keyring(&other, 2);
        assert!(!holds(&mut verifier(strategy, 2), CLASS, 1, said_in(other.cluster(), block), &proof), "{strategy}");
        if strategy.is_for_receiver() {
            // Not even if the block itself did not tell.
            assert!(!holds(&mut Verifier::new(other), CLASS, 1, block, &proof), "{strategy}: another cluster");
        }
    }
}

fn said_in(cluster: [u8; 8], mut block: AuthBlock) -> AuthBlock {
    block.0[24..32].copy_from_slice(&cluster);
    block
}

/// Of any number of claims by anybody, exactly the bad ones are found, and in batches those that are found one by one.
#[test]
fn exactly_the_bad_ones_are_found_whoever_signed() {
    for strategy in Strategy::all().filter(|strategy| strategy.proof_bytes() > 0) {
        let sealers: Vec<Sealer> = (0..NODES).map(|node| sealer(strategy, node)).collect();
        let mut verifier = verifier(strategy, 3);
        let sizes = if strategy.is_heavy() { [0, 1, 2, 3, 17, 40] } else { [0, 1, 16, 17, 33, 200] };
        for (round, size) in (0u16..).zip(sizes) {
            let signers: Vec<u16> = (0..size).map(|at| at * 5 % NODES).collect();
            let blocks: Vec<_> =
                (0..).zip(&signers).map(|(at, &by)| block(sealers[0].keyring().cluster(), by, at)).collect();
            for every in [1, 2, 7, u16::MAX] {
                let is_bad = |at: u16| (at + round) % every == every - 1;
                let mut proofs = vec![Vec::new(); blocks.len()];
                for (at, proof) in (0..).zip(&mut proofs) {
                    sealers[usize::from(signers[usize::from(at)])].seal(
                        CLASS,
                        NodeId(3),
                        &blocks[usize::from(at)],
                        proof,
                    );
                    if is_bad(at) {
                        let byte = usize::from(at) % proof.len();
                        proof[byte] ^= 0x10;
                    }
                }
                let claims = signers.iter().zip(&blocks).zip(&proofs);
                let checks: Vec<_> =
                    claims.map(|((&by, &block), proof)| Check { signer: NodeId(by), block, proof }).collect();
                let mut good = vec![true; 3];
                verifier.verify(CLASS, &checks, &mut good);
                assert_eq!(good, (0..size).map(|at| !is_bad(at)).collect::<Vec<_>>(), "{strategy}: {size}, {every}");
                for (check, together) in checks.iter().zip(good) {
                    let mut alone = Vec::new();
                    verifier.verify(CLASS, &[*check], &mut alone);
                    assert_eq!(alone, [together], "{strategy}");
                }
            }
        }
    }
}

fn requests(strategy: Strategy, node: u16, requests: &[(u32, u64, Vec<u8>)]) -> RequestTable {
    let mut table = table(requests);
    table.proofs = sealer(strategy, node).seal_requests(&table);
    table
}

/// The table after the trip to a replica.
fn over_the_wire(strategy: Strategy, table: &RequestTable, from: u16, to: u16) -> RequestTable {
    let mut reader = FrameReader::new(crate::limits::client_body_bytes_max(4));
    reader.push(encode_requests(table, NodeId(from)));
    let frame = reader.next_frame().unwrap().expect("a whole frame");
    let keyring = keyring(&cluster(strategy.name(), 4, &CLIENTS), to);
    Decoder::new(&keyring).requests(frame.body).unwrap()
}

#[test]
fn requests_in_frames_of_any_size_are_proven_to_every_replica() {
    for strategy in Strategy::all() {
        for size in [0, 1, 2, 100, REQUESTS_MAX] {
            let content: Vec<_> =
                (0..size as u64).map(|at| ((at % 3) as u32, at, vec![at as u8; at as usize % 70])).collect();
            let sent = requests(strategy, 4, &content);
            assert_eq!(sent.proofs.bytes_each(size), if size == 0 { 0 } else { strategy.proof_bytes() }, "{strategy}");
            let some = if size == REQUESTS_MAX && strategy.is_heavy() { 3..4 } else { 0..4 };
            for replica in some {
                let mut received = over_the_wire(strategy, &sent, 4, replica);
                assert_eq!(received, sent, "{strategy}: {size}");
                let mut good = vec![false; 3];
                verifier(strategy, replica).verify_requests(&[Part::whole(&received, 0)], &mut good);
                assert_eq!(good, vec![true; size], "{strategy}: {size} at {replica}");
                // One that is changed is bad, and no other.
                if let Some(at) = size.checked_sub(1) {
                    received.timestamps[at / 2] = Timestamp(u64::MAX);
                    verifier(strategy, replica).verify_requests(&[Part::whole(&received, 0)], &mut good);
                    let expected = (0..size).map(|other| other != at / 2 || strategy.proof_bytes() == 0);
                    assert_eq!(good, expected.collect::<Vec<_>>(), "{strategy}: {size} at {replica}");
                }
            }
        }
    }
}

#[test]
fn requests_of_several_tables_keep_their_verdicts_however_they_share_batches() {
    for strategy in Strategy::all() {
        let proven = strategy.proof_bytes() > 0;
        let first = requests(strategy, 4, &[(0, 1, vec![1]), (2, 7, vec![2; 90]), (1, 1, vec![])]);
        let second = requests(strategy, 5, &[(3, 2, vec![4; 64]), (7, 1, vec![5]), (4, 1, vec![6; 300])]);
        let mut verifier = verifier(strategy, 3);
        let mut good = Vec::new();
        // Another operation, somebody else's client, a client that there is not.
        let mut changed = first.clone();
        changed.digests[1] = Digest([9; 32]);
        let mut foreign = second.clone();
        (foreign.clients[0], foreign.clients[2]) = (ClientId(0), ClientId(8));
        for batches in [[0, 0, 0], [0, 1, 1], [0, 0, 1], [0, 1, 2]] {
            let parts = [&changed, &foreign, &second];
            let parts = [0, 1, 2].map(|at| Part::whole(parts[at], batches[at]));
            verifier.verify_requests(&parts, &mut good);
            let expected = [true, !proven, true, !proven, true, false, true, true, true];
            assert_eq!(good, expected, "{strategy}: {batches:?}");
            let parts = [Part { range: 1..3, ..parts[0].clone() }, Part { range: 0..0, ..parts[1].clone() }];
            verifier.verify_requests(&parts, &mut good);
            assert_eq!(good, [!proven, true], "{strategy}: {batches:?}");
        }
    }
}

/// What a load generator sends: proofs are made where they stand in the frame.
#[test]
fn requests_sealed_in_their_frame_are_those_sealed_before() {
    let in_groups = Strategy::all().map(|strategy| (strategy, format!("{strategy}/frame")));
    for (strategy, name) in Strategy::all().map(|strategy| (strategy, strategy.to_string())).chain(in_groups) {
        let file = cluster(&name, 4, &CLIENTS);
        for (reads, size) in [(false, 70), (true, 70), (false, 1), (true, 0)] {
            let content: Vec<_> = (0..size).map(|at| (at % 3, u64::from(at), vec![at as u8; 16])).collect();
            let mut sealer = Sealer::new(keyring(&file, 4));
            let (frame, left) = encode_and_seal(table(&content), reads, &mut sealer);
            assert_eq!(left, table(&content), "{name}: the table is handed back");
            let mut before = left.clone();
            before.proofs = if reads { sealer.seal_reads(&before) } else { sealer.seal_requests(&before) };
            let encode = if reads { encode_reads } else { encode_requests };
            let nonces = strategy.name() == "mac-gmac";
            assert!(nonces || frame == encode(&before, NodeId(4)), "{name}: {size}");
            let mut reader = FrameReader::new(crate::limits::client_body_bytes_max(4));
            reader.push(frame);
            let frame = reader.next_frame().unwrap().expect("a whole frame");
            assert_eq!(frame.kind, if reads { FrameKind::Reads } else { FrameKind::Requests });
            for replica in 0..4 {
                let keyring = keyring(&file, replica);
                let received = Decoder::new(&keyring).requests(frame.body.clone()).unwrap();
                let mut verifier = Verifier::new(keyring);
                let mut good = Vec::new();
                for kind in [reads, !reads] {
                    verifier.verify_requests(&[Part { reads: kind, ..Part::whole(&received, 0) }], &mut good);
                    let expected = kind == reads || strategy.proof_bytes() == 0;
                    assert_eq!(good, vec![expected; size as usize], "{name}: reads are no other requests");
                }
            }
        }
    }
}

/// A wrong proof among many, at the ends of what is checked together, and where signers take turns.
#[test]
fn a_wrong_proof_is_found_wherever_it_is() {
    for strategy in Strategy::all().filter(|strategy| strategy.proof_bytes() > 0) {
        let content: Vec<_> = (0..150).map(|at| (at % 3, u64::from(at), vec![at as u8; 16])).collect();
        let sent = requests(strategy, 4, &content);
        let mut verifier = verifier(strategy, 1);
        let mut good = Vec::new();
        for bad in [0, 15, 16, 63, 64, 127, 128, 149] {
            let mut table = sent.clone();
            let (bytes, column) = match &mut table.proofs {
                Proofs::Tags { bytes, .. } => (bytes, 1),
                Proofs::Signatures(bytes) => (bytes, 0),
                Proofs::None | Proofs::Groups(_) => panic!("{strategy}: proven one by one"),
            };
            let mut spoiled = bytes.to_vec();
            spoiled[(column * 150 + bad) * strategy.proof_bytes() + 14] ^= 1;
            *bytes = spoiled.into();
            for range in [0..150, bad..150, 0..bad + 1] {
                verifier.verify_requests(&[Part { range: range.clone(), ..Part::whole(&table, 0) }], &mut good);
                assert_eq!(good.len(), range.len());
                assert!(
                    range.clone().zip(&good).all(|(at, good)| *good == (at != bad)),
                    "{strategy}: {bad} in {range:?}"
                );
            }
        }
        // Every other request is said to be another owner's, or nobody's: only those are bad.
        for stranger in [ClientId(5), ClientId(u32::MAX)] {
            let mut table = sent.clone();
            table.clients.iter_mut().skip(1).step_by(2).for_each(|client| *client = stranger);
            verifier.verify_requests(&[Part::whole(&table, 0), Part::whole(&sent, 0)], &mut good);
            let expected = (0..150).map(|at| at % 2 == 0).chain([true; 150]);
            assert!(expected.eq(good.iter().copied()), "{strategy}: {stranger}");
        }
    }
}

/// By columns or one by one, the verdicts are the same, also where nobody asks for columns.
#[test]
fn requests_in_columns_are_judged_as_one_by_one() {
    for strategy in Strategy::all() {
        let content: Vec<_> = (0..70).map(|at| (at % 3, u64::from(at), vec![at as u8; 9])).collect();
        let mut table = requests(strategy, 4, &content);
        table.timestamps[20] = Timestamp(u64::MAX);
        let keyring = keyring(&cluster(strategy.name(), 4, &CLIENTS), 2);
        let mut judge = strategy.judge(&keyring);
        let mut seen = 0;
        for_each_signer(&keyring, &Part::whole(&table, 0), |requests, at| {
            assert_eq!((requests.signer(), requests.len(), at), (NodeId(4), 70, 0));
            let (mut in_columns, mut one_by_one) = (vec![false; 70], vec![false; 70]);
            judge.judge_requests(&requests, &mut in_columns);
            let checks: Vec<_> = requests.checks().collect();
            judge.judge(&checks, Shares::OfSigners, &mut one_by_one);
            assert_eq!(in_columns, one_by_one, "{strategy}");
            assert_eq!(one_by_one[20], strategy.proof_bytes() == 0, "{strategy}");
            assert_eq!(one_by_one.iter().filter(|good| !**good).count(), usize::from(strategy.proof_bytes() > 0));
            seen += 1;
        });
        assert_eq!(seen, 1);
    }
}

#[test]
fn proofs_of_another_kind_or_number_are_all_bad() {
    let content = [(0, 1, vec![1]), (2, 7, vec![2; 90]), (1, 1, vec![])];
    let tables: Vec<_> = Strategy::all().map(|strategy| (strategy, requests(strategy, 4, &content))).collect();
    let mut good = Vec::new();
    for (strategy, own) in &tables {
        let mut verifier = verifier(*strategy, 0);
        let mut refuses = |proofs: Proofs| {
            verifier.verify_requests(&[Part::whole(&RequestTable { proofs, ..own.clone() }, 0)], &mut good);
            assert_eq!(good, [false; 3], "{strategy}: {:?}", own.proofs);
        };
        for (_, other) in tables.iter().filter(|(other, _)| other != strategy) {
            // Clusters differ too, so even proofs of the same length are of no use here.
            if strategy.proof_bytes() > 0 || other.proofs != Proofs::None {
                refuses(other.proofs.clone());
            }
        }
        match &own.proofs {
            Proofs::None => {}
            Proofs::Groups(_) => panic!("{strategy}: these are proven one by one"),
            Proofs::Signatures(bytes) => {
                refuses(Proofs::Signatures(bytes.slice(1..)));
                refuses(Proofs::Signatures(bytes.slice(..strategy.proof_bytes())));
                refuses(Proofs::Tags { columns: 1, bytes: bytes.clone() });
            }
            Proofs::Tags { columns, bytes } => {
                let column = bytes.len() / usize::from(*columns);
                refuses(Proofs::None);
                refuses(Proofs::Tags { columns: 0, bytes: bytes.slice(..0) });
                refuses(Proofs::Tags { columns: 2, bytes: bytes.slice(..2 * column) });
                refuses(Proofs::Tags { columns: 4, bytes: bytes.slice(..2 * column) });
                refuses(Proofs::Tags { columns: 5, bytes: [&bytes[..], &bytes[..column]].concat().into() });
                refuses(Proofs::Tags { columns: 1, bytes: bytes.slice(..column - 1) });
                refuses(Proofs::Tags { columns: 1, bytes: bytes.slice(column..2 * column) });
                refuses(Proofs::Signatures(bytes.slice(..column)));
            }
        }
    }
}

#[test]
fn a_single_column_is_its_receivers() {
    for strategy in Strategy::all().filter(|strategy| strategy.is_for_receiver()) {
        let table = requests(strategy, 4, &[(0, 1, vec![1]), (2, 7, vec![2; 90]), (1, 1, vec![])]);
        let Proofs::Tags { columns: 4, bytes } = &table.proofs else { panic!("{strategy}: four columns of tags") };
        let column_bytes = 3 * strategy.proof_bytes();
        let mut good = Vec::new();
        for column in 0..4 {
            let own = bytes.slice(column * column_bytes..(column + 1) * column_bytes);
            let copy = RequestTable { proofs: Proofs::Tags { columns: 1, bytes: own }, ..table.clone() };
            for replica in 0..4 {
                verifier(strategy, replica).verify_requests(&[Part::whole(&copy, 0)], &mut good);
                assert_eq!(good, [usize::from(replica) == column; 3], "{strategy}");
            }
        }
    }
}

/// One class of links proves nothing for another: each may have a strategy of its own.
#[test]
fn strategies_can_be_mixed() {
    for (clients, replicas) in Strategy::all().flat_map(|clients| Strategy::all().map(move |other| (clients, other))) {
        let mut file = cluster("none", 4, &CLIENTS);
        file.settings.authentication = Authentication { clients, replicas, replies: replicas };
        let mut table = table(&[(0, 1, vec![1]), (2, 7, vec![2; 90])]);
        table.proofs = Sealer::new(keyring(&file, 4)).seal_requests(&table);
        let mut verifier = Verifier::new(keyring(&file, 2));
        let mut good = Vec::new();
        verifier.verify_requests(&[Part::whole(&table, 0)], &mut good);
        assert_eq!(good, [true; 2], "{clients} {replicas}");
        let sealer = Sealer::new(keyring(&file, 0));
        let block = block(sealer.keyring().cluster(), 0, 1);
        let mut proof = Vec::new();
        sealer.seal(CLASS, NodeId(2), &block, &mut proof);
        assert!(holds(&mut verifier, CLASS, 0, block, &proof), "{clients} {replicas}");
    }
}

#[test]
fn every_strategy_tells_of_itself_what_is_true_and_can_be_typed() {
    let mut names = HashSet::new();
    for strategy in Strategy::all() {
        let about = strategy.about();
        for name in about.aliases.iter().chain([&about.name]) {
            assert!(names.insert(*name), "{name} is taken");
            assert!(
                name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'),
                "{name}"
            );
            assert_eq!(name.parse::<Strategy>(), Ok(strategy));
            assert_eq!(name.parse::<Authentication>(), Ok(Authentication::all(strategy)));
        }
        for line in [about.summary, about.keys] {
            assert!(!line.is_empty() && !line.contains(['\n', '|']) && !line.ends_with('.'), "{strategy}: '{line}'");
        }
        assert_eq!(strategy.to_string(), about.name);
        let text = serde_json::to_string(&strategy).unwrap();
        assert_eq!(text, format!("\"{}\"", about.name));
        assert_eq!(serde_json::from_str::<Strategy>(&text).unwrap(), strategy);
        assert_eq!(about.reach == Reach::Nobody, about.proof_bytes == 0, "{strategy}");
        assert!(about.proof_bytes <= PROOF_BYTES_MAX, "{strategy}");
        assert!(!strategy.is_for_receiver() || about.proof_bytes <= RECEIVER_PROOF_BYTES_MAX, "{strategy}");
    }
    for mixture in Authentication::presets().filter(|name| Strategy::named(name).is_none()) {
        assert!(names.insert(mixture), "{mixture} is taken");
    }
}

/// What is made once for a node can be shown, and shows no secrets.
#[test]
fn secrets_are_not_shown() {
    for strategy in Strategy::all() {
        let keyring = keyring(&cluster(strategy.name(), 4, &CLIENTS), 1);
        let shown = format!("{:?} {:?}", strategy.seal(&keyring), strategy.judge(&keyring));
        let own = key(1).signing().to_bytes();
        let secrets = keyring.outgoing().chain(keyring.incoming()).chain([&own]);
        for secret in secrets {
            assert!(!shown.contains(&hex::encode(secret)) && !shown.contains(&format!("{secret:?}")), "{strategy}");
        }
    }
}

/// The worked example is what these tests run.
#[test]
fn contributing_shows_the_example_as_it_is() {
    let document = include_str!("../../../../CONTRIBUTING.md");
    assert!(document.contains(&format!("```rust\n{}```\n", include_str!("mac_siphash.rs"))), "not mac_siphash.rs");
    let registered = include_str!("mod.rs").lines().map(str::trim).find(|line| line.ends_with("mac_siphash,"));
    assert_eq!(registered, Some("#[cfg(test)] mac_siphash,"));
    assert!(Strategy::named("mac-siphash").is_some(), "and so it is tested");
}
