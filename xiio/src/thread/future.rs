//! The future of a job.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::mem;
use std::panic::{Location, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::job::{ErrType, Failure, Job, Origin, Work};
use super::pool::ThreadPool;
use crate::drawing::{self, FileLine, Kind};
use crate::promise::Promise;
use crate::report::{ReportKind, err_type, report};
use crate::runtime::{Outside, Runtime, poll_leaf};
use crate::sys;
use crate::sys::fork::Process;
use crate::time::{Deadline, now};
use crate::unwind::{self, Duty, Node};

/// A job that is in the queue for so long is reported.
const LATE: Duration = Duration::from_secs(1);

/// Runs `f`, which may block, on a thread, and waits for its value.
///
/// The thread is one of a pool that the whole process shares: at most `min(32, cpus + 4)`, started when needed, gone after ten
/// idle seconds. More jobs than that wait in a queue, and a job that waits for a second is a
/// [report](crate::inspect::ReportKind::NoThread). Work of unknown length should have a [`ThreadPool`] of its own. So should
/// jobs that wait for other jobs (in a [`run`](crate::run()) that reads a file, say): each keeps its thread meanwhile. If such
/// jobs keep all threads, the others never begin. Nothing is handed to a thread before the first poll.
///
/// `f` moves to another thread and may outlive a future that is leaked or dropped, so it cannot borrow: move what it needs
/// in, share it in an `Arc`, or give it back with the value.
///
/// # Panics
/// With the panic of `f`, payload as it was; the thread lives on. Where nobody waits for it any more, the panic is a
/// [report](crate::inspect::ReportKind::LaterFailure) on that thread. Also when the system gives no thread and none runs.
/// The future may be polled outside of a runtime.
///
/// # Cancellation
/// A job that is still in the queue never runs. A thread cannot be interrupted, so a job that runs is waited for (the other tasks go
/// on meanwhile) and its value is dropped; it can ask [`is_cancelled`](crate::thread::is_cancelled) and stop early.
/// [`InThread::abandon_on_cancel`] leaves the wait out. If other code than xiio's drops the future, or the runtime does, it does not
/// wait either: the job runs on, is told that it was cancelled, and its value is dropped on its thread. If a value that is dropped is an
/// `Err`, that is a [report](crate::inspect::ReportKind::ErrorUnheard), unless the job has asked, and was told to stop.
///
/// # Examples
/// ```
/// let file = std::env::temp_dir().join("xiio-in-thread");
/// std::fs::write(&file, "hello")?;
/// let path = file.clone();
/// let text = xiio::run(xiio::in_thread(move || std::fs::read_to_string(path)))?;
/// assert_eq!(text, "hello");
/// # std::fs::remove_file(file)?;
/// # std::io::Result::Ok(())
/// ```
///
/// It does not borrow:
/// ```compile_fail,E0597
/// let text = String::from("hello");
/// let len = xiio::run(xiio::in_thread(|| text.len()));
/// ```
///
/// # Source
/// `xiio.in_thread` in the Python original, which starts a thread for each call.
#[track_caller]
#[doc(alias("spawn_blocking", "unblock"))]
pub fn in_thread<F, T>(f: F) -> InThread<F, T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    InThread::new(ThreadPool::shared().clone(), f)
}

/// The future of [`in_thread`] and [`ThreadPool::run`].
#[must_use = "a job is not handed to a thread before it is awaited"]
pub struct InThread<F, T> {
    job: Awaited<F, T>,
    node: Node,
}

impl<F, T> InThread<F, T> {
    #[track_caller]
    pub(super) fn new(pool: ThreadPool, f: F) -> Self {
        Self { job: Awaited::new(&JOB, pool, f, None, err_type), node: Node::new(JOB.label) }
    }

    /// Lets a cancellation leave the job behind instead of waiting for it.
    ///
    /// The job is told by [`is_cancelled`](crate::thread::is_cancelled), its value is dropped on its thread, and an `Err` is not reported. The job may run on when its group, and
    /// even the runtime, has ended. Use this for jobs that may block for ever, and hold nothing that others need. Its thread does not count for its
    /// pool any more, so other jobs need not wait for it.
    ///
    /// # Examples
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// let start = Instant::now();
    /// let job = xiio::in_thread(|| std::thread::sleep(Duration::from_secs(1))).abandon_on_cancel();
    /// assert!(xiio::run(xiio::timeout(Duration::from_millis(5), job)).is_err());
    /// assert!(start.elapsed() < Duration::from_secs(1));
    /// ```
    pub fn abandon_on_cancel(mut self) -> Self {
        self.job.waits = false;
        self
    }
}

impl<F, T> InThread<F, io::Result<T>>
where
    F: FnOnce() -> io::Result<T> + Send + 'static,
    T: Send + 'static,
{
    /// Lets texts name the call of a function that makes the job for its caller.
    pub(crate) fn made_at(mut self, place: &'static Location<'static>) -> Self {
        self.job.location = place;
        self
    }

    /// Lets texts tell of what the job is there for: its caller knows nothing of a job.
    pub(crate) fn described(mut self, about: &'static About, text: String) -> Self {
        self.node = Node::new(about.label);
        self.job.about = about;
        self.job.text = text.into();
        self
    }

    /// If the system gives no thread, that is an error like those of the function.
    pub(crate) fn poll_or_refused(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let Self { job, node } = self;
        job.poll_or_refused(node, cx).map(|outcome| outcome?)
    }
}

/// What kind of job it is.
pub(crate) struct About {
    /// The function that makes it.
    pub(crate) label: &'static str,
    /// What it is, for texts.
    pub(crate) text: &'static str,
    /// Why it waits for a thread, and what to do. `None` if it need never wait until another job of its pool has ended.
    pub(crate) why_late: Option<fn() -> String>,
}

static JOB: About = About { label: "in_thread", text: "a thread job", why_late: Some(why_late) };

fn why_late() -> String {
    "as all of its pool are busy; give jobs that take long a `ThreadPool` of their own".to_owned()
}

/// A job and how far it is: its future, without the node.
pub(crate) struct Awaited<F, T> {
    about: &'static About,
    text: Cow<'static, str>,
    stage: Stage<F, T>,
    waits: bool,
    location: &'static Location<'static>,
    /// Keeps the runtime, if there is one, from taking the wait for a deadlock.
    outside: Outside,
}

enum Stage<F, T> {
    Fresh {
        pool: ThreadPool,
        function: F,
        /// Set when the job is to stop.
        stop: Option<Promise<()>>,
        err_type: ErrType<T>,
    },
    Waiting {
        job: Arc<Job<F, T>>,
        /// Kept so that the pool does not close before the job has run.
        pool: ThreadPool,
        late: Option<Late>,
    },
    Ended,
}

/// When a job has waited for long, if it is still in the queue. Elapses once.
struct Late {
    deadline: Deadline,
    /// When it was handed in, by the clock of the system. Threads go by that one, and virtual time may have jumped.
    since: Instant,
}

// Neither the function nor the value is ever polled or pinned.
impl<F, T> Unpin for Awaited<F, T> {}

impl<F, T> Awaited<F, T> {
    #[track_caller]
    pub(crate) fn new(
        about: &'static About,
        pool: ThreadPool,
        function: F,
        stop: Option<Promise<()>>,
        err_type: ErrType<T>,
    ) -> Self {
        let stage = Stage::Fresh { pool, function, stop, err_type };
        let text = about.text.into();
        Self { about, text, stage, waits: true, location: Location::caller(), outside: Outside::default() }
    }

    /// How it is drawn.
    fn drawn(&self) -> impl FnOnce() -> drawing::Node + use<F, T> {
        let (text, location) = (self.text.clone(), self.location);
        move || drawing::Node::new(Kind::Thread, text).made_at(location)
    }
}

impl<F, T> Awaited<F, T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    /// Polls the future, with its node.
    pub(crate) fn poll(&mut self, node: &mut Node, cx: &mut Context<'_>) -> Poll<T> {
        self.poll_or_refused(node, cx).map(|outcome| outcome.unwrap_or_else(|error| self.panic_refused(&error)))
    }

    #[cold]
    fn panic_refused(&self, error: &io::Error) -> ! {
        panic!("cannot start a thread: {error}; {}, made at {}, needs one", self.text, FileLine(self.location))
    }

    /// As [`Awaited::poll`], with the error of a job that gets no thread.
    fn poll_or_refused(&mut self, node: &mut Node, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        match node.duty(cx, |_| true) {
            Duty::Wait => Poll::Pending,
            Duty::Run => {
                let drawn = self.drawn();
                match poll_leaf(cx, drawn, |cx| self.poll_outcome(cx)) {
                    Poll::Ready(outcome) => {
                        node.leave();
                        Poll::Ready(match outcome {
                            Ok(value) => Ok(value),
                            Err(Failure::Panicked(payload)) => resume_unwind(payload),
                            Err(Failure::NoThread(error)) => Err(error),
                        })
                    }
                    Poll::Pending => {
                        let has_begun = matches!(self.stage, Stage::Waiting { .. });
                        node.hold(cx, has_begun && self.waits);
                        Poll::Pending
                    }
                }
            }
            Duty::Unwind => {
                if unwind::inspecting(|drawing| drawing.leaf(self.drawn()())) {
                    // The wake of the job may have been spent on this very poll.
                    cx.waker().wake_by_ref();
                } else {
                    self.poll_cleanup(node, cx);
                }
                Poll::Pending
            }
        }
    }

    fn poll_outcome(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, Failure>> {
        let outcome = match &mut self.stage {
            Stage::Waiting { job, late, .. } => {
                self.outside.count_here();
                let polled = job.poll(cx);
                if polled.is_pending() && has_become_late(late, cx) && job.is_queued() {
                    report_late(self.about, &self.text, self.location);
                }
                ready!(polled)
            }
            Stage::Fresh { .. } => return self.start(cx),
            Stage::Ended => panic!("{} was polled after it had ended", self.text),
        };
        self.stage = Stage::Ended;
        self.outside = Outside::default();
        Poll::Ready(outcome)
    }

    /// Hands the job to the pool. It is polled before, so that the worker finds a waker.
    fn start(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, Failure>> {
        let Stage::Fresh { pool, function, stop, err_type } = mem::replace(&mut self.stage, Stage::Ended) else {
            unreachable!()
        };
        let origin = Origin { text: self.about.text, location: self.location };
        let process = Process::this();
        let job = Arc::new(Job::new(origin, function, stop, err_type, process));
        let polled = job.poll(cx);
        debug_assert!(polled.is_pending());
        self.outside.count_here();
        pool.push(Arc::clone(&job) as Arc<dyn Work>, process);
        let mut late = (self.about.why_late.is_some() && Runtime::is_running()).then(Late::new);
        has_become_late(&mut late, cx);
        self.stage = Stage::Waiting { job, pool, late };
        Poll::Pending
    }

    /// Waits for a job that has begun, after the cancellation.
    fn poll_cleanup(&mut self, node: &mut Node, cx: &mut Context<'_>) {
        let Stage::Waiting { job, .. } = &self.stage else { return node.finish() };
        let job = Arc::clone(job);
        node.clean_up(cx, |cx| {
            if job.cancel() {
                return Poll::Ready(());
            }
            self.poll_outcome(cx).map(|outcome| match outcome {
                Err(Failure::Panicked(payload)) => resume_unwind(payload),
                Ok(value) => job.report_late(&value),
                // It never began.
                Err(Failure::NoThread(_)) => {}
            })
        });
    }
}

impl<F, T> Drop for Awaited<F, T> {
    fn drop(&mut self) {
        if let Stage::Waiting { job, pool, .. } = &self.stage {
            let is_left = !self.waits;
            if job.abandon(is_left) && is_left {
                pool.leave_behind();
            }
        }
    }
}

impl<F, T> fmt::Debug for Awaited<F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::Fresh { .. } => "not started",
            Stage::Waiting { .. } => "waiting",
            Stage::Ended => "ended",
        };
        f.debug_struct("InThread").field("location", &self.location).field("stage", &stage).finish()
    }
}

/// Whether it has waited for long, asked where there is a clock to ask.
fn has_become_late(slot: &mut Option<Late>, cx: &mut Context<'_>) -> bool {
    let is_late = Runtime::is_running() && slot.as_mut().is_some_and(|late| late.poll_over(cx));
    slot.take_if(|_| is_late).is_some()
}

impl Late {
    fn new() -> Self {
        let now = now();
        let is_virtual = Runtime::look(Runtime::has_virtual_time).unwrap_or(false);
        Self { deadline: Deadline::at(now.checked_add(LATE)), since: if is_virtual { sys::now() } else { now } }
    }

    fn poll_over(&mut self, cx: &mut Context<'_>) -> bool {
        while self.deadline.poll_elapsed(cx) {
            let rest = LATE.saturating_sub(sys::now().saturating_duration_since(self.since));
            if rest.is_zero() {
                return true;
            }
            // Virtual time has jumped.
            self.deadline.reset(now().checked_add(rest));
        }
        false
    }
}

fn report_late(about: &About, text: &str, location: &Location<'_>) {
    let (place, why) = (FileLine(location), about.why_late.map(|why| why()).unwrap_or_default());
    report(ReportKind::NoThread, format!("{text}, made at {place}, has waited for a thread for a second, {why}"));
}

impl<F, T> Future for InThread<F, T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Self { job, node } = self.get_mut();
        job.poll(node, cx)
    }
}

impl<F, T> fmt::Debug for InThread<F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.job.fmt(f)
    }
}
