//! What the transport's trait promises, asked of every backend.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hippodrome_engine::settings::{RingOptions, TransportChoice};
use hippodrome_engine::transport::{ConnectionId, Event, Transport, probe};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Long enough for a loaded machine; a test that needs it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes a test of each promise for each backend.
macro_rules! contract {
    ($($promise:ident,)*) => {
        mod epoll {
            $(#[test] fn $promise() { super::$promise(super::TransportChoice::Epoll); })*
        }
        mod tokio_uring {
            $(#[test] fn $promise() {
                // Where io_uring is refused there is nothing to ask it.
                if super::probe::probe().is_ok() {
                    super::$promise(super::TransportChoice::TokioUring);
                }
            })*
        }
        mod io_uring {
            $(#[test] fn $promise() { super::with_ring("io-uring", super::$promise); })*
        }
        mod io_uring_with_sqpoll {
            $(#[test] fn $promise() { super::with_ring("io-uring:sqpoll", super::$promise); })*
        }
        mod io_uring_with_napi {
            $(#[test] fn $promise() { super::with_ring("io-uring:napi=20us", super::$promise); })*
        }
    };
}

contract! {
    echoes_everything_in_order,
    serves_two_hundred_connections,
    backpressure_loses_nothing,
    room_ends_a_wait,
    pausing_keeps_what_is_pending,
    a_paused_connection_holds_up_no_other,
    a_wake_is_not_lost,
    a_wait_is_kept,
    polling_without_a_wait_does_not_block,
    a_refused_connection_is_closed,
    a_reset_is_closed,
    an_orderly_end_comes_after_the_bytes,
    closing_forgets,
    bytes_queued_before_the_handshake_arrive,
    bytes_for_a_gone_connection_are_forgotten,
    dropping_closes_the_sockets,
    several_listeners_are_served,
    what_a_poll_has_written_arrives_though_it_is_closed,
    system_calls_are_counted,
}

/// Asks a promise of a ring, where the kernel has what it needs.
fn with_ring(choice: &str, promise: fn(TransportChoice)) {
    let choice: TransportChoice = choice.parse().unwrap();
    let TransportChoice::IoUring(options) = choice else { panic!("{choice} is no ring") };
    if works(options) {
        promise(choice);
    }
}

/// Whether there are such rings here. Only a lack or a refusal is a reason why not.
fn works(options: RingOptions) -> bool {
    match probe::probe_ring(options) {
        Ok(()) => true,
        Err(error) => {
            let refused = matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS | libc::EACCES));
            assert!(refused || error.kind() == ErrorKind::Unsupported, "{options:?}: {error}");
            false
        }
    }
}

/// Many MB in pieces of random size over several connections come back complete and in order.
fn echoes_everything_in_order(choice: TransportChoice) {
    echo(choice, 8, 3 << 20, 100_000);
    echo(choice, 2, 1 << 20, 200);
}

fn serves_two_hundred_connections(choice: TransportChoice) {
    echo(choice, 200, 64 << 10, 10_000);
}

fn backpressure_loses_nothing(choice: TransportChoice) {
    const BYTES: usize = 32 << 20;
    let (mut receiver, from_sender, mut sender, to_receiver) = pair(choice);
    receiver.set_reading(from_sender, false);
    let sent = noise(1, BYTES);
    for piece in sent.chunks(50_000) {
        sender.send(to_receiver, Bytes::copy_from_slice(piece));
    }
    // The kernel's buffers fill up, and the rest stays in the queue.
    let mut events = Vec::new();
    for _ in 0..20 {
        sender.poll(Some(Duration::from_millis(5)), &mut events).unwrap();
        receiver.poll(Some(Duration::from_millis(5)), &mut events).unwrap();
    }
    assert!(events.is_empty(), "{events:?}");
    assert!(sender.queued_bytes(to_receiver) > BYTES / 4, "{}", sender.queued_bytes(to_receiver));

    receiver.set_reading(from_sender, true);
    let mut received = Vec::with_capacity(BYTES);
    let end = Instant::now() + PATIENCE;
    while received.len() < BYTES && Instant::now() < end {
        sender.poll(Some(Duration::ZERO), &mut events).unwrap();
        receiver.poll(Some(Duration::from_millis(1)), &mut events).unwrap();
        for event in events.drain(..) {
            match event {
                Event::Received { bytes, .. } => received.extend_from_slice(&bytes),
                other => panic!("unexpected {other:?}"),
            }
        }
    }
    assert!(received == sent, "{} of {BYTES} bytes, or others", received.len());
    // The sender may hear of it somewhat later than the receiver.
    while sender.queued_bytes(to_receiver) > 0 && Instant::now() < end {
        sender.poll(Some(Duration::from_millis(1)), &mut events).unwrap();
    }
    assert_eq!(sender.queued_bytes(to_receiver), 0);
    assert_eq!(sender.counters().bytes_sent, BYTES as u64);
    assert_eq!(receiver.counters().bytes_received, BYTES as u64);
    assert!(receiver.counters().reads > 0 && sender.counters().writes > 0);
}

/// Who waits for a queue to become shorter need not look again and again.
fn room_ends_a_wait(choice: TransportChoice) {
    const BYTES: usize = 32 << 20;
    let (mut transport, connection, mut peer) = accepted(choice);
    transport.send(connection, noise(4, BYTES).into());
    let mut events = Vec::new();
    let started = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(30));
            let mut rest = vec![0; BYTES];
            peer.read_exact(&mut rest).unwrap();
        });
        while transport.queued_bytes(connection) > 0 {
            transport.poll(Some(PATIENCE), &mut events).unwrap();
        }
    });
    assert!(started.elapsed() < PATIENCE / 2, "{:?}", started.elapsed());
}

/// What arrived before and during a pause is given out after it, though the kernel tells only once.
fn pausing_keeps_what_is_pending(choice: TransportChoice) {
    let (mut transport, connection, mut peer) = accepted(choice);
    let mut expected = Vec::new();
    let mut received = Vec::new();
    for round in 0..20_u8 {
        transport.set_reading(connection, false);
        peer.write_all(&[round; 1000]).unwrap();
        expected.extend_from_slice(&[round; 1000]);
        let mut events = Vec::new();
        for _ in 0..3 {
            transport.poll(Some(Duration::from_millis(1)), &mut events).unwrap();
        }
        assert!(events.is_empty(), "{events:?}");
        transport.set_reading(connection, true);
        poll_until(&mut *transport, |events| {
            collect(connection, events, &mut received);
            received.len() == expected.len()
        });
    }
    assert_eq!(received, expected);
}

/// One connection is paused before anything came, one with bytes under way, one when all have come but its end; the
/// fourth goes on meanwhile. Nothing of any is lost.
fn a_paused_connection_holds_up_no_other(choice: TransportChoice) {
    // More than any poll may bring of one.
    const BYTES: usize = 8 << 20;
    let mut transport = open(choice);
    let (listener, address) = listener();
    transport.listen(listener).unwrap();
    let sent: Vec<Vec<u8>> = (0..4).map(|number| noise(number, BYTES)).collect();
    let (connections, peers): (Vec<_>, Vec<_>) = sent.iter().map(|_| accept_one(&mut *transport, address)).unzip();
    // So much is read of each before it is paused.
    let enough = [0, 1, BYTES, usize::MAX];
    let mut paused = Vec::new();
    let mut received = vec![Vec::new(); sent.len()];
    let mut ended = [false; 4];
    let mut resumed = false;
    thread::scope(|scope| {
        for (mut peer, bytes) in peers.into_iter().zip(&sent) {
            peer.set_write_timeout(Some(PATIENCE)).unwrap();
            scope.spawn(move || peer.write_all(bytes));
        }
        let end = Instant::now() + PATIENCE;
        while ended != [true; 4] && Instant::now() < end {
            for (at, connection) in connections.iter().enumerate() {
                if !resumed && !paused.contains(connection) && received[at].len() >= enough[at] {
                    transport.set_reading(*connection, false);
                    paused.push(*connection);
                }
            }
            let mut events = Vec::new();
            transport.poll(Some(Duration::from_millis(1)), &mut events).unwrap();
            for event in events {
                assert!(!paused.contains(&event.connection()), "paused: {event:?}");
                let at = connections.iter().position(|connection| *connection == event.connection()).unwrap();
                match event {
                    Event::Received { bytes, .. } => received[at].extend_from_slice(&bytes),
                    Event::Closed { error: None, .. } => ended[at] = true,
                    other => panic!("unexpected {other:?}"),
                }
            }
            if ended[3] && !resumed {
                assert!(received[0].is_empty() && received[1].len() < BYTES);
                resumed = true;
                paused.drain(..).for_each(|connection| transport.set_reading(connection, true));
            }
        }
    });
    assert_eq!((ended, resumed), ([true; 4], true));
    assert!(received == sent, "something is missing");
}

fn a_wake_is_not_lost(choice: TransportChoice) {
    let mut transport = open(choice);
    let waker = transport.waker();
    let mut events = Vec::new();
    let started = Instant::now();
    // Before the wait, on this thread and on another.
    waker.wake();
    transport.poll(Some(PATIENCE), &mut events).unwrap();
    let remote = waker.clone();
    thread::spawn(move || remote.wake()).join().unwrap();
    transport.poll(None, &mut events).unwrap();
    // During the wait.
    for _ in 0..20 {
        let remote = waker.clone();
        let waking = thread::spawn(move || {
            thread::sleep(Duration::from_millis(5));
            remote.wake();
        });
        transport.poll(Some(PATIENCE), &mut events).unwrap();
        waking.join().unwrap();
    }
    // At any moment.
    let remote = waker.clone();
    let seen = AtomicBool::new(true);
    thread::scope(|scope| {
        let polled = &seen;
        scope.spawn(move || {
            for _ in 0..2000 {
                while !polled.swap(false, Ordering::AcqRel) {
                    thread::yield_now();
                }
                remote.wake();
            }
        });
        for _ in 0..2000 {
            transport.poll(Some(PATIENCE), &mut events).unwrap();
            seen.store(true, Ordering::Release);
        }
    });
    assert!(started.elapsed() < PATIENCE, "a wake-up was lost");
    assert!(events.is_empty());
    drop(transport);
    waker.wake(); // Of a transport that is gone: nothing happens.
}

fn a_wait_is_kept(choice: TransportChoice) {
    let mut transport = open(choice);
    let mut events = Vec::new();
    for wait in [Duration::from_micros(200), Duration::from_millis(2), Duration::from_millis(50)] {
        let mut shortest = PATIENCE;
        for _ in 0..5 {
            let started = Instant::now();
            transport.poll(Some(wait), &mut events).unwrap();
            let waited = started.elapsed();
            assert!(waited + Duration::from_micros(100) >= wait, "{waited:?} instead of {wait:?}");
            shortest = shortest.min(waited);
        }
        assert!(shortest < wait + Duration::from_millis(20), "{shortest:?} instead of {wait:?}");
    }
    assert!(events.is_empty());
}

fn polling_without_a_wait_does_not_block(choice: TransportChoice) {
    let (mut transport, _, _peer) = accepted(choice);
    let mut events = Vec::new();
    let started = Instant::now();
    for _ in 0..1000 {
        transport.poll(Some(Duration::ZERO), &mut events).unwrap();
    }
    // A millisecond each would be a second; a busy machine may take the core away for a while.
    assert!(started.elapsed() < Duration::from_millis(900), "{:?}", started.elapsed());
    assert!(events.is_empty());
}

fn a_refused_connection_is_closed(choice: TransportChoice) {
    let (listener, address) = listener();
    drop(listener);
    let mut transport = open(choice);
    let connection = transport.connect(address).unwrap();
    transport.send(connection, Bytes::from_static(b"to nobody"));
    let error = closed(&mut *transport, connection).expect("it is an error");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(transport.queued_bytes(connection), 0);
}

fn a_reset_is_closed(choice: TransportChoice) {
    let (mut transport, connection, peer) = accepted(choice);
    transport.send(connection, Bytes::from_static(b"never read"));
    transport.poll(Some(Duration::ZERO), &mut Vec::new()).unwrap();
    // Closing a socket with unread bytes resets the connection.
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    while peer.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::Interrupted) {}
    drop(peer);
    let error = closed(&mut *transport, connection).expect("a reset is an error");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

fn an_orderly_end_comes_after_the_bytes(choice: TransportChoice) {
    for size in [0, 100, 500_000] {
        let (mut transport, connection, mut peer) = accepted(choice);
        let sent = noise(2, size);
        thread::scope(|scope| {
            scope.spawn(|| {
                peer.write_all(&sent).unwrap();
                peer.shutdown(std::net::Shutdown::Write).unwrap();
            });
            let mut received = Vec::new();
            let mut end = None;
            poll_until(&mut *transport, |events| {
                for event in events {
                    match event {
                        Event::Received { bytes, .. } => received.extend_from_slice(&bytes),
                        Event::Closed { connection: closed, error } => end = Some((closed, error.map(|e| e.kind()))),
                        other => panic!("unexpected {other:?}"),
                    }
                }
                end.is_some()
            });
            assert_eq!(end, Some((connection, None)));
            assert!(received == sent);
        });
    }
}

fn closing_forgets(choice: TransportChoice) {
    let (mut transport, connection, mut peer) = accepted(choice);
    peer.write_all(b"unread").unwrap();
    transport.set_reading(connection, false);
    transport.send(connection, noise(3, 64 << 20).into());
    transport.poll(Some(Duration::from_millis(1)), &mut Vec::new()).unwrap();
    assert!(transport.queued_bytes(connection) > 0);
    transport.close(connection);
    assert_eq!(transport.queued_bytes(connection), 0);
    transport.close(connection);
    transport.set_reading(connection, true);
    let mut events = Vec::new();
    for _ in 0..5 {
        transport.poll(Some(Duration::from_millis(5)), &mut events).unwrap();
    }
    assert!(events.is_empty(), "{events:?}");
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    // The peer sees the end, orderly or not, after at most what its and our kernel had taken.
    let mut rest = Vec::new();
    let ended = peer.read_to_end(&mut rest).map_err(|error| error.kind());
    assert!(matches!(ended, Ok(_) | Err(ErrorKind::ConnectionReset)), "{ended:?}");

    // Also while it is still being made.
    let (listener, address) = listener();
    let connection = transport.connect(address).unwrap();
    transport.close(connection);
    for _ in 0..5 {
        transport.poll(Some(Duration::from_millis(5)), &mut events).unwrap();
    }
    assert!(events.is_empty(), "{events:?}");
    drop(listener);
}

fn bytes_queued_before_the_handshake_arrive(choice: TransportChoice) {
    let (listener, address) = listener();
    let mut transport = open(choice);
    let connection = transport.connect(address).unwrap();
    transport.send(connection, Bytes::from_static(b"early"));
    assert_eq!(transport.queued_bytes(connection), 5);
    let mut connected = false;
    poll_until(&mut *transport, |events| {
        connected |= events.iter().any(|e| matches!(e, Event::Connected { connection: c } if *c == connection));
        connected
    });
    transport.poll(Some(Duration::ZERO), &mut Vec::new()).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut received = [0; 5];
    peer.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"early");
}

fn bytes_for_a_gone_connection_are_forgotten(choice: TransportChoice) {
    let (mut transport, connection, peer) = accepted(choice);
    drop(peer);
    assert!(closed(&mut *transport, connection).is_none());
    transport.send(connection, Bytes::from_static(b"too late"));
    assert_eq!(transport.queued_bytes(connection), 0);
    transport.close(connection);
    let mut events = Vec::new();
    transport.poll(Some(Duration::from_millis(1)), &mut events).unwrap();
    assert!(events.is_empty(), "{events:?}");
}

fn dropping_closes_the_sockets(choice: TransportChoice) {
    let (mut transport, connection, mut peer) = accepted(choice);
    transport.send(connection, Bytes::from_static(b"last"));
    transport.poll(Some(Duration::ZERO), &mut Vec::new()).unwrap();
    drop(transport);
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut received = Vec::new();
    peer.read_to_end(&mut received).unwrap();
    assert_eq!(received, b"last");
}

fn several_listeners_are_served(choice: TransportChoice) {
    let mut transport = open(choice);
    let addresses: Vec<_> = (0..3)
        .map(|_| {
            let (listener, address) = listener();
            // Whether the listener blocks is not the transport's caller's business.
            listener.set_nonblocking(address.port() % 2 == 0).unwrap();
            transport.listen(listener).unwrap();
            address
        })
        .collect();
    let mut accepted = 0;
    for round in 1..=3 {
        let _peers: Vec<_> = addresses.iter().map(|address| TcpStream::connect(address).unwrap()).collect();
        poll_until(&mut *transport, |events| {
            accepted += events.iter().filter(|event| matches!(event, Event::Accepted { .. })).count();
            accepted == 3 * round
        });
    }
}

/// Whoever is refused is told why, and then sees the end.
fn what_a_poll_has_written_arrives_though_it_is_closed(choice: TransportChoice) {
    for _ in 0..50 {
        let (mut transport, connection, mut peer) = accepted(choice);
        transport.send(connection, Bytes::from_static(b"you are refused"));
        transport.poll(Some(Duration::ZERO), &mut Vec::new()).unwrap();
        transport.close(connection);
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut received = Vec::new();
                let outcome = peer.read_to_end(&mut received);
                ended.store(true, Ordering::Release);
                (outcome.map_err(|error| error.kind()), received)
            });
            while !ended.load(Ordering::Acquire) {
                transport.poll(Some(Duration::from_millis(1)), &mut Vec::new()).unwrap();
            }
            assert_eq!(reader.join().unwrap(), (Ok(15), b"you are refused".to_vec()));
        });
    }
}

fn system_calls_are_counted(choice: TransportChoice) {
    const ROUNDS: u64 = 10;
    let (mut transport, connection, mut peer) = accepted(choice);
    let before = transport.counters().system_calls;
    assert!(before > 0, "accepting took some");
    for round in 1..=ROUNDS {
        peer.write_all(&[7]).unwrap();
        let mut received = Vec::new();
        poll_until(&mut *transport, |events| {
            collect(connection, events, &mut received);
            received == [7]
        });
        // Nobody can know of a byte without having asked, unless a thread of the kernel writes it down beside.
        let has_thread = matches!(choice, TransportChoice::IoUring(RingOptions { sqpoll: true, .. }));
        assert!(has_thread || transport.counters().system_calls >= before + round, "{:?}", transport.counters());
    }
    let before = transport.counters().system_calls;
    transport.poll(Some(Duration::from_millis(1)), &mut Vec::new()).unwrap();
    assert!(transport.counters().system_calls > before, "waiting takes one");
}

// --- what the promises are asked with ---

fn open(choice: TransportChoice) -> Box<dyn Transport> {
    probe::open(choice).expect("the backend opens").0
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    (listener, address)
}

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    StdRng::seed_from_u64(seed).fill(&mut noise[..]);
    noise
}

/// Polls until `done` says so of the events.
fn poll_until(transport: &mut dyn Transport, mut done: impl FnMut(Vec<Event>) -> bool) {
    let end = Instant::now() + PATIENCE;
    loop {
        let mut events = Vec::new();
        transport.poll(Some(Duration::from_millis(100)), &mut events).expect("polling works");
        if done(events) {
            return;
        }
        assert!(Instant::now() < end, "it did not happen in time");
    }
}

fn collect(connection: ConnectionId, events: Vec<Event>, received: &mut Vec<u8>) {
    for event in events {
        match event {
            Event::Received { connection: from, bytes } if from == connection => received.extend_from_slice(&bytes),
            other => panic!("unexpected {other:?}"),
        }
    }
}

/// A transport with one accepted connection, and the peer's end of it.
fn accepted(choice: TransportChoice) -> (Box<dyn Transport>, ConnectionId, TcpStream) {
    let mut transport = open(choice);
    let (listener, address) = listener();
    transport.listen(listener).unwrap();
    let (connection, peer) = accept_one(&mut *transport, address);
    (transport, connection, peer)
}

/// One more connection that a transport has accepted, and the peer's end of it.
fn accept_one(transport: &mut dyn Transport, address: SocketAddr) -> (ConnectionId, TcpStream) {
    let peer = TcpStream::connect(address).unwrap();
    let mut accepted = None;
    poll_until(transport, |events| {
        for event in events {
            match event {
                Event::Accepted { connection, address } => {
                    assert_eq!(address, peer.local_addr().unwrap());
                    accepted = Some(connection);
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        accepted.is_some()
    });
    (accepted.unwrap(), peer)
}

/// Two transports with one connection between them.
fn pair(choice: TransportChoice) -> (Box<dyn Transport>, ConnectionId, Box<dyn Transport>, ConnectionId) {
    let (mut one, mut other) = (open(choice), open(choice));
    let (listener, address) = listener();
    one.listen(listener).unwrap();
    let connecting = other.connect(address).unwrap();
    let mut accepted = None;
    let mut connected = false;
    let end = Instant::now() + PATIENCE;
    while accepted.is_none() || !connected {
        let mut events = Vec::new();
        one.poll(Some(Duration::from_millis(1)), &mut events).unwrap();
        other.poll(Some(Duration::from_millis(1)), &mut events).unwrap();
        for event in events {
            match event {
                Event::Accepted { connection, .. } => accepted = Some(connection),
                Event::Connected { connection } => connected |= connection == connecting,
                other => panic!("unexpected {other:?}"),
            }
        }
        assert!(Instant::now() < end);
    }
    (one, accepted.unwrap(), other, connecting)
}

/// Waits for the end of a connection and gives its error.
fn closed(transport: &mut dyn Transport, connection: ConnectionId) -> Option<std::io::Error> {
    let mut outcome = None;
    poll_until(transport, |events| {
        for event in events {
            match event {
                Event::Closed { connection: closed, error } if closed == connection => outcome = Some(error),
                other => panic!("unexpected {other:?}"),
            }
        }
        outcome.is_some()
    });
    outcome.unwrap()
}

/// Sends `bytes_each` over each of so many connections, in pieces of up to `piece_max` bytes, to another transport that
/// sends back whatever comes, and compares.
fn echo(choice: TransportChoice, connections: usize, bytes_each: usize, piece_max: usize) {
    let (listener, address) = listener();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let serving = scope.spawn(|| serve_echo(choice, listener, &stop));
        echo_client(choice, address, connections, bytes_each, piece_max);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(serving.join().unwrap(), connections);
    });
}

/// Gives the number of connections that came.
fn serve_echo(choice: TransportChoice, listener: TcpListener, stop: &AtomicBool) -> usize {
    let mut transport = open(choice);
    transport.listen(listener).unwrap();
    let mut accepted = 0;
    let mut events = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        transport.poll(Some(Duration::from_millis(20)), &mut events).unwrap();
        for event in events.drain(..) {
            match event {
                Event::Received { connection, bytes } => transport.send(connection, bytes),
                Event::Accepted { .. } => accepted += 1,
                Event::Connected { .. } => panic!("a server connects to nobody"),
                Event::Closed { .. } => {}
            }
        }
    }
    accepted
}

fn echo_client(choice: TransportChoice, address: SocketAddr, connections: usize, bytes_each: usize, piece_max: usize) {
    /// Sent, not sent yet, received.
    struct Line {
        data: Vec<u8>,
        sent: usize,
        received: usize,
    }
    let mut random = StdRng::seed_from_u64(bytes_each as u64);
    let mut transport = open(choice);
    let mut lines: HashMap<_, _> = (0..connections)
        .map(|number| {
            let connection = transport.connect(address).unwrap();
            (connection, Line { data: noise(number as u64, bytes_each), sent: 0, received: 0 })
        })
        .collect();
    let end = Instant::now() + PATIENCE;
    let mut complete = 0;
    let mut events = Vec::new();
    while complete < connections {
        for (&connection, line) in &mut lines {
            while line.sent < line.data.len() && transport.queued_bytes(connection) < 1 << 20 {
                let size = random.random_range(1..=piece_max).min(line.data.len() - line.sent);
                transport.send(connection, Bytes::copy_from_slice(&line.data[line.sent..line.sent + size]));
                line.sent += size;
            }
        }
        transport.poll(Some(Duration::from_millis(20)), &mut events).unwrap();
        for event in events.drain(..) {
            match event {
                Event::Connected { connection } => assert!(lines.contains_key(&connection)),
                Event::Received { connection, bytes } => {
                    let line = lines.get_mut(&connection).unwrap();
                    assert!(line.data[line.received..].starts_with(&bytes), "other bytes than were sent");
                    line.received += bytes.len();
                    complete += usize::from(line.received == line.data.len());
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        assert!(Instant::now() < end, "the echo does not end");
    }
}
