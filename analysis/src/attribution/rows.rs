//! All samples as a file: one row for each sampled operation.

use std::fmt::Write as _;

use super::groups::us;
use super::{Part, Sample};

/// Columns in front of the parts.
const HEADER: &str = "client,timestamp,completed_s,latency_us,sequence,primary,first_replica,last_replica,sent_again";

/// The samples as CSV with a header, in the order in which they were completed; times of parts in µs.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "times of a run are far below 2^53 ns")]
pub fn to_csv(samples: &[Sample]) -> String {
    let mut text = HEADER.to_owned();
    for part in Part::ALL {
        let _ = write!(text, ",{}_us", part.name());
    }
    text.push('\n');
    let mut samples: Vec<&Sample> = samples.iter().collect();
    samples.sort_by_key(|sample| (sample.completed_ns, sample.client));
    for sample in samples {
        let Sample { client, timestamp, first_replica, last_replica, sent_again, .. } = sample;
        let (completed_s, latency_us) = (sample.completed_ns as f64 / 1e9, us(sample.latency_ns));
        let sequence = sample.sequence.map_or_else(String::new, |sequence| sequence.to_string());
        let primary = sample.primary.map_or_else(String::new, |primary| primary.to_string());
        let _ = write!(
            text,
            "{client},{timestamp},{completed_s:.6},{latency_us:.3},{sequence},{primary},{first_replica},{last_replica},{sent_again}"
        );
        for part in Part::ALL {
            let _ = write!(text, ",{:.3}", us(sample.part(part)));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::PARTS;
    use super::*;

    #[test]
    fn rows_have_a_value_for_each_column() {
        let mut parts = [0; PARTS];
        (parts[0], parts[16]) = (1500, 1);
        let later = Sample {
            client: 7,
            timestamp: 2,
            completed_ns: 2_500_000_000,
            latency_ns: 1501,
            sequence: Some(40),
            primary: Some(1),
            first_replica: 2,
            last_replica: 3,
            sent_again: true,
            parts,
        };
        let first = Sample { completed_ns: 1, sequence: None, primary: None, ..later };
        let text = to_csv(&[later, first]);
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
        assert_eq!(rows.len(), 3);
        assert!(rows.iter().all(|row| row.len() == 9 + PARTS), "{text}");
        assert_eq!(rows[0][9..11], ["client_wait_us", "client_send_us"]);
        assert_eq!(rows[1][..10], ["7", "2", "0.000000", "1.501", "", "", "2", "3", "true", "1.500"]);
        assert_eq!(rows[2][..10], ["7", "2", "2.500000", "1.501", "40", "1", "2", "3", "true", "1.500"]);
        assert_eq!(rows[2][25], "0.001");
    }
}
