//! Readiness by epoll, through `mio`: works on every kernel and in every container.
//!
//! Edge-triggered: the kernel tells once that a socket became readable or writable, and the connection remembers it
//! until a read or write comes back short. So a poll with nothing to do costs one `epoll_wait`, and a busy one a read
//! and a write for each busy connection.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use mio::net::{TcpListener as Listener, TcpStream};
use mio::{Interest, Token};

use super::outbound::{Outbound, PIECES_MAX};
use super::table::Table;
use super::{CONNECTION_BUDGET_BYTES, LISTENER_REST, POLL_BUDGET_BYTES, inbound, sockets, sys};
use super::{ConnectionId, Counters, Event, Transport, Waker};

/// Tokens of listeners count from 0 and those of connections are their numbers, which are larger.
const WAKER: Token = Token(usize::MAX);
/// Kernel events taken in one poll; more stay in the kernel until the next.
const KERNEL_EVENTS_MAX: usize = 1024;
/// Connections accepted from one listener in one poll.
const ACCEPTS_MAX: usize = 64;
/// Waits below this are measured by a finer clock than that of `epoll_wait`, which rounds up to milliseconds.
const FINE_WAIT_BELOW: Duration = Duration::from_millis(3);

/// The epoll backend.
pub struct Epoll {
    poll: mio::Poll,
    kernel_events: mio::Events,
    waker: Arc<mio::Waker>,
    listeners: Vec<Accepting>,
    connections: Table<Connection>,
    /// Connections with bytes queued since the last poll.
    to_write: Vec<ConnectionId>,
    /// Connections that may be readable, in the order in which they get their turn. Each at most once.
    to_read: VecDeque<ConnectionId>,
    /// Connections that failed outside of a poll, to be told in the next.
    failed: Vec<(ConnectionId, io::Error)>,
    chunk: BytesMut,
    counters: Counters,
}

struct Accepting {
    listener: Listener,
    /// Whether there may be connections to accept.
    ready: bool,
    /// After an error: when to try again.
    resting_until: Option<Instant>,
}

struct Connection {
    stream: TcpStream,
    /// Whether the TCP handshake is over.
    connected: bool,
    outbound: Outbound,
    /// Whether it is in `to_write`.
    in_to_write: bool,
    /// Whether the kernel may take bytes.
    writable: bool,
    /// Whether there may be bytes to read: the kernel told, and no read has come back short since.
    readable: bool,
    /// Whether it is in `to_read`.
    in_to_read: bool,
    /// Whether its owner wants nothing from it for now. It stays `readable` meanwhile, so that no edge is lost.
    paused: bool,
    /// The peer will send nothing more: reading goes on to the end even after a short read, for no further edge comes.
    ending: bool,
    /// Writing failed. What the peer sent before is still read.
    broken: Option<io::Error>,
}

impl Epoll {
    /// A transport without connections.
    ///
    /// # Errors
    /// If the process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let waker = Arc::new(mio::Waker::new(poll.registry(), WAKER)?);
        Ok(Self {
            poll,
            kernel_events: mio::Events::with_capacity(KERNEL_EVENTS_MAX),
            waker,
            listeners: Vec::new(),
            connections: Table::new(),
            to_write: Vec::new(),
            to_read: VecDeque::new(),
            failed: Vec::new(),
            chunk: BytesMut::new(),
            counters: Counters::default(),
        })
    }
}

impl Transport for Epoll {
    fn listen(&mut self, listener: TcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        sockets::pass_on(&listener)?;
        let mut listener = Listener::from_std(listener);
        self.poll.registry().register(&mut listener, Token(self.listeners.len()), Interest::READABLE)?;
        self.listeners.push(Accepting { listener, ready: false, resting_until: None });
        Ok(())
    }

    fn connect(&mut self, address: SocketAddr) -> io::Result<ConnectionId> {
        match connect(address) {
            Ok(stream) => self.add(stream, false),
            Err(error) if no_socket(&error) => Err(error),
            Err(error) => {
                // The peer's fault: told like a refusal that comes later. The number is used up and nothing is kept
                // under it.
                let connection = self.connections.reserve();
                self.failed.push((connection, error));
                Ok(connection)
            }
        }
    }

    fn send(&mut self, connection: ConnectionId, bytes: Bytes) {
        let Some(state) = self.connections.get_mut(connection) else { return };
        if bytes.is_empty() || state.broken.is_some() {
            return;
        }
        state.outbound.push(bytes);
        if state.writable && !state.in_to_write {
            state.in_to_write = true;
            self.to_write.push(connection);
        }
    }

    fn queued_bytes(&self, connection: ConnectionId) -> usize {
        self.connections.get(connection).map_or(0, |state| state.outbound.bytes())
    }

    fn set_reading(&mut self, connection: ConnectionId, reading: bool) {
        let Some(state) = self.connections.get_mut(connection) else { return };
        state.paused = !reading;
        if state.queue_to_read() {
            self.to_read.push_back(connection);
        }
    }

    fn close(&mut self, connection: ConnectionId) {
        // Closing the socket takes it out of the epoll set.
        self.connections.remove(connection);
        self.failed.retain(|(failed, _)| *failed != connection);
    }

    fn poll(&mut self, wait: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        self.write_queued();
        let wait = if self.has_work() { Some(Duration::ZERO) } else { self.until_listeners_wake(wait) };
        self.wait(wait)?;
        self.take_kernel_events(events);
        self.write_queued();
        self.accept(events);
        self.read(events);
        events
            .extend(self.failed.drain(..).map(|(connection, error)| Event::Closed { connection, error: Some(error) }));
        Ok(())
    }

    fn waker(&self) -> Waker {
        let waker = Arc::clone(&self.waker);
        // The eventfd's counter can not be full: mio empties it then. What else fails can not be helped by who calls.
        Waker::new(move || drop(waker.wake()))
    }

    fn counters(&self) -> Counters {
        self.counters
    }
}

impl Epoll {
    fn add(&mut self, stream: TcpStream, connected: bool) -> io::Result<ConnectionId> {
        let connection = self.connections.insert(Connection {
            stream,
            connected,
            outbound: Outbound::default(),
            in_to_write: false,
            writable: connected,
            readable: false,
            in_to_read: false,
            paused: false,
            ending: false,
            broken: None,
        });
        let Some(state) = self.connections.get_mut(connection) else { unreachable!("it was inserted just now") };
        let token = Token(connection.0 as usize);
        let registered =
            self.poll.registry().register(&mut state.stream, token, Interest::READABLE | Interest::WRITABLE);
        if let Err(error) = registered {
            self.connections.remove(connection);
            return Err(error);
        }
        Ok(connection)
    }

    /// Whether something is known to be there to do or to tell, so that waiting would be wrong.
    fn has_work(&self) -> bool {
        !self.to_read.is_empty()
            || !self.failed.is_empty()
            || self.listeners.iter().any(|accepting| accepting.ready && accepting.resting_until.is_none())
    }

    /// Shortens the wait so that it ends when a resting listener may try again.
    fn until_listeners_wake(&self, wait: Option<Duration>) -> Option<Duration> {
        let Some(end) = self.listeners.iter().filter_map(|accepting| accepting.resting_until).min() else {
            return wait;
        };
        let rest = end.saturating_duration_since(Instant::now());
        Some(wait.map_or(rest, |wait| wait.min(rest)))
    }

    fn wait(&mut self, mut wait: Option<Duration>) -> io::Result<()> {
        if let Some(fine) = wait.filter(|wait| !wait.is_zero() && *wait < FINE_WAIT_BELOW) {
            sys::wait_readable([self.poll.as_raw_fd()], Some(fine));
            self.counters.system_calls += 1;
            wait = Some(Duration::ZERO);
        }
        self.counters.system_calls += 1;
        match self.poll.poll(&mut self.kernel_events, wait) {
            // A signal is no failure; whoever asked to wait looks at what it waits for in any case.
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                self.kernel_events.clear();
                Ok(())
            }
            result => result,
        }
    }

    /// Notes what the kernel says about sockets.
    fn take_kernel_events(&mut self, events: &mut Vec<Event>) {
        for kernel_event in &self.kernel_events {
            let token = kernel_event.token();
            if token == WAKER {
                continue;
            }
            if let Some(accepting) = self.listeners.get_mut(token.0) {
                accepting.ready = true;
                continue;
            }
            let connection = ConnectionId(token.0 as u64);
            // Events of connections that were closed may still be in the kernel's list.
            let Some(state) = self.connections.get_mut(connection) else { continue };
            if !state.connected {
                match handshake_outcome(&state.stream) {
                    None => continue,
                    Some(Ok(())) => {
                        state.connected = true;
                        events.push(Event::Connected { connection });
                    }
                    Some(Err(error)) => {
                        self.connections.remove(connection);
                        self.failed.push((connection, error));
                        continue;
                    }
                }
            }
            if kernel_event.is_writable() {
                state.writable = true;
                if state.outbound.bytes() > 0 && !state.in_to_write {
                    state.in_to_write = true;
                    self.to_write.push(connection);
                }
            }
            state.ending |= kernel_event.is_read_closed() || kernel_event.is_error();
            state.readable |= kernel_event.is_readable() || state.ending;
            if state.queue_to_read() {
                self.to_read.push_back(connection);
            }
        }
    }

    fn write_queued(&mut self) {
        for connection in self.to_write.drain(..) {
            let Some(state) = self.connections.get_mut(connection) else { continue };
            state.in_to_write = false;
            if let Err(error) = state.write(&mut self.counters) {
                state.outbound.clear();
                state.broken = Some(error);
                state.readable = true;
                if state.queue_to_read() {
                    self.to_read.push_back(connection);
                }
            }
        }
    }

    fn accept(&mut self, events: &mut Vec<Event>) {
        for number in 0..self.listeners.len() {
            let accepting = &mut self.listeners[number];
            if accepting.resting_until.is_some_and(|end| end <= Instant::now()) {
                accepting.resting_until = None;
            }
            if !accepting.ready || accepting.resting_until.is_some() {
                continue;
            }
            for _ in 0..ACCEPTS_MAX {
                let accepting = &mut self.listeners[number];
                let outcome = accepting.listener.accept();
                self.counters.system_calls += 1;
                match outcome.and_then(|(stream, address)| Ok((self.add(stream, true)?, address))) {
                    Ok((connection, address)) => events.push(Event::Accepted { connection, address }),
                    Err(error) => match error.kind() {
                        ErrorKind::WouldBlock => {
                            self.listeners[number].ready = false;
                            break;
                        }
                        // The stranger left before it was let in.
                        ErrorKind::Interrupted | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset => {}
                        _ => {
                            self.listeners[number].resting_until = Some(Instant::now() + LISTENER_REST);
                            break;
                        }
                    },
                }
            }
        }
    }

    /// Gives every readable connection one turn, as far as the poll's budget goes.
    fn read(&mut self, events: &mut Vec<Event>) {
        let mut budget = POLL_BUDGET_BYTES;
        for _ in 0..self.to_read.len() {
            if budget == 0 {
                return;
            }
            let Some(connection) = self.to_read.pop_front() else { return };
            let Some(state) = self.connections.get_mut(connection) else { continue };
            state.in_to_read = false;
            if state.paused {
                continue;
            }
            let before = self.counters.bytes_received;
            match state.read(connection, &mut self.chunk, &mut self.counters, events) {
                Turn::Drained => state.readable = false,
                Turn::More => {
                    state.in_to_read = true;
                    self.to_read.push_back(connection);
                }
                Turn::Closed(error) => {
                    self.connections.remove(connection);
                    events.push(Event::Closed { connection, error });
                }
            }
            budget = budget.saturating_sub((self.counters.bytes_received - before) as usize);
        }
    }
}

/// What a connection's turn to be read ended with.
enum Turn {
    /// Nothing is left to read; the kernel will tell when there is.
    Drained,
    /// There may be more to read.
    More,
    /// The connection is over.
    Closed(Option<io::Error>),
}

impl Connection {
    /// Whether it must be put into `to_read` now, which is noted.
    const fn queue_to_read(&mut self) -> bool {
        let due = self.readable && !self.paused && !self.in_to_read;
        self.in_to_read |= due;
        due
    }

    /// Writes until the queue is empty or the kernel takes no more.
    fn write(&mut self, counters: &mut Counters) -> io::Result<()> {
        while self.writable && self.outbound.bytes() > 0 {
            let mut slices = [IoSlice::new(&[]); PIECES_MAX];
            let (count, offered) = self.outbound.gather(&mut slices);
            counters.system_calls += 1;
            // The kernel takes one piece more lightly than a list of one.
            let outcome = match &slices[..count] {
                [piece] => self.stream.write(piece),
                pieces => self.stream.write_vectored(pieces),
            };
            match outcome {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    counters.writes += 1;
                    counters.bytes_sent += written as u64;
                    self.outbound.advance(written);
                    // A short write means that the socket's buffer is full, and that the kernel will tell when there is
                    // room.
                    self.writable = written == offered;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read(
        &mut self,
        connection: ConnectionId,
        chunk: &mut BytesMut,
        counters: &mut Counters,
        events: &mut Vec<Event>,
    ) -> Turn {
        let mut budget = CONNECTION_BUDGET_BYTES;
        while budget > 0 {
            inbound::make_room(chunk, inbound::OFFER_MIN_BYTES);
            let room = chunk.capacity();
            counters.system_calls += 1;
            match sys::receive(self.stream.as_fd(), chunk) {
                Ok(0) => return Turn::Closed(self.broken.take()),
                Ok(read) => {
                    counters.reads += 1;
                    counters.bytes_received += read as u64;
                    budget = budget.saturating_sub(read);
                    events.push(Event::Received { connection, bytes: inbound::cut(chunk) });
                    // A short read means that nothing is left, and that the kernel will tell when there is, unless it
                    // told of the end already.
                    if read < room && !self.ending && self.broken.is_none() {
                        return Turn::Drained;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => match self.broken.take() {
                    Some(error) => return Turn::Closed(Some(error)),
                    None => return Turn::Drained,
                },
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Turn::Closed(Some(self.broken.take().unwrap_or(error))),
            }
        }
        Turn::More
    }
}

/// Begins a TCP handshake.
fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = sockets::socket(address)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// How a TCP handshake ended, if it did.
fn handshake_outcome(stream: &TcpStream) -> Option<io::Result<()>> {
    match stream.take_error() {
        Ok(Some(error)) | Err(error) => return Some(Err(error)),
        Ok(None) => {}
    }
    match stream.peer_addr() {
        Ok(_) => Some(Ok(())),
        Err(error) if error.kind() == ErrorKind::NotConnected => None,
        Err(error) => Some(Err(error)),
    }
}

/// Whether connecting failed for want of a socket, rather than of a peer.
fn no_socket(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EAFNOSUPPORT | libc::EACCES)
    )
}
