//! `search.json`: the highest rate at which a cluster meets latency objectives.
//!
//! [objective] judges one run, [limit] decides which rate comes next and when the search is over, [curve] finds the
//! knee of the curve of latency over throughput.

use serde::{Deserialize, Serialize};

use crate::comparison::figure::Values;
use crate::report::{Environment, Report};
use crate::summary::{count, time};

pub mod curve;
pub mod limit;
pub mod objective;

#[cfg(test)]
mod tests;

use curve::Knee;
use limit::{Confirmed, Found, Phase};
use objective::Objective;

/// The schema of `search.json`.
pub const SCHEMA: &str = "hippodrome/search/1";

/// The whole of `search.json`. It is written anew after each run: one that is not `complete` was interrupted, or is
/// under way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Search {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// What was asked of every run.
    pub objectives: Vec<Objective>,
    /// How far rates lie apart, percent.
    pub resolution_percent: f64,
    /// By how many runs one answer must outnumber the other to be sure of a rate.
    pub confirmations: u32,
    /// The options that all runs have, named as in `config.toml`.
    pub base: serde_json::Value,
    /// Where the first run took place.
    pub environment: Environment,
    /// What a closed loop completed, operations a second: around it the search looks.
    pub calibration_ops_per_s: Option<f64>,
    /// Whether all runs were made.
    pub complete: bool,
    /// Where the limit lies.
    pub found: Found,
    /// The same in words.
    pub statement: String,
    /// The knee of the curve, if it lies within.
    pub knee: Option<Knee>,
    /// Every run, in the order in which they were made, the calibration's first.
    pub runs: Vec<Run>,
}

/// One run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its place among all runs, from 1.
    pub order: u32,
    /// Its results directory, relative to the one that holds `search.json`.
    pub directory: String,
    /// Why it was made; `null` for the calibration.
    pub phase: Option<Phase>,
    /// The rate that was asked for, operations a second; `null` for the calibration, which is a closed loop.
    pub rate: Option<f64>,
    /// Whether it met all objectives; `null` for the calibration, and for a run that was made again because the load
    /// generator failed in it.
    pub met: Option<bool>,
    /// Why not, in words.
    pub reasons: Vec<String>,
    /// Whether nothing speaks against its rate but that the load generator failed.
    #[serde(default)]
    pub generator_failed: bool,
    /// Its figures.
    pub values: Values,
    /// Its mean latency, µs.
    pub mean_us: f64,
    /// Throughput over mean latency, operations a second for each second.
    pub power: f64,
}

impl Run {
    /// What a report says of it.
    #[must_use]
    pub fn new(order: u32, directory: String, asked: Option<(f64, Phase)>, report: &Report) -> Self {
        let mean_us = report.latency_us.mean;
        Self {
            order,
            directory,
            phase: asked.map(|(_, phase)| phase),
            rate: asked.map(|(rate, _)| rate),
            values: Values::of(report),
            mean_us,
            power: curve::power(report.throughput.ops_per_s, mean_us),
            ..Self::default()
        }
    }

    /// Whether this rate was asked for.
    fn is_at(&self, rate: f64) -> bool {
        self.rate.is_some_and(|asked| (asked - rate).abs() < 1e-9 * rate)
    }
}

/// What a search amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A rate meets the objectives, and a little more does not.
    Found,
    /// No rate does.
    NoRate,
    /// That can not be told: the search is not complete or not sure, or the load generator was the limit.
    Inconclusive,
}

impl Search {
    /// Draws the conclusions from the runs so far and from where the search is.
    pub fn conclude(&mut self, found: Found) {
        self.found = found;
        self.statement = self.state();
        // One that was made again because the load generator failed says nothing of its rate.
        let open = self.runs.iter().filter(|run| run.rate.is_some() && run.met.is_some());
        self.knee = curve::knee(&open.map(|run| (run.values.ops_per_s, run.mean_us)).collect::<Vec<_>>());
    }

    /// What the search amounts to.
    #[must_use]
    pub fn answer(&self) -> Answer {
        if !self.complete || !self.is_sure() {
            return Answer::Inconclusive;
        }
        match self.found.confirmed {
            Some(_) => Answer::Found,
            None if self.failed_in_most(None) => Answer::Inconclusive,
            None => Answer::NoRate,
        }
    }

    /// Whether enough runs stand behind both ends, and nothing lies between these.
    fn is_sure(&self) -> bool {
        let Found { confirmed, refuted } = self.found;
        let lead = i64::from(self.confirmations);
        let step = 1.0 + self.resolution_percent / 100.0;
        let ends = confirmed.zip(refuted);
        confirmed.is_none_or(|end| end.lead() >= lead)
            && refuted.is_none_or(|end| end.lead() <= -lead)
            && ends.is_none_or(|(low, high)| high.rate <= low.rate * step * (1.0 + 1e-6))
            && (confirmed.is_some() || refuted.is_some())
    }

    /// Runs that missed, those of the curve left out: how many there are, and in how many of them nothing but the load
    /// generator speaks against the rate.
    fn missed(&self, rate: Option<f64>) -> (usize, usize) {
        let is_here = |run: &&Run| rate.is_none_or(|rate| run.is_at(rate));
        let missed = self.runs.iter().filter(|run| run.met == Some(false) && run.phase != Some(Phase::Curve));
        let missed: Vec<&Run> = missed.filter(is_here).collect();
        (missed.len(), missed.iter().filter(|run| run.generator_failed).count())
    }

    /// Whether most of the runs that missed, at this rate or at all, did so only because the load generator failed:
    /// then the limit is its own or the machine's, and says nothing of the system.
    fn failed_in_most(&self, rate: Option<f64>) -> bool {
        let (missed, failed) = self.missed(rate);
        2 * failed > missed
    }

    /// The first reason that most runs at a rate gave for missing an objective.
    fn commonest_reason(&self, rate: f64) -> Option<&str> {
        let missed = self.runs.iter().filter(|run| run.met == Some(false));
        let here = missed.filter(|run| run.is_at(rate));
        let reasons: Vec<&str> = here.filter_map(|run| run.reasons.first().map(String::as_str)).collect();
        let times = |reason: &str| reasons.iter().filter(|other| **other == reason).count();
        reasons.iter().copied().max_by_key(|reason| times(reason))
    }

    /// What was found, in words.
    fn state(&self) -> String {
        let objectives = self.objectives.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
        let sure = |confirmed: Confirmed| format!("{} of {} runs", confirmed.met, confirmed.runs);
        match (self.found.confirmed, self.found.refuted) {
            (Some(low), Some(high)) => {
                let generator = if self.failed_in_most(Some(high.rate)) {
                    ": there the load generator fails, so that the limit may be its own or the machine's"
                } else {
                    ""
                };
                format!(
                    "{objectives}: the highest rate lies between {} ops/s (met by {}) and {} ops/s (met by {}){generator}",
                    count(low.rate),
                    sure(low),
                    count(high.rate),
                    sure(high)
                )
            }
            (Some(low), None) => format!(
                "{objectives}: {} ops/s are met ({}), and nothing higher was tried: it is far above what a closed loop reaches",
                count(low.rate),
                sure(low)
            ),
            (None, Some(high)) if self.failed_in_most(None) => {
                let (missed, failed) = self.missed(None);
                format!(
                    "{objectives}: inconclusive: no rate meets that, not even {} ops/s (met by {}), but {failed} of {missed} runs \
                     missed it only because the load generator failed: it, or the machine, was the limit, and not the \
                     system; hippodrome doctor tells what disturbs the machine, --load-threads gives the load more threads",
                    count(high.rate),
                    sure(high)
                )
            }
            (None, Some(high)) => {
                let why =
                    self.commonest_reason(high.rate).map_or_else(String::new, |why| format!("; most often: {why}"));
                let (rate, sure) = (count(high.rate), sure(high));
                format!("{objectives}: no rate meets that: not even {rate} ops/s (met by {sure}{why})")
            }
            (None, None) => format!("{objectives}: nothing is known yet"),
        }
    }
}

/// For people who read it in a terminal.
#[must_use]
pub fn text(search: &Search) -> String {
    let mut lines = vec![search.statement.clone(), String::new()];
    let mut runs: Vec<&Run> = search.runs.iter().filter(|run| run.rate.is_some()).collect();
    runs.sort_by(|a, b| a.rate.unwrap_or(0.0).total_cmp(&b.rate.unwrap_or(0.0)).then(a.order.cmp(&b.order)));
    lines.push(format!(
        "{:>14} {:>14} {:>9} {:>9} {:>9} {:>9}  {:<12}",
        "rate, ops/s", "completed", "mean", "p50", "p99", "p99.9", "objectives"
    ));
    for run in runs {
        let Values { ops_per_s, p50_us, p99_us, p99_9_us, .. } = run.values;
        let met = match run.met {
            Some(true) => "met".to_owned(),
            None => format!("made again: {}", run.reasons.first().map_or("", String::as_str)),
            Some(false) => format!("missed: {}", run.reasons.first().map_or("", String::as_str)),
        };
        let [mean, p50, p99, p999] = [run.mean_us, p50_us, p99_us, p99_9_us].map(time);
        let (rate, completed) = (count(run.rate.unwrap_or(0.0)), count(ops_per_s));
        lines.push(format!("{rate:>14} {completed:>14} {mean:>9} {p50:>9} {p99:>9} {p999:>9}  {met}"));
    }
    lines.push(String::new());
    lines.push(match search.knee {
        Some(knee) => format!(
            "Knee         {} ops/s with a mean latency of {}: the most throughput for its latency (Kleinrock's power)",
            count(knee.ops_per_s),
            time(knee.mean_us)
        ),
        None => "Knee         it does not lie within the rates that were tried".to_owned(),
    });
    let failed = search.runs.iter().filter(|run| run.rate.is_some() && run.met.is_none()).count();
    if failed > 0 {
        lines.push(format!("Generator    failed in {failed} runs, which were made again: the machine, or the generator, is near its own limit"));
    }
    if let Some(rate) = search.calibration_ops_per_s {
        lines.push(format!("Closed loop  {} ops/s", count(rate)));
    }
    lines.push(String::new());
    lines.join("\n")
}
