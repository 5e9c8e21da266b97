//! The laws of the README, one test each, in groups without workers, with two and with eight. Where workers change a law (`docs/cores.md`),
//! the test shows the law as it is there. `flat_memory_cores` has the memory of the fifth law of a group.

use std::future::{pending, poll_fn};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{self, TryRecvError};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use futures::future::select;
use xiio::inspect::ReportKind;
use xiio::{
    GroupError, Promise, bracket, catch_panic, deadline, now, race, sleep, task_group, timeout, try_task_group,
    yield_now,
};
use xiio_tests::poll::OnDrop;
use xiio_tests::{LONG, Reports, millis, rounds, run};

/// How many tasks a scene has on its workers.
const N: usize = 4;

/// Runs `scene` with each number of workers.
fn with_workers(scene: impl AsyncFn(usize)) {
    for workers in [0, 2, 8] {
        run(scene(workers));
    }
}

/// What the tasks of a scene share.
#[derive(Default)]
struct World {
    n_begun: AtomicUsize,
    n_released: AtomicUsize,
    /// `N` tasks have begun.
    have_begun: Promise<()>,
    trace: Mutex<Vec<&'static str>>,
}

impl World {
    fn begin(&self) {
        if self.n_begun.fetch_add(1, SeqCst) + 1 == N {
            self.have_begun.set(()).unwrap();
        }
    }

    /// Waits until it is cancelled, and cleans up with an `await`.
    async fn wait(&self) {
        self.wait_and(|| ()).await;
    }

    /// The same with an end of the cleanup.
    async fn wait_and(&self, end: impl Fn()) {
        let work = async |(): &mut ()| {
            self.begin();
            pending::<()>().await;
        };
        let release = async |()| {
            rounds(3).await;
            self.n_released.fetch_add(1, SeqCst);
            end();
        };
        bracket((), work, release).await;
        panic!("ran on");
    }

    fn note(&self, event: &'static str) {
        self.trace.lock().unwrap().push(event);
    }

    #[track_caller]
    fn assert_noted(&self, expected: &[&str]) {
        assert_eq!(*self.trace.lock().unwrap(), expected);
    }

    /// All that have begun have cleaned up.
    #[track_caller]
    fn assert_released(&self) {
        assert_eq!(self.n_released.load(SeqCst), self.n_begun.load(SeqCst));
    }
}

// The laws of a group.

#[test]
fn group_1_all_tasks_have_ended_with_the_block_and_what_they_borrowed_is_free() {
    with_workers(async |workers| {
        let (mut numbers, n_ended) = (vec![0; 32], AtomicUsize::new(0));
        task_group!(workers = workers, |tg| {
            for number in &mut numbers {
                tg.workers().spawn(async || {
                    let _ended = OnDrop(|| _ = n_ended.fetch_add(1, SeqCst));
                    yield_now().await;
                    *number += 1;
                });
            }
        });
        assert_eq!(n_ended.into_inner(), 32);
        assert!(numbers.into_iter().all(|number| number == 1));
    });
}

#[test]
fn group_2_a_task_does_not_start_inside_of_spawn_but_a_worker_need_not_wait_for_an_await() {
    with_workers(async |workers| {
        task_group!(workers = workers, |tg| {
            // From here on there is a worker.
            tg.workers().spawn(async || ()).await;
            let (begins, has_begun) = mpsc::channel();
            let task = tg.workers().spawn(async move || begins.send(()).unwrap());
            match workers {
                0 => assert_eq!(has_begun.try_recv(), Err(TryRecvError::Empty)),
                _ => has_begun.recv().unwrap(),
            }
            task.await;
        });
    });
}

#[test]
fn group_3_an_error_of_a_task_cancels_all_others_and_they_clean_up() {
    with_workers(async |workers| {
        let world = World::default();
        let failed: Result<(), &str> = try_task_group!(workers = workers, error = &str, |tg| {
            for _ in 0..N {
                tg.workers().spawn(async || {
                    world.wait().await;
                    Ok(())
                });
            }
            tg.workers().spawn(async || {
                world.have_begun.wait().await;
                Err::<(), _>("expected")
            });
            world.wait().await;
        });
        assert_eq!(failed, Err("expected"));
        world.assert_released();
    });
}

#[test]
fn group_3_a_panic_cancels_all_others_and_they_clean_up() {
    with_workers(async |workers| {
        let world = World::default();
        let panics = catch_panic(async {
            task_group!(workers = workers, |tg| {
                for _ in 0..N {
                    tg.workers().spawn(async || world.wait().await);
                }
                tg.workers().spawn(async || {
                    world.have_begun.wait().await;
                    panic!("expected");
                });
                world.wait().await;
            });
        });
        assert_eq!(panics.await.unwrap_err().to_string(), "panicked: expected");
        world.assert_released();
    });
}

#[test]
fn group_3_a_question_mark_in_the_body_cancels_all_tasks_and_they_clean_up() {
    with_workers(async |workers| {
        let world = World::default();
        let leave = async || -> Result<(), &str> {
            task_group!(workers = workers, |tg| {
                for _ in 0..N {
                    tg.workers().spawn(async || world.wait().await);
                }
                world.have_begun.wait().await;
                Err("expected")?;
            });
            unreachable!("the body has left the function");
        };
        assert_eq!(leave().await, Err("expected"));
        world.assert_released();
    });
}

#[test]
fn group_3_the_limit_of_time_cancels_all_and_they_clean_up() {
    with_workers(async |workers| {
        let world = World::default();
        let late = task_group!(timeout = millis(10), workers = workers, |tg| {
            for _ in 0..N {
                tg.workers().spawn(async || world.wait().await);
            }
            world.wait().await;
        });
        assert!(late.is_err());
        world.assert_released();
    });
}

#[test]
fn group_3_a_cancelled_parent_cancels_all_and_they_clean_up() {
    with_workers(async |workers| {
        let world = World::default();
        let group = async {
            task_group!(workers = workers, |tg| {
                for _ in 0..N {
                    tg.workers().spawn(async || world.wait().await);
                }
                world.wait().await;
            });
        };
        race!(group, world.have_begun.wait());
        assert!(world.n_begun.load(SeqCst) >= N);
        world.assert_released();
    });
}

#[test]
fn group_4_later_failures_are_kept_or_reported() {
    with_workers(async |workers| {
        let (kept, reported) = (World::default(), World::default());
        let failed: Result<(), GroupError<&str>> = try_task_group!(workers = workers, all_errors, error = &str, |tg| {
            for _ in 0..N {
                tg.workers().spawn(async || {
                    kept.wait_and(|| panic!("cleanup")).await;
                    Ok(())
                });
            }
            kept.have_begun.wait().await;
            Err("body")?;
        });
        let failures: Vec<_> = failed.unwrap_err().into_failures().map(|failure| failure.to_string()).collect();
        assert_eq!(failures[0], "body");
        assert_eq!(failures[1..], ["panicked: cleanup"; N]);

        let reports = Reports::new();
        let group = catch_panic(async {
            let _: Result<(), &str> = try_task_group!(workers = workers, error = &str, |tg| {
                for _ in 0..N {
                    tg.workers().spawn(async || {
                        reported.wait_and(|| panic!("cleanup")).await;
                        Ok(())
                    });
                }
                reported.have_begun.wait().await;
                Err("body")?;
            });
        });
        assert_eq!(group.await.unwrap_err().to_string(), "panicked: cleanup");
        // The others, and the error that the first panic has replaced.
        assert_eq!(reports.kinds(), [ReportKind::LaterFailure; N]);
    });
}

#[test]
fn group_5_a_task_that_has_ended_is_freed_at_once() {
    with_workers(async |workers| {
        let counted = Arc::new(());
        task_group!(workers = workers, |tg| {
            for _ in 0..100 {
                let tasks: [_; N] = std::array::from_fn(|_| {
                    let counted = Arc::clone(&counted);
                    tg.workers().spawn(async move || {
                        yield_now().await;
                        drop(counted.clone());
                    })
                });
                for task in tasks {
                    task.await;
                }
                // A handle has the value before the worker has come out of the poll.
                assert!(Arc::strong_count(&counted) <= 1 + workers);
            }
        });
        assert_eq!(Arc::strong_count(&counted), 1);
    });
}

#[test]
fn group_6_tasks_may_be_added_after_a_cancellation_but_not_from_elsewhere() {
    with_workers(async |workers| {
        let (world, n_helped) = (World::default(), AtomicUsize::new(0));
        let failed: Result<(), &str> = try_task_group!(workers = workers, error = &str, |tg| {
            let (workers, remote, n_helped) = (tg.workers(), tg.remote(), &n_helped);
            for _ in 0..N {
                let (world, remote) = (&world, remote.clone());
                workers.spawn(async move || {
                    let work = async |(): &mut ()| {
                        world.begin();
                        pending::<()>().await;
                    };
                    let release = async |()| {
                        let help = async || Ok(_ = n_helped.fetch_add(1, SeqCst));
                        workers.spawn(help).await;
                        let refused = thread::spawn(move || remote.spawn(async || ()).is_err()).join();
                        assert!(refused.unwrap());
                    };
                    bracket((), work, release).await;
                    Ok(())
                });
            }
            world.have_begun.wait().await;
            Err("expected")?;
        });
        assert_eq!(failed, Err("expected"));
        assert_eq!(n_helped.into_inner(), N);
    });
}

#[test]
fn group_7_a_task_that_is_woken_is_polled_whatever_the_others_wait_for() {
    with_workers(async |workers| {
        let links: Vec<_> = (0..=N).map(|_| Promise::new()).collect();
        task_group!(workers = workers, |tg| {
            tg.workers().spawn(async || links[N].wait().await);
            // Each waits for the one that is spawned after it.
            for n in (1..=N).rev() {
                let links = &links;
                tg.workers().spawn(async move || {
                    links[n - 1].wait().await;
                    links[n].set(()).unwrap();
                });
            }
            tg.workers().spawn(async || {
                yield_now().await;
                links[0].set(()).unwrap();
            });
            links[N].wait().await;
        });
    });
}

#[test]
fn group_8_no_task_starves() {
    with_workers(async |workers| {
        let is_over = AtomicBool::new(false);
        task_group!(workers = workers, |tg| {
            for _ in 0..16 {
                tg.workers().spawn(async || {
                    while !is_over.load(SeqCst) {
                        yield_now().await;
                    }
                });
            }
            // Behind the others, on a worker and at home.
            tg.workers().spawn(rounds_of_ten).await;
            rounds_of_ten().await;
            is_over.store(true, SeqCst);
        });
    });
}

async fn rounds_of_ten() {
    rounds(10).await;
}

#[test]
fn group_9_a_panic_in_a_cleanup_is_thrown_when_all_have_ended_and_a_second_one_is_reported() {
    with_workers(async |workers| {
        let (world, reports) = (World::default(), Reports::new());
        let group = catch_panic(async {
            task_group!(workers = workers, |tg| {
                for n in 0..N {
                    let world = &world;
                    tg.workers().spawn(async move || world.wait_and(|| assert!(n >= 2, "cleanup")).await);
                }
                world.have_begun.wait().await;
                tg.cancel();
            });
        });
        assert_eq!(group.await.unwrap_err().to_string(), "panicked: cleanup");
        world.assert_released();
        reports.assert_one(ReportKind::LaterFailure, &["cleanup"]);
    });
}

// The laws of cancellation.

#[test]
fn cancellation_1_cancelled_code_does_not_run_on_but_on_another_thread_to_its_next_await() {
    with_workers(async |workers| {
        let (world, has_begun) = (&World::default(), &Promise::new());
        task_group!(workers = workers, |tg| {
            let (cancels, is_cancelled) = mpsc::channel();
            tg.workers().spawn(async move || {
                let _dropped = OnDrop(|| world.note("destructor"));
                let work = async |(): &mut ()| {
                    has_begun.set(()).unwrap();
                    if workers > 0 {
                        is_cancelled.recv().unwrap();
                        world.note("the rest of the poll");
                    }
                    pending::<()>().await;
                    world.note("ran on");
                };
                let release = async |()| {
                    yield_now().await;
                    world.note("cleanup");
                };
                bracket((), work, release).await;
                world.note("ran on");
            });
            has_begun.wait().await;
            tg.cancel();
            // At home the task has nobody who receives it.
            _ = cancels.send(());
        });
        match workers {
            0 => world.assert_noted(&["cleanup", "destructor"]),
            _ => world.assert_noted(&["the rest of the poll", "cleanup", "destructor"]),
        }
    });
}

#[test]
fn cancellation_2_the_innermost_cleans_up_first_and_what_stands_side_by_side_side_by_side() {
    with_workers(async |workers| {
        let (world, meeting) = (World::default(), World::default());
        task_group!(workers = workers, |tg| {
            for n in 0..N {
                let (world, meeting) = (&world, &meeting);
                tg.workers().spawn(async move || {
                    let inner = layer(world, "inner", async {
                        world.begin();
                        pending::<()>().await;
                    });
                    let work = async |(): &mut ()| match n {
                        0 => layer(world, "outer", inner).await,
                        _ => {
                            world.begin();
                            pending::<()>().await;
                        }
                    };
                    // Each waits for all the others.
                    let release = async |()| {
                        meeting.begin();
                        meeting.have_begun.wait().await;
                    };
                    bracket((), work, release).await;
                });
            }
            world.have_begun.wait().await;
            tg.cancel();
        });
        world.assert_noted(&["inner", "outer"]);
    });
}

async fn layer(world: &World, name: &'static str, inner: impl Future<Output = ()>) {
    let release = async |()| {
        rounds(3).await;
        world.note(name);
    };
    bracket((), async |()| inner.await, release).await;
}

#[test]
fn cancellation_3_whoever_cancels_waits_for_the_cleanup() {
    with_workers(async |workers| {
        let (world, outside) = (World::default(), World::default());
        task_group!(workers = workers, |tg| {
            let tasks: [_; N] = std::array::from_fn(|_| tg.workers().spawn(async || world.wait().await));
            world.have_begun.wait().await;
            for (n, task) in tasks.into_iter().enumerate() {
                assert_eq!(task.cancel().await, None);
                assert_eq!(world.n_released.load(SeqCst), n + 1);
            }
            let late = timeout(millis(10), async {
                task_group!(workers = workers, |tg| {
                    tg.workers().spawn(async || outside.wait().await);
                });
            });
            assert!(late.await.is_err());
            outside.assert_released();
        });
    });
}

#[test]
fn cancellation_4_a_grace_bounds_the_cleanup_and_what_is_cut_off_is_reported() {
    with_workers(async |workers| {
        let (world, reports) = (World::default(), Reports::new());
        let group = async {
            task_group!(workers = workers, grace = millis(10), |tg| {
                for _ in 0..N {
                    tg.workers().spawn(async || {
                        let _dropped = OnDrop(|| _ = world.n_released.fetch_add(1, SeqCst));
                        let work = async |(): &mut ()| {
                            world.begin();
                            pending::<()>().await;
                        };
                        bracket((), work, async |()| pending().await).await;
                    });
                }
            });
        };
        race!(group, world.have_begun.wait());
        world.assert_released();
        reports.assert_one(ReportKind::GraceOver, &["bracket", file!()]);
    });
}

#[test]
fn cancellation_5_what_has_nothing_to_clean_up_is_dropped_without_a_poll() {
    with_workers(async |workers| {
        let (world, n_polls) = (World::default(), AtomicUsize::new(0));
        task_group!(workers = workers, |tg| {
            for _ in 0..N {
                tg.workers().spawn(async || {
                    let _dropped = OnDrop(|| _ = world.n_released.fetch_add(1, SeqCst));
                    world.begin();
                    poll_fn(|_| -> Poll<()> {
                        n_polls.fetch_add(1, SeqCst);
                        Poll::Pending
                    })
                    .await;
                });
            }
            world.have_begun.wait().await;
            tg.cancel();
        });
        world.assert_released();
        assert_eq!(n_polls.into_inner(), N);
    });
}

#[test]
fn cancellation_6_the_nearer_limit_wins_of_equal_ones_the_outer_and_a_first_poll_is_granted() {
    with_workers(async |workers| {
        let groups = async |outer, inner| {
            let group = async {
                task_group!(timeout = inner, workers = workers, |tg| tg.workers().spawn(async || sleep(LONG).await))
            };
            timeout(outer, group).await.map(|inner| inner.map(drop))
        };
        assert!(groups(millis(10), LONG).await.is_err());
        assert!(matches!(groups(LONG, millis(10)).await, Ok(Err(_))));
        // On one thread all is as at home. `timeouts` has what is different between two.
        task_group!(workers = workers, |tg| {
            tg.workers().spawn(async || {
                assert!(timeout(millis(2), timeout(LONG, sleep(LONG))).await.is_err());
                assert!(matches!(timeout(LONG, timeout(millis(2), sleep(LONG))).await, Ok(Err(_))));
                let at = now() + millis(2);
                let equal = deadline(at, async {
                    _ = deadline(at, sleep(LONG)).await;
                    panic!("ran on");
                });
                assert!(equal.await.is_err());
                assert_eq!(timeout(Duration::ZERO, async { 7 }).await, Ok(7));
            });
        });
    });
}

#[test]
fn cancellation_7_what_foreign_code_drops_gets_destructors_and_its_cleanup_is_reported() {
    with_workers(async |workers| {
        let (world, reports, n_dropped) = (World::default(), Reports::new(), AtomicUsize::new(0));
        let group = async {
            task_group!(workers = workers, |tg| {
                for _ in 0..N {
                    tg.workers().spawn(async || {
                        let _dropped = OnDrop(|| _ = n_dropped.fetch_add(1, SeqCst));
                        world.wait().await;
                    });
                }
            });
        };
        drop(select(Box::pin(group), world.have_begun.wait()).await);
        assert_eq!((n_dropped.load(SeqCst), world.n_released.load(SeqCst)), (N, 0));
        assert_eq!(reports.kinds(), [ReportKind::CleanupSkipped; N], "{:?}", reports.texts());
    });
}
