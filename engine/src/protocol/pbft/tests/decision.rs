use super::*;
use crate::types::ReplicaId;

const WINDOW: u64 = 8;
const INTERVAL: u64 = 4;

fn entry(view: u64, sequence: u64, digest: u8) -> Vote {
    Vote { view: View(view), sequence: SequenceNumber(sequence), digest: Digest([digest; 32]) }
}

fn checkpoint_at(sequence: u64, digest: u8) -> Checkpoint {
    Checkpoint { sequence: SequenceNumber(sequence), digest: Digest([digest; 32]) }
}

/// A view-change to view 9 of a replica that pre-prepared whatever it prepared.
fn change(replica: u16, stable: u64, prepared: &[Vote]) -> ViewChange {
    ViewChange {
        replica: ReplicaId(replica),
        view: View(9),
        stable: SequenceNumber(stable),
        checkpoints: (stable > 0).then(|| checkpoint_at(stable, 1)).into_iter().collect(),
        prepared: prepared.to_vec(),
        pre_prepared: prepared.to_vec(),
    }
}

fn decide_all(n: usize, changes: &[ViewChange]) -> Option<Decision> {
    let quorums = Quorums::new(n).unwrap();
    assert!(changes.iter().all(|change| is_well_formed(change, WINDOW, INTERVAL)));
    decide(quorums, &changes.iter().collect::<Vec<_>>())
}

fn digests(decision: &Decision) -> Vec<u8> {
    let null = Batch::null().digest;
    decision.assigned.iter().map(|digest| if *digest == null { 0 } else { digest.0[0] }).collect()
}

#[test]
fn fewer_than_a_quorum_decide_nothing() {
    for (n, q) in [(4, 3), (5, 4), (6, 4), (7, 5), (10, 7)] {
        let changes: Vec<_> = (0..q).map(|replica| change(replica, 0, &[])).collect();
        assert_eq!(decide_all(n, &changes[1..]), None, "n = {n}");
        let decision = decide_all(n, &changes).unwrap();
        assert_eq!((decision.stable.sequence.0, decision.assigned.len()), (0, 0));
    }
}

#[test]
fn what_one_prepared_and_a_correct_one_pre_prepared_is_proposed_again_and_gaps_are_null() {
    let mut changes = vec![change(0, 0, &[entry(3, 5, 7)]), change(1, 0, &[]), change(2, 0, &[])];
    // One replica's word is not enough: it may have made the batch up.
    assert_eq!(decide_all(4, &changes), None);
    changes[1].pre_prepared = vec![entry(2, 5, 7)];
    assert_eq!(decide_all(4, &changes), None, "pre-prepared in an earlier view only");
    changes[1].pre_prepared = vec![entry(4, 5, 7)];
    let decision = decide_all(4, &changes).unwrap();
    assert_eq!(digests(&decision), [0, 0, 0, 0, 7]);
    assert_eq!(decision.last(), SequenceNumber(5));
}

#[test]
fn an_invention_is_overruled_as_soon_as_all_correct_replicas_are_heard() {
    let mut changes = vec![change(0, 0, &[entry(8, 2, 66)]), change(1, 0, &[]), change(2, 0, &[])];
    assert_eq!(decide_all(4, &changes), None);
    changes.push(change(3, 0, &[]));
    assert_eq!(digests(&decide_all(4, &changes).unwrap()), [0; 0]);
}

#[test]
fn the_later_view_wins() {
    let changes = [
        change(0, 0, &[entry(1, 1, 5)]),
        change(1, 0, &[entry(1, 1, 5)]),
        change(2, 0, &[entry(2, 1, 6)]),
        change(3, 0, &[entry(2, 1, 6)]),
    ];
    assert_eq!(digests(&decide_all(4, &changes).unwrap()), [6]);
    // With the first three alone: 5 is contradicted by view 2, and 6 is told by one only.
    assert_eq!(decide_all(4, &changes[..3]), None);
}

#[test]
fn a_decided_batch_survives_whatever_f_replicas_say() {
    // Q replicas prepared 5 in view 1; one of them lies now and says that it prepared 6 in view 8, and pre-prepared it.
    for liar in 0..3u16 {
        for missing in 0..4u16 {
            let changes: Vec<_> = (0..4)
                .filter(|&replica| replica != missing || liar == missing)
                .map(|replica| match replica {
                    _ if replica == liar => change(replica, 0, &[entry(8, 1, 6)]),
                    3 => change(replica, 0, &[]),
                    _ => change(replica, 0, &[entry(1, 1, 5)]),
                })
                .collect();
            let decision = decide_all(4, &changes);
            assert!(decision.is_none_or(|decision| digests(&decision) == [5]), "liar {liar}, missing {missing}");
        }
    }
}

#[test]
fn the_checkpoint_is_the_lowest_that_is_vouched_for_and_reached() {
    let low = |replica| change(replica, 0, &[]);
    let high = |replica, digest| ViewChange { checkpoints: vec![checkpoint_at(8, digest)], ..change(replica, 8, &[]) };
    // Replica 0 alone knows of 8.
    assert_eq!(decide_all(4, &[high(0, 2), low(1), low(2), low(3)]).unwrap().stable.sequence.0, 0);
    assert_eq!(decide_all(4, &[high(0, 2), low(1), low(2)]), None, "two start below 8, and only one vouches for it");
    let decision = decide_all(4, &[high(0, 2), high(1, 2), low(2)]).unwrap();
    assert_eq!(decision.stable, checkpoint_at(8, 2));
    let decision = decide_all(4, &[high(0, 2), high(1, 3), low(2), low(3)]);
    assert_eq!(decision, None, "two checkpoints, one voucher each");
}

/// Replica 0 has passed 8, alone; 1 lies. Nobody may have the state at 8 any more, and 2 and 3 need each other's votes.
#[test]
fn a_lie_can_not_make_a_view_start_where_a_single_correct_replica_has_been() {
    let entries: Vec<Vote> = (5..=8).map(|sequence| entry(1, sequence, 7)).collect();
    let passed = ViewChange { checkpoints: vec![checkpoint_at(4, 1), checkpoint_at(8, 2)], ..change(0, 4, &entries) };
    let lie = ViewChange { checkpoints: vec![checkpoint_at(8, 2)], ..change(1, 8, &[]) };
    let (behind, prepared) = (change(2, 4, &[]), change(3, 4, &entries));
    let decision = decide_all(4, &[passed.clone(), lie.clone(), behind.clone(), prepared.clone()]).unwrap();
    assert_eq!((decision.stable, digests(&decision)), (checkpoint_at(4, 1), vec![7; 4]));
    // Without 3 it has to be 8: it is for the primary to wait.
    let decision = decide_all(4, &[passed, lie, behind]).unwrap();
    assert_eq!((decision.stable, digests(&decision)), (checkpoint_at(8, 2), vec![]));
}

/// What lies between two checkpoints may be open because of a lie, where nothing is above the higher one.
#[test]
fn a_higher_checkpoint_is_taken_where_a_lie_leaves_the_lower_one_open() {
    let passed = ViewChange { checkpoints: vec![checkpoint_at(8, 2)], ..change(0, 8, &[]) };
    let lie = change(1, 4, &[entry(8, 6, 66)]);
    let executed = |replica| ViewChange {
        checkpoints: vec![checkpoint_at(4, 1), checkpoint_at(8, 2)],
        ..change(replica, 4, &[entry(1, 6, 7)])
    };
    let decision = decide_all(4, &[passed, lie, executed(2), executed(3)]).unwrap();
    assert_eq!((decision.stable, digests(&decision)), (checkpoint_at(8, 2), vec![]));
}

#[test]
fn entries_below_the_checkpoint_do_not_count() {
    let mut changes: Vec<_> = (0..3).map(|replica| change(replica, 4, &[])).collect();
    changes.push(change(3, 0, &[entry(1, 2, 9), entry(1, 5, 8)]));
    changes[0].pre_prepared = vec![entry(1, 5, 8)];
    changes[0].prepared = vec![entry(1, 5, 8)];
    assert_eq!(digests(&decide_all(4, &changes).unwrap()), [8]);
}

/// A checkpoint that everybody has left behind, the next two, and the end of the window.
const BASE: u64 = 4;
const LAST: u64 = BASE + WINDOW;

struct Random(u64);

impl Random {
    /// splitmix64, below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }

    /// So many of `n`, at least.
    fn subset(&mut self, n: usize, least: usize) -> Vec<bool> {
        let mut chosen: Vec<bool> = (0..n).map(|_| self.below(2) == 0).collect();
        while chosen.iter().filter(|is_in| **is_in).count() < least {
            let one = self.below(n);
            chosen[one] = true;
        }
        chosen
    }
}

fn decided_at(sequence: u64) -> Vote {
    entry(1, sequence, u8::try_from(sequence).unwrap())
}

/// What correct replicas say after a history in which f others helped with whatever votes were needed, and how far
/// batches were decided. One of the correct ones has taken over a state that another has come to; its low watermark
/// rose to it, or to what is stable at another correct one.
fn history(quorums: Quorums, random: &mut Random, low_follows_state: bool) -> (Vec<ViewChange>, u64) {
    let correct = quorums.n() - quorums.f();
    let helped = quorums.quorum() - quorums.f();
    let executed: Vec<u64> = (0..correct).map(|_| BASE + random.below(9) as u64).collect();
    let end = *executed.iter().max().unwrap();
    let [mut prepared, mut pre_prepared] = [(); 2].map(|()| vec![Vec::new(); correct]);
    for sequence in BASE + 1..=LAST {
        let agreed = sequence <= end || random.below(2) == 0;
        let told = random.subset(correct, if agreed { helped } else { 0 });
        let sure = random.subset(correct, if sequence <= end { helped } else { 0 });
        let prepares = |replica: usize| agreed && sure[replica];
        for replica in (0..correct).filter(|&replica| told[replica] || prepares(replica)) {
            pre_prepared[replica].push(decided_at(sequence));
            prepared[replica].extend(prepares(replica).then(|| decided_at(sequence)));
        }
    }
    let shared = |at: u64| executed.iter().filter(|executed| **executed >= at).count() >= helped;
    let mut stable: Vec<u64> = Vec::new();
    for &executed in &executed {
        let reached = [BASE, BASE + INTERVAL, LAST].into_iter().filter(|&at| at <= executed && shared(at));
        let reached: Vec<u64> = reached.collect();
        stable.push(reached[random.below(reached.len())]);
    }
    let own = |executed: u64| (1..).map(|times| times * INTERVAL).take_while(move |at| *at <= executed);
    let mut checkpoints: Vec<Vec<u64>> = executed.iter().map(|executed| own(*executed).collect()).collect();
    let laggard = random.below(correct);
    let target = (end / INTERVAL * INTERVAL).max(BASE);
    if executed[laggard] < target {
        checkpoints[laggard].push(target);
        let settled = (0..correct).filter(|other| *other != laggard).map(|other| stable[other]).max().unwrap();
        let low = if low_follows_state { target } else { settled.min(target) };
        stable[laggard] = if low > executed[laggard] { low } else { stable[laggard] };
    }
    let changes = (0u16..).zip(0..correct).map(|(id, replica)| {
        let above = |entries: &[Vote]| -> Vec<Vote> {
            entries.iter().filter(|entry| entry.sequence.0 > stable[replica]).copied().collect()
        };
        let told = checkpoints[replica].iter().filter(|at| **at >= stable[replica]);
        ViewChange {
            checkpoints: told.map(|at| checkpoint_at(*at, 1)).collect(),
            pre_prepared: above(&pre_prepared[replica]),
            ..change(id, stable[replica], &above(&prepared[replica]))
        }
    });
    (changes.collect(), end)
}

#[test]
fn the_view_changes_of_all_correct_replicas_always_suffice() {
    let mut undecidable = 0;
    for n in [4, 5, 6, 7, 10] {
        let quorums = Quorums::new(n).unwrap();
        for seed in 0..2000 {
            let (mut changes, end) = history(quorums, &mut Random(seed), false);
            let random = &mut Random(!seed);
            for liar in 0..=quorums.f() {
                let decision = decide_all(n, &changes).unwrap_or_else(|| panic!("n = {n}, seed {seed}: {changes:#?}"));
                assert!(decision.last().0 >= end, "n = {n}, seed {seed}");
                let kept = decision.assignments().take_while(|(sequence, _)| sequence.0 <= end);
                let mut kept = kept.map(|(sequence, digest)| (sequence.0, digest));
                assert!(kept.all(|(at, digest)| digest == decided_at(at).digest), "n = {n}, seed {seed}: {decision:?}");
                // And one of the others, that says anything.
                let stable = BASE + INTERVAL * random.below(3) as u64;
                let lies: Vec<Vote> = (stable + 1..=stable + WINDOW)
                    .filter(|_| random.below(2) == 0)
                    .map(|at| entry(8, at, 66))
                    .collect();
                let replica = u16::try_from(quorums.n() - quorums.f() + liar).unwrap();
                let digest = u8::try_from(random.below(2)).unwrap();
                let checkpoints = vec![checkpoint_at(stable, digest), checkpoint_at(stable + INTERVAL, digest)];
                changes.push(ViewChange { checkpoints, ..change(replica, stable, &lies) });
            }
            // Were the low watermark to follow the state, this would not hold.
            undecidable += usize::from(decide_all(n, &history(quorums, &mut Random(seed), true).0).is_none());
        }
    }
    assert!(undecidable > 0, "these histories are too tame");
}

/// What is wrong, and how it is brought about.
type Spoiled<'a> = (&'a str, &'a dyn Fn(&mut ViewChange));

#[test]
fn what_no_correct_replica_sends_is_refused() {
    let good = ViewChange {
        checkpoints: vec![checkpoint_at(4, 1), checkpoint_at(8, 1)],
        pre_prepared: vec![entry(0, 5, 1), entry(1, 5, 2), entry(2, 12, 3)],
        ..change(0, 4, &[entry(1, 5, 2), entry(2, 12, 3)])
    };
    assert!(is_well_formed(&good, WINDOW, INTERVAL));
    // Whoever has gone on without a state vouches for none.
    assert!(is_well_formed(&ViewChange { checkpoints: Vec::new(), ..good.clone() }, WINDOW, INTERVAL));
    let bad: &[Spoiled<'_>] = &[
        ("view 0", &|c| c.view = View(0)),
        ("unaligned", &|c| c.stable = SequenceNumber(3)),
        ("overflow", &|c| c.stable = SequenceNumber(u64::MAX - 3)),
        ("unaligned checkpoint", &|c| c.checkpoints[1].sequence = SequenceNumber(9)),
        ("checkpoint beyond the window", &|c| c.checkpoints[1].sequence = SequenceNumber(16)),
        ("checkpoint twice", &|c| c.checkpoints[1] = c.checkpoints[0]),
        ("prepared below", &|c| c.prepared[0].sequence = SequenceNumber(4)),
        ("prepared above", &|c| c.prepared[1].sequence = SequenceNumber(13)),
        ("prepared twice", &|c| c.prepared[1].sequence = SequenceNumber(5)),
        ("prepared in its own view", &|c| c.prepared[0].view = View(9)),
        ("out of order", &|c| c.pre_prepared.swap(0, 1)),
        ("pre-prepared in a later view", &|c| c.pre_prepared[0].view = View(u64::MAX)),
        ("too many digests", &|c| c.pre_prepared = (0..5).map(|digest| entry(1, 6, digest)).collect()),
    ];
    for (what, spoil) in bad {
        let mut change = good.clone();
        spoil(&mut change);
        assert!(!is_well_formed(&change, WINDOW, INTERVAL), "{what}");
    }
}
