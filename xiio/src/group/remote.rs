//! Tasks that come from elsewhere: a handle of a group that any thread may keep.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Waker;
use std::thread::{self, ThreadId};

use crate::cores::{Crew, HandIn};
use crate::error::GroupEnded;
use crate::report::report_if_err;
use crate::sync::{Mutex, MutexGuard, lock};

/// Spawns into a group from anywhere: from other threads, or from code that may not borrow. Of
/// [`TaskGroup::remote`](crate::TaskGroup::remote).
///
/// A clone is the same handle. It keeps neither the group nor its thread alive: the tasks of the group end as they would without the
/// handle, and it refuses what comes later.
///
/// The handle of a `try_task_group!` is the same: a panic of a job is the group's, and the value of a job is dropped, whatever it
/// is. Let the job itself send its result. An `Err` that it gives is reported.
///
/// # Examples
/// A thread hands in jobs, which run on the thread of the group:
/// ```
/// use xiio::{Promise, task_group};
///
/// xiio::run(async {
///     let done = Promise::new();
///     task_group!(|tg| {
///         let (remote, setter) = (tg.remote(), done.clone());
///         std::thread::spawn(move || {
///             remote.spawn(move || async move {
///                 // What lives here need not be `Send`.
///                 let text = std::rc::Rc::new("from a thread");
///                 xiio::yield_now().await;
///                 setter.set(text.len()).unwrap();
///             })
///         });
///         // Keeps the group open.
///         done.wait().await;
///     });
///     assert_eq!(done.get(), Some(&13));
/// });
/// ```
#[derive(Clone)]
pub struct Remote {
    shared: Arc<Shared>,
}

type AnyFuture = Pin<Box<dyn Future<Output = ()>>>;

/// What is to be run in the group.
pub(super) struct Job {
    /// Calls no code of the user: that runs when the future is polled.
    make: Box<dyn FnOnce() -> AnyFuture + Send>,
    pub(super) location: &'static Location<'static>,
}

impl Job {
    pub(super) fn into_future(self) -> AnyFuture {
        (self.make)()
    }
}

struct Shared {
    inbox: Mutex<Inbox>,
    /// That of the group.
    home: ThreadId,
    /// Has the group look into the inbox.
    waker: Waker,
    /// The workers of the group, who may be cancelled before home knows, and after.
    crew: Option<Arc<Crew>>,
}

#[derive(Default)]
struct Inbox {
    jobs: VecDeque<Job>,
    open_to: OpenTo,
}

/// From whom a group takes jobs.
#[derive(Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum OpenTo {
    /// It has ended.
    Nobody,
    /// It only cleans up. What its own thread hands in belongs to that; from elsewhere more might come for ever.
    Home,
    #[default]
    All,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        lock(&self.inbox)
    }

    /// Whether a job of this thread is refused.
    fn refuses(&self, inbox: &Inbox) -> bool {
        match inbox.open_to {
            OpenTo::Nobody => true,
            OpenTo::Home => thread::current().id() != self.home,
            OpenTo::All => false,
        }
    }

    /// Runs `hand_in` unless a job of this thread is refused, or cancelled at once; `false` if it is refused. What cancels takes the same
    /// locks.
    fn hand_in(&self, hand_in: impl FnOnce(&mut Inbox)) -> bool {
        let hand_in = || {
            let mut inbox = self.lock();
            let is_accepted = !self.refuses(&inbox);
            if is_accepted {
                hand_in(&mut inbox);
            }
            is_accepted
        };
        let handed_in = match &self.crew {
            Some(crew) => crew.hand_in(hand_in),
            None => HandIn::Done(hand_in()),
        };
        match handed_in {
            HandIn::Done(is_accepted) => is_accepted,
            HandIn::Cancelled => true,
            HandIn::Refused => false,
        }
    }
}

impl Remote {
    /// `waker` must not be code of the user.
    pub(super) fn new(waker: Waker, crew: Option<Arc<Crew>>) -> Self {
        let home = thread::current().id();
        Self { shared: Arc::new(Shared { inbox: Mutex::default(), home, waker, crew }) }
    }

    /// Adds a task, which runs on the thread of the group. Does not wait.
    ///
    /// `make` is called there, too, so only `make` has to be `Send`, and not the future. Otherwise the task is like any
    /// other of the group: it is cancelled with the group and waited for, and a panic in it is the group's. Tasks that one
    /// thread has handed in begin in that order. The value of the future is dropped; an `Err` is reported.
    ///
    /// A task that the group's own thread hands in while the group cleans up belongs to that, as one that is spawned there does.
    ///
    /// If other code drops the group, a task that was handed in is dropped without a report. In a leaked group it never begins,
    /// and is never dropped.
    ///
    /// # Errors
    /// [`GroupEnded`] when the group has ended. Other threads get it earlier: once the group is cancelled, or its body and its
    /// tasks have ended. `make` is dropped then.
    ///
    /// # Examples
    /// ```
    /// use std::cell::Cell;
    /// use xiio::{in_thread, task_group};
    ///
    /// thread_local!(static N_RUN: Cell<u32> = const { Cell::new(0) });
    ///
    /// xiio::run(async {
    ///     task_group!(|tg| {
    ///         let remote = tg.remote();
    ///         in_thread(move || remote.spawn(|| async { N_RUN.set(N_RUN.get() + 1) })).await.unwrap();
    ///     });
    ///     assert_eq!(N_RUN.get(), 1);
    /// });
    /// ```
    #[track_caller]
    pub fn spawn<M, F>(&self, make: M) -> Result<(), GroupEnded>
    where
        M: FnOnce() -> F + Send + 'static,
        F: IntoFuture + 'static,
    {
        let location = Location::caller();
        let run = async move |make: M| report_if_err(&make().await, location);
        let job = Job { make: Box::new(move || -> AnyFuture { Box::pin(run(make)) }), location };
        // Code of the user, so it is dropped here and not under a lock.
        let mut job = Some(job);
        if !self.shared.hand_in(|inbox| inbox.jobs.extend(job.take())) {
            return Err(GroupEnded);
        }
        self.shared.waker.wake_by_ref();
        Ok(())
    }

    /// Whether the group has ended, so that it would refuse a task; see [`Remote::spawn`] for other threads than the group's own.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        !self.shared.hand_in(|_| ())
    }

    /// The job that has come in first.
    pub(super) fn take_job(&self) -> Option<Job> {
        self.shared.lock().jobs.pop_front()
    }

    /// How many jobs have come in.
    pub(super) fn n_jobs(&self) -> usize {
        self.shared.lock().jobs.len()
    }

    /// Refuses what comes from other threads from now on. Gives how many jobs have come in.
    pub(super) fn close_to_others(&self) -> usize {
        let mut inbox = self.shared.lock();
        inbox.open_to = OpenTo::Home.min(inbox.open_to);
        inbox.jobs.len()
    }

    /// Refuses what comes from other threads from now on, unless something has come in; `true` if nothing has.
    pub(super) fn close_to_others_if_empty(&self) -> bool {
        self.close_if_empty(OpenTo::Home)
    }

    /// Refuses what comes from now on, unless something has come in; `true` if nothing has.
    pub(super) fn end_if_empty(&self) -> bool {
        self.close_if_empty(OpenTo::Nobody)
    }

    fn close_if_empty(&self, open_to: OpenTo) -> bool {
        let mut inbox = self.shared.lock();
        let is_empty = inbox.jobs.is_empty();
        if is_empty {
            inbox.open_to = open_to.min(inbox.open_to);
        }
        is_empty
    }

    /// Refuses what comes from now on, and gives what has come in.
    pub(super) fn end(&self) -> VecDeque<Job> {
        let mut inbox = self.shared.lock();
        inbox.open_to = OpenTo::Nobody;
        mem::take(&mut inbox.jobs)
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("has_ended", &self.has_ended()).finish()
    }
}
