//! The only code that polls a task.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::task::{Context, Waker};
use std::time::Instant;

use super::ending::{drop_if_present, owner_of};
use super::{Core, Ended, LastRound, Members, Polled};
use crate::drawing::{Kind, Node, State, TOO_DEEP, YIELD_NOW};
use crate::error::Payload;
use crate::local;
use crate::recording::{self, Cancellation, TaskStats};
use crate::report::{ReportKind, drop_safely, report};
use crate::task::block::Step;
use crate::task::home::{Home, Listener};
use crate::task::polls::{self, Begun, Noted, Who};
use crate::task::refs::{BODY, DONE, DOOMED, HOLDS, LAST, PLACED, QUEUED, RECORDED, STARTED, TaskRef};
use crate::task::{budget, waker};
use crate::unwind::{self, DrawnSet, Frozen, Shift};

/// How many groups are drawn one inside of the other. What a level takes of the stack is more than in a usual poll, which comes
/// through a thousand of them.
const MAX_DRAWN: u32 = 128;

/// See [`may_be_cancelled_next`].
const MAX_ASKED: u32 = 1 << 20;

/// How the loop over what is ready has ended.
#[derive(Clone, Copy)]
enum Drained {
    /// Nothing is ready any more.
    Idle,
    /// There is more to do, in the next turn.
    Interrupted,
}

thread_local! {
    /// How many sets are being polled on this thread, one inside the other.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// How many of them are being drawn.
    static N_DRAWN: Cell<u32> = const { Cell::new(0) };
    /// The depth of the outermost of them whose members are polled once more before they are cancelled.
    static LAST_ROUND: Cell<u32> = const { Cell::new(u32::MAX) };
    /// How often it was asked for since.
    static N_ASKED: Cell<u32> = const { Cell::new(0) };
    /// Those of them that have been reached while the loop lends.
    static WAY: RefCell<Vec<NonNull<Core>>> = const { RefCell::new(Vec::new()) };
}

impl Core {
    #[inline(always)]
    pub(super) fn poll(&self, cx: &mut Context<'_>, members: &mut dyn Members) -> Polled {
        // Wakes from here on are found by this very loop.
        self.is_marked.set(true);
        self.remember_waker(cx.waker());
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
        if LAST_ROUND.get() >= self.depth.get() {
            LAST_ROUND.set(u32::MAX);
            N_ASKED.set(0);
        }
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
        let _way = unwind::is_lending().then(|| Way::through(self));
        if unwind::is_inspecting() {
            self.draw(members)
        } else if is_stopped_at(DEPTH.get()) {
            Drained::Interrupted
        } else {
            self.drain_past_panics(members)
        }
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
            if self.is_stopped() {
                return Drained::Interrupted;
            }
        }
    }

    fn drain(&self, members: &mut dyn Members) -> Drained {
        // One poll is granted although the turn is over: a set behind others that take the whole turn gets on as well. None where it
        // ends in the middle: who comes next is the first of the next turn then, with all that a poll may take.
        let mut is_granted = true;
        // Of the poll that this set is in.
        let leaves = budget::leaves();
        loop {
            if self.is_unusual.get() {
                self.attend(members);
                if self.is_stopped() {
                    return self.interrupt(false);
                }
            }
            let Some(task) = self.ready.first() else {
                self.polling.set(None);
                self.is_marked.set(false);
                return Drained::Idle;
            };
            if budget::take_poll() {
                self.poll_member(task, members);
            } else if is_granted {
                self.poll_granted(task, members);
            } else if self.skip_ended() {
                continue;
            } else {
                self.polling.set(None);
                // What follows in there would be refused for what the members have taken.
                budget::set_leaves(leaves);
                return self.interrupt(false);
            }
            is_granted = false;
            if !unwind::is_plain() && self.is_stopped() {
                return self.interrupt(true);
            }
        }
    }

    /// Polls the first in the queue.
    #[inline(always)]
    fn poll_member(&self, task: TaskRef, members: &mut dyn Members) {
        self.ready.pop_first(task);
        if task.header().start() {
            self.poll_task(task, members, ());
        } else {
            self.poll_special(task, members);
        }
    }

    /// The same where the turn is over: with all that a poll may take, and at no cost to the poll that this set is in.
    #[cold]
    fn poll_granted(&self, task: TaskRef, members: &mut dyn Members) {
        let _apart = budget::count_apart();
        self.poll_member(task, members);
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

    /// Notes that a last round goes on, if one does; until the end of this poll.
    fn enter_last_round(&self) {
        if self.last_round.get() == LastRound::Goes {
            LAST_ROUND.set(LAST_ROUND.get().min(self.depth.get()));
        }
    }

    /// Whether a member has cancelled what is further up, so that nothing goes on here. Asked before each poll that
    /// comes after code of the user which was no poll of a task.
    fn is_stopped(&self) -> bool {
        Shift::drop_stray_scope();
        is_stopped_at(self.depth.get())
    }

    /// Does what is seldom to be done before the next poll.
    #[cold]
    fn attend(&self, members: &mut dyn Members) {
        // First: what is done here may ask for it again.
        self.is_unusual.set(self.is_seeded || self.is_noted);
        self.enter_last_round();
        self.polling.set(None);
        // Who woke itself in its poll, and nobody after that, is the last one in the queue. One that has ended waits for nothing.
        let woken = self.ready.last().filter(|task| !task.header().has(BODY | DONE));
        let Noted { mut at, vain } = self.end_noting(true, woken);
        if self.last_round.get() == LastRound::Over {
            members.end_last_round();
        }
        // What comes next begins when that has ended, if nothing comes in between.
        at = at.filter(|_| vain.is_none() && self.doomed.is_empty() && self.crowd.is_none());
        if let (Some(text), Some(task)) = (vain, woken) {
            self.report_vain(&text, task, members);
        }
        self.report_crowd(|| members.node());
        self.cancel_doomed(members);
        // A destructor may have failed.
        self.enter_last_round();
        // A last round goes in order: it is over with its last one.
        if self.is_seeded && self.last_round.get() == LastRound::None {
            self.ready.bring_one_forward();
        }
        if self.is_noted {
            self.begin_noting(at, members);
        }
    }

    /// Stops in the middle, behind a poll or before it.
    #[cold]
    fn interrupt(&self, was_polled: bool) -> Drained {
        if self.last_round.get() == LastRound::Goes {
            // It goes on in the next poll, which has to know that.
            self.is_unusual.set(true);
        }
        let _ = self.end_noting(was_polled, None);
        Drained::Interrupted
    }

    /// Notes the poll that comes next, until the next time that this set attends or is interrupted.
    fn begin_noting(&self, now: Option<Instant>, members: &dyn Members) {
        let Some(next) = self.ready.first().filter(|next| !next.header().has(DONE)) else { return };
        let is_body = next.header().has(BODY);
        let task = || Who::Task { origin: self.origin_of(next), type_name: next.header().vtable.type_name };
        let who = || if is_body { Who::Body } else { task() };
        let is_new = is_body && !next.header().has(STARTED);
        let begun = Begun { level: self.level(), at: now, key: next.key(), is_recorded: self.is_recorded, is_new };
        polls::begin(&begun, who, || if is_body { members.node() } else { self.node_of(next) });
    }

    /// The poll that was noted is over, with `woken` as the last one in the queue.
    fn end_noting(&self, was_polled: bool, woken: Option<TaskRef>) -> Noted {
        match self.is_noted {
            true => polls::end(self.level(), self.is_recorded, was_polled, woken.map(TaskRef::key)),
            false => Noted::NOTHING,
        }
    }

    /// Says that a task was polled in vain, and what it waits for; but not of one that gives way on purpose or is cancelled by now.
    fn report_vain(&self, text: &str, task: TaskRef, members: &mut dyn Members) {
        if task.header().has(DOOMED) {
            // Drawn, it would go on.
            return polls::let_off(task.key());
        }
        let depth = self.depth.get();
        let drawing = polls::inspect(|| self.draw_task(task, members));
        self.depth.set(depth);
        if drawing.nodes().any(|(_, node)| node.what() == YIELD_NOW) {
            polls::let_off(task.key());
        } else {
            report(ReportKind::VainPolls, format!("{text}\n{drawing}"));
        }
    }

    /// That of the root is zero.
    fn level(&self) -> u32 {
        self.depth.get() + 1
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
        let is_foreign = task.is_none() && !Home::is_root_waker(waker);
        let before = self.waker.take();
        if before.as_ref().is_some_and(|before| before.will_wake(waker)) {
            self.waker.set(before);
        } else {
            self.listen(is_foreign.then_some(waker));
            self.keep_waker(task, waker);
            before.into_iter().for_each(drop_safely);
        }
        if is_foreign {
            // Whoever polls may do so until it has its value, and the loop does not get to it.
            Home::current().take_inbox();
        }
    }

    #[inline(never)]
    fn keep_waker(&self, task: Option<TaskRef>, waker: &Waker) {
        if let Some(task) = task {
            task.clone_ref();
        } else {
            self.waker.set(Some(waker.clone()));
        }
        if let Some(parent) = self.parent.replace(task) {
            parent.drop_ref();
        }
    }

    /// Has `waker` hear of what other threads post, and no other one of those that this set was polled with.
    #[inline]
    fn listen(&self, waker: Option<&Waker>) {
        let before = self.listener.take();
        if before.is_some() || waker.is_some() {
            self.replace_listener(before, waker);
        }
    }

    #[cold]
    fn replace_listener(&self, before: Option<Listener>, waker: Option<&Waker>) {
        let is_kept = matches!((&before, waker), (Some(before), Some(waker)) if before.will_wake(waker));
        if is_kept {
            return self.listener.set(before);
        }
        self.listener.set(waker.map(|waker| Home::current().listen(waker.clone())));
        drop_safely(before);
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
            header.set(STARTED);
            self.poll_body(task, members);
        } else if header.has(DONE) {
            task.drop_set_ref();
        } else {
            header.set(STARTED);
            self.poll_with_locals(task, members);
        }
    }

    /// Polls a task that is not done, with what it has kept.
    fn poll_with_locals(&self, task: TaskRef, members: &mut dyn Members) {
        self.poll_task(task, members, self.locals_of(task).map(local::enter));
    }

    /// Polls the body, for which `body` stands. A panic goes through; `end_panicked` does what is left to do then.
    fn poll_body(&self, body: TaskRef, members: &mut dyn Members) {
        self.polling.set(Some(body));
        if !members.poll_body(&mut Context::from_waker(&waker::borrowed(body))) {
            self.is_eventful.set(true);
        }
        self.polling.set(None);
    }

    /// Polls a task that is not done, with what is `entered` for that. A panic goes through; `end_panicked` does what is left to do then.
    ///
    /// `polling` is left as it is, for the next one to replace.
    #[inline(always)]
    fn poll_task<Entered>(&self, task: TaskRef, members: &mut dyn Members, entered: Entered) {
        let header = task.header();
        self.polling.set(Some(task));
        let waker = waker::borrowed(task);
        // SAFETY: home thread, inside the poll of the set, and `poll` is not entered twice: it takes the future that
        // polls the set, which cannot poll itself. The task was in a list, so it is not done.
        let step = unsafe { (header.vtable.poll)(task.as_ptr(), &mut Context::from_waker(&waker)) };
        // What its end brings about is the group's.
        drop(entered);
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
            Step::Unwound => Some(Ended::Cancelled),
        };
        match owner_of(task).take_panic() {
            None => self.retire(task, ended, members),
            Some(payload) => self.retire_panicked(task, payload, members),
        }
    }

    #[inline]
    fn count_holding(&self, task: TaskRef) {
        let header = task.header();
        let owner = owner_of(task);
        // A task that has never met a node is not counted either.
        if owner.is_plain() {
            return;
        }
        // Asked once: between two questions a node may leave from another thread.
        let holds = owner.holds();
        if holds != header.has(HOLDS) {
            self.set_holding(task, holds);
        }
    }

    #[cold]
    pub(super) fn set_holding(&self, task: TaskRef, holds: bool) {
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

    /// Ends the member whose poll has panicked.
    #[cold]
    fn end_panicked(&self, payload: Payload, members: &mut dyn Members) {
        let _ = self.end_noting(true, None);
        let Some(task) = self.polling.take() else {
            // No member's doing, so not for the group to keep.
            resume_unwind(payload)
        };
        if task.header().has(BODY) {
            self.is_eventful.set(true);
            members.end_body(payload);
        } else {
            owner_of(task).end_poll();
            drop_if_present(task, &self.origin_of(task));
            self.retire_panicked(task, payload, members);
        }
    }

    /// Takes a task out that has panicked, perhaps after it had failed otherwise.
    #[cold]
    fn retire_panicked(&self, task: TaskRef, payload: Payload, members: &mut dyn Members) {
        if task.header().has_failed.get() {
            members.end_task(Ended::Failed, self.origin_of(task));
        }
        self.retire(task, Some(Ended::Panicked(payload)), members);
    }

    /// Draws every member: what it is, and by a poll in inspecting mode what it waits for.
    ///
    /// A member is polled where it is, whether it is in the ready queue or not, and its place there stays: taken out, or
    /// said to be out, it would be lost with all that stands behind it.
    #[cold]
    fn draw(&self, members: &mut dyn Members) -> Drained {
        let drawn = DrawnSet::begin();
        if N_DRAWN.get() >= MAX_DRAWN {
            unwind::inspecting(|tree| tree.leaf(Node::new(Kind::Wait, TOO_DEEP)));
            return Drained::Interrupted;
        }
        let _deeper = Deeper::new();
        let _depth = Descent::new(self);
        if let Some(body) = self.body.get().filter(|_| members.has_body()) {
            drawn.begin_one();
            // Nothing begins in a drawing: code that does so may count on being polled as usual.
            let has_begun = body.header().has(STARTED);
            let state = if has_begun { State::Running } else { State::NotStarted };
            let _around = unwind::draw_around(|| Node::new(Kind::Body, "the body").in_state(state));
            if has_begun && let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.poll_body(body, members))) {
                self.end_panicked(payload, members);
            }
        }
        let tasks: Vec<TaskRef> = self.tasks.iter().collect();
        tasks.iter().for_each(|task| task.clone_ref());
        for task in tasks {
            // One that a member has doomed by being drawn would go on.
            if !task.header().has(DOOMED) {
                self.draw_member(task, members, &drawn);
            }
            task.drop_ref();
        }
        // What the last one has frozen would be found by nobody outside of a poll.
        self.is_stopped();
        Drained::Interrupted
    }

    /// Draws one task, where nothing else of the set is polled.
    #[cold]
    pub(super) fn draw_task(&self, task: TaskRef, members: &mut dyn Members) {
        let _shift = Shift::begin();
        let _depth = Descent::new(self);
        self.draw_member(task, members, &DrawnSet::begin());
    }

    /// What a task is, and no more.
    pub(super) fn node_of(&self, task: TaskRef) -> Node {
        let header = task.header();
        let node = Node::new(Kind::Task, "task").named(self.name_of(task)).made_at(header.location);
        node.of_type((header.vtable.type_name)())
    }

    fn draw_member(&self, task: TaskRef, members: &mut dyn Members, drawn: &DrawnSet) {
        let header = task.header();
        if self.is_stopped() || header.has(DONE) {
            return;
        }
        let state = match (header.has(STARTED), owner_of(task).is_unwinding()) {
            (false, _) => State::NotStarted,
            (true, true) => State::CleaningUp,
            (true, false) => State::Running,
        };
        drawn.begin_one();
        let locals = self.locals_of(task).map(|locals| locals.shown_beside_current()).unwrap_or_default();
        let is_held = state == State::NotStarted && self.limit != usize::MAX && !header.has(PLACED);
        let node = self.node_of(task).in_state(state).held(is_held).with_locals(locals);
        let node = with_stats(node, task);
        let _around = unwind::draw_around(|| node);
        if header.has(STARTED)
            && let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.poll_with_locals(task, members)))
        {
            self.end_panicked(payload, members);
        }
    }
}

/// Whether nothing goes on at `depth` and below, as what is further up was cancelled in this very poll.
fn is_stopped_at(depth: u32) -> bool {
    unwind::is_frozen() && matches!(Frozen::thaw(depth), Frozen::Above)
}

/// With what a recording knows of a member, if there is one.
pub(super) fn with_stats(node: Node, member: TaskRef) -> Node {
    let stats = if member.header().has(RECORDED) { recording::stats(member.key()) } else { None };
    let Some(TaskStats { number, age, n_polls, busy, cancelled }) = stats else { return node };
    let node = node.numbered(number).lived(age, n_polls, busy);
    match cancelled {
        Some(Cancellation { ago, reason }) => node.cancelled_since(ago, reason),
        None => node,
    }
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

/// A set that is being drawn, until this is dropped.
struct Deeper;

impl Deeper {
    fn new() -> Self {
        N_DRAWN.set(N_DRAWN.get() + 1);
        Self
    }
}

impl Drop for Deeper {
    fn drop(&mut self) {
        N_DRAWN.set(N_DRAWN.get() - 1);
    }
}

/// A set on the way from the root to whoever is being polled while the loop lends, until this is dropped.
struct Way;

impl Way {
    fn through(core: &Core) -> Self {
        WAY.with(|way| way.borrow_mut().push(NonNull::from(core)));
        Self
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        WAY.with(|way| way.borrow_mut().pop());
    }
}

/// Whether the code being polled may be cancelled right after this poll, for something it would be told now. So it is in a last round,
/// which polls it for its own failures only, or on a worker with orders it does not know yet.
///
/// `false` as well where it goes on though it is cancelled, and if it is asked for again and again: by a foreign executor inside of a task (a `block_on`), which would go on for ever.
pub(crate) fn may_be_cancelled_next() -> bool {
    if budget::is_unstopped() || (LAST_ROUND.get() >= DEPTH.get() && !budget::is_behind()) {
        return false;
    }
    N_ASKED.set(N_ASKED.get().saturating_add(1));
    N_ASKED.get() < MAX_ASKED
}

/// Whether a set on the way to whoever is being polled now has something to do, which it comes to when this poll returns. Known
/// only while the loop lends.
pub(crate) fn is_awaited_above() -> bool {
    WAY.with(|way| {
        way.borrow().iter().any(|core| {
            // SAFETY: it is in the list while it is polled, by a poll further up the stack; so its future is not dropped.
            let core = unsafe { core.as_ref() };
            // Not `is_unusual`: where polls are noted it always is.
            core.ready.first().is_some() || !core.doomed.is_empty() || core.last_round.get() == LastRound::Over
        })
    })
}
