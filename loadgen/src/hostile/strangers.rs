//! The kinds that talk nonsense, or stop in the middle of a word.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use hippodrome_engine::types::{NodeId, ReplicaId};
use hippodrome_engine::wire::frame::encode_frame;
use hippodrome_engine::wire::{FrameKind, Handshake};
use rand::rngs::SmallRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

use super::session::{connect, shake_hands};
use super::{Ground, Hostile, Tally};

/// Half-open connections over all replicas: hundreds, and few enough for a process's usual limit of 1,024 descriptors.
const HALF_OPEN: usize = 800;
/// Of those, how many are made in a tick.
const OPENED_A_TICK: usize = 16;
/// Most bytes of one piece of garbage.
const GARBAGE_BYTES_MAX: usize = 4096;

/// Random bytes, and frames around random bodies. Each tick makes a connection, says something and leaves it to the
/// replica to hang up; at most one connection to each replica is waited for.
pub(super) struct Garbage {
    ground: Ground,
    streams: Vec<Option<TcpStream>>,
    next: usize,
    random: SmallRng,
}

impl Garbage {
    pub(super) fn new(ground: Ground) -> Self {
        let random = SmallRng::seed_from_u64(ground.seed);
        Self { streams: ground.replicas.iter().map(|_| None).collect(), ground, next: 0, random }
    }

    fn bytes(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; self.random.random_range(1..=GARBAGE_BYTES_MAX)];
        self.random.fill_bytes(&mut bytes);
        bytes
    }

    /// A frame whose header is in order but for its sender, now and then.
    fn frame(&mut self) -> Vec<u8> {
        let kind = FrameKind::ALL[self.random.random_range(0..FrameKind::ALL.len())];
        let own = self.ground.keyring.own();
        let sender = if self.random.random_ratio(1, 4) { NodeId(self.random.random_range(0..=own.0)) } else { own };
        let body = self.bytes();
        encode_frame(kind, sender, body.len(), |out| out.extend_from_slice(&body)).to_vec()
    }

    fn speak(&mut self, to: usize, tally: &mut Tally) -> std::io::Result<TcpStream> {
        let address = self.ground.replicas[to];
        let proven = self.random.random_ratio(2, 3);
        let mut stream = if proven {
            let replica = ReplicaId(u16::try_from(to).unwrap_or_default());
            shake_hands(&self.ground.keyring, replica, address)?
        } else {
            let stream = connect(address)?;
            stream.set_nonblocking(true)?;
            stream
        };
        tally.connections += 1;
        for _ in 0..self.random.random_range(1..=4) {
            let bytes = if self.random.random_ratio(3, 4) { self.frame() } else { self.bytes() };
            // Whoever is hung up on in between has been heard.
            if let Ok(count) = stream.write(&bytes) {
                tally.frames += 1;
                tally.bytes += count as u64;
            }
        }
        Ok(stream)
    }
}

impl Hostile for Garbage {
    fn act(&mut self, _now: Instant, tally: &mut Tally) {
        self.next = (self.next + 1) % self.streams.len().max(1);
        let to = self.next;
        match self.streams[to].take() {
            // It may still be thought about; or it is hung up on in turn.
            Some(stream) if is_open(&stream) && self.random.random_ratio(1, 2) => self.streams[to] = Some(stream),
            gone => {
                tally.closed += u64::from(gone.is_some());
                self.streams[to] = self.speak(to, tally).ok();
            }
        }
    }
}

/// Connections that begin something and never go on.
pub(super) struct HalfOpen {
    ground: Ground,
    streams: Vec<Option<TcpStream>>,
    next: usize,
    random: SmallRng,
}

impl HalfOpen {
    pub(super) fn new(ground: Ground) -> Self {
        let random = SmallRng::seed_from_u64(ground.seed);
        Self { ground, streams: (0..HALF_OPEN).map(|_| None).collect(), next: 0, random }
    }

    /// Says nothing, a part of an introduction, all of one, or a part of a frame after a whole handshake.
    fn begin(&mut self, slot: usize, tally: &mut Tally) -> std::io::Result<TcpStream> {
        let to = slot % self.ground.replicas.len();
        let (replica, address) = (ReplicaId(u16::try_from(to).unwrap_or_default()), self.ground.replicas[to]);
        let keyring = &self.ground.keyring;
        let half = |bytes: &[u8], random: &mut SmallRng| bytes[..random.random_range(0..bytes.len())].to_vec();
        // Few have proven themselves: a node's connections are numbered, and a new one takes the place of an old one.
        let (mut stream, words) = if slot.is_multiple_of(64) {
            let words = encode_frame(FrameKind::Requests, keyring.own(), 64, |out| out.extend_from_slice(&[7; 64]));
            (shake_hands(keyring, replica, address)?, half(&words, &mut self.random))
        } else {
            let (_, hello) = Handshake::initiate(keyring.clone(), NodeId::of(replica), 0, 1, rand::random());
            let whole = self.random.random_ratio(1, 4);
            (connect(address)?, if whole { hello.to_vec() } else { half(&hello, &mut self.random) })
        };
        stream.write_all(&words)?;
        stream.set_nonblocking(true)?;
        tally.connections += 1;
        tally.frames += 1;
        tally.bytes += words.len() as u64;
        Ok(stream)
    }
}

impl Hostile for HalfOpen {
    fn act(&mut self, _now: Instant, tally: &mut Tally) {
        for _ in 0..OPENED_A_TICK {
            self.next = (self.next + 1) % self.streams.len();
            let slot = self.next;
            match self.streams[slot].take() {
                Some(stream) if is_open(&stream) => self.streams[slot] = Some(stream),
                gone => {
                    tally.closed += u64::from(gone.is_some());
                    self.streams[slot] = self.begin(slot, tally).ok();
                }
            }
        }
    }
}

/// Whether the replica has not hung up. What it said is forgotten.
fn is_open(mut stream: &TcpStream) -> bool {
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}
