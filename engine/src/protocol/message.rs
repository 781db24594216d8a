//! What replicas say to each other.

use std::sync::Arc;

use crate::requests::{Batch, RequestTable};
use crate::types::{Digest, ReplicaId, SequenceNumber, View};

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
    /// For messages that carry requests: whether every client's authenticator held for this replica. A faulty client
    /// can make authenticators that hold for some replicas only (Aardvark, NSDI'09, the "big MAC" attack), so a batch
    /// whose requests do not all prove themselves is accepted only when f+1 replicas vouch for it: the primary by its
    /// pre-prepare, backups by their prepares.
    pub requests_authentic: bool,
}

/// Replica to replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The primary assigns a sequence number to a batch.
    PrePrepare(PrePrepare),
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
