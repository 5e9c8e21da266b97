//! What cannot be cut off: shields, brackets, deferred cleanups, and the grace that bounds them.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::{pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use xiio::inspect::ReportKind;
use xiio::{
    CancelTask, Canceller, Promise, Task, bracket, branch, join, now, race, shield, sleep, task_group, timeout,
    try_task_group, yield_now,
};
use xiio_tests::poll::OnDrop;
use xiio_tests::{
    DropBomb, DropCount, DropFlag, LONG, Reports, Trace, assert_panics, cancel_before_first_poll, drop_half_way,
    millis, panic_text, rounds, run, run_virtually,
};

// Shields.

#[test]
fn shield_gives_the_value_of_its_future() {
    assert_eq!(
        run(shield(async {
            sleep(millis(1)).await;
            7
        })),
        7
    );
}

#[test]
fn shield_passes_an_error_through() {
    assert_eq!(run(shield(async { Err::<(), _>("error") })), Err("error"));
}

#[test]
fn a_panic_in_a_shield_goes_through() {
    assert_panics(&["expected"], || {
        run(shield(async {
            rounds(1).await;
            panic!("expected");
        }))
    });
}

#[test]
fn a_panic_in_a_shield_of_a_cancelled_task_is_the_group_s() {
    assert_panics(&["expected"], || {
        run(async {
            task_group!(|tg| {
                let task = tg.spawn(shield(async {
                    sleep(millis(5)).await;
                    panic!("expected");
                }));
                rounds(2).await;
                task.cancel().await;
            });
        });
    });
}

#[test]
fn a_shield_cancelled_before_its_first_poll_does_not_start() {
    let trace = Trace::new();
    run(cancel_before_first_poll(shield(async { trace.note("started") })));
    trace.assert(&[]);
}

#[test]
fn a_shield_dropped_half_way_leaves_no_waker() {
    run(drop_half_way(shield(sleep(LONG))));
}

#[test]
fn a_shield_of_a_cancelled_task_ends_and_what_it_started_does_too() {
    let trace = Trace::new();
    run_virtually(async {
        task_group!(|tg| {
            let task = tg.spawn(async {
                shield(async {
                    task_group!(|inner| {
                        inner.spawn(async {
                            sleep(millis(5)).await;
                            trace.note("task in the shield");
                        });
                        sleep(millis(1)).await;
                    });
                    timeout(LONG, sleep(millis(1))).await.unwrap();
                    trace.note("shield");
                })
                .await;
                trace.note("ran on");
            });
            rounds(2).await;
            assert!(task.cancel().await.is_none());
            trace.note("waited");
        });
    });
    trace.assert(&["task in the shield", "shield", "waited"]);
}

#[test]
fn a_timeout_waits_for_a_shield_inside_and_elapses_all_the_same() {
    let trace = Trace::new();
    run_virtually(async {
        let late = timeout(millis(2), async {
            shield(async {
                sleep(millis(200)).await;
                trace.note("shield");
            })
            .await;
            trace.note("ran on");
        });
        assert!(late.await.is_err());
    });
    trace.assert(&["shield"]);
}

#[test]
fn a_shield_in_a_shield_ends_too() {
    let trace = Trace::new();
    run_virtually(async {
        let work = shield(async {
            shield(sleep(millis(200))).await;
            trace.note("after the inner shield");
        });
        assert!(timeout(millis(1), work).await.is_err());
    });
    trace.assert(&["after the inner shield"]);
}

// Brackets.

#[test]
fn a_bracket_uses_its_resource_releases_it_and_gives_the_value_of_the_usage() {
    let trace = Trace::new();
    let value = run(bracket(
        vec![1],
        async |numbers| {
            yield_now().await;
            numbers.push(2);
            trace.note("used");
            numbers.len()
        },
        async |numbers| {
            yield_now().await;
            trace.note(format!("released {numbers:?}"));
        },
    ));
    assert_eq!(value, 2);
    trace.assert(&["used", "released [1, 2]"]);
}

#[test]
fn an_error_of_the_usage_is_the_bracket_s_value_after_the_release() {
    let trace = Trace::new();
    let result = run(bracket((), async |()| Err::<(), _>("error"), async |()| trace.note("released")));
    assert_eq!(result, Err("error"));
    trace.assert(&["released"]);
}

#[test]
fn a_bracket_that_code_reaches_which_has_cancelled_itself_releases_its_resource_and_uses_it_for_nothing() {
    let (log, own) = (RefCell::new(Vec::new()), RefCell::new(None::<Task<()>>));
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(async {
                drop(own.take().unwrap().cancel());
                // What a closure that is not `async` does at once is usage, too. What it has captured goes before the release.
                let captured = OnDrop(|| log.borrow_mut().push("dropped"));
                let usage = |(): &mut ()| {
                    let _captured = captured;
                    log.borrow_mut().push("used");
                    ready(())
                };
                bracket((), usage, async |()| log.borrow_mut().push("released")).await;
            });
            own.replace(Some(task));
        });
    });
    assert_eq!(log.take(), ["dropped", "released"]);
}

#[test]
fn a_bracket_that_was_never_polled_drops_its_resource_and_releases_nothing() {
    let (trace, drops) = (Trace::new(), DropCount::new());
    run(cancel_before_first_poll(bracket(
        drops.flag(),
        async |_| trace.note("used"),
        async |_| trace.note("released"),
    )));
    trace.assert(&[]);
    assert_eq!(drops.get(), 1);
}

#[test]
fn a_bracket_dropped_by_foreign_code_gets_its_destructors_and_no_release() {
    let (trace, drops) = (Trace::new(), DropCount::new());
    run(drop_half_way(bracket(drops.flag(), async |_| sleep(LONG).await, async |_| trace.note("released"))));
    trace.assert(&[]);
    assert_eq!(drops.get(), 1);
}

#[test]
fn inner_brackets_release_first_each_to_its_end() {
    let trace = Trace::new();
    let release = async |name: &str| {
        sleep(millis(2)).await;
        trace.note(name);
    };
    run_virtually(async {
        let nested = bracket(
            (),
            async |()| {
                bracket((), async |()| sleep(LONG).await, async |()| release("inner").await).await;
                trace.note("ran on");
            },
            async |()| release("outer").await,
        );
        assert!(timeout(millis(1), nested).await.is_err());
    });
    trace.assert(&["inner", "outer"]);
}

#[test]
fn a_bracket_in_the_release_of_a_cancelled_one_is_used_and_released() {
    let trace = Trace::new();
    run_virtually(async {
        let work = bracket(
            (),
            async |()| sleep(LONG).await,
            async |()| {
                bracket((), async |()| trace.note("used"), async |()| trace.note("released")).await;
            },
        );
        assert!(timeout(millis(1), work).await.is_err());
    });
    trace.assert(&["used", "released"]);
}

#[test]
fn a_panic_of_the_usage_goes_on_after_the_release() {
    let trace = Trace::new();
    assert_panics(&["expected"], || {
        run(bracket(
            (),
            async |()| {
                rounds(1).await;
                if true {
                    panic!("expected");
                }
            },
            async |()| {
                sleep(millis(1)).await;
                trace.note("released");
            },
        ));
    });
    trace.assert(&["released"]);
}

#[test]
fn a_panic_of_the_release_is_the_bracket_s_and_the_resource_is_gone() {
    let drops = DropCount::new();
    assert_panics(&["release panics"], || {
        run(bracket(
            drops.flag(),
            async |_| {},
            async |_flag| {
                rounds(1).await;
                panic!("release panics");
            },
        ));
    });
    assert_eq!(drops.get(), 1);
}

#[test]
fn when_usage_and_release_panic_the_first_goes_on_and_the_second_is_reported() {
    let reports = Reports::new();
    assert_panics(&["usage panics"], || {
        run(bracket((), async |()| panic!("usage panics"), async |()| panic!("release panics")));
    });
    reports.assert_one(ReportKind::LaterFailure, &["release panics"]);
}

#[test]
fn a_usage_that_panics_in_its_cancellation_is_followed_by_the_release() {
    let trace = Trace::new();
    assert_panics(&["destructor panics"], || {
        run(async {
            task_group!(|tg| {
                let task = tg.spawn(bracket(
                    (),
                    async |()| {
                        let _bomb = DropBomb("destructor panics");
                        sleep(LONG).await;
                    },
                    async |()| trace.note("released"),
                ));
                rounds(2).await;
                task.cancel().await;
            });
        });
    });
    trace.assert(&["released"]);
}

#[test]
fn a_bracket_cancelled_in_its_release_finishes_it_once() {
    let trace = Trace::new();
    let (began, go_on) = (Promise::new(), Promise::new());
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(async {
                bracket(
                    (),
                    async |()| {},
                    async |()| {
                        trace.note("release begins");
                        began.set(()).unwrap();
                        go_on.wait().await;
                        trace.note("release ends");
                    },
                )
                .await;
                trace.note("ran on");
            });
            began.wait().await;
            let cancelled = task.cancel();
            rounds(3).await;
            go_on.set(()).unwrap();
            assert!(cancelled.await.is_none());
        });
    });
    trace.assert(&["release begins", "release ends"]);
}

#[test]
fn the_losers_of_a_race_release_before_it_returns() {
    let trace = Trace::new();
    run_virtually(async {
        let racer = async |n: u64| {
            bracket(
                (),
                async |()| sleep(if n == 1 { millis(2) } else { LONG }).await,
                async |()| {
                    sleep(millis(2)).await;
                    trace.note("released");
                },
            )
            .await;
            n
        };
        assert_eq!(race((0..3).map(racer)).await, 1);
        trace.note("race over");
    });
    trace.assert(&["released", "released", "released", "race over"]);
}

// Deferred cleanups.

#[test]
fn deferred_cleanups_run_last_in_first_out_after_the_tasks() {
    let trace = Trace::new();
    run_virtually(async {
        task_group!(|tg| {
            for name in ["first", "second", "third"] {
                let trace = &trace;
                tg.defer(async move {
                    sleep(millis(1)).await;
                    trace.note(name);
                });
            }
            tg.spawn(async {
                sleep(millis(2)).await;
                trace.note("task");
            });
            trace.note("body");
        });
        trace.note("block ended");
    });
    trace.assert(&["body", "task", "third", "second", "first", "block ended"]);
}

#[test]
fn a_deferred_cleanup_that_panics_keeps_the_others_from_nothing() {
    let trace = Trace::new();
    assert_panics(&["second panics"], || {
        run(async {
            task_group!(|tg| {
                tg.defer(async { trace.note("first") });
                tg.defer(async {
                    trace.note("second");
                    panic!("second panics");
                });
                tg.defer(async { trace.note("third") });
            });
        });
    });
    trace.assert(&["third", "second", "first"]);
}

#[test]
fn a_deferred_cleanup_begins_when_the_tasks_have_ended_that_the_one_before_has_spawned() {
    let trace = Trace::new();
    run_virtually(async {
        task_group!(|tg| {
            tg.defer(async { trace.note("close the log") });
            tg.defer(async {
                tg.spawn(async {
                    sleep(millis(5)).await;
                    trace.note("write to the log");
                });
            });
        });
    });
    trace.assert(&["write to the log", "close the log"]);
}

#[test]
fn a_grace_counts_from_the_panic_of_a_deferred_cleanup() {
    let (reports, trace) = (Reports::new(), Trace::new());
    assert_panics(&["expected"], || {
        run(async {
            task_group!(grace = millis(5), |tg| {
                tg.defer(async { trace.note("first") });
                tg.defer(pending());
                tg.defer(async { panic!("expected") });
            });
        });
    });
    trace.assert(&[]);
    reports.assert_one(ReportKind::GraceOver, &["a deferred cleanup"]);
}

#[test]
fn a_deferred_cleanup_that_a_grace_cuts_off_before_it_began_is_named() {
    let (reports, trace) = (Reports::new(), Trace::new());
    let line = line!() + 4;
    let late = run(async {
        task_group!(timeout = millis(2), grace = millis(5), name = "late", |tg| {
            // The two that are named.
            tg.defer(async { trace.note("first") });
            tg.defer(async { trace.note("last") });
            tg.spawn(shield(sleep(LONG)));
            sleep(LONG).await;
        })
    });
    assert!(late.is_err());
    trace.assert(&[]);
    let names = [line, line + 1].map(|line| format!("deferred at tests/tests/shield_bracket_defer.rs:{line}"));
    reports.assert_one(
        ReportKind::GraceOver,
        &["a deferred cleanup (not started)", &names[0], &names[1], "cleaning up", "sleep"],
    );
}

#[test]
fn a_second_deferred_panic_is_reported() {
    let reports = Reports::new();
    assert_panics(&["the last registered"], || {
        run(async {
            task_group!(|tg| {
                tg.defer(async { panic!("the first registered") });
                tg.defer(async { panic!("the last registered") });
            });
        });
    });
    reports.assert_one(ReportKind::LaterFailure, &["a deferred cleanup", "the first registered"]);
}

#[test]
fn deferred_cleanups_run_after_a_panic_a_cancellation_and_a_time_limit() {
    let trace = Trace::new();
    assert_panics(&["expected"], || {
        run(async {
            task_group!(|tg| {
                tg.defer(async {
                    sleep(millis(1)).await;
                    trace.note("after a panic");
                });
                if true {
                    panic!("expected");
                }
            });
        });
    });
    run_virtually(async {
        task_group!(|tg| {
            let task = tg.spawn(async {
                task_group!(|inner| {
                    inner.defer(async {
                        sleep(millis(1)).await;
                        trace.note("after a cancellation");
                    });
                    pending::<()>().await;
                });
            });
            rounds(2).await;
            assert!(task.cancel().await.is_none());
        });
        let late = task_group!(timeout = millis(1), |tg| {
            tg.defer(async {
                sleep(millis(1)).await;
                trace.note("after a time limit");
            });
            pending::<()>().await;
        });
        assert!(late.is_err());
    });
    trace.assert(&["after a panic", "after a cancellation", "after a time limit"]);
}

#[test]
fn a_deferred_cleanup_is_not_cut_off_by_a_cancellation_that_comes_while_it_runs() {
    let trace = Trace::new();
    let (began, go_on) = (Promise::new(), Promise::new());
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(async {
                task_group!(|inner| {
                    inner.defer(async { trace.note("second") });
                    inner.defer(async {
                        began.set(()).unwrap();
                        go_on.wait().await;
                        trace.note("first");
                    });
                });
                trace.note("ran on");
            });
            began.wait().await;
            let cancelled = task.cancel();
            rounds(3).await;
            go_on.set(()).unwrap();
            assert!(cancelled.await.is_none());
        });
    });
    trace.assert(&["first", "second"]);
}

#[xiio::test(virtual_time)]
async fn a_deferred_cleanup_goes_on_beside_the_tasks_that_it_spawns() {
    let trace = Trace::new();
    task_group!(|tg| {
        tg.defer(async { trace.note("second") });
        tg.defer(async {
            let helper = tg.spawn(bracket((), async |()| pending::<()>().await, async |()| trace.note("released")));
            tg.spawn(async {
                sleep(millis(20)).await;
                trace.note("spawned");
            });
            sleep(millis(10)).await;
            helper.cancel().await;
            trace.note("first");
        });
    });
    trace.assert(&["released", "first", "spawned", "second"]);
}

#[test]
fn a_deferred_cleanup_does_not_run_on_its_time_limit_of_the_group() {
    let trace = Trace::new();
    run_virtually(async {
        let value = task_group!(timeout = millis(5), |tg| {
            tg.defer(async {
                sleep(millis(15)).await;
                trace.note("deferred");
            });
            7
        });
        assert_eq!(value, Ok(7));
    });
    trace.assert(&["deferred"]);
}

#[test]
fn what_a_deferred_cleanup_has_spawned_does_not_run_on_the_time_limit_of_the_group() {
    let trace = Trace::new();
    run_virtually(async {
        let value = task_group!(timeout = millis(5), |tg| {
            tg.defer(async { trace.note("second") });
            tg.defer(async {
                sleep(millis(15)).await;
                tg.spawn(sleep(millis(15))).await;
                trace.note("first");
            });
            7
        });
        assert_eq!(value, Ok(7));
    });
    trace.assert(&["first", "second"]);
}

#[test]
fn what_a_deferred_cleanup_has_spawned_is_not_cut_off_by_a_cancellation_that_comes_while_it_runs() {
    let trace = Trace::new();
    let (began, go_on) = (Promise::new(), Promise::new());
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(async {
                task_group!(|inner| {
                    inner.defer(async {
                        let helper = inner.spawn(async {
                            began.set(()).unwrap();
                            go_on.wait().await;
                            trace.note("helper");
                        });
                        helper.await;
                        trace.note("cleanup");
                    });
                });
                trace.note("ran on");
            });
            began.wait().await;
            let cancelled = task.cancel();
            rounds(3).await;
            go_on.set(()).unwrap();
            assert!(cancelled.await.is_none());
        });
    });
    trace.assert(&["helper", "cleanup"]);
}

/// Also where the cleanup itself has ended.
#[test]
fn what_a_deferred_cleanup_has_left_behind_is_not_cut_off_by_a_cancellation() {
    let trace = Trace::new();
    run_virtually(async {
        let group = async {
            task_group!(|tg| {
                tg.defer(async {
                    tg.spawn(async {
                        sleep(millis(20)).await;
                        trace.note("flushed");
                    });
                });
            });
        };
        timeout(millis(5), group).await.unwrap_err();
    });
    trace.assert(&["flushed"]);
}

#[test]
fn a_cleanup_that_fails_ends_what_it_has_spawned_whatever_came_before() {
    run_virtually(async {
        let fails = async |pause: u64| {
            sleep(millis(pause)).await;
            panic!("a cleanup");
        };
        let limit_passed = async {
            let _ = task_group!(timeout = millis(5), |tg| {
                tg.defer(async {
                    tg.spawn(pending::<()>());
                    fails(0).await;
                });
                sleep(LONG).await;
            });
        };
        let two_fail = async {
            task_group!(|tg| {
                for _ in 0..2 {
                    tg.defer(async {
                        tg.spawn(pending::<()>());
                        fails(0).await;
                    });
                }
            });
        };
        let was_cancelled = async {
            let group = async {
                task_group!(|tg| {
                    tg.defer(async {
                        tg.spawn(pending::<()>());
                        fails(10).await;
                    });
                });
            };
            let _ = timeout(millis(5), group).await;
        };
        let texts = [
            xiio::catch_panic(limit_passed).await.unwrap_err().to_string(),
            xiio::catch_panic(two_fail).await.unwrap_err().to_string(),
            xiio::catch_panic(was_cancelled).await.unwrap_err().to_string(),
        ];
        assert!(texts.iter().all(|text| text.contains("a cleanup")), "{texts:?}");
    });
}

/// What another cleanup has spawned is not that of the one that has failed.
#[test]
fn a_cleanup_that_fails_ends_nothing_of_the_next_one() {
    let trace = Trace::new();
    let text = panic_text(|| {
        run_virtually(async {
            let _ = task_group!(timeout = millis(5), |tg| {
                tg.defer(async {
                    tg.spawn(async {
                        sleep(millis(20)).await;
                        trace.note("flushed");
                    })
                    .await;
                });
                tg.defer(async {
                    tg.spawn(async {
                        let _bomb = DropBomb("a bomb");
                        pending::<()>().await;
                    });
                    yield_now().await;
                    panic!("a cleanup");
                });
                sleep(LONG).await;
            });
        });
    });
    assert!(text.contains("a cleanup"), "{text}");
    trace.assert(&["flushed"]);
}

#[test]
fn the_grace_cuts_off_what_a_deferred_cleanup_has_spawned() {
    let (reports, trace) = (Reports::new(), Trace::new());
    run_virtually(async {
        task_group!(|tg| {
            let task = tg.spawn(async {
                task_group!(grace = millis(20), |inner| {
                    inner.defer(async {
                        let _dropped = trace.on_drop("cleanup");
                        inner.spawn(async {
                            let _dropped = trace.on_drop("helper");
                            sleep(LONG).await;
                        });
                        sleep(LONG).await;
                    });
                });
            });
            sleep(millis(5)).await;
            let start = now();
            assert!(task.cancel().await.is_none());
            assert_eq!(now() - start, millis(20));
        });
    });
    trace.assert(&["cleanup", "helper"]);
    reports.assert_one(ReportKind::GraceOver, &["deferred", "task"]);
}

// Grace.

#[test]
fn when_the_grace_is_over_the_rest_is_dropped_and_named() {
    let (trace, drops) = (Trace::new(), DropCount::new());
    let reports = Reports::new();
    let line = line!() + 5;
    run_virtually(async {
        let late = task_group!(name = "slow", timeout = millis(2), grace = millis(10), |tg| {
            let flag = drops.flag();
            // The one that is named.
            tg.spawn(async {
                let _flag = flag;
                bracket(
                    (),
                    async |()| sleep(LONG).await,
                    async |()| {
                        trace.note("release begins");
                        sleep(LONG).await;
                        trace.note("release ends");
                    },
                )
                .await;
            });
            tg.spawn(bracket((), async |()| sleep(LONG).await, async |()| trace.note("another released")));
        });
        assert!(late.is_err());
    });
    trace.assert(&["release begins", "another released"]);
    assert_eq!(drops.get(), 1);
    let name = format!("shield_bracket_defer.rs:{line}");
    reports.assert_one(ReportKind::GraceOver, &["grace of group `slow` is over", "cleaning up", &name, "sleep"]);
    let another = format!("shield_bracket_defer.rs:{}", line + 13);
    assert!(!reports.texts()[0].contains(&another), "the other one has cleaned up");
}

#[test]
fn a_grace_that_is_long_enough_drops_nothing() {
    let trace = Trace::new();
    let reports = Reports::new();
    run_virtually(async {
        task_group!(grace = LONG, |tg| {
            tg.spawn(bracket(
                (),
                async |()| sleep(LONG).await,
                async |()| {
                    sleep(millis(2)).await;
                    trace.note("released");
                },
            ));
            rounds(1).await;
            tg.cancel();
        });
    });
    trace.assert(&["released"]);
    reports.assert_none();
}

#[test]
fn a_grace_drops_a_body_a_shield_and_a_deferred_cleanup_too() {
    let drops = DropCount::new();
    let reports = Reports::new();
    run_virtually(async {
        for stuck in 0..3 {
            let flag = drops.flag();
            let late = task_group!(timeout = millis(2), grace = millis(5), |tg| {
                let endless = async move {
                    flag.touch();
                    pending::<()>().await;
                };
                match stuck {
                    0 => shield(endless).await,
                    1 => drop(tg.spawn(shield(endless))),
                    _ => tg.defer(endless),
                }
                pending::<()>().await;
            });
            assert!(late.is_err());
            assert_eq!(drops.get(), stuck + 1);
        }
    });
    assert_eq!(reports.kinds(), [ReportKind::GraceOver; 3]);
}

#[xiio::test(virtual_time)]
async fn a_grace_bounds_what_a_group_or_a_handle_cancels_and_nothing_else() {
    let (reports, n_drops, start) = (Reports::new(), DropCount::new(), now());
    task_group!(name = "short", grace = millis(5), |tg| {
        let flag = n_drops.flag();
        let stuck = |flag: DropFlag| async move {
            flag.touch();
            shield(pending::<()>()).await;
        };
        let lives_on = tg.spawn(sleep(millis(20)));
        let task = tg.spawn(stuck(flag));
        yield_now().await;
        assert!(task.cancel().await.is_none());
        assert_eq!((n_drops.get(), now() - start), (1, millis(5)));
        lives_on.await;
        assert_eq!(now() - start, millis(20));
        tg.spawn(stuck(n_drops.flag()));
        tg.spawn(shield(sleep(millis(4))));
        yield_now().await;
        tg.cancel();
    });
    assert_eq!((n_drops.get(), now() - start), (2, millis(25)));
    assert_eq!(reports.kinds(), [ReportKind::GraceOver; 2]);
    for text in reports.texts() {
        assert!(
            text.contains("the grace of group `short` is over") && text.contains("task (cleaning up for "),
            "{text}"
        );
        assert_eq!(text.matches("task (").count(), 1, "{text}");
    }
}

#[xiio::test(virtual_time)]
async fn each_task_that_is_cancelled_by_itself_has_the_whole_grace() {
    let (reports, trace, start) = (Reports::new(), Trace::new(), now());
    let cleanup = async |millis_needed, name: &str| {
        shield(sleep(millis(millis_needed))).await;
        trace.note(format!("{name} ran on"));
    };
    task_group!(grace = millis(10), |tg| {
        let tasks =
            [(1000, "stuck"), (8, "first"), (14, "second")].map(|(needed, name)| tg.spawn(cleanup(needed, name)));
        yield_now().await;
        let [stuck, first, second] = tasks;
        let at_end = async |cancel: CancelTask<()>, name: &str| {
            cancel.await;
            trace.note(format!("{name} {}", (now() - start).as_millis()));
        };
        join!(at_end(stuck.cancel(), "stuck"), at_end(first.cancel(), "first"), async {
            sleep(millis(6)).await;
            at_end(second.cancel(), "second").await;
        });
    });
    trace.assert(&["first 8", "stuck 10", "second 14"]);
    assert_eq!(reports.kinds(), [ReportKind::GraceOver]);
}

#[xiio::test(virtual_time)]
async fn a_task_that_is_cancelled_by_who_takes_the_place_of_one_that_was_cut_off_has_its_grace() {
    let (reports, start) = (Reports::new(), now());
    let in_time = timeout(LONG, async {
        task_group!(grace = millis(5), limit = 2, |tg| {
            let [first, second] = [(); 2].map(|()| tg.spawn(shield(pending::<()>())));
            tg.spawn(async move { drop(second.cancel()) });
            yield_now().await;
            drop(first.cancel());
        });
    });
    assert_eq!((in_time.await, now() - start), (Ok(()), millis(10)));
    assert_eq!(reports.kinds(), [ReportKind::GraceOver; 2]);
}

#[xiio::test(virtual_time)]
async fn a_group_that_fails_without_any_grace_is_reported_as_a_whole() {
    let reports = Reports::new();
    let fail = async || -> Result<(), &str> {
        try_task_group!(grace = Duration::ZERO, |tg| {
            for _ in 0..2 {
                tg.spawn(shield(pending::<Result<(), _>>()));
            }
            yield_now().await;
            tg.spawn(async { Err::<(), _>("failed") });
            shield(pending::<()>()).await;
        })
    };
    assert_eq!(fail().await, Err("failed"));
    assert_eq!(reports.kinds(), [ReportKind::GraceOver]);
    assert_eq!(reports.texts()[0].matches("task (cleaning up for ").count(), 2, "{:?}", reports.texts());
}

#[xiio::test(virtual_time)]
async fn a_task_that_ends_when_its_grace_is_over_is_not_reported_as_cut_off() {
    let reports = Reports::new();
    let (is_over, n_released) = (Cell::new(false), Cell::new(0));
    task_group!(grace = millis(5), |tg| {
        let release = async |()| {
            // Nobody is woken for it: the last look at the task finds it.
            poll_fn(|_| if is_over.get() { Poll::Ready(()) } else { Poll::Pending }).await;
            n_released.set(n_released.get() + 1);
        };
        let task = tg.spawn(bracket((), async |()| pending::<()>().await, release));
        yield_now().await;
        let cancelled = task.cancel();
        rounds(3).await;
        is_over.set(true);
        assert!(cancelled.await.is_none());
    });
    assert_eq!(n_released.get(), 1);
    reports.assert_none();
}

#[xiio::test(virtual_time)]
async fn tasks_that_are_cut_off_at_once_are_named_in_one_report() {
    let reports = Reports::new();
    task_group!(grace = millis(5), |tg| {
        for _ in 0..3 {
            tg.spawn(shield(pending::<()>()));
        }
        yield_now().await;
        tg.cancel();
    });
    assert_eq!(reports.kinds(), [ReportKind::GraceOver]);
    assert_eq!(reports.texts()[0].matches("task (cleaning up for ").count(), 3);
}

#[xiio::test(virtual_time)]
async fn a_grace_longer_than_the_clock_s_range_is_none() {
    let reports = Reports::new();
    let start = now();
    task_group!(grace = Duration::MAX, |tg| {
        tg.spawn(shield(sleep(LONG)));
        yield_now().await;
        tg.cancel();
    });
    assert_eq!(now() - start, LONG);
    reports.assert_none();
}

#[test]
fn a_grace_in_an_inner_group_bounds_the_cancellation_of_the_outer_task() {
    let trace = Trace::new();
    let reports = Reports::new();
    run_virtually(async {
        task_group!(|tg| {
            let task = tg.spawn(async {
                task_group!(grace = millis(5), |inner| {
                    inner.spawn(shield(pending::<()>()));
                });
                trace.note("ran on");
            });
            rounds(2).await;
            assert!(task.cancel().await.is_none());
            trace.note("over");
        });
    });
    trace.assert(&["over"]);
    assert_eq!(reports.kinds(), [ReportKind::GraceOver]);
}

#[test]
fn a_cleanup_started_under_branch_is_reached_through_it() {
    let trace = Trace::new();
    run_virtually(async {
        let mut work = pin!(branch(bracket((), async |()| sleep(LONG).await, async |()| trace.note("released"))));
        assert!(timeout(millis(1), work.as_mut()).await.is_err());
    });
    trace.assert(&["released"]);
}

#[test]
fn a_bracket_s_usage_may_end_in_the_round_of_its_cancellation() {
    let trace = Trace::new();
    let is_over = Cell::new(false);
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(bracket(
                (),
                async |()| {
                    poll_fn(|_| if is_over.get() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending })
                        .await;
                },
                async |()| trace.note("released"),
            ));
            rounds(2).await;
            is_over.set(true);
            // Its usage holds nothing and is dropped before it could find out.
            assert!(task.cancel().await.is_none());
        });
    });
    trace.assert(&["released"]);
}

#[test]
fn what_a_release_spawns_is_not_cancelled_by_the_failure_that_it_cleans_up_after() {
    type BoxError = Box<dyn std::error::Error + Send + Sync>;

    fn fails() -> Result<(), BoxError> {
        Err("error".into())
    }

    fn panics() -> Result<(), BoxError> {
        panic!("expected")
    }

    /// A group of which `$fail` ends, while a bracket is held whose release has another task help, and awaits it.
    macro_rules! ended_by {
        ($($option:ident $(= $value:expr)?,)* |$tg:ident| $fail:expr) => {{
            let trace = Trace::new();
            let _ = catch_unwind(AssertUnwindSafe(|| {
                run_virtually(async {
                    let _: Result<(), _> = try_task_group!(error = BoxError, $($option $(= $value)?,)* |$tg| {
                        $tg.spawn(async {
                            let helper = async {
                                sleep(millis(20)).await;
                                trace.note("helped");
                                Ok(())
                            };
                            bracket((), async |()| sleep(LONG).await, async |()| $tg.spawn(helper).await).await;
                            trace.note("ran on");
                            Ok(())
                        });
                        rounds(2).await;
                        $fail;
                        sleep(LONG).await;
                    });
                });
            }));
            assert_eq!(trace.take(), ["helped"], "{}", stringify!($($option $(= $value)?,)* $fail));
        }};
    }
    ended_by!(|tg| tg.spawn(async { fails() }));
    ended_by!(|tg| tg.spawn(async { panics() }));
    ended_by!(|tg| fails()?);
    ended_by!(|tg| panics()?);
    ended_by!(timeout = millis(1), |tg| yield_now().await);
    ended_by!(all_errors, |tg| tg.spawn(async { fails() }));
    ended_by!(all_errors, |tg| fails()?);
    ended_by!(workers = 0, |tg| tg.workers().spawn(async || fails()));
}

#[test]
fn a_cancellation_in_a_last_round_is_the_only_one() {
    let trace = Trace::new();
    let failed = run(async {
        try_task_group!(all_errors, error = &str, |tg| {
            tg.spawn(async {
                let helper = async {
                    sleep(millis(5)).await;
                    trace.note("helped");
                    Ok(())
                };
                bracket((), async |()| pending::<()>().await, async |()| tg.spawn(helper).await).await;
                Ok(())
            });
            yield_now().await;
            tg.spawn(async { Err::<(), _>("expected") });
            tg.spawn(async {
                tg.cancel();
                Ok(())
            });
            pending::<()>().await;
        })
    });
    trace.assert(&["helped"]);
    assert!(failed.is_err_and(|error| error.others().is_empty()));
}

#[test]
fn a_grace_that_ends_where_code_has_just_cancelled_itself_does_not_let_it_run_on() {
    for grace in [Duration::ZERO, millis(5)] {
        let (trace, canceller) = (Trace::new(), OnceCell::<Canceller>::new());
        run(async {
            task_group!(|tg| {
                let task = tg.spawn(async {
                    let over = task_group!(timeout = millis(1), grace = grace, |inner| {
                        let cleanup = async |()| {
                            std::thread::sleep(millis(20));
                            canceller.get().unwrap().cancel();
                            sleep(millis(1)).await;
                        };
                        inner.spawn(bracket((), async |()| pending::<()>().await, cleanup));
                        pending::<()>().await;
                    });
                    trace.note(format!("ran on: {over:?}"));
                });
                canceller.set(task.canceller()).unwrap();
            });
        });
        trace.assert(&[]);
    }
}
