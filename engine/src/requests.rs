//! The unit that travels: a table of requests in columns, made once when a frame is parsed and carried by reference
//! from verify to egress. No stage handles a request as an object of its own, so digests and tags are computed side by
//! side.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use zerocopy::IntoBytes as _;

use crate::auth::long;
use crate::limits::READ_CHUNK_BYTES;
use crate::types::{ClientId, Digest, Timestamp};

mod builder;
mod groups;

pub use builder::{TableBuilder, Taking};
pub use groups::{Group, Groups};

/// A table keeps at most so many times its own size of the chunk that it was read in.
const CHUNK_SHARE: usize = 4;

/// What proves of each request that its client sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proofs {
    /// The crypto-free baseline.
    None,
    /// Authenticators, column by column: `columns` × len tags, of as many bytes as the strategy says. From a client
    /// there is one column for each replica, in order of their ids; a pre-prepare carries its receiver's column alone.
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
                return groups.bytes_each();
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

    /// Where a slice of at most `checks` checks ends that begins at request `start` of `requests`, and how many checks
    /// it takes. What shares a proof is in one slice if `start` is where another one ended, or 0.
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

    /// The operations of the requests in `range`.
    ///
    /// # Panics
    /// If there are no such requests.
    #[must_use]
    pub fn operations(&self, range: Range<usize>) -> Operations<'_> {
        let start = if range.start == 0 { 0 } else { self.operation_ends[range.start - 1] };
        Pieces { bytes: &self.operations, start, ends: self.operation_ends[range].iter() }
    }

    /// Roughly the bytes that this table keeps in memory.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.len() * 64 + self.operations.len() + self.proofs.bytes()
    }

    /// This table in memory of its own, if it is so small that it would keep more of a transport's chunk than it needs.
    #[must_use]
    pub fn unchunked_if_small(self: Arc<Self>) -> Arc<Self> {
        if self.bytes() * CHUNK_SHARE >= READ_CHUNK_BYTES {
            return self;
        }
        Arc::new(Arc::unwrap_or_clone(self).unchunked())
    }

    /// This table in memory of its own, not in what it came in.
    #[must_use]
    fn unchunked(mut self) -> Self {
        self.operations = Bytes::copy_from_slice(&self.operations);
        self.proofs = self.proofs.unchunked();
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

/// Operations of requests that follow each other in a table.
pub type Operations<'a> = Pieces<'a>;

/// Pieces of a column that follow each other.
#[derive(Clone, Debug)]
pub struct Pieces<'a> {
    bytes: &'a [u8],
    start: u32,
    ends: std::slice::Iter<'a, u32>,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let end = *self.ends.next()?;
        let start = std::mem::replace(&mut self.start, end);
        Some(&self.bytes[start as usize..end as usize])
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.ends.size_hint()
    }
}

impl ExactSizeIterator for Pieces<'_> {}

/// The length of pieces that follow each other from `start` and end at `ends`, if all are of one length; 0 if there are
/// none.
pub(crate) fn equal_length(start: u32, ends: &[u32]) -> Option<u32> {
    // A look at each end by itself, for that can be done side by side.
    let length = ends.first().map_or(0, |end| end.wrapping_sub(start));
    let difference = |(end, pieces): (&u32, u32)| end.wrapping_sub(start) ^ length.wrapping_mul(pieces);
    let uneven = ends.iter().zip(1..).map(difference).fold(0, |all, difference| all | difference);
    (uneven == 0).then_some(length)
}

/// The digest of a batch of requests with these digests.
pub(crate) fn digest_of(requests: &[Digest]) -> Digest {
    long::digest(requests.as_bytes())
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
        Arc::new(Batch { digest: self.digest, requests, owns_memory: false })
    }
}

/// What one sequence number orders: a table of requests and its digest. A null request is a batch without requests.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Digest over the requests' digests, in order.
    pub digest: Digest,
    /// The requests.
    pub requests: RequestTable,
    /// Whether operations and proofs are known to be in memory of their own, and not in what they came in.
    owns_memory: bool,
}

impl PartialEq for Batch {
    /// Whose memory it is in makes no difference.
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest && self.requests == other.requests
    }
}

impl Eq for Batch {}

impl Batch {
    /// A batch of `requests`, whose digests must have been computed.
    ///
    /// # Panics
    /// If the digests are missing.
    #[must_use]
    pub fn new(requests: RequestTable) -> Arc<Self> {
        Self::made(requests, false)
    }

    /// A batch of `requests` as they came out of a transport or a log, in memory of its own: it is kept until a
    /// checkpoint and longer, so what it needs is copied while all of it is in the cache, and what it came in can be
    /// used again at once. What is as long as a transport's chunk is in no such cache, and is left where it is until it
    /// is [kept](Self::to_keep).
    ///
    /// # Panics
    /// If the digests are missing.
    #[must_use]
    pub fn received(requests: RequestTable) -> Arc<Self> {
        let is_short = requests.operations.len() < READ_CHUNK_BYTES;
        Self::made(if is_short { requests.unchunked() } else { requests }, is_short)
    }

    fn made(requests: RequestTable, owns_memory: bool) -> Arc<Self> {
        assert_eq!(requests.digests.len(), requests.len(), "digests are computed before a batch is made");
        Arc::new(Self { digest: digest_of(&requests.digests), requests, owns_memory })
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
    /// own, so that what it keeps is what [`bytes`](Self::bytes) says.
    #[must_use]
    pub fn to_keep(self: Arc<Self>) -> Arc<Self> {
        let Self { digest, mut requests, owns_memory } = Arc::unwrap_or_clone(self);
        requests.proofs = Proofs::None;
        let requests = if owns_memory { requests } else { requests.unchunked() };
        Arc::new(Self { digest, requests, owns_memory: true })
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

/// How a replica answers a batch, over one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchForm {
    /// It sends the replies.
    Whole,
    /// It sends their digest, unless they are [hardly longer](crate::limits::BATCH_DIGEST_FROM_BYTES).
    Digest,
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

    /// The results in order.
    pub fn results(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        Pieces { bytes: &self.results, start: 0, ends: self.result_ends.iter() }
    }

    /// Whether reply `index` holds the digest of its result.
    #[must_use]
    pub fn is_digest(&self, index: usize) -> bool {
        self.digested.get(index).is_some_and(|digested| *digested)
    }
}
