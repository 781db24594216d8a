//! Four replicas and a load generator in one process, over real sockets: the shortest path through everything but the launcher.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hippodrome_engine::auth::NodeKey;
use hippodrome_engine::replica::{self, ReplicaError, ReplicaOptions};
use hippodrome_engine::settings::{
    Batching, ClusterFile, ClusterSettings, Node, Placement, Role, TransportChoice, WaitChoice,
};
use hippodrome_engine::types::{NodeId, ReplicaId};
use hippodrome_loadgen::generator::{self, LoadOptions, Mode, Retransmission, WorkloadKind, WorkloadOptions};
use hippodrome_loadgen::report::LoadReport;

const CLIENTS: u32 = 64;

/// Replicas on threads; stopped and joined when dropped.
struct Cluster {
    file: ClusterFile,
    load_key: NodeKey,
    stop: Arc<AtomicBool>,
    replicas: Vec<JoinHandle<Result<(), ReplicaError>>>,
}

impl Cluster {
    fn start(n: u16, settings: ClusterSettings, placement: &Placement, transport: TransportChoice) -> Self {
        let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
        let keys: Vec<NodeKey> = (0..=n).map(|_| NodeKey::generate().unwrap()).collect();
        let listeners: Vec<TcpListener> = (0..n).map(|_| listener()).collect();
        let addresses: Vec<SocketAddr> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let node = |id: u16| Node {
            id: NodeId(id),
            role: if id < n { Role::Voter } else { Role::Client },
            address: addresses.get(usize::from(id)).copied(),
            public_key: keys[usize::from(id)].public_hex(),
            group: 0,
            clients: if id < n { 0 } else { CLIENTS },
        };
        let file = ClusterFile { settings, nodes: (0..=n).map(node).collect() };
        file.validate().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let mut replicas = Vec::new();
        for (id, server) in (0..n).zip(listeners) {
            let options = ReplicaOptions {
                cluster: file.clone(),
                key: keys[usize::from(id)].clone(),
                id: ReplicaId(id),
                listener: server,
                control: listener(),
                batching: Batching::default(),
                transport,
                placement: placement.clone(),
                wait: WaitChoice::Auto,
                machine_replicas: usize::from(n),
                wrong_from: None,
                stop: Arc::clone(&stop),
            };
            replicas.push(std::thread::spawn(move || replica::run(options)));
        }
        Self { file, load_key: keys[usize::from(n)].clone(), stop, replicas }
    }

    fn load(&self, mode: Mode, workload: WorkloadOptions, transport: TransportChoice, hlog: &Path) -> LoadReport {
        let options = LoadOptions {
            cluster: self.file.clone(),
            key: self.load_key.clone(),
            node: NodeId(u16::try_from(self.replicas.len()).unwrap()),
            connections: 3,
            threads: 2,
            mode,
            warmup: Duration::from_millis(200),
            duration: Duration::from_secs(1),
            workload,
            retransmission: Retransmission { first: Duration::from_millis(250), longest: Duration::from_secs(1) },
            timeout: Duration::from_secs(2),
            transport,
            seed: 7,
            hlog: hlog.to_owned(),
            stop: Arc::clone(&self.stop),
        };
        generator::run(&options, &mut |_| {}).unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for replica in self.replicas.drain(..) {
            let outcome = replica.join().expect("no replica panics");
            assert!(outcome.is_ok() || std::thread::panicking(), "{outcome:?}");
        }
    }
}

fn race(name: &str, settings: ClusterSettings, placement: &Placement, transport: TransportChoice, mode: Mode) {
    let workload = match settings.application.as_str() {
        "kv" => WorkloadOptions::Kv { kind: WorkloadKind::A, zipf: 0.99, value_bytes: 100 },
        _ => WorkloadOptions::Null { request_bytes: 16 },
    };
    let hlog = tempfile::Builder::new().prefix(name).suffix(".hlog").tempfile().unwrap();
    let cluster = Cluster::start(4, settings, placement, transport);
    let report = cluster.load(mode, workload, transport, hlog.path());
    assert!(report.operations > 0, "{report:?}");
    assert_eq!((report.unanswered, report.bad_replies, report.wrong_results), (0, 0, 0), "{report:?}");
    assert_eq!(report.wrong_replies, [0; 4]);
    assert_eq!(report.completed, report.begun, "every operation that was begun was answered");
    assert_eq!(report.completed.len(), CLIENTS as usize);
}

#[test]
fn a_fused_cluster_answers_every_client_over_epoll() {
    race("fused", ClusterSettings::default(), &Placement::Fused, TransportChoice::Epoll, Mode::Closed);
}

#[test]
fn a_pipelined_cluster_answers_every_client() {
    race("pipelined", ClusterSettings::default(), &Placement::Pipelined, TransportChoice::Auto, Mode::Closed);
}

#[test]
fn a_key_value_cluster_gives_results_that_were_written() {
    let settings = ClusterSettings { application: "kv".into(), ..ClusterSettings::default() };
    race("kv", settings, &Placement::Auto, TransportChoice::Epoll, Mode::Closed);
}

#[test]
fn an_open_loop_sends_what_its_schedule_says() {
    race("open", ClusterSettings::default(), &Placement::Auto, TransportChoice::Epoll, Mode::Poisson(2000.0));
}

#[test]
fn signed_requests_and_messages_are_answered() {
    let settings = ClusterSettings { authentication: "ed25519-batch".parse().unwrap(), ..ClusterSettings::default() };
    race("signed", settings, &Placement::Auto, TransportChoice::Epoll, Mode::Closed);
}
