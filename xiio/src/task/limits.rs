//! What is reported of the tasks of a thread beyond which limit, where somebody wants to know.

use std::cell::Cell;
use std::time::Duration;

/// The limits of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// For one poll.
    pub(crate) slow_poll: Option<Duration>,
    /// Polls within a second that come to nothing; `usize::MAX` is no limit, as below.
    pub(crate) vain_polls: usize,
    /// Tasks in one group.
    pub(crate) many_tasks: usize,
    /// For one cleanup.
    pub(crate) slow_cleanup: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self::NONE
    }
}

impl Limits {
    const NONE: Self = Self { slow_poll: None, vain_polls: usize::MAX, many_tasks: usize::MAX, slow_cleanup: None };

    /// Whether polls are to be looked at.
    #[inline]
    pub(crate) fn are_for_polls(&self) -> bool {
        self.slow_poll.is_some() || self.vain_polls != usize::MAX
    }
}

thread_local! {
    static LIMITS: Cell<Limits> = const { Cell::new(Limits::NONE) };
}

/// Sets what holds on this thread for the sets that are made from now on.
pub(crate) fn set(limits: Limits) {
    LIMITS.set(limits);
}

/// What holds on this thread.
#[inline]
pub(crate) fn current() -> Limits {
    LIMITS.get()
}
