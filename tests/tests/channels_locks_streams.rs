//! Channels, locks and streams of other crates in groups: waiters that are cancelled lose nothing, in whatever order
//! things happen.
//!
//! Each test runs on many schedules, with cancellations that come before, in the round of, and after what is waited
//! for.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;

use futures::{SinkExt, StreamExt, channel};
use xiio::testing::Tester;
use xiio::{branch, race, sleep, task_group, timeout, yield_now};
use xiio_tests::{LONG, millis, rounds, run_virtually};

/// How many schedules each test runs on.
const N_SEEDS: u64 = 200;

fn on_many_schedules<F: Future<Output = ()>>(body: impl Fn() -> F) {
    Tester::new().virtual_time().seeds(0..N_SEEDS).run(body);
}

/// Takes from `next` for ever, in three tasks that are cancelled one after the other; gives what they took.
async fn take_until_cancelled(next: impl AsyncFn() -> u32, feed: impl AsyncFnOnce()) -> Vec<u32> {
    let taken = RefCell::new(Vec::new());
    task_group!(|tg| {
        let takers: Vec<_> = (0..3)
            .map(|_| {
                tg.spawn(async {
                    loop {
                        let value = next().await;
                        taken.borrow_mut().push(value);
                    }
                })
            })
            .collect();
        tg.spawn(async move {
            for (n_rounds, taker) in takers.into_iter().enumerate() {
                rounds(n_rounds + 1).await;
                taker.cancel().await;
            }
        });
        tg.spawn(feed());
    });
    taken.into_inner()
}

/// Asserts that nothing is missing and nothing is there twice.
#[track_caller]
fn assert_all(mut values: Vec<u32>) {
    values.sort_unstable();
    assert_eq!(values, (0..10).collect::<Vec<_>>());
}

#[test]
fn a_message_that_a_cancelled_receiver_waited_for_stays_in_the_channel() {
    on_many_schedules(|| async {
        let (sender, receiver) = async_channel::bounded(3);
        let left = RefCell::new(Vec::new());
        let taken = take_until_cancelled(
            async || receiver.recv().await.unwrap(),
            async || {
                for n in 0..10 {
                    // With nobody there to take it, the feeder makes room itself.
                    while let Err(full) = sender.try_send(n) {
                        assert!(full.is_full());
                        left.borrow_mut().extend(receiver.try_recv());
                    }
                    yield_now().await;
                }
            },
        )
        .await;
        let rest = std::iter::from_fn(|| receiver.try_recv().ok());
        assert_all([taken, left.into_inner(), rest.collect()].concat());
    });
}

#[test]
fn the_same_holds_for_the_channels_of_tokio() {
    on_many_schedules(|| async {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let receiver = tokio::sync::Mutex::new(receiver);
        let taken = take_until_cancelled(
            async || receiver.lock().await.recv().await.unwrap(),
            async || {
                for n in 0..10 {
                    sender.send(n).unwrap();
                    yield_now().await;
                }
            },
        )
        .await;
        let mut receiver = receiver.try_lock().expect("a cancelled waiter keeps the lock");
        assert_all([taken, std::iter::from_fn(|| receiver.try_recv().ok()).collect()].concat());
    });
}

#[test]
fn a_message_of_a_cancelled_sender_is_not_sent_and_the_next_one_is() {
    on_many_schedules(|| async {
        let (sender, receiver) = async_channel::bounded(1);
        sender.send("first").await.unwrap();
        let received = task_group!(|tg| {
            let cancelled = tg.spawn(sender.send("cancelled"));
            tg.spawn(async {
                rounds(2).await;
                sender.send("second").await.unwrap();
            });
            rounds(1).await;
            // The channel has been full all the time.
            assert!(cancelled.cancel().await.is_none());
            [receiver.recv().await.unwrap(), receiver.recv().await.unwrap()]
        });
        assert_eq!(received, ["first", "second"]);
        assert!(receiver.is_empty());
    });
}

/// Six tasks take a permit each, for some rounds; every other one is cancelled. Gives how many held one at once, at
/// most.
async fn contend<P>(acquire: impl AsyncFn() -> P) -> usize {
    let (n_holding, n_most, n_done) = (Cell::new(0), Cell::new(0), Cell::new(0));
    struct Holding<'a>(&'a Cell<usize>);
    impl Drop for Holding<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }
    task_group!(|tg| {
        let tasks: Vec<_> = (0..6)
            .map(|_| {
                tg.spawn(async {
                    let _permit = acquire().await;
                    n_holding.set(n_holding.get() + 1);
                    n_most.set(n_most.get().max(n_holding.get()));
                    let _holding = Holding(&n_holding);
                    rounds(2).await;
                    n_done.set(n_done.get() + 1);
                })
            })
            .collect();
        for task in tasks.into_iter().step_by(2) {
            rounds(1).await;
            task.cancel().await;
        }
    });
    assert!(n_done.get() >= 3, "only {} got their turn", n_done.get());
    n_most.get()
}

#[test]
fn permits_of_cancelled_waiters_and_holders_go_to_the_next() {
    on_many_schedules(|| async {
        let semaphore = async_lock::Semaphore::new(2);
        assert!(contend(async || semaphore.acquire().await).await <= 2);
        let all = [semaphore.try_acquire(), semaphore.try_acquire()];
        assert!(all.iter().all(Option::is_some) && semaphore.try_acquire().is_none());

        let semaphore = tokio::sync::Semaphore::new(2);
        assert!(contend(async || semaphore.acquire().await.unwrap()).await <= 2);
        assert_eq!(semaphore.available_permits(), 2);
    });
}

#[test]
fn locks_of_cancelled_waiters_and_holders_go_to_the_next() {
    on_many_schedules(|| async {
        let lock = async_lock::Mutex::new(());
        assert_eq!(contend(async || lock.lock().await).await, 1);
        assert!(lock.try_lock().is_some());

        let lock = async_lock::RwLock::new(());
        assert_eq!(contend(async || lock.write().await).await, 1);
        assert!(contend(async || lock.read().await).await > 1);
        assert!(lock.try_write().is_some());

        let lock = futures::lock::Mutex::new(());
        assert_eq!(contend(async || lock.lock().await).await, 1);
        assert!(lock.try_lock().is_some());

        let lock = tokio::sync::Mutex::new(());
        assert_eq!(contend(async || lock.lock().await).await, 1);
        assert!(lock.try_lock().is_ok());
    });
}

#[test]
fn a_cancelled_writer_does_not_keep_the_readers() {
    on_many_schedules(|| async {
        let lock = async_lock::RwLock::new(7);
        task_group!(|tg| {
            let reading = lock.read().await;
            let writer = tg.spawn(async { *lock.write().await = 8 });
            rounds(2).await;
            writer.cancel().await;
            assert_eq!(*lock.read().await + *reading, 14);
        });
    });
}

#[test]
fn a_notice_for_a_cancelled_waiter_is_given_to_the_next() {
    on_many_schedules(|| async {
        let notify = tokio::sync::Notify::new();
        task_group!(|tg| {
            let cancelled = tg.spawn(notify.notified());
            let other = tg.spawn(notify.notified());
            rounds(1).await;
            notify.notify_one();
            // It may have been notified before; the other one needs a notice of its own then.
            if cancelled.cancel().await.is_some() {
                notify.notify_one();
            }
            other.await;
        });
    });
}

#[test]
fn an_item_that_loses_a_race_stays_in_the_stream() {
    run_virtually(async {
        let (sender, receiver) = async_channel::unbounded();
        let (mut items, mut n_ticks) = (Vec::new(), 0);
        let mut stream = pin!(receiver.map(|n: u32| n * 2));
        task_group!(|tg| {
            tg.spawn(async move {
                for n in 0..20 {
                    // As often at the very instant of the tick as beside it.
                    sleep(millis(3 + u64::from(n % 3))).await;
                    sender.send(n).await.unwrap();
                }
            });
            loop {
                race!(
                    item = stream.next() => match item {
                        Some(item) => items.push(item),
                        None => break,
                    },
                    () = sleep(millis(4)) => n_ticks += 1,
                );
            }
        });
        assert!(n_ticks > 0);
        assert_eq!(items, (0..20).map(|n| n * 2).collect::<Vec<_>>());
    });
}

#[test]
fn a_stream_that_runs_futures_at_once_keeps_them_over_a_time_limit() {
    run_virtually(async {
        let n_started = Cell::new(0);
        let jobs = futures::stream::iter((0..6).map(|n| {
            let n_started = &n_started;
            branch(async move {
                n_started.set(n_started.get() + 1);
                sleep(millis(10)).await;
                n
            })
        }));
        let mut results = pin!(jobs.buffered(2));
        let mut values = Vec::new();
        // Each wait is too short, and the next one goes on where it stopped.
        while values.len() < 6 {
            if let Ok(Some(value)) = timeout(millis(3), results.next()).await {
                values.push(value);
            }
        }
        assert_eq!(values, [0, 1, 2, 3, 4, 5]);
        assert_eq!(n_started.get(), 6);
    });
}

#[test]
fn a_sink_whose_sender_is_cancelled_takes_the_next_item() {
    on_many_schedules(|| async {
        let (sender, receiver) = channel::mpsc::channel(0);
        let received: Vec<u32> = task_group!(|tg| {
            let collected = tg.spawn(receiver.collect());
            for n in 0..4 {
                let mut sender = sender.clone();
                let sending = tg.spawn(async move { sender.send(n).await.unwrap() });
                if n % 2 == 0 {
                    sending.cancel().await;
                } else {
                    sending.await;
                }
            }
            drop(sender);
            collected.await
        });
        // Those that were not cancelled are all there, in their order.
        assert_eq!(received.into_iter().filter(|n| n % 2 == 1).collect::<Vec<_>>(), [1, 3]);
    });
}

#[test]
fn a_cancelled_group_closes_its_ends_of_the_channels() {
    on_many_schedules(|| async {
        let (sender, receiver) = async_channel::bounded(1);
        let is_dropped = Rc::new(());
        let message = Rc::clone(&is_dropped);
        task_group!(|tg| {
            let producers = tg.spawn(async move {
                task_group!(|inner| {
                    for _ in 0..3 {
                        let (sender, message) = (sender.clone(), Rc::clone(&message));
                        inner.spawn(async move {
                            loop {
                                sender.send(Rc::clone(&message)).await.unwrap();
                            }
                        });
                    }
                    drop((sender, message));
                    sleep(LONG).await;
                });
            });
            receiver.recv().await.unwrap();
            producers.cancel().await;
            // What was sent before is received still, and then the channel is closed.
            while receiver.recv().await.is_ok() {}
        });
        assert_eq!(Rc::strong_count(&is_dropped), 1, "messages are left behind");
    });
}
