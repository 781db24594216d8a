//! The latency-throughput curve, and where its knee is.

use serde::{Deserialize, Serialize};

/// Where more throughput begins to cost more latency than it is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Knee {
    /// Completed operations a second there.
    pub ops_per_s: f64,
    /// Mean latency there, µs.
    pub mean_us: f64,
    /// Power there: operations a second for each second of latency.
    pub power: f64,
}

/// The point of greatest power, throughput / mean latency (Kleinrock, "Power and deterministic rules of thumb for
/// probabilistic problems in computer communications", 1979): there the line from the origin touches the curve of
/// latency over throughput. `None` below three points, or where it lies at an end of the curve, so that it may lie
/// beyond.
///
/// `points` are (operations a second, mean latency in µs) in any order; those without operations do not count.
#[must_use]
pub fn knee(points: &[(f64, f64)]) -> Option<Knee> {
    let mut points: Vec<(f64, f64)> =
        points.iter().copied().filter(|(rate, mean)| *rate > 0.0 && *mean > 0.0).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let powers: Vec<f64> = points.iter().map(|(rate, mean)| power(*rate, *mean)).collect();
    let best = (0..points.len()).max_by(|i, j| powers[*i].total_cmp(&powers[*j]))?;
    let is_inside = best > 0 && best + 1 < points.len();
    is_inside.then(|| Knee { ops_per_s: points[best].0, mean_us: points[best].1, power: powers[best] })
}

/// Throughput over latency, operations a second for each second.
#[must_use]
pub fn power(ops_per_s: f64, mean_us: f64) -> f64 {
    if mean_us > 0.0 { ops_per_s / (mean_us / 1e6) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The power of M/M/1 is greatest at half of its capacity (Kleinrock 1979).
    #[test]
    fn knee_of_the_simplest_queue_is_at_half_of_its_capacity() {
        let curve: Vec<(f64, f64)> =
            (1..20).map(|i| f64::from(i) * 50.0).map(|rate| (rate, 1e6 / (1000.0 - rate))).collect();
        let found = knee(&curve).unwrap();
        assert!((found.ops_per_s - 500.0).abs() < 1e-9 && (found.mean_us - 2000.0).abs() < 1e-6, "{found:?}");
        assert!((found.power - 250_000.0).abs() < 1e-3, "{found:?}");
        let mut shuffled = curve;
        shuffled.reverse();
        shuffled.push((0.0, 0.0));
        assert_eq!(knee(&shuffled), Some(found));
    }

    #[test]
    fn a_knee_at_an_end_is_none() {
        let flat: Vec<(f64, f64)> = (1..9).map(|i| (f64::from(i), 100.0)).collect();
        assert_eq!(knee(&flat), None, "the curve ends before it bends");
        let steep: Vec<(f64, f64)> = (1..9).map(|i| (f64::from(i), f64::from(i).powi(3))).collect();
        assert_eq!(knee(&steep), None);
        assert_eq!(knee(&[(1.0, 1.0), (2.0, 1.0)]), None);
        assert_eq!(knee(&[]), None);
    }
}
