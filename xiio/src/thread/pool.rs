//! Threads that take jobs from a queue.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::mem;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use super::crew::{Crew, Help, Id, Next, WITHOUT_BOUND};
use super::future::InThread;
use super::job::Work;
use crate::report::drop_safely;
use crate::sync::{Builder, Mutex, StaticMutex, Thread, current, lock, lock_static, park, thread_local};
use crate::sys;
use crate::sys::fork::{self, Process};

type AnyJob = Arc<dyn Work>;
type Workers = Mutex<Crew<AnyJob, Thread>>;

/// A number of threads for blocking work.
///
/// Threads are started when they are needed, `max` at most, and end after ten idle seconds. A thread whose job was left behind
/// ([`InThread::abandon_on_cancel`]) does not count: another is started in its place, for at most four times `max` such jobs. A clone is the same pool. When
/// the last clone and the last waiting job have gone, the threads end.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use xiio::thread::ThreadPool;
///
/// let pool = ThreadPool::new(2);
/// let squares = xiio::run(xiio::gather((1..=3).map(|n| pool.run(move || {
///     std::thread::sleep(Duration::from_millis(10));
///     n * n
/// }))));
/// assert_eq!(squares, [1, 4, 9]);
/// ```
///
/// # Source
/// `xiio.ThreadPool` in the Python original, which is a block that waits for its threads; here every job is waited
/// for.
#[derive(Clone)]
pub struct ThreadPool {
    pool: Arc<Pool>,
}

impl ThreadPool {
    /// A pool of at most `max` threads. None is started yet.
    ///
    /// # Panics
    /// When `max` is zero.
    #[must_use]
    #[track_caller]
    pub fn new(max: usize) -> Self {
        assert!(max > 0, "a pool of no threads would never run a job; `max` must be at least 1");
        let workers = Arc::new(Mutex::new(Crew::new(max)));
        Self { pool: Arc::new(Pool { workers }) }
    }

    /// Runs `f` on a thread of this pool, see [`in_thread`](crate::thread::in_thread).
    ///
    /// Jobs begin in the order in which their futures are first polled.
    ///
    /// # Examples
    /// ```
    /// use xiio::thread::ThreadPool;
    ///
    /// let pool = ThreadPool::new(1);
    /// let ids = xiio::run(xiio::gather((0..3).map(|_| pool.run(|| std::thread::current().id()))));
    /// assert!(ids.iter().all(|id| *id == ids[0]));
    /// ```
    #[track_caller]
    pub fn run<F, T>(&self, f: F) -> InThread<F, T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        InThread::new(self.clone(), f)
    }

    /// The pool of [`in_thread`](crate::thread::in_thread).
    pub(super) fn shared() -> &'static Self {
        static SHARED: Standing = Standing::new();
        SHARED.get(|| {
            let n_cpus = thread::available_parallelism().map_or(1, NonZeroUsize::get);
            Self::new(32.min(n_cpus + 4))
        })
    }

    /// A pool with a thread for each job.
    pub(crate) fn without_bound() -> Self {
        Self::new(WITHOUT_BOUND)
    }

    /// Hands a job to the workers in this process, which is `process`.
    pub(super) fn push(&self, job: AnyJob, process: Process) {
        let mut crew = lock(&self.pool.workers);
        crew.be_in(process);
        let unwanted = crew.take_unwanted(|job| !job.is_cancelled());
        let help = crew.push(job);
        drop(crew);
        call(&self.pool.workers, help);
        unwanted.into_iter().for_each(drop_safely);
    }

    /// A job of this pool that runs was left behind.
    pub(super) fn leave_behind(&self) {
        let help = lock(&self.pool.workers).leave_behind();
        call(&self.pool.workers, help);
    }
}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPool").finish_non_exhaustive()
    }
}

/// A pool that is kept as long as the process, also through a fork: made by the first who asks for it.
///
/// What does not work: a `OnceLock`. A thread may be in the middle of it while another one forks, and the child would wait for it for ever.
pub(crate) struct Standing {
    pool: StaticMutex<Option<&'static ThreadPool>>,
    is_held: AtomicBool,
}

impl Standing {
    pub(crate) const fn new() -> Self {
        Self { pool: StaticMutex::new(None), is_held: AtomicBool::new(false) }
    }

    pub(crate) fn get(&'static self, make: impl FnOnce() -> ThreadPool) -> &'static ThreadPool {
        let place = || lock_static(&self.pool);
        fork::hold(&self.is_held, move || {
            let place = place();
            let workers = place.map(|pool| lock(&pool.pool.workers));
            Box::new((workers, place))
        });
        place().get_or_insert_with(|| Box::leak(Box::new(make())))
    }
}

/// What the users of a pool share; the workers share what is inside.
struct Pool {
    workers: Arc<Workers>,
}

impl Drop for Pool {
    fn drop(&mut self) {
        let idle = lock(&self.workers).close();
        idle.iter().for_each(Thread::unpark);
    }
}

/// An error of the system once more.
fn same(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

/// Wakes or starts the worker that the crew has called.
fn call(workers: &Arc<Workers>, help: Help<Thread>) {
    match help {
        Help::Nobody => {}
        Help::Wake(worker) => worker.unpark(),
        Help::Start(id) => {
            let crew = Arc::clone(workers);
            let start = || Builder::new().name("xiio-worker".into()).spawn(move || work(&crew, id));
            if let Err(error) = sys::call(sys::Call::Make, start) {
                let (stranded, idle) = lock(workers).refuse_start();
                if let Some(idle) = idle {
                    idle.unpark();
                }
                stranded.into_iter().for_each(|job| job.refuse(same(&error)));
            }
        }
    }
}

thread_local! {
    /// The job that runs on this thread.
    static CURRENT: RefCell<Option<AnyJob>> = const { RefCell::new(None) };
}

/// Whether the job that runs on this thread should stop: whoever waits for it was cancelled.
///
/// Threads cannot be interrupted, so a long job asks now and then. Always `false` on threads that are not of a pool.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use xiio::{thread::is_cancelled, timeout};
///
/// let search = xiio::in_thread(|| {
///     while !is_cancelled() {
///         std::thread::sleep(Duration::from_millis(1));
///     }
/// });
/// assert!(xiio::run(timeout(Duration::from_millis(5), search)).is_err());
/// ```
#[must_use]
pub fn is_cancelled() -> bool {
    // Destructors of thread-locals may come later than that of this one.
    let is_cancelled =
        |current: &RefCell<Option<AnyJob>>| current.borrow().as_ref().is_some_and(|job| job.tell_whether_cancelled());
    CURRENT.try_with(is_cancelled).unwrap_or(false)
}

/// The life of a worker.
///
/// The result of a job is published when the next job is taken, or the worker is among the idle: whoever gets the result
/// and hands in another job finds this worker free, and calls no second one.
fn work(workers: &Arc<Workers>, id: Id) {
    let me = current();
    let (mut has_rested, mut was_left) = (false, false);
    loop {
        let mut crew = lock(workers);
        if mem::take(&mut was_left) {
            crew.note_end_of_left();
        }
        let next = crew.next(id, &me, has_rested);
        drop(crew);
        publish();
        has_rested = match next {
            Next::End => return,
            Next::Rest(limit) => park(limit),
            Next::Work(job, help) => {
                call(workers, help);
                CURRENT.set(Some(Arc::clone(&job)));
                was_left = job.work();
                false
            }
        };
    }
}

/// Wakes whoever waits for the job that was run last.
fn publish() {
    if let Some(job) = CURRENT.take() {
        job.publish();
    }
}
