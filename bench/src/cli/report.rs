//! `hippodrome report`.

use std::path::PathBuf;

use clap::Args;

pub(crate) const EXAMPLES: &str = "\
Examples:
  hippodrome report results/20260102-030405
  hippodrome report results/20260102-030405 --html again.html
  hippodrome report results/20260102-030405 --markdown >> notes.md
  hippodrome report results/20260102-030405 --svg figures
  hippodrome report results/auth-x-batch --json | jq '.points[].summary'";

/// Print results again, or make their page, tables and pictures anew
///
/// Takes the directory of a run, a sweep, a comparison or a search, and reads only its files. With --html or --svg it
/// writes files instead of printing the summary, with --markdown, --csv or --json it prints another form. The exit code
/// is that of its verdict; of a sweep's directory, 0 only if all of its runs were played and are VALID; of a
/// comparison's and a search's, that of the command. With --html, --svg, --markdown and --csv it is 1 where the figures
/// must not be used.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// The results directory
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,

    /// Print report.json (sweep.json, comparison.json, search.json) instead of the summary
    #[arg(long, group = "form")]
    pub(crate) json: bool,

    /// Print the figures and tables as Markdown
    #[arg(long, group = "form")]
    pub(crate) markdown: bool,

    /// Print the figures as comma-separated values, a header, and a row for each run or point
    #[arg(long, group = "form")]
    pub(crate) csv: bool,

    /// Write the page with its charts to this file, which is replaced if it is there
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,

    /// Write each chart as an .svg file into this folder, which is made if missing; files of the same names are
    /// replaced
    #[arg(long, value_name = "OUTDIR")]
    pub(crate) svg: Option<PathBuf>,
}
