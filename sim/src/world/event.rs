//! What will happen, in order.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::Arc;

use hippodrome_engine::protocol::{Input, Message, Timer};
use hippodrome_engine::requests::{BatchForm, ReplyTable, RequestTable};
use hippodrome_engine::types::{ClientId, Digest, ReplicaId, SequenceNumber, Time, Timestamp, View};

/// Something that happens to one part of the world. `life` tells a process from those that ran before it in the same
/// place.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A message arrives.
    Message { from: ReplicaId, to: usize, message: Arc<Message>, spoilt: bool },
    /// A client's requests arrive.
    Requests { to: usize, table: Arc<RequestTable> },
    /// Read-only requests arrive.
    Reads { to: usize, table: Arc<RequestTable> },
    /// A reply arrives at its client.
    Reply(Reply),
    /// What a replica says of a batch's replies arrives at its clients.
    BatchReply(BatchWord),
    /// How it is to answer batches arrives at a replica.
    Answering { to: usize, form: BatchForm },
    /// Replies to batches may be missing.
    Missing,
    /// A timer was set to this local time.
    Timer { at: usize, life: u32, timer: Timer, due: Time },
    /// The executor is done with what it took up last.
    Worked { at: usize, life: u32 },
    /// The executor answers.
    Feedback { at: usize, life: u32, input: Box<Input> },
    /// The disk is done with the records up to this number.
    Synced { at: usize, life: u32, records: usize },
    /// The disk has the snapshot that was written last.
    SnapshotWritten { at: usize, life: u32 },
    /// A client may begin its next operation.
    Begin { client: ClientId },
    /// A client has waited for long enough.
    Retry { client: ClientId, timestamp: Timestamp, attempt: u32 },
    /// A client has waited for long enough for the answer to a read-only request.
    GiveUpRead { client: ClientId, number: Timestamp },
    /// A faulty client acts.
    Hostile { index: usize },
    /// The ears of twins turn.
    TurnTwins,
    /// A fault begins.
    Fault { index: usize },
    /// A fault ends.
    Repair { index: usize },
    /// The network heals.
    Heal,
}

/// What a replica tells a client.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) from: ReplicaId,
    pub(super) view: View,
    pub(super) client: ClientId,
    pub(super) timestamp: Timestamp,
    pub(super) result: Vec<u8>,
    /// Whether the result is a digest.
    pub(super) is_digest: bool,
    /// Whether it answers a read-only request, whose number stands for the timestamp.
    pub(super) reads: bool,
    /// Whether the batch is only prepared there.
    pub(super) tentative: bool,
}

/// What a replica tells its clients of the replies to a batch.
#[derive(Clone, Debug)]
pub(super) struct BatchWord {
    pub(super) from: ReplicaId,
    pub(super) view: View,
    pub(super) sequence: SequenceNumber,
    pub(super) digest: Digest,
    /// The replies, if it sends them.
    pub(super) replies: Option<ReplyTable>,
}

/// All events to come.
#[derive(Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<Entry>>,
    pushed: u64,
}

struct Entry {
    at: u64,
    order: u64,
    event: Event,
}

impl Queue {
    /// `event` will happen `at` this time, after everything that was pushed for the same time before.
    pub(super) fn push(&mut self, at: u64, event: Event) {
        self.pushed += 1;
        self.heap.push(Reverse(Entry { at, order: self.pushed, event }));
    }

    /// The next event and its time.
    pub(super) fn pop(&mut self) -> Option<(u64, Event)> {
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Entry {}
