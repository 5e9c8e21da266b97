//! The life of a group: its body, its tasks, what is deferred, and how one failure ends them all.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use super::options::GroupOptions;
use super::task::Task;
use crate::error::Payload;
use crate::report::{ReportKind, report, report_panic, spawned_at};
use crate::runtime::Runtime;
use crate::task::{Ended, Reaction, TaskSet, budget};
use crate::time::Deadline;
use crate::unwind::{self, Duty, Inspection, Node, Owner};

type Deferred<'env> = Pin<Box<dyn Future<Output = ()> + 'env>>;

/// What the two kinds of groups have in common.
pub(super) struct Group<'env> {
    set: TaskSet<'env>,
    deferred: RefCell<Vec<Deferred<'env>>>,
    /// Failures in the order in which they happened.
    failures: RefCell<Vec<Cause>>,
    keeps_all: Cell<bool>,
    is_guarded: Cell<bool>,
    options: RefCell<GroupOptions>,
}

/// Why a group ends before its members have.
pub(super) enum Cause {
    /// An error, which is with the group's other errors.
    Error,
    Panic(Payload),
    Elapsed,
    /// `?` in the body of a plain group; the body's exit carries it.
    BodyExit,
    /// The owner of the surrounding future has cancelled it.
    ParentCancelled,
}

/// What the end of the body means for the tasks.
pub(super) enum BodyEnd<X> {
    /// They are waited for.
    Finish(X),
    /// They are cancelled, for an error that is with the group's errors.
    Error,
    /// They are cancelled, for what the exit carries.
    Fail(X),
}

impl<'env> Group<'env> {
    pub(super) fn new(options: GroupOptions) -> Self {
        Self {
            set: TaskSet::new(options.limit.unwrap_or(usize::MAX)),
            deferred: RefCell::default(),
            failures: RefCell::default(),
            keeps_all: Cell::new(false),
            is_guarded: Cell::new(false),
            options: RefCell::new(options),
        }
    }

    #[inline]
    pub(super) fn spawn<F, M, T>(&self, future: F, finish: M, location: &'static Location<'static>) -> Task<T>
    where
        F: Future + 'env,
        M: Fn(F::Output) -> Option<T> + 'env,
    {
        match self.set.insert(future, finish, location) {
            Ok(handle) => Task::new(Some(handle)),
            Err(future) => {
                drop(future);
                let place = spawned_at(location);
                report(
                    ReportKind::Refused,
                    format!("a task {place} was refused: its group has ended; spawn it before, or into another group"),
                );
                Task::new(None)
            }
        }
    }

    pub(super) fn cancel(&self) {
        self.set.doom_all();
    }

    pub(super) fn defer(&self, cleanup: impl Future<Output = ()> + 'env) {
        if self.set.is_closed() {
            drop(cleanup);
            let text = "a deferred cleanup was refused: its group has ended, and nothing would run it";
            return report(ReportKind::Refused, text.into());
        }
        self.deferred.borrow_mut().push(Box::pin(cleanup));
    }

    /// Notes that there is a guard.
    ///
    /// # Panics
    /// For a second one. Inside of a task of the group it could poll that task from within its own poll.
    pub(super) fn guard(&self) {
        assert!(!self.is_guarded.replace(true), "a group has one guard");
    }

    /// Keeps every failure instead of reporting those after the first.
    pub(super) fn keep_all(&self) {
        self.keeps_all.set(true);
    }

    pub(super) fn take_failures(&self) -> Vec<Cause> {
        self.failures.take()
    }

    fn has_failed(&self) -> bool {
        !self.failures.borrow().is_empty()
    }

    /// Notes a failure; says whether it is the first.
    fn note(&self, cause: Cause, place: &dyn Fn() -> String) -> bool {
        let is_first = !self.has_failed();
        if is_first || self.keeps_all.get() {
            self.failures.borrow_mut().push(cause);
        } else {
            self.report_later(cause, place);
        }
        is_first
    }

    fn report_later(&self, cause: Cause, place: &dyn Fn() -> String) {
        let who = || format!("{} of {}", place(), self.title());
        match cause {
            Cause::Error => {
                let text = format!("{} failed as well; `all_errors` would keep its error", who());
                report(ReportKind::LaterFailure, text);
            }
            Cause::Panic(payload) => report_panic(&format!("{} panicked as well", who()), payload),
            Cause::Elapsed | Cause::BodyExit | Cause::ParentCancelled => {}
        }
    }

    fn title(&self) -> String {
        match &self.options.borrow().name {
            Some(name) => format!("group `{name}`"),
            None => "a group".into(),
        }
    }

    /// Drops what is left, accepts nothing more, and frees all memory: nobody drops the group itself. Panics of
    /// destructors are reported.
    pub(super) fn close(&self) {
        let panics = [self.set.close(), self.drop_deferred()];
        for payload in panics.into_iter().flatten() {
            report_panic(&format!("a destructor in {} panicked", self.title()), payload);
        }
        // Nobody has taken them: the group was dropped before its end.
        for failure in self.failures.take() {
            self.report_later(failure, &|| "a member".into());
        }
        drop(self.options.take());
    }

    fn drop_deferred(&self) -> Option<Payload> {
        let mut first = None;
        loop {
            let Some(cleanup) = self.deferred.borrow_mut().pop() else { break };
            match catch_unwind(AssertUnwindSafe(|| drop(cleanup))) {
                Err(payload) if first.is_none() => first = Some(payload),
                Err(payload) => report_panic("a destructor panicked", payload),
                Ok(()) => {}
            }
        }
        drop(self.deferred.take());
        first
    }
}

/// Runs a group to its end. `Ready` with the body's exit, if the body has come to one.
///
/// Everything is polled from here and only from here, so a group that is leaked stands still.
pub(super) struct Run<'a, 'b, B: Future, X, M> {
    group: &'a Group<'a>,
    body: Pin<&'b mut Option<B>>,
    on_body_end: Option<M>,
    exit: Option<X>,
    body_owner: Owner,
    /// The deferred cleanup that runs now.
    cleanup: Option<(Deferred<'a>, Owner)>,
    node: Node,
    deadline: Deadline,
    grace: Deadline,
    is_cancelling: bool,
    /// The body was polled with a waker of its own; before that every wake may be meant for it.
    has_body_waker: bool,
}

impl<B: Future, X, M> Unpin for Run<'_, '_, B, X, M> {}

impl<'a, 'b, B, X, M> Run<'a, 'b, B, X, M>
where
    B: Future,
    M: FnOnce(B::Output) -> BodyEnd<X>,
{
    pub(super) fn new(group: &'a Group<'a>, body: Pin<&'b mut Option<B>>, on_body_end: M) -> Self {
        // A group outside of a runtime would poll nothing.
        Runtime::with(|_| ());
        Self {
            group,
            body,
            on_body_end: Some(on_body_end),
            exit: None,
            body_owner: Owner::default(),
            cleanup: None,
            node: Node::new("task_group"),
            deadline: Deadline::at(group.options.borrow().deadline),
            grace: Deadline::at(None),
            is_cancelling: false,
            has_body_waker: false,
        }
    }

    fn fail(&mut self, cause: Cause, place: &dyn Fn() -> String) {
        self.group.note(cause, place);
        self.cancel_members();
    }

    /// Cancels the body and the tasks that are there; those that are spawned from now on run.
    fn cancel_members(&mut self) {
        if std::mem::replace(&mut self.is_cancelling, true) {
            return;
        }
        let grace = self.group.options.borrow().grace;
        if let Some(grace) = grace {
            self.grace = Deadline::after(grace);
        }
        self.group.set.doom_all();
        let body = self.body.as_mut();
        let owner = &mut self.body_owner;
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| owner.cancel_slot(body))) {
            self.group.note(Cause::Panic(payload), &|| "the body".into());
        }
    }

    fn poll_members(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut tasks = self.poll_woken(cx);
        // Looked at last: what ends in the round of its deadline has ended in time.
        if self.is_pending(tasks) && !self.group.has_failed() && self.deadline.poll_elapsed(cx) {
            self.group.note(Cause::Elapsed, &String::new);
        }
        if self.group.has_failed() && !self.is_cancelling && !self.waits_for_round(tasks) {
            self.cancel_members();
            // What had nothing to clean up is gone already; the rest answers when it is polled.
            self.poll_body(cx);
            tasks = self.poll_tasks(cx, false);
        }
        if self.group.set.is_body_woken() {
            // By a task that was polled after it: others have their turn first.
            cx.waker().wake_by_ref();
        }
        if self.is_pending(tasks) { self.poll_grace(cx) } else { Poll::Ready(()) }
    }

    fn is_pending(&self, tasks: Poll<()>) -> bool {
        self.body.is_some() || tasks.is_pending()
    }

    /// Polls the tasks that are ready, and the body if it is.
    fn poll_woken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.has_body_waker {
            self.poll_body(cx);
        }
        let tasks = self.poll_tasks(cx, true);
        // A task that has just failed wakes a body that awaits it, which is cancelled first.
        let is_failing = self.group.has_failed() && !self.is_cancelling;
        if is_failing || !self.group.set.take_body_woken() {
            return tasks;
        }
        self.poll_body(cx);
        self.poll_tasks(cx, false)
    }

    /// A group that keeps all errors lets the tasks that are ready come to theirs first.
    fn waits_for_round(&self, tasks: Poll<()>) -> bool {
        self.group.keeps_all.get() && tasks.is_pending() && self.group.set.is_in_last_round()
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) {
        // Once a member has failed the body is cancelled next; it might await the one that failed.
        if self.body.is_none() || (self.group.has_failed() && !self.is_cancelling) {
            return;
        }
        budget::begin_share();
        let body = self.body.as_mut();
        let owner = &mut self.body_owner;
        let (polled, has_body_waker) = self.group.set.with_body_waker(|waker| {
            let mut body_cx = Context::from_waker(waker.unwrap_or(cx.waker()));
            let polled = catch_unwind(AssertUnwindSafe(|| owner.poll_slot(body, &mut body_cx)));
            (polled, waker.is_some())
        });
        self.has_body_waker = has_body_waker;
        match polled {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(None)) => debug_assert!(self.is_cancelling),
            Ok(Poll::Ready(Some(output))) => self.end_body(output),
            Err(payload) => {
                self.drop_body();
                self.fail(Cause::Panic(payload), &|| "the body".into());
            }
        }
    }

    fn end_body(&mut self, output: B::Output) {
        let Some(on_body_end) = self.on_body_end.take() else { return };
        match on_body_end(output) {
            BodyEnd::Finish(exit) => self.exit = Some(exit),
            BodyEnd::Fail(exit) => {
                self.exit = Some(exit);
                self.fail(Cause::BodyExit, &String::new);
            }
            BodyEnd::Error => self.fail(Cause::Error, &|| "the body".into()),
        }
    }

    fn drop_body(&mut self) {
        let mut body = self.body.as_mut();
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| body.set(None))) {
            self.group.note(Cause::Panic(payload), &|| "the body".into());
        }
    }

    fn poll_tasks(&mut self, cx: &mut Context<'_>, is_granted: bool) -> Poll<()> {
        let group = self.group;
        let mut on_end = |ended: Ended, location: &'static Location<'static>| {
            let cause = match ended {
                Ended::Cancelled => return Reaction::GoOn,
                Ended::Failed => Cause::Error,
                Ended::Panicked(payload) => Cause::Panic(payload),
            };
            let is_first = group.note(cause, &|| format!("a task, {},", spawned_at(location)));
            match is_first {
                false => Reaction::GoOn,
                true if group.keeps_all.get() => Reaction::CancelAfterRound,
                true => Reaction::CancelRest,
            }
        };
        group.set.poll(cx, is_granted, &mut on_end)
    }

    /// Runs the deferred cleanups, last in first out, each to its end.
    fn poll_deferred(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.cleanup.is_none() {
                let next = self.group.deferred.borrow_mut().pop();
                self.cleanup = next.map(|cleanup| (cleanup, Owner::default()));
            }
            let Some((cleanup, owner)) = &mut self.cleanup else { return Poll::Ready(()) };
            match catch_unwind(AssertUnwindSafe(|| owner.poll(cleanup.as_mut(), cx))) {
                Ok(Poll::Pending) => return self.poll_grace(cx),
                Ok(Poll::Ready(_)) => {}
                Err(payload) => self.fail(Cause::Panic(payload), &|| "a deferred cleanup".into()),
            }
            let ended = self.cleanup.take();
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(ended))) {
                self.fail(Cause::Panic(payload), &|| "a deferred cleanup".into());
            }
        }
    }

    /// Everything in its order, until nothing is left: a deferred cleanup may spawn again.
    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            std::task::ready!(self.poll_members(cx));
            std::task::ready!(self.poll_deferred(cx));
            if self.group.set.is_empty() {
                return Poll::Ready(());
            }
        }
    }

    /// `Ready` when the grace is over and the rest has been dropped.
    fn poll_grace(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_cancelling || !self.grace.poll_elapsed(cx) {
            return Poll::Pending;
        }
        self.grace.reset(None);
        let rest = unwind::inspect(|| self.draw(cx));
        let title = self.group.title();
        let text = format!("the grace of {title} is over; dropped while cleaning up:\n{rest}");
        report(ReportKind::GraceOver, text);
        self.drop_body();
        let cleanup = self.cleanup.take();
        let panics = [
            catch_unwind(AssertUnwindSafe(|| drop(cleanup))).err(),
            self.group.set.abandon(),
            self.group.drop_deferred(),
        ];
        for payload in panics.into_iter().flatten() {
            self.group.note(Cause::Panic(payload), &|| "a destructor".into());
        }
        Poll::Ready(())
    }

    /// Describes the members, by a poll in inspecting mode.
    #[cold]
    fn draw(&mut self, cx: &mut Context<'_>) {
        unwind::inspecting(|drawing| drawing.enter(self.group.title()));
        if self.body.is_some() {
            unwind::inspecting(|drawing| drawing.enter("the body".into()));
            self.poll_body(cx);
            unwind::inspecting(Inspection::leave);
        }
        let _ = self.poll_tasks(cx, false);
        if let Some((cleanup, owner)) = &mut self.cleanup {
            unwind::inspecting(|drawing| drawing.enter("a deferred cleanup".into()));
            // A panic here is found again by the next poll of it, which panics as well.
            let _ = catch_unwind(AssertUnwindSafe(|| owner.poll(cleanup.as_mut(), cx)));
            unwind::inspecting(Inspection::leave);
        }
        unwind::inspecting(Inspection::leave);
    }

    fn holds(&self) -> bool {
        self.body_owner.holds()
            || self.group.set.holds()
            || self.cleanup.is_some()
            || !self.group.deferred.borrow().is_empty()
    }

    /// Ends an unwinding that the parent began.
    fn finish_unwinding(&mut self) {
        let mut panics = self.group.take_failures().into_iter().filter_map(|cause| match cause {
            Cause::Panic(payload) => Some(payload),
            _ => None,
        });
        match panics.next() {
            Some(payload) => self.node.finish_with_panic(payload),
            None => self.node.finish(),
        }
    }
}

impl<B, X, M> Future for Run<'_, '_, B, X, M>
where
    B: Future,
    M: FnOnce(B::Output) -> BodyEnd<X>,
{
    type Output = Option<X>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<X>> {
        let this = &mut *self;
        let duty = this.node.duty(cx);
        if duty != Duty::Wait && unwind::inspecting(|_| ()) {
            this.draw(cx);
            return Poll::Pending;
        }
        match duty {
            Duty::Wait => Poll::Pending,
            Duty::Run => match this.poll_all(cx) {
                Poll::Ready(()) => {
                    this.node.leave();
                    Poll::Ready(this.exit.take())
                }
                Poll::Pending => {
                    let holds = this.holds();
                    this.node.hold(cx, holds);
                    Poll::Pending
                }
            },
            Duty::Unwind => {
                this.fail(Cause::ParentCancelled, &String::new);
                if this.poll_all(cx).is_ready() {
                    this.finish_unwinding();
                }
                Poll::Pending
            }
        }
    }
}
