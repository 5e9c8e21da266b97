//! Trees inside a loop made by hand: what `Embed` promises to any loop.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use xiio::compat::Embed;
use xiio::inspect::ReportKind;
use xiio::io::Async;
use xiio::testing::Tester;
use xiio::{Condition, Promise, in_thread, sleep, task_group};
use xiio_tests::poll::OnWake;
use xiio_tests::{DropBomb, PollBomb, Reports, assert_panics};

const LONG: Duration = Duration::from_secs(30);

/// A waker that counts, and unparks the thread it was made on.
struct Counting {
    n_wakes: AtomicUsize,
    thread: Thread,
}

impl Counting {
    fn new() -> (Arc<Self>, Waker) {
        let counting = Arc::new(Self { n_wakes: AtomicUsize::new(0), thread: thread::current() });
        (Arc::clone(&counting), Waker::from(counting))
    }

    fn take(&self) -> usize {
        self.n_wakes.swap(0, SeqCst)
    }
}

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.n_wakes.fetch_add(1, SeqCst);
        self.thread.unpark();
    }
}

fn is_readable(descriptor: BorrowedFd<'_>) -> bool {
    // Asks without a runtime and without waiting.
    Condition::new().readable(descriptor).is_fulfilled().unwrap()
}

/// A group with a worker that has its first poll in a `run`, and has not ended there.
fn begun_group() -> Pin<Box<dyn Future<Output = ()>>> {
    let mut group = Box::pin(async {
        task_group!(workers = 1, |tg| {
            tg.workers().spawn(async || sleep(Duration::from_millis(1)).await).await;
        });
    });
    xiio::run(poll_fn(|cx| {
        assert!(group.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    }));
    group
}

#[test]
fn a_group_that_has_workers_of_a_run_says_that_it_cannot_go_on_in_a_foreign_loop() {
    let message = "a group with workers was polled first in a `run`, and now by a loop that does not let them in";
    assert_panics(&[message], || {
        let mut tree = Embed::new(begun_group()).unwrap();
        let _ = tree.turn(&mut Context::from_waker(Waker::noop()));
    });
}

#[test]
fn a_group_that_has_workers_of_a_run_goes_on_in_another_one_also_in_virtual_time() {
    xiio::run(begun_group());
    let group = RefCell::new(Some(begun_group()));
    Tester::new().virtual_time().run(|| group.take().unwrap());
}

#[test]
fn after_a_turn_the_descriptor_is_not_readable() {
    let pairs: Vec<_> = (0..600).map(|_| UnixStream::pair().unwrap()).collect();
    let (ours, theirs): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let mut tree = Embed::new(async {
        let ours: Vec<_> = ours.into_iter().map(|end| Async::new(end).unwrap()).collect();
        let read = |end: &Async<UnixStream>| {
            let end = end.get_ref().try_clone().unwrap();
            move |_: &UnixStream| (&end).read(&mut [0; 1])
        };
        for end in &ours {
            assert!(futures::poll!(std::pin::pin!(end.read_with(read(end)))).is_pending());
        }
        // All are registered, and nobody waits for them but for the last.
        let last = ours.last().unwrap();
        last.read_with(read(last)).await.unwrap();
    })
    .unwrap();
    let (wakes, waker) = Counting::new();
    let mut cx = Context::from_waker(&waker);
    assert!(tree.turn(&mut cx).is_pending());
    while wakes.take() > 0 {
        assert!(tree.turn(&mut cx).is_pending());
    }
    assert!(!is_readable(tree.descriptor()));
    for mut end in &theirs {
        end.write_all(b"x").unwrap();
    }
    assert!(is_readable(tree.descriptor()));
    for _ in 0..10 {
        if tree.turn(&mut cx).is_ready() {
            return;
        }
        assert!(wakes.take() > 0 || is_readable(tree.descriptor()), "nothing would bring the next turn");
    }
    panic!("it takes too many turns");
}

#[test]
fn two_trees_share_a_thread() {
    let (wakes, waker) = Counting::new();
    let mut cx = Context::from_waker(&waker);
    let tree = |number: u64| {
        Embed::new(async move {
            let mut sum = 0;
            for n in 0..20 {
                sum += in_thread(move || n * number).await;
                sleep(Duration::from_millis(number)).await;
            }
            sum
        })
        .unwrap()
    };
    let (mut one, mut two) = (tree(1), tree(2));
    let (mut sum_of_one, mut sum_of_two) = (None, None);
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < LONG);
        for (tree, sum) in [(&mut one, &mut sum_of_one), (&mut two, &mut sum_of_two)] {
            if sum.is_none()
                && let Poll::Ready(value) = tree.turn(&mut cx)
            {
                *sum = Some(value);
            }
        }
        if sum_of_one.is_some() && sum_of_two.is_some() {
            break;
        }
        if wakes.take() == 0 {
            let next = one.next_deadline().into_iter().chain(two.next_deadline()).min();
            let left = next.map_or(LONG, |next| next.saturating_duration_since(Instant::now()));
            thread::park_timeout(left);
        }
    }
    assert_eq!((sum_of_one, sum_of_two), (Some(190), Some(380)));
}

#[test]
fn a_tree_that_has_ended_keeps_no_wake_from_its_neighbour() {
    let (wakes, waker) = Counting::new();
    let promise = Promise::new();
    let wait = promise.wait();
    let mut waiting = Embed::new(async { task_group!(|tg| { tg.spawn(wait).await }) }).unwrap();
    assert!(waiting.turn(&mut Context::from_waker(&waker)).is_pending());
    let mut ending = Embed::new(async move {
        // This thread is in a turn, so it is not notified.
        thread::spawn(move || promise.set(7)).join().unwrap().unwrap();
    })
    .unwrap();
    assert!(ending.turn(&mut Context::from_waker(Waker::noop())).is_ready());
    assert!(wakes.take() > 0, "nothing would bring the next turn");
    assert_eq!(waiting.turn(&mut Context::from_waker(&waker)), Poll::Ready(7));
}

#[test]
fn a_loop_whose_waker_panics_keeps_no_wake_from_its_neighbour() {
    let promise = Promise::new();
    let waiting = || Embed::new(waits_in_a_task(promise.clone())).unwrap();
    let (mut first, mut second) = (waiting(), waiting());
    let panics = Waker::from(Arc::new(OnWake(|| panic!("in the waker"))));
    let (counting, counts) = Counting::new();
    assert!(first.turn(&mut Context::from_waker(&panics)).is_pending());
    assert!(second.turn(&mut Context::from_waker(&counts)).is_pending());
    thread::spawn(move || promise.set(7).unwrap()).join().unwrap();
    assert_eq!(counting.take(), 1);
    assert_eq!(second.turn(&mut Context::from_waker(&counts)), Poll::Ready(7));
}

async fn waits_in_a_task(promise: Promise<i32>) -> i32 {
    task_group!(|tg| { tg.spawn(promise.wait()).await })
}

#[test]
fn a_loop_whose_waker_panics_hears_of_a_panic_in_the_tree() {
    let reports = Reports::new();
    let panics = Waker::from(Arc::new(OnWake(|| panic!("in the waker"))));
    let mut tree = Embed::new(poll_fn(|cx| -> Poll<()> {
        cx.waker().wake_by_ref();
        panic!("in the tree")
    }))
    .unwrap();
    assert_panics(&["in the tree"], || tree.turn(&mut Context::from_waker(&panics)));
    reports.assert_one(ReportKind::LaterFailure, &["a waker panicked: in the waker"]);
}

#[test]
fn the_next_deadline_is_that_of_the_nearest_sleep() {
    let (_, waker) = Counting::new();
    let mut tree = Embed::new(async {
        task_group!(|tg| {
            tg.spawn(sleep(Duration::from_secs(3600)));
            tg.spawn(sleep(Duration::from_millis(20)));
        });
    })
    .unwrap();
    assert_eq!(tree.next_deadline(), None);
    let start = Instant::now();
    assert!(tree.turn(&mut Context::from_waker(&waker)).is_pending());
    let left = tree.next_deadline().unwrap() - start;
    assert!(left >= Duration::from_millis(20) && left < LONG, "{left:?}");
}

#[test]
fn a_turn_after_a_rest_has_the_time_of_a_turn() {
    // One that is held up in the middle is late.
    assert!((0..50).any(|_| n_polls_of_a_turn_after_a_rest() == 1));
}

/// How many polls a tree takes in which a promise wakes some tasks after a rest.
fn n_polls_of_a_turn_after_a_rest() -> u32 {
    let (_, waker) = Counting::new();
    let (promise, n_polls) = (Promise::<()>::new(), Cell::new(0));
    let mut tree = Embed::new(async {
        let mut group = pin!(async {
            task_group!(|tg| {
                tg.spawn(sleep(Duration::from_secs(3600)));
                for _ in 0..20 {
                    tg.spawn(promise.wait());
                }
            });
        });
        poll_fn(|cx| {
            n_polls.set(n_polls.get() + 1);
            group.as_mut().poll(cx)
        })
        .await;
    })
    .unwrap();
    let mut cx = Context::from_waker(&waker);
    assert!(tree.turn(&mut cx).is_pending());
    thread::sleep(Duration::from_millis(10));
    promise.set(()).unwrap();
    n_polls.set(0);
    assert!(tree.turn(&mut cx).is_pending());
    n_polls.get()
}

#[test]
fn a_turn_after_the_end_panics() {
    let (_, waker) = Counting::new();
    let mut cx = Context::from_waker(&waker);
    let mut tree = Embed::new(async { 7 }).unwrap();
    assert_eq!(tree.turn(&mut cx), Poll::Ready(7));
    let panic = catch_unwind(AssertUnwindSafe(|| tree.turn(&mut cx))).unwrap_err();
    assert_eq!(*panic.downcast_ref::<&str>().unwrap(), "a xiio tree took a turn after it had ended");
}

#[test]
fn a_tree_that_panics_is_dropped_outside_of_its_panic_and_has_ended() {
    let reports = Reports::new();
    let cx = &mut Context::from_waker(Waker::noop());
    let mut tree = Embed::new(PollBomb).unwrap();
    assert_panics(&["in the poll"], || tree.turn(cx));
    reports.assert_one(ReportKind::LaterFailure, &["a destructor panicked: in the destructor"]);
    assert_panics(&["took a turn after it had ended"], || tree.turn(cx));
}

#[test]
fn a_tree_whose_destructor_panics_lets_go_of_its_loop() {
    let (counting, waker) = Counting::new();
    let mut tree = Embed::new(async {
        let _bomb = DropBomb("in the destructor");
        pending::<()>().await;
    })
    .unwrap();
    assert!(tree.turn(&mut Context::from_waker(&waker)).is_pending());
    drop(waker);
    assert_panics(&["in the destructor"], || drop(tree));
    assert_eq!(Arc::strong_count(&counting), 1);
}

#[test]
fn the_descriptor_stays_the_same() {
    let (_, waker) = Counting::new();
    let mut tree = Embed::new(sleep(LONG)).unwrap();
    let descriptor = tree.descriptor().as_raw_fd();
    assert!(tree.turn(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(tree.descriptor().as_raw_fd(), descriptor);
}

#[test]
fn a_tree_dropped_inside_of_another_runtime_takes_only_its_own_things_with_it() {
    let (_, waker) = Counting::new();
    let mut tree = Embed::new(sleep(LONG)).unwrap();
    assert!(tree.turn(&mut Context::from_waker(&waker)).is_pending());
    let start = Instant::now();
    xiio::run(async {
        task_group!(|tg| {
            tg.spawn(sleep(Duration::from_millis(20)));
            xiio::yield_now().await;
            drop(tree);
        });
    });
    assert!(start.elapsed() < LONG);
    assert_eq!(xiio::run(in_thread(|| 7)), 7);
}

#[test]
fn a_waker_whose_destructor_frees_a_tree_may_be_dropped_by_a_leaf() {
    type Tree = Embed<std::future::Pending<()>>;
    thread_local! {
        static TREE: RefCell<Option<Tree>> = const { RefCell::new(None) };
    }
    struct FreesTheTree;
    impl Wake for FreesTheTree {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for FreesTheTree {
        fn drop(&mut self) {
            drop(TREE.take());
        }
    }
    let is_there = || TREE.with_borrow(Option::is_some);
    xiio::run(async {
        for changes_waker in [false, true] {
            TREE.set(Some(Embed::new(pending()).unwrap()));
            let mut sleep = Box::pin(sleep(LONG));
            let waker = Waker::from(Arc::new(FreesTheTree));
            assert!(sleep.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            drop(waker);
            assert!(is_there());
            if changes_waker {
                assert!(sleep.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            } else {
                drop(sleep);
            }
            assert!(!is_there());
        }
    });
}
