//! A bracket, a shield or a group that is started and then dropped half-way: the cleanup that is lost is reported, once, and
//! nothing is where there was none.

use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use futures::channel::oneshot;
use futures::future::{FutureExt, LocalBoxFuture, join_all, select};
use xiio::inspect::ReportKind;
use xiio::testing::cancel_everywhere;
use xiio::{bracket, branch, catch_panic, gather, join, race, shield, sleep, task_group, timeout, yield_now};
use xiio_tests::{LONG, Reports, Trace, assert_panics, millis, panic_text, poll_once, rounds, run, run_virtually};

/// Polls a future once, and has foreign code drop it.
async fn start_and_drop(future: impl Future) {
    let mut future = Box::pin(future);
    assert!(poll_once(future.as_mut()).await.is_pending());
}

async fn held() {
    bracket((), async |()| pending::<()>().await, async |()| ()).await;
}

#[track_caller]
fn assert_one_at(reports: &Reports, what: &str, line: u32, why: &str) {
    let place = format!("tests/tests/cleanup_skipped.rs:{line}");
    reports.assert_one(ReportKind::CleanupSkipped, &[what, &place, "did not run to its end", why]);
}

#[test]
fn a_bracket_that_loses_a_foreign_select_is_reported_with_its_place() {
    let reports = Reports::new();
    let line = line!() + 2;
    run_virtually(async {
        let work = bracket((), async |()| sleep(LONG).await, async |()| ());
        drop(select(work.boxed_local(), sleep(millis(2)).boxed_local()).await);
    });
    assert_one_at(&reports, "a `bracket`", line, "by other code than xiio's");
}

#[test]
fn a_bracket_that_is_dropped_while_it_releases_is_reported() {
    let reports = Reports::new();
    let line = line!() + 1;
    run(start_and_drop(bracket((), async |()| (), async |()| pending().await)));
    assert_one_at(&reports, "a `bracket`", line, "other code");
    let reports = Reports::new();
    let line = line!() + 1;
    let cleaning = bracket((), async |()| pending::<()>().await, async |()| pending().await);
    let slot = RefCell::new(Some(Box::pin(cleaning)));
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(poll_fn(|cx| {
                slot.borrow_mut().as_mut().map_or(Poll::Ready(()), |cleaning| cleaning.poll_unpin(cx))
            }));
            yield_now().await;
            let cancelled = task.cancel();
            rounds(2).await;
            drop(slot.take());
            cancelled.await;
        });
    });
    assert_one_at(&reports, "a `bracket`", line, "other code");
}

#[test]
fn a_shield_that_is_dropped_half_way_is_reported() {
    let reports = Reports::new();
    let line = line!() + 1;
    run(start_and_drop(shield(sleep(LONG))));
    assert_one_at(&reports, "a `shield`", line, "other code");
}

#[test]
fn the_cleanups_of_a_group_that_is_dropped_half_way_are_reported_each() {
    let reports = Reports::new();
    let line = line!() + 3;
    run(start_and_drop(async {
        task_group!(|tg| {
            tg.defer(async {});
            tg.defer(async {});
            tg.spawn(async { shield(sleep(LONG)).await });
            tg.spawn(sleep(LONG));
            sleep(LONG).await;
        });
    }));
    // The shield was not started.
    assert_eq!(reports.kinds(), [ReportKind::CleanupSkipped; 3], "{:?}", reports.texts());
    for (text, line) in reports.texts().iter().zip([line + 2, line + 1, line]) {
        assert!(text.contains(&format!("cleanup_skipped.rs:{line}")), "{text}");
    }
}

#[test]
fn a_deferred_cleanup_that_is_dropped_while_it_runs_is_reported() {
    let reports = Reports::new();
    let line = line!() + 1;
    run(start_and_drop(async { task_group!(|tg| { tg.defer(pending()) }) }));
    assert_one_at(&reports, "a deferred cleanup", line, "other code");
}

#[test]
fn what_holds_nothing_of_its_own_is_not_reported_beside_what_it_holds() {
    let reports = Reports::new();
    run(start_and_drop(timeout(LONG, branch(gather([catch_panic(held())])))));
    reports.assert_one(ReportKind::CleanupSkipped, &["a `bracket`"]);
}

#[test]
fn what_has_nothing_to_clean_up_is_dropped_without_a_word() {
    let reports = Reports::new();
    run(async {
        // Never polled, at its end, or a panic of its own.
        drop((held(), shield(pending::<()>())));
        shield(rounds(2)).await;
        bracket((), async |()| rounds(2).await, async |()| rounds(2).await).await;
        start_and_drop(timeout(LONG, async { task_group!(|tg| { tg.spawn(sleep(LONG)) }).await })).await;
        start_and_drop(async { join!(sleep(LONG), pending::<()>()) }).await;
    });
    assert_panics(&["expected"], || {
        run(shield(async {
            rounds(2).await;
            panic!("expected");
        }))
    });
    assert_panics(&["expected"], || {
        run(bracket(
            (),
            async |()| rounds(1).await,
            async |()| {
                rounds(2).await;
                panic!("expected");
            },
        ));
    });
    assert_panics(&["expected"], || {
        run(async {
            task_group!(|tg| {
                tg.defer(async {
                    rounds(2).await;
                    panic!("expected");
                });
            });
        });
    });
    reports.assert_none();
}

#[test]
fn what_xiio_drops_has_cleaned_up_and_is_not_reported() {
    let (reports, trace) = (Reports::new(), Trace::new());
    run_virtually(async {
        let held = || bracket((), async |()| pending::<()>().await, async |()| trace.note("released"));
        assert!(timeout(millis(1), held()).await.is_err());
        race!(held(), yield_now());
        task_group!(|tg| {
            tg.spawn(held());
            let task = tg.spawn(held());
            rounds(2).await;
            task.cancel().await;
            tg.cancel();
        });
    });
    trace.assert(&["released"; 4]);
    reports.assert_none();
}

#[test]
fn what_a_panic_drops_is_reported_as_such() {
    for drops_later in [false, true] {
        let reports = Reports::new();
        let text = panic_text(|| {
            run(async {
                let both = futures::future::join(held(), async {
                    rounds(1).await;
                    panic!("expected");
                });
                // The unwinding drops what is in an `async` block; who has caught it drops the others.
                task_group!(|tg| {
                    if drops_later {
                        tg.spawn(both);
                    } else {
                        tg.spawn(async {
                            let _ = both.await;
                        });
                    }
                });
            });
        });
        assert_eq!(text, "expected");
        reports.assert_one(ReportKind::CleanupSkipped, &["a `bracket`", "a panic"]);
    }
}

/// Whoever is around drops it as well, and has not panicked.
#[test]
fn what_a_panic_in_a_cleanup_drops_is_reported_as_such() {
    // Not in an `async` block, which would drop it in the unwinding of the panic.
    let beside_a_release = || {
        let (begun, is_begun) = oneshot::channel();
        let release = async |()| {
            begun.send(()).unwrap();
            pending::<()>().await;
        };
        let panics = is_begun.map(|_| panic!("expected"));
        join_all([bracket((), async |()| pending::<()>().await, release).boxed_local(), panics.boxed_local()])
    };
    let panics_late = async {
        sleep(millis(5)).await;
        panic!("expected");
    };
    let assert_reported = |scene: LocalBoxFuture<'_, ()>| {
        let reports = Reports::new();
        assert_eq!(panic_text(|| run(timeout(millis(1), scene))), "expected");
        reports.assert_one(ReportKind::CleanupSkipped, &["a `bracket`", "after a panic beside it"]);
    };
    assert_reported(timeout(LONG, beside_a_release()).map(drop).boxed_local());
    assert_reported(branch(beside_a_release()).map(drop).boxed_local());
    assert_reported(shield(join_all([held().boxed_local(), panics_late.boxed_local()])).map(drop).boxed_local());
}

#[test]
fn what_the_end_of_a_run_drops_is_reported_as_such() {
    let reports = Reports::new();
    let root = futures::future::join(held(), async {
        rounds(1).await;
        panic!("expected");
    });
    assert_panics(&["expected"], || run(root));
    reports.assert_one(ReportKind::CleanupSkipped, &["a `bracket`", "the end of its run"]);
}

#[test]
fn what_a_grace_cuts_off_is_in_its_report_and_nowhere_else() {
    let reports = Reports::new();
    let late = run(async {
        task_group!(timeout = millis(2), grace = millis(5), |tg| {
            tg.defer(async {});
            tg.spawn(shield(sleep(LONG)));
            tg.spawn(bracket((), async |()| sleep(LONG).await, async |()| sleep(LONG).await));
            shield(pending::<()>()).await;
        })
    });
    assert!(late.is_err());
    run_virtually(async {
        task_group!(grace = millis(5), |tg| {
            let task = tg.spawn(shield(sleep(LONG)));
            rounds(2).await;
            task.cancel().await;
        });
    });
    assert_eq!(reports.kinds(), [ReportKind::GraceOver; 2], "{:?}", reports.texts());
}

#[test]
fn the_report_of_a_grace_tells_brackets_and_shields_of_one_task_apart() {
    let reports = Reports::new();
    let first = line!() + 4;
    let late = run(async {
        task_group!(timeout = millis(2), grace = millis(5), |tg| {
            tg.spawn(async {
                let one = bracket((), async |()| sleep(LONG).await, async |()| sleep(LONG).await);
                let other = bracket((), async |()| sleep(LONG).await, async |()| sleep(LONG).await);
                futures::join!(one, other, shield(sleep(LONG)));
            });
        })
    });
    assert!(late.is_err());
    let drawn = |what, line| format!("\n    {what} (cleaning up), made at tests/tests/cleanup_skipped.rs:{line}\n");
    let [one, other] = [first, first + 1].map(|line| drawn("bracket", line));
    reports.assert_one(ReportKind::GraceOver, &[&one, &other, &drawn("shield", first + 2)]);
}

#[test]
fn what_could_not_be_reached_is_not_reported_twice() {
    let reports = Reports::new();
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(async {
                let mut kept = Box::pin(held());
                let _ = poll_once(kept.as_mut()).await;
                pending::<()>().await;
            });
            rounds(2).await;
            task.cancel().await;
        });
    });
    assert_eq!(reports.kinds(), [ReportKind::Unreachable], "{:?}", reports.texts());
}

#[test]
fn what_is_leaked_is_silent() {
    let reports = Reports::new();
    run(async {
        let mut leaked: Pin<Box<_>> = Box::pin(held());
        let _ = poll_once(leaked.as_mut()).await;
        std::mem::forget(leaked);
    });
    reports.assert_none();
}

#[test]
fn a_skipped_cleanup_fails_a_test_that_cancels_everywhere() {
    let work = || async {
        drop(select(held().boxed_local(), yield_now().boxed_local()).await);
    };
    assert_panics(&["a `bracket`", "did not run to its end"], || cancel_everywhere(work));
}
