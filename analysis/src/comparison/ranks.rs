//! Rank methods for the shift between two samples: exact whatever the runs are distributed like, and so honest for few
//! of them, where the bootstrap of a median is not (it never looks beyond the runs that it has).
//!
//! All of them work on logarithms, so that a shift is a ratio.

/// Confidence of every interval.
pub const CONFIDENCE: f64 = 0.95;

/// How far one sample lies from another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shift {
    /// The estimate by Hodges and Lehmann.
    pub estimate: f64,
    /// 95 % interval at least; `None` if no interval of so few runs can be that sure.
    pub interval: Option<[f64; 2]>,
    /// Two-sided: how probable a shift as large as this is where there is none.
    pub p_value: f64,
}

/// The shift of pairs from their differences: the median of all Walsh averages (Hodges and Lehmann, "Estimates of
/// location based on rank tests", 1963), the interval that Wilcoxon's signed-rank test does not reject (Hollander and
/// Wolfe, "Nonparametric Statistical Methods", section 3.3), and the test's p-value by its exact distribution, with mid
/// ranks for ties and zeros that count for neither sign (Pratt 1959).
///
/// What it rests on: each difference is as likely to be there with the other sign if nothing differs. Where the order
/// within a pair is drawn at random, that is so by design, however the machine drifts from pair to pair.
///
/// # Panics
/// If there are no differences.
#[must_use]
pub fn signed_rank(differences: &[f64]) -> Shift {
    assert!(!differences.is_empty(), "a shift of nothing");
    let n = differences.len();
    let mut walsh: Vec<f64> =
        (0..n).flat_map(|i| (i..n).map(move |j| f64::midpoint(differences[i], differences[j]))).collect();
    walsh.sort_by(f64::total_cmp);
    let plain = sums_of_some(&(1..=n).collect::<Vec<_>>());

    let sizes: Vec<f64> = differences.iter().map(|difference| difference.abs()).collect();
    let ranks = doubled_ranks(&sizes);
    let signed: Vec<(usize, f64)> =
        ranks.into_iter().zip(differences.iter().copied()).filter(|(_, d)| *d != 0.0).collect();
    let positive = signed.iter().filter(|(_, difference)| *difference > 0.0).map(|(rank, _)| rank).sum();
    let p_value = two_sided(&sums_of_some(&signed.iter().map(|(rank, _)| *rank).collect::<Vec<_>>()), positive);
    Shift { estimate: median_of_sorted(&walsh), interval: inverted(&walsh, &plain), p_value }
}

/// The shift of `b` against `a`, which are independent: the median of all differences between one of `b` and one of `a`
/// (Hodges and Lehmann 1963), the interval that the test of Mann and Whitney (1947) does not reject, and that test's
/// p-value by its exact permutation distribution, with mid ranks for ties (shift algorithm of Streitberg and Röhmel
/// 1986).
///
/// What it rests on: the runs are exchangeable if nothing differs, which is not so where one side ran before the other
/// on a machine that drifts.
///
/// # Panics
/// If a side is empty.
#[must_use]
pub fn rank_sum(a: &[f64], b: &[f64]) -> Shift {
    assert!(!a.is_empty() && !b.is_empty(), "a shift of nothing");
    let mut differences: Vec<f64> = b.iter().flat_map(|y| a.iter().map(move |x| y - x)).collect();
    differences.sort_by(f64::total_cmp);
    // Mann and Whitney's U is the rank sum less its least value.
    let plain = sums_of_chosen(&(1..=a.len() + b.len()).collect::<Vec<_>>(), b.len());
    let least = b.len() * (b.len() + 1) / 2;

    let all: Vec<f64> = a.iter().chain(b).copied().collect();
    let ranks = doubled_ranks(&all);
    let of_b = ranks[a.len()..].iter().sum();
    let p_value = two_sided(&sums_of_chosen(&ranks, b.len()), of_b);
    Shift { estimate: median_of_sorted(&differences), interval: inverted(&differences, &plain[least..]), p_value }
}

/// The median; NaN of nothing.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    median_of_sorted(&sorted)
}

fn median_of_sorted(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// Those of the sorted averages or differences which a test with this null distribution (of a statistic that counts how
/// many of them are above zero) does not reject, from the first to the last.
fn inverted(sorted: &[f64], distribution: &[f64]) -> Option<[f64; 2]> {
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let mut below = 0.0;
    // How many values of the statistic are rejected at this end.
    let rejected = distribution.iter().take_while(|probability| {
        below += **probability;
        below <= tail
    });
    let first = rejected.count().checked_sub(1)?;
    Some([sorted[first], sorted[sorted.len() - 1 - first]])
}

/// Twice the rank of each value from 1, ties sharing the mean of theirs: whole numbers.
fn doubled_ranks(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|i, j| values[*i].total_cmp(&values[*j]));
    let mut ranks = vec![0; values.len()];
    let mut first = 0;
    for tied in order.chunk_by(|i, j| values[*i].total_cmp(&values[*j]).is_eq()) {
        for index in tied {
            ranks[*index] = 2 * first + tied.len() + 1;
        }
        first += tied.len();
    }
    ranks
}

/// How probable each sum is if every rank counts or not by the toss of a coin.
fn sums_of_some(ranks: &[usize]) -> Vec<f64> {
    let mut sums = vec![0.0; ranks.iter().sum::<usize>() + 1];
    sums[0] = 1.0;
    for rank in ranks {
        for sum in (0..sums.len()).rev() {
            let with = sum.checked_sub(*rank).map_or(0.0, |rest| sums[rest]);
            sums[sum] = f64::midpoint(sums[sum], with);
        }
    }
    sums
}

/// How probable each sum is if `count` of the ranks are drawn.
fn sums_of_chosen(ranks: &[usize], count: usize) -> Vec<f64> {
    let total: usize = ranks.iter().sum();
    let mut ways = vec![vec![0.0_f64; total + 1]; count + 1];
    ways[0][0] = 1.0;
    for rank in ranks {
        for chosen in (1..=count).rev() {
            for sum in *rank..=total {
                ways[chosen][sum] += ways[chosen - 1][sum - rank];
            }
        }
    }
    let mut sums = ways.swap_remove(count);
    let all: f64 = sums.iter().sum();
    sums.iter_mut().for_each(|ways| *ways /= all);
    sums
}

/// How probable it is to be as far from the middle as `seen`, or farther.
#[allow(clippy::cast_precision_loss, reason = "sums of ranks")]
fn two_sided(distribution: &[f64], seen: usize) -> f64 {
    let middle: f64 = distribution.iter().enumerate().map(|(sum, probability)| sum as f64 * probability).sum();
    let far = (seen as f64 - middle).abs() - 1e-6;
    let as_far = distribution.iter().enumerate().filter(|(sum, _)| (*sum as f64 - middle).abs() >= far);
    as_far.map(|(_, probability)| probability).sum::<f64>().min(1.0)
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss, reason = "small counts")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn intervals_are_those_of_published_tables() {
        // Signed ranks of 10 pairs: 9th and 47th of 55 Walsh averages, 95.1 %; the p-value of 8 is 2 · 25 / 1024.
        let differences: Vec<f64> = (1..=10).map(|i| f64::from(i) * if i == 8 { -1.0 } else { 1.0 }).collect();
        let shift = signed_rank(&differences);
        let mut walsh: Vec<f64> = (0..10)
            .flat_map(|i| (i..10).map(move |j| (i, j)))
            .map(|(i, j)| f64::midpoint(differences[i], differences[j]))
            .collect();
        walsh.sort_by(f64::total_cmp);
        assert_eq!(shift.interval, Some([walsh[8], walsh[46]]));
        assert!((shift.p_value - 50.0 / 1024.0).abs() < 1e-12, "{shift:?}");
        // Mann and Whitney with 5 and 5: the critical value of U is 2, so from the 3rd difference to the 23rd of 25.
        let (a, b) = ([1.0, 2.0, 4.0, 8.0, 16.0], [3.5, 7.0, 15.0, 33.0, 70.0]);
        let mut all: Vec<f64> = b.iter().flat_map(|y| a.iter().map(move |x| y - x)).collect();
        all.sort_by(f64::total_cmp);
        assert_eq!(rank_sum(&a, &b).interval, Some([all[2], all[22]]));
    }

    /// The example of `scipy.stats.mannwhitneyu`: U of 17 out of 20, exactly 1/9.
    #[test]
    fn p_value_is_that_of_a_published_example() {
        let (male, female) = ([19.0, 22.0, 16.0, 29.0, 24.0], [20.0, 11.0, 17.0, 12.0]);
        assert!((rank_sum(&male, &female).p_value - 1.0 / 9.0).abs() < 1e-12);
    }

    #[test]
    fn too_few_runs_have_no_interval() {
        for n in 1..20 {
            let values: Vec<f64> = (0..n).map(f64::from).collect();
            assert_eq!(signed_rank(&values).interval.is_some(), n >= 6, "{n} pairs");
            assert_eq!(rank_sum(&values, &values).interval.is_some(), n >= 4, "{n} and {n}");
        }
        assert!(rank_sum(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0, 4.0, 5.0]).interval.is_some());
    }

    #[test]
    fn what_does_not_differ_at_all_has_no_width() {
        let shift = signed_rank(&[0.0; 8]);
        assert_eq!((shift.estimate, shift.interval, shift.p_value), (0.0, Some([0.0, 0.0]), 1.0));
        let shift = rank_sum(&[2.0; 5], &[2.0; 5]);
        assert_eq!((shift.estimate, shift.interval), (0.0, Some([0.0, 0.0])));
        assert!((shift.p_value - 1.0).abs() < 1e-9);
    }

    proptest! {
        /// With ties or without: what going through all cases says. The statistics are counts of pairs, not ranks.
        #[test]
        fn p_values_are_shares_of_all_cases(a in proptest::collection::vec(0..12_i32, 1..6), b in proptest::collection::vec(0..12_i32, 1..6)) {
            let [a, b] = [a, b].map(|values| values.into_iter().map(f64::from).collect::<Vec<f64>>());
            let all: Vec<f64> = a.iter().chain(&b).copied().collect();
            let above = |chosen: u32| -> f64 {
                let is_of_b = |i: usize| chosen >> i & 1 == 1;
                let pairs = (0..all.len()).flat_map(|i| (0..all.len()).map(move |j| (i, j)));
                let of_both = pairs.filter(|(i, j)| is_of_b(*i) && !is_of_b(*j));
                of_both.map(|(i, j)| if all[i] > all[j] { 1.0 } else if all[i] < all[j] { -1.0 } else { 0.0_f64 }).sum()
            };
            let seen = above(((1 << b.len()) - 1) << a.len()).abs();
            let cases: Vec<f64> = (0..1_u32 << all.len()).filter(|chosen| chosen.count_ones() as usize == b.len()).map(above).collect();
            let far = cases.iter().filter(|case| case.abs() >= seen - 1e-9).count();
            prop_assert!((rank_sum(&a, &b).p_value - far as f64 / cases.len() as f64).abs() < 1e-9);

            let n = a.len().min(b.len());
            let differences: Vec<f64> = (0..n).map(|i| a[i] - b[i]).collect();
            let ranks = doubled_ranks(&differences.iter().map(|difference| difference.abs()).collect::<Vec<_>>());
            let sum = |signs: &dyn Fn(usize) -> f64| (0..n).map(|i| signs(i) * ranks[i] as f64 * f64::from(u8::from(differences[i] != 0.0))).sum::<f64>();
            let seen = sum(&|i| differences[i].signum()).abs();
            let cases: Vec<f64> = (0..1_u32 << n).map(|mask| sum(&|i| if mask >> i & 1 == 1 { 1.0 } else { -1.0 })).collect();
            let far = cases.iter().filter(|case| case.abs() >= seen - 1e-9).count();
            prop_assert!((signed_rank(&differences).p_value - far as f64 / cases.len() as f64).abs() < 1e-9);
        }

        /// The interval holds what the test does not reject, and nothing else.
        #[test]
        fn interval_and_test_say_the_same(differences in proptest::collection::vec(-1.0..1.0_f64, 6..30), a in proptest::collection::vec(0.0..1.0_f64, 4..12), b in proptest::collection::vec(0.0..1.5_f64, 4..12)) {
            for shift in [signed_rank(&differences), rank_sum(&a, &b)] {
                let [low, high] = shift.interval.unwrap();
                prop_assert!(low <= shift.estimate && shift.estimate <= high);
                prop_assert_eq!(low > 0.0 || high < 0.0, shift.p_value <= 0.05, "{:?}", shift);
            }
        }
    }
}
