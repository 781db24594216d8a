//! From samples to what makes up the median and the tail.

use super::{Attribution, Group, Part, PartShare, Sample};

/// Fewest samples that the tail is made of, where there are as many.
const TAIL_MIN: usize = 10;

/// What `samples` spent their time on; `None` without any. `one_in`: how many operations there are to a sample.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "samples are counted in thousands")]
pub fn attribute(samples: &[Sample], one_in: u64, shared_clock: bool) -> Option<Attribution> {
    let mut by_latency: Vec<&Sample> = samples.iter().collect();
    // Equal latencies in a fixed order, so that the same samples always make the same groups.
    by_latency.sort_by_key(|sample| (sample.latency_ns, sample.client, sample.timestamp));
    let n = by_latency.len();
    if n == 0 {
        return None;
    }
    let middle = &by_latency[n * 45 / 100..(n * 55).div_ceil(100)];
    let tail = &by_latency[n - n.div_ceil(1000).max(TAIL_MIN).min(n)..];
    let mut parts = Vec::new();
    for part in Part::ALL {
        let mut values: Vec<u64> = samples.iter().map(|sample| sample.part(part)).collect();
        values.sort_unstable();
        if values.last() == Some(&0) {
            continue;
        }
        let mean = |group: &[&Sample]| mean_us(group.iter().map(|sample| sample.part(part)));
        parts.push(PartShare {
            name: part.name().to_owned(),
            p50_share_us: mean(middle),
            p99_9_share_us: mean(tail),
            mean_us: mean(&by_latency),
            p50: quantile_us(&values, 50),
            p99: quantile_us(&values, 99),
        });
    }
    Some(Attribution {
        samples: n as u64,
        one_in,
        incomplete: samples.iter().filter(|sample| sample.part(Part::Unattributed) > 0).count() as u64,
        shared_clock,
        mean_us: mean_us(samples.iter().map(|sample| sample.latency_ns)),
        middle: group(middle),
        tail: group(tail),
        parts,
    })
}

fn group(samples: &[&Sample]) -> Group {
    let us = |sample: Option<&&Sample>| sample.map_or(0.0, |sample| us(sample.latency_ns));
    Group {
        samples: samples.len() as u64,
        mean_us: mean_us(samples.iter().map(|sample| sample.latency_ns)),
        from_us: us(samples.first()),
        to_us: us(samples.last()),
    }
}

/// Mean of times in ns, µs; 0 of none. The sum is one of whole numbers, so parts add up to latencies.
#[allow(clippy::cast_precision_loss, reason = "sums of a run's latencies are far below 2^53 µs")]
fn mean_us(times: impl ExactSizeIterator<Item = u64>) -> f64 {
    let count = times.len().max(1);
    let sum: u128 = times.map(u128::from).sum();
    sum as f64 / count as f64 / 1e3
}

/// The nearest rank of `percent` among sorted times in ns, µs.
fn quantile_us(sorted: &[u64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map_or(0.0, |value| us(*value))
}

#[allow(clippy::cast_precision_loss, reason = "times of a run are far below 2^53 ns")]
pub(super) fn us(ns: u64) -> f64 {
    ns as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::super::PARTS;
    use super::*;

    /// An operation that spent its time on these parts, ns.
    fn sample(client: u32, spent: &[(Part, u64)]) -> Sample {
        let mut parts = [0; PARTS];
        spent.iter().for_each(|(part, ns)| parts[*part as usize] = *ns);
        Sample {
            client,
            timestamp: 1,
            completed_ns: 0,
            latency_ns: parts.iter().sum(),
            sequence: Some(1),
            primary: Some(0),
            first_replica: 0,
            last_replica: 1,
            sent_again: false,
            parts,
        }
    }

    /// Latencies of 1 to 1000 µs, of which verifying takes 1 µs; the ten slowest waited for the network, the others for
    /// a batch.
    fn samples() -> Vec<Sample> {
        let waited = |us: u64| if us > 990 { Part::ReplyNetwork } else { Part::OrderWait };
        let one = |us: u64| sample(u32::try_from(us).unwrap(), &[(Part::Verify, 1000), (waited(us), (us - 1) * 1000)]);
        (1..=1000).rev().map(one).collect()
    }

    #[test]
    fn median_and_tail_are_made_of_different_things() {
        let told = attribute(&samples(), 64, true).unwrap();
        assert_eq!((told.samples, told.one_in, told.incomplete, told.shared_clock), (1000, 64, 0, true));
        // The 451st to the 550th, and the ten slowest: one in a thousand would be a single one.
        let middle = Group { samples: 100, mean_us: 500.5, from_us: 451.0, to_us: 550.0 };
        let tail = Group { samples: 10, mean_us: 995.5, from_us: 991.0, to_us: 1000.0 };
        assert_eq!((told.middle, told.tail), (middle, tail));
        let names: Vec<&str> = told.parts.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, ["verify", "order_wait", "reply_network"]);
        let [verify, order_wait, reply_network] = &told.parts[..] else { unreachable!() };
        assert_eq!((verify.p50_share_us, verify.p99_9_share_us, verify.mean_us), (1.0, 1.0, 1.0));
        assert_eq!((order_wait.p50_share_us, order_wait.p99_9_share_us), (499.5, 0.0));
        assert_eq!((reply_network.p50_share_us, reply_network.p99_9_share_us), (0.0, 994.5));
        // Of order_wait ten values are 0 and the others 0 to 989.
        assert_eq!((order_wait.p50, order_wait.p99), (489.0, 979.0));
    }

    #[test]
    fn shares_add_up_to_the_latency_of_their_group() {
        let mut samples = samples();
        samples.push(sample(2000, &[(Part::Unattributed, 7), (Part::Commit, 500_001)]));
        let told = attribute(&samples, 1, true).unwrap();
        assert_eq!(told.incomplete, 1);
        let sum = |of: fn(&PartShare) -> f64| told.parts.iter().map(of).sum::<f64>();
        for (sum, whole) in [
            (sum(|part| part.p50_share_us), told.middle.mean_us),
            (sum(|part| part.p99_9_share_us), told.tail.mean_us),
            (sum(|part| part.mean_us), told.mean_us),
        ] {
            assert!((sum - whole).abs() < 1e-6 * whole, "{sum} is not {whole}");
        }
    }

    #[test]
    fn a_large_tail_is_one_in_a_thousand_and_few_samples_are_all_there_is() {
        let many: Vec<Sample> = (1..=20_001).map(|us| sample(us, &[(Part::Execute, u64::from(us))])).collect();
        let told = attribute(&many, 1, true).unwrap();
        assert_eq!((told.tail.samples, told.tail.from_us), (21, 19.981));
        let told = attribute(&many[..1], 1, true).unwrap();
        assert_eq!((told.middle.samples, told.tail.samples, told.tail.mean_us), (1, 1, 0.001));
        assert_eq!(attribute(&[], 1, true), None);
    }
}
