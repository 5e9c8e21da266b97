//! Time: sleeping until an instant, and the deadlines and limits that timeouts are made of.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use crate::drawing::{Kind, Node, YIELD_NOW};
use crate::report::Held;
use crate::runtime::{Runtime, UnderLimit, is_over_outside, may_go_on, poll_leaf};
use crate::sys;
use crate::timer::{NEVER, TimerKey};
use crate::unwind::{Reached, gate};

/// The present, as the runtime sees it.
///
/// The same as [`Instant::now`], except in tests with virtual time, where it stands still while any task has something
/// to do. Outside of a runtime it is the system's clock.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use xiio::testing::Tester;
///
/// Tester::new().virtual_time().run(|| async {
///     let start = xiio::now();
///     xiio::sleep(Duration::from_secs(3600)).await;
///     assert_eq!(xiio::now() - start, Duration::from_secs(3600));
/// });
/// ```
#[must_use]
pub fn now() -> Instant {
    Runtime::look(Runtime::now).unwrap_or_else(sys::now)
}

/// How long it is until an instant that may never come.
pub(crate) fn left(at: Option<Instant>) -> Option<Duration> {
    at.map(|at| at.saturating_duration_since(now()))
}

/// An instant to be woken at, or never. Knows nothing of cancellation.
#[derive(Debug)]
pub(crate) struct Deadline {
    at: Option<Instant>,
    key: Option<TimerKey>,
}

impl Deadline {
    pub(crate) fn at(at: Option<Instant>) -> Self {
        Self { at, key: None }
    }

    pub(crate) fn of(at: Instant) -> Self {
        Self::at(Some(at))
    }

    /// An instant that may be over: the first poll asks the clock's last look, which is this one.
    pub(crate) fn until(at: Option<Instant>) -> Self {
        let mut deadline = Self::at(None);
        deadline.reset_until(at);
        deadline
    }

    /// `duration` from now. What lies beyond the clock's range is never.
    pub(crate) fn after(duration: Duration) -> Self {
        Self::at(now().checked_add(duration))
    }

    pub(crate) fn instant(&self) -> Option<Instant> {
        self.at
    }

    /// Whether the instant has come; if not, wakes the task then.
    #[inline]
    pub(crate) fn poll_elapsed(&mut self, cx: &mut Context<'_>) -> bool {
        self.at.is_some_and(|at| self.poll_elapsed_at(at, cx))
    }

    /// The same where others than who waits may reset it: their reset wakes who waits, and so does one from never.
    #[inline]
    fn poll_elapsed_or_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_elapsed_at(self.at.unwrap_or_else(never), cx) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn poll_elapsed_at(&mut self, at: Instant, cx: &mut Context<'_>) -> bool {
        if let Some(key) = self.key {
            let waits = Runtime::with(|runtime| match runtime.last_seen() >= at {
                true => None,
                false => Some(runtime.renew_timer(key, cx.waker())),
            });
            if waits == Some(true) {
                return false;
            }
            // It may be due and not have fired yet.
            let stray = self.unlink_here();
            if waits.is_none() {
                return true;
            }
            // Another runtime has it, or has ended and left it behind.
            if let Some(key) = stray {
                Runtime::forget_timer(key, self.at);
            }
        }
        self.poll_first(at, cx)
    }

    #[inline(always)]
    fn poll_first(&mut self, at: Instant, cx: &mut Context<'_>) -> bool {
        let waker = cx.waker().clone();
        self.key = Runtime::with(|runtime| match runtime.last_seen() >= at {
            true => None,
            false => Some(runtime.insert_timer(at, waker)),
        });
        self.key.is_none()
    }

    /// Waits for another instant from now on. Whoever waits already is woken at that one.
    pub(crate) fn reset(&mut self, at: Option<Instant>) {
        if let Some(key) = self.key {
            Runtime::move_timer(key, self.at, at.unwrap_or_else(never));
        }
        self.at = at;
    }

    /// The same for an instant that may be over: the next poll asks the clock's last look, which is this one.
    pub(crate) fn reset_until(&mut self, at: Option<Instant>) {
        if at.is_some() {
            Runtime::look(Runtime::look_at_clock);
        }
        self.reset(at);
    }

    // It is part of a timer's price.
    #[inline(always)]
    fn unlink(&mut self) {
        if let Some(key) = self.unlink_here() {
            Runtime::forget_timer(key, self.at);
        }
    }

    /// Takes the timer out of the runtime of this thread. Its key comes back if there was none: it has fired, or is one of another
    /// runtime.
    #[inline(always)]
    fn unlink_here(&mut self) -> Option<TimerKey> {
        let key = self.key.take()?;
        match Runtime::look(|runtime| runtime.remove_timer(key)).flatten() {
            Some(waker) => {
                drop(Held::new(waker));
                None
            }
            None => Some(key),
        }
    }
}

impl Drop for Deadline {
    #[inline]
    fn drop(&mut self) {
        self.unlink();
    }
}

/// An instant that does not come. A timer that is due then keeps the waker for a reset.
#[cold]
fn never() -> Instant {
    sys::now() + NEVER
}

/// A deadline that limits what is polled. Where one around it is over as well, and was to be so no later, that one comes first.
pub(crate) struct Limit {
    deadline: Deadline,
    /// The turn in which it was over, and was left to a limit around it.
    left_in: Option<u32>,
}

impl Limit {
    pub(crate) fn at(at: Option<Instant>) -> Self {
        Self { deadline: Deadline::at(at), left_in: None }
    }

    pub(crate) fn instant(&self) -> Option<Instant> {
        self.deadline.at
    }

    /// Limits what is polled until the result is dropped, if it `is_limit` still. After that poll
    /// [`poll_over`](Self::poll_over) is asked; where it never was, the poll is the first.
    #[inline]
    pub(crate) fn cover(&self, is_limit: bool) -> UnderLimit {
        UnderLimit::new(self.deadline.at.filter(|_| is_limit), self.deadline.key.is_none())
    }

    /// Whether the time is over, and is not left to a limit around; if not, wakes the task then.
    #[inline]
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.deadline.poll_elapsed(cx) && !self.is_left_to_outer(cx)
    }

    /// Leaves it to the limit around in one turn only. In the next it has to be looked at again, wherever that one has gone.
    #[cold]
    fn is_left_to_outer(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(at) = self.deadline.at.filter(|at| is_over_outside(*at)) else { return false };
        Runtime::with(|runtime| {
            let is_left = *self.left_in.get_or_insert(runtime.n_turns()) == runtime.n_turns();
            if is_left {
                self.deadline.key = Some(runtime.insert_timer(at, cx.waker().clone()));
            }
            is_left
        })
    }
}

/// Waits for `duration`, from the call on.
///
/// Never ends early, and up to a millisecond late: deadlines are gathered into ticks. A zero duration does not give way
/// to others; [`yield_now`] does. A duration beyond the clock's range, such as `Duration::MAX`, never ends.
///
/// # Panics
/// When polled outside of a runtime.
///
/// # Cancellation
/// Nothing is left behind.
///
/// # Examples
/// ```
/// use std::time::{Duration, Instant};
///
/// let start = Instant::now();
/// xiio::run(xiio::sleep(Duration::from_millis(10)));
/// assert!(start.elapsed() >= Duration::from_millis(10));
/// ```
///
/// # Source
/// `xiio.sleep` in the Python original.
pub fn sleep(duration: Duration) -> Sleep {
    Sleep { deadline: Deadline::after(duration), reached: Reached::default() }
}

/// Waits until `deadline`; ends at once if that is in the past.
///
/// # Panics
/// When polled outside of a runtime.
///
/// # Cancellation
/// Nothing is left behind.
///
/// # Examples
/// ```
/// use std::time::{Duration, Instant};
///
/// let deadline = Instant::now() + Duration::from_millis(5);
/// xiio::run(xiio::sleep_until(deadline));
/// assert!(Instant::now() >= deadline);
/// ```
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline: Deadline::until(Some(deadline)), reached: Reached::default() }
}

/// The future of [`sleep`] and [`sleep_until`].
#[derive(Debug)]
#[must_use = "a sleep does nothing unless it is awaited"]
pub struct Sleep {
    deadline: Deadline,
    reached: Reached,
}

impl Sleep {
    /// When it ends; `None` if never.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline.instant()
    }

    /// Waits until another instant. A task that waits already is woken at that one, whoever resets the sleep and on
    /// whichever thread.
    ///
    /// # Examples
    /// A connection is idle when nothing has moved its deadline for a while:
    /// ```
    /// use std::{cell::RefCell, future::poll_fn, pin::Pin, time::Duration};
    /// use xiio::{now, sleep, task_group};
    ///
    /// let millis = Duration::from_millis;
    /// xiio::run(async {
    ///     let start = now();
    ///     let idle = RefCell::new(sleep(millis(20)));
    ///     task_group!(|tg| {
    ///         tg.spawn(poll_fn(|cx| Pin::new(&mut *idle.borrow_mut()).poll(cx)));
    ///         sleep(millis(10)).await;
    ///         idle.borrow_mut().reset(now() + millis(20));
    ///     });
    ///     assert!(now() - start >= millis(30));
    /// });
    /// ```
    pub fn reset(&mut self, deadline: Instant) {
        self.deadline.reset_until(Some(deadline));
    }
}

impl Future for Sleep {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.reached.note("sleep");
        let deadline = &mut self.deadline;
        let describe_at = deadline.at;
        poll_leaf(
            cx,
            || {
                let what = if describe_at.is_some() { "sleep" } else { "sleep for ever" };
                Node::new(Kind::Timer, what).has_left(left(describe_at))
            },
            |cx| deadline.poll_elapsed_or_reset(cx),
        )
    }
}

/// Gives way: the other tasks that are ready are polled before this one goes on.
///
/// # Cancellation
/// Nothing is left behind.
///
/// # Examples
/// ```
/// use std::cell::RefCell;
///
/// let order = RefCell::new(Vec::new());
/// xiio::run(async {
///     xiio::task_group!(|tg| {
///         for name in ["a", "b"] {
///             let order = &order;
///             tg.spawn(async move {
///                 order.borrow_mut().push(name);
///                 xiio::yield_now().await;
///                 order.borrow_mut().push(name);
///             });
///         }
///     });
/// });
/// assert_eq!(*order.borrow(), ["a", "b", "a", "b"]);
/// ```
pub fn yield_now() -> YieldNow {
    YieldNow { has_yielded: false, reached: Reached::default() }
}

/// The future of [`yield_now`].
#[derive(Debug)]
#[must_use = "nothing gives way unless this is awaited"]
pub struct YieldNow {
    has_yielded: bool,
    reached: Reached,
}

impl Future for YieldNow {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.reached.note(YIELD_NOW);
        if !gate(cx, || YIELD_NOW) {
            return Poll::Pending;
        }
        if self.has_yielded {
            // What has been cancelled meanwhile does not go on here either.
            return if may_go_on(cx) { Poll::Ready(()) } else { Poll::Pending };
        }
        self.has_yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Ticks every `period`, the first time one period from now.
///
/// # Panics
/// When `period` is zero.
///
/// # Examples
/// ```
/// use std::time::{Duration, Instant};
///
/// xiio::run(async {
///     let start = Instant::now();
///     let mut ticks = xiio::interval(Duration::from_millis(2));
///     ticks.tick().await;
///     ticks.tick().await;
///     assert!(start.elapsed() >= Duration::from_millis(4));
/// });
/// ```
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    Interval::new(Deadline::after(period), period)
}

/// Ticks every `period`, the first time at `first`: at once, if that is [`now`].
///
/// # Panics
/// When `period` is zero.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use xiio::{interval_at, now};
///
/// xiio::run(async {
///     let start = now();
///     let mut ticks = interval_at(start, Duration::from_millis(2));
///     assert_eq!(ticks.tick().await, start);
///     assert_eq!(ticks.tick().await, start + Duration::from_millis(2));
/// });
/// ```
#[track_caller]
pub fn interval_at(first: Instant, period: Duration) -> Interval {
    Interval::new(Deadline::until(Some(first)), period)
}

/// Ticks at a fixed rate, see [`interval`] and [`interval_at`].
///
/// A tick that nobody awaited in time is given at once. [`MissedTicks`] says what becomes of other ticks
/// that were due.
#[derive(Debug)]
#[must_use = "an interval does nothing unless `tick` is awaited"]
pub struct Interval {
    deadline: Deadline,
    period: Duration,
    missed: MissedTicks,
    reached: Reached,
}

/// What an [`Interval`] does after a tick that was taken so late that the next one is due already.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use xiio::testing::Tester;
/// use xiio::{MissedTicks, interval, now, sleep};
///
/// Tester::new().virtual_time().run(|| async {
///     let seconds = Duration::from_secs;
///     for (missed, then) in [(MissedTicks::Skip, 40), (MissedTicks::Burst, 20), (MissedTicks::Delay, 45)] {
///         let start = now();
///         let mut ticks = interval(seconds(10)).missed(missed);
///         sleep(seconds(35)).await;
///         assert_eq!(ticks.tick().await - start, seconds(10));
///         assert_eq!(ticks.tick().await - start, seconds(then));
///     }
/// });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissedTicks {
    /// They are left out: the next tick is the first multiple of the period in the future.
    #[default]
    Skip,
    /// They are given, one after the other, until there are as many as there should be.
    Burst,
    /// They are left out, and the next tick is one period after the late one was taken.
    Delay,
}

impl Interval {
    #[track_caller]
    fn new(deadline: Deadline, period: Duration) -> Self {
        assert!(!period.is_zero(), "`interval` needs a period above zero");
        Self { deadline, period, missed: MissedTicks::default(), reached: Reached::default() }
    }

    /// Says what becomes of ticks that are missed; without it they are skipped.
    pub fn missed(mut self, missed: MissedTicks) -> Self {
        self.missed = missed;
        self
    }

    /// The time from one tick to the next.
    #[must_use]
    pub fn period(&self) -> Duration {
        self.period
    }

    /// The next tick comes one period from now. A task that waits already is woken then.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xiio::testing::Tester;
    /// use xiio::{interval, now, sleep};
    ///
    /// Tester::new().virtual_time().run(|| async {
    ///     let second = Duration::from_secs(1);
    ///     let mut ticks = interval(10 * second);
    ///     sleep(4 * second).await;
    ///     ticks.reset();
    ///     let start = now();
    ///     assert_eq!(ticks.tick().await - start, 10 * second);
    /// });
    /// ```
    pub fn reset(&mut self) {
        self.deadline.reset(now().checked_add(self.period));
    }

    /// The next tick comes at `next`, and another one period after that. A task that waits already
    /// is woken then.
    pub fn reset_at(&mut self, next: Instant) {
        self.deadline.reset_until(Some(next));
    }

    /// Waits for the next tick; gives the instant it was due.
    ///
    /// # Panics
    /// When polled outside of a runtime.
    ///
    /// # Cancellation
    /// A tick that was not given is given next time.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// # xiio::run(async {
    /// let mut ticks = xiio::interval(Duration::from_millis(1));
    /// let due = ticks.tick().await;
    /// assert!(ticks.tick().await >= due + Duration::from_millis(1));
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub async fn tick(&mut self) -> Instant {
        poll_fn(|cx| self.poll_tick(cx)).await
    }

    /// [`Interval::tick`] for hand-written futures.
    pub fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Instant> {
        self.reached.note("tick");
        let deadline = &mut self.deadline;
        let describe_at = deadline.at;
        let describe = || Node::new(Kind::Timer, "tick of an interval").has_left(left(describe_at));
        ready!(poll_leaf(cx, describe, |cx| deadline.poll_elapsed_or_reset(cx)));
        let Some(due) = self.deadline.instant() else { return Poll::Pending };
        self.deadline.reset(self.next_after(due));
        self.reached.reset();
        Poll::Ready(due)
    }

    fn next_after(&self, due: Instant) -> Option<Instant> {
        let (next, now) = (due.checked_add(self.period)?, now());
        let late = now.saturating_duration_since(due);
        match self.missed {
            _ if late < self.period => Some(next),
            MissedTicks::Burst => Some(next),
            MissedTicks::Delay => now.checked_add(self.period),
            MissedTicks::Skip => {
                due.checked_add(late - remainder(late, self.period)).and_then(|last| last.checked_add(self.period))
            }
        }
    }
}

/// What is left of `time` behind its last whole `period`.
fn remainder(time: Duration, period: Duration) -> Duration {
    let nanoseconds = time.as_nanos() % period.as_nanos();
    let second = Duration::from_secs(1).as_nanos();
    // Each is less than that of `time`, which is made of a `u64` and a `u32`.
    Duration::new((nanoseconds / second) as u64, (nanoseconds % second) as u32)
}

/// The ticks, see [`Interval::tick`]. They never end.
#[cfg(feature = "futures-core")]
impl futures_core::Stream for Interval {
    type Item = Instant;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Instant>> {
        self.poll_tick(cx).map(Some)
    }
}
