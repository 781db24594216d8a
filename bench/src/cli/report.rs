//! `hippodrome report`.

use std::path::PathBuf;

use clap::Args;

pub(crate) const EXAMPLES: &str = "\
Example:
  hippodrome report results/20260102-030405";

/// Print the results of a run again
///
/// Prints a results directory again, reading only its files. The exit code is that of its verdict.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// The results directory
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,

    /// Print report.json instead of the summary
    #[arg(long)]
    pub(crate) json: bool,
}
