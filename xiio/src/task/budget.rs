//! How much may happen before the reactor is looked at again, and before a task gives way.

use std::cell::Cell;
use std::task::Context;

/// Polls of tasks in one turn of the loop, all sets together. Enough that looking at the reactor (a system call of
/// about 0.2 µs) does not show, few enough that a turn of short polls stays in the microseconds.
const POLLS_PER_TURN: u32 = 256;

/// Leaves that may be ready in one poll of a task.
const READY_LEAVES_PER_POLL: i32 = 128;

/// Leaves that may be refused after those. More are a loop that does not give way: a foreign executor inside of the task (a
/// `block_on`), which polls until it has its value, and would for ever.
const REFUSED_LEAVES_PER_POLL: i32 = 1 << 10;

thread_local! {
    static POLLS_OF_TURN: Cell<u32> = const { Cell::new(POLLS_PER_TURN) };
    /// What is left of the turn.
    static POLLS: Cell<u32> = const { Cell::new(0) };
    /// What is left of the poll; below zero, how often a leaf was refused since.
    static LEAVES: Cell<i32> = const { Cell::new(0) };
}

/// Makes every turn one poll long, or of the usual length again.
pub(crate) fn set_single_step(is_single: bool) {
    POLLS_OF_TURN.set(if is_single { 1 } else { POLLS_PER_TURN });
}

/// A new turn begins.
pub(crate) fn refill() {
    POLLS.set(POLLS_OF_TURN.get());
    LEAVES.set(READY_LEAVES_PER_POLL);
}

/// Takes one poll out of this turn; `false` when none is left.
#[inline]
pub(crate) fn take_poll() -> bool {
    let Some(left) = POLLS.get().checked_sub(1) else { return false };
    POLLS.set(left);
    LEAVES.set(READY_LEAVES_PER_POLL);
    true
}

/// Whether no poll is left in this turn.
#[inline]
pub(crate) fn is_turn_over() -> bool {
    POLLS.get() == 0
}

/// Asked by every leaf before it looks whether it is ready: whether its task may go on. If not, the task gives way and is
/// polled again in the next turn.
///
/// Outside of a runtime there is no one to give way to.
#[inline]
pub(crate) fn has_leaf(cx: &mut Context<'_>) -> bool {
    if LEAVES.get() > 0 || !crate::unwind::is_inside() {
        return true;
    }
    refuse_leaf(cx)
}

#[cold]
fn refuse_leaf(cx: &mut Context<'_>) -> bool {
    LEAVES.set(LEAVES.get() - 1);
    if LEAVES.get() < -REFUSED_LEAVES_PER_POLL {
        LEAVES.set(READY_LEAVES_PER_POLL);
        return true;
    }
    cx.waker().wake_by_ref();
    false
}

/// A leaf has been ready.
#[inline]
pub(crate) fn spend_leaf() {
    LEAVES.set((LEAVES.get() - 1).max(0));
}
