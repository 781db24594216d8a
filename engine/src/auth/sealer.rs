//! Makes proofs.

use std::sync::Arc;

use ed25519_dalek::Signer as _;

use super::strategies::{Reach, Seal};
use super::{AuthBlock, BlockKind, Keyring, LinkClass};
use crate::limits::SIGNATURE_BYTES;
use crate::requests::{Proofs, RequestTable};
use crate::types::{NodeId, ReplicaId};

/// Makes the proofs of one node. Keeps its scratch memory from call to call.
#[derive(Debug)]
pub struct Sealer {
    keyring: Arc<Keyring>,
    /// What seals each class of links.
    seals: [Box<dyn Seal>; LinkClass::ALL.len()],
    blocks: Vec<AuthBlock>,
}

impl Sealer {
    /// Makes what `keyring`'s node proves to others.
    #[must_use]
    pub fn new(keyring: Arc<Keyring>) -> Self {
        let seals = LinkClass::ALL.map(|class| keyring.strategy(class).seal(&keyring));
        Self { keyring, seals, blocks: Vec::new() }
    }

    /// The keyring whose node this seals for.
    #[must_use]
    pub const fn keyring(&self) -> &Arc<Keyring> {
        &self.keyring
    }

    /// Appends the proof of `block` for `to`: exactly [`proof_bytes`](Self::proof_bytes) bytes.
    ///
    /// # Panics
    /// If `to` is not in the cluster and a MAC is asked for: that would be our own error.
    pub fn seal(&self, class: LinkClass, to: NodeId, block: &AuthBlock, out: &mut Vec<u8>) {
        self.seals[class as usize].seal(to, block, out);
    }

    /// The Ed25519 signature of `block`, which this node says first. In every mode: others pass it on.
    ///
    /// # Panics
    /// If `origin` is not this node: nobody signs for another.
    #[must_use]
    pub fn sign_as_origin(&self, origin: ReplicaId, block: &AuthBlock) -> [u8; SIGNATURE_BYTES] {
        assert_eq!(self.keyring.own(), NodeId::of(origin), "a message without its origin's signature");
        self.keyring.signing().sign(&block.0).to_bytes()
    }

    /// Bytes of one proof of this class.
    #[must_use]
    pub fn proof_bytes(&self, class: LinkClass) -> usize {
        self.keyring.strategy(class).proof_bytes()
    }

    /// Whether one proof convinces every receiver: signatures do, and what is not proven at all; MACs do not.
    #[must_use]
    pub fn same_for_all(&self, class: LinkClass) -> bool {
        !self.keyring.strategy(class).is_for_receiver()
    }

    /// A client node's proofs of a table of its requests: of tags, one column for each replica, in order of their ids.
    ///
    /// # Panics
    /// If the digests have not been computed: that would be our own error.
    #[must_use]
    pub fn seal_requests(&mut self, table: &RequestTable) -> Proofs {
        self.seal_table(BlockKind::Request, table)
    }

    /// The same of read-only requests.
    ///
    /// # Panics
    /// If the digests have not been computed: that would be our own error.
    #[must_use]
    pub fn seal_reads(&mut self, table: &RequestTable) -> Proofs {
        self.seal_table(BlockKind::Read, table)
    }

    fn seal_table(&mut self, kind: BlockKind, table: &RequestTable) -> Proofs {
        assert_eq!(table.digests.len(), table.len(), "digests are computed before requests are sealed");
        let about = self.keyring.strategy(LinkClass::ClientToReplica).about();
        #[allow(clippy::cast_possible_truncation, reason = "at most REPLICAS_MAX replicas")]
        let columns = match about.reach {
            Reach::Nobody => return Proofs::None,
            Reach::Receiver => self.keyring.quorums().n() as u16,
            Reach::Everybody => 1,
        };
        let cluster = self.keyring.cluster();
        self.blocks.clear();
        self.blocks.extend((0..table.len()).map(|index| {
            AuthBlock::of_client(kind, cluster, table.clients[index], table.timestamps[index], &table.digests[index])
        }));
        let seal = &self.seals[LinkClass::ClientToReplica as usize];
        let mut proofs = Vec::with_capacity(usize::from(columns) * self.blocks.len() * about.proof_bytes);
        for replica in 0..columns {
            seal.seal_all(NodeId::of(ReplicaId(replica)), &self.blocks, &mut proofs);
        }
        if about.reach == Reach::Receiver {
            Proofs::Tags { columns, bytes: proofs.into() }
        } else {
            Proofs::Signatures(proofs.into())
        }
    }
}
