//! The future of a group with workers: it lends them the thread's leave to touch what the tasks borrow.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::state::{Ending, Run};
use crate::cores::{Crew, Errand, Inside, Window, current_permit, is_recalled};
use crate::recording;
use crate::runtime::{Allowance, Outside, Runtime, TURN};
use crate::sys;
use crate::task::budget;
use crate::unwind;

/// How long workers go on where one has not come out of its poll.
const BREATH: Duration = Duration::from_millis(2);

/// Runs a group with workers to its end.
#[must_use]
pub struct Lend<'a, 'b, B: Future, E: Ending<B::Output>> {
    run: Run<'a, 'b, B, E>,
    lender: Option<Lender>,
}

/// What a group needs that may have threads.
struct Lender {
    crew: Arc<Crew>,
    waker: Waker,
    /// The threads may wake a task.
    outside: Outside,
}

/// The group, whatever its body is.
trait Lent {
    /// Polls what there is at home; `Ready` when all of the group has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// It has ended, and the next poll comes to that.
    fn stay(&mut self, cx: &mut Context<'_>);
}

impl<B: Future, E: Ending<B::Output>> Lent for Run<'_, '_, B, E> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_members(cx)
    }

    fn stay(&mut self, cx: &mut Context<'_>) {
        self.note_held(cx);
    }
}

/// Runs a group that may have workers.
pub fn lend<'a, 'b, B: Future, E: Ending<B::Output>>(run: Run<'a, 'b, B, E>) -> Lend<'a, 'b, B, E> {
    let lender = run.crew().map(|crew| Lender { waker: crew.waker(), crew, outside: Outside::default() });
    Lend { run, lender }
}

impl<B: Future, E: Ending<B::Output>> Future for Lend<'_, '_, B, E> {
    type Output = E::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<E::Output> {
        let Self { run, lender } = &mut *self;
        match lender {
            Some(lender) => lender.poll(cx, run).map(|()| run.conclude()),
            None => Pin::new(run).poll(cx),
        }
    }
}

impl Lender {
    /// Polls the group, and lets the workers in if it is their time.
    ///
    /// The group may have lent for long, and what is around it may be cancelled since. So its end asks as a leaf does: what is behind it must not go on.
    fn poll(&mut self, cx: &mut Context<'_>, group: &mut dyn Lent) -> Poll<()> {
        let crew = Arc::clone(&self.crew);
        let inside = crew.bridge().enter(cx.waker());
        inside.take_woken();
        if crew.is_at_home() {
            // Nobody is let in. Who wakes the bridge is heard when the group is polled next.
            return group.poll(cx);
        }
        let polled = self.poll_inside(&inside, cx, group);
        if polled.is_ready() && (unwind::is_frozen() || budget::stops()) {
            group.stay(cx);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        polled
    }

    fn poll_inside(&mut self, inside: &Inside<'_>, cx: &mut Context<'_>, group: &mut dyn Lent) -> Poll<()> {
        let Self { crew, waker, outside } = self;
        let _polling = Runtime::with(|runtime| runtime.polling(crew));
        let cx_inside = &mut Context::from_waker(waker);
        let polled = group.poll(cx_inside);
        if polled.is_ready() || !crew.has_open() {
            Runtime::with(|runtime| runtime.remove_lender(crew));
            *outside = Outside::default();
            return polled;
        }
        assert!(
            Runtime::with(Runtime::lends),
            "a group with workers was polled first in a `run`, and now by a loop that does not let them in; await it where it has begun"
        );
        outside.count_here();
        let allowance = Runtime::with(|runtime| {
            runtime.add_lender(crew, cx.waker());
            runtime.take_allowance(crew)
        });
        match allowance {
            Some(allowance) => linger(crew, &allowance, inside, group, cx_inside),
            None => Poll::Pending,
        }
    }

    /// The loop does not lend for it any more.
    fn leave(&self) {
        Runtime::try_with(|runtime| runtime.remove_lender(&self.crew));
    }
}

impl<B: Future, E: Ending<B::Output>> Drop for Lend<'_, '_, B, E> {
    fn drop(&mut self) {
        if let Some(lender) = &self.lender {
            lender.leave();
        }
    }
}

/// Lets the workers in and waits in place of the loop, polling the group when it is woken; until there is something to do for
/// somebody else.
fn linger(
    crew: &Arc<Crew>,
    allowance: &Allowance,
    inside: &Inside<'_>,
    group: &mut dyn Lent,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let _lingering = Lingering::begin();
    // SAFETY: this is called by the poll of the group, and the window is dropped before it returns or unwinds.
    let window = unsafe { crew.open() };
    let stay = Stay { crew, allowance, inside, window, started: sys::now(), held_up: Cell::default() };
    loop {
        // Before the poll, which may take all of a slice. A worker that has asked has nudged this loop as well, which ends its
        // next wait.
        let was_asked = stay.window.grant();
        if inside.take_woken() {
            stay.held_up.set(None);
            budget::refill();
            // A worker may block for what is polled here: nothing stops it then.
            let polled = if stay.window.is_held_up() { go_on(group, cx) } else { group.poll(cx) };
            if polled.is_ready() || !crew.has_open() {
                return polled;
            }
        }
        if stay.wait(was_asked) {
            stay.held_up.set(None);
            stay.window.stay();
            continue;
        }
        Runtime::with(|runtime| runtime.note_lent(crew));
        if stay.window.try_close() {
            // What came to its end meanwhile has ended in this round: before a limit around it is looked at.
            return if inside.take_woken() { group.poll(cx) } else { Poll::Pending };
        }
        stay.note_held_up();
        let polled = stay.draw(group, cx);
        if polled.is_ready() {
            return polled;
        }
        stay.breathe();
    }
}

/// Polls what goes on though it is cancelled: whoever is to come to the cancellation waits for a worker, and that may block for it.
fn go_on(group: &mut dyn Lent, cx: &mut Context<'_>) -> Poll<()> {
    unwind::thawed(|| budget::unstopped(|| group.poll(cx)))
}

/// What a group knows that lingers.
struct Stay<'a> {
    crew: &'a Arc<Crew>,
    allowance: &'a Allowance,
    inside: &'a Inside<'a>,
    window: Window<'a, Errand>,
    started: Instant,
    /// There while a worker does not come out, and nobody is polled.
    held_up: Cell<Option<HeldUp>>,
}

impl Stay<'_> {
    /// Waits until something happens, or only looks if the group has something to do; `false` if it is somebody else's affair.
    fn wait(&self, was_asked: bool) -> bool {
        Runtime::with(|runtime| {
            let now = sys::now();
            let is_called_away = self.is_called_away(runtime);
            let until = self.until(runtime, now);
            if is_called_away || until <= now {
                if !is_called_away {
                    runtime.note_quiet(self.allowance);
                }
                return false;
            }
            let limit = if self.inside.is_woken() { Duration::ZERO } else { until - now };
            if !limit.is_zero() {
                self.crew.look_out_for_workers();
            }
            // The loop finds out for itself what is wrong with the reactor.
            let is_ready = || self.allowance.is_slice || self.inside.is_woken() || runtime.is_needed_elsewhere();
            let has_waited = runtime.linger(limit, &is_ready).is_ok();
            // Any other event that has ended the wait may be meant for code that nobody here knows
            // of.
            has_waited
                && (self.allowance.is_slice
                    || sys::now() >= until
                    || self.inside.is_woken()
                    || was_asked
                    || self.window.grant()
                    || runtime.is_asked_by_others(self.crew))
        })
    }

    /// A worker does not come out.
    fn note_held_up(&self) {
        let held_up = self.held_up.take().unwrap_or_else(HeldUp::begin);
        self.held_up.set(Some(held_up));
    }

    /// A worker does not come out. What is inside may be drawn for who is in there.
    fn draw(&self, group: &mut dyn Lent, cx: &mut Context<'_>) -> Poll<()> {
        Runtime::with(|runtime| unwind::thawed(|| runtime.draw_inside(self.crew, || group.poll(cx))))
    }

    /// A worker does not come out. It may block for what another one has to do, or home inside of the group: they go on for a while. So do the workers
    /// of groups further in.
    fn breathe(&self) {
        let began = sys::now();
        let _ = Runtime::with(|runtime| {
            runtime.lend_further_in();
            // Who waits outside for the worker runs before virtual time passes by. In a slice that may be somebody nobody here knows of.
            let is_needed_elsewhere = || unwind::thawed(|| runtime.is_needed_elsewhere());
            let is_ready = || self.allowance.is_slice || self.inside.is_woken() || is_needed_elsewhere();
            runtime.linger(BREATH, &is_ready)
        });
        // Who has something to do elsewhere does not sleep there.
        if !self.inside.is_woken() {
            self.window.breathe(BREATH.saturating_sub(sys::now().saturating_duration_since(began)));
        }
    }

    fn is_called_away(&self, runtime: &Runtime) -> bool {
        match self.allowance.is_slice {
            true => !budget::is_unstopped() && (unwind::is_frozen() || is_recalled()),
            false => runtime.is_needed_elsewhere(),
        }
    }

    /// Until when the group may linger: if the workers of another one ask, for a turn at most, where its own are in or on their way.
    fn until(&self, runtime: &Runtime, now: Instant) -> Instant {
        if self.allowance.is_slice || !runtime.is_asked_by_others(self.crew) {
            return self.allowance.until;
        }
        let is_of_use = self.crew.is_inside() || self.crew.is_wanted();
        self.allowance.until.min(if is_of_use { self.started + TURN } else { now })
    }
}

/// A worker that lends itself does not come out as one of its own does not, until this is dropped.
struct HeldUp;

impl HeldUp {
    fn begin() -> Self {
        Self::note(true);
        Self
    }

    fn note(is_held_up: bool) {
        if let Some(permit) = current_permit() {
            permit.set_held_up(is_held_up);
            recording::set_held_up(is_held_up);
        }
    }
}

impl Drop for HeldUp {
    fn drop(&mut self) {
        Self::note(false);
    }
}

/// A worker that lends itself sleeps inside of its own permit, until this is dropped.
struct Lingering {
    /// So it does for a group further out.
    is_inner: bool,
}

impl Lingering {
    fn begin() -> Self {
        // Where it is recalled already, the first look finds out.
        Self { is_inner: current_permit().is_some_and(|permit| permit.begin_lingering()) }
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        if let Some(permit) = current_permit().filter(|_| !self.is_inner) {
            permit.end_lingering();
        }
    }
}
