//! One thread of the load generator: its clients, its connections and its clock.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use hippodrome_engine::app::Validator;
use hippodrome_engine::auth::keyring::Keyring;
use hippodrome_engine::auth::{AuthBlock, Check, Digester, LinkClass, Sealer, Verifier};
use hippodrome_engine::limits::REQUESTS_MAX;
use hippodrome_engine::pipeline::clock::Clock;
use hippodrome_engine::platform;
use hippodrome_engine::protocol::Reply;
use hippodrome_engine::protocol::client::batches::{BatchReply, Batches, Heard};
use hippodrome_engine::protocol::client::{ClientTable, ReplyOutcome};
use hippodrome_engine::sampling::{Notes, OperationNote, Sampling};
use hippodrome_engine::settings::Dissemination;
use hippodrome_engine::types::{ClientId, NodeId, ReplicaId, Time, Timestamp, nanos};
use hippodrome_engine::wire::{DecodedReplies, Decoder, Frame, FrameKind};

use crate::followed::Followed;
use crate::links::{Arrived, Links};
use crate::options::Retransmission;
use crate::outbox::Outbox;
use crate::pacing::Pacing;
use crate::reads::Reads;
use crate::recorder::{Interval, Recorder};
use crate::report::DroppedFrames;
use crate::retries::Retries;
use crate::tenths::Tenths;
use crate::timetable::Timetable;
use crate::workload::Workload;

mod batches;
mod reading;
mod sending;
mod slot;

use slot::Slot;

/// Longest wait in one poll.
const WAIT_MAX: Duration = Duration::from_millis(20);

/// What a thread tells once a second.
pub(crate) struct ThreadSecond {
    /// Latencies of the operations completed in it that belong to the measured window.
    pub(crate) measured: Interval,
    /// Latencies of the others.
    pub(crate) unmeasured: Interval,
    /// Requests sent again in it.
    pub(crate) retransmissions: u64,
}

/// What a thread tells when it is done.
#[derive(Debug, Default)]
pub(crate) struct ThreadSummary {
    pub(crate) operations: u64,
    pub(crate) latencies: u64,
    pub(crate) tenths: Tenths,
    pub(crate) offered_operations: u64,
    pub(crate) late_sends: u64,
    pub(crate) waited_for_client: u64,
    pub(crate) lag: Option<Interval>,
    pub(crate) unsent: u64,
    pub(crate) retransmissions: u64,
    pub(crate) probes: u64,
    pub(crate) timeouts: u64,
    pub(crate) unanswered: u64,
    pub(crate) bad_replies: u64,
    pub(crate) wrong_replies: Vec<u64>,
    pub(crate) missing_replies: u64,
    pub(crate) replier_changes: u64,
    pub(crate) wrong_results: u64,
    pub(crate) stale_reads: u64,
    pub(crate) read_only: u64,
    pub(crate) read_only_total: u64,
    pub(crate) fell_back: u64,
    pub(crate) busy_percent: f64,
    pub(crate) wait_percent: f64,
    pub(crate) bytes_sent: u64,
    pub(crate) system_calls: u64,
    pub(crate) dropped: DroppedFrames,
    pub(crate) completed: Vec<u64>,
    pub(crate) begun: Vec<u64>,
    pub(crate) followed: Notes<OperationNote>,
}

/// What a driver is made of.
pub(crate) struct DriverParts {
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) clock: Clock,
    pub(crate) links: Links,
    pub(crate) table: ClientTable,
    /// The node's whole range of clients, and how many connections it has to each replica.
    pub(crate) node_clients: Range<u32>,
    pub(crate) connections: u32,
    /// This thread's share of both.
    pub(crate) clients: Range<u32>,
    pub(crate) owned: Range<u32>,
    pub(crate) workload: Box<dyn Workload>,
    /// Says which operations are sent as read-only requests, if any are.
    pub(crate) reads: Option<Validator>,
    pub(crate) pacing: Pacing,
    pub(crate) timetable: Timetable,
    pub(crate) retransmission: Retransmission,
    pub(crate) sampling: Sampling,
    pub(crate) dissemination: Dissemination,
    /// Whether one replica sends the replies to a batch, and the others their digest.
    pub(crate) batch_digests: bool,
    /// How many batches replicas may be apart.
    pub(crate) window: u64,
    pub(crate) seconds: Sender<ThreadSecond>,
    pub(crate) stop: Arc<AtomicBool>,
}

/// The thread's context.
pub(crate) struct Driver {
    parts: DriverParts,
    own: NodeId,
    sealer: Sealer,
    verifier: Verifier,
    decoder: Decoder,
    digester: Digester,
    slots: Vec<Slot>,
    /// What is said of whole batches over each owned connection; empty where nothing is.
    batches: Vec<Batches>,
    /// How many operations that are asked for again one frame may have, so that a replica's answer out of its cache has
    /// room for all of their results: by those of the last batch.
    results_in_a_frame: usize,
    /// The operation that is begun; memory that is used again.
    operation: Vec<u8>,
    outboxes: Vec<Outbox>,
    /// Of read-only requests.
    read_outboxes: Vec<Outbox>,
    retries: Retries,
    reads: Reads,
    followed: Followed,
    /// Which replies of a frame are to operations that are followed; kept to be used again.
    watched: Vec<usize>,
    /// The verdict on a frame; kept likewise.
    good: Vec<bool>,
    measured: Recorder,
    unmeasured: Recorder,
    lag: Interval,
    second_retransmissions: u64,
    last_completion: Time,
    summary: ThreadSummary,
}

impl Driver {
    /// A thread's driver, ready to [`run`](Self::run).
    pub(crate) fn new(parts: DriverParts) -> Self {
        let slots = parts.clients.clone().map(|_| Slot::default()).collect();
        let batches = parts.owned.clone().filter(|_| parts.batch_digests);
        let (n, needed) = (parts.keyring.quorums().n(), parts.table.needed());
        let batches = batches.map(|_| Batches::new(n, needed, parts.window)).collect();
        let outboxes = || parts.owned.clone().map(|_| Outbox::default()).collect();
        Self {
            own: parts.keyring.own(),
            sealer: Sealer::new(Arc::clone(&parts.keyring)),
            verifier: Verifier::new(Arc::clone(&parts.keyring)),
            decoder: Decoder::new(&parts.keyring),
            digester: Digester::default(),
            slots,
            batches,
            results_in_a_frame: REQUESTS_MAX,
            operation: Vec::new(),
            outboxes: outboxes(),
            read_outboxes: outboxes(),
            retries: Retries::new(parts.retransmission),
            reads: Reads::new(nanos(parts.retransmission.first)),
            followed: Followed::new(parts.sampling),
            watched: Vec::new(),
            good: Vec::new(),
            measured: Recorder::new(),
            unmeasured: Recorder::new(),
            lag: Interval::new(0),
            second_retransmissions: 0,
            last_completion: Time(0),
            summary: ThreadSummary::default(),
            parts,
        }
    }

    /// Drives the load to its end and waits for what is outstanding.
    ///
    /// # Errors
    /// If the transport fails as a whole.
    pub(crate) fn run(mut self) -> std::io::Result<ThreadSummary> {
        let table = self.parts.timetable;
        self.wait_for(table.start)?;
        if matches!(self.parts.pacing, Pacing::Closed) {
            self.begin_all(table.start);
        }
        let (mut time_from, mut time_until) = (None, None);
        let mut frames = Vec::new();
        loop {
            let now = self.parts.clock.now();
            self.rotate_seconds(now);
            if time_from.is_none() && now >= table.measure_from {
                time_from = Some(platform::thread_time());
            }
            if time_until.is_none() && now >= table.measure_until {
                time_until = Some(platform::thread_time());
            }
            if self.is_done(now) {
                break;
            }
            self.send(now);
            let wait = self.wait(now);
            self.receive(now, wait, &mut frames)?;
        }
        let (from, until) = (time_from.unwrap_or_default(), time_until.unwrap_or_default());
        let window_ns = table.measure_until.since(table.measure_from).max(1);
        #[allow(clippy::cast_precision_loss, reason = "a percentage")]
        let percent = |from: u64, until: u64| 100.0 * until.saturating_sub(from) as f64 / window_ns as f64;
        self.summary.busy_percent = percent(from.cpu_ns, until.cpu_ns);
        self.summary.wait_percent = percent(from.wait_ns, until.wait_ns);
        Ok(self.summarise())
    }

    /// Keeps the connections alive until `start`, when all threads begin.
    fn wait_for(&mut self, start: Time) -> std::io::Result<()> {
        let mut frames = Vec::new();
        while self.parts.clock.now() < start && !self.stopped() {
            let wait = self.parts.clock.until(start).min(WAIT_MAX);
            self.parts.links.poll(self.parts.clock.now(), wait, &mut frames)?;
            frames.clear();
        }
        Ok(())
    }

    fn stopped(&self) -> bool {
        self.parts.stop.load(Ordering::Relaxed)
    }

    fn is_done(&mut self, now: Time) -> bool {
        let table = self.parts.timetable;
        if self.stopped() || now < table.measure_until {
            return self.stopped();
        }
        // All clients may be free for a moment although operations of the schedule still wait for one: their latencies,
        // the longest of all, must not be missing.
        let backlog = self.may_send(now)
            && if let Pacing::Open(open) = &mut self.parts.pacing { open.has_backlog() } else { false };
        let waits = backlog || self.slots.iter().any(|slot| slot.outstanding);
        // A cluster that is slow but goes on is waited for; one that has stopped answering is not.
        let stuck = now.since(self.last_completion.max(table.measure_until)) >= table.drain_ns;
        !waits || stuck || now.since(table.measure_until) >= table.drain_max_ns
    }

    /// Whether operations that are due may still be sent: the backlog of an overloaded cluster is given up in the end,
    /// and counted as unsent.
    fn may_send(&self, now: Time) -> bool {
        let table = self.parts.timetable;
        now < table.measure_until.after(table.drain_ns)
    }

    /// All clients that wait for nothing begin.
    pub(crate) fn begin_all(&mut self, now: Time) {
        for client in 0..self.slots.len() {
            if !self.slots[client].outstanding {
                #[allow(clippy::cast_possible_truncation, reason = "at most CLIENTS_MAX")]
                self.begin(client as u32, now, now);
            }
        }
    }

    /// Begins the next operation of a client (by its index in this thread), intended for `intended`.
    #[inline(always)]
    fn begin(&mut self, client: u32, intended: Time, now: Time) {
        let slot = &mut self.slots[client as usize];
        let id = ClientId(self.parts.clients.start + client);
        slot.reading = self.parts.reads.is_some();
        slot.followed = false;
        slot.outstanding = true;
        slot.timed_out = false;
        slot.intended = intended;
        slot.sent = now;
        self.operation.clear();
        self.parts.workload.next(id, Timestamp(slot.timestamp + 1), &mut self.operation);
        slot.keep(&self.operation);
        match &self.parts.reads {
            Some(validator) if validator.is_read(&self.operation) => {
                let number = self.parts.table.begin_read(id);
                self.reads.on_sent(now, client, number.0);
                self.enqueue_read(client, number);
            }
            _ => self.order(client, now),
        }
    }

    /// Has a client's operation ordered.
    #[inline(always)]
    fn order(&mut self, client: u32, now: Time) {
        let slot = &mut self.slots[client as usize];
        slot.reading = false;
        slot.ordered = now;
        slot.timestamp += 1;
        let (id, timestamp) = (ClientId(self.parts.clients.start + client), Timestamp(slot.timestamp));
        self.parts.table.begin(id, timestamp);
        self.retries.on_sent(now, client, timestamp.0);
        slot.followed = self.followed.on_begun(id, timestamp, now);
        self.enqueue(client, self.first_recipients());
    }

    /// How long the next poll may wait.
    fn wait(&mut self, now: Time) -> Duration {
        let mut until = now.after_duration(WAIT_MAX);
        let missing = self.next_missing();
        for due in [self.retries.next_due(), self.reads.next_due(), missing].into_iter().flatten() {
            until = until.min(due);
        }
        // Sends that fall due within the wait are announced by the ticker, which wakes the transport.
        Duration::from_nanos(until.since(now))
    }

    /// Hands what was sent to the kernel, waits for at most `wait` and takes the replies that came. `frames` is empty,
    /// and is so again: memory that is used each time.
    ///
    /// # Errors
    /// If the transport fails as a whole.
    pub(crate) fn receive(&mut self, now: Time, wait: Duration, frames: &mut Vec<Arrived>) -> std::io::Result<()> {
        if self.followed.is_waiting() {
            self.followed.on_handed(self.parts.clock.now());
        }
        self.parts.links.poll(now, wait, frames)?;
        if !frames.is_empty() {
            let read = self.parts.clock.now();
            frames.drain(..).for_each(|Arrived { connection, frame }| self.on_frame(connection, &frame, read));
            self.tell(read);
        }
        Ok(())
    }

    fn on_frame(&mut self, connection: u32, frame: &Frame, read: Time) {
        let replica = ReplicaId(frame.sender.0);
        let (reads, decoded) = match frame.kind {
            FrameKind::Replies => (false, self.decoder.replies(replica, frame.body.clone())),
            FrameKind::ReadReplies => (true, self.decoder.read_replies(replica, frame.body.clone())),
            FrameKind::BatchDigest => return self.on_batch_digest(connection, frame, read),
            _ => {
                self.summary.bad_replies += 1;
                return;
            }
        };
        let Ok(DecodedReplies { view, sequence, tentative, replies, digest, short, block, proof }) = decoded else {
            self.summary.bad_replies += 1;
            return;
        };
        if !self.is_proven(frame.sender, block, &proof) {
            self.summary.bad_replies += replies.len() as u64;
            return;
        }
        let now = self.parts.clock.now();
        if sequence.0 > 0 && !self.batches.is_empty() {
            let heard = Heard { read, counted: now };
            let reply = BatchReply { replica, sequence, digest, replies: Some(replies), short, heard };
            return self.on_batch_reply(connection, view, reply);
        }
        let mut watched = std::mem::take(&mut self.watched);
        watched.clear();
        // Numbers of reads are no timestamps: a read that has one's number is none of those.
        if !reads {
            self.followed.find(&replies, &mut watched);
        }
        let mut watch = watched.iter().copied().peekable();
        for index in 0..replies.len() {
            let client = replies.clients[index];
            let timestamp = replies.timestamps[index];
            let (result, is_digest) = (replies.result(index), replies.is_digest(index));
            let reply = Reply { replica, view, client, timestamp, result, is_digest, tentative };
            let table = &mut self.parts.table;
            let outcome = if reads { table.on_read_reply(&reply) } else { table.on_reply(&reply) };
            if watch.next_if_eq(&index).is_some()
                && matches!(outcome, ReplyOutcome::Counted | ReplyOutcome::Vouched | ReplyOutcome::Completed)
            {
                self.followed.on_counted((client, timestamp), replica, read, now);
            }
            match outcome {
                ReplyOutcome::Completed => self.complete(now, client),
                ReplyOutcome::Vouched => {
                    let client = client.0 - self.parts.clients.start;
                    if reads {
                        self.reads.on_vouched(now, client, timestamp.0);
                    } else {
                        self.retries.on_vouched(now, client, timestamp.0);
                    }
                }
                ReplyOutcome::Hopeless if self.parts.table.outstanding_read(client) == Some(timestamp) => {
                    self.fall_back(client.0 - self.parts.clients.start, now);
                }
                _ => {}
            }
        }
        self.watched = watched;
    }

    /// Whether a replica's proof holds.
    fn is_proven(&mut self, signer: NodeId, block: AuthBlock, proof: &[u8]) -> bool {
        self.verifier.verify(LinkClass::ReplicaToClient, &[Check { signer, block, proof }], &mut self.good);
        self.good == [true]
    }

    /// Completes a client's operation; its result is in the client table.
    fn complete(&mut self, now: Time, id: ClientId) {
        let slot = &self.slots[(id.0 - self.parts.clients.start) as usize];
        let table = &self.parts.table;
        let result = if slot.reading { table.read_result(id) } else { table.result(id) };
        let is_possible = self.parts.workload.check(id, slot.current(), result.unwrap_or_default());
        self.summary.wrong_results += u64::from(!is_possible);
        self.complete_checked(now, id);
    }

    /// Completes a client's operation, whose result was checked. With the next one's beginning it is compiled into the
    /// loop over a batch's replies, for which calls cost about as much as what they do.
    #[inline(always)]
    fn complete_checked(&mut self, now: Time, id: ClientId) {
        let client = id.0 - self.parts.clients.start;
        let timetable = &self.parts.timetable;
        let slot = &mut self.slots[client as usize];
        slot.outstanding = false;
        self.last_completion = now;
        let latency_ns = now.since(slot.intended);
        if slot.reading {
            self.summary.read_only += u64::from(timetable.measures(now));
            self.summary.read_only_total += 1;
            self.reads.on_complete(now, now.since(slot.sent));
        } else {
            self.retries.on_complete(client, slot.timestamp, now.since(slot.ordered));
        }
        let is_open = matches!(self.parts.pacing, Pacing::Open(_));
        let counts = timetable.counts(is_open, slot.intended, now);
        self.summary.operations += u64::from(counts.operation);
        self.summary.latencies += u64::from(counts.latency);
        if slot.followed {
            let agreed = |replica| self.parts.table.agreed(id, replica);
            self.followed.on_completed(id, (slot.intended, now), counts.latency, agreed);
        }
        let since_start = now.since(timetable.start);
        self.summary.tenths.count(since_start);
        if counts.latency {
            self.measured.record(since_start, latency_ns);
        } else {
            self.unmeasured.record(since_start, latency_ns);
        }
        match &mut self.parts.pacing {
            Pacing::Closed if now < timetable.measure_until => self.begin(client, now, now),
            Pacing::Closed => {}
            Pacing::Open(open) => open.release(now, client),
        }
    }

    /// Hands in the seconds that are over.
    fn rotate_seconds(&mut self, now: Time) {
        let since_start = now.since(self.parts.timetable.start);
        self.measured.rotate(since_start);
        self.unmeasured.rotate(since_start);
        let (measured, unmeasured) = (self.measured.take_finished(), self.unmeasured.take_finished());
        self.hand_in(measured, unmeasured);
    }

    fn hand_in(&mut self, measured: Vec<Interval>, unmeasured: Vec<Interval>) {
        for (measured, unmeasured) in measured.into_iter().zip(unmeasured) {
            let retransmissions = std::mem::take(&mut self.second_retransmissions);
            // Nobody listens any more only when the run was given up.
            let _ = self.parts.seconds.send(ThreadSecond { measured, unmeasured, retransmissions });
        }
    }

    /// How many replicas it has links to.
    pub(crate) fn replicas_connected(&self) -> usize {
        self.parts.links.replicas_connected()
    }

    /// How many operations are complete.
    pub(crate) fn completed(&self) -> u64 {
        self.slots.iter().map(Slot::completed).sum()
    }

    /// What it has done.
    pub(crate) fn summarise(mut self) -> ThreadSummary {
        self.rotate_seconds(self.parts.clock.now());
        let last = |recorder: &mut Recorder| std::mem::take(recorder).finish();
        let (measured, unmeasured) = (last(&mut self.measured), last(&mut self.unmeasured));
        self.hand_in(measured, unmeasured);
        let (wrong_replies, missing) = (self.wrong_replies(), self.missing_replies());
        let mut summary = self.summary;
        summary.wrong_replies = wrong_replies;
        (summary.missing_replies, summary.replier_changes) = missing;
        summary.lag = Some(self.lag);
        if let Pacing::Open(open) = &mut self.parts.pacing {
            summary.unsent = open.unsent();
            summary.offered_operations += summary.unsent;
        }
        summary.unanswered = self.slots.iter().filter(|slot| slot.outstanding).count() as u64;
        summary.stale_reads = self.parts.workload.stale_reads();
        summary.bytes_sent = self.parts.links.bytes_sent;
        summary.system_calls = self.parts.links.system_calls();
        summary.dropped = self.parts.links.dropped();
        summary.completed = self.slots.iter().map(Slot::completed).collect();
        summary.begun = self.slots.iter().map(|slot| slot.timestamp).collect();
        summary.followed = self.followed.finish();
        summary
    }
}
