//! What home and the workers of one group share.

use std::cell::Cell;
use std::ptr;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use super::board::{Added, Board, Orders, Settled, Side, Undrawn};
use super::bridge::Bridge;
use super::errand::Notice;
use super::permit::{Permit, SOON};
use super::vigil::{self, LastSeen};
use super::worker;
use crate::drawing::Drawing;
use crate::error::Payload;
use crate::recording::Asked;
use crate::report::{Origin, Report, ReportKind, report};
use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering, lock, park};
use crate::sys;
use crate::unwind::Dropper;

/// A worker that does not come out for so long is reported.
const REPORTED_AFTER: Duration = Duration::from_secs(1);

/// How long home waits at first for one that may block for another one that is kept out.
const FIRST_PATIENCE: Duration = Duration::from_millis(16);

/// How long home waits for such a one at most, unless it has seen longer polls.
const LONGEST_PATIENCE: Duration = Duration::from_secs(4);

/// Home and workers of one group. No code of the user runs while anything in here is locked.
pub(crate) struct Team<J> {
    board: Mutex<Board<J>>,
    /// One for each worker; none where everything runs at home.
    permits: Box<[Arc<Permit>]>,
    /// What home is to hear of.
    news: Mutex<News>,
    bridge: Arc<Bridge>,
    keeps_all: AtomicBool,
    /// How long a task may clean up that was cancelled alone.
    grace: Option<Duration>,
    /// Home, when it looked out last.
    home_seen: LastSeen,
}

/// What has happened on the workers.
#[derive(Default)]
pub(crate) struct News {
    /// In the order in which they happened.
    pub(crate) failures: Vec<Failure>,
    /// Handles of tasks that have ended because the group did.
    pub(crate) cancelled: Vec<Notice>,
    pub(crate) reports: Vec<Report>,
    /// Home hears no more.
    is_deaf: bool,
}

/// What comes of a task that is left for home.
pub(crate) enum HandIn<R> {
    Done(R),
    /// Whoever hands it in is cancelled and does not know yet: so is the task.
    Cancelled,
    /// The group only cleans up, and this is no part of home's cleanup.
    Refused,
}

impl News {
    fn has_ends(&self) -> bool {
        !self.failures.is_empty() || !self.cancelled.is_empty()
    }
}

/// A task has failed on a worker.
pub(crate) struct Failure {
    /// `None` for an error, which is with the group's errors.
    pub(crate) panic: Option<Payload>,
    pub(crate) origin: Option<Origin>,
    /// Its handle.
    pub(crate) notice: Option<Notice>,
}

impl<J> Team<J> {
    /// A team of this thread. With no workers its jobs are for home.
    /// `limit` is how many jobs there may be at once that are not for one worker, `grace` how long a task may clean up that was cancelled
    /// alone.
    pub(crate) fn new(n_workers: usize, limit: usize, grace: Option<Duration>) -> Self {
        Self {
            board: Mutex::new(Board::new(n_workers.max(1), limit)),
            permits: (0..n_workers).map(|_| Arc::new(Permit::new(worker::current_permit()))).collect(),
            news: Mutex::default(),
            bridge: Arc::new(Bridge::new()),
            keeps_all: AtomicBool::new(false),
            grace,
            home_seen: LastSeen::new(),
        }
    }

    fn board(&self) -> MutexGuard<'_, Board<J>> {
        lock(&self.board)
    }

    fn news(&self) -> MutexGuard<'_, News> {
        lock(&self.news)
    }

    pub(crate) fn bridge(&self) -> &Arc<Bridge> {
        &self.bridge
    }

    /// The waker of the group.
    pub(crate) fn waker(&self) -> Waker {
        Arc::clone(&self.bridge).into()
    }

    /// Whether there are no workers, and jobs run at home.
    pub(crate) fn is_at_home(&self) -> bool {
        self.permits.is_empty()
    }

    /// How many do the jobs.
    pub(crate) fn n_workers(&self) -> usize {
        self.permits.len().max(1)
    }

    pub(super) fn permit(&self, worker: usize) -> &Arc<Permit> {
        &self.permits[worker]
    }

    /// Every failure is kept, so a worker goes on after one until home has it stop.
    pub(crate) fn keep_all(&self) {
        self.keeps_all.store(true, Ordering::Relaxed);
    }

    pub(super) fn keeps_all(&self) -> bool {
        self.keeps_all.load(Ordering::Relaxed)
    }

    /// How long a task may clean up that was cancelled alone.
    pub(crate) fn grace(&self) -> Option<Duration> {
        self.grace
    }

    /// The whole group is cancelled: what its grace cuts off is home's affair from now on.
    pub(crate) fn begin_end(&self) {
        self.board().begin_end();
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.board().is_ending()
    }

    /// For whom this thread acts: it may be a worker of a group further in.
    fn side(&self) -> Side {
        let home = self.bridge.home();
        if home.is_current() {
            return Side::Home;
        }
        let current = worker::current_permit();
        let side_of = |permit: &Permit| {
            let worker = self.permits.iter().position(|own| ptr::eq(&raw const **own, permit)).map(Side::Worker);
            worker.or_else(|| permit.is_lent_by(home).then_some(Side::Home))
        };
        // Without workers nobody has anything that home does not know.
        let otherwise = if self.is_at_home() { Side::Home } else { Side::Stranger };
        current.iter().flat_map(|current| current.chain()).find_map(side_of).unwrap_or(otherwise)
    }

    /// Has `hand_in` leave a task for home elsewhere, if that is for this thread to do. No code of the user may be in it.
    pub(crate) fn hand_in<R>(&self, hand_in: impl FnOnce() -> R) -> HandIn<R> {
        let board = self.board();
        match self.side() {
            Side::Home => HandIn::Done(hand_in()),
            _ if board.is_ending() => HandIn::Refused,
            side @ Side::Worker(_) if board.is_behind(side) => HandIn::Cancelled,
            _ => HandIn::Done(hand_in()),
        }
    }

    /// Adds a job, for one worker or for any; gives it back when the team has ended.
    pub(crate) fn add(&self, worker: Option<usize>, job: J) -> Result<(), J> {
        let mut board = self.board();
        if board.is_anyone_behind() && board.is_behind(self.side()) {
            board.add_doomed(job)?;
            drop(board);
            self.bridge.wake_by_ref();
            return Ok(());
        }
        let added = match worker {
            Some(worker) => board.add_for(worker, job),
            None => board.add(job),
        };
        drop(board);
        let Added { worker, needs_more } = added?;
        self.wake(worker);
        if needs_more || self.is_at_home() {
            self.bridge.wake_by_ref();
        }
        Ok(())
    }

    fn wake(&self, worker: Option<usize>) {
        if let Some(permit) = worker.and_then(|worker| self.permits.get(worker)) {
            permit.wake_holder();
        }
    }

    fn wake_all(&self) {
        self.permits.iter().for_each(|permit| permit.wake_holder());
    }

    /// The workers that are to be started for the jobs that there are. The caller does, or has them [leave](Self::leave).
    pub(crate) fn start_workers(&self) -> std::ops::Range<usize> {
        self.board().start_workers()
    }

    /// What `worker` has to do.
    pub(crate) fn take(&self, worker: usize, jobs: &mut Vec<J>) -> Orders {
        let orders = {
            let mut board = self.board();
            if let Some(permit) = self.permits.get(worker) {
                permit.look_at_board();
            }
            board.take(worker, jobs)
        };
        self.wake(orders.next);
        orders
    }

    /// `worker` tells how many of its jobs have ended, with all that they borrowed, and whether it has nothing ready; `true`
    /// if it has to look again.
    pub(crate) fn settle(&self, worker: usize, n_ended: usize, is_idle: bool) -> bool {
        let Settled { looks_again, is_end, next } = self.board().settle(worker, n_ended, is_idle);
        self.wake(next);
        if is_end {
            self.bridge.wake_by_ref();
        }
        looks_again
    }

    /// `worker` does not look any more: its thread ends.
    pub(crate) fn leave(&self, worker: usize) {
        let settled = self.board().leave(worker);
        self.wake(settled.next);
        self.bridge.wake_by_ref();
        if let Some(permit) = self.permits.get(worker) {
            permit.forget_holder();
            permit.unpark_lender();
        }
    }

    /// Tells home.
    pub(crate) fn tell(&self, tell: impl FnOnce(&mut News)) {
        tell(&mut self.news());
        self.bridge.wake_by_ref();
    }

    /// Tells home of a panic that is not that of a running task.
    pub(crate) fn tell_panic(&self, panic: Payload, origin: Option<Origin>) {
        self.tell(|news| news.failures.push(Failure { panic: Some(panic), origin, notice: None }));
    }

    /// Tells home of a report; `false` if it hears no more.
    pub(crate) fn tell_report(&self, report: &Report) -> bool {
        let mut is_told = false;
        self.tell(|news| {
            is_told = !news.is_deaf;
            news.reports.extend(is_told.then(|| report.clone()));
        });
        is_told
    }

    /// What home has not heard of yet. It hears no more.
    pub(crate) fn take_last_news(&self) -> News {
        std::mem::replace(&mut *self.news(), News { is_deaf: true, ..News::default() })
    }

    /// What home has not heard of yet.
    pub(crate) fn take_news(&self) -> News {
        std::mem::take(&mut *self.news())
    }

    /// Cancels the jobs that are there now, as was `asked` for, and does `also` in the same moment. Those that have not begun are home's to drop.
    pub(crate) fn cancel<R>(&self, asked: Asked, also: impl FnOnce() -> R) -> R {
        let mut board = self.board();
        let result = also();
        // Where home does not know yet of a failure, that has cancelled what home knows of; what has come since is a cleanup's.
        if !board.is_behind(Side::Home) {
            board.cancel(Some(asked));
            self.give_orders(board);
        }
        result
    }

    /// A job was cancelled alone, before it has begun. It is home's to drop; whoever has asked for that may be anywhere.
    pub(crate) fn cancel_queued(&self) {
        self.board().note_cancelled();
        self.bridge.wake_by_ref();
    }

    /// Tells the workers of a cancellation that is on the board, and home.
    fn give_orders(&self, board: MutexGuard<'_, Board<J>>) {
        board.behind().filter_map(|worker| self.permits.get(worker)).for_each(|permit| permit.give_orders());
        drop(board);
        self.wake_all();
        self.bridge.wake_by_ref();
    }

    /// The group has failed, or is cancelled as a whole, as home knows: so are the jobs that are there now, unless they have been for
    /// that.
    pub(crate) fn cancel_rest<R>(&self, also: impl FnOnce() -> R) -> R {
        self.cancel_rest_by(Side::Home, also)
    }

    fn cancel_rest_by<R>(&self, side: Side, also: impl FnOnce() -> R) -> R {
        let mut board = self.board();
        let result = also();
        if board.cancel_rest(side) {
            self.give_orders(board);
        }
        result
    }

    /// A job of `worker` has failed, and has told so. Whether the worker is to cancel what it has, before it polls any of that.
    pub(super) fn fail(&self, worker: usize) -> bool {
        if self.keeps_all() {
            return false;
        }
        self.cancel_rest_by(Side::Worker(worker), || ());
        let mut board = self.board();
        self.permits[worker].take_orders();
        board.take_cancelled(worker)
    }

    /// Jobs that were cancelled before they began: `is_cancelled` says which were cancelled alone.
    pub(crate) fn take_doomed(&self, is_cancelled: impl Fn(&J) -> bool) -> Vec<J> {
        self.board().take_doomed(is_cancelled)
    }

    /// Whether any job is open, or has told home of its end and home has not heard of it. If so, the bridge is woken when there is
    /// news, or no job is left.
    pub(crate) fn awaits_end(&self) -> bool {
        // In this order: a job tells its end before it is counted out.
        self.board().awaits_end() || self.news().has_ends()
    }

    /// Whether any job is open.
    pub(crate) fn has_open(&self) -> bool {
        self.board().n_open() > 0
    }

    /// Whether any job is open, or has told home of its end and home has not heard of it.
    pub(crate) fn has_unheard(&self) -> bool {
        self.has_open() || self.news().has_ends()
    }

    /// Home, which would sleep, looks out for a call of the workers, unless one of them may want its processor.
    pub(crate) fn look_out_for_workers(&self) {
        self.home_seen.note();
        vigil::keep(|| {
            let board = self.board();
            (0..board.n_started()).all(|worker| match self.permits[worker].is_holder_elsewhere() {
                Some(is_elsewhere) => is_elsewhere || board.rests(worker),
                // Its thread is about to come.
                None => false,
            })
        });
    }

    /// A worker, which would sleep, looks out for a call of home, unless that may want its processor.
    pub(super) fn look_out_for_home(&self) {
        vigil::keep(|| self.home_seen.is_elsewhere() == Some(true));
    }

    /// Has the workers draw their tasks, each when its present poll has ended.
    pub(crate) fn want_drawings(&self) {
        let mut board = self.board();
        board.want_drawings().for_each(|worker| self.permits[worker].want_drawing());
        drop(board);
        self.wake_all();
    }

    /// `worker` has drawn its tasks.
    pub(crate) fn put_drawing(&self, worker: usize, drawing: Drawing) {
        if self.board().put_drawing(worker, drawing) {
            self.permits[worker].nudge_lender();
        }
    }

    /// Whether no worker is still to draw its tasks.
    pub(crate) fn have_drawn(&self) -> bool {
        self.board().have_drawn()
    }

    /// What each worker has drawn that was started and was asked to, or what is known of it.
    pub(crate) fn take_drawings(&self) -> Vec<Result<Drawing, Undrawn>> {
        self.board().take_drawings()
    }

    /// What is known of each worker that was started, where none is asked.
    pub(crate) fn look_at_workers(&self) -> impl Iterator<Item = Undrawn> {
        let n_tasks = self.board().n_tasks();
        n_tasks
            .into_iter()
            .zip(&self.permits)
            .map(|(n_tasks, permit)| Undrawn { n_tasks, is_in_poll: permit.is_inside() })
    }

    /// Ends a team of which no job is open: its workers borrow nothing any more, so they leave when they come to it.
    pub(crate) fn close(&self) {
        self.board().close();
        self.let_all_in();
        for permit in &self.permits {
            permit.grant();
            permit.wake_holder();
        }
    }

    /// Opens all permits; `true` if a worker had asked.
    fn grant(&self) -> bool {
        let n_started = self.board().n_started();
        self.permits[..n_started].iter().fold(false, |was_wanted, permit| permit.grant() | was_wanted)
    }

    /// Closes all permits and waits until the workers are out; `false` if one does not come soon.
    fn try_recall(&self) -> bool {
        self.permits.iter().for_each(|permit| permit.recall());
        self.permits.iter().all(|permit| permit.wait_until_left())
    }

    /// All may come again with the next grant.
    fn let_all_in(&self) {
        self.permits.iter().for_each(|permit| permit.let_in());
    }

    fn has_ended(&self) -> bool {
        let board = self.board();
        board.is_closed() && board.n_open() == 0
    }

    /// Whether a worker asks for its permit, and has not come in since.
    pub(crate) fn is_wanted(&self) -> bool {
        self.permits.iter().any(|permit| permit.is_wanted())
    }

    /// Whether a worker is in its poll.
    pub(crate) fn is_inside(&self) -> bool {
        self.permits.iter().any(|permit| permit.is_inside())
    }

    /// Workers may be let in, until the result is dropped; that waits until they are out.
    ///
    /// # Safety
    /// - This thread is inside the poll of the team's group, or inside its end. So what the jobs borrow is alive.
    /// - The result is dropped before it comes out of there.
    pub(crate) unsafe fn open(&self) -> Window<'_, J> {
        self.let_all_in();
        Window { team: self, recall: Cell::default() }
    }

    /// Has every worker drop what it has in the name of `dropper`, and waits for that.
    ///
    /// # Safety
    /// This thread is inside the poll of the team's group, or inside its end.
    pub(crate) unsafe fn abort(&self, dropper: Dropper) {
        let mut board = self.board();
        board.abort(dropper);
        self.give_orders(board);
        // SAFETY: the caller's contract is this one's; it is dropped below.
        let window = unsafe { self.open() };
        window.grant();
        let mut recall = Recall::begin();
        while !self.board().have_all_left() {
            park(SOON);
            recall.report(&self.permits);
        }
    }
}

/// The workers may enter.
pub(crate) struct Window<'a, J> {
    team: &'a Team<J>,
    /// There while home wants to be out and a worker has not come.
    recall: Cell<Option<Recall>>,
}

impl<J> Window<'_, J> {
    /// Lets in all who have been started, but for those who are kept out; `true` if one had asked.
    pub(crate) fn grant(&self) -> bool {
        self.team.grant()
    }

    /// Has the workers out; `false` if one does not come soon. It may block for what another one has to do, or home inside of the group. So those
    /// who came soon may enter again, until this is called once more. Who did not stays out when it comes, until home has been out: it was in a long poll,
    /// and would be in the next one.
    pub(crate) fn try_close(&self) -> bool {
        // For a team that has ended the permits stay open: there is nothing that they protect.
        if self.team.has_ended() {
            return true;
        }
        let are_out = self.team.try_recall();
        if are_out {
            self.stay();
        } else {
            let mut recall = self.recall.take().unwrap_or_else(Recall::begin);
            recall.go_on(&self.team.permits);
            recall.report(&self.team.permits);
            self.recall.set(Some(recall));
            self.grant();
        }
        are_out
    }

    /// Whether home wants to be out, and a worker does not come.
    pub(crate) fn is_held_up(&self) -> bool {
        self.recall.get().is_some()
    }

    /// Nobody is kept out any more: home has been out, or does not want to be.
    pub(crate) fn stay(&self) {
        if self.recall.take().is_some() {
            self.team.let_all_in();
        }
    }

    /// Waits for so long, or until one has left that did not come soon.
    pub(crate) fn breathe(&self, limit: Duration) {
        park(limit);
    }
}

impl<J> Drop for Window<'_, J> {
    fn drop(&mut self) {
        // Nothing in here may unwind before the workers are out; a report that fails does not.
        while !self.try_close() {
            self.breathe(SOON);
        }
    }
}

/// Home wants to be out, and workers do not come.
#[derive(Clone, Copy)]
struct Recall {
    since: Instant,
    is_reported: bool,
    /// How many are kept out.
    n_out: usize,
    /// Nobody is kept out for a while.
    are_let_in: bool,
    /// When the last one of them has left, or all were let in, or that was over.
    moved_at: Instant,
    /// If nobody leaves for so long, those who stay may block for one that is kept out. So all are let in, for as long. It grows, so that it is
    /// longer than the polls at last.
    patience: Duration,
}

impl Recall {
    fn begin() -> Self {
        let now = sys::now();
        let (is_reported, n_out, are_let_in) = (false, 0, false);
        Self { since: now, is_reported, n_out, are_let_in, moved_at: now, patience: FIRST_PATIENCE }
    }

    /// Keeps those out who have not come soon. If that leads to nothing, all are let in for a while.
    fn go_on(&mut self, permits: &[Arc<Permit>]) {
        let now = sys::now();
        let waited = now.saturating_duration_since(self.moved_at);
        if self.are_let_in {
            if waited < self.patience {
                return;
            }
            self.are_let_in = false;
            self.patience = self.patience.max(LONGEST_PATIENCE.min(2 * self.patience));
            self.moved_at = now;
            return;
        }
        permits.iter().for_each(|permit| permit.keep_out_if_inside());
        let n_out = permits.iter().filter(|permit| permit.is_kept_out()).count();
        if n_out > self.n_out {
            // Whoever has left did not block: so long are the polls.
            self.patience = self.patience.max(2 * waited);
            (self.n_out, self.moved_at) = (n_out, now);
        } else if n_out > 0 && waited >= self.patience {
            permits.iter().for_each(|permit| permit.let_in());
            (self.n_out, self.are_let_in, self.moved_at) = (0, true, now);
        }
    }

    /// Tells of those who are still in their polls, once, after a second.
    fn report(&mut self, permits: &[Arc<Permit>]) {
        if !self.is_reported && sys::now().saturating_duration_since(self.since) >= REPORTED_AFTER {
            // Who is held up itself reports that.
            for permit in permits.iter().filter(|permit| permit.does_not_give_way()) {
                self.is_reported = true;
                report_long(permit);
            }
        }
    }
}

/// Tells of a worker that does not come out of its poll.
fn report_long(permit: &Permit) {
    let task = permit.place().map_or_else(|| "a worker".into(), |location| format!("a task {}", Origin::at(location)));
    report(
        ReportKind::HeldUp,
        format!(
            "{task} has held up the thread that its group is on for a second; long computations give way with `yield_now`"
        ),
    );
}
