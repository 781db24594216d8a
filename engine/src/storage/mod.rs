//! What a replica must not forget, on disk: votes and batches in a write-ahead log, states in snapshots.
//!
//! In the order of a vote's life: [record] (a record of the protocol as bytes), [segment] (entries and how torn ones
//! are told from damaged ones), [log] (segments, group commits, reading back), [backend] and [uring] (what makes bytes
//! durable), [snapshot] (states, behind which the log is truncated), [directory] (who owns the files, and whether this
//! replica ran before). The first two are pure: they take and give bytes, for simulators and fuzzers as well.
//!
//! What is torn when a process or a machine dies is cut off: it was not durable, so nobody was told of it. What was
//! durable and is damaged means that votes may be forgotten. Then the replica is refused to start, or starts without a
//! vote, and stays without one: it follows, executes and answers, and counts as faulty.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::limits::LOG_SEGMENT_BYTES_MAX;
use crate::protocol::Record;
use crate::protocol::message::Checkpoint;
use crate::settings::{Durability, OnCorruptLog};
use crate::types::{Digest, ReplicaId, SequenceNumber};

pub mod backend;
pub mod directory;
pub mod log;
pub mod record;
pub mod segment;
pub mod snapshot;
pub mod uring;

#[cfg(test)]
mod tests;

pub use directory::Directory;
pub use log::{Log, LogError};
pub use snapshot::Snapshot;

use directory::Marker;
use snapshot::Kept;

/// Whose files these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's fingerprint.
    pub fingerprint: [u8; 32],
    /// The replica.
    pub replica: ReplicaId,
}

impl Identity {
    fn check(&self, file: &Path, fingerprint: &[u8; 32], replica: ReplicaId) -> Result<(), StorageError> {
        let file = file.to_owned();
        if *fingerprint != self.fingerprint {
            let (found, own) = (hex::encode(&fingerprint[..8]), hex::encode(&self.fingerprint[..8]));
            return Err(StorageError::OtherCluster { file, found, own });
        }
        if replica != self.replica {
            return Err(StorageError::OtherReplica { file, found: replica, own: self.replica });
        }
        Ok(())
    }
}

/// Why a replica can not use its data directory.
#[derive(Debug, Error)]
pub enum StorageError {
    /// The file system refused something.
    #[error("can not {what} {}: {error}", path.display())]
    Io {
        /// What.
        what: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another process has it.
    #[error("{}: another process uses this data directory", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// It belongs to a cluster with other settings or nodes.
    #[error("{}: of the cluster {found}.., this one is {own}..: each cluster needs a data directory of its own", file.display())]
    OtherCluster {
        /// The file that says so.
        file: PathBuf,
        /// Its cluster.
        found: String,
        /// This one.
        own: String,
    },
    /// It belongs to another replica.
    #[error("{}: of replica {found}, this is replica {own}: each replica needs a data directory of its own", file.display())]
    OtherReplica {
        /// The file that says so.
        file: PathBuf,
        /// Its replica.
        found: ReplicaId,
        /// This one.
        own: ReplicaId,
    },
    /// A log is there, but nothing is to be made durable: it would be out of date from now on.
    #[error("{}: was used with durability = wal: allowed: wal", path.display())]
    HasLog {
        /// The directory.
        path: PathBuf,
    },
    /// A small file or a snapshot that can not be read, and nothing stands in for it.
    #[error("{}: {why}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No snapshot can be used, though there are some.
    #[error("{}: none of the snapshots can be used: {why}", path.display())]
    NoSnapshot {
        /// The directory.
        path: PathBuf,
        /// What is wrong with each.
        why: String,
    },
    /// The log can not be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// What was durable is damaged; says what to do.
    #[error(
        "{0}. The votes in it may be forgotten, so this replica does not start. Restore the files from where they \
             are whole, or start with --on-corrupt-log refetch: that sets them aside and starts the replica without a \
             vote, for good; it fetches the state from the others"
    )]
    Damaged(Box<Self>),
}

impl StorageError {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { what, path, error }
    }

    /// Whether files that were durable are damaged or gone, which a replica without a vote can do without.
    const fn is_damage(&self) -> bool {
        matches!(self, Self::Log(_) | Self::NoSnapshot { .. })
    }
}

/// How a replica uses its data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageOptions {
    /// Where.
    pub path: PathBuf,
    /// What is made durable.
    pub durability: Durability,
    /// What to do about a damaged log.
    pub on_corrupt_log: OnCorruptLog,
    /// Bytes of log after which the state is written and the log truncated.
    pub snapshot_every_bytes: u64,
}

/// A data directory in use.
pub struct Storage {
    /// Locked for as long as this lives.
    pub directory: Arc<Directory>,
    /// Whether the replica may vote: it has forgotten nothing.
    pub voting: bool,
    /// Whether the replica was started with this directory before.
    pub ran_before: bool,
    /// What was remembered and where to go on; `None` if nothing is made durable.
    pub memory: Option<Memory>,
    /// What happened, in lines for the log.
    pub notes: Vec<String>,
}

/// What a replica remembers, and the log to go on with.
pub struct Memory {
    /// The checkpoint whose state was restored; sequence number 0 for the initial state.
    pub saved: Checkpoint,
    /// What was recorded, in order; of sequence numbers up to `saved` nothing.
    pub records: Vec<Record>,
    /// Bytes of log that were read for that.
    pub log_bytes: u64,
    /// The log, in a new segment.
    pub log: Log,
    /// The snapshots on disk.
    pub kept: Kept,
    /// How the log is written, in words.
    pub backend: String,
}

/// Opens a data directory, and reads back what a replica remembers. `restore` is given snapshots, newest first, until
/// it takes one.
///
/// # Errors
/// If the directory can not be used, belongs to somebody else, or is damaged and nothing else was asked for.
pub fn open(
    options: &StorageOptions,
    identity: Identity,
    mut restore: impl FnMut(&Snapshot) -> Result<(), String>,
) -> Result<Storage, StorageError> {
    let directory = Directory::open(&options.path)?;
    let found = directory.marker(&identity)?;
    let mut marker = Marker::new(&identity, options.durability);
    // Whatever happens now, a replica that ran without a log has forgotten its votes.
    marker.forgot = found.as_ref().is_some_and(|found| found.forgot || found.durability == Durability::None);
    let mut notes = Vec::new();
    let memory = match options.durability {
        Durability::None => {
            if found.as_ref().is_some_and(|found| found.durability == Durability::Wal) || log::exists(&directory)? {
                return Err(StorageError::HasLog { path: options.path.clone() });
            }
            directory.mark(&marker)?;
            None
        }
        Durability::Wal => {
            let first_start = found.as_ref().is_none_or(|found| found.durability == Durability::None);
            let mut read = match recover(&directory, &identity, first_start, &mut notes, &mut restore) {
                Err(error) if error.is_damage() && options.on_corrupt_log == OnCorruptLog::Refetch => {
                    marker.forgot = true;
                    directory.mark(&marker)?;
                    set_aside(&directory, &error, &mut notes)?;
                    Recovered::nothing()
                }
                Err(error) if error.is_damage() => return Err(StorageError::Damaged(Box::new(error))),
                read => read?,
            };
            let segment_bytes = LOG_SEGMENT_BYTES_MAX.min(options.snapshot_every_bytes / 4);
            let (backend, why) = backend::open(&options.path);
            let log_bytes = read.log.bytes;
            let records = std::mem::take(&mut read.log.records);
            let log = Log::begin(&directory, identity, backend, segment_bytes, read.log)?;
            // After the log: a log without a marker is one that has just begun, a marker without a log is damage.
            directory.mark(&marker)?;
            Some(Memory { saved: read.saved, records, log_bytes, log, kept: read.kept, backend: why })
        }
    };
    if marker.forgot {
        notes.push("ran before and has forgotten its votes: it follows and answers, but never votes".into());
    }
    let ran_before = found.is_some();
    Ok(Storage { directory: Arc::new(directory), voting: !marker.forgot, ran_before, memory, notes })
}

/// What was read back.
struct Recovered {
    saved: Checkpoint,
    kept: Kept,
    log: log::Read,
}

impl Recovered {
    fn nothing() -> Self {
        let saved = Checkpoint { sequence: SequenceNumber(0), digest: Digest::default() };
        Self { saved, kept: Kept::default(), log: log::Read::nothing() }
    }
}

fn recover(
    directory: &Directory,
    identity: &Identity,
    first_start: bool,
    notes: &mut Vec<String>,
    restore: &mut dyn FnMut(&Snapshot) -> Result<(), String>,
) -> Result<Recovered, StorageError> {
    let mut recovered = Recovered::nothing();
    let mut first_segment = 1;
    let mut unusable: Vec<String> = Vec::new();
    let snapshots = directory.snapshots()?;
    for (_, path) in &snapshots {
        let why = match Snapshot::read(path, identity) {
            Ok(snapshot) if recovered.saved.sequence.0 > 0 => {
                recovered.kept.add(snapshot.sequence, snapshot.first_segment);
                continue;
            }
            Ok(snapshot) => match restore(&snapshot) {
                Ok(()) => {
                    recovered.saved = Checkpoint { sequence: snapshot.sequence, digest: snapshot.digest };
                    recovered.kept.add(snapshot.sequence, snapshot.first_segment);
                    first_segment = snapshot.first_segment;
                    continue;
                }
                Err(why) => format!("{}: {why}", path.display()),
            },
            Err(StorageError::Unreadable { file, why }) => format!("{}: {why}", file.display()),
            Err(error) => return Err(error),
        };
        notes.push(why.clone());
        unusable.push(why);
    }
    // A log that was never truncated needs no snapshot.
    if recovered.saved.sequence.0 == 0 && !snapshots.is_empty() && !log::has_first(directory)? {
        return Err(StorageError::NoSnapshot { path: directory.path().to_owned(), why: unusable.join("; ") });
    }
    if first_start && snapshots.is_empty() && !log::exists(directory)? {
        return Ok(recovered);
    }
    recovered.log = log::read(directory, identity, recovered.saved.sequence, first_segment)?;
    if let Some(cut) = &recovered.log.cut {
        let log::Cut { file, keep, lost, why } = cut;
        let file = file.display();
        notes.push(format!("{file}: cut at byte {keep}: {why}; the {lost} bytes from there on were being written"));
    }
    Ok(recovered)
}

fn set_aside(directory: &Directory, error: &StorageError, notes: &mut Vec<String>) -> Result<(), StorageError> {
    let mut files = directory.numbered(log::SEGMENTS.0, log::SEGMENTS.1)?;
    files.extend(directory.snapshots()?);
    let files: Vec<PathBuf> = files.into_iter().map(|(_, path)| path).collect();
    let aside = directory.set_aside(&files)?;
    notes.push(format!("{error}: set aside in {}; the state is fetched from the others", aside.display()));
    Ok(())
}
