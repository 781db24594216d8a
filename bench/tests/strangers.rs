//! Bytes from strangers, and from a client node that turned bad, at every port of replicas that were started by hand:
//! nobody dies, nothing grows, every refusal is counted by its name, and honest clients are served meanwhile and
//! afterwards.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hippodrome_engine::limits::{CONNECTIONS_MAX, NODE_FRAMES_BYTES_MAX, client_body_bytes_max};
use hippodrome_engine::settings::RingOptions;
use hippodrome_engine::transport::probe;
use hippodrome_engine::types::NodeId;
use hippodrome_engine::wire::frame::encode_frame;
use hippodrome_engine::wire::{FrameKind, FrameReader, Handshake};

use crate::common::by_hand::{Cluster, Replica};
use crate::common::{numbers, outcome, wait_for};

mod common;

/// Longest that a replica may take to hang up on who must go: its limit for handshakes is 5 s.
const HANG_UP: Duration = Duration::from_secs(30);
/// Resident memory may grow by so much under attack: buffers of a few hundred connections, and what an allocator keeps.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

/// Bytes that look random and are the same each time.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A frame whose header is in order but for what `change` does to it.
fn frame(kind: FrameKind, body: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = encode_frame(kind, NodeId(4), body.len(), |out| out.extend_from_slice(body)).to_vec();
    change(&mut bytes);
    bytes
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(HANG_UP)).unwrap();
    stream.set_write_timeout(Some(HANG_UP)).unwrap();
    stream
}

/// Sends what the other side may stop reading at any time, then waits until it hangs up.
fn throw(address: SocketAddr, bytes: &[u8]) {
    let mut stream = connect(address);
    let _ = stream.write_all(bytes);
    expect_hang_up(&mut stream);
}

fn expect_hang_up(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // An error is a reset: it hung up, too. Only patience that ran out is none.
    if let Err(error) = stream.read_to_end(&mut rest) {
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "the replica does not hang up");
    }
}

/// Introduces itself as the node of this key and proves it.
fn shake_hands(cluster: &Cluster, key: &str, to: usize) -> TcpStream {
    shake_hands_as(cluster, key, to, (0, 1))
}

/// The same as one of so many connections.
fn shake_hands_as(cluster: &Cluster, key: &str, to: usize, (index, connections): (u32, u32)) -> TcpStream {
    let address = cluster.replicas[to].listen;
    let peer = NodeId(u16::try_from(to).unwrap());
    let (mut handshake, hello) = Handshake::initiate(cluster.keyring(key), peer, index, connections, [7; 32]);
    let mut stream = connect(address);
    stream.write_all(&hello).unwrap();
    let mut frames = FrameReader::new(16 << 10);
    let mut chunk = [0; 4096];
    loop {
        let count = stream.read(&mut chunk).unwrap();
        assert!(count > 0, "the replica hung up on an honest introduction");
        frames.push(Bytes::copy_from_slice(&chunk[..count]));
        while let Some(frame) = frames.next_frame().unwrap() {
            let step = handshake.on_frame(&frame).unwrap();
            stream.write_all(&step.reply.unwrap()).unwrap();
            if step.established.is_some() {
                return stream;
            }
        }
    }
}

/// What strangers may say first, and what it is counted as.
fn first_words(cluster: &Cluster) -> Vec<(&'static str, Vec<u8>)> {
    let (_, hello) = Handshake::initiate(cluster.keyring("client-0.key"), NodeId(0), 0, 1, [7; 32]);
    let after_hello = |bytes: &[u8]| [&hello, bytes].concat();
    vec![
        ("bad_magic", noise(64 << 10)),
        ("bad_magic", b"GET / HTTP/1.1\r\nHost: race\r\n\r\n".to_vec()),
        ("bad_version", frame(FrameKind::Hello, b"", |bytes| bytes[6] = 99)),
        ("unknown_kind", frame(FrameKind::Hello, b"", |bytes| bytes[7] = 200)),
        ("too_long", frame(FrameKind::Hello, b"", |bytes| bytes[..4].copy_from_slice(&u32::MAX.to_le_bytes()))),
        ("bad_sender", frame(FrameKind::Hello, b"", |bytes| bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes()))),
        ("bad_checksum", frame(FrameKind::Hello, b"abc", |bytes| bytes[17] ^= 1)),
        ("malformed_handshake", frame(FrameKind::Hello, &noise(80), |_| ())),
        ("unexpected_frame", frame(FrameKind::Requests, &noise(100), |_| ())),
        ("unexpected_frame", frame(FrameKind::PrePrepare, &noise(100), |_| ())),
        ("bad_magic", after_hello(&noise(4096))),
        ("bad_handshake_signature", after_hello(&frame(FrameKind::Proof, &noise(64), |_| ()))),
    ]
}

/// What a client node may say once it has proven itself, what it is counted as, and whether that is the end of its
/// connection.
fn later_words() -> Vec<(&'static str, Vec<u8>, bool)> {
    vec![
        ("bad_magic", noise(4096), true),
        ("too_long", frame(FrameKind::Requests, b"", |bytes| bytes[..4].copy_from_slice(&[0xff; 4])), true),
        ("wrong_sender", encode_frame(FrameKind::Requests, NodeId(0), 0, |_| ()).to_vec(), true),
        ("unexpected_kind", frame(FrameKind::Commit, &noise(64), |_| ()), false),
        ("truncated", frame(FrameKind::Requests, b"", |_| ()), false),
        ("too_many_requests", frame(FrameKind::Requests, &[0xff; 64], |_| ()), false),
    ]
}

/// Waits until `replica` has counted `reason` at least so often: counters are posted now and then.
fn expect_refused(replica: &Replica, reason: &str, times: u64) {
    wait_for(&format!("the refusal {reason}, {times} times"), || (replica.refused(reason) >= times).then_some(()));
}

/// Sends less than was announced and stays: the replica must lose patience by itself.
fn stall(replica: &Replica) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    let hello = frame(FrameKind::Hello, &noise(16 << 10), |_| ());
    for length in [0, 1, 15, 16, 17, 1000] {
        let mut stream = connect(replica.listen);
        stream.write_all(&hello[..length]).unwrap();
        streams.push(stream);
    }
    // A body of the greatest length that a stranger may claim, byte by byte.
    let mut slow = connect(replica.listen);
    slow.write_all(&hello[..16]).unwrap();
    for byte in &hello[16..80] {
        slow.write_all(&[*byte]).unwrap();
    }
    streams.push(slow);
    streams
}

fn storm(replica: &Replica) {
    for round in 0..300 {
        let Ok(mut stream) = TcpStream::connect(replica.listen) else { continue };
        match round % 3 {
            0 => {}
            1 => drop(stream.write_all(&noise(33))),
            _ => drop(stream.shutdown(Shutdown::Write)),
        }
    }
}

fn annoy_control(replica: &Replica) {
    let mut stream = connect(replica.control);
    // It stops reading at its limit, so the end may not arrive; the connection must not hang.
    let _ = stream.write_all(&vec![b'a'; 1 << 20]);
    expect_hang_up(&mut stream);

    let mut stream = connect(replica.control);
    stream
        .write_all(
            b"hello\n{\"ask\":\"world\"}\n{\"ask\":\"ledger\",\"sequences\":[-1]}\n\xff\xfe\n{\"ask\":\"status\"}\n",
        )
        .unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    for _ in 0..4 {
        let line = lines.next().unwrap();
        assert!(line.contains("not a question"), "{line}");
    }
    assert!(lines.next().unwrap().contains("executed_sequence"));

    // Half open, more than it serves at a time; they end with this function.
    let idle: Vec<TcpStream> = (0..40).filter_map(|_| TcpStream::connect(replica.control).ok()).collect();
    drop(idle);
}

fn resident(replica: &Replica) -> u64 {
    replica.status()["resident_bytes"].as_u64().unwrap()
}

/// Throws everything at every port.
fn attack(transport: &str) {
    let mut cluster = Cluster::start(&[], &["--transport", transport], |file| file);
    cluster.expect_load("client-0");
    let before: Vec<u64> = cluster.replicas.iter().map(resident).collect();

    let stalled: Vec<TcpStream> = cluster.replicas.iter().flat_map(stall).collect();
    let (first, later) = (first_words(&cluster), later_words());
    for (id, replica) in cluster.replicas.iter().enumerate() {
        for (_, bytes) in &first {
            throw(replica.listen, bytes);
        }
        for (_, bytes, ends) in &later {
            let mut stream = shake_hands(&cluster, "client-0.key", id);
            stream.write_all(bytes).unwrap();
            if *ends {
                expect_hang_up(&mut stream);
            }
        }
        let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
        for reason in first.iter().map(|word| word.0).chain(later.iter().map(|word| word.0)) {
            *expected.entry(reason).or_default() += 1;
        }
        expected.into_iter().for_each(|(reason, times)| expect_refused(replica, reason, times));
        storm(replica);
        annoy_control(replica);
    }
    let stalled_at_each = stalled.len() as u64 / 4;
    for mut stream in stalled {
        expect_hang_up(&mut stream);
    }
    for (replica, before) in cluster.replicas.iter().zip(before) {
        expect_refused(replica, "handshake_timeout", stalled_at_each);
        let now = resident(replica);
        assert!(now < before + GROWTH_BYTES_MAX, "resident memory grew from {before} to {now} bytes");
    }
    cluster.expect_load("client-1");
    cluster.expect_agreement();
}

#[test]
fn strangers_harm_nobody_over_epoll() {
    attack("epoll");
}

#[test]
fn strangers_harm_nobody_over_io_uring() {
    // Containers often refuse it.
    if probe::probe_ring(RingOptions::default()).is_ok() {
        attack("io-uring");
    }
}

#[test]
fn strangers_harm_nobody_over_tokio_uring() {
    if probe::probe().is_ok() {
        attack("tokio-uring");
    }
}

/// A client node that proves itself on as many connections as it may have, and on each announces the largest frame and
/// keeps its last byte to itself: memory stays bounded, and who is honest is served meanwhile.
#[test]
fn frames_that_are_never_finished_cost_a_bounded_amount_of_memory() {
    let mut cluster = Cluster::start(&["--clients", "400"], &[], |file| file);
    cluster.expect_load("client-0");
    let before = resident(&cluster.replicas[0]);
    let largest = client_body_bytes_max(4);
    let frame = encode_frame(FrameKind::Requests, NodeId(4), largest, |out| out.extend_from_slice(&noise(largest)));
    let half = &frame[..frame.len() - 1];
    let mut streams = Vec::new();
    for round in 0..3 {
        for index in 0..CONNECTIONS_MAX {
            let mut stream = shake_hands_as(&cluster, "client-0.key", 0, (index, CONNECTIONS_MAX));
            // It may be hung up on half-way, which who does not read finds out late.
            stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
            let _ = stream.write_all(half);
            streams.push(stream);
        }
        expect_refused(&cluster.replicas[0], "node_over_budget", 1 + round);
        let now = resident(&cluster.replicas[0]);
        let allowed = before + GROWTH_BYTES_MAX + NODE_FRAMES_BYTES_MAX as u64;
        assert!(now < allowed, "resident memory grew from {before} to {now} bytes, allowed: {allowed}");
    }
    cluster.expect_load("client-1");
    cluster.expect_agreement();
    drop(streams);
}

#[test]
fn clients_are_served_while_strangers_are_refused() {
    let mut cluster = Cluster::start(&[], &[], |file| file);
    let stop = Arc::new(AtomicBool::new(false));
    let addresses: Vec<SocketAddr> = cluster.replicas.iter().map(|replica| replica.listen).collect();
    let stranger = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let words = noise(64);
            let mut thrown = 0;
            while thrown == 0 || !stop.load(Ordering::Relaxed) {
                addresses.iter().for_each(|address| throw(*address, &words));
                thrown += 1;
            }
            thrown
        }
    });
    // Nothing is sent twice: whoever is refused must take nobody else's bytes with it.
    cluster.expect_load_with("client-0", &["--duration", "2s", "--retransmit-after", "1m", "--retransmit-max", "1m"]);
    stop.store(true, Ordering::Relaxed);
    let thrown: u64 = stranger.join().unwrap();
    for replica in &cluster.replicas {
        expect_refused(replica, "bad_magic", thrown);
        let status = replica.status();
        assert_eq!(status["ignored"].get("bad_checksum"), None, "{status}");
        wait_for("the peers alone", || (numbers(&replica.status()["connected"]).len() == 3).then_some(()));
    }
    cluster.expect_agreement();
}

/// Whoever reads a replica's log may stop at any time, and a disk may be full.
#[test]
fn replica_that_can_not_log_goes_on() {
    let mut cluster = Cluster::start(&[], &[], |file| file);
    for replica in &cluster.replicas {
        replica.stderr.hang_up();
        for times in 1..=4 {
            // Each of these is worth a line.
            throw(replica.listen, &frame(FrameKind::Hello, &noise(80), |_| ()));
            expect_refused(replica, "malformed_handshake", times);
        }
    }
    cluster.expect_load("client-0");
    cluster.expect_agreement();
}

#[test]
fn other_settings_are_refused_by_name() {
    let mut cluster = Cluster::start(&[], &[], |file| {
        assert!(file.contains("window = 256"), "{file}");
        file.replace("window = 256", "window = 512")
    });
    let differs = "cluster settings differ: ";
    for (id, replica) in cluster.replicas.iter().enumerate() {
        let stderr = wait_for("a refusal for the other setting", || {
            let text = replica.stderr.text();
            text.contains(differs).then_some(text)
        });
        assert!(
            stderr.contains("window") && stderr.contains("256") && stderr.contains("512"),
            "replica {id}: {stderr}"
        );
    }
    expect_refused(&cluster.replicas[0], "settings_differ", 1);
    // The three that agree are a quorum: a load that agrees with them is served, one that agrees with the fourth alone
    // is told why not.
    cluster.expect_load("client-0");
    let (code, _, stderr) = outcome(&cluster.load("client-1", "cluster-3", &["--duration", "1s"]));
    assert_eq!(code, Some(3), "{stderr}");
    for part in [differs, "window", "256", "512"] {
        assert!(stderr.contains(part), "'{stderr}' lacks '{part}'");
    }
    assert_eq!(cluster.replicas[3].status()["executed_sequence"], 0);
    for replica in &mut cluster.replicas {
        assert_eq!(replica.status()["diverged"], serde_json::Value::Null);
    }
}
