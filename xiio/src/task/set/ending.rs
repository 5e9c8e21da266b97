//! How a task ends: by itself, cancelled, or with its set. The only code that drops its future.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;
use std::time::Instant;

use super::{Core, Ended, LastRound, Members};
use crate::drawing::Drawing;
use crate::error::Payload;
use crate::local::{self, Locals};
use crate::recording::{self, End};
use crate::report::{Origin, report_panic, waking};
use crate::task::refs::{
    BODY, DONE, DOOMED, HOLDS, JOINED, LAST, LOCALS, NAMED, PLACED, QUEUED, RECORDED, STARTED, TaskRef,
};
use crate::task::{handle, polls, waker};
use crate::unwind::{self, Cancel, Dropper, Owner};

impl Core {
    pub(super) fn cancel_doomed(&self, members: &mut dyn Members) {
        while let Some(task) = self.doomed.first() {
            let is_plain = !task.header().has(HOLDS | JOINED | LOCALS | PLACED | NAMED | RECORDED)
                && self.limit == usize::MAX
                && owner_of(task).is_plain();
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
        if owner_of(task).is_unwinding() {
            // It was cancelled before, and has its grace.
            return waker::wake_at_home(task);
        }
        if header.has(STARTED) {
            let cancel = catch_unwind(AssertUnwindSafe(|| owner_of(task).cancel()));
            match cancel {
                Ok(Cancel::PollOn) => return self.let_clean_up(task, members),
                Ok(Cancel::Drop) => {}
                Err(payload) => {
                    // A waker of a node panicked; the scope unwinds all the same.
                    report_task_panic(payload, &self.origin_of(task));
                    return self.let_clean_up(task, members);
                }
            }
        }
        self.cut_off(task, members);
    }

    fn let_clean_up(&self, task: TaskRef, members: &dyn Members) {
        if let Some(end) = members.end_of_grace() {
            self.note_cleaning(end, task);
        }
        waker::wake_at_home(task);
    }

    fn note_cleaning(&self, end: Instant, task: TaskRef) {
        let mut cleaning = self.cleaning.borrow_mut();
        if cleaning.len() == cleaning.capacity() {
            // Behind one that takes long all would be kept that end meanwhile.
            cleaning.retain(|(_, task)| keep_unless_done(*task));
            let n_left = cleaning.len();
            cleaning.reserve(n_left + 1);
        }
        task.clone_ref();
        cleaning.push_back((end, task));
    }

    /// Drops the future of a task, whatever it holds.
    fn cut_off(&self, task: TaskRef, members: &mut dyn Members) {
        let ended = match drop_future(task) {
            Ok(()) => Ended::Cancelled,
            Err(payload) => Ended::Panicked(payload),
        };
        self.retire(task, Some(ended), members);
    }

    pub(super) fn end_of_first_grace(&self) -> Option<Instant> {
        let mut cleaning = self.cleaning.borrow_mut();
        while let Some((end, task)) = cleaning.front() {
            if keep_unless_done(*task) {
                return Some(*end);
            }
            cleaning.pop_front();
        }
        None
    }

    pub(super) fn cut_off_first(&self, members: &mut dyn Members) -> Option<Drawing> {
        let (_, task) = self.cleaning.borrow_mut().pop_front()?;
        let mut drawing = polls::inspect(|| self.draw_task(task, members));
        // It may have ended by being drawn.
        let is_late = !task.header().has(DONE);
        if is_late {
            unwind::cutting_off(&mut drawing, || self.cut_off(task, members));
        }
        task.drop_ref();
        is_late.then_some(drawing)
    }

    /// Takes a task out whose future is gone and that nobody cares for; `false` if there is more to do.
    #[inline]
    pub(super) fn retire_unnoticed(&self, task: TaskRef) -> bool {
        let header = task.header();
        let is_plain = !header.has(HOLDS | DOOMED | QUEUED | JOINED | LOCALS | PLACED | NAMED | RECORDED)
            && owner_of(task).is_plain();
        if is_plain {
            self.tasks.remove(task);
            task.drop_set_ref();
        }
        is_plain
    }

    /// Takes a task out whose future is gone, and tells who cares.
    #[cold]
    pub(super) fn retire(&self, task: TaskRef, ended: Option<Ended>, members: &mut dyn Members) {
        if task.header().has(RECORDED) {
            recording::ended(task.key(), ended.as_ref().map_or(End::Value, |ended| ended.noted(members)));
        }
        let origin = self.take_origin(task);
        // Dropped last.
        let locals = self.take_locals(task);
        let joiner = self.take_out(task);
        if let Some(ended) = ended {
            let shown = locals.as_ref().filter(|_| !matches!(ended, Ended::Cancelled)).map(Locals::shown);
            let origin = Origin { locals: shown.unwrap_or_default(), ..origin };
            members.end_task(ended, origin);
        }
        if self.limit != usize::MAX {
            self.start_waiting();
        }
        wake_joiner(joiner);
    }

    /// Takes a task out whose future is gone. Gives who awaits it.
    fn take_out(&self, task: TaskRef) -> Option<Box<Waker>> {
        self.is_eventful.set(true);
        let header = task.header();
        self.unlink(task);
        if header.has(HOLDS) {
            self.set_holding(task, false);
        }
        drop(std::mem::take(owner_of(task)));
        let joiner = header.joiner.take();
        let was_beside = self.crowd.as_ref().is_some_and(|crowd| crowd.remove(task));
        if header.has(PLACED) && !was_beside {
            self.n_running.set(self.n_running.get() - 1);
        }
        if !header.has(QUEUED) {
            task.drop_set_ref();
        } else if self.limit != usize::MAX {
            self.note_end_in_queue();
        }
        joiner
    }

    /// Lets go of all who have ended while they waited for a place, when these may be more than the others: behind one
    /// that waits for long they would be kept.
    fn note_end_in_queue(&self) {
        let n_may_end = self.n_may_end.get();
        if n_may_end > 0 {
            return self.n_may_end.set(n_may_end - 1);
        }
        let all = self.waiting.take();
        let mut n_left = 0;
        while let Some(task) = all.pop() {
            if task.header().has(DONE) {
                let_go_of_queued(task);
            } else {
                self.waiting.push(task);
                n_left += 1;
            }
        }
        self.n_may_end.set(n_left);
    }

    pub(super) fn begin_last_round(&self) -> bool {
        let last = self.ready.last();
        if let Some(last) = last {
            last.header().set(LAST);
            self.last_round.set(LastRound::Goes);
            self.is_unusual.set(true);
        }
        last.is_some()
    }

    /// Gives the places that are free to those who wait for one, and lets go of those who have ended meanwhile. A last round
    /// is for those who were ready: the others are cancelled before they start.
    fn start_waiting(&self) {
        if self.last_round.get() != LastRound::None {
            return;
        }
        while let Some(task) = self.waiting.first() {
            let has_ended = task.header().has(DONE);
            if !has_ended && self.n_running.get() >= self.limit {
                return;
            }
            self.waiting.pop_first(task);
            if has_ended {
                let_go_of_queued(task);
            } else {
                self.give_place_to(task);
                self.ready.push(task);
            }
        }
    }

    /// Drops every task, whatever it holds. Gives the first panic of a destructor.
    pub(super) fn clear(&self) -> Option<Payload> {
        let mut first = None;
        while let Some(task) = self.doomed.first().or_else(|| self.tasks.first()) {
            let origin = self.take_origin(task);
            let dropped = drop_future(task);
            let _locals = self.take_locals(task);
            match dropped {
                Err(payload) if first.is_none() => first = Some(payload),
                Err(payload) => report_task_panic(payload, &origin),
                Ok(()) => {}
            }
            if task.header().has(RECORDED) {
                recording::ended(task.key(), End::Dropped);
            }
            let joiner = self.take_out(task);
            wake_joiner(joiner);
        }
        self.last_round.set(LastRound::None);
        self.cleaning.take().iter().for_each(|(_, task)| task.drop_ref());
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

/// The owner of a task, for the code that polls or retires it.
pub(super) fn owner_of<'a>(task: TaskRef) -> &'a mut Owner {
    // SAFETY: `owner` is touched by the poll and the drop of the set only, one task at a time, and one cannot begin within the other. So
    // code of the user that runs meanwhile, wakers and their destructors, does not come to it.
    unsafe { &mut *task.header().owner.get() }
}

/// A task that has ended is in no queue any more.
fn let_go_of_queued(task: TaskRef) {
    task.header().unset(QUEUED);
    task.drop_set_ref();
}

/// Whether a task has not ended; lets go of one that has.
fn keep_unless_done(task: TaskRef) -> bool {
    let is_done = task.header().has(DONE);
    if is_done {
        task.drop_ref();
    }
    !is_done
}

/// Drops the future of a task that is not done.
fn drop_future(task: TaskRef) -> Result<(), Payload> {
    let locals = handle::with_core(task, |core| core.locals_of(task)).flatten();
    let _entered = locals.map(local::enter);
    // SAFETY: called by the poll or the drop of the task's own set, and not from inside the task's poll. The task is in
    // a list, and so is not done.
    catch_unwind(AssertUnwindSafe(|| unsafe { (task.header().vtable.drop_future)(task.as_ptr()) }))
}

/// Drops the future of a task whose poll has panicked, unless it was the drop of the future that panicked.
pub(super) fn drop_if_present(task: TaskRef, origin: &Origin) {
    if !task.header().has(DONE)
        && let Err(payload) = unwind::dropping(Dropper::Panic, || drop_future(task))
    {
        report_task_panic(payload, origin);
    }
}

/// A waker may panic, and the set must go on. It is not the task that has panicked then.
#[inline]
fn wake_joiner(joiner: Option<Box<Waker>>) {
    if let Some(joiner) = joiner {
        waking(|| (*joiner).wake());
    }
}

fn report_task_panic(payload: Payload, origin: &Origin) {
    report_panic(&format!("a task {origin} panicked as well"), payload);
}
