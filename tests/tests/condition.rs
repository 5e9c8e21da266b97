//! Conditions: any of several descriptors, promises and a deadline.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use xiio::signal::{self, SIGUSR1, SIGUSR2, Signals};
use xiio::{Condition, Promise, Ready, task_group, timeout};
use xiio_tests::os::closed_fd;
use xiio_tests::os::send_self;
use xiio_tests::{LONG, assert_cancels_cleanly, assert_panics, millis, rounds, run, takes};

fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

/// A stream whose buffer is full, and its other end.
fn full_pair() -> (UnixStream, UnixStream) {
    let (mut a, b) = pair();
    a.set_nonblocking(true).unwrap();
    while a.write(&[0; 4096]).is_ok() {}
    (a, b)
}

#[test]
fn descriptors_of_a_loop_are_borrowed_or_kept() {
    let (a, mut b) = pair();
    b.write_all(b"x").unwrap();
    let mut condition = Condition::new();
    for fd in [a.as_fd(), b.as_fd()] {
        condition = condition.readable(fd);
    }
    let kept = a.try_clone().unwrap();
    let numbers = [a.as_raw_fd(), kept.as_raw_fd()];
    let ready = run(condition.readable(kept).writable(&a).wait()).unwrap();
    assert_eq!((ready.readable(), ready.writable()), (&numbers[..], &numbers[..1]));
}

#[test]
fn signals_are_readable_as_long_as_one_waits() {
    let mut signals = signal::subscribe(&[SIGUSR1, SIGUSR2]).unwrap();
    send_self(SIGUSR1);
    send_self(SIGUSR2);
    let is_readable = |signals: &Signals| Condition::new().readable(signals).is_fulfilled().unwrap();
    assert!(is_readable(&signals));
    assert_eq!(signals.try_recv(), Some(SIGUSR1));
    assert!(is_readable(&signals));
    assert_eq!(signals.try_recv(), Some(SIGUSR2));
    assert!(!is_readable(&signals));
}

#[test]
fn an_empty_condition_is_never_fulfilled() {
    assert!(!Condition::new().is_fulfilled().unwrap());
    run(async { assert!(timeout(millis(5), Condition::new().wait()).await.is_err()) });
}

#[test]
fn a_descriptor_fulfils_it_when_it_is_ready_in_that_direction() {
    let (a, mut b) = pair();
    let readable = Condition::new().readable(&a);
    assert!(!readable.is_fulfilled().unwrap());
    b.write_all(b"x").unwrap();
    assert!(readable.is_fulfilled().unwrap());
    let ready = run(readable.wait()).unwrap();
    assert_eq!((ready.readable(), ready.writable()), (&[a.as_raw_fd()][..], &[][..]));
}

#[test]
fn a_descriptor_ready_in_the_other_direction_does_not() {
    let (a, _b) = pair();
    assert!(!Condition::new().readable(&a).is_fulfilled().unwrap(), "writable is not readable");
    assert!(Condition::new().writable(&a).is_fulfilled().unwrap());
    let (full, mut other) = full_pair();
    other.write_all(b"x").unwrap();
    assert!(!Condition::new().writable(&full).is_fulfilled().unwrap(), "readable is not writable");
    run(async { assert!(timeout(millis(5), Condition::new().writable(&full).wait()).await.is_err()) });
}

#[test]
fn a_pending_promise_does_not_fulfil_it_one_with_a_value_or_an_error_does() {
    let promise: Promise<Result<i32, &str>> = Promise::new();
    let condition = Condition::new().promise(&promise);
    assert!(!condition.is_fulfilled().unwrap());
    promise.set_err("error").unwrap();
    assert!(condition.is_fulfilled().unwrap());
    let with_value: Promise<Result<i32, &str>> = Promise::new();
    with_value.set_ok(7).unwrap();
    assert!(run(Condition::new().promise(&with_value).wait()).unwrap().is_promise_set());
}

#[test]
fn a_deadline_fulfils_it_when_it_is_over() {
    assert!(!Condition::new().timeout(LONG).is_fulfilled().unwrap());
    assert!(Condition::new().deadline(Instant::now()).is_fulfilled().unwrap());
    let ready = takes(millis(5), || run(Condition::new().timeout(millis(5)).wait())).unwrap();
    assert!(ready.is_elapsed());
    assert!(!ready.is_promise_set() && ready.readable().is_empty() && ready.writable().is_empty());
}

#[test]
fn a_deadline_in_the_past_fulfils_it_at_the_first_poll() {
    run(async {
        let past = Condition::new().deadline(Instant::now());
        assert!(futures::poll!(std::pin::pin!(past.wait())).is_ready());
    });
}

#[test]
fn a_timeout_beyond_the_clock_is_no_deadline() {
    assert!(!Condition::new().timeout(Duration::MAX).is_fulfilled().unwrap());
}

#[test]
fn combine_takes_the_earlier_deadline() {
    let now = Instant::now();
    let early = || Condition::new().deadline(now);
    let late = || Condition::new().deadline(now + LONG);
    assert!(early().combine(late()).is_fulfilled().unwrap());
    assert!(late().combine(early()).is_fulfilled().unwrap());
    assert!(early().combine(Condition::new()).is_fulfilled().unwrap());
    assert!(Condition::new().combine(early()).is_fulfilled().unwrap());
    assert!(!late().combine(late()).is_fulfilled().unwrap());
}

#[test]
fn combine_unites_promises() {
    for set in 0..2 {
        let promises = [Promise::new(), Promise::new()];
        let combined = Condition::new().promise(&promises[0]).combine(Condition::new().promise(&promises[1]));
        assert!(!combined.is_fulfilled().unwrap());
        promises[set].set(()).unwrap();
        assert!(combined.is_fulfilled().unwrap());
    }
}

#[test]
fn combine_unites_the_directions_of_one_descriptor() {
    let (full, mut other) = full_pair();
    let combined = || Condition::new().readable(&full).combine(Condition::new().writable(&full));
    assert!(!combined().is_fulfilled().unwrap());
    other.write_all(b"x").unwrap();
    let ready = run(combined().wait()).unwrap();
    assert_eq!((ready.readable(), ready.writable()), (&[full.as_raw_fd()][..], &[][..]));
    while other.read(&mut [0; 65536]).unwrap() == 65536 {}
    let ready = run(combined().wait()).unwrap();
    assert_eq!(ready.writable(), [full.as_raw_fd()]);
}

#[test]
fn combine_unites_descriptors() {
    let (a, mut a_other) = pair();
    let (b, mut b_other) = pair();
    let combined = Condition::new().readable(&a).combine(Condition::new().readable(&b));
    b_other.write_all(b"x").unwrap();
    assert_eq!(run(combined.wait()).unwrap().readable(), [b.as_raw_fd()]);
    a_other.write_all(b"x").unwrap();
    let mut both = [a.as_raw_fd(), b.as_raw_fd()];
    both.sort_unstable();
    assert_eq!(run(combined.wait()).unwrap().readable(), both);
}

#[test]
fn a_waiting_condition_is_woken_by_each_of_its_parts() {
    let (a, mut b) = pair();
    run(async {
        // By a descriptor.
        task_group!(|tg| {
            let promise = Promise::<()>::new();
            let condition = Condition::new().readable(&a).promise(&promise).timeout(LONG);
            tg.spawn(async {
                rounds(3).await;
                xiio::sleep(millis(2)).await;
                b.write_all(b"x").unwrap();
            });
            let ready = condition.wait().await.unwrap();
            assert_eq!((ready.readable().len(), ready.is_promise_set(), ready.is_elapsed()), (1, false, false));
        });
        (&a).read_exact(&mut [0; 1]).unwrap();
        // By a promise.
        let promise = Promise::new();
        task_group!(|tg| {
            tg.spawn(async {
                rounds(3).await;
                promise.set(()).unwrap();
            });
            let ready = Condition::new().readable(&a).promise(&promise).timeout(LONG).wait().await.unwrap();
            assert_eq!((ready.readable().len(), ready.is_promise_set(), ready.is_elapsed()), (0, true, false));
        });
        // By its deadline.
        let promise = Promise::<()>::new();
        let ready = Condition::new().readable(&a).promise(&promise).timeout(millis(3)).wait().await.unwrap();
        assert_eq!((ready.readable().len(), ready.is_promise_set(), ready.is_elapsed()), (0, false, true));
    });
}

#[test]
fn a_condition_is_awaited_again_and_again() {
    let (a, mut b) = pair();
    run(async {
        let condition = Condition::new().readable(&a);
        for _ in 0..3 {
            assert!(timeout(millis(1), condition.wait()).await.is_err());
            b.write_all(b"x").unwrap();
            condition.wait().await.unwrap();
            (&a).read_exact(&mut [0; 1]).unwrap();
        }
    });
}

#[test]
fn a_closed_descriptor_is_an_error_with_its_number() {
    let fd = closed_fd();
    let condition = Condition::new().readable(fd).timeout(LONG);
    assert!(condition.is_fulfilled().unwrap_err().raw_os_error() == Some(libc::EBADF));
    assert!(run(condition.wait()).unwrap_err().raw_os_error() == Some(libc::EBADF));
}

#[test]
fn a_condition_cancels_cleanly() {
    let (a, _b) = pair();
    let promise = Promise::<()>::new();
    assert_cancels_cleanly(|| async { Condition::new().readable(&a).promise(&promise).timeout(LONG).wait().await });
}

#[test]
fn a_condition_polled_outside_of_run_panics_and_names_run() {
    assert_panics(&["outside of a xiio runtime", "`xiio::run`"], || {
        futures::executor::block_on(Condition::new().timeout(LONG).wait())
    });
}

#[test]
fn a_condition_says_what_it_waits_for() {
    let (a, _b) = pair();
    let promise = Promise::<()>::new();
    let text = format!("{:?}", Condition::new().readable(&a).promise(&promise));
    assert!(text.contains(&a.as_raw_fd().to_string()) && text.contains("n_promises: 1"), "{text}");
}

#[test]
fn what_has_come_true_is_told_where_others_take_from_the_same_pipe() {
    let (reader, writer) = std::io::pipe().unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(SeqCst) {
                (&writer).write_all(b"a").unwrap();
                (&reader).read_exact(&mut [0]).unwrap();
            }
        });
        let n_empty = run(async {
            let condition = Condition::new().readable(&reader);
            let mut n_empty = 0;
            for _ in 0..10_000 {
                n_empty += usize::from(condition.wait().await.unwrap() == Ready::default());
            }
            n_empty
        });
        is_over.store(true, SeqCst);
        assert_eq!(n_empty, 0);
    });
}
