//! The scorecard of a run with faults: how soon each was noticed, how deep and how wide it cut, and how soon the cluster
//! was back.
//!
//! Everything is drawn from operations counted in windows of 100 ms, from the views that replicas told while the load
//! ran, and from the interval log. A fault's *span* lasts until the next fault or the end of the measured window; its
//! *baseline* is the median of the measured windows before it that no earlier fault disturbed.

use std::collections::BTreeMap;
use std::ops::Range;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::latency::{Interval, percentiles};

mod table;
#[cfg(test)]
mod tests;

pub use table::{overview, table};

/// Length of a window, s.
pub const WINDOW_S: f64 = 0.1;
/// Throughput is back when a second's mean reaches this share of the baseline.
pub const RECOVERED_SHARE: f64 = 0.95;
/// A window below this share of the baseline is a dip: less is noise. A cluster that is back at this share, and stays
/// there, has settled, though it may be slower than before.
pub const DIP_SHARE: f64 = 0.5;
/// Fewer undisturbed windows than this make no baseline.
pub const BASELINE_WINDOWS_MIN: usize = 5;
/// Windows for which throughput must be back: one second.
const SUSTAINED: usize = 10;
/// What the cluster reaches in the end is the mean of so many windows: two seconds.
const FINAL_WINDOWS: usize = 20;

/// A fault that was made on purpose.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Injected {
    /// When, seconds since the load began.
    pub at_s: f64,
    /// What: `kill`, `stop`, `partition`, ..
    pub kind: String,
    /// Whom it hit.
    pub replicas: Vec<u16>,
}

/// The view that one replica said it was in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ViewSample {
    /// When, seconds since the load began.
    pub at_s: f64,
    /// Who.
    pub replica: u16,
    /// Its view.
    pub view: u64,
}

/// What a scorecard is drawn from.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// Operations completed in each 100 ms since the load began.
    pub per_100ms: &'a [u64],
    /// Where the measured window begins and ends, whole seconds since the load began.
    pub measured_s: (u64, u64),
    /// All faults, in order of time.
    pub faults: &'a [Injected],
    /// Views, in order of time.
    pub views: &'a [ViewSample],
    /// How many replicas may be faulty.
    pub f: usize,
    /// Latencies, interval by interval.
    pub latencies: &'a [Interval],
}

/// How a run bore its faults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scorecard {
    /// The scenario's name.
    pub scenario: String,
    /// Every fault that was made, in order of time.
    pub faults: Vec<Score>,
    /// Views that the cluster went through.
    pub view_changes: u64,
    /// Mean rate of the last two seconds of the measured window as percent of the first fault's baseline.
    pub final_percent: Option<f64>,
    /// Seconds of the measured window, from 1, that lie between a fault and the cluster's recovery. They count in
    /// throughput and latency, but a second without operations among them does not make the run unsteady.
    pub seconds_not_judged: Vec<u64>,
    /// Whether the audit found no violation of safety: ledgers agree, replies were right, everything executed once.
    pub safe: bool,
    /// Whether all that the scenario expects was met.
    pub green: bool,
    /// What was not met, in words.
    pub failed: Vec<String>,
}

/// How a run bore one fault. What can not be told (there is no baseline, it never recovered) is `null`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// When, seconds since the load began (warm-up included).
    pub at_s: f64,
    /// What: `kill`, `stop`, `byzantine`, `partition`, `network`, `clients`.
    pub kind: String,
    /// Whom it hit.
    pub replicas: Vec<u16>,
    /// Operations per second before it.
    pub baseline_ops_per_s: Option<f64>,
    /// Until the first sign: a window below half of the baseline had passed, or f + 1 replicas were in a higher view.
    pub detected_after_ms: Option<f64>,
    /// Until f + 1 replicas were in a higher view.
    pub view_changed_after_ms: Option<f64>,
    /// Until the last window without any operation had passed; 0 if operations never ceased.
    pub progress_after_ms: Option<f64>,
    /// Until throughput was back at half of the baseline, for at least a second.
    pub settled_after_ms: Option<f64>,
    /// Until it was back at 95 % of the baseline, for at least a second.
    pub recovered_after_ms: Option<f64>,
    /// The lowest window as percent of the baseline.
    pub depth_percent: Option<f64>,
    /// Operations that an undisturbed cluster would have completed besides, until it recovered.
    pub operations_lost: Option<f64>,
    /// The same as percent of the baseline times seconds: 100 is one second of standstill.
    pub lost_percent_seconds: Option<f64>,
    /// 99th percentile of the latencies from the second of the fault to the one after its recovery, µs.
    pub p99_us: Option<f64>,
    /// Views that f + 1 replicas went through in its span.
    pub view_changes: u64,
}

/// What a scenario asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Expectations {
    /// Whether the run's verdict must be VALID (or, if false, INVALID).
    pub valid: bool,
    /// After each fault operations complete again within this time, s.
    pub progress_within_s: Option<f64>,
    /// In the end throughput is at least this share of what it was before the first fault.
    pub min_fraction_of_baseline: Option<f64>,
    /// No more views than this are gone through.
    pub view_changes_at_most: Option<u64>,
}

impl Scorecard {
    /// The scorecard of what was observed, before the verdict and the expectations are known.
    #[must_use]
    pub fn draw(scenario: &str, observed: &Observed<'_>) -> Self {
        let series = Series::new(observed);
        let mut faults: Vec<Score> = Vec::new();
        let mut disturbed: Vec<Range<usize>> = Vec::new();
        for (index, fault) in observed.faults.iter().enumerate() {
            let until_s = observed.faults.get(index + 1).map(|next| next.at_s);
            let (score, range) = series.score(fault, until_s, &disturbed);
            disturbed.push(range);
            faults.push(score);
        }
        let first = faults.first().and_then(|score| score.baseline_ops_per_s);
        let last = view_at(observed.views, f64::INFINITY, observed.f);
        Self {
            scenario: scenario.to_owned(),
            view_changes: last,
            final_percent: first.and_then(|baseline| series.final_percent(baseline)),
            seconds_not_judged: not_judged(&faults, observed.measured_s),
            faults,
            ..Self::default()
        }
    }

    /// Compares with what was expected; `valid` and `safe` are the audit's.
    pub fn expect(&mut self, expected: &Expectations, valid: bool, safe: bool) {
        self.safe = safe;
        let mut failed = Vec::new();
        if valid != expected.valid {
            let word = |valid: bool| if valid { "VALID" } else { "INVALID" };
            failed.push(format!("the verdict is {}, expected: {}", word(valid), word(expected.valid)));
        }
        if let Some(limit) = expected.progress_within_s {
            for score in &self.faults {
                let what = format!("after {} at {:.1} s", score.kind, score.at_s);
                match score.progress_after_ms {
                    None => failed.push(format!("{what}: no operation completed any more, expected: within {limit} s")),
                    Some(ms) if ms > limit * 1e3 => {
                        failed.push(format!("{what}: progress after {:.1} s, expected: within {limit} s", ms / 1e3));
                    }
                    Some(_) => {}
                }
            }
        }
        if let Some(fraction) = expected.min_fraction_of_baseline {
            let least = 100.0 * fraction;
            match self.final_percent {
                None => failed.push("throughput before or after the faults is too short to compare".to_owned()),
                Some(percent) if percent < least => failed.push(format!(
                    "in the end throughput is {percent:.0} % of what it was before the first fault, expected: at least {least:.0} %"
                )),
                Some(_) => {}
            }
        }
        let used = self.view_changes;
        if let Some(most) = expected.view_changes_at_most.filter(|most| used > *most) {
            failed.push(format!("{used} view changes, expected: at most {most}"));
        }
        self.green = failed.is_empty();
        self.failed = failed;
    }
}

/// Throughput in windows, cut to the measured part.
struct Series<'a> {
    observed: &'a Observed<'a>,
    /// Operations per second in each window since the load began; as long as the measured window lasts.
    rates: Vec<f64>,
    /// The first window that is measured.
    first: usize,
}

impl<'a> Series<'a> {
    fn new(observed: &'a Observed<'a>) -> Self {
        let (from, until) = observed.measured_s;
        let windows = |seconds: u64| usize::try_from(seconds).unwrap_or(usize::MAX / SUSTAINED) * SUSTAINED;
        let counts = observed.per_100ms.iter().copied().chain(std::iter::repeat(0));
        let rates = counts.take(windows(until)).map(|count| real(count) / WINDOW_S).collect();
        Self { observed, rates, first: windows(from) }
    }

    /// The score of a fault whose span ends at `until_s`, and the windows that it disturbed.
    fn score(&self, fault: &Injected, until_s: Option<f64>, disturbed: &[Range<usize>]) -> (Score, Range<usize>) {
        let hit = floor(fault.at_s / WINDOW_S);
        // The first window that is wholly after it.
        let after = ceil(fault.at_s / WINDOW_S).min(self.rates.len());
        let end = until_s.map_or(self.rates.len(), |s| floor(s / WINDOW_S)).clamp(after, self.rates.len());
        let (view, view_changed) = self.views(fault.at_s, until_s.unwrap_or(f64::INFINITY));
        let ms = |window: usize| rounded((whole(window) * WINDOW_S - fault.at_s).max(0.0) * 1e3);
        let mut score = Score {
            at_s: fault.at_s,
            kind: fault.kind.clone(),
            replicas: fault.replicas.clone(),
            view_changes: view,
            view_changed_after_ms: view_changed,
            detected_after_ms: view_changed,
            progress_after_ms: self.progress(after..end).map(|window| if window == after { 0.0 } else { ms(window) }),
            ..Score::default()
        };
        let baseline = self.baseline(hit, disturbed);
        score.baseline_ops_per_s = baseline;
        let Some(baseline) = baseline else { return (score, hit..end) };
        let settled = self.returns(after..end, baseline * DIP_SHARE);
        let recovered = self.returns(after..end, baseline * RECOVERED_SHARE);
        let at = |window: Option<usize>| window.map(|window| if window == after { 0.0 } else { ms(window) });
        (score.settled_after_ms, score.recovered_after_ms) = (at(settled), at(recovered));
        let limit = recovered.unwrap_or(end);
        // What happens to go on after a recovery is no longer this fault's doing.
        score.progress_after_ms = at(self.progress(after..(limit + 1).min(end)));
        let dip = (after..end).find(|window| self.rates[*window] < baseline * DIP_SHARE).filter(|w| *w < limit);
        let dipped = dip.map(|window| ms(window + 1));
        score.detected_after_ms = [dipped, view_changed].into_iter().flatten().reduce(f64::min);
        let lowest = self.rates[after..limit.max((after + SUSTAINED).min(end))].iter().copied().reduce(f64::min);
        score.depth_percent = lowest.map(|rate| 100.0 * rate / baseline);
        let lost: f64 = self.rates[hit.min(limit)..limit].iter().map(|rate| (baseline - rate) * WINDOW_S).sum();
        let lost = if recovered == Some(after) { 0.0 } else { lost.max(0.0) };
        score.operations_lost = Some(lost);
        score.lost_percent_seconds = Some(100.0 * lost / baseline);
        score.p99_us = self.p99(fault.at_s, whole(limit) * WINDOW_S + 1.0);
        (score, hit..if recovered == Some(after) { hit } else { limit })
    }

    /// Median rate of the measured windows before `hit` that no fault disturbed.
    fn baseline(&self, hit: usize, disturbed: &[Range<usize>]) -> Option<f64> {
        let undisturbed = (self.first..hit.min(self.rates.len()))
            .filter(|window| !disturbed.iter().any(|range| range.contains(window)))
            .map(|window| self.rates[window]);
        let mut rates: Vec<f64> = undisturbed.collect();
        rates.sort_by(f64::total_cmp);
        let middle = rates.len() / 2;
        let median = if rates.len() < BASELINE_WINDOWS_MIN {
            return None;
        } else if rates.len() % 2 == 1 {
            rates[middle]
        } else {
            f64::midpoint(rates[middle - 1], rates[middle])
        };
        (median > 0.0).then_some(median)
    }

    /// The first window of `span` from which on throughput reaches `rate` for a second: in the mean, and in no window
    /// less than half of it. The very first window need not reach it itself, so that a window's noise is no fault.
    fn returns(&self, span: Range<usize>, rate: f64) -> Option<usize> {
        let last = span.end.checked_sub(SUSTAINED)?;
        (span.start..=last).find(|&window| {
            let second = &self.rates[window..window + SUSTAINED];
            let mean = second.iter().sum::<f64>() / whole(SUSTAINED);
            (window == span.start || second[0] >= rate) && mean >= rate && second.iter().all(|r| *r >= rate / 2.0)
        })
    }

    /// The window after the last one of `span` without an operation; `span.start` if there is none, `None` if nothing
    /// comes after it.
    fn progress(&self, span: Range<usize>) -> Option<usize> {
        let end = span.end;
        match span.clone().rev().find(|window| self.rates[*window] <= 0.0) {
            None => Some(span.start),
            Some(window) => (window + 1 < end).then_some(window + 1),
        }
    }

    /// Views gone through between two times, and when the first one was reached, ms after `from_s`.
    fn views(&self, from_s: f64, until_s: f64) -> (u64, Option<f64>) {
        let Observed { views, f, .. } = *self.observed;
        let before = view_at(views, from_s, f);
        let after = view_at(views, until_s, f);
        let times = views.iter().map(|sample| sample.at_s).filter(|at| (from_s..until_s).contains(at));
        let mut raised = times.filter(|at| after > before && view_at(views, *at, f) > before);
        (after.saturating_sub(before), raised.next().map(|at| rounded((at - from_s) * 1e3)))
    }

    fn p99(&self, from_s: f64, until_s: f64) -> Option<f64> {
        let mut merged = Histogram::<u64>::new(3).ok()?;
        merged.auto(true);
        for interval in self.observed.latencies {
            if interval.start_s + interval.length_s > from_s && interval.start_s < until_s {
                merged.add(&interval.latencies).ok()?;
            }
        }
        (!merged.is_empty()).then(|| percentiles(&merged).p99)
    }

    fn final_percent(&self, baseline: f64) -> Option<f64> {
        let start = self.rates.len().checked_sub(FINAL_WINDOWS)?.max(self.first);
        let last = &self.rates[start..];
        (!last.is_empty()).then(|| 100.0 * last.iter().sum::<f64>() / whole(last.len()) / baseline)
    }
}

/// The highest view that f + 1 replicas had reached, going by what each had said last.
fn view_at(views: &[ViewSample], at_s: f64, f: usize) -> u64 {
    let mut latest: BTreeMap<u16, u64> = BTreeMap::new();
    for sample in views.iter().take_while(|sample| sample.at_s <= at_s) {
        latest.insert(sample.replica, sample.view);
    }
    let mut views: Vec<u64> = latest.into_values().collect();
    views.sort_unstable_by(|a, b| b.cmp(a));
    views.get(f).copied().unwrap_or(0)
}

/// Seconds of the measured window, from 1, that lie between a fault and the time when the cluster had recovered, or at
/// least settled. A fault that the cluster never gets over excuses nothing.
fn not_judged(faults: &[Score], (from, until): (u64, u64)) -> Vec<u64> {
    let spans: Vec<(f64, f64)> = faults
        .iter()
        .filter_map(|score| Some((score.at_s, score.recovered_after_ms.or(score.settled_after_ms)?)))
        .filter(|(_, ms)| *ms > 0.0)
        .map(|(at, ms)| (at, at + ms / 1e3))
        .collect();
    let overlaps = |second: u64| spans.iter().any(|(a, b)| *a < real(second + 1) && *b > real(second));
    (from..until).filter(|second| overlaps(*second)).map(|second| second - from + 1).collect()
}

#[allow(clippy::cast_precision_loss, reason = "no run counts 2^53 of anything")]
const fn real(count: u64) -> f64 {
    count as f64
}

#[allow(clippy::cast_precision_loss, reason = "windows of one run")]
const fn whole(windows: usize) -> f64 {
    windows as f64
}

/// Without the digits that arithmetic leaves behind.
fn rounded(ms: f64) -> f64 {
    (ms * 10.0).round() / 10.0
}

/// A time in windows, rounded down, but for what is lost in arithmetic: 0.3 / 0.1 is 3.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "windows of one run")]
fn floor(windows: f64) -> usize {
    (windows + 1e-6).max(0.0) as usize
}

/// The same, rounded up.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "windows of one run")]
fn ceil(windows: f64) -> usize {
    (windows - 1e-6).ceil().max(0.0) as usize
}
