//! Between the members of a group with workers, which may be woken from anywhere, and whoever polls the group.

use std::sync::Arc;
use std::task::{Wake, Waker};

use crate::report::{Held, drop_safely, waking};
use crate::sync::{AtomicU8, Mutex, MutexGuard, Ordering, lock};
use crate::task::Home;

/// The group is to be polled.
const WOKEN: u8 = 1;
/// Home is inside the group's poll, and looks by itself before it leaves or sleeps.
const INSIDE: u8 = 2;

/// The waker that a group with workers is polled with. While home lends, a wake of the group ends there; else it is passed
/// on to whoever polls the group.
pub(crate) struct Bridge {
    state: AtomicU8,
    home: &'static Home,
    /// Who polls the group. User code, so never woken or dropped while this is locked.
    outer: Mutex<Option<Waker>>,
}

impl Bridge {
    pub(super) fn new() -> Self {
        Self { state: AtomicU8::new(0), home: Home::current(), outer: Mutex::new(None) }
    }

    /// That of the group.
    pub(super) fn home(&self) -> &'static Home {
        self.home
    }

    fn lock(&self) -> MutexGuard<'_, Option<Waker>> {
        lock(&self.outer)
    }

    /// Home begins to poll the group. From now on wakes are found by [`Inside::take_woken`].
    pub(crate) fn enter(self: &Arc<Self>, outer: &Waker) -> Inside<'_> {
        let is_known = self.lock().as_ref().is_some_and(|before| before.will_wake(outer));
        if !is_known {
            let outer = outer.clone();
            let before = self.lock().replace(outer);
            drop_safely(before);
        }
        // Ordering: one word for both, so either a wake sees that home is inside, or home sees the wake.
        self.state.fetch_or(INSIDE, Ordering::AcqRel);
        Inside { bridge: self }
    }

    /// The group has ended: nobody polls it any more.
    pub(crate) fn forget_outer(&self) {
        let outer = self.lock().take();
        drop(outer.map(Held::new));
    }

    fn wake_outer(&self) {
        let outer = self.lock().take();
        if let Some(outer) = outer {
            waking(|| outer.wake());
        }
    }
}

impl Wake for Bridge {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let before = self.state.fetch_or(WOKEN, Ordering::AcqRel);
        if before & WOKEN != 0 {
            return;
        }
        if before & INSIDE == 0 {
            self.wake_outer();
        } else if !self.home.is_current() {
            self.home.nudge();
        }
    }
}

/// Home is inside the poll of the group, until this is dropped.
pub(crate) struct Inside<'a> {
    bridge: &'a Arc<Bridge>,
}

impl Inside<'_> {
    /// Whether the group was woken since the last call.
    pub(crate) fn take_woken(&self) -> bool {
        self.bridge.state.fetch_and(!WOKEN, Ordering::AcqRel) & WOKEN != 0
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.bridge.state.load(Ordering::Acquire) & WOKEN != 0
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        if self.bridge.state.fetch_and(!INSIDE, Ordering::AcqRel) & WOKEN != 0 {
            self.bridge.wake_outer();
        }
    }
}
