//! Messages between replicas. Each ends with the proof of its sender, of as many bytes as the strategy says.
//!
//! | kind | body before the proof |
//! |---|---|
//! | pre-prepare | view (8), sequence number (8), table |
//! | pre-prepare by digests | view (8), sequence number (8), count (4), clients, timestamps, digests (32) |
//! | prepare, commit, committed | view (8), sequence number (8), batch digest (32) |
//! | checkpoint | sequence number (8), state digest (32) |
//! | status | view (8), active (1), view-changes (8), stable (8), committed (8), count of slots (4), slots |
//! | forward | table |
//! | body | sequence number (8), table without proofs |
//! | view-change, new-view | see `views` |
//! | state-wanted | sequence number (8) |
//! | fetch-state | sequence number (8), index (4) |
//! | state-chunk | sequence number (8), index (4), count of chunks (4), length (4), the chunk |
//!
//! A slot of a status is prepares (8), commits (8), flags (1).
//!
//! Proofs do not cover these bytes but the [`AuthBlock`] of what they say, whose digest is always recomputed: over the
//! requests' digests where there are requests, over the body's bytes for a status message.

use std::sync::Arc;

use bytes::Bytes;

use super::frame::{FrameKind, SharedFrame};
use super::numbers;
use super::reader::{DecodeError, Reader, put_clients_and_timestamps, put_column};
use super::requests::{self, ProofColumns, bytes_before_proofs_max, decode_table, encode_before_proofs};
use super::views::{
    Origin, decode_new_view, decode_view_change, encode_new_view, encode_view_change, new_view_block, view_change_block,
};
use crate::auth::long::LongHasher;
use crate::auth::{AuthBlock, BlockKind, Digester, LinkClass, Sealer, Strategy};
use crate::limits::{REQUESTS_MAX, STATE_CHUNK_BYTES_MAX, STATUS_SLOTS_MAX};
use crate::protocol::message::{
    Body, Checkpoint, DigestPrePrepare, FetchState, Message, PrePrepare, SlotStatus, StateChunk, Status, Vote,
};
use crate::requests::{Batch, Manifest, RequestTable, digest_of};
use crate::types::{Digest, NodeId, ReplicaId, SequenceNumber, View};

/// Bytes of a slot of a status message.
const SLOT_BYTES: usize = 8 + 8 + 1;
/// Flags of a status message and of its slots.
const ACTIVE: u8 = 1;
const SUSPECTS: u8 = 1 << 1;
const PRE_PREPARED: u8 = 1;
const PREPARED: u8 = 1 << 1;
const COMMITTED: u8 = 1 << 2;
const ANNOUNCED: u8 = 1 << 3;

/// A decoded message, not yet authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// What is said.
    pub message: Message,
    /// What the proof is about.
    pub block: AuthBlock,
    /// The sender's proof.
    pub proof: Bytes,
    /// Of what may have been passed on: the proof of whoever said it first.
    pub origin: Option<Origin>,
}

/// What a decoder knows of its cluster.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    /// The start of the cluster's fingerprint.
    pub(super) cluster: [u8; 8],
    /// n.
    pub(super) replicas: usize,
    /// The strategy of requests.
    pub(super) requests: Strategy,
    /// Bytes of a proof between replicas.
    pub(super) proof_bytes: usize,
}

/// Decodes a message. Digests are recomputed; operations and proofs are slices of `body`, but for those of
/// [received](Batch::received) batches.
///
/// # Errors
/// If the frame is no message between replicas, or not one within the limits.
pub(super) fn decode_message(
    kind: FrameKind,
    sender: ReplicaId,
    body: Bytes,
    context: Context,
    digester: &mut Digester,
) -> Result<Decoded, DecodeError> {
    let Context { cluster, replicas, requests, proof_bytes } = context;
    let mut reader = Reader::new(body);
    let proof = reader.trailer(proof_bytes)?;
    let mut origin = None;
    // Of a status message the digest covers the bytes; every other kind has a digest of its content.
    let status_digest = if kind == FrameKind::Status { blake3::hash(reader.rest()).into() } else { Digest::default() };
    let message = match kind {
        FrameKind::PrePrepare => Message::PrePrepare(PrePrepare {
            view: View(reader.u64()?),
            sequence: SequenceNumber(reader.u64()?),
            batch: Batch::received(decode_table(&mut reader, Some(requests), digester)?),
        }),
        FrameKind::DigestPrePrepare => Message::DigestPrePrepare(decode_by_digests(&mut reader)?),
        FrameKind::Prepare => Message::Prepare(decode_vote(&mut reader)?),
        FrameKind::Commit => Message::Commit(decode_vote(&mut reader)?),
        FrameKind::Committed => Message::Committed(decode_vote(&mut reader)?),
        FrameKind::Checkpoint => {
            Message::Checkpoint(Checkpoint { sequence: SequenceNumber(reader.u64()?), digest: reader.digest()? })
        }
        FrameKind::Status => Message::Status(decode_status(&mut reader)?),
        FrameKind::Forward => Message::Forward(Arc::new(decode_table(&mut reader, Some(requests), digester)?)),
        FrameKind::Body => Message::Body(decode_body(&mut reader, digester)?),
        FrameKind::ViewChange => {
            let (signed, signer) = decode_view_change(&mut reader, cluster)?;
            origin = Some(signer);
            Message::ViewChange(signed)
        }
        FrameKind::NewView => {
            let (signed, signer) = decode_new_view(&mut reader, cluster, replicas)?;
            origin = Some(signer);
            Message::NewView(signed)
        }
        FrameKind::StateWanted => Message::StateWanted(SequenceNumber(reader.u64()?)),
        FrameKind::FetchState => Message::FetchState(decode_fetch(&mut reader)?),
        FrameKind::StateChunk => Message::StateChunk(decode_chunk(&mut reader)?),
        FrameKind::Hello
        | FrameKind::Welcome
        | FrameKind::Proof
        | FrameKind::Refusal
        | FrameKind::Requests
        | FrameKind::Reads
        | FrameKind::ReadReplies
        | FrameKind::Replies
        | FrameKind::BatchDigest
        | FrameKind::Answering => return Err(DecodeError::NotAMessage),
    };
    reader.finish()?;
    // Whoever passes something on proves the same block in its own name; its digest is the costly part.
    let block = match &origin {
        Some(origin) => origin.block.said_by(sender),
        None => block(&message, cluster, sender, || status_digest),
    };
    Ok(Decoded { message, block, proof, origin })
}

fn decode_by_digests(reader: &mut Reader) -> Result<DigestPrePrepare, DecodeError> {
    let (view, sequence) = (View(reader.u64()?), SequenceNumber(reader.u64()?));
    let count = reader.u32()? as usize;
    if count > REQUESTS_MAX {
        return Err(DecodeError::TooManyRequests);
    }
    let (clients, timestamps) = reader.clients_and_timestamps(count)?;
    let digests = reader.column(count, Digest)?;
    Ok(DigestPrePrepare { view, sequence, manifest: Arc::new(Manifest::new(clients, timestamps, digests)) })
}

fn decode_vote(reader: &mut Reader) -> Result<Vote, DecodeError> {
    Ok(Vote { view: View(reader.u64()?), sequence: SequenceNumber(reader.u64()?), digest: reader.digest()? })
}

fn decode_fetch(reader: &mut Reader) -> Result<FetchState, DecodeError> {
    Ok(FetchState { sequence: SequenceNumber(reader.u64()?), index: reader.u32()? })
}

fn decode_chunk(reader: &mut Reader) -> Result<StateChunk, DecodeError> {
    let (sequence, index, count) = (SequenceNumber(reader.u64()?), reader.u32()?, reader.u32()?);
    let len = reader.u32()? as usize;
    if len > STATE_CHUNK_BYTES_MAX {
        return Err(DecodeError::ChunkTooLong);
    }
    Ok(StateChunk { sequence, index, count, bytes: reader.take(len)? })
}

fn decode_status(reader: &mut Reader) -> Result<Status, DecodeError> {
    let view = View(reader.u64()?);
    let flags = reader.u8()?;
    if flags & !(ACTIVE | SUSPECTS) != 0 {
        return Err(DecodeError::UnknownFlags);
    }
    let (active, suspects) = (flags & ACTIVE != 0, flags & SUSPECTS != 0);
    let view_changes = reader.u64()?;
    let (stable, committed) = (SequenceNumber(reader.u64()?), SequenceNumber(reader.u64()?));
    let count = reader.u32()? as usize;
    if count > STATUS_SLOTS_MAX {
        return Err(DecodeError::TooManySlots);
    }
    let mut slots = Vec::with_capacity(count);
    for _ in 0..count {
        let (prepares, commits, flags) = (reader.u64()?, reader.u64()?, reader.u8()?);
        if flags & !(PRE_PREPARED | PREPARED | COMMITTED | ANNOUNCED) != 0 {
            return Err(DecodeError::UnknownFlags);
        }
        slots.push(SlotStatus {
            pre_prepared: flags & PRE_PREPARED != 0,
            announced: flags & ANNOUNCED != 0,
            prepared: flags & PREPARED != 0,
            committed: flags & COMMITTED != 0,
            prepares,
            commits,
        });
    }
    Ok(Status { view, active, suspects, view_changes, stable, committed, slots })
}

fn decode_body(reader: &mut Reader, digester: &mut Digester) -> Result<Body, DecodeError> {
    let sequence = SequenceNumber(reader.u64()?);
    Ok(Body { sequence, batch: Batch::received(decode_table(reader, None, digester)?) })
}

/// One message as sealed frames for any number of receivers. What all of them get is encoded once.
#[derive(Debug)]
pub struct Outgoing<'a> {
    sealer: &'a Sealer,
    block: AuthBlock,
    /// The requests whose proofs follow, if the message carries requests with proofs.
    proven: Option<(&'a RequestTable, ProofsFor)>,
    frame: SharedFrame,
    /// The one frame for all, once it was asked for, where all get the same.
    shared: Option<Bytes>,
}

/// For whom the requests' proofs in a message are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProofsFor {
    /// The receiver, who keeps the requests (pre-prepare).
    Receiver,
    /// The receiver and everybody it will send the requests to (forward).
    Everybody,
}

impl ProofsFor {
    const fn columns(self, to: ReplicaId) -> ProofColumns {
        match self {
            Self::Receiver => ProofColumns::Of(to),
            Self::Everybody => ProofColumns::All,
        }
    }
}

impl<'a> Outgoing<'a> {
    /// Prepares `message` of the sealer's node.
    ///
    /// # Panics
    /// If the sealer's node is no replica: that would be our own error.
    #[must_use]
    pub fn new(message: &'a Message, sealer: &'a Sealer) -> Self {
        Self::within(message, sealer, Vec::new())
    }

    /// The same in the memory of `scratch`, whatever that holds.
    ///
    /// # Panics
    /// As [`new`](Self::new) does.
    #[must_use]
    pub fn within(message: &'a Message, sealer: &'a Sealer, scratch: Vec<u8>) -> Self {
        let own = sealer.keyring().own();
        assert!(usize::from(own.0) < sealer.keyring().quorums().n(), "replicas send messages");
        let (kind, proven) = match message {
            Message::PrePrepare(m) => (FrameKind::PrePrepare, Some((&m.batch.requests, ProofsFor::Receiver))),
            Message::DigestPrePrepare(_) => (FrameKind::DigestPrePrepare, None),
            Message::Prepare(_) => (FrameKind::Prepare, None),
            Message::Commit(_) => (FrameKind::Commit, None),
            Message::Checkpoint(_) => (FrameKind::Checkpoint, None),
            Message::Status(_) => (FrameKind::Status, None),
            Message::Forward(table) => (FrameKind::Forward, Some((&**table, ProofsFor::Everybody))),
            Message::Committed(_) => (FrameKind::Committed, None),
            Message::Body(_) => (FrameKind::Body, None),
            Message::ViewChange(_) => (FrameKind::ViewChange, None),
            Message::NewView(_) => (FrameKind::NewView, None),
            Message::StateWanted(_) => (FrameKind::StateWanted, None),
            Message::FetchState(_) => (FrameKind::FetchState, None),
            Message::StateChunk(_) => (FrameKind::StateChunk, None),
        };
        let body = encode_before_tail(message, sealer, scratch);
        let block = block(message, sealer.keyring().cluster(), ReplicaId(own.0), || blake3::hash(&body).into());
        // Every replica's column has the same length.
        let proofs_bytes =
            proven.map_or(0, |(table, proofs)| requests::selected(table, proofs.columns(ReplicaId(0))).bytes.len());
        let tail_bytes = proofs_bytes + sealer.proof_bytes(LinkClass::ReplicaToReplica);
        Self { sealer, block, proven, frame: SharedFrame::new(kind, own, body, tail_bytes), shared: None }
    }

    /// The sealed frame for replica `to`.
    ///
    /// # Panics
    /// If `to` is no replica of the cluster: that would be our own error.
    #[must_use]
    pub fn for_receiver(&mut self, to: ReplicaId) -> Bytes {
        if let Some(frame) = &self.shared {
            return frame.clone();
        }
        let frame = self.frame.with_tail(|out| {
            if let Some((table, proofs)) = self.proven {
                out.extend_from_slice(requests::selected(table, proofs.columns(to)).bytes);
            }
            self.sealer.seal(LinkClass::ReplicaToReplica, NodeId::of(to), &self.block, out);
        });
        if self.same_for_all() {
            self.shared = Some(frame.clone());
        }
        frame
    }

    /// The memory that it was prepared in, for the next one.
    #[must_use]
    pub fn into_scratch(self) -> Vec<u8> {
        self.frame.into_body()
    }

    /// Whether all receivers get the same frame.
    #[must_use]
    pub fn same_for_all(&self) -> bool {
        let own_column =
            |(table, proofs): (&RequestTable, ProofsFor)| proofs == ProofsFor::Receiver && table.proofs.columns() > 1;
        self.sealer.same_for_all(LinkClass::ReplicaToReplica) && !self.proven.is_some_and(own_column)
    }
}

/// The sealed frame of one message for one replica.
///
/// # Panics
/// As [`Outgoing`] does.
#[must_use]
pub fn encode_message(message: &Message, to: ReplicaId, sealer: &Sealer) -> Bytes {
    Outgoing::new(message, sealer).for_receiver(to)
}

/// The body up to what differs from receiver to receiver: the requests' proofs and the sender's. In place of whatever
/// `out` holds.
fn encode_before_tail(message: &Message, sealer: &Sealer, mut out: Vec<u8>) -> Vec<u8> {
    out.clear();
    match message {
        Message::PrePrepare(PrePrepare { view, sequence, batch }) => {
            out.reserve(16 + bytes_before_proofs_max(&batch.requests, ProofColumns::Of(ReplicaId(0))));
            out.extend_from_slice(&view.0.to_le_bytes());
            out.extend_from_slice(&sequence.0.to_le_bytes());
            encode_before_proofs(&mut out, &batch.requests, ProofColumns::Of(ReplicaId(0)));
        }
        Message::DigestPrePrepare(DigestPrePrepare { view, sequence, manifest }) => {
            assert!(manifest.len() <= REQUESTS_MAX, "batches are bounded");
            out.reserve(20 + 2 * numbers::HEAD_BYTES + manifest.bytes());
            out.extend_from_slice(&view.0.to_le_bytes());
            out.extend_from_slice(&sequence.0.to_le_bytes());
            #[allow(clippy::cast_possible_truncation, reason = "checked above")]
            out.extend_from_slice(&(manifest.len() as u32).to_le_bytes());
            put_clients_and_timestamps(&mut out, manifest.clients(), manifest.timestamps());
            put_column(&mut out, manifest.digests(), |digest| digest.0);
        }
        Message::Prepare(vote) | Message::Commit(vote) | Message::Committed(vote) => {
            out.reserve(48);
            out.extend_from_slice(&vote.view.0.to_le_bytes());
            out.extend_from_slice(&vote.sequence.0.to_le_bytes());
            out.extend_from_slice(&vote.digest.0);
        }
        Message::Checkpoint(Checkpoint { sequence, digest }) => {
            out.extend_from_slice(&sequence.0.to_le_bytes());
            out.extend_from_slice(&digest.0);
        }
        Message::Status(status) => encode_status(&mut out, status),
        Message::Forward(table) => encode_before_proofs(&mut out, table, ProofColumns::All),
        Message::Body(Body { sequence, batch }) => {
            out.extend_from_slice(&sequence.0.to_le_bytes());
            encode_before_proofs(&mut out, &batch.requests, ProofColumns::None);
        }
        Message::ViewChange(signed) => {
            let (keyring, origin) = (sealer.keyring(), signed.content.replica);
            let sign = || sealer.sign_as_origin(origin, &view_change_block(&signed.content, keyring.cluster(), origin));
            encode_view_change(&mut out, &signed.content, &signed.signature.unwrap_or_else(sign));
        }
        Message::NewView(signed) => {
            let keyring = sealer.keyring();
            let origin = keyring.quorums().primary(signed.content.view);
            let sign = || sealer.sign_as_origin(origin, &new_view_block(&signed.content, keyring.cluster(), origin));
            encode_new_view(&mut out, &signed.content, &signed.signature.unwrap_or_else(sign));
        }
        Message::StateWanted(sequence) => out.extend_from_slice(&sequence.0.to_le_bytes()),
        Message::FetchState(FetchState { sequence, index }) => {
            out.extend_from_slice(&sequence.0.to_le_bytes());
            out.extend_from_slice(&index.to_le_bytes());
        }
        Message::StateChunk(StateChunk { sequence, index, count, bytes }) => {
            assert!(bytes.len() <= STATE_CHUNK_BYTES_MAX, "chunks are bounded");
            out.reserve(20 + bytes.len());
            out.extend_from_slice(&sequence.0.to_le_bytes());
            #[allow(clippy::cast_possible_truncation, reason = "checked above")]
            for number in [*index, *count, bytes.len() as u32] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            out.extend_from_slice(bytes);
        }
    }
    out
}

fn encode_status(out: &mut Vec<u8>, status: &Status) {
    assert!(status.slots.len() <= STATUS_SLOTS_MAX, "status messages are bounded");
    out.reserve(37 + status.slots.len() * SLOT_BYTES);
    out.extend_from_slice(&status.view.0.to_le_bytes());
    out.push(u8::from(status.active) * ACTIVE + u8::from(status.suspects) * SUSPECTS);
    for number in [status.view_changes, status.stable.0, status.committed.0] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    #[allow(clippy::cast_possible_truncation, reason = "checked above")]
    out.extend_from_slice(&(status.slots.len() as u32).to_le_bytes());
    for slot in &status.slots {
        out.extend_from_slice(&slot.prepares.to_le_bytes());
        out.extend_from_slice(&slot.commits.to_le_bytes());
        let flags = [
            (slot.pre_prepared, PRE_PREPARED),
            (slot.prepared, PREPARED),
            (slot.committed, COMMITTED),
            (slot.announced, ANNOUNCED),
        ];
        out.push(flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum());
    }
}

/// What the proof of `message` is about. `status` gives the digest of a status message's body.
fn block(message: &Message, cluster: [u8; 8], sender: ReplicaId, status: impl FnOnce() -> Digest) -> AuthBlock {
    let zero = SequenceNumber(0);
    let (kind, view, sequence, digest) = match message {
        Message::PrePrepare(m) => (BlockKind::PrePrepare, m.view, m.sequence, m.batch.digest),
        Message::DigestPrePrepare(m) => {
            (BlockKind::DigestPrePrepare, m.view, m.sequence, digest_of_manifest(&m.manifest))
        }
        Message::Prepare(vote) => (BlockKind::Prepare, vote.view, vote.sequence, vote.digest),
        Message::Commit(vote) => (BlockKind::Commit, vote.view, vote.sequence, vote.digest),
        Message::Committed(vote) => (BlockKind::Committed, vote.view, vote.sequence, vote.digest),
        Message::Checkpoint(m) => (BlockKind::Checkpoint, View(0), m.sequence, m.digest),
        Message::Status(m) => (BlockKind::Status, m.view, zero, status()),
        Message::Forward(table) => (BlockKind::Forward, View(0), zero, digest_of_digests(table)),
        Message::Body(m) => (BlockKind::Body, View(0), m.sequence, m.batch.digest),
        // Whoever passes these on proves the same block in its own name.
        Message::ViewChange(signed) => return view_change_block(&signed.content, cluster, sender),
        Message::NewView(signed) => return new_view_block(&signed.content, cluster, sender),
        Message::StateWanted(sequence) => (BlockKind::StateWanted, View(0), *sequence, Digest::default()),
        Message::FetchState(m) => (BlockKind::FetchState, View(0), m.sequence, digest_of_numbers(&[m.index])),
        Message::StateChunk(m) => (BlockKind::StateChunk, View(0), m.sequence, digest_of_chunk(m)),
    };
    AuthBlock::message(kind, cluster, sender, view, sequence, &digest)
}

fn digest_of_numbers(numbers: &[u32]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for number in numbers {
        hasher.update(&number.to_le_bytes());
    }
    hasher.finalize().into()
}

/// The batch's digest covers the requests' digests.
fn digest_of_manifest(manifest: &Manifest) -> Digest {
    let mut hasher = LongHasher::new();
    let clients: Vec<[u8; 4]> = manifest.clients().iter().map(|client| client.0.to_le_bytes()).collect();
    let timestamps: Vec<[u8; 8]> = manifest.timestamps().iter().map(|timestamp| timestamp.0.to_le_bytes()).collect();
    hasher.update(&manifest.digest().0);
    hasher.update(clients.as_flattened());
    hasher.update(timestamps.as_flattened());
    hasher.finish()
}

fn digest_of_chunk(chunk: &StateChunk) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&chunk.index.to_le_bytes()).update(&chunk.count.to_le_bytes()).update(&chunk.bytes);
    hasher.finalize().into()
}

/// The digest that a batch of these requests has (see [`Batch::new`]).
fn digest_of_digests(table: &RequestTable) -> Digest {
    assert_eq!(table.digests.len(), table.len(), "digests are computed before requests are forwarded");
    digest_of(&table.digests)
}

#[cfg(test)]
mod tests;
