//! `hippodrome compare`: [sources] reads runs that were made before, [race] makes them now; what comes of them is one
//! comparison either way.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use hippodrome_analysis::comparison::verdict::Outcome;
use hippodrome_analysis::comparison::{Comparison, Question, Side, compare, table};
use hippodrome_analysis::results;

use crate::cli::compare::CompareArgs;
use crate::failure::Failure;
use crate::output;

mod race;
mod sources;

/// Compares runs, made before or now.
pub(crate) fn run(arguments: &CompareArgs) -> Result<(), Failure> {
    if arguments.results.is_empty() {
        return race::run(arguments);
    }
    if !arguments.sides().is_empty() || !arguments.given.0.is_empty() || arguments.config.is_some() {
        return Err(Failure::Usage(anyhow!(
            "RESULTS = {}: allowed: only without settings, binaries and options of a run: either runs that were made before are compared, or runs are made now",
            arguments.results.join(" ")
        )));
    }
    if arguments.results.len() < 2 {
        let allowed = "two or more, or --a, --b and so on to make runs now";
        return Err(Failure::value("RESULTS", &arguments.results[0], allowed));
    }
    let sides = sources::read(&arguments.results).map_err(Failure::Usage)?;
    let comparison = compare(&sides, &question(arguments, Vec::new()));
    if let Some(out) = &arguments.out {
        std::fs::create_dir_all(out).with_context(|| out.display().to_string()).map_err(Failure::Usage)?;
        write(out, &comparison)?;
    }
    conclude(&comparison, arguments.out.as_deref(), arguments.json)
}

/// What the arguments ask; `failed` are runs that could not be played, in words.
fn question(arguments: &CompareArgs, failed: Vec<String>) -> Question {
    Question {
        margin_percent: arguments.margin,
        headline: arguments.figure.map(Into::into),
        include_invalid: arguments.include_invalid,
        failed,
        fail_if_slower_percent: arguments.fail_if_slower,
    }
}

/// Writes the comparison and its tables.
fn write(directory: &Path, comparison: &Comparison) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(comparison).context(results::COMPARISON)?;
    let files = [
        (results::COMPARISON_MARKDOWN, table::markdown(comparison)),
        (results::COMPARISON_CSV, table::csv(comparison)),
        (results::COMPARISON, format!("{json}\n")),
    ];
    for (name, text) in files {
        results::write(directory, name, &text).context("comparison")?;
    }
    output::write_page(directory)
}

/// Prints it and ends as it says.
pub(super) fn conclude(comparison: &Comparison, place: Option<&Path>, json: bool) -> Result<(), Failure> {
    if json {
        let text = serde_json::to_string_pretty(comparison).context(results::COMPARISON)?;
        output::print(&format!("{text}\n"));
    } else {
        let place = place.map_or_else(String::new, |place| format!("\nResults in {}\n", place.display()));
        output::print(&format!("{}{place}", table::text(comparison)));
    }
    if !comparison.withheld.is_empty() {
        return Err(Failure::Inconclusive);
    }
    match comparison.gate.as_ref().map(|gate| gate.outcome) {
        None | Some(Outcome::Passed) => Ok(()),
        Some(Outcome::Inconclusive) => Err(Failure::Inconclusive),
        Some(Outcome::Slower) => Err(Failure::Slower),
    }
}

/// Sides without any run can not be compared.
fn check(sides: &[Side], failed: &[String]) -> Result<(), Failure> {
    match sides.iter().find(|side| side.runs.is_empty()) {
        Some(side) => {
            let why = failed.first().map_or("", String::as_str);
            Err(Failure::Failed(anyhow!("no run of '{}' could be played: {why}", side.label)))
        }
        None => Ok(()),
    }
}
