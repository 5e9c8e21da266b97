//! What the tests of the Python original check of `run`, pipes, conditions, promises, groups, gather and timeouts.

use std::io;
use std::time::{Duration, Instant};

use xiio::{Condition, Promise, bracket, gather, sleep, task_group, timeout, try_gather, try_task_group, yield_now};
use xiio_tests::{Trace, assert_panics, millis, run};

/// Runs `work` and asserts that it took `least` and less than `most`.
fn timed<T>(least: u64, most: u64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let value = work();
    let taken = start.elapsed();
    assert!(taken >= millis(least), "{taken:?}");
    assert!(taken < millis(most), "{taken:?}");
    value
}

/// Sleeps so long that nobody waits for it.
const FAR: Duration = Duration::from_secs(60);

async fn after(ms: u64, value: i32) -> i32 {
    sleep(millis(ms)).await;
    value
}

// Conditions.

#[test]
fn combine_takes_the_earliest_time() {
    let now = Instant::now();
    let combined = Condition::new().deadline(now + FAR).combine(Condition::new().deadline(now));
    assert!(combined.is_fulfilled().unwrap());
    assert!(Condition::new().combine(Condition::new().deadline(now)).is_fulfilled().unwrap());
}

#[test]
fn combine_unites_futures() {
    let (first, second) = (Promise::<()>::new(), Promise::<()>::new());
    let combined = Condition::new().promise(&first).combine(Condition::new().promise(&second));
    assert!(!combined.is_fulfilled().unwrap());
    second.set(()).unwrap();
    assert!(combined.is_fulfilled().unwrap());
}

#[test]
fn combine_ors_the_interests_of_one_file() {
    let (reader, writer) = io::pipe().unwrap();
    let combined = Condition::new().readable(&writer).combine(Condition::new().writable(&writer));
    assert_eq!(run(combined.wait()).unwrap().writable().len(), 1);
    drop(reader);
}

#[test]
fn fulfilled_by_a_file_and_not_by_the_wrong_direction() {
    let (reader, writer) = io::pipe().unwrap();
    assert!(!Condition::new().readable(&reader).is_fulfilled().unwrap());
    assert!(Condition::new().writable(&writer).is_fulfilled().unwrap());
    run(xiio::write_all(&writer, b"x")).unwrap();
    assert!(Condition::new().readable(&reader).is_fulfilled().unwrap());
}

#[test]
fn fulfilled_by_a_future_with_result_or_exception_and_not_by_a_pending_one() {
    let promise = || Promise::<Result<i32, &str>>::new();
    let (pending, with_result, with_exception) = (promise(), promise(), promise());
    with_result.set_ok(1).unwrap();
    with_exception.set_err("broken").unwrap();
    assert!(!Condition::new().promise(&pending).is_fulfilled().unwrap());
    assert!(Condition::new().promise(&with_result).is_fulfilled().unwrap());
    assert!(Condition::new().promise(&with_exception).is_fulfilled().unwrap());
}

// Futures.

#[test]
fn a_future_with_a_result_gives_it_and_one_with_an_exception_its_error() {
    let promise: Promise<Result<i32, &str>> = Promise::new();
    promise.set_ok(1).unwrap();
    assert_eq!(run(promise.wait()), Ok(1));
    let promise: Promise<Result<i32, &str>> = Promise::new();
    promise.set_err("broken").unwrap();
    assert_eq!(run(promise.wait()), Err("broken"));
}

// `run`.

#[test]
fn run_sleeps_and_returns_a_value() {
    assert_eq!(timed(100, 5_000, || run(after(100, 7))), 7);
}

#[test]
fn cleanup_runs_when_the_whole_is_interrupted_and_may_sleep() {
    let trace = Trace::new();
    timed(150, 5_000, || {
        run(async {
            let interrupted = task_group!(timeout = millis(50), |tg| {
                tg.spawn(bracket(
                    (),
                    async |()| sleep(FAR).await,
                    async |()| {
                        sleep(millis(100)).await;
                        trace.note("cleaned up");
                    },
                ));
            });
            assert!(interrupted.is_err());
        });
    });
    trace.assert(&["cleaned up"]);
}

#[test]
fn a_pipe_is_written_and_read_by_two_tasks() {
    let (reader, writer) = io::pipe().unwrap();
    let mut buf = [0; 16];
    let (n_read, ()) = run(async {
        xiio::join!(async { xiio::read(&reader, &mut buf).await.unwrap() }, async {
            sleep(millis(20)).await;
            xiio::write_all(&writer, b"hello").await.unwrap();
        })
    });
    assert_eq!(&buf[..n_read], b"hello");
}

// Groups.

#[test]
fn a_future_set_by_a_subtask_wakes_the_body() {
    let promise = Promise::new();
    let value = run(async {
        task_group!(|tg| {
            tg.spawn(async {
                sleep(millis(10)).await;
                promise.set(7).unwrap();
            });
            promise.wait().await
        })
    });
    assert_eq!(value, 7);
}

#[test]
fn an_exception_in_the_body_cancels_a_sleeper_at_once() {
    async fn work() -> Result<(), &'static str> {
        try_task_group!(|tg| {
            tg.spawn(async {
                sleep(FAR).await;
                Ok(())
            });
            yield_now().await;
            Err("broken")?;
        })
    }
    assert_eq!(timed(0, 5_000, || run(work())), Err("broken"));
}

#[test]
fn a_subtask_has_started_after_the_body_s_next_await() {
    let trace = Trace::new();
    run(async {
        task_group!(|tg| {
            tg.spawn(async { trace.note("started") });
            assert!(trace.is_empty());
            yield_now().await;
            trace.assert(&["started"]);
        });
    });
}

#[test]
fn a_finished_subtask_is_gone_from_the_group() {
    let tree = run(async {
        task_group!(name = "original", |tg| {
            tg.spawn(async {});
            sleep(millis(5)).await;
            xiio::inspect::tree().await
        })
    });
    assert!(tree.nodes().all(|(_, node)| node.kind() != xiio::inspect::Kind::Task), "{tree}");
}

// `gather`.

#[test]
fn gather_of_synchronous_values() {
    assert_eq!(run(gather([1, 2].map(std::future::ready))), [1, 2]);
}

#[test]
fn gather_gives_results_in_order_though_finished_out_of_order() {
    let results = timed(200, 5_000, || run(gather([after(200, 1), after(100, 2)])));
    assert_eq!(results, [1, 2]);
}

#[test]
fn gather_raises_a_late_error() {
    let result = run(try_gather([(20, true), (1, false)].map(async |(ms, fails)| {
        sleep(millis(ms)).await;
        if fails { Err("late") } else { Ok(()) }
    })));
    assert_eq!(result, Err("late"));
}

#[test]
fn an_early_error_cancels_the_others_and_their_cleanup_may_take_time() {
    let trace = Trace::new();
    let result = timed(300, 5_000, || {
        run(try_gather((0..2).map(async |n| {
            if n == 0 {
                sleep(millis(100)).await;
                return Err("early");
            }
            bracket(
                (),
                async |()| sleep(FAR).await,
                async |()| {
                    sleep(millis(200)).await;
                    trace.note("cleaned up");
                },
            )
            .await;
            Ok(())
        })))
    });
    assert_eq!(result, Err("early"));
    trace.assert(&["cleaned up"]);
}

#[test]
fn a_panic_during_cancellation_replaces_the_first_error_which_is_reported() {
    let reports = xiio_tests::Reports::new();
    let scene = || {
        try_gather((0..2).map(async |n| {
            if n == 0 {
                sleep(millis(5)).await;
                return Err("first");
            }
            bracket((), async |()| sleep(FAR).await, async |()| panic!("second")).await;
            Ok(())
        }))
    };
    assert_panics(&["second"], || run(scene()));
    assert_eq!(reports.texts().len(), 1, "{:?}", reports.texts());
}

// `timeout`.

#[test]
fn a_value_is_returned_from_inside_a_timeout() {
    assert_eq!(timed(200, 5_000, || run(timeout(FAR, after(200, 7)))), Ok(7));
}

#[test]
fn a_timeout_raises_in_time() {
    assert!(timed(100, 5_000, || run(timeout(millis(100), sleep(FAR)))).is_err());
}

#[test]
fn a_timeout_whose_result_is_dropped_is_silent() {
    timed(100, 5_000, || {
        run(async {
            let _silent = timeout(millis(100), sleep(FAR)).await;
        });
    });
}

#[test]
fn a_timeout_of_none_is_no_limit() {
    assert_eq!(timed(50, 5_000, || run(timeout(None, after(50, 7)))), Ok(7));
}
