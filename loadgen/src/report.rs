//! What a load generator reports when it is done (`load.json`), and each second while it runs.

use hippodrome_engine::sampling::OperationNote;
use serde::{Deserialize, Serialize};

/// One line of progress a second, and one row of the report's series.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SecondSample {
    /// Seconds since the load began (warm-up included), at the end of this second.
    pub second: u64,
    /// Whether this second belongs to the measured window.
    pub measured: bool,
    /// Operations completed in it.
    pub operations: u64,
    /// Latency percentiles of those, µs; 0 if there were none.
    pub p50_us: f64,
    /// See `p50_us`.
    pub p99_us: f64,
    /// Longest latency, µs.
    pub max_us: f64,
    /// Requests sent again in it.
    pub retransmissions: u64,
}

/// Frames that never left the load generator, over the whole run. Retransmission repairs what they carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedFrames {
    /// There was no connection to the replica.
    pub no_connection: u64,
    /// The replica had not taken what was sent before.
    pub queue_full: u64,
    /// Lost by chance on an emulated link.
    pub emulated_loss: u64,
    /// Stopped by a block of an emulated link.
    pub emulated_block: u64,
    /// Too much was under way on an emulated link.
    pub emulated_link_full: u64,
}

impl DroppedFrames {
    /// The reasons by their names, each with its count.
    #[must_use]
    pub fn by_reason(&self) -> [(String, u64); 5] {
        let Self { no_connection, queue_full, emulated_loss, emulated_block, emulated_link_full } = *self;
        [
            ("no_connection", no_connection),
            ("queue_full", queue_full),
            ("emulated_loss", emulated_loss),
            ("emulated_block", emulated_block),
            ("emulated_link_full", emulated_link_full),
        ]
        .map(|(reason, count)| (reason.to_owned(), count))
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let Self { no_connection, queue_full, emulated_loss, emulated_block, emulated_link_full } = other;
        self.no_connection += no_connection;
        self.queue_full += queue_full;
        self.emulated_loss += emulated_loss;
        self.emulated_block += emulated_block;
        self.emulated_link_full += emulated_link_full;
    }
}

/// The operations of the measured window that a load generator followed (`samples.json`). Times of operations are ns
/// since its clock began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Samples {
    /// Which boot of which machine the clock is of.
    pub boot: String,
    /// Where it began on that machine's monotonic clock, ns.
    pub epoch_ns: u64,
    /// When the load began, on that machine's monotonic clock, ns.
    pub began_ns: u64,
    /// One in so many operations was followed; 0 if none was.
    pub one_in: u64,
    /// The operations, each as a row: client, timestamp, intended, begun, handed, read, counted, completed, first,
    /// last, sent again.
    pub operations: Vec<OperationNote>,
}

/// The outcome of one load generator's run. Latencies are in the interval log beside it, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// Milliseconds since the Unix epoch when the measured window began.
    pub started_unix_ms: u64,
    /// `closed`, `constant` or `poisson`.
    pub mode: String,
    /// Logical clients.
    pub clients: u32,
    /// Connections to each replica.
    pub connections: u32,
    /// Threads.
    pub threads: u32,
    /// Which transport ran, and why.
    pub transport: String,
    /// Length of the measured window, s.
    pub measured_s: f64,
    /// Operations whose reply quorum was complete within the measured window.
    pub operations: u64,
    /// Operations whose latencies are to be in the interval log. Closed loop: the same ones; open loop: those whose
    /// intended send time lay within the measured window, however late they completed.
    #[serde(default)]
    pub latencies: u64,
    /// Operations per second that the schedule asked for (open loop).
    pub offered_ops_per_s: Option<f64>,
    /// Operations whose intended send time lay within the measured window (open loop).
    pub offered_operations: u64,
    /// Of those, how many were sent more than 1 ms after the intended time because the generator itself was late.
    pub late_sends: u64,
    /// Of those, how many had to wait because every logical client had an operation outstanding (counted in their
    /// latency).
    pub waited_for_client: u64,
    /// 99th percentile and maximum of how late the generator sent, µs (time spent waiting for a free client not
    /// counted).
    pub lag_p99_us: f64,
    /// See `lag_p99_us`.
    pub lag_max_us: f64,
    /// Scheduled operations that were never sent because the run ended (counted as not delivered).
    pub unsent: u64,
    /// Retransmissions in the measured window.
    pub retransmissions: u64,
    /// Requests sent to every replica in the measured window because they took long, one at a time for each thread: by
    /// these backups time the primary.
    #[serde(default)]
    pub probes: u64,
    /// Operations that outlived the time-out in the measured window.
    pub timeouts: u64,
    /// Operations still without a reply quorum when the drain after the load ended.
    pub unanswered: u64,
    /// Replies whose authenticator did not hold.
    pub bad_replies: u64,
    /// Replies that contradicted the result that a reply quorum agreed on, by replica.
    pub wrong_replies: Vec<u64>,
    /// Batches that had enough digests, and of which nobody sent the replies in time: their operations were sent again.
    #[serde(default)]
    pub missing_replies: u64,
    /// How often another replica was designated to send the replies to batches, because one failed or was late.
    #[serde(default)]
    pub replier_changes: u64,
    /// Results that the workload knows to be impossible (kv: a value that was never written to that key).
    pub wrong_results: u64,
    /// Results of reads that are possible but too old (kv, where reads are not ordered): of a value that another one
    /// which was complete, or had been read, before the read began had replaced.
    #[serde(default)]
    pub stale_reads: u64,
    /// Operations that a quorum answered without ordering them, in the measured window.
    #[serde(default)]
    pub read_only: u64,
    /// The same over the whole run. They are not among `completed` and `begun`.
    #[serde(default)]
    pub read_only_total: u64,
    /// Reads that had to be ordered after all in the measured window: replicas gave different answers, or too few gave
    /// any in time.
    #[serde(default)]
    pub fell_back: u64,
    /// User and system CPU time in the measured window, µs.
    pub cpu_us: u64,
    /// Highest share of the measured window that any one of its threads was on a CPU, percent.
    pub busiest_thread_percent: f64,
    /// Highest share of the measured window that any one of its threads was ready to run and got no core, percent.
    #[serde(default)]
    pub wait_percent: f64,
    /// Highest share of the measured window that any one of its threads was on a CPU or ready to run, percent.
    #[serde(default)]
    pub busy_or_waiting_percent: f64,
    /// Bytes of requests sent over the whole run, to all replicas together.
    #[serde(default)]
    pub bytes_sent: u64,
    /// System calls of its threads that moved bytes, waited for sockets or looked at them, over the whole run.
    #[serde(default)]
    pub system_calls: u64,
    /// Frames that never left.
    #[serde(default)]
    pub dropped: DroppedFrames,
    /// Operations completed by each logical client over the whole run.
    pub completed: Vec<u64>,
    /// Operations begun by each logical client over the whole run.
    pub begun: Vec<u64>,
    /// Every second of the run.
    pub seconds: Vec<SecondSample>,
    /// Operations completed in each tenth of a second since the load began, warm-up and drain included.
    #[serde(default)]
    pub per_100ms: Vec<u64>,
    /// The operations that were followed: a file of their own.
    #[serde(skip)]
    pub samples: Samples,
}
