//! What spawns on the workers of a group, and what a job becomes there.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::slot::{HasSlot, Slot, WorkerTask};
use super::state::Group;
use crate::cores::{Crew, Ends, Errand, Job, Notes, Notice};
use crate::drawing::{self, Kind, State};
use crate::local::{self, SentLocals};
use crate::pin::Pinned;
use crate::recording::Place;
use crate::report::{Origin, ReportKind, Undelivered, report, report_if_err, report_late_err};
use crate::sync::{Mutex, lock};
use crate::task::{self, TaskSet, polls};
use crate::time::{Deadline, now};
use crate::unwind::{self, AllThereIs, Duty, Given, Node, Owner};

/// Where a group's handles find its workers, while there are any.
#[derive(Default)]
pub(super) struct Anchor {
    crew: Mutex<Option<Arc<Crew>>>,
}

impl Anchor {
    pub(super) fn new(crew: Option<Arc<Crew>>) -> Self {
        Self { crew: Mutex::new(crew) }
    }

    pub(super) fn crew(&self) -> Option<Arc<Crew>> {
        lock(&self.crew).clone()
    }

    pub(super) fn take(&self) -> Option<Arc<Crew>> {
        lock(&self.crew).take()
    }
}

/// What belongs to the thread of the group. Nothing sends it.
struct OfHome<'env>(PhantomData<*const &'env ()>);

// SAFETY: it does not apply, as the condition does not hold. It is there for a task on a worker that has captured its group: the
// compiler gives this one reason, and not one for each field.
unsafe impl<'env> Sync for Group<'env> where OfHome<'env>: Sync {}

/// Spawns on the workers of a group. Returned by [`TaskGroup::workers`](crate::TaskGroup::workers).
///
/// It may be copied, and used by tasks on the workers themselves.
#[derive(Clone, Copy)]
pub struct Workers<'env> {
    anchor: &'env Anchor,
    /// Invariant: what a task borrows for `'env` must not be taken for a shorter borrow.
    _env: PhantomData<fn(&'env ()) -> &'env ()>,
}

/// Spawns on the workers of a group whose tasks may fail. Returned by [`TryTaskGroup::workers`](crate::TryTaskGroup::workers).
///
/// It may be copied, and used by tasks on the workers themselves.
pub struct TryWorkers<'env, E> {
    workers: Workers<'env>,
    errors: &'env SentErrors<E>,
}

/// Errors that tasks on workers have left.
pub(super) type SentErrors<E> = Mutex<VecDeque<E>>;

impl<'env> Workers<'env> {
    pub(super) fn new(anchor: &'env Anchor) -> Self {
        Self { anchor, _env: PhantomData }
    }

    /// How many workers do the tasks, that is how many tasks [`Workers::each`] spawns. It is one where the group has none: with
    /// `workers = 0`, in a foreign loop, and in a test with virtual time or seeds. Zero when the group has ended.
    #[must_use]
    pub fn n_workers(&self) -> usize {
        self.anchor.crew().map_or(0, |crew| crew.n_workers())
    }

    /// Adds a task that runs on a worker. An idle worker takes it; once the task has begun it stays
    /// there.
    ///
    /// The closure is called on the worker, so only it has to be `Send`, not its future. It may borrow what was declared
    /// before the block. The group waits for the task as for any other, cancels it, and fails with its panic. An `Err` that
    /// the task ends with is a value like any other here; an `Err` that nobody takes is reported.
    ///
    /// # Examples
    /// ```
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    ///
    /// let texts = vec!["one".to_string(), "three".to_string()];
    /// let n_bytes = AtomicUsize::new(0);
    /// xiio::run(async {
    ///     xiio::task_group!(workers = 2, |tg| {
    ///         for text in &texts {
    ///             tg.workers().spawn(async || n_bytes.fetch_add(text.len(), Ordering::Relaxed));
    ///         }
    ///     });
    /// });
    /// assert_eq!(n_bytes.into_inner(), 8);
    /// ```
    #[track_caller]
    pub fn spawn<F, T>(&self, function: F) -> WorkerTask<T>
    where
        F: AsyncFnOnce() -> T + Send + 'env,
        T: Send + 'env,
    {
        self.spawn_at(None, function, Some, Location::caller())
    }

    /// Runs `function` once on each worker, with its number. The call spawns the tasks; the future gives their values, in
    /// the order of the workers. They do not wait for a place of the group's `limit`.
    ///
    /// # Panics
    /// The future panics when one of them was cancelled or failed, as awaiting a [`WorkerTask`] does.
    ///
    /// # Examples
    /// ```
    /// let numbers = xiio::run(async {
    ///     xiio::task_group!(workers = 3, |tg| {
    ///         tg.workers().each(async |n| n).await
    ///     })
    /// });
    /// assert_eq!(numbers, [0, 1, 2]);
    /// ```
    #[track_caller]
    pub fn each<F, T>(&self, function: F) -> impl Future<Output = Vec<T>> + use<F, T>
    where
        F: AsyncFn(usize) -> T + Send + Sync + 'env,
        T: Send + 'env,
    {
        outputs(self.each_at(function, Some, Location::caller()))
    }

    /// The tasks of [`Workers::each`]. `judge` is as for [`Workers::spawn_at`].
    fn each_at<F, O, T, J>(&self, function: F, judge: J, location: &'static Location<'static>) -> Vec<WorkerTask<T>>
    where
        F: AsyncFn(usize) -> O + Send + Sync + 'env,
        J: FnOnce(O) -> Option<T> + Clone + Send + 'env,
        T: Send + 'env,
        O: 'env,
    {
        let function = Arc::new(function);
        let spawn = |worker| {
            let function = Arc::clone(&function);
            self.spawn_at(Some(worker), async move || function(worker).await, judge.clone(), location)
        };
        (0..self.n_workers()).map(spawn).collect()
    }

    /// [`Workers::spawn`] in the name of somebody further up, and for one worker if it says so.
    /// `judge` makes a task's value of what the function gave; `None` is a failure whose error is with those of the group.
    pub(crate) fn spawn_at<F, O, T, J>(
        &self,
        worker: Option<usize>,
        function: F,
        judge: J,
        location: &'static Location<'static>,
    ) -> WorkerTask<T>
    where
        F: AsyncFnOnce() -> O + Send + 'env,
        J: FnOnce(O) -> Option<T> + Send + 'env,
        T: Send + 'env,
        O: 'env,
    {
        let content = Content { function, judge, locals: local::sent(), _output: PhantomData };
        let (slot, content) = (Slot::new(location), Mutex::new(Some(content)));
        let order = Arc::new(Order { slot, crew: self.anchor.crew(), content });
        let task = WorkerTask::new(Arc::clone(&order).share());
        let errand = Errand::new(order);
        let refused = match task.crew() {
            Some(crew) => crew.add(worker, errand).err(),
            None => Some(errand),
        };
        if let Some(errand) = refused {
            // SAFETY: it was made by this very call, from what the caller has handed in; so what it borrows is alive.
            unsafe { errand.discard() };
            let place = Origin::at(location);
            let text = format!("a task on a worker {place} was refused: its group has ended, or has no worker left");
            report(ReportKind::Refused, text);
        }
        task
    }
}

impl<'env, E: Send + 'env> TryWorkers<'env, E> {
    pub(super) fn new(anchor: &'env Anchor, errors: &'env SentErrors<E>) -> Self {
        Self { workers: Workers::new(anchor), errors }
    }

    /// How many workers do the tasks, see [`Workers::n_workers`].
    #[must_use]
    pub fn n_workers(&self) -> usize {
        self.workers.n_workers()
    }

    /// Adds a task that runs on a worker, as [`Workers::spawn`] does. An `Err` from it is the group's.
    ///
    /// # Examples
    /// ```
    /// use xiio::try_task_group;
    ///
    /// async fn sum(texts: &[&str]) -> Result<i32, std::num::ParseIntError> {
    ///     try_task_group!(workers = 2, |tg| {
    ///         let tasks: Vec<_> = texts.iter().map(|text| tg.workers().spawn(async || text.parse::<i32>())).collect();
    ///         let mut sum = 0;
    ///         for task in tasks {
    ///             sum += task.await;
    ///         }
    ///         sum
    ///     })
    /// }
    /// assert_eq!(xiio::run(sum(&["1", "2"])), Ok(3));
    /// assert!(xiio::run(sum(&["1", "two"])).is_err());
    /// ```
    #[track_caller]
    pub fn spawn<F, T>(&self, function: F) -> WorkerTask<T>
    where
        F: AsyncFnOnce() -> Result<T, E> + Send + 'env,
        T: Send + 'env,
    {
        self.spawn_at(function, Location::caller())
    }

    /// Runs `function` once on each worker, as [`Workers::each`] does. An `Err` from it is the group's.
    ///
    /// # Panics
    /// As [`Workers::each`].
    ///
    /// # Examples
    /// ```
    /// use xiio::try_task_group;
    ///
    /// async fn lengths(texts: &[&str]) -> Result<Vec<u32>, std::num::ParseIntError> {
    ///     try_task_group!(workers = 2, |tg| {
    ///         tg.workers().each(async |n| texts[n].parse::<u32>()).await
    ///     })
    /// }
    /// assert_eq!(xiio::run(lengths(&["1", "2"])), Ok(vec![1, 2]));
    /// assert!(xiio::run(lengths(&["1", "two"])).is_err());
    /// ```
    #[track_caller]
    pub fn each<F, T>(&self, function: F) -> impl Future<Output = Vec<T>> + use<F, T, E>
    where
        F: AsyncFn(usize) -> Result<T, E> + Send + Sync + 'env,
        T: Send + 'env,
    {
        outputs(self.workers.each_at(function, self.judge(), Location::caller()))
    }

    /// [`TryWorkers::spawn`] in the name of somebody further up.
    pub(crate) fn spawn_at<F, T>(&self, function: F, location: &'static Location<'static>) -> WorkerTask<T>
    where
        F: AsyncFnOnce() -> Result<T, E> + Send + 'env,
        T: Send + 'env,
    {
        self.workers.spawn_at(None, function, self.judge(), location)
    }

    /// Makes the value of a task of what its function gave, and puts an error with those of the group.
    fn judge<T>(&self) -> impl FnOnce(Result<T, E>) -> Option<T> + Clone + Send + use<'env, T, E> {
        let errors = self.errors;
        move |result| result.map_err(|error| lock(errors).push_back(error)).ok()
    }
}

async fn outputs<T>(tasks: Vec<WorkerTask<T>>) -> Vec<T> {
    let mut outputs = Vec::with_capacity(tasks.len());
    for task in tasks {
        let location = task.location();
        outputs.push(Undelivered::new(task.await, move |output: &T| report_if_err(output, location)));
    }
    outputs.into_iter().map(Undelivered::deliver).collect()
}

impl<E> Clone for TryWorkers<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for TryWorkers<'_, E> {}

impl fmt::Debug for Workers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").finish_non_exhaustive()
    }
}

impl<E> fmt::Debug for TryWorkers<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryWorkers").finish_non_exhaustive()
    }
}

/// What a task on a worker is called in texts.
const LABEL: &str = "task on a worker";

/// A job, and what it shares with its handle: in one piece of memory, as another thread frees it.
struct Order<F, O, J, T> {
    slot: Slot<T>,
    /// `None` where the group has ended.
    crew: Option<Arc<Crew>>,
    /// What borrows. Taken out when the job is started or discarded; an order that is neither is leaked with its errand.
    content: Mutex<Option<Content<F, O, J>>>,
}

struct Content<F, O, J> {
    function: F,
    judge: J,
    /// What the task inherits.
    locals: Option<SentLocals>,
    _output: PhantomData<fn() -> O>,
}

impl<F: Send, O, J: Send, T: Send> Order<F, O, J, T> {
    fn take(&self) -> Option<Content<F, O, J>> {
        lock(&self.content).take()
    }

    /// For the handle, or the task: neither comes to the content.
    fn share<'a>(self: Arc<Self>) -> Arc<dyn HasSlot<T>>
    where
        Self: 'a,
    {
        let shared: Arc<dyn HasSlot<T> + 'a> = self;
        // SAFETY: the two types differ in a lifetime only. The slot has an output, whose type is still there. What the content
        // borrows is used by its drop alone: it is taken out before, or the errand keeps its count for ever.
        unsafe { mem::transmute::<Arc<dyn HasSlot<T> + 'a>, Arc<dyn HasSlot<T>>>(shared) }
    }
}

impl<F: Send, O, J: Send, T: Send> Ends for Order<F, O, J, T> {
    fn end(&self) {
        self.slot.end_without_output();
    }
}

impl<F: Send, O, J: Send, T: Send> HasSlot<T> for Order<F, O, J, T> {
    fn slot(&self) -> &Slot<T> {
        &self.slot
    }

    fn crew(&self) -> Option<&Crew> {
        self.crew.as_deref()
    }

    fn cancel(&self, place: Place) {
        self.slot.cancel(place);
        let has_begun = lock(&self.content).is_none();
        if let Some(crew) = self.crew().filter(|_| !has_begun) {
            crew.cancel_queued();
        }
    }
}

/// Tells the handle that there will be no output, when it is dropped; unless others are to tell it.
struct Ticket<T> {
    shared: Arc<dyn HasSlot<T>>,
    is_left: bool,
}

impl<T> Ticket<T> {
    fn new(shared: Arc<dyn HasSlot<T>>) -> Self {
        Self { shared, is_left: false }
    }

    /// Leaves it to whoever has the result to tell the handle.
    ///
    /// # Safety
    /// The task gives no output.
    unsafe fn leave(&mut self) -> Notice {
        self.is_left = true;
        // SAFETY: as the caller says.
        unsafe { Notice::new(Arc::clone(&self.shared) as Arc<dyn Ends>) }
    }

    fn slot(&self) -> &Slot<T> {
        self.shared.slot()
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        if !self.is_left {
            self.shared.end();
        }
    }
}

/// What draws a task that was cancelled alone, which its set does not know.
fn cleaning_up(node: drawing::Node, cx: &Context<'_>) -> drawing::Node {
    task::with_stats(node.in_state(State::CleaningUp), cx.waker())
}

impl<F, O, J, T> Job for Order<F, O, J, T>
where
    F: AsyncFnOnce() -> O + Send,
    J: FnOnce(O) -> Option<T> + Send,
    T: Send,
{
    fn start<'set>(self: Arc<Self>, set: &TaskSet<'set>, notes: &Rc<Notes>)
    where
        Self: 'set,
    {
        let Some(Content { function, judge, locals, .. }) = self.take() else { return };
        let location = self.slot.location;
        let state = Running {
            judge: Some(judge),
            owner: Owner::default(),
            node: Node::new(LABEL),
            has_begun: false,
            is_cancelled: false,
            has_output: false,
            grace: Deadline::at(None),
            location,
            ticket: Ticket::new(self.share()),
            notes: Rc::clone(notes),
        };
        let finish = |is_success: bool| is_success.then_some(());
        let _entered = SentLocals::enter_only(locals.as_ref());
        // The set of a worker is open while it starts errands, and so is that of a group which takes its own. The limit is the board's.
        drop(set.insert(Pinned::new(async move { AllThereIs::of(function()).await }, state), finish, location, true));
    }

    fn is_cancelled(&self) -> bool {
        self.slot.is_cancelled()
    }

    fn location(&self) -> &'static Location<'static> {
        self.slot.location
    }

    fn discard(self: Arc<Self>) {
        let content = self.take();
        // The handle hears of it when the content is gone, whatever that does.
        let _ticket = Ticket::new(self.share());
        drop(content);
    }
}

/// What there is beside the future of a task on a worker. Dropped after it.
struct Running<J, T> {
    judge: Option<J>,
    owner: Owner,
    node: Node,
    has_begun: bool,
    is_cancelled: bool,
    /// The handle has been given what it gave.
    has_output: bool,
    /// How long it may clean up, since it was cancelled alone.
    grace: Deadline,
    location: &'static Location<'static>,
    ticket: Ticket<T>,
    notes: Rc<Notes>,
}

impl<J, T> Drop for Running<J, T> {
    fn drop(&mut self) {
        self.notes.n_ended.set(self.notes.n_ended.get() + 1);
        if !self.has_output && self.notes.is_of_worker() {
            // SAFETY: it has given no output, and never will.
            self.notes.note_end(unsafe { self.ticket.leave() });
        }
    }
}

impl<J, T: Send> Running<J, T> {
    /// Cancels the future if the handle asks for it.
    fn obey<F: Future>(&mut self, slot: Pin<&mut Option<F>>, cx: &mut Context<'_>) {
        let slot_of_task = self.ticket.slot();
        let is_asked = if mem::replace(&mut self.has_begun, true) {
            slot_of_task.is_cancelled()
        } else {
            slot_of_task.begin(cx.waker())
        };
        if is_asked && !mem::replace(&mut self.is_cancelled, true) {
            let asked = slot_of_task.asked();
            asked.carry_out(|| task::note_cancelled(cx.waker(), asked.place));
            self.owner.cancel_slot(slot);
            self.begin_grace();
        }
    }

    /// Who it is, for a report. Called in its poll, where its values are current.
    fn origin(&self) -> Origin {
        Origin { locals: local::shown(), ..Origin::at(self.location) }
    }

    fn begin_grace(&mut self) {
        self.grace.reset(self.notes.crew().grace().and_then(|grace| now().checked_add(grace)));
    }

    /// Polls the future on. One that was cancelled alone is dropped when its grace is over.
    fn go_on<F: Future>(&mut self, mut slot: Pin<&mut Option<F>>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let Self { owner, ticket, .. } = self;
        let mut poll = || owner.poll_slot(slot.as_mut(), cx);
        let polled = if self.is_cancelled { poll() } else { ticket.slot().watching(poll) };
        // Asked first, as it is at hand. Where the whole group is cancelled home has one grace for all.
        let has_grace = polled.is_pending() && self.grace.instant().is_some();
        let may_be_late = has_grace && !unwind::is_inspecting() && !self.notes.crew().is_ending();
        // Last: a grace that has answered will not wake the task.
        let is_late = may_be_late && self.grace.poll_elapsed(cx);
        if is_late { self.cut_off(slot, cx) } else { polled }
    }

    #[cold]
    fn cut_off<F: Future>(&mut self, mut slot: Pin<&mut Option<F>>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let origin = self.origin();
        let node = cleaning_up(drawing::Node::new(Kind::Task, "task").made_at(self.location), cx);
        let mut polled = Poll::Pending;
        let mut rest = polls::inspect(|| {
            let _around = unwind::draw_around(|| node);
            polled = self.owner.poll_slot(slot.as_mut(), cx);
        });
        // It may have ended by being drawn.
        if polled.is_pending() {
            let drop = || catch_unwind(AssertUnwindSafe(|| slot.set(None)));
            let dropped = unwind::cutting_off(&mut rest, drop);
            let text =
                format!("the grace of a task on a worker, {origin}, is over; dropped while cleaning up:\n{rest}");
            report(ReportKind::GraceOver, text);
            dropped.unwrap_or_else(|payload| resume_unwind(payload));
            polled = Poll::Ready(None);
        }
        polled
    }

    /// `Ready` says whether the task has not failed.
    fn poll<F, O>(&mut self, mut slot: Pin<&mut Option<F>>, cx: &mut Context<'_>) -> Poll<bool>
    where
        F: Future<Output = Given<O>>,
        J: FnOnce(O) -> Option<T>,
    {
        // A drawing changes nothing; whoever has cancelled it has it polled afterwards.
        let is_inspecting =
            unwind::inspecting(|tree| tree.amend(|node| if self.is_cancelled { cleaning_up(node, cx) } else { node }));
        if !is_inspecting {
            self.obey(slot.as_mut(), cx);
        }
        self.go_on(slot, cx).map(|output| self.finish(output))
    }

    /// Cleans up, since the set cancels the task. If it ends by itself meanwhile, that counts.
    fn unwind<F, O>(&mut self, slot: Pin<&mut Option<F>>, cx: &mut Context<'_>) -> Poll<bool>
    where
        F: Future<Output = Given<O>>,
        J: FnOnce(O) -> Option<T>,
    {
        self.is_cancelled = true;
        // At home the set sees to the grace.
        if self.notes.is_of_worker() && self.grace.instant().is_none() {
            self.begin_grace();
        }
        let mut output = None;
        let mut node = mem::replace(&mut self.node, Node::new(LABEL));
        node.clean_up_slot(slot, cx, |mut slot, cx| {
            self.owner.cancel_slot(slot.as_mut());
            self.go_on(slot, cx).map(|ended| output = ended)
        });
        self.node = node;
        match output {
            Some(output) => Poll::Ready(self.finish(Some(output))),
            None => Poll::Pending,
        }
    }

    /// Hands the output to the handle; `false` if the task has failed. Without an output it was cancelled.
    fn finish<O>(&mut self, output: Option<Given<O>>) -> bool
    where
        J: FnOnce(O) -> Option<T>,
    {
        let Some(Given { value, is_late }) = output else { return true };
        match self.judge.take().and_then(|judge| judge(value)) {
            Some(value) if is_late => report_late_err(&value, || format!("a task on a worker, {},", self.origin())),
            Some(value) => {
                self.has_output = true;
                self.ticket.slot().end(Some(value));
            }
            None => {
                self.notes.has_failed.set(true);
                return false;
            }
        }
        true
    }
}

impl<F, O, J, T> Future for Pinned<F, Running<J, T>>
where
    F: Future<Output = Given<O>>,
    J: FnOnce(O) -> Option<T>,
    T: Send,
{
    type Output = bool;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let (slot, running) = self.project();
        running.notes.begin_poll(running.location);
        match running.node.duty(cx, |_| true) {
            Duty::Wait => Poll::Pending,
            Duty::Run => {
                let polled = running.poll(slot, cx);
                let holds = polled.is_pending() && running.owner.holds();
                running.node.hold(cx, holds);
                polled
            }
            Duty::Unwind => running.unwind(slot, cx),
        }
    }
}
