//! How long cleanups take, where somebody wants to know: one that takes long is reported while it lasts.
//!
//! A timer is there for the one that began first, and a thread-local function for whoever begins to unwind; without a limit there is neither.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
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
    /// Those that were found to be late, and go on.
    late: RefCell<BTreeSet<u64>>,
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
        self.cleanups.late.borrow_mut().remove(&self.number);
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
        let mut late = Vec::new();
        self.live.borrow_mut().retain(|number, began| {
            let is_late = now.saturating_duration_since(*began) >= limit;
            late.extend(is_late.then_some(*number));
            !is_late
        });
        if !late.is_empty() {
            self.late.borrow_mut().extend(&late);
            runtime.request_drawing(Box::new(move |tree| {
                // They may have ended by being drawn.
                let go_on =
                    |runtime: &Runtime| late.iter().any(|number| runtime.cleanups.late.borrow().contains(number));
                if Runtime::look(go_on) == Some(true) {
                    report_late(limit, &tree.cleaning_up());
                }
            }));
        }
        self.keep_timer(runtime);
    }
}

/// Says who cleans up, as far as that is drawn.
fn report_late(limit: Duration, rest: &Drawing) {
    let who = match rest.is_empty() {
        true => " (a combinator of another crate hides it from the tree)".to_owned(),
        false => format!(":\n{rest}"),
    };
    let text = format!("a cleanup has taken {limit:?} and goes on; `grace` bounds that of what is cancelled{who}");
    report(ReportKind::SlowCleanup, text);
}

/// Wakes nobody: it has the runtime of its thread look.
struct Late;

impl Wake for Late {
    fn wake(self: Arc<Self>) {
        Runtime::look(|runtime| runtime.cleanups.look(runtime));
    }
}
