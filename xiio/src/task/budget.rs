//! How much may happen before the reactor is looked at again, and before a task gives way.

use std::cell::Cell;
use std::ptr;

use crate::sync::{AtomicBool, Ordering};

/// Polls of tasks in one turn of the loop, all sets together. Enough that looking at the reactor (a system call of
/// about 0.2 µs) does not show, few enough that a turn of short polls stays in the microseconds.
const POLLS_PER_TURN: u32 = 256;

/// After so many polls of a turn it is asked whether they have taken too long, which costs a look at the clock. A turn of long
/// polls is cut short so, and one of short polls hardly notices.
const QUESTIONS: [u32; 2] = [8, 64];

/// Leaves that may be ready in one poll of a task.
pub(crate) const READY_LEAVES_PER_POLL: u32 = 128;

/// Leaves that may be refused after those. More are a loop that does not give way: a foreign executor inside of the task (a
/// `block_on`), which polls until it has its value, and would for ever.
const REFUSED_LEAVES_PER_POLL: u32 = 1 << 10;

/// In the count of leaves: each leaf of this poll asks whether it [is to stop](stops), the first one as well.
const WATCHED: u32 = 1 << 31;

/// So often leaves are stopped in one turn. More are such a loop as well.
const STOPS_PER_TURN: u32 = 1 << 10;

/// What is asked on a thread that others have something to tell.
#[derive(Clone, Copy)]
pub(crate) struct Interrupt {
    /// Whether the turn is to end at once. Asked before each poll.
    pub(crate) is_due: fn() -> bool,
    /// Whether that is for a cancellation. Asked before each leaf.
    pub(crate) is_order: fn() -> bool,
    /// Whether what runs is cancelled and does not know yet.
    pub(crate) is_behind: fn() -> bool,
}

thread_local! {
    static POLLS_OF_TURN: Cell<u32> = const { Cell::new(POLLS_PER_TURN) };
    /// What is left of this step of the turn. No question is asked within a step. None holds polls where [each leaf asks](is_watched).
    static POLLS: Cell<u32> = const { Cell::new(0) };
    /// What is left of the turn beyond that.
    static RESERVE: Cell<u32> = const { Cell::new(0) };
    /// Says whether the turn has taken too long, and has ended it.
    static LATE: Cell<Option<fn() -> bool>> = const { Cell::new(None) };
    /// Where there is one, it is asked before each poll.
    static INTERRUPT: Cell<Option<Interrupt>> = const { Cell::new(None) };
    /// How many leaves were ready in this poll of a task, or refused afterwards; and whether it is watched.
    static LEAVES: Cell<u32> = const { Cell::new(0) };
    /// What other threads set that ask the tasks to end which are being polled. The innermost one.
    static ASKED: Cell<*const Asked> = const { Cell::new(ptr::null()) };
    /// Whether there is either of the two.
    static IS_WATCHED: Cell<bool> = const { Cell::new(false) };
    /// How often leaves were stopped in this turn.
    static N_STOPS: Cell<u32> = const { Cell::new(0) };
    static IS_UNSTOPPED: Cell<bool> = const { Cell::new(false) };
}

/// Makes every turn one poll long, or of the usual length again.
pub(crate) fn set_single_step(is_single: bool) {
    POLLS_OF_TURN.set(if is_single { 1 } else { POLLS_PER_TURN });
}

/// Has `is_late` asked now and then on this thread whether the turn has taken too long; if so, it ends it.
pub(crate) fn set_late(is_late: fn() -> bool) {
    LATE.set(Some(is_late));
}

/// Has `interrupt` asked on this thread from now on.
pub(crate) fn set_interrupt(interrupt: Option<Interrupt>) {
    INTERRUPT.set(interrupt);
    IS_WATCHED.set(interrupt.is_some());
    // Of the turn that goes on as well.
    RESERVE.set(RESERVE.get() + POLLS.take());
}

fn has_order() -> bool {
    INTERRUPT.get().is_some_and(|interrupt| (interrupt.is_order)())
}

fn is_interrupted() -> bool {
    INTERRUPT.get().is_some_and(|interrupt| (interrupt.is_due)())
}

/// Whether what runs on this thread is cancelled and does not know yet.
pub(crate) fn is_behind() -> bool {
    INTERRUPT.get().is_some_and(|interrupt| (interrupt.is_behind)()) || is_asked()
}

/// See [`watching`].
struct Asked {
    is_asked: *const AtomicBool,
    /// Of the task around.
    outer: *const Asked,
}

fn is_asked() -> bool {
    let mut innermost = ASKED.get();
    // SAFETY: null, or on the stack of a call of `watching` further up, and so is the flag, which it borrows.
    while let Some(Asked { is_asked, outer }) = unsafe { innermost.as_ref() } {
        // SAFETY: as above.
        if unsafe { &**is_asked }.load(Ordering::Relaxed) {
            return true;
        }
        innermost = *outer;
    }
    false
}

/// Polls a task that may be asked to end by `is_asked` meanwhile. Then its next leaf does not go on.
pub(crate) fn watching<R>(is_asked: &AtomicBool, poll: impl FnOnce() -> R) -> R {
    struct Restore {
        outer: *const Asked,
        was_watched: bool,
    }
    impl Drop for Restore {
        fn drop(&mut self) {
            ASKED.set(self.outer);
            IS_WATCHED.set(self.was_watched);
        }
    }
    let outer = ASKED.get();
    let asked = Asked { is_asked, outer };
    ASKED.set(&raw const asked);
    let _restore = Restore { outer, was_watched: IS_WATCHED.replace(true) };
    RESERVE.set(RESERVE.get() + POLLS.take());
    LEAVES.set(LEAVES.get() | WATCHED);
    poll()
}

/// Whether polls are taken one by one, and each leaf [asks](stops).
#[inline]
fn is_watched() -> bool {
    IS_WATCHED.get()
}

/// Whether leaves are not to go on in this turn, which ends then: what runs is cancelled.
pub(crate) fn stops() -> bool {
    if is_unstopped() || (!has_order() && !is_asked()) {
        return false;
    }
    N_STOPS.set(N_STOPS.get().saturating_add(1));
    end_turn();
    N_STOPS.get() <= STOPS_PER_TURN
}

/// Polls what goes on though it is cancelled: whoever is to come to the cancellation waits for it.
pub(crate) fn unstopped<R>(poll: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            IS_UNSTOPPED.set(self.0);
        }
    }
    let _restore = Restore(IS_UNSTOPPED.replace(true));
    poll()
}

/// Whether what runs goes on though it is cancelled.
pub(crate) fn is_unstopped() -> bool {
    IS_UNSTOPPED.get()
}

/// The count of leaves at the start of a poll.
#[inline]
fn no_leaves() -> u32 {
    if is_watched() { WATCHED } else { 0 }
}

/// A new turn begins.
pub(crate) fn refill() {
    let n_polls = POLLS_OF_TURN.get();
    let n_of_step = if is_watched() { 0 } else { n_polls.min(QUESTIONS[0]) };
    POLLS.set(n_of_step);
    RESERVE.set(n_polls - n_of_step);
    LEAVES.set(no_leaves());
    N_STOPS.set(0);
}

/// Takes one poll out of this turn; `false` when none is left.
#[inline]
pub(crate) fn take_poll() -> bool {
    let Some(left) = POLLS.get().checked_sub(1) else { return take_from_reserve() };
    POLLS.set(left);
    LEAVES.set(0);
    true
}

#[cold]
#[inline(never)]
fn take_from_reserve() -> bool {
    if !begin_step() {
        return false;
    }
    let from = if is_watched() { &RESERVE } else { &POLLS };
    from.set(from.get() - 1);
    LEAVES.set(no_leaves());
    true
}

/// Whether [`take_poll`] would take one.
pub(crate) fn has_poll() -> bool {
    POLLS.get() > 0 || begin_step()
}

/// Goes on to the next step of the turn, if it has one.
#[cold]
#[inline(never)]
fn begin_step() -> bool {
    let left = RESERVE.get();
    if left == 0 || (is_interrupted() && !is_unstopped()) {
        return false;
    }
    let n_polls = POLLS_OF_TURN.get();
    let n_taken = n_polls - left;
    if QUESTIONS.contains(&n_taken) && LATE.get().is_some_and(|is_late| is_late()) {
        return false;
    }
    let next_question = QUESTIONS.into_iter().find(|&question| question > n_taken);
    let n_of_step = if is_watched() { 0 } else { next_question.unwrap_or(n_polls).min(n_polls) - n_taken };
    POLLS.set(n_of_step);
    RESERVE.set(left - n_of_step);
    true
}

/// Lets no other poll be taken out of this turn.
pub(crate) fn end_turn() {
    POLLS.set(0);
    RESERVE.set(0);
}

/// The leaves of a poll of a task.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leaves(u32);

impl Leaves {
    /// None was ready, and nothing is asked before the first.
    pub(crate) const FREE: Self = Self(0);

    /// How many were ready.
    #[inline]
    pub(crate) fn n_ready(self) -> u32 {
        self.0 & !WATCHED
    }

    /// The same, but more than any poll may have where each leaf is to [ask](stops).
    #[inline]
    pub(crate) fn n_unasked(self) -> u32 {
        self.0
    }
}

/// The leaves of this poll so far.
#[inline]
pub(crate) fn leaves() -> Leaves {
    Leaves(LEAVES.get())
}

/// Goes on with those of before.
#[inline]
pub(crate) fn set_leaves(Leaves(leaves): Leaves) {
    LEAVES.set(leaves);
}

/// Counts leaves anew, until this is dropped. Then the count goes on from where it was, so that a loop of what counts so gives
/// way as well.
pub(crate) fn count_apart() -> Apart {
    Apart { leaves: LEAVES.replace(no_leaves()) }
}

/// See [`count_apart`].
#[must_use]
pub(crate) struct Apart {
    leaves: u32,
}

impl Drop for Apart {
    fn drop(&mut self) {
        LEAVES.set(self.leaves);
    }
}

/// A leaf has been ready.
#[inline]
pub(crate) fn spend_leaf() {
    LEAVES.set(LEAVES.get().wrapping_add(1));
}

/// The task is to give way; `false` if it has been told so too often already, and begins a new poll as it were.
#[cold]
pub(crate) fn refuse_leaf() -> bool {
    let leaves = LEAVES.get();
    let n_leaves = (leaves & !WATCHED).max(READY_LEAVES_PER_POLL) + 1;
    let goes_on = n_leaves > READY_LEAVES_PER_POLL + REFUSED_LEAVES_PER_POLL;
    LEAVES.set((leaves & WATCHED) | if goes_on { 0 } else { n_leaves });
    !goes_on
}
