//! A set of tasks that one future polls: the ready queue, the lists, and the only code that polls or drops a task.

use std::cell::Cell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};

use super::block::{self, Step};
use super::budget;
use super::handle::Handle;
use super::home::Home;
use super::links::{List, Queue};
use super::refs::{BODY, DONE, DOOMED, FAILED, HOLDS, JOINED, LAST, PLACED, QUEUED, STARTED, TaskRef};
use super::schedule;
use super::waker;
use crate::error::Payload;
use crate::report::{report_panic, spawned_at};
use crate::unwind::{self, Cancel, Frozen, Owner, Shift};

/// How a task has ended that gave no value.
pub(crate) enum Ended {
    /// By itself, as a failure that its future has put elsewhere.
    Failed,
    /// It was cancelled and has cleaned up.
    Cancelled,
    /// It, its destructors or its cleanup panicked.
    Panicked(Payload),
}

/// What the end of a task means for its siblings.
#[must_use]
pub(crate) enum Reaction {
    GoOn,
    /// Cancel them, before any of them is polled again.
    CancelRest,
    /// Cancel them when those that are ready now have been polled once more: they may have failures of their own.
    CancelAfterRound,
}

/// How a poll of the set's members has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Polled {
    /// Some tasks are left, and nothing has happened to them that their group has to know of.
    Waiting,
    /// Some tasks are left.
    Pending,
    /// No task is left.
    Done,
}

/// How the loop over what is ready has ended.
#[derive(Clone, Copy)]
enum Drained {
    /// Nothing is ready any more.
    Idle,
    /// There is more to do, in the next turn.
    Interrupted,
}

/// The group that a set belongs to, and in it the one member that is no task.
pub(crate) trait Members {
    /// Polls the body of the group, which has a place in the queue like any task; `true` if it just waits, with nothing to
    /// clean up. May panic.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> bool;

    /// Whether the body has not ended.
    fn has_body(&self) -> bool;

    /// The poll of the body has panicked.
    fn end_body(&mut self, payload: Payload);

    /// A task has ended without a value; says what becomes of its siblings.
    fn end_task(&mut self, ended: Ended, location: &'static Location<'static>) -> Reaction;
}

/// Tasks that may borrow for `'env`, polled by whoever polls the set and dropped with it.
pub(crate) struct TaskSet<'env> {
    /// On the heap, so that a waker that is around when the set is moved or leaked has something to point to. Made by
    /// the first poll, emptied when the set is closed.
    core: Cell<Option<NonNull<Core>>>,
    limit: usize,
    is_closed: Cell<bool>,
    /// Invariant: what a task borrows for `'env` must not be taken for a shorter borrow.
    _env: PhantomData<Cell<&'env ()>>,
}

pub(super) struct Core {
    pub(super) ready: Queue,
    /// Not started because of the limit.
    waiting: Queue,
    tasks: List,
    /// To be cancelled at the next poll.
    doomed: List,
    limit: usize,
    /// Counted only where there is a limit.
    n_running: Cell<usize>,
    /// The order of polls is drawn from a seed.
    is_seeded: bool,
    /// There is something to do before the next poll: a task is doomed, the last round is over, or the order is drawn.
    is_unusual: Cell<bool>,
    n_holding: Cell<usize>,
    /// More has happened since the last poll than that tasks wait: the group has to look at all that it looks at.
    is_eventful: Cell<bool>,
    /// One poll may be made although the turn is over. Not so where it ends in the middle: whoever comes next is the first
    /// of the next turn then, with all that a poll may take.
    is_granted: Cell<bool>,
    /// Whoever polls the set knows already that there is something to do.
    is_marked: Cell<bool>,
    /// Who is being polled: a task, or the body.
    polling: Cell<Option<TaskRef>>,
    /// What stands for the body in the ready queue. This core lies in its block, where a task has its future.
    body: Cell<Option<TaskRef>>,
    /// The round after which the rest is to be cancelled.
    last_round: Cell<LastRound>,
    depth: Cell<u32>,
    /// The task that polls this set: one level up. Counted.
    parent: Cell<Option<TaskRef>>,
    /// The waker the set was polled with last, if it is not that of a task.
    waker: Cell<Option<Waker>>,
}

/// How far the last round is: those that were ready when a member failed are polled once more, see
/// [`Reaction::CancelAfterRound`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum LastRound {
    None,
    /// The last one is in the ready queue, with the flag `LAST`.
    Goes,
    /// The last one has been polled.
    Over,
}

thread_local! {
    /// How many sets are being polled on this thread, one inside the other.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

impl Core {
    fn new(limit: usize) -> Self {
        Self {
            ready: Queue::default(),
            waiting: Queue::default(),
            tasks: List::default(),
            doomed: List::default(),
            limit,
            is_seeded: schedule::is_seeded(),
            is_unusual: Cell::new(schedule::is_seeded()),
            n_running: Cell::new(0),
            n_holding: Cell::new(0),
            is_eventful: Cell::new(true),
            is_granted: Cell::new(false),
            // The body is in the queue from the start, and who polls the set knows it.
            is_marked: Cell::new(true),
            polling: Cell::new(None),
            body: Cell::new(None),
            last_round: Cell::new(LastRound::None),
            depth: Cell::new(0),
            parent: Cell::new(None),
            waker: Cell::new(None),
        }
    }

    /// The depth of this set, if it is polling `task` right now.
    pub(super) fn depth_if_polling(&self, task: TaskRef) -> Option<u32> {
        (self.polling.get() == Some(task)).then(|| self.depth.get())
    }

    /// Notes that there is something to do; gives the task that polls this set if it is to be woken for it.
    #[inline]
    pub(super) fn mark(&self) -> Option<TaskRef> {
        if self.is_marked.replace(true) { None } else { self.climb() }
    }

    #[inline]
    fn climb(&self) -> Option<TaskRef> {
        self.parent.get().or_else(|| {
            self.wake_outside();
            None
        })
    }

    /// Wakes who polls this set and is no task.
    #[cold]
    fn wake_outside(&self) {
        let Some(waker) = self.waker.take() else { return };
        match Home::of_root_waker(&waker) {
            Some(home) => {
                self.waker.set(Some(waker));
                home.wake_root();
            }
            // User code, which may even free this core: nothing is touched after it. The next poll brings a waker again.
            None => waker.wake(),
        }
    }

    #[inline]
    fn wake_up(&self) {
        if !self.is_marked.replace(true) {
            self.wake_parent();
        }
    }

    #[cold]
    #[inline(never)]
    fn wake_parent(&self) {
        if let Some(parent) = self.climb() {
            waker::wake_at_home(parent);
        }
    }

    /// Puts a task among those to be cancelled at the next poll.
    pub(super) fn doom_one(&self, task: TaskRef) {
        if task.header().has(DOOMED) {
            return;
        }
        task.header().set(DOOMED);
        self.tasks.remove(task);
        self.doomed.push_back(task);
        self.is_unusual.set(true);
        self.wake_up();
    }

    /// Puts every task among those to be cancelled at the next poll. There is nothing left to wait for in a last round.
    fn doom_all(&self) {
        if self.last_round.replace(LastRound::None) != LastRound::None {
            self.is_eventful.set(true);
        }
        // The task that is being polled right now is cancelled code from here on.
        if self.polling.get().is_some_and(|task| !task.header().has(DOOMED | DONE | BODY)) {
            unwind::freeze(self.depth.get());
        }
        while let Some(task) = self.tasks.pop_front() {
            task.header().set(DOOMED);
            self.doomed.push_back(task);
        }
        if !self.doomed.is_empty() {
            self.is_unusual.set(true);
            self.wake_up();
        }
    }

    #[inline]
    fn accept(&self, task: TaskRef) {
        self.tasks.push_back(task);
        task.header().set(QUEUED);
        if self.limit != usize::MAX && !self.take_place(task) {
            return;
        }
        self.ready.push(task);
        self.wake_up();
    }

    /// Whether a new task may run at once; if not, it waits for a place.
    #[cold]
    fn take_place(&self, task: TaskRef) -> bool {
        let has_place = self.n_running.get() < self.limit;
        if has_place {
            self.give_place_to(task);
        } else {
            self.waiting.push(task);
        }
        has_place
    }

    fn give_place_to(&self, task: TaskRef) {
        task.header().set(PLACED);
        self.n_running.set(self.n_running.get() + 1);
    }

    fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.doomed.is_empty()
    }

    fn unlink(&self, task: TaskRef) {
        let list = if task.header().has(DOOMED) { &self.doomed } else { &self.tasks };
        list.remove(task);
    }
}

/// It lies where a task has its future, and is never polled.
impl Future for Core {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl<'env> TaskSet<'env> {
    /// An empty set of which at most `limit` tasks run at once.
    pub(crate) fn new(limit: usize) -> Self {
        let (core, is_closed) = (Cell::new(None), Cell::new(false));
        Self { core, limit, is_closed, _env: PhantomData }
    }

    fn core(&self) -> Option<&Core> {
        // SAFETY: the core is only ever shared, and freed by `close` alone, which takes it out first. No reference from
        // here is alive then: `poll` and `close` are called by the one future that owns the set, and the others run no
        // user code while they use it, but for a foreign waker at their very end.
        self.core.get().map(|core| unsafe { core.as_ref() })
    }

    #[inline]
    fn core_or_make(&self) -> NonNull<Core> {
        self.core.get().unwrap_or_else(|| self.make_core())
    }

    #[cold]
    fn make_core(&self) -> NonNull<Core> {
        debug_assert!(!self.is_closed.get(), "nobody would free it");
        let (body, core) = block::allocate_core(Core::new(self.limit));
        body.header().set(BODY | QUEUED);
        // SAFETY: it was made right now, and the set has it until it is closed.
        let core_ref = unsafe { core.as_ref() };
        core_ref.body.set(Some(body));
        core_ref.ready.push(body);
        self.core.set(Some(core));
        core
    }

    /// Adds a task; `Err` gives the future back when the set is closed.
    ///
    /// `finish` makes the task's value of the future's output; `None` is a failure.
    #[inline]
    pub(crate) fn insert<F, M, T>(
        &self,
        future: F,
        finish: M,
        location: &'static Location<'static>,
    ) -> Result<Handle<T>, F>
    where
        F: Future + 'env,
        M: Fn(F::Output) -> Option<T> + 'env,
    {
        if self.is_closed.get() {
            return Err(future);
        }
        let core = self.core_or_make();
        let task = block::allocate(future, finish, core, location);
        // SAFETY: `allocate` counted the handle and set its flag; `T` is the output of the future.
        let handle = unsafe { Handle::new(task) };
        // SAFETY: the set is not closed, so the core is alive. A waker that panics here drops the handle.
        unsafe { core.as_ref() }.accept(task);
        Ok(handle)
    }

    /// Whether it accepts no more tasks.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.core().is_none_or(Core::is_empty)
    }

    /// Whether a task has something to clean up.
    pub(crate) fn holds(&self) -> bool {
        self.core().is_some_and(|core| core.n_holding.get() > 0)
    }

    /// Cancels the tasks that are there now, at the next poll. Safe to call from a task of the set.
    pub(crate) fn doom_all(&self) {
        if let Some(core) = self.core() {
            core.doom_all();
        }
    }

    /// Polls the body and the tasks that are ready, until nothing is or the turn is over; but at least one, so that no set
    /// starves.
    #[inline]
    pub(crate) fn poll(&self, cx: &mut Context<'_>, members: &mut dyn Members) -> Polled {
        // SAFETY: as in `core`.
        unsafe { self.core_or_make().as_ref() }.poll(cx, members)
    }

    /// Has the group look at all that it has to look at when it is polled next.
    pub(crate) fn notify_group(&self) {
        if let Some(core) = self.core() {
            core.is_eventful.set(true);
        }
    }

    /// Has the body polled, as a wake of it does.
    pub(crate) fn wake_body(&self) {
        if let Some(body) = self.core().and_then(|core| core.body.get()) {
            waker::wake_at_home(body);
        }
    }

    /// Whether the rest is to be cancelled, but those that are ready have not all been polled yet.
    pub(crate) fn is_in_last_round(&self) -> bool {
        self.core().is_some_and(|core| core.last_round.get() != LastRound::None)
    }

    /// Drops every task, whatever it holds. Gives the first panic of a destructor.
    pub(crate) fn abandon(&self) -> Option<Payload> {
        self.core()?.clear()
    }

    /// Drops every task, whatever it holds, and accepts no more. Gives the first panic of a destructor.
    pub(crate) fn close(&self) -> Option<Payload> {
        self.is_closed.set(true);
        let core = self.core()?;
        let panic = core.clear();
        let (body, parent, waker) = (core.body.take()?, core.parent.take(), core.waker.take());
        self.core.set(None);
        // SAFETY: it is out of the set now, no task is left to point to it, and no reference to it is used any more.
        // Wakers of the body do nothing from now on.
        unsafe { block::end_core(body) };
        if let Some(parent) = parent {
            parent.drop_ref();
        }
        // User code, so it comes last.
        drop(waker);
        panic
    }
}

impl Core {
    #[inline]
    fn poll(&self, cx: &mut Context<'_>, members: &mut dyn Members) -> Polled {
        self.remember_waker(cx.waker());
        // Wakes from here on are found by this very loop.
        self.is_marked.set(true);
        self.is_granted.set(budget::is_turn_over());
        let drained = if unwind::is_plain() { self.drain_past_panics(members) } else { self.drain_in_shift(members) };
        match drained {
            Drained::Idle if !self.is_eventful.get() && !self.tasks.is_empty() => Polled::Waiting,
            drained => self.sum_up(drained, cx, members),
        }
    }

    /// How a poll has ended after which there is more to say than that tasks wait.
    #[inline(never)]
    fn sum_up(&self, drained: Drained, cx: &mut Context<'_>, members: &dyn Members) -> Polled {
        let is_eventful = self.is_eventful.take();
        match drained {
            Drained::Idle if self.is_empty() && (is_eventful || !members.has_body()) => return Polled::Done,
            Drained::Idle => {}
            // There is more to do than this turn allows: the mark stays, and so does the place in the queue above.
            Drained::Interrupted => cx.waker().wake_by_ref(),
        }
        if is_eventful { Polled::Pending } else { Polled::Waiting }
    }

    /// Polls what is ready where something else is current than what the polls need.
    #[inline(never)]
    fn drain_in_shift(&self, members: &mut dyn Members) -> Drained {
        let _shift = Shift::begin();
        if unwind::inspecting(|_| ()) { self.draw(members) } else { self.drain_past_panics(members) }
    }

    /// Panics are caught around the loop and not around each poll, which costs nothing while there is none.
    #[inline(never)]
    fn drain_past_panics(&self, members: &mut dyn Members) -> Drained {
        let _depth = Descent::new(self);
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.drain(members))) {
                Ok(drained) => return drained,
                Err(payload) => self.end_panicked(payload, members),
            }
        }
    }

    fn drain(&self, members: &mut dyn Members) -> Drained {
        if self.is_stopped() {
            return Drained::Interrupted;
        }
        loop {
            if self.is_unusual.get() {
                self.attend(members);
                if self.is_stopped() {
                    return Drained::Interrupted;
                }
            }
            let Some(task) = self.ready.first() else {
                self.polling.set(None);
                self.is_marked.set(false);
                return Drained::Idle;
            };
            if !budget::take_poll() && !self.is_granted.take() {
                if self.skip_ended() {
                    continue;
                }
                self.polling.set(None);
                return Drained::Interrupted;
            }
            self.ready.pop_first(task);
            if task.header().start() {
                self.poll_task(task, members);
            } else {
                self.poll_special(task, members);
            }
            if !unwind::is_plain() && self.is_stopped() {
                return Drained::Interrupted;
            }
        }
    }

    /// Takes out of the queue what was retired while it was in there, which takes no poll; `true` if nothing is left.
    #[cold]
    fn skip_ended(&self) -> bool {
        while let Some(task) = self.ready.first() {
            if !task.header().has(DONE) || task.header().has(LAST) {
                return false;
            }
            self.ready.pop_first(task);
            task.header().unset(QUEUED);
            task.drop_set_ref();
        }
        true
    }

    /// Whether a member has cancelled what is further up, so that nothing goes on here. Asked before each poll that
    /// comes after code of the user which was no poll of a task.
    fn is_stopped(&self) -> bool {
        Shift::drop_stray_scope();
        unwind::is_frozen() && matches!(Frozen::thaw(self.depth.get()), Frozen::Above)
    }

    /// Does what is seldom to be done before the next poll.
    #[cold]
    fn attend(&self, members: &mut dyn Members) {
        self.polling.set(None);
        if self.last_round.get() == LastRound::Over {
            self.doom_all();
        }
        self.cancel_doomed(members);
        if self.is_seeded {
            self.ready.bring_one_forward();
        }
        self.is_unusual.set(self.is_seeded);
    }

    #[inline]
    fn remember_waker(&self, waker: &Waker) {
        let task = waker::of_task(waker);
        if task.is_none() || task != self.parent.get() {
            self.replace_waker(task, waker);
        }
    }

    #[cold]
    fn replace_waker(&self, task: Option<TaskRef>, waker: &Waker) {
        // A task of another thread is woken as from any other thread.
        let task = task.filter(|task| task.header().is_at_home());
        let before = self.waker.take();
        if before.as_ref().is_some_and(|before| before.will_wake(waker)) {
            return self.waker.set(before);
        }
        if let Some(task) = task {
            task.clone_ref();
        } else {
            self.waker.set(Some(waker.clone()));
        }
        if let Some(parent) = self.parent.replace(task) {
            parent.drop_ref();
        }
        drop(before);
    }

    /// What is no task to be polled and nothing else: the body, a task that was retired while it was in the queue, or the
    /// last one of the last round.
    #[inline(never)]
    fn poll_special(&self, task: TaskRef, members: &mut dyn Members) {
        let header = task.header();
        self.polling.set(None);
        header.unset(QUEUED);
        if header.has(LAST) {
            header.unset(LAST);
            if self.last_round.get() == LastRound::Goes {
                self.last_round.set(LastRound::Over);
                self.is_unusual.set(true);
            }
        }
        if header.has(BODY) {
            self.polling.set(Some(task));
            if !members.poll_body(&mut Context::from_waker(&waker::borrowed(task))) {
                self.is_eventful.set(true);
            }
            self.polling.set(None);
        } else if header.has(DONE) {
            task.drop_set_ref();
        } else {
            header.set(STARTED);
            self.poll_task(task, members);
        }
    }

    /// Polls a task that is not done. A panic goes through; `end_panicked` does what is left to do then.
    ///
    /// `polling` is left as it is, for the next one to replace.
    #[inline(always)]
    fn poll_task(&self, task: TaskRef, members: &mut dyn Members) {
        let header = task.header();
        self.polling.set(Some(task));
        let waker = waker::borrowed(task);
        // SAFETY: home thread, inside the poll of the set, and `poll` is not entered twice: it takes the future that
        // polls the set, which cannot poll itself. The task was in a list, so it is not done.
        let step = unsafe { (header.vtable.poll)(task.as_ptr(), &mut Context::from_waker(&waker)) };
        let is_settled =
            unwind::is_plain() && (step == Step::Waiting || (step == Step::Value && self.retire_unnoticed(task)));
        if !is_settled {
            self.settle(task, step, members);
        }
    }

    /// What is to be done after a poll, unless that is little.
    #[inline(never)]
    fn settle(&self, task: TaskRef, step: Step, members: &mut dyn Members) {
        self.polling.set(None);
        owner_of(task).end_poll();
        let ended = match step {
            Step::Waiting | Step::Pending => return self.count_holding(task),
            Step::Value => None,
            Step::Failed => Some(Ended::Failed),
            Step::Unwound => Some(owner_of(task).take_panic().map_or(Ended::Cancelled, Ended::Panicked)),
        };
        self.retire(task, ended, members);
    }

    /// Ends the member whose poll has panicked.
    #[cold]
    fn end_panicked(&self, payload: Payload, members: &mut dyn Members) {
        let Some(task) = self.polling.take() else {
            // No member's doing, so not for the group to keep.
            resume_unwind(payload)
        };
        if task.header().has(BODY) {
            self.is_eventful.set(true);
            members.end_body(payload);
        } else {
            owner_of(task).end_poll();
            drop_if_present(task);
            if task.header().has(FAILED) {
                self.react(&members.end_task(Ended::Failed, task.header().location));
            }
            self.retire(task, Some(Ended::Panicked(payload)), members);
        }
    }

    #[inline]
    fn count_holding(&self, task: TaskRef) {
        let header = task.header();
        let owner = owner_of(task);
        // A task that has never met a node is not counted either.
        if !owner.is_plain() && owner.holds() != header.has(HOLDS) {
            self.set_holding(task, owner.holds());
        }
    }

    #[cold]
    fn set_holding(&self, task: TaskRef, holds: bool) {
        self.is_eventful.set(true);
        let n_holding = &self.n_holding;
        if holds {
            task.header().set(HOLDS);
            n_holding.set(n_holding.get() + 1);
        } else {
            task.header().unset(HOLDS);
            n_holding.set(n_holding.get() - 1);
        }
    }

    fn cancel_doomed(&self, members: &mut dyn Members) {
        while let Some(task) = self.doomed.first() {
            let is_plain = !task.header().has(HOLDS | JOINED) && self.limit == usize::MAX && owner_of(task).is_plain();
            if is_plain {
                self.drop_plain(task, members);
            } else {
                self.doomed.remove(task);
                task.header().unset(DOOMED);
                self.tasks.push_back(task);
                self.cancel_task(task, members);
            }
        }
    }

    /// Drops a doomed task that nobody cares for and that has nothing to clean up.
    #[inline]
    fn drop_plain(&self, task: TaskRef, members: &mut dyn Members) {
        if let Err(payload) = drop_future(task) {
            return self.retire(task, Some(Ended::Panicked(payload)), members);
        }
        self.doomed.remove(task);
        if !task.header().has(QUEUED) {
            task.drop_set_ref();
        }
    }

    /// Drops the task's future, or lets it unwind if there is something to clean up.
    fn cancel_task(&self, task: TaskRef, members: &mut dyn Members) {
        let header = task.header();
        if header.has(STARTED) {
            let cancel = catch_unwind(AssertUnwindSafe(|| owner_of(task).cancel()));
            match cancel {
                Ok(Cancel::PollOn) => return waker::wake_at_home(task),
                Ok(Cancel::Drop) => {}
                Err(payload) => {
                    // A waker of a node panicked; the scope unwinds all the same.
                    report_task_panic(payload, header.location);
                    return waker::wake_at_home(task);
                }
            }
        }
        let ended = match drop_future(task) {
            Ok(()) => Ended::Cancelled,
            Err(payload) => Ended::Panicked(payload),
        };
        self.retire(task, Some(ended), members);
    }

    /// Takes a task out whose future is gone and that nobody cares for; `false` if there is more to do.
    #[inline]
    fn retire_unnoticed(&self, task: TaskRef) -> bool {
        let header = task.header();
        let is_plain = !header.has(HOLDS | DOOMED | QUEUED | JOINED | PLACED) && owner_of(task).is_plain();
        if is_plain {
            self.tasks.remove(task);
            task.drop_set_ref();
        }
        is_plain
    }

    /// Takes a task out whose future is gone, and tells who cares.
    #[cold]
    fn retire(&self, task: TaskRef, ended: Option<Ended>, members: &mut dyn Members) {
        let location = task.header().location;
        let joiner = self.take_out(task);
        if let Some(ended) = ended {
            self.react(&members.end_task(ended, location));
        }
        wake_joiner(joiner, location);
    }

    /// Takes a task out whose future is gone, and gives its place to the next. Gives who awaits it.
    fn take_out(&self, task: TaskRef) -> Option<Box<Waker>> {
        self.is_eventful.set(true);
        let header = task.header();
        self.unlink(task);
        if header.has(HOLDS) {
            self.set_holding(task, false);
        }
        drop(std::mem::take(owner_of(task)));
        header.unset(JOINED);
        let joiner = header.joiner.take();
        if header.has(PLACED) {
            self.n_running.set(self.n_running.get() - 1);
        }
        if !header.has(QUEUED) {
            task.drop_set_ref();
        }
        if self.limit != usize::MAX {
            self.start_waiting();
        }
        joiner
    }

    fn react(&self, reaction: &Reaction) {
        match reaction {
            Reaction::GoOn => {}
            Reaction::CancelRest => self.doom_all(),
            Reaction::CancelAfterRound => match self.ready.last() {
                Some(last) => {
                    last.header().set(LAST);
                    self.last_round.set(LastRound::Goes);
                }
                None => self.doom_all(),
            },
        }
    }

    /// Gives the places that are free to those who wait for one, and lets go of those who have ended meanwhile.
    fn start_waiting(&self) {
        while let Some(task) = self.waiting.first() {
            let has_ended = task.header().has(DONE);
            if !has_ended && self.n_running.get() >= self.limit {
                return;
            }
            self.waiting.pop_first(task);
            if has_ended {
                task.header().unset(QUEUED);
                task.drop_set_ref();
            } else {
                self.give_place_to(task);
                self.ready.push(task);
            }
        }
    }

    /// Draws every member: what it is, and by a poll in inspecting mode what it waits for.
    #[cold]
    fn draw(&self, members: &mut dyn Members) -> Drained {
        let _depth = Descent::new(self);
        if let Some(body) = self.body.get().filter(|_| members.has_body()) {
            unwind::inspecting(|drawing| drawing.enter("the body".into()));
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.poll_special(body, members))) {
                self.end_panicked(payload, members);
            }
            unwind::inspecting(unwind::Inspection::leave);
        }
        let tasks: Vec<TaskRef> = self.tasks.iter().collect();
        tasks.iter().for_each(|task| task.clone_ref());
        for task in tasks {
            Shift::drop_stray_scope();
            let header = task.header();
            if !header.has(DONE) {
                let stage = match (header.has(STARTED), owner_of(task).is_unwinding()) {
                    (false, _) => " (not started)",
                    (true, true) => " (cleaning up)",
                    (true, false) => "",
                };
                unwind::inspecting(|drawing| drawing.enter(format!("task{stage}, {}", spawned_at(header.location))));
                if header.has(STARTED)
                    && let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.poll_task(task, members)))
                {
                    self.end_panicked(payload, members);
                }
                unwind::inspecting(unwind::Inspection::leave);
            }
            task.drop_ref();
        }
        Drained::Interrupted
    }

    /// Drops every task, whatever it holds. Gives the first panic of a destructor.
    fn clear(&self) -> Option<Payload> {
        let mut first = None;
        while let Some(task) = self.doomed.first().or_else(|| self.tasks.first()) {
            let location = task.header().location;
            match drop_future(task) {
                Err(payload) if first.is_none() => first = Some(payload),
                Err(payload) => report_task_panic(payload, location),
                Ok(()) => {}
            }
            let joiner = self.take_out(task);
            wake_joiner(joiner, location);
        }
        self.last_round.set(LastRound::None);
        for queue in [&self.ready, &self.waiting] {
            while let Some(task) = queue.pop() {
                task.header().unset(QUEUED);
                if !task.header().has(BODY) {
                    task.drop_set_ref();
                }
            }
        }
        first
    }
}

impl Drop for TaskSet<'_> {
    fn drop(&mut self) {
        if let Some(payload) = self.close() {
            if std::thread::panicking() {
                report_panic("a destructor panicked", payload);
            } else {
                std::panic::resume_unwind(payload);
            }
        }
    }
}

/// The owner of a task, for the code that polls or retires it.
fn owner_of<'a>(task: TaskRef) -> &'a mut Owner {
    // SAFETY: `owner` is touched by the poll and the drop of the set only, one task at a time, and each of the callers
    // is done with the reference before it runs anything else.
    unsafe { &mut *task.header().owner.get() }
}

/// Drops the future of a task that is not done.
fn drop_future(task: TaskRef) -> Result<(), Payload> {
    // SAFETY: called by the poll or the drop of the task's own set, not from inside the task's poll, for a task that is
    // in a list and so is not done.
    catch_unwind(AssertUnwindSafe(|| unsafe { (task.header().vtable.drop_future)(task.as_ptr()) }))
}

/// Drops the future of a task whose poll has panicked, unless it was the drop of the future that panicked.
fn drop_if_present(task: TaskRef) {
    if !task.header().has(DONE)
        && let Err(payload) = drop_future(task)
    {
        report_task_panic(payload, task.header().location);
    }
}

/// A waker may panic, and the set must go on.
#[inline]
fn wake_joiner(joiner: Option<Box<Waker>>, location: &Location<'_>) {
    if let Some(joiner) = joiner
        && let Err(payload) = catch_unwind(AssertUnwindSafe(|| (*joiner).wake()))
    {
        report_task_panic(payload, location);
    }
}

fn report_task_panic(payload: Payload, location: &Location<'_>) {
    report_panic(&format!("a task {} panicked as well", spawned_at(location)), payload);
}

/// One level down for the time of a poll.
struct Descent;

impl Descent {
    fn new(core: &Core) -> Self {
        core.depth.set(DEPTH.get());
        DEPTH.set(DEPTH.get() + 1);
        Self
    }
}

impl Drop for Descent {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}
