//! A link between two stages: a bounded ring, what waits in front of it, and the bell of the thread behind it.

use std::collections::VecDeque;

use crate::ring::doorbell::Doorbell;
use crate::ring::{Consumer, Producer};

/// The sending end. Owned by one stage.
#[derive(Debug)]
pub struct Sender<T> {
    ring: Producer<T>,
    /// What waits in front of the ring, with its bytes.
    held: VecDeque<(T, usize)>,
    /// The bytes of each item that may still be in the ring, if they are counted, and their sum.
    weights: VecDeque<usize>,
    bytes: usize,
    bytes_max: usize,
    across: bool,
    bell: Doorbell,
}

impl<T> Sender<T> {
    /// Sends over `ring`, waking the receiving thread by `bell`.
    #[must_use]
    pub const fn new(ring: Producer<T>, bell: Doorbell) -> Self {
        Self {
            ring,
            held: VecDeque::new(),
            weights: VecDeque::new(),
            bytes: 0,
            bytes_max: usize::MAX,
            across: false,
            bell,
        }
    }

    /// The same, but full also while more than `bytes_max` are in the ring: for items of which one can be small and the
    /// next a million times larger. What is sent over it is [weighed](Self::send_weighed).
    #[must_use]
    pub fn bounded(self, bytes_max: usize) -> Self {
        Self { bytes_max, ..self }
    }

    /// The same, to a stage of another thread if it is `across` threads.
    #[must_use]
    pub fn across_threads(self, across: bool) -> Self {
        Self { across, ..self }
    }

    /// Whether another thread receives, which can begin with what is sent while this one goes on: then it pays to send
    /// each piece of work once it is done. On one thread it pays to do more of the same first.
    #[must_use]
    pub const fn is_across_threads(&self) -> bool {
        self.across
    }

    /// How many items wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.ring.len() + self.held.len()
    }

    /// Sends an item, or holds it back while the ring is full. A stage that holds something back takes no further input
    /// until [`flush`](Self::flush) succeeds, so what is held is bounded by what one step produces.
    pub fn send(&mut self, item: T) {
        self.send_weighed(item, 0);
    }

    /// Sends an item that keeps so many bytes in memory.
    pub fn send_weighed(&mut self, item: T, bytes: usize) {
        if !self.held.is_empty() {
            self.held.push_back((item, bytes));
        } else if let Err(item) = self.push(item, bytes) {
            self.held.push_back((item, bytes));
            self.bell.ring();
        } else {
            self.bell.ring();
        }
    }

    /// Whether the ring takes one more item now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.held.is_empty() && self.ring.free() > 0
    }

    /// Sends what was held back; true if nothing is left.
    pub fn flush(&mut self) -> bool {
        if self.held.is_empty() {
            return true;
        }
        while let Some((item, bytes)) = self.held.pop_front() {
            if let Err(item) = self.push(item, bytes) {
                self.held.push_front((item, bytes));
                break;
            }
        }
        self.bell.ring();
        self.held.is_empty()
    }

    fn push(&mut self, item: T, bytes: usize) -> Result<(), T> {
        if self.bytes_max == usize::MAX {
            return self.ring.push(item);
        }
        let in_ring = self.ring.len();
        while self.weights.len() > in_ring {
            self.bytes -= self.weights.pop_front().unwrap_or_default();
        }
        if self.bytes > self.bytes_max {
            return Err(item);
        }
        self.ring.push(item)?;
        self.weights.push_back(bytes);
        self.bytes += bytes;
        Ok(())
    }

    /// Whether something is held back.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.held.is_empty()
    }
}

/// The receiving end. Owned by one stage.
#[derive(Debug)]
pub struct Receiver<T> {
    ring: Consumer<T>,
}

impl<T> Receiver<T> {
    /// Receives from `ring`.
    #[must_use]
    pub const fn new(ring: Consumer<T>) -> Self {
        Self { ring }
    }

    /// The next item.
    pub fn receive(&mut self) -> Option<T> {
        self.ring.pop()
    }

    /// How many items wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::ring::ring;

    #[test]
    fn few_large_items_fill_a_link_as_many_small_ones_do() {
        let (producer, consumer) = ring(8);
        let mut sender = Sender::new(producer, Doorbell::parker().0).bounded(100);
        let mut receiver = Receiver::new(consumer);
        for (item, bytes) in [(0, 60), (1, 60), (2, 1), (3, 500), (4, 1)] {
            sender.send_weighed(item, bytes);
        }
        assert_eq!(receiver.len(), 2, "what went over the bound is the last that went in");
        assert!(sender.is_held() && !sender.flush());
        assert_eq!(receiver.receive(), Some(0));
        assert!(!sender.flush(), "the largest of them all is let in, and nothing behind it");
        assert_eq!(receiver.len(), 3);
        assert_eq!(std::iter::from_fn(|| receiver.receive()).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(sender.flush());
        assert_eq!(receiver.receive(), Some(4));
        for item in 5..20 {
            sender.send_weighed(item, 0);
        }
        assert_eq!((receiver.len(), sender.is_held()), (8, true), "the ring's own bound holds as well");
    }
}
