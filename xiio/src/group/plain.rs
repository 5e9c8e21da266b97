//! The group whose tasks may return anything.

use std::borrow::Cow;
use std::panic::Location;

use super::options::GroupOptions;
use super::remote::Remote;
use super::state::Group;
use super::task::Task;
use super::workers::Workers;

/// The tasks of a `task_group!` block.
///
/// The block hands it out as `tg: &TaskGroup<'_>`. Tasks may borrow whatever was declared before the block, for `'env`;
/// they may not borrow locals of the block's own body, which ends before they do.
///
/// It stays on its thread.
///
/// # Examples
/// Passed on to a function that spawns into it:
/// ```
/// use std::cell::Cell;
/// use xiio::{TaskGroup, task_group};
///
/// fn count<'env>(tg: &TaskGroup<'env>, counter: &'env Cell<u32>) {
///     tg.spawn(async { counter.set(counter.get() + 1) });
/// }
///
/// let counter = Cell::new(0);
/// xiio::run(async {
///     task_group!(|tg| {
///         count(tg, &counter);
///         count(tg, &counter);
///     });
/// });
/// assert_eq!(counter.get(), 2);
/// ```
#[doc(alias("JoinSet", "TaskTracker", "nursery"))]
pub struct TaskGroup<'env> {
    group: Group<'env>,
}

/// What `task_group!` puts into the surrounding function.
#[must_use]
#[inline(always)]
pub fn new_group<'env>(options: GroupOptions) -> TaskGroup<'env> {
    TaskGroup { group: Group::new(options) }
}

impl<'env> TaskGroup<'env> {
    /// Adds a task. It starts when the surrounding task next awaits, and the block waits for its end.
    ///
    /// Tasks may be added at any time before the block has its value: from inside a task, while the group is being
    /// cancelled, from a deferred cleanup. A future that is spawned later is dropped, which is reported, and its
    /// handle says that it was cancelled.
    ///
    /// A panic in the task cancels the other members and goes on in the surrounding task, with the payload as it was. An `Err` that
    /// the task ends with is a value like any other here; an `Err` that nobody takes is reported.
    ///
    /// # Examples
    /// ```
    /// let names = ["Ada", "Grace"];
    /// let lengths = xiio::run(async {
    ///     xiio::task_group!(|tg| {
    ///         let tasks = names.each_ref().map(|name| tg.spawn(async move { name.len() }));
    ///         let mut lengths = Vec::new();
    ///         for task in tasks {
    ///             lengths.push(task.await);
    ///         }
    ///         lengths
    ///     })
    /// });
    /// assert_eq!(lengths, [3, 5]);
    /// ```
    ///
    /// # Source
    /// `TaskGroup.add_task` in the Python original.
    #[track_caller]
    #[inline]
    pub fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: IntoFuture + 'env,
    {
        self.spawn_at(future.into_future(), Location::caller())
    }

    /// [`TaskGroup::spawn`] for a task that has a name, in the tree and in reports.
    ///
    /// The group keeps the name until the task ends. Tasks without a name carry nothing of it.
    ///
    /// # Examples
    /// ```
    /// let tree = xiio::run(async {
    ///     xiio::task_group!(|tg| {
    ///         tg.spawn_named("heartbeat", std::future::pending::<()>());
    ///         let tree = xiio::inspect::tree().await;
    ///         tg.cancel();
    ///         tree
    ///     })
    /// });
    /// assert!(tree.to_string().contains("task `heartbeat`"));
    /// ```
    #[track_caller]
    pub fn spawn_named<F>(&self, name: impl Into<Cow<'static, str>>, future: F) -> Task<F::Output>
    where
        F: IntoFuture + 'env,
    {
        self.spawn(future).named(name.into())
    }

    /// [`TaskGroup::spawn`] in the name of somebody further up.
    #[inline]
    pub(crate) fn spawn_at<F>(&self, future: F, location: &'static Location<'static>) -> Task<F::Output>
    where
        F: Future + 'env,
    {
        self.group.spawn(future, Some, location)
    }

    /// Cancels the tasks that are there now, not the body. What is spawned afterwards runs.
    ///
    /// They have ended when the block has ended; to wait for one earlier, await [`Task::cancel`] or [`Task::outcome`].
    /// A task may call it: its own code then stops at its next await of one of xiio's futures.
    ///
    /// # Examples
    /// ```
    /// xiio::run(async {
    ///     xiio::task_group!(|tg| {
    ///         tg.spawn(std::future::pending::<()>());
    ///         tg.cancel();
    ///     });
    /// });
    /// ```
    #[doc(alias("CancellationToken", "abort_all"))]
    #[track_caller]
    pub fn cancel(&self) {
        self.group.cancel(Some(Location::caller()));
    }

    /// Registers a cleanup that runs when all tasks have ended, whatever happened.
    ///
    /// A `grace`, a panic around the group, the end of the run, or other code that drops the group cuts it off. A report says so.
    ///
    /// Cleanups run one after the other, the one registered last first. The tasks that a cleanup has spawned belong to it: they end
    /// before the next cleanup begins, and neither a limit of the group nor a cancellation from outside cancels them. A cleanup that
    /// panics does not keep the others from running; the group panics when they have ended.
    ///
    /// # Examples
    /// ```
    /// use std::cell::RefCell;
    ///
    /// let order = RefCell::new(Vec::new());
    /// xiio::run(async {
    ///     xiio::task_group!(|tg| {
    ///         tg.defer(async { order.borrow_mut().push("first registered") });
    ///         tg.defer(async { order.borrow_mut().push("last registered") });
    ///         tg.spawn(async { order.borrow_mut().push("task") });
    ///     });
    /// });
    /// assert_eq!(*order.borrow(), ["task", "last registered", "first registered"]);
    /// ```
    #[track_caller]
    pub fn defer(&self, cleanup: impl IntoFuture<Output = ()> + 'env) {
        self.group.defer(cleanup.into_future(), Location::caller());
    }

    /// A handle that spawns into this group from anywhere, see [`Remote`].
    ///
    /// # Examples
    /// ```
    /// xiio::run(async {
    ///     let remote = xiio::task_group!(|tg| {
    ///         let remote = tg.remote();
    ///         assert!(remote.spawn(|| xiio::yield_now()).is_ok());
    ///         remote
    ///     });
    ///     // It does not keep the group from ending.
    ///     assert!(remote.has_ended());
    /// });
    /// ```
    #[must_use]
    pub fn remote(&self) -> Remote {
        self.group.remote()
    }

    /// Cancels the tasks that are left, if any, for a combinator that was written at `location`.
    pub(crate) fn cancel_left_at(&self, location: &'static Location<'static>) {
        if self.group.has_tasks() {
            self.group.cancel(Some(location));
        }
    }

    /// Calls it by the name of the combinator that it is underneath.
    pub(crate) fn stand_for(&self, what: &'static str) {
        self.group.stand_for(what);
    }

    /// What spawns on the workers of this group.
    ///
    /// # Panics
    /// Without the option `workers`.
    ///
    /// # Examples
    /// ```
    /// let text = String::from("borrowed");
    /// xiio::run(async {
    ///     xiio::task_group!(workers = 2, |tg| {
    ///         tg.workers().spawn(async || assert_eq!(text.len(), 8));
    ///     });
    /// });
    /// ```
    #[must_use]
    #[track_caller]
    pub fn workers(&'env self) -> Workers<'env> {
        self.group.assert_workers("task_group!");
        Workers::new(self.group.anchor())
    }

    pub(super) fn group(&self) -> &Group<'env> {
        &self.group
    }
}

impl std::fmt::Debug for TaskGroup<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskGroup").finish_non_exhaustive()
    }
}
