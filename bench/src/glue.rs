//! The entry points of the other crates: the only place that names them.
//!
//! They are stand-ins until those parts are linked: keys are random bytes, and replicas and load generators refuse to start.

use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hippodrome_engine::settings::{Batching, ClusterFile, Placement, TransportChoice, WaitChoice};
use hippodrome_engine::types::{NodeId, ReplicaId};
use hippodrome_loadgen::report::{LoadReport, SecondSample};

use crate::cli::values::Workload;

/// A node's Ed25519 identity.
pub(crate) struct NodeKey([u8; 32]);

impl NodeKey {
    /// A fresh identity.
    pub(crate) fn generate() -> anyhow::Result<Self> {
        Ok(Self(rand::random()))
    }

    /// Writes the key file of `node`, for its owner's eyes only (mode 0600). Never overwrites.
    pub(crate) fn write(&self, path: &Path, node: NodeId) -> anyhow::Result<()> {
        let mut options = std::fs::OpenOptions::new();
        let mut file =
            options.write(true).create_new(true).mode(0o600).open(path).context(path.display().to_string())?;
        writeln!(file, "{node} {}", hex::encode(self.0)).context(path.display().to_string())
    }

    /// Reads a key file: whose it is, and the key.
    pub(crate) fn read(path: &Path) -> anyhow::Result<(NodeId, Self)> {
        let text = std::fs::read_to_string(path).context(path.display().to_string())?;
        let key = text.trim().split_once(' ').and_then(|(node, key)| {
            let key: [u8; 32] = hex::decode(key).ok()?.try_into().ok()?;
            Some((NodeId(node.parse().ok()?), Self(key)))
        });
        key.with_context(|| format!("{}: not a key file", path.display()))
    }

    /// The public key, 32 bytes in hex.
    pub(crate) fn public_hex(&self) -> String {
        hex::encode(self.0)
    }
}

/// What a replica needs.
#[allow(dead_code, reason = "read once the other crates are linked")]
pub(crate) struct ReplicaOptions {
    /// Who takes part.
    pub(crate) cluster: ClusterFile,
    /// Its identity.
    pub(crate) key: NodeKey,
    /// Which replica it is.
    pub(crate) id: ReplicaId,
    /// Where peers and clients connect.
    pub(crate) listener: TcpListener,
    /// Where questions are answered.
    pub(crate) control: TcpListener,
    /// When it closes a batch as the primary.
    pub(crate) batching: Batching,
    /// What moves its bytes.
    pub(crate) transport: TransportChoice,
    /// Where its stages run.
    pub(crate) placement: Placement,
    /// How its threads wait.
    pub(crate) wait: WaitChoice,
    /// How many replicas share this machine.
    pub(crate) machine_replicas: usize,
    /// Tests only: results are wrong from this sequence number on.
    pub(crate) wrong_from: Option<u64>,
    /// Set from outside to stop it.
    pub(crate) stop: Arc<AtomicBool>,
}

/// Runs a replica until it is stopped.
pub(crate) fn run_replica(options: ReplicaOptions) -> anyhow::Result<()> {
    let ReplicaOptions { id, .. } = options;
    bail!("replica {id}: the engine is not linked yet")
}

/// When operations are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum LoadMode {
    /// Each logical client sends its next operation when the one before is answered.
    Closed,
    /// So many operations a second, evenly spaced.
    Constant(f64),
    /// So many operations a second on average, at random.
    Poisson(f64),
}

/// What a load generator needs.
#[allow(dead_code, reason = "read once the other crates are linked")]
pub(crate) struct LoadOptions {
    /// Who takes part, and the application.
    pub(crate) cluster: ClusterFile,
    /// Its identity.
    pub(crate) key: NodeKey,
    /// Which client node it is.
    pub(crate) node: NodeId,
    /// Connections to each replica.
    pub(crate) connections: u32,
    /// Its threads.
    pub(crate) threads: u32,
    /// When it sends.
    pub(crate) mode: LoadMode,
    /// How long before the measured window.
    pub(crate) warmup: Duration,
    /// Length of the measured window.
    pub(crate) duration: Duration,
    /// Bytes of an operation (`null`) or of a value (`kv`).
    pub(crate) request_bytes: usize,
    /// The YCSB mix (`kv`).
    pub(crate) workload: Workload,
    /// Exponent of the distribution of keys (`kv`).
    pub(crate) zipf: f64,
    /// Keys (`kv`).
    pub(crate) records: u64,
    /// What moves its bytes.
    pub(crate) transport: TransportChoice,
    /// When a request is sent again for the first time.
    pub(crate) retransmit_after: Duration,
    /// The longest pause between sending it again.
    pub(crate) retransmit_max: Duration,
    /// When an operation counts as timed out.
    pub(crate) timeout: Duration,
    /// Of all its random numbers.
    pub(crate) seed: u64,
    /// Where the interval log goes.
    pub(crate) hlog: PathBuf,
    /// Set from outside to end it early.
    pub(crate) stop: Arc<AtomicBool>,
}

/// Runs the load; `on_second` is called once a second.
pub(crate) fn run_load(options: LoadOptions, _on_second: &mut dyn FnMut(&SecondSample)) -> anyhow::Result<LoadReport> {
    let LoadOptions { node, .. } = options;
    bail!("client node {node}: the load generator is not linked yet")
}
