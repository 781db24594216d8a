//! A replica: assembled from its parts, run until it is told to stop.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thiserror::Error;

use crate::app::{self, Application};
use crate::auth::keyring::Keyring;
use crate::auth::keys::{KeyError, NodeKey};
use crate::byzantine::{Byzantine, Kind};
use crate::control::server::{self, Source};
use crate::execute::{Executor, ExecutorConfig};
use crate::pipeline::board::SharedBoard;
use crate::pipeline::clock::Clock;
use crate::pipeline::placement::Plan;
use crate::pipeline::topology::{self, Parts};
use crate::pipeline::worker::Common;
use crate::platform;
use crate::protocol::Protocol;
use crate::protocol::pbft::{Config, Pbft};
use crate::settings::{Batching, ClusterFile, Placement, TransportChoice, WaitChoice};
use crate::types::{NodeId, ReplicaId};

/// How often a replica considers telling the others where it stands.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);
/// The longest that a view time-out grows to.
const VIEW_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// What one replica's process is told.
pub struct ReplicaOptions {
    /// The cluster, validated.
    pub cluster: ClusterFile,
    /// This node's identity.
    pub key: NodeKey,
    /// Which replica it is.
    pub id: ReplicaId,
    /// Where peers and clients connect.
    pub listener: TcpListener,
    /// Where whoever runs the cluster asks.
    pub control: TcpListener,
    /// When this replica, as primary, closes a batch.
    pub batching: Batching,
    /// Which transport to open.
    pub transport: TransportChoice,
    /// Which stages share a thread.
    pub placement: Placement,
    /// How threads wait.
    pub wait: WaitChoice,
    /// How many replicas share this machine.
    pub machine_replicas: usize,
    /// For tests of the audit: from this operation on, this replica computes wrongly.
    pub wrong_from: Option<u64>,
    /// How it misbehaves on purpose; empty for a correct replica.
    pub byzantine: Vec<Kind>,
    /// Set to stop.
    pub stop: Arc<AtomicBool>,
}

/// Why a replica can not run.
#[derive(Debug, Error)]
pub enum ReplicaError {
    /// The keys do not fit the cluster file.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The id is not that of a voter.
    #[error("replica id {id}: allowed: 0 to {}", n - 1)]
    UnknownReplica {
        /// What was asked for.
        id: ReplicaId,
        /// How many there are.
        n: usize,
    },
    /// The application is not shipped.
    #[error("settings.application = {0}: allowed: null, kv")]
    UnknownApplication(String),
    /// A socket, a thread or a transport failed.
    #[error("{what}: {error}")]
    Io {
        /// While doing what.
        what: &'static str,
        /// The error.
        error: std::io::Error,
    },
}

/// Runs a replica until its stop flag is set, or asked to stop over its control port.
///
/// # Errors
/// Anything that keeps it from running, by name. Nothing that a peer or a client sends is one.
pub fn run(options: ReplicaOptions) -> Result<(), ReplicaError> {
    let io = |what| move |error| ReplicaError::Io { what, error };
    let cores = platform::cores();
    let plan = Plan::new(&options.placement, options.wait, &cores, options.machine_replicas, usize::from(options.id.0));
    let common = Common {
        clock: Clock::start(),
        wait: plan.wait,
        board: SharedBoard::default(),
        stop: Arc::clone(&options.stop),
    };
    common.board.lock().report.placement.clone_from(&plan.explanation);
    platform::log(&format!("replica {}: placement {}", options.id, plan.explanation));
    let (board, stop) = (common.board.clone(), Arc::clone(&options.stop));
    let control = options.control.try_clone().map_err(io("control port"))?;
    let running = topology::start(parts(options, &common)?, &plan, &common).map_err(io("start"))?;
    platform::log(&format!("transport {}", board.lock().report.transport));
    let source = Source { board, questions: running.questions.clone(), stop: Arc::clone(&stop) };
    let served = server::serve(control, source);
    if let Err(error) = served {
        stop.store(true, Ordering::Relaxed);
        let _ = running.join();
        return Err(io("control port")(error));
    }
    while !stop.load(Ordering::Relaxed) && !running.any_ended() {
        std::thread::sleep(Duration::from_millis(20));
    }
    stop.store(true, Ordering::Relaxed);
    running.join().map_err(io("run"))
}

fn parts(options: ReplicaOptions, common: &Common) -> Result<Parts, ReplicaError> {
    let ReplicaOptions { cluster, key, id, listener, batching, transport, wrong_from, byzantine, .. } = options;
    let quorums = cluster.quorums();
    if usize::from(id.0) >= quorums.n() {
        return Err(ReplicaError::UnknownReplica { id, n: quorums.n() });
    }
    let keyring = Keyring::new(&cluster, NodeId::of(id), &key)?;
    let client_nodes: Vec<_> = cluster.client_nodes().collect();
    let settings = &cluster.settings;
    let config = Config {
        quorums,
        own: id,
        window: settings.window,
        checkpoint_interval: settings.checkpoint_interval,
        batching,
        clients: cluster.clients(),
        principals: client_nodes.iter().map(|(_, clients)| clients.clone()).collect(),
        status_interval_ns: nanos(STATUS_INTERVAL),
        view_timeout_ns: settings.view_timeout_ms * 1_000_000,
        view_timeout_max_ns: nanos(VIEW_TIMEOUT_MAX),
        durable: false,
        voting: true,
        planted: None,
    };
    let mut first = Vec::new();
    let tamper = byzantine.iter().find_map(|kind| kind.tamper());
    let view_timeout_ns = config.view_timeout_ns;
    let mut protocol: Box<dyn Protocol> = Box::new(Pbft::new(config, common.clock.now(), &mut first));
    if !byzantine.is_empty() {
        let replica = Byzantine::new(protocol, byzantine, quorums.n(), id, u64::from(id.0));
        protocol = Box::new(replica.with_view_timeout(view_timeout_ns));
    }
    let executor_config = ExecutorConfig {
        own: id,
        client_nodes: client_nodes.clone(),
        checkpoint_interval: settings.checkpoint_interval,
    };
    let executor = Executor::new(executor_config, application(&cluster, wrong_from)?);
    let unknown = || ReplicaError::UnknownApplication(cluster.settings.application.clone());
    let validator = app::validator(&cluster.settings).ok_or_else(unknown)?;
    let addresses: Vec<SocketAddr> = cluster.voters().filter_map(|node| node.address).collect();
    Ok(Parts {
        own: id,
        keyring,
        protocol,
        first,
        executor,
        validator,
        tamper,
        listener,
        addresses,
        client_nodes,
        transport,
    })
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn application(cluster: &ClusterFile, wrong_from: Option<u64>) -> Result<Box<dyn Application>, ReplicaError> {
    let settings = &cluster.settings;
    let inner = app::open(settings).ok_or_else(|| ReplicaError::UnknownApplication(settings.application.clone()))?;
    Ok(match wrong_from {
        Some(from) => Box::new(app::faulty::Wrong::new(inner, from)),
        None => inner,
    })
}
