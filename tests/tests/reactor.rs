//! The reactor with any poller. What is ready and what nobody waits for costs nothing: the thread sleeps on. A poller that
//! is asked anew for each event, as that of `poll(2)`, may tell of it again and again.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use xiio::io::{Async, Read, Write};
use xiio::{join, sleep, timeout};
use xiio_tests::os::thread_time;
use xiio_tests::{millis, poll, poll_once};

/// One that does not sleep uses all of it, or what other programs leave of it.
const NAP: Duration = Duration::from_millis(400);
const NEXT_TO_NOTHING: Duration = Duration::from_millis(20);

async fn assert_sleeps() {
    let before = thread_time();
    sleep(NAP).await;
    let used = thread_time() - before;
    assert!(used < NEXT_TO_NOTHING, "{used:?} of the processor in a sleep of {NAP:?}");
}

fn pair() -> (Async<UnixStream>, Async<UnixStream>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Async::new(ours).unwrap(), Async::new(theirs).unwrap())
}

/// A stream whose reader has waited, and does not any more; and its other end.
async fn without_its_reader() -> (Async<UnixStream>, Async<UnixStream>) {
    let (mut ours, theirs) = pair();
    assert!(timeout(millis(1), ours.read(&mut [0])).await.is_err());
    (ours, theirs)
}

#[test]
fn an_end_that_nobody_reads_wakes_nobody() {
    xiio::run(async {
        let (mut ours, theirs) = without_its_reader().await;
        drop(theirs);
        assert_sleeps().await;
        assert_eq!(ours.read(&mut [0]).await.unwrap(), 0);
    });
}

#[test]
fn data_that_nobody_reads_wakes_nobody() {
    xiio::run(async {
        let (mut ours, mut theirs) = without_its_reader().await;
        theirs.write_all(b"x").await.unwrap();
        assert_sleeps().await;
        assert_eq!(ours.read(&mut [0; 8]).await.unwrap(), 1);
    });
}

#[test]
fn data_that_nobody_reads_does_not_wake_who_waits_for_room() {
    xiio::run(async {
        let (mut ours, mut theirs) = without_its_reader().await;
        theirs.write_all(b"x").await.unwrap();
        let writes = async { while ours.write(&[0; 4096]).await.is_ok() {} };
        join!(writes, async {
            sleep(millis(10)).await;
            assert_sleeps().await;
            // The wait for room ends with an error.
            drop(theirs);
        });
    });
}

#[test]
fn a_reader_is_told_of_the_end_after_data_that_came_before_it_waited() {
    xiio::run(async {
        let (mut ours, mut theirs) = without_its_reader().await;
        theirs.write_all(b"x").await.unwrap();
        sleep(millis(1)).await;
        assert_eq!(ours.read(&mut [0; 8]).await.unwrap(), 1);
        join!(async { assert_eq!(ours.read(&mut [0; 8]).await.unwrap(), 0) }, async {
            sleep(millis(1)).await;
            drop(theirs);
        });
    });
}

#[test]
fn a_descriptor_that_is_closed_under_a_leaked_wait_wakes_nobody() {
    xiio::run(async {
        // The other tests of this process take lower numbers than the one that is closed.
        let lower = Vec::from_iter((0..16).map(|_| pair()));
        let (reader, _writer) = std::io::pipe().unwrap();
        drop(lower);
        let mut wait = Box::pin(xiio::readable(&reader));
        assert!(poll_once(wait.as_mut()).await.is_pending());
        poll::leak(wait);
        drop(reader);
        assert_sleeps().await;
    });
}

#[cfg(polling_test_poll_backend)]
#[test]
fn a_tree_that_no_loop_can_watch_is_refused() {
    let error = xiio::compat::Embed::new(async {}).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    assert!(error.to_string().contains("use `xiio::run`"), "{error}");
}
