//! System calls that the backend crates do not offer.
#![allow(unsafe_code)] // system calls on raw memory

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use bytes::{BufMut, BytesMut};

/// Reads from a socket behind what `buffer` holds, into its spare capacity, which the standard library would want zeroed first. Gives the number of bytes.
pub(super) fn receive(socket: BorrowedFd<'_>, buffer: &mut BytesMut) -> io::Result<usize> {
    let room = buffer.spare_capacity_mut();
    // SAFETY: the kernel writes at most `room.len()` bytes to the memory that `room` borrows.
    let read = unsafe { libc::recv(socket.as_raw_fd(), room.as_mut_ptr().cast(), room.len(), 0) };
    let Ok(read) = usize::try_from(read) else { return Err(io::Error::last_os_error()) };
    // SAFETY: the kernel wrote the first `read` bytes of the spare capacity.
    unsafe { buffer.advance_mut(read) };
    Ok(read)
}

/// Waits until something can be read from `file` or `wait` is over; to the microsecond, where epoll counts in milliseconds. A signal ends the wait too.
pub(super) fn wait_readable(file: RawFd, wait: Duration) {
    let mut polled = libc::pollfd { fd: file, events: libc::POLLIN, revents: 0 };
    let wait = libc::timespec {
        tv_sec: wait.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: wait.subsec_nanos().into(),
    };
    // SAFETY: both pointers are to values on the stack that outlive the call; a null signal mask leaves the thread's own in place. Failing is the same
    // as not waiting: who calls looks at the file again in any case.
    unsafe { libc::ppoll(&raw mut polled, 1, &raw const wait, std::ptr::null()) };
}
