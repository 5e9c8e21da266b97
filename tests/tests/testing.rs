//! Tests of tests: virtual time, seeds, cancellation at every await, deadlocks, leaks.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::process::Stdio;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use xiio::io::{Read, Write};
use xiio::net::{TcpListener, TcpStream};
use xiio::signal::{self, SIGCONT, SIGSTOP, SIGUSR1, SIGUSR2};
use xiio::testing::{Tester, advance, cancel_everywhere, cancel_everywhere_and, pause};
use xiio::{
    Condition, Promise, Sleep, bracket, race, readable, run_in_thread, shield, sleep, task_group, timeout,
    try_task_group, yield_now,
};
use xiio_tests::os::{rerun, send, start_until};
use xiio_tests::poll::{OnDrop, OnWake};

const MINUTE: Duration = Duration::from_secs(60);

/// The text of the panic of `run`.
fn panic_of(run: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("it should have panicked");
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&str>().expect("a text")).to_string(),
    }
}

#[xiio::test(virtual_time)]
async fn virtual_sleeps_take_no_time_and_keep_their_order() {
    let real_start = Instant::now();
    let start = xiio::now();
    let order = RefCell::new(Vec::new());
    task_group!(|tg| {
        for minutes in [3, 1, 2] {
            let order = &order;
            tg.spawn(async move {
                sleep(minutes * MINUTE).await;
                order.borrow_mut().push((minutes, xiio::now() - start));
            });
        }
    });
    assert_eq!(*order.borrow(), [(1, MINUTE), (2, 2 * MINUTE), (3, 3 * MINUTE)]);
    assert!(real_start.elapsed() < MINUTE);
}

#[xiio::test(virtual_time)]
async fn virtual_time_stands_still_while_a_task_is_busy() {
    let start = xiio::now();
    for _ in 0..10_000 {
        yield_now().await;
    }
    assert_eq!(xiio::now(), start);
}

#[xiio::test(virtual_time)]
async fn virtual_limit_around_a_descriptor_passes_as_outside() {
    let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
    assert!(timeout(Duration::from_millis(10), xiio::readable(&a)).await.is_err());
}

#[xiio::test(virtual_time, loopback)]
async fn virtual_time_passes_as_outside_beside_a_subscription_even_with_loopback() {
    let mut signals = signal::subscribe(&[SIGUSR2]).unwrap();
    // Both ends of its socket are in this program, but what comes does not.
    let send_soon = || {
        thread::spawn(|| {
            thread::sleep(Duration::from_millis(100));
            assert!(send(std::process::id(), SIGUSR2));
        })
    };
    let thread = send_soon();
    assert_eq!(timeout(MINUTE, signals.recv()).await.unwrap().unwrap(), SIGUSR2);
    thread.join().unwrap();
    let thread = send_soon();
    timeout(MINUTE, readable(&signals)).await.unwrap().unwrap();
    assert_eq!(signals.try_recv(), Some(SIGUSR2));
    thread.join().unwrap();
}

#[xiio::test(virtual_time, loopback)]
async fn virtual_time_jumps_beside_a_server_and_its_client() {
    let (real_start, start) = (Instant::now(), xiio::now());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    race!(
        _ = async {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut byte = [0];
            while client.read(&mut byte).await.unwrap() == 1 {
                sleep(MINUTE).await;
                client.write_all(&byte).await.unwrap();
            }
            pending::<()>().await;
        } => unreachable!("the server goes on"),
        () = async {
            let mut server = TcpStream::connect(addr).await.unwrap();
            for sent in 0..3 {
                let mut got = [0];
                server.write_all(&[sent]).await.unwrap();
                server.read_exact(&mut got).await.unwrap();
                assert_eq!(got, [sent]);
            }
        } => {}
    );
    // Whatever the sockets have taken comes on top.
    assert!((3 * MINUTE..4 * MINUTE).contains(&(xiio::now() - start)));
    assert!(real_start.elapsed() < MINUTE);
}

#[xiio::test(loopback)]
async fn paused_time_jumps_beside_sockets_of_this_machine() {
    let start = Instant::now();
    xiio::testing::pause();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    assert!(timeout(Duration::from_secs(3600), listener.accept()).await.is_err());
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[xiio::test(virtual_time, loopback)]
async fn virtual_time_passes_as_outside_beside_a_pipe_even_with_loopback() {
    let (reader, _writer) = std::io::pipe().unwrap();
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let start = Instant::now();
    let limit = Duration::from_millis(50);
    let late = timeout(limit, async { xiio::join!(xiio::readable(&reader), xiio::readable(&socket)) }).await;
    assert!(late.is_err());
    assert!(start.elapsed() >= limit);
}

#[test]
fn a_default_test_is_a_new_one() {
    assert_eq!(format!("{:?}", Tester::default()), format!("{:?}", Tester::new()));
}

fn order_with(seed: u64) -> Vec<usize> {
    let order = RefCell::new(Vec::new());
    Tester::new().seed(seed).run(|| async {
        task_group!(|tg| {
            for task_idx in 0..8 {
                let order = &order;
                tg.spawn(async move {
                    yield_now().await;
                    order.borrow_mut().push(task_idx);
                });
            }
        });
    });
    order.into_inner()
}

#[test]
fn same_seed_same_order_and_seeds_differ() {
    assert_eq!(order_with(3), order_with(3));
    let first = order_with(0);
    assert!((1..20).any(|seed| order_with(seed) != first));
}

/// The order in which tasks for workers come to their end.
fn order_of_workers_with(seed: u64) -> Vec<usize> {
    let order = std::sync::Mutex::new(Vec::new());
    Tester::new().seed(seed).run(|| async {
        task_group!(workers = 3, |tg| {
            for task_idx in 0..8 {
                let order = &order;
                tg.workers().spawn(async move || {
                    yield_now().await;
                    order.lock().unwrap().push(task_idx);
                });
            }
        });
    });
    order.into_inner().unwrap()
}

#[test]
fn the_order_of_tasks_for_workers_is_drawn_from_the_seed() {
    let first = order_of_workers_with(0);
    assert_eq!(order_of_workers_with(0), first);
    assert_eq!(order_of_workers_with(3), order_of_workers_with(3));
    assert!((1..20).any(|seed| order_of_workers_with(seed) != first));
}

/// Whether a task that is spawned for a worker runs on this thread.
async fn runs_at_home() -> bool {
    task_group!(workers = 2, |tg| { tg.workers().spawn(async || thread::current().id()).await })
        == thread::current().id()
}

#[test]
fn a_test_has_workers_unless_it_is_to_be_repeated_exactly() {
    Tester::new().run(|| async { assert!(!runs_at_home().await) });
    Tester::new().seed(1).run(|| async { assert!(runs_at_home().await) });
    Tester::new().virtual_time().run(|| async { assert!(runs_at_home().await) });
    Tester::new().run(|| async {
        pause();
        assert!(runs_at_home().await);
    });
}

#[xiio::test(virtual_time, seeds = 0..20)]
async fn tasks_for_workers_sleep_in_virtual_time() {
    let start = xiio::now();
    let late = task_group!(workers = 2, timeout = 90 * MINUTE, |tg| {
        for hours in 1..=8 {
            tg.workers().spawn(async move || sleep(hours * 60 * MINUTE).await);
        }
    });
    assert!(late.is_err());
    assert_eq!(xiio::now() - start, 90 * MINUTE);
}

#[test]
fn tasks_for_workers_are_cancelled_at_every_await() {
    let n_open = Cell::new(0);
    let body = || async {
        // What is of the thread is captured by home only.
        let open = AtomicI32::new(0);
        let one = async |open: &AtomicI32| {
            let begin = open.fetch_add(1, SeqCst);
            let end = async |_| {
                yield_now().await;
                open.fetch_sub(1, SeqCst);
            };
            bracket(begin, async |_| sleep(MINUTE).await, end).await;
        };
        let check = OnDrop(|| n_open.set(n_open.get() + open.load(SeqCst)));
        task_group!(workers = 2, |tg| {
            for _ in 0..2 {
                tg.workers().spawn(async || one(&open).await);
            }
        });
        drop(check);
    };
    let n_awaits = cancel_everywhere_and(body, || assert_eq!(n_open.get(), 0, "left open"));
    // Each task: before it begins, asleep, in its cleanup.
    assert!(n_awaits >= 6, "{n_awaits}");
}

#[test]
fn what_a_task_for_a_worker_leaves_open_is_found_at_the_await() {
    let n_begun = AtomicUsize::new(0);
    let text = panic_of(|| {
        let body = || async {
            task_group!(workers = 2, |tg| {
                tg.workers().spawn(async || {
                    n_begun.fetch_add(1, SeqCst);
                    yield_now().await;
                    n_begun.fetch_sub(1, SeqCst);
                });
            });
        };
        cancel_everywhere_and(body, || {
            assert_eq!(n_begun.load(SeqCst), 0, "left open");
        });
    });
    assert!(text.contains("left open") && text.contains("cancelled at await"), "{text}");
}

#[test]
fn the_last_seed_is_one_like_any_other() {
    assert_eq!(order_with(u64::MAX), order_with(u64::MAX));
    assert_ne!(order_with(u64::MAX), order_with(u64::MAX - 1));
}

#[test]
fn no_seed_hides_an_error_of_a_round() {
    Tester::new().seeds(0..100).run(|| async {
        let failed = try_task_group!(all_errors, error = usize, |tg| {
            for task_idx in 0..5 {
                tg.spawn(async move { Err::<(), _>(task_idx) });
            }
        });
        assert_eq!(failed.unwrap_err().into_failures().count(), 5);
    });
}

#[test]
fn the_schedule_is_in_order_again_after_a_seeded_run() {
    order_with(3);
    let order = RefCell::new(Vec::new());
    xiio::run(async {
        task_group!(|tg| {
            for task_idx in 0..8 {
                let order = &order;
                tg.spawn(async move { order.borrow_mut().push(task_idx) });
            }
        });
    });
    assert_eq!(*order.borrow(), [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn failing_seed_is_found_among_many() {
    let tried = Cell::new(0);
    let text = panic_of(|| {
        Tester::new().seeds(0..1000).run(|| async {
            tried.set(tried.get() + 1);
            let last = Cell::new(0);
            task_group!(|tg| {
                for task_idx in 0..3 {
                    let last = &last;
                    tg.spawn(async move { last.set(task_idx) });
                }
            });
            assert_eq!(last.get(), 2, "the last task is not the last");
        });
    });
    assert!(text.contains("the last task is not the last"));
    assert!(tried.get() < 1000);
}

#[test]
fn failing_result_of_a_seed_fails_the_test() {
    let n_runs = Cell::new(0);
    let text = panic_of(|| {
        let _ = Tester::new().seeds(0..3).run(|| async {
            n_runs.set(n_runs.get() + 1);
            Err::<(), _>("no")
        });
    });
    assert!(text.contains("repeat it with `seed = 0`"), "{text}");
    assert_eq!(n_runs.get(), 1, "the next seed is not tried any more");
    let (is_success, said) = run_alone("gives_an_err_with_its_last_seed");
    assert!(!is_success && said.contains("failed with seed 4; repeat it with `seed = 4`"), "{said}");
}

#[xiio::test(seeds = 4..5)]
#[ignore = "fails, for the test above"]
async fn gives_an_err_with_its_last_seed() -> Result<(), String> {
    Err("no".into())
}

#[test]
fn each_seed_has_the_whole_limit() {
    Tester::new().virtual_time().timeout(MINUTE).seeds(0..3).run(|| async {
        sleep(MINUTE / 2).await;
        let tree = xiio::inspect::tree().await;
        assert!(tree.nodes().any(|(_, node)| node.time_left() == Some(MINUTE / 2)), "{tree}");
    });
}

#[xiio::test(seeds = 0..20, virtual_time)]
async fn attribute_takes_seeds() {
    yield_now().await;
}

#[xiio::test(cancel_everywhere)]
async fn attribute_cancels_everywhere() {
    bracket((), async |()| sleep(MINUTE / 60_000).await, async |()| yield_now().await).await;
}

#[test]
fn cancel_everywhere_counts_the_awaits_of_every_task() {
    let n_awaits = cancel_everywhere(|| async {
        task_group!(|tg| {
            for _ in 0..2 {
                tg.spawn(async {
                    yield_now().await;
                    yield_now().await;
                });
            }
        });
    });
    // Two tasks of three polls each, one poll a turn.
    assert!(n_awaits >= 4, "{n_awaits}");
}

#[test]
fn cancel_everywhere_accepts_what_cleans_up() {
    let is_open = Cell::new(false);
    let body = || async {
        is_open.set(true);
        bracket(
            (),
            async |()| {
                task_group!(|tg| {
                    tg.spawn(shield(sleep(MINUTE)));
                    sleep(MINUTE).await;
                });
            },
            async |()| {
                sleep(MINUTE).await;
                is_open.set(false);
            },
        )
        .await;
    };
    cancel_everywhere_and(body, || assert!(!is_open.get()));
}

#[test]
fn cancel_everywhere_takes_an_unheard_err_for_a_fault_of_the_run_that_it_does_not_cancel() {
    let fails = async || Err::<(), _>("unheard");
    let panic = panic_of(|| {
        cancel_everywhere(|| async {
            task_group!(|tg| {
                tg.spawn(fails());
                yield_now().await;
            });
        });
    });
    assert!(panic.contains("ended with an `Err` that nobody has taken"), "{panic}");
    // Where its receiver is cancelled nobody can be given it.
    cancel_everywhere(|| async {
        let won = race!(fails(), pending());
        shield(sleep(MINUTE)).await;
        won.unwrap_err();
        let cleans_up = bracket((), async |()| pending().await, async |()| sleep(MINUTE).await);
        let fails_later = async {
            yield_now().await;
            fails().await
        };
        race!(fails_later, cleans_up).unwrap_err();
    });
}

#[test]
fn cancel_everywhere_finds_what_does_not() {
    let is_open = Cell::new(false);
    let body = || async {
        yield_now().await;
        is_open.set(true);
        sleep(MINUTE).await;
        is_open.set(false);
    };
    let text = panic_of(|| {
        cancel_everywhere_and(body, || assert!(!is_open.replace(false), "left open"));
    });
    assert!(text.starts_with("cancelled at await 2: left open"), "{text}");
    assert!(text.contains("sleep"), "{text}");
}

#[test]
fn the_limit_of_a_test_is_one_for_each_cancelled_run() {
    let (reader, _writer) = std::io::pipe().unwrap();
    let text = panic_of(|| {
        Tester::new().timeout(Duration::from_millis(50)).cancel_everywhere().run(|| async {
            let is_done = Cell::new(false);
            let release = async |()| {
                if !is_done.get() {
                    let _ = readable(&reader).await;
                }
            };
            let usage = async |(): &mut ()| {
                yield_now().await;
                is_done.set(true);
            };
            bracket((), usage, release).await;
        });
    });
    assert!(text.starts_with("cancelled at await 1: the test is over its time limit\n"), "{text}");
    assert!(text.contains("to be readable"), "{text}");
}

#[test]
fn a_cleanup_that_takes_long_is_no_fault_where_every_await_is_cancelled() {
    Tester::new().virtual_time().slow_cleanup(MINUTE).cancel_everywhere().run(|| async {
        bracket((), async |()| yield_now().await, async |()| sleep(2 * MINUTE).await).await;
    });
}

#[test]
fn time_is_virtual_where_every_await_is_cancelled() {
    let n_runs = Cell::new(0);
    Tester::new().cancel_everywhere().run(|| async {
        n_runs.set(n_runs.get() + 1);
        // The first run is the one to the end, on the clock of the test.
        if n_runs.get() > 1 {
            let start = xiio::now();
            std::thread::sleep(Duration::from_millis(1));
            assert_eq!(xiio::now(), start);
        }
    });
    assert!(n_runs.get() > 1);
}

#[test]
fn deadlock_fails_with_the_tree() {
    let text = panic_of(|| {
        xiio::Builder::new().detect_deadlock(Duration::from_millis(20)).run(async {
            let lock = futures::lock::Mutex::new(());
            let _held = lock.lock().await;
            task_group!(name = "lockers", |tg| {
                tg.spawn(async { drop(lock.lock().await) });
            });
        });
    });
    assert!(text.starts_with("deadlock"), "{text}");
    assert!(text.contains("group `lockers`") && text.contains("testing.rs"), "{text}");
}

#[test]
fn deadlock_is_seen_beside_what_only_watches_the_time() {
    let patient = || Tester::new().patience(Duration::from_millis(20));
    let hang = async || {
        let _ = timeout(Duration::ZERO, shield(pending::<()>())).await;
    };
    for test in [patient().timeout(60 * MINUTE), patient().slow_cleanup(60 * MINUTE)] {
        let text = panic_of(|| test.run(hang));
        assert!(text.starts_with("deadlock"), "{text}");
    }
    let text = panic_of(|| patient().timeout(Duration::from_millis(1)).run(pending::<()>));
    assert!(text.starts_with("the test is over its time limit"), "{text}");
}

#[test]
fn deadlock_is_seen_beside_the_signals_of_cancel_on() {
    let (setter, never) = futures::channel::oneshot::channel::<()>();
    let (_running, ended) = mpsc::channel::<()>();
    // Ends the run if it is not seen.
    thread::spawn(move || {
        ended.recv_timeout(MINUTE) == Err(mpsc::RecvTimeoutError::Timeout) && setter.send(()).is_ok()
    });
    let builder = xiio::Builder::new().detect_deadlock(Duration::from_millis(20)).cancel_on(&[SIGUSR1]);
    let text = panic_of(|| builder.run(async { never.await.unwrap() }));
    assert!(text.starts_with("deadlock"), "{text}");
}

#[test]
fn deadlock_of_a_root_that_nothing_describes_names_the_root() {
    let text = panic_of(|| {
        xiio::Builder::new().detect_deadlock(Duration::from_millis(20)).run(std::future::pending::<()>());
    });
    assert_eq!(text, "deadlock: every task waits, and nothing can wake any of them\nthe root");
}

#[test]
fn thread_that_wakes_in_time_is_no_deadlock() {
    let promise = Promise::new();
    let setter = promise.clone();
    let (started, starting) = mpsc::channel();
    let thread = thread::spawn(move || {
        starting.recv().unwrap();
        setter.set(7).unwrap();
    });
    let value = xiio::Builder::new().detect_deadlock(Duration::from_secs(20)).run(async {
        started.send(()).unwrap();
        promise.wait().await
    });
    assert_eq!(value, 7);
    thread.join().unwrap();
}

#[test]
fn promise_that_a_thread_holds_is_no_deadlock_while_it_does() {
    let promise = Promise::new();
    let (first, second) = (promise.clone(), promise.clone());
    let has_waited = Duration::from_millis(100);
    // Far longer than the patience.
    thread::spawn(move || {
        thread::sleep(has_waited);
        first.set(7).unwrap();
    });
    let detecting = || xiio::Builder::new().detect_deadlock(Duration::from_millis(5));
    assert_eq!(detecting().run(promise.wait()), 7);
    drop(second);

    let promise = Promise::<()>::new();
    let holder = promise.clone();
    thread::spawn(move || {
        thread::sleep(has_waited);
        // As a thread does that panics before it has come to set it.
        drop(holder);
    });
    let text = panic_of(|| detecting().run(promise.wait()));
    assert!(text.starts_with("deadlock") && text.contains("a promise"), "{text}");
}

#[test]
fn time_in_which_the_process_was_stopped_is_no_deadlock() {
    let start = |_| start_until(&mut rerun("program_that_a_thread_wakes"), "waits");
    let mut programs: Vec<_> = (0..8).map(start).collect();
    let all = |signal| programs.iter().for_each(|(program, _)| assert!(send(program.id(), signal)));
    all(SIGSTOP);
    thread::sleep(Duration::from_secs(1));
    all(SIGCONT);
    assert!(programs.iter_mut().all(|(program, _)| program.wait().unwrap().success()));
}

#[test]
#[ignore = "a program for the test above"]
fn program_that_a_thread_wakes() {
    let (setter, wakes) = futures::channel::oneshot::channel();
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        setter.send(7)
    });
    let value = xiio::Builder::new().detect_deadlock(Duration::from_millis(800)).run(async {
        println!("waits");
        wakes.await
    });
    assert_eq!(value, Ok(7));
}

#[test]
fn deadlock_is_seen_in_a_process_that_is_interrupted_again_and_again() {
    let (mut program, _output) = start_until(&mut rerun("program_that_is_deadlocked"), "waits");
    let start = Instant::now();
    let status = loop {
        if let Some(status) = program.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() >= MINUTE {
            program.kill().unwrap();
        }
        assert!(send(program.id(), SIGSTOP) && send(program.id(), SIGCONT));
        thread::sleep(Duration::from_millis(5));
    };
    assert!(status.success(), "{status}");
}

#[test]
#[ignore = "a program for the test above"]
fn program_that_is_deadlocked() {
    let text = panic_of(|| {
        xiio::Builder::new().detect_deadlock(Duration::from_millis(200)).run(async {
            println!("waits");
            pending::<()>().await;
        });
    });
    assert!(text.starts_with("deadlock"), "{text}");
}

#[test]
fn condition_of_a_promise_that_a_thread_holds_is_no_deadlock_while_it_does() {
    let detecting = || xiio::Builder::new().detect_deadlock(Duration::from_millis(5));
    let wait = async |promise: &Promise<i32>| Condition::new().promise(promise).wait().await.unwrap().is_promise_set();
    let promise = Promise::new();
    let (setter, holder) = (promise.clone(), promise.clone());
    thread::spawn(move || {
        // Far longer than the patience.
        thread::sleep(Duration::from_millis(100));
        setter.set(7).unwrap();
    });
    assert!(detecting().run(wait(&promise)));
    drop(holder);
    let text = panic_of(|| _ = detecting().run(wait(&Promise::new())));
    assert!(text.starts_with("deadlock") && text.contains("Condition"), "{text}");
}

/// Has another thread set the promise to 7 in the second poll: nothing wakes the task, so that is the look at its tree.
fn set_in_the_look(promise: &Promise<i32>) -> impl Future<Output = i32> + use<> {
    let (mut setter, mut n_polls) = (Some(promise.clone()), 0);
    poll_fn(move |_| {
        n_polls += 1;
        if n_polls == 2 {
            let setter = setter.take().unwrap();
            thread::spawn(move || setter.set(7).unwrap()).join().unwrap();
        }
        Poll::Pending
    })
}

#[test]
fn promise_that_is_set_and_let_go_while_a_deadlock_is_looked_for_is_none() {
    let promise = Promise::new();
    let set_in_the_look = set_in_the_look(&promise);
    let value = xiio::Builder::new()
        .detect_deadlock(Duration::from_millis(5))
        .run(async { race!(set_in_the_look, promise.wait()) });
    assert_eq!(value, 7);
}

/// Polls a future with a waker of its own, as combinators of other crates do.
async fn with_own_waker<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let outer = Mutex::new(cx.waker().clone());
        let waker = Waker::from(Arc::new(OnWake(move || outer.try_lock().unwrap().wake_by_ref())));
        future.as_mut().poll(&mut Context::from_waker(&waker))
    })
    .await
}

#[test]
fn promise_whose_wake_is_taken_while_a_deadlock_is_looked_for_is_none() {
    let promise = Promise::new();
    let set_in_the_look = set_in_the_look(&promise);
    let value = xiio::Builder::new().detect_deadlock(Duration::from_millis(5)).run(async {
        // The group is polled in the same look, and takes what other threads have woken, as it is polled with another waker than its own.
        let group = with_own_waker(async {
            let task = task_group!(|tg| tg.spawn(promise.wait()).await);
            task
        });
        race!(set_in_the_look, group)
    });
    assert_eq!(value, 7);
}

#[test]
fn promise_that_only_cancelled_code_waits_for_is_no_hope() {
    let detecting = || xiio::Builder::new().detect_deadlock(Duration::from_millis(20));
    let promise = Promise::<()>::new();
    let kept = promise.clone();
    let hang = async |wait: Pin<Box<dyn Future<Output = ()> + '_>>| {
        let _ = timeout(Duration::from_millis(1), async {
            // It drops nothing of its own when it is cancelled.
            futures::join!(wait, shield(pending::<()>()))
        })
        .await;
    };
    let text = panic_of(|| detecting().run(hang(Box::pin(promise.wait()))));
    assert!(text.starts_with("deadlock"), "{text}");
    let condition = async { drop(Condition::new().promise(&promise).wait().await) };
    let text = panic_of(|| detecting().run(hang(Box::pin(condition))));
    assert!(text.starts_with("deadlock"), "{text}");
    drop(kept);

    // A cleanup that waits for it goes on.
    let promise = Promise::new();
    let setter = promise.clone();
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        setter.set(()).unwrap();
    });
    let late = detecting().run(timeout(Duration::from_millis(1), shield(promise.wait())));
    assert!(late.is_err());
}

#[test]
fn deadlock_is_seen_in_a_program_that_is_looked_at_again_and_again() {
    assert!(rerun("program_that_is_looked_at").stderr(Stdio::null()).status().unwrap().success());
}

#[test]
#[ignore = "a program for the test above"]
fn program_that_is_looked_at() {
    let promise = Promise::<()>::new();
    let (over, is_over) = mpsc::channel::<()>();
    let builder = xiio::Builder::new().detect_deadlock(Duration::from_millis(800)).tree_on(&[SIGUSR1]);
    let text = panic_of(|| {
        builder.run(async {
            thread::spawn(move || {
                let start = Instant::now();
                // The signal is that of the printing thread as long as the run lasts.
                while is_over.recv_timeout(Duration::from_millis(100)) == Err(mpsc::RecvTimeoutError::Timeout) {
                    if start.elapsed() >= MINUTE {
                        std::process::abort();
                    }
                    send(std::process::id(), SIGUSR1);
                }
            });
            task_group!(|tg| {
                tg.spawn(promise.wait());
            });
            drop(over);
        });
    });
    assert!(text.starts_with("deadlock"), "{text}");
}

#[xiio::test(patience = Duration::from_secs(50))]
async fn patience_of_a_test_can_be_longer() {
    let (sender, receiver) = futures::channel::oneshot::channel();
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(2500));
        sender.send(7).unwrap();
    });
    assert_eq!(receiver.await, Ok(7));
}

#[test]
fn patience_of_a_test_can_be_shorter() {
    let start = Instant::now();
    let text = panic_of(|| Tester::new().patience(Duration::from_millis(5)).run(std::future::pending::<()>));
    assert!(text.starts_with("deadlock") && start.elapsed() < Duration::from_secs(2), "{text}");
}

#[xiio::test]
async fn time_can_be_paused_on_the_way() {
    let start = Instant::now();
    sleep(Duration::from_millis(5)).await;
    pause();
    let paused_at = xiio::now();
    sleep(MINUTE).await;
    let woken_at = xiio::now();
    // Time was paused in the middle of a tick.
    assert!((MINUTE..MINUTE + Duration::from_millis(2)).contains(&(woken_at - paused_at)));
    pause();
    assert_eq!(xiio::now(), woken_at, "it was paused already");
    assert!(start.elapsed() < MINUTE);
}

/// Whether virtual time passes while `wait` waits. What it waits for may come before it does so, but not again and again.
async fn passes_beside(wait: impl AsyncFn()) -> bool {
    let start = xiio::now();
    for _ in 0..100 {
        wait().await;
        if xiio::now() > start {
            return true;
        }
    }
    false
}

#[xiio::test(virtual_time)]
async fn virtual_time_passes_beside_a_tree_on_another_thread() {
    assert!(passes_beside(async || run_in_thread(async || sleep(Duration::from_millis(10)).await).await).await);
}

#[xiio::test(virtual_time)]
async fn virtual_time_passes_beside_a_descriptor_without_a_limit() {
    let write = |mut writer: std::io::PipeWriter| {
        thread::sleep(Duration::from_millis(10));
        std::io::Write::write_all(&mut writer, b"!").unwrap();
    };
    let wait = async || {
        let (reader, writer) = std::io::pipe().unwrap();
        let thread = thread::spawn(move || write(writer));
        readable(&reader).await.unwrap();
        thread.join().unwrap();
    };
    assert!(passes_beside(wait).await);
}

#[test]
fn time_is_paused_in_tests_only_and_advanced_where_it_is_virtual() {
    let text = panic_of(|| xiio::run(async { pause() }));
    assert!(text.contains("`#[xiio::test]`"), "{text}");
    let text = panic_of(|| Tester::new().run(|| advance(MINUTE)));
    assert!(text.contains("`testing::pause`"), "{text}");
}

#[test]
fn a_worker_that_is_to_pause_time_or_advance_it_says_that_home_does() {
    let text = panic_of(|| {
        Tester::new().run(|| async {
            task_group!(workers = 1, |tg| tg.workers().spawn(async || pause()).await);
        });
    });
    assert!(text.contains("worker"), "{text}");
    let text = panic_of(|| {
        Tester::new().run(|| async {
            task_group!(workers = 1, |tg| {
                // Time is virtual at home by then.
                pause();
                tg.workers().spawn(async || advance(MINUTE).await).await;
            });
        });
    });
    assert!(text.contains("worker"), "{text}");
}

#[xiio::test(virtual_time)]
async fn time_can_be_advanced_while_a_descriptor_is_waited_for() {
    let (reader, _writer) = std::io::pipe().unwrap();
    let (start, outside) = (xiio::now(), Instant::now());
    let order = RefCell::new(Vec::new());
    task_group!(|tg| {
        tg.spawn(async { xiio::readable(&reader).await });
        let sleeper = tg.spawn(async {
            for n in 1..=3 {
                sleep(MINUTE).await;
                // One wake leads to the next, at the same instant.
                yield_now().await;
                order.borrow_mut().push((n, xiio::now() - start));
            }
        });
        advance(2 * MINUTE + Duration::from_secs(1)).await;
        order.borrow_mut().push((0, xiio::now() - start));
        assert!(!sleeper.is_finished());
        tg.cancel();
    });
    let advanced = (0, 2 * MINUTE + Duration::from_secs(1));
    assert_eq!(*order.borrow(), [(1, MINUTE), (2, 2 * MINUTE), advanced]);
    assert!(outside.elapsed() < MINUTE);
}

#[test]
fn sleep_of_millions_of_years_is_one_for_ever() {
    let n_polls = Cell::new(0);
    let text = panic_of(|| {
        Tester::new().virtual_time().run(|| async {
            let mut sleep = sleep(Duration::from_millis(u64::MAX));
            futures::future::poll_fn(|cx| {
                n_polls.set(n_polls.get() + 1);
                assert!(n_polls.get() < 100, "it spins");
                std::pin::Pin::new(&mut sleep).poll(cx)
            })
            .await;
        });
    });
    assert!(text.starts_with("deadlock") && text.contains("sleep"), "{text}");
}

#[test]
fn many_sleeps_for_ever_are_a_deadlock() {
    let text = panic_of(|| {
        Tester::new().virtual_time().run(|| async {
            task_group!(|tg| {
                for seconds in 0..100 {
                    tg.spawn(sleep(Duration::from_secs((1 << 50) - seconds)));
                }
            });
        });
    });
    assert!(text.starts_with("deadlock") && text.contains("sleep"), "{text}");
}

#[test]
fn a_sleep_for_ever_beside_the_limit_of_a_test_is_a_deadlock() {
    let text = panic_of(|| {
        Tester::new().patience(Duration::from_millis(20)).timeout(60 * MINUTE).run(|| sleep(Duration::MAX));
    });
    assert!(text.starts_with("deadlock"), "{text}");
}

#[test]
fn a_test_for_ever_does_not_make_a_deadlock_of_a_sleep() {
    for limit in [Duration::MAX, Duration::from_secs(1 << 40)] {
        Tester::new().patience(Duration::from_millis(20)).timeout(limit).run(|| sleep(Duration::from_millis(100)));
    }
}

#[test]
fn virtual_time_does_not_jump_to_the_limit_of_a_test_that_may_wait_for_a_thread() {
    let text = panic_of(|| {
        let tester = Tester::new().patience(Duration::from_millis(20));
        tester.virtual_time().timeout(60 * MINUTE).run(std::future::pending::<()>);
    });
    assert!(text.starts_with("deadlock"), "{text}");

    // Longer than a limit: the time of the limit passes as it does outside.
    for patience in [Duration::from_millis(20), 60 * MINUTE] {
        Tester::new().patience(patience).virtual_time().timeout(MINUTE).run(|| async {
            let began = xiio::now();
            let promise = Promise::new();
            let given = promise.clone();
            let thread = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(100));
                given.set(())
            });
            promise.wait().await;
            assert!(xiio::now() - began < MINUTE);
            thread.join().unwrap().unwrap();
        });
    }
}

#[test]
fn test_that_waits_for_a_socket_of_its_own_in_vain_does_not_take_its_limit_of_real_time() {
    let text = panic_of(|| {
        let tester = Tester::new().patience(Duration::from_millis(20)).virtual_time().loopback();
        tester.timeout(60 * MINUTE).run(|| async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.accept().await.unwrap();
        });
    });
    assert!(text.starts_with("the test is over its time limit"), "{text}");
}

#[test]
fn test_over_its_limit_fails_with_the_tree() {
    let text = panic_of(|| {
        Tester::new().virtual_time().timeout(MINUTE).run(|| async {
            task_group!(name = "slow", |tg| {
                tg.spawn(sleep(1_000 * MINUTE));
            });
        });
    });
    assert!(text.starts_with("the test is over its time limit"), "{text}");
    assert!(text.contains("group `slow`") && text.contains("sleep"), "{text}");
}

#[test]
fn grace_bounds_the_cleanup_after_the_limit_for_every_seed() {
    for seeds in [0..1, 0..2] {
        let n_runs = Cell::new(0);
        let n_released = Cell::new(0);
        let text = panic_of(|| {
            Tester::new().name("stuck").virtual_time().timeout(MINUTE).grace(MINUTE).seeds(seeds.clone()).run(
                || async {
                    n_runs.set(n_runs.get() + 1);
                    let tree = xiio::inspect::tree().await.to_string();
                    assert!(tree.starts_with("group `stuck`"), "{tree}");
                    if n_runs.get() == seeds.end {
                        bracket(
                            (),
                            async |()| sleep(1_000 * MINUTE).await,
                            async |()| {
                                sleep(60 * MINUTE).await;
                                n_released.set(1);
                            },
                        )
                        .await;
                    }
                },
            );
        });
        assert!(text.starts_with("the test is over its time limit"), "{text}");
        assert_eq!((n_runs.get(), n_released.get()), (seeds.end, 0));
    }
}

#[test]
fn test_that_leaks_a_timer_fails() {
    let text = panic_of(|| {
        Tester::new().run(|| async {
            let mut leaked = Box::pin(sleep(MINUTE));
            futures::future::poll_fn(|cx| {
                assert!(leaked.as_mut().poll(cx).is_pending());
                std::task::Poll::Ready(())
            })
            .await;
            std::mem::forget(leaked);
        });
    });
    assert!(text.contains("left behind 1 timer(s)"), "{text}");
}

/// A sleep that a test has begun to wait for.
async fn begun(duration: Duration) -> Pin<Box<Sleep>> {
    let mut nap = Box::pin(sleep(duration));
    assert_eq!(poll_fn(|cx| Poll::Ready(nap.as_mut().poll(cx))).await, Poll::Pending);
    nap
}

#[test]
fn what_another_thread_has_let_go_of_is_not_left_behind() {
    Tester::new().run(|| async {
        let nap = begun(MINUTE).await;
        thread::spawn(move || drop(nap)).join().unwrap();
    });
    Tester::new().virtual_time().run(|| async {
        let nap = begun(MINUTE).await;
        thread::spawn(move || drop(nap)).join().unwrap();
    });
}

#[test]
fn what_another_thread_has_let_go_of_when_it_was_due_is_not_left_behind() {
    Tester::new().run(|| async {
        let nap = begun(Duration::from_millis(20)).await;
        // Until it is due, and so late that its tick is over as well.
        let due = nap.deadline().unwrap() + Duration::from_millis(5);
        thread::spawn(move || {
            while Instant::now() < due {
                thread::sleep(Duration::from_millis(1));
            }
            drop(nap);
        })
        .join()
        .unwrap();
    });
}

/// What a test of this file says that runs alone, as with `cargo test -- --test-threads=1`, and whether it passes.
fn run_alone(test: &str) -> (bool, String) {
    let output = rerun(test).arg("--test-threads=1").stderr(Stdio::piped()).output().unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn test_that_leaves_a_file_or_a_child_fails_where_no_other_runs_beside() {
    for (test, words) in [
        ("leaves_a_file", "the test left something behind: open files: "),
        ("leaves_a_child", "the test left something behind: open files: "),
        ("leaves_a_file_when_it_is_cancelled", "cancelled at await 1: open files: "),
    ] {
        let (has_passed, text) = run_alone(test);
        assert!(!has_passed && text.contains(words), "{test}: {text}");
    }
}

#[test]
fn child_that_was_dropped_is_not_left() {
    let (has_passed, text) = run_alone("drops_a_child");
    assert!(has_passed, "{text}");
}

#[test]
fn what_was_there_before_a_test_may_go() {
    let (has_passed, text) = run_alone("lets_go_of_a_file_of_before");
    assert!(has_passed, "{text}");
}

#[test]
#[ignore = "for the test above"]
fn lets_go_of_a_file_of_before() {
    let file = Cell::new(Some(std::fs::File::open("/dev/null").unwrap()));
    Tester::new().run(|| async { drop(file.take()) });
}

#[xiio::test]
#[ignore = "fails, for the test above"]
async fn leaves_a_file() {
    std::mem::forget(std::fs::File::open("/dev/null").unwrap());
}

#[xiio::test]
#[ignore = "fails, for the test above"]
async fn leaves_a_child() {
    std::mem::forget(std::process::Command::new("true").spawn().unwrap());
}

#[xiio::test(cancel_everywhere)]
#[ignore = "fails, for the test above"]
async fn leaves_a_file_when_it_is_cancelled() {
    let file = std::mem::ManuallyDrop::new(std::fs::File::open("/dev/null").unwrap());
    yield_now().await;
    drop(std::mem::ManuallyDrop::into_inner(file));
}

#[xiio::test]
#[ignore = "for the test above"]
async fn drops_a_child() {
    drop(xiio::process::Command::new("sleep").arg("3600").spawn().unwrap());
}
