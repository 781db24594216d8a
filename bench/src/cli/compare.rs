//! `hippodrome compare`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use hippodrome_analysis::comparison::figure;

use super::given::Given;
use super::values::{percent, whole};

/// Most pairs: as many as can be compared by the exact methods in seconds.
pub(crate) const PAIRS_MAX: u32 = 100;

pub(crate) const EXAMPLES: &str = "\
Examples:
  hippodrome compare --a auth=mac --b auth=ed25519-batch
  hippodrome compare --a auth=mac --a batch=fixed:100 --b auth=none --b batch=adaptive --pairs 20 --duration 5s
  hippodrome compare --b transport=io-uring --c transport=tokio-uring --rate 20000
  hippodrome compare --b-binary ../older/target/release/hippodrome --fail-if-slower 5%
  hippodrome compare results/monday results/tuesday
  hippodrome compare results/sweep:auth=mac,batch=none results/sweep:auth=none,batch=none --json

A side's settings come on top of the options of hippodrome run that all sides have; a side without any is these options
themselves. Values may hold commas; one more setting is one more --a, --b and so on.

With --fail-if-slower the exit code is 0 if no side is slower than that, to the worse end of its
interval; 1 if one is, even by the better end; 4, inconclusive, if an interval holds the limit, the
runs are too few for one, or they show no difference. It is 4 as well if a run is INVALID or could
not be played, unless --include-invalid is given.";

/// Tell whether settings differ in speed, from several runs of each, with intervals
///
/// Compares runs that were made before (results directories), or makes them now: settings for two to six sides, raced
/// in rounds of one run each, in an order drawn by chance, so that a machine that drifts favours none. The first side
/// is compared with each of the others.
///
/// Prints for throughput, CPU time and percentiles of latency the ratio with a 95 % interval over the runs, a p-value,
/// and what that amounts to: that no difference was found, that one side is faster by so much, or that the runs are too
/// few to tell (6 rounds are the least). It says in what the sides differ besides, and concludes nothing from INVALID
/// runs. Writes comparison.json, comparison.md and comparison.csv. An interrupted comparison goes on where it was when
/// it is started again with the same arguments and --out.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
#[command(override_usage = "hippodrome compare <RESULTS> <RESULTS>.. [OPTIONS]
       hippodrome compare [--a KEY=VALUE].. --b KEY=VALUE.. [OPTIONS] [OPTIONS OF hippodrome run]")]
pub(crate) struct CompareArgs {
    /// Results of each side: a run's directory, one that holds several, or DIR:KEY=VALUE[,KEY=VALUE..] for those of its
    /// runs that have these settings (a sweep's point)
    #[arg(value_name = "RESULTS")]
    pub(crate) results: Vec<String>,

    /// A setting of side A, on top of what all sides have; may be given several times
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Sides")]
    pub(crate) a: Vec<String>,

    /// A setting of side B
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Sides")]
    pub(crate) b: Vec<String>,

    /// A setting of side C, and so on up to --f: sides that are compared with A, too
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Sides")]
    pub(crate) c: Vec<String>,

    #[arg(long, value_name = "KEY=VALUE", hide = true)]
    pub(crate) d: Vec<String>,

    #[arg(long, value_name = "KEY=VALUE", hide = true)]
    pub(crate) e: Vec<String>,

    #[arg(long, value_name = "KEY=VALUE", hide = true)]
    pub(crate) f: Vec<String>,

    /// Another build of hippodrome that makes the runs of side A, such as an earlier commit's
    ///
    /// It is given those options only that were given here, so that it need not know the others.
    #[arg(long, value_name = "PATH", help_heading = "Sides")]
    pub(crate) a_binary: Option<PathBuf>,

    /// The same for side B
    #[arg(long, value_name = "PATH", help_heading = "Sides")]
    pub(crate) b_binary: Option<PathBuf>,

    /// Rounds, each with one run of every side, 1 to 100
    #[arg(long, value_name = "N", default_value_t = 10, help_heading = "Sides", value_parser = whole::<u32>(1, u64::from(PAIRS_MAX)))]
    pub(crate) pairs: u32,

    /// Decides the order of the runs, and the load of each round unless --seed does [default: a fresh one, recorded; of
    /// a comparison that goes on: its own]
    #[arg(long, value_name = "N", help_heading = "Sides", value_parser = whole::<u64>(0, i64::MAX as u64))]
    pub(crate) order_seed: Option<u64>,

    /// Only tell what would run, and how long it takes
    #[arg(long, help_heading = "Sides")]
    pub(crate) dry_run: bool,

    /// Differences up to this do not matter, and are said not to, 0% to 100%
    #[arg(long, value_name = "PERCENT", default_value = "2%", help_heading = "Conclusion", value_parser = percent(0.0, 100.0))]
    pub(crate) margin: f64,

    /// The figure that decides [default: ops_per_s, and p99_us if all runs are open loops]
    #[arg(long, value_enum, value_name = "FIGURE", help_heading = "Conclusion")]
    pub(crate) figure: Option<Figure>,

    /// Fail (exit code 1) if a side is slower than A by more than this, 0% to 100%
    ///
    /// It is if the whole interval says so: its better end decides that a side is slower, its worse end that it is not;
    /// if the limit lies between them that is inconclusive (exit code 4). Slower by 5 % is a rate that is 5 % less, or
    /// a time that is 5 % more.
    #[arg(long, value_name = "PERCENT", help_heading = "Conclusion", value_parser = percent(0.0, 100.0))]
    pub(crate) fail_if_slower: Option<f64>,

    /// Draw conclusions from INVALID runs as well, and from rounds that are left where runs could not be played
    #[arg(long, help_heading = "Conclusion")]
    pub(crate) include_invalid: bool,

    /// Directory for comparison.json and its tables, and for the runs that are made; made if missing; one that holds a
    /// part of this very comparison is gone on with [default: results/DATE-TIME; none if no runs are made]
    #[arg(long, value_name = "DIR", help_heading = "Results")]
    pub(crate) out: Option<PathBuf>,

    /// Print comparison.json on stdout, and nothing else there
    #[arg(long, help_heading = "Results")]
    pub(crate) json: bool,

    /// Leave progress out: nothing on stderr but errors
    #[arg(long, short, help_heading = "Results")]
    pub(crate) quiet: bool,

    /// Read options that all sides have from this TOML file, as run --config does; flags win
    #[arg(long, value_name = "FILE", help_heading = "Sides")]
    pub(crate) config: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) given: Given,
}

/// A figure, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Figure {
    /// Throughput
    #[value(name = "ops_per_s")]
    OpsPerS,
    /// CPU time for each operation
    #[value(name = "cpu_us_per_op")]
    CpuUsPerOp,
    /// Median latency
    #[value(name = "p50_us")]
    P50,
    /// 90th percentile of latency
    #[value(name = "p90_us")]
    P90,
    /// 99th percentile of latency
    #[value(name = "p99_us")]
    P99,
    /// 99.9th percentile of latency
    #[value(name = "p99_9_us")]
    P999,
}

impl From<Figure> for figure::Figure {
    fn from(figure: Figure) -> Self {
        match figure {
            Figure::OpsPerS => Self::OpsPerS,
            Figure::CpuUsPerOp => Self::CpuUsPerOp,
            Figure::P50 => Self::P50Us,
            Figure::P90 => Self::P90Us,
            Figure::P99 => Self::P99Us,
            Figure::P999 => Self::P999Us,
        }
    }
}

impl CompareArgs {
    /// The settings of each side that there is; without any, none.
    pub(crate) fn sides(&self) -> Vec<&[String]> {
        let all = [&self.a, &self.b, &self.c, &self.d, &self.e, &self.f];
        let given = all.iter().rposition(|side| !side.is_empty()).map_or(0, |last| last + 1);
        let of_binaries = if self.a_binary.is_some() || self.b_binary.is_some() { 2 } else { 0 };
        // One that is given is compared with another.
        let count = match given.max(of_binaries) {
            0 => 0,
            some => some.max(2),
        };
        all.iter().take(count).map(|side| side.as_slice()).collect()
    }
}
