//! The scorecard of a run with faults: how soon each was noticed, how long the cluster stood still, how deep throughput
//! fell and how much of it was lost, and how soon the cluster was back.
//!
//! Everything is drawn from operations counted in windows of 100 ms, from the views that replicas told while the load
//! ran, and from the interval log. A fault's *span* lasts until the next fault or the end of the measured window;
//! faults with no whole window between them share the span of the last one. A fault's *baseline* is the median of the
//! measured windows before it that no earlier fault disturbed.

use std::collections::BTreeMap;
use std::ops::Range;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::latency::{Interval, percentiles};

mod expect;
mod table;
#[cfg(test)]
mod tests;

pub use expect::{Expectations, Judged};
pub(crate) use table::{HEAD, rows};
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
/// Latencies in the end are those of so many seconds of the measured window, at most a third of it.
const FINAL_SECONDS: u64 = 3;

/// A fault that was made on purpose.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// Whether replicas or clients misbehave from the beginning, so that no time before a fault is undisturbed.
    pub from_the_beginning: bool,
    /// Views, in order of time.
    pub views: &'a [ViewSample],
    /// How many replicas may be faulty.
    pub f: usize,
    /// Latencies, interval by interval.
    pub latencies: &'a [Interval],
}

/// The content of `timeline.json`: what a scorecard is drawn from, latencies aside, which have a file of their own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// Operations completed in each 100 ms since the load began.
    pub per_100ms: Vec<u64>,
    /// Views, in order of time.
    pub views: Vec<ViewSample>,
    /// All faults, in order of time.
    pub faults: Vec<Injected>,
    /// Where the measured window begins and ends, whole seconds since the load began.
    pub measured_s: (u64, u64),
    /// How many replicas may be faulty.
    pub f: usize,
}

/// How a run bore its faults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scorecard {
    /// The scenario's name.
    pub scenario: String,
    /// When the measured load began, from which a scenario's times count, seconds since the load began.
    pub measured_from_s: f64,
    /// Whether replicas or clients misbehaved from the beginning: what there is to compare with is not undisturbed.
    pub from_the_beginning: bool,
    /// Every fault that was made while the load ran, in order of time.
    pub faults: Vec<Score>,
    /// Views that the cluster went through.
    pub view_changes: u64,
    /// Mean rate of the last two seconds of the measured window as percent of the first fault's baseline.
    pub final_percent: Option<f64>,
    /// Median latency of the last seconds of the measured window (three, or its last third where that is less), µs.
    pub final_p50_us: Option<f64>,
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
    /// How long it was looked at after it: until the next fault or the end of the measured window, s.
    pub observed_s: f64,
    /// Operations per second before it.
    pub baseline_ops_per_s: Option<f64>,
    /// Until the first sign: a window below half of the baseline had passed, or f + 1 replicas were in a higher view.
    pub detected_after_ms: Option<f64>,
    /// Until f + 1 replicas were in a higher view.
    pub view_changed_after_ms: Option<f64>,
    /// Until the last window without any operation had passed; 0 if operations never ceased. `null` if none completed
    /// any more, and also if nothing was observed after it (`observed_s` is 0).
    pub progress_after_ms: Option<f64>,
    /// Until throughput was back at half of the baseline, for at least a second.
    pub settled_after_ms: Option<f64>,
    /// Until it was back at 95 % of the baseline, for at least a second.
    pub recovered_after_ms: Option<f64>,
    /// The lowest window as percent of the baseline: 0 is a standstill, 100 no dip at all.
    pub lowest_percent: Option<f64>,
    /// Operations that an undisturbed cluster would have completed besides, until it recovered.
    pub operations_lost: Option<f64>,
    /// The same as percent of the baseline times seconds: 100 is one second of standstill.
    pub lost_percent_seconds: Option<f64>,
    /// 99th percentile of the latencies from the second of the fault to the one after its recovery, µs.
    pub p99_us: Option<f64>,
    /// Views that f + 1 replicas went through in its span.
    pub view_changes: u64,
}

impl Scorecard {
    /// The scorecard of what was observed, before the verdict and the expectations are known.
    #[must_use]
    pub fn draw(scenario: &str, observed: &Observed<'_>) -> Self {
        let series = Series::new(observed);
        let mut faults: Vec<Score> = Vec::new();
        let mut disturbed: Vec<Range<usize>> = Vec::new();
        for (index, fault) in observed.faults.iter().enumerate() {
            let later = observed.faults[index + 1..].iter().map(|next| next.at_s);
            let until_s = later.clone().find(|next| floor(*next / WINDOW_S) > ceil(fault.at_s / WINDOW_S));
            let (score, range) = series.score(fault, until_s, &disturbed);
            disturbed.push(range);
            faults.push(score);
        }
        let first = faults.first().and_then(|score| score.baseline_ops_per_s);
        Self {
            scenario: scenario.to_owned(),
            measured_from_s: real(observed.measured_s.0),
            from_the_beginning: observed.from_the_beginning,
            view_changes: view_at(observed.views, f64::INFINITY, observed.f),
            final_p50_us: series.final_p50_us(),
            final_percent: first.and_then(|baseline| series.final_percent(baseline)),
            seconds_not_judged: not_judged(&faults, observed.measured_s),
            faults,
            ..Self::default()
        }
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
            observed_s: rounded(whole(end - after) * WINDOW_S),
            view_changes: view,
            view_changed_after_ms: view_changed,
            detected_after_ms: view_changed,
            progress_after_ms: self.progress(after..end).map(|window| if window == after { 0.0 } else { ms(window) }),
            p99_us: self.p99(fault.at_s, whole(end) * WINDOW_S),
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
        // What goes on after a recovery is no longer this fault's doing.
        score.progress_after_ms = at(self.progress(after..(limit + 1).min(end)));
        let dip = (after..end).find(|window| self.rates[*window] < baseline * DIP_SHARE).filter(|w| *w < limit);
        let dipped = dip.map(|window| ms(window + 1));
        score.detected_after_ms = [dipped, view_changed].into_iter().flatten().reduce(f64::min);
        let lowest = self.rates[after..limit.max((after + SUSTAINED).min(end))].iter().copied().reduce(f64::min);
        score.lowest_percent = lowest.map(|rate| 100.0 * rate / baseline);
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

    /// The window after the last one of `span` without an operation; `span.start` if there is none. `None` if nothing
    /// comes after it, or if the span is empty, which shows nothing.
    fn progress(&self, span: Range<usize>) -> Option<usize> {
        let end = span.end;
        if span.is_empty() {
            return None;
        }
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
        self.latencies(from_s, until_s).map(|merged| percentiles(&merged).p99)
    }

    /// Latencies of the seconds that overlap a time, if there are any.
    fn latencies(&self, from_s: f64, until_s: f64) -> Option<Histogram<u64>> {
        let mut merged = Histogram::<u64>::new(3).ok()?;
        merged.auto(true);
        for interval in self.observed.latencies {
            if interval.start_s + interval.length_s > from_s && interval.start_s < until_s {
                merged.add(&interval.latencies).ok()?;
            }
        }
        (!merged.is_empty()).then_some(merged)
    }

    fn final_p50_us(&self) -> Option<f64> {
        let (from, until) = self.observed.measured_s;
        let seconds = FINAL_SECONDS.min(until.saturating_sub(from).div_ceil(3));
        let merged = self.latencies(real(until.saturating_sub(seconds)), real(until))?;
        Some(percentiles(&merged).p50)
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
