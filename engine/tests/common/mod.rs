//! What tests share that use up a limit of the process.
#![allow(unsafe_code, reason = "the limit is set by a system call")]

use std::fs::File;
use std::os::fd::AsRawFd as _;

/// Lets the process open nothing more than it has open. Gives the limit before.
pub(crate) fn leave_no_descriptor() -> u64 {
    let lowest_free = File::open("/dev/null").unwrap().as_raw_fd();
    limit_descriptors(lowest_free as u64)
}

/// Sets the process's limit and gives the one before.
pub(crate) fn limit_descriptors(most: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls are given a value on the stack that outlives them.
    let outcomes = unsafe {
        let read = libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        let lowered = libc::rlimit { rlim_cur: most, ..limit };
        (read, libc::setrlimit(libc::RLIMIT_NOFILE, &raw const lowered))
    };
    assert_eq!(outcomes, (0, 0), "{}", std::io::Error::last_os_error());
    limit.rlim_cur
}
