//! Who takes which job, and when another worker is called. Pure: it is told what happens and says what to do; it
//! neither waits nor wakes nor looks at a clock.
//!
//! ```text
//!                          1                      3
//!   (none) ──▶ called ──────────▶ busy ◀───────────────── watching
//!                ▲ │               │ ▲                    ▲   │
//!                │ │ 2             │ │ 4                  │   │ 5
//!                │ └──────────────────────────────────────┘   │
//!              6 │                 ▼                          ▼
//!                └─────────────── idle ◀──────────────────────┘ ──▶ (none) 7
//!
//!  1 nobody has taken a job since the call, or nobody else works   4 there is a next job / there is none
//!  2 somebody has: the queue moves                                 5 the queue is empty
//!  3 the queue does not move fast enough                           6 `push`, or a worker that leaves jobs behind
//!                                                                  7 idle for long, or the pool has gone
//! ```
//!
//! A thread that is woken costs more than a short job. So at most one worker at a time is called or watching. A watcher
//! looks again after [`WATCH`], and helps if a job that was in the queue at its last look still is. So short jobs are all
//! taken by one worker, whatever their number; and a job behind a long one waits for the time of two looks at most, for
//! each worker that is then needed.

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use crate::sys::fork::Process;

/// How long a watching worker lets the queue move by itself.
pub(super) const WATCH: Duration = Duration::from_micros(200);

/// How long an idle worker stays.
pub(super) const KEEP: Duration = Duration::from_secs(10);

/// So many jobs for each worker may be left behind before their threads count again.
pub(super) const MAX_LEFT: usize = 4;

/// The number of workers of a pool in which no job waits for the end of another.
pub(super) const WITHOUT_BOUND: usize = usize::MAX;

/// The queue of a pool and its workers. `J` is a job, `W` a way to wake a worker.
pub(super) struct Crew<J, W> {
    max_workers: usize,
    queue: VecDeque<J>,
    /// Jobs that were ever queued, but for those that nobody has wanted.
    n_queued: u64,
    /// The one that was idle last is called first.
    idle: Vec<(Id, W)>,
    /// Called or started, and not here yet.
    called: Option<Call>,
    watching: Option<Watcher<W>>,
    n_workers: usize,
    n_busy: usize,
    /// Busy with jobs that nobody waits for. One may end before it is known that it was left: so it may be negative.
    n_left: isize,
    next_id: u64,
    /// The process of the workers, and the first of them.
    process: Option<Process>,
    first_id: u64,
    is_closing: bool,
}

/// Names a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Id(u64);

struct Call {
    id: Id,
    /// What had been taken from the queue when it was called.
    n_taken: u64,
}

struct Watcher<W> {
    id: Id,
    wake: W,
    /// What had been queued when it looked: these jobs are to be taken until its next look.
    n_seen: u64,
}

/// Whom to call. To be done when the crew is not locked.
#[derive(PartialEq, Eq, Debug)]
#[must_use]
pub(super) enum Help<W> {
    Nobody,
    Wake(W),
    /// A new worker, under this name.
    Start(Id),
}

/// What a worker does next.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Next<J, W> {
    /// Call for help, then run the job.
    Work(J, Help<W>),
    /// Wait to be woken, for so long at most; then ask again.
    Rest(Duration),
    End,
}

impl<J, W: Clone> Crew<J, W> {
    pub(super) fn new(max_workers: usize) -> Self {
        Self {
            max_workers,
            queue: VecDeque::new(),
            n_queued: 0,
            idle: Vec::new(),
            called: None,
            watching: None,
            n_workers: 0,
            n_busy: 0,
            n_left: 0,
            next_id: 0,
            process: None,
            first_id: 0,
            is_closing: false,
        }
    }

    /// Forgets workers and jobs if they are those of another process: this one was forked off it, and has none of its threads. Its jobs
    /// run there, and what they hold is not to be dropped twice.
    pub(super) fn be_in(&mut self, process: Process) {
        if self.process.replace(process) == Some(process) {
            return;
        }
        self.first_id = self.next_id;
        self.queue.drain(..).for_each(mem::forget);
        self.idle.clear();
        (self.called, self.watching) = (None, None);
        (self.n_workers, self.n_busy, self.n_left) = (0, 0, 0);
    }

    /// Puts a job at the end of the queue.
    pub(super) fn push(&mut self, job: J) -> Help<W> {
        self.queue.push_back(job);
        self.n_queued += 1;
        self.call_help()
    }

    /// Takes out the jobs that nobody wants any more, before the queue grows: behind jobs that last they would be kept.
    pub(super) fn take_unwanted(&mut self, is_wanted: impl Fn(&J) -> bool) -> VecDeque<J> {
        if self.queue.len() < self.queue.capacity() {
            return VecDeque::new();
        }
        // They count as never queued, also for who has seen them: the queue moves only by what workers take.
        let (n_taken, jobs) = (self.n_taken(), mem::take(&mut self.queue));
        let n_seen = self.watching.as_ref().map_or(0, |watcher| watcher.n_seen.saturating_sub(n_taken));
        let (mut wanted, mut unwanted) = (VecDeque::new(), VecDeque::new());
        for (job, place) in jobs.into_iter().zip(0..) {
            if is_wanted(&job) {
                wanted.push_back(job);
                continue;
            }
            unwanted.push_back(job);
            self.n_queued -= 1;
            if let Some(watcher) = self.watching.as_mut().filter(|_| place < n_seen) {
                watcher.n_seen -= 1;
            }
        }
        wanted.reserve(wanted.len() + 1);
        self.queue = wanted;
        unwanted
    }

    fn n_taken(&self) -> u64 {
        self.n_queued - self.queue.len() as u64
    }

    /// Calls a worker, unless one is called or watching already, or all are at work.
    fn call_help(&mut self) -> Help<W> {
        if self.called.is_some() || (self.watching.is_some() && self.n_busy > 0) {
            return Help::Nobody;
        }
        let n_taken = self.n_taken();
        if let Some(Watcher { id, wake, .. }) = self.watching.take() {
            self.called = Some(Call { id, n_taken });
            return Help::Wake(wake);
        }
        if let Some(wake) = self.call_idle() {
            return Help::Wake(wake);
        }
        if self.n_workers >= self.limit() {
            return Help::Nobody;
        }
        let id = Id(self.next_id);
        self.next_id += 1;
        self.n_workers += 1;
        self.called = Some(Call { id, n_taken });
        Help::Start(id)
    }

    /// How many workers there may be. Those whose job was left behind do not count, up to a number.
    fn limit(&self) -> usize {
        let n_left = usize::try_from(self.n_left).unwrap_or(0);
        self.max_workers.saturating_add(n_left.min(self.max_workers.saturating_mul(MAX_LEFT)))
    }

    /// Nobody waits any more for a job that runs: another worker may take its place.
    pub(super) fn leave_behind(&mut self) -> Help<W> {
        self.n_left += 1;
        if self.queue.is_empty() { Help::Nobody } else { self.call_help() }
    }

    /// The job that a busy worker has ended was left behind.
    pub(super) fn note_end_of_left(&mut self) {
        self.n_left -= 1;
    }

    fn call_idle(&mut self) -> Option<W> {
        let (id, wake) = self.idle.pop()?;
        self.called = Some(Call { id, n_taken: self.n_taken() });
        Some(wake)
    }

    /// What the worker `id` does, which begins, has ended a job or was resting.
    ///
    /// `has_rested` says that the time it was to rest is over.
    pub(super) fn next(&mut self, id: Id, wake: &W, has_rested: bool) -> Next<J, W> {
        if id.0 < self.first_id {
            return Next::End;
        }
        if self.called.as_ref().is_some_and(|call| call.id == id) {
            let is_moving = self.called.take().is_some_and(|call| call.n_taken != self.n_taken());
            return self.take_or_watch(id, wake, is_moving);
        }
        if let Some(Watcher { n_seen, .. }) = self.watching.as_ref().filter(|watcher| watcher.id == id) {
            if !has_rested {
                return Next::Rest(WATCH);
            }
            let is_moving = self.n_taken() >= *n_seen;
            self.watching = None;
            return self.take_or_watch(id, wake, is_moving);
        }
        if let Some(place) = self.idle.iter().position(|idle| idle.0 == id) {
            if !has_rested && !self.is_closing {
                return Next::Rest(KEEP);
            }
            self.idle.remove(place);
            return self.leave();
        }
        self.n_busy -= 1;
        // Another one has taken its place meanwhile.
        if self.n_workers > self.limit() {
            return self.leave();
        }
        self.take_or_watch(id, wake, false)
    }

    fn take_or_watch(&mut self, id: Id, wake: &W, is_moving: bool) -> Next<J, W> {
        if is_moving && self.n_busy > 0 && self.watching.is_none() && !self.queue.is_empty() {
            self.watching = Some(Watcher { id, wake: wake.clone(), n_seen: self.n_queued });
            return Next::Rest(WATCH);
        }
        let Some(job) = self.queue.pop_front() else { return self.rest(id, wake) };
        self.n_busy += 1;
        let help = if self.queue.is_empty() { Help::Nobody } else { self.call_help() };
        Next::Work(job, help)
    }

    fn rest(&mut self, id: Id, wake: &W) -> Next<J, W> {
        if self.is_closing {
            return self.leave();
        }
        self.idle.push((id, wake.clone()));
        Next::Rest(KEEP)
    }

    fn leave(&mut self) -> Next<J, W> {
        self.n_workers -= 1;
        Next::End
    }

    /// The worker that was to be started could not be. Gives the jobs that nobody is left for, or one to be woken for them: it
    /// has become idle meanwhile, and they were left to the other.
    pub(super) fn refuse_start(&mut self) -> (VecDeque<J>, Option<W>) {
        self.called = None;
        self.n_workers -= 1;
        // Those whose jobs were left behind may never come back.
        if self.n_workers.cast_signed() <= self.n_left.max(0) {
            return (mem::take(&mut self.queue), None);
        }
        let idle = if self.queue.is_empty() { None } else { self.call_idle() };
        let is_stranded = idle.is_none() && self.max_workers == WITHOUT_BOUND;
        (if is_stranded { mem::take(&mut self.queue) } else { VecDeque::new() }, idle)
    }

    /// No more jobs will come. Gives the workers that are to be woken so that they end.
    pub(super) fn close(&mut self) -> Vec<W> {
        self.is_closing = true;
        self.idle.iter().map(|(_, wake)| wake.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Jobs are numbers, and so are workers.
    type Numbers = Crew<u32, u64>;

    fn next(crew: &mut Numbers, id: u64) -> Next<u32, u64> {
        crew.next(Id(id), &id, false)
    }

    fn after_rest(crew: &mut Numbers, id: u64) -> Next<u32, u64> {
        crew.next(Id(id), &id, true)
    }

    #[test]
    fn one_worker_is_called_for_many_jobs() {
        let mut crew = Numbers::new(4);
        assert_eq!(crew.push(1), Help::Start(Id(0)));
        assert_eq!(crew.push(2), Help::Nobody);
        assert_eq!(crew.push(3), Help::Nobody);
        assert_eq!(next(&mut crew, 0), Next::Work(1, Help::Start(Id(1))));
        assert_eq!(crew.push(4), Help::Nobody);
    }

    #[test]
    fn jobs_that_last_get_a_worker_each() {
        let mut crew = Numbers::new(2);
        let _ = (crew.push(1), crew.push(2), crew.push(3));
        assert_eq!(next(&mut crew, 0), Next::Work(1, Help::Start(Id(1))));
        assert_eq!(next(&mut crew, 1), Next::Work(2, Help::Nobody), "the pool is full");
        assert_eq!(next(&mut crew, 0), Next::Work(3, Help::Nobody));
    }

    #[test]
    fn while_the_queue_moves_the_second_worker_only_watches() {
        let mut crew = Numbers::new(2);
        for job in 1..=4 {
            let _ = crew.push(job);
        }
        assert_eq!(next(&mut crew, 0), Next::Work(1, Help::Start(Id(1))));
        assert_eq!(next(&mut crew, 0), Next::Work(2, Help::Nobody));
        assert_eq!(next(&mut crew, 1), Next::Rest(WATCH), "a job was taken since the call");
        assert_eq!(next(&mut crew, 0), Next::Work(3, Help::Nobody));
        assert_eq!(next(&mut crew, 0), Next::Work(4, Help::Nobody));
        let _ = crew.push(5);
        assert_eq!(after_rest(&mut crew, 1), Next::Rest(WATCH), "all that it had seen are taken");
        assert_eq!(after_rest(&mut crew, 1), Next::Work(5, Help::Nobody), "this one it has seen before");
    }

    #[test]
    fn a_watcher_is_called_when_nobody_works_any_more() {
        let mut crew = Numbers::new(2);
        let _ = (crew.push(1), crew.push(2), crew.push(3));
        let _ = (next(&mut crew, 0), next(&mut crew, 0));
        assert_eq!(next(&mut crew, 1), Next::Rest(WATCH));
        assert_eq!(next(&mut crew, 0), Next::Work(3, Help::Nobody));
        assert_eq!(next(&mut crew, 0), Next::Rest(KEEP));
        assert_eq!(crew.push(4), Help::Wake(1));
        assert_eq!(next(&mut crew, 1), Next::Work(4, Help::Nobody));
    }

    #[test]
    fn the_worker_that_was_idle_last_is_called_first() {
        let mut crew = Numbers::new(2);
        let _ = (crew.push(1), crew.push(2));
        let _ = (next(&mut crew, 0), next(&mut crew, 1));
        assert_eq!(next(&mut crew, 1), Next::Rest(KEEP));
        assert_eq!(next(&mut crew, 0), Next::Rest(KEEP));
        assert_eq!(crew.push(3), Help::Wake(0));
        assert_eq!(after_rest(&mut crew, 1), Next::End, "it was idle for long");
        assert_eq!(after_rest(&mut crew, 0), Next::Work(3, Help::Nobody), "it was called at the last moment");
    }

    #[test]
    fn a_worker_that_cannot_be_started_is_missed_only_by_an_empty_crew() {
        let mut crew = Numbers::new(2);
        assert_eq!(crew.push(1), Help::Start(Id(0)));
        assert_eq!(crew.refuse_start(), ([1].into(), None));
        assert_eq!(crew.push(2), Help::Start(Id(1)));
        let _ = crew.push(3);
        assert_eq!(next(&mut crew, 1), Next::Work(2, Help::Start(Id(2))));
        assert_eq!(crew.refuse_start(), ([].into(), None));
        assert_eq!(next(&mut crew, 1), Next::Work(3, Help::Nobody));
    }

    #[test]
    fn without_a_bound_no_job_waits_for_the_end_of_another() {
        let mut crew = Numbers::new(WITHOUT_BOUND);
        let _ = crew.push(1);
        assert_eq!(next(&mut crew, 0), Next::Work(1, Help::Nobody));
        assert_eq!(crew.push(2), Help::Start(Id(1)));
        assert_eq!(crew.refuse_start(), ([2].into(), None));
    }

    #[test]
    fn what_was_left_to_a_worker_that_cannot_be_started_is_for_one_that_is_idle() {
        let mut crew = Numbers::new(2);
        let _ = crew.push(1);
        assert_eq!(next(&mut crew, 0), Next::Work(1, Help::Nobody));
        assert_eq!(crew.push(2), Help::Start(Id(1)));
        assert_eq!(next(&mut crew, 0), Next::Work(2, Help::Nobody));
        assert_eq!(next(&mut crew, 0), Next::Rest(KEEP));
        assert_eq!(crew.push(3), Help::Nobody, "one is called already");
        assert_eq!(crew.refuse_start(), ([].into(), Some(0)));
        assert_eq!(next(&mut crew, 0), Next::Work(3, Help::Nobody));
    }

    #[test]
    fn a_worker_whose_job_is_left_behind_is_replaced() {
        let mut crew = Numbers::new(1);
        let _ = (crew.push(1), crew.push(2));
        assert_eq!(next(&mut crew, 0), Next::Work(1, Help::Nobody), "the pool is full");
        assert_eq!(crew.leave_behind(), Help::Start(Id(1)));
        assert_eq!(next(&mut crew, 1), Next::Work(2, Help::Nobody));
        let _ = crew.push(3);
        crew.note_end_of_left();
        assert_eq!(next(&mut crew, 0), Next::End, "its place is taken");
        assert_eq!(next(&mut crew, 1), Next::Work(3, Help::Nobody));
    }

    #[test]
    fn jobs_do_not_wait_for_workers_that_were_left_behind_where_no_other_can_be_started() {
        let mut crew = Numbers::new(1);
        let _ = (crew.push(1), crew.push(2));
        assert_eq!(next(&mut crew, 0), Next::Work(1, Help::Nobody), "the pool is full");
        assert_eq!(crew.leave_behind(), Help::Start(Id(1)));
        assert_eq!(crew.refuse_start(), ([2].into(), None));
    }

    #[test]
    fn workers_whose_jobs_are_left_behind_are_bounded() {
        let mut crew = Numbers::new(1);
        let _ = crew.push(0);
        assert!(matches!(next(&mut crew, 0), Next::Work(0, _)));
        for id in 1..=MAX_LEFT as u64 {
            let _ = crew.push(1);
            assert_eq!(crew.leave_behind(), Help::Start(Id(id)));
            assert!(matches!(next(&mut crew, id), Next::Work(1, _)));
        }
        let _ = crew.push(2);
        assert_eq!(crew.leave_behind(), Help::Nobody);
        crew.note_end_of_left();
        assert_eq!(next(&mut crew, 0), Next::Work(2, Help::Nobody));
    }

    #[test]
    fn workers_and_jobs_of_another_process_are_left_to_it() {
        let mut crew = Numbers::new(2);
        crew.be_in(Process::after(6));
        let _ = (crew.push(1), crew.push(2));
        assert_eq!(next(&mut crew, 0), Next::Work(1, Help::Start(Id(1))));
        assert_eq!(next(&mut crew, 1), Next::Work(2, Help::Nobody));
        assert_eq!(next(&mut crew, 1), Next::Rest(KEEP));
        crew.be_in(Process::after(6));
        let _ = crew.push(9);
        crew.be_in(Process::after(7));
        assert_eq!(crew.push(3), Help::Start(Id(2)));
        assert_eq!(next(&mut crew, 0), Next::End, "the thread that has forked");
        assert_eq!(next(&mut crew, 2), Next::Work(3, Help::Nobody));
    }

    #[test]
    fn a_queue_that_would_grow_lets_go_of_what_nobody_wants() {
        let mut crew = Numbers::new(1);
        let _ = (crew.push(0), next(&mut crew, 0));
        let _ = crew.push(1);
        for job in 2..1000 {
            // All but the first, and their drops are left to the caller.
            let unwanted = crew.take_unwanted(|job| *job == 1);
            assert!(unwanted.iter().all(|job| *job > 1));
            let _ = crew.push(job);
        }
        assert!(crew.queue.capacity() < 20, "{}", crew.queue.capacity());
        assert_eq!(next(&mut crew, 0), Next::Work(1, Help::Nobody));
    }

    #[test]
    fn a_queue_that_only_lets_go_of_jobs_does_not_move() {
        let mut crew = Numbers::new(2);
        let _ = (crew.push(0), next(&mut crew, 0));
        assert_eq!(crew.push(1), Help::Start(Id(1)));
        let mut n_unwanted = 0;
        for job in 10..30 {
            n_unwanted += crew.take_unwanted(|job| *job == 1).len();
            assert_eq!(crew.push(job), Help::Nobody, "one is called already");
        }
        assert!(n_unwanted > 0);
        assert_eq!(next(&mut crew, 1), Next::Work(1, Help::Nobody), "nobody has taken a job since the call");
    }

    #[test]
    fn a_watcher_helps_where_jobs_are_let_go_of_and_none_is_taken() {
        let mut crew = Numbers::new(2);
        let _ = (crew.push(0), crew.push(2), next(&mut crew, 0), next(&mut crew, 0));
        assert_eq!(crew.push(1), Help::Nobody, "one is called already");
        assert_eq!(next(&mut crew, 1), Next::Rest(WATCH), "a job was taken since the call");
        let mut n_unwanted = 0;
        for job in 10..30 {
            n_unwanted += crew.take_unwanted(|job| *job == 1).len();
            assert_eq!(crew.push(job), Help::Nobody, "one is watching");
        }
        assert!(n_unwanted > 0);
        assert_eq!(after_rest(&mut crew, 1), Next::Work(1, Help::Nobody), "it has seen this one before");
    }

    #[test]
    fn who_watches_does_not_miss_the_jobs_that_are_let_go_of() {
        let mut crew = Numbers::new(2);
        let _ = (crew.push(0), crew.push(2), next(&mut crew, 0), next(&mut crew, 0));
        let _ = crew.push(10);
        assert_eq!(next(&mut crew, 1), Next::Rest(WATCH), "a job was taken since the call");
        let mut n_pushed = 0;
        while crew.take_unwanted(|job| *job == 1).is_empty() {
            assert_eq!(crew.push(1), Help::Nobody, "one is watching");
            n_pushed += 1;
        }
        assert!(n_pushed > 0);
        assert_eq!(after_rest(&mut crew, 1), Next::Rest(WATCH), "all that it had seen are gone");
        assert_eq!(after_rest(&mut crew, 1), Next::Work(1, Help::Nobody), "these it has seen before");
    }

    #[test]
    fn a_closing_crew_ends_when_its_jobs_have() {
        let mut crew = Numbers::new(2);
        let _ = (crew.push(1), crew.push(2), crew.push(3));
        let _ = (next(&mut crew, 0), next(&mut crew, 1));
        assert_eq!(next(&mut crew, 0), Next::Work(3, Help::Nobody));
        assert_eq!(next(&mut crew, 1), Next::Rest(KEEP));
        assert_eq!(crew.close(), [1]);
        assert_eq!(next(&mut crew, 1), Next::End);
        assert_eq!(next(&mut crew, 0), Next::End);
    }
}
