//! A foreign executor inside of a task, which waits on the thread of the runtime: a `block_on`. It hears of what other threads
//! wake in it.

use std::future::pending;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use futures::stream::{FuturesUnordered, StreamExt};
use xiio::compat::Embed;
use xiio::{Promise, in_thread, task_group, yield_now};
use xiio_tests::poll::leak;
use xiio_tests::{WakeBomb, WakeCount, run};

/// For a wake from another thread, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// What wakes a [`block_on`].
struct Parked {
    is_woken: AtomicBool,
    thread: Thread,
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, SeqCst);
        self.thread.unpark();
    }
}

/// Polls `future` when it is woken, and waits between. Calls `on_wait` before each wait: from then on only a wake helps.
fn block_on<T>(future: impl Future<Output = T>, mut on_wait: impl FnMut()) -> T {
    let mut future = pin!(future);
    let parked = Arc::new(Parked { is_woken: AtomicBool::new(false), thread: thread::current() });
    let waker = Waker::from(Arc::clone(&parked));
    let start = Instant::now();
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        on_wait();
        while !parked.is_woken.swap(false, SeqCst) {
            assert!(start.elapsed() < PATIENCE, "the wake was not heard");
            thread::park_timeout(PATIENCE);
        }
    }
}

/// Runs `body`, with a promise that another thread sets when the second argument is called.
fn with_setter<T>(body: impl AsyncFnOnce(&Promise<u32>, &dyn Fn()) -> T) -> T {
    let promise = Promise::new();
    let setter = promise.clone();
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        receiver.recv().unwrap();
        setter.set(7).unwrap();
    });
    let value = run(async { body(&promise, &|| _ = sender.send(())).await });
    thread.join().unwrap();
    value
}

async fn group_that_waits_for(promise: &Promise<u32>) -> u32 {
    task_group!(|tg| tg.spawn(promise.wait()).await)
}

#[test]
fn a_task_in_a_block_on_is_woken_by_another_thread() {
    let value = with_setter(async |promise, set| block_on(group_that_waits_for(promise), set));
    assert_eq!(value, 7);
}

/// A tree in a foreign loop, which goes on.
fn resting_tree() -> Embed<impl Future<Output = ()>> {
    let mut tree = Embed::new(pending::<()>()).unwrap();
    assert!(tree.turn(&mut Context::from_waker(Waker::noop())).is_pending());
    tree
}

#[test]
fn a_task_in_a_block_on_beside_a_tree_that_rests_is_woken_by_another_thread() {
    let _resting = resting_tree();
    let value = with_setter(async |promise, set| block_on(group_that_waits_for(promise), set));
    assert_eq!(value, 7);
}

#[test]
fn a_task_in_a_block_on_where_a_tree_rested_on_the_thread_before_is_woken_by_another_thread() {
    thread::spawn(|| _ = leak(resting_tree())).join().unwrap();
    // This thread, or its like, has the home of the one that has ended.
    let wait = || with_setter(async |promise, set| block_on(group_that_waits_for(promise), set));
    assert_eq!(thread::spawn(wait).join().unwrap(), 7);
}

#[test]
fn a_block_on_in_a_block_on_is_woken_by_another_thread() {
    let value = with_setter(async |promise, set| {
        block_on(
            async {
                task_group!(|tg| {
                    let inner = tg.spawn(async { block_on(group_that_waits_for(promise), set) });
                    let beside = tg.spawn(group_that_waits_for(promise));
                    inner.await + beside.await
                })
            },
            || (),
        )
    });
    assert_eq!(value, 14);
}

#[test]
fn the_groups_that_are_left_of_a_combinator_in_a_block_on_are_woken_by_another_thread() {
    let value = with_setter(async |promise, set| {
        let mut groups = FuturesUnordered::new();
        for n in 0..10 {
            groups.push(async move {
                task_group!(|tg| if n % 3 == 0 {
                    tg.spawn(promise.wait()).await
                } else {
                    tg.spawn(yield_now()).await;
                    1
                })
            });
        }
        let sum = async {
            let mut sum = 0;
            while let Some(value) = groups.next().await {
                sum += value;
            }
            sum
        };
        block_on(sum, set)
    });
    assert_eq!(value, 4 * 7 + 6);
}

#[test]
fn a_combinator_in_a_task_in_a_block_on_is_woken_by_another_thread() {
    for n_levels in 1..5 {
        let value = with_setter(async |promise, set| block_on(nested(promise, n_levels), set));
        assert_eq!(value, 7);
    }
}

/// Groups in combinators in tasks of groups: each level has a waker of its own.
async fn nested(promise: &Promise<u32>, n_levels: u32) -> u32 {
    if n_levels == 0 {
        return group_that_waits_for(promise).await;
    }
    task_group!(|tg| {
        let task = tg.spawn(async {
            let mut inner: FuturesUnordered<_> = [Box::pin(nested(promise, n_levels - 1))].into_iter().collect();
            inner.next().await.unwrap()
        });
        task.await
    })
}

#[test]
fn a_group_that_began_before_the_block_on_is_woken_by_another_thread() {
    let value = with_setter(async |promise, set| {
        let mut group = pin!(group_that_waits_for(promise));
        assert!(futures::poll!(&mut group).is_pending());
        block_on(group, set)
    });
    assert_eq!(value, 7);
}

#[test]
fn a_job_on_a_thread_ends_in_a_block_on() {
    let value = run(async {
        block_on(
            async {
                task_group!(|tg| {
                    let jobs: Vec<_> = (0..100).map(|n| tg.spawn(in_thread(move || n))).collect();
                    let mut sum = 0;
                    for job in jobs {
                        sum += job.await;
                    }
                    sum
                })
            },
            || (),
        )
    });
    assert_eq!(value, 4950);
}

#[test]
fn a_waker_that_panics_keeps_no_other_from_being_woken() {
    let value = with_setter(async |promise, set| {
        let bomb = Waker::from(Arc::new(WakeBomb));
        let mut beside = pin!(group_that_waits_for(promise));
        assert!(beside.as_mut().poll(&mut Context::from_waker(&bomb)).is_pending());
        block_on(group_that_waits_for(promise), set)
    });
    assert_eq!(value, 7);
}

#[test]
fn nothing_is_left_of_a_waker_that_a_group_is_not_polled_with_any_more() {
    run(async {
        let (first, second) = (WakeCount::new(), WakeCount::new());
        let promise = Promise::new();
        {
            let mut group = pin!(group_that_waits_for(&promise));
            for counted in [&first, &second, &second] {
                let waker = Waker::from(Arc::clone(counted));
                assert!(group.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            }
            assert_eq!(Arc::strong_count(&first), 1);
            assert!(Arc::strong_count(&second) > 1);
        }
        assert_eq!(Arc::strong_count(&second), 1);
        let mut group = pin!(group_that_waits_for(&promise));
        let waker = Waker::from(Arc::clone(&first));
        assert!(group.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        assert!(futures::poll!(&mut group).is_pending());
        assert_eq!(Arc::strong_count(&first), 1);
    });
}

#[test]
fn group_in_a_cancelled_task_on_a_worker_runs_to_its_end() {
    for is_cancelled_alone in [false, true] {
        run(async {
            task_group!(workers = 1, |tg| {
                let (has_begun, is_there) = (Promise::new(), Promise::new());
                let (begun, there) = (has_begun.clone(), is_there.clone());
                let task = tg.workers().spawn(async move || {
                    begun.set(()).unwrap();
                    block_on(async { task_group!(|_tg| { there.wait().await }) }, || ());
                });
                has_begun.wait().await;
                if is_cancelled_alone {
                    drop(task.cancel());
                } else {
                    tg.cancel();
                }
                is_there.set(()).unwrap();
            });
        });
    }
}
