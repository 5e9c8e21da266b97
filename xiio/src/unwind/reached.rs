//! Whether a leaf is one that cancelled code has run on to.

use super::current::{is_unwinding, report_if_ran_on};

/// Whether a leaf was reached before: polled, if only to be refused.
///
/// What a leaf waits with does not tell. It has none while it is refused, as nothing is registered then: because its task has
/// just cancelled itself, has had its share of the turn, or is drawn. Looked at again in the unwinding that follows, it
/// is none that cancelled code has run on to.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    is_reached: bool,
}

impl Reached {
    /// Called by a leaf at the start of each poll: reached in an unwinding for the first time, it is reported as `what`.
    #[inline]
    pub(crate) fn note(&mut self, what: &str) {
        if !self.is_reached {
            self.note_first(what);
        }
    }

    #[inline]
    fn note_first(&mut self, what: &str) {
        if reach(what) {
            self.is_reached = true;
        }
    }

    /// The leaf has given what it waited for: it is to be reached again.
    #[inline]
    pub(crate) fn reset(&mut self) {
        self.is_reached = false;
    }
}

/// Called for a leaf that was not reached before; whether it is now. Cancelled code reaches none, and is reported.
#[inline]
pub(crate) fn reach(what: &str) -> bool {
    if is_unwinding() {
        report_if_ran_on(what);
        return false;
    }
    true
}
