//! Makes proofs.

use std::sync::Arc;

use bytes::Bytes;
use ed25519_dalek::Signer as _;

use super::strategies::{Reach, Seal};
use super::{AuthBlock, BlockKind, GroupDigester, Keyring, LinkClass};
use crate::limits::{GROUP_REQUESTS_MAX, SIGNATURE_BYTES};
use crate::requests::{Group, Groups, Proofs, RequestTable};
use crate::types::{Digest, NodeId, ReplicaId};

/// Makes the proofs of one node. Keeps its scratch memory from call to call.
#[derive(Debug)]
pub struct Sealer {
    keyring: Arc<Keyring>,
    /// What seals each class of links.
    seals: [Box<dyn Seal>; LinkClass::ALL.len()],
    blocks: Vec<AuthBlock>,
    groups: GroupDigester,
}

impl Sealer {
    /// Makes what `keyring`'s node proves to others.
    #[must_use]
    pub fn new(keyring: Arc<Keyring>) -> Self {
        let seals = LinkClass::ALL.map(|class| keyring.strategy(class).seal(&keyring));
        Self { keyring, seals, blocks: Vec::new(), groups: GroupDigester::default() }
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

    /// A client node's proofs of a table of its requests, or of groups of them: of tags, one column for each replica,
    /// in order of their ids.
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
        if !self.keyring.proves_groups() {
            let (mut proofs, bytes) = self.proofs_to_come(table.len());
            let mut sealed = Vec::with_capacity(bytes);
            self.append_proofs(kind, table, &mut sealed);
            if let Proofs::Tags { bytes, .. } | Proofs::Signatures(bytes) = &mut proofs {
                *bytes = sealed.into();
            }
            return proofs;
        }
        let (columns, reach) = self.columns_of_proofs();
        if reach == Reach::Nobody {
            return Proofs::None;
        }
        assert_eq!(table.digests.len(), table.len(), "digests are computed before requests are sealed");
        let groups = self.groups_of(table);
        self.set_group_blocks(kind, table, &groups);
        let mut proofs =
            Vec::with_capacity(usize::from(columns) * groups.len() * self.proof_bytes(LinkClass::ClientToReplica));
        self.append_columns(columns, &mut proofs);
        let columns = if reach == Reach::Receiver { columns } else { 0 };
        let groups = Groups::new(groups, Vec::new(), columns, proofs.into());
        Proofs::Groups(groups.expect("whole groups, as many as there are requests at most"))
    }

    /// What proves `requests` requests one by one, but for the proofs themselves, and the bytes that these will have.
    #[must_use]
    pub fn proofs_to_come(&self, requests: usize) -> (Proofs, usize) {
        let (columns, reach) = self.columns_of_proofs();
        let proofs = match reach {
            Reach::Nobody => Proofs::None,
            Reach::Receiver => Proofs::Tags { columns, bytes: Bytes::new() },
            Reach::Everybody => Proofs::Signatures(Bytes::new()),
        };
        (proofs, usize::from(columns) * requests * self.proof_bytes(LinkClass::ClientToReplica))
    }

    /// Appends the [proofs that were to come](Self::proofs_to_come) of a table's requests of this kind.
    ///
    /// # Panics
    /// If the digests have not been computed: that would be our own error.
    pub fn append_proofs(&mut self, kind: BlockKind, table: &RequestTable, out: &mut Vec<u8>) {
        assert_eq!(table.digests.len(), table.len(), "digests are computed before requests are sealed");
        let (columns, reach) = self.columns_of_proofs();
        if reach != Reach::Nobody {
            self.set_request_blocks(kind, table);
            self.append_columns(columns, out);
        }
    }

    /// How many proofs a request, or a group of them, has, and whom they convince.
    #[allow(clippy::cast_possible_truncation, reason = "at most REPLICAS_MAX replicas")]
    fn columns_of_proofs(&self) -> (u16, Reach) {
        let reach = self.keyring.strategy(LinkClass::ClientToReplica).about().reach;
        let columns = match reach {
            Reach::Nobody => 0,
            Reach::Receiver => self.keyring.quorums().n() as u16,
            Reach::Everybody => 1,
        };
        (columns, reach)
    }

    /// Appends the proofs of `blocks` column by column.
    fn append_columns(&self, columns: u16, out: &mut Vec<u8>) {
        let seal = &self.seals[LinkClass::ClientToReplica as usize];
        (0..columns).for_each(|replica| seal.seal_all(NodeId::of(ReplicaId(replica)), &self.blocks, out));
    }

    fn set_request_blocks(&mut self, kind: BlockKind, table: &RequestTable) {
        let columns = (&table.clients[..], &table.timestamps[..]);
        self.blocks.resize(table.len(), AuthBlock::EMPTY);
        AuthBlock::set_requests((kind, self.keyring.cluster()), columns, &table.digests, &mut self.blocks);
    }

    /// Groups of requests that follow each other, all but the last as large as groups may be.
    fn groups_of(&self, table: &RequestTable) -> Vec<Group> {
        let node = self.keyring.own();
        table.digests.chunks(GROUP_REQUESTS_MAX).map(|digests| Group::whole(node, digests.len())).collect()
    }

    fn set_group_blocks(&mut self, kind: BlockKind, table: &RequestTable, groups: &[Group]) {
        for digests in table.digests.chunks(GROUP_REQUESTS_MAX) {
            self.groups.push(digests);
        }
        let (cluster, digests) = (self.keyring.cluster(), self.groups.finish());
        let reads = kind == BlockKind::Read;
        let block =
            |(group, digest): (&Group, Digest)| AuthBlock::group(reads, cluster, group.node, group.size, &digest);
        self.blocks.clear();
        self.blocks.extend(groups.iter().zip(digests).map(block));
    }
}
