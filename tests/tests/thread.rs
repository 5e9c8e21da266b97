//! Blocking work on threads: order, panics, cancellation.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::{Duration, Instant};

use xiio::testing::{Tester, advance};
use xiio::thread::{ThreadPool, is_cancelled};
use xiio::{Promise, gather, in_thread, sleep, task_group, try_task_group, yield_now};
use xiio_tests::os::{ends_in_a_fork, rerun};
use xiio_tests::poll::{self, OnWake};
use xiio_tests::{Reports, cancel_when, panic_text, run};

/// More than any test here should take.
const LONG: Duration = Duration::from_secs(30);

/// Says when it is dropped, and on which thread.
struct Dropped(mpsc::Sender<std::thread::ThreadId>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(std::thread::current().id());
    }
}

#[test]
fn jobs_run_side_by_side() {
    let barrier = Arc::new(Barrier::new(3));
    let jobs = (0..3).map(|number| {
        let barrier = Arc::clone(&barrier);
        in_thread(move || {
            barrier.wait();
            number
        })
    });
    assert_eq!(xiio::run(gather(jobs)), [0, 1, 2]);
}

#[test]
fn panic_comes_through_with_its_payload_and_the_pool_lives() {
    struct Own(u32);
    let pool = ThreadPool::new(1);
    let thread = xiio::run(pool.run(|| std::thread::current().id()));
    let caught = catch_unwind(AssertUnwindSafe(|| xiio::run(pool.run(|| std::panic::panic_any(Own(7))))));
    assert_eq!(caught.unwrap_err().downcast_ref::<Own>().unwrap().0, 7);
    assert_eq!(xiio::run(pool.run(|| std::thread::current().id())), thread);
}

#[test]
fn panic_of_a_job_is_its_callers_alone_and_cancels_the_siblings() {
    let caught = catch_unwind(|| {
        xiio::run(async {
            task_group!(|tg| {
                tg.spawn(std::future::pending::<()>());
                tg.spawn(in_thread(|| panic!("in the job")));
            });
        });
    });
    assert_eq!(*caught.unwrap_err().downcast_ref::<&str>().unwrap(), "in the job");
}

#[test]
fn a_pool_of_two_runs_three_jobs_two_at_a_time() {
    let (running, high) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (started, is_started) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(std::sync::Mutex::new(released));
    let pool = ThreadPool::new(2);
    let jobs = (0..3).map(|_| {
        let (running, high, started, released) = (running.clone(), high.clone(), started.clone(), released.clone());
        pool.run(move || {
            high.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
            started.send(()).unwrap();
            let _ = released.lock().unwrap().recv();
            running.fetch_sub(1, SeqCst);
        })
    });
    let jobs: Vec<_> = jobs.collect();
    let conductor = std::thread::spawn(move || {
        is_started.recv_timeout(LONG).unwrap();
        is_started.recv_timeout(LONG).expect("the second job starts while the first one blocks");
        let third = is_started.recv_timeout(Duration::from_millis(100));
        assert!(third.is_err(), "a third thread was started");
        (0..3).for_each(|_| release.send(()).unwrap());
        is_started.recv_timeout(LONG).unwrap();
    });
    xiio::run(gather(jobs));
    conductor.join().unwrap();
    assert_eq!(high.load(SeqCst), 2);
}

#[test]
fn cancelled_job_is_waited_for_while_the_others_go_on() {
    let has_ended = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&has_ended);
    let n_ticks = Arc::new(AtomicUsize::new(0));
    let ticks = Arc::clone(&n_ticks);
    run(async {
        task_group!(|ticking| {
            ticking.spawn(async {
                loop {
                    sleep(Duration::from_millis(1)).await;
                    n_ticks.fetch_add(1, SeqCst);
                }
            });
            let begun = Promise::new();
            let begin = begun.clone();
            let wait_until = |condition: &dyn Fn() -> bool| {
                while !condition() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            };
            let job = async {
                in_thread(move || {
                    begin.set(()).unwrap();
                    wait_until(&is_cancelled);
                    let n_before = ticks.load(SeqCst);
                    wait_until(&|| ticks.load(SeqCst) >= n_before + 10);
                    ended.store(true, SeqCst);
                })
                .await;
                unreachable!("cancelled code ran on");
            };
            assert_eq!(cancel_when::<()>(&begun, job).await, None);
            assert!(has_ended.load(SeqCst), "the thread was not waited for");
            ticking.cancel();
        });
    });
}

#[test]
fn queued_job_of_a_cancelled_waiter_never_runs() {
    let pool = ThreadPool::new(1);
    let has_run = Arc::new(AtomicBool::new(false));
    let (release, released) = mpsc::channel::<()>();
    let (dropped, is_dropped) = mpsc::channel();
    xiio::run(async {
        task_group!(|tg| {
            let first = tg.spawn(pool.run(move || released.recv_timeout(LONG).unwrap()));
            yield_now().await;
            let run = Arc::clone(&has_run);
            let flag = Dropped(dropped);
            let second = tg.spawn(pool.run(move || {
                let _flag = flag;
                run.store(true, SeqCst);
            }));
            yield_now().await;
            assert_eq!(second.cancel().await, None, "it is not waited for");
            assert_eq!(is_dropped.try_recv(), Ok(std::thread::current().id()), "what it captured is gone at once");
            release.send(()).unwrap();
            first.await;
            pool.run(|| ()).await;
        });
    });
    assert!(!has_run.load(SeqCst));
}

#[test]
fn job_cancelled_before_its_first_poll_is_dropped_here() {
    let (dropped, is_dropped) = mpsc::channel();
    let flag = Dropped(dropped);
    let job = in_thread(move || drop(flag));
    xiio::run(async {
        task_group!(|tg| {
            tg.spawn(job);
            tg.cancel();
        });
    });
    assert_eq!(is_dropped.try_recv(), Ok(std::thread::current().id()));
}

#[test]
fn job_that_asks_is_told_of_its_cancellation() {
    assert!(!is_cancelled(), "not in a job");
    let (told, was_told) = mpsc::channel();
    let begun = Promise::new();
    let begin = begun.clone();
    let job = in_thread(move || {
        let start = Instant::now();
        assert!(!is_cancelled());
        begin.set(()).unwrap();
        while !is_cancelled() && start.elapsed() < LONG {
            std::thread::yield_now();
        }
        told.send(is_cancelled()).unwrap();
    });
    assert_eq!(xiio::run(cancel_when(&begun, job)), None);
    assert_eq!(was_told.try_recv(), Ok(true), "`cancel` waits for the job's end");
}

#[test]
fn the_next_job_of_a_worker_is_not_cancelled() {
    let pool = ThreadPool::new(1);
    let begun = Promise::new();
    let begin = begun.clone();
    let job = pool.run(move || {
        begin.set(()).unwrap();
        while !is_cancelled() {
            std::thread::yield_now();
        }
    });
    assert_eq!(xiio::run(cancel_when(&begun, job)), None);
    assert!(!xiio::run(pool.run(is_cancelled)));
}

#[test]
fn abandoned_job_is_not_waited_for_and_its_value_is_dropped_on_its_thread() {
    let (release, released) = mpsc::channel::<()>();
    let (dropped, is_dropped) = mpsc::channel();
    let flag = Dropped(dropped);
    let begun = Promise::new();
    let begin = begun.clone();
    let job = in_thread(move || {
        begin.set(()).unwrap();
        released.recv_timeout(LONG).unwrap();
        assert!(is_cancelled());
        flag
    });
    assert!(xiio::run(cancel_when(&begun, job.abandon_on_cancel())).is_none());
    assert!(is_dropped.try_recv().is_err(), "the job still runs");
    release.send(()).unwrap();
    assert_ne!(is_dropped.recv_timeout(LONG), Ok(std::thread::current().id()));
}

#[test]
fn jobs_that_are_left_behind_keep_no_other_waiting() {
    let pool = ThreadPool::new(1);
    let (release, released) = mpsc::channel::<()>();
    let begun = Promise::new();
    let begin = begun.clone();
    let stuck = pool.run(move || {
        begin.set(()).unwrap();
        released.recv_timeout(LONG).unwrap();
    });
    assert!(xiio::run(cancel_when(&begun, stuck.abandon_on_cancel())).is_none());
    for n in 0..3 {
        assert_eq!(xiio::run(pool.run(move || n)), n);
    }
    release.send(()).unwrap();
}

#[test]
fn job_that_waits_long_for_a_thread_is_reported() {
    let pool = ThreadPool::new(1);
    let (release, released) = mpsc::channel::<()>();
    let reported = Promise::new();
    let tell = reported.clone();
    let _listening = xiio::inspect::listen(move |report| {
        let _ = tell.set((report.kind(), report.to_string()));
    });
    let (kind, text) = xiio::run(async {
        let busy = pool.run(move || released.recv_timeout(LONG).unwrap());
        let tell = async {
            let said = reported.wait().await;
            release.send(()).unwrap();
            said
        };
        let ((), (), said) = xiio::join!(busy, pool.run(|| ()), tell);
        said
    });
    assert_eq!(kind, xiio::inspect::ReportKind::NoThread);
    assert!(text.contains("thread.rs") && text.contains("`ThreadPool`"), "{text}");
}

#[test]
fn job_beside_virtual_time_that_jumps_is_not_late() {
    let pool = ThreadPool::new(1);
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(Some(released));
    let reports = Reports::new();
    let start = Instant::now();
    Tester::new().virtual_time().run(|| async {
        let released = released.lock().unwrap().take().unwrap();
        let busy = pool.run(move || released.recv_timeout(LONG).unwrap());
        let jump = async {
            advance(Duration::from_secs(3600)).await;
            release.send(()).unwrap();
        };
        xiio::join!(busy, pool.run(|| ()), jump);
    });
    // Otherwise it may have waited for long.
    if start.elapsed() < Duration::from_secs(1) {
        reports.assert_none();
    }
}

#[test]
fn job_that_waits_long_behind_a_jump_of_virtual_time_is_reported() {
    let pool = ThreadPool::new(1);
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(Some(released));
    let reported = Promise::new();
    let tell = reported.clone();
    let _listening = xiio::inspect::listen(move |report| _ = tell.set(report.kind()));
    Tester::new().virtual_time().run(|| async {
        let released = released.lock().unwrap().take().unwrap();
        let busy = pool.run(move || released.recv_timeout(LONG).unwrap());
        let release = async {
            advance(Duration::from_secs(3600)).await;
            assert_eq!(reported.wait().await, xiio::inspect::ReportKind::NoThread);
            release.send(()).unwrap();
        };
        xiio::join!(busy, pool.run(|| ()), release);
    });
}

#[test]
fn job_dropped_by_foreign_code_runs_on_and_the_runtime_goes_on() {
    let (release, released) = mpsc::channel::<()>();
    let (dropped, is_dropped) = mpsc::channel();
    let flag = Dropped(dropped);
    xiio::run(async {
        let begun = Promise::new();
        let begin = begun.clone();
        let job = in_thread(move || {
            begin.set(()).unwrap();
            released.recv_timeout(LONG).unwrap();
            flag
        });
        futures::future::select(Box::pin(job), begun.wait()).await;
        assert!(is_dropped.try_recv().is_err());
        release.send(()).unwrap();
        let id = in_thread(move || is_dropped.recv_timeout(LONG).unwrap()).await;
        assert_ne!(id, std::thread::current().id());
    });
}

#[test]
fn panic_of_a_cancelled_job_is_thrown_once_all_have_cleaned_up() {
    let order = RefCell::new(Vec::new());
    let caught = catch_unwind(AssertUnwindSafe(|| {
        xiio::run(async {
            let begun = Promise::new();
            let begin = begun.clone();
            let job = in_thread(move || {
                begin.set(()).unwrap();
                while !is_cancelled() {
                    std::thread::yield_now();
                }
                panic!("while stopping");
            });
            let slow = xiio::bracket(
                (),
                async |()| std::future::pending::<()>().await,
                async |()| {
                    sleep(Duration::from_millis(100)).await;
                    order.borrow_mut().push("cleaned up");
                },
            );
            let both = async {
                futures::join!(job, slow);
            };
            let _ = cancel_when(&begun, both).await;
            order.borrow_mut().push("ran on");
        });
    }));
    assert_eq!(*caught.unwrap_err().downcast_ref::<&str>().unwrap(), "while stopping");
    assert_eq!(*order.borrow(), ["cleaned up"]);
}

/// Leaves a result to the only worker of a pool, to be dropped there; asserts that it works afterwards.
fn abandon_result<T: Send + 'static>(result: T) {
    let pool = ThreadPool::new(1);
    let (release, released) = mpsc::channel::<()>();
    let begun = Promise::new();
    let begin = begun.clone();
    let job = pool.run(move || {
        begin.set(()).unwrap();
        released.recv_timeout(LONG).unwrap();
        result
    });
    assert!(run(cancel_when(&begun, job.abandon_on_cancel())).is_none());
    release.send(()).unwrap();
    assert_eq!(run(pool.run(|| 7)), 7);
}

#[test]
fn result_that_panics_when_dropped_does_not_take_the_worker() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    abandon_result(Bomb);
}

/// Panics when it is dropped, and so does the payload of that panic.
struct DoubleBomb;

impl Drop for DoubleBomb {
    fn drop(&mut self) {
        struct Payload;
        impl Drop for Payload {
            fn drop(&mut self) {
                panic!("the payload as well");
            }
        }
        std::panic::panic_any(Payload);
    }
}

#[test]
fn payload_that_panics_when_dropped_does_not_take_the_worker() {
    abandon_result(DoubleBomb);
}

#[test]
fn waker_that_panics_with_such_a_payload_loses_no_job() {
    let pool = ThreadPool::new(1);
    let (release, released) = mpsc::channel::<()>();
    let mut first = pin!(pool.run(move || released.recv_timeout(LONG).unwrap()));
    assert!(poll::with(&Arc::new(OnWake(|| drop(DoubleBomb))), first.as_mut()).is_pending());
    let second = run(async {
        let mut second = pin!(pool.run(|| 7));
        assert!(poll::once(second.as_mut()).await.is_none());
        // The second job is in the queue, so the worker has it in hand when it wakes for the first.
        release.send(()).unwrap();
        second.await
    });
    assert_eq!(second, 7);
}

#[test]
fn many_short_jobs_all_give_their_value() {
    let pool = ThreadPool::new(4);
    xiio::run(async {
        for round in 0..200_usize {
            let values = gather((0..64_usize).map(|n| pool.run(move || n * round))).await;
            assert!(values.iter().enumerate().all(|(n, value)| *value == n * round));
        }
    });
}

#[test]
fn short_jobs_are_not_stuck_behind_a_long_one() {
    let pool = ThreadPool::new(4);
    xiio::run(async {
        task_group!(|tg| {
            let (release, released) = mpsc::channel::<()>();
            // Short ones first, so that a second worker learns to watch and not to help.
            gather((0..500).map(|_| pool.run(|| ()))).await;
            let long = tg.spawn(pool.run(move || released.recv_timeout(LONG).unwrap()));
            gather((0..500).map(|_| pool.run(|| ()))).await;
            release.send(()).unwrap();
            long.await;
        });
    });
}

#[test]
fn cancellation_and_end_at_the_same_time_lose_nothing() {
    let pool = ThreadPool::new(2);
    let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    xiio::run(async {
        for round in 0..1_000_u64 {
            task_group!(|tg| {
                let (begun, ended) = (Arc::clone(&begun), Arc::clone(&ended));
                tg.spawn(pool.run(move || {
                    begun.fetch_add(1, SeqCst);
                    (0..round % 50 * 20).for_each(|_| std::hint::spin_loop());
                    ended.fetch_add(1, SeqCst);
                }));
                for _ in 0..round % 7 {
                    yield_now().await;
                }
                tg.cancel();
            });
            assert_eq!(begun.load(SeqCst), ended.load(SeqCst), "the group ended before the job");
        }
    });
}

#[test]
fn the_threads_of_a_pool_end_with_it() {
    let pool = ThreadPool::new(3);
    let barrier = Arc::new(Barrier::new(3));
    let ids = xiio::run(gather((0..3).map(|_| {
        let barrier = Arc::clone(&barrier);
        pool.run(move || {
            barrier.wait();
            std::fs::read_link("/proc/thread-self").unwrap()
        })
    })));
    let is_alive = || ids.iter().any(|id| std::path::Path::new("/proc").join(id).exists());
    assert!(is_alive());
    drop(pool);
    let start = Instant::now();
    while is_alive() {
        assert!(start.elapsed() < LONG, "a thread of a pool that is gone still lives");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_job_keeps_its_pool() {
    let job = ThreadPool::new(1).run(|| 7);
    assert_eq!(xiio::run(job), 7);
}

#[test]
fn a_runtime_may_run_inside_a_job() {
    let inner = in_thread(|| xiio::run(async { in_thread(|| 7).await + 1 }));
    assert_eq!(xiio::run(inner), 8);
}

#[test]
fn the_tree_shows_where_a_job_was_made() {
    let (release, released) = mpsc::channel::<()>();
    let tree = xiio::run(async {
        task_group!(|tg| {
            tg.spawn(in_thread(move || released.recv_timeout(LONG).unwrap()));
            yield_now().await;
            let tree = xiio::inspect::tree().await.to_string();
            release.send(()).unwrap();
            tree
        })
    });
    assert!(tree.contains("a thread job, made at tests/tests/thread.rs:"), "{tree}");
}

#[test]
fn a_job_that_outlives_the_grace_is_named_and_left_behind() {
    let reports = Rc::new(RefCell::new(Vec::new()));
    let sink = Rc::clone(&reports);
    let listening = xiio::inspect::listen(move |report| sink.borrow_mut().push(report.to_string()));
    let (release, released) = mpsc::channel::<()>();
    let (dropped, is_dropped) = mpsc::channel();
    let flag = Dropped(dropped);
    let begun = Promise::new();
    let begin = begun.clone();
    let stopped: Result<(), &str> = xiio::run(async {
        try_task_group!(grace = Duration::from_millis(20), |tg| {
            tg.spawn(async {
                in_thread(move || {
                    begin.set(()).unwrap();
                    released.recv_timeout(LONG).unwrap();
                    flag
                })
                .await;
                Ok(())
            });
            begun.wait().await;
            Err("stop")?
        })
    });
    assert_eq!(stopped, Err("stop"));
    drop(listening);
    let report = reports.borrow().concat();
    assert!(report.contains("a thread job, made at tests/tests/thread.rs:"), "{report}");
    release.send(()).unwrap();
    assert_ne!(is_dropped.recv_timeout(LONG), Ok(std::thread::current().id()));
}

#[xiio::test(virtual_time)]
async fn virtual_time_does_not_jump_over_a_job() {
    let job = in_thread(|| std::thread::sleep(Duration::from_millis(20)));
    assert!(xiio::timeout(Duration::from_secs(3600), job).await.is_ok());
}

#[test]
fn job_that_was_begun_in_another_run_is_no_deadlock() {
    let mut job = pin!(in_thread(|| std::thread::sleep(Duration::from_millis(50))));
    run(async { assert!(poll::once(job.as_mut()).await.is_none()) });
    xiio::Builder::new().detect_deadlock(Duration::ZERO).run(job);
}

#[test]
fn a_job_may_be_awaited_without_a_runtime() {
    assert_eq!(futures::executor::block_on(in_thread(|| 7)), 7);
}

#[test]
fn destructor_of_a_thread_local_may_ask_whether_it_is_cancelled() {
    struct Asks(Cell<Option<mpsc::Sender<bool>>>);
    impl Drop for Asks {
        fn drop(&mut self) {
            if let Some(answer) = self.0.take() {
                answer.send(is_cancelled()).unwrap();
            }
        }
    }
    thread_local! { static ASKS: Asks = const { Asks(Cell::new(None)) } }
    let (answer, answers) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        // What is used first is destroyed last.
        ASKS.with(|asks| asks.0.set(Some(answer)));
        is_cancelled()
    });
    assert!(!thread.join().unwrap());
    assert!(!answers.recv().unwrap());
}

#[test]
fn jobs_of_a_process_are_left_to_it_by_one_that_is_forked_off() {
    let output = rerun("program_that_forks_beside_its_jobs").output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
#[ignore = "a program for the test above, in which nothing else runs"]
fn program_that_forks_beside_its_jobs() {
    let pool = ThreadPool::new(1);
    let (begun, has_begun) = mpsc::channel();
    let (end, has_ended) = mpsc::channel::<()>();
    let wait = move || {
        begun.send(()).unwrap();
        has_ended.recv().unwrap_err();
    };
    let mut running = Box::pin(pool.run(wait).abandon_on_cancel());
    let mut queued = Box::pin(pool.run(std::process::id));
    xiio::run(async {
        assert!(poll::once(running.as_mut()).await.is_none());
        assert!(poll::once(queued.as_mut()).await.is_none());
    });
    has_begun.recv().unwrap();
    assert!(ends_in_a_fork(|| {
        drop(running);
        assert_eq!(std::fs::read_dir("/proc/self/task").unwrap().count(), 1);
        let text = panic_text(|| _ = xiio::run(queued));
        assert!(text.contains("this process was forked off that of the job"), "{text}");
        // ThreadSanitizer ends a process that was forked off beside threads and starts one.
        if !cfg!(tsan) {
            assert_eq!(xiio::run(pool.run(std::process::id)), std::process::id());
        }
    }));
    drop(end);
}
