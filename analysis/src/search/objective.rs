//! Whether a run met what was asked of it, and whether the cluster could have gone on like that.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::audit::{BUSIEST_THREAD_PERCENT_MAX, LATE_SENDS_PERCENT_MAX, SHORTFALL_PERCENT_MAX};
use crate::latency::{Interval, Latencies, percentiles};
use crate::report::{Latency, Report};
use crate::summary::{count, time};

/// A queue grows if the median latency of the window's last third is longer than that of its first by this factor, and
/// that of its second lies between them.
const GROWTH_MAX: f64 = 1.5;

/// A latency that must not be exceeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    /// Which.
    pub figure: Tail,
    /// At most so much, µs.
    pub limit_us: f64,
}

/// What of the latencies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tail {
    /// Median.
    #[serde(rename = "p50")]
    P50,
    /// 90th percentile.
    #[serde(rename = "p90")]
    P90,
    /// 99th percentile.
    #[default]
    #[serde(rename = "p99")]
    P99,
    /// 99.9th percentile.
    #[serde(rename = "p99.9")]
    P999,
    /// 99.99th percentile.
    #[serde(rename = "p99.99")]
    P9999,
    /// The longest.
    #[serde(rename = "max")]
    Max,
}

impl Tail {
    /// From the middle to the end.
    pub const ALL: [Self; 6] = [Self::P50, Self::P90, Self::P99, Self::P999, Self::P9999, Self::Max];

    /// As it is typed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::P9999 => "p99.99",
            Self::Max => "max",
        }
    }

    /// Its value in a run, µs.
    #[must_use]
    pub const fn of(self, latency: &Latency) -> f64 {
        match self {
            Self::P50 => latency.p50,
            Self::P90 => latency.p90,
            Self::P99 => latency.p99,
            Self::P999 => latency.p99_9,
            Self::P9999 => latency.p99_99,
            Self::Max => latency.max,
        }
    }
}

impl FromStr for Tail {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|tail| tail.name() == text).ok_or_else(|| format!("'{text}': allowed: {}", names()))
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of at most {}", self.figure.name(), time(self.limit_us))
    }
}

/// What a run says of its rate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The cluster sustains it and meets every objective.
    Met,
    /// It does not; why.
    Missed(Vec<String>),
    /// Nothing speaks against the rate but that the load generator failed to make the load, which may be the machine's
    /// doing: another run may tell more; why.
    Disturbed(Vec<String>),
    /// The run says nothing of its rate; why.
    Unusable(Vec<String>),
}

/// Judges an open-loop run. `intervals` are its latencies second by second.
///
/// A rate is sustained if what was asked for was sent and completed, nothing was left over, no second was without
/// operations, and latency did not grow through the window: a queue that grows misses every objective sooner or later.
/// That sends were late speaks against no rate whose objectives are met all the same: latencies count from the intended
/// send, so that the load generator's delay is in them. A run that is INVALID for any other reason says nothing of its
/// rate, unless INVALID runs count.
#[must_use]
pub fn judge(report: &Report, intervals: &[Interval], objectives: &[Objective], include_invalid: bool) -> Judgement {
    if report.audit.violations > 0 {
        return Judgement::Unusable(report.verdict.reasons.clone());
    }
    let (late, failed) = (late_sends(report), generator_failed(report));
    let mut missed = unsustained(report);
    missed.extend(growth(intervals));
    for objective in objectives {
        let value = objective.figure.of(&report.latency_us);
        if value > objective.limit_us {
            missed.push(format!("{} is {}, above {}", objective.figure.name(), time(value), time(objective.limit_us)));
        }
    }
    let nothing_measured = report.latency_us.count == 0;
    if missed.is_empty() && !failed.is_empty() {
        return Judgement::Disturbed(late.into_iter().chain(failed).collect());
    }
    let is_only_late = late.is_some() && report.verdict.reasons.len() == 1;
    if !missed.is_empty() {
        missed.extend(late.iter().cloned().chain(failed));
    }
    match (report.verdict.valid || is_only_late || include_invalid, missed.is_empty()) {
        (_, true) if nothing_measured => Judgement::Unusable(report.verdict.reasons.clone()),
        (true, true) => Judgement::Met,
        // Where a thread of it waited for a core, sends were late for that reason.
        (false, true) if late.is_some() && waited(report) => Judgement::Disturbed(report.verdict.reasons.clone()),
        (false, true) => Judgement::Unusable(report.verdict.reasons.clone()),
        (_, false) => Judgement::Missed(missed),
    }
}

/// Why a cluster could not keep up.
fn unsustained(report: &Report) -> Vec<String> {
    let (throughput, generator) = (&report.throughput, &report.generator);
    #[allow(clippy::cast_precision_loss, reason = "no run counts 2^53 operations")]
    let [completed, offered] = [throughput.operations, generator.offered_operations].map(|n| n as f64);
    let mut why = Vec::new();
    if completed < offered * (1.0 - SHORTFALL_PERCENT_MAX / 100.0) - 1.0 {
        why.push(format!("{} operations were completed of {} offered", count(completed), count(offered)));
    }
    if generator.unanswered > 0 || generator.timeouts > 0 {
        why.push(format!("{} operations were not answered, {} timed out", generator.unanswered, generator.timeouts));
    }
    let empty = throughput.per_second.iter().filter(|rate| **rate <= 0.0).count();
    if empty > 0 {
        why.push(format!("seconds without a single operation: {empty}"));
    }
    why
}

/// That more sends were late than a run may have.
fn late_sends(report: &Report) -> Option<String> {
    let generator = &report.generator;
    #[allow(clippy::cast_precision_loss, reason = "no run counts 2^53 operations")]
    let [offered, late] = [generator.offered_operations, generator.late_sends].map(|n| n as f64);
    let is_late = offered > 0.0 && 100.0 * late / offered >= LATE_SENDS_PERCENT_MAX;
    is_late.then(|| format!("the load generator was late: with {} of {} sends", count(late), count(offered)))
}

/// Whether a thread of the load generator always had something to do, on a core or waiting for one.
fn waited(report: &Report) -> bool {
    report.generator.busy_or_waiting_percent >= BUSIEST_THREAD_PERCENT_MAX
}

/// Why the load was not what was asked for.
fn generator_failed(report: &Report) -> Vec<String> {
    let generator = &report.generator;
    let mut why = Vec::new();
    if generator.unsent > 0 {
        why.push(format!("the load generator did not keep the schedule: {} sends were never made", generator.unsent));
    }
    if generator.busiest_thread_percent >= BUSIEST_THREAD_PERCENT_MAX {
        let busy = generator.busiest_thread_percent;
        why.push(format!("the load generator was the bottleneck: one of its threads was busy {busy:.0} % of the time"));
    }
    why
}

/// Whether latency grew through the window, as it does where a queue grows.
fn growth(intervals: &[Interval]) -> Option<String> {
    let third = intervals.len() / 3;
    if third == 0 {
        return None;
    }
    let parts =
        [&intervals[..third], &intervals[third..intervals.len() - third], &intervals[intervals.len() - third..]];
    let [first, second, last] = parts.map(|part| {
        let mut merged = Latencies::new(3).ok()?;
        merged.auto(true);
        part.iter().try_for_each(|interval| merged.add(&interval.latencies)).ok()?;
        (!merged.is_empty()).then(|| percentiles(&merged).p50)
    });
    let (first, second, last) = (first?, second?, last?);
    let grew = last >= first * GROWTH_MAX && first <= second && second <= last;
    grew.then(|| format!("latency grew through the window: p50 from {} to {}", time(first), time(last)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Verdict;

    fn report(p99: f64) -> Report {
        let mut report = Report { verdict: Verdict { valid: true, reasons: vec![] }, ..Report::default() };
        report.latency_us = Latency { p50: p99 / 2.0, p99, p99_9: p99 * 2.0, count: 1000, ..Latency::default() };
        report.throughput.operations = 1000;
        report.throughput.per_second = vec![500.0; 2];
        report.generator.offered_operations = 1000;
        report
    }

    fn intervals(medians_us: &[u64]) -> Vec<Interval> {
        let one = |us: &u64| {
            let mut latencies = Latencies::new(3).unwrap();
            latencies.record_n(us * 1000, 100).unwrap();
            Interval { start_s: 0.0, length_s: 1.0, latencies }
        };
        medians_us.iter().map(one).collect()
    }

    const OBJECTIVES: [Objective; 2] =
        [Objective { figure: Tail::P99, limit_us: 5000.0 }, Objective { figure: Tail::P999, limit_us: 20_000.0 }];

    #[test]
    fn every_objective_must_be_met() {
        let judged = |p99| judge(&report(p99), &intervals(&[100; 9]), &OBJECTIVES, false);
        assert_eq!(judged(4000.0), Judgement::Met);
        assert_eq!(judged(6000.0), Judgement::Missed(vec!["p99 is 6.00 ms, above 5.00 ms".into()]));
        let both = vec!["p99 is 15.0 ms, above 5.00 ms".into(), "p99.9 is 30.0 ms, above 20.0 ms".into()];
        assert_eq!(judged(15_000.0), Judgement::Missed(both));
    }

    #[test]
    fn a_rate_that_is_not_sustained_is_missed_however_short_its_latencies() {
        type Change = fn(&mut Report);
        let changes: [(Change, &str); 3] = [
            (|report| report.throughput.operations = 980, "980 operations were completed of 1,000 offered"),
            (|report| report.generator.unanswered = 3, "3 operations were not answered"),
            (|report| report.throughput.per_second = vec![1000.0, 0.0], "seconds without a single operation: 1"),
        ];
        for (change, part) in changes {
            let mut report = report(100.0);
            change(&mut report);
            // Whatever the verdict has to say of it.
            report.verdict.valid = false;
            let Judgement::Missed(why) = judge(&report, &[], &OBJECTIVES, false) else { panic!("{part}") };
            assert!(why.len() == 1 && why[0].contains(part), "{why:?}");
        }
    }

    fn changed(change: impl Fn(&mut Report), reasons: &[&str]) -> Report {
        let mut changed = report(100.0);
        change(&mut changed);
        let reasons = reasons.iter().map(|&reason| reason.into()).collect();
        changed.verdict = Verdict { valid: false, reasons };
        changed
    }

    #[test]
    fn a_load_that_was_not_made_says_nothing_against_a_rate_by_itself() {
        type Change = fn(&mut Report);
        let changes: [(Change, &str); 2] = [
            (|report| report.generator.unsent = 1, "1 sends were never made"),
            (|report| report.generator.busiest_thread_percent = 96.0, "was the bottleneck"),
        ];
        for (change, part) in changes {
            let mut failed = changed(change, &["the load generator failed"]);
            let Judgement::Disturbed(why) = judge(&failed, &[], &OBJECTIVES, false) else { panic!("{part}") };
            assert!(why.len() == 1 && why[0].contains(part), "{why:?}");
            failed.latency_us.p99 = 6000.0;
            let Judgement::Missed(why) = judge(&failed, &[], &OBJECTIVES, false) else { panic!("{part}") };
            assert!(why.len() == 2 && why[0].contains("p99 is 6.00 ms"), "{why:?}");
        }
    }

    /// Late sends are in the latencies, so that what is met in spite of them is met.
    #[test]
    fn late_sends_alone_speak_against_no_rate() {
        let late = |report: &mut Report| report.generator.late_sends = 10;
        assert_eq!(judge(&changed(late, &["late"]), &[], &OBJECTIVES, false), Judgement::Met);
        let mut missed = changed(late, &["late"]);
        missed.latency_us.p99 = 6000.0;
        let Judgement::Missed(why) = judge(&missed, &[], &OBJECTIVES, false) else { panic!("p99 is too long") };
        assert!(why.len() == 2 && why[1].contains("late: with 10 of 1,000 sends"), "{why:?}");
        let unusable = judge(&changed(late, &["late", "this is a debug build"]), &[], &OBJECTIVES, false);
        assert!(matches!(unusable, Judgement::Unusable(_)), "{unusable:?}");
        let waiting = |report: &mut Report| {
            late(report);
            report.generator.busy_or_waiting_percent = 96.0;
        };
        let disturbed = judge(&changed(waiting, &["late", "it waited for a core"]), &[], &OBJECTIVES, false);
        assert!(matches!(disturbed, Judgement::Disturbed(_)), "{disturbed:?}");
    }

    #[test]
    fn queues_that_grow_are_seen_and_noise_is_not() {
        let judged = |medians: &[u64]| judge(&report(100.0), &intervals(medians), &OBJECTIVES, false);
        let Judgement::Missed(why) = judged(&[10, 20, 30, 40, 50, 60, 70, 80, 90]) else { panic!("it grew") };
        assert_eq!(why, ["latency grew through the window: p50 from 20.0 µs to 80.1 µs"]);
        for medians in
            [&[10, 12, 11, 13, 12, 10, 12, 14, 12][..], &[90, 50, 10, 10, 10, 10, 10, 10, 10], &[20, 90, 30], &[5, 9]]
        {
            assert_eq!(judged(medians), Judgement::Met, "{medians:?}");
        }
    }

    #[test]
    fn what_is_invalid_for_another_reason_says_nothing() {
        let mut debug = report(100.0);
        debug.verdict = Verdict { valid: false, reasons: vec!["this is a debug build".into()] };
        assert_eq!(judge(&debug, &[], &OBJECTIVES, false), Judgement::Unusable(vec!["this is a debug build".into()]));
        assert_eq!(judge(&debug, &[], &OBJECTIVES, true), Judgement::Met);
        debug.audit.violations = 1;
        assert!(matches!(judge(&debug, &[], &OBJECTIVES, true), Judgement::Unusable(_)));
        let empty = Report { verdict: Verdict { valid: false, reasons: vec!["no load".into()] }, ..Report::default() };
        assert!(matches!(judge(&empty, &[], &OBJECTIVES, true), Judgement::Unusable(_)));
    }

    #[test]
    fn names_read_back() {
        for tail in Tail::ALL {
            assert_eq!(tail.name().parse(), Ok(tail));
            assert_eq!(serde_json::to_value(tail).unwrap(), tail.name());
        }
        assert_eq!("p95".parse::<Tail>().unwrap_err(), "'p95': allowed: p50, p90, p99, p99.9, p99.99, max");
    }
}
