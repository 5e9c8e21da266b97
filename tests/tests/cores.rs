//! Groups with workers: the laws of a group, with two and with eight of them.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt;
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::process::Stdio;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Condvar, Mutex, OnceLock, mpsc};
use std::task::{Context, Poll, Wake};
use std::thread;
use std::time::{Duration, Instant};

use xiio::inspect::{ReportKind, listen};
use xiio::process::Command;
use xiio::{
    Failure, GroupError, Promise, WorkerTask, bracket, in_thread, join, parallel_map, race, run, shield, sleep,
    task_group, timeout, try_parallel_map, try_task_group, yield_now,
};
use xiio_tests::os::is_running;
use xiio_tests::poll::OnDrop;
use xiio_tests::{DropBomb, LONG, Reports, panic_text, rounds, run_virtually};

#[test]
fn tasks_on_workers_borrow_and_have_ended_with_the_block() {
    for workers in [0, 1, 2, 8] {
        let texts: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        let n_bytes = AtomicUsize::new(0);
        let mut lengths = vec![0; texts.len()];
        run(async {
            task_group!(workers = workers, |tg| {
                for (text, length) in texts.iter().zip(&mut lengths) {
                    tg.workers().spawn(async || {
                        let alone = Rc::new(Cell::new(0));
                        for _ in 0..3 {
                            yield_now().await;
                            alone.set(alone.get() + 1);
                        }
                        n_bytes.fetch_add(text.len(), SeqCst);
                        *length = text.len() + alone.get();
                    });
                }
            });
            assert_eq!(n_bytes.load(SeqCst), 190, "{workers}");
        });
        assert!(lengths.iter().zip(&texts).all(|(length, text)| *length == text.len() + 3));
    }
}

#[test]
fn values_come_back_and_may_borrow() {
    let texts = ["one".to_string(), "three".to_string()];
    let longest = run(async {
        task_group!(workers = 2, |tg| {
            let tasks = texts.each_ref().map(|text| tg.workers().spawn(async move || text.as_str()));
            let mut longest = "";
            for task in tasks {
                let text = task.await;
                if text.len() > longest.len() {
                    longest = text;
                }
            }
            longest
        })
    });
    assert_eq!(longest, "three");
}

#[test]
fn several_threads_are_at_it() {
    let (threads, barrier) = (Mutex::new(HashSet::new()), Barrier::new(2));
    run(async {
        task_group!(workers = 2, |tg| {
            for _ in 0..2 {
                tg.workers().spawn(async || {
                    barrier.wait();
                    threads.lock().unwrap().insert(thread::current().id());
                });
            }
        });
    });
    assert_eq!(threads.into_inner().unwrap().len(), 2);
}

#[test]
fn a_panic_on_a_worker_is_the_groups_with_its_payload() {
    for workers in [0, 2, 8] {
        let (n_begun, n_released) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            run(async {
                task_group!(workers = workers, |tg| {
                    for _ in 0..8 {
                        tg.workers().spawn(async || {
                            n_begun.fetch_add(1, SeqCst);
                            bracket(
                                (),
                                async |()| sleep(Duration::from_secs(60)).await,
                                async |()| {
                                    yield_now().await;
                                    n_released.fetch_add(1, SeqCst);
                                },
                            )
                            .await;
                        });
                    }
                    tg.workers().spawn(async || {
                        while n_begun.load(SeqCst) < 8 {
                            yield_now().await;
                        }
                        std::panic::panic_any(7_u8);
                    });
                });
            });
        }));
        assert_eq!(panic.unwrap_err().downcast_ref(), Some(&7_u8));
        assert_eq!(n_released.load(SeqCst), 8);
    }
}

#[test]
fn an_error_on_a_worker_is_the_groups() {
    for workers in [0, 2, 8] {
        let failed: Result<(), String> = run(async {
            try_task_group!(workers = workers, |tg| {
                tg.workers().spawn(async || {
                    sleep(Duration::from_secs(60)).await;
                    Ok(())
                });
                tg.spawn(async {
                    sleep(Duration::from_secs(60)).await;
                    Ok(())
                });
                tg.workers().spawn(async || Err::<(), _>("failed".to_string()));
            })
        });
        assert_eq!(failed, Err("failed".to_string()));
    }
}

#[test]
fn who_cancels_waits_for_the_cleanup_on_workers() {
    for workers in [0, 2, 8] {
        let (has_begun, is_released) = (AtomicBool::new(false), AtomicBool::new(false));
        let cleanup = async |()| {
            sleep(Duration::from_millis(10)).await;
            is_released.store(true, SeqCst);
        };
        run(async {
            let group = async {
                task_group!(workers = workers, |tg| {
                    tg.workers().spawn(async || {
                        has_begun.store(true, SeqCst);
                        bracket((), async |()| std::future::pending::<()>().await, cleanup).await;
                    });
                });
            };
            race!(group, async {
                while !has_begun.load(SeqCst) {
                    sleep(Duration::from_millis(1)).await;
                }
            });
            assert!(is_released.load(SeqCst), "{workers}");
        });
    }
}

#[test]
fn siblings_are_spawned_from_a_worker() {
    for workers in [0, 1, 2, 8] {
        let n_run = AtomicUsize::new(0);
        run(async {
            task_group!(workers = workers, |tg| {
                let workers = tg.workers();
                let n_run = &n_run;
                workers.spawn(async move || {
                    for _ in 0..10 {
                        workers.spawn(async move || n_run.fetch_add(1, SeqCst));
                    }
                    workers.spawn(async move || n_run.fetch_add(1, SeqCst)).await;
                });
            });
        });
        assert_eq!(n_run.load(SeqCst), 11);
    }
}

#[test]
fn what_a_release_on_a_worker_spawns_is_not_cancelled_by_the_failure_that_it_cleans_up_after() {
    macro_rules! ended_with {
        ($($option:ident)?) => {
            for workers in [0, 1, 2, 8] {
                let has_helped = AtomicBool::new(false);
                let (is_held, is_cancelled_at_home) = (Promise::new(), Promise::new());
                run(async {
                    let result = try_task_group!(workers = workers, $($option,)? error = &str, |tg| {
                        let (workers, has_helped) = (tg.workers(), &has_helped);
                        let (is_held, is_cancelled) = (&is_held, &is_cancelled_at_home);
                        workers.spawn(async move || {
                            let work = async |(): &mut ()| {
                                is_held.set(()).expect("it is set once");
                                std::future::pending::<()>().await;
                            };
                            let helper = async move || {
                                is_cancelled.wait().await;
                                rounds(3).await;
                                has_helped.store(true, SeqCst);
                                Ok(())
                            };
                            bracket((), work, async |()| workers.spawn(helper).await).await;
                            Ok(())
                        });
                        tg.spawn(async {
                            let work = async |(): &mut ()| std::future::pending::<()>().await;
                            bracket((), work, async |()| is_cancelled.set(()).expect("it is set once")).await;
                            Ok(())
                        });
                        workers.spawn(async move || {
                            is_held.wait().await;
                            Err::<(), _>("expected")
                        });
                    });
                    assert!(result.is_err());
                });
                assert!(has_helped.load(SeqCst), "{workers} {}", stringify!($($option)?));
            }
        };
    }
    ended_with!();
    ended_with!(all_errors);
}

#[test]
fn a_group_in_a_task_of_a_worker_is_a_tree_of_it() {
    let texts = vec!["a".to_string(), "bc".to_string()];
    let total = AtomicUsize::new(0);
    run(async {
        task_group!(workers = 2, |tg| {
            for _ in 0..4 {
                tg.workers().spawn(async || {
                    let sum = RefCell::new(0);
                    task_group!(|tg| {
                        for text in &texts {
                            let sum = &sum;
                            tg.spawn(async move { *sum.borrow_mut() += text.len() });
                        }
                    });
                    total.fetch_add(sum.into_inner(), SeqCst);
                });
            }
        });
    });
    assert_eq!(total.into_inner(), 12);
}

#[test]
fn a_group_with_workers_in_a_task_of_a_worker_has_its_own() {
    let total = AtomicUsize::new(0);
    run(async {
        task_group!(workers = 2, |tg| {
            for _ in 0..4 {
                tg.workers().spawn(async || {
                    let inner = AtomicUsize::new(0);
                    task_group!(workers = 2, |tg| {
                        for _ in 0..4 {
                            tg.workers().spawn(async || {
                                sleep(Duration::from_millis(1)).await;
                                inner.fetch_add(1, SeqCst)
                            });
                        }
                    });
                    total.fetch_add(inner.into_inner(), SeqCst);
                });
            }
        });
    });
    assert_eq!(total.into_inner(), 16);
}

#[test]
fn who_awaits_a_task_that_fails_is_cancelled_and_does_not_panic() {
    for workers in [0, 2, 8] {
        for _ in 0..20 {
            let failed: Result<i32, &str> = run(async {
                try_task_group!(workers = workers, error = &str, |tg| {
                    let (good, bad) =
                        (tg.workers().spawn(async || Ok(1)), tg.workers().spawn(async || Err::<i32, _>("failed")));
                    let awaiting = tg.spawn(async move { Ok(good.await + bad.await) });
                    let other = tg.workers().spawn(async || Err::<i32, _>("failed"));
                    awaiting.await + other.await
                })
            });
            assert_eq!(failed, Err("failed"));
        }
    }
}

#[test]
fn who_awaits_a_task_that_is_cancelled_for_the_failure_of_another_one_does_not_panic() {
    async fn forever() -> Result<(), &'static str> {
        std::future::pending().await
    }

    for workers in [0, 1, 2] {
        for n_rounds in 0..100 {
            let failed: Result<(), &str> = run(async {
                try_task_group!(workers = workers, |tg| {
                    let workers = tg.workers();
                    let at_home = workers.spawn(forever);
                    let on_a_worker = workers.spawn(forever);
                    tg.spawn(async {
                        at_home.await;
                        Ok(())
                    });
                    workers.spawn(async move || {
                        on_a_worker.await;
                        Ok(())
                    });
                    let of_the_body = workers.spawn(forever);
                    workers.spawn(async move || {
                        rounds(n_rounds % 10).await;
                        Err::<(), _>("expected")
                    });
                    of_the_body.await;
                })
            });
            assert_eq!(failed, Err("expected"), "{workers} {n_rounds}");
        }
    }
}

#[test]
fn what_code_spawns_that_does_not_know_yet_of_its_cancellation_is_cancelled_as_well() {
    let until = |flag: &AtomicBool| {
        while !flag.load(SeqCst) {
            std::hint::spin_loop();
        }
    };
    // At home, in one poll of the body in which a worker fails.
    let (may_fail, has_failed) = (AtomicBool::new(false), AtomicBool::new(false));
    let failed: Result<(), &str> = run(async {
        try_task_group!(workers = 1, error = &str, |tg| {
            let has_begun = Promise::new();
            let (begun, may_fail, has_failed) = (has_begun.clone(), &may_fail, &has_failed);
            tg.workers().spawn(async move || {
                let _dropped = OnDrop(|| has_failed.store(true, SeqCst));
                begun.set(()).unwrap();
                std::future::pending::<Result<(), &str>>().await
            });
            tg.workers().spawn(async move || {
                until(may_fail);
                Err::<(), _>("expected")
            });
            has_begun.wait().await;
            may_fail.store(true, SeqCst);
            until(has_failed);
            tg.workers().spawn(async || std::future::pending::<Result<(), &str>>().await);
        })
    });
    assert_eq!(failed, Err("expected"));
    // On a worker, in one poll in which home cancels.
    let is_cancelled = AtomicBool::new(false);
    run(async {
        task_group!(workers = 1, |tg| {
            let (workers, is_cancelled) = (tg.workers(), &is_cancelled);
            let has_begun = Promise::new();
            let begun = has_begun.clone();
            workers.spawn(async move || {
                begun.set(()).unwrap();
                until(is_cancelled);
                workers.spawn(async || std::future::pending::<()>().await).await;
            });
            tg.spawn(async {
                let work = async |(): &mut ()| std::future::pending::<()>().await;
                bracket((), work, async |()| is_cancelled.store(true, SeqCst)).await;
            });
            has_begun.wait().await;
            tg.cancel();
        });
    });
}

#[test]
fn who_awaits_a_task_on_a_worker_that_fails_adds_nothing_to_all_errors() {
    for workers in [0, 1, 2] {
        let failed = run(async {
            try_task_group!(workers = workers, all_errors, error = &str, |tg| {
                let failing = tg.workers().spawn(async || {
                    yield_now().await;
                    Err::<(), _>("expected")
                });
                let is_ready_at_once = std::future::poll_fn(|cx| -> Poll<()> {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                });
                tg.spawn(async {
                    futures::join!(failing, is_ready_at_once);
                    Ok(())
                });
            })
        });
        let failures = failed.err().into_iter().flat_map(GroupError::into_failures);
        let failures: Vec<_> = failures.map(|failure| failure.to_string()).collect();
        assert_eq!(failures, ["expected"], "{workers}");
    }
}

/// [`xiio::Remote`] is the other door by which a worker adds a task.
#[test]
fn what_a_cancelled_worker_hands_in_is_refused_or_cancelled() {
    let (has_failed, is_refused) = (AtomicBool::new(false), AtomicBool::new(false));
    let failed: Result<(), &str> = run(async {
        try_task_group!(workers = 1, error = &str, |tg| {
            let (workers, remote, held) = (tg.workers(), tg.remote(), Promise::new());
            let (is_held, has_failed, is_refused) = (held.clone(), &has_failed, &is_refused);
            workers.spawn(async move || {
                let work = async |(): &mut ()| {
                    held.set(()).unwrap();
                    std::future::pending::<()>().await;
                };
                let release = async |()| {
                    is_refused.store(remote.spawn(|| async {}).is_err(), SeqCst);
                    has_failed.store(true, SeqCst);
                };
                bracket((), work, release).await;
                Ok(())
            });
            is_held.wait().await;
            workers.spawn(async || Err::<(), _>("expected"));
            // Home is in one poll, and does not know.
            while !has_failed.load(SeqCst) {
                std::hint::spin_loop();
            }
            std::future::pending::<()>().await;
        })
    });
    assert_eq!(failed, Err("expected"));
    assert!(is_refused.into_inner());

    let is_cancelled = AtomicBool::new(false);
    run(async {
        task_group!(workers = 1, |tg| {
            let (remote, begun, is_cancelled) = (tg.remote(), Promise::new(), &is_cancelled);
            let has_begun = begun.clone();
            tg.workers().spawn(async move || {
                begun.set(()).unwrap();
                while !is_cancelled.load(SeqCst) {
                    std::hint::spin_loop();
                }
                remote.spawn(std::future::pending::<()>).unwrap();
            });
            has_begun.wait().await;
            tg.cancel();
            is_cancelled.store(true, SeqCst);
        });
    });
}

#[test]
fn what_home_cancels_while_it_does_not_know_of_a_failure_is_no_helper_of_a_cleanup() {
    let (is_held, is_helped, has_helped) = (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(false));
    let failed: Result<(), &str> = run(async {
        try_task_group!(workers = 2, error = &str, |tg| {
            let (workers, is_held, is_helped, has_helped) = (tg.workers(), &is_held, &is_helped, &has_helped);
            workers.spawn(async move || {
                let work = async |(): &mut ()| {
                    is_held.store(true, SeqCst);
                    std::future::pending::<()>().await;
                };
                let helper = async move || {
                    is_helped.store(true, SeqCst);
                    sleep(Duration::from_millis(20)).await;
                    has_helped.store(true, SeqCst);
                    Ok(())
                };
                bracket((), work, async |()| workers.spawn(helper).await).await;
                Ok(())
            });
            while !is_held.load(SeqCst) {
                sleep(Duration::from_millis(1)).await;
            }
            workers.spawn(async || Err::<(), _>("expected"));
            // Home is in one poll, and does not know.
            while !is_helped.load(SeqCst) {
                std::hint::spin_loop();
            }
            tg.cancel();
            std::future::pending::<()>().await;
        })
    });
    assert_eq!(failed, Err("expected"));
    assert!(has_helped.into_inner());
}

#[test]
fn who_awaits_a_job_that_a_failure_has_cancelled_is_cancelled_however_late_home_hears_of_it() {
    let is_failing = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_failing);
    // At home, between what it hears of the worker and the look at the jobs.
    let _listening = listen(move |_| {
        while !seen.load(SeqCst) {
            std::hint::spin_loop();
        }
        thread::sleep(Duration::from_millis(30));
    });
    let failed: Result<(), &str> = run(async {
        try_task_group!(workers = 1, limit = 1, error = &str, |tg| {
            let (workers, is_failing) = (tg.workers(), &is_failing);
            workers.spawn(async move || {
                task_group!(|inner| drop(inner.spawn(async { Err::<(), _>("reported") })));
                thread::sleep(Duration::from_millis(20));
                is_failing.store(true, SeqCst);
                Err::<(), _>("expected")
            });
            workers.spawn(async || Ok(())).await;
        })
    });
    assert_eq!(failed, Err("expected"));
}

/// One that has not begun, so that home drops it.
#[test]
fn who_awaits_a_job_whose_destructor_panics_is_cancelled_and_what_that_spawns_is_not() {
    for workers in [0, 1] {
        let (runs_on, has_helped) = (&Cell::new(false), &AtomicBool::new(false));
        let text = panic_text(|| {
            run(async {
                task_group!(workers = workers, |tg| {
                    let bomb = OnDrop(|| panic!("in the destructor"));
                    let workers = tg.workers();
                    let task = workers.spawn(async move || drop(bomb));
                    // Cancelled with the other one, and dropped after it.
                    let helper = async move || {
                        yield_now().await;
                        has_helped.store(true, SeqCst);
                    };
                    let spawns = OnDrop(move || drop(workers.spawn(helper)));
                    drop(workers.spawn(async move || drop(spawns)).cancel());
                    assert_eq!(task.cancel().await, None);
                    runs_on.set(true);
                });
            });
        });
        assert_eq!(text, "in the destructor", "{workers}");
        assert!(!runs_on.get() && has_helped.load(SeqCst), "{workers}: {} {has_helped:?}", runs_on.get());
    }
}

/// A value of a task whose text takes its time: a report of the task, or its failure, is late by that.
struct Slow;

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        thread::sleep(Duration::from_millis(30));
        f.write_str("slow")
    }
}

xiio::local!(static SLOW: Slow, shown);

#[test]
fn who_awaits_a_task_on_a_worker_that_panics_when_it_is_cancelled_is_cancelled_however_late_home_hears_of_it() {
    /// Waits, and panics in a destructor or a cleanup.
    async fn waits(is_cleanup: bool, has_begun: &Promise<()>) {
        let _bomb = (!is_cleanup).then(|| DropBomb("cancelled"));
        let work = async |(): &mut ()| {
            has_begun.set(()).unwrap();
            pending::<()>().await;
        };
        let release = async |()| panic!("cancelled");
        if is_cleanup { bracket((), work, release).await } else { work(&mut ()).await }
    }

    for (is_cleanup, is_alone) in [(false, false), (false, true), (true, false), (true, true)] {
        let runs_on = &Cell::new(false);
        let text = panic_text(|| {
            run(SLOW.scope(Slow, async {
                let has_begun = &Promise::new();
                task_group!(workers = 1, |tg| {
                    let task = tg.workers().spawn(async || waits(is_cleanup, has_begun).await);
                    has_begun.wait().await;
                    if is_alone {
                        task.cancel().await;
                    } else {
                        tg.cancel();
                        let _ = task.outcome().await;
                    }
                    runs_on.set(true);
                });
            }));
        });
        assert_eq!(text, "cancelled");
        assert!(!runs_on.get(), "{is_cleanup} {is_alone}");
    }
}

#[test]
fn what_a_destructor_of_a_cancelled_job_spawns_runs() {
    let has_run = AtomicBool::new(false);
    let failed: Result<(), &str> = run(async {
        try_task_group!(workers = 1, limit = 1, error = &str, |tg| {
            let (workers, has_run) = (tg.workers(), &has_run);
            workers.spawn(async || {
                yield_now().await;
                Err::<(), _>("expected")
            });
            let spawns = OnDrop(move || {
                drop(workers.spawn(async move || {
                    has_run.store(true, SeqCst);
                    Ok(())
                }));
            });
            workers.spawn(async move || {
                drop(spawns);
                Ok(())
            });
            std::future::pending::<()>().await;
        })
    });
    assert_eq!(failed, Err("expected"));
    assert!(has_run.into_inner());
}

#[test]
fn a_thread_spawns_for_home_where_there_are_no_workers() {
    let value = run(async {
        task_group!(workers = 0, |tg| {
            let workers = tg.workers();
            workers.spawn(async || std::future::pending::<()>().await);
            sleep(Duration::from_millis(1)).await;
            tg.cancel();
            thread::scope(|scope| scope.spawn(|| workers.spawn(async || 7)).join().unwrap()).await
        })
    });
    assert_eq!(value, 7);
}

#[test]
fn what_a_thread_of_a_cancelled_worker_spawns_is_cancelled() {
    let is_cancelled = AtomicBool::new(false);
    run(async {
        task_group!(workers = 1, |tg| {
            let (workers, begun, is_cancelled) = (tg.workers(), Promise::new(), &is_cancelled);
            let has_begun = begun.clone();
            workers.spawn(async move || {
                begun.set(()).unwrap();
                thread::scope(|scope| {
                    scope.spawn(|| {
                        while !is_cancelled.load(SeqCst) {
                            std::hint::spin_loop();
                        }
                        drop(workers.spawn(async || std::future::pending::<()>().await));
                    });
                });
            });
            has_begun.wait().await;
            tg.cancel();
            is_cancelled.store(true, SeqCst);
        });
    });
}

#[test]
fn a_worker_of_a_group_further_in_spawns_for_the_one_whose_code_it_runs() {
    let (has_begun, is_cancelled, n) = (AtomicBool::new(false), AtomicBool::new(false), AtomicUsize::new(0));
    run(async {
        task_group!(workers = 1, |outer| {
            let begun = Promise::new();
            let setter = begun.clone();
            outer.workers().spawn(async move || {
                setter.set(()).unwrap();
                std::future::pending::<()>().await;
            });
            begun.wait().await;
            let of_outer = outer.workers();
            let (has_begun, is_cancelled, n) = (&has_begun, &is_cancelled, &n);
            task_group!(workers = 1, |inner| {
                inner.workers().spawn(async move || {
                    has_begun.store(true, SeqCst);
                    while !is_cancelled.load(SeqCst) {
                        std::hint::spin_loop();
                    }
                    n.store(of_outer.spawn(async || 7).await, SeqCst);
                });
                while !has_begun.load(SeqCst) {
                    sleep(Duration::from_millis(1)).await;
                }
                // The tasks of `outer`, and not its body, in which `inner` is.
                outer.cancel();
                is_cancelled.store(true, SeqCst);
            });
        });
    });
    assert_eq!(n.into_inner(), 7);
}

#[test]
fn what_is_cancelled_in_a_last_round_is_cancelled_on_workers_as_well() {
    let (started, go) = (Promise::new(), AtomicBool::new(false));
    let failed = run(async {
        try_task_group!(workers = 1, all_errors, error = &str, |tg| {
            let (workers, go, is_started) = (tg.workers(), &go, started.clone());
            workers.spawn(async move || {
                started.set(()).unwrap();
                while !go.load(SeqCst) {
                    std::hint::spin_loop();
                }
                Err::<(), _>("expected")
            });
            is_started.wait().await;
            let queued = workers.spawn(async || Ok(()));
            tg.cancel();
            workers.spawn(async || std::future::pending::<Result<(), &str>>().await);
            // Something happens in this poll, so that the group looks at all that it has.
            tg.defer(async {});
            go.store(true, SeqCst);
            thread::sleep(Duration::from_millis(20));
            _ = queued.outcome().await;
        })
    });
    assert!(failed.is_err());
}

#[test]
fn a_worker_looks_at_its_orders_before_each_poll() {
    let (n_polls, n_after) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (is_cancelled, has_ended) = (AtomicBool::new(false), AtomicBool::new(false));
    run(async {
        task_group!(workers = 1, |tg| {
            let has_begun = Promise::new();
            let (n_polls, n_after, begun) = (&n_polls, &n_after, has_begun.clone());
            let (is_cancelled, has_ended) = (&is_cancelled, &has_ended);
            tg.workers().spawn(async move || {
                let _dropped = OnDrop(|| has_ended.store(true, SeqCst));
                loop {
                    if n_polls.fetch_add(1, SeqCst) == 2 {
                        begun.set(()).unwrap();
                        // The next one is polled in this turn, too.
                        while !is_cancelled.load(SeqCst) {
                            std::hint::spin_loop();
                        }
                    }
                    n_after.fetch_add(usize::from(is_cancelled.load(SeqCst)), SeqCst);
                    yield_now().await;
                }
            });
            has_begun.wait().await;
            tg.cancel();
            is_cancelled.store(true, SeqCst);
            // In this very poll, in which home wants nothing of the worker.
            while !has_ended.load(SeqCst) {
                std::hint::spin_loop();
            }
        });
    });
    assert_eq!(n_after.into_inner(), 1, "it runs to its next await");
}

/// Awaits what is there again and again, and counts how often it goes on.
async fn go_on(n_after: &AtomicUsize) {
    let is_there = Promise::new();
    is_there.set(()).unwrap();
    loop {
        is_there.wait().await;
        n_after.fetch_add(1, SeqCst);
    }
}

/// The first await stops it, though what it awaits is there.
#[test]
fn cancelled_code_on_a_worker_does_not_go_on_behind_its_next_await() {
    #[derive(Debug)]
    enum By {
        Group,
        Sibling,
        Handle,
        Around,
    }
    for by in [By::Group, By::Sibling, By::Handle, By::Around] {
        let (n_after, is_cancelled) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (n_after, is_cancelled) = (&n_after, &is_cancelled);
        let busy = async move |has_begun: Promise<()>| {
            has_begun.set(()).unwrap();
            while !is_cancelled.load(SeqCst) {
                std::hint::spin_loop();
            }
            go_on(n_after).await;
            Ok::<(), &str>(())
        };
        let failed = run(async {
            try_task_group!(workers = 2, error = &str, |tg| {
                let has_begun = Promise::new();
                let (begun, workers) = (has_begun.clone(), tg.workers());
                let task = match by {
                    By::Around => workers.spawn(async || {
                        task_group!(|tg| {
                            tg.spawn(busy(begun));
                        });
                        Ok(())
                    }),
                    _ => workers.spawn(async || busy(begun).await),
                };
                has_begun.wait().await;
                match by {
                    By::Group | By::Around => tg.cancel(),
                    By::Handle => drop(task.cancel()),
                    By::Sibling => {
                        // The body is dropped when home knows.
                        let _dropped = OnDrop(|| is_cancelled.store(true, SeqCst));
                        workers.spawn(async || Err::<(), _>("expected"));
                        pending::<()>().await;
                    }
                }
                is_cancelled.store(true, SeqCst);
            })
        });
        assert_eq!(failed.is_err(), matches!(by, By::Sibling), "{by:?}");
        assert_eq!(n_after.load(SeqCst), 0, "{by:?}");
    }
}

/// Runs `body` as a task of a group with so many workers. It is given what cancels that task.
fn run_with_own_canceller(workers: usize, body: impl AsyncFn(&(dyn Fn() + Sync)) + Sync) {
    let (is_there, handle) = (Promise::new(), Mutex::new(None::<WorkerTask<()>>));
    let (there, handle, body) = (is_there.clone(), &handle, &body);
    run(async {
        task_group!(workers = workers, |tg| {
            let task = tg.workers().spawn(async move || {
                there.wait().await;
                body(&|| drop(handle.lock().unwrap().take().unwrap().cancel())).await;
            });
            *handle.lock().unwrap() = Some(task);
            is_there.set(()).unwrap();
        });
    });
}

#[test]
fn worker_s_task_that_cancels_itself_does_not_go_on_behind_its_next_await() {
    for workers in [0, 2] {
        let n_after = AtomicUsize::new(0);
        run_with_own_canceller(workers, async |cancel| {
            cancel();
            go_on(&n_after).await;
        });
        assert_eq!(n_after.load(SeqCst), 0, "{workers}");
    }
}

/// Neither the leaves of a group further in, nor what begins there.
#[test]
fn nothing_begins_in_a_group_inside_of_a_task_that_has_cancelled_itself() {
    for (workers, begins) in [(0, false), (0, true), (2, false), (2, true)] {
        let n_after = AtomicUsize::new(0);
        run_with_own_canceller(workers, async |cancel| {
            task_group!(|inner| {
                inner.spawn(async {
                    cancel();
                    if begins {
                        shield(async { n_after.fetch_add(1, SeqCst) }).await;
                    } else {
                        go_on(&n_after).await;
                    }
                });
            });
        });
        assert_eq!(n_after.load(SeqCst), 0, "{workers}");
    }
}

#[test]
fn nothing_begins_where_it_is_polled_twice_in_a_task_that_has_cancelled_itself() {
    for workers in [0, 2] {
        let n_after = AtomicUsize::new(0);
        run_with_own_canceller(workers, async |cancel| {
            cancel();
            let mut begins = pin!(shield(async { n_after.fetch_add(1, SeqCst) }));
            poll_fn(|cx| {
                let _ = begins.as_mut().poll(cx);
                begins.as_mut().poll(cx)
            })
            .await;
        });
        assert_eq!(n_after.load(SeqCst), 0, "{workers}");
    }
}

/// What the neighbour awaits has given way already, and has only to come back.
#[test]
fn neighbour_of_cancelled_code_on_a_worker_does_not_go_on_behind_its_next_await() {
    let (n_after, is_cancelled, has_begun) = (AtomicUsize::new(0), AtomicBool::new(false), Promise::new());
    run(async {
        task_group!(workers = 1, |tg| {
            tg.workers().spawn(async || {
                let busy = async {
                    yield_now().await;
                    has_begun.clone().set(()).unwrap();
                    while !is_cancelled.load(SeqCst) {
                        std::hint::spin_loop();
                    }
                    go_on(&n_after).await;
                };
                let neighbour = async {
                    yield_now().await;
                    n_after.fetch_add(1, SeqCst);
                };
                futures::join!(busy, neighbour);
            });
            has_begun.wait().await;
            tg.cancel();
            is_cancelled.store(true, SeqCst);
        });
    });
    assert_eq!(n_after.load(SeqCst), 0);
}

/// A task of a group further in cancels the one that it is in.
#[test]
fn task_at_home_that_cancels_the_one_around_it_does_not_go_on_behind_its_next_await() {
    let n_after = AtomicUsize::new(0);
    run_with_own_canceller(0, async |cancel| {
        task_group!(workers = 0, |inner| {
            inner.workers().spawn(async || {
                cancel();
                go_on(&n_after).await;
            });
        });
    });
    assert_eq!(n_after.load(SeqCst), 0);
}

#[test]
fn handle_of_a_task_that_failed_knows_it_afterwards() {
    for workers in [0, 2] {
        let mut kept = None;
        let failed: Result<(), &str> = run(async {
            try_task_group!(workers = workers, error = &str, |tg| {
                kept = Some(tg.workers().spawn(async || Err::<i32, _>("failed")));
            })
        });
        assert!(failed.is_err());
        let mut kept = kept.unwrap();
        assert!(kept.is_finished() && kept.take().is_none());
    }
}

#[test]
fn what_is_deferred_runs_after_the_tasks_on_workers() {
    for workers in [0, 2, 8] {
        let n_done = AtomicUsize::new(0);
        let mut seen = None;
        run(async {
            task_group!(workers = workers, |tg| {
                tg.defer(async { seen = Some(n_done.load(SeqCst)) });
                for _ in 0..4 {
                    tg.workers().spawn(async || {
                        sleep(Duration::from_millis(1)).await;
                        n_done.fetch_add(1, SeqCst);
                    });
                }
            });
        });
        assert_eq!(seen, Some(4), "{workers}");
    }
}

/// What a cleanup has spawned is cancelled where the cleanup fails, or a part of it.
#[test]
fn a_failure_of_a_deferred_cleanup_ends_what_it_has_on_workers_and_at_home() {
    let texts = [0, 2].map(|workers| {
        let of_itself = panic_text(|| {
            run(async {
                task_group!(workers = workers, |tg| {
                    tg.defer(async {
                        drop(tg.workers().spawn(async || std::future::pending::<()>().await));
                        yield_now().await;
                        panic!("the cleanup");
                    });
                });
            });
        });
        let of_a_task = panic_text(|| {
            run(async {
                task_group!(workers = workers, |tg| {
                    tg.defer(async {
                        tg.spawn(std::future::pending::<()>());
                        drop(tg.workers().spawn(async || -> () { panic!("its task") }));
                    });
                });
            });
        });
        (of_itself, of_a_task)
    });
    let expected = ("the cleanup".to_owned(), "its task".to_owned());
    assert_eq!(texts, [expected.clone(), expected]);
}

#[test]
fn what_is_deferred_runs_after_the_cleanup_on_workers() {
    for workers in [0, 2, 8] {
        let (has_begun, is_released) = (AtomicBool::new(false), AtomicBool::new(false));
        let mut seen = None;
        let failed: Result<(), &str> = run(async {
            try_task_group!(workers = workers, error = &str, |tg| {
                tg.defer(async { seen = Some(is_released.load(SeqCst)) });
                tg.workers().spawn(async || {
                    let wait = async |(): &mut ()| {
                        has_begun.store(true, SeqCst);
                        sleep(LONG).await;
                    };
                    let release = async |()| {
                        sleep(Duration::from_millis(5)).await;
                        is_released.store(true, SeqCst);
                    };
                    bracket((), wait, release).await;
                    Ok(())
                });
                while !has_begun.load(SeqCst) {
                    sleep(Duration::from_millis(1)).await;
                }
                Err("failed")?;
            })
        });
        assert_eq!((failed, seen), (Err("failed"), Some(true)), "{workers}");
    }
}

#[test]
fn a_grace_ends_cleanup_on_workers_has_dropped_it_and_is_reported_once() {
    for workers in [0, 2, 8] {
        let reports = Reports::new();
        let (n_cleaning, n_dropped) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let line = line!() + 6;
        run(async {
            let group = async {
                task_group!(workers = workers, grace = Duration::from_millis(5), |tg| {
                    for _ in 0..3 {
                        // Both have a cleanup of their own.
                        tg.workers().spawn(async || {
                            let _dropped = OnDrop(|| {
                                n_dropped.fetch_add(1, SeqCst);
                            });
                            n_cleaning.fetch_add(1, SeqCst);
                            bracket((), async |()| shield(sleep(LONG)).await, async |()| sleep(LONG).await).await;
                        });
                    }
                });
            };
            race!(group, async {
                while n_cleaning.load(SeqCst) < 3 {
                    sleep(Duration::from_millis(1)).await;
                }
            });
            assert_eq!(n_dropped.load(SeqCst), 3, "{workers}");
        });
        reports.assert_one(ReportKind::GraceOver, &[&format!("tests/cores.rs:{line}"), "shield", "cleaning up"]);
        assert_eq!(reports.texts()[0].matches("spawned at").count(), 3, "{:?}", reports.texts());
    }
}

/// A group in which a task cleans up for ever, once it was cancelled.
async fn cleans_up_for_ever(workers: usize, begun: &Promise<()>) {
    task_group!(workers = workers, name = "inner", |tg| {
        tg.workers().spawn(async || {
            shield(async {
                begun.set(()).unwrap();
                sleep(LONG).await;
            })
            .await;
        });
    });
}

/// Whether a drawing has a line with `what` further in than the one with `around`, and behind that.
fn is_in(text: &str, around: &str, what: &str) -> bool {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let mut lines = text.lines().skip_while(|line| !line.contains(around));
    let outer = lines.next().map_or(0, depth);
    lines.take_while(|line| depth(line) > outer).any(|line| line.contains(what))
}

#[test]
fn a_report_of_a_grace_names_what_it_cuts_off_on_the_workers_of_a_group_further_in() {
    const GRACE: Duration = Duration::from_millis(5);
    let assert_named = |scene: &str, workers: usize, cut_off: &mut dyn FnMut(&Promise<()>)| {
        let (reports, begun) = (Reports::new(), Promise::new());
        cut_off(&begun);
        reports.assert_one(ReportKind::GraceOver, &["shield (cleaning up"]);
        let text = &reports.texts()[0];
        assert!(is_in(text, "group `inner`", "shield (cleaning up"), "{scene}, {workers}:\n{text}");
        assert!(!text.contains("in a poll") && text.matches("shield").count() == 1, "{scene}, {workers}:\n{text}");
    };
    for workers in [0, 1, 2] {
        assert_named("a group", workers, &mut |begun| {
            run(async {
                let group = async {
                    task_group!(grace = GRACE, |tg| {
                        tg.spawn(cleans_up_for_ever(workers, begun));
                    });
                };
                race!(group, begun.wait());
            });
        });
        assert_named("a task at home", workers, &mut |begun| {
            run(async {
                task_group!(grace = GRACE, |tg| {
                    let task = tg.spawn(cleans_up_for_ever(workers, begun));
                    begun.wait().await;
                    task.cancel().await;
                });
            });
        });
        assert_named("a task on a worker", workers, &mut |begun| {
            run(async {
                task_group!(workers = workers, grace = GRACE, |tg| {
                    let task = tg.workers().spawn(async || cleans_up_for_ever(workers, begun).await);
                    begun.wait().await;
                    task.cancel().await;
                });
            });
        });
        assert_named("a worker", workers, &mut |begun| {
            run(async {
                let group = async {
                    task_group!(workers = workers, grace = GRACE, |tg| {
                        tg.workers().spawn(async || cleans_up_for_ever(workers, begun).await);
                    });
                };
                race!(group, begun.wait());
            });
        });
    }
}

#[test]
fn a_task_on_a_worker_that_is_cancelled_alone_has_the_grace_of_its_group() {
    for workers in [0, 1, 2] {
        for all in [false, true] {
            let reports = Reports::new();
            let (is_cleaning, is_beside, n_dropped) =
                (AtomicBool::new(false), AtomicBool::new(false), AtomicUsize::new(0));
            let line = line!() + 7;
            run(async {
                task_group!(workers = workers, grace = Duration::from_millis(5), |tg| {
                    let dropped = OnDrop(|| {
                        n_dropped.fetch_add(1, SeqCst);
                    });
                    let (is_cleaning, is_beside) = (&is_cleaning, &is_beside);
                    let task = tg.workers().spawn(async move || {
                        let _dropped = dropped;
                        is_cleaning.store(true, SeqCst);
                        shield(sleep(LONG)).await;
                    });
                    let beside = Promise::new();
                    let goes_on = tg.workers().spawn({
                        let beside = beside.clone();
                        async move || {
                            is_beside.store(true, SeqCst);
                            if !all {
                                beside.wait().await;
                            }
                            7
                        }
                    });
                    while !(is_cleaning.load(SeqCst) && is_beside.load(SeqCst)) {
                        sleep(Duration::from_millis(1)).await;
                    }
                    if all {
                        tg.cancel();
                        assert!(task.outcome().await.is_err());
                    } else {
                        assert!(task.cancel().await.is_none());
                    }
                    assert_eq!(n_dropped.load(SeqCst), 1, "{workers}");
                    // The others and the group are not concerned.
                    beside.set(()).unwrap();
                    assert_eq!(goes_on.outcome().await, Ok(7));
                    assert_eq!(tg.workers().spawn(async || 7).await, 7);
                });
            });
            reports.assert_one(ReportKind::GraceOver, &[&format!("tests/cores.rs:{line}"), "shield"]);
        }
    }
}

#[test]
fn a_task_on_a_worker_that_is_cancelled_before_it_begins_ends_at_once() {
    for workers in [0, 1, 2] {
        let (is_first_over, n_dropped) = (Promise::<()>::new(), AtomicUsize::new(0));
        run(async {
            task_group!(workers = workers, limit = 1, |tg| {
                let first = is_first_over.clone();
                tg.workers().spawn(async move || first.wait().await);
                let count = || _ = n_dropped.fetch_add(1, SeqCst);
                let held = OnDrop(count);
                let by_home = tg.workers().spawn(async move || drop(held));
                let held = OnDrop(count);
                let by_a_thread = tg.workers().spawn(async move || drop(held));
                let last = tg.workers().spawn(async || 1);
                assert_eq!(by_home.cancel().await, None, "{workers}");
                in_thread(move || drop(by_a_thread.cancel())).await;
                // Nothing of this group wakes it for that but the cancellation.
                while n_dropped.load(SeqCst) < 2 {
                    sleep(Duration::from_millis(1)).await;
                }
                is_first_over.set(()).unwrap();
                assert_eq!(last.await, 1);
            });
        });
    }
}

#[test]
fn a_handle_that_outlives_its_group_keeps_nobodys_waker() {
    struct Ignores;
    impl Wake for Ignores {
        fn wake(self: Arc<Self>) {}
    }
    for workers in [0, 1] {
        let (ignores, handle) = (Arc::new(Ignores), Mutex::new(None));
        run(async {
            let mut group = Box::pin(async {
                task_group!(workers = workers, |tg| {
                    *handle.lock().unwrap() = Some(tg.workers().spawn(async || ()));
                    std::future::pending::<()>().await;
                });
            });
            let waker = Arc::clone(&ignores).into();
            for _ in 0..2 {
                assert!(group.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            }
        });
        assert_eq!((Arc::strong_count(&ignores), handle.lock().unwrap().is_some()), (1, true), "{workers}");
    }
}

#[test]
fn limit_holds_for_tasks_at_home_and_once_more_for_those_on_workers() {
    let measured = async |workers| {
        let (n_at_home, n_on_workers) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let counted = async |n: &AtomicUsize| {
            assert!(n.fetch_add(1, SeqCst) < 2);
            sleep(Duration::from_millis(1)).await;
            n.fetch_sub(1, SeqCst);
        };
        task_group!(workers = workers, limit = 2, |tg| {
            let (workers, n_at_home, n_on_workers) = (tg.workers(), &n_at_home, &n_on_workers);
            for _ in 0..5 {
                tg.spawn(async move {
                    workers.spawn(async move || counted(n_on_workers).await).await;
                    counted(n_at_home).await;
                });
                workers.spawn(async move || counted(n_on_workers).await);
            }
        });
    };
    for workers in [0, 1, 2] {
        run(measured(workers));
        run_virtually(measured(workers));
    }
}

#[test]
fn what_is_deferred_may_spawn_on_workers() {
    for workers in [0, 2] {
        let n_run = AtomicUsize::new(0);
        run(async {
            task_group!(workers = workers, |tg| {
                let (workers, n_run) = (tg.workers(), &n_run);
                tg.defer(async move {
                    workers.spawn(async move || n_run.fetch_add(1, SeqCst)).await;
                    workers.spawn(async move || n_run.fetch_add(1, SeqCst)).await;
                });
            });
        });
        assert_eq!(n_run.into_inner(), 2, "{workers}");
    }
}

#[test]
fn a_drawing_takes_no_grace_from_a_task_that_was_cancelled_alone() {
    for workers in [0, 1] {
        let (reports, grace) = (Reports::new(), Duration::from_millis(50));
        let (begins, cleans) = (Promise::new(), Promise::new());
        run(async {
            task_group!(workers = workers, grace = grace, |tg| {
                let told = [begins.clone(), cleans.clone()];
                let usage = async |told: &mut [Promise<()>; 2]| {
                    told[0].set(()).unwrap();
                    sleep(LONG).await;
                };
                let release = async |told: [Promise<()>; 2]| {
                    told[1].set(()).unwrap();
                    std::future::pending::<()>().await;
                };
                let task = tg.workers().spawn(async move || bracket(told, usage, release).await);
                // Drawn behind a poll in which the grace has ended, before the loop has looked at its timers.
                let busy = tg.workers().spawn(async || {
                    cleans.wait().await;
                    thread::sleep(2 * grace);
                    let _ = xiio::now();
                });
                begins.wait().await;
                let gone = task.cancel();
                join!(busy, async {
                    cleans.wait().await;
                    xiio::inspect::tree().await
                });
                assert!(timeout(LONG, gone).await.is_ok(), "{workers}");
            });
        });
        assert_eq!(reports.kinds(), [ReportKind::GraceOver], "{workers}");
    }
}

#[test]
fn an_output_whose_destructor_panics_beside_a_panic_aborts_nothing() {
    let reports = Reports::new();
    let text = panic_text(|| {
        run(async {
            task_group!(workers = 1, |tg| {
                let task = tg.workers().spawn(async || DropBomb("the output"));
                while !task.is_finished() {
                    sleep(Duration::from_millis(1)).await;
                }
                panic!("the body");
            });
        });
    });
    assert_eq!(text, "the body");
    reports.assert_one(ReportKind::LaterFailure, &["the output"]);
}

#[test]
fn a_cleanup_on_a_worker_that_ends_within_the_grace_is_not_reported() {
    let reports = Reports::new();
    run(async {
        task_group!(workers = 1, grace = LONG, |tg| {
            let began = Promise::new();
            let begins = began.clone();
            let task = tg.workers().spawn(async move || {
                let cleanup = async |()| sleep(Duration::from_millis(5)).await;
                let usage = async |(): &mut ()| {
                    begins.set(()).unwrap();
                    sleep(LONG).await;
                };
                bracket((), usage, cleanup).await;
            });
            began.wait().await;
            assert!(task.cancel().await.is_none());
        });
    });
    reports.assert_none();
}

#[test]
fn cleanup_on_a_worker_that_foreign_code_drops_is_reported_as_skipped() {
    let reports = Reports::new();
    let is_held = AtomicBool::new(false);
    run(async {
        let group = Box::pin(async {
            task_group!(workers = 1, |tg| {
                tg.workers().spawn(async || {
                    let usage = async |(): &mut ()| {
                        is_held.store(true, SeqCst);
                        sleep(LONG).await;
                    };
                    bracket((), usage, async |()| ()).await;
                });
            });
        });
        let until_held = Box::pin(async {
            while !is_held.load(SeqCst) {
                sleep(Duration::from_millis(1)).await;
            }
        });
        drop(futures::future::select(group, until_held).await);
    });
    reports.assert_one(ReportKind::CleanupSkipped, &["a `bracket`", "tests/cores.rs", "by other code than xiio's"]);
}

#[test]
fn an_error_of_one_of_each_worker_is_the_groups() {
    for workers in [1, 2, 8] {
        let sum: Result<usize, usize> = run(async {
            try_task_group!(workers = workers, |tg| { tg.workers().each(async |n| Ok(n)).await.into_iter().sum() })
        });
        assert_eq!(sum, Ok((0..workers).sum()));
        let failed: Result<(), usize> = run(async {
            try_task_group!(workers = workers, |tg| {
                let each = tg.workers().each(async |n| {
                    if n + 1 == workers {
                        return Err(n);
                    }
                    sleep(LONG).await;
                    Ok(())
                });
                each.await;
            })
        });
        assert_eq!(failed, Err(workers - 1));
    }
}

#[test]
fn slow_cleanup_on_a_worker_is_reported_to_home_while_it_lasts() {
    let (started, is_reported) = (Promise::new(), Promise::new());
    let (sink, texts) = (is_reported.clone(), Rc::new(RefCell::new(Vec::new())));
    let reports = Rc::clone(&texts);
    let _listening = listen(move |report| {
        reports.borrow_mut().push((report.kind(), report.to_string()));
        let _ = sink.set(());
    });
    xiio::Builder::new().slow_cleanup(Duration::from_millis(20)).run(async {
        task_group!(workers = 1, grace = LONG, |tg| {
            tg.workers().spawn(async || {
                let cleanup = async {
                    let _ = started.set(());
                    // It ends when home has heard of it.
                    is_reported.wait().await;
                };
                shield(cleanup).await;
            });
            started.wait().await;
            tg.cancel();
        });
    });
    let texts = texts.take();
    let [(ReportKind::SlowCleanup, text)] = &*texts else { panic!("not one report: {texts:?}") };
    assert!(text.contains("task (cleaning up") && text.contains(file!()), "{text}");
}

#[test]
fn n_workers_says_how_many_do_the_tasks() {
    for asked in [0, 1, 3] {
        let count = async |expected: usize| {
            task_group!(workers = asked, |tg| {
                let each = tg.workers().each(async |n| n).await;
                assert_eq!((tg.workers().n_workers(), each.len()), (expected, expected));
            });
        };
        run(count(asked.max(1)));
        run_virtually(count(1));
    }
}

#[test]
fn slow_poll_on_a_worker_is_reported_to_home() {
    let reports = Reports::new();
    let line = line!() + 3;
    xiio::Builder::new().slow_poll(Duration::from_millis(20)).run(async {
        task_group!(workers = 1, |tg| {
            tg.workers().spawn(async || thread::sleep(Duration::from_millis(60)));
            tg.workers().spawn(async || yield_now().await);
        });
    });
    // Home may have lent for as long, which is a poll of its group.
    let texts = reports.texts();
    let of_worker: Vec<_> = texts.iter().filter(|text| text.contains(&format!("tests/cores.rs:{line}"))).collect();
    assert_eq!(of_worker.len(), 1, "{texts:?}");
    assert!(of_worker[0].contains("without giving way"), "{texts:?}");
}

#[test]
fn all_errors_of_tasks_on_workers_are_kept() {
    for workers in [1, 2, 4].repeat(20) {
        // As many at once as there are workers: nobody is cancelled before it fails.
        let barrier = Barrier::new(workers);
        let failed: Result<(), GroupError<usize>> = run(async {
            try_task_group!(workers = workers, all_errors, error = usize, |tg| {
                for number in 0..workers {
                    let barrier = &barrier;
                    tg.workers().spawn(async move || {
                        barrier.wait();
                        Err::<(), _>(number)
                    });
                }
            })
        });
        let mut numbers: Vec<usize> = failed
            .unwrap_err()
            .into_failures()
            .map(|failure| match failure {
                Failure::Error(number) => number,
                Failure::Panic(_) => unreachable!("nobody panics"),
            })
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, Vec::from_iter(0..workers));
    }
}

#[test]
fn later_errors_of_tasks_on_workers_are_reported() {
    for workers in [1, 2, 4] {
        let reports = Reports::new();
        let barrier = Barrier::new(workers);
        let failed: Result<(), &str> = run(async {
            try_task_group!(workers = workers, error = &str, |tg| {
                for _ in 0..workers {
                    tg.workers().spawn(async || {
                        barrier.wait();
                        Err::<(), _>("failed")
                    });
                }
            })
        });
        assert_eq!(failed, Err("failed"));
        // A machine that stands still for a second has home held up as well.
        let n_failures = reports.kinds().into_iter().filter(|kind| *kind == ReportKind::LaterFailure).count();
        assert_eq!(n_failures, workers - 1, "{:?}", reports.texts());
        assert!(reports.texts().iter().all(|text| text.contains("tests/cores.rs")), "{:?}", reports.texts());
    }
}

#[test]
fn an_error_with_which_the_last_task_ends_is_not_missed() {
    for _ in 0..1000 {
        let failed: Result<(), &str> = run(async {
            try_task_group!(workers = 1, error = &str, |tg| {
                tg.workers().spawn(async || Err::<(), _>("failed"));
            })
        });
        assert_eq!(failed, Err("failed"));
    }
}

/// A task that ends by itself in the pass in which it is to clean up has ended by itself, wherever it runs.
#[test]
fn an_error_that_comes_with_the_cancellation_of_the_group_is_not_lost() {
    for workers in [0, 1] {
        let (ready, is_ready) = futures::channel::oneshot::channel::<()>();
        let began = Promise::new();
        let result: Result<(), &str> = run(async {
            try_task_group!(workers = workers, error = &str, |tg| {
                let began_there = began.clone();
                tg.workers().spawn(async move || {
                    let held = Box::pin(shield(std::future::pending::<()>()));
                    let first = futures::future::select(is_ready, held);
                    began_there.set(()).unwrap();
                    drop(first.await);
                    Err::<(), _>("in the end")
                });
                began.wait().await;
                rounds(2).await;
                ready.send(()).unwrap();
                tg.cancel();
            })
        });
        assert_eq!(result, Err("in the end"), "{workers} workers");
    }
}

/// The first panic is the group's, the others are told of.
#[test]
fn a_job_that_panics_when_it_is_dropped_is_named() {
    for workers in [0, 1] {
        let reports = Reports::new();
        let line = line!() + 5;
        let text = panic_text(|| {
            run(async {
                task_group!(workers = workers, |tg| {
                    let bombs = [DropBomb("first"), DropBomb("second")];
                    bombs.into_iter().for_each(|bomb| drop(tg.workers().spawn(async move || drop(bomb))));
                    tg.cancel();
                });
            });
        });
        assert_eq!(text, "first", "{workers}");
        reports.assert_one(
            ReportKind::LaterFailure,
            &[&format!("a task, spawned at {}:{line}, of a group panicked as well", file!()), "second"],
        );
    }
}

/// A permit of each of them would be more than there is memory.
#[test]
fn a_group_that_is_given_any_number_of_workers_has_no_more_than_it_can_have() {
    let (n_workers, value) = run(async {
        task_group!(workers = usize::MAX, |tg| { (tg.workers().n_workers(), tg.workers().spawn(async || 7).await) })
    });
    assert_eq!((n_workers, value), (1 << 16, 7));
}

#[test]
fn no_task_on_a_worker_starves() {
    for workers in [0, 1, 2] {
        let (is_over, n_turns) = (AtomicBool::new(false), AtomicUsize::new(0));
        let is_set = Promise::new();
        is_set.set(()).unwrap();
        run(async {
            task_group!(workers = workers, |tg| {
                for n in 0..4 {
                    let (is_over, is_set) = (&is_over, is_set.clone());
                    tg.workers().spawn(async move || {
                        while !is_over.load(SeqCst) {
                            // Always ready, one by giving way and one by having what it awaits.
                            if n % 2 == 0 { yield_now().await } else { is_set.wait().await }
                        }
                    });
                }
                // Behind the others, on a worker and at home.
                let patient = tg.workers().spawn(async || {
                    for _ in 0..10 {
                        yield_now().await;
                        n_turns.fetch_add(1, SeqCst);
                    }
                });
                for _ in 0..10 {
                    yield_now().await;
                }
                patient.await;
                is_over.store(true, SeqCst);
            });
        });
        assert_eq!(n_turns.into_inner(), 10, "{workers}");
    }
}

/// The page says so: a worker looks at its orders between polls.
#[test]
fn cancelled_code_on_a_worker_gets_past_a_bounded_number_of_awaits_that_are_ready() {
    let (n_past, is_ready, begun) = (AtomicUsize::new(0), Promise::new(), Promise::new());
    is_ready.set(()).unwrap();
    run(async {
        task_group!(workers = 1, |tg| {
            let (cancel, cancelled) = mpsc::channel();
            let (n_past, is_ready, begun) = (&n_past, &is_ready, &begun);
            tg.workers().spawn(async move || {
                begun.set(()).unwrap();
                cancelled.recv().unwrap();
                loop {
                    is_ready.wait().await;
                    n_past.fetch_add(1, SeqCst);
                }
            });
            begun.wait().await;
            tg.cancel();
            cancel.send(()).unwrap();
        });
    });
    assert!(n_past.into_inner() <= 128);
}

#[test]
fn worker_that_holds_home_up_for_a_second_is_reported_with_the_place_of_its_task() {
    let (reports, reported) = mpsc::channel();
    let _listening = listen(move |report| reports.send((report.kind(), report.to_string())).unwrap());
    let (has_begun, report, line) = (AtomicBool::new(false), OnceLock::new(), line!() + 5);
    xiio_tests::run(async {
        let (has_begun, report) = (&has_begun, &report);
        let group = async {
            task_group!(workers = 1, |tg| {
                tg.workers().spawn(async move || {
                    has_begun.store(true, SeqCst);
                    report.set(reported.recv().unwrap()).unwrap();
                });
            });
        };
        // Outside of the group, so it has to wait until the worker is out.
        let outside = async {
            while !has_begun.load(SeqCst) {
                sleep(Duration::from_millis(1)).await;
            }
            sleep(Duration::from_millis(1)).await;
        };
        join!(group, outside);
    });
    let (kind, text) = report.into_inner().unwrap();
    assert_eq!(kind, ReportKind::HeldUp);
    assert!(text.contains(&format!("tests/cores.rs:{line}")) && text.contains("for a second"), "{text}");
}

/// The other one only lends, and could not be in its place.
#[test]
fn of_a_worker_and_its_own_worker_the_one_is_reported_that_does_not_give_way() {
    let (reports, reported) = mpsc::channel();
    let _listening = listen(move |report| reports.send((report.kind(), report.to_string())).unwrap());
    let (has_begun, all, line) = (AtomicBool::new(false), OnceLock::new(), line!() + 7);
    xiio_tests::run(async {
        let (has_begun, all) = (&has_begun, &all);
        let group = async {
            task_group!(workers = 1, |tg| {
                tg.workers().spawn(async move || {
                    task_group!(workers = 1, |tg| {
                        tg.workers().spawn(async move || {
                            has_begun.store(true, SeqCst);
                            let first = reported.recv().unwrap();
                            // The other one has been held up for as long, but for some milliseconds.
                            let second = reported.recv_timeout(Duration::from_millis(300)).ok();
                            all.set((first, second)).unwrap();
                        });
                    });
                });
            });
        };
        let outside = async {
            while !has_begun.load(SeqCst) {
                sleep(Duration::from_millis(1)).await;
            }
            sleep(Duration::from_millis(1)).await;
        };
        join!(group, outside);
    });
    let ((kind, text), second) = all.into_inner().unwrap();
    assert!(kind == ReportKind::HeldUp && text.contains(&format!("tests/cores.rs:{line}")), "{text}");
    assert_eq!(second, None);
}

#[test]
fn a_worker_that_is_long_in_a_poll_holds_nobody_up_inside_of_the_group() {
    let (was_released, ends) = (AtomicBool::new(false), mpsc::channel());
    run(async {
        task_group!(workers = 1, |tg| {
            let ((end, ending), was_released) = (ends, &was_released);
            // In one poll, until home has come as far as it is to come.
            tg.workers().spawn(async move || was_released.store(ending.recv().is_ok(), SeqCst));
            let task = tg.spawn(async {
                for _ in 0..10 {
                    sleep(Duration::from_millis(1)).await;
                }
            });
            task.await;
            assert!(!was_released.load(SeqCst));
            end.send(()).unwrap();
        });
    });
    assert!(was_released.into_inner());
}

#[test]
fn a_panic_in_a_cleanup_or_a_destructor_on_a_worker_is_the_groups() {
    for workers in [0, 2] {
        let text = panic_text(|| {
            run(async {
                task_group!(workers = workers, |tg| {
                    let cleanup = async |()| panic!("in the cleanup");
                    tg.workers().spawn(async move || bracket((), async |()| yield_now().await, cleanup).await);
                    sleep(Duration::from_millis(5)).await;
                });
            });
        });
        assert_eq!(text, "in the cleanup", "{workers}");
        let text = panic_text(|| {
            run(async {
                task_group!(workers = workers, |tg| {
                    let bomb = OnDrop(|| panic!("in the destructor"));
                    tg.workers().spawn(async move || {
                        let _bomb = bomb;
                        yield_now().await;
                    });
                });
            });
        });
        assert_eq!(text, "in the destructor", "{workers}");
    }
}

#[test]
fn a_panic_in_the_destructor_of_what_is_cut_off_or_has_not_begun_is_the_groups() {
    for workers in [0, 2] {
        let text = panic_text(|| {
            run(async {
                task_group!(workers = workers, |tg| {
                    let bomb = OnDrop(|| panic!("not begun"));
                    tg.workers().spawn(async move || drop(bomb));
                    tg.cancel();
                });
            });
        });
        assert_eq!(text, "not begun", "{workers}");
        let text = panic_text(|| {
            run(async {
                let failed: Result<(), &str> =
                    try_task_group!(workers = workers, grace = Duration::ZERO, error = &str, |tg| {
                        let has_begun = Promise::new();
                        let begun = has_begun.clone();
                        let bomb = OnDrop(|| panic!("cut off"));
                        tg.workers().spawn(async move || {
                            let work = async |bomb: &mut _| {
                                begun.set(()).unwrap();
                                let _ = bomb;
                                std::future::pending::<()>().await;
                            };
                            bracket(bomb, work, async |_bomb| std::future::pending::<()>().await).await;
                            Ok(())
                        });
                        has_begun.wait().await;
                        Err("expected")?;
                    });
                assert_eq!(failed, Err("expected"), "a panic goes first");
            });
        });
        assert_eq!(text, "cut off", "{workers}");
    }
}

#[test]
fn errors_and_panics_of_groups_in_tasks_of_workers_travel_through_them() {
    for workers in [0, 2] {
        let failed: Result<(), String> = run(async {
            try_task_group!(workers = workers, |tg| {
                tg.workers().spawn(async || -> Result<(), String> {
                    try_task_group!(workers = 1, error = String, |tg| {
                        tg.workers().spawn(async || Err::<(), _>("from far below".to_string()));
                        tg.spawn(sleep_without_error());
                    })
                });
            })
        });
        assert_eq!(failed, Err("from far below".to_string()));
        let text = panic_text(|| {
            run(async {
                task_group!(workers = workers, |tg| {
                    tg.workers().spawn(async || {
                        task_group!(workers = 1, |tg| {
                            tg.workers().spawn(async || panic!("from far below"));
                            tg.spawn(sleep(LONG));
                        });
                    });
                });
            });
        });
        assert_eq!(text, "from far below");
    }
}

async fn sleep_without_error() -> Result<(), String> {
    sleep(LONG).await;
    Ok(())
}

#[test]
fn child_of_a_task_on_a_worker_is_stopped_with_it() {
    for workers in [0, 2] {
        let pids = Mutex::new(Vec::new());
        let reports = Reports::new();
        run(async {
            let group = async {
                task_group!(workers = workers, |tg| {
                    for _ in 0..2 {
                        tg.workers().spawn(async || {
                            let mut sleeper = Command::new("sleep");
                            let usage = async |child: &mut xiio::process::Child| {
                                pids.lock().unwrap().push(child.id());
                                child.wait().await.unwrap();
                            };
                            sleeper.arg("3600").stdin(Stdio::null()).scope(usage).await.unwrap();
                        });
                    }
                });
            };
            race!(group, async {
                while pids.lock().unwrap().len() < 2 {
                    sleep(Duration::from_millis(1)).await;
                }
            });
            // Who has cancelled has waited for their end, and they were reaped.
            assert!(!pids.lock().unwrap().iter().any(|pid| is_running(*pid)), "{workers}");
        });
        reports.assert_none();
    }
}

#[test]
fn job_on_a_thread_of_a_task_on_a_worker_is_waited_for() {
    for workers in [0, 2] {
        let has_ended = AtomicBool::new(false);
        run(async {
            let (began, begins) = mpsc::channel();
            let has_begun = AtomicBool::new(false);
            let group = async {
                task_group!(workers = workers, |tg| {
                    tg.workers().spawn(async || {
                        let job = in_thread(move || {
                            began.send(()).unwrap();
                            // It is told of its cancellation, and takes a while to end.
                            while !xiio::thread::is_cancelled() {
                                thread::sleep(Duration::from_millis(1));
                            }
                            thread::sleep(Duration::from_millis(20));
                        });
                        let _ended = OnDrop(|| has_ended.store(true, SeqCst));
                        has_begun.store(true, SeqCst);
                        let _ = job.await;
                    });
                });
            };
            race!(group, async {
                while begins.try_recv().is_err() {
                    sleep(Duration::from_millis(1)).await;
                }
                assert!(has_begun.load(SeqCst) && !has_ended.load(SeqCst));
            });
            assert!(has_ended.load(SeqCst), "{workers}");
        });
    }
}

#[test]
fn an_err_of_a_plain_groups_task_on_a_worker_that_nobody_takes_is_reported() {
    for workers in [0, 2] {
        let reports = Reports::new();
        run(async {
            task_group!(workers = workers, |tg| {
                let kept = tg.workers().spawn(async || Err::<(), _>("dropped with its handle"));
                while !kept.is_finished() {
                    sleep(Duration::from_millis(1)).await;
                }
                drop(kept);
                assert_eq!(tg.workers().spawn(async || Err::<(), _>("taken")).await, Err("taken"));
                tg.workers().spawn(async || Err::<(), _>("nobody hears of it"));
            });
        });
        assert_eq!(reports.kinds(), [ReportKind::ErrorUnheard; 2], "{workers}: {:?}", reports.texts());
        assert!(reports.texts().iter().all(|text| text.contains("tests/cores.rs")), "{:?}", reports.texts());
    }
}

#[test]
fn parallel_map_keeps_the_order_whatever_comes_first() {
    for workers in [0, 1, 2, 8] {
        for n_items in [0, 1, 63, 64, 65, 1000] {
            let items: Vec<usize> = (0..n_items).collect();
            let text_of = async |item: &usize| {
                match item % 7 {
                    0 => yield_now().await,
                    1 if item % 40 == 1 => sleep(Duration::from_micros(300)).await,
                    _ => {}
                }
                item.to_string()
            };
            let expected: Vec<_> = items.iter().map(ToString::to_string).collect();
            assert_eq!(run(parallel_map(workers, &items, text_of)), expected);
            let parse = async |text: &String| text.parse::<usize>();
            assert_eq!(run(try_parallel_map(workers, &expected, parse)).unwrap(), items);
        }
    }
}

#[test]
fn the_items_of_parallel_map_are_taken_by_whoever_is_idle() {
    let n_done = (Mutex::new(0), Condvar::new());
    let items: Vec<usize> = (0..64).collect();
    let wait_for_most = async |item: &usize| {
        let (count, changed) = &n_done;
        let mut count = count.lock().unwrap();
        if *item == 0 {
            let (_count, waited) =
                changed.wait_timeout_while(count, Duration::from_secs(20), |count| *count < 60).unwrap();
            assert!(!waited.timed_out(), "items wait for a worker that is busy");
        } else {
            *count += 1;
            changed.notify_all();
        }
    };
    run(parallel_map(2, &items, wait_for_most));
}

#[test]
fn a_limit_of_time_is_noticed_between_the_items_of_parallel_map() {
    for workers in [0, 1] {
        let limit = Duration::from_millis(10);
        let map = parallel_map(workers, &[(); 400], async |()| thread::sleep(Duration::from_millis(2)));
        assert!(run(timeout(limit, map)).is_err(), "{workers} workers");
    }
}

#[test]
fn parallel_map_gives_way_in_the_middle_of_many_items() {
    let n_begun = AtomicUsize::new(0);
    let one = async |_: &()| {
        n_begun.fetch_add(1, SeqCst);
        let end = Instant::now() + Duration::from_micros(50);
        while Instant::now() < end {}
    };
    let n_meanwhile = run(async {
        task_group!(|tg| {
            tg.spawn(parallel_map(0, &[(); 100_000], one));
            sleep(Duration::from_millis(5)).await;
            tg.cancel();
            n_begun.load(SeqCst)
        })
    });
    // 6250 would be the first chunk.
    assert!(n_meanwhile < 2000, "{n_meanwhile} items came in a row");
}

#[test]
fn an_output_that_panics_when_it_is_dropped_takes_the_place_of_nothing() {
    struct Bomb(bool);
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(!self.0, "the bomb");
        }
    }
    let items: Vec<usize> = (0..100).collect();
    for workers in [0, 2] {
        let reports = Reports::new();
        let given = async |item: &usize| if *item == 2 { panic!("at 2") } else { Bomb(*item < 2) };
        assert_eq!(panic_text(|| drop(run(parallel_map(workers, &items, given)))), "at 2");
        let given = async |item: &usize| if *item == 2 { Err("error at 2") } else { Ok(Bomb(*item < 2)) };
        assert_eq!(run(try_parallel_map(workers, &items, given)).err(), Some("error at 2"));
        let texts = reports.texts();
        assert!(texts.len() == 4 && texts.iter().all(|text| text.contains("the bomb")), "{texts:?}");
    }
}

#[test]
fn parallel_map_takes_any_number_of_workers() {
    assert_eq!(run(parallel_map(usize::MAX, &[1, 2, 3], async |n| n + 1)), [2, 3, 4]);
    assert_eq!(run(parallel_map(usize::MAX, &[0; 0], async |n| n + 1)), [0; 0]);
}

#[test]
fn parallel_map_ends_with_the_first_error_or_panic_and_drops_what_was_given() {
    let items: Vec<usize> = (0..1000).collect();
    for workers in [0, 2, 8] {
        let alive = Arc::new(());
        let given = async |item: &usize| if *item == 777 { Err("777") } else { Ok(Arc::clone(&alive)) };
        assert_eq!(run(try_parallel_map(workers, &items, given)).err(), Some("777"));
        assert_eq!(Arc::strong_count(&alive), 1);
        let given = async |item: &usize| if *item == 777 { panic!("at {item}") } else { Arc::clone(&alive) };
        assert_eq!(panic_text(|| run(parallel_map(workers, &items, given))), "at 777");
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}

#[test]
fn an_output_that_panics_when_it_is_dropped_beside_a_panic_of_parallel_map_is_reported() {
    struct Bomb(bool);
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(!self.0, "a bomb");
        }
    }
    for workers in [0, 2] {
        let reports = Reports::new();
        // The first has ended before the last, which is of another chunk, begins.
        let first = Promise::new();
        let given = async |item: &usize| {
            if *item == 1 {
                first.wait().await;
                panic!("the last");
            }
            first.set(()).unwrap();
            Bomb(true)
        };
        assert_eq!(panic_text(|| run(parallel_map(workers, &[0, 1], given))), "the last");
        assert!(reports.texts().iter().any(|text| text.contains("a bomb")), "{:?}", reports.texts());
    }
}
