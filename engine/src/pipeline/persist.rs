//! The persist stage: between order and (execute, egress) where votes are made durable. Nothing passes a record that
//! precedes it: what order hands on goes through here in one stream, and what waits is written and synced as one group
//! before any of it takes effect. It may wait for the disk, so it has a thread of its own in every placement.
//!
//! It also keeps the log short. Now and then it asks the executor to keep its state at a coming checkpoint; once that
//! is stable, the state is written by a thread of its own, and the log is truncated behind it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver as Reports, Sender as Jobs, channel};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use hdrhistogram::Histogram;

use crate::execute;
use crate::limits::LOG_GROUP_BYTES;
use crate::pipeline::board::Board;
use crate::pipeline::clock::Clock;
use crate::pipeline::link::{Receiver, Sender};
use crate::pipeline::order::{Outbound, Work, phase_histogram, phase_report};
use crate::pipeline::stage::{Counts, Stage, count_many};
use crate::platform;
use crate::protocol::Record;
use crate::protocol::message::Checkpoint;
use crate::storage::snapshot::Kept;
use crate::storage::{Directory, Identity, Log, Snapshot, StorageError};
use crate::types::{SequenceNumber, Time};

/// What leaves the order stage in one step. The records come before everything else.
#[derive(Debug, Default)]
pub struct Departure {
    /// To be made durable.
    pub records: Vec<Record>,
    /// Checkpoints that have become stable.
    pub stable: Vec<Checkpoint>,
    /// For the execute stage.
    pub work: Vec<Work>,
    /// For the egress stage.
    pub outbound: Vec<Outbound>,
}

impl Departure {
    const fn is_empty(&self) -> bool {
        self.records.is_empty() && self.stable.is_empty() && self.work.is_empty() && self.outbound.is_empty()
    }
}

/// Where the order stage hands on to.
pub enum Onward {
    /// Nothing is made durable: straight to who is next.
    Direct {
        /// To the execute stage.
        work: Sender<Vec<Work>>,
        /// To the egress stage.
        outbound: Sender<Vec<Outbound>>,
    },
    /// To the persist stage.
    Durable(Sender<Departure>),
}

impl Onward {
    /// Hands on, or holds back while the links are full.
    pub fn send(&mut self, departure: Departure) {
        match self {
            Self::Direct { work, outbound } => {
                if !departure.work.is_empty() {
                    work.send(departure.work);
                }
                if !departure.outbound.is_empty() {
                    outbound.send(departure.outbound);
                }
            }
            Self::Durable(_) if departure.is_empty() => {}
            Self::Durable(link) => link.send(departure),
        }
    }

    /// Sends what was held back; true if nothing is left.
    pub fn flush(&mut self) -> bool {
        match self {
            Self::Direct { work, outbound } => work.flush() & outbound.flush(),
            Self::Durable(link) => link.flush(),
        }
    }

    /// Whether stages of other threads are next, which can begin with each piece of work; the log takes more at a time.
    #[must_use]
    pub const fn is_across_threads(&self) -> bool {
        match self {
            Self::Direct { work, outbound } => work.is_across_threads() || outbound.is_across_threads(),
            Self::Durable(_) => false,
        }
    }

    /// Whether something is held back.
    #[must_use]
    pub fn is_held(&self) -> bool {
        match self {
            Self::Direct { work, outbound } => work.is_held() || outbound.is_held(),
            Self::Durable(link) => link.is_held(),
        }
    }
}

/// What a replica that makes its votes durable needs besides.
pub struct PersistParts {
    /// The log.
    pub log: Log,
    /// The snapshots on disk.
    pub kept: Kept,
    /// Locked for as long as something is written in it.
    pub directory: Arc<Directory>,
    /// Bytes of log between two snapshots.
    pub snapshot_every_bytes: u64,
    /// K.
    pub checkpoint_interval: u64,
    /// Where the executor stands.
    pub executed: SequenceNumber,
    /// Where it is said that the replica can not go on.
    pub failure: Failure,
}

/// Why a replica could not make its votes durable any more, set once.
pub type Failure = Arc<OnceLock<StorageError>>;

/// The links of the persist stage.
pub struct PersistLinks {
    /// From the order stage.
    pub input: Receiver<Departure>,
    /// To the execute stage.
    pub work: Sender<Vec<Work>>,
    /// To the egress stage.
    pub outbound: Sender<Vec<Outbound>>,
}

/// The stage's context.
pub struct Persist {
    log: Log,
    links: PersistLinks,
    truncation: Truncation,
    clock: Clock,
    failure: Failure,
    stop: Arc<AtomicBool>,
    writes: Histogram<u64>,
}

impl Persist {
    /// Writes to the log of `parts`. Sets `stop` if that fails.
    ///
    /// # Errors
    /// If the thread that writes snapshots can not be started.
    pub fn new(parts: PersistParts, clock: Clock, stop: Arc<AtomicBool>, links: PersistLinks) -> std::io::Result<Self> {
        let PersistParts { log, kept, directory, snapshot_every_bytes, checkpoint_interval, executed, failure } = parts;
        let (jobs, reports) = start_writer(directory, log.identity(), kept)?;
        let truncation = Truncation {
            every_bytes: snapshot_every_bytes,
            interval: checkpoint_interval,
            handed: executed,
            wanted: None,
            due_at_bytes: 0,
            writing: false,
            jobs,
            reports,
            failed: 0,
        };
        Ok(Self { log, links, truncation, clock, failure, stop, writes: phase_histogram() })
    }

    /// Makes the records of all that waits durable, then lets it pass.
    fn take_group(&mut self) -> Result<bool, StorageError> {
        let mut group = Vec::new();
        let mut any_record = false;
        let mut must_sync = false;
        while self.log.group_bytes() < LOG_GROUP_BYTES {
            let Some(departure) = self.links.input.receive() else { break };
            for record in &departure.records {
                any_record = true;
                // What is decided or stable can be learnt from others again: it is written, but nobody waits for it.
                must_sync |= !matches!(record, Record::Committed(..) | Record::Stable(_));
                self.log.append(record);
            }
            group.push(departure);
        }
        if any_record {
            let before = self.clock.now();
            self.log.write(must_sync)?;
            self.writes.saturating_record(self.clock.now().since(before));
        }
        let any = !group.is_empty();
        let durable = self.clock.now();
        let (mut work, mut outbound) = (Vec::new(), Vec::new());
        for mut departure in group {
            for work in &mut departure.work {
                if let Work::Execute(execution) = work {
                    execution.stamps.durable = durable;
                }
            }
            let saves = self.truncation.on_work(&departure.work, &self.log);
            append(&mut work, departure.work);
            work.extend(saves);
            append(&mut outbound, departure.outbound);
            for checkpoint in departure.stable {
                self.truncation.on_stable(checkpoint, &self.log, &mut work);
            }
        }
        if !work.is_empty() {
            self.links.work.send(work);
        }
        if !outbound.is_empty() {
            self.links.outbound.send(outbound);
        }
        Ok(any)
    }
}

/// Appends without copying where nothing is there yet.
fn append<T>(to: &mut Vec<T>, mut from: Vec<T>) {
    if to.is_empty() {
        *to = from;
    } else {
        to.append(&mut from);
    }
}

impl Stage for Persist {
    fn name(&self) -> &'static str {
        "persist"
    }

    fn step(&mut self, _now: Time) -> bool {
        if self.failure.get().is_some() || !(self.links.work.flush() & self.links.outbound.flush()) {
            return false;
        }
        self.take_group().unwrap_or_else(|error| {
            // It is not known what is on disk, so nothing may leave any more, and nobody may try again.
            let _ = self.failure.set(error);
            self.stop.store(true, Ordering::Relaxed);
            true
        })
    }

    fn has_work(&self) -> bool {
        !self.links.input.is_empty()
    }

    fn is_stalled(&self) -> bool {
        self.failure.get().is_some() || self.links.work.is_held() || self.links.outbound.is_held()
    }

    fn queue_len(&self) -> usize {
        self.links.input.len()
    }

    fn post(&mut self, board: &mut Board) {
        board.report.phases.insert("log_written".into(), phase_report(&self.writes));
        let mut failed = Counts::new();
        count_many(&mut failed, "snapshot_not_written", self.truncation.failed);
        board.post_ignored("persist", &failed);
    }
}

/// How often a state that could not be written is tried again while the log grows as much as between two snapshots: it
/// costs as much each time, and a full disk is not emptied in a moment.
const RETRIES_PER_SNAPSHOT: u64 = 16;

/// When the state is written and the log truncated behind it.
struct Truncation {
    every_bytes: u64,
    interval: u64,
    /// The highest sequence number that was handed to the executor.
    handed: SequenceNumber,
    /// The coming checkpoint at which the executor keeps its state.
    wanted: Option<SequenceNumber>,
    /// A snapshot is due when the log has so many bytes: at the first stable checkpoint after the start, so that the
    /// next start finds little to read, and after so many bytes each.
    due_at_bytes: u64,
    /// Whether a snapshot is on its way to the disk.
    writing: bool,
    jobs: Jobs<Job>,
    reports: Reports<Outcome>,
    /// How often the state could not be written.
    failed: u64,
}

impl Truncation {
    /// Notes how far the executor will get. A state that was fetched is written at once, for the log alone does not
    /// lead there: what asks for it comes right behind the work, and finds nothing if the state was not taken over.
    fn on_work(&mut self, work: &[Work], log: &Log) -> Vec<Work> {
        let mut saves = Vec::new();
        for item in work {
            match item {
                Work::Execute(execution) => self.handed = self.handed.max(execution.sequence),
                Work::Install(sequence, digest, _) => {
                    self.handed = self.handed.max(*sequence);
                    saves.push(self.save(Checkpoint { sequence: *sequence, digest: *digest }, log));
                }
                _ => {}
            }
        }
        saves
    }

    fn save(&mut self, checkpoint: Checkpoint, log: &Log) -> Work {
        self.writing = true;
        let first_segment = log.first_needed(checkpoint.sequence);
        Work::Save(SaveRequest { checkpoint, first_segment, to: self.jobs.clone() })
    }

    fn on_stable(&mut self, checkpoint: Checkpoint, log: &Log, work: &mut Vec<Work>) {
        while let Ok(outcome) = self.reports.try_recv() {
            self.writing = false;
            match outcome {
                Outcome::Written => {}
                Outcome::Missed => self.due_at_bytes = log.appended_bytes(),
                Outcome::Failed => {
                    self.failed += 1;
                    self.due_at_bytes = log.appended_bytes() + self.every_bytes / RETRIES_PER_SNAPSHOT;
                }
            }
        }
        if self.wanted == Some(checkpoint.sequence) {
            self.due_at_bytes = log.appended_bytes() + self.every_bytes;
            work.push(self.save(checkpoint, log));
        }
        if self.wanted.is_some_and(|wanted| wanted <= checkpoint.sequence) {
            self.wanted = None;
        }
        if self.wanted.is_none() && !self.writing && log.appended_bytes() >= self.due_at_bytes {
            let next = SequenceNumber((self.handed.0 / self.interval + 1).saturating_mul(self.interval));
            self.wanted = Some(next);
            work.push(Work::Keep(next));
        }
    }
}

/// Asks the execute stage for the state that it kept at a checkpoint that is stable now.
#[derive(Debug)]
pub struct SaveRequest {
    checkpoint: Checkpoint,
    first_segment: u64,
    to: Jobs<Job>,
}

impl SaveRequest {
    /// The checkpoint.
    #[must_use]
    pub const fn sequence(&self) -> SequenceNumber {
        self.checkpoint.sequence
    }

    /// Hands over what was kept there.
    pub fn answer(self, kept: Option<&execute::Snapshot>) {
        let chunks = kept.filter(|kept| kept.digest == self.checkpoint.digest).map(|kept| kept.chunks.clone());
        let Checkpoint { sequence, digest } = self.checkpoint;
        let snapshot = chunks.map(|chunks| Snapshot { sequence, digest, first_segment: self.first_segment, chunks });
        // If nobody takes it the replica is stopping.
        let _ = self.to.send(Job(snapshot));
    }
}

/// A snapshot on its way to the disk; `None` if the executor did not have it any more.
#[derive(Debug)]
struct Job(Option<Snapshot>);

/// What became of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It is durable.
    Written,
    /// The executor did not have it any more.
    Missed,
    /// The file system refused.
    Failed,
}

/// Starts the thread that writes snapshots. It ends when nobody can send it any more.
fn start_writer(
    directory: Arc<Directory>,
    identity: Identity,
    mut kept: Kept,
) -> std::io::Result<(Jobs<Job>, Reports<Outcome>)> {
    let (jobs, incoming) = channel::<Job>();
    let (outgoing, reports) = channel();
    std::thread::Builder::new().name("snapshots".into()).spawn(move || {
        for Job(snapshot) in incoming {
            let started = Instant::now();
            let mut outcome = Outcome::Missed;
            if let Some(snapshot) = snapshot {
                let (sequence, bytes) =
                    (snapshot.sequence, snapshot.chunks.iter().map(|chunk| chunk.len()).sum::<usize>());
                // Votes are durable all the same; the log only stays as long as it is.
                let text;
                (outcome, text) = match snapshot.write(directory.path(), &identity, &mut kept) {
                    Ok(()) => (Outcome::Written, format!("state at {sequence} written")),
                    Err(error) => (Outcome::Failed, format!("state at {sequence} not written: {error}")),
                };
                let ms = started.elapsed().as_secs_f64() * 1e3;
                platform::log(&format!("replica {}: {text} ({bytes} bytes, {ms:.1} ms)", identity.replica));
            }
            if outgoing.send(outcome).is_err() {
                break;
            }
        }
    })?;
    Ok((jobs, reports))
}

#[cfg(test)]
mod tests;
