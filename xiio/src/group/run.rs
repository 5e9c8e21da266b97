//! The life of a group: its body, its tasks, what is deferred, and how one failure ends them all.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use super::crew::Workforce;
use super::options::GroupOptions;
use super::remote::Remote;
use super::task::Task;
use super::workers::Anchor;
use crate::cores::{Crew, Failure, Notice};
use crate::drawing::{self, Drawing, Kind, State};
use crate::error::{Payload, panic_text};
use crate::recording::{Place, Why};
use crate::report::{Held, Origin, ReportKind, drop_safely, report, report_panic};
use crate::runtime::{Runtime, may_begin};
use crate::task::{Ended, Members, Polled, Reaction, TaskSet};
use crate::time::{Deadline, now};
use crate::unwind::{self, Dropper, Duty, Node, Owner};

/// A cleanup of the whole group.
struct Deferred<'env> {
    future: Pin<Box<dyn Future<Output = ()> + 'env>>,
    location: &'static Location<'static>,
    /// It has not come to its end.
    is_due: bool,
}

impl Drop for Deferred<'_> {
    fn drop(&mut self) {
        if self.is_due {
            unwind::report_skipped("a deferred cleanup, deferred", self.location);
        }
    }
}

impl Deferred<'_> {
    fn node(&self) -> drawing::Node {
        drawing::Node::new(Kind::Deferred, "a deferred cleanup").made_at(self.location)
    }
}

fn deferred_at(location: &Location<'_>) -> String {
    format!("deferred at {}:{}", location.file(), location.line())
}

/// What a group is that is no combinator underneath.
const GROUP: &str = "a group";

/// What the two kinds of groups have in common.
pub(super) struct Group<'env> {
    set: TaskSet<'env>,
    deferred: RefCell<Vec<Deferred<'env>>>,
    /// Failures in the order in which they happened: all of them, or the first and the first panic.
    failures: RefCell<Vec<(Cause, Member)>>,
    keeps_all: Cell<bool>,
    /// An error is how a member ends the group, and no failure.
    has_winner: Cell<bool>,
    is_guarded: Cell<bool>,
    /// It has, or had, what few groups have: deferred cleanups, workers, or a handle elsewhere.
    is_special: Cell<bool>,
    /// What it is for whoever looks at the tree.
    what: Cell<&'static str>,
    options: RefCell<GroupOptions>,
    /// There if somebody has asked for it, and the group has not been closed.
    remote: RefCell<Option<Remote>>,
    /// Where handles find the workers.
    anchor: Anchor,
    /// The workers, if the options ask for them and the group has not been closed.
    workforce: RefCell<Option<Rc<Workforce>>>,
    /// Handles of tasks on workers that have failed, which do not know it yet.
    notices: RefCell<Vec<Notice>>,
}

/// Why a group ends before its members have.
pub(super) enum Cause {
    /// An error, which is with the group's other errors.
    Error,
    /// The same of a task on a worker, which has its error with those of the workers.
    SentError,
    Panic(Payload),
    Elapsed,
    /// `?` in the body of a plain group; the body's exit carries it.
    BodyExit,
    /// The owner of the surrounding future has cancelled it.
    ParentCancelled,
}

impl Cause {
    fn why(&self) -> Why {
        match self {
            Self::Error | Self::SentError => Why::MemberFailed,
            Self::Panic(_) => Why::MemberPanicked,
            Self::Elapsed => Why::TimeOver,
            Self::BodyExit => Why::BodyLeft,
            Self::ParentCancelled => Why::AroundCancelled,
        }
    }
}

/// Whose failure it is, for reports.
#[derive(Clone)]
pub(super) enum Member {
    /// None: the limit of time, or who is around.
    Outside,
    Body,
    Task(Origin),
    Deferred(&'static Location<'static>),
    Destructor,
    Worker,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside => f.write_str("what is around"),
            Self::Body => f.write_str("the body"),
            Self::Task(origin) => write!(f, "a task, {origin},"),
            Self::Deferred(location) => write!(f, "a deferred cleanup, {},", deferred_at(location)),
            Self::Destructor => f.write_str("a destructor"),
            Self::Worker => f.write_str("a worker"),
        }
    }
}

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

#[cold]
fn hire(n_workers: usize, options: &GroupOptions) -> Rc<Workforce> {
    Rc::new(Workforce::new(n_workers, options.limit, options.grace))
}

impl<'env> Group<'env> {
    // Made where it is to lie: as the result of a call it would be copied there.
    #[inline(always)]
    pub(super) fn new(options: GroupOptions) -> Self {
        let workforce = options.workers.map(|n_workers| hire(n_workers, &options));
        Self {
            anchor: Anchor::new(workforce.as_ref().map(|workforce| Arc::clone(workforce.crew()))),
            workforce: RefCell::new(workforce),
            notices: RefCell::default(),
            set: TaskSet::new(options.limit.unwrap_or(usize::MAX)),
            deferred: RefCell::default(),
            failures: RefCell::default(),
            keeps_all: Cell::new(false),
            has_winner: Cell::new(false),
            is_guarded: Cell::new(false),
            is_special: Cell::new(options.workers.is_some()),
            what: Cell::new(GROUP),
            options: RefCell::new(options),
            remote: RefCell::new(None),
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
                let origin = Origin::at(location);
                report(
                    ReportKind::Refused,
                    format!("a task {origin} was refused: its group has ended; spawn it before, or into another group"),
                );
                Task::new(None)
            }
        }
    }

    /// Cancels the tasks that are there; `place` is where somebody has asked for it.
    pub(super) fn cancel(&self, place: Place) {
        if !self.has_failed() {
            self.set.note_cancelled(Why::AskedFor, place);
        }
        self.set.doom_all(place);
        if let Some(workforce) = self.workforce() {
            workforce.crew().cancel();
        }
    }

    pub(super) fn anchor(&self) -> &Anchor {
        &self.anchor
    }

    fn workforce(&self) -> Option<Rc<Workforce>> {
        self.workforce.borrow().clone()
    }

    /// Whether jobs of the workers have not ended; if so, the group is woken when they have.
    #[inline]
    fn awaits_workers(&self) -> bool {
        self.is_special.get() && self.awaits_jobs()
    }

    #[cold]
    fn awaits_jobs(&self) -> bool {
        self.workforce().is_some_and(|workforce| workforce.crew().awaits_end())
    }

    /// Does what there is to do for the workers, and notes what has happened there.
    fn tend_workers(&self) {
        let Some(workforce) = self.workforce() else { return };
        for failure in workforce.tend(&self.set).failures {
            self.note_failure(failure);
        }
    }

    fn note_failure(&self, Failure { panic, origin, notice }: Failure) {
        self.notices.borrow_mut().extend(notice);
        let member = origin.map_or(Member::Worker, Member::Task);
        // What it means for the others is seen to by whoever polls the group.
        let _ = self.note(panic.map_or(Cause::SentError, Cause::Panic), member);
    }

    /// Tells the handles of tasks that have failed on workers, now that those are cancelled who may await them.
    fn tell_handles(&self) {
        if self.notices.borrow().capacity() > 0 {
            self.notices.take().into_iter().for_each(Notice::end);
        }
    }

    /// Whether the task that has failed just now was spawned for a worker, and ran at home.
    fn is_of_workers(&self) -> bool {
        self.workforce.borrow().as_ref().is_some_and(|workforce| workforce.takes_failure())
    }

    /// # Panics
    /// Where the option `workers` was not given.
    pub(super) fn assert_workers(&self, of: &str) {
        assert!(
            self.options.borrow().workers.is_some() || self.set.is_closed(),
            "this group has no workers; write `{of}(workers = 4, |tg| …)`, or `workers = 0` for tasks that run at home"
        );
    }

    pub(super) fn defer(&self, cleanup: impl Future<Output = ()> + 'env, location: &'static Location<'static>) {
        if self.set.is_closed() {
            drop(cleanup);
            let text = "a deferred cleanup was refused: its group has ended, and nothing would run it";
            return report(ReportKind::Refused, text.into());
        }
        self.is_special.set(true);
        self.deferred.borrow_mut().push(Deferred { future: Box::pin(cleanup), location, is_due: true });
        self.set.notify_group();
    }

    pub(super) fn remote(&self) -> Remote {
        let Some(waker) = self.set.body_waker() else {
            let ended = Remote::new(Waker::noop().clone());
            ended.end();
            return ended;
        };
        self.is_special.set(true);
        self.remote.borrow_mut().get_or_insert_with(|| Remote::new(waker)).clone()
    }

    /// Spawns what came from elsewhere.
    fn take_jobs(&self) {
        let Some(remote) = self.remote.borrow().clone() else { return };
        for job in remote.take_jobs() {
            let location = job.location;
            self.spawn(job.into_future(), Some, location);
        }
    }

    /// Whether nothing can come from elsewhere any more, now that all members have ended.
    fn refuses_jobs(&self) -> bool {
        self.remote.borrow().as_ref().is_none_or(Remote::end_if_empty)
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
        if let Some(workforce) = self.workforce() {
            workforce.crew().keep_all();
        }
    }

    /// Takes an error for the way in which a member ends the group: none is reported.
    pub(super) fn expect_winner(&self) {
        self.has_winner.set(true);
    }

    /// Calls it by the name of the combinator that it is underneath.
    pub(super) fn stand_for(&self, what: &'static str) {
        self.what.set(what);
    }

    pub(super) fn take_failures(&self) -> impl Iterator<Item = Cause> {
        self.failures.take().into_iter().map(|(cause, _)| cause)
    }

    /// What a group fails with that does not keep all: the first panic, or else the first failure. The others are reported.
    #[inline]
    pub(super) fn take_failure(&self) -> Option<Cause> {
        if self.has_failed() { self.take_decisive() } else { None }
    }

    #[cold]
    fn take_decisive(&self) -> Option<Cause> {
        if self.has_panicked() {
            return self.take_panic("a panic was thrown in its place").map(Cause::Panic);
        }
        self.take_failures().next()
    }

    /// Takes the first panic, and reports the other failures: `fate` says what becomes of an error.
    fn take_panic(&self, fate: &str) -> Option<Payload> {
        let mut first = None;
        for (cause, member) in self.failures.take() {
            match cause {
                Cause::Panic(payload) if first.is_none() => first = Some(payload),
                cause => self.report_later(cause, &member, fate),
            }
        }
        first
    }

    fn has_panicked(&self) -> bool {
        self.failures.borrow().iter().any(|(cause, _)| matches!(cause, Cause::Panic(_)))
    }

    fn has_failed(&self) -> bool {
        !self.failures.borrow().is_empty()
    }

    /// Notes a failure; says what it means for the tasks.
    fn note(&self, cause: Cause, member: Member) -> Reaction {
        let is_first = !self.has_failed();
        if is_first {
            self.set.note_cancelled(cause.why(), None);
        }
        // A panic is thrown, whatever came before it, unless that was one.
        let is_thrown = matches!(cause, Cause::Panic(_)) && !self.has_panicked();
        if is_first || is_thrown || self.keeps_all.get() {
            self.failures.borrow_mut().push((cause, member));
        } else {
            self.report_later(cause, &member, "`all_errors` would keep its error");
        }
        match is_first {
            false => Reaction::GoOn,
            true if self.keeps_all.get() => Reaction::CancelAfterRound,
            true => Reaction::CancelRest,
        }
    }

    fn report_later(&self, cause: Cause, member: &Member, fate: &str) {
        let who = || format!("{member} of {}", self.title());
        match cause {
            Cause::Error | Cause::SentError | Cause::BodyExit if !self.has_winner.get() => {
                report(ReportKind::LaterFailure, format!("{} failed as well; {fate}", who()));
            }
            Cause::Panic(payload) => report_panic(&format!("{} panicked as well", who()), payload),
            Cause::Error | Cause::SentError | Cause::BodyExit | Cause::Elapsed | Cause::ParentCancelled => {}
        }
    }

    /// When the grace is over of what is cancelled now. What lies beyond the clock's range is never.
    fn end_of_grace(&self) -> Option<Instant> {
        let grace = self.options.borrow().grace;
        grace.and_then(|grace| now().checked_add(grace))
    }

    fn report_cut_off(&self, rest: &Drawing) {
        let text = format!("the grace of {} is over; dropped while cleaning up:\n{rest}", self.title());
        report(ReportKind::GraceOver, text);
    }

    fn node(&self) -> drawing::Node {
        drawing::Node::new(Kind::Group, self.what.get()).named(self.options.borrow().name.clone())
    }

    /// Why it ends, in words.
    fn reason(&self) -> String {
        let failures = self.failures.borrow();
        let Some((cause, member)) = failures.first() else { return "it is to end".into() };
        let reason = cause.why().of_member(member);
        match cause {
            Cause::Panic(payload) => format!("{reason}: {}", panic_text(&**payload)),
            _ => reason,
        }
    }

    fn title(&self) -> String {
        match &self.options.borrow().name {
            Some(name) => format!("group `{name}`"),
            None if self.what.get() == GROUP => GROUP.into(),
            None => format!("a `{}`", self.what.get()),
        }
    }

    /// Drops what is left, accepts nothing more, and frees all memory: nobody drops the group itself. Panics of
    /// destructors are reported.
    pub(super) fn close(&self) {
        if let Some(payload) = self.set.close() {
            self.report_destructor(payload);
        }
        if self.is_special.get() {
            self.close_special();
        }
        if self.has_failed() {
            // Nobody has taken them: the group was dropped before its end.
            for (cause, member) in self.failures.take() {
                self.report_later(cause, &member, DROPPED);
            }
        }
        drop(self.options.borrow_mut().name.take());
    }

    /// [`Group::close`] for what few groups have.
    #[cold]
    fn close_special(&self) {
        if let Some(payload) = self.drop_deferred() {
            self.report_destructor(payload);
        }
        if let Some(workforce) = self.workforce.take() {
            drop(self.anchor.take());
            workforce.close().into_iter().for_each(|failure| self.note_failure(failure));
            self.tell_handles();
        }
        let remote = self.remote.take();
        remote.iter().flat_map(Remote::end).for_each(drop_safely);
    }

    fn report_destructor(&self, payload: Payload) {
        report_panic(&format!("a destructor in {} panicked", self.title()), payload);
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

/// What becomes of the errors of a group that comes to no end of its own.
const DROPPED: &str = "its group was cancelled, and there is nobody to be given its error";

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
    pub(super) fn new(group: &'a Group<'a>, body: Pin<&'b mut Option<B>>, ending: E) -> Self {
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
    pub(super) fn crew(&self) -> Option<Arc<Crew>> {
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
