//! A moment awake before a thread sleeps that may be called at once.
//!
//! Home and a worker that wait for each other by turns would sleep and be woken for each task, which costs more than the task. So
//! who has nothing to do, or may not do it, looks out for a call for as long as a sleep costs. That is at most twice what the better of the two would
//! have cost (Karlin, Manasse and others, "Competitive randomized algorithms for nonuniform problems", 1990).
//!
//! Who looks out keeps its processor from others, from the very thread that is to call if that was there last. So nobody does whose
//! caller was not seen on another one. And where it was in vain, the next sleeps come without it, twice as many each time.

use std::cell::Cell;
use std::hint::spin_loop;
use std::time::Duration;

use crate::sync::{AtomicU32, Ordering, thread_local};
use crate::sys;
use crate::task::Home;

/// What a sleep and the wake-up from it cost, roughly. A model has no clock.
const LENGTH: Duration = if cfg!(all(test, loom)) { Duration::ZERO } else { Duration::from_micros(20) };
/// Looks between two looks at the clock.
const N_LOOKS: u32 = 20;
/// So many sleeps come without it at most.
const MOST_SKIPPED: u32 = 63;

thread_local! {
    /// Of this thread: sleeps that are still to come without it, and how many those were at first.
    static SKIPS: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
}

/// Looks out for a call to this thread, if it may be worth it. The caller sleeps if none came.
pub(super) fn keep(may_be_worth_it: impl FnOnce() -> bool) {
    let (n_left, n_skipped) = SKIPS.get();
    if n_left > 0 {
        SKIPS.set((n_left - 1, n_skipped));
    } else if may_be_worth_it() {
        let n_skipped = if is_called() { 0 } else { (2 * n_skipped + 1).min(MOST_SKIPPED) };
        SKIPS.set((n_skipped, n_skipped));
    }
}

fn is_called() -> bool {
    let (home, end) = (Home::current(), sys::now() + LENGTH);
    while sys::now() < end {
        for _ in 0..N_LOOKS {
            if home.is_called() {
                return true;
            }
            spin_loop();
        }
    }
    false
}

/// The processor that a thread was on when it said so last.
pub(super) struct LastSeen(AtomicU32);

/// It has not said so yet, or the system does not tell.
const NOWHERE: u32 = u32::MAX;

impl LastSeen {
    pub(super) fn new() -> Self {
        Self(AtomicU32::new(NOWHERE))
    }

    /// This thread is here now.
    pub(super) fn note(&self) {
        self.0.store(sys::processor().unwrap_or(NOWHERE), Ordering::Relaxed);
    }

    /// Whether that was another processor than the one of this thread; `None` if it has not said so yet.
    pub(super) fn is_elsewhere(&self) -> Option<bool> {
        let last = self.0.load(Ordering::Relaxed);
        (last != NOWHERE).then(|| sys::processor() != Some(last))
    }
}
