//! What the operations in the ledger must give, computed a second time and in the simplest way.

use std::collections::BTreeMap;

use hippodrome_engine::app::kv::{Key, Operation, Outcome, preloaded_value};
use hippodrome_engine::requests::RequestTable;
use hippodrome_engine::types::{ClientId, SequenceNumber, Timestamp};

/// Records that the store starts with.
pub(crate) const RECORDS: u64 = 6;
/// Bytes of each of their values.
pub(crate) const VALUE_BYTES: usize = 20;

/// A store and what was executed on it for whom.
pub(super) struct Oracle {
    records: BTreeMap<Key, Vec<u8>>,
    /// What each record was from which sequence number on.
    history: BTreeMap<Key, BTreeMap<SequenceNumber, Vec<u8>>>,
    clients: BTreeMap<ClientId, Client>,
}

/// What was executed for a client.
#[derive(Clone, Debug, Default)]
pub(super) struct Client {
    pub(super) last: Timestamp,
    pub(super) executed: u64,
}

/// An operation at its place in the ledger.
pub(super) struct Applied {
    pub(super) index: usize,
    pub(super) result: Vec<u8>,
}

impl Oracle {
    pub(super) fn new() -> Self {
        let records: BTreeMap<Key, Vec<u8>> =
            (0..RECORDS).map(|key| (key, preloaded_value(key, VALUE_BYTES))).collect();
        let first = |(key, value): (&Key, &Vec<u8>)| (*key, BTreeMap::from([(SequenceNumber(0), value.clone())]));
        Self { history: records.iter().map(first).collect(), records, clients: BTreeMap::new() }
    }

    /// What a read gives after this sequence number.
    pub(super) fn read_at(&self, sequence: SequenceNumber, operation: &[u8]) -> Vec<u8> {
        let (start, count) = match Operation::decode(operation) {
            Ok(Operation::Read { key }) => (key, 1),
            Ok(Operation::Scan { start, count }) => (start, usize::from(count)),
            _ => return Vec::new(),
        };
        let then = self.history.range(start..).filter_map(|(key, values)| {
            let (_, value) = values.range(..=sequence).next_back()?;
            Some((*key, value.clone()))
        });
        let records = then.take(count).collect();
        Self { records, history: BTreeMap::new(), clients: BTreeMap::new() }.execute(operation)
    }

    /// Applies the requests of a batch, each that is its client's newest, of the first `known` clients.
    pub(super) fn apply(&mut self, sequence: SequenceNumber, table: &RequestTable, known: u32) -> Vec<Applied> {
        let mut applied = Vec::new();
        for index in 0..table.len() {
            let (client, timestamp) = (table.clients[index], table.timestamps[index]);
            if client.0 >= known || timestamp <= self.client(client).last {
                continue;
            }
            let entry = self.clients.entry(client).or_default();
            *entry = Client { last: timestamp, executed: entry.executed + 1 };
            applied.push(Applied { index, result: self.execute(table.operation(index)) });
            self.note(sequence, table.operation(index));
        }
        applied
    }

    /// Notes what an operation has written.
    fn note(&mut self, sequence: SequenceNumber, operation: &[u8]) {
        if let Ok(
            Operation::Insert { key, .. } | Operation::Update { key, .. } | Operation::ReadModifyWrite { key, .. },
        ) = Operation::decode(operation)
            && let Some(value) = self.records.get(&key)
        {
            self.history.entry(key).or_default().insert(sequence, value.clone());
        }
    }

    pub(super) fn client(&self, client: ClientId) -> Client {
        self.clients.get(&client).cloned().unwrap_or_default()
    }

    fn execute(&mut self, operation: &[u8]) -> Vec<u8> {
        let mut result = Vec::new();
        let outcome = match Operation::decode(operation) {
            Err(_) => Outcome::Invalid,
            Ok(Operation::Insert { key, value }) => {
                self.records.insert(key, value.to_vec());
                Outcome::Done
            }
            Ok(Operation::Update { key, value }) => match self.records.get_mut(&key) {
                Some(stored) => {
                    *stored = value.to_vec();
                    Outcome::Done
                }
                None => Outcome::NotFound,
            },
            Ok(Operation::Read { key }) => {
                self.records.get(&key).map_or(Outcome::NotFound, |value| Outcome::Value(value))
            }
            Ok(Operation::ReadModifyWrite { key, value }) => {
                match self.records.get_mut(&key) {
                    Some(stored) => Outcome::Value(&std::mem::replace(stored, value.to_vec())).encode(&mut result),
                    None => Outcome::NotFound.encode(&mut result),
                }
                return result;
            }
            Ok(Operation::Scan { start, count }) => {
                result.push(4); // the tag of records, which are few and short here
                for (key, value) in self.records.range(start..).take(usize::from(count)) {
                    result.extend(key.to_le_bytes());
                    result.extend(u32::try_from(value.len()).unwrap_or(0).to_le_bytes());
                    result.extend(value);
                }
                return result;
            }
        };
        outcome.encode(&mut result);
        result
    }
}
