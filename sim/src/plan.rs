//! What happens in one simulated run: a plan, drawn from a seed, that a person can read and change.
//!
//! The plan says which faults there are; the seed in it still decides each message's delay. So a plan with one fault
//! less is another run of nearly the same history, and shrinking works.

use std::fmt;
use std::ops::RangeInclusive;

use hippodrome_engine::byzantine::Kind;
use hippodrome_engine::execute::SNAPSHOT_CHUNK_BYTES;
use hippodrome_engine::limits::HISTORY_BATCHES_MAX;
use hippodrome_engine::quorum::Quorums;
use hippodrome_engine::settings::options::{Batching, Dissemination, ExecutionChoice, Granularity, Reads, Replies};
use serde::{Deserialize, Serialize};

mod draw;

/// The shortest interval of anything that comes again and again, 0.1 ms, and the longest time in a plan, an hour.
const TIME_MIN_NS: u64 = 100_000;
const TIME_MAX_NS: u64 = 3_600_000_000_000;

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Decides everything that the plan leaves open.
    pub seed: u64,
    /// n.
    pub replicas: usize,
    /// L.
    pub window: u64,
    /// K.
    pub checkpoint_interval: u64,
    /// When the primary closes a batch.
    pub batching: Batching,
    /// Whether clients prove each request, or groups of them.
    #[serde(default = "by_request")]
    pub auth_granularity: Granularity,
    /// Whether clients send requests to the primary or to all.
    pub dissemination: Dissemination,
    /// Whether batches are executed when they are committed, or when they are prepared.
    #[serde(default = "committed")]
    pub execution: ExecutionChoice,
    /// How often replicas tell where they stand.
    pub status_interval_ns: u64,
    /// How long a primary may take.
    pub view_timeout_ns: u64,
    /// The longest that this grows to.
    pub view_timeout_max_ns: u64,
    /// Executed batches that a replica keeps for others.
    pub history_batches: usize,
    /// Bytes of a chunk of a snapshot.
    pub chunk_bytes: usize,
    /// Correct clients, each with one operation at a time.
    pub clients: Clients,
    /// Faulty clients.
    pub hostile: Vec<Hostile>,
    /// Whether clients sign, so that what proves itself to one replica does to all.
    pub signed_requests: bool,
    /// Who sends results.
    #[serde(default = "full")]
    pub replies: Replies,
    /// Whether operations that change nothing are ordered.
    #[serde(default = "ordered")]
    pub reads: Reads,
    /// The network while nothing special happens to it.
    pub network: Network,
    /// Each replica's disk, if replicas keep what they said there; if not, one that is started again does not vote.
    pub disk: Option<Disk>,
    /// Byzantine replicas, at most f with those that lose their memory.
    pub faulty: Vec<Faulty>,
    /// What happens when, ascending.
    pub timeline: Vec<Fault>,
    /// From here on nothing happens any more and the network delivers: whoever is correct must get on. Byzantine
    /// replicas and faulty clients go on all the same.
    pub heal_ns: u64,
}

/// The correct clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clients {
    /// How many.
    pub count: u32,
    /// Operations of each; at least two of them begin after the network has healed.
    pub operations: u32,
    /// Longest pause between two operations of a client.
    pub think_ns: u64,
    /// After this long a request is sent again, to all; the pause doubles each time.
    pub retry_ns: u64,
}

/// A faulty client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hostile {
    /// What it does.
    pub kind: HostileKind,
    /// Pause between its requests.
    pub every_ns: u64,
}

/// What a faulty client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostileKind {
    /// Authenticators that hold at some replicas only.
    Partial,
    /// The same requests again and again, to anybody.
    Replay,
    /// Two operations with one timestamp, to different replicas.
    TwoFaced,
    /// Operations that the application refuses.
    Invalid,
    /// Clients that the cluster does not have, and timestamps without measure.
    Unknown,
    /// Signatures that lax verifiers judge differently.
    Torsion,
}

/// The network between all endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Shortest delay of a link.
    pub delay_min_ns: u64,
    /// Longest usual delay of a link.
    pub delay_max_ns: u64,
    /// Of a thousand messages, so many take ten times as long.
    pub stray_permille: u64,
    /// Of a thousand messages, so many get lost.
    pub loss_permille: u64,
    /// Of a thousand messages, so many come twice.
    pub repeat_permille: u64,
    /// Whether a link keeps the order of messages.
    pub ordered: bool,
    /// How much faster or slower a replica's clock may go, in parts per million.
    pub drift_ppm: u64,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Shortest time of making something durable.
    pub sync_min_ns: u64,
    /// Longest.
    pub sync_max_ns: u64,
    /// A snapshot is written at every so many checkpoints.
    pub snapshot_every: u64,
}

/// A Byzantine replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Faulty {
    /// Which.
    pub replica: u16,
    /// The behaviours that real replicas can be given as well.
    pub kinds: Vec<Kind>,
    /// Two copies of it run, each of which hears a part of the others.
    pub twins: bool,
    /// Of a thousand messages that it sends, so many are changed at random on the way.
    pub mutate_permille: u64,
    /// It computes wrongly, and vouches for and hands out the state that comes of it.
    pub false_state: bool,
    /// It answers read-only requests as that honest replica would which is farthest behind.
    #[serde(default)]
    pub stale_reads: bool,
}

const fn by_request() -> Granularity {
    Granularity::Request
}

const fn full() -> Replies {
    Replies::Full
}

const fn committed() -> ExecutionChoice {
    ExecutionChoice::Committed
}

const fn ordered() -> Reads {
    Reads::Ordered
}

/// A fault that passes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// When it begins.
    pub at_ns: u64,
    /// How long it lasts.
    pub for_ns: u64,
    /// What it is.
    pub what: What,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Nothing gets from these replicas to the others or back.
    Partition(Vec<u16>),
    /// Nothing gets from any of the first to any of the second; the other direction is not concerned.
    OneWay(Vec<u16>, Vec<u16>),
    /// A process dies and is started again. It keeps its disk, if it has one.
    Crash(u16),
    /// A process dies and its disk is lost with it.
    Loss(u16),
    /// All correct processes die at once and keep their disks.
    PowerFailure,
    /// A process stands still.
    Pause(u16),
    /// Of a thousand messages, so many more get lost.
    Drop(u64),
    /// All delays are so many times as long.
    Slow(u64),
    /// The disk of a replica takes a hundred times as long.
    SlowDisk(u16),
}

/// Why a plan can not be run.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{key} = {value}: allowed: {allowed}")]
pub struct PlanError {
    key: String,
    value: String,
    allowed: String,
}

impl Plan {
    /// The sizes of quorums.
    ///
    /// # Panics
    /// If the plan was not [checked](Self::check).
    #[must_use]
    pub fn quorums(&self) -> Quorums {
        Quorums::new(self.replicas).expect("the plan was checked")
    }

    /// Whether this replica follows the protocol, as far as it remembers.
    #[must_use]
    pub fn is_honest(&self, replica: u16) -> bool {
        self.faulty.iter().all(|faulty| faulty.replica != replica)
    }

    /// The replicas that are Byzantine or come to forget what they voted for.
    #[must_use]
    pub fn unreliable(&self) -> Vec<u16> {
        let forgetful = self.timeline.iter().filter_map(|fault| match fault.what {
            What::Loss(replica) => Some(replica),
            What::Crash(replica) if self.disk.is_none() => Some(replica),
            _ => None,
        });
        let mut replicas: Vec<u16> = self.faulty.iter().map(|faulty| faulty.replica).chain(forgetful).collect();
        replicas.sort_unstable();
        replicas.dedup();
        replicas
    }

    /// Refuses what can not be simulated or proves nothing, such as more than f unreliable replicas.
    ///
    /// # Errors
    /// Names the key, its value and what is allowed.
    pub fn check(&self) -> Result<(), PlanError> {
        within("replicas", self.replicas as u64, 4..=16)?;
        within("checkpoint_interval", self.checkpoint_interval, 1..=1024)?;
        within("window", self.window, 2 * self.checkpoint_interval..=4096)?;
        within("status_interval_ns", self.status_interval_ns, TIME_MIN_NS..=TIME_MAX_NS)?;
        within("view_timeout_ns", self.view_timeout_ns, TIME_MIN_NS..=TIME_MAX_NS)?;
        within("view_timeout_max_ns", self.view_timeout_max_ns, self.view_timeout_ns..=TIME_MAX_NS)?;
        within("history_batches", self.history_batches as u64, 0..=HISTORY_BATCHES_MAX as u64)?;
        within("chunk_bytes", self.chunk_bytes as u64, 1..=SNAPSHOT_CHUNK_BYTES as u64)?;
        within("heal_ns", self.heal_ns, 0..=TIME_MAX_NS)?;
        within("clients.count", self.clients.count.into(), 1..=64)?;
        within("clients.operations", self.clients.operations.into(), 0..=1_000_000)?;
        within("clients.think_ns", self.clients.think_ns, 0..=TIME_MAX_NS)?;
        within("clients.retry_ns", self.clients.retry_ns, TIME_MIN_NS..=TIME_MAX_NS)?;
        within("hostile.len", self.hostile.len() as u64, 0..=64)?;
        for (index, hostile) in self.hostile.iter().enumerate() {
            within(format!("hostile[{index}].every_ns"), hostile.every_ns, TIME_MIN_NS..=TIME_MAX_NS)?;
        }
        self.check_network()?;
        if let Some(disk) = &self.disk {
            within("disk.sync_max_ns", disk.sync_max_ns, 0..=TIME_MAX_NS)?;
            within("disk.sync_min_ns", disk.sync_min_ns, 0..=disk.sync_max_ns)?;
            within("disk.snapshot_every", disk.snapshot_every, 1..=1024)?;
        }
        self.check_faulty()?;
        self.check_timeline()?;
        let (f, unreliable) = (self.quorums().f(), self.unreliable().len());
        if unreliable > f {
            return refuse("unreliable replicas", &unreliable, &format!("at most f = {f}"));
        }
        Ok(())
    }

    fn check_network(&self) -> Result<(), PlanError> {
        let network = &self.network;
        within("network.delay_max_ns", network.delay_max_ns, 0..=TIME_MAX_NS)?;
        within("network.delay_min_ns", network.delay_min_ns, 0..=network.delay_max_ns)?;
        within("network.stray_permille", network.stray_permille, 0..=1000)?;
        within("network.loss_permille", network.loss_permille, 0..=1000)?;
        within("network.repeat_permille", network.repeat_permille, 0..=1000)?;
        within("network.drift_ppm", network.drift_ppm, 0..=500_000)
    }

    fn check_faulty(&self) -> Result<(), PlanError> {
        for (index, faulty) in self.faulty.iter().enumerate() {
            let key = |field: &str| format!("faulty[{index}].{field}");
            self.check_replica(key("replica"), faulty.replica)?;
            within(key("mutate_permille"), faulty.mutate_permille, 0..=1000)?;
            if self.faulty[..index].iter().any(|other| other.replica == faulty.replica) {
                return refuse(key("replica"), &faulty.replica, &"each replica once");
            }
        }
        Ok(())
    }

    fn check_timeline(&self) -> Result<(), PlanError> {
        for (index, fault) in self.timeline.iter().enumerate() {
            let key = format!("timeline[{index}]");
            within(format!("{key}.at_ns"), fault.at_ns, 0..=self.heal_ns)?;
            within(format!("{key}.for_ns"), fault.for_ns, 0..=TIME_MAX_NS)?;
            if index > 0 && fault.at_ns < self.timeline[index - 1].at_ns {
                return refuse(format!("{key}.at_ns"), &fault.at_ns, &"ascending from fault to fault");
            }
            let named: Vec<u16> = match &fault.what {
                What::Partition(part) => part.clone(),
                What::OneWay(from, to) => from.iter().chain(to).copied().collect(),
                What::Crash(replica) | What::Loss(replica) | What::Pause(replica) | What::SlowDisk(replica) => {
                    vec![*replica]
                }
                What::PowerFailure | What::Drop(_) | What::Slow(_) => Vec::new(),
            };
            named.into_iter().try_for_each(|replica| self.check_replica(format!("{key}.what"), replica))?;
            match fault.what {
                What::Drop(permille) => within(format!("{key}.what.drop"), permille, 0..=1000)?,
                What::Slow(factor) => within(format!("{key}.what.slow"), factor, 1..=100)?,
                What::PowerFailure if self.disk.is_none() => {
                    return refuse(format!("{key}.what"), &"power-failure", &"where there is a disk");
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check_replica(&self, key: String, replica: u16) -> Result<(), PlanError> {
        within(key, replica.into(), 0..=self.replicas as u64 - 1)
    }
}

/// Refuses what is out of range.
fn within(key: impl Into<String>, value: u64, allowed: RangeInclusive<u64>) -> Result<(), PlanError> {
    if allowed.contains(&value) {
        return Ok(());
    }
    refuse(key, &value, &format!("{} to {}", allowed.start(), allowed.end()))
}

fn refuse<T>(key: impl Into<String>, value: &dyn fmt::Display, allowed: &dyn fmt::Display) -> Result<T, PlanError> {
    Err(PlanError { key: key.into(), value: value.to_string(), allowed: allowed.to_string() })
}
