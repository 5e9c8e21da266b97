//! How much a thread has allocated.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// An allocator that counts the bytes which each thread has allocated and not freed.
#[derive(Debug)]
pub struct Counting;

thread_local! {
    static N_BYTES: Cell<isize> = const { Cell::new(0) };
}

/// So many bytes this thread has allocated and not freed, where the allocator is [`Counting`].
#[must_use]
pub fn n_bytes() -> isize {
    N_BYTES.get()
}

fn count(n_bytes: isize) {
    let _ = N_BYTES.try_with(|total| total.set(total.get() + n_bytes));
}

// The trait is unsafe; the two methods pass their contract on to `System`.
#[expect(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: allocates and frees with `System`, counting changes nothing about it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the memory came from `System` with this layout.
        unsafe { System.dealloc(memory, layout) };
    }
}
