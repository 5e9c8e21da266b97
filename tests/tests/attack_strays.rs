//! Cleanups that are reached between two polls, by a destructor or a waker: they are no task's, so none may answer for
//! them, and above all none may lose its own for them.

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Waker};

use xiio::inspect::ReportKind;
use xiio::{Promise, TaskGroup, bracket, task_group, yield_now};
use xiio_tests::poll::{self, OnDrop, OnWake};
use xiio_tests::{Reports, rounds, run};

/// What a task leaves half-way.
#[derive(Debug, Clone, Copy)]
enum Stray {
    Dropped,
    Leaked,
}

/// Who reaches it.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// The destructor of a task that is cancelled.
    Destructor,
    /// The same, and somebody awaits the end of that task.
    AwaitedDestructor,
    /// The waker of somebody who awaits a task.
    Joiner,
    /// The waker of a bracket, woken by the cancellation of its task.
    Node,
}

impl Stray {
    /// Polls a cleanup once.
    fn reach(self) {
        let mut held = Box::pin(bracket((), async |_| pending::<()>().await, async |()| ()));
        assert!(held.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        match self {
            Self::Dropped => drop(held),
            Self::Leaked => drop(poll::leak(held)),
        }
    }
}

/// A task that is always ready.
async fn busy() {
    loop {
        yield_now().await;
    }
}

/// Reaches a cleanup between two polls of the tasks of `tg`.
async fn reach<'a>(tg: &'a TaskGroup<'a>, promise: &'a Promise<()>, stray: Stray, place: Place) {
    let waker = Arc::new(OnWake(move || stray.reach()));
    let dropped = OnDrop(move || stray.reach());
    let owning = async move {
        pending::<()>().await;
        drop(dropped);
    };
    match place {
        Place::Destructor => {
            drop(tg.spawn(owning).cancel());
            yield_now().await;
        }
        Place::AwaitedDestructor => assert!(tg.spawn(owning).cancel().await.is_none()),
        Place::Joiner => {
            let mut task = tg.spawn(promise.wait());
            rounds(2).await;
            assert!(poll::with(&waker, Pin::new(&mut task)).is_pending());
            promise.set(()).unwrap();
            rounds(2).await;
            assert!(task.is_finished());
        }
        Place::Node => {
            let task = tg.spawn(async move {
                let mut held = pin!(bracket((), async |_| pending::<()>().await, async |()| ()));
                assert!(poll::with(&waker, held.as_mut()).is_pending());
                poll_fn(|_| poll::with(&waker, held.as_mut())).await;
            });
            rounds(2).await;
            assert!(task.cancel().await.is_none());
        }
    }
}

#[test]
fn stray_cleanups_are_nobodys() {
    let all = [Place::Destructor, Place::AwaitedDestructor, Place::Joiner, Place::Node];
    for place in all {
        for stray in [Stray::Dropped, Stray::Leaked] {
            let reports = Reports::new();
            let (promise, is_released) = (Promise::new(), Cell::new(false));
            let release = async |()| {
                yield_now().await;
                is_released.set(true);
            };
            run(async {
                task_group!(|tg| {
                    let holding = tg.spawn(bracket((), async |_| busy().await, release));
                    let plain = tg.spawn(busy());
                    rounds(2).await;
                    reach(tg, &promise, stray, place).await;
                    // `holding` has been polled once meanwhile; polled again it would join what it finds there.
                    assert!(holding.cancel().await.is_none());
                    assert!(plain.cancel().await.is_none());
                });
            });
            assert!(is_released.get(), "the cleanup of another task is lost ({stray:?}, {place:?})");
            let is_reported = matches!(stray, Stray::Dropped);
            assert_eq!(!reports.kinds().is_empty(), is_reported, "{:?} ({stray:?}, {place:?})", reports.texts());
            assert!(reports.kinds().iter().all(|kind| *kind == ReportKind::CleanupSkipped), "{:?}", reports.texts());
        }
    }
}
