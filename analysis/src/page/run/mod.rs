//! The page of a run: `report.json` with what `latency.hlog`, `series.csv`, `load.json` and `timeline.json` know
//! besides. [charts] draws, [path] where operations spent their time, [tables] lists.

use std::path::Path;

use hdrhistogram::Histogram;
use serde::Deserialize;
use serde_json::Value;

use super::Context;
use super::document::{Badge, Block, Cell, Document, Figure, Look, Section, Table};
use crate::report::Report;
use crate::results::{self, ResultsError};
use crate::scorecard::Timeline;
use crate::series::{self, Second};
use crate::summary::{count, of_generator, time};
use crate::{latency, scorecard};

mod charts;
mod path;
mod tables;

pub(super) use tables::{environment, files, settings};

/// What the files of a run say. Only `report.json` must be there: of runs made by hand, or of old ones, others may be
/// missing, and the page is shorter then.
struct Run {
    report: Report,
    histogram: Option<Histogram<u64>>,
    seconds: Vec<Second>,
    /// Operations completed in each 100 ms since the load began.
    per_100ms: Vec<u64>,
    timeline: Option<Timeline>,
}

/// What the page needs of `load.json`.
#[derive(Default, Deserialize)]
struct Load {
    #[serde(default)]
    per_100ms: Vec<u64>,
}

/// The page of a run's directory.
pub(super) fn document(directory: &Path, context: &Context) -> Result<Document, ResultsError> {
    let run = Run::read(directory)?;
    let report = &run.report;
    let mut document = Document {
        kind: if report.scorecard.is_some() { "a run with faults" } else { "a run" }.to_owned(),
        title: title(report, directory),
        valid: report.verdict.valid,
        verdicts: verdicts(report),
        reasons: reasons(report),
        sentence: sentence(report),
        figures: figures(report),
        rows: rows(report),
        sections: Vec::new(),
    };
    let faults = Section::new("Faults");
    let mut latency = Section::new("Latency");
    latency.blocks.extend(charts::latency(&run).map(Block::Chart));
    let mut over_time = Section::new("Over time");
    over_time.blocks.extend(charts::over_time(&run).map(Block::Chart));
    let mut goes = Section::new("Where time goes");
    goes.blocks.extend(report.attribution.as_ref().and_then(path::chart).map(Block::Chart));
    goes.blocks.extend(charts::phases(report).map(Block::Chart));
    goes.blocks.extend(charts::stages(report).map(Block::Chart));
    // What a scenario is played for comes first.
    let order = if report.scorecard.is_some() {
        vec![tables::faults(&run, faults), over_time, latency, goes]
    } else {
        vec![latency, over_time, goes, tables::faults(&run, faults)]
    };
    document.sections.extend(order);
    document.sections.push(tables::traffic(report));
    document.sections.push(tables::generator(report));
    document.sections.push(tables::audit(report));
    document.sections.push(tables::replicas(report));
    document.sections.push(settings(&report.config, &context.defaults));
    document.sections.push(environment(&report.environment, Some(report.cpu.steal_percent)));
    document.sections.push(files(directory, context));
    document.sections.retain(|section| !section.blocks.is_empty());
    Ok(document)
}

impl Run {
    fn read(directory: &Path) -> Result<Self, ResultsError> {
        let report = results::read_report(directory)?;
        let content = |name: &str, error: String| ResultsError::Content { path: directory.join(name), error };
        let histogram = match results::read_if_there(directory, results::LATENCY)? {
            Some(bytes) => {
                let merged = latency::merge([bytes.as_slice()]);
                Some(merged.map_err(|error| content(results::LATENCY, error.to_string()))?)
            }
            None => None,
        };
        let seconds = match results::read_if_there(directory, results::SERIES)? {
            Some(bytes) => series::from_csv(&String::from_utf8_lossy(&bytes))
                .map_err(|error| content(results::SERIES, error.to_string()))?,
            None => Vec::new(),
        };
        let load: Option<Load> = results::read_json_if_there(directory, results::LOAD)?;
        let timeline: Option<Timeline> = results::read_json_if_there(directory, results::TIMELINE)?;
        Ok(Self { report, histogram, seconds, per_100ms: load.unwrap_or_default().per_100ms, timeline })
    }

    /// Where the measured window begins and ends, seconds since the load began.
    #[allow(clippy::cast_precision_loss, reason = "seconds of a run")]
    fn measured_s(&self) -> Option<(f64, f64)> {
        let mut measured = self.seconds.iter().filter(|second| second.measured).map(|second| second.second as f64);
        let first = measured.next()?;
        Some((first - 1.0, measured.next_back().unwrap_or(first)))
    }
}

fn title(report: &Report, directory: &Path) -> String {
    let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let name = absolute.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match &report.scorecard {
        Some(card) => format!("Scenario {}", card.scenario),
        None => name,
    }
}

fn verdicts(report: &Report) -> Vec<Badge> {
    let valid = report.verdict.valid;
    let (word, meaning) = if valid {
        ("VALID", "the run was audited, and nothing speaks against its figures")
    } else {
        ("INVALID", "do not use these figures")
    };
    let mut badges = vec![Badge { word: word.to_owned(), meaning: meaning.to_owned(), look: Look::good_if(valid) }];
    if let Some(card) = &report.scorecard {
        let (word, meaning) = match (card.green, card.safe) {
            (true, true) => ("GREEN", "all that the scenario expects was met, and safety held"),
            (true, false) => ("GREEN", "all that the scenario expects was met: it expects that safety is violated"),
            (false, true) => ("RED", "not all that the scenario expects was met; safety held"),
            (false, false) => ("RED", "safety was violated"),
        };
        badges.push(Badge { word: word.to_owned(), meaning: meaning.to_owned(), look: Look::good_if(card.green) });
    }
    badges
}

fn reasons(report: &Report) -> Vec<String> {
    let failed = report.scorecard.iter().flat_map(|card| &card.failed).map(|failed| format!("not met: {failed}"));
    report.verdict.reasons.iter().cloned().chain(failed).collect()
}

/// A setting as words, if it was set.
pub(super) fn setting(config: &Value, key: &str) -> Option<String> {
    match config.get(key)? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// What was run, in words.
#[allow(clippy::cast_precision_loss, reason = "shown in full up to 2^53")]
fn sentence(report: &Report) -> String {
    let config = &report.config;
    let mut text = String::new();
    if let Some(replicas) = config.get("replicas").and_then(Value::as_u64) {
        text.push_str(&format!("{replicas} replicas (f = {}), ", replicas.saturating_sub(1) / 3));
    }
    let g = &report.generator;
    if g.clients > 0 {
        let load = match (g.mode.as_str(), report.throughput.offered_ops_per_s) {
            ("closed", _) | (_, None) => {
                "in a closed loop, each waiting for its answer before it asks again".to_owned()
            }
            (mode, Some(rate)) => format!("in an open loop that offers {} ops/s ({mode})", count(rate)),
        };
        let clients = if g.clients == 1 { "client".to_owned() } else { "clients".to_owned() };
        text.push_str(&format!("{} {clients} {load}; ", count(f64::from(g.clients))));
    }
    let named = [
        ("auth", "authentication"),
        ("auth_granularity", "granularity of authenticators"),
        ("batch", "batching"),
        ("dissemination", "dissemination"),
        ("execution", "execution"),
        ("replies", "replies"),
        ("reads", "reads"),
        ("app", "application"),
        ("durability", "durability"),
    ];
    let named = named.iter().filter_map(|(key, name)| Some(format!("{name} {}", setting(config, key)?)));
    text.push_str(&named.collect::<Vec<_>>().join(", "));
    if let (Some(request), Some(reply)) = (setting(config, "request_bytes"), setting(config, "reply_bytes")) {
        text.push_str(&format!(", operations of {request} and results of {reply} bytes"));
    }
    let warmup = setting(config, "warmup").map_or_else(String::new, |warmup| format!(" after {warmup} of warm-up"));
    text.push_str(&format!(". Measured for {} s{warmup}", report.throughput.measured_s.round()));
    if report.environment.started_at.is_empty() {
        text.push('.');
    } else {
        text.push_str(&format!(", begun {}.", report.environment.started_at));
    }
    let limited = &report.bottleneck.sentence;
    if !limited.is_empty() {
        text.push_str(&format!(" Bottleneck: {limited}."));
    }
    text.trim_start_matches(". ").to_owned()
}

fn figures(report: &Report) -> Vec<Figure> {
    let figure = |label: &str, value: Cell, remark: String| Figure { label: label.to_owned(), value, remark };
    let (t, l, c) = (&report.throughput, &report.latency_us, &report.cpu);
    let interval = match t.ci95 {
        Some([low, high]) => format!("operations per second; 95 % interval {} to {}", count(low), count(high)),
        None => "operations per second".to_owned(),
    };
    let loop_remark = match report.generator.mode.as_str() {
        "closed" => "closed loop: it understates the tail",
        "" => "",
        _ => "open loop: from the intended send",
    };
    let us = |value: f64| Cell::us(Some(value).filter(|_| l.count > 0));
    let mut figures = vec![
        figure("Throughput", Cell::count(t.ops_per_s), interval),
        figure("Latency, p50", us(l.p50), format!("half took less; mean {}", time(l.mean))),
        figure("Latency, p99", us(l.p99), loop_remark.to_owned()),
        figure("Latency, p99.9", us(l.p99_9), format!("longest {}", time(l.max))),
        figure(
            "CPU per operation",
            Cell::number(c.us_per_op_total, |us| format!("{us:.2} µs")),
            format!("replicas {:.2} µs, clients {:.2} µs", c.us_per_op_replicas, c.us_per_op_clients),
        ),
    ];
    if let Some(cost) = of_generator(report) {
        let times = Cell::number(report.generator.cost_in_replicas, |times| format!("{times:.1} replicas"));
        figures.push(figure("Cost of the load generator", times, cost));
    }
    if let Some(told) = &report.efficiency {
        figures.push(figure(
            "CPU floor",
            Cell::number(told.floor_us_per_op, |us| format!("{us:.3} µs")),
            format!("the least that this machine needs for an operation, {:.0} % of what the run took", told.percent),
        ));
    }
    figures
}

/// The run as one row for programs, so that those of several runs can be put below each other.
#[allow(clippy::cast_precision_loss, reason = "shown in full up to 2^53")]
fn rows(report: &Report) -> Table {
    let (t, l, c, e) = (&report.throughput, &report.latency_us, &report.cpu, &report.environment);
    let number = |value: f64| Cell::number(value, |value| value.to_string());
    let optional = |value: Option<f64>| Cell::number(value, |value| value.to_string());
    let mut cells = vec![
        ("valid", Cell::text(report.verdict.valid.to_string())),
        ("started_at", Cell::text(e.started_at.clone())),
        ("git_commit", Cell::text(e.git_commit.clone())),
        ("build_profile", Cell::text(e.build_profile.clone())),
    ];
    let settings =
        ["replicas", "clients", "rate", "auth", "auth_granularity", "batch", "dissemination", "execution", "replies"];
    for key in settings.into_iter().chain(["reads", "app", "durability", "request_bytes", "reply_bytes"]) {
        cells.push((key, setting(&report.config, key).map_or(Cell::Nothing, Cell::text)));
    }
    cells.extend([
        ("ops_per_s", number(t.ops_per_s)),
        ("ci95_low", optional(t.ci95.map(|[low, _]| low))),
        ("ci95_high", optional(t.ci95.map(|[_, high]| high))),
        ("offered_ops_per_s", optional(t.offered_ops_per_s)),
        ("operations", number(t.operations as f64)),
        ("measured_s", number(t.measured_s)),
        ("p50_us", number(l.p50)),
        ("p90_us", number(l.p90)),
        ("p99_us", number(l.p99)),
        ("p99_9_us", number(l.p99_9)),
        ("p99_99_us", number(l.p99_99)),
        ("max_us", number(l.max)),
        ("mean_us", number(l.mean)),
        ("us_per_op_total", number(c.us_per_op_total)),
        ("us_per_op_replicas", number(c.us_per_op_replicas)),
        ("us_per_op_clients", number(c.us_per_op_clients)),
        ("us_per_op_one_replica", number(c.us_per_op_one_replica)),
        ("cost_in_replicas", number(report.generator.cost_in_replicas)),
        ("floor_us_per_op", optional(report.efficiency.as_ref().map(|told| told.floor_us_per_op))),
        ("efficiency_percent", optional(report.efficiency.as_ref().map(|told| told.percent))),
        ("messages_per_op", optional(report.traffic.as_ref().map(|told| told.messages_per_op))),
        ("expected_messages_per_op", optional(report.traffic.as_ref().map(|told| told.expected_messages_per_op))),
        ("bytes_per_op", optional(report.traffic.as_ref().map(|told| told.bytes_per_op))),
        ("expected_bytes_per_op", optional(report.traffic.as_ref().and_then(|told| told.expected_bytes_per_op))),
        ("steal_percent", number(c.steal_percent)),
        (
            "bottleneck",
            Some(&report.bottleneck.limit).filter(|limit| !limit.is_empty()).map_or(Cell::Nothing, Cell::text),
        ),
    ]);
    let mut table = Table::new("", &cells.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    table.push(cells.into_iter().map(|(_, cell)| cell).collect());
    table
}

/// A scorecard's faults as a table.
fn scorecard_table(card: &scorecard::Scorecard) -> Table {
    let mut table = Table::new("Each fault; 0 s is when the measured load began", &scorecard::HEAD);
    for row in scorecard::rows(card) {
        table.push(row.into_iter().map(Cell::Text).collect());
    }
    table
}
