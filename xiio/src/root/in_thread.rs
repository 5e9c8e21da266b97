//! A tree on a thread of its own, which is awaited from another one.
//!
//! ```text
//!   who awaits                                   the thread of the tree
//!   `RunInThread` ── first poll: a job ────────▶ `run(Stoppable { f() })`
//!        │                                              │
//!        ├── cancelled: sets `stop`, waits ────────────▶│ cancels `f()`, which cleans up
//!        ├── dropped: sets `stop` ─────────────────────▶│ the same, and nobody waits
//!        └── leaked                                     │ runs on
//!        ◀─────── value, or panic ──────────────────────┘
//! ```

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::run;
use crate::pin::Pinned;
use crate::promise::{Promise, WaitSet};
use crate::recording::{self, Why};
use crate::report::err_type;
use crate::thread::{About, Awaited, Standing, ThreadPool};
use crate::unwind::{self, Owner, Parked};

/// Runs a tree of its own on a thread of its own, and waits for its value.
///
/// The future that `f` makes is the root of the tree, as if it were given to [`run`] there. It need not be `Send`. It owns what `f` has moved in,
/// and its tasks borrow from it; groups in it may have workers. Nothing of it is on this thread, so neither has to wait for the other: the
/// thread that awaits lends nothing, and is woken once, when the value is there. It has three uses. One is in a [tree inside a foreign loop](crate::compat),
/// whose groups have no workers. Another is in a plain task of another runtime. The third is on a thread that must not stand still for the
/// [workers](crate::task_group!) of a group.
///
/// The future is `Send`. It may be awaited in a tree of xiio's, or polled outside of any, on one thread or on several. Nothing is
/// handed to a thread before the first poll. A thread is started, or one taken that has ended such a tree less than ten seconds before.
/// Their number has no limit.
///
/// `f` cannot borrow, as the tree may outlive a future that is leaked or dropped: move what it needs in, and give it back with the value.
/// It has the values of [`local!`](crate::local!) that are `Send` and `Sync`. Its clock is the system's, even where the test that awaits it has
/// virtual time; the time of the test passes like the system's meanwhile. Its reports are those of its thread, and go to a listener that `f`
/// makes.
///
/// # Panics
/// With the panic of the tree, payload as it was. Where nobody waits for it any more, the panic is a
/// [report](crate::inspect::ReportKind::LaterFailure) on the thread of the tree. Also when the system gives no thread, or gives that thread no descriptors
/// for a poller. The future may be polled outside of a runtime.
///
/// # Cancellation
/// Passed on: the tree is cancelled when its loop comes to it, cleans up, and whoever cancels waits for that, while other tasks go on. Before the thread
/// has begun, `f` is dropped instead. If other code than xiio's drops the future, or its runtime does, it waits for nobody: the tree is
/// cancelled and cleans up on its thread. A tree that has ended by itself when its cancellation comes gives its value to nobody; if that is an
/// `Err`, it is a [report](crate::inspect::ReportKind::ErrorUnheard). If the future is leaked, the tree runs on with what it owns. Code of the tree that is no future can
/// ask [`thread::is_cancelled`](crate::thread::is_cancelled).
///
/// It belongs to the tree that has polled it last. Polled elsewhere after that, it belongs to the tree there: whoever cancels the first tree does not wait for
/// it any more. Those who share it, as with `Shared` of the crate `futures`, share its cancellation too. Let each of them await it in a
/// [`shield`](crate::shield()) if it is to go on for the others.
///
/// # Examples
/// Workers, awaited by a loop that is not xiio's. They borrow `words`, which comes back.
/// ```
/// use xiio::{run_in_thread, task_group};
///
/// let words = vec!["several".to_string(), "cores".to_string()];
/// let tree = run_in_thread(async move || {
///     let mut lengths = [0; 2];
///     task_group!(workers = 2, |tg| {
///         for (word, length) in words.iter().zip(&mut lengths) {
///             tg.workers().spawn(async || *length = word.len());
///         }
///     });
///     (words, lengths)
/// });
/// let (words, lengths) = futures::executor::block_on(tree);
/// assert_eq!((words[0].as_str(), lengths), ("several", [7, 5]));
/// ```
///
/// It does not borrow:
/// ```compile_fail,E0597
/// let text = String::from("hello");
/// let len = xiio::run(xiio::run_in_thread(async || text.len()));
/// ```
///
/// # Source
/// [`std::thread::spawn`] with a [`run`] in it, as a future that can be cancelled.
#[track_caller]
#[doc(alias("spawn_local", "Runtime", "spawn_pinned", "block_in_place"))]
pub fn run_in_thread<F, T>(f: F) -> RunInThread<T>
where
    F: AsyncFnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let stop = Promise::new();
    let is_told = stop.wait_set();
    let tree = move || run(Pinned::new(async move { f().await }, Stop { owner: Owner::default(), is_told }));
    RunInThread {
        node: Parked::new(TREE.label),
        job: Awaited::new(&TREE, threads().clone(), Box::new(tree), Some(stop), |value| {
            value.as_ref().and_then(err_type)
        }),
    }
}

static TREE: About = About { label: "run_in_thread", text: "run_in_thread", why_late: None };

/// The threads of all trees.
fn threads() -> &'static ThreadPool {
    static THREADS: Standing = Standing::new();
    THREADS.get(ThreadPool::without_bound)
}

/// Runs the tree, and gives its value if it was not cancelled.
type Tree<T> = Box<dyn FnOnce() -> Option<T> + Send>;

/// The future of [`run_in_thread`].
#[must_use = "the tree does not begin before this is awaited"]
pub struct RunInThread<T> {
    /// Dropped before the job. So the tree that waits for the cleanup is woken while the job still counts as work outside, and
    /// takes no moment between the two for a deadlock.
    node: Parked,
    job: Awaited<Tree<T>, Option<T>>,
}

impl<T: Send + 'static> Future for RunInThread<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Self { node: parked, job } = self.get_mut();
        let mut node = parked.unpark();
        let polled = job.poll(&mut node, cx);
        parked.park(node);
        let value = ready!(polled);
        Poll::Ready(value.unwrap_or_else(|| panic!("`run_in_thread` was polled again after its cancellation")))
    }
}

impl<T> fmt::Debug for RunInThread<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.job.fmt(f)
    }
}

/// The owner of a whole tree, and what makes it cancel.
struct Stop {
    owner: Owner,
    is_told: WaitSet<()>,
}

impl<F: Future> Future for Pinned<F, Stop> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (mut tree, Stop { owner, is_told }) = self.project();
        // One that is drawn is polled again when that is over.
        if !owner.is_unwinding() && !unwind::is_inspecting() && is_told.poll_set(cx).is_ready() {
            if recording::is_on() {
                recording::cancelled(None, Why::NotAwaited, None);
            }
            owner.cancel_slot(tree.as_mut());
        }
        owner.poll_slot(tree, cx)
    }
}
