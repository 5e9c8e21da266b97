//! In which order things are dropped, and that each is dropped once.

use std::future::pending;

use xiio::{bracket, sleep, task_group, timeout, yield_now};
use xiio_tests::{DropCount, LONG, Trace, millis, rounds, run, run_virtually};

#[test]
fn the_locals_of_a_cancelled_task_are_dropped_last_declared_first() {
    let trace = Trace::new();
    run(async {
        task_group!(|tg| {
            tg.spawn(async {
                let _first = trace.on_drop("first local");
                let _second = trace.on_drop("second local");
                pending::<()>().await;
            });
            yield_now().await;
            tg.cancel();
        });
    });
    trace.assert(&["second local", "first local"]);
}

#[test]
fn cancelled_tasks_are_dropped_in_the_order_of_their_spawns() {
    let trace = Trace::new();
    run(async {
        task_group!(|tg| {
            for name in ["a", "b", "c"] {
                let trace = &trace;
                tg.spawn(async move {
                    let _dropped = trace.on_drop(name);
                    pending::<()>().await;
                });
            }
            yield_now().await;
            tg.cancel();
        });
    });
    trace.assert(&["a", "b", "c"]);
}

#[test]
fn an_inner_group_is_dropped_before_the_locals_around_it() {
    let trace = Trace::new();
    run(async {
        task_group!(|outer| {
            outer.spawn(async {
                let _around = trace.on_drop("around");
                task_group!(|inner| {
                    inner.spawn(async {
                        let _inside = trace.on_drop("inside");
                        pending::<()>().await;
                    });
                });
            });
            yield_now().await;
            outer.cancel();
        });
    });
    trace.assert(&["inside", "around"]);
}

#[test]
fn the_locals_of_a_task_outlive_its_cleanup() {
    let trace = Trace::new();
    run_virtually(async {
        task_group!(|tg| {
            tg.spawn(async {
                let _local = trace.on_drop("local");
                bracket(
                    trace.on_drop("resource"),
                    async |_| {
                        let _used = trace.on_drop("local of the usage");
                        sleep(LONG).await;
                    },
                    async |_resource| {
                        sleep(millis(1)).await;
                        trace.note("release");
                    },
                )
                .await;
            });
            yield_now().await;
            tg.cancel();
        });
    });
    trace.assert(&["local of the usage", "release", "resource", "local"]);
}

#[test]
fn a_body_s_locals_are_dropped_when_it_ends_and_not_when_the_block_does() {
    let trace = Trace::new();
    run(async {
        task_group!(|tg| {
            let _local = trace.on_drop("local of the body");
            tg.spawn(async {
                rounds(3).await;
                trace.note("task ended");
            });
        });
        trace.note("block ended");
    });
    trace.assert(&["local of the body", "task ended", "block ended"]);
}

#[test]
fn a_finished_task_is_dropped_before_its_handle_is_told() {
    let trace = Trace::new();
    run(async {
        task_group!(|tg| {
            let captured = trace.on_drop("captured");
            let task = tg.spawn(async move {
                let _captured = captured;
                yield_now().await;
            });
            task.await;
            trace.note("awaited");
        });
    });
    trace.assert(&["captured", "awaited"]);
}

#[test]
fn what_a_limit_cuts_off_is_dropped_before_it_says_so() {
    let trace = Trace::new();
    run_virtually(async {
        let late = timeout(millis(1), async {
            let _local = trace.on_drop("local");
            sleep(LONG).await;
        });
        assert!(late.await.is_err());
        trace.note("elapsed");
    });
    trace.assert(&["local", "elapsed"]);
}

#[test]
fn cancelled_and_ended_in_one_round_is_dropped_once() {
    let (futures, outputs) = (DropCount::new(), DropCount::new());
    run(async {
        for n_rounds in 0..6 {
            task_group!(|tg| {
                let flag = futures.flag();
                let output = outputs.flag();
                let task = tg.spawn(async move {
                    flag.touch();
                    rounds(n_rounds).await;
                    output
                });
                rounds(3).await;
                drop(task.cancel().await);
            });
        }
    });
    assert_eq!((futures.get(), outputs.get()), (6, 6));
}
