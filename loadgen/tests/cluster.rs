//! Four replicas and a load generator in one process, over real sockets: the shortest path through everything but the
//! launcher.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use hippodrome_engine::auth::NodeKey;
use hippodrome_engine::emulation::{NetworkSpec, Override};
use hippodrome_engine::limits::{REQUEST_COLUMNS_BYTES_MIN, SNAPSHOT_EVERY_BYTES_MIN, VIEW_TIMEOUT_MS_MAX};
use hippodrome_engine::replica::{self, ReplicaError, ReplicaOptions};
use hippodrome_engine::sampling::Sampling;
use hippodrome_engine::settings::{
    Batching, ClusterFile, ClusterSettings, Dissemination, Durability, OnCorruptLog, Placement, TransportChoice,
    WaitChoice,
};
use hippodrome_engine::types::{NodeId, ReplicaId};
use hippodrome_loadgen::generator::{self, LoadOptions, Mode, Retransmission, WorkloadKind, WorkloadOptions};
use hippodrome_loadgen::report::LoadReport;

const CLIENTS: u32 = 64;

/// Stands before each replica, for peers and clients alike, so that connections can be broken.
struct Proxy {
    address: SocketAddr,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let streams: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let all = Arc::clone(&streams);
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let (Ok(near), Ok(far)) = (near, TcpStream::connect(to)) else { continue };
                for (mut from, mut into) in [(&near, &far), (&far, &near)].map(|(from, into)| (both(from), both(into)))
                {
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut into);
                        let _ = into.shutdown(Shutdown::Both);
                    });
                }
                all.lock().unwrap().extend([near, far]);
            }
        });
        Self { address, streams }
    }

    fn break_all(&self) {
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn both(stream: &TcpStream) -> TcpStream {
    stream.try_clone().unwrap()
}

/// Replicas on threads; stopped and joined when dropped.
struct Cluster {
    file: ClusterFile,
    load_key: NodeKey,
    stop: Arc<AtomicBool>,
    proxies: Vec<Proxy>,
    replicas: Vec<JoinHandle<Result<(), ReplicaError>>>,
}

impl Cluster {
    fn start(n: u16, settings: ClusterSettings, placement: &Placement, transport: TransportChoice) -> Self {
        Self::with_network(n, settings, placement, transport, None)
    }

    /// Replicas whose links are emulated.
    fn with_network(
        n: u16,
        settings: ClusterSettings,
        placement: &Placement,
        transport: TransportChoice,
        network: Option<NetworkSpec>,
    ) -> Self {
        let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
        let keys: Vec<NodeKey> = (0..=n).map(|_| NodeKey::generate().unwrap()).collect();
        let listeners: Vec<TcpListener> = (0..n).map(|_| listener()).collect();
        let proxies: Vec<Proxy> =
            listeners.iter().map(|listener| Proxy::start(listener.local_addr().unwrap())).collect();
        let addresses: Vec<SocketAddr> = proxies.iter().map(|proxy| proxy.address).collect();
        let public_key = |id: NodeId| keys[usize::from(id.0)].public_hex();
        let file = ClusterFile::new(settings, &addresses, &[CLIENTS], public_key).unwrap();
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
                data: None,
                durability: Durability::None,
                on_corrupt_log: OnCorruptLog::Refuse,
                snapshot_every_bytes: SNAPSHOT_EVERY_BYTES_MIN,
                network: network.clone(),
                machine_replicas: usize::from(n),
                machine_index: usize::from(id),
                wrong_from: None,
                burn_ns: 0,
                byzantine: Vec::new(),
                sampling: Sampling::OFF,
                stop: Arc::clone(&stop),
            };
            replicas.push(std::thread::spawn(move || replica::run(options, || {})));
        }
        Self { file, load_key: keys[usize::from(n)].clone(), stop, proxies, replicas }
    }

    fn load(&self, mode: Mode, workload: WorkloadOptions, transport: TransportChoice, hlog: &Path) -> LoadReport {
        let retransmission = Retransmission { first: Duration::from_millis(250), longest: Duration::from_secs(1) };
        self.load_over(mode, workload, transport, (retransmission, None), hlog)
    }

    /// The same, over emulated links.
    fn load_over(
        &self,
        mode: Mode,
        workload: WorkloadOptions,
        transport: TransportChoice,
        (retransmission, network): (Retransmission, Option<NetworkSpec>),
        hlog: &Path,
    ) -> LoadReport {
        let options = LoadOptions {
            cluster: self.file.clone(),
            key: self.load_key.clone(),
            node: NodeId(u16::try_from(self.replicas.len()).unwrap()),
            connections: 3,
            threads: u32::try_from(THREADS).unwrap(),
            mode,
            warmup: Duration::from_millis(200),
            duration: Duration::from_secs(1),
            workload,
            retransmission,
            timeout: Duration::from_secs(2),
            transport,
            network,
            sampling: Sampling::OFF,
            changes: None,
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

fn race(
    name: &str,
    settings: ClusterSettings,
    placement: &Placement,
    transport: TransportChoice,
    mode: Mode,
) -> LoadReport {
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
    assert_eq!(report.per_100ms.iter().sum::<u64>(), report.completed.iter().sum::<u64>(), "every tenth is kept");
    assert_eq!(report.completed.len(), CLIENTS as usize);
    report
}

fn digests() -> ClusterSettings {
    ClusterSettings { dissemination: Dissemination::Digest, ..ClusterSettings::default() }
}

/// Least bytes of a request of 16 bytes, with its columns and the tags for four replicas.
const REQUEST_BYTES: u64 = REQUEST_COLUMNS_BYTES_MIN as u64 + 16 + 4 * 16;

#[test]
fn requests_go_to_the_primary_or_to_all_and_their_bytes_are_counted() {
    for (settings, copies) in [(ClusterSettings::default(), 1), (digests(), 4)] {
        let report = race("copies", settings, &Placement::Auto, TransportChoice::Epoll, Mode::Constant(2000.0));
        let once = report.begun.iter().sum::<u64>() * REQUEST_BYTES;
        assert!(report.bytes_sent >= copies * once, "{copies} copies of {once}: {report:?}");
        // Some may be sent again, and frames have heads.
        assert!(copies == 4 || report.bytes_sent < 4 * once, "{copies} copies of {once}: {report:?}");
    }
}

#[test]
fn signed_requests_that_went_to_all_are_answered() {
    let settings = ClusterSettings { authentication: "ed25519-batch".parse().unwrap(), ..digests() };
    race("digests", settings, &Placement::Pipelined, TransportChoice::Auto, Mode::Closed);
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

/// Something goes on beside the load, until it ends.
fn race_while(
    name: &str,
    settings: ClusterSettings,
    transport: TransportChoice,
    disturb: impl Fn(&Cluster, u32) + Sync,
) {
    let hlog = tempfile::Builder::new().prefix(name).suffix(".hlog").tempfile().unwrap();
    let cluster = Cluster::start(4, settings, &Placement::Auto, transport);
    let done = AtomicBool::new(false);
    let report = std::thread::scope(|scope| {
        scope.spawn(|| {
            // As long as the load and not in its last moments, so that all that was begun can be answered.
            for round in 0..9 {
                std::thread::sleep(Duration::from_millis(100));
                if !done.load(Ordering::Relaxed) {
                    disturb(&cluster, round);
                }
            }
        });
        let workload = WorkloadOptions::Null { request_bytes: 16 };
        let report = cluster.load(Mode::Closed, workload, transport, hlog.path());
        done.store(true, Ordering::Relaxed);
        report
    });
    assert!(report.operations > 0, "{report:?}");
    assert_eq!((report.unanswered, report.bad_replies, report.wrong_results), (0, 0, 0), "{report:?}");
    assert_eq!(report.completed, report.begun, "every operation that was begun was answered");
}

#[test]
fn strangers_who_talk_nonsense_disturb_nobody() {
    race_while("strangers", ClusterSettings::default(), TransportChoice::Epoll, |cluster, _| {
        for proxy in &cluster.proxies {
            for _ in 0..10 {
                let mut stream = TcpStream::connect(proxy.address).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
                let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: replica\r\n\r\n");
                assert!(!matches!(stream.read(&mut [0; 64]), Ok(1..)), "a stranger is told nothing");
            }
        }
    });
}

#[test]
fn broken_connections_are_made_again_and_what_they_lost_is_repaired() {
    let inline = ClusterSettings::default;
    for (settings, transport) in
        [(inline(), TransportChoice::Epoll), (inline(), TransportChoice::Auto), (digests(), TransportChoice::Epoll)]
    {
        race_while("broken", settings, transport, |cluster, round| {
            // One replica after the other, the primary too, and all at once in between.
            match round % 5 {
                4 => cluster.proxies.iter().for_each(Proxy::break_all),
                replica => cluster.proxies[replica as usize].break_all(),
            }
        });
    }
}

/// A load of a second over links of which some are blocked, with retransmission only after it.
fn load_over_blocked(name: &str, from: &[u16], to: &[u16]) -> LoadReport {
    let nodes = |ids: &[u16]| Some(ids.iter().copied().map(NodeId).collect());
    let blocked = Override { from: nodes(from), to: nodes(to), link: "blocked=on".into() };
    let network = Some(NetworkSpec { overrides: vec![blocked], ..NetworkSpec::default() });
    let hlog = tempfile::Builder::new().prefix(name).suffix(".hlog").tempfile().unwrap();
    // Backups hear of requests that their primary does not hear of: nobody is to suspect it for that within the load.
    let settings = ClusterSettings { view_timeout_ms: VIEW_TIMEOUT_MS_MAX, ..ClusterSettings::default() };
    let epoll = TransportChoice::Epoll;
    let cluster = Cluster::with_network(4, settings, &Placement::Auto, epoll, network.clone());
    let retransmission = Retransmission { first: Duration::from_secs(2), longest: Duration::from_secs(2) };
    let workload = WorkloadOptions::Null { request_bytes: 16 };
    cluster.load_over(Mode::Closed, workload, epoll, (retransmission, network), hlog.path())
}

/// Threads of a load.
const THREADS: u64 = 2;

#[test]
fn without_replies_each_thread_sends_one_probe() {
    let report = load_over_blocked("mute", &[0, 1, 2, 3], &[4]);
    assert_eq!((report.operations, report.retransmissions, report.probes), (0, 0, THREADS), "{report:?}");
    assert_eq!(report.unanswered, u64::from(CLIENTS), "{report:?}");
}

#[test]
fn probes_reach_the_backups_of_a_primary_that_hears_no_client() {
    let report = load_over_blocked("deaf", &[4], &[0]);
    let (operations, probes) = (report.operations, report.probes);
    assert!(operations > 0 && report.retransmissions == 0, "{report:?}");
    assert!(report.dropped.emulated_block > 0, "{report:?}");
    assert!((operations..=operations + THREADS).contains(&probes), "nothing else reaches anybody: {report:?}");
    assert_eq!(report.unanswered, 0, "{report:?}");
}
