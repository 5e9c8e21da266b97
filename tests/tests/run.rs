//! `run`, and time as its tasks see it.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::io;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::{Arc, Mutex, Once, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use xiio::inspect::ReportKind;
use xiio::io::duplex;
use xiio::process::Command;
use xiio::testing::Tester;
use xiio::thread::ThreadPool;
use xiio::{
    Interval, MissedTicks, Sleep, in_thread, interval, interval_at, now, run_in_thread, sleep, sleep_until, task_group,
    try_task_group, yield_now,
};
use xiio_tests::os::{children, ends_in_a_fork, rerun, wait_until};
use xiio_tests::{
    LONG, PollBomb, Reports, Trace, assert_cancels_cleanly, assert_panics, millis, panic_text, run, run_virtually,
    takes,
};

#[test]
fn run_gives_the_value_of_its_future() {
    assert_eq!(run(async { 7 }), 7);
}

#[test]
fn run_takes_futures_that_borrow_and_values_that_borrow() {
    let word = String::from("borrowed");
    let part: &str = run(async { &word[..3] });
    assert_eq!(part, "bor");
}

#[test]
fn run_takes_what_can_be_made_a_future() {
    assert_eq!(xiio::run(std::future::ready(7)), 7);
}

#[test]
fn runs_follow_each_other_on_one_thread() {
    for n in 0..100 {
        assert_eq!(run(async move { rounds_of_sleep(n).await }), n);
    }
}

async fn rounds_of_sleep(n: u32) -> u32 {
    sleep(Duration::ZERO).await;
    yield_now().await;
    n
}

#[test]
fn runs_go_side_by_side_on_several_threads() {
    let threads: Vec<_> = (0..4).map(|n| std::thread::spawn(move || run(rounds_of_sleep(n)))).collect();
    let values: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(values, [0, 1, 2, 3]);
}

#[test]
fn run_inside_run_panics_with_the_remedy() {
    assert_panics(&["`xiio::run` inside a running xiio runtime", "await the future instead", "thread"], || {
        run(async { xiio::run(async {}) });
    });
}

xiio::local!(static NOWHERE: u32);

#[test]
fn a_panic_about_a_wrong_call_names_the_line_of_the_call() {
    let workers = || {
        run(async { task_group!(|tg| _ = tg.workers()) });
    };
    let workers_of_a_try_group = || {
        let _: Result<(), ()> = run(async { try_task_group!(error = _, |tg| _ = tg.workers()) });
    };
    let calls: [(&str, &dyn Fn()); 12] = [
        ("run", &|| run(async { xiio::run(async {}) })),
        ("Builder::run", &|| run(async { xiio::Builder::new().name("inner").run(async {}) })),
        ("Tester::run", &|| Tester::new().seeds(0..0).run(|| async {})),
        ("interval", &|| drop(interval(Duration::ZERO))),
        ("interval_at", &|| drop(interval_at(now(), Duration::ZERO))),
        ("workers", &workers),
        ("workers of a try group", &workers_of_a_try_group),
        ("limit", &|| run(async { task_group!(limit = 0, |_tg| ()) })),
        ("ThreadPool", &|| drop(ThreadPool::new(0))),
        ("duplex", &|| drop(duplex(0))),
        ("LocalKey::with", &|| NOWHERE.with(|_| ())),
        ("LocalKey::get", &|| _ = NOWHERE.get()),
    ];
    for (call, code) in calls {
        assert_eq!(panic_file(code), file!(), "{call}");
    }
}

/// The file that the panic of `code` names.
fn panic_file(code: &dyn Fn()) -> String {
    thread_local!(static FILE: RefCell<String> = const { RefCell::new(String::new()) });
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            FILE.set(info.location().expect("a panic has a place").file().to_owned());
            usual(info);
        }));
    });
    panic_text(code);
    FILE.take()
}

#[test]
fn run_inside_run_harms_the_outer_one_not() {
    let value = run(async {
        let inner = catch_unwind(|| xiio::run(async {}));
        assert!(inner.is_err());
        sleep(millis(1)).await;
        7
    });
    assert_eq!(value, 7);
}

#[test]
fn a_panic_leaves_run_with_its_payload() {
    let payload = catch_unwind(|| run(async { std::panic::panic_any(7_u8) })).unwrap_err();
    assert_eq!(payload.downcast_ref::<u8>(), Some(&7));
}

#[test]
fn run_works_after_a_run_that_panicked() {
    let _ = catch_unwind(|| {
        run(async {
            sleep(millis(1)).await;
            panic!("expected");
        })
    });
    assert_eq!(run(rounds_of_sleep(7)), 7);
}

#[test]
fn a_root_that_panics_is_dropped_outside_of_its_panic() {
    let reports = Reports::new();
    assert_panics(&["in the poll"], || run(PollBomb));
    reports.assert_one(ReportKind::LaterFailure, &["a destructor panicked: in the destructor"]);
}

#[test]
fn destructors_of_the_root_still_find_the_runtime() {
    struct Asks<'a>(&'a Cell<bool>);
    impl Drop for Asks<'_> {
        fn drop(&mut self) {
            // Arms a timer and takes it back, which needs the runtime.
            let mut sleep = Box::pin(sleep(LONG));
            let polled = sleep.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            self.0.set(polled.is_pending());
        }
    }
    let worked = Cell::new(false);
    let ended = catch_unwind(AssertUnwindSafe(|| {
        run(async {
            let _asks = Asks(&worked);
            panic!("expected");
        })
    }));
    assert!(ended.is_err() && worked.get());
}

#[test]
fn a_sleep_polled_outside_of_run_panics_and_names_run() {
    assert_panics(&["outside of a xiio runtime", "`xiio::run`"], || futures::executor::block_on(sleep(millis(1))));
}

#[test]
fn a_group_polled_outside_of_run_panics_and_names_run() {
    let group = async {
        task_group!(|tg| {
            tg.spawn(async {});
        });
    };
    assert_panics(&["outside of a xiio runtime", "`xiio::run`"], || futures::executor::block_on(group));
}

#[test]
fn a_timeout_polled_outside_of_run_panics_and_names_run() {
    let limited = xiio::timeout(LONG, pending::<()>());
    assert_panics(&["outside of a xiio runtime", "`xiio::run`"], || futures::executor::block_on(limited));
}

#[test]
fn readiness_polled_outside_of_run_panics_and_names_run() {
    let (quiet, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    assert_panics(&["outside of a xiio runtime", "`xiio::run`"], || {
        futures::executor::block_on(xiio::readable(&quiet))
    });
}

#[test]
fn sleep_takes_its_time() {
    takes(millis(50), || run(sleep(millis(50))));
}

#[test]
fn sleepers_end_in_the_order_of_their_deadlines() {
    let trace = Trace::new();
    run(async {
        task_group!(|tg| {
            for ms in [30, 10, 20] {
                let trace = &trace;
                tg.spawn(async move {
                    sleep(millis(ms)).await;
                    trace.note(ms.to_string());
                });
            }
        });
    });
    trace.assert(&["10", "20", "30"]);
}

#[test]
fn sleepers_of_one_deadline_end_in_the_order_of_their_first_poll() {
    let trace = Trace::new();
    run(async {
        let deadline = now() + millis(10);
        task_group!(|tg| {
            for name in ["a", "b", "c"] {
                let trace = &trace;
                tg.spawn(async move {
                    sleep_until(deadline).await;
                    trace.note(name);
                });
            }
        });
    });
    trace.assert(&["a", "b", "c"]);
}

#[test]
fn a_sleep_of_zero_or_into_the_past_ends_at_its_first_poll() {
    run(async {
        let mut zero = std::pin::pin!(sleep(Duration::ZERO));
        assert!(futures::poll!(zero.as_mut()).is_ready());
        // Nobody but the test has looked at the clock.
        let mut past = std::pin::pin!(sleep_until(Instant::now()));
        assert!(futures::poll!(past.as_mut()).is_ready());
        let mut ticks = interval_at(Instant::now(), LONG);
        assert!(futures::poll!(std::pin::pin!(ticks.tick())).is_ready());
        ticks.reset_at(Instant::now());
        assert!(futures::poll!(std::pin::pin!(ticks.tick())).is_ready());
        for is_polled in [false, true] {
            let mut reset = sleep(LONG);
            if is_polled {
                assert!(futures::poll!(&mut reset).is_pending());
            }
            reset.reset(Instant::now());
            assert!(futures::poll!(&mut reset).is_ready(), "polled before: {is_polled}");
        }
    });
}

/// Awaits a sleep that others may reset meanwhile.
async fn shared(sleep: &Mutex<Sleep>) {
    poll_fn(|cx| Pin::new(&mut *sleep.lock().unwrap()).poll(cx)).await;
}

#[test]
fn a_sleep_that_another_task_resets_wakes_who_waits_for_it() {
    run_virtually(async {
        for (first, then) in [(50, 50), (50, 2), (LONG.as_millis() as u64, 1), (10, 1000)] {
            let start = now();
            let idle = Mutex::new(sleep(millis(first)));
            task_group!(|tg| {
                tg.spawn(shared(&idle));
                sleep(millis(5)).await;
                idle.lock().unwrap().reset(now() + millis(then));
            });
            assert_eq!(now() - start, millis(5 + then));
        }
    });
}

#[test]
fn what_never_ends_and_is_reset_wakes_who_waits_for_it() {
    run_virtually(async {
        let start = now();
        let idle = Mutex::new(sleep(Duration::MAX));
        task_group!(|tg| {
            tg.spawn(shared(&idle));
            sleep(millis(5)).await;
            idle.lock().unwrap().reset(start + millis(20));
        });
        assert_eq!(now(), start + millis(20));
    });
    let endless_from_now_on = || {
        let mut ticks = interval_at(now(), Duration::MAX);
        ticks.reset();
        ticks
    };
    let makers: [&dyn Fn() -> Interval; 2] = [&|| interval(Duration::MAX), &endless_from_now_on];
    for make in makers {
        run_virtually(async {
            let (start, ticks) = (now(), Mutex::new(make()));
            task_group!(|tg| {
                tg.spawn(poll_fn(|cx| ticks.lock().unwrap().poll_tick(cx)));
                for _ in 0..2 {
                    sleep(millis(5)).await;
                    ticks.lock().unwrap().reset();
                }
                ticks.lock().unwrap().reset_at(start + millis(20));
            });
            assert_eq!(now(), start + millis(20));
        });
    }
    run_virtually(async {
        let (start, mut ticks) = (now(), interval_at(now(), Duration::MAX));
        assert_eq!(ticks.tick().await, start);
        let ticks = Mutex::new(ticks);
        task_group!(|tg| {
            tg.spawn(poll_fn(|cx| ticks.lock().unwrap().poll_tick(cx)));
            sleep(millis(5)).await;
            ticks.lock().unwrap().reset_at(start + millis(20));
        });
        assert_eq!(now(), start + millis(20));
    });
}

#[test]
fn a_sleep_that_another_thread_resets_wakes_who_waits_for_it() {
    for (is_in_a_run, first) in [(false, LONG), (true, LONG), (false, Duration::MAX), (true, Duration::MAX)] {
        let idle = Arc::new(Mutex::new(sleep(first)));
        let (has_polled, polled) = mpsc::channel();
        let resetter = Arc::clone(&idle);
        let thread = thread::spawn(move || {
            let reset = || resetter.lock().unwrap().reset(Instant::now() + millis(10));
            polled.recv().unwrap();
            match is_in_a_run {
                false => reset(),
                true => run(async {
                    sleep(millis(1)).await;
                    reset();
                }),
            }
        });
        takes(millis(10), || {
            run(async {
                task_group!(|tg| {
                    tg.spawn(shared(&idle));
                    yield_now().await;
                    has_polled.send(()).unwrap();
                });
            });
        });
        thread.join().unwrap();
    }
}

#[test]
fn a_sleep_beyond_the_clock_has_no_deadline() {
    run(async {
        let mut endless = std::pin::pin!(sleep(Duration::MAX));
        assert!(futures::poll!(endless.as_mut()).is_pending());
        assert_eq!(endless.deadline(), None);
    });
}

#[test]
fn a_sleep_that_is_reset_waits_for_the_new_deadline() {
    takes(millis(20), || {
        run(async {
            let mut sleep = std::pin::pin!(sleep(LONG));
            assert!(futures::poll!(sleep.as_mut()).is_pending());
            sleep.reset(now() + millis(20));
            sleep.await;
        });
    });
}

#[test]
fn a_sleep_wakes_who_polled_it_last() {
    run(async {
        let mut sleep = Box::pin(sleep(millis(10)));
        assert!(futures::poll!(sleep.as_mut()).is_pending());
        // Another task of another group takes it over.
        task_group!(|tg| {
            tg.spawn(sleep);
        });
    });
}

#[test]
fn a_sleep_from_an_ended_run_goes_on_in_the_next() {
    let deadline = Instant::now() + millis(20);
    let mut sleep = Box::pin(sleep_until(deadline));
    run(async { assert!(futures::poll!(sleep.as_mut()).is_pending()) });
    run(sleep);
    assert!(Instant::now() >= deadline);
}

#[test]
fn sleep_cancels_cleanly() {
    assert_cancels_cleanly(|| sleep(LONG));
    assert_cancels_cleanly(|| sleep_until(Instant::now() + LONG));
    assert_cancels_cleanly(|| async { interval(LONG).tick().await });
}

#[test]
fn an_interval_ticks_at_a_fixed_rate() {
    takes(millis(30), || {
        run(async {
            let start = now();
            let mut ticks = interval(millis(10));
            for n in 1..=3 {
                assert!(ticks.tick().await.duration_since(start) >= n * millis(10));
            }
        });
    });
}

#[xiio::test(virtual_time)]
async fn an_interval_skips_any_number_of_ticks() {
    let period = Duration::from_nanos(3);
    let mut ticks = interval(period);
    let first = now() + period;
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(ticks.tick().await, first);
    assert_eq!(ticks.tick().await, first + Duration::from_secs(3600));
}

#[xiio::test(virtual_time)]
async fn an_interval_does_with_missed_ticks_what_it_was_told() {
    let of = async |missed, late| {
        let start = now();
        let mut ticks = interval(millis(10)).missed(missed);
        sleep(millis(late)).await;
        let mut due = Vec::new();
        for _ in 0..4 {
            due.push((ticks.tick().await - start).as_millis());
        }
        due
    };
    for missed in [MissedTicks::Skip, MissedTicks::Burst, MissedTicks::Delay] {
        assert_eq!(of(missed, 19).await, [10, 20, 30, 40], "{missed:?}: none was missed");
    }
    assert_eq!(of(MissedTicks::Skip, 35).await, [10, 40, 50, 60]);
    assert_eq!(of(MissedTicks::Burst, 35).await, [10, 20, 30, 40]);
    assert_eq!(of(MissedTicks::Delay, 35).await, [10, 45, 55, 65]);
}

#[xiio::test(virtual_time)]
async fn an_interval_may_begin_at_once_and_be_reset() {
    let start = now();
    let mut ticks = interval_at(start, millis(10));
    assert_eq!((ticks.tick().await, ticks.period()), (start, millis(10)));
    sleep(millis(5)).await;
    ticks.reset();
    assert_eq!(ticks.tick().await - start, millis(15));
    ticks.reset_at(start + millis(100));
    assert_eq!(ticks.tick().await - start, millis(100));
    assert_eq!(ticks.tick().await - start, millis(110));
}

#[xiio::test(virtual_time)]
async fn an_interval_that_another_task_resets_wakes_who_waits_for_it() {
    let start = now();
    let ticks = Mutex::new(interval(millis(50)));
    task_group!(|tg| {
        let tick = tg.spawn(poll_fn(|cx| ticks.lock().unwrap().poll_tick(cx)));
        sleep(millis(20)).await;
        ticks.lock().unwrap().reset();
        assert_eq!(tick.await - start, millis(70));
    });
}

#[test]
fn an_interval_of_zero_is_refused() {
    assert_panics(&["`interval`", "above zero"], || interval(Duration::ZERO));
    assert_panics(&["`interval`", "above zero"], || interval_at(Instant::now(), Duration::ZERO));
}

#[test]
fn a_tick_that_was_cancelled_is_given_next_time() {
    run_virtually(async {
        let mut ticks = interval(millis(5));
        let due = {
            let mut tick = Box::pin(ticks.tick());
            assert!(futures::poll!(tick.as_mut()).is_pending());
            now() + millis(5)
        };
        assert!(ticks.tick().await <= due);
    });
}

#[test]
fn yield_now_gives_way_once() {
    let n_polls = Cell::new(0);
    run(async {
        let mut yields = std::pin::pin!(yield_now());
        poll_fn(|cx| {
            n_polls.set(n_polls.get() + 1);
            yields.as_mut().poll(cx)
        })
        .await;
    });
    assert_eq!(n_polls.get(), 2);
}

#[test]
fn yielding_tasks_take_turns() {
    let trace = Trace::new();
    run(async {
        task_group!(|tg| {
            for name in ["a", "b"] {
                let trace = &trace;
                tg.spawn(async move {
                    for n in 1..=2 {
                        trace.note(format!("{name}{n}"));
                        yield_now().await;
                    }
                });
            }
        });
    });
    trace.assert(&["a1", "b1", "a2", "b2"]);
}

/// Wakes itself in every poll, and never ends.
fn restless() -> impl Future<Output = ()> {
    poll_fn(|cx| {
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

#[test]
fn a_future_that_wakes_itself_in_every_poll_starves_nobody() {
    let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
    run(async {
        task_group!(|tg| {
            for _ in 0..3 {
                tg.spawn(restless());
            }
            tg.spawn(async {
                sleep(millis(10)).await;
                xiio::write_all(&a, b"ping").await.unwrap();
            });
            let mut buf = [0; 4];
            assert_eq!(xiio::read(&b, &mut buf).await.unwrap(), 4);
            sleep(millis(10)).await;
            tg.cancel();
        });
    });
}

#[test]
fn a_body_that_wakes_itself_in_every_poll_starves_nobody() {
    run(async {
        let ended = Rc::new(Cell::new(false));
        task_group!(|tg| {
            let end = Rc::clone(&ended);
            tg.spawn(async move {
                sleep(millis(10)).await;
                end.set(true);
            });
            poll_fn(|cx| {
                cx.waker().wake_by_ref();
                if ended.get() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        });
    });
}

#[test]
fn a_task_that_always_has_something_to_do_gives_way() {
    // Each of these is ready at once, so without a budget the first task would never be left.
    let promise = xiio::Promise::new();
    promise.set(()).unwrap();
    let is_over = Cell::new(false);
    run(async {
        task_group!(|tg| {
            tg.spawn(async {
                while !is_over.get() {
                    promise.wait().await;
                }
            });
            tg.spawn(async {
                sleep(millis(5)).await;
                is_over.set(true);
            });
        });
    });
}

#[test]
fn process_that_is_forked_off_between_two_runs_has_threads_of_its_own() {
    let output = rerun("program_that_forks").output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
#[ignore = "a program for the test above, in which nothing else runs"]
fn program_that_forks() {
    let use_threads = || {
        run(async {
            in_thread(|| ()).await;
            run_in_thread(async || ()).await;
            xiio::net::lookup_host("localhost:1").await.unwrap().next().unwrap();
            task_group!(workers = 1, |tg| drop(tg.workers().spawn(async || ())));
            drop(Command::new("sleep").arg("60").spawn().unwrap());
        });
        wait_until("children are reaped", || children().is_empty());
    };
    use_threads();
    assert!(ends_in_a_fork(use_threads));
    use_threads();
}

#[test]
fn program_that_takes_too_long_has_its_exit_code_also_where_nobody_reads_its_errors() {
    let (reader, nobody_reads) = io::pipe().unwrap();
    drop(reader);
    assert!(rerun("program_that_takes_too_long").stderr(nobody_reads).status().unwrap().success());
}

#[test]
#[ignore = "a program for the test above"]
fn program_that_takes_too_long() {
    #[xiio::main(timeout = Duration::from_millis(1))]
    async fn main() -> ExitCode {
        sleep(LONG).await;
        ExitCode::SUCCESS
    }
    assert_eq!(main(), ExitCode::FAILURE);
}
