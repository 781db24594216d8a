//! The verify stage: parses frames, authenticates and digests them, and asks the application whether their operations
//! may be ordered. Nothing unauthenticated gets past it.
//!
//! Its input comes in two [lanes](crate::pipeline::intake). A step checks a bounded amount of what peers say, then one
//! slice of the work for clients (`clients`), so that peers come first and clients are never forgotten. What peers pass
//! on with its origin's signature has a budget of its own (`origins`).

use std::collections::VecDeque;
use std::sync::Arc;

use crate::app::Validator;
use crate::auth::{Check, Keyring, LinkClass, Part, Verifier};
use crate::limits::HANDED_ON_FROM;
use crate::pipeline::blame::Blame;
use crate::pipeline::board::{Board, Reached};
use crate::pipeline::clock::Clock;
use crate::pipeline::credit::{Credit, Loan};
use crate::pipeline::intake::{self, Frames, Source};
use crate::pipeline::link::{Receiver, Sender};
use crate::pipeline::stage::{Counts, Stage, count, count_many};
use crate::pipeline::verify::clients::{Clients, Origin, Pending};
use crate::pipeline::verify::origins::Origins;
use crate::protocol::message::{PrePrepare, Signature, Verdict};
use crate::protocol::{Authentic, Ignored, Input, Message};
use crate::requests::RequestTable;
use crate::sampling::{Notes, RequestNote, Sampling};
use crate::scratch::emptied;
use crate::types::{ClientId, NodeId, ReplicaId, SequenceNumber, Time, View};
use crate::wire::{Decoded, Decoder, Frame, FrameKind};

mod clients;
mod origins;

/// What verify hands on: inputs of the protocol core, in the order in which they came.
#[derive(Debug)]
pub struct Verified {
    /// When the oldest of their frames was read.
    pub received: Time,
    /// The inputs.
    pub inputs: Vec<Input>,
}

/// Read-only requests that have proven themselves, on their way past the order stage.
#[derive(Debug)]
pub struct VerifiedReads {
    /// The requests.
    pub table: Arc<RequestTable>,
    /// Comes back to their node when they are answered.
    pub loan: Option<Arc<Loan>>,
}

/// Most items of what peers say that one step takes, so that proofs of many frames are checked side by side and clients
/// get their turn. An item is a quantum at most, or one large frame: none is taken on top of as many quanta.
const PEER_ITEMS_PER_STEP: u32 = 8;
/// Most items of work for clients that one step begins with, so that the stages behind get their turn.
const CLIENT_ITEMS_PER_STEP: usize = 16;

/// The links of a verify stage, and what it shares with others.
pub struct VerifyLinks {
    /// Lane P: what peers say.
    pub peers: Receiver<Frames>,
    /// Lane C: work for clients.
    pub clients: Receiver<Frames>,
    /// To the order stage.
    pub output: Sender<Verified>,
    /// To the execute stage: read-only requests, which are not ordered. None where the cluster orders all.
    pub reads: Option<Sender<VerifiedReads>>,
    /// Told to the network and the other verify stages.
    pub blame: Blame,
    /// Given back to the network.
    pub credit: Credit,
    /// Told by the order stage.
    pub reached: Reached,
}

/// The stage's context.
pub struct Verify {
    name: String,
    keyring: Arc<Keyring>,
    validator: Validator,
    verifier: Verifier,
    decoder: Decoder,
    links: VerifyLinks,
    /// What peers said in this step.
    messages: Vec<(ReplicaId, Decoded)>,
    quantum: u32,
    /// Whether the next stage can begin with some messages while this one checks others. Signatures had better share
    /// batches.
    hands_on_at_once: bool,
    clients: Clients,
    origins: Origins,
    /// Read-only requests that the execute stage has no room for yet.
    waiting_reads: VecDeque<VerifiedReads>,
    /// Empty between steps, as `parts` are.
    checks: Vec<Check<'static>>,
    parts: Vec<Part<'static>>,
    good: Vec<bool>,
    good_requests: Vec<bool>,
    refused: Counts,
    clock: Clock,
    notes: Notes<RequestNote>,
}

impl Verify {
    /// Verify stage number `index`. `validator` tells which operations the application refuses.
    #[must_use]
    pub fn new(index: usize, keyring: Arc<Keyring>, validator: Validator, links: VerifyLinks) -> Self {
        Self {
            name: format!("verify-{index}"),
            verifier: Verifier::new(Arc::clone(&keyring)),
            decoder: Decoder::new(&keyring),
            quantum: intake::quantum(&keyring),
            hands_on_at_once: links.output.is_across_threads() && !intake::is_signed(&keyring),
            clients: Clients::new(&keyring),
            origins: Origins::new(keyring.quorums().n()),
            waiting_reads: VecDeque::new(),
            keyring,
            validator,
            links,
            messages: Vec::new(),
            checks: Vec::new(),
            parts: Vec::new(),
            good: Vec::new(),
            good_requests: Vec::new(),
            refused: Counts::new(),
            clock: Clock::start(),
            notes: Notes::default(),
        }
    }

    /// This stage, noting by `clock` when the requests pass that `sampling` follows.
    #[must_use]
    pub fn following(self, sampling: Sampling, clock: Clock) -> Self {
        Self { clock, notes: Notes::of_stage(sampling), ..self }
    }

    fn step_peers(&mut self, now: Time) -> bool {
        // When the first of those came that were not handed on yet.
        let mut received = None;
        let mut any = false;
        let mut cost = 0_u32;
        for _ in 0..PEER_ITEMS_PER_STEP {
            if cost >= PEER_ITEMS_PER_STEP * self.quantum {
                break;
            }
            let Some(item) = self.links.peers.receive() else { break };
            cost = cost.saturating_add(item.cost);
            any = true;
            let first = *received.get_or_insert(item.received);
            let enough = self.hands_on_at_once && item.cost >= HANDED_ON_FROM;
            self.parse(item);
            if enough {
                self.finish_messages(now, first);
                received = None;
            }
        }
        if let Some(first) = received {
            self.finish_messages(now, first);
        }
        any
    }

    fn finish_messages(&mut self, now: Time, received: Time) {
        if !self.messages.is_empty() {
            self.check_messages();
            self.hand_on_messages(now, received);
        }
    }

    /// One slice of the work for clients.
    fn step_clients(&mut self, now: Time) -> bool {
        let mut any = false;
        self.clients.set_time(now);
        for _ in 0..CLIENT_ITEMS_PER_STEP {
            let Some(item) = self.links.clients.receive() else { break };
            any = true;
            let loan = Arc::new(self.links.credit.lend(item.source.node(), item.cost));
            let known = self.clients.len();
            self.parse(item);
            self.clients.hold(known, &loan);
        }
        if self.clients.is_empty() {
            return any;
        }
        self.clients.check_slice(&mut self.verifier, &self.links.blame);
        let mut inputs = Vec::new();
        let mut received = Time(u64::MAX);
        while let Some(done) = self.clients.pop_done() {
            if done.reads {
                self.hand_on_reads(done);
                continue;
            }
            received = received.min(done.received);
            self.note(&done);
            inputs.extend(self.input_of(done));
        }
        if !inputs.is_empty() {
            self.links.output.send(Verified { received, inputs });
        }
        true
    }

    /// Notes those requests that are followed and have proven themselves.
    fn note(&mut self, done: &Pending) {
        let table = &done.table;
        self.notes.sampling().find(&table.clients, &table.timestamps, |index| {
            if done.good[index] {
                self.notes.push(RequestNote {
                    client: table.clients[index],
                    timestamp: table.timestamps[index],
                    received: done.received,
                    started: done.started,
                    verified: self.clock.now(),
                });
            }
        });
    }

    /// Read-only requests that prove themselves go past the order stage. Their node gets its credit back when the
    /// execute stage has answered them, so that what waits for it is bounded, and nobody else waits.
    fn hand_on_reads(&mut self, done: Pending) {
        let Pending { table, mut good, loan, .. } = done;
        let proven = keep_good(table, &mut good, &self.validator, &mut self.refused);
        if let Some(table) = proven.and_then(|table| self.keep_reads(table)) {
            self.waiting_reads.push_back(VerifiedReads { table, loan });
        }
    }

    /// The requests that change nothing, `None` if there are none.
    fn keep_reads(&mut self, table: Arc<RequestTable>) -> Option<Arc<RequestTable>> {
        let mut good = vec![true; table.len()];
        let writes = self.validator.refuse_writes(&table, &mut good);
        if writes == 0 {
            return Some(table);
        }
        count_many(&mut self.refused, "not_a_read", writes as u64);
        (writes < table.len()).then(|| Arc::new(table.select(&indices_of(&good))))
    }

    /// Sends read-only requests as long as the execute stage has room. True if any went.
    fn send_reads(&mut self) -> bool {
        let Some(link) = &mut self.links.reads else { return false };
        let mut any = false;
        while link.has_room()
            && let Some(reads) = self.waiting_reads.pop_front()
        {
            link.send(reads);
            any = true;
        }
        any
    }

    /// Which lane something came in makes no difference to what has to be proven.
    fn parse(&mut self, Frames { received, source, frames, .. }: Frames) {
        for frame in frames {
            let outcome = match (source, frame.kind) {
                (Source::Client(node), FrameKind::Requests) => self.parse_requests(received, node, frame, false),
                (Source::Client(node), FrameKind::Reads) if self.links.reads.is_some() => {
                    self.parse_requests(received, node, frame, true)
                }
                (Source::Client(_), FrameKind::Reads) => Err("reads_are_ordered"),
                (Source::Client(_), _) => Err("unexpected_kind"),
                (_, FrameKind::Forward) => self.parse_forward(received, frame),
                (_, FrameKind::PrePrepare | FrameKind::DigestPrePrepare) => {
                    self.refuse_early(&frame).and_then(|()| self.parse_message(frame))
                }
                _ => self.parse_message(frame),
            };
            if let Err(reason) = outcome {
                count(&mut self.refused, reason);
            }
        }
    }

    fn parse_requests(&mut self, received: Time, node: NodeId, frame: Frame, reads: bool) -> Result<(), &'static str> {
        let table = self.decoder.requests(frame.body).map_err(|error| error.name())?;
        // A client node speaks for its own logical clients only.
        let range = self.keyring.clients_of(node).unwrap_or_default();
        if !table.clients.iter().all(|client| range.contains(&client.0)) {
            return Err("foreign_client");
        }
        self.clients.push(Source::Client(node), received, table, Origin::Client { reads });
        Ok(())
    }

    /// The peer proves that it passes the requests on before any of these is looked at.
    fn parse_forward(&mut self, received: Time, frame: Frame) -> Result<(), &'static str> {
        let sender = ReplicaId(frame.sender.0);
        let decoded = self.decoder.message(frame.kind, sender, frame.body).map_err(|error| error.name())?;
        let check = Check { signer: NodeId::of(sender), block: decoded.block, proof: &decoded.proof };
        self.verifier.verify(LinkClass::ReplicaToReplica, &[check], &mut self.good);
        if self.good != [true] {
            return Err("bad_message_proof");
        }
        let signature = signature(&self.keyring, &decoded);
        let Message::Forward(table) = decoded.message else { unreachable!("the frame's kind says what it holds") };
        self.clients.push(Source::Forwards(sender), received, Arc::unwrap_or_clone(table), Origin::Peer { signature });
        Ok(())
    }

    fn parse_message(&mut self, frame: Frame) -> Result<(), &'static str> {
        let sender = ReplicaId(frame.sender.0);
        let decoded = self.decoder.message(frame.kind, sender, frame.body).map_err(|error| error.name())?;
        self.messages.push((sender, decoded));
        Ok(())
    }

    /// Whether the protocol will ignore a pre-prepare whatever proofs are in it: anybody may send thousands of them.
    /// What lies above the high watermark is not refused here, since what was told of it may be out of date.
    fn refuse_early(&self, frame: &Frame) -> Result<(), &'static str> {
        // View and sequence number come first (`wire::messages`). What is too short for them is for the decoder.
        let Some((view, rest)) = frame.body.split_first_chunk() else { return Ok(()) };
        let Some((sequence, _)) = rest.split_first_chunk() else { return Ok(()) };
        let (view, sequence) = (View(u64::from_le_bytes(*view)), SequenceNumber(u64::from_le_bytes(*sequence)));
        let reason = if view < self.links.reached.view() {
            Ignored::OldView
        } else if NodeId::of(self.keyring.quorums().primary(view)) != frame.sender {
            Ignored::NotFromPrimary
        } else if sequence <= self.links.reached.low() {
            Ignored::BelowLowWatermark
        } else {
            return Ok(());
        };
        Err(reason.name())
    }

    /// Checks all messages at once, so that signatures share batches and tags are computed side by side; then the
    /// requests of those that hold, the primary's word for each batch being one of its own.
    fn check_messages(&mut self) {
        let mut checks: Vec<Check<'_>> = emptied(std::mem::take(&mut self.checks));
        checks.extend(self.messages.iter().map(|(sender, decoded)| Check {
            signer: NodeId::of(*sender),
            block: decoded.block,
            proof: &decoded.proof,
        }));
        self.verifier.verify(LinkClass::ReplicaToReplica, &checks, &mut self.good);
        self.checks = emptied(checks);
        let mut parts: Vec<Part<'_>> = emptied(std::mem::take(&mut self.parts));
        let good = self.messages.iter().zip(&self.good).enumerate().filter(|(_, (_, good))| **good);
        parts.extend(good.filter_map(|(at, ((_, decoded), _))| Some(Part::whole(requests_of(decoded)?, at))));
        self.verifier.verify_requests(&parts, &mut self.good_requests);
        self.parts = emptied(parts);
    }

    fn hand_on_messages(&mut self, now: Time, received: Time) {
        let mut inputs = Vec::with_capacity(self.messages.len());
        let mut at = 0;
        for ((sender, decoded), good) in self.messages.drain(..).zip(&self.good) {
            if !good {
                count(&mut self.refused, "bad_message_proof");
                continue;
            }
            if let Some(origin) = &decoded.origin
                && let Err(reason) = self.origins.check(now, sender, origin, &self.verifier)
            {
                count(&mut self.refused, reason);
                continue;
            }
            let requests = requests_of(&decoded).map_or(0, RequestTable::len);
            let good_requests = &self.good_requests[at..at + requests];
            at += requests;
            let signature = signature(&self.keyring, &decoded);
            inputs.push(Input::Message(authentic(sender, decoded, signature, good_requests, &self.validator)));
        }
        if !inputs.is_empty() {
            self.links.output.send(Verified { received, inputs });
        }
    }

    /// What becomes of requests that have been checked. Those are kept that prove themselves and that the application
    /// does not refuse. A tag that does not hold here may hold where it was passed on, so those of a forward are kept
    /// too, and marked.
    fn input_of(&mut self, done: Pending) -> Option<Input> {
        let Pending { source, table, mut good, signature, .. } = done;
        let mut requests = Verdict::GOOD;
        if matches!(source, Source::Forwards(_)) && table.proofs.columns() > 0 {
            requests.unproven = unproven(&table, &good);
            good.fill(true);
        }
        let table = keep_good(table, &mut good, &self.validator, &mut self.refused)?;
        Some(match source {
            Source::Forwards(sender) => {
                Input::Message(Authentic { sender, message: Message::Forward(table), signature, requests })
            }
            _ => Input::Requests(table),
        })
    }
}

/// The requests of a message that must prove themselves.
fn requests_of(decoded: &Decoded) -> Option<&RequestTable> {
    match &decoded.message {
        Message::PrePrepare(PrePrepare { batch, .. }) => Some(&batch.requests),
        _ => None,
    }
}

/// The proof of a message if it convinces others, too.
fn signature(keyring: &Keyring, decoded: &Decoded) -> Option<Signature> {
    let is_transferable = keyring.strategy(LinkClass::ReplicaToReplica).is_transferable();
    is_transferable.then(|| Signature::try_from(&decoded.proof[..]).ok()).flatten()
}

/// A message whose sender has proven itself. A batch keeps all its requests, since its digest covers them, and is
/// marked.
fn authentic(
    sender: ReplicaId,
    decoded: Decoded,
    signature: Option<Signature>,
    good: &[bool],
    validator: &Validator,
) -> Authentic {
    let mut requests = Verdict::GOOD;
    if let Some(table) = requests_of(&decoded) {
        requests.unproven = unproven(table, good);
        requests.invalid = validator.refuses_any(table);
    }
    Authentic { sender, message: decoded.message, signature, requests }
}

/// Whose requests do not prove themselves here.
fn unproven(table: &RequestTable, good: &[bool]) -> Vec<ClientId> {
    table.clients.iter().zip(good).filter(|(_, good)| !**good).map(|(client, _)| *client).collect()
}

/// The requests that proved themselves and that the application does not refuse, `None` if there are none.
fn keep_good(
    table: RequestTable,
    good: &mut [bool],
    validator: &Validator,
    refused: &mut Counts,
) -> Option<Arc<RequestTable>> {
    let unproven = good.iter().filter(|good| !**good).count();
    let invalid = validator.refuse(&table, good);
    if unproven + invalid == 0 {
        return Some(Arc::new(table));
    }
    count_many(refused, "bad_request_proof", unproven as u64);
    count_many(refused, "invalid_operation", invalid as u64);
    let indices = indices_of(good);
    (!indices.is_empty()).then(|| Arc::new(table.select(&indices)))
}

/// Where the marks are.
fn indices_of(good: &[bool]) -> Vec<usize> {
    good.iter().enumerate().filter_map(|(index, good)| good.then_some(index)).collect()
}

impl Stage for Verify {
    fn name(&self) -> &str {
        &self.name
    }

    fn step(&mut self, now: Time) -> bool {
        if !self.links.output.flush() {
            return false;
        }
        let mut any = self.step_peers(now);
        // What peers said may have filled the link; clients wait for it, and peers never for clients.
        if !self.links.output.is_held() {
            any |= self.step_clients(now);
        }
        any |= self.send_reads();
        any
    }

    fn has_work(&self) -> bool {
        !self.links.peers.is_empty() || !self.links.clients.is_empty() || !self.clients.is_empty()
    }

    fn is_stalled(&self) -> bool {
        self.links.output.is_held() || !self.waiting_reads.is_empty()
    }

    fn queue_len(&self) -> usize {
        self.links.peers.len() + self.links.clients.len()
    }

    fn post(&mut self, board: &mut Board) {
        board.notes.requests.take(&mut self.notes);
        board.post_ignored(&self.name, &self.refused);
    }
}

#[cfg(test)]
mod tests;
