//! A process that runs out of file descriptors keeps what it has, does not spin, and accepts again when there are some.
//! The limit holds for the whole process, so this is the only test here.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use hippodrome_engine::settings::{RingOptions, TransportChoice};
use hippodrome_engine::transport::{Event, Transport, probe};

use crate::common::{leave_no_descriptor, limit_descriptors};

mod common;

const PEERS: usize = 5;

#[test]
fn a_listener_without_descriptors_rests_and_recovers() {
    starve(TransportChoice::Epoll);
    if probe::probe().is_ok() {
        starve(TransportChoice::TokioUring);
    }
    if probe::probe_ring(RingOptions::default()).is_ok() {
        starve(TransportChoice::IoUring(RingOptions::default()));
    }
}

fn starve(choice: TransportChoice) {
    let (mut transport, _) = probe::open(choice).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    transport.listen(listener).unwrap();
    // The kernel shakes hands for the listener; the peers only wait to be accepted.
    let peers: Vec<_> = (0..PEERS).map(|_| TcpStream::connect(address).unwrap()).collect();

    let before = leave_no_descriptor();
    let started = Instant::now();
    let mut polls = 0;
    let mut accepted = 0;
    while started.elapsed() < Duration::from_millis(300) {
        accepted += accepted_in(&mut *transport, Duration::from_millis(20));
        polls += 1;
    }
    limit_descriptors(before);
    assert_eq!(accepted, 0, "{choice}");
    assert!(polls < 60, "{choice}: {polls} polls in 300 ms: it spins");

    while accepted < peers.len() {
        assert!(started.elapsed() < Duration::from_secs(30), "{choice}: {accepted} of {PEERS} were accepted");
        accepted += accepted_in(&mut *transport, Duration::from_secs(1));
    }
}

/// How many connections a poll accepts.
fn accepted_in(transport: &mut dyn Transport, wait: Duration) -> usize {
    let mut events = Vec::new();
    transport.poll(Some(wait), &mut events).unwrap();
    assert!(events.iter().all(|event| matches!(event, Event::Accepted { .. })), "{events:?}");
    events.len()
}
