//! The egress stage: seals and encodes what leaves, one byte string for each destination.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use hdrhistogram::Histogram;

use crate::app::faulty::falsified;
use crate::auth::{Keyring, LinkClass, Sealer};
use crate::byzantine::Kind;
use crate::pipeline::board::Board;
use crate::pipeline::clock::Clock;
use crate::pipeline::execute::Answers;
use crate::pipeline::link::{Receiver, Sender};
use crate::pipeline::order::{Outbound, phase_histogram, phase_report};
use crate::pipeline::stage::{Counts, Stage, count};
use crate::requests::ReplyTable;
use crate::sampling::{Notes, ReplyNote, Sampling};
use crate::types::{ClientId, NodeId, ReplicaId, Time, Timestamp};
use crate::wire::{self, frame::spoil_last_byte};

/// Where bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Another replica.
    Replica(ReplicaId),
    /// A client node, over the connection that carries this logical client.
    Client(NodeId, ClientId),
}

/// Sealed frames for one destination.
#[derive(Debug)]
pub struct Outgoing {
    /// Where they go.
    pub to: Destination,
    /// The frames.
    pub bytes: Bytes,
}

/// Most link items that one step takes of each kind.
const ITEMS_PER_STEP: usize = 16;

/// The links of the egress stage.
pub struct EgressLinks {
    /// From the order stage.
    pub outbound: Receiver<Vec<Outbound>>,
    /// From the execute stage.
    pub answers: Receiver<Vec<Answers>>,
    /// To the network.
    pub outgoing: Sender<Vec<Outgoing>>,
}

/// The stage's context.
pub struct Egress {
    own: ReplicaId,
    keyring: Arc<Keyring>,
    sealer: Sealer,
    clock: Clock,
    routes: super::network::Routes,
    links: EgressLinks,
    outgoing: Vec<Outgoing>,
    /// What messages to all are encoded in, of at most a frame.
    scratch: Vec<u8>,
    replied: Histogram<u64>,
    messages: u64,
    refused: Counts,
    byzantine: Vec<Kind>,
    notes: Notes<ReplyNote>,
}

impl Egress {
    /// Seals for replica `own`; `routes` tells how many connections each client node has.
    #[must_use]
    pub fn new(
        own: ReplicaId,
        keyring: Arc<Keyring>,
        clock: Clock,
        routes: super::network::Routes,
        links: EgressLinks,
    ) -> Self {
        Self {
            own,
            sealer: Sealer::new(Arc::clone(&keyring)),
            keyring,
            clock,
            routes,
            links,
            outgoing: Vec::new(),
            scratch: Vec::new(),
            replied: phase_histogram(),
            messages: 0,
            refused: Counts::new(),
            byzantine: Vec::new(),
            notes: Notes::default(),
        }
    }

    /// This stage, noting when the replies pass to operations that `sampling` follows.
    #[must_use]
    pub fn following(self, sampling: Sampling) -> Self {
        Self { notes: Notes::of_stage(sampling), ..self }
    }

    /// This stage, spoiling proofs and replies as a replica that misbehaves in these ways does. Proofs can only be
    /// spoiled where the strategy makes any.
    #[must_use]
    pub fn tampering(self, byzantine: Vec<Kind>) -> Self {
        Self { byzantine, ..self }
    }

    fn send(&mut self, to: Destination, bytes: Bytes) {
        self.messages += 1;
        self.outgoing.push(Outgoing { to, bytes });
    }

    fn seal_outbound(&mut self, outbound: &Outbound) {
        match outbound {
            Outbound::To(to, message) => {
                let bytes = self.tampered(*to, wire::encode_message(message, *to, &self.sealer));
                self.send(Destination::Replica(*to), bytes);
            }
            Outbound::All(message) => {
                let scratch = std::mem::take(&mut self.scratch);
                let mut sealed = wire::Outgoing::within(message, &self.sealer, scratch);
                for replica in (0u16..).take(self.keyring.quorums().n()).map(ReplicaId).filter(|to| *to != self.own) {
                    let bytes = self.tampered(replica, sealed.for_receiver(replica));
                    self.messages += 1;
                    self.outgoing.push(Outgoing { to: Destination::Replica(replica), bytes });
                }
                self.scratch = sealed.into_scratch();
            }
        }
    }

    fn seal_answers(&mut self, answers: Answers) {
        let Some(range) = self.keyring.clients_of(answers.node) else {
            count(&mut self.refused, "reply_to_unknown_node");
            return;
        };
        let connections = self.routes.connections(answers.node);
        let now = self.clock.now();
        self.replied.saturating_record(now.since(answers.executed));
        if connections <= 1 {
            self.seal_replies(&answers, 0, &answers.replies);
        } else {
            for (connection, part) in split_by_connection(&answers.replies, &range, connections) {
                self.seal_replies(&answers, connection, &part);
            }
        }
        self.note(&answers.followed);
    }

    fn note(&mut self, followed: &[(ClientId, Timestamp)]) {
        if followed.is_empty() {
            return;
        }
        let sealed = self.clock.now();
        followed.iter().for_each(|&(client, timestamp)| self.notes.push(ReplyNote { client, timestamp, sealed }));
    }

    /// Seals these replies, which are part of `answers`, for the connection number `connection`.
    fn seal_replies(&mut self, answers: &Answers, connection: u32, replies: &ReplyTable) {
        let &Answers { node, view, sequence, reads, tentative, .. } = answers;
        let client = replies.clients.first().copied().unwrap_or_default();
        let wrong = self.byzantine.iter().any(|kind| kind.corrupts_replies()).then(|| falsified(replies));
        let unproven = self.byzantine.iter().any(|kind| kind.corrupts_reply_proofs())
            && self.sealer.proof_bytes(LinkClass::ReplicaToClient) > 0;
        let (replies, sealer) = (wrong.as_ref().unwrap_or(replies), &self.sealer);
        let frames = match (reads, tentative) {
            (true, _) => wire::encode_read_replies(replies, view, node, sealer),
            (false, true) => wire::encode_tentative_replies(replies, view, node, sealer),
            (false, false) if sequence.0 > 0 => {
                let form = self.routes.form(node, connection);
                wire::encode_batch_replies(replies, view, sequence, form, node, sealer)
            }
            (false, false) => wire::encode_replies(replies, view, node, sealer),
        };
        for mut bytes in frames {
            if unproven {
                bytes = spoil_last_byte(&bytes);
            }
            self.send(Destination::Client(node, client), bytes);
        }
    }

    /// A sealed message for replica `to` as this replica sends it.
    fn tampered(&self, to: ReplicaId, bytes: Bytes) -> Bytes {
        let unproven = self.byzantine.iter().any(|kind| kind.corrupts_proof_to(to))
            && self.sealer.proof_bytes(LinkClass::ReplicaToReplica) > 0;
        if unproven { spoil_last_byte(&bytes) } else { bytes }
    }
}

/// The connection, of `connections`, that carries `client` of a node that owns `range`: contiguous shares, so that a
/// thread of the load generator owns neighbouring clients.
#[must_use]
pub fn connection_of(client: ClientId, range: &Range<u32>, connections: u32) -> u32 {
    if connections == 1 {
        return 0; // a division for each request is dear
    }
    let index = u64::from(client.0.saturating_sub(range.start));
    let count = u64::from(range.end - range.start).max(1);
    #[allow(clippy::cast_possible_truncation, reason = "less than connections")]
    let connection = (index * u64::from(connections) / count) as u32;
    connection
}

/// One table for each connection that has replies, with its number.
fn split_by_connection(replies: &ReplyTable, range: &Range<u32>, connections: u32) -> Vec<(u32, ReplyTable)> {
    let mut parts: Vec<(ReplyTable, Vec<u8>)> = Vec::new();
    parts.resize_with(connections as usize, Default::default);
    for index in 0..replies.len() {
        let client = replies.clients[index];
        let (part, results) = &mut parts[connection_of(client, range, connections) as usize];
        part.clients.push(client);
        part.timestamps.push(replies.timestamps[index]);
        if !replies.digested.is_empty() {
            part.digested.push(replies.is_digest(index));
        }
        results.extend_from_slice(replies.result(index));
        #[allow(clippy::cast_possible_truncation, reason = "no longer than the table it comes from")]
        part.result_ends.push(results.len() as u32);
    }
    (0..)
        .zip(parts)
        .filter(|(_, (part, _))| !part.is_empty())
        .map(|(connection, (part, results))| (connection, ReplyTable { results: results.into(), ..part }))
        .collect()
}

impl Stage for Egress {
    fn name(&self) -> &'static str {
        "egress"
    }

    fn step(&mut self, _now: Time) -> bool {
        if !self.links.outgoing.flush() {
            return false;
        }
        let mut any = false;
        for _ in 0..ITEMS_PER_STEP {
            let outbound = self.links.outbound.receive();
            let answers = self.links.answers.receive();
            if outbound.is_none() && answers.is_none() {
                break;
            }
            any = true;
            for item in outbound.into_iter().flatten() {
                self.seal_outbound(&item);
            }
            for item in answers.into_iter().flatten() {
                self.seal_answers(item);
            }
        }
        if !self.outgoing.is_empty() {
            let outgoing = std::mem::take(&mut self.outgoing);
            let bytes = outgoing.iter().map(|outgoing| outgoing.bytes.len()).sum();
            self.links.outgoing.send_weighed(outgoing, bytes);
        }
        any
    }

    fn has_work(&self) -> bool {
        !self.links.outbound.is_empty() || !self.links.answers.is_empty()
    }

    fn is_stalled(&self) -> bool {
        self.links.outgoing.is_held()
    }

    fn queue_len(&self) -> usize {
        self.links.outbound.len() + self.links.answers.len()
    }

    fn post(&mut self, board: &mut Board) {
        board.notes.replies.take(&mut self.notes);
        board.report.messages_sent = self.messages;
        board.report.phases.insert("replied".into(), phase_report(&self.replied));
        board.post_ignored("egress", &self.refused);
    }
}

#[cfg(test)]
mod tests;
