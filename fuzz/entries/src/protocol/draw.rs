//! Messages out of bytes. When they run out, everything is 0.

use std::sync::Arc;

use arbitrary::Unstructured;
use bytes::Bytes;
use hippodrome_engine::auth::Digester;
use hippodrome_engine::limits::STATUS_SLOTS_MAX;
use hippodrome_engine::protocol::message::{
    Body, Checkpoint, DigestPrePrepare, FetchState, PrePrepare, SlotStatus, StateChunk, Status, Verdict, ViewChange,
    Vote,
};
use hippodrome_engine::protocol::{Message, Position};
use hippodrome_engine::requests::{Batch, Manifest, RequestTable};
use hippodrome_engine::types::{ClientId, Digest, ReplicaId, SequenceNumber, Timestamp, View};

/// How many states there are to lie about.
pub(super) const PALETTE: u8 = 3;
/// Numbers with which arithmetic goes wrong.
const EXTREME: [u64; 8] = [u64::MAX, u64::MAX - 1, u64::MAX - 7, u64::MAX / 2, u64::MAX / 2 + 1, 1 << 32, 1 << 20, 0];

/// Batches to be proposed and voted for: the null request, and some with requests.
pub(super) fn batches() -> Vec<Arc<Batch>> {
    let one = |client, timestamp| Batch::new(table(&[(client, timestamp)]));
    vec![Batch::null(), one(0, 1), one(1, 1), Batch::new(table(&[(2, 1), (3, 1), (0, 2), (0, 2)]))]
}

fn table(requests: &[(u32, u64)]) -> RequestTable {
    let mut table = RequestTable::empty();
    let mut operations = Vec::new();
    for (index, (client, timestamp)) in (1..).zip(requests) {
        table.clients.push(ClientId(*client));
        table.timestamps.push(Timestamp(*timestamp));
        operations.push(u8::try_from(timestamp & 0xff).unwrap_or_default());
        table.operation_ends.push(index);
    }
    table.operations = operations.into();
    Digester::default().digest(&mut table);
    table
}

pub(super) fn pre_prepare(view: View, sequence: SequenceNumber, batch: Arc<Batch>) -> Message {
    Message::PrePrepare(PrePrepare { view, sequence, batch })
}

pub(super) fn digest_pre_prepare(view: View, sequence: SequenceNumber, batch: Arc<Batch>) -> Message {
    Message::DigestPrePrepare(DigestPrePrepare { view, sequence, manifest: Arc::new(Manifest::of(&batch)) })
}

pub(super) fn body(sequence: SequenceNumber, batch: Arc<Batch>) -> Message {
    Message::Body(Body { sequence, batch })
}

pub(super) struct Draw<'a>(Unstructured<'a>);

impl<'a> Draw<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(Unstructured::new(bytes))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or_default()
    }

    /// Most are `base` or a little more, some lie anywhere, some are extreme.
    fn number(&mut self, base: u64) -> u64 {
        match self.byte() {
            near @ 0..192 => base.saturating_add(u64::from(near % 8) * u64::from(near >= 64)),
            extreme @ 192..208 => EXTREME[usize::from(extreme % 8)],
            _ => u64::from(self.byte() % 32),
        }
    }

    pub(super) fn sequence(&mut self, base: u64) -> SequenceNumber {
        SequenceNumber(self.number(base))
    }

    pub(super) fn view(&mut self, base: View) -> View {
        View(self.number(base.0))
    }

    /// The digest of a state: mostly the one that all share.
    pub(super) fn state(&mut self) -> Digest {
        super::state(self.byte().saturating_sub(200))
    }

    pub(super) fn bytes(&mut self) -> Bytes {
        let len = usize::from(self.byte() % 16).min(self.0.len());
        Bytes::copy_from_slice(self.0.bytes(len).unwrap_or_default())
    }

    /// Requests of clients that there are, mostly.
    pub(super) fn requests(&mut self, clients: u32) -> Arc<RequestTable> {
        let count = self.byte() % 4;
        let requests: Vec<_> = (0..count)
            .map(|_| {
                let client = u32::from(self.byte()) % (clients + 1);
                let client = if client == clients { u32::MAX } else { client };
                (client, self.number(1))
            })
            .collect();
        Arc::new(table(&requests))
    }

    /// What the verify stage says of the requests in `message`: mostly that they are good.
    pub(super) fn verdict(&mut self, message: &Message) -> Verdict {
        let requests = match message {
            Message::PrePrepare(message) => &message.batch.requests,
            Message::Forward(table) => table,
            _ => return Verdict::GOOD,
        };
        let odd = self.byte();
        let unproven = if odd >= 224 { requests.clients.clone() } else { Vec::new() };
        Verdict { unproven, invalid: odd == 255 }
    }

    /// A list of up to three.
    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.byte() % 4;
        (0..count).map(|_| item(self)).collect()
    }

    /// A view-change, in order if the bytes are.
    pub(super) fn view_change(
        &mut self,
        replica: ReplicaId,
        view: View,
        position: &Position,
        digest: impl Fn(&mut Self) -> Digest,
    ) -> ViewChange {
        let stable = match self.byte() {
            0..160 => position.stable_checkpoint,
            160..224 => SequenceNumber(0),
            _ => self.sequence(position.stable_checkpoint.0),
        };
        let checkpoint = Checkpoint { sequence: stable, digest: self.state() };
        let checkpoints = match self.byte() {
            0..224 if stable.0 == 0 => Vec::new(),
            0..224 => vec![checkpoint],
            _ => self.list(|draw| Checkpoint { sequence: draw.sequence(stable.0), digest: draw.state() }),
        };
        let vote = |draw: &mut Self| {
            let view = View(draw.number(view.0.saturating_sub(1)));
            Vote { view, sequence: draw.sequence(stable.0.saturating_add(1)), digest: digest(draw) }
        };
        let mut prepared = self.list(vote);
        let mut pre_prepared = self.list(vote);
        pre_prepared.extend_from_slice(&prepared);
        if self.byte() < 224 {
            prepared.sort_unstable_by_key(|vote| vote.sequence);
            prepared.dedup_by_key(|vote| vote.sequence);
            pre_prepared.sort_unstable_by_key(|vote| (vote.sequence, vote.digest));
            pre_prepared.dedup_by_key(|vote| (vote.sequence, vote.digest));
        }
        ViewChange { replica, view, stable, checkpoints, prepared, pre_prepared }
    }

    /// Any message but a view-change (`None`) and a new-view.
    pub(super) fn message(&mut self, position: &Position, digest: Digest, batches: &[Arc<Batch>]) -> Option<Message> {
        let Position { view, committed, executed, .. } = *position;
        let view = self.view(view);
        let sequence = self.sequence(committed.0.saturating_add(1));
        let vote = Vote { view, sequence, digest };
        let batch = Arc::clone(&batches[usize::from(self.byte()) % batches.len()]);
        let kind = self.byte();
        if (240..252).contains(&kind) {
            return Some(digest_pre_prepare(view, sequence, batch));
        }
        Some(match kind % 12 {
            0 => pre_prepare(view, sequence, batch),
            1 => Message::Prepare(vote),
            2 => Message::Commit(vote),
            3 => Message::Committed(vote),
            4 => body(sequence, batch),
            5 => Message::Checkpoint(Checkpoint { sequence, digest: self.state() }),
            6 => Message::Status(self.status(view, executed)),
            7 => Message::Forward(self.requests(super::CLIENTS)),
            8 => Message::StateWanted(SequenceNumber(sequence.0 & !(super::INTERVAL - 1))),
            9 => Message::FetchState(FetchState { sequence, index: self.byte().into() }),
            10 => {
                let (index, count) = (self.byte().into(), self.byte().into());
                Message::StateChunk(StateChunk { sequence, index, count, bytes: self.bytes() })
            }
            _ => return None,
        })
    }

    fn status(&mut self, view: View, executed: SequenceNumber) -> Status {
        let base = executed.0.saturating_sub(self.byte().into());
        let count = if self.byte() == 255 { STATUS_SLOTS_MAX } else { usize::from(self.byte() % 4) };
        let slots = (0..count).map(|_| {
            let [flags, prepares, commits] = [self.byte(), self.byte(), self.byte()];
            SlotStatus {
                pre_prepared: flags & 1 != 0,
                prepared: flags & 2 != 0,
                committed: flags & 4 != 0,
                announced: flags & 0x40 != 0,
                prepares: prepares.into(),
                commits: u64::from(commits) << (flags & 0x38),
            }
        });
        let slots = slots.collect();
        Status {
            view,
            active: self.byte().is_multiple_of(2),
            suspects: self.byte().is_multiple_of(2),
            view_changes: self.byte().into(),
            stable: self.sequence(base & !(super::INTERVAL - 1)),
            committed: self.sequence(base),
            slots,
        }
    }
}
