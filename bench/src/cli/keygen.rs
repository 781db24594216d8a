//! `hippodrome keygen`.

use std::path::PathBuf;

use clap::Args;
use hippodrome_engine::limits::{CLIENT_NODES_MAX, CLIENTS_MAX, REPLICAS_MAX, REPLICAS_MIN};

use super::options::ClusterOptions;
use super::values::whole;

pub(crate) const EXAMPLES: &str = "\
Examples:
  hippodrome keygen --listen 127.0.0.1:7000 --out race
  hippodrome keygen --replicas 4 --clients 8000 --client-nodes 2 --auth hybrid --out race \\
      --listen 10.0.0.1:7000,10.0.0.2:7000,10.0.0.3:7000,10.0.0.4:7000

Writes cluster.toml, replica-N.key and client-N.key. Give every node cluster.toml and its own key file, nothing else.";

/// Write a cluster file and a key file for each node
///
/// Writes a cluster file and one key file for each node, readable by their owner alone (mode 0600). Never overwrites
/// anything.
#[derive(Debug, Args)]
pub(crate) struct KeygenArgs {
    /// Replicas n, of which f = floor((n - 1) / 3) may be faulty, 4 to 64
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = whole::<u16>(REPLICAS_MIN as u64, REPLICAS_MAX as u64))]
    pub(crate) replicas: u16,

    /// Logical clients over all client nodes, 1 to 1048576
    #[arg(long, value_name = "N", default_value_t = 4000, value_parser = whole::<u32>(1, u64::from(CLIENTS_MAX)))]
    pub(crate) clients: u32,

    /// Load generators that share the logical clients, 1 to 64
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = whole::<u16>(1, CLIENT_NODES_MAX as u64))]
    pub(crate) client_nodes: u16,

    /// Where the replicas listen: HOST:PORT for consecutive ports on one host, or one HOST:PORT for each replica, by
    /// commas
    #[arg(long, value_name = "ADDRESSES")]
    pub(crate) listen: String,

    #[command(flatten)]
    pub(crate) cluster: ClusterOptions,

    /// Directory for the files; made if missing
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}
