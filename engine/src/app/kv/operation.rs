//! Operations and outcomes of the key-value store as bytes. Numbers are little-endian.
//!
//! ```text
//! operation:  tag u8 | key u64 | the rest by tag: value (insert, update, read-modify-write), count u16 (scan), nothing
//! (read) outcome:    tag u8 | the rest by tag: value (value), records (records), nothing (done, not found, invalid)
//! record:     key u64 | bytes of the value u32 | value
//! ```

use super::{InvalidOperation, Key, SCAN_RECORDS_MAX, VALUE_BYTES_MAX};

/// Bytes of a record in front of its value: key and length.
pub const RECORD_HEADER_BYTES: usize = 8 + 4;

const READ: u8 = 1;
const INSERT: u8 = 2;
const UPDATE: u8 = 3;
const READ_MODIFY_WRITE: u8 = 4;
const SCAN: u8 = 5;

const DONE: u8 = 1;
const NOT_FOUND: u8 = 2;
const VALUE: u8 = 3;
const RECORDS: u8 = 4;
const INVALID: u8 = 5;

/// Whether an operation is one that changes nothing.
#[must_use]
pub fn is_read(bytes: &[u8]) -> bool {
    matches!(Operation::decode(bytes), Ok(Operation::Read { .. } | Operation::Scan { .. }))
}

/// An operation on the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// The value of `key`: [`Outcome::Value`] or [`Outcome::NotFound`].
    Read {
        /// Which record.
        key: Key,
    },
    /// Writes a record, whether it is there or not: [`Outcome::Done`].
    Insert {
        /// Which record.
        key: Key,
        /// What to write.
        value: &'a [u8],
    },
    /// Writes a record that is there: [`Outcome::Done`] or [`Outcome::NotFound`].
    Update {
        /// Which record.
        key: Key,
        /// What to write.
        value: &'a [u8],
    },
    /// Writes a record that is there and gives the value that it had: [`Outcome::Value`] or [`Outcome::NotFound`].
    ReadModifyWrite {
        /// Which record.
        key: Key,
        /// What to write.
        value: &'a [u8],
    },
    /// Up to `count` records in order of their keys: [`Outcome::Records`], which ends early where it would exceed
    /// [`SCAN_BYTES_MAX`](super::SCAN_BYTES_MAX).
    Scan {
        /// The first key that may be returned.
        start: Key,
        /// Most records to return, at most [`SCAN_RECORDS_MAX`].
        count: u16,
    },
}

impl<'a> Operation<'a> {
    /// Appends the operation's bytes to `bytes`.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        let (tag, key) = match *self {
            Self::Read { key } => (READ, key),
            Self::Insert { key, .. } => (INSERT, key),
            Self::Update { key, .. } => (UPDATE, key),
            Self::ReadModifyWrite { key, .. } => (READ_MODIFY_WRITE, key),
            Self::Scan { start, .. } => (SCAN, start),
        };
        bytes.push(tag);
        bytes.extend_from_slice(&key.to_le_bytes());
        match self {
            Self::Read { .. } => {}
            Self::Insert { value, .. } | Self::Update { value, .. } | Self::ReadModifyWrite { value, .. } => {
                bytes.extend_from_slice(value);
            }
            Self::Scan { count, .. } => bytes.extend_from_slice(&count.to_le_bytes()),
        }
    }

    /// Reads an operation. Accepts exactly what [`encode`](Self::encode) writes, within the limits.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, InvalidOperation> {
        let invalid = |what: &str| InvalidOperation(what.into());
        let (&tag, bytes) = bytes.split_first().ok_or_else(|| invalid("empty"))?;
        let (&key, rest) = bytes.split_first_chunk().ok_or_else(|| invalid("ends within the key"))?;
        let key = Key::from_le_bytes(key);
        let operation = match tag {
            READ if rest.is_empty() => Self::Read { key },
            READ => return Err(invalid("a read has nothing after the key")),
            INSERT => Self::Insert { key, value: rest },
            UPDATE => Self::Update { key, value: rest },
            READ_MODIFY_WRITE => Self::ReadModifyWrite { key, value: rest },
            SCAN => {
                let count = rest.try_into().map_err(|_| invalid("a scan has two bytes of count after the key"))?;
                let count = u16::from_le_bytes(count);
                if count > SCAN_RECORDS_MAX {
                    return Err(InvalidOperation(format!("scan of {count} records: at most {SCAN_RECORDS_MAX}")));
                }
                Self::Scan { start: key, count }
            }
            _ => return Err(InvalidOperation(format!("unknown operation {tag}"))),
        };
        // Only reads and scans got here with a rest that is no value, and theirs is short.
        if rest.len() > VALUE_BYTES_MAX {
            return Err(InvalidOperation(format!("value of {} bytes: at most {VALUE_BYTES_MAX}", rest.len())));
        }
        Ok(operation)
    }
}

/// The result of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// Written.
    Done,
    /// There is no such record; nothing was written.
    NotFound,
    /// The record's value.
    Value(&'a [u8]),
    /// The records of a scan.
    Records(Records<'a>),
    /// The operation is malformed; nothing was done.
    Invalid,
}

impl<'a> Outcome<'a> {
    /// Appends the outcome's bytes to `bytes`.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        let (tag, rest) = match self {
            Self::Done => (DONE, [].as_slice()),
            Self::NotFound => (NOT_FOUND, [].as_slice()),
            Self::Value(value) => (VALUE, *value),
            Self::Records(records) => (RECORDS, records.bytes),
            Self::Invalid => (INVALID, [].as_slice()),
        };
        bytes.push(tag);
        bytes.extend_from_slice(rest);
    }

    /// Reads an outcome; `None` if `bytes` are none.
    #[must_use]
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (&tag, rest) = bytes.split_first()?;
        match tag {
            VALUE => Some(Self::Value(rest)),
            RECORDS => Records::decode(rest).map(Self::Records),
            DONE if rest.is_empty() => Some(Self::Done),
            NOT_FOUND if rest.is_empty() => Some(Self::NotFound),
            INVALID if rest.is_empty() => Some(Self::Invalid),
            _ => None,
        }
    }
}

/// Records of a scan, still as bytes, but known to be whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Records<'a> {
    bytes: &'a [u8],
}

impl<'a> Records<'a> {
    fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        while !rest.is_empty() {
            decode_record(&mut rest, VALUE_BYTES_MAX)?;
        }
        Some(Self { bytes })
    }

    /// The records, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &'a [u8])> + use<'a> {
        let mut rest = self.bytes;
        std::iter::from_fn(move || decode_record(&mut rest, VALUE_BYTES_MAX))
    }
}

/// Appends the outcome of a scan, of at most `bytes_max` bytes: it ends before the record that would exceed them.
pub(super) fn encode_records<'a>(
    records: impl Iterator<Item = (Key, &'a [u8])>,
    bytes_max: usize,
    bytes: &mut Vec<u8>,
) {
    let end = bytes.len() + bytes_max;
    bytes.push(RECORDS);
    for (key, value) in records {
        if bytes.len() + RECORD_HEADER_BYTES + value.len() > end {
            break;
        }
        encode_record(key, value, bytes);
    }
}

/// Appends one record.
pub(super) fn encode_record(key: Key, value: &[u8], bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&key.to_le_bytes());
    #[allow(clippy::cast_possible_truncation, reason = "at most VALUE_BYTES_MAX")]
    bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
    bytes.extend_from_slice(value);
}

/// Takes one record, its value of at most `bytes_max` bytes, from the front of `bytes`; `None` if there is no whole
/// one.
pub(super) fn decode_record<'a>(bytes: &mut &'a [u8], bytes_max: usize) -> Option<(Key, &'a [u8])> {
    let (&key, rest) = bytes.split_first_chunk()?;
    let (&length, rest) = rest.split_first_chunk()?;
    let (value, rest) = rest.split_at_checked(u32::from_le_bytes(length) as usize)?;
    if value.len() > bytes_max {
        return None;
    }
    *bytes = rest;
    Some((Key::from_le_bytes(key), value))
}
