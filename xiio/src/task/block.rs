//! The heap block of a task, with its type erased.

use std::alloc::Layout;
use std::any::type_name;
use std::cell::UnsafeCell;
use std::mem::{ManuallyDrop, offset_of};
use std::panic::Location;
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::task::{Context, Poll};

use super::home::Home;
use super::pool;
use super::refs::{DONE, HANDLE, Header, OUTPUT, TaskRef};
use super::set::Core;
use crate::report::{Held, Origin, report_if_err, report_late_err};
use crate::unwind::{Owner, Whole};

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
#[repr(C)]
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
    /// Of the future, for drawings.
    pub(super) type_name: fn() -> &'static str,
    /// Where the stage is in the block.
    stage: usize,
    /// Of the whole block.
    layout: Layout,
    /// The memory is from the pool of the task's home.
    is_pooled: bool,
}

/// What a poll of a task has come to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It waits, and no node had joined its owner before this poll.
    Waiting,
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
    let vtable = &Block::<F, M, T>::VTABLE;
    let (home, tenant) = Home::and_tenant();
    let place = if vtable.is_pooled { home.take_place(vtable.layout) } else { pool::allocate(vtable.layout) };
    let block = place.cast::<Block<F, M, T>>();
    let header = Header::new(vtable, home, tenant, core, location);
    let work = ManuallyDrop::new(Work { future, finish });
    let stage = UnsafeCell::new(Stage::<F, M, T> { work });
    // SAFETY: fresh memory of this very layout.
    unsafe { block.write(Block { header, stage }) };
    // SAFETY: `Block` is `repr(C)` with the header first, and the pointer is that of its whole memory. The header counts two
    // references from the start, the caller's.
    unsafe { TaskRef::new(block.cast()) }
}

/// Makes the block that stands for the body of a set's group, with the set's core in the place of a future: as long as
/// somebody may wake the body there is something to point to. Counted once.
pub(super) fn allocate_core(core: Core) -> (TaskRef, NonNull<Core>) {
    let body = allocate(core, Some, NonNull::dangling(), Location::caller());
    body.header().unset(HANDLE);
    body.drop_handle_ref_early();
    // SAFETY: it was allocated right now. The future of a task lies at the start of its stage, all on the way is `repr(C)`.
    let core = unsafe { stage(body.as_ptr()) }.cast();
    body.header().core.set(core);
    (body, core)
}

/// Drops the core that lies in the block of `body`, and lets go of it.
///
/// # Safety
/// - `body` came from `allocate_core`, and was not ended before.
/// - Nobody uses the core any more.
pub(super) unsafe fn end_core(body: TaskRef) {
    // SAFETY: the caller says that the core, which is what this block has for a future, is not used; it is not done.
    unsafe { (body.header().vtable.drop_future)(body.as_ptr()) };
    body.drop_set_ref();
}

/// The start of a task's stage, where its future or its output is.
///
/// # Safety
/// `header` is the start of a live block.
#[inline]
pub(super) unsafe fn stage(header: NonNull<Header>) -> NonNull<()> {
    // SAFETY: the caller says that the block is alive.
    let offset = unsafe { header.as_ref() }.vtable.stage;
    // SAFETY: the stage lies inside of the block.
    unsafe { header.byte_add(offset) }.cast()
}

/// Frees the memory of a block, and drops nothing.
///
/// # Safety
/// The task is `DONE`, and nothing counts the block any more. On any thread.
#[inline]
pub(super) unsafe fn free(header: NonNull<Header>) {
    // SAFETY: the caller says that the block is still there.
    let Header { home, vtable, .. } = unsafe { header.as_ref() };
    if vtable.is_pooled {
        // SAFETY: it came from there, and nobody uses it any more. Its fields need no drop: the union
        // has none, the set has taken what the header owned.
        unsafe { home.free_place(header.cast()) };
    } else {
        // SAFETY: as above, from the allocator.
        unsafe { pool::free(header.cast(), vtable.layout) };
    }
}

impl<F: Future, M: Fn(F::Output) -> Option<T>, T> Block<F, M, T> {
    const VTABLE: VTable = VTable {
        poll: Self::poll,
        drop_future: Self::drop_future,
        type_name: type_name::<F>,
        stage: offset_of!(Self, stage),
        layout: Layout::new::<Self>(),
        is_pooled: pool::is_pooled(Layout::new::<Self>()),
    };

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
        if !owner.is_plain() {
            // SAFETY: the caller's contract is this one's.
            return unsafe { Self::poll_owned(task, owner, future, cx) };
        }
        match future.poll(cx) {
            Poll::Pending => Step::Waiting,
            // SAFETY: not done yet, inside the poll of the set; the references from above are not used any more.
            Poll::Ready(value) => unsafe { Self::end(header, Some(value), false) },
        }
    }

    /// Goes on with a poll where the owner has a scope.
    ///
    /// # Safety
    /// As for `poll`.
    #[inline(never)]
    unsafe fn poll_owned(task: TaskRef, owner: &mut Owner, future: Pin<&mut F>, cx: &mut Context<'_>) -> Step {
        let (polled, is_late) = if owner.is_unwinding() {
            Whole::of(&*future).poll(|| owner.poll(future, cx))
        } else {
            (owner.poll(future, cx), false)
        };
        match polled {
            Poll::Pending => Step::Pending,
            // SAFETY: as in `poll`.
            Poll::Ready(value) => unsafe { Self::end(task.as_ptr(), value, is_late) },
        }
    }

    /// Drops the future that has given `value`, or was unwound, and keeps the output for the handle. A value that is late was
    /// given after a cancellation that it does not undo: only its failure counts.
    ///
    /// A function of its own, so that a poll that ends pending has no registers to save for it.
    ///
    /// # Safety
    /// As for `drop_future`, in the poll of the task's own set.
    #[inline(never)]
    unsafe fn end(header: NonNull<Header>, value: Option<F::Output>, is_late: bool) -> Step {
        // SAFETY: the caller says that this is a live block.
        let task = unsafe { TaskRef::new(header) };
        // SAFETY: the block is of this type.
        let stage = unsafe { Self::stage(header) };
        // SAFETY: the task is not done, so the stage is the work. A reference to the whole of it would be one to the future, which may be
        // pending and in use by itself.
        let finish = unsafe { &(*stage.cast::<Work<F, M>>().as_ptr()).finish };
        // The drop of the future may panic.
        let mut finished = Held::new(value.map(finish));
        if matches!(finished.get(), Some(Some(None))) {
            task.header().has_failed.set(true);
        } else if is_late {
            if let Some(Some(Some(value))) = finished.get() {
                report_late_err(value, || format!("a task, {},", Origin::at(task.header().location)));
            }
            drop(finished.take());
        }
        // SAFETY: the caller's contract is this one's; the reference from above is not used any more.
        unsafe { Self::drop_future(header) };
        match finished.take().flatten() {
            Some(Some(value)) => {
                if task.header().has(HANDLE) {
                    let output = ManuallyDrop::new(value);
                    // SAFETY: the future is gone, the place is free and of the block's own union type.
                    unsafe { stage.write(Stage { output }) };
                    task.header().set(OUTPUT);
                } else {
                    report_if_err(&value, task.header().location);
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
}
