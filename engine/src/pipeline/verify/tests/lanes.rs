//! That nobody's work takes the others' turn: what comes first, what is checked with what, and what is not checked at
//! all.

use super::*;
use crate::auth::signature::Effort;
use crate::auth::testing::odd_signatures;

/// A frame of signed requests of the clients from `first` on, which `node` speaks for. `bad`: no signature holds.
fn signed(clients: &[u32], node: u16, range: std::ops::Range<u32>, bad: bool) -> RequestTable {
    let requests: Vec<_> = range.map(|client| (client, 1, vec![7])).collect();
    let mut table = table(&requests);
    table.proofs = Sealer::new(keyring(&cluster("ed25519-batch", 4, clients), node)).seal_requests(&table);
    if bad {
        let Proofs::Signatures(bytes) = &table.proofs else { panic!("signatures") };
        table.proofs = Proofs::Signatures(bytes.iter().map(|byte| !byte).collect());
    }
    table
}

fn sender(clients: &[u32], replica: u16) -> Sealer {
    Sealer::new(keyring(&cluster("ed25519-batch", 4, clients), replica))
}

fn pre_prepare(view: u64, sequence: u64, table: RequestTable) -> Message {
    Message::PrePrepare(PrePrepare { view: View(view), sequence: SequenceNumber(sequence), batch: Batch::new(table) })
}

fn commit(sequence: u64) -> Message {
    Message::Commit(Vote { view: View(0), sequence: SequenceNumber(sequence), digest: Digest([9; 32]) })
}

fn tables(inputs: &[Input]) -> Vec<usize> {
    let table = |input: &Input| match input {
        Input::Requests(table) => Some(table.len()),
        _ => None,
    };
    inputs.iter().filter_map(table).collect()
}

const TWO: &[u32] = &[40, 40];

#[test]
fn one_nodes_bad_signatures_cost_another_one_combined_check() {
    let mut harness = Harness::among(TWO, "ed25519-batch", all());
    let bad = signed(TWO, 4, 0..40, true);
    let push = |harness: &mut Harness, good: std::ops::Range<u32>| {
        let good = signed(TWO, 5, good, false);
        harness.push(vec![read(&encode_requests(&bad, NodeId(4)))]);
        harness.push(vec![read(&encode_requests(&good, NodeId(5)))]);
    };
    // Nobody is known yet: what fails together is looked at apart.
    push(&mut harness, 40..80);
    assert_eq!(tables(&harness.step()), [40]);
    assert_eq!(harness.stage.verifier.effort().single, 40, "all of them bad ones");
    assert!(harness.blame.is_suspect(NodeId(4)) && !harness.blame.is_suspect(NodeId(5)));

    // From now on the one is checked apart, and has an eighth of the other's share.
    push(&mut harness, 41..80);
    let before = harness.stage.verifier.effort();
    assert_eq!(tables(&harness.step()), [39]);
    let after = harness.stage.verifier.effort();
    let share = intake_quantum() / 2 / 8;
    let mut alone = Verifier::new(keyring(&cluster("ed25519-batch", 4, TWO), OWN.0));
    alone.verify_requests(&[Part { range: 0..share, ..Part::whole(&bad, 0) }], &mut Vec::new());
    let Effort { combined, single, .. } = alone.effort();
    assert_eq!((after.combined - before.combined, after.single - before.single), (combined + 1, single));

    while harness.stage.has_work() {
        assert!(harness.step().is_empty());
    }
    assert_eq!(harness.refused(), [("bad_request_proof", 80)]);
    assert_eq!([4, 5].map(|node| harness.credit.taken(NodeId(node))), [0, 0]);
}

/// Signatures that are good and make combined checks fail: with them, too, nobody makes others pay for long.
#[test]
fn who_signs_so_that_batches_fail_is_checked_apart_though_all_of_it_is_good() {
    let mut harness = Harness::among(TWO, "ed25519-batch", all());
    let push = |harness: &mut Harness, round: u64| {
        for (node, clients) in [(4, 0..40), (5, 40..80)] {
            let own = keyring(&cluster("ed25519-batch", 4, TWO), node);
            let mut table = table(&clients.map(|client| (client, round, vec![7])).collect::<Vec<_>>());
            table.proofs = match node {
                4 => odd_signatures(&own, &table),
                _ => Sealer::new(own).seal_requests(&table),
            };
            harness.push(vec![read(&encode_requests(&table, NodeId(node)))]);
        }
    };
    let suspects = |harness: &Harness| [4, 5].map(|node| harness.blame.is_suspect(NodeId(node)));
    // Each combined check fails with a chance of a half.
    let mut round = 0;
    while suspects(&harness) == [false; 2] {
        round += 1;
        assert!(round < 20, "never noticed");
        push(&mut harness, round);
        assert_eq!(tables(&harness.step()), [40, 40]);
    }
    assert_eq!(suspects(&harness), [true, false]);
    push(&mut harness, round + 1);
    let before = harness.stage.verifier.effort();
    assert_eq!(tables(&harness.step()), [40], "the other one's");
    let after = harness.stage.verifier.effort();
    assert!(after.single - before.single <= intake_quantum() as u64 / 2 / 8, "alone are only the suspect's");
    let mut rest = Vec::new();
    while harness.stage.has_work() {
        rest.extend(tables(&harness.step()));
    }
    assert_eq!((rest, harness.refused()), (vec![40], vec![]), "what is good is good");
}

fn intake_quantum() -> usize {
    crate::pipeline::intake::quantum(&keyring(&cluster("ed25519-batch", 4, TWO), OWN.0)) as usize
}

#[test]
fn who_passes_bad_requests_on_is_to_blame_and_not_who_is_named_in_them() {
    let mut harness = Harness::among(TWO, "ed25519-batch", all());
    let bad = || signed(TWO, 4, 0..9, true);
    let from_primary = encode_message(&pre_prepare(0, 1, bad()), OWN, &sender(TWO, 0));
    assert_eq!(harness.message(&from_primary).unwrap().requests.unproven.len(), 9);
    let suspects =
        |harness: &Harness| (0..6).filter(|node| harness.blame.is_suspect(NodeId(*node))).collect::<Vec<_>>();
    assert!(suspects(&harness).is_empty(), "a batch is the primary's, and may be unproven");
    let forward = encode_message(&Message::Forward(Arc::new(bad())), OWN, &sender(TWO, 1));
    assert_eq!(harness.message(&forward), None);
    assert_eq!(suspects(&harness), [1]);
    assert_eq!(harness.refused(), [("bad_request_proof", 9)]);
}

#[test]
fn what_a_peer_says_does_not_wait_for_a_large_table() {
    const MANY: &[u32] = &[4096, 10];
    let mut harness = Harness::among(MANY, "ed25519-batch", all());
    let large = signed(MANY, 4, 0..4096, false);
    harness.push(vec![read(&encode_requests(&large, NodeId(4)))]);
    assert!(harness.step().is_empty());
    assert!(harness.credit.taken(NodeId(4)) > 0);

    harness.push(vec![read(&encode_message(&commit(1), OWN, &sender(MANY, 1)))]);
    let inputs = harness.step();
    assert!(matches!(&inputs[..], [Input::Message(Authentic { sender: ReplicaId(1), .. })]), "{inputs:?}");
    // Nor does another client node.
    harness.push(vec![read(&encode_requests(&signed(MANY, 5, 4096..4106, false), NodeId(5)))]);
    assert_eq!(tables(&harness.step()), [10]);

    let mut steps = 3;
    while harness.stage.has_work() {
        steps += 1;
        let inputs = harness.step();
        if harness.stage.has_work() {
            assert!(inputs.is_empty(), "before all verdicts are known");
        } else {
            let [Input::Requests(table)] = &inputs[..] else { panic!("{inputs:?}") };
            assert_eq!(**table, large, "once, whole");
        }
    }
    assert_eq!(steps, 33, "32 slices and half a one more");
    assert_eq!((harness.refused(), harness.credit.taken(NodeId(4))), (vec![], 0));
}

#[test]
fn a_signed_table_that_comes_again_is_not_checked_again() {
    let mut harness = Harness::among(TWO, "ed25519-batch", all());
    let mut table = signed(TWO, 4, 0..9, false);
    let request = |table: &RequestTable| vec![read(&encode_requests(table, NodeId(4)))];
    assert_eq!(tables(&harness.take(request(&table))), [9]);
    let once = harness.stage.verifier.effort();
    assert_eq!(tables(&harness.take(request(&table))), [9]);
    assert_eq!(harness.stage.verifier.effort(), once);
    // Nor if a peer passes it on: the peer's own signature is all that is checked.
    let forward = encode_message(&Message::Forward(Arc::new(table.clone())), OWN, &sender(TWO, 1));
    assert!(harness.message(&forward).is_some());
    assert_eq!(harness.stage.verifier.effort(), Effort { single: once.single + 1, ..once });

    // What differs in anything that is proven, or in its proof, is another table.
    let Proofs::Signatures(bytes) = &table.proofs else { panic!("signatures") };
    let mut bytes = bytes.to_vec();
    bytes[40] ^= 1;
    let spoiled = RequestTable { proofs: Proofs::Signatures(bytes.into()), ..table.clone() };
    assert_eq!(tables(&harness.take(request(&spoiled))), [8]);
    assert_eq!(tables(&harness.take(request(&spoiled))), [8], "a bad one is bad each time");
    table.timestamps[3].0 += 1;
    Digester::default().digest(&mut table);
    assert_eq!(tables(&harness.take(request(&table))), [8]);
    assert_eq!(harness.refused(), [("bad_request_proof", 3)]);
}

/// Signatures of groups: a slice is so many of them, and one that is bad condemns the requests of its group alone.
#[test]
fn slices_go_by_groups() {
    const MANY: &[u32] = &[40, 4096];
    let mut harness = Harness::among(MANY, "ed25519-batch/frame", all());
    let mut table = table(&(40..4136).map(|client| (client, 1, vec![7])).collect::<Vec<_>>());
    table.proofs = Sealer::new(keyring(&cluster("ed25519-batch/frame", 4, MANY), 5)).seal_requests(&table);
    let request = |table: &RequestTable| vec![read(&encode_requests(table, NodeId(5)))];
    assert_eq!(tables(&harness.take(request(&table))), [4096], "64 signatures, half a slice");
    let once = harness.stage.verifier.effort();
    assert_eq!(once, Effort { combined: 1, combined_signatures: 64, single: 0 });
    assert_eq!(tables(&harness.take(request(&table))), [4096]);
    assert_eq!(harness.stage.verifier.effort(), once, "known");

    let Proofs::Groups(groups) = &table.proofs else { panic!("groups") };
    let mut signatures = groups.proofs().to_vec();
    signatures[2 * 64 + 40] ^= 1;
    let spoiled = Proofs::Groups(groups.clone().with_proofs(0, signatures.into()));
    let bad = RequestTable { proofs: spoiled, ..table.clone() };
    assert_eq!(tables(&harness.take(request(&bad))), [4096 - 64]);
    assert_eq!(harness.refused(), [("bad_request_proof", 64)]);
    assert!(harness.blame.is_suspect(NodeId(5)));

    // A suspect has an eighth of a slice: 16 of its 64 groups.
    harness.push(request(&bad));
    let mut steps = 0;
    while harness.stage.has_work() {
        let inputs = harness.step();
        steps += 1;
        assert_eq!(tables(&inputs), if harness.stage.has_work() { vec![] } else { vec![4096 - 64] });
    }
    assert_eq!((steps, harness.credit.taken(NodeId(5))), (4, 0));
}

#[test]
fn peers_come_first_and_clients_come_too() {
    for strategy in Authentication::presets() {
        let mut harness = Harness::new(strategy, all());
        for sequence in 1..=16 {
            harness.push(vec![read(&encode_message(&commit(sequence), OWN, &sealer(strategy, 1)))]);
        }
        harness.push(vec![read(&encode_requests(&requests(strategy, &[1, 2]), NodeId(CLIENT_NODE)))]);
        let kinds =
            |inputs: &[Input]| inputs.iter().map(|input| matches!(input, Input::Message(_))).collect::<Vec<_>>();
        let inputs = harness.step();
        assert_eq!(kinds(&inputs), [true, true, true, true, true, true, true, true, false], "{strategy}");
        assert_eq!(kinds(&harness.step()), [true; 8], "{strategy}");
        assert_eq!(harness.refused(), []);
    }
}

/// A pre-prepare may carry thousands of signatures, whoever sends it: what one step takes is bounded by that, too.
#[test]
fn one_large_frame_of_a_peer_is_enough_for_a_step() {
    let mut harness = Harness::among(TWO, "ed25519-batch", all());
    for sequence in 1..=3 {
        let frames = vec![read(&encode_message(&commit(sequence), OWN, &sender(TWO, 1)))];
        let item = Frames { received: Time(1), source: Source::PrePrepares(ReplicaId(1)), cost: 4097, frames };
        harness.peers.push(item).map_err(|_| "full").unwrap();
    }
    harness.push(vec![read(&encode_requests(&signed(TWO, 5, 40..50, false), NodeId(5)))]);
    let inputs = harness.step();
    assert!(matches!(&inputs[..], [Input::Message(_), Input::Requests(_)]), "{inputs:?}");
    assert_eq!((harness.step().len(), harness.step().len(), harness.step().len()), (1, 1, 0));
}

#[test]
fn a_pre_prepare_that_will_be_ignored_costs_no_signature() {
    for strategy in Authentication::presets() {
        let mut harness = Harness::new(strategy, all());
        harness.reached.publish(View(4), SequenceNumber(64));
        let mut hear = |sender, view, sequence| {
            let message = pre_prepare(view, sequence, requests(strategy, &[1, 2, 3, 4]));
            harness.message(&encode_message(&message, OWN, &sealer(strategy, sender))).is_some()
        };
        assert!(!hear(1, 4, 65), "not from the primary");
        assert!(!hear(3, 3, 65) && !hear(0, 0, 65), "an old view");
        assert!(!hear(0, 4, 64) && !hear(0, 4, 0), "at or below the low watermark");
        assert_eq!(harness.stage.verifier.effort(), Effort::default(), "{strategy}");
        let mut hear = |sender, view, sequence| {
            let message = pre_prepare(view, sequence, requests(strategy, &[1, 2, 3, 4]));
            harness.message(&encode_message(&message, OWN, &sealer(strategy, sender))).is_some()
        };
        // What was published may be out of date: whatever lies ahead is for the protocol to judge.
        assert!(hear(0, 4, 65) && hear(0, 4, u64::MAX) && hear(1, 5, 65) && hear(3, u64::MAX, 65));
        let expected = [("below_low_watermark", 2), ("not_from_primary", 1), ("old_view", 2)];
        assert_eq!(harness.refused(), expected, "{strategy}");
        // Too short to say where it belongs.
        let frame = Frame { kind: FrameKind::PrePrepare, sender: NodeId(1), body: vec![0; 100].into() };
        assert!(harness.take(vec![Frame { body: frame.body.slice(..9), ..frame.clone() }]).is_empty());
        assert_eq!(harness.refused().iter().map(|(_, count)| count).sum::<u64>(), 6);
    }
}

#[test]
fn requests_of_a_message_that_does_not_prove_itself_are_not_checked() {
    let mut harness = Harness::among(TWO, "ed25519-batch", all());
    let table = || signed(TWO, 4, 0..9, false);
    for message in [pre_prepare(0, 1, table()), Message::Forward(Arc::new(table()))] {
        let mut frame = read(&encode_message(&message, OWN, &sender(TWO, 0)));
        let mut body = frame.body.to_vec();
        *body.last_mut().unwrap() ^= 1;
        frame.body = body.into();
        assert!(harness.take(vec![frame]).is_empty());
    }
    assert_eq!(harness.stage.verifier.effort(), Effort { single: 2, ..Effort::default() });
    assert_eq!(harness.refused(), [("bad_message_proof", 2)]);
}

#[test]
fn a_sender_of_many_view_changes_is_cut_off_and_nobody_else() {
    for strategy in ["mac", "ed25519"] {
        let mut harness = Harness::new(strategy, all());
        let mut now = Time(2);
        let hear = |harness: &mut Harness, now, from: u16, stable: u64| {
            let change = ViewChange { stable: SequenceNumber(stable), ..view_change(from) };
            let message = Message::ViewChange(Signed::own(change));
            harness.push(vec![read(&encode_message(&message, OWN, &sealer(strategy, from)))]);
            harness.step_at(now).len()
        };
        let heard: usize = (0..100).map(|stable| hear(&mut harness, now, 3, stable)).sum();
        assert_eq!(heard, 4 * 5 + 1, "four view changes of four view-changes and a new-view each, and one");
        assert_eq!(harness.refused(), [("too_many_signed_messages", 79)]);
        assert_eq!(hear(&mut harness, now, 1, 0), 1, "another sender's is heard");
        // What was verified last costs nothing, however often it comes.
        assert_eq!((0..100).map(|_| hear(&mut harness, now, 3, 20)).sum::<usize>(), 100);
        // Patience comes back with time.
        now = now.after(20_000_001);
        assert_eq!(hear(&mut harness, now, 3, 99) + hear(&mut harness, now, 3, 98), 1);
    }
}
