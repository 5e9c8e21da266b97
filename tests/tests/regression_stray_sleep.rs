//! A sleep that was begun in one runtime and dropped in another took a timer of the other with it: each thread counted
//! its timers from one, so the key of the stray fitted a timer that had nothing to do with it, whose task then slept
//! for ever. And it left its own behind, for which its runtime waited.

use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use xiio::testing::Tester;
use xiio::{Builder, Promise, Sleep, sleep, task_group, timeout, yield_now};
use xiio_tests::assert_panics;
use xiio_tests::os::{ends_in_a_fork, n_sleeps_of, rerun};

const LONG: Duration = Duration::from_secs(30);

/// A sleep that has a timer in a runtime of this thread, which has ended.
fn begun() -> Sleep {
    let begin = async {
        let mut begun = sleep(LONG);
        assert!(futures::poll!(pin!(&mut begun)).is_pending());
        Some(begun)
    };
    xiio::run(begin).unwrap()
}

/// A sleep that has a timer in a runtime of another thread, which has ended.
fn stray() -> Sleep {
    std::thread::spawn(begun).join().unwrap()
}

#[test]
fn sleep_of_another_runtime_takes_no_timer_with_it() {
    let stray = stray();
    let slept = std::thread::spawn(|| {
        xiio::run(async {
            // First of all timers here, as the stray was there.
            task_group!(|tg| {
                tg.spawn(async {
                    let nap = sleep(Duration::from_millis(20));
                    timeout(LONG / 2, nap).await.is_ok()
                });
                yield_now().await;
                drop(stray);
            });
        });
    });
    let start = Instant::now();
    slept.join().unwrap();
    assert!(start.elapsed() < LONG / 2, "the nap was never woken");
}

#[test]
fn sleep_of_another_runtime_goes_on_here() {
    let mut stray = stray();
    let start = Instant::now();
    stray.reset(start + Duration::from_millis(10));
    xiio::run(stray);
    assert!(start.elapsed() >= Duration::from_millis(10));
}

/// Asserts that a run in which a sleep was begun does not wait for it any more once it has gone elsewhere: nothing else can wake it.
fn is_deadlocked_without(lose: impl FnOnce(Sleep)) {
    let start = Instant::now();
    assert_panics(&["deadlock"], || {
        Builder::new().detect_deadlock(Duration::from_millis(20)).run(async {
            let mut stray = sleep(LONG);
            assert!(futures::poll!(pin!(&mut stray)).is_pending());
            lose(stray);
            pending::<()>().await;
        });
    });
    assert!(start.elapsed() < LONG / 2, "it has waited for the timer");
}

#[test]
fn sleep_that_is_dropped_elsewhere_leaves_no_timer() {
    is_deadlocked_without(|stray| std::thread::spawn(|| drop(stray)).join().unwrap());
}

#[test]
fn sleep_that_is_dropped_elsewhere_while_its_thread_sleeps_leaves_no_timer() {
    is_deadlocked_without(|stray| drop(std::thread::spawn(|| drop(stray))));
}

#[test]
fn sleeps_that_other_threads_drop_again_and_again_hide_no_deadlock() {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let start = Instant::now();
            while !is_over.load(SeqCst) && start.elapsed() < LONG {
                // None of them is of the run below, which is asked for each.
                drop(begun());
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let start = Instant::now();
        assert_panics(&["deadlock"], || {
            Builder::new().detect_deadlock(Duration::from_millis(200)).run(pending::<()>());
        });
        is_over.store(true, SeqCst);
        assert!(start.elapsed() < LONG / 2, "it was put off");
    });
}

#[test]
fn sleep_that_goes_on_elsewhere_leaves_no_timer() {
    is_deadlocked_without(|stray| {
        let go_on = async || assert!(timeout(Duration::from_millis(1), stray).await.is_err());
        std::thread::scope(|scope| scope.spawn(|| xiio::run(go_on())).join().unwrap());
    });
}

#[test]
fn sleep_of_a_process_that_is_forked_off_wakes_no_runtime_of_the_process_before() {
    let output = rerun("program_that_forks_beside_a_runtime").output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
#[ignore = "a program for the test above, in which nothing else runs"]
fn program_that_forks_beside_a_runtime() {
    const N_SLEEPS: u32 = 50;

    let (promise, (sender, started)) = (Promise::new(), mpsc::channel());
    let end = promise.clone();
    let thread = std::thread::spawn(move || {
        xiio::run(async {
            sender.send(std::fs::canonicalize("/proc/thread-self").unwrap()).unwrap();
            promise.wait().await;
        });
    });
    let of_thread = started.recv().unwrap();
    let n_before = n_sleeps_of(&of_thread);
    assert!(ends_in_a_fork(|| {
        for _ in 0..N_SLEEPS {
            drop(begun());
            // So that each would be a wake of its own.
            std::thread::sleep(Duration::from_millis(1));
        }
    }));
    let n_woken = n_sleeps_of(&of_thread) - n_before;
    assert!(n_woken < u64::from(N_SLEEPS) / 2, "it was woken {n_woken} times");
    end.set(()).unwrap();
    thread.join().unwrap();
}

#[test]
fn sleep_in_virtual_time_that_another_thread_resets_moves_although_the_system_is_past_it() {
    Tester::new().virtual_time().slow_poll(None).run(async || {
        let start = xiio::now();
        let stray = Mutex::new(sleep(Duration::from_millis(10)));
        let wait = poll_fn(|cx| Pin::new(&mut *stray.lock().unwrap()).poll(cx));
        let reset = async {
            let earlier = || {
                std::thread::sleep(Duration::from_millis(20));
                stray.lock().unwrap().reset(start + Duration::from_millis(1));
            };
            std::thread::scope(|scope| scope.spawn(earlier).join().unwrap());
        };
        xiio::join!(wait, reset);
        assert_eq!(xiio::now() - start, Duration::from_millis(1));
    });
}

#[test]
fn a_sleep_that_another_thread_ends_begins_the_wait_for_a_deadlock_anew() {
    let (patience, pause) = (Duration::from_secs(3), Duration::from_millis(1_800));
    let nap = Mutex::new(Box::pin(sleep(Duration::MAX)));
    let (tell, told) = futures::channel::oneshot::channel();
    let past = xiio::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(pause);
            nap.lock().unwrap().as_mut().reset(past);
            std::thread::sleep(pause);
            tell.send(7).unwrap();
        });
        let answer = Builder::new().detect_deadlock(patience).run(async {
            poll_fn(|cx| nap.lock().unwrap().as_mut().poll(cx)).await;
            told.await
        });
        assert_eq!(answer, Ok(7));
    });
}
