//! The ring, as safe calls: whatever memory an operation names belongs to the ring until the operation has completed,
//! and comes back with the completion.
//!
//! Most of what is sent finds room in the socket's buffer at once. So it is sent without waiting for room, and the
//! kernel tells only of what did not go well (`IOSQE_CQE_SKIP_SUCCESS`): a turn that sends something then waits in the
//! same system call for whatever comes next. What it says nothing of has been sent. That holds because such a send
//! never outlives the call that hands it over (`MSG_DONTWAIT`), and counts as failed when it is cut short
//! (`MSG_WAITALL`): see io_uring_enter(2), io_uring_prep_send(3).
#![allow(unsafe_code, reason = "the kernel reads and writes memory while operations are under way")]

use std::io;
use std::marker::PhantomData;
use std::mem;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::time::{Duration, Instant};

use bytes::Bytes;
use io_uring::types::{CancelBuilder, Fd, Fixed, Napi, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, Probe, cqueue, opcode, squeue};
use socket2::SockAddr;

use super::buffers::Buffers;
use super::operations::{Completion, Key, Operation, Operations, Outcome};
use super::support::{self, lacks};
use crate::limits::{RING_BUFFERS, RING_BUFFERS_MAX};
use crate::settings::RingOptions;
use crate::transport::outbound::PIECES_MAX;
use crate::transport::{ConnectionId, sys};

/// The rings' lengths as a rule.
const LENGTHS: Lengths = Lengths { submissions: 1024, completions: 4096 };
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
    /// What is to be sent at once, or was, and has not been told as sent.
    at_once: Vec<Key>,
    sqpoll: bool,
    /// How waits are accounted: not as those for a disk, from Linux 6.15 on.
    wait_flags: EnterFlags,
    files: u32,
    system_calls: u64,
    /// The kernel wants a ring to be used by one thread.
    one_thread: PhantomData<*const ()>,
}

/// How much fits into the shared rings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lengths {
    /// Operations handed over in one system call; when there are more, they take another.
    pub(super) submissions: u32,
    /// Completions; the kernel keeps what does not fit until there is room.
    pub(super) completions: u32,
}

/// How the kernel finds a socket.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    /// Registered with the ring, under this number.
    Registered(u32),
    /// By its descriptor.
    Plain(RawFd),
}

/// Pieces that are sent together.
pub(super) struct Sending {
    /// In order. At most [`PIECES_MAX`].
    pub(super) pieces: Vec<Bytes>,
    slices: Vec<libc::iovec>,
    header: libc::msghdr,
    /// Bytes that the kernel was offered of them.
    offered: usize,
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
        Self::with(options, Buffers::new(RING_BUFFERS, RING_BUFFERS_MAX), LENGTHS)
    }

    /// [`new`](Self::new) with other lengths than the usual ones, for tests of what happens when there is no room.
    pub(super) fn with(options: RingOptions, buffers: Buffers, lengths: Lengths) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_single_issuer().setup_submit_all().setup_cqsize(lengths.completions);
        if options.sqpoll {
            builder.setup_sqpoll(SQPOLL_IDLE_MS);
        } else {
            // The kernel does its part when this thread asks for it, not whenever it interrupts it, and says by a flag
            // whether there is any.
            builder.setup_coop_taskrun().setup_taskrun_flag().setup_defer_taskrun();
        }
        let ring = builder.build(lengths.submissions).map_err(|error| match error.raw_os_error() {
            Some(libc::EINVAL) => lacks("task work on demand (IORING_SETUP_DEFER_TASKRUN)", "6.1"),
            _ => error,
        })?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        support::check(ring.params(), &probe)?;
        // SAFETY: the ring's memory lives as long as `buffers`, which is dropped after the ring, once it is no longer
        // registered (see `drop`), and the buffers themselves at least as long.
        let registered =
            unsafe { ring.submitter().register_buf_ring_with_flags(buffers.address(), buffers.most(), GROUP, 0) };
        registered.map_err(|error| support::missing(error, "provided buffer rings", "5.19"))?;
        let is_known = ring.params().is_feature_no_iowait();
        let wait_flags = if is_known { EnterFlags::NO_IOWAIT } else { EnterFlags::empty() };
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
            at_once: Vec::new(),
            sqpoll: options.sqpoll,
            wait_flags,
            files,
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
        let receive = on!(target, RecvMulti, GROUP).build();
        self.submit(Operation::Receive(connection), receive)
    }

    /// Sends what `sending` holds, or the beginning of it: as much as there is room for at once, or, if it `waits`, as
    /// soon as there is room. A thread of the kernel always waits.
    pub(super) fn send(
        &mut self,
        connection: ConnectionId,
        target: Target,
        mut sending: Box<Sending>,
        waits: bool,
    ) -> io::Result<Key> {
        let at_once = !waits && !self.sqpoll;
        let flags = libc::MSG_NOSIGNAL | if at_once { libc::MSG_DONTWAIT | libc::MSG_WAITALL } else { 0 };
        let header = sending.describe();
        let send = if let [slice] = sending.slices.as_slice() {
            #[allow(clippy::cast_possible_truncation, reason = "at most SEND_BYTES_MAX")]
            let len = slice.iov_len as u32;
            on!(target, Send, slice.iov_base.cast_const().cast(), len).flags(flags).build()
        } else {
            #[allow(clippy::cast_sign_loss, reason = "flags")]
            let flags = flags as u32;
            on!(target, SendMsg, header).flags(flags).build()
        };
        let send = if at_once { send.flags(squeue::Flags::SKIP_SUCCESS) } else { send };
        let key = self.submit(Operation::Send { connection, sending, at_once }, send)?;
        if at_once {
            self.at_once.push(key);
        }
        Ok(key)
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
            Operation::Connect(connection, _) | Operation::Receive(connection) | Operation::Send { connection, .. } => {
                Some(*connection)
            }
            Operation::Watch | Operation::Accept(_) => None,
        }
    }

    /// Whether what is submitted is begun by a thread of the kernel, at some time and in its order.
    pub(super) const fn has_thread(&self) -> bool {
        self.sqpoll
    }

    pub(super) const fn system_calls(&self) -> u64 {
        self.system_calls
    }

    /// Hands to the kernel what was submitted and lets it do what is due, without waiting. Costs nothing if there is
    /// neither.
    pub(super) fn turn(&mut self) -> io::Result<()> {
        self.buffers.provide();
        let (submitted, due, asleep) = {
            let queue = self.ring.submission();
            (queue.len(), queue.taskrun() || queue.cq_overflow(), queue.need_wakeup())
        };
        if submitted == 0 && !due {
            return Ok(());
        }
        if self.sqpoll {
            self.system_calls += u64::from(asleep || due);
            return tolerate(self.ring.submit());
        }
        self.system_calls += 1;
        #[allow(clippy::cast_possible_truncation, reason = "at most what there is room for")]
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
        self.buffers.provide();
        self.system_calls += 1;
        let wait = wait.map(|wait| Timespec::new().sec(wait.as_secs()).nsec(wait.subsec_nanos()));
        let arguments = wait.as_ref().map_or(SubmitArgs::new(), |wait| SubmitArgs::new().timespec(wait));
        tolerate(self.ring.submitter().submit_with_args_and_flags(1, &arguments, self.wait_flags))
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
                Operation::Receive(connection) => Outcome::Received(connection, received(result, flags, buffers)?),
                Operation::Send { connection, sending, at_once } => {
                    Outcome::Sent { connection, result, sending, at_once }
                }
            };
            completions.push(Completion { last, outcome });
        }
        self.settle(completions);
        Ok(())
    }

    /// Tells as sent what was to be sent at once and the kernel says nothing of.
    fn settle(&mut self, completions: &mut Vec<Completion>) {
        if self.at_once.is_empty() {
            return;
        }
        let (begun, told) = {
            let queue = self.ring.submission();
            (queue.is_empty(), !queue.cq_overflow())
        };
        // Otherwise some of it was not handed over, or word of it waits for room among the completions.
        if !(begun && told) {
            return;
        }
        for key in self.at_once.drain(..) {
            // The key of one that failed may have become another operation's.
            if !matches!(self.operations.get(key), Some(Operation::Send { at_once: true, .. })) {
                continue;
            }
            if let Some(Operation::Send { connection, sending, at_once }) = self.operations.remove(key) {
                let result = Ok(sending.offered);
                completions
                    .push(Completion { last: true, outcome: Outcome::Sent { connection, result, sending, at_once } });
            }
        }
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
    pub(super) const fn buffers(&self) -> u16 {
        self.buffers.count()
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

impl Sending {
    /// Nothing yet.
    pub(super) fn new() -> Box<Self> {
        // SAFETY: all of its fields may be zero.
        let header = unsafe { mem::zeroed() };
        Box::new(Self {
            pieces: Vec::with_capacity(PIECES_MAX),
            slices: Vec::with_capacity(PIECES_MAX),
            header,
            offered: 0,
        })
    }

    /// The pieces, as the kernel wants to be told of them, up to [`SEND_BYTES_MAX`]. What is pointed to lies on the
    /// heap and stays in its place as long as `self` is left alone.
    fn describe(&mut self) -> *const libc::msghdr {
        self.slices.clear();
        self.offered = 0;
        for piece in &self.pieces {
            let len = piece.len().min(SEND_BYTES_MAX - self.offered);
            self.slices.push(libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: len });
            self.offered += len;
        }
        self.header.msg_iov = self.slices.as_mut_ptr();
        self.header.msg_iovlen = self.slices.len() as _;
        &raw const self.header
    }
}

/// What a receive came to: bytes, or none at the end.
///
/// # Errors
/// If the kernel contradicts itself.
fn received(result: io::Result<usize>, flags: u32, buffers: &mut Buffers) -> io::Result<io::Result<Bytes>> {
    Ok(match (result, cqueue::buffer_select(flags)) {
        (Ok(bytes), Some(buffer)) if bytes > 0 => Ok(buffers.take(buffer, bytes)?),
        (Ok(bytes), None) if bytes > 0 => return Err(io::Error::other("io_uring received into no buffer")),
        (Err(error), _) => {
            if error.raw_os_error() == Some(libc::ENOBUFS) {
                buffers.grow();
            }
            Err(error)
        }
        // No buffer was taken, even if the flags of some kernels name one.
        (Ok(_), _) => Ok(Bytes::new()),
    })
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
