//! A connection to one replica that has proven which node it belongs to, made again whenever it is lost.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hippodrome_engine::auth::Keyring;
use hippodrome_engine::limits::HELLO_BODY_BYTES_MAX;
use hippodrome_engine::types::{NodeId, ReplicaId};
use hippodrome_engine::wire::{FrameReader, Handshake};

use super::Tally;

/// Longest that connecting, and each part of a handshake, may take.
const PATIENCE: Duration = Duration::from_millis(500);
/// Pause before a lost connection is made again.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Most bytes that wait to be taken by a replica; what comes then is forgotten.
const PENDING_MAX: usize = 1 << 20;
/// Most bytes read at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// A connection to a replica, with what it has not taken yet.
pub(super) struct Session {
    keyring: Arc<Keyring>,
    replica: ReplicaId,
    address: SocketAddr,
    stream: Option<TcpStream>,
    pending: Vec<u8>,
    retry_at: Option<Instant>,
}

impl Session {
    /// Not connected yet.
    pub(super) const fn new(keyring: Arc<Keyring>, replica: ReplicaId, address: SocketAddr) -> Self {
        Self { keyring, replica, address, stream: None, pending: Vec::new(), retry_at: None }
    }

    /// Connects where that is due.
    pub(super) fn connect(&mut self, now: Instant, tally: &mut Tally) {
        if self.stream.is_some() || self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.retry_at = Some(now + RETRY_AFTER);
        self.pending.clear();
        if let Ok(stream) = shake_hands(&self.keyring, self.replica, self.address) {
            tally.connections += 1;
            self.stream = Some(stream);
        }
    }

    /// Sends as much as the replica takes; the rest waits.
    pub(super) fn send(&mut self, frame: &[u8], tally: &mut Tally) {
        if self.stream.is_none() || self.pending.len() + frame.len() > PENDING_MAX {
            return;
        }
        tally.frames += 1;
        self.pending.extend_from_slice(frame);
        self.flush(tally);
    }

    /// Sends what waits.
    pub(super) fn flush(&mut self, tally: &mut Tally) {
        let Some(stream) = &mut self.stream else { return };
        while !self.pending.is_empty() {
            match stream.write(&self.pending) {
                Ok(count) if count > 0 => {
                    tally.bytes += count as u64;
                    self.pending.drain(..count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return self.lose(tally),
            }
        }
    }

    /// Reads what came and forgets it.
    pub(super) fn drain(&mut self, tally: &mut Tally) {
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            let Some(stream) = &mut self.stream else { return };
            match stream.read(&mut chunk) {
                Ok(count) if count > 0 => tally.bytes_read += count as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return self.lose(tally),
            }
        }
    }

    fn lose(&mut self, tally: &mut Tally) {
        tally.closed += 1;
        self.stream = None;
        self.pending.clear();
    }
}

/// Connects and proves who it is. What it returns does not block.
pub(super) fn shake_hands(
    keyring: &Arc<Keyring>,
    replica: ReplicaId,
    address: SocketAddr,
) -> std::io::Result<TcpStream> {
    let refused = |why: &str| std::io::Error::new(ErrorKind::ConnectionRefused, why.to_owned());
    let mut stream = connect(address)?;
    let (mut handshake, hello) = Handshake::initiate(Arc::clone(keyring), NodeId::of(replica), 0, 1, rand::random());
    stream.write_all(&hello)?;
    let mut frames = FrameReader::new(HELLO_BODY_BYTES_MAX);
    let mut chunk = [0; 4096];
    loop {
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Err(refused("hung up"));
        }
        frames.push(Bytes::copy_from_slice(&chunk[..count]));
        while let Some(frame) = frames.next_frame().map_err(|error| refused(error.name()))? {
            let step = handshake.on_frame(&frame).map_err(|error| refused(error.name()))?;
            if let Some(reply) = step.reply {
                stream.write_all(&reply)?;
            }
            if step.established.is_some() {
                stream.set_nonblocking(true)?;
                return Ok(stream);
            }
        }
    }
}

/// Connects without a word.
pub(super) fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
