//! Tasks that end with the guard that foreign code drops.
#![allow(missing_docs)]

use std::cell::Cell;
use std::future::pending;

use futures::future::{Either, select};
use xiio::{bracket, sleep, task_group, yield_now};
use xiio_tests::{LONG, millis, run};

#[test]
fn guard_that_foreign_code_drops_cancels_its_task_with_cleanup() {
    let is_released = Cell::new(false);
    run(async {
        task_group!(|tg| {
            let work = bracket(
                (),
                async |()| sleep(LONG).await,
                async |()| {
                    sleep(millis(1)).await;
                    is_released.set(true);
                },
            );
            let task = tg.spawn(work).cancel_on_drop();
            let loser = select(task, Box::pin(sleep(millis(5)))).await;
            assert!(matches!(loser, Either::Right(_)));
        });
        assert!(is_released.get());
    });
}

#[test]
fn guard_is_a_future_of_the_value_and_its_outcome_too() {
    run(async {
        task_group!(|tg| {
            assert_eq!(tg.spawn(async { 7 }).cancel_on_drop().await, 7);
            assert_eq!(tg.spawn(async { 7 }).cancel_on_drop().outcome().await, Ok(7));
            let task = tg.spawn(pending::<()>()).cancel_on_drop();
            assert!(!task.is_finished());
            tg.cancel();
            assert!(task.outcome().await.is_err());
            let waiting = tg.spawn(pending::<()>()).cancel_on_drop().outcome();
            yield_now().await;
            drop(waiting);
        });
    });
}

#[test]
fn guard_kept_beyond_its_group_or_dropped_by_its_own_task_does_nothing_bad() {
    run(async {
        let guard = Cell::new(None);
        let kept = task_group!(|tg| {
            let ran_on = tg.spawn(async {
                drop(guard.take());
                yield_now().await;
                unreachable!("cancelled code does not run on");
            });
            guard.set(Some(ran_on.cancel_on_drop()));
            tg.spawn(async {}).cancel_on_drop()
        });
        assert!(kept.is_finished());
    });
}
