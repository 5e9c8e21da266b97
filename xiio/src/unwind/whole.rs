//! A future that is all there is of a task: no code stands behind it, so its value can travel where the task was cancelled.

use std::any::type_name;
use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::current::is_unwinding;
use crate::pin::Pinned;

/// Where a future is, and of which type: what wraps it may be at the same place, and has another type.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whole {
    place: *const (),
    name: &'static str,
}

thread_local! {
    /// The task that cleans up in this very poll.
    static WHOLE: Cell<Option<Whole>> = const { Cell::new(None) };
    static IS_LATE: Cell<bool> = const { Cell::new(false) };
}

impl Whole {
    pub(crate) fn of<F>(future: &F) -> Self {
        Self { place: std::ptr::from_ref(future).cast(), name: type_name::<F>() }
    }

    /// Polls the cancelled task that this is all of; says whether its value is a late one.
    pub(crate) fn poll<R>(self, poll: impl FnOnce() -> R) -> (R, bool) {
        struct Restore(Option<Whole>);
        impl Drop for Restore {
            fn drop(&mut self) {
                WHOLE.set(self.0);
                IS_LATE.set(false);
            }
        }
        let _restore = Restore(WHOLE.replace(Some(self)));
        (poll(), IS_LATE.take())
    }

    /// Whether this is all of a cancelled task. Then the value that its poll gives next is a late one: the task was cancelled
    /// all the same, and only a failure counts.
    pub(crate) fn gives_late(self) -> bool {
        let is_whole = WHOLE.get() == Some(self);
        IS_LATE.set(is_whole);
        is_whole
    }
}

/// What all there is of a task has given.
pub(crate) struct Given<T> {
    pub(crate) value: T,
    /// Its task was cancelled all the same.
    pub(crate) is_late: bool,
}

/// A future that is all there is of a task which something else polls: whoever awaits it does nothing but hand on what it gives.
pub(crate) struct AllThereIs;

impl AllThereIs {
    pub(crate) fn of<F>(future: F) -> Pinned<F, Self> {
        Pinned::new(future, Self)
    }
}

impl<F: Future> Future for Pinned<F, AllThereIs> {
    type Output = Given<F::Output>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (slot, AllThereIs) = self.project();
        let Some(future) = slot.as_pin_mut() else { unreachable!("it is there until it is dropped") };
        if !is_unwinding() {
            return future.poll(cx).map(|value| Given { value, is_late: false });
        }
        let (polled, is_late) = Whole::of(&*future).poll(|| future.poll(cx));
        polled.map(|value| Given { value, is_late })
    }
}
