//! A key-value store for YCSB-style mixes: records ordered by key, read, written and scanned.
//!
//! In data-path order: `operation` (operations and outcomes as bytes), this file (the store), `fingerprint` (its
//! incremental digest); [pattern] makes the values of preloaded records.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::{Application, InvalidOperation};
use crate::types::Digest;

mod fingerprint;
mod operation;
pub mod pattern;
#[cfg(test)]
mod tests;

use fingerprint::Fingerprint;
pub use operation::{Operation, Outcome, RECORD_HEADER_BYTES, Records, is_read};

/// A record's key. Records are dense from 0 when the store is preloaded; any other key may be inserted.
pub type Key = u64;

/// Records that a cluster starts with unless it says otherwise.
pub const RECORDS: u64 = 10_000;
/// Bytes of each of their values unless the cluster says otherwise.
pub const VALUE_BYTES: usize = 100;
/// Fewest bytes of a value that a workload can check: it names its key, its writer and the writer's operation.
pub const VALUE_BYTES_MIN: usize = 8 + 4 + 8;
/// Most bytes of one value.
pub const VALUE_BYTES_MAX: usize = 16 << 10;
/// Most records that one scan returns.
pub const SCAN_RECORDS_MAX: u16 = 1000;
/// Most bytes of a scan's result: it ends before the record that would exceed this.
pub const SCAN_BYTES_MAX: usize = 256 << 10;

/// A chunk of a snapshot ends with the record that reaches so many bytes: short enough to stay in the cache on its way.
const SNAPSHOT_BYTES: usize = 64 << 10;
/// What a snapshot's first chunk begins with; the number of records follows.
const SNAPSHOT_MAGIC: &[u8; 8] = b"hippo-kv";

const _: () = {
    assert!(VALUE_BYTES_MAX + RECORD_HEADER_BYTES < SCAN_BYTES_MAX);
    assert!(SCAN_BYTES_MAX <= crate::limits::RESULT_BYTES_MAX);
    assert!(VALUE_BYTES_MAX + 16 <= crate::limits::OPERATION_BYTES_MAX);
};

/// The value that a preloaded store holds for `key`: the [pattern] of the key, so that clients can check what they
/// read.
#[must_use]
pub fn preloaded_value(key: Key, value_bytes: usize) -> Vec<u8> {
    let mut value = vec![0; value_bytes];
    pattern::fill(key, &mut value);
    value
}

/// Bytes of a record's version.
const VERSION_BYTES: usize = 8;
/// Stands before what was stored, in what is noted of a write: an empty value is not the same as none.
const STORED: u8 = 1;

/// The store.
#[derive(Default)]
pub struct Kv {
    /// The records. Where they have versions, the version (a number, little endian) follows the value.
    records: BTreeMap<Key, Vec<u8>>,
    fingerprint: Fingerprint,
    /// Whether they do: for stores that answer read-only requests.
    versioned: bool,
    /// Writes so far; the version of a record is what this was after its last one. Not counted without versions.
    writes: u64,
}

impl Kv {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A store that holds [`preloaded_value`]s of `value_bytes` under the keys 0 to `records` − 1.
    ///
    /// # Panics
    /// If `value_bytes` is more than [`VALUE_BYTES_MAX`].
    #[must_use]
    pub fn with_records(records: u64, value_bytes: usize) -> Self {
        Self::new().preloaded(records, value_bytes)
    }

    /// This store, empty so far, with those records.
    ///
    /// # Panics
    /// If `value_bytes` is more than [`VALUE_BYTES_MAX`].
    #[must_use]
    pub fn preloaded(mut self, records: u64, value_bytes: usize) -> Self {
        assert!(value_bytes <= VALUE_BYTES_MAX, "values have at most {VALUE_BYTES_MAX} bytes");
        for key in 0..records {
            self.put(key, &preloaded_value(key, value_bytes));
        }
        self
    }

    /// This store, empty so far, with versions beside its values: queries need them, and they cost 8 bytes a record.
    /// Part of the state, so all replicas have them or none.
    #[must_use]
    pub fn versioned(self) -> Self {
        Self { versioned: true, ..self }
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Executes an operation; `note` is told of the record that it writes, what is stored there before that. An
    /// operation writes one record or none.
    fn run(&mut self, operation: &[u8], result: &mut Vec<u8>, note: impl FnOnce(Key, Option<&[u8]>)) {
        match Operation::decode(operation) {
            Ok(Operation::Read { key }) => {
                self.read(key, result);
            }
            Ok(Operation::Scan { start, count }) => {
                self.scan(start, count, result);
            }
            Ok(Operation::Insert { key, value }) => {
                self.put_noting(key, value, note);
                Outcome::Done.encode(result);
            }
            Ok(Operation::Update { key, value }) => {
                let outcome = if self.overwrite(key, value, note) { Outcome::Done } else { Outcome::NotFound };
                outcome.encode(result);
            }
            Ok(Operation::ReadModifyWrite { key, value }) => {
                self.read(key, result);
                self.overwrite(key, value, note);
            }
            Err(_) => Outcome::Invalid.encode(result),
        }
    }

    /// Writes a record, new or not. A buffer that is there is used again.
    fn put(&mut self, key: Key, value: &[u8]) {
        self.put_noting(key, value, |_, _| {});
    }

    fn put_noting(&mut self, key: Key, value: &[u8], note: impl FnOnce(Key, Option<&[u8]>)) {
        let stored = match self.records.entry(key) {
            Entry::Occupied(stored) => {
                note(key, Some(stored.get().as_slice()));
                stored.into_mut()
            }
            Entry::Vacant(place) => {
                note(key, None);
                place.insert(Vec::new())
            }
        };
        stored.clear();
        stored.extend_from_slice(value);
        if self.versioned {
            self.writes = self.writes.wrapping_add(1);
            stored.extend_from_slice(&self.writes.to_le_bytes());
        }
        self.fingerprint.touch(key);
    }

    /// Overwrites a record that is there; `false` if it is not.
    fn overwrite(&mut self, key: Key, value: &[u8], note: impl FnOnce(Key, Option<&[u8]>)) -> bool {
        let Some(stored) = self.records.get_mut(&key) else { return false };
        note(key, Some(stored.as_slice()));
        stored.clear();
        stored.extend_from_slice(value);
        if self.versioned {
            self.writes = self.writes.wrapping_add(1);
            stored.extend_from_slice(&self.writes.to_le_bytes());
        }
        self.fingerprint.touch(key);
        true
    }

    /// Bytes that follow each value.
    const fn version_bytes(&self) -> usize {
        if self.versioned { VERSION_BYTES } else { 0 }
    }

    /// Takes over a record as another store keeps it; `None` if it is too short for that.
    fn put_stored(&mut self, key: Key, stored: &[u8]) -> Option<()> {
        if self.versioned {
            let (_, version) = stored.split_last_chunk::<VERSION_BYTES>()?;
            // The last write's record has not been written since, so the highest version is their number.
            self.writes = self.writes.max(u64::from_le_bytes(*version));
        }
        self.records.insert(key, stored.to_vec());
        self.fingerprint.touch(key);
        Some(())
    }

    /// A stored record's value and version, 0 if it has none.
    fn parts<'a>(&self, stored: &'a [u8]) -> (&'a [u8], u64) {
        match stored.split_last_chunk::<VERSION_BYTES>() {
            Some((value, version)) if self.versioned => (value, u64::from_le_bytes(*version)),
            _ => (stored, 0),
        }
    }

    /// Returns the record's version; that of a record that is not there is 0. None is ever removed for good.
    fn read(&self, key: Key, result: &mut Vec<u8>) -> u64 {
        let (outcome, version) = self.records.get(&key).map_or((Outcome::NotFound, 0), |stored| {
            let (value, version) = self.parts(stored);
            (Outcome::Value(value), version)
        });
        outcome.encode(result);
        version
    }

    /// Returns the highest version of the records, which rises with every write to any of them and with every one that
    /// comes to be among them.
    fn scan(&self, start: Key, count: u16, result: &mut Vec<u8>) -> u64 {
        let mut newest = 0;
        let records = self.records.range(start..).take(usize::from(count)).map(|(&key, stored)| {
            let (value, version) = self.parts(stored);
            newest = version.max(newest);
            (key, value)
        });
        operation::encode_records(records, SCAN_BYTES_MAX, result);
        newest
    }
}

impl Application for Kv {
    fn validate(&self, operation: &[u8]) -> Result<(), InvalidOperation> {
        Operation::decode(operation).map(|_| ())
    }

    fn execute(&mut self, operation: &[u8], result: &mut Vec<u8>) {
        self.run(operation, result, |_, _| {});
    }

    /// A record: the key, and what was stored there, or nothing if there was no such key.
    fn execute_undoably(&mut self, operation: &[u8], result: &mut Vec<u8>, record: &mut Vec<u8>) {
        self.run(operation, result, |key, stored| {
            record.extend_from_slice(&key.to_le_bytes());
            if let Some(stored) = stored {
                record.push(STORED);
                record.extend_from_slice(stored);
            }
        });
    }

    fn undo(&mut self, record: &[u8]) {
        let Some((key, before)) = record.split_first_chunk() else { return };
        let key = Key::from_le_bytes(*key);
        match before.split_first() {
            Some((_, before)) => {
                let stored = self.records.get_mut(&key).expect("what was overwritten is there");
                stored.clear();
                stored.extend_from_slice(before);
            }
            None => drop(self.records.remove(&key)),
        }
        if self.versioned {
            self.writes = self.writes.wrapping_sub(1);
        }
        self.fingerprint.touch(key);
    }

    fn query(&self, operation: &[u8], result: &mut Vec<u8>) -> Option<u64> {
        match Operation::decode(operation) {
            Ok(Operation::Read { key }) => Some(self.read(key, result)),
            Ok(Operation::Scan { start, count }) => Some(self.scan(start, count, result)),
            _ => None,
        }
    }

    fn digest(&mut self) -> Digest {
        self.fingerprint.digest(&self.records)
    }

    fn snapshot(&self, chunk: &mut dyn FnMut(&[u8])) {
        let mut bytes = Vec::with_capacity(SNAPSHOT_BYTES + RECORD_HEADER_BYTES + VALUE_BYTES_MAX + VERSION_BYTES);
        bytes.extend_from_slice(SNAPSHOT_MAGIC);
        bytes.extend_from_slice(&(self.records.len() as u64).to_le_bytes());
        chunk(&bytes);
        bytes.clear();
        for (&key, value) in &self.records {
            operation::encode_record(key, value, &mut bytes);
            if bytes.len() >= SNAPSHOT_BYTES {
                chunk(&bytes);
                bytes.clear();
            }
        }
        if !bytes.is_empty() {
            chunk(&bytes);
        }
    }

    fn fresh(&self) -> Box<dyn Application> {
        Box::new(Self { versioned: self.versioned, ..Self::new() })
    }

    fn restore(&mut self, chunks: &mut dyn Iterator<Item = Vec<u8>>) -> Result<(), InvalidOperation> {
        let invalid = |what: &str| InvalidOperation(format!("snapshot of a key-value store: {what}"));
        let header = chunks.next().unwrap_or_default();
        let count = header.strip_prefix(SNAPSHOT_MAGIC).and_then(|count| count.try_into().ok());
        let count = u64::from_le_bytes(count.ok_or_else(|| invalid("the first chunk is no header"))?);

        let mut restored = Self { versioned: self.versioned, ..Self::new() };
        let mut last = None;
        for chunk in chunks {
            let mut rest = chunk.as_slice();
            while !rest.is_empty() {
                let record = operation::decode_record(&mut rest, VALUE_BYTES_MAX + restored.version_bytes());
                let (key, stored) = record.ok_or_else(|| invalid("a record is cut off"))?;
                if last.is_some_and(|last| last >= key) {
                    return Err(invalid("records are not in order of their keys"));
                }
                last = Some(key);
                restored.put_stored(key, stored).ok_or_else(|| invalid("a record without a version"))?;
            }
        }
        if restored.len() as u64 != count {
            return Err(invalid(&format!("{} records of {count}", restored.len())));
        }
        *self = restored;
        Ok(())
    }
}
