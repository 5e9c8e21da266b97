//! Whose workers run while the loop has nothing else to do: the list of lenders.
//!
//! A group with workers puts itself into the list at each poll. When the loop would sleep, it names the first one, wakes it
//! and polls the root. The group that finds itself named *lingers*: it lets its workers in and waits, in the loop's place,
//! until something else is to be done. A lender that is not reached (it was leaked, or nobody polls it) leaves the list, and
//! the next one is tried before the loop sleeps. In a loop that is never idle those whose workers ask get a slice now and then:
//! each lingers so long when it is polled next.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};
use std::{io, mem};

use super::root::Root;
use super::{Runtime, Wish, poll_root};
use crate::cores::{self, Crew};
use crate::drawing::{Drawing, Node};
use crate::recording;
use crate::report::{drop_safely, wake_all};
use crate::sys;
use crate::task::{budget, is_awaited_above};
use crate::unwind;

/// How long workers wait for a loop that is never idle.
const BUSY_FOR: Duration = Duration::from_millis(1);
/// How long each group lends to its workers when they have waited for that long.
const SLICE: Duration = Duration::from_micros(200);
/// How long a group lends inside of another one that waits for a worker of its own.
const SLICE_FURTHER_IN: Duration = Duration::from_millis(2);
/// How long one group keeps the loop when the workers of another ask.
pub(crate) const TURN: Duration = Duration::from_millis(1);

/// How long a group lingers at first where nothing happens. A future around it may have come to its end in this very poll, before
/// the group was polled, and wait for that to return.
const FIRST_STAY: Duration = Duration::from_millis(1);
/// How long a group lingers at most where nothing happens.
const LONGEST_STAY: Duration = Duration::from_millis(64);

/// How long a drawing of the tree waits for what the workers have to draw: one may be in a long poll.
const SITTING: Duration = Duration::from_millis(200);

/// What stands for what is around a group, where only that is drawn.
const AROUND: &str = "more around it, not drawn, as a worker is long in its poll";

/// A group with workers that is polled on this thread.
struct Lender {
    crew: Arc<Crew>,
    /// Who polls the group, if it was polled since it was woken last.
    waker: Option<Waker>,
    /// Since when its workers ask in vain: none has come in since.
    asked_since: Option<Instant>,
    /// It may linger for a slice when it is polled next.
    has_slice: bool,
}

impl Lender {
    /// Looks whether its workers ask; whether they have for so long that it is to have a slice. An idle loop has not kept them waiting.
    fn is_due(&mut self, now: Instant, is_idle: bool) -> bool {
        if !self.crew.is_wanted() {
            self.asked_since = None;
        } else if !is_idle {
            self.asked_since.get_or_insert(now);
        }
        let has_waited = |since| now.saturating_duration_since(since) >= BUSY_FOR;
        !self.has_slice && self.asked_since.is_some_and(has_waited)
    }

    /// It is about to send its workers out again. An idle loop that was called away before any was in has kept them waiting.
    fn note_lent(&mut self) {
        if self.crew.is_wanted() && !self.crew.is_inside() {
            self.asked_since.get_or_insert_with(sys::now);
        } else {
            self.asked_since = None;
        }
    }
}

/// The groups with workers on this thread.
#[derive(Default)]
pub(super) struct Lenders {
    /// The next one first.
    list: RefCell<VecDeque<Lender>>,
    /// Who is to linger in this poll, as the loop is idle.
    named: RefCell<Option<Arc<Crew>>>,
    /// When the last slice was given.
    given_at: Cell<Option<Instant>>,
    /// How long the next one lingers at most, beyond the first stay.
    patience: Cell<Duration>,
    /// Since when the workers are to draw their tasks.
    drawn_since: Cell<Option<Instant>>,
    /// Whose groups are being polled, each inside of the one before.
    polled: RefCell<Vec<usize>>,
}

/// Who in the tree wants it drawn.
pub(super) struct Asker {
    since: Instant,
    /// The groups with workers that it is in.
    inside: Vec<usize>,
}

impl Asker {
    /// Whether it has waited for the workers of `crew` long enough, for their drawings and for their way out, and may be whom one of them waits for.
    fn has_waited_inside(&self, crew: &Arc<Crew>) -> bool {
        self.inside.contains(&key(crew)) && sys::now().saturating_duration_since(self.since) >= 2 * SITTING
    }
}

fn key(crew: &Arc<Crew>) -> usize {
    Arc::as_ptr(crew).addr()
}

/// A group with workers is being polled, until this is dropped.
pub(crate) struct Polling;

impl Drop for Polling {
    fn drop(&mut self) {
        Runtime::look(|runtime| runtime.lenders.polled.borrow_mut().pop());
    }
}

/// Allows a group to linger. It is about time in which threads run, and that is the system's.
pub(crate) struct Allowance {
    /// It is over then.
    pub(crate) until: Instant,
    /// The loop has more to do, and goes on with it then.
    pub(crate) is_slice: bool,
    stay: Duration,
}

/// What came of an attempt to lend.
enum Reached {
    Lender,
    Nobody,
    /// The worker that this loop belongs to has no permit itself.
    Refused,
}

impl Lenders {
    pub(super) fn is_empty(&self) -> bool {
        self.list.borrow().is_empty()
    }

    /// Gives a slice to the next one that is due, at most one for each millisecond of waiting. The caller has it polled.
    fn give_slice(&self, now: Instant, is_idle: bool) -> Option<Waker> {
        let mut list = self.list.borrow_mut();
        let all_due = list.iter_mut().enumerate().filter_map(|(at, lender)| lender.is_due(now, is_idle).then_some(at));
        // All are asked, so that each knows since when.
        let due = all_due.reduce(|first, _| first);
        let is_early = |given_at| now.saturating_duration_since(given_at) < BUSY_FOR;
        if self.given_at.get().is_some_and(is_early) {
            return None;
        }
        let mut lender = list.remove(due?)?;
        self.given_at.set(Some(now));
        lender.has_slice = true;
        let waker = lender.waker.take();
        list.push_back(lender);
        waker
    }

    /// Whether `crew` has a slice, which it takes.
    fn take_slice(&self, crew: &Arc<Crew>) -> bool {
        let mut list = self.list.borrow_mut();
        let lender = list.iter_mut().find(|lender| Arc::ptr_eq(&lender.crew, crew));
        lender.is_some_and(|lender| mem::take(&mut lender.has_slice))
    }

    /// Whether `crew` is named, which it takes.
    fn take_name(&self, crew: &Arc<Crew>) -> bool {
        let mut named = self.named.borrow_mut();
        let is_meant = named.as_ref().is_some_and(|named| Arc::ptr_eq(named, crew));
        if is_meant {
            *named = None;
        }
        is_meant
    }

    /// Whether the workers have drawn their tasks for a drawing of the tree, or have had the time to. The first call asks them to.
    pub(super) fn have_drawn(&self) -> bool {
        let list = self.list.borrow();
        let since = self.drawn_since.get().unwrap_or_else(|| {
            list.iter().for_each(|lender| lender.crew.want_drawings());
            sys::now()
        });
        self.drawn_since.set(Some(since));
        list.iter().all(|lender| lender.crew.have_drawn()) || sys::now().saturating_duration_since(since) >= SITTING
    }

    /// For a drawing that is wanted now.
    pub(super) fn asker(&self) -> Asker {
        Asker { since: sys::now(), inside: self.polled.borrow().clone() }
    }

    /// The tree has been drawn.
    pub(super) fn end_drawing(&self) {
        self.drawn_since.set(None);
    }

    /// The next one whose workers ask, or else the next one. It goes to the end of the list.
    fn choose(&self) -> Option<(Arc<Crew>, Option<Waker>)> {
        let mut list = self.list.borrow_mut();
        let asked = list.iter().position(|lender| lender.crew.is_wanted()).unwrap_or(0);
        let mut lender = list.remove(asked)?;
        let chosen = (Arc::clone(&lender.crew), lender.waker.take());
        list.push_back(lender);
        Some(chosen)
    }

    fn remove(&self, crew: &Arc<Crew>) {
        let at = |list: &VecDeque<Lender>| list.iter().position(|lender| Arc::ptr_eq(&lender.crew, crew));
        let removed = {
            let mut list = self.list.borrow_mut();
            at(&list).and_then(|at| list.remove(at))
        };
        drop_safely(removed);
    }
}

impl Runtime {
    /// A group with workers is polled, with `waker`; it may lend from now on.
    pub(crate) fn add_lender(&self, crew: &Arc<Crew>, waker: &Waker) {
        let known = |lender: &Lender| Arc::ptr_eq(&lender.crew, crew);
        let has_waker = |lender: &Lender| lender.waker.as_ref().is_some_and(|own| own.will_wake(waker));
        if self.lenders.list.borrow().iter().any(|lender| known(lender) && has_waker(lender)) {
            return;
        }
        let waker = waker.clone();
        let mut list = self.lenders.list.borrow_mut();
        let before = match list.iter_mut().find(|lender| known(lender)) {
            Some(lender) => lender.waker.replace(waker),
            None => {
                list.push_back(Lender {
                    crew: Arc::clone(crew),
                    waker: Some(waker),
                    asked_since: None,
                    has_slice: false,
                });
                None
            }
        };
        drop(list);
        drop_safely(before);
    }

    /// A group with workers lends no more.
    pub(crate) fn remove_lender(&self, crew: &Arc<Crew>) {
        if !self.lenders.is_empty() {
            self.lenders.remove(crew);
        }
    }

    /// A group with workers is polled.
    pub(crate) fn polling(&self, crew: &Arc<Crew>) -> Polling {
        self.lenders.polled.borrow_mut().push(key(crew));
        Polling
    }

    /// A worker of `crew` does not come out, so the tree cannot be drawn from the root on: code outside of the group would be polled. Who has asked for
    /// it inside, and has waited for long, gets what is inside: the worker may wait for what is done then.
    pub(crate) fn draw_inside(&self, crew: &Arc<Crew>, poll: impl FnOnce() -> Poll<()>) -> Poll<()> {
        if !self.is_drawing_due() {
            return Poll::Pending;
        }
        let is_meant = |wish: &mut Wish| wish.asker.as_ref().is_some_and(|asker| asker.has_waited_inside(crew));
        let wishes: Vec<Wish> = self.drawings.borrow_mut().extract_if(.., is_meant).collect();
        if wishes.is_empty() {
            return Poll::Pending;
        }
        let mut polled = Poll::Pending;
        let mut drawing = Drawing::default();
        drawing.leaf(Node::from(AROUND));
        drawing.append(unwind::inspect_tree(|| polled = poll()));
        self.lenders.end_drawing();
        wishes.into_iter().for_each(|wish| (wish.on_drawn)(drawing.clone()));
        polled
    }

    /// Whether a group may linger in this poll, and how long.
    pub(crate) fn take_allowance(&self, crew: &Arc<Crew>) -> Option<Allowance> {
        // Who is drawn is polled by somebody who is in a hurry.
        if unwind::is_inspecting() {
            return None;
        }
        let has_slice = self.lenders.take_slice(crew);
        let stay = match self.lenders.take_name(crew) {
            _ if has_slice && budget::is_unstopped() => SLICE_FURTHER_IN,
            _ if has_slice => SLICE,
            true => self.lenders.patience.take().max(FIRST_STAY),
            false => return None,
        };
        // From now on: what was polled on the way to the group has taken its time.
        Some(Allowance { until: sys::now() + stay, is_slice: has_slice, stay })
    }

    /// A group has lingered, and nothing has happened: the next time it may be longer.
    pub(crate) fn note_quiet(&self, allowance: &Allowance) {
        self.lenders.patience.set((allowance.stay * 2).min(LONGEST_STAY));
    }

    /// Whether workers of another group ask.
    pub(crate) fn is_asked_by_others(&self, crew: &Arc<Crew>) -> bool {
        self.lenders.list.borrow().iter().any(|lender| !Arc::ptr_eq(&lender.crew, crew) && lender.crew.is_wanted())
    }

    /// Whether whoever lingers should go back: there is something to do elsewhere in the tree.
    pub(crate) fn is_needed_elsewhere(&self) -> bool {
        self.home.is_root_woken()
            || is_awaited_above()
            || unwind::is_frozen()
            || cores::is_recalled()
            || self.is_drawing_due()
    }

    /// Waits in place of the loop, until something happens or the time is over. `is_ready` says whether anything is to be done before virtual
    /// time may jump.
    pub(crate) fn linger(&self, limit: Duration, is_ready: &dyn Fn() -> bool) -> io::Result<()> {
        if self.home.fall_asleep() {
            let waited = self.wait_in_place(limit, is_ready);
            self.home.wake_up();
            waited?;
        } else {
            self.reactor.wait(Some(Duration::ZERO))?;
        }
        self.home.take_inbox();
        self.fire_timers();
        Ok(())
    }

    /// The workers go by the clock of the system. So does virtual time beside them, unless somebody has it pass.
    fn wait_in_place(&self, limit: Duration, is_ready: &dyn Fn() -> bool) -> io::Result<()> {
        let next = self.timers.borrow().next_deadline();
        let now = self.now();
        let until = next.map_or(limit, |next| next.saturating_duration_since(now).min(limit));
        if !self.has_virtual_time() {
            return self.reactor.wait(Some(until));
        }
        let began = sys::now();
        let jump = next.filter(|_| self.n_advancing.get() > 0 && !limit.is_zero() && !is_ready());
        let limit = if jump.is_some() { Duration::ZERO } else { until };
        self.while_time_passes(next, || self.reactor.wait(Some(limit)))?;
        if let Some(next) = jump.filter(|_| !self.is_called() && !is_ready()) {
            self.clock.advance_to(next);
        }
        recording::waited(began, self.now().saturating_duration_since(now));
        Ok(())
    }

    /// Whether the loop has nothing to do but to lend.
    fn is_idle(&self) -> bool {
        !self.home.is_root_woken() && !self.is_drawing_due()
    }

    /// Gives a slice where workers have asked in vain for long enough.
    fn lend_slice(&self) {
        wake_all(self.lenders.give_slice(sys::now(), self.is_idle()));
    }

    /// The same for groups inside of one that waits for a worker of its own: that may block for what their workers have to do.
    pub(crate) fn lend_further_in(&self) {
        wake_all(self.lenders.give_slice(sys::now(), false));
    }

    /// A group is about to send its workers out again.
    pub(crate) fn note_lent(&self, crew: &Arc<Crew>) {
        let mut list = self.lenders.list.borrow_mut();
        let lender = list.iter_mut().find(|lender| Arc::ptr_eq(&lender.crew, crew));
        lender.into_iter().for_each(Lender::note_lent);
    }

    /// Names a lender and polls the root, which is to reach it.
    fn try_to_lend(&self, poll: impl FnOnce() -> Poll<()>) -> (Poll<()>, Reached) {
        let Some((crew, waker)) = self.lenders.choose() else { return (Poll::Pending, Reached::Nobody) };
        drop(self.lenders.named.borrow_mut().replace(Arc::clone(&crew)));
        wake_all(waker);
        budget::refill();
        let polled = unwind::lending(poll);
        let missed = self.lenders.named.borrow_mut().take();
        let reached = match missed {
            None => Reached::Lender,
            Some(_) if cores::is_refused() => Reached::Refused,
            Some(_) => {
                self.lenders.remove(&crew);
                Reached::Nobody
            }
        };
        (polled, reached)
    }
}

/// What came of lending.
pub(super) enum Lent {
    /// The root has ended by it.
    Ended,
    /// Somebody else may have something to do since, so the loop does not sleep.
    GoOn,
    /// There is nobody to lend to, or it is not their turn.
    Nobody,
}

/// Lends to workers if there are any, and the loop has nothing else to do. Those who have waited for long get a slice.
#[cold]
pub(super) fn lend(runtime: &Runtime, root: &mut dyn Root) -> Lent {
    runtime.lend_slice();
    while runtime.is_idle() && !runtime.lenders.is_empty() && !cores::is_refused() {
        let (polled, reached) = runtime.try_to_lend(|| poll_root(runtime, root));
        if polled.is_ready() {
            return Lent::Ended;
        }
        match reached {
            Reached::Lender => return Lent::GoOn,
            Reached::Refused => break,
            Reached::Nobody => {}
        }
    }
    // Its time may have come since the last look.
    let is_to_draw = runtime.is_drawing_due() && !cores::is_refused();
    if is_to_draw { Lent::GoOn } else { Lent::Nobody }
}
