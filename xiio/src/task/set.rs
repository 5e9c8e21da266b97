//! A set of tasks that one future polls: the ready queue and the lists.

mod crowd;
mod ending;
mod polling;
mod seldom;

pub(crate) use polling::{is_awaited_above, may_be_cancelled_next};

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::block;
use super::handle::Handle;
use super::home::{Home, Listener};
use super::limits;
use super::links::{List, Queue};
use super::refs::{BODY, DONE, DOOMED, LOCALS, NAMED, PLACED, RECORDED, TaskRef};
use super::schedule;
use super::waker;
use crate::drawing::{Drawing, Node};
use crate::error::Payload;
use crate::local::{self, Locals};
use crate::recording::{self, End, Place, Why};
use crate::report::{Held, Origin, report_panic, waking};
use crate::unwind;
use crowd::Crowd;
use seldom::Seldom;

/// How a task has ended that gave no value.
pub(crate) enum Ended {
    /// By itself, as a failure that its future has put elsewhere.
    Failed,
    /// It was cancelled and has cleaned up.
    Cancelled,
    /// It, its destructors or its cleanup panicked.
    Panicked(Payload),
}

impl Ended {
    /// As a recording has it. What ends a race is the value of the winner.
    fn noted(&self, members: &dyn Members) -> End {
        match self {
            Self::Failed if members.has_winner() => End::Value,
            Self::Failed => End::Failure,
            Self::Cancelled => End::Cancelled,
            Self::Panicked(_) => End::Panic,
        }
    }
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

/// The group that a set belongs to, and in it the one member that is no task.
pub(crate) trait Members {
    /// Polls the body of the group, which has a place in the queue like any task; `true` if it just waits, with nothing to
    /// clean up. May panic.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> bool;

    /// Whether the body has not ended.
    fn has_body(&self) -> bool;

    /// The group, as it is drawn.
    fn node(&self) -> Node;

    /// The poll of the body has panicked.
    fn end_body(&mut self, payload: Payload);

    /// A task has ended without a value. If its siblings are to be cancelled they are doomed by that, before any of them is polled.
    fn end_task(&mut self, ended: Ended, origin: Origin);

    /// Whether a member that fails has won, and not failed.
    fn has_winner(&self) -> bool {
        false
    }

    /// The last round is over, so the rest is to be doomed.
    fn end_last_round(&mut self);

    /// Until when a task may clean up that is cancelled now; `None` if that is not its own affair.
    fn end_of_grace(&self) -> Option<Instant>;
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
    /// So many of `waiting` may end before those who have are let go of.
    n_may_end: Cell<usize>,
    tasks: List,
    /// To be cancelled at the next poll.
    doomed: List,
    limit: usize,
    /// A new task is looked at before it is ready: there is a limit, a recording, or a crowd.
    has_gate: bool,
    /// Counted only where there is a limit.
    n_running: Cell<usize>,
    /// There if somebody wants to know of many tasks.
    crowd: Option<Box<Crowd>>,
    /// The order of polls is drawn from a seed.
    is_seeded: bool,
    /// Somebody wants to know of each poll.
    is_noted: bool,
    /// What happens to the members is recorded.
    is_recorded: bool,
    /// There is something to do before the next poll: a task is doomed, the last round is over, the order is drawn, the tasks
    /// are many, or polls are noted.
    is_unusual: Cell<bool>,
    n_holding: Cell<usize>,
    /// Of the tasks that have the flag `NAMED`.
    names: Seldom<Cow<'static, str>>,
    /// Of the tasks that have the flag `LOCALS`.
    locals: Seldom<Locals>,
    /// Tasks that clean up, until when they may, the first one first. Counted.
    cleaning: RefCell<VecDeque<(Instant, TaskRef)>>,
    /// More has happened since the last poll than that tasks wait: the group has to look at all that it looks at.
    is_eventful: Cell<bool>,
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
    /// For that waker, unless it is the root's.
    listener: Cell<Option<Listener>>,
}

/// How far the last round is: those that were ready when a member failed are polled once more, as they may have failures of their
/// own, and the rest is cancelled afterwards.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LastRound {
    None,
    /// The last one is in the ready queue, with the flag `LAST`.
    Goes,
    /// The last one has been polled.
    Over,
}

impl Core {
    fn new(limit: usize) -> Self {
        let (is_seeded, is_recorded) = (schedule::is_seeded(), recording::is_on());
        let is_noted = is_recorded || limits::current().are_for_polls();
        let crowd = Crowd::watched();
        Self {
            ready: Queue::default(),
            waiting: Queue::default(),
            n_may_end: Cell::new(0),
            tasks: List::default(),
            doomed: List::default(),
            limit,
            has_gate: limit != usize::MAX || is_recorded || crowd.is_some(),
            is_seeded,
            is_noted,
            is_recorded,
            is_unusual: Cell::new(is_seeded || is_noted),
            n_running: Cell::new(0),
            crowd,
            n_holding: Cell::new(0),
            names: Seldom::default(),
            locals: Seldom::default(),
            cleaning: RefCell::default(),
            is_eventful: Cell::new(true),
            // The body is in the queue from the start, and who polls the set knows it.
            is_marked: Cell::new(true),
            polling: Cell::new(None),
            body: Cell::new(None),
            last_round: Cell::new(LastRound::None),
            depth: Cell::new(0),
            parent: Cell::new(None),
            waker: Cell::new(None),
            listener: Cell::new(None),
        }
    }

    /// The depth of this set, if it is polling `task` right now.
    pub(super) fn depth_if_polling(&self, task: TaskRef) -> Option<u32> {
        (self.polling.get() == Some(task)).then(|| self.depth.get())
    }

    pub(super) fn set_name(&self, task: TaskRef, name: Cow<'static, str>) {
        task.header().set(NAMED);
        self.names.insert(task, name);
        if task.header().has(RECORDED) {
            recording::described(task.key(), &self.node_of(task));
        }
    }

    pub(super) fn name_of(&self, task: TaskRef) -> Option<Cow<'static, str>> {
        if task.header().has(NAMED) { self.names.get(task) } else { None }
    }

    /// Has a new task keep what it inherits.
    #[cold]
    fn keep_locals(&self, task: TaskRef) {
        let Some(locals) = local::inherited() else { return };
        task.header().set(LOCALS);
        self.locals.insert(task, locals);
    }

    /// What is current while a task is polled or dropped, if that is not what is current around it.
    fn locals_of(&self, task: TaskRef) -> Option<Locals> {
        if task.header().has(LOCALS) { self.locals.get(task) } else { None }
    }

    /// Forgets what a task has kept that ends. Values are code of the user.
    #[must_use = "values must be dropped when the step is complete"]
    fn take_locals(&self, task: TaskRef) -> Option<Locals> {
        if !task.header().has(LOCALS) {
            return None;
        }
        task.header().unset(LOCALS);
        self.locals.remove(task)
    }

    /// Forgets the name of a task that ends, and gives what a report calls it.
    fn take_origin(&self, task: TaskRef) -> Origin {
        let is_named = task.header().has(NAMED);
        let name = if is_named { self.names.remove(task) } else { None };
        task.header().unset(NAMED);
        Origin { name, ..Origin::at(task.header().location) }
    }

    /// What a report calls a task.
    fn origin_of(&self, task: TaskRef) -> Origin {
        Origin { name: self.name_of(task), ..Origin::at(task.header().location) }
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

    /// Wakes whoever polls this set and is no task.
    #[cold]
    fn wake_outside(&self) {
        let Some(waker) = self.waker.take() else { return };
        match Home::of_root_waker(&waker) {
            Some(home) => {
                self.waker.set(Some(waker));
                home.wake_root();
            }
            // User code, which may even free this core: nothing is touched after it. The next poll brings a waker again. A panic of it would
            // come out of whatever has woken a task, the poll of a group among that, whose members would be lost.
            None => waking(|| waker.wake()),
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
            waker::wake_ancestors(parent);
        }
    }

    /// Puts a task among those to be cancelled at the next poll, as was asked for at `place`.
    pub(super) fn doom_one(&self, task: TaskRef, place: Place) {
        if task.header().has(DOOMED) {
            return;
        }
        if task.header().has(RECORDED) {
            recording::cancelled(Some(task.key()), Why::AskedFor, place);
            // A subscriber of `tracing` is code of the user: it may have cancelled the task as well, or ended the set.
            if task.header().has(DOOMED | DONE) {
                return;
            }
        }
        task.header().set(DOOMED);
        self.tasks.remove(task);
        self.doomed.push_back(task);
        self.is_unusual.set(true);
        self.wake_up();
    }

    /// Puts every task among those to be cancelled at the next poll. There is nothing left to wait for in a last round.
    fn doom_all(&self, place: Place) {
        if self.last_round.replace(LastRound::None) != LastRound::None {
            self.is_eventful.set(true);
        }
        // The task that is being polled right now is cancelled code from here on.
        if self.polling.get().is_some_and(|task| !task.header().has(DOOMED | DONE | BODY)) {
            unwind::freeze(self.depth.get());
        }
        if self.is_recorded {
            // A subscriber of `tracing` is code of the user, and nothing for the middle of a list.
            let keys: Vec<usize> = self.tasks.iter().map(TaskRef::key).collect();
            keys.into_iter().for_each(|key| recording::cancelled(Some(key), Why::WithGroup, place));
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
    fn accept(&self, task: TaskRef, is_beside: bool) {
        if local::is_any() {
            self.keep_locals(task);
        }
        self.tasks.push_back(task);
        if self.has_gate && !self.pass_gate(task, is_beside) {
            return;
        }
        self.ready.push(task);
        self.wake_up();
    }

    /// Whether a new task may run at once; if not, it waits for a place. One that is beside the others takes none.
    #[cold]
    fn pass_gate(&self, task: TaskRef, is_beside: bool) -> bool {
        if let Some(body) = self.body.get().filter(|_| self.is_recorded) {
            task.header().set(RECORDED);
            recording::spawned(task.key(), body.key(), || self.node_of(task));
        }
        if let Some(crowd) = &self.crowd {
            if crowd.add() {
                self.is_unusual.set(true);
            }
            if is_beside && self.limit != usize::MAX {
                task.header().set(PLACED);
                crowd.add_beside(task);
                return true;
            }
            // Without a limit as well: a task with the flag is counted out when it ends.
            return self.take_place(task);
        }
        is_beside || self.limit == usize::MAX || self.take_place(task)
    }

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
        // here is alive then: `poll` and `close` are called by the one future that owns the set. The others run no user
        // code while they use the core, but for a foreign waker at their very end, and for a subscriber of `tracing`. That may
        // drop the future: `doom_one` does not touch the core again where its task is done. The others are called inside the
        // poll or the drop of the future, which nobody can drop.
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
        // SAFETY: it was made right now, and the set has it until it is closed.
        let core_ref = unsafe { core.as_ref() };
        body.header().set(BODY | if core_ref.is_recorded { RECORDED } else { 0 });
        core_ref.body.set(Some(body));
        core_ref.ready.push(body);
        self.core.set(Some(core));
        core
    }

    /// Adds a task; `Err` gives the future back when the set is closed.
    ///
    /// `finish` makes the task's value of the future's output; `None` is a failure. One that `is_beside` the others takes none of the
    /// places that the limit leaves: whoever adds it sees to another limit.
    #[inline]
    pub(crate) fn insert<F, M, T>(
        &self,
        future: F,
        finish: M,
        location: &'static Location<'static>,
        is_beside: bool,
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
        // SAFETY: the set is not closed, so the core is alive.
        unsafe { core.as_ref() }.accept(task, is_beside);
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

    /// What draws the group, with what a recording knows of it.
    pub(crate) fn with_stats(&self, node: Node) -> Node {
        match self.core().and_then(|core| core.body.get()) {
            Some(body) => polling::with_stats(node, body),
            None => node,
        }
    }

    /// What the group is called in a recording.
    pub(crate) fn key(&self) -> Option<usize> {
        self.core().and_then(|core| core.body.get()).map(TaskRef::key)
    }

    /// Notes in a recording that the group is cancelled.
    pub(crate) fn note_cancelled(&self, why: Why, place: Place) {
        if let Some(body) = self.core().filter(|core| core.is_recorded).and_then(|core| core.body.get()) {
            recording::cancelled(Some(body.key()), why, place);
        }
    }

    /// Cancels the tasks that are there now, at the next poll. Safe to call from a task of the set.
    pub(crate) fn doom_all(&self, place: Place) {
        if let Some(core) = self.core() {
            core.doom_all(place);
        }
    }

    /// Has those that are ready now polled once more before the rest is cancelled; `false` if none is.
    pub(crate) fn begin_last_round(&self) -> bool {
        self.core().is_some_and(Core::begin_last_round)
    }

    /// Polls the body and the tasks that are ready, until nothing is or the turn is over; but at least one, so that no set
    /// starves.
    #[inline(always)]
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

    /// The waker of the body, which has it polled until the set is closed. `None` afterwards.
    pub(crate) fn body_waker(&self) -> Option<Waker> {
        if self.is_closed.get() {
            return None;
        }
        // SAFETY: as in `core`.
        let body = unsafe { self.core_or_make().as_ref() }.body.get()?;
        Some(Waker::clone(&waker::borrowed(body)))
    }

    /// Whether the rest is to be cancelled, but those that are ready have not all been polled yet.
    pub(crate) fn is_in_last_round(&self) -> bool {
        self.core().is_some_and(|core| core.last_round.get() != LastRound::None)
    }

    /// When the grace is over of the first task that has one of its own.
    pub(crate) fn end_of_first_grace(&self) -> Option<Instant> {
        self.core()?.end_of_first_grace()
    }

    /// Drops the task of which the grace is over first, whatever it holds. Gives a drawing of it, unless it has just ended.
    pub(crate) fn cut_off_first(&self, members: &mut dyn Members) -> Option<Drawing> {
        self.core()?.cut_off_first(members)
    }

    /// Drops every task, whatever it holds. Gives the first panic of a destructor.
    pub(crate) fn abandon(&self) -> Option<Payload> {
        self.core()?.clear()
    }

    /// Accepts no more tasks.
    pub(crate) fn refuse_more(&self) {
        self.is_closed.set(true);
    }

    /// Drops every task, whatever it holds, and accepts no more. Gives the first panic of a destructor.
    pub(crate) fn close(&self) -> Option<Payload> {
        self.is_closed.set(true);
        let core = self.core()?;
        let end = if core.is_recorded && !core.is_empty() { End::Dropped } else { End::Plain };
        let panic = core.clear();
        let (body, parent, waker) = (core.body.take()?, core.parent.take(), core.waker.take());
        let listener = core.listener.take();
        if body.header().has(RECORDED) {
            recording::ended(body.key(), end);
        }
        self.core.set(None);
        // SAFETY: it is out of the set now, no task is left to point to it, and no reference to it is used any more.
        // Wakers of the body do nothing from now on.
        unsafe { block::end_core(body) };
        if let Some(parent) = parent {
            parent.drop_ref();
        }
        // User code, so it comes last.
        drop((listener, waker.map(Held::new)));
        panic
    }
}

/// With what a recording knows of the task that `waker` is of, which is polled now.
pub(crate) fn with_stats(node: Node, waker: &Waker) -> Node {
    match waker::of_task(waker) {
        Some(task) => polling::with_stats(node, task),
        None => node,
    }
}

/// Notes that the task which `waker` is of, and which is polled now, is cancelled alone.
pub(crate) fn note_cancelled(waker: &Waker, place: Place) {
    if let Some(task) = waker::of_task(waker).filter(|task| task.header().has(RECORDED)) {
        recording::cancelled(Some(task.key()), Why::AskedFor, place);
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
