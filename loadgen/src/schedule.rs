//! When to send: open-loop schedules, fixed in advance. Latency counts from these intended times, whatever the
//! generator or the cluster makes of them (no coordinated omission).

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rand_distr::{Distribution, Exp};
use thiserror::Error;

const NANOS_PER_S: f64 = 1e9;

/// A rate that is no rate.
#[derive(Clone, Debug, Error, PartialEq)]
#[error("rate = {0}: allowed: operations per second, more than 0 and at most 1e9")]
pub struct RateError(pub f64);

/// Intended send times in ns from the start of the load: an endless iterator that never goes backwards.
///
/// The same arguments give the same times, on any machine. Each of several threads takes its [part](Self::part);
/// together the parts are the whole schedule, each time exactly once.
#[derive(Clone, Debug)]
pub struct Schedule {
    arrivals: Arrivals,
    /// Arrivals to skip before the next one of this part.
    skip: usize,
    /// How many parts the schedule was divided into.
    parts: usize,
}

#[derive(Clone, Debug)]
enum Arrivals {
    /// The time of arrival `next` follows from `next` alone: rounding never adds up.
    Constant { gap_ns: f64, next: u64 },
    /// Independent exponential gaps, summed in f64: after a day the sum is still exact to 0.02 ns.
    Poisson { gap_ns: Exp<f64>, rng: Xoshiro256PlusPlus, last_ns: f64 },
}

impl Schedule {
    /// Equal gaps; the first time is 0. `rate`: operations per second.
    ///
    /// # Errors
    /// If the rate is not more than 0 and at most one per nanosecond.
    pub fn constant(rate: f64) -> Result<Self, RateError> {
        check(rate)?;
        Ok(Self::whole(Arrivals::Constant { gap_ns: NANOS_PER_S / rate, next: 0 }))
    }

    /// Arrivals of a Poisson process. `rate`: operations per second, in the mean.
    ///
    /// # Errors
    /// If the rate is not more than 0 and at most one per nanosecond.
    pub fn poisson(rate: f64, seed: u64) -> Result<Self, RateError> {
        check(rate)?;
        let gap_ns = Exp::new(rate / NANOS_PER_S).map_err(|_| RateError(rate))?;
        // This generator's output is fixed by its name, so a seed means the same in every build.
        Ok(Self::whole(Arrivals::Poisson { gap_ns, rng: Xoshiro256PlusPlus::seed_from_u64(seed), last_ns: 0.0 }))
    }

    const fn whole(arrivals: Arrivals) -> Self {
        Self { arrivals, skip: 0, parts: 1 }
    }

    /// Part `index` of `parts`: every `parts`-th time of the whole schedule, beginning with number `index`. Each part
    /// of a Poisson schedule draws all gaps, about 5 ns each, so that the union does not depend on how many parts there
    /// are.
    ///
    /// # Panics
    /// If there is no such part, or this is a part already.
    #[must_use]
    pub fn part(self, index: usize, parts: usize) -> Self {
        assert!(index < parts, "part {index} of {parts}");
        assert!(self.parts == 1, "a part is not divided again");
        Self { arrivals: self.arrivals, skip: index, parts }
    }
}

const fn check(rate: f64) -> Result<(), RateError> {
    if rate > 0.0 && rate <= NANOS_PER_S { Ok(()) } else { Err(RateError(rate)) }
}

impl Iterator for Schedule {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let skip = std::mem::replace(&mut self.skip, self.parts - 1);
        Some(self.arrivals.nth(skip))
    }
}

impl Arrivals {
    /// The time after the next `skip` ones.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "times are not negative, and exact below 2^53 ns (104 days)"
    )]
    fn nth(&mut self, skip: usize) -> u64 {
        match self {
            Self::Constant { gap_ns, next } => {
                let index = *next + skip as u64;
                *next = index + 1;
                (index as f64 * *gap_ns) as u64
            }
            Self::Poisson { gap_ns, rng, last_ns } => {
                for _ in 0..=skip {
                    *last_ns += gap_ns.sample(rng);
                }
                *last_ns as u64
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn both(rate: f64, seed: u64) -> [Schedule; 2] {
        [Schedule::constant(rate).unwrap(), Schedule::poisson(rate, seed).unwrap()]
    }

    #[test]
    fn rates_that_are_none_are_refused() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 1.1e9] {
            assert!(Schedule::constant(rate).is_err());
            assert!(Schedule::poisson(rate, 1).is_err());
        }
    }

    /// A third of an operation per ms has no exact gap in ns: after 27 hours the schedule must still be on time.
    #[test]
    fn rounding_does_not_add_up() {
        let mut schedule = Schedule::constant(333.333_333_333).unwrap();
        let at = schedule.nth(33_333_333).unwrap();
        let exact = 33_333_333.0 / 333.333_333_333 * 1e9;
        assert!((at as f64 - exact).abs() <= 1.0, "{at} instead of {exact}");
    }

    #[test]
    fn gaps_of_a_poisson_process_are_exponential() {
        let times: Vec<u64> = Schedule::poisson(100_000.0, 3).unwrap().take(200_001).collect();
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean / 10_000.0 - 1.0).abs() < 0.01, "mean {mean}");
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.02, "coefficient of variation {}", variance.sqrt() / mean);
        let longer = gaps.iter().filter(|gap| **gap > 2.0 * 10_000.0).count() as f64 / gaps.len() as f64;
        assert!((longer - (-2.0f64).exp()).abs() < 0.005, "P(gap > 2 means) = {longer}");
    }

    #[test]
    fn a_seed_fixes_the_schedule() {
        let first = |seed| Schedule::poisson(1e6, seed).unwrap().take(5).collect::<Vec<_>>();
        assert_eq!(first(42), first(42));
        assert_ne!(first(42), first(43));
    }

    proptest! {
        #[test]
        fn the_long_run_rate_is_the_asked_one(rate in 1000.0f64..1e6, seed: u64) {
            let [constant, poisson] = both(rate, seed);
            let in_two_seconds = |schedule: Schedule| schedule.take_while(|at| *at < 2_000_000_000).count() as f64;
            prop_assert!((in_two_seconds(constant) - 2.0 * rate).abs() <= 1.0);
            // Six standard deviations of a Poisson count: a miss in 10^9.
            prop_assert!((in_two_seconds(poisson) - 2.0 * rate).abs() <= 6.0 * (2.0 * rate).sqrt());
        }

        #[test]
        fn the_parts_are_the_whole(rate in 1.0f64..1e9, seed: u64, parts in 1usize..9) {
            for schedule in both(rate, seed) {
                let whole: Vec<u64> = schedule.clone().take(10 * parts).collect();
                prop_assert!(whole.is_sorted());
                for index in 0..parts {
                    let part: Vec<u64> = schedule.clone().part(index, parts).take(10).collect();
                    let expected: Vec<u64> = whole.iter().copied().skip(index).step_by(parts).collect();
                    prop_assert_eq!(part, expected);
                }
            }
        }
    }
}
