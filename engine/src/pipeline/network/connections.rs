//! Which connection leads to whom: the standing ones, those that are being made, and when to try again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::limits::CONNECTIONS_MAX;
use crate::pipeline::egress::{Destination, connection_of};
use crate::requests::BatchForm;
use crate::transport::{CONNECT_WITHIN, ConnectionId, Transport};
use crate::types::{NodeId, ReplicaId, Time};

/// How many connections each client node has and how it wants replies over them, told by the network to egress, so that
/// replies take the connection that their client's load generator thread reads.
#[derive(Clone, Debug)]
pub struct Routes(Arc<[Route]>);

#[derive(Debug, Default)]
struct Route {
    connections: AtomicU32,
    /// The numbers of connections over which replies to batches are wanted as digests.
    digests: AtomicU64,
}

const _: () = assert!(CONNECTIONS_MAX <= u64::BITS);

impl Routes {
    /// Routes for `nodes` nodes, no connections yet.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        Self((0..nodes).map(|_| Route::default()).collect())
    }

    /// How many connections `node` has announced.
    #[must_use]
    pub fn connections(&self, node: NodeId) -> u32 {
        self.0.get(usize::from(node.0)).map_or(0, |route| route.connections.load(Ordering::Relaxed))
    }

    /// How `node` wants replies to batches over its connection number `connection`.
    #[must_use]
    pub fn form(&self, node: NodeId, connection: u32) -> BatchForm {
        let digests = self.0.get(usize::from(node.0)).map_or(0, |route| route.digests.load(Ordering::Relaxed));
        if digests >> connection & 1 == 1 { BatchForm::Digest } else { BatchForm::Whole }
    }

    fn announce(&self, node: NodeId, connections: u32) {
        if let Some(route) = self.0.get(usize::from(node.0)) {
            route.connections.store(connections, Ordering::Relaxed);
        }
    }

    pub(in crate::pipeline) fn set_form(&self, node: NodeId, connection: u32, form: BatchForm) {
        if let Some(route) = self.0.get(usize::from(node.0)) {
            match form {
                BatchForm::Whole => route.digests.fetch_and(!(1 << connection), Ordering::Relaxed),
                BatchForm::Digest => route.digests.fetch_or(1 << connection, Ordering::Relaxed),
            };
        }
    }
}

/// How soon a lost connection to a peer is made again, doubling up to the maximum.
const RECONNECT_FIRST: Duration = Duration::from_millis(20);
const RECONNECT_MAX: Duration = Duration::from_secs(1);

/// The connections of one replica, by the node at their other end.
pub(super) struct Connections {
    pub(super) peers: Vec<Peer>,
    pub(super) client_nodes: HashMap<NodeId, ClientNode>,
    pub(super) routes: Routes,
}

/// The standing connection to another replica, and when to try for a new one.
pub(super) struct Peer {
    address: SocketAddr,
    /// Whether this replica is the one that connects: the higher id does.
    we_connect: bool,
    connection: Option<ConnectionId>,
    /// A connection that is being made.
    pub(super) attempt: Option<ConnectionId>,
    /// When it is given up, unless it stands by then: after that, ingress watches over its handshake.
    pub(super) connected_by: Option<Time>,
    pub(super) retry_at: Time,
    backoff: Duration,
}

/// A client node's standing connections, by their index.
pub(super) struct ClientNode {
    clients: Range<u32>,
    pub(super) connections: Vec<Option<ConnectionId>>,
}

impl Connections {
    /// None stands yet, of replica `own`.
    pub(super) fn new(
        own: ReplicaId,
        addresses: &[SocketAddr],
        client_nodes: Vec<(NodeId, Range<u32>)>,
        routes: Routes,
    ) -> Self {
        let peers = addresses.iter().enumerate().map(|(id, address)| Peer {
            address: *address,
            we_connect: id < usize::from(own.0),
            connection: None,
            attempt: None,
            connected_by: None,
            retry_at: Time(0),
            backoff: RECONNECT_FIRST,
        });
        let client_nodes = client_nodes
            .into_iter()
            .map(|(node, clients)| (node, ClientNode { clients, connections: Vec::new() }))
            .collect();
        Self { peers: peers.collect(), client_nodes, routes }
    }

    /// Begins to connect to the peers that it is time for.
    pub(super) fn connect_where_due(&mut self, now: Time, transport: &mut dyn Transport) {
        for peer in &mut self.peers {
            if peer.we_connect && peer.connection.is_none() && peer.attempt.is_none() && peer.retry_at <= now {
                match transport.connect(peer.address) {
                    Ok(connection) => {
                        peer.attempt = Some(connection);
                        peer.connected_by = Some(now.after_duration(CONNECT_WITHIN));
                    }
                    Err(_) => peer.retry_at = now.after_duration(RECONNECT_MAX),
                }
            }
        }
    }

    /// An attempt was successful. Which replica it leads to; `None` if it is nobody's any more.
    pub(super) fn on_connected(&mut self, connection: ConnectionId) -> Option<NodeId> {
        let peer = self.peers.iter().position(|peer| peer.attempt == Some(connection))?;
        self.peers[peer].connected_by = None;
        #[allow(clippy::cast_possible_truncation, reason = "n <= REPLICAS_MAX")]
        Some(NodeId(peer as u16))
    }

    /// The node at the other end of a connection has proven who it is. Returns the connections that are of no use now.
    pub(super) fn establish(
        &mut self,
        connection: ConnectionId,
        node: NodeId,
        index: u32,
        connections: u32,
    ) -> Vec<ConnectionId> {
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
            // Whoever wants anything else says so over this one.
            self.routes.set_form(node, index, BatchForm::Whole);
        } else {
            replaced.push(connection);
        }
        replaced
    }

    /// A client node tells over one of its connections how it wants replies to batches. False if it is none.
    pub(super) fn on_answering(&self, node: NodeId, connection: ConnectionId, form: BatchForm) -> bool {
        let client = self.client_nodes.get(&node);
        let at = client.and_then(|client| client.connections.iter().position(|slot| *slot == Some(connection)));
        if let Some(index) = at {
            #[allow(clippy::cast_possible_truncation, reason = "at most CONNECTIONS_MAX")]
            self.routes.set_form(node, index as u32, form);
        }
        at.is_some()
    }

    /// A connection, or an attempt, is no more.
    pub(super) fn forget(&mut self, now: Time, connection: ConnectionId) {
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

    /// Attempts that have taken too long.
    pub(super) fn late(&self, now: Time) -> Vec<ConnectionId> {
        let is_late = |peer: &&Peer| peer.connected_by.is_some_and(|by| by <= now);
        self.peers.iter().filter(is_late).filter_map(|peer| peer.attempt).collect()
    }

    /// All connections of a node that stand.
    pub(super) fn of(&self, node: NodeId) -> impl Iterator<Item = ConnectionId> {
        let peer = self.peers.get(usize::from(node.0)).and_then(|peer| peer.connection);
        let client = self.client_nodes.get(&node).into_iter().flat_map(|node| node.connections.iter().flatten());
        client.copied().chain(peer)
    }

    /// The connection that leads there, and the client node that it leads to, if it is one.
    pub(super) fn to(&self, destination: Destination) -> (Option<ConnectionId>, Option<&ClientNode>) {
        match destination {
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
        }
    }

    /// When a connection must be tried again, or an attempt given up.
    pub(super) fn next_due(&self) -> Option<Time> {
        let is_lost = |peer: &&Peer| peer.we_connect && peer.connection.is_none() && peer.attempt.is_none();
        let retry = self.peers.iter().filter(is_lost).map(|peer| peer.retry_at);
        retry.chain(self.peers.iter().filter_map(|peer| peer.connected_by)).min()
    }

    /// The nodes to which any connection stands, in order.
    pub(super) fn standing(&self) -> Vec<NodeId> {
        let replicas =
            (0u16..).zip(&self.peers).filter(|(_, peer)| peer.connection.is_some()).map(|(id, _)| NodeId(id));
        let clients = self.client_nodes.iter().filter(|(_, node)| node.connections.iter().any(Option::is_some));
        let mut standing: Vec<NodeId> = replicas.chain(clients.map(|(node, _)| *node)).collect();
        standing.sort_unstable();
        standing
    }
}
