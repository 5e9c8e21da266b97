//! Signals that are received. Each test has a signal of its own: they belong to the whole process.

use std::io::{Read, Write, pipe};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use xiio::signal::{
    self, SIGABRT, SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGIO, SIGKILL, SIGPROF, SIGQUIT, SIGSTOP, SIGURG, SIGUSR1,
    SIGUSR2, SIGVTALRM, SIGWINCH, SIGXCPU, SIGXFSZ,
};
use xiio::{join, sleep, task_group, timeout};
use xiio_tests::os::{
    add_flags, becomes_readable, end_fork, ends_in_a_fork, errno_after_raise, fork, handler_of, has_ended_well,
    install_counter, n_handled, rerun, send, send_self, set_handler, state_of, wait_until,
};

const MOMENT: Duration = Duration::from_millis(20);

#[test]
fn signal_that_comes_while_waited_for_is_received() {
    let received = xiio::run(async {
        let mut signals = signal::subscribe(&[SIGUSR1])?;
        task_group!(|tg| {
            tg.spawn(async {
                sleep(MOMENT).await;
                send_self(SIGUSR1);
            });
            signals.recv().await
        })
    });
    assert_eq!(received.unwrap(), SIGUSR1);
}

#[test]
fn both_subscribers_receive_it() {
    xiio::run(async {
        let mut one = signal::subscribe(&[SIGUSR2, SIGALRM]).unwrap();
        let mut other = signal::subscribe(&[SIGUSR2]).unwrap();
        send_self(SIGUSR2);
        assert_eq!(one.recv().await.unwrap(), SIGUSR2);
        assert_eq!(other.recv().await.unwrap(), SIGUSR2);
        assert_eq!((one.try_recv(), other.try_recv()), (None, None));
    });
}

#[test]
fn subscriber_on_another_thread_receives_it_too() {
    let mut here = signal::subscribe(&[SIGIO]).unwrap();
    let mut there = signal::subscribe(&[SIGIO]).unwrap();
    let thread = std::thread::spawn(move || xiio::run(async { there.recv().await.unwrap() }));
    send_self(SIGIO);
    assert_eq!(thread.join().unwrap(), SIGIO);
    assert_eq!(xiio::run(here.recv()).unwrap(), SIGIO);
}

#[test]
fn signal_before_the_first_recv_is_not_lost() {
    let mut signals = signal::subscribe(&[SIGHUP]).unwrap();
    send_self(SIGHUP);
    assert_eq!(xiio::run(signals.recv()).unwrap(), SIGHUP);
}

#[test]
fn cancelled_recv_loses_nothing() {
    xiio::run(async {
        let mut signals = signal::subscribe(&[SIGPROF]).unwrap();
        assert!(timeout(MOMENT, signals.recv()).await.is_err());
        send_self(SIGPROF);
        drop(signals.recv());
        assert_eq!(signals.recv().await.unwrap(), SIGPROF);
    });
}

#[test]
fn signals_that_came_one_by_one_are_received_one_by_one() {
    let mut signals = signal::subscribe(&[SIGWINCH, SIGURG]).unwrap();
    let (low, high) = (SIGWINCH.min(SIGURG), SIGWINCH.max(SIGURG));
    // `send_self` returns after the handler, so that none is pending when the next is sent.
    [high, low, high].into_iter().for_each(raise_here);
    let mut received = Vec::new();
    while let Some(signal) = signals.try_recv() {
        received.push(signal);
    }
    assert_eq!(received, [low, high, high], "the lowest number first");
}

/// Raises a signal in this thread, which has handled it when this returns.
fn raise_here(signal: i32) {
    errno_after_raise(0, signal);
}

#[test]
fn real_time_signals_are_received_as_often_as_sent() {
    let signal = signal::real_time(3).unwrap();
    let mut signals = signal::subscribe(&[signal]).unwrap();
    (0..100).for_each(|_| send_self(signal));
    xiio::run(async {
        for _ in 0..100 {
            assert_eq!(signals.recv().await.unwrap(), signal);
        }
    });
    assert_eq!(signals.try_recv(), None);
}

#[test]
fn previous_handler_is_called_as_well_and_comes_back() {
    install_counter(SIGQUIT);
    let before = handler_of(SIGQUIT);
    let mut one = signal::subscribe(&[SIGQUIT]).unwrap();
    let other = signal::subscribe(&[SIGQUIT, SIGQUIT]).unwrap();
    raise_here(SIGQUIT);
    assert_eq!((one.try_recv(), n_handled()), (Some(SIGQUIT), 1));
    drop(one);
    assert_ne!(handler_of(SIGQUIT), before, "one subscription is left");
    drop(other);
    assert_eq!(handler_of(SIGQUIT), before);
    raise_here(SIGQUIT);
    assert_eq!(n_handled(), 2);
    // The handler leaves an `errno` of its own behind; under a subscription nobody sees it.
    assert_ne!(errno_after_raise(7, SIGQUIT), 7);
    let _again = signal::subscribe(&[SIGQUIT]).unwrap();
    assert_eq!(errno_after_raise(7, SIGQUIT), 7);
}

#[test]
fn previous_handler_still_hears_of_no_child_that_is_stopped() {
    let output = rerun("program_whose_handler_wants_to_hear_of_no_stop").output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
#[ignore = "a program for the test above, in which nothing else runs"]
fn program_whose_handler_wants_to_hear_of_no_stop() {
    install_counter(SIGCHLD);
    add_flags(SIGCHLD, libc::SA_NOCLDSTOP);
    let mut signals = signal::subscribe(&[SIGCHLD]).unwrap();
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    assert!(send(child.id(), SIGSTOP));
    wait_until("it is stopped", || state_of(child.id()) == Some('T'));
    assert!(send(child.id(), SIGKILL));
    child.wait().unwrap();
    wait_until("its end is heard of", || n_handled() > 0);
    assert_eq!((n_handled(), signals.try_recv(), signals.try_recv()), (1, Some(SIGCHLD), None));
}

#[test]
fn ignored_signal_is_ignored_again() {
    set_handler(SIGABRT, libc::SIG_IGN);
    let mut signals = signal::subscribe(&[SIGABRT]).unwrap();
    raise_here(SIGABRT);
    assert_eq!(signals.try_recv(), Some(SIGABRT));
    drop(signals);
    raise_here(SIGABRT);
    assert_eq!(handler_of(SIGABRT), libc::SIG_IGN);
}

#[test]
fn signal_that_is_ignored_after_a_subscription_is_received_by_the_next() {
    let mut first = signal::subscribe(&[SIGXCPU]).unwrap();
    raise_here(SIGXCPU);
    assert_eq!(first.try_recv(), Some(SIGXCPU));
    // Echoes may come now, and are swallowed.
    drop(first);
    set_handler(SIGXCPU, libc::SIG_IGN);
    let mut second = signal::subscribe(&[SIGXCPU]).unwrap();
    raise_here(SIGXCPU);
    assert_eq!(second.try_recv(), Some(SIGXCPU));
    drop(second);
    assert_eq!(handler_of(SIGXCPU), libc::SIG_IGN);
}

#[test]
fn signal_that_is_ignored_under_a_subscription_is_received_again_with_the_next() {
    let first = signal::subscribe(&[SIGXFSZ]).unwrap();
    set_handler(SIGXFSZ, libc::SIG_IGN);
    let mut second = signal::subscribe(&[SIGXFSZ]).unwrap();
    raise_here(SIGXFSZ);
    assert_eq!(second.try_recv(), Some(SIGXFSZ));
    drop(second);
    drop(first);
    assert_eq!(handler_of(SIGXFSZ), libc::SIG_IGN);
}

#[test]
fn handler_that_the_program_has_taken_away_is_not_called_any_more() {
    static N_CALLS: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn first(_signal: i32) {
        N_CALLS.fetch_add(1, Ordering::SeqCst);
    }
    extern "C" fn of_a_library(_signal: i32) {}
    set_handler(SIGVTALRM, first as *const () as usize);
    let subscription = signal::subscribe(&[SIGVTALRM]).unwrap();
    set_handler(SIGVTALRM, of_a_library as *const () as usize);
    drop(subscription);
    set_handler(SIGVTALRM, libc::SIG_DFL);
    drop(signal::subscribe(&[SIGVTALRM]).unwrap());
    assert_eq!(handler_of(SIGVTALRM), libc::SIG_DFL);
    let mut signals = signal::subscribe(&[SIGVTALRM]).unwrap();
    raise_here(SIGVTALRM);
    assert_eq!((signals.try_recv(), N_CALLS.load(Ordering::SeqCst)), (Some(SIGVTALRM), 0));
}

#[test]
fn handler_installed_over_a_subscription_stays() {
    extern "C" fn of_a_library(_signal: i32) {}
    let subscription = signal::subscribe(&[SIGCONT]).unwrap();
    let ours = handler_of(SIGCONT);
    set_handler(SIGCONT, of_a_library as *const () as usize);
    drop(subscription);
    assert_eq!(handler_of(SIGCONT), of_a_library as *const () as usize);
    let error = signal::subscribe(&[SIGCONT]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ResourceBusy);
    assert!(error.to_string().contains("SIGCONT"), "{error}");
    set_handler(SIGCONT, ours);
    drop(signal::subscribe(&[SIGCONT]).unwrap());
    assert_eq!(handler_of(SIGCONT), libc::SIG_DFL);
}

#[test]
fn what_cannot_be_caught_is_an_error_that_says_so() {
    let refused = |signals: &[i32]| signal::subscribe(signals).unwrap_err().to_string();
    assert_eq!(refused(&[signal::SIGKILL]), "cannot subscribe to SIGKILL: the kernel lets nobody catch it");
    assert_eq!(
        refused(&[signal::SIGTTOU, signal::SIGSTOP]),
        "cannot subscribe to SIGSTOP: the kernel lets nobody catch it"
    );
    assert_eq!(refused(&[0]), "cannot subscribe to signal 0: there is no such signal");
    assert_eq!(refused(&[4711]), "cannot subscribe to signal 4711: there is no such signal");
    // The C library keeps two for itself.
    assert!(refused(&[32]).starts_with("cannot subscribe to signal 32: "));
    assert_eq!(handler_of(signal::SIGTTOU), libc::SIG_DFL, "a refused subscription leaves nothing behind");
}

#[test]
fn subscription_without_signals_waits_for_ever() {
    let mut signals = signal::subscribe(&[]).unwrap();
    assert!(xiio::run(timeout(MOMENT, signals.recv())).is_err());
}

#[test]
fn process_that_is_forked_off_takes_no_wake_of_the_process_before() {
    let output = rerun("program_that_forks_with_a_subscription").output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
#[ignore = "a program for the test above, in which nothing else runs"]
fn program_that_forks_with_a_subscription() {
    let mut signals = signal::subscribe(&[SIGUSR1]).unwrap();
    let ((mut asked, mut asks), (mut answered, mut answers)) = (pipe().unwrap(), pipe().unwrap());
    let Some(pid) = fork() else {
        let takes_nothing = || {
            asked.read_exact(&mut [0]).unwrap();
            assert_eq!(signals.try_recv(), None);
            answers.write_all(b"!").unwrap();
        };
        end_fork(catch_unwind(AssertUnwindSafe(takes_nothing)).is_ok())
    };
    // The signal comes while it is waited for, and the other process looks for one before this one can.
    let received = xiio::run(timeout(Duration::from_secs(10), async {
        let come = async {
            raise_here(SIGUSR1);
            asks.write_all(b"!").unwrap();
            answered.read_exact(&mut [0]).unwrap();
        };
        join!(signals.recv(), come).0
    }));
    assert_eq!(received.unwrap().unwrap(), SIGUSR1);
    assert!(has_ended_well(pid));
}

#[test]
fn process_that_is_forked_off_receives_what_comes_to_it() {
    let output = rerun("program_that_forks_and_receives").output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
#[ignore = "a program for the test above, in which nothing else runs"]
fn program_that_forks_and_receives() {
    let mut signals = signal::subscribe(&[SIGUSR1, SIGUSR2]).unwrap();
    let ((mut asked, mut asks), (mut answered, mut answers)) = (pipe().unwrap(), pipe().unwrap());
    let Some(pid) = fork() else {
        let receives = || {
            // The process before looks for a signal when one has come here.
            raise_here(SIGUSR1);
            asks.write_all(b"!").unwrap();
            answered.read_exact(&mut [0]).unwrap();
            assert!(becomes_readable(&signals));
            assert_eq!(signals.try_recv(), Some(SIGUSR1));
            let (signal, ()) = xiio::run(async { join!(signals.recv(), async { raise_here(SIGUSR2) }) });
            assert_eq!(signal.unwrap(), SIGUSR2);
        };
        end_fork(catch_unwind(AssertUnwindSafe(receives)).is_ok())
    };
    asked.read_exact(&mut [0]).unwrap();
    assert_eq!(signals.try_recv(), None);
    answers.write_all(b"!").unwrap();
    assert!(has_ended_well(pid));
    assert_eq!(signals.try_recv(), None, "it was sent to the other process");
}

#[test]
fn process_that_is_forked_off_while_another_thread_handles_a_signal_ends_its_subscriptions() {
    let output = rerun("program_that_forks_beside_signals").output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
#[ignore = "a program for the test above, in which nothing else runs"]
fn program_that_forks_beside_signals() {
    /// The more there are, the longer the handler takes: it is at work nearly always.
    const N_LISTENERS: usize = 200;
    const N_FORKS: usize = 10;

    let mut listeners: Vec<_> = (0..N_LISTENERS).map(|_| signal::subscribe(&[SIGUSR1]).unwrap()).collect();
    let is_over = AtomicBool::new(false);
    let all_end = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                send_self(SIGUSR1);
            }
        });
        xiio::run(listeners[0].recv()).unwrap();
        // In such a process this works as usual: no other thread of it can be inside of the handler.
        let all_end = (0..N_FORKS).all(|_| ends_in_a_fork(|| drop(signal::subscribe(&[SIGUSR1]).unwrap())));
        is_over.store(true, Ordering::SeqCst);
        all_end
    });
    assert!(all_end);
}
