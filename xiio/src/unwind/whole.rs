//! A future that is all there is of a task: no code stands behind it, so its value can travel where the task was cancelled.

use std::any::type_name;
use std::cell::Cell;

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
