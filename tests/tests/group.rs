//! Groups whose tasks may return anything: what they promise, from the first spawn to the value of the block.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use xiio::inspect::ReportKind;
use xiio::{Promise, Task, sleep, task_group, yield_now};
use xiio_tests::{
    DropCount, LONG, Reports, Trace, assert_cancels_cleanly, assert_panics, millis, poll_once, ready_at_poll, rounds,
    run, run_virtually, takes,
};

// Law 1: when the block has a value, every task has ended and what it borrowed is free again.

#[test]
fn the_block_waits_for_its_tasks_and_evaluates_to_the_value_of_its_body() {
    let trace = Trace::new();
    let value = run(async {
        let value = task_group!(|tg| {
            tg.spawn(async {
                rounds(5).await;
                trace.note("task ended");
            });
            trace.note("body ended");
            7
        });
        trace.note("block ended");
        value
    });
    assert_eq!(value, 7);
    trace.assert(&["body ended", "task ended", "block ended"]);
}

#[test]
fn tasks_write_to_disjoint_locals_that_are_free_afterwards() {
    let (mut left, mut right) = (vec![1], vec![2]);
    run(async {
        task_group!(|tg| {
            tg.spawn(async {
                yield_now().await;
                left.push(10);
            });
            tg.spawn(async { right.push(20) });
        });
        left.append(&mut right);
    });
    assert_eq!(left, [1, 10, 2, 20]);
}

#[test]
fn a_task_writes_what_is_read_after_the_block() {
    let mut words = Vec::new();
    let n_words = run(async {
        task_group!(|tg| {
            tg.spawn(async {
                for word in ["a", "b"] {
                    yield_now().await;
                    words.push(word);
                }
            });
        });
        words.len()
    });
    assert_eq!((n_words, words), (2, vec!["a", "b"]));
}

#[test]
fn the_parts_of_a_slice_go_to_as_many_tasks() {
    let mut numbers = [1, 2, 3, 4];
    run(async {
        task_group!(|tg| {
            for number in &mut numbers {
                tg.spawn(async move {
                    yield_now().await;
                    *number *= 10;
                });
            }
        });
    });
    assert_eq!(numbers, [10, 20, 30, 40]);
}

#[test]
fn everything_in_a_task_is_dropped_before_the_block_ends() {
    let drops = DropCount::new();
    run(async {
        task_group!(|tg| {
            for n in 0..3 {
                let flag = drops.flag();
                tg.spawn(async move {
                    rounds(n).await;
                    flag.touch();
                });
            }
        });
        assert_eq!(drops.get(), 3);
    });
}

// Law 2: tasks do not start inside `spawn`.

#[test]
fn tasks_start_when_the_body_awaits_and_not_before() {
    let trace = Trace::new();
    run(async {
        task_group!(|tg| {
            tg.spawn(async { trace.note("task") });
            trace.note("after spawn");
            std::future::ready(()).await;
            trace.note("after an await that was ready");
            yield_now().await;
            trace.note("after an await that gave way");
        });
    });
    trace.assert(&["after spawn", "after an await that was ready", "task", "after an await that gave way"]);
}

#[test]
fn tasks_start_in_the_order_of_their_spawns() {
    let trace = Trace::new();
    run(async {
        task_group!(|tg| {
            for name in ["a", "b", "c"] {
                let trace = &trace;
                tg.spawn(async move { trace.note(name) });
            }
        });
    });
    trace.assert(&["a", "b", "c"]);
}

// Law 3: the first failure wins, the others are cancelled, and the group waits for their cleanup.

#[test]
fn a_panic_in_the_body_cancels_the_tasks_and_waits_for_their_cleanup() {
    let trace = Trace::new();
    assert_panics(&["expected"], || {
        run(async {
            task_group!(|tg| {
                tg.spawn(xiio::bracket(
                    (),
                    async |()| sleep(LONG).await,
                    async |()| {
                        rounds(3).await;
                        trace.note("cleaned up");
                    },
                ));
                yield_now().await;
                if true {
                    panic!("expected");
                }
            });
        });
    });
    trace.assert(&["cleaned up"]);
}

#[test]
fn a_panic_in_a_task_cancels_a_body_that_waits_for_ever() {
    let drops = DropCount::new();
    assert_panics(&["expected"], || {
        run(async {
            task_group!(|tg| {
                tg.spawn(async {
                    rounds(2).await;
                    panic!("expected");
                });
                let _flag = drops.flag();
                pending::<()>().await;
            });
        });
    });
    assert_eq!(drops.get(), 1);
}

#[test]
fn a_panic_nobody_awaits_is_still_the_group_s() {
    assert_panics(&["expected"], || {
        run(async {
            task_group!(|tg| {
                drop(tg.spawn(async { panic!("expected") }));
                rounds(3).await;
            });
        });
    });
}

#[test]
fn a_looping_task_beside_a_crashing_one_is_cancelled_once() {
    let drops = DropCount::new();
    let n_loops = Cell::new(0);
    assert_panics(&["crash"], || {
        run(async {
            task_group!(|tg| {
                let flag = drops.flag();
                tg.spawn(async {
                    let _flag = flag;
                    loop {
                        n_loops.set(n_loops.get() + 1);
                        yield_now().await;
                    }
                });
                tg.spawn(async {
                    rounds(3).await;
                    panic!("crash");
                });
            });
        });
    });
    assert_eq!((drops.get(), n_loops.get()), (1, 4));
}

#[test]
fn a_failure_three_groups_deep_beside_it_cancels_all_leaves() {
    let trace = Trace::new();
    assert_panics(&["expected"], || {
        run(async {
            task_group!(|outer| {
                outer.spawn(async {
                    task_group!(|middle| {
                        middle.spawn(async {
                            task_group!(|inner| {
                                for name in ["leaf 1", "leaf 2"] {
                                    let trace = &trace;
                                    inner.spawn(async move {
                                        let _dropped = trace.on_drop(name);
                                        sleep(LONG).await;
                                        trace.note("leaf ran on");
                                    });
                                }
                            });
                            trace.note("after the inner group");
                        });
                    });
                    trace.note("after the middle group");
                });
                outer.spawn(async {
                    rounds(5).await;
                    panic!("expected");
                });
            });
            trace.note("after the outer group");
        });
    });
    trace.assert(&["leaf 1", "leaf 2"]);
}

#[test]
fn a_failure_three_groups_deep_beside_it_waits_for_the_cleanup_of_the_leaves() {
    let trace = Trace::new();
    assert_panics(&["expected"], || {
        run(async {
            task_group!(|outer| {
                outer.spawn(async {
                    task_group!(|middle| {
                        middle.spawn(async {
                            task_group!(|inner| {
                                inner.spawn(xiio::bracket(
                                    (),
                                    async |()| sleep(LONG).await,
                                    async |()| {
                                        rounds(3).await;
                                        trace.note("cleaned up");
                                    },
                                ));
                            });
                            trace.note("after the inner group");
                        });
                    });
                    trace.note("after the middle group");
                });
                outer.spawn(async {
                    rounds(5).await;
                    panic!("expected");
                });
            });
        });
    });
    trace.assert(&["cleaned up"]);
}

// Law 4: later failures are reported.

#[test]
fn a_second_panic_is_reported_and_aborts_nothing() {
    let reports = Reports::new();
    assert_panics(&["first"], || {
        run(async {
            task_group!(|tg| {
                tg.spawn(xiio::bracket((), async |()| sleep(LONG).await, async |()| panic!("second")));
                rounds(2).await;
                if true {
                    panic!("first");
                }
            });
        });
    });
    reports.assert_one(ReportKind::LaterFailure, &["panicked as well: second", "group.rs"]);
}

#[test]
fn a_named_group_is_named_in_its_reports() {
    let reports = Reports::new();
    assert_panics(&["first"], || {
        run(async {
            task_group!(name = "workers", |tg| {
                tg.spawn(async {
                    let _bomb = xiio_tests::DropBomb("second");
                    pending::<()>().await;
                });
                rounds(2).await;
                if true {
                    panic!("first");
                }
            });
        });
    });
    reports.assert_one(ReportKind::LaterFailure, &["group `workers`", "second"]);
}

// Law 5: finished tasks are freed at once, a handle keeps only its result.

#[test]
fn a_finished_task_is_freed_while_its_handle_keeps_only_the_output() {
    let (locals, outputs) = (DropCount::new(), DropCount::new());
    run(async {
        task_group!(|tg| {
            let local = locals.flag();
            let task = tg.spawn(async {
                local.touch();
                let _local = local;
                outputs.flag()
            });
            rounds(2).await;
            assert!(task.is_finished());
            assert_eq!((locals.n_alive(), outputs.n_alive()), (0, 1));
            drop(task);
            assert_eq!(outputs.n_alive(), 0);
        });
    });
}

#[test]
fn an_output_nobody_wants_is_dropped_at_once() {
    let outputs = DropCount::new();
    run(async {
        task_group!(|tg| {
            drop(tg.spawn(async { outputs.flag() }));
            rounds(2).await;
            assert_eq!(outputs.get(), 1);
        });
    });
}

// Law 6: tasks may be added at any time.

#[test]
fn a_task_spawns_while_the_body_waits_and_after_the_body_has_ended() {
    let trace = Trace::new();
    let gate = Promise::new();
    run(async {
        task_group!(|tg| {
            tg.spawn(async {
                tg.spawn(async { trace.note("spawned while the body waits") });
                gate.wait().await;
                tg.spawn(async {
                    rounds(2).await;
                    trace.note("spawned after the body has ended");
                });
            });
            rounds(2).await;
            trace.note("body ended");
            gate.set(()).unwrap();
        });
        trace.note("block ended");
    });
    trace.assert(&["spawned while the body waits", "body ended", "spawned after the body has ended", "block ended"]);
}

#[test]
fn a_deferred_cleanup_spawns_and_the_group_waits_for_that_too() {
    let trace = Trace::new();
    run(async {
        task_group!(|tg| {
            tg.defer(async {
                trace.note("deferred");
                tg.spawn(async {
                    rounds(3).await;
                    trace.note("spawned by the deferred");
                });
                tg.defer(async { trace.note("deferred by the deferred") });
            });
        });
        trace.note("block ended");
    });
    trace.assert(&["deferred", "spawned by the deferred", "deferred by the deferred", "block ended"]);
}

#[test]
fn what_is_spawned_after_a_cancel_runs() {
    let trace = Trace::new();
    run(async {
        task_group!(|tg| {
            tg.spawn(async {
                let _dropped = trace.on_drop("there before: dropped");
                sleep(LONG).await;
            });
            yield_now().await;
            tg.cancel();
            tg.spawn(async {
                rounds(2).await;
                trace.note("spawned afterwards: ended");
            });
        });
    });
    trace.assert(&["there before: dropped", "spawned afterwards: ended"]);
}

#[test]
fn cleanup_of_a_cancelled_task_spawns_helpers_that_run() {
    let trace = Trace::new();
    run(async {
        task_group!(|tg| {
            tg.spawn(xiio::bracket(
                (),
                async |()| sleep(LONG).await,
                async |()| {
                    let helper = tg.spawn(async {
                        rounds(2).await;
                        "help"
                    });
                    trace.note(helper.await);
                },
            ));
            yield_now().await;
            tg.cancel();
        });
    });
    trace.assert(&["help"]);
}

// Law 7: a task woken is a task polled, whatever the others wait for.

#[test]
fn tasks_go_on_while_the_body_waits_for_something_else() {
    run_virtually(async {
        let (sender, receiver) = async_channel::bounded(1);
        task_group!(|tg| {
            tg.spawn(async {
                rounds(3).await;
                sleep(millis(5)).await;
                sender.send(7).await.unwrap();
            });
            assert_eq!(receiver.recv().await, Ok(7));
        });
    });
}

#[test]
fn an_outer_task_goes_on_while_the_body_waits_in_an_inner_group() {
    let promise = Promise::new();
    let value = run(async {
        task_group!(|outer| {
            outer.spawn(async {
                rounds(3).await;
                promise.set(7).unwrap();
            });
            task_group!(|inner| {
                let task = inner.spawn(promise.wait());
                task.await
            })
        })
    });
    assert_eq!(value, 7);
}

#[test]
fn a_promise_set_by_a_task_wakes_the_body() {
    let promise = Promise::new();
    let value = run(async {
        task_group!(|tg| {
            tg.spawn(async { promise.set(7).unwrap() });
            promise.wait().await
        })
    });
    assert_eq!(value, 7);
}

// Law 8: no task starves.

#[test]
fn a_task_that_is_always_ready_gives_way_to_a_timer() {
    takes(millis(10), || {
        run(async {
            task_group!(|tg| {
                tg.spawn(async {
                    loop {
                        yield_now().await;
                    }
                });
                sleep(millis(10)).await;
                tg.cancel();
            });
        });
    });
}

// Law 9: a panic in a task is the group's, with its payload.

#[test]
fn the_payload_of_a_task_s_panic_comes_through_two_groups() {
    let payload = catch_unwind(|| {
        run(async {
            task_group!(|outer| {
                outer.spawn(async {
                    task_group!(|inner| {
                        inner.spawn(async { std::panic::panic_any(7_u8) });
                    });
                });
            });
        });
    })
    .unwrap_err();
    assert_eq!(payload.downcast_ref::<u8>(), Some(&7));
}

// Handles.

#[test]
fn handles_are_awaited_in_any_order() {
    let values = run(async {
        task_group!(|tg| {
            let [a, b, c] = [1, 2, 3].map(|n| {
                tg.spawn(async move {
                    rounds(n).await;
                    n
                })
            });
            [c.await, a.await, b.await]
        })
    });
    assert_eq!(values, [3, 1, 2]);
}

#[test]
fn results_of_different_types_come_from_one_group() {
    let (number, word) = run(async {
        task_group!(|tg| {
            let number = tg.spawn(async { 7 });
            let word = tg.spawn(async { String::from("seven") });
            (number.await, word.await)
        })
    });
    assert_eq!((number, word.as_str()), (7, "seven"));
}

#[test]
fn a_handle_is_awaited_by_a_sibling() {
    let value = run(async {
        task_group!(|tg| {
            let first = tg.spawn(async {
                rounds(3).await;
                7
            });
            let second = tg.spawn(async { first.await + 1 });
            second.await
        })
    });
    assert_eq!(value, 8);
}

#[test]
#[expect(clippy::async_yields_async, reason = "the handle is wanted after the group, not its output")]
fn an_output_is_taken_after_the_group_has_ended_once() {
    let mut task = run(async { task_group!(|tg| { tg.spawn(async { String::from("kept") }) }) });
    assert!(task.is_finished());
    assert_eq!(task.take().as_deref(), Some("kept"));
    assert_eq!(task.take(), None);
}

#[test]
fn an_outcome_is_awaited_after_the_group_has_ended() {
    run(async {
        let (ended, cancelled) = task_group!(|tg| {
            let ended = tg.spawn(async { 7 });
            let cancelled = tg.spawn(pending::<i32>());
            yield_now().await;
            tg.cancel();
            (ended, cancelled)
        });
        assert_eq!(ended.outcome().await, Ok(7));
        assert!(cancelled.outcome().await.is_err());
    });
}

#[test]
#[expect(clippy::async_yields_async, reason = "the handle is wanted after the run, not its output")]
fn a_handle_kept_beyond_run_keeps_its_output() {
    let drops = DropCount::new();
    let task = run(async {
        let flag = drops.flag();
        task_group!(|tg| { tg.spawn(async move { flag }) })
    });
    assert_eq!(drops.get(), 0);
    drop(task);
    assert_eq!(drops.get(), 1);
}

#[test]
fn a_cancelled_task_that_is_awaited_panics_and_names_itself_and_outcome() {
    let line = line!() + 4;
    assert_panics(&["cancelled", "`task.outcome()`", &format!("group.rs:{line}")], || {
        run(async {
            task_group!(|tg| {
                let task = tg.spawn(pending::<()>());
                tg.cancel();
                task.await;
            });
        });
    });
}

#[test]
fn a_handle_tells_of_a_task_that_ended_before_its_cancellation() {
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(async { 7 });
            yield_now().await;
            assert_eq!(task.cancel().await, Some(7));
        });
    });
}

#[test]
fn waiting_for_a_task_cancels_cleanly() {
    run(async {
        task_group!(|tg| {
            let awaited = RefCell::new(Some(tg.spawn(pending::<()>())));
            let waiter = tg.spawn(async move {
                let task = awaited.take().unwrap();
                task.await;
            });
            rounds(2).await;
            assert!(waiter.cancel().await.is_none());
            // The task whose handle is gone is still there.
            rounds(2).await;
            tg.cancel();
        });
    });
}

#[test]
fn who_waits_for_a_task_is_cancelled_and_the_task_is_not() {
    let trace = Trace::new();
    let gate = Promise::new();
    run(async {
        task_group!(|tg| {
            let mut task = tg.spawn(async {
                gate.wait().await;
                trace.note("task ended");
            });
            assert!(poll_once(std::pin::Pin::new(&mut task)).await.is_pending());
            let waiter = tg.spawn(async move {
                task.await;
            });
            rounds(2).await;
            assert!(waiter.cancel().await.is_none());
            trace.note("waiter cancelled");
            gate.set(()).unwrap();
        });
    });
    trace.assert(&["waiter cancelled", "task ended"]);
}

// After the end.

/// Spawns into `tg` when it is dropped.
struct SpawnsOnDrop<'a, 'env> {
    tg: &'a xiio::TaskGroup<'env>,
    refused: &'a RefCell<Option<Task<()>>>,
    future_drops: &'a DropCount,
}

impl Drop for SpawnsOnDrop<'_, '_> {
    fn drop(&mut self) {
        let flag = self.future_drops.flag();
        *self.refused.borrow_mut() = Some(self.tg.spawn(async move { flag.touch() }));
    }
}

#[test]
fn a_spawn_after_the_end_is_refused_and_says_so() {
    let reports = Reports::new();
    let refused = RefCell::new(None);
    let drops = DropCount::new();
    run(async {
        let group = async {
            task_group!(|tg| {
                tg.spawn(async {
                    let _spawns = SpawnsOnDrop { tg, refused: &refused, future_drops: &drops };
                    pending::<()>().await;
                });
            });
        };
        let mut group = Box::pin(group);
        assert!(futures::poll!(group.as_mut()).is_pending());
        drop(group);
        assert_eq!(drops.get(), 1, "the future of a refused task is dropped");
        let task = refused.take().unwrap();
        assert!(task.is_finished());
        assert!(task.outcome().await.is_err());
    });
    reports.assert_one(ReportKind::Refused, &["refused", "group has ended", "group.rs"]);
}

#[test]
fn a_task_that_is_awaited_twice_panics_and_says_so() {
    let line = line!() + 4;
    assert_panics(&["whose output was taken before", &format!("group.rs:{line}")], || {
        run(async {
            task_group!(|tg| {
                let mut task = tg.spawn(async { 7 });
                assert_eq!((&mut task).await, 7);
                task.await
            })
        });
    });
}

#[test]
fn a_refused_task_that_is_awaited_panics_and_says_why() {
    let reports = Reports::new();
    let refused = RefCell::new(None);
    let drops = DropCount::new();
    assert_panics(&["spawned after the end of its group", "`task.outcome()`"], || {
        run(async {
            let group = async {
                task_group!(|tg| {
                    tg.spawn(async {
                        let _spawns = SpawnsOnDrop { tg, refused: &refused, future_drops: &drops };
                        pending::<()>().await;
                    });
                });
            };
            let mut group = Box::pin(group);
            assert!(futures::poll!(group.as_mut()).is_pending());
            drop(group);
            let task = refused.take().unwrap();
            task.await;
        });
    });
    assert_eq!(reports.kinds(), [ReportKind::Refused]);
}

#[test]
fn a_spawn_by_a_destructor_during_a_cancellation_is_accepted() {
    let refused = RefCell::new(None);
    let drops = DropCount::new();
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(async {
                let _spawns = SpawnsOnDrop { tg, refused: &refused, future_drops: &drops };
                pending::<()>().await;
            });
            yield_now().await;
            task.cancel().await;
        });
    });
    assert_eq!(refused.take().unwrap().take(), Some(()));
}

// Options.

#[test]
fn limit_lets_so_many_run_at_once() {
    let (n_running, most) = (Cell::new(0_usize), Cell::new(0_usize));
    let trace = Trace::new();
    run(async {
        task_group!(limit = 3, |tg| {
            for n in 0..10 {
                let (n_running, most, trace) = (&n_running, &most, &trace);
                tg.spawn(async move {
                    n_running.set(n_running.get() + 1);
                    most.set(most.get().max(n_running.get()));
                    rounds(2).await;
                    n_running.set(n_running.get() - 1);
                    trace.note(n.to_string());
                });
            }
        });
    });
    assert_eq!(most.get(), 3);
    // Those that wait start in the order of their spawns.
    trace.assert(&["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
}

#[test]
fn a_cancelled_task_frees_its_place() {
    let trace = Trace::new();
    run(async {
        task_group!(limit = 1, |tg| {
            let first = tg.spawn(pending::<()>());
            tg.spawn(async { trace.note("second started") });
            rounds(3).await;
            trace.note("first cancelled");
            first.cancel().await;
        });
    });
    trace.assert(&["first cancelled", "second started"]);
}

#[test]
fn tasks_that_wait_for_a_place_never_start_when_they_are_cancelled() {
    let drops = DropCount::new();
    let n_started = Cell::new(0);
    run(async {
        task_group!(limit = 2, |tg| {
            for _ in 0..6 {
                let flag = drops.flag();
                tg.spawn(async {
                    let _flag = flag;
                    n_started.set(n_started.get() + 1);
                    pending::<()>().await;
                });
            }
            rounds(3).await;
            tg.cancel();
            rounds(3).await;
            assert_eq!(drops.get(), 6);
            // The places are free again.
            tg.spawn(async { n_started.set(n_started.get() + 10) });
        });
    });
    assert_eq!(n_started.get(), 12);
}

#[test]
fn a_single_waiting_task_can_be_cancelled() {
    let trace = Trace::new();
    let gate = Promise::new();
    run(async {
        task_group!(limit = 1, |tg| {
            let first = tg.spawn(async {
                gate.wait().await;
                trace.note("first");
            });
            let second = tg.spawn(async { trace.note("second") });
            tg.spawn(async { trace.note("third") });
            yield_now().await;
            assert_eq!(second.cancel().await, None);
            assert!(!first.is_finished());
            gate.set(()).unwrap();
        });
    });
    trace.assert(&["first", "third"]);
}

#[test]
fn a_limit_of_zero_is_refused_with_the_remedy() {
    assert_panics(&["`limit = 0`", "leave the option out"], || {
        run(async {
            task_group!(limit = 0, |tg| {
                tg.spawn(async {});
            });
        });
    });
}

#[test]
fn a_group_with_a_timeout_gives_its_value_or_elapsed() {
    run_virtually(async {
        let value = task_group!(timeout = LONG, |tg| {
            tg.spawn(sleep(millis(1)));
            7
        });
        assert_eq!(value, Ok(7));
        let late = task_group!(timeout = millis(10), |tg| {
            tg.spawn(sleep(LONG));
        });
        assert!(late.is_err());
    });
}

#[test]
fn a_group_with_a_timeout_cancels_body_and_tasks_and_waits_for_their_cleanup() {
    let trace = Trace::new();
    run_virtually(async {
        let late = task_group!(timeout = millis(10), |tg| {
            tg.spawn(async {
                xiio::bracket(
                    (),
                    async |()| sleep(LONG).await,
                    async |()| {
                        sleep(millis(5)).await;
                        trace.note("task cleaned up");
                    },
                )
                .await;
                trace.note("task ran on");
            });
            let _dropped = trace.on_drop("body dropped");
            sleep(LONG).await;
            trace.note("body ran on");
        });
        assert!(late.is_err());
    });
    trace.assert(&["body dropped", "task cleaned up"]);
}

#[test]
fn a_group_whose_tasks_end_in_the_round_of_its_deadline_has_not_elapsed() {
    run_virtually(async {
        for _ in 0..20 {
            let at = xiio::now() + millis(3);
            let value = task_group!(deadline = at, |tg| {
                tg.spawn(xiio::sleep_until(at));
                7
            });
            assert_eq!(value, Ok(7));
        }
    });
}

#[test]
fn a_group_whose_body_ends_in_the_round_of_its_deadline_has_not_elapsed() {
    run_virtually(async {
        for _ in 0..20 {
            let at = xiio::now() + millis(3);
            let value = task_group!(deadline = at, |tg| {
                xiio::sleep_until(at).await;
                let _ = tg;
                7
            });
            assert_eq!(value, Ok(7));
        }
    });
}

#[test]
fn a_group_with_a_timeout_of_zero_elapses_and_one_of_max_or_none_does_not() {
    run(async {
        let elapsed = task_group!(timeout = Duration::ZERO, |tg| {
            tg.spawn(pending::<()>());
        });
        assert!(elapsed.is_err());
        for timeout in [Some(Duration::MAX), None] {
            let value = task_group!(timeout = timeout, |tg| {
                let task = tg.spawn(async { 7 });
                task.await
            });
            assert_eq!(value, Ok(7));
        }
    });
}

// Dropped and cancelled from outside.

#[test]
fn a_group_cancels_cleanly() {
    assert_cancels_cleanly(|| async {
        task_group!(|tg| {
            tg.spawn(sleep(LONG));
            pending::<()>().await;
        });
    });
    assert_cancels_cleanly(|| async {
        task_group!(timeout = LONG, |tg| {
            tg.spawn(pending::<()>());
        })
    });
}

#[test]
fn a_group_dropped_half_way_drops_its_tasks_and_runs_no_cleanup() {
    let trace = Trace::new();
    run(async {
        let mut group = Box::pin(async {
            task_group!(|tg| {
                tg.defer(async { trace.note("deferred ran") });
                tg.spawn(xiio::bracket(
                    trace.on_drop("resource dropped"),
                    async |_| sleep(LONG).await,
                    async |_| trace.note("released"),
                ));
            });
        });
        assert!(futures::poll!(group.as_mut()).is_pending());
        drop(group);
    });
    trace.assert(&["resource dropped"]);
}

#[test]
fn a_panicking_destructor_in_a_group_dropped_half_way_is_reported() {
    let reports = Reports::new();
    let drops = DropCount::new();
    run(async {
        let mut group = Box::pin(async {
            task_group!(|tg| {
                let flag = drops.flag();
                tg.spawn(async {
                    let _bomb = xiio_tests::DropBomb("expected");
                    pending::<()>().await;
                });
                tg.spawn(async {
                    let _flag = flag;
                    pending::<()>().await;
                });
            });
        });
        assert!(futures::poll!(group.as_mut()).is_pending());
        drop(group);
    });
    assert_eq!(drops.get(), 1);
    reports.assert_one(ReportKind::LaterFailure, &["destructor", "expected"]);
}

#[test]
fn a_group_moved_to_another_task_after_its_first_poll_goes_on_there() {
    let trace = Trace::new();
    run_virtually(async {
        let mut group = Box::pin(async {
            task_group!(|tg| {
                tg.spawn(async {
                    sleep(millis(5)).await;
                    trace.note("task ended");
                });
            });
        });
        assert!(futures::poll!(group.as_mut()).is_pending());
        task_group!(|tg| {
            tg.spawn(group);
        });
    });
    trace.assert(&["task ended"]);
}

#[test]
fn a_waker_of_a_task_that_has_ended_wakes_nobody() {
    let kept: RefCell<Option<Waker>> = RefCell::default();
    run(async {
        task_group!(|tg| {
            let mut is_first = true;
            let kept = &kept;
            tg.spawn(poll_fn(move |cx| {
                if std::mem::take(&mut is_first) {
                    *kept.borrow_mut() = Some(cx.waker().clone());
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(())
            }));
        });
    });
    let waker = kept.take().unwrap();
    waker.wake_by_ref();
    drop(waker);
    run(yield_now());
}

#[test]
fn a_future_that_is_polled_for_another_reason_only_is_polled_for_that() {
    let n = Rc::new(Cell::new(0));
    run(async {
        task_group!(|tg| {
            let counted = Rc::clone(&n);
            tg.spawn(async move {
                futures::join!(ready_at_poll(3), rounds(5));
                counted.set(1);
            });
        });
    });
    assert_eq!(n.get(), 1);
}

#[test]
fn catching_the_panic_of_a_group_leaves_the_runtime_whole() {
    run_virtually(async {
        let group = AssertUnwindSafe(async {
            task_group!(|tg| {
                tg.spawn(async { panic!("expected") });
            });
        });
        assert!(futures::FutureExt::catch_unwind(group).await.is_err());
        sleep(millis(1)).await;
        let value = task_group!(|tg| {
            let task = tg.spawn(async { 7 });
            task.await
        });
        assert_eq!(value, 7);
    });
}

#[test]
fn what_becomes_a_future_is_spawned_as_it_is() {
    let order = RefCell::new(Vec::new());
    /// Becomes a future that notes a word.
    struct Notes<'a>(&'a RefCell<Vec<&'static str>>, &'static str);

    impl<'a> IntoFuture for Notes<'a> {
        type Output = ();
        type IntoFuture = std::pin::Pin<Box<dyn Future<Output = ()> + 'a>>;

        fn into_future(self) -> Self::IntoFuture {
            Box::pin(async move { self.0.borrow_mut().push(self.1) })
        }
    }

    run(async {
        task_group!(|tg| {
            tg.spawn(Notes(&order, "spawned"));
            tg.spawn_named("named", Notes(&order, "named"));
            tg.defer(Notes(&order, "deferred"));
            tg.remote().spawn(|| std::future::ready(())).unwrap();
        });
    });
    assert_eq!(*order.borrow(), ["spawned", "named", "deferred"]);
}
