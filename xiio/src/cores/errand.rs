//! A job whose borrows the types do not show any more.

use std::cell::Cell;
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
    /// A task has left an error with those of its group, and not with its set.
    pub(crate) has_failed: Cell<bool>,
}

impl Notes {
    pub(crate) fn of_home(crew: Arc<Crew>) -> Self {
        Self { crew, permit: None, n_ended: Cell::new(0), has_failed: Cell::new(false) }
    }

    pub(super) fn of_worker(crew: Arc<Crew>, permit: Arc<Permit>) -> Self {
        Self { permit: Some(permit), ..Self::of_home(crew) }
    }

    pub(crate) fn crew(&self) -> &Arc<Crew> {
        &self.crew
    }

    /// Whether this is a worker, so that home has to be told of a failure.
    pub(crate) fn is_of_worker(&self) -> bool {
        self.permit.is_some()
    }

    /// A task is polled that was spawned there.
    #[inline]
    pub(crate) fn note_place(&self, location: &'static Location<'static>) {
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
