//! Groups with workers, leaked, dropped, cancelled and nested, while their tasks touch what they borrow. To be run under
//! `AddressSanitizer` and `ThreadSanitizer`. Built with `--cfg xiio_without_permits` the workers enter whenever they like; then
//! either must complain.

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::mem::forget;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use xiio::{Workers, bracket, catch_panic, join, run, sleep, task_group, timeout, yield_now};
use xiio_tests::random::{Draw, number};

/// How often each attack is made.
const N_ROUNDS: usize = 40;

type AnyFuture<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Data that shows when it is read or written after its end.
struct Data {
    text: String,
    count: AtomicUsize,
}

impl Data {
    fn new(round: usize) -> Self {
        Self { text: format!("round {round}"), count: AtomicUsize::new(0) }
    }

    fn touch(&self) {
        assert!(self.text.starts_with("round"), "{:?}", self.text);
        self.count.fetch_add(1, SeqCst);
    }
}

/// A task that touches what it borrows, at each poll and when it is dropped, and leaves wakers around.
async fn touch_for_ever(data: &Data, wakers: &'static Mutex<Vec<Waker>>) {
    struct AtEnd<'a>(&'a Data);
    impl Drop for AtEnd<'_> {
        fn drop(&mut self) {
            self.0.touch();
        }
    }
    let _at_end = AtEnd(data);
    let alone = Rc::new(Cell::new(0));
    poll_fn(|cx| {
        // Tried only: `ThreadSanitizer` does not see how the lock of `std` is handed over to whoever waits for it.
        if let Ok(mut wakers) = wakers.try_lock()
            && wakers.len() < 1000
        {
            wakers.push(cx.waker().clone());
        }
        Poll::Ready(())
    })
    .await;
    loop {
        data.touch();
        alone.set(alone.get() + 1);
        match alone.get() % 8 {
            0 => sleep(Duration::from_micros(100)).await,
            _ => yield_now().await,
        }
    }
}

/// A group of tasks that never end.
async fn busy_group(data: &Data, workers: usize, wakers: &'static Mutex<Vec<Waker>>) {
    task_group!(workers = workers, |tg| {
        for _ in 0..4 {
            tg.workers().spawn(async || touch_for_ever(data, wakers).await);
        }
        tg.spawn(touch_for_ever(data, wakers));
    });
}

/// Polls a future for some time.
async fn poll_for(duration: Duration, future: &mut AnyFuture<'_>) {
    let until = Instant::now() + duration;
    let mut soon = std::pin::pin!(sleep(duration));
    poll_fn(|cx| {
        let ended = soon.as_mut().poll(cx).is_ready() || Instant::now() >= until;
        if future.as_mut().poll(cx).is_ready() || ended { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

fn wake_all(wakers: &Mutex<Vec<Waker>>) {
    let taken = wakers.try_lock().map(|mut wakers| std::mem::take(&mut *wakers));
    taken.into_iter().flatten().for_each(Waker::wake);
}

#[test]
fn leaked_groups_touch_nothing_any_more() {
    static WAKERS: Mutex<Vec<Waker>> = Mutex::new(Vec::new());
    run(async {
        for round in 0..N_ROUNDS {
            let data = Box::new(Data::new(round));
            let mut group: AnyFuture<'_> = Box::pin(busy_group(&data, 1 + round % 3, &WAKERS));
            poll_for(Duration::from_micros(500 * (round as u64 % 8)), &mut group).await;
            forget(group);
            let n_touched = data.count.load(SeqCst);
            wake_all(&WAKERS);
            sleep(Duration::from_micros(300)).await;
            assert_eq!(data.count.load(SeqCst), n_touched);
            drop(data);
            sleep(Duration::from_micros(300)).await;
        }
    });
}

#[test]
fn what_a_leaked_group_borrowed_for_writing_is_home_s_again() {
    run(async {
        for round in 0..N_ROUNDS {
            let mut numbers = vec![0_u64; 64];
            let mut group: AnyFuture<'_> = Box::pin(async {
                task_group!(workers = 2, |tg| {
                    for number in &mut numbers {
                        tg.workers().spawn(async || {
                            loop {
                                *number += 1;
                                yield_now().await;
                            }
                        });
                    }
                });
            });
            poll_for(Duration::from_micros(400 * (round as u64 % 8)), &mut group).await;
            forget(group);
            numbers.fill(7);
            sleep(Duration::from_micros(500)).await;
            assert!(numbers.iter().all(|number| *number == 7));
        }
    });
}

#[test]
fn dropped_groups_have_dropped_their_tasks_on_the_workers() {
    static WAKERS: Mutex<Vec<Waker>> = Mutex::new(Vec::new());
    run(async {
        for round in 0..N_ROUNDS {
            let data = Box::new(Data::new(round));
            let mut group: AnyFuture<'_> = Box::pin(busy_group(&data, 1 + round % 3, &WAKERS));
            poll_for(Duration::from_micros(500 * (round as u64 % 8)), &mut group).await;
            drop(group);
            let n_touched = data.count.load(SeqCst);
            wake_all(&WAKERS);
            sleep(Duration::from_micros(300)).await;
            assert_eq!(data.count.load(SeqCst), n_touched);
        }
    });
}

#[test]
fn every_bracket_that_began_has_released() {
    run(async {
        for round in 0..N_ROUNDS {
            let (n_begun, n_released) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let late = timeout(Duration::from_micros(700 * (round as u64 % 6)), async {
                task_group!(workers = 1 + round % 3, |tg| {
                    for _ in 0..6 {
                        tg.workers().spawn(async || {
                            let release = async |()| {
                                yield_now().await;
                                n_released.fetch_add(1, SeqCst);
                            };
                            let hold = async |(): &mut ()| {
                                n_begun.fetch_add(1, SeqCst);
                                pending::<()>().await;
                            };
                            bracket((), hold, release).await;
                        });
                    }
                });
            })
            .await;
            assert!(late.is_err());
            assert_eq!(n_begun.into_inner(), n_released.into_inner());
        }
    });
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("in a destructor");
        }
    }
}

#[test]
fn panics_anywhere_leave_nobody_behind() {
    let _listening = xiio::inspect::listen(|_| ());
    for round in 0..N_ROUNDS {
        let data = Data::new(round);
        let is_panic = run(catch_panic(async {
            task_group!(workers = 2, |tg| {
                for _ in 0..3 {
                    tg.workers().spawn(async || {
                        loop {
                            data.touch();
                            yield_now().await;
                        }
                    });
                }
                match round % 5 {
                    0 => drop(tg.workers().spawn(async || panic!("in a task"))),
                    1 => drop(tg.spawn(async { panic!("in a task at home") })),
                    2 => panic!("in the body"),
                    3 => drop(tg.workers().spawn(async || {
                        let _held = PanicsWhenDropped;
                        yield_now().await;
                    })),
                    _ => drop(tg.workers().spawn(async || {
                        let cleanup = async |()| panic!("in a cleanup");
                        bracket((), async |()| sleep(Duration::from_millis(1)).await, cleanup).await;
                    })),
                }
                sleep(Duration::from_secs(60)).await;
            });
        }))
        .is_err();
        assert!(is_panic);
        drop(data);
    }
}

#[test]
fn values_are_kept_dropped_or_forgotten() {
    struct Counted<'a>(&'a AtomicUsize, &'a str);
    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            assert_eq!(self.1, "borrowed");
            self.0.fetch_add(1, SeqCst);
        }
    }
    for round in 0..N_ROUNDS {
        let (text, n_dropped) = (String::from("borrowed"), AtomicUsize::new(0));
        run(async {
            let mut kept = task_group!(workers = 2, |tg| {
                let tasks = (0..12).map(|_| tg.workers().spawn(async || Counted(&n_dropped, &text)));
                let mut kept = Vec::new();
                for (index, task) in tasks.collect::<Vec<_>>().into_iter().enumerate() {
                    match (index + round) % 4 {
                        0 => kept.push(task),
                        1 => drop(task),
                        2 => drop(task.await),
                        _ => forget(task),
                    }
                }
                kept
            });
            assert!(kept.iter_mut().all(|task| task.take().is_some()));
        });
        // Those of the three handles that were forgotten are leaked with them.
        assert_eq!(n_dropped.into_inner(), 9);
    }
}

#[test]
fn handles_are_used_late() {
    struct SpawnsWhenDropped<'env>(Workers<'env>, &'env Data);
    impl Drop for SpawnsWhenDropped<'_> {
        fn drop(&mut self) {
            let data = self.1;
            self.0.spawn(async move || data.touch());
        }
    }
    let _listening = xiio::inspect::listen(|_| ());
    for round in 0..N_ROUNDS {
        let data = Data::new(round);
        run(async {
            let mut group: AnyFuture<'_> = Box::pin(async {
                task_group!(workers = 2, |tg| {
                    let (workers, data) = (tg.workers(), &data);
                    let _in_the_body = SpawnsWhenDropped(workers, data);
                    for _ in 0..4 {
                        workers.spawn(async move || {
                            let _in_a_task = SpawnsWhenDropped(workers, data);
                            pending::<()>().await;
                        });
                    }
                    if round % 3 == 0 {
                        sleep(Duration::from_micros(200)).await;
                        tg.cancel();
                    }
                    sleep(Duration::from_secs(60)).await;
                });
            });
            poll_for(Duration::from_micros(300 * (round as u64 % 5)), &mut group).await;
            drop(group);
        });
    }
}

#[test]
fn groups_in_tasks_of_workers_are_leaked_and_dropped() {
    static WAKERS: Mutex<Vec<Waker>> = Mutex::new(Vec::new());
    run(async {
        for round in 0..N_ROUNDS {
            task_group!(workers = 2, |tg| {
                for index in 0..3 {
                    tg.workers().spawn(async move || {
                        let data = Box::new(Data::new(round));
                        let mut group: AnyFuture<'_> = Box::pin(busy_group(&data, 2, &WAKERS));
                        poll_for(Duration::from_micros(300 * ((round + index) as u64 % 6)), &mut group).await;
                        if index % 2 == 0 {
                            forget(group);
                        } else {
                            drop(group);
                        }
                        let n_touched = data.count.load(SeqCst);
                        sleep(Duration::from_micros(200)).await;
                        assert_eq!(data.count.load(SeqCst), n_touched);
                    });
                }
            });
            wake_all(&WAKERS);
        }
    });
}

#[test]
fn siblings_have_their_turn() {
    run(async {
        for round in 0..N_ROUNDS {
            let data = [Data::new(round), Data::new(round), Data::new(round)];
            let group = async |data: &Data| {
                task_group!(workers = 2, |tg| {
                    for _ in 0..4 {
                        tg.workers().spawn(async || {
                            for _ in 0..50 {
                                data.touch();
                                yield_now().await;
                            }
                        });
                    }
                });
            };
            join!(group(&data[0]), group(&data[1]), async {
                futures::join!(group(&data[2]), yield_now());
            });
            assert!(data.iter().all(|data| data.count.load(SeqCst) == 200));
        }
    });
}

#[test]
fn a_home_that_is_never_idle_lends_all_the_same() {
    run(async {
        let data = Data::new(0);
        let is_over = Cell::new(false);
        let busy = async {
            while !is_over.get() {
                yield_now().await;
            }
        };
        let group = async {
            task_group!(workers = 2, |tg| {
                for _ in 0..2 {
                    tg.workers().spawn(async || {
                        for _ in 0..100 {
                            data.touch();
                            yield_now().await;
                        }
                    });
                }
            });
            is_over.set(true);
        };
        futures::join!(busy, group);
        assert_eq!(data.count.load(SeqCst), 200);
    });
}

/// A tree of groups with workers, timeouts, races, leaks and foreign combinators, drawn from a seed.
fn random_tree(seed: u64, depth: u32, data: &Data) -> AnyFuture<'_> {
    Box::pin(async move {
        let draw = Draw::new(seed);
        data.touch();
        if depth == 0 {
            for _ in 0..draw.below(20) {
                match draw.below(6) {
                    0 => sleep(Duration::from_micros(draw.below(300))).await,
                    _ => yield_now().await,
                }
                data.touch();
            }
            return;
        }
        let child = || random_tree(draw.seed(), depth - 1, data);
        let limit = Duration::from_micros(100 + draw.below(3000));
        match draw.below(7) {
            0 => drop(timeout(limit, child()).await),
            1 => {
                futures::join!(child(), child());
            }
            2 => {
                let mut future = child();
                poll_for(limit, &mut future).await;
                forget(future);
            }
            3 => {
                let mut future = child();
                poll_for(limit, &mut future).await;
            }
            _ => {
                let seeds: Vec<u64> = (0..2 + draw.below(3)).map(|_| draw.seed()).collect();
                let is_cancelled = draw.below(4) == 0;
                task_group!(workers = draw.below(4) as usize, |tg| {
                    for seed in seeds {
                        match seed % 3 {
                            0 => drop(tg.spawn(random_tree(seed, depth - 1, data))),
                            _ => drop(tg.workers().spawn(async move || random_tree(seed, depth - 1, data).await)),
                        }
                    }
                    if is_cancelled {
                        sleep(limit).await;
                        tg.cancel();
                    }
                });
            }
        }
        data.touch();
    })
}

#[test]
fn random_trees_end() {
    let first = number("XIIO_FIRST_TREE_WITH_WORKERS", 0);
    let n_trees = number("XIIO_TREES_WITH_WORKERS", 60);
    for seed in first..first + n_trees {
        let data = Data::new(0);
        let ended = run(timeout(Duration::from_secs(60), random_tree(seed, 4, &data)));
        assert!(ended.is_ok(), "seed {seed}");
        let n_touched = data.count.load(SeqCst);
        thread::sleep(Duration::from_micros(50));
        assert_eq!(data.count.load(SeqCst), n_touched, "seed {seed}");
    }
}
