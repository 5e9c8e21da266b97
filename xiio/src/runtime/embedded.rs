//! A runtime inside a foreign loop: the loop waits, this runtime only takes turns.
//!
//! The foreign loop watches the descriptor of the reactor and keeps a timer for the next deadline. Whatever else wakes a
//! task here (another thread, a foreign task on this one) wakes the loop's own waker, through the [`Bridge`].
//!
//! The runtime is the current one of its thread during its turns only, so several may live on one thread, beside tasks of
//! the foreign loop.

use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};
use std::{io, mem};

use super::root::{Root, RootOf, end_in_panic};
use super::{CURRENT, Config, Runtime};
use crate::reactor::Direction;
use crate::report::waking;
use crate::sys;
use crate::task::budget;
use crate::unwind::{self, Dropper};

/// So often the root is polled and the reactor looked at in one turn; then it is the foreign loop's turn again.
const ROUNDS: usize = 4;

/// A future with a runtime of its own, driven by somebody else's loop.
pub(crate) struct Embedded<F: Future> {
    runtime: Rc<Runtime>,
    bridge: Arc<Bridge>,
    /// Wakes the root, and with it the foreign loop.
    waker: Waker,
    root: RootOf<F, Box<Option<F>>>,
    /// Dropped last, also when the destructor of the future panics.
    _notified: Notified,
}

impl<F: Future> Embedded<F> {
    /// # Errors
    /// When the system gives no poller, or one that no other loop can watch.
    pub(crate) fn new(future: F) -> io::Result<Self> {
        let runtime = Rc::new(Runtime::new(&Config { is_embedded: true, ..Config::default() })?);
        runtime.reactor.descriptor()?;
        let bridge = Arc::new(Bridge::default());
        let key = runtime.home.open(Waker::from(Arc::new(Notifier(Arc::clone(&bridge)))));
        let notified = Notified { runtime: Rc::clone(&runtime), key };
        let waker = Waker::from(Arc::clone(&bridge));
        let root = RootOf::new(Box::pin(Some(future)));
        Ok(Self { runtime, bridge, waker, root, _notified: notified })
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.runtime.reactor.descriptor().unwrap_or_else(|_| unreachable!("`new` has asked for it"))
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.runtime.timers.borrow().next_deadline()
    }

    /// Does what there is to do, without waiting. `Ready(None)` when the future has ended before.
    ///
    /// # Panics
    /// Inside of another runtime.
    pub(crate) fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<F::Output>>> {
        assert!(
            !Runtime::is_running(),
            "a foreign loop that runs a xiio tree inside a running xiio runtime; await the tree's future there instead"
        );
        if self.root.is_over() {
            return Poll::Ready(None);
        }
        self.bridge.set_loop(cx.waker());
        let turned = take_turn(&self.runtime, &self.bridge, &self.waker, &mut self.root);
        turned.map(|ended| ended.map(|()| self.root.take_value()).transpose())
    }
}

/// One turn of a root that has not ended.
fn take_turn(runtime: &Rc<Runtime>, bridge: &Arc<Bridge>, waker: &Waker, root: &mut dyn Root) -> Poll<io::Result<()>> {
    let turning = Turning::new(runtime, bridge);
    for _ in 0..ROUNDS {
        turning.take_inbox();
        let mut polled = poll_root(bridge, waker, root);
        if polled.is_pending() {
            polled = runtime.draw(|| {
                bridge.is_woken.store(true, Ordering::SeqCst);
                poll_root(bridge, waker, root)
            });
        }
        if polled.is_ready() {
            return Poll::Ready(Ok(()));
        }
        match turning.look() {
            Ok(false) => return Poll::Pending,
            Ok(true) => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
    drop(turning);
    bridge.wake_loop();
    Poll::Pending
}

fn poll_root(bridge: &Bridge, waker: &Waker, root: &mut dyn Root) -> Poll<()> {
    if !bridge.is_woken.swap(false, Ordering::SeqCst) {
        return Poll::Pending;
    }
    budget::refill();
    catch_unwind(AssertUnwindSafe(|| root.poll(&mut Context::from_waker(waker))))
        .unwrap_or_else(|payload| end_in_panic(root, payload))
}

impl<F: Future> Drop for Embedded<F> {
    fn drop(&mut self) {
        // What is dropped takes its timers and descriptors out of this runtime, whatever runs around it.
        let _turning = Turning::new(&self.runtime, &self.bridge);
        unwind::dropping(Dropper::Run, || self.root.drop_future());
    }
}

/// A place among those that the home notifies.
struct Notified {
    runtime: Rc<Runtime>,
    key: usize,
}

impl Drop for Notified {
    fn drop(&mut self) {
        if let Some(home) = self.runtime.own_home() {
            home.close(self.key);
            if Runtime::is_running() {
                // A turn of another tree goes on.
                home.stay_awake();
            }
        }
    }
}

/// Makes a runtime the current one of its thread for the time of a turn.
struct Turning<'a> {
    runtime: &'a Runtime,
    bridge: &'a Bridge,
    outer: Option<Rc<Runtime>>,
}

impl<'a> Turning<'a> {
    fn new(runtime: &'a Rc<Runtime>, bridge: &'a Bridge) -> Self {
        let outer = CURRENT.with(|current| current.replace(Some(Rc::clone(runtime))));
        bridge.is_turning.store(true, Ordering::SeqCst);
        // The time at the end of the last turn would count as that of this one.
        runtime.turn_began.set(None);
        if let Some(home) = runtime.own_home() {
            home.wake_up();
        }
        Self { runtime, bridge, outer }
    }

    fn take_inbox(&self) {
        if let Some(home) = self.runtime.own_home() {
            home.take_inbox();
        }
    }

    /// The foreign loop goes on. What is in the inbox by now may be for the other trees of this thread, whose loops take no turn
    /// by themselves.
    fn rest(&self) {
        if self.runtime.own_home().is_some_and(|home| !home.rest()) {
            self.take_inbox();
        }
    }

    /// Looks at the reactor and fires timers; `true` if there may be more to do now.
    fn look(&self) -> io::Result<bool> {
        let reactor = &self.runtime.reactor;
        let has_events = sys::fd::is_ready(reactor.descriptor()?, Direction::Read)?;
        if has_events {
            reactor.wait(Some(Duration::ZERO))?;
        }
        self.runtime.fire_timers();
        // A wait reports so many events at most: only a descriptor that is not ready any more will tell of the next one.
        Ok(has_events || self.bridge.is_woken.load(Ordering::SeqCst))
    }
}

impl Drop for Turning<'_> {
    fn drop(&mut self) {
        let outer = mem::take(&mut self.outer);
        let is_inside = outer.is_some();
        CURRENT.with(|current| current.replace(outer));
        self.bridge.is_turning.store(false, Ordering::SeqCst);
        if !is_inside {
            self.rest();
        }
        if self.bridge.is_woken.load(Ordering::SeqCst) {
            self.bridge.wake_loop();
        }
    }
}

/// Between wakers of this runtime and the waker of the foreign loop.
struct Bridge {
    /// The root is to be polled; it is from the start.
    is_woken: AtomicBool,
    /// A wake of the root need not wake the loop now: the end of the turn looks.
    is_turning: AtomicBool,
    /// The waker of the loop; gone once it is woken, until the next turn. It is user code, never run while this is locked. Its
    /// panic is a report: there may be other loops to be woken, or another panic that unwinds.
    foreign: Mutex<Option<Waker>>,
}

impl Default for Bridge {
    fn default() -> Self {
        Self { is_woken: AtomicBool::new(true), is_turning: AtomicBool::new(false), foreign: Mutex::default() }
    }
}

impl Bridge {
    fn lock(&self) -> MutexGuard<'_, Option<Waker>> {
        self.foreign.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_loop(&self, waker: &Waker) {
        if self.lock().as_ref().is_some_and(|before| before.will_wake(waker)) {
            return;
        }
        let waker = waker.clone();
        let before = self.lock().replace(waker);
        drop(before);
    }

    fn wake_loop(&self) {
        let waker = self.lock().take();
        if let Some(waker) = waker {
            waking(|| waker.wake());
        }
    }
}

impl Wake for Bridge {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Ordering: the end of a turn stores `is_turning` and then looks at `is_woken`; one of the two sees the other.
        let was_woken = self.is_woken.swap(true, Ordering::SeqCst);
        if !was_woken && !self.is_turning.load(Ordering::SeqCst) {
            self.wake_loop();
        }
    }
}

/// Wakes the foreign loop so that it takes a turn, in which the inbox is taken.
struct Notifier(Arc<Bridge>);

impl Wake for Notifier {
    fn wake(self: Arc<Self>) {
        self.0.wake_loop();
    }
}
