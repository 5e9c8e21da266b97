//! Tasks handed to a group from elsewhere.
#![allow(missing_docs)]

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;

use xiio::inspect::ReportKind;
use xiio::{
    GroupError, Promise, Remote, bracket, in_thread, inspect, shield, sleep, task_group, timeout, try_task_group,
    yield_now,
};
use xiio_tests::poll::OnDrop;
use xiio_tests::{DropBomb, LONG, Reports, millis, panic_text, run, run_virtually};

thread_local! {
    static EVENTS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn note(event: impl Into<String>) {
    EVENTS.with_borrow_mut(|events| events.push(event.into()));
}

fn is_shareable<T: Clone + Send + Sync + 'static>(_: &T) {}

#[test]
fn jobs_of_many_threads_run_on_the_thread_of_the_group() {
    const N_THREADS: usize = 4;
    const N_JOBS: usize = 500;
    run(async {
        let home = thread::current().id();
        let (all, n_run) = (Promise::new(), Rc::new(Cell::new(0)));
        task_group!(|tg| {
            let remote = tg.remote();
            is_shareable(&remote);
            let (sender, receiver) = mpsc::channel();
            for _ in 0..N_THREADS {
                let (remote, sender) = (remote.clone(), sender.clone());
                thread::spawn(move || {
                    for _ in 0..N_JOBS {
                        let sender = sender.clone();
                        let make = move || async move {
                            // Not `Send`, across an await.
                            let _local = Rc::new(());
                            yield_now().await;
                            sender.send(thread::current().id()).unwrap();
                        };
                        remote.spawn(make).unwrap();
                    }
                });
            }
            drop(sender);
            let (count, all_done) = (Rc::clone(&n_run), all.clone());
            in_thread(move || {
                let ids: Vec<_> = receiver.iter().collect();
                assert_eq!(ids.len(), N_THREADS * N_JOBS);
                assert!(ids.iter().all(|id| *id == home));
            })
            .await;
            count.set(1);
            all_done.set(()).unwrap();
        });
        assert_eq!(n_run.get(), 1);
    });
}

#[test]
fn group_that_only_sleeps_in_the_kernel_is_woken() {
    run(async {
        let stop = Promise::new();
        task_group!(|tg| {
            let (remote, setter) = (tg.remote(), stop.clone());
            thread::spawn(move || {
                thread::sleep(millis(20));
                remote.spawn(move || async move { setter.set(()).unwrap() })
            });
            // The body ends, and one task waits for what the job will do.
            tg.spawn(stop.wait());
        });
    });
}

#[test]
fn jobs_are_cancelled_with_their_group_and_waited_for() {
    run_virtually(async {
        let is_over = timeout(millis(20), async {
            task_group!(|tg| {
                let remote = tg.remote();
                let job = || {
                    bracket(
                        (),
                        async |()| {
                            note("begun");
                            sleep(LONG).await;
                        },
                        async |()| {
                            sleep(millis(1)).await;
                            note("released");
                        },
                    )
                };
                in_thread(move || remote.spawn(job)).await.unwrap();
            });
        });
        assert!(is_over.await.is_err());
    });
    assert_eq!(EVENTS.take(), ["begun", "released"]);
}

#[test]
fn what_was_accepted_runs_and_what_comes_later_is_refused() {
    run(async {
        let remote = task_group!(|tg| {
            let remote = tg.remote();
            tg.defer(async {
                let remote = tg.remote();
                let elsewhere = remote.clone();
                let refused = thread::spawn(move || elsewhere.spawn(|| async {})).join().unwrap();
                assert!(refused.is_err(), "the tasks have ended");
                let is_done = Promise::new();
                let setter = is_done.clone();
                let job = move || async move {
                    note("from a deferred cleanup");
                    setter.set(()).unwrap();
                };
                remote.spawn(job).unwrap();
                is_done.wait().await;
            });
            let again = remote.clone();
            let hand_on = move || async move {
                note("first");
                again.spawn(|| async { note("second") }).unwrap();
            };
            remote.spawn(hand_on).unwrap();
            remote
        });
        assert!(remote.has_ended());
        let token = Arc::new(());
        let held = Arc::clone(&token);
        assert!(remote.spawn(move || async move { drop(held) }).is_err());
        assert_eq!(Arc::strong_count(&token), 1, "what was refused is dropped");
    });
    assert_eq!(EVENTS.take(), ["first", "second", "from a deferred cleanup"]);
}

#[test]
fn every_job_that_was_accepted_while_the_group_ended_has_run() {
    for _ in 0..200 {
        run(async {
            let n_run = Arc::new(AtomicUsize::new(0));
            let thread = task_group!(|tg| {
                let (remote, n_run) = (tg.remote(), Arc::clone(&n_run));
                let thread = thread::spawn(move || {
                    let hand_in = |_: &usize| {
                        let n_run = Arc::clone(&n_run);
                        remote.spawn(move || async move { n_run.fetch_add(1, SeqCst) }).is_ok()
                    };
                    // Without an end it could hand in more than the group runs meanwhile, for ever.
                    (0..100).take_while(hand_in).count()
                });
                yield_now().await;
                thread
            });
            assert_eq!(thread.join().unwrap(), n_run.load(SeqCst));
        });
    }
}

#[test]
fn panic_of_a_job_is_that_of_the_group() {
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        run(async {
            task_group!(|tg| {
                tg.remote().spawn(|| async { panic!("a job") }).unwrap();
                sleep(LONG).await;
            });
        });
    }));
    assert_eq!(*panicked.unwrap_err().downcast::<&str>().unwrap(), "a job");
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        run(async {
            task_group!(|tg| {
                let make = || -> std::future::Ready<()> { panic!("a closure") };
                tg.remote().spawn(make).unwrap();
            });
        });
    }));
    assert_eq!(*panicked.unwrap_err().downcast::<&str>().unwrap(), "a closure");
}

#[test]
fn group_that_is_dropped_half_way_drops_its_jobs_and_refuses_more() {
    run(async {
        let token = Arc::new(());
        let remote = Rc::new(RefCell::new(None::<Remote>));
        let (slot, held) = (Rc::clone(&remote), Arc::clone(&token));
        let mut group = Box::pin(async move {
            task_group!(|tg| {
                slot.replace(Some(tg.remote()));
                sleep(LONG).await;
            });
        });
        assert!(group.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let remote = remote.take().unwrap();
        remote.spawn(move || async move { drop(held) }).unwrap();
        drop(group);
        assert_eq!(Arc::strong_count(&token), 1);
        assert!(remote.has_ended() && remote.spawn(|| async {}).is_err());
    });
}

#[test]
fn group_that_is_leaked_takes_jobs_and_never_runs_them() {
    let kept = run(async {
        let remote = Rc::new(RefCell::new(None::<Remote>));
        let slot = Rc::clone(&remote);
        let borrowed = String::from("gone when the job would run");
        let text = &*borrowed;
        let mut group = Box::pin(async move {
            task_group!(|tg| {
                tg.spawn(async {
                    sleep(millis(1)).await;
                    unreachable!("{text}");
                });
                slot.replace(Some(tg.remote()));
                sleep(LONG).await;
            });
        });
        let polled: Poll<()> = group.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
        xiio_tests::poll::leak(group);
        let remote = remote.borrow().clone().unwrap();
        remote.spawn(|| async { unreachable!("nobody polls its group") }).unwrap();
        sleep(millis(10)).await;
        remote
    });
    // From another thread, after its home has gone.
    thread::spawn(move || kept.spawn(|| async {}).unwrap()).join().unwrap();
}

#[test]
fn drawing_the_tree_starts_no_job_twice() {
    run(async {
        task_group!(|tg| {
            let remote = tg.remote();
            for n in 0..3 {
                remote.spawn(move || async move { note(n.to_string()) }).unwrap();
            }
            let tree = inspect::tree().await;
            drop(tree);
        });
    });
    assert_eq!(EVENTS.take(), ["0", "1", "2"]);
}

#[test]
fn limit_of_the_group_counts_for_jobs() {
    run_virtually(async {
        task_group!(limit = 1, |tg| {
            let remote = tg.remote();
            for n in 0..3 {
                let make = move || async move {
                    note(format!("{n} begins"));
                    sleep(millis(1)).await;
                    note(format!("{n} ends"));
                };
                remote.spawn(make).unwrap();
            }
        });
    });
    assert_eq!(EVENTS.take(), ["0 begins", "0 ends", "1 begins", "1 ends", "2 begins", "2 ends"]);
}

#[test]
fn jobs_of_a_group_that_may_fail_run_and_leave_their_errors_to_a_report() {
    let reports = Reports::new();
    let n_run = Arc::new(AtomicUsize::new(0));
    let ended: Result<(), &str> = run(async {
        try_task_group!(error = &str, |tg| {
            let (remote, counter) = (tg.remote(), Arc::clone(&n_run));
            let count = move || counter.fetch_add(1, SeqCst);
            in_thread(move || {
                remote.spawn(move || async move { count() }).unwrap();
                remote.spawn(|| async { Err::<(), _>("nobody hears of it") }).unwrap();
            })
            .await;
        })
    });
    assert_eq!((ended, n_run.load(SeqCst)), (Ok(()), 1));
    reports.assert_one(ReportKind::ErrorUnheard, &["tests/remote.rs"]);
}

#[test]
fn panic_of_a_job_is_that_of_a_group_that_may_fail() {
    let text = panic_text(|| {
        run(async {
            let _: Result<(), ()> = try_task_group!(error = (), |tg| {
                tg.remote().spawn(|| async { panic!("in a job") }).unwrap();
                sleep(LONG).await;
            });
        });
    });
    assert_eq!(text, "in a job");
}

#[test]
fn remote_of_a_group_that_has_failed_refuses() {
    let remote = run(async {
        let mut kept = None;
        let failed: Result<(), &str> = try_task_group!(error = &str, |tg| {
            kept = Some(tg.remote());
            Err("failed")?;
        });
        assert!(failed.is_err());
        kept.unwrap()
    });
    assert!(remote.has_ended() && remote.spawn(|| async {}).is_err());
}

#[test]
fn a_job_that_was_accepted_is_cancelled_with_the_group_whoever_has_taken_it() {
    let from_elsewhere = |remote: Remote| {
        thread::spawn(move || remote.spawn(std::future::pending::<()>).unwrap()).join().unwrap();
    };
    for hand_in in [&from_elsewhere as &dyn Fn(Remote), &|remote| remote.spawn(std::future::pending::<()>).unwrap()] {
        run(async {
            task_group!(|tg| {
                hand_in(tg.remote());
                tg.cancel();
            });
            let failed: Result<(), &str> = try_task_group!(error = &str, |tg| {
                hand_in(tg.remote());
                Err("expected")?;
            });
            assert_eq!(failed, Err("expected"));
            let over = task_group!(timeout = millis(5), |tg| {
                hand_in(tg.remote());
                std::thread::sleep(millis(10));
            });
            over.unwrap_err();
            timeout(millis(5), async {
                task_group!(|tg| {
                    hand_in(tg.remote());
                    std::thread::sleep(millis(10));
                    yield_now().await;
                });
            })
            .await
            .unwrap_err();
        });
    }
}

#[test]
fn a_thread_that_hands_in_jobs_without_end_does_not_keep_a_group_from_ending() {
    let thread = run(async {
        let (remotes, remote) = mpsc::channel::<Remote>();
        let thread = thread::spawn(move || {
            let remote = remote.recv().unwrap();
            (0..).take_while(|_| remote.spawn(|| sleep(millis(1))).is_ok()).count()
        });
        let over = task_group!(timeout = millis(20), |tg| {
            remotes.send(tg.remote()).unwrap();
            sleep(LONG).await;
        });
        over.unwrap_err();
        thread
    });
    assert!(thread.join().unwrap() > 0);
}

#[test]
fn a_cancellation_ends_however_many_jobs_come_in_meanwhile() {
    let threads = run(async {
        let threads = Cell::new(Vec::new());
        let over = task_group!(timeout = millis(50), |tg| {
            let hand_in = |_| {
                let remote = tg.remote();
                thread::spawn(move || while remote.spawn(|| async {}).is_ok() {})
            };
            threads.set((0..4).map(hand_in).collect());
            sleep(millis(5)).await;
            tg.cancel();
            sleep(LONG).await;
        });
        over.unwrap_err();
        threads.take()
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_group_that_is_cancelled_in_a_last_round_takes_no_more_from_other_threads() {
    let thread = run(async {
        let (remotes, remote) = mpsc::channel::<Remote>();
        let thread = thread::spawn(move || {
            let remote = remote.recv().unwrap();
            (0..).take_while(|_| remote.spawn(|| sleep(millis(1))).is_ok()).count()
        });
        let failed: Result<(), GroupError<&str>> = try_task_group!(all_errors, error = &str, |tg| {
            remotes.send(tg.remote()).unwrap();
            tg.spawn(async { Err::<(), _>("expected") });
            tg.spawn(async {
                tg.cancel();
                Ok(())
            });
            sleep(LONG).await;
        });
        failed.unwrap_err();
        thread
    });
    thread.join().unwrap();
}

#[test]
fn jobs_that_panic_when_they_are_dropped_at_the_end_of_a_grace_are_reported() {
    let reports = Reports::new();
    run(async {
        let over = task_group!(timeout = millis(5), grace = millis(10), |tg| {
            let remote = tg.remote();
            tg.defer(async move {
                for text in ["one", "two"] {
                    let bomb = DropBomb(text);
                    remote.spawn(move || async move { drop(bomb) }).unwrap();
                }
                thread::sleep(millis(30));
                sleep(LONG).await;
            });
            sleep(LONG).await;
        });
        over.unwrap_err();
    });
    let texts = reports.texts();
    assert!(["one", "two"].iter().all(|word| texts.iter().any(|text| text.contains(word))), "{texts:?}");
}

#[test]
fn what_waits_in_a_group_that_is_dropped_is_dropped_without_a_word() {
    let reports = Reports::new();
    run(async {
        let remote = Cell::new(None);
        let mut group = Box::pin(async {
            task_group!(|tg| {
                remote.set(Some(tg.remote()));
                tg.spawn(async {
                    let _cancels = OnDrop(|| tg.cancel());
                    std::future::pending::<()>().await;
                });
                std::future::pending::<()>().await;
            });
        });
        assert!(xiio_tests::poll_once(group.as_mut()).await.is_pending());
        remote.take().unwrap().spawn(|| async {}).unwrap();
        drop(group);
    });
    reports.assert_none();
}

#[test]
fn deferred_cleanups_begin_when_the_jobs_have_ended_that_were_accepted() {
    run(async {
        task_group!(|tg| {
            tg.defer(async { note("cleanup") });
            let remote = tg.remote();
            thread::spawn(move || remote.spawn(|| async { note("job") }).unwrap()).join().unwrap();
        });
    });
    assert_eq!(EVENTS.take(), ["job", "cleanup"]);
}

#[test]
fn when_the_grace_is_over_nothing_begins_any_more() {
    let reports = Reports::new();
    run_virtually(async {
        let start = xiio::now();
        let over = task_group!(timeout = millis(10), grace = millis(20), |tg| {
            let remote = tg.remote();
            let drop_in_the_end = move || _ = remote.spawn(|| async { note("job") });
            let spawns_when_dropped = OnDrop(|| drop(tg.spawn(sleep(LONG))));
            tg.defer(async { drop(spawns_when_dropped) });
            tg.spawn(shield(async {
                let _dropped = OnDrop(drop_in_the_end);
                sleep(LONG).await;
            }));
            sleep(LONG).await;
        });
        over.unwrap_err();
        assert_eq!(xiio::now() - start, millis(30));
    });
    assert!(EVENTS.take().is_empty());
    assert!(reports.kinds().contains(&ReportKind::GraceOver));
}

xiio::local!(static NAME: u32);

/// It begins in the round that the failure of another task has begun.
#[test]
fn a_task_from_elsewhere_has_the_locals_of_its_group_whoever_fails() {
    let seen = Arc::new(AtomicU32::new(9));
    let failed: Result<(), GroupError<&str>> = run(async {
        try_task_group!(all_errors, error = &str, |tg| {
            let (remote, seen) = (tg.remote(), Arc::clone(&seen));
            let fails = async move {
                remote.spawn(async move || seen.store(NAME.try_get().unwrap_or(0), SeqCst)).unwrap();
                Err::<(), _>("failed")
            };
            NAME.sync_scope(7, || drop(tg.spawn(fails)));
            pending::<()>().await;
        })
    });
    assert!(failed.is_err());
    assert_eq!(seen.load(SeqCst), 0);
}
