//! Cancellation: cancelled code does not run on, whatever it waits for, and what is cancelled cleans up.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::task::Poll;

use async_channel::{Receiver, bounded};
use futures::stream::{FuturesUnordered, StreamExt};
use futures::{FutureExt, select};
use xiio::inspect::ReportKind;
use xiio::{
    Condition, Promise, Task, TaskGroup, as_completed, bracket, branch, gather, race, shield, sleep, task_group,
    timeout, try_gather, try_task_group, yield_now,
};
use xiio_tests::poll::{OnDrop, leak};
use xiio_tests::{
    DropBomb, DropCount, LONG, Reports, Trace, assert_panics, millis, panic_text, rounds, run, run_virtually,
};

/// A bracket that waits, and takes a few rounds to clean up.
async fn held(trace: &Trace, name: &str) {
    bracket(
        (),
        async |()| {
            sleep(LONG).await;
            trace.note(format!("{name} ran on"));
        },
        async |()| {
            rounds(5).await;
            sleep(millis(2)).await;
            trace.note(format!("{name} cleaned up"));
        },
    )
    .await;
}

/// Cancels a task that waits in `work`, and sends a message to `work` in the same round, before and after the request.
///
/// `work` gets the receiver of the messages.
async fn cancel_while_messages_arrive<F: Future>(work: impl FnOnce(Receiver<i32>) -> F) {
    let (sender, receiver) = bounded(8);
    let work = work(receiver);
    task_group!(|tg| {
        let task = tg.spawn(async {
            work.await;
        });
        // Two turns of the loop at least, so that whatever is there has been polled and waits.
        rounds(2).await;
        sleep(millis(1)).await;
        assert!(!task.is_finished(), "it did not wait");
        let _ = sender.try_send(1);
        let cancelled = task.cancel();
        let _ = sender.try_send(2);
        assert!(cancelled.await.is_none(), "it came to its end");
    });
}

/// One way to wait, and what its cleanup notes: nothing else may happen.
macro_rules! stops {
    ($($name:ident: |$trace:ident, $receiver:ident| $work:expr => $expected:expr;)+) => {$(
        #[test]
        fn $name() {
            let trace = Trace::new();
            let reports = Reports::new();
            {
                let $trace = &trace;
                run_virtually(cancel_while_messages_arrive(async |$receiver| {
                    let _receiver = &$receiver;
                    done($work);
                    $trace.note("ran on at the end");
                }));
            }
            trace.assert(&$expected);
            reports.assert_none();
        }
    )+};
}

/// Takes whatever `work` came to.
fn done<T>(_: T) {}

/// Receives a message and says so: cancelled code that runs on.
async fn receives(trace: &Trace, receiver: &Receiver<i32>) -> i32 {
    let message = receiver.recv().await.unwrap_or(-1);
    trace.note("ran on after recv");
    message
}

stops! {
    in_a_sleep: |trace, receiver| sleep(LONG).await => [];
    in_a_foreign_recv: |trace, receiver| receives(trace, &receiver).await => [];
    in_a_promise: |trace, receiver| Promise::<()>::new().wait().await => [];
    in_a_read: |trace, receiver| {
        let (a, _b) = UnixStream::pair().unwrap();
        xiio::read(&a, &mut [0; 8]).await.unwrap()
    } => [];
    in_a_condition: |trace, receiver| Condition::new().timeout(LONG).wait().await.unwrap() => [];
    in_a_bracket: |trace, receiver| held(trace, "bracket").await => ["bracket cleaned up"];
    in_a_bracket_around_a_recv: |trace, receiver|
        bracket((), async |()| done(receives(trace, &receiver).await), async |()| rounds(3).await).await
    => [];
    in_a_nested_group: |trace, receiver| task_group!(|tg| {
        tg.spawn(held(trace, "task"));
        tg.spawn(receives(trace, &receiver));
        receives(trace, &receiver).await;
    }) => ["task cleaned up"];
    in_the_body_of_a_nested_group: |trace, receiver| task_group!(|tg| {
        tg.spawn(receives(trace, &receiver));
        held(trace, "body").await;
        trace.note("ran on in the body");
    }) => ["body cleaned up"];
    in_groups_three_deep: |trace, receiver| task_group!(|a| {
        a.spawn(async {
            task_group!(|b| {
                b.spawn(async {
                    task_group!(|c| {
                        c.spawn(held(trace, "innermost"));
                        receives(trace, &receiver).await;
                    });
                    trace.note("ran on after c");
                });
                receives(trace, &receiver).await;
            });
            trace.note("ran on after b");
        });
    }) => ["innermost cleaned up"];
    in_a_timeout: |trace, receiver| timeout(LONG, receives(trace, &receiver)).await => [];
    in_a_timeout_around_a_bracket: |trace, receiver| timeout(LONG, async {
        held(trace, "bracket").await;
        trace.note("ran on in the timeout");
    }).await => ["bracket cleaned up"];
    in_timeouts_three_deep: |trace, receiver| timeout(LONG, timeout(LONG, timeout(LONG, async {
        futures::join!(branch(held(trace, "bracket")), branch(receives(trace, &receiver)));
        trace.note("ran on in the timeouts");
    }))).await => ["bracket cleaned up"];
    in_a_gather: |trace, receiver| gather((0..3).map(async |n| {
        if n == 1 {
            held(trace, "second").await;
        } else {
            receives(trace, &receiver).await;
        }
    })).await => ["second cleaned up"];
    in_a_try_gather: |trace, receiver| try_gather((0..3).map(async |n| {
        if n == 1 {
            held(trace, "second").await;
        } else {
            receives(trace, &receiver).await;
        }
        Ok::<_, ()>(())
    })).await => ["second cleaned up"];
    in_a_race: |trace, receiver| race((0..3).map(async |n| {
        if n == 1 {
            held(trace, "second").await;
        } else {
            receives(trace, &receiver).await;
        }
    })).await => ["second cleaned up"];
    in_race_of_different_types: |trace, receiver| xiio::race!(
        () = held(trace, "first") => trace.note("ran on in an arm"),
        _message = receives(trace, &receiver) => trace.note("ran on in an arm"),
    ) => ["first cleaned up"];
    in_join_of_different_types: |trace, receiver|
        xiio::join!(receives(trace, &receiver), held(trace, "second"), receives(trace, &receiver))
    => ["second cleaned up"];
    in_try_join_of_different_types: |trace, receiver| xiio::try_join!(
        async { Ok::<_, ()>(receives(trace, &receiver).await) },
        async { held(trace, "second").await; Ok::<_, ()>(()) },
    ) => ["second cleaned up"];
    in_as_completed: |trace, receiver| as_completed((0..3).map(async |n| {
        if n == 1 {
            held(trace, "second").await;
        } else {
            receives(trace, &receiver).await;
        }
    })).consume(async |outputs| {
        while outputs.next().await.is_some() {
            trace.note("ran on in the consumer");
        }
    }).await => ["second cleaned up"];
    in_a_shield: |trace, receiver| shield(async {
        rounds(5).await;
        sleep(millis(2)).await;
        trace.note("shield ended");
    }).await => ["shield ended"];
    in_foreign_join_over_xiio_futures: |trace, receiver|
        futures::join!(held(trace, "first"), async {
            sleep(millis(3)).await;
            trace.note("ran on after a sleep");
        }, held(trace, "third"), async {
            yield_now().await;
            task_group!(|tg| { tg.spawn(receives(trace, &receiver)); });
            trace.note("ran on after a group");
        })
    => ["first cleaned up", "third cleaned up"];
    in_foreign_join_over_branches: |trace, receiver|
        futures::join!(branch(held(trace, "first")), branch(receives(trace, &receiver)), branch(held(trace, "third")))
    => ["first cleaned up", "third cleaned up"];
    in_foreign_select_over_xiio_futures: |trace, receiver| {
        let (mut a, mut b) = (pin!(held(trace, "first").fuse()), pin!(async {
            sleep(millis(3)).await;
            trace.note("ran on after a sleep");
        }.fuse()));
        select! { () = a => trace.note("ran on in an arm"), () = b => trace.note("ran on in an arm") }
    } => ["first cleaned up"];
    in_foreign_select_over_branches: |trace, receiver| {
        let (mut a, mut b) = (pin!(branch(held(trace, "first")).fuse()), pin!(branch(receives(trace, &receiver)).fuse()));
        select! { () = a => trace.note("ran on in an arm"), _ = b => trace.note("ran on in an arm") }
    } => ["first cleaned up"];
    in_futures_unordered_over_xiio_futures: |trace, receiver| {
        let many: FuturesUnordered<_> = (0..40).map(async |n| {
            if n == 20 {
                held(trace, "bracket").await;
            } else {
                sleep(millis(4)).await;
                trace.note("ran on after a sleep");
            }
        }).collect();
        // The sleeps end before their task is cancelled, or never.
        many.map(|()| trace.note("ran on in the stream")).collect::<Vec<()>>().await
    } => ["bracket cleaned up"];
    in_futures_unordered_over_branches: |trace, receiver| {
        let many: FuturesUnordered<_> = (0..40).map(|n| branch(async move {
            if n % 20 == 10 {
                held(trace, if n == 10 { "tenth" } else { "thirtieth" }).await;
            } else {
                pending::<()>().await;
            }
        })).collect();
        many.collect::<Vec<()>>().await
    } => ["tenth cleaned up", "thirtieth cleaned up"];
    in_buffer_unordered: |trace, receiver| {
        futures::stream::iter(0..10).map(async |n| {
            held(trace, if n < 2 { "bracket" } else { "ran on: a new one" }).await;
        }).buffer_unordered(2).collect::<Vec<_>>().await
    } => ["bracket cleaned up", "bracket cleaned up"];
    in_two_brackets_one_in_the_other: |trace, receiver| bracket(
        (),
        async |()| {
            held(trace, "inner").await;
            trace.note("ran on in the outer bracket");
        },
        async |()| trace.note("outer cleaned up"),
    ).await => ["inner cleaned up", "outer cleaned up"];
    in_the_release_of_a_bracket: |trace, receiver| bracket(
        (),
        async |()| trace.note("used"),
        async |()| {
            sleep(millis(10)).await;
            trace.note("released");
        },
    ).await => ["used", "released"];
    in_a_group_inside_a_shield: |trace, receiver| shield(async {
        task_group!(|tg| {
            tg.spawn(async {
                sleep(millis(4)).await;
                trace.note("task in the shield ended");
            });
        });
        trace.note("shield ended");
    }).await => ["task in the shield ended", "shield ended"];
    in_a_timeout_inside_a_shield: |trace, receiver| shield(async {
        assert!(timeout(millis(4), held(trace, "bracket")).await.is_err());
        trace.note("shield ended");
    }).await => ["bracket cleaned up", "shield ended"];
    with_a_deferred_cleanup: |trace, receiver| task_group!(|tg| {
        tg.defer(async {
            sleep(millis(2)).await;
            trace.note("deferred");
        });
        receives(trace, &receiver).await;
    }) => ["deferred"];
}

// The one exception of law 4.1: a foreign combinator, one branch that cleans up, another that waits for a foreign future.

#[test]
fn in_a_foreign_join_a_foreign_branch_goes_on_to_its_next_await_and_that_is_reported() {
    let trace = Trace::new();
    let reports = Reports::new();
    run(cancel_while_messages_arrive(async |receiver| {
        futures::join!(held(&trace, "bracket"), async {
            receiver.recv().await.unwrap();
            trace.note("went on");
            timeout(LONG, async { trace.note("ran on in a timeout") }).await.unwrap();
            trace.note("ran on");
        });
        trace.note("ran on at the end");
    }));
    trace.assert(&["went on", "bracket cleaned up"]);
    reports.assert_one(ReportKind::RanOn, &["cancelled code ran on", "`timeout`", "`xiio::branch`"]);
}

#[test]
fn in_a_foreign_join_a_foreign_branch_that_goes_on_to_a_sleep_is_reported_too() {
    let trace = Trace::new();
    let reports = Reports::new();
    run_virtually(cancel_while_messages_arrive(async |receiver| {
        futures::join!(held(&trace, "bracket"), async {
            receiver.recv().await.unwrap();
            trace.note("went on");
            sleep(millis(1)).await;
            trace.note("ran on");
        });
        trace.note("ran on at the end");
    }));
    trace.assert(&["went on", "bracket cleaned up"]);
    reports.assert_one(ReportKind::RanOn, &["cancelled code ran on", "sleep", "`xiio::branch`"]);
}

#[test]
fn a_cleanup_that_a_foreign_select_leaves_behind_is_given_up_and_reported() {
    let trace = Trace::new();
    let reports = Reports::new();
    run(cancel_while_messages_arrive(async |receiver| {
        let (mut a, mut b) = (pin!(held(&trace, "bracket").fuse()), pin!(receiver.recv().fuse()));
        select! { () = a => trace.note("ran on"), _ = b => trace.note("went on") }
        rounds(1).await;
        trace.note("ran on at the end");
    }));
    // The bracket is still there, but nobody polls it: it is given up.
    trace.assert(&["went on"]);
    assert_eq!(reports.kinds(), [ReportKind::RanOn, ReportKind::Unreachable]);
}

#[test]
fn a_foreign_select_that_ends_by_a_foreign_branch_and_drops_the_other_drops_its_cleanup() {
    let trace = Trace::new();
    let reports = Reports::new();
    run(cancel_while_messages_arrive(async |receiver| {
        drop(futures::future::select(Box::pin(held(&trace, "bracket")), Box::pin(receiver.recv())).await);
        trace.note("went on");
        pending::<()>().await;
    }));
    trace.assert(&["went on"]);
    reports.assert_one(ReportKind::CleanupSkipped, &["a `bracket`"]);
}

#[test]
fn a_cleanup_that_is_lost_half_way_does_not_keep_the_others_from_being_waited_for() {
    let trace = Trace::new();
    let reports = Reports::new();
    run(cancel_while_messages_arrive(async |receiver| {
        futures::join!(held(&trace, "sibling"), async {
            let (mut a, mut b) = (pin!(held(&trace, "lost").fuse()), pin!(receiver.recv().fuse()));
            select! { () = a => trace.note("ran on"), _ = b => trace.note("went on") }
            pending::<()>().await;
        });
    }));
    trace.assert(&["went on", "sibling cleaned up"]);
    reports.assert_one(ReportKind::Unreachable, &["1 cleanup(s)"]);
}

#[test]
fn xiio_s_race_has_no_such_exception() {
    let trace = Trace::new();
    let reports = Reports::new();
    run(cancel_while_messages_arrive(async |receiver| {
        xiio::race!(
            () = held(&trace, "bracket") => trace.note("ran on"),
            _ = receiver.recv() => trace.note("ran on"),
        );
    }));
    trace.assert(&["bracket cleaned up"]);
    reports.assert_none();
}

// What foreign code keeps from being reached.

#[test]
fn a_bracket_that_nobody_polls_any_more_is_given_up_and_reported() {
    let trace = Trace::new();
    let reports = Reports::new();
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(async {
                let mut started = pin!(held(&trace, "bracket"));
                assert!(futures::poll!(started.as_mut()).is_pending());
                let _dropped = trace.on_drop("the task's locals");
                sleep(LONG).await;
                trace.note("ran on");
            });
            rounds(2).await;
            assert!(task.cancel().await.is_none());
        });
    });
    trace.assert(&["the task's locals"]);
    reports.assert_one(ReportKind::Unreachable, &["1 cleanup(s) could not run", "polled by nobody"]);
}

/// It cleans up, and its combinator has polled it only now and then. What it leaves behind wakes once, and nobody after that.
#[test]
fn a_cleanup_that_is_forgotten_or_polled_no_more_is_given_up_and_reported() {
    for is_forgotten in [false, true] {
        let reports = Reports::new();
        let (n_polls, is_released) = (&Cell::new(0), &Cell::new(false));
        let release = async |()| {
            sleep(millis(5)).await;
            is_released.set(true);
        };
        let mut held = Some(Box::pin(bracket((), async |()| pending::<()>().await, release)));
        let hides = poll_fn(move |cx| {
            n_polls.set(n_polls.get() + 1);
            match n_polls.get() {
                // It gives way, as `FuturesUnordered` does.
                4 => cx.waker().wake_by_ref(),
                n if n >= 6 && is_forgotten => _ = leak(held.take()),
                n if n >= 6 => {}
                _ => drop(held.as_mut().map(|held| held.as_mut().poll(cx))),
            }
            Poll::<()>::Pending
        });
        run_virtually(async {
            task_group!(|tg| {
                let limited = tg.spawn(timeout(millis(1), hides));
                sleep(LONG).await;
                assert!(limited.is_finished(), "it waits for ever");
            });
        });
        assert!(n_polls.get() > 6 && !is_released.get());
        assert!(reports.kinds().contains(&ReportKind::Unreachable), "{:?}", reports.texts());
    }
}

#[test]
fn a_bracket_is_unwound_although_another_one_cannot_be_reached() {
    let trace = Trace::new();
    let reports = Reports::new();
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(async {
                let mut started = pin!(held(&trace, "unreachable"));
                assert!(futures::poll!(started.as_mut()).is_pending());
                held(&trace, "reachable").await;
            });
            rounds(2).await;
            assert!(task.cancel().await.is_none());
        });
    });
    trace.assert(&["reachable cleaned up"]);
    assert_eq!(reports.kinds(), [ReportKind::Unreachable]);
}

#[test]
fn a_started_bracket_dropped_before_the_cancellation_leaves_nothing_to_wait_for() {
    let trace = Trace::new();
    let reports = Reports::new();
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(async {
                let mut started = Box::pin(held(&trace, "bracket"));
                assert!(futures::poll!(started.as_mut()).is_pending());
                drop(started);
                sleep(LONG).await;
            });
            rounds(2).await;
            assert!(task.cancel().await.is_none());
        });
    });
    trace.assert(&[]);
    reports.assert_one(ReportKind::CleanupSkipped, &["a `bracket`"]);
}

#[test]
fn what_was_unwound_panics_with_the_remedy_when_it_is_polled_again() {
    let trace = Trace::new();
    assert_panics(&["`bracket`", "polled again after its cancellation", "`shield`", "spawn it"], || {
        run(async {
            let mut work = pin!(held(&trace, "bracket"));
            assert!(timeout(millis(5), work.as_mut()).await.is_err());
            trace.note("again");
            work.await;
        });
    });
    trace.assert(&["bracket cleaned up", "again"]);
}

#[test]
fn what_held_nothing_is_polled_on_after_a_timeout() {
    run_virtually(async {
        let mut n_tries = 0;
        let mut work = pin!(async {
            timeout(LONG, timeout(None, sleep(millis(30)))).await.unwrap().unwrap();
            7
        });
        let value = loop {
            n_tries += 1;
            if let Ok(value) = timeout(millis(5), work.as_mut()).await {
                break value;
            }
        };
        assert_eq!(value, 7);
        assert!(n_tries > 1);
    });
}

// Twice, too late, oneself, a sibling.

#[test]
fn cancelling_a_task_twice_cleans_up_once() {
    let trace = Trace::new();
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(held(&trace, "task"));
            rounds(2).await;
            tg.cancel();
            tg.cancel();
            let first = task.cancel();
            tg.cancel();
            rounds(2).await;
            tg.cancel();
            assert!(first.await.is_none());
            tg.cancel();
        });
    });
    trace.assert(&["task cleaned up"]);
}

#[test]
fn cancelling_what_has_ended_gives_its_output() {
    let drops = DropCount::new();
    run(async {
        task_group!(|tg| {
            let flag = drops.flag();
            let task = tg.spawn(async move { flag });
            rounds(2).await;
            tg.cancel();
            let output = task.cancel().await;
            assert!(output.is_some());
            assert_eq!(drops.get(), 0);
        });
    });
    assert_eq!(drops.get(), 1);
}

#[test]
fn a_dropped_request_cancels_all_the_same() {
    let trace = Trace::new();
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(held(&trace, "task"));
            rounds(2).await;
            drop(task.cancel());
        });
    });
    trace.assert(&["task cleaned up"]);
}

#[test]
fn a_task_cancelled_before_its_first_poll_drops_its_captures_and_runs_nothing() {
    let drops = DropCount::new();
    let trace = Trace::new();
    run(async {
        task_group!(|tg| {
            let flag = drops.flag();
            let task = tg.spawn(async {
                flag.touch();
                let _flag = flag;
                trace.note("ran");
                held(&trace, "bracket").await;
            });
            assert!(task.cancel().await.is_none());
            assert_eq!(drops.get(), 1);
        });
    });
    trace.assert(&[]);
}

#[test]
fn a_task_cancelled_with_a_slow_cleanup_is_waited_for() {
    let trace = Trace::new();
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(held(&trace, "task"));
            rounds(2).await;
            assert!(task.cancel().await.is_none());
            trace.note("waited");
        });
    });
    trace.assert(&["task cleaned up", "waited"]);
}

/// A task that finds its own handle in `slot`.
fn own_handle<T>(slot: &RefCell<Option<Task<T>>>) -> Task<T> {
    slot.borrow_mut().take().expect("the handle is there")
}

#[test]
fn a_task_that_cancels_itself_stops_at_its_next_await() {
    let trace = Trace::new();
    let slot = RefCell::new(None);
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(async {
                let _dropped = trace.on_drop("dropped");
                drop(own_handle(&slot).cancel());
                trace.note("still in the same poll");
                yield_now().await;
                trace.note("ran on");
            });
            *slot.borrow_mut() = Some(task);
        });
    });
    trace.assert(&["still in the same poll", "dropped"]);
}

#[test]
fn a_task_that_awaits_its_own_cancellation_ends() {
    let trace = Trace::new();
    let slot: RefCell<Option<Task<()>>> = RefCell::new(None);
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(async {
                let _dropped = trace.on_drop("dropped");
                own_handle(&slot).cancel().await;
                trace.note("ran on");
            });
            *slot.borrow_mut() = Some(task);
        });
    });
    trace.assert(&["dropped"]);
}

#[test]
fn a_task_that_cancels_itself_and_then_takes_something_releases_it_unused() {
    let trace = Trace::new();
    let reports = Reports::new();
    let slot = RefCell::new(None);
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(async {
                futures::join!(held(&trace, "held before"), async {
                    yield_now().await;
                    drop(own_handle(&slot).cancel());
                    bracket((), async |()| trace.note("used"), async |()| trace.note("released")).await;
                    trace.note("ran on");
                });
            });
            *slot.borrow_mut() = Some(task);
        });
    });
    trace.assert(&["released", "held before cleaned up"]);
    reports.assert_none();
}

#[test]
fn a_task_that_cancels_its_group_stops_at_its_next_await_and_the_body_goes_on() {
    let trace = Trace::new();
    let promise = Promise::new();
    run(async {
        task_group!(|tg| {
            tg.spawn(async {
                promise.set(()).unwrap();
                tg.cancel();
                trace.note("still in the same poll");
                xiio::timeout(LONG, async { trace.note("ran on") }).await.unwrap();
            });
            promise.wait().await;
            rounds(2).await;
            trace.note("body");
        });
    });
    trace.assert(&["still in the same poll", "body"]);
}

#[test]
fn a_task_that_cancels_its_group_and_ends_in_the_same_poll_has_ended() {
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(async {
                tg.cancel();
                7
            });
            assert_eq!(task.outcome().await, Ok(7));
        });
    });
}

#[test]
fn a_sibling_deep_inside_cancels_the_task_that_is_being_polled() {
    let trace = Trace::new();
    let slot = RefCell::new(None);
    run(async {
        task_group!(|outer| {
            let task = outer.spawn(async {
                let _dropped = trace.on_drop("outer task dropped");
                task_group!(|inner| {
                    inner.spawn(async {
                        let _dropped = trace.on_drop("first inner task dropped");
                        yield_now().await;
                        // Its great-grandparent, which is on the stack right now.
                        drop(own_handle(&slot).cancel());
                        rounds(1).await;
                        trace.note("first ran on");
                    });
                    inner.spawn(async {
                        let _dropped = trace.on_drop("second inner task dropped");
                        rounds(3).await;
                        trace.note("second ran on");
                    });
                });
                trace.note("outer task ran on");
            });
            *slot.borrow_mut() = Some(task);
            outer.spawn(async {
                rounds(10).await;
                trace.note("sibling ended");
            });
        });
    });
    let mut events = trace.take();
    events.sort_unstable();
    assert_eq!(
        events,
        ["first inner task dropped", "outer task dropped", "second inner task dropped", "sibling ended"]
    );
}

#[test]
fn an_inner_task_that_cancels_the_outer_group_is_cancelled_with_its_cleanup() {
    let trace = Trace::new();
    run(async {
        task_group!(|outer| {
            outer.spawn(async {
                task_group!(|inner| {
                    inner.spawn(held(&trace, "sibling"));
                    inner.spawn(async {
                        rounds(3).await;
                        outer.cancel();
                        yield_now().await;
                        trace.note("ran on");
                    });
                });
                trace.note("ran on after the inner group");
            });
        });
        trace.note("ended");
    });
    trace.assert(&["sibling cleaned up", "ended"]);
}

#[test]
fn siblings_cancel_each_other() {
    let trace = Trace::new();
    let slots: [RefCell<Option<Task<()>>>; 2] = Default::default();
    run(async {
        task_group!(|tg| {
            for mine in 0..2 {
                let (slots, trace) = (&slots, &trace);
                let task = tg.spawn(async move {
                    let _dropped = trace.on_drop(format!("{mine} dropped"));
                    let other = own_handle(&slots[1 - mine]);
                    other.cancel().await;
                    trace.note(format!("{mine} ended"));
                });
                *slots[mine].borrow_mut() = Some(task);
            }
        });
    });
    // The first one polled cancels the second before it starts.
    trace.assert(&["0 ended", "0 dropped"]);
}

#[test]
fn a_task_is_cancelled_by_the_destructor_of_another_cancelled_one() {
    struct Cancels(Option<Task<()>>);
    impl Drop for Cancels {
        fn drop(&mut self) {
            drop(self.0.take().map(Task::cancel));
        }
    }
    let trace = Trace::new();
    run(async {
        task_group!(|tg| {
            let second = tg.spawn(held(&trace, "second"));
            let first = tg.spawn(async move {
                let _cancels = Cancels(Some(second));
                pending::<()>().await;
            });
            rounds(2).await;
            assert!(first.cancel().await.is_none());
        });
    });
    trace.assert(&["second cleaned up"]);
}

#[test]
fn a_task_that_cancels_itself_while_the_tree_is_drawn_stops_and_the_rest_goes_on() {
    let trace = Trace::new();
    run_virtually(async {
        task_group!(|tg| {
            tg.spawn(async {
                // Nobody wakes this: the drawing's poll finds it ready.
                let is_drawn = poll_fn(|_| if trace.is_empty() { Poll::Pending } else { Poll::Ready(()) });
                is_drawn.await;
                trace.note("cancels while it is drawn");
                tg.cancel();
                yield_now().await;
                trace.note("ran on");
            });
            rounds(2).await;
            trace.note("asks for the tree");
            let _tree = xiio::inspect::tree().await;
            sleep(millis(1)).await;
            trace.note("body ended");
        });
    });
    trace.assert(&["asks for the tree", "cancels while it is drawn", "body ended"]);
}

/// Ready from the poll after it was opened; nobody wakes it, so the drawing's poll is the one that finds out.
async fn opened(is_open: &Cell<bool>) {
    poll_fn(|_| if is_open.get() { Poll::Ready(()) } else { Poll::Pending }).await;
}

#[test]
fn a_race_that_is_won_while_the_tree_is_drawn_ends() {
    let is_open = Cell::new(false);
    run(async {
        task_group!(|tg| {
            let racing = tg.spawn(race([opened(&is_open)]));
            rounds(2).await;
            is_open.set(true);
            drop(xiio::inspect::tree().await);
            racing.await;
        });
    });
}

#[test]
fn a_panic_while_the_tree_is_drawn_ends_its_group() {
    let is_open = Cell::new(false);
    assert_panics(&["expected"], || {
        run(async {
            task_group!(|tg| {
                tg.spawn(async {
                    task_group!(|tg| {
                        tg.spawn(async {
                            opened(&is_open).await;
                            panic!("expected");
                        });
                        pending::<()>().await;
                    });
                });
                rounds(2).await;
                is_open.set(true);
                drop(xiio::inspect::tree().await);
                pending::<()>().await;
            });
        });
    });
}

#[test]
fn a_bracket_that_is_entered_while_the_tree_is_drawn_cleans_up() {
    let (is_open, trace) = (Cell::new(false), Trace::new());
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(async {
                task_group!(|tg| {
                    tg.spawn(async {
                        opened(&is_open).await;
                        let release = async |()| {
                            yield_now().await;
                            trace.note("released");
                        };
                        bracket((), async |()| pending::<()>().await, release).await;
                    });
                    pending::<()>().await;
                });
            });
            rounds(2).await;
            is_open.set(true);
            drop(xiio::inspect::tree().await);
            rounds(2).await;
            task.cancel().await;
        });
    });
    trace.assert(&["released"]);
}

// A value and a cancellation in the same round; queues and locks.

#[test]
fn a_task_that_is_ready_but_not_polled_yet_is_cancelled_and_takes_nothing() {
    let (sender, receiver) = bounded(1);
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(async { receiver.recv().await.unwrap() });
            rounds(2).await;
            sender.try_send(7).unwrap();
            assert_eq!(task.cancel().await, None);
        });
    });
    assert_eq!(receiver.try_recv(), Ok(7), "the item is still in the queue");
}

#[test]
fn a_value_that_was_handed_over_is_kept() {
    let (sender, receiver) = bounded(1);
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(async { receiver.recv().await.unwrap() });
            rounds(2).await;
            sender.try_send(7).unwrap();
            rounds(2).await;
            assert_eq!(task.cancel().await, Some(7));
        });
    });
}

#[test]
fn nothing_is_lost_from_a_queue_whose_consumers_are_cancelled_at_any_moment() {
    const N_ITEMS: u32 = 200;
    let (sender, receiver) = bounded(1);
    let taken: RefCell<Vec<u32>> = RefCell::default();
    run(async {
        task_group!(|tg| {
            tg.spawn(async {
                for item in 0..N_ITEMS {
                    sender.send(item).await.unwrap();
                }
                sender.close();
            });
            let mut n_rounds = 0;
            while !(receiver.is_closed() && receiver.is_empty()) {
                let consumer = tg.spawn(async {
                    while let Ok(item) = receiver.recv().await {
                        taken.borrow_mut().push(item);
                    }
                });
                n_rounds = (n_rounds + 1) % 4;
                rounds(n_rounds).await;
                consumer.cancel().await;
            }
        });
    });
    assert_eq!(*taken.borrow(), (0..N_ITEMS).collect::<Vec<_>>());
}

#[test]
fn a_cancelled_waiter_passes_the_lock_on() {
    let trace = Trace::new();
    let lock = async_lock::Mutex::new(());
    run(async {
        let guard = lock.lock().await;
        task_group!(|tg| {
            let first = tg.spawn(async {
                let _guard = lock.lock().await;
                trace.note("first");
            });
            tg.spawn(async {
                let _guard = lock.lock().await;
                trace.note("second");
            });
            rounds(2).await;
            // The first in line is told, and cancelled before it hears of it.
            drop(guard);
            assert!(first.cancel().await.is_none());
        });
    });
    trace.assert(&["second"]);
    assert!(lock.try_lock().is_some());
}

#[test]
fn cancelled_waiters_give_their_permits_back() {
    let semaphore = async_lock::Semaphore::new(2);
    let n_through = Cell::new(0);
    run(async {
        let permits = [semaphore.acquire().await, semaphore.acquire().await];
        task_group!(|tg| {
            let waiters: Vec<_> = (0..6)
                .map(|_| {
                    tg.spawn(async {
                        let _permit = semaphore.acquire().await;
                        rounds(1).await;
                        n_through.set(n_through.get() + 1);
                    })
                })
                .collect();
            rounds(2).await;
            drop(permits);
            // All in one poll of the body: none of those told of a permit hears of it before.
            let cancelled: Vec<_> = waiters.into_iter().step_by(2).map(Task::cancel).collect();
            for cancelled in cancelled {
                assert!(cancelled.await.is_none());
            }
        });
    });
    assert_eq!(n_through.get(), 3);
    assert!(semaphore.try_acquire().is_some());
}

// Cleanup.

#[test]
fn code_after_a_cleanup_that_awaited_does_not_run() {
    let trace = Trace::new();
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(async {
                for n in 0..3 {
                    held(&trace, &format!("bracket {n}")).await;
                    trace.note("ran on");
                }
            });
            rounds(2).await;
            assert!(task.cancel().await.is_none());
        });
    });
    trace.assert(&["bracket 0 cleaned up"]);
}

#[test]
fn independent_cleanups_run_side_by_side() {
    let trace = Trace::new();
    let release = async |name: &str| {
        trace.note(format!("{name} begins"));
        sleep(millis(10)).await;
        trace.note(format!("{name} ends"));
    };
    run_virtually(async {
        task_group!(|tg| {
            tg.spawn(async {
                xiio::join!(
                    bracket((), async |()| sleep(LONG).await, async |()| release("a").await),
                    bracket((), async |()| sleep(LONG).await, async |()| release("b").await),
                );
            });
            rounds(2).await;
            sleep(millis(1)).await;
            tg.cancel();
        });
    });
    trace.assert(&["a begins", "b begins", "a ends", "b ends"]);
}

#[test]
fn cleanup_may_read_spawn_and_limit_its_time() {
    let trace = Trace::new();
    let (a, b) = UnixStream::pair().unwrap();
    run_virtually(async {
        task_group!(|tg| {
            let task = tg.spawn(bracket(
                (),
                async |()| sleep(LONG).await,
                async |()| {
                    task_group!(|cleanup| {
                        cleanup.spawn(async { xiio::write_all(&a, b"bye").await.unwrap() });
                        let mut buf = [0; 3];
                        assert_eq!(xiio::read(&b, &mut buf).await.unwrap(), 3);
                        trace.note(String::from_utf8_lossy(&buf));
                    });
                    assert!(timeout(millis(2), pending::<()>()).await.is_err());
                    trace.note("timed out in the cleanup");
                },
            ));
            rounds(2).await;
            assert!(task.cancel().await.is_none());
        });
    });
    trace.assert(&["bye", "timed out in the cleanup"]);
}

#[test]
fn cleanup_inside_cleanup_runs_too() {
    let trace = Trace::new();
    run_virtually(async {
        task_group!(|tg| {
            let task = tg.spawn(bracket(
                (),
                async |()| sleep(LONG).await,
                async |()| {
                    assert!(timeout(millis(2), held(&trace, "inner")).await.is_err());
                    trace.note("outer cleaned up");
                },
            ));
            rounds(2).await;
            assert!(task.cancel().await.is_none());
        });
    });
    trace.assert(&["inner cleaned up", "outer cleaned up"]);
}

#[test]
fn a_panic_of_a_cleanup_is_thrown_when_its_siblings_have_cleaned_up() {
    let trace = Trace::new();
    assert_panics(&["cleanup panics"], || {
        run(async {
            task_group!(|tg| {
                let task = tg.spawn(async {
                    futures::join!(
                        bracket((), async |()| sleep(LONG).await, async |()| panic!("cleanup panics")),
                        held(&trace, "sibling"),
                    );
                });
                rounds(2).await;
                task.cancel().await;
            });
        });
    });
    trace.assert(&["sibling cleaned up"]);
}

#[test]
fn destructors_run_once_when_they_panic_in_a_cancellation() {
    let drops = DropCount::new();
    assert_panics(&["destructor panics"], || {
        run(async {
            task_group!(|tg| {
                let (before, after) = (drops.flag(), drops.flag());
                let task = tg.spawn(async {
                    let _before = before;
                    let _bomb = DropBomb("destructor panics");
                    let _after = after;
                    sleep(LONG).await;
                });
                let other = drops.flag();
                tg.spawn(async {
                    let _other = other;
                    sleep(LONG).await;
                });
                rounds(2).await;
                task.cancel().await;
            });
        });
    });
    assert_eq!(drops.get(), 3);
}

#[test]
fn a_future_that_ends_in_the_pass_of_its_cancellation_has_ended() {
    // It looks at a flag and nothing else, so the pass over the unwinding task finds it ready.
    let is_over = Cell::new(false);
    let trace = Trace::new();
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(async {
                let work = async {
                    poll_fn(|_| if is_over.get() { Poll::Ready(()) } else { Poll::Pending }).await;
                };
                futures::future::select(Box::pin(held(&trace, "bracket")), Box::pin(work)).await;
                7
            });
            rounds(2).await;
            is_over.set(true);
            assert_eq!(task.cancel().await, Some(7));
        });
    });
}

#[test]
fn cancelling_many_sleepers_drops_each_once() {
    const N_TASKS: usize = 100_000;
    let drops = DropCount::new();
    run_virtually(async {
        task_group!(|tg| {
            for _ in 0..N_TASKS {
                let flag = drops.flag();
                tg.spawn(async {
                    let _flag = flag;
                    sleep(LONG).await;
                });
            }
            rounds(1).await;
            sleep(millis(1)).await;
            tg.cancel();
        });
    });
    assert_eq!(drops.get(), N_TASKS);
}

#[test]
fn the_queue_of_a_cancelled_consumer_goes_to_the_next() {
    let queue = RefCell::new(VecDeque::from([1, 2, 3]));
    let promise = Promise::new();
    let taken = run(async {
        task_group!(|tg| {
            let first = tg.spawn(async {
                promise.wait().await;
                queue.borrow_mut().pop_front()
            });
            rounds(2).await;
            promise.set(()).unwrap();
            assert!(first.cancel().await.is_none());
            let second = tg.spawn(async { queue.borrow_mut().pop_front() });
            second.await
        })
    });
    assert_eq!(taken, Some(1));
}

// A group that has failed has only cleanup in it. A cancellation from outside waits for that, whatever it is.

/// Waits, and has a destructor that spawns a helper.
async fn leaves_a_helper<'env>(tg: &'env TaskGroup<'env>, trace: &'env Trace) {
    let _spawns = OnDrop(|| drop(tg.spawn(helps(trace))));
    pending::<()>().await;
}

/// Holds nothing that would have to be cleaned up.
async fn helps(trace: &Trace) {
    sleep(millis(20)).await;
    trace.note("helped");
}

#[test]
fn a_helper_of_a_group_that_has_panicked_is_waited_for_and_the_panic_is_thrown() {
    let (trace, reports) = (&Trace::new(), Reports::new());
    let scene = async {
        let group = async {
            task_group!(|tg| {
                tg.spawn(leaves_a_helper(tg, trace));
                yield_now().await;
                tg.spawn(async { panic!("failed") });
                pending::<()>().await;
            });
        };
        let _ = timeout(millis(5), group).await;
    };
    assert_eq!(panic_text(|| run_virtually(scene)), "failed");
    trace.assert(&["helped"]);
    reports.assert_none();
}

#[test]
fn a_helper_of_a_group_whose_time_is_over_is_waited_for_by_the_limit_around() {
    let trace = &Trace::new();
    run_virtually(async {
        let group = async {
            let _ = task_group!(timeout = millis(2), |tg| {
                tg.spawn(leaves_a_helper(tg, trace));
                pending::<()>().await;
            });
            trace.note("ran on");
        };
        trace.note(format!("{:?}", timeout(millis(5), group).await));
    });
    trace.assert(&["helped", "Err(Elapsed)"]);
}

/// A release spawns it, and does not await it.
#[test]
fn a_helper_of_a_cleanup_that_has_ended_is_waited_for_by_who_cancels_the_task() {
    let trace = &Trace::new();
    run_virtually(async {
        task_group!(|outer| {
            let task = outer.spawn(async {
                let _: Result<(), &str> = try_task_group!(error = &str, |tg| {
                    let release = async |()| drop(tg.spawn(helps(trace).map(Ok)));
                    tg.spawn(bracket((), async |()| pending::<Result<(), &str>>().await, release));
                    yield_now().await;
                    tg.spawn(async { Err::<(), _>("failed") });
                    pending::<()>().await;
                });
            });
            sleep(millis(5)).await;
            assert!(task.cancel().await.is_none());
            trace.note("cancelled");
        });
    });
    trace.assert(&["helped", "cancelled"]);
}
