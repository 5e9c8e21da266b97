//! The handle of a task: waits for its output, asks for its cancellation.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::panic::Location;
use std::task::{Context, Poll};

use super::block;
use super::refs::{DONE, HANDLE, JOINED, OUTPUT, Owned, TAKEN, TaskRef};
use super::set::Core;
use crate::recording::Place;
use crate::report::{Held, Origin, report_if_err};
use crate::unwind;

/// Counts its task, and owns the output once there is one.
///
/// Not `Send`: the header's cells belong to the home thread.
pub(crate) struct Handle<T> {
    task: TaskRef,
    _output: PhantomData<T>,
}

impl<T> Handle<T> {
    /// # Safety
    /// - `task` has the output type `T`, counts a reference for this handle and has the flag `HANDLE`.
    /// - There is no other handle of it.
    pub(super) unsafe fn new(task: TaskRef) -> Self {
        let _output = PhantomData;
        Self { task, _output }
    }

    /// Whether the task has ended, with or without an output.
    pub(crate) fn is_done(&self) -> bool {
        self.task.header().has(DONE)
    }

    /// Whether the output was there, and was given away.
    pub(crate) fn is_taken(&self) -> bool {
        self.task.header().has(TAKEN)
    }

    pub(crate) fn location(&self) -> &'static Location<'static> {
        self.task.header().location
    }

    /// Without its name once it has ended.
    pub(crate) fn origin(&self) -> Origin {
        origin_of(self.task)
    }

    /// Whether the task is being polled right now: whoever asks is in it.
    pub(crate) fn is_around(&self) -> bool {
        with_core(self.task, |core| core.depth_if_polling(self.task).is_some()).unwrap_or(false)
    }

    /// Names the task in reports and in the tree.
    pub(crate) fn set_name(&self, name: Cow<'static, str>) {
        with_core(self.task, |core| core.set_name(self.task, name));
    }

    /// Waits for the task's end. Its output stays in its block.
    pub(crate) fn poll_done(&self, cx: &mut Context<'_>) -> Poll<()> {
        let header = self.task.header();
        if header.has(DONE) {
            return Poll::Ready(());
        }
        let before = header.joiner.take();
        if let Some(before) = before.filter(|before| before.will_wake(cx.waker())) {
            header.joiner.set(Some(before));
            return Poll::Pending;
        }
        let waker = Box::new(cx.waker().clone());
        if header.has(DONE) {
            // The clone, which is user code, has ended the task.
            return Poll::Ready(());
        }
        header.joiner.set(Some(waker));
        header.set(JOINED);
        Poll::Pending
    }

    /// Whoever awaits it was refused, and did not come to [`Handle::poll_done`].
    #[cold]
    pub(crate) fn note_refused(&self) {
        let header = self.task.header();
        if !header.has(JOINED) && unwind::reach("task") {
            header.set(JOINED);
        }
    }

    /// The output, if it is there and was not taken before.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<T> {
        let header = self.task.header();
        if !header.has(OUTPUT) {
            return None;
        }
        header.unset(OUTPUT);
        header.set(TAKEN);
        // SAFETY: the handle counts the block.
        let output = unsafe { block::stage(self.task.as_ptr()) };
        // SAFETY: `OUTPUT` said that a `T` is there, and with the flag gone nobody reads or drops it again.
        Some(unsafe { output.cast::<T>().read() })
    }

    /// Asks the set to cancel the task when it is polled next.
    pub(crate) fn cancel(&self, place: Place) {
        cancel(self.task, place);
    }

    /// The right to cancel the task, and no more.
    pub(crate) fn canceller(&self) -> Canceller {
        self.task.clone_ref();
        Canceller { task: self.task }
    }
}

/// Calls `look` with the set of a task that has not ended.
pub(super) fn with_core<R>(task: TaskRef, look: impl FnOnce(&Core) -> R) -> Option<R> {
    let header = task.header();
    if header.has(DONE) {
        return None;
    }
    // SAFETY: the task is not done, so its set is alive. `look` runs no code of the user that may end it, but for a subscriber of
    // `tracing` in `doom_one` and `set_name`, and the waker of whoever polls the set in `doom_one`. They do not touch it afterwards.
    Some(look(unsafe { header.core.get().as_ref() }))
}

/// What a report calls a task; without its name once it has ended.
pub(super) fn origin_of(task: TaskRef) -> Origin {
    let name = with_core(task, |core| core.name_of(task)).flatten();
    Origin { name, ..Origin::at(task.header().location) }
}

fn cancel(task: TaskRef, place: Place) {
    with_core(task, |core| {
        if let Some(depth) = core.depth_if_polling(task) {
            unwind::freeze(depth);
        }
        core.doom_one(task, place);
    });
}

/// Counts its task, and may cancel it. Knows nothing of the output.
///
/// Not `Send`: the header's cells belong to the home thread.
pub(crate) struct Canceller {
    task: TaskRef,
}

impl Canceller {
    /// Whether the task has ended, with or without an output.
    pub(crate) fn is_done(&self) -> bool {
        self.task.header().has(DONE)
    }

    pub(crate) fn location(&self) -> &'static Location<'static> {
        self.task.header().location
    }

    /// Asks the set to cancel the task when it is polled next.
    pub(crate) fn cancel(&self, place: Place) {
        cancel(self.task, place);
    }
}

impl Clone for Canceller {
    fn clone(&self) -> Self {
        self.task.clone_ref();
        Self { task: self.task }
    }
}

impl Drop for Canceller {
    fn drop(&mut self) {
        self.task.drop_ref();
    }
}

impl<T> Drop for Handle<T> {
    #[inline]
    fn drop(&mut self) {
        let header = self.task.header();
        header.unset(HANDLE);
        if header.has(DONE | JOINED) {
            self.drop_late();
        } else {
            self.task.drop_handle_ref_early();
        }
    }
}

impl<T> Handle<T> {
    /// The end of a handle that may have something to drop besides its reference.
    #[cold]
    fn drop_late(&mut self) {
        // What is dropped may be user code that panics; the reference is given back all the same, and last.
        let _owned = Owned(self.task);
        let output = self.take().map(Held::new);
        if let Some(output) = output.as_ref().and_then(Held::get) {
            report_if_err(output, self.location());
        }
        drop(output);
        let header = self.task.header();
        header.unset(JOINED);
        drop(header.joiner.take().map(Held::new));
    }
}
