//! What people type. One file for each command, [options] for what commands share, [given] for those that make many
//! runs, and [faulty] for who misbehaves.

use clap::{Parser, Subcommand};

use crate::failure::EXIT_CODES;

pub(crate) mod compare;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod faulty;
pub(crate) mod given;
pub(crate) mod keygen;
pub(crate) mod load;
pub(crate) mod man;
pub(crate) mod options;
pub(crate) mod replica;
pub(crate) mod report;
pub(crate) mod roofline;
pub(crate) mod run;
pub(crate) mod search;
pub(crate) mod sim;
pub(crate) mod stress;
pub(crate) mod sweep;
pub(crate) mod values;

#[cfg(test)]
mod tests;

/// The commit that this binary was built from.
pub(crate) const GIT_COMMIT: &str = env!("HIPPODROME_GIT_COMMIT");
/// `release` or `debug`.
pub(crate) const BUILD_PROFILE: &str = if cfg!(debug_assertions) { "debug" } else { "release" };

/// The race track for Byzantine fault-tolerant replication
///
/// Runs PBFT clusters at speed, drives load at them, and proves that the numbers may be used: every run audits the
/// replicas' ledgers, checks that each client's operations were executed exactly once, and judges its own load
/// generator.
///
/// `hippodrome run` does all of it on this machine. For several machines: `keygen` once, then `replica` on each, then
/// `load`.
#[derive(Debug, Parser)]
#[command(name = "hippodrome", version, long_version = LONG_VERSION, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  hippodrome run                              four replicas, closed loop, 10 s
  hippodrome run --rate 50000 --arrivals poisson --auth ed25519-batch
  hippodrome stress kill-backup               a fault under load, and a scorecard
  hippodrome sweep auth-x-batch               many runs, interleaved, and which settings are best
  hippodrome compare --a auth=mac --b auth=none
  hippodrome search --slo p99=5ms             the highest rate at which that holds
  hippodrome sim --seeds 1000                 the same protocol in a simulator, under faults and lies
  hippodrome report results/20260102-030405   the same results again";

/// What `--version` adds to the version: without it a result can not be traced to what was run.
const LONG_VERSION: &str = if cfg!(debug_assertions) {
    concat!(env!("CARGO_PKG_VERSION"), " (debug, commit ", env!("HIPPODROME_GIT_COMMIT"), ")")
} else {
    concat!(env!("CARGO_PKG_VERSION"), " (release, commit ", env!("HIPPODROME_GIT_COMMIT"), ")")
};

/// The commands. What they say about themselves stands at their arguments.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", run::EXAMPLES))]
    Run(Box<run::RunArgs>),
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", stress::EXAMPLES))]
    Stress(stress::StressArgs),
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", sweep::EXAMPLES))]
    Sweep(Box<sweep::SweepArgs>),
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", compare::EXAMPLES))]
    Compare(Box<compare::CompareArgs>),
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", search::EXAMPLES))]
    Search(Box<search::SearchArgs>),
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", replica::EXAMPLES))]
    Replica(replica::ReplicaArgs),
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", load::EXAMPLES))]
    Load(load::LoadArgs),
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", keygen::EXAMPLES))]
    Keygen(keygen::KeygenArgs),
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", report::EXAMPLES))]
    Report(report::ReportArgs),
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", roofline::EXAMPLES))]
    Roofline(Box<roofline::RooflineArgs>),
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", sim::EXAMPLES))]
    Sim(sim::SimArgs),
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", doctor::EXAMPLES))]
    Doctor(doctor::DoctorArgs),
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", completions::EXAMPLES))]
    Completions(completions::CompletionsArgs),
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", man::EXAMPLES))]
    Man(man::ManArgs),
}
