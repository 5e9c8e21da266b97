//! A future that cannot be cut off.

use std::future::IntoFuture;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::pin::Pinned;
use crate::runtime::may_begin;
use crate::unwind::{Duty, Node, Owner};

/// Runs a future to its end, whatever happens to the task around it.
///
/// Once it has been polled, a cancellation of the task waits for it: the future and all that it started run on as usual,
/// its value is dropped, and the code after it does not run.
///
/// # Cancellation
/// Before its first poll it is dropped like anything else. Afterwards it is cut off only by the `grace` of a group, and
/// when it is dropped by other code than xiio's. Either is reported.
///
/// # Examples
/// ```
/// use std::{cell::Cell, time::Duration};
/// use xiio::{shield, sleep, timeout};
///
/// let saved = Cell::new(false);
/// xiio::run(async {
///     let save = async {
///         shield(async { sleep(Duration::from_millis(20)).await; saved.set(true) }).await;
///         unreachable!("cancelled code does not run on");
///     };
///     let _: Result<(), _> = timeout(Duration::from_millis(1), save).await;
/// });
/// assert!(saved.get());
/// ```
#[doc(alias("uncancellable"))]
#[track_caller]
pub fn shield<F: IntoFuture>(future: F) -> impl Future<Output = F::Output> {
    let node = Node::of_cleanup("shield", Location::caller());
    Pinned::new(future.into_future(), Shield { owner: Owner::default(), node })
}

/// An owner that nobody cancels.
struct Shield {
    owner: Owner,
    node: Node,
}

impl<F: Future> Future for Pinned<F, Shield> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let (slot, Shield { owner, node }) = self.project();
        match node.duty(cx, may_begin) {
            Duty::Wait => Poll::Pending,
            Duty::Run => match owner.poll_slot(slot, cx) {
                Poll::Ready(Some(value)) => {
                    node.leave();
                    Poll::Ready(value)
                }
                Poll::Ready(None) => panic!("`shield` was polled after it had ended"),
                Poll::Pending => {
                    node.hold(cx, true);
                    Poll::Pending
                }
            },
            Duty::Unwind => {
                node.clean_up(cx, |cx| owner.poll_slot(slot, cx).map(drop));
                Poll::Pending
            }
        }
    }
}
