//! The launcher of `hippodrome run`: a whole cluster and its load as processes on this machine.
//!
//! In the order of a run: [setup] (directory, keys, ports), [fleet] (replicas: start, watch, stop), [drive] (the load
//! generator, second by second) beside [hostile] clients, [collect] (what replicas say when it has ended), [assemble] (evidence, verdict,
//! report). They stand on [process] (children that never outlive us), [control] (asking a replica) and [machine] (what
//! the kernel tells).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use hippodrome_analysis::report::Report;
use hippodrome_analysis::{results, series};

use crate::cli::run::RunArgs;
use crate::failure::Failure;
use crate::{output, signals};

mod assemble;
mod collect;
mod control;
mod drive;
mod fleet;
mod hostile;
mod machine;
mod process;
mod setup;

/// Set by Ctrl-C and SIGTERM; looked at wherever the launcher waits.
#[derive(Clone)]
struct Stop(Arc<AtomicBool>);

impl Stop {
    /// # Errors
    /// If the run has been interrupted. Children are killed as their guards are dropped on the way out.
    fn check(&self) -> Result<(), Failure> {
        if self.0.load(Ordering::Relaxed) { Err(Failure::Interrupted) } else { Ok(()) }
    }
}

/// Runs a cluster with its load, judges the outcome and writes the results directory.
pub(crate) fn run(arguments: &RunArgs) -> Result<(), Failure> {
    let stop = Stop(signals::stop_flag()?);
    let setup = setup::Setup::prepare(arguments)?;
    output::tell(&format!("{} replicas, results in {}", setup.options.replicas, setup.directory.display()));
    let (mut setup, mut fleet) = fleet::Fleet::start(setup, &stop)?;
    let hostiles = hostile::Hostiles::start(&setup, &stop)?;
    let driven = drive::drive(&mut setup, &mut fleet, &stop)?;
    fleet.end_hostilities(hostiles);
    let answers = collect::collect(&mut fleet, &stop)?;
    fleet.stop(&stop)?;
    let report = assemble::report(&setup, &driven, &answers, &fleet);
    write(&setup, &driven, &report)?;
    output::verdict(&report, &setup.directory.display().to_string(), arguments.json)
}

/// Writes what the processes have not written themselves.
fn write(setup: &setup::Setup, driven: &drive::Driven, report: &Report) -> Result<(), Failure> {
    let directory = &setup.directory;
    results::write(directory, results::SERIES, &series::to_csv(&driven.seconds)).context("series")?;
    results::write(directory, results::REPORT, &results::to_json(report)).context("report")?;
    Ok(())
}
