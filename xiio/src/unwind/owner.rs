//! The one who polls a future and may cancel it.

use std::panic::resume_unwind;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::current::{Shift, under};
use super::scope::{Pass, Scope};
use crate::error::Payload;
use crate::report::{Undelivered, report_replaced};

/// Polls one future and may cancel it. One word; nothing is allocated before a node joins.
///
/// The future itself stays with the caller, who hands it in at each poll and drops it when told to.
#[derive(Default)]
pub(crate) struct Owner {
    scope: Option<Rc<Scope>>,
}

/// What a cancellation asks of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Cancel {
    /// Nothing to clean up: drop the future now.
    Drop,
    /// Poll on until [`Owner::poll`] is ready.
    PollOn,
}

impl Owner {
    /// Polls the future under this owner's scope.
    ///
    /// `Ready(Some(value))`: it has ended by itself. `Ready(None)`: it was cancelled and everything in it that could
    /// be reached has cleaned up; drop it. In both cases it must not be polled again.
    #[inline]
    pub(crate) fn poll<F: Future + ?Sized>(
        &mut self,
        future: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<F::Output>> {
        if self.is_unwinding() {
            return self.poll_unwinding(future, cx);
        }
        let _under = under(&mut self.scope);
        future.poll(cx).map(Some)
    }

    /// Keeps the scope that the poll of a future has made, if it has made one: one that was polled directly, where all was
    /// [plain](super::is_plain) and this owner too, which is as good as [`Owner::poll`] and costs nothing.
    #[inline]
    pub(crate) fn end_poll(&mut self) {
        if let made @ Some(_) = Shift::take_scope() {
            self.scope = made;
        }
    }

    #[cold]
    fn poll_unwinding<F: Future + ?Sized>(
        &mut self,
        future: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<F::Output>> {
        // It ends with this pass, by a panic as well, unless that has to go on.
        let unwinding = self.scope.as_ref().and_then(|scope| scope.take_unwinding());
        let watching = self.scope.as_ref().and_then(|scope| scope.watching_waker(cx.waker()));
        let polled = {
            let _under = under(&mut self.scope);
            match &watching {
                None => future.poll(cx),
                Some(waker) => future.poll(&mut Context::from_waker(waker)),
            }
        };
        let ended = match polled {
            // It has finished before its cancellation took effect.
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => self.judge_pass(cx).map(|()| None),
        };
        if let Some(scope) = self.scope.as_ref().filter(|_| ended.is_pending()) {
            scope.keep_unwinding(unwinding);
        }
        ended
    }

    /// Whether a future that is still pending has cleaned up all that could be reached in it.
    #[cold]
    fn judge_pass(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.scope.as_ref().map_or(Pass::Done, |scope| scope.judge_pass(cx)) {
            Pass::Cleaning => Poll::Pending,
            Pass::Again => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Pass::Done => Poll::Ready(()),
        }
    }

    /// [`Owner::poll`] for a future in a slot, which is empty afterwards if the future has ended.
    ///
    /// # Panics
    /// With the first panic of a cleanup, once the future is gone.
    #[inline]
    pub(crate) fn poll_slot<F: Future>(
        &mut self,
        mut slot: Pin<&mut Option<F>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<F::Output>> {
        let Some(future) = slot.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let ended = Undelivered::new(ready!(self.poll(future, cx)), |value| value.iter().for_each(report_replaced));
        slot.set(None);
        self.throw_panic();
        Poll::Ready(ended.deliver())
    }

    /// Begins to cancel the future in a slot, which is empty afterwards if it had nothing to clean up.
    pub(crate) fn cancel_slot<F: Future>(&mut self, mut slot: Pin<&mut Option<F>>) {
        if slot.is_some() && self.cancel() == Cancel::Drop {
            slot.set(None);
        }
    }

    /// Begins to cancel. Calling it again changes nothing.
    pub(crate) fn cancel(&mut self) -> Cancel {
        match &self.scope {
            Some(scope) if scope.is_unwinding() => Cancel::PollOn,
            Some(scope) if !scope.is_empty() => {
                scope.begin_unwind();
                Cancel::PollOn
            }
            _ => Cancel::Drop,
        }
    }

    pub(crate) fn is_unwinding(&self) -> bool {
        self.scope.as_ref().is_some_and(|scope| scope.is_unwinding())
    }

    /// Whether a cancellation would have something to clean up.
    #[inline]
    pub(crate) fn holds(&self) -> bool {
        self.scope.as_ref().is_some_and(|scope| !scope.is_empty())
    }

    /// Whether no node has ever joined, so that there is nothing to drop.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.scope.is_none()
    }

    pub(crate) fn take_panic(&mut self) -> Option<Payload> {
        self.scope.as_ref().and_then(|scope| scope.take_panic())
    }

    fn throw_panic(&mut self) {
        if let Some(payload) = self.take_panic() {
            resume_unwind(payload);
        }
    }
}
