//! Models of the hand-over between a task and the thread that does its work.

use std::future::poll_fn;
use std::panic::Location;
use std::sync::Arc;

use loom::sync::atomic::AtomicUsize;
use loom::thread;

use super::ThreadPool;
use super::job::{Job, Origin, Work};
use crate::report::err_type;
use crate::sync::{Ordering, block_on};
use crate::sys::fork::Process;

/// A job whose function counts its runs, and whose value counts its drops.
#[derive(Clone, Default)]
struct Counts(Arc<[AtomicUsize; 2]>);

struct Value(Counts);

impl Drop for Value {
    fn drop(&mut self) {
        self.0.add_drop();
    }
}

impl Counts {
    fn job(&self) -> Arc<Job<impl FnOnce() -> Value + Send + use<>, Value>> {
        let counts = self.clone();
        Arc::new(Job::new(
            Origin { text: "a job", location: Location::caller() },
            move || {
                counts.0[0].fetch_add(1, Ordering::Relaxed);
                Value(counts)
            },
            None,
            err_type,
            Process::this(),
        ))
    }

    fn add_drop(&self) {
        self.0[1].fetch_add(1, Ordering::Relaxed);
    }

    fn n_runs(&self) -> usize {
        self.0[0].load(Ordering::Relaxed)
    }

    fn n_drops(&self) -> usize {
        self.0[1].load(Ordering::Relaxed)
    }
}

/// Does what a worker does with a job that it has taken.
fn work_on(job: &Arc<impl Work + 'static>) -> thread::JoinHandle<()> {
    let job = Arc::clone(job);
    thread::spawn(move || {
        job.work();
        job.publish();
    })
}

#[test]
fn value_is_handed_over_with_what_came_before() {
    loom::model(|| {
        let counts = Counts::default();
        let job = counts.job();
        let worker = work_on(&job);
        let value = block_on(poll_fn(|cx| job.poll(cx)));
        assert_eq!(counts.n_runs(), 1);
        drop(value);
        worker.join().unwrap();
        assert_eq!(counts.n_drops(), 1);
    });
}

#[test]
fn job_is_cancelled_before_it_has_begun_or_waited_for() {
    loom::model(|| {
        let counts = Counts::default();
        let job = counts.job();
        let worker = work_on(&job);
        let never_runs = job.cancel();
        if !never_runs {
            assert!(block_on(poll_fn(|cx| job.poll(cx))).is_ok());
        }
        worker.join().unwrap();
        assert_eq!(counts.n_runs(), usize::from(!never_runs));
        assert_eq!(counts.n_drops(), counts.n_runs());
    });
}

#[test]
fn value_that_nobody_waits_for_is_dropped_once() {
    loom::model(|| {
        let counts = Counts::default();
        let job = counts.job();
        let worker = work_on(&job);
        job.abandon(false);
        worker.join().unwrap();
        assert_eq!(counts.n_drops(), counts.n_runs());
    });
}

#[test]
fn pool_runs_what_is_pushed_and_its_thread_ends_with_it() {
    loom::model(|| {
        let pool = ThreadPool::new(1);
        assert_eq!(block_on(pool.run(|| 1)), 1);
        // The worker is about to rest, or rests.
        assert_eq!(block_on(pool.run(|| 2)), 2);
    });
}

#[test]
fn pool_of_two_runs_what_two_threads_push() {
    loom::model(|| {
        let pool = ThreadPool::new(2);
        let other = pool.clone();
        let pusher = thread::spawn(move || block_on(other.run(|| 1)));
        assert_eq!(block_on(pool.run(|| 2)), 2);
        assert_eq!(pusher.join().unwrap(), 1);
    });
}
