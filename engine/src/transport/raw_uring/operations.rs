//! What is under way, found by the number that the kernel gives back, and what comes of it.

use std::io;
use std::net::TcpStream;

use bytes::Bytes;
use socket2::SockAddr;

use super::ring::Sending;
use crate::transport::ConnectionId;

/// Whose an operation is, and the memory that the kernel uses for it.
pub(super) enum Operation {
    /// Waits for wakers.
    Watch,
    /// Accepts connections from this listener.
    Accept(usize),
    /// Connects to the address, which the kernel reads at some time.
    Connect(ConnectionId, #[allow(dead_code, reason = "it is there for the kernel")] Box<SockAddr>),
    /// Receives.
    Receive(ConnectionId),
    /// Sends.
    Send {
        connection: ConnectionId,
        sending: Box<Sending>,
        /// Whether it is over with the call that hands it over, and tells of its failure alone.
        at_once: bool,
    },
}

/// What an operation came to, now or for good.
pub(super) struct Completion {
    /// Whether the operation is over: no further completion of it follows.
    pub(super) last: bool,
    pub(super) outcome: Outcome,
}

/// See [`Completion`].
pub(super) enum Outcome {
    /// Some waker was called.
    Woken,
    /// Somebody connected to this listener.
    Accepted(usize, io::Result<TcpStream>),
    Connected(ConnectionId, io::Result<()>),
    /// Bytes, or none at the end.
    Received(ConnectionId, io::Result<Bytes>),
    Sent {
        connection: ConnectionId,
        /// How many bytes the kernel took.
        result: io::Result<usize>,
        sending: Box<Sending>,
        /// Whether it was not to wait for room.
        at_once: bool,
    },
    /// What was to be cancelled was over already, or could not be found just then.
    NotCancelled(Key),
}

impl Operation {
    /// One more like this, of those that have several completions.
    pub(super) const fn shared(&self) -> Option<Self> {
        match self {
            Self::Watch => Some(Self::Watch),
            Self::Accept(listener) => Some(Self::Accept(*listener)),
            Self::Receive(connection) => Some(Self::Receive(*connection)),
            Self::Connect(..) | Self::Send { .. } => None,
        }
    }
}

/// Where an operation is found. Used again once the operation is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(pub(super) u32);

/// Operations by [`Key`].
pub(super) struct Operations {
    slots: Vec<Option<Operation>>,
    free: Vec<u32>,
}

impl Operations {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.slots.len() == self.free.len()
    }

    pub(super) fn insert(&mut self, operation: Operation) -> Key {
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(operation);
            return Key(slot);
        }
        // Each connection has three at most.
        #[allow(clippy::cast_possible_truncation, reason = "there are fewer file descriptors than that")]
        let key = Key(self.slots.len() as u32);
        self.slots.push(Some(operation));
        key
    }

    pub(super) fn get(&self, key: Key) -> Option<&Operation> {
        self.slots.get(key.0 as usize)?.as_ref()
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Operation> {
        let operation = self.slots.get_mut(key.0 as usize)?.take()?;
        self.free.push(key.0);
        Some(operation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_used_again_only_when_they_are_free() {
        let mut operations = Operations::new();
        let keys: Vec<Key> = (0..3).map(|listener| operations.insert(Operation::Accept(listener))).collect();
        assert!(matches!(operations.remove(keys[1]), Some(Operation::Accept(1))));
        assert!(operations.remove(keys[1]).is_none() && operations.get(keys[1]).is_none());
        assert_eq!(operations.insert(Operation::Watch), keys[1]);
        assert!(matches!(operations.get(keys[2]), Some(Operation::Accept(2))));
        assert!(operations.get(Key(3)).is_none());
        for key in keys {
            assert!(!operations.is_empty());
            operations.remove(key).unwrap();
        }
        assert!(operations.is_empty());
    }
}
