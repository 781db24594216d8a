//! Authentication: strategies chosen at run time for each class of links.
//!
//! Everything that is authenticated is first reduced to an [`AuthBlock`] of 64 bytes, one BLAKE3 block, so that whole
//! frames of tags are computed side by side. In order: [keys] (identities and their files), [keyring] (who is who, and
//! the pairwise keys), [wide] (SIMD over many blocks), [digest] (digests of requests), [long] (of what is long),
//! [groups] (of groups of requests), [signature] (one acceptance rule for single and batch verification), [strategies]
//! (what there is to choose from), [verifier] (checks proofs), [sealer] (makes them), [backends] (by which
//! instructions).

use crate::limits::TAG_BYTES;
use crate::settings::Authentication;
use crate::types::{ClientId, Digest, NodeId, ReplicaId, SequenceNumber, Timestamp, View};

pub mod backends;
pub mod digest;
pub mod groups;
pub mod keyring;
pub mod keys;
pub mod long;
pub mod sealer;
pub mod signature;
pub mod strategies;
pub mod verifier;
pub mod wide;

pub use digest::Digester;
pub use groups::GroupDigester;
pub use keyring::Keyring;
pub use keys::{KeyError, NodeKey};
pub use sealer::Sealer;
pub use strategies::Strategy;
pub use verifier::{Check, Part, RequestChecks, Verifier};

/// A MAC: keyed BLAKE3 of an [`AuthBlock`], cut to 128 bits.
pub type Tag = [u8; TAG_BYTES];

/// The classes of links, each with a strategy of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkClass {
    /// Requests: proven one by one or in groups of which any part proves itself, because they travel on to other
    /// replicas.
    ClientToReplica,
    /// What replicas say to each other: proven message by message.
    ReplicaToReplica,
    /// Replies: proven frame by frame.
    ReplicaToClient,
}

impl LinkClass {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ClientToReplica, Self::ReplicaToReplica, Self::ReplicaToClient];

    /// The strategy that `authentication` sets for this class.
    #[must_use]
    pub const fn strategy(self, authentication: &Authentication) -> Strategy {
        match self {
            Self::ClientToReplica => authentication.clients,
            Self::ReplicaToReplica => authentication.replicas,
            Self::ReplicaToClient => authentication.replies,
        }
    }
}

/// What a proof is about. Part of what is authenticated, so that no proof can be taken for another kind's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BlockKind {
    /// A client's request.
    Request = 1,
    /// A frame of replies.
    Replies = 2,
    /// A pre-prepare.
    PrePrepare = 3,
    /// A prepare.
    Prepare = 4,
    /// A commit.
    Commit = 5,
    /// A checkpoint.
    Checkpoint = 6,
    /// A status message.
    Status = 7,
    /// Forwarded requests.
    Forward = 8,
    /// A claim that a batch is committed-local.
    Committed = 9,
    /// A batch's body.
    Body = 10,
    /// A view-change.
    ViewChange = 11,
    /// A new-view.
    NewView = 12,
    /// A wish for a snapshot at a coming checkpoint.
    StateWanted = 13,
    /// A wish for a chunk of a snapshot.
    FetchState = 14,
    /// A chunk of a snapshot.
    StateChunk = 15,
    /// A pre-prepare by digests.
    DigestPrePrepare = 16,
    /// A client's read-only request.
    Read = 20,
    /// A frame of replies to read-only requests.
    ReadReplies = 21,
    /// A group of a client node's requests.
    Group = 22,
    /// A group of a client node's read-only requests.
    ReadGroup = 23,
}

/// The 64 bytes that a MAC or a signature covers: kind, version, sender, view, sequence number, cluster, digest. MACs
/// bind the receiver by their key, which belongs to one pair and one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct AuthBlock(pub [u8; 64]);

/// Version of the layout of [`AuthBlock`].
pub const BLOCK_VERSION: u8 = 1;

impl AuthBlock {
    /// To be written over.
    pub(crate) const EMPTY: Self = Self([0; 64]);

    fn new(kind: BlockKind, sender: u32, view: u64, sequence: u64, cluster: [u8; 8], digest: &Digest) -> Self {
        let mut block = Self::EMPTY;
        block.set(kind, sender, view, sequence, cluster, digest);
        block
    }

    /// Writes all of it, in words: a load that is wider than the stores before it is not forwarded from them, and
    /// stalls.
    #[inline]
    fn set(&mut self, kind: BlockKind, sender: u32, view: u64, sequence: u64, cluster: [u8; 8], digest: &Digest) {
        let first = u64::from_le_bytes([kind as u8, BLOCK_VERSION, 0, 0, 0, 0, 0, 0]) | u64::from(sender) << 32;
        self.0[..8].copy_from_slice(&first.to_le_bytes());
        self.0[8..16].copy_from_slice(&view.to_le_bytes());
        self.0[16..24].copy_from_slice(&sequence.to_le_bytes());
        self.0[24..32].copy_from_slice(&cluster);
        self.0[32..64].copy_from_slice(&digest.0);
    }

    /// The block of one request. `digest` covers client, timestamp and operation.
    #[must_use]
    pub fn request(cluster: [u8; 8], client: ClientId, timestamp: Timestamp, digest: &Digest) -> Self {
        Self::of_client(BlockKind::Request, cluster, client, timestamp, digest)
    }

    /// The block of one request of this kind: nobody can pass off a read-only request as one to be ordered.
    pub(super) fn of_client(
        kind: BlockKind,
        cluster: [u8; 8],
        client: ClientId,
        timestamp: Timestamp,
        digest: &Digest,
    ) -> Self {
        Self::new(kind, client.0, 0, timestamp.0, cluster, digest)
    }

    /// Writes the blocks of requests of this kind, which are given in columns, into `blocks`, of the same length.
    pub(super) fn set_requests(
        (kind, cluster): (BlockKind, [u8; 8]),
        (clients, timestamps): (&[ClientId], &[Timestamp]),
        digests: &[Digest],
        blocks: &mut [Self],
    ) {
        assert!([clients.len(), timestamps.len(), digests.len()] == [blocks.len(); 3], "columns of one length");
        let requests = clients.iter().zip(timestamps).zip(digests);
        for (block, ((client, timestamp), digest)) in blocks.iter_mut().zip(requests) {
            block.set(kind, client.0, 0, timestamp.0, cluster, digest);
        }
    }

    /// The block of a group of `size` requests that client node `node` makes. `digest` covers all of theirs.
    #[must_use]
    pub fn group(reads: bool, cluster: [u8; 8], node: NodeId, size: u8, digest: &Digest) -> Self {
        let kind = if reads { BlockKind::ReadGroup } else { BlockKind::Group };
        Self::new(kind, u32::from(node.0), 0, u64::from(size), cluster, digest)
    }

    /// The same said by another replica.
    #[must_use]
    pub fn said_by(mut self, sender: ReplicaId) -> Self {
        self.0[4..8].copy_from_slice(&u32::from(sender.0).to_le_bytes());
        self
    }

    /// The block of a replica's message at a position (0 where it has none). `digest` covers everything else in it.
    #[must_use]
    pub fn message(
        kind: BlockKind,
        cluster: [u8; 8],
        sender: ReplicaId,
        view: View,
        sequence: SequenceNumber,
        digest: &Digest,
    ) -> Self {
        Self::new(kind, u32::from(sender.0), view.0, sequence.0, cluster, digest)
    }
}

#[cfg(test)]
pub(crate) mod testing;
