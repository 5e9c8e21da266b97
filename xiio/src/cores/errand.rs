//! A job whose borrows the types do not show any more.

use std::cell::{Cell, RefCell};
use std::mem::{ManuallyDrop, transmute};
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;

use super::Crew;
use super::permit::Permit;
use crate::task::TaskSet;

/// What becomes a task, on the thread that it is begun on. It may be shared: what it borrows is let go of by either of these.
pub(crate) trait Job: Send + Sync {
    /// Puts the task into `set`. Runs no code of the user but the drop of a future that the set refuses.
    fn start<'set>(self: Arc<Self>, set: &TaskSet<'set>, notes: &Rc<Notes>)
    where
        Self: 'set;

    /// Whether it was cancelled alone.
    fn is_cancelled(&self) -> bool;

    /// Where it was spawned.
    fn location(&self) -> &'static Location<'static>;

    /// Drops what would have become the task.
    fn discard(self: Arc<Self>);
}

/// What the tasks of one thread leave for whoever polls them.
pub(crate) struct Notes {
    crew: Arc<Crew>,
    /// That of the worker, if this is one.
    permit: Option<Arc<Permit>>,
    /// Tasks that have ended. The futures are gone when the poll of the set is over.
    pub(crate) n_ended: Cell<usize>,
    /// A task at home has left an error with those of its group, and not with its set.
    pub(crate) has_failed: Cell<bool>,
    /// Handles of tasks that have ended on a worker without an output, which do not know it yet.
    ended: RefCell<Vec<Notice>>,
}

impl Notes {
    pub(crate) fn of_home(crew: Arc<Crew>) -> Self {
        let (n_ended, has_failed) = (Cell::new(0), Cell::new(false));
        Self { crew, permit: None, n_ended, has_failed, ended: RefCell::default() }
    }

    pub(super) fn of_worker(crew: Arc<Crew>, permit: Arc<Permit>) -> Self {
        Self { permit: Some(permit), ..Self::of_home(crew) }
    }

    pub(crate) fn crew(&self) -> &Arc<Crew> {
        &self.crew
    }

    /// Whether this is a worker, so that home has to be told of a failure, and the handle after that.
    pub(crate) fn is_of_worker(&self) -> bool {
        self.permit.is_some()
    }

    /// A task has ended without an output. Its handle is told when it is known whether that is a failure: the code that awaits it may have to be
    /// cancelled first.
    pub(crate) fn note_end(&self, notice: Notice) {
        self.ended.borrow_mut().push(notice);
    }

    /// The handle of the task that has failed just now, for home to tell.
    pub(super) fn take_last_end(&self) -> Option<Notice> {
        self.ended.borrow_mut().pop()
    }

    /// Tells the handles of tasks that have not failed. Where the group ends home does so.
    #[inline]
    pub(super) fn tell_handles(&self) {
        if !self.ended.borrow().is_empty() {
            self.tell_these(self.ended.take());
        }
    }

    #[cold]
    fn tell_these(&self, ended: Vec<Notice>) {
        if self.crew.is_ending() {
            self.crew.tell(|news| news.cancelled.extend(ended));
        } else {
            ended.into_iter().for_each(Notice::end);
        }
    }

    /// A task is polled that was spawned there. It may block the thread until it hears of the end of another.
    #[inline]
    pub(crate) fn begin_poll(&self, location: &'static Location<'static>) {
        self.tell_handles();
        if let Some(permit) = &self.permit {
            permit.note_place(location);
        }
    }
}

/// A job on its way, which may borrow. Left to itself it is leaked, not dropped.
pub(crate) struct Errand {
    job: ManuallyDrop<Arc<dyn Job>>,
}

impl Errand {
    pub(crate) fn new<'env>(job: Arc<dyn Job + 'env>) -> Self {
        // SAFETY: the two types differ in a lifetime only. What borrows for it is reached by `start` and `discard` alone,
        // whose contract is that it has not ended.
        let job = unsafe { transmute::<Arc<dyn Job + 'env>, Arc<dyn Job>>(job) };
        Self { job: ManuallyDrop::new(job) }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.job.is_cancelled()
    }

    pub(crate) fn location(&self) -> &'static Location<'static> {
        self.job.location()
    }

    /// Makes a task of it.
    ///
    /// # Safety
    /// - Whatever the job borrows is alive: this thread is inside the poll or the end of the job's group, or is a worker
    ///   that has its permit.
    /// - The set is polled and dropped under the same condition only.
    pub(crate) unsafe fn start(self, set: &TaskSet<'_>, notes: &Rc<Notes>) {
        ManuallyDrop::into_inner(self.job).start(set, notes);
    }

    /// Drops it.
    ///
    /// # Safety
    /// Whatever the job borrows is alive, as for [`Errand::start`].
    pub(crate) unsafe fn discard(self) {
        ManuallyDrop::into_inner(self.job).discard();
    }
}

/// What a handle of a task shares with it.
pub(crate) trait Ends: Send + Sync {
    /// The task has ended without an output.
    fn end(&self);
}

/// Tells the handle of a task that it has failed, or was cancelled for a failure, when home has heard of that: the code that awaits
/// the handle may have to be cancelled first.
pub(crate) struct Notice {
    slot: Arc<dyn Ends>,
}

impl Notice {
    /// # Safety
    /// There is no output in `slot`, and never will be.
    pub(crate) unsafe fn new<'env>(slot: Arc<dyn Ends + 'env>) -> Self {
        // SAFETY: the two types differ in a lifetime only. The caller says that there is nothing which borrows for it.
        let slot = unsafe { transmute::<Arc<dyn Ends + 'env>, Arc<dyn Ends>>(slot) };
        Self { slot }
    }

    pub(crate) fn end(self) {
        self.slot.end();
    }
}
