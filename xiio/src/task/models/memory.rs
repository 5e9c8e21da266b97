//! Blocks whose every use is checked: they are alive, and are freed after whatever else was done to them, once.

use std::alloc::Layout;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ptr::NonNull;

use loom::cell::UnsafeCell;

thread_local! {
    /// For each block that is alive what says who has used it.
    static USES: RefCell<HashMap<usize, UnsafeCell<()>>> = RefCell::default();
}

/// # Safety
/// As for `std::alloc::alloc`.
pub(in crate::task) unsafe fn alloc(layout: Layout) -> *mut u8 {
    // SAFETY: the caller's contract is this one's.
    let place = unsafe { loom::alloc::alloc(layout) };
    USES.with_borrow_mut(|uses| uses.insert(place.addr(), UnsafeCell::new(())));
    place
}

/// # Safety
/// As for `std::alloc::dealloc`.
pub(in crate::task) unsafe fn dealloc(place: *mut u8, layout: Layout) {
    let uses = USES.with_borrow_mut(|uses| uses.remove(&place.addr()));
    uses.expect("a block is freed that is not alive").with_mut(|_| ());
    // SAFETY: the caller's contract is this one's.
    unsafe { loom::alloc::dealloc(place, layout) };
}

/// Notes a use of a block.
pub(in crate::task) fn look_at(block: NonNull<u8>) {
    USES.with_borrow(|uses| uses.get(&block.addr().get()).expect("a block is used that is not alive").with(|_| ()));
}
