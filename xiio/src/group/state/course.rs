//! The course of a group from its first poll to its end, whatever its body is.
//!
//! Each block of a program has a future of a type of its own, and all that depends on it is compiled anew for each. So this does
//! not: it knows the body by what it can be asked for.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::{Cause, DROPPED, Deferred, Group, Member};
use crate::drawing::{self, Drawing, State};
use crate::runtime::may_begin;
use crate::task::{Members, Polled, budget, polls};
use crate::time::{Deadline, Limit, left};
use crate::unwind::{self, Dropper, Duty, Node, Owner, Shift};

/// The body of a group, its first member, whatever its type.
pub(super) trait AnyBody: Members {
    /// Begins to cancel it. May panic.
    fn cancel(&mut self);

    /// Drops its future, whatever that holds. May panic.
    fn drop_future(&mut self);

    /// Whether it has something to clean up.
    fn holds(&self) -> bool;
}

/// How far a group has come, but for its body.
pub(super) struct Course<'a> {
    pub(super) group: &'a Group<'a>,
    /// The deferred cleanup that runs now.
    cleanup: Option<(Deferred<'a>, Owner)>,
    node: Node,
    /// Where there is none it costs no drop, as a limit that never comes does: most groups have neither of the two.
    limit: Option<Limit>,
    grace: Option<Deadline>,
    is_cancelling: bool,
    /// There is nothing to look at but the tasks, unless something happens to them.
    is_quiet: bool,
}

impl<'a> Course<'a> {
    // Made where it stays, in the future of the block.
    #[inline(always)]
    pub(super) fn new(group: &'a Group<'a>) -> Self {
        Self {
            group,
            cleanup: None,
            node: Node::new("task_group"),
            limit: group.begin().map(|at| Limit::at(Some(at))),
            grace: None,
            is_cancelling: false,
            is_quiet: false,
        }
    }

    /// Polls the group; `Ready` when all in it has ended.
    #[inline(always)]
    pub(super) fn poll(&mut self, body: &mut dyn AnyBody, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_quiet || !unwind::is_plain() {
            return self.poll_with_all(body, cx);
        }
        // What nearly every poll of a group is: a task was woken, and waits again.
        match self.group.set.poll(cx, body) {
            Polled::Waiting => Poll::Pending,
            tasks => self.go_on(tasks, body, cx),
        }
    }

    /// Polls what is ready of the members, under the limit of time. A function of its own: the one call that is often made has it inlined.
    #[inline(never)]
    fn poll_members(&mut self, body: &mut dyn AnyBody, cx: &mut Context<'_>) -> Polled {
        let is_limit = !self.is_cancelling && !self.group.is_past_tasks.get();
        let _under_limit = self.limit.as_ref().map(|limit| limit.cover(is_limit));
        self.group.set.poll(cx, body)
    }

    /// Tends the workers. What becomes a task at home by that is polled as far as the turn goes, like what the body has spawned: before
    /// anybody looks whether the time is over.
    #[cold]
    fn tend_workers(&mut self, tasks: &mut Polled, body: &mut dyn AnyBody, cx: &mut Context<'_>) {
        while self.group.tend_workers() && budget::has_poll() {
            *tasks = self.poll_members(body, cx);
        }
    }

    /// Cancels the body, and with it what has not been cancelled before it.
    #[cold]
    fn cancel_body(&mut self, body: &mut dyn AnyBody) {
        self.group.cancel_rest();
        self.begin_cancelling();
        self.group.catch(Member::Body, || body.cancel());
        // Its nodes may be where nobody hears a wake.
        self.group.set.wake_body();
    }

    /// From here on the members have the grace of the group.
    fn begin_cancelling(&mut self) {
        self.is_cancelling = true;
        self.grace = self.group.end_of_grace().map(Deadline::of);
        if let Some(workforce) = self.group.workforce() {
            workforce.crew().begin_end();
        }
    }

    /// Cancels the members of a group that has failed or whose time is over, and looks at the grace that they have.
    fn end_if_due(&mut self, mut tasks: Polled, body: &mut dyn AnyBody, cx: &mut Context<'_>) -> Poll<()> {
        // Looked at last: what ends in the round of its deadline has ended in time.
        if self.is_pending(tasks, body)
            && !self.group.is_past_tasks.get()
            && !self.group.has_failed()
            && let Some(limit) = &mut self.limit
            && limit.poll_over(cx)
        {
            // What was ready has been polled.
            self.group.fail_at_once(Cause::Elapsed);
        }
        if self.group.has_failed() && !self.is_cancelling && !self.waits_for_round(tasks) {
            self.cancel_body(body);
            // What had nothing to clean up is gone already; the rest answers when it is polled.
            tasks = self.poll_members(body, cx);
        }
        if self.is_pending(tasks, body) { self.poll_grace(body, cx) } else { Poll::Ready(()) }
    }

    fn is_pending(&self, tasks: Polled, body: &dyn AnyBody) -> bool {
        body.has_body() || tasks != Polled::Done || self.group.awaits_workers()
    }

    /// A group that keeps all errors lets the tasks that are ready come to theirs first.
    fn waits_for_round(&self, tasks: Polled) -> bool {
        self.group.keeps_all.get() && tasks != Polled::Done && self.group.set.is_in_last_round()
    }

    /// Begins the deferred cleanup that was registered last, if there is one.
    fn begin_cleanup(&mut self) -> bool {
        let next = self.group.deferred.borrow_mut().pop();
        self.cleanup = next.map(|cleanup| (cleanup, Owner::default()));
        self.group.is_past_tasks.set(self.group.is_past_tasks.get() || self.cleanup.is_some());
        self.cleanup.is_some()
    }

    /// Polls the deferred cleanup that has begun, to its end; or drops all that is left, when the grace is over.
    fn poll_cleanup(&mut self, body: &mut dyn AnyBody, cx: &mut Context<'_>) -> Poll<()> {
        if self.advance_cleanup(cx).is_pending() { self.poll_grace(body, cx) } else { Poll::Ready(()) }
    }

    /// Polls the deferred cleanup that has begun, and drops it if it has ended by that.
    fn advance_cleanup(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((cleanup, owner)) = &mut self.cleanup else { return Poll::Ready(()) };
        let member = Member::Deferred(cleanup.location);
        match catch_unwind(AssertUnwindSafe(|| owner.poll(cleanup.future.as_mut(), cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(_)) => cleanup.is_due = false,
            Err(payload) => {
                cleanup.is_due = false;
                self.group.fail(Cause::Panic(payload), member.clone());
            }
        }
        let ended = self.cleanup.take();
        self.group.catch(member, || drop(ended));
        Poll::Ready(())
    }

    /// Cuts off the tasks that were cancelled by themselves and that their grace was not enough for; `true` if there are any.
    fn cut_off_late(&mut self, body: &mut dyn AnyBody, cx: &mut Context<'_>) -> bool {
        let (mut are_any, mut rest) = (false, Drawing::default());
        while !self.is_cancelling {
            let end = self.group.set.end_of_first_grace();
            if self.grace.as_ref().and_then(Deadline::instant) != end {
                self.grace = end.map(Deadline::of);
            }
            if !self.is_grace_over(cx) {
                break;
            }
            are_any = true;
            if let Some(drawing) = self.group.set.cut_off_first(body) {
                rest.append(drawing);
            }
        }
        if !rest.is_empty() {
            self.group.report_cut_off(&rest);
        }
        are_any
    }

    /// Whether that was the last of a group that has nothing to do but its members.
    #[inline]
    fn has_simply_ended(&self, tasks: Polled, body: &dyn AnyBody) -> bool {
        tasks == Polled::Done && !self.is_pending(tasks, body) && !self.group.is_special.get()
    }

    /// What comes after the tasks, until nothing is left. The deferred cleanups run last in first out, each to its end and beside
    /// the tasks that it spawns; the next one begins when these have ended, too.
    fn poll_rest(&mut self, mut tasks: Polled, body: &mut dyn AnyBody, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            while self.cut_off_late(body, cx) {
                tasks = self.poll_members(body, cx);
            }
            let is_special = self.group.is_special.get();
            if is_special {
                self.tend_workers(&mut tasks, body, cx);
            }
            let members = self.end_if_due(tasks, body, cx);
            if is_special && !self.waits_for_round(tasks) {
                self.group.tell_handles();
            }
            if self.cleanup.is_none() {
                ready!(members);
                if self.group.set.is_empty() && !self.group.awaits_workers() {
                    if !self.group.has_all_jobs() {
                        self.group.take_some_jobs();
                    } else if !self.begin_cleanup() {
                        return Poll::Ready(());
                    }
                }
            }
            ready!(self.poll_cleanup(body, cx));
            tasks = self.poll_members(body, cx);
        }
    }

    /// `Ready` when the grace is over and the rest has been dropped.
    #[inline]
    fn poll_grace(&mut self, body: &mut dyn AnyBody, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_cancelling || !self.is_grace_over(cx) {
            return Poll::Pending;
        }
        self.abandon(body, cx);
        Poll::Ready(())
    }

    /// What has cancelled itself just now is still being polled further up, and would go on if this ended by that.
    fn is_grace_over(&mut self, cx: &mut Context<'_>) -> bool {
        !unwind::is_frozen() && self.grace.as_mut().is_some_and(|grace| grace.poll_elapsed(cx))
    }

    /// Drops all that is left, and reports what it was.
    #[cold]
    fn abandon(&mut self, body: &mut dyn AnyBody, cx: &mut Context<'_>) {
        self.grace = None;
        self.group.refuse_more();
        let mut rest = polls::inspect(|| self.draw(body, cx));
        unwind::cutting_off(&mut rest, || self.drop_rest(body));
        self.group.report_cut_off(&rest);
    }

    fn drop_rest(&mut self, body: &mut dyn AnyBody) {
        self.group.catch(Member::Body, || body.drop_future());
        let cleanup = self.cleanup.take();
        let panics = [
            catch_unwind(AssertUnwindSafe(|| drop(cleanup))).err(),
            self.group.set.abandon(),
            self.group.drop_deferred(),
        ];
        for payload in panics.into_iter().flatten() {
            self.group.fail(Cause::Panic(payload), Member::Destructor);
        }
        if let Some(workforce) = self.group.workforce() {
            // After home's own, which a worker may wait for.
            workforce.abandon(Dropper::Grace);
        }
    }

    /// Describes the members.
    #[cold]
    fn draw(&mut self, body: &mut dyn AnyBody, cx: &mut Context<'_>) {
        let _around = unwind::draw_around(|| self.node());
        self.draw_home(body, cx);
        self.draw_workers();
    }

    fn draw_workers(&self) {
        if let Some(workforce) = self.group.workforce() {
            workforce.draw();
        }
    }

    fn node(&self) -> drawing::Node {
        let node = self.group.node();
        let node = if self.is_cancelling { node.cancelled_as(self.group.reason()) } else { node };
        self.group.set.with_stats(node.has_left(left(self.end())))
    }

    /// When time ends it: by its limit, and by its grace where it was cancelled.
    fn end(&self) -> Option<Instant> {
        match self.is_cancelling {
            true => self.grace.as_ref().and_then(Deadline::instant),
            false => self.limit.as_ref().filter(|_| !self.group.is_past_tasks.get()).and_then(Limit::instant),
        }
    }

    /// Describes the members of this thread, by a poll in inspecting mode.
    fn draw_home(&mut self, body: &mut dyn AnyBody, cx: &mut Context<'_>) {
        let _ = self.poll_members(body, cx);
        if let Some((cleanup, _)) = &self.cleanup {
            let _around = unwind::draw_around(|| cleanup.node());
            // It may end by this poll, as a member may. What comes after it begins in the next one.
            let _ = self.advance_cleanup(cx);
        }
        for cleanup in self.group.deferred.borrow().iter().rev() {
            unwind::inspecting(|tree| tree.leaf(cleanup.node().in_state(State::NotStarted)));
        }
    }

    /// Whether a cancellation has to wait for something here. All that is left of a group that has failed is cleanup.
    fn holds(&self, body: &dyn AnyBody) -> bool {
        body.holds() || self.group.set.holds() || (self.group.is_special.get() && self.holds_special())
    }

    /// Tells what is around whether a cancellation has to wait, as the answer is.
    pub(super) fn note_held(&mut self, body: &dyn AnyBody, cx: &mut Context<'_>) -> bool {
        let holds = self.holds(body);
        self.node.hold(cx, holds);
        holds
    }

    #[cold]
    fn holds_special(&self) -> bool {
        self.group.has_failed()
            || self.group.is_past_tasks.get()
            || self.cleanup.is_some()
            || !self.group.deferred.borrow().is_empty()
            || self.group.workforce().is_some_and(|workforce| workforce.crew().has_unheard())
    }

    #[inline(never)]
    fn poll_with_all(&mut self, body: &mut dyn AnyBody, cx: &mut Context<'_>) -> Poll<()> {
        let duty = self.node.duty(cx, may_begin);
        if duty == Duty::Wait {
            return Poll::Pending;
        }
        if unwind::is_inspecting() {
            // Members may end by this poll, or begin to hold something. The next one looks at all of it.
            self.is_quiet = false;
            if duty == Duty::Unwind && !self.is_cancelling {
                // The members are to be cancelled, and would go on if they were polled before.
                let _around = unwind::draw_around(|| self.group.node());
                self.draw_workers();
                cx.waker().wake_by_ref();
            } else {
                self.draw(body, cx);
                if duty == Duty::Run {
                    self.note_held(body, cx);
                }
            }
            return Poll::Pending;
        }
        if duty == Duty::Unwind {
            self.unwind(body, cx);
            return Poll::Pending;
        }
        let tasks = self.poll_members(body, cx);
        self.go_on(tasks, body, cx)
    }

    /// Goes on where the tasks were polled.
    #[inline(never)]
    fn go_on(&mut self, tasks: Polled, body: &mut dyn AnyBody, cx: &mut Context<'_>) -> Poll<()> {
        if !self.has_simply_ended(tasks, body) && self.poll_rest(tasks, body, cx).is_pending() {
            let holds = self.note_held(body, cx);
            self.is_quiet = !holds && self.limit.is_none() && self.group.workforce.borrow().is_none();
            return Poll::Pending;
        }
        self.node.leave();
        Poll::Ready(())
    }

    fn unwind(&mut self, body: &mut dyn AnyBody, cx: &mut Context<'_>) {
        // The members have owners of their own, and the destructors between them are no cancelled code.
        let _shift = Shift::begin();
        if !self.is_cancelling {
            if self.group.is_past_tasks.get() {
                let _ = self.group.note(Cause::ParentCancelled, Member::Outside);
                self.begin_cancelling();
            } else {
                self.group.fail_at_once(Cause::ParentCancelled);
                self.cancel_body(body);
            }
        }
        let tasks = self.poll_members(body, cx);
        if self.poll_rest(tasks, body, cx).is_ready() {
            self.finish_unwinding();
        }
    }

    /// Ends an unwinding that the parent began.
    fn finish_unwinding(&mut self) {
        match self.group.take_panic(DROPPED) {
            Some(payload) => self.node.finish_with_panic(payload),
            None => self.node.finish(),
        }
    }
}
