//! What happened and has no value to travel in: second failures, cleanups cut off, cancelled code that ran on.
//!
//! Reports go to the thread's listener, or to standard error where there is none, so that nothing is lost silently.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;
use std::task::Waker;

use crate::error::{Payload, panic_text};

/// Something that went wrong and could not be anybody's value.
///
/// Its `Display` is one line (several for [`ReportKind::GraceOver`]) that names the task and the remedy.
#[derive(Debug, Clone)]
pub struct Report {
    kind: ReportKind,
    text: String,
}

/// What a [`Report`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReportKind {
    /// A task, cleanup or destructor failed after the first failure of its group.
    LaterFailure,
    /// A cleanup was dropped because the grace was over.
    GraceOver,
    /// Code that had been cancelled reached another await, through a foreign combinator.
    RanOn,
    /// A task was spawned into a group that had ended.
    Refused,
    /// Something to clean up could not be reached: it was started and then polled by nobody.
    Unreachable,
    /// The whole tree is still cleaning up a second after its cancellation.
    StillStopping,
}

impl Report {
    /// What the report is about.
    #[must_use]
    pub fn kind(&self) -> ReportKind {
        self.kind
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

type Listener = Rc<dyn Fn(&Report)>;

thread_local! {
    static LISTENER: RefCell<Option<Listener>> = const { RefCell::new(None) };
}

/// Hands a report to the listener of this thread.
///
/// A listener that panics is a report lost, not a runtime broken: it may run in the middle of an unwinding.
pub(crate) fn report(kind: ReportKind, text: String) {
    let report = Report { kind, text };
    let listener = LISTENER.try_with(|slot| slot.borrow().clone()).ok().flatten();
    let told = listener.map(|listener| catch_unwind(AssertUnwindSafe(|| listener(&report))));
    if matches!(told, Some(Ok(()))) {
        return;
    }
    // Not `eprintln!`, which panics when nobody reads.
    let _ = writeln!(io::stderr(), "xiio: {report}");
    if let Some(Err(payload)) = told {
        discard(payload);
    }
}

/// Wakes all of them, also after one that panics.
pub(crate) fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        waking(|| waker.wake());
    }
}

/// Calls a waker where more is to be done afterwards. Wakers are user code; one that panics is reported.
pub(crate) fn waking(wake: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(wake)) {
        report(ReportKind::LaterFailure, format!("a waker panicked: {}", panic_text(&*payload)));
        discard(payload);
    }
}

/// Drops what belongs to the user in a place that must go on; a panic is reported.
pub(crate) fn drop_safely<T>(value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        report_destructor(payload);
    }
}

/// Reports that a destructor has panicked.
pub(crate) fn report_destructor(payload: Payload) {
    report(ReportKind::LaterFailure, format!("a destructor panicked: {}", panic_text(&*payload)));
    discard(payload);
}

/// Drops the payload of a panic that has been told. One that panics once more is forgotten.
pub(crate) fn discard(payload: Payload) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
}

/// Sets the listener, gives back the one before.
pub(crate) fn set_listener(listener: Option<Listener>) -> Option<Listener> {
    LISTENER.with(|slot| slot.replace(listener))
}

/// Where something was started, for reports.
pub(crate) fn spawned_at(location: &Location<'_>) -> String {
    format!("spawned at {}:{}", location.file(), location.line())
}
