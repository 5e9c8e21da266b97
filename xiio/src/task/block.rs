//! The heap block of a task, with its type erased.

use std::alloc::Layout;
use std::cell::UnsafeCell;
use std::mem::{ManuallyDrop, offset_of};
use std::panic::Location;
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::task::{Context, Poll};

use super::pool;
use super::refs::{DONE, HANDLE, Header, OUTPUT, TaskRef};
use super::set::Core;
use crate::report::drop_safely;

/// A task: the header in front, then the work or what it gave.
#[repr(C)]
struct Block<F, M, T> {
    header: Header,
    stage: UnsafeCell<Stage<F, M, T>>,
}

/// Which of the two it is, the header's flags say: `OUTPUT`, or not `DONE`.
///
/// `repr(C)` puts both at the start; otherwise a union may put them elsewhere.
#[repr(C)]
union Stage<F, M, T> {
    work: ManuallyDrop<Work<F, M>>,
    output: ManuallyDrop<T>,
}

/// A future and what makes a task's value of its output; `None` is a failure.
struct Work<F, M> {
    future: F,
    finish: M,
}

/// What can be done with a task whose type is not known.
pub(super) struct VTable {
    /// Polls the future; if it has ended drops it and keeps the output for the handle.
    ///
    /// # Safety
    /// - On the home thread, inside the poll of the task's own set, not while the same task is being polled.
    /// - The task is not `DONE`.
    pub(super) poll: unsafe fn(NonNull<Header>, &mut Context<'_>) -> Step,
    /// Drops the future and marks the task as `DONE` before.
    ///
    /// # Safety
    /// As for `poll`, or inside the drop of the task's own set.
    pub(super) drop_future: unsafe fn(NonNull<Header>),
    /// Where the output is. Does not touch it.
    ///
    /// # Safety
    /// The block is alive.
    pub(super) output: unsafe fn(NonNull<Header>) -> NonNull<()>,
    /// Frees the memory and drops nothing.
    ///
    /// # Safety
    /// The task is `DONE`, and nothing counts the block any more. On any thread.
    pub(super) free: unsafe fn(NonNull<Header>),
}

/// What a poll of a task has come to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Pending,
    /// It has ended with a value.
    Value,
    /// It has ended without one, by itself.
    Failed,
    /// It was cancelled and has cleaned up.
    Unwound,
}

/// Makes the block of a task, counted by its set and its handle.
pub(super) fn allocate<F, M, T>(
    future: F,
    finish: M,
    core: NonNull<Core>,
    location: &'static Location<'static>,
) -> TaskRef
where
    F: Future,
    M: Fn(F::Output) -> Option<T>,
{
    let header = Header::new(&Block::<F, M, T>::VTABLE, core, location);
    let work = ManuallyDrop::new(Work { future, finish });
    let stage = UnsafeCell::new(Stage::<F, M, T> { work });
    let layout = Layout::new::<Block<F, M, T>>();
    let place = if pool::is_pooled(layout) { header.home.take_place(layout) } else { pool::allocate(layout) };
    let block = place.cast::<Block<F, M, T>>();
    // SAFETY: fresh memory of this very layout.
    unsafe { block.write(Block { header, stage }) };
    // SAFETY: `Block` is `repr(C)` with the header first, and the pointer is that of its whole memory. The header counts two
    // references from the start, the caller's.
    unsafe { TaskRef::new(block.cast()) }
}

/// What a task gave, while its future is dropped. If that panics the value is dropped in the middle of the unwinding,
/// where a second panic would abort.
struct Unclaimed<T>(Option<T>);

impl<T> Unclaimed<Option<T>> {
    fn claim(mut self) -> Option<T> {
        self.0.take().flatten()
    }
}

impl<T> Drop for Unclaimed<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(value) = self.0.take() {
            drop_safely(value);
        }
    }
}

impl<F: Future, M: Fn(F::Output) -> Option<T>, T> Block<F, M, T> {
    const VTABLE: VTable =
        VTable { poll: Self::poll, drop_future: Self::drop_future, output: Self::output, free: Self::free };

    /// The place of the future and the output.
    ///
    /// # Safety
    /// `header` is the start of a live block of this type.
    unsafe fn stage(header: NonNull<Header>) -> NonNull<Stage<F, M, T>> {
        let offset = offset_of!(Self, stage);
        // SAFETY: the block is alive, and its stage lies inside of it. An `UnsafeCell` has the layout of its content.
        unsafe { header.byte_add(offset) }.cast()
    }

    unsafe fn poll(header: NonNull<Header>, cx: &mut Context<'_>) -> Step {
        // SAFETY: the caller says that this is a live block.
        let task = unsafe { TaskRef::new(header) };
        // SAFETY: the block is of this type, its vtable says so.
        let stage = unsafe { Self::stage(header) };
        // SAFETY: the task is not done, so the stage is the work, and nobody else has a reference into it: polls are not
        // nested, and whoever drops it is the same poll or the set's drop.
        let work = unsafe { stage.cast::<Work<F, M>>().as_mut() };
        // SAFETY: the future stays in its block until it is dropped there.
        let future = unsafe { Pin::new_unchecked(&mut work.future) };
        // SAFETY: `owner` is touched by the set's poll only, and that is here.
        let owner = unsafe { &mut *task.header().owner.get() };
        let Poll::Ready(value) = owner.poll_in_shift(future, cx) else {
            return Step::Pending;
        };
        let finished = Unclaimed(Some(value.map(&work.finish)));
        // SAFETY: not done yet, inside the poll of the set; the references from above are not used any more.
        unsafe { Self::drop_future(header) };
        match finished.claim() {
            Some(Some(value)) => {
                if task.header().has(HANDLE) {
                    let output = ManuallyDrop::new(value);
                    // SAFETY: the future is gone, the place is free and of the block's own union type.
                    unsafe { stage.write(Stage { output }) };
                    task.header().set(OUTPUT);
                }
                Step::Value
            }
            Some(None) => Step::Failed,
            None => Step::Unwound,
        }
    }

    unsafe fn drop_future(header: NonNull<Header>) {
        // SAFETY: the caller says that this is a live block.
        let task = unsafe { TaskRef::new(header) };
        task.header().set(DONE);
        // SAFETY: the block is of this type.
        let stage = unsafe { Self::stage(header) };
        // SAFETY: it was not done, so the stage is the work; `DONE`, set before, keeps everybody from a second drop,
        // also if this one panics.
        unsafe { ptr::drop_in_place(stage.cast::<Work<F, M>>().as_ptr()) };
    }

    unsafe fn output(header: NonNull<Header>) -> NonNull<()> {
        // SAFETY: the block is alive and of this type.
        unsafe { Self::stage(header) }.cast()
    }

    unsafe fn free(header: NonNull<Header>) {
        let layout = Layout::new::<Self>();
        if pool::is_pooled(layout) {
            // SAFETY: the caller says that this is a live block.
            let home = unsafe { TaskRef::new(header) }.header().home;
            // SAFETY: it came from there, by the same test, and nobody uses it any more. Its fields need no drop: the union
            // has none, the set has taken what the header owned.
            unsafe { home.free_place(header.cast()) };
        } else {
            // SAFETY: as above, from the allocator.
            unsafe { pool::free(header.cast(), layout) };
        }
    }
}
