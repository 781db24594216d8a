//! The YCSB core workloads on the `kv` application, with every result checked.
//!
//! `kind` (the mixes), `value` (values that tell who wrote them), this file (which operation comes next, and what its
//! result may be), `history` (whether what is read is too old).
//!
//! Where this differs from YCSB: a record is one value, not ten fields; a read-modify-write is one operation, for a
//! state machine executes it as one; scans of E begin at preloaded records, so that the popular ones stay the same
//! while records are inserted; the latest records of D are those that the same thread inserted.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hippodrome_engine::app::kv::{self, Key, Operation, Outcome, Records, pattern};
use hippodrome_engine::types::{ClientId, Timestamp};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};
use thiserror::Error;

use super::Workload;

mod history;
mod kind;
#[cfg(test)]
mod tests;
mod value;

use history::History;
use kind::Action;
pub use kind::WorkloadKind;
use value::{HEADER_BYTES, Origin};

/// Most records that a scan of workload E asks for; lengths are uniform from 1.
const SCAN_LENGTH_MAX: u16 = 100;

/// Most preloaded records: a rank times the factor that spreads it fits in 64 bits.
const RECORDS_MAX: u64 = u32::MAX as u64;

/// A workload's options.
#[derive(Clone, Debug, PartialEq)]
pub struct YcsbConfig {
    /// Which mix.
    pub kind: WorkloadKind,
    /// Records that the application has preloaded, under the keys from 0.
    pub records: u64,
    /// Bytes of each value written.
    pub value_bytes: usize,
    /// Exponent of the Zipf distribution of keys: 0 is uniform, YCSB's own is 0.99.
    pub theta: f64,
    /// The logical clients that this load generator speaks for.
    pub clients: Range<u32>,
    /// Logical clients of the whole cluster.
    pub clients_total: u32,
    /// This load generator's number among the client nodes, from 0.
    pub node: u32,
    /// How many client nodes there are.
    pub nodes: u32,
    /// What everything random follows from.
    pub seed: u64,
    /// Whether to check that reads respect real time, which costs a note of each write and a look at each read: for
    /// clusters that do not order reads.
    pub timed: bool,
}

/// An option that can not be.
#[derive(Clone, Debug, Error, PartialEq)]
#[error("{option} = {value}: allowed: {allowed}")]
pub struct YcsbError {
    /// Which option.
    pub option: &'static str,
    /// What was given.
    pub value: String,
    /// What may be given.
    pub allowed: String,
}

impl YcsbConfig {
    /// The default options of `kind`, for the only load generator of a cluster with this many logical clients.
    #[must_use]
    pub const fn new(kind: WorkloadKind, clients: u32) -> Self {
        Self {
            kind,
            records: kv::RECORDS,
            value_bytes: kv::VALUE_BYTES,
            theta: 0.99,
            clients: 0..clients,
            clients_total: clients,
            node: 0,
            nodes: 1,
            seed: 0,
            timed: false,
        }
    }

    fn check(&self) -> Result<(), YcsbError> {
        let error = |option, value: String, allowed: String| Err(YcsbError { option, value, allowed });
        if !(1..=RECORDS_MAX).contains(&self.records) {
            return error("records", self.records.to_string(), format!("1 to {RECORDS_MAX}"));
        }
        if !(HEADER_BYTES..=kv::VALUE_BYTES_MAX).contains(&self.value_bytes) {
            let allowed = format!("{HEADER_BYTES} (a value names its writer) to {}", kv::VALUE_BYTES_MAX);
            return error("value_bytes", self.value_bytes.to_string(), allowed);
        }
        if !(self.theta.is_finite() && self.theta >= 0.0) {
            return error("zipf", self.theta.to_string(), "0 (uniform) or more".into());
        }
        if self.clients.end > self.clients_total {
            return error("clients", format!("{:?}", self.clients), format!("up to {}", self.clients_total));
        }
        if self.node >= self.nodes {
            return error("node", self.node.to_string(), format!("less than {}", self.nodes));
        }
        Ok(())
    }
}

/// One thread's part of a YCSB workload.
///
/// What it checks is sound: in a correct cluster, where the order of execution respects real time, no check ever fails.
/// A value read belongs to its key: it is the preloaded one, unless a write of that key was acknowledged before the
/// read was issued, or one that a client wrote under a timestamp that it has issued. Records that are known to be there
/// are found, in scans too. Writes succeed.
pub struct Ycsb {
    config: YcsbConfig,
    shared: Arc<Shared>,
    rng: Xoshiro256PlusPlus,
    /// Ranks of the records to read, from 1.
    ranks: Zipf<f64>,
    /// What ranks are multiplied by to spread them over the keys, modulo the number of records.
    spread: u64,
    /// The operation outstanding of each client of this load generator.
    outstanding: Vec<Outstanding>,
    /// The key that this thread inserts next; it takes every `key_stride`-th, so that no key is inserted twice.
    next_insert: Key,
    key_stride: u64,
    /// The value to write; kept to be used again.
    value: Vec<u8>,
    /// Keys that this thread inserted, in the order in which that was acknowledged.
    inserted: Vec<Key>,
    /// Reads that gave a value which was too old.
    stale_reads: u64,
}

/// What the threads of one load generator know together.
struct Shared {
    /// Last timestamp that each of its clients has issued.
    issued: Vec<AtomicU64>,
    /// One bit for each preloaded record: whether a write of it was acknowledged.
    overwritten: Vec<AtomicU64>,
    /// What was written and read when, if that is checked.
    history: Option<History>,
}

/// What is remembered of an operation until its result comes.
#[derive(Clone, Copy)]
struct Outstanding {
    timestamp: Timestamp,
    action: Action,
    /// The record, or the first one of a scan.
    key: Key,
    /// Records that a scan asked for.
    count: u16,
    /// Whether a write of the record had been acknowledged when this was issued.
    overwritten: bool,
    /// The tick at which it was issued, if real time is checked.
    began: u64,
}

impl Ycsb {
    /// The parts of `threads` threads.
    ///
    /// # Errors
    /// Names the option that can not be, and what is allowed.
    pub fn for_threads(config: &YcsbConfig, threads: u32) -> Result<Vec<Self>, YcsbError> {
        config.check()?;
        let shared = Arc::new(Shared {
            issued: config.clients.clone().map(|_| AtomicU64::new(0)).collect(),
            overwritten: (0..config.records.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            history: config.timed.then(History::new),
        });
        let lanes = u64::from(config.nodes) * u64::from(threads);
        let first_lane = u64::from(config.node) * u64::from(threads);
        Ok((0..u64::from(threads)).map(|thread| Self::new(config, &shared, first_lane + thread, lanes)).collect())
    }

    /// The part with number `lane` of `lanes` over all load generators.
    fn new(config: &YcsbConfig, shared: &Arc<Shared>, lane: u64, lanes: u64) -> Self {
        let (timestamp, action) = (Timestamp(0), Action::Read);
        let idle = Outstanding { timestamp, action, key: 0, count: 0, overwritten: false, began: 0 };
        Self {
            config: config.clone(),
            shared: Arc::clone(shared),
            rng: Xoshiro256PlusPlus::seed_from_u64(pattern::word(config.seed, 1 + lane)),
            ranks: ranks(config.records, config.theta),
            spread: spread(config.records),
            outstanding: vec![idle; config.clients.len()],
            next_insert: config.records + lane,
            key_stride: lanes,
            value: vec![0; config.value_bytes],
            inserted: Vec::new(),
            stale_reads: 0,
        }
    }

    fn choose(&mut self, timestamp: Timestamp) -> Outstanding {
        let (frequent, percent, rare) = self.config.kind.mix();
        let action = if self.rng.random_range(0..100) < percent { frequent } else { rare };
        let key = match (action, self.config.kind) {
            (Action::Insert, _) => {
                let key = self.next_insert;
                self.next_insert += self.key_stride;
                key
            }
            (_, WorkloadKind::D) => self.latest_key(),
            _ => self.popular_key(),
        };
        let count = if action == Action::Scan { self.rng.random_range(1..=SCAN_LENGTH_MAX) } else { 0 };
        let began = self.shared.history.as_ref().map_or(0, History::tick);
        Outstanding { timestamp, action, key, count, overwritten: self.shared.is_overwritten(key), began }
    }

    /// A preloaded record: its popularity follows the Zipf distribution, and the popular ones are spread over all keys
    /// (YCSB's scrambled zipfian distribution, but with a permutation for its hash, under which some records would
    /// share their popularity and others be left out).
    fn popular_key(&mut self) -> Key {
        self.rank() * self.spread % self.config.records
    }

    /// A record: the newer, the more popular (YCSB's latest distribution).
    fn latest_key(&mut self) -> Key {
        let age = usize::try_from(self.rank() - 1).unwrap_or(usize::MAX);
        match self.inserted.len().checked_sub(age + 1) {
            Some(index) => self.inserted[index],
            None => (self.config.records + self.inserted.len() as u64 - 1).saturating_sub(age as u64),
        }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to the number of records")]
    fn rank(&mut self) -> u64 {
        self.ranks.sample(&mut self.rng) as u64
    }

    /// Whether a value, which is possible, is not too old for an operation that was issued at the tick `began`. Nothing
    /// is known of what other load generators write.
    fn is_in_time(&self, key: Key, value: &[u8], began: u64) -> bool {
        let Some(history) = &self.shared.history else { return true };
        let preloaded = key < self.config.records && pattern::matches(key, value);
        let origin = Origin::read(value).filter(|_| !preloaded).map(|origin| (origin.client, origin.timestamp));
        if origin.is_some_and(|(client, _)| self.index_of(client).is_none()) {
            return true;
        }
        history.end_read(key, origin, began)
    }

    /// Counts what the operation read too late.
    fn note_stale(&mut self, operation: &Outstanding, outcome: Outcome<'_>) {
        let stale = match outcome {
            Outcome::Value(value) => !self.is_in_time(operation.key, value, operation.began),
            Outcome::Records(records) => {
                let stale = |(key, value)| !self.is_in_time(key, value, operation.began);
                records.iter().filter(|record| stale(*record)).count() > 0
            }
            _ => false,
        };
        self.stale_reads += u64::from(stale);
    }

    /// Takes note of a write that was acknowledged.
    fn acknowledge(&mut self, action: Action, key: Key) {
        if action == Action::Insert {
            if self.config.kind == WorkloadKind::D {
                self.inserted.push(key);
                self.ranks = ranks(self.config.records + self.inserted.len() as u64, self.config.theta);
            }
        } else {
            self.shared.set_overwritten(key);
        }
    }

    /// Whether `value` may be read from `key` by the operation of `client` under `timestamp`.
    fn is_possible(&self, client: ClientId, timestamp: Timestamp, key: Key, value: &[u8], overwritten: bool) -> bool {
        if key < self.config.records && value.len() == kv::VALUE_BYTES && pattern::matches(key, value) {
            return !overwritten;
        }
        let Some(origin) = Origin::read(value) else { return false };
        if value.len() != self.config.value_bytes || origin.key != key || origin.timestamp.0 == 0 {
            return false;
        }
        if origin.client == client {
            // One's own writes were done before; the present operation has not written when it reads.
            return origin.timestamp < timestamp;
        }
        match self.index_of(origin.client) {
            // The value came through the kernel and back, so the note taken before it was sent is visible by now.
            Some(index) => origin.timestamp.0 <= self.shared.issued[index].load(Ordering::Relaxed),
            None => origin.client.0 < self.config.clients_total,
        }
    }

    /// Whether a scan may give these `records`, `bytes` bytes long: in order of their keys from the first one asked
    /// for, no more than asked for, each with a possible value, and all preloaded ones, unless the result would have
    /// become too long.
    fn is_possible_scan(&self, client: ClientId, scan: &Outstanding, records: Records<'_>, bytes: usize) -> bool {
        let mut next = scan.key;
        let mut count = 0u16;
        for (key, value) in records.iter() {
            // Preloaded records follow each other without gaps and are never removed.
            let in_order = if next < self.config.records { key == next } else { key >= next };
            if !in_order || count == scan.count || !self.is_possible(client, scan.timestamp, key, value, false) {
                return false;
            }
            (next, count) = (key.saturating_add(1), count + 1);
        }
        let longest = kv::RECORD_HEADER_BYTES + self.config.value_bytes.max(kv::VALUE_BYTES);
        count == scan.count || next >= self.config.records || bytes + longest > kv::SCAN_BYTES_MAX
    }

    /// The place of one of this load generator's own clients.
    fn index_of(&self, client: ClientId) -> Option<usize> {
        let own = &self.config.clients;
        own.contains(&client.0).then(|| (client.0 - own.start) as usize)
    }
}

impl Workload for Ycsb {
    /// # Panics
    /// If the client is not one of this load generator's.
    fn next(&mut self, client: ClientId, timestamp: Timestamp, operation: &mut Vec<u8>) {
        let chosen = self.choose(timestamp);
        let index = self.index_of(client).expect("a load generator speaks for its own clients");
        self.outstanding[index] = chosen;
        self.shared.issued[index].store(timestamp.0, Ordering::Relaxed);

        let Outstanding { action, key, count, .. } = chosen;
        if action.writes() {
            Origin { key, client, timestamp }.write(&mut self.value);
            if let Some(history) = &self.shared.history {
                history.begin_write(key, (client, timestamp));
            }
        }
        let value = self.value.as_slice();
        let chosen = match action {
            Action::Read => Operation::Read { key },
            Action::Update => Operation::Update { key, value },
            Action::Insert => Operation::Insert { key, value },
            Action::Scan => Operation::Scan { start: key, count },
            Action::ReadModifyWrite => Operation::ReadModifyWrite { key, value },
        };
        chosen.encode(operation);
    }

    fn check(&mut self, client: ClientId, timestamp: Timestamp, result: &[u8]) -> bool {
        let Some(index) = self.index_of(client) else { return false };
        let operation = self.outstanding[index];
        let Some(outcome) = Outcome::decode(result) else { return false };
        if operation.timestamp != timestamp {
            return false;
        }
        let Outstanding { action, key, overwritten, .. } = operation;
        let possible = match (action, outcome) {
            (Action::Read | Action::ReadModifyWrite, Outcome::Value(value)) => {
                self.is_possible(client, timestamp, key, value, overwritten)
            }
            (Action::Update | Action::Insert, Outcome::Done) => true,
            (Action::Scan, Outcome::Records(records)) => {
                self.is_possible_scan(client, &operation, records, result.len())
            }
            _ => false,
        };
        if possible && self.shared.history.is_some() {
            self.note_stale(&operation, outcome);
        }
        if possible && action.writes() {
            self.acknowledge(action, key);
            if let Some(history) = &self.shared.history {
                history.end_write(key, (client, timestamp));
            }
        }
        possible
    }

    fn stale_reads(&self) -> u64 {
        self.stale_reads
    }
}

impl Shared {
    fn is_overwritten(&self, key: Key) -> bool {
        self.word(key).is_some_and(|word| word.load(Ordering::Relaxed) >> (key % 64) & 1 == 1)
    }

    fn set_overwritten(&self, key: Key) {
        if let Some(word) = self.word(key) {
            word.fetch_or(1 << (key % 64), Ordering::Relaxed);
        }
    }

    fn word(&self, key: Key) -> Option<&AtomicU64> {
        usize::try_from(key / 64).ok().and_then(|index| self.overwritten.get(index))
    }
}

/// Ranks from 1 to `records` with this exponent.
fn ranks(records: u64, theta: f64) -> Zipf<f64> {
    #[allow(clippy::cast_precision_loss, reason = "there are less than 2^53 records")]
    Zipf::new(records as f64, theta).expect("at least one record and a finite exponent were checked")
}

/// A factor without common divisor with `records`, so that multiplication by it permutes the keys, near the golden
/// section of them, so that neighbours come far apart (Knuth, TAOCP vol. 3, section 6.4).
fn spread(records: u64) -> u64 {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rough is enough"
    )]
    let golden = (records as f64 * 0.618_033_988_749_895) as u64;
    (golden.max(1)..).find(|factor| gcd(*factor, records) == 1).expect("one of the next numbers is a prime")
}

const fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}
