//! The write-ahead log: records in segments, `wal-<number>.log`.
//!
//! A segment appears in the directory with its head and what it carries over (the newest view-change and new-view,
//! which are about no sequence number and must outlive the segments that they were written to), all of it durable. So
//! segments before the last one are durable as a whole, and only the last one can be torn. Each start of a replica
//! begins a new segment, after it has written what it read of the last one once more: what was read is what the kernel
//! had in memory, and nobody knows how much of that is on the disk.

use std::fs::{self, File};
use std::io::Write as _;
use std::mem::discriminant;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use thiserror::Error;

use super::backend::Backend;
use super::directory::{Ahead, Directory, write_whole};
use super::segment::{Builder, End, HEAD_BYTES, Head, scan};
use super::{Identity, StorageError, record};
use crate::auth::Digester;
use crate::protocol::Record;
use crate::types::SequenceNumber;

/// What segments' files are called, before and after the number.
pub(super) const SEGMENTS: (&str, &str) = ("wal-", "log");

/// Why a log can not be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LogError {
    /// What was durable once is damaged.
    #[error("{file}: damaged at byte {offset}: {why}")]
    Damaged {
        /// Which segment.
        file: PathBuf,
        /// Where the last good entry ends.
        offset: u64,
        /// What is wrong there.
        why: String,
    },
    /// A segment is not there.
    #[error("{file}: missing, the log has segments {first} to {last}")]
    Missing {
        /// Which segment.
        file: PathBuf,
        /// The first that is needed.
        first: u64,
        /// The last that is there (below `first` if none is).
        last: u64,
    },
    /// A segment that lies under another one's name.
    #[error("{file}: is segment {found}")]
    Misplaced {
        /// The file.
        file: PathBuf,
        /// What it says that it is.
        found: u64,
    },
}

/// A torn end that has to be cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Which segment.
    pub file: PathBuf,
    /// How many bytes of it are good.
    pub keep: u64,
    /// How many are not.
    pub lost: u64,
    /// Why, in words.
    pub why: String,
}

/// Reads segments in order. Pure.
struct Replay {
    identity: Identity,
    stable: SequenceNumber,
    digester: Digester,
    carried: Carried,
    records: Vec<Record>,
    segments: Vec<(u64, SequenceNumber)>,
    cut: Option<Cut>,
    bytes: u64,
}

impl Replay {
    /// Reads what is of use beside the state at `stable`.
    fn new(identity: Identity, stable: SequenceNumber) -> Self {
        Self {
            identity,
            stable,
            digester: Digester::default(),
            carried: Carried::default(),
            records: Vec::new(),
            segments: Vec::new(),
            cut: None,
            bytes: 0,
        }
    }

    /// Reads the next segment, which lies in `file` under this number. Only the last one may be torn.
    ///
    /// # Errors
    /// If it is damaged, misplaced, or not of this replica.
    fn segment(&mut self, file: &Path, number: u64, bytes: &Bytes, is_last: bool) -> Result<(), StorageError> {
        let damaged = |offset, why| LogError::Damaged { file: file.to_owned(), offset, why };
        let head = Head::decode(bytes).map_err(|why| damaged(0, why))?;
        self.identity.check(file, &head.identity.fingerprint, head.identity.replica)?;
        if head.number != number {
            return Err(LogError::Misplaced { file: file.to_owned(), found: head.number }.into());
        }
        let (entries, end) = scan(&head, bytes, &mut self.digester);
        match end {
            End::Clean => {}
            End::Torn { offset: keep, why } if is_last => {
                self.cut = Some(Cut { file: file.to_owned(), keep, lost: bytes.len() as u64 - keep, why });
            }
            End::Torn { offset, why } => {
                let why = format!("{why}, and a later segment says that these bytes were durable");
                return Err(damaged(offset, why).into());
            }
            End::Damaged { offset, why } => return Err(damaged(offset, why).into()),
        }
        let mut highest = SequenceNumber(0);
        let is_first = self.segments.is_empty();
        for entry in entries {
            // What later segments carry over was read where it was first written.
            if entry.carried && !is_first {
                continue;
            }
            let sequence = record::sequence_of(&entry.record);
            highest = highest.max(sequence.unwrap_or_default());
            self.carried.note(&entry.record);
            if sequence.is_none_or(|sequence| sequence > self.stable) {
                self.records.push(entry.record);
            }
        }
        self.segments.push((number, highest));
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

/// Reads a whole log from its segments' numbers and bytes, in order: the records that are of use beside the state at
/// `stable`, and what has to be cut off. Pure.
///
/// # Errors
/// As when a replica reads its files.
pub fn replay(
    identity: Identity,
    stable: SequenceNumber,
    segments: &[(u64, Bytes)],
) -> Result<(Vec<Record>, Option<Cut>), StorageError> {
    let mut replay = Replay::new(identity, stable);
    for (index, (number, bytes)) in segments.iter().enumerate() {
        replay.segment(Path::new(&file_name(*number)), *number, bytes, index + 1 == segments.len())?;
    }
    Ok((replay.records, replay.cut))
}

/// The newest view-change, new-view and suspicion, in the order in which they were recorded.
#[derive(Debug, Default)]
struct Carried(Vec<Record>);

impl Carried {
    fn note(&mut self, record: &Record) {
        if matches!(record, Record::ViewChange(_) | Record::NewView(..) | Record::Suspected(_)) {
            self.0.retain(|older| discriminant(older) != discriminant(record));
            self.0.push(record.clone());
        }
    }
}

/// What was read of a log.
pub(super) struct Read {
    /// The records that are of use, in order.
    pub(super) records: Vec<Record>,
    /// What was cut off.
    pub(super) cut: Option<Cut>,
    /// Bytes that were read.
    pub(super) bytes: u64,
    carried: Carried,
    segments: Vec<(u64, SequenceNumber)>,
}

impl Read {
    /// Of a log that has not begun.
    pub(super) fn nothing() -> Self {
        Self { records: Vec::new(), cut: None, bytes: 0, carried: Carried::default(), segments: Vec::new() }
    }

    /// The number of the last segment, 0 if there is none.
    fn last(&self) -> u64 {
        self.segments.last().map_or(0, |(number, _)| *number)
    }
}

/// Reads the log from segment `first` on, cuts off what is torn, and makes the rest durable before anybody acts on it.
///
/// # Errors
/// If a segment is missing or damaged, or not of this replica. Then nothing has been changed.
pub(super) fn read(
    directory: &Directory,
    identity: &Identity,
    stable: SequenceNumber,
    first: u64,
) -> Result<Read, StorageError> {
    let mut files = directory.numbered(SEGMENTS.0, SEGMENTS.1)?;
    let last = files.last().map_or(0, |(number, _)| *number);
    files.retain(|(number, _)| *number >= first);
    let missing = |number| LogError::Missing { file: directory.path().join(file_name(number)), first, last };
    let expected = (first..=last.max(first)).find(|number| !files.iter().any(|(found, _)| found == number));
    if let Some(number) = expected {
        return Err(missing(number).into());
    }
    let mut replay = Replay::new(*identity, stable);
    let mut tail = Bytes::new();
    for (number, path) in &files {
        tail = fs::read(path).map_err(StorageError::io("read", path))?.into();
        replay.segment(path, *number, &tail, *number == last)?;
    }
    let Replay { records, cut, carried, segments, bytes, .. } = replay;
    // To sync it would not do: after a sync that failed in an earlier life, the kernel says that all is well though
    // nothing has reached the disk.
    #[allow(clippy::cast_possible_truncation, reason = "within what was read into memory")]
    let good = cut.as_ref().map_or(&tail[..], |cut| &tail[..cut.keep as usize]);
    write_whole(directory.path(), &file_name(last), |file| file.write_all(good))?;
    Ok(Read { records, cut, bytes, carried, segments })
}

/// Whether any segment of a log is there.
pub(super) fn exists(directory: &Directory) -> Result<bool, StorageError> {
    Ok(!directory.numbered(SEGMENTS.0, SEGMENTS.1)?.is_empty())
}

/// Whether the log is there from its very beginning.
pub(super) fn has_first(directory: &Directory) -> Result<bool, StorageError> {
    Ok(directory.numbered(SEGMENTS.0, SEGMENTS.1)?.first().is_some_and(|(number, _)| *number == 1))
}

/// The log, open for appending. One thread owns it.
pub struct Log {
    directory: PathBuf,
    identity: Identity,
    backend: Box<dyn Backend>,
    segment_bytes: u64,
    file: File,
    path: PathBuf,
    number: u64,
    builder: Builder,
    /// Earlier segments with the highest sequence number that each is about, oldest first; deleted ones too.
    closed: Vec<(u64, SequenceNumber)>,
    carried: Carried,
    ahead: Ahead,
    /// Bytes of earlier segments that this process has written.
    closed_bytes: u64,
}

impl Log {
    /// A log that begins, in a directory that has none.
    ///
    /// # Errors
    /// If the first segment can not be made.
    pub fn create(
        directory: &Directory,
        identity: Identity,
        backend: Box<dyn Backend>,
        segment_bytes: u64,
    ) -> Result<Self, StorageError> {
        Self::begin(directory, identity, backend, segment_bytes, Read::nothing())
    }

    /// Goes on after what was read, in a new segment. Segments are closed when they have `segment_bytes`.
    ///
    /// # Errors
    /// If the segment can not be made.
    pub(super) fn begin(
        directory: &Directory,
        identity: Identity,
        backend: Box<dyn Backend>,
        segment_bytes: u64,
        read: Read,
    ) -> Result<Self, StorageError> {
        let number = read.last() + 1;
        let mut ahead = Ahead::open(directory.path())?;
        let (file, builder) = new_segment(&mut ahead, identity, number, &read.carried)?;
        ahead.refill();
        Ok(Self {
            directory: directory.path().to_owned(),
            identity,
            backend,
            segment_bytes,
            file,
            path: directory.path().join(file_name(number)),
            number,
            builder,
            closed: read.segments,
            carried: read.carried,
            ahead,
            closed_bytes: 0,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whose it is.
    #[must_use]
    pub const fn identity(&self) -> Identity {
        self.identity
    }

    /// Adds a record to the next group.
    pub fn append(&mut self, record: &Record) {
        self.carried.note(record);
        self.builder.append(record, false);
    }

    /// Bytes of the next group so far.
    #[must_use]
    pub const fn group_bytes(&mut self) -> usize {
        self.builder.pending().1.len()
    }

    /// Writes the group; with `sync`, everything that was ever appended is durable afterwards.
    ///
    /// # Errors
    /// If the file system refuses. Nothing may be appended any more then: it is not known what is in the file.
    pub fn write(&mut self, sync: bool) -> Result<(), StorageError> {
        self.write_group(sync)?;
        self.ahead.refill();
        if self.builder.len() < self.segment_bytes {
            return Ok(());
        }
        if self.builder.is_behind() {
            self.write_group(true)?;
        }
        let number = self.number + 1;
        let (file, builder) = new_segment(&mut self.ahead, self.identity, number, &self.carried)?;
        self.closed.push((self.number, self.builder.highest()));
        self.closed_bytes += self.builder.len();
        (self.number, self.file, self.builder) = (number, file, builder);
        self.path = self.directory.join(file_name(number));
        // The old file has just been closed, so there is a descriptor for the next one.
        self.ahead.refill();
        Ok(())
    }

    fn write_group(&mut self, sync: bool) -> Result<(), StorageError> {
        let (offset, bytes) = self.builder.pending();
        let len = bytes.len();
        if len > 0 || sync {
            let written = self.backend.write(&self.file, offset, bytes, sync);
            written.map_err(StorageError::io("write", &self.path))?;
            self.builder.written(len, sync);
        }
        Ok(())
    }

    /// The first segment that is needed beside the state at `stable`.
    #[must_use]
    pub fn first_needed(&self, stable: SequenceNumber) -> u64 {
        let needed = self.closed.iter().find(|(_, highest)| *highest > stable);
        needed.map_or(self.number, |(number, _)| *number)
    }

    /// Bytes that this process has appended.
    #[must_use]
    pub const fn appended_bytes(&self) -> u64 {
        self.closed_bytes + self.builder.len()
    }
}

fn new_segment(
    ahead: &mut Ahead,
    identity: Identity,
    number: u64,
    carried: &Carried,
) -> Result<(File, Builder), StorageError> {
    let head = Head { identity, number, salt: rand::random() };
    let mut builder = Builder::new(&head);
    for record in &carried.0 {
        builder.append(record, true);
    }
    let (offset, entries) = builder.pending();
    debug_assert_eq!(offset, HEAD_BYTES as u64);
    let file = ahead.write_whole(&file_name(number), [&head.encode(), entries])?;
    let len = entries.len();
    builder.written(len, true);
    Ok((file, builder))
}

/// Fixed width, so that names sort as numbers do.
pub(super) fn file_name(number: u64) -> String {
    format!("{}{number:010}.{}", SEGMENTS.0, SEGMENTS.1)
}
