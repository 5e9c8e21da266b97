//! Random trees of groups, brackets, shields, limits, races and combinators of others, with panics and cancellations at
//! random. Whatever happens: each bracket that has begun is released once, nothing of cancelled code runs on, nothing is
//! dropped twice or leaked, and the run ends.
//!
//! `XIIO_TREES` says how many trees; a failure names the seed.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use xiio::inspect::{ReportKind, listen};
use xiio::{bracket, branch, gather, race, shield, sleep, task_group, timeout, yield_now};
use xiio_tests::{DropCount, millis, run};

type Boxed<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// A linear congruential generator.
///
/// # Source
/// Knuth, "The Art of Computer Programming", volume 2: MMIX.
struct Random(Cell<u64>);

impl Random {
    fn below(&self, n: u64) -> u64 {
        let next = self.0.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0.set(next);
        (next >> 33) % n
    }

    fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Whether a piece of code was cancelled by hand, itself or with something around it.
#[derive(Clone, Default)]
struct Fate(Option<Rc<(Cell<bool>, Fate)>>);

impl Fate {
    fn within(&self) -> Self {
        Self(Some(Rc::new((Cell::new(false), self.clone()))))
    }

    fn cancel(&self) {
        if let Some(fate) = &self.0 {
            fate.0.set(true);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.0.as_ref().is_some_and(|fate| fate.0.get() || fate.1.is_cancelled())
    }
}

/// One tree and what came of it.
struct Tree {
    random: Random,
    n_begun: Cell<usize>,
    n_released: Cell<usize>,
    n_ran_on: Cell<usize>,
    drops: DropCount,
}

impl Tree {
    fn new(seed: u64) -> Self {
        let random = Random(Cell::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        random.below(1);
        Self {
            random,
            n_begun: Cell::new(0),
            n_released: Cell::new(0),
            n_ran_on: Cell::new(0),
            drops: DropCount::new(),
        }
    }

    /// Called after every await.
    fn step(&self, fate: &Fate) {
        if fate.is_cancelled() {
            self.n_ran_on.set(self.n_ran_on.get() + 1);
        }
    }

    fn node<'a>(&'a self, depth: u64, fate: Fate) -> Boxed<'a> {
        let flag = self.drops.flag();
        Box::pin(async move {
            let flag = flag;
            flag.touch();
            if depth == 0 {
                self.leaf(&fate).await;
            } else {
                for _ in 0..=self.random.below(2) {
                    self.inner(depth - 1, &fate).await;
                    self.step(&fate);
                }
            }
        })
    }

    async fn leaf(&self, fate: &Fate) {
        match self.random.below(12) {
            0 => sleep(millis(self.random.below(3))).await,
            1 => std::future::pending().await,
            2 => panic!("a leaf"),
            3 => {}
            _ => {
                for _ in 0..self.random.below(6) {
                    yield_now().await;
                    self.step(fate);
                }
            }
        }
        self.step(fate);
    }

    async fn inner(&self, depth: u64, fate: &Fate) {
        match self.random.below(9) {
            0 | 1 => self.bracket(depth, fate).await,
            // What a shield runs is not cancelled.
            2 => shield(self.ending()).await,
            3 => drop(timeout(millis(self.random.below(4)), self.node(depth, fate.clone())).await),
            4 => race((0..=self.random.below(3)).map(|_| self.node(depth, fate.clone())).collect::<Vec<_>>()).await,
            5 => {
                let nodes: Vec<_> = (0..self.random.below(4)).map(|_| self.node(depth, fate.clone())).collect();
                drop(timeout(millis(3), gather(nodes)).await);
            }
            6 => {
                // A panic that leaves a foreign combinator drops the others half-way, which is not for us to change.
                let one = |_| branch(AssertUnwindSafe(self.node(depth, fate.clone())).catch_unwind());
                let mut all: FuturesUnordered<_> = (0..=self.random.below(3)).map(one).collect();
                drop(timeout(millis(3), all.by_ref().collect::<Vec<_>>()).await);
            }
            _ => self.group(depth, fate).await,
        }
    }

    /// Ends by itself.
    async fn ending(&self) {
        for _ in 0..self.random.below(4) {
            yield_now().await;
        }
        if self.random.one_in(3) {
            sleep(millis(1)).await;
        }
    }

    async fn bracket(&self, depth: u64, fate: &Fate) {
        let released = Cell::new(false);
        let (released, fate) = (&released, fate.clone());
        let usage = async move |_: &mut ()| {
            self.node(depth, fate.clone()).await;
            self.step(&fate);
        };
        let release = async |()| {
            assert!(!released.replace(true), "released twice");
            self.n_released.set(self.n_released.get() + 1);
            self.ending().await;
            if self.random.one_in(4) {
                // Cleanup that has cleanup of its own.
                bracket((), async |_| self.ending().await, async |()| self.ending().await).await;
            }
            assert!(!self.random.one_in(12), "a release");
        };
        // From the call on, which is also the first poll, there is something to release.
        self.n_begun.set(self.n_begun.get() + 1);
        bracket((), usage, release).await;
    }

    async fn group(&self, depth: u64, fate: &Fate) {
        let fates: RefCell<Vec<Fate>> = RefCell::default();
        let cancelled = |tg: &xiio::TaskGroup<'_>| {
            fates.borrow().iter().for_each(Fate::cancel);
            tg.cancel();
        };
        let in_body = fate.within();
        let limit = [usize::MAX, 2, 1][self.random.below(3) as usize];
        let _: Result<(), xiio::Elapsed> = task_group!(limit = limit, timeout = millis(self.random.below(12)), |tg| {
            let mut tasks = Vec::new();
            for _ in 0..self.random.below(4) {
                let within = fate.within();
                fates.borrow_mut().push(within.clone());
                let cancelled = &cancelled;
                let own = within.clone();
                let work = self.node(depth, within);
                tasks.push((
                    own.clone(),
                    tg.spawn(async move {
                        work.await;
                        if self.random.one_in(6) {
                            cancelled(tg);
                            yield_now().await;
                            self.step(&own);
                        }
                    }),
                ));
            }
            if self.random.one_in(3) {
                tg.defer(self.ending());
            }
            if self.random.one_in(2) {
                self.node(depth, in_body.clone()).await;
                self.step(&in_body);
            }
            if self.random.one_in(3)
                && let Some((fate, task)) = tasks.pop()
            {
                fate.cancel();
                task.cancel().await;
                self.step(&in_body);
            }
            if self.random.one_in(4) {
                cancelled(tg);
            }
        });
        self.step(fate);
    }
}

#[test]
fn random_trees_release_each_bracket_once_and_run_nothing_that_was_cancelled() {
    let n_trees = std::env::var("XIIO_TREES").map_or(400, |n| n.parse().unwrap());
    let first: u64 = std::env::var("XIIO_FIRST_TREE").map_or(0, |n| n.parse().unwrap());
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        if !["a leaf", "a release"].iter().any(|planned| text.ends_with(planned)) {
            eprintln!("{text}");
        }
    }));
    let mut n_brackets = 0;
    for seed in first..first + n_trees {
        let bad: Rc<RefCell<Vec<String>>> = Rc::default();
        let sink = Rc::clone(&bad);
        let listening = listen(move |report| {
            // A combinator that gives way between its branches polls the last ones for the first time when all are
            // cancelled, which looks as if they ran on. Whether code did is counted by `step`.
            let is_late_branch = report.kind() == ReportKind::RanOn && report.to_string().contains("`branch`");
            if report.kind() != ReportKind::LaterFailure && !is_late_branch {
                sink.borrow_mut().push(report.to_string());
            }
        });
        let tree = Tree::new(seed);
        // What is left when the time is over is cancelled.
        let ended = catch_unwind(AssertUnwindSafe(|| run(timeout(millis(40), tree.node(4, Fate::default())))));
        drop((ended, listening));
        assert_eq!(tree.n_begun.get(), tree.n_released.get(), "brackets of tree {seed}");
        assert_eq!(tree.n_ran_on.get(), 0, "code of tree {seed} ran on");
        assert_eq!(tree.drops.n_alive(), 0, "futures of tree {seed} are leaked");
        assert!(bad.borrow().is_empty(), "tree {seed}: {:?}", bad.borrow());
        n_brackets += tree.n_begun.get();
    }
    drop(std::panic::take_hook());
    assert!(n_brackets as u64 > n_trees, "trees without brackets prove nothing: {n_brackets}");
}
