//! Completion by `io_uring`, through `tokio-uring`: for kernels and containers that allow it.
//!
//! Each connection has a task that reads and one that writes; they run only inside of [`Transport::poll`], so that an
//! owner who does not poll feels no more than one read for each connection. Buffers belong to the operation until the
//! kernel is done with it, whatever becomes of the connection.
//!
//! `tokio-uring` submits operations when its thread is about to wait, and then waits in `epoll` for the ring. So a poll
//! that must not wait, or that has bytes to write, submits a no-op behind them and waits for that: it completes at
//! once, and everything before it has been submitted by then.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::mem;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::runtime::{Handle, RuntimeMetrics};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_uring::Runtime;
use tokio_uring::net::{TcpListener as Listener, TcpStream};

use super::outbound::{self, Outbound};
use super::sys::Timer;
use super::table::Table;
use super::{ConnectionId, Counters, Event, LISTENER_REST, Transport, Waker, inbound, sockets};

/// Operations that can be handed over in one system call; there may be more in flight.
const RING_ENTRIES: u32 = 1024;
/// The same for a ring that is only tried out.
const TRIAL_ENTRIES: u32 = 8;

/// The io_uring backend.
pub struct Uring {
    runtime: Runtime,
    shared: Rc<Shared>,
    /// What was asked for since the last poll: tasks start only inside of one.
    to_start: Vec<Start>,
    /// Connections with bytes queued since the last poll. Each at most once.
    to_write: Vec<ConnectionId>,
    wake: Arc<Wake>,
    /// What the runtime counts of itself.
    metrics: RuntimeMetrics,
}

enum Start {
    Listener(TcpListener),
    Connection(ConnectionId, SocketAddr),
}

/// What the tasks and the transport share. All of them are on one thread.
struct Shared {
    connections: RefCell<Table<Connection>>,
    events: RefCell<Vec<Event>>,
    counters: Cell<Counters>,
    /// Whether the poll waits for something to happen.
    waiting: Cell<bool>,
    /// Whether the kernel took bytes meanwhile, for which it had no room before.
    room: Cell<bool>,
    /// The poll that waits for the tasks.
    poll: RefCell<Option<std::task::Waker>>,
    timer: Timer,
    /// When the timer goes off, if it was set.
    timer_set: Cell<Option<Instant>>,
}

struct Connection {
    /// `None` before the TCP handshake is over.
    stream: Option<Rc<TcpStream>>,
    outbound: Outbound,
    /// Bytes that the kernel was given and has not yet taken.
    in_flight: usize,
    /// Whether it is in `to_write`.
    in_to_write: bool,
    /// Told when bytes were queued.
    queued: Rc<Notify>,
    /// Where its reader stops while its owner wants nothing from it.
    gate: Rc<Gate>,
    /// Writing failed. What the peer sent before is still read.
    broken: Option<io::Error>,
    tasks: Vec<JoinHandle<()>>,
}

/// Open unless reading is paused.
#[derive(Default)]
struct Gate {
    closed: Cell<bool>,
    /// Told when it opens.
    opened: Notify,
}

/// How other threads end a wait.
#[derive(Default)]
struct Wake {
    called: AtomicBool,
    poll: Mutex<Option<std::task::Waker>>,
}

/// Finds out whether a ring can be made, and nothing more.
///
/// # Errors
/// The kernel's answer, if it refuses.
pub(super) fn try_ring() -> io::Result<()> {
    tokio_uring::uring_builder().build(TRIAL_ENTRIES).map(drop)
}

impl Uring {
    /// A transport without connections.
    ///
    /// # Errors
    /// If the kernel, a container's filter or a limit refuses the ring, or if the process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        // tokio-uring leaks its epoll set when the ring is refused.
        try_ring()?;
        let runtime = Runtime::new(tokio_uring::builder().entries(RING_ENTRIES))?;
        let shared = Rc::new(Shared {
            connections: RefCell::new(Table::new()),
            events: RefCell::default(),
            counters: Cell::default(),
            waiting: Cell::new(false),
            room: Cell::new(false),
            poll: RefCell::default(),
            timer: Timer::new()?,
            timer_set: Cell::new(None),
        });
        let timer = tokio_uring::fs::File::from_std(shared.timer.file()?);
        let metrics = runtime.block_on(async {
            tokio_uring::spawn(watch_timer(Rc::clone(&shared), timer));
            Handle::current().metrics()
        });
        Ok(Self { runtime, shared, to_start: Vec::new(), to_write: Vec::new(), wake: Arc::default(), metrics })
    }
}

impl Transport for Uring {
    fn listen(&mut self, listener: TcpListener) -> io::Result<()> {
        // Of a non-blocking socket io_uring says at once that nobody is there, instead of waiting.
        listener.set_nonblocking(false)?;
        sockets::pass_on(&listener)?;
        self.to_start.push(Start::Listener(listener));
        Ok(())
    }

    fn connect(&mut self, address: SocketAddr) -> io::Result<ConnectionId> {
        let connection = self.shared.connections.borrow_mut().insert(Connection::new(None));
        self.to_start.push(Start::Connection(connection, address));
        Ok(connection)
    }

    fn send(&mut self, connection: ConnectionId, bytes: Bytes) {
        let mut connections = self.shared.connections.borrow_mut();
        let Some(state) = connections.get_mut(connection) else { return };
        if bytes.is_empty() || state.broken.is_some() {
            return;
        }
        state.outbound.push(bytes);
        if !state.in_to_write {
            state.in_to_write = true;
            self.to_write.push(connection);
        }
    }

    fn queued_bytes(&self, connection: ConnectionId) -> usize {
        let connections = self.shared.connections.borrow();
        connections.get(connection).map_or(0, |state| state.outbound.bytes() + state.in_flight)
    }

    fn set_reading(&mut self, connection: ConnectionId, reading: bool) {
        if let Some(state) = self.shared.connections.borrow().get(connection)
            && state.gate.closed.replace(!reading)
            && reading
        {
            state.gate.opened.notify_one();
        }
    }

    fn close(&mut self, connection: ConnectionId) {
        if let Some(state) = self.shared.connections.borrow_mut().remove(connection) {
            state.end();
        }
        self.shared.events.borrow_mut().retain(|event| event.connection() != connection);
    }

    fn poll(&mut self, wait: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        let Self { runtime, shared, to_start, to_write, wake, .. } = self;
        let pending = !shared.events.borrow().is_empty();
        let wait = if pending { Some(Duration::ZERO) } else { wait };
        let must_submit = !to_start.is_empty() || !to_write.is_empty() || wait == Some(Duration::ZERO);
        runtime.block_on(async {
            for start in to_start.drain(..) {
                shared.start(start);
            }
            shared.tell_writers(to_write);
            if must_submit {
                tokio_uring::no_op().await?;
            }
            if wait == Some(Duration::ZERO) {
                // Acquires, so that who polls sees afterwards what it was woken for.
                wake.called.swap(false, Ordering::AcqRel);
                return Ok(());
            }
            shared.waiting.set(true);
            let outcome = shared.wait(wait.map(|wait| Instant::now() + wait), wake).await;
            shared.waiting.set(false);
            outcome
        })?;
        events.append(&mut shared.events.borrow_mut());
        Ok(())
    }

    fn waker(&self) -> Waker {
        let wake = Arc::clone(&self.wake);
        Waker::new(move || wake.wake())
    }

    fn counters(&self) -> Counters {
        let counters = self.shared.counters.get();
        // Whenever it has nothing to run, it enters the ring and then waits in epoll.
        Counters { system_calls: counters.system_calls + 2 * self.metrics.worker_park_count(0), ..counters }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // A waker may outlive the transport, and need not keep the runtime.
        self.wake.register(None);
    }
}

impl Wake {
    fn wake(&self) {
        if !self.called.swap(true, Ordering::AcqRel)
            && let Some(poll) = &*self.poll.lock().unwrap_or_else(PoisonError::into_inner)
        {
            poll.wake_by_ref();
        }
    }

    /// Must come before a look at `called`.
    fn register(&self, poll: Option<&std::task::Waker>) {
        replace_waker(&mut self.poll.lock().unwrap_or_else(PoisonError::into_inner), poll);
    }
}

fn replace_waker(slot: &mut Option<std::task::Waker>, poll: Option<&std::task::Waker>) {
    match (&mut *slot, poll) {
        (Some(old), Some(new)) => old.clone_from(new),
        _ => *slot = poll.cloned(),
    }
}

impl Shared {
    /// Waits until there are events, room, a wake-up or the deadline.
    async fn wait(&self, deadline: Option<Instant>, wake: &Wake) -> io::Result<()> {
        poll_fn(|context| {
            wake.register(Some(context.waker()));
            replace_waker(&mut self.poll.borrow_mut(), Some(context.waker()));
            if wake.called.swap(false, Ordering::AcqRel) | self.room.take() || !self.events.borrow().is_empty() {
                return Poll::Ready(Ok(()));
            }
            let Some(deadline) = deadline else { return Poll::Pending };
            let now = Instant::now();
            if now >= deadline {
                return Poll::Ready(Ok(()));
            }
            // A timer that goes off too early costs a look at the clock, one that is set for every poll costs a system
            // call each.
            if self.timer_set.get().is_none_or(|set| set > deadline) {
                if let Err(error) = self.timer.set(deadline - now) {
                    return Poll::Ready(Err(error));
                }
                self.count(|counters| counters.system_calls += 1);
                self.timer_set.set(Some(deadline));
            }
            Poll::Pending
        })
        .await
    }

    fn start(self: &Rc<Self>, start: Start) {
        match start {
            Start::Listener(listener) => {
                tokio_uring::spawn(accept(Rc::clone(self), Listener::from_std(listener)));
            }
            Start::Connection(connection, address) => {
                let task = tokio_uring::spawn(connect(Rc::clone(self), connection, address));
                match self.connections.borrow_mut().get_mut(connection) {
                    Some(state) => state.tasks.push(task),
                    // Closed before it was begun.
                    None => task.abort(),
                }
            }
        }
    }

    fn tell_writers(&self, to_write: &mut Vec<ConnectionId>) {
        let mut connections = self.connections.borrow_mut();
        for connection in to_write.drain(..) {
            if let Some(state) = connections.get_mut(connection) {
                state.in_to_write = false;
                state.queued.notify_one();
            }
        }
    }

    fn push(&self, event: Event) {
        self.events.borrow_mut().push(event);
        self.wake_poll();
    }

    fn wake_poll(&self) {
        if let Some(poll) = &*self.poll.borrow() {
            poll.wake_by_ref();
        }
    }

    fn count(&self, count: impl FnOnce(&mut Counters)) {
        let mut counters = self.counters.get();
        count(&mut counters);
        self.counters.set(counters);
    }

    /// Starts the tasks of a connection that stands.
    fn open(self: &Rc<Self>, connection: ConnectionId, stream: TcpStream) {
        let stream = Rc::new(stream);
        let mut connections = self.connections.borrow_mut();
        let Some(state) = connections.get_mut(connection) else { return };
        state.stream = Some(Rc::clone(&stream));
        state.tasks = vec![
            tokio_uring::spawn(read(Rc::clone(self), connection, Rc::clone(&stream), Rc::clone(&state.gate))),
            tokio_uring::spawn(write(Rc::clone(self), connection, stream, Rc::clone(&state.queued))),
        ];
    }

    /// Ends a connection whose peer is gone. An earlier failure to write explains it better.
    fn lose(&self, connection: ConnectionId, error: Option<io::Error>) {
        let Some(mut state) = self.connections.borrow_mut().remove(connection) else { return };
        let error = state.broken.take().or(error);
        state.end();
        self.push(Event::Closed { connection, error });
    }

    /// Notes that nothing can be written any more, and makes the reader come to an end.
    fn write_failed(&self, connection: ConnectionId, stream: &TcpStream, error: io::Error) {
        if let Some(state) = self.connections.borrow_mut().get_mut(connection) {
            state.outbound.clear();
            state.in_flight = 0;
            state.broken = Some(error);
        }
        // Fails if the peer's reset was first, and then the reader ends in any case.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

impl Gate {
    async fn pass(&self) {
        while self.closed.get() {
            self.opened.notified().await;
        }
    }
}

impl Connection {
    fn new(stream: Option<Rc<TcpStream>>) -> Self {
        Self {
            stream,
            outbound: Outbound::default(),
            in_flight: 0,
            in_to_write: false,
            queued: Rc::new(Notify::new()),
            gate: Rc::default(),
            broken: None,
            tasks: Vec::new(),
        }
    }

    /// Makes tasks and operations end. The socket is closed when the kernel is done with the last of them.
    fn end(self) {
        for task in &self.tasks {
            task.abort();
        }
        if let Some(stream) = self.stream {
            // tokio-uring does not cancel operations, so they must be made to complete. Fails if the peer is gone, and
            // then they do.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

async fn accept(shared: Rc<Shared>, listener: Listener) {
    loop {
        let outcome = listener.accept().await;
        match outcome {
            Ok((stream, address)) => {
                let connection = shared.connections.borrow_mut().insert(Connection::new(None));
                shared.push(Event::Accepted { connection, address });
                shared.open(connection, stream);
            }
            // The stranger left before it was let in.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
                ) => {}
            Err(_) => tokio::time::sleep(LISTENER_REST).await,
        }
    }
}

async fn connect(shared: Rc<Shared>, connection: ConnectionId, address: SocketAddr) {
    match reach(address).await.map(TcpStream::from_std) {
        Ok(stream) => {
            shared.push(Event::Connected { connection });
            shared.open(connection, stream);
        }
        Err(error) => shared.lose(connection, Some(error)),
    }
}

/// Connects to `address`. By readiness: an operation of the ring that nobody waits for any more would keep its socket
/// until the kernel gives up, for minutes, and there may be one a second.
async fn reach(address: SocketAddr) -> io::Result<std::net::TcpStream> {
    let socket = sockets::socket(address)?;
    socket.set_nonblocking(true)?;
    let socket = tokio::net::TcpSocket::from_std_stream(socket.into());
    let stream = socket.connect(address).await?.into_std()?;
    // Of a non-blocking socket io_uring says at once that nothing is there, instead of waiting.
    stream.set_nonblocking(false)?;
    Ok(stream)
}

async fn read(shared: Rc<Shared>, connection: ConnectionId, stream: Rc<TcpStream>, gate: Rc<Gate>) {
    let mut chunk = BytesMut::new();
    loop {
        gate.pass().await;
        inbound::make_room(&mut chunk, inbound::OFFER_MIN_BYTES);
        let (outcome, buffer) = stream.read(chunk).await;
        chunk = buffer;
        // Reading may have been stopped while the operation was under way.
        gate.pass().await;
        match outcome {
            Ok(0) => return shared.lose(connection, None),
            Ok(bytes) => {
                shared.count(|counters| {
                    counters.reads += 1;
                    counters.bytes_received += bytes as u64;
                });
                shared.push(Event::Received { connection, bytes: inbound::cut(&mut chunk) });
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return shared.lose(connection, Some(error)),
        }
    }
}

async fn write(shared: Rc<Shared>, connection: ConnectionId, stream: Rc<TcpStream>, queued: Rc<Notify>) {
    let mut pieces = Vec::new();
    loop {
        if pieces.is_empty() {
            let mut connections = shared.connections.borrow_mut();
            let Some(state) = connections.get_mut(connection) else { return };
            state.in_flight = state.outbound.take(&mut pieces);
        }
        let outcome = match pieces.len() {
            0 => {
                queued.notified().await;
                continue;
            }
            1 => {
                let (outcome, piece) = stream.write(pieces.swap_remove(0)).submit().await;
                pieces.push(piece);
                outcome
            }
            _ => {
                let (outcome, taken) = stream.writev(mem::take(&mut pieces)).await;
                pieces = taken;
                outcome
            }
        };
        match outcome {
            Ok(0) => return shared.write_failed(connection, &stream, ErrorKind::WriteZero.into()),
            Ok(written) => {
                shared.count(|counters| {
                    counters.writes += 1;
                    counters.bytes_sent += written as u64;
                });
                outbound::skip(&mut pieces, written);
                if let Some(state) = shared.connections.borrow_mut().get_mut(connection) {
                    state.in_flight -= written;
                }
                if shared.waiting.get() {
                    shared.room.set(true);
                    shared.wake_poll();
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return shared.write_failed(connection, &stream, error),
        }
    }
}

/// Wakes the poll whenever the timer goes off.
async fn watch_timer(shared: Rc<Shared>, timer: tokio_uring::fs::File) {
    let mut count = vec![0; Timer::COUNT_BYTES];
    loop {
        let (outcome, buffer) = timer.read_at(count, 0).await;
        count = buffer;
        if outcome.is_err_and(|error| error.kind() != ErrorKind::Interrupted) {
            return;
        }
        shared.timer_set.set(None);
        shared.wake_poll();
    }
}
