//! `hippodrome doctor`.

use std::path::PathBuf;

use clap::Args;

pub(crate) const EXAMPLES: &str = "\
Examples:
  hippodrome doctor
  hippodrome doctor --out /mnt/nvme/results --json | jq '.checks[] | select(.verdict != \"OK\")'";

/// Look whether this machine is fit for measuring
///
/// Looks at whatever is known to spoil measurements or to stop runs, for about a second, and changes nothing. For each:
/// OK, WARN (figures will be worse or less steady than they could be) or BAD (a run can not be made), what was found,
/// and where it is not OK, why it matters and what changes it.
///
/// The exit code is 0 unless something is BAD.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Where results are to lie: its disk is tried, with a file that is removed again
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub(crate) out: PathBuf,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
