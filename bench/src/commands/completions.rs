//! `hippodrome completions`.

use clap::CommandFactory as _;

use crate::cli::Cli;
use crate::cli::completions::CompletionsArgs;
use crate::output;

/// Prints the script.
pub(crate) fn run(arguments: &CompletionsArgs) {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "hippodrome", &mut script);
    output::print(&String::from_utf8_lossy(&script));
}
