//! Cleanup that did not run, since what it is of was dropped half-way; and who drops.

use std::cell::Cell;
use std::panic::Location;

use crate::drawing::FileLine;
use crate::report::{ReportKind, report};

/// Who drops futures on this thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dropper {
    /// Nobody that is known: code of others.
    Foreign,
    /// Who ends what has panicked.
    Panic,
    /// Who gives up what could not be cleaned up in time, and has reported it.
    Grace,
    /// The end of a run whose root has not come to its own.
    Run,
}

thread_local! {
    static DROPPER: Cell<Dropper> = const { Cell::new(Dropper::Foreign) };
}

/// Who drops futures on this thread right now: for another thread that drops in its name.
pub(crate) fn dropper() -> Dropper {
    match DROPPER.get() {
        Dropper::Foreign if std::thread::panicking() => Dropper::Panic,
        dropper => dropper,
    }
}

/// Drops in the name of `dropper`: what is cut off by `drop` knows why.
pub(crate) fn dropping<R>(dropper: Dropper, drop: impl FnOnce() -> R) -> R {
    struct Restore(Dropper);
    impl Drop for Restore {
        fn drop(&mut self) {
            DROPPER.set(self.0);
        }
    }
    let _restore = Restore(DROPPER.replace(dropper));
    drop()
}

/// Reports that what was made at `place` holds a cleanup, and is dropped before that has run.
///
/// Not where a grace cuts it off: the report of that has named all that it drops.
#[cold]
pub(crate) fn report_skipped(what: &str, place: &Location<'_>) {
    let why = match DROPPER.get() {
        Dropper::Grace => return,
        _ if std::thread::panicking() => "by a panic",
        Dropper::Panic => "after a panic beside it",
        Dropper::Run => "by the end of its run",
        Dropper::Foreign => {
            "by other code than xiio's, which gives it destructors and nothing that awaits; `race!`, `timeout` and `join!` let it clean up"
        }
    };
    let place = FileLine(place);
    report(ReportKind::CleanupSkipped, format!("{what} at {place} did not run to its end: it was dropped {why}"));
}
