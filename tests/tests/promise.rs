//! Promises: set once, from any thread, awaited by any number of tasks.

use std::sync::Arc;
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use xiio::inspect::ReportKind;
use xiio::{Promise, bracket, sleep, task_group, timeout};
use xiio_tests::{
    Reports, Trace, WakeBomb, WakeCount, assert_cancels_cleanly, assert_panics, cancel_half_way, millis, poll_once,
    rounds, run, run_virtually,
};

#[test]
fn a_promise_that_is_set_is_ready_at_once() {
    let promise = Promise::new();
    promise.set(7).unwrap();
    assert!(promise.is_set());
    assert_eq!(promise.get(), Some(&7));
    assert_eq!(run(promise.wait()), 7);
}

#[test]
fn a_promise_wakes_everybody_who_waits_in_order() {
    let trace = Trace::new();
    let promise = Promise::new();
    run(async {
        task_group!(|tg| {
            for name in ["a", "b", "c"] {
                let (promise, trace) = (&promise, &trace);
                tg.spawn(async move { trace.note(format!("{name} {}", promise.wait().await)) });
            }
            rounds(2).await;
            promise.set(7).unwrap();
        });
    });
    trace.assert(&["a 7", "b 7", "c 7"]);
}

#[test]
fn a_promise_holds_an_error_as_well() {
    let promise: Promise<Result<i32, &str>> = Promise::new();
    promise.set_err("error").unwrap();
    assert_eq!(run(promise.wait()), Err("error"));
    assert_eq!(promise.set_ok(7), Err(7));
    assert_eq!(promise.set_err("second"), Err("second"));
}

#[test]
fn a_second_value_is_given_back_and_the_first_stays() {
    let promise = Promise::new();
    promise.set(String::from("first")).unwrap();
    assert_eq!(promise.set(String::from("second")), Err(String::from("second")));
    assert_eq!(run(promise.wait()), "first");
}

#[test]
fn a_promise_is_set_from_another_thread_while_the_runtime_sleeps() {
    let promise = Promise::new();
    let setter = promise.clone();
    let thread = thread::spawn(move || {
        thread::sleep(millis(20));
        setter.set(thread::current().id()).unwrap();
    });
    let from = run(promise.wait());
    assert_ne!(from, thread::current().id());
    thread.join().unwrap();
}

#[test]
fn a_promise_is_awaited_on_several_threads() {
    let promise = Promise::new();
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let promise = promise.clone();
            thread::spawn(move || run(promise.wait()))
        })
        .collect();
    promise.set(7).unwrap();
    for waiter in waiters {
        assert_eq!(waiter.join().unwrap(), 7);
    }
}

#[test]
fn a_promise_works_outside_of_a_runtime() {
    let promise = Promise::new();
    let setter = promise.clone();
    let thread = thread::spawn(move || setter.set(7).unwrap());
    assert_eq!(futures::executor::block_on(promise.wait()), 7);
    thread.join().unwrap();
}

#[test]
fn a_promise_nobody_sets_is_awaited_for_ever() {
    let promise = Promise::<()>::new();
    run_virtually(async { assert!(timeout(millis(5), promise.wait()).await.is_err()) });
    assert!(!promise.is_set());
}

#[test]
fn waiting_for_a_promise_cancels_cleanly() {
    let promise = Promise::<()>::new();
    assert_cancels_cleanly(|| promise.wait());
    // The others are told all the same.
    let value = run(async {
        task_group!(|tg| {
            let before = tg.spawn(promise.wait());
            let cancelled = tg.spawn(promise.wait());
            let after = tg.spawn(promise.wait());
            rounds(2).await;
            drop(cancelled.cancel());
            promise.set(()).unwrap();
            before.await;
            after.await;
            7
        })
    });
    assert_eq!(value, 7);
}

#[test]
fn a_waiter_that_moves_to_another_task_is_woken_there() {
    let promise = Promise::new();
    run(async {
        let wakes = WakeCount::new();
        let mut waiting = Box::pin(promise.wait());
        let waker = wakes.waker();
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        task_group!(|tg| {
            let task = tg.spawn(waiting);
            rounds(2).await;
            promise.set(7).unwrap();
            assert_eq!(task.await, 7);
        });
        assert_eq!(wakes.n_wakes(), 0, "the first waker is forgotten");
        drop(waker);
        assert_eq!(wakes.n_clones(), 0);
    });
}

#[test]
fn setting_a_promise_wakes_each_waiter_once() {
    let promise = Promise::new();
    let wakes = WakeCount::new();
    run(async {
        let mut waiting = Box::pin(promise.wait());
        let waker = wakes.waker();
        for _ in 0..3 {
            assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        promise.set(7).unwrap();
        let _ = promise.set(8);
        assert_eq!(wakes.n_wakes(), 1);
        assert!(poll_once(waiting.as_mut()).await.is_ready());
    });
}

#[test]
fn a_waker_that_panics_keeps_nobody_else_asleep() {
    let promise = Promise::new();
    let reports = Reports::new();
    run(async {
        let mut bombed = Box::pin(promise.wait());
        let bomb = Waker::from(Arc::new(WakeBomb));
        assert!(bombed.as_mut().poll(&mut Context::from_waker(&bomb)).is_pending());
        task_group!(|tg| {
            let waiter = tg.spawn(promise.wait());
            rounds(2).await;
            promise.set(7).unwrap();
            assert_eq!(waiter.await, 7);
        });
    });
    reports.assert_one(ReportKind::LaterFailure, &["waker panics"]);
}

#[test]
fn a_value_whose_clone_panics_panics_who_waits() {
    #[derive(Debug)]
    struct Bomb;
    impl Clone for Bomb {
        fn clone(&self) -> Self {
            panic!("clone panics");
        }
    }
    let promise = Promise::new();
    promise.set(Bomb).unwrap();
    assert_panics(&["clone panics"], || run(promise.wait()));
    assert!(promise.is_set());
}

#[test]
fn a_waker_that_sets_another_promise_is_no_deadlock() {
    struct Sets(Promise<i32>, Promise<i32>);
    impl std::task::Wake for Sets {
        fn wake(self: Arc<Self>) {
            // Both are looked at from inside of the other's `set`.
            let _ = self.1.set(*self.0.get().unwrap() + 1);
            let _ = self.0.set(0);
        }
    }
    let (first, second) = (Promise::new(), Promise::new());
    let waker = Waker::from(Arc::new(Sets(first.clone(), second.clone())));
    let mut waiting = Box::pin(first.wait());
    assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    first.set(1).unwrap();
    assert_eq!(second.get(), Some(&2));
}

#[test]
fn a_promise_in_a_cleanup_is_awaited_although_its_task_is_cancelled() {
    let trace = Trace::new();
    let promise = Promise::new();
    run_virtually(async {
        task_group!(|tg| {
            tg.spawn(async {
                sleep(millis(2)).await;
                promise.set("told").unwrap();
            });
            cancel_half_way(bracket(
                (),
                async |()| sleep(Duration::from_secs(60)).await,
                async |()| trace.note(promise.wait().await),
            ))
            .await;
        });
    });
    trace.assert(&["told"]);
}
