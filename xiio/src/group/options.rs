//! What stands before the body of a group.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use crate::time;

/// The options of one group, as the macros collect them.
#[derive(Debug, Default, Clone)]
#[must_use]
pub struct GroupOptions {
    pub(super) deadline: Option<Instant>,
    pub(super) name: Option<Cow<'static, str>>,
    pub(super) limit: Option<usize>,
    pub(super) grace: Option<Duration>,
    pub(super) workers: Option<usize>,
}

impl GroupOptions {
    /// No limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels the group `timeout` from now.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        // What lies beyond the clock's range is no limit.
        self.deadline = timeout.into().and_then(|timeout| time::now().checked_add(timeout));
        self
    }

    /// Cancels the group at `deadline`.
    pub fn deadline(mut self, deadline: impl Into<Option<Instant>>) -> Self {
        self.deadline = deadline.into();
        self
    }

    /// Names the group in reports and in the tree.
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Lets at most `limit` tasks run at once.
    ///
    /// # Panics
    /// When it is zero: no task could ever start.
    #[track_caller]
    pub fn limit(mut self, limit: usize) -> Self {
        assert!(limit > 0, "a group with `limit = 0` could never start a task; leave the option out for no limit");
        self.limit = Some(limit);
        self
    }

    /// Drops what has not cleaned up `grace` after its cancellation.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = Some(grace);
        self
    }

    /// Gives the group so many threads for what is spawned on its workers; with none it runs at home.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }
}
