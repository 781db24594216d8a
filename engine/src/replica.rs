//! A replica: assembled from its parts, run until it is told to stop.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::app::{self, Application, Validator};
use crate::auth::keyring::Keyring;
use crate::auth::keys::{KeyError, NodeKey};
use crate::byzantine::{Byzantine, Kind};
use crate::control::server::{self, Source};
use crate::emulation::NetworkSpec;
use crate::execute::{Done, Executor, ExecutorConfig};
use crate::limits::{CONNECTIONS_MAX, CONTROL_CONNECTIONS_MAX, DESCRIPTORS_OWN, STRANGERS_MAX};
use crate::pipeline::board::SharedBoard;
use crate::pipeline::clock::Clock;
use crate::pipeline::cores::Cores;
use crate::pipeline::persist::{Failure, PersistParts};
use crate::pipeline::placement::{Plan, WorkProfile};
use crate::pipeline::topology::{self, ByHand, Parts};
use crate::pipeline::worker::Common;
use crate::platform;
use crate::protocol::Protocol;
use crate::protocol::pbft::{Config, Pbft, Recovery};
use crate::sampling::{ReplicaNotes, Sampling};
use crate::settings::{
    Batching, ClusterFile, ClusterSettings, Durability, ExecutionChoice, OnCorruptLog, Placement, Reads, Replies,
    TransportChoice, WaitChoice,
};
use crate::storage::{self, Directory, Identity, Memory, Storage, StorageError, StorageOptions};
use crate::transport::{Transport, raise_descriptor_limit};
use crate::types::{NodeId, ReplicaId, SequenceNumber, nanos};

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
    /// Where it remembers what it must not forget. Without it, it can not know that it ran before: it must never be
    /// started again under the same identity.
    pub data: Option<PathBuf>,
    /// What is made durable there.
    pub durability: Durability,
    /// What to do about a damaged log.
    pub on_corrupt_log: OnCorruptLog,
    /// Bytes of log after which the state is written and the log truncated.
    pub snapshot_every_bytes: u64,
    /// The network to emulate.
    pub network: Option<NetworkSpec>,
    /// How many replicas share this machine.
    pub machine_replicas: usize,
    /// Which of them this is, from 0.
    pub machine_index: usize,
    /// For tests of the audit: from this operation on, this replica computes wrongly.
    pub wrong_from: Option<u64>,
    /// A handicap: CPU time that it burns for each executed operation, ns; 0 for none.
    pub burn_ns: u64,
    /// How it misbehaves on purpose; empty for a correct replica.
    pub byzantine: Vec<Kind>,
    /// Which operations are followed, to tell where time goes.
    pub sampling: Sampling,
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
    /// The data directory can not be used, or not any more.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Executing what is in the log does not give the state that a quorum vouched for.
    #[error(
        "executing the log gives another state at {sequence} than the one that was stable: this build or its \
             application differs from the one that wrote it"
    )]
    OtherState {
        /// The checkpoint.
        sequence: SequenceNumber,
    },
    /// There is nowhere to write a log.
    #[error("durability = wal: allowed only with a data directory")]
    NoDataDirectory,
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

/// Runs a replica until its stop flag is set, or asked to stop over its control port. `up` is called once it takes
/// part: what it remembers is recovered, its sockets are open, and its control port answers.
///
/// # Errors
/// Anything that keeps it from running, by name. Nothing that a peer or a client sends is one.
pub fn run(options: ReplicaOptions, up: impl FnOnce()) -> Result<(), ReplicaError> {
    let io = |what| move |error| ReplicaError::Io { what, error };
    let cores = Cores::here();
    let work = WorkProfile::of(&options.cluster.settings);
    let (replicas, index) = (options.machine_replicas, options.machine_index);
    let mut plan = Plan::new(&options.placement, options.wait, work, &cores, replicas, index);
    if options.durability == Durability::Wal {
        plan = plan.with_persist();
    }
    let common = Common {
        clock: Clock::start(),
        wait: plan.wait,
        board: SharedBoard::default(),
        stop: Arc::clone(&options.stop),
    };
    common.board.lock().notes = ReplicaNotes::new(options.sampling);
    {
        let report = &mut common.board.lock().report;
        report.placement.clone_from(&plan.explanation);
        report.durability = Durability::None.to_string();
    }
    platform::log(&format!("replica {}: placement {}", options.id, plan.explanation));
    let (board, stop) = (common.board.clone(), Arc::clone(&options.stop));
    let control = options.control.try_clone().map_err(io("control port"))?;
    provide_descriptors(&options.cluster, options.id);
    let failure = Failure::default();
    let (parts, _locked) = parts(options, &common, &failure)?;
    let running = topology::start(parts, &plan, &common).map_err(io("start"))?;
    platform::log(&format!("transport {}", board.lock().report.transport));
    let (questions, links) = (running.questions.clone(), running.links.clone());
    let source = Source { board, clock: common.clock, questions, links, stop: Arc::clone(&stop) };
    let served = server::serve(control, source);
    if let Err(error) = served {
        stop.store(true, Ordering::Relaxed);
        let _ = running.join();
        return Err(io("control port")(error));
    }
    up();
    while !stop.load(Ordering::Relaxed) && !running.any_ended() {
        std::thread::sleep(Duration::from_millis(20));
    }
    stop.store(true, Ordering::Relaxed);
    running.join().map_err(io("run"))?;
    // All threads that could set it have ended; the thread that writes snapshots has no part in it.
    Arc::into_inner(failure).and_then(OnceLock::into_inner).map_or(Ok(()), |error| Err(error.into()))
}

/// A replica that nobody runs, without a data directory, over `transport`: its stages, for whoever takes the steps by
/// hand. What `options` say of threads, the transport and the control port is not looked at.
///
/// # Errors
/// Anything that keeps it from being put together, by name.
///
/// # Panics
/// If it has a data directory: nobody would keep that locked.
pub fn by_hand(
    options: ReplicaOptions,
    transport: Box<dyn Transport>,
    common: &Common,
) -> Result<ByHand, ReplicaError> {
    assert!(options.data.is_none(), "a replica that is driven by hand has no data directory");
    let (parts, _) = parts(options, common, &Failure::default())?;
    topology::by_hand(parts, transport, common).map_err(|error| ReplicaError::Io { what: "start", error })
}

/// Takes all file descriptors that this process may have, and says if they may not suffice: then whoever connects first
/// keeps the others out.
fn provide_descriptors(cluster: &ClusterFile, id: ReplicaId) {
    let needed = Descriptors::of(cluster);
    match raise_descriptor_limit() {
        Ok(allowed) if allowed >= needed.sum() as u64 => {}
        Ok(allowed) => platform::log(&format!(
            "replica {id}: {allowed} file descriptors are allowed, up to {} may be needed ({needed}): raise the hard \
             limit (ulimit -Hn)",
            needed.sum()
        )),
        Err(error) => platform::log(&format!("replica {id}: can not raise the limit of file descriptors: {error}")),
    }
}

/// How many file descriptors a replica may need, by what for.
struct Descriptors {
    peers: usize,
    client_nodes: usize,
}

impl Descriptors {
    fn of(cluster: &ClusterFile) -> Self {
        let each = |clients: std::ops::Range<u32>| CONNECTIONS_MAX.min(clients.end - clients.start) as usize;
        Self {
            // One that is lost and the one that takes its place.
            peers: 2 * (cluster.quorums().n() - 1),
            client_nodes: cluster.client_nodes().map(|(_, clients)| each(clients)).sum(),
        }
    }

    const fn sum(&self) -> usize {
        self.peers + self.client_nodes + STRANGERS_MAX + CONTROL_CONNECTIONS_MAX + DESCRIPTORS_OWN
    }
}

impl std::fmt::Display for Descriptors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { peers, client_nodes } = self;
        write!(
            f,
            "peers {peers}, client nodes {client_nodes}, strangers {STRANGERS_MAX}, control {CONTROL_CONNECTIONS_MAX}, \
             its own {DESCRIPTORS_OWN}"
        )
    }
}

/// What the stages are made of, and the data directory, which stays locked for as long as it lives.
fn parts(
    options: ReplicaOptions,
    common: &Common,
    failure: &Failure,
) -> Result<(Parts, Option<Arc<Directory>>), ReplicaError> {
    let storage_options = storage_options(&options)?;
    let handicap = (options.wrong_from, options.burn_ns);
    let ReplicaOptions { cluster, key, id, listener, batching, transport, byzantine, network, sampling, .. } = options;
    let quorums = cluster.quorums();
    if usize::from(id.0) >= quorums.n() {
        return Err(ReplicaError::UnknownReplica { id, n: quorums.n() });
    }
    let keyring = Keyring::new(&cluster, NodeId::of(id), &key)?;
    let client_nodes: Vec<_> = cluster.client_nodes().collect();
    let settings = &cluster.settings;
    let executor_config = ExecutorConfig {
        own: id,
        client_nodes: client_nodes.clone(),
        checkpoint_interval: settings.checkpoint_interval,
        designates: (settings.replies == Replies::Digest).then_some(quorums.n()),
        tentative: settings.execution == ExecutionChoice::Tentative,
    };
    let mut executor = Executor::new(executor_config, application(&cluster, handicap)?);
    let identity = Identity { fingerprint: cluster.fingerprint(), replica: id };
    let remembered = match &storage_options {
        Some(options) => remember(options, identity, &mut executor, settings, common, failure)?,
        None => Remembered { directory: None, voting: true, resumed: None },
    };
    let Remembered { directory, voting, resumed } = remembered;
    common.board.lock().report.voting = voting;
    let config = Config { durable: resumed.is_some(), voting, ..config(&cluster, id, batching) };
    let mut first = Vec::new();
    let now = common.clock.now();
    let view_timeout_ns = config.view_timeout_ns;
    let (protocol, persist) = match resumed {
        Some(Resumed { recovery, persist, .. }) => (Pbft::recover(config, recovery, now, &mut first), Some(persist)),
        None => (Pbft::new(config, now, &mut first), None),
    };
    let mut protocol: Box<dyn Protocol> = Box::new(protocol);
    if !byzantine.is_empty() {
        let replica = Byzantine::new(protocol, byzantine.clone(), quorums.n(), id, u64::from(id.0));
        protocol = Box::new(replica.with_view_timeout(view_timeout_ns));
    }
    let addresses: Vec<SocketAddr> = cluster.voters().filter_map(|node| node.address).collect();
    let network = network.filter(|network| !network.is_clear());
    let emulation = network.map(|network| network.links(NodeId::of(id), cluster.nodes.len(), rand::random()));
    let parts = Parts {
        own: id,
        keyring,
        protocol,
        first,
        executor,
        validator: validator(settings)?,
        reads: settings.reads == Reads::ReadOnly,
        byzantine,
        listener,
        addresses,
        client_nodes,
        transport,
        persist,
        emulation,
        batch_digests: settings.replies == Replies::BatchDigest,
        sampling,
    };
    Ok((parts, directory))
}

/// What the protocol core has to know of its cluster.
fn config(cluster: &ClusterFile, own: ReplicaId, batching: Batching) -> Config {
    let settings = &cluster.settings;
    Config {
        quorums: cluster.quorums(),
        own,
        window: settings.window,
        checkpoint_interval: settings.checkpoint_interval,
        batching,
        dissemination: settings.dissemination,
        execution: settings.execution,
        clients: cluster.clients(),
        principals: cluster.client_nodes().map(|(_, clients)| clients).collect(),
        status_interval_ns: nanos(STATUS_INTERVAL),
        view_timeout_ns: settings.view_timeout_ms * 1_000_000,
        view_timeout_max_ns: nanos(VIEW_TIMEOUT_MAX),
        durable: false,
        voting: true,
        planted: None,
    }
}

fn storage_options(options: &ReplicaOptions) -> Result<Option<StorageOptions>, ReplicaError> {
    let &ReplicaOptions { durability, on_corrupt_log, snapshot_every_bytes, .. } = options;
    match &options.data {
        None if durability == Durability::Wal => Err(ReplicaError::NoDataDirectory),
        None => Ok(None),
        Some(path) => Ok(Some(StorageOptions { path: path.clone(), durability, on_corrupt_log, snapshot_every_bytes })),
    }
}

/// What a data directory makes of a replica.
struct Remembered {
    /// Locked for as long as this lives.
    directory: Option<Arc<Directory>>,
    voting: bool,
    /// Where votes are made durable.
    resumed: Option<Resumed>,
}

/// Opens the data directory, restores what is found there, and says so.
fn remember(
    options: &StorageOptions,
    identity: Identity,
    executor: &mut Executor,
    settings: &ClusterSettings,
    common: &Common,
    failure: &Failure,
) -> Result<Remembered, ReplicaError> {
    let say = |text: &str| platform::log(&format!("replica {}: {text}", identity.replica));
    let started = Instant::now();
    let storage = storage::open(options, identity, |snapshot| {
        let restored = executor.restore(snapshot.sequence, snapshot.digest, &snapshot.chunks);
        restored.map_err(|error| error.to_string())
    })?;
    storage.notes.iter().for_each(|note| say(note));
    let Storage { directory, mut voting, ran_before, memory, .. } = storage;
    if ran_before {
        executor.refuse_reads();
    }
    let mut resumed = None;
    if let Some(memory) = memory {
        let by = format!("wal, by {}", memory.backend);
        let (found, what) = resume(memory, options, &directory, executor, settings, failure)?;
        say(&format!("{what}, in {:.1} ms; votes are made durable: {by}", started.elapsed().as_secs_f64() * 1e3));
        common.board.lock().report.durability = by;
        if !found.recovery.is_whole(settings.window) {
            say("its log does not lead to all its votes: it votes no more before it is started again");
            voting = false;
        }
        resumed = Some(found);
    }
    Ok(Remembered { directory: Some(directory), voting, resumed })
}

/// What a replica goes on with.
struct Resumed {
    recovery: Recovery,
    persist: PersistParts,
}

/// Executes what was decided after the state that was restored, up to the last checkpoint that was stable. Nobody waits
/// for replies to that any more. Also says what was recovered.
fn resume(
    memory: Memory,
    options: &StorageOptions,
    directory: &Arc<Directory>,
    executor: &mut Executor,
    settings: &ClusterSettings,
    failure: &Failure,
) -> Result<(Resumed, String), ReplicaError> {
    let Memory { saved, records, log_bytes, log, kept, .. } = memory;
    let recorded = records.len();
    let (executions, recovery) = Recovery::plan(saved, records);
    let mut done = Vec::new();
    for execution in &executions {
        done.clear();
        executor.execute(execution, &mut done);
    }
    let stable = recovery.stable;
    if done.iter().any(|done| matches!(done, Done::Checkpoint(_, digest) if *digest != stable.digest)) {
        return Err(ReplicaError::OtherState { sequence: stable.sequence });
    }
    let what = format!(
        "recovered the state at {} and {recorded} records of the log ({log_bytes} bytes), executed {} batches up to the \
         checkpoint at {}",
        saved.sequence,
        executions.len(),
        stable.sequence
    );
    let persist = PersistParts {
        log,
        kept,
        directory: Arc::clone(directory),
        snapshot_every_bytes: options.snapshot_every_bytes,
        checkpoint_interval: settings.checkpoint_interval,
        executed: stable.sequence,
        failure: Arc::clone(failure),
    };
    Ok((Resumed { recovery, persist }, what))
}

fn validator(settings: &ClusterSettings) -> Result<Validator, ReplicaError> {
    app::validator(settings).ok_or_else(|| ReplicaError::UnknownApplication(settings.application.clone()))
}

/// The application of the cluster, wrong from some operation on or with CPU time to burn, if that is asked.
fn application(
    cluster: &ClusterFile,
    (wrong_from, burn_ns): (Option<u64>, u64),
) -> Result<Box<dyn Application>, ReplicaError> {
    let settings = &cluster.settings;
    let inner = app::open(settings).ok_or_else(|| ReplicaError::UnknownApplication(settings.application.clone()))?;
    let inner = match wrong_from {
        Some(from) => Box::new(app::faulty::Wrong::new(inner, from)),
        None => inner,
    };
    Ok(if burn_ns > 0 { Box::new(app::burning::Burning::new(inner, burn_ns)) } else { inner })
}
