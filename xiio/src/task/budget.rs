//! How much may happen before the reactor is looked at again, and before a task gives way.

use std::cell::Cell;

/// Polls of tasks in one turn of the loop, all sets together. Enough that looking at the reactor (a system call of
/// about 0.2 µs) does not show, few enough that a turn of short polls stays in the microseconds.
const POLLS_PER_TURN: u32 = 256;

/// Leaves that may be ready in one poll of a task.
pub(crate) const READY_LEAVES_PER_POLL: u32 = 128;

/// Leaves that may be refused after those. More are a loop that does not give way: a foreign executor inside of the task (a
/// `block_on`), which polls until it has its value, and would for ever.
const REFUSED_LEAVES_PER_POLL: u32 = 1 << 10;

thread_local! {
    static POLLS_OF_TURN: Cell<u32> = const { Cell::new(POLLS_PER_TURN) };
    /// What is left of the turn, or of the step of it that is taken without a look at the interrupt.
    static POLLS: Cell<u32> = const { Cell::new(0) };
    /// What is left of the turn beyond that.
    static RESERVE: Cell<u32> = const { Cell::new(0) };
    /// Says whether the turn is to end at once. Where there is none nobody is asked.
    static INTERRUPT: Cell<Option<fn() -> bool>> = const { Cell::new(None) };
    /// How many leaves were ready in this poll of a task, or refused afterwards.
    static LEAVES: Cell<u32> = const { Cell::new(0) };
}

/// Makes every turn one poll long, or of the usual length again.
pub(crate) fn set_single_step(is_single: bool) {
    POLLS_OF_TURN.set(if is_single { 1 } else { POLLS_PER_TURN });
}

/// Has `interrupt` asked before each poll on this thread whether the turn is to end.
pub(crate) fn set_interrupt(interrupt: Option<fn() -> bool>) {
    INTERRUPT.set(interrupt);
}

/// A new turn begins.
pub(crate) fn refill() {
    let n_polls = POLLS_OF_TURN.get();
    let n_steps = if INTERRUPT.get().is_some() { 0 } else { n_polls };
    POLLS.set(n_steps);
    RESERVE.set(n_polls - n_steps);
    LEAVES.set(0);
}

/// Takes one poll out of this turn; `false` when none is left.
#[inline]
pub(crate) fn take_poll() -> bool {
    let Some(left) = POLLS.get().checked_sub(1) else { return take_reserve() };
    POLLS.set(left);
    LEAVES.set(0);
    true
}

/// Takes a poll where it is asked before each whether the turn is to end.
#[cold]
#[inline(never)]
fn take_reserve() -> bool {
    if is_reserve_over() {
        return false;
    }
    RESERVE.set(RESERVE.get() - 1);
    LEAVES.set(0);
    true
}

#[cold]
fn is_reserve_over() -> bool {
    RESERVE.get() == 0 || INTERRUPT.get().is_some_and(|is_interrupted| is_interrupted())
}

/// Whether no poll is left in this turn.
#[inline]
pub(crate) fn is_turn_over() -> bool {
    POLLS.get() == 0 && is_reserve_over()
}

/// Lets no other poll be taken out of this turn.
pub(crate) fn end_turn() {
    POLLS.set(0);
    RESERVE.set(0);
}

/// How many leaves were ready in this poll of a task.
#[inline]
pub(crate) fn n_ready() -> u32 {
    LEAVES.get()
}

/// A leaf has been ready.
#[inline]
pub(crate) fn spend_leaf() {
    LEAVES.set(LEAVES.get().wrapping_add(1));
}

/// The task is to give way; `false` if it has been told so too often already, and begins a new poll as it were.
#[cold]
pub(crate) fn refuse_leaf() -> bool {
    let n_leaves = LEAVES.get().max(READY_LEAVES_PER_POLL) + 1;
    let goes_on = n_leaves > READY_LEAVES_PER_POLL + REFUSED_LEAVES_PER_POLL;
    LEAVES.set(if goes_on { 0 } else { n_leaves });
    !goes_on
}
