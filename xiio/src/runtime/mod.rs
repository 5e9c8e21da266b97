//! The loop, and the only place where tasks, timers and reactor meet.
//!
//! One turn: poll the root until nothing is ready or the turn's budget is used up; look at the reactor (without waiting
//! while work is left); take what other threads have posted; fire timers.

mod cleanups;
mod config;
mod elsewhere;
mod embedded;
mod leaf;
mod lending;
mod outside;
mod root;
mod share;

pub(crate) use config::{Config, Save, Serve};
pub(crate) use embedded::Embedded;
#[cfg(any(feature = "futures-core", feature = "futures-io"))]
pub(crate) use leaf::poll_checkpoint;
pub(crate) use leaf::{checkpoint, poll_budgeted, poll_leaf};
pub(crate) use lending::{Allowance, TURN};
pub(crate) use outside::Outside;
use outside::{Count, WAKE_UP_CALL};
pub(crate) use share::{UnderLimit, ends_late_turn, is_over_outside, may_begin, may_go_on};

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::io;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crate::cores;
use crate::drawing::Drawing;
use crate::reactor::Reactor;
use crate::recording::{self, How, Recorder};
use crate::report::{drop_safely, wake_all};
use crate::sys;
use crate::task::polls;
use crate::task::{Home, budget};
use crate::timer::{TimerKey, Timers};
use crate::unwind;
use cleanups::Cleanups;
use config::Clock;
pub(crate) use elsewhere::Requests;
use lending::{Asker, Lenders, Lent, lend};
use root::{Root, RootOf, end_in_panic};

/// So long virtual time waits for what the kernel delivers between two sockets of the test.
const DELIVERY: Duration = Duration::from_millis(10);

/// A patience is made of so many waits. While the process is stopped the clock goes on, but nobody has the chance to wake a task;
/// that takes one of them at most.
const N_WAITS: u32 = 4;

/// What the futures of one run share: the reactor and the timers of their thread.
pub(crate) struct Runtime {
    reactor: Rc<Reactor>,
    timers: RefCell<Timers>,
    home: &'static Home,
    /// Of the home, when the runtime was made.
    lease: u32,
    clock: Clock,
    deadlock_after: Option<Duration>,
    /// Virtual time jumps beside sockets of this machine.
    is_loopback: bool,
    /// Work on other threads that will wake a task here.
    outside: Arc<Count>,
    /// Who has virtual time pass, whatever is waited for.
    n_advancing: Rc<Cell<usize>>,
    /// Timers of those who watch the time of others, and wake no task that anybody waits for.
    n_watching: Rc<Cell<usize>>,
    is_test: bool,
    /// Somebody wants to know of each poll.
    is_noted: bool,
    /// The clock when it was last looked at; saves most futures another look.
    now: Cell<Instant>,
    /// When the turn began, if the clock was looked at since.
    turn_began: Cell<Option<Instant>>,
    n_turns: Cell<u32>,
    /// For how long nothing has happened but that others have looked.
    quiet: Cell<Duration>,
    /// How long that is to be at least before it is said that nothing will wake a task.
    least_quiet: Cell<Duration>,
    /// What others want.
    requests: Arc<Requests>,
    /// Who wants the tree drawn when the root is not being polled.
    drawings: RefCell<Vec<Wish>>,
    cleanups: Rc<Cleanups>,
    lenders: Lenders,
    /// Groups may have workers: the loop is its own, and tasks are polled in their order.
    allows_workers: bool,
    /// A foreign loop turns it.
    is_embedded: bool,
}

/// Gets the drawing of the tree.
type OnDrawn = Box<dyn FnOnce(Drawing)>;

/// A drawing of the tree that is wanted.
struct Wish {
    on_drawn: OnDrawn,
    /// Who wants it, if that is in the tree.
    asker: Option<Asker>,
}

thread_local! {
    static CURRENT: ManuallyDrop<RefCell<Option<Rc<Runtime>>>> = const { ManuallyDrop::new(RefCell::new(None)) };
}

impl Runtime {
    pub(crate) fn new(config: &Config) -> io::Result<Self> {
        let clock = config.clock();
        let now = clock.now();
        let timers = RefCell::new(Timers::new(now));
        let reactor = Reactor::kept_or_new()?;
        let requests = Requests::join(reactor.notifier());
        if clock.is_virtual() {
            requests.set_virtual();
        }
        budget::set_late(ends_late_turn);
        Ok(Self {
            reactor,
            timers,
            home: Home::current(),
            lease: Home::lease(),
            clock,
            deadlock_after: config.deadlock_after,
            is_loopback: config.is_loopback,
            outside: Arc::new(Count::new(Home::current())),
            n_advancing: Rc::default(),
            n_watching: Rc::default(),
            is_test: config.is_test,
            is_noted: config.limits.are_for_polls() || recording::is_on(),
            now: Cell::new(now),
            turn_began: Cell::new(None),
            n_turns: Cell::new(0),
            quiet: Cell::default(),
            least_quiet: Cell::default(),
            requests,
            drawings: RefCell::default(),
            cleanups: Rc::default(),
            lenders: Lenders::default(),
            allows_workers: config.allows_workers(),
            is_embedded: config.is_embedded,
        })
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
        // Counted and not borrowed: `body` clones and drops wakers, and one may free a tree, which turns under a runtime of its own.
        let current = CURRENT.with(|current| current.borrow().clone());
        current.as_deref().map(body)
    }

    /// [`Runtime::try_with`] for a `body` that runs no code of the user: not even a waker's clone or drop.
    #[inline]
    pub(crate) fn look<R>(body: impl FnOnce(&Self) -> R) -> Option<R> {
        CURRENT.with(|current| current.borrow().as_deref().map(body))
    }

    /// Whether there is a runtime.
    pub(crate) fn is_running() -> bool {
        CURRENT.with(|current| current.borrow().is_some())
    }

    /// Asks for a runtime, and for nothing of it.
    ///
    /// # Panics
    /// Outside of a run.
    pub(crate) fn require() {
        if !Self::is_running() {
            outside();
        }
    }

    /// The home, as long as it is that of this thread: a thread that ends gives it back, and destructors of thread-locals may
    /// come later.
    fn own_home(&self) -> Option<&'static Home> {
        (self.home.is_current() && Home::lease() == self.lease).then_some(self.home)
    }

    /// Whether a group that is made now has workers. Where not, what they would do is done at home.
    pub(crate) fn allows_workers(&self) -> bool {
        self.allows_workers && !self.clock.is_virtual()
    }

    /// Whether its loop lends to the workers of groups: those of another loop, where it allows none itself.
    pub(crate) fn lends(&self) -> bool {
        !self.is_embedded
    }

    pub(crate) fn reactor(&self) -> &Rc<Reactor> {
        &self.reactor
    }

    /// The clock.
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        let now = self.clock.now();
        self.now.set(now);
        now
    }

    /// Makes time virtual from now on.
    ///
    /// # Panics
    /// Outside of a test, and on a worker.
    pub(crate) fn pause(&self) {
        require_home();
        assert!(self.is_test, "time can be paused in a test only; run it by `#[xiio::test]` or `testing::Tester`");
        self.clock.pause();
        self.requests.set_virtual();
    }

    pub(crate) fn has_virtual_time(&self) -> bool {
        self.clock.is_virtual()
    }

    /// Has virtual time pass while all tasks wait, whatever they wait for, until the result is dropped.
    ///
    /// # Panics
    /// On a worker.
    pub(crate) fn advancing(&self) -> OneMore {
        require_home();
        OneMore::of(&self.n_advancing)
    }

    /// The timer of who calls it, which is due at `end`, keeps no deadlock from being one, until the result is dropped. One that is
    /// never due does not anyhow.
    pub(crate) fn watching(&self, end: Instant) -> Option<OneMore> {
        (!self.is_never(end)).then(|| OneMore::of(&self.n_watching))
    }

    /// Whether a timer at `end` would never be due.
    fn is_never(&self, end: Instant) -> bool {
        self.timers.borrow().is_never(end)
    }

    /// The clock when it was last looked at. What was due then is due.
    #[inline]
    pub(crate) fn last_seen(&self) -> Instant {
        self.now.get()
    }

    /// Looks at the clock. A first poll under a limit of time compares the limit with [`Runtime::last_seen`]: it has to know whether the time is over
    /// already, and the last look may be long ago.
    pub(crate) fn look_at_clock(&self) {
        let _ = self.now();
    }

    /// Tells one turn from the next.
    pub(crate) fn n_turns(&self) -> u32 {
        self.n_turns.get()
    }

    // Called for nearly every timer from one place only, where it belongs.
    #[inline(always)]
    pub(crate) fn insert_timer(&self, deadline: Instant, waker: Waker) -> TimerKey {
        self.timers.borrow_mut().insert(deadline, waker)
    }

    /// Takes a timer out, if it has not fired. Its waker is the caller's to drop.
    #[must_use = "a waker must be dropped outside of any borrow"]
    pub(crate) fn remove_timer(&self, key: TimerKey) -> Option<Waker> {
        self.timers.borrow_mut().remove(key)
    }

    /// Makes a timer fire at another time, if it has not fired, in whichever runtime it is. Its task is woken then.
    pub(crate) fn move_timer(key: TimerKey, from: Option<Instant>, to: Instant) {
        let is_here = Self::look(|runtime| runtime.timers.borrow_mut().move_to(key, to)).unwrap_or(false);
        if !is_here {
            Self::move_timer_elsewhere(key, from, Some(to));
        }
    }

    /// Has a timer that is none of the runtime of this thread never fire, if it has not fired, in whichever runtime it is.
    #[cold]
    pub(crate) fn forget_timer(key: TimerKey, from: Option<Instant>) {
        Self::move_timer_elsewhere(key, from, None);
    }

    fn move_timer_elsewhere(key: TimerKey, from: Option<Instant>, to: Option<Instant>) {
        let here = Self::look(|runtime| Arc::clone(&runtime.requests));
        elsewhere::move_timer(key, from, to, here.as_ref());
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

    /// Where others tell the runtime of this thread what they want.
    #[cfg(feature = "futures-core")]
    pub(crate) fn requests() -> Option<Arc<Requests>> {
        Self::look(|runtime| Arc::clone(&runtime.requests))
    }

    /// Has the tree drawn after the current turn.
    pub(crate) fn request_drawing(&self, on_drawn: OnDrawn) {
        self.drawings.borrow_mut().push(Wish { on_drawn, asker: None });
    }

    /// [`Runtime::request_drawing`] for somebody in the tree.
    pub(crate) fn request_drawing_inside(&self, on_drawn: OnDrawn) {
        self.drawings.borrow_mut().push(Wish { on_drawn, asker: Some(self.lenders.asker()) });
    }

    /// Whether somebody wants the tree drawn, and workers have drawn their part of it or have had the time to.
    fn is_drawing_due(&self) -> bool {
        !self.drawings.borrow().is_empty() && self.lenders.have_drawn()
    }

    /// Draws the tree for those who have asked, by a poll of the root.
    fn draw<T>(&self, poll_root: impl FnOnce() -> Poll<T>) -> Poll<T> {
        if self.is_drawing_due() { self.draw_now(poll_root) } else { Poll::Pending }
    }

    #[cold]
    #[inline(never)]
    fn draw_now<T>(&self, poll_root: impl FnOnce() -> Poll<T>) -> Poll<T> {
        let mut polled = Poll::Pending;
        self.requests.set_drawing(true);
        let drawing = inspect_root(|| polled = poll_root());
        if polled.is_pending() && cores::is_refused() {
            // A worker without its permit has seen nothing.
            self.requests.set_drawing(false);
            return Poll::Pending;
        }
        self.lenders.end_drawing();
        let drawings = self.drawings.take();
        drawings.into_iter().for_each(|wish| (wish.on_drawn)(drawing.clone()));
        self.requests.set_drawing(false);
        polled
    }

    /// What is left behind now.
    pub(crate) fn leftover(&self) -> Leftover {
        Leftover { n_timers: self.timers.borrow().len(), n_sources: self.reactor.n_sources() }
    }

    /// Looks at the reactor and fires timers; waits for either if there is nothing else to do.
    fn turn(&self) -> io::Result<Turn> {
        // What is in the inbox keeps the thread awake, and is taken below.
        recording::set_source(How::Descriptor);
        let turn = if self.home.fall_asleep() {
            let waited = self.wait();
            self.home.wake_up();
            waited?
        } else {
            self.reactor.wait(Some(Duration::ZERO))?;
            Turn::GoOn
        };
        recording::set_source(How::Thread);
        self.home.take_inbox();
        recording::set_source(How::Timer);
        self.fire_timers();
        recording::set_source(How::Loop);
        if self.home.is_root_woken() { Ok(Turn::GoOn) } else { Ok(turn) }
    }

    fn wait(&self) -> io::Result<Turn> {
        if self.deadlock_after.is_some() || self.clock.is_virtual() {
            self.hear();
        }
        let next = self.timers.borrow().next_deadline();
        let left = next.map(|next| next.saturating_duration_since(self.now()));
        let still = |patience: Duration| patience.saturating_sub(self.quiet.get());
        let is_in_vain =
            |&patience: &Duration| left.is_none_or(|left| still(patience) < left && self.has_only_watchers());
        match (self.patience().filter(is_in_vain), next) {
            (Some(patience), _) => return self.wait_for_others(patience),
            (None, Some(next)) if self.clock.is_virtual() => return self.wait_virtually(next),
            (None, None) if self.clock.is_virtual() => self.while_time_passes(None, || self.reactor.wait(None))?,
            (None, _) => self.reactor.wait(left)?,
        }
        self.quiet.set(Duration::ZERO);
        Ok(Turn::GoOn)
    }

    /// How long what nothing announces is waited for, where there is nothing else to wait for but timers.
    fn patience(&self) -> Option<Duration> {
        self.deadlock_after.filter(|_| !self.expects_events())
    }

    /// Whether virtual time jumps also while sockets of this machine are waited for.
    pub(crate) fn is_loopback(&self) -> bool {
        self.is_loopback
    }

    fn has_only_watchers(&self) -> bool {
        let n_watching = self.n_watching.get() + usize::from(self.cleanups.has_timer());
        n_watching > 0 && !self.timers.borrow().has_more_than(n_watching)
    }

    /// Jumps to the next deadline, unless something outside may come before: then time passes as it does outside.
    fn wait_virtually(&self, next: Instant) -> io::Result<Turn> {
        let (before, began) = (self.now(), sys::now());
        self.wait_or_jump(before, next)?;
        recording::waited(began, self.now().saturating_duration_since(before));
        Ok(Turn::GoOn)
    }

    fn wait_or_jump(&self, before: Instant, next: Instant) -> io::Result<()> {
        // A thread that nobody knows of may be waited for as well.
        let has_only_watchers = self.has_only_watchers();
        if !(self.expects_events() || has_only_watchers) || self.n_advancing.get() > 0 {
            if self.waits_in_vain(Duration::ZERO)? {
                self.clock.advance_to(next);
            }
            return Ok(());
        }
        let to_next = next.saturating_duration_since(before);
        let is_closed = self.is_loopback && self.outside.is_zero() && self.reactor.is_loopback();
        let jumps = self.while_time_passes(Some(next), || {
            if is_closed {
                let patience = self.deadlock_after.filter(|_| has_only_watchers).unwrap_or(DELIVERY);
                return self.waits_in_vain(to_next.min(patience));
            }
            self.quiet.set(Duration::ZERO);
            self.wait_on(to_next).map(|_| false)
        })?;
        if jumps {
            self.clock.advance_to(next);
        }
        Ok(())
    }

    fn wait_for_others(&self, patience: Duration) -> io::Result<Turn> {
        let next = self.timers.borrow().next_deadline();
        let is_in_vain = self.while_time_passes(next, || self.waits_in_vain(patience))?;
        Ok(if is_in_vain { Turn::Deadlock } else { Turn::GoOn })
    }

    /// Waits; as much virtual time passes meanwhile as outside, to the `next` deadline at most. Whatever waits beside virtual time, and
    /// does not jump, waits by this.
    fn while_time_passes<T>(&self, next: Option<Instant>, wait: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let (before, began) = (self.now(), sys::now());
        let waited = wait()?;
        let end = before + sys::now().saturating_duration_since(began);
        self.clock.advance_to(next.map_or(end, |next| next.min(end)));
        Ok(waited)
    }

    /// It is not quiet where others have woken something since the last wait, or may do so in this very moment.
    fn hear(&self) {
        if self.outside.may_wake() {
            self.least_quiet.set(WAKE_UP_CALL);
            self.quiet.set(Duration::ZERO);
        }
        if self.home.has_heard() {
            self.quiet.set(Duration::ZERO);
        }
    }

    /// Waits for what nothing announces; whether it was quiet for so long. Others may look at the tree meanwhile, or tell of timers: that ends
    /// the wait, and the next one goes on where it was.
    fn waits_in_vain(&self, patience: Duration) -> io::Result<bool> {
        let patience = patience.max(self.least_quiet.get());
        loop {
            let left = patience.saturating_sub(self.quiet.get());
            let waited = self.wait_on(left.min(patience / N_WAITS + Duration::from_nanos(1)))?;
            self.quiet.update(|quiet| quiet + waited);
            if self.home.is_called() {
                self.quiet.set(Duration::ZERO);
            }
            if self.is_called() {
                return Ok(false);
            }
            if self.quiet.get() >= patience {
                break;
            }
        }
        self.quiet.set(Duration::ZERO);
        self.least_quiet.set(Duration::ZERO);
        Ok(true)
    }

    /// Waits for so long, or until something comes; for how long that was. Where the system ends it early, as it does for a signal, it goes on:
    /// signals may come again and again.
    fn wait_on(&self, limit: Duration) -> io::Result<Duration> {
        let (started, mut waited) = (sys::now(), Duration::ZERO);
        loop {
            self.reactor.wait(Some(limit - waited))?;
            waited = sys::now().saturating_duration_since(started);
            if waited >= limit || self.is_called() {
                return Ok(waited.min(limit));
            }
        }
    }

    /// Whether something has come from another thread meanwhile.
    fn is_called(&self) -> bool {
        self.home.is_called() || self.requests.is_any()
    }

    /// Whether something outside of this thread may wake a task.
    fn expects_events(&self) -> bool {
        !self.outside.is_zero() || self.reactor.has_waiters()
    }

    fn fire_timers(&self) {
        self.turn_began.set(None);
        self.n_turns.set(self.n_turns.get().wrapping_add(1));
        self.take_requests();
        if self.timers.borrow().is_empty() {
            return;
        }
        let fired = self.take_due();
        if !fired.is_empty() {
            self.quiet.set(Duration::ZERO);
        }
        self.turn_began.set(Some(self.last_seen()));
        wake_all(fired);
    }

    /// Those whose time has come.
    fn take_due(&self) -> Vec<Waker> {
        let mut fired = Vec::new();
        self.timers.borrow_mut().advance(self.now(), &mut fired);
        fired
    }

    /// Does what others want.
    fn take_requests(&self) {
        if let Some(wanted) = self.requests.take() {
            wanted.drawings.into_iter().for_each(|on_drawn| self.request_drawing(on_drawn));
            #[cfg(feature = "futures-core")]
            for call in wanted.calls {
                self.quiet.set(Duration::ZERO);
                call();
            }
            for (key, at) in wanted.moves {
                match at {
                    Some(at) => _ = self.timers.borrow_mut().move_to(key, at),
                    None => drop_safely(self.remove_timer(key)),
                }
            }
        }
    }
}

/// What a turn has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    GoOn,
    /// Every task waits, nothing that the runtime knows of can wake any, and nothing has for as long as it was to wait.
    Deadlock,
}

/// Counts one more until it is dropped.
pub(crate) struct OneMore(Rc<Cell<usize>>);

impl OneMore {
    fn of(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for OneMore {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// What a run has left behind when its root had ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Leftover {
    pub(crate) n_timers: usize,
    pub(crate) n_sources: usize,
}

impl Drop for Runtime {
    /// Unlinks and wakes what is left behind: leaked, which is in vain, or to be polled again in another run.
    fn drop(&mut self) {
        self.requests.leave();
        self.outside.end();
        wake_all(self.timers.get_mut().clear());
    }
}

/// The name of the thread on which a runtime of tokio's polls what is given to `tokio::spawn`.
pub(crate) const TOKIO_THREAD: &str = "xiio-tokio";

#[cold]
fn outside() -> ! {
    assert!(
        thread::current().name() != Some(TOKIO_THREAD),
        "polled by tokio, outside of a xiio runtime: it was handed to `tokio::spawn`, as servers and pools of tokio's \
         libraries do with their tasks; await it in a task of the tree, and pass what comes of it over a channel"
    );
    panic!("polled outside of a xiio runtime; call it inside `xiio::run`, `#[xiio::main]` or `#[xiio::test]`")
}

/// Asks for a thread whose clock a test may set.
///
/// # Panics
/// On that of a worker.
fn require_home() {
    let is_worker = cores::current_permit().is_some();
    assert!(
        !is_worker,
        "a worker goes by the clock of the system; pause and advance the time of a test in a task at home"
    );
}

/// Makes a runtime the current one of this thread, until it is dropped.
struct Entered<'a> {
    runtime: &'a Rc<Runtime>,
    notifier: usize,
}

impl<'a> Entered<'a> {
    #[track_caller]
    fn new(runtime: &'a Rc<Runtime>, config: &Config) -> Self {
        assert!(
            !Runtime::is_running(),
            "`xiio::run` inside a running xiio runtime; await the future instead, or run it in a thread of its own"
        );
        CURRENT.with(|current| current.replace(Some(Rc::clone(runtime))));
        let notifier = runtime.home.open(runtime.reactor.notifier());
        // A tree may rest in a foreign loop of this thread, or of one that had its home before.
        runtime.home.wake_up();
        config.apply();
        Self { runtime, notifier }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.runtime.home.close(self.notifier);
        Config::default().apply();
        CURRENT.with(|current| current.replace(None));
    }
}

/// Runs a future to its end on this thread; tells what the run has left behind.
///
/// # Panics
/// When a runtime runs on this thread already, and when the system gives it no poller.
#[track_caller]
pub(crate) fn block_on<F: Future>(config: &Config, future: F) -> (F::Output, Leftover) {
    let future = pin!(Some(future));
    let mut root = RootOf::new(future);
    let leftover = run(config, &mut root);
    (root.take_value().expect("a run ends when its root has its value"), leftover)
}

#[track_caller]
fn run(config: &Config, root: &mut dyn Root) -> Leftover {
    // Ends last, so that it has the end of all.
    let recorded = Recorded::begin(config);
    let runtime = Rc::new(Runtime::new(config).unwrap_or_else(|error| panic!("cannot start a runtime: {error}")));
    let _entered = Entered::new(&runtime, config);
    let _printing = config.print_on.as_ref().map(|(print, signals)| print(signals, Arc::clone(&runtime.requests)));
    let _served =
        config.serve.zip(recorded.recorder).map(|(serve, recorder)| serve(Arc::clone(&runtime.requests), recorder));
    // It is dropped in here, so that destructors still find the runtime.
    match catch_unwind(AssertUnwindSafe(|| drive(&runtime, root))) {
        Ok(()) => {
            // What another thread has let go of is not left behind, nor is what is due.
            runtime.take_requests();
            wake_all(runtime.take_due());
            runtime.leftover()
        }
        Err(payload) => end_in_panic(root, payload),
    }
}

/// The recording of a run that is recorded for itself, or for others who look at it.
struct Recorded {
    recorder: Option<Arc<Recorder>>,
    _on: Option<recording::On>,
    _spans: recording::SpansOn,
    _saved: Option<Box<dyn Any>>,
}

impl Recorded {
    fn begin(config: &Config) -> Self {
        let is_wanted = config.serve.is_some() || config.save.is_some();
        let recorder = is_wanted.then(|| recording::current().unwrap_or_else(|| Recorder::new(recording::CAPACITY)));
        // One that is there already may be for few events.
        recorder.iter().for_each(|recorder| recorder.grow(recording::CAPACITY));
        let saved = config.save.zip(recorder.clone()).map(|(save, recorder)| save(recorder));
        let _spans = recording::begin_spans();
        Self { _spans, _on: recorder.clone().map(recording::begin), recorder, _saved: saved }
    }
}

fn drive(runtime: &Runtime, root: &mut dyn Root) {
    runtime.home.wake_root();
    loop {
        let mut polled = poll_turn(runtime, root);
        if polled.is_pending() {
            polled = draw_root(runtime, root);
        }
        if polled.is_ready() {
            return;
        }
        if !runtime.lenders.is_empty() {
            match lend(runtime, root) {
                Lent::Ended => return,
                Lent::GoOn => continue,
                Lent::Nobody => {}
            }
        }
        match runtime.turn() {
            Ok(Turn::GoOn) => {}
            Ok(Turn::Deadlock) => {
                if end_deadlocked(runtime, root).is_ready() {
                    return;
                }
            }
            Err(error) => panic!("the reactor does not wait: {error}"),
        }
    }
}

/// Ends a run in which nothing that the runtime knows of can wake any task, unless a leaf knows better.
///
/// # Panics
/// With the tree, if there is no such leaf.
#[cold]
fn end_deadlocked(runtime: &Runtime, root: &mut dyn Root) -> Poll<()> {
    runtime.home.wake_root();
    let mut polled = Poll::Pending;
    let drawing = inspect_root(|| polled = poll_root(runtime, root));
    // Another thread may have woken a task, and let go of what there was to hope for, since the last look. The poll may have taken that wake.
    if polled.is_pending() && !drawing.has_hope() && !runtime.home.has_heard() {
        panic!("deadlock: every task waits, and nothing can wake any of them\n{drawing}");
    }
    polled
}

/// Polls the root as often as it is woken by its own tasks, until the budget of the turn is used up: a look at the
/// reactor after each poll would cost more than most polls do.
fn poll_turn(runtime: &Runtime, root: &mut dyn Root) -> Poll<()> {
    budget::refill();
    loop {
        let polled = poll_noted(runtime, root);
        let goes_on = polled.is_pending() && runtime.home.is_root_woken() && runtime.drawings.borrow().is_empty();
        if !goes_on || !budget::take_poll() {
            return polled;
        }
    }
}

/// [`poll_root`], with its time if somebody wants to know of each poll.
fn poll_noted(runtime: &Runtime, root: &mut dyn Root) -> Poll<()> {
    match runtime.is_noted {
        false => poll_root(runtime, root),
        true => polls::of_root(|| poll_root(runtime, root)),
    }
}

fn poll_root(runtime: &Runtime, root: &mut dyn Root) -> Poll<()> {
    if !runtime.home.take_root_woken() {
        return Poll::Pending;
    }
    let waker = runtime.home.waker();
    root.poll(&mut Context::from_waker(&waker))
}

/// Draws the tree, by a poll of the root.
fn inspect_root(poll: impl FnOnce()) -> Drawing {
    let mut drawing = unwind::inspect_tree(poll);
    if drawing.is_empty() {
        // It waits for something foreign, and has no group.
        drawing.leaf(recording::root());
    }
    drawing
}

/// Draws the tree for those who have asked. A poll, so the root may end by it.
fn draw_root(runtime: &Runtime, root: &mut dyn Root) -> Poll<()> {
    runtime.draw(|| {
        runtime.home.wake_root();
        poll_noted(runtime, root)
    })
}
