//! Whoever is always ready gives way: what is ready at once, and futures of other crates where they are wrapped.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::future::select;
use xiio::{
    Condition, Elapsed, Outputs, Promise, as_completed, bracket, branch, catch_panic, cooperative, deadline, gather,
    in_thread, join, parallel_map, race, race_ok, shield, sleep, task_group, timeout, try_gather, try_join,
    try_task_group, yield_now,
};
use xiio_tests::{LONG, Trace, millis, run};

/// Runs `round` in a loop, and asserts that a limit of time around it and a sibling beside it get their turn.
fn gives_way(what: &str, round: impl AsyncFn()) {
    let for_ever = async || {
        loop {
            round().await;
        }
    };
    run(async {
        let limited: Result<(), Elapsed> = timeout(millis(2), for_ever()).await;
        assert!(limited.is_err(), "{what}");
        let sibling_ends = async {
            sleep(millis(2)).await;
            what
        };
        let hog = async {
            for_ever().await;
            "never"
        };
        assert_eq!(race!(hog, sibling_ends), what);
    });
}

#[test]
fn what_is_ready_at_once_gives_way() {
    let long = Duration::from_secs(60);
    gives_way("timeout", async || timeout(long, async {}).await.unwrap());
    gives_way("deadline in the past", async || deadline(xiio::now(), async {}).await.unwrap());
    gives_way("no limit", async || timeout(None, async {}).await.unwrap());
    gives_way("branch", async || branch(async {}).await);
    gives_way("shield", async || shield(async {}).await);
    gives_way("bracket", async || bracket((), async |_| {}, async |_| {}).await);
    gives_way("empty group", async || task_group!(|_tg| {}));
    gives_way("group", async || {
        task_group!(|tg| {
            tg.spawn(async {});
        });
    });
    gives_way("group that fails", async || assert!(try_task_group!(error = (), |_tg| { Err(())? }).is_err()));
    gives_way("gather", async || assert_eq!(gather([async {}]).await.len(), 1));
    gives_way("race", async || race([async {}]).await);
    gives_way("race!", async || race!(async {}, async {}));
    gives_way("join!", async || assert_eq!(join!(async {}, async {}), ((), ())));
    gives_way("as_completed", async || as_completed([async {}]).consume(async |_| {}).await);
    gives_way("catch_panic", async || catch_panic(async {}).await.unwrap());
    gives_way("try_gather", async || assert_eq!(try_gather([async { Ok::<_, ()>(7) }]).await, Ok(vec![7])));
    gives_way("race_ok", async || assert_eq!(race_ok([async { Ok::<_, ()>(7) }]).await, Ok(7)));
    gives_way("try_join!", async || assert_eq!(try_join!(async { Ok::<_, ()>(7) }), Ok((7,))));
    gives_way("parallel_map", async || assert_eq!(parallel_map(0, &[7], async |n| *n).await, [7]));
    let outputs = Outputs::new();
    gives_way("Outputs::next", async || {
        outputs.give(async { 7 }).await;
        assert_eq!(outputs.next().await, Some(7));
    });
    gives_way("group without workers", async || {
        task_group!(workers = 0, |tg| {
            tg.workers().spawn(async || ());
        });
    });
}

#[test]
fn what_is_there_already_gives_way() {
    let set = Promise::new();
    set.set(()).unwrap();
    gives_way("promise", async || set.wait().await);
    gives_way("condition", async || drop(Condition::new().promise(&set).wait().await));
    gives_way("job on a thread", async || in_thread(|| ()).await);
}

#[test]
fn handles_of_tasks_that_have_ended_give_way() {
    /// Awaits all, and asserts that a sibling has its turns meanwhile.
    async fn await_all(what: &str, ended: Vec<impl Future<Output = ()>>) {
        let n_turns = Cell::new(0);
        let all = async {
            for task in ended {
                task.await;
            }
        };
        let sibling = async {
            loop {
                n_turns.set(n_turns.get() + 1);
                yield_now().await;
            }
        };
        race!(all, sibling);
        assert!(n_turns.get() > 10, "{what}: {} turns", n_turns.get());
    }
    run(async {
        let of_tasks: Vec<_> = task_group!(|tg| { (0..10_000).map(|_| tg.spawn(async {})).collect() });
        await_all("tasks", of_tasks).await;
        for workers in [0, 1] {
            let of_jobs: Vec<_> =
                task_group!(workers = workers, |tg| { (0..10_000).map(|_| tg.workers().spawn(async || ())).collect() });
            await_all("tasks on workers", of_jobs).await;
        }
    });
}

/// Computes for two milliseconds, which is more than a turn of the loop may take.
fn compute() {
    let end = Instant::now() + millis(2);
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

/// Asserts that a limit of ten milliseconds ends `work`, which counts its polls, long before it has polled a turn full.
fn is_ended_early(what: &str, work: impl AsyncFnOnce(&Cell<u32>)) {
    let n_polls = Cell::new(0);
    // Made inside: what is over at the start has its round.
    let limited = run(async { timeout(millis(10), work(&n_polls)).await });
    assert!(limited.is_err(), "{what}");
    assert!(n_polls.get() < 32, "{what}: {} polls of 2 ms under a limit of 10 ms", n_polls.get());
}

#[test]
fn long_polls_end_the_turn_however_few_they_are() {
    let rounds = async |n_polls: &Cell<u32>, n_rounds| {
        for _ in 0..n_rounds {
            compute();
            n_polls.set(n_polls.get() + 1);
            yield_now().await;
        }
    };
    is_ended_early("a loop", async |n_polls| rounds(n_polls, 100).await);
    is_ended_early("a task that loops", async |n_polls| {
        task_group!(|tg| {
            tg.spawn(rounds(n_polls, 100));
        });
    });
    is_ended_early("tasks of one round", async |n_polls| {
        task_group!(|tg| {
            for _ in 0..100 {
                tg.spawn(rounds(n_polls, 1));
            }
        });
    });
    is_ended_early("tasks of a group in a group", async |n_polls| {
        task_group!(|outer| {
            for _ in 0..10 {
                outer.spawn(async {
                    task_group!(|tg| {
                        for _ in 0..10 {
                            tg.spawn(rounds(n_polls, 1));
                        }
                    });
                });
            }
        });
    });
}

#[test]
fn what_is_over_at_the_start_has_its_round_however_long_it_takes() {
    run(async {
        let leaves = async {
            for _ in 0..8 {
                compute();
                sleep(Duration::ZERO).await;
            }
        };
        assert_eq!(timeout(Duration::ZERO, leaves).await, Ok(()));
        let group = async {
            task_group!(|tg| {
                for _ in 0..20 {
                    tg.spawn(async { compute() });
                }
            });
        };
        assert_eq!(timeout(Duration::ZERO, group).await, Ok(()));
        let limited = task_group!(timeout = Duration::ZERO, |tg| {
            for _ in 0..20 {
                tg.spawn(async { compute() });
            }
        });
        assert_eq!(limited, Ok(()));
    });
}

/// Tasks that are always ready, and take as much as a poll may take.
async fn hogs() {
    task_group!(|tg| {
        for _ in 0..10 {
            tg.spawn(async {
                loop {
                    sleep(Duration::ZERO).await;
                }
            });
        }
    });
}

/// Polls `work` always after a group that takes the whole turn.
async fn behind_hogs(work: impl Future<Output = ()>) {
    select(pin!(hogs()), pin!(work)).await;
}

#[test]
fn behind_a_group_that_takes_the_whole_turn_others_get_on() {
    let leaves = async || {
        for _ in 0..10 {
            sleep(Duration::ZERO).await;
        }
        sleep(millis(2)).await;
    };
    run(async {
        assert_eq!(timeout(LONG, behind_hogs(leaves())).await, Ok(()), "a branch");
        let group = async {
            task_group!(|tg| {
                tg.spawn(leaves());
            });
        };
        assert_eq!(timeout(LONG, behind_hogs(group)).await, Ok(()), "a task of a group");
    });
}

#[test]
fn behind_a_group_that_takes_the_whole_turn_others_give_way() {
    async fn for_ever(round: impl AsyncFn()) {
        behind_hogs(async {
            loop {
                round().await;
            }
        })
        .await;
    }
    let group = async || {
        task_group!(|tg| {
            tg.spawn(async {});
        });
    };
    gives_way("group", async || for_ever(group).await);
    let is_over = async || {
        let _ = task_group!(timeout = Duration::ZERO, |tg| {
            for _ in 0..3 {
                tg.spawn(yield_now());
            }
        });
    };
    gives_way("group that is over at the start", async || for_ever(is_over).await);
}

#[test]
fn wrapped_futures_of_other_crates_give_way() {
    let (sender, receiver) = async_channel::unbounded();
    let full = || sender.try_send(()).unwrap();
    gives_way("async-channel", async || {
        full();
        cooperative(receiver.recv()).await.unwrap();
    });
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let receiver = RefCell::new(receiver);
    gives_way("tokio's channel", async || {
        sender.send(()).unwrap();
        cooperative(poll_fn(|cx| receiver.borrow_mut().poll_recv(cx))).await.unwrap();
    });
    gives_way("ready", async || cooperative(std::future::ready(())).await);
}

#[test]
fn a_wrapped_future_is_cancelled_like_any_other() {
    let trace = Trace::new();
    run(async {
        let work = bracket((), async |()| sleep(LONG).await, async |()| trace.note("released"));
        assert!(timeout(millis(2), cooperative(work)).await.is_err());
    });
    trace.assert(&["released"]);
}
