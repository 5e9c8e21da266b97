//! The core of a set lies in the block of its group's body, and counts the task that polls it: both outlive their use in
//! whoever keeps a waker, and neither may be used then. To be run under `AddressSanitizer`; the leaks are meant.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use xiio::{Promise, Task, sleep, task_group, yield_now};
use xiio_tests::poll::{self, CountWakes, OnDrop};
use xiio_tests::{DropCount, LONG, Reports, Trace, poll_once, rounds, run};

type Boxed<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// The waker of who awaits this.
async fn own_waker() -> Waker {
    poll_fn(|cx| Poll::Ready(cx.waker().clone())).await
}

/// Wakers of a body are cloned, woken and dropped here and elsewhere, while its group runs, closes, and is gone.
#[test]
fn wakers_of_a_body_outlive_its_group() {
    const MANY: usize = 5000;
    run(async {
        let wakers = RefCell::new(Vec::new());
        let woken_at_the_end = RefCell::new(None);
        for _ in 0..3 {
            task_group!(|tg| {
                let waker = own_waker().await;
                let elsewhere: Vec<_> = (0..MANY).map(|_| waker.clone()).collect();
                let back = thread::spawn(move || {
                    elsewhere.iter().for_each(Waker::wake_by_ref);
                    elsewhere.iter().skip(MANY / 2).cloned().collect::<Vec<_>>()
                });
                wakers.borrow_mut().extend(back.join().unwrap());
                *woken_at_the_end.borrow_mut() = Some(waker);
                tg.spawn(async {
                    let _wake = OnDrop(|| _ = woken_at_the_end.take().map(Waker::wake));
                    pending::<()>().await;
                });
                yield_now().await;
                tg.cancel();
            });
            assert!(woken_at_the_end.borrow().is_none());
            wakers.borrow().iter().step_by(100).for_each(Waker::wake_by_ref);
        }
        let mut wakers = wakers.take();
        let (mine, others) = (wakers.split_off(MANY), wakers);
        let other = thread::spawn(move || others.into_iter().for_each(Waker::wake));
        mine.into_iter().for_each(Waker::wake);
        other.join().unwrap();
        yield_now().await;
    });
}

/// A group is closed while another thread wakes its body, again and again.
#[test]
fn body_is_woken_from_elsewhere_while_its_group_closes() {
    run(async {
        for _ in 0..100 {
            let (sender, receiver) = std::sync::mpsc::channel::<Waker>();
            let waking = thread::spawn(move || {
                for waker in receiver {
                    (0..50).map(|_| waker.clone()).for_each(Waker::wake);
                }
            });
            for _ in 0..10 {
                task_group!(|tg| {
                    sender.send(own_waker().await).unwrap();
                    tg.spawn(rounds(2));
                    yield_now().await;
                });
            }
            drop(sender);
            waking.join().unwrap();
        }
    });
}

/// How the parent of a group ends, that has polled it and will not again.
#[derive(Debug, Clone, Copy)]
enum ParentEnds {
    WithAValue,
    Cancelled,
    Panicked,
    Leaked,
    LeakedWithItsGroup,
}

/// A group whose parent is gone is woken, in vain, and goes on where it is polled next.
#[test]
fn group_goes_on_when_its_parent_is_gone() {
    let all = [
        ParentEnds::WithAValue,
        ParentEnds::Cancelled,
        ParentEnds::Panicked,
        ParentEnds::Leaked,
        ParentEnds::LeakedWithItsGroup,
    ];
    for ends in all {
        let n_dropped = DropCount::new();
        let (before, after) = (Promise::new(), Promise::new());
        let slot: RefCell<Option<Boxed<'_>>> = RefCell::default();
        run(async {
            let flag = n_dropped.flag();
            let group: Boxed<'_> = Box::pin(async {
                task_group!(|tg| {
                    tg.spawn(async {
                        before.wait().await;
                        after.wait().await;
                        drop(flag);
                    });
                    after.wait().await;
                });
            });
            let slot = &slot;
            let parent = async move {
                let mut group = group;
                assert!(poll_once(group.as_mut()).await.is_pending());
                *slot.borrow_mut() = Some(group);
                match ends {
                    ParentEnds::Panicked => panic!("the parent"),
                    ParentEnds::WithAValue => {}
                    _ => sleep(LONG).await,
                }
            };
            match ends {
                ParentEnds::Leaked => {
                    let mut around: Boxed<'_> = Box::pin(parent);
                    assert!(poll_once(around.as_mut()).await.is_pending());
                    poll::leak(around);
                }
                ParentEnds::LeakedWithItsGroup => {
                    let mut around: Boxed<'_> = Box::pin(async {
                        task_group!(|tg| {
                            tg.spawn(parent);
                        });
                    });
                    assert!(poll_once(around.as_mut()).await.is_pending());
                    poll::leak(around);
                }
                _ => {
                    let ended = async {
                        task_group!(|tg| {
                            let parent = tg.spawn(parent);
                            rounds(2).await;
                            drop(parent.cancel());
                        });
                    };
                    let caught = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(ended)).await;
                    assert_eq!(caught.is_err(), matches!(ends, ParentEnds::Panicked));
                }
            }
            before.set(()).unwrap();
            yield_now().await;
            task_group!(|tg| {
                let group = slot.take().unwrap();
                let next = tg.spawn(group);
                rounds(2).await;
                after.set(()).unwrap();
                next.await;
            });
        });
        assert_eq!((n_dropped.get(), n_dropped.n_alive()), (1, 0), "{ends:?}");
    }
}

/// A group is polled in turn by the root, by tasks, by a foreign executor, by combinators with wakers of their own, with
/// the waker of a task elsewhere. Every time the last one is woken.
#[test]
fn group_that_is_polled_with_one_waker_after_the_other() {
    const N_PROMISES: usize = 12;
    let (send, wakers) = std::sync::mpsc::channel::<Waker>();
    let stop = Promise::new();
    let stopped = stop.clone();
    let other = thread::spawn(move || {
        xiio::run(async {
            task_group!(|tg| {
                tg.spawn(async move {
                    send.send(own_waker().await).unwrap();
                    stopped.wait().await;
                });
            });
        });
    });
    let elsewhere = wakers.recv().unwrap();
    let promises: Vec<Promise<()>> = (0..N_PROMISES).map(|_| Promise::new()).collect();
    run(async {
        let n_done = Cell::new(0);
        let mut group: Boxed<'_> = Box::pin(async {
            task_group!(|tg| {
                let (promises, n_done) = (&promises, &n_done);
                tg.spawn(async move {
                    for promise in promises {
                        promise.wait().await;
                        n_done.set(n_done.get() + 1);
                    }
                });
                pending::<()>().await;
            });
        });
        for (n, promise) in promises.iter().enumerate() {
            let group = &mut group;
            let setter = async {
                yield_now().await;
                promise.set(()).unwrap();
            };
            let until = poll_fn(|cx| {
                let _ = group.as_mut().poll(cx);
                if n_done.get() > n { Poll::Ready(()) } else { Poll::Pending }
            });
            match n % 6 {
                0 => _ = futures::join!(until, setter),
                1 => {
                    task_group!(|tg| {
                        tg.spawn(until);
                        setter.await;
                    });
                }
                2 => {
                    let both: [Boxed<'_>; 2] = [Box::pin(until), Box::pin(setter)];
                    let all: FuturesUnordered<_> = both.into_iter().collect();
                    all.collect::<()>().await;
                }
                3 => _ = futures::executor::block_on(async { futures::join!(until, setter) }),
                4 => {
                    let wakes = Arc::new(CountWakes::default());
                    let mut until = pin!(until);
                    assert!(poll::with(&wakes, until.as_mut()).is_pending());
                    promise.set(()).unwrap();
                    assert_eq!(wakes.n_wakes(), 1);
                    assert!(poll::with(&wakes, until).is_ready());
                }
                _ => {
                    let mut until = pin!(until);
                    let mut cx = Context::from_waker(&elsewhere);
                    assert!(until.as_mut().poll(&mut cx).is_pending());
                    promise.set(()).unwrap();
                    assert!(until.poll(&mut cx).is_ready());
                }
            }
        }
    });
    stop.set(()).unwrap();
    other.join().unwrap();
}

/// A cleanup that is registered in the poll in which the parent is cancelled, by whoever can: it runs.
#[test]
fn cleanup_deferred_beside_the_cancellation_of_the_parent_runs() {
    for by in ["the body", "a task", "a destructor in a poll"] {
        let trace = Trace::new();
        let reports = Reports::new();
        let (go, slot) = (&Promise::new(), &RefCell::<Option<Task<()>>>::default());
        let trace = &trace;
        run(async {
            task_group!(|outer| {
                let parent = outer.spawn(async {
                    task_group!(|tg| {
                        let cancel_and_defer = || {
                            drop(slot.take().map(Task::cancel));
                            tg.defer(async {
                                yield_now().await;
                                trace.note(by);
                            });
                        };
                        match by {
                            "the body" => {
                                go.wait().await;
                                cancel_and_defer();
                            }
                            "a task" => drop(tg.spawn(async move {
                                go.wait().await;
                                cancel_and_defer();
                            })),
                            _ => drop(tg.spawn(async move {
                                let _last = OnDrop(cancel_and_defer);
                                go.wait().await;
                            })),
                        }
                        pending::<()>().await;
                    });
                });
                *slot.borrow_mut() = Some(parent);
                rounds(5).await;
                go.set(()).unwrap();
            });
        });
        trace.assert(&[by]);
        reports.assert_none();
    }
}
