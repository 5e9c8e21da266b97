//! Foreign company: combinators that drop, executors of others around and inside, wakers and futures that misbehave.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::stream::{FuturesUnordered, StreamExt};
use futures::{FutureExt, select};
use xiio::inspect::ReportKind;
use xiio::{Promise, bracket, branch, sleep, task_group, timeout, yield_now};
use xiio_tests::{
    DropBomb, DropCount, LONG, Reports, Trace, WakeBomb, WakeCount, assert_panics, drop_half_way, millis, rounds, run,
    run_virtually,
};

// What a foreign combinator drops half-way.

#[test]
fn the_loser_of_a_foreign_select_gets_its_destructors_and_no_awaiting_cleanup() {
    let trace = Trace::new();
    let reports = Reports::new();
    run_virtually(async {
        {
            let mut loser = pin!(
                bracket(
                    trace.on_drop("resource dropped"),
                    async |_| sleep(LONG).await,
                    async |_| trace.note("released")
                )
                .fuse()
            );
            let mut winner = pin!(sleep(millis(1)).fuse());
            select! { () = loser => trace.note("lost"), () = winner => trace.note("won") }
        }
        trace.note("after the select");
        sleep(millis(1)).await;
    });
    trace.assert(&["won", "resource dropped", "after the select"]);
    reports.assert_one(ReportKind::CleanupSkipped, &["a `bracket`", "foreign.rs"]);
}

#[test]
fn everything_that_waits_can_be_dropped_half_way_and_the_runtime_goes_on() {
    let (a, _b) = UnixStream::pair().unwrap();
    let promise = Promise::<()>::new();
    // The tester fails when a timer or a source is left behind.
    xiio::testing::Tester::new().run(|| async {
        for _ in 0..3 {
            drop_half_way(sleep(LONG)).await;
            drop_half_way(timeout(LONG, sleep(LONG))).await;
            drop_half_way(branch(promise.wait())).await;
            drop_half_way(xiio::readable(&a)).await;
            drop_half_way(xiio::gather([sleep(LONG), sleep(LONG)])).await;
            drop_half_way(xiio::race([sleep(LONG), sleep(LONG)])).await;
            drop_half_way(xiio::shield(sleep(LONG))).await;
            drop_half_way(bracket((), async |()| sleep(LONG).await, async |()| ())).await;
            drop_half_way(yield_now()).await;
            drop_half_way(async {
                task_group!(|tg| {
                    tg.spawn(xiio::readable(&a));
                    tg.spawn(promise.wait());
                    task_group!(|inner| {
                        inner.spawn(sleep(LONG));
                    });
                });
            })
            .await;
        }
        timeout(LONG, sleep(millis(1))).await.unwrap();
    });
}

#[test]
fn a_future_dropped_half_way_in_one_task_does_not_cancel_another() {
    let trace = Trace::new();
    run_virtually(async {
        task_group!(|tg| {
            tg.spawn(async {
                let mut never = pin!(sleep(LONG).fuse());
                let mut soon = pin!(rounds(3).fuse());
                select! { () = never => trace.note("never"), () = soon => trace.note("soon") }
                sleep(millis(1)).await;
                trace.note("and on");
            });
        });
    });
    trace.assert(&["soon", "and on"]);
}

#[test]
fn a_cancelled_future_of_futures_unordered_goes_with_it() {
    let drops = DropCount::new();
    run_virtually(async {
        let mut many: FuturesUnordered<_> = (0..100)
            .map(|n| {
                let flag = drops.flag();
                async move {
                    flag.touch();
                    let _flag = flag;
                    sleep(if n == 50 { millis(1) } else { LONG }).await;
                    n
                }
            })
            .collect();
        assert_eq!(many.next().await, Some(50));
        assert_eq!(drops.get(), 1);
        drop(many);
        assert_eq!(drops.get(), 100);
    });
}

#[test]
fn groups_run_inside_foreign_combinators() {
    run(async {
        let sums = futures::future::join_all((0..20).map(async |n: u64| {
            task_group!(|tg| {
                let one = tg.spawn(async move {
                    sleep(millis(n % 3)).await;
                    n
                });
                let two = tg.spawn(async move {
                    rounds(2).await;
                    n
                });
                one.await + two.await
            })
        }));
        assert_eq!(sums.await, (0..20).map(|n| 2 * n).collect::<Vec<_>>());
        let total: u64 = (0..20_u64)
            .map(async |n| {
                task_group!(|tg| {
                    let task = tg.spawn(async move {
                        yield_now().await;
                        n
                    });
                    task.await
                })
            })
            .collect::<FuturesUnordered<_>>()
            .fold(0, async |sum, n| sum + n)
            .await;
        assert_eq!(total, 190);
    });
}

#[test]
fn a_group_in_a_foreign_combinator_is_woken_from_inside_only_when_something_happens() {
    let n_polls = Cell::new(0);
    run_virtually(async {
        let group = async {
            task_group!(|tg| {
                tg.spawn(sleep(millis(5)));
            });
        };
        let mut group = pin!(group);
        let counted = poll_fn(|cx| {
            n_polls.set(n_polls.get() + 1);
            group.as_mut().poll(cx)
        });
        let many: FuturesUnordered<_> = [counted.left_future(), rounds(50).right_future()].into_iter().collect();
        many.collect::<Vec<()>>().await;
    });
    assert!(n_polls.get() <= 3, "polled {} times", n_polls.get());
}

#[test]
fn channels_and_locks_of_others_work_between_tasks() {
    let (sender, receiver) = async_channel::bounded(1);
    let sum = run(async {
        task_group!(|tg| {
            for n in 0..10 {
                let sender = sender.clone();
                tg.spawn(async move { sender.send(n).await.unwrap() });
            }
            drop(sender);
            let mut sum = 0;
            while let Ok(n) = receiver.recv().await {
                sum += n;
            }
            sum
        })
    });
    assert_eq!(sum, 45);
}

#[test]
fn a_foreign_executor_inside_a_task_runs_foreign_futures() {
    let value = run(async {
        task_group!(|tg| {
            let task = tg.spawn(async { futures::executor::block_on(async { 7 }) });
            task.await
        })
    });
    assert_eq!(value, 7);
}

#[test]
fn a_foreign_executor_inside_a_task_is_given_any_number_of_leaves() {
    let promise = xiio::Promise::new();
    promise.set(1).unwrap();
    let sum = run(async {
        task_group!(|tg| {
            let task = tg.spawn(async {
                // There is nobody to give way to: it polls on until it has the sum.
                futures::executor::block_on(async {
                    let mut sum = 0;
                    for _ in 0..1000 {
                        sum += promise.wait().await;
                    }
                    sum
                })
            });
            task.await
        })
    });
    assert_eq!(sum, 1000);
}

// Misbehaving wakers.

#[test]
fn a_waker_that_panics_in_a_timer_ends_nothing() {
    let reports = Reports::new();
    let trace = Trace::new();
    run_virtually(async {
        let mut bombed = Box::pin(sleep(millis(2)));
        let bomb = Waker::from(Arc::new(WakeBomb));
        assert!(bombed.as_mut().poll(&mut Context::from_waker(&bomb)).is_pending());
        task_group!(|tg| {
            tg.spawn(async {
                sleep(millis(2)).await;
                trace.note("the sleeper behind it");
            });
            sleep(millis(10)).await;
        });
    });
    trace.assert(&["the sleeper behind it"]);
    reports.assert_one(ReportKind::LaterFailure, &["waker panic"]);
}

#[test]
fn a_waker_that_panics_in_the_reactor_ends_nothing() {
    let reports = Reports::new();
    let (a, b) = UnixStream::pair().unwrap();
    run_virtually(async {
        let mut bombed = Box::pin(xiio::readable(&a));
        let bomb = Waker::from(Arc::new(WakeBomb));
        assert!(bombed.as_mut().poll(&mut Context::from_waker(&bomb)).is_pending());
        task_group!(|tg| {
            let reader = tg.spawn(xiio::readable(&a));
            sleep(millis(1)).await;
            xiio::write_all(&b, b"x").await.unwrap();
            reader.await.unwrap();
        });
    });
    reports.assert_one(ReportKind::LaterFailure, &["waker panic"]);
}

#[test]
fn a_waker_that_panics_when_its_task_is_joined_ends_nothing() {
    let reports = Reports::new();
    run(async {
        task_group!(|tg| {
            let mut joined = tg.spawn(rounds(3));
            let bomb = Waker::from(Arc::new(WakeBomb));
            assert!(Pin::new(&mut joined).poll(&mut Context::from_waker(&bomb)).is_pending());
            let other = tg.spawn(rounds(5));
            other.await;
            assert!(joined.is_finished());
        });
    });
    reports.assert_one(ReportKind::LaterFailure, &["waker panics"]);
}

#[test]
fn a_waker_that_panics_in_a_group_it_polls_loses_no_task() {
    let reports = Reports::new();
    let trace = Trace::new();
    run(async {
        let promise = Promise::new();
        let mut group = Box::pin(async {
            task_group!(|tg| {
                tg.spawn(async {
                    promise.wait().await;
                    trace.note("task ended");
                });
            });
        });
        let bomb = Waker::from(Arc::new(WakeBomb));
        assert!(group.as_mut().poll(&mut Context::from_waker(&bomb)).is_pending());
        let _ = catch_unwind(AssertUnwindSafe(|| promise.set(())));
        group.await;
    });
    trace.assert(&["task ended"]);
    drop(reports);
}

#[test]
fn wakers_that_wake_far_too_often_change_nothing() {
    let wakes = WakeCount::new();
    run(async {
        let kept: RefCell<Vec<Waker>> = RefCell::default();
        task_group!(|tg| {
            tg.spawn(poll_fn(|cx| {
                let mut kept = kept.borrow_mut();
                kept.push(cx.waker().clone());
                kept.iter().for_each(Waker::wake_by_ref);
                if kept.len() > 50 { Poll::Ready(()) } else { Poll::Pending }
            }));
        });
        kept.borrow().iter().for_each(Waker::wake_by_ref);
        yield_now().await;
    });
    assert_eq!(wakes.n_wakes(), 0);
}

// Misbehaving futures.

/// Panics in every poll that is asked of it.
struct PollBomb;

impl Future for PollBomb {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        panic!("poll panics");
    }
}

#[test]
fn a_future_that_panics_in_poll_and_in_drop_loses_no_sibling() {
    struct Both(#[expect(dead_code, reason = "dropped")] DropBomb);
    impl Future for Both {
        type Output = ();
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            panic!("poll panics");
        }
    }
    let trace = Trace::new();
    let reports = Reports::new();
    assert_panics(&["poll panics"], || {
        run(async {
            task_group!(|tg| {
                tg.spawn(bracket(
                    (),
                    async |()| sleep(LONG).await,
                    async |()| {
                        sleep(millis(1)).await;
                        trace.note("sibling released");
                    },
                ));
                rounds(1).await;
                tg.spawn(Both(DropBomb("drop panics")));
            });
        });
    });
    trace.assert(&["sibling released"]);
    reports.assert_one(ReportKind::LaterFailure, &["drop panics"]);
}

#[test]
fn a_future_that_panics_in_drop_when_it_has_ended_is_the_group_s_panic() {
    struct EndsBadly;
    impl Future for EndsBadly {
        type Output = i32;
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<i32> {
            Poll::Ready(7)
        }
    }
    impl Drop for EndsBadly {
        fn drop(&mut self) {
            panic!("drop panics");
        }
    }
    let drops = DropCount::new();
    assert_panics(&["drop panics"], || {
        run(async {
            task_group!(|tg| {
                let flag = drops.flag();
                tg.spawn(async {
                    let _flag = flag;
                    sleep(LONG).await;
                });
                tg.spawn(EndsBadly);
            });
        });
    });
    assert_eq!(drops.get(), 1);
}

#[test]
fn a_poll_that_panics_under_each_combinator_comes_out_of_it() {
    assert_panics(&["poll panics"], || run(timeout(LONG, PollBomb)));
    assert_panics(&["poll panics"], || run(branch(PollBomb)));
    assert_panics(&["poll panics"], || run(xiio::shield(PollBomb)));
    assert_panics(&["poll panics"], || run(xiio::gather([PollBomb])));
    assert_panics(&["poll panics"], || run(xiio::race([PollBomb])));
    assert_panics(&["poll panics"], || run(async { xiio::join!(PollBomb, sleep(LONG)) }));
    assert_panics(&["poll panics"], || run(bracket((), async |()| PollBomb.await, async |()| ())));
}

#[test]
fn many_panics_at_once_are_one_panic_and_the_rest_reports() {
    let reports = Reports::new();
    let drops = DropCount::new();
    assert_panics(&["destructor"], || {
        run(async {
            task_group!(|tg| {
                for _ in 0..10 {
                    let flag = drops.flag();
                    tg.spawn(async {
                        let _flag = flag;
                        let _bomb = DropBomb("destructor");
                        pending::<()>().await;
                    });
                }
                rounds(1).await;
                tg.cancel();
            });
        });
    });
    assert_eq!(drops.get(), 10);
    assert_eq!(reports.kinds(), [ReportKind::LaterFailure; 9]);
}

#[test]
fn a_panic_while_another_panic_unwinds_a_task_is_kept_apart() {
    struct CancelsAndCatches<'a>(&'a Trace);
    impl Drop for CancelsAndCatches<'_> {
        fn drop(&mut self) {
            assert!(std::thread::panicking());
            let inner = catch_unwind(|| panic!("inner"));
            self.0.note(format!("inner panicked: {}", inner.is_err()));
        }
    }
    let trace = Trace::new();
    assert_panics(&["outer"], || {
        run(async {
            task_group!(|tg| {
                tg.spawn(async {
                    let _catches = CancelsAndCatches(&trace);
                    yield_now().await;
                    panic!("outer");
                });
            });
        });
    });
    trace.assert(&["inner panicked: true"]);
}

#[test]
fn destructors_that_use_the_runtime_while_it_is_cancelling_work() {
    struct Uses<'a, 'env> {
        tg: &'a xiio::TaskGroup<'env>,
        trace: &'env Trace,
    }
    impl Drop for Uses<'_, '_> {
        fn drop(&mut self) {
            let trace = self.trace;
            self.tg.spawn(async move {
                sleep(millis(1)).await;
                trace.note("spawned by a destructor");
            });
            self.tg.cancel();
            let again = self.tg.spawn(async move { trace.note("spawned after its cancel") });
            drop(again);
            let nested = catch_unwind(|| xiio::run(async {}));
            trace.note(format!("run inside run refused: {}", nested.is_err()));
        }
    }
    let trace = Trace::new();
    run_virtually(async {
        task_group!(|tg| {
            let task = tg.spawn(async {
                let _uses = Uses { tg, trace: &trace };
                pending::<()>().await;
            });
            rounds(1).await;
            assert!(task.cancel().await.is_none());
        });
    });
    trace.assert(&["run inside run refused: true", "spawned after its cancel"]);
}

#[test]
fn a_spurious_poll_of_everything_changes_nothing() {
    let (a, b) = UnixStream::pair().unwrap();
    let value = run(async {
        let promise = Promise::new();
        task_group!(|tg| {
            let restless = async |future: Pin<&mut dyn Future<Output = ()>>| {
                let mut future = future;
                poll_fn(|cx| {
                    cx.waker().wake_by_ref();
                    future.as_mut().poll(cx)
                })
                .await;
            };
            tg.spawn(async move { restless(pin!(sleep(millis(3)))).await });
            tg.spawn(async {
                let mut waits = pin!(promise.wait());
                poll_fn(|cx| {
                    cx.waker().wake_by_ref();
                    waits.as_mut().poll(cx)
                })
                .await;
            });
            tg.spawn(async {
                let mut reads = pin!(xiio::readable(&a));
                poll_fn(|cx| {
                    cx.waker().wake_by_ref();
                    reads.as_mut().poll(cx)
                })
                .await
                .unwrap();
            });
            sleep(millis(1)).await;
            promise.set(()).unwrap();
            xiio::write_all(&b, b"x").await.unwrap();
            7
        })
    });
    assert_eq!(value, 7);
}
