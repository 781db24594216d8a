//! A link between two stages: a bounded ring, what waits in front of it, and the bell of the thread behind it.

use std::collections::VecDeque;

use crate::ring::doorbell::Doorbell;
use crate::ring::{Consumer, Producer};

/// The sending end. Owned by one stage.
#[derive(Debug)]
pub struct Sender<T> {
    ring: Producer<T>,
    held: VecDeque<T>,
    bell: Doorbell,
}

impl<T> Sender<T> {
    /// Sends over `ring`, waking the receiving thread by `bell`.
    #[must_use]
    pub const fn new(ring: Producer<T>, bell: Doorbell) -> Self {
        Self { ring, held: VecDeque::new(), bell }
    }

    /// Sends an item, or holds it back while the ring is full. A stage that holds something back takes no further input
    /// until [`flush`](Self::flush) succeeds, so what is held is bounded by what one step produces.
    pub fn send(&mut self, item: T) {
        if !self.held.is_empty() {
            self.held.push_back(item);
        } else if let Err(item) = self.ring.push(item) {
            self.held.push_back(item);
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
        while let Some(item) = self.held.pop_front() {
            if let Err(item) = self.ring.push(item) {
                self.held.push_front(item);
                break;
            }
        }
        self.bell.ring();
        self.held.is_empty()
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
