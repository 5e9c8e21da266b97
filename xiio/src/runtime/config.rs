//! How a runtime differs from the ordinary one: for tests, and for programs that want to be told of a deadlock.

use std::any::Any;
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cleanups;
use super::elsewhere::Requests;
use crate::recording::Recorder;
use crate::sys;
use crate::task::limits::Limits;
use crate::task::{budget, polls, schedule};

/// Takes what others may ask of a runtime, and its recording.
pub(crate) type Serve = fn(Arc<Requests>, Arc<Recorder>) -> Box<dyn Any>;

/// Takes the recording of a run. What it gives is dropped when all has ended.
pub(crate) type Save = fn(Arc<Recorder>) -> Box<dyn Any>;

/// Prints the tree when one of the signals comes. What it gives is dropped at the end.
pub(crate) type PrintOn = fn(&[i32], Arc<Requests>) -> Box<dyn Any>;

/// What a runtime is started with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Config {
    /// The clock stands still while there is something to do, and jumps when there is not.
    pub(crate) has_virtual_time: bool,
    /// It jumps beside sockets of this machine, too: both of their ends are in this program.
    pub(crate) is_loopback: bool,
    /// Time may become virtual on the way.
    pub(crate) is_test: bool,
    /// The order of ready tasks is drawn from it.
    pub(crate) seed: Option<u64>,
    /// One poll of a task a turn, so that the root is suspended after each.
    pub(crate) is_single_step: bool,
    /// A runtime in which nothing can wake any task is given up after so long: a thread it does not know of may still do
    /// it.
    pub(crate) deadlock_after: Option<Duration>,
    /// A foreign loop waits for it.
    pub(crate) is_embedded: bool,
    /// Beyond which polls, groups and cleanups are reported.
    pub(crate) limits: Limits,
    /// Lets other programs look at the tree. What it gives is dropped at the end.
    pub(crate) serve: Option<Serve>,
    /// Keeps the recording of the run.
    pub(crate) save: Option<Save>,
    /// At which signals the tree is printed.
    pub(crate) print_on: Option<(PrintOn, Vec<i32>)>,
}

impl Config {
    /// Whether a group may have threads of its own: virtual time and a schedule that can be repeated know of one.
    pub(super) fn allows_workers(&self) -> bool {
        !self.has_virtual_time && self.seed.is_none() && !self.is_single_step && !self.is_embedded
    }

    pub(super) fn clock(&self) -> Clock {
        let clock = Clock { still_at: Cell::new(None) };
        if self.has_virtual_time {
            clock.pause();
        }
        clock
    }

    /// Applies to this thread what the room of tasks decides.
    pub(super) fn apply(&self) {
        schedule::set_seed(self.seed);
        budget::set_single_step(self.is_single_step);
        polls::set_limits(self.limits);
        cleanups::set_limit(self.limits.slow_cleanup);
    }
}

/// What a runtime takes for the present: the system's clock, or an instant that stands still.
pub(super) struct Clock {
    still_at: Cell<Option<Instant>>,
}

impl Clock {
    #[inline]
    pub(super) fn now(&self) -> Instant {
        self.still_at.get().unwrap_or_else(sys::now)
    }

    pub(super) fn is_virtual(&self) -> bool {
        self.still_at.get().is_some()
    }

    /// Makes time virtual.
    pub(super) fn pause(&self) {
        self.still_at.set(Some(self.now()));
    }

    /// Lets virtual time pass.
    pub(super) fn advance_to(&self, instant: Instant) {
        self.still_at.update(|now| now.map(|now| now.max(instant)));
    }
}
