//! What a replica tells about itself through its control port: one JSON object a line in, one out.
//!
//! The port is for whoever runs the cluster, not for peers: it listens on loopback unless told otherwise and never
//! changes the protocol's state. What it can change is how the replica's outgoing links are emulated.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::emulation::Change;
use crate::sampling::{ExecutionNote, ReplyNote, RequestNote};
use crate::types::{NodeId, ReplicaId, SequenceNumber, View};

pub mod server;

/// A question, one line of JSON, for example `{"ask":"status"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// Answered with a [`ReplicaReport`].
    Status,
    /// The ledger digests at these sequence numbers (at most 1024), answered with a [`LedgerAnswer`].
    Ledger {
        /// Which.
        sequences: Vec<SequenceNumber>,
    },
    /// How often each client's operations were executed, answered with a [`ClientsAnswer`].
    Clients,
    /// What was noted of the operations that are followed, answered with a [`SamplesAnswer`].
    Samples,
    /// Change the emulation of the outgoing links, `{"ask":"network","to":[1,2],"block":true}`, or only tell about it,
    /// `{"ask":"network"}`. Answered with what is [in force](crate::emulation::InForce).
    Network(Change),
    /// Stop orderly. Answered with `{}` before the process ends.
    Stop,
}

/// A replica's state and counters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplicaReport {
    /// Which replica.
    pub id: ReplicaId,
    /// Its process.
    pub pid: u32,
    /// Its view.
    pub view: View,
    /// Whether it takes part in its view; if not, it waits for the new view to start.
    #[serde(default)]
    pub active: bool,
    /// View changes that it has begun.
    #[serde(default)]
    pub view_changes: u64,
    /// How often it replaced its state by a fetched one.
    #[serde(default)]
    pub states_installed: u64,
    /// Operations executed, null requests and duplicates not counted.
    pub executed_ops: u64,
    /// Read-only requests answered without being ordered.
    #[serde(default)]
    pub reads: u64,
    /// Batches that were executed tentatively and undone.
    #[serde(default)]
    pub rolled_back: u64,
    /// Highest executed sequence number.
    pub executed_sequence: SequenceNumber,
    /// Ledger digest (hex) after it: the hash chain over executed batches and their results.
    pub ledger_digest: String,
    /// Low watermark.
    pub stable_checkpoint: SequenceNumber,
    /// Whether it may vote: it has forgotten nothing. If not, it follows along and counts as faulty.
    pub voting: bool,
    /// What it makes durable, and how.
    pub durability: String,
    /// Set when this replica's state differed from what a quorum vouched for, in words.
    pub diverged: Option<String>,
    /// Set while this replica is behind what the others still keep and fetches their state, in words.
    pub left_behind: Option<String>,
    /// Frames sent to peers and clients.
    pub messages_sent: u64,
    /// Bytes handed to the kernel.
    pub bytes_sent: u64,
    /// Bytes taken from the kernel.
    pub bytes_received: u64,
    /// Reads and writes that moved bytes.
    pub socket_calls: u64,
    /// System calls of the network thread that moved bytes, waited for sockets or looked at them.
    #[serde(default)]
    pub system_calls: u64,
    /// What was refused or ignored, by reason.
    pub ignored: BTreeMap<String, u64>,
    /// User and system CPU time of the process so far, µs.
    pub cpu_us: u64,
    /// Resident memory now, bytes.
    pub resident_bytes: u64,
    /// Peers and client connections that stand.
    pub connected: Vec<NodeId>,
    /// Which transport runs, and why.
    pub transport: String,
    /// Which placement runs, and why.
    pub placement: String,
    /// Stages with their utilisation and queues.
    pub stages: Vec<StageReport>,
    /// Time between phases, as seen by this replica when it is the primary.
    pub phases: BTreeMap<String, PhaseReport>,
    /// Batches executed and requests in them.
    pub batches: u64,
}

/// How busy one stage was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// Its name: ingress, verify-0, order, persist, execute, egress.
    pub name: String,
    /// The core its thread is pinned to.
    pub core: Option<usize>,
    /// The thread that runs it (stages with the same thread are fused).
    pub thread: String,
    /// Share of the time since the process started that this stage worked, percent.
    pub busy_percent: f64,
    /// For how long it has worked since the process started, ns: whoever asks twice learns of the time in between.
    #[serde(default)]
    pub busy_ns: u64,
    /// When that was so, ns since the process started.
    #[serde(default)]
    pub at_ns: u64,
    /// 99th percentile of the length of its input queue, as found at each visit (batches).
    pub queue_p99: u64,
}

/// Time that batches took to reach a phase from the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseReport {
    /// Median, µs.
    pub p50: f64,
    /// 99th percentile, µs.
    pub p99: f64,
}

/// Ledger digests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerAnswer {
    /// For each sequence number asked for, the digest in hex, or `None` if it was not executed yet or is no longer
    /// kept.
    pub digests: Vec<Option<String>>,
}

/// What a replica noted of the operations that it followed. Times are ns since its clock began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SamplesAnswer {
    /// Which boot of which machine the clock is of.
    pub boot: String,
    /// Where it began on that machine's monotonic clock, ns.
    pub epoch_ns: u64,
    /// One in so many operations is still followed; 0 if none is.
    pub one_in: u64,
    /// By verify stages.
    pub requests: Vec<RequestNote>,
    /// By the execute stage.
    pub executions: Vec<ExecutionNote>,
    /// By egress.
    pub replies: Vec<ReplyNote>,
}

/// What was executed for each logical client, in order of their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientsAnswer {
    /// Operations executed over all clients, counted one by one as they were executed.
    pub executed_ops: u64,
    /// Operations executed for each, at the same instant.
    pub executed: Vec<u64>,
    /// Timestamp of the last one. Timestamps count up from 1, so it equals `executed` when each was executed exactly
    /// once.
    pub last_timestamp: Vec<u64>,
}
