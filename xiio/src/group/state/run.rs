//! The future of a block: runs a group to its end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::{Cause, DROPPED, Deferred, Group, Member};
use crate::cores::Crew;
use crate::drawing::{self, Drawing, State};
use crate::error::Payload;
use crate::report::{Held, Origin};
use crate::runtime::{Runtime, may_begin};
use crate::task::{Ended, Members, Polled, Reaction};
use crate::time::Deadline;
use crate::unwind::{self, Dropper, Duty, Node, Owner};

/// What the end of the body means for the tasks.
#[derive(Debug)]
pub enum BodyEnd<X> {
    /// They are waited for.
    Finish(X),
    /// They are cancelled, for an error that is with the group's errors.
    Error,
    /// They are cancelled, for what the exit carries.
    Fail(X),
}

/// What the kinds of groups differ in: what their end makes of the body's.
///
/// Owns the group's guard.
pub trait Ending<O> {
    /// How the body was left.
    type Exit;
    /// The value of the block.
    type Output;

    /// What the body's output means for the tasks.
    fn judge(&self, output: O) -> BodyEnd<Self::Exit>;

    /// The value of the block, when all have ended; with the body's exit, if it has come to one.
    fn conclude(self, exit: Option<Self::Exit>) -> Self::Output;
}

/// Runs a group to its end: the future of a block.
///
/// Everything is polled from here and only from here, so a group that is leaked stands still.
#[must_use]
pub struct Run<'a, 'b, B: Future, E: Ending<B::Output>> {
    group: &'a Group<'a>,
    /// The deferred cleanup that runs now.
    cleanup: Option<(Deferred<'a>, Owner)>,
    node: Node,
    deadline: Deadline,
    /// The turn in which its time was over, and that was left to a limit around it.
    left_in: Option<u32>,
    grace: Deadline,
    is_cancelling: bool,
    /// There is nothing to look at but the tasks, unless something happens to them.
    is_quiet: bool,
    /// Has the guard, so it is dropped last.
    body: Body<'a, 'b, B, E>,
}

/// The body of a group: its first member.
struct Body<'a, 'b, B: Future, E: Ending<B::Output>> {
    group: &'a Group<'a>,
    future: Pin<&'b mut Option<B>>,
    owner: Owner,
    exit: Held<E::Exit>,
    /// It was told of the failure, and may only clean up.
    is_cancelled: bool,
    /// `None` when the block has its value.
    ending: Option<E>,
}

impl<B: Future, E: Ending<B::Output>> Unpin for Run<'_, '_, B, E> {}

impl<B: Future, E: Ending<B::Output>> Body<'_, '_, B, E> {
    fn end(&mut self, output: B::Output) {
        let Some(ending) = &self.ending else { return };
        match ending.judge(output) {
            BodyEnd::Finish(exit) => self.exit = Held::new(exit),
            BodyEnd::Fail(exit) => {
                self.exit = Held::new(exit);
                self.fail(Cause::BodyExit);
            }
            BodyEnd::Error => self.fail(Cause::Error),
        }
    }

    fn fail(&mut self, cause: Cause) {
        let reaction = self.group.note(cause, Member::Body);
        self.group.set.react(&reaction);
    }

    fn cancel(&mut self) {
        self.is_cancelled = true;
        let (future, owner) = (self.future.as_mut(), &mut self.owner);
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| owner.cancel_slot(future))) {
            self.fail(Cause::Panic(payload));
        }
        // Its nodes may be where nobody hears a wake.
        self.group.set.wake_body();
    }

    /// Drops the future, whatever it holds.
    fn abandon(&mut self) {
        let mut future = self.future.as_mut();
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| future.set(None))) {
            self.fail(Cause::Panic(payload));
        }
    }
}

impl<B: Future, E: Ending<B::Output>> Members for Body<'_, '_, B, E> {
    fn poll_body(&mut self, cx: &mut Context<'_>) -> bool {
        if self.group.is_special.get() {
            self.group.take_jobs();
        }
        // Once a member has failed the body is cancelled next; it might await the one that failed.
        if self.future.is_none() || (self.group.has_failed() && !self.is_cancelled) {
            return false;
        }
        match self.owner.poll_slot(self.future.as_mut(), cx) {
            Poll::Pending => !self.owner.holds(),
            Poll::Ready(output) => {
                if let Some(output) = output {
                    self.end(output);
                }
                false
            }
        }
    }

    fn has_body(&self) -> bool {
        self.future.is_some()
    }

    fn node(&self) -> drawing::Node {
        self.group.node()
    }

    fn end_body(&mut self, payload: Payload) {
        self.fail(Cause::Panic(payload));
        unwind::dropping(Dropper::Panic, || self.abandon());
    }

    fn end_task(&mut self, ended: Ended, origin: Origin) -> Reaction {
        let cause = match ended {
            Ended::Cancelled => return Reaction::GoOn,
            Ended::Failed if self.group.is_of_workers() => Cause::SentError,
            Ended::Failed => Cause::Error,
            Ended::Panicked(payload) => Cause::Panic(payload),
        };
        self.group.note(cause, Member::Task(origin))
    }

    fn end_of_grace(&self) -> Option<Instant> {
        // The grace of the whole is looked at by `Run`.
        if self.group.has_failed() { None } else { self.group.end_of_grace() }
    }
}

impl<'a, 'b, B: Future, E: Ending<B::Output>> Run<'a, 'b, B, E> {
    pub(in crate::group) fn new(group: &'a Group<'a>, body: Pin<&'b mut Option<B>>, ending: E) -> Self {
        let deadline = group.options.borrow().deadline;
        // A group outside of a runtime would poll nothing. The first poll has to know whether the time is over already.
        Runtime::with(|runtime| deadline.map(|_| runtime.now()));
        Self {
            group,
            cleanup: None,
            node: Node::new("task_group"),
            deadline: Deadline::at(deadline),
            left_in: None,
            grace: Deadline::at(None),
            is_cancelling: false,
            is_quiet: false,
            body: Body {
                group,
                future: body,
                owner: Owner::default(),
                exit: Held::default(),
                is_cancelled: false,
                ending: Some(ending),
            },
        }
    }

    /// Polls what is ready of the members. A function of its own: the one call that is often made has it inlined.
    #[inline(never)]
    fn poll_members(&mut self, cx: &mut Context<'_>) -> Polled {
        self.group.set.poll(cx, &mut self.body)
    }

    /// Cancels the body and the tasks that are there; those that are spawned from now on run.
    #[cold]
    fn cancel_members(&mut self) {
        if std::mem::replace(&mut self.is_cancelling, true) {
            return;
        }
        self.grace.reset(self.group.end_of_grace());
        if let Some(workforce) = self.group.workforce() {
            workforce.crew().begin_end();
        }
        self.group.cancel(None);
        self.body.cancel();
    }

    /// Cancels the members of a group that has failed or whose time is over, and looks at the grace that they have.
    fn end_if_due(&mut self, mut tasks: Polled, cx: &mut Context<'_>) -> Poll<()> {
        // Looked at last: what ends in the round of its deadline has ended in time.
        if self.is_pending(tasks)
            && !self.group.has_failed()
            && self.deadline.poll_elapsed(cx)
            && !self.deadline.is_left_to_outer(&mut self.left_in, cx)
        {
            // What was ready has been polled, so there is no last round to wait for.
            let _ = self.group.note(Cause::Elapsed, Member::Outside);
        }
        if self.group.has_failed() && !self.is_cancelling && !self.waits_for_round(tasks) {
            self.cancel_members();
            // What had nothing to clean up is gone already; the rest answers when it is polled.
            tasks = self.poll_members(cx);
        }
        if self.is_pending(tasks) { self.poll_grace(cx) } else { Poll::Ready(()) }
    }

    fn is_pending(&self, tasks: Polled) -> bool {
        self.body.has_body() || tasks != Polled::Done || self.group.awaits_workers()
    }

    /// A group that keeps all errors lets the tasks that are ready come to theirs first.
    fn waits_for_round(&self, tasks: Polled) -> bool {
        self.group.keeps_all.get() && tasks != Polled::Done && self.group.set.is_in_last_round()
    }

    /// Begins the deferred cleanup that was registered last, if there is one.
    fn begin_cleanup(&mut self) -> bool {
        let next = self.group.deferred.borrow_mut().pop();
        self.cleanup = next.map(|cleanup| (cleanup, Owner::default()));
        self.cleanup.is_some()
    }

    /// Polls the deferred cleanup that has begun, to its end; or drops all that is left, when the grace is over.
    fn poll_cleanup(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.advance_cleanup(cx).is_pending() { self.poll_grace(cx) } else { Poll::Ready(()) }
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
                self.fail(Cause::Panic(payload), member.clone());
            }
        }
        let ended = self.cleanup.take();
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(ended))) {
            self.fail(Cause::Panic(payload), member);
        }
        Poll::Ready(())
    }

    fn fail(&mut self, cause: Cause, member: Member) {
        let reaction = self.group.note(cause, member);
        self.group.set.react(&reaction);
    }

    /// Cuts off the tasks that were cancelled by themselves and that their grace was not enough for; `true` if there are any.
    fn cut_off_late(&mut self, cx: &mut Context<'_>) -> bool {
        let (mut are_any, mut rest) = (false, Drawing::default());
        while !self.is_cancelling {
            let end = self.group.set.end_of_first_grace();
            if self.grace.instant() != end {
                self.grace.reset(end);
            }
            if !self.grace.poll_elapsed(cx) {
                break;
            }
            are_any = true;
            if let Some(drawing) = self.group.set.cut_off_first(&mut self.body) {
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
    fn has_simply_ended(&self, tasks: Polled) -> bool {
        tasks == Polled::Done && !self.is_pending(tasks) && !self.group.is_special.get() && !self.group.has_failed()
    }

    /// What comes after the tasks, until nothing is left. The deferred cleanups run last in first out, each to its end and beside
    /// the tasks that it spawns; the next one begins when these have ended, too.
    fn poll_rest(&mut self, mut tasks: Polled, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            while self.cut_off_late(cx) {
                tasks = self.poll_members(cx);
            }
            let is_special = self.group.is_special.get();
            if is_special {
                self.group.tend_workers();
            }
            let members = self.end_if_due(tasks, cx);
            if is_special {
                self.group.tell_handles();
            }
            if self.cleanup.is_none() {
                ready!(members);
                if self.group.set.is_empty() && !self.group.awaits_workers() && !self.begin_cleanup() {
                    if self.group.refuses_jobs() {
                        return Poll::Ready(());
                    }
                    self.group.take_jobs();
                }
            }
            ready!(self.poll_cleanup(cx));
            tasks = self.poll_members(cx);
        }
    }

    /// `Ready` when the grace is over and the rest has been dropped.
    #[inline]
    fn poll_grace(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_cancelling || !self.grace.poll_elapsed(cx) {
            return Poll::Pending;
        }
        self.abandon(cx);
        Poll::Ready(())
    }

    /// Drops all that is left, and reports what it was.
    #[cold]
    fn abandon(&mut self, cx: &mut Context<'_>) {
        self.grace.reset(None);
        let mut rest = unwind::inspect(|| {
            let _around = unwind::draw_around(|| self.node());
            self.draw_home(cx);
        });
        let panics = unwind::dropping(Dropper::Grace, || {
            self.body.abandon();
            let cleanup = self.cleanup.take();
            [
                catch_unwind(AssertUnwindSafe(|| drop(cleanup))).err(),
                self.group.set.abandon(),
                self.group.drop_deferred(),
            ]
        });
        for payload in panics.into_iter().flatten() {
            self.fail(Cause::Panic(payload), Member::Destructor);
        }
        if let Some(workforce) = self.group.workforce() {
            // After home's own, which a worker may wait for. Each draws what it drops.
            workforce.abandon(Dropper::Grace);
            rest.graft(workforce.take_drawings());
        }
        self.group.report_cut_off(&rest);
    }

    /// Describes the members.
    #[cold]
    fn draw(&mut self, cx: &mut Context<'_>) {
        let _around = unwind::draw_around(|| self.node());
        self.draw_home(cx);
        if let Some(workforce) = self.group.workforce() {
            unwind::inspecting(|tree| tree.graft(workforce.take_drawings()));
        }
    }

    fn node(&self) -> drawing::Node {
        let node = self.group.node();
        let node = if self.is_cancelling { node.cancelled_as(self.group.reason()) } else { node };
        self.group.set.with_vita(node)
    }

    /// Describes the members of this thread, by a poll in inspecting mode.
    fn draw_home(&mut self, cx: &mut Context<'_>) {
        let _ = self.poll_members(cx);
        if let Some((cleanup, _)) = &self.cleanup {
            unwind::inspecting(|tree| tree.enter(cleanup.node()));
            // It may end by this poll, as a member may. What comes after it begins in the next one.
            let _ = self.advance_cleanup(cx);
            unwind::inspecting(Drawing::leave);
        }
        for cleanup in self.group.deferred.borrow().iter().rev() {
            unwind::inspecting(|tree| tree.leaf(cleanup.node().in_state(State::NotStarted)));
        }
    }

    fn holds(&self) -> bool {
        self.body.owner.holds() || self.group.set.holds() || (self.group.is_special.get() && self.holds_special())
    }

    #[cold]
    fn holds_special(&self) -> bool {
        self.cleanup.is_some()
            || !self.group.deferred.borrow().is_empty()
            || self.group.workforce().is_some_and(|workforce| workforce.crew().has_open())
    }

    /// The workers of the group, if it is to have any.
    pub(in crate::group) fn crew(&self) -> Option<Arc<Crew>> {
        self.group.anchor.crew()
    }

    #[inline(never)]
    fn poll_with_all(&mut self, cx: &mut Context<'_>) -> Poll<E::Output> {
        let duty = self.node.duty(cx, may_begin);
        if duty == Duty::Wait {
            return Poll::Pending;
        }
        if unwind::is_inspecting() {
            // Members may end by this poll, or begin to hold something. The next one looks at all of it.
            self.is_quiet = false;
            if duty == Duty::Unwind && !self.is_cancelling {
                // The members are to be cancelled, and would go on if they were polled before.
                unwind::inspecting(|tree| tree.leaf(self.group.node()));
                cx.waker().wake_by_ref();
            } else {
                self.draw(cx);
                if duty == Duty::Run {
                    let holds = self.holds();
                    self.node.hold(cx, holds);
                }
            }
            return Poll::Pending;
        }
        if duty == Duty::Unwind {
            self.unwind(cx);
            return Poll::Pending;
        }
        let under_limit = self.deadline.limits(!self.is_cancelling);
        let tasks = self.poll_members(cx);
        drop(under_limit);
        self.go_on(tasks, cx)
    }

    /// Goes on where the tasks were polled.
    #[inline(never)]
    fn go_on(&mut self, tasks: Polled, cx: &mut Context<'_>) -> Poll<E::Output> {
        if !self.has_simply_ended(tasks) && self.poll_rest(tasks, cx).is_pending() {
            let holds = self.holds();
            self.node.hold(cx, holds);
            self.is_quiet = !holds
                && !self.is_cancelling
                && self.deadline.instant().is_none()
                && self.group.workforce.borrow().is_none();
            return Poll::Pending;
        }
        self.node.leave();
        match self.body.ending.take() {
            Some(ending) => Poll::Ready(ending.conclude(self.body.exit.take())),
            None => panic!("a group was polled after its end"),
        }
    }

    fn unwind(&mut self, cx: &mut Context<'_>) {
        if !self.is_cancelling {
            let _ = self.group.note(Cause::ParentCancelled, Member::Outside);
            self.cancel_members();
        }
        let tasks = self.poll_members(cx);
        if self.poll_rest(tasks, cx).is_ready() {
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

impl<B: Future, E: Ending<B::Output>> Future for Run<'_, '_, B, E> {
    type Output = E::Output;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<E::Output> {
        let this = &mut *self;
        // What nearly every poll of a group is: a task was woken, and waits again.
        if this.is_quiet && unwind::is_plain() {
            let tasks = this.group.set.poll(cx, &mut this.body);
            return if tasks == Polled::Waiting { Poll::Pending } else { this.go_on(tasks, cx) };
        }
        this.poll_with_all(cx)
    }
}
