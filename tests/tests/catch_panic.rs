//! One future's panic, caught where it is that future's alone.
#![allow(missing_docs)]

use std::cell::Cell;
use std::future::pending;
use std::panic::panic_any;

use xiio::inspect::ReportKind;
use xiio::{bracket, catch_panic, join, shield, sleep, task_group, timeout, yield_now};
use xiio_tests::{LONG, Reports, Trace, millis, run, run_virtually};

/// Panics when it is dropped.
struct Odd(&'static str);

impl Drop for Odd {
    fn drop(&mut self) {
        panic_any(self.0);
    }
}

#[test]
fn value_and_panic_come_back() {
    run(async {
        assert_eq!(catch_panic(async { 7 }).await.unwrap(), 7);
        let panic = catch_panic(async {
            yield_now().await;
            panic_any(7_u32)
        });
        let panic: xiio::Panic = panic.await.unwrap_err();
        assert_eq!(panic.to_string(), "panicked: (a payload that is no text)");
        assert_eq!(panic.into_payload().downcast_ref(), Some(&7_u32));
        let boxed: Box<dyn std::error::Error + Send + Sync> =
            catch_panic(async { panic!("a bug") }).await.unwrap_err().into();
        assert_eq!(boxed.to_string(), "panicked: a bug");
    });
}

#[test]
fn cleanup_of_what_panicked_has_run_and_siblings_go_on() {
    let trace = Trace::new();
    let trace = &trace;
    run_virtually(async {
        let clean_up = |name: &'static str| {
            async move |()| {
                sleep(millis(1)).await;
                trace.note(format!("{name} released"));
            }
        };
        task_group!(|tg| {
            tg.spawn(async {
                let both = async {
                    let waiter = bracket((), async |()| pending::<()>().await, clean_up("waiter"));
                    join!(waiter, bracket((), async |()| panic!("a bug"), clean_up("odd one")))
                };
                trace.note(catch_panic(both).await.unwrap_err().to_string());
            });
            tg.spawn(async {
                sleep(millis(50)).await;
                trace.note("sibling has ended");
            });
        });
    });
    let mut events = trace.take();
    events[..2].sort_unstable();
    assert_eq!(events, ["odd one released", "waiter released", "panicked: a bug", "sibling has ended"]);
}

#[test]
fn panics_of_cleanup_and_destructors_are_the_value_too() {
    run(async {
        let in_release = catch_panic(bracket((), async |()| 7, async |()| panic!("in release")));
        assert_eq!(in_release.await.unwrap_err().text(), "in release");
        let in_destructor = catch_panic(async {
            let _odd = Odd("in a destructor");
            yield_now().await;
        });
        assert_eq!(in_destructor.await.unwrap_err().text(), "in a destructor");
    });
}

#[test]
fn cancelled_it_cleans_up_and_its_panic_goes_no_further() {
    let reports = Reports::new();
    let is_released = Cell::new(false);
    run_virtually(async {
        let work = bracket(
            (),
            async |()| sleep(LONG).await,
            async |()| {
                sleep(millis(1)).await;
                is_released.set(true);
                panic!("in release");
            },
        );
        assert!(timeout(millis(5), catch_panic(work)).await.is_err());
    });
    assert!(is_released.get());
    assert_eq!(reports.kinds(), [ReportKind::LaterFailure]);
}

#[test]
fn a_destructor_that_panics_in_what_has_nothing_to_clean_up_is_reported() {
    let reports = Reports::new();
    run_virtually(async {
        let hold = || async {
            let _odd = Odd("in a destructor");
            sleep(LONG).await;
        };
        assert!(timeout(millis(5), catch_panic(hold())).await.is_err());
        task_group!(|tg| {
            tg.spawn(catch_panic(hold()));
            yield_now().await;
            tg.cancel();
        });
    });
    assert_eq!(reports.kinds(), [ReportKind::LaterFailure; 2]);
}

#[test]
fn a_value_that_comes_after_the_cancellation_is_dropped_quietly() {
    let reports = Reports::new();
    run_virtually(async {
        let save = catch_panic(async { shield(sleep(millis(10))).await });
        assert!(timeout(millis(1), save).await.is_err());
    });
    assert_eq!(reports.kinds(), []);
}

#[test]
#[should_panic = "`catch_panic` was polled after it had ended"]
fn polled_after_its_end_it_panics() {
    run(async {
        let mut caught = Box::pin(catch_panic(async {}));
        caught.as_mut().await.unwrap();
        let _ = caught.await;
    });
}
