//! The buffers that the kernel receives into: it takes them out of a ring in shared memory in the order in which they
//! were provided, and tells with each completion which it filled.
//!
//! A buffer is always in one place: with the kernel, or lent out as a [`Bytes`], whose last clone puts it into a queue
//! from which it is provided again. So nothing received is copied, unless it is little, or so much is lent that the
//! kernel would run short: then it is copied out and the buffer provided at once. The kernel so never waits for whoever
//! holds what was received before, and what a ring keeps in memory is fixed.
#![allow(unsafe_code, reason = "memory shared with the kernel")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::VecDeque;
use std::io;
use std::mem;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use bytes::Bytes;
use crossbeam::queue::ArrayQueue;
use io_uring::types::BufRingEntry;

use crate::limits::RING_BUFFER_BYTES;
use crate::transport::inbound::COPY_BELOW_BYTES;

const PAGE_BYTES: usize = 4096;

/// The ring's memory and its buffers, as this side sees them.
pub(super) struct Buffers {
    /// What the kernel reads which buffers it may fill from. `BufRingEntry` by `BufRingEntry`.
    entries: Pages,
    arena: Arc<Arena>,
    count: u16,
    /// How many were provided so far, modulo 2^16: what the kernel is told.
    tail: u16,
    /// Those that the kernel has, in the order in which it takes them.
    provided: VecDeque<u16>,
    lent: u16,
    lent_max: u16,
}

/// The buffers' memory, and the numbers of those that nobody holds any more.
struct Arena {
    memory: Pages,
    returned: ArrayQueue<u16>,
}

/// The first bytes of a buffer, as long as somebody holds them.
struct Lent {
    arena: Arc<Arena>,
    buffer: u16,
    len: usize,
}

impl Buffers {
    /// `count` buffers, a power of two, all of them provided. At most `lent_max` of them are lent out at a time.
    pub(super) fn new(count: u16, lent_max: u16) -> Self {
        assert!(count.is_power_of_two() && lent_max < count);
        let arena = Arena {
            memory: Pages::new(usize::from(count) * RING_BUFFER_BYTES),
            returned: ArrayQueue::new(count.into()),
        };
        let mut buffers = Self {
            entries: Pages::new(usize::from(count) * mem::size_of::<BufRingEntry>()),
            arena: Arc::new(arena),
            count,
            tail: 0,
            provided: VecDeque::with_capacity(count.into()),
            lent: 0,
            lent_max,
        };
        (0..count).for_each(|buffer| buffers.provide(buffer));
        buffers.publish();
        buffers
    }

    /// Where the kernel finds the ring, for its registration. The memory is there, and in its place, until this is
    /// dropped.
    pub(super) fn address(&self) -> u64 {
        self.entries.start.as_ptr() as u64
    }

    pub(super) const fn count(&self) -> u16 {
        self.count
    }

    /// Lets the kernel see what was provided.
    pub(super) fn publish(&mut self) {
        // SAFETY: the first entry is there and initialised (zeroed at first). The tail, a field that no entry uses, is
        // aligned, lives as long as `entries`, and is accessed by atomic operations alone, here and by the kernel.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.start.as_ptr().cast()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// Provides the buffers again that are not held any more.
    pub(super) fn take_back(&mut self) {
        let before = self.tail;
        while let Some(buffer) = self.arena.returned.pop() {
            self.lent -= 1;
            self.provide(buffer);
        }
        if self.tail != before {
            self.publish();
        }
    }

    /// Hands what a completion brought to `each`, buffer by buffer: `bytes` of them (more than 0), of which the first
    /// are in `buffer` and the others in those that were provided behind it. Whatever was copied out is provided again;
    /// the kernel sees that once it is [published](Self::publish).
    ///
    /// # Errors
    /// If the kernel has no such buffers.
    pub(super) fn take(&mut self, buffer: u16, bytes: usize, mut each: impl FnMut(Bytes)) -> io::Result<()> {
        let unknown = || io::Error::other("io_uring filled a buffer that it did not have");
        // It is the first one, unless a completion was overtaken.
        let at = self.provided.iter().position(|provided| *provided == buffer).ok_or_else(unknown)?;
        if self.provided.len() - at < bytes.div_ceil(RING_BUFFER_BYTES) {
            return Err(unknown());
        }
        let mut left = bytes;
        while left > 0 {
            let buffer = self.provided.remove(at).ok_or_else(unknown)?;
            let len = left.min(RING_BUFFER_BYTES);
            each(self.hand_out(buffer, len));
            left -= len;
        }
        Ok(())
    }

    fn hand_out(&mut self, buffer: u16, len: usize) -> Bytes {
        if len < COPY_BELOW_BYTES || self.lent == self.lent_max {
            // SAFETY: the buffer was taken out of those that the kernel has, and is provided only afterwards.
            let bytes = Bytes::copy_from_slice(unsafe { self.arena.filled(buffer, len) });
            self.provide(buffer);
            return bytes;
        }
        self.lent += 1;
        Bytes::from_owner(Lent { arena: Arc::clone(&self.arena), buffer, len })
    }

    /// Puts a buffer that neither the kernel nor anybody else has into the ring.
    fn provide(&mut self, buffer: u16) {
        let index = usize::from(self.tail & (self.count - 1));
        let address = self.arena.start_of(buffer);
        // SAFETY: `index` is below the number of entries; the entry is initialised (zeroed at first), and the kernel
        // does not look at it before the tail has passed it: at most `count` buffers are provided at a time, so that
        // those before it in this place were taken. No reference covers the tail, which shares memory with the first
        // entry but no field that is set here.
        unsafe {
            let entry = &mut *self.entries.start.as_ptr().cast::<BufRingEntry>().add(index);
            entry.set_addr(address.as_ptr() as u64);
            #[allow(clippy::cast_possible_truncation, reason = "a small constant")]
            entry.set_len(RING_BUFFER_BYTES as u32);
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
        self.provided.push_back(buffer);
    }

    /// Never frees the memory: the kernel may still write to it.
    pub(super) fn leak(&mut self) {
        mem::forget(Arc::clone(&self.arena));
        mem::forget(mem::replace(&mut self.entries, Pages::new(PAGE_BYTES)));
    }

    #[cfg(test)]
    pub(super) const fn lent(&self) -> u16 {
        self.lent
    }
}

impl Arena {
    fn start_of(&self, buffer: u16) -> NonNull<u8> {
        let offset = usize::from(buffer) * RING_BUFFER_BYTES;
        assert!(offset < self.memory.layout.size());
        // SAFETY: it is inside of the allocation.
        unsafe { self.memory.start.add(offset) }
    }

    /// The first bytes of a buffer.
    ///
    /// # Safety
    /// Nobody, the kernel neither, may write to the buffer meanwhile.
    unsafe fn filled(&self, buffer: u16, len: usize) -> &[u8] {
        assert!(len <= RING_BUFFER_BYTES);
        // SAFETY: the memory is initialised (zeroed at first, then written by the kernel) and lives as long as `self`.
        // That nobody writes to it is promised by the caller.
        unsafe { slice::from_raw_parts(self.start_of(buffer).as_ptr(), len) }
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: a buffer that is lent is not provided to the kernel before this is dropped.
        unsafe { self.arena.filled(self.buffer, self.len) }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // There is room for every buffer.
        let _ = self.arena.returned.push(self.buffer);
    }
}

/// Zeroed memory that begins at a page.
struct Pages {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it is plain memory; who uses it from several threads keeps to parts of it (see `Lent`).
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    fn new(bytes: usize) -> Self {
        let Ok(layout) = Layout::from_size_align(bytes, PAGE_BYTES) else { unreachable!("bounded sizes") };
        assert!(bytes > 0);
        // SAFETY: the layout is not empty.
        let Some(start) = NonNull::new(unsafe { alloc_zeroed(layout) }) else { handle_alloc_error(layout) };
        Self { start, layout }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fills the next buffers as the kernel does, and gives the number of the first.
    fn fill(buffers: &Buffers, bytes: &[u8]) -> u16 {
        for (chunk, buffer) in bytes.chunks(RING_BUFFER_BYTES).zip(&buffers.provided) {
            // SAFETY: the buffer is provided, so nobody reads it.
            let memory =
                unsafe { slice::from_raw_parts_mut(buffers.arena.start_of(*buffer).as_ptr(), RING_BUFFER_BYTES) };
            memory[..chunk.len()].copy_from_slice(chunk);
        }
        buffers.provided[0]
    }

    fn receive(buffers: &mut Buffers, bytes: &[u8]) -> Vec<Bytes> {
        let first = fill(buffers, bytes);
        let mut received = Vec::new();
        buffers.take(first, bytes.len(), |piece| received.push(piece)).unwrap();
        assert_eq!(received.concat(), bytes);
        received
    }

    #[test]
    fn what_is_held_stays_as_it_is_and_comes_back_when_it_is_not() {
        let mut buffers = Buffers::new(4, 2);
        let many: Vec<u8> = (0..RING_BUFFER_BYTES + 5000).map(|i| (i % 251) as u8).collect();
        let held = receive(&mut buffers, &many);
        assert_eq!((held.len(), buffers.lent(), buffers.provided.len()), (2, 2, 2));
        let part = held[1].slice(10..20);
        for round in 0..20 {
            let copied = receive(&mut buffers, &[round; RING_BUFFER_BYTES]);
            assert_eq!((copied.len(), buffers.lent(), buffers.provided.len()), (1, 2, 2), "too much is lent");
        }
        assert_eq!(held.concat(), many);

        drop(held);
        buffers.take_back();
        assert_eq!((buffers.lent(), buffers.provided.len()), (1, 3), "a part of the other is held");
        // On another thread.
        std::thread::spawn(move || assert_eq!(part.len(), 10)).join().unwrap();
        buffers.take_back();
        assert_eq!((buffers.lent(), buffers.provided.len()), (0, 4));
    }

    #[test]
    fn little_is_copied_and_its_buffer_provided_at_once() {
        let mut buffers = Buffers::new(4, 2);
        let order = buffers.provided.clone();
        let little = receive(&mut buffers, &[7; COPY_BELOW_BYTES - 1]);
        assert_eq!((buffers.lent(), buffers.provided.len()), (0, 4));
        assert_eq!((little.len(), buffers.tail), (1, 5));
        assert_eq!(buffers.provided, [order[1], order[2], order[3], order[0]]);
    }

    #[test]
    fn a_completion_may_be_overtaken() {
        let mut buffers = Buffers::new(4, 3);
        let order = buffers.provided.clone();
        // The later one is told first.
        buffers.take(order[1], 2 * RING_BUFFER_BYTES, drop).unwrap();
        assert_eq!(buffers.provided, [order[0], order[3]]);
        buffers.take(order[0], RING_BUFFER_BYTES, drop).unwrap();
        assert_eq!(buffers.provided, [order[3]]);
        buffers.take_back();
        assert_eq!(buffers.provided.len(), 4);
    }

    #[test]
    fn buffers_that_the_kernel_does_not_have_are_refused() {
        let mut buffers = Buffers::new(4, 3);
        let held = receive(&mut buffers, &[1; COPY_BELOW_BYTES]);
        assert!(buffers.take(0, 10, drop).is_err(), "it is held");
        assert!(buffers.take(4, 10, drop).is_err(), "there is none");
        assert!(buffers.take(1, 4 * RING_BUFFER_BYTES, drop).is_err(), "there are not so many");
        drop(held);
    }

    #[test]
    fn what_is_held_outlives_the_buffers() {
        let mut buffers = Buffers::new(4, 3);
        let held = receive(&mut buffers, &[9; 2 * RING_BUFFER_BYTES]);
        drop(buffers);
        assert!(held.concat().iter().all(|byte| *byte == 9));
    }
}
