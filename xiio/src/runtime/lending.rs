//! Whose workers run while the loop has nothing else to do: the list of lenders.
//!
//! A group with workers puts itself into the list at each poll. When the loop would sleep, it names the first one, wakes it
//! and polls the root. The group that finds itself named *lingers*: it lets its workers in and waits, in the loop's place,
//! until something else is to be done. A lender that is not reached (it was leaked, or nobody polls it) leaves the list, and
//! the next one is tried before the loop sleeps. A loop that is never idle lends now and then to those who ask, for a slice.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};
use std::{io, mem};

use super::root::Root;
use super::{Runtime, poll_root};
use crate::cores::{self, Crew};
use crate::recording;
use crate::report::waking;
use crate::sys;
use crate::task::{budget, is_awaited_above};
use crate::unwind;

/// How long workers wait for a loop that is never idle,
const BUSY_FOR: Duration = Duration::from_millis(1);
/// and for how long it lends to them then.
const SLICE: Duration = Duration::from_micros(200);
/// How long one group keeps the loop when the workers of another ask.
pub(crate) const TURN: Duration = Duration::from_millis(1);

/// How long a group lingers at first where nothing happens, and at most. A future around it may have come to its end in this
/// very poll, before the group was polled, and wait for that to return.
const FIRST_STAY: Duration = Duration::from_millis(1);
const LONGEST_STAY: Duration = Duration::from_millis(64);

/// How long a drawing of the tree waits for what the workers have to draw: one may be in a long poll.
const SITTING: Duration = Duration::from_millis(200);

/// A group with workers that is polled on this thread.
struct Lender {
    crew: Arc<Crew>,
    /// Who polls the group.
    waker: Waker,
}

/// The groups with workers on this thread.
#[derive(Default)]
pub(super) struct Lenders {
    /// The next one first.
    list: RefCell<VecDeque<Lender>>,
    /// Who is to linger in this poll.
    named: RefCell<Option<Named>>,
    /// Since when workers ask in vain.
    asked_since: Cell<Option<Instant>>,
    /// How long the next one lingers at most, beyond the first stay.
    patience: Cell<Duration>,
    /// Since when the workers are to draw their tasks.
    drawn_since: Cell<Option<Instant>>,
}

struct Named {
    crew: Arc<Crew>,
    /// The loop has more to do.
    is_slice: bool,
}

/// The leave to linger. It is about time in which threads run, and that is the system's.
pub(crate) struct Leave {
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

    fn is_asked(&self) -> bool {
        self.list.borrow().iter().any(|lender| lender.crew.is_wanted())
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

    /// The tree has been drawn.
    pub(super) fn end_drawing(&self) {
        self.drawn_since.set(None);
    }

    /// The next one whose workers ask, or else the next one. It goes to the end of the list.
    fn choose(&self) -> Option<(Arc<Crew>, Waker)> {
        let mut list = self.list.borrow_mut();
        let asked = list.iter().position(|lender| lender.crew.is_wanted()).unwrap_or(0);
        let lender = list.remove(asked)?;
        let chosen = (Arc::clone(&lender.crew), lender.waker.clone());
        list.push_back(lender);
        Some(chosen)
    }

    fn remove(&self, crew: &Arc<Crew>) {
        let at = |list: &VecDeque<Lender>| list.iter().position(|lender| Arc::ptr_eq(&lender.crew, crew));
        let removed = {
            let mut list = self.list.borrow_mut();
            at(&list).and_then(|at| list.remove(at))
        };
        drop(removed);
    }
}

impl Runtime {
    /// A group with workers is polled, with `waker`; it may lend from now on.
    pub(crate) fn add_lender(&self, crew: &Arc<Crew>, waker: &Waker) {
        let known = |lender: &Lender| Arc::ptr_eq(&lender.crew, crew);
        if self.lenders.list.borrow().iter().any(|lender| known(lender) && lender.waker.will_wake(waker)) {
            return;
        }
        let waker = waker.clone();
        let mut list = self.lenders.list.borrow_mut();
        let before = match list.iter_mut().find(|lender| known(lender)) {
            Some(lender) => Some(mem::replace(&mut lender.waker, waker)),
            None => {
                list.push_back(Lender { crew: Arc::clone(crew), waker });
                None
            }
        };
        drop(list);
        drop(before);
    }

    /// A group with workers lends no more.
    pub(crate) fn remove_lender(&self, crew: &Arc<Crew>) {
        if !self.lenders.is_empty() {
            self.lenders.remove(crew);
        }
    }

    /// Whether a group is to linger in this poll.
    pub(crate) fn take_leave_to_linger(&self, crew: &Arc<Crew>) -> Option<Leave> {
        let mut named = self.lenders.named.borrow_mut();
        let is_meant = named.as_ref().is_some_and(|named| Arc::ptr_eq(&named.crew, crew));
        let named = if is_meant { named.take() } else { None };
        let Named { is_slice, .. } = named?;
        let stay = if is_slice { SLICE } else { self.lenders.patience.take().max(FIRST_STAY) };
        // From now on: what was polled on the way to the group has taken its time.
        Some(Leave { until: sys::now() + stay, is_slice, stay })
    }

    /// A group has lingered, and nothing has happened: the next time it may be longer.
    pub(crate) fn note_quiet(&self, leave: &Leave) {
        self.lenders.patience.set((leave.stay * 2).min(LONGEST_STAY));
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

    /// Waits in place of the loop, until something happens or the time is over.
    pub(crate) fn linger(&self, limit: Duration) -> io::Result<()> {
        if self.home.fall_asleep() {
            let waited = self.wait_in_place(limit);
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
    fn wait_in_place(&self, limit: Duration) -> io::Result<()> {
        let next = self.timers.borrow().next_deadline();
        let now = self.now();
        let until = next.map_or(limit, |next| next.saturating_duration_since(now).min(limit));
        if !self.has_virtual_time() {
            return self.reactor.wait(Some(until));
        }
        let began = sys::now();
        let jump = next.filter(|_| self.n_advancing.get() > 0 && !limit.is_zero());
        self.reactor.wait(Some(if jump.is_some() { Duration::ZERO } else { until }))?;
        let passed = now + sys::now().saturating_duration_since(began);
        self.clock.advance_to(jump.filter(|_| !self.is_called()).unwrap_or(passed));
        recording::waited(began, self.now().saturating_duration_since(now));
        Ok(())
    }

    /// Whether to lend now, and if so, whether only for a slice.
    fn is_lending_due(&self) -> Option<bool> {
        let is_idle = !self.home.is_root_woken() && !self.is_drawing_due();
        if is_idle {
            self.lenders.asked_since.set(None);
            return Some(false);
        }
        if !self.lenders.is_asked() {
            self.lenders.asked_since.set(None);
            return None;
        }
        let now = sys::now();
        let since = self.lenders.asked_since.get().unwrap_or(now);
        self.lenders.asked_since.set(Some(since));
        if now.saturating_duration_since(since) < BUSY_FOR {
            return None;
        }
        self.lenders.asked_since.set(None);
        Some(true)
    }

    /// Names a lender and polls the root, which is to reach it.
    fn try_to_lend(&self, is_slice: bool, poll: impl FnOnce() -> Poll<()>) -> (Poll<()>, Reached) {
        let Some((crew, waker)) = self.lenders.choose() else { return (Poll::Pending, Reached::Nobody) };
        let named = Named { crew: Arc::clone(&crew), is_slice };
        drop(self.lenders.named.borrow_mut().replace(named));
        waking(|| waker.wake());
        cores::take_refusal();
        budget::refill();
        let polled = unwind::lending(poll);
        let missed = self.lenders.named.borrow_mut().take();
        let reached = match missed {
            None => Reached::Lender,
            Some(_) if cores::take_refusal() => Reached::Refused,
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
    /// A group has lingered. Somebody else may have something to do since, so the loop does not sleep.
    Lingered,
    /// There is nobody to lend to, or it is not their turn.
    Nobody,
}

/// Lends to workers if there are any, and the loop has nothing else to do or they have waited for long.
#[cold]
pub(super) fn lend(runtime: &Runtime, root: &mut dyn Root) -> Lent {
    while !runtime.lenders.is_empty() {
        let Some(is_slice) = runtime.is_lending_due() else { break };
        let (polled, reached) = runtime.try_to_lend(is_slice, || poll_root(runtime, root));
        if polled.is_ready() {
            return Lent::Ended;
        }
        match reached {
            Reached::Lender => return Lent::Lingered,
            Reached::Refused => break,
            Reached::Nobody => {}
        }
    }
    Lent::Nobody
}
