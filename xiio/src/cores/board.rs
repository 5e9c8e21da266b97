//! What the two sides have to tell each other, under one lock: jobs, orders to the workers, and how far they are.
//!
//! Pure data; who has to be woken comes back as a value, and is woken when the lock is open again.

use std::collections::VecDeque;

use crate::drawing::Drawing;
use crate::recording::Asked;
use crate::unwind::Dropper;

/// Jobs that one worker takes at once. Enough that the lock does not show, few enough that another one has its share.
const BATCH: usize = 16;

/// The board of a group with workers.
///
/// # Invariants
/// - While jobs are queued, the limit allows another one and a worker would take one, such a worker is called: it will look at the board,
///   and calls the next if it leaves some. Who would take none is not called, so that nobody is called again and again.
/// - `n_open` counts the jobs that are queued, doomed, or with a worker.
pub(super) struct Board<J> {
    /// Jobs that have not begun, for any worker.
    queue: VecDeque<J>,
    /// Jobs that were cancelled before they began, to be dropped at home.
    doomed: Vec<J>,
    /// One that has not begun was cancelled alone. It joins the doomed when home looks for them.
    is_one_cancelled: bool,
    desks: Box<[Desk<J>]>,
    n_started: usize,
    /// How many jobs the workers may have at once.
    limit: usize,
    /// The worker who is to look at the board.
    called: Option<usize>,
    n_open: usize,
    is_closed: bool,
    /// The group has failed or was cancelled as a whole.
    is_ending: bool,
    /// It has failed on a worker, and home does not know yet.
    is_home_behind: bool,
    /// The workers drop what they have, in the name of this one.
    aborted: Option<Dropper>,
    /// Home waits until nothing is open.
    is_end_awaited: bool,
}

/// What there is of one worker.
struct Desk<J> {
    /// Jobs that have not begun, for this worker alone.
    own: VecDeque<J>,
    /// Jobs that it has taken and that have not ended.
    n_live: usize,
    /// It had nothing ready when it looked last, or has not looked yet.
    is_idle: bool,
    /// What it has is to be cancelled, and it has not done so yet.
    is_cancelled: bool,
    /// If it is, and somebody has asked for that.
    asked: Option<Asked>,
    has_left: bool,
    sight: Sight,
}

impl<J> Desk<J> {
    /// How many more jobs it takes: up to its share, and one in any case if it has nothing ready.
    fn n_wanted(&self, share: usize) -> usize {
        share.saturating_sub(self.n_live).max(usize::from(self.is_idle))
    }
}

/// Who does something to the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Home,
    Worker(usize),
    /// Another thread, to which a task has lent a handle of the group.
    Stranger,
}

/// How far a worker is that is to draw its tasks.
enum Sight {
    NotWanted,
    Wanted,
    /// The worker knows.
    Told,
    Drawn(Drawing),
}

/// What is known of a worker that has not drawn its tasks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Undrawn {
    pub(crate) n_tasks: usize,
    pub(crate) is_in_poll: bool,
}

/// What a worker is told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Orders {
    /// Cancel what you have, before you begin what you got now.
    pub(super) is_cancelled: bool,
    /// By whom that was asked for.
    pub(super) asked: Option<Asked>,
    /// There is nothing left to do, and nothing will come.
    pub(super) is_closed: bool,
    /// Drop what you have, in the name of this one.
    pub(super) aborted: Option<Dropper>,
    /// Draw what you have.
    pub(super) is_to_draw: bool,
    /// Who is to be woken to look as well.
    pub(super) next: Option<usize>,
}

/// What comes of it when a worker tells how far it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    /// The worker has nothing to do, and there are jobs: it looks again.
    pub(super) looks_again: bool,
    /// Home waits for the end, and this was the last job.
    pub(super) is_end: bool,
    /// Who is to be woken, as there is room for another job.
    pub(super) next: Option<usize>,
}

/// Who is to be woken for a job that has been added.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Added {
    pub(super) worker: Option<usize>,
    /// There are workers who have not been started.
    pub(super) needs_more: bool,
}

impl<J> Board<J> {
    pub(super) fn new(n_workers: usize, limit: usize) -> Self {
        let desk = |_| Desk {
            own: VecDeque::new(),
            n_live: 0,
            is_idle: true,
            is_cancelled: false,
            asked: None,
            has_left: false,
            sight: Sight::NotWanted,
        };
        Self {
            queue: VecDeque::new(),
            doomed: Vec::new(),
            is_one_cancelled: false,
            desks: (0..n_workers).map(desk).collect(),
            n_started: 0,
            limit,
            called: None,
            n_open: 0,
            is_closed: false,
            is_ending: false,
            is_home_behind: false,
            aborted: None,
            is_end_awaited: false,
        }
    }

    /// Whether anybody has not carried out a cancellation yet.
    pub(super) fn is_anyone_behind(&self) -> bool {
        self.is_home_behind || self.desks.iter().any(|desk| desk.is_cancelled)
    }

    /// Whether `side` is cancelled and does not know it yet, so that what it adds is cancelled, too.
    pub(super) fn is_behind(&self, side: Side) -> bool {
        match side {
            Side::Home => self.is_home_behind,
            Side::Worker(worker) => self.desks[worker].is_cancelled,
            Side::Stranger => self.is_anyone_behind(),
        }
    }

    /// Adds a job that is cancelled, for home to drop; gives it back when the board is closed.
    pub(super) fn add_doomed(&mut self, job: J) -> Result<(), J> {
        if self.is_closed {
            return Err(job);
        }
        self.n_open += 1;
        self.doomed.push(job);
        Ok(())
    }

    /// Adds a job for any worker; gives it back when the board is closed.
    pub(super) fn add(&mut self, job: J) -> Result<Added, J> {
        if self.is_closed {
            return Err(job);
        }
        self.n_open += 1;
        self.queue.push_back(job);
        let worker = self.call_if_needed();
        Ok(Added { worker, needs_more: self.n_started < self.desks.len() })
    }

    /// Adds a job for one worker.
    pub(super) fn add_for(&mut self, worker: usize, job: J) -> Result<Added, J> {
        if self.is_closed || self.desks[worker].has_left {
            return Err(job);
        }
        self.n_open += 1;
        self.desks[worker].own.push_back(job);
        Ok(Added { worker: Some(worker), needs_more: worker >= self.n_started })
    }

    /// How many workers there must be for what is there now; they are taken for started from now on.
    pub(super) fn start_workers(&mut self) -> std::ops::Range<usize> {
        let for_own = self.desks.iter().rposition(|desk| !desk.own.is_empty()).map_or(0, |last| last + 1);
        let n_idle = self.desks[..self.n_started].iter().filter(|desk| desk.is_idle).count();
        let n_more = self.queue.len().saturating_sub(n_idle);
        let n_wanted = (self.n_started + n_more).min(self.desks.len()).max(for_own);
        let from = std::mem::replace(&mut self.n_started, n_wanted);
        from..self.n_started
    }

    /// Calls a worker if there is something to take and none is called, or only one that is busy while another is idle: it may be
    /// in a long poll.
    fn call_if_needed(&mut self) -> Option<usize> {
        let may_take = !self.queue.is_empty() && self.n_live() < self.limit;
        let is_needed = may_take && self.called.is_none_or(|called| !self.desks[called].is_idle && self.is_any_idle());
        if is_needed { self.call() } else { None }
    }

    fn is_any_idle(&self) -> bool {
        self.desks[..self.n_started].iter().any(|desk| desk.is_idle && !desk.has_left)
    }

    /// Chooses the worker who is to look at the board: one that has nothing to do, or the one with the fewest jobs.
    fn call(&mut self) -> Option<usize> {
        let share = self.share();
        let started = self.desks[..self.n_started].iter().enumerate();
        let takers = started.filter(|(_, desk)| !desk.has_left && desk.n_wanted(share) > 0);
        self.called = takers.min_by_key(|(_, desk)| (!desk.is_idle, desk.n_live)).map(|(worker, _)| worker);
        self.called
    }

    /// How many of the jobs a worker is to have that has something to do, so that the others have theirs. Those who have not been started
    /// are about to be.
    fn share(&self) -> usize {
        let n_there = self.desks.iter().filter(|desk| !desk.has_left).count();
        (self.n_live() + self.queue.len()).div_ceil(n_there.max(1))
    }

    /// What `worker` has to do; its jobs are put into `jobs`.
    pub(super) fn take(&mut self, worker: usize, jobs: &mut Vec<J>) -> Orders {
        let n_live = self.n_live();
        let share = self.share();
        let desk = &mut self.desks[worker];
        let n_wanted = desk.n_wanted(share);
        desk.is_idle = false;
        let n_queued = n_wanted.min(BATCH).min(self.queue.len()).min(self.limit.saturating_sub(n_live));
        desk.n_live += n_queued + desk.own.len();
        jobs.extend(desk.own.drain(..));
        jobs.extend(self.queue.drain(..n_queued));
        let is_cancelled = std::mem::take(&mut desk.is_cancelled);
        let asked = desk.asked.take();
        let is_to_draw = matches!(desk.sight, Sight::Wanted);
        if is_to_draw {
            desk.sight = Sight::Told;
        }
        if self.called == Some(worker) {
            self.called = None;
        }
        let next = self.call_if_needed();
        Orders { is_cancelled, asked, is_closed: self.is_closed, aborted: self.aborted, is_to_draw, next }
    }

    /// `n_ended` of the jobs of `worker` have ended, and are gone with all that they borrowed.
    pub(super) fn settle(&mut self, worker: usize, n_ended: usize, is_idle: bool) -> Settled {
        let desk = &mut self.desks[worker];
        desk.n_live -= n_ended;
        desk.is_idle = is_idle;
        self.n_open -= n_ended;
        let is_end = n_ended > 0 && self.n_open == 0 && std::mem::replace(&mut self.is_end_awaited, false);
        let looks_again = is_idle && !self.queue.is_empty() && self.n_live() < self.limit;
        Settled { looks_again, is_end, next: self.call_if_needed() }
    }

    /// Cancels what is there now, as somebody may have asked for. All workers are to be woken.
    pub(super) fn cancel(&mut self, asked: Option<Asked>) {
        self.called = None;
        // With their memory: a handle may keep the board.
        self.doomed.extend(std::mem::take(&mut self.queue));
        for desk in &mut self.desks {
            self.doomed.extend(std::mem::take(&mut desk.own));
            if !desk.is_cancelled {
                desk.asked = asked;
            }
            desk.is_cancelled = desk.n_live > 0;
        }
    }

    /// The group ends, as home knows.
    pub(super) fn begin_end(&mut self) {
        self.is_ending = true;
        self.is_home_behind = false;
    }

    /// The group has failed, or is cancelled as a whole, so what is there now is cancelled. Once: what is added from then on belongs
    /// to a cleanup, but for what is added by who does not know yet. `true` for the first time.
    pub(super) fn cancel_rest(&mut self, side: Side) -> bool {
        let is_first = !std::mem::replace(&mut self.is_ending, true);
        self.is_home_behind = (is_first || self.is_home_behind) && side != Side::Home;
        if is_first {
            self.cancel(None);
        }
        is_first
    }

    pub(super) fn is_ending(&self) -> bool {
        self.is_ending
    }

    /// Whether what a worker has is to be cancelled, and it has not done so yet. It is about to.
    pub(super) fn take_cancelled(&mut self, worker: usize) -> bool {
        std::mem::take(&mut self.desks[worker].is_cancelled)
    }

    /// The workers who do not know yet that what they have is cancelled.
    pub(super) fn behind(&self) -> impl Iterator<Item = usize> {
        self.desks.iter().enumerate().filter(|(_, desk)| desk.is_cancelled).map(|(worker, _)| worker)
    }

    /// A job that has not begun was cancelled alone.
    pub(super) fn note_cancelled(&mut self) {
        self.is_one_cancelled = true;
    }

    /// Jobs that were cancelled before they began, to be dropped outside of the lock. `is_cancelled` says which were cancelled alone.
    pub(super) fn take_doomed(&mut self, is_cancelled: impl Fn(&J) -> bool) -> Vec<J> {
        if std::mem::take(&mut self.is_one_cancelled) {
            // Nobody has a handle of a job for one worker.
            let (doomed, kept): (Vec<_>, Vec<_>) = self.queue.drain(..).partition(is_cancelled);
            self.doomed.extend(doomed);
            self.queue = kept.into();
        }
        self.n_open -= self.doomed.len();
        std::mem::take(&mut self.doomed)
    }

    /// Whether nothing is open; if something is, home is woken at the end.
    pub(super) fn awaits_end(&mut self) -> bool {
        self.is_end_awaited = self.n_open > 0;
        self.is_end_awaited
    }

    /// Jobs that have not ended.
    pub(super) fn n_open(&self) -> usize {
        self.n_open
    }

    fn n_live(&self) -> usize {
        self.desks.iter().map(|desk| desk.n_live).sum()
    }

    /// Takes no more jobs. What is queued is home's to drop.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
        self.cancel(None);
    }

    /// Has the workers drop what they have, in the name of `dropper`.
    pub(super) fn abort(&mut self, dropper: Dropper) {
        self.close();
        self.aborted = Some(dropper);
        // What was drawn before may have ended since.
        self.desks.iter_mut().for_each(|desk| desk.sight = Sight::NotWanted);
    }

    /// Has the workers draw their tasks. Gives those who are to draw, who are to be woken.
    pub(super) fn want_drawings(&mut self) -> impl Iterator<Item = usize> {
        let there = self.desks[..self.n_started].iter_mut().enumerate().filter(|(_, desk)| !desk.has_left);
        there.map(|(worker, desk)| {
            desk.sight = Sight::Wanted;
            worker
        })
    }

    /// `worker` has drawn its tasks; `true` if nobody else is still to do so.
    pub(super) fn put_drawing(&mut self, worker: usize, drawing: Drawing) -> bool {
        self.desks[worker].sight = Sight::Drawn(drawing);
        self.have_drawn()
    }

    /// Whether no worker is still to draw its tasks.
    pub(super) fn have_drawn(&self) -> bool {
        !self.desks.iter().any(|desk| matches!(desk.sight, Sight::Wanted | Sight::Told))
    }

    /// What each worker has drawn that was started and was asked to, or what is known of it.
    pub(super) fn take_drawings(&mut self) -> Vec<Result<Drawing, Undrawn>> {
        let take = |desk: &mut Desk<J>| match std::mem::replace(&mut desk.sight, Sight::NotWanted) {
            Sight::Drawn(drawing) => Ok(drawing),
            Sight::NotWanted => Err(Undrawn { n_tasks: desk.n_live, is_in_poll: false }),
            // It has not come to it.
            Sight::Wanted | Sight::Told => Err(Undrawn { n_tasks: desk.n_live, is_in_poll: true }),
        };
        self.desks[..self.n_started].iter_mut().map(take).collect()
    }

    /// How many tasks each worker has that was started.
    pub(super) fn n_tasks(&self) -> Vec<usize> {
        self.desks[..self.n_started].iter().map(|desk| desk.n_live).collect()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// `worker` will not look again. What it has not ended is lost; without any worker left, the board is closed.
    pub(super) fn leave(&mut self, worker: usize) -> Settled {
        let desk = &mut self.desks[worker];
        desk.has_left = true;
        desk.is_cancelled = false;
        if matches!(desk.sight, Sight::Wanted | Sight::Told) {
            desk.sight = Sight::NotWanted;
        }
        self.doomed.extend(desk.own.drain(..));
        let n_lost = desk.n_live;
        if self.called == Some(worker) {
            self.called = None;
        }
        if self.desks.iter().all(|desk| desk.has_left) {
            self.close();
        }
        self.settle(worker, n_lost, false)
    }

    /// Whether `worker` has nothing ready, and is not called.
    pub(super) fn rests(&self, worker: usize) -> bool {
        self.desks[worker].is_idle && self.called != Some(worker)
    }

    /// Whether every worker that was started has left.
    pub(super) fn have_all_left(&self) -> bool {
        self.desks[..self.n_started].iter().all(|desk| desk.has_left)
    }

    pub(super) fn n_started(&self) -> usize {
        self.n_started
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Has a worker look at the board; gives how many jobs it has taken, and who is called then.
    fn look(board: &mut Board<()>, worker: usize) -> (usize, Option<usize>) {
        let mut jobs = Vec::new();
        let orders = board.take(worker, &mut jobs);
        (jobs.len(), orders.next)
    }

    fn board(n_workers: usize) -> Board<()> {
        Board::new(n_workers, usize::MAX)
    }

    #[test]
    fn worker_that_has_its_share_is_not_called_again_and_takes_more_when_it_is_idle() {
        let mut board = board(2);
        board.add(()).unwrap();
        assert_eq!(board.start_workers(), 0..1);
        assert_eq!(look(&mut board, 0), (1, None));
        board.settle(0, 0, true);
        assert_eq!(board.add(()).unwrap(), Added { worker: Some(0), needs_more: true });
        board.add(()).unwrap();
        assert_eq!(look(&mut board, 0), (1, None));
        assert_eq!(board.settle(0, 0, true), Settled { looks_again: true, is_end: false, next: Some(0) });
        assert_eq!(look(&mut board, 0), (1, None));
    }

    #[test]
    fn workers_that_have_their_shares_do_not_call_each_other() {
        let mut board = board(3);
        (0..2).for_each(|_| drop(board.add(())));
        assert_eq!(board.start_workers(), 0..2);
        assert_eq!((look(&mut board, 0), look(&mut board, 1)), ((1, Some(1)), (1, None)));
        (0..4).for_each(|_| drop(board.add(())));
        assert_eq!((look(&mut board, 0), look(&mut board, 1)), ((1, Some(1)), (1, None)));
        assert_eq!(board.start_workers(), 2..3);
        assert_eq!(look(&mut board, 2), (2, None));
    }

    #[test]
    fn call_that_a_busy_worker_does_not_come_to_keeps_no_idle_one_asleep() {
        let mut board = board(2);
        (0..2).for_each(|_| drop(board.add(())));
        assert_eq!(board.start_workers(), 0..2);
        assert_eq!((look(&mut board, 0), look(&mut board, 1)), ((1, Some(1)), (1, None)));
        // Each is in its poll. The first one is called, and does not come out.
        assert_eq!(board.add(()).unwrap().worker, Some(0));
        assert_eq!(board.settle(1, 1, true), Settled { looks_again: true, is_end: false, next: Some(1) });
        assert_eq!(look(&mut board, 1), (1, None));
        assert_eq!(board.settle(1, 1, true), Settled { looks_again: false, is_end: false, next: None });
        assert_eq!(board.add(()).unwrap().worker, Some(1));
        assert_eq!(board.add(()).unwrap().worker, None);
    }

    #[test]
    fn what_is_dropped_is_drawn_anew() {
        let mut board = board(1);
        board.add(()).unwrap();
        assert_eq!(board.start_workers(), 0..1);
        assert_eq!(look(&mut board, 0), (1, None));
        assert_eq!(board.want_drawings().count(), 1);
        assert!(board.put_drawing(0, Drawing::default()));
        board.abort(Dropper::Grace);
        assert!(board.take_drawings()[0].is_err());
    }

    #[test]
    fn busy_worker_takes_the_share_of_one_that_has_left() {
        let mut board = board(2);
        (0..2).for_each(|_| drop(board.add(())));
        assert_eq!(board.start_workers(), 0..2);
        board.leave(1);
        assert_eq!(look(&mut board, 0), (2, None));
        board.settle(0, 0, false);
        assert_eq!(board.add(()).unwrap().worker, Some(0));
        assert_eq!(look(&mut board, 0), (1, None));
    }
}
