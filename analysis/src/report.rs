//! `report.json`: one run's outcome. Names are fixed; fields may be added, never dropped.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::attribution::Attribution;
use crate::bottleneck::Bottleneck;
use crate::roofline::Efficiency;
use crate::scorecard::Scorecard;
use crate::traffic::Traffic;

/// The schema that this crate writes, and the only one that it reads.
pub const SCHEMA: &str = "hippodrome/run/1";

/// The whole of `report.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// Whether the numbers may be used.
    pub verdict: Verdict,
    /// The resolved settings, named as in the configuration file.
    pub config: serde_json::Value,
    /// Where the run took place.
    pub environment: Environment,
    /// Operations per second in the measured window.
    pub throughput: Throughput,
    /// From the intended send to the completed reply quorum, µs.
    pub latency_us: Latency,
    /// CPU time in the measured window.
    pub cpu: Cpu,
    /// Time that batches took to reach a phase from the one before, µs, as the primary saw it.
    pub phases_us: BTreeMap<String, Phase>,
    /// Every replica, in order of their ids.
    pub replicas: Vec<Replica>,
    /// What went wrong or was made to go wrong, in order of time.
    pub faults: Vec<Fault>,
    /// Whether the load generator can be trusted.
    #[serde(default)]
    pub generator: Generator,
    /// How well requests were batched.
    #[serde(default)]
    pub batches: Batches,
    /// What sampled operations spent their time on; `null` if none was sampled.
    #[serde(default)]
    pub attribution: Option<Attribution>,
    /// What limited the run.
    #[serde(default)]
    pub bottleneck: Bottleneck,
    /// How near it came to what the machine needs at least; `null` where that was not measured.
    #[serde(default)]
    pub efficiency: Option<Efficiency>,
    /// What replicas sent for an operation, beside what the protocol's message complexity says; `null` of scenarios,
    /// and where operations were answered without being ordered.
    #[serde(default)]
    pub traffic: Option<Traffic>,
    /// What the verdict on correctness rests on.
    #[serde(default)]
    pub audit: Audit,
    /// How the faults of a scenario were borne, if one was played.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scorecard: Option<Scorecard>,
}

/// Whether the numbers may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// True if nothing speaks against the run.
    pub valid: bool,
    /// What speaks against it, in words. Empty if valid.
    pub reasons: Vec<String>,
}

/// The machine and the build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// The processor's model name.
    pub cpu: String,
    /// Cores that the run was allowed to use.
    pub cores: usize,
    /// The kernel's release.
    pub kernel: String,
    /// Memory of the machine, bytes.
    pub memory_bytes: u64,
    /// `release` or `debug`.
    pub build_profile: String,
    /// The commit that was built, or `unknown`.
    pub git_commit: String,
    /// Which transport the replicas ran, and why.
    pub transport: String,
    /// Which placement the replicas ran, and why.
    pub placement: String,
    /// Version of the binary.
    #[serde(default)]
    pub version: String,
    /// Which transport the load generator ran, and why.
    #[serde(default)]
    pub client_transport: String,
    /// By which instructions signatures and hashes were computed.
    #[serde(default)]
    pub simd: String,
    /// The network that was emulated, in words; empty if none was.
    #[serde(default)]
    pub network: String,
    /// When the run began, RFC 3339, UTC.
    #[serde(default)]
    pub started_at: String,
}

/// Operations per second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Throughput {
    /// Operations whose reply quorum completed in the measured window, divided by its length.
    pub ops_per_s: f64,
    /// What the schedule asked for; `null` in closed loop.
    pub offered_ops_per_s: Option<f64>,
    /// 95 % confidence interval of the mean rate, from the seconds and corrected for their autocorrelation (see
    /// [`crate::statistics::interval95`]); `null` below two seconds. It covers this run only, not other runs.
    pub ci95: Option<[f64; 2]>,
    /// Each second of the measured window, zeros included.
    pub per_second: Vec<f64>,
    /// Operations completed in the measured window.
    #[serde(default)]
    pub operations: u64,
    /// Length of the measured window, s.
    #[serde(default)]
    pub measured_s: f64,
    /// Operations under way on average by Little's law ([`crate::statistics::outstanding`]); `null` without latencies.
    #[serde(default)]
    pub outstanding: Option<f64>,
    /// Mean rate of the last third of the window against that of the first, percent; `null` below six seconds.
    #[serde(default)]
    pub drift_percent: Option<f64>,
}

/// Percentiles of latency, µs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p99_9: f64,
    /// 99.99th percentile.
    pub p99_99: f64,
    /// Longest.
    pub max: f64,
    /// Mean.
    pub mean: f64,
    /// Operations in the histogram.
    pub count: u64,
}

/// CPU time, user and system, over all processes of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// All processes, µs for each completed operation.
    pub us_per_op_total: f64,
    /// Replicas alone.
    pub us_per_op_replicas: f64,
    /// Load generators alone.
    pub us_per_op_clients: f64,
    /// One replica, on average.
    #[serde(default)]
    pub us_per_op_one_replica: f64,
    /// Share of the machine's CPU time that its host gave to others, percent.
    pub steal_percent: f64,
    /// For how much of the window the cores that the run might use were busy, with whatever, percent: what the host
    /// gave to others is no part of the window.
    #[serde(default)]
    pub cores_busy_percent: f64,
    /// Of that, with replicas.
    #[serde(default)]
    pub cores_replicas_percent: f64,
    /// Of that, with load generators.
    #[serde(default)]
    pub cores_clients_percent: f64,
    /// System calls of the replicas' network threads, for each operation over the whole run: those that moved bytes,
    /// waited for sockets or looked at them.
    #[serde(default)]
    pub system_calls_per_op_replicas: f64,
    /// The same of the load generator's threads.
    #[serde(default)]
    pub system_calls_per_op_clients: f64,
}

/// How long a phase took, µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
}

/// One replica when the load had ended. Of a replica that could not be asked only `id` and `state` mean something.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Replica {
    /// Which replica.
    pub id: u16,
    /// Its view.
    pub view: u64,
    /// Operations executed.
    pub executed_ops: u64,
    /// Highest executed sequence number.
    pub executed_sequence: u64,
    /// Ledger digest after it, hex.
    pub ledger_digest: String,
    /// Low watermark.
    pub stable_checkpoint: u64,
    /// Frames sent.
    pub messages_sent: u64,
    /// Bytes handed to the kernel.
    pub bytes_sent: u64,
    /// System calls of its network thread that moved bytes, waited for sockets or looked at them.
    #[serde(default)]
    pub system_calls: u64,
    /// What was refused or ignored, by reason.
    pub ignored: BTreeMap<String, u64>,
    /// Its stages, in data-path order.
    pub stages: Vec<Stage>,
    /// Its threads in the measured window, as the kernel saw them.
    #[serde(default)]
    pub threads: Vec<ThreadUse>,
    /// `up`, or why it could not be asked.
    #[serde(default)]
    pub state: String,
    /// Batches executed.
    #[serde(default)]
    pub batches: u64,
    /// Read-only requests answered without being ordered.
    #[serde(default)]
    pub reads: u64,
    /// Batches that were executed before they were committed, and undone because a view change decided otherwise.
    #[serde(default)]
    pub rolled_back: u64,
    /// Resident memory, bytes.
    #[serde(default)]
    pub resident_bytes: u64,
    /// Set when its state differed from what a quorum vouched for.
    #[serde(default)]
    pub diverged: Option<String>,
    /// Set when it fell behind what the others still keep.
    #[serde(default)]
    pub left_behind: Option<String>,
}

/// One stage of a replica.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// The core that its thread is pinned to, if any.
    pub core: Option<usize>,
    /// Share of the measured window that it worked, percent; since its start, of a replica that did not answer at the
    /// window's edges.
    pub busy_percent: f64,
    /// 99th percentile of its input queue, batches.
    pub queue_p99: u64,
    /// The thread that runs it: stages with the same thread are fused.
    #[serde(default)]
    pub thread: String,
}

/// One thread of a replica in the measured window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ThreadUse {
    /// Its name: stages name the thread that runs them.
    pub name: String,
    /// The core that it is pinned to, if any.
    pub core: Option<usize>,
    /// Share of the window that it was on a core, percent; spinning counts.
    pub cpu_percent: f64,
    /// Share of the window that it was ready to run and got no core, percent.
    pub wait_percent: f64,
    /// How often it went to sleep and was woken, each second.
    pub wakeups_per_s: f64,
}

/// Something that went wrong, or was made to go wrong, during the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// When, seconds since the load began (warm-up included).
    pub at_s: f64,
    /// What: `process_exit`, `byzantine` (a replica that misbehaves on purpose), `hostile_client` (a client that does),
    /// or what a scenario did: `kill`, `stop`, `restart`, `resume`, `partition`, `heal`, `network`, `clients`.
    pub kind: String,
    /// Until the cluster noticed, ms; `null` where not measured.
    pub detected_after_ms: Option<f64>,
    /// Until throughput had recovered, ms; `null` where not measured.
    pub recovered_after_ms: Option<f64>,
    /// Operations lost against an undisturbed run, percent; `null` where not measured.
    pub ops_lost_percent: Option<f64>,
    /// Which replica, if one.
    #[serde(default)]
    pub replica: Option<u16>,
    /// In words, for example the exit status.
    #[serde(default)]
    pub detail: String,
}

/// The load generator's honesty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    /// `closed`, `constant` or `poisson`.
    pub mode: String,
    /// Logical clients.
    pub clients: u32,
    /// Connections to each replica.
    pub connections: u32,
    /// Threads.
    pub threads: u32,
    /// Highest share of the window that one of its threads was on a CPU, percent.
    pub busiest_thread_percent: f64,
    /// Highest share of the window that one of its threads was ready to run and got no core, percent.
    #[serde(default)]
    pub wait_percent: f64,
    /// Highest share of the window that one of its threads was either, percent: no sum of the two before it, which may
    /// be of different threads.
    #[serde(default)]
    pub busy_or_waiting_percent: f64,
    /// Its share of the CPU time of the whole run, percent.
    pub cpu_share_percent: f64,
    /// How many times as much CPU time it took as one replica on average, at the same load; 0 if there is nothing to
    /// compare with.
    #[serde(default)]
    pub cost_in_replicas: f64,
    /// Operations that the schedule asked for in the window (open loop).
    pub offered_operations: u64,
    /// Of those, how many were sent late through the generator's own fault.
    pub late_sends: u64,
    /// Of those, how many waited for a free logical client (counted in their latency).
    pub waited_for_client: u64,
    /// 99th percentile of lateness, µs.
    pub lag_p99_us: f64,
    /// Greatest lateness, µs.
    pub lag_max_us: f64,
    /// Scheduled but never sent.
    pub unsent: u64,
    /// Requests sent again in the window.
    pub retransmissions: u64,
    /// Requests sent to every replica in the window because they took long, one at a time for each thread: by these
    /// backups time the primary.
    #[serde(default)]
    pub probes: u64,
    /// Bytes of requests that it sent over the whole run, to all replicas together.
    #[serde(default)]
    pub bytes_sent: u64,
    /// System calls of its threads that moved bytes, waited for sockets or looked at them, over the whole run.
    #[serde(default)]
    pub system_calls: u64,
    /// Frames that never left it, over the whole run, by reason: `no_connection`, `queue_full` (the replica had not
    /// taken what was sent before), `emulated_loss`, `emulated_block`, `emulated_link_full`. Reasons without any are
    /// left out.
    #[serde(default)]
    pub dropped: BTreeMap<String, u64>,
    /// Operations that outlived the time-out in the window.
    pub timeouts: u64,
    /// Operations without a reply quorum when the drain ended.
    pub unanswered: u64,
    /// Replies whose authenticator did not hold.
    pub bad_replies: u64,
    /// Replies that contradicted the agreed result, by replica.
    pub wrong_replies: Vec<u64>,
    /// Batches that had enough digests, and of which nobody sent the replies in time.
    #[serde(default)]
    pub missing_replies: u64,
    /// How often another replica was designated to send the replies to batches.
    #[serde(default)]
    pub replier_changes: u64,
    /// Results that the workload knows to be impossible.
    pub wrong_results: u64,
    /// Reads that gave a value which had been replaced before they began (kv, where reads are not ordered).
    #[serde(default)]
    pub stale_reads: u64,
    /// Operations that a quorum answered without ordering them, in the window.
    #[serde(default)]
    pub read_only: u64,
    /// Reads that had to be ordered after all, in the window.
    #[serde(default)]
    pub fell_back: u64,
}

/// How requests were batched.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Batches {
    /// Batches executed over the whole run.
    pub count: u64,
    /// Mean requests in a batch.
    pub mean_requests: f64,
}

/// What the audit compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Highest sequence number at which a quorum of ledgers was found equal.
    pub common_sequence: Option<u64>,
    /// The ledger digest there, hex.
    pub ledger_digest: Option<String>,
    /// Replicas whose ledger was compared with another's.
    pub replicas_compared: Vec<u16>,
    /// Replicas that had executed everything, whose client tables were checked.
    pub replicas_up_to_date: Vec<u16>,
    /// Logical clients whose counts were checked on each of those.
    pub clients_checked: u64,
    /// Operations begun over the whole run, but for those that were answered without being ordered.
    pub operations_begun: u64,
    /// Operations that a quorum answered without ordering them, over the whole run: no replica remembers those.
    #[serde(default)]
    pub operations_read_only: u64,
    /// Ordered operations with a reply quorum over the whole run.
    pub operations_completed: u64,
    /// Operations executed over the whole run.
    pub operations_executed: u64,
    /// How many of the verdict's reasons say that safety was violated: ledgers differ, replies were wrong, or
    /// operations were not executed exactly once.
    #[serde(default)]
    pub violations: u64,
    /// What is worth knowing but does not make the run invalid.
    pub notes: Vec<String>,
}
