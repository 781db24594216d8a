//! A key-value store for YCSB-style mixes: records ordered by key, read, written and scanned.
//!
//! In data-path order: `operation` (operations and outcomes as bytes), this file (the store), `fingerprint` (its
//! incremental digest); [pattern] makes the values of preloaded records.

use std::collections::BTreeMap;

use super::{Application, InvalidOperation};
use crate::types::Digest;

mod fingerprint;
mod operation;
pub mod pattern;
#[cfg(test)]
mod tests;

use fingerprint::Fingerprint;
pub use operation::{Operation, Outcome, RECORD_HEADER_BYTES, Records};

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

/// The store.
#[derive(Default)]
pub struct Kv {
    records: BTreeMap<Key, Vec<u8>>,
    fingerprint: Fingerprint,
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
        assert!(value_bytes <= VALUE_BYTES_MAX, "values have at most {VALUE_BYTES_MAX} bytes");
        let mut kv = Self::new();
        for key in 0..records {
            kv.put(key, &preloaded_value(key, value_bytes));
        }
        kv
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

    /// Writes a record, new or not. A buffer that is there is used again.
    fn put(&mut self, key: Key, value: &[u8]) {
        let stored = self.records.entry(key).or_default();
        stored.clear();
        stored.extend_from_slice(value);
        self.fingerprint.touch(key);
    }

    /// Overwrites a record that is there; `false` if it is not.
    fn overwrite(&mut self, key: Key, value: &[u8]) -> bool {
        let Some(stored) = self.records.get_mut(&key) else { return false };
        stored.clear();
        stored.extend_from_slice(value);
        self.fingerprint.touch(key);
        true
    }

    fn read(&self, key: Key, result: &mut Vec<u8>) {
        self.records.get(&key).map_or(Outcome::NotFound, |value| Outcome::Value(value)).encode(result);
    }

    fn scan(&self, start: Key, count: u16, result: &mut Vec<u8>) {
        let records = self.records.range(start..).take(usize::from(count));
        operation::encode_records(records.map(|(&key, value)| (key, value.as_slice())), SCAN_BYTES_MAX, result);
    }
}

impl Application for Kv {
    fn validate(&self, operation: &[u8]) -> Result<(), InvalidOperation> {
        Operation::decode(operation).map(|_| ())
    }

    fn execute(&mut self, operation: &[u8], result: &mut Vec<u8>) {
        match Operation::decode(operation) {
            Ok(Operation::Read { key }) => self.read(key, result),
            Ok(Operation::Scan { start, count }) => self.scan(start, count, result),
            Ok(Operation::Insert { key, value }) => {
                self.put(key, value);
                Outcome::Done.encode(result);
            }
            Ok(Operation::Update { key, value }) => {
                let outcome = if self.overwrite(key, value) { Outcome::Done } else { Outcome::NotFound };
                outcome.encode(result);
            }
            Ok(Operation::ReadModifyWrite { key, value }) => {
                self.read(key, result);
                self.overwrite(key, value);
            }
            Err(_) => Outcome::Invalid.encode(result),
        }
    }

    fn query(&self, operation: &[u8], result: &mut Vec<u8>) -> bool {
        match Operation::decode(operation) {
            Ok(Operation::Read { key }) => self.read(key, result),
            Ok(Operation::Scan { start, count }) => self.scan(start, count, result),
            _ => return false,
        }
        true
    }

    fn digest(&mut self) -> Digest {
        self.fingerprint.digest(&self.records)
    }

    fn snapshot(&self, chunk: &mut dyn FnMut(&[u8])) {
        let mut bytes = Vec::with_capacity(SNAPSHOT_BYTES + RECORD_HEADER_BYTES + VALUE_BYTES_MAX);
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
        Box::new(Self::new())
    }

    fn restore(&mut self, chunks: &mut dyn Iterator<Item = Vec<u8>>) -> Result<(), InvalidOperation> {
        let invalid = |what: &str| InvalidOperation(format!("snapshot of a key-value store: {what}"));
        let header = chunks.next().unwrap_or_default();
        let count = header.strip_prefix(SNAPSHOT_MAGIC).and_then(|count| count.try_into().ok());
        let count = u64::from_le_bytes(count.ok_or_else(|| invalid("the first chunk is no header"))?);

        let mut restored = Self::new();
        let mut last = None;
        for chunk in chunks {
            let mut rest = chunk.as_slice();
            while !rest.is_empty() {
                let (key, value) = operation::decode_record(&mut rest).ok_or_else(|| invalid("a record is cut off"))?;
                if last.is_some_and(|last| last >= key) {
                    return Err(invalid("records are not in order of their keys"));
                }
                last = Some(key);
                restored.put(key, value);
            }
        }
        if restored.len() as u64 != count {
            return Err(invalid(&format!("{} records of {count}", restored.len())));
        }
        *self = restored;
        Ok(())
    }
}
