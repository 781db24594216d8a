//! Bounded lock-free rings that join two stages on different threads, one producer and one consumer each.
//!
//! In the order of use: [ring] makes the two handles; a [`doorbell`] lets the producer wake a consumer that sleeps;
//! [`wait`] is what a thread without sockets does while its rings are empty. What travels should be batches: one push
//! costs a cache line's way to another core.
//!
//! The ring is Lamport's, with the habits of s2n-quic's `sync::spsc`: each handle has one owner and can not be cloned,
//! keeps a copy of its peer's cursor so that the common push and pop touch no line that the peer writes, and the
//! cursors lie on lines of their own.
#![allow(unsafe_code, reason = "slots are shared between two threads without a lock")]

use std::fmt;
use std::mem::MaybeUninit;

use crossbeam::utils::CachePadded;

pub mod doorbell;
mod sync;
pub mod wait;

use sync::{Arc, AtomicBool, AtomicUsize, Ordering, UnsafeCell};

/// Makes a ring of at least `capacity` items (rounded up to a power of two, at least 1).
///
/// # Panics
/// If the capacity rounded up does not fit in half a `usize`.
#[must_use]
pub fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let capacity = capacity.max(1).checked_next_power_of_two().expect("a ring's capacity fits in memory");
    // Cursors count up and wrap around, so that their difference must tell full from empty.
    assert!(capacity <= usize::MAX / 2, "a ring's capacity fits in memory");
    let shared = Arc::new(Shared {
        head: CachePadded::new(AtomicUsize::new(0)),
        tail: CachePadded::new(AtomicUsize::new(0)),
        producer_gone: AtomicBool::new(false),
        consumer_gone: AtomicBool::new(false),
        slots: (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
    });
    (Producer { shared: Arc::clone(&shared), tail: 0, head_seen: 0 }, Consumer { shared, head: 0, tail_seen: 0 })
}

/// The end of a ring that items go into. Has one owner.
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    /// The cursor that only this handle moves.
    tail: usize,
    /// The consumer's cursor when it was last looked at: it may have moved on since.
    head_seen: usize,
}

impl<T> Producer<T> {
    /// Appends an item.
    ///
    /// # Errors
    /// Gives the item back if the ring is full. A ring that is [abandoned](Self::is_abandoned) fills up and then
    /// refuses everything.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        let capacity = self.shared.slots.len();
        if self.tail.wrapping_sub(self.head_seen) == capacity {
            self.head_seen = self.shared.head.load(Ordering::Acquire);
            if self.tail.wrapping_sub(self.head_seen) == capacity {
                return Err(item);
            }
        }
        // SAFETY: the slot at `tail` is outside of [head, tail), so the consumer does not touch it before the store
        // below, and it saw the item that was there before out: `head` was loaded with Acquire, paired with the Release
        // store that follows the consumer's read.
        self.shared.slot(self.tail).with_mut(|slot| unsafe {
            (*slot).write(item);
        });
        self.tail = self.tail.wrapping_add(1);
        self.shared.tail.store(self.tail, Ordering::Release);
        Ok(())
    }

    /// How many more items fit: at least so many pushes succeed.
    #[must_use]
    pub fn free(&self) -> usize {
        self.capacity() - self.len()
    }

    /// How many items are in the ring. The consumer may have taken some of them meanwhile.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tail.wrapping_sub(self.shared.head.load(Ordering::Acquire))
    }

    /// Whether the consumer has taken everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many items fit into the ring.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shared.slots.len()
    }

    /// Whether the consumer is gone, so that nobody will take what is pushed.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.shared.consumer_gone.load(Ordering::Acquire)
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        self.shared.producer_gone.store(true, Ordering::Release);
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("len", &self.len()).field("capacity", &self.capacity()).finish()
    }
}

/// The end of a ring that items come out of, in the order they went in. Has one owner.
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    /// The cursor that only this handle moves.
    head: usize,
    /// The producer's cursor when it was last looked at: it may have moved on since.
    tail_seen: usize,
}

impl<T> Consumer<T> {
    /// Takes the oldest item, if there is one.
    pub fn pop(&mut self) -> Option<T> {
        if self.head == self.tail_seen {
            self.tail_seen = self.shared.tail.load(Ordering::Acquire);
            if self.head == self.tail_seen {
                return None;
            }
        }
        // SAFETY: the slot at `head` is inside of [head, tail): the producer wrote it before its Release store of
        // `tail`, which was loaded with Acquire, and does not touch it again before the store below. The item is read
        // once, for `head` moves past it.
        let item = self.shared.slot(self.head).with_mut(|slot| unsafe { (*slot).assume_init_read() });
        self.head = self.head.wrapping_add(1);
        self.shared.head.store(self.head, Ordering::Release);
        Some(item)
    }

    /// How many items are in the ring: at least so many pops succeed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.tail.load(Ordering::Acquire).wrapping_sub(self.head)
    }

    /// Whether there is nothing to pop at the moment.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many items fit into the ring.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shared.slots.len()
    }

    /// Whether the producer is gone and everything was taken, so that nothing will come any more.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        // In this order: once the producer is seen to be gone, the tail that is loaded after it is final.
        self.shared.producer_gone.load(Ordering::Acquire) && self.is_empty()
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.shared.consumer_gone.store(true, Ordering::Release);
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("len", &self.len()).field("capacity", &self.capacity()).finish()
    }
}

/// What both handles reach. Items are in the slots [head, tail), both counted up without end and taken modulo the
/// number of slots.
struct Shared<T> {
    /// Where the next item comes out; written by the consumer.
    head: CachePadded<AtomicUsize>,
    /// Where the next item goes in; written by the producer.
    tail: CachePadded<AtomicUsize>,
    producer_gone: AtomicBool,
    consumer_gone: AtomicBool,
    /// A power of two of them.
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

impl<T> Shared<T> {
    fn slot(&self, cursor: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[cursor & (self.slots.len() - 1)]
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let (mut head, tail) = (self.head.load(Ordering::Relaxed), self.tail.load(Ordering::Relaxed));
        while head != tail {
            // SAFETY: both handles are gone (the reference count synchronises with them), so the slots [head, tail)
            // hold items that nobody else reads.
            self.slot(head).with_mut(|slot| unsafe { (*slot).assume_init_drop() });
            head = head.wrapping_add(1);
        }
    }
}

// SAFETY: the cursors hand each slot to exactly one side at a time (see `push` and `pop`), and each side has one owner;
// so items are only ever moved from thread to thread, for which `T: Send` suffices.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above; dropping the last handle drops the items that are left, on whichever thread that is.
unsafe impl<T: Send> Send for Shared<T> {}

#[cfg(all(test, not(loom)))]
mod tests;
