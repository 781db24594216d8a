//! A sweep as text: tables of what was varied, what was best, what may not be used.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::export::{adjusted, given, one_line};
use super::{Point, Spread, State, Summary, Sweep, Varied};
use crate::summary::{Style, count, time};

/// How a figure is written.
type Write = fn(f64) -> String;

/// Points that runs do not tell from the best one, so many are named.
const CLOSE_TOLD: usize = 3;

/// A figure that is shown, and which of two values is the better one.
struct Shown {
    name: &'static str,
    heading: &'static str,
    write: Write,
    /// Whether more is better; otherwise less is.
    more: bool,
}

const SHOWN: [Shown; 3] = [
    Shown { name: "ops_per_s", heading: "Throughput, ops/s", write: count, more: true },
    Shown { name: "p99_us", heading: "Latency, p99", write: time, more: false },
    Shown {
        name: "cpu_us_per_op",
        heading: "CPU time of all processes, µs for each operation",
        write: hundredths,
        more: false,
    },
];

fn hundredths(value: f64) -> String {
    format!("{value:.2}")
}

/// The summary of a sweep; `place` is where it lies, as it is to be shown.
///
/// One varied option makes a table of its values; two make a matrix for each figure; of three and more, the last two
/// make a matrix for each combination of the others, so that nothing is averaged over what differs.
#[must_use]
pub fn render(sweep: &Sweep, place: &str, style: Style) -> String {
    let mut text = String::new();
    head(&mut text, sweep, style);
    tables(&mut text, sweep, style);
    best_points(&mut text, sweep, style);
    notes(&mut text, sweep);
    not_valid(&mut text, sweep, style);
    let _ = writeln!(text, "{} {place}", style.bold(&format!("{:<12}", "Results")));
    text
}

fn head(text: &mut String, sweep: &Sweep, style: Style) {
    let (done, planned) = (sweep.runs_done, sweep.runs_planned);
    let valid = sweep.runs().filter(|(_, run)| run.state == State::Valid).count();
    let verdict = match (sweep.complete, sweep.is_valid()) {
        (true, true) => style.good(&format!("all {planned} runs are VALID")),
        (true, false) => style.bad(&format!("{valid} of {planned} runs are VALID")),
        (false, _) => style.bad(&format!("not complete: {done} of {planned} runs, {valid} VALID")),
    };
    let _ = writeln!(text, "{}: {verdict}", sweep.name);
    let mut line = |label: &str, what: &str| {
        if !what.is_empty() {
            let _ = writeln!(text, "{} {what}", style.bold(&format!("{label:<12}")));
        }
    };
    line("Experiment", &sweep.description);
    line("Question", &sweep.question);
    line("Options", &given(sweep));
    let (points, repeats, seed) = (sweep.points.len(), sweep.repeats, sweep.seed);
    let plural = if repeats == 1 { "run" } else { "runs" };
    line("Plan", &format!("{points} points, {repeats} {plural} of each, interleaved in random order (seed {seed})"));
    let environment = &sweep.environment;
    if !environment.cpu.is_empty() {
        let (cpu, cores, kernel) = (&environment.cpu, environment.cores, &environment.kernel);
        line("Machine", &format!("{cpu}, {cores} cores, Linux {kernel}"));
        let (version, profile, commit) = (&environment.version, &environment.build_profile, &environment.git_commit);
        line("Build", &format!("{version} {profile}, commit {commit}"));
    }
}

fn tables(text: &mut String, sweep: &Sweep, style: Style) {
    if sweep.points.iter().all(|point| point.summary.valid == 0) {
        return;
    }
    match sweep.varied.as_slice() {
        [] => {}
        [_] => list(text, sweep, style),
        [outer @ .., rows, columns] => {
            for shown in &SHOWN {
                for fixed in combinations(outer) {
                    matrix(text, sweep, shown, (outer, &fixed), rows, columns, style);
                }
            }
        }
    }
}

/// Every value of each with every value of the others.
fn combinations(varied: &[Varied]) -> Vec<Vec<&str>> {
    let mut all = vec![Vec::new()];
    for Varied { values, .. } in varied {
        let with = |head: &Vec<_>, value| head.iter().copied().chain([value]).collect();
        all = all.iter().flat_map(|head| values.iter().map(move |value| with(head, value.as_str()))).collect();
    }
    all
}

/// A row each point: median (lowest to highest) of each figure.
fn list(text: &mut String, sweep: &Sweep, style: Style) {
    let columns: [(&str, &str, Write); 5] = [
        ("ops_per_s", "ops/s", count),
        ("p50_us", "p50", time),
        ("p99_us", "p99", time),
        ("p99_9_us", "p99.9", time),
        ("cpu_us_per_op", "CPU µs/op", hundredths),
    ];
    let keys: Vec<&str> = sweep.varied.iter().map(|varied| varied.key.as_str()).collect();
    let mut rows = vec![vec![keys.join(" ")]];
    rows[0].extend(columns.iter().map(|(_, heading, _)| (*heading).to_owned()));
    for point in &sweep.points {
        let mut row = vec![sweep.values(&point.settings).collect::<Vec<_>>().join(" ")];
        row.extend(columns.iter().map(|(name, _, write)| {
            let range = |s: &Spread| format!("{} ({} to {})", write(s.median), write(s.lowest), write(s.highest));
            point.summary.figures.get(*name).map_or_else(|| lacking(point), range)
        }));
        row[0].push_str(mark(point));
        rows.push(row);
    }
    let _ = writeln!(text, "\n{}", style.bold("Median of the VALID runs (lowest to highest)"));
    grid(text, &rows);
}

/// The values of one option down, of another across.
fn matrix(
    text: &mut String,
    sweep: &Sweep,
    shown: &Shown,
    (outer, fixed): (&[Varied], &[&str]),
    rows: &Varied,
    columns: &Varied,
    style: Style,
) {
    let mut grid_rows = vec![vec![format!("{} \\ {}", rows.key, columns.key)]];
    grid_rows[0].extend(columns.values.iter().cloned());
    for row in &rows.values {
        let cells = columns.values.iter().map(|column| {
            let values: Vec<&str> = fixed.iter().copied().chain([row.as_str(), column.as_str()]).collect();
            match sweep.point(&values) {
                Some(point) => cell(point, shown),
                None => "left out".to_owned(),
            }
        });
        grid_rows.push([row.clone()].into_iter().chain(cells).collect());
    }
    let of: Vec<String> = outer.iter().zip(fixed).map(|(varied, value)| format!("{}={value}", varied.key)).collect();
    let of = if of.is_empty() { String::new() } else { format!("{}: ", of.join(" ")) };
    let _ = writeln!(text, "\n{}", style.bold(&format!("{of}{}", shown.heading)));
    grid(text, &grid_rows);
}

fn cell(point: &Point, shown: &Shown) -> String {
    let spread = point.summary.figures.get(shown.name);
    spread.map_or_else(|| lacking(point), |spread| format!("{}{}", (shown.write)(spread.median), mark(point)))
}

/// What stands where there is no figure.
fn lacking(point: &Point) -> String {
    match (point.summary.invalid, point.summary.failed) {
        (0, 0) => "-",
        (0, _) => "FAILED",
        _ => "INVALID",
    }
    .to_owned()
}

/// Behind figures of points of which not all runs count.
const fn mark(point: &Point) -> &'static str {
    let Summary { valid, invalid, failed, .. } = &point.summary;
    if *valid > 0 && *invalid + *failed > 0 { "*" } else { "" }
}

/// The best points of each figure, with those that the runs do not tell from the first.
fn best_points(text: &mut String, sweep: &Sweep, style: Style) {
    let labels = ["Throughput", "p99", "CPU"];
    let mut lines = Vec::new();
    for (shown, label) in SHOWN.iter().zip(labels) {
        let Some(Best { point, spread, caveat }) = best(sweep, shown.name, shown.more) else { continue };
        let write = shown.write;
        let range = format!("{} ({} to {})", write(spread.median), write(spread.lowest), write(spread.highest));
        lines.push(format!("  {label:<10} {}: {range}{caveat}", sweep.label(&point.settings)));
    }
    if sweep.points.len() > 1 && !lines.is_empty() {
        let _ = writeln!(text, "\n{}\n{}", style.bold("Best"), lines.join("\n"));
    }
}

/// The best point by a figure.
pub(crate) struct Best<'a> {
    /// Which.
    pub(crate) point: &'a Point,
    /// The figure over its VALID runs.
    pub(crate) spread: Spread,
    /// Which points its runs do not tell from it, to be put behind its range; empty if they tell it from all.
    pub(crate) caveat: String,
}

/// The best point by the figure of this name, of which more is better, or less: the one with the best median.
pub(crate) fn best<'a>(sweep: &'a Sweep, name: &str, more: bool) -> Option<Best<'a>> {
    let of = |point: &Point| point.summary.figures.get(name).copied();
    let mut ranked: Vec<(&Point, Spread)> = sweep.points.iter().filter_map(|p| Some((p, of(p)?))).collect();
    let sign = if more { -1.0 } else { 1.0 };
    ranked.sort_by(|(_, a), (_, b)| (a.median * sign).total_cmp(&(b.median * sign)));
    let ((point, spread), others) = ranked.split_first()?;
    let overlaps = |other: &Spread| other.lowest <= spread.highest && spread.lowest <= other.highest;
    let close: Vec<String> =
        others.iter().filter(|(_, other)| overlaps(other)).map(|(p, _)| sweep.label(&p.settings)).collect();
    let caveat = match close.as_slice() {
        [] => String::new(),
        few if few.len() <= CLOSE_TOLD => format!("; its runs overlap with those of {}", few.join(", ")),
        many => format!("; its runs overlap with those of {} other points", many.len()),
    };
    Some(Best { point, spread: *spread, caveat })
}

fn notes(text: &mut String, sweep: &Sweep) {
    let mut notes = Vec::new();
    if sweep.points.iter().any(|point| !mark(point).is_empty()) {
        notes.push("* not all runs were VALID: the figures are of those that were".to_owned());
    }
    let all: BTreeSet<String> = sweep.points.iter().map(adjusted).collect();
    for what in all.iter().filter(|what| !what.is_empty()) {
        let these: Vec<&Point> = sweep.points.iter().filter(|point| adjusted(point) == *what).collect();
        notes.push(format!("with {what}: {}", in_short(sweep, &these)));
    }
    for excluded in &sweep.excluded {
        notes.push(format!("left out: {}: {}", sweep.label(&excluded.settings), excluded.reason));
    }
    if !notes.is_empty() {
        let _ = writeln!(text, "\n{}", notes.join("\n"));
    }
}

/// Points by the settings that only they have in common, or one by one.
fn in_short(sweep: &Sweep, these: &[&Point]) -> String {
    let Some((first, others)) = these.split_first() else { return String::new() };
    let mut common = first.settings.clone();
    common.retain(|key, value| others.iter().all(|point| point.settings.get(key) == Some(value)));
    let has_all = |point: &&Point| common.iter().all(|(key, value)| point.settings.get(key) == Some(value));
    if sweep.points.iter().filter(has_all).count() > these.len() {
        return these.iter().map(|point| sweep.label(&point.settings)).collect::<Vec<_>>().join(", ");
    }
    let pairs = sweep.varied.iter().filter_map(|varied| Some((&varied.key, common.get(&varied.key)?)));
    let settings: Vec<String> = pairs.map(|(key, value)| format!("{key}={value}")).collect();
    if settings.is_empty() { "all points".to_owned() } else { settings.join(" ") }
}

fn not_valid(text: &mut String, sweep: &Sweep, style: Style) {
    let runs: Vec<_> = sweep.runs().filter(|(_, run)| run.state != State::Valid).collect();
    if !runs.is_empty() {
        let _ = writeln!(text, "\n{}", style.bold("Not VALID: do not use these"));
    }
    for (point, run) in runs {
        let (label, state) = (sweep.label(&point.settings), style.bad(run.state.shown()));
        let _ = writeln!(text, "  {label}, run {}: {state}: {}", run.repeat, one_line(&run.reasons));
        let _ = writeln!(text, "    {}", run.directory);
    }
    text.push('\n');
}

/// Rows in columns, the first one to the left, the others to the right.
fn grid(text: &mut String, rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        let _ = writeln!(text, "  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}
