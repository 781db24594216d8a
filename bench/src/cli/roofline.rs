//! `hippodrome roofline`.

use std::path::PathBuf;

use clap::Args;

use super::run::RunOptions;
use super::values::real;

pub(crate) const EXAMPLES: &str = "\
Examples:
  hippodrome roofline --auth ed25519-batch --requests 400
  hippodrome roofline --replicas 7 --request-bytes 1KiB
  hippodrome roofline results/20260102-030405";

/// Measure what this machine needs at least for one operation
///
/// Measures what authentication, sockets, copies and switches between processes cost on this machine, and composes from
/// that the CPU time per operation that no implementation of PBFT could go below with these settings. Of a run, also
/// tells how near it came. See docs/roofline.md.
#[derive(Debug, Args)]
pub(crate) struct RooflineArgs {
    /// The results directory of a run: its settings, its batches, and how near it came
    #[arg(value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,

    /// Requests in a batch on average, 1 to 4096 [default: as many as the batching and the clients allow]
    #[arg(long, value_name = "N", value_parser = real(1.0, 4096.0), conflicts_with = "directory")]
    pub(crate) requests: Option<f64>,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) options: RunOptions,
}
