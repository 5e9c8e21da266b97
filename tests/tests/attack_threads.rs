//! Wakers and homes across threads: what other threads do with a waker at the worst moment.

use std::future::poll_fn;
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use xiio::task_group;

/// Runs `f` on a thread of its own, and waits for it at most a minute.
fn on_thread<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || sender.send(f()).unwrap());
    let value = receiver.recv_timeout(Duration::from_secs(60)).expect("it hangs or has panicked");
    thread.join().unwrap();
    value
}

/// Wakers that are cloned at home and dropped elsewhere shift the count from one side to the other. 2³⁰ of them are an
/// afternoon of a busy server, so the sides have to be evened out.
#[test]
fn wakers_that_wander_one_way_never_overflow_a_count() {
    const N_ROUNDS: usize = 40;
    const N_WAKERS: usize = 100_000;
    on_thread(|| {
        let (sender, receiver) = mpsc::sync_channel::<Vec<Waker>>(4);
        let dropper = thread::spawn(move || receiver.into_iter().for_each(drop));
        xiio::run(async move {
            task_group!(|tg| {
                let sender = sender.clone();
                tg.spawn(async move {
                    let mut n_left = N_ROUNDS;
                    poll_fn(|cx| {
                        while n_left > 0 {
                            n_left -= 1;
                            sender.send(vec![cx.waker().clone(); N_WAKERS]).unwrap();
                        }
                        Poll::Ready(())
                    })
                    .await;
                });
            });
        });
        dropper.join().unwrap();
    });
}
