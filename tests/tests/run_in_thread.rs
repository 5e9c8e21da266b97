//! Trees on a thread of their own, awaited from xiio, from tokio and from nothing.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, mpsc};
use std::thread::{self, ThreadId};
use std::time::Duration;

use xiio::inspect::{Kind, tree};
use xiio::testing::Tester;
use xiio::{Promise, RunInThread, bracket, gather, in_thread, run_in_thread, shield, sleep, task_group, timeout};
use xiio_tests::{LONG, cancel_when, poll, run};

/// More than any test here should take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A tree that waits for ever and cleans up on its thread, with awaits; what it says, and when.
struct Cleaning {
    tree: RunInThread<()>,
    begun: Promise<()>,
    cleaned: mpsc::Receiver<ThreadId>,
}

fn cleaning() -> Cleaning {
    let begun = Promise::new();
    let (begin, (clean, cleaned)) = (begun.clone(), mpsc::channel());
    let tree = run_in_thread(async move || {
        // Not `Send`: what is made there stays there.
        let alone = Rc::new(Cell::new(0));
        task_group!(|tg| {
            tg.spawn(bracket(
                (),
                async |()| {
                    begin.set(()).unwrap();
                    sleep(LONG).await;
                },
                async |()| {
                    assert!(xiio::thread::is_cancelled());
                    sleep(Duration::from_millis(20)).await;
                    alone.set(1);
                    clean.send(thread::current().id()).unwrap();
                },
            ));
        });
        unreachable!("cancelled code ran on");
    });
    Cleaning { tree, begun, cleaned }
}

const _: fn() = || {
    fn assert_send<T: Send>(_: T) {}
    assert_send(run_in_thread(async || Cell::new(0)));
};

#[test]
fn workers_borrow_what_was_moved_in_and_it_comes_back() {
    let words = vec!["several".to_string(), "cores".to_string()];
    let at = words.as_ptr();
    let (words, lengths) = run(run_in_thread(async move || {
        let mut lengths = [0; 2];
        task_group!(workers = 2, |tg| {
            for (word, length) in words.iter().zip(&mut lengths) {
                tg.workers().spawn(async || *length = word.len());
            }
        });
        (words, lengths)
    }));
    assert_eq!((words.as_ptr(), lengths), (at, [7, 5]));
}

#[test]
fn a_tree_inside_a_foreign_loop_has_workers_there() {
    // In a foreign loop a group has none, so tasks that wait for each other on the spot would hang.
    let tree = run_in_thread(async || {
        let barrier = Barrier::new(2);
        task_group!(workers = 2, |tg| {
            tg.workers().spawn(async || barrier.wait().is_leader());
            tg.workers().spawn(async || barrier.wait().is_leader());
        });
        7
    });
    assert_eq!(futures::executor::block_on(tree), 7);
}

#[test]
fn who_cancels_waits_for_the_cleanup_over_there() {
    let Cleaning { tree, begun, cleaned } = cleaning();
    assert_eq!(run(cancel_when(&begun, tree)), None);
    assert_ne!(cleaned.try_recv().expect("it was waited for"), thread::current().id());
}

#[test]
fn a_limit_of_time_over_it_waits_for_the_cleanup_as_well() {
    let Cleaning { mut tree, begun, cleaned } = cleaning();
    let late = run(async {
        // Begun before the limit is: on a busy machine it might not be in time.
        assert_eq!(poll::once(Pin::new(&mut tree)).await, None);
        begun.wait().await;
        timeout(Duration::from_millis(1), tree).await
    });
    assert!(late.is_err());
    assert!(cleaned.try_recv().is_ok());
}

#[test]
fn a_shield_over_there_ends_first() {
    let begun = Promise::new();
    let n_steps = Arc::new(AtomicUsize::new(0));
    let (begin, steps) = (begun.clone(), Arc::clone(&n_steps));
    let tree = run_in_thread(async move || {
        shield(async {
            begin.set(()).unwrap();
            sleep(Duration::from_millis(20)).await;
            steps.fetch_add(1, SeqCst);
        })
        .await;
        sleep(LONG).await;
        steps.fetch_add(1, SeqCst);
    });
    assert_eq!(run(cancel_when(&begun, tree)), None);
    assert_eq!(n_steps.load(SeqCst), 1);
}

#[test]
fn siblings_go_on_while_a_cancelled_tree_cleans_up() {
    let begun = Promise::new();
    let begin = begun.clone();
    let go_on = Promise::new();
    let let_go = go_on.clone();
    run(async {
        task_group!(|tg| {
            let tree = run_in_thread(async move || {
                bracket(
                    (),
                    async |()| {
                        begin.set(()).unwrap();
                        sleep(LONG).await;
                    },
                    async |()| go_on.wait().await,
                )
                .await;
            });
            let task = tg.spawn(tree);
            begun.wait().await;
            tg.spawn(async {
                sleep(Duration::from_millis(10)).await;
                let_go.set(()).unwrap();
            });
            assert_eq!(task.cancel().await, None);
        });
    });
}

#[test]
fn cancelled_before_its_first_poll_it_never_begins() {
    let (dropped, is_dropped) = mpsc::channel::<()>();
    let tree = run_in_thread(async move || dropped.send(()).unwrap());
    run(async {
        task_group!(|tg| {
            tg.spawn(tree);
            tg.cancel();
        });
    });
    assert_eq!(is_dropped.try_recv(), Err(mpsc::TryRecvError::Disconnected));
}

#[test]
fn dropped_by_foreign_code_it_cleans_up_and_nobody_waits() {
    let Cleaning { tree, begun, cleaned } = cleaning();
    run(async {
        futures::future::select(Box::pin(tree), begun.wait()).await;
    });
    cleaned.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn a_run_that_panics_beside_one_leaves_it_to_clean_up() {
    let Cleaning { tree, begun, cleaned } = cleaning();
    let ended = catch_unwind(AssertUnwindSafe(|| {
        run(async {
            let mut tree = pin!(tree);
            assert_eq!(poll::once(tree.as_mut()).await, None);
            begun.wait().await;
            panic!("the root");
        });
    }));
    assert_eq!(*ended.unwrap_err().downcast_ref::<&str>().unwrap(), "the root");
    cleaned.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn one_that_outlives_its_run_goes_on_until_it_is_dropped() {
    let Cleaning { tree, begun, cleaned } = cleaning();
    let mut tree = Box::pin(tree);
    run(async {
        assert_eq!(poll::once(tree.as_mut()).await, None);
        begun.wait().await;
    });
    assert!(cleaned.try_recv().is_err());
    drop(tree);
    cleaned.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn leaked_after_one_poll_it_runs_on_with_what_it_owns() {
    let go = Promise::new();
    let (told, (tell, said)) = (go.clone(), mpsc::channel());
    let text = String::from("owned");
    run(async {
        let tree = run_in_thread(async move || {
            told.wait().await;
            tell.send(text).unwrap();
        });
        assert_eq!(poll::once(Pin::new(poll::leak(tree))).await, None);
    });
    go.set(()).unwrap();
    assert_eq!(said.recv_timeout(PATIENCE).unwrap(), "owned");
}

#[test]
fn panic_is_thrown_at_the_await_with_its_payload() {
    #[derive(Debug, PartialEq)]
    struct Own(u32);
    let thrown = run(async {
        let tree = run_in_thread(async || {
            task_group!(|tg| {
                tg.spawn(async { std::panic::panic_any(Own(7)) });
            });
        });
        xiio::catch_panic(tree).await.unwrap_err()
    });
    assert_eq!(thrown.into_payload().downcast_ref::<Own>(), Some(&Own(7)));
    assert_eq!(run(run_in_thread(async || 7)), 7);
}

#[test]
fn panic_of_a_cleanup_over_there_is_thrown_when_all_have_cleaned_up() {
    let begun = Promise::new();
    let begin = begun.clone();
    let cancelled = || {
        run(async {
            let tree = run_in_thread(async move || {
                let waiting = async |_: &mut ()| {
                    begin.set(()).unwrap();
                    sleep(LONG).await;
                };
                bracket((), waiting, async |()| panic!("in the cleanup")).await;
            });
            cancel_when(&begun, tree).await
        })
    };
    let payload = catch_unwind(AssertUnwindSafe(cancelled)).unwrap_err();
    assert_eq!(*payload.downcast_ref::<&str>().unwrap(), "in the cleanup");
}

/// Says on which thread it is dropped, and panics.
struct Bomb(mpsc::Sender<ThreadId>);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.send(thread::current().id()).unwrap();
        panic!("in a destructor");
    }
}

/// A tree, what is set once it has begun, and what it waits for before it comes to its value. It blocks, so that this is in the poll in
/// which it is dropped or cancelled.
fn bomb_when_released(tell: mpsc::Sender<ThreadId>) -> (RunInThread<Bomb>, Promise<()>, mpsc::Sender<()>) {
    let begun = Promise::new();
    let begin = begun.clone();
    let (release, released) = mpsc::channel();
    let tree = run_in_thread(async move || {
        begin.set(()).unwrap();
        released.recv().unwrap();
        Bomb(tell)
    });
    (tree, begun, release)
}

#[test]
fn a_value_that_nobody_wants_is_dropped_over_there_and_may_panic() {
    let (tell, dropped) = mpsc::channel();
    let (tree, begun, release) = bomb_when_released(tell);
    run(async {
        futures::future::select(Box::pin(tree), begun.wait()).await;
    });
    release.send(()).unwrap();
    assert_ne!(dropped.recv_timeout(PATIENCE).unwrap(), thread::current().id());
    assert_eq!(run(run_in_thread(async || 7)), 7);
}

#[test]
fn a_value_that_comes_too_late_is_dropped_by_who_has_cancelled_with_its_panic() {
    let (tell, dropped) = mpsc::channel();
    let (tree, begun, release) = bomb_when_released(tell);
    let cancelled = || {
        run(async {
            task_group!(|tg| {
                let task = tg.spawn(tree);
                begun.wait().await;
                let cancelled = task.cancel();
                release.send(()).unwrap();
                cancelled.await.is_none()
            })
        })
    };
    let payload = catch_unwind(AssertUnwindSafe(cancelled)).unwrap_err();
    assert_eq!(*payload.downcast_ref::<&str>().unwrap(), "in a destructor");
    assert_eq!(dropped.recv_timeout(PATIENCE), Ok(thread::current().id()));
}

#[test]
fn many_at_once_have_a_thread_each() {
    const N_TREES: usize = 200;
    let barrier = Arc::new(Barrier::new(N_TREES));
    let trees = (0..N_TREES).map(|number| {
        let barrier = Arc::clone(&barrier);
        run_in_thread(async move || {
            // All of them, or none.
            barrier.wait();
            number
        })
    });
    assert_eq!(run(gather(trees)), (0..N_TREES).collect::<Vec<_>>());
}

#[test]
fn they_take_no_place_from_thread_jobs() {
    run(async {
        task_group!(|tg| {
            // More than the shared pool has.
            let begun: Vec<Promise<()>> = (0..33).map(|_| Promise::new()).collect();
            for begun in begun.clone() {
                tg.spawn(run_in_thread(async move || {
                    begun.set(()).unwrap();
                    sleep(LONG).await;
                }));
            }
            for begun in &begun {
                begun.wait().await;
            }
            assert_eq!(in_thread(|| 7).await, 7);
            tg.cancel();
        });
    });
}

#[test]
fn one_opens_another_and_a_cancellation_reaches_both() {
    let Cleaning { tree, begun, cleaned } = cleaning();
    let outer = run_in_thread(async move || {
        let here = thread::current().id();
        tree.await;
        here
    });
    assert_eq!(run(cancel_when(&begun, outer)), None);
    assert!(cleaned.try_recv().is_ok(), "both were waited for");
}

#[test]
fn a_task_of_a_worker_awaits_one() {
    let sum = AtomicUsize::new(0);
    run(async {
        task_group!(workers = 2, |tg| {
            for number in 0..8 {
                let sum = &sum;
                tg.workers().spawn(async move || {
                    let value = run_in_thread(async move || {
                        xiio::yield_now().await;
                        number
                    });
                    sum.fetch_add(value.await, SeqCst);
                });
            }
        });
    });
    assert_eq!(sum.into_inner(), 28);
}

#[test]
fn a_group_of_workers_that_is_cancelled_waits_for_trees_of_its_tasks() {
    let Cleaning { tree, begun, cleaned } = cleaning();
    run(async {
        task_group!(workers = 1, |tg| {
            tg.workers().spawn(async move || tree.await);
            begun.wait().await;
            tg.cancel();
        });
    });
    assert!(cleaned.try_recv().is_ok());
}

#[test]
fn values_of_the_task_go_along_if_they_can() {
    xiio::local! {
        static REQUEST: u32;
        static AT_HOME: Rc<u32>;
    }
    let found = run(REQUEST.scope(
        7,
        AT_HOME.scope(Rc::new(8), async {
            run_in_thread(async || (REQUEST.get(), AT_HOME.try_with(|_| ()).is_ok())).await
        }),
    ));
    assert_eq!(found, (7, false));
}

#[test]
fn tasks_of_a_runtime_of_several_threads_await_them() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let sum = runtime.block_on(async {
        let trees: Vec<_> = (0..50)
            .map(|n| {
                tokio::spawn(run_in_thread(async move || {
                    sleep(Duration::from_millis(n % 5)).await;
                    n
                }))
            })
            .collect();
        let mut sum = 0;
        for tree in trees {
            sum += tree.await.unwrap();
        }
        sum
    });
    assert_eq!(sum, 1225);
}

#[test]
fn a_task_of_tokio_that_is_aborted_has_its_tree_clean_up() {
    let Cleaning { tree, begun, cleaned } = cleaning();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let task = tokio::spawn(tree);
        begun.wait().await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    });
    cleaned.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn polled_in_a_tree_and_then_elsewhere_it_still_ends() {
    let go = Promise::new();
    let told = go.clone();
    let mut tree = Box::pin(run_in_thread(async move || {
        told.wait().await;
        7
    }));
    run(async {
        assert_eq!(poll::once(tree.as_mut()).await, None);
    });
    let elsewhere = thread::spawn(move || {
        go.set(()).unwrap();
        futures::executor::block_on(tree)
    });
    assert_eq!(elsewhere.join().unwrap(), 7);
}

#[test]
fn time_that_is_virtual_here_is_not_over_there() {
    Tester::new().virtual_time().slow_poll(None).run(async || {
        let begun = std::time::Instant::now();
        let late = timeout(PATIENCE, run_in_thread(async || sleep(Duration::from_millis(20)).await)).await;
        assert!(late.is_ok(), "virtual time has run ahead");
        assert!(begun.elapsed() >= Duration::from_millis(20));
    });
}

#[test]
fn cancelled_at_each_await_nothing_is_left() {
    Tester::new().cancel_everywhere().run(async || {
        let value = run_in_thread(async || {
            xiio::yield_now().await;
            7
        });
        assert_eq!(value.await, 7);
    });
}

#[test]
fn the_tree_shows_where_it_is_awaited() {
    run(async {
        let (begun, go) = (Promise::new(), Promise::new());
        let (begin, may_go) = (begun.clone(), go.clone());
        let line = line!() + 1;
        let awaited = run_in_thread(async move || {
            begin.set(()).unwrap();
            may_go.wait().await;
        });
        task_group!(|tg| {
            tg.spawn(awaited);
            begun.wait().await;
            let drawn = tree().await;
            let (_, node) = drawn.nodes().find(|(_, node)| node.kind() == Kind::Thread).expect("it is drawn");
            assert_eq!(node.what(), "run_in_thread");
            let made_at = node.spawned_at().unwrap();
            assert_eq!((made_at.file(), made_at.line()), (file!(), line));
            go.set(()).unwrap();
        });
    });
}

#[test]
fn a_poll_after_the_end_says_what_is_wrong() {
    let mut tree = pin!(run_in_thread(async || 7));
    assert_eq!(futures::executor::block_on(tree.as_mut()), 7);
    let again = catch_unwind(AssertUnwindSafe(|| futures::executor::block_on(tree)));
    let text = again.unwrap_err();
    assert!(text.downcast_ref::<String>().unwrap().contains("run_in_thread"));
}
