//! `hippodrome sweep`.

use std::path::PathBuf;

use clap::Args;

use super::given::Given;
use super::values::whole;
use crate::experiment::file::REPEATS_MAX;

pub(crate) const EXAMPLES: &str = "\
Examples:
  hippodrome sweep --list                        the experiments that come with the binary
  hippodrome sweep auth-x-batch --dry-run        what one of them would run, and for how long
  hippodrome sweep auth-x-batch --out results/auth
  hippodrome sweep --vary auth=mac,ed25519-batch --vary batch=1,10,100,1000
  hippodrome sweep --vary 'batch=adaptive:512,4|time:100,2ms' --clients 2000 --repeats 5
  hippodrome sweep auth-x-batch --vary auth=mac,none --replicas 7
  hippodrome sweep my.toml --json | jq '.points[].summary.figures.ops_per_s.median'

An experiment is a TOML file:
  name = \"auth-x-batch\"
  description = \"In a sentence.\"
  question = \"What does it answer?\"
  repeats = 3
  [base]                       # options of hippodrome run, as in its configuration files
  duration = \"2s\"
  [vary]                       # every value of each with every value of the others
  auth = [\"mac\", \"ed25519\"]
  batch = [\"none\", 100, \"time:100,2ms\"]
  [[point]]                    # further points, one by one
  auth = \"mac\"
  batch = \"adaptive\"
  [[exclude]]                  # combinations that do not run
  where = { auth = \"ed25519\", batch = [\"none\"] }
  reason = \"Why.\"
  [[adjust]]                   # what some points have besides
  where = { auth = \"ed25519\" }
  set = { clients = 500 }
The command line wins over the file.";

/// Run all combinations of chosen settings, interleaved, and tell which are best
///
/// Makes a run as `hippodrome run` does for each combination of the values of --vary, or for each that an experiment
/// asks for, as many times as --repeats says. Each round runs every combination once, in an order of its own drawn by
/// chance, so that a machine that drifts favours none. All other options are those of `hippodrome run` and hold for all
/// runs.
///
/// Prints the median of each figure over the VALID runs with the lowest and the highest, the best combinations by
/// throughput, by p99 and by CPU time, and every run that is not VALID with its reasons. Results are written anew after
/// each run (sweep.json, sweep.csv, sweep.md; each run's own results under runs/). An interrupted or killed sweep goes
/// on where it was when it is started again with the same arguments and --out: finished runs are not run again.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
#[command(override_usage = "hippodrome sweep <EXPERIMENT|--vary KEY=VALUE,..|--list> [OPTIONS]")]
pub(crate) struct SweepArgs {
    /// An experiment's file (its name ends with .toml), or the name of one that comes with the binary
    #[arg(value_name = "EXPERIMENT", required_unless_present_any = ["vary", "list"], conflicts_with = "list")]
    pub(crate) experiment: Option<String>,

    /// Vary an option of a run: KEY=VALUE[,VALUE..], or KEY=VALUE|VALUE.. for values that contain commas
    ///
    /// KEY is an option's name without the dashes. May be given several times: several options make all combinations,
    /// the same one again adds values. One value that contains commas has a | behind it ('batch=time:100,2ms|'). A
    /// number as batching is short for fixed:N, 1 for none. With an experiment, the values take the
    /// place of those that it has for the same option.
    #[arg(long, value_name = "KEY=VALUE,..", help_heading = "Experiment", conflicts_with = "list")]
    pub(crate) vary: Vec<String>,

    /// How often each combination runs, 1 to 1000 [default: the experiment's, or 3]
    #[arg(long, value_name = "N", help_heading = "Experiment", value_parser = whole::<u32>(1, REPEATS_MAX as u64))]
    pub(crate) repeats: Option<u32>,

    /// Decides the order of the runs, and the load of each round unless --seed does [default: a fresh one, reported; of
    /// a sweep that goes on: its own]
    #[arg(long, value_name = "N", help_heading = "Experiment", value_parser = whole::<u64>(0, i64::MAX as u64))]
    pub(crate) order_seed: Option<u64>,

    /// Read options that all runs have in common from this TOML file, as run --config does; flags win
    #[arg(long, value_name = "FILE", help_heading = "Experiment")]
    pub(crate) config: Option<PathBuf>,

    /// Only tell what would run, in which order, how long it takes, and what is done already
    #[arg(long, help_heading = "Experiment", conflicts_with = "list")]
    pub(crate) dry_run: bool,

    /// List the experiments that come with the binary
    #[arg(long, help_heading = "Experiment")]
    pub(crate) list: bool,

    /// Directory of the sweep; made if missing; one that holds a part of this very sweep is gone on with
    /// [default: results/DATE-TIME]
    #[arg(long, value_name = "DIR", help_heading = "Results")]
    pub(crate) out: Option<PathBuf>,

    /// Print sweep.json on stdout, and nothing else there
    #[arg(long, help_heading = "Results", conflicts_with_all = ["list", "dry_run"])]
    pub(crate) json: bool,

    /// Leave progress out: nothing on stderr but errors
    #[arg(long, short, help_heading = "Results")]
    pub(crate) quiet: bool,

    #[command(flatten)]
    pub(crate) given: Given,
}
