//! The verify stage: parses frames, authenticates and digests them, and asks the application whether their operations
//! may be ordered. Nothing unauthenticated gets past it.

use std::sync::Arc;

use crate::app::Validator;
use crate::auth::{Check, Keyring, LinkClass, Verifier};
use crate::pipeline::board::Board;
use crate::pipeline::link::{Receiver, Sender};
use crate::pipeline::stage::{Counts, Stage, count, count_many};
use crate::protocol::message::{PrePrepare, Verdict};
use crate::protocol::{Authentic, Input, Message};
use crate::requests::RequestTable;
use crate::types::{NodeId, ReplicaId, Time};
use crate::wire::{Decoded, Decoder, Frame, FrameKind};

/// Frames of one connection, as the network read them.
#[derive(Debug)]
pub struct Frames {
    /// When they were read.
    pub received: Time,
    /// The frames; each comes from the node that its header names.
    pub frames: Vec<Frame>,
}

/// What verify hands on: inputs of the protocol core, in the order in which they came.
#[derive(Debug)]
pub struct Verified {
    /// When the oldest of their frames was read.
    pub received: Time,
    /// The inputs.
    pub inputs: Vec<Input>,
}

/// Most link items that one step takes, so that signatures of many frames share a batch and the stages behind get their
/// turn.
const ITEMS_PER_STEP: usize = 16;

/// A parsed frame that waits for its proofs to be checked.
enum Parsed {
    Requests(RequestTable),
    Message(ReplicaId, Decoded),
}

/// The stage's context.
pub struct Verify {
    name: String,
    keyring: Arc<Keyring>,
    validator: Validator,
    verifier: Verifier,
    decoder: Decoder,
    input: Receiver<Frames>,
    output: Sender<Verified>,
    parsed: Vec<Parsed>,
    good: Vec<bool>,
    good_requests: Vec<Vec<bool>>,
    refused: Counts,
}

impl Verify {
    /// Verify stage number `index`. `validator` tells which operations the application refuses.
    #[must_use]
    pub fn new(
        index: usize,
        keyring: Arc<Keyring>,
        validator: Validator,
        input: Receiver<Frames>,
        output: Sender<Verified>,
    ) -> Self {
        Self {
            name: format!("verify-{index}"),
            verifier: Verifier::new(Arc::clone(&keyring)),
            decoder: Decoder::new(&keyring),
            keyring,
            validator,
            input,
            output,
            parsed: Vec::new(),
            good: Vec::new(),
            good_requests: Vec::new(),
            refused: Counts::new(),
        }
    }

    fn parse(&mut self, frame: Frame) {
        let sender = frame.sender;
        if usize::from(sender.0) < self.keyring.quorums().n() {
            let replica = ReplicaId(sender.0);
            match self.decoder.message(frame.kind, replica, frame.body) {
                Ok(decoded) => self.parsed.push(Parsed::Message(replica, decoded)),
                Err(error) => count(&mut self.refused, error.name()),
            }
        } else if frame.kind == FrameKind::Requests {
            match self.decoder.requests(frame.body) {
                Ok(table) if self.owns_all(sender, &table) => self.parsed.push(Parsed::Requests(table)),
                Ok(_) => count(&mut self.refused, "foreign_client"),
                Err(error) => count(&mut self.refused, error.name()),
            }
        } else {
            count(&mut self.refused, "unexpected_kind");
        }
    }

    /// A client node speaks for its own logical clients only.
    fn owns_all(&self, node: NodeId, table: &RequestTable) -> bool {
        self.keyring.clients_of(node).is_some_and(|range| table.clients.iter().all(|client| range.contains(&client.0)))
    }

    /// Checks everything that was parsed at once, so that signatures share batches and tags are computed side by side.
    fn check(&mut self) {
        let checks: Vec<Check<'_>> = self
            .parsed
            .iter()
            .filter_map(|parsed| match parsed {
                Parsed::Message(sender, decoded) => {
                    Some(Check { signer: NodeId::of(*sender), block: decoded.block, proof: &decoded.proof })
                }
                Parsed::Requests(_) => None,
            })
            .collect();
        self.verifier.verify(LinkClass::ReplicaToReplica, &checks, &mut self.good);
        let tables: Vec<&RequestTable> = self.parsed.iter().filter_map(Parsed::requests).collect();
        self.verifier.verify_requests(&tables, &mut self.good_requests);
    }

    fn hand_on(&mut self, received: Time) {
        let mut inputs = Vec::with_capacity(self.parsed.len());
        let mut messages = 0;
        let mut tables = 0;
        for parsed in self.parsed.drain(..) {
            let has_requests = parsed.requests().is_some();
            let good_requests: &mut [bool] = if has_requests { &mut self.good_requests[tables] } else { &mut [] };
            tables += usize::from(has_requests);
            match parsed {
                Parsed::Requests(table) => {
                    if let Some(table) = keep_good(table, good_requests, &self.validator, &mut self.refused) {
                        inputs.push(Input::Requests(table));
                    }
                }
                Parsed::Message(sender, decoded) => {
                    let good = self.good[messages];
                    messages += 1;
                    if !good {
                        count(&mut self.refused, "bad_message_proof");
                        continue;
                    }
                    if decoded.origin.as_ref().is_some_and(|origin| !self.verifier.is_origin(origin)) {
                        count(&mut self.refused, "bad_origin_signature");
                        continue;
                    }
                    let message = authentic(sender, decoded, good_requests, &self.validator, &mut self.refused);
                    inputs.extend(message.map(Input::Message));
                }
            }
        }
        if !inputs.is_empty() {
            self.output.send(Verified { received, inputs });
        }
    }
}

impl Parsed {
    /// The requests in it that must prove themselves.
    fn requests(&self) -> Option<&RequestTable> {
        match self {
            Self::Requests(table) => Some(table),
            Self::Message(_, Decoded { message: Message::PrePrepare(PrePrepare { batch, .. }), .. }) => {
                Some(&batch.requests)
            }
            Self::Message(_, Decoded { message: Message::Forward(table), .. }) => Some(table),
            Self::Message(..) => None,
        }
    }
}

/// A message whose sender has proven itself. Of forwarded requests only those are kept that prove themselves and that
/// the application does not refuse; a batch keeps them all, since its digest covers them, and is marked.
fn authentic(
    sender: ReplicaId,
    decoded: Decoded,
    good: &mut [bool],
    validator: &Validator,
    refused: &mut Counts,
) -> Option<Authentic> {
    let signature = <[u8; 64]>::try_from(&decoded.proof[..]).ok();
    let mut requests = Verdict::GOOD;
    let message = match decoded.message {
        Message::Forward(table) => Message::Forward(keep_good(Arc::unwrap_or_clone(table), good, validator, refused)?),
        message => {
            if let Message::PrePrepare(PrePrepare { batch, .. }) = &message {
                let bad = batch.requests.clients.iter().zip(good).filter(|(_, good)| !**good);
                requests.unproven = bad.map(|(client, _)| *client).collect();
                requests.invalid = validator.refuses_any(&batch.requests);
            }
            message
        }
    };
    Some(Authentic { sender, message, signature, requests })
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
    let indices: Vec<usize> = good.iter().enumerate().filter_map(|(index, good)| good.then_some(index)).collect();
    (!indices.is_empty()).then(|| Arc::new(table.select(&indices)))
}

impl Stage for Verify {
    fn name(&self) -> &str {
        &self.name
    }

    fn step(&mut self, _now: Time) -> bool {
        if !self.output.flush() {
            return false;
        }
        let mut received = None;
        for _ in 0..ITEMS_PER_STEP {
            let Some(item) = self.input.receive() else { break };
            received.get_or_insert(item.received);
            for frame in item.frames {
                self.parse(frame);
            }
        }
        let Some(received) = received else { return false };
        if !self.parsed.is_empty() {
            self.check();
            self.hand_on(received);
        }
        true
    }

    fn has_work(&self) -> bool {
        !self.input.is_empty()
    }

    fn is_stalled(&self) -> bool {
        self.output.is_held()
    }

    fn queue_len(&self) -> usize {
        self.input.len()
    }

    fn post(&mut self, board: &mut Board) {
        board.post_ignored(&self.name, &self.refused);
    }
}

#[cfg(test)]
mod tests;
