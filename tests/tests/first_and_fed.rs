//! The first success, outputs of tasks that spawn more, and tasks that several can cancel.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use xiio::{Outputs, bracket, join, race_ok, sleep, task_group, timeout, try_task_group, yield_now};

const SECOND: Duration = Duration::from_secs(1);

/// Ends after so many seconds.
async fn after<T>(seconds: u32, output: T) -> T {
    sleep(SECOND * seconds).await;
    output
}

#[xiio::test(virtual_time)]
async fn the_first_success_wins_though_others_fail_before() {
    let start = xiio::now();
    let racers = [after(1, Err("one")), after(3, Ok(3)), after(2, Err("two")), after(9, Ok(9))];
    assert_eq!(race_ok(racers).await, Ok(3));
    assert_eq!(xiio::now() - start, 3 * SECOND);
}

#[xiio::test(virtual_time)]
async fn all_errors_come_in_the_order_given() {
    let racers = [after(3, Err::<(), _>("a")), after(1, Err("b")), after(2, Err("c"))];
    assert_eq!(race_ok(racers).await, Err(vec!["a", "b", "c"]));
    assert_eq!(race_ok::<[std::future::Ready<Result<(), ()>>; 0], _, _>([]).await, Err(vec![]));
}

#[xiio::test(virtual_time)]
async fn losers_clean_up_before_the_winner_is_given() {
    let trace = RefCell::new(Vec::new());
    let racer = async |name, seconds| {
        let work = async |name: &mut &'static str| after(seconds, Ok::<_, ()>(*name)).await;
        let release = async |name| {
            sleep(SECOND).await;
            trace.borrow_mut().push(name);
        };
        bracket(name, work, release).await
    };
    assert_eq!(race_ok([racer("fast", 1), racer("slow", 60)]).await, Ok("fast"));
    assert_eq!(*trace.borrow(), ["fast", "slow"]);
}

#[xiio::test(virtual_time)]
async fn a_race_that_is_cancelled_cancels_its_racers() {
    let n_released = Cell::new(0);
    let racer = || async {
        let release = async |()| n_released.set(n_released.get() + 1);
        bracket((), async |()| after(60, Err::<(), ()>(())).await, release).await
    };
    drop(race_ok([racer(), racer()]));
    assert_eq!(n_released.get(), 0);
    assert!(timeout(SECOND, race_ok([racer(), racer()])).await.is_err());
    assert_eq!(n_released.get(), 2);
}

struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        panic!("an error that panics when it is dropped");
    }
}

#[test]
fn a_panic_of_a_racer_is_that_of_the_race_whatever_the_errors_do() {
    let race = || {
        xiio::run(race_ok([0, 1].map(|n| async move {
            if n == 0 {
                return Err::<(), _>(PanicsOnDrop);
            }
            yield_now().await;
            panic!("of a racer")
        })))
        .is_ok()
    };
    let payload = catch_unwind(AssertUnwindSafe(race)).unwrap_err();
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"of a racer"));
}

#[xiio::test(virtual_time)]
async fn tasks_that_spawn_more_are_consumed_as_they_come() {
    let outputs = Outputs::new();
    let found = task_group!(|tg| {
        // A task that spawns another by itself.
        tg.spawn(outputs.give(async {
            tg.spawn(outputs.give(after(5, "child")));
            after(1, "parent").await
        }));
        tg.spawn(outputs.give(after(3, "other")));
        let mut found = Vec::new();
        while let Some(name) = outputs.next().await {
            found.push(name);
            if name == "other" {
                // And the consumer another one, when only one is left.
                tg.spawn(outputs.give(after(1, "fed")));
            }
        }
        found
    });
    assert_eq!(found, ["parent", "other", "fed", "child"]);
    assert_eq!(outputs.next().await, None);
}

#[cfg(feature = "futures")]
#[xiio::test(virtual_time)]
async fn outputs_are_a_stream_that_ends_with_the_last_task() {
    use futures::StreamExt;

    let outputs = Outputs::new();
    let sum = task_group!(|tg| {
        for n in 1..=4 {
            tg.spawn(outputs.give(after(n, n)));
        }
        (&outputs).fold(0, async |sum, n| sum + n).await
    });
    assert_eq!(sum, 10);
}

#[xiio::test(virtual_time)]
async fn who_is_dropped_or_cancelled_gives_nothing_and_is_not_waited_for() {
    let outputs = Outputs::new();
    drop(outputs.give(after(1, "dropped")));
    assert_eq!(outputs.next().await, None);
    task_group!(|tg| {
        let doomed = tg.spawn(outputs.give(after(60, "cancelled")));
        let canceller = doomed.canceller();
        join!(async { assert_eq!(outputs.next().await, None) }, async {
            sleep(SECOND).await;
            canceller.cancel();
        });
    });
    let refused: Result<(), &str> = try_task_group!(error = _, |tg| {
        tg.spawn(async {
            outputs.give(after(1, "given")).await;
            Err::<(), _>("of the group")
        });
        std::future::pending::<()>().await;
    });
    assert_eq!((refused, outputs.next().await), (Err("of the group"), Some("given")));
}

#[xiio::test(virtual_time)]
async fn a_wait_for_an_output_is_cancelled_and_several_may_wait() {
    let outputs = Outputs::new();
    task_group!(|tg| {
        tg.spawn(outputs.give(after(10, 1)));
        tg.spawn(outputs.give(after(10, 2)));
        drop(outputs.next());
        assert!(timeout(SECOND, outputs.next()).await.is_err());
        let (a, b, c) = join!(outputs.next(), outputs.next(), outputs.next());
        assert_eq!((a, b, c), (Some(1), Some(2), None));
    });
}

#[test]
fn a_panic_of_who_gives_is_the_groups() {
    let run = || {
        xiio::run(async {
            let outputs = Outputs::<()>::new();
            task_group!(|tg| {
                tg.spawn(outputs.give(async { panic!("no output") }));
                outputs.next().await
            })
        })
    };
    let payload = catch_unwind(run).unwrap_err();
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"no output"));
}

#[xiio::test(virtual_time)]
async fn several_can_cancel_a_task_and_who_waits_is_told() {
    let is_released = Cell::new(false);
    task_group!(|tg| {
        let release = async |()| {
            sleep(SECOND).await;
            is_released.set(true);
        };
        let task = tg.spawn(bracket((), async |()| after(60, ()).await, release));
        let canceller = task.canceller();
        drop(task.canceller());
        assert!(!canceller.is_finished());
        for seconds in 1..=2 {
            let canceller = canceller.clone();
            tg.spawn(async move {
                sleep(SECOND * seconds).await;
                canceller.cancel();
                canceller.cancel();
            });
        }
        assert!(task.outcome().await.is_err());
        assert!(is_released.get() && canceller.is_finished());
        canceller.cancel();
    });
}

#[xiio::test(virtual_time)]
async fn a_task_may_have_its_own_canceller_and_outlive_its_handle() {
    let goes_on = Cell::new(false);
    let kept = RefCell::new(None);
    task_group!(|tg| {
        let (goes_on, kept) = (&goes_on, &kept);
        let (send, receive) = async_channel::bounded::<xiio::Canceller>(1);
        let task = tg.spawn(async move {
            let own = receive.recv().await.unwrap();
            own.cancel();
            *kept.borrow_mut() = Some(own);
            yield_now().await;
            goes_on.set(true);
        });
        send.try_send(task.canceller()).unwrap();
    });
    assert!(!goes_on.get());
    let kept = kept.take().unwrap();
    assert!(kept.is_finished());
    kept.cancel();
}

#[test]
fn a_canceller_is_kept_beyond_its_group_and_its_run() {
    let canceller = xiio::run(async { task_group!(|tg| { tg.spawn(yield_now()).canceller() }) });
    assert!(canceller.is_finished());
    canceller.clone().cancel();
    assert!(format!("{canceller:?}").contains("is_finished: true"));
}
