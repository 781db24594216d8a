//! Makes proofs.

use std::sync::Arc;

use ed25519_dalek::Signer as _;

use super::wide::keyed_tags;
use super::{AuthBlock, BlockKind, Keyring, LinkClass, proof_bytes};
use crate::limits::{SIGNATURE_BYTES, TAG_BYTES};
use crate::requests::{Proofs, RequestTable};
use crate::settings::Strategy;
use crate::types::{NodeId, ReplicaId};

/// Makes the proofs of one node. Keeps its scratch memory from call to call.
#[derive(Debug)]
pub struct Sealer {
    keyring: Arc<Keyring>,
    blocks: Vec<AuthBlock>,
}

impl Sealer {
    /// Makes what `keyring`'s node proves to others.
    #[must_use]
    pub const fn new(keyring: Arc<Keyring>) -> Self {
        Self { keyring, blocks: Vec::new() }
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
        match self.keyring.strategy(class) {
            Strategy::None => {}
            Strategy::Mac => {
                let key = self.keyring.outgoing(to).expect("messages go to nodes of the cluster");
                out.extend_from_slice(&blake3::keyed_hash(key, &block.0).as_bytes()[..TAG_BYTES]);
            }
            Strategy::Ed25519 | Strategy::Ed25519Batch => {
                out.extend_from_slice(&self.keyring.signing().sign(&block.0).to_bytes());
            }
        }
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
        proof_bytes(self.keyring.strategy(class))
    }

    /// Whether one proof convinces every receiver: signatures do, and what is not proven at all; MACs do not.
    #[must_use]
    pub fn same_for_all(&self, class: LinkClass) -> bool {
        !matches!(self.keyring.strategy(class), Strategy::Mac)
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
        let strategy = self.keyring.strategy(LinkClass::ClientToReplica);
        if strategy == Strategy::None {
            return Proofs::None;
        }
        let cluster = self.keyring.cluster();
        self.blocks.clear();
        self.blocks.extend((0..table.len()).map(|index| {
            AuthBlock::of_client(kind, cluster, table.clients[index], table.timestamps[index], &table.digests[index])
        }));
        if strategy == Strategy::Mac {
            return self.tag_columns();
        }
        let mut signatures = Vec::with_capacity(table.len() * SIGNATURE_BYTES);
        for block in &self.blocks {
            signatures.extend_from_slice(&self.keyring.signing().sign(&block.0).to_bytes());
        }
        Proofs::Signatures(signatures.into())
    }

    /// A column of tags of the scratch blocks for each replica.
    fn tag_columns(&self) -> Proofs {
        #[allow(clippy::cast_possible_truncation, reason = "at most REPLICAS_MAX replicas")]
        let columns = self.keyring.quorums().n() as u16;
        let mut tags = Vec::with_capacity(usize::from(columns) * self.blocks.len() * TAG_BYTES);
        for replica in 0..columns {
            let key = self.keyring.outgoing(NodeId::of(ReplicaId(replica))).expect("replicas are in the cluster");
            keyed_tags(key, &self.blocks, &mut tags);
        }
        Proofs::Tags { columns, bytes: tags.into() }
    }
}
