//! The page of a search for the highest rate that meets latency objectives, from `search.json`.

use std::path::Path;

use serde_json::{Value, json};

use super::Context;
use super::document::{Badge, Block, Cell, Chart, Document, Figure, Look, Section, Table, View};
use super::option::{number_axis, within};
use super::run::{environment, files, settings};
use crate::results::{self, ResultsError};
use crate::search::limit::Confirmed;
use crate::search::{Answer, Run, Search};
use crate::shown::{P50, P99, THROUGHPUT};
use crate::statistics::median;
use crate::summary::{count, time};

/// A cross.
const CROSS: &str = "path://M2,0 L5,3 L8,0 L10,2 L7,5 L10,8 L8,10 L5,7 L2,10 L0,8 L3,5 L0,2 Z";

/// A latency that the curve can show: its name, and its value in a run, µs.
type Shown = (&'static str, &'static str, fn(&Run) -> f64);

const CURVES: [Shown; 4] = [
    ("p99", "p99", |run| run.values.p99_us),
    ("p99.9", "p99_9", |run| run.values.p99_9_us),
    ("p50", "p50", |run| run.values.p50_us),
    ("mean", "mean", |run| run.mean_us),
];

/// The page of a search's directory.
pub(super) fn document(directory: &Path, context: &Context) -> Result<Document, ResultsError> {
    let search = results::read_search(directory)?;
    let objectives: Vec<String> = search.objectives.iter().map(ToString::to_string).collect();
    let mut document = Document {
        kind: "a search".to_owned(),
        title: format!("The highest rate with {}", objectives.join(" and ")),
        valid: search.answer() == Answer::Found,
        verdicts: vec![verdict(&search)],
        reasons: Vec::new(),
        sentence: sentence(&search),
        figures: figures(&search),
        rows: rows(&search),
        sections: Vec::new(),
    };
    let mut tried = Section::new("Rates that were tried");
    tried.blocks.extend(tried_chart(&search).map(Block::Chart));
    tried.blocks.push(Block::Folded("All runs, each with a link to its page".to_owned(), runs(&search, context)));
    let mut curve = Section::new("Latency against throughput");
    curve.blocks.extend(curve_chart(&search).map(Block::Chart));
    let settings = settings(&search.base, &context.defaults);
    document.sections = vec![curve, tried, settings, environment(&search.environment, None), files(directory, context)];
    document.sections.retain(|section| !section.blocks.is_empty());
    Ok(document)
}

/// Runs at a rate: all but the calibration.
fn open(search: &Search) -> impl Iterator<Item = (&Run, f64)> {
    search.runs.iter().filter_map(|run| Some((run, run.rate?)))
}

fn verdict(search: &Search) -> Badge {
    let word = match search.answer() {
        _ if !search.complete => "NOT COMPLETE",
        Answer::Found => "FOUND",
        Answer::NoRate => "NONE",
        Answer::Inconclusive => "INCONCLUSIVE",
    };
    let look = Look::good_if(search.answer() == Answer::Found);
    Badge { word: word.to_owned(), meaning: search.statement.clone(), look }
}

fn sentence(search: &Search) -> String {
    let calibration = search.calibration_ops_per_s.map_or_else(String::new, |rate| {
        format!(" Around what a closed loop completed ({} ops/s) the search grew and halved its steps.", count(rate))
    });
    format!(
        "{} runs in an open loop.{calibration} Rates lie {} % apart; the answer rests on runs at the two rates next to the limit, made until at each one outcome leads by {}.",
        open(search).count(),
        search.resolution_percent,
        search.confirmations
    )
}

fn figures(search: &Search) -> Vec<Figure> {
    let figure = |label: &str, value: Cell, remark: String| Figure { label: label.to_owned(), value, remark };
    let met = |found: Option<Confirmed>| match found {
        Some(found) => format!("operations per second; met by {} of {} runs", found.met, found.runs),
        None => "no such rate".to_owned(),
    };
    let (low, high) = (search.found.confirmed, search.found.refuted);
    let mut figures = vec![
        figure("Highest rate that meets them", Cell::count(low.map(|found| found.rate)), met(low)),
        figure("Lowest rate that does not", Cell::count(high.map(|found| found.rate)), met(high)),
    ];
    let remark = search
        .knee
        .map_or_else(|| "not within the rates tried".to_owned(), |k| format!("mean latency {}", time(k.mean_us)));
    figures.push(figure("Knee of the curve", Cell::count(search.knee.map(|knee| knee.ops_per_s)), remark));
    figures.push(figure(
        "Closed loop",
        Cell::count(search.calibration_ops_per_s),
        "operations per second, to begin with".to_owned(),
    ));
    figures
}

/// What came of a run at a rate.
fn outcome(run: &Run) -> String {
    let reasons = run.reasons.join("; ");
    match run.met {
        Some(true) => "met".to_owned(),
        Some(false) => format!("missed: {reasons}"),
        None => format!("made again: {reasons}"),
    }
}

/// What is said of a run where it is pointed at.
fn note(run: &Run, rate: f64) -> Vec<String> {
    let mut lines = vec![
        format!("run {}: {} ops/s asked for", run.order, count(rate)),
        format!("completed {} ops/s", count(run.values.ops_per_s)),
        format!(
            "p50 {}, p99 {}, p99.9 {}",
            time(run.values.p50_us),
            time(run.values.p99_us),
            time(run.values.p99_9_us)
        ),
    ];
    lines.push(outcome(run));
    lines
}

/// Which rates were tried one after the other, and what came of each.
fn tried_chart(search: &Search) -> Option<Chart> {
    let (mut met, mut missed, mut path, mut rates) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut table = Table::new("", &["run", "phase", "rate", "completed", P50.label, P99.label, "objectives"]);
    for (run, rate) in open(search) {
        let datum = json!({ "value": [run.order, rate], "note": note(run, rate) });
        // A run that was made again says nothing of its rate, so it is in the table alone.
        if let Some(is_met) = run.met {
            (if is_met { &mut met } else { &mut missed }).push(datum);
            path.push([f64::from(run.order), rate]);
            rates.push(rate);
        }
        table.push(vec![
            Cell::whole(run.order.into()),
            Cell::text(phase(run)),
            Cell::count(rate),
            THROUGHPUT.cell(run.values.ops_per_s),
            P50.cell(run.values.p50_us),
            P99.cell(run.values.p99_us),
            Cell::Text(outcome(run)),
        ]);
    }
    let last = path.last()?[0];
    let limits = [search.found.confirmed, search.found.refuted].into_iter().flatten();
    let limits: Vec<Value> = limits.map(|found| json!({ "yAxis": found.rate })).collect();
    let mut says = format!("{} of {} runs met the objectives.", met.len(), met.len() + missed.len());
    match open(search).filter(|(run, _)| run.met.is_none()).count() {
        0 => {}
        again => says.push_str(&format!(
            " Besides these, {again} were made again because the load generator failed; they count for nothing."
        )),
    }
    let option = json!({
        "legend": { "top": 0, "data": ["met", "missed"] },
        "grid": within(json!({ "left": 12, "right": 30, "top": 60, "bottom": 44 })),
        "tooltip": { "formatter": "@fn:note", "confine": true },
        "xAxis": { "type": "value", "min": 0, "max": last + 1.0, "minInterval": 1, "name": "run", "nameLocation": "middle",
            "nameGap": 28, "splitLine": { "show": false } },
        "yAxis": number_axis(rates, "rate, operations per second", "@fn:short"),
        "series": [
            { "type": "line", "name": "order", "data": path, "symbol": "none", "color": "@muted", "silent": true, "tooltip": { "show": false },
              "lineStyle": { "width": 1.2, "opacity": 0.6 },
              "markLine": { "silent": true, "symbol": "none", "data": limits, "label": { "formatter": "" },
                  "lineStyle": { "color": "@mark", "type": "dashed", "width": 1.2 } } },
            { "type": "scatter", "name": "met", "data": met, "color": "@c0", "symbolSize": 11 },
            { "type": "scatter", "name": "missed", "data": missed, "color": "@bad", "symbolSize": 12, "symbol": CROSS },
        ],
    });
    Some(Chart {
        id: "tried".into(),
        title: "Rates one after the other".into(),
        says,
        how: "from left to right the search closes in: it doubles the rate until one is missed, halves the distance, and then \
              goes back and forth between the two rates next to the limit (dashed) to be sure. Dots met all objectives, \
              crosses did not."
            .into(),
        height: 380,
        views: vec![View { option, ..View::default() }],
        table,
    })
}

/// Why a run was made, in a word.
fn phase(run: &Run) -> String {
    let name = serde_json::to_value(run.phase).ok();
    name.and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_else(|| "calibration".to_owned())
}

/// Latency over completed operations, with the knee and the limits.
fn curve_chart(search: &Search) -> Option<Chart> {
    let mut runs: Vec<(&Run, f64)> =
        open(search).filter(|(run, _)| run.met.is_some() && run.values.ops_per_s > 0.0).collect();
    if runs.len() < 2 {
        return None;
    }
    runs.sort_by(|a, b| a.0.values.ops_per_s.total_cmp(&b.0.values.ops_per_s));
    // What objectives are about comes first.
    let is_asked = |shown: &Shown| search.objectives.iter().any(|objective| objective.figure.name() == shown.0);
    let mut curves = CURVES.to_vec();
    curves.sort_by_key(|shown| !is_asked(shown));
    let views = curves.iter().map(|shown| View {
        label: format!("Latency, {}", shown.0),
        suffix: shown.1.to_owned(),
        option: curve_option(search, &runs, shown),
    });
    let mut table =
        Table::new("By completed operations", &["rate", "completed", "mean", "p50", "p99", "p99.9", "objectives"]);
    for (run, rate) in &runs {
        let v = &run.values;
        let mut row = vec![Cell::count(*rate), Cell::count(v.ops_per_s)];
        row.extend([run.mean_us, v.p50_us, v.p99_us, v.p99_9_us].map(Cell::us));
        row.push(Cell::text(if run.met == Some(true) { "met" } else { "missed" }));
        table.push(row);
    }
    let says = match search.knee {
        Some(knee) => {
            format!("The knee lies at {} ops/s, with a mean latency of {}.", count(knee.ops_per_s), time(knee.mean_us))
        }
        None => "No knee lies within the rates that were tried.".to_owned(),
    };
    Some(Chart {
        id: "curve".into(),
        title: "What more throughput costs in latency".into(),
        says,
        how: "each dot is a run, and the line joins the medians of each rate. To the left the cluster has capacity to spare and latency hardly grows; where it turns \
              upwards, more load only means longer queues. The dashed line across is the objective. The knee, marked by a \
              vertical line, is where a cluster gives the most throughput for its latency."
            .into(),
        height: 420,
        views: views.collect(),
        table,
    })
}

fn curve_option(search: &Search, runs: &[(&Run, f64)], &(name, _, value): &Shown) -> Value {
    let datum = |run: &Run, rate: f64| json!({ "value": [run.values.ops_per_s, value(run)], "note": note(run, rate) });
    let by = |met: bool| -> Vec<Value> {
        let of = runs.iter().filter(|(run, _)| (run.met == Some(true)) == met);
        of.map(|(run, rate)| datum(run, *rate)).collect()
    };
    let limit =
        search.objectives.iter().find(|objective| objective.figure.name() == name).map(|objective| objective.limit_us);
    let mut lines: Vec<Value> =
        limit.iter().map(|us| json!({ "yAxis": us, "label": { "formatter": time(*us) } })).collect();
    lines.extend(search.knee.map(|knee| {
        json!({ "xAxis": knee.ops_per_s, "lineStyle": { "type": "dotted", "color": "@c2" }, "label": { "formatter": "knee", "color": "@c2" } })
    }));
    let points: Vec<[f64; 2]> = runs.iter().map(|(run, _)| [run.values.ops_per_s, value(run)]).collect();
    let mut x = number_axis(points.iter().map(|point| point[0]), THROUGHPUT.axis, THROUGHPUT.format);
    x["nameLocation"] = json!("middle");
    x["nameGap"] = json!(28);
    x["nameTextStyle"] = json!({ "align": "center" });
    json!({
        "legend": { "top": 0, "data": ["met", "missed"] },
        "grid": within(json!({ "left": 12, "right": 60, "top": 66, "bottom": 44 })),
        "tooltip": { "formatter": "@fn:note", "confine": true },
        "xAxis": x,
        "yAxis": number_axis(points.iter().map(|point| point[1]).chain(limit), &format!("latency, {name}"), "@fn:time"),
        "series": [
            { "type": "line", "name": "curve", "data": medians(runs, value), "symbol": "none", "color": "@c5", "silent": true, "tooltip": { "show": false },
              "lineStyle": { "width": 2 },
              "markLine": { "silent": true, "symbol": "none", "data": lines, "label": { "color": "@mark", "fontSize": 11 },
                  "lineStyle": { "color": "@mark", "type": "dashed", "width": 1.5 } } },
            { "type": "scatter", "name": "met", "data": by(true), "color": "@c0", "symbolSize": 11 },
            { "type": "scatter", "name": "missed", "data": by(false), "color": "@bad", "symbolSize": 12, "symbol": CROSS },
        ],
    })
}

/// For each rate, in rising order, the medians of what its runs completed and of their latency.
fn medians(runs: &[(&Run, f64)], value: fn(&Run) -> f64) -> Vec<[f64; 2]> {
    let mut by_rate: Vec<(f64, &Run)> = runs.iter().map(|(run, rate)| (*rate, *run)).collect();
    by_rate.sort_by(|a, b| a.0.total_cmp(&b.0));
    let middle =
        |at: &[(f64, &Run)], of: fn(&Run) -> f64| median(&at.iter().map(|(_, run)| of(run)).collect::<Vec<_>>());
    let at_rates = by_rate.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq());
    at_rates.map(|at| [middle(at, |run| run.values.ops_per_s), middle(at, value)]).collect()
}

fn runs(search: &Search, context: &Context) -> Table {
    let mut table = Table::new("", &["run", "page", "phase", "rate", "completed", "p99", "objectives"]);
    for run in &search.runs {
        let page = format!("{}{}/{}", context.files_at, run.directory, results::PAGE);
        let words = if run.rate.is_some() { outcome(run) } else { String::new() };
        table.push(vec![
            Cell::whole(run.order.into()),
            Cell::Link(run.directory.clone(), page),
            Cell::text(phase(run)),
            Cell::count(run.rate),
            Cell::count(run.values.ops_per_s),
            Cell::us(run.values.p99_us),
            Cell::Text(words),
        ]);
    }
    table
}

/// A row for each run at a rate, for programs.
fn rows(search: &Search) -> Table {
    let columns = [
        "order",
        "phase",
        "rate",
        "met",
        "ops_per_s",
        "mean_us",
        "p50_us",
        "p90_us",
        "p99_us",
        "p99_9_us",
        "cpu_us_per_op",
    ];
    let mut table = Table::new("", &columns);
    let number = |value: f64| Cell::number(value, |value| value.to_string());
    for (run, rate) in open(search) {
        let v = &run.values;
        let mut row = vec![Cell::whole(run.order.into()), Cell::text(phase(run)), number(rate)];
        row.push(run.met.map_or(Cell::Nothing, |met| Cell::text(met.to_string())));
        row.extend([v.ops_per_s, run.mean_us, v.p50_us, v.p90_us, v.p99_us, v.p99_9_us, v.cpu_us_per_op].map(number));
        table.push(row);
    }
    table
}
