//! Work elsewhere that will wake a task, counted so that the wait for it is not taken for a deadlock.

use std::sync::Arc;
use std::time::Duration;

use super::Runtime;
use crate::sync::{AtomicBool, AtomicU32, Ordering};
use crate::task::Home;

/// A thread that has ended such work gets so long to wake a task by it. The future may be shared: then those who have not polled
/// it last are woken after it was counted, by code that is not xiio's.
pub(super) const WAKE_UP_CALL: Duration = Duration::from_millis(100);

/// The work elsewhere that a runtime counts.
pub(super) struct Count {
    home: &'static Home,
    n: AtomicU32,
    /// Another thread has ended some, and may not have woken the tasks here yet.
    may_wake: AtomicBool,
    /// The runtime has ended.
    is_over: AtomicBool,
}

impl Count {
    pub(super) fn new(home: &'static Home) -> Self {
        let (may_wake, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { home, n: AtomicU32::new(0), may_wake, is_over }
    }

    pub(super) fn is_zero(&self) -> bool {
        // Ordering: `Acquire`, from whoever has counted it down: what it said of itself before is seen.
        self.n.load(Ordering::Acquire) == 0
    }

    /// Whether another thread has ended some since the last call, and may still wake a task.
    pub(super) fn may_wake(&self) -> bool {
        self.may_wake.load(Ordering::Relaxed) && self.may_wake.swap(false, Ordering::Relaxed)
    }

    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Work on another thread that will wake a task of the runtimes that count it.
#[derive(Default)]
pub(crate) struct Outside {
    counted: Option<Counted>,
    /// The counts of runtimes that polled it before, where a future that may go to any thread was polled in several. Each of
    /// these may wait for it still: nothing tells a future that has moved on from one that several runtimes share.
    before: Vec<Counted>,
}

/// One of a count, until it is dropped.
struct Counted(Arc<Count>);

impl Counted {
    fn new(count: &Arc<Count>) -> Self {
        count.n.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Outside {
    /// Has it counted by the runtime that polls now, until this is dropped. Called at each poll: at the one before there may have
    /// been none, or another one.
    pub(crate) fn count_here(&mut self) {
        Runtime::look(|Runtime { outside, .. }| {
            let is_this = |counted: &Counted| Arc::ptr_eq(&counted.0, outside);
            if !self.counted.iter().chain(&self.before).any(is_this) {
                self.before.extend(self.counted.replace(Counted::new(outside)));
                self.before.retain(|Counted(count)| !count.is_over.load(Ordering::Relaxed));
            }
        });
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Self(count) = self;
        let is_elsewhere = !count.home.is_current();
        if is_elsewhere {
            count.may_wake.store(true, Ordering::Relaxed);
        }
        // Ordering: `Release`, see `is_zero`.
        count.n.fetch_sub(1, Ordering::Release);
        if is_elsewhere {
            // It may sleep for as long as there is such work.
            count.home.nudge();
        }
    }
}
