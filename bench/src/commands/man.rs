//! `hippodrome man`.

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_mangen::Man;

use crate::cli::Cli;
use crate::cli::man::ManArgs;
use crate::failure::Failure;
use crate::output;

/// Prints the page of the binary, or writes all pages.
pub(crate) fn run(arguments: &ManArgs) -> Result<(), Failure> {
    let command = Cli::command();
    if let Some(out) = &arguments.out {
        std::fs::create_dir_all(out).with_context(|| out.display().to_string()).map_err(Failure::Usage)?;
        // `help` has no page: it only shows the others.
        let command = command.disable_help_subcommand(true);
        clap_mangen::generate_to(command, out).with_context(|| out.display().to_string())?;
        return Ok(());
    }
    let mut page = Vec::new();
    Man::new(command).render(&mut page).context("manual page")?;
    output::print(&String::from_utf8_lossy(&page));
    Ok(())
}
