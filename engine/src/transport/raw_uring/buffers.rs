//! The buffers that the kernel receives into: it takes them out of a ring in shared memory in the order in which they
//! were provided, and tells with each completion which it filled.
//!
//! A buffer is a chunk, or the end of one, as it is for reads by readiness: what was received is cut off and handed on
//! where it lies, the rest of the chunk is provided again while it is long enough, and a new chunk takes its place when
//! it is not. So whoever holds what was received keeps nobody from receiving, and copies are made of little alone. That
//! is done when the kernel is given its next turn, for by then others may have let go of the chunk.
//!
//! The kernel goes through all buffers in turn, and memory that was not used for long is slow memory. So there are few
//! of them at first, and more only once a turn found too few.
#![allow(unsafe_code, reason = "memory shared with the kernel")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::mem;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use io_uring::types::BufRingEntry;

use crate::limits::READ_CHUNK_BYTES;
use crate::transport::inbound;

/// A buffer has at least so many bytes. More than a read by readiness offers: most frames come alone and are shorter,
/// so that they end in the buffer in which they begin, and need not be put together by copies.
const OFFER_MIN_BYTES: usize = READ_CHUNK_BYTES / 4 * 3;
const PAGE_BYTES: usize = 4096;

/// The ring's memory and its buffers, as this side sees them.
pub(super) struct Buffers {
    /// What the kernel reads which buffers it may fill from. `BufRingEntry` by `BufRingEntry`.
    entries: Pages,
    /// How many fit in there: a power of two.
    most: u16,
    /// How many were provided so far, modulo 2^16: what the kernel is told.
    tail: u16,
    /// By their numbers.
    chunks: Vec<Chunk>,
    /// Those that are to be provided, again or for the first time.
    taken: Vec<u16>,
    /// Whether there are new ones among them.
    grown: bool,
}

struct Chunk {
    /// Empty, with room at the end.
    memory: BytesMut,
    /// Whether the room is the kernel's.
    is_provided: bool,
}

impl Buffers {
    /// `first` buffers, all of them provided, and room for `most`, a power of two.
    pub(super) fn new(first: u16, most: u16) -> Self {
        assert!(most.is_power_of_two() && 0 < first && first <= most);
        let mut buffers = Self {
            entries: Pages::new(usize::from(most) * mem::size_of::<BufRingEntry>()),
            most,
            tail: 0,
            chunks: Vec::with_capacity(most.into()),
            taken: Vec::with_capacity(most.into()),
            grown: false,
        };
        buffers.add(first);
        buffers.provide();
        buffers
    }

    /// Where the kernel finds the ring, for its registration. The memory is there, and in its place, until this is
    /// dropped.
    pub(super) fn address(&self) -> u64 {
        self.entries.start.as_ptr() as u64
    }

    /// The ring's length, for its registration.
    pub(super) const fn most(&self) -> u16 {
        self.most
    }

    /// Takes the first `bytes` of a buffer, as a completion says.
    ///
    /// # Errors
    /// If the kernel has no such buffer.
    pub(super) fn take(&mut self, buffer: u16, bytes: usize) -> io::Result<Bytes> {
        let chunk = self.chunks.get_mut(usize::from(buffer));
        let chunk = chunk.filter(|chunk| chunk.is_provided && bytes <= chunk.memory.capacity());
        let chunk = chunk.ok_or_else(|| io::Error::other("io_uring filled a buffer that it did not have"))?;
        chunk.is_provided = false;
        // SAFETY: the kernel had all of the room (see `write`), has written the first `bytes` of it, and has let go of
        // it.
        unsafe { chunk.memory.advance_mut(bytes) };
        self.taken.push(buffer);
        Ok(inbound::cut(&mut chunk.memory))
    }

    /// Provides again what was taken, and what was made since.
    pub(super) fn provide(&mut self) {
        if self.taken.is_empty() {
            return;
        }
        for at in 0..self.taken.len() {
            self.write(self.taken[at]);
        }
        self.taken.clear();
        self.grown = false;
        // SAFETY: the first entry is there and initialised (zeroed at first). The tail, a field that no entry uses, is
        // aligned, lives as long as `entries`, and is accessed by atomic operations alone, here and by the kernel.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.start.as_ptr().cast()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// Makes twice as many buffers, if there is room for them: there were too few. Once a turn, however often it is
    /// asked for.
    pub(super) fn grow(&mut self) {
        if !mem::replace(&mut self.grown, true) {
            self.add(self.count().min(self.most - self.count()));
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "at most `most`")]
    pub(super) const fn count(&self) -> u16 {
        self.chunks.len() as u16
    }

    fn add(&mut self, count: u16) {
        let first = self.count();
        self.chunks.extend((0..count).map(|_| Chunk { memory: BytesMut::new(), is_provided: false }));
        self.taken.extend(first..self.count());
    }

    /// Puts a buffer that the kernel does not have into the ring.
    fn write(&mut self, buffer: u16) {
        let chunk = &mut self.chunks[usize::from(buffer)];
        assert!(!chunk.is_provided);
        inbound::make_room(&mut chunk.memory, OFFER_MIN_BYTES);
        chunk.is_provided = true;
        let room = chunk.memory.spare_capacity_mut();
        let index = usize::from(self.tail & (self.most - 1));
        // SAFETY: `index` is below the number of entries; the entry is initialised (zeroed at first), and the kernel
        // does not look at it before the tail has passed it: there are no more buffers than entries and each is in the
        // ring at most once, so that whatever was in this place before was taken. No reference covers the tail, which
        // shares memory with the first entry but no field that is set here.
        //
        // The room is the kernel's from here on: nothing touches the chunk before it is taken, and what was cut off
        // from it ends where the room begins.
        unsafe {
            let entry = &mut *self.entries.start.as_ptr().cast::<BufRingEntry>().add(index);
            entry.set_addr(room.as_mut_ptr() as u64);
            entry.set_len(u32::try_from(room.len()).unwrap_or(u32::MAX));
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Never frees the memory: the kernel may still write to it.
    pub(super) fn leak(&mut self) {
        mem::forget(mem::take(&mut self.chunks));
        mem::forget(mem::replace(&mut self.entries, Pages::new(PAGE_BYTES)));
    }
}

/// Zeroed memory that begins at a page.
struct Pages {
    start: NonNull<u8>,
    layout: Layout,
}

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
    use crate::transport::inbound::COPY_BELOW_BYTES;

    /// A buffer as the kernel finds it in place `index` of the ring.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Entry {
        address: u64,
        room: usize,
        buffer: u16,
    }

    fn entry(buffers: &Buffers, index: usize) -> Entry {
        assert!(index < usize::from(buffers.most));
        // SAFETY: the place is inside of the allocation, which is initialised.
        let entry = unsafe { &*buffers.entries.start.as_ptr().cast::<BufRingEntry>().add(index) };
        Entry { address: entry.addr(), room: entry.len() as usize, buffer: entry.bid() }
    }

    /// Receives as the kernel does, into a buffer that it has found.
    fn receive(buffers: &mut Buffers, entry: Entry, bytes: &[u8]) -> Bytes {
        assert!(bytes.len() <= entry.room);
        // SAFETY: the room was provided, so nobody else reads or writes it; the memory is allocated.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), entry.address as *mut u8, bytes.len()) };
        let received = buffers.take(entry.buffer, bytes.len()).unwrap();
        assert_eq!(received, bytes);
        received
    }

    fn pattern(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn much_is_handed_on_where_it_lies_and_never_written_over() {
        let mut buffers = Buffers::new(2, 2);
        let mut held = Vec::new();
        for round in 0..40_usize {
            let (next, bytes) = (entry(&buffers, round % 2), pattern(COPY_BELOW_BYTES + 997 * round));
            let received = receive(&mut buffers, next, &bytes);
            buffers.provide();
            assert_eq!(received.as_ptr() as u64, next.address, "a copy was made");
            held.push((received, bytes));
        }
        assert!(held.iter().all(|(received, bytes)| received == bytes));
        drop(buffers);
        // Also on another thread, after everything else is gone.
        std::thread::spawn(move || assert!(held.iter().all(|(received, bytes)| received == bytes))).join().unwrap();
    }

    #[test]
    fn little_is_copied_and_its_room_provided_again() {
        let mut buffers = Buffers::new(2, 2);
        let before = entry(&buffers, 0);
        let little = receive(&mut buffers, before, &pattern(COPY_BELOW_BYTES - 1));
        assert_ne!(little.as_ptr() as u64, before.address);
        buffers.provide();
        // It comes behind the other one, and so in the place that it left.
        assert_eq!((entry(&buffers, 0), buffers.tail), (before, 3));
    }

    #[test]
    fn every_buffer_has_room_for_a_frame() {
        let mut buffers = Buffers::new(1, 1);
        for bytes in [READ_CHUNK_BYTES / 4, 1, READ_CHUNK_BYTES / 2, 0, READ_CHUNK_BYTES / 4 + 1, OFFER_MIN_BYTES] {
            let next = entry(&buffers, 0);
            assert!((OFFER_MIN_BYTES..=READ_CHUNK_BYTES).contains(&next.room), "{next:?}");
            assert_eq!(next.buffer, 0);
            let held = receive(&mut buffers, next, &pattern(bytes));
            buffers.provide();
            drop(held);
        }
    }

    #[test]
    fn memory_that_nobody_holds_is_used_again() {
        let mut buffers = Buffers::new(1, 1);
        let first = entry(&buffers, 0);
        for bytes in [READ_CHUNK_BYTES, READ_CHUNK_BYTES / 2, COPY_BELOW_BYTES, READ_CHUNK_BYTES / 2] {
            let next = entry(&buffers, 0);
            drop(receive(&mut buffers, next, &pattern(bytes)));
            buffers.provide();
        }
        // The last one ended too near to the end of the chunk, which is begun anew.
        assert_eq!(entry(&buffers, 0), first);
    }

    #[test]
    fn buffers_grow_up_to_what_there_is_room_for() {
        let mut buffers = Buffers::new(3, 8);
        for (count, tail) in [(6, 6), (8, 8), (8, 8)] {
            buffers.grow();
            buffers.grow();
            buffers.provide();
            assert_eq!((buffers.count(), buffers.tail), (count, tail));
        }
        let found: Vec<Entry> = (0..8).map(|index| entry(&buffers, index)).collect();
        let numbers = |found: &[Entry]| found.iter().map(|entry| entry.buffer).collect::<Vec<_>>();
        assert_eq!(numbers(&found), (0..8).collect::<Vec<_>>());
        // The kernel has found six of them; their completions may overtake each other.
        for index in [5, 0, 3, 1, 4, 2] {
            drop(receive(&mut buffers, found[index], &pattern(5000 + index)));
        }
        buffers.provide();
        let found: Vec<Entry> = (0..8).map(|index| entry(&buffers, index)).collect();
        assert_eq!(numbers(&found), [5, 0, 3, 1, 4, 2, 6, 7]);
    }

    #[test]
    fn buffers_that_the_kernel_does_not_have_are_refused() {
        let mut buffers = Buffers::new(2, 4);
        assert!(buffers.take(2, 10).is_err(), "there is none");
        let first = entry(&buffers, 0);
        assert!(buffers.take(first.buffer, first.room + 1).is_err(), "it has not so many bytes");
        drop(receive(&mut buffers, first, &pattern(10)));
        assert!(buffers.take(first.buffer, 10).is_err(), "it was taken");
        buffers.provide();
        assert_eq!(buffers.tail, 3);
    }
}
