//! Futures that outlive the run in which they were first polled, and go on in the next one.

use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use xiio::{Promise, race, shield, sleep, task_group, timeout};
use xiio_tests::poll;

type Boxed<T> = Pin<Box<dyn Future<Output = T>>>;

/// Polls `future` once in a run of its own, calls `between`, and runs it to its end in a second one.
fn in_two_runs<T: Send + 'static>(
    make: impl FnOnce() -> Boxed<T> + Send + 'static,
    between: impl FnOnce() + Send + 'static,
) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut future = make();
        xiio::run(async { assert!(poll::once(future.as_mut()).await.is_none()) });
        between();
        sender.send(xiio::run(future)).unwrap();
    });
    receiver.recv_timeout(Duration::from_secs(20)).expect("it hangs in its second run, or has panicked")
}

#[test]
fn a_sleep_goes_on_in_the_next_run() {
    in_two_runs(|| Box::pin(sleep(Duration::from_millis(10))), || ());
}

#[test]
fn a_task_that_sleeps_goes_on_in_the_next_run() {
    let value = in_two_runs(
        || {
            Box::pin(async {
                task_group!(|tg| {
                    let task = tg.spawn(async {
                        sleep(Duration::from_millis(10)).await;
                        7
                    });
                    task.await
                })
            })
        },
        || (),
    );
    assert_eq!(value, 7);
}

#[test]
fn sleeps_in_a_foreign_combinator_go_on_in_the_next_run() {
    let n_ended = in_two_runs(
        || {
            Box::pin(async {
                let sleeps: FuturesUnordered<_> = (1..4).map(|n| sleep(Duration::from_millis(n))).collect();
                sleeps.count().await
            })
        },
        || (),
    );
    assert_eq!(n_ended, 3);
}

#[test]
fn a_task_that_waits_for_a_descriptor_goes_on_in_the_next_run() {
    let (a, mut b) = UnixStream::pair().unwrap();
    in_two_runs(
        || {
            Box::pin(async {
                task_group!(|tg| {
                    tg.spawn(async move { xiio::readable(&a).await.unwrap() });
                });
            })
        },
        move || {
            b.write_all(b"x").unwrap();
            // The other end stays open: a hangup would be an event of its own.
            std::mem::forget(b);
        },
    );
}

#[test]
fn a_wake_from_another_thread_between_two_runs_is_kept() {
    let promise = Promise::new();
    let setter = promise.clone();
    let value = in_two_runs(
        || {
            Box::pin(async move {
                task_group!(|tg| {
                    let task = tg.spawn(promise.wait());
                    task.await
                })
            })
        },
        move || thread::spawn(move || setter.set(7).unwrap()).join().unwrap(),
    );
    assert_eq!(value, 7);
}

/// One that comes while the first run is about to end: it is in the inbox and nobody has taken it.
#[test]
fn a_wake_from_another_thread_at_the_end_of_a_run_is_kept() {
    let (promise, second) = (Promise::new(), Promise::new());
    let (setter, last) = (promise.clone(), second.clone());
    let value = in_two_runs(
        move || {
            let mut group: Boxed<i32> = Box::pin(async move {
                task_group!(|tg| {
                    let task = tg.spawn(async move { promise.wait().await + second.wait().await });
                    task.await
                })
            });
            Box::pin(async move {
                assert!(poll::once(group.as_mut()).await.is_none());
                // Blocks the thread, so the run ends before its next look into the inbox.
                thread::spawn(move || setter.set(3).unwrap()).join().unwrap();
                poll::once(Box::pin(pending::<()>()).as_mut()).await;
                let mut is_first = true;
                poll_fn(move |cx| if std::mem::take(&mut is_first) { Poll::Pending } else { group.as_mut().poll(cx) })
                    .await
            })
        },
        move || thread::spawn(move || last.set(4).unwrap()).join().unwrap(),
    );
    assert_eq!(value, 7);
}

#[test]
fn a_limit_and_a_shield_go_on_in_the_next_run() {
    let limited = in_two_runs(
        || Box::pin(async { timeout(Duration::from_millis(10), shield(sleep(Duration::from_millis(500)))).await }),
        || (),
    );
    assert!(limited.is_err(), "a shield that was cancelled has no value");
    let winner = in_two_runs(
        || {
            Box::pin(race([5_000, 10].map(|millis| async move {
                sleep(Duration::from_millis(millis)).await;
                millis
            })))
        },
        || (),
    );
    assert_eq!(winner, 10);
}

/// A group that was polled once and leaked is woken for ever, and that is all.
#[test]
fn a_leaked_group_is_woken_between_and_after_runs() {
    let waker: Rc<RefCell<Option<Waker>>> = Rc::default();
    let slot = Rc::clone(&waker);
    let mut group: Boxed<()> = Box::pin(async move {
        task_group!(|tg| {
            tg.spawn(sleep(Duration::from_millis(1)));
            tg.spawn(poll_fn(move |cx| {
                *slot.borrow_mut() = Some(cx.waker().clone());
                Poll::<()>::Pending
            }));
            pending::<()>().await;
        });
    });
    xiio::run(async { assert!(poll::once(group.as_mut()).await.is_none()) });
    poll::leak(group);
    let waker = waker.take().unwrap();
    let elsewhere = waker.clone();
    thread::spawn(move || elsewhere.wake()).join().unwrap();
    xiio::run(sleep(Duration::from_millis(2)));
    waker.wake_by_ref();
    thread::spawn(move || waker.wake()).join().unwrap();
    xiio::run(sleep(Duration::from_millis(2)));
}
