//! Futures that are polled once and then leaked, moved to another owner, or freed from the inside. To be run under
//! `AddressSanitizer`, which sees what is touched after its end; the leaks are meant.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use xiio::inspect::ReportKind;
use xiio::{Promise, Task, bracket, branch, gather, race, shield, sleep, task_group, timeout, yield_now};
use xiio_tests::poll;
use xiio_tests::{DropCount, LONG, Reports, Trace, assert_panics, millis, poll_once, rounds, run, run_virtually};

type Boxed<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Polls `future` once and leaks it.
async fn leak(future: impl Future<Output = ()>) {
    let mut future = Box::pin(future);
    assert!(poll_once(future.as_mut()).await.is_pending());
    poll::leak(future);
}

/// Scenarios 60 and 61: what is leaked in a task is not touched when that is cancelled, and nobody waits for it.
#[test]
fn leaked_futures_are_not_touched_by_the_cancellation_of_their_task() {
    let reports = Reports::new();
    let n_touched = Cell::new(0);
    for n in 0..8 {
        run(async {
            task_group!(|tg| {
                let task = tg.spawn(async {
                    {
                        let text = vec![String::from("borrowed by what is leaked")];
                        let touch = || n_touched.set(n_touched.get() + text.len());
                        let wait = || async {
                            sleep(LONG).await;
                            touch();
                        };
                        let held = || async { bracket((), async |_| wait().await, async |()| touch()).await };
                        match n {
                            0 => leak(held()).await,
                            1 => leak(shield(wait())).await,
                            2 => leak(async { _ = timeout(LONG, held()).await }).await,
                            3 => leak(async { drop(gather([held(), held()]).await) }).await,
                            4 => leak(async { race([held(), held()]).await }).await,
                            5 => leak(branch(held())).await,
                            6 => {
                                leak(async {
                                    task_group!(|inner| {
                                        inner.spawn(held());
                                        inner.spawn(wait());
                                        inner.defer(async { touch() });
                                        held().await;
                                    });
                                })
                                .await;
                            }
                            _ => {
                                let all: FuturesUnordered<_> = (0..3).map(|_| held()).collect();
                                leak(async move { drop(all.collect::<Vec<_>>().await) }).await;
                            }
                        }
                        drop(text);
                    }
                    sleep(LONG).await;
                });
                rounds(3).await;
                assert!(task.cancel().await.is_none());
            });
        });
    }
    assert_eq!(n_touched.get(), 0);
    assert!(reports.kinds().iter().all(|kind| *kind == ReportKind::Unreachable), "{:?}", reports.texts());
    assert_eq!(reports.kinds().len(), 8);
}

/// The handles and wakers of a leaked group outlive everything that its tasks borrow.
#[test]
fn handles_and_wakers_of_a_leaked_group_touch_nothing() {
    let waker: RefCell<Option<Waker>> = RefCell::default();
    let handles: RefCell<Vec<Task<()>>> = RefCell::default();
    run(async {
        {
            let text = vec![String::from("borrowed by a task")];
            leak(async {
                task_group!(|tg| {
                    let text = &text;
                    for _ in 0..3 {
                        handles.borrow_mut().push(tg.spawn(async {
                            poll_fn(|cx| {
                                *waker.borrow_mut() = Some(cx.waker().clone());
                                assert_eq!(text.len(), 1);
                                Poll::<()>::Pending
                            })
                            .await;
                        }));
                    }
                    pending::<()>().await;
                });
            })
            .await;
        }
        let waker = waker.take().unwrap();
        waker.wake_by_ref();
        let mut handles = handles.take().into_iter();
        drop(handles.next());
        drop(handles.next().unwrap().cancel());
        let mut last = handles.next().unwrap().cancel();
        assert!(poll_once(Pin::new(&mut last)).await.is_pending());
        std::thread::spawn(move || waker.wake()).join().unwrap();
        rounds(3).await;
    });
}

/// What is leaked waits for timers, descriptors and promises that outlive it, and for the end of the run.
#[test]
fn leaked_waits_outlive_their_run() {
    let promise = Promise::new();
    let waited = promise.clone();
    run(async move {
        let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
        leak(sleep(millis(1))).await;
        leak(sleep(LONG)).await;
        leak(async { xiio::readable(&a).await.unwrap() }).await;
        leak(async move { waited.wait().await }).await;
        sleep(millis(5)).await;
    });
    promise.set(()).unwrap();
    run(sleep(millis(1)));
}

/// Scenario 62: a cleanup that frees the future of another node, whose cleanup the scope is waiting for.
#[test]
fn cleanup_that_frees_another_cleanup_in_the_middle() {
    let trace = Trace::new();
    let other: Rc<RefCell<Option<Boxed<'_>>>> = Rc::default();
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(async {
                *other.borrow_mut() = Some(Box::pin(async {
                    let release = async |()| {
                        trace.note("other begins");
                        sleep(LONG).await;
                        trace.note("other ends");
                    };
                    bracket((), async |_| pending::<()>().await, release).await;
                }));
                let first = bracket(
                    (),
                    async |_| pending::<()>().await,
                    async |()| {
                        rounds(2).await;
                        drop(other.take());
                        trace.note("freed");
                    },
                );
                let mut first = Box::pin(first);
                poll_fn(|cx| {
                    if let Some(other) = other.borrow_mut().as_mut() {
                        assert!(other.as_mut().poll(cx).is_pending());
                    }
                    first.as_mut().poll(cx)
                })
                .await;
            });
            rounds(2).await;
            assert!(task.cancel().await.is_none());
        });
    });
    trace.assert(&["other begins", "freed"]);
}

/// The same from another task, which nothing of the cancelled one hears of.
#[test]
fn cleanup_that_is_freed_by_another_task_is_waited_for_no_longer() {
    let began = Cell::new(false);
    let other: Rc<RefCell<Option<Boxed<'_>>>> = Rc::default();
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(async {
                *other.borrow_mut() = Some(Box::pin(async {
                    let release = async |()| {
                        began.set(true);
                        sleep(LONG).await;
                    };
                    bracket((), async |_| pending::<()>().await, release).await;
                }));
                poll_fn(|cx| match other.borrow_mut().as_mut() {
                    Some(other) => other.as_mut().poll(cx),
                    None => Poll::Pending,
                })
                .await;
            });
            rounds(2).await;
            let ended = task.cancel();
            rounds(5).await;
            assert!(began.get());
            drop(other.take());
            assert!(ended.await.is_none());
        });
    });
}

/// A cleanup that is freed from its own inside: the cell is empty while it is polled, so nothing is freed but afterwards.
#[test]
fn cleanup_that_wants_to_free_itself() {
    let own: Rc<Cell<Option<Boxed<'static>>>> = Rc::default();
    let n_released = Rc::new(Cell::new(0));
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(async {
                let (inner, count) = (Rc::clone(&own), Rc::clone(&n_released));
                own.set(Some(Box::pin(bracket(
                    (),
                    async |_| pending::<()>().await,
                    async move |()| {
                        assert!(inner.take().is_none());
                        yield_now().await;
                        assert!(inner.take().is_none());
                        count.set(count.get() + 1);
                    },
                ))));
                poll_fn(|cx| {
                    let mut taken = own.take().unwrap();
                    let polled = taken.as_mut().poll(cx);
                    own.set(Some(taken));
                    polled
                })
                .await;
            });
            rounds(2).await;
            assert!(task.cancel().await.is_none());
        });
    });
    assert_eq!(n_released.get(), 1);
    drop(own.take());
}

/// Scenario 63.
#[test]
fn future_with_limits_inside_is_polled_under_one_limit_after_the_other() {
    run_virtually(async {
        let mut work = Box::pin(async {
            for _ in 0..3 {
                timeout(LONG, sleep(millis(5))).await.unwrap();
            }
        });
        let mut n_limits = 0;
        while timeout(millis(2), &mut work).await.is_err() {
            n_limits += 1;
        }
        assert!(n_limits >= 3, "{n_limits}");
    });
    assert_panics(&["bracket", "after its cancellation"], || {
        run(async {
            let mut work = Box::pin(bracket((), async |_| sleep(LONG).await, async |()| ()));
            while timeout(millis(1), &mut work).await.is_err() {}
        });
    });
}

/// Scenario 64: a node begins under one owner, goes on under another, and the first one ends.
#[test]
fn bracket_that_moves_to_another_task_is_that_ones_to_clean_up() {
    for first_is_cancelled in [false, true] {
        let trace = Trace::new();
        run(async {
            let slot: Cell<Option<Boxed<'_>>> = Cell::default();
            task_group!(|tg| {
                let first = tg.spawn(async {
                    let release = async |()| trace.note("released");
                    let mut held: Boxed<'_> = Box::pin(bracket((), async |_| pending::<()>().await, release));
                    assert!(poll_once(held.as_mut()).await.is_pending());
                    slot.set(Some(held));
                    if first_is_cancelled {
                        sleep(LONG).await;
                    }
                });
                rounds(2).await;
                let held = slot.take().unwrap();
                let second = tg.spawn(held);
                rounds(2).await;
                if first_is_cancelled {
                    assert!(first.cancel().await.is_none());
                } else {
                    first.await;
                }
                rounds(2).await;
                assert!(trace.is_empty());
                assert!(second.cancel().await.is_none());
                trace.assert(&["released"]);
            });
        });
    }
}

/// A whole group, half run, goes to another task; its first parent ends.
#[test]
fn group_that_moves_to_another_task_goes_on_there() {
    let n_dropped = DropCount::new();
    run(async {
        let promise = Promise::new();
        let slot: Cell<Option<Boxed<'_>>> = Cell::default();
        task_group!(|tg| {
            let first = tg.spawn(async {
                let mut group: Boxed<'_> = Box::pin(async {
                    task_group!(|inner| {
                        for _ in 0..3 {
                            let flag = n_dropped.flag();
                            inner.spawn(async {
                                promise.wait().await;
                                flag
                            });
                        }
                    });
                });
                assert!(poll_once(group.as_mut()).await.is_pending());
                slot.set(Some(group));
            });
            first.await;
            let second = tg.spawn(slot.take().unwrap());
            yield_now().await;
            promise.set(()).unwrap();
            second.await;
        });
    });
    assert_eq!((n_dropped.get(), n_dropped.n_alive()), (3, 0));
}

/// Handles that are kept after their group, and after the run.
#[test]
fn handles_outlive_the_group_and_the_run() {
    let n_dropped = DropCount::new();
    let mut kept = run(async {
        let tasks = task_group!(|tg| {
            let flag = n_dropped.flag();
            [tg.spawn(async { flag }), {
                let flag = n_dropped.flag();
                tg.spawn(async {
                    yield_now().await;
                    flag
                })
            }]
        });
        assert!(tasks.iter().all(Task::is_finished));
        tasks
    });
    assert_eq!(n_dropped.get(), 0);
    let [first, second] = &mut kept;
    drop(first.take());
    assert_eq!(n_dropped.get(), 1);
    drop(second.take());
    assert!(second.take().is_none());
    drop(kept.map(Task::cancel));
    assert_eq!(n_dropped.n_alive(), 0);
}

/// Scenario 23.
#[test]
fn cancelling_twice_itself_and_what_has_ended() {
    let n_dropped = DropCount::new();
    run(async {
        let slot: RefCell<Option<Task<()>>> = RefCell::default();
        task_group!(|tg| {
            for _ in 0..2 {
                let flag = n_dropped.flag();
                let own = tg.spawn(async {
                    yield_now().await;
                    let mut ended = slot.take().unwrap().cancel();
                    tg.cancel();
                    assert!(poll_once(Pin::new(&mut ended)).await.is_pending());
                    drop(flag);
                });
                *slot.borrow_mut() = Some(own);
                rounds(4).await;
            }
            let done = tg.spawn(async { 5 });
            rounds(2).await;
            tg.cancel();
            tg.cancel();
            assert_eq!(done.cancel().await, Some(5));
        });
    });
    assert_eq!((n_dropped.get(), n_dropped.n_alive()), (2, 0));
}
