//! The primary: admits requests and assigns them to sequence numbers (Castro & Liskov, OSDI'99, section 4.2).

use std::sync::Arc;

use super::transitions::{Event, Phase};
use super::{Pbft, Turn};
use crate::protocol::batching::Decision;
use crate::protocol::message::{DigestPrePrepare, PrePrepare};
use crate::protocol::{Ignored, Message, Output, Record, Timer};
use crate::requests::{Batch, Manifest, RequestTable};
use crate::types::{ClientId, Time, Timestamp};

/// The newest request of each logical client that was given a place in the queue or in a batch.
///
/// Timestamps only rise and one request of a client waits at a time, so no batch holds a request twice and no client
/// takes more than its share of the queue.
#[derive(Debug)]
pub(super) struct Admission {
    clients: Vec<Admitted>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Admitted {
    timestamp: Timestamp,
    /// It is in the queue, not yet in a batch.
    waiting: bool,
}

/// What became of the requests of one table.
#[derive(Debug, Default)]
struct Sorted {
    /// New ones.
    admitted: Vec<u32>,
    /// Ones that were admitted before: executed, or under way.
    again: Vec<usize>,
    /// A client number was out of range.
    unknown_client: bool,
    /// A client has an older request waiting.
    in_progress: bool,
    /// The queue had no room.
    queue_full: bool,
}

impl Admission {
    /// Nothing admitted yet of `clients` logical clients.
    pub(super) fn new(clients: u32) -> Self {
        Self { clients: vec![Admitted::default(); clients as usize] }
    }

    fn sort(&mut self, table: &RequestTable, room: bool) -> Sorted {
        let mut sorted = Sorted { admitted: Vec::with_capacity(table.len()), ..Sorted::default() };
        for (index, (client, &timestamp)) in (0..).zip(table.clients.iter().zip(&table.timestamps)) {
            match self.clients.get_mut(client.0 as usize) {
                None => sorted.unknown_client = true,
                Some(newest) if timestamp <= newest.timestamp => sorted.again.push(index as usize),
                Some(newest) if newest.waiting => sorted.in_progress = true,
                Some(_) if !room => sorted.queue_full = true,
                Some(newest) => {
                    *newest = Admitted { timestamp, waiting: true };
                    sorted.admitted.push(index);
                }
            }
        }
        sorted
    }

    /// Forgets everything: a new view begins.
    pub(super) fn clear(&mut self) {
        self.clients.fill(Admitted::default());
    }

    /// These requests have a place in the order already.
    pub(super) fn note(&mut self, requests: &RequestTable) {
        for (client, &timestamp) in requests.clients.iter().zip(&requests.timestamps) {
            if let Some(newest) = self.clients.get_mut(client.0 as usize)
                && newest.timestamp < timestamp
            {
                *newest = Admitted { timestamp, waiting: false };
            }
        }
    }

    /// The requests of these clients have left the queue.
    fn release(&mut self, clients: &[ClientId]) {
        for client in clients {
            self.clients[client.0 as usize].waiting = false;
        }
    }
}

impl Pbft {
    /// Admits what is new and recalls what came again: a reply may have been lost.
    pub(super) fn on_requests_at_primary(&mut self, table: Arc<RequestTable>, turn: &mut Turn<'_>) {
        let Some(table) = self.without_distrusted(table, turn) else { return };
        let sorted = self.admission.sort(&table, self.queue.has_room(&table));
        for (ignored, reason) in [
            (sorted.unknown_client, Ignored::UnknownClient),
            (sorted.in_progress, Ignored::RequestInProgress),
            (sorted.queue_full, Ignored::RequestQueueFull),
        ] {
            if ignored {
                turn.outputs.push(Output::Ignored(reason));
            }
        }
        if sorted.again.len() == table.len() && !table.is_empty() {
            turn.outputs.push(Output::Recall(table));
            return;
        }
        if !sorted.again.is_empty() {
            turn.outputs.push(Output::Recall(Arc::new(table.select(&sorted.again))));
        }
        self.queue.push(table, sorted.admitted, turn.now);
        self.propose(turn);
    }

    /// Proposes as many batches as the strategy and the high watermark allow. To be called whenever either may allow
    /// more: when requests arrive, a batch was executed, the low watermark rose, or the batch timer expired.
    pub(super) fn propose(&mut self, turn: &mut Turn<'_>) {
        if !self.leads() {
            return;
        }
        self.pass_over_decided();
        while self.next <= self.log.high()
            && let Some(decision) = self.queue.decide(turn.now, self.next, self.log.done())
        {
            match decision {
                Decision::Close { requests_max } => {
                    let (requests, oldest) = self.queue.take(requests_max, self.next, turn.now);
                    self.admission.release(&requests.clients);
                    self.assign(Batch::new(requests), oldest, turn);
                }
                Decision::At(due) => {
                    self.arm_batch_timer(due, turn);
                    break;
                }
                Decision::Wait => break,
            }
        }
        self.pad(turn);
        self.arm_view_timer(turn);
    }

    /// Proposes `batch`, whose oldest request is here since `oldest`, at the next sequence number.
    pub(super) fn assign(&mut self, batch: Arc<Batch>, oldest: Time, turn: &mut Turn<'_>) {
        let sequence = self.next;
        self.next = sequence.next();

        // The primary's pre-prepare is its only vote of the prepare phase: no own prepare is recorded.
        let pre_prepare = PrePrepare { view: self.view, sequence, batch: Arc::clone(&batch) };
        self.persist(turn, || Record::PrePrepared(pre_prepare.clone()));
        self.suspicion.note_proposed(sequence, self.log.committed, turn.now);
        let slot = self.log.slot_mut(sequence);
        slot.pre_prepared = Some(batch.digest);
        let batch_is_null = batch.is_null();
        slot.batch = Some(batch);
        slot.stamps.received = oldest;
        slot.enter(Event::Accept, turn.now);
        turn.broadcast(if self.sends_digests() && !batch_is_null {
            let PrePrepare { view, sequence, batch } = pre_prepare;
            Message::DigestPrePrepare(DigestPrePrepare { view, sequence, manifest: Arc::new(Manifest::of(&batch)) })
        } else {
            Message::PrePrepare(pre_prepare)
        });
        self.progress(sequence, turn);
        self.pass_over_decided();
    }

    /// Assigns no sequence number that has a batch already. A primary learns such decisions from others only if it does
    /// not remember what it proposed itself, because it was started anew: nothing it says is to be relied on then, but
    /// it must not fall over.
    fn pass_over_decided(&mut self) {
        self.next = self.next.max(self.log.committed.next());
        while self.next <= self.log.high() && self.log.slot(self.next).phase != Phase::Idle {
            self.next = self.next.next();
        }
    }

    /// Wakes up when a partial batch is due. An earlier wake-up is left to come: it finds nothing due and sets the
    /// timer again, which is cheaper than moving it with every arrival.
    fn arm_batch_timer(&mut self, due: Time, turn: &mut Turn<'_>) {
        if self.batch_timer.is_none_or(|set| due < set) {
            self.batch_timer = Some(due);
            turn.outputs.push(Output::SetTimer(Timer::Batch, due));
        }
    }

    /// A partial batch may be due.
    pub(super) fn on_batch_timer(&mut self, turn: &mut Turn<'_>) {
        self.batch_timer = None;
        self.propose(turn);
    }
}
