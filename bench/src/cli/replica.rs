//! `hippodrome replica`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use hippodrome_engine::byzantine::Kind;
use hippodrome_engine::settings::OnCorruptLog;

use super::options::{ReplicaTuning, TransportOptions};
use super::values::Sample;

pub(crate) const EXAMPLES: &str = "\
Examples:
  hippodrome replica --cluster race/cluster.toml --key race/replica-0.key --placement fused
  hippodrome replica --cluster race/cluster.toml --key race/replica-0.key --data /var/lib/hippodrome/0 --durability wal
  echo '{\"ask\":\"status\"}' | nc 127.0.0.1 CONTROL_PORT
  echo '{\"ask\":\"network\",\"to\":[1,2],\"block\":true}' | nc 127.0.0.1 CONTROL_PORT

Questions: status, ledger, clients, samples, stop, and network, which changes the emulation of this replica's outgoing
links (the keys are those of load --network-stdin; without any it only tells what is in force).

The first line on stdout, once the replica is up, is JSON: {\"control\":\"127.0.0.1:PORT\",\"listen\":\"IP:PORT\"}. Logs go to stderr.";

/// Run one replica until it is stopped
///
/// Runs one replica of a cluster until it is stopped by Ctrl-C, SIGTERM or its control port.
///
/// A replica that has voted must not vote again as if it had not. Without --data it can not know whether it ran before:
/// never start it a second time under the same identity, for it could contradict its own votes. With --data it notices:
/// with --durability wal it goes on where it was, with none it follows and answers but never votes.
#[derive(Debug, Args)]
pub(crate) struct ReplicaArgs {
    /// The cluster file that keygen wrote
    #[arg(long, value_name = "FILE")]
    pub(crate) cluster: PathBuf,

    /// This replica's key file
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,

    /// Which replica this is, 0 to n - 1; refused if the key is another's [default: whose the key is]
    #[arg(long, value_name = "N")]
    pub(crate) id: Option<u16>,

    /// Listen here for peers and clients instead of at the cluster file's address, IP:PORT
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,

    /// Answer questions here, one JSON object a line; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) control: SocketAddr,

    /// Serve metrics for Prometheus here, at /metrics; port 0 takes a free one, told on stderr
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics: Option<SocketAddr>,

    /// Where this replica remembers that it ran, and what it must not forget; made if missing
    ///
    /// Without it the replica must never be started again under the same identity.
    #[arg(long, value_name = "DIR", required_if_eq("durability", "wal"))]
    pub(crate) data: Option<PathBuf>,

    /// What to do about a log whose middle is damaged, so that votes may be forgotten: refuse, or refetch
    ///
    /// `refuse`: do not start. `refetch`: set the log aside, start without a vote (for good) and fetch the state from
    /// the others. An end that was being written when the process or the machine died is cut off in either case.
    #[arg(long, value_name = "WHAT", default_value_t = OnCorruptLog::Refuse)]
    pub(crate) on_corrupt_log: OnCorruptLog,

    #[command(flatten)]
    pub(crate) tuning: ReplicaTuning,

    #[command(flatten)]
    pub(crate) transport: TransportOptions,

    /// Note when operations pass, one in N, to tell where time goes: off, or 1/N
    ///
    /// The control question `samples` tells what was noted. Which operations those are is a function of client and
    /// timestamp, so that all processes that are given the same N follow the same ones.
    #[arg(long, value_name = "WHICH", default_value_t = Sample::Off)]
    pub(crate) sample: Sample,

    /// The launcher's: standard input is the bound listener
    #[arg(long, hide = true, conflicts_with = "listen")]
    pub(crate) listen_from_stdin: bool,

    /// The launcher's: exit when this process is no longer the parent
    #[arg(long, value_name = "PID", hide = true)]
    pub(crate) parent: Option<u32>,

    /// Misbehave on purpose: KIND[,KIND..], as `hippodrome run --help` describes them
    ///
    /// silent, slow, equivocate, corrupt-mac, partial-authenticator, wrong-digest, wrong-reply, withhold-body,
    /// early-body, stale-view, lying-checkpoint, lying-state, flood, or random
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    pub(crate) byzantine: Vec<Kind>,

    /// Tests only: give wrong results from this sequence number on
    #[arg(long, value_name = "N", hide = true)]
    pub(crate) wrong_from: Option<u64>,
}
