//! Checks proofs, as many at a time as there are.

use std::ops::Range;
use std::sync::Arc;

use super::signature::{self, Effort};
use super::strategies::{Judge, Reach, Shares};
use super::{AuthBlock, BlockKind, GroupDigester, Keyring, LinkClass, wide};
use crate::requests::{Groups, Proofs, RequestTable};
use crate::scratch::emptied;
use crate::types::{ClientId, Digest, NodeId, Timestamp};
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

    /// How many proofs are to be checked.
    #[must_use]
    pub fn checks(&self) -> usize {
        self.groups().map_or(self.range.len(), |groups| groups.within(&self.range).len())
    }

    /// The groups that the requests are of, if they are proven in groups.
    const fn groups(&self) -> Option<&'a Groups> {
        match &self.table.proofs {
            Proofs::Groups(groups) => Some(groups),
            Proofs::None | Proofs::Tags { .. } | Proofs::Signatures(_) => None,
        }
    }
}

/// Checks of requests of one signer, each proven by itself, in columns of the same length.
#[derive(Clone, Copy, Debug)]
pub struct RequestChecks<'a> {
    signer: NodeId,
    kind: BlockKind,
    cluster: [u8; 8],
    clients: &'a [ClientId],
    timestamps: &'a [Timestamp],
    digests: &'a [Digest],
    proofs: &'a [u8],
    proof_bytes: usize,
}

impl<'a> RequestChecks<'a> {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Who is said to have made all proofs.
    #[must_use]
    pub const fn signer(&self) -> NodeId {
        self.signer
    }

    /// The proofs, one after the other, and the bytes of each.
    #[must_use]
    pub const fn proofs(&self) -> (&'a [u8], usize) {
        (self.proofs, self.proof_bytes)
    }

    /// Writes what the proofs from `start` on are about into `blocks`, as many as there is room for.
    ///
    /// # Panics
    /// If there are fewer than that.
    pub fn set_blocks(&self, start: usize, blocks: &mut [AuthBlock]) {
        let rows = start..start + blocks.len();
        let columns = (&self.clients[rows.clone()], &self.timestamps[rows.clone()]);
        AuthBlock::set_requests((self.kind, self.cluster), columns, &self.digests[rows], blocks);
    }

    /// Each by itself.
    pub fn checks(&self) -> impl Iterator<Item = Check<'a>> + use<'a> {
        let Self { signer, kind, cluster, clients, timestamps, digests, proofs, proof_bytes } = *self;
        (0..clients.len()).map(move |at| {
            let block = AuthBlock::of_client(kind, cluster, clients[at], timestamps[at], &digests[at]);
            Check { signer, block, proof: &proofs[at * proof_bytes..(at + 1) * proof_bytes] }
        })
    }
}

/// Checks proofs that were made for one node. Keeps its scratch memory from call to call.
#[derive(Debug)]
pub struct Verifier {
    keyring: Arc<Keyring>,
    /// What judges each class of links.
    judges: [Box<dyn Judge>; LinkClass::ALL.len()],
    groups: GroupDigester,
    /// Of requests, empty between calls.
    checks: Vec<Check<'static>>,
    /// One verdict for each check, where that is not one for each request in their order.
    verdicts: Vec<bool>,
    /// Which requests these are of, where each is of one.
    places: Vec<usize>,
}

impl Verifier {
    /// Checks what others prove to `keyring`'s node.
    #[must_use]
    pub fn new(keyring: Arc<Keyring>) -> Self {
        let judges = LinkClass::ALL.map(|class| keyring.strategy(class).judge(&keyring));
        Self {
            keyring,
            judges,
            groups: GroupDigester::default(),
            checks: Vec::new(),
            verdicts: Vec::new(),
            places: Vec::new(),
        }
    }

    /// Checks claims of one class of links. `good` gets one verdict for each, in order; whatever it held is gone. A
    /// signer outside the cluster or a proof of the wrong length is bad.
    pub fn verify(&mut self, class: LinkClass, checks: &[Check<'_>], good: &mut Vec<bool>) {
        self.judge(class, checks, Shares::OfSigners, good);
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
    /// it held is gone. All of a part is bad if its table's proofs are not of the kind that the cluster uses for
    /// requests; a request is bad if its client is beyond the cluster's clients. Who sent the table does not matter
    /// here.
    ///
    /// Of tags, this replica's own column is checked if the table has one for every replica, else the only one.
    ///
    /// Of a group the digest is computed from what is in the table, and its proof is checked once for all of its
    /// requests in a part.
    ///
    /// # Panics
    /// If a table's digests have not been computed: that would be our own error.
    pub fn verify_requests(&mut self, parts: &[Part<'_>], good: &mut Vec<bool>) {
        let is_light = !self.keyring.strategy(LinkClass::ClientToReplica).is_heavy();
        if is_light && parts.iter().all(|part| part.groups().is_none()) {
            return self.verify_in_columns(parts, good);
        }
        let mut digests = self.digest_groups(parts).into_iter();
        let mut checks: Vec<Check<'_>> = emptied(std::mem::take(&mut self.checks));
        checks.reserve(parts.iter().map(Part::checks).sum());
        for part in parts {
            match part.groups() {
                Some(groups) => self.push_group_checks(part, groups, &mut digests, &mut checks),
                None => self.push_checks(part, &mut checks),
            }
        }
        if parts.iter().all(|part| part.groups().is_none()) {
            self.judge(LinkClass::ClientToReplica, &checks, Shares::OfParts(parts), good);
        } else {
            let mut verdicts = std::mem::take(&mut self.verdicts);
            self.judge(LinkClass::ClientToReplica, &checks, Shares::OfParts(parts), &mut verdicts);
            self.spread(parts, &verdicts, good);
            self.verdicts = verdicts;
        }
        self.checks = emptied(checks);
    }

    /// How many proofs of each of `parts`, which were the last to be verified, are good and yet made combined checks
    /// fail; nothing at all if none are.
    #[must_use]
    pub fn odd(&self, parts: &[Part<'_>]) -> Vec<usize> {
        let odd = self.judges[LinkClass::ClientToReplica as usize].odd();
        if odd.is_empty() {
            return Vec::new();
        }
        let mut start = 0;
        let of_part = |part: &Part<'_>| {
            let own = start..start + part.checks();
            start = own.end;
            odd.iter().filter(|check| own.contains(check)).count()
        };
        parts.iter().map(of_part).collect()
    }

    /// What verdicts about signatures in batches have cost so far.
    #[must_use]
    pub fn effort(&self) -> Effort {
        let mut effort = Effort::default();
        self.judges.iter().for_each(|judge| effort += judge.effort());
        effort
    }

    /// The same of requests that are proven one by one, where a check costs so little that moving each through memory
    /// counts. Whose business they are makes no difference to what light checks cost.
    fn verify_in_columns(&mut self, parts: &[Part<'_>], good: &mut Vec<bool>) {
        good.clear();
        good.resize(parts.iter().map(|part| part.range.len()).sum(), false);
        let Self { keyring, judges, checks, verdicts, places, .. } = self;
        let judge = &mut judges[LinkClass::ClientToReplica as usize];
        // What does not fill SIMD lanes is gathered, so that signers who take turns are still checked side by side.
        let mut few: Vec<Check<'_>> = emptied(std::mem::take(checks));
        places.clear();
        let mut first = 0;
        for part in parts {
            for_each_signer(keyring, part, |requests, at| {
                let place = first + at..first + at + requests.len();
                if requests.len() >= wide::LANES {
                    judge.judge_requests(&requests, &mut good[place]);
                } else {
                    few.extend(requests.checks());
                    places.extend(place);
                }
            });
            first += part.range.len();
        }
        if !few.is_empty() {
            verdicts.clear();
            verdicts.resize(few.len(), false);
            judge.judge(&few, Shares::OfSigners, verdicts);
            places.iter().zip(&*verdicts).for_each(|(place, verdict)| good[*place] = *verdict);
        }
        *checks = emptied(few);
    }

    fn judge(&mut self, class: LinkClass, checks: &[Check<'_>], shares: Shares<'_>, good: &mut Vec<bool>) {
        good.clear();
        good.resize(checks.len(), false);
        self.judges[class as usize].judge(checks, shares, good);
    }

    /// The digests of all groups of which these parts have any request, in order.
    fn digest_groups(&mut self, parts: &[Part<'_>]) -> Vec<Digest> {
        for part in parts {
            let Some(groups) = part.groups() else { continue };
            for at in groups.within(&part.range) {
                self.groups.push(groups.digests(at, &part.table.digests));
            }
        }
        self.groups.finish()
    }

    /// Appends one check for each group of which `part` has any request.
    fn push_group_checks<'a>(
        &self,
        part: &Part<'a>,
        groups: &'a Groups,
        digests: &mut impl Iterator<Item = Digest>,
        checks: &mut Vec<Check<'a>>,
    ) {
        let cluster = self.keyring.cluster();
        let proofs = own_proofs(&self.keyring, part.table);
        for at in groups.within(&part.range) {
            let proof = proofs.and_then(|(bytes, width)| bytes.get(at * width..(at + 1) * width));
            let (group, digest) = (groups.all()[at], digests.next().expect("a digest for each group"));
            // No node has this number.
            let signer = if proof.is_some() { group.node } else { NodeId(u16::MAX) };
            let block = AuthBlock::group(part.reads, cluster, group.node, group.size, &digest);
            checks.push(Check { signer, block, proof: proof.unwrap_or_default() });
        }
    }

    /// Turns verdicts about checks into verdicts about requests: a request is as good as the proof of its group, if the
    /// node that made it speaks for its client.
    fn spread(&self, parts: &[Part<'_>], mut verdicts: &[bool], good: &mut Vec<bool>) {
        good.clear();
        for part in parts {
            let (own, others) = verdicts.split_at(part.checks());
            verdicts = others;
            let Some(groups) = part.groups() else {
                good.extend_from_slice(own);
                continue;
            };
            for (at, verdict) in groups.within(&part.range).zip(own) {
                let (range, node) = (groups.range(at), groups.all()[at].node);
                let range = range.start.max(part.range.start)..range.end.min(part.range.end);
                let clients = &part.table.clients[range];
                good.extend(clients.iter().map(|client| *verdict && self.keyring.owner(*client) == Some(node)));
            }
        }
    }

    /// Appends one check for each request of `part`.
    fn push_checks<'a>(&self, part: &Part<'a>, checks: &mut Vec<Check<'a>>) {
        for_each_signer(&self.keyring, part, |requests, _| checks.extend(requests.checks()));
    }
}

/// Hands the requests of `part`, which are proven one by one, to `take`: those of the same signer that follow each
/// other together, with their place in the part.
pub(super) fn for_each_signer<'a>(keyring: &Keyring, part: &Part<'a>, mut take: impl FnMut(RequestChecks<'a>, usize)) {
    let Part { table, range, .. } = part;
    assert_eq!(table.digests.len(), table.len(), "digests are computed before requests are verified");
    let kind = if part.reads { BlockKind::Read } else { BlockKind::Request };
    // No node has this number: all its checks fail.
    let stranger = NodeId(u16::MAX);
    let proofs = own_proofs(keyring, table);
    let (bytes, proof_bytes) = proofs.unwrap_or_default();
    let mut start = range.start;
    while start < range.end {
        let (owner, clients) = keyring.owner_of_first(&table.clients[start..range.end]);
        let end = start + clients;
        take(
            RequestChecks {
                signer: owner.filter(|_| proofs.is_some()).unwrap_or(stranger),
                kind,
                cluster: keyring.cluster(),
                clients: &table.clients[start..end],
                timestamps: &table.timestamps[start..end],
                digests: &table.digests[start..end],
                proofs: &bytes[start * proof_bytes..end * proof_bytes],
                proof_bytes,
            },
            start - range.start,
        );
        start = end;
    }
}

/// The proofs of `table` that are meant for this node and the bytes of each; `None` if they are not of the kind
/// that the cluster uses or not as many as there are requests, or groups of them.
fn own_proofs<'a>(keyring: &Keyring, table: &'a RequestTable) -> Option<(&'a [u8], usize)> {
    let about = keyring.strategy(LinkClass::ClientToReplica).about();
    let width = about.proof_bytes;
    let (count, tag_columns, bytes) = match &table.proofs {
        Proofs::None => return (about.reach == Reach::Nobody).then_some((&[], width)),
        Proofs::Groups(groups) if keyring.proves_groups() && groups.requests() == table.len() => {
            (groups.len(), Some(groups.columns()).filter(|columns| *columns > 0), groups.proofs())
        }
        Proofs::Tags { columns, bytes } if !keyring.proves_groups() => (table.len(), Some(*columns), bytes),
        Proofs::Signatures(bytes) if !keyring.proves_groups() => (table.len(), None, bytes),
        Proofs::Tags { .. } | Proofs::Signatures(_) | Proofs::Groups(_) => return None,
    };
    let column_bytes = count * width;
    match (about.reach, tag_columns) {
        (Reach::Receiver, Some(columns)) => {
            let columns = usize::from(columns);
            let column = match columns {
                1 => 0,
                n if n == keyring.quorums().n() => usize::from(keyring.own().0),
                _ => return None,
            };
            let whole = bytes.len() == columns * column_bytes;
            whole.then(|| bytes.get(column * column_bytes..(column + 1) * column_bytes)).flatten()
        }
        (Reach::Everybody, None) => (bytes.len() == column_bytes).then_some(&bytes[..]),
        _ => None,
    }
    .map(|bytes| (bytes, width))
}

#[cfg(test)]
mod tests;
