//! What a load generator is told, and why it can not do that.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hippodrome_engine::auth::{KeyError, NodeKey};
use hippodrome_engine::emulation::{Change, NetworkSpec};
use hippodrome_engine::sampling::Sampling;
use hippodrome_engine::settings::{ClusterFile, TransportChoice};
use hippodrome_engine::types::NodeId;
use thiserror::Error;

use crate::schedule::RateError;
pub use crate::workload::ycsb::WorkloadKind;
use crate::workload::ycsb::YcsbError;

/// How long the generator tries to reach the replicas.
pub(crate) const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// When operations are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Each client sends as soon as its last operation is complete. Understates the tail: a slow cluster is asked less.
    Closed,
    /// At a constant rate, operations per second, whatever the cluster does.
    Constant(f64),
    /// Poisson arrivals at this mean rate, operations per second.
    Poisson(f64),
}

impl Mode {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Constant(_) => "constant",
            Self::Poisson(_) => "poisson",
        }
    }

    pub(crate) const fn rate(self) -> Option<f64> {
        match self {
            Self::Closed => None,
            Self::Constant(rate) | Self::Poisson(rate) => Some(rate),
        }
    }
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum WorkloadOptions {
    /// Operations of a fixed size for the `null` application.
    Null {
        /// Bytes of each operation.
        request_bytes: usize,
    },
    /// A YCSB mix for the `kv` application.
    Kv {
        /// Which mix.
        kind: WorkloadKind,
        /// Exponent of the distribution of keys.
        zipf: f64,
        /// Bytes of each value written.
        value_bytes: usize,
    },
}

/// When requests without a reply quorum are sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retransmission {
    /// After the first sending; or after four usual latencies, where those are longer, though not than `longest`.
    pub first: Duration,
    /// The pause doubles with each sending up to this.
    pub longest: Duration,
}

/// What one load generator's process is told.
pub struct LoadOptions {
    /// The cluster, validated.
    pub cluster: ClusterFile,
    /// This node's identity.
    pub key: NodeKey,
    /// Which client node it is.
    pub node: NodeId,
    /// Connections to each replica; at least as many as threads.
    pub connections: u32,
    /// Threads.
    pub threads: u32,
    /// When operations are sent.
    pub mode: Mode,
    /// Load before the measured window.
    pub warmup: Duration,
    /// The measured window.
    pub duration: Duration,
    /// What is sent.
    pub workload: WorkloadOptions,
    /// When requests are sent again.
    pub retransmission: Retransmission,
    /// An operation that takes longer is counted as timed out (and goes on being retransmitted).
    pub timeout: Duration,
    /// Which transport to open.
    pub transport: TransportChoice,
    /// The network to emulate.
    pub network: Option<NetworkSpec>,
    /// Changes of its links while the load runs; links are emulated from the start if there can be any.
    pub changes: Option<Arc<LinkChanges>>,
    /// Which operations are followed, to tell where time goes.
    pub sampling: Sampling,
    /// Seeds the schedule, the workload, and the emulated network if that has no seed of its own.
    pub seed: u64,
    /// Where the interval log goes.
    pub hlog: PathBuf,
    /// Set to stop early.
    pub stop: Arc<AtomicBool>,
}

/// Carries changes of emulated links to all threads of a load.
#[derive(Debug, Default)]
pub struct LinkChanges {
    threads: Mutex<Vec<Sender<Change>>>,
}

impl LinkChanges {
    /// Makes a change that has been [checked](Change::check) on every thread, soon. One that comes before the threads
    /// have started is lost.
    pub fn make(&self, change: &Change) {
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            // A thread that has ended has no links.
            let _ = thread.send(change.clone());
        }
    }

    pub(crate) fn subscribe(&self) -> Receiver<Change> {
        let (changes, subscribed) = channel();
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(changes);
        subscribed
    }
}

/// Why a load can not be driven.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The keys do not fit the cluster file.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The node has no logical clients in the cluster file.
    #[error("node {0} is no client node of the cluster file")]
    NotAClient(NodeId),
    /// The rate can not be scheduled.
    #[error(transparent)]
    Rate(#[from] RateError),
    /// The workload can not be made.
    #[error(transparent)]
    Workload(#[from] YcsbError),
    /// A number is out of range.
    #[error("{option} = {value}: allowed: {allowed}")]
    Option {
        /// The option.
        option: &'static str,
        /// What was given.
        value: String,
        /// What may be given.
        allowed: String,
    },
    /// Too few replicas answer.
    #[error("only {connected} of {n} replicas could be reached within {CONNECT_WITHIN:?}, {needed} are needed{why}")]
    Unreachable {
        /// How many were reached.
        connected: usize,
        /// How many there are.
        n: usize,
        /// How many are needed.
        needed: usize,
        /// What was refused, if anything was.
        why: String,
    },
    /// A file, a thread or a transport failed.
    #[error("{what}: {error}")]
    Io {
        /// While doing what.
        what: String,
        /// The error.
        error: std::io::Error,
    },
}
