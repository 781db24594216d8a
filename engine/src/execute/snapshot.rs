//! A snapshot of the whole state as bytes: what one replica hands to another, and what recovery starts from.
//!
//! ```text
//! magic 8 bytes | sequence number u64 | ledger digest 32 bytes
//! number of clients u32 | number of rows u32 | rows: client u32, last timestamp u64, executed u64, length u32, result
//! chunks of the application until the end: length u32, bytes
//! ```
//!
//! Numbers are little-endian. Clients of which nothing was executed have no row; the others ascend. The bytes are one
//! stream, cut where a chunk is full, so replicas with equal states have equal snapshots. Nothing in one proves
//! anything: what counts is the digest of the state that it restores.

use bytes::Bytes;
use thiserror::Error;

use super::{ClientTable, Ledger};
use crate::app::{Application, InvalidOperation};
use crate::limits::STATE_CHUNK_BYTES_MAX;
use crate::types::{Digest, SequenceNumber};

/// Bytes of a chunk; the last one may have fewer. Far below the limit, so that chunks on their way to a laggard do not
/// hold up the votes between them.
pub const SNAPSHOT_CHUNK_BYTES: usize = 1 << 20;

const MAGIC: &[u8; 8] = b"hippo-st";

const _: () = assert!(SNAPSHOT_CHUNK_BYTES <= STATE_CHUNK_BYTES_MAX);

/// Why bytes are not the snapshot that they should be.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SnapshotError {
    /// They do not begin as a snapshot does.
    #[error("not a snapshot of a replica's state")]
    NotASnapshot,
    /// They end within something.
    #[error("the snapshot ends within its {0}")]
    Truncated(&'static str),
    /// The state at another sequence number.
    #[error("the snapshot is of sequence number {found}, not {wanted}")]
    OtherSequence {
        /// What the snapshot says.
        found: SequenceNumber,
        /// What was asked for.
        wanted: SequenceNumber,
    },
    /// Behind what was executed already.
    #[error("the snapshot of sequence number {found} is not ahead of {executed}, which was executed")]
    NotAhead {
        /// What the snapshot is of.
        found: SequenceNumber,
        /// Where the executor stands.
        executed: SequenceNumber,
    },
    /// A table of another cluster.
    #[error("the snapshot has {found} clients, the cluster {wanted}")]
    OtherClients {
        /// What the snapshot says.
        found: u32,
        /// What the cluster has.
        wanted: u32,
    },
    /// A row that no client table has.
    #[error("the snapshot's row of client {0} is out of order or out of range")]
    BadRow(u32),
    /// The application refuses its part.
    #[error(transparent)]
    Application(#[from] InvalidOperation),
    /// It is a state, but not the one that was wanted.
    #[error("the restored state has the digest {found}, not {wanted}")]
    OtherDigest {
        /// What the restored state has.
        found: Digest,
        /// What was asked for.
        wanted: Digest,
    },
}

/// The parts of a state.
pub(super) struct State {
    pub(super) ledger: Ledger,
    pub(super) clients: ClientTable,
    pub(super) app: Box<dyn Application>,
}

/// The state as chunks of `chunk_bytes`.
pub(super) fn write(ledger: &Ledger, clients: &ClientTable, app: &dyn Application, chunk_bytes: usize) -> Vec<Bytes> {
    let mut writer = Writer { chunk_bytes, chunks: Vec::new(), current: Vec::new() };
    writer.write(MAGIC);
    writer.write(&ledger.sequence().0.to_le_bytes());
    writer.write(&ledger.digest().0);
    writer.write(&clients.len().to_le_bytes());
    let rows = clients.rows().count();
    #[allow(clippy::cast_possible_truncation, reason = "no more rows than clients")]
    writer.write(&(rows as u32).to_le_bytes());
    for row in clients.rows() {
        writer.write(&row.client.to_le_bytes());
        writer.write(&row.last_timestamp.to_le_bytes());
        writer.write(&row.executed.to_le_bytes());
        writer.write_counted(row.result);
    }
    app.snapshot(&mut |chunk| writer.write_counted(chunk));
    writer.finish()
}

/// Builds the state of `chunks`, with a fresh instance `app` of the application and a table of `clients` clients.
///
/// # Errors
/// If they are no snapshot at `sequence`. Whether they are the right one, only the state's digest tells.
pub(super) fn read(
    chunks: &[Bytes],
    sequence: SequenceNumber,
    clients: u32,
    mut app: Box<dyn Application>,
) -> Result<State, SnapshotError> {
    let mut reader = Reader::new(chunks);
    if reader.array() != Some(*MAGIC) {
        return Err(SnapshotError::NotASnapshot);
    }
    let header = || SnapshotError::Truncated("header");
    let found = SequenceNumber(u64::from_le_bytes(reader.array().ok_or_else(header)?));
    if found != sequence {
        return Err(SnapshotError::OtherSequence { found, wanted: sequence });
    }
    let ledger = Ledger::at(sequence, Digest(reader.array().ok_or_else(header)?));
    let clients = read_clients(&mut reader, clients)?;
    let mut cut_off = false;
    let mut pieces = std::iter::from_fn(|| {
        if cut_off || reader.left == 0 {
            return None;
        }
        let piece = reader.counted();
        cut_off = piece.is_none();
        piece
    });
    app.restore(&mut pieces)?;
    if cut_off || reader.left > 0 {
        return Err(SnapshotError::Truncated("application"));
    }
    Ok(State { ledger, clients, app })
}

fn read_clients(reader: &mut Reader<'_>, clients: u32) -> Result<ClientTable, SnapshotError> {
    let cut_off = || SnapshotError::Truncated("client table");
    let found = u32::from_le_bytes(reader.array().ok_or_else(cut_off)?);
    if found != clients {
        return Err(SnapshotError::OtherClients { found, wanted: clients });
    }
    let rows = u32::from_le_bytes(reader.array().ok_or_else(cut_off)?);
    let mut table = ClientTable::new(clients);
    let mut next = 0;
    for _ in 0..rows {
        let client = u32::from_le_bytes(reader.array().ok_or_else(cut_off)?);
        let last_timestamp = u64::from_le_bytes(reader.array().ok_or_else(cut_off)?);
        let executed = u64::from_le_bytes(reader.array().ok_or_else(cut_off)?);
        let result = reader.counted().ok_or_else(cut_off)?;
        if client < next || !table.restore_row(client, last_timestamp, executed, &result) {
            return Err(SnapshotError::BadRow(client));
        }
        next = client + 1; // below `clients`: the row was there
    }
    Ok(table)
}

/// Cuts a stream of bytes into chunks.
struct Writer {
    chunk_bytes: usize,
    chunks: Vec<Bytes>,
    current: Vec<u8>,
}

impl Writer {
    fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.current.capacity() == 0 {
                self.current.reserve_exact(self.chunk_bytes);
            }
            let (now, later) = bytes.split_at(bytes.len().min(self.chunk_bytes - self.current.len()));
            self.current.extend_from_slice(now);
            bytes = later;
            if self.current.len() == self.chunk_bytes {
                self.chunks.push(std::mem::take(&mut self.current).into());
            }
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "results and pieces are far below 4 GiB; asserted")]
    fn write_counted(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= u32::MAX as usize, "a piece of a snapshot is below 4 GiB");
        self.write(&(bytes.len() as u32).to_le_bytes());
        self.write(bytes);
    }

    fn finish(mut self) -> Vec<Bytes> {
        if !self.current.is_empty() {
            self.current.shrink_to_fit();
            self.chunks.push(self.current.into());
        }
        self.chunks
    }
}

/// Reads the stream back. Takes nothing that is not there.
struct Reader<'a> {
    chunks: std::slice::Iter<'a, Bytes>,
    current: &'a [u8],
    /// Bytes that were not taken yet, over all chunks.
    left: usize,
}

impl<'a> Reader<'a> {
    fn new(chunks: &'a [Bytes]) -> Self {
        Self { chunks: chunks.iter(), current: &[], left: chunks.iter().map(Bytes::len).sum() }
    }

    fn fill(&mut self, mut bytes: &mut [u8]) -> Option<()> {
        self.left = self.left.checked_sub(bytes.len())?;
        while !bytes.is_empty() {
            if self.current.is_empty() {
                self.current = self.chunks.next()?;
            }
            let count = bytes.len().min(self.current.len());
            let (now, later) = bytes.split_at_mut(count);
            now.copy_from_slice(&self.current[..count]);
            self.current = &self.current[count..];
            bytes = later;
        }
        Some(())
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Some(bytes)
    }

    /// A piece with its length in front.
    fn counted(&mut self) -> Option<Vec<u8>> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        if length > self.left {
            return None;
        }
        let mut bytes = vec![0; length];
        self.fill(&mut bytes)?;
        Some(bytes)
    }
}
