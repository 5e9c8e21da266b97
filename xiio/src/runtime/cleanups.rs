//! How long cleanups take, where somebody wants to know: one that takes long is reported while it lasts.
//!
//! A timer is there for the one that began first, and a thread-local function for whoever begins to unwind; without a limit there is neither.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use super::Runtime;
use crate::drawing::Drawing;
use crate::report::{ReportKind, report};
use crate::timer::TimerKey;
use crate::unwind;

/// The cleanups that go on under one runtime.
#[derive(Default)]
pub(super) struct Cleanups {
    limit: Cell<Option<Duration>>,
    /// When each began that was not reported; the first one first.
    live: RefCell<BTreeMap<u64, Instant>>,
    n_begun: Cell<u64>,
    timer: Cell<Option<TimerKey>>,
}

/// Has each cleanup on this thread reported that takes longer and begins from now on; `None` is none.
pub(super) fn set_limit(limit: Option<Duration>) {
    unwind::on_begin(limit.is_some().then_some(begin));
    Runtime::look(|runtime| runtime.cleanups.limit.set(limit));
}

/// A cleanup goes on, until this is dropped.
struct Cleanup {
    number: u64,
    cleanups: Rc<Cleanups>,
}

fn begin() -> Option<Box<dyn Any>> {
    Runtime::look(|runtime| {
        let cleanups = Rc::clone(&runtime.cleanups);
        let number = cleanups.n_begun.get();
        cleanups.n_begun.set(number + 1);
        cleanups.live.borrow_mut().insert(number, runtime.now());
        cleanups.keep_timer(runtime);
        Box::new(Cleanup { number, cleanups }) as Box<dyn Any>
    })
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        self.cleanups.live.borrow_mut().remove(&self.number);
        Runtime::look(|runtime| {
            // It may have come to its end in another run.
            if Rc::ptr_eq(&runtime.cleanups, &self.cleanups) && self.cleanups.live.borrow().is_empty() {
                self.cleanups.end_timer(runtime);
            }
        });
    }
}

impl Cleanups {
    /// Has the timer be there for the first one. It may fire too early for the one that is the first then.
    fn keep_timer(&self, runtime: &Runtime) {
        let first = self.live.borrow().first_key_value().map(|(_, began)| *began);
        let end = first.zip(self.limit.get()).and_then(|(began, limit)| began.checked_add(limit));
        if let Some(end) = end.filter(|end| !runtime.is_never(*end))
            && self.timer.get().is_none()
        {
            self.timer.set(Some(runtime.insert_timer(end, Waker::from(Arc::new(Late)))));
        }
    }

    pub(super) fn has_timer(&self) -> bool {
        self.timer.get().is_some()
    }

    fn end_timer(&self, runtime: &Runtime) {
        // The waker is ours.
        drop(self.timer.take().and_then(|key| runtime.remove_timer(key)));
    }

    /// Reports those that have taken too long by now, each once.
    fn look(&self, runtime: &Runtime) {
        self.timer.set(None);
        let (now, limit) = (runtime.now(), self.limit.get().unwrap_or(Duration::MAX));
        let is_late = |began: &Instant| now.saturating_duration_since(*began) >= limit;
        let mut are_any = false;
        self.live.borrow_mut().retain(|_, began| {
            let is_late = is_late(began);
            are_any |= is_late;
            !is_late
        });
        if are_any {
            runtime.request_drawing(Box::new(move |tree| report_late(limit, &tree.cleaning_up())));
        }
        self.keep_timer(runtime);
    }
}

/// Says who cleans up, unless they have ended by being drawn.
fn report_late(limit: Duration, rest: &Drawing) {
    if !rest.is_empty() {
        let text =
            format!("a cleanup has taken {limit:?} and goes on; `grace` bounds that of what is cancelled:\n{rest}");
        report(ReportKind::SlowCleanup, text);
    }
}

/// Wakes nobody: it has the runtime of its thread look.
struct Late;

impl Wake for Late {
    fn wake(self: Arc<Self>) {
        Runtime::look(|runtime| runtime.cleanups.look(runtime));
    }
}
