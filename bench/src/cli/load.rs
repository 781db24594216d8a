//! `hippodrome load`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use hippodrome_engine::limits::CONNECTIONS_MAX;
use hippodrome_loadgen::hostile::Kind;

use super::options::{LoadTuning, TransportOptions, check_threads};
use super::values::{Sample, whole};
use crate::failure::Failure;

pub(crate) const EXAMPLES: &str = "\
Examples:
  hippodrome load --cluster race/cluster.toml --key race/client-0.key --out load-0 --duration 30s
  hippodrome load --cluster race/cluster.toml --key race/client-0.key --out load-1 --rate 20000 --arrivals poisson
  hippodrome load --cluster race/cluster.toml --key race/client-1.key --hostile replays --duration 30s

With --network-stdin, each line on standard input changes the emulation of this process's outgoing links:
  {\"to\":[0,2],\"block\":true}             replicas 0 and 2 hear nothing from here any more
  {\"block\":false}                        all hear everything again
  {\"to\":[1],\"link\":\"delay=50ms,loss=1%\"} values change, the others stay
  {\"reset\":true}                         back to what --network says
A replica's own links are changed over its control port, by {\"ask\":\"network\", ..} with the same keys.

Writes load.json (counts, the generator's honesty figures, every second) and latency.hlog (HdrHistogram interval log, ns).";

/// Drive load at a running cluster
///
/// Drives load at a running cluster with all logical clients of one client node.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// The cluster file that keygen wrote
    #[arg(long, value_name = "FILE")]
    pub(crate) cluster: PathBuf,

    /// This client node's key file
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,

    /// Directory for load.json and latency.hlog; made if missing, never overwritten
    #[arg(long, value_name = "DIR", required_unless_present = "hostile")]
    pub(crate) out: Option<PathBuf>,

    /// Misbehave instead, for as long as warm-up and load would take, and write no files
    ///
    /// bad-signatures, partial-authenticators, replays, growing-identifiers, garbage, half-open, or slow-reader, as
    /// `hippodrome run --help` describes them. At a limited rate, on one thread. Of the other options --warmup,
    /// --duration and --seed apply.
    #[arg(long, value_name = "KIND", conflicts_with = "out")]
    pub(crate) hostile: Option<Kind>,

    /// How each second is told on stdout
    #[arg(long, value_enum, default_value_t = Progress::Table)]
    pub(crate) progress: Progress,

    /// Serve metrics for Prometheus here, at /metrics; port 0 takes a free one, told on stderr
    #[arg(long, value_name = "ADDRESS", conflicts_with = "hostile")]
    pub(crate) metrics: Option<SocketAddr>,

    #[command(flatten)]
    pub(crate) tuning: LoadTuning,

    /// Connections to each replica, 1 to 64 and at most one a client [default: one for each load thread]
    #[arg(long, value_name = "N", value_parser = whole::<u32>(1, u64::from(CONNECTIONS_MAX)), help_heading = "Load")]
    pub(crate) connections: Option<u32>,

    /// Threads, 1 to 64; each needs a connection of its own, so at most --connections
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<u32>(1, u64::from(CONNECTIONS_MAX)), help_heading = "Load")]
    pub(crate) load_threads: u32,

    #[command(flatten)]
    pub(crate) transport: TransportOptions,

    /// Change emulated links by lines of JSON on standard input (see below)
    #[arg(long, help_heading = "Transport")]
    pub(crate) network_stdin: bool,

    /// Note when operations pass, one in N, in samples.json: off, or 1/N
    ///
    /// Replicas that are given the same N follow the same operations.
    #[arg(long, value_name = "WHICH", default_value_t = Sample::Off)]
    pub(crate) sample: Sample,

    /// The launcher's: exit when this process is no longer the parent
    #[arg(long, value_name = "PID", hide = true)]
    pub(crate) parent: Option<u32>,
}

impl LoadArgs {
    /// How many threads it has, and how many connections to each replica.
    ///
    /// # Errors
    /// If not every thread can have a connection.
    pub(crate) fn threads_and_connections(&self) -> Result<(u32, u32), Failure> {
        let threads = self.load_threads;
        let connections = self.connections.unwrap_or(threads);
        check_threads(threads, connections)?;
        Ok((threads, connections))
    }
}

/// How progress is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Progress {
    /// Rows for people
    Table,
    /// One JSON object a line
    Json,
}
