//! The handle of a task on a worker, and where the two meet.

use std::fmt;
use std::marker::PhantomData;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use crate::cores::{Crew, Ends};
use crate::error::Cancelled;
use crate::recording::{Asked, Place};
use crate::report::{Held, Origin, report_if_err, waking};
use crate::runtime::poll_leaf;
use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering, lock};
use crate::task::{budget, may_be_cancelled_next};
use crate::unwind::Reached;

/// What a task on a worker and its handle share. Wakers and outputs are code of the user: none is woken or dropped while it
/// is locked.
pub(super) struct Slot<T> {
    state: Mutex<State<T>>,
    /// Written under the lock, before the task is woken. Beside it, as each poll asks.
    is_cancelled: AtomicBool,
    /// Where the task was spawned.
    pub(super) location: &'static Location<'static>,
}

struct State<T> {
    output: Option<T>,
    has_ended: bool,
    was_taken: bool,
    has_handle: bool,
    /// Who awaits the handle.
    joiner: Option<Waker>,
    /// The task, once it has begun.
    runner: Option<Waker>,
    /// By whom it was asked to end.
    asked: Asked,
}

impl<T> Slot<T> {
    pub(super) fn new(location: &'static Location<'static>) -> Self {
        let (joiner, runner) = (None, None);
        let (has_ended, was_taken, has_handle) = (false, false, true);
        let state = State { output: None, has_ended, was_taken, has_handle, joiner, runner, asked: Asked::default() };
        Self { state: Mutex::new(state), is_cancelled: AtomicBool::new(false), location }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        lock(&self.state)
    }

    /// Whether the task was asked to end; from now on it is woken for that, if there is a handle that may ask.
    pub(super) fn begin(&self, runner: &Waker) -> bool {
        let mut state = self.lock();
        let is_cancelled = self.is_cancelled();
        if state.has_handle && !is_cancelled {
            // A worker polls its tasks with wakers of its own, so this is no code of the user.
            state.runner = Some(runner.clone());
        }
        is_cancelled
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }

    /// Polls the task, whose next leaf does not go on if it is asked to end meanwhile.
    pub(super) fn watching<R>(&self, poll: impl FnOnce() -> R) -> R {
        budget::watching(&self.is_cancelled, poll)
    }

    /// The task has ended. Called when its future is gone.
    pub(super) fn end(&self, output: Option<T>) {
        let mut state = self.lock();
        state.has_ended = true;
        let refused = if state.has_handle { std::mem::replace(&mut state.output, output) } else { output };
        let (joiner, runner) = (state.joiner.take(), state.runner.take());
        drop(state);
        drop(runner);
        if let Some(joiner) = joiner {
            waking(|| joiner.wake());
        }
        self.drop_unheard(refused.map(Held::new));
    }

    /// Drops an output that nobody has taken.
    fn drop_unheard(&self, output: Option<Held<T>>) {
        if let Some(output) = output.as_ref().and_then(Held::get) {
            report_if_err(output, self.location);
        }
        drop(output);
    }

    /// The task has ended, unless it has told so before.
    pub(super) fn end_without_output(&self) {
        if !self.lock().has_ended {
            self.end(None);
        }
    }

    /// By whom the task was asked to end.
    pub(super) fn asked(&self) -> Asked {
        self.lock().asked
    }

    pub(super) fn cancel(&self, place: Place) {
        let asked = Asked::at(place);
        let mut state = self.lock();
        state.asked = asked;
        self.is_cancelled.store(true, Ordering::Relaxed);
        let runner = state.runner.take();
        drop(state);
        if let Some(runner) = runner {
            waking(|| runner.wake());
        }
    }

    fn take(&self) -> Option<T> {
        let mut state = self.lock();
        let output = state.output.take();
        state.was_taken |= output.is_some();
        output
    }

    fn poll_join(&self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let waker = cx.waker().clone();
        let mut state = self.lock();
        if state.has_ended {
            drop(state);
            return Poll::Ready(self.take());
        }
        let before = state.joiner.replace(waker);
        drop(state);
        drop(before);
        Poll::Pending
    }

    fn let_go(&self) {
        let mut state = self.lock();
        state.has_handle = false;
        let (output, joiner) = (state.output.take().map(Held::new), state.joiner.take());
        drop(state);
        drop(joiner.map(Held::new));
        self.drop_unheard(output);
    }
}

/// What has a slot, in one piece of memory with what is not the handle's.
pub(super) trait HasSlot<T>: Ends {
    fn slot(&self) -> &Slot<T>;

    /// Where the task was handed in.
    fn crew(&self) -> Option<&Crew>;

    /// Has the task end, at once if it has not begun; `place` is where that was asked for.
    fn cancel(&self, place: Place);
}

/// A task on a worker, to be awaited for its output. Returned by [`Workers::spawn`](crate::Workers::spawn).
///
/// What [`Task`](crate::Task) is for a task at home: a future; dropping it changes nothing. Unlike that one it may go to
/// another thread, if the output may. It has no `canceller` and no `cancel_on_drop`.
///
/// # Panics
/// Awaiting it panics when the task was cancelled or failed; [`WorkerTask::outcome`] gives a `Result` instead. The output is
/// given once: awaiting it again panics, too.
///
/// # Cancellation
/// Cancelling the code that awaits it does not cancel the task.
///
/// # Examples
/// ```
/// let text = String::from("borrowed");
/// let length = xiio::run(async {
///     xiio::task_group!(workers = 2, |tg| {
///         tg.workers().spawn(async || text.len()).await
///     })
/// });
/// assert_eq!(length, 8);
/// ```
pub struct WorkerTask<T> {
    shared: Arc<dyn HasSlot<T>>,
    reached: Reached,
    /// What threads that have it can do to an output.
    _output: PhantomData<Arc<Mutex<T>>>,
}

impl<T> WorkerTask<T> {
    pub(super) fn new(shared: Arc<dyn HasSlot<T>>) -> Self {
        Self { shared, reached: Reached::default(), _output: PhantomData }
    }

    pub(super) fn crew(&self) -> Option<&Crew> {
        self.shared.crew()
    }

    fn slot(&self) -> &Slot<T> {
        self.shared.slot()
    }

    /// Cancels the task, at once when called; the future waits until it has cleaned up.
    ///
    /// Gives the output if the task had ended before its cancellation took effect. The future may be dropped; the task
    /// is cancelled all the same. The task is polled on another thread, and runs on to its next await of one of xiio's futures. So does
    /// a task that cancels itself.
    ///
    /// A task that awaits its own cancellation, even in its cleanup, waits forever.
    ///
    /// # Examples
    /// ```
    /// xiio::run(async {
    ///     xiio::task_group!(workers = 1, |tg| {
    ///         let task = tg.workers().spawn(async || std::future::pending::<()>().await);
    ///         assert_eq!(task.cancel().await, None);
    ///     });
    /// });
    /// ```
    #[doc(alias("abort"))]
    #[track_caller]
    pub fn cancel(self) -> CancelWorkerTask<T> {
        self.shared.cancel(Some(Location::caller()));
        CancelWorkerTask { task: self }
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
    ///     xiio::task_group!(workers = 1, |tg| {
    ///         let task = tg.workers().spawn(async || std::future::pending::<()>().await);
    ///         tg.cancel();
    ///         assert!(task.outcome().await.is_err());
    ///     });
    /// });
    /// ```
    pub fn outcome(self) -> WorkerOutcome<T> {
        WorkerOutcome { task: self }
    }

    /// Whether the task has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.slot().lock().has_ended
    }

    /// The output, if it is there and was not taken before. Does not wait, and works after the group has ended.
    ///
    /// # Examples
    /// ```
    /// let mut task = xiio::run(async {
    ///     xiio::task_group!(workers = 1, |tg| { tg.workers().spawn(async || 7) })
    /// });
    /// assert_eq!(task.take(), Some(7));
    /// assert_eq!(task.take(), None);
    /// ```
    pub fn take(&mut self) -> Option<T> {
        self.slot().take()
    }

    /// Where it was spawned.
    pub(super) fn location(&self) -> &'static Location<'static> {
        self.slot().location
    }

    fn origin(&self) -> Origin {
        Origin::at(self.location())
    }

    fn describe(&self) -> String {
        format!("the task on a worker {}", self.origin())
    }

    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.poll_end(cx, Self::describe)
    }

    /// Waits for the task's end, in these words.
    fn poll_end(&mut self, cx: &mut Context<'_>, describe: impl FnOnce(&Self) -> String) -> Poll<Option<T>> {
        self.reached.note("task on a worker");
        poll_leaf(cx, || describe(self), |cx| self.slot().poll_join(cx))
    }
}

// What is shared is behind a lock, and no code of the user runs under it: a panic leaves nothing half done.
impl<T> UnwindSafe for WorkerTask<T> {}
impl<T> RefUnwindSafe for WorkerTask<T> {}

impl<T> Drop for WorkerTask<T> {
    fn drop(&mut self) {
        self.slot().let_go();
    }
}

impl<T> Future for WorkerTask<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        if let Some(output) = ready!(self.poll_output(cx)) {
            return Poll::Ready(output);
        }
        let place = self.origin();
        if self.slot().lock().was_taken {
            panic!(
                "awaited a task whose output was taken before ({place}); it is given once, so keep what the first `await` or `take` gives"
            );
        }
        // As for a task at home.
        if may_be_cancelled_next() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        panic!("awaited a task that was cancelled or has failed ({place}); await `task.outcome()` to be told instead");
    }
}

impl<T> fmt::Debug for WorkerTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_finished = self.is_finished();
        f.debug_struct("WorkerTask").field("location", &self.location()).field("is_finished", &is_finished).finish()
    }
}

/// The future of [`WorkerTask::cancel`].
#[derive(Debug)]
#[must_use = "the task is cancelled, but nothing waits for its cleanup unless this is awaited or dropped on purpose"]
pub struct CancelWorkerTask<T> {
    task: WorkerTask<T>,
}

impl<T> Future for CancelWorkerTask<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.task.poll_end(cx, |task| format!("the cleanup of {}", task.describe()))
    }
}

/// The future of [`WorkerTask::outcome`].
#[derive(Debug)]
#[must_use = "an outcome is known only when it is awaited"]
pub struct WorkerOutcome<T> {
    task: WorkerTask<T>,
}

impl<T> Future for WorkerOutcome<T> {
    type Output = Result<T, Cancelled>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, Cancelled>> {
        self.task.poll_output(cx).map(|output| output.ok_or(Cancelled))
    }
}
