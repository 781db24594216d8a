//! An allocator that keeps blocks to be used again.
//!
//! A batch takes some dozens of blocks of 1 to 100 KiB: columns of tables, frames, chunks that sockets are read into.
//! To the system's allocator these are large: it splits and joins neighbours for each, which was a tenth of the CPU
//! time of an operation (docs/performance.md). What belongs to a batch is freed when a checkpoint is stable, together
//! with that of a hundred others, which is more than it keeps at hand of small blocks, too. Here a thread that [keeps
//! blocks](keep_blocks) has what it frees in lists by size, last in, first out, so that the next block of that size is
//! the one that is most likely still in the cache. Everything else is left to the system's allocator, and so is
//! everything that other threads free.
//!
//! A thread keeps at most 4 MiB of each size, or four blocks, and 64 MiB in all. What it still has when it ends is
//! lost, so this is for threads that live as long as their process. A block that is freed by another thread than asked
//! for it is kept there.
#![allow(unsafe_code, reason = "an allocator hands out raw memory")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::{self, NonNull};

use super::prefetch::prefetch;

/// Blocks that are no larger are left to the system's allocator.
const SMALLEST: usize = 1 << SMALLEST_LOG2;
const SMALLEST_LOG2: u32 = 4;
/// Larger blocks are left to it too.
const LARGEST: usize = 1 << LARGEST_LOG2;
const LARGEST_LOG2: u32 = 23;
/// Sizes from one power of two to the next: a block is at most a quarter larger than asked for.
const STEPS: usize = 4;
const CLASSES: usize = (LARGEST_LOG2 - SMALLEST_LOG2) as usize * STEPS;
/// Bytes of blocks of one size that a thread keeps, or as many blocks as these if that is more.
const KEPT_BYTES: usize = 4 << 20;
const KEPT_LEAST: usize = 4;
/// Bytes of all blocks that a thread keeps.
const KEPT_BYTES_IN_ALL: usize = 64 << 20;
/// What every block is aligned to. Larger alignments are left to the system's allocator.
const ALIGN: usize = 16;

/// The allocator. See the module.
#[derive(Debug)]
pub struct Recycler;

/// A kept block. Its own first bytes hold this.
struct Kept {
    next: Option<NonNull<Self>>,
}

/// What a thread keeps of one size.
struct Shelf {
    top: Cell<Option<NonNull<Kept>>>,
    blocks: Cell<usize>,
}

/// What a thread keeps.
struct Shelves {
    keeps: Cell<bool>,
    /// Of all blocks.
    bytes: Cell<usize>,
    by_class: [Shelf; CLASSES],
}

thread_local! {
    // Constant and without a destructor: reaching it neither allocates nor fails.
    static SHELVES: Shelves = const {
        Shelves {
            keeps: Cell::new(false),
            bytes: Cell::new(0),
            by_class: [const { Shelf { top: Cell::new(None), blocks: Cell::new(0) } }; CLASSES],
        }
    };
}

/// From here on this thread, which should live as long as the process, keeps the blocks that it frees.
pub fn keep_blocks() {
    SHELVES.with(|shelves| shelves.keeps.set(true));
}

/// Which list keeps blocks of `size`, and how large these are. `None` if they are not kept.
#[inline]
const fn class_of(size: usize) -> Option<(usize, usize)> {
    if size <= SMALLEST || size > LARGEST {
        return None;
    }
    let last = size - 1;
    let power = last.ilog2();
    let step = power - STEPS.ilog2();
    // Leading one and the two bits behind it: STEPS to 2 × STEPS - 1.
    let steps = last >> step;
    Some(((power - SMALLEST_LOG2) as usize * STEPS + steps - STEPS, (steps + 1) << step))
}

#[inline]
const fn kept(layout: Layout) -> Option<(usize, usize)> {
    if layout.align() <= ALIGN { class_of(layout.size()) } else { None }
}

/// The layout of all blocks of this size, whatever was asked for: each may be used for any alignment up to [`ALIGN`].
#[inline]
const fn whole(size: usize) -> Layout {
    match Layout::from_size_align(size, ALIGN) {
        Ok(whole) => whole,
        Err(_) => unreachable!(), // LARGEST is far from overflow
    }
}

impl Shelves {
    #[inline]
    fn take((class, size): (usize, usize)) -> Option<NonNull<Kept>> {
        SHELVES.with(|shelves| {
            let block = shelves.by_class[class].take()?;
            shelves.bytes.set(shelves.bytes.get() - size);
            Some(block)
        })
    }

    /// Takes a block of `size` bytes that nobody uses; false if this thread does not keep it.
    #[inline]
    fn put(block: NonNull<Kept>, (class, size): (usize, usize)) -> bool {
        SHELVES.with(|shelves| {
            let bytes = shelves.bytes.get() + size;
            let kept = shelves.keeps.get() && bytes <= KEPT_BYTES_IN_ALL && shelves.by_class[class].put(block, size);
            if kept {
                shelves.bytes.set(bytes);
            }
            kept
        })
    }
}

impl Shelf {
    #[inline]
    fn take(&self) -> Option<NonNull<Kept>> {
        let block = self.top.get()?;
        // SAFETY: a block on the shelf belongs to it alone, and begins with a `Kept` that `put` wrote.
        let next = unsafe { block.as_ref() }.next;
        if let Some(next) = next {
            // Most blocks were freed long ago, and whoever takes this one waits for what it links to.
            prefetch(next.as_ptr());
        }
        self.top.set(next);
        self.blocks.set(self.blocks.get() - 1);
        Some(block)
    }

    /// Takes a block of `size` bytes that nobody uses; false if the shelf is full.
    #[inline]
    fn put(&self, block: NonNull<Kept>, size: usize) -> bool {
        let blocks = self.blocks.get();
        if blocks >= KEPT_LEAST && (blocks + 1) * size > KEPT_BYTES {
            return false;
        }
        // SAFETY: the block is larger than a `Kept`, aligned for it, and nobody else's.
        unsafe { block.write(Kept { next: self.top.get() }) };
        self.top.set(Some(block));
        self.blocks.set(blocks + 1);
        true
    }
}

// SAFETY: blocks come from the system's allocator, aligned to `ALIGN` and of at least the size, or from a shelf of this
// thread, where there are only such blocks of the same class that were freed. A block of a class is
// always freed, or grown, as one: its class follows from the layout, which callers must give unchanged.
unsafe impl GlobalAlloc for Recycler {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((class, size)) = kept(layout) else {
            // SAFETY: the caller's promise is the same.
            return unsafe { System.alloc(layout) };
        };
        match Shelves::take((class, size)) {
            Some(block) => block.as_ptr().cast(),
            // SAFETY: `size` is not zero.
            None => unsafe { System.alloc(whole(size)) },
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some((class, size)) = kept(layout) else {
            // SAFETY: the caller's promise is the same.
            return unsafe { System.dealloc(block, layout) };
        };
        let is_kept = NonNull::new(block.cast()).is_some_and(|block| Shelves::put(block, (class, size)));
        if !is_kept {
            // SAFETY: blocks of this class were asked of it with this layout.
            unsafe { System.dealloc(block, whole(size)) }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some((class, size)) = kept(layout) else {
            // SAFETY: the caller's promise is the same.
            return unsafe { System.alloc_zeroed(layout) };
        };
        match Shelves::take((class, size)) {
            Some(block) => {
                let block = block.as_ptr().cast::<u8>();
                // SAFETY: the block is at least as large as the layout.
                unsafe { ptr::write_bytes(block, 0, layout.size()) };
                block
            }
            // SAFETY: `size` is not zero.
            None => unsafe { System.alloc_zeroed(whole(size)) },
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the new size does not overflow when it is rounded up to the alignment.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        match (kept(layout), kept(new)) {
            (None, None) => {
                // SAFETY: the caller's promise is the same.
                unsafe { System.realloc(block, layout, new_size) }
            }
            (Some(old), Some(new)) if old == new => block,
            _ => {
                // SAFETY: the caller promises that neither size is zero, and that the block is its own; both blocks
                // are at least as large as what is copied, and another one is another block.
                unsafe {
                    let moved = self.alloc(new);
                    if !moved.is_null() {
                        ptr::copy_nonoverlapping(block, moved, layout.size().min(new_size));
                        self.dealloc(block, layout);
                    }
                    moved
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn classes_fit_and_waste_little() {
        let mut sizes = Vec::new();
        for size in (SMALLEST + 1)..=LARGEST {
            let (class, whole) = class_of(size).unwrap();
            assert!(class < CLASSES && whole >= size && (whole - size) * STEPS <= size, "{size}: {class}, {whole}");
            assert_eq!(class_of(whole), Some((class, whole)), "a whole block is of its own class");
            if sizes.len() <= class {
                assert_eq!(sizes.len(), class, "none is left out");
                sizes.push(whole);
            }
            assert_eq!(sizes[class], whole, "all blocks of a class are of one size");
        }
        assert_eq!(sizes.len(), CLASSES);
        assert_eq!(
            (class_of(0), class_of(SMALLEST), class_of(LARGEST + 1), class_of(usize::MAX)),
            (None, None, None, None)
        );
    }

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 8).unwrap()
    }

    #[test]
    fn what_was_freed_last_is_used_next() {
        keep_blocks();
        // SAFETY: layouts are not empty, and each block is freed once, with its own.
        unsafe {
            let (a, b) = (Recycler.alloc(layout(5000)), Recycler.alloc(layout(5000)));
            Recycler.dealloc(a, layout(5000));
            Recycler.dealloc(b, layout(5000));
            let again = Recycler.alloc_zeroed(layout(4900));
            assert_eq!(again, b, "another size of the same class");
            assert!((0..4900).all(|at| *again.add(at) == 0), "zeroed though it was used before");
            Recycler.dealloc(again, layout(4900));
            Recycler.dealloc(Recycler.alloc(layout(5000)), layout(5000));
        }
    }

    #[test]
    fn a_thread_keeps_a_bounded_number() {
        std::thread::spawn(|| {
            keep_blocks();
            for size in [40, 1500, 60_000, LARGEST] {
                let (class, whole) = class_of(size).unwrap();
                // SAFETY: layouts are not empty, and each block is freed once, with its own.
                unsafe {
                    let many = 2 * KEPT_BYTES / size + KEPT_LEAST;
                    let blocks: Vec<*mut u8> = (0..many).map(|_| Recycler.alloc(layout(size))).collect();
                    blocks.into_iter().for_each(|block| Recycler.dealloc(block, layout(size)));
                }
                let kept = kept_of(class);
                assert_eq!(kept, (KEPT_BYTES / whole).max(KEPT_LEAST), "of {size} bytes");
            }
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_thread_keeps_a_bounded_number_of_bytes_in_all() {
        std::thread::spawn(|| {
            keep_blocks();
            let bytes = || SHELVES.with(|shelves| shelves.bytes.get());
            let mut blocks = Vec::new();
            for class_size in (0..CLASSES).map(|class| (4 + class % STEPS) << (class / STEPS + 2)) {
                for _ in 0..KEPT_BYTES / class_size {
                    // SAFETY: layouts are not empty, and each block is freed once, with its own.
                    blocks.push((unsafe { Recycler.alloc(layout(class_size + 1)) }, layout(class_size + 1)));
                }
            }
            for (block, layout) in blocks {
                // SAFETY: as above.
                unsafe { Recycler.dealloc(block, layout) };
                assert!(bytes() <= KEPT_BYTES_IN_ALL);
            }
            assert!(bytes() > KEPT_BYTES_IN_ALL - LARGEST, "{} are kept", bytes());
            // What is used again is kept no longer.
            let before = bytes();
            // SAFETY: as above.
            let block = unsafe { Recycler.alloc(layout(40)) };
            assert_eq!(bytes(), before - class_of(40).unwrap().1);
            // SAFETY: as above.
            unsafe { Recycler.dealloc(block, layout(40)) };
            assert_eq!(bytes(), before);
        })
        .join()
        .unwrap();
    }

    fn kept_of(class: usize) -> usize {
        SHELVES.with(|shelves| shelves.by_class[class].blocks.get())
    }

    /// What it kept would be lost with it: threads that answer one question each must not cost memory.
    #[test]
    fn a_thread_that_was_not_told_to_keeps_nothing() {
        std::thread::spawn(|| {
            let (class, _) = class_of(5000).unwrap();
            // SAFETY: the layout is not empty, and the block is freed once, with its own.
            unsafe { Recycler.dealloc(Recycler.alloc(layout(5000)), layout(5000)) };
            assert_eq!(kept_of(class), 0);
        })
        .join()
        .unwrap();
    }

    #[derive(Clone, Debug)]
    enum Action {
        Make { size: usize, zeroed: bool, align: usize },
        Resize { at: usize, size: usize },
        Free { at: usize },
    }

    fn size() -> impl Strategy<Value = usize> {
        prop_oneof![1_usize..100, 1_usize..3000, 1_usize..100_000, (LARGEST - 100)..(LARGEST + 100)]
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            3 => (size(), any::<bool>(), 0_u32..8)
                .prop_map(|(size, zeroed, align)| Action::Make { size, zeroed, align: 1 << align }),
            2 => (any::<usize>(), size()).prop_map(|(at, size)| Action::Resize { at, size }),
            2 => any::<usize>().prop_map(|at| Action::Free { at }),
        ]
    }

    /// A block in use, every byte of which is `mark`.
    struct Block(*mut u8, Layout, u8);

    impl Block {
        fn fill(&self) {
            // SAFETY: the block is that large.
            unsafe { ptr::write_bytes(self.0, self.2, self.1.size()) };
        }

        fn is_whole(&self, bytes: usize) -> bool {
            // SAFETY: the block is that large, and was filled.
            unsafe { std::slice::from_raw_parts(self.0, bytes) }.iter().all(|byte| *byte == self.2)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Blocks are aligned, do not overlap (each keeps its bytes whatever becomes of others), and keep their bytes
        /// when they are resized.
        #[test]
        fn blocks_are_their_owners_alone(actions in prop::collection::vec(action(), 1..80)) {
            keep_blocks();
            let mut blocks: Vec<Block> = Vec::new();
            for (mark, action) in (0..).zip(actions) {
                match action {
                    Action::Make { size, zeroed, align } => {
                        let layout = Layout::from_size_align(size, align).unwrap();
                        // SAFETY: the layout is not empty.
                        let block = unsafe { if zeroed { Recycler.alloc_zeroed(layout) } else { Recycler.alloc(layout) } };
                        prop_assert!(!block.is_null() && block.addr().is_multiple_of(align));
                        prop_assert!(!zeroed || Block(block, layout, 0).is_whole(size));
                        blocks.push(Block(block, layout, mark));
                        blocks.last().unwrap().fill();
                    }
                    Action::Resize { at, size } if !blocks.is_empty() => {
                        let at = at % blocks.len();
                        let Block(block, layout, mark) = blocks[at];
                        // SAFETY: the block is in use, with this layout, and the new size is not zero.
                        let moved = unsafe { Recycler.realloc(block, layout, size) };
                        let new = Layout::from_size_align(size, layout.align()).unwrap();
                        prop_assert!(!moved.is_null() && moved.addr().is_multiple_of(layout.align()));
                        blocks[at] = Block(moved, new, mark);
                        prop_assert!(blocks[at].is_whole(size.min(layout.size())));
                        blocks[at].fill();
                    }
                    Action::Free { at } if !blocks.is_empty() => {
                        let Block(block, layout, _) = blocks.swap_remove(at % blocks.len());
                        // SAFETY: the block was in use, with this layout.
                        unsafe { Recycler.dealloc(block, layout) };
                    }
                    Action::Resize { .. } | Action::Free { .. } => {}
                }
                prop_assert!(blocks.iter().all(|block| block.is_whole(block.1.size())));
            }
            for Block(block, layout, _) in blocks {
                // SAFETY: as above.
                unsafe { Recycler.dealloc(block, layout) };
            }
        }
    }
}
