//! Ingress: reassembles frames and admits only whom the handshake has proven. It never parses the bodies of other
//! frames.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::auth::keyring::Keyring;
use crate::limits::{CONNECTIONS_MAX, FRAME_BODY_BYTES_MAX, HELLO_BODY_BYTES_MAX, STRANGERS_MAX};
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
}

/// The connections and what they have proven.
pub struct Ingress {
    keyring: Arc<Keyring>,
    connections: HashMap<ConnectionId, Connection>,
    strangers: usize,
    refused: Counts,
}

impl Ingress {
    /// No connections yet. `keyring` proves who this node is and who others are.
    #[must_use]
    pub fn new(keyring: Arc<Keyring>) -> Self {
        Self { keyring, connections: HashMap::new(), strangers: 0, refused: Counts::new() }
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
        let left = u64::try_from((HANDSHAKE_WITHIN - HANDSHAKE_GRACE).as_nanos()).unwrap_or(u64::MAX);
        (until <= now.after(left)).then_some(slow)
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
        let until = now.after(u64::try_from(HANDSHAKE_WITHIN.as_nanos()).unwrap_or(u64::MAX));
        let state = State::Stranger { handshake: Box::new(handshake), until };
        self.connections.insert(connection, Connection { reader: FrameReader::new(HELLO_BODY_BYTES_MAX), state });
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
                    if connections == 0 || connections > CONNECTIONS_MAX || index >= connections {
                        break Err("bad_connection_index");
                    }
                    entry.state = State::Proven(peer);
                    entry.reader.set_body_max(FRAME_BODY_BYTES_MAX);
                    self.strangers -= 1;
                    arrivals.push(Arrival::Established { node: peer, index, connections });
                }
            }
        };
        match outcome {
            Ok(()) => Admission::Keep,
            Err(reason) => {
                count(&mut self.refused, reason);
                self.on_closed(connection);
                Admission::Close
            }
        }
    }

    /// A connection is gone.
    pub fn on_closed(&mut self, connection: ConnectionId) {
        if let Some(Connection { state: State::Stranger { .. }, .. }) = self.connections.remove(&connection) {
            self.strangers -= 1;
        }
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

    #[test]
    fn strangers_that_say_nothing_make_room_for_others() {
        let mut ingress = Ingress::new(keyring(&cluster("mac", 4, &[9]), 0));
        let most = u64::try_from(STRANGERS_MAX).unwrap();
        for number in 0..most {
            assert_eq!(ingress.on_accepted(Time(number), ConnectionId(number)), None);
        }
        // All of them came just now: they may still be about to prove themselves.
        assert_eq!(ingress.on_accepted(Time(most), ConnectionId(most)), Some(ConnectionId(most)));
        let later = Time(u64::try_from(HANDSHAKE_GRACE.as_nanos()).unwrap() + 1);
        assert_eq!(ingress.on_accepted(later, ConnectionId(1000)), Some(ConnectionId(0)));
        assert_eq!(ingress.on_accepted(later, ConnectionId(1001)), Some(ConnectionId(1)));
        assert_eq!(ingress.on_accepted(later, ConnectionId(1002)), Some(ConnectionId(1002)));
        assert_eq!(ingress.strangers, STRANGERS_MAX);
        assert_eq!(ingress.refused()["too_many_strangers"], 4);
        // Whoever is left is given up in the end.
        assert_eq!(ingress.expire(Time(u64::MAX)).len(), STRANGERS_MAX);
        assert_eq!((ingress.strangers, ingress.deadline()), (0, None));
    }
}
