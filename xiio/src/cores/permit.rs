//! When a worker may touch what its tasks borrow.

use std::panic::Location;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use super::vigil::LastSeen;
use crate::sync::{AtomicPtr, AtomicU32, Ordering, Thread, current, park};
use crate::task::Home;

/// The lender is inside the group's poll, and lends: the worker may enter.
const OPEN: u32 = 1;
/// The worker is in its poll.
const INSIDE: u32 = 1 << 1;
/// The worker was refused, and has nudged the lender.
const WANTS: u32 = 1 << 2;
/// The lender waits until the worker has left.
const AWAITED: u32 = 1 << 3;
/// The worker sleeps inside, for it lends to workers of its own: whoever recalls the permit has to nudge
/// it.
const LINGERS: u32 = 1 << 4;
/// What the worker has is cancelled, and it does not know yet: it is on the board.
const ORDERED: u32 = 1 << 5;
/// The worker has got what it asked for, and has not come in since: it is on its way, or was too late.
const COMES: u32 = 1 << 6;
/// The lender has waited for the worker in vain: once it has left it stays out, though others are let in. Only the lender's thread uses this bit.
const KEPT_OUT: u32 = 1 << 7;
/// The worker is to draw its tasks: it is on the board.
const DRAWS: u32 = 1 << 8;
/// The worker would leave, but for a worker of its own that does not come out.
const HELD_UP: u32 = 1 << 9;

/// How often the lender looks whether the worker has left before it parks. Most polls are over within this time.
const N_LOOKS: u32 = if cfg!(all(test, loom)) { 0 } else { 2000 };

/// A worker that does not come out for so long may wait for another one, which is let in again. A model has no clock.
pub(super) const SOON: Duration = if cfg!(all(test, loom)) { Duration::MAX } else { Duration::from_millis(2) };

/// The permit of one worker. The two sides never touch what tasks borrow at the same time.
///
/// Every change is a read-modify-write operation on the one word, so of two that meet one sees the other, and nothing hangs
/// on the order of two words.
pub(crate) struct Permit {
    state: AtomicU32,
    /// Where the thread that lends is nudged.
    lender: &'static Home,
    /// Where the thread that lends parks.
    lender_thread: Thread,
    /// The permit of the lender, where that is a worker of another group.
    of_lender: Option<Arc<Permit>>,
    /// The thread that enters, once it runs: a `&'static Home`.
    holder: AtomicPtr<Home>,
    /// Where the task was spawned that was polled last; for a report.
    place: AtomicPtr<Location<'static>>,
    /// The worker, at its last poll.
    holder_seen: LastSeen,
}

impl Permit {
    /// A permit that this thread lends. It is not open. `of_lender` is that of this thread.
    pub(super) fn new(of_lender: Option<Arc<Permit>>) -> Self {
        let (state, holder) = (AtomicU32::new(0), AtomicPtr::new(ptr::null_mut()));
        let place = AtomicPtr::new(ptr::null_mut());
        let (lender, lender_thread, holder_seen) = (Home::current(), current(), LastSeen::new());
        Self { state, lender, lender_thread, of_lender, holder, place, holder_seen }
    }

    /// This thread is the worker.
    pub(crate) fn attach(&self) {
        self.holder.store(ptr::from_ref(Home::current()).cast_mut(), Ordering::Release);
    }

    /// The worker is in its poll, on this processor.
    pub(super) fn note_processor(&self) {
        self.holder_seen.note();
    }

    /// Whether the worker was on another processor than this thread is, at its last poll if there was one.
    pub(super) fn is_holder_elsewhere(&self) -> Option<bool> {
        self.holder_seen.is_elsewhere()
    }

    /// The worker polls a task that was spawned there.
    #[inline]
    pub(crate) fn note_place(&self, location: &'static Location<'static>) {
        self.place.store(ptr::from_ref(location).cast_mut(), Ordering::Relaxed);
    }

    /// Where the task was spawned that the worker has polled last.
    pub(crate) fn place(&self) -> Option<&'static Location<'static>> {
        // SAFETY: null, or made of a `&'static` by `note_place`.
        unsafe { self.place.load(Ordering::Relaxed).as_ref() }
    }

    /// Has the lender look around.
    pub(crate) fn nudge_lender(&self) {
        self.lender.nudge();
    }

    /// Wakes the lender from its wait for the worker.
    pub(crate) fn unpark_lender(&self) {
        self.lender_thread.unpark();
    }

    fn holder(&self) -> Option<&'static Home> {
        // SAFETY: null, or made of a `&'static` by `attach`.
        unsafe { self.holder.load(Ordering::Acquire).as_ref() }
    }

    /// Has the worker polled, if it is there; before that it looks by itself.
    pub(crate) fn wake_holder(&self) {
        if let Some(holder) = self.holder() {
            holder.wake_root();
        }
    }

    /// Enters, on the worker's thread. `None` if the permit is not open: then the lender has been nudged, and wakes the
    /// worker's root when it lends.
    #[must_use]
    pub(crate) fn enter(&self) -> Option<Pass<'_>> {
        if cfg!(xiio_without_permits) {
            return Some(Pass { permit: self });
        }
        let mut state = self.state.load(Ordering::Relaxed);
        let mut has_asked = false;
        loop {
            if state & OPEN == 0 {
                let before = self.state.fetch_or(WANTS, Ordering::AcqRel);
                has_asked |= before & WANTS == 0;
                if before & OPEN == 0 {
                    if has_asked {
                        self.lender.nudge();
                    }
                    return None;
                }
                state = before | WANTS;
            }
            // Ordering: `Acquire`, from the lender's `Release`: what home has written before it lent is seen inside.
            let entered = (state | INSIDE) & !(WANTS | COMES);
            match self.state.compare_exchange_weak(state, entered, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(Pass { permit: self }),
                Err(now) => state = now,
            }
        }
    }

    fn leave(&self) {
        // Ordering: `Release`, for the lender's `Acquire`: what the worker has written inside is seen at home.
        let before = self.state.fetch_and(!(INSIDE | AWAITED | LINGERS), Ordering::Release);
        if before & AWAITED != 0 {
            self.lender_thread.unpark();
        }
    }

    /// Opens the permit, unless the worker is kept out; `true` if the worker had asked for it. On the lender's thread.
    pub(crate) fn grant(&self) -> bool {
        let granted = |state| if state & WANTS == 0 { state | OPEN } else { (state | OPEN | COMES) & !WANTS };
        // Ordering: `Release`, for the worker that enters; `Acquire`, so that the worker is found that has asked.
        let mut before = self.state.load(Ordering::Relaxed);
        if before & KEPT_OUT != 0 {
            return false;
        }
        while let Err(now) =
            self.state.compare_exchange_weak(before, granted(before), Ordering::AcqRel, Ordering::Relaxed)
        {
            before = now;
        }
        let was_wanted = before & WANTS != 0;
        if was_wanted {
            self.wake_holder();
        }
        was_wanted
    }

    /// Closes the permit. The worker may still be inside.
    pub(crate) fn recall(&self) {
        self.nudge_if_lingering(self.state.fetch_and(!OPEN, Ordering::AcqRel));
    }

    fn nudge_if_lingering(&self, before: u32) {
        if before & LINGERS != 0
            && let Some(holder) = self.holder()
        {
            holder.nudge();
        }
    }

    /// Waits until the worker has left, after a recall; `false` if it has not come out soon. Then the lender's thread is unparked when it does.
    pub(crate) fn wait_until_left(&self) -> bool {
        if cfg!(xiio_without_permits) {
            return true;
        }
        for _ in 0..N_LOOKS {
            if self.state.load(Ordering::Acquire) & INSIDE == 0 {
                return true;
            }
            std::hint::spin_loop();
        }
        let mut is_late = false;
        while self.state.fetch_or(AWAITED, Ordering::Acquire) & INSIDE != 0 {
            if is_late {
                return false;
            }
            is_late = park(SOON);
        }
        self.state.fetch_and(!AWAITED, Ordering::Relaxed);
        true
    }

    /// The worker, which is recalled, is not let in until it [may come](Self::let_in), if it is still inside.
    pub(super) fn keep_out_if_inside(&self) {
        if self.is_inside() {
            self.state.fetch_or(KEPT_OUT, Ordering::Relaxed);
        }
    }

    /// Whether the worker was kept out, and has left.
    pub(super) fn is_kept_out(&self) -> bool {
        self.state.load(Ordering::Relaxed) & (KEPT_OUT | INSIDE) == KEPT_OUT
    }

    /// The worker may come again, with the next [grant](Self::grant).
    pub(super) fn let_in(&self) {
        self.state.fetch_and(!KEPT_OUT, Ordering::Relaxed);
    }

    /// Whether the worker has asked for it, and has not come in since.
    pub(crate) fn is_wanted(&self) -> bool {
        self.state.load(Ordering::Acquire) & (WANTS | COMES) != 0
    }

    /// The worker has ended: it does not come.
    pub(super) fn forget_holder(&self) {
        self.state.fetch_and(!(WANTS | COMES), Ordering::Relaxed);
    }

    /// Whether the worker is in its poll.
    pub(crate) fn is_inside(&self) -> bool {
        self.state.load(Ordering::Relaxed) & INSIDE != 0
    }

    /// Whether the worker, which is inside, should leave: it was recalled, or has orders to look at.
    pub(crate) fn is_recalled(&self) -> bool {
        self.state.load(Ordering::Relaxed) & (OPEN | ORDERED) != OPEN
    }

    /// Whether the worker's turn is to end with the present poll: it should leave, or draw.
    pub(super) fn is_interrupted(&self) -> bool {
        self.state.load(Ordering::Relaxed) & (OPEN | ORDERED | DRAWS) != OPEN
    }

    /// The worker is to draw, until it [looks](Self::look_at_board).
    pub(super) fn want_drawing(&self) {
        self.state.fetch_or(DRAWS, Ordering::Relaxed);
    }

    /// The worker looks at the board, where all is that it is to do.
    pub(super) fn look_at_board(&self) {
        self.state.fetch_and(!(ORDERED | DRAWS), Ordering::AcqRel);
    }

    /// The worker has orders, until it [takes](Self::take_orders) them.
    pub(super) fn give_orders(&self) {
        self.nudge_if_lingering(self.state.fetch_or(ORDERED, Ordering::AcqRel));
    }

    /// Whether the worker has orders.
    pub(super) fn has_orders(&self) -> bool {
        self.state.load(Ordering::Relaxed) & ORDERED != 0
    }

    /// Whether the worker has orders, or whoever is around its group.
    pub(super) fn has_orders_around(&self) -> bool {
        self.chain().any(Self::has_orders)
    }

    /// This permit, that of the worker which lends it, and so on.
    pub(super) fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |permit| permit.of_lender.as_deref())
    }

    /// Whether it is `home` that lends.
    pub(super) fn is_lent_by(&self, home: &Home) -> bool {
        ptr::eq(self.lender, home)
    }

    pub(super) fn take_orders(&self) {
        self.state.fetch_and(!ORDERED, Ordering::AcqRel);
    }

    /// The worker is about to sleep inside. It looks whether it was recalled afterwards, and is nudged if it is later.
    /// Whether it was before, further out.
    pub(crate) fn begin_lingering(&self) -> bool {
        self.state.fetch_or(LINGERS, Ordering::AcqRel) & LINGERS != 0
    }

    /// Whether the worker is in its poll, and not for the reason that a worker of its own does not come out of the own one.
    pub(super) fn does_not_give_way(&self) -> bool {
        self.state.load(Ordering::Relaxed) & (INSIDE | HELD_UP) == INSIDE
    }

    /// A worker of the worker's own does not come out, or has come.
    pub(crate) fn set_held_up(&self, is_held_up: bool) {
        if is_held_up {
            self.state.fetch_or(HELD_UP, Ordering::Relaxed);
        } else {
            self.state.fetch_and(!HELD_UP, Ordering::Relaxed);
        }
    }

    /// The worker does not sleep any more.
    pub(crate) fn end_lingering(&self) {
        self.state.fetch_and(!LINGERS, Ordering::Relaxed);
    }
}

/// The worker is inside, until this is dropped.
pub(crate) struct Pass<'a> {
    permit: &'a Permit,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.permit.leave();
    }
}
