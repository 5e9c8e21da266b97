//! Futures of other crates that give way like xiio's own.

use std::future::IntoFuture;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::pin::Pinned;
use crate::runtime::poll_budgeted;

/// Lets a future of another crate give way as xiio's own do.
///
/// A task that awaits what is ready goes on at once. So a loop over a full channel could keep its siblings, and any limit of
/// time around it, waiting for ever. xiio's futures count how often they were ready, and let the others have their turn in
/// between. A future of another crate does so only when it is wrapped. Gives the output of the future.
///
/// # Panics
/// When polled after it has ended.
///
/// # Cancellation
/// As the future. So it does not stop cancelled code that a foreign combinator runs on, where xiio's own futures do.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use futures::{StreamExt, channel::mpsc};
/// use xiio::{cooperative, timeout};
///
/// let (sender, mut receiver) = mpsc::unbounded();
/// xiio::run(async {
///     let consume = async {
///         loop {
///             // The channel is never empty when it is asked, and yet the time limit is noticed.
///             sender.unbounded_send(1).unwrap();
///             cooperative(receiver.next()).await.unwrap();
///         }
///     };
///     let elapsed: Result<(), _> = timeout(Duration::from_millis(5), consume).await;
///     assert!(elapsed.is_err());
/// });
/// ```
pub fn cooperative<F: IntoFuture>(future: F) -> impl Future<Output = F::Output> {
    Pinned::new(future.into_future(), Cooperative)
}

struct Cooperative;

impl<F: Future> Future for Pinned<F, Cooperative> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let (mut slot, Cooperative) = self.project();
        let polled = poll_budgeted(cx, |cx| match slot.as_mut().as_pin_mut() {
            Some(future) => future.poll(cx),
            None => panic!("`cooperative` was polled after it had ended"),
        });
        if polled.is_ready() {
            slot.set(None);
        }
        polled
    }
}
