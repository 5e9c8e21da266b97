//! A future that is polled beside others in one task, and may be cancelled while they go on.

use std::pin::Pin;
use std::task::{Context, Poll};

use super::{Duty, Node, Owner};
use crate::pin::Pinned;
use crate::report::report_in_pass;

/// An owner for one future, of which whoever polls it says when it is cancelled.
pub(crate) struct Cancellable {
    owner: Owner,
    node: Node,
}

/// A future that is [`Cancellable`]. `None` says that it was cancelled and has cleaned up.
pub(crate) fn cancellable<F: Future>(label: &'static str, future: F) -> Pinned<F, Cancellable> {
    Pinned::new(future, Cancellable { owner: Owner::default(), node: Node::new(label) })
}

impl<F: Future> Pinned<F, Cancellable> {
    /// Begins to cancel it. It is to be polled until it is ready.
    pub(crate) fn cancel(self: Pin<&mut Self>) {
        let (slot, state) = self.project();
        state.owner.cancel_slot(slot);
    }
}

impl<F: Future> Future for Pinned<F, Cancellable> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (slot, Cancellable { owner, node }) = self.project();
        match node.duty(cx, |_| true) {
            Duty::Wait => Poll::Pending,
            Duty::Run => {
                let polled = owner.poll_slot(slot, cx);
                node.hold(cx, polled.is_pending() && owner.holds());
                polled
            }
            Duty::Unwind => {
                let label = node.label();
                node.clean_up_slot(slot, cx, |mut slot, cx| {
                    owner.cancel_slot(slot.as_mut());
                    owner.poll_slot(slot, cx).map(|late| drop(late.inspect(|value| report_in_pass(value, label))))
                });
                Poll::Pending
            }
        }
    }
}
