//! A generator thread's connections to the replicas: one to each replica for each of the connection numbers that it
//! owns.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hippodrome_engine::auth::Keyring;
use hippodrome_engine::limits::PEER_QUEUE_BYTES_MAX;
use hippodrome_engine::pipeline::ingress::{Admission, Arrival, Ingress};
use hippodrome_engine::transport::{ConnectionId, Event, Transport};
use hippodrome_engine::types::{NodeId, ReplicaId, Time};
use hippodrome_engine::wire::Frame;

/// How soon a lost connection is made again, doubling up to the maximum.
const RECONNECT_FIRST: Duration = Duration::from_millis(20);
const RECONNECT_MAX: Duration = Duration::from_secs(1);

struct Link {
    replica: ReplicaId,
    index: u32,
    address: SocketAddr,
    connection: Option<ConnectionId>,
    attempt: Option<ConnectionId>,
    retry_at: Time,
    backoff: Duration,
}

/// All links of one thread.
pub(crate) struct Links {
    transport: Box<dyn Transport>,
    ingress: Ingress,
    links: Vec<Link>,
    owned: Range<u32>,
    connections: u32,
    events: Vec<Event>,
}

const fn nanos(duration: Duration) -> u64 {
    #[allow(clippy::cast_possible_truncation, reason = "intervals of seconds")]
    let nanos = duration.as_nanos() as u64;
    nanos
}

impl Links {
    /// Links to `replicas` for the connection numbers `owned`, of `connections` that the node has to each replica.
    pub(crate) fn new(
        transport: Box<dyn Transport>,
        keyring: Arc<Keyring>,
        replicas: &[SocketAddr],
        owned: Range<u32>,
        connections: u32,
    ) -> Self {
        let mut links = Vec::new();
        for index in owned.clone() {
            links.extend((0u16..).zip(replicas).map(|(replica, address)| Link {
                replica: ReplicaId(replica),
                index,
                address: *address,
                connection: None,
                attempt: None,
                retry_at: Time(0),
                backoff: RECONNECT_FIRST,
            }));
        }
        Self { transport, ingress: Ingress::new(keyring), links, owned, connections, events: Vec::new() }
    }

    /// How many replicas every owned connection number has a link to.
    pub(crate) fn replicas_connected(&self) -> usize {
        let connected = |index| self.links.iter().filter(move |link| link.index == index && link.connection.is_some());
        self.owned.clone().map(|index| connected(index).count()).min().unwrap_or(0)
    }

    /// Sends to `replica` over connection number `index`; forgotten if that does not stand, or if the replica has not
    /// taken what was sent before (retransmission repairs it).
    pub(crate) fn send(&mut self, replica: ReplicaId, index: u32, bytes: Bytes) {
        let link = self.links.iter().find(|link| link.replica == replica && link.index == index);
        if let Some(connection) = link.and_then(|link| link.connection)
            && self.transport.queued_bytes(connection) <= PEER_QUEUE_BYTES_MAX
        {
            self.transport.send(connection, bytes);
        }
    }

    /// Writes what is queued, waits at most `wait` and appends the frames that came.
    pub(crate) fn poll(&mut self, now: Time, wait: Duration, frames: &mut Vec<Frame>) -> std::io::Result<()> {
        self.connect_where_due(now);
        let mut events = std::mem::take(&mut self.events);
        self.transport.poll(Some(wait), &mut events)?;
        for event in events.drain(..) {
            self.on_event(now, event, frames);
        }
        self.events = events;
        for connection in self.ingress.expire(now) {
            self.transport.close(connection);
            self.forget(now, connection);
        }
        Ok(())
    }

    fn on_event(&mut self, now: Time, event: Event, frames: &mut Vec<Frame>) {
        match event {
            // Nobody connects to a generator: it does not listen.
            Event::Accepted { connection, .. } => self.transport.close(connection),
            Event::Connected { connection } => {
                let Some(link) = self.links.iter().find(|link| link.attempt == Some(connection)) else {
                    self.transport.close(connection);
                    return;
                };
                let numbers = (link.index, self.connections);
                let hello = self.ingress.on_connected(now, connection, NodeId::of(link.replica), numbers);
                self.transport.send(connection, hello);
            }
            Event::Received { connection, bytes } => {
                let mut arrivals = Vec::new();
                let admission = self.ingress.on_bytes(connection, bytes, frames, &mut arrivals);
                for arrival in arrivals {
                    match arrival {
                        Arrival::Answer(bytes) => self.transport.send(connection, bytes),
                        Arrival::Established { .. } => self.establish(connection),
                    }
                }
                if admission == Admission::Close {
                    self.transport.close(connection);
                    self.forget(now, connection);
                }
            }
            Event::Closed { connection, .. } => {
                self.ingress.on_closed(connection);
                self.forget(now, connection);
            }
        }
    }

    fn establish(&mut self, connection: ConnectionId) {
        if let Some(link) = self.links.iter_mut().find(|link| link.attempt == Some(connection)) {
            link.attempt = None;
            link.connection = Some(connection);
            link.backoff = RECONNECT_FIRST;
        }
    }

    fn forget(&mut self, now: Time, connection: ConnectionId) {
        for link in &mut self.links {
            if link.connection == Some(connection) || link.attempt == Some(connection) {
                link.connection = None;
                link.attempt = None;
                link.retry_at = now.after(nanos(link.backoff));
                link.backoff = (link.backoff * 2).min(RECONNECT_MAX);
            }
        }
    }

    fn connect_where_due(&mut self, now: Time) {
        for link in &mut self.links {
            if link.connection.is_none() && link.attempt.is_none() && link.retry_at <= now {
                match self.transport.connect(link.address) {
                    Ok(connection) => link.attempt = Some(connection),
                    Err(_) => link.retry_at = now.after(nanos(RECONNECT_MAX)),
                }
            }
        }
    }

    /// Reasons for which frames or connections were refused, for error messages.
    pub(crate) fn refused(&self) -> String {
        let refused: Vec<String> =
            self.ingress.refused().iter().map(|(reason, count)| format!("{reason} ({count})")).collect();
        refused.join(", ")
    }
}
