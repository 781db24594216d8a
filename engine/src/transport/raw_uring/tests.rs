//! What only this backend can get wrong; the trait's promises are asked of it in `engine/tests/transport_contract.rs`.

use std::sync::atomic::AtomicUsize;
use std::thread;

use socket2::{Domain, Protocol, Socket, Type};

use super::buffers::Buffers;
use super::ring::Lengths;
use super::*;
use crate::limits::{READ_CHUNK_BYTES, RING_BUFFERS, RING_BUFFERS_MAX};
use crate::transport::inbound::COPY_BELOW_BYTES;
use crate::transport::outbound::PIECES_MAX;

/// Long enough for a loaded machine; a test that needs it fails.
const PATIENCE: Duration = Duration::from_secs(60);
const TURN: Duration = Duration::from_millis(20);
/// Both ways of handing over.
const OPTIONS: [RingOptions; 2] =
    [RingOptions { sqpoll: false, napi_us: None }, RingOptions { sqpoll: true, napi_us: None }];
const LENGTHS: Lengths = Lengths { submissions: 64, completions: 128 };

/// Asks `test` of rings that have so many buffers first and last; of none where the kernel has none.
fn with_rings((first, most): (u16, u16), test: impl Fn(RawUring)) {
    OPTIONS.into_iter().for_each(|options| with_ring(options, Buffers::new(first, most), LENGTHS, &test));
}

fn with_ring(options: RingOptions, buffers: Buffers, lengths: Lengths, test: impl Fn(RawUring)) {
    if crate::transport::probe::probe_ring(options).is_ok() {
        test(RawUring::over(Ring::with(options, buffers, lengths).unwrap()).unwrap());
    }
}

/// A connection that the transport has accepted, and the peer's end.
fn accept(transport: &mut RawUring) -> (ConnectionId, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    transport.listen(listener).unwrap();
    let peer = TcpStream::connect(address).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut accepted = None;
    until(transport, |event| {
        let Event::Accepted { connection, .. } = event else { panic!("unexpected {event:?}") };
        accepted = Some(connection);
        true
    });
    (accepted.unwrap(), peer)
}

/// Polls until `done` says so of an event.
fn until(transport: &mut RawUring, mut done: impl FnMut(Event) -> bool) {
    let end = Instant::now() + PATIENCE;
    let mut events = Vec::new();
    let mut found = false;
    while !found {
        assert!(Instant::now() < end, "it did not happen in time");
        transport.poll(Some(TURN), &mut events).unwrap();
        events.drain(..).for_each(|event| found |= done(event));
    }
}

/// Polls until `done` says so of the transport; nothing may be told meanwhile.
fn settle(transport: &mut RawUring, done: impl Fn(&RawUring) -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done(transport) {
        assert!(Instant::now() < end, "it did not happen in time");
        let mut events = Vec::new();
        transport.poll(Some(Duration::from_millis(1)), &mut events).unwrap();
        assert!(events.is_empty(), "{events:?}");
    }
}

fn bytes_of(event: Event) -> Bytes {
    let Event::Received { bytes, .. } = event else { panic!("unexpected {event:?}") };
    bytes
}

/// Bytes none of which is like its neighbours.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8 ^ (at >> 13) as u8).collect()
}

/// Bytes that count when they are let go.
fn owned(bytes: usize, gone: &Arc<AtomicUsize>) -> Bytes {
    struct Owned(Vec<u8>, Arc<AtomicUsize>);
    impl AsRef<[u8]> for Owned {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Owned {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
    Bytes::from_owner(Owned(pattern(bytes), Arc::clone(gone)))
}

/// Whoever keeps everything that was received stops nobody, and gets nothing that is overwritten later.
#[test]
fn holders_of_all_that_was_received_stop_nobody() {
    const BYTES: usize = 40 * READ_CHUNK_BYTES;
    with_rings((2, 2), |mut transport| {
        let (_, mut peer) = accept(&mut transport);
        let sent = pattern(BYTES);
        let mut held = Vec::new();
        thread::scope(|scope| {
            scope.spawn(|| peer.write_all(&sent).unwrap());
            let mut received = 0;
            until(&mut transport, |event| {
                let bytes = bytes_of(event);
                received += bytes.len();
                held.push(bytes);
                received == BYTES
            });
        });
        assert!(held.concat() == sent, "something was overwritten");
        drop(transport);
        assert!(held.concat() == sent, "what is held outlives the ring");
    });
}

/// A receive that finds no buffer ends; it is begun anew, and several that compete for too few all get on.
fn run_out_of_buffers(most: u16) {
    const BYTES: usize = 32 * READ_CHUNK_BYTES;
    with_rings((2, most), |mut transport| {
        let connections: Vec<(ConnectionId, TcpStream)> = (0..5).map(|_| accept(&mut transport)).collect();
        let sent = pattern(BYTES);
        let mut received = vec![Vec::new(); connections.len()];
        settle(&mut transport, |transport| {
            connections.iter().all(|(id, _)| transport.connections.get(*id).unwrap().receiving.is_some())
        });
        let begun = transport.receives;
        thread::scope(|scope| {
            for (_, peer) in &connections {
                scope.spawn(|| (&mut &*peer).write_all(&sent).unwrap());
            }
            // Much has come before anything is read.
            thread::sleep(Duration::from_millis(20));
            until(&mut transport, |event| {
                let at = connections.iter().position(|(connection, _)| *connection == event.connection()).unwrap();
                received[at].extend_from_slice(&bytes_of(event));
                received.iter().all(|bytes| bytes.len() == BYTES)
            });
        });
        assert!(transport.receives > begun, "two buffers were enough for five connections");
        assert_eq!(transport.ring.buffers(), most);
        assert!(received.iter().all(|bytes| *bytes == sent), "other bytes than were sent");
    });
}

#[test]
fn receives_that_run_out_of_buffers_begin_anew() {
    run_out_of_buffers(2);
}

#[test]
fn buffers_that_were_too_few_become_more() {
    run_out_of_buffers(4);
}

#[test]
fn a_receive_that_ends_for_no_reason_begins_anew() {
    with_rings((8, 8), |mut transport| {
        let (connection, mut peer) = accept(&mut transport);
        for round in 0..10 {
            settle(&mut transport, |transport| transport.connections.get(connection).unwrap().receiving.is_some());
            let key = transport.connections.get(connection).unwrap().receiving.unwrap();
            let begun = transport.receives;
            transport.ring.cancel(key).unwrap();
            settle(&mut transport, |transport| transport.receives > begun);
            peer.write_all(&[round]).unwrap();
            until(&mut transport, |event| bytes_of(event) == [round][..]);
        }
    });
}

/// A peer that never stops sending is felt by nobody but itself: what was received before the receive could be ended is
/// bounded, and comes first afterwards.
#[test]
fn a_flood_stops_while_its_connection_is_paused() {
    const BYTES: usize = 32 << 20;
    with_rings((8, 8), |mut transport| {
        let (connection, mut peer) = accept(&mut transport);
        let sent = pattern(BYTES);
        let mut received = Vec::new();
        thread::scope(|scope| {
            scope.spawn(|| peer.write_all(&sent).unwrap());
            let mut pauses = 0;
            while received.len() < BYTES {
                until(&mut transport, |event| {
                    received.extend_from_slice(&bytes_of(event));
                    true
                });
                // Many MB are on their way, so that each pause is in the midst of them.
                if pauses < 20 && received.len() < BYTES / 2 {
                    pauses += 1;
                    transport.set_reading(connection, false);
                    settle(&mut transport, |transport| {
                        transport.connections.get(connection).unwrap().receiving.is_none()
                    });
                    let before = transport.counters().bytes_received;
                    (0..5).for_each(|_| settle_once(&mut transport));
                    assert_eq!(transport.counters().bytes_received, before, "it goes on receiving");
                    let stash: usize =
                        transport.connections.get(connection).unwrap().stash.iter().map(Bytes::len).sum();
                    assert!(stash <= 32 * 8 * READ_CHUNK_BYTES, "{stash} bytes");
                    transport.set_reading(connection, true);
                }
            }
            assert!(pauses > 0);
        });
        assert!(received == sent, "something is missing or out of order");
    });
}

fn settle_once(transport: &mut RawUring) {
    let mut events = Vec::new();
    transport.poll(Some(Duration::from_millis(1)), &mut events).unwrap();
    assert!(events.is_empty(), "{events:?}");
}

/// What is being sent is kept until the kernel is done with it, and no longer.
#[test]
fn closing_lets_go_of_what_is_being_sent() {
    with_rings((8, 8), |mut transport| {
        let (connection, peer) = accept(&mut transport);
        let gone = Arc::new(AtomicUsize::new(0));
        let pieces = 100;
        (0..pieces).for_each(|_| transport.send(connection, owned(1 << 20, &gone)));
        // The peer reads nothing, so that a send waits for room.
        settle(&mut transport, |transport| transport.counters().bytes_sent > 0);
        (0..5).for_each(|_| settle_once(&mut transport));
        assert!(transport.connections.get(connection).unwrap().sending.is_some());
        let before = gone.load(Ordering::SeqCst);
        transport.close(connection);
        assert_eq!(transport.queued_bytes(connection), 0);
        assert!(gone.load(Ordering::SeqCst) < pieces, "the kernel has not let go of them, {before} before");
        settle(&mut transport, |transport| transport.connections.get(connection).is_none());
        assert_eq!(gone.load(Ordering::SeqCst), pieces);
        drop(peer);
    });
}

/// Its place, and with it the number that the kernel knows its socket by, is not used again before.
#[test]
fn a_place_is_used_again_only_when_nothing_is_under_way() {
    with_rings((8, 8), |mut transport| {
        let (first, _peer) = accept(&mut transport);
        settle(&mut transport, |transport| transport.connections.get(first).unwrap().receiving.is_some());
        transport.close(first);
        let (second, mut peer) = accept(&mut transport);
        transport.close(first);
        peer.write_all(b"to the second").unwrap();
        until(&mut transport, |event| {
            assert_eq!(event.connection(), second);
            bytes_of(event) == "to the second"
        });
    });
}

#[test]
fn a_reset_while_something_is_being_sent_is_told_once() {
    with_rings((8, 8), |mut transport| {
        let (connection, mut peer) = accept(&mut transport);
        let gone = Arc::new(AtomicUsize::new(0));
        transport.send(connection, owned(64 << 20, &gone));
        settle(&mut transport, |transport| transport.counters().bytes_sent > 0);
        // Closing a socket with unread bytes resets the connection.
        peer.read_exact(&mut [0; 10]).unwrap();
        drop(peer);
        until(&mut transport, |event| {
            let Event::Closed { connection: closed, error: Some(error) } = event else {
                panic!("unexpected {event:?}")
            };
            assert_eq!(closed, connection);
            assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
            true
        });
        assert_eq!(transport.queued_bytes(connection), 0);
        settle(&mut transport, |transport| transport.connections.get(connection).is_none());
        assert_eq!(gone.load(Ordering::SeqCst), 1);
    });
}

/// With something of each kind under way.
#[test]
fn dropping_waits_for_the_kernel_and_leaves_what_is_held() {
    with_rings((8, 8), |mut transport| {
        let (connection, mut peer) = accept(&mut transport);
        peer.write_all(&pattern(COPY_BELOW_BYTES)).unwrap();
        let mut held = Vec::new();
        until(&mut transport, |event| {
            held.push(bytes_of(event));
            held.iter().map(Bytes::len).sum::<usize>() == COPY_BELOW_BYTES
        });
        let gone = Arc::new(AtomicUsize::new(0));
        transport.send(connection, owned(64 << 20, &gone));
        let busy = Busy::new();
        let connecting = transport.connect(busy.address).unwrap();
        settle(&mut transport, |transport| transport.connections.get(connecting).unwrap().connecting.is_some());
        let started = Instant::now();
        drop(transport);
        assert_eq!(gone.load(Ordering::SeqCst), 1, "its memory was leaked");
        assert!(started.elapsed() < PATIENCE);
        assert!(held.concat() == pattern(COPY_BELOW_BYTES));
        peer.read_to_end(&mut Vec::new()).map(drop).or_else(ignore_reset).unwrap();
    });
}

fn ignore_reset(error: io::Error) -> io::Result<()> {
    if error.kind() == ErrorKind::ConnectionReset { Ok(()) } else { Err(error) }
}

/// A handshake that does not end is ended, and its socket let go, as soon as nobody wants it any more.
#[test]
fn closing_ends_a_handshake() {
    with_rings((8, 8), |mut transport| {
        let busy = Busy::new();
        let connection = transport.connect(busy.address).unwrap();
        settle(&mut transport, |transport| transport.connections.get(connection).unwrap().connecting.is_some());
        (0..5).for_each(|_| settle_once(&mut transport));
        assert!(transport.connections.get(connection).unwrap().connecting.is_some(), "somebody answered");
        transport.close(connection);
        settle(&mut transport, |transport| transport.connections.get(connection).is_none());
    });
}

/// A listener on loopback that has no room for anybody more.
struct Busy {
    address: SocketAddr,
    _socket: Socket,
    _waiting: Vec<TcpStream>,
}

impl Busy {
    fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        socket.bind(&any.into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            waiting.push(stream);
            assert!(waiting.len() < 10, "it never fills up");
        }
        Self { address, _socket: socket, _waiting: waiting }
    }
}

/// However many connections there are, a turn is one system call, also one that sends and waits; a look at an idle ring
/// is none.
#[test]
fn a_turn_is_one_system_call() {
    if crate::transport::probe::probe_ring(RingOptions::default()).is_err() {
        return;
    }
    let mut transport = RawUring::new(RingOptions::default()).unwrap();
    let mut connections: Vec<(ConnectionId, TcpStream)> = (0..40).map(|_| accept(&mut transport)).collect();
    settle(&mut transport, |transport| {
        connections.iter().all(|(connection, _)| transport.connections.get(*connection).unwrap().receiving.is_some())
    });
    let idle = transport.counters().system_calls;
    (0..100).for_each(|_| transport.poll(Some(Duration::ZERO), &mut Vec::new()).unwrap());
    assert_eq!(transport.counters().system_calls, idle);

    for (round, wait) in [(1, Duration::ZERO), (2, Duration::from_millis(5))] {
        connections.iter().for_each(|(connection, _)| transport.send(*connection, Bytes::from_static(b"all at once")));
        transport.poll(Some(wait), &mut Vec::new()).unwrap();
        assert_eq!(transport.counters().system_calls, idle + round);
        assert_eq!((transport.counters().writes, transport.counters().bytes_sent), (40 * round, 440 * round));
        assert!(connections.iter().all(|(connection, _)| transport.queued_bytes(*connection) == 0));
        for (_, peer) in &mut connections {
            let mut received = [0; 11];
            peer.read_exact(&mut received).unwrap();
            assert_eq!(&received, b"all at once");
        }
    }
}

/// A poll that waits after it has sent something ends when something comes.
#[test]
fn an_answer_ends_the_wait_of_the_call_that_sent_the_question() {
    with_rings((8, 8), |mut transport| {
        let (connection, mut peer) = accept(&mut transport);
        settle(&mut transport, |transport| transport.connections.get(connection).unwrap().receiving.is_some());
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..100 {
                    let mut question = [0; 2];
                    peer.read_exact(&mut question).unwrap();
                    peer.write_all(&question).unwrap();
                }
            });
            let started = Instant::now();
            for round in 0..100_u8 {
                transport.send(connection, vec![round; 2].into());
                let mut answer = Vec::new();
                while answer.len() < 2 {
                    let mut events = Vec::new();
                    transport.poll(Some(PATIENCE), &mut events).unwrap();
                    events.into_iter().for_each(|event| answer.extend_from_slice(&bytes_of(event)));
                }
                assert_eq!(answer, [round; 2]);
            }
            assert!(started.elapsed() < PATIENCE, "some wait was not ended");
        });
    });
}

/// What rings rely on, and what is asked of each kernel before one is used.
#[test]
fn a_send_that_is_cut_short_is_told() {
    if let Ok(mut transport) = RawUring::new(RingOptions::default()) {
        check_short_sends(&mut transport).unwrap();
    }
}

/// More than the kernel has room for, in many pieces: what it takes of each send is known to the byte.
#[test]
fn what_finds_no_room_at_once_is_sent_later() {
    const PIECES: usize = 5000;
    with_rings((8, 8), |mut transport| {
        let (connection, mut peer) = accept(&mut transport);
        let sent = pattern(PIECES * 4321);
        for piece in sent.chunks(4321) {
            transport.send(connection, Bytes::copy_from_slice(piece));
        }
        let mut events = Vec::new();
        transport.poll(Some(Duration::ZERO), &mut events).unwrap();
        if !transport.ring.has_thread() {
            let state = transport.connections.get(connection).unwrap();
            assert!(state.sending.is_some(), "{} of {} bytes were sent", transport.counters().bytes_sent, sent.len());
            assert!(transport.counters().writes > 1, "one operation has {PIECES_MAX} pieces at most");
        }
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut received = vec![0; sent.len()];
                peer.read_exact(&mut received).unwrap();
                received
            });
            let started = Instant::now();
            while transport.queued_bytes(connection) > 0 {
                transport.poll(Some(PATIENCE), &mut events).unwrap();
                assert!(started.elapsed() < PATIENCE, "room did not end a wait");
            }
            assert_eq!(transport.counters().bytes_sent, sent.len() as u64);
            assert!(reader.join().unwrap() == sent, "other bytes than were sent");
        });
        assert!(events.is_empty(), "{events:?}");
    });
}

/// Much that is to be sent keeps a poll from ending, but not from ending with what one turn has brought.
#[test]
fn a_poll_brings_no_more_than_a_turn_however_much_it_sends() {
    const BYTES: usize = 24 << 20;
    with_rings((8, 8), |mut transport| {
        let ((swallowing, mut reader), (flooding, mut flooder)) = (accept(&mut transport), accept(&mut transport));
        let sent = pattern(BYTES);
        sent.chunks(4321).for_each(|piece| transport.send(swallowing, Bytes::copy_from_slice(piece)));
        thread::scope(|scope| {
            scope.spawn(|| reader.read_exact(&mut vec![0; BYTES]).unwrap());
            scope.spawn(|| flooder.write_all(&sent).unwrap());
            let (mut received, end) = (0, Instant::now() + PATIENCE);
            while received < BYTES || transport.queued_bytes(swallowing) > 0 {
                assert!(Instant::now() < end, "{received} bytes came");
                let mut events = Vec::new();
                transport.poll(Some(TURN), &mut events).unwrap();
                assert!(events.iter().all(|event| event.connection() == flooding));
                let brought: usize = events.into_iter().map(|event| bytes_of(event).len()).sum();
                assert!(brought <= 8 * READ_CHUNK_BYTES, "{brought} bytes in one poll");
                received += brought;
            }
        });
    });
}

/// Word of a send that was cut short may have to wait for room among the completions: then it is not taken for sent.
#[test]
fn completions_that_overflow_lose_nothing() {
    const BYTES: usize = 8 << 20;
    let lengths = Lengths { submissions: 4, completions: 4 };
    with_ring(RingOptions::default(), Buffers::new(RING_BUFFERS, RING_BUFFERS_MAX), lengths, |mut transport| {
        let (identities, mut peers): (Vec<ConnectionId>, Vec<TcpStream>) =
            (0..20).map(|_| accept(&mut transport)).unzip();
        settle(&mut transport, |transport| {
            identities.iter().all(|connection| transport.connections.get(*connection).unwrap().receiving.is_some())
        });
        let sent = Bytes::from(pattern(BYTES));
        for (connection, peer) in identities.iter().zip(&mut peers) {
            peer.write_all(&[7; 100]).unwrap();
            transport.send(*connection, sent.clone());
        }
        let (sent, mut received) = (&sent, vec![0; identities.len()]);
        thread::scope(|scope| {
            for peer in &mut peers {
                scope.spawn(move || {
                    // Until then there is no room for so much, for any of them.
                    thread::sleep(Duration::from_millis(50));
                    for expected in sent.chunks(1 << 16) {
                        let mut part = vec![0; expected.len()];
                        peer.read_exact(&mut part).unwrap();
                        assert!(part == expected, "something was taken for sent");
                    }
                });
            }
            let end = Instant::now() + PATIENCE;
            let mut events = Vec::new();
            while transport.counters().bytes_sent < (identities.len() * BYTES) as u64 || received != [100; 20] {
                assert!(
                    Instant::now() < end,
                    "{} bytes were sent, {received:?} received",
                    transport.counters().bytes_sent
                );
                transport.poll(Some(TURN), &mut events).unwrap();
                for event in events.drain(..) {
                    let at = identities.iter().position(|connection| *connection == event.connection()).unwrap();
                    received[at] += bytes_of(event).len();
                }
            }
        });
        assert!(identities.iter().all(|connection| transport.queued_bytes(*connection) == 0));
    });
}
