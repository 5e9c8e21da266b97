//! What is cancelled while it waits for its turn is not kept until then. Alone in its process, as it looks at the memory of
//! the whole.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::mpsc;
use std::task::Poll;

use xiio::task_group;
use xiio::thread::ThreadPool;
use xiio_tests::os::resident_kilobytes;
use xiio_tests::run;

const N_ROUNDS: u32 = 100_000;

async fn assert_flat(mut round: impl AsyncFnMut([u32; 100])) {
    round([0; 100]).await;
    let before = resident_kilobytes();
    for n in 0..N_ROUNDS {
        round([n; 100]).await;
    }
    let grown = resident_kilobytes().saturating_sub(before);
    // Kept, they would be more than 40 MB.
    assert!(grown < 4_000, "grew by {grown} kB");
}

async fn cancel_what_waits_for_a_place() {
    task_group!(limit = 1, |tg| {
        tg.spawn(pending::<()>());
        let in_front = tg.spawn(pending::<()>());
        assert_flat(async |large| {
            let late = tg.spawn(async move {
                pending::<()>().await;
                large
            });
            assert!(late.cancel().await.is_none());
        })
        .await;
        assert!(!in_front.is_finished());
        tg.cancel();
    });
}

async fn drop_what_waits_for_a_thread() {
    let pool = ThreadPool::new(1);
    let (release, held) = mpsc::channel::<()>();
    let mut has_thread = pin!(pool.run(move || held.recv().is_ok()));
    let mut in_front = pin!(pool.run(|| 6));
    poll_fn(|cx| {
        assert!(has_thread.as_mut().poll(cx).is_pending());
        assert!(in_front.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    assert_flat(async |large| {
        let mut late = pin!(pool.run(move || large));
        poll_fn(|cx| Poll::Ready(late.as_mut().poll(cx).is_pending())).await;
    })
    .await;
    release.send(()).unwrap();
    assert!(has_thread.await);
    assert_eq!(in_front.await, 6);
}

#[test]
fn what_is_cancelled_while_it_waits_in_a_queue_leaves_memory_flat() {
    run(async {
        cancel_what_waits_for_a_place().await;
        drop_what_waits_for_a_thread().await;
    });
}
