//! One run of an experiment, and what came of it. A run that could not be played is a result, too.

use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use anyhow::Context as _;
use hippodrome_analysis::report::Report;
use hippodrome_analysis::results;
use hippodrome_analysis::sweep::State;
use serde::{Deserialize, Serialize};

use crate::cli::run::{RunArgs, RunOptions};
use crate::failure::Failure;
use crate::launch::{self, Audience, Played, Stop};

/// What came of a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Trial {
    /// Whether its figures may be used.
    pub(crate) state: State,
    /// Why not.
    pub(crate) reasons: Vec<String>,
    /// Its report; none if it could not be played.
    pub(crate) report: Option<Report>,
    /// How long it took in all, s; `None` if nobody wrote it down.
    pub(crate) wall_s: Option<f64>,
}

/// `trial.json`: what a run's report does not tell.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    state: State,
    reasons: Vec<String>,
    wall_s: f64,
}

/// Plays a run and writes its results directory, which must be empty or new.
///
/// What replicas keep on disk (`--durability wal`) is removed if the run is VALID: the many runs of an experiment would
/// fill it.
///
/// # Errors
/// If interrupted, or if nothing can be written.
pub(crate) fn run(
    options: &RunOptions,
    directory: &Path,
    audience: Rc<dyn Audience>,
    stop: &Stop,
) -> Result<Trial, Failure> {
    let started = Instant::now();
    let out = Some(directory.to_owned());
    let arguments = RunArgs {
        options: options.clone(),
        out,
        json: false,
        quiet: false,
        tui: false,
        metrics: None,
        config: None,
        allow_too_many_faults: false,
    };
    let trial = match launch::play(&arguments, None, audience, stop) {
        Err(Failure::Interrupted) => return Err(Failure::Interrupted),
        Err(failure) => failed(failure.words()),
        Ok(Played { report, .. }) => judged(report),
    };
    finish(trial, directory, started)
}

/// What came of a run that could not be played.
pub(super) fn failed(why: String) -> Trial {
    Trial { state: State::Failed, reasons: vec![why], report: None, wall_s: None }
}

/// Tidies up after a run, and writes down what its report does not tell.
///
/// # Errors
/// If nothing can be written.
pub(super) fn finish(trial: Trial, directory: &Path, started: Instant) -> Result<Trial, Failure> {
    let wall_s = started.elapsed().as_secs_f64();
    if let Some(report) = trial.report.as_ref().filter(|_| trial.state == State::Valid) {
        for id in 0..report.replicas.len() {
            // What is not there need not be removed; what can not be is only in the way.
            let _ = std::fs::remove_dir_all(directory.join(format!("replica-{id}")));
        }
    }
    std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    let note = Note { state: trial.state, reasons: trial.reasons.clone(), wall_s };
    let text = serde_json::to_string_pretty(&note).context(results::TRIAL)?;
    results::write(directory, results::TRIAL, &format!("{text}\n")).context("run of an experiment")?;
    Ok(Trial { wall_s: Some(wall_s), ..trial })
}

/// What came of the run in a directory; `None` if it did not come to its end.
pub(crate) fn read(directory: &Path) -> Option<Trial> {
    let note = std::fs::read_to_string(directory.join(results::TRIAL)).ok();
    let note = note.and_then(|text| serde_json::from_str::<Note>(&text).ok());
    match (results::read_report(directory), note) {
        // The report is written last and at once: with it the run is whole, whoever was killed right after it.
        (Ok(report), note) => Some(Trial { wall_s: note.map(|note| note.wall_s), ..judged(report) }),
        (Err(_), Some(Note { state: State::Failed, reasons, wall_s })) => {
            Some(Trial { state: State::Failed, reasons, report: None, wall_s: Some(wall_s) })
        }
        (Err(_), _) => None,
    }
}

fn judged(report: Report) -> Trial {
    let state = if report.verdict.valid { State::Valid } else { State::Invalid };
    Trial { state, reasons: report.verdict.reasons.clone(), report: Some(report), wall_s: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hippodrome_analysis::report::{SCHEMA, Verdict};

    #[test]
    fn what_has_a_report_is_done_and_what_failed_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert_eq!(read(&path.join("none")), None);
        results::write(path, results::TRIAL, r#"{"state":"invalid","reasons":[],"wall_s":3.5}"#).unwrap();
        assert_eq!(read(path), None, "its report is gone");
        let verdict = Verdict { valid: false, reasons: vec!["it was slow".into()] };
        let report = Report { schema: SCHEMA.into(), verdict, ..Report::default() };
        results::write(path, results::REPORT, &results::to_json(&report)).unwrap();
        let trial = read(path).unwrap();
        assert_eq!((trial.state, trial.wall_s), (State::Invalid, Some(3.5)));
        assert_eq!(trial.reasons, ["it was slow"]);
        std::fs::remove_file(path.join(results::TRIAL)).unwrap();
        assert_eq!(read(path).unwrap(), Trial { wall_s: None, ..trial });
        results::write(path, results::REPORT, "{\"schema\":").unwrap();
        assert_eq!(read(path), None, "half a report is none");
        results::write(path, results::TRIAL, r#"{"state":"failed","reasons":["no port"],"wall_s":0.1}"#).unwrap();
        assert_eq!(read(path).unwrap().reasons, ["no port"]);
    }
}
