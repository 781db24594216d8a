//! What the kernel must be able to do, and what is said where it is not.

use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use io_uring::{Parameters, Probe, opcode};
use socket2::{Domain, Protocol, Socket, Type};

use crate::transport::{ConnectionId, Event, Transport};

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
pub(super) fn check(parameters: &Parameters, probe: &Probe) -> io::Result<()> {
    if !parameters.is_feature_ext_arg() {
        return Err(lacks("waiting for a time (IORING_FEAT_EXT_ARG)", "5.11"));
    }
    if !parameters.is_feature_nodrop() {
        return Err(lacks("keeping all completions (IORING_FEAT_NODROP)", "5.5"));
    }
    if !parameters.is_feature_skip_cqe_on_success() {
        return Err(lacks("silence about success (IORING_FEAT_CQE_SKIP)", "5.17"));
    }
    match OPERATIONS.iter().find(|(code, ..)| !probe.is_supported(*code)) {
        Some((_, name, since)) => Err(lacks(name, since)),
        None => Ok(()),
    }
}

/// A socket's send buffer, bytes, and what certainly does not fit into it and the receive buffer of its peer.
const SHORT_BUFFER_BYTES: usize = 4 << 10;
const SHORT_SEND_BYTES: usize = 4 << 20;
/// Longest that a few of them may take over loopback.
const SHORT_SEND_PATIENCE: Duration = Duration::from_secs(5);

/// Finds out whether the kernel tells of a send that was cut short, which the [ring](super::ring) relies on, unless a
/// thread of the kernel submits: what it says nothing of counts as sent.
///
/// # Errors
/// If it does not, or if sockets fail.
pub(in crate::transport) fn check_short_sends(transport: &mut dyn Transport) -> io::Result<()> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    // Those that it accepts inherit this.
    listener.set_send_buffer_size(SHORT_BUFFER_BYTES)?;
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    listener.listen(1)?;
    let address = listener.local_addr()?.as_socket().ok_or(ErrorKind::AddrNotAvailable)?;
    transport.listen(listener.into())?;
    let mut peer = TcpStream::connect(address)?;
    peer.set_read_timeout(Some(SHORT_SEND_PATIENCE))?;

    let connection = accepted(transport, peer.local_addr()?)?;
    transport.send(connection, vec![0; SHORT_SEND_BYTES].into());
    transport.poll(Some(Duration::ZERO), &mut Vec::new())?;
    let told = SHORT_SEND_BYTES - transport.queued_bytes(connection);
    // What was not sent is forgotten, and the end comes behind what was.
    transport.close(connection);
    let mut sent = 0;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match peer.read(&mut buffer)? {
            0 if sent == told => return Ok(()),
            0 => {
                let message = format!("this kernel sent {sent} bytes and told of {told}");
                return Err(io::Error::new(ErrorKind::Unsupported, message));
            }
            bytes => sent += bytes,
        }
    }
}

/// The connection that comes from `peer`, which waits to be accepted.
fn accepted(transport: &mut dyn Transport, peer: SocketAddr) -> io::Result<ConnectionId> {
    let end = Instant::now() + SHORT_SEND_PATIENCE;
    let mut events = Vec::new();
    while Instant::now() < end {
        transport.poll(Some(Duration::from_millis(1)), &mut events)?;
        for event in events.drain(..) {
            if let Event::Accepted { connection, address } = event
                && address == peer
            {
                return Ok(connection);
            }
        }
    }
    Err(io::Error::new(ErrorKind::TimedOut, "a connection over loopback is not accepted"))
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
