//! Snapshots of the state on disk: `snapshot-<sequence number>.bin`, whole or not there.
//!
//! The head, 104 bytes: magic `HIPSNAP` (7), version (1), the cluster's fingerprint (32), the replica (2), zero (2),
//! count of chunks (4), sequence number (8), state digest (32), the number of the log's first segment that is needed
//! with it (8), CRC-32 of these 96 bytes (4), zero (4). Each chunk: length (4), CRC-32 of index and bytes (4), bytes.
//! Nothing follows. The state digest is the one that a quorum vouched for; whoever restores the state compares it.

use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::directory::{Directory, sync, write_whole};
use super::log::SEGMENTS;
use super::segment::array;
use super::{Identity, StorageError};
use crate::limits::{SNAPSHOTS_ON_DISK_MAX, STATE_CHUNKS_MAX};
use crate::types::{Digest, ReplicaId, SequenceNumber};

/// What snapshots' files are called, before and after the sequence number.
pub(super) const SNAPSHOTS: (&str, &str) = ("snapshot-", "bin");

/// The layout's version. A snapshot of another one is refused.
const VERSION: u8 = 1;
const MAGIC: [u8; 7] = *b"HIPSNAP";
const HEAD_BYTES: usize = 104;
const CHUNK_HEAD_BYTES: usize = 8;

/// The state at a stable checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The checkpoint.
    pub sequence: SequenceNumber,
    /// The state's digest.
    pub digest: Digest,
    /// The log's first segment that is needed with it.
    pub first_segment: u64,
    /// The state, as the executor gave it.
    pub chunks: Vec<Bytes>,
}

impl Snapshot {
    /// The bytes in front of the chunks.
    #[must_use]
    pub fn encode_head(&self, identity: &Identity) -> Vec<u8> {
        let mut head = Vec::with_capacity(HEAD_BYTES);
        head.extend_from_slice(&MAGIC);
        head.push(VERSION);
        head.extend_from_slice(&identity.fingerprint);
        head.extend_from_slice(&identity.replica.0.to_le_bytes());
        head.extend_from_slice(&[0; 2]);
        let count = u32::try_from(self.chunks.len()).expect("snapshots are bounded by STATE_CHUNKS_MAX");
        head.extend_from_slice(&count.to_le_bytes());
        head.extend_from_slice(&self.sequence.0.to_le_bytes());
        head.extend_from_slice(&self.digest.0);
        head.extend_from_slice(&self.first_segment.to_le_bytes());
        head.extend_from_slice(&crc32fast::hash(&head).to_le_bytes());
        head.extend_from_slice(&[0; 4]);
        head
    }

    /// The snapshot that `bytes` are. Chunks are slices of them.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn decode(bytes: &Bytes) -> Result<(Identity, Self), String> {
        let head: &[u8; HEAD_BYTES] = bytes.first_chunk().ok_or("it is cut off")?;
        if head[..7] != MAGIC {
            return Err("it does not begin as a snapshot does".into());
        }
        if u32::from_le_bytes(array(head, 96)) != crc32fast::hash(&head[..96])
            || head[42..44] != [0; 2]
            || head[100..] != [0; 4]
        {
            return Err("its head is damaged".into());
        }
        if head[7] != VERSION {
            return Err(format!("version {}: allowed: {VERSION}", head[7]));
        }
        let count = u32::from_le_bytes(array(head, 44));
        if count > STATE_CHUNKS_MAX {
            return Err(format!("{count} chunks: allowed: at most {STATE_CHUNKS_MAX}"));
        }
        let identity =
            Identity { fingerprint: array(head, 8), replica: ReplicaId(u16::from_le_bytes(array(head, 40))) };
        let mut chunks = Vec::new();
        let mut at = HEAD_BYTES;
        for index in 0..count {
            let head: &[u8; CHUNK_HEAD_BYTES] = bytes[at..].first_chunk().ok_or("it is cut off")?;
            let (length, sum) = (u32::from_le_bytes(array(head, 0)) as usize, u32::from_le_bytes(array(head, 4)));
            at += CHUNK_HEAD_BYTES;
            if length > bytes.len() - at {
                return Err("it is cut off".into());
            }
            let chunk = bytes.slice(at..at + length);
            if sum != chunk_sum(index, &chunk) {
                return Err(format!("chunk {index} is damaged"));
            }
            chunks.push(chunk);
            at += length;
        }
        if at != bytes.len() {
            return Err("it goes on after its last chunk".into());
        }
        let snapshot = Self {
            sequence: SequenceNumber(u64::from_le_bytes(array(head, 48))),
            digest: Digest(array(head, 56)),
            first_segment: u64::from_le_bytes(array(head, 88)),
            chunks,
        };
        Ok((identity, snapshot))
    }

    /// Reads a snapshot.
    ///
    /// # Errors
    /// If it can not be read, is damaged, or is another replica's.
    pub fn read(path: &Path, identity: &Identity) -> Result<Self, StorageError> {
        let bytes = fs::read(path).map_err(StorageError::io("read", path))?;
        let (owner, snapshot) =
            Self::decode(&bytes.into()).map_err(|why| StorageError::Unreadable { file: path.to_owned(), why })?;
        identity.check(path, &owner.fingerprint, owner.replica)?;
        Ok(snapshot)
    }

    /// Writes it, then deletes what is not needed any more: snapshots but for the newest ones, and segments of the log
    /// that none of those needs.
    ///
    /// # Errors
    /// If the file system refuses. Then nothing has been deleted that is needed.
    pub fn write(&self, directory: &Path, identity: &Identity, kept: &mut Kept) -> Result<(), StorageError> {
        let name = file_name(self.sequence);
        write_whole(directory, &name, |file| {
            let mut out = BufWriter::new(file);
            out.write_all(&self.encode_head(identity))?;
            for (index, chunk) in (0..).zip(&self.chunks) {
                let length = u32::try_from(chunk.len()).expect("chunks are bounded by STATE_CHUNK_BYTES_MAX");
                out.write_all(&length.to_le_bytes())?;
                out.write_all(&chunk_sum(index, chunk).to_le_bytes())?;
                out.write_all(chunk)?;
            }
            out.flush()
        })?;
        kept.add(self.sequence, self.first_segment);
        kept.prune(directory)
    }
}

/// The snapshots on disk that can be used, with the first segment that each needs, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Kept(Vec<(SequenceNumber, u64)>);

impl Kept {
    pub(super) fn add(&mut self, sequence: SequenceNumber, first_segment: u64) {
        // A fetched state is written at once, and may be once more when its checkpoint becomes stable.
        self.0.retain(|(known, _)| *known != sequence);
        self.0.push((sequence, first_segment));
        self.0.sort_unstable();
    }

    /// Deletes what the newest snapshots do not need. The one before the newest keeps its log, so that it can take the
    /// newest one's place if that turns out to be damaged.
    fn prune(&mut self, directory: &Path) -> Result<(), StorageError> {
        if self.0.len() < SNAPSHOTS_ON_DISK_MAX {
            return Ok(());
        }
        self.0.drain(..self.0.len() - SNAPSHOTS_ON_DISK_MAX);
        let (oldest, first_segment) = self.0[0];
        let stale = |path: &Path, (prefix, extension): (&str, &str), limit: u64| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let middle = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(extension)?.strip_suffix('.'));
            middle.and_then(|number| number.parse::<u64>().ok()).is_some_and(|number| number < limit)
        };
        let mut paths: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(directory).map_err(StorageError::io("read", directory))? {
            let path = entry.map_err(StorageError::io("read", directory))?.path();
            if stale(&path, SNAPSHOTS, oldest.0) || stale(&path, SEGMENTS, first_segment) {
                paths.push(path);
            }
        }
        // Oldest first, so that what is left after a crash has no gap.
        paths.sort_unstable();
        for path in paths {
            fs::remove_file(&path).map_err(StorageError::io("remove", &path))?;
        }
        sync(directory)
    }
}

impl Directory {
    /// The snapshots' sequence numbers and files, newest first.
    pub(super) fn snapshots(&self) -> Result<Vec<(u64, PathBuf)>, StorageError> {
        let mut found = self.numbered(SNAPSHOTS.0, SNAPSHOTS.1)?;
        found.reverse();
        Ok(found)
    }
}

/// Fixed width, so that names sort as numbers do.
fn file_name(sequence: SequenceNumber) -> String {
    format!("{}{:020}.{}", SNAPSHOTS.0, sequence.0, SNAPSHOTS.1)
}

fn chunk_sum(index: u32, chunk: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&index.to_le_bytes());
    hasher.update(chunk);
    hasher.finalize()
}
