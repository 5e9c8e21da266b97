//! How far a task may go in one poll, and the limits of time that it is polled under.
//!
//! The first leaf of a poll that is ready is free, as it is mostly the only one. From the second on each leaf asks here. A
//! limited number may be ready in one poll. The clock is looked at as well: a limit of time may have run out meanwhile, and
//! others wait for their turn.

use std::cell::Cell;
use std::task::Context;
use std::time::{Duration, Instant};

use super::Runtime;
use crate::task::budget::{self, Leaves};
use crate::unwind;

/// After so long in one turn a task gives way at its next leaf.
const SLICE: Duration = Duration::from_millis(1);

/// Under no limit of time the clock is looked at once for so many leaves; it costs as much as a leaf that is ready.
const LEAVES_PER_LOOK: u32 = 8;

/// The nearest limit of time around what is being polled.
#[derive(Clone, Copy)]
struct Nearest {
    at: Instant,
    is_first_poll: bool,
    /// It was known to be over when the poll under it began. What it limits has this round, and may come to its value in it.
    was_over: bool,
}

thread_local! {
    static LIMIT: Cell<Option<Nearest>> = const { Cell::new(None) };
}

/// Something is polled under a limit of time, while this exists.
pub(crate) struct UnderLimit {
    outer: Option<Nearest>,
}

impl UnderLimit {
    /// A first poll is not cut off by the limit: the limit may have run out between where it was set and there, and nothing would
    /// begin that asks. It ends with the slice.
    #[inline]
    pub(crate) fn new(limit: Option<Instant>, is_first_poll: bool) -> Self {
        let outer = LIMIT.get();
        if let Some(at) = limit
            && outer.is_none_or(|outer| at < outer.at)
        {
            let was_over = Runtime::look(Runtime::last_seen).is_some_and(|seen| seen >= at);
            LIMIT.set(Some(Nearest { at, is_first_poll, was_over }));
        }
        Self { outer }
    }
}

impl Drop for UnderLimit {
    #[inline]
    fn drop(&mut self) {
        LIMIT.set(self.outer);
    }
}

/// Whether what is polled now has a limit of time around it that is over at `at` or before.
pub(crate) fn is_over_outside(at: Instant) -> bool {
    LIMIT.get().is_some_and(|outer| outer.at <= at)
}

/// Asked by every leaf before it looks whether it is ready: whether its task may go on. If not, the task gives way and is
/// polled again in the next turn.
///
/// Outside of a runtime there is no one to give way to.
#[inline]
pub(crate) fn may_go_on(cx: &Context<'_>) -> bool {
    budget::leaves() == Leaves::FREE || may_take_another(cx)
}

#[inline(never)]
fn may_take_another(cx: &Context<'_>) -> bool {
    may_take(cx)
}

/// The same for what begins and is no leaf: a group, a combinator. It counts as a leaf that is ready.
#[inline]
pub(crate) fn may_begin(cx: &Context<'_>) -> bool {
    let may = may_take(cx);
    if may {
        budget::spend_leaf();
    }
    may
}

#[inline]
fn may_take(cx: &Context<'_>) -> bool {
    let leaves = budget::leaves();
    let n_unasked = leaves.n_unasked();
    (n_unasked < budget::READY_LEAVES_PER_POLL && !looks(n_unasked)) || may_after_look(leaves.n_ready(), cx)
}

/// Whether the clock is looked at before the next leaf.
#[inline]
fn looks(n_ready: u32) -> bool {
    n_ready % LEAVES_PER_LOOK == 2 || (n_ready > 0 && LIMIT.get().is_some())
}

#[inline(never)]
fn may_after_look(n_ready: u32, cx: &Context<'_>) -> bool {
    !unwind::is_inside() || !has_had_its_share(n_ready) || !gives_way(cx)
}

fn has_had_its_share(n_ready: u32) -> bool {
    n_ready >= budget::READY_LEAVES_PER_POLL || budget::stops() || (looks(n_ready) && ends_late_turn())
}

/// Has the task give way, unless that is in vain.
#[cold]
fn gives_way(cx: &Context<'_>) -> bool {
    let gives_way = budget::refuse_leaf();
    if gives_way {
        cx.waker().wake_by_ref();
    }
    gives_way
}

/// Ends the turn of the loop if a limit of time around what is being polled has run out in this poll, or if it has lasted too long.
pub(crate) fn ends_late_turn() -> bool {
    Runtime::look(Runtime::is_late).unwrap_or(false)
}

impl Runtime {
    fn is_late(&self) -> bool {
        let now = self.now();
        let began = self.turn_began.get();
        self.turn_began.set(began.or(Some(now)));
        let is_over = || began.is_some_and(|began| now.saturating_duration_since(began) >= SLICE);
        let is_late = match LIMIT.get() {
            // It has this round and no other, so that is as long as the turn has polls.
            Some(Nearest { is_first_poll: true, was_over: true, .. }) => false,
            Some(Nearest { is_first_poll: false, was_over: false, at }) if at <= now => true,
            _ => is_over(),
        };
        if is_late {
            budget::end_turn();
        }
        is_late
    }
}
