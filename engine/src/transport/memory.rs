//! Streams inside one thread, without sockets: for whoever drives several nodes by hand, as the benchmark does that
//! counts what an operation costs. Nothing probes for it and no run takes it.
//!
//! What is queued, and how reads are cut, is the code that backends with sockets use. What would be the kernel's part
//! is one copy.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::outbound::{Outbound, PIECES_MAX};
use super::{CONNECTION_BUDGET_BYTES, ConnectionId, Counters, Event, Transport, Waker, inbound};

/// Where transports that can reach each other are opened.
#[derive(Clone, Debug, Default)]
pub struct Switchboard(Rc<RefCell<Vec<End>>>);

impl Switchboard {
    /// One more transport.
    #[must_use]
    pub fn open(&self) -> Memory {
        let mut ends = self.0.borrow_mut();
        ends.push(End::default());
        Memory { ends: Rc::clone(&self.0), own: ends.len() - 1 }
    }
}

/// A transport over a [`Switchboard`].
#[derive(Debug)]
pub struct Memory {
    ends: Rc<RefCell<Vec<End>>>,
    own: usize,
}

/// What one transport has.
#[derive(Debug, Default)]
struct End {
    addresses: Vec<SocketAddr>,
    /// By the number of the connection.
    streams: Vec<Option<Stream>>,
    /// What is to be told at the next poll.
    happened: Vec<Event>,
    /// Where reads go.
    chunk: BytesMut,
    counters: Counters,
}

/// This side of a connection.
#[derive(Debug)]
struct Stream {
    /// The other side: whose it is, and its number there.
    far: (usize, ConnectionId),
    /// What the other side has not read yet.
    outbound: Outbound,
    paused: bool,
}

impl End {
    fn add(&mut self, stream: Option<Stream>) -> ConnectionId {
        self.streams.push(stream);
        ConnectionId(self.streams.len() as u64 - 1)
    }

    fn stream(&mut self, connection: ConnectionId) -> Option<&mut Stream> {
        self.streams.get_mut(slot(connection))?.as_mut()
    }

    /// Reads what is queued for `connection`, as far as its turn goes. Returns how many bytes.
    fn read(&mut self, connection: ConnectionId, queued: &mut Outbound, events: &mut Vec<Event>) -> u64 {
        let mut total = 0;
        while queued.bytes() > 0 && total < CONNECTION_BUDGET_BYTES {
            inbound::make_room(&mut self.chunk, inbound::OFFER_MIN_BYTES);
            let room = self.chunk.capacity();
            let mut slices = [IoSlice::new(&[]); PIECES_MAX];
            let (count, _) = queued.gather(&mut slices);
            for slice in &slices[..count] {
                let bytes = slice.len().min(room - self.chunk.len());
                self.chunk.extend_from_slice(&slice[..bytes]);
            }
            let read = self.chunk.len();
            queued.advance(read);
            total += read;
            self.counters.reads += 1;
            events.push(Event::Received { connection, bytes: inbound::cut(&mut self.chunk) });
        }
        self.counters.bytes_received += total as u64;
        total as u64
    }
}

const fn slot(connection: ConnectionId) -> usize {
    connection.0 as usize
}

impl Transport for Memory {
    /// Takes the listener's address; nobody can reach the listener itself over it.
    fn listen(&mut self, listener: TcpListener) -> io::Result<()> {
        let address = listener.local_addr()?;
        self.ends.borrow_mut()[self.own].addresses.push(address);
        Ok(())
    }

    fn connect(&mut self, address: SocketAddr) -> io::Result<ConnectionId> {
        let mut ends = self.ends.borrow_mut();
        let listening = ends.iter().position(|end| end.addresses.contains(&address));
        let Some(far) = listening.filter(|far| *far != self.own) else {
            let connection = ends[self.own].add(None);
            let error = Some(ErrorKind::ConnectionRefused.into());
            ends[self.own].happened.push(Event::Closed { connection, error });
            return Ok(connection);
        };
        let stream = |far| Some(Stream { far, outbound: Outbound::default(), paused: false });
        let there = ConnectionId(ends[far].streams.len() as u64);
        let here = ends[self.own].add(stream((far, there)));
        ends[far].add(stream((self.own, here)));
        ends[far].happened.push(Event::Accepted { connection: there, address });
        ends[self.own].happened.push(Event::Connected { connection: here });
        Ok(here)
    }

    fn send(&mut self, connection: ConnectionId, bytes: Bytes) {
        if let Some(stream) = self.ends.borrow_mut()[self.own].stream(connection)
            && !bytes.is_empty()
        {
            stream.outbound.push(bytes);
        }
    }

    fn queued_bytes(&self, connection: ConnectionId) -> usize {
        self.ends.borrow_mut()[self.own].stream(connection).map_or(0, |stream| stream.outbound.bytes())
    }

    fn set_reading(&mut self, connection: ConnectionId, reading: bool) {
        if let Some(stream) = self.ends.borrow_mut()[self.own].stream(connection) {
            stream.paused = !reading;
        }
    }

    /// What either side has not read yet is lost.
    fn close(&mut self, connection: ConnectionId) {
        let mut ends = self.ends.borrow_mut();
        let stream = ends[self.own].streams.get_mut(slot(connection)).and_then(Option::take);
        if let Some(Stream { far: (far, there), .. }) = stream {
            ends[far].streams[slot(there)] = None;
            ends[far].happened.push(Event::Closed { connection: there, error: None });
        }
    }

    /// Never waits.
    fn poll(&mut self, _wait: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        let mut ends = self.ends.borrow_mut();
        events.append(&mut ends[self.own].happened);
        for number in 0..ends[self.own].streams.len() {
            let connection = ConnectionId(number as u64);
            let Some((far, there)) = ends[self.own].stream(connection).filter(|s| !s.paused).map(|s| s.far) else {
                continue;
            };
            let Some(stream) = ends[far].stream(there) else { continue };
            let mut queued = std::mem::take(&mut stream.outbound);
            let read = ends[self.own].read(connection, &mut queued, events);
            let counters = &mut ends[far].counters;
            counters.bytes_sent += read;
            counters.writes += u64::from(read > 0);
            if let Some(stream) = ends[far].stream(there) {
                stream.outbound = queued;
            }
        }
        Ok(())
    }

    fn waker(&self) -> Waker {
        Waker::new(|| {})
    }

    fn counters(&self) -> Counters {
        self.ends.borrow()[self.own].counters
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::limits::READ_CHUNK_BYTES;

    fn happened(transport: &mut Memory) -> Vec<Event> {
        let mut events = Vec::new();
        transport.poll(None, &mut events).unwrap();
        events
    }

    /// The two sides of a connection that stands, and its number at each.
    fn pair() -> [(Memory, ConnectionId); 2] {
        let board = Switchboard::default();
        let (mut server, mut client) = (board.open(), board.open());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        server.listen(listener).unwrap();
        let near = client.connect(address).unwrap();
        assert!(matches!(happened(&mut client)[..], [Event::Connected { connection }] if connection == near));
        let [Event::Accepted { connection: far, .. }] = happened(&mut server)[..] else { panic!("nobody came") };
        [(client, near), (server, far)]
    }

    #[test]
    fn bytes_arrive_in_order_in_reads_of_a_chunk_at_most() {
        let [(mut client, near), (mut server, far)] = pair();
        let sent: Vec<u8> = (0..700_000_u32).map(|number| number as u8 ^ (number >> 8) as u8).collect();
        // Small pieces and large ones are queued differently.
        sent.chunks(1777).for_each(|part| client.send(near, Bytes::copy_from_slice(part)));
        client.send(near, Bytes::from(sent.clone()));
        assert_eq!(client.queued_bytes(near), 1_400_000);
        let mut received = Vec::new();
        while received.len() < 1_400_000 {
            let events = happened(&mut server);
            let before = received.len();
            for event in events {
                let Event::Received { connection, bytes } = event else { panic!("{event:?}") };
                assert_eq!(connection, far);
                assert!(bytes.len() <= READ_CHUNK_BYTES);
                received.extend_from_slice(&bytes);
            }
            let turn = received.len() - before;
            assert!(turn > 0 && turn < CONNECTION_BUDGET_BYTES + READ_CHUNK_BYTES, "{turn}");
        }
        assert!(received[..700_000] == sent && received[700_000..] == sent);
        assert_eq!(client.queued_bytes(near), 0);
        assert!(happened(&mut server).is_empty());
        assert_eq!((client.counters().bytes_sent, server.counters().bytes_received), (1_400_000, 1_400_000));
    }

    #[test]
    fn what_is_paused_is_read_later_and_what_is_closed_never() {
        let [(mut client, near), (mut server, far)] = pair();
        client.set_reading(near, false);
        server.send(far, Bytes::from_static(b"later"));
        assert!(happened(&mut client).is_empty());
        client.set_reading(near, true);
        assert!(matches!(&happened(&mut client)[..], [Event::Received { bytes, .. }] if bytes == "later"));
        server.send(far, Bytes::from_static(b"never"));
        server.close(far);
        assert!(
            matches!(&happened(&mut client)[..], [Event::Closed { connection, error: None }] if *connection == near)
        );
        client.send(near, Bytes::from_static(b"to nobody"));
        assert_eq!((client.queued_bytes(near), server.queued_bytes(far)), (0, 0));
        assert!(happened(&mut server).is_empty());
    }

    #[test]
    fn where_nobody_listens_a_connection_is_refused() {
        let mut alone = Switchboard::default().open();
        let connection = alone.connect(([127, 0, 0, 1], 1).into()).unwrap();
        let refused = happened(&mut alone);
        let [Event::Closed { connection: closed, error: Some(error) }] = &refused[..] else { panic!("{refused:?}") };
        assert_eq!((*closed, error.kind()), (connection, ErrorKind::ConnectionRefused));
    }
}
