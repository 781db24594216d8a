//! Latencies from HdrHistogram interval logs (`.hlog`, V2), in nanoseconds there and in microseconds in reports.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry, LogIteratorError};
use thiserror::Error;

use crate::report::Latency;

/// Intervals with this tag were recorded before the measured window and are not merged.
pub const WARMUP_TAG: &str = "warmup";

/// An interval log that can not be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LatencyError {
    /// A line is neither a comment, a header nor an interval.
    #[error("byte {offset}: not a line of an interval log")]
    Line {
        /// Where the line starts.
        offset: usize,
    },
    /// An interval's histogram can not be decoded.
    #[error("interval {interval}: {error}")]
    Histogram {
        /// Which interval, counted from 1.
        interval: usize,
        /// Why.
        error: String,
    },
}

/// Latencies in ns.
pub type Latencies = Histogram<u64>;

/// The latencies of one interval of a log.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// When it begins, seconds since the load began.
    pub start_s: f64,
    /// How long it is, s.
    pub length_s: f64,
    /// Latencies in ns.
    pub latencies: Histogram<u64>,
}

/// Merges all intervals of the measured window from the logs into one histogram. Histograms are merged, percentiles
/// never averaged.
///
/// # Errors
/// Names the offset or the interval that can not be read.
///
/// # Panics
/// Never: three significant digits are allowed.
pub fn merge<'a>(logs: impl IntoIterator<Item = &'a [u8]>) -> Result<Histogram<u64>, LatencyError> {
    let mut merged = Histogram::<u64>::new(3).expect("three digits are allowed");
    merged.auto(true);
    for log in logs {
        read(log, |interval, line| {
            merged.add(&line.latencies).map_err(|error| LatencyError::Histogram { interval, error: error.to_string() })
        })?;
    }
    Ok(merged)
}

/// All intervals of the measured window, in order.
///
/// # Errors
/// Names the offset or the interval that can not be read.
pub fn intervals(log: &[u8]) -> Result<Vec<Interval>, LatencyError> {
    let mut intervals = Vec::new();
    read(log, |_, interval| {
        intervals.push(interval);
        Ok(())
    })?;
    Ok(intervals)
}

/// Hands each interval of the measured window on, with its number from 1.
fn read(log: &[u8], mut each: impl FnMut(usize, Interval) -> Result<(), LatencyError>) -> Result<(), LatencyError> {
    let mut deserializer = Deserializer::new();
    let mut interval = 0;
    for entry in IntervalLogIterator::new(log) {
        let LogEntry::Interval(line) =
            entry.map_err(|LogIteratorError::ParseError { offset }| LatencyError::Line { offset })?
        else {
            continue;
        };
        interval += 1;
        if line.tag().is_some_and(|tag| tag.as_str() == WARMUP_TAG) {
            continue;
        }
        let error = |error: String| LatencyError::Histogram { interval, error };
        let bytes = STANDARD.decode(line.encoded_histogram()).map_err(|e| error(e.to_string()))?;
        let latencies = deserializer.deserialize(&mut bytes.as_slice()).map_err(|e| error(e.to_string()))?;
        let (start_s, length_s) = (line.start_timestamp().as_secs_f64(), line.duration().as_secs_f64());
        each(interval, Interval { start_s, length_s, latencies })?;
    }
    Ok(())
}

/// The percentiles of a histogram of nanoseconds, in µs.
#[must_use]
pub fn percentiles(histogram: &Histogram<u64>) -> Latency {
    let at = |quantile: f64| us(histogram.value_at_quantile(quantile));
    if histogram.is_empty() {
        return Latency::default();
    }
    Latency {
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p99_9: at(0.999),
        p99_99: at(0.9999),
        max: us(histogram.max()),
        mean: histogram.mean() / 1000.0,
        count: histogram.len(),
    }
}

#[allow(clippy::cast_precision_loss, reason = "2^53 ns are a hundred days")]
fn us(nanos: u64) -> f64 {
    nanos as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hdrhistogram::serialization::V2DeflateSerializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

    use super::*;

    /// One interval for each (tag, values in ns).
    fn log(intervals: &[(Option<&'static str>, &[u64])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut serializer = V2DeflateSerializer::new();
        let mut builder = IntervalLogWriterBuilder::new();
        builder.add_comment("test");
        let mut writer = builder.begin_log_with(&mut bytes, &mut serializer).unwrap();
        for (second, (tag, values)) in (0..).zip(intervals) {
            let mut histogram = Histogram::<u64>::new(3).unwrap();
            values.iter().for_each(|value| histogram.record(*value).unwrap());
            let tag = tag.and_then(Tag::new);
            writer.write_histogram(&histogram, Duration::from_secs(second), Duration::from_secs(1), tag).unwrap();
        }
        bytes
    }

    #[test]
    fn intervals_of_all_logs_are_merged_without_warmup() {
        let first = log(&[(Some(WARMUP_TAG), &[9_000_000_000]), (None, &[1000, 2000]), (Some("x"), &[3000])]);
        let second = log(&[(None, &[4000])]);
        let merged = merge([first.as_slice(), second.as_slice()]).unwrap();
        let latency = percentiles(&merged);
        assert_eq!((latency.count, merged.min()), (4, 1000));
        assert!((latency.p50 - 2.0).abs() < 0.01 && (latency.max - 4.0).abs() < 0.01, "{latency:?}");
        assert!((latency.mean - 2.5).abs() < 0.01);
    }

    #[test]
    fn wide_ranges_survive() {
        let merged = merge([log(&[(None, &[1, 3_600_000_000_000])]).as_slice()]).unwrap();
        assert!((percentiles(&merged).max - 3.6e9).abs() < 3.6e6 * 1.01);
    }

    #[test]
    fn nothing_recorded_is_all_zero() {
        assert_eq!(percentiles(&merge([log(&[]).as_slice()]).unwrap()), Latency::default());
    }

    #[test]
    fn broken_logs_are_named() {
        assert!(matches!(merge([b"not a log\n".as_slice()]), Err(LatencyError::Line { offset: 0 })));
        let error = merge([b"0.1,1.0,2.0,HISTFAAAA!!\n".as_slice()]).unwrap_err();
        assert!(matches!(error, LatencyError::Histogram { interval: 1, .. }), "{error}");
    }
}
