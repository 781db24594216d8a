//! The intake: frames that wait for a verify stage, so that no node takes the others' turn.
//!
//! There are two lanes. Lane P is what peers say; it comes first. Lane C is work for clients: their requests, and those
//! that peers pass on, which must not ride on a peer's priority. In each lane every source has a queue, and the queue
//! whose frames have cost least so far has its turn (start-time fair queueing; Goyal, Vin and Cheng, 1997, section 2).
//! What a frame costs to verify is told by its head and its length, before it is decoded.

use std::collections::VecDeque;

use crate::auth::{Keyring, LinkClass};
use crate::limits::{
    INTAKE_BYTES_MAX, QUANTUM, QUANTUM_ACROSS_THREADS, QUANTUM_SIGNED, READ_CHUNK_BYTES, REQUESTS_MAX,
};
use crate::pipeline::blame::SUSPECT_FRACTION;
use crate::types::{NodeId, ReplicaId, Time};
use crate::wire::{Frame, FrameKind, requests_claimed};

/// Bytes of a frame that are worth one check: a MAC is checked in about the time in which so many are hashed.
const BYTES_PER_CHECK: usize = 128;

/// Who answers for a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A peer, by all that it says but pre-prepares and forwards, in order.
    Peer(ReplicaId),
    /// A peer's pre-prepares.
    PrePrepares(ReplicaId),
    /// A peer's forwards of requests.
    Forwards(ReplicaId),
    /// A client node.
    Client(NodeId),
}

impl Source {
    /// Whose the frame is in a cluster of `replicas`.
    #[must_use]
    pub fn of(frame: &Frame, replicas: usize) -> Self {
        let replica = ReplicaId(frame.sender.0);
        match frame.kind {
            _ if usize::from(frame.sender.0) >= replicas => Self::Client(frame.sender),
            FrameKind::PrePrepare | FrameKind::DigestPrePrepare => Self::PrePrepares(replica),
            FrameKind::Forward => Self::Forwards(replica),
            _ => Self::Peer(replica),
        }
    }

    /// The node at the other end of the connection.
    #[must_use]
    pub const fn node(self) -> NodeId {
        match self {
            Self::Peer(replica) | Self::PrePrepares(replica) | Self::Forwards(replica) => NodeId::of(replica),
            Self::Client(node) => node,
        }
    }

    const fn is_of_clients(self) -> bool {
        matches!(self, Self::Forwards(_) | Self::Client(_))
    }
}

/// Frames of one source, in the order in which they came.
#[derive(Debug)]
pub struct Frames {
    /// When the oldest of them was read.
    pub received: Time,
    /// Whose they are.
    pub source: Source,
    /// Checks of requests that they may ask for.
    pub cost: u32,
    /// The frames; each comes from the node that its header names.
    pub frames: Vec<Frame>,
}

/// Work that is handed on at a time: checks of requests.
#[must_use]
pub fn quantum(keyring: &Keyring) -> u32 {
    if is_signed(keyring) { QUANTUM_SIGNED } else { QUANTUM }
}

/// Whether requests or what replicas say is signed, and so dear to check that work is cut into slices.
#[must_use]
pub fn is_signed(keyring: &Keyring) -> bool {
    [LinkClass::ClientToReplica, LinkClass::ReplicaToReplica].iter().any(|class| keyring.strategy(*class).is_heavy())
}

/// Frames that wait for a verify stage.
#[derive(Debug)]
pub struct Intake {
    replicas: usize,
    quantum: u32,
    /// Lane P: what each peer says, then each peer's pre-prepares.
    peers: Lane,
    /// Lane C: by node; a replica's queue is of what it forwards.
    clients: Lane,
}

impl Intake {
    /// Nothing waits. `keyring` knows the nodes and what their proofs are like.
    #[must_use]
    pub fn new(keyring: &Keyring) -> Self {
        let replicas = keyring.quorums().n();
        Self {
            replicas,
            quantum: quantum(keyring),
            peers: Lane::new(2 * replicas),
            clients: Lane::new(keyring.nodes()),
        }
    }

    /// The same for verify stages that have threads of their own.
    #[must_use]
    pub fn across_threads(self) -> Self {
        Self { quantum: self.quantum.min(QUANTUM_ACROSS_THREADS), ..self }
    }

    /// Takes a frame that has just been read. False if it is one of too many forwards, which is for the caller to
    /// count: to pause its connection would hold up its sender's votes.
    pub fn push(&mut self, received: Time, frame: Frame) -> bool {
        let source = Source::of(&frame, self.replicas);
        let cost = cost(&frame);
        let queue = self.queue_of(source);
        let lane = if source.is_of_clients() { &mut self.clients } else { &mut self.peers };
        if matches!(source, Source::Forwards(_)) && lane.queues[queue].bytes >= INTAKE_BYTES_MAX {
            return false;
        }
        lane.push(queue, Waiting { received, cost, frame });
        true
    }

    /// The next frames of lane P whose source is `ready`: a quantum, or one that costs more.
    pub fn pop_peer(&mut self, ready: impl Fn(Source) -> bool) -> Option<Frames> {
        let queue = self.peers.next(|queue| ready(self.peer_source(queue)))?;
        let source = self.peer_source(queue);
        Some(self.peers.pop(queue, source, self.quantum, 1))
    }

    /// The next frames of lane C that come from a node which is `ready`: a quantum, or one that costs more. Suspects
    /// get a [fraction](SUSPECT_FRACTION) of what others get.
    pub fn pop_client(
        &mut self,
        ready: impl Fn(NodeId) -> bool,
        is_suspect: impl Fn(NodeId) -> bool,
    ) -> Option<Frames> {
        let queue = self.clients.next(|queue| ready(client_node(queue)))?;
        let node = client_node(queue).0;
        let source =
            if queue < self.replicas { Source::Forwards(ReplicaId(node)) } else { Source::Client(NodeId(node)) };
        let weight = if is_suspect(NodeId(node)) { SUSPECT_FRACTION.into() } else { 1 };
        Some(self.clients.pop(queue, source, self.quantum, weight))
    }

    /// Whether nothing more is to be read from this node.
    #[must_use]
    pub fn is_over(&self, node: NodeId) -> bool {
        self.paced_bytes(node) >= INTAKE_BYTES_MAX
    }

    /// Whether a node that was over has come down far enough to be read from again.
    #[must_use]
    pub fn is_relieved(&self, node: NodeId) -> bool {
        self.paced_bytes(node) <= INTAKE_BYTES_MAX / 2
    }

    /// Whether nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.peers.active.is_empty() && self.clients.active.is_empty()
    }

    /// Whether anything of lane P waits whose source is `ready`.
    #[must_use]
    pub fn has_peer(&self, ready: impl Fn(Source) -> bool) -> bool {
        self.peers.active.iter().any(|queue| ready(self.peer_source(*queue)))
    }

    /// Whether anything of lane C waits that comes from a node which is `ready`.
    #[must_use]
    pub fn has_client(&self, ready: impl Fn(NodeId) -> bool) -> bool {
        self.clients.active.iter().any(|queue| ready(client_node(*queue)))
    }

    #[allow(clippy::cast_possible_truncation, reason = "n <= REPLICAS_MAX")]
    const fn peer_source(&self, queue: usize) -> Source {
        match queue.checked_sub(self.replicas) {
            None => Source::Peer(ReplicaId(queue as u16)),
            Some(replica) => Source::PrePrepares(ReplicaId(replica as u16)),
        }
    }

    /// Bytes that wait in the queues for which a node's connections are paused.
    fn paced_bytes(&self, node: NodeId) -> usize {
        let node = usize::from(node.0);
        let queue = |lane: &Lane, queue: usize| lane.queues.get(queue).map_or(0, |queue| queue.bytes);
        if node < self.replicas {
            queue(&self.peers, node) + queue(&self.peers, self.replicas + node)
        } else {
            queue(&self.clients, node)
        }
    }

    fn queue_of(&self, source: Source) -> usize {
        match source {
            Source::PrePrepares(replica) => self.replicas + usize::from(replica.0),
            source => usize::from(source.node().0),
        }
    }
}

/// Checks of requests that a frame may ask for: as many as it says to have requests, for with others it is refused, or
/// as its bytes are worth if that is more.
fn cost(frame: &Frame) -> u32 {
    if frame.kind == FrameKind::DigestPrePrepare {
        return u32::try_from(1 + frame.body.len() / READ_CHUNK_BYTES).unwrap_or(u32::MAX); // no request in it is checked
    }
    let requests = requests_claimed(frame).min(REQUESTS_MAX);
    u32::try_from(1 + requests.max(frame.body.len() / BYTES_PER_CHECK)).unwrap_or(u32::MAX)
}

/// The node whose queue this is in lane C.
#[allow(clippy::cast_possible_truncation, reason = "nodes are numbered by u16")]
const fn client_node(queue: usize) -> NodeId {
    NodeId(queue as u16)
}

#[derive(Debug)]
struct Waiting {
    received: Time,
    cost: u32,
    frame: Frame,
}

impl Waiting {
    /// The memory that it takes.
    const fn bytes(&self) -> usize {
        self.frame.body.len() + size_of::<Self>()
    }
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// What its frames have cost, in a time that all queues of a lane share.
    tag: u64,
}

#[derive(Debug)]
struct Lane {
    queues: Vec<Queue>,
    /// The queues in which something waits.
    active: Vec<usize>,
    /// The tag of the queue that was served last: whoever comes back starts there, so that idleness saves up nothing.
    clock: u64,
}

impl Lane {
    fn new(queues: usize) -> Self {
        Self { queues: (0..queues).map(|_| Queue::default()).collect(), active: Vec::new(), clock: 0 }
    }

    fn push(&mut self, at: usize, waiting: Waiting) {
        let queue = &mut self.queues[at];
        if queue.waiting.is_empty() {
            queue.tag = queue.tag.max(self.clock);
            self.active.push(at);
        }
        queue.bytes += waiting.bytes();
        queue.waiting.push_back(waiting);
    }

    /// The queue whose turn it is.
    fn next(&self, ready: impl Fn(usize) -> bool) -> Option<usize> {
        self.active.iter().copied().filter(|at| ready(*at)).min_by_key(|at| (self.queues[*at].tag, *at))
    }

    /// Takes frames out of a queue that is not empty.
    fn pop(&mut self, at: usize, source: Source, quantum: u32, weight: u64) -> Frames {
        let queue = &mut self.queues[at];
        self.clock = self.clock.max(queue.tag);
        let mut taken = Frames { received: Time(u64::MAX), source, cost: 0, frames: Vec::new() };
        while queue
            .waiting
            .front()
            .is_some_and(|next| taken.cost == 0 || taken.cost.saturating_add(next.cost) <= quantum)
            && let Some(waiting) = queue.waiting.pop_front()
        {
            taken.cost = taken.cost.saturating_add(waiting.cost);
            queue.bytes -= waiting.bytes();
            taken.received = taken.received.min(waiting.received);
            taken.frames.push(waiting.frame);
        }
        queue.tag += u64::from(taken.cost) * weight;
        if queue.waiting.is_empty() {
            self.active.retain(|active| *active != at);
        }
        taken
    }
}

#[cfg(test)]
mod tests;
