//! Limits of time: which of several elapses, what wins in the same round, and what is left behind.

use std::cell::Cell;
use std::future::{pending, poll_fn, ready};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use xiio::{Promise, bracket, branch, deadline, now, sleep, sleep_until, task_group, timeout, yield_now};
use xiio_tests::{LONG, Trace, assert_cancels_cleanly, assert_panics, cancel_before_first_poll, millis, run, takes};

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
fn a_limit_of_zero_elapses_at_once_and_its_future_is_dropped_unpolled() {
    let trace = Trace::new();
    run(async {
        let captured = trace.on_drop("dropped");
        let late = timeout(Duration::ZERO, async {
            let _captured = captured;
            trace.note("polled");
        });
        assert!(late.await.is_err());
        trace.note("elapsed");
        let past = Instant::now().checked_sub(millis(1)).unwrap();
        assert!(deadline(past, async { trace.note("polled") }).await.is_err());
    });
    trace.assert(&["dropped", "elapsed"]);
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
    run(async {
        let outer_is_nearer = timeout(millis(5), timeout(LONG, sleep(LONG)));
        assert!(outer_is_nearer.await.is_err());
        let inner_is_nearer = timeout(LONG, timeout(millis(5), sleep(LONG)));
        assert!(matches!(inner_is_nearer.await, Ok(Err(_))));
    });
}

#[test]
fn of_two_limits_at_one_instant_one_elapses() {
    run(async {
        for _ in 0..10 {
            let at = now() + millis(2);
            let both = deadline(at, deadline(at, sleep(LONG)));
            // The inner one has given its value in the round of the outer one.
            assert!(matches!(both.await, Ok(Err(_))));
        }
    });
}

#[test]
fn an_outer_limit_in_the_same_round_does_not_let_the_code_after_the_inner_one_wait() {
    let trace = Trace::new();
    run(async {
        let at = now() + millis(2);
        let both = deadline(at, async {
            assert!(deadline(at, sleep(LONG)).await.is_err());
            trace.note("inner elapsed");
            yield_now().await;
            trace.note("ran on");
        });
        assert!(both.await.is_err());
    });
    trace.assert(&["inner elapsed"]);
}

#[test]
fn a_value_in_the_round_of_the_deadline_wins() {
    run(async {
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
    run(async {
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
    run(async { assert!(timeout(millis(5), nest(100)).await.is_err()) });
}

#[test]
fn a_limit_polled_in_a_loop_counts_from_each_call() {
    run(async {
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
        assert!(n_late >= 1);
    });
}

#[test]
fn a_limit_that_is_polled_after_its_value_panics_and_does_not_elapse() {
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
}
