//! A sweep as comma-separated values, a row each run, and as Markdown, a row each point.

use std::fmt::Write as _;

use super::scaling::{FIGURES, curves};
use super::{Figures, Spread, State, Sweep, auto_in_words};
use crate::summary::{count, digits, version};

/// `sweep.csv`: a header, then a row for each run in the order in which they were played. Figures of runs that failed
/// are empty; only rows whose `state` is `valid` may be used.
#[must_use]
pub fn to_csv(sweep: &Sweep) -> String {
    let names = Figures::default().named().map(|(name, _)| name);
    let mut head = vec!["order".to_owned(), "repeat".to_owned()];
    head.extend(sweep.varied.iter().map(|varied| varied.key.clone()));
    head.extend(["adjusted", "state"].map(str::to_owned));
    head.extend(names.map(str::to_owned));
    head.extend(["wall_s", "directory", "reasons"].map(str::to_owned));
    let mut runs: Vec<_> = sweep.runs().collect();
    runs.sort_by_key(|(_, run)| run.order);
    let mut text = row(&head);
    for (point, run) in runs {
        let mut cells = vec![run.order.to_string(), run.repeat.to_string()];
        cells.extend(sweep.values(&point.settings).map(str::to_owned));
        cells.extend([point.adjusted_in_words(), run.state.name().to_owned()]);
        match &run.figures {
            Some(figures) => cells
                .extend(figures.named().map(|(_, value)| value.map_or_else(String::new, |value| value.to_string()))),
            None => cells.extend(names.map(|_| String::new())),
        }
        cells.push(run.wall_s.map(|wall_s| format!("{wall_s:.3}")).unwrap_or_default());
        cells.extend([run.directory.clone(), run.reasons.join("; ")]);
        text.push_str(&row(&cells));
    }
    text
}

/// A record as RFC 4180 has it.
fn row(cells: &[String]) -> String {
    let quoted = |cell: &String| {
        let plain = !cell.contains([',', '"', '\n', '\r']);
        if plain { cell.clone() } else { format!("\"{}\"", cell.replace('"', "\"\"")) }
    };
    format!("{}\n", cells.iter().map(quoted).collect::<Vec<_>>().join(","))
}

/// What all points have in common and is no default: `clients=400 duration=5s`.
pub(super) fn given(sweep: &Sweep) -> String {
    sweep.given.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

/// The columns of figures: name, heading, what to divide by, decimals.
const COLUMNS: [(&str, &str, f64, usize); 5] = [
    ("ops_per_s", "ops/s", 1.0, 0),
    ("p50_us", "p50, ms", 1e3, 2),
    ("p99_us", "p99, ms", 1e3, 2),
    ("p99_9_us", "p99.9, ms", 1e3, 2),
    ("cpu_us_per_op", "CPU µs/op", 1.0, 2),
];

/// `sweep.md`: what was asked, on which machine, and a table with a row for each point.
#[must_use]
pub fn to_markdown(sweep: &Sweep) -> String {
    let mut text = format!("# {}\n\n", sweep.name);
    for sentence in [&sweep.description, &sweep.question].into_iter().filter(|sentence| !sentence.is_empty()) {
        let _ = writeln!(text, "{sentence}\n");
    }
    let environment = &sweep.environment;
    let _ = writeln!(
        text,
        "{} runs, {} of each point, interleaved in random order (seed {}). {}, {} cores, Linux {}, {} build of commit {}. \
         Median of the VALID runs (lowest to highest).\n",
        sweep.runs_done,
        sweep.repeats,
        sweep.seed,
        environment.cpu,
        environment.cores,
        version(&environment.kernel),
        environment.build_profile,
        environment.git_commit
    );
    if !sweep.given.is_empty() {
        let _ = writeln!(text, "All points: `{}`, other options as by default.\n", given(sweep));
    }
    if !sweep.complete {
        let _ = writeln!(text, "**Not complete: {} of {} runs.**\n", sweep.runs_done, sweep.runs_planned);
    }
    let mut head: Vec<String> = sweep.varied.iter().map(|varied| varied.key.clone()).collect();
    let has_adjusted = sweep.points.iter().any(|point| !point.adjusted.is_empty());
    head.extend(has_adjusted.then(|| "adjusted".to_owned()));
    head.extend(COLUMNS.map(|(_, heading, ..)| heading.to_owned()));
    head.push("valid runs".to_owned());
    let _ = writeln!(text, "| {} |\n|{}", head.join(" | "), "---|".repeat(head.len()));
    for point in &sweep.points {
        let mut cells: Vec<String> = sweep.values(&point.settings).map(|value| format!("`{value}`")).collect();
        cells.extend(has_adjusted.then(|| point.adjusted_in_words()));
        let spread = |name| point.summary.figures.get(name);
        cells.extend(
            COLUMNS.map(|(name, _, by, decimals)| spread(name).map_or_else(String::new, |s| cell(s, by, decimals))),
        );
        cells.push(format!("{} of {}", point.summary.valid, point.runs.len()));
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    for words in auto_in_words(sweep) {
        let _ = writeln!(text, "\nBy throughput, {words}.");
    }
    text.push_str(&expected(sweep));
    for excluded in &sweep.excluded {
        let _ = writeln!(text, "\nLeft out: {}: {}", sweep.label(&excluded.settings), excluded.reason);
    }
    let not_valid: Vec<_> = sweep.runs().filter(|(_, run)| run.state != State::Valid).collect();
    if !not_valid.is_empty() {
        let _ = writeln!(text, "\nNot VALID, and in none of the figures:\n");
    }
    for (point, run) in not_valid {
        let (label, state) = (sweep.label(&point.settings), run.state.shown());
        let _ = writeln!(text, "- {label}, run {}: {state}: {}", run.repeat, one_line(&run.reasons));
    }
    text
}

/// Cost beside what is expected, a row for each point of each curve; empty if there is none.
fn expected(sweep: &Sweep) -> String {
    let curves = curves(sweep);
    if curves.is_empty() {
        return String::new();
    }
    let mut text =
        "\nCost for each operation beside what is expected from message complexity (medians; CPU time by the \
                    floor's shape, through the first point of each line):\n\n"
            .to_owned();
    let names = ["messages", "bytes", "CPU µs"].map(|name| format!("{name} | expected | ratio"));
    let _ = writeln!(text, "| along | with | {} |\n|{}", names.join(" | "), "---|".repeat(11));
    for (curve, point) in curves.iter().flat_map(|curve| curve.points.iter().map(move |point| (curve, point))) {
        let with: Vec<String> = curve.settings.iter().map(|(key, value)| format!("`{key}={value}`")).collect();
        let cells = FIGURES.map(|figure| match point.figures.get(figure) {
            Some(it) => format!("{} | {} | {:.2}", digits(it.measured), digits(it.expected), it.ratio),
            None => " |  | ".to_owned(),
        });
        let _ = writeln!(text, "| `{}={}` | {} | {} |", curve.along, point.value, with.join(" "), cells.join(" | "));
    }
    text
}

/// Reasons in one line.
pub(super) fn one_line(reasons: &[String]) -> String {
    reasons.join("; ").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn cell(spread: &Spread, by: f64, decimals: usize) -> String {
    let number = |value: f64| match decimals {
        0 => count(value / by),
        decimals => format!("{:.decimals$}", value / by),
    };
    let Spread { median, lowest, highest, .. } = *spread;
    format!("{} ({} to {})", number(median), number(lowest), number(highest))
}
