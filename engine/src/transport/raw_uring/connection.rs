//! One connection of the ring.

use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, TcpStream};

use bytes::Bytes;

use super::operations::Key;
use super::ring::{Sending, Target};
use crate::transport::outbound::{self, Outbound};

/// A connection. Its place in the table is kept until no operation of it is under way, however it ends.
pub(super) struct Connection {
    /// Open for as long as this is here, so that its descriptor is nobody else's.
    pub(super) stream: TcpStream,
    pub(super) target: Target,
    pub(super) phase: Phase,
    /// What is under way.
    pub(super) connecting: Option<Key>,
    pub(super) receiving: Option<Key>,
    pub(super) sending: Option<Key>,
    outbound: Outbound,
    /// Bytes handed to the ring that the kernel has not taken yet.
    in_flight: usize,
    /// Whether something is queued that did not leave in the turn in which it was to.
    pub(super) is_late: bool,
    /// Where what is sent next is put together, while nothing is being sent.
    spare: Option<Box<Sending>>,
    /// Whether it is among those that have something to send.
    pub(super) in_to_write: bool,
    /// Whether its owner wants nothing from it for now.
    pub(super) paused: bool,
    /// What came after that, before the receive could be ended: the ring's buffers at most.
    pub(super) stash: VecDeque<Bytes>,
    /// How the peer's bytes ended, once they did.
    pub(super) end: Option<Option<io::Error>>,
    /// Writing failed. What the peer sent before is still read.
    pub(super) broken: Option<io::Error>,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The TCP handshake is not over.
    Connecting,
    /// It stands.
    Open,
    /// Over for its owner; some operation has not completed yet.
    Closing,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, target: Target, phase: Phase) -> Self {
        Self {
            stream,
            target,
            phase,
            connecting: None,
            receiving: None,
            sending: None,
            outbound: Outbound::default(),
            in_flight: 0,
            is_late: false,
            spare: None,
            in_to_write: false,
            paused: false,
            stash: VecDeque::new(),
            end: None,
            broken: None,
        }
    }

    /// Queues bytes, and says whether it must be put among those that have something to send, which is noted.
    pub(super) fn push(&mut self, bytes: Bytes) -> bool {
        if bytes.is_empty() || self.broken.is_some() {
            return false;
        }
        self.outbound.push(bytes);
        self.queue_to_write()
    }

    /// Whether it must be put among those that have something to send, which is noted.
    pub(super) fn queue_to_write(&mut self) -> bool {
        let due = self.phase == Phase::Open && self.sending.is_none() && self.queued() > 0 && !self.in_to_write;
        self.in_to_write |= due;
        due
    }

    /// Bytes that the kernel has not taken yet.
    pub(super) fn queued(&self) -> usize {
        self.outbound.bytes() + self.in_flight
    }

    /// What is to be sent next, if anything is and nothing is being sent.
    pub(super) fn next_sending(&mut self) -> Option<Box<Sending>> {
        if self.phase != Phase::Open || self.sending.is_some() || self.queued() == 0 {
            return None;
        }
        let mut sending = self.spare.take().unwrap_or_else(Sending::new);
        // What is left of a short send leaves first.
        if sending.pieces.is_empty() {
            self.in_flight += self.outbound.take(&mut sending.pieces);
        }
        Some(sending)
    }

    /// Notes whether more is queued than is being sent, and says whether what is being sent, or more, is late.
    pub(super) fn note_late(&mut self) -> bool {
        self.is_late |= self.outbound.bytes() > 0;
        self.is_late
    }

    /// Whether the kernel had no room for all of what was sent last.
    pub(super) fn was_short(&self) -> bool {
        self.spare.as_ref().is_some_and(|sending| !sending.pieces.is_empty())
    }

    /// Notes what the kernel took of what was being sent.
    pub(super) fn sent(&mut self, mut sending: Box<Sending>, bytes: usize) {
        outbound::skip(&mut sending.pieces, bytes);
        self.in_flight -= bytes;
        self.is_late = (self.is_late || !sending.pieces.is_empty()) && self.queued() > 0;
        self.spare = Some(sending);
    }

    /// Nothing can be written any more: forgets what is queued, and makes the peer's bytes come to an end.
    pub(super) fn break_off(&mut self, error: io::Error) {
        self.forget_queued();
        self.broken = Some(error);
        self.shut_down();
    }

    pub(super) fn forget_queued(&mut self) {
        self.outbound.clear();
        self.in_flight = 0;
        self.is_late = false;
        self.spare = None;
    }

    /// Makes its operations complete, and the peer see the end. Fails if the peer is gone, and then they do.
    pub(super) fn shut_down(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Whether anything of it is under way.
    pub(super) const fn is_idle(&self) -> bool {
        self.connecting.is_none() && self.receiving.is_none() && self.sending.is_none()
    }

    /// Whether a receive is to be begun.
    pub(super) const fn wants_receive(&self) -> bool {
        matches!(self.phase, Phase::Open) && !self.paused && self.receiving.is_none() && self.end.is_none()
    }
}
