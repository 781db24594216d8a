//! What the search for bad signatures costs at most, counted in verifications: the bounds in the head of `signature`.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use super::*;

/// A signature is good if its first byte is 0: what a verdict costs does not depend on the rule.
#[derive(Debug)]
struct Marked;

impl Rule for Marked {
    fn standing(_: &VerifyingKey, _: &[u8], signature: &[u8; SIGNATURE_BYTES], _: bool) -> Standing {
        if signature[0] == 0 { Standing::Good } else { Standing::Bad }
    }

    fn all_good(_: &[VerifyingKey], _: &[&[u8]], signatures: &[[u8; SIGNATURE_BYTES]]) -> bool {
        signatures.iter().all(|signature| signature[0] == 0)
    }
}

/// What it costs to settle a batch of which these are bad. The verdicts are right.
fn cost(bad: &[bool]) -> Effort {
    static KEY: LazyLock<VerifyingKey> = LazyLock::new(|| signer(1).verifying_key());
    let mut batch = SignatureBatch::<Marked>::with_capacity(bad.len());
    for bad in bad {
        let mut signature = [0; SIGNATURE_BYTES];
        signature[0] = u8::from(*bad);
        batch.push(&KEY, &[], &signature);
    }
    assert!(batch.verify().iter().zip(bad).all(|(good, bad)| good != bad), "{bad:?}");
    batch.effort()
}

/// `size` signatures of which those at `places` are bad.
fn bad_at(size: usize, places: impl IntoIterator<Item = usize>) -> Vec<bool> {
    let mut bad = vec![false; size];
    places.into_iter().for_each(|place| bad[place] = true);
    bad
}

/// The logarithm to the base of two, rounded up.
fn log2(n: usize) -> usize {
    n.next_power_of_two().ilog2() as usize
}

/// The bounds of a part of `size` signatures, more than two, of which `bad` are bad, one or more.
fn bounds(size: usize, bad: usize) -> Effort {
    let levels = log2(size) - 1;
    let checks: usize = (1..levels).map(|level| 2 * bad.min(1 << (level - 1))).sum();
    let most = |count: usize| u64::try_from(count).unwrap();
    Effort {
        combined: most(1 + checks),
        combined_signatures: most(size.next_power_of_two() * (3 + log2(bad)).min(1 + log2(FAILURES_MAX))),
        single: most(if levels * bad < FAILURES_MAX { 5 * bad } else { size }),
    }
}

fn assert_within(effort: Effort, bounds: Effort, what: &str) {
    assert!(effort.combined <= bounds.combined, "{what}: {effort:?}, {bounds:?}");
    assert!(effort.combined_signatures <= bounds.combined_signatures, "{what}: {effort:?}, {bounds:?}");
    assert!(effort.single <= bounds.single, "{what}: {effort:?}, {bounds:?}");
}

#[test]
fn wrong_signatures_of_1024_cost_a_bounded_number_of_verifications() {
    const N: usize = 1024;
    assert_eq!(cost(&[false; N]), Effort { combined: 1, combined_signatures: 1024, single: 0 });
    // One: twice as many in combined checks if it is the last one, three times if it is the first.
    let [last, first] = [N - 1, 0].map(|place| cost(&bad_at(N, [place])));
    assert_eq!(last, Effort { combined: 9, combined_signatures: 1024 + 1020, single: 4 });
    assert_eq!(first, Effort { combined: 17, combined_signatures: 1024 + 2 * 1020, single: 4 });
    for place in 0..N {
        assert_within(cost(&bad_at(N, [place])), bounds(N, 1), &format!("at {place}"));
    }
    for place in (0..N).step_by(5) {
        for other in [0, 1, 511, 512, N - 1, place ^ 1, place ^ 512].into_iter().filter(|other| *other != place) {
            assert_within(cost(&bad_at(N, [place, other])), bounds(N, 2), &format!("at {place} and {other}"));
        }
    }
    for stride in 1..=N / 8 {
        for start in [0, stride / 2, N - 7 * stride - 1] {
            let bad = bad_at(N, (0..8).map(|at| start + at * stride));
            assert_within(cost(&bad), bounds(N, 8), &format!("8 from {start} by {stride}"));
        }
    }
    let all = cost(&[true; N]);
    assert_within(all, bounds(N, N), "all");
    assert_eq!((all.combined, all.single), (32, 1024), "the search gives up");
}

#[test]
fn no_placement_of_bad_signatures_costs_more_than_the_bounds() {
    for size in 3..=13 {
        let mut most = 0;
        for mask in 1..1_usize << size {
            let bad = bad_at(size, (0..size).filter(|place| mask >> place & 1 == 1));
            let effort = cost(&bad);
            assert_within(effort, bounds(size, mask.count_ones() as usize), &format!("{bad:?}"));
            most = most.max(effort.combined_signatures + 3 * effort.single);
        }
        assert_eq!(most, worst(size, 3), "the model is the code: {size}");
    }
}

/// In combined checks alone, and with three times that for a signature alone.
#[test]
fn the_worst_placement_of_bad_signatures_costs_less_than_six_and_a_half_times_what_good_ones_cost() {
    for size in [128, 1024] {
        assert!(worst(size, 0) < 6 * size as u64, "{size}: {}", worst(size, 0));
    }
    assert!(2 * worst(1024, 3) < 13 * 1024, "{}", worst(1024, 3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_clusters_of_bad_signatures_cost_more_than_the_worst(
        clusters in prop::collection::vec((0usize..1024, 1usize..6), 1..120),
    ) {
        static WORST: LazyLock<[u64; 2]> = LazyLock::new(|| [0, 3].map(|alone| worst(1024, alone)));
        let places = clusters.iter().flat_map(|(first, length)| *first..(first + length).min(1024));
        let Effort { combined_signatures, single, .. } = cost(&bad_at(1024, places));
        prop_assert!(combined_signatures <= WORST[0] && combined_signatures + 3 * single <= WORST[1]);
    }
}

/// Marks stand for real signatures: the same verdicts, and the same counts.
#[test]
fn real_signatures_are_searched_as_marked_ones_are() {
    let bad = bad_at(64, [0, 17, 18, 40]);
    let entries: Vec<Entry> = (0..64)
        .map(|seed| {
            let mut entry = honest(seed);
            entry.2[40] ^= u8::from(bad[usize::from(seed)]);
            entry
        })
        .collect();
    let mut batch = SignatureBatch::<PrimeOrder>::with_capacity(64);
    entries.iter().for_each(|(key, message, signature)| batch.push(key, message, signature));
    assert!(batch.verify().iter().zip(&bad).all(|(good, bad)| good != bad));
    assert_eq!(batch.effort(), cost(&bad));
}

/// The most that a part of `size` signatures can cost, over all placements of bad ones: those in combined checks, and
/// `alone` for each that is verified alone.
fn worst(size: usize, alone: u64) -> u64 {
    let mut model = Model { alone, known: HashMap::new() };
    model.settle(size, false, 0).into_values().max().expect("there is a placement")
}

/// A model of [`SignatureBatch::settle`], by dynamic programming over what placements can lead to.
struct Model {
    alone: u64,
    known: HashMap<(usize, bool, usize), Outcomes>,
}

/// By whether all are good and how many combined checks have failed so far: the most that it can have cost.
type Outcomes = BTreeMap<(bool, usize), u64>;

impl Model {
    fn settle(&mut self, size: usize, suspect: bool, failures: usize) -> Outcomes {
        if let Some(known) = self.known.get(&(size, suspect, failures)) {
            return known.clone();
        }
        let mut outcomes = Outcomes::new();
        let mut enter = |outcome: (bool, usize), cost: u64| {
            let most = outcomes.entry(outcome).or_default();
            *most = cost.max(*most);
        };
        let alone = size <= SINGLES_MAX || failures >= FAILURES_MAX;
        let each = if alone { self.alone } else { 1 };
        if !suspect {
            enter((true, failures), each * size as u64);
        }
        if alone {
            enter((false, failures), each * size as u64);
        } else {
            let (failed, checked) = if suspect { (failures, 0) } else { (failures + 1, size as u64) };
            for ((left_good, failed), left) in self.settle(size / 2, false, failed) {
                for ((right_good, failed), right) in self.settle(size - size / 2, left_good, failed) {
                    if !(left_good && right_good) {
                        enter((false, failed), checked + left + right);
                    }
                }
            }
        }
        self.known.insert((size, suspect, failures), outcomes.clone());
        outcomes
    }
}
