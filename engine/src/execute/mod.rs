//! Execution: applies batches in order, exactly once per request, and answers for the result. Batches are committed, or
//! prepared and undone if they come to nothing.
//!
//! The executor owns everything that a checkpoint covers: the application, the client table with its cached replies,
//! and the ledger. It is as deterministic as the application: replicas that execute the same batches send the same
//! replies and reach the same digests.
//!
//! In data-path order: `apply` (what the requests of a batch do), `client_table` (what was executed for whom),
//! `replies` (what goes back, in columns by client node), `undo` (what is executed before it is committed), `reads`
//! (what is answered without being ordered), `ledger` (the hash chain that the audit compares), `snapshot` (all of it
//! as bytes and back), `kept` (snapshots for replicas that fell behind); `counters` has what was done.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::app::Application;
use crate::limits::RESULT_BYTES_MAX;
use crate::protocol::Execution;
use crate::protocol::message::StateChunk;
use crate::protocol::planted::Planted;
use crate::requests::{ReplyTable, RequestTable};
use crate::types::{Digest, NodeId, ReplicaId, SequenceNumber, View};

mod apply;
mod client_table;
mod counters;
mod kept;
mod ledger;
mod reads;
mod replies;
mod snapshot;
#[cfg(test)]
mod tests;
mod undo;

pub use client_table::{Admission, ClientTable};
pub use counters::Counters;
use kept::Kept;
pub use kept::Snapshot;
pub use ledger::Ledger;
use replies::{Designation, Replies};
use snapshot::State;
pub use snapshot::{SNAPSHOT_CHUNK_BYTES, SnapshotError};
use undo::{Record, Undo};

/// Results gathered before they are hashed, cached and replied: bounds the scratch memory whatever a batch computes.
const SETTLE_BYTES: usize = RESULT_BYTES_MAX;
/// Bytes of one reply's columns: client, timestamp, end of the result.
const REPLY_COLUMNS_BYTES: usize = 4 + 8 + 4;
/// The sequence number of replies that are not those of one batch.
const NO_BATCH: SequenceNumber = SequenceNumber(0);
/// Stands in the length column of a batch's outcome for a request that was not executed.
const NOT_EXECUTED: u32 = u32::MAX;

// What is gathered is less than SETTLE_BYTES before the last result.
const _: () = assert!(SETTLE_BYTES + RESULT_BYTES_MAX < NOT_EXECUTED as usize);

/// What an executor has to know of its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutorConfig {
    /// The replica that executes; named when an invariant breaks.
    pub own: ReplicaId,
    /// Each client node with the logical clients that it owns; the ranges follow each other without gaps, from 0
    /// (`ClusterFile::client_nodes`).
    pub client_nodes: Vec<(NodeId, Range<u32>)>,
    /// K: a checkpoint is taken after each sequence number that is a multiple of it.
    pub checkpoint_interval: u64,
    /// n, where only a designated replica sends each result and the others its digest.
    pub designates: Option<usize>,
    /// Whether batches are executed before they are committed.
    pub tentative: bool,
}

/// What the executor hands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// Replies for the clients of one node, in the order in which they were executed. A batch gives one for each node
    /// (more only where their results would not fit one frame).
    Replies {
        /// The client node that owns these clients.
        node: NodeId,
        /// The view in which the batch committed or, if `tentative`, was prepared; of replies from the cache that are
        /// for good, the replica's own view.
        view: View,
        /// The batch, if these are all replies to it for that node and the same at every replica that executes it, or
        /// else 0: they come from the cache, answer reads, are tentative, or some of several tables.
        sequence: SequenceNumber,
        /// Whether they answer read-only requests.
        reads: bool,
        /// Whether the batch is only prepared, in that view.
        tentative: bool,
        /// The replies; never empty.
        replies: ReplyTable,
    },
    /// The batch at this sequence number has been executed and is committed.
    Executed(SequenceNumber),
    /// After this sequence number (a multiple of the checkpoint interval) the state has this digest.
    Checkpoint(SequenceNumber, Digest),
    /// Of recalled requests, these have not been executed yet (with their digests and proofs).
    NotExecuted(Arc<RequestTable>),
}

impl Done {
    /// Bytes that it keeps in memory, if it is replies.
    #[must_use]
    pub const fn reply_bytes(&self) -> usize {
        match self {
            Self::Replies { replies, .. } => replies.results.len() + replies.len() * REPLY_COLUMNS_BYTES,
            Self::Executed(_) | Self::Checkpoint(..) | Self::NotExecuted(_) => 0,
        }
    }
}

/// Applies batches to an application.
pub struct Executor {
    own: ReplicaId,
    checkpoint_interval: u64,
    /// The simulator's planted bug.
    planted: Option<Planted>,
    /// Bytes of a snapshot's chunks.
    chunk_bytes: usize,
    state: State,
    kept: Kept,
    replies: Replies,
    /// What is executed and not committed yet, where that may be.
    undo: Option<Box<Undo>>,
    /// Answers to read-only requests.
    read_replies: Replies,
    /// Whether there are any: its state is not behind what it told clients before it was started anew.
    answers_reads: bool,
    counters: Counters,
    // Scratch columns, one row per request of the batch in hand; kept to be used again.
    admissions: Vec<Admission>,
    result_lengths: Vec<u32>,
    results: Vec<u8>,
    length_bytes: Vec<[u8; 4]>,
}

impl Executor {
    /// An executor in the initial state: nothing executed, `app` as it is.
    ///
    /// # Panics
    /// If the ranges of clients leave gaps or the checkpoint interval is 0: the cluster file was not validated.
    #[must_use]
    pub fn new(config: ExecutorConfig, app: Box<dyn Application>) -> Self {
        assert!(config.checkpoint_interval > 0, "the checkpoint interval is at least 1");
        let clients = config.client_nodes.last().map_or(0, |(_, range)| range.end);
        let designation = config.designates.map(|replicas| Designation { own: config.own, replicas });
        let replies = || Replies::new(config.client_nodes.clone(), designation);
        Self {
            own: config.own,
            checkpoint_interval: config.checkpoint_interval,
            planted: None,
            chunk_bytes: SNAPSHOT_CHUNK_BYTES,
            state: State { ledger: Ledger::default(), clients: ClientTable::new(clients), app },
            kept: Kept::default(),
            undo: config.tentative.then(|| Box::new(Undo::new(clients, replies()))),
            read_replies: replies().for_reads(),
            answers_reads: true,
            replies: replies(),
            counters: Counters::default(),
            admissions: Vec::new(),
            result_lengths: Vec::new(),
            results: Vec::new(),
            length_bytes: Vec::new(),
        }
    }

    /// Plants a bug, for the simulator to find. Nothing else does.
    pub const fn plant(&mut self, planted: Option<Planted>) {
        self.planted = planted;
    }

    /// Cuts snapshots into chunks of so many bytes: for the simulator, whose states are small.
    ///
    /// # Panics
    /// If that is 0 or more than [`SNAPSHOT_CHUNK_BYTES`].
    pub fn cut_snapshots(&mut self, chunk_bytes: usize) {
        assert!((1..=SNAPSHOT_CHUNK_BYTES).contains(&chunk_bytes), "chunks of {chunk_bytes} bytes");
        self.chunk_bytes = chunk_bytes;
    }

    /// Executes the next batch and appends what follows from it to `out`: replies, [`Done::Executed`], and
    /// [`Done::Checkpoint`] where one is due.
    ///
    /// A request is executed if its timestamp is higher than the last one executed for its client; one that comes again
    /// is answered from the cache, an older one is dropped (Castro & Liskov, OSDI'99, section 4.1). Each is answered
    /// once a batch, and from the cache no more than [`REPLIES_BYTES_MAX`](crate::limits::REPLIES_BYTES_MAX) are:
    /// clients say how often they ask, and what they asked for long ago may be large.
    ///
    /// Of a tentative batch only the replies follow; the rest does when it is [confirmed](Self::confirm).
    ///
    /// # Panics
    /// If the batch is not the next one: executing out of order would be our own error.
    pub fn execute(&mut self, execution: &Execution, out: &mut Vec<Done>) {
        if execution.tentative {
            return self.execute_tentatively(execution, out);
        }
        assert_eq!(self.confirmed(), self.executed(), "replica {}: committed behind what is not", self.own);
        self.run(execution, None, out);
        self.complete(execution.sequence, out);
    }

    /// Executes the next batch and replies; notes what is overwritten if it may have to be undone.
    fn run(&mut self, execution: &Execution, mut record: Option<&mut Record>, out: &mut Vec<Done>) {
        let Execution { sequence, view, batch, .. } = execution;
        assert_eq!(*sequence, self.executed().next(), "replica {}: batch out of order", self.own);
        self.admit(&batch.requests, record.as_deref_mut());
        let outcome = self.apply(&batch.requests, *view, record, out);
        if let Some(undo) = &mut self.undo {
            // Which of the cached replies are tentative depends on how far this replica has come.
            self.replies.finish(*view, NO_BATCH, out);
            undo.replies.finish(*view, NO_BATCH, out);
        } else {
            self.replies.finish(*view, *sequence, out);
        }
        self.state.ledger.append(*sequence, &batch.digest, &outcome);
        self.counters.batches += u64::from(!batch.is_null());
    }

    /// What follows from a batch that is executed for good.
    fn complete(&mut self, sequence: SequenceNumber, out: &mut Vec<Done>) {
        out.push(Done::Executed(sequence));
        if sequence.0.is_multiple_of(self.checkpoint_interval) {
            let digest = self.state_digest();
            if self.kept.reach(sequence) {
                self.kept.keep(Snapshot { sequence, digest, chunks: self.state.chunks(self.chunk_bytes) });
            }
            out.push(Done::Checkpoint(sequence, digest));
        }
    }

    /// Answers those of these requests that were executed from the cache, with `view` as the replica's view, and hands
    /// back those that were not, if any. Each is answered once, as in [`execute`](Self::execute). Requests that are
    /// older than their client's last one have no answer any more.
    pub fn recall(&mut self, view: View, table: &RequestTable, out: &mut Vec<Done>) {
        let mut not_executed = Vec::new();
        self.state.clients.begin_table();
        for (index, (&client, &timestamp)) in table.clients.iter().zip(&table.timestamps).enumerate() {
            match self.state.clients.probe(client, timestamp) {
                Admission::New => not_executed.push(index),
                Admission::Repeated if self.state.clients.note_answered(client) => {
                    self.answer_cached(client, timestamp, view, out);
                }
                Admission::Repeated => self.counters.passed_over(Admission::Answered),
                admission => self.counters.passed_over(admission),
            }
        }
        self.replies.finish(view, NO_BATCH, out);
        self.finish_tentative(out);
        if !not_executed.is_empty() {
            out.push(Done::NotExecuted(Arc::new(table.select(&not_executed))));
        }
    }

    /// The highest executed sequence number; those above what is [confirmed](Self::confirmed) may be undone.
    #[must_use]
    pub const fn executed(&self) -> SequenceNumber {
        self.state.ledger.sequence()
    }

    /// What was done so far, without the operations and batches that are not confirmed.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let (operations, batches) = self.unconfirmed();
        let Counters { operations: all_operations, batches: all_batches, .. } = self.counters;
        Counters { operations: all_operations - operations, batches: all_batches - batches, ..self.counters }
    }

    /// The ledger digest after the last confirmed batch.
    ///
    /// # Panics
    /// Never: what is not confirmed is far less than what the ledger retains.
    #[must_use]
    pub fn ledger(&self) -> Digest {
        self.state.ledger.digest_at(self.confirmed()).expect("the ledger goes back to what is confirmed")
    }

    /// The ledger digest after `sequence`; `None` if that was not executed and confirmed yet or is more than
    /// [`LEDGER_RETAINED`](crate::limits::LEDGER_RETAINED) sequence numbers ago.
    #[must_use]
    pub fn ledger_at(&self, sequence: SequenceNumber) -> Option<Digest> {
        self.state.ledger.digest_at(sequence).filter(|_| sequence <= self.confirmed())
    }

    /// For each logical client, in order of their ids: how many of its operations were executed and confirmed, and the
    /// timestamp of the last one.
    #[must_use]
    pub fn clients(&self) -> (Vec<u64>, Vec<u64>) {
        self.confirmed_columns()
    }

    /// The digest of the whole state: ledger, client table with cached replies, application. Costs in proportion to
    /// what changed since it was last computed.
    pub fn state_digest(&mut self) -> Digest {
        self.state.digest()
    }

    /// Wishes for a snapshot at a checkpoint, to be [read](Self::read) from then on: at a coming one, or at once if it
    /// is where this executor stands. A wish for an earlier one comes too late and is forgotten.
    pub fn keep(&mut self, sequence: SequenceNumber) {
        if sequence.0 == 0 || !sequence.0.is_multiple_of(self.checkpoint_interval) {
            return;
        }
        let confirmed = self.confirmed();
        if sequence > confirmed {
            self.kept.want(sequence);
        } else if sequence == confirmed && self.kept.get(sequence).is_none() {
            let snapshot = self.at_confirmed(Self::snapshot_now);
            self.kept.keep(snapshot);
        }
    }

    /// The snapshot at `sequence`, if one is kept there. At most
    /// [`SNAPSHOTS_KEPT_MAX`](crate::limits::SNAPSHOTS_KEPT_MAX) are, the newest; a clone shares their bytes.
    #[must_use]
    pub fn kept(&self, sequence: SequenceNumber) -> Option<&Snapshot> {
        self.kept.get(sequence)
    }

    /// Chunk `index` of the snapshot at `sequence`. Its count is 0 if none is kept there, or if it has fewer chunks.
    #[must_use]
    pub fn read(&self, sequence: SequenceNumber, index: u32) -> StateChunk {
        self.kept.read(sequence, index)
    }

    /// A snapshot of the present state. Costs a copy of it.
    pub fn snapshot_now(&mut self) -> Snapshot {
        Snapshot { sequence: self.executed(), digest: self.state_digest(), chunks: self.state.chunks(self.chunk_bytes) }
    }

    /// Replaces the state by the one that another replica had at a later `sequence`, and keeps its snapshot in turn.
    /// False, and nothing has changed, if `chunks` are not a snapshot of the state that has this `digest`.
    pub fn install(&mut self, sequence: SequenceNumber, digest: Digest, chunks: Vec<Bytes>) -> bool {
        let installed = self.restore(sequence, digest, &chunks).is_ok();
        if installed {
            self.kept.reach(sequence);
            self.kept.keep(Snapshot { sequence, digest, chunks });
        }
        installed
    }

    /// Replaces the state by the one at a later `sequence`. It is built aside and takes its place only if its digest is
    /// this one.
    ///
    /// # Errors
    /// What is wrong with the chunks; the state has not changed then.
    pub fn restore(&mut self, sequence: SequenceNumber, digest: Digest, chunks: &[Bytes]) -> Result<(), SnapshotError> {
        let executed = self.executed();
        assert_eq!(self.confirmed(), executed, "replica {}: a state replaces a confirmed one", self.own);
        if sequence <= executed {
            return Err(SnapshotError::NotAhead { found: sequence, executed });
        }
        let mut state = snapshot::read(chunks, sequence, self.state.clients.len(), self.state.app.fresh())?;
        let found = state.digest();
        if found != digest {
            return Err(SnapshotError::OtherDigest { found, wanted: digest });
        }
        self.state = state;
        self.counters.operations = self.state.clients.columns().0.iter().sum();
        Ok(())
    }
}

impl State {
    fn digest(&mut self) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key("hippodrome 2026 replica state");
        hasher.update(&self.ledger.digest().0);
        hasher.update(&self.clients.digest().0);
        hasher.update(&self.app.digest().0);
        hasher.finalize().into()
    }

    fn chunks(&self, chunk_bytes: usize) -> Vec<Bytes> {
        snapshot::write(&self.ledger, &self.clients, self.app.as_ref(), chunk_bytes)
    }
}
