//! The root of a tree, whatever its type: all that drives it is compiled once, and not for each future that somebody runs.

use std::ops::DerefMut;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::{Payload, panic_text};
use crate::recording;
use crate::report::going_on;
use crate::unwind::{self, Dropper, Owner};

/// What is polled by a loop.
pub(super) trait Root {
    /// Polls it; `Ready` when it has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Drops its future, whatever that holds. May panic.
    fn drop_future(&mut self);
}

/// A future as the root, and the value that it has ended with.
pub(super) struct RootOf<F: Future, P: DerefMut<Target = Option<F>>> {
    future: Pin<P>,
    owner: Owner,
    value: Option<F::Output>,
}

// The value is never pinned, so it has no say in whether the whole may move.
impl<F: Future, P: DerefMut<Target = Option<F>> + Unpin> Unpin for RootOf<F, P> {}

impl<F: Future, P: DerefMut<Target = Option<F>>> RootOf<F, P> {
    pub(super) fn new(future: Pin<P>) -> Self {
        Self { future, owner: Owner::default(), value: None }
    }

    pub(super) fn take_value(&mut self) -> Option<F::Output> {
        self.value.take()
    }

    /// Whether its future is gone.
    pub(super) fn is_over(&self) -> bool {
        self.future.is_none()
    }
}

impl<F: Future, P: DerefMut<Target = Option<F>>> Root for RootOf<F, P> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.owner.poll_slot(self.future.as_mut(), cx) {
            Poll::Ready(Some(value)) => {
                self.value = Some(value);
                Poll::Ready(())
            }
            // Who may cancel the whole does so inside of the root.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn drop_future(&mut self) {
        self.future.set(None);
    }
}

/// Drops a root that has panicked, and goes on with its panic.
#[cold]
pub(super) fn end_in_panic(root: &mut dyn Root, payload: Payload) -> ! {
    recording::reported(|| "Panic".into(), panic_text(&*payload));
    // Not in the middle of an unwinding, where a destructor that panics as well would abort.
    unwind::dropping(Dropper::Run, || going_on("a destructor panicked", || root.drop_future()));
    recording::poll_ended(0, &mut None, true);
    resume_unwind(payload)
}
