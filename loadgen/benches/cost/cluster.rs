//! Four replicas and a load generator on one thread, without sockets: every stage is the one that real processes run,
//! and its steps are taken in an order that is the same each time.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hippodrome_engine::auth::NodeKey;
use hippodrome_engine::limits::SNAPSHOT_EVERY_BYTES_MIN;
use hippodrome_engine::pipeline::board::{Board, SharedBoard};
use hippodrome_engine::pipeline::clock::Clock;
use hippodrome_engine::pipeline::network::Network;
use hippodrome_engine::pipeline::stage::Stage;
use hippodrome_engine::pipeline::worker::Common;
use hippodrome_engine::replica::{self, ReplicaOptions};
use hippodrome_engine::ring::wait::Wait;
use hippodrome_engine::sampling::{ReplicaNotes, Sampling};
use hippodrome_engine::settings::{
    Batching, ClusterFile, ClusterSettings, Dissemination, Durability, Granularity, OnCorruptLog, Placement,
    TransportChoice, WaitChoice,
};
use hippodrome_engine::transport::memory::Switchboard;
use hippodrome_engine::types::{NodeId, ReplicaId, Time};
use hippodrome_loadgen::generator::by_hand::ByHand;
use hippodrome_loadgen::generator::{LoadOptions, Mode, Retransmission, WorkloadOptions};

use crate::allocations::Spent;
use crate::parts::{Part, Tally};

/// n, with f = 1.
const REPLICAS: u16 = 4;
/// Bytes of an operation and of its result: those that `hippodrome run` has by default.
const OPERATION_BYTES: usize = 16;
/// Batches between two checkpoints where nothing is said, half a window. What is counted is as many, or a multiple: a
/// checkpoint is in it with the share that it has.
const INTERVAL: u64 = 128;
/// How often the stages of a thread step before it looks at its sockets again, as in the engine's worker.
const ROUNDS_MAX: usize = 8;
/// What the replicas' protocol takes one turn of all nodes for, ns. About what it is on a small machine, so that status
/// messages are as rare as there.
const TURN_NS: u64 = 400_000;
/// The time of the first turn, ns. Far behind what a clock of this process tells when a replica is made, so that all
/// that is due then is due in the first turn, however long it took to make it.
const BEGIN_NS: u64 = 3_600_000_000_000;
/// In so many turns handshakes are done.
const CONNECT_TURNS: usize = 16;
/// After so many turns in which nothing was completed nothing ever will be.
const IDLE_TURNS_MAX: usize = 1000;
/// Longer than any benchmark: nothing is sent again because of how long a step took.
const FOR_EVER: Duration = Duration::from_secs(1 << 32);

/// A row of the table: a strategy, under a load.
#[derive(Debug)]
pub(crate) struct Case {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it is, for who reads the table.
    pub(crate) about: &'static str,
    authentication: &'static str,
    granularity: Granularity,
    dissemination: Dissemination,
    /// Batches between two checkpoints; twice as many are a window.
    interval: u64,
    /// How many logical clients have an operation under way each.
    clients: u32,
    /// Operations before the first that counts: memory has reached its size, also that of each sequence number of the
    /// window.
    pub(crate) warm_up: u64,
    /// Operations that count.
    pub(crate) operations: u64,
    /// Whether instructions are counted, too: under valgrind signatures take too long for a gate.
    pub(crate) instructions: bool,
}

/// Requests that 4,000 clients have in a batch, on average: a frame carries 512 at most.
const BATCH: u64 = 500;

const DEFAULT: Case = Case {
    name: "default",
    about: "4,000 clients, MACs, adaptive batches, requests in pre-prepares: what `hippodrome run` does",
    authentication: "mac",
    granularity: Granularity::Request,
    dissemination: Dissemination::Inline,
    interval: INTERVAL,
    clients: 4000,
    warm_up: 2 * INTERVAL * BATCH,
    operations: INTERVAL * BATCH,
    instructions: true,
};

/// All cases, in the order of the table.
pub(crate) const CASES: &[Case] = &[
    DEFAULT,
    Case {
        name: "frame",
        about: "the same, with one authenticator for up to 64 requests",
        granularity: Granularity::Frame,
        ..DEFAULT
    },
    Case {
        name: "digest",
        about: "the same, with requests sent to all replicas and digests in pre-prepares",
        dissemination: Dissemination::Digest,
        ..DEFAULT
    },
    Case {
        name: "ed25519-batch",
        about: "the same, with everything signed and verified in batches, and a quarter of the window",
        authentication: "ed25519-batch",
        interval: INTERVAL / 4,
        warm_up: INTERVAL / 2 * BATCH,
        operations: INTERVAL / 4 * BATCH,
        instructions: false,
        ..DEFAULT
    },
    Case {
        name: "one",
        about: "one client, so that every batch has one operation: what latency is made of",
        clients: 1,
        warm_up: 4 * INTERVAL,
        operations: 4 * INTERVAL,
        ..DEFAULT
    },
];

/// What was counted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Operations that were completed.
    pub(crate) operations: u64,
    /// Batches that the primary executed.
    pub(crate) batches: u64,
    /// What each part has allocated, at all nodes that have it, in the order of [`Part::ALL`].
    pub(crate) spent: [Spent; Part::ALL.len()],
}

/// The nodes.
pub(crate) struct Cluster {
    pub(crate) replicas: Vec<Replica>,
    load: ByHand,
    is_loaded: bool,
    clock: Clock,
    sampling: Sampling,
    turns: u64,
    tally: Tally,
}

/// One replica's stages.
pub(crate) struct Replica {
    network: Network,
    ingress: Part,
    /// Those behind the network, in data-path order.
    pub(crate) stages: Vec<(Part, Box<dyn Stage + Send>)>,
}

impl Cluster {
    /// The nodes of a case, all connected and with nothing to do yet.
    pub(crate) fn start(case: &Case) -> Self {
        let key = |node: NodeId| NodeKey::from_seed([node.0 as u8 + 1; 32]);
        let listeners: Vec<TcpListener> = (0..REPLICAS).map(|_| listener()).collect();
        let addresses: Vec<SocketAddr> = listeners.iter().map(|at| at.local_addr().expect("an address")).collect();
        let settings = ClusterSettings {
            authentication: case.authentication.parse().expect("a preset"),
            auth_granularity: case.granularity,
            dissemination: case.dissemination,
            window: 2 * case.interval,
            checkpoint_interval: case.interval,
            reply_bytes: OPERATION_BYTES as u64,
            ..ClusterSettings::default()
        };
        let file = ClusterFile::new(settings, &addresses, &[case.clients], |node| key(node).public_hex());
        let file = file.expect("a cluster");
        let (board, clock) = (Switchboard::default(), Clock::start());
        // As many as a run follows where nothing is said.
        let sampling = Sampling::one_in(u64::from(case.clients / 4).max(1));
        let replicas = (0..REPLICAS).zip(listeners).map(|(id, listener)| {
            let common = Common { clock, wait: Wait::Park, board: SharedBoard::default(), stop: Arc::default() };
            let options = replica_options(&file, key(NodeId(id)), ReplicaId(id), listener, sampling);
            let stages = replica::by_hand(options, Box::new(board.open()), &common).expect("a replica");
            let part = |name: &str| part(name, id == 0);
            let behind = stages.stages.into_iter().map(|stage| (part(stage.name()), stage)).collect();
            Replica { network: stages.network, ingress: part("ingress"), stages: behind }
        });
        let replicas: Vec<Replica> = replicas.collect();
        let load = load_options(&file, key(NodeId(REPLICAS)), sampling);
        let load = ByHand::new(&load, Box::new(board.open())).expect("a load");
        let mut cluster = Self { replicas, load, is_loaded: false, clock, sampling, turns: 0, tally: Tally::default() };
        (0..CONNECT_TURNS).for_each(|_| cluster.turn());
        assert!(cluster.is_connected(), "all nodes are connected after {CONNECT_TURNS} turns");
        cluster
    }

    /// Whether everybody has a connection to everybody else.
    fn is_connected(&mut self) -> bool {
        let mut board = Board::default();
        self.load.replicas_connected() == self.replicas.len()
            && self.replicas.iter_mut().all(|replica| {
                replica.network.post(&mut board);
                board.report.connected.len() == usize::from(REPLICAS)
            })
    }

    /// Has so many operations go all the way, and counts what the last `operations` of them take.
    ///
    /// # Panics
    /// If anything goes wrong on the way that does not in a run that is well.
    pub(crate) fn measure(mut self, warm_up: u64, operations: u64) -> Counted {
        self.is_loaded = true;
        self.go_on(warm_up);
        let before = (self.load.completed(), self.batches());
        self.tally.start();
        self.go_on(operations);
        let (operations, batches) = (self.load.completed() - before.0, self.batches() - before.1);
        assert_eq!(self.load.finish(), 0, "nothing is wrong, dropped or sent again");
        Counted { operations, batches, spent: self.tally.spent() }
    }

    /// Until so many more operations are complete.
    fn go_on(&mut self, operations: u64) {
        let end = self.load.completed() + operations;
        let mut idle = 0;
        while self.load.completed() < end {
            let before = self.load.completed();
            self.turn();
            idle = if self.load.completed() == before { idle + 1 } else { 0 };
            assert!(idle < IDLE_TURNS_MAX, "{before} operations are complete, and no more come");
        }
    }

    /// Each node has its turn.
    fn turn(&mut self) {
        self.turns += 1;
        let now = Time(BEGIN_NS + self.turns * TURN_NS);
        let tally = &mut self.tally;
        for replica in &mut self.replicas {
            replica.turn(now, &self.clock, tally);
        }
        if self.is_loaded {
            tally.measure(Part::ClientSends, || self.load.send());
        }
        tally.measure(Part::ClientReceives, || self.load.receive()).expect("nothing can fail without sockets");
    }

    /// How many batches the primary has executed.
    fn batches(&mut self) -> u64 {
        let mut board = Board { notes: ReplicaNotes::new(self.sampling), ..Board::default() };
        self.replicas[0].stages.iter_mut().for_each(|(_, stage)| stage.post(&mut board));
        board.report.batches
    }
}

impl Replica {
    /// What the thread of a replica of which all stages are fused does in one round.
    fn turn(&mut self, now: Time, clock: &Clock, tally: &mut Tally) {
        let network = &mut self.network;
        tally.measure(self.ingress, || network.step(Duration::ZERO, clock)).expect("nothing can fail without sockets");
        for _ in 0..ROUNDS_MAX {
            let mut any = false;
            for (part, stage) in &mut self.stages {
                any |= tally.measure(*part, || stage.step(now));
            }
            if !any {
                break;
            }
        }
        tally.measure(self.ingress, || network.take_outgoing(clock));
    }
}

/// The part that a stage is.
fn part(stage: &str, is_primary: bool) -> Part {
    let node = if is_primary { "primary" } else { "backup" };
    let name = format!("{node}: {}", stage.trim_end_matches("-0"));
    let part = Part::ALL.iter().find(|part| part.name() == name);
    *part.unwrap_or_else(|| panic!("{name} is no part"))
}

/// Its address is what it is for: nobody connects to it.
fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a port")
}

fn replica_options(
    cluster: &ClusterFile,
    key: NodeKey,
    id: ReplicaId,
    server: TcpListener,
    sampling: Sampling,
) -> ReplicaOptions {
    ReplicaOptions {
        cluster: cluster.clone(),
        key,
        id,
        listener: server,
        control: listener(),
        batching: Batching::default(),
        transport: TransportChoice::Auto,
        placement: Placement::Fused,
        wait: WaitChoice::Auto,
        data: None,
        durability: Durability::None,
        on_corrupt_log: OnCorruptLog::Refuse,
        snapshot_every_bytes: SNAPSHOT_EVERY_BYTES_MIN,
        network: None,
        machine_replicas: usize::from(REPLICAS),
        machine_index: usize::from(id.0),
        wrong_from: None,
        burn_ns: 0,
        byzantine: Vec::new(),
        sampling,
        stop: Arc::default(),
    }
}

fn load_options(cluster: &ClusterFile, key: NodeKey, sampling: Sampling) -> LoadOptions {
    LoadOptions {
        cluster: cluster.clone(),
        key,
        node: NodeId(REPLICAS),
        connections: 1,
        threads: 1,
        mode: Mode::Closed,
        warmup: Duration::ZERO,
        duration: FOR_EVER,
        workload: WorkloadOptions::Null { request_bytes: OPERATION_BYTES },
        retransmission: Retransmission { first: FOR_EVER, longest: FOR_EVER },
        timeout: FOR_EVER,
        transport: TransportChoice::Auto,
        network: None,
        changes: None,
        sampling,
        seed: 1,
        hlog: PathBuf::new(),
        stop: Arc::default(),
    }
}
