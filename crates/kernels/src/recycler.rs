//! An allocator that keeps large blocks for the next step.
//!
//! A training step asks for the same few hundred buffers of megabytes every time. The system's
//! allocator maps each of them anew, and the kernel clears every page when it is first touched: a
//! sixth of the processor time of a step of an 18-layer network at 112 x 112, a third of MobileFaceNet's. This allocator keeps freed large
//! blocks and hands them out again, asks for huge pages, and maps cleared memory lazily, so that the
//! zeros from which candle's gradients start cost nothing until they are written to.

use std::alloc::{GlobalAlloc, Layout, System};

/// A global allocator for programs that train: blocks of 64 KB and more are recycled, smaller
/// ones go to the system's allocator.
///
/// What is kept never lets the program hold more than half as much again as the largest amount that was in use
/// at once; beyond that the oldest blocks go back to the system. On systems other than Linux everything
/// is left to the system's allocator. Only a binary can choose an allocator, in one line:
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: phiz_kernels::Recycler = phiz_kernels::Recycler::new();
/// # fn main() {}
/// ```
#[derive(Debug, Default)]
pub struct Recycler(());

impl Recycler {
    /// The allocator.
    pub const fn new() -> Self {
        Self(())
    }
}

// SAFETY: blocks of the large kind come from `large::take` and `large::map`, which return null or a
// mapping of at least the size asked for, aligned to a page, that nobody else uses; all others come
// from the system's allocator. Which kind a block is follows from its layout alone.
unsafe impl GlobalAlloc for Recycler {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if large::is(layout) {
            return large::alloc(layout.size());
        }
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if large::is(layout) {
            return large::alloc_zeroed(layout.size());
        }
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if large::is(layout) {
            // SAFETY: a large block of this layout was made by this allocator, and is not used any more.
            unsafe { large::dealloc(ptr, layout.size()) };
            return;
        }
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the new size is valid for the alignment.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        match (large::is(layout), large::is(new)) {
            // SAFETY: the caller's promise is handed on.
            (false, false) => unsafe { System.realloc(ptr, layout, new_size) },
            (true, true) if large::class(layout.size()) == large::class(new_size) => ptr,
            _ => {
                // SAFETY: the new block is at least as long as what is copied, and does not overlap.
                unsafe {
                    let moved = self.alloc(new);
                    if !moved.is_null() {
                        let kept = layout.size().min(new_size);
                        std::ptr::copy_nonoverlapping(ptr, moved, kept);
                        self.dealloc(ptr, layout);
                    }
                    moved
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod large {
    use std::alloc::Layout;

    pub(super) fn is(_: Layout) -> bool {
        false
    }

    pub(super) fn class(size: usize) -> usize {
        size
    }

    pub(super) fn alloc(_: usize) -> *mut u8 {
        std::ptr::null_mut()
    }

    fn alloc_and_clear(size: usize) -> *mut u8 {
        let block = alloc(size);
        if !block.is_null() {
            // SAFETY: the block has at least this size and is ours.
            unsafe { std::ptr::write_bytes(block, 0, size) };
        }
        block
    }

    pub(super) fn alloc_zeroed(_: usize) -> *mut u8 {
        std::ptr::null_mut()
    }

    pub(super) unsafe fn dealloc(_: *mut u8, _: usize) {}
}

#[cfg(target_os = "linux")]
mod large {
    use std::alloc::Layout;
    use std::collections::VecDeque;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    /// Smallest block that is recycled.
    const LEAST: usize = 1 << 16;
    const PAGE: usize = 1 << 12;
    const HUGE: usize = 1 << 21;
    /// From this size on, cleared memory is a mapping that nobody has written to: reads then see the
    /// system's one page of zeros, which is in the cache.
    const LAZY: usize = 1 << 20;
    /// Cleared mappings kept.
    const SPARE: usize = 64;
    /// Entries of a list. It grows while the lock is held, so it must stay below the blocks that this allocator itself
    /// gives out: asking it for one would wait for the lock for ever.
    const MOST: usize = 2048;

    pub(super) fn is(layout: Layout) -> bool {
        layout.size() >= LEAST && layout.align() <= PAGE && layout.size() <= isize::MAX as usize / 4
    }

    /// The length of the mapping behind a block: eight sizes to a power of two, so that batches of
    /// nearly equal size share blocks and at most an eighth is wasted.
    pub(super) fn class(size: usize) -> usize {
        let step = (1 << size.ilog2()) / 8;
        size.next_multiple_of(step)
    }

    /// Blocks waiting to be used again, oldest first, and the account of all.
    struct Kept {
        /// Address and class.
        free: VecDeque<(usize, usize)>,
        /// Blocks in use that were asked for cleared, which are mostly only read.
        cleared: Vec<usize>,
        /// Mappings that are cleared again, and their lengths.
        spare: Vec<(usize, usize)>,
        free_bytes: usize,
        used_bytes: usize,
        most_used: usize,
    }

    static KEPT: Mutex<Kept> = Mutex::new(Kept {
        free: VecDeque::new(),
        cleared: Vec::new(),
        spare: Vec::new(),
        free_bytes: 0,
        used_bytes: 0,
        most_used: 0,
    });

    fn kept() -> MutexGuard<'static, Kept> {
        // The fields are plain numbers and lists of them: nothing that a panic could leave half done matters.
        KEPT.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cleared memory of `len` bytes, aligned to a huge page where it is that long; null on failure.
    fn map(len: usize) -> *mut u8 {
        let align = if len >= HUGE { HUGE } else { 0 };
        // SAFETY: an anonymous mapping at an address of the system's choice touches nothing that exists.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len + align,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return std::ptr::null_mut();
        }
        if align == 0 {
            return start.cast();
        }
        let head = start.addr().next_multiple_of(HUGE) - start.addr();
        // SAFETY: all addresses lie within the mapping made above; what is given back is not used.
        unsafe {
            let block = start.byte_add(head);
            if head > 0 {
                libc::munmap(start, head);
            }
            if align > head {
                libc::munmap(block.byte_add(len), align - head);
            }
            // Advice alone: where it is refused, small pages serve.
            libc::madvise(block, len, libc::MADV_HUGEPAGE);
            block.cast()
        }
    }

    /// # Safety
    /// `address` is a mapping of `len` bytes made by [`map`] that nobody uses.
    unsafe fn unmap(address: usize, len: usize) {
        // SAFETY: by the caller's promise.
        unsafe { libc::munmap(std::ptr::with_exposed_provenance_mut(address), len) };
    }

    impl Kept {
        fn count(&mut self, len: usize) {
            self.used_bytes += len;
            self.most_used = self.most_used.max(self.used_bytes);
        }
    }

    pub(super) fn alloc(size: usize) -> *mut u8 {
        let len = class(size);
        {
            let mut kept = kept();
            // The youngest first: its pages are likeliest to be in a cache.
            if let Some(i) = kept.free.iter().rposition(|&(_, class)| class == len)
                && let Some((address, _)) = kept.free.remove(i)
            {
                kept.free_bytes -= len;
                kept.count(len);
                return std::ptr::with_exposed_provenance_mut(address);
            }
        }
        let block = map(len);
        if !block.is_null() {
            kept().count(len);
        }
        block
    }

    fn alloc_and_clear(size: usize) -> *mut u8 {
        let block = alloc(size);
        if !block.is_null() {
            // SAFETY: the block has at least this size and is ours.
            unsafe { std::ptr::write_bytes(block, 0, size) };
        }
        block
    }

    pub(super) fn alloc_zeroed(size: usize) -> *mut u8 {
        if size < LAZY {
            return alloc_and_clear(size);
        }
        let mapped = cleared(size);
        {
            let mut kept = kept();
            if kept.cleared.len() >= MOST {
                drop(kept);
                return alloc_and_clear(size);
            }
            if let Some(i) = kept.spare.iter().rposition(|&(_, length)| length == mapped) {
                let (address, _) = kept.spare.swap_remove(i);
                kept.count(mapped);
                kept.cleared.push(address);
                return std::ptr::with_exposed_provenance_mut(address);
            }
        }
        let block = map(mapped);
        if !block.is_null() {
            let mut kept = kept();
            kept.count(mapped);
            kept.cleared.push(block.expose_provenance());
        }
        block
    }

    /// The length of the mapping behind a cleared block: whole huge pages, each of which is one page of zeros
    /// until it is written to.
    fn cleared(size: usize) -> usize {
        class(size).next_multiple_of(HUGE)
    }

    /// Makes a mapping read as zeros again; false where the system does not.
    ///
    /// # Safety
    /// `address` is a mapping of `len` bytes made by [`map`] that nobody uses.
    unsafe fn clear(address: usize, len: usize) -> bool {
        // SAFETY: by the caller's promise; private memory of no file reads as zeros after this advice.
        let done = unsafe {
            libc::madvise(
                std::ptr::with_exposed_provenance_mut(address),
                len,
                libc::MADV_DONTNEED,
            )
        };
        done == 0
    }

    /// # Safety
    /// `ptr` came from [`alloc`] or [`alloc_zeroed`] with a size of the same class, and is not used any more.
    pub(super) unsafe fn dealloc(ptr: *mut u8, size: usize) {
        let (address, len) = (ptr.expose_provenance(), class(size));
        let mut released = Vec::new();
        let mut was_cleared = false;
        {
            let mut kept = kept();
            if let Some(i) = kept.cleared.iter().rposition(|&a| a == address) {
                kept.used_bytes -= cleared(size);
                kept.cleared.swap_remove(i);
                was_cleared = true;
            } else {
                kept.used_bytes -= len;
                if kept.free.len() >= MOST
                    && let Some((old, len)) = kept.free.pop_front()
                {
                    kept.free_bytes -= len;
                    released.push((old, len));
                }
                kept.free.push_back((address, len));
                kept.free_bytes += len;
                let most = kept.most_used + kept.most_used / 2;
                while kept.used_bytes + kept.free_bytes > most
                    && released.len() < MOST
                    && let Some((old, len)) = kept.free.pop_front()
                {
                    kept.free_bytes -= len;
                    released.push((old, len));
                }
            }
        }
        if was_cleared {
            let mapped = cleared(size);
            // SAFETY: the mapping is in no list any more, and nobody uses it.
            let again = unsafe { clear(address, mapped) };
            let mut kept = kept();
            if again && kept.spare.len() < SPARE {
                kept.spare.push((address, mapped));
            } else {
                released.push((address, mapped));
            }
        }
        for (address, len) in released {
            // SAFETY: these blocks are in no list any more, and nobody uses them.
            unsafe { unmap(address, len) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 16).unwrap()
    }

    #[test]
    fn blocks_are_whole_distinct_and_cleared_when_asked() {
        let heap = Recycler::new();
        // SAFETY: every block is used within its size and freed once, with its layout.
        unsafe {
            let sizes = [100, 1 << 20, (1 << 20) + 1, 3_000_000, 17 << 20];
            for _ in 0..3 {
                let blocks: Vec<_> = sizes.iter().map(|&s| heap.alloc(layout(s))).collect();
                for (i, (&block, &size)) in blocks.iter().zip(&sizes).enumerate() {
                    std::ptr::write_bytes(block, i as u8 + 1, size);
                }
                for (i, (&block, &size)) in blocks.iter().zip(&sizes).enumerate() {
                    let bytes = std::slice::from_raw_parts(block, size);
                    assert!(bytes.iter().all(|&b| b == i as u8 + 1));
                    heap.dealloc(block, layout(size));
                    let zeros = heap.alloc_zeroed(layout(size));
                    let bytes = std::slice::from_raw_parts(zeros, size);
                    assert!(bytes.iter().all(|&b| b == 0));
                    heap.dealloc(zeros, layout(size));
                }
            }
        }
    }

    #[test]
    fn growing_and_shrinking_keep_the_contents() {
        let heap = Recycler::new();
        // SAFETY: as above.
        unsafe {
            let mut size = 1000;
            let mut block = heap.alloc(layout(size));
            std::ptr::write_bytes(block, 7, size);
            for next in [1 << 20, (1 << 20) + 5, 9 << 20, 2 << 20, 1000] {
                block = heap.realloc(block, layout(size), next);
                size = next;
                let bytes = std::slice::from_raw_parts(block, 1000);
                assert!(bytes.iter().all(|&b| b == 7));
            }
            heap.dealloc(block, layout(size));
        }
    }
}
