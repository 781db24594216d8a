//! What the kernel must be able to do, and what is said where it is not.

use std::io::{self, ErrorKind};

use io_uring::{Parameters, Probe, opcode};

use crate::settings::RingOptions;

/// Asks the kernel to do what is due, even without waiting for any of it.
pub(super) const GET_EVENTS: u32 = 1;

/// The operations that are used, and the kernel that brought each.
const OPERATIONS: &[(u8, &str, &str)] = &[
    (opcode::PollAdd::CODE, "IORING_OP_POLL_ADD", "5.1"),
    (opcode::AcceptMulti::CODE, "IORING_OP_ACCEPT", "5.5"),
    (opcode::Connect::CODE, "IORING_OP_CONNECT", "5.5"),
    (opcode::RecvMulti::CODE, "IORING_OP_RECV", "5.6"),
    (opcode::Send::CODE, "IORING_OP_SEND", "5.6"),
    (opcode::SendMsg::CODE, "IORING_OP_SENDMSG", "5.3"),
    (opcode::AsyncCancel::CODE, "IORING_OP_ASYNC_CANCEL", "5.5"),
];

/// Finds out whether a ring can do what will be asked of it, as far as it tells. What it does not tell, a probe finds
/// out by trying.
///
/// # Errors
/// What is missing, and since which kernel there is such a thing.
pub(super) fn check(options: RingOptions, parameters: &Parameters, probe: &Probe) -> io::Result<()> {
    if !parameters.is_feature_ext_arg() {
        return Err(lacks("waiting for a time (IORING_FEAT_EXT_ARG)", "5.11"));
    }
    if !parameters.is_feature_nodrop() {
        return Err(lacks("keeping all completions (IORING_FEAT_NODROP)", "5.5"));
    }
    if options.bundles && !parameters.is_feature_recvsend_bundle() {
        return Err(lacks("bundles (IORING_FEAT_RECVSEND_BUNDLE)", "6.10"));
    }
    match OPERATIONS.iter().find(|(code, ..)| !probe.is_supported(*code)) {
        Some((_, name, since)) => Err(lacks(name, since)),
        None => Ok(()),
    }
}

/// An error that says what the kernel has not.
pub(super) fn lacks(what: &str, since: &str) -> io::Error {
    io::Error::new(ErrorKind::Unsupported, format!("this kernel lacks {what}, which came with Linux {since}"))
}

/// The same if `error` means that; otherwise `error`.
pub(super) fn missing(error: io::Error, what: &str, since: &str) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP) => lacks(what, since),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let einval = || io::Error::from_raw_os_error(libc::EINVAL);
        let error = missing(einval(), "provided buffer rings", "5.19");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(error.to_string(), "this kernel lacks provided buffer rings, which came with Linux 5.19");
        let refused = missing(io::Error::from_raw_os_error(libc::ENOMEM), "anything", "1.0");
        assert_eq!(refused.raw_os_error(), Some(libc::ENOMEM), "a limit is no lack");
        // A kernel that knows none of the operations.
        assert!(OPERATIONS.iter().all(|(code, ..)| !Probe::new().is_supported(*code)));
    }
}
