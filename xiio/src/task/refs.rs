//! The header of a task and who counts it.
//!
//! The count is biased: the home thread counts in `local`, a plain cell, all others in `shared`, an atomic. The two are
//! added up when the set lets go of a task that wakers are still around for; from then on (`MERGED`) everybody counts in
//! `shared`. A task that ends without wakers, which is nearly every task, costs no atomic write in its life.
//!
//! Wakers that are cloned on one side and dropped on the other make one count grow and the other shrink, for as long as the
//! task lives; so the home thread evens them out now and then.

use std::cell::{Cell, UnsafeCell};
use std::panic::Location;
use std::process::abort;
use std::ptr::NonNull;
use std::task::Waker;

use super::block::{self, VTable};
use super::home::{Home, Tenant};
use super::links::Links;
use super::set::Core;
use crate::sync::{AtomicBool, AtomicI32, Ordering};
use crate::unwind::Owner;

/// In the ready queue or in the queue of those who wait for a place.
pub(super) const QUEUED: u16 = 1;
/// The future is gone. Set before it is dropped, so that nobody reaches a future that is being dropped.
pub(super) const DONE: u16 = 1 << 1;
/// The output is in the block, for the handle.
pub(super) const OUTPUT: u16 = 1 << 2;
/// A handle exists.
pub(super) const HANDLE: u16 = 1 << 3;
/// Polled at least once; before that there is nothing to clean up.
pub(super) const STARTED: u16 = 1 << 4;
/// Its owner's scope holds a node; counted in the set.
pub(super) const HOLDS: u16 = 1 << 5;
/// In the list of the doomed instead of the list of tasks.
pub(super) const DOOMED: u16 = 1 << 6;
/// `local` has been added to `shared` and is dead.
pub(super) const MERGED: u16 = 1 << 7;
/// Counted as running, in a set where only so many may run at once, or that is watched for many tasks.
pub(super) const PLACED: u16 = 1 << 8;
/// Whoever awaits the handle has reached that: there is a `joiner`, unless they were refused. Stays when the task ends.
pub(super) const JOINED: u16 = 1 << 9;
/// Stands for the body of the set's group: the set's core is where a task has its future, and it is in no list.
pub(super) const BODY: u16 = 1 << 10;

/// The last one to be polled before the rest is cancelled. In the ready queue.
pub(super) const LAST: u16 = 1 << 11;

/// It has values of `local!`, which its set keeps: what is current when it is polled.
pub(super) const LOCALS: u16 = 1 << 12;

/// The handle has given the output away.
pub(super) const TAKEN: u16 = 1 << 13;

/// It has a name, which its set keeps.
pub(super) const NAMED: u16 = 1 << 14;

/// A recording has it: its wakes and its end are noted there.
pub(super) const RECORDED: u16 = 1 << 15;

/// What a task is besides its future.
#[repr(C)]
pub(super) struct Header {
    pub(super) links: Links,
    pub(super) next_queued: Cell<Option<TaskRef>>,
    pub(super) vtable: &'static VTable,
    /// Where other threads post it.
    pub(super) home: &'static Home,
    /// Dangling once `DONE`: the set may be gone then.
    pub(super) core: Cell<NonNull<Core>>,
    /// Touched by the set's poll only, which is never entered twice for one task.
    pub(super) owner: UnsafeCell<Owner>,
    /// Who awaits the handle.
    pub(super) joiner: Cell<Option<Box<Waker>>>,
    pub(super) location: &'static Location<'static>,
    /// The thread that all cells in here belong to.
    pub(super) tenant: Tenant,
    flags: Cell<u16>,
    /// It has failed by itself. Set before its future is dropped, as that may panic as well.
    pub(super) has_failed: Cell<bool>,
    /// Set while the task is in the home's inbox; whoever sets it posts it.
    pub(super) is_posted: AtomicBool,
    /// References counted on the home thread: the set, the handle, wakers. May be negative, wakers wander.
    local: Cell<i32>,
    /// Twice the references counted elsewhere, plus one when merged.
    shared: AtomicI32,
}

/// More references than this on one task are a leak in a loop; `std::sync::Arc` aborts as well. Twice the sum of both
/// counts never comes near to an overflow.
const MAX_REFS: i32 = i32::MAX / 16;

/// The home thread evens the counts out when its own is so far from zero.
const MAX_DRIFT: i32 = if cfg!(all(test, loom)) { 1 } else { 1 << 20 };

impl Header {
    /// A header counted by the set and the handle, for a task that is put into a queue at once.
    #[inline]
    pub(super) fn new(
        vtable: &'static VTable,
        home: &'static Home,
        tenant: Tenant,
        core: NonNull<Core>,
        location: &'static Location<'static>,
    ) -> Self {
        Self {
            links: Links::default(),
            next_queued: Cell::new(None),
            vtable,
            home,
            core: Cell::new(core),
            owner: UnsafeCell::default(),
            joiner: Cell::new(None),
            location,
            tenant,
            flags: Cell::new(HANDLE | QUEUED),
            has_failed: Cell::new(false),
            is_posted: AtomicBool::new(false),
            local: Cell::new(2),
            shared: AtomicI32::new(0),
        }
    }

    #[inline]
    pub(super) fn has(&self, flags: u16) -> bool {
        self.flags.get() & flags != 0
    }

    #[inline]
    pub(super) fn set(&self, flags: u16) {
        self.flags.set(self.flags.get() | flags);
    }

    #[inline]
    pub(super) fn unset(&self, flags: u16) {
        self.flags.set(self.flags.get() & !flags);
    }

    /// Notes that a task is taken out of the ready queue to be polled; `false` if that is not all there is to do.
    #[inline]
    pub(super) fn start(&self) -> bool {
        let flags = self.flags.get();
        let is_task = flags & (DONE | BODY | LAST | LOCALS) == 0;
        if is_task {
            self.flags.set(flags & !QUEUED | STARTED);
        }
        is_task
    }

    /// Whether the plain count is to be used.
    #[inline]
    fn counts_locally(&self) -> bool {
        self.is_at_home() && !self.has(MERGED)
    }

    /// Whether this thread is the one that the cells belong to.
    #[inline]
    pub(super) fn is_at_home(&self) -> bool {
        Tenant::here() == Some(self.tenant)
    }

    /// Moves the local count into the shared one. On the home thread, before they are merged.
    #[cold]
    fn even_out(&self) {
        let local = self.local.replace(0);
        // Ordering: as for a clone.
        let before = self.shared.fetch_add(2 * local, Ordering::Relaxed);
        abort_if_leaked(before + 2 * local);
    }

    /// References besides the local ones.
    fn n_shared(&self) -> i32 {
        self.shared.load(Ordering::Acquire) >> 1
    }
}

#[inline]
fn abort_if_leaked(shared: i32) {
    if shared > 2 * MAX_REFS {
        abort();
    }
}

/// A pointer to a live task.
///
/// Invariant: it is only kept where something counts the block: in the set's list, a queue, a handle, a waker, the
/// inbox. Copies of it do not outlive the one that is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct TaskRef(NonNull<Header>);

impl TaskRef {
    /// # Safety
    /// - `header` is the start of a task's block, with the provenance of the whole block.
    /// - The block is counted for as long as the result or a copy is used.
    #[inline]
    pub(super) unsafe fn new(header: NonNull<Header>) -> Self {
        Self(header)
    }

    #[inline]
    pub(super) fn as_ptr(self) -> NonNull<Header> {
        self.0
    }

    /// What a recording knows it by.
    pub(super) fn key(self) -> usize {
        self.0.addr().get()
    }

    #[inline]
    pub(super) fn header<'a>(self) -> &'a Header {
        #[cfg(all(test, loom))]
        super::models::memory::look_at(self.0.cast());
        // SAFETY: by the invariant the block is alive; nothing ever takes a `&mut` to a header.
        unsafe { self.0.as_ref() }
    }

    /// Counts one more reference.
    #[inline]
    pub(super) fn clone_ref(self) {
        let header = self.header();
        if header.counts_locally() {
            let local = header.local.get() + 1;
            header.local.set(local);
            if local > MAX_DRIFT {
                header.even_out();
            }
        } else {
            // Ordering: the one who clones holds a reference already, nothing is handed over here.
            let before = header.shared.fetch_add(2, Ordering::Relaxed);
            abort_if_leaked(before);
        }
    }

    /// Counts one reference less; the last one frees the block.
    #[inline]
    pub(super) fn drop_ref(self) {
        let header = self.header();
        if header.counts_locally() {
            let local = header.local.get() - 1;
            header.local.set(local);
            if local + header.n_shared() == 0 {
                self.free();
            } else if local < -MAX_DRIFT {
                header.even_out();
            }
        } else {
            // Ordering: `Release` hands what this thread did to the one who frees, `Acquire` takes it over from the others.
            let before = header.shared.fetch_sub(2, Ordering::AcqRel);
            if before == 3 {
                self.free();
            }
        }
    }

    /// The handle lets go of a task that is not done, so that the set still counts it. On the home thread.
    #[inline]
    pub(super) fn drop_handle_ref_early(self) {
        let header = self.header();
        debug_assert!(!header.has(DONE | MERGED));
        header.local.set(header.local.get() - 1);
    }

    /// The set lets go of a task that is done. On the home thread.
    #[inline]
    pub(super) fn drop_set_ref(self) {
        let header = self.header();
        debug_assert!(header.has(DONE) && !header.has(MERGED));
        if header.local.get() == 1 && header.n_shared() == 0 {
            self.free();
        } else {
            self.share_or_leave_to_handle();
        }
    }

    #[cold]
    fn share_or_leave_to_handle(self) {
        let header = self.header();
        let local = header.local.get() - 1;
        header.local.set(local);
        let n_handles = i32::from(header.has(HANDLE));
        if local - n_handles + header.n_shared() == 0 {
            // No waker is left, and none can be made any more: the handle is the last, if there is one.
            if n_handles == 0 {
                self.free();
            }
            return;
        }
        header.set(MERGED);
        let merged = header.shared.fetch_add(2 * local + 1, Ordering::AcqRel) + 2 * local + 1;
        if merged == 1 {
            self.free();
        }
    }

    #[inline]
    fn free(self) {
        // SAFETY: the last reference is gone, and with it every way to the block; `DONE` tasks have dropped their
        // future, and the output is dropped with the handle.
        unsafe { block::free(self.0) };
    }
}

/// A reference that is given back, whatever else panics.
pub(super) struct Owned(pub(super) TaskRef);

impl Drop for Owned {
    #[inline]
    fn drop(&mut self) {
        self.0.drop_ref();
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::task::Waker;

    use super::super::waker;
    use super::*;

    /// A task without a set, counted as by one. Its core is never looked at: nobody wakes it.
    fn task() -> TaskRef {
        let task = block::allocate(pending::<()>(), Some, NonNull::dangling(), Location::caller());
        task.header().unset(HANDLE);
        task.drop_handle_ref_early();
        task
    }

    fn wakers(task: TaskRef, n_wakers: usize) -> Vec<Waker> {
        let waker = waker::borrowed(task);
        (0..n_wakers).map(|_| (*waker).clone()).collect()
    }

    fn end(task: TaskRef) {
        task.header().set(DONE);
        task.drop_set_ref();
    }

    fn n_refs(task: TaskRef) -> i32 {
        task.header().local.get() + task.header().n_shared()
    }

    #[test]
    fn wakers_that_wander_one_way_do_not_add_up() {
        let task = task();
        for _ in 0..12 {
            let away = wakers(task, 100_000);
            std::thread::spawn(|| drop(away)).join().expect("dropping a waker does not panic");
            assert!(task.header().local.get() <= MAX_DRIFT);
            assert_eq!(n_refs(task), 1);
        }
        let seed = wakers(task, 1).remove(0);
        for _ in 0..12 {
            let seed = seed.clone();
            let home = std::thread::spawn(move || vec![seed; 100_000]).join();
            drop(home.expect("cloning a waker does not panic"));
            assert!(task.header().local.get() >= -MAX_DRIFT);
            assert_eq!(n_refs(task), 2);
        }
        drop(seed);
        end(task);
    }

    #[test]
    fn counts_are_merged_with_the_wakers_that_are_left() {
        let task = task();
        let mut left = wakers(task, 3);
        let away = left.split_off(1);
        std::thread::spawn(|| drop(away)).join().expect("dropping a waker does not panic");
        end(task);
        // Alive by the one that is left, and by the sum only.
        assert!(task.header().has(MERGED));
        assert_eq!(task.header().shared.load(Ordering::Relaxed), 3);
        std::thread::spawn(|| drop(left)).join().expect("dropping a waker does not panic");
    }
}
