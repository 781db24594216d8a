//! The network: the one thread that owns a replica's sockets, both ways. Frames go up to the verify stages, sealed
//! bytes come down from egress, by way of the [emulated](crate::emulation) links where there are any.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::auth::Keyring;
use crate::emulation::OutgoingLinks;
use crate::limits::{CLIENT_QUEUE_BYTES_MAX, NODE_QUEUE_BYTES_MAX, PEER_QUEUE_BYTES_MAX};
use crate::pipeline::blame::Blame;
use crate::pipeline::board::Board;
use crate::pipeline::clock::Clock;
use crate::pipeline::credit::Credit;
use crate::pipeline::egress::{Destination, Outgoing, connection_of};
use crate::pipeline::ingress::{Admission, Arrival, Ingress};
use crate::pipeline::intake::{Frames, Intake, Source};
use crate::pipeline::link::{Receiver, Sender};
use crate::pipeline::network::emulated::Emulated;
use crate::pipeline::stage::{Counts, STALL_RETRY, count};
use crate::transport::{CONNECT_WITHIN, ConnectionId, Event, Transport};
use crate::types::{NodeId, ReplicaId, Time};

mod emulated;

pub use emulated::{ChangeRequest, LinkChanges, link_changes};

/// How many connections each client node has, told by the network to egress, so that replies take the connection that
/// their client's load generator thread reads.
#[derive(Clone, Debug)]
pub struct Routes(Arc<[AtomicU32]>);

impl Routes {
    /// Routes for `nodes` nodes, no connections yet.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        Self((0..nodes).map(|_| AtomicU32::new(0)).collect())
    }

    /// How many connections `node` has announced.
    #[must_use]
    pub fn connections(&self, node: NodeId) -> u32 {
        self.0.get(usize::from(node.0)).map_or(0, |connections| connections.load(Ordering::Relaxed))
    }

    fn announce(&self, node: NodeId, connections: u32) {
        if let Some(slot) = self.0.get(usize::from(node.0)) {
            slot.store(connections, Ordering::Relaxed);
        }
    }
}

/// How soon a lost connection to a peer is made again, doubling up to the maximum.
const RECONNECT_FIRST: Duration = Duration::from_millis(20);
const RECONNECT_MAX: Duration = Duration::from_secs(1);

/// The standing connection to another replica, and when to try for a new one.
struct Peer {
    address: SocketAddr,
    /// Whether this replica is the one that connects: the higher id does.
    we_connect: bool,
    connection: Option<ConnectionId>,
    /// A connection that is being made.
    attempt: Option<ConnectionId>,
    /// When it is given up, unless it stands by then: after that, ingress watches over its handshake.
    connected_by: Option<Time>,
    retry_at: Time,
    backoff: Duration,
}

/// A client node's standing connections, by their index.
struct ClientNode {
    clients: std::ops::Range<u32>,
    connections: Vec<Option<ConnectionId>>,
}

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
    /// Given back by the verify stages.
    pub credit: Credit,
    /// From egress.
    pub outgoing: Receiver<Vec<Outgoing>>,
    /// Shared with egress.
    pub routes: Routes,
    /// What the outgoing links do, if they are emulated.
    pub emulation: Option<OutgoingLinks>,
    /// From the control port.
    pub changes: crossbeam::channel::Receiver<ChangeRequest>,
}

/// The network's context.
pub struct Network {
    own: ReplicaId,
    transport: Box<dyn Transport>,
    ingress: Ingress,
    peers: Vec<Peer>,
    client_nodes: HashMap<NodeId, ClientNode>,
    intake: Intake,
    lanes: Vec<Lanes>,
    next_verify: usize,
    blame: Blame,
    credit: Credit,
    /// Nodes that nothing is read from, because too much of theirs waits.
    paused: Vec<NodeId>,
    outgoing: Receiver<Vec<Outgoing>>,
    routes: Routes,
    nodes: usize,
    emulated: Option<Emulated>,
    changes: crossbeam::channel::Receiver<ChangeRequest>,
    events: Vec<Event>,
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
        let peers = parts.addresses.iter().enumerate().map(|(id, address)| Peer {
            address: *address,
            we_connect: id < usize::from(own.0),
            connection: None,
            attempt: None,
            connected_by: None,
            retry_at: Time(0),
            backoff: RECONNECT_FIRST,
        });
        let client_nodes = parts
            .client_nodes
            .into_iter()
            .map(|(node, clients)| (node, ClientNode { clients, connections: Vec::new() }))
            .collect();
        Ok(Self {
            own,
            transport,
            nodes: parts.keyring.nodes(),
            emulated,
            changes: parts.changes,
            intake: Intake::new(&parts.keyring),
            ingress: Ingress::new(parts.keyring),
            peers: peers.collect(),
            client_nodes,
            lanes: parts.lanes,
            next_verify: 0,
            blame: parts.blame,
            credit: parts.credit,
            paused: Vec::new(),
            outgoing: parts.outgoing,
            routes: parts.routes,
            events: Vec::new(),
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
        self.connect_where_due(clock.now());
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
        let is_late = |peer: &Peer| peer.connected_by.is_some_and(|by| by <= now);
        let mut late: Vec<_> = self.peers.iter().filter(|peer| is_late(peer)).filter_map(|peer| peer.attempt).collect();
        late.iter().for_each(|_| count(&mut self.dropped, "connect_timeout"));
        late.extend(self.ingress.expire(now));
        // What is not read can not make progress.
        late.extend(self.ingress.expire_frames(now, &self.paused));
        for connection in late {
            self.transport.close(connection);
            // It may be an attempt of this replica's own, which nobody else gives up.
            self.forget(now, connection);
        }
    }

    fn on_event(&mut self, now: Time, event: Event) {
        match event {
            Event::Accepted { connection, .. } => {
                if let Some(closed) = self.ingress.on_accepted(now, connection) {
                    self.transport.close(closed);
                    self.forget(now, closed);
                }
            }
            Event::Connected { connection } => {
                let Some(peer) = self.peers.iter().position(|peer| peer.attempt == Some(connection)) else {
                    self.transport.close(connection);
                    return;
                };
                self.peers[peer].connected_by = None;
                #[allow(clippy::cast_possible_truncation, reason = "n <= REPLICAS_MAX")]
                let hello = self.ingress.on_connected(now, connection, NodeId(peer as u16), (0, 1));
                self.transport.send(connection, hello);
            }
            Event::Received { connection, bytes } => self.on_bytes(now, connection, bytes),
            Event::Closed { connection, .. } => {
                self.ingress.on_closed(connection);
                self.forget(now, connection);
            }
        }
    }

    fn on_bytes(&mut self, now: Time, connection: ConnectionId, bytes: Bytes) {
        let mut frames = Vec::new();
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
        for frame in frames {
            if !self.intake.push(now, frame) {
                count(&mut self.dropped, "dropped_forwards_over_budget");
            }
        }
        if let Some(node) = sender.filter(|node| self.intake.is_over(*node) && !self.paused.contains(node)) {
            self.paused.push(node);
            self.set_reading(node, false);
        }
        if admission == Admission::Close {
            // What was queued, a refusal that says why, still leaves. What comes meanwhile is nobody's any more.
            self.closing.push(connection);
            self.forget(now, connection);
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
        while let Some(frames) = self.intake.pop_peer(|source| peer_lane(lanes, source).is_some()) {
            let Some(stage) = peer_lane(lanes, frames.source) else { unreachable!("it was ready just now") };
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
        let peer = self.peers.get(usize::from(node.0)).and_then(|peer| peer.connection);
        let client = self.client_nodes.get(&node).into_iter().flat_map(|node| &node.connections);
        for connection in client.flatten().copied().chain(peer) {
            self.transport.set_reading(connection, reading);
        }
    }

    fn establish(&mut self, connection: ConnectionId, node: NodeId, index: u32, connections: u32) {
        let mut replaced = Vec::new();
        if let Some(peer) = self.peers.get_mut(usize::from(node.0)) {
            if peer.attempt == Some(connection) {
                peer.attempt = None;
            }
            peer.backoff = RECONNECT_FIRST;
            replaced.extend(peer.connection.replace(connection));
        } else if let Some(client) = self.client_nodes.get_mut(&node) {
            if client.connections.len() != connections as usize {
                // The node was started anew with another number of connections: none of the old ones carries replies
                // any more.
                replaced.extend(client.connections.drain(..).flatten());
                client.connections.resize(connections as usize, None);
                self.routes.announce(node, connections);
            }
            replaced.extend(client.connections[index as usize].replace(connection));
        } else {
            replaced.push(connection);
        }
        if self.paused.contains(&node) {
            self.transport.set_reading(connection, false);
        }
        for replaced in replaced {
            self.ingress.on_closed(replaced);
            self.transport.close(replaced);
        }
    }

    fn forget(&mut self, now: Time, connection: ConnectionId) {
        for peer in &mut self.peers {
            if peer.connection == Some(connection) {
                peer.connection = None;
                // Not at once: a peer that lets this replica in and hangs up, again and again, would keep both busy.
                peer.retry_at = now.after_duration(RECONNECT_FIRST);
            }
            if peer.attempt == Some(connection) {
                peer.attempt = None;
                peer.connected_by = None;
                peer.retry_at = now.after_duration(peer.backoff);
                peer.backoff = (peer.backoff * 2).min(RECONNECT_MAX);
            }
        }
        for client in self.client_nodes.values_mut() {
            for slot in &mut client.connections {
                if *slot == Some(connection) {
                    *slot = None;
                }
            }
        }
    }

    fn connect_where_due(&mut self, now: Time) {
        for peer in &mut self.peers {
            if peer.we_connect && peer.connection.is_none() && peer.attempt.is_none() && peer.retry_at <= now {
                match self.transport.connect(peer.address) {
                    Ok(connection) => {
                        peer.attempt = Some(connection);
                        peer.connected_by = Some(now.after_duration(CONNECT_WITHIN));
                    }
                    Err(_) => peer.retry_at = now.after_duration(RECONNECT_MAX),
                }
            }
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
        let (connection, node) = match to {
            Destination::Replica(replica) => {
                (self.peers.get(usize::from(replica.0)).and_then(|peer| peer.connection), None)
            }
            Destination::Client(node, client) => {
                let node = self.client_nodes.get(&node);
                let connection = node.and_then(|node| {
                    let connections = u32::try_from(node.connections.len()).unwrap_or(0);
                    let index = connection_of(client, &node.clients, connections);
                    node.connections.get(index as usize).copied().flatten()
                });
                (connection, node)
            }
        };
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

    /// Whether there is anything to do besides the sockets: egress has sealed something or the control port has asked for
    /// something that was not taken yet, or frames wait that a verify stage has room for.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let client_room = || self.lanes.iter().any(|lanes| lanes.clients.has_room());
        !self.outgoing.is_empty()
            || !self.changes.is_empty()
            || self.intake.has_peer(|source| peer_lane(&self.lanes, source).is_some())
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
        let retry = self
            .peers
            .iter()
            .filter(|peer| peer.we_connect && peer.connection.is_none() && peer.attempt.is_none())
            .map(|peer| peer.retry_at)
            .min();
        let connected_by = self.peers.iter().filter_map(|peer| peer.connected_by).min();
        let due = self.emulated.as_ref().and_then(Emulated::next_due);
        [retry, connected_by, self.ingress.deadline(), due].into_iter().flatten().min()
    }

    /// Posts counters.
    pub fn post(&mut self, board: &mut Board) {
        let counters = self.transport.counters();
        board.report.id = self.own;
        board.report.bytes_sent = counters.bytes_sent;
        board.report.bytes_received = counters.bytes_received;
        board.report.socket_calls = counters.reads + counters.writes;
        board.report.connected = self.connected();
        board.post_ignored("ingress", self.ingress.refused());
        board.post_ignored("network", &self.dropped);
        if let Some(emulated) = &self.emulated {
            board.post_ignored("emulation", &emulated.dropped());
        }
    }

    fn connected(&self) -> Vec<NodeId> {
        let replicas =
            (0u16..).zip(&self.peers).filter(|(_, peer)| peer.connection.is_some()).map(|(id, _)| NodeId(id));
        let clients = self.client_nodes.iter().filter(|(_, node)| node.connections.iter().any(Option::is_some));
        let mut connected: Vec<NodeId> = replicas.chain(clients.map(|(node, _)| *node)).collect();
        connected.sort_unstable();
        connected
    }
}

/// The verify stage that is to get what a peer says, if it has room. What one peer says stays in order, but for its
/// pre-prepares, which any stage may get.
fn peer_lane(lanes: &[Lanes], source: Source) -> Option<usize> {
    let home = usize::from(source.node().0) % lanes.len();
    let tries = if matches!(source, Source::PrePrepares(_)) { lanes.len() } else { 1 };
    (0..tries).map(|by| (home + by) % lanes.len()).find(|stage| lanes[*stage].peers.has_room())
}

#[cfg(test)]
mod tests;
