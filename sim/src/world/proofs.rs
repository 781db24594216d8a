//! Who can prove what: the verify stage, without the cost of real cryptography.
//!
//! A client's authenticator is the set of replicas at which it holds, sealed so that nobody but the client can make
//! one; it travels where the real ones do, so that a primary which has lost it can not prove a request. It covers a
//! request, or a group of them by the group's digest. An origin's signature is a keyed hash of what it covers.

use bytes::Bytes;
use hippodrome_engine::app::Application as _;
use hippodrome_engine::app::kv::Kv;
use hippodrome_engine::auth::{Digester, GroupDigester};
use hippodrome_engine::protocol::message::{Body, NewView, PrePrepare, Signature, Signed, Verdict, ViewChange};
use hippodrome_engine::protocol::{Authentic, Message};
use hippodrome_engine::quorum::Quorums;
use hippodrome_engine::requests::{Batch, Group, Groups, Proofs, RequestTable, TableBuilder};
use hippodrome_engine::settings::Granularity;
use hippodrome_engine::types::{ClientId, Digest, NodeId, ReplicaId};

use super::torsion::Torsion;

/// Makes and checks proofs.
pub(super) struct Prover {
    quorums: Quorums,
    clients: u32,
    granularity: Granularity,
    secret: [u8; 32],
    digester: Digester,
    validator: Kv,
    pub(super) torsion: Torsion,
}

/// Bytes of a sealed set of replicas.
const TAG_BYTES: usize = 16;
/// Who proves groups: all clients, whoever they are.
const CLIENT_NODE: NodeId = NodeId(u16::MAX);
/// In place of a set: whatever each replica makes of the odd signature.
pub(super) const ODD_SIGNATURE: u64 = u64::MAX;

fn group_digest<'a>(digests: impl IntoIterator<Item = &'a Digest>) -> Digest {
    let mut digester = GroupDigester::default();
    digester.push(digests);
    digester.finish()[0]
}

impl Prover {
    pub(super) fn new(quorums: Quorums, clients: u32, granularity: Granularity, torsion: Torsion) -> Self {
        let secret = *blake3::hash(b"hippodrome simulator").as_bytes();
        Self { quorums, clients, granularity, secret, digester: Digester::default(), validator: Kv::new(), torsion }
    }

    /// One request whose authenticator holds at the replicas of `holds`.
    pub(super) fn request(&mut self, client: ClientId, timestamp: u64, operation: Vec<u8>, holds: u64) -> RequestTable {
        let mut table = RequestTable::empty();
        table.clients.push(client);
        table.timestamps.push(hippodrome_engine::types::Timestamp(timestamp));
        table.operation_ends.push(u32::try_from(operation.len()).unwrap_or(u32::MAX));
        table.operations = operation.into();
        self.digester.digest(&mut table);
        table.proofs = match self.granularity {
            Granularity::Request => {
                Proofs::Tags { columns: 1, bytes: self.tag(&table.digests[0], holds).to_vec().into() }
            }
            Granularity::Frame => self.group(&table, holds),
        };
        table
    }

    /// The first requests of these tables as one group, whose authenticator holds at the replicas of `holds`.
    pub(super) fn frame(&self, tables: &[&RequestTable], holds: u64) -> RequestTable {
        let mut builder = TableBuilder::default();
        tables.iter().for_each(|table| builder.push_unproven(table, 0));
        let mut frame = builder.finish();
        frame.proofs = self.group(&frame, holds);
        frame
    }

    fn group(&self, table: &RequestTable, holds: u64) -> Proofs {
        let group = Group::whole(CLIENT_NODE, table.len());
        let tag = self.tag(&group_digest(&table.digests), holds);
        let groups = Groups::new(vec![group], Vec::new(), 1, Bytes::copy_from_slice(&tag));
        Proofs::Groups(groups.expect("a whole group"))
    }

    fn tag(&self, digest: &Digest, holds: u64) -> [u8; TAG_BYTES] {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        hasher.update(&digest.0).update(&holds.to_le_bytes());
        let mut tag = [0; TAG_BYTES];
        tag[..8].copy_from_slice(&holds.to_le_bytes());
        tag[8..].copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        tag
    }

    /// Where the authenticator of request `index` holds.
    pub(super) fn holds(&self, table: &RequestTable, index: usize) -> u64 {
        let (at, bytes, digest) = match &table.proofs {
            Proofs::Tags { bytes, .. } => (index, bytes, table.digests[index]),
            Proofs::Groups(groups) => {
                let at = groups.of(index);
                (at, groups.proofs(), group_digest(groups.digests(at, &table.digests)))
            }
            Proofs::None | Proofs::Signatures(_) => return 0,
        };
        let Some(tag) = bytes.get(at * TAG_BYTES..(at + 1) * TAG_BYTES) else { return 0 };
        let mut holds = [0; 8];
        holds.copy_from_slice(&tag[..8]);
        let holds = u64::from_le_bytes(holds);
        if table.clients[index].0 >= self.clients || self.tag(&digest, holds) != tag {
            return 0;
        }
        if holds == ODD_SIGNATURE { self.torsion.accepting() } else { holds }
    }

    /// What `replica` lets pass of a table of requests: what proves itself and is valid.
    pub(super) fn admit(&self, table: &RequestTable, replica: ReplicaId) -> Option<RequestTable> {
        let good: Vec<usize> = (0..table.len()).filter(|&index| self.is_good(table, index, replica)).collect();
        (!good.is_empty()).then(|| table.select(&good))
    }

    fn is_good(&self, table: &RequestTable, index: usize, replica: ReplicaId) -> bool {
        self.holds(table, index) & 1 << replica.0 != 0 && self.is_valid(table, index)
    }

    /// Whether the application takes the operation.
    pub(super) fn is_valid(&self, table: &RequestTable, index: usize) -> bool {
        self.validator.validate(table.operation(index)).is_ok()
    }

    /// Signs what `own` says itself; `None` if it speaks in another's name without that one's signature.
    pub(super) fn seal(&self, own: ReplicaId, message: &Message) -> Option<Message> {
        match message {
            Message::ViewChange(Signed { content, signature: None }) => (content.replica == own).then(|| {
                let signature = Some(self.sign_view_change(content));
                Message::ViewChange(Signed { content: content.clone(), signature })
            }),
            Message::NewView(Signed { content, signature: None }) => {
                (self.quorums.primary(content.view) == own).then(|| {
                    let signature = Some(self.sign_new_view(content));
                    Message::NewView(Signed { content: content.clone(), signature })
                })
            }
            message => Some(message.clone()),
        }
    }

    fn sign_view_change(&self, content: &ViewChange) -> Signature {
        self.sign(b"view change", content.replica, &content.digest())
    }

    fn sign_new_view(&self, content: &NewView) -> Signature {
        self.sign(b"new view", self.quorums.primary(content.view), &content.digest())
    }

    fn sign(&self, kind: &[u8], origin: ReplicaId, digest: &Digest) -> Signature {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        hasher.update(kind).update(&origin.0.to_le_bytes()).update(&digest.0);
        let mut signature = [0; 64];
        hasher.finalize_xof().fill(&mut signature);
        signature
    }

    /// What `receiver` makes of a message: `None` if it is refused before it gets to the protocol. `doubtful`: digests
    /// in it may be made up, and are computed again as decoding does.
    pub(super) fn authenticate(
        &mut self,
        sender: ReplicaId,
        receiver: ReplicaId,
        message: &Message,
        doubtful: bool,
    ) -> Option<Authentic> {
        let mut requests = Verdict::GOOD;
        let message = match message {
            Message::ViewChange(signed) => {
                (signed.signature == Some(self.sign_view_change(&signed.content))).then(|| message.clone())?
            }
            Message::NewView(signed) => {
                (signed.signature == Some(self.sign_new_view(&signed.content))).then(|| message.clone())?
            }
            Message::Forward(table) => {
                let table = if doubtful { self.digested(table) } else { table.as_ref().clone() };
                Message::Forward(self.admit(&table, receiver)?.into())
            }
            Message::PrePrepare(content) => {
                let batch =
                    if doubtful { Batch::new(self.digested(&content.batch.requests)) } else { content.batch.clone() };
                requests = self.verdict(&batch.requests, receiver);
                Message::PrePrepare(PrePrepare { batch, ..*content })
            }
            Message::Body(body) if doubtful => {
                Message::Body(Body { batch: Batch::new(self.digested(&body.batch.requests)), ..*body })
            }
            message => message.clone(),
        };
        Some(Authentic { sender, message, signature: None, requests })
    }

    fn verdict(&self, table: &RequestTable, receiver: ReplicaId) -> Verdict {
        let unproven = (0..table.len()).filter(|&index| self.holds(table, index) & 1 << receiver.0 == 0);
        Verdict {
            unproven: unproven.map(|index| table.clients[index]).collect(),
            invalid: (0..table.len()).any(|index| !self.is_valid(table, index)),
        }
    }

    fn digested(&mut self, table: &RequestTable) -> RequestTable {
        let mut table = table.clone();
        self.digester.digest(&mut table);
        table
    }
}
