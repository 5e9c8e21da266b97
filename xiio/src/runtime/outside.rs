//! Work elsewhere that will wake a task, counted so that the wait for it is not taken for a deadlock.

use std::sync::Arc;

use super::Runtime;
use crate::sync::{AtomicU32, Ordering};
use crate::task::Home;

/// Work on another thread that will wake a task of the runtimes that count it.
#[derive(Default)]
pub(crate) struct Outside {
    counted: Option<Counted>,
    /// By others before, where a future that may go to any thread was polled in several. Each may wait for it still: there is no
    /// telling who has it to himself and who shares it.
    before: Vec<Counted>,
}

struct Counted {
    n_outside: Arc<AtomicU32>,
    home: &'static Home,
}

impl Outside {
    /// Has it counted by the runtime that polls now, until this is dropped. Called at each poll: at the one before there may have
    /// been none, or another one.
    pub(crate) fn count_here(&mut self) {
        Runtime::look(|Runtime { n_outside, home, .. }| {
            let is_this = |counted: &Counted| Arc::ptr_eq(&counted.n_outside, n_outside);
            if !self.counted.iter().chain(&self.before).any(is_this) {
                n_outside.fetch_add(1, Ordering::Relaxed);
                let counted = Counted { n_outside: Arc::clone(n_outside), home };
                self.before.extend(self.counted.replace(counted));
            }
        });
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // Ordering: what the thread sees once it was nudged includes this.
        self.n_outside.fetch_sub(1, Ordering::Relaxed);
        if !self.home.is_current() {
            // It may sleep for as long as there is such work.
            self.home.nudge();
        }
    }
}
