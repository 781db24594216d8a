//! Percentiles of latency over several runs: histograms are merged, percentiles never averaged; what is uncertain about
//! them is uncertain from run to run, so runs are what is drawn again, never operations.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use statrs::distribution::{ContinuousCDF as _, Normal, StudentsT};

use super::ranks::{CONFIDENCE, Shift};

/// How often runs are drawn again. The same inputs always give the same interval.
const RESAMPLES: usize = 4000;
/// Exchanges of the two sides that are tried at most; all of them if there are no more than that.
const EXCHANGES_MAX: usize = 4096;
const SEED: u64 = 0x6869_7070;

/// The runs of two sides over one grid of latencies.
pub(super) struct Merged {
    /// What each place of the grid stands for, ns, in order.
    values: Vec<u64>,
    /// Operations at each place, by run: those of the first side, then those of the second.
    runs: Vec<Vec<u64>>,
    /// How many runs are the first side's.
    first: usize,
    /// Whether run i of one side and run i of the other were made in one round.
    paired: bool,
}

impl Merged {
    pub(super) fn new(a: &[&Histogram<u64>], b: &[&Histogram<u64>], paired: bool) -> Self {
        debug_assert!(!paired || a.len() == b.len());
        let mut grid: BTreeMap<u64, Vec<(usize, u64)>> = BTreeMap::new();
        for (run, histogram) in a.iter().chain(b).enumerate() {
            for step in histogram.iter_recorded() {
                grid.entry(step.value_iterated_to()).or_default().push((run, step.count_since_last_iteration()));
            }
        }
        let mut runs = vec![vec![0; grid.len()]; a.len() + b.len()];
        for (place, counts) in grid.values().enumerate() {
            for (run, count) in counts {
                runs[*run][place] += count;
            }
        }
        Self { values: grid.into_keys().collect(), runs, first: a.len(), paired }
    }

    /// By how much the logarithms of these percentiles of all latencies of the second side lie above those of the
    /// first.
    ///
    /// The interval is the expanded percentile bootstrap over runs, over rounds where there are any: its percentiles
    /// are those of Student's t with n − 1 degrees of freedom, scaled by √(n / (n − 1)), because the plain one is too
    /// narrow where runs are few (Hesterberg, "What Teachers Should Know About the Bootstrap", 2015, section 3.3). The
    /// p-value is that of the permutation test that exchanges the sides of each round, or the runs of the sides where
    /// there are no rounds: exact, or from [`EXCHANGES_MAX`] random ones.
    pub(super) fn shifts(&self, quantiles: &[f64]) -> Vec<Shift> {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(SEED);
        let estimates = self.shift_of(&self.as_they_are(), quantiles);
        let resampled: Vec<Vec<f64>> =
            (0..RESAMPLES).map(|_| self.shift_of(&self.drawn_again(&mut random), quantiles)).collect();
        let p_values = self.p_values(&estimates, quantiles, &mut random);
        let shift = |(index, (estimate, p_value)): (usize, (&f64, f64))| {
            let mut drawn: Vec<f64> = resampled.iter().map(|shifts| shifts[index]).collect();
            drawn.sort_by(f64::total_cmp);
            Shift { estimate: *estimate, interval: self.expanded(&drawn), p_value }
        };
        estimates.iter().zip(p_values).enumerate().map(shift).collect()
    }

    fn second(&self) -> usize {
        self.runs.len() - self.first
    }

    /// How often each run counts, for which side.
    fn as_they_are(&self) -> Vec<[u64; 2]> {
        (0..self.runs.len()).map(|run| if run < self.first { [1, 0] } else { [0, 1] }).collect()
    }

    fn drawn_again(&self, random: &mut Xoshiro256PlusPlus) -> Vec<[u64; 2]> {
        let mut weights = vec![[0, 0]; self.runs.len()];
        for _ in 0..self.first {
            let drawn = random.random_range(0..self.first);
            weights[drawn][0] += 1;
            if self.paired {
                weights[self.first + drawn][1] += 1;
            }
        }
        if !self.paired {
            for _ in 0..self.second() {
                weights[self.first + random.random_range(0..self.second())][1] += 1;
            }
        }
        weights
    }

    /// Logarithms of the percentiles of the second side less those of the first.
    fn shift_of(&self, weights: &[[u64; 2]], quantiles: &[f64]) -> Vec<f64> {
        let [a, b] = [0, 1].map(|side| self.percentiles(weights, side, quantiles));
        a.iter().zip(b).map(|(a, b)| (b / a).ln()).collect()
    }

    fn percentiles(&self, weights: &[[u64; 2]], side: usize, quantiles: &[f64]) -> Vec<f64> {
        let mut counts = vec![0_u64; self.values.len()];
        for (run, weight) in self.runs.iter().zip(weights).filter(|(_, weight)| weight[side] > 0) {
            counts.iter_mut().zip(run).for_each(|(sum, count)| *sum += count * weight[side]);
        }
        let total: u64 = counts.iter().sum();
        let at = |quantile: &f64| {
            #[allow(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "below 2^53"
            )]
            let wanted = ((quantile * total as f64).ceil() as u64).max(1);
            let mut seen = 0;
            let place = counts.iter().position(|count| {
                seen += count;
                seen >= wanted
            });
            #[allow(clippy::cast_precision_loss, reason = "2^53 ns are a hundred days")]
            place.map_or(f64::NAN, |place| self.values[place].max(1) as f64)
        };
        quantiles.iter().map(at).collect()
    }

    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small counts"
    )]
    fn expanded(&self, drawn: &[f64]) -> Option<[f64; 2]> {
        let n = self.first.min(self.second());
        if self.least_p_value() > 1.0 - CONFIDENCE {
            return None;
        }
        let tail = (1.0 - CONFIDENCE) / 2.0;
        let t = StudentsT::new(0.0, 1.0, n as f64 - 1.0).ok()?.inverse_cdf(tail);
        let tail = Normal::standard().cdf(t * (n as f64 / (n as f64 - 1.0)).sqrt());
        let first = ((tail * drawn.len() as f64).floor() as usize).min(drawn.len() / 2);
        Some([drawn[first], drawn[drawn.len() - 1 - first]])
    }

    /// The smallest p-value that so few runs can have.
    fn least_p_value(&self) -> f64 {
        if self.paired {
            2.0 / 2.0_f64.powi(i32::try_from(self.first).unwrap_or(i32::MAX))
        } else {
            2.0 / ways(self.first, self.second())
        }
    }

    /// Shares of the exchanges of sides after which the percentiles lie as far apart as they do, or farther.
    #[allow(clippy::cast_precision_loss, reason = "small counts")]
    fn p_values(&self, estimates: &[f64], quantiles: &[f64], random: &mut Xoshiro256PlusPlus) -> Vec<f64> {
        let exchanges = self.exchanges(random);
        let mut as_far = vec![0_usize; quantiles.len()];
        for weights in &exchanges {
            let shifts = self.shift_of(weights, quantiles);
            for ((count, shift), estimate) in as_far.iter_mut().zip(shifts).zip(estimates) {
                *count += usize::from(shift.abs() >= estimate.abs() - 1e-12);
            }
        }
        as_far.iter().map(|count| *count as f64 / exchanges.len() as f64).collect()
    }

    /// The runs with their sides exchanged, as they are among them: all that there are, or as many as are tried.
    fn exchanges(&self, random: &mut Xoshiro256PlusPlus) -> Vec<Vec<[u64; 2]>> {
        let rounds = self.first;
        let swapped = |is_swapped: &dyn Fn(usize) -> bool| {
            let side = |run: usize| (run >= rounds) != is_swapped(run % rounds);
            (0..self.runs.len()).map(|run| if side(run) { [0, 1] } else { [1, 0] }).collect()
        };
        if self.paired {
            if rounds < 64 && 1 << rounds <= EXCHANGES_MAX {
                return (0..1_u64 << rounds).map(|mask| swapped(&|round| mask >> round & 1 == 1)).collect();
            }
            let drawn = (1..EXCHANGES_MAX).map(|_| {
                let coins: Vec<bool> = (0..rounds).map(|_| random.random()).collect();
                swapped(&|round| coins[round])
            });
            return std::iter::once(self.as_they_are()).chain(drawn).collect();
        }
        #[allow(clippy::cast_precision_loss, reason = "a small count")]
        if ways(self.first, self.second()) <= EXCHANGES_MAX as f64 {
            let mut all = Vec::new();
            choose(&mut vec![[1, 0]; self.runs.len()], 0, self.second(), &mut all);
            return all;
        }
        let drawn = (1..EXCHANGES_MAX).map(|_| {
            let mut weights = self.as_they_are();
            for last in (1..weights.len()).rev() {
                weights.swap(last, random.random_range(0..=last));
            }
            weights
        });
        std::iter::once(self.as_they_are()).chain(drawn).collect()
    }
}

/// How many ways there are to say which runs are the second side's.
fn ways(first: usize, second: usize) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "small counts")]
    (1..=second).map(|i| (first + i) as f64 / i as f64).product()
}

/// All ways to give `count` of the runs from `from` on to the second side.
fn choose(weights: &mut Vec<[u64; 2]>, from: usize, count: usize, all: &mut Vec<Vec<[u64; 2]>>) {
    if count == 0 {
        all.push(weights.clone());
        return;
    }
    for run in from..=weights.len() - count {
        weights[run] = [0, 1];
        choose(weights, run + 1, count - 1, all);
        weights[run] = [1, 0];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: &[u64]) -> Histogram<u64> {
        let mut histogram = Histogram::new(3).unwrap();
        values.iter().for_each(|value| histogram.record(*value).unwrap());
        histogram
    }

    fn merged(a: &[Histogram<u64>], b: &[Histogram<u64>], paired: bool) -> Merged {
        Merged::new(&a.iter().collect::<Vec<_>>(), &b.iter().collect::<Vec<_>>(), paired)
    }

    #[test]
    fn percentiles_are_of_all_operations_and_no_mean_of_percentiles() {
        // Medians of 100 and of 900 with thrice the operations: together 900, where the mean would be 500.
        let a = [histogram(&[100]), histogram(&[900; 3])];
        let b = [histogram(&[200]), histogram(&[1800; 3])];
        for paired in [true, false] {
            let shifts = merged(&a, &b, paired).shifts(&[0.5, 0.25]);
            let ratio = shifts[0].estimate.exp();
            assert!((ratio - 2.0).abs() < 0.01 && shifts[1].estimate.exp() > 1.9, "{shifts:?}");
            assert_eq!(shifts[0].interval, None, "too few runs");
        }
    }

    #[test]
    fn exchanges_are_all_there_are() {
        let runs = |n: usize| -> Vec<Histogram<u64>> { (0..n).map(|i| histogram(&[100 + i as u64])).collect() };
        let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
        let of = |a: usize, b: usize, paired: bool, random: &mut Xoshiro256PlusPlus| {
            let exchanges = merged(&runs(a), &runs(b), paired).exchanges(random);
            assert!(exchanges.iter().all(|weights| weights.iter().filter(|weight| weight[1] == 1).count() == b));
            let distinct: std::collections::BTreeSet<_> = exchanges.iter().cloned().collect();
            (exchanges.len(), distinct.len())
        };
        assert_eq!(of(6, 6, true, &mut random), (64, 64));
        assert_eq!(of(4, 3, false, &mut random), (35, 35));
        assert_eq!(of(20, 20, true, &mut random).0, EXCHANGES_MAX);
        assert_eq!(of(12, 9, false, &mut random).0, EXCHANGES_MAX);
    }

    #[test]
    fn separated_sides_have_the_least_p_value_that_there_is() {
        let a: Vec<_> = (0..6).map(|i| histogram(&[100_000 + i, 101_000])).collect();
        let b: Vec<_> = (0..6).map(|i| histogram(&[200_000 + i, 201_000])).collect();
        let paired = merged(&a, &b, true).shifts(&[0.5])[0];
        assert!((paired.p_value - 2.0 / 64.0).abs() < 1e-12, "{paired:?}");
        let apart = merged(&a, &b, false).shifts(&[0.5])[0];
        assert!((apart.p_value - 2.0 / 924.0).abs() < 1e-12, "{apart:?}");
        for shift in [paired, apart] {
            let [low, high] = shift.interval.unwrap();
            assert!(low > 0.6 && low <= shift.estimate && shift.estimate <= high && high < 0.8, "{shift:?}");
        }
    }

    #[test]
    fn what_is_drawn_is_drawn_alike_each_time() {
        let a: Vec<_> = (0..8).map(|i| histogram(&[100 + 7 * i, 300])).collect();
        let b: Vec<_> = (0..8).map(|i| histogram(&[110 + 5 * i, 280])).collect();
        assert_eq!(merged(&a, &b, true).shifts(&[0.5, 0.99]), merged(&a, &b, true).shifts(&[0.5, 0.99]));
    }
}
