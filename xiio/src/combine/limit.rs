//! Futures that are cancelled on their own: by a clock, or only with their task.

use std::future::IntoFuture;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::drawing::{self, Kind, State};
use crate::error::Elapsed;
use crate::pin::Pinned;
use crate::recording::{self, Why};
use crate::report::report_in_pass;
use crate::runtime::{Runtime, may_begin};
use crate::time::{Limit, left, now};
use crate::unwind::{self, BRANCH, Duty, Node, Owner};

/// Runs a future for at most `limit`, counted from the call; `None` is no limit.
///
/// When the time is over the future is cancelled: it unwinds, cleanup included, and `timeout` returns afterwards. Nested
/// limits each give their own [`Elapsed`].
///
/// # Errors
/// [`Elapsed`] when the future had not finished in time. A future that finishes in the round in which the time is over,
/// or before its cancellation took effect, has finished; its value counts. If the limit is over at the start, such as a
/// limit of zero, the future is still polled once. So a future that is ready at once gives its value.
///
/// # Panics
/// When polled outside of a runtime, and when the future was cancelled before (`loop { timeout(d, &mut f).await }` works as
/// long as `f` holds nothing to clean up).
///
/// # Cancellation
/// Passed on to the future; whoever cancels waits for its cleanup.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use xiio::{sleep, timeout};
///
/// xiio::run(async {
///     let slow = async { sleep(Duration::from_secs(10)).await; "slow" };
///     assert!(timeout(Duration::from_millis(5), slow).await.is_err());
///     assert_eq!(timeout(None, async { "fast" }).await, Ok("fast"));
/// });
/// ```
///
/// # Source
/// `xiio.timeout` in the Python original, where it is a block.
pub fn timeout<F: IntoFuture>(
    limit: impl Into<Option<Duration>>,
    future: F,
) -> impl Future<Output = Result<F::Output, Elapsed>> {
    // What lies beyond the clock's range is no limit.
    let at = limit.into().and_then(|limit| now().checked_add(limit));
    Pinned::new(future.into_future(), TimeLimit::new("timeout", at))
}

/// Runs a future until `at` at the latest, see [`timeout`].
///
/// # Errors
/// As [`timeout`].
///
/// # Panics
/// As [`timeout`].
///
/// # Cancellation
/// As [`timeout`].
///
/// # Examples
/// ```
/// use std::time::Instant;
///
/// let late = xiio::run(xiio::deadline(Instant::now(), std::future::pending::<()>()));
/// assert!(late.is_err());
/// ```
pub fn deadline<F: IntoFuture>(
    at: impl Into<Option<Instant>>,
    future: F,
) -> impl Future<Output = Result<F::Output, Elapsed>> {
    let at = at.into();
    if at.is_some() {
        Runtime::look(Runtime::look_at_clock);
    }
    Pinned::new(future.into_future(), TimeLimit::new("deadline", at))
}

/// Makes a future safe to use in a combinator of another library, such as `futures::join!` or `FuturesUnordered`.
///
/// While one branch of such a combinator cleans up, the combinator still polls the others. A branch that waits for a
/// future of another library would then go on. A wrapped branch does not: it is dropped or unwound by itself.
///
/// # Cancellation
/// Passed on to the future; whoever cancels waits for its cleanup. Dropped by the combinator (as `select!` drops the losers), it
/// gets its destructors and no cleanup that awaits; [`race!`](crate::race!) is the answer there.
///
/// # Examples
/// ```
/// let (one, two) = xiio::run(async {
///     futures::join!(xiio::branch(async { 1 }), xiio::branch(async { 2 }))
/// });
/// assert_eq!((one, two), (1, 2));
/// ```
pub fn branch<F: IntoFuture>(future: F) -> impl Future<Output = F::Output> {
    Pinned::new(future.into_future(), Branch(TimeLimit::new(BRANCH, None)))
}

/// An owner for one future, and when it cancels it.
struct TimeLimit {
    owner: Owner,
    node: Node,
    limit: Limit,
    is_over: bool,
}

struct Branch(TimeLimit);

impl TimeLimit {
    fn new(label: &'static str, at: Option<Instant>) -> Self {
        Self { owner: Owner::default(), node: Node::new(label), limit: Limit::at(at), is_over: false }
    }

    fn poll<F: Future>(&mut self, slot: Pin<&mut Option<F>>, cx: &mut Context<'_>) -> Poll<Result<F::Output, Elapsed>> {
        let _around = unwind::draw_around(|| self.describe());
        match self.node.duty(cx, may_begin) {
            Duty::Wait => Poll::Pending,
            Duty::Run => {
                let result = self.poll_running(slot, cx);
                let holds = result.is_pending() && self.owner.holds();
                self.node.hold(cx, holds);
                result
            }
            Duty::Unwind => {
                let Self { node, owner, .. } = self;
                let label = node.label();
                node.clean_up_slot(slot, cx, |mut slot, cx| {
                    owner.cancel_slot(slot.as_mut());
                    owner.poll_slot(slot, cx).map(|late| drop(late.inspect(|value| report_in_pass(value, label))))
                });
                Poll::Pending
            }
        }
    }

    fn describe(&self) -> drawing::Node {
        let (end, state) = (self.limit.instant(), unwind::state());
        let kind = if end.is_some() { Kind::Limit } else { Kind::Branch };
        let node = drawing::Node::new(kind, self.node.label()).in_state(state);
        match state {
            _ if self.is_over => node.cancelled_as("its time is over"),
            // What cleans up has no limit any more.
            State::CleaningUp => node,
            _ => node.has_left(left(end)),
        }
    }

    fn poll_running<F: Future>(
        &mut self,
        mut slot: Pin<&mut Option<F>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<F::Output, Elapsed>> {
        // It has had its result before, or the panic of its cleanup.
        self.is_over &= slot.is_some();
        loop {
            let polled = {
                let _under_limit = self.limit.cover(!self.is_over);
                self.owner.poll_slot(slot.as_mut(), cx)
            };
            match polled {
                Poll::Ready(Some(value)) => {
                    // Polled once more it has no result.
                    self.is_over = false;
                    return Poll::Ready(Ok(value));
                }
                Poll::Ready(None) if mem::take(&mut self.is_over) => return Poll::Ready(Err(Elapsed)),
                Poll::Ready(None) => panic!("`{}` was polled after it had ended", self.node.label()),
                Poll::Pending if self.is_over || !unwind::may_cancel(cx) => return Poll::Pending,
                Poll::Pending if !self.limit.poll_over(cx) => return Poll::Pending,
                Poll::Pending => {
                    self.is_over = true;
                    if recording::is_on() {
                        recording::cancelled(None, Why::LimitInside, None);
                    }
                    self.owner.cancel_slot(slot.as_mut());
                }
            }
        }
    }
}

impl<F: Future> Future for Pinned<F, TimeLimit> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (slot, limit) = self.project();
        limit.poll(slot, cx)
    }
}

impl<F: Future> Future for Pinned<F, Branch> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let (slot, Branch(limit)) = self.project();
        limit.poll(slot, cx).map(|result| result.unwrap_or_else(|_| unreachable!("a branch has no time limit")))
    }
}
