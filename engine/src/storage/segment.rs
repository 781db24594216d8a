//! One segment of the log as bytes: a head, then entries. Pure: what writes and reads files passes slices.
//!
//! The head, 72 bytes: magic `HIPWAL\0` (7), version (1), the cluster's fingerprint (32), the replica (2), zero (6),
//! the segment's number (8), its salt (8), CRC-32 of these 64 bytes (4), zero (4). An entry: length of its body (4),
//! kind (1), flags (1), zero (2), durable (8), CRC-32 of these 16 bytes (4), CRC-32 of the body (4), body.
//!
//! Both sums start from the salt (drawn for each segment) and the entry's own offset, so that bytes which lie
//! elsewhere, or which a client put into an operation, do not pass for an entry. **Durable** is the offset up to which
//! the segment was known to be durable when the entry was written. That tells what may be lost from what may not: bytes
//! that were being written when the power failed may be missing in any order, since one group commit is one write; but
//! if an entry says that the bad spot before it was durable, then what was there has been damaged since, votes are
//! forgotten, and nobody may go on as if they were not.

use bytes::Bytes;

use crate::auth::Digester;
use crate::limits::LOG_ENTRY_BYTES_MAX;
use crate::protocol::Record;
use crate::storage::Identity;
use crate::storage::record::{self, Kind, RecordError, sequence_of};
use crate::types::{ReplicaId, SequenceNumber};

/// Bytes of a segment's head.
pub const HEAD_BYTES: usize = 72;
/// Bytes of an entry in front of its body.
pub const ENTRY_HEAD_BYTES: usize = 24;
/// The layout's version. A log of another one is refused.
pub const VERSION: u8 = 2;
const MAGIC: [u8; 7] = *b"HIPWAL\0";
/// Flag: repeated from an earlier segment, so that that one can be deleted.
const CARRIED: u8 = 1;

/// What a segment's head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whose log it is.
    pub identity: Identity,
    /// The segment's number, from 1.
    pub number: u64,
    /// Where its sums start.
    pub salt: u64,
}

/// Why a segment's head is not one, in words.
pub type BadHead = String;

impl Head {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..7].copy_from_slice(&MAGIC);
        bytes[7] = VERSION;
        bytes[8..40].copy_from_slice(&self.identity.fingerprint);
        bytes[40..42].copy_from_slice(&self.identity.replica.0.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.number.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.salt.to_le_bytes());
        let sum = crc32fast::hash(&bytes[..64]);
        bytes[64..68].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The head that `bytes` begin with.
    ///
    /// # Errors
    /// What is wrong with it. Whose log it is, is not looked at.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadHead> {
        let Some(head) = bytes.first_chunk::<HEAD_BYTES>() else {
            return Err(format!("{} bytes, a segment has at least {HEAD_BYTES}", bytes.len()));
        };
        let stored = u32::from_le_bytes(array(head, 64));
        if head[..7] != MAGIC {
            return Err("it does not begin as a segment of a log does".into());
        }
        if stored != crc32fast::hash(&head[..64]) || head[42..48] != [0; 6] || head[68..] != [0; 4] {
            return Err("its head is damaged".into());
        }
        if head[7] != VERSION {
            return Err(format!("version {}: allowed: {VERSION}", head[7]));
        }
        let identity =
            Identity { fingerprint: array(head, 8), replica: ReplicaId(u16::from_le_bytes(array(head, 40))) };
        Ok(Self { identity, number: u64::from_le_bytes(array(head, 48)), salt: u64::from_le_bytes(array(head, 56)) })
    }
}

/// Builds a segment's bytes, group by group.
#[derive(Debug)]
pub struct Builder {
    salt: u64,
    /// Where what is pending begins.
    offset: u64,
    /// Up to where the segment is durable.
    durable: u64,
    pending: Vec<u8>,
    highest: SequenceNumber,
}

impl Builder {
    /// A segment whose head is durable already.
    #[must_use]
    pub const fn new(head: &Head) -> Self {
        let start = HEAD_BYTES as u64;
        Self { salt: head.salt, offset: start, durable: start, pending: Vec::new(), highest: SequenceNumber(0) }
    }

    /// Appends an entry to what is pending. `carried`: it repeats one of an earlier segment.
    ///
    /// # Panics
    /// If the record is larger than any can be.
    pub fn append(&mut self, record: &Record, carried: bool) {
        let at = self.pending.len();
        self.pending.resize(at + ENTRY_HEAD_BYTES, 0);
        record::encode(record, &mut self.pending);
        let length = self.pending.len() - at - ENTRY_HEAD_BYTES;
        assert!(length <= LOG_ENTRY_BYTES_MAX, "a record of {length} bytes: at most {LOG_ENTRY_BYTES_MAX} are allowed");
        let offset = self.offset + at as u64;
        let (head, body) = self.pending[at..].split_at_mut(ENTRY_HEAD_BYTES);
        #[allow(clippy::cast_possible_truncation, reason = "checked above")]
        head[..4].copy_from_slice(&(length as u32).to_le_bytes());
        head[4] = Kind::of(record).byte();
        head[5] = if carried { CARRIED } else { 0 };
        head[8..16].copy_from_slice(&self.durable.to_le_bytes());
        let sum = head_sum(self.salt, offset, &array(head, 0));
        head[16..20].copy_from_slice(&sum.to_le_bytes());
        head[20..].copy_from_slice(&body_sum(sum, body).to_le_bytes());
        self.highest = self.highest.max(sequence_of(record).unwrap_or_default());
    }

    /// What is to be written next, and where.
    #[must_use]
    pub const fn pending(&mut self) -> (u64, &mut Vec<u8>) {
        (self.offset, &mut self.pending)
    }

    /// What was pending is written, and durable if `synced`. `bytes` is how much it was.
    pub fn written(&mut self, bytes: usize, synced: bool) {
        self.pending.clear();
        self.offset += bytes as u64;
        if synced {
            self.durable = self.offset;
        }
    }

    /// Whether something written is not durable, or something is not even written.
    #[must_use]
    pub const fn is_behind(&self) -> bool {
        self.durable < self.len()
    }

    /// Bytes of the segment, pending ones included.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.offset + self.pending.len() as u64
    }

    /// Whether there is nothing but the head.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == HEAD_BYTES as u64
    }

    /// The highest sequence number that an entry is about, 0 if none is about one.
    #[must_use]
    pub const fn highest(&self) -> SequenceNumber {
        self.highest
    }
}

/// An entry that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it says.
    pub record: Record,
    /// Whether it repeats one of an earlier segment.
    pub carried: bool,
}

/// Where the entries of a segment end, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With the bytes.
    Clean,
    /// What follows was being written when writing ended: nothing after it says that it was durable.
    Torn {
        /// Where the last good entry ends.
        offset: u64,
        /// What is wrong there, in words.
        why: String,
    },
    /// What follows was durable once and is damaged.
    Damaged {
        /// Where the last good entry ends.
        offset: u64,
        /// What is wrong there, in words.
        why: String,
    },
}

/// Reads the entries of a segment up to the first that is bad. Operations of 64 KiB and more are slices of
/// `bytes`.
#[must_use]
pub fn scan(head: &Head, bytes: &Bytes, digester: &mut Digester) -> (Vec<Entry>, End) {
    let mut entries = Vec::new();
    let mut at = HEAD_BYTES.min(bytes.len());
    loop {
        if at == bytes.len() {
            return (entries, End::Clean);
        }
        let offset = at as u64;
        let why = match read_entry(head.salt, bytes, at, digester) {
            Ok((entry, next)) => {
                entries.push(entry);
                at = next;
                continue;
            }
            // The sums are right, so these very bytes were written: by another version, or by an error of ours.
            Err(Bad::Content(kind, error)) => {
                return (entries, End::Damaged { offset, why: format!("a {kind} record: {error}") });
            }
            Err(Bad::Sum(why)) => why,
        };
        let end = match witness(head.salt, bytes, at) {
            Some(later) => End::Damaged {
                offset,
                why: format!("{why}, and the entry at {later} says that these bytes were durable"),
            },
            None => End::Torn { offset, why: why.into() },
        };
        return (entries, end);
    }
}

enum Bad {
    Sum(&'static str),
    Content(Kind, RecordError),
}

fn read_entry(salt: u64, bytes: &Bytes, at: usize, digester: &mut Digester) -> Result<(Entry, usize), Bad> {
    let rest = &bytes[at..];
    if rest.len() < ENTRY_HEAD_BYTES {
        return Err(Bad::Sum("an entry's head is cut off"));
    }
    let head = EntryHead::read(salt, rest, at as u64).ok_or(Bad::Sum("an entry's head is damaged"))?;
    let start = at + ENTRY_HEAD_BYTES;
    if head.length > bytes.len() - start {
        return Err(Bad::Sum("an entry is cut off"));
    }
    let body = bytes.slice(start..start + head.length);
    if body_sum(head.sum, &body) != head.body_sum {
        return Err(Bad::Sum("an entry is damaged"));
    }
    let record = record::decode(head.kind, body, digester).map_err(|error| Bad::Content(head.kind, error))?;
    Ok((Entry { record, carried: head.carried }, start + head.length))
}

/// The first entry after the bad spot at `bad` that says that it was durable.
fn witness(salt: u64, bytes: &[u8], bad: usize) -> Option<usize> {
    let last = bytes.len().checked_sub(ENTRY_HEAD_BYTES)?;
    (bad + 1..=last)
        .find(|&at| EntryHead::read(salt, &bytes[at..], at as u64).is_some_and(|head| head.durable > bad as u64))
}

struct EntryHead {
    length: usize,
    kind: Kind,
    carried: bool,
    durable: u64,
    sum: u32,
    body_sum: u32,
}

impl EntryHead {
    /// The head that `bytes` begin with, if it is one of an entry at `offset`.
    fn read(salt: u64, bytes: &[u8], offset: u64) -> Option<Self> {
        let head: &[u8; ENTRY_HEAD_BYTES] = bytes.first_chunk()?;
        let kind = Kind::from_byte(head[4])?;
        let length = u32::from_le_bytes(array(head, 0)) as usize;
        let durable = u64::from_le_bytes(array(head, 8));
        // Cheap ones first: every offset of a bad stretch is tried.
        if head[5] & !CARRIED != 0 || head[6..8] != [0; 2] || length > LOG_ENTRY_BYTES_MAX || durable > offset {
            return None;
        }
        let sum = head_sum(salt, offset, &array(head, 0));
        (sum == u32::from_le_bytes(array(head, 16))).then(|| Self {
            length,
            kind,
            carried: head[5] & CARRIED != 0,
            durable,
            sum,
            body_sum: u32::from_le_bytes(array(head, 20)),
        })
    }
}

fn head_sum(salt: u64, offset: u64, head: &[u8; 16]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&offset.to_le_bytes());
    hasher.update(head);
    hasher.finalize()
}

fn body_sum(head_sum: u32, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(head_sum);
    hasher.update(body);
    hasher.finalize()
}

/// `N` bytes from `at` on.
///
/// # Panics
/// If there are not so many.
pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}
