//! What replicas say to each other.

use std::sync::Arc;

use bytes::Bytes;

use crate::requests::{Batch, Manifest, RequestTable};
use crate::types::{ClientId, Digest, ReplicaId, SequenceNumber, View};

/// An Ed25519 signature, kept where a certificate must convince others.
pub type Signature = [u8; 64];

/// A message whose sender has been authenticated. Only the verify stage (and a simulator) makes these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authentic {
    /// The authenticated sender.
    pub sender: ReplicaId,
    /// What it said.
    pub message: Message,
    /// Its signature, where replicas sign. MACs convince nobody else and are not kept.
    pub signature: Option<Signature>,
    /// What is wrong with the requests that it carries.
    pub requests: Verdict,
}

/// What is wrong with the requests of a message; nothing is with those of a message that carries none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The clients whose authenticators do not hold for this replica. A faulty client can make authenticators that hold
    /// for some replicas only (Aardvark, NSDI'09, the "big MAC" attack), so a batch whose requests do not all prove
    /// themselves is accepted only when f+1 replicas vouch for it: the primary by its pre-prepare, backups by their
    /// prepares.
    pub unproven: Vec<ClientId>,
    /// The application refuses one of the operations. Every correct replica sees that: nobody votes for such a batch.
    pub invalid: bool,
}

impl Verdict {
    /// Nothing is wrong.
    pub const GOOD: Self = Self { unproven: Vec::new(), invalid: false };

    /// Whether every request proves itself.
    #[must_use]
    pub const fn is_proven(&self) -> bool {
        self.unproven.is_empty()
    }
}

/// Replica to replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The primary assigns a sequence number to a batch.
    PrePrepare(PrePrepare),
    /// The same by digests, where clients send their requests to all replicas.
    DigestPrePrepare(DigestPrePrepare),
    /// A backup agrees to the assignment.
    Prepare(Vote),
    /// A replica has prepared the batch.
    Commit(Vote),
    /// A replica's state after executing a multiple of the checkpoint interval.
    Checkpoint(Checkpoint),
    /// Where a replica stands; whoever can fill its gaps sends what is missing.
    Status(Status),
    /// Requests that a client sent to a backup, on their way to the primary.
    Forward(Arc<RequestTable>),
    /// "This batch is committed-local here": f+1 equal claims prove a decision to a replica that missed the votes.
    Committed(Vote),
    /// The body of a batch, for a replica that misses it. Proven by its digest alone.
    Body(Body),
    /// A replica leaves its view. Signed by it, so that others can pass it on.
    ViewChange(Signed<ViewChange>),
    /// The primary of a new view starts it. Signed by it, so that others can pass it on.
    NewView(Signed<NewView>),
    /// A replica that fell behind asks everybody to keep a snapshot of the state at a coming checkpoint.
    StateWanted(SequenceNumber),
    /// Asks one replica for a piece of the snapshot that it keeps.
    FetchState(FetchState),
    /// A piece of a snapshot. Proven only by the digest of the whole.
    StateChunk(StateChunk),
}

/// What is signed by its origin whatever strategy the links use, so that it convinces whoever gets it from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed<T> {
    /// What is said. It names its origin.
    pub content: Arc<T>,
    /// The origin's Ed25519 signature, verified. `None` only on the way out of the origin itself: sealing it is not the
    /// protocol's work, and gives the same bytes each time.
    pub signature: Option<Signature>,
}

impl<T> Signed<T> {
    /// What this replica itself says.
    #[must_use]
    pub fn own(content: T) -> Self {
        Self { content: Arc::new(content), signature: None }
    }
}

/// A replica leaves its view for `view` and tells what the new primary must respect (Castro & Liskov, TOCS'02, section
/// 4.4: the sets P and Q take the place of certificates, so that normal traffic needs no signatures).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewChange {
    /// Who says this.
    pub replica: ReplicaId,
    /// The view to move to.
    pub view: View,
    /// h: its stable checkpoint.
    pub stable: SequenceNumber,
    /// C: its checkpoints from the stable one on, ascending. The initial state at 0 is not listed.
    pub checkpoints: Vec<Checkpoint>,
    /// P: for each sequence number in (h, h + L] at which it prepared a batch, the digest and the highest view in which
    /// it did. Ascending by sequence number, at most one each.
    pub prepared: Vec<Vote>,
    /// Q: the digests that it pre-prepared there, each with the highest view in which it did. Ascending by sequence
    /// number, then by digest; at most [`crate::limits::PRE_PREPARED_MAX`] for each sequence number.
    pub pre_prepared: Vec<Vote>,
}

impl ViewChange {
    /// What its signature covers, besides origin and view: a digest of all of it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key("hippodrome 2026 view change");
        hasher.update(&self.replica.0.to_le_bytes()).update(&self.view.0.to_le_bytes());
        hasher.update(&self.stable.0.to_le_bytes());
        for length in [self.checkpoints.len(), self.prepared.len(), self.pre_prepared.len()] {
            hasher.update(&(length as u64).to_le_bytes());
        }
        for Checkpoint { sequence, digest } in &self.checkpoints {
            hasher.update(&sequence.0.to_le_bytes()).update(&digest.0);
        }
        for Vote { view, sequence, digest } in self.prepared.iter().chain(&self.pre_prepared) {
            hasher.update(&view.0.to_le_bytes()).update(&sequence.0.to_le_bytes()).update(&digest.0);
        }
        hasher.finalize().into()
    }
}

/// The primary of `view` starts it. What it proposes again follows from the view-changes that it names, by one
/// function that every replica computes for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewView {
    /// The view; its primary is the origin.
    pub view: View,
    /// The view-changes that it relies on, by origin and digest; ascending by origin, at least Q.
    pub view_changes: Vec<(ReplicaId, Digest)>,
}

impl NewView {
    /// What its signature covers, besides origin and view: a digest of all of it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key("hippodrome 2026 new view");
        hasher.update(&self.view.0.to_le_bytes());
        for (replica, digest) in &self.view_changes {
            hasher.update(&replica.0.to_le_bytes()).update(&digest.0);
        }
        hasher.finalize().into()
    }
}

/// Asks for one chunk of the snapshot at a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchState {
    /// The checkpoint.
    pub sequence: SequenceNumber,
    /// Which chunk, from 0.
    pub index: u32,
}

/// One chunk of the snapshot at a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChunk {
    /// The checkpoint.
    pub sequence: SequenceNumber,
    /// Which chunk, from 0.
    pub index: u32,
    /// How many chunks there are; 0 if this replica keeps no snapshot there.
    pub count: u32,
    /// The chunk, at most [`crate::limits::STATE_CHUNK_BYTES_MAX`].
    pub bytes: Bytes,
}

/// The primary's assignment (Castro & Liskov, OSDI'99, section 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrePrepare {
    /// The primary's view.
    pub view: View,
    /// The assigned sequence number.
    pub sequence: SequenceNumber,
    /// The batch; its digest was recomputed from the requests.
    pub batch: Arc<Batch>,
}

/// The primary's assignment without the requests' bodies, which clients send to all replicas (Castro & Liskov, TOCS'02,
/// section 5.1.5). Says of the batch what a [`PrePrepare`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestPrePrepare {
    /// The primary's view.
    pub view: View,
    /// The assigned sequence number.
    pub sequence: SequenceNumber,
    /// The batch by its requests' digests.
    pub manifest: Arc<Manifest>,
}

/// A vote of a phase for one digest at one position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// The voter's view.
    pub view: View,
    /// The position.
    pub sequence: SequenceNumber,
    /// The batch's digest.
    pub digest: Digest,
}

/// A vote for a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last sequence number that the state reflects.
    pub sequence: SequenceNumber,
    /// The state's digest.
    pub digest: Digest,
}

/// Where a replica stands (Castro & Liskov's status messages, TOCS'02, section 5.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Its view.
    pub view: View,
    /// Whether it takes part in that view; if not, it waits for the new view to start.
    pub active: bool,
    /// Whether it suspects the primary of that view, and would leave the view with Q others who do.
    pub suspects: bool,
    /// Whose view-changes to that view it has while it waits, bit i for replica i.
    pub view_changes: u64,
    /// Its stable checkpoint.
    pub stable: SequenceNumber,
    /// The highest sequence number that it handed to its executor.
    pub committed: SequenceNumber,
    /// What it has of the sequence numbers that follow `committed`, at most [`crate::limits::STATUS_SLOTS_MAX`].
    pub slots: Vec<SlotStatus>,
}

/// What a replica has of one sequence number above its last committed one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotStatus {
    /// It accepted the pre-prepare.
    pub pre_prepared: bool,
    /// It has the assignment by digests, and lacks bodies.
    pub announced: bool,
    /// It is prepared.
    pub prepared: bool,
    /// It is committed-local (and waits for a gap before it).
    pub committed: bool,
    /// Whose prepares it has, bit i for replica i.
    pub prepares: u64,
    /// Whose commits it has, bit i for replica i.
    pub commits: u64,
}

/// A batch for a replica that misses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// Where it belongs.
    pub sequence: SequenceNumber,
    /// The batch; its digest was recomputed from the requests.
    pub batch: Arc<Batch>,
}
