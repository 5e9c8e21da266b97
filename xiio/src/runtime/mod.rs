//! The loop, and the only place where tasks, timers and reactor meet.
//!
//! One turn: poll the root until nothing is ready or the turn's budget is used up; take what other threads have posted;
//! look at the reactor (without waiting while work is left); fire timers.

mod leaf;

pub(crate) use leaf::poll_leaf;

use std::cell::{Cell, RefCell};
use std::io;
use std::mem::ManuallyDrop;
use std::num::NonZeroU32;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::reactor::Reactor;
use crate::task::{Home, budget};
use crate::timer::{TimerKey, Timers};
use crate::unwind::{self, Owner};

/// What the futures of one run share: the reactor and the timers of their thread.
pub(crate) struct Runtime {
    reactor: Rc<Reactor>,
    timers: RefCell<Timers>,
    home: &'static Home,
    /// The time of the last turn; saves most futures a look at the clock.
    now: Cell<Instant>,
    /// Who wants the tree drawn when the root is not being polled.
    drawings: RefCell<Vec<OnDrawn>>,
}

/// Gets the lines of the tree, each with its depth.
type OnDrawn = Box<dyn FnOnce(Vec<(usize, String)>)>;

thread_local! {
    static CURRENT: ManuallyDrop<RefCell<Option<Rc<Runtime>>>> = const { ManuallyDrop::new(RefCell::new(None)) };
    /// Stamps of timers go on from run to run, so that a timer key of an ended run fits nothing in a later one.
    static NEXT_STAMP: Cell<NonZeroU32> = const { Cell::new(NonZeroU32::MIN) };
}

impl Runtime {
    pub(crate) fn new() -> io::Result<Self> {
        let now = Instant::now();
        let timers = RefCell::new(Timers::new(now, NEXT_STAMP.get()));
        let reactor = Rc::new(Reactor::new()?);
        Ok(Self { reactor, timers, home: Home::current(), now: Cell::new(now), drawings: RefCell::default() })
    }

    /// Calls `body` with the runtime of this thread.
    ///
    /// # Panics
    /// Outside of a run.
    #[inline]
    pub(crate) fn with<R>(body: impl FnOnce(&Self) -> R) -> R {
        Self::try_with(body).unwrap_or_else(|| outside())
    }

    /// [`Runtime::with`], or `None` outside of a run.
    #[inline]
    pub(crate) fn try_with<R>(body: impl FnOnce(&Self) -> R) -> Option<R> {
        CURRENT.with(|current| current.borrow().as_deref().map(body))
    }

    pub(crate) fn reactor(&self) -> &Rc<Reactor> {
        &self.reactor
    }

    pub(crate) fn home(&self) -> &'static Home {
        self.home
    }

    /// The clock.
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        Instant::now()
    }

    /// The clock as of the last turn.
    #[inline]
    pub(crate) fn turn_started(&self) -> Instant {
        self.now.get()
    }

    pub(crate) fn insert_timer(&self, deadline: Instant, waker: Waker) -> TimerKey {
        self.timers.borrow_mut().insert(deadline, waker)
    }

    /// Takes a timer out, if it has not fired.
    pub(crate) fn remove_timer(&self, key: TimerKey) {
        let waker = self.timers.borrow_mut().remove(key);
        drop(waker);
    }

    /// Whether a timer has still to fire; if so, it wakes `waker` from now on.
    pub(crate) fn renew_timer(&self, key: TimerKey, waker: &Waker) -> bool {
        let kept = self.timers.borrow().waker(key).map(|before| before.will_wake(waker));
        match kept {
            Some(true) => true,
            Some(false) => {
                let waker = waker.clone();
                let before = self.timers.borrow_mut().replace_waker(key, waker);
                let is_live = before.is_ok();
                drop(before);
                is_live
            }
            None => false,
        }
    }

    /// Has the tree drawn after the current turn.
    pub(crate) fn request_drawing(&self, on_drawn: OnDrawn) {
        self.drawings.borrow_mut().push(on_drawn);
    }

    /// How many timers and watched descriptors there are, for checks on what is left behind.
    pub(crate) fn n_waiting(&self) -> (usize, usize) {
        (self.timers.borrow().len(), self.reactor.n_sources())
    }

    /// Looks at the reactor and fires timers; waits for either if `may_wait`.
    pub(crate) fn turn(&self, may_wait: bool) -> io::Result<()> {
        self.home.take_inbox();
        let may_wait = may_wait && !self.home.is_root_woken() && self.home.fall_asleep();
        let timeout = if may_wait { self.until_next_timer() } else { Some(Duration::ZERO) };
        let waited = self.reactor.wait(timeout);
        if may_wait {
            self.home.wake_up();
        }
        waited?;
        self.home.take_inbox();
        self.fire_timers();
        Ok(())
    }

    /// `None` when there is no timer.
    fn until_next_timer(&self) -> Option<Duration> {
        let next = self.timers.borrow().next_deadline()?;
        Some(next.saturating_duration_since(self.now()))
    }

    fn fire_timers(&self) {
        if self.timers.borrow().is_empty() {
            return;
        }
        let now = self.now();
        self.now.set(now);
        let mut fired = Vec::new();
        self.timers.borrow_mut().advance(now, &mut fired);
        fired.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Runtime {
    /// Unlinks what leaked futures have left behind.
    fn drop(&mut self) {
        NEXT_STAMP.set(self.timers.get_mut().next_stamp());
        drop(self.timers.get_mut().clear());
    }
}

#[cold]
fn outside() -> ! {
    panic!("polled outside of a xiio runtime; call it inside `xiio::run`, `#[xiio::main]` or `#[xiio::test]`")
}

/// Makes a runtime the current one of this thread, until it is dropped.
struct Entered<'a> {
    runtime: &'a Rc<Runtime>,
}

impl<'a> Entered<'a> {
    fn new(runtime: &'a Rc<Runtime>) -> Self {
        CURRENT.with(|current| {
            assert!(
                current.borrow().is_none(),
                "`xiio::run` inside a running xiio runtime; await the future instead, or run it in a thread of its own"
            );
            current.replace(Some(Rc::clone(runtime)));
        });
        runtime.home.open(runtime.reactor.notifier());
        Self { runtime }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.runtime.home.close();
        CURRENT.with(|current| current.replace(None));
    }
}

/// Runs a future to its end on this thread.
///
/// # Panics
/// When a runtime runs on this thread already, and when the system gives it no poller.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = Rc::new(Runtime::new().unwrap_or_else(|error| panic!("cannot start a runtime: {error}")));
    let entered = Entered::new(&runtime);
    // Declared after the entry, so that destructors still find the runtime, also when a panic drops it.
    let mut future = pin!(Some(future));
    let mut owner = Owner::default();
    runtime.home.wake_root();
    let value = loop {
        if let Poll::Ready(value) = poll_root(&runtime, &mut owner, future.as_mut()) {
            break value;
        }
        if let Poll::Ready(value) = draw_root(&runtime, &mut owner, future.as_mut()) {
            break value;
        }
        runtime.turn(true).unwrap_or_else(|error| panic!("the reactor does not wait: {error}"));
    };
    drop(entered);
    value
}

fn poll_root<F: Future>(runtime: &Runtime, owner: &mut Owner, future: Pin<&mut Option<F>>) -> Poll<F::Output> {
    if !runtime.home.take_root_woken() {
        return Poll::Pending;
    }
    budget::refill();
    let waker = runtime.home.waker();
    match owner.poll_slot(future, &mut Context::from_waker(&waker)) {
        Poll::Ready(Some(value)) => Poll::Ready(value),
        // The root is cancelled through its group, which is inside of it.
        Poll::Ready(None) | Poll::Pending => Poll::Pending,
    }
}

/// Draws the tree for those who have asked. A poll, so the root may end by it.
fn draw_root<F: Future>(runtime: &Runtime, owner: &mut Owner, future: Pin<&mut Option<F>>) -> Poll<F::Output> {
    let drawings = runtime.drawings.take();
    if drawings.is_empty() {
        return Poll::Pending;
    }
    runtime.home.wake_root();
    let mut polled = Poll::Pending;
    let lines = unwind::inspect(|| polled = poll_root(runtime, owner, future)).into_lines();
    drawings.into_iter().for_each(|on_drawn| on_drawn(lines.clone()));
    polled
}
