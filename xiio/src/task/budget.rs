//! How much may happen before the reactor is looked at again, and before a task gives way.

use std::cell::Cell;
use std::task::Context;

/// Polls of tasks in one turn of the loop, all sets together. Enough that looking at the reactor (a system call of
/// about 0.2 µs) does not show, few enough that a turn of short polls stays in the microseconds.
const POLLS_PER_TURN: u32 = 256;

/// Leaves that may be ready in one poll of a task.
const READY_LEAVES_PER_POLL: u32 = 128;

struct Budget {
    polls_per_turn: Cell<u32>,
    polls: Cell<u32>,
    leaves: Cell<u32>,
}

thread_local! {
    static BUDGET: Budget = const { Budget { polls_per_turn: Cell::new(POLLS_PER_TURN), polls: Cell::new(0), leaves: Cell::new(0) } };
}

/// Makes every turn one poll long, or of the usual length again.
pub(crate) fn set_single_step(is_single: bool) {
    BUDGET.with(|budget| budget.polls_per_turn.set(if is_single { 1 } else { POLLS_PER_TURN }));
}

/// A new turn begins.
pub(crate) fn refill() {
    BUDGET.with(|budget| {
        budget.polls.set(budget.polls_per_turn.get());
        budget.leaves.set(READY_LEAVES_PER_POLL);
    });
}

/// What is polled next has a full share of ready leaves, whatever was polled before it.
#[inline]
pub(crate) fn begin_share() {
    BUDGET.with(|budget| budget.leaves.set(READY_LEAVES_PER_POLL));
}

/// Takes another poll of the root out of this turn; `false` when none is left.
pub(crate) fn take_root_poll() -> bool {
    take_poll(false)
}

/// Takes one poll out of this turn; `false` when none is left and none is granted beyond the budget.
#[inline]
pub(super) fn take_poll(is_granted: bool) -> bool {
    BUDGET.with(|budget| {
        let left = budget.polls.get();
        if left == 0 && !is_granted {
            return false;
        }
        budget.polls.set(left.saturating_sub(1));
        budget.leaves.set(READY_LEAVES_PER_POLL);
        true
    })
}

/// Asked by every leaf before it looks whether it is ready: whether its task may go on. If not, the task gives way and is
/// polled again in the next turn.
///
/// Outside of a runtime there is no one to give way to.
#[inline]
pub(crate) fn has_leaf(cx: &mut Context<'_>) -> bool {
    if BUDGET.with(|budget| budget.leaves.get()) > 0 || !crate::unwind::is_inside() {
        return true;
    }
    cx.waker().wake_by_ref();
    false
}

/// A leaf has been ready.
#[inline]
pub(crate) fn spend_leaf() {
    BUDGET.with(|budget| budget.leaves.set(budget.leaves.get().saturating_sub(1)));
}
