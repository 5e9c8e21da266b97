//! Cleanup that did not run, since what it is of was dropped half-way; and who drops.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;

use crate::drawing::{Drawing, FileLine};
use crate::error::Payload;
use crate::report::{ReportKind, going_on, report};

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
    /// What workers have drawn, and dropped in the name of the grace that cuts off on this thread.
    static CUT_OFF: RefCell<Vec<(usize, Drawing)>> = const { RefCell::new(Vec::new()) };
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

/// Polls what is in a slot. A panic is caught, and what is in there is dropped for it; that may panic again, and what follows must run.
#[inline]
pub(crate) fn catch_in_slot<F, R>(
    mut slot: Pin<&mut Option<F>>,
    poll: impl FnOnce(Pin<&mut Option<F>>) -> R,
) -> Result<R, Payload> {
    let polled = catch_unwind(AssertUnwindSafe(|| poll(slot.as_mut())));
    if polled.is_err() {
        dropping(Dropper::Panic, || going_on("a destructor panicked", || slot.set(None)));
    }
    polled
}

/// Drops what a grace cuts off, and was drawn as `rest`. Nobody has asked workers for that drawing: those of each group that is dropped draw
/// what they have before they drop it, and `rest` gets that as well.
pub(crate) fn cutting_off<R>(rest: &mut Drawing, drop: impl FnOnce() -> R) -> R {
    struct Restore(Vec<(usize, Drawing)>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CUT_OFF.set(std::mem::take(&mut self.0));
        }
    }
    let restore = Restore(CUT_OFF.take());
    let result = dropping(Dropper::Grace, drop);
    let cut_off = CUT_OFF.take();
    std::mem::drop(restore);
    cut_off.into_iter().for_each(|(crew, drawn)| rest.replace_workers(crew, drawn));
    result
}

/// The workers `crew` have drawn this, and dropped it in the name of a grace.
pub(crate) fn note_cut_off(crew: usize, drawn: Drawing) {
    // Where its thread ends nothing is reported any more.
    let _ = CUT_OFF.try_with(|cut_off| cut_off.borrow_mut().push((crew, drawn)));
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
