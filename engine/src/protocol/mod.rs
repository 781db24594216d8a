//! Replication protocols as pure state machines: `step(now, input, &mut outputs)`.
//!
//! Nothing in this folder does I/O, reads a clock, starts a thread or draws a random number, so that the simulator and
//! the replica run the very same code. A protocol has two pure halves, [`Replica`](Protocol) and [client], behind which
//! the pipeline, the load generator and the reports do not care which protocol runs.
//!
//! In data-path order: [message] (what replicas say to each other), [batching] (when requests leave as a batch), [pbft]
//! (the replica half), [client] (the client half); [planted] lists the bugs that a simulator must find.

use std::sync::Arc;

use crate::named::named_enum;
use crate::requests::{Batch, RequestTable};
use crate::types::{ClientId, Digest, ReplicaId, SequenceNumber, Time, Timestamp, View};

pub mod batching;
pub mod client;
pub mod message;
pub mod pbft;
pub mod planted;
mod sets;

pub use message::{Authentic, Message};

/// What the world tells a protocol.
#[derive(Clone, Debug)]
pub enum Input {
    /// Authenticated requests, straight from clients or forwarded by a backup. Digests are computed.
    Requests(Arc<RequestTable>),
    /// An authenticated message of another replica.
    Message(Authentic),
    /// A timer set by [`Output::SetTimer`] has expired.
    Timer(Timer),
    /// The batch at this sequence number has been executed and is committed.
    Executed(SequenceNumber),
    /// After executing this sequence number (a multiple of the checkpoint interval) the state has this digest.
    CheckpointTaken(SequenceNumber, Digest),
    /// Of the requests of an [`Output::Recall`], these have not been executed yet.
    NotExecuted(Arc<RequestTable>),
    /// What an [`Output::ReadState`] asked for, on its way to this replica.
    StateRead(ReplicaId, message::StateChunk),
    /// How an [`Output::InstallState`] ended. If the state's digest is the vouched one the executor stands at this
    /// sequence number now, else it has not changed.
    StateInstalled {
        /// The checkpoint.
        sequence: SequenceNumber,
        /// Whether the chunks had the vouched digest.
        good: bool,
    },
}

/// What a protocol wants done, in order. A closed list: whoever runs a protocol handles every kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send to one replica.
    Send(ReplicaId, Arc<Message>),
    /// Send to all other replicas.
    Broadcast(Arc<Message>),
    /// Execute this batch: it is committed, and every lower sequence number has been handed out before. If it is marked
    /// as tentative it is only prepared, and may be rolled back.
    Execute(Execution),
    /// The batch at this sequence number, which was handed out as a tentative one, is committed: this is when. They
    /// come in order, and a checkpoint that is due there is taken now.
    Confirm(SequenceNumber, Time),
    /// Undo all executions above this sequence number: they were tentative. Never below what is confirmed.
    RollBack(SequenceNumber),
    /// These requests came again: answer the executed ones from the reply cache and hand back the others as
    /// [`Input::NotExecuted`].
    Recall(Arc<RequestTable>),
    /// Set this timer, replacing an earlier setting of it.
    SetTimer(Timer, Time),
    /// Forget this timer.
    CancelTimer(Timer),
    /// This checkpoint has become stable; it is proven by these replicas.
    StableCheckpoint(StableCheckpoint),
    /// This replica's own state at a checkpoint differs from what f + 1 others vouch for. Said once.
    Diverged {
        /// Where.
        sequence: SequenceNumber,
        /// This replica's own digest.
        own: Digest,
        /// The others'.
        quorum: Digest,
    },
    /// Keep a snapshot of the state at this coming checkpoint, for a replica that fell behind.
    KeepState(SequenceNumber),
    /// Hand back a chunk of the snapshot that is kept, as [`Input::StateRead`].
    ReadState {
        /// For whom.
        to: ReplicaId,
        /// Which chunk of which snapshot.
        fetch: message::FetchState,
    },
    /// Replace the state by that of these chunks if its digest is this one, and say so by [`Input::StateInstalled`].
    /// Nothing is executed in between.
    InstallState {
        /// The checkpoint.
        sequence: SequenceNumber,
        /// The state's digest, which a weak quorum vouches for.
        digest: Digest,
        /// All chunks, in order.
        chunks: Vec<bytes::Bytes>,
    },
    /// Make this durable before any output that comes after it takes effect. Only where
    /// [`durable`](pbft::Config::durable) is set.
    Persist(Record),
    /// An input was ignored.
    Ignored(Ignored),
}

/// What a replica must not forget when it is started anew. From these, in order, and the state at the last stable
/// checkpoint, it is [recovered](pbft::Pbft::recover).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// It accepted (or, as primary, made) this assignment. The body is kept with it.
    PrePrepared(message::PrePrepare),
    /// It prepared the batch: its commit follows.
    Prepared(message::Vote),
    /// This batch is decided. Need not be durable before anything: it spares asking others.
    Committed(SequenceNumber, Digest),
    /// It suspects the primary of this view. Others may leave the view because of that, so it must not be forgotten.
    Suspected(View),
    /// It leaves its view. The content's origin is this replica.
    ViewChange(Arc<message::ViewChange>),
    /// It entered this view, on these view-changes.
    NewView(message::Signed<message::NewView>, Vec<message::Signed<message::ViewChange>>),
    /// This checkpoint is stable: records of sequence numbers up to it are of no use once the state there is durable.
    Stable(message::Checkpoint),
}

/// A batch on its way to the executor, committed or prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// Its place in the order.
    pub sequence: SequenceNumber,
    /// The view in which it committed (replies carry it, so that clients learn the primary), or in which it is
    /// prepared.
    pub view: View,
    /// Whether it is only prepared: it is undone if a view change decides otherwise.
    pub tentative: bool,
    /// What to execute.
    pub batch: Arc<Batch>,
    /// When it reached each phase at this replica.
    pub stamps: Stamps,
}

/// When a batch reached each phase at one replica. A phase that was skipped (a batch repaired from others) holds the
/// time of the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamps {
    /// Its oldest request reached the order stage (primary), or its pre-prepare did (backup).
    pub received: Time,
    /// The pre-prepare was sent (primary) or accepted (backup).
    pub pre_prepared: Time,
    /// The batch was prepared.
    pub prepared: Time,
    /// The batch was committed-local.
    pub committed: Time,
    /// The votes on it were durable: told by the persist stage, 0 where there is none.
    pub durable: Time,
}

/// A state that nobody goes back behind any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StableCheckpoint {
    /// The checkpoint's sequence number.
    pub sequence: SequenceNumber,
    /// The state's digest.
    pub digest: Digest,
    /// Who vouched, each with its signature where replicas sign: Q replicas, or f + 1 where others have reported it
    /// stable.
    pub proof: Vec<(ReplicaId, Option<message::Signature>)>,
}

/// The timers of a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timer {
    /// A partial batch has waited long enough.
    Batch,
    /// Tell the others where this replica stands.
    Status,
    /// Bodies of what was assigned by digests have been waited for long enough.
    Bodies,
    /// The primary has had its time (Castro & Liskov, OSDI'99, section 4.4).
    View,
    /// A faulty replica's own plans. No correct one sets it.
    Adversary,
}

named_enum! {
    /// Why an input was ignored. Each reason is counted under its name.
    Ignored {
        /// From a view before the current one.
        OldView = "old_view",
        /// From a view after the current one.
        FutureView = "future_view",
        /// At or below the low watermark.
        BelowLowWatermark = "below_low_watermark",
        /// Above the high watermark, and the bounded buffer for early messages is full or does not reach that far.
        AboveHighWatermark = "above_high_watermark",
        /// A pre-prepare from a replica that is not the view's primary.
        NotFromPrimary = "not_from_primary",
        /// A prepare from the primary: its pre-prepare is its only prepare-phase vote.
        PrepareFromPrimary = "prepare_from_primary",
        /// The same vote again.
        DuplicateVote = "duplicate_vote",
        /// A second, different vote of one replica in the same view, sequence number and phase.
        ConflictingVote = "conflicting_vote",
        /// A second, different pre-prepare for one view and sequence number.
        ConflictingPrePrepare = "conflicting_pre_prepare",
        /// The same pre-prepare again.
        DuplicatePrePrepare = "duplicate_pre_prepare",
        /// The sender is not a replica of the cluster, or is this replica itself.
        UnknownSender = "unknown_sender",
        /// A request whose client already has a newer one in progress or executed, or that is in progress itself.
        RequestInProgress = "request_in_progress",
        /// More requests are waiting than there are clients.
        RequestQueueFull = "request_queue_full",
        /// A body that nobody vouches for, or that this replica does not miss.
        UnwantedBody = "unwanted_body",
        /// A checkpoint message for a sequence number that is no multiple of the checkpoint interval.
        MisalignedCheckpoint = "misaligned_checkpoint",
        /// An execution result that was not asked for.
        UnexpectedExecution = "unexpected_execution",
        /// A claim, body or pre-prepare for a sequence number that is committed here already.
        AlreadyCommitted = "already_committed",
        /// Forwarded requests for a replica that is not the primary.
        NotPrimary = "not_primary",
        /// Forwarded requests of which some did not prove themselves.
        UnprovenRequests = "unproven_requests",
        /// A request of a client that the cluster does not have.
        UnknownClient = "unknown_client",
        /// A pre-prepare with an operation that the application refuses.
        InvalidOperation = "invalid_operation",
        /// A message of the normal case while this replica waits for a new view to start.
        ChangingView = "changing_view",
        /// A view-change that contradicts itself: its entries are out of order, out of its window or of its view.
        MalformedViewChange = "malformed_view_change",
        /// A view-change that its origin has followed by another, or the same again.
        StaleViewChange = "stale_view_change",
        /// A new-view that names too few view-changes, or one that does not justify it.
        UnjustifiedNewView = "unjustified_new_view",
        /// The new-view of this view again, or of a view that is past.
        StaleNewView = "stale_new_view",
        /// A request of a client whose requests several primaries failed to prove.
        DistrustedClient = "distrusted_client",
        /// A chunk of a snapshot that was not asked for.
        UnwantedState = "unwanted_state",
        /// A snapshot asked for too often, out of reach, or not at a checkpoint.
        StateRefused = "state_refused",
        /// A pre-prepare by digests in a cluster whose clients do not send requests to all replicas.
        UnexpectedDigests = "unexpected_digests",
        /// A vote asked of a replica that does not vote, because it forgot its earlier ones.
        NotVoting = "not_voting",
    }
}

/// The replica half of a protocol.
pub trait Protocol: Send {
    /// Handles one input. `now` never goes backwards. What is to be done is appended to `outputs`, in order.
    fn step(&mut self, now: Time, input: Input, outputs: &mut Vec<Output>);

    /// Where this replica stands, for reports.
    fn position(&self) -> Position;
}

/// Where a replica stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The current view.
    pub view: View,
    /// The highest sequence number up to which every batch is known to be decided. What of that the executor's state
    /// does not reflect was handed to it.
    pub committed: SequenceNumber,
    /// The sequence number that the executor's state reflects. A fetched state may be ahead of what is known to be
    /// decided.
    pub executed: SequenceNumber,
    /// The low watermark.
    pub stable_checkpoint: SequenceNumber,
    /// Requests waiting for a batch.
    pub waiting_requests: usize,
    /// Whether it takes part in the view (if not, it waits for the new view to start).
    pub active: bool,
    /// How many view changes it has begun.
    pub view_changes: u64,
    /// How often it replaced its state by a fetched one.
    pub states_installed: u64,
    /// The checkpoint whose state it fetches because repairs do not reach it, and from whom at present.
    pub fetching: Option<(SequenceNumber, Option<ReplicaId>)>,
}

/// A reply as the client half of a protocol sees it.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// Who answered.
    pub replica: ReplicaId,
    /// The replica's view.
    pub view: View,
    /// The client that asked.
    pub client: ClientId,
    /// Which of its operations.
    pub timestamp: Timestamp,
    /// The result, or its digest.
    pub result: &'a [u8],
    /// Whether it is the digest.
    pub is_digest: bool,
    /// Whether the batch was only prepared when it was executed.
    pub tentative: bool,
}
