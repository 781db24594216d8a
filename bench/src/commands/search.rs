//! `hippodrome search`.

use std::path::Path;
use std::rc::Rc;

use anyhow::{Context as _, anyhow};
use hippodrome_analysis::report::Report;
use hippodrome_analysis::search::limit::{Found, LimitSearch, Phase, Step};
use hippodrome_analysis::search::objective::{Judgement, judge};
use hippodrome_analysis::search::{Answer, Run, SCHEMA, Search, text};
use hippodrome_analysis::{latency, results};
use serde_json::{Value, json};

use crate::cli::search::SearchArgs;
use crate::experiment::journal::Journal;
use crate::experiment::plan::circumstances;
use crate::experiment::point::{Point, Setting};
use crate::experiment::progress::{Overhead, Progress};
use crate::experiment::trial::Trial;
use crate::failure::Failure;
use crate::launch::{self, environment};
use crate::{config, output};

/// How far above the limit the curve goes: there it bends.
const CURVE_TO: f64 = 1.05;

/// Searches, or goes on with it.
pub(crate) fn run(arguments: &SearchArgs) -> Result<(), Failure> {
    let base = base(arguments).map_err(Failure::Usage)?;
    let directory = launch::results_directory(arguments.out.as_deref());
    let plan = document(arguments, &base)?;
    // Whatever can not be used is told before anything is made.
    Journal::look(&directory)?.check(&plan)?;
    let stop = launch::Stop::on_signals()?;
    let journal = Journal::lock(&directory)?;
    journal.begin(&plan)?;
    let searched = Searching::new(arguments, base, &journal, &stop).search();
    if let Err(Failure::Interrupted) = searched {
        output::tell(&format!("go on where it was by the same command with --out {}", directory.display()));
    }
    conclude(&searched?, &directory, arguments.json)
}

/// Prints what was found, and ends as it says.
pub(super) fn conclude(search: &Search, directory: &Path, json: bool) -> Result<(), Failure> {
    if json {
        output::print(&as_json(search)?);
    } else {
        output::print(&format!("{}Results in {}\n", text(search), directory.display()));
    }
    match search.answer() {
        Answer::Found => Ok(()),
        Answer::NoRate => Err(Failure::Missed),
        Answer::Inconclusive => Err(Failure::Inconclusive),
    }
}

/// The options that all runs have, without a rate.
fn base(arguments: &SearchArgs) -> anyhow::Result<Vec<Setting>> {
    let mut base = arguments.config.as_ref().map_or_else(|| Ok(Vec::new()), |path| config::settings_of(path))?;
    base.extend(arguments.given.0.iter().cloned());
    if let Some(Setting { value, .. }) = base.iter().find(|setting| setting.key == "rate") {
        return Err(anyhow!("rate = {value}: allowed: none, for it is what is searched for"));
    }
    // What does not go together is told now, for an open loop as for the closed one.
    point(&base, Some(1000.0))?;
    point(&base, None)?;
    Ok(base)
}

/// A run at a rate, or the closed loop of the calibration, which has no arrivals.
fn point(base: &[Setting], rate: Option<f64>) -> anyhow::Result<Point> {
    let own: Vec<Setting> = rate.map(|rate| Setting::new("rate", &rate.to_string())).transpose()?.into_iter().collect();
    let kept: Vec<Setting> =
        base.iter().filter(|setting| rate.is_some() || setting.key != "arrivals").cloned().collect();
    Point::new(&kept, own, Vec::new())
}

/// `plan.json`: what must be the same for a search to go on.
fn document(arguments: &SearchArgs, base: &[Setting]) -> anyhow::Result<Value> {
    let circumstances = circumstances()?;
    Ok(json!({
        "schema": "hippodrome/plan/1",
        "command": "search",
        "build": circumstances["build"],
        "machine": circumstances["machine"],
        "base": options(&point(base, None)?),
        "arrivals": base.iter().rfind(|setting| setting.key == "arrivals").map(|setting| &setting.value),
        "objectives": arguments.slo,
        "resolution_percent": arguments.resolution,
        "confirmations": arguments.confirmations,
        "curve": arguments.curve,
        "include_invalid": arguments.include_invalid,
    }))
}

fn options(point: &Point) -> Value {
    serde_json::to_value(&point.options).unwrap_or_default()
}

fn as_json(search: &Search) -> Result<String, Failure> {
    Ok(format!("{}\n", serde_json::to_string_pretty(search).context(results::SEARCH)?))
}

/// How often a run is made again because the load generator failed.
const AGAIN_MAX: usize = 2;

/// A search under way.
struct Searching<'a> {
    arguments: &'a SearchArgs,
    base: Vec<Setting>,
    journal: &'a Journal,
    stop: &'a launch::Stop,
    search: Search,
    overhead: Overhead,
}

impl<'a> Searching<'a> {
    fn new(arguments: &'a SearchArgs, base: Vec<Setting>, journal: &'a Journal, stop: &'a launch::Stop) -> Self {
        let search = Search {
            schema: SCHEMA.into(),
            objectives: arguments.slo.clone(),
            resolution_percent: arguments.resolution,
            confirmations: arguments.confirmations,
            base: point(&base, None).map(|point| options(&point)).unwrap_or_default(),
            environment: environment(),
            ..Search::default()
        };
        Self { arguments, base, journal, stop, search, overhead: Overhead::default() }
    }

    /// What was found.
    fn search(mut self) -> Result<Search, Failure> {
        if !self.arguments.quiet {
            let place = self.journal.directory().display();
            output::tell(&format!("searching for the highest rate; results in {place}"));
        }
        let capacity = self.calibrate()?;
        let resolution = self.arguments.resolution / 100.0;
        let mut limit = LimitSearch::new(capacity, resolution, self.arguments.confirmations);
        let found = loop {
            match limit.next() {
                Step::Done(found) => break found,
                Step::Try(rate, phase) => {
                    let left = limit.runs_left() + self.arguments.curve as usize;
                    let met = self.attempt(rate, phase, left)?;
                    limit.on_outcome(met);
                    self.note(limit.found(), false)?;
                }
            }
        };
        if let Some(confirmed) = found.confirmed {
            let points = self.arguments.curve;
            for point in 1..=points {
                let rate = confirmed.rate * CURVE_TO * f64::from(point) / f64::from(points);
                self.attempt(rate, Phase::Curve, (points - point + 1) as usize)?;
                self.note(found, false)?;
            }
        }
        self.note(found, true)?;
        Ok(self.search)
    }

    /// What a closed loop completes: operations a second.
    fn calibrate(&mut self) -> Result<f64, Failure> {
        let trial = self.play("a closed loop", &point(&self.base, None).map_err(Failure::Usage)?, 20)?;
        let report = self.usable(&trial, "the closed loop that is to say where to look")?;
        let rate = report.throughput.ops_per_s;
        let directory = self.directory();
        self.search.runs.push(Run::new(self.order(), directory, None, report));
        self.search.calibration_ops_per_s = Some(rate);
        if rate > 0.0 { Ok(rate) } else { Err(Failure::Failed(anyhow!("a closed loop completes nothing"))) }
    }

    /// A rate; whether a run met all objectives. One that only the load generator speaks against is made
    /// again; if it fails each time, the rate is out of reach here.
    fn attempt(&mut self, rate: f64, phase: Phase, left: usize) -> Result<bool, Failure> {
        for _ in 0..AGAIN_MAX {
            if let Some(met) = self.attempt_once(rate, phase, left, false)? {
                return Ok(met);
            }
        }
        Ok(self.attempt_once(rate, phase, left, true)?.unwrap_or(false))
    }

    /// One run at a rate; `None` if it is to be made again, which a last one is not.
    fn attempt_once(&mut self, rate: f64, phase: Phase, left: usize, last: bool) -> Result<Option<bool>, Failure> {
        let point = point(&self.base, Some(rate)).map_err(Failure::Usage)?;
        let trial = self.play(&format!("{rate:.0} ops/s"), &point, left)?;
        let what = format!("the run at {rate:.0} ops/s");
        let report = trial.report.as_ref().ok_or_else(|| unusable(&what, &trial.reasons))?;
        let log = std::fs::read(self.journal.directory().join(self.directory()).join(results::LATENCY));
        let intervals = log.ok().and_then(|log| latency::intervals(&log).ok()).unwrap_or_default();
        let judged = judge(report, &intervals, &self.arguments.slo, self.arguments.include_invalid);
        let generator_failed = matches!(judged, Judgement::Disturbed(_));
        let (met, reasons) = match judged {
            Judgement::Met => (Some(true), Vec::new()),
            Judgement::Missed(reasons) => (Some(false), reasons),
            Judgement::Disturbed(reasons) => (last.then_some(false), reasons),
            Judgement::Unusable(reasons) => return Err(unusable(&what, &reasons)),
        };
        let run = Run::new(self.order(), self.directory(), Some((rate, phase)), report);
        self.search.runs.push(Run { met, reasons, generator_failed, ..run });
        Ok(met)
    }

    /// Plays the next run; about `left` are to come, this one included.
    fn play(&mut self, label: &str, point: &Point, left: usize) -> Result<Trial, Failure> {
        let name = self.name();
        match self.journal.done(&name) {
            // What could not be played before may be now.
            Some(Trial { report: None, .. }) => self.journal.set_aside(&name)?,
            Some(trial) => return Ok(trial),
            None => {}
        }
        let loads = vec![point.load_s(); left.max(1)];
        let progress = Rc::new(Progress::new(&loads, self.search.runs.len(), self.overhead, self.arguments.quiet));
        progress.starts(label, point.load_s());
        let audience: Rc<dyn launch::Audience> = progress.clone();
        let options = point.options.clone().resolved();
        let trial = self.journal.play(&name, &options, audience, self.stop).inspect_err(|_| progress.finish())?;
        progress.ended(&trial);
        progress.finish();
        if let Some(wall_s) = trial.wall_s {
            self.overhead.measured(point.load_s(), wall_s);
        }
        Ok(trial)
    }

    fn usable<'t>(&self, trial: &'t Trial, what: &str) -> Result<&'t Report, Failure> {
        let may_use =
            |report: &&Report| report.verdict.valid || self.arguments.include_invalid && report.audit.violations == 0;
        trial.report.as_ref().filter(may_use).ok_or_else(|| unusable(what, &trial.reasons))
    }

    /// The next run's place among all.
    fn order(&self) -> u32 {
        u32::try_from(self.search.runs.len() + 1).unwrap_or(u32::MAX)
    }

    /// Its name: runs come in one order only, as long as they say the same.
    fn name(&self) -> String {
        format!("{:03}", self.order())
    }

    fn directory(&self) -> String {
        Journal::relative(&self.name())
    }

    fn note(&mut self, found: Found, complete: bool) -> Result<(), Failure> {
        self.search.conclude(found);
        self.search.complete = complete;
        write(self.journal.directory(), &self.search)
    }
}

fn write(directory: &Path, search: &Search) -> Result<(), Failure> {
    results::write(directory, results::SEARCH, &as_json(search)?).context("search")?;
    output::write_page(directory)
}

fn unusable(what: &str, reasons: &[String]) -> Failure {
    let why = if reasons.is_empty() { "it has no report".into() } else { reasons.join("; ") };
    Failure::Failed(anyhow!("{what} says nothing of its rate: {why}"))
}
