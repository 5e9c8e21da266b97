//! A part of a future that must not be cut off.

use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::current::{
    Shift, current_scope, is_current, is_frozen, is_unwinding, is_usual, report_if_ran_on, wait_for_thaw,
};
use super::scope::{Left, Progress, Scope};
use super::skipped::{catch_in_slot, report_skipped};
use crate::error::Payload;
use crate::recording;
use crate::report::{drop_safely, waking};

/// The label of what makes an owner of a branch of a foreign combinator, and does nothing else.
pub(crate) const BRANCH: &str = "branch";

/// The membership of a future in the scope that polls it.
///
/// A future with a node asks [`Node::duty`] at the start of each poll. At the end of the poll it tells whether it
/// holds something to clean up ([`Node::hold`]) or has finished cleaning up ([`Node::finish`]).
pub(crate) struct Node {
    /// What it is, for texts: "shield", "bracket", …
    label: &'static str,
    stage: Stage,
    membership: Option<Membership>,
    /// Where it was made, if it has a cleanup of its own, and not only what is inside of it.
    place: Option<&'static Location<'static>>,
    /// Of the member that has begun to clean up here, in recordings.
    noted: u32,
    /// To drop it now would skip a cleanup. Not while it is polled: what panics then has come to its end.
    is_due: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Fresh,
    /// It was polled, and has not begun: its task was to give way.
    Reached,
    Running,
    Unwinding,
    Finished,
}

pub(super) struct Membership {
    pub(super) scope: Rc<Scope>,
    pub(super) key: usize,
}

/// What a node has to do in this poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duty {
    /// Go on as usual.
    Run,
    /// Cancel what is inside, clean up, stay pending.
    Unwind,
    /// Stay pending and touch nothing.
    Wait,
}

impl Node {
    pub(crate) fn new(label: &'static str) -> Self {
        Self::with(label, Stage::Fresh, None, false)
    }

    /// One that has come so far. It may hold something and have left its scope all the same.
    pub(super) fn with(label: &'static str, stage: Stage, membership: Option<Membership>, holds: bool) -> Self {
        let is_due = stage == Stage::Unwinding || (stage == Stage::Running && holds);
        Self { label, stage, membership, place: None, noted: 0, is_due }
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    /// What it has joined, which is the caller's to leave then, or to report a cleanup that is skipped.
    pub(super) fn take_membership(&mut self) -> Option<Membership> {
        self.is_due = false;
        self.membership.take()
    }

    /// One that has a cleanup of its own, which was written at `place`: dropped before it has run, it reports that.
    pub(crate) fn of_cleanup(label: &'static str, place: &'static Location<'static>) -> Self {
        let mut node = Self::new(label);
        node.place = Some(place);
        node
    }

    /// What it is, for texts.
    pub(crate) fn label(&self) -> &'static str {
        self.label
    }

    /// Where it was made, if it has a cleanup of its own.
    pub(crate) fn place(&self) -> Option<&'static Location<'static>> {
        self.place
    }

    /// What to do in this poll. In the first one `may_begin` is asked whether its task may go on to something more; if not
    /// it begins in the next.
    ///
    /// # Panics
    /// When what was unwound is polled again outside of the unwinding: staying pending would be a silent hang.
    #[inline]
    pub(crate) fn duty(&mut self, cx: &mut Context<'_>, may_begin: impl FnOnce(&Context<'_>) -> bool) -> Duty {
        let duty = match self.stage {
            Stage::Running if is_usual() => Duty::Run,
            Stage::Fresh if is_usual() => self.begin(cx, may_begin),
            _ => self.unusual_duty(cx, may_begin),
        };
        if duty != Duty::Wait {
            self.is_due = false;
        }
        duty
    }

    #[inline]
    fn begin(&mut self, cx: &Context<'_>, may_begin: impl FnOnce(&Context<'_>) -> bool) -> Duty {
        let may_begin = may_begin(cx);
        self.stage = if may_begin { Stage::Running } else { Stage::Reached };
        if may_begin { Duty::Run } else { Duty::Wait }
    }

    #[cold]
    fn unusual_duty(&mut self, cx: &mut Context<'_>, may_begin: impl FnOnce(&Context<'_>) -> bool) -> Duty {
        if is_frozen() {
            if self.stage == Stage::Fresh {
                // Reached by code that has cancelled itself in this very poll; not by code that ran on later.
                self.stage = Stage::Reached;
            }
            wait_for_thaw(cx);
            return Duty::Wait;
        }
        match (self.stage, is_unwinding()) {
            (Stage::Running, false) => Duty::Run,
            (Stage::Fresh | Stage::Reached, false) => self.begin(cx, may_begin),
            (Stage::Unwinding, true) => {
                self.join(cx.waker());
                Duty::Unwind
            }
            (Stage::Reached | Stage::Running, true) => self.answer(cx),
            (Stage::Finished, true) => Duty::Wait,
            (Stage::Fresh, true) => {
                // Of a branch that had not begun nothing runs on, and it is where such a one is put.
                if self.label != BRANCH {
                    report_if_ran_on(self.label);
                }
                Duty::Wait
            }
            (Stage::Unwinding | Stage::Finished, false) => panic!(
                "`{}` was polled again after its cancellation: who awaited it was cancelled, and it with that; \
                 drop what was cancelled, or `shield` it where it must go on; where several share a future, or a \
                 loop races it, spawn it in a group around all of them, and await its handle",
                self.label
            ),
        }
    }

    #[cold]
    fn answer(&mut self, cx: &mut Context<'_>) -> Duty {
        if self.membership.is_none() && !self.is_due {
            // It holds nothing; what it runs stays pending like any leaf.
            return Duty::Wait;
        }
        self.stage = Stage::Unwinding;
        self.noted = recording::cleanup_began(None, self.label, self.place);
        self.join(cx.waker());
        Duty::Unwind
    }

    /// Tells the current scope whether there is something to clean up here, at the end of a poll that ends pending.
    #[inline]
    pub(crate) fn hold(&mut self, cx: &mut Context<'_>, holds: bool) {
        self.is_due = holds;
        if holds {
            self.join(cx.waker());
        } else if self.membership.is_some() {
            self.leave();
        }
    }

    /// [`Node::hold`] in a poll that was to wait, unless cancelled code has run on to here.
    pub(crate) fn hold_if_reached(&mut self, cx: &mut Context<'_>) {
        if matches!(self.stage, Stage::Reached | Stage::Running) && !is_unwinding() {
            self.hold(cx, true);
        }
    }

    /// Joins the current scope, leaving the one before if it was another.
    fn join(&mut self, waker: &Waker) {
        match &self.membership {
            Some(Membership { scope, key }) if is_current(scope) => {
                if !scope.will_wake(*key, waker) {
                    drop(scope.replace_waker(*key, waker.clone()));
                }
            }
            _ => {
                self.leave_scope();
                let waker = waker.clone();
                self.membership = current_scope().map(|scope| {
                    let key = scope.insert(waker);
                    Membership { scope, key }
                });
            }
        }
        if self.stage == Stage::Unwinding {
            self.advance(Progress::Cleaning);
        }
    }

    fn advance(&self, progress: Progress) {
        if let Some(Membership { scope, key }) = &self.membership {
            scope.advance(*key, progress);
        }
    }

    /// Polls a cleanup, what begins it included, while the scope around unwinds. The node stays pending in any case. A panic is
    /// kept for the owner, who throws it when all have cleaned up.
    ///
    /// A cleanup has owners of its own, and the destructors between them are no cancelled code.
    pub(crate) fn clean_up(&mut self, cx: &mut Context<'_>, cleanup: impl FnOnce(&mut Context<'_>) -> Poll<()>) {
        let cleaned_up = {
            let _shift = Shift::begin();
            catch_unwind(AssertUnwindSafe(|| cleanup(cx)))
        };
        match cleaned_up {
            Ok(Poll::Pending) => self.hold(cx, true),
            Ok(Poll::Ready(())) => self.finish(),
            Err(payload) => self.finish_with_panic(payload),
        }
    }

    /// [`Node::clean_up`] for what is in a slot, which is empty when that has panicked.
    pub(crate) fn clean_up_slot<F>(
        &mut self,
        slot: Pin<&mut Option<F>>,
        cx: &mut Context<'_>,
        cleanup: impl FnOnce(Pin<&mut Option<F>>, &mut Context<'_>) -> Poll<()>,
    ) {
        self.clean_up(cx, |cx| {
            catch_in_slot(slot, |slot| cleanup(slot, cx)).unwrap_or_else(|payload| resume_unwind(payload))
        });
    }

    /// The cleanup has ended.
    pub(crate) fn finish(&mut self) {
        self.stage = Stage::Finished;
        recording::cleanup_ended(self.noted, self.label, self.place, false);
        self.is_due = false;
        self.advance(Progress::Finished);
    }

    /// The cleanup has panicked; the owner throws the panic when all have cleaned up.
    pub(crate) fn finish_with_panic(&mut self, payload: Payload) {
        self.finish();
        match &self.membership {
            Some(Membership { scope, .. }) => scope.keep_panic(payload),
            None => resume_unwind(payload),
        }
    }

    /// It is dropped, and a cleanup with it that was to begin or goes on.
    #[cold]
    fn cut_off(&self) {
        if self.stage == Stage::Unwinding {
            recording::cleanup_ended(self.noted, self.label, self.place, true);
        }
        // One that was given up was looked for by its owner, who has reported that.
        let is_given_up = self.membership.as_ref().is_some_and(|Membership { scope, .. }| scope.is_given_up());
        if let Some(place) = self.place.filter(|_| !is_given_up) {
            report_skipped(&format!("a `{}`", self.label), place);
        }
    }

    /// There is nothing to clean up here any more.
    pub(crate) fn leave(&mut self) {
        self.is_due = false;
        self.leave_scope();
    }

    fn leave_scope(&mut self) {
        if let Some(Membership { scope, key }) = self.membership.take() {
            match scope.remove(key) {
                Left::Unnoticed(waker) => drop_safely(waker),
                Left::Awaited(waker) => waking(|| waker.wake()),
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.is_due {
            self.cut_off();
        }
        if self.membership.is_some() {
            self.leave();
        }
    }
}
