//! The verdict: what a run must prove before its numbers may be used.
//!
//! Five points, each a pure function over [`Evidence`]: `ledger` (replicas agree), `once` (operations were executed
//! exactly once and answered correctly), `generator` (the generator was honest), `steady` (the window was steady), and
//! the build.

use crate::report::{Audit, Verdict};

mod generator;
mod ledger;
mod once;
mod steady;
#[cfg(test)]
mod tests;

pub use generator::{BUSIEST_THREAD_PERCENT_MAX, LATE_SENDS_PERCENT_MAX, SHORTFALL_PERCENT_MAX};
pub use once::{UNANSWERED_PERCENT_MAX, WAITING_CLIENTS_PERCENT_MAX};
pub use steady::DRIFT_PERCENT_MAX;

/// More stolen CPU time than this is worth a note, percent.
pub const STEAL_PERCENT_NOTE: f64 = 5.0;

/// All that the verdict is drawn from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// Whether the binary was a release build.
    pub release_build: bool,
    /// How many replicas may be faulty.
    pub f: usize,
    /// Q: the votes that decide.
    pub quorum: usize,
    /// Cores that the run was allowed to use.
    pub cores: usize,
    /// Threads of replicas and load generators that wanted one.
    pub threads: usize,
    /// Every replica, in order of their ids.
    pub replicas: Vec<ReplicaEvidence>,
    /// Replicas whose processes ended although nobody had planned it, in order of time.
    pub exits: Vec<Exit>,
    /// What became of the load.
    pub load: LoadOutcome,
    /// Logical clients that misbehaved on purpose. Their numbers follow those of the load's.
    pub hostile_clients: u64,
    /// Whatever else failed, in words.
    pub failures: Vec<String>,
    /// Operations in each second of the measured window.
    pub per_second: Vec<f64>,
    /// Where faults that were made on purpose excuse unsteadiness; `None` if none were.
    pub disturbed: Option<Disturbed>,
    /// Latencies that the interval log holds.
    pub latencies: u64,
    /// Share of the machine's CPU time that its host gave to others, percent.
    pub steal_percent: f64,
}

/// What faults that were made on purpose excuse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disturbed {
    /// Seconds of the measured window, from 1, between a fault and the recovery from it.
    pub seconds: Vec<u64>,
    /// Whole seconds of the measured window before the first fault.
    pub seconds_before: usize,
}

/// A replica's process that ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Exit {
    /// When, seconds since the measured window began.
    pub at_s: f64,
    /// Which.
    pub replica: u16,
    /// How, in words.
    pub how: String,
}

/// One replica after the load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaEvidence {
    /// Its process ended before it was told to; how.
    Ended(String),
    /// Its process lives, yet its control port did not answer; why.
    Silent(String),
    /// It was told to misbehave; how. Whatever it says counts for nothing.
    Byzantine(String),
    /// It answered.
    Up(ReplicaState),
}

/// What a replica says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaState {
    /// Highest executed sequence number.
    pub executed_sequence: u64,
    /// Operations executed.
    pub executed_ops: u64,
    /// Ledger digests (hex) at sequence numbers, as far as it keeps them.
    pub ledger: std::collections::BTreeMap<u64, String>,
    /// Set when its state differed from what a quorum vouched for.
    pub diverged: Option<String>,
    /// Set when it fell behind what the others still keep.
    pub left_behind: Option<String>,
    /// Operations executed for each logical client.
    pub executed: Vec<u64>,
    /// Timestamp of the last operation executed for each logical client; timestamps count up from 1.
    pub last_timestamp: Vec<u64>,
}

/// What became of the load.
#[derive(Clone, Debug, PartialEq)]
pub enum LoadOutcome {
    /// The generator ended before it had reported; why.
    Failed(String),
    /// It reported.
    Finished(LoadEvidence),
}

impl Default for LoadOutcome {
    fn default() -> Self {
        Self::Finished(LoadEvidence::default())
    }
}

/// What the load generator says about itself and the operations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadEvidence {
    /// Length of the measured window, s.
    pub measured_s: f64,
    /// Operations completed in it.
    pub operations: u64,
    /// Operations whose latencies are to be in the interval log. In open loop these are others at the window's edges:
    /// what was intended within it.
    pub latencies: u64,
    /// The rate asked for; `None` in closed loop.
    pub offered_ops_per_s: Option<f64>,
    /// Whether arrivals were random (Poisson), so that their count varies by its square root.
    pub random_arrivals: bool,
    /// Operations scheduled in the window.
    pub offered_operations: u64,
    /// Of those, how many were sent late by the generator's own fault.
    pub late_sends: u64,
    /// Scheduled but never sent.
    pub unsent: u64,
    /// Operations that outlived the time-out.
    pub timeouts: u64,
    /// Operations without a reply quorum when the drain ended.
    pub unanswered: u64,
    /// Replies whose authenticator did not hold.
    pub bad_replies: u64,
    /// Replies that contradicted the agreed result, by replica.
    pub wrong_replies: Vec<u64>,
    /// Results that the workload knows to be impossible.
    pub wrong_results: u64,
    /// Reads that gave a value which was too old when they began.
    pub stale_reads: u64,
    /// Operations that a quorum answered without ordering them, over the whole run. Not among `completed` and `begun`.
    pub read_only: u64,
    /// Highest share of the window that one thread was on a CPU, percent.
    pub busiest_thread_percent: f64,
    /// Highest share of the window that one thread was ready to run and got no core, percent.
    pub wait_percent: f64,
    /// Highest share of the window that one thread was either, percent.
    pub busy_or_waiting_percent: f64,
    /// Operations completed by each logical client over the whole run.
    pub completed: Vec<u64>,
    /// Operations begun by each logical client over the whole run.
    pub begun: Vec<u64>,
}

impl Evidence {
    /// The replicas that answered, with their ids.
    fn up(&self) -> impl Iterator<Item = (usize, &ReplicaState)> {
        self.replicas.iter().enumerate().filter_map(|(id, replica)| match replica {
            ReplicaEvidence::Up(state) => Some((id, state)),
            ReplicaEvidence::Ended(_) | ReplicaEvidence::Silent(_) | ReplicaEvidence::Byzantine(_) => None,
        })
    }
}

/// Collects what speaks against a run and what is merely worth knowing.
#[derive(Debug, Default)]
struct Findings {
    reasons: Vec<String>,
    audit: Audit,
}

impl Findings {
    fn reason(&mut self, text: impl Into<String>) {
        self.reasons.push(text.into());
    }

    /// A reason which says that safety was violated.
    fn violation(&mut self, text: impl Into<String>) {
        self.audit.violations += 1;
        self.reason(text);
    }

    fn note(&mut self, text: impl Into<String>) {
        self.audit.notes.push(text.into());
    }
}

/// Draws the verdict. Never stops at the first reason: all are named.
#[must_use]
pub fn judge(evidence: &Evidence) -> (Verdict, Audit) {
    let mut findings = Findings::default();
    ledger::check(evidence, &mut findings);
    match &evidence.load {
        LoadOutcome::Failed(why) => findings.reason(format!("the load generator failed: {why}")),
        LoadOutcome::Finished(load) => {
            once::check(evidence, load, &mut findings);
            generator::check(evidence, load, &mut findings);
            steady::check(evidence, &mut findings);
        }
    }
    findings.reasons.extend(evidence.failures.iter().cloned());
    if !evidence.release_build {
        findings.reason("this is a debug build: its speed means nothing; build with --release");
    }
    if evidence.steal_percent > STEAL_PERCENT_NOTE {
        let percent = evidence.steal_percent;
        findings.note(format!("the host took {percent:.1} % of the CPU time (steal): expect the numbers to vary"));
    }
    let Findings { reasons, audit } = findings;
    (Verdict { valid: reasons.is_empty(), reasons }, audit)
}

/// `1, 2, 5`.
fn list(ids: &[u16]) -> String {
    ids.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}

/// A replica's index as it appears in reports.
fn id(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}

/// Counts as a real number; exact below 2^53.
#[allow(clippy::cast_precision_loss, reason = "no run counts 2^53 operations")]
const fn real(count: u64) -> f64 {
    count as f64
}

/// `part` of `whole` in percent; 0 of nothing.
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * real(part) / real(whole) }
}
