//! Destructors that panic, spawn, cancel, wake and free, at the worst moment. Nothing aborts, nothing is dropped twice.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use xiio::inspect::ReportKind;
use xiio::thread::ThreadPool;
use xiio::{Task, bracket, race, shield, sleep, task_group, timeout, try_task_group, yield_now};
use xiio_tests::poll::OnDrop;
use xiio_tests::{DropBomb, DropCount, Reports, Trace, assert_panics, millis, panic_text, rounds, run};

/// Ready at once with a value, and still something to drop.
struct Holds<T, U>(Option<T>, U);

impl<T: Unpin, U: Unpin> Future for Holds<T, U> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<T> {
        Poll::Ready(self.0.take().unwrap())
    }
}

/// A panic whose payload panics when it is dropped.
struct Payload;

impl Drop for Payload {
    fn drop(&mut self) {
        panic!("a payload");
    }
}

#[test]
fn future_and_output_that_both_panic_when_dropped() {
    let reports = Reports::new();
    for keeps_handle in [true, false] {
        assert_panics(&["the future"], || {
            run(async {
                task_group!(|tg| {
                    let task = tg.spawn(Holds(Some(DropBomb("the output")), DropBomb("the future")));
                    if keeps_handle {
                        drop(task.outcome().await);
                    }
                });
            });
        });
    }
    assert_eq!(reports.kinds(), [ReportKind::LaterFailure; 2], "{:?}", reports.texts());
}

#[test]
fn value_of_the_body_that_panics_when_dropped_beside_a_panic() {
    let reports = Reports::new();
    assert_panics(&["the task"], || {
        run(async {
            let _bomb = task_group!(|tg| {
                tg.spawn(async {
                    rounds(2).await;
                    panic!("the task");
                });
                DropBomb("the value")
            });
        });
    });
    reports.assert_one(ReportKind::LaterFailure, &["the value"]);
}

#[test]
fn error_value_that_panics_when_dropped() {
    let reports = Reports::new();
    let failed: Result<(), DropBomb> = run(async {
        xiio::try_task_group!(error = DropBomb, |tg| {
            tg.spawn(async { Err::<(), _>(DropBomb("first")) });
            tg.spawn(async {
                bracket((), async |_| pending::<()>().await, async |()| yield_now().await).await;
                Ok(())
            });
            tg.spawn(async { shield(async { Err::<(), _>(DropBomb("second")) }).await });
        })
    });
    assert_panics(&["first"], || drop(failed));
    drop(reports);
}

#[test]
fn payloads_that_panic_when_dropped() {
    let reports = Reports::new();
    let n_ended = DropCount::new();
    let caught = catch_unwind(AssertUnwindSafe(|| {
        run(async {
            task_group!(|tg| {
                for _ in 0..3 {
                    let flag = n_ended.flag();
                    tg.spawn(async move {
                        flag.touch();
                        let hold = OnDrop(|| panic_any(Payload));
                        let release = async |()| {
                            yield_now().await;
                            panic_any(Payload);
                        };
                        bracket((), async |_| pending::<()>().await, release).await;
                        drop(hold);
                    });
                }
                tg.spawn(async {
                    rounds(3).await;
                    panic_any(Payload);
                });
                pending::<()>().await;
            });
        });
    }));
    // A payload that must not be dropped.
    xiio_tests::poll::leak(caught.unwrap_err());
    assert_eq!(n_ended.n_alive(), 0);
    assert!(reports.kinds().iter().all(|kind| *kind == ReportKind::LaterFailure));
}

#[test]
fn bracket_releases_after_a_use_that_panics_twice() {
    struct Twice;
    impl Future for Twice {
        type Output = ();
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            panic!("the poll");
        }
    }
    impl Drop for Twice {
        fn drop(&mut self) {
            panic!("the destructor");
        }
    }
    let released = Cell::new(false);
    let _reports = Reports::new();
    assert_panics(&["the poll"], || {
        run(bracket((), |_: &mut ()| Twice, async |()| released.set(true)));
    });
    assert!(released.get());
}

#[test]
fn bracket_releases_after_a_use_that_panics_before_it_is_a_future() {
    fn refuse(_: &mut ()) -> std::future::Ready<()> {
        panic!("no future");
    }
    let released = Cell::new(false);
    assert_panics(&["no future"], || run(bracket((), refuse, async |()| released.set(true))));
    assert!(released.get());
}

#[test]
fn bracket_reports_a_release_that_panics_before_it_is_a_future() {
    fn refuse(_: i32) -> std::future::Ready<()> {
        panic!("no release");
    }
    let reports = Reports::new();
    assert_panics(&["the use"], || run(bracket(5, async |_| panic!("the use"), refuse)));
    reports.assert_one(ReportKind::LaterFailure, &["no release"]);
}

/// Scenario 65: everything a destructor may do to the group and the runtime it dies in.
#[test]
fn destructors_of_cancelled_tasks_spawn_cancel_wake_and_run() {
    let trace = Trace::new();
    let waker: RefCell<Option<Waker>> = RefCell::default();
    let sibling: RefCell<Option<Task<()>>> = RefCell::default();
    run(async {
        task_group!(|tg| {
            *sibling.borrow_mut() = Some(tg.spawn(pending()));
            let victim = tg.spawn(async {
                let _last = OnDrop(|| {
                    tg.spawn(async { trace.note("spawned ran") });
                    tg.cancel();
                    tg.spawn(async {
                        yield_now().await;
                        trace.note("spawned after the cancellation ran");
                    });
                    tg.defer(async { trace.note("deferred ran") });
                    drop(sibling.take().unwrap().cancel());
                    waker.take().unwrap().wake();
                    let text = panic_text(|| xiio::run(async {}));
                    assert!(text.contains("inside a running"), "{text}");
                    trace.note("dropped");
                });
                poll_fn(|cx| {
                    *waker.borrow_mut() = Some(cx.waker().clone());
                    Poll::<()>::Pending
                })
                .await;
            });
            rounds(2).await;
            assert!(victim.cancel().await.is_none());
            trace.note("victim ended");
        });
    });
    let events = trace.take();
    assert_eq!(events.first().map(String::as_str), Some("dropped"));
    assert_eq!(events.last().map(String::as_str), Some("deferred ran"));
    assert!(events.contains(&"spawned after the cancellation ran".into()));
    assert!(!events.contains(&"spawned ran".into()), "it was there when the group was cancelled: {events:?}");
}

/// The same when the whole group is dropped half-way: all of it is refused, and nothing is lost.
#[test]
fn destructors_of_a_dropped_group_are_refused() {
    let reports = Reports::new();
    let n_dropped = DropCount::new();
    run(async {
        let group = async {
            task_group!(|tg| {
                let handle: Rc<RefCell<Option<Task<()>>>> = Rc::default();
                let flags = [n_dropped.flag(), n_dropped.flag(), n_dropped.flag()];
                let inner = Rc::clone(&handle);
                *handle.borrow_mut() = Some(tg.spawn(async move {
                    let [a, b, c] = flags;
                    let mut late = Some((a, b));
                    let _last = OnDrop(move || {
                        let (a, b) = late.take().unwrap();
                        tg.cancel();
                        drop(inner.take());
                        drop(tg.spawn(async move { a.touch() }));
                        tg.defer(async move { b.touch() });
                    });
                    c.touch();
                    pending::<()>().await;
                }));
                let _body = OnDrop(|| {
                    assert!(tg.spawn(async {}).is_finished());
                    tg.cancel();
                });
                pending::<()>().await;
            });
        };
        let mut group = Box::pin(group);
        assert!(xiio_tests::poll_once(group.as_mut()).await.is_pending());
        drop(group);
    });
    assert_eq!(n_dropped.n_alive(), 0);
    assert_eq!(reports.kinds(), [ReportKind::Refused; 3], "{:?}", reports.texts());
}

/// A group that may fail has memory for errors, which nobody frees after its end: so it takes none. A sanitizer tells.
#[test]
fn a_task_that_is_refused_by_a_group_which_may_fail_leaks_nothing() {
    let reports = Reports::new();
    run(async {
        let group = async {
            let ended: Result<(), &str> = try_task_group!(error = &str, |tg| {
                let _body = OnDrop(|| assert!(tg.spawn(async { Ok(()) }).is_finished()));
                pending::<()>().await;
            });
            ended.unwrap();
        };
        let mut group = Box::pin(group);
        assert!(xiio_tests::poll_once(group.as_mut()).await.is_pending());
        drop(group);
    });
    assert_eq!(reports.kinds(), [ReportKind::Refused]);
}

/// A panic unwinds through a scope that holds a half-run group, whose destructors panic as well.
#[test]
fn group_dropped_by_a_panic_whose_tasks_panic_when_dropped() {
    let reports = Reports::new();
    assert_panics(&["the outer one"], || {
        run(async {
            let mut group = Box::pin(async {
                task_group!(|tg| {
                    for _ in 0..3 {
                        tg.spawn(async {
                            let _bomb = DropBomb("a task");
                            pending::<()>().await;
                        });
                    }
                    tg.defer(Holds(Some(()), DropBomb("a deferred cleanup")));
                    tg.defer(Holds(Some(()), DropBomb("another")));
                    pending::<()>().await;
                });
            });
            assert!(xiio_tests::poll_once(group.as_mut()).await.is_pending());
            panic!("the outer one");
        });
    });
    assert!(reports.kinds().len() >= 4, "{:?}", reports.texts());
}

#[test]
fn panicking_destructors_of_losers_and_of_what_timed_out() {
    let reports = Reports::new();
    let racer = async |n: u64| {
        let _bomb = (n > 0).then(|| DropBomb("a loser"));
        sleep(millis(n * 3_600_000 + 1)).await;
        n
    };
    assert_panics(&["a loser"], || run(race([racer(0), racer(1), racer(2)])));
    reports.assert_one(ReportKind::LaterFailure, &["panicked as well: a loser"]);
    assert_panics(&["too late"], || {
        run(timeout(millis(1), async {
            let _bomb = DropBomb("too late");
            pending::<()>().await;
        }))
    });
}

/// A task that holds its own handle, and one that holds its sibling's.
#[test]
fn handles_that_are_dropped_by_the_task_they_are_of() {
    let n_dropped = DropCount::new();
    run(async {
        let own: Rc<RefCell<Option<Task<_>>>> = Rc::default();
        for is_cancelled in [false, true] {
            task_group!(|tg| {
                let inner = Rc::clone(&own);
                let flag = n_dropped.flag();
                let task = tg.spawn(async move {
                    let _last = OnDrop(move || drop(inner.take()));
                    rounds(2).await;
                    flag
                });
                *own.borrow_mut() = Some(task);
                if is_cancelled {
                    yield_now().await;
                    tg.cancel();
                }
            });
            assert!(own.borrow().is_none());
        }
    });
    assert_eq!(n_dropped.n_alive(), 0);
}

/// The output owns the handle of the task that is about to free it.
#[test]
fn output_that_owns_the_last_handle_of_another_task() {
    let n_dropped = DropCount::new();
    run(async {
        task_group!(|tg| {
            let mut chain: Option<Box<dyn std::any::Any>> = None;
            for _ in 0..5 {
                let flag = n_dropped.flag();
                let below = chain.take();
                let task = tg.spawn(async move {
                    yield_now().await;
                    (flag, below)
                });
                rounds(2).await;
                assert!(task.is_finished());
                chain = Some(Box::new(task));
            }
            assert_eq!(n_dropped.get(), 0);
        });
    });
    assert_eq!(n_dropped.n_alive(), 0);
}

/// No expansion makes two. Through the hidden names it would take no `unsafe` to poll a task from within itself.
#[test]
fn a_second_guard_of_a_group_is_refused() {
    use xiio::__private::{GroupOptions, Guard, task_group};

    let group: &'static _ = xiio_tests::poll::leak(task_group(GroupOptions::new()));
    let first = Guard::new(group);
    assert_panics(&["one guard"], || drop(Guard::new(group)));
    drop(first);
    assert_panics(&["one guard"], || drop(Guard::new(group)));
}

// Second panics: what xiio holds of the user is dropped beside a panic, and panics as well.

/// Asserts that `scene` panics with `text`, and that the drops of `n_bombs` beside it are reported.
#[track_caller]
fn assert_second_panics_reported<F: Future>(text: &str, n_bombs: usize, scene: impl FnOnce() -> F) {
    let reports = Reports::new();
    assert_eq!(panic_text(|| run(scene())), text);
    assert_eq!(reports.kinds(), vec![ReportKind::LaterFailure; n_bombs], "{:?}", reports.texts());
    assert!(reports.texts().iter().all(|text| text.contains("a bomb")), "{:?}", reports.texts());
}

async fn late_panic() -> DropBomb {
    rounds(3).await;
    panic!("first")
}

async fn bomb() -> DropBomb {
    DropBomb("a bomb")
}

#[test]
fn handles_with_outputs_that_are_dropped_by_an_unwinding() {
    assert_second_panics_reported("first", 2, || async {
        task_group!(|tg| {
            let _tasks = [tg.spawn(bomb()), tg.spawn(bomb())];
            yield_now().await;
            panic!("first");
        })
    });
}

#[test]
fn handles_with_outputs_of_which_the_first_begins_the_unwinding() {
    assert_second_panics_reported("a bomb", 1, || async {
        task_group!(|tg| {
            let tasks = [tg.spawn(bomb()), tg.spawn(bomb())];
            yield_now().await;
            drop(tasks);
        });
    });
}

#[test]
fn outputs_of_a_join_a_gather_and_their_like_beside_a_panic() {
    assert_second_panics_reported("first", 3, || async {
        xiio::join!(bomb(), bomb(), late_panic(), bomb());
    });
    assert_second_panics_reported("first", 2, || async {
        xiio::gather(
            [true, true, false].map(|is_bomb| async move { if is_bomb { bomb().await } else { late_panic().await } }),
        )
        .await;
    });
    assert_second_panics_reported("first", 2, || async {
        let _: Result<_, ()> =
            xiio::try_join!(async { Ok(bomb().await) }, async { Ok(bomb().await) }, async { Ok(late_panic().await) });
    });
    assert_second_panics_reported("first", 2, || async {
        let futures = [true, true, false]
            .map(|is_bomb| async move { if is_bomb { Ok::<_, ()>(bomb().await) } else { Ok(late_panic().await) } });
        drop(xiio::try_gather(futures).await);
    });
}

#[test]
fn queue_of_as_completed_beside_a_panic() {
    assert_second_panics_reported("first", 3, || async {
        xiio::as_completed([(); 3].map(|()| bomb())).consume(async |_| drop(late_panic().await)).await;
    });
}

#[test]
fn value_of_a_bracket_beside_the_panic_of_its_release() {
    assert_second_panics_reported("first", 1, || bracket((), async |()| bomb().await, async |()| panic!("first")));
    assert_second_panics_reported("first", 1, || {
        race([(); 2].map(|()| bracket((), async |()| bomb().await, async |()| panic!("first"))))
    });
}

#[test]
fn value_of_a_bracket_that_an_unwinding_drops_while_it_releases() {
    let reports = Reports::new();
    let scene = async || {
        let mut bracket = Box::pin(bracket((), async |()| bomb().await, async |()| pending().await));
        assert!(xiio_tests::poll_once(bracket.as_mut()).await.is_pending());
        panic!("first");
    };
    assert_panics(&["first"], || run(scene()));
    assert_eq!(reports.kinds(), [ReportKind::CleanupSkipped, ReportKind::LaterFailure], "{:?}", reports.texts());
}

#[test]
fn value_beside_a_future_that_panics_when_it_is_dropped() {
    let value_and_bomb = || Holds(Some(DropBomb("a bomb")), DropBomb("first"));
    assert_second_panics_reported("first", 1, || timeout(millis(1000), value_and_bomb()));
    assert_second_panics_reported("first", 1, || shield(value_and_bomb()));
}

#[test]
fn exit_of_a_body_beside_a_panic_that_drops_the_group() {
    assert_second_panics_reported("first", 1, || async {
        let group = async {
            drop(task_group!(|tg| {
                tg.spawn(pending::<()>());
                DropBomb("a bomb")
            }));
        };
        let mut group = Box::pin(group);
        assert!(xiio_tests::poll_once(group.as_mut()).await.is_pending());
        panic!("first");
    });
}

#[test]
fn result_of_a_thread_job_beside_a_panic() {
    assert_second_panics_reported("first", 1, || async {
        let pool = ThreadPool::new(1);
        let mut job = Box::pin(pool.run(|| DropBomb("a bomb")));
        assert!(xiio_tests::poll_once(job.as_mut()).await.is_pending());
        // The one thread has finished the first job when it comes to the next.
        pool.run(|| ()).await;
        panic!("first");
    });
}

#[test]
fn a_destructor_in_a_cancelled_timeout_does_not_cut_off_the_cleanup_beside_it() {
    let trace = Trace::new();
    for is_branch in [false, true] {
        let inner = RefCell::new(Some(Box::pin(bracket((), async |()| pending::<()>().await, async |()| ()))));
        assert_panics(&["destructor"], || {
            run(async {
                task_group!(|tg| {
                    let polls_inner = async {
                        let _bomb = DropBomb("destructor");
                        poll_fn(|cx| {
                            inner.borrow_mut().as_mut().map_or(Poll::Pending, |inner| inner.as_mut().poll(cx))
                        })
                        .await;
                    };
                    let limited = async {
                        match is_branch {
                            true => xiio::branch(polls_inner).await,
                            false => drop(timeout(millis(60_000), polls_inner).await),
                        }
                    };
                    let beside = bracket(
                        (),
                        async |()| pending::<()>().await,
                        async |()| {
                            rounds(3).await;
                            trace.note("released");
                        },
                    );
                    let task = tg.spawn(async {
                        futures::join!(beside, limited);
                    });
                    rounds(2).await;
                    // Who limits it does not hear of it.
                    drop(inner.take());
                    task.cancel().await;
                });
            });
        });
    }
    trace.assert(&["released", "released"]);
}
