//! `hippodrome stress`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hippodrome_analysis::results;
use hippodrome_analysis::scorecard::{Scorecard, overview};
use serde::Serialize;

use crate::cli::run::RunArgs;
use crate::cli::stress::StressArgs;
use crate::failure::Failure;
use crate::launch::{self, Played};
use crate::output;
use crate::scenario::{Scenario, shipped};

/// Plays one scenario or all, or lists them.
pub(crate) fn run(arguments: &StressArgs) -> Result<(), Failure> {
    match &arguments.scenario {
        _ if arguments.list => list(),
        None => all(arguments),
        Some(name) => one(name, arguments),
    }
}

fn list() -> Result<(), Failure> {
    let mut text = String::new();
    for shipped in shipped::all()? {
        let title = shipped.title;
        let left_out = title.skip.map_or_else(String::new, |why| format!(" (left out by --all: {why})"));
        let _ = writeln!(text, "{:<30}{}{left_out}", title.name, title.description);
    }
    output::print(&text);
    Ok(())
}

fn one(name: &str, arguments: &StressArgs) -> Result<(), Failure> {
    let path = PathBuf::from(name);
    let is_file = path.extension().is_some_and(|extension| extension == "toml");
    let scenario = if is_file { Scenario::read(&path) } else { shipped::text(name).and_then(Scenario::parse) };
    let scenario = scenario.map_err(Failure::Usage)?;
    let stop = launch::Stop::on_signals()?;
    let Played { report, directory } = play_one(&scenario, arguments.out.clone(), arguments.quiet, &stop)?;
    output::report(&report, &directory.display().to_string(), arguments.json);
    if report.scorecard.is_some_and(|card| card.green) { Ok(()) } else { Err(Failure::NotGreen) }
}

/// One of the scenarios that were to be played.
#[derive(Serialize)]
struct Outcome {
    scenario: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    scorecard: Option<Scorecard>,
    /// Why there is no scorecard.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_played: Option<String>,
}

fn all(arguments: &StressArgs) -> Result<(), Failure> {
    let out = launch::results_directory(arguments.out.as_deref());
    results::create(&out).map_err(Failure::usage)?;
    std::fs::remove_dir(out.join(results::LOGS)).context("results directory")?;
    let stop = launch::Stop::on_signals()?;
    let mut cards = Vec::new();
    let mut green = true;
    for shipped in shipped::all()? {
        let (name, skip) = (shipped.title.name, shipped.title.skip);
        let outcome = match skip {
            Some(why) => Err(why),
            None => match play(shipped.text, &name, &out, arguments.quiet, &stop) {
                Err(Failure::Interrupted) => return Err(Failure::Interrupted),
                Err(failure) => {
                    green = false;
                    Err(failure.words())
                }
                Ok(card) => {
                    green &= card.green;
                    Ok(card)
                }
            },
        };
        cards.push((name, outcome));
    }
    if arguments.json {
        let outcomes: Vec<Outcome> = cards.into_iter().map(outcome).collect();
        output::print(&format!("{}\n", serde_json::to_string_pretty(&outcomes).context("scorecards")?));
    } else {
        let lines = overview(&cards).join("\n");
        output::print(&format!("{lines}\nResults in {}\n", out.display()));
    }
    if green { Ok(()) } else { Err(Failure::NotGreen) }
}

fn play(text: &str, name: &str, out: &Path, quiet: bool, stop: &launch::Stop) -> Result<Scorecard, Failure> {
    let scenario = Scenario::parse(text).map_err(Failure::Usage)?;
    if !quiet {
        output::tell(&format!("\n{name}: {}", scenario.description));
    }
    let Played { report, .. } = play_one(&scenario, Some(out.join(name)), quiet, stop)?;
    report.scorecard.context("a scenario without a scorecard").map_err(Failure::Failed)
}

fn play_one(scenario: &Scenario, out: Option<PathBuf>, quiet: bool, stop: &launch::Stop) -> Result<Played, Failure> {
    launch::play(&run_of(scenario, out), Some(scenario), launch::console(quiet), stop)
}

/// The run that a scenario happens to.
fn run_of(scenario: &Scenario, out: Option<PathBuf>) -> RunArgs {
    let allow_too_many_faults = scenario.beyond_f;
    RunArgs {
        options: scenario.options.clone(),
        out,
        json: false,
        quiet: false,
        tui: false,
        metrics: None,
        config: None,
        allow_too_many_faults,
    }
}

fn outcome((scenario, outcome): (String, Result<Scorecard, String>)) -> Outcome {
    match outcome {
        Ok(card) => Outcome { scenario, scorecard: Some(card), not_played: None },
        Err(why) => Outcome { scenario, scorecard: None, not_played: Some(why) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_beyond_f_may_be_played() {
        let head = "name = \"x\"\ndescription = \"y\"\n";
        let events =
            ["0", "1"].map(|id| format!("[[at]]\ns = 0\nbyzantine = {{ replica = {id}, kind = \"silent\" }}\n"));
        let scenario = Scenario::parse(&format!("{head}beyond_f = true\n{}", events.concat())).unwrap();
        let run = run_of(&scenario, None);
        assert!(run.allow_too_many_faults);
        assert_eq!(run.options.byzantine.unwrap().to_string(), "0:silent,1:silent");
        assert!(!run_of(&Scenario::parse(head).unwrap(), None).allow_too_many_faults);
    }
}
