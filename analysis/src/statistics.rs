//! Statistics of rates sampled second by second, and of figures of several runs.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// Fewer seconds than this are too few to judge drift.
pub const DRIFT_SECONDS_MIN: usize = 6;

/// Arithmetic mean; 0 of nothing.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "counts of samples are small")]
pub fn mean(samples: &[f64]) -> f64 {
    if samples.is_empty() { 0.0 } else { samples.iter().sum::<f64>() / samples.len() as f64 }
}

/// Median; of an even number of samples the mean of the two in the middle. 0 of nothing.
#[must_use]
pub fn median(samples: &[f64]) -> f64 {
    let sorted = sorted(samples);
    let middle = sorted.len() / 2;
    match (sorted.len(), sorted.len() % 2) {
        (0, _) => 0.0,
        (_, 0) => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}

/// 95 % confidence interval of the median of independent samples, free of assumptions about their distribution: the
/// k-th lowest to the k-th highest, with the largest k for which `P(Bin(n, 1/2) < k) ≤ 2.5 %` (Conover, "Practical
/// Nonparametric Statistics", 1999, section 3.2; Le Boudec, "Performance Evaluation of Computer and Communication
/// Systems", 2010, section 2.2). `None` below six samples: even the lowest and the highest of five miss it in 6 % of
/// cases.
#[must_use]
pub fn median_interval95(samples: &[f64]) -> Option<[f64; 2]> {
    let n = samples.len();
    let half_to_n = 0.5_f64.powi(i32::try_from(n).ok()?);
    let (mut tail, mut term, mut k) = (0.0, half_to_n, 0);
    // Below 2^-1022 the terms are not to be told from nothing, and so is what they would change.
    while tail + term <= 0.025 && k < n / 2 {
        tail += term;
        #[allow(clippy::cast_precision_loss, reason = "counts of samples are small")]
        let next = term * (n - k) as f64 / (k + 1) as f64;
        term = next;
        k += 1;
    }
    let sorted = sorted(samples);
    (k > 0).then(|| [sorted[k - 1], sorted[n - k]])
}

/// Operations under way on average, of a rate (operations per second) and their mean latency (µs): L = λ W (Little, "A
/// Proof for the Queuing Formula L = λW", 1961). Rate and latencies are recorded apart, so where the number is known,
/// as in a closed loop, it says how well these agree. What begins or ends outside of the measured window blurs it, the
/// less the shorter latencies are than the window.
#[must_use]
pub fn outstanding(ops_per_s: f64, mean_us: f64) -> f64 {
    ops_per_s * mean_us / 1e6
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// How many independent samples these are worth: `n / (1 + 2 Σ (1 − k/n) ρ_k)`, between 2 and n (Bayley and Hammersley,
/// "The effective number of independent observations in an autocorrelated time series", 1946).
///
/// The sum ends before the first lag whose autocorrelation is not positive (the idea of Geyer's initial positive
/// sequence, 1992): later lags of a short series are noise. Negative correlation never makes the interval narrower than
/// that of independent samples.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "counts of samples are small")]
pub fn effective_samples(samples: &[f64]) -> f64 {
    let n = samples.len();
    let center = mean(samples);
    let variance: f64 = samples.iter().map(|x| (x - center).powi(2)).sum();
    if n < 3 || variance <= 0.0 {
        return n as f64;
    }
    let mut sum = 0.0;
    for lag in 1..n {
        let covariance: f64 = samples.iter().zip(&samples[lag..]).map(|(a, b)| (a - center) * (b - center)).sum();
        let correlation = covariance / variance;
        if correlation <= 0.0 {
            break;
        }
        sum += (1.0 - lag as f64 / n as f64) * correlation;
    }
    (n as f64 / (1.0 + 2.0 * sum)).clamp(2.0, n as f64)
}

/// 95 % confidence interval of the mean by Student's t, with [`effective_samples`] in place of the count, both for the
/// standard error and for the degrees of freedom. `None` below two samples.
///
/// # Panics
/// Never: there is at least one degree of freedom.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "counts of samples are small")]
pub fn interval95(samples: &[f64]) -> Option<[f64; 2]> {
    let n = samples.len();
    if n < 2 {
        return None;
    }
    let center = mean(samples);
    let variance = samples.iter().map(|x| (x - center).powi(2)).sum::<f64>() / (n as f64 - 1.0);
    let effective = effective_samples(samples);
    let t = StudentsT::new(0.0, 1.0, effective - 1.0).expect("at least one degree of freedom").inverse_cdf(0.975);
    let half = t * (variance / effective).sqrt();
    Some([center - half, center + half])
}

/// Mean of the last third of the samples against that of the first, percent. `None` below [`DRIFT_SECONDS_MIN`]
/// samples, or if the first third is all zero.
#[must_use]
pub fn drift_percent(samples: &[f64]) -> Option<f64> {
    if samples.len() < DRIFT_SECONDS_MIN {
        return None;
    }
    let third = samples.len() / 3;
    let first = mean(&samples[..third]);
    let last = mean(&samples[samples.len() - third..]);
    (first > 0.0).then(|| (last / first - 1.0) * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-4 * b.abs().max(1.0)
    }

    #[test]
    fn interval_of_uncorrelated_samples_is_students() {
        // Mean 5, s² = 40/7; lag 1 is negatively correlated, so all 8 samples count: t(0.975, 7) = 2.364624.
        let samples = [2.0, 8.0, 4.0, 6.0, 2.0, 8.0, 4.0, 6.0];
        let [low, high] = interval95(&samples).unwrap();
        let half = 2.364_624 * (40.0_f64 / 7.0 / 8.0).sqrt();
        assert!(close(low, 5.0 - half) && close(high, 5.0 + half), "{low} {high}");
    }

    #[test]
    fn correlated_samples_count_for_less() {
        // ρ_1 = 0.4, ρ_2 < 0: n_eff = 5 / (1 + 2 · 0.8 · 0.4).
        assert!(close(effective_samples(&[1.0, 2.0, 3.0, 4.0, 5.0]), 5.0 / 1.64));
        let step: Vec<f64> = (0..20).map(|i| if i < 10 { 100.0 } else { 200.0 }).collect();
        assert!(effective_samples(&step) < 6.0);
    }

    #[test]
    fn medians_and_their_intervals() {
        assert!(close(median(&[3.0, 1.0, 2.0]), 2.0) && close(median(&[4.0, 1.0, 2.0, 3.0]), 2.5));
        assert!(median(&[]).abs() < f64::EPSILON);
        let samples = |n: u32| (1..=n).rev().map(f64::from).collect::<Vec<_>>();
        // Le Boudec, appendix A, table A.1: which order statistics.
        for (n, expected) in [
            (5, None),
            (6, Some([1.0, 6.0])),
            (8, Some([1.0, 8.0])),
            (9, Some([2.0, 8.0])),
            (12, Some([3.0, 10.0])),
            (20, Some([6.0, 15.0])),
            (30, Some([10.0, 21.0])),
        ] {
            assert_eq!(median_interval95(&samples(n)), expected, "{n} samples");
        }
        assert_eq!(median_interval95(&[]), None);
    }

    #[test]
    fn short_and_constant_series_have_sane_answers() {
        assert_eq!(interval95(&[]), None);
        assert_eq!(interval95(&[7.0]), None);
        assert_eq!(interval95(&[7.0; 5]), Some([7.0, 7.0]));
        assert!(mean(&[]).abs() < f64::EPSILON);
    }

    #[test]
    fn littles_law_counts_what_is_under_way() {
        assert!(close(outstanding(2000.0, 1500.0), 3.0), "2000 a second, each 1.5 ms");
        assert!(close(outstanding(0.0, 1500.0), 0.0));
    }

    #[test]
    fn drift_compares_last_with_first_third() {
        assert_eq!(drift_percent(&[100.0; 5]), None);
        assert!(close(drift_percent(&[100.0, 100.0, 90.0, 80.0, 60.0, 60.0]).unwrap(), -40.0));
        assert!(close(drift_percent(&[50.0, 50.0, 0.0, 0.0, 0.0, 75.0, 75.0]).unwrap(), 50.0));
        assert_eq!(drift_percent(&[0.0; 9]), None);
    }

    proptest! {
        #[test]
        fn interval_holds_the_mean(samples in proptest::collection::vec(0.0..1e6_f64, 2..60)) {
            let [low, high] = interval95(&samples).unwrap();
            let center = mean(&samples);
            prop_assert!(low.is_finite() && high.is_finite());
            prop_assert!(low <= center && center <= high);
            let effective = effective_samples(&samples);
            prop_assert!((2.0..=samples.len() as f64).contains(&effective));
        }
    }
}
