//! Failures that come when the group has one already, and failures of what was cancelled: none is lost.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt;
use futures::future::Either;
use xiio::inspect::{Listening, ReportKind, listen};
use xiio::thread::ThreadPool;
use xiio::{
    GroupError, Outputs, Promise, as_completed, bracket, branch, catch_panic, gather, in_thread, join, parallel_map,
    race, run_in_thread, shield, sleep, task_group, timeout, try_gather, try_task_group, yield_now,
};
use xiio_tests::{LONG, Reports, millis, panic_text, poll, rounds, run, run_virtually};

/// More than any test here should take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits, and panics with `text` when it is cancelled.
async fn panics_in_cleanup(text: &'static str) {
    bracket((), async |()| pending::<()>().await, async |()| panic!("{text}")).await;
}

async fn fails_in_cleanup(text: &'static str) -> Result<(), &'static str> {
    panics_in_cleanup(text).await;
    Ok(())
}

fn texts<E: std::fmt::Display>(error: GroupError<E>) -> Vec<String> {
    error.into_failures().map(|failure| failure.to_string()).collect()
}

// One rule for a panic in a cleanup: it is thrown when all have ended, whoever has cancelled.

/// Asserts that `scene` panics with what its cleanup says, and that this is all.
#[track_caller]
fn assert_thrown<F: Future>(scene: impl FnOnce() -> F) {
    let reports = Reports::new();
    assert_eq!(panic_text(|| run_virtually(async { drop(scene().await) })), "cleanup");
    reports.assert_none();
}

#[test]
fn a_panic_in_a_cleanup_is_thrown_by_a_timeout() {
    assert_thrown(|| timeout(millis(2), panics_in_cleanup("cleanup")));
}

#[test]
fn a_panic_in_a_cleanup_is_thrown_through_a_join_and_a_timeout() {
    assert_thrown(|| timeout(millis(2), async { join!(panics_in_cleanup("cleanup"), pending::<()>()) }));
}

#[test]
fn a_panic_in_a_cleanup_is_thrown_through_a_gather() {
    assert_thrown(|| timeout(millis(2), gather([panics_in_cleanup("cleanup")])));
}

#[test]
fn a_panic_in_a_cleanup_is_thrown_through_as_completed() {
    let futures = || as_completed([panics_in_cleanup("cleanup")]);
    assert_thrown(|| timeout(millis(2), futures().consume(async |outputs| outputs.next().await)));
    // Cancelled by the end of the consumer.
    assert_thrown(|| futures().consume(async |_| yield_now().await));
}

#[test]
fn a_panic_in_a_cleanup_is_thrown_by_a_race() {
    assert_thrown(|| async { race!(panics_in_cleanup("cleanup"), sleep(millis(1))) });
}

#[test]
fn a_panic_in_a_cleanup_is_thrown_through_the_tasks_of_a_cancelled_group() {
    assert_thrown(|| {
        timeout(millis(2), async {
            task_group!(|tg| {
                tg.spawn(panics_in_cleanup("cleanup"));
            });
        })
    });
}

#[test]
fn a_panic_in_a_cleanup_is_thrown_through_the_body_of_a_cancelled_group() {
    assert_thrown(|| timeout(millis(2), async { task_group!(|tg| { panics_in_cleanup("cleanup").await }) }));
}

#[test]
fn a_panic_in_a_deferred_cleanup_is_thrown_through_a_cancelled_group() {
    assert_thrown(|| {
        timeout(millis(2), async {
            task_group!(|tg| {
                tg.defer(async { panic!("cleanup") });
                pending::<()>().await;
            });
        })
    });
}

#[test]
fn a_panic_in_a_cleanup_is_thrown_by_a_group_whose_time_is_over() {
    assert_thrown(|| async { task_group!(timeout = millis(2), |tg| { tg.spawn(panics_in_cleanup("cleanup")) }) });
    let in_body = async || task_group!(timeout = millis(2), |tg| { panics_in_cleanup("cleanup").await });
    assert_thrown(in_body);
}

#[test]
fn a_panic_in_a_cleanup_is_thrown_by_who_cancels_a_task() {
    assert_thrown(|| async {
        task_group!(|tg| {
            let task = tg.spawn(panics_in_cleanup("cleanup"));
            yield_now().await;
            task.cancel().await;
        });
    });
}

#[test]
fn a_panic_in_a_cleanup_is_thrown_through_a_shield_and_a_bracket() {
    assert_thrown(|| timeout(millis(2), shield(timeout(millis(5), panics_in_cleanup("cleanup")))));
    let nested = bracket((), async |()| panics_in_cleanup("cleanup").await, async |()| yield_now().await);
    assert_thrown(|| timeout(millis(2), nested));
}

#[test]
fn a_panic_in_the_cleanup_of_a_task_that_ends_by_itself_meanwhile_is_thrown() {
    assert_thrown(|| async {
        task_group!(|tg| {
            let task = tg.spawn(async {
                // It does not wait for any of xiio's futures, so it ends in the pass that cleans up.
                let mut cleanup = Box::pin(panics_in_cleanup("cleanup"));
                let mut n_polls = 0;
                std::future::poll_fn(|cx| {
                    let _ = cleanup.poll_unpin(cx);
                    n_polls += 1;
                    if n_polls < 2 { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
                })
                .await;
            });
            yield_now().await;
            task.cancel().await;
        });
    });
}

#[test]
fn a_panic_in_a_cleanup_is_thrown_in_place_of_an_error_which_is_reported() {
    let reports = Reports::new();
    let text = panic_text(|| {
        run(async {
            let _: Result<(), &str> = try_task_group!(error = &str, |tg| {
                tg.spawn(fails_in_cleanup("cleanup"));
                tg.spawn(async {
                    yield_now().await;
                    Err::<(), _>("error")
                });
            });
        });
    });
    assert_eq!(text, "cleanup");
    reports.assert_one(ReportKind::LaterFailure, &["a task", "later_failures.rs", "failed as well"]);
}

#[test]
fn a_panic_in_a_cleanup_is_thrown_in_place_of_what_a_question_mark_carries() {
    let reports = Reports::new();
    let fails = async || -> Result<(), &'static str> {
        task_group!(|tg| {
            tg.spawn(panics_in_cleanup("cleanup"));
            yield_now().await;
            Err("error")?;
        });
        Ok(())
    };
    assert_eq!(panic_text(|| run(fails())), "cleanup");
    reports.assert_one(ReportKind::LaterFailure, &["the body", "failed as well"]);
}

#[test]
fn of_two_panics_the_first_is_thrown_and_the_other_reported() {
    let reports = Reports::new();
    let text = panic_text(|| {
        run(async {
            task_group!(|tg| {
                tg.spawn(panics_in_cleanup("cleanup"));
                tg.spawn(async {
                    yield_now().await;
                    panic!("first")
                });
            });
        });
    });
    assert_eq!(text, "first");
    reports.assert_one(ReportKind::LaterFailure, &["panicked as well: cleanup"]);
}

// Groups whose parent is cancelled.

#[test]
fn a_cancelled_group_throws_the_first_panic_and_reports_the_others_with_all_errors_or_without() {
    for keeps_all in [false, true] {
        let reports = Reports::new();
        let text = panic_text(|| {
            run_virtually(async {
                let group = async {
                    if keeps_all {
                        let _: Result<(), GroupError<&str>> = try_task_group!(all_errors, error = &str, |tg| {
                            for text in ["one", "two", "three"] {
                                tg.spawn(fails_in_cleanup(text));
                            }
                        });
                    } else {
                        let _: Result<(), &str> = try_task_group!(error = &str, |tg| {
                            for text in ["one", "two", "three"] {
                                tg.spawn(fails_in_cleanup(text));
                            }
                        });
                    }
                };
                assert!(timeout(millis(2), group).await.is_ok(), "it panics");
            });
        });
        assert_eq!(text, "one");
        assert_eq!(reports.kinds(), [ReportKind::LaterFailure; 2], "{:?}", reports.texts());
        for (text, word) in reports.texts().iter().zip(["two", "three"]) {
            assert!(text.contains(word) && text.contains("later_failures.rs"), "{text}");
        }
    }
}

#[test]
fn what_a_group_had_failed_with_before_its_parent_was_cancelled_is_reported() {
    let reports = Reports::new();
    let fails = async {
        let _: Result<(), GroupError<&str>> = try_task_group!(all_errors, error = &str, |tg| {
            tg.spawn(async {
                shield(sleep(millis(20))).await;
                Ok(())
            });
            tg.spawn(async { Err::<(), _>("one") });
            tg.spawn(async { Err::<(), _>("two") });
        });
    };
    run_virtually(async { assert!(timeout(millis(2), fails).await.is_err()) });
    assert_eq!(reports.kinds(), [ReportKind::LaterFailure; 2], "{:?}", reports.texts());
}

#[test]
fn a_race_that_is_cancelled_after_it_was_won_has_not_failed() {
    let reports = Reports::new();
    run_virtually(async {
        let won = async { race!(shield(sleep(millis(20))), sleep(millis(1))) };
        assert!(timeout(millis(2), won).await.is_err());
    });
    reports.assert_none();
}

// All errors.

#[test]
fn tasks_that_are_ready_come_to_their_errors_whoever_has_failed() {
    let of_a_sibling = run(async {
        try_task_group!(all_errors, error = &str, |tg| {
            tg.spawn(async { Err::<(), _>("sibling") });
            tg.spawn(async { Err::<(), _>("ready") });
        })
    });
    assert_eq!(texts(of_a_sibling.unwrap_err()), ["sibling", "ready"]);
    let of_the_body = async || -> Result<(), GroupError<&str>> {
        try_task_group!(all_errors, error = &str, |tg| {
            tg.spawn(async { Err::<(), _>("ready") });
            Err("body")?;
        })
    };
    assert_eq!(texts(run(of_the_body()).unwrap_err()), ["body", "ready"]);
    let of_a_started_body = async || -> Result<(), GroupError<&str>> {
        try_task_group!(all_errors, error = &str, |tg| {
            tg.spawn(async {
                yield_now().await;
                Err::<(), _>("ready")
            });
            tg.spawn(async {
                sleep(LONG).await;
                Ok(())
            });
            yield_now().await;
            Err("body")?;
        })
    };
    assert_eq!(texts(run(of_a_started_body()).unwrap_err()), ["body", "ready"]);
    let of_a_panic = async || -> Result<(), GroupError<&str>> {
        try_task_group!(all_errors, error = &str, |tg| {
            tg.spawn(async { Err::<(), _>("ready") });
            panic!("body");
        })
    };
    assert_eq!(texts(run(of_a_panic()).unwrap_err()), ["panicked: body", "ready"]);
}

#[test]
fn jobs_that_wait_for_home_come_to_their_failures_whoever_has_failed() {
    let of_the_body = async || -> Result<(), GroupError<&str>> {
        try_task_group!(workers = 0, all_errors, error = &str, |tg| {
            tg.workers().spawn(async || Err::<(), _>("ready"));
            Err("body")?;
        })
    };
    let of_a_panic = async || -> Result<(), GroupError<&str>> {
        try_task_group!(workers = 0, all_errors, error = &str, |tg| {
            tg.spawn(async { Err::<(), _>("task") });
            tg.workers().spawn(async || Err::<(), _>("ready"));
            panic!("body");
        })
    };
    let of_a_sibling = async || -> Result<(), GroupError<&str>> {
        try_task_group!(workers = 0, all_errors, error = &str, |tg| {
            let workers = tg.workers();
            workers.spawn(async move || {
                workers.spawn(async || Err::<(), _>("ready"));
                Err::<(), _>("sibling")
            });
        })
    };
    // A task that has no place yet is not ready.
    let under_a_limit = async || -> Result<(), GroupError<&str>> {
        try_task_group!(workers = 0, limit = 1, all_errors, error = &str, |tg| {
            for text in ["ready", "waits"] {
                tg.workers().spawn(async move || Err::<(), _>(text));
            }
            Err("body")?;
        })
    };
    let of_remote = async || -> Result<(), GroupError<&str>> {
        try_task_group!(all_errors, error = &str, |tg| {
            tg.remote().spawn(async || panic!("ready")).unwrap();
            Err("body")?;
        })
    };
    let fail = async || {
        assert_eq!(texts(of_the_body().await.unwrap_err()), ["body", "ready"]);
        assert_eq!(texts(of_a_panic().await.unwrap_err()), ["panicked: body", "task", "ready"]);
        assert_eq!(texts(of_a_sibling().await.unwrap_err()), ["sibling", "ready"]);
        assert_eq!(texts(of_remote().await.unwrap_err()), ["body", "panicked: ready"]);
        assert_eq!(texts(under_a_limit().await.unwrap_err()), ["body", "ready"]);
    };
    run(fail());
    run_virtually(fail());
}

#[test]
fn a_job_that_no_worker_has_begun_is_cancelled_before_it_comes_to_its_error() {
    let (begun, (dropped, is_dropped)) = (Promise::new(), mpsc::channel::<()>());
    let begun = &begun;
    let group = async move || -> Result<(), GroupError<&str>> {
        try_task_group!(workers = 1, all_errors, error = &str, |tg| {
            tg.workers().spawn(async move || {
                begun.set(()).unwrap();
                // Until home has dropped what waits behind this.
                is_dropped.recv().unwrap_err();
                Err::<(), _>("worker")
            });
            begun.wait().await;
            tg.workers().spawn(async move || {
                let _dropped = dropped;
                Err::<(), _>("behind")
            });
            Err("body")?;
        })
    };
    assert_eq!(texts(run(group()).unwrap_err()), ["body", "worker"]);
}

// What a shield comes to when it was cancelled.

async fn commit() -> Result<(), &'static str> {
    sleep(millis(20)).await;
    Err("disk full")
}

#[test]
fn an_error_of_a_shield_that_is_a_task_is_kept_or_reported() {
    let keeps = run(async {
        try_task_group!(all_errors, error = &str, |tg| {
            tg.spawn(shield(commit()));
            tg.spawn(async {
                sleep(millis(1)).await;
                Err::<(), _>("sibling")
            });
        })
    });
    assert_eq!(texts(keeps.unwrap_err()), ["sibling", "disk full"]);
    let reports = Reports::new();
    let reported: Result<(), &str> = run(async {
        try_task_group!(error = &str, |tg| {
            tg.spawn(shield(commit()));
            tg.spawn(async {
                sleep(millis(1)).await;
                Err::<(), _>("sibling")
            });
        })
    });
    assert_eq!(reported, Err("sibling"));
    reports.assert_one(ReportKind::LaterFailure, &["a task", "later_failures.rs", "failed as well"]);
}

#[test]
fn an_error_of_a_shield_that_is_a_cancelled_task_is_the_group_s() {
    let failed: Result<(), &str> = run(async {
        try_task_group!(error = &str, |tg| {
            tg.spawn(shield(commit()));
            sleep(millis(1)).await;
            tg.cancel();
        })
    });
    assert_eq!(failed, Err("disk full"));
}

#[test]
fn a_value_of_a_shield_does_not_undo_the_cancellation_of_its_task() {
    let reports = Reports::new();
    run_virtually(async {
        let cancelled: Result<(), &str> = try_task_group!(error = &str, |tg| {
            let task = tg.spawn(shield(async {
                sleep(millis(5)).await;
                Ok(7)
            }));
            sleep(millis(1)).await;
            assert_eq!(task.cancel().await, None);
        });
        assert_eq!(cancelled, Ok(()));
        task_group!(|tg| {
            let task = tg.spawn(shield(async {
                sleep(millis(5)).await;
                7
            }));
            sleep(millis(1)).await;
            assert_eq!(task.cancel().await, None);
        });
    });
    reports.assert_none();
}

#[test]
fn code_behind_a_shield_does_not_run_on() {
    let reports = Reports::new();
    let result: Result<(), &str> = run(async {
        try_task_group!(error = &str, |tg| {
            tg.spawn(async { shield(commit()).await.map_err(|_| unreachable!("cancelled")) });
            tg.spawn(shield(commit()).map(|_| -> Result<(), &str> { unreachable!("cancelled") }));
            sleep(millis(1)).await;
            tg.cancel();
        })
    });
    assert_eq!(result, Ok(()));
    assert_eq!(reports.kinds(), [ReportKind::ErrorUnheard; 2], "{:?}", reports.texts());
}

/// A shielded step that tells when it has begun, and ends some polls after it is let.
struct Step {
    begun: Promise<()>,
    goes_on: Promise<()>,
}

impl Step {
    fn new() -> Self {
        Self { begun: Promise::new(), goes_on: Promise::new() }
    }

    fn shielded<T>(&self, value: T) -> impl Future<Output = T> + use<'_, T> {
        shield(async {
            let _ = self.begun.set(());
            self.goes_on.wait().await;
            rounds(3).await;
            value
        })
    }
}

#[test]
fn an_error_of_a_shield_that_is_a_task_on_a_worker_is_the_group_s() {
    for workers in [0, 1] {
        for cancels_group in [true, false] {
            let (reports, step) = (Reports::new(), Step::new());
            let failed: Result<(), &str> = run(async {
                try_task_group!(workers = workers, error = &str, |tg| {
                    let task = tg.workers().spawn(|| step.shielded(Err::<(), _>("disk full")));
                    step.begun.wait().await;
                    if cancels_group {
                        tg.cancel();
                        step.goes_on.set(()).unwrap();
                    } else {
                        let cancelled = task.cancel();
                        step.goes_on.set(()).unwrap();
                        assert_eq!(cancelled.await, None);
                    }
                })
            });
            assert_eq!(failed, Err("disk full"), "{workers} workers");
            reports.assert_none();
        }
        let step = Step::new();
        let keeps = run(async {
            try_task_group!(workers = workers, all_errors, error = &str, |tg| {
                tg.workers().spawn(|| step.shielded(Err::<(), _>("disk full")));
                step.begun.wait().await;
                step.goes_on.set(()).unwrap();
                Err("body")?;
            })
        });
        assert_eq!(texts(keeps.unwrap_err()), ["body", "disk full"], "{workers} workers");
    }
}

#[test]
fn a_value_of_a_shield_does_not_undo_the_cancellation_of_its_task_on_a_worker() {
    for workers in [0, 1] {
        let step = Step::new();
        run(async {
            task_group!(workers = workers, |tg| {
                let task = tg.workers().spawn(|| step.shielded(7));
                step.begun.wait().await;
                let cancelled = task.cancel();
                step.goes_on.set(()).unwrap();
                assert_eq!(cancelled.await, None, "{workers} workers");
            });
        });
    }
}

/// Asserts that the late error of a `shield` in `work` is reported once, as long as `work` is cancelled.
#[track_caller]
fn assert_unheard<F: Future>(work: impl Fn() -> F) {
    let reports = Reports::new();
    run_virtually(async { assert!(timeout(millis(1), work()).await.is_err()) });
    reports.assert_one(ReportKind::ErrorUnheard, &["a `shield`, made at tests/tests/later_failures.rs:", "`on_late`"]);
    let reports = Reports::new();
    run_virtually(async { drop(work().await) });
    reports.assert_none();
}

#[test]
fn an_error_of_a_shield_that_goes_nowhere_is_reported() {
    assert_unheard(|| shield(commit()));
    assert_unheard(|| async { shield(commit()).await.is_err() });
    assert_unheard(|| shield(commit()).map(|_| ()));
    assert_unheard(|| async { race!(shield(commit()), pending()).is_err() });
    assert_unheard(|| timeout(LONG, shield(commit())));
    assert_unheard(|| try_gather([shield(commit()).boxed_local()]));
    assert_unheard(|| async { futures::join!(shield(commit()), async {}).0.is_err() });
    assert_unheard(|| async {
        try_task_group!(error = &str, |tg| {
            tg.spawn(shield(commit()).boxed_local());
        })
    });
    for workers in [0, 1] {
        assert_unheard(|| async move {
            try_task_group!(workers = workers, error = &str, |tg| {
                tg.workers().spawn(async || shield(commit()).await);
            })
        });
    }
}

#[test]
fn an_error_of_a_shield_that_is_a_task_of_a_plain_group_is_reported() {
    for workers in [0, 1] {
        let (reports, home, sent) = (Reports::new(), Step::new(), Step::new());
        run(async {
            task_group!(workers = workers, |tg| {
                let at_home = tg.spawn(home.shielded(Err::<(), _>("disk full")));
                let on_worker = tg.workers().spawn(|| sent.shielded(Err::<(), _>("disk full")));
                sent.begun.wait().await;
                rounds(2).await;
                let both = (at_home.cancel(), on_worker.cancel());
                home.goes_on.set(()).unwrap();
                sent.goes_on.set(()).unwrap();
                assert_eq!(join!(both.0, both.1), (None, None));
            });
        });
        assert_eq!(reports.kinds(), [ReportKind::ErrorUnheard; 2], "{:?}", reports.texts());
        for text in reports.texts() {
            assert!(text.contains("later_failures.rs") && text.contains("`on_late`"), "{text}");
        }
    }
}

#[test]
fn a_late_value_of_a_shield_goes_to_who_asks_for_it() {
    let (reports, late) = (Reports::new(), RefCell::new(Vec::new()));
    let note = |result: Result<(), &'static str>| late.borrow_mut().push(result);
    run_virtually(async {
        assert!(timeout(millis(1), shield(commit()).on_late(note)).await.is_err());
        // In time, so that it has its value.
        assert_eq!(shield(commit()).on_late(note).await, Err("disk full"));
        let cancelled: Result<(), &str> = try_task_group!(error = &str, |tg| {
            tg.spawn(shield(commit()).on_late(note));
            sleep(millis(1)).await;
            tg.cancel();
        });
        assert_eq!(cancelled, Ok(()));
    });
    assert_eq!(*late.borrow(), [Err("disk full"); 2]);
    reports.assert_none();
}

/// A bracket whose release does not end by itself, and whose usage ends with what `end` says.
async fn stays_in_release<T>(end: impl Fn() -> T) -> T {
    bracket((), async |()| end(), async |()| pending().await).await
}

/// What a bracket reports that is dropped while it releases, by foreign code or as a grace is over.
fn reported_when_cut_off<T>(end: impl Fn() -> T + Copy) -> [Vec<(ReportKind, String)>; 2] {
    let dropped = Reports::new();
    run_virtually(async {
        let soon = Box::pin(sleep(millis(1)));
        drop(futures::future::select(Box::pin(stays_in_release(end)), soon).await);
    });
    let by_foreign_code = dropped.kinds().into_iter().zip(dropped.texts()).collect();
    let cut_off = Reports::new();
    run_virtually(async {
        task_group!(grace = millis(1), |tg| {
            let task = tg.spawn(async { drop(stays_in_release(end).await) });
            sleep(millis(1)).await;
            assert!(task.cancel().await.is_none());
        });
    });
    [by_foreign_code, cut_off.kinds().into_iter().zip(cut_off.texts()).collect()]
}

#[test]
fn a_panic_of_a_usage_is_reported_where_the_release_is_cut_off() {
    for reports in reported_when_cut_off(|| -> () { panic!("in the usage") }) {
        let of_the_panic: Vec<_> = reports.iter().filter(|(_, text)| text.contains("in the usage")).collect();
        assert!(matches!(of_the_panic[..], [(ReportKind::LaterFailure, _)]), "{reports:?}");
    }
}

#[test]
fn an_error_of_a_usage_is_reported_where_the_release_is_cut_off() {
    for reports in reported_when_cut_off(|| Err::<(), _>("in the usage")) {
        let of_the_error: Vec<_> = reports.iter().filter(|(kind, _)| *kind == ReportKind::ErrorUnheard).collect();
        assert!(matches!(of_the_error[..], [(_, text)] if text.contains("Result<(), &str>")), "{reports:?}");
    }
    // Of a value there is nothing to say.
    for reports in reported_when_cut_off(|| ()) {
        assert_eq!(reports.len(), 1, "{reports:?}");
    }
}

#[test]
fn an_error_of_a_usage_is_reported_where_the_release_panics() {
    let reports = Reports::new();
    let fails = bracket((), async |()| Err::<(), _>("in the usage"), async |()| panic!("in the release"));
    assert_eq!(panic_text(|| run_virtually(async { _ = fails.await })), "in the release");
    reports.assert_one(ReportKind::ErrorUnheard, &["Result<(), &str>", "in the usage"]);
}

async fn fails(text: &str) -> Result<(), String> {
    yield_now().await;
    Err(text.to_string())
}

#[test]
fn an_err_of_a_plain_group_that_nobody_takes_is_reported() {
    let reports = Reports::new();
    run(async {
        task_group!(|tg| {
            tg.spawn(fails("handle dropped before the end"));
            let late = tg.spawn(fails("handle dropped behind it"));
            tg.spawn(async { fails("handled").await.is_err() });
            tg.spawn(async { Ok::<_, String>("no error") });
            assert!(tg.spawn(fails("taken")).await.is_err());
            while !late.is_finished() {
                yield_now().await;
            }
        });
    });
    assert_eq!(reports.kinds(), [ReportKind::ErrorUnheard; 2], "{:?}", reports.texts());
    for text in reports.texts() {
        assert!(text.contains("later_failures.rs") && text.contains("Result<(), alloc::string::String>"), "{text}");
    }
}

#[test]
fn an_err_without_a_size_is_one_like_any_other() {
    #[derive(Debug)]
    struct Failed;
    let reports = Reports::new();
    run(async {
        task_group!(|tg| {
            tg.spawn(async { Err::<Infallible, _>(Failed) });
            tg.spawn(async { Ok::<_, Infallible>(()) });
        });
    });
    reports.assert_one(ReportKind::ErrorUnheard, &["Result<core::convert::Infallible, "]);
}

#[test]
fn an_err_of_a_branch_that_nobody_takes_is_reported_with_what_would_have_taken_it() {
    let reports = Reports::new();
    run_virtually(async {
        let endless = pending::<Result<(), String>>();
        assert!(timeout(millis(1), async { join!(fails("first"), endless) }).await.is_err());
    });
    reports.assert_one(ReportKind::ErrorUnheard, &["`try_join!`", "`try_task_group!`"]);
}

#[test]
fn an_err_of_a_bracket_that_is_cancelled_while_it_releases_is_reported() {
    let reports = Reports::new();
    let held = |usage: Result<u8, String>| bracket((), async move |()| usage, async |()| sleep(millis(5)).await);
    run_virtually(async {
        assert!(timeout(millis(2), held(Err("lost".into()))).await.is_err());
        assert!(timeout(millis(2), held(Ok(1))).await.is_err());
        assert!(timeout(millis(9), held(Err("given".into()))).await.unwrap().is_err());
    });
    assert_eq!(reports.kinds(), [ReportKind::ErrorUnheard], "{:?}", reports.texts());
    assert!(
        reports.texts()[0].contains("a `bracket`, made at tests/tests/later_failures.rs:"),
        "{:?}",
        reports.texts()
    );
}

// An `Err` that is on its way to somebody who is not there any more.

/// Asserts that `scene` reports one `Err` of a `Result<(), &str>`, with this word.
#[track_caller]
fn assert_undelivered<F: Future>(word: &str, scene: impl FnOnce() -> F) {
    let reports = Reports::new();
    let scene = scene();
    run_virtually(async {
        // A panic in the place of the error is part of the scene.
        let _ = catch_panic(scene).await;
    });
    let texts = reports.texts();
    let unheard: Vec<_> =
        texts.iter().zip(reports.kinds()).filter(|(_, kind)| *kind == ReportKind::ErrorUnheard).collect();
    let [(text, _)] = unheard[..] else { panic!("one report of an error, not {texts:?}") };
    assert!(text.contains(word) && text.contains("(core::result::Result<(), &str>)"), "{text}");
}

async fn fails_now() -> Result<(), &'static str> {
    Err("on its way")
}

async fn fails_next() -> Result<(), &'static str> {
    yield_now().await;
    Err("after a round")
}

async fn cancelled_in_a_millisecond(future: impl Future) {
    let _ = timeout(millis(1), future).await;
}

/// A body that has come to its `Err` in time, and a task that has not.
async fn left_with_an_err() -> Result<(), &'static str> {
    task_group!(|tg| {
        tg.spawn(sleep(LONG));
        fails_now().await
    })
}

#[test]
fn an_err_that_a_body_has_ended_with_is_reported_when_its_group_is_cancelled() {
    assert_undelivered("the body of a group", || cancelled_in_a_millisecond(left_with_an_err()));
    assert_undelivered("the body of a group", async || {
        task_group!(timeout = millis(1), |tg| {
            tg.spawn(sleep(LONG));
            fails_now().await
        })
    });
    // With `return` and `break`, and with a grace that cuts a cleanup off.
    assert_undelivered("the body of a group", || {
        cancelled_in_a_millisecond(async {
            task_group!(|tg| {
                tg.spawn(sleep(LONG));
                return fails_now().await;
            });
        })
    });
    assert_undelivered("the body of a group", async || {
        task_group!(timeout = millis(1), grace = millis(1), |outer| {
            outer.spawn(async {
                let _: Result<(), &str> = 'block: {
                    task_group!(|tg| {
                        tg.spawn(shield(pending::<()>()));
                        break 'block fails_now().await;
                    });
                };
            });
        })
    });
}

#[test]
fn an_err_that_a_body_has_ended_with_is_reported_when_its_group_fails() {
    assert_undelivered("the body of a group", async || -> Result<(), &str> {
        task_group!(|tg| {
            tg.spawn(async {
                yield_now().await;
                panic!("in place of the error");
            });
            return fails_now().await;
        });
    });
    assert_undelivered("the body of a group", async || {
        let _ = try_task_group!(error = &str, |tg| {
            tg.spawn(fails_next());
            fails_now().await
        });
    });
    assert_undelivered("the body of a group", async || {
        let _ = try_task_group!(error = &str, all_errors, |tg| {
            tg.spawn(fails_next());
            fails_now().await
        });
    });
}

#[test]
fn an_err_that_a_body_has_ended_with_is_reported_when_its_group_is_dropped_half_way() {
    assert_undelivered("the body of a group", async || {
        let mut group = Box::pin(left_with_an_err());
        assert!(poll::once(group.as_mut()).await.is_none());
    });
}

#[test]
fn what_a_body_gives_is_no_news() {
    let reports = Reports::new();
    run_virtually(async {
        let given = async |waits: Duration| {
            task_group!(|tg| {
                tg.spawn(sleep(waits));
                fails_now().await
            })
        };
        assert!(given(millis(1)).await.is_err());
        // Its end was never reached.
        cancelled_in_a_millisecond(async {
            task_group!(|_tg| {
                sleep(LONG).await;
                fails_now().await
            })
        })
        .await;
    });
    reports.assert_none();
}

#[test]
fn an_err_that_has_won_is_reported_when_its_race_gives_no_value() {
    let holds = async |result| {
        shield(sleep(millis(9))).await;
        result
    };
    assert_undelivered("a `race`, made at tests/tests/later_failures.rs:", || {
        cancelled_in_a_millisecond(race([Either::Left(fails_next()), Either::Right(holds(Ok(())))]))
    });
    assert_undelivered("a `race!`, made at tests/tests/later_failures.rs:", || {
        cancelled_in_a_millisecond(async { race!(fails_next(), holds(Ok(()))) })
    });
    let panics_in_cleanup = || bracket((), async |()| pending().await, async |()| panic!("in place of the error"));
    assert_undelivered("a `race!`, made at tests/tests/later_failures.rs:", async || {
        race!(fails_next(), panics_in_cleanup())
    });
}

#[test]
fn errs_that_nobody_takes_from_their_queue_are_one_report() {
    assert_undelivered("2 `Err` of `Outputs`", async || {
        let first = as_completed([fails_now(), fails_now(), fails_now()]);
        first
            .consume(async |outputs| {
                yield_now().await;
                outputs.next().await
            })
            .await
    });
    assert_undelivered("1 `Err` of `Outputs`", || {
        cancelled_in_a_millisecond(async {
            let outputs = Outputs::new();
            task_group!(|tg| {
                tg.spawn(outputs.give(fails_now()));
                sleep(LONG).await;
            });
        })
    });
}

#[test]
fn errs_of_workers_that_nobody_is_given_are_reported() {
    let reports = Reports::new();
    run(async {
        let comes_to_its_end = Promise::new();
        task_group!(workers = 2, |tg| {
            let each = tg.workers().each(async |number| {
                if number == 1 {
                    pending::<()>().await;
                }
                comes_to_its_end.set(()).unwrap();
                fails_now().await
            });
            race!(_ = each => unreachable!(), () = comes_to_its_end.wait() => tg.cancel());
        });
    });
    reports.assert_one(ReportKind::ErrorUnheard, &["a task, spawned at tests/tests/later_failures.rs:"]);
    assert_undelivered("3 `Err` of a `parallel_map`", || {
        let items = [0, 1, 2, 3];
        cancelled_in_a_millisecond(async move {
            parallel_map(1, &items, async |item| if *item < 3 { fails_now().await } else { pending().await }).await
        })
    });
}

/// Ends with an `Err` in the poll of so many, whatever it is told. It holds something to clean up.
async fn ends_in_poll(number: u32, release: impl AsyncFnOnce(())) -> Result<(), &'static str> {
    let mut held = Box::pin(bracket((), async |()| pending::<()>().await, release));
    let mut n_polls = 0;
    poll_fn(|cx| {
        let _ = held.as_mut().poll(cx);
        n_polls += 1;
        if n_polls < number { Poll::Pending } else { Poll::Ready(Err("in the pass")) }
    })
    .await
}

#[test]
fn an_err_that_comes_in_the_pass_of_a_cancellation_is_reported() {
    let released = async |()| ();
    assert_undelivered("`timeout`", || cancelled_in_a_millisecond(timeout(LONG, ends_in_poll(3, released))));
    assert_undelivered("`branch`", || cancelled_in_a_millisecond(branch(ends_in_poll(3, released))));
    assert_undelivered("`catch_panic`", || cancelled_in_a_millisecond(catch_panic(ends_in_poll(3, released))));
    assert_undelivered("a `race!`", async || {
        let _ = race!(ends_in_poll(2, released), async {
            sleep(millis(1)).await;
            Ok(())
        });
    });
}

#[test]
fn an_err_that_a_panic_of_a_cleanup_has_replaced_is_reported_wherever_it_was() {
    let panics = async |()| panic!("in place of the error");
    assert_undelivered("", || cancelled_in_a_millisecond(ends_in_poll(3, panics)));
    assert_undelivered("", || cancelled_in_a_millisecond(catch_panic(ends_in_poll(3, panics))));
}

// Failures on other threads that nobody waits for any more.

/// Has the reports of this thread sent on for as long as the thread lasts.
fn tell_reports(reports: mpsc::Sender<(ReportKind, String)>) {
    thread_local! {
        static LISTENING: RefCell<Option<Listening>> = const { RefCell::new(None) };
    }
    let listening = listen(move |report| drop(reports.send((report.kind(), report.to_string()))));
    LISTENING.set(Some(listening));
}

type Ended = Result<(), &'static str>;

fn panics() -> Ended {
    panic!("unheard of");
}

fn fails_there() -> Ended {
    Err("unheard of")
}

/// A function that ends once it may, on a thread whose reports come.
struct Doomed {
    begun: Promise<()>,
    go: mpsc::Sender<()>,
    reports: mpsc::Receiver<(ReportKind, String)>,
}

fn doomed(end: fn() -> Ended) -> (Doomed, impl FnOnce() -> Ended + Send + 'static) {
    let (begun, (go, may_go), (tell, reports)) = (Promise::new(), mpsc::channel(), mpsc::channel());
    let begins = begun.clone();
    let function = move || {
        tell_reports(tell);
        begins.set(()).unwrap();
        may_go.recv().unwrap();
        end()
    };
    (Doomed { begun, go, reports }, function)
}

type Function = Box<dyn FnOnce() -> Ended + Send>;

/// Polls what `make` makes of such a function once, drops it while that runs, and gives what is reported over there.
fn report_there<F: Future>(
    end: fn() -> Ended,
    make: impl FnOnce(Function) -> F,
) -> Result<(ReportKind, String), RecvTimeoutError> {
    let (Doomed { begun, go, reports }, function) = doomed(end);
    run(async {
        let mut job = Box::pin(make(Box::new(function)));
        assert!(poll::once(job.as_mut()).await.is_none());
        begun.wait().await;
    });
    go.send(()).unwrap();
    reports.recv_timeout(PATIENCE)
}

/// Asserts that what `make` makes of such a function is reported over there, how ever that fails.
#[track_caller]
fn assert_told_there<F: Future>(word: &str, make: impl Fn(Function) -> F) {
    let cases: [(fn() -> Ended, _, _); 2] = [
        (panics, ReportKind::LaterFailure, "unheard of"),
        (fails_there, ReportKind::ErrorUnheard, "(core::result::Result<(), &str>)"),
    ];
    for (end, expected, detail) in cases {
        let (kind, text) = report_there(end, &make).unwrap();
        assert_eq!(kind, expected);
        assert!(text.contains(word) && text.contains("later_failures.rs") && text.contains(detail), "{text}");
    }
}

#[test]
fn a_failure_of_a_tree_on_a_thread_that_nobody_waits_for_is_reported_there() {
    assert_told_there("run_in_thread", |function| run_in_thread(async move || function()));
}

#[test]
fn a_failure_of_a_thread_job_that_nobody_waits_for_is_reported_there() {
    assert_told_there("thread job", |function| in_thread(function));
    assert_told_there("thread job", |function| ThreadPool::new(1).run(function));
}

#[test]
fn of_a_job_that_is_left_behind_a_panic_is_reported_and_no_error() {
    let (kind, text) = report_there(panics, |function| in_thread(function).abandon_on_cancel()).unwrap();
    assert!(kind == ReportKind::LaterFailure && text.contains("unheard of"), "{text}");
    // The pool is gone with the job, so its thread ends.
    let silent = report_there(fails_there, |function| ThreadPool::new(1).run(function).abandon_on_cancel());
    assert_eq!(silent, Err(RecvTimeoutError::Disconnected), "its thread has ended");
}

#[test]
fn a_failure_of_a_thread_job_that_comes_before_its_future_is_dropped_is_reported_by_who_drops_it() {
    for (end, kind) in [(panics as fn() -> Ended, ReportKind::LaterFailure), (fails_there, ReportKind::ErrorUnheard)] {
        let reports = Reports::new();
        let pool = ThreadPool::new(1);
        run(async {
            let mut job = Box::pin(pool.run(end));
            assert!(poll::once(job.as_mut()).await.is_none());
            // The only thread takes no other job before the outcome of this one is there.
            pool.run(|| ()).await;
        });
        reports.assert_one(kind, &["thread job", "later_failures.rs"]);
    }
}

/// Cancels what `make` makes of a function that fails while that runs, and asserts that the error is reported.
#[track_caller]
fn assert_told_here<F: Future>(word: &str, make: impl FnOnce(Function) -> F) {
    let (Doomed { begun, go, .. }, function) = doomed(fails_there);
    let reports = Reports::new();
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(make(Box::new(function)));
            begun.wait().await;
            let cancelled = task.cancel();
            go.send(()).unwrap();
            assert!(cancelled.await.is_none());
        });
    });
    reports.assert_one(ReportKind::ErrorUnheard, &[word, "later_failures.rs", "(core::result::Result<(), &str>)"]);
}

#[test]
fn an_error_of_a_thread_job_that_was_cancelled_is_reported() {
    assert_told_here("thread job", |function| in_thread(function));
    assert_told_here("thread job", |function| ThreadPool::new(1).run(function));
    assert_told_here("run_in_thread", |function| run_in_thread(async move || function()));
}

#[test]
fn an_error_of_a_file_operation_that_was_cancelled_is_reported() {
    let reports = Reports::new();
    let fifo = std::env::temp_dir().join(format!("xiio-later-failures-{}", std::process::id()));
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(xiio::fs::write(&fifo, vec![0; 1 << 20]));
            yield_now().await;
            // This has its end when the thread of the job has opened the other end.
            let reader = std::fs::File::open(&fifo).unwrap();
            let cancelled = task.cancel();
            drop(reader);
            assert!(cancelled.await.is_none());
        });
    });
    std::fs::remove_file(&fifo).unwrap();
    reports.assert_one(ReportKind::ErrorUnheard, &["thread job", "later_failures.rs", "std::io::error::Error"]);
}

#[test]
fn an_error_of_a_thread_job_that_was_told_to_stop_is_no_news() {
    let reports = Reports::new();
    let begun = Promise::new();
    run(async {
        task_group!(|tg| {
            let begins = begun.clone();
            let task = tg.spawn(in_thread(move || {
                begins.set(()).unwrap();
                while !xiio::thread::is_cancelled() {
                    std::thread::yield_now();
                }
                Err::<(), _>("stopped")
            }));
            begun.wait().await;
            assert!(task.cancel().await.is_none());
        });
    });
    reports.assert_none();
}

#[test]
fn an_error_that_comes_after_the_cancellation_of_its_group_is_said_to_have_nobody() {
    let reports = Reports::new();
    run_virtually(async {
        let group = async {
            let ended: Result<(), &str> = try_task_group!(error = &str, |tg| {
                let late = async {
                    sleep(millis(20)).await;
                    Err::<(), _>("late")
                };
                tg.spawn(shield(late));
                sleep(LONG).await;
            });
            ended.unwrap();
        };
        timeout(millis(10), group).await.unwrap_err();
    });
    reports.assert_one(ReportKind::LaterFailure, &["later_failures.rs", "its group was cancelled"]);
}
