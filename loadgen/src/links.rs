//! A generator thread's connections to the replicas: one to each replica for each of the connection numbers that it
//! owns. Where links are [emulated](hippodrome_engine::emulation), frames wait here until they are due.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hippodrome_engine::auth::Keyring;
use hippodrome_engine::emulation::alarm::Alarm;
use hippodrome_engine::emulation::{Change, Dropped, Emulator};
use hippodrome_engine::limits::PEER_QUEUE_BYTES_MAX;
use hippodrome_engine::pipeline::clock::Clock;
use hippodrome_engine::pipeline::ingress::{Admission, Arrival, Ingress};
use hippodrome_engine::transport::{CONNECT_WITHIN, ConnectionId, Event, Transport};
use hippodrome_engine::types::{NodeId, ReplicaId, Time};
use hippodrome_engine::wire::Frame;

use crate::report::DroppedFrames;

/// How soon a lost connection is made again, doubling up to the maximum.
const RECONNECT_FIRST: Duration = Duration::from_millis(20);
const RECONNECT_MAX: Duration = Duration::from_secs(1);

struct Link {
    replica: ReplicaId,
    index: u32,
    address: SocketAddr,
    connection: Option<ConnectionId>,
    attempt: Option<ConnectionId>,
    /// When the attempt is given up, unless it stands by then.
    connected_by: Option<Time>,
    retry_at: Time,
    backoff: Duration,
}

/// A frame that waits until an emulated link hands it on.
pub(crate) struct Waiting {
    replica: ReplicaId,
    index: u32,
    bytes: Bytes,
}

/// A frame that has come.
pub(crate) struct Arrived {
    /// The number of its connection.
    pub(crate) connection: u32,
    pub(crate) frame: Frame,
}

/// All links of one thread.
pub(crate) struct Links {
    transport: Box<dyn Transport>,
    clock: Clock,
    emulated: Option<(Emulator<Waiting>, Alarm)>,
    changes: Receiver<Change>,
    ingress: Ingress,
    links: Vec<Link>,
    owned: Range<u32>,
    connections: u32,
    events: Vec<Event>,
    /// Frames of one event, empty between events.
    frames: Vec<Frame>,
    no_connection: u64,
    queue_full: u64,
    /// Bytes of frames that were handed to connections.
    pub(crate) bytes_sent: u64,
}

impl Links {
    /// Links to `replicas` for the connection numbers `owned`, of `connections` that the node has to each replica.
    /// `emulator` is what they do, if they are emulated, and `changes` is where changes of that come from.
    pub(crate) fn new(
        transport: Box<dyn Transport>,
        clock: Clock,
        keyring: Arc<Keyring>,
        replicas: &[SocketAddr],
        (owned, connections): (Range<u32>, u32),
        (emulator, changes): (Option<Emulator<Waiting>>, Receiver<Change>),
    ) -> std::io::Result<Self> {
        let mut links = Vec::new();
        for index in owned.clone() {
            links.extend((0u16..).zip(replicas).map(|(replica, address)| Link {
                replica: ReplicaId(replica),
                index,
                address: *address,
                connection: None,
                attempt: None,
                connected_by: None,
                retry_at: Time(0),
                backoff: RECONNECT_FIRST,
            }));
        }
        let alarm = |emulator| Ok::<_, std::io::Error>((emulator, Alarm::start(transport.waker())?));
        let emulated = emulator.map(alarm).transpose()?;
        let (ingress, events) = (Ingress::new(keyring), Vec::new());
        let (no_connection, queue_full, bytes_sent) = (0, 0, 0);
        Ok(Self {
            transport,
            clock,
            emulated,
            changes,
            ingress,
            links,
            owned,
            connections,
            events,
            frames: Vec::new(),
            no_connection,
            queue_full,
            bytes_sent,
        })
    }

    /// How many replicas every owned connection number has a link to.
    pub(crate) fn replicas_connected(&self) -> usize {
        let connected = |index| self.links.iter().filter(move |link| link.index == index && link.connection.is_some());
        self.owned.clone().map(|index| connected(index).count()).min().unwrap_or(0)
    }

    /// Sends to `replica` over connection number `index`, now or when the emulated link hands it on; dropped and
    /// counted if that does not stand, or if the replica has not taken what was sent before (retransmission repairs
    /// it).
    pub(crate) fn send(&mut self, replica: ReplicaId, index: u32, bytes: Bytes) {
        match &mut self.emulated {
            None => self.queue(replica, index, bytes),
            Some((emulator, _)) => {
                let waiting = Waiting { replica, index, bytes };
                // Whatever is dropped has been counted: see `dropped`.
                let _ = emulator.push(self.clock.now(), NodeId::of(replica), waiting.bytes.len(), waiting);
            }
        }
    }

    fn queue(&mut self, replica: ReplicaId, index: u32, bytes: Bytes) {
        let link = self.links.iter().find(|link| link.replica == replica && link.index == index);
        match link.and_then(|link| link.connection) {
            None => self.no_connection += 1,
            Some(connection) if self.transport.queued_bytes(connection) > PEER_QUEUE_BYTES_MAX => self.queue_full += 1,
            Some(connection) => {
                self.bytes_sent += bytes.len() as u64;
                self.transport.send(connection, bytes);
            }
        }
    }

    /// What was dropped so far, and why.
    pub(crate) fn dropped(&self) -> DroppedFrames {
        let emulated = |dropped| self.emulated.as_ref().map_or(0, |(emulator, _)| emulator.dropped(dropped));
        DroppedFrames {
            no_connection: self.no_connection,
            queue_full: self.queue_full,
            emulated_loss: emulated(Dropped::Lost),
            emulated_block: emulated(Dropped::Blocked),
            emulated_link_full: emulated(Dropped::Full),
        }
    }

    /// Changes what emulated links do, hands on what is due, and says how long the sockets may be waited for.
    fn emulate(&mut self, wait: Duration) -> Duration {
        if let Some((emulator, _)) = &mut self.emulated {
            while let Ok(change) = self.changes.try_recv() {
                // Whoever sends changes has checked them.
                let _ = emulator.apply(&change);
            }
        }
        let now = self.clock.now();
        while let Some(waiting) = self.emulated.as_mut().and_then(|(emulator, _)| emulator.pop_due(now)) {
            self.queue(waiting.replica, waiting.index, waiting.bytes);
        }
        let Some((emulator, alarm)) = &self.emulated else { return wait };
        let Some(due) = emulator.next_due() else { return wait };
        let until = self.clock.until(due);
        if !wait.is_zero() {
            alarm.set(Instant::now() + until);
        }
        wait.min(until)
    }

    /// Writes what is queued, waits at most `wait` and appends the frames that came, each with its connection number.
    pub(crate) fn poll(&mut self, now: Time, wait: Duration, frames: &mut Vec<Arrived>) -> std::io::Result<()> {
        self.connect_where_due(now);
        let wait = if self.emulated.is_some() { self.emulate(wait) } else { wait };
        let mut events = std::mem::take(&mut self.events);
        self.transport.poll(Some(wait), &mut events)?;
        for event in events.drain(..) {
            self.on_event(now, event, frames);
        }
        self.events = events;
        let is_late = |link: &Link| link.connected_by.is_some_and(|by| by <= now);
        let mut late: Vec<_> = self.links.iter().filter(|link| is_late(link)).filter_map(|link| link.attempt).collect();
        late.extend(self.ingress.expire(now));
        for connection in late {
            self.transport.close(connection);
            self.forget(now, connection);
        }
        Ok(())
    }

    fn on_event(&mut self, now: Time, event: Event, frames: &mut Vec<Arrived>) {
        match event {
            // Nobody connects to a generator: it does not listen.
            Event::Accepted { connection, .. } => self.transport.close(connection),
            Event::Connected { connection } => {
                let Some(link) = self.links.iter_mut().find(|link| link.attempt == Some(connection)) else {
                    self.transport.close(connection);
                    return;
                };
                link.connected_by = None;
                let numbers = (link.index, self.connections);
                let hello = self.ingress.on_connected(now, connection, NodeId::of(link.replica), numbers);
                self.transport.send(connection, hello);
            }
            Event::Received { connection, bytes } => {
                let mut arrivals = Vec::new();
                let admission = self.ingress.on_bytes(connection, bytes, &mut self.frames, &mut arrivals);
                // Who has been heard before its handshake was done has no link yet, and nothing to say.
                let link = self.links.iter().find(|link| link.connection == Some(connection));
                let arrived = self.frames.drain(..);
                frames.extend(arrived.filter_map(|frame| Some(Arrived { connection: link?.index, frame })));
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
                link.connected_by = None;
                link.retry_at = now.after_duration(link.backoff);
                link.backoff = (link.backoff * 2).min(RECONNECT_MAX);
            }
        }
    }

    fn connect_where_due(&mut self, now: Time) {
        for link in &mut self.links {
            if link.connection.is_none() && link.attempt.is_none() && link.retry_at <= now {
                match self.transport.connect(link.address) {
                    Ok(connection) => {
                        link.attempt = Some(connection);
                        link.connected_by = Some(now.after_duration(CONNECT_WITHIN));
                    }
                    Err(_) => link.retry_at = now.after_duration(RECONNECT_MAX),
                }
            }
        }
    }

    /// System calls of this thread that moved bytes, waited for sockets or looked at them.
    pub(crate) fn system_calls(&self) -> u64 {
        self.transport.counters().system_calls
    }

    /// Reasons for which frames or connections were refused, for error messages.
    pub(crate) fn refused(&self) -> String {
        let refused: Vec<String> =
            self.ingress.refused().iter().map(|(reason, count)| format!("{reason} ({count})")).collect();
        refused.join(", ")
    }
}
