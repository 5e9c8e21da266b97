//! The root of a tree: `run`, and what the attribute macros put around a function.

mod in_thread;
mod printing;
mod shutdown;

use std::borrow::Cow;
use std::future::IntoFuture;
use std::mem::ManuallyDrop;
use std::pin::pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::error::Elapsed;
use crate::group::{GroupOptions, Guard, Leave, new_group, report_exit};
use crate::inspect;
use crate::runtime::{Config, Save, Serve, block_on};
use crate::sys::stderr::say;
pub use in_thread::{RunInThread, run_in_thread};
use shutdown::{BlockOnUntil, Stop, block_on_until};

/// Runs a future, and every task under it, to the end on this thread.
///
/// Code that blocks the thread holds up every task of it. So does a `block_on` of another crate inside of a task. It hears of its own
/// groups and of wakes from other threads, but until it returns no timer fires, no descriptor gets ready, and no worker of a group is
/// let in. Await the future there instead.
///
/// A process may fork before or after a run, as a daemon does. Inside of a run both processes share one poller: a process that is
/// forked off there may do nothing but `exec` or `_exit`.
///
/// # Panics
/// With the panic of the future, and when a runtime runs on this thread already: await the future there instead, or run
/// it in a thread of its own. Also when the system has no descriptors left for a poller.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// let value = xiio::run(async {
///     xiio::sleep(Duration::from_millis(1)).await;
///     7
/// });
/// assert_eq!(value, 7);
/// ```
///
/// # Source
/// `xiio.run` in the Python original.
#[track_caller]
#[doc(alias("block_on"))]
pub fn run<F: IntoFuture>(future: F) -> F::Output {
    block_on(&Config { serve: serve_if_asked(), save: save_if_asked(), ..Config::default() }, future.into_future()).0
}

/// What `XIIO_INSPECT` asks for.
fn serve_if_asked() -> Option<Serve> {
    let is_asked = std::env::var_os("XIIO_INSPECT").is_some_and(|value| !value.is_empty() && value != "0");
    is_asked.then_some(inspect::serve)
}

/// What `XIIO_RECORD` asks for.
fn save_if_asked() -> Option<Save> {
    inspect::is_recording_asked().then_some(inspect::save)
}

/// [`run`] with options.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// let builder = xiio::Builder::new().name("main").grace(Duration::from_secs(5));
/// assert_eq!(builder.run(async { 7 }), 7);
/// ```
#[derive(Debug, Default)]
#[must_use = "nothing runs before `run`"]
pub struct Builder {
    /// Of the group that the future is the only member of; without any there is no group, which would have its price at
    /// each wake.
    options: Option<GroupOptions>,
    config: Config,
    stop: Stop,
    /// There where there are signals. Nothing else names it, so that a program without any carries nothing of it.
    block_on_until: Option<BlockOnUntil>,
}

impl Builder {
    /// No limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the tree in reports.
    pub fn name(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.with_options(|options| options.name(name))
    }

    /// Drops what has not cleaned up `grace` after the cancellation of the whole.
    pub fn grace(self, grace: Duration) -> Self {
        self.with_options(|options| options.grace(grace))
    }

    /// Cancels the whole when one of `signals` comes; the process then dies by that signal, as its parent expects.
    ///
    /// The first signal is an ordinary cancellation: everything cleans up, with `await`, for as long as the grace allows. If
    /// that takes longer than a second, a report says what is still being cleaned up. `run` does not return after a
    /// signal, even if the future came to a value.
    ///
    /// A signal within a second of the first belongs to the same request: terminals, wrappers and service managers often deliver
    /// one twice. After that second a `SIGINT` or `SIGQUIT` is somebody's impatience. It ends the process at once, even while its
    /// thread is busy; [`process`](crate::process) says what becomes of child processes then. Any other signal of the list only
    /// brings the report once more. [`Builder::impatience`] and [`Builder::impatient_on`] change that.
    ///
    /// A signal that is ignored at the start, as under `nohup`, stays ignored. A signal that this thread blocks is let through
    /// while `run` runs.
    ///
    /// It is for one run of a process. Of several that run at the same time each is cancelled, and the process dies when the first has cleaned up: the
    /// others may be waiting for that one. A tree that is started by [`run_in_thread`](crate::run_in_thread) is cancelled with the one that awaits it.
    ///
    /// Without this call signals do what they do in any program.
    ///
    /// # Panics
    /// `run` panics for a signal that cannot be caught (see [`signal::subscribe`](crate::signal::subscribe)), and
    /// when there are no descriptors left.
    ///
    /// # Examples
    /// ```no_run
    /// use std::time::Duration;
    /// use xiio::signal::{SIGINT, SIGTERM};
    ///
    /// xiio::Builder::new().cancel_on(&[SIGINT, SIGTERM]).run(async {
    ///     xiio::bracket(
    ///         (),
    ///         async |_| xiio::sleep(Duration::from_secs(3600)).await,
    ///         async |_| println!("cleaned up after Ctrl-C"),
    ///     )
    ///     .await;
    /// });
    /// ```
    pub fn cancel_on(mut self, signals: &[i32]) -> Self {
        self.stop.signals.extend_from_slice(signals);
        if !signals.is_empty() {
            self.block_on_until = Some(block_on_until);
        }
        self
    }

    /// How long after the first signal of [`Builder::cancel_on`] another one ends the process at once. Without this call it is
    /// a second. `None` is never. Without `cancel_on` it changes nothing.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xiio::signal::SIGINT;
    ///
    /// let patient = xiio::Builder::new().cancel_on(&[SIGINT]).impatience(Duration::from_secs(3));
    /// patient.run(async {});
    /// ```
    pub fn impatience(mut self, after: impl Into<Option<Duration>>) -> Self {
        self.stop.impatience.after = after.into();
        self
    }

    /// Which of the signals of [`Builder::cancel_on`] end the process at once when they come after the first:
    /// `SIGINT` and `SIGQUIT`, if this is not called. Without `cancel_on` it changes nothing.
    ///
    /// # Panics
    /// `run` panics for a signal that cannot be caught, as for those of [`Builder::cancel_on`].
    ///
    /// # Examples
    /// ```
    /// use xiio::signal::{SIGINT, SIGTERM};
    ///
    /// let strict = xiio::Builder::new().cancel_on(&[SIGINT, SIGTERM]).impatient_on(&[SIGINT, SIGTERM]);
    /// strict.run(async {});
    /// ```
    pub fn impatient_on(mut self, signals: &[i32]) -> Self {
        self.stop.impatience.signals = signals.to_vec();
        self
    }

    /// Cancels the whole `timeout` from now; for [`Builder::run_timed`].
    #[doc(hidden)]
    pub fn timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        self.with_options(|options| options.timeout(timeout))
    }

    /// Cancels the whole at `deadline`; for [`Builder::run_timed`].
    #[doc(hidden)]
    pub fn deadline(self, deadline: impl Into<Option<Instant>>) -> Self {
        self.with_options(|options| options.deadline(deadline))
    }

    fn with_options(mut self, change: impl FnOnce(GroupOptions) -> GroupOptions) -> Self {
        self.options = Some(change(self.options.unwrap_or_default()));
        self
    }

    /// Gives a run up when nothing can wake any of its tasks for `patience`, with a panic that shows the tree of
    /// tasks.
    ///
    /// Timers, descriptors, processes and the jobs of thread pools are known to wake tasks. So are workers, trees of
    /// `run_in_thread`, and a promise of which others than its waiters have a clone. Other threads are not: `patience`
    /// is the time that they have. A thread that has ended a tree or a job which is awaited here as well has a tenth of
    /// a second at least. While the whole process is stopped, a quarter of the time passes at most.
    pub fn detect_deadlock(mut self, patience: Duration) -> Self {
        self.config.deadlock_after = Some(patience);
        self
    }

    /// Reports each poll of a task that takes longer than `limit`, with the place where the task was spawned. `None` is no limit,
    /// and the default.
    ///
    /// No other task runs during a poll, and no limit of time is noticed. The report comes when the poll is over; the polls of groups
    /// inside of it do not count. What counts is real time: it passes even while the process is stopped. The clock is read before and
    /// after each poll; without a limit it is not.
    ///
    /// # Examples
    /// ```
    /// use std::{cell::RefCell, rc::Rc, thread, time::Duration};
    /// use xiio::inspect::{ReportKind, listen};
    ///
    /// let kinds = Rc::new(RefCell::new(Vec::new()));
    /// let sink = Rc::clone(&kinds);
    /// let _listening = listen(move |report| sink.borrow_mut().push(report.kind()));
    /// xiio::Builder::new().slow_poll(Duration::from_millis(10)).run(async {
    ///     xiio::task_group!(|tg| {
    ///         tg.spawn(async { thread::sleep(Duration::from_millis(50)) });
    ///     });
    /// });
    /// assert!(kinds.borrow().contains(&ReportKind::SlowPoll));
    /// ```
    pub fn slow_poll(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.config.limits.slow_poll = limit.into();
        self
    }

    /// Reports each cleanup that takes longer than `limit`, with the tree of what cleans up. `None` is no limit, and the default.
    ///
    /// What a group has deferred is a cleanup, however the group ends. The report comes while the cleanup goes on.
    /// A deferred cleanup counts for as long as its future: tasks that it spawns have no limit, unless it awaits them.
    /// Without a limit no clock is read for it.
    ///
    /// # Examples
    /// ```
    /// use std::{cell::RefCell, rc::Rc, time::Duration};
    /// use xiio::inspect::{ReportKind, listen};
    /// use xiio::{shield, sleep, timeout};
    ///
    /// let kinds = Rc::new(RefCell::new(Vec::new()));
    /// let sink = Rc::clone(&kinds);
    /// let _listening = listen(move |report| sink.borrow_mut().push(report.kind()));
    /// xiio::Builder::new().slow_cleanup(Duration::from_millis(10)).run(async {
    ///     let late = timeout(Duration::ZERO, shield(sleep(Duration::from_millis(50)))).await;
    ///     assert!(late.is_err());
    /// });
    /// assert_eq!(*kinds.borrow(), [ReportKind::SlowCleanup]);
    /// ```
    pub fn slow_cleanup(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.config.limits.slow_cleanup = limit.into();
        self
    }

    /// Reports a task that is polled in vain more than `limit` times within a second: each time it is pending, and has woken itself.
    /// `usize::MAX` is no limit, and the default.
    ///
    /// Such a task keeps the processor busy without progress: it asks again and again for what it could await. A poll does not count if
    /// anything of xiio was ready or began in it, or a group inside of the task had something to do. Nor does it count if another task, a
    /// thread or the system has woken the task. A task that waits in [`yield_now`](crate::yield_now) is not reported either; xiio does not
    /// recognise a function of another crate that does the same. The report has the tree of the task, and comes once until the task does
    /// otherwise.
    ///
    /// # Examples
    /// ```
    /// use std::{cell::Cell, future::poll_fn, rc::Rc, task::Poll};
    /// use xiio::inspect::{ReportKind, listen};
    ///
    /// let is_reported = Rc::new(Cell::new(false));
    /// let sink = Rc::clone(&is_reported);
    /// let _listening = listen(move |report| sink.set(report.kind() == ReportKind::VainPolls));
    /// xiio::Builder::new().vain_polls(1000).run(async {
    ///     xiio::task_group!(|tg| {
    ///         tg.spawn(poll_fn(|cx| {
    ///             cx.waker().wake_by_ref();
    ///             if is_reported.get() { Poll::Ready(()) } else { Poll::Pending }
    ///         }));
    ///     });
    /// });
    /// ```
    pub fn vain_polls(mut self, limit: usize) -> Self {
        self.config.limits.vain_polls = limit;
        self
    }

    /// Reports each group that holds more than `limit` tasks, once, with the places where most of them were spawned. `usize::MAX` is no
    /// limit, and the default.
    ///
    /// A group holds a task from its spawn to its end, also while it waits for its turn under the `limit` of the group. The tasks of
    /// each worker of a group are counted separately.
    ///
    /// # Examples
    /// ```
    /// use std::{cell::RefCell, rc::Rc};
    /// use xiio::inspect::{ReportKind, listen};
    /// use xiio::{sleep, task_group};
    ///
    /// let kinds = Rc::new(RefCell::new(Vec::new()));
    /// let sink = Rc::clone(&kinds);
    /// let _listening = listen(move |report| sink.borrow_mut().push(report.kind()));
    /// xiio::Builder::new().many_tasks(10).run(async {
    ///     task_group!(|tg| {
    ///         for _ in 0..11 {
    ///             tg.spawn(sleep(std::time::Duration::from_millis(1)));
    ///         }
    ///     });
    /// });
    /// assert_eq!(*kinds.borrow(), [ReportKind::ManyTasks]);
    /// ```
    pub fn many_tasks(mut self, limit: usize) -> Self {
        self.config.limits.many_tasks = limit;
        self
    }

    /// Lets other programs of this user look at the tree while it runs, with the command `xiio-inspect`.
    ///
    /// Opens a socket in `$XDG_RUNTIME_DIR/xiio`, or else in a directory of this user below that of temporary files. A thread answers
    /// there, even while a task keeps the loop. The environment asks for the same with `XIIO_INSPECT=1`.
    ///
    /// Where it cannot be opened the program runs on, and standard error has a line about it.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(xiio::Builder::new().inspect().run(async { 7 }), 7);
    /// ```
    pub fn inspect(mut self) -> Self {
        self.config.serve = Some(inspect::serve);
        self
    }

    /// Prints the tree on standard error each time that one of `signals` comes, and goes on.
    ///
    /// A thread waits for the signals, and says so if a task keeps the loop from drawing. Until a signal comes the loop is not affected. A
    /// signal that is ignored at the start stays ignored.
    ///
    /// `SIGQUIT` is the usual choice. A terminal sends it at Ctrl-\\, but to child processes as well, which mostly end by it; `kill -QUIT PID`
    /// sends it to one process.
    ///
    /// # Panics
    /// `run` panics for a signal that cannot be caught (see [`signal::subscribe`](crate::signal::subscribe)), and when there are no
    /// descriptors left, or no thread.
    ///
    /// # Examples
    /// ```
    /// use xiio::signal::SIGQUIT;
    ///
    /// assert_eq!(xiio::Builder::new().tree_on(&[SIGQUIT]).run(async { 7 }), 7);
    /// ```
    pub fn tree_on(mut self, signals: &[i32]) -> Self {
        let before = self.config.print_on.take().map(|(_, signals)| signals).unwrap_or_default();
        let all = [&before, signals].concat();
        self.config.print_on = (!all.is_empty()).then_some((printing::print_on, all));
        self
    }

    /// Runs a future to its end, see [`run`].
    ///
    /// # Panics
    /// As [`run`].
    #[track_caller]
    pub fn run<F: IntoFuture>(self, future: F) -> F::Output {
        match self.block_on(future) {
            Ok(value) => value,
            Err(Elapsed) => unreachable!("no time limit was set"),
        }
    }

    /// Runs a future with the time limit that was set.
    #[track_caller]
    #[doc(hidden)]
    pub fn run_timed<F: IntoFuture>(self, future: F) -> F::Output
    where
        F::Output: FromElapsed,
    {
        self.block_on(future).unwrap_or_else(F::Output::from_elapsed)
    }

    #[track_caller]
    fn block_on<F: IntoFuture>(mut self, future: F) -> Result<F::Output, Elapsed> {
        match self.options.take() {
            Some(options) => self.block_on_tree(root_group(options, future)),
            None => Ok(self.block_on_tree(future.into_future())),
        }
    }

    #[track_caller]
    fn block_on_tree<T: Future>(mut self, tree: T) -> T::Output {
        self.config.serve = self.config.serve.or_else(serve_if_asked);
        self.config.save = save_if_asked();
        let Some(block_on_until) = self.block_on_until else { return block_on(&self.config, tree).0 };
        let mut output = None;
        block_on_until(&self.stop, &self.config, Box::pin(async { output = Some(tree.await) }));
        output.unwrap_or_else(|| unreachable!("no signal came, so the tree has ended by itself"))
    }
}

/// A group of which the future is the first member.
async fn root_group<F: IntoFuture>(options: GroupOptions, future: F) -> Result<F::Output, Elapsed> {
    let group = ManuallyDrop::new(new_group(options));
    let guard = Guard::new(&group);
    let body = pin!(Some(async { Leave::Finish(future.await) }));
    guard.run_timed(body, report_exit).await
}

/// What a function with a time limit in its attribute returns when the time is over.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot say that the time limit is over",
    label = "return `()`, `ExitCode`, or a `Result` whose error is made from `xiio::Elapsed`",
    note = "`timeout` and `deadline` in the attribute need it"
)]
pub trait FromElapsed {
    /// The value for an elapsed limit.
    fn from_elapsed(elapsed: Elapsed) -> Self;
}

impl FromElapsed for () {
    fn from_elapsed(elapsed: Elapsed) {
        panic!("{elapsed}")
    }
}

impl FromElapsed for ExitCode {
    fn from_elapsed(elapsed: Elapsed) -> Self {
        say(&format!("Error: {elapsed}"));
        Self::FAILURE
    }
}

impl<T, E: From<Elapsed>> FromElapsed for Result<T, E> {
    fn from_elapsed(elapsed: Elapsed) -> Self {
        Err(elapsed.into())
    }
}
