//! Cleanup under foreign combinators that poll only what was woken: those that wait cost nothing.

use std::cell::Cell;
use std::pin::{Pin, pin};
use std::task::Context;

use futures::FutureExt;
use futures::future::join_all;
use futures::stream::{FuturesOrdered, FuturesUnordered, StreamExt, iter};
use xiio::inspect::tree;
use xiio::{bracket, branch, shield, sleep, task_group, timeout, yield_now};
use xiio_tests::{Reports, millis, run_virtually};

type Dyn = Pin<Box<dyn Future<Output = ()>>>;

/// A cancellation and its end take some polls. More than this is a loop.
const MANY: u32 = 200;

/// Polls a future for somebody else, and fails when that is too often.
async fn counted(future: impl Future<Output = ()>, n_polls: &Cell<u32>) {
    let mut future = pin!(future);
    let poll = |cx: &mut Context<'_>| {
        n_polls.set(n_polls.get() + 1);
        assert!(n_polls.get() < MANY, "cleanups that only wait are polled again and again");
        future.as_mut().poll(cx)
    };
    std::future::poll_fn(poll).await;
}

async fn all(members: impl IntoIterator<Item = Dyn>) {
    let mut all: FuturesUnordered<_> = members.into_iter().collect();
    while all.next().await.is_some() {}
}

fn cleanup() -> Dyn {
    // Its second begins with its first poll, as its clock stands still from there on.
    Box::pin(shield(async { sleep(millis(1000)).await }))
}

/// Cancels `future` after five milliseconds; its cleanups end after a second.
fn waits_for_free(future: impl Future<Output = ()>) {
    let reports = Reports::new();
    let n_polls = Cell::new(0);
    run_virtually(async {
        let start = xiio::now();
        assert!(timeout(millis(5), counted(future, &n_polls)).await.is_err());
        assert_eq!(xiio::now() - start, millis(1000));
    });
    reports.assert_none();
}

#[test]
fn the_last_branch_of_futures_unordered_cleans_up() {
    waits_for_free(all([cleanup()]));
    waits_for_free(all([Box::pin(branch(cleanup())) as Dyn]));
}

#[test]
fn many_branches_of_futures_unordered_clean_up() {
    for n in [2, 3, 10, 100] {
        waits_for_free(all((0..n).map(|_| cleanup())));
    }
}

#[test]
fn futures_unordered_in_futures_unordered_cleans_up() {
    let mut nested = cleanup();
    for _ in 0..20 {
        nested = Box::pin(all([nested]));
    }
    waits_for_free(nested);
    waits_for_free(all((0..5).map(|n| Box::pin(all((0..n).map(|_| cleanup()))) as Dyn)));
}

/// What is around polls all of them when one is woken.
#[test]
fn neighbours_are_no_reason_to_look_for_what_waits() {
    fn owned(members: impl IntoIterator<Item = Dyn> + 'static) -> Dyn {
        Box::pin(branch(all(members)))
    }
    let member = |kind| match kind {
        0 => owned([cleanup()]),
        1 => owned([Box::pin(branch(cleanup())) as Dyn]),
        2 => owned([owned([cleanup()])]),
        3 => owned([cleanup(), owned([cleanup()])]),
        _ => Box::pin(branch(iter([owned([cleanup()]), cleanup()]).buffer_unordered(2).collect())),
    };
    for (one, two) in (0..5).flat_map(|one| (0..5).map(move |two| (one, two))) {
        waits_for_free(async { futures::join!(member(one), member(two)).0 });
        waits_for_free(join_all([member(one), member(two), member(one)]).map(drop));
    }
}

#[test]
fn join_all_of_any_size_cleans_up() {
    for n in [1, 2, 30, 31, 40, 100] {
        waits_for_free(join_all((0..n).map(|_| cleanup())).map(drop));
    }
}

#[test]
fn streams_with_many_futures_at_once_clean_up() {
    waits_for_free(iter(0..9).map(|_| cleanup()).buffer_unordered(3).collect());
    waits_for_free(iter(0..9).map(|_| cleanup()).buffered(1).collect());
    waits_for_free(iter(0..9).for_each_concurrent(2, |_| cleanup()));
    waits_for_free((0..4).map(|_| cleanup()).collect::<FuturesOrdered<_>>().collect());
}

#[test]
fn a_shared_future_cleans_up() {
    let shared = cleanup().shared();
    waits_for_free(all([Box::pin(shared.clone()) as Dyn, Box::pin(shared.clone())]));
    let shared = cleanup().shared();
    let other = shared.clone();
    waits_for_free(async { futures::join!(shared, other).0 });
}

#[test]
fn cleanups_of_different_length_end_each_in_its_time() {
    let reports = Reports::new();
    let n_polls = Cell::new(0);
    run_virtually(async {
        let start = xiio::now();
        let members = (0..8).map(|n| Box::pin(shield(sleep(millis(100 * n + 100)))) as Dyn);
        assert!(timeout(millis(5), counted(all(members), &n_polls)).await.is_err());
        assert_eq!(xiio::now() - start, millis(800));
    });
    reports.assert_none();
}

#[test]
fn a_cleanup_of_many_steps_is_polled_a_few_times_a_step() {
    let reports = Reports::new();
    let n_polls = Cell::new(0);
    run_virtually(async {
        let steps = || async {
            for _ in 0..20 {
                sleep(millis(10)).await;
            }
        };
        let nested = all([Box::pin(all([Box::pin(shield(steps())) as Dyn])) as Dyn]);
        assert!(timeout(millis(5), counted(nested, &n_polls)).await.is_err());
    });
    reports.assert_none();
}

#[test]
fn a_group_and_a_bracket_clean_up_in_futures_unordered() {
    let n_released = Cell::new(0);
    let n_polls = Cell::new(0);
    run_virtually(async {
        let work = async |_| {
            bracket(
                (),
                async |()| sleep(millis(9000)).await,
                async |()| {
                    sleep(millis(500)).await;
                    n_released.set(n_released.get() + 1);
                },
            )
            .await;
        };
        let group = async |n| {
            task_group!(|tg| {
                tg.spawn(work(n));
                work(n).await;
            });
        };
        let mut all: FuturesUnordered<_> = (0..3).map(group).collect();
        let all = async { while all.next().await.is_some() {} };
        assert!(timeout(millis(5), counted(all, &n_polls)).await.is_err());
    });
    assert_eq!(n_released.get(), 6);
}

#[test]
fn a_cleanup_that_is_drawn_goes_on() {
    let reports = Reports::new();
    run_virtually(async {
        task_group!(|tg| {
            let task = tg.spawn(all([cleanup()]));
            yield_now().await;
            tg.spawn(async { assert_eq!(task.cancel().await, None) });
            for _ in 0..50 {
                tree().await;
                sleep(millis(1)).await;
            }
        });
    });
    reports.assert_none();
}
