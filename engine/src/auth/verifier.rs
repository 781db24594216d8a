//! Checks proofs, as many at a time as there are.

use std::ops::Range;
use std::sync::Arc;

use subtle::ConstantTimeEq as _;

use super::signature::{self, Effort, SignatureBatch};
use super::wide::each_tag;
use super::{AuthBlock, BlockKind, Keyring, LinkClass, Tag, proof_bytes};
use crate::limits::{SIGNATURE_BYTES, TAG_BYTES};
use crate::requests::{Proofs, RequestTable};
use crate::settings::Strategy;
use crate::types::NodeId;
use crate::wire::Origin;

/// A claim to check: that `signer` proves `block` by `proof`.
#[derive(Clone, Copy, Debug)]
pub struct Check<'a> {
    /// Who is said to have made the proof.
    pub signer: NodeId,
    /// What is proven.
    pub block: AuthBlock,
    /// The proof, of whatever length it came in.
    pub proof: &'a [u8],
}

/// Requests of one table to check.
#[derive(Clone, Debug)]
pub struct Part<'a> {
    /// The table.
    pub table: &'a RequestTable,
    /// Which of its requests.
    pub range: Range<usize>,
    /// Parts in a row with the same number here share a combined check where signatures are verified in batches. This
    /// decides what a verdict costs, never what it is.
    pub batch: usize,
    /// Whether they are read-only requests.
    pub reads: bool,
}

impl<'a> Part<'a> {
    /// A whole table.
    #[must_use]
    pub const fn whole(table: &'a RequestTable, batch: usize) -> Self {
        Self { table, range: 0..table.len(), batch, reads: false }
    }
}

/// Checks proofs that were made for one node. Keeps its scratch memory from call to call.
#[derive(Debug)]
pub struct Verifier {
    keyring: Arc<Keyring>,
    /// Indices of checks, those of the same signer next to each other.
    order: Vec<u32>,
    /// Where in `order` each signer's checks start.
    starts: Vec<usize>,
    effort: Effort,
}

impl Verifier {
    /// Checks what others prove to `keyring`'s node.
    #[must_use]
    pub const fn new(keyring: Arc<Keyring>) -> Self {
        Self { keyring, order: Vec::new(), starts: Vec::new(), effort: Effort { combined: 0, single: 0 } }
    }

    /// Checks claims of one class of links. `good` gets one verdict for each, in order; whatever it held is gone. A
    /// signer outside the cluster or a proof of the wrong length is bad.
    pub fn verify(&mut self, class: LinkClass, checks: &[Check<'_>], good: &mut Vec<bool>) {
        good.clear();
        good.resize(checks.len(), false);
        match self.keyring.strategy(class) {
            Strategy::None => {
                for (check, good) in checks.iter().zip(good) {
                    *good = check.proof.is_empty() && usize::from(check.signer.0) < self.keyring.nodes();
                }
            }
            Strategy::Mac => self.verify_tags(checks, good),
            Strategy::Ed25519 => self.verify_singly(checks, good),
            Strategy::Ed25519Batch => {
                // Each signer answers for what it says.
                self.sort_by_signer(checks, SIGNATURE_BYTES);
                let order = std::mem::take(&mut self.order);
                let starts = std::mem::take(&mut self.starts);
                let parts = starts.windows(2).map(|bounds| order[bounds[0]..bounds[1]].iter().map(|&at| at as usize));
                self.verify_batch(checks, parts, good);
                (self.order, self.starts) = (order, starts);
            }
        }
    }

    /// Whether a message that may have been passed on was really said by its origin, a replica: client nodes have keys,
    /// too. Signed in every mode, and rare: one by one.
    #[must_use]
    pub fn is_origin(&self, origin: &Origin) -> bool {
        let replica = usize::from(origin.signer.0) < self.keyring.quorums().n();
        let key = self.keyring.public(origin.signer).filter(|_| replica);
        key.is_some_and(|key| signature::verify(key, &origin.block.0, &origin.signature))
    }

    /// Checks the requests of several tables. `good` gets one verdict for each request of each part, in order; whatever
    /// it held is gone. All of a part is bad if its table's proofs are not of the kind that the cluster uses for requests;
    /// a request is bad if its client is beyond the cluster's clients. Who sent the table does not matter here.
    ///
    /// Of tags, this replica's own column is checked if the table has one for every replica, else the only one.
    ///
    /// # Panics
    /// If a table's digests have not been computed: that would be our own error.
    pub fn verify_requests(&mut self, parts: &[Part<'_>], good: &mut Vec<bool>) {
        let mut checks = Vec::with_capacity(parts.iter().map(|part| part.range.len()).sum());
        for part in parts {
            self.push_checks(part, &mut checks);
        }
        if self.keyring.strategy(LinkClass::ClientToReplica) != Strategy::Ed25519Batch {
            return self.verify(LinkClass::ClientToReplica, &checks, good);
        }
        good.clear();
        good.resize(checks.len(), false);
        let mut start = 0;
        for batch in parts.chunk_by(|a, b| a.batch == b.batch) {
            let ranges = batch.iter().map(|part| {
                let own = start..start + part.range.len();
                start = own.end;
                own
            });
            self.verify_batch(&checks, ranges, good);
        }
    }

    /// What verdicts about signatures in batches have cost so far.
    #[must_use]
    pub const fn effort(&self) -> Effort {
        self.effort
    }

    /// Appends one check for each request of `part`.
    fn push_checks<'a>(&self, part: &Part<'a>, checks: &mut Vec<Check<'a>>) {
        let table = part.table;
        assert_eq!(table.digests.len(), table.len(), "digests are computed before requests are verified");
        let cluster = self.keyring.cluster();
        let proofs = self.own_proofs(table);
        let kind = if part.reads { BlockKind::Read } else { BlockKind::Request };
        for index in part.range.clone() {
            let (client, timestamp) = (table.clients[index], table.timestamps[index]);
            let proof = proofs.and_then(|(bytes, width)| bytes.get(index * width..(index + 1) * width));
            // No node has this number, and no proof this length: either makes a check fail.
            let signer = self.keyring.owner(client).filter(|_| proof.is_some()).unwrap_or(NodeId(u16::MAX));
            let block = AuthBlock::of_client(kind, cluster, client, timestamp, &table.digests[index]);
            checks.push(Check { signer, block, proof: proof.unwrap_or_default() });
        }
    }

    /// The proofs of `table` that are meant for this node and the bytes of each; `None` if they are not of the kind
    /// that the cluster uses or not as many as there are requests.
    fn own_proofs<'a>(&self, table: &'a RequestTable) -> Option<(&'a [u8], usize)> {
        let strategy = self.keyring.strategy(LinkClass::ClientToReplica);
        let width = proof_bytes(strategy);
        let column_bytes = table.len() * width;
        match (strategy, &table.proofs) {
            (Strategy::None, Proofs::None) => Some(&[][..]),
            (Strategy::Mac, Proofs::Tags { columns, bytes }) => {
                let columns = usize::from(*columns);
                let column = match columns {
                    1 => 0,
                    n if n == self.keyring.quorums().n() => usize::from(self.keyring.own().0),
                    _ => return None,
                };
                let whole = bytes.len() == columns * column_bytes;
                whole.then(|| bytes.get(column * column_bytes..(column + 1) * column_bytes)).flatten()
            }
            (Strategy::Ed25519 | Strategy::Ed25519Batch, Proofs::Signatures(bytes)) => {
                (bytes.len() == column_bytes).then_some(&bytes[..])
            }
            _ => None,
        }
        .map(|bytes| (bytes, width))
    }

    /// Tags are computed side by side, signer by signer, because those made by one signer share a key.
    fn verify_tags(&mut self, checks: &[Check<'_>], good: &mut [bool]) {
        self.sort_by_signer(checks, TAG_BYTES);
        for signer in 0..self.keyring.nodes() {
            let indices = &self.order[self.starts[signer]..self.starts[signer + 1]];
            #[allow(clippy::cast_possible_truncation, reason = "nodes are numbered by u16")]
            let Some(key) = self.keyring.incoming(NodeId(signer as u16)) else { continue };
            let blocks = indices.iter().map(|&index| &checks[index as usize].block);
            each_tag(key, blocks, |at, tag| {
                let index = indices[at] as usize;
                good[index] = checks[index].proof.try_into().is_ok_and(|proof: &Tag| same_tag(tag, proof));
            });
        }
    }

    /// Sorts the indices of checks with a proof of `proof_bytes` by signer (a counting sort).
    fn sort_by_signer(&mut self, checks: &[Check<'_>], proof_bytes: usize) {
        let nodes = self.keyring.nodes();
        let signer = |check: &Check<'_>| {
            Some(usize::from(check.signer.0)).filter(|&signer| signer < nodes && check.proof.len() == proof_bytes)
        };
        self.starts.clear();
        self.starts.resize(nodes + 2, 0);
        // Counted two places up, so that the starts come out one place up, and placing the indices moves them down.
        for signer in checks.iter().filter_map(signer) {
            self.starts[signer + 2] += 1;
        }
        for node in 1..self.starts.len() {
            self.starts[node] += self.starts[node - 1];
        }
        self.order.clear();
        self.order.resize(self.starts[nodes + 1], 0);
        for (index, check) in checks.iter().enumerate() {
            let Some(signer) = signer(check) else { continue };
            let at = &mut self.starts[signer + 1];
            self.order[*at] = u32::try_from(index).expect("fewer than 2^32 checks fit in memory");
            *at += 1;
        }
    }

    fn verify_singly(&self, checks: &[Check<'_>], good: &mut [bool]) {
        for (check, good) in checks.iter().zip(good) {
            let key = self.keyring.public(check.signer);
            let proof: Option<&[u8; SIGNATURE_BYTES]> = check.proof.try_into().ok();
            *good = key.zip(proof).is_some_and(|(key, proof)| signature::verify(key, &check.block.0, proof));
        }
    }

    /// Checks those of `checks` whose indices are in `parts`, each the business of another party.
    fn verify_batch(
        &mut self,
        checks: &[Check<'_>],
        parts: impl Iterator<Item = impl Iterator<Item = usize>>,
        good: &mut [bool],
    ) {
        let mut batch = SignatureBatch::with_capacity(checks.len());
        let mut indices = Vec::with_capacity(checks.len());
        for part in parts {
            for index in part {
                let check = &checks[index];
                let proof: Option<&[u8; SIGNATURE_BYTES]> = check.proof.try_into().ok();
                if let Some((key, proof)) = self.keyring.public(check.signer).zip(proof) {
                    batch.push(key, &check.block.0, proof);
                    indices.push(index);
                }
            }
            batch.end_part();
        }
        for (index, verdict) in indices.into_iter().zip(batch.verify()) {
            good[index] = verdict;
        }
        self.effort += batch.effort();
    }
}

/// Whether two tags are equal, in time that does not depend on where they differ. As numbers, because comparing bytes
/// one by one in constant time costs more than the tag itself.
fn same_tag(a: &Tag, b: &Tag) -> bool {
    u128::from_le_bytes(*a).ct_eq(&u128::from_le_bytes(*b)).into()
}

#[cfg(test)]
mod tests;
