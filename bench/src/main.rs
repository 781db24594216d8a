//! `hippodrome`: runs PBFT clusters, drives load at them, and proves the result.
//!
//! One binary holds everything, so that copying it to a host is all the installation there is. In the order in which a
//! run meets them: [cli] (what people type), [config] (what they put in files instead), [cluster] (keys and the cluster
//! file), [scenario] (what is to go wrong), [launch] (the launcher of `run` and `stress`), [tui] (a run as a
//! dashboard), [experiment] (many runs under a plan), [roofline] (what the machine needs at least), [traffic] (what was
//! sent, beside what the protocol says), [commands] (everything else); [control] asks a replica, [metrics] tells
//! Prometheus, [shipped] finds the files that come with the binary, [failure] says how any of them ends.

use std::process::ExitCode;

use clap::Parser as _;
use hippodrome_engine::platform::recycler::Recycler;

use crate::cli::{Cli, Command};
use crate::failure::Failure;

mod cli;
mod cluster;
mod commands;
mod config;
mod control;
mod experiment;
mod failure;
mod launch;
mod metrics;
mod output;
mod roofline;
mod scenario;
mod shipped;
mod signals;
mod traffic;
mod tui;

/// Replicas and load generators take and free large blocks all the time.
#[global_allocator]
static ALLOCATOR: Recycler = Recycler;

fn main() -> ExitCode {
    match execute() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.exit(),
    }
}

fn execute() -> Result<(), Failure> {
    let arguments = config::with_file(std::env::args_os().collect())?;
    match Cli::try_parse_from(arguments)?.command {
        Command::Run(arguments) => launch::run(&arguments),
        Command::Stress(arguments) => commands::stress::run(&arguments),
        Command::Sweep(arguments) => commands::sweep::run(&arguments),
        Command::Compare(arguments) => commands::compare::run(&arguments),
        Command::Search(arguments) => commands::search::run(&arguments),
        Command::Replica(arguments) => commands::replica::run(arguments),
        Command::Load(arguments) => commands::load::run(arguments),
        Command::Keygen(arguments) => commands::keygen::run(&arguments),
        Command::Report(arguments) => commands::report::run(&arguments),
        Command::Roofline(arguments) => commands::roofline::run(&arguments),
        Command::Sim(arguments) => commands::sim::run(&arguments),
        Command::Doctor(arguments) => commands::doctor::run(&arguments),
        Command::Completions(arguments) => {
            commands::completions::run(&arguments);
            Ok(())
        }
        Command::Man(arguments) => commands::man::run(&arguments),
    }
}
