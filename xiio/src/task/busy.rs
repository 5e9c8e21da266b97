//! What the loop of a thread is busy with, for who asks from another thread. Nothing is written unless somebody watches.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::Instant;

use super::handle;
use super::refs::{BODY, TaskRef};
use super::set::Core;
use crate::report::Origin;
use crate::sync::{Mutex, PoisonError};
use crate::sys;

/// What is being polled, shared with who watches.
#[derive(Default)]
pub(crate) struct Watch {
    busy: Mutex<Option<Busy>>,
}

/// What is being polled, and since when.
#[derive(Clone)]
pub(crate) struct Busy {
    pub(crate) since: Instant,
    /// `None` is the root.
    pub(crate) with: Option<Origin>,
}

thread_local! {
    // `ManuallyDrop`: it is asked also where the thread ends. It is empty outside of runs.
    static WATCH: ManuallyDrop<RefCell<Option<Arc<Watch>>>> = const { ManuallyDrop::new(RefCell::new(None)) };
}

impl Watch {
    /// `None` while the loop waits.
    pub(crate) fn busy(&self) -> Option<Busy> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, busy: Option<Busy>) {
        *self.busy.lock().unwrap_or_else(PoisonError::into_inner) = busy;
    }
}

/// Has everything that starts on this thread from now on write what it polls.
pub(crate) fn begin(watch: Arc<Watch>) {
    WATCH.with(|slot| slot.replace(Some(watch)));
}

pub(crate) fn end() {
    WATCH.with(|slot| slot.take());
}

pub(super) fn is_on() -> bool {
    WATCH.with(|watch| watch.borrow().is_some())
}

/// The root is polled next, or nothing.
pub(crate) fn note_root(is_polled: bool) {
    note(|| is_polled.then(|| Busy { since: sys::now(), with: None }));
}

/// This task is polled next.
pub(super) fn note_task(task: Option<TaskRef>) {
    note(|| Some(Busy { since: sys::now(), with: task_around(task).map(handle::origin_of) }));
}

fn note(busy: impl FnOnce() -> Option<Busy>) {
    WATCH.with(|watch| {
        if let Some(watch) = &*watch.borrow() {
            watch.set(busy());
        }
    });
}

/// The task itself, or the one whose future has the group of which it is the body; `None` is the root.
fn task_around(mut task: Option<TaskRef>) -> Option<TaskRef> {
    while let Some(body) = task.filter(|task| task.header().has(BODY)) {
        task = handle::with_core(body, Core::parent).flatten();
    }
    task
}
