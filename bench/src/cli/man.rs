//! `hippodrome man`.

use std::path::PathBuf;

use clap::Args;

pub(crate) const EXAMPLES: &str = "\
Examples:
  hippodrome man | man -l -
  hippodrome man --out ~/.local/share/man/man1";

/// Print the manual page, or write one for each command
///
/// What the pages say is what `--help` says.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Write hippodrome.1, and hippodrome-COMMAND.1 for each command, to this directory instead; made if missing
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}
