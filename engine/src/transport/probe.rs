//! Opens a backend, after trying it out where not every machine has it.

use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::epoll::Epoll;
use super::raw_uring::{self, RawUring};
use super::{Event, Transport};
use crate::settings::options::{RingOptions, TransportChoice};

/// What was opened, for logs and the run's manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The backend's name, one of those that the option takes.
    pub kind: &'static str,
    /// The same with the reason, in one line.
    pub why: String,
}

/// Why `auto` takes what it takes.
const BEST: &str = "epoll: measured best, see docs/transports.md";
/// Longest that the probe waits for its few bytes over loopback.
const PROBE_PATIENCE: Duration = Duration::from_secs(5);
const PROBE_BYTES: &[u8] = b"hippodrome";

/// Opens the backend that was chosen, or the best one.
///
/// # Errors
/// If the chosen backend does not work here, saying what to choose instead, or if the process has no file descriptor
/// left.
pub fn open(choice: TransportChoice) -> io::Result<(Box<dyn Transport>, Opened)> {
    open_as_probed(choice, || match choice {
        TransportChoice::IoUring(options) => probe_ring(options),
        _ => probe(),
    })
}

/// [`open`] with another probe, such as one that fails, for tests of what follows from it. The probe is asked only if
/// the choice depends on it.
///
/// # Errors
/// As [`open`].
pub fn open_as_probed(
    choice: TransportChoice,
    probe: impl FnOnce() -> io::Result<()>,
) -> io::Result<(Box<dyn Transport>, Opened)> {
    match choice {
        TransportChoice::Auto => epoll(BEST),
        TransportChoice::Epoll => epoll("epoll: chosen"),
        TransportChoice::TokioUring => match probe().and_then(|()| uring("tokio-uring: chosen")) {
            Err(error) => Err(io::Error::new(
                error.kind(),
                format!(
                    "transport: 'tokio-uring' does not work here: io_uring is refused ({error}); use 'epoll' or 'auto'"
                ),
            )),
            opened => opened,
        },
        TransportChoice::IoUring(options) => match probe().and_then(|()| RawUring::new(options)) {
            // What the kernel lacks is said in words.
            Err(error) => {
                let (reason, others) = match error.raw_os_error() {
                    Some(_) => ("io_uring is refused: ", "'epoll' or 'auto'"),
                    None => ("", "'tokio-uring', 'epoll' or 'auto'"),
                };
                let message = format!("transport: '{choice}' does not work here: {reason}{error}; use {others}");
                Err(io::Error::new(error.kind(), message))
            }
            Ok(transport) => {
                Ok((Box::new(transport), Opened { kind: choice.name(), why: format!("{choice}: chosen") }))
            }
        },
    }
}

/// Finds out whether io_uring works here: makes a ring and moves bytes through it, for a kernel or a container may
/// allow the one and not the other.
///
/// # Errors
/// What failed.
pub fn probe() -> io::Result<()> {
    try_out(&mut *uring("")?.0)
}

/// The same for a ring with these options, which asks more of the kernel.
///
/// # Errors
/// What failed, or what the kernel lacks.
pub fn probe_ring(options: RingOptions) -> io::Result<()> {
    let mut transport = RawUring::new(options)?;
    try_out(&mut transport)?;
    if options.sqpoll { Ok(()) } else { raw_uring::check_short_sends(&mut transport) }
}

fn try_out(transport: &mut dyn Transport) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    transport.listen(listener)?;
    let connection = transport.connect(address)?;
    transport.send(connection, Bytes::from_static(PROBE_BYTES));
    let end = Instant::now() + PROBE_PATIENCE;
    let mut received = Vec::new();
    let mut events = Vec::new();
    while received != PROBE_BYTES {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(ErrorKind::TimedOut, "bytes sent over loopback do not arrive"));
        }
        transport.poll(Some(left), &mut events)?;
        for event in events.drain(..) {
            match event {
                Event::Received { bytes, .. } => received.extend_from_slice(&bytes),
                Event::Closed { error, .. } => return Err(error.unwrap_or(ErrorKind::ConnectionAborted.into())),
                Event::Accepted { .. } | Event::Connected { .. } => {}
            }
        }
    }
    Ok(())
}

fn epoll(why: &str) -> io::Result<(Box<dyn Transport>, Opened)> {
    Ok((Box::new(Epoll::new()?), Opened { kind: TransportChoice::Epoll.name(), why: why.to_owned() }))
}

#[cfg(not(loom))]
fn uring(why: &str) -> io::Result<(Box<dyn Transport>, Opened)> {
    let transport = super::uring::Uring::new()?;
    Ok((Box::new(transport), Opened { kind: TransportChoice::TokioUring.name(), why: why.to_owned() }))
}

#[cfg(loom)]
fn uring(_: &str) -> io::Result<(Box<dyn Transport>, Opened)> {
    Err(ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> io::Result<()> {
        Err(io::Error::from_raw_os_error(libc::EPERM))
    }

    #[test]
    fn a_chosen_backend_that_is_refused_is_an_error_that_helps() {
        let Err(error) = open_as_probed(TransportChoice::TokioUring, refused) else { panic!("it was refused") };
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        for part in ["transport", "'tokio-uring'", "Operation not permitted", "'epoll'", "'auto'"] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn what_a_ring_lacks_is_said() {
        let choice: TransportChoice = "io-uring:napi=50us".parse().unwrap();
        let open = |error| open_as_probed(choice, || Err(error)).map(drop).unwrap_err().to_string();
        let refused = open(io::Error::from_raw_os_error(libc::EPERM));
        assert_eq!(
            refused,
            "transport: 'io-uring:napi=50us' does not work here: io_uring is refused: Operation not permitted \
             (os error 1); use 'epoll' or 'auto'"
        );
        let lacking = open(io::Error::new(ErrorKind::Unsupported, "this kernel lacks it"));
        assert!(lacking.contains("does not work here: this kernel lacks it; use"), "{lacking}");
    }

    #[test]
    fn epoll_needs_no_probe() {
        for (choice, why) in [(TransportChoice::Epoll, "epoll: chosen"), (TransportChoice::Auto, BEST)] {
            let (_, opened) = open_as_probed(choice, || unreachable!("it is not asked")).unwrap();
            assert_eq!((opened.kind, opened.why.as_str()), ("epoll", why));
        }
    }
}
