//! `hippodrome report`.

use hippodrome_analysis::results;

use super::{compare, search};
use crate::cli::report::ReportArgs;
use crate::failure::Failure;
use crate::output;

/// Prints a results directory again.
pub(crate) fn run(arguments: &ReportArgs) -> Result<(), Failure> {
    if arguments.directory.join(results::SWEEP).exists() {
        let sweep = results::read_sweep(&arguments.directory).map_err(Failure::usage)?;
        return output::sweep(&sweep, &arguments.directory, arguments.json);
    }
    if arguments.directory.join(results::COMPARISON).exists() {
        let comparison = results::read_comparison(&arguments.directory).map_err(Failure::usage)?;
        return compare::conclude(&comparison, Some(&arguments.directory), arguments.json);
    }
    if arguments.directory.join(results::SEARCH).exists() {
        let search = results::read_search(&arguments.directory).map_err(Failure::usage)?;
        return search::conclude(&search, &arguments.directory, arguments.json);
    }
    let report = results::read_report(&arguments.directory).map_err(Failure::usage)?;
    output::verdict(&report, &arguments.directory.display().to_string(), arguments.json)
}
