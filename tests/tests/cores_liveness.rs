//! Nobody waits for ever: what went wrong, or may, between a home and its workers. Each ends in time or hangs.

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::hint::spin_loop;
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Barrier, mpsc};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use xiio::io::{Read, Write};
use xiio::net::UnixStream;
use xiio::testing::{Tester, advance, pause};
use xiio::{Elapsed, Promise, join, parallel_map, race, run, sleep, task_group, timeout, yield_now};
use xiio_tests::os::n_sleeps;
use xiio_tests::{Reports, assert_panics};

/// Fails with a text instead of hanging the test.
fn in_time<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(body()));
    receiver.recv_timeout(Duration::from_secs(60)).expect("it has neither ended nor panicked in time")
}

/// Runs `group` beside code outside of it, for which home has to go out again and again.
fn run_beside_code_outside(group: impl Future<Output = ()>) {
    let is_over = Cell::new(false);
    let group = async {
        group.await;
        is_over.set(true);
    };
    let outside = async {
        while !is_over.get() {
            sleep(Duration::from_micros(200)).await;
        }
    };
    run(async { join!(group, outside) });
}

/// Tasks on workers that come to their end only if they are polled again and again.
async fn work(n_tasks: usize, n_polls: usize) {
    let n_polled = AtomicUsize::new(0);
    task_group!(workers = 2, |tg| {
        for _ in 0..n_tasks {
            tg.workers().spawn(async || {
                for round in 0..n_polls {
                    n_polled.fetch_add(1, SeqCst);
                    match round % 4 {
                        0 => sleep(Duration::from_micros(100)).await,
                        _ => yield_now().await,
                    }
                }
            });
        }
    });
    assert_eq!(n_polled.into_inner(), n_tasks * n_polls);
}

async fn poll_a_few_times(future: &mut Pin<Box<dyn Future<Output = ()> + '_>>) {
    for _ in 0..3 {
        poll_fn(|cx| {
            let _ = future.as_mut().poll(cx);
            Poll::Ready(())
        })
        .await;
        sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn worker_that_blocks_in_a_poll_does_not_keep_the_other_out() {
    in_time(|| {
        let (has_begun, barrier) = (AtomicBool::new(false), Barrier::new(2));
        run(async {
            task_group!(workers = 2, |tg| {
                tg.workers().spawn(async || {
                    has_begun.store(true, SeqCst);
                    barrier.wait();
                });
                // The other one is started, and asks, while the first is in its poll.
                while !has_begun.load(SeqCst) {
                    sleep(Duration::from_millis(1)).await;
                }
                tg.workers().spawn(async || barrier.wait().is_leader());
            });
        });
    });
}

#[test]
fn home_that_is_never_idle_and_takes_its_time_lends_all_the_same() {
    async fn take_time(is_over: &Cell<bool>) {
        while !is_over.get() {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(1) {
                spin_loop();
            }
            yield_now().await;
        }
    }
    async fn use_a_worker(is_over: &Cell<bool>, is_busy_inside: bool) {
        task_group!(workers = 1, |tg| {
            if is_busy_inside {
                tg.spawn(take_time(is_over));
            }
            tg.workers().spawn(async || yield_now().await).await;
            is_over.set(true);
        });
    }
    in_time(|| {
        let is_over = Cell::new(false);
        run(use_a_worker(&is_over, true));
        is_over.set(false);
        run(async { join!(take_time(&is_over), use_a_worker(&is_over, false)) });
    });
}

/// Ready again at once, until `is_over`.
async fn be_ready_until(is_over: &Cell<bool>) {
    while !is_over.get() {
        yield_now().await;
    }
}

#[test]
fn group_is_lent_to_that_stands_behind_more_ready_tasks_than_one_poll_takes() {
    in_time(|| {
        let is_over = Cell::new(false);
        run(async {
            task_group!(|tg| {
                for _ in 0..1000 {
                    tg.spawn(be_ready_until(&is_over));
                }
                tg.spawn(async {
                    task_group!(workers = 1, |tg| {
                        tg.workers().spawn(async || yield_now().await);
                    });
                    is_over.set(true);
                });
            });
        });
    });
}

#[test]
fn worker_that_blocks_for_another_ends_while_home_has_to_go_out_again_and_again() {
    in_time(|| {
        run_beside_code_outside(async {
            for _ in 0..10 {
                let barrier = Barrier::new(2);
                task_group!(workers = 2, |tg| {
                    tg.workers().spawn(async || barrier.wait().is_leader());
                    sleep(Duration::from_millis(1)).await;
                    tg.workers().spawn(async || barrier.wait().is_leader());
                });
            }
        });
    });
}

/// Lets `n_turns` of home's code come outside of a group whose workers are always in polls of `length`; gives how many polls each has had.
fn polls_while_home_comes_out(workers: usize, length: Duration, n_turns: usize) -> usize {
    let n_polls = AtomicUsize::new(0);
    run(async {
        let group = async {
            task_group!(workers = workers, |tg| {
                for _ in 0..workers {
                    tg.workers().spawn(async || {
                        loop {
                            thread::sleep(length);
                            n_polls.fetch_add(1, SeqCst);
                            yield_now().await;
                        }
                    });
                }
            });
        };
        let outside = async {
            for _ in 0..n_turns {
                sleep(Duration::from_millis(1)).await;
            }
        };
        race!(group, outside);
    });
    n_polls.into_inner() / workers
}

/// No moment comes by itself in which all workers are out.
#[test]
fn home_comes_out_of_a_group_whose_workers_are_always_in_polls() {
    for (workers, length, n_turns) in [(8, 10, 10), (1, 300, 2), (2, 100, 4), (3, 40, 6)] {
        let n_polls = in_time(move || polls_while_home_comes_out(workers, Duration::from_millis(length), n_turns));
        assert!(n_polls <= 4 * (n_turns + 1), "{workers} workers with polls of {length} ms have had {n_polls} each");
    }
}

/// The worker that the other one waits for is in long polls itself, so home keeps it out.
#[test]
fn worker_that_blocks_for_one_that_is_kept_out_ends() {
    in_time(|| {
        run_beside_code_outside(async {
            for _ in 0..5 {
                let barrier = Barrier::new(2);
                task_group!(workers = 2, |tg| {
                    tg.workers().spawn(async || barrier.wait().is_leader());
                    tg.workers().spawn(async || {
                        for _ in 0..3 {
                            thread::sleep(Duration::from_millis(10));
                            yield_now().await;
                        }
                        barrier.wait();
                    });
                });
            }
        });
    });
}

/// It takes twenty of them until the other one has what it waits for.
#[test]
fn worker_that_blocks_for_one_that_is_kept_out_again_and_again_ends() {
    in_time(|| {
        run_beside_code_outside(async {
            let (sender, receiver) = mpsc::channel();
            task_group!(workers = 2, |tg| {
                tg.workers().spawn(async move || (0..20).for_each(|_| receiver.recv().unwrap()));
                tg.workers().spawn(async move || {
                    for _ in 0..20 {
                        thread::sleep(Duration::from_millis(5));
                        sender.send(()).unwrap();
                        yield_now().await;
                    }
                });
            });
        });
    });
}

/// Runs `group` as a task on a worker, which is cancelled with its group once `group` has set the promise.
fn run_on_a_worker_and_cancel(group: impl AsyncFnOnce(Promise<()>) + Send) {
    run(async {
        let has_begun = Promise::new();
        let begun = has_begun.clone();
        task_group!(workers = 1, |outer| {
            outer.workers().spawn(async move || group(begun).await);
            has_begun.wait().await;
            outer.cancel();
        });
    });
}

/// Says that it has begun, and blocks until it is sent something.
async fn block(begun: Promise<()>, receiver: mpsc::Receiver<()>) {
    begun.set(()).unwrap();
    receiver.recv().unwrap();
}

/// The order is for the worker that lends, which cannot take it before the one that blocks has come out.
#[test]
fn cancelled_worker_that_blocks_for_another_of_its_group_ends() {
    in_time(|| {
        run_on_a_worker_and_cancel(async |begun| {
            let (sender, receiver) = mpsc::channel();
            task_group!(workers = 2, |inner| {
                inner.workers().spawn(async move || block(begun, receiver).await);
                inner.workers().spawn(async move || {
                    sleep(Duration::from_millis(100)).await;
                    sender.send(()).unwrap();
                });
            });
        });
    });
}

/// The body that it blocks for is cancelled, and does not know yet.
#[test]
fn cancelled_worker_that_blocks_for_the_body_of_its_group_ends_at_once() {
    in_time(|| {
        let reports = Reports::new();
        run_on_a_worker_and_cancel(async |begun| {
            let (sender, receiver) = mpsc::channel();
            task_group!(workers = 1, |inner| {
                inner.workers().spawn(async move || block(begun, receiver).await);
                sleep(Duration::from_millis(20)).await;
                sender.send(()).unwrap();
            });
        });
        // A worker that takes a second is reported.
        reports.assert_none();
    });
}

/// The workers of that one are let in while home is inside of the one around.
#[test]
fn worker_that_blocks_for_home_code_with_workers_of_its_own_ends() {
    let group = async |begun: Promise<()>| {
        let ((sender, receiver), has_begun) = (mpsc::channel(), begun.clone());
        task_group!(workers = 1, |tg| {
            tg.workers().spawn(async move || {
                begun.set(()).unwrap();
                assert_eq!(receiver.recv(), Ok(100));
            });
            has_begun.wait().await;
            let doubled = parallel_map(1, &[7; 100], async |n| {
                yield_now().await;
                2 * n
            });
            sender.send(doubled.await.len()).unwrap();
        });
    };
    in_time(move || run(group(Promise::new())));
    // It is recalled meanwhile.
    in_time(move || run_on_a_worker_and_cancel(group));
}

/// What has cancelled the group around it in this very poll goes on as well: nobody can come to the cancellation before the worker is out.
#[test]
fn worker_that_blocks_for_home_code_beside_some_that_cancels_what_is_around_ends() {
    in_time(|| {
        run(async {
            task_group!(|outer| {
                let cancels = Promise::new();
                outer.spawn(async move {
                    let (sender, receiver) = mpsc::channel();
                    let begun = cancels.clone();
                    task_group!(workers = 1, |tg| {
                        tg.workers().spawn(async move || block(begun, receiver).await);
                        tg.spawn(async {
                            cancels.wait().await;
                            outer.cancel();
                        });
                        cancels.wait().await;
                        sleep(Duration::from_millis(20)).await;
                        sender.send(()).unwrap();
                    });
                });
            });
        });
    });
}

/// The group comes to its end while its task goes on for the worker. What is behind it is cancelled all the same.
#[test]
fn what_is_behind_a_group_whose_worker_has_blocked_for_cancelled_code_does_not_run() {
    in_time(|| {
        run(async {
            let (has_begun, has_run_on) = (Promise::new(), Cell::new(false));
            task_group!(|outer| {
                outer.spawn(async {
                    let ((sender, receiver), begun) = (mpsc::channel(), has_begun.clone());
                    task_group!(workers = 1, |tg| {
                        tg.workers().spawn(async move || block(begun, receiver).await);
                        has_begun.wait().await;
                        outer.cancel();
                        sleep(Duration::from_millis(20)).await;
                        sender.send(()).unwrap();
                    });
                    has_run_on.set(true);
                });
            });
            assert!(!has_run_on.get(), "cancelled code runs on");
        });
    });
}

/// How a group ends whose worker is in a poll of `computing` when the time of what is around it is over.
fn end_under_a_limit<T: Send>(computing: Duration, end: impl Fn() -> T + Sync) -> Result<T, Elapsed> {
    loop {
        let has_begun = AtomicBool::new(false);
        let group = async {
            task_group!(workers = 1, |tg| {
                tg.workers()
                    .spawn(async || {
                        has_begun.store(true, SeqCst);
                        thread::sleep(computing);
                        end()
                    })
                    .await
            })
        };
        let result = run(timeout(Duration::from_millis(5), group));
        // A thread may take longer than that to begin.
        if has_begun.into_inner() {
            return result;
        }
    }
}

/// How long a worker computes, so that it comes to its end at any moment of the loop's.
fn times_to_compute() -> impl Iterator<Item = Duration> {
    (0..10).map(|n| Duration::from_micros(20_000 + 300 * n))
}

/// It finishes before its cancellation takes effect.
#[test]
fn value_of_a_group_counts_whose_worker_computes_until_its_time_is_over() {
    in_time(|| {
        for computing in times_to_compute() {
            assert_eq!(end_under_a_limit(computing, || 7), Ok(7));
        }
    });
}

#[test]
fn panic_of_a_worker_that_computes_until_the_time_of_its_group_is_over_is_thrown() {
    in_time(|| {
        for computing in times_to_compute() {
            assert_panics(&["expected"], || end_under_a_limit(computing, || panic!("expected")));
        }
    });
}

#[test]
fn panic_of_a_worker_that_computes_while_what_is_around_its_group_is_cancelled_is_thrown() {
    in_time(|| {
        for computing in times_to_compute() {
            let program = async {
                let begun = Promise::new();
                task_group!(|outer| {
                    outer.spawn(async {
                        task_group!(workers = 1, |tg| {
                            let has_begun = begun.clone();
                            tg.workers().spawn(async move || {
                                has_begun.set(()).unwrap();
                                thread::sleep(computing);
                                panic!("expected");
                            });
                            begun.wait().await;
                            outer.cancel();
                        });
                    });
                });
            };
            assert_panics(&["expected"], || run(program));
        }
    });
}

/// The group ends after the order has come, by its worker or by a body that this one has blocked for.
#[test]
fn what_is_behind_a_group_on_a_worker_that_is_cancelled_while_it_lends_does_not_run() {
    in_time(|| {
        let has_run_on = AtomicBool::new(false);
        for (computing, blocks) in times_to_compute().zip([true, false].into_iter().cycle()) {
            let group = async |has_begun: Promise<()>| {
                let ((sender, receiver), begun) = (mpsc::channel(), Promise::new());
                let is_there = begun.clone();
                task_group!(workers = 1, |tg| {
                    tg.workers().spawn(async move || {
                        begun.set(()).unwrap();
                        if blocks { receiver.recv().unwrap() } else { thread::sleep(computing) }
                    });
                    is_there.wait().await;
                    has_begun.set(()).unwrap();
                    if blocks {
                        sleep(computing).await;
                        let _ = sender.send(());
                    }
                });
            };
            let is_cancelled = AtomicBool::new(false);
            run(async {
                task_group!(workers = 1, |outer| {
                    let begun = Promise::new();
                    let has_begun = begun.clone();
                    let (group, has_run_on, is_cancelled) = (&group, &has_run_on, &is_cancelled);
                    outer.workers().spawn(async move || {
                        let with_rest = async {
                            group(has_begun).await;
                            has_run_on.fetch_or(is_cancelled.load(SeqCst), SeqCst);
                        };
                        // What has woken itself is polled once more at once.
                        let all: [Pin<Box<dyn Future<Output = ()>>>; 3] =
                            [Box::pin(with_rest), Box::pin(pending()), Box::pin(pending())];
                        all.into_iter().collect::<FuturesUnordered<_>>().collect::<()>().await;
                    });
                    begun.wait().await;
                    sleep(Duration::from_millis(5)).await;
                    is_cancelled.store(true, SeqCst);
                    outer.cancel();
                });
            });
        }
        assert!(!has_run_on.into_inner(), "cancelled code runs on");
    });
}

/// The task ends by the order that is for the worker as well, which waits.
#[test]
fn worker_that_blocks_for_code_which_awaits_a_task_cancelled_with_it_ends() {
    in_time(|| {
        let program = async {
            task_group!(workers = 2, |outer| {
                let (one_begun, two_begun, (other, others)) = (Promise::new(), Promise::new(), mpsc::channel());
                let begun = one_begun.clone();
                // It keeps its worker until the other one has taken the next.
                let task = outer.workers().spawn(async move || {
                    block(begun, others).await;
                    pending::<()>().await;
                });
                one_begun.wait().await;
                let begun = two_begun.clone();
                outer.workers().spawn(async move || {
                    other.send(()).unwrap();
                    let (sender, receiver) = mpsc::channel();
                    task_group!(workers = 1, |inner| {
                        inner.workers().spawn(async move || {
                            begun.set(()).unwrap();
                            assert!(receiver.recv().is_err());
                        });
                        // It goes with the body.
                        let sender = sender;
                        task.await;
                        sender.send(()).unwrap();
                    });
                });
                two_begun.wait().await;
                outer.cancel();
            });
        };
        // Who awaits it panics, and the worker takes the order before or after that.
        let _ = catch_unwind(AssertUnwindSafe(|| run(program)));
    });
}

/// Each one is kept out in its turn, while the others wait for it.
#[test]
fn workers_that_all_block_for_each_other_end_while_home_has_to_go_out_again_and_again() {
    const N_WORKERS: usize = 16;
    in_time(|| {
        let barrier = Barrier::new(N_WORKERS);
        run_beside_code_outside(async {
            task_group!(workers = N_WORKERS, |tg| {
                tg.workers()
                    .each(async |_| {
                        for _ in 0..5 {
                            barrier.wait();
                            yield_now().await;
                        }
                    })
                    .await;
            });
        });
    });
}

#[test]
fn home_that_blocks_for_jobs_is_served_by_the_worker_that_there_is() {
    in_time(|| {
        run(async {
            let (sender, receiver) = mpsc::channel();
            task_group!(workers = 2, |tg| {
                let is_begun = Promise::new();
                let begun = is_begun.clone();
                let sleeping = tg.workers().spawn(async move || {
                    begun.set(()).unwrap();
                    pending::<()>().await;
                });
                is_begun.wait().await;
                // More than the share of this worker, and the other one is started when home comes to it.
                for n in 0..3 {
                    let sender = sender.clone();
                    tg.workers().spawn(async move || sender.send(n).unwrap());
                }
                (0..3).for_each(|n| assert_eq!(receiver.recv(), Ok(n)));
                sleeping.cancel().await;
            });
        });
    });
}

#[test]
fn worker_that_blocks_for_home_code_of_its_group_is_served() {
    in_time(|| {
        let (sender, receiver) = mpsc::channel();
        run(async {
            task_group!(workers = 1, |tg| {
                let receiver = receiver;
                let task = tg.workers().spawn(async move || receiver.recv().unwrap());
                sleep(Duration::from_millis(2)).await;
                sender.send(7).unwrap();
                assert_eq!(task.await, 7);
            });
        });
    });
}

#[test]
fn lender_that_was_leaked_keeps_no_other_from_lending() {
    in_time(|| {
        run(async {
            for _ in 0..5 {
                let mut group: Pin<Box<dyn Future<Output = ()>>> = Box::pin(work(4, 1_000_000));
                poll_a_few_times(&mut group).await;
                forget(group);
                work(4, 50).await;
            }
        });
    });
}

#[test]
fn lender_beside_one_that_is_leaked_goes_on() {
    in_time(|| {
        run(async {
            join!(work(4, 200), async {
                for _ in 0..5 {
                    let mut group: Pin<Box<dyn Future<Output = ()>>> = Box::pin(work(4, 1_000_000));
                    poll_a_few_times(&mut group).await;
                    forget(group);
                }
            });
        });
    });
}

#[test]
fn worker_that_was_recalled_while_it_lends_asks_again() {
    in_time(|| {
        run(async {
            let is_over = Cell::new(false);
            let group = async {
                task_group!(workers = 2, |tg| {
                    for _ in 0..4 {
                        tg.workers().spawn(async || work(3, 100).await);
                    }
                });
                is_over.set(true);
            };
            // Home code outside of the group, for which the permits are recalled.
            let outside = async {
                while !is_over.get() {
                    sleep(Duration::from_micros(300)).await;
                }
            };
            futures::join!(group, outside);
        });
    });
}

#[test]
fn group_that_is_cancelled_before_its_workers_have_begun_ends() {
    in_time(|| {
        for n_yields in 0..6 {
            run(async {
                task_group!(|tg| {
                    let task = tg.spawn(async {
                        task_group!(workers = 2, |tg| {
                            for _ in 0..4 {
                                tg.workers().spawn(async || pending::<()>().await);
                            }
                        });
                    });
                    for _ in 0..n_yields {
                        yield_now().await;
                    }
                    assert!(task.cancel().await.is_none());
                });
            });
        }
    });
}

#[test]
fn group_that_is_dropped_while_it_is_told_other_things_ends() {
    in_time(|| {
        run(async {
            for round in 0..100 {
                let mut group: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async move {
                    task_group!(workers = 2, |tg| {
                        loop {
                            for _ in 0..4 {
                                tg.workers().spawn(async || pending::<()>().await);
                            }
                            if round % 2 == 0 {
                                tg.cancel();
                            }
                            yield_now().await;
                        }
                    });
                });
                poll_fn(|cx| {
                    let _ = group.as_mut().poll(cx);
                    Poll::Ready(())
                })
                .await;
                yield_now().await;
                drop(group);
            }
        });
    });
}

#[test]
fn home_that_waits_in_a_loop_leaves_the_workers_their_time() {
    in_time(|| {
        run(async {
            let has_ended = AtomicBool::new(false);
            task_group!(workers = 1, |tg| {
                tg.workers().spawn(async || {
                    for _ in 0..100 {
                        yield_now().await;
                    }
                    has_ended.store(true, SeqCst);
                });
                while !has_ended.load(SeqCst) {
                    yield_now().await;
                }
            });
        });
    });
}

#[test]
fn worker_s_timer_fires_while_home_has_nothing_to_do() {
    in_time(|| {
        run(async {
            task_group!(workers = 2, |tg| {
                for _ in 0..10 {
                    tg.workers().spawn(async || sleep(Duration::from_millis(5)).await).await;
                }
            });
        });
    });
}

#[test]
fn limit_of_time_ends_a_group_whose_workers_never_rest() {
    in_time(|| {
        run(async {
            let late = timeout(Duration::from_millis(20), async {
                task_group!(workers = 2, |tg| {
                    for _ in 0..4 {
                        tg.workers().spawn(async || {
                            loop {
                                yield_now().await;
                            }
                        });
                    }
                });
            })
            .await;
            assert!(late.is_err());
        });
    });
}

#[test]
fn limit_of_time_inside_of_a_workers_task_ends_a_loop_of_long_polls() {
    let n_polls = in_time(|| {
        let n_polls = AtomicUsize::new(0);
        run(async {
            task_group!(workers = 1, |tg| {
                tg.workers().spawn(async || {
                    let rounds = async {
                        for _ in 0..100 {
                            n_polls.fetch_add(1, SeqCst);
                            thread::sleep(Duration::from_millis(2));
                            yield_now().await;
                        }
                    };
                    assert!(timeout(Duration::from_millis(10), rounds).await.is_err());
                });
            });
        });
        n_polls.into_inner()
    });
    assert!(n_polls < 32, "{n_polls} polls of 2 ms under a limit of 10 ms");
}

#[test]
fn home_sleeps_while_workers_that_never_rest_are_all_there_is() {
    let before = n_sleeps();
    run(async {
        let start = Instant::now();
        task_group!(workers = 2, |tg| {
            for _ in 0..2 {
                tg.workers().spawn(async || {
                    while start.elapsed() < Duration::from_millis(400) {
                        yield_now().await;
                    }
                });
            }
        });
    });
    let n_sleeps = n_sleeps() - before;
    assert!(n_sleeps < 150, "{n_sleeps} times in 400 ms");
}

#[test]
fn race_is_won_beside_busy_workers() {
    in_time(|| {
        run(async {
            for _ in 0..20 {
                race!(work(4, 1_000_000), sleep(Duration::from_millis(2)));
            }
        });
    });
}

#[test]
fn cleanup_that_awaits_a_task_on_a_worker_ends() {
    in_time(|| {
        let n_saved = AtomicUsize::new(0);
        run(async {
            let group = async {
                task_group!(workers = 2, |tg| {
                    let (workers, n_saved) = (tg.workers(), &n_saved);
                    for _ in 0..3 {
                        workers.spawn(async move || {
                            xiio::bracket(
                                (),
                                async |()| pending::<()>().await,
                                async move |()| {
                                    workers.spawn(async move || n_saved.fetch_add(1, SeqCst)).await;
                                },
                            )
                            .await;
                        });
                    }
                });
            };
            let _ = timeout(Duration::from_millis(20), group).await;
        });
        assert!(n_saved.into_inner() <= 3);
    });
}

#[test]
fn thousand_groups_after_one_that_was_leaked() {
    in_time(|| {
        run(async {
            let mut group: Pin<Box<dyn Future<Output = ()>>> = Box::pin(work(2, 1_000_000));
            poll_a_few_times(&mut group).await;
            forget(group);
            for _ in 0..1000 {
                task_group!(workers = 1, |tg| {
                    tg.workers().spawn(async || ());
                });
            }
        });
    });
}

/// Has the clock stand still while a group has a task on a worker, and then the rest run beside that.
fn with_paused_time(rest: impl AsyncFnOnce() + Send + 'static) {
    in_time(|| {
        let rest = Cell::new(Some(rest));
        Tester::new().run(|| async {
            let (has_begun, is_over) = (Promise::new(), Promise::new());
            task_group!(workers = 1, |tg| {
                let (begun, over) = (has_begun.clone(), is_over.clone());
                tg.workers().spawn(async move || {
                    begun.set(()).unwrap();
                    over.wait().await;
                });
                has_begun.wait().await;
                pause();
                rest.take().unwrap()().await;
                is_over.set(()).unwrap();
            });
        });
    });
}

#[test]
fn time_that_is_paused_passes_beside_a_group_with_workers() {
    with_paused_time(async || {
        let start = xiio::now();
        sleep(Duration::from_millis(20)).await;
        assert!(xiio::now() - start >= Duration::from_millis(20));
        advance(Duration::from_secs(36_000)).await;
    });
}

#[test]
fn time_that_is_advanced_passes_while_a_worker_blocks_for_home() {
    in_time(|| {
        Tester::new().run(|| async {
            let (begun, (sender, receiver)) = (Promise::new(), mpsc::channel());
            task_group!(workers = 1, |tg| {
                tg.workers().spawn({
                    let begun = begun.clone();
                    async move || block(begun, receiver).await
                });
                begun.wait().await;
                pause();
                // Longer than home stays in the group at once, so that it wants to be out.
                let start = Instant::now();
                while start.elapsed() < Duration::from_millis(200) {
                    advance(Duration::from_secs(3600)).await;
                }
                sender.send(()).unwrap();
            });
        });
    });
}

/// When somebody has read what another one wrote after an hour, while ten hours pass.
async fn read_after_an_hour() -> Duration {
    let (start, hour) = (xiio::now(), Duration::from_secs(3600));
    let (mut writer, mut reader) = UnixStream::pair().unwrap();
    let write = async {
        sleep(hour).await;
        writer.write_all(b"x").await.unwrap();
    };
    let read = async {
        reader.read_exact(&mut [0]).await.unwrap();
        xiio::now() - start
    };
    join!(write, read, advance(10 * hour)).1
}

/// [`read_after_an_hour`] outside of a group with a task on a worker, which ends when it is told to.
fn read_beside_a_worker(task: impl AsyncFn(Promise<()>) + Send + Sync + 'static) -> Duration {
    in_time(move || {
        let read_after = Cell::new(Duration::ZERO);
        Tester::new().run(|| async {
            let (has_begun, is_over) = (Promise::new(), Promise::new());
            let group = async {
                task_group!(workers = 1, |tg| {
                    let (begun, over, task) = (has_begun.clone(), is_over.clone(), &task);
                    tg.workers().spawn(async move || {
                        begun.set(()).unwrap();
                        task(over).await;
                    });
                });
            };
            let beside = async {
                has_begun.wait().await;
                pause();
                read_after.set(read_after_an_hour().await);
                is_over.set(()).unwrap();
            };
            join!(group, beside);
        });
        read_after.get()
    })
}

#[test]
fn time_that_is_paused_does_not_pass_by_what_has_woken_a_task_beside_workers() {
    let just_an_hour = Duration::from_secs(3600)..Duration::from_secs(7200);
    let is_right = just_an_hour.clone();
    with_paused_time(async move || {
        let read_after = read_after_an_hour().await;
        assert!(is_right.contains(&read_after), "{read_after:?}");
    });
    let read_after = read_beside_a_worker(async |over| over.wait().await);
    assert!(just_an_hour.contains(&read_after), "{read_after:?}");
    // Home wants to be out, and comes out late.
    let read_after = read_beside_a_worker(async |over| {
        while !over.is_set() {
            thread::sleep(Duration::from_millis(10));
            yield_now().await;
        }
    });
    assert!(just_an_hour.contains(&read_after), "{read_after:?}");
}

#[test]
fn loop_that_is_never_idle_lends_and_goes_on_where_time_is_paused() {
    in_time(|| {
        let (n_on_worker, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
        Tester::new().run(|| async {
            let group = async {
                task_group!(workers = 1, |tg| {
                    tg.workers().spawn(async || {
                        while !is_over.load(SeqCst) {
                            n_on_worker.fetch_add(1, SeqCst);
                            yield_now().await;
                        }
                    });
                    // Its own loop has always something to do.
                    while !is_over.load(SeqCst) {
                        yield_now().await;
                    }
                });
            };
            let beside = async {
                pause();
                for _ in 0..3 {
                    let n_before = n_on_worker.load(SeqCst);
                    while n_on_worker.load(SeqCst) == n_before {
                        yield_now().await;
                    }
                }
                is_over.store(true, SeqCst);
            };
            join!(group, beside);
        });
    });
}
