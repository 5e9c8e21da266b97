//! What is no code that ran on: a leaf reached before its cancellation, and refused in that very poll.

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::LocalBoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use xiio::inspect::{ReportKind, tree};
use xiio::io::{Read, Write, duplex};
use xiio::process::Command;
use xiio::signal::{SIGUSR1, subscribe};
use xiio::{
    Condition, Outputs, Promise, bracket, branch, catch_panic, interval, net, readable, shield, sleep, task_group,
    timeout, yield_now,
};
use xiio_tests::{LONG, Reports, millis, run, run_virtually};

type Leaf = Pin<Box<dyn Future<Output = ()>>>;

/// One of each kind of leaf.
fn leaves() -> Vec<Leaf> {
    [waits(), handles(), foreign()].into_iter().flatten().collect()
}

fn waits() -> Vec<Leaf> {
    let (a, b) = UnixStream::pair().unwrap();
    vec![
        Box::pin(sleep(millis(1000))),
        Box::pin(sleep(Duration::MAX)),
        Box::pin(yield_now()),
        Box::pin(Promise::new().wait()),
        Box::pin(async {
            interval(millis(1000)).tick().await;
        }),
        Box::pin(async move {
            let _ = readable(&a).await;
            drop(b);
        }),
        Box::pin(async {
            let (mut a, _b) = net::UnixStream::pair().unwrap();
            let _ = a.read(&mut [0]).await;
        }),
        Box::pin(async {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let listener = net::TcpListener::try_from(listener).unwrap();
            let _ = listener.incoming().next().await;
        }),
        Box::pin(async {
            let (mut a, _b) = duplex(1);
            let _ = a.read(&mut [0]).await;
        }),
        Box::pin(async {
            let _ = Condition::new().timeout(millis(1000)).wait().await;
        }),
        Box::pin(async {
            let outputs = Outputs::<()>::new();
            let _giver = outputs.give(pending());
            outputs.next().await;
        }),
        Box::pin(async {
            let _ = subscribe(&[SIGUSR1]).unwrap().recv().await;
        }),
        Box::pin(async {
            let child = Command::new("sleep").arg("60").spawn().unwrap();
            let _ = child.wait_exited().await;
        }),
        // It is ready, but for who is cancelled.
        Box::pin(async {
            let _ = Vec::new().write(&[0]).await;
        }),
    ]
}

fn foreign() -> Vec<Leaf> {
    #[cfg(not(feature = "futures"))]
    return Vec::new();
    #[cfg(feature = "futures")]
    vec![Box::pin(async {
        let (a, _b) = net::UnixStream::pair().unwrap();
        let _ = xiio::compat::FuturesIo::new(a).read(&mut [0]).await;
    })]
}

/// Those of tasks that have ended: they are ready, but for who is cancelled.
#[expect(clippy::async_yields_async, reason = "the handles are wanted after the run, not their outputs")]
fn handles() -> Vec<Leaf> {
    let task = || run(async { task_group!(|tg| { tg.spawn(async {}) }) });
    let on_worker = || run(async { task_group!(workers = 0, |tg| { tg.workers().spawn(async || ()) }) });
    vec![
        Box::pin(task()),
        Box::pin(task().outcome().map(drop)),
        Box::pin(task().cancel().map(drop)),
        Box::pin(task().cancel_on_drop()),
        Box::pin(task().cancel_on_drop().outcome().map(drop)),
        Box::pin(on_worker()),
        Box::pin(on_worker().outcome().map(drop)),
        Box::pin(on_worker().cancel().map(drop)),
    ]
}

#[test]
fn a_leaf_reached_by_a_task_that_has_cancelled_its_group() {
    for leaf in leaves() {
        let reports = Reports::new();
        run(async {
            task_group!(|tg| {
                tg.spawn(async {
                    futures::join!(shield(sleep(millis(5))), async {
                        yield_now().await;
                        tg.cancel();
                        leaf.await;
                        unreachable!("it ran on");
                    })
                });
            });
        });
        reports.assert_none();
    }
}

#[test]
fn a_leaf_reached_by_a_task_that_has_had_its_share() {
    for leaf in leaves() {
        let reports = Reports::new();
        // A slow machine would have it give way sooner.
        run_virtually(async {
            let is_set = Promise::new();
            is_set.set(()).unwrap();
            let n_ready = Cell::new(0);
            task_group!(|tg| {
                // It is refused at any of its leaves, also at the last one.
                let always_ready = async {
                    for _ in 0..127 {
                        is_set.wait().await;
                        n_ready.set(n_ready.get() + 1);
                    }
                    is_set.wait().await;
                    leaf.await;
                    pending::<()>().await;
                };
                let task = tg.spawn(async { futures::join!(shield(sleep(millis(5))), always_ready) });
                yield_now().await;
                assert_eq!(n_ready.get(), 127);
                task.cancel().await;
            });
        });
        reports.assert_none();
    }
}

#[test]
fn a_task_that_was_awaited_and_ends_while_who_awaits_it_cleans_up() {
    let reports = Reports::new();
    let (at_home, on_worker) = (Promise::new(), Promise::new());
    run(async {
        task_group!(workers = 0, |tg| {
            let awaited = tg.spawn(at_home.wait());
            let on_worker_awaited = tg.workers().spawn(async || on_worker.wait().await);
            let awaits = async { futures::join!(shield(sleep(millis(5))), awaited, on_worker_awaited.outcome()) };
            let awaits = tg.spawn(awaits);
            yield_now().await;
            at_home.set(()).unwrap();
            on_worker.set(()).unwrap();
            awaits.cancel().await;
        });
    });
    reports.assert_none();
}

#[test]
fn a_leaf_reached_while_it_is_drawn() {
    for leaf in leaves() {
        let reports = Reports::new();
        let is_open = Cell::new(false);
        run(async {
            task_group!(|tg| {
                let reaches = async {
                    poll_fn(|_| if is_open.get() { Poll::Ready(()) } else { Poll::Pending }).await;
                    leaf.await;
                    unreachable!("it ran on");
                };
                tg.spawn(async { futures::join!(shield(sleep(millis(5))), reaches) });
                yield_now().await;
                // Nobody is woken for it: the task is drawn, and then the body comes first.
                is_open.set(true);
                tree().await;
                tg.cancel();
            });
        });
        reports.assert_none();
    }
}

#[test]
fn a_branch_that_begins_after_its_cancellation_does_not_begin() {
    let reports = Reports::new();
    let n_begun = Cell::new(0);
    run(async {
        task_group!(|tg| {
            let busy = async || {
                yield_now().await;
                n_begun.set(n_begun.get() + 1);
                pending::<()>().await;
            };
            let cleans_up = || branch(shield(sleep(millis(5)))).boxed_local();
            let mut branches = vec![cleans_up(), branch(busy()).boxed_local(), branch(busy()).boxed_local()];
            branches.extend((0..40).map(|_| branch(async { n_begun.set(n_begun.get() + 100) }).boxed_local()));
            let task = tg.spawn(async {
                let mut all: FuturesUnordered<_> = branches.into_iter().collect();
                while all.next().await.is_some() {}
            });
            yield_now().await;
            task.cancel().await;
        });
    });
    assert_eq!(n_begun.get(), 0);
    reports.assert_none();
}

#[test]
fn a_leaf_that_is_awaited_after_the_cancellation_is_code_that_ran_on() {
    for (place, leaf) in leaves().into_iter().enumerate() {
        let reports = Reports::new();
        let (sender, receiver) = oneshot::channel();
        run(async {
            task_group!(|tg| {
                let runs_on = async {
                    receiver.await.unwrap();
                    leaf.await;
                };
                tg.spawn(async { futures::join!(shield(sleep(millis(5))), runs_on) });
                yield_now().await;
                sender.send(()).unwrap();
                tg.cancel();
            });
        });
        assert_eq!(reports.kinds(), [ReportKind::RanOn], "the leaf {place} says {:?}", reports.texts());
    }
}

// The same for a bracket: its resource is there when it is reached, and released though its use never begins.

#[test]
fn a_bracket_reached_by_a_task_that_has_had_its_share_is_released() {
    let reports = Reports::new();
    let n_released = Cell::new(0);
    run(async {
        let is_set = Promise::new();
        is_set.set(()).unwrap();
        task_group!(|tg| {
            let task = tg.spawn(async {
                for _ in 0..128 {
                    is_set.wait().await;
                }
                bracket(
                    (),
                    async |()| unreachable!("it was cancelled"),
                    async |()| n_released.set(n_released.get() + 1),
                )
                .await;
            });
            yield_now().await;
            task.cancel().await;
        });
    });
    assert_eq!(n_released.get(), 1);
    reports.assert_none();
}

#[test]
fn a_bracket_reached_by_a_task_that_has_cancelled_its_group_is_released() {
    let reports = Reports::new();
    let n_released = Cell::new(0);
    run(async {
        task_group!(|tg| {
            tg.spawn(async {
                tg.cancel();
                bracket(
                    (),
                    async |()| unreachable!("it was cancelled"),
                    async |()| n_released.set(n_released.get() + 1),
                )
                .await;
            });
        });
    });
    assert_eq!(n_released.get(), 1);
    reports.assert_none();
}

/// Looks at a promise that is set, and at a timer, when it is dropped.
struct LooksAtLast<'a> {
    set: &'a Promise<()>,
    has_seen: &'a Cell<u32>,
}

impl Drop for LooksAtLast<'_> {
    fn drop(&mut self) {
        if self.set.wait().now_or_never().is_some() && sleep(millis(1000)).now_or_never().is_none() {
            self.has_seen.set(self.has_seen.get() + 1);
        }
    }
}

type Owns = for<'a> fn(LocalBoxFuture<'a, ()>) -> LocalBoxFuture<'a, ()>;

/// Each polls a future that it may cancel, inside of a task.
const OWNERS: [Owns; 7] = [
    |inside| async { timeout(LONG, inside).await.unwrap() }.boxed_local(),
    |inside| branch(inside).boxed_local(),
    |inside| async { catch_panic(inside).await.unwrap() }.boxed_local(),
    |inside| async { _ = xiio::join!(inside, pending::<()>()) }.boxed_local(),
    |inside| async { task_group!(|_tg| inside.await) }.boxed_local(),
    |inside| async { task_group!(|tg| tg.spawn(inside).await) }.boxed_local(),
    |inside| async { bracket((), async |()| inside.await, async |()| ()).await }.boxed_local(),
];

#[test]
fn destructors_of_what_was_cancelled_may_look_at_leaves() {
    for (place, cleans_up) in (0..OWNERS.len()).flat_map(|place| [(place, false), (place, true)]) {
        let reports = Reports::new();
        let (set, has_seen) = (Promise::new(), Cell::new(0));
        set.set(()).unwrap();
        run(async {
            let inside = async {
                let _looks = LooksAtLast { set: &set, has_seen: &has_seen };
                if cleans_up {
                    shield(sleep(millis(1))).await;
                }
                pending::<()>().await;
            };
            let owner = OWNERS[place](inside.boxed_local());
            task_group!(|tg| {
                let task = tg.spawn(owner);
                yield_now().await;
                task.cancel().await;
            });
        });
        assert_eq!((has_seen.get(), reports.texts()), (1, vec![]), "owner {place}, which cleans up: {cleans_up}");
    }
}
