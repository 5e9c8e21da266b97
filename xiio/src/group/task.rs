//! The handle of a task.

use std::borrow::Cow;
use std::fmt;
use std::future::poll_fn;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::error::Cancelled;
use crate::recording::Place;
use crate::runtime::poll_leaf;
use crate::task::{CancellerRef, Handle, may_be_cancelled_next};

/// A task of a group, to be awaited for its output.
///
/// It is itself a future. Dropping it changes nothing: the task runs on and its group waits for it. In a
/// [`TryTaskGroup`](crate::TryTaskGroup) `T` is the `Ok` type; an error is the group's.
///
/// # Panics
/// Awaiting it panics when the task was cancelled or failed; [`Task::outcome`] gives a `Result` instead. The output is
/// given once: awaiting it again panics, too.
///
/// # Cancellation
/// Cancelling the code that awaits it does not cancel the task.
///
/// # Examples
/// ```
/// let sum = xiio::run(async {
///     xiio::task_group!(|tg| {
///         let one = tg.spawn(async { 1 });
///         let two = tg.spawn(async { 2 });
///         one.await + two.await
///     })
/// });
/// assert_eq!(sum, 3);
/// ```
#[doc(alias("JoinHandle", "AbortHandle"))]
pub struct Task<T> {
    /// `None` for a task that was refused because its group had ended.
    handle: Option<Handle<T>>,
}

impl<T> Task<T> {
    pub(super) fn new(handle: Option<Handle<T>>) -> Self {
        Self { handle }
    }

    /// The task under a name, in reports and in the tree.
    pub(super) fn named(self, name: Cow<'static, str>) -> Self {
        if let Some(handle) = &self.handle {
            handle.set_name(name);
        }
        self
    }

    /// Cancels the task, at once when called; the future waits until it has cleaned up.
    ///
    /// Gives the output if the task had ended before its cancellation took effect. The future may be dropped; the task
    /// is cancelled all the same.
    ///
    /// A task that awaits its own cancellation, even in its cleanup, waits forever.
    ///
    /// # Examples
    /// ```
    /// xiio::run(async {
    ///     xiio::task_group!(|tg| {
    ///         let ticker = tg.spawn(std::future::pending::<()>());
    ///         assert_eq!(ticker.cancel().await, None);
    ///     });
    /// });
    /// ```
    #[doc(alias("abort"))]
    #[track_caller]
    pub fn cancel(self) -> CancelTask<T> {
        self.begin_cancel(Some(Location::caller()));
        CancelTask { task: self }
    }

    /// A handle that can cancel the task, for those who do not wait for it. It may be cloned, so several can.
    ///
    /// # Examples
    /// ```
    /// xiio::run(async {
    ///     xiio::task_group!(|tg| {
    ///         let ticker = tg.spawn(std::future::pending::<()>());
    ///         let (one, other) = (ticker.canceller(), ticker.canceller());
    ///         tg.spawn(async move { one.cancel() });
    ///         tg.spawn(async move { other.cancel() });
    ///         assert!(ticker.outcome().await.is_err());
    ///     });
    /// });
    /// ```
    pub fn canceller(&self) -> Canceller {
        Canceller { task: self.handle.as_ref().map(Handle::canceller) }
    }

    /// Ties the task to a guard: when that is dropped the task is cancelled, and its group waits for the cleanup.
    ///
    /// Use it where foreign code drops futures half-way, as a server does when a client has left: the guard is dropped, and
    /// the task cleans up in its group.
    ///
    /// # Examples
    /// ```
    /// use std::{cell::Cell, time::Duration};
    /// use futures::FutureExt;
    /// use xiio::{bracket, sleep, task_group};
    ///
    /// let is_released = Cell::new(false);
    /// xiio::run(async {
    ///     task_group!(|tg| {
    ///         let work = bracket((), async |()| sleep(Duration::from_secs(60)).await, async |()| {
    ///             sleep(Duration::from_millis(1)).await;
    ///             is_released.set(true);
    ///         });
    ///         let mut work = tg.spawn(work).cancel_on_drop().fuse();
    ///         let mut soon = std::pin::pin!(sleep(Duration::from_millis(5)).fuse());
    ///         // Drops the loser.
    ///         futures::select! { () = work => {}, () = soon => {} }
    ///     });
    /// });
    /// assert!(is_released.get());
    /// ```
    pub fn cancel_on_drop(self) -> CancelOnDrop<T> {
        CancelOnDrop { task: self }
    }

    /// Waits for the task's end, whatever it is.
    ///
    /// # Errors
    /// [`Cancelled`] when the task has no output: it was cancelled, it failed and its group has the error, or the output
    /// was taken before.
    ///
    /// # Examples
    /// ```
    /// xiio::run(async {
    ///     xiio::task_group!(|tg| {
    ///         let task = tg.spawn(std::future::pending::<()>());
    ///         tg.cancel();
    ///         assert!(task.outcome().await.is_err());
    ///     });
    /// });
    /// ```
    pub fn outcome(self) -> Outcome<T> {
        Outcome { task: self }
    }

    /// Whether the task has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.handle.as_ref().is_none_or(Handle::is_done)
    }

    /// The output, if it is there and was not taken before. Does not wait, and works after the group has ended.
    ///
    /// # Examples
    /// ```
    /// let mut task = xiio::run(async { xiio::task_group!(|tg| { tg.spawn(async { 7 }) }) });
    /// assert_eq!(task.take(), Some(7));
    /// assert_eq!(task.take(), None);
    /// ```
    pub fn take(&mut self) -> Option<T> {
        self.handle.as_mut().and_then(Handle::take)
    }

    fn begin_cancel(&self, place: Place) {
        if let Some(handle) = &self.handle {
            handle.cancel(place);
        }
    }

    /// Waits for the task's end and leaves its output with it, where it is safe when another task panics.
    pub(crate) async fn ended(&mut self) {
        poll_fn(|cx| {
            let Some(handle) = &self.handle else { return Poll::Ready(()) };
            poll_end(handle, cx, || describe(handle))
        })
        .await;
    }

    /// The output of a task that has ended.
    ///
    /// # Panics
    /// Without one, as awaiting the task does.
    pub(crate) fn into_output(mut self) -> T {
        self.take().unwrap_or_else(|| self.panic_without_output())
    }

    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let Some(handle) = &self.handle else { return Poll::Ready(None) };
        poll_end(handle, cx, || describe(handle)).map(|()| self.take())
    }

    #[cold]
    fn panic_without_output(&self) -> ! {
        match &self.handle {
            Some(handle) if handle.is_taken() => panic!(
                "awaited a task whose output was taken before ({}); it is given once, so keep what the first `await` or `take` gives",
                handle.origin()
            ),
            Some(handle) => panic!(
                "awaited a task that was cancelled or has failed ({}); await `task.outcome()` to be told instead",
                handle.origin()
            ),
            None => panic!(
                "awaited a task that was spawned after the end of its group; await `task.outcome()` to be told instead"
            ),
        }
    }
}

/// What the poll that asks waits for.
fn describe<T>(handle: &Handle<T>) -> String {
    let which = if handle.is_around() { "that this is in, " } else { "" };
    format!("the task {which}{}", handle.origin())
}

/// Waits for the task's end as a leaf. Whether it was reached before is looked at only when it is refused, which costs nothing
/// otherwise.
#[inline]
fn poll_end<T>(handle: &Handle<T>, cx: &mut Context<'_>, describe: impl FnOnce() -> String) -> Poll<()> {
    let mut is_let_in = false;
    let polled = poll_leaf(cx, describe, |cx| {
        is_let_in = true;
        handle.poll_done(cx)
    });
    if !is_let_in {
        handle.note_refused();
    }
    polled
}

// The output is in the task's block, not in here.
impl<T> Unpin for Task<T> {}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match ready!(self.poll_output(cx)) {
            Some(output) => Poll::Ready(output),
            // Who awaits what has just failed is cancelled for that, and has no failure of its own.
            None if may_be_cancelled_next() && self.handle.as_ref().is_some_and(|handle| !handle.is_taken()) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => self.panic_without_output(),
        }
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let location = self.handle.as_ref().map(Handle::location);
        f.debug_struct("Task").field("location", &location).field("is_finished", &self.is_finished()).finish()
    }
}

/// Cancels a task, see [`Task::canceller`].
///
/// Dropping it changes nothing. The group of the task waits for its cleanup; to be told of its end,
/// await [`Task::outcome`]. A canceller stays on the thread of the task.
#[derive(Clone)]
pub struct Canceller {
    /// `None` for a task that was refused because its group had ended.
    task: Option<CancellerRef>,
}

impl Canceller {
    /// Cancels the task, unless it has ended. Calling it again has no effect.
    #[doc(alias("abort"))]
    #[track_caller]
    pub fn cancel(&self) {
        if let Some(task) = &self.task {
            task.cancel(Some(Location::caller()));
        }
    }

    /// Whether the task has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.task.as_ref().is_none_or(CancellerRef::is_done)
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let location = self.task.as_ref().map(CancellerRef::location);
        f.debug_struct("Canceller").field("location", &location).field("is_finished", &self.is_finished()).finish()
    }
}

/// The future of [`Task::cancel`].
#[derive(Debug)]
#[must_use = "the task is cancelled, but nothing waits for its cleanup unless this is awaited or dropped on purpose"]
pub struct CancelTask<T> {
    task: Task<T>,
}

impl<T> Future for CancelTask<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let task = &mut self.task;
        let Some(handle) = &task.handle else { return Poll::Ready(None) };
        let describe = || format!("the cleanup of {}", describe(handle));
        poll_end(handle, cx, describe).map(|()| task.take())
    }
}

/// The future of [`Task::outcome`].
#[derive(Debug)]
#[must_use = "an outcome is known only when it is awaited"]
pub struct Outcome<T> {
    task: Task<T>,
}

impl<T> Future for Outcome<T> {
    type Output = Result<T, Cancelled>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, Cancelled>> {
        self.task.poll_output(cx).map(|output| output.ok_or(Cancelled))
    }
}

/// A task that is cancelled when this is dropped, of [`Task::cancel_on_drop`].
///
/// It is itself a future, as [`Task`] is.
///
/// # Panics
/// As [`Task`], where [`CancelOnDrop::outcome`] gives a `Result` instead.
#[derive(Debug)]
#[must_use = "the task is cancelled when this is dropped"]
pub struct CancelOnDrop<T> {
    task: Task<T>,
}

impl<T> CancelOnDrop<T> {
    /// Waits for the task's end, whatever it is. Dropped, it cancels the task.
    ///
    /// # Errors
    /// As [`Task::outcome`].
    ///
    /// # Examples
    /// ```
    /// xiio::run(async {
    ///     xiio::task_group!(|tg| {
    ///         let task = tg.spawn(std::future::pending::<()>()).cancel_on_drop();
    ///         tg.cancel();
    ///         assert!(task.outcome().await.is_err());
    ///     });
    /// });
    /// ```
    pub fn outcome(self) -> OutcomeOrCancel<T> {
        OutcomeOrCancel { task: self }
    }

    /// Whether the task has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// `Ready` when the task has ended, with its output if there is one that was not taken.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.task.poll_output(cx)
    }
}

impl<T> Future for CancelOnDrop<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.task).poll(cx)
    }
}

impl<T> Drop for CancelOnDrop<T> {
    fn drop(&mut self) {
        self.task.begin_cancel(None);
    }
}

/// The future of [`CancelOnDrop::outcome`].
#[derive(Debug)]
#[must_use = "the task is cancelled when this is dropped"]
pub struct OutcomeOrCancel<T> {
    task: CancelOnDrop<T>,
}

impl<T> Future for OutcomeOrCancel<T> {
    type Output = Result<T, Cancelled>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, Cancelled>> {
        self.task.poll_end(cx).map(|output| output.ok_or(Cancelled))
    }
}
