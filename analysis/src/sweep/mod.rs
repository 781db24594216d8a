//! `sweep.json`: what came of many runs that differ in chosen settings. Names are fixed; fields may be added, never
//! dropped. `lines` finds the points that differ in one numeric setting alone, [scaling] says how cost grows along
//! these beside what is expected; `text` shows all of it to people, `export` to spreadsheets and to documents, with
//! what `points` says of single ones.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::report::{Environment, Report};
use crate::{statistics, traffic};

mod auto;
mod export;
mod lines;
mod points;
pub mod scaling;
mod text;

pub(crate) use auto::auto_in_words;
pub use export::{to_csv, to_markdown};
pub(crate) use lines::{Line, lines_along, number, numeric};
pub(crate) use points::{Best, best, combinations};
pub use text::render;

/// The schema that this crate writes, and the only one that it reads.
pub const SCHEMA: &str = "hippodrome/sweep/1";

/// The whole of `sweep.json`. It is written anew after each run: one that is not `complete` was interrupted, or is
/// under way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// What the experiment is called.
    pub name: String,
    /// What it does, in a sentence; may be empty.
    pub description: String,
    /// The question that it answers; may be empty.
    pub question: String,
    /// The options that all points have in common unless they set them otherwise, named as in `config.toml`.
    pub base: serde_json::Value,
    /// Those of `base` that were given, by the experiment or on the command line, as they were typed: the others are
    /// defaults.
    #[serde(default)]
    pub given: BTreeMap<String, String>,
    /// The options that differ between points, in the order in which they are to be shown.
    pub varied: Vec<Varied>,
    /// Combinations that were left out on purpose.
    pub excluded: Vec<Excluded>,
    /// How often each point was to run.
    pub repeats: u32,
    /// What the order of the runs, and the load of each round, was drawn from.
    pub seed: u64,
    /// Where the first run that has a report took place.
    pub environment: Environment,
    /// Whether all runs were played.
    pub complete: bool,
    /// How many runs there are to be.
    pub runs_planned: u64,
    /// How many were played, whatever came of them.
    pub runs_done: u64,
    /// What was compared.
    pub points: Vec<Point>,
    /// How cost grows along each numeric setting, beside what is expected ([`scaling::curves`]).
    #[serde(default)]
    pub scaling: Vec<scaling::Curve>,
}

/// An option that differs between points.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Varied {
    /// Its name, as the flag is spelt.
    pub key: String,
    /// Its values, as they are typed, in the order in which they are to be shown.
    pub values: Vec<String>,
}

/// A combination of settings that was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excluded {
    /// Its value of each varied key.
    pub settings: BTreeMap<String, String>,
    /// Why.
    pub reason: String,
}

/// One of the things that were compared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Its value of each varied key.
    pub settings: BTreeMap<String, String>,
    /// What else only this point has, and not because it is varied (fewer clients for slow strategies).
    pub adjusted: BTreeMap<String, String>,
    /// Its runs so far, in order of their repeats.
    pub runs: Vec<Run>,
    /// What its VALID runs say together.
    pub summary: Summary,
}

/// What came of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It was VALID.
    Valid,
    /// It was INVALID: its figures must not be used.
    Invalid,
    /// It could not be played: there are no figures.
    #[default]
    Failed,
}

/// One run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Which repeat of its point, from 1.
    pub repeat: u32,
    /// Its place among all runs, from 1.
    pub order: u32,
    /// Its results directory, relative to the one that holds `sweep.json`.
    pub directory: String,
    /// Whether its figures may be used.
    pub state: State,
    /// Why not, in words; empty if valid.
    pub reasons: Vec<String>,
    /// How long it took in all, s; `null` if not known.
    pub wall_s: Option<f64>,
    /// Its figures; `null` if it failed.
    pub figures: Option<Figures>,
}

/// The figures of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Operations per second.
    pub ops_per_s: f64,
    /// Median latency, µs.
    pub p50_us: f64,
    /// 99th percentile of latency, µs.
    pub p99_us: f64,
    /// 99.9th percentile of latency, µs.
    pub p99_9_us: f64,
    /// CPU time of all processes for each operation, µs.
    pub cpu_us_per_op: f64,
    /// CPU time of the replicas for each operation, µs.
    pub replicas_cpu_us_per_op: f64,
    /// CPU time of the load generator for each operation, µs.
    pub clients_cpu_us_per_op: f64,
    /// Mean requests in a batch.
    pub requests_per_batch: f64,
    /// Bytes that all replicas sent, to each other and to clients, for each operation over the whole run.
    pub bytes_sent_per_op: f64,
    /// Frames that all replicas sent, the same.
    pub messages_sent_per_op: f64,
    /// Bytes that message complexity says for the batches that were made ([`traffic::expected`]); `null` if unknown.
    #[serde(default)]
    pub expected_bytes_per_op: Option<f64>,
    /// Frames, the same.
    #[serde(default)]
    pub expected_messages_per_op: Option<f64>,
    /// CPU time that the machine needs at least for each operation, µs ([`crate::roofline`]); `null` if unknown.
    #[serde(default)]
    pub floor_us_per_op: Option<f64>,
    /// Highest share of the window that a thread of the load generator was on a CPU, percent.
    pub generator_busy_percent: f64,
    /// Share of the machine's CPU time that its host gave to others, percent.
    pub steal_percent: f64,
}

/// One figure over the valid runs of a point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The lowest.
    pub lowest: f64,
    /// The highest.
    pub highest: f64,
    /// 95 % confidence interval of the median over runs, lowest and highest (see
    /// [`statistics::median_interval95`]); `null` below six runs.
    pub ci95: Option<[f64; 2]>,
}

/// What the valid runs of a point say together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Runs whose figures may be used.
    pub valid: u32,
    /// Runs that were INVALID.
    pub invalid: u32,
    /// Runs that could not be played.
    pub failed: u32,
    /// Each of the [`Figures`] by its name; empty if no run is valid.
    pub figures: BTreeMap<String, Spread>,
}

impl State {
    /// As in `sweep.json` and `sweep.csv`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Failed => "failed",
        }
    }

    /// As people read it.
    #[must_use]
    pub const fn shown(self) -> &'static str {
        match self {
            Self::Valid => "VALID",
            Self::Invalid => "INVALID",
            Self::Failed => "FAILED",
        }
    }
}

impl Sweep {
    /// Whether all runs were played, and all are VALID.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.complete && self.runs().all(|(_, run)| run.state == State::Valid)
    }

    /// All runs with their points.
    pub fn runs(&self) -> impl Iterator<Item = (&Point, &Run)> {
        self.points.iter().flat_map(|point| point.runs.iter().map(move |run| (point, run)))
    }

    /// The point with these values of the varied keys, in their order.
    #[must_use]
    pub fn point(&self, values: &[&str]) -> Option<&Point> {
        self.points.iter().find(|point| self.values(&point.settings).eq(values.iter().copied()))
    }

    /// The values of the varied keys, in their order.
    pub(crate) fn values<'a>(&'a self, settings: &'a BTreeMap<String, String>) -> impl Iterator<Item = &'a str> {
        self.varied.iter().map(|varied| settings.get(&varied.key).map_or("", String::as_str))
    }

    /// What people call a point: `auth=mac batch=fixed:10`.
    #[must_use]
    pub fn label(&self, settings: &BTreeMap<String, String>) -> String {
        let pairs = self.varied.iter().zip(self.values(settings));
        pairs.map(|(varied, value)| format!("{}={value}", varied.key)).collect::<Vec<_>>().join(" ")
    }
}

impl Figures {
    /// The figures of a run's report.
    #[must_use]
    pub fn of(report: &Report) -> Self {
        let (messages_sent_per_op, bytes_sent_per_op) = traffic::sent_per_op(report).unwrap_or_default();
        Self {
            ops_per_s: report.throughput.ops_per_s,
            p50_us: report.latency_us.p50,
            p99_us: report.latency_us.p99,
            p99_9_us: report.latency_us.p99_9,
            cpu_us_per_op: report.cpu.us_per_op_total,
            replicas_cpu_us_per_op: report.cpu.us_per_op_replicas,
            clients_cpu_us_per_op: report.cpu.us_per_op_clients,
            requests_per_batch: report.batches.mean_requests,
            bytes_sent_per_op,
            messages_sent_per_op,
            expected_bytes_per_op: report.traffic.as_ref().and_then(|told| told.expected_bytes_per_op),
            expected_messages_per_op: report.traffic.as_ref().map(|told| told.expected_messages_per_op),
            floor_us_per_op: report.efficiency.as_ref().map(|told| told.floor_us_per_op),
            generator_busy_percent: report.generator.busiest_thread_percent,
            steal_percent: report.cpu.steal_percent,
        }
    }

    /// All of them with their names, as in `sweep.json`; without those that are not known.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, Option<f64>); 15] {
        [
            ("ops_per_s", Some(self.ops_per_s)),
            ("p50_us", Some(self.p50_us)),
            ("p99_us", Some(self.p99_us)),
            ("p99_9_us", Some(self.p99_9_us)),
            ("cpu_us_per_op", Some(self.cpu_us_per_op)),
            ("replicas_cpu_us_per_op", Some(self.replicas_cpu_us_per_op)),
            ("clients_cpu_us_per_op", Some(self.clients_cpu_us_per_op)),
            ("requests_per_batch", Some(self.requests_per_batch)),
            ("bytes_sent_per_op", Some(self.bytes_sent_per_op)),
            ("messages_sent_per_op", Some(self.messages_sent_per_op)),
            ("expected_bytes_per_op", self.expected_bytes_per_op),
            ("expected_messages_per_op", self.expected_messages_per_op),
            ("floor_us_per_op", self.floor_us_per_op),
            ("generator_busy_percent", Some(self.generator_busy_percent)),
            ("steal_percent", Some(self.steal_percent)),
        ]
    }
}

impl Spread {
    /// Of these values; `None` of none.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let lowest = values.iter().copied().reduce(f64::min)?;
        let highest = values.iter().copied().reduce(f64::max)?;
        let ci95 = statistics::median_interval95(values);
        Some(Self { median: statistics::median(values), lowest, highest, ci95 })
    }
}

impl Summary {
    /// Of a point's runs.
    #[must_use]
    pub fn of(runs: &[Run]) -> Self {
        let count = |state| u32::try_from(runs.iter().filter(|run| run.state == state).count()).unwrap_or(u32::MAX);
        let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for figures in runs.iter().filter(|run| run.state == State::Valid).filter_map(|run| run.figures) {
            for (name, value) in figures.named() {
                if let Some(value) = value {
                    values.entry(name.to_owned()).or_default().push(value);
                }
            }
        }
        let figures = values.into_iter().filter_map(|(name, values)| Some((name, Spread::of(&values)?))).collect();
        Self { valid: count(State::Valid), invalid: count(State::Invalid), failed: count(State::Failed), figures }
    }
}

#[cfg(test)]
mod tests;
