//! Trees on a thread of their own, whose future is polled in one place and then polled, dropped or kept in another.

use std::cell::OnceCell;
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use futures::FutureExt;
use futures::future::Shared;
use xiio::testing::Tester;
use xiio::{
    Builder, Promise, RunInThread, bracket, run_in_thread, shield, sleep, task_group, timeout, try_task_group,
    yield_now,
};
use xiio_tests::{LONG, Reports, assert_panics, cancel_when, millis, panic_text, poll, run};

/// More than any test here should take.
const PATIENCE: Duration = Duration::from_secs(30);

type Tree = Pin<Box<RunInThread<()>>>;

/// A tree that waits for ever, and whose cleanup waits until it may go on; what it says meanwhile.
struct Slow {
    tree: Tree,
    begun: Promise<()>,
    cleans: mpsc::Receiver<()>,
    go_on: Promise<()>,
    cleaned: mpsc::Receiver<()>,
}

fn slow() -> Slow {
    let (begun, go_on) = (Promise::new(), Promise::new());
    let (begin, may_go_on) = (begun.clone(), go_on.clone());
    let ((clean, cleans), (end, cleaned)) = (mpsc::channel(), mpsc::channel());
    let tree = run_in_thread(async move || {
        let waiting = async |_: &mut ()| {
            begin.set(()).unwrap();
            sleep(LONG).await;
        };
        bracket((), waiting, async |()| {
            // Nobody may listen any more.
            let _ = clean.send(());
            may_go_on.wait().await;
            let _ = end.send(());
        })
        .await;
    });
    Slow { tree: Box::pin(tree), begun, cleans, go_on, cleaned }
}

/// A tree that waits for ever, and cleans up at once.
fn lasting() -> Tree {
    let Slow { tree, go_on, .. } = slow();
    go_on.set(()).unwrap();
    tree
}

/// A future that any thread may poll, and any thread may take away.
#[derive(Clone)]
struct Slot(Arc<Mutex<Option<Tree>>>);

impl Slot {
    fn new(tree: Tree) -> Self {
        Self(Arc::new(Mutex::new(Some(tree))))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Tree>> {
        self.0.lock().unwrap()
    }

    /// Waits for what is in it, for ever once that was taken.
    async fn wait(&self) {
        poll_fn(|cx| self.lock().as_mut().map_or(Poll::Pending, |tree| tree.as_mut().poll(cx))).await;
    }

    fn take(&self) -> Tree {
        self.lock().take().unwrap()
    }
}

/// Polls a tree once, has another thread drop it, and waits for ever.
async fn lose(mut tree: Tree, lost: &Promise<()>) {
    assert_eq!(poll::once(tree.as_mut()).await, None);
    elsewhere(move || drop(tree));
    lost.set(()).unwrap();
    pending::<()>().await;
}

fn elsewhere<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join().unwrap())
}

#[test]
fn dropped_elsewhere_it_is_nothing_to_wait_for_or_to_report_when_its_task_is_cancelled() {
    let reports = Reports::new();
    let lost = Promise::new();
    assert_eq!(run(cancel_when(&lost, lose(lasting(), &lost))), None);
    reports.assert_none();
}

#[test]
fn dropped_elsewhere_it_is_nothing_to_wait_for_when_time_is_up() {
    let reports = Reports::new();
    assert!(run(timeout(millis(1), lose(lasting(), &Promise::new()))).is_err());
    reports.assert_none();
}

#[test]
fn dropped_elsewhere_it_is_nothing_to_wait_for_when_a_sibling_fails() {
    let reports = Reports::new();
    let failed: Result<(), u32> = run(async {
        let lost = Promise::new();
        try_task_group!(|tg| {
            tg.spawn(async {
                lose(lasting(), &lost).await;
                Ok(())
            });
            tg.spawn(async {
                lost.wait().await;
                Err::<(), _>(7)
            });
        })
    });
    assert_eq!(failed, Err(7));
    reports.assert_none();
}

/// Takes a tree away while the task that waits for it cleans up, and does with it what is asked for. Gives what `home` does, which is given
/// the slot and what is set once the tree has begun.
fn take_in_the_middle_of_the_cleanup<R>(
    then: impl FnOnce(Tree) + Send,
    home: impl FnOnce(&Slot, &Promise<()>) -> R,
) -> R {
    let reports = Reports::new();
    let Slow { tree, begun, cleans, go_on, cleaned } = slow();
    let slot = Slot::new(tree);
    let result = thread::scope(|scope| {
        let taken = slot.clone();
        scope.spawn(move || {
            cleans.recv_timeout(PATIENCE).unwrap();
            then(taken.take());
        });
        home(&slot, &begun)
    });
    assert!(cleaned.try_recv().is_err(), "whoever holds it no more waits for it no more");
    go_on.set(()).unwrap();
    cleaned.recv_timeout(PATIENCE).unwrap();
    reports.assert_none();
    result
}

#[test]
fn dropped_elsewhere_in_the_middle_of_its_cleanup_it_wakes_who_waits_for_that() {
    let ended = take_in_the_middle_of_the_cleanup(drop, |slot, begun| run(cancel_when(begun, slot.wait())));
    assert_eq!(ended, None);
}

#[test]
fn dropped_elsewhere_it_wakes_a_group_that_a_foreign_executor_polls() {
    let ended = take_in_the_middle_of_the_cleanup(drop, |slot, begun| {
        run(async { futures::executor::block_on(cancel_when(begun, slot.wait())) })
    });
    assert_eq!(ended, None);
}

#[test]
fn dropped_elsewhere_it_wakes_a_limit_of_time_that_nobody_else_will_wake() {
    let late = take_in_the_middle_of_the_cleanup(drop, |slot, begun| {
        run(async {
            let mut waiting = pin!(slot.wait());
            assert_eq!(poll::once(waiting.as_mut()).await, None);
            begun.wait().await;
            timeout(millis(1), waiting).await
        })
    });
    assert!(late.is_err());
}

#[test]
fn dropped_elsewhere_it_wakes_the_worker_whose_task_waited() {
    take_in_the_middle_of_the_cleanup(drop, |slot, begun| {
        run(async {
            task_group!(workers = 1, |tg| {
                tg.workers().spawn(async || slot.wait().await);
                begun.wait().await;
                tg.cancel();
            });
        });
    });
}

#[test]
fn the_task_of_a_worker_that_has_lost_one_ends_when_it_is_cancelled() {
    let reports = Reports::new();
    run(async {
        let lost = Promise::new();
        task_group!(workers = 2, |tg| {
            let lost = &lost;
            tg.workers().spawn(async move || lose(lasting(), lost).await);
            lost.wait().await;
            tg.cancel();
        });
    });
    reports.assert_none();
}

#[test]
fn awaited_elsewhere_in_the_middle_of_its_cleanup_it_says_so_there_and_the_one_who_cancelled_goes_on() {
    let (tell, told) = mpsc::channel();
    let awaited = move |tree| {
        let text = panic_text(|| futures::executor::block_on(tree));
        tell.send(text).unwrap();
    };
    let ended = take_in_the_middle_of_the_cleanup(awaited, |slot, begun| run(cancel_when(begun, slot.wait())));
    assert_eq!(ended, None);
    let text = told.recv().unwrap();
    assert!(text.contains("`run_in_thread`") && text.contains("cancel"), "{text}");
}

#[test]
fn awaited_elsewhere_it_is_not_cancelled_with_the_task_that_polled_it_first() {
    let reports = Reports::new();
    let (go, polled) = (Promise::new(), Promise::new());
    let (told, tell) = (go.clone(), polled.clone());
    let mut tree = Box::pin(run_in_thread(async move || {
        told.wait().await;
        7
    }));
    let value = run(async {
        let (hand_over, handed_over) = mpsc::channel();
        let awaiting = thread::spawn(move || {
            futures::executor::block_on(async {
                let mut tree: Pin<Box<RunInThread<i32>>> = handed_over.recv().unwrap();
                assert_eq!(poll::once(tree.as_mut()).await, None);
                tell.set(()).unwrap();
                tree.await
            })
        });
        let task = async {
            assert_eq!(poll::once(tree.as_mut()).await, None);
            hand_over.send(tree).unwrap();
            pending::<()>().await;
        };
        assert_eq!(cancel_when(&polled, task).await, None);
        go.set(()).unwrap();
        awaiting.join().unwrap()
    });
    assert_eq!(value, 7);
    reports.assert_none();
}

#[test]
fn shared_with_another_thread_it_goes_on_there_when_a_task_that_shares_it_is_cancelled() {
    let reports = Reports::new();
    let (go, polled) = (Promise::new(), Promise::new());
    let (told, tell) = (go.clone(), polled.clone());
    let tree = run_in_thread(async move || {
        told.wait().await;
        7
    });
    let shared = tree.shared();
    let value = run(async {
        let (mut here, there) = (shared.clone(), shared);
        let handle = OnceCell::new();
        let task = async {
            assert_eq!(poll::once(Pin::new(&mut here)).await, None);
            let awaiting = thread::spawn(move || {
                futures::executor::block_on(async {
                    let mut there = there;
                    assert_eq!(poll::once(Pin::new(&mut there)).await, None);
                    tell.set(()).unwrap();
                    there.await
                })
            });
            handle.set(awaiting).unwrap();
            pending::<()>().await;
            drop(here);
        };
        assert_eq!(cancel_when(&polled, task).await, None);
        go.set(()).unwrap();
        handle.into_inner().unwrap().join().unwrap()
    });
    assert_eq!(value, 7);
    reports.assert_none();
}

#[test]
fn to_another_tree_and_back_it_is_waited_for_where_it_is() {
    let reports = Reports::new();
    let Slow { tree, begun, cleans, go_on, cleaned } = slow();
    go_on.set(()).unwrap();
    let there_and_back = |mut tree: Tree| {
        let reports = Reports::new();
        run(async { assert_eq!(poll::once(tree.as_mut()).await, None) });
        reports.assert_none();
        tree
    };
    let task = async {
        let mut tree = tree;
        for _ in 0..2 {
            assert_eq!(poll::once(tree.as_mut()).await, None);
            tree = elsewhere(|| there_and_back(tree));
        }
        tree.await;
    };
    assert_eq!(run(cancel_when(&begun, task)), None);
    assert!(cleans.try_recv().is_ok() && cleaned.try_recv().is_ok(), "it was waited for");
    reports.assert_none();
}

#[test]
fn a_task_that_has_lost_one_is_deadlocked() {
    assert_panics(&["deadlock"], || {
        Builder::new().detect_deadlock(millis(20)).run(async {
            let mut tree = lasting();
            assert_eq!(poll::once(tree.as_mut()).await, None);
            // Whether it is dropped before this thread sleeps or after: both end the wait.
            let lost = thread::spawn(move || drop(tree));
            pending::<()>().await;
            lost.join().unwrap();
        });
    });
}

#[test]
fn a_deadlock_is_seen_in_the_run_after_one_that_has_lost_its_tree() {
    let mut tree = lasting();
    run(async { assert_eq!(poll::once(tree.as_mut()).await, None) });
    elsewhere(move || drop(tree));
    assert_panics(&["deadlock"], || Builder::new().detect_deadlock(millis(20)).run(pending::<()>()));
}

/// The moment in which it might be is short, so it is tried often.
#[test]
fn a_task_that_loses_one_in_the_middle_of_its_cleanup_is_at_no_moment_deadlocked() {
    for _ in 0..300 {
        let ended = take_in_the_middle_of_the_cleanup(drop, |slot, begun| {
            Builder::new().detect_deadlock(Duration::ZERO).run(cancel_when(begun, slot.wait()))
        });
        assert_eq!(ended, None);
    }
}

/// Has another thread end a tree that this one waits for too, and tell this one of it a moment later: between the two nothing
/// that the runtime knows of can wake any task.
async fn hear_late_of_the_end() {
    let go = Promise::new();
    let told = go.clone();
    let mut tree = Box::pin(run_in_thread(async move || told.wait().await));
    assert_eq!(poll::once(tree.as_mut()).await, None);
    let (tell, ended) = futures::channel::oneshot::channel();
    let ending = thread::spawn(move || {
        futures::executor::block_on(tree);
        // As a thread that the system has taken off its processor.
        thread::sleep(millis(5));
        tell.send(()).unwrap();
    });
    go.set(()).unwrap();
    ended.await.unwrap();
    ending.join().unwrap();
}

#[test]
fn ended_elsewhere_it_has_a_moment_to_wake_who_shares_it_before_that_is_a_deadlock() {
    Builder::new().detect_deadlock(Duration::ZERO).run(hear_late_of_the_end());
}

#[test]
fn ended_elsewhere_it_has_a_moment_to_wake_who_shares_it_before_virtual_time_goes_on() {
    Tester::new().virtual_time().slow_poll(None).run(async || {
        let heard = timeout(LONG, hear_late_of_the_end()).await;
        assert!(heard.is_ok(), "time has run ahead of it");
    });
}

#[test]
fn a_deadlock_after_the_end_elsewhere_is_still_found() {
    assert_panics(&["deadlock"], || {
        Builder::new().detect_deadlock(Duration::ZERO).run(async {
            hear_late_of_the_end().await;
            pending::<()>().await;
        });
    });
}

#[test]
fn virtual_time_runs_ahead_once_it_was_dropped_elsewhere() {
    Tester::new().virtual_time().slow_poll(None).run(async || {
        let mut tree = lasting();
        assert_eq!(poll::once(tree.as_mut()).await, None);
        elsewhere(move || drop(tree));
        sleep(LONG).await;
    });
}

#[test]
fn a_task_that_loses_one_after_the_other_keeps_nothing_of_them() {
    let waker = Arc::new(poll::CountWakes::default());
    run(async {
        for _ in 0..50 {
            let mut tree = lasting();
            assert!(poll::with(&waker, tree.as_mut()).is_pending());
            elsewhere(move || drop(tree));
        }
        assert!(Arc::strong_count(&waker) < 5, "{} wakers are kept", Arc::strong_count(&waker));
    });
}

/// A tree for two that share it. When it has begun, and may clean up; and whether it has.
fn for_two() -> (Shared<RunInThread<()>>, Promise<()>, Promise<()>, Arc<AtomicBool>) {
    let cleaned = Arc::new(AtomicBool::new(false));
    let (begun, cleans, all_cleaned) = (Promise::new(), Promise::new(), Arc::clone(&cleaned));
    let (begin, may_clean) = (begun.clone(), cleans.clone());
    let tree = run_in_thread(async move || {
        begin.set(()).unwrap();
        let cleanup = async {
            may_clean.wait().await;
            sleep(millis(30)).await;
            all_cleaned.store(true, SeqCst);
        };
        shield(cleanup).await;
    });
    (tree.shared(), begun, cleans, cleaned)
}

/// The one that is cancelled first holds something else, and the one that has polled the tree last nothing.
#[test]
fn shared_by_two_that_are_cancelled_it_is_waited_for() {
    let (shared, begun, cleans, cleaned) = for_two();
    run(async {
        task_group!(|tg| {
            let (one, two) = (shared.clone(), shared);
            tg.spawn(async {
                let cleanup = async {
                    sleep(Duration::from_millis(20)).await;
                    cleans.set(()).unwrap();
                };
                futures::join!(one, shield(cleanup));
            });
            begun.wait().await;
            tg.spawn(two);
            yield_now().await;
            tg.cancel();
        });
        assert!(cleaned.load(SeqCst), "the tree is not waited for");
    });
}

/// Between the cancellation and the end of that very poll nothing goes on.
#[test]
fn polled_by_code_that_has_cancelled_itself_it_is_waited_for() {
    let (shared, begun, cleans, cleaned) = for_two();
    run(async {
        task_group!(|outer| {
            outer.spawn(async {
                task_group!(|tg| {
                    let (one, two) = (shared.clone(), shared);
                    tg.spawn(one);
                    begun.wait().await;
                    let cancels = async {
                        outer.cancel();
                        cleans.set(()).unwrap();
                    };
                    futures::join!(cancels, two);
                });
            });
        });
        assert!(cleaned.load(SeqCst), "the tree is not waited for");
    });
}

/// Two that share a tree, the first of which is cancelled while it awaits it; what becomes of the other.
fn cancel_one_of_two<F: Future<Output = u32>>(await_it: impl Fn(Shared<RunInThread<u32>>) -> F) -> u32 {
    let (begun, go) = (Promise::new(), Promise::new());
    let (begin, may_go) = (begun.clone(), go.clone());
    let shared = run_in_thread(async move || {
        begin.set(()).unwrap();
        may_go.wait().await;
        7
    })
    .shared();
    run(async {
        task_group!(|tg| {
            let first = tg.spawn(await_it(shared.clone()));
            begun.wait().await;
            let cancelled = first.canceller();
            tg.spawn(async move {
                cancelled.cancel();
                go.set(()).unwrap();
            });
            assert!(first.outcome().await.is_err());
            await_it(shared).await
        })
    })
}

#[test]
fn cancelled_with_one_of_those_who_share_it_it_says_so_to_the_others() {
    assert_panics(&["`run_in_thread`", "who awaited it", "cancelled", "`shield`"], || {
        cancel_one_of_two(|shared| shared);
    });
}

#[test]
fn shared_under_shields_it_goes_on_for_the_others() {
    assert_eq!(cancel_one_of_two(shield), 7);
}
