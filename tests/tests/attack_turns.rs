//! Turns that end at the worst moment: a turn has so many polls, and what is ready beyond them waits for the next.

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::task::Poll;

use xiio::{Failure, GroupError, Promise, task_group, try_task_group, yield_now};
use xiio_tests::poll::OnDrop;
use xiio_tests::run;

/// More than the polls of a turn.
const MANY: usize = 1000;

/// A group of tasks that take all that a turn and a poll allow, each time, is beside one with a task that needs a single
/// leaf.
#[test]
fn group_beside_one_that_takes_all_makes_progress() {
    let (n_taken, is_done) = (Cell::new(0_u32), Cell::new(false));
    let ready = Promise::new();
    ready.set(()).unwrap();
    let greedy = async || {
        while !is_done.get() {
            ready.wait().await;
            n_taken.set(n_taken.get() + 1);
            assert!(n_taken.get() < 1_000_000, "the other group starves");
        }
    };
    run(async {
        task_group!(|tg| {
            tg.spawn(async {
                task_group!(|inner| {
                    for _ in 0..MANY {
                        inner.spawn(greedy());
                    }
                    pending::<()>().await;
                });
            });
            tg.spawn(async {
                task_group!(|inner| {
                    inner.spawn(async {
                        ready.wait().await;
                        is_done.set(true);
                    });
                    pending::<()>().await;
                });
            });
            while !is_done.get() {
                yield_now().await;
            }
            tg.cancel();
        });
    });
}

/// The round in which all errors are looked for takes more than one turn; at its end a destructor spawns a task, which is a cleanup.
#[test]
fn last_round_that_is_longer_than_a_turn_ends_the_group() {
    let (spawns, has_run) = (&Cell::new(true), &Cell::new(false));
    let failed: Result<(), GroupError<&str>> = run(async {
        try_task_group!(all_errors, error = &str, |tg| {
            for n in 0..MANY {
                let dropped = OnDrop(move || {
                    if n != 0 && spawns.take() {
                        tg.spawn(async {
                            yield_now().await;
                            has_run.set(true);
                            Ok(())
                        });
                    }
                });
                let mut n_polls = 0;
                tg.spawn(poll_fn(move |cx| {
                    let _owned = &dropped;
                    n_polls += 1;
                    if n_polls < 3 {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    if n == 0 { Poll::Ready(Err("the first")) } else { Poll::<Result<(), _>>::Pending }
                }));
            }
            pending::<()>().await;
        })
    });
    assert!(matches!(failed.unwrap_err().first(), Failure::Error("the first")));
    assert!(has_run.get());
}

/// The parent is cancelled in the middle of the last round. What a destructor spawns then is a cleanup, and runs.
#[test]
fn last_round_is_over_when_the_parent_is_cancelled() {
    let (n_waiting, has_failed) = (&Cell::new(0), &Cell::new(false));
    let (spawns, has_run) = (&Cell::new(true), &Cell::new(false));
    let gate = &Promise::new();
    run(async {
        task_group!(|outer| {
            let parent = outer.spawn(async {
                let _: Result<(), GroupError<&str>> = try_task_group!(all_errors, error = &str, |tg| {
                    tg.spawn(async {
                        gate.wait().await;
                        has_failed.set(true);
                        Err::<(), _>("the first")
                    });
                    for _ in 0..MANY {
                        let dropped = OnDrop(|| {
                            if spawns.take() {
                                tg.spawn(async {
                                    has_run.set(true);
                                    Ok(())
                                });
                            }
                        });
                        tg.spawn(async move {
                            let _owned = dropped;
                            n_waiting.set(n_waiting.get() + 1);
                            gate.wait().await;
                            pending::<Result<(), _>>().await
                        });
                    }
                    pending::<()>().await;
                });
            });
            while n_waiting.get() < MANY {
                yield_now().await;
            }
            gate.set(()).unwrap();
            while !has_failed.get() {
                yield_now().await;
            }
            assert!(parent.cancel().await.is_none());
        });
    });
    assert!(has_run.get(), "the cleanup was cancelled");
}
