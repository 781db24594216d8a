//! A sweep as text: tables of what was varied, what was best, what may not be used.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::auto::auto_in_words;
use super::export::{given, one_line};
use super::points::{Best, best, combinations};
use super::scaling::{Curve, curves, deviations, difference};
use super::{Point, Spread, State, Summary, Sweep, Varied};
use crate::shown::{BESIDE, CPU, P50, P99, P99_9, SWITCH, Shown, THROUGHPUT};
use crate::summary::{Style, version};

/// The summary of a sweep; `place` is where it lies, as it is to be shown.
///
/// One varied option makes a table of its values; two make a matrix for each figure; of three and more, the last two
/// make a matrix for each combination of the others, so that nothing is averaged over what differs.
#[must_use]
pub fn render(sweep: &Sweep, place: &str, style: Style) -> String {
    let mut text = String::new();
    head(&mut text, sweep, style);
    tables(&mut text, sweep, style);
    expected(&mut text, sweep, style);
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
        let (cpu, cores, kernel) = (&environment.cpu, environment.cores, version(&environment.kernel));
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
            for shown in &SWITCH {
                for fixed in combinations(&outer.iter().collect::<Vec<_>>()) {
                    matrix(text, sweep, shown, (outer, &fixed), rows, columns, style);
                }
            }
        }
    }
}

/// A row each point: median (lowest to highest) of each figure.
fn list(text: &mut String, sweep: &Sweep, style: Style) {
    let columns = [THROUGHPUT, P50, P99, P99_9, CPU];
    let keys: Vec<&str> = sweep.varied.iter().map(|varied| varied.key.as_str()).collect();
    let mut rows = vec![vec![keys.join(" ")]];
    rows[0].extend(columns.iter().map(|shown| shown.label.to_owned()));
    for point in &sweep.points {
        let mut row = vec![sweep.values(&point.settings).collect::<Vec<_>>().join(" ")];
        let cell = |shown: &Shown| shown.of(point).map_or_else(|| point.lacking().to_owned(), |s| shown.range(s));
        row.extend(columns.iter().map(cell));
        row[0].push_str(mark(point));
        rows.push(row);
    }
    let _ = writeln!(text, "\n{}", style.bold("Median of the VALID runs (lowest to highest)"));
    grid(text, &rows);
}

/// Cost beside what is expected: each point where one line has them all, else how far the farthest ones are.
fn expected(text: &mut String, sweep: &Sweep, style: Style) {
    let curves = curves(sweep);
    if curves.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{}", style.bold("Cost for each operation beside what is expected"));
    if let [curve] = curves.as_slice() {
        let mut rows = vec![vec![curve.along.clone()]];
        for name in ["messages", "bytes", "CPU"] {
            rows[0].extend([name, "expected", ""].map(str::to_owned));
        }
        for point in &curve.points {
            let mut row = vec![point.value.clone()];
            for shown in &BESIDE {
                row.extend(match point.figures.get(shown.name) {
                    Some(it) => [(shown.write)(it.measured), (shown.write)(it.expected), difference(it.ratio)],
                    None => Default::default(),
                });
            }
            rows.push(row);
        }
        grid(text, &rows);
    }
    let along: BTreeSet<&str> = curves.iter().map(|curve| curve.along.as_str()).collect();
    for key in along {
        let these: Vec<Curve> = curves.iter().filter(|curve| curve.along == key).cloned().collect();
        let _ = writeln!(text, "  farthest along {key}: {}", deviations(&these));
    }
}

/// The values of one option down, of another across.
fn matrix(
    text: &mut String,
    sweep: &Sweep,
    shown: &Shown,
    (outer, fixed): (&[Varied], &[String]),
    rows: &Varied,
    columns: &Varied,
    style: Style,
) {
    let mut grid_rows = vec![vec![format!("{} \\ {}", rows.key, columns.key)]];
    grid_rows[0].extend(columns.values.iter().cloned());
    for row in &rows.values {
        let cells = columns.values.iter().map(|column| {
            let values: Vec<&str> = fixed.iter().map(String::as_str).chain([row.as_str(), column.as_str()]).collect();
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
    let median = |spread: &Spread| format!("{}{}", (shown.write)(spread.median), mark(point));
    shown.of(point).map_or_else(|| point.lacking().to_owned(), median)
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
    for (shown, label) in SWITCH.iter().zip(labels) {
        let Some(Best { point, spread, caveat }) = best(sweep, shown) else { continue };
        let (name, range) = (sweep.label(&point.settings), shown.range(&spread));
        lines.push(format!("  {label:<10} {name}: {range}{caveat}"));
    }
    lines.extend(auto_in_words(sweep).iter().map(|words| format!("  {:<10} {words}", "auto")));
    if sweep.points.len() > 1 && !lines.is_empty() {
        let _ = writeln!(text, "\n{}\n{}", style.bold("Best"), lines.join("\n"));
    }
}

fn notes(text: &mut String, sweep: &Sweep) {
    let mut notes = Vec::new();
    if sweep.points.iter().any(|point| !mark(point).is_empty()) {
        notes.push("* not all runs were VALID: the figures are of those that were".to_owned());
    }
    let all: BTreeSet<String> = sweep.points.iter().map(Point::adjusted_in_words).collect();
    for what in all.iter().filter(|what| !what.is_empty()) {
        let these: Vec<&Point> = sweep.points.iter().filter(|point| point.adjusted_in_words() == *what).collect();
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
