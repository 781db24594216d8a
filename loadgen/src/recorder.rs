//! What operations took: latencies in histograms of one second each, kept by every thread for itself, merged by second,
//! and logged.
//!
//! [`Recorder`] (one per thread) → [`Merger`] → [`Interval`]s, complete seconds in order → [`IntervalLog`],
//! [`SecondSample`].
//!
//! Percentiles are only ever taken from merged histograms, seconds without operations are seconds too, and a latency
//! outside of what a histogram can hold is counted beside it, never squeezed in.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;

use crate::report::SecondSample;

/// Shortest latency that a histogram holds: 1 µs. Latencies are told apart from each other to this unit, or to 0.1 %
/// where that is coarser.
pub const LATENCY_MIN_NS: u64 = 1_000;
/// Longest latency that a histogram holds: 1 h.
pub const LATENCY_MAX_NS: u64 = 3_600_000_000_000;
/// Length of an interval.
pub const INTERVAL_NS: u64 = 1_000_000_000;
/// Significant decimal digits of a histogram.
const DIGITS: u8 = 3;

/// An empty histogram for latencies in ns.
///
/// # Panics
/// Never: the bounds are valid.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_MIN_NS, LATENCY_MAX_NS, DIGITS).expect("valid bounds")
}

/// The latencies of the operations that were completed in one second.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// Which second of the load, from 0.
    pub second: u64,
    /// Latencies in ns, from [`LATENCY_MIN_NS`] to [`LATENCY_MAX_NS`].
    pub latencies: Histogram<u64>,
    /// Operations that took less than [`LATENCY_MIN_NS`].
    pub below_range: u64,
    /// Operations that took more than [`LATENCY_MAX_NS`].
    pub above_range: u64,
    /// Longest latency, within the range or not, exact, ns.
    pub max_ns: u64,
}

impl Interval {
    /// An interval without operations.
    #[must_use]
    pub fn new(second: u64) -> Self {
        Self { second, latencies: histogram(), below_range: 0, above_range: 0, max_ns: 0 }
    }

    /// Records one operation.
    ///
    /// # Panics
    /// Never: the histogram's bounds are what is compared with.
    #[inline]
    pub fn record(&mut self, latency_ns: u64) {
        self.record_many(latency_ns, 1);
    }

    /// Records `operations`, at least one, of this latency.
    fn record_many(&mut self, latency_ns: u64, operations: u64) {
        self.max_ns = self.max_ns.max(latency_ns);
        if latency_ns < LATENCY_MIN_NS {
            self.below_range += operations;
        } else if latency_ns > LATENCY_MAX_NS {
            self.above_range += operations;
        } else {
            self.latencies.record_n(latency_ns, operations).expect("within the bounds");
        }
    }

    /// Adds the operations of `other`, whatever its second.
    ///
    /// # Panics
    /// Never: all histograms here have the same bounds.
    pub fn add(&mut self, other: &Self) {
        self.latencies.add(&other.latencies).expect("equal bounds");
        self.below_range += other.below_range;
        self.above_range += other.above_range;
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// Operations, those out of range included.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.latencies.len() + self.below_range + self.above_range
    }

    /// The latency, in µs, that this share (0 to 1) of the operations did not exceed; 0 if there were none. Operations
    /// out of range count where they belong: a quantile among those below it is the least latency of the range, among
    /// those above it the longest latency.
    #[must_use]
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts are far below 2^53"
    )]
    pub fn quantile_us(&self, quantile: f64) -> f64 {
        let rank = ((quantile * self.operations() as f64).ceil() as u64).max(1);
        let inside = self.latencies.len();
        let nanos = if self.operations() == 0 {
            0
        } else if rank <= self.below_range {
            LATENCY_MIN_NS
        } else if rank <= self.below_range + inside {
            let value = self.latencies.value_at_quantile((rank - self.below_range) as f64 / inside as f64);
            value.min(self.max_ns) // a histogram answers with the upper end of a step, which nothing took
        } else {
            self.max_ns
        };
        nanos as f64 / 1e3
    }

    /// This second as a row of the report.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "latencies are far below 2^53 ns")]
    pub fn sample(&self, measured: bool, retransmissions: u64) -> SecondSample {
        SecondSample {
            second: self.second + 1,
            measured,
            operations: self.operations(),
            p50_us: self.quantile_us(0.5),
            p99_us: self.quantile_us(0.99),
            max_us: self.max_ns as f64 / 1e3,
            retransmissions,
        }
    }
}

/// One thread's recorder. Its intervals follow each other without gaps, those without operations included.
#[derive(Debug)]
pub struct Recorder {
    current: Interval,
    finished: Vec<Interval>,
    /// What is not in `current` yet.
    run: Run,
}

/// Operations in a row that took the same time: those that begin together mostly end together.
#[derive(Debug, Default)]
struct Run {
    latency_ns: u64,
    operations: u64,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// A recorder at the start of the load.
    #[must_use]
    pub fn new() -> Self {
        Self { current: Interval::new(0), finished: Vec::new(), run: Run::default() }
    }

    /// Records an operation that was completed `completed_ns` after the start of the load. Times do not go backwards;
    /// one that lies before an earlier [`rotate`](Self::rotate) is counted in the second that is open now.
    #[inline]
    pub fn record(&mut self, completed_ns: u64, latency_ns: u64) {
        if completed_ns >= (self.current.second + 1) * INTERVAL_NS {
            self.rotate(completed_ns);
        }
        if self.run.latency_ns != latency_ns {
            self.end_run();
            self.run.latency_ns = latency_ns;
        }
        self.run.operations += 1;
    }

    /// Puts the run in hand into the open second; the next one begins.
    fn end_run(&mut self) {
        let Run { latency_ns, operations } = std::mem::take(&mut self.run);
        if operations > 0 {
            self.current.record_many(latency_ns, operations);
        }
    }

    /// Closes the seconds that are over `now_ns` after the start of the load. A thread that has nothing to record calls
    /// this too, or whoever merges would wait for it.
    pub fn rotate(&mut self, now_ns: u64) {
        self.end_run();
        while self.current.second < now_ns / INTERVAL_NS {
            let next = Interval::new(self.current.second + 1);
            self.finished.push(std::mem::replace(&mut self.current, next));
        }
    }

    /// Takes the seconds that were closed since the last call, in order.
    pub fn take_finished(&mut self) -> Vec<Interval> {
        std::mem::take(&mut self.finished)
    }

    /// Takes all that is left, the open second at the end.
    #[must_use]
    pub fn finish(mut self) -> Vec<Interval> {
        self.end_run();
        self.finished.push(self.current);
        self.finished
    }
}

/// Merges the intervals of several threads by second.
#[derive(Debug)]
pub struct Merger {
    threads: usize,
    /// Seconds that not all threads have handed over, in order, each with how many have.
    open: VecDeque<(Interval, usize)>,
    /// The second at the front of `open`.
    next: u64,
}

impl Merger {
    /// Merges what `threads` recorders give.
    #[must_use]
    pub const fn new(threads: usize) -> Self {
        Self { threads, open: VecDeque::new(), next: 0 }
    }

    /// Adds one thread's interval.
    ///
    /// # Panics
    /// If all threads had already handed over that second: each does so once.
    pub fn add(&mut self, interval: &Interval) {
        let index = interval.second.checked_sub(self.next).expect("each thread hands over each second once");
        while self.open.len() as u64 <= index {
            self.open.push_back((Interval::new(self.next + self.open.len() as u64), 0));
        }
        #[allow(clippy::cast_possible_truncation, reason = "less than the queue's length")]
        let (merged, arrived) = &mut self.open[index as usize];
        merged.add(interval);
        *arrived += 1;
        assert!(*arrived <= self.threads, "each thread hands over each second once");
    }

    /// Takes the next second that all threads have handed over.
    pub fn take_complete(&mut self) -> Option<Interval> {
        let (_, arrived) = self.open.front()?;
        if *arrived < self.threads {
            return None;
        }
        self.next += 1;
        self.open.pop_front().map(|(interval, _)| interval)
    }

    /// Takes all that is left when the threads have ended, which may be in different seconds.
    pub fn finish(self) -> impl Iterator<Item = Interval> {
        self.open.into_iter().map(|(interval, _)| interval)
    }
}

/// Writes intervals as an HdrHistogram interval log (`.hlog`): V2 histograms, compressed, one line each, as read by the
/// HdrHistogram tools and libraries of every language. Values are in ns, timestamps in s since the start of the load.
pub struct IntervalLog<W> {
    writer: W,
    serializer: V2DeflateSerializer,
}

impl IntervalLog<BufWriter<File>> {
    /// Creates the file at `path`, for a load that began at `started`.
    ///
    /// # Errors
    /// If the file can not be written.
    pub fn create(path: &Path, started: SystemTime) -> io::Result<Self> {
        Self::new(BufWriter::new(File::create(path)?), started)
    }
}

impl<W: Write> IntervalLog<W> {
    /// Writes the header of a log for a load that began at `started`.
    ///
    /// # Errors
    /// If `writer` fails.
    pub fn new(mut writer: W, started: SystemTime) -> io::Result<Self> {
        let mut serializer = V2DeflateSerializer::new();
        IntervalLogWriterBuilder::new()
            .add_comment("[Logged by the Hippodrome load generator]")
            .add_comment("[Histogram log format version 1.3]")
            .add_comment(
                "[Units: values and Interval_Max in nanoseconds; timestamps and lengths in seconds since StartTime]",
            )
            .with_start_time(started)
            .with_base_time(started)
            .begin_log_with(&mut writer, &mut serializer)?;
        Ok(Self { writer, serializer })
    }

    /// Adds an interval; one with operations out of range has a comment that says so before it.
    ///
    /// # Errors
    /// If the writer fails.
    pub fn write(&mut self, interval: &Interval) -> io::Result<()> {
        // The library's log borrows its writer; without a header to write, beginning one anew for each line leaves no
        // trace.
        let mut log = IntervalLogWriterBuilder::new().begin_log_with(&mut self.writer, &mut self.serializer)?;
        if interval.below_range + interval.above_range > 0 {
            log.write_comment(&format!(
                "[Second {}: not in the histogram: {} operations below {LATENCY_MIN_NS} ns, {} above {LATENCY_MAX_NS} ns]",
                interval.second, interval.below_range, interval.above_range
            ))?;
        }
        let (start, length) = (Duration::from_secs(interval.second), Duration::from_nanos(INTERVAL_NS));
        log.write_histogram(&interval.latencies, start, length, None)
            .map_err(|error| io::Error::other(error.to_string()))
    }

    /// Hands back the writer, flushed.
    ///
    /// # Errors
    /// If the writer fails.
    pub fn finish(mut self) -> io::Result<W> {
        self.writer.flush()?;
        Ok(self.writer)
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = INTERVAL_NS;
    const MS: u64 = 1_000_000;

    /// A log of three seconds: latencies of 1 to 1000 ms; none at all; and one operation of 2 ms beside three out of
    /// range.
    fn log() -> (Vec<Interval>, String) {
        let mut recorder = Recorder::new();
        for latency in 1..=1000 {
            recorder.record(latency, latency * MS);
        }
        for latency in [2 * MS, 10, LATENCY_MAX_NS + 1, u64::MAX] {
            recorder.record(2 * SECOND, latency);
        }
        let intervals = recorder.finish();
        let mut log =
            IntervalLog::new(Vec::new(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)).unwrap();
        for interval in &intervals {
            log.write(interval).unwrap();
        }
        (intervals, String::from_utf8(log.finish().unwrap()).unwrap())
    }

    /// The histograms of a log, each with its start in s.
    fn read(log: &[u8]) -> Vec<(f64, Histogram<u64>)> {
        let histograms = IntervalLogIterator::new(log).filter_map(|entry| match entry.unwrap() {
            LogEntry::Interval(interval) => Some(interval),
            _ => None,
        });
        let decode = |text: &str| {
            let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap();
            Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap()
        };
        histograms
            .map(|interval| (interval.start_timestamp().as_secs_f64(), decode(interval.encoded_histogram())))
            .collect()
    }

    #[test]
    fn seconds_without_operations_are_kept() {
        let seconds: Vec<(u64, u64)> =
            log().0.iter().map(|interval| (interval.second, interval.operations())).collect();
        assert_eq!(seconds, [(0, 1000), (1, 0), (2, 4)]);
    }

    #[test]
    fn a_log_reads_back_as_it_was_written() {
        let (intervals, text) = log();
        let histograms = read(text.as_bytes());
        assert_eq!(histograms.len(), 3);
        for (interval, (start, histogram)) in intervals.iter().zip(histograms) {
            assert_eq!(start, interval.second as f64);
            assert_eq!(histogram, interval.latencies);
        }
        assert!(text.contains("#[StartTime: 1700000000.000"));
        assert!(text.contains("Second 2: not in the histogram: 1 operations below 1000 ns, 2 above"));
    }

    /// The golden file was written by this code and has been read with the Python package `hdrhistogram`, which found
    /// the same counts and percentiles.
    #[test]
    fn the_golden_log_still_reads() {
        let histograms = read(include_bytes!("../testdata/latencies.hlog"));
        let counts: Vec<u64> = histograms.iter().map(|(_, histogram)| histogram.len()).collect();
        assert_eq!(counts, [1000, 0, 1]);
        let first = &histograms[0].1;
        for (quantile, expected_ms) in [(0.5, 500), (0.99, 990), (0.999, 999), (1.0, 1000)] {
            let value = first.value_at_quantile(quantile);
            assert!(first.equivalent(value, expected_ms * MS), "p{quantile}: {value}");
        }
        assert_eq!(histograms, read(log().1.as_bytes()));
    }

    #[test]
    fn latencies_out_of_range_are_counted_where_they_belong() {
        let (intervals, _) = log();
        let last = &intervals[2];
        assert_eq!((last.latencies.len(), last.below_range, last.above_range, last.max_ns), (1, 1, 2, u64::MAX));
        assert_eq!(last.quantile_us(0.25), 1.0);
        assert!((last.quantile_us(0.5) / 2000.0 - 1.0).abs() < 0.001);
        assert_eq!(last.quantile_us(0.75), u64::MAX as f64 / 1e3);
        let mut interval = Interval::new(0);
        interval.record(LATENCY_MIN_NS);
        interval.record(LATENCY_MAX_NS);
        assert_eq!((interval.latencies.len(), interval.below_range, interval.above_range), (2, 0, 0));
    }

    #[test]
    fn a_second_is_told_in_microseconds() {
        let (intervals, _) = log();
        let sample = intervals[0].sample(true, 3);
        assert_eq!((sample.second, sample.measured, sample.operations, sample.retransmissions), (1, true, 1000, 3));
        assert!((sample.p50_us / 500_000.0 - 1.0).abs() < 0.001 && (sample.p99_us / 990_000.0 - 1.0).abs() < 0.001);
        assert_eq!(sample.max_us, 1_000_000.0);
        assert_eq!(
            intervals[1].sample(false, 0),
            SecondSample { second: 2, ..SecondSample::default() },
            "a second without operations"
        );
    }

    #[test]
    fn a_second_is_complete_when_every_thread_has_closed_it() {
        let mut recorders = [Recorder::new(), Recorder::new()];
        let mut merger = Merger::new(2);
        recorders[0].record(SECOND + 1, 5 * MS);
        recorders[0].record(3 * SECOND, 6 * MS);
        recorders[0].take_finished().iter().for_each(|interval| merger.add(interval));
        assert_eq!(merger.take_complete(), None);
        recorders[1].rotate(2 * SECOND - 1); // idle: only second 0 is over
        recorders[1].take_finished().iter().for_each(|interval| merger.add(interval));
        assert_eq!(merger.take_complete(), Some(Interval::new(0)));
        assert_eq!(merger.take_complete(), None);
        for recorder in recorders {
            recorder.finish().iter().for_each(|interval| merger.add(interval));
        }
        assert_eq!(merger.take_complete().map(|interval| (interval.second, interval.operations())), Some((1, 1)));
        let rest: Vec<_> = merger.finish().map(|interval| (interval.second, interval.operations())).collect();
        assert_eq!(rest, [(2, 0), (3, 1)]);
    }

    proptest! {
        /// Few latencies, so that many are equal in a row: recorded together or by themselves, seconds are the same.
        #[test]
        fn operations_that_took_the_same_time_count_one_by_one(
            mut operations in prop::collection::vec(
                (0u64..4 * SECOND, prop::sample::select(vec![0, 1, MS, 2 * MS, LATENCY_MAX_NS + 1])),
                0..60,
            ),
        ) {
            operations.sort_by_key(|(completed, _)| *completed);
            let mut recorder = Recorder::new();
            let mut expected: Vec<Interval> = vec![Interval::new(0)];
            for (completed, latency) in operations {
                recorder.record(completed, latency);
                while (expected.len() as u64) <= completed / SECOND {
                    expected.push(Interval::new(expected.len() as u64));
                }
                expected.last_mut().unwrap().record(latency);
            }
            prop_assert_eq!(recorder.finish(), expected);
        }
    }

    #[test]
    #[should_panic(expected = "each thread hands over each second once")]
    fn a_second_handed_over_twice_is_our_own_error() {
        let mut merger = Merger::new(1);
        merger.add(&Interval::new(0));
        merger.add(&Interval::new(0));
    }

    proptest! {
        /// However operations are spread over threads, the merged seconds are those of one thread that recorded all.
        #[test]
        fn merging_equals_recording_in_one_place(
            mut operations in prop::collection::vec((0u64..5 * SECOND, 0u64..2 * LATENCY_MAX_NS, 0usize..3), 0..60),
        ) {
            operations.sort_unstable();
            let mut one = Recorder::new();
            let mut threads = [Recorder::new(), Recorder::new(), Recorder::new()];
            let mut merger = Merger::new(3);
            let mut merged = Vec::new();
            for &(completed, latency, thread) in &operations {
                one.record(completed, latency);
                threads[thread].record(completed, latency);
                threads[thread].take_finished().iter().for_each(|interval| merger.add(interval));
                merged.extend(std::iter::from_fn(|| merger.take_complete()));
            }
            for thread in threads {
                thread.finish().iter().for_each(|interval| merger.add(interval));
            }
            merged.extend(merger.finish());
            prop_assert_eq!(merged, one.finish());
        }
    }
}
