//! Limits of time: which of several elapses, what wins in the same round, and what is left behind.

use std::cell::Cell;
use std::future::{pending, poll_fn, ready};
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::future::{FutureExt, LocalBoxFuture, select};
use xiio::{
    Elapsed, Promise, bracket, branch, deadline, now, parallel_map, shield, sleep, sleep_until, task_group, timeout,
    yield_now,
};
use xiio_tests::{
    LONG, Trace, assert_cancels_cleanly, assert_panics, cancel_before_first_poll, millis, run, run_virtually, takes,
};

#[test]
fn a_value_in_time_is_the_value() {
    let value = run(timeout(LONG, async {
        sleep(millis(2)).await;
        7
    }));
    assert_eq!(value, Ok(7));
}

#[test]
fn what_takes_too_long_elapses_and_does_not_run_on() {
    let trace = Trace::new();
    takes(millis(5), || {
        run(async {
            let late = timeout(millis(5), async {
                let _dropped = trace.on_drop("dropped");
                sleep(LONG).await;
                trace.note("ran on");
            });
            assert!(late.await.is_err());
            trace.note("elapsed");
        });
    });
    trace.assert(&["dropped", "elapsed"]);
}

#[test]
fn none_is_no_limit() {
    assert_eq!(run(timeout(None, async { 7 })), Ok(7));
    assert_eq!(run(deadline(None, async { 7 })), Ok(7));
}

#[test]
fn a_limit_beyond_the_clock_is_no_limit() {
    assert_eq!(
        run(timeout(Duration::MAX, async {
            sleep(millis(1)).await;
            7
        })),
        Ok(7)
    );
}

#[test]
fn a_limit_that_is_over_at_the_start_gives_the_value_of_what_is_ready_at_once() {
    let past = || now().checked_sub(millis(1)).unwrap();
    run_virtually(async {
        assert_eq!(timeout(Duration::ZERO, async { 7 }).await, Ok(7));
        assert_eq!(deadline(past(), async { 7 }).await, Ok(7));
        assert_eq!(deadline(now(), async { 7 }).await, Ok(7));
        assert_eq!(task_group!(timeout = Duration::ZERO, |_tg| { 7 }), Ok(7));
        assert_eq!(task_group!(deadline = past(), |tg| { tg.spawn(async { 7 }).await }), Ok(7));
        let ran_out = timeout(millis(2), async { 7 });
        sleep(millis(5)).await;
        assert_eq!(ran_out.await, Ok(7));
    });
}

#[test]
fn a_limit_that_is_over_at_the_start_has_jobs_that_run_at_home_polled_once() {
    let past = || now().checked_sub(millis(1)).unwrap();
    let values = async || {
        let spawned = task_group!(timeout = Duration::ZERO, workers = 0, |tg| tg.workers().spawn(async || 7).await);
        assert_eq!(spawned, Ok(7));
        let each = task_group!(deadline = past(), workers = 0, |tg| tg.workers().each(async |n| n + 7).await);
        assert_eq!(each, Ok(vec![7]));
        let one_by_one = task_group!(timeout = Duration::ZERO, workers = 0, limit = 1, |tg| {
            let [one, two] = [1, 2].map(|n| tg.workers().spawn(async move || n));
            one.await + two.await
        });
        assert_eq!(one_by_one, Ok(3));
        let of_a_job = task_group!(timeout = Duration::ZERO, workers = 0, |tg| {
            let workers = tg.workers();
            workers.spawn(async move || workers.spawn(async || 7).await).await
        });
        assert_eq!(of_a_job, Ok(7));
        let handed_in = Arc::new(AtomicU32::new(0));
        let remote = task_group!(timeout = Duration::ZERO, |tg| {
            let handed_in = Arc::clone(&handed_in);
            tg.remote().spawn(async move || handed_in.store(7, SeqCst)).unwrap();
        });
        assert_eq!((remote, handed_in.load(SeqCst)), (Ok(()), 7));
        assert_eq!(timeout(Duration::ZERO, parallel_map(0, &[1, 2], async |n| n * n)).await, Ok(vec![1, 4]));
        let waits = task_group!(timeout = Duration::ZERO, workers = 0, |tg| tg.workers().spawn(pending::<()>));
        assert!(waits.is_err());
    };
    run(values());
    run_virtually(values());
}

#[test]
fn a_limit_that_is_over_at_the_start_lets_what_waits_be_polled_once() {
    let n_polls = Cell::new(0);
    let waits = || {
        poll_fn(|cx| {
            n_polls.set(n_polls.get() + 1);
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        })
    };
    let past = || Instant::now().checked_sub(millis(1)).unwrap();
    run(async {
        sleep(millis(1)).await;
        assert!(timeout(Duration::ZERO, waits()).await.is_err());
        assert!(deadline(past(), waits()).await.is_err());
        assert!(deadline(Instant::now(), waits()).await.is_err());
        let ran_out = timeout(millis(2), waits());
        sleep(millis(5)).await;
        assert!(ran_out.await.is_err());
    });
    assert_eq!(n_polls.get(), 4);
    run(async {
        assert!(task_group!(timeout = Duration::ZERO, |_tg| { pending::<()>().await }).is_err());
        assert!(task_group!(deadline = past(), |tg| { tg.spawn(pending::<()>()) }).is_err());
    });
}

#[test]
fn what_a_limit_has_run_out_for_before_its_first_poll_begins_all_the_same() {
    let values = async || {
        let group = timeout(millis(1), async { task_group!(|tg| { tg.spawn(async { 7 }).await }) });
        let used = timeout(millis(1), bracket((), async |()| 8, async |()| ()));
        let shielded = timeout(millis(1), async { shield(async { 9 }).await });
        std::thread::sleep(millis(3));
        (group.await, used.await, shielded.await)
    };
    // A machine that stands still for a millisecond in the poll itself has its task give way, and the limit elapse.
    let mut tries = std::iter::repeat_with(|| run(values())).take(100);
    assert!(tries.any(|values| values == (Ok(7), Ok(8), Ok(9))));
}

#[test]
fn a_limit_counts_from_the_call() {
    run(async {
        let limited = timeout(millis(5), async { sleep(LONG).await });
        sleep(millis(10)).await;
        let started = Instant::now();
        assert!(limited.await.is_err());
        assert!(started.elapsed() < Duration::from_secs(1));
    });
}

#[test]
fn the_nearer_of_two_nested_limits_elapses() {
    run_virtually(async {
        let outer_is_nearer = timeout(millis(5), timeout(LONG, sleep(LONG)));
        assert!(outer_is_nearer.await.is_err());
        let inner_is_nearer = timeout(LONG, timeout(millis(5), sleep(LONG)));
        assert!(matches!(inner_is_nearer.await, Ok(Err(_))));
    });
}

#[test]
fn of_two_limits_at_one_instant_the_outer_one_elapses() {
    let trace = Trace::new();
    let runs: [fn(_); 2] = [|future| run(future), |future: LocalBoxFuture<'_, ()>| run_virtually(future)];
    for run in runs {
        run(Box::pin(async {
            let at = now() + millis(2);
            let both = deadline(at, async {
                let _ = deadline(at, sleep(LONG)).await;
                trace.note("ran on");
            });
            assert!(both.await.is_err());
            let at = now() + millis(2);
            let groups = task_group!(deadline = at, |tg| {
                tg.spawn(async {
                    let _ = task_group!(deadline = at, |_tg| { pending::<()>().await });
                    trace.note("ran on");
                });
            });
            assert!(groups.is_err());
            let at = now() + millis(2);
            let between = deadline(at, async {
                xiio::join!(async { deadline(at, sleep(LONG)).await.unwrap_or_else(|_| trace.note("ran on")) });
            });
            assert!(between.await.is_err());
            let at_once = deadline(at, async {
                let _ = task_group!(deadline = at, |tg| { tg.spawn(sleep(LONG)) });
                trace.note("ran on");
            });
            assert!(at_once.await.is_err());
        }));
    }
    trace.assert(&[]);
}

#[test]
fn of_a_group_and_a_job_at_home_with_limits_at_one_instant_the_group_elapses() {
    let trace = Mutex::new(Vec::new());
    let groups = async || {
        let at = now() + millis(2);
        let group = task_group!(deadline = at, workers = 0, |tg| {
            tg.workers().spawn(async || {
                let _ = deadline(at, sleep(LONG)).await;
                trace.lock().unwrap().push("ran on");
            });
            let _ = deadline(at, sleep(LONG)).await;
            trace.lock().unwrap().push("ran on");
        });
        assert!(group.is_err());
        let at = now().checked_sub(millis(1)).unwrap();
        let over = task_group!(deadline = at, workers = 0, |tg| {
            tg.workers().spawn(async || {
                let _ = deadline(at, sleep(LONG)).await;
                trace.lock().unwrap().push("ran on");
            });
        });
        assert!(over.is_err());
    };
    run(groups());
    run_virtually(groups());
    assert!(trace.lock().unwrap().is_empty());
}

#[test]
fn a_limit_in_a_task_on_a_worker_does_not_wait_for_that_of_the_group_at_the_same_instant() {
    let (begun, (elapsed, has_elapsed)) = (Promise::new(), mpsc::channel());
    run(async {
        let at = now() + millis(2);
        let group = task_group!(deadline = at, workers = 1, |tg| {
            tg.workers().spawn(async || {
                begun.set(()).unwrap();
                elapsed.send(deadline(at, sleep(LONG)).await).unwrap();
                sleep(LONG).await;
                panic!("ran on");
            });
            begun.wait().await;
            // The group cannot look at its own limit before this poll of the body is over.
            assert!(has_elapsed.recv().unwrap().is_err());
        });
        assert!(group.is_err());
    });
}

#[test]
fn of_two_limits_that_ran_out_while_the_thread_was_held_up_the_nearer_one_elapses() {
    run(async {
        let held_up = |outer, inner| {
            timeout(
                millis(outer),
                timeout(millis(inner), async {
                    std::thread::sleep(millis(10));
                    sleep(LONG).await;
                }),
            )
        };
        assert!(held_up(2, 4).await.is_err());
        assert!(matches!(held_up(4, 2).await, Ok(Err(_))));
    });
}

#[test]
fn an_inner_limit_at_the_instant_of_one_that_waits_for_a_shield_elapses_in_the_shield() {
    let trace = Trace::new();
    run_virtually(async {
        let at = now() + millis(2);
        let shielded = deadline(
            at,
            shield(async {
                assert!(deadline(at, sleep(LONG)).await.is_err());
                trace.note("inner elapsed");
            }),
        );
        assert!(shielded.await.is_err());
    });
    trace.assert(&["inner elapsed"]);
}

#[test]
fn a_limit_that_runs_out_in_the_middle_of_a_poll_is_noticed_at_the_next_leaf() {
    let promise = Promise::new();
    promise.set(()).unwrap();
    let n_rounds = Cell::new(0);
    let busy = || async {
        loop {
            std::thread::sleep(millis(5));
            n_rounds.set(n_rounds.get() + 1);
            promise.wait().await;
        }
    };
    let elapses = async |result: Result<(), Elapsed>| {
        assert!(result.is_err());
        assert!(n_rounds.replace(0) <= 8, "noticed after {n_rounds:?} rounds of 5 ms");
    };
    run(async {
        elapses(timeout(millis(12), busy()).await).await;
        elapses(task_group!(timeout = millis(12), |_tg| { busy().await })).await;
        elapses(task_group!(timeout = millis(12), |tg| { tg.spawn(busy()).await })).await;
        elapses(timeout(millis(12), async { xiio::join!(busy()).0 }).await).await;
    });
}

#[test]
fn a_task_whose_leaves_are_ready_does_not_hold_up_its_siblings_for_long() {
    let promise = Promise::new();
    promise.set(()).unwrap();
    let n_rounds = Cell::new(0);
    run(async {
        task_group!(|tg| {
            let hog = tg.spawn(async {
                loop {
                    std::thread::sleep(millis(2));
                    n_rounds.set(n_rounds.get() + 1);
                    promise.wait().await;
                }
            });
            sleep(millis(10)).await;
            hog.cancel().await;
        });
    });
    // 128 without a look at the clock.
    assert!(n_rounds.get() < 60, "{n_rounds:?} rounds of 2 ms");
}

#[test]
fn a_value_in_the_round_of_the_deadline_wins() {
    run_virtually(async {
        for _ in 0..10 {
            let at = now() + millis(2);
            let value = deadline(at, async {
                sleep_until(at).await;
                7
            });
            assert_eq!(value.await, Ok(7));
        }
    });
}

#[test]
fn a_value_that_comes_after_the_thread_was_held_up_wins_too() {
    run(async {
        let promise = Promise::new();
        let limited = timeout(millis(2), promise.wait());
        task_group!(|tg| {
            let task = tg.spawn(limited);
            yield_now().await;
            // The deadline passes while nothing can be polled, and the value comes in the same round.
            std::thread::sleep(millis(5));
            promise.set(7).unwrap();
            assert_eq!(task.await, Ok(7));
        });
    });
}

#[test]
fn the_user_s_own_error_of_kind_timed_out_comes_through_untouched() {
    let mine = || io::Error::new(io::ErrorKind::TimedOut, "mine");
    let result = run(timeout(LONG, async move { Err::<(), _>(mine()) }));
    assert_eq!(result.unwrap().unwrap_err().to_string(), "mine");
}

#[test]
fn elapsed_goes_through_a_question_mark_in_a_function_of_io_results() {
    async fn work() -> io::Result<()> {
        timeout(millis(1), pending::<()>()).await?;
        Ok(())
    }
    let error = run(work()).unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::TimedOut, "time limit is over"));
}

#[test]
fn a_loop_of_operations_that_are_always_ready_times_out() {
    let promise = Promise::new();
    promise.set(()).unwrap();
    let n_rounds = Cell::new(0_u64);
    run(async {
        let late = timeout(millis(5), async {
            loop {
                promise.wait().await;
                n_rounds.set(n_rounds.get() + 1);
            }
        });
        let elapsed: Result<(), _> = late.await;
        assert!(elapsed.is_err());
    });
    assert!(n_rounds.get() > 0);
}

#[test]
fn a_loop_of_reads_that_are_always_ready_times_out() {
    let zeros = std::fs::File::open("/dev/zero").unwrap();
    run(async {
        let late = timeout(millis(5), async {
            loop {
                xiio::read(&zeros, &mut [0; 16]).await.unwrap();
            }
        });
        let elapsed: Result<(), _> = late.await;
        assert!(elapsed.is_err());
    });
}

#[test]
fn a_future_that_wakes_itself_in_every_poll_times_out() {
    run(async {
        let restless = poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert!(timeout(millis(5), restless).await.is_err());
    });
}

#[test]
fn many_limits_that_do_not_come_true_leave_nothing_behind() {
    run(async {
        for n in 0..10_000 {
            assert_eq!(timeout(LONG, ready(n)).await, Ok(n));
        }
        for _ in 0..1_000 {
            timeout(LONG, yield_now()).await.unwrap();
        }
    });
}

#[test]
fn cleanup_has_all_the_time_it_needs_after_its_limit() {
    let trace = Trace::new();
    takes(millis(15), || {
        run(async {
            let late = timeout(
                millis(5),
                bracket(
                    (),
                    async |()| sleep(LONG).await,
                    async |()| {
                        sleep(millis(10)).await;
                        trace.note("released");
                    },
                ),
            );
            assert!(late.await.is_err());
            trace.note("elapsed");
        });
    });
    trace.assert(&["released", "elapsed"]);
}

#[test]
fn a_future_that_ends_while_it_is_unwound_has_ended() {
    let promise = Promise::new();
    run_virtually(async {
        task_group!(|tg| {
            let task = tg.spawn(timeout(millis(2), async {
                // While the bracket cleans up, the foreign branch ends this future.
                let held = Box::pin(bracket((), async |()| sleep(LONG).await, async |()| promise.wait().await));
                let mut n_polls = 0;
                let ends = poll_fn(move |_| {
                    n_polls += 1;
                    if n_polls == 2 { Poll::Ready(7) } else { Poll::Pending }
                });
                match futures::future::select(held, ends).await {
                    futures::future::Either::Right((value, _)) => value,
                    futures::future::Either::Left(_) => 0,
                }
            }));
            assert_eq!(task.await, Ok(7));
        });
    });
}

#[test]
fn a_panic_under_a_limit_goes_through() {
    assert_panics(&["expected"], || {
        run(timeout(LONG, async {
            sleep(millis(1)).await;
            panic!("expected");
        }))
    });
}

#[test]
fn a_limit_cancels_cleanly() {
    assert_cancels_cleanly(|| timeout(LONG, pending::<()>()));
    assert_cancels_cleanly(|| deadline(Instant::now() + LONG, sleep(LONG)));
    assert_cancels_cleanly(|| timeout(None, sleep(LONG)));
}

#[test]
fn a_limit_cancelled_before_its_first_poll_polls_nothing() {
    let trace = Trace::new();
    run(cancel_before_first_poll(timeout(LONG, async { trace.note("polled") })));
    trace.assert(&[]);
}

#[test]
fn limits_a_hundred_deep_elapse_at_the_outermost() {
    fn nest(depth: u32) -> std::pin::Pin<Box<dyn Future<Output = u32>>> {
        if depth == 0 {
            return Box::pin(async {
                sleep(LONG).await;
                0
            });
        }
        Box::pin(async move { timeout(LONG, nest(depth - 1)).await.map_or(0, |depth| depth + 1) })
    }
    run_virtually(async { assert!(timeout(millis(5), nest(100)).await.is_err()) });
}

#[test]
fn a_limit_polled_in_a_loop_counts_from_each_call() {
    run_virtually(async {
        let mut work = pin!(async {
            sleep(millis(20)).await;
            7
        });
        let mut n_late = 0;
        let value = loop {
            match timeout(millis(6), work.as_mut()).await {
                Ok(value) => break value,
                Err(_) => n_late += 1,
            }
        };
        assert_eq!(value, 7);
        assert_eq!(n_late, 3);
    });
}

#[test]
fn a_limit_that_is_polled_after_its_end_panics_and_does_not_elapse() {
    let is_released = Cell::new(false);
    assert_panics(&["`timeout` was polled after it had ended"], || {
        run(async {
            let mut limited = pin!(timeout(LONG, ready(7)));
            assert_eq!(limited.as_mut().await, Ok(7));
            limited.await
        })
    });
    assert_panics(&["`branch` was polled after it had ended"], || {
        run(async {
            let mut branch = pin!(branch(ready(7)));
            assert_eq!(branch.as_mut().await, 7);
            branch.await
        })
    });
    // Over, and the value comes in the pass of the cancellation.
    assert_panics(&["`timeout` was polled after it had ended"], || {
        run(async {
            let release = async |()| is_released.set(true);
            let held = bracket((), async |()| pending::<()>().await, release).boxed_local();
            let is_released = poll_fn(|_| if is_released.get() { Poll::Ready(7) } else { Poll::Pending });
            let value = select(held, is_released).map(|_| 7);
            let mut limited = pin!(timeout(millis(1), value));
            assert_eq!(limited.as_mut().await, Ok(7));
            limited.await
        })
    });
    assert_panics(&["`timeout` was polled after it had ended"], || {
        run(async {
            let mut limited = pin!(timeout(millis(1), pending::<()>()));
            assert!(limited.as_mut().await.is_err());
            limited.await
        })
    });
}

#[xiio::test(virtual_time)]
async fn what_is_ready_at_once_gives_its_value_under_a_limit_that_is_over() {
    for wait in [Duration::ZERO, Duration::from_secs(1)] {
        sleep(wait).await;
        assert_eq!(timeout(Duration::ZERO, xiio::shield(async { 7 })).await, Ok(7));
        assert_eq!(timeout(Duration::ZERO, xiio::bracket((), async |()| 7, async |()| ())).await, Ok(7));
        assert_eq!(timeout(Duration::ZERO, async { task_group!(|tg| tg.spawn(async { 7 }).await) }).await, Ok(7));
        assert_eq!(timeout(Duration::ZERO, async { xiio::join!(async { 7 }, async { 8 }) }).await, Ok((7, 8)));
    }
}

#[test]
fn what_is_ready_at_once_gives_its_value_under_a_limit_that_is_over_on_the_clock() {
    xiio_tests::run(async {
        for _ in 0..3 {
            assert_eq!(timeout(Duration::ZERO, xiio::shield(async { 7 })).await, Ok(7));
            sleep(Duration::from_millis(1)).await;
        }
    });
}
