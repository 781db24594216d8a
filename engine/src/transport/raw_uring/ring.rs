//! The ring, as safe calls: whatever memory an operation names belongs to the ring until the operation has completed,
//! and comes back with the completion.
#![allow(unsafe_code, reason = "the kernel reads and writes memory while operations are under way")]

use std::io;
use std::marker::PhantomData;
use std::mem;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::time::{Duration, Instant};

use bytes::Bytes;
use io_uring::types::{CancelBuilder, Fd, Fixed, Napi, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};
use socket2::SockAddr;

use super::buffers::Buffers;
use super::operations::{Key, Operations};
use super::support::{self, lacks};
use crate::limits::{RING_BUFFERS, RING_BUFFERS_LENT_MAX};
use crate::settings::RingOptions;
use crate::transport::outbound::PIECES_MAX;
use crate::transport::{ConnectionId, sys};

/// Operations handed over in one system call; when there are more, they take another.
const SUBMISSIONS: u32 = 1024;
/// Completions that fit into the ring; the kernel keeps what does not until there is room.
const COMPLETIONS: u32 = 4096;
/// Connections whose sockets are registered with the ring; others are found by their descriptors, which costs a little.
const FILES: u32 = 4096;
/// The group of all buffers.
const GROUP: u16 = 0;
/// How long the kernel's thread spins for submissions before it sleeps and has to be woken, ms.
const SQPOLL_IDLE_MS: u32 = 2;
/// Most bytes that one operation sends.
const SEND_BYTES_MAX: usize = 1 << 30;
/// How long a ring that is dropped waits for its operations, which are cancelled. Whatever is not over by then is never
/// freed.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);
const DRAIN_TURN: Duration = Duration::from_millis(10);

/// Marks the completions of cancellations: the rest is the key of what was to be cancelled.
const CANCELLATION: u64 = 1 << 63;
/// A cancellation whose outcome nobody wants to know.
const NOBODY: u64 = CANCELLATION | u32::MAX as u64;

/// A ring and what it has under way. Belongs to the thread that made it.
pub(super) struct Ring {
    /// Before the memory that the kernel may use.
    ring: IoUring,
    operations: Operations,
    buffers: Buffers,
    sqpoll: bool,
    /// Whether a receive may fill several buffers.
    bundles: bool,
    files: u32,
    /// How often the kernel was handed what was submitted.
    turns: u64,
    /// Whether something to be sent was submitted since.
    sends: bool,
    system_calls: u64,
    /// The kernel wants a ring to be used by one thread.
    one_thread: PhantomData<*const ()>,
}

/// How the kernel finds a socket.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    /// Registered with the ring, under this number.
    Registered(u32),
    /// By its descriptor.
    Plain(RawFd),
}

/// Whose an operation is, and the memory that the kernel uses for it.
pub(super) enum Operation {
    /// Waits for wakers.
    Watch,
    /// Accepts connections from this listener.
    Accept(usize),
    /// Connects to the address, which the kernel reads at some time.
    Connect(ConnectionId, #[allow(dead_code, reason = "it is there for the kernel")] Box<SockAddr>),
    /// Receives.
    Receive(ConnectionId),
    /// Sends. With the turn in which it was handed over.
    Send(ConnectionId, Box<Sending>, u64),
}

/// Pieces that are sent together.
pub(super) struct Sending {
    /// In order. At most [`PIECES_MAX`].
    pub(super) pieces: Vec<Bytes>,
    slices: Vec<libc::iovec>,
    header: libc::msghdr,
}

/// What an operation came to, now or for good.
pub(super) struct Completion {
    /// Whether the operation is over: no further completion of it follows.
    pub(super) last: bool,
    pub(super) outcome: Outcome,
}

/// See [`Completion`].
pub(super) enum Outcome {
    /// Some waker was called.
    Woken,
    /// Somebody connected to this listener.
    Accepted(usize, io::Result<TcpStream>),
    Connected(ConnectionId, io::Result<()>),
    /// Bytes, or none at the end.
    Received(ConnectionId, io::Result<Bytes>),
    Sent {
        connection: ConnectionId,
        /// How many bytes the kernel took.
        result: io::Result<usize>,
        sending: Box<Sending>,
        /// Whether the kernel had no room at first.
        waited: bool,
    },
    /// What was to be cancelled was over already, or could not be found just then.
    NotCancelled(Key),
}

/// Makes an operation on a [`Target`].
macro_rules! on {
    ($target:expr, $operation:ident $(, $argument:expr)*) => {
        match $target {
            Target::Registered(number) => opcode::$operation::new(Fixed(number) $(, $argument)*),
            Target::Plain(file) => opcode::$operation::new(Fd(file) $(, $argument)*),
        }
    };
}

impl Ring {
    /// A ring with nothing under way.
    ///
    /// # Errors
    /// If the kernel, a container's filter or a limit refuses it, or if the kernel lacks something that it needs, which
    /// is named.
    pub(super) fn new(options: RingOptions) -> io::Result<Self> {
        Self::with_buffers(options, Buffers::new(RING_BUFFERS, RING_BUFFERS_LENT_MAX))
    }

    /// [`new`](Self::new) with other buffers than the usual ones, for tests of what happens when they run short.
    pub(super) fn with_buffers(options: RingOptions, buffers: Buffers) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_single_issuer().setup_submit_all().setup_cqsize(COMPLETIONS);
        if options.sqpoll {
            builder.setup_sqpoll(SQPOLL_IDLE_MS);
        } else {
            // The kernel does its part when this thread asks for it, not whenever it interrupts it, and says by a flag
            // whether there is any.
            builder.setup_coop_taskrun().setup_taskrun_flag().setup_defer_taskrun();
        }
        let ring = builder.build(SUBMISSIONS).map_err(|error| match error.raw_os_error() {
            Some(libc::EINVAL) => lacks("task work on demand (IORING_SETUP_DEFER_TASKRUN)", "6.1"),
            _ => error,
        })?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        support::check(options, ring.params(), &probe)?;
        // SAFETY: the ring's memory lives as long as `buffers`, which is dropped after the ring, once it is no longer
        // registered (see `drop`), and the buffers themselves at least as long.
        let registered =
            unsafe { ring.submitter().register_buf_ring_with_flags(buffers.address(), buffers.count(), GROUP, 0) };
        registered.map_err(|error| support::missing(error, "provided buffer rings", "5.19"))?;
        // The process may have fewer descriptors than that, and then goes on without.
        let files = ring.submitter().register_files_sparse(FILES).map_or(0, |()| FILES);
        if let Some(us) = options.napi_us {
            let mut napi = Napi::new().set_busy_poll_timeout(us).set_prefer_busy_poll(true);
            let registered = ring.submitter().register_napi(&mut napi);
            registered.map_err(|error| support::missing(error, "NAPI busy polling", "6.9"))?;
        }
        Ok(Self {
            ring,
            operations: Operations::new(),
            buffers,
            sqpoll: options.sqpoll,
            bundles: options.bundles,
            files,
            turns: 0,
            sends: false,
            system_calls: 0,
            one_thread: PhantomData,
        })
    }

    /// Registers a socket under `number`, if there is such a place.
    pub(super) fn register(&self, number: usize, socket: RawFd) -> Target {
        let place = u32::try_from(number).ok().filter(|number| *number < self.files);
        let registered = |place| self.ring.submitter().register_files_update(place, &[socket]);
        match place {
            Some(place) if matches!(registered(place), Ok(1)) => Target::Registered(place),
            _ => Target::Plain(socket),
        }
    }

    /// Undoes [`register`](Self::register): the socket closes once nobody else has it and no operation is under way.
    pub(super) fn unregister(&self, target: Target) {
        if let Target::Registered(place) = target {
            // Fails for no place that was registered.
            let _ = self.ring.submitter().register_files_update(place, &[-1]);
        }
    }

    /// Tells whenever `file`, of an event counter, is written to.
    pub(super) fn watch(&mut self, file: RawFd) -> io::Result<()> {
        #[allow(clippy::cast_sign_loss, reason = "a flag")]
        let poll = opcode::PollAdd::new(Fd(file), libc::POLLIN as u32).multi(true).build();
        self.submit(Operation::Watch, poll).map(drop)
    }

    /// Accepts whoever connects to a listener.
    pub(super) fn accept(&mut self, number: usize, listener: RawFd) -> io::Result<()> {
        let accept = opcode::AcceptMulti::new(Fd(listener)).flags(libc::SOCK_CLOEXEC).build();
        self.submit(Operation::Accept(number), accept).map(drop)
    }

    pub(super) fn connect(
        &mut self,
        connection: ConnectionId,
        target: Target,
        address: Box<SockAddr>,
    ) -> io::Result<Key> {
        let connect = on!(target, Connect, address.as_ptr().cast(), address.len()).build();
        self.submit(Operation::Connect(connection, address), connect)
    }

    /// Receives whatever comes, until it is cancelled or ends by itself.
    pub(super) fn receive(&mut self, connection: ConnectionId, target: Target) -> io::Result<Key> {
        let receive = if self.bundles {
            on!(target, RecvMultiBundle, GROUP).build()
        } else {
            on!(target, RecvMulti, GROUP).build()
        };
        self.submit(Operation::Receive(connection), receive)
    }

    /// Sends what `sending` holds, or the beginning of it.
    pub(super) fn send(
        &mut self,
        connection: ConnectionId,
        target: Target,
        mut sending: Box<Sending>,
    ) -> io::Result<Key> {
        let send = if let [piece] = sending.pieces.as_slice() {
            #[allow(clippy::cast_possible_truncation, reason = "at most SEND_BYTES_MAX")]
            let len = piece.len().min(SEND_BYTES_MAX) as u32;
            on!(target, Send, piece.as_ptr(), len).flags(libc::MSG_NOSIGNAL).build()
        } else {
            #[allow(clippy::cast_sign_loss, reason = "a flag")]
            let flags = libc::MSG_NOSIGNAL as u32;
            on!(target, SendMsg, sending.describe()).flags(flags).build()
        };
        self.sends = true;
        self.submit(Operation::Send(connection, sending, self.turns), send)
    }

    /// Ends an operation early. It completes in any case.
    pub(super) fn cancel(&mut self, key: Key) -> io::Result<()> {
        let cancel = opcode::AsyncCancel::new(key.0.into()).build();
        // Nobody waits for a cancellation that does what it should.
        self.push(&cancel.user_data(CANCELLATION | u64::from(key.0)).flags(squeue::Flags::SKIP_SUCCESS))
    }

    /// Whose this operation is, if it is a connection's and still under way.
    pub(super) fn connection_of(&self, key: Key) -> Option<ConnectionId> {
        match self.operations.get(key)? {
            Operation::Connect(connection, _) | Operation::Receive(connection) | Operation::Send(connection, ..) => {
                Some(*connection)
            }
            Operation::Watch | Operation::Accept(_) => None,
        }
    }

    /// Whether what is submitted is begun by a thread of the kernel, at some time and in its order.
    pub(super) const fn has_thread(&self) -> bool {
        self.sqpoll
    }

    /// Whether something to be sent has not been handed to the kernel yet.
    pub(super) const fn has_sends(&self) -> bool {
        self.sends
    }

    pub(super) const fn system_calls(&self) -> u64 {
        self.system_calls
    }

    /// Hands to the kernel what was submitted and lets it do what is due, without waiting. Costs nothing if there is
    /// neither.
    pub(super) fn turn(&mut self) -> io::Result<()> {
        let (submitted, due, asleep) = {
            let queue = self.ring.submission();
            (queue.len(), queue.taskrun() || queue.cq_overflow(), queue.need_wakeup())
        };
        self.sends = false;
        self.turns += 1;
        if submitted == 0 && !due {
            return Ok(());
        }
        if self.sqpoll {
            self.system_calls += u64::from(asleep || due);
            return tolerate(self.ring.submit());
        }
        self.system_calls += 1;
        #[allow(clippy::cast_possible_truncation, reason = "at most SUBMISSIONS")]
        let submitted = submitted as u32;
        // SAFETY: no argument is passed. The memory that the submitted operations name is theirs until they complete.
        let entered = unsafe { self.ring.submitter().enter::<libc::sigset_t>(submitted, 0, support::GET_EVENTS, None) };
        tolerate(entered)
    }

    /// Hands over what was submitted to the kernel's thread, and waits until something completes or can be read from
    /// `file`, for at most `wait`. Says whether the latter. Nobody has to wait for that thread to hear of a file.
    pub(super) fn wait_beside(&mut self, file: RawFd, wait: Option<Duration>) -> io::Result<bool> {
        self.turn()?;
        if !self.ring.completion().is_empty() {
            return Ok(false);
        }
        self.system_calls += 1;
        let [_, readable] = sys::wait_readable([self.ring.as_raw_fd(), file], wait);
        Ok(readable)
    }

    /// Hands over what was submitted, and waits until something completes, for at most `wait`.
    pub(super) fn wait(&mut self, wait: Option<Duration>) -> io::Result<()> {
        self.sends = false;
        self.turns += 1;
        self.system_calls += 1;
        let Some(wait) = wait else { return tolerate(self.ring.submit_and_wait(1)) };
        let wait = Timespec::new().sec(wait.as_secs()).nsec(wait.subsec_nanos());
        tolerate(self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&wait)))
    }

    /// Provides the buffers again that nobody holds any more.
    pub(super) fn take_back_buffers(&mut self) {
        self.buffers.take_back();
    }

    /// Appends what has completed.
    ///
    /// # Errors
    /// If the kernel contradicts itself.
    pub(super) fn reap(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        let (operations, buffers) = (&mut self.operations, &mut self.buffers);
        for entry in self.ring.completion() {
            let (data, result, flags) = (entry.user_data(), entry.result(), entry.flags());
            let last = !cqueue::more(flags);
            #[allow(clippy::cast_possible_truncation, reason = "the low half is the key")]
            let key = Key(data as u32);
            if data & CANCELLATION != 0 {
                if result < 0 && data != NOBODY {
                    completions.push(Completion { last, outcome: Outcome::NotCancelled(key) });
                }
                continue;
            }
            let operation = if last { operations.remove(key) } else { operations.get(key).and_then(Operation::shared) };
            let operation = operation.ok_or_else(|| io::Error::other("io_uring completed what nobody asked for"))?;
            let result = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
            let outcome = match operation {
                Operation::Watch => Outcome::Woken,
                Operation::Accept(listener) => Outcome::Accepted(listener, result.map(accepted)),
                Operation::Connect(connection, _) => Outcome::Connected(connection, result.map(drop)),
                Operation::Receive(connection) => {
                    let received = |result| Outcome::Received(connection, result);
                    match (result, cqueue::buffer_select(flags)) {
                        (Ok(bytes), Some(buffer)) if bytes > 0 => {
                            let push =
                                |piece| completions.push(Completion { last: false, outcome: received(Ok(piece)) });
                            buffers.take(buffer, bytes, push)?;
                            if let Some(newest) = completions.last_mut() {
                                newest.last = last;
                            }
                            continue;
                        }
                        (Ok(bytes), None) if bytes > 0 => {
                            return Err(io::Error::other("io_uring received into no buffer"));
                        }
                        // No buffer was taken, even if the flags of some kernels name one.
                        (result, _) => received(result.map(|_| Bytes::new())),
                    }
                }
                Operation::Send(connection, sending, turn) => {
                    Outcome::Sent { connection, result, sending, waited: turn + 1 < self.turns }
                }
            };
            completions.push(Completion { last, outcome });
        }
        buffers.publish();
        Ok(())
    }

    fn submit(&mut self, operation: Operation, entry: squeue::Entry) -> io::Result<Key> {
        let key = self.operations.insert(operation);
        self.push(&entry.user_data(key.0.into())).inspect_err(|_| drop(self.operations.remove(key)))?;
        Ok(key)
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: the memory that the entry names is part of an operation in `self.operations`, in its place on the
        // heap, until the operation's last completion has been seen, or for good if that can not be waited for (see
        // `drop`).
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            self.system_calls += 1;
            // The kernel takes all of them at once, or says why not.
            self.ring.submit()?;
            if self.sqpoll {
                self.ring.submitter().squeue_wait()?;
            }
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) const fn lent(&self) -> u16 {
        self.buffers.lent()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let end = Instant::now() + DRAIN_PATIENCE;
        let mut completions = Vec::new();
        while !self.operations.is_empty() && Instant::now() < end {
            let cancel = opcode::AsyncCancel2::new(CancelBuilder::any()).build().user_data(NOBODY);
            // The first wait may end with the cancellation itself.
            let turn = self
                .push(&cancel)
                .and_then(|()| self.wait(Some(DRAIN_TURN)))
                .and_then(|()| self.reap(&mut completions))
                .and_then(|()| if self.operations.is_empty() { Ok(()) } else { self.wait(Some(DRAIN_TURN)) })
                .and_then(|()| self.reap(&mut completions));
            completions.clear();
            if turn.is_err() {
                break;
            }
        }
        // Otherwise the kernel lets go of the sockets some time after the ring is closed.
        let _ = self.ring.submitter().unregister_files();
        let _ = self.ring.submitter().unregister_buf_ring(GROUP);
        if !self.operations.is_empty() {
            mem::forget(mem::replace(&mut self.operations, Operations::new()));
            self.buffers.leak();
        }
    }
}

impl Operation {
    /// One more like this, of those that have several completions.
    const fn shared(&self) -> Option<Self> {
        match self {
            Self::Watch => Some(Self::Watch),
            Self::Accept(listener) => Some(Self::Accept(*listener)),
            Self::Receive(connection) => Some(Self::Receive(*connection)),
            Self::Connect(..) | Self::Send(..) => None,
        }
    }
}

impl Sending {
    /// Nothing yet.
    pub(super) fn new() -> Box<Self> {
        // SAFETY: all of its fields may be zero.
        let header = unsafe { mem::zeroed() };
        Box::new(Self { pieces: Vec::with_capacity(PIECES_MAX), slices: Vec::with_capacity(PIECES_MAX), header })
    }

    /// The pieces, as the kernel wants to be told of them. What is pointed to lies on the heap and stays in its place as
    /// long as `self` is left alone.
    fn describe(&mut self) -> *const libc::msghdr {
        self.slices.clear();
        self.slices.extend(
            self.pieces
                .iter()
                .map(|piece| libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() }),
        );
        self.header.msg_iov = self.slices.as_mut_ptr();
        self.header.msg_iovlen = self.slices.len() as _;
        &raw const self.header
    }
}

fn accepted(file: usize) -> TcpStream {
    let Ok(file) = RawFd::try_from(file) else { unreachable!("the kernel's numbers are of this type") };
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    unsafe { TcpStream::from_raw_fd(file) }
}

/// Passes over what is no failure: a time that is over, a signal, and completions that have to be taken first.
fn tolerate(entered: io::Result<usize>) -> io::Result<()> {
    match entered {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)) => {
            Err(error)
        }
        _ => Ok(()),
    }
}
