//! The unit that travels: a table of requests in columns, made once when a frame is parsed and carried by reference
//! from verify to egress. No stage handles a request as an object of its own, so digests and tags are computed side by
//! side.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::limits::{GROUPS_MAX, OPERATIONS_BYTES_MAX, READ_CHUNK_BYTES, REQUESTS_MAX};
use crate::types::{ClientId, Digest, Timestamp};

mod groups;

use groups::GroupsBuilder;
pub use groups::{Group, Groups};

/// A table keeps at most so many times its own size of the chunk that it was read in.
const CHUNK_SHARE: usize = 4;

/// What proves of each request that its client sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proofs {
    /// The crypto-free baseline.
    None,
    /// Authenticators, column by column: `columns` × len tags, of as many bytes as the strategy says. From a client there
    /// is one column for each replica, in order of their ids; a pre-prepare carries its receiver's column alone.
    Tags {
        /// How many columns there are: n, or 1.
        columns: u16,
        /// Column-major tags.
        bytes: Bytes,
    },
    /// One signature a request, of as many bytes as the strategy says.
    Signatures(Bytes),
    /// Tags or signatures, each for a group of requests.
    Groups(Groups),
}

impl Proofs {
    /// Bytes of one proof of a table of `requests`, 0 where there are none.
    ///
    /// # Panics
    /// If these are not proofs of as many requests: that would be our own error, since decoding checks it.
    #[must_use]
    pub const fn bytes_each(&self, requests: usize) -> usize {
        let (bytes, proofs) = match self {
            Self::None => return 0,
            Self::Tags { columns, bytes } => (bytes.len(), *columns as usize * requests),
            Self::Signatures(bytes) => (bytes.len(), requests),
            Self::Groups(groups) => {
                assert!(groups.requests() == requests, "groups of as many requests as there are");
                let columns = if groups.columns() == 0 { 1 } else { groups.columns() as usize };
                (groups.proofs().len(), columns * groups.len())
            }
        };
        match bytes.checked_div(proofs) {
            None => 0,
            Some(each) => {
                assert!(each * proofs == bytes, "proofs of one length, as many as there are requests");
                each
            }
        }
    }

    /// Columns of tags; 0 where there are signatures, or nothing is proven.
    #[must_use]
    pub const fn columns(&self) -> u16 {
        match self {
            Self::None | Self::Signatures(_) => 0,
            Self::Tags { columns, .. } => *columns,
            Self::Groups(groups) => groups.columns(),
        }
    }

    /// Where a slice of at most `checks` checks ends that begins at request `start` of `requests`, and how many checks it
    /// takes. What shares a proof is in one slice if `start` is where another one ended, or 0.
    #[must_use]
    pub fn slice(&self, start: usize, requests: usize, checks: usize) -> (usize, usize) {
        let Self::Groups(groups) = self else {
            let checks = checks.min(requests - start);
            return (start + checks, checks);
        };
        let within = groups.within(&(start..requests));
        let taken = checks.min(within.len());
        let end = if taken == 0 { start } else { groups.range(within.start + taken - 1).end };
        (end, taken)
    }

    /// Bytes that these keep in memory.
    const fn bytes(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Tags { bytes, .. } | Self::Signatures(bytes) => bytes.len(),
            Self::Groups(groups) => groups.bytes(),
        }
    }

    /// These in memory of their own.
    fn unchunked(self) -> Self {
        match self {
            Self::None => Self::None,
            Self::Tags { columns, bytes } => Self::Tags { columns, bytes: Bytes::copy_from_slice(&bytes) },
            Self::Signatures(bytes) => Self::Signatures(Bytes::copy_from_slice(&bytes)),
            Self::Groups(groups) => {
                let (columns, proofs) = (groups.columns(), Bytes::copy_from_slice(groups.proofs()));
                Self::Groups(groups.with_proofs(columns, proofs))
            }
        }
    }
}

/// Requests in columns; all columns have the same length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTable {
    /// Who asked.
    pub clients: Vec<ClientId>,
    /// Each client's own counter.
    pub timestamps: Vec<Timestamp>,
    /// Where each operation ends in `operations` (it starts where the one before ends).
    pub operation_ends: Vec<u32>,
    /// The operations, one after the other.
    pub operations: Bytes,
    /// Each request's digest (see `auth::digest_requests`). Empty until computed; never taken from the wire.
    pub digests: Vec<Digest>,
    /// The clients' authenticators.
    pub proofs: Proofs,
}

impl RequestTable {
    /// A table without requests.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            clients: Vec::new(),
            timestamps: Vec::new(),
            operation_ends: Vec::new(),
            operations: Bytes::new(),
            digests: Vec::new(),
            proofs: Proofs::None,
        }
    }

    /// How many requests there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// The operation of request `index`.
    ///
    /// # Panics
    /// If `index` is out of range.
    #[must_use]
    pub fn operation(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.operation_ends[index - 1] as usize };
        &self.operations[start..self.operation_ends[index] as usize]
    }

    /// Roughly the bytes that this table keeps in memory.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.len() * 64 + self.operations.len() + self.proofs.bytes()
    }

    /// This table in memory of its own, if it is so small that it would keep more of a transport's chunk than it needs.
    #[must_use]
    pub fn unchunked(mut self: Arc<Self>) -> Arc<Self> {
        if self.bytes() * CHUNK_SHARE >= READ_CHUNK_BYTES {
            return self;
        }
        let table = Arc::make_mut(&mut self);
        table.operations = Bytes::copy_from_slice(&table.operations);
        table.proofs = std::mem::replace(&mut table.proofs, Proofs::None).unchunked();
        self
    }

    /// The requests at `indices`, in that order, with their digests and proofs. In ascending order they are of no more
    /// groups than these are; in an order that takes more than a table may have they are left without proofs.
    #[must_use]
    pub fn select(&self, indices: &[usize]) -> Self {
        let mut builder = TableBuilder::default();
        let mut requests = builder.taking_from(self);
        for &index in indices {
            requests.push(index);
        }
        builder.finish()
    }
}

/// Gathers requests from several tables into one.
#[derive(Debug, Default)]
pub struct TableBuilder {
    clients: Vec<ClientId>,
    timestamps: Vec<Timestamp>,
    operation_ends: Vec<u32>,
    operations: Vec<u8>,
    digests: Vec<Digest>,
    tags: Vec<Vec<u8>>,
    signatures: Vec<u8>,
    groups: GroupsBuilder,
    /// Of one proof of the table that was pushed last.
    proof_bytes: usize,
}

impl TableBuilder {
    /// How many requests were pushed.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether none was pushed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Bytes of operations pushed.
    #[must_use]
    pub const fn operation_bytes(&self) -> usize {
        self.operations.len()
    }

    /// Whether request `index` of `table` still fits within the limits of a table.
    #[must_use]
    pub fn has_room_for(&self, table: &RequestTable, index: usize) -> bool {
        let bytes = self.operation_bytes() + table.operation(index).len();
        self.len() < REQUESTS_MAX && bytes <= OPERATIONS_BYTES_MAX && self.groups.len() < GROUPS_MAX
    }

    /// Appends request `index` of `table`. All tables pushed into one builder must carry the same kind of proofs.
    ///
    /// # Panics
    /// If `index` is out of range or the kinds of proofs differ: that would be our own error, not a peer's.
    pub fn push(&mut self, table: &RequestTable, index: usize) {
        self.taking_from(table).push(index);
    }

    /// To append requests of one table, which costs less than one by one where they share proofs.
    pub const fn taking_from<'a>(&'a mut self, table: &'a RequestTable) -> Taking<'a> {
        Taking { builder: self, table, group: 0..0, at: 0 }
    }

    /// Appends request `index` of `table` without its proof. Then none in this builder may have one.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn push_unproven(&mut self, table: &RequestTable, index: usize) {
        self.clients.push(table.clients[index]);
        self.timestamps.push(table.timestamps[index]);
        self.operations.extend_from_slice(table.operation(index));
        #[allow(clippy::cast_possible_truncation, reason = "tables are bounded by OPERATIONS_BYTES_MAX")]
        self.operation_ends.push(self.operations.len() as u32);
        self.digests.push(table.digests[index]);
    }

    /// The table of what was pushed; the builder is empty again.
    ///
    /// # Panics
    /// If tables with different kinds of proofs were mixed.
    #[must_use]
    pub fn finish(&mut self) -> RequestTable {
        let built = std::mem::take(self);
        let len = built.clients.len();
        let proofs = if built.groups.len() > 0 {
            let groups = built.groups.finish();
            assert!(groups.as_ref().is_none_or(|groups| groups.requests() == len), "mixed proofs in one table");
            groups.map_or(Proofs::None, Proofs::Groups)
        } else if !built.tags.is_empty() {
            let bytes = built.tags.concat();
            assert_eq!(bytes.len(), built.tags.len() * len * built.proof_bytes, "mixed proofs in one table");
            #[allow(clippy::cast_possible_truncation, reason = "at most REPLICAS_MAX columns")]
            Proofs::Tags { columns: built.tags.len() as u16, bytes: bytes.into() }
        } else if !built.signatures.is_empty() {
            assert_eq!(built.signatures.len(), len * built.proof_bytes, "mixed proofs in one table");
            Proofs::Signatures(built.signatures.into())
        } else {
            Proofs::None
        };
        RequestTable {
            clients: built.clients,
            timestamps: built.timestamps,
            operation_ends: built.operation_ends,
            operations: built.operations.into(),
            digests: built.digests,
            proofs,
        }
    }
}

/// Appends requests of one table to those in a builder.
#[derive(Debug)]
pub struct Taking<'a> {
    builder: &'a mut TableBuilder,
    table: &'a RequestTable,
    /// Which requests of the table are of the group that the builder's last one is of, and which group that is.
    group: Range<usize>,
    at: usize,
}

impl Taking<'_> {
    /// What it is all gathered in.
    #[must_use]
    pub const fn builder(&self) -> &TableBuilder {
        self.builder
    }

    /// Appends request `index`.
    ///
    /// # Panics
    /// As [`TableBuilder::push`] does.
    pub fn push(&mut self, index: usize) {
        let Self { builder, table, .. } = self;
        builder.clients.push(table.clients[index]);
        builder.timestamps.push(table.timestamps[index]);
        builder.operations.extend_from_slice(table.operation(index));
        #[allow(clippy::cast_possible_truncation, reason = "tables are bounded by OPERATIONS_BYTES_MAX")]
        builder.operation_ends.push(builder.operations.len() as u32);
        if let Some(digest) = table.digests.get(index) {
            builder.digests.push(*digest);
        }
        if let Proofs::Groups(groups) = &table.proofs {
            let same = self.group.contains(&index);
            if !same {
                self.at = groups.of(index);
                self.group = groups.range(self.at);
            }
            builder.groups.push(groups, &table.digests, (index, self.at), same);
            return;
        }
        let each = table.proofs.bytes_each(table.len());
        match &table.proofs {
            Proofs::None | Proofs::Groups(_) => {}
            Proofs::Tags { columns, bytes } => {
                builder.tags.resize_with(usize::from(*columns), Vec::new);
                for (column, tags) in builder.tags.iter_mut().enumerate() {
                    let at = (column * table.len() + index) * each;
                    tags.extend_from_slice(&bytes[at..at + each]);
                }
            }
            Proofs::Signatures(bytes) => builder.signatures.extend_from_slice(&bytes[index * each..(index + 1) * each]),
        }
        builder.proof_bytes = each;
    }
}

/// The digest of a batch of requests with these digests.
fn digest_of(requests: &[Digest]) -> Digest {
    // One long input takes the hasher's wide path; many short updates do not.
    let mut digests = Vec::with_capacity(size_of_val(requests));
    for digest in requests {
        digests.extend_from_slice(&digest.0);
    }
    blake3::hash(&digests).into()
}

/// A batch by its requests' digests alone: what a pre-prepare carries where clients send the bodies to all replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    digest: Digest,
    clients: Vec<ClientId>,
    timestamps: Vec<Timestamp>,
    digests: Vec<Digest>,
}

impl Manifest {
    /// Of requests in columns of the same length: who asked, each client's own counter, each request's digest. The
    /// batch's digest is computed.
    ///
    /// # Panics
    /// If the columns differ in length: whoever decodes one reads as many of each.
    #[must_use]
    pub fn new(clients: Vec<ClientId>, timestamps: Vec<Timestamp>, digests: Vec<Digest>) -> Self {
        assert!(clients.len() == timestamps.len() && clients.len() == digests.len(), "columns of different lengths");
        Self { digest: digest_of(&digests), clients, timestamps, digests }
    }

    /// That of a batch.
    #[must_use]
    pub fn of(batch: &Batch) -> Self {
        let RequestTable { clients, timestamps, digests, .. } = &batch.requests;
        let (clients, timestamps, digests) = (clients.clone(), timestamps.clone(), digests.clone());
        Self { digest: batch.digest, clients, timestamps, digests }
    }

    /// How many requests there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// The batch's digest.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Who asked. Only a hint where to look: what a request is, its digest tells.
    #[must_use]
    pub fn clients(&self) -> &[ClientId] {
        &self.clients
    }

    /// Each client's own counter, a hint as well.
    #[must_use]
    pub fn timestamps(&self) -> &[Timestamp] {
        &self.timestamps
    }

    /// Each request's digest.
    #[must_use]
    pub fn digests(&self) -> &[Digest] {
        &self.digests
    }

    /// Bytes that it keeps in memory.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.len() * (size_of::<ClientId>() + size_of::<Timestamp>() + size_of::<Digest>())
    }

    /// The batch, once its bodies are here.
    ///
    /// # Panics
    /// If `requests` are not those of this manifest: whoever gathers them goes by their digests.
    #[must_use]
    pub(crate) fn complete(&self, requests: RequestTable) -> Arc<Batch> {
        assert_eq!(requests.len(), self.len(), "a body for each request");
        Arc::new(Batch { digest: self.digest, requests })
    }
}

/// What one sequence number orders: a table of requests and its digest. A null request is a batch without requests.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    /// Digest over the requests' digests, in order.
    pub digest: Digest,
    /// The requests.
    pub requests: RequestTable,
}

impl Batch {
    /// A batch of `requests`, whose digests must have been computed.
    ///
    /// # Panics
    /// If the digests are missing.
    #[must_use]
    pub fn new(requests: RequestTable) -> Arc<Self> {
        assert_eq!(requests.digests.len(), requests.len(), "digests are computed before a batch is made");
        Arc::new(Self { digest: digest_of(&requests.digests), requests })
    }

    /// The null request: executed as a no-op (Castro & Liskov, OSDI'99, section 4.4).
    #[must_use]
    pub fn null() -> Arc<Self> {
        Self::new(RequestTable::empty())
    }

    /// Whether this is the null request.
    #[must_use]
    pub const fn is_null(&self) -> bool {
        self.requests.is_empty()
    }

    /// Roughly the bytes that this batch keeps in memory.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.requests.bytes()
    }

    /// This batch as it is kept for laggards, who trust its digest: without the requests' proofs, and in memory of its
    /// own, so that what it keeps is what [`bytes`](Self::bytes) says. Operations that are a slice of a transport's
    /// chunk would keep the whole chunk; what is longer than a chunk is no slice of one.
    #[must_use]
    pub fn to_keep(self: Arc<Self>) -> Arc<Self> {
        let Self { digest, mut requests } = Arc::try_unwrap(self)
            .unwrap_or_else(|shared| Self { digest: shared.digest, requests: shared.requests.clone() });
        requests.proofs = Proofs::None;
        if requests.operations.len() < READ_CHUNK_BYTES {
            requests.operations = Bytes::copy_from_slice(&requests.operations);
        }
        Arc::new(Self { digest, requests })
    }
}

/// Replies of one replica to clients of one client node, in columns of the same length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplyTable {
    /// To whom.
    pub clients: Vec<ClientId>,
    /// Which of the client's operations was executed.
    pub timestamps: Vec<Timestamp>,
    /// Where each result ends in `results`.
    pub result_ends: Vec<u32>,
    /// The results, one after the other.
    pub results: Bytes,
    /// Whether what stands in place of a result is its [digest](result_digest). Empty where none is.
    pub digested: Vec<bool>,
}

/// The digest that stands for a result.
#[must_use]
pub fn result_digest(result: &[u8]) -> Digest {
    blake3::hash(result).into()
}

impl ReplyTable {
    /// How many replies there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// The result of reply `index`.
    ///
    /// # Panics
    /// If `index` is out of range.
    #[must_use]
    pub fn result(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.result_ends[index - 1] as usize };
        &self.results[start..self.result_ends[index] as usize]
    }

    /// Whether reply `index` holds the digest of its result.
    #[must_use]
    pub fn is_digest(&self, index: usize) -> bool {
        self.digested.get(index).is_some_and(|digested| *digested)
    }
}
