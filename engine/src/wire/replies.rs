//! Tables of replies: one replica to the clients of one client node, proven frame by frame.
//!
//! | bytes | content |
//! |---|---|
//! | 8 | the replica's view |
//! | 8 | the sequence number of the batch of which these are all replies to that connection, or 0 |
//! | 4 | count of replies |
//! | a column (see `numbers`) | clients |
//! | a column | timestamps |
//! | a column | lengths of results |
//! | 1 | forms: bit 0, whether each result has a form, or else all are whole; bit 1, whether replies are tentative |
//! | count if they have | form: 0 whole, 1 the result's digest (32 bytes) |
//! | their sum | results |
//! | as many as the strategy says | proof |
//!
//! The proof is of view, sequence number and the digest of what lies between them and the proof. Correct replicas send
//! the same of a batch, so that digest can stand for the replies where another replica sends them ([batch digests]):
//!
//! | bytes | content |
//! |---|---|
//! | 8 | the replica's view |
//! | 8 | the sequence number |
//! | 32 | the digest of the batch's replies |
//! | as many as the strategy says | the proof that the replies would have |
//!
//! [batch digests]: crate::protocol::client::batches

use std::ops::Range;

use bytes::Bytes;

use super::frame::{FrameKind, encode_frame};
use super::numbers;
use super::reader::{DecodeError, Reader, put_clients_and_timestamps, put_lengths};
use crate::auth::{AuthBlock, BlockKind, LinkClass, Sealer, long};
use crate::limits::{
    BATCH_DIGEST_FROM_BYTES, DIGEST_BYTES, FRAME_BODY_BYTES_MAX, PROOF_BYTES_MAX, REQUEST_COLUMNS_BYTES_MAX,
    REQUESTS_MAX, RESULT_BYTES_MAX,
};
use crate::requests::{BatchForm, ReplyTable};
use crate::types::{Digest, NodeId, ReplicaId, SequenceNumber, View};

/// View and sequence number.
const OF_BATCH_BYTES: usize = 8 + 8;
/// These, count, the heads of three columns, and whether there are forms.
const HEAD_BYTES: usize = OF_BATCH_BYTES + 4 + 3 * numbers::HEAD_BYTES + 1;
/// Most bytes of one reply's columns: client, timestamp, length, form.
const COLUMNS_BYTES: usize = REQUEST_COLUMNS_BYTES_MAX + 1;
const FORMS_EACH: u8 = 1;
const FORMS_TENTATIVE: u8 = 2;
const FORM_WHOLE: u8 = 0;
const FORM_DIGEST: u8 = 1;
/// Bytes of replies, columns included, that always fit in one frame.
const REPLIES_BYTES_MAX: usize = FRAME_BODY_BYTES_MAX - HEAD_BYTES - PROOF_BYTES_MAX;

const _: () = assert!(COLUMNS_BYTES + RESULT_BYTES_MAX <= REPLIES_BYTES_MAX);

/// A decoded frame of replies, not yet authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedReplies {
    /// The replica's view, from which clients learn the primary.
    pub view: View,
    /// The batch of which these are all replies over their connection, or 0.
    pub sequence: SequenceNumber,
    /// Whether the replica has only prepared, in that view, what it replies to.
    pub tentative: bool,
    /// The replies.
    pub replies: ReplyTable,
    /// The digest of the replies, which correct replicas have in common.
    pub digest: Digest,
    /// Whether they take less than [`BATCH_DIGEST_FROM_BYTES`].
    pub short: bool,
    /// What the proof is about.
    pub block: AuthBlock,
    /// The proof.
    pub proof: Bytes,
}

/// A decoded digest of a batch's replies, not yet authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedBatchDigest {
    /// The replica's view, from which clients learn the primary.
    pub view: View,
    /// The batch.
    pub sequence: SequenceNumber,
    /// The digest of the replies.
    pub digest: Digest,
    /// What the proof is about: the same as with the replies themselves.
    pub block: AuthBlock,
    /// The proof.
    pub proof: Bytes,
}

/// What kind of requests replies answer: those that were ordered, or read-only ones.
#[derive(Clone, Copy)]
struct Kinds {
    frame: FrameKind,
    block: BlockKind,
    tentative: bool,
}

const ORDERED: Kinds = Kinds { frame: FrameKind::Replies, block: BlockKind::Replies, tentative: false };
const TENTATIVE: Kinds = Kinds { tentative: true, ..ORDERED };
const READ_ONLY: Kinds = Kinds { frame: FrameKind::ReadReplies, block: BlockKind::ReadReplies, tentative: false };

/// The sealed frames of `replies` for client node `to`: one, unless results are so long that they need several. No
/// replies, no frame.
///
/// # Panics
/// If the sealer's node is no replica, or a result is longer than [`RESULT_BYTES_MAX`]: that would be our own error.
#[must_use]
pub fn encode_replies(replies: &ReplyTable, view: View, to: NodeId, sealer: &Sealer) -> Vec<Bytes> {
    encode(ORDERED, replies, view, to, sealer)
}

/// The same of replies to what is only prepared.
///
/// # Panics
/// As [`encode_replies`] does.
#[must_use]
pub fn encode_tentative_replies(replies: &ReplyTable, view: View, to: NodeId, sealer: &Sealer) -> Vec<Bytes> {
    encode(TENTATIVE, replies, view, to, sealer)
}

/// The same of replies to read-only requests, whose numbers stand in the column of timestamps.
///
/// # Panics
/// As [`encode_replies`] does.
#[must_use]
pub fn encode_read_replies(replies: &ReplyTable, view: View, to: NodeId, sealer: &Sealer) -> Vec<Bytes> {
    encode(READ_ONLY, replies, view, to, sealer)
}

/// The digest of the replies to a batch over one connection; `None` if they do not fit in one frame, or there are none.
#[must_use]
pub fn batch_digest(replies: &ReplyTable) -> Option<Digest> {
    Some(long::digest(&content(replies, bytes_in_one_frame(replies)?)))
}

/// The sealed frame of all `replies` to the batch at `sequence` over one connection of client node `to`, or of their
/// digest. Replies that do not fit in one frame are those of no batch, and whole.
///
/// # Panics
/// As [`encode_replies`] does.
#[must_use]
pub fn encode_batch_replies(
    replies: &ReplyTable,
    view: View,
    sequence: SequenceNumber,
    form: BatchForm,
    to: NodeId,
    sealer: &Sealer,
) -> Vec<Bytes> {
    let Some(bytes) = bytes_in_one_frame(replies) else {
        return encode_replies(replies, view, to, sealer);
    };
    if form == BatchForm::Digest {
        let content = content(replies, bytes);
        if content.len() >= BATCH_DIGEST_FROM_BYTES {
            return vec![encode_batch_digest(&long::digest(&content), view, sequence, to, sealer)];
        }
    }
    vec![encode_part(ORDERED, replies, (0..replies.len(), bytes), (view, sequence), to, sealer)]
}

fn encode_batch_digest(digest: &Digest, view: View, sequence: SequenceNumber, to: NodeId, sealer: &Sealer) -> Bytes {
    let own = own(sealer);
    let block = AuthBlock::message(BlockKind::Replies, sealer.keyring().cluster(), own, view, sequence, digest);
    let len = OF_BATCH_BYTES + DIGEST_BYTES + sealer.proof_bytes(LinkClass::ReplicaToClient);
    encode_frame(FrameKind::BatchDigest, NodeId::of(own), len, |out| {
        put_batch(out, view, sequence);
        out.extend_from_slice(&digest.0);
        sealer.seal(LinkClass::ReplicaToClient, to, &block, out);
    })
}

/// The bytes that replies take at most, if there are any and they fit in one frame.
fn bytes_in_one_frame(replies: &ReplyTable) -> Option<usize> {
    if replies.is_empty() {
        return None;
    }
    let (end, bytes) = fitting(replies, 0);
    (end == replies.len()).then_some(bytes)
}

/// What a frame of these replies, which take so many bytes at most, has between sequence number and proof.
fn content(replies: &ReplyTable, bytes: usize) -> Vec<u8> {
    let mut content = Vec::with_capacity(HEAD_BYTES + bytes);
    encode_range(&mut content, replies, false, 0..replies.len());
    content
}

fn encode(kinds: Kinds, replies: &ReplyTable, view: View, to: NodeId, sealer: &Sealer) -> Vec<Bytes> {
    let mut frames = Vec::new();
    let mut start = 0;
    while start < replies.len() {
        let (end, bytes) = fitting(replies, start);
        frames.push(encode_part(kinds, replies, (start..end, bytes), (view, SequenceNumber(0)), to, sealer));
        start = end;
    }
    frames
}

/// The sealed frame of some of these replies, which take so many bytes at most.
fn encode_part(
    kinds: Kinds,
    replies: &ReplyTable,
    (rows, bytes): (Range<usize>, usize),
    (view, sequence): (View, SequenceNumber),
    to: NodeId,
    sealer: &Sealer,
) -> Bytes {
    let own = own(sealer);
    let len = HEAD_BYTES + bytes + sealer.proof_bytes(LinkClass::ReplicaToClient);
    encode_frame(kinds.frame, NodeId::of(own), len, |out| {
        put_batch(out, view, sequence);
        let content_at = out.len();
        encode_range(out, replies, kinds.tentative, rows);
        let digest = long::digest(&out[content_at..]);
        let block = AuthBlock::message(kinds.block, sealer.keyring().cluster(), own, view, sequence, &digest);
        sealer.seal(LinkClass::ReplicaToClient, to, &block, out);
    })
}

/// Who seals.
fn own(sealer: &Sealer) -> ReplicaId {
    let own = sealer.keyring().own();
    assert!(usize::from(own.0) < sealer.keyring().quorums().n(), "replicas reply");
    ReplicaId(own.0)
}

fn put_batch(out: &mut Vec<u8>, view: View, sequence: SequenceNumber) {
    out.extend_from_slice(&view.0.to_le_bytes());
    out.extend_from_slice(&sequence.0.to_le_bytes());
}

/// How far replies from `start` fit in one frame, and the bytes that they take at most.
fn fitting(replies: &ReplyTable, start: usize) -> (usize, usize) {
    let columns_bytes = COLUMNS_BYTES - usize::from(replies.digested.is_empty());
    // Mostly all the rest does, and the ends tell so without a look at each result.
    let before = start.checked_sub(1).map_or(0, |last| replies.result_ends[last]);
    let ends = &replies.result_ends[start..];
    let first = ends.first().map_or(0, |end| end - before);
    let longest = ends.windows(2).map(|ends| ends[1] - ends[0]).fold(first, u32::max);
    assert!(longest as usize <= RESULT_BYTES_MAX, "results are bounded");
    let rest = ends.len() * columns_bytes + (replies.results.len() - before as usize);
    if ends.len() <= REQUESTS_MAX && rest <= REPLIES_BYTES_MAX {
        return (replies.len(), rest);
    }
    let mut bytes = 0;
    let mut end = start;
    while end < replies.len() && end - start < REQUESTS_MAX {
        let more = columns_bytes + replies.result(end).len();
        if bytes + more > REPLIES_BYTES_MAX {
            break;
        }
        bytes += more;
        end += 1;
    }
    (end, bytes)
}

fn encode_range(out: &mut Vec<u8>, replies: &ReplyTable, tentative: bool, rows: Range<usize>) {
    let Range { start, end } = rows;
    #[allow(clippy::cast_possible_truncation, reason = "bounded by REQUESTS_MAX")]
    out.extend_from_slice(&((end - start) as u32).to_le_bytes());
    put_clients_and_timestamps(out, &replies.clients[start..end], &replies.timestamps[start..end]);
    let from = if start == 0 { 0 } else { replies.result_ends[start - 1] };
    let to = replies.result_ends[end - 1];
    put_lengths(out, from, &replies.result_ends[start..end]);
    let standing = if tentative { FORMS_TENTATIVE } else { 0 };
    if replies.digested.is_empty() {
        out.push(standing);
    } else {
        out.push(FORMS_EACH | standing);
        out.extend(
            replies.digested[start..end].iter().map(|digested| if *digested { FORM_DIGEST } else { FORM_WHOLE }),
        );
    }
    out.extend_from_slice(&replies.results[from as usize..to as usize]);
}

/// Decodes a body whose proof takes `proof_bytes`. Results and proof are slices of it.
///
/// # Errors
/// If the body is not a table of replies within the limits.
pub(super) fn decode_replies(
    sender: ReplicaId,
    body: Bytes,
    cluster: [u8; 8],
    proof_bytes: usize,
) -> Result<DecodedReplies, DecodeError> {
    decode(ORDERED, sender, body, cluster, proof_bytes)
}

/// The same of replies to read-only requests.
///
/// # Errors
/// As [`decode_replies`] has.
pub(super) fn decode_read_replies(
    sender: ReplicaId,
    body: Bytes,
    cluster: [u8; 8],
    proof_bytes: usize,
) -> Result<DecodedReplies, DecodeError> {
    decode(READ_ONLY, sender, body, cluster, proof_bytes)
}

fn decode(
    kinds: Kinds,
    sender: ReplicaId,
    body: Bytes,
    cluster: [u8; 8],
    proof_bytes: usize,
) -> Result<DecodedReplies, DecodeError> {
    let mut reader = Reader::new(body);
    let proof = reader.trailer(proof_bytes)?;
    let (view, sequence) = (View(reader.u64()?), SequenceNumber(reader.u64()?));
    let (digest, short) = (long::digest(reader.rest()), reader.rest().len() < BATCH_DIGEST_FROM_BYTES);
    let count = reader.u32()? as usize;
    if count > REQUESTS_MAX {
        return Err(DecodeError::TooManyReplies);
    }
    let (clients, timestamps) = reader.clients_and_timestamps(count)?;
    let result_ends = reader.ends(
        count,
        (RESULT_BYTES_MAX, DecodeError::ResultTooLong),
        (FRAME_BODY_BYTES_MAX, DecodeError::ResultTooLong),
    )?;
    let forms = reader.u8()?;
    if forms & !(FORMS_EACH | FORMS_TENTATIVE) != 0 {
        return Err(DecodeError::BadForm);
    }
    let digested = if forms & FORMS_EACH == 0 { Vec::new() } else { digested(&mut reader, &result_ends)? };
    let tentative = forms & FORMS_TENTATIVE != 0;
    let reads = matches!(kinds.frame, FrameKind::ReadReplies);
    if tentative && reads {
        return Err(DecodeError::BadForm); // what is read waits until it is committed
    }
    if sequence.0 != 0 && (tentative || reads || !digested.is_empty()) {
        return Err(DecodeError::BadSequence);
    }
    let results = reader.take(result_ends.last().map_or(0, |&end| end as usize))?;
    reader.finish()?;
    let block = AuthBlock::message(kinds.block, cluster, sender, view, sequence, &digest);
    let replies = ReplyTable { clients, timestamps, result_ends, results, digested };
    Ok(DecodedReplies { view, sequence, tentative, replies, digest, short, block, proof })
}

/// Which results are digests.
fn digested(reader: &mut Reader, result_ends: &[u32]) -> Result<Vec<bool>, DecodeError> {
    let forms = reader.take(result_ends.len())?;
    let mut start = 0;
    let digested = forms.iter().zip(result_ends).map(|(form, end)| {
        let length = end - std::mem::replace(&mut start, *end);
        match *form {
            FORM_WHOLE => Ok(false),
            FORM_DIGEST if length as usize == DIGEST_BYTES => Ok(true),
            _ => Err(DecodeError::BadForm),
        }
    });
    digested.collect()
}

/// Decodes the digest of a batch's replies, whose proof takes `proof_bytes`.
///
/// # Errors
/// If the body is of another length, or tells of no batch.
pub(super) fn decode_batch_digest(
    sender: ReplicaId,
    body: Bytes,
    cluster: [u8; 8],
    proof_bytes: usize,
) -> Result<DecodedBatchDigest, DecodeError> {
    let mut reader = Reader::new(body);
    let proof = reader.trailer(proof_bytes)?;
    let (view, sequence) = (View(reader.u64()?), SequenceNumber(reader.u64()?));
    let digest = reader.digest()?;
    reader.finish()?;
    if sequence.0 == 0 {
        return Err(DecodeError::BadSequence);
    }
    let block = AuthBlock::message(BlockKind::Replies, cluster, sender, view, sequence, &digest);
    Ok(DecodedBatchDigest { view, sequence, digest, block, proof })
}

#[cfg(test)]
mod tests;
