//! The waker of a task: a pointer to its header that is counted.

use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::task::{RawWaker, RawWakerVTable, Waker};

use super::refs::{DONE, Owned, QUEUED, RECORDED, TaskRef};
use crate::recording;
use crate::sync::Ordering;

static TASK: RawWakerVTable = RawWakerVTable::new(
    |data| {
        task_of(data).clone_ref();
        RawWaker::new(data, &TASK)
    },
    |data| {
        // Given back also when a waker further up panics.
        let _owned = Owned(task_of(data));
        wake(task_of(data));
    },
    |data| wake(task_of(data)),
    |data| task_of(data).drop_ref(),
);

fn task_of(data: *const ()) -> TaskRef {
    // SAFETY: only called with the data of a waker whose vtable is `TASK`, which is never null.
    let header = unsafe { NonNull::new_unchecked(data.cast_mut().cast()) };
    // SAFETY: `borrowed` made the data from a `TaskRef`; the waker counts the block, or borrows from one that does.
    unsafe { TaskRef::new(header) }
}

/// A waker that is not counted, for the time of one poll.
#[inline]
pub(super) fn borrowed(task: TaskRef) -> ManuallyDrop<Waker> {
    // SAFETY: the functions of `TASK` do what `RawWaker` asks of them, on any thread: `TaskRef` counts and `wake` posts
    // from other threads. `ManuallyDrop` keeps the reference that was never counted from being given back.
    ManuallyDrop::new(unsafe { Waker::new(task.as_ptr().as_ptr().cast_const().cast(), &TASK) })
}

/// The task that `waker` is of.
#[inline]
pub(super) fn of_task(waker: &Waker) -> Option<TaskRef> {
    ptr::eq(waker.vtable(), &raw const TASK).then(|| task_of(waker.data()))
}

/// Whether `waker` is that of a task of this thread that has ended, and so wakes nobody.
pub(crate) fn is_of_ended_task(waker: &Waker) -> bool {
    of_task(waker).is_some_and(|task| task.header().is_at_home() && task.header().has(DONE))
}

#[inline]
fn wake(task: TaskRef) {
    let header = task.header();
    if header.is_at_home() {
        wake_at_home(task);
    } else if !header.is_posted.swap(true, Ordering::AcqRel) {
        header.home.post(task);
    }
}

/// Puts a task into its set's ready queue, and whoever polls that set into theirs, up to the root.
#[inline]
pub(super) fn wake_at_home(task: TaskRef) {
    if task.header().has(QUEUED | DONE | RECORDED) {
        return wake_noted(task);
    }
    if let Some(parent) = enqueue(task) {
        wake_ancestors(parent);
    }
}

/// [`wake_at_home`] of a task that is recorded, or needs no wake.
#[cold]
fn wake_noted(task: TaskRef) {
    if !task.header().has(QUEUED | DONE) {
        recording::woken(task.key());
        wake_ancestors(task);
    }
}

/// Puts a task into its queue for something that has happened below it, and so on up to the root.
///
/// A loop and not a recursion: groups may be nested deeper than the stack.
#[cold]
pub(super) fn wake_ancestors(mut task: TaskRef) {
    while !task.header().has(QUEUED | DONE) {
        match enqueue(task) {
            Some(parent) => task = parent,
            None => return,
        }
    }
}

/// Puts a task that is not there into its set's ready queue; gives the task one level up if that has to be woken for it.
#[inline]
fn enqueue(task: TaskRef) -> Option<TaskRef> {
    let header = task.header();
    debug_assert!(header.is_at_home() && !header.has(QUEUED | DONE));
    header.set(QUEUED);
    // SAFETY: the task is not done, so its set is alive: a set retires every task before it is freed, and one that is
    // leaked is there for ever.
    let core = unsafe { header.core.get().as_ref() };
    core.ready.push(task);
    core.mark()
}
