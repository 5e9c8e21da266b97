//! A set of tasks that one future polls: the ready queue, the lists, and the only code that polls or drops a task.

use std::cell::Cell;
use std::future::pending;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};

use super::block::{self, Step};
use super::budget;
use super::handle::Handle;
use super::links::{List, Queue};
use super::refs::{BODY, DONE, DOOMED, HANDLE, HOLDS, JOINED, POLLING, QUEUED, STARTED, TaskRef, WAITING};
use super::schedule;
use super::waker::{self, Climb};
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

/// How a poll of the set's tasks has ended.
enum Drained {
    /// Nothing is ready any more.
    Idle,
    /// There is more to do, in the next turn.
    Interrupted,
}

/// Hears of every task that ends without a value, and says what becomes of its siblings.
type OnEnd<'a> = &'a mut dyn FnMut(Ended, &'static Location<'static>) -> Reaction;

/// Tasks that may borrow for `'env`, polled by whoever polls the set and dropped with it.
pub(crate) struct TaskSet<'env> {
    /// On the heap, so that a waker that is around when the set is moved or leaked has something to point to. Made by
    /// the first task, freed when the set is closed.
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
    n_holding: Cell<usize>,
    /// Whoever polls the set knows already that there is something to do.
    is_marked: Cell<bool>,
    polling: Cell<Option<TaskRef>>,
    /// Whose waker the body of the group is polled with, so that a task's wake does not poll the body.
    body: Cell<Option<TaskRef>>,
    is_body_woken: Cell<bool>,
    /// The last of the round after which the rest is to be cancelled; it is in the ready queue.
    last_of_round: Cell<Option<TaskRef>>,
    depth: Cell<u32>,
    /// The waker the set was polled with last: one level up.
    waker: Cell<Option<Waker>>,
}

thread_local! {
    /// How many sets are being polled on this thread, one inside the other.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

impl Core {
    pub(super) fn depth(&self) -> u32 {
        self.depth.get()
    }

    /// Notes that there is something to do; gives the task that polls this set if it is to be woken for it.
    #[inline]
    pub(super) fn mark(&self) -> Option<TaskRef> {
        if self.is_marked.replace(true) { None } else { self.climb() }
    }

    fn climb(&self) -> Option<TaskRef> {
        let waker = self.waker.take()?;
        match waker::climb(&waker) {
            Climb::Task(parent) => {
                self.waker.set(Some(waker));
                Some(parent)
            }
            Climb::Woken => {
                self.waker.set(Some(waker));
                None
            }
            Climb::Foreign => {
                // User code, which may even free this core: nothing is touched after it. The next poll brings a waker again.
                waker.wake();
                None
            }
        }
    }

    #[inline]
    fn wake_up(&self) {
        if let Some(parent) = self.mark() {
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
        self.wake_up();
    }

    /// Puts every task among those to be cancelled at the next poll.
    fn doom_all(&self) {
        // The task that is being polled right now is cancelled code from here on.
        if self.polling.get().is_some_and(|task| !task.header().has(DOOMED | DONE)) {
            unwind::freeze(self.depth());
        }
        while let Some(task) = self.tasks.pop_front() {
            task.header().set(DOOMED);
            self.doomed.push_back(task);
        }
        if !self.doomed.is_empty() {
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
            self.n_running.set(self.n_running.get() + 1);
        } else {
            task.header().set(WAITING);
            self.waiting.push(task);
        }
        has_place
    }

    fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.doomed.is_empty()
    }

    fn unlink(&self, task: TaskRef) {
        let list = if task.header().has(DOOMED) { &self.doomed } else { &self.tasks };
        list.remove(task);
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

    #[cold]
    fn make_core(&self) -> NonNull<Core> {
        let core = Box::new(Core {
            ready: Queue::default(),
            waiting: Queue::default(),
            tasks: List::default(),
            doomed: List::default(),
            limit: self.limit,
            is_seeded: schedule::is_seeded(),
            n_running: Cell::new(0),
            n_holding: Cell::new(0),
            is_marked: Cell::new(false),
            polling: Cell::new(None),
            body: Cell::new(None),
            is_body_woken: Cell::new(false),
            last_of_round: Cell::new(None),
            depth: Cell::new(0),
            waker: Cell::new(None),
        });
        let core = NonNull::from(Box::leak(core));
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
        let core = self.core.get().unwrap_or_else(|| self.make_core());
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

    /// Polls what is ready, until nothing is or the turn is over. `Ready` when no task is left.
    ///
    /// If `is_granted`, at least one task is polled, even if the turn is over; once a turn, so that no set starves.
    pub(crate) fn poll(&self, cx: &mut Context<'_>, is_granted: bool, on_end: OnEnd<'_>) -> Poll<()> {
        match self.core() {
            Some(core) => core.poll(cx, is_granted, on_end),
            None => Poll::Ready(()),
        }
    }

    /// Calls `poll` with a waker that wakes the group's body and not its tasks. `None` while there never was a task: then
    /// whatever wakes the group is meant for the body.
    pub(crate) fn with_body_waker<R>(&self, poll: impl FnOnce(Option<&Waker>) -> R) -> R {
        let Some(core) = self.core.get() else { return poll(None) };
        // SAFETY: the set is not closed, so the core is alive.
        let body = unsafe { core.as_ref() }.body_or_insert(core);
        poll(Some(&waker::borrowed(body)))
    }

    /// Whether the body was woken since the last call.
    pub(crate) fn take_body_woken(&self) -> bool {
        self.core().is_some_and(|core| core.is_body_woken.take())
    }

    pub(crate) fn is_body_woken(&self) -> bool {
        self.core().is_some_and(|core| core.is_body_woken.get())
    }

    /// Whether the rest is to be cancelled, but those that are ready have not all been polled yet.
    pub(crate) fn is_in_last_round(&self) -> bool {
        self.core().is_some_and(|core| core.last_of_round.get().is_some())
    }

    /// Drops every task, whatever it holds. Gives the first panic of a destructor.
    pub(crate) fn abandon(&self) -> Option<Payload> {
        self.core()?.clear()
    }

    /// Drops every task, whatever it holds, and accepts no more. Gives the first panic of a destructor.
    pub(crate) fn close(&self) -> Option<Payload> {
        self.is_closed.set(true);
        let panic = self.core()?.clear();
        self.core()?.drop_body();
        let core = self.core.take()?;
        // SAFETY: `make_core` leaked it from a box; it is out of the set now, and no task is left to point to it.
        drop(unsafe { Box::from_raw(core.as_ptr()) });
        panic
    }
}

impl Core {
    /// Polls what is ready, until nothing is or the turn is over. `Ready` when no task is left.
    fn poll(&self, cx: &mut Context<'_>, is_granted: bool, on_end: OnEnd<'_>) -> Poll<()> {
        self.remember_waker(cx.waker());
        let _depth = Descent::new(self);
        let _shift = Shift::begin();
        // Wakes from here on are found by this very loop.
        self.is_marked.set(true);
        let drained =
            if unwind::inspecting(|_| ()) { self.draw(on_end) } else { self.drain_past_panics(is_granted, on_end) };
        match drained {
            Drained::Idle if self.is_empty() => Poll::Ready(()),
            Drained::Idle => Poll::Pending,
            Drained::Interrupted => {
                // There is more to do than this turn allows: the mark stays, and so does the place in the queue above.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    /// Panics are caught around the loop and not around each poll, which costs nothing while there is none.
    fn drain_past_panics(&self, is_granted: bool, on_end: OnEnd<'_>) -> Drained {
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.drain(is_granted, on_end))) {
                Ok(drained) => return drained,
                Err(payload) => self.end_panicked(payload, on_end),
            }
        }
    }

    fn drain(&self, mut is_granted: bool, on_end: OnEnd<'_>) -> Drained {
        loop {
            if !self.doomed.is_empty() {
                self.cancel_doomed(on_end);
            }
            if unwind::is_frozen() {
                match Frozen::thaw(self.depth()) {
                    Frozen::Above => return Drained::Interrupted,
                    Frozen::Here => continue,
                }
            }
            if self.ready.is_empty() {
                self.is_marked.set(false);
                return Drained::Idle;
            }
            if !budget::take_poll(is_granted) {
                return Drained::Interrupted;
            }
            is_granted = false;
            if let Some(task) = self.pop_ready() {
                self.poll_popped(task, on_end);
            }
        }
    }

    #[inline]
    fn pop_ready(&self) -> Option<TaskRef> {
        if self.is_seeded { self.ready.pop_drawn() } else { self.ready.pop() }
    }

    fn remember_waker(&self, waker: &Waker) {
        let before = self.waker.take();
        match before {
            Some(same) if same.will_wake(waker) => self.waker.set(Some(same)),
            before => {
                self.waker.set(Some(waker.clone()));
                drop(before);
            }
        }
    }

    #[inline]
    fn poll_popped(&self, task: TaskRef, on_end: OnEnd<'_>) {
        task.header().unset(QUEUED);
        if task.header().has(DONE | BODY) {
            self.pass_by(task);
        } else {
            self.poll_task(task, on_end);
        }
        self.end_round_after(task);
    }

    /// What was in the queue and is not to be polled.
    #[cold]
    fn pass_by(&self, task: TaskRef) {
        if task.header().has(BODY) {
            self.is_body_woken.set(true);
        } else {
            // It was retired while it was in the queue.
            task.drop_set_ref();
        }
    }

    /// What stands for the body in the ready queue.
    fn body_or_insert(&self, core: NonNull<Self>) -> TaskRef {
        self.body.get().unwrap_or_else(|| {
            let body = block::allocate(pending::<()>(), Some, core, Location::caller());
            body.header().set(BODY);
            body.header().unset(HANDLE);
            body.drop_handle_ref_early();
            self.body.set(Some(body));
            body
        })
    }

    /// Lets go of it; wakers of the body do nothing from now on.
    fn drop_body(&self) {
        if let Some(body) = self.body.take() {
            body.header().set(DONE);
            body.drop_set_ref();
        }
    }

    /// Polls a task that is not done. A panic goes through; `end_panicked` does what is left to do then.
    #[inline(always)]
    fn poll_task(&self, task: TaskRef, on_end: OnEnd<'_>) {
        let header = task.header();
        header.set(POLLING | STARTED);
        self.polling.set(Some(task));
        let waker = waker::borrowed(task);
        // SAFETY: home thread, inside the poll of the set, and `poll` is not entered twice: it takes the future that
        // polls the set, which cannot poll itself. The task was in a list, so it is not done.
        let step = unsafe { (header.vtable.poll)(task.as_ptr(), &mut Context::from_waker(&waker)) };
        self.polling.set(None);
        header.unset(POLLING);
        owner_of(task).end_poll();
        match step {
            Step::Pending => self.count_holding(task),
            Step::Value if self.retire_unnoticed(task) => {}
            Step::Value => self.retire(task, None, on_end),
            Step::Failed => self.retire(task, Some(Ended::Failed), on_end),
            Step::Unwound => {
                let panic = owner_of(task).take_panic();
                self.retire(task, Some(panic.map_or(Ended::Cancelled, Ended::Panicked)), on_end);
            }
        }
    }

    /// Ends the task whose poll has panicked.
    #[cold]
    fn end_panicked(&self, payload: Payload, on_end: OnEnd<'_>) {
        let Some(task) = self.polling.take() else {
            // No task's doing, so not for the group to keep.
            resume_unwind(payload)
        };
        task.header().unset(POLLING);
        owner_of(task).end_poll();
        drop_if_present(task);
        self.retire(task, Some(Ended::Panicked(payload)), on_end);
        self.end_round_after(task);
    }

    /// Cancels the tasks if this was the last one that was to be polled before.
    #[inline]
    fn end_round_after(&self, task: TaskRef) {
        if self.last_of_round.get() == Some(task) {
            self.last_of_round.set(None);
            self.doom_all();
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
        let n_holding = &self.n_holding;
        if holds {
            task.header().set(HOLDS);
            n_holding.set(n_holding.get() + 1);
        } else {
            task.header().unset(HOLDS);
            n_holding.set(n_holding.get() - 1);
        }
    }

    fn cancel_doomed(&self, on_end: OnEnd<'_>) {
        while let Some(task) = self.doomed.pop_front() {
            task.header().unset(DOOMED);
            self.tasks.push_back(task);
            self.cancel_task(task, on_end);
        }
    }

    /// Drops the task's future, or lets it unwind if there is something to clean up.
    fn cancel_task(&self, task: TaskRef, on_end: OnEnd<'_>) {
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
        self.retire(task, Some(ended), on_end);
    }

    /// Takes a task out whose future is gone and that nobody cares for; `false` if there is more to do.
    #[inline]
    fn retire_unnoticed(&self, task: TaskRef) -> bool {
        let header = task.header();
        let is_plain =
            !header.has(HOLDS | DOOMED | QUEUED | JOINED) && self.limit == usize::MAX && owner_of(task).is_plain();
        if is_plain {
            self.tasks.remove(task);
            task.drop_set_ref();
        }
        is_plain
    }

    /// Takes a task out whose future is gone, tells who cares, and gives its place to the next.
    #[cold]
    fn retire(&self, task: TaskRef, ended: Option<Ended>, on_end: OnEnd<'_>) {
        let header = task.header();
        self.unlink(task);
        if header.has(HOLDS) {
            self.set_holding(task, false);
        }
        drop(std::mem::take(owner_of(task)));
        header.unset(JOINED);
        let joiner = header.joiner.take();
        let location = header.location;
        if self.limit != usize::MAX {
            self.give_place_of(task);
        }
        if !header.has(QUEUED) {
            task.drop_set_ref();
        }
        if let Some(ended) = ended {
            self.react(&on_end(ended, location));
        }
        if let Some(joiner) = joiner {
            wake_joiner(joiner, location);
        }
    }

    /// The place of a task that has ended is for the next one that waits for a place.
    fn give_place_of(&self, task: TaskRef) {
        if !task.header().has(WAITING) {
            self.n_running.set(self.n_running.get() - 1);
        }
        self.start_waiting();
    }

    fn react(&self, reaction: &Reaction) {
        match reaction {
            Reaction::GoOn => {}
            Reaction::CancelAfterRound if !self.ready.is_empty() => self.last_of_round.set(self.ready.last()),
            Reaction::CancelRest | Reaction::CancelAfterRound => self.doom_all(),
        }
    }

    fn start_waiting(&self) {
        while self.n_running.get() < self.limit {
            let Some(task) = self.waiting.pop() else { return };
            if task.header().has(DONE) {
                task.header().unset(QUEUED);
                task.drop_set_ref();
                continue;
            }
            task.header().unset(WAITING);
            self.n_running.set(self.n_running.get() + 1);
            self.ready.push(task);
        }
    }

    /// Draws every task: what it is, and by a poll in inspecting mode what it waits for.
    #[cold]
    fn draw(&self, on_end: OnEnd<'_>) -> Drained {
        let tasks: Vec<TaskRef> = self.tasks.iter().collect();
        tasks.iter().for_each(|task| task.clone_ref());
        for task in tasks {
            let header = task.header();
            if !header.has(DONE) {
                let stage = match (header.has(STARTED), owner_of(task).is_unwinding()) {
                    (false, _) => " (not started)",
                    (true, true) => " (cleaning up)",
                    (true, false) => "",
                };
                unwind::inspecting(|drawing| drawing.enter(format!("task{stage}, {}", spawned_at(header.location))));
                if header.has(STARTED)
                    && let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.poll_task(task, on_end)))
                {
                    self.end_panicked(payload, on_end);
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
        let mut keep_first = |ended: Ended, location: &'static Location<'static>| {
            if let Ended::Panicked(payload) = ended {
                if first.is_none() {
                    first = Some(payload);
                } else {
                    report_task_panic(payload, location);
                }
            }
            Reaction::GoOn
        };
        while let Some(task) = self.doomed.first().or_else(|| self.tasks.first()) {
            let ended = match drop_future(task) {
                Ok(()) => Ended::Cancelled,
                Err(payload) => Ended::Panicked(payload),
            };
            self.retire(task, Some(ended), &mut keep_first);
        }
        self.last_of_round.set(None);
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
fn wake_joiner(joiner: Box<Waker>, location: &Location<'_>) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| (*joiner).wake())) {
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
