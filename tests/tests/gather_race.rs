//! Many futures at once: all of them, the first of them, each as it comes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Ready, pending, ready};
use std::pin::pin;
use std::rc::Rc;

use futures::future::{FutureExt, select};
use xiio::inspect::ReportKind;
use xiio::{
    Promise, as_completed, bracket, gather, race, shield, sleep, sleep_until, task_group, timeout, try_gather,
    yield_now,
};
use xiio_tests::{
    DropBomb, DropCount, LONG, Reports, Trace, assert_cancels_cleanly, assert_panics, cancel_before_first_poll, millis,
    rounds, run, run_virtually, takes,
};

// `gather`.

#[test]
fn gather_gives_outputs_in_the_order_given() {
    run_virtually(async {
        let outputs = gather([30_u64, 10, 20].map(|ms| async move {
            sleep(millis(ms)).await;
            ms
        }));
        assert_eq!(outputs.await, [30, 10, 20]);
    });
}

#[test]
fn gather_runs_side_by_side() {
    takes(millis(30), || run(gather([30, 20, 30].map(|ms| sleep(millis(ms))))));
}

#[test]
fn gather_of_nothing_is_empty() {
    let outputs: Vec<i32> = run(gather(std::iter::empty::<Ready<i32>>()));
    assert!(outputs.is_empty());
}

#[test]
fn gather_of_borrowing_futures() {
    let words = [String::from("a"), String::from("bc")];
    let lengths = run(gather(words.iter().map(async |word| {
        yield_now().await;
        word.len()
    })));
    assert_eq!(lengths, [1, 2]);
}

#[test]
fn a_panic_in_one_of_those_gathered_cancels_the_others_with_their_cleanup() {
    let trace = Trace::new();
    let reports = Reports::new();
    assert_panics(&["expected"], || {
        run(gather((0..3).map(async |n| {
            if n == 1 {
                rounds(2).await;
                panic!("expected");
            }
            bracket(
                (),
                async |()| sleep(LONG).await,
                async |()| {
                    sleep(millis(1)).await;
                    trace.note("released");
                },
            )
            .await;
        })));
    });
    trace.assert(&["released", "released"]);
    // Who gathers awaits the one that has panicked, and is cancelled before it finds out.
    reports.assert_none();
}

#[test]
fn try_gather_gives_values_in_order_or_the_first_error() {
    let values = run(try_gather([2_u64, 1].map(|ms| async move {
        sleep(millis(ms)).await;
        Ok::<_, &str>(ms)
    })));
    assert_eq!(values, Ok(vec![2, 1]));
    run_virtually(async {
        let failed = try_gather([2_u64, 1, 3].map(|ms| async move {
            sleep(millis(ms)).await;
            if ms == 3 { Ok(ms) } else { Err(ms) }
        }));
        assert_eq!(failed.await, Err(1));
    });
}

#[test]
fn an_early_error_cancels_the_rest_of_try_gather_and_waits_for_their_cleanup() {
    let trace = Trace::new();
    let result = run(try_gather((0..3).map(async |n| {
        if n == 1 {
            return Err("second");
        }
        bracket(
            (),
            async |()| sleep(LONG).await,
            async |()| {
                sleep(millis(2)).await;
                trace.note(format!("{n} released"));
            },
        )
        .await;
        trace.note("ran on");
        Ok(())
    })));
    assert_eq!(result, Err("second"));
    // The third was cancelled before its first poll, so it had nothing to release.
    trace.assert(&["0 released"]);
}

#[test]
fn join_and_try_join_give_tuples() {
    let (number, word) = run(async {
        xiio::join!(
            async {
                rounds(2).await;
                7
            },
            async { "seven" }
        )
    });
    assert_eq!((number, word), (7, "seven"));
    let joined: Result<(i32, &str), ()> = run(async { xiio::try_join!(async { Ok(7) }, async { Ok("seven") }) });
    assert_eq!(joined, Ok((7, "seven")));
    let failed: Result<((), i32), &str> = run(async { xiio::try_join!(pending(), async { Err("error") }) });
    assert_eq!(failed, Err("error"));
}

// `race`.

#[test]
fn race_gives_the_first_and_cancels_the_others() {
    let drops = DropCount::new();
    let winner = run(async {
        let racers = [30_u64, 1, 20].map(|ms| {
            let flag = drops.flag();
            async move {
                flag.touch();
                let _flag = flag;
                sleep(millis(ms)).await;
                ms
            }
        });
        let winner = race(racers).await;
        assert_eq!(drops.get(), 3);
        winner
    });
    assert_eq!(winner, 1);
}

#[test]
fn of_several_that_are_ready_the_first_in_order_wins() {
    assert_eq!(run(race([ready(1), ready(2)])), 1);
    assert_eq!(run(async { xiio::race!(ready(1), ready(2)) }), 1);
    run_virtually(async {
        for _ in 0..10 {
            let at = xiio::now() + millis(1);
            let winner = race([1, 2, 3].map(|n| async move {
                sleep_until(at).await;
                n
            }));
            assert_eq!(winner.await, 1);
        }
    });
}

#[test]
fn an_error_wins_a_race_like_any_output() {
    run_virtually(async {
        let racers = [1_u64, 20].map(|ms| async move {
            sleep(millis(ms)).await;
            if ms == 1 { Err("error") } else { Ok(ms) }
        });
        assert_eq!(race(racers).await, Err("error"));
    });
}

#[test]
fn racers_that_all_fail_give_the_error_of_the_first_to_do_so() {
    run_virtually(async {
        let racers = [2_u64, 1].map(|ms| async move {
            sleep(millis(ms)).await;
            Err::<(), _>(ms)
        });
        assert_eq!(race(racers).await, Err(1));
    });
}

/// A loser that comes to its end in the middle of its cleanup.
async fn end_while_unwound<T>(output: T) -> T {
    let (sender, receiver) = futures::channel::oneshot::channel::<()>();
    let cleanup = shield(async {
        sleep(millis(2)).await;
        drop(sender);
        pending::<()>().await;
    });
    select(pin!(cleanup), receiver).await;
    output
}

/// That `select` drops the shield of a racer half-way is reported, and nothing else.
fn assert_no_failure(reports: &Reports) {
    assert!(reports.kinds().iter().all(|kind| *kind == ReportKind::CleanupSkipped), "{:?}", reports.texts());
}

#[test]
fn a_racer_that_ends_while_it_is_unwound_has_not_failed() {
    let reports = Reports::new();
    let first = || async {
        sleep(millis(1)).await;
        "first"
    };
    run_virtually(async {
        assert_eq!(race!(first(), end_while_unwound("late")), "first");
        let racers = [first().boxed_local(), end_while_unwound("late").boxed_local()];
        assert_eq!(race(racers).await, "first");
    });
    assert_no_failure(&reports);
}

#[test]
fn a_racer_that_ends_while_the_race_is_unwound_has_not_failed() {
    let reports = Reports::new();
    run_virtually(async {
        let alone = async { race!(end_while_unwound("late"), pending()) };
        assert!(timeout(millis(1), alone).await.is_err());
        let racers = [end_while_unwound("late"), end_while_unwound("later")];
        assert!(timeout(millis(1), race(racers)).await.is_err());
    });
    assert_no_failure(&reports);
}

#[test]
fn an_output_that_panics_when_dropped_is_no_abort_of_a_race_that_panics() {
    let reports = Reports::new();
    assert_panics(&["the first panic"], || {
        run(async {
            race!(
                async {
                    sleep(millis(1)).await;
                    panic!("the first panic")
                },
                end_while_unwound(DropBomb("the second panic")),
            )
        })
    });
    assert!(reports.texts().iter().any(|text| text.contains("the second panic")), "{:?}", reports.texts());
}

#[test]
fn a_race_without_racers_never_ends() {
    run_virtually(async { assert!(timeout(millis(5), race(std::iter::empty::<Ready<()>>())).await.is_err()) });
}

#[test]
fn a_panic_of_a_racer_is_the_race_s() {
    assert_panics(&["expected"], || {
        run(race((0..2).map(async |n| {
            if n == 1 {
                panic!("expected");
            }
            pending::<()>().await;
        })));
    });
}

#[test]
fn two_racers_that_take_from_one_queue_lose_nothing() {
    const N_ITEMS: u32 = 100;
    let (sender, receiver) = async_channel::bounded(2);
    let taken = run(async {
        task_group!(|tg| {
            tg.spawn(async {
                for item in 0..N_ITEMS {
                    sender.send(item).await.unwrap();
                }
                sender.close();
            });
            let mut taken = Vec::new();
            while let Ok(item) = race([receiver.recv(), receiver.recv()]).await {
                taken.push(item);
                // Other rounds, other interleavings.
                rounds(taken.len() % 3).await;
            }
            taken
        })
    });
    assert_eq!(taken, (0..N_ITEMS).collect::<Vec<_>>());
}

#[test]
fn two_racers_on_one_queue_that_is_not_fair_lose_nothing() {
    let queue = RefCell::new(VecDeque::from([1, 2, 3]));
    let promise = Promise::new();
    promise.set(()).unwrap();
    let take = async || {
        promise.wait().await;
        queue.borrow_mut().pop_front()
    };
    let taken = run(async { [race([take(), take()]).await, race([take(), take()]).await] });
    assert_eq!((taken, queue.borrow().len()), ([Some(1), Some(2)], 1));
}

#[test]
fn the_arms_of_race_are_code_of_the_function_around() {
    async fn first(n: u64) -> Option<&'static str> {
        let mut n_loops = 0;
        loop {
            n_loops += 1;
            xiio::race!(
                () = sleep(millis(n)) => return Some("slept"),
                _ = yield_now() => if n_loops < 3 { continue } else { None? },
            );
        }
    }
    assert_eq!(run(first(60_000)), None);
    assert_eq!(run(first(0)), Some("slept"));
}

// `as_completed`.

#[test]
fn outputs_come_as_they_complete() {
    let order = run(as_completed([20_u64, 1, 10].map(|ms| async move {
        sleep(millis(ms)).await;
        ms
    }))
    .consume(async |outputs| {
        let mut order = Vec::new();
        while let Some(ms) = outputs.next().await {
            order.push(ms);
        }
        order
    }));
    assert_eq!(order, [1, 10, 20]);
}

#[test]
fn a_slow_consumer_keeps_no_producer_from_running() {
    let n_produced = Rc::new(Cell::new(0));
    let n_consumed = run(as_completed((0..1_000).map(|_| {
        let n_produced = Rc::clone(&n_produced);
        async move {
            rounds(2).await;
            n_produced.set(n_produced.get() + 1);
        }
    }))
    .limit(5)
    .consume(async |outputs| {
        outputs.next().await.unwrap();
        // Busy with something else, while all the others come to their end.
        while n_produced.get() < 1_000 {
            yield_now().await;
        }
        let mut n_consumed = 1;
        while outputs.next().await.is_some() {
            n_consumed += 1;
        }
        n_consumed
    }));
    assert_eq!(n_consumed, 1_000);
}

#[test]
fn a_limit_bounds_how_many_run_and_how_far_the_iterator_is_asked() {
    let (n_running, most, n_asked) = (Cell::new(0_usize), Cell::new(0_usize), Cell::new(0_usize));
    let consumed = run(as_completed((0..).map(|n: usize| {
        n_asked.set(n_asked.get() + 1);
        let (n_running, most) = (&n_running, &most);
        async move {
            n_running.set(n_running.get() + 1);
            most.set(most.get().max(n_running.get()));
            sleep(millis(1)).await;
            n_running.set(n_running.get() - 1);
            n
        }
    }))
    .limit(5)
    .consume(async |outputs| {
        let mut consumed = 0;
        while consumed < 20 {
            outputs.next().await.unwrap();
            consumed += 1;
        }
        consumed
    }));
    assert_eq!((consumed, most.get()), (20, 5));
    assert!(n_asked.get() < 100, "asked {} times", n_asked.get());
}

#[test]
fn a_consumer_that_ends_early_cancels_the_rest_and_waits_for_their_cleanup() {
    let trace = Trace::new();
    run_virtually(
        as_completed((0..3).map(async |n| {
            if n > 0 {
                bracket(
                    (),
                    async |()| sleep(LONG).await,
                    async |()| {
                        sleep(millis(1)).await;
                        trace.note("released");
                    },
                )
                .await;
            } else {
                sleep(millis(1)).await;
            }
        }))
        .consume(async |outputs| {
            outputs.next().await.unwrap();
            trace.note("consumer ended");
        }),
    );
    trace.assert(&["consumer ended", "released", "released"]);
}

#[test]
fn as_completed_of_nothing_gives_nothing() {
    let first: Option<i32> =
        run(as_completed(std::iter::empty::<Ready<i32>>()).consume(async |outputs| outputs.next().await));
    assert_eq!(first, None);
}

#[test]
fn a_panic_of_a_producer_is_as_completed_s() {
    assert_panics(&["expected"], || {
        run(as_completed([async { panic!("expected") }]).consume(async |outputs: &mut xiio::Completed<'_, ()>| {
            outputs.next().await;
            pending::<()>().await;
        }));
    });
}

#[test]
fn a_limit_of_zero_for_as_completed_is_refused() {
    assert_panics(&["`limit(0)`"], || as_completed([ready(())]).limit(0));
}

// The futurelock: a future of a task waits for a lock that another future of the same task holds.

/// Takes the lock, keeps it over an await, gives it back.
async fn with_lock(lock: &async_lock::Mutex<u32>, n_rounds: usize) -> u32 {
    let mut guard = lock.lock().await;
    rounds(n_rounds).await;
    sleep(millis(2)).await;
    *guard += 1;
    *guard
}

#[test]
fn a_group_whose_body_waits_for_a_lock_that_a_task_holds_completes() {
    let lock = async_lock::Mutex::new(0);
    run(async {
        task_group!(|tg| {
            tg.spawn(with_lock(&lock, 3));
            yield_now().await;
            assert_eq!(with_lock(&lock, 0).await, 2);
        });
    });
}

#[test]
fn a_race_arm_that_takes_the_lock_a_loser_held_completes() {
    let lock = async_lock::Mutex::new(0);
    run_virtually(async {
        let mut held = std::pin::pin!(with_lock(&lock, 3));
        // The loser of this race holds the lock, and is not dropped: the group around polls it on.
        task_group!(|tg| {
            let task = tg.spawn(async { held.as_mut().await });
            let n = xiio::race!(
                n = task => n,
                () = sleep(millis(1)) => with_lock(&lock, 0).await,
            );
            assert!((1..=2).contains(&n));
        });
    });
}

#[test]
fn a_race_drops_the_lock_of_its_losers_before_the_arm_runs() {
    let lock = async_lock::Mutex::new(0);
    run_virtually(async {
        let n = xiio::race!(
            n = with_lock(&lock, 1_000_000) => n,
            () = sleep(millis(1)) => with_lock(&lock, 0).await,
        );
        assert_eq!(n, 1);
    });
}

// Cancelled.

#[test]
fn combinators_of_many_cancel_cleanly() {
    assert_cancels_cleanly(|| gather([sleep(LONG), sleep(LONG)]));
    assert_cancels_cleanly(|| try_gather([pending::<Result<(), ()>>()]));
    assert_cancels_cleanly(|| race([sleep(LONG), sleep(LONG)]));
    assert_cancels_cleanly(|| async { xiio::race!(sleep(LONG), pending()) });
    assert_cancels_cleanly(|| async { xiio::join!(sleep(LONG), ready(1)) });
    assert_cancels_cleanly(|| async { xiio::try_join!(pending::<Result<(), ()>>(), pending::<Result<(), ()>>()) });
    assert_cancels_cleanly(|| as_completed([sleep(LONG)]).consume(async |outputs| outputs.next().await));
}

#[test]
fn combinators_of_many_cancelled_before_their_first_poll_poll_nothing() {
    let trace = Trace::new();
    let polled = || async { trace.note("polled") };
    run(async {
        cancel_before_first_poll(gather([polled()])).await;
        cancel_before_first_poll(race([polled()])).await;
        cancel_before_first_poll(async { xiio::join!(polled(), polled()) }).await;
        cancel_before_first_poll(as_completed([polled()]).consume(async |outputs| outputs.next().await)).await;
    });
    trace.assert(&[]);
}

// Where they were called.

#[test]
fn tree_shows_where_branches_were_started() {
    let tree = run(async {
        task_group!(|tg| {
            let never = pending::<()>;
            let fails_never = pending::<Result<(), ()>>;
            tg.spawn(async move { gather([never()]).await.len() });
            tg.spawn(async move { try_gather([fails_never()]).await.is_ok() });
            tg.spawn(async move { xiio::join!(never(), never()) });
            tg.spawn(async move { xiio::try_join!(fails_never(), fails_never()) });
            tg.spawn(async move { race([never()]).await });
            tg.spawn(async move { race!(never(), never()) });
            tg.spawn(async move { as_completed([never()]).consume(async |outputs| outputs.next().await).await });
            yield_now().await;
            let tree = xiio::inspect::tree().await.to_string();
            tg.cancel();
            tree
        })
    });
    let n_tasks = tree.matches("spawned at ").count();
    assert!(n_tasks > 14, "{tree}");
    assert_eq!(tree.matches("gather_race.rs:").count(), n_tasks, "{tree}");
}
