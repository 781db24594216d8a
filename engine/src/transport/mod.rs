//! Long-lived byte streams behind one small trait, with backends chosen at run time.
//!
//! One thread owns a transport and all of its sockets. Backends: [epoll] (everywhere), [uring] (`tokio-uring`, where
//! the kernel and the container allow `io_uring`) and [raw_uring] (`io_uring` without a runtime, from Linux 6.1 on);
//! [probe] opens the one that was chosen, if it works. Backend crates are named in their own file and nowhere else.
//! [memory] has no sockets, for nodes that one thread drives by hand.
//!
//! Shared by the backends: `outbound` queues what is to be sent, `inbound` cuts what was read, `table` finds a
//! connection's state by its number, `sockets` sets sockets up, `sys` makes the few system calls that no backend crate
//! offers.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub mod epoll;
mod inbound;
pub mod memory;
#[cfg_attr(loom, allow(dead_code, reason = "parts serve the uring backend alone, which loom leaves out"))]
mod outbound;
pub mod probe;
pub mod raw_uring;
mod sockets;
#[cfg_attr(loom, allow(dead_code, reason = "parts serve the uring backend alone, which loom leaves out"))]
mod sys;
mod table;
#[cfg(not(loom))]
pub mod uring;

pub use sockets::{BACKLOG, listen, reserve};
pub use sys::raise_descriptor_limit;

/// Most bytes read from one connection in one poll, so that a fast peer does not keep the others waiting.
const CONNECTION_BUDGET_BYTES: usize = 256 << 10;
/// Most bytes read in one poll, about: bounds what a poll's events hold in memory however many connections there are.
const POLL_BUDGET_BYTES: usize = 4 << 20;
/// How long a listener rests after an error, such as no file descriptor being left: the error would come again at once.
const LISTENER_REST: Duration = Duration::from_millis(50);

/// How long whoever asks for a connection should wait for it. The kernel tries for minutes, ever more rarely, and so
/// would find a host that is back long after it is.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// A connection of one transport. Never reused while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// What happened on the sockets.
#[derive(Debug)]
pub enum Event {
    /// A stranger connected to the listener.
    Accepted {
        /// The new connection.
        connection: ConnectionId,
        /// Where it comes from.
        address: SocketAddr,
    },
    /// A connection asked for by [`Transport::connect`] stands.
    Connected {
        /// Which.
        connection: ConnectionId,
    },
    /// Bytes arrived, in order, cut anywhere.
    Received {
        /// On which connection.
        connection: ConnectionId,
        /// The bytes.
        bytes: Bytes,
    },
    /// The connection is gone (or could not be made); nothing more comes from it. Not reported for
    /// [`Transport::close`].
    Closed {
        /// Which.
        connection: ConnectionId,
        /// The error, or `None` for an orderly end.
        error: Option<io::Error>,
    },
}

impl Event {
    /// The connection that it happened to.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        match self {
            Self::Accepted { connection, .. }
            | Self::Connected { connection }
            | Self::Received { connection, .. }
            | Self::Closed { connection, .. } => *connection,
        }
    }
}

/// What a transport has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes handed to the kernel.
    pub bytes_sent: u64,
    /// Bytes taken from the kernel.
    pub bytes_received: u64,
    /// Reads that gave bytes.
    pub reads: u64,
    /// Writes that took bytes.
    pub writes: u64,
    /// System calls that moved bytes, waited, or looked whether there is anything to do or anybody to let in; those
    /// that set up a connection are not counted.
    pub system_calls: u64,
}

/// Streams of bytes. All calls are cheap but [`poll`](Transport::poll), which may wait.
pub trait Transport {
    /// Accepts connections from this listener.
    ///
    /// # Errors
    /// If the listener can not be registered.
    fn listen(&mut self, listener: TcpListener) -> io::Result<()>;

    /// Starts to connect. The outcome is an [`Event::Connected`] or [`Event::Closed`]. TCP_NODELAY is set.
    ///
    /// # Errors
    /// If no socket can be made.
    fn connect(&mut self, address: SocketAddr) -> io::Result<ConnectionId>;

    /// Queues bytes behind what was queued before. They leave at the next [`poll`](Transport::poll), many queued pieces
    /// in one system call. Bytes for a connection that is gone are forgotten.
    fn send(&mut self, connection: ConnectionId, bytes: Bytes);

    /// Bytes queued for this connection that the kernel has not taken yet; 0 if it is gone.
    fn queued_bytes(&self, connection: ConnectionId) -> usize;

    /// Stops reading from a connection, so that whoever is behind it feels it through TCP's flow control, or starts
    /// again; others go on meanwhile. Its end, too, is told only once it is read from again.
    fn set_reading(&mut self, connection: ConnectionId, reading: bool);

    /// Closes a connection at once, forgetting what is queued.
    fn close(&mut self, connection: ConnectionId);

    /// Writes what is queued, then waits for at most `wait` (`Some(ZERO)`: not at all, `None`: until something happens
    /// or the waker is called), reads a bounded amount from each readable connection and appends what happened to
    /// `events`. The kernel's taking of bytes that it had no room for is something that happens, but is no event: see
    /// [`queued_bytes`](Transport::queued_bytes). May return early for no reason.
    ///
    /// # Errors
    /// Only for failures of the transport as a whole; those of one connection are events.
    fn poll(&mut self, wait: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()>;

    /// What makes a waiting [`poll`](Transport::poll) return, from any thread.
    fn waker(&self) -> Waker;

    /// What was done so far.
    fn counters(&self) -> Counters;
}

/// Wakes a transport that waits in [`Transport::poll`].
#[derive(Clone)]
pub struct Waker(Arc<dyn Fn() + Send + Sync>);

impl Waker {
    /// A waker that calls `wake`.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(wake))
    }

    /// Wakes. May be called from any thread, any number of times; a call before the wait is not lost.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waker")
    }
}
