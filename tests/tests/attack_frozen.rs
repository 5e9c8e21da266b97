//! Code that cancels itself while it is polled stops there; whatever happens meanwhile, the thread goes on afterwards.

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use xiio::{bracket, inspect, shield, sleep, task_group, timeout, yield_now};
use xiio_tests::{LONG, Reports, assert_panics, millis, rounds, run};

/// The tree is drawn by a poll, in which a task cancels its group.
#[test]
fn group_cancelled_by_its_own_task_while_the_tree_is_drawn() {
    let is_armed = Cell::new(false);
    run(async {
        task_group!(|tg| {
            tg.spawn(poll_fn(|_| {
                if is_armed.get() {
                    tg.cancel();
                }
                Poll::<()>::Pending
            }));
            tg.spawn(pending::<()>());
            yield_now().await;
            is_armed.set(true);
            drop(inspect::tree().await);
        });
    });
}

/// The same for a group further out. The sibling behind is cancelled code by then.
#[test]
fn group_cancelled_further_out_while_the_tree_is_drawn() {
    let (is_armed, is_cancelled, runs_on) = (Cell::new(false), Cell::new(false), Cell::new(false));
    run(async {
        task_group!(|outer| {
            outer.spawn(async {
                task_group!(|tg| {
                    tg.spawn(poll_fn(|_| {
                        if is_armed.get() {
                            is_cancelled.set(true);
                            outer.cancel();
                        }
                        Poll::<()>::Pending
                    }));
                    tg.spawn(poll_fn(|_| {
                        runs_on.set(is_cancelled.get());
                        Poll::<()>::Pending
                    }));
                });
            });
            rounds(3).await;
            is_armed.set(true);
            drop(inspect::tree().await);
        });
    });
    assert!(is_cancelled.get() && !runs_on.get());
}

/// The same when the tree is drawn because the grace is over.
#[test]
fn group_cancelled_by_its_own_task_at_the_end_of_the_grace() {
    let _reports = Reports::new();
    let n_polls = Cell::new(0);
    run(async {
        task_group!(|outer| {
            outer.spawn(async {
                let slow = async |()| {
                    poll_fn(|_| {
                        n_polls.set(n_polls.get() + 1);
                        outer.cancel();
                        Poll::<()>::Pending
                    })
                    .await;
                };
                task_group!(grace = millis(5), |tg| {
                    tg.spawn(bracket((), async |_| pending::<()>().await, slow));
                    pending::<()>().await;
                });
            });
            rounds(3).await;
            outer.cancel();
            sleep(millis(20)).await;
        });
        sleep(millis(1)).await;
    });
    assert!(n_polls.get() > 0);
}

/// The same for a task with a grace of its own; who waits for it is inside of what is cancelled.
#[test]
fn group_cancelled_further_out_at_the_end_of_the_grace_of_a_task() {
    let _reports = Reports::new();
    let (is_armed, is_reached) = (Cell::new(false), Cell::new(false));
    run(async {
        task_group!(|outer| {
            outer.spawn(async {
                task_group!(grace = millis(5), |tg| {
                    let stuck = tg.spawn(shield(poll_fn(|_| {
                        if is_armed.get() {
                            outer.cancel();
                        }
                        Poll::<()>::Pending
                    })));
                    yield_now().await;
                    let cancelled = stuck.cancel();
                    rounds(3).await;
                    is_armed.set(true);
                    cancelled.await;
                    is_reached.set(true);
                });
            });
        });
    });
    assert!(is_armed.get() && !is_reached.get());
}

/// A panic on the way from a cancellation back to whoever was cancelled: that one ends by it.
#[test]
fn panic_of_a_group_whose_parent_was_cancelled_in_the_same_poll_is_thrown() {
    for _ in 0..2 {
        let reports = Reports::new();
        let scene = async {
            task_group!(|outer| {
                let task = std::rc::Rc::new(Cell::new(None));
                let inner = std::rc::Rc::clone(&task);
                task.set(Some(outer.spawn(async move {
                    task_group!(|tg| {
                        tg.spawn(async {
                            drop(inner.take().map(xiio::Task::cancel));
                            panic!("cancelled, and panics");
                        });
                        sleep(LONG).await;
                    });
                })));
            });
        };
        assert_panics(&["cancelled, and panics"], || run(scene));
        reports.assert_none();
    }
    run(sleep(millis(1)));
}

/// Cleanup that cancels its own group in every poll still comes to its end, beside a sibling that makes progress.
#[test]
fn cleanup_that_cancels_its_group_again_and_again_ends() {
    let is_released = Cell::new(false);
    run(async {
        task_group!(|tg| {
            let release = async |()| {
                for _ in 0..20 {
                    tg.cancel();
                    sleep(millis(1)).await;
                }
                is_released.set(true);
            };
            tg.spawn(bracket((), async |_| pending::<()>().await, release));
            yield_now().await;
            tg.cancel();
        });
    });
    assert!(is_released.get());
}

#[test]
fn a_foreign_executor_in_a_task_that_has_cancelled_its_group_panics_with_advice() {
    type MakeLeaf = fn() -> Pin<Box<dyn Future<Output = ()>>>;
    let leaves: [MakeLeaf; 3] = [
        || Box::pin(yield_now()),
        || Box::pin(sleep(millis(1))),
        || {
            Box::pin(async {
                task_group!(|tg| {
                    tg.spawn(yield_now());
                });
            })
        },
    ];
    for leaf in leaves {
        let cancels_itself = || {
            run(async {
                task_group!(|tg| {
                    tg.spawn(async {
                        futures::executor::block_on(async {
                            tg.cancel();
                            leaf().await;
                        });
                    });
                });
            });
        };
        assert_panics(&["is it inside of a `block_on`?"], cancels_itself);
    }
}

type MakeLeaf = fn() -> Pin<Box<dyn Future<Output = ()>>>;

/// What a foreign executor in a task can wait for without the loop, and so has to be refused again and again.
const READY_SOON: [MakeLeaf; 4] = [
    || Box::pin(yield_now()),
    || Box::pin(async { bracket((), async |()| yield_now().await, async |()| ()).await }),
    || Box::pin(async { timeout(LONG, yield_now()).await.unwrap() }),
    || {
        Box::pin(async {
            task_group!(|tg| {
                tg.spawn(yield_now());
            });
        })
    },
];

/// A drawing polls foreign code as well. If that goes on, and into a `block_on`, the drawing waits for it.
#[test]
fn a_foreign_executor_that_is_reached_by_a_drawing_goes_on() {
    for leaf in READY_SOON {
        let is_armed = Cell::new(false);
        let drawing = run(async {
            task_group!(|tg| {
                let task = tg.spawn(async {
                    poll_fn(|_| if is_armed.get() { Poll::Ready(()) } else { Poll::Pending }).await;
                    futures::executor::block_on(leaf());
                });
                tg.spawn_named("beside", sleep(millis(1)));
                yield_now().await;
                is_armed.set(true);
                let drawing = inspect::tree().await;
                task.await;
                drawing
            })
        });
        let beside = drawing.nodes().filter(|(_, node)| node.name() == Some("beside"));
        assert_eq!(beside.map(|(depth, _)| depth).collect::<Vec<_>>(), [1], "{drawing}");
    }
}

/// The same for code that cleans up, and cancels what is around it by that.
#[test]
fn a_foreign_executor_in_cancelled_code_that_is_cancelled_further_out_panics_with_advice() {
    let cancels = || {
        run(async {
            task_group!(|outer| {
                let task = outer.spawn(async {
                    let (sender, receiver) = futures::channel::oneshot::channel();
                    futures::join!(
                        shield(async {
                            sleep(millis(1)).await;
                            outer.cancel();
                            sender.send(()).unwrap();
                        }),
                        async {
                            receiver.await.unwrap();
                            futures::executor::block_on(yield_now());
                        },
                    )
                });
                yield_now().await;
                task.cancel().await;
            });
        });
    };
    assert_panics(&["is it inside of a `block_on`?"], cancels);
}

/// A task that awaits many things at once is no such executor.
#[test]
fn many_leaves_of_one_task_are_drawn() {
    let drawing = run(async {
        task_group!(|tg| {
            tg.spawn(async {
                let mut waits: Vec<_> = (0..10_000).map(|_| Box::pin(sleep(LONG))).collect();
                poll_fn(|cx| {
                    waits.iter_mut().for_each(|wait| _ = wait.as_mut().poll(cx));
                    Poll::<()>::Pending
                })
                .await;
            });
            yield_now().await;
            let drawing = inspect::tree().await;
            tg.cancel();
            drawing
        })
    });
    let n_sleeps = drawing.nodes().filter(|(_, node)| node.what().starts_with("sleep")).count();
    assert_eq!(n_sleeps, 10_000);
}

/// A limit that is over does not let code go on that has just cancelled itself inside of it.
#[test]
fn code_that_cancels_itself_under_a_limit_that_is_over_stops_there() {
    let runs_on = Cell::new(false);
    for limit in [Duration::ZERO, millis(5)] {
        run(async {
            task_group!(|tg| {
                tg.spawn(async {
                    let cancelled = async {
                        tg.cancel();
                        std::thread::sleep(limit);
                        sleep(LONG).await;
                    };
                    let _ = timeout(limit, cancelled).await;
                    runs_on.set(true);
                });
            });
        });
    }
    assert!(!runs_on.get());
}

/// Nor does it begin a cleanup in a drawing, of which the description of the limit is the first to see the time.
#[test]
fn limit_that_is_over_while_the_tree_is_drawn_is_looked_at_afterwards() {
    let released = Cell::new(0);
    run(async {
        task_group!(|tg| {
            let release = async |()| {
                yield_now().await;
                released.set(released.get() + 1);
            };
            let task = tg.spawn(timeout(millis(50), bracket((), async |_: &mut ()| pending::<()>().await, release)));
            yield_now().await;
            let tree = inspect::tree();
            // Behind this the drawing comes before the timers.
            std::thread::sleep(millis(60));
            let tree = tree.await.to_string();
            assert_eq!(tree.matches("bracket").count(), 1, "{tree}");
            assert!(!tree.contains("cleaning up"), "{tree}");
            task.await.unwrap_err();
        });
    });
    assert_eq!(released.get(), 1);
}
