//! Rows 13 to 16: several cores. Work of known size on one thread and on two, many items, small teams, and what home notes of it.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use ::tokio::runtime::Builder;
use ::tokio::task::JoinSet;
use rayon::prelude::*;
use xiio::task_group;

use crate::clock::Stopwatch;
use crate::row::{Better, CPU_NS, Case, Entry, Extras, Family, Metric, Row, WALL_NS};
use crate::sample::Sample;

const fn of(family: Family, name: &'static str, measure: fn(&Case) -> Sample) -> Entry {
    Entry { name, family, measure, except: &[] }
}

pub const JOBS: Row = Row {
    name: "jobs",
    title: "Tasks that compute, on two threads",
    note: "Per poll; `n` tasks, each polled so often. `xiio` has one thread, `xiio-1` and `xiio-2` a group with workers, whose threads are \
           started within the time; those of tokio are there before. `scope` is `std::thread::scope` with two threads and \
           a `xiio::run` in each, the tasks dealt out beforehand: nobody takes another's.",
    metrics: &[WALL_NS, CPU_NS],
    // `n` tasks of `m` polls.
    cases: &[
        Case::new("100k of 0.2 us", 100_000, 1).and(1),
        Case::new("20k of 5 us", 20_000, 1).and(1),
        Case::new("1000 of 5 times 20 us", 1000, 1).and(5),
        Case::new("64 of 10k times 0.1 us", 64, 1).and(10_000),
    ],
    entries: &[
        of(Family::Floor, "scope", by_hand),
        of(Family::Xiio, "xiio", on_one_thread),
        of(Family::Xiio, "xiio-1", |case| on_workers(1, case)),
        of(Family::Xiio, "xiio-2", |case| on_workers(2, case)),
        of(Family::Tokio, "tokio-1", |case| on_tokio(1, case)),
        of(Family::Tokio, "tokio-2", |case| on_tokio(2, case)),
    ],
    extras: Extras::None,
    is_slow: false,
};

/// Steps of [`compute`] in a microsecond, about.
pub(super) const STEPS_PER_US: u64 = 920;

/// Keeps the processor busy; the same everywhere, whatever a clock says.
pub(super) fn compute(n_steps: u64) {
    let mut x = black_box(n_steps);
    for _ in 0..n_steps {
        // Each by itself, or the compiler does several at once.
        x = black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
    black_box(x);
}

/// What a poll computes: it hangs on the case.
fn n_steps(case: &Case) -> u64 {
    let nanos = match case.n {
        100_000 => 200,
        20_000 => 5000,
        1000 => 20_000,
        _ => 100,
    };
    nanos * STEPS_PER_US / 1000
}

async fn on_xiio(n_polls: u64, n_steps: u64) {
    for n in 0..n_polls {
        if n > 0 {
            xiio::yield_now().await;
        }
        compute(n_steps);
    }
}

async fn group_of(n_tasks: u64, n_polls: u64, n_steps: u64) {
    task_group!(|tg| {
        for _ in 0..n_tasks {
            tg.spawn(on_xiio(n_polls, n_steps));
        }
    });
}

fn on_one_thread(case: &Case) -> Sample {
    let clock = Stopwatch::start();
    xiio::run(group_of(case.n, case.m, n_steps(case)));
    clock.per_operation(case.n * case.m)
}

fn on_workers(workers: usize, case: &Case) -> Sample {
    let (n_polls, n_steps) = (case.m, n_steps(case));
    let clock = Stopwatch::start();
    xiio::run(async {
        task_group!(workers = workers, |tg| {
            let workers = tg.workers();
            for _ in 0..case.n {
                workers.spawn(async move || on_xiio(n_polls, n_steps).await);
            }
        });
    });
    clock.per_operation(case.n * case.m)
}

fn by_hand(case: &Case) -> Sample {
    let clock = Stopwatch::start();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| xiio::run(group_of(case.n / 2, case.m, n_steps(case))));
        }
    });
    clock.per_operation(case.n * case.m)
}

fn tokio_with(workers: usize) -> ::tokio::runtime::Runtime {
    Builder::new_multi_thread().worker_threads(workers).enable_all().build().unwrap()
}

fn on_tokio(workers: usize, case: &Case) -> Sample {
    let (n_tasks, n_polls, n_steps) = (case.n, case.m, n_steps(case));
    let main = async move {
        let clock = Stopwatch::start();
        let mut tasks = JoinSet::new();
        for _ in 0..n_tasks {
            tasks.spawn(async move {
                for n in 0..n_polls {
                    if n > 0 {
                        ::tokio::task::yield_now().await;
                    }
                    compute(n_steps);
                }
            });
        }
        while tasks.join_next().await.is_some() {}
        clock.per_operation(n_tasks * n_polls)
    };
    // As a task: the future of `block_on` has a slower way of being woken.
    let runtime = tokio_with(workers);
    runtime.block_on(async { ::tokio::spawn(main).await.unwrap() })
}

pub const MAP: Row = Row {
    name: "map",
    title: "One function over many items, on two threads",
    note: "Per item. The uneven ones take from 0 to 40 us, the last the longest. rayon's two threads are there before, those of \
           `xiio::parallel_map` are started within the time; its function is async.",
    metrics: &[WALL_NS, CPU_NS],
    cases: &[Case::new("1M small", 1_000_000, 10), Case::new("1000 uneven", 1000, 10)],
    entries: &[of(Family::Xiio, "xiio-2", map_on_xiio), of(Family::Peer, "rayon", map_on_rayon)],
    extras: Extras::None,
    is_slow: false,
};

/// What becomes of an item: next to nothing of one of very many.
fn mapped(item: u64, n_items: u64) -> u64 {
    if n_items == 1000 {
        compute(item * 40 * STEPS_PER_US / 1000);
    }
    item.wrapping_mul(item) ^ n_items
}

fn map_on_xiio(case: &Case) -> Sample {
    let (n, items) = (case.n, Vec::from_iter(0..case.n));
    let clock = Stopwatch::start();
    for _ in 0..case.rounds {
        let outputs = xiio::run(xiio::parallel_map(2, &items, async |item| mapped(*item, n)));
        assert_eq!(outputs.len(), items.len());
    }
    clock.per_operation(case.rounds * n)
}

fn map_on_rayon(case: &Case) -> Sample {
    let (n, items) = (case.n, Vec::from_iter(0..case.n));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    pool.install(|| {
        let clock = Stopwatch::start();
        for _ in 0..case.rounds {
            let outputs: Vec<u64> = items.par_iter().map(|item| mapped(*item, n)).collect();
            assert_eq!(outputs.len(), items.len());
        }
        clock.per_operation(case.rounds * n)
    })
}

pub const TEAM: Row = Row {
    name: "team",
    title: "A small team from start to end, and a task there and back",
    note: "Per team of 16 tasks that do nothing, and per task that is spawned on another thread and awaited. tokio's two threads are \
           there before. A group of xiio's takes those of the one before; the second case is inside of one.",
    metrics: &[WALL_NS, CPU_NS],
    cases: &[Case::new("16 tasks", 16, 500), Case::new("spawn and await", 1, 5000)],
    entries: &[of(Family::Xiio, "xiio-2", team_of_xiio), of(Family::Tokio, "tokio-2", team_of_tokio)],
    extras: Extras::None,
    is_slow: false,
};

fn team_of_xiio(case: &Case) -> Sample {
    let Case { n, rounds, .. } = *case;
    xiio::run(async {
        if n > 1 {
            let clock = Stopwatch::start();
            for _ in 0..rounds {
                task_group!(workers = 2, |tg| {
                    for _ in 0..n {
                        tg.workers().spawn(async || ());
                    }
                });
            }
            return clock.per_operation(rounds);
        }
        task_group!(workers = 2, |tg| {
            let workers = tg.workers();
            workers.spawn(async || ()).await;
            let clock = Stopwatch::start();
            for _ in 0..rounds {
                workers.spawn(async || ()).await;
            }
            clock.per_operation(rounds)
        })
    })
}

fn team_of_tokio(case: &Case) -> Sample {
    let Case { n, rounds, .. } = *case;
    let main = async move {
        let clock = Stopwatch::start();
        for _ in 0..rounds {
            let mut tasks = JoinSet::new();
            for _ in 0..n {
                tasks.spawn(async {});
            }
            while tasks.join_next().await.is_some() {}
        }
        clock.per_operation(rounds)
    };
    // Its own thread, as home is: from a worker a task would be spawned on that very worker.
    tokio_with(2).block_on(main)
}

const fn lateness(key: &'static str, unit: &'static str) -> Metric {
    Metric { key, unit, better: Better::Lower }
}

pub const LATENESS: Row = Row {
    name: "lateness",
    title: "Lateness of a 1 ms sleep beside a worker that never rests",
    note: "Of 1000 sleeps, one after the other, and the polls of 20 us that the worker did meanwhile in a second. Inside: in the body of the \
           group. Outside: beside it, so that the worker has to leave for each. The same for a task of tokio's beside one that never rests, on \
           two threads, which knows no outside. A wheel of 1 ms ticks is up to 1 ms late by itself, xiio's as well as tokio's.",
    metrics: &[
        lateness("p50_us", "µs median"),
        lateness("p999_us", "µs p99.9"),
        Metric { key: "polls", unit: "polls a second", better: Better::Higher },
    ],
    cases: &[Case::new("inside", 1, 1000), Case::new("outside", 2, 1000)],
    entries: &[of(Family::Xiio, "xiio-1", lateness_of_xiio), of(Family::Tokio, "tokio-2", lateness_of_tokio)],
    extras: Extras::None,
    is_slow: false,
};

/// What a task that never rests does, until it is told.
struct Busy {
    is_over: AtomicBool,
    n_polls: AtomicU64,
}

static BUSY: Busy = Busy { is_over: AtomicBool::new(false), n_polls: AtomicU64::new(0) };

impl Busy {
    /// Does a poll's work; `false` when it is over.
    fn go_on(&self) -> bool {
        compute(20 * STEPS_PER_US);
        self.n_polls.fetch_add(1, Relaxed);
        !self.is_over.load(Relaxed)
    }
}

/// Sleeps a millisecond again and again, and says how late each time, and what the other has done meanwhile.
async fn sleeps<S: Future<Output = ()>>(n: u64, sleep: impl Fn(Duration) -> S) -> Sample {
    // So that the other has begun.
    sleep(Duration::from_millis(50)).await;
    let (start, n_before) = (Instant::now(), BUSY.n_polls.load(Relaxed));
    let mut lateness = Vec::with_capacity(n as usize);
    for _ in 0..n {
        let due = Instant::now() + Duration::from_millis(1);
        sleep(Duration::from_millis(1)).await;
        lateness.push(due.elapsed());
    }
    let n_polls = BUSY.n_polls.load(Relaxed) - n_before;
    BUSY.is_over.store(true, Relaxed);
    lateness.sort_unstable();
    let last = lateness.len() - 1;
    let at = |share: f64| lateness[(last as f64 * share) as usize].as_nanos() as f64 / 1e3;
    let polls = n_polls as f64 / start.elapsed().as_secs_f64();
    Sample::new().with("p50_us", at(0.5)).with("p999_us", at(0.999)).with("polls", polls)
}

fn lateness_of_xiio(case: &Case) -> Sample {
    let is_inside = case.n == 1;
    let busy = async || {
        while BUSY.go_on() {
            xiio::yield_now().await;
        }
    };
    let inside = async {
        task_group!(workers = 1, |tg| {
            tg.workers().spawn(busy);
            if is_inside { Some(sleeps(case.rounds, xiio::sleep).await) } else { None }
        })
    };
    xiio::run(async {
        if is_inside {
            return inside.await.expect("it was measured inside");
        }
        xiio::join!(inside, sleeps(case.rounds, xiio::sleep)).1
    })
}

fn lateness_of_tokio(case: &Case) -> Sample {
    let n = case.rounds;
    tokio_with(2).block_on(async move {
        let busy = ::tokio::spawn(async {
            while BUSY.go_on() {
                ::tokio::task::yield_now().await;
            }
        });
        let sample = ::tokio::spawn(sleeps(n, ::tokio::time::sleep)).await.unwrap();
        busy.await.unwrap();
        sample
    })
}
