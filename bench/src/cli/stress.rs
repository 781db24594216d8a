//! `hippodrome stress`.

use std::path::PathBuf;

use clap::Args;

pub(crate) const EXAMPLES: &str = "\
Examples:
  hippodrome stress kill-backup                  a scenario that comes with the binary
  hippodrome stress --list                       all of these
  hippodrome stress --all --out results/stress   play them one after the other, one table at the end
  hippodrome stress my.toml --json | jq .scorecard

A scenario is a TOML file:
  name = \"kill-backup\"
  description = \"A backup is killed and comes back.\"
  [run]                       # options of hippodrome run, as in its configuration files
  durability = \"wal\"
  duration = \"10s\"
  [[at]]                      # what happens, s seconds after the measured load began
  s = 4
  kill = \"backup\"             # \"primary\", \"backup\", a replica, or a list of these
  [[at]]
  s = 6
  restart = \"killed\"
  [expect]                    # what is asked of the cluster, besides a VALID verdict
  progress_within_s = 1
  min_fraction_of_baseline = 0.5
  view_changes_at_most = 0
Actions: kill, restart, stop, resume, byzantine, clients, partition, heal, network.";

/// Play a scenario of faults under load and score how the cluster bears it
///
/// Runs a cluster with its load as `hippodrome run` does, makes the scenario's faults happen beside it, and draws a
/// scorecard: for each fault the time until it was noticed, how long no operation completed, when throughput was back
/// at 95 %, how deep the dip was and what it cost, the tail of latency meanwhile, and the view changes used.
///
/// A scenario is GREEN if it was played as it is written, the run is VALID (the audit holds: no acknowledged operation
/// is lost, ledgers agree) and all that the scenario expects was met. Seconds without an operation between a fault and
/// the recovery from it do not make a run INVALID; the report lists them, and all figures count them. A scenario that
/// makes more than f replicas faulty at one time is refused, unless it says `beyond_f = true`.
#[derive(Debug, Args)]
#[command(override_usage = "hippodrome stress <SCENARIO|--all|--list> [OPTIONS]")]
pub(crate) struct StressArgs {
    /// A scenario's file (its name ends with .toml), or the name of one that comes with the binary
    #[arg(value_name = "SCENARIO", required_unless_present_any = ["all", "list"], conflicts_with_all = ["all", "list"])]
    pub(crate) scenario: Option<String>,

    /// Play all scenarios that come with the binary, and print one table
    #[arg(long, conflicts_with = "list")]
    pub(crate) all: bool,

    /// List the scenarios that come with the binary
    #[arg(long)]
    pub(crate) list: bool,

    /// Results directory, with --all that of all of them; made if missing, refused unless empty
    /// [default: results/DATE-TIME]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    /// Leave progress out: nothing on stderr but errors
    #[arg(long, short)]
    pub(crate) quiet: bool,

    /// Print report.json on stdout, with --all the list of scorecards, and nothing else there
    #[arg(long)]
    pub(crate) json: bool,
}
