//! What stages have in common.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::control::StageReport;
use crate::pipeline::board::Board;
use crate::types::Time;

/// How soon a thread asks again whether a full link has room: nobody wakes it for that. About as long as a thread takes
/// to wake up, so that asking costs little and a link that has been emptied stays empty hardly longer than if somebody
/// did.
pub const STALL_RETRY: Duration = Duration::from_micros(50);

/// One stage of the pipeline: its context and a step that never blocks.
pub trait Stage {
    /// Its name in reports.
    fn name(&self) -> &str;

    /// Works on what waits, a bounded amount. True if anything was done.
    fn step(&mut self, now: Time) -> bool;

    /// Whether input waits or output is held back. Asked before the thread goes to sleep.
    fn has_work(&self) -> bool;

    /// Whether it waits for the stage behind it to take its output: it must be asked again soon, nobody wakes it for
    /// that.
    fn is_stalled(&self) -> bool {
        false
    }

    /// When it must step again even if nothing arrives.
    fn deadline(&self) -> Option<Time> {
        None
    }

    /// How many items wait in its input queues.
    fn queue_len(&self) -> usize;

    /// Posts its counters.
    fn post(&mut self, board: &mut Board);
}

/// Counts by reason.
pub type Counts = BTreeMap<&'static str, u64>;

/// Adds one to `counts` at `reason`.
pub fn count(counts: &mut Counts, reason: &'static str) {
    count_many(counts, reason, 1);
}

/// Adds `many` to `counts` at `reason`.
pub fn count_many(counts: &mut Counts, reason: &'static str, many: u64) {
    if many > 0 {
        *counts.entry(reason).or_default() += many;
    }
}

/// How busy a stage is and how long its queue is when it is visited.
#[derive(Debug)]
pub struct Meter {
    busy_ns: u64,
    queue: Histogram<u64>,
}

impl Default for Meter {
    fn default() -> Self {
        // Queues are bounded by their rings; 2 significant digits are plenty for a length.
        let queue = Histogram::new_with_bounds(1, 1 << 20, 2).expect("constant bounds are valid");
        Self { busy_ns: 0, queue }
    }
}

impl Meter {
    /// Notes a step that did something.
    pub fn note(&mut self, busy_ns: u64, queue_len: usize) {
        self.busy_ns += busy_ns;
        self.queue.saturating_record(queue_len as u64);
    }

    /// The stage's report after `elapsed_ns` of running.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a percentage")]
    pub fn report(&self, name: &str, thread: &str, core: Option<usize>, elapsed_ns: u64) -> StageReport {
        StageReport {
            name: name.to_owned(),
            core,
            thread: thread.to_owned(),
            busy_percent: 100.0 * self.busy_ns as f64 / elapsed_ns.max(1) as f64,
            busy_ns: self.busy_ns,
            at_ns: elapsed_ns,
            queue_p99: self.queue.value_at_quantile(0.99),
        }
    }
}
