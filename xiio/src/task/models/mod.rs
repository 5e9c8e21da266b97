//! Models of what other threads do to tasks: they wake, and they count.

pub(super) mod memory;

use std::cell::RefCell;
use std::future::poll_fn;
use std::panic::Location;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use loom::sync::atomic::AtomicUsize;
use loom::thread;

use super::budget;
use super::handle::Handle;
use super::home::Home;
use super::set::{Ended, Members, Polled, TaskSet};
use crate::drawing::{Kind, Node};
use crate::error::Payload;
use crate::report::Origin;
use crate::sync::{Ordering, block_on, current, park};

/// A set under a root, driven as the runtime drives it, but for the kernel: this thread parks instead.
struct Root<'env> {
    home: &'static Home,
    notifier: usize,
    set: TaskSet<'env>,
}

impl<'env> Root<'env> {
    fn new() -> Self {
        let home = Home::current();
        let notifier = home.open(current().waker());
        Self { home, notifier, set: TaskSet::new(usize::MAX) }
    }

    fn spawn<F: Future + 'env>(&self, future: F) -> Handle<F::Output> {
        let inserted = self.set.insert(future, Some, Location::caller(), false);
        inserted.unwrap_or_else(|_| unreachable!("the set is open"))
    }

    fn poll(&self) -> Poll<()> {
        let waker = self.home.waker();
        budget::refill();
        match self.set.poll(&mut Context::from_waker(&waker), &mut Alone) {
            Polled::Done => Poll::Ready(()),
            Polled::Waiting | Polled::Pending => Poll::Pending,
        }
    }

    /// Until no task is left.
    fn run(&self) {
        while self.poll().is_pending() {
            self.wait();
        }
    }

    /// Until the root is woken.
    fn wait(&self) {
        self.home.take_inbox();
        while !self.home.take_root_woken() {
            if self.home.fall_asleep() {
                park(Duration::MAX);
                self.home.wake_up();
            }
            self.home.take_inbox();
        }
    }
}

/// A group without a body, whose tasks all end well.
struct Alone;

impl Members for Alone {
    fn node(&self) -> Node {
        Node::new(Kind::Group, "a model")
    }

    fn poll_body(&mut self, _: &mut Context<'_>) -> bool {
        false
    }

    fn has_body(&self) -> bool {
        false
    }

    fn end_body(&mut self, _: Payload) {}

    fn end_task(&mut self, _: Ended, _: Origin) {}

    fn end_last_round(&mut self) {}

    fn end_of_grace(&self) -> Option<Instant> {
        None
    }
}

impl Drop for Root<'_> {
    fn drop(&mut self) {
        self.home.close(self.notifier);
    }
}

/// Where a task leaves its waker, on its own thread.
#[derive(Default)]
struct Wakers(RefCell<Vec<Waker>>);

impl Wakers {
    /// A task that leaves wakers and waits until `n_done` is `n`.
    async fn wait_for(&self, n_wakers: usize, n_done: &AtomicUsize, n: usize) {
        poll_fn(|cx| {
            let mut wakers = self.0.borrow_mut();
            while wakers.len() < n_wakers {
                wakers.push(cx.waker().clone());
            }
            // Ordering: none of its own. What the wake was for must be seen by the poll that it causes.
            if n_done.load(Ordering::Relaxed) == n { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn take(&self) -> Vec<Waker> {
        self.0.take()
    }
}

/// A thread for each waker, which counts and then wakes.
fn wake_from_threads(wakers: &Wakers, n_done: &Arc<AtomicUsize>) -> Vec<thread::JoinHandle<()>> {
    let wakers = wakers.take().into_iter();
    let threads = wakers.map(|waker| {
        let n_done = Arc::clone(n_done);
        thread::spawn(move || {
            n_done.fetch_add(1, Ordering::Relaxed);
            waker.wake();
        })
    });
    threads.collect()
}

/// Does what the next run on this thread would do first: what was posted after the end is still in the inbox.
fn take_late_posts(threads: Vec<thread::JoinHandle<()>>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    Home::current().take_inbox();
}

#[test]
fn what_came_before_a_wake_is_seen_by_the_poll_that_it_causes() {
    loom::model(|| {
        let n_done = Arc::new(AtomicUsize::new(0));
        let wakers = Wakers::default();
        let root = Root::new();
        let task = root.spawn(wakers.wait_for(2, &n_done, 2));
        assert!(root.poll().is_pending());
        let threads = wake_from_threads(&wakers, &n_done);
        root.run();
        drop((task, root));
        take_late_posts(threads);
    });
}

#[test]
fn root_that_is_woken_elsewhere_does_not_sleep_on() {
    loom::model(|| {
        let n_done = Arc::new(AtomicUsize::new(0));
        let root = Root::new();
        let threads = (0..2).map(|_| {
            let (waker, n_done) = (root.home.waker(), Arc::clone(&n_done));
            thread::spawn(move || {
                n_done.fetch_add(1, Ordering::Relaxed);
                waker.wake();
            })
        });
        let threads = threads.collect();
        while n_done.load(Ordering::Relaxed) < 2 {
            root.wait();
        }
        drop(root);
        take_late_posts(threads);
    });
}

#[test]
fn wake_after_one_run_is_found_by_the_next() {
    loom::model(|| {
        let n_done = Arc::new(AtomicUsize::new(0));
        let wakers = Wakers::default();
        let mut first = Root::new();
        let task = first.spawn(wakers.wait_for(1, &n_done, 1));
        assert!(first.poll().is_pending());
        let threads = wakers.take().into_iter().map(|waker| {
            let n_done = Arc::clone(&n_done);
            thread::spawn(move || {
                n_done.store(1, Ordering::Relaxed);
                waker.wake();
            })
        });
        let threads = threads.collect();
        let mut second = Root::new();
        std::mem::swap(&mut first.set, &mut second.set);
        drop(first);
        second.run();
        drop((task, second));
        take_late_posts(threads);
    });
}

#[test]
fn foreign_executor_on_the_thread_of_a_home_hears_of_wakes() {
    loom::model(|| {
        let n_done = Arc::new(AtomicUsize::new(0));
        let wakers = Wakers::default();
        let root = Root::new();
        let task = root.spawn(wakers.wait_for(2, &n_done, 2));
        assert!(root.poll().is_pending());
        let threads = wake_from_threads(&wakers, &n_done);
        block_on(poll_fn(|cx| {
            budget::refill();
            if root.set.poll(cx, &mut Alone) == Polled::Done { Poll::Ready(()) } else { Poll::Pending }
        }));
        drop((task, root));
        take_late_posts(threads);
    });
}

/// What a thread does to the wakers that it is given.
type Work = fn(Waker);

/// A task that ends while other threads do these things to a waker of it each; its handle goes first, or last.
fn end_while(works: &'static [Work]) {
    for is_handle_first in [true, false] {
        loom::model(move || {
            let n_done = AtomicUsize::new(0);
            let wakers = Wakers::default();
            let root = Root::new();
            let task = Some(root.spawn(wakers.wait_for(works.len(), &n_done, 1)));
            assert!(root.poll().is_pending());
            let threads = works.iter().zip(wakers.take()).map(|(work, waker)| thread::spawn(move || work(waker)));
            let threads = threads.collect();
            let task = task.filter(|_| !is_handle_first);
            drop(root);
            drop(task);
            take_late_posts(threads);
        });
    }
}

#[test]
fn block_is_freed_once_when_its_last_waker_is_dropped_elsewhere() {
    end_while(&[drop]);
    end_while(&[drop, drop]);
}

#[test]
fn block_is_freed_once_when_wakers_are_cloned_elsewhere() {
    end_while(&[|waker| drop(waker.clone()), drop]);
}

#[test]
fn block_is_freed_once_when_it_is_woken_elsewhere() {
    end_while(&[Waker::wake, |waker| waker.wake_by_ref()]);
}

#[test]
fn counts_that_drift_apart_are_evened_out() {
    loom::model(|| {
        let n_done = AtomicUsize::new(0);
        let wakers = Wakers::default();
        let root = Root::new();
        let task = root.spawn(wakers.wait_for(1, &n_done, 1));
        assert!(root.poll().is_pending());
        let waker = wakers.take().remove(0);
        let away = waker.clone();
        let other = thread::spawn(move || {
            let back = away.clone();
            drop(away);
            back
        });
        let more = [waker.clone(), waker.clone()];
        drop(waker);
        drop(other.join().unwrap());
        drop(more);
        drop((task, root));
    });
}
