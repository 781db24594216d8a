//! `hippodrome sweep`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use hippodrome_analysis::results;
use hippodrome_analysis::sweep::{self, Figures, Run, Summary, Sweep, scaling};
use serde_json::{Map, Value, json};

use crate::cli::sweep::SweepArgs;
use crate::experiment::file::{Experiment, resolved_base, vary_arguments};
use crate::experiment::journal::Journal;
use crate::experiment::plan::{Plan, Slot, circumstances};
use crate::experiment::progress::{OVERHEAD_S, Overhead, Progress};
use crate::experiment::shipped;
use crate::experiment::trial::Trial;
use crate::failure::Failure;
use crate::launch::{self, environment};
use crate::{config, output};

/// Runs a sweep, tells what it would run, or lists the experiments that come with the binary.
pub(crate) fn run(arguments: &SweepArgs) -> Result<(), Failure> {
    if arguments.list {
        return list();
    }
    let experiment = experiment(arguments).map_err(Failure::Usage)?;
    let directory = launch::results_directory(arguments.out.as_deref());
    if arguments.dry_run {
        let journal = Journal::look(&directory)?;
        let sweeping = Sweeping::new(arguments, experiment, &journal)?;
        output::print(&sweeping.foretell(&journal, arguments.out.as_deref()));
        return Ok(());
    }
    // Whatever can not be used is told before anything is made.
    let sweeping = Sweeping::new(arguments, experiment, &Journal::look(&directory)?)?;
    let stop = launch::Stop::on_signals()?;
    let journal = Journal::lock(&directory)?;
    let played = sweeping.play(&journal, arguments.quiet, &stop);
    if let Err(Failure::Interrupted) = played {
        let out = directory.display();
        output::tell(&format!("go on where it was by the same command with --out {out}"));
    }
    output::sweep(&played?, &directory, arguments.json)
}

fn list() -> Result<(), Failure> {
    let mut text = String::new();
    for experiment in shipped::all()? {
        let experiment = experiment.on(environment().cores);
        let points = experiment.points()?;
        let one_s: f64 = points.iter().map(|point| point.load_s() + OVERHEAD_S).sum();
        let (runs, minutes) =
            (points.len() as u64 * u64::from(experiment.repeats), one_s * f64::from(experiment.repeats) / 60.0);
        let _ = writeln!(text, "{:<14}{runs:>4} runs, {minutes:>2.0} min  {}", experiment.name, experiment.question);
    }
    output::print(&text);
    Ok(())
}

/// The experiment that the arguments ask for.
fn experiment(arguments: &SweepArgs) -> anyhow::Result<Experiment> {
    let mut experiment = match arguments.experiment.as_deref() {
        None => Experiment::unnamed(),
        Some(name) if Path::new(name).extension().is_some_and(|extension| extension == "toml") => {
            Experiment::read(&PathBuf::from(name))?
        }
        Some(name) => Experiment::parse(shipped::text(name)?)?,
    };
    for varied in vary_arguments(&arguments.vary)? {
        experiment.vary(varied)?;
    }
    if let Some(path) = &arguments.config {
        let common = config::settings_of(path)?;
        experiment.set_where_free(common).with_context(|| path.display().to_string())?;
    }
    experiment.set(&arguments.given.0)?;
    experiment.repeats = arguments.repeats.unwrap_or(experiment.repeats);
    Ok(experiment.on(environment().cores))
}

/// A sweep that can be played.
struct Sweeping {
    experiment: Experiment,
    plan: Plan,
    /// What all points have in common, resolved.
    base: Value,
    /// The binary and the machine.
    circumstances: Map<String, Value>,
}

impl Sweeping {
    /// # Errors
    /// If a point can not be used, or the directory holds another sweep.
    fn new(arguments: &SweepArgs, experiment: Experiment, journal: &Journal) -> Result<Self, Failure> {
        let points = experiment.points().map_err(Failure::Usage)?;
        // A sweep that goes on has the order that it began with.
        let begun = journal.plan()?.and_then(|plan| plan.get("seed").and_then(Value::as_u64));
        // TOML's integers have a sign.
        let seed = arguments.order_seed.or(begun).unwrap_or_else(|| rand::random::<u64>() >> 1);
        let base = resolved_base(&experiment).map_err(Failure::Usage)?;
        let plan = Plan::new(points, experiment.repeats, seed);
        let sweeping = Self { plan, experiment, base, circumstances: circumstances()? };
        journal.check(&sweeping.document())?;
        Ok(sweeping)
    }

    /// `plan.json`: what must be the same for a sweep to go on.
    fn document(&self) -> Value {
        let adjusted = self.plan.points.iter().map(|point| {
            let set = point.adjusted.iter().map(|setting| (setting.key.clone(), setting.value.clone().into()));
            (point.label(), Value::Object(set.collect()))
        });
        json!({
            "schema": "hippodrome/plan/1",
            "command": "sweep",
            "name": self.experiment.name,
            "build": self.circumstances["build"],
            "machine": self.circumstances["machine"],
            "base": self.base,
            "points": Value::Object(adjusted.collect()),
            "repeats": self.plan.repeats,
            "seed": self.plan.seed,
            "runs": self.plan.slots.iter().map(|slot| self.plan.name(*slot)).collect::<Vec<_>>(),
        })
    }

    /// Plays what is not done yet.
    fn play(&self, journal: &Journal, quiet: bool, stop: &launch::Stop) -> Result<Sweep, Failure> {
        journal.begin(&self.document())?;
        let mut outcome = self.empty();
        let (mut to_play, mut overhead) = (Vec::new(), Overhead::default());
        for slot in &self.plan.slots {
            match journal.done(&self.plan.name(*slot)) {
                Some(trial) => {
                    self.measure(*slot, &trial, &mut overhead);
                    self.enter(&mut outcome, *slot, &trial);
                }
                None => to_play.push(*slot),
            }
        }
        let (all, done) = (self.plan.slots.len(), self.plan.slots.len() - to_play.len());
        let place = journal.directory().display();
        let before = if done == 0 { String::new() } else { format!(", {done} of them done before") };
        let loads: Vec<f64> = to_play.iter().map(|slot| self.plan.points[slot.point].load_s()).collect();
        let progress = Rc::new(Progress::new(&loads, done, overhead, quiet));
        progress.line(&format!(
            "{}: {all} runs{before}; about {}; results in {place}",
            self.size(),
            whole(progress.left())
        ));
        write(journal.directory(), &outcome)?;
        for slot in to_play {
            let point = &self.plan.points[slot.point];
            progress.starts(&format!("{} r{}", point.label(), slot.repeat), point.load_s());
            let audience: Rc<dyn launch::Audience> = progress.clone();
            let trial = journal.play(&self.plan.name(slot), &self.plan.options(slot), audience, stop);
            let trial = trial.inspect_err(|_| progress.finish())?;
            progress.ended(&trial);
            self.enter(&mut outcome, slot, &trial);
            write(journal.directory(), &outcome)?;
        }
        progress.finish();
        Ok(outcome)
    }

    /// Without any run.
    fn empty(&self) -> Sweep {
        let typed = |settings: &[crate::experiment::point::Setting]| {
            settings.iter().map(|setting| (setting.key.clone(), setting.value.clone())).collect()
        };
        let points = self.plan.points.iter().map(|point| sweep::Point {
            settings: typed(&point.settings),
            adjusted: typed(&point.adjusted),
            ..sweep::Point::default()
        });
        Sweep {
            schema: sweep::SCHEMA.into(),
            name: self.experiment.name.clone(),
            description: self.experiment.description.clone(),
            question: self.experiment.question.clone(),
            base: self.base.clone(),
            given: typed(&self.experiment.base),
            varied: self.experiment.varied(),
            excluded: self.experiment.excluded(),
            repeats: self.plan.repeats,
            seed: self.plan.seed,
            environment: environment(),
            complete: false,
            runs_planned: self.plan.slots.len() as u64,
            runs_done: 0,
            points: points.collect(),
            scaling: Vec::new(),
        }
    }

    /// Notes what came of a run.
    fn enter(&self, outcome: &mut Sweep, slot: Slot, trial: &Trial) {
        let known = outcome.runs().any(|(_, run)| run.figures.is_some());
        if let Some(report) = trial.report.as_ref().filter(|_| !known) {
            outcome.environment = report.environment.clone();
        }
        let point = &mut outcome.points[slot.point];
        point.runs.push(Run {
            repeat: slot.repeat,
            order: slot.order,
            directory: Journal::relative(&self.plan.name(slot)),
            state: trial.state,
            reasons: trial.reasons.clone(),
            wall_s: trial.wall_s,
            figures: trial.report.as_ref().map(Figures::of),
        });
        point.runs.sort_by_key(|run| run.repeat);
        point.summary = Summary::of(&point.runs);
        outcome.runs_done += 1;
        outcome.complete = outcome.runs_done == outcome.runs_planned;
        outcome.scaling = scaling::curves(outcome);
    }

    fn measure(&self, slot: Slot, trial: &Trial, overhead: &mut Overhead) {
        if let (Some(wall_s), Some(_)) = (trial.wall_s, &trial.report) {
            overhead.measured(self.plan.points[slot.point].load_s(), wall_s);
        }
    }

    /// `auth-x-batch: 20 points, 3 runs of each`.
    fn size(&self) -> String {
        let (points, repeats) = (self.plan.points.len(), self.plan.repeats);
        let runs = if repeats == 1 { "run" } else { "runs" };
        format!("{}: {points} points, {repeats} {runs} of each", self.experiment.name)
    }

    /// What would run, in which order, how long it takes, what is done.
    fn foretell(&self, journal: &Journal, out: Option<&Path>) -> String {
        let (mut rows, mut overhead) = (String::new(), Overhead::default());
        let (mut left, mut left_s, mut load_s) = (0_u32, 0.0, 0.0);
        for slot in &self.plan.slots {
            let name = self.plan.name(*slot);
            let point = &self.plan.points[slot.point];
            let state = match journal.done(&name) {
                Some(trial) => {
                    self.measure(*slot, &trial, &mut overhead);
                    format!("done, {}", trial.state.shown())
                }
                None => {
                    left += 1;
                    left_s += point.load_s();
                    "to run".to_owned()
                }
            };
            load_s += point.load_s();
            let adjusted = point.adjusted.iter().map(|setting| format!(" {setting}")).collect::<String>();
            let besides = if adjusted.is_empty() { String::new() } else { format!("  (with{adjusted})") };
            let _ = writeln!(rows, "{:>5}  {state:<14}{}{besides}", slot.order, point.label());
        }
        let (all, one_s) = (self.plan.slots.len(), overhead.seconds());
        #[allow(clippy::cast_precision_loss, reason = "no sweep has 2^53 runs")]
        let all_s = load_s + one_s * all as f64;
        let place = out.map_or_else(|| "a new directory".to_owned(), |out| out.display().to_string());
        let seed = self.plan.seed;
        let seed = match journal.plan() {
            Ok(Some(_)) => format!("seed {seed}"),
            _ => format!("for example with seed {seed}: --order-seed chooses it"),
        };
        let mut text = format!("{}, in this order ({seed}):\n", self.size());
        text.push_str(&rows);
        for excluded in self.experiment.excluded() {
            let settings: Vec<String> = excluded.settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let _ = writeln!(text, "left out: {}: {}", settings.join(" "), excluded.reason);
        }
        let _ = writeln!(
            text,
            "{all} runs, about {} in all (the load, and {one_s:.1} s beyond it each); {left} to run, about {}; results in {place}",
            whole(Duration::from_secs_f64(all_s)),
            whole(Duration::from_secs_f64(left_s + one_s * f64::from(left)))
        );
        text
    }
}

/// Writes what is known so far.
fn write(directory: &Path, outcome: &Sweep) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(outcome).context(results::SWEEP)?;
    let files = [
        (results::SWEEP_CSV, sweep::to_csv(outcome)),
        (results::SWEEP_MARKDOWN, sweep::to_markdown(outcome)),
        (results::SWEEP, format!("{json}\n")),
    ];
    for (name, text) in files {
        results::write(directory, name, &text).context("results of the sweep")?;
    }
    output::write_page(directory)
}

/// In whole seconds.
fn whole(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(time.as_secs()))
}
