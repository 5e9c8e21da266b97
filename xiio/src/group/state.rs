//! What a group is: its tasks, its workers, what is deferred, and how it has failed.

mod course;
mod run;

pub(super) use run::{BodyEnd, Ending, Run};

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::crew::Workforce;
use super::options::GroupOptions;
use super::remote::Remote;
use super::task::Task;
use super::workers::Anchor;
use crate::cores::{Failure, News, Notice};
use crate::drawing::{self, Drawing, FileLine, Kind};
use crate::error::{Payload, panic_text};
use crate::recording::{Asked, Place, Why};
use crate::report::{Origin, ReportKind, drop_safely, report, report_panic};
use crate::runtime::Runtime;
use crate::task::{Ended, TaskSet};
use crate::time::now;
use crate::unwind::{self, Dropper};

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

/// Jobs from elsewhere that are begun before others have their turn.
const MAX_JOBS: usize = 128;

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
    /// It has, or had, what few groups have: deferred cleanups, workers, a handle elsewhere, or a failure.
    is_special: Cell<bool>,
    /// The body and the tasks have ended. What there is are deferred cleanups and what they have spawned: no limit and no cancellation
    /// from outside cancels that.
    is_past_tasks: Cell<bool>,
    /// What there was besides the body is cancelled for the group's failure.
    is_rest_cancelled: Cell<bool>,
    /// What it is for whoever looks at the tree.
    what: Cell<&'static str>,
    options: RefCell<GroupOptions>,
    /// There if somebody has asked for it, and the group has not been closed.
    remote: RefCell<Option<Remote>>,
    /// Where handles find the workers.
    anchor: Anchor,
    /// The workers, if the options ask for them and the group has not been closed.
    workforce: RefCell<Option<Rc<Workforce>>>,
    /// Handles of tasks on workers that have ended, which do not know it yet.
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
            Self::Deferred(location) => write!(f, "a deferred cleanup, deferred at {},", FileLine(location)),
            Self::Destructor => f.write_str("a destructor"),
            Self::Worker => f.write_str("a worker"),
        }
    }
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
            is_past_tasks: Cell::new(false),
            is_rest_cancelled: Cell::new(false),
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
        match self.set.insert(future, finish, location, false) {
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

    /// Whether any task at home has not ended.
    pub(super) fn has_tasks(&self) -> bool {
        !self.set.is_empty()
    }

    /// Cancels the tasks that are there; `place` is where somebody has asked for it.
    pub(super) fn cancel(&self, place: Place) {
        if !self.has_failed() {
            self.set.note_cancelled(Why::AskedFor, place);
        }
        if self.set.is_in_last_round() {
            // It ends by that, and would be followed by this.
            return self.cancel_rest();
        }
        let n_jobs = || self.remote.borrow().as_ref().map_or(0, Remote::n_jobs);
        let n_jobs = match self.workforce() {
            Some(workforce) => workforce.crew().cancel(Asked::at(place), n_jobs),
            None => n_jobs(),
        };
        self.doom_tasks(n_jobs, place);
    }

    /// Cancels the tasks of this thread, with those that were handed in when it was cancelled on the workers: others go on handing in.
    fn doom_tasks(&self, n_jobs: usize, place: Place) {
        let _ = self.take_jobs(n_jobs);
        self.set.doom_all(place);
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

    /// Does what there is to do for the workers, and notes what has happened there; `true` if jobs have become tasks at home by that.
    fn tend_workers(&self) -> bool {
        let Some(workforce) = self.workforce() else { return false };
        // A worker tells its failure before that cancels jobs. In the other order here, so that the failure is noted for which one is
        // dropped: its destructor may spawn, and its handle may be awaited.
        let doomed = workforce.take_doomed();
        self.note_news(workforce.take_news());
        // Each panic is noted at once: the next destructor may spawn, and who awaits the handle must not be polled before that.
        workforce.discard(doomed, |payload, origin| self.fail(Cause::Panic(payload), Member::Task(origin)));
        workforce.start_jobs(&self.set)
    }

    fn note_news(&self, news: News) {
        self.notices.borrow_mut().extend(news.cancelled);
        news.failures.into_iter().for_each(|failure| self.note_failure(failure));
    }

    fn note_failure(&self, Failure { panic, origin, notice }: Failure) {
        self.notices.borrow_mut().extend(notice);
        let member = origin.map_or(Member::Worker, Member::Task);
        self.fail(panic.map_or(Cause::SentError, Cause::Panic), member);
    }

    /// Tells the handles of tasks that have ended on workers, now that those are cancelled who may await them.
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
    #[track_caller]
    pub(super) fn assert_workers(&self, of: &str) {
        assert!(
            self.options.borrow().workers.is_some() || self.is_closed(),
            "this group has no workers; write `{of}(workers = 4, |tg| …)`, or `workers = 0` for tasks that run at home"
        );
    }

    pub(super) fn defer(&self, cleanup: impl Future<Output = ()> + 'env, location: &'static Location<'static>) {
        if self.is_closed() {
            drop(cleanup);
            let text = "a deferred cleanup was refused: its group has ended, and nothing would run it";
            return report(ReportKind::Refused, text.into());
        }
        self.is_special.set(true);
        let future = Box::pin(unwind::as_cleanup("defer", self.set.key(), location, cleanup));
        self.deferred.borrow_mut().push(Deferred { future, location, is_due: true });
        self.set.notify_group();
    }

    pub(super) fn remote(&self) -> Remote {
        let Some(waker) = self.set.body_waker() else {
            let ended = Remote::new(Waker::noop().clone(), None);
            ended.end();
            return ended;
        };
        self.is_special.set(true);
        let crew = self.anchor.crew();
        let remote = self.remote.borrow_mut().get_or_insert_with(|| Remote::new(waker, crew)).clone();
        if self.is_past_tasks.get() || self.is_rest_cancelled.get() {
            remote.close_to_others();
        }
        remote
    }

    /// Spawns what came from elsewhere, `max` tasks at most; `true` if there is more.
    fn take_jobs(&self, max: usize) -> bool {
        let Some(remote) = self.remote.borrow().clone() else { return false };
        for _ in 0..max {
            let Some(job) = remote.take_job() else { return false };
            let location = job.location;
            self.spawn(job.into_future(), Some, location);
        }
        true
    }

    /// The same with as many as may be taken at once, and others later: a thread may hand in more than this one can run.
    fn take_some_jobs(&self) {
        if self.take_jobs(MAX_JOBS) {
            self.set.wake_body();
        }
    }

    /// Whether it accepts no more tasks: it has ended, or what is left of it is dropped.
    pub(super) fn is_closed(&self) -> bool {
        self.set.is_closed()
    }

    /// Accepts no more tasks, from here or from elsewhere, and drops the jobs that wait.
    fn refuse_more(&self) {
        self.set.refuse_more();
        let jobs = self.remote.borrow().as_ref().map(Remote::end);
        jobs.into_iter().flatten().for_each(drop_safely);
    }

    /// Whether nothing can come from elsewhere any more but for deferred cleanups that are left, now that the tasks have ended.
    fn has_all_jobs(&self) -> bool {
        let is_last = self.deferred.borrow().is_empty();
        let close = if is_last { Remote::end_if_empty } else { Remote::close_to_others_if_empty };
        self.remote.borrow().as_ref().is_none_or(close)
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

    /// Notes a failure; `true` for the first one.
    fn note(&self, cause: Cause, member: Member) -> bool {
        let is_first = !self.has_failed();
        if is_first {
            self.is_special.set(true);
            self.set.note_cancelled(self.why(&cause), None);
        }
        // A panic is thrown, whatever came before it, unless that was one.
        let is_thrown = matches!(cause, Cause::Panic(_)) && !self.has_panicked();
        if is_first || is_thrown || self.keeps_all.get() {
            self.failures.borrow_mut().push((cause, member));
        } else {
            let fate = self.fate_of_later(&cause);
            self.report_later(cause, &member, fate);
        }
        is_first
    }

    /// Notes a failure. The first one cancels the rest. What a deferred cleanup has spawned ends with it whatever came before.
    fn fail(&self, cause: Cause, member: Member) {
        let is_of_cleanup = matches!(member, Member::Deferred(_));
        if !self.note(cause, member) {
            if is_of_cleanup {
                self.cancel(None);
            }
        // A group that keeps all errors lets the tasks that are ready come to theirs first.
        } else if !(self.keeps_all.get() && self.begin_last_round()) {
            self.cancel_rest();
        }
    }

    /// Has the tasks that are ready at home polled once more; `false` if none is. Jobs that wait for home are among them, and what was handed
    /// in from elsewhere, as far as it may be taken at once. Jobs of workers are not: to have them all begin first would keep home waiting.
    fn begin_last_round(&self) -> bool {
        let _ = self.take_jobs(MAX_JOBS);
        if let Some(workforce) = self.workforce().filter(|workforce| workforce.crew().is_at_home()) {
            let _ = workforce.start_jobs(&self.set);
        }
        self.set.begin_last_round()
    }

    /// The same where there is no last round to wait for.
    fn fail_at_once(&self, cause: Cause) {
        let _ = self.note(cause, Member::Outside);
        self.cancel_rest();
    }

    /// Cancels the tasks of a group that has failed, here and on the workers. Once: what is spawned from then on belongs to the cleanup,
    /// and runs. The body is cancelled by the course.
    fn cancel_rest(&self) {
        if self.is_rest_cancelled.replace(true) {
            return;
        }
        let close = || self.remote.borrow().as_ref().map_or(0, Remote::close_to_others);
        let n_jobs = match self.workforce() {
            Some(workforce) => workforce.crew().cancel_rest(close),
            None => close(),
        };
        self.doom_tasks(n_jobs, None);
    }

    /// Runs code of a member that is to end. A panic of it is a failure.
    fn catch(&self, member: Member, code: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(code)) {
            self.fail(Cause::Panic(payload), member);
        }
    }

    /// Begins to run the group; gives the end of its time.
    ///
    /// # Panics
    /// Outside of a runtime, where it would poll nothing.
    fn begin(&self) -> Option<Instant> {
        let deadline = self.options.borrow().deadline;
        match deadline {
            None => Runtime::require(),
            Some(_) => Runtime::with(Runtime::look_at_clock),
        }
        deadline
    }

    /// Does what comes before a poll of the body; whether it may be polled.
    #[inline]
    fn begin_body_poll(&self, is_cancelled: bool) -> bool {
        if self.is_special.get() {
            self.take_some_jobs();
        }
        // Once a member has failed the body is cancelled next; it might await the one that failed.
        is_cancelled || !self.has_failed()
    }

    /// Ends a body that has panicked.
    #[cold]
    fn end_body(&self, payload: Payload, drop_future: &mut dyn FnMut()) {
        self.fail(Cause::Panic(payload), Member::Body);
        unwind::dropping(Dropper::Panic, || self.catch(Member::Body, drop_future));
    }

    /// Notes what a task has ended with that has no value.
    #[cold]
    fn end_task(&self, ended: Ended, origin: Origin) {
        let cause = match ended {
            Ended::Cancelled => return,
            Ended::Failed if self.is_of_workers() => Cause::SentError,
            Ended::Failed => Cause::Error,
            Ended::Panicked(payload) => Cause::Panic(payload),
        };
        self.fail(cause, Member::Task(origin));
    }

    /// What becomes of an error that is not the first failure.
    fn fate_of_later(&self, cause: &Cause) -> &'static str {
        let first = self.failures.borrow().first().map(|(cause, _)| cause.why());
        match cause {
            _ if first == Some(Why::AroundCancelled) => DROPPED,
            Cause::BodyExit => "in a `try_task_group!` the option `all_errors` would keep it",
            _ => "`all_errors` would keep its error",
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

    /// The same for a task that is cancelled by itself: the grace of the whole is looked at by its course.
    fn end_of_grace_alone(&self) -> Option<Instant> {
        if self.has_failed() { None } else { self.end_of_grace() }
    }

    fn report_cut_off(&self, rest: &Drawing) {
        let text = format!("the grace of {} is over; dropped while cleaning up:\n{rest}", self.title());
        report(ReportKind::GraceOver, text);
    }

    fn node(&self) -> drawing::Node {
        drawing::Node::new(Kind::Group, self.what.get()).named(self.options.borrow().name.clone())
    }

    /// Why it ends.
    fn why(&self, cause: &Cause) -> Why {
        match cause.why() {
            Why::MemberFailed if self.has_winner.get() => Why::MemberWon,
            why => why,
        }
    }

    /// The same in words.
    fn reason(&self) -> String {
        let failures = self.failures.borrow();
        let Some((cause, member)) = failures.first() else { return "it is to end".into() };
        let reason = self.why(cause).of_member(member);
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
        if self.is_special.get() {
            self.refuse_more();
        }
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
            self.note_news(workforce.close());
            self.tell_handles();
        }
        drop(self.remote.take());
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
