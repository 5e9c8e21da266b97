//! Wakers and homes across threads: what other threads do with a waker at the worst moment.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use xiio::{Promise, sleep, task_group};
use xiio_tests::poll::{self, OnDrop};

type Boxed = Pin<Box<dyn Future<Output = ()>>>;

/// A future that is pending at its first poll, and hands its waker out.
async fn hand_out(waker: &RefCell<Option<Waker>>) {
    let mut is_first = true;
    poll_fn(|cx| {
        *waker.borrow_mut() = Some(cx.waker().clone());
        if std::mem::take(&mut is_first) { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
}

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
