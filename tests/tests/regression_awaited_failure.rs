//! A body that awaited the handle of a task was polled once more when that task failed: the end of the task had woken it, and
//! the group was cancelled only after that poll. The handle then panicked, as it must for a task without an output, and
//! `try_task_group!` printed a panic beside its error.
#![allow(missing_docs)]

use std::cell::Cell;
use std::time::Duration;

use xiio::{sleep, task_group, timeout, try_task_group, yield_now};

#[xiio::test]
async fn a_body_that_awaits_the_task_that_fails_does_not_go_on() {
    let went_on = Cell::new(false);
    let result: Result<(), &str> = try_task_group!(error = &str, |tg| {
        let task = tg.spawn(async {
            sleep(Duration::from_millis(1)).await;
            Err::<(), _>("the task")
        });
        let _ = task.outcome().await;
        went_on.set(true);
    });
    assert_eq!((result, went_on.get()), (Err("the task"), false));
}

#[xiio::test]
async fn nor_when_it_awaits_it_in_a_time_limit() {
    let went_on = Cell::new(false);
    let result: Result<(), &str> = try_task_group!(error = &str, |tg| {
        let task = tg.spawn(async {
            yield_now().await;
            yield_now().await;
            Err::<(), _>("the task")
        });
        let _ = timeout(Duration::from_secs(60), task.outcome()).await;
        went_on.set(true);
    });
    assert_eq!((result, went_on.get()), (Err("the task"), false));
}

#[xiio::test]
async fn a_task_that_succeeds_still_wakes_the_body() {
    let value = task_group!(|tg| {
        let task = tg.spawn(async {
            yield_now().await;
            7
        });
        task.await
    });
    assert_eq!(value, 7);
}
