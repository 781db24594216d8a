//! Records of the protocol as bytes. Integers are little endian.
//!
//! | kind | record | body |
//! |---|---|---|
//! | 1 | pre-prepared | view (8), sequence number (8), table of requests without proofs |
//! | 2 | prepared | view (8), sequence number (8), batch digest (32) |
//! | 3 | committed | sequence number (8), batch digest (32) |
//! | 4 | view-change | view-change |
//! | 5 | new-view | signature, view (8), count (4) of origin (2), digest (32); count (4) of signature, view-change |
//! | 6 | stable | sequence number (8), state digest (32) |
//! | 7 | suspected | view (8) |
//!
//! A view-change is its origin (2), view (8), stable checkpoint (8), counts (4 each) of checkpoints, prepared and
//! pre-prepared votes, then these: sequence number and digest for a checkpoint, view, sequence number and digest for a
//! vote. A signature is 1 and its 64 bytes, or 0. Tables are those of [`wire::requests`](crate::wire::requests); the
//! proofs of requests are not kept, for what is in the log has been accepted, and digests are recomputed when it is
//! read.

use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use thiserror::Error;

use crate::auth::Digester;
use crate::limits::{CHECKPOINTS_MAX, PRE_PREPARED_MAX, REPLICAS_MAX, WINDOW_MAX};
use crate::named::named_enum;
use crate::protocol::Record;
use crate::protocol::message::{Checkpoint, NewView, PrePrepare, Signature, Signed, ViewChange, Vote};
use crate::requests::Batch;
use crate::types::{Digest, ReplicaId, SequenceNumber, View};
use crate::wire::DecodeError;
use crate::wire::requests::{ProofColumns, decode_requests, encode_table};

named_enum! {
    /// What an entry of the log holds.
    Kind {
        /// [`Record::PrePrepared`].
        PrePrepared = "pre-prepared",
        /// [`Record::Prepared`].
        Prepared = "prepared",
        /// [`Record::Committed`].
        Committed = "committed",
        /// [`Record::ViewChange`].
        ViewChange = "view-change",
        /// [`Record::NewView`].
        NewView = "new-view",
        /// [`Record::Stable`].
        Stable = "stable",
        /// [`Record::Suspected`].
        Suspected = "suspected",
    }
}

impl Kind {
    /// The record's kind.
    #[must_use]
    pub const fn of(record: &Record) -> Self {
        match record {
            Record::PrePrepared(_) => Self::PrePrepared,
            Record::Prepared(_) => Self::Prepared,
            Record::Committed(..) => Self::Committed,
            Record::ViewChange(_) => Self::ViewChange,
            Record::NewView(..) => Self::NewView,
            Record::Stable(_) => Self::Stable,
            Record::Suspected(_) => Self::Suspected,
        }
    }

    /// Its byte on disk.
    #[must_use]
    pub const fn byte(self) -> u8 {
        self as u8 + 1
    }

    /// The kind with this byte.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte).checked_sub(1)?).copied()
    }
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RecordError {
    /// They end before the record does.
    #[error("it ends before its content does")]
    Truncated,
    /// They go on after the record.
    #[error("it goes on after its content")]
    TrailingBytes,
    /// More of something than a record may have.
    #[error("{count} {what}: allowed: at most {max}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// A signature that is neither there nor missing.
    #[error("a signature begins with {0}: allowed: 0, 1")]
    BadSignature(u8),
    /// The table of requests is none.
    #[error("a batch: {0}")]
    Batch(#[from] DecodeError),
}

/// The sequence number that a record is about, if it is about one.
#[must_use]
pub const fn sequence_of(record: &Record) -> Option<SequenceNumber> {
    match record {
        Record::PrePrepared(message) => Some(message.sequence),
        Record::Prepared(vote) => Some(vote.sequence),
        Record::Committed(sequence, _) => Some(*sequence),
        Record::Stable(checkpoint) => Some(checkpoint.sequence),
        Record::ViewChange(_) | Record::NewView(..) | Record::Suspected(_) => None,
    }
}

/// Appends the record's body.
pub fn encode(record: &Record, out: &mut Vec<u8>) {
    match record {
        Record::PrePrepared(PrePrepare { view, sequence, batch }) => {
            out.extend_from_slice(&view.0.to_le_bytes());
            out.extend_from_slice(&sequence.0.to_le_bytes());
            encode_table(out, &batch.requests, ProofColumns::None);
        }
        Record::Prepared(vote) => put_vote(out, vote),
        Record::Committed(sequence, digest) => {
            put_checkpoint(out, &Checkpoint { sequence: *sequence, digest: *digest });
        }
        Record::ViewChange(view_change) => put_view_change(out, view_change),
        Record::NewView(new_view, view_changes) => {
            put_signature(out, new_view.signature.as_ref());
            out.extend_from_slice(&new_view.content.view.0.to_le_bytes());
            put_count(out, new_view.content.view_changes.len());
            for (origin, digest) in &new_view.content.view_changes {
                out.extend_from_slice(&origin.0.to_le_bytes());
                out.extend_from_slice(&digest.0);
            }
            put_count(out, view_changes.len());
            for view_change in view_changes {
                put_signature(out, view_change.signature.as_ref());
                put_view_change(out, &view_change.content);
            }
        }
        Record::Stable(checkpoint) => put_checkpoint(out, checkpoint),
        Record::Suspected(view) => out.extend_from_slice(&view.0.to_le_bytes()),
    }
}

/// The record of this kind that `body` is, digests recomputed. Operations of 64 KiB and more are slices of `body`.
///
/// # Errors
/// If `body` is not one within the limits.
pub fn decode(kind: Kind, body: Bytes, digester: &mut Digester) -> Result<Record, RecordError> {
    let mut fields = Fields(body);
    let record = match kind {
        Kind::PrePrepared => {
            let (view, sequence) = (View(fields.u64()?), SequenceNumber(fields.u64()?));
            let requests = decode_requests(std::mem::take(&mut fields.0), None, digester)?;
            Record::PrePrepared(PrePrepare { view, sequence, batch: Batch::received(requests) })
        }
        Kind::Prepared => Record::Prepared(fields.vote()?),
        Kind::Committed => {
            let Checkpoint { sequence, digest } = fields.checkpoint()?;
            Record::Committed(sequence, digest)
        }
        Kind::ViewChange => Record::ViewChange(Arc::new(fields.view_change()?)),
        Kind::NewView => {
            let signature = fields.signature()?;
            let view = View(fields.u64()?);
            let named = fields.list("view-changes named", REPLICAS_MAX, |fields| {
                Ok((ReplicaId(fields.u16()?), Digest(fields.array()?)))
            })?;
            let view_changes = fields.list("view-changes", REPLICAS_MAX, |fields| {
                let signature = fields.signature()?;
                Ok(Signed { content: Arc::new(fields.view_change()?), signature })
            })?;
            let content = Arc::new(NewView { view, view_changes: named });
            Record::NewView(Signed { content, signature }, view_changes)
        }
        Kind::Stable => Record::Stable(fields.checkpoint()?),
        Kind::Suspected => Record::Suspected(View(fields.u64()?)),
    };
    if fields.0.is_empty() { Ok(record) } else { Err(RecordError::TrailingBytes) }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("lists are bounded by the limits");
    out.extend_from_slice(&count.to_le_bytes());
}

fn put_checkpoint(out: &mut Vec<u8>, checkpoint: &Checkpoint) {
    out.extend_from_slice(&checkpoint.sequence.0.to_le_bytes());
    out.extend_from_slice(&checkpoint.digest.0);
}

fn put_vote(out: &mut Vec<u8>, vote: &Vote) {
    out.extend_from_slice(&vote.view.0.to_le_bytes());
    out.extend_from_slice(&vote.sequence.0.to_le_bytes());
    out.extend_from_slice(&vote.digest.0);
}

fn put_signature(out: &mut Vec<u8>, signature: Option<&Signature>) {
    out.push(u8::from(signature.is_some()));
    out.extend_from_slice(signature.map_or(&[], |signature| signature));
}

fn put_view_change(out: &mut Vec<u8>, view_change: &ViewChange) {
    let ViewChange { replica, view, stable, checkpoints, prepared, pre_prepared } = view_change;
    out.extend_from_slice(&replica.0.to_le_bytes());
    out.extend_from_slice(&view.0.to_le_bytes());
    out.extend_from_slice(&stable.0.to_le_bytes());
    for count in [checkpoints.len(), prepared.len(), pre_prepared.len()] {
        put_count(out, count);
    }
    for checkpoint in checkpoints {
        put_checkpoint(out, checkpoint);
    }
    for vote in prepared.iter().chain(pre_prepared) {
        put_vote(out, vote);
    }
}

/// What is left of a body. Nothing is allocated by a count before as many bytes are there.
struct Fields(Bytes);

impl Fields {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let array = *self.0.first_chunk().ok_or(RecordError::Truncated)?;
        self.0.advance(N);
        Ok(array)
    }

    fn u16(&mut self) -> Result<u16, RecordError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, RecordError> {
        self.array().map(u64::from_le_bytes)
    }

    fn count(&mut self, what: &'static str, max: usize) -> Result<usize, RecordError> {
        let count = u32::from_le_bytes(self.array()?) as usize;
        if count > max {
            return Err(RecordError::TooMany { what, count, max });
        }
        Ok(count)
    }

    fn list<T>(
        &mut self,
        what: &'static str,
        max: usize,
        item: impl FnMut(&mut Self) -> Result<T, RecordError>,
    ) -> Result<Vec<T>, RecordError> {
        let count = self.count(what, max)?;
        self.items(count, item)
    }

    fn items<T>(
        &mut self,
        count: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, RecordError>,
    ) -> Result<Vec<T>, RecordError> {
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn checkpoint(&mut self) -> Result<Checkpoint, RecordError> {
        Ok(Checkpoint { sequence: SequenceNumber(self.u64()?), digest: Digest(self.array()?) })
    }

    fn vote(&mut self) -> Result<Vote, RecordError> {
        Ok(Vote { view: View(self.u64()?), sequence: SequenceNumber(self.u64()?), digest: Digest(self.array()?) })
    }

    fn signature(&mut self) -> Result<Option<Signature>, RecordError> {
        match self.array::<1>()? {
            [0] => Ok(None),
            [1] => self.array().map(Some),
            [other] => Err(RecordError::BadSignature(other)),
        }
    }

    fn view_change(&mut self) -> Result<ViewChange, RecordError> {
        const VOTES_MAX: usize = WINDOW_MAX as usize;
        let (replica, view, stable) = (ReplicaId(self.u16()?), View(self.u64()?), SequenceNumber(self.u64()?));
        let checkpoints = self.count("checkpoints", CHECKPOINTS_MAX)?;
        let prepared = self.count("prepared votes", VOTES_MAX)?;
        let pre_prepared = self.count("pre-prepared votes", VOTES_MAX * PRE_PREPARED_MAX)?;
        Ok(ViewChange {
            replica,
            view,
            stable,
            checkpoints: self.items(checkpoints, Self::checkpoint)?,
            prepared: self.items(prepared, Self::vote)?,
            pre_prepared: self.items(pre_prepared, Self::vote)?,
        })
    }
}
