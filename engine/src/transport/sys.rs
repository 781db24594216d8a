//! System calls that the backend crates do not offer.
#![allow(unsafe_code, reason = "system calls on raw memory")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use bytes::{BufMut, BytesMut};

/// Reads from a socket behind what `buffer` holds, into its spare capacity, which the standard library would want
/// zeroed first. Gives the number of bytes.
pub(super) fn receive(socket: BorrowedFd<'_>, buffer: &mut BytesMut) -> io::Result<usize> {
    let room = buffer.spare_capacity_mut();
    // SAFETY: the kernel writes at most `room.len()` bytes to the memory that `room` borrows.
    let read = unsafe { libc::recv(socket.as_raw_fd(), room.as_mut_ptr().cast(), room.len(), 0) };
    let Ok(read) = usize::try_from(read) else { return Err(io::Error::last_os_error()) };
    // SAFETY: the kernel wrote the first `read` bytes of the spare capacity.
    unsafe { buffer.advance_mut(read) };
    Ok(read)
}

/// Waits until something can be read from one of `files` or `wait` is over, if there is an end; to the microsecond,
/// where epoll counts in milliseconds. A signal ends the wait too. Gives whether something can be read from each.
pub(super) fn wait_readable<const N: usize>(files: [RawFd; N], wait: Option<Duration>) -> [bool; N] {
    let mut polled = files.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    let wait = wait.map(timespec);
    let wait = wait.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: both pointers are to values on the stack that outlive the call, or null for a wait without an end; a null
    // signal mask leaves the thread's own in place. Failing is the same as not waiting: who calls looks at the files
    // again in any case.
    unsafe { libc::ppoll(polled.as_mut_ptr(), N as libc::nfds_t, wait, std::ptr::null()) };
    polled.map(|polled| polled.revents != 0)
}

/// Lets a socket receive so many bytes at least before it is read from, and leaves it to the kernel to let it receive
/// more: to ask for a low-water mark makes room for as much, where to ask for a buffer ends its growth. Not for one
/// that listens: connections would inherit the mark while it is set.
pub(super) fn make_receive_room(socket: RawFd, bytes: libc::c_int) {
    for mark in [bytes, 1] {
        // SAFETY: the kernel reads `mark`, which outlives the call, by its size. Failing leaves the socket as it was.
        unsafe {
            libc::setsockopt(
                socket,
                libc::SOL_SOCKET,
                libc::SO_RCVLOWAT,
                (&raw const mark).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
    }
}

/// How many bytes have to be there before a socket is said to be readable.
#[cfg(test)]
pub(super) fn low_water_mark(socket: RawFd) -> Option<libc::c_int> {
    let mut mark: libc::c_int = 0;
    let mut bytes = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes no more than `bytes` to `mark`, and how many to `bytes`; both outlive the call.
    let failed = unsafe {
        libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_RCVLOWAT, (&raw mut mark).cast(), &raw mut bytes)
    };
    (failed == 0).then_some(mark)
}

/// Lets this process have as many file descriptors as it may, and gives that number.
///
/// # Errors
/// If the kernel refuses.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes to a value on the stack that outlives the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: the kernel reads a value on the stack that outlives the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(raised.rlim_cur)
}

/// A file that counts what is written to it, for others to see that something was.
pub(super) fn event_counter() -> io::Result<File> {
    // SAFETY: no memory is passed.
    let file = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if file < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(file) }))
}

/// A timer that is read from like a file.
pub(super) struct Timer(OwnedFd);

impl Timer {
    /// What a read gives: how often the timer went off.
    pub(super) const COUNT_BYTES: usize = 8;

    /// A timer that is not set.
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: no memory is passed.
        let file = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC) };
        if file < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(file) }))
    }

    /// Another handle of it, to read from.
    pub(super) fn file(&self) -> io::Result<File> {
        Ok(File::from(self.0.try_clone()?))
    }

    /// Makes it go off once, after `wait`, instead of when it was to go off before.
    pub(super) fn set(&self, wait: Duration) -> io::Result<()> {
        // A time of zero would stop it.
        let once = libc::itimerspec {
            it_interval: timespec(Duration::ZERO),
            it_value: timespec(wait.max(Duration::from_nanos(1))),
        };
        // SAFETY: `once` outlives the call, and the old setting is not asked for.
        match unsafe { libc::timerfd_settime(self.0.as_raw_fd(), 0, &raw const once, std::ptr::null_mut()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
