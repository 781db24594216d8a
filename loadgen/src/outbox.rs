//! Requests on their way out, gathered for each connection so that one frame carries many and their authenticators are
//! made side by side.

use bytes::Bytes;
use hippodrome_engine::auth::{Digester, Sealer};
use hippodrome_engine::limits::{OPERATIONS_BYTES_MAX, REQUESTS_MAX};
use hippodrome_engine::requests::{Proofs, RequestTable};
use hippodrome_engine::short;
use hippodrome_engine::types::{ClientId, Digest, Timestamp};
use hippodrome_engine::wire::encode_and_seal;

/// Most requests in one frame: small enough that the primary can begin with the first frame while the next is being
/// made.
const FRAME_REQUESTS_MAX: usize = 512;
const _: () = assert!(FRAME_REQUESTS_MAX <= REQUESTS_MAX);

/// Requests for one connection, in columns.
#[derive(Default)]
pub(crate) struct Outbox {
    clients: Vec<ClientId>,
    timestamps: Vec<Timestamp>,
    operation_ends: Vec<u32>,
    operations: Vec<u8>,
    /// Empty but for its memory.
    digests: Vec<Digest>,
}

impl Outbox {
    /// Whether nothing waits.
    pub(crate) const fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Whether another operation of `bytes` bytes would make the frame too large.
    pub(crate) const fn is_full(&self, bytes: usize) -> bool {
        self.clients.len() >= FRAME_REQUESTS_MAX || self.operations.len() + bytes > OPERATIONS_BYTES_MAX
    }

    /// Adds a request.
    #[inline(always)]
    pub(crate) fn push(&mut self, client: ClientId, timestamp: Timestamp, operation: &[u8]) {
        self.clients.push(client);
        self.timestamps.push(timestamp);
        short::append(operation, &mut self.operations);
        #[allow(clippy::cast_possible_truncation, reason = "bounded by OPERATIONS_BYTES_MAX")]
        self.operation_ends.push(self.operations.len() as u32);
    }

    /// One frame of all that waits, read-only requests or others, with their authenticators; the outbox is empty again.
    pub(crate) fn seal(&mut self, reads: bool, digester: &mut Digester, sealer: &mut Sealer) -> Bytes {
        let (frame, table) = encode_and_seal(self.take(digester), reads, sealer);
        self.reuse(table);
        frame
    }

    /// All that waits, without proofs; nothing is left.
    fn take(&mut self, digester: &mut Digester) -> RequestTable {
        let Self { clients, timestamps, operation_ends, operations, digests } = std::mem::take(self);
        let operations = operations.into();
        let mut table = RequestTable { clients, timestamps, operation_ends, operations, digests, proofs: Proofs::None };
        digester.digest(&mut table);
        table
    }

    /// Gathers in the memory of what was taken.
    fn reuse(&mut self, table: RequestTable) {
        let RequestTable { clients, timestamps, operation_ends, operations, digests, .. } = table;
        *self = Self { clients, timestamps, operation_ends, operations: operations.into(), digests };
        self.clients.clear();
        self.timestamps.clear();
        self.operation_ends.clear();
        self.operations.clear();
        self.digests.clear();
    }
}

#[cfg(test)]
mod tests {
    use hippodrome_engine::auth::{Keyring, NodeKey};
    use hippodrome_engine::settings::{ClusterFile, ClusterSettings};
    use hippodrome_engine::types::NodeId;

    use super::*;

    #[test]
    fn frames_hold_what_was_pushed_since_the_last_in_the_same_memory() {
        let key = |node: NodeId| NodeKey::from_seed([node.0 as u8 + 1; 32]);
        let addresses: Vec<_> = (0..4).map(|id| ([127, 0, 0, 1], 7000 + id).into()).collect();
        let file = ClusterFile::new(ClusterSettings::default(), &addresses, &[9], |node| key(node).public_hex());
        let keyring = Keyring::new(&file.unwrap(), NodeId(4), &key(NodeId(4))).unwrap();
        let (mut sealer, mut digester) = (Sealer::new(keyring), Digester::default());
        let mut seal = |outbox: &mut Outbox| outbox.seal(false, &mut digester, &mut sealer);
        let fill = |outbox: &mut Outbox, timestamp: u64| {
            for client in 0..9 {
                outbox.push(ClientId(client), Timestamp(timestamp), &[timestamp as u8; 20]);
            }
        };
        let mut outbox = Outbox::default();
        fill(&mut outbox, 1);
        let first = seal(&mut outbox);
        assert!(outbox.is_empty());
        let memory = outbox.operations.as_ptr();
        fill(&mut outbox, 2);
        let second = seal(&mut outbox);
        assert_eq!((first.len(), outbox.operations.as_ptr()), (second.len(), memory));
        let mut anew = Outbox::default();
        fill(&mut anew, 2);
        assert_eq!(second, seal(&mut anew));
        assert_ne!(first, second);
    }
}
