//! `hippodrome sim`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use hippodrome_engine::protocol::planted::Planted;

use super::values::whole;

pub(crate) const EXAMPLES: &str = "\
Examples:
  hippodrome sim --seeds 10000                        hunt through ten thousand runs
  hippodrome sim --seed 4711 --trace                  one run, told event by event
  hippodrome sim --plan sim-failures/seed-4711.json   replay a shrunk failure
  hippodrome sim --mutants                            are bugs that were planted found?

Of each failure up to the third, two files are written to the directory of --out:
  seed-N.json   the shrunk plan: what fails, as small as it was possible to make it
  seed-N.txt    what happens in it, a line for each event; its end is printed as well
A plan may be edited by hand. A line of a trace has the simulated time, who it happens to (r0 to r9 are replicas, r0a
and r0b twins, c0 and so on clients, ** the world), and what happens.";

/// Simulate clusters under faults and check that they stay correct
///
/// Runs the replica's own code under simulated time: delays, loss, duplication, reordering, partitions, crashes and
/// restarts with and without disk, clocks that drift, up to f Byzantine replicas (every kind of --byzantine, twins,
/// random changes of messages, false states) and faulty clients. One number, the seed, decides all that happens in a
/// run.
///
/// Checked for safety: replicas agree, in all their lives; nobody contradicts what it said; what is executed was asked
/// for, proven, valid, and executed once; results are those of the ledger, in an order that respects real time; what
/// clients were told to be done is kept by so many that no crash can lose it; view-changes tell of all that was
/// committed to.
///
/// Checked for liveness: when the network heals, everybody gets on, also those who have lost their votes and only
/// follow, and all who vote are active in one view.
///
/// A run in which something is violated is shrunk, as long as it fails in the same way, and written down.
#[derive(Debug, Args)]
pub(crate) struct SimArgs {
    /// How many seeds to run; with --mutants, how many at most for each bug [default: 1000; with --mutants 2000]
    #[arg(long, value_name = "N", value_parser = whole::<u64>(1, 1_000_000_000))]
    pub(crate) seeds: Option<u64>,

    /// The first seed; the others follow it
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub(crate) first: u64,

    /// Runs at a time [default: one for each core that this process may use]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1, 1024))]
    pub(crate) jobs: Option<usize>,

    /// Run this seed alone, and shrink it if it fails
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "first", "mutants", "plan"])]
    pub(crate) seed: Option<u64>,

    /// Run the plan of this file alone, exactly as it is
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "first", "mutants"])]
    pub(crate) plan: Option<PathBuf>,

    /// Tell all that happens, on stdout (with --seed or --plan)
    #[arg(long)]
    pub(crate) trace: bool,

    /// Print the plan of --seed instead of running it
    #[arg(long, requires = "seed")]
    pub(crate) print_plan: bool,

    /// Plant each of the bugs that the simulator knows in turn, and look for the first seed that shows it
    #[arg(long)]
    pub(crate) mutants: bool,

    /// Plant this bug in every replica
    #[arg(long, value_name = "BUG", value_parser = planted_bugs(), conflicts_with = "mutants")]
    pub(crate) planted: Option<Planted>,

    /// Where failures are written; made if missing
    #[arg(long, value_name = "DIR", default_value = "sim-failures")]
    pub(crate) out: PathBuf,
}

/// Lists the bugs in the help.
fn planted_bugs() -> impl TypedValueParser<Value = Planted> {
    PossibleValuesParser::new(Planted::ALL.iter().map(|bug| bug.name()))
        .try_map(|text| Planted::ALL.iter().copied().find(|bug| bug.name() == text).ok_or("no such bug"))
}
