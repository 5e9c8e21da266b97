//! Wakers that other threads hold: while their task lives, after its end, after the end of the runtime.

use std::cell::Cell;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use xiio::{sleep, task_group};

const N_WAKES: u64 = 1_000_000;
const LONG: Duration = Duration::from_secs(60);

/// Gives its waker away at each poll, and is pending until `is_over`.
async fn wait_for(is_over: &AtomicBool, wakers: &mpsc::Sender<Waker>, n_polls: &Cell<u64>) {
    poll_fn(|cx| {
        n_polls.set(n_polls.get() + 1);
        if is_over.load(SeqCst) {
            return Poll::Ready(());
        }
        let _ = wakers.send(cx.waker().clone());
        Poll::Pending
    })
    .await;
}

#[test]
fn a_waker_is_woken_a_million_times_during_and_after_its_task_and_its_runtime() {
    let (wakers, receiver) = mpsc::channel::<Waker>();
    let (is_over, has_ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let n_woken = Arc::new(AtomicU64::new(0));
    let waking = {
        let (is_over, has_ended, n_woken) = (Arc::clone(&is_over), Arc::clone(&has_ended), Arc::clone(&n_woken));
        thread::spawn(move || {
            let waker = receiver.recv_timeout(LONG).unwrap();
            for n in 1..=N_WAKES {
                waker.wake_by_ref();
                drop(waker.clone());
                n_woken.store(n, SeqCst);
                if n == N_WAKES / 4 {
                    is_over.store(true, SeqCst);
                    waker.wake_by_ref();
                }
                if n == N_WAKES / 2 {
                    // The second half begins when the runtime has ended.
                    while !has_ended.load(SeqCst) {
                        thread::yield_now();
                    }
                }
            }
            drop(waker);
        })
    };
    let n_polls = Cell::new(0);
    xiio::run(async {
        task_group!(|tg| {
            tg.spawn(wait_for(&is_over, &wakers, &n_polls));
        });
        // Its task has ended; the runtime lives on while it is woken.
        let start = Instant::now();
        while n_woken.load(SeqCst) < N_WAKES / 2 {
            assert!(start.elapsed() < LONG);
            sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(n_polls.get() >= 2, "it was never woken");
    has_ended.store(true, SeqCst);
    // The thread runs the next runtime at the same time; nothing of the first one reaches it.
    for _ in 0..100 {
        assert_eq!(xiio::run(async { 7 }), 7);
    }
    waking.join().unwrap();
}

#[test]
fn every_wake_of_a_sleeping_runtime_is_heard() {
    // A ball between two threads: one wake that is lost, and both wait for ever.
    let (to_thread, from_task) = mpsc::channel::<Waker>();
    let n_returns = Arc::new(AtomicU64::new(0));
    let thread = {
        let n_returns = Arc::clone(&n_returns);
        thread::spawn(move || {
            for waker in from_task {
                n_returns.fetch_add(1, SeqCst);
                waker.wake();
            }
        })
    };
    xiio::run(async {
        for round in 1..=20_000 {
            let mut is_sent = false;
            poll_fn(|cx| {
                if n_returns.load(SeqCst) == round {
                    return Poll::Ready(());
                }
                if !std::mem::replace(&mut is_sent, true) {
                    to_thread.send(cx.waker().clone()).unwrap();
                }
                Poll::Pending
            })
            .await;
        }
    });
    drop(to_thread);
    thread.join().unwrap();
}

#[test]
fn wakes_of_many_threads_all_arrive() {
    const N_TASKS: usize = 64;
    let (sender, receiver) = mpsc::channel::<(Waker, Arc<AtomicBool>)>();
    let receiver = Arc::new(std::sync::Mutex::new(receiver));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let receiver = Arc::clone(&receiver);
            thread::spawn(move || {
                loop {
                    let Ok((waker, flag)) = receiver.lock().unwrap().recv() else { return };
                    flag.store(true, SeqCst);
                    waker.wake();
                }
            })
        })
        .collect();
    xiio::run(async {
        task_group!(|tg| {
            for _ in 0..N_TASKS {
                let sender = &sender;
                tg.spawn(async move {
                    for _ in 0..200 {
                        let flag = Arc::new(AtomicBool::new(false));
                        let mut is_sent = false;
                        poll_fn(|cx| {
                            if flag.load(SeqCst) {
                                return Poll::Ready(());
                            }
                            if !std::mem::replace(&mut is_sent, true) {
                                sender.send((cx.waker().clone(), Arc::clone(&flag))).unwrap();
                            }
                            Poll::Pending
                        })
                        .await;
                    }
                });
            }
        });
    });
    drop(sender);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}
