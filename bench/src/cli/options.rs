//! Options that several commands share. Their fields' names are also the keys of configuration files.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "clap shows these comments as they are: brackets mean optional parts"
)]

use std::time::Duration;

use clap::Args;
use hippodrome_engine::app::kv;
use hippodrome_engine::emulation::NetworkSpec;
use hippodrome_engine::limits::{
    CONNECTIONS_MAX, KV_RECORDS_MAX, OPERATION_BYTES_MAX, RESULT_BYTES_MAX, SNAPSHOT_EVERY_BYTES_MAX,
    SNAPSHOT_EVERY_BYTES_MIN, VIEW_TIMEOUT_MS_MAX, VIEW_TIMEOUT_MS_MIN, WINDOW_MAX,
};
use hippodrome_engine::settings::{
    Authentication, Batching, ClusterSettings, Dissemination, Durability, ExecutionChoice, Granularity, Placement,
    Reads, Replies, Strategy, TransportChoice, WaitChoice,
};
use hippodrome_loadgen::generator::Mode;
use serde::Serialize;

use super::values::{
    App, Arrivals, Count, Network, Preset, Size, Span, Workload, count, name, real, size, size_between, span, whole,
    whole_seconds,
};
use crate::failure::Failure;

/// Longest run, s.
const SECONDS_MAX: u64 = 24 * 3600;

/// What all nodes must agree on.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
#[command(next_help_heading = "Cluster (all nodes must agree)")]
pub(crate) struct ClusterOptions {
    // What there is to choose from comes from the engine's registry.
    #[arg(long, value_name = "PRESET", default_value = "mac", help = auth_help(), long_help = auth_long_help())]
    pub(crate) auth: Preset,

    #[arg(long, value_name = "STRATEGY", help = strategies_help("Requests only"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) auth_clients: Option<Strategy>,

    #[arg(long, value_name = "STRATEGY", help = strategies_help("Between replicas only"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) auth_replicas: Option<Strategy>,

    #[arg(long, value_name = "STRATEGY", help = strategies_help("Replies only"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) auth_replies: Option<Strategy>,

    /// What one authenticator of clients covers: request, or frame (up to 64 requests that are sent together)
    ///
    /// With `frame` a load generator proves its requests in groups, whichever of them end up in a batch together: fewer
    /// proofs to make, to check and to send. A batch that lacks requests of a group carries their digests.
    #[arg(long, value_name = "WHAT", default_value_t = Granularity::Request)]
    pub(crate) auth_granularity: Granularity,

    /// How requests get to the replicas: inline, or digest
    ///
    /// `inline`: clients send them to the primary, whose pre-prepares carry them to the backups. `digest`: clients send
    /// them to all replicas at once, and pre-prepares carry their digests.
    #[arg(long, value_name = "HOW", default_value_t = Dissemination::Inline)]
    pub(crate) dissemination: Dissemination,

    /// When replicas execute a batch: committed, or tentative (when it is prepared; undone if a view change decides so)
    ///
    /// With `tentative`, clients wait for Q = ceil((n+f+1)/2) equal replies of one view, or f+1 of what is committed;
    /// that saves one message delay.
    #[arg(long, value_name = "WHEN", default_value_t = ExecutionChoice::Committed)]
    pub(crate) execution: ExecutionChoice,

    /// Who sends results: batch-digest (one replica, the others a digest of each batch), full (all), digest (one each)
    ///
    /// With `batch-digest` the load generator designates who sends them, and another replica when that one fails or is
    /// late; replies to a batch that take less than 256 bytes, and tentative ones, come from all. With `digest` it is
    /// another replica with each operation, the others send its digest, and results of at most 32 bytes come from all.
    #[arg(long, value_name = "STRATEGY", default_value_t = Replies::BatchDigest)]
    pub(crate) replies: Replies,

    /// How operations that change nothing are done: ordered, or read-only (all replicas are asked, a quorum must agree)
    ///
    /// With `read-only`, operations that are ordered need a quorum of equal replies as well.
    #[arg(long, value_name = "STRATEGY", default_value_t = Reads::Ordered)]
    pub(crate) reads: Reads,

    /// Watermark window L: sequence numbers past the stable checkpoint that may be in use, at least twice the
    /// checkpoint interval, at most 4096
    #[arg(long, value_name = "L", default_value_t = 256, value_parser = whole::<u64>(2, WINDOW_MAX))]
    pub(crate) window: u64,

    /// A checkpoint every K sequence numbers, 1 to 2048
    #[arg(long, value_name = "K", default_value_t = 128, value_parser = whole::<u64>(1, WINDOW_MAX / 2))]
    pub(crate) checkpoint_interval: u64,

    /// How long backups wait for the primary to commit what it has to order before they replace it, 10ms to 60s
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = span(Duration::from_millis(VIEW_TIMEOUT_MS_MIN), Duration::from_millis(VIEW_TIMEOUT_MS_MAX)))]
    pub(crate) view_timeout: Span,

    /// The replicated application
    #[arg(long, value_enum, default_value_t = App::Null)]
    pub(crate) app: App,

    /// Size of each result of the null application, 0 to 1MiB
    #[arg(long, value_name = "SIZE", default_value = "16", value_parser = size(RESULT_BYTES_MAX))]
    pub(crate) reply_bytes: Size,

    /// kv: number of records that the store starts with, 1 to 10000000
    #[arg(long, value_name = "N", default_value_t = kv::RECORDS, value_parser = whole::<u64>(1, KV_RECORDS_MAX))]
    pub(crate) records: u64,

    /// kv: size of each value, 20 to 16KiB
    #[arg(long, value_name = "SIZE", default_value = "100", value_parser = size_between(kv::VALUE_BYTES_MIN, kv::VALUE_BYTES_MAX))]
    pub(crate) value_bytes: Size,
}

fn auth_help() -> String {
    format!("Who proves what to whom: {}", Authentication::allowed())
}

/// Each preset with what it is.
fn auth_long_help() -> String {
    let mut text = "Who proves what to whom: one strategy for all links, or a mixture\n".to_owned();
    for preset in Authentication::presets() {
        let summary = Strategy::named(preset).map_or_else(
            || preset.parse().map_or_else(|_| String::new(), |mixture: Authentication| mixture.in_words()),
            |strategy| strategy.about().summary.to_owned(),
        );
        text.push_str(&format!("\n  {preset}: {summary}"));
    }
    text
}

fn strategies_help(which: &str) -> String {
    format!("{which}, instead of --auth: {}", Strategy::allowed())
}

/// Whether the option of this name says for one class of links what `--auth` says for all of them.
pub(crate) fn refines_auth(key: &str) -> bool {
    ["auth-clients", "auth-replicas", "auth-replies"].contains(&key)
}

/// Whether this is such an option with its value, as it is typed.
pub(crate) fn is_auth_refined(flag: &str) -> bool {
    flag.strip_prefix("--").and_then(|flag| flag.split('=').next()).is_some_and(refines_auth)
}

impl ClusterOptions {
    /// The three strategies after all overrides.
    pub(crate) fn authentication(&self) -> Authentication {
        let preset = self.auth.0;
        Authentication {
            clients: self.auth_clients.unwrap_or(preset.clients),
            replicas: self.auth_replicas.unwrap_or(preset.replicas),
            replies: self.auth_replies.unwrap_or(preset.replies),
        }
    }

    /// The settings as the cluster file has them.
    pub(crate) fn settings(&self) -> ClusterSettings {
        ClusterSettings {
            protocol: "pbft".into(),
            authentication: self.authentication(),
            auth_granularity: self.auth_granularity,
            dissemination: self.dissemination,
            execution: self.execution,
            replies: self.replies,
            reads: self.reads,
            window: self.window,
            checkpoint_interval: self.checkpoint_interval,
            view_timeout_ms: u64::try_from(self.view_timeout.0.as_millis()).unwrap_or(VIEW_TIMEOUT_MS_MAX),
            application: match self.app {
                App::Null => "null".into(),
                App::Kv => "kv".into(),
            },
            reply_bytes: self.reply_bytes.0,
            records: self.records,
            value_bytes: self.value_bytes.0,
        }
    }
}

/// How each replica works.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
#[command(next_help_heading = "Replica")]
pub(crate) struct ReplicaTuning {
    /// When the primary closes a batch: one of the strategies that there are. Its help comes from their files.
    #[arg(
        long,
        value_name = "STRATEGY",
        default_value_t = Batching::default(),
        help = format!("When the primary closes a batch: {}", Batching::usage()),
        long_help = format!("When the primary closes a batch\n\n{}", Batching::help()),
    )]
    pub(crate) batch: Batching,

    /// Which stages share a thread and a core: auto, fused, pipelined, STAGE[+STAGE..][@CORE],.., or
    /// NETWORK,ORDER,EXECUTE,EGRESS,VERIFY[,VERIFY..]
    ///
    /// `fused`: all stages in one loop. `pipelined`: each on a thread of its own. Groups of stages
    /// (network+egress@2,verify@3,verify@4,order+execute@5) have a thread each, pinned where a core is named; network,
    /// order, execute and egress are there once, verify once or more. A list of cores (0,1,2,2,3,4) pins each stage;
    /// the same core twice fuses. `auto` goes by the cores there are, which of them are hardware threads of one
    /// physical core, their NUMA nodes, the replicas that share the machine, and whether each request is signed: then
    /// most cores verify. Cores that are named are the same for all replicas.
    #[arg(long, value_name = "PLACEMENT", default_value_t = Placement::Auto)]
    pub(crate) placement: Placement,

    /// What idle threads do: auto, spin, yield, or park
    ///
    /// Spin only where every thread has a physical core of its own; `auto` finds out, and parks where cores were named
    /// and several replicas share the machine.
    #[arg(long, value_name = "HOW", default_value_t = WaitChoice::Auto)]
    pub(crate) wait: WaitChoice,

    /// What a replica makes durable: none, or wal
    ///
    /// `wal`: every vote is in a write-ahead log on disk before it is sent (group commits with fdatasync), so that a
    /// replica that is started again goes on where it was. `none`: nothing; a replica that is started again has
    /// forgotten its votes, so it follows, executes and answers, but never votes. `run` gives each replica a directory
    /// beside the results, replica-0 and so on, and leaves it there.
    #[arg(long, value_name = "WHAT", default_value_t = Durability::None)]
    pub(crate) durability: Durability,

    /// wal: write the state and truncate the log behind it after so much log, 1MiB to 1TiB
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = size_between(SNAPSHOT_EVERY_BYTES_MIN as usize, SNAPSHOT_EVERY_BYTES_MAX as usize))]
    pub(crate) snapshot_every: Size,

    /// A handicap: burn so much CPU time for each executed operation, ns, 1 to 1000000
    ///
    /// In every replica, so that a difference of known size can be planted and `hippodrome compare` be tested by it.
    #[arg(long, value_name = "NS", value_parser = whole::<u64>(1, 1_000_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) burn_ns: Option<u64>,
}

/// What moves the bytes of a process, and over what network it is to seem.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
#[command(next_help_heading = "Transport")]
pub(crate) struct TransportOptions {
    /// What moves the bytes: auto, epoll, tokio-uring, or io-uring[:OPTION,..]
    ///
    /// `auto` takes what measured best, which is epoll. The other two need io_uring, which some kernels and containers
    /// lack or forbid: that is an error. tokio-uring is io_uring through the runtime of that name. io-uring does
    /// without a runtime, from Linux 6.1 on; its options are sqpoll (a thread of the kernel takes what is submitted)
    /// and napi=TIME (a wait polls the network card for so long, 1us to 10ms). See docs/transports.md.
    #[arg(long, value_name = "BACKEND", default_value_t = TransportChoice::Auto)]
    pub(crate) transport: TransportChoice,

    /// Emulate a network: none, lan, lossy-lan, wan-aws-5, wan-eu, wan-us, a TOML file, or KEY=VALUE,..
    ///
    /// Frames to other processes are held back, lost or stopped by each sender, without root: delay=20ms, jitter=2ms,
    /// distribution=normal or uniform, loss=0.1% (of frames), bandwidth=100Mbit, reorder=on, blocked=on. Values behind
    /// a preset or a file change what each of its links does (wan-eu,loss=0.1%). Nodes are placed in the regions of a
    /// WAN in turn, replicas first; its delays are half of measured round-trip times. Every process of a cluster must
    /// be given the same. See docs/emulation.md.
    #[arg(long, value_name = "SPEC")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) network: Option<Network>,
}

impl TransportOptions {
    /// The network to emulate, if it does anything, checked against the number of nodes.
    ///
    /// # Errors
    /// If it names a node that is not there.
    pub(crate) fn network(&self, nodes: usize) -> Result<Option<NetworkSpec>, Failure> {
        let Some(network) = self.network.as_ref().filter(|network| !network.spec.is_clear()) else { return Ok(None) };
        network.spec.check(nodes).map_err(Failure::usage)?;
        Ok(Some(network.spec.clone()))
    }
}

/// How many threads and connections the load generator of a run has.
#[derive(Clone, Copy, Debug, PartialEq, Args, Serialize)]
#[command(next_help_heading = "Load")]
pub(crate) struct GeneratorOptions {
    /// Connections from the load generator to each replica: auto (one for each load thread), or 1 to 64 and at most one
    /// a client
    #[arg(long, value_name = "N", default_value_t = Count::Auto, value_parser = count(CONNECTIONS_MAX))]
    pub(crate) connections: Count,

    /// Threads of the load generator: auto, or 1 to 64, each with a connection of its own, so at most --connections
    ///
    /// `auto`: as many as there are physical cores that no thread of a replica is pinned to, less one for each thread
    /// of a replica that is pinned to none; at least 1, at most 4, and no more than there are clients or, if that is
    /// given, --connections. What came of it is in the summary and in `generator` of report.json.
    #[arg(long, value_name = "N", default_value_t = Count::Auto, value_parser = count(CONNECTIONS_MAX))]
    pub(crate) load_threads: Count,
}

impl GeneratorOptions {
    /// Checks what is given against the other one and against so many logical clients.
    ///
    /// # Errors
    /// Names the key, the value and what is allowed.
    pub(crate) fn check(&self, clients: u32) -> Result<(), Failure> {
        let (connections, threads) = (self.connections.given(), self.load_threads.given());
        if let (Some(threads), Some(connections)) = (threads, connections) {
            check_threads(threads, connections)?;
        }
        if let Some(connections) = connections.filter(|connections| *connections > clients) {
            return Err(Failure::value("connections", connections, format!("at most --clients ({clients})")));
        }
        match threads.filter(|threads| *threads > clients) {
            Some(threads) => Err(Failure::value("load_threads", threads, format!("at most --clients ({clients})"))),
            None => Ok(()),
        }
    }
}

/// Checks that each of so many threads of a load generator has a connection of its own.
///
/// # Errors
/// Names the key, the value and what is allowed.
pub(crate) fn check_threads(load_threads: u32, connections: u32) -> Result<(), Failure> {
    if load_threads > connections {
        let allowed = format!("at most --connections ({connections})");
        return Err(Failure::value("load_threads", load_threads, allowed));
    }
    Ok(())
}

/// What is sent, and when.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
#[command(next_help_heading = "Load")]
pub(crate) struct LoadTuning {
    /// Length of the measured window, whole seconds, 1s to 24h
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = whole_seconds(1, SECONDS_MAX))]
    pub(crate) duration: Span,

    /// Load before the measured window, whole seconds, 0s to 24h
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = whole_seconds(0, SECONDS_MAX))]
    pub(crate) warmup: Span,

    /// Open loop: operations a second, 1 to 1e9. Without it: closed loop
    ///
    /// Open loop: a schedule fixed in advance, latency from the intended send. Closed loop: each logical client waits
    /// for its answer before it sends again, which finds the highest throughput and understates the tail of latency.
    #[arg(long, value_name = "OPS_PER_S", value_parser = real(1.0, 1e9))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<f64>,

    /// Spacing of the sends of an open loop [default: constant]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) arrivals: Option<Arrivals>,

    /// null: size of each operation, 0 to 1MiB
    #[arg(long, value_name = "SIZE", default_value = "16", value_parser = size(OPERATION_BYTES_MAX))]
    pub(crate) request_bytes: Size,

    /// kv: YCSB's mix of operations
    #[arg(long, value_enum, default_value_t = Workload::A)]
    pub(crate) workload: Workload,

    /// kv: exponent of the Zipf distribution of keys, 0 (uniform) to 2
    #[arg(long, value_name = "EXPONENT", default_value_t = 0.99, value_parser = real(0.0, 2.0))]
    pub(crate) zipf: f64,

    /// Send a request again to all replicas after this time without a reply quorum, 1ms to 1h
    ///
    /// Or after four usual latencies, where those are longer, though not than --retransmit-max. One request at a time,
    /// the oldest of each load thread, is sent to all replicas after a quarter of it already, as a probe: by these
    /// backups notice a primary that is slow.
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = span(Duration::from_millis(1), Duration::from_secs(3600)))]
    pub(crate) retransmit_after: Span,

    /// The pause between sending it again doubles up to this, 1ms to 1h
    #[arg(long, value_name = "TIME", default_value = "8s", value_parser = span(Duration::from_millis(1), Duration::from_secs(3600)))]
    pub(crate) retransmit_max: Span,

    /// An operation without a reply quorum after this time counts as timed out, 1ms to 1h
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = span(Duration::from_millis(1), Duration::from_secs(3600)))]
    pub(crate) timeout: Span,

    /// Decides all random numbers of the load, of an emulated network and of hostile clients [default: a fresh one,
    /// reported]
    #[arg(long, value_name = "N", value_parser = whole::<u64>(0, i64::MAX as u64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seed: Option<u64>,
}

impl LoadTuning {
    /// When operations are sent.
    ///
    /// # Errors
    /// If the spacing of an open loop is given for a closed one.
    pub(crate) fn mode(&self) -> Result<Mode, Failure> {
        match (self.rate, self.arrivals) {
            (None, None) => Ok(Mode::Closed),
            (None, Some(arrivals)) => {
                Err(Failure::value("arrivals", name(&arrivals), "only with --rate (a closed loop has no schedule)"))
            }
            (Some(rate), None | Some(Arrivals::Constant)) => Ok(Mode::Constant(rate)),
            (Some(rate), Some(Arrivals::Poisson)) => Ok(Mode::Poisson(rate)),
        }
    }

    /// Checks how the values relate to each other.
    ///
    /// # Errors
    /// Names the key, the value and what is allowed.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        self.mode()?;
        if self.retransmit_max.0 < self.retransmit_after.0 {
            let allowed = format!("at least --retransmit-after ({})", self.retransmit_after);
            return Err(Failure::value("retransmit_max", self.retransmit_max, allowed));
        }
        Ok(())
    }
}
