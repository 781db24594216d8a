//! `hippodrome search`.

use std::path::PathBuf;

use clap::Args;
use hippodrome_analysis::search::objective::Objective;

use super::given::Given;
use super::values::{percent, whole};

pub(crate) const EXAMPLES: &str = "\
Examples:
  hippodrome search --slo p99=5ms
  hippodrome search --slo p50=1ms --slo p99.9=20ms --arrivals poisson --duration 20s --out results/limit
  hippodrome search --slo p99=300ms --auth ed25519-batch --clients 2000 --json | jq .found

The exit code is 0 if a rate that meets the objectives was confirmed; 1 if none meets them, down
to 1/4096 of what a closed loop completes; 3 if a run is INVALID for another reason than its rate;
4, inconclusive, if the search ended after 200 runs without being sure, or if no rate was met and
most runs missed only because the load generator failed.";

/// Find the highest rate at which the cluster meets latency objectives
///
/// Makes runs of `hippodrome run`: first a closed loop to know about where to look, then open loops at rates that
/// double until one misses an objective, then bisection, then several runs of the two rates on either side of the
/// limit, interleaved, until enough more say one thing of each than the other; they may move it. The answer is an
/// interval: the highest rate that is surely met, the lowest that surely is not. At last it draws the curve of latency
/// over throughput below the limit, a run for each point, and its knee.
///
/// A rate is met if all objectives are and the cluster sustains it: at least 99 % of what was asked for was completed,
/// nothing was left unanswered, no second was empty, and latency did not grow through the window. A run in which only
/// the load generator failed is made again, twice at most.
///
/// Writes search.json after each run. An interrupted search goes on where it was when it is started again with the same
/// arguments and --out.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct SearchArgs {
    /// An objective, FIGURE=TIME: p50, p90, p99, p99.9, p99.99 or max of at most so much; may be given several times
    #[arg(long, value_name = "FIGURE=TIME", required = true, value_parser = objective, help_heading = "Search")]
    pub(crate) slo: Vec<Objective>,

    /// How far apart the rates lie that are told from each other, 1% to 50%
    #[arg(long, value_name = "PERCENT", default_value = "5%", help_heading = "Search", value_parser = percent(1.0, 50.0))]
    pub(crate) resolution: f64,

    /// By how many runs one outcome (met, missed) must lead the other to decide a rate, 1 to 50
    ///
    /// Where all runs agree that is how many are made at each of the two rates next to the limit; where they do not,
    /// more are.
    #[arg(long, value_name = "N", default_value_t = 5, help_heading = "Search", value_parser = whole::<u32>(1, 50))]
    pub(crate) confirmations: u32,

    /// Points of the curve, 0 (no curve) to 50, evenly from nothing to just above the limit
    #[arg(long, value_name = "N", default_value_t = 8, help_heading = "Search", value_parser = whole::<u32>(0, 50))]
    pub(crate) curve: u32,

    /// Judge INVALID runs by their figures as well: for trying it out, never for a result
    #[arg(long, help_heading = "Search")]
    pub(crate) include_invalid: bool,

    /// Directory of the search; made if missing; one that holds a part of this very search is gone on with
    /// [default: results/DATE-TIME]
    #[arg(long, value_name = "DIR", help_heading = "Results")]
    pub(crate) out: Option<PathBuf>,

    /// Print search.json on stdout, and nothing else there
    #[arg(long, help_heading = "Results")]
    pub(crate) json: bool,

    /// Leave progress out: nothing on stderr but errors
    #[arg(long, short, help_heading = "Results")]
    pub(crate) quiet: bool,

    /// Read options that all runs have from this TOML file, as run --config does; flags win
    #[arg(long, value_name = "FILE", help_heading = "Search")]
    pub(crate) config: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) given: Given,
}

/// Reads `p99=5ms`.
fn objective(text: &str) -> Result<Objective, String> {
    let (figure, limit) = text.split_once('=').ok_or("allowed: FIGURE=TIME, for example p99=5ms")?;
    let figure = figure.trim().parse()?;
    let limit = humantime::parse_duration(limit.trim());
    let limit = limit.map_err(|error| format!("{error}; allowed: a time, for example 5ms"))?;
    if limit.is_zero() {
        return Err("allowed: a time above zero".into());
    }
    Ok(Objective { figure, limit_us: limit.as_secs_f64() * 1e6 })
}

#[cfg(test)]
mod tests {
    use hippodrome_analysis::search::objective::Tail;

    use super::*;

    #[test]
    fn objectives_are_a_figure_and_a_time() {
        let read = objective("p99.9=1ms 500us").unwrap();
        assert_eq!((read.figure, read.limit_us.round()), (Tail::P999, 1500.0));
        for (text, part) in [
            ("p99", "FIGURE=TIME"),
            ("p95=1ms", "'p95': allowed: p50, p90"),
            ("p99=5", "allowed: a time"),
            ("p99=0ms", "above zero"),
        ] {
            assert!(objective(text).unwrap_err().contains(part), "{text}");
        }
    }
}
