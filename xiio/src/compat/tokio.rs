//! A xiio tree inside a tokio runtime.

use std::future::{IntoFuture, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use ::tokio::io::Interest;
use ::tokio::io::unix::AsyncFd;
use ::tokio::time::{self, Sleep};

use super::Embed;

/// Runs a future, and every xiio task under it, inside a tokio runtime.
///
/// It stays on its thread, so it is awaited in [`tokio::task::LocalSet`], in a current-thread runtime, or as the argument of
/// `Runtime::block_on`. Inside, everything of xiio works, and futures of tokio work as well: their runtime is around. Time is
/// xiio's own: a clock of tokio's that is paused changes nothing for its sleeps.
///
/// # Panics
/// With the panic of the future; when polled outside of a tokio runtime, or in one without `enable_io` and `enable_time`; and inside a
/// xiio runtime.
///
/// # Cancellation
/// Dropped by tokio (a `select!`, a `timeout`, an aborted task), it drops the whole tree: destructors run, cleanup that
/// awaits does not. Put [`xiio::timeout`](crate::timeout) inside to have it run.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
/// let value = runtime.block_on(xiio::compat::on_tokio(async {
///     xiio::task_group!(|tg| {
///         tg.spawn(xiio::sleep(Duration::from_millis(2)));
///         tg.spawn(tokio::time::sleep(Duration::from_millis(1)));
///     });
///     7
/// }));
/// assert_eq!(value, 7);
/// # std::io::Result::Ok(())
/// ```
///
/// # Source
/// `xiio.on_asyncio` in the Python original.
pub async fn on_tokio<F: IntoFuture>(future: F) -> F::Output {
    let mut tree = Embed::new(future).unwrap_or_else(|error| panic!("cannot start a runtime: {error}"));
    let readiness = watch(&tree).unwrap_or_else(|error| panic!("tokio cannot watch a xiio tree: {error}"));
    let mut timer = pin!(time::sleep_until(time::Instant::now()));
    poll_fn(|cx| {
        loop {
            note_readiness(&readiness, cx);
            if let Poll::Ready(value) = tree.turn(cx) {
                return Poll::Ready(value);
            }
            ready!(poll_deadline(timer.as_mut(), tree.next_deadline(), cx));
        }
    })
    .await
}

#[allow(deprecated, reason = "its successor is unsafe and asks for a descriptor that stays open, as an `OwnedFd` does")]
fn watch<F: Future>(tree: &Embed<F>) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(tree.descriptor().try_clone_to_owned()?, Interest::READABLE)
}

/// Takes the readiness that tokio has seen so far, and asks to be woken at the next. The turn afterwards deals with it.
fn note_readiness(readiness: &AsyncFd<OwnedFd>, cx: &mut Context<'_>) {
    while let Poll::Ready(Ok(mut guard)) = readiness.poll_read_ready(cx) {
        guard.clear_ready();
    }
}

/// `Ready` when the deadline has come; asks to be woken then otherwise.
fn poll_deadline(mut timer: Pin<&mut Sleep>, deadline: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
    let Some(deadline) = deadline else { return Poll::Pending };
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Poll::Ready(());
    }
    if timer.deadline() != time::Instant::from_std(deadline) || timer.is_elapsed() {
        timer.as_mut().reset(time::Instant::from_std(deadline));
    }
    if timer.poll(cx).is_ready() {
        // A clock of tokio's own that is ahead: paused in a test, say.
        cx.waker().wake_by_ref();
    }
    Poll::Pending
}
