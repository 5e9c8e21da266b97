//! Wakers that panic, drop what they wake, or come back into the runtime.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use xiio::inspect::{ReportKind, listen};
use xiio::{Promise, bracket, sleep, task_group, timeout};
use xiio_tests::{poll, run_virtually};

const LONG: Duration = Duration::from_secs(20);

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker of the user");
    }
}

/// Polls `future` once with a waker that panics when it is woken.
fn arm<F: Future>(future: Pin<&mut F>) {
    assert!(poll::with(&Arc::new(Panics), future).is_pending());
}

/// Runs a scene and counts the reports of the kind.
fn reported(kind: ReportKind, scene: impl Future<Output = ()>) -> usize {
    reported_by(kind, || xiio::run(scene))
}

fn reported_by(kind: ReportKind, run: impl FnOnce()) -> usize {
    let n_reports = Rc::new(Cell::new(0));
    let count = Rc::clone(&n_reports);
    let _listening = listen(move |report| count.set(count.get() + usize::from(report.kind() == kind)));
    run();
    n_reports.get()
}

/// What a bracket is held for, counted.
async fn hold(n_held: &Cell<usize>) {
    n_held.set(n_held.get() + 1);
    pending::<()>().await;
}

/// Cancels `work` as soon as it holds so many brackets: a limit of time could be over before.
async fn cancel_when_held(work: impl Future<Output = ()>, n_held: &Cell<usize>, n_brackets: usize) {
    task_group!(|tg| {
        let task = tg.spawn(work);
        while n_held.get() < n_brackets {
            xiio::yield_now().await;
        }
        task.cancel().await;
    });
}

#[test]
fn panicking_waker_of_a_timer_leaves_the_other_timers_alone() {
    let scene = async {
        let until = xiio::now() + Duration::from_millis(5);
        let mut bad = pin!(xiio::sleep_until(until));
        arm(bad.as_mut());
        task_group!(|tg| {
            for _ in 0..3 {
                tg.spawn(xiio::sleep_until(until));
            }
        });
    };
    // Real time may be over before the loop has looked at its timers.
    assert_eq!(reported_by(ReportKind::LaterFailure, || run_virtually(scene)), 1);
}

#[test]
fn panicking_waker_of_a_promise_leaves_the_other_waiters_alone() {
    let scene = async {
        let promise = Promise::new();
        let mut bad = pin!(promise.wait());
        arm(bad.as_mut());
        task_group!(|tg| {
            let waiter = tg.spawn(promise.wait());
            xiio::yield_now().await;
            promise.set(7).unwrap();
            assert_eq!(waiter.await, 7);
        });
    };
    assert_eq!(reported(ReportKind::LaterFailure, scene), 1);
}

#[test]
fn panicking_waker_of_a_descriptor_leaves_the_other_waiters_alone() {
    let scene = async {
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut bad = pin!(xiio::readable(&a));
        arm(bad.as_mut());
        task_group!(|tg| {
            tg.spawn(xiio::readable(&a));
            xiio::yield_now().await;
            xiio::write_all(&b, b"x").await.unwrap();
        });
    };
    assert_eq!(reported(ReportKind::LaterFailure, scene), 1);
}

/// Another thread wakes two tasks; the group of the first is polled with a waker that panics.
#[test]
fn panicking_waker_behind_the_inbox_leaves_the_other_tasks_alone() {
    let scene = async {
        let promise = Promise::new();
        let mut bad = pin!(async {
            task_group!(|tg| {
                tg.spawn(promise.wait());
                pending::<()>().await;
            });
        });
        arm(bad.as_mut());
        task_group!(|tg| {
            let waiter = tg.spawn(promise.wait());
            xiio::yield_now().await;
            let setter = promise.clone();
            std::thread::spawn(move || setter.set(7).unwrap()).join().unwrap();
            assert_eq!(waiter.await, 7);
        });
    };
    assert_eq!(reported(ReportKind::LaterFailure, scene), 1);
}

/// The cancellation wakes every node of the scope; those in the combinator are reached only so.
#[test]
fn panicking_waker_of_a_bracket_leaves_the_other_cleanups_alone() {
    let (n_held, n_released) = (Cell::new(0), Cell::new(0));
    let held = || bracket((), async |_| hold(&n_held).await, async |()| n_released.set(n_released.get() + 1));
    let scene = async {
        let work = async {
            let mut bad = pin!(held());
            let mut good: FuturesUnordered<_> = (0..5).map(|_| held()).collect();
            let mut is_armed = false;
            poll_fn(|cx| {
                if !std::mem::replace(&mut is_armed, true) {
                    arm(bad.as_mut());
                }
                good.poll_next_unpin(cx).map(drop)
            })
            .await;
        };
        cancel_when_held(work, &n_held, 6).await;
    };
    reported(ReportKind::LaterFailure, scene);
    assert_eq!(n_released.get(), 5);
}

/// A waker whose clone, as that of a C library might, has a side effect: it frees a bracket of the same scope.
#[test]
fn waker_that_frees_a_bracket_of_the_scope_it_is_woken_from() {
    thread_local! {
        static VICTIM: RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>> = const { RefCell::new(None) };
    }
    let scene = async {
        let n_held = Rc::new(Cell::new(0));
        let held = |n_held: Rc<Cell<usize>>| bracket((), async move |_| hold(&n_held).await, async |()| ());
        let work = async {
            VICTIM.set(Some(Box::pin(held(Rc::clone(&n_held)))));
            let mut bad = pin!(held(Rc::clone(&n_held)));
            let freeing = Arc::new(poll::OnWake(|| drop(VICTIM.take())));
            let mut is_first = true;
            poll_fn(|cx| {
                if std::mem::take(&mut is_first) {
                    assert!(poll::with(&freeing, bad.as_mut()).is_pending());
                    VICTIM.with_borrow_mut(|victim| assert!(victim.as_mut().unwrap().as_mut().poll(cx).is_pending()));
                }
                // Polled with another waker it would be woken by that.
                if VICTIM.with_borrow(Option::is_some) { Poll::Pending } else { bad.as_mut().poll(cx) }
            })
            .await;
        };
        cancel_when_held(work, &n_held, 2).await;
        assert!(VICTIM.take().is_none());
    };
    reported(ReportKind::LaterFailure, scene);
}

/// A handle cancels a task of a group that somebody else polls; the waker of that one drops the whole group at once.
#[test]
fn waker_that_drops_the_group_it_is_woken_for() {
    thread_local! {
        static GROUP: RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>> = const { RefCell::new(None) };
    }
    for wake_by_handle in [true, false] {
        xiio::run(async move {
            let slot = Rc::new(RefCell::new((None, None)));
            let inner = Rc::clone(&slot);
            GROUP.set(Some(Box::pin(async move {
                task_group!(|tg| {
                    let inner = &inner;
                    let task = tg.spawn(async move {
                        let text = String::from("owned by the task");
                        poll_fn(|cx| {
                            inner.borrow_mut().1 = Some(cx.waker().clone());
                            Poll::<()>::Pending
                        })
                        .await;
                        drop(text);
                    });
                    inner.borrow_mut().0 = Some(task);
                    pending::<()>().await;
                });
            })));
            let dropping = Arc::new(poll::OnWake(|| drop(GROUP.take())));
            GROUP
                .with_borrow_mut(|group| assert!(poll::with(&dropping, group.as_mut().unwrap().as_mut()).is_pending()));
            let (task, waker) = slot.take();
            let (task, waker): (xiio::Task<()>, Waker) = (task.unwrap(), waker.unwrap());
            if wake_by_handle {
                assert_eq!(task.cancel().await, None);
            } else {
                waker.wake_by_ref();
                assert!(task.is_finished());
            }
            assert!(GROUP.take().is_none(), "the waker was woken");
            drop(waker);
        });
    }
}

/// A waker that polls what it wakes, on the spot.
#[test]
fn waker_that_polls_the_group_it_is_woken_for() {
    type Slot = RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>>;
    thread_local! {
        static GROUP: Slot = const { RefCell::new(None) };
        static N_POLLS: Cell<usize> = const { Cell::new(0) };
    }
    struct Inline;
    impl Wake for Inline {
        fn wake(self: Arc<Self>) {
            let Some(mut group) = GROUP.take() else { return };
            N_POLLS.set(N_POLLS.get() + 1);
            let waker = Waker::from(self);
            if group.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                GROUP.set(Some(group));
            }
        }
    }
    xiio::run(async {
        let promise = Promise::new();
        let waited = promise.clone();
        let slot = Rc::new(RefCell::new(None));
        let inner = Rc::clone(&slot);
        GROUP.set(Some(Box::pin(async move {
            task_group!(|tg| {
                *inner.borrow_mut() = Some(tg.spawn(pending::<()>()));
                tg.spawn(async move { waited.wait().await });
            });
        })));
        Arc::new(Inline).wake();
        assert!(GROUP.with_borrow(Option::is_some));
        promise.set(()).unwrap();
        assert!(GROUP.with_borrow(Option::is_some), "one task is left");
        let task = slot.take().unwrap();
        let mut cancelled = pin!(task.cancel());
        assert!(GROUP.with_borrow(Option::is_none), "it has ended inside of `cancel`");
        assert_eq!(cancelled.as_mut().await, None);
        assert_eq!(N_POLLS.get(), 3);
    });
}

/// Tasks of the second step begin while the group is polled, and have it woken.
#[test]
fn panicking_waker_of_who_polls_a_group_leaves_its_tasks_alone() {
    for is_for_workers in [false, true] {
        let n_released = AtomicUsize::new(0);
        let n_reports = reported(ReportKind::LaterFailure, async {
            let [first, others] = [10, 1].map(Duration::from_millis);
            let release = async |()| {
                xiio::yield_now().await;
                n_released.fetch_add(1, Relaxed);
            };
            let work = async |limit| bracket((), async |()| sleep(limit).await, release).await;
            let mut group = Box::pin(async {
                task_group!(workers = 0, |tg| {
                    for limit in [first, others, others] {
                        if is_for_workers {
                            tg.workers().spawn(async move || work(limit).await);
                        } else {
                            tg.spawn(work(limit));
                        }
                        sleep(others).await;
                    }
                });
            });
            while poll::with(&Arc::new(Panics), group.as_mut()).is_pending() {
                sleep(others).await;
            }
        });
        assert!(n_reports > 0);
        assert_eq!(n_released.into_inner(), 3, "{is_for_workers}");
    }
}

struct PanicsWhenDropped;

impl Wake for PanicsWhenDropped {
    fn wake(self: Arc<Self>) {}
}

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("a waker of the user");
    }
}

#[test]
fn waker_that_panics_when_a_group_forgets_it_leaves_its_tasks_alone() {
    // A group that lends has it in another place as well.
    for (workers, spawns_before) in [(0, false), (1, false), (1, true)] {
        let n_done = AtomicUsize::new(0);
        let n_reports = reported(ReportKind::LaterFailure, async {
            let mut group = pin!(async {
                task_group!(workers = workers, |tg| {
                    if spawns_before {
                        tg.workers().spawn(async || n_done.fetch_add(1, Relaxed));
                    }
                    sleep(Duration::from_millis(1)).await;
                    tg.workers().spawn(async || n_done.fetch_add(1, Relaxed));
                });
            });
            assert!(poll::with(&Arc::new(PanicsWhenDropped), group.as_mut()).is_pending());
            group.await;
        });
        assert_eq!((n_reports, n_done.into_inner()), (1, 1 + usize::from(spawns_before)), "{workers}");
    }
}

#[test]
fn panicking_waker_of_a_handle_keeps_nobody_from_ending() {
    let scene = async {
        task_group!(|tg| {
            let mut first = tg.spawn(sleep(Duration::from_millis(1)));
            let second = tg.spawn(sleep(Duration::from_millis(2)));
            arm(pin!(&mut first));
            second.await;
        });
    };
    assert_eq!(reported(ReportKind::LaterFailure, scene), 1);
}

/// A group may be polled with the waker of any task, also of one that lives on another thread: to be woken from here as
/// from any other thread.
#[test]
fn group_polled_with_the_waker_of_a_task_of_another_thread() {
    let (send_waker, wakers) = mpsc::channel::<Waker>();
    let other = thread::spawn(move || {
        xiio::run(async {
            task_group!(|tg| {
                let mut n_polls = 0;
                let woken = poll_fn(move |cx| {
                    n_polls += 1;
                    let _ = send_waker.send(cx.waker().clone());
                    if n_polls == 1 { Poll::Pending } else { Poll::Ready(()) }
                });
                timeout(LONG, tg.spawn(woken)).await.is_ok()
            })
        })
    });
    let waker = wakers.recv().unwrap();
    xiio::run(async {
        let promise = Promise::new();
        let mut group = pin!(async {
            task_group!(|tg| {
                tg.spawn(promise.wait());
            });
        });
        let mut poll = || group.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(poll().is_pending());
        promise.set(()).unwrap();
        assert!(other.join().unwrap(), "it was not woken");
        assert!(poll().is_ready());
    });
}

/// A waker whose destructor panics, as long as something is being unwound.
struct PanicsAgain;

impl Wake for PanicsAgain {
    fn wake(self: Arc<Self>) {}
}

impl Drop for PanicsAgain {
    fn drop(&mut self) {
        assert!(!thread::panicking(), "a second panic");
    }
}

/// Polls what `make` gives with such a waker, and panics.
fn unwinds_over<F: Future>(make: impl FnOnce() -> F) {
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        xiio::run(async {
            let mut future = pin!(make());
            assert!(poll::with(&Arc::new(PanicsAgain), future.as_mut()).is_pending());
            panic!("the first");
        });
    }));
    assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"the first"));
}

#[test]
fn waker_that_panics_when_it_is_dropped_does_not_panic_twice() {
    unwinds_over(|| sleep(LONG));
    unwinds_over(|| timeout(LONG, pending::<()>()));
    let promise = Promise::<()>::new();
    unwinds_over(|| promise.wait());
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    unwinds_over(|| xiio::readable(&socket));
    let (stream, _other) = xiio::io::duplex(1);
    unwinds_over(|| async { xiio::io::Read::read(&mut &stream, &mut [0]).await });
    unwinds_over(|| xiio::in_thread(|| thread::sleep(Duration::from_millis(5))));
    unwinds_over(|| async { xiio::Condition::new().readable(&socket).timeout(LONG).wait().await });
    unwinds_over(|| async {
        task_group!(|tg| {
            tg.spawn(pending::<()>());
        });
    });
    unwinds_over(|| bracket((), async |_| pending::<()>().await, async |()| ()));
}
