//! Requests on their way out, gathered for each connection so that one frame carries many and their authenticators are
//! made side by side.

use bytes::Bytes;
use hippodrome_engine::auth::{Digester, Sealer};
use hippodrome_engine::limits::{OPERATIONS_BYTES_MAX, REQUESTS_MAX};
use hippodrome_engine::requests::{Proofs, RequestTable};
use hippodrome_engine::types::{ClientId, NodeId, Timestamp};
use hippodrome_engine::wire::{encode_reads, encode_requests};

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
    pub(crate) fn push(&mut self, client: ClientId, timestamp: Timestamp, operation: &[u8]) {
        self.clients.push(client);
        self.timestamps.push(timestamp);
        self.operations.extend_from_slice(operation);
        #[allow(clippy::cast_possible_truncation, reason = "bounded by OPERATIONS_BYTES_MAX")]
        self.operation_ends.push(self.operations.len() as u32);
    }

    /// One frame of all that waits, with its authenticators; the outbox is empty again.
    pub(crate) fn seal(&mut self, own: NodeId, digester: &mut Digester, sealer: &mut Sealer) -> Bytes {
        let mut table = self.take(digester);
        table.proofs = sealer.seal_requests(&table);
        encode_requests(&table, own)
    }

    /// The same, of read-only requests.
    pub(crate) fn seal_reads(&mut self, own: NodeId, digester: &mut Digester, sealer: &mut Sealer) -> Bytes {
        let mut table = self.take(digester);
        table.proofs = sealer.seal_reads(&table);
        encode_reads(&table, own)
    }

    /// All that waits, without proofs; the outbox is empty again.
    fn take(&mut self, digester: &mut Digester) -> RequestTable {
        let capacity = self.clients.len();
        let mut table = RequestTable {
            clients: std::mem::replace(&mut self.clients, Vec::with_capacity(capacity)),
            timestamps: std::mem::replace(&mut self.timestamps, Vec::with_capacity(capacity)),
            operation_ends: std::mem::replace(&mut self.operation_ends, Vec::with_capacity(capacity)),
            operations: std::mem::take(&mut self.operations).into(),
            digests: Vec::new(),
            proofs: Proofs::None,
        };
        digester.digest(&mut table);
        table
    }
}
