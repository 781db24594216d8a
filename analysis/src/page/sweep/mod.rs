//! The page of a sweep, from `sweep.json`. [charts] shows all points side by side, [lines] how figures follow one
//! numeric setting, [expected] how cost does beside what is expected of the protocol.

use std::collections::BTreeSet;
use std::path::Path;

use super::Context;
use super::document::{Badge, Block, Cell, Document, Figure, Look, Section, Table};
use super::run::{files, settings};
use crate::results::{self, ResultsError};
use crate::shown::{BYTES, CPU, MESSAGES, P50, P99, SWITCH, Shown, THROUGHPUT};
use crate::summary::count;
use crate::sweep::{self, Best, Point, State, Sweep, scaling};

mod charts;
mod expected;
mod lines;

/// The page of a sweep's directory.
pub(super) fn document(directory: &Path, context: &Context) -> Result<Document, ResultsError> {
    let sweep = results::read_sweep(directory)?;
    let mut document = Document {
        kind: "a sweep".to_owned(),
        title: if sweep.name.is_empty() { "Sweep".to_owned() } else { sweep.name.clone() },
        valid: sweep.is_valid(),
        verdicts: vec![verdict(&sweep)],
        reasons: Vec::new(),
        sentence: sentence(&sweep),
        figures: figures(&sweep),
        rows: rows(&sweep),
        sections: Vec::new(),
    };
    let mut overview = Section::new("Overview");
    overview.blocks.extend(charts::matrix(&sweep).map(Block::Chart));
    overview.blocks.extend(charts::points(&sweep).map(Block::Chart));
    let auto: Vec<String> =
        sweep::auto_in_words(&sweep).iter().map(|words| format!("By throughput, {words}.")).collect();
    overview.blocks.extend((!auto.is_empty()).then_some(Block::Notes(auto)));
    let mut trade = Section::new("Throughput against latency");
    trade.blocks.extend(charts::pareto(&sweep).map(Block::Chart));
    let mut following = Section::new("Setting by setting");
    following.blocks.extend(lines::charts(&sweep).into_iter().map(Block::Chart));
    document.sections.extend([overview, trade, following, points(&sweep), runs(&sweep, context)]);
    let mut settings = settings(&sweep.base, &context.defaults);
    settings.blocks.insert(0, Block::Text("What all points have in common unless they set it otherwise.".to_owned()));
    document.sections.push(settings);
    document.sections.push(super::run::environment(&sweep.environment, None));
    document.sections.push(files(directory, context));
    document.sections.retain(|section| !section.blocks.is_empty());
    Ok(document)
}

fn verdict(sweep: &Sweep) -> Badge {
    let valid = sweep.runs().filter(|(_, run)| run.state == State::Valid).count();
    let planned = sweep.runs_planned;
    let meaning = match (sweep.complete, sweep.is_valid()) {
        (true, true) => format!("all {planned} runs are VALID"),
        (true, false) => format!("{valid} of {planned} runs are VALID; the others are in no figure"),
        (false, _) => format!("not complete: {} of {planned} runs were played, {valid} are VALID", sweep.runs_done),
    };
    let word = if sweep.is_valid() { "VALID" } else { "INVALID" };
    Badge { word: word.to_owned(), meaning, look: Look::good_if(sweep.is_valid()) }
}

fn sentence(sweep: &Sweep) -> String {
    let plan = format!(
        "{} points, {} runs of each, interleaved in random order (seed {}). Figures are the median of a point's VALID runs.",
        sweep.points.len(),
        sweep.repeats,
        sweep.seed
    );
    let parts = [sweep.description.as_str(), sweep.question.as_str(), &plan];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The best point of each figure, with those that its runs do not tell from it.
fn figures(sweep: &Sweep) -> Vec<Figure> {
    let labels = ["Highest throughput", "Lowest p99", "Least CPU per operation"];
    let best = SWITCH.iter().zip(labels).filter_map(|(shown, label)| {
        let Best { point, spread, caveat } = sweep::best(sweep, shown)?;
        let (lowest, highest) = ((shown.write)(spread.lowest), (shown.write)(spread.highest));
        let remark = format!("{} ({lowest} to {highest}){caveat}", sweep.label(&point.settings));
        Some(Figure { label: label.to_owned(), value: shown.cell(spread.median), remark })
    });
    best.collect()
}

/// `median (lowest to highest)`.
fn range(point: &Point, shown: &Shown) -> Cell {
    shown.of(point).map_or(Cell::Nothing, |spread| Cell::Number(spread.median, shown.range(spread)))
}

fn points(sweep: &Sweep) -> Section {
    let has_adjusted = sweep.points.iter().any(|point| !point.adjusted.is_empty());
    let mut columns: Vec<&str> = sweep.varied.iter().map(|varied| varied.key.as_str()).collect();
    if has_adjusted {
        columns.push("adjusted");
    }
    let shown = [THROUGHPUT, P50, P99, CPU];
    columns.extend(shown.iter().map(|shown| shown.label));
    columns.push("valid runs");
    let mut table = Table::new("Median of each point's VALID runs (lowest to highest)", &columns);
    for (index, point) in sweep.points.iter().enumerate() {
        let mut row: Vec<Cell> = sweep.values(&point.settings).map(Cell::text).collect();
        if has_adjusted {
            row.push(Cell::Text(point.adjusted_in_words()));
        }
        row.extend(shown.iter().map(|shown| range(point, shown)));
        row.push(Cell::Text(format!("{} of {}", point.summary.valid, point.runs.len())));
        table.push(row);
        if point.summary.valid == 0 {
            table.bad.push(index);
        }
    }
    let section = Section::new("All points").with(Block::Table(table));
    let left_out = sweep.excluded.iter().map(|out| format!("left out: {}: {}", sweep.label(&out.settings), out.reason));
    let left_out: Vec<String> = left_out.collect();
    if left_out.is_empty() { section } else { section.with(Block::Notes(left_out)) }
}

/// Every run with a link to its own page; those that may not be used first.
fn runs(sweep: &Sweep, context: &Context) -> Section {
    let mut table =
        Table::new("", &["run", "point", "repeat", "state", "Throughput", "Latency, p99", "CPU per operation"]);
    let mut not_valid = Vec::new();
    for (point, run) in sweep.runs() {
        let label = sweep.label(&point.settings);
        if run.state != State::Valid {
            table.bad.push(table.rows.len());
            let reasons = run.reasons.join("; ");
            not_valid.push(format!("{label}, run {}: {}: {reasons}", run.repeat, run.state.shown()));
        }
        let page = format!("{}{}/{}", context.files_at, run.directory, results::PAGE);
        let figures = run.figures.as_ref();
        table.push(vec![
            Cell::whole(run.order.into()),
            Cell::Link(label, page),
            Cell::whole(run.repeat.into()),
            Cell::text(run.state.shown()),
            THROUGHPUT.cell(figures.map(|f| f.ops_per_s)),
            P99.cell(figures.map(|f| f.p99_us)),
            CPU.cell(figures.map(|f| f.cpu_us_per_op)),
        ]);
    }
    let mut section = Section::new("Runs");
    if table.rows.is_empty() {
        return section;
    }
    #[allow(clippy::cast_precision_loss, reason = "shown in full up to 2^53")]
    let label = format!("All {} runs, each with a link to its page", count(table.rows.len() as f64));
    if !not_valid.is_empty() {
        section.blocks.push(Block::Text("These runs are not VALID and in none of the figures:".to_owned()));
        section.blocks.push(Block::Notes(not_valid));
    }
    section.with(Block::Folded(label, table))
}

/// A row for each point, for programs.
fn rows(sweep: &Sweep) -> Table {
    let shown = [THROUGHPUT, P50, P99, CPU];
    let mut columns: Vec<String> = sweep.varied.iter().map(|varied| varied.key.clone()).collect();
    columns.extend(["adjusted", "valid", "invalid", "failed"].map(str::to_owned));
    for shown in &shown {
        columns.extend(["", "_lowest", "_highest"].map(|part| format!("{}{part}", shown.name)));
    }
    let mut table = Table { columns, ..Table::default() };
    let medians = [MESSAGES.name, "expected_messages_per_op", BYTES.name, "expected_bytes_per_op", "floor_us_per_op"];
    table.columns.extend(medians.map(str::to_owned));
    // What is expected of CPU time is another thing along each setting.
    let curves = scaling::curves(sweep);
    let along: BTreeSet<&str> = curves.iter().map(|curve| curve.along.as_str()).collect();
    table.columns.extend(along.iter().map(|key| format!("expected_{}_along_{key}", CPU.name)));
    let number = |value: Option<f64>| Cell::number(value, |value| value.to_string());
    for point in &sweep.points {
        let mut row: Vec<Cell> = sweep.values(&point.settings).map(Cell::text).collect();
        row.push(Cell::Text(point.adjusted_in_words()));
        let summary = &point.summary;
        row.extend([summary.valid, summary.invalid, summary.failed].map(|n| Cell::whole(n.into())));
        for shown in &shown {
            let s = shown.of(point);
            row.extend([s.map(|s| s.median), s.map(|s| s.lowest), s.map(|s| s.highest)].map(number));
        }
        row.extend(medians.map(|name| number(summary.figures.get(name).map(|spread| spread.median))));
        for key in &along {
            let mut on = curves.iter().filter(|curve| curve.along == *key);
            row.push(number(on.find_map(|curve| curve.at(point, CPU.name)).map(|beside| beside.expected)));
        }
        table.push(row);
    }
    table
}
