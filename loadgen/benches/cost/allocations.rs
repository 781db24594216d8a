//! Counts what each thread allocates.
#![allow(unsafe_code, reason = "an allocator can not be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::{AddAssign, Sub};

/// What was allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    /// How often: memory that grows or moves counts as one more.
    pub(crate) allocations: u64,
    /// Bytes that were asked for; of memory that grows, those that it grew by.
    pub(crate) bytes: u64,
}

impl AddAssign for Spent {
    fn add_assign(&mut self, other: Self) {
        self.allocations += other.allocations;
        self.bytes += other.bytes;
    }
}

impl Sub for Spent {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { allocations: self.allocations - other.allocations, bytes: self.bytes - other.bytes }
    }
}

/// What this thread has allocated so far.
pub(crate) fn so_far() -> Spent {
    SO_FAR.with(Cell::get)
}

thread_local! {
    // Neither made nor dropped by code that would have to allocate.
    static SO_FAR: Cell<Spent> = const { Cell::new(Spent { allocations: 0, bytes: 0 }) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The system's allocator, counted.
struct Counting;

fn note(bytes: usize) {
    SO_FAR.with(|so_far| {
        let mut spent = so_far.get();
        spent += Spent { allocations: 1, bytes: bytes as u64 };
        so_far.set(spent);
    });
}

// SAFETY: every call is the system allocator's, with the arguments that came; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps to what `GlobalAlloc` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note(bytes.saturating_sub(layout.size()));
        // SAFETY: as above; all memory is the system allocator's.
        unsafe { System.realloc(memory, layout, bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above; all memory is the system allocator's.
        unsafe { System.dealloc(memory, layout) }
    }
}
