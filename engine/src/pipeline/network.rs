//! The network: the one thread that owns a replica's sockets, both ways. Frames go up to the verify stages, sealed
//! bytes come down from egress, by way of the [emulated](crate::emulation) links where there are any. Which connection
//! leads to whom `connections` knows.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::auth::Keyring;
use crate::emulation::OutgoingLinks;
use crate::limits::{CLIENT_QUEUE_BYTES_MAX, NODE_QUEUE_BYTES_MAX, PEER_QUEUE_BYTES_MAX};
use crate::pipeline::blame::Blame;
use crate::pipeline::board::Board;
use crate::pipeline::clock::Clock;
use crate::pipeline::credit::Credit;
use crate::pipeline::egress::Outgoing;
use crate::pipeline::ingress::{Admission, Arrival, Ingress};
use crate::pipeline::intake::{Frames, Intake, Source};
use crate::pipeline::link::{Receiver, Sender};
use crate::pipeline::network::connections::{ClientNode, Connections};
use crate::pipeline::network::emulated::Emulated;
use crate::pipeline::stage::{Counts, STALL_RETRY, count};
use crate::ring::doorbell::Doorbell;
use crate::transport::{ConnectionId, Event, Transport};
use crate::types::{NodeId, ReplicaId, Time};
use crate::wire::{self, Frame, FrameKind};

mod connections;
mod emulated;

pub use connections::Routes;
pub use emulated::{ChangeRequest, LinkChanges, link_changes};

/// The links to one verify stage.
#[derive(Debug)]
pub struct Lanes {
    /// What peers say.
    pub peers: Sender<Frames>,
    /// Work for clients.
    pub clients: Sender<Frames>,
}

/// What the network needs from whoever starts it; can cross threads, unlike a transport.
pub struct NetworkParts {
    /// Who this replica is, and who the others are, for handshakes.
    pub keyring: Arc<Keyring>,
    /// Where it accepts.
    pub listener: TcpListener,
    /// The addresses of all replicas, in order of their ids.
    pub addresses: Vec<SocketAddr>,
    /// Each client node and its logical clients.
    pub client_nodes: Vec<(NodeId, std::ops::Range<u32>)>,
    /// To the verify stages.
    pub lanes: Vec<Lanes>,
    /// Told by the verify stages.
    pub blame: Blame,
    /// Given back by the verify stages and, for reads, by the execute stage.
    pub credit: Credit,
    /// From egress.
    pub outgoing: Receiver<Vec<Outgoing>>,
    /// Shared with egress.
    pub routes: Routes,
    /// Whether batches may be answered by digest.
    pub batch_digests: bool,
    /// What the outgoing links do, if they are emulated.
    pub emulation: Option<OutgoingLinks>,
    /// From the control port.
    pub changes: crossbeam::channel::Receiver<ChangeRequest>,
    /// Its thread's bell: the worker announces that it sleeps, and the network takes that back once the wait is over.
    pub bell: Doorbell,
}

/// The network's context.
pub struct Network {
    own: ReplicaId,
    transport: Box<dyn Transport>,
    ingress: Ingress,
    connections: Connections,
    intake: Intake,
    lanes: Vec<Lanes>,
    next_verify: usize,
    /// The verify stage that got the last pre-prepares.
    last_proposed_to: usize,
    blame: Blame,
    credit: Credit,
    /// Nodes that nothing is read from, because too much of theirs waits.
    paused: Vec<NodeId>,
    outgoing: Receiver<Vec<Outgoing>>,
    nodes: usize,
    batch_digests: bool,
    emulated: Option<Emulated>,
    changes: crossbeam::channel::Receiver<ChangeRequest>,
    bell: Doorbell,
    events: Vec<Event>,
    /// Frames of one event, empty between events.
    frames: Vec<Frame>,
    /// Connections that are refused, with what they are told still queued: the next poll writes it, then they are
    /// closed.
    closing: Vec<ConnectionId>,
    dropped: Counts,
}

impl Network {
    /// Sockets of one replica over `transport`.
    ///
    /// # Errors
    /// If the listener can not be registered, or the alarm of emulated links not be started.
    pub fn new(parts: NetworkParts, mut transport: Box<dyn Transport>) -> std::io::Result<Self> {
        transport.listen(parts.listener)?;
        let emulated = parts.emulation.map(|links| Emulated::new(links, transport.waker())).transpose()?;
        let own = ReplicaId(parts.keyring.own().0);
        let across = parts.lanes.iter().any(|lanes| lanes.peers.is_across_threads());
        let intake = Intake::new(&parts.keyring);
        Ok(Self {
            own,
            transport,
            connections: Connections::new(own, &parts.addresses, parts.client_nodes, parts.routes),
            nodes: parts.keyring.nodes(),
            batch_digests: parts.batch_digests,
            emulated,
            changes: parts.changes,
            bell: parts.bell,
            intake: if across { intake.across_threads() } else { intake },
            ingress: Ingress::new(parts.keyring),
            lanes: parts.lanes,
            next_verify: 0,
            last_proposed_to: 0,
            blame: parts.blame,
            credit: parts.credit,
            paused: Vec::new(),
            outgoing: parts.outgoing,
            events: Vec::new(),
            frames: Vec::new(),
            closing: Vec::new(),
            dropped: Counts::new(),
        })
    }

    /// Writes what is queued, waits at most `wait` for the sockets and hands on the frames that came. Returns how long
    /// it worked, ns, 0 if nothing happened.
    ///
    /// # Errors
    /// If the transport fails as a whole.
    pub fn step(&mut self, wait: Duration, clock: &Clock) -> std::io::Result<u64> {
        self.connections.connect_where_due(clock.now(), &mut *self.transport);
        // Whoever gets something now may be a stage of this thread.
        let wait = if self.hand_on() { Duration::ZERO } else { wait };
        let wait = if self.is_stalled() { wait.min(STALL_RETRY) } else { wait };
        let wait = if self.closing.is_empty() { wait } else { Duration::ZERO };
        if let Some(emulated) = &self.emulated
            && !wait.is_zero()
        {
            emulated.set_alarm(clock);
        }
        let mut events = std::mem::take(&mut self.events);
        let before = clock.now();
        self.transport.poll(Some(wait), &mut events)?;
        // At once: what came is handed on to stages which may be this thread's own.
        self.bell.awake();
        for connection in self.closing.drain(..) {
            self.transport.close(connection);
        }
        let now = clock.now();
        let any = !events.is_empty();
        for event in events.drain(..) {
            self.on_event(now, event);
        }
        self.events = events;
        self.hand_on();
        self.expire(now);
        // A poll that did not wait only moved bytes; one that did can not tell waiting from moving.
        let from = if wait.is_zero() { before } else { now };
        Ok(if any { clock.now().since(from).max(1) } else { 0 })
    }

    fn expire(&mut self, now: Time) {
        let mut late = self.connections.late(now);
        late.iter().for_each(|_| count(&mut self.dropped, "connect_timeout"));
        late.extend(self.ingress.expire(now));
        // What is not read can not make progress.
        late.extend(self.ingress.expire_frames(now, &self.paused));
        for connection in late {
            self.transport.close(connection);
            // It may be an attempt of this replica's own, which nobody else gives up.
            self.connections.forget(now, connection);
        }
    }

    fn on_event(&mut self, now: Time, event: Event) {
        match event {
            Event::Accepted { connection, .. } => {
                if let Some(closed) = self.ingress.on_accepted(now, connection) {
                    self.transport.close(closed);
                    self.connections.forget(now, closed);
                }
            }
            Event::Connected { connection } => {
                let Some(peer) = self.connections.on_connected(connection) else {
                    self.transport.close(connection);
                    return;
                };
                let hello = self.ingress.on_connected(now, connection, peer, (0, 1));
                self.transport.send(connection, hello);
            }
            Event::Received { connection, bytes } => self.on_bytes(now, connection, bytes),
            Event::Closed { connection, .. } => {
                self.ingress.on_closed(connection);
                self.connections.forget(now, connection);
            }
        }
    }

    fn on_bytes(&mut self, now: Time, connection: ConnectionId, bytes: Bytes) {
        let mut frames = std::mem::take(&mut self.frames);
        let mut arrivals = Vec::new();
        let admission = self.ingress.on_bytes(connection, bytes, &mut frames, &mut arrivals);
        for arrival in arrivals {
            match arrival {
                Arrival::Answer(bytes) => self.transport.send(connection, bytes),
                Arrival::Established { node, index, connections } => {
                    self.establish(connection, node, index, connections);
                }
            }
        }
        let sender = frames.first().map(|frame| frame.sender);
        for frame in frames.drain(..) {
            if frame.kind == FrameKind::Answering {
                self.on_answering(connection, frame);
                continue;
            }
            if !self.intake.push(now, frame) {
                count(&mut self.dropped, "dropped_forwards_over_budget");
            }
        }
        self.frames = frames;
        if let Some(node) = sender.filter(|node| self.intake.is_over(*node) && !self.paused.contains(node)) {
            self.paused.push(node);
            self.set_reading(node, false);
        }
        if admission == Admission::Close {
            // What was queued, a refusal that says why, still leaves. What comes meanwhile is nobody's any more.
            self.closing.push(connection);
            self.connections.forget(now, connection);
        }
    }

    /// A node tells how it wants replies to batches.
    fn on_answering(&mut self, connection: ConnectionId, frame: Frame) {
        match wire::decode_answering(frame.body) {
            Ok(_) if !self.batch_digests => count(&mut self.dropped, "dropped_answering"),
            Ok(form) if self.connections.on_answering(frame.sender, connection, form) => {}
            Ok(_) => count(&mut self.dropped, "dropped_answering"),
            Err(error) => count(&mut self.dropped, error.name()),
        }
    }

    /// Moves what waits to the verify stages that have room, and reads again from nodes of which enough has gone. True
    /// if anything was moved.
    fn hand_on(&mut self) -> bool {
        if self.intake.is_empty() {
            return false;
        }
        let mut any = false;
        let lanes = &mut self.lanes;
        let last = &mut self.last_proposed_to;
        while let Some(frames) = self.intake.pop_peer(|source| peer_lane(lanes, source, *last).is_some()) {
            let Some(stage) = peer_lane(lanes, frames.source, *last) else { unreachable!("it was ready just now") };
            if matches!(frames.source, Source::PrePrepares(_)) {
                *last = stage;
            }
            lanes[stage].peers.send(frames);
            any = true;
        }
        let stages = lanes.len();
        while let Some(stage) =
            (1..=stages).map(|by| (self.next_verify + by) % stages).find(|stage| lanes[*stage].clients.has_room())
        {
            let (ready, suspect) = (|node| self.credit.is_left(node), |node| self.blame.is_suspect(node));
            let Some(frames) = self.intake.pop_client(ready, suspect) else { break };
            self.credit.take(frames.source.node(), frames.cost);
            lanes[stage].clients.send(frames);
            self.next_verify = stage;
            any = true;
        }
        for node in self.paused.extract_if(.., |node| self.intake.is_relieved(*node)).collect::<Vec<_>>() {
            self.set_reading(node, true);
        }
        any
    }

    /// Stops reading from a node, or starts again.
    fn set_reading(&mut self, node: NodeId, reading: bool) {
        for connection in self.connections.of(node) {
            self.transport.set_reading(connection, reading);
        }
    }

    fn establish(&mut self, connection: ConnectionId, node: NodeId, index: u32, connections: u32) {
        let replaced = self.connections.establish(connection, node, index, connections);
        if self.paused.contains(&node) {
            self.transport.set_reading(connection, false);
        }
        for replaced in replaced {
            self.ingress.on_closed(replaced);
            self.transport.close(replaced);
        }
    }

    /// Takes what egress has sealed, and queues what leaves now: all of it, unless links are emulated.
    pub fn take_outgoing(&mut self, clock: &Clock) {
        while let Some(items) = self.outgoing.receive() {
            match &mut self.emulated {
                None => items.into_iter().for_each(|item| self.queue(item)),
                Some(emulated) => emulated.push(clock.now(), items),
            }
        }
        if self.emulated.is_some() {
            let now = clock.now();
            while let Some(item) = self.emulated.as_mut().and_then(|emulated| emulated.pop_due(now)) {
                self.queue(item);
            }
        }
        while let Ok(request) = self.changes.try_recv() {
            emulated::change(&mut self.emulated, NodeId(self.own.0), self.nodes, &self.transport.waker(), request);
        }
    }

    /// Queues a frame for its connection. What has no connection, or whose queue is full, is dropped and counted: the
    /// status exchange and the clients' retransmissions repair that, while waiting would let one slow reader stop
    /// everybody.
    fn queue(&mut self, Outgoing { to, bytes }: Outgoing) {
        let (connection, node) = self.connections.to(to);
        match connection {
            None => count(&mut self.dropped, "dropped_not_connected"),
            Some(connection) if self.is_full(connection, node) => count(&mut self.dropped, "dropped_queue_full"),
            Some(connection) => self.transport.send(connection, bytes),
        }
    }

    /// Whether so much is queued for a connection, or for all of its client node's, that no more may be.
    fn is_full(&self, connection: ConnectionId, node: Option<&ClientNode>) -> bool {
        let queued = self.transport.queued_bytes(connection);
        let Some(node) = node else { return queued > PEER_QUEUE_BYTES_MAX };
        let at_all = || node.connections.iter().flatten().map(|at| self.transport.queued_bytes(*at)).sum::<usize>();
        // As long as each keeps to its share, so do all of them.
        queued > CLIENT_QUEUE_BYTES_MAX
            || (queued > NODE_QUEUE_BYTES_MAX / node.connections.len().max(1) && at_all() > NODE_QUEUE_BYTES_MAX)
    }

    /// Whether there is anything to do besides the sockets: egress has sealed something or the control port has asked
    /// for something that was not taken yet, or frames wait that a verify stage has room for.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let client_room = || self.lanes.iter().any(|lanes| lanes.clients.has_room());
        !self.outgoing.is_empty()
            || !self.changes.is_empty()
            || self.intake.has_peer(|source| peer_lane(&self.lanes, source, self.last_proposed_to).is_some())
            || self.intake.has_client(|node| self.credit.is_left(node)) && client_room()
    }

    /// Whether frames wait because verify stages have no room for them.
    #[must_use]
    pub const fn is_stalled(&self) -> bool {
        !self.intake.is_empty()
    }

    /// How many items wait to be written.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        self.outgoing.len()
    }

    /// When a connection must be tried again or an attempt, a handshake given up, or a frame leaves an emulated link.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let due = self.emulated.as_ref().and_then(Emulated::next_due);
        [self.connections.next_due(), self.ingress.deadline(), due].into_iter().flatten().min()
    }

    /// Posts counters.
    pub fn post(&mut self, board: &mut Board) {
        let counters = self.transport.counters();
        board.report.id = self.own;
        board.report.bytes_sent = counters.bytes_sent;
        board.report.bytes_received = counters.bytes_received;
        board.report.socket_calls = counters.reads + counters.writes;
        board.report.system_calls = counters.system_calls;
        board.report.connected = self.connections.standing();
        board.post_ignored("ingress", self.ingress.refused());
        board.post_ignored("network", &self.dropped);
        if let Some(emulated) = &self.emulated {
            board.post_ignored("emulation", &emulated.dropped());
        }
    }
}

/// The verify stage that is to get what a peer says, if it has room. What one peer says stays in order, but for its
/// pre-prepares: the stage where the fewest items wait gets those, of several the one that has its turn after `last`.
fn peer_lane(lanes: &[Lanes], source: Source, last: usize) -> Option<usize> {
    let stages = lanes.len();
    if matches!(source, Source::PrePrepares(_)) {
        let in_turn = (1..=stages).map(|by| (last + by) % stages).filter(|stage| lanes[*stage].peers.has_room());
        return in_turn.min_by_key(|stage| lanes[*stage].peers.waiting());
    }
    let home = usize::from(source.node().0) % stages;
    lanes[home].peers.has_room().then_some(home)
}

#[cfg(test)]
mod tests;
