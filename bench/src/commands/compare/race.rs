//! Runs that are made now: rounds of one run of every side, in random order.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context as _, anyhow};
use hippodrome_analysis::comparison::{Run, Side, compare, side_name};
use hippodrome_analysis::{latency, results};
use serde_json::{Map, Value, json};

use super::{check, conclude, question, write};
use crate::cli::compare::CompareArgs;
use crate::experiment::foreign::Binary;
use crate::experiment::journal::Journal;
use crate::experiment::plan::{Plan, Slot, circumstances};
use crate::experiment::point::{Point, Setting};
use crate::experiment::progress::{Overhead, Progress};
use crate::experiment::trial::Trial;
use crate::failure::Failure;
use crate::launch;
use crate::{config, output};

/// Sides that can be raced.
struct Race {
    plan: Plan,
    /// What all sides have, as it was given.
    base: Vec<Setting>,
    /// Who makes the runs of each side, if somebody else does.
    binaries: Vec<Option<Binary>>,
    /// This binary and the machine.
    circumstances: Map<String, Value>,
}

/// Races the sides, or goes on with it, and compares them.
pub(super) fn run(arguments: &CompareArgs) -> Result<(), Failure> {
    let directory = launch::results_directory(arguments.out.as_deref());
    // Whatever can not be used is told before anything is made.
    let race = Race::new(arguments, &Journal::look(&directory)?)?;
    if arguments.dry_run {
        output::print(&race.foretell());
        return Ok(());
    }
    let stop = launch::Stop::on_signals()?;
    let journal = Journal::lock(&directory)?;
    let played = race.play(&journal, arguments.quiet, &stop);
    if let Err(Failure::Interrupted) = played {
        output::tell(&format!("go on where it was by the same command with --out {}", directory.display()));
    }
    let trials = played?;
    let (sides, failed) = race.sides(&journal, &trials);
    check(&sides, &failed)?;
    let comparison = compare(&sides, &question(arguments, failed));
    write(&directory, &comparison)?;
    conclude(&comparison, Some(&directory), arguments.json)
}

impl Race {
    /// # Errors
    /// If a side's settings or binary can not be used, or the directory holds something else.
    fn new(arguments: &CompareArgs, journal: &Journal) -> Result<Self, Failure> {
        let sides = arguments.sides();
        if sides.is_empty() {
            return Err(Failure::Usage(anyhow!(
                "nothing to compare: allowed: two or more RESULTS, or --a KEY=VALUE, --b KEY=VALUE and so on, or --b-binary"
            )));
        }
        let mut base = Vec::new();
        if let Some(path) = &arguments.config {
            base = config::settings_of(path).map_err(Failure::Usage)?;
        }
        base.extend(arguments.given.0.iter().cloned());
        let point = |(index, side): (usize, &&[String])| -> anyhow::Result<Point> {
            let name = side_name(index);
            let settings = side.iter().map(|text| setting(text)).collect::<anyhow::Result<Vec<Setting>>>();
            let point = settings.and_then(|settings| Point::new(&base, settings, Vec::new()));
            point.with_context(|| format!("side {name}"))
        };
        let points: Vec<Point> =
            sides.iter().enumerate().map(point).collect::<anyhow::Result<_>>().map_err(Failure::Usage)?;
        let binary = |option: &str, path: Option<&PathBuf>| path.map(|path| Binary::new(option, path)).transpose();
        let (a, b) = (arguments.a_binary.as_ref(), arguments.b_binary.as_ref());
        let mut binaries = vec![binary("a-binary", a)?, binary("b-binary", b)?];
        binaries.resize_with(points.len(), || None);
        // A comparison that goes on has the order that it began with.
        let begun = journal.plan()?.and_then(|plan| plan.get("seed").and_then(Value::as_u64));
        // TOML's integers have a sign.
        let seed = arguments.order_seed.or(begun).unwrap_or_else(|| rand::random::<u64>() >> 1);
        let plan = Plan::new(points, arguments.pairs, seed);
        let race = Self { plan, base, binaries, circumstances: circumstances()? };
        journal.check(&race.document())?;
        Ok(race)
    }

    /// `plan.json`: what must be the same for a comparison to go on.
    fn document(&self) -> Value {
        let sides = self.plan.points.iter().zip(&self.binaries).enumerate().map(|(index, (point, binary))| {
            json!({
                "name": side_name(index),
                "settings": point.label(),
                "binary": binary.as_ref().map(|binary| json!({ "version": binary.version(), "digest": binary.digest() })),
                "options": serde_json::to_value(&point.options).unwrap_or_default(),
            })
        });
        json!({
            "schema": "hippodrome/plan/1",
            "command": "compare",
            "build": self.circumstances["build"],
            "machine": self.circumstances["machine"],
            "sides": sides.collect::<Vec<_>>(),
            "repeats": self.plan.repeats,
            "seed": self.plan.seed,
            "runs": self.plan.slots.iter().map(|slot| self.plan.name(*slot)).collect::<Vec<_>>(),
        })
    }

    /// What would run.
    fn foretell(&self) -> String {
        let load_s = |slot: &Slot| self.plan.points[slot.point].load_s();
        let loads: Vec<f64> = self.plan.slots.iter().map(load_s).collect();
        let progress = Progress::new(&loads, 0, Overhead::default(), true);
        let left = humantime::format_duration(std::time::Duration::from_secs(progress.left().as_secs()));
        let labels = (0..self.plan.points.len()).map(|side| format!("{}  {}\n", side_name(side), self.label(side)));
        let (runs, rounds) = (self.plan.slots.len(), self.plan.repeats);
        format!("{}{rounds} rounds, {runs} runs, about {left}\n", labels.collect::<String>())
    }

    /// What a side is, in words.
    fn label(&self, side: usize) -> String {
        let settings = self.plan.points[side].label();
        match &self.binaries[side] {
            None => settings,
            Some(binary) if self.plan.points[side].settings.is_empty() => binary.version().to_owned(),
            Some(binary) => format!("{settings} ({})", binary.version()),
        }
    }

    /// Plays what is not done yet; all runs in their order.
    fn play(&self, journal: &Journal, quiet: bool, stop: &launch::Stop) -> Result<Vec<(Slot, Trial)>, Failure> {
        journal.begin(&self.document())?;
        let is_done = |slot: &&Slot| journal.done(&self.plan.name(**slot)).is_some();
        let done = self.plan.slots.iter().filter(is_done).count();
        let to_play = self.plan.slots.iter().filter(|slot| !is_done(slot));
        let loads: Vec<f64> = to_play.map(|slot| self.plan.points[slot.point].load_s()).collect();
        let progress = Rc::new(Progress::new(&loads, done, Overhead::default(), quiet));
        let left = humantime::format_duration(std::time::Duration::from_secs(progress.left().as_secs()));
        let (rounds, place) = (self.plan.repeats, journal.directory().display());
        for side in 0..self.plan.points.len() {
            progress.line(&format!("{}  {}", side_name(side), self.label(side)));
        }
        progress.line(&format!("{rounds} rounds, {} runs to make, about {left}; results in {place}", loads.len()));
        let mut trials = Vec::new();
        for slot in &self.plan.slots {
            let name = self.plan.name(*slot);
            if let Some(trial) = journal.done(&name) {
                trials.push((*slot, trial));
                continue;
            }
            let point = &self.plan.points[slot.point];
            progress.starts(&format!("{} r{}", side_name(slot.point), slot.repeat), point.load_s());
            let trial = self.play_one(journal, *slot, &name, &progress, stop).inspect_err(|_| progress.finish())?;
            progress.ended(&trial);
            trials.push((*slot, trial));
        }
        progress.finish();
        Ok(trials)
    }

    fn play_one(
        &self,
        journal: &Journal,
        slot: Slot,
        name: &str,
        progress: &Rc<Progress>,
        stop: &launch::Stop,
    ) -> Result<Trial, Failure> {
        let options = self.plan.options(slot);
        let Some(binary) = &self.binaries[slot.point] else {
            let audience: Rc<dyn launch::Audience> = progress.clone();
            return journal.play(name, &options, audience, stop);
        };
        let seed = options.load.seed.map(|seed| Setting { key: "seed".into(), value: seed.to_string() });
        let settings = self.base.iter().chain(&self.plan.points[slot.point].settings).cloned().chain(seed);
        journal.play_by(name, |directory| binary.run(&settings.collect::<Vec<_>>(), directory, stop))
    }

    /// The runs by their sides, and those that could not be played, in words.
    fn sides(&self, journal: &Journal, trials: &[(Slot, Trial)]) -> (Vec<Side>, Vec<String>) {
        let mut sides: Vec<Side> =
            (0..self.plan.points.len()).map(|side| Side { label: self.label(side), runs: Vec::new() }).collect();
        let mut failed = Vec::new();
        for (slot, trial) in trials {
            let directory = journal.directory().join(Journal::relative(&self.plan.name(*slot)));
            match &trial.report {
                Some(report) => sides[slot.point].runs.push(Run {
                    latencies: latencies(&directory),
                    directory: directory.display().to_string(),
                    report: report.clone(),
                    round: Some(slot.repeat),
                }),
                None => {
                    let why = trial.reasons.first().and_then(|reason| reason.lines().next()).unwrap_or_default();
                    failed.push(format!(
                        "{} (a run of {}) could not be played: {why}",
                        directory.display(),
                        side_name(slot.point)
                    ));
                }
            }
        }
        (sides, failed)
    }
}

fn latencies(directory: &Path) -> Option<latency::Latencies> {
    let log = std::fs::read(directory.join(results::LATENCY)).ok()?;
    latency::merge([log.as_slice()]).ok()
}

/// `KEY=VALUE`.
fn setting(text: &str) -> anyhow::Result<Setting> {
    let (key, value) = text.split_once('=').ok_or_else(|| anyhow!("'{text}': allowed: KEY=VALUE"))?;
    Setting::new(key.trim(), value.trim())
}
