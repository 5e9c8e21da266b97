//! Futures on their way into tasks, each in one place at a time.
//!
//! An `async` block holds what it captures until its end, and beside it what it awaits or has moved to a variable. So a future that
//! one block after the other takes is held by each, and nested combinators hold it 2ⁿ times.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::pin::Pinned;
use crate::report::{Held, Undelivered, report_replaced};

/// What the body of a group is to spawn. The function around holds it, and the body only borrows it.
pub(super) struct Unspawned<F>(Held<F>);

impl<F> Unspawned<F> {
    pub(super) fn new(future: F) -> Self {
        Self(Held::new(future))
    }

    pub(super) fn take(&mut self) -> F {
        self.0.take().unwrap_or_else(|| unreachable!("a body begins once"))
    }
}

/// Runs a future, and gives what `end` makes of its output.
pub(super) fn then<F, E, T>(future: F, end: E) -> impl Future<Output = T>
where
    F: Future,
    E: FnOnce(F::Output) -> T,
{
    Pinned::new(future, Then(Some(end)))
}

struct Then<E>(Option<E>);

impl<F, E, T> Future for Pinned<F, Then<E>>
where
    F: Future,
    E: FnOnce(F::Output) -> T,
{
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let (mut slot, Then(end)) = self.project();
        let Some(future) = slot.as_mut().as_pin_mut() else { unreachable!("a future is not polled after its end") };
        let output = Undelivered::new(ready!(future.poll(cx)), report_replaced);
        // As an `await` does it: the future is gone before the output is used.
        slot.set(None);
        let Some(end) = end.take() else { unreachable!("a future ends once") };
        Poll::Ready(end(output.deliver()))
    }
}
