//! What is left of a group proves itself, wherever it ends up and beside whatever; and nothing else does.

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::Strategy as Generator;

use super::*;
use crate::auth::testing::{cluster, keyring, table};
use crate::auth::{Digester, LinkClass, Part, Sealer, Strategy, Verifier};
use crate::limits::{FRAME_BODY_BYTES_MAX, GROUPS_MAX, REQUESTS_MAX};
use crate::protocol::Message;
use crate::protocol::message::PrePrepare;
use crate::requests::{Batch, Group, Groups, Proofs, RequestTable, TableBuilder};
use crate::types::{ClientId, NodeId, ReplicaId, SequenceNumber, View};
use crate::wire::{Decoder, FrameReader, encode_message};

/// After four replicas, node 4 speaks for clients 0 to 99 and node 5 for 100 to 199.
const CLIENTS: [u32; 2] = [100, 100];

fn frames(strategy: Strategy) -> String {
    format!("{strategy}/frame")
}

/// A frame of `node` with `count` requests, the first of them client `first`'s.
fn sealed(strategy: Strategy, node: u16, first: u32, count: u32) -> RequestTable {
    let start = u32::from(node - 4) * CLIENTS[0];
    let request =
        |at: u32| (start + (first + at) % CLIENTS[0], u64::from(first + at) + 1, vec![at as u8; at as usize % 70]);
    let mut table = table(&(0..count).map(request).collect::<Vec<_>>());
    table.proofs = Sealer::new(keyring(&cluster(&frames(strategy), 4, &CLIENTS), node)).seal_requests(&table);
    table
}

fn verifier(strategy: Strategy, replica: u16) -> Verifier {
    Verifier::new(keyring(&cluster(&frames(strategy), 4, &CLIENTS), replica))
}

fn verdicts(verifier: &mut Verifier, table: &RequestTable) -> Vec<bool> {
    let mut good = vec![true; 3];
    verifier.verify_requests(&[Part::whole(table, 0)], &mut good);
    assert_eq!(good.len(), table.len());
    good
}

fn groups(table: &RequestTable) -> &Groups {
    let Proofs::Groups(groups) = &table.proofs else { panic!("groups") };
    groups
}

/// What replica 2 gets of this as a batch of replica 1.
fn as_batch(strategy: Strategy, table: &RequestTable) -> RequestTable {
    let file = cluster(&frames(strategy), 4, &CLIENTS);
    let (view, sequence) = (View(1), SequenceNumber(1));
    let message = Message::PrePrepare(PrePrepare { view, sequence, batch: Batch::new(table.clone()) });
    let mut reader = FrameReader::new(FRAME_BODY_BYTES_MAX);
    reader.push(encode_message(&message, ReplicaId(2), &Sealer::new(keyring(&file, 1))));
    let frame = reader.next_frame().unwrap().unwrap();
    let decoded = Decoder::new(&keyring(&file, 2)).message(frame.kind, ReplicaId(1), frame.body).unwrap();
    let Message::PrePrepare(PrePrepare { batch, .. }) = decoded.message else { panic!("a pre-prepare") };
    batch.requests.clone()
}

/// Those strategies that differ in what proofs are like, the quick one first.
fn strategies() -> [Strategy; 3] {
    ["mac", "ed25519-batch", "ed25519-merkle"].map(|name| name.parse().unwrap())
}

#[test]
fn digests_are_as_documented() {
    let digest = |at: usize| -> Digest { blake3::hash(&at.to_le_bytes()).into() };
    let hash = |digests: &[Digest]| -> Digest {
        let mut message: Vec<u8> = digests.iter().flat_map(|digest| digest.0).collect();
        message.resize(message.len().next_multiple_of(64), 0);
        blake3::keyed_hash(b"hippodrome group of requests    ", &message).into()
    };
    let mut digester = GroupDigester::default();
    for _ in 0..2 {
        let (mut expected, mut first) = (Vec::new(), 0);
        for size in (1..=GROUP_REQUESTS_MAX).chain([64, 64, 1, 33, 32]) {
            let digests: Vec<Digest> = (first..first + size).map(digest).collect();
            first += size;
            digester.push(&digests);
            let halves: Vec<Digest> = digests.chunks(32).map(&hash).collect();
            expected.push(if size > 32 { hash(&halves) } else { halves[0] });
        }
        assert_eq!(digester.finish(), expected);
    }
    assert_eq!(digester.finish(), []);
}

#[test]
fn a_frame_of_any_size_proves_itself_to_every_replica() {
    for strategy in Strategy::all().filter(|strategy| strategy.proof_bytes() > 0) {
        for count in [0, 1, 2, 63, 64, 65, 300] {
            let table = sealed(strategy, 4, 0, count);
            assert_eq!(groups(&table).len(), (count as usize).div_ceil(64), "{strategy}");
            let columns = if strategy.is_for_receiver() { 4 } else { 1 };
            assert_eq!(groups(&table).proofs().len(), groups(&table).len() * columns * strategy.proof_bytes());
            for replica in 0..4 {
                let good = verdicts(&mut verifier(strategy, replica), &table);
                assert_eq!(good, vec![true; count as usize], "{strategy}: {count} at {replica}");
            }
        }
    }
    let none = sealed(Strategy::NONE, 4, 0, 100);
    assert_eq!(none.proofs, Proofs::None);
    assert_eq!(verdicts(&mut verifier(Strategy::NONE, 0), &none), [true; 100]);
}

/// Any requests of any frames in any order, taken apart and put together again.
fn gathered(tables: &[RequestTable], picks: &[(Index, Index)], cuts: &[Index]) -> RequestTable {
    let mut builder = TableBuilder::default();
    for (table, index) in picks {
        let table = &tables[table.index(tables.len())];
        builder.push(table, index.index(table.len()));
    }
    let first = builder.finish();
    // Those that were cut out come last, in two tables.
    let cut: Vec<usize> = cuts.iter().map(|cut| cut.index(first.len())).collect();
    let kept: Vec<usize> = (0..first.len()).filter(|index| !cut.contains(index)).collect();
    let (kept, cut) = (first.select(&kept), first.select(&cut));
    let mut builder = TableBuilder::default();
    for table in [&kept, &cut] {
        let mut requests = builder.taking_from(table);
        (0..table.len()).for_each(|index| requests.push(index));
    }
    builder.finish()
}

fn picks() -> impl Generator<Value = Vec<(Index, Index)>> {
    // In order and side by side as well, as queues do.
    let any_order = prop::collection::vec((any::<Index>(), any::<Index>()), 1..60);
    (any_order, any::<bool>()).prop_map(|(mut picks, sorted)| {
        if sorted {
            picks.sort_by_key(|(table, index)| (table.index(usize::MAX), index.index(usize::MAX)));
        }
        picks
    })
}

/// One thing about a table that is not as it was; `None` where there is nothing of that kind.
fn changed(table: &RequestTable, what: u8, at: usize) -> Option<RequestTable> {
    let (groups, mut changed) = (groups(table), table.clone());
    let group = at % groups.len();
    let (mut all, mut holes) = (groups.all().to_vec(), groups.holes().to_vec());
    let mut proofs = groups.proofs().to_vec();
    match what {
        // A request that is another.
        0 => {
            changed.timestamps[at % table.len()].0 += 1;
            Digester::default().digest(&mut changed);
            return Some(changed);
        }
        // Two requests that have changed places.
        1 if table.len() > 1 => {
            let (a, b) = (at % table.len(), (at + 1) % table.len());
            changed.clients.swap(a, b);
            changed.timestamps.swap(a, b);
            Digester::default().digest(&mut changed);
            return (changed.digests[a] != table.digests[a]).then_some(changed);
        }
        2 if !holes.is_empty() => holes[at % groups.holes().len()].0[7] ^= 1,
        3 if holes.len() > 1 => {
            let (a, b) = (at % holes.len(), (at + 1) % holes.len());
            holes.swap(a, b);
            return (holes != groups.holes()).then(|| with(changed, all, holes, groups.columns(), proofs))?;
        }
        4 => {
            let byte = at % proofs.len();
            proofs[byte] ^= 1;
        }
        // Other places in the group, and a group of another size.
        5 if all[group].holes() > 0 && all[group].present & 1 == 0 => all[group].present >>= 1,
        6 if all[group].size < 64 => {
            all[group].size += 1;
            let before: usize = all[..=group].iter().map(|group| group.holes()).sum();
            holes.insert(before - 1, Digest([0; 32]));
        }
        // Somebody else's.
        7 => all[group].node = NodeId(9 - all[group].node.0),
        _ => return None,
    }
    with(changed, all, holes, groups.columns(), proofs)
}

fn with(
    table: RequestTable,
    groups: Vec<Group>,
    holes: Vec<Digest>,
    columns: u16,
    proofs: Vec<u8>,
) -> Option<RequestTable> {
    Some(RequestTable { proofs: Proofs::Groups(Groups::new(groups, holes, columns, proofs.into())?), ..table })
}

/// Which requests of two tables are not alike, or are of groups that are not.
fn touched(before: &RequestTable, after: &RequestTable) -> Vec<bool> {
    let (old, new) = (groups(before), groups(after));
    let proofs = |groups: &Groups, at: usize| {
        let each = groups.proofs().len() / groups.len() / usize::from(groups.columns().max(1));
        let column = |column: usize| groups.proofs()[(column * groups.len() + at) * each..][..each].to_vec();
        (0..usize::from(groups.columns().max(1))).map(column).collect::<Vec<_>>()
    };
    let is_touched = |at: usize| {
        old.all()[at] != new.all()[at]
            || proofs(old, at) != proofs(new, at)
            || !old.digests(at, &before.digests).eq(new.digests(at, &after.digests))
    };
    (0..before.len()).map(|index| is_touched(old.of(index))).collect()
}

/// A picked subset is good everywhere, also as a batch; with one thing changed exactly the groups are bad that it is
/// in.
fn check_gathered(strategy: Strategy, picks: &[(Index, Index)], cuts: &[Index], what: u8, at: usize) {
    let tables = [
        sealed(strategy, 4, 0, 150),
        sealed(strategy, 4, 30, 3),
        sealed(strategy, 5, 0, 70),
        sealed(strategy, 5, 7, 1),
    ];
    let all = gathered(&tables, picks, cuts);
    assert_eq!(all.len(), picks.len() + repeated(cuts, picks.len()));
    for replica in [0, 3] {
        assert_eq!(verdicts(&mut verifier(strategy, replica), &all), vec![true; all.len()], "{strategy} at {replica}");
    }
    let batch = as_batch(strategy, &all);
    assert_eq!((&batch.digests, groups(&batch).all()), (&all.digests, groups(&all).all()));
    assert_eq!(verdicts(&mut verifier(strategy, 2), &batch), vec![true; all.len()], "{strategy}: as a batch");
    let Some(other) = changed(&batch, what, at) else { return };
    let expected: Vec<bool> = touched(&batch, &other).iter().map(|touched| !touched).collect();
    assert!(expected.contains(&false), "something was changed");
    assert_eq!(verdicts(&mut verifier(strategy, 2), &other), expected, "{strategy}: change {what}");
}

/// How many cuts name a request that another one names, too.
fn repeated(cuts: &[Index], len: usize) -> usize {
    let distinct: std::collections::HashSet<usize> = cuts.iter().map(|cut| cut.index(len)).collect();
    cuts.len() - distinct.len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_part_of_any_frames_proves_itself_and_nothing_else_does(
        picks in picks(),
        cuts in prop::collection::vec(any::<Index>(), 0..10),
        what in 0u8..8,
        at in 0usize..1 << 20,
    ) {
        check_gathered(strategies()[0], &picks, &cuts, what, at);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn so_it_is_with_signatures(
        picks in picks(),
        cuts in prop::collection::vec(any::<Index>(), 0..10),
        what in 0u8..8,
        at in 0usize..1 << 20,
    ) {
        for strategy in &strategies()[1..] {
            check_gathered(*strategy, &picks, &cuts, what, at);
        }
    }
}

#[test]
fn what_was_taken_apart_is_what_it_was_when_all_of_it_is_together_again() {
    let whole = sealed(Strategy::MAC, 4, 0, 150);
    let parts = [0..10, 10..64, 64..65, 65..150].map(|range| whole.select(&range.collect::<Vec<_>>()));
    assert_eq!(groups(&parts[0]).holes().len(), 54, "the digests of what is missing, of the last group alone");
    assert_eq!(groups(&parts[3]).holes().len(), 1);
    let mut builder = TableBuilder::default();
    for part in &parts {
        (0..part.len()).for_each(|index| builder.push(part, index));
    }
    assert_eq!(builder.finish(), whole);
}

/// Same digests under another proof, or the same proof over other digests, are not one group.
#[test]
fn groups_that_only_look_alike_are_kept_apart() {
    let good = sealed(Strategy::MAC, 4, 0, 2);
    let spoiled: Bytes = groups(&good).proofs().iter().map(|byte| !byte).collect();
    let bad_proof =
        RequestTable { proofs: Proofs::Groups(groups(&good).clone().with_proofs(4, spoiled)), ..good.clone() };
    let first = good.select(&[0]);
    let lying =
        with(first.clone(), groups(&first).all().to_vec(), vec![Digest([9; 32])], 4, groups(&good).proofs().to_vec());
    let own = &mut verifier(Strategy::MAC, 1);
    for (bad, index) in [(&bad_proof, 0), (&lying.unwrap(), 0)] {
        let mut builder = TableBuilder::default();
        builder.push(bad, index);
        builder.push(&good, 1);
        let both = builder.finish();
        assert_eq!(groups(&both).len(), 2);
        assert_eq!(verdicts(own, &both), [false, true]);
    }
}

#[test]
fn a_request_that_is_twice_in_a_group_is_so_to_no_harm() {
    let mut table = table(&[(1, 2, vec![3]), (1, 2, vec![3]), (2, 1, vec![])]);
    table.proofs = Sealer::new(keyring(&cluster("mac/frame", 4, &CLIENTS), 4)).seal_requests(&table);
    let own = &mut verifier(Strategy::MAC, 1);
    assert_eq!(verdicts(own, &table), [true; 3]);
    for part in [&[0, 2][..], &[1], &[1, 0], &[0, 1, 0]] {
        assert_eq!(verdicts(own, &table.select(part)), vec![true; part.len()]);
    }
}

/// A node's proof is worth nothing for another node's clients, and nothing for read-only requests, or the other way.
#[test]
fn a_group_is_of_its_nodes_clients_and_of_its_kind() {
    let mut table = table(&[(1, 2, vec![3]), (150, 2, vec![3]), (2, 1, vec![])]);
    for strategy in strategies() {
        let mut sealer = Sealer::new(keyring(&cluster(&frames(strategy), 4, &CLIENTS), 4));
        let own = &mut verifier(strategy, 1);
        table.proofs = sealer.seal_requests(&table);
        assert_eq!(verdicts(own, &table), [true, false, true], "{strategy}");
        assert_eq!(verdicts(own, &table.select(&[1, 2])), [false, true], "{strategy}");
        let mut good = Vec::new();
        own.verify_requests(&[Part { reads: true, ..Part::whole(&table, 0) }], &mut good);
        assert_eq!(good, [false; 3], "{strategy}");
        table.proofs = sealer.seal_reads(&table);
        assert_eq!(verdicts(own, &table), [false; 3], "{strategy}");
        own.verify_requests(&[Part { reads: true, ..Part::whole(&table, 0) }], &mut good);
        assert_eq!(good, [true, false, true], "{strategy}");
    }
}

#[test]
fn groups_and_single_requests_do_not_prove_each_other() {
    for strategy in strategies() {
        let by_group = sealed(strategy, 4, 0, 5);
        let file = cluster(strategy.name(), 4, &CLIENTS);
        let mut by_request = by_group.clone();
        by_request.proofs = Sealer::new(keyring(&file, 4)).seal_requests(&by_group);
        assert_eq!(verdicts(&mut Verifier::new(keyring(&file, 1)), &by_request), [true; 5]);
        assert_eq!(verdicts(&mut Verifier::new(keyring(&file, 1)), &by_group), [false; 5]);
        assert_eq!(verdicts(&mut verifier(strategy, 1), &by_request), [false; 5]);
    }
}

/// Parts of tables with verdicts of their own, whatever they are checked with, and each proof checked once.
#[test]
fn parts_of_tables_keep_their_verdicts() {
    for strategy in strategies() {
        let (first, second) = (sealed(strategy, 4, 0, 150), sealed(strategy, 5, 0, 70));
        let bad = changed(&first, 4, 20).unwrap();
        let mut own = verifier(strategy, 0);
        let mut good = Vec::new();
        let expected = {
            own.verify_requests(&[Part::whole(&bad, 0)], &mut good);
            good.clone()
        };
        let many = expected.iter().filter(|good| !**good).count();
        assert!([22, 64].contains(&many), "{strategy}: {many} of one group");
        let ranges = [0..64, 3..5, 60..70, 63..150, 150..150];
        for batches in [[0; 6], [0, 1, 1, 2, 2, 3]] {
            let of_bad = |(at, range): (usize, &std::ops::Range<usize>)| Part {
                range: range.clone(),
                ..Part::whole(&bad, batches[at])
            };
            let mut parts: Vec<Part<'_>> = ranges.iter().enumerate().map(of_bad).collect();
            parts.push(Part::whole(&second, batches[5]));
            assert_eq!(parts.iter().map(Part::checks).collect::<Vec<_>>(), [1, 1, 2, 3, 0, 2]);
            own.verify_requests(&parts, &mut good);
            let wanted: Vec<bool> =
                ranges.iter().flat_map(|range| expected[range.clone()].to_vec()).chain([true; 70]).collect();
            assert_eq!(good, wanted, "{strategy}");
        }
    }
}

#[test]
fn there_are_no_groups_that_can_not_be() {
    let group = Group { node: NodeId(4), size: 3, present: 0b101 };
    let new =
        |group: Group, holes: usize| Groups::new(vec![group], vec![Digest([1; 32]); holes], 1, vec![0; 16].into());
    assert!(new(group, 1).is_some());
    assert!(new(group, 0).is_none() && new(group, 2).is_none(), "other holes than it says");
    assert!(new(Group { present: 0, ..group }, 3).is_none(), "no request");
    assert!(new(Group { present: 0b1000, ..group }, 2).is_none(), "beyond its size");
    assert!(new(Group { size: 0, ..group }, 0).is_none());
    assert!(new(Group { size: 65, ..group }, 63).is_none());
    assert!(new(Group { size: 64, present: 1 << 63, ..group }, 63).is_some());
    let many =
        |count: usize| Groups::new(vec![Group { size: 1, present: 1, ..group }; count], Vec::new(), 0, Bytes::new());
    assert!(many(GROUPS_MAX).is_some() && many(GROUPS_MAX + 1).is_none());
}

/// A table takes no more groups than it may have; what an order needs that nobody correct makes is left unproven.
#[test]
fn groups_of_a_table_are_bounded() {
    let table = sealed(Strategy::MAC, 4, 0, u32::try_from(REQUESTS_MAX).unwrap());
    let reversed: Vec<usize> = (0..GROUPS_MAX).rev().collect();
    let mut builder = TableBuilder::default();
    for &index in &reversed {
        assert!(builder.has_room_for(&table, index));
        builder.push(&table, index);
    }
    assert!(!builder.has_room_for(&table, 0));
    let full = builder.finish();
    assert_eq!((groups(&full).len(), groups(&full).holes().len()), (GROUPS_MAX, GROUPS_MAX * 63));
    assert!(full.bytes() > GROUPS_MAX * 63 * DIGEST_BYTES, "what is missing counts");
    let own = &mut verifier(Strategy::MAC, 1);
    assert_eq!(verdicts(own, &as_batch_of_all(&full)), vec![true; GROUPS_MAX]);
    assert_eq!(table.select(&(0..=GROUPS_MAX).rev().collect::<Vec<_>>()).proofs, Proofs::None);
}

/// The same table after the trip of a forward.
fn as_batch_of_all(table: &RequestTable) -> RequestTable {
    let file = cluster("mac/frame", 4, &CLIENTS);
    let message = Message::Forward(table.clone().into());
    let mut reader = FrameReader::new(FRAME_BODY_BYTES_MAX);
    reader.push(encode_message(&message, ReplicaId(1), &Sealer::new(keyring(&file, 2))));
    let frame = reader.next_frame().unwrap().unwrap();
    let decoded = Decoder::new(&keyring(&file, 1)).message(frame.kind, ReplicaId(2), frame.body).unwrap();
    let Message::Forward(forwarded) = decoded.message else { panic!("a forward") };
    assert_eq!(*forwarded, *table);
    RequestTable::clone(&forwarded)
}

#[test]
fn clients_of_no_node_are_bad() {
    let mut table = sealed(Strategy::MAC, 4, 0, 2);
    table.clients[1] = ClientId(200);
    Digester::default().digest(&mut table);
    let keyring = keyring(&cluster("mac/frame", 4, &CLIENTS), 4);
    assert!(keyring.proves_groups() && keyring.strategy(LinkClass::ClientToReplica) == Strategy::MAC);
    table.proofs = Sealer::new(keyring).seal_requests(&table);
    assert_eq!(verdicts(&mut verifier(Strategy::MAC, 0), &table), [true, false]);
}
