//! Signals against subscriptions that come and go, alone in its process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use xiio::signal::{self, SIGUSR1};
use xiio_tests::os::{handler_of, install_counter, n_fds, n_handled, send_self};

#[test]
fn every_signal_is_received_or_handled_by_the_restored_disposition() {
    // The handler below counts all of them, subscribed or not: it comes first or is called afterwards.
    install_counter(SIGUSR1);
    let (handler, n_fds_before) = (handler_of(SIGUSR1), n_fds());
    let is_over = AtomicBool::new(false);
    let n_sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut n_sent = 0;
            while !is_over.load(Ordering::SeqCst) {
                send_self(SIGUSR1);
                n_sent += 1;
                // The kernel keeps one pending signal of a kind, so the next is sent when this one was handled.
                while n_handled() < n_sent {
                    std::thread::yield_now();
                }
            }
            n_sent
        });
        let subscribers = [(); 2].map(|()| scope.spawn(subscribe_again_and_again));
        let n_received = subscribers.map(|thread| thread.join().unwrap());
        is_over.store(true, Ordering::SeqCst);
        assert!(n_received.iter().all(|&n_received| n_received > 0), "{n_received:?}");
        sender.join().unwrap()
    });
    assert_eq!(n_handled(), n_sent);
    assert_eq!(handler_of(SIGUSR1), handler);
    assert_eq!(n_fds(), n_fds_before);
}

fn subscribe_again_and_again() -> usize {
    let end = Instant::now() + Duration::from_millis(500);
    let mut n_received = 0;
    while Instant::now() < end || n_received == 0 {
        let mut signals = signal::subscribe(&[SIGUSR1]).unwrap();
        n_received +=
            xiio::run(async { xiio::timeout(Duration::from_millis(1), signals.recv()).await.into_iter().count() });
    }
    n_received
}
