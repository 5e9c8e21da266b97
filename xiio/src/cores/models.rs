//! Models of what home and the workers do to each other. The tasks are left out: what each borrows is a cell of which every
//! use is checked. Home uses all of them between its polls.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use loom::cell::UnsafeCell;
use loom::thread;

use super::permit::Permit;
use super::team::{Failure, Team};
use super::worker;
use crate::recording::Asked;
use crate::sync::{current, park};
use crate::task::Home;
use crate::unwind::Dropper;

/// What the tasks of a group borrow, and the group's team. A job is the place of what it borrows.
struct Group {
    team: Team<usize>,
    borrowed: Vec<UnsafeCell<()>>,
}

// SAFETY: that no two threads are at `borrowed` at once is what the model checks.
unsafe impl Sync for Group {}
// SAFETY: as above.
unsafe impl Send for Group {}

/// A place of which every use is checked.
struct Borrowed(UnsafeCell<()>);

// SAFETY: that no two threads are at it at once is what the model checks.
unsafe impl Sync for Borrowed {}
// SAFETY: as above.
unsafe impl Send for Borrowed {}

/// The loop of a thread, but for the kernel.
struct Loop {
    home: &'static Home,
    notifier: usize,
}

impl Loop {
    fn new() -> Self {
        let home = Home::current();
        Self { home, notifier: home.open(current().waker()) }
    }

    fn sleep(&self) {
        if self.home.fall_asleep() {
            park(Duration::MAX);
            self.home.wake_up();
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.home.close(self.notifier);
    }
}

impl Group {
    fn new(n_workers: usize, n_jobs: usize) -> Arc<Self> {
        let borrowed = (0..n_jobs).map(|_| UnsafeCell::new(())).collect();
        let group = Arc::new(Self { team: Team::new(n_workers, usize::MAX, None), borrowed });
        (0..n_jobs).for_each(|job| assert!(group.team.add(None, job).is_ok()));
        group
    }

    fn start(self: &Arc<Self>) -> Vec<thread::JoinHandle<()>> {
        let start = |worker| {
            let group = Arc::clone(self);
            thread::spawn(move || group.work(worker))
        };
        self.team.start_workers().map(start).collect()
    }

    /// What home does when it is out of the group's poll.
    fn use_all(&self) {
        self.borrowed.iter().for_each(|cell| cell.with_mut(|_| ()));
    }

    /// Home: polls its group until nothing is open, and uses what was borrowed between the polls.
    fn poll_until_end(&self, turns: &Loop) {
        let mut is_over = false;
        while !is_over {
            let inside = self.team.bridge().enter(&turns.home.waker());
            // SAFETY: a model has no tasks.
            let window = unsafe { self.team.open() };
            window.grant();
            inside.take_woken();
            is_over = !self.team.awaits_end();
            while !is_over && !inside.is_woken() && !turns.home.is_root_woken() {
                turns.sleep();
                window.grant();
            }
            drop(window);
            drop(inside);
            turns.home.take_root_woken();
            self.use_all();
        }
    }

    /// A worker, until it is told that the team has ended.
    fn work(&self, worker: usize) {
        let turns = Loop::new();
        let permit = Arc::clone(self.team.permit(worker));
        permit.attach();
        turns.home.wake_root();
        let mut jobs = Vec::new();
        loop {
            if turns.home.take_root_woken()
                && let Some(_pass) = permit.enter()
            {
                let orders = self.team.take(worker, &mut jobs);
                if orders.is_closed {
                    break;
                }
                let n_ended = jobs.len();
                for job in jobs.drain(..) {
                    self.borrowed[job].with_mut(|_| ());
                }
                if self.team.settle(worker, n_ended, true) {
                    turns.home.wake_root();
                }
            }
            turns.sleep();
        }
        self.team.leave(worker);
    }
}

/// A group that runs to its end. With two workers there are too many orders for more than two preemptions.
fn run(n_workers: usize, n_jobs: usize) {
    let mut model = loom::model::Builder::new();
    if n_workers > 1 {
        model.preemption_bound = Some(model.preemption_bound.unwrap_or(2).min(2));
    }
    model.check(move || {
        let turns = Loop::new();
        let group = Group::new(n_workers, n_jobs);
        let threads = group.start();
        group.poll_until_end(&turns);
        group.team.close();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn home_and_a_worker_are_never_at_it_at_once_and_the_job_is_done() {
    run(1, 1);
}

#[test]
fn job_that_one_worker_leaves_is_taken_by_the_other() {
    run(2, 2);
}

#[test]
fn group_that_is_dropped_has_its_workers_out() {
    loom::model(|| {
        let group = Group::new(1, 1);
        let threads = group.start();
        // SAFETY: a model has no tasks.
        unsafe { group.team.abort(Dropper::Foreign) };
        group.use_all();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// The permit alone: in a team there are locks as well, which hand over what they come to see.
#[test]
fn what_is_borrowed_is_handed_over_by_the_permit_alone() {
    loom::model(|| {
        let shared = Arc::new((Permit::new(None), Borrowed(UnsafeCell::new(()))));
        let of_worker = Arc::clone(&shared);
        let worker = thread::spawn(move || {
            let (permit, borrowed) = &*of_worker;
            if let Some(_pass) = permit.enter() {
                borrowed.0.with_mut(|_| ());
            }
        });
        let (permit, borrowed) = &*shared;
        borrowed.0.with_mut(|_| ());
        permit.grant();
        permit.recall();
        assert!(permit.wait_until_left());
        borrowed.0.with_mut(|_| ());
        worker.join().unwrap();
    });
}

/// Home has waited for the worker in vain, if it is still inside: then it stays out once it has left, whoever is let in.
#[test]
fn worker_that_is_kept_out_comes_in_again_when_home_has_been_out() {
    /// In how many orders it was.
    static N_KEPT_OUT: AtomicUsize = AtomicUsize::new(0);
    loom::model(|| {
        let shared = Arc::new((Permit::new(None), Borrowed(UnsafeCell::new(()))));
        let of_worker = Arc::clone(&shared);
        let worker = thread::spawn(move || {
            let turns = Loop::new();
            let (permit, borrowed) = &*of_worker;
            permit.attach();
            for _ in 0..2 {
                loop {
                    if let Some(_pass) = permit.enter() {
                        borrowed.0.with_mut(|_| ());
                        break;
                    }
                    turns.sleep();
                    turns.home.take_root_woken();
                }
            }
        });
        let (permit, borrowed) = &*shared;
        permit.grant();
        permit.recall();
        // It may have left before.
        permit.keep_out_if_inside();
        permit.grant();
        permit.recall();
        assert!(permit.wait_until_left());
        permit.grant();
        if permit.is_kept_out() {
            N_KEPT_OUT.fetch_add(1, Relaxed);
            // The worker has its time, if it comes.
            thread::yield_now();
            borrowed.0.with_mut(|_| ());
        }
        permit.let_in();
        permit.grant();
        worker.join().unwrap();
    });
    assert!(N_KEPT_OUT.load(Relaxed) > 0);
}

#[test]
fn worker_that_is_refused_has_home_look_and_is_woken_when_it_lends() {
    loom::model(|| {
        let turns = Loop::new();
        let permit = Arc::new(Permit::new(None));
        let of_worker = Arc::clone(&permit);
        let worker = thread::spawn(move || {
            let turns = Loop::new();
            of_worker.attach();
            while of_worker.enter().is_none() {
                turns.sleep();
                turns.home.take_root_woken();
            }
        });
        // Nothing is lent before somebody asks.
        turns.sleep();
        permit.grant();
        worker.join().unwrap();
    });
}

#[test]
fn worker_that_sleeps_inside_comes_out_when_its_permit_is_recalled() {
    loom::model(|| {
        let permit = Arc::new(Permit::new(None));
        permit.grant();
        let of_worker = Arc::clone(&permit);
        let worker = thread::spawn(move || {
            let turns = Loop::new();
            of_worker.attach();
            if let Some(_pass) = of_worker.enter() {
                of_worker.begin_lingering();
                while !of_worker.is_recalled() {
                    turns.sleep();
                }
            }
        });
        permit.recall();
        assert!(permit.wait_until_left());
        worker.join().unwrap();
    });
}

/// A job of a group that is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    /// It fails at its first poll.
    Fails,
    /// It waits until it is cancelled.
    Waits,
    /// It belongs to the cleanup of the one that has failed, and ends at its first poll.
    Helps,
    /// The same for home, which knows of the failure.
    HelpsHome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    /// Before or after it has begun.
    Cancelled,
}

/// A group of which one task may fail on its only worker, and what has become of the tasks. What is noted here is no part of the model.
struct Failing {
    team: Team<Task>,
    fates: std::sync::Mutex<Vec<(Task, Fate)>>,
}

impl Failing {
    fn new(tasks: &[Task]) -> Arc<Self> {
        let group = Arc::new(Self { team: Team::new(1, usize::MAX, None), fates: std::sync::Mutex::default() });
        tasks.iter().for_each(|&task| group.spawn(task));
        group
    }

    fn spawn(&self, task: Task) {
        assert!(self.team.add(None, task).is_ok());
    }

    fn note(&self, tasks: impl IntoIterator<Item = Task>, fate: Fate) -> usize {
        let mut fates = self.fates.lock().unwrap();
        let before = fates.len();
        fates.extend(tasks.into_iter().map(|task| (task, fate)));
        fates.len() - before
    }

    fn fates_of(&self, task: Task) -> Vec<Fate> {
        self.fates.lock().unwrap().iter().filter(|(of, _)| *of == task).map(|(_, fate)| *fate).collect()
    }

    /// Home: does `first` in its poll, and goes on until nothing is open. `true` if a task has failed.
    fn poll_until_end(&self, turns: &Loop, first: impl FnOnce()) -> bool {
        let mut has_failed = false;
        let inside = self.team.bridge().enter(&turns.home.waker());
        // SAFETY: a model has no tasks.
        let window = unsafe { self.team.open() };
        window.grant();
        first();
        loop {
            inside.take_woken();
            self.note(self.team.take_doomed(|_| false), Fate::Cancelled);
            if !self.team.take_news().failures.is_empty() {
                has_failed = true;
                self.team.cancel_rest(|| ());
                self.team.begin_end();
                self.spawn(Task::HelpsHome);
            }
            if !self.team.awaits_end() {
                return has_failed;
            }
            while !inside.is_woken() {
                turns.sleep();
            }
        }
    }

    /// The worker, until it is told that the group has ended.
    fn work(&self) {
        let turns = Loop::new();
        let permit = Arc::clone(self.team.permit(0));
        worker::attach(&permit);
        turns.home.wake_root();
        let mut tasks = Vec::new();
        loop {
            if turns.home.take_root_woken()
                && let Some(_pass) = permit.enter()
            {
                let mut jobs = Vec::new();
                let orders = self.team.take(0, &mut jobs);
                if orders.is_closed {
                    break;
                }
                let mut n_ended = 0;
                if orders.is_cancelled {
                    n_ended += self.note(tasks.drain(..), Fate::Cancelled);
                }
                let (waiting, ready): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|task| *task == Task::Waits);
                tasks.extend(waiting);
                n_ended += self.note(ready.iter().copied(), Fate::Done);
                if ready.contains(&Task::Fails) {
                    self.team.tell(|news| news.failures.push(Failure { panic: None, origin: None, notice: None }));
                    if self.team.fail(0) {
                        n_ended += self.note(tasks.drain(..), Fate::Cancelled);
                    }
                    self.spawn(Task::Helps);
                }
                if self.team.settle(0, n_ended, true) {
                    turns.home.wake_root();
                }
            }
            turns.sleep();
        }
        self.team.leave(0);
        worker::detach();
    }
}

/// Runs such a group, in which home does `first`. What waits is cancelled, and what helps is not.
fn fail(tasks: &'static [Task], first: fn(&Failing)) {
    loom::model(move || {
        let turns = Loop::new();
        let group = Failing::new(tasks);
        let of_worker = Arc::clone(&group);
        assert_eq!(group.team.start_workers(), 0..1);
        let worker = thread::spawn(move || of_worker.work());
        let has_failed = group.poll_until_end(&turns, || first(&group));
        group.team.close();
        worker.join().unwrap();
        assert_eq!(group.fates_of(Task::Waits), [Fate::Cancelled]);
        let (fate, helped) = if has_failed { (Fate::Done, vec![Fate::Done]) } else { (Fate::Cancelled, vec![]) };
        assert_eq!(group.fates_of(Task::Fails), [fate]);
        assert_eq!((group.fates_of(Task::Helps), group.fates_of(Task::HelpsHome)), (helped.clone(), helped));
    });
}

#[test]
fn failure_beside_a_cancellation_cancels_what_was_there_and_no_helper() {
    fail(&[Task::Fails, Task::Waits], |group| group.team.cancel(Asked::default(), || ()));
}

#[test]
fn task_that_home_spawns_beside_a_failure_is_cancelled_with_the_others() {
    fail(&[Task::Fails], |group| group.spawn(Task::Waits));
}
