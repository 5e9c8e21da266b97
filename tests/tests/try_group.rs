//! Groups whose tasks may fail: which error comes out, and what becomes of the others.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::future::{pending, poll_fn};
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use xiio::inspect::ReportKind;
use xiio::{Elapsed, Failure, GroupError, Promise, Task, bracket, sleep, task_group, try_task_group, yield_now};
use xiio_tests::{
    DropBomb, DropCount, LONG, Reports, Trace, assert_cancels_cleanly, assert_panics, millis, panic_text, rounds, run,
};

/// An error that nothing else could be.
#[derive(Debug, PartialEq)]
struct Broken(&'static str);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Broken {}

impl From<Elapsed> for Broken {
    fn from(_: Elapsed) -> Self {
        Self("late")
    }
}

#[test]
fn the_group_s_value_is_that_of_its_body() {
    async fn sum() -> Result<i32, Broken> {
        try_task_group!(|tg| {
            let one = tg.spawn(async { Ok(1) });
            let two = tg.spawn(async { Ok(2) });
            one.await + two.await
        })
    }
    assert_eq!(run(sum()), Ok(3));
}

#[test]
fn the_error_of_a_task_is_the_group_s_and_of_its_own_type() {
    async fn work() -> Result<(), Broken> {
        try_task_group!(|tg| {
            tg.spawn(async { Err::<(), _>(Broken("task")) });
        })
    }
    assert_eq!(run(work()), Err(Broken("task")));
}

#[test]
fn an_error_in_the_body_is_the_group_s_and_cancels_the_tasks_at_once() {
    let drops = DropCount::new();
    async fn fails() -> Result<(), Broken> {
        Err(Broken("body"))
    }
    let result: Result<(), Broken> = run(async {
        let result = try_task_group!(|tg| {
            let flag = drops.flag();
            tg.spawn(async {
                let _flag = flag;
                sleep(Duration::from_secs(3)).await;
                Ok(())
            });
            yield_now().await;
            fails().await?;
        });
        assert_eq!(drops.get(), 1);
        result
    });
    assert_eq!(result, Err(Broken("body")));
}

#[test]
fn of_two_that_fail_in_one_round_the_first_spawned_wins_and_the_other_is_reported() {
    let reports = Reports::new();
    let result: Result<(), Broken> = run(async {
        try_task_group!(|tg| {
            // What is cancelled but still cleaning up may fail as well.
            tg.spawn(async { Err::<(), _>(Broken("first")) });
            tg.spawn(async { Err::<(), _>(Broken("second")) });
            pending::<()>().await;
        })
    });
    assert_eq!(result, Err(Broken("first")));
    // The second was cancelled before it was polled: nothing is lost.
    reports.assert_none();
}

#[test]
fn a_task_that_fails_while_it_is_cancelled_is_reported() {
    let reports = Reports::new();
    let result: Result<(), Broken> = run(async {
        try_task_group!(|tg| {
            tg.spawn(async {
                // Ready in the pass of its cancellation: it has ended by itself, with an error.
                let polls = Cell::new(0);
                let ready_later = std::future::poll_fn(|_| {
                    polls.set(polls.get() + 1);
                    if polls.get() > 1 { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
                });
                let held = Box::pin(bracket((), async |()| sleep(LONG).await, async |()| rounds(1).await));
                futures::future::select(held, ready_later).await;
                Err::<(), _>(Broken("second"))
            });
            rounds(2).await;
            tg.spawn(async { Err::<(), _>(Broken("first")) });
        })
    });
    assert_eq!(result, Err(Broken("first")));
    assert_eq!(reports.kinds(), [ReportKind::CleanupSkipped, ReportKind::LaterFailure]);
    let text = &reports.texts()[1];
    assert!(["failed as well", "try_group.rs", "all_errors"].iter().all(|word| text.contains(word)), "{text}");
}

#[test]
fn a_body_that_waits_for_ever_is_cancelled_by_a_failing_task() {
    let trace = Trace::new();
    let result: Result<(), Broken> = run(async {
        try_task_group!(|tg| {
            tg.spawn(async {
                rounds(3).await;
                Err::<(), _>(Broken("task"))
            });
            let _dropped = trace.on_drop("body dropped");
            pending::<()>().await;
        })
    });
    assert_eq!(result, Err(Broken("task")));
    trace.assert(&["body dropped"]);
}

#[test]
fn an_error_counts_although_nobody_awaits_the_handle_or_it_was_dropped() {
    for is_dropped in [false, true] {
        let result: Result<(), Broken> = run(async {
            try_task_group!(|tg| {
                let task: Task<()> = tg.spawn(async {
                    rounds(2).await;
                    Err(Broken("task"))
                });
                let _kept = if is_dropped {
                    drop(task);
                    None
                } else {
                    Some(task)
                };
                rounds(1).await;
            })
        });
        assert_eq!(result, Err(Broken("task")));
    }
}

#[test]
fn a_looping_task_beside_a_failing_one_is_cancelled_once() {
    let drops = DropCount::new();
    let result: Result<(), Broken> = run(async {
        try_task_group!(|tg| {
            let flag = drops.flag();
            let _looping: Task<()> = tg.spawn(async {
                let _flag = flag;
                loop {
                    yield_now().await;
                }
            });
            tg.spawn(async {
                rounds(3).await;
                Err::<(), _>(Broken("crash"))
            });
        })
    });
    assert_eq!(result, Err(Broken("crash")));
    assert_eq!(drops.get(), 1);
}

#[test]
fn a_task_that_awaits_a_failing_one_is_cancelled_and_does_not_panic() {
    let result: Result<(), Broken> = run(async {
        try_task_group!(|tg| {
            let failing: Task<()> = tg.spawn(async {
                rounds(3).await;
                Err(Broken("task"))
            });
            tg.spawn(async {
                failing.await;
                Ok(())
            });
        })
    });
    assert_eq!(result, Err(Broken("task")));
}

#[test]
fn the_outcome_of_a_failed_task_says_that_the_group_has_the_error() {
    let outcome = RefCell::new(None);
    let result: Result<(), Broken> = run(async {
        try_task_group!(|tg| {
            let failing: Task<()> = tg.spawn(async { Err(Broken("task")) });
            *outcome.borrow_mut() = Some(failing.outcome());
        })
    });
    assert_eq!(result, Err(Broken("task")));
    let cancelled = run(outcome.take().unwrap()).unwrap_err();
    assert_eq!(cancelled.to_string(), "task was cancelled before it had a value");
}

#[test]
fn cleanup_that_panics_during_the_cancellation_replaces_the_error() {
    let reports = Reports::new();
    let drops = DropCount::new();
    let scene = async || -> Result<(), Broken> {
        try_task_group!(|tg| {
            let flags = [drops.flag(), drops.flag()];
            let [first, second] = flags;
            tg.spawn(async {
                let _first = first;
                bracket((), async |()| sleep(LONG).await, async |()| panic!("cleanup")).await;
                Ok(())
            });
            tg.spawn(async {
                let _second = second;
                let _bomb = DropBomb("destructor");
                sleep(LONG).await;
                Ok(())
            });
            rounds(1).await;
            tg.spawn(async { Err::<(), _>(Broken("first")) });
        })
    };
    // The destructor runs at once, the other task cleans up.
    assert_panics(&["destructor"], || run(scene()));
    assert_eq!(drops.get(), 2);
    assert_eq!(reports.kinds(), [ReportKind::LaterFailure; 2], "{:?}", reports.texts());
    let texts = reports.texts();
    assert!(texts[0].contains("panicked as well: cleanup"), "{texts:?}");
    assert!(texts[1].contains("failed as well"), "{texts:?}");
}

#[test]
fn a_panic_goes_through_a_group_of_errors_as_a_panic() {
    assert_panics(&["expected"], || {
        run(async {
            let _result: Result<(), Broken> = try_task_group!(error = _, |tg| {
                tg.spawn(async {
                    if true {
                        panic!("expected");
                    }
                    Ok(())
                });
            });
        });
    });
}

#[test]
fn a_later_panic_replaces_an_error_which_is_reported() {
    let reports = Reports::new();
    let scene = async || -> Result<(), Broken> {
        try_task_group!(|tg| {
            tg.spawn(async { Err::<(), _>(Broken("first")) });
            tg.defer(async { panic!("second") });
        })
    };
    assert_panics(&["second"], || run(scene()));
    reports.assert_one(ReportKind::LaterFailure, &["a task", "failed as well", "try_group.rs"]);
}

#[test]
fn nested_groups_hand_their_errors_up_with_question_marks() {
    async fn inner(n: i32) -> Result<i32, Broken> {
        try_task_group!(|tg| {
            let task = tg.spawn(async move { if n == 2 { Err(Broken("two")) } else { Ok(n) } });
            task.await
        })
    }
    async fn outer() -> Result<i32, Broken> {
        try_task_group!(|tg| {
            let tasks = [1, 2, 3].map(|n| tg.spawn(inner(n)));
            let mut sum = 0;
            for task in tasks {
                sum += task.await;
            }
            sum
        })
    }
    assert_eq!(run(outer()), Err(Broken("two")));
}

#[test]
fn a_failure_reaches_tasks_in_groups_three_deep() {
    let trace = Trace::new();
    let result: Result<(), Broken> = run(async {
        try_task_group!(|a| {
            a.spawn(async {
                let result: Result<(), Broken> = try_task_group!(error = _, |b| {
                    b.spawn(async {
                        let result: Result<(), Broken> = try_task_group!(error = _, |c| {
                            c.spawn(async {
                                let _dropped = trace.on_drop("leaf dropped");
                                sleep(LONG).await;
                                trace.note("leaf ran on");
                                Ok(())
                            });
                        });
                        trace.note("after c");
                        result
                    });
                });
                trace.note("after b");
                result
            });
            rounds(3).await;
            a.spawn(async { Err::<(), _>(Broken("first")) });
        })
    });
    assert_eq!(result, Err(Broken("first")));
    trace.assert(&["leaf dropped"]);
}

#[test]
fn an_error_needs_no_static_and_no_clone() {
    let text = String::from("borrowed");
    let result: Result<(), (&str, Rc<Cell<i32>>)> = run(async {
        try_task_group!(error = _, |tg| {
            tg.spawn(async { Err::<(), _>((text.as_str(), Rc::default())) });
        })
    });
    assert_eq!(result.unwrap_err().0, "borrowed");
}

#[test]
fn a_cancelled_try_group_gives_no_error_to_anybody() {
    let trace = Trace::new();
    run(async {
        xiio::task_group!(|tg| {
            let task = tg.spawn(async {
                let _result: Result<(), Broken> = try_task_group!(error = _, |inner| {
                    inner.spawn(async {
                        sleep(LONG).await;
                        Err::<(), _>(Broken("never"))
                    });
                });
                trace.note("ran on");
            });
            rounds(2).await;
            assert!(task.cancel().await.is_none());
        });
    });
    trace.assert(&[]);
}

// Options.

#[test]
fn a_failing_task_frees_its_place_and_those_that_wait_never_start() {
    let n_started = Cell::new(0);
    let result: Result<(), Broken> = run(async {
        try_task_group!(limit = 2, |tg| {
            for n in 0..6 {
                let n_started = &n_started;
                tg.spawn(async move {
                    n_started.set(n_started.get() + 1);
                    rounds(2).await;
                    if n == 1 { Err::<(), _>(Broken("second")) } else { pending().await }
                });
            }
        })
    });
    assert_eq!((result, n_started.get()), (Err(Broken("second")), 2));
}

#[test]
fn a_failing_task_under_a_limit_lets_the_next_start_when_errors_are_only_cancelled() {
    let trace = Trace::new();
    let result: Result<(), Broken> = run(async {
        try_task_group!(limit = 1, |tg| {
            let first: Task<()> = tg.spawn(async { pending().await });
            tg.spawn(async {
                trace.note("second");
                Ok(())
            });
            rounds(2).await;
            assert!(first.cancel().await.is_none());
        })
    });
    assert_eq!(result, Ok(()));
    trace.assert(&["second"]);
}

#[test]
fn a_time_limit_becomes_the_group_s_error() {
    let result: Result<(), Broken> = run(async {
        try_task_group!(timeout = millis(5), |tg| {
            tg.spawn(async {
                sleep(LONG).await;
                Ok(())
            });
        })
    });
    assert_eq!(result, Err(Broken("late")));
}

#[test]
fn a_time_limit_in_a_function_of_io_results_is_timed_out() {
    async fn work() -> io::Result<()> {
        try_task_group!(timeout = Duration::ZERO, |tg| {
            tg.spawn(async { pending::<io::Result<()>>().await });
        })
    }
    assert_eq!(run(work()).unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[test]
fn an_error_in_the_round_of_the_deadline_wins_over_the_deadline() {
    for _ in 0..20 {
        let result: Result<(), Broken> = run(async {
            let at = xiio::now() + millis(2);
            try_task_group!(deadline = at, |tg| {
                tg.spawn(async move {
                    xiio::sleep_until(at).await;
                    Err::<(), _>(Broken("task"))
                });
                pending::<()>().await;
            })
        });
        assert_eq!(result, Err(Broken("task")));
    }
}

// `all_errors`.

async fn several(gate: &Promise<()>) -> Result<(), GroupError<Broken>> {
    try_task_group!(all_errors, error = Broken, |tg| {
        tg.spawn(async {
            gate.wait().await;
            Err::<(), _>(Broken("first"))
        });
        tg.spawn(async {
            gate.wait().await;
            if true {
                panic!("second");
            }
            Ok(())
        });
        tg.spawn(async {
            gate.wait().await;
            Err::<(), _>(Broken("third"))
        });
        tg.spawn(async {
            pending::<()>().await;
            Err::<(), _>(Broken("never"))
        });
        rounds(3).await;
        gate.set(()).unwrap();
    })
}

#[test]
fn all_errors_of_a_round_come_in_order_with_panics() {
    let reports = Reports::new();
    let error = run(several(&Promise::new())).unwrap_err();
    assert_eq!(error.to_string(), "first (and 2 more failures)");
    let failures: Vec<_> = error.into_failures().map(|failure| failure.to_string()).collect();
    assert_eq!(failures, ["first", "panicked: second", "third"]);
    reports.assert_none();
}

/// A task that fails and whose destructor then panics has failed twice.
#[test]
fn all_errors_of_a_round_are_of_those_that_had_a_place() {
    let (failures, n_started) = run(async {
        let n_started = Cell::new(0);
        let failed = try_task_group!(all_errors, limit = 2, error = i32, |tg| {
            for number in 0..4 {
                let n_started = &n_started;
                tg.spawn(async move {
                    n_started.set(n_started.get() + 1);
                    Err::<(), _>(number)
                });
            }
        });
        let failures: Vec<_> = failed.unwrap_err().into_failures().map(|failure| failure.to_string()).collect();
        (failures, n_started.get())
    });
    assert_eq!(failures, ["0", "1"]);
    assert_eq!(n_started, 2);
}

#[test]
fn all_errors_keeps_the_error_of_a_task_whose_destructor_panics() {
    let failed: Result<(), GroupError<Broken>> = run(async {
        try_task_group!(all_errors, error = Broken, |tg| {
            let failing = |text, bomb: Option<DropBomb>| {
                poll_fn(move |_| {
                    let _owned = &bomb;
                    Poll::Ready(Err::<(), _>(Broken(text)))
                })
            };
            tg.spawn(failing("first", Some(DropBomb("second"))));
            tg.spawn(failing("third", None));
        })
    });
    let failures: Vec<_> = failed.unwrap_err().into_failures().map(|failure| failure.to_string()).collect();
    assert_eq!(failures, ["first", "panicked: second", "third"]);
}

#[test]
fn all_errors_begins_with_the_destructor_of_a_cancelled_task_and_who_awaits_a_failed_one_adds_none() {
    let failed: Result<(), GroupError<&str>> = run(async {
        try_task_group!(all_errors, error = &str, |tg| {
            let armed = tg.spawn(async {
                let _bomb = DropBomb("destructor");
                pending::<()>().await;
                Ok(())
            });
            yield_now().await;
            let failing = tg.spawn(async { Err::<(), _>("error") });
            tg.spawn(async {
                failing.await;
                Ok(())
            });
            drop(armed.cancel());
            yield_now().await;
        })
    });
    let failures: Vec<_> = failed.unwrap_err().into_failures().map(|failure| failure.to_string()).collect();
    assert_eq!(failures, ["panicked: destructor", "error"]);
}

#[test]
fn the_first_of_all_errors_is_in_the_text_and_what_is_behind_it_is_the_source() {
    let error = run(several(&Promise::new())).unwrap_err();
    assert!(matches!(error.first(), Failure::Error(Broken("first"))));
    assert_eq!(error.others().len(), 2);
    assert_eq!(texts(&error), ["first (and 2 more failures)"]);

    #[derive(Debug)]
    struct Outer(Broken);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("outer")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    let failed: Result<(), GroupError<Outer>> = run(async {
        try_task_group!(all_errors, error = Outer, |tg| {
            tg.spawn(async { Err::<(), _>(Outer(Broken("inner"))) });
        })
    });
    let error = failed.unwrap_err();
    assert_eq!(texts(&error), ["outer", "inner"]);
    assert_eq!(texts(error.first()), ["outer", "inner"]);
}

#[test]
fn all_errors_go_where_an_error_has_to_be_send_and_sync_and_a_panic_has_its_payload() {
    fn boxed(gate: &Promise<()>) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(run(several(gate))?)
    }
    let error = boxed(&Promise::new()).unwrap_err().downcast::<GroupError<Broken>>().unwrap();
    assert_eq!(error.iter().count(), 3);
    let panic = error.into_failures().find_map(|failure| match failure {
        Failure::Panic(panic) => Some(panic),
        Failure::Error(_) => None,
    });
    assert_eq!(panic_text(|| panic.unwrap().resume()), "second");
}

/// The texts of an error and of what is behind it.
fn texts(error: &(dyn Error + 'static)) -> Vec<String> {
    std::iter::successors(Some(error), |&error| error.source()).map(ToString::to_string).collect()
}

#[test]
fn all_errors_keeps_what_fails_in_the_cleanup() {
    let error = run(async {
        let result: Result<(), GroupError<Broken>> = try_task_group!(all_errors, error = Broken, |tg| {
            tg.spawn(async {
                bracket((), async |()| sleep(LONG).await, async |()| panic!("cleanup")).await;
                Ok(())
            });
            rounds(2).await;
            tg.spawn(async { Err::<(), _>(Broken("first")) });
            tg.defer(async { panic!("deferred") });
        });
        result.unwrap_err()
    });
    let failures: Vec<_> = error.into_failures().map(|failure| failure.to_string()).collect();
    assert_eq!(failures, ["first", "panicked: cleanup", "panicked: deferred"]);
}

#[test]
fn a_body_that_awaits_the_task_that_failed_adds_no_failure() {
    let error = run(async {
        let result: Result<(), GroupError<Broken>> = try_task_group!(all_errors, error = Broken, |tg| {
            let failing: Task<()> = tg.spawn(async { Err(Broken("first")) });
            tg.spawn(async {
                rounds(3).await;
                Ok(())
            });
            failing.await;
        });
        result.unwrap_err()
    });
    assert!(error.others().is_empty(), "{error:?}");
}

#[test]
fn a_task_that_awaits_the_task_that_failed_adds_no_failure_wherever_it_stands() {
    // With so many between the two that the round takes more than one turn.
    for (is_first, n_between) in [(true, 0), (false, 0), (false, 1000)] {
        let handle = RefCell::<Option<Task<()>>>::default();
        let awaits = async || {
            let failing = handle.borrow_mut().take().unwrap();
            // In a group of its own, which would fail with it.
            task_group!(|inner| inner.spawn(failing).await);
            Ok(())
        };
        let result: Result<(), GroupError<Broken>> = run(async {
            try_task_group!(all_errors, error = Broken, |tg| {
                if is_first {
                    tg.spawn(awaits());
                }
                *handle.borrow_mut() = Some(tg.spawn(async { Err(Broken("first")) }));
                for _ in 0..n_between {
                    tg.spawn(async { Ok(()) });
                }
                if !is_first {
                    tg.spawn(awaits());
                }
            })
        });
        let error = result.unwrap_err();
        assert!(error.others().is_empty(), "{error:?}");
    }
}

#[test]
fn all_errors_of_what_a_deferred_cleanup_has_spawned_are_kept() {
    let result: Result<(), GroupError<usize>> = run(async {
        try_task_group!(all_errors, error = usize, |tg| {
            tg.defer(async {
                for number in 0..1000 {
                    tg.spawn(async move { Err::<(), _>(number) });
                }
            });
        })
    });
    assert_eq!(result.unwrap_err().others().len(), 999);
}

#[test]
fn all_errors_without_an_error_is_the_value() {
    let result: Result<i32, GroupError<Broken>> = run(async {
        try_task_group!(all_errors, error = Broken, |tg| {
            let task = tg.spawn(async { Ok(7) });
            task.await
        })
    });
    assert_eq!(result.unwrap(), 7);
}

#[test]
fn a_try_group_cancels_cleanly() {
    assert_cancels_cleanly(|| async {
        let _result: Result<(), Broken> = try_task_group!(error = _, |tg| {
            tg.spawn(async {
                sleep(LONG).await;
                Err::<(), _>(Broken("never"))
            });
        });
    });
}
