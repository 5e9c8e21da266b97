//! Tasks handed to a group from elsewhere.
#![allow(missing_docs)]

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;

use xiio::inspect::ReportKind;
use xiio::{Promise, Remote, bracket, in_thread, inspect, sleep, task_group, timeout, try_task_group, yield_now};
use xiio_tests::{LONG, Reports, millis, panic_text, run, run_virtually};

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
                remote.spawn(|| async { note("from a deferred cleanup") }).unwrap();
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

/// A cleanup goes on whatever comes; a job that comes meanwhile is a task like any other, and waits for the end of the cleanups.
#[test]
fn a_job_that_comes_during_a_deferred_cleanup_is_cancelled_with_the_group() {
    for is_own_limit in [true, false] {
        let (began, ended) = (Promise::new(), Rc::new(Cell::new(false)));
        let (began_there, ended_there) = (began.clone(), Rc::clone(&ended));
        run_virtually(async move {
            let group = async {
                let limit = is_own_limit.then_some(millis(20));
                task_group!(timeout = limit, |tg| {
                    let remote = tg.remote();
                    tg.defer(async move {
                        remote.spawn(std::future::pending::<()>).unwrap();
                        began.set(()).unwrap();
                        sleep(millis(30)).await;
                        ended_there.set(true);
                    });
                })
            };
            let start = xiio::now();
            let limit = (!is_own_limit).then_some(millis(20));
            let result = timeout(limit, group).await.and_then(|result| result);
            result.unwrap_err();
            assert!(began_there.is_set() && ended.get());
            assert_eq!(xiio::now() - start, millis(30));
        });
    }
}

#[test]
fn a_job_that_comes_during_a_deferred_cleanup_which_fails_is_cancelled() {
    for limit in [None, Some(millis(5))] {
        let text = panic_text(|| {
            run_virtually(async {
                let _ = task_group!(timeout = limit, |tg| {
                    let remote = tg.remote();
                    tg.defer(async move {
                        remote.spawn(std::future::pending::<()>).unwrap();
                        yield_now().await;
                        panic!("the cleanup");
                    });
                    if limit.is_some() {
                        sleep(LONG).await;
                    }
                });
            });
        });
        assert_eq!(text, "the cleanup");
    }
}
