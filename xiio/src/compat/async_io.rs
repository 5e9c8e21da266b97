//! A xiio tree on the reactor of `async-io`, in whatever executor.

use std::future::{IntoFuture, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Instant;

use ::async_io::{Async, Timer};

use super::Embed;

/// Runs a future, and every xiio task under it, inside any executor, with the descriptors and deadlines watched by
/// `async-io`.
///
/// It stays on its thread, so it is awaited in `async_io::block_on` or in a local executor.
///
/// # Panics
/// With the panic of the future, when polled inside a xiio runtime, and when the system has no descriptors left for a
/// poller.
///
/// # Cancellation
/// When it is dropped, it drops the whole tree: destructors run, cleanup that awaits does not. To have that cleanup run,
/// put [`xiio::timeout`](crate::timeout) inside.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// let value = async_io::block_on(xiio::compat::on_async_io(async {
///     xiio::sleep(Duration::from_millis(1)).await;
///     7
/// }));
/// assert_eq!(value, 7);
/// ```
pub async fn on_async_io<F: IntoFuture>(future: F) -> F::Output {
    let mut tree = Embed::new(future).unwrap_or_else(|error| panic!("cannot start a runtime: {error}"));
    let readiness = watch(&tree).unwrap_or_else(|error| panic!("async-io cannot watch a xiio tree: {error}"));
    let mut timer = Timer::never();
    let mut timer_at: Option<Instant> = None;
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(value) = tree.turn(cx) {
                return Poll::Ready(value);
            }
            if timer_at != tree.next_deadline() {
                timer_at = tree.next_deadline();
                match timer_at {
                    Some(deadline) => timer.set_at(deadline),
                    None => timer = Timer::never(),
                }
            }
            if timer_at.is_some() && Pin::new(&mut timer).poll(cx).is_ready() {
                timer_at = None;
                continue;
            }
            // Level-triggered: it is ready as long as the tree has not looked.
            let looked = ready!(readiness.poll_readable(cx));
            looked.unwrap_or_else(|error| panic!("async-io watches a xiio tree no longer: {error}"));
        }
    })
    .await
}

fn watch<F: Future>(tree: &Embed<F>) -> io::Result<Async<OwnedFd>> {
    Async::new_nonblocking(tree.descriptor().try_clone_to_owned()?)
}
