//! The launcher of `hippodrome run` and `stress`: a whole cluster and its load as processes on this machine.
//!
//! In the order of a run: [setup] (directory, keys, ports; how many threads the load generator has, by [generator]),
//! [audience] (who is told how it goes), [fleet] (replicas: start, watch, stop), [drive] (the load generator, second by
//! second, and how busy [stages] were meanwhile) beside [hostile] clients, [collect] (what replicas say when it has
//! ended), [attribute] (where the time of operations went), [assemble] (evidence, verdict, report). Beside the load
//! [timeline] plays a scenario, by [faults] (what can be done to replicas), [links] (and to what is between them) and
//! [watcher] (the replicas' views). They stand on [process] (children that never outlive us) and [machine] (what the
//! kernel tells).

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use hippodrome_analysis::report::Report;
use hippodrome_analysis::scorecard::Timeline;
use hippodrome_analysis::{results, series};

use crate::cli::run::RunArgs;
use crate::failure::Failure;
use crate::scenario::Scenario;
use crate::tui::Screen;
use crate::{output, roofline, signals, traffic};

mod assemble;
mod attribute;
mod audience;
mod collect;
mod drive;
mod faults;
mod fleet;
mod generator;
mod hostile;
mod links;
mod machine;
mod process;
mod setup;
mod stages;
mod timeline;
mod watcher;

pub(crate) use audience::{Audience, console};
pub(crate) use generator::Generator;
pub(crate) use machine::{MachineTime, environment, kibibytes};
pub(crate) use setup::{check, results_directory};

/// Set by Ctrl-C and SIGTERM; looked at wherever the launcher waits.
#[derive(Clone)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// From now on.
    ///
    /// # Errors
    /// If signals can not be handled.
    pub(crate) fn on_signals() -> anyhow::Result<Self> {
        Ok(Self(signals::stop_flag()?))
    }

    /// Asks for it, as a signal would.
    pub(crate) fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// # Errors
    /// If the run has been interrupted. Children are killed as their guards are dropped on the way out.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.0.load(Ordering::Relaxed) { Err(Failure::Interrupted) } else { Ok(()) }
    }
}

/// A run that has ended.
pub(crate) struct Played {
    /// Its outcome.
    pub(crate) report: Report,
    /// Where its files lie.
    pub(crate) directory: PathBuf,
}

/// Runs a cluster with its load, judges the outcome and writes the results directory.
pub(crate) fn run(arguments: &RunArgs) -> Result<(), Failure> {
    let stop = Stop::on_signals()?;
    let Played { report, directory } = if arguments.tui {
        on_screen(arguments, &stop)?
    } else {
        play(arguments, None, console(arguments.quiet), &stop)?
    };
    output::verdict(&report, &directory.display().to_string(), arguments.json)
}

/// Runs it with a dashboard on the terminal. What happened is told when the terminal has been given back.
fn on_screen(arguments: &RunArgs, stop: &Stop) -> Result<Played, Failure> {
    // Said before the terminal is taken over.
    check(&arguments.options, arguments.allow_too_many_faults)?;
    let screen = Rc::new(Screen::open(&arguments.options, stop.clone())?);
    let played = play(arguments, None, screen.clone(), stop);
    screen.close().iter().for_each(|event| output::tell(event));
    played
}

/// The same, with a scenario beside the load if there is one, and without printing the report.
///
/// # Errors
/// Whatever keeps the run from being played; what the cluster does wrong is in the report instead.
pub(crate) fn play(
    arguments: &RunArgs,
    scenario: Option<&Scenario>,
    audience: Rc<dyn Audience>,
    stop: &Stop,
) -> Result<Played, Failure> {
    let setup = setup::Setup::prepare(arguments)?;
    audience.begins(setup.options.replicas, &setup.directory);
    let (mut setup, mut fleet) = fleet::Fleet::start(setup, audience, stop)?;
    let events = scenario.map(|scenario| scenario.events.as_slice());
    let hostiles = hostile::Hostiles::start(&setup, stop)?;
    let driven = drive::drive(&mut setup, &mut fleet, events, stop)?;
    fleet.end_hostilities(hostiles);
    fleet.await_starting(stop)?;
    let answers = collect::collect(&mut fleet, stop)?;
    fleet.stop(stop)?;
    let followed = attribute::followed(&setup, &answers);
    fleet.notes.extend(followed.note.clone());
    let mut report = assemble::report(&setup, scenario, &driven, (&answers, &followed), &fleet);
    if scenario.is_none() {
        compare_with_expectations(&setup, &mut report);
    }
    write(&setup, &driven, &report)?;
    attribute::write(&setup, &followed).context("attribution")?;
    if let Some(scenario) = scenario {
        write_scenario(&setup, scenario, &driven)?;
    }
    // Of the other files, all of which are written by now.
    output::write_page(&setup.directory)?;
    Ok(Played { report, directory: setup.directory.clone() })
}

/// What the machine needs at least and what the protocol must send: of runs that nothing disturbs on purpose.
fn compare_with_expectations(setup: &setup::Setup, report: &mut Report) {
    match roofline::of_run(&setup.options, report) {
        Ok(efficiency) => report.efficiency = efficiency,
        Err(error) => report.audit.notes.push(format!("the floor of this machine could not be measured: {error:#}")),
    }
    match traffic::of_run(&setup.options, report) {
        Ok(traffic) => report.traffic = traffic,
        Err(error) => report.audit.notes.push(format!("what replicas must send could not be counted: {error:#}")),
    }
}

/// Writes what the processes have not written themselves.
fn write(setup: &setup::Setup, driven: &drive::Driven, report: &Report) -> Result<(), Failure> {
    let directory = &setup.directory;
    results::write(directory, results::SERIES, &series::to_csv(&driven.seconds)).context("series")?;
    results::write(directory, results::REPORT, &results::to_json(report)).context("report")?;
    Ok(())
}

/// Writes what was played, and what its scorecard is drawn from.
fn write_scenario(setup: &setup::Setup, scenario: &Scenario, driven: &drive::Driven) -> Result<(), Failure> {
    let timeline = Timeline {
        per_100ms: driven.load.as_ref().map(|load| load.per_100ms.clone()).unwrap_or_default(),
        views: driven.story.views.clone(),
        faults: driven.story.injected.clone(),
        measured_s: setup.measured_s(),
        f: setup.cluster.quorums().f(),
    };
    let timeline = serde_json::to_string(&timeline).context("timeline")?;
    results::write(&setup.directory, results::SCENARIO, &scenario.text).context("scenario")?;
    results::write(&setup.directory, results::TIMELINE, &format!("{timeline}\n")).context("timeline")?;
    Ok(())
}
