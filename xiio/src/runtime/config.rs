//! How a runtime differs from the ordinary one: for tests, and for programs that want to be told of a deadlock.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::sys;
use crate::task::{budget, schedule};

/// What a runtime is started with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Config {
    /// The clock stands still while there is something to do, and jumps when there is not.
    pub(crate) has_virtual_time: bool,
    /// The order of ready tasks is drawn from it.
    pub(crate) seed: Option<u64>,
    /// One poll of a task a turn, so that the root is suspended after each.
    pub(crate) is_single_step: bool,
    /// A runtime in which nothing can wake any task is given up after so long: a thread it does not know of may still do
    /// it.
    pub(crate) deadlock_after: Option<Duration>,
}

impl Config {
    pub(super) fn clock(&self) -> Clock {
        if self.has_virtual_time { Clock::Virtual(Cell::new(Instant::now())) } else { Clock::System }
    }

    /// Applies to this thread what the room of tasks decides.
    pub(super) fn apply(&self) {
        schedule::set_seed(self.seed);
        budget::set_single_step(self.is_single_step);
    }
}

/// What a runtime takes for the present.
pub(super) enum Clock {
    System,
    Virtual(Cell<Instant>),
}

impl Clock {
    #[inline]
    pub(super) fn now(&self) -> Instant {
        match self {
            Self::System => sys::now(),
            Self::Virtual(now) => now.get(),
        }
    }

    pub(super) fn is_virtual(&self) -> bool {
        matches!(self, Self::Virtual(_))
    }

    /// Lets virtual time pass.
    pub(super) fn advance_to(&self, instant: Instant) {
        if let Self::Virtual(now) = self {
            now.set(now.get().max(instant));
        }
    }
}
