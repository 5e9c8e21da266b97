//! Memory: what a group has taken is given back, however the group ends.

use std::future::pending;
use std::pin::{Pin, pin};
use std::time::Duration;

use xiio::{bracket, gather, race, shield, sleep, task_group, timeout, try_task_group, yield_now};
use xiio_tests::allocated::{Counting, n_bytes};
use xiio_tests::poll;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The growth over many rounds of `scene`, after a few that may fill caches.
async fn growth(scene: impl AsyncFn()) -> isize {
    for _ in 0..10 {
        scene().await;
    }
    let before = n_bytes();
    for _ in 0..100 {
        scene().await;
    }
    n_bytes() - before
}

fn assert_flat(what: &str, scene: impl AsyncFn()) {
    let growth = xiio::run(growth(scene));
    assert_eq!(growth, 0, "{what}: 100 rounds have kept {growth} bytes");
}

async fn fails() -> Result<(), String> {
    Err("no".to_string())
}

/// A future that was polled once and is not dropped yet.
async fn started<'a>(future: impl Future<Output = ()> + 'a) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
    let mut future: Pin<Box<dyn Future<Output = ()> + 'a>> = Box::pin(future);
    assert!(poll::once(future.as_mut()).await.is_none());
    future
}

/// Tasks that are cancelled while they wait for a place are not kept until there is one.
#[test]
fn tasks_cancelled_while_they_wait_keep_no_memory() {
    xiio::run(async {
        task_group!(limit = 1, |tg| {
            tg.spawn(pending::<()>());
            let cancelled = async || {
                drop(tg.spawn(pending::<()>()).cancel());
                yield_now().await;
            };
            assert_eq!(growth(cancelled).await, 0);
            tg.cancel();
        });
    });
}

#[test]
fn groups_that_end_keep_no_memory() {
    assert_flat("an empty group", async || task_group!(|_tg| {}));
    assert_flat("a group with a task", async || {
        task_group!(|tg| {
            tg.spawn(async { vec![1; 100] });
        });
    });
    assert_flat("a named group", async || {
        task_group!(name = format!("{}", "named"), |tg| {
            tg.spawn(async {});
        });
    });
    assert_flat("a deferred cleanup", async || {
        task_group!(|tg| tg.defer(async {}));
    });
    assert_flat("gather", async || drop(gather([1, 2].map(|n| async move { n })).await));
}

#[test]
fn groups_that_fail_keep_no_memory() {
    assert_flat("a try group", async || {
        let failed: Result<(), String> = try_task_group!(error = String, |tg| {
            tg.spawn(fails());
            tg.spawn(fails());
        });
        assert!(failed.is_err());
    });
    assert_flat("a try group without a failure", async || {
        let done: Result<i32, String> = try_task_group!(error = String, |_tg| 5);
        assert!(done.is_ok());
    });
    assert_flat("all errors", async || {
        let failed: Result<(), xiio::GroupError<String>> = try_task_group!(all_errors, error = String, |tg| {
            tg.spawn(fails());
            tg.spawn(fails());
        });
        assert_eq!(failed.unwrap_err().others().len(), 1);
    });
    assert_flat("a race", async || assert_eq!(race([1, 2].map(|n| async move { n })).await, 1));
    assert_flat("a timeout over a bracket", async || {
        let held = bracket(vec![0; 10], async |_| pending::<()>().await, async |_| xiio::yield_now().await);
        assert!(timeout(Duration::from_nanos(1), held).await.is_err());
    });
}

#[test]
fn groups_dropped_half_way_keep_no_memory() {
    assert_flat("a plain group", async || {
        let group = async {
            task_group!(name = format!("{}", "named"), |tg| {
                tg.spawn(sleep(Duration::from_secs(60)));
                tg.defer(async {});
                let _text = String::from("held");
                pending::<()>().await;
            });
        };
        drop(started(group).await);
    });
    assert_flat("a try group with failures", async || {
        let group = async {
            let _: Result<(), xiio::GroupError<String>> = try_task_group!(all_errors, error = String, |tg| {
                tg.spawn(fails());
                tg.spawn(async {
                    bracket((), async |_| pending::<()>().await, async |()| pending().await).await;
                    Ok(())
                });
                pending::<()>().await;
            });
        };
        drop(started(group).await);
    });
    assert_flat("a shield", async || drop(started(shield(sleep(Duration::from_secs(60)))).await));
}

/// The body is dropped after the group was closed; what it defers then is dropped too.
#[test]
fn a_cleanup_deferred_after_the_end_is_dropped() {
    struct Defers<F: FnMut()>(F);
    impl<F: FnMut()> Drop for Defers<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    let listening = xiio::inspect::listen(|_| ());
    assert_flat("a cleanup deferred after the end", async || {
        let group = async {
            task_group!(|tg| {
                let text = vec![0; 100];
                let _last = Defers(|| {
                    let text = text.clone();
                    tg.defer(async move { drop(text) });
                });
                pending::<()>().await;
            });
        };
        drop(started(group).await);
    });
    drop(listening);
}

#[test]
fn a_run_keeps_no_memory() {
    let round = || {
        let mut future = pin!(async { sleep(Duration::from_micros(1)).await });
        xiio::run(future.as_mut());
    };
    (0..3).for_each(|_| round());
    let before = n_bytes();
    (0..20).for_each(|_| round());
    assert_eq!(n_bytes() - before, 0);
}
