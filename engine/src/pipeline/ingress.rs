//! Ingress: reassembles frames and admits only whom the handshake has proven. It never parses the bodies of other
//! frames.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::auth::keyring::Keyring;
use crate::limits::{
    CONNECTIONS_MAX, FRAME_BODY_BYTES_MAX, HELLO_BODY_BYTES_MAX, NODE_FRAMES_BYTES_MAX, STRANGERS_MAX,
    client_body_bytes_max,
};
use crate::pipeline::stage::{Counts, count};
use crate::platform;
use crate::transport::ConnectionId;
use crate::types::{NodeId, Time};
use crate::wire::handshake::{Established, Handshake};
use crate::wire::{Frame, FrameReader};

/// How long a stranger may take to prove who it is.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// How long it has for certain: after that it makes room for others, so that connections that say nothing do not lock
/// out those who can prove themselves.
const HANDSHAKE_GRACE: Duration = Duration::from_millis(500);
/// How often frames that have begun are looked at, and after how many looks without another byte of it one is given up.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOKS_MAX: u32 = 10;
/// Most refusals of one kind that are printed; all are counted.
const PRINTED_MAX: u64 = 20;

/// Whether a connection may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Keep,
    /// It did something wrong, which was counted.
    Close,
}

/// What a handshake asks of the network.
#[derive(Debug)]
pub enum Arrival {
    /// Send this.
    Answer(Bytes),
    /// The other side has proven to be this node.
    Established {
        /// Who.
        node: NodeId,
        /// Which of its connections.
        index: u32,
        /// Of how many.
        connections: u32,
    },
}

enum State {
    Stranger { handshake: Box<Handshake>, until: Time },
    Proven(NodeId),
}

struct Connection {
    reader: FrameReader,
    state: State,
    /// Bytes of memory that the frame which has begun keeps.
    held: usize,
    /// How often it was looked at since bytes came.
    looks: u32,
}

/// The connections and what they have proven.
pub struct Ingress {
    keyring: Arc<Keyring>,
    connections: HashMap<ConnectionId, Connection>,
    strangers: usize,
    /// By node, the bytes of memory that frames which have begun keep, on all of its connections.
    held: Vec<usize>,
    look_at: Time,
    refused: Counts,
}

impl Ingress {
    /// No connections yet. `keyring` proves who this node is and who others are.
    #[must_use]
    pub fn new(keyring: Arc<Keyring>) -> Self {
        let held = vec![0; keyring.nodes()];
        Self { keyring, connections: HashMap::new(), strangers: 0, held, look_at: Time(0), refused: Counts::new() }
    }

    /// A stranger has connected. If there are too many of them, returns the one that is to be closed: the one that has
    /// taken longest, or this one if all came just now.
    pub fn on_accepted(&mut self, now: Time, connection: ConnectionId) -> Option<ConnectionId> {
        let mut slow = None;
        if self.strangers >= STRANGERS_MAX {
            count(&mut self.refused, "too_many_strangers");
            slow = self.slow_stranger(now);
            let Some(slow) = slow else { return Some(connection) };
            self.on_closed(slow);
        }
        let handshake = Handshake::accept(Arc::clone(&self.keyring), rand::random());
        self.add(now, connection, handshake);
        slow
    }

    /// The stranger that has taken longest, if that is long.
    fn slow_stranger(&self, now: Time) -> Option<ConnectionId> {
        let until = |entry: &Connection| match entry.state {
            State::Stranger { until, .. } => Some(until),
            State::Proven(_) => None,
        };
        let strangers = self.connections.iter().filter_map(|(id, entry)| Some((until(entry)?, *id)));
        let (until, slow) = strangers.min()?;
        (until <= now.after_duration(HANDSHAKE_WITHIN - HANDSHAKE_GRACE)).then_some(slow)
    }

    /// A connection to `peer`, number `index` of `connections`, stands: returns what to say first.
    pub fn on_connected(
        &mut self,
        now: Time,
        connection: ConnectionId,
        peer: NodeId,
        (index, connections): (u32, u32),
    ) -> Bytes {
        let keyring = Arc::clone(&self.keyring);
        let (handshake, hello) = Handshake::initiate(keyring, peer, index, connections, rand::random());
        self.add(now, connection, handshake);
        hello
    }

    fn add(&mut self, now: Time, connection: ConnectionId, handshake: Handshake) {
        self.strangers += 1;
        let until = now.after_duration(HANDSHAKE_WITHIN);
        let state = State::Stranger { handshake: Box::new(handshake), until };
        let reader = FrameReader::new(HELLO_BODY_BYTES_MAX);
        self.connections.insert(connection, Connection { reader, state, held: 0, looks: 0 });
    }

    /// Bytes came in. Whole frames of a proven node go to `frames`, a handshake's consequences to `arrivals`.
    pub fn on_bytes(
        &mut self,
        connection: ConnectionId,
        bytes: Bytes,
        frames: &mut Vec<Frame>,
        arrivals: &mut Vec<Arrival>,
    ) -> Admission {
        let Some(entry) = self.connections.get_mut(&connection) else { return Admission::Keep };
        entry.looks = 0;
        entry.reader.push(bytes);
        let outcome = loop {
            let frame = match entry.reader.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.name()),
            };
            match &mut entry.state {
                State::Proven(node) if frame.sender == *node => frames.push(frame),
                State::Proven(_) => break Err("wrong_sender"),
                State::Stranger { handshake, .. } => {
                    let step = match handshake.on_frame(&frame) {
                        Ok(step) => step,
                        Err(error) => {
                            if self.refused.get(error.name()).is_none_or(|printed| *printed < PRINTED_MAX) {
                                platform::log(&format!("node {}: handshake refused: {error}", self.keyring.own()));
                            }
                            arrivals.extend(error.refusal(self.keyring.own()).map(Arrival::Answer));
                            break Err(error.name());
                        }
                    };
                    arrivals.extend(step.reply.map(Arrival::Answer));
                    let Some(Established { peer, connection: index, connections }) = step.established else { continue };
                    let clients = self.keyring.clients_of(peer);
                    // Each of a client node's serves logical clients of its own.
                    let most = clients
                        .as_ref()
                        .map_or(CONNECTIONS_MAX, |clients| CONNECTIONS_MAX.min(clients.end - clients.start));
                    if connections > most {
                        break Err("too_many_connections");
                    }
                    if index >= connections {
                        break Err("bad_connection_index");
                    }
                    entry.state = State::Proven(peer);
                    let client_body_max = || client_body_bytes_max(self.keyring.quorums().n());
                    entry.reader.set_body_max(clients.map_or(FRAME_BODY_BYTES_MAX, |_| client_body_max()));
                    self.strangers -= 1;
                    arrivals.push(Arrival::Established { node: peer, index, connections });
                }
            }
        };
        match outcome.and_then(|()| self.hold(connection)) {
            Ok(()) => Admission::Keep,
            Err(reason) => {
                count(&mut self.refused, reason);
                self.on_closed(connection);
                Admission::Close
            }
        }
    }

    /// Notes how much memory a proven node's frame keeps that has begun.
    fn hold(&mut self, connection: ConnectionId) -> Result<(), &'static str> {
        let Some(entry) = self.connections.get_mut(&connection) else { return Ok(()) };
        let (State::Proven(node), held) = (&entry.state, entry.reader.carried_bytes()) else { return Ok(()) };
        if held == entry.held {
            return Ok(());
        }
        let of_node = &mut self.held[usize::from(node.0)];
        *of_node = *of_node - std::mem::replace(&mut entry.held, held) + held;
        if *of_node > NODE_FRAMES_BYTES_MAX { Err("node_over_budget") } else { Ok(()) }
    }

    /// A connection is gone.
    pub fn on_closed(&mut self, connection: ConnectionId) {
        match self.connections.remove(&connection) {
            Some(Connection { state: State::Stranger { .. }, .. }) => self.strangers -= 1,
            Some(Connection { state: State::Proven(node), held, .. }) => self.held[usize::from(node.0)] -= held,
            None => {}
        }
    }

    /// Forgets connections on which a frame has begun and does not go on, but for those of nodes that are not read from
    /// now (`paused`); they are to be closed. To be called now and then.
    pub fn expire_frames(&mut self, now: Time, paused: &[NodeId]) -> Vec<ConnectionId> {
        if now < self.look_at {
            return Vec::new();
        }
        self.look_at = now.after_duration(LOOK_EVERY);
        let mut late = Vec::new();
        let is_read = |state: &State| !matches!(state, State::Proven(node) if paused.contains(node));
        let begun = self.connections.iter_mut().filter(|(_, entry)| entry.held > 0 && is_read(&entry.state));
        for (connection, entry) in begun {
            entry.looks += 1;
            if entry.looks > LOOKS_MAX {
                late.push(*connection);
            }
        }
        for connection in &late {
            count(&mut self.refused, "frame_timeout");
            self.on_closed(*connection);
        }
        late
    }

    /// Forgets strangers that took too long; they are to be closed.
    pub fn expire(&mut self, now: Time) -> Vec<ConnectionId> {
        if self.strangers == 0 {
            return Vec::new();
        }
        let late: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, entry)| matches!(entry.state, State::Stranger { until, .. } if until <= now))
            .map(|(connection, _)| *connection)
            .collect();
        for connection in &late {
            count(&mut self.refused, "handshake_timeout");
            self.on_closed(*connection);
        }
        late
    }

    /// When the next stranger's time is up.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        if self.strangers == 0 {
            return None;
        }
        let until = |entry: &Connection| match entry.state {
            State::Stranger { until, .. } => Some(until),
            State::Proven(_) => None,
        };
        self.connections.values().filter_map(until).min()
    }

    /// What was refused so far.
    #[must_use]
    pub const fn refused(&self) -> &Counts {
        &self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testing::{cluster, keyring};
    use crate::wire::FrameKind;
    use crate::wire::frame::encode_frame;

    #[test]
    fn strangers_that_say_nothing_make_room_for_others() {
        let mut ingress = Ingress::new(keyring(&cluster("mac", 4, &[9]), 0));
        let most = u64::try_from(STRANGERS_MAX).unwrap();
        for number in 0..most {
            assert_eq!(ingress.on_accepted(Time(number), ConnectionId(number)), None);
        }
        // All of them came just now: they may still be about to prove themselves.
        assert_eq!(ingress.on_accepted(Time(most), ConnectionId(most)), Some(ConnectionId(most)));
        let later = Time(1).after_duration(HANDSHAKE_GRACE);
        assert_eq!(ingress.on_accepted(later, ConnectionId(1000)), Some(ConnectionId(0)));
        assert_eq!(ingress.on_accepted(later, ConnectionId(1001)), Some(ConnectionId(1)));
        assert_eq!(ingress.on_accepted(later, ConnectionId(1002)), Some(ConnectionId(1002)));
        assert_eq!(ingress.strangers, STRANGERS_MAX);
        assert_eq!(ingress.refused()["too_many_strangers"], 4);
        // Whoever is left is given up in the end.
        assert_eq!(ingress.expire(Time(u64::MAX)).len(), STRANGERS_MAX);
        assert_eq!((ingress.strangers, ingress.deadline()), (0, None));
    }

    /// Connection number `index` of `connections` of client node `node` proves itself.
    fn prove(ingress: &mut Ingress, connection: u64, node: u16, numbers: (u32, u32)) -> Admission {
        let theirs = keyring(&cluster("mac", 4, &[40, 9]), node);
        let (mut handshake, hello) = Handshake::initiate(theirs, NodeId(0), numbers.0, numbers.1, [1; 32]);
        let id = ConnectionId(connection);
        let (mut frames, mut arrivals) = (Vec::new(), Vec::new());
        assert_eq!(ingress.on_accepted(Time(0), id), None);
        ingress.on_bytes(id, hello, &mut frames, &mut arrivals);
        let Some(Arrival::Answer(welcome)) = arrivals.pop() else { panic!("{arrivals:?}") };
        let mut reader = FrameReader::new(HELLO_BODY_BYTES_MAX);
        reader.push(welcome);
        let welcome = reader.next_frame().unwrap().unwrap();
        let proof = handshake.on_frame(&welcome).unwrap().reply.unwrap();
        ingress.on_bytes(id, proof, &mut frames, &mut arrivals)
    }

    fn say(ingress: &mut Ingress, connection: u64, bytes: &Bytes) -> Admission {
        ingress.on_bytes(ConnectionId(connection), bytes.clone(), &mut Vec::new(), &mut Vec::new())
    }

    /// A frame of a client node that lacks its last byte, and that byte.
    fn half(body_bytes: usize) -> (Bytes, Bytes) {
        let mut frame = encode_frame(FrameKind::Requests, NodeId(4), body_bytes, |out| {
            out.resize(out.len() + body_bytes, 7);
        });
        let first = frame.split_to(frame.len() - 1);
        (first, frame)
    }

    #[test]
    fn frames_that_have_begun_keep_a_bounded_amount_of_memory_for_each_node() {
        let mut ingress = Ingress::new(keyring(&cluster("mac", 4, &[40, 9]), 0));
        let (most, last) = half(client_body_bytes_max(4));
        let mut open = Vec::new();
        for index in 0..40 {
            assert_eq!(prove(&mut ingress, u64::from(index), 4, (index, 40)), Admission::Keep);
            if say(&mut ingress, u64::from(index), &most) == Admission::Keep {
                open.push(u64::from(index));
            }
            assert!(ingress.held[4] <= NODE_FRAMES_BYTES_MAX);
        }
        assert!(open.len() > 5 && open.len() < 20, "{}", open.len());
        assert_eq!(ingress.refused()["node_over_budget"], 40 - open.len() as u64);
        // Others have a budget of their own, and what is whole counts no more.
        assert_eq!(prove(&mut ingress, 100, 5, (0, 9)), Admission::Keep);
        assert_eq!(ingress.held[5], 0);
        for connection in open {
            assert_eq!(say(&mut ingress, connection, &last), Admission::Keep);
        }
        assert_eq!(ingress.held[4], 0);
        assert_eq!(prove(&mut ingress, 101, 4, (0, 40)), Admission::Keep);
        assert_eq!(say(&mut ingress, 101, &most), Admission::Keep);
        ingress.on_closed(ConnectionId(101));
        assert_eq!(ingress.held, [0; 6]);
    }

    #[test]
    fn client_nodes_get_no_more_than_they_need() {
        let mut ingress = Ingress::new(keyring(&cluster("mac", 4, &[40, 9]), 0));
        assert_eq!(prove(&mut ingress, 1, 5, (0, 9)), Admission::Keep);
        assert_eq!(prove(&mut ingress, 2, 5, (0, 10)), Admission::Close);
        assert_eq!(prove(&mut ingress, 3, 4, (0, CONNECTIONS_MAX)), Admission::Close);
        assert_eq!(ingress.refused()["too_many_connections"], 2);
        assert_eq!(prove(&mut ingress, 5, 4, (0, 1)), Admission::Keep);
        assert_eq!(say(&mut ingress, 5, &half(client_body_bytes_max(4) + 1).0), Admission::Close);
        assert_eq!(ingress.refused()["too_long"], 1);
    }

    #[test]
    fn a_frame_that_does_not_go_on_ends_its_connection() {
        let mut ingress = Ingress::new(keyring(&cluster("mac", 4, &[40, 9]), 0));
        let (first, _) = half(1000);
        for (connection, index) in [(1, 0), (2, 1), (3, 2)] {
            assert_eq!(prove(&mut ingress, connection, 4, (index, 3)), Admission::Keep);
        }
        say(&mut ingress, 1, &first.slice(..100));
        say(&mut ingress, 2, &first.slice(..100));
        let at = |look: u32| Time(0).after_duration(LOOK_EVERY * look);
        for look in 0..2 * LOOKS_MAX {
            assert_eq!(ingress.expire_frames(at(look), &[NodeId(4)]), [], "it is not read from");
        }
        let mut late = Vec::new();
        for look in 0..=LOOKS_MAX {
            say(&mut ingress, 2, &first.slice(100 + look as usize..101 + look as usize));
            assert_eq!(late, [], "after {look} looks");
            let now = at(2 * LOOKS_MAX + look);
            late = ingress.expire_frames(now, &[]);
            assert_eq!(ingress.expire_frames(now.after(1), &[]), [], "not twice a second");
        }
        assert_eq!(late, [ConnectionId(1)], "the second goes on, the third has begun nothing");
        assert_eq!(ingress.refused()["frame_timeout"], 1);
    }
}
