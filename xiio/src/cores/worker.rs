//! The root of a worker: a set of tasks that is touched under the permit only.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::Crew;
use super::errand::{Errand, Notes};
use super::permit::Permit;
use super::team::Failure;
use crate::drawing::{Drawing, Kind, Node};
use crate::error::Payload;
use crate::recording::{Asked, Why};
use crate::report::Origin;
use crate::sync::thread_local;
use crate::task::budget::{self, Interrupt};
use crate::task::{Ended, Home, Members, TaskSet, polls};
use crate::unwind::{self, Dropper};

thread_local! {
    /// The permit of the worker that runs on this thread.
    static CURRENT: RefCell<Option<Arc<Permit>>> = const { RefCell::new(None) };
}

/// Asks the permit of the worker that runs on this thread; `false` on any other thread.
fn does_current(answer: impl FnOnce(&Permit) -> bool) -> bool {
    CURRENT.with(|current| current.borrow().as_deref().is_some_and(answer))
}

/// Whether the worker that runs on this thread should leave.
pub(crate) fn is_recalled() -> bool {
    does_current(Permit::is_recalled)
}

/// Whether the turn of the worker that runs on this thread is to end.
fn is_interrupted() -> bool {
    does_current(Permit::is_interrupted)
}

/// Whether what the worker has that runs on this thread is cancelled, and it does not know yet.
fn has_orders() -> bool {
    does_current(Permit::has_orders)
}

/// Whether the worker that runs on this thread was refused its permit, and has not come in since: a poll of its root reaches nothing.
pub(crate) fn is_refused() -> bool {
    does_current(Permit::is_wanted)
}

/// Whether what runs on this thread is cancelled and does not know yet, as it is on the board of a group around it.
fn is_behind() -> bool {
    does_current(Permit::has_orders_around)
}

/// The permit of the worker that runs on this thread; none in the last destructors of any.
pub(crate) fn current_permit() -> Option<Arc<Permit>> {
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// This thread is the worker of this permit, until it [ceases to be](detach).
pub(super) fn attach(permit: &Arc<Permit>) {
    permit.attach();
    CURRENT.with(|current| *current.borrow_mut() = Some(Arc::clone(permit)));
}

pub(super) fn detach() {
    CURRENT.with(|current| drop(current.borrow_mut().take()));
}

/// What a worker runs, from its start to its end.
///
/// Invariant: `tasks` is polled and dropped while the permit is held, and at no other time. So what is left when this is
/// dropped, because the runtime around it has failed, is leaked.
pub(crate) struct Worker {
    crew: Arc<Crew>,
    worker: usize,
    tasks: ManuallyDrop<TaskSet<'static>>,
    notes: Rc<Notes>,
    /// Empty between polls; its memory is kept.
    errands: Vec<Errand>,
    draw: Draw,
}

/// Has the tree of a worker drawn, of this number, and put on the board.
pub(crate) type Draw = fn(&Arc<Crew>, usize);

impl Worker {
    /// The worker of this number, on its thread.
    pub(crate) fn new(crew: Arc<Crew>, worker: usize, draw: Draw) -> Self {
        let permit = crew.permit(worker);
        attach(permit);
        budget::set_interrupt(Some(Interrupt { is_due: is_interrupted, is_order: has_orders, is_behind }));
        let notes = Rc::new(Notes::of_worker(Arc::clone(&crew), Arc::clone(permit)));
        Self { worker, tasks: ManuallyDrop::new(TaskSet::new(usize::MAX)), notes, errands: Vec::new(), draw, crew }
    }

    /// Does what there is to do. Called while the permit is held.
    fn work(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let orders = self.crew.take(self.worker, &mut self.errands);
        if let Some(dropper) = orders.aborted {
            debug_assert!(self.errands.is_empty(), "what had not begun is home's to drop");
            if !unwind::is_inspecting() {
                return self.abandon(dropper, cx);
            }
            // A drawing that was asked for before: it drops nothing. The next poll does.
            self.poll_tasks(cx);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if orders.is_cancelled {
            self.cancel_tasks(orders.asked);
        }
        for errand in self.errands.drain(..) {
            // SAFETY: this worker has its permit, so home is inside the poll or the end of the group. The set is polled and
            // dropped under the permit only, by the invariant.
            unsafe { errand.start(&self.tasks, &self.notes) };
        }
        if orders.is_closed && self.tasks.is_empty() {
            return self.end();
        }
        if orders.is_to_draw {
            (self.draw)(&self.crew, self.worker);
        }
        if orders.is_to_draw && !unwind::is_inspecting() {
            // The loop draws first. A turn of long polls would take too long.
            cx.waker().wake_by_ref();
        } else {
            self.poll_tasks(cx);
        }
        self.settle(cx);
        Poll::Pending
    }

    fn cancel_tasks(&self, asked: Option<Asked>) {
        let cancel = |place| {
            // It was the group's, whoever asked for it.
            self.tasks.note_cancelled(Why::AroundCancelled, place);
            self.tasks.doom_all(place);
        };
        match asked {
            Some(asked) => asked.carry_out(|| cancel(asked.place)),
            None => cancel(None),
        }
    }

    fn poll_tasks(&self, cx: &mut Context<'_>) {
        let _around = unwind::draw_around(|| Node::new(Kind::Worker, format!("worker {}", self.worker)));
        let _ = self.tasks.poll(cx, &mut Crowd { worker: self.worker, tasks: &self.tasks, notes: &self.notes });
    }

    /// Drops all that is left. What a grace cuts off is drawn before, for home's report, which waits until this worker has left.
    fn abandon(&mut self, dropper: Dropper, cx: &mut Context<'_>) -> Poll<()> {
        if dropper != Dropper::Grace {
            return unwind::dropping(dropper, || self.end());
        }
        let mut rest = Drawing::default();
        if !self.tasks.is_empty() {
            rest = polls::inspect(|| self.poll_tasks(cx));
        }
        let ended = unwind::cutting_off(&mut rest, || self.end());
        // Even if it is empty: a drawing of before may be there.
        self.crew.put_drawing(self.worker, rest);
        ended
    }

    /// Tells how far it is. The poll of the set is over, so nothing is left of the tasks that have ended.
    fn settle(&mut self, cx: &Context<'_>) {
        self.notes.tell_handles();
        let is_idle = !Home::current().is_root_woken();
        if self.crew.settle(self.worker, self.notes.n_ended.take(), is_idle) {
            cx.waker().wake_by_ref();
        }
    }

    fn end(&mut self) -> Poll<()> {
        if let Some(payload) = self.tasks.close() {
            self.crew.tell_panic(payload, None);
        }
        self.notes.tell_handles();
        self.crew.settle(self.worker, self.notes.n_ended.take(), true);
        Poll::Ready(())
    }
}

impl Future for Worker {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let permit = Arc::clone(self.crew.permit(self.worker));
        let Some(pass) = permit.enter() else {
            // Home is outside, mostly for a moment.
            self.crew.look_out_for_home();
            return Poll::Pending;
        };
        permit.note_processor();
        let polled = self.work(cx);
        let waits_for_jobs = polled.is_pending() && self.tasks.is_empty();
        drop(pass);
        if waits_for_jobs {
            self.crew.look_out_for_home();
        }
        polled
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        budget::set_interrupt(None);
        self.notes.tell_handles();
        detach();
    }
}

/// Tasks without a group of their own: their failures are home's to judge.
struct Crowd<'a> {
    worker: usize,
    tasks: &'a TaskSet<'static>,
    notes: &'a Notes,
}

impl Members for Crowd<'_> {
    fn node(&self) -> Node {
        Node::new(Kind::Worker, "a worker")
    }

    fn poll_body(&mut self, _: &mut Context<'_>) -> bool {
        true
    }

    fn has_body(&self) -> bool {
        false
    }

    fn end_body(&mut self, _: Payload) {}

    fn end_task(&mut self, ended: Ended, origin: Origin) {
        let panic = match ended {
            Ended::Cancelled => return,
            // Its error is with those of the group.
            Ended::Failed => None,
            Ended::Panicked(payload) => Some(payload),
        };
        let failure = Failure { panic, origin: Some(origin), notice: self.notes.take_last_end() };
        let crew = self.notes.crew();
        crew.tell(|news| news.failures.push(failure));
        if crew.fail(self.worker) {
            self.tasks.note_cancelled(Why::MemberFailed, None);
            self.tasks.doom_all(None);
        }
    }

    fn end_last_round(&mut self) {}

    fn end_of_grace(&self) -> Option<Instant> {
        None
    }
}
