//! View-changes and new-views: what others pass on, so each carries its origin's own signature besides the proof of
//! whoever sends the frame.
//!
//! | kind | body before the proof |
//! |---|---|
//! | view-change | origin (2), view (8), stable (8), counts (three of 4), the claims, signature (64) |
//! | new-view | view (8), count (4), per view-change: origin (2), digest (32); signature (64) |
//!
//! The counts are of checkpoints, prepared and pre-prepared, and the claims come in this order: a checkpoint is a
//! sequence number (8) and a digest (32), the others are a view (8), a sequence number (8) and a digest (32).
//!
//! The signature is Ed25519 in every mode, over the [`AuthBlock`] of kind, origin, view and the digest of the content.

use super::reader::{DecodeError, Reader};
use crate::auth::{AuthBlock, BlockKind};
use crate::limits::{CHECKPOINTS_MAX, PRE_PREPARED_MAX, REPLICAS_MAX, WINDOW_MAX};
use crate::protocol::message::{Checkpoint, NewView, Signature, Signed, ViewChange, Vote};
use crate::types::{Digest, NodeId, ReplicaId, SequenceNumber, View};

/// Whom a message comes from in the first place, and how it proves that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Who signed it.
    pub signer: NodeId,
    /// What is signed.
    pub block: AuthBlock,
    /// The signature, not yet verified.
    pub signature: Signature,
}

/// What the origin of a view-change signs.
pub(super) fn view_change_block(change: &ViewChange, cluster: [u8; 8], by: ReplicaId) -> AuthBlock {
    let digest = change.digest();
    AuthBlock::message(BlockKind::ViewChange, cluster, by, change.view, SequenceNumber(0), &digest)
}

/// What the origin of a new-view signs.
pub(super) fn new_view_block(new_view: &NewView, cluster: [u8; 8], by: ReplicaId) -> AuthBlock {
    let digest = new_view.digest();
    AuthBlock::message(BlockKind::NewView, cluster, by, new_view.view, SequenceNumber(0), &digest)
}

/// A count that the limits allow.
fn count(reader: &mut Reader, max: usize) -> Result<usize, DecodeError> {
    let count = reader.u32()? as usize;
    if count <= max { Ok(count) } else { Err(DecodeError::TooManyEntries) }
}

pub(super) fn decode_view_change(
    reader: &mut Reader,
    cluster: [u8; 8],
) -> Result<(Signed<ViewChange>, Origin), DecodeError> {
    let replica = ReplicaId(reader.u16()?);
    let (view, stable) = (View(reader.u64()?), SequenceNumber(reader.u64()?));
    let window = usize::try_from(WINDOW_MAX).unwrap_or(usize::MAX);
    let checkpoints = count(reader, CHECKPOINTS_MAX)?;
    let prepared = count(reader, window)?;
    let pre_prepared = count(reader, window * PRE_PREPARED_MAX)?;
    let checkpoints = reader.column(checkpoints, |bytes: [u8; 40]| {
        let mut fields = Fields(&bytes);
        Checkpoint { sequence: SequenceNumber(fields.u64()), digest: fields.digest() }
    })?;
    let vote = |bytes: [u8; 48]| {
        let mut fields = Fields(&bytes);
        Vote { view: View(fields.u64()), sequence: SequenceNumber(fields.u64()), digest: fields.digest() }
    };
    let prepared = reader.column(prepared, vote)?;
    let pre_prepared = reader.column(pre_prepared, vote)?;
    let signature = reader.array()?;
    let change = ViewChange { replica, view, stable, checkpoints, prepared, pre_prepared };
    let origin = Origin { signer: NodeId::of(replica), block: view_change_block(&change, cluster, replica), signature };
    Ok((Signed { content: change.into(), signature: Some(signature) }, origin))
}

pub(super) fn decode_new_view(
    reader: &mut Reader,
    cluster: [u8; 8],
    replicas: usize,
) -> Result<(Signed<NewView>, Origin), DecodeError> {
    let view = View(reader.u64()?);
    let named = count(reader, REPLICAS_MAX)?;
    let view_changes = reader.column(named, |bytes: [u8; 34]| {
        let mut fields = Fields(&bytes);
        (ReplicaId(fields.u16()), fields.digest())
    })?;
    let signature = reader.array()?;
    let (new_view, primary) = (NewView { view, view_changes }, view.primary(replicas));
    let origin = Origin { signer: NodeId::of(primary), block: new_view_block(&new_view, cluster, primary), signature };
    Ok((Signed { content: new_view.into(), signature: Some(signature) }, origin))
}

pub(super) fn encode_view_change(out: &mut Vec<u8>, change: &ViewChange, signature: &Signature) {
    out.extend_from_slice(&change.replica.0.to_le_bytes());
    out.extend_from_slice(&change.view.0.to_le_bytes());
    out.extend_from_slice(&change.stable.0.to_le_bytes());
    for entries in [change.checkpoints.len(), change.prepared.len(), change.pre_prepared.len()] {
        put_count(out, entries);
    }
    for Checkpoint { sequence, digest } in &change.checkpoints {
        out.extend_from_slice(&sequence.0.to_le_bytes());
        out.extend_from_slice(&digest.0);
    }
    for Vote { view, sequence, digest } in change.prepared.iter().chain(&change.pre_prepared) {
        out.extend_from_slice(&view.0.to_le_bytes());
        out.extend_from_slice(&sequence.0.to_le_bytes());
        out.extend_from_slice(&digest.0);
    }
    out.extend_from_slice(signature);
}

pub(super) fn encode_new_view(out: &mut Vec<u8>, new_view: &NewView, signature: &Signature) {
    out.extend_from_slice(&new_view.view.0.to_le_bytes());
    put_count(out, new_view.view_changes.len());
    for (replica, digest) in &new_view.view_changes {
        out.extend_from_slice(&replica.0.to_le_bytes());
        out.extend_from_slice(&digest.0);
    }
    out.extend_from_slice(signature);
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("lists in messages are bounded");
    out.extend_from_slice(&count.to_le_bytes());
}

/// Fields of an entry whose length is known.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_first_chunk().expect("entries are as long as their fields");
        self.0 = rest;
        *head
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    fn digest(&mut self) -> Digest {
        Digest(self.array())
    }
}
