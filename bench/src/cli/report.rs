//! `hippodrome report`.

use std::path::PathBuf;

use clap::Args;

pub(crate) const EXAMPLES: &str = "\
Example:
  hippodrome report results/20260102-030405
  hippodrome report results/auth-x-batch --json | jq '.points[].summary'
  hippodrome report results/mac-or-signed";

/// Print the results of a run, sweep, comparison or search again
///
/// Prints a results directory again, reading only its files. The exit code is that of its verdict; of a sweep's
/// directory, 0 only if all of its runs were played and are VALID; of a comparison's and a search's, that of the command.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// The results directory
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,

    /// Print report.json (sweep.json, comparison.json, search.json) instead of the summary
    #[arg(long)]
    pub(crate) json: bool,
}
