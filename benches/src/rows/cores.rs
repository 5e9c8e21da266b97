//! Rows 13 to 16: several cores. Work of known size on one thread and on two, many items, small teams, and events beside it.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use ::tokio::runtime::Builder;
use ::tokio::task::JoinSet;
use futures::StreamExt;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use rayon::prelude::*;
use xiio::task_group;

use super::latency::{percentile, percentiles};
use crate::clock::{Stopwatch, sleep_precisely};
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

pub const LATENESS: Row = Row {
    name: "lateness",
    title: "Events for home beside workers that never rest",
    note: "From the sending of an event by another thread, so many a second, to its handling at home. One or two workers do polls of 20 us all the \
           time; what they lose is the share of these in a window of 100 ms with events, compared with the window before, in which the other thread wakes \
           as often and sends nothing, the median of 20. `inside`: home handles events in the body of the group; `outside`: beside it, so that all \
           workers have to leave for each. tokio's home is the thread of `block_on` beside so many worker threads; it knows no outside. With one \
           worker, home has a core for itself. Two occupy both, so whatever home or the kernel does for an event is lost to them.",
    metrics: &[
        percentile("p50_us", "µs median"),
        percentile("p999_us", "µs p99.9"),
        Metric { key: "lost", unit: "% of the work lost", better: Better::Lower },
        Metric { key: "sent", unit: "events/s sent", better: Better::Higher },
    ],
    // `n` events a second.
    cases: &[Case::new("1000 a second", 1000, 20), Case::new("10k a second", 10_000, 20)],
    entries: &[
        of(Family::Xiio, "xiio-1-inside", |case| lateness_inside(1, case)),
        of(Family::Xiio, "xiio-1-outside", |case| lateness_outside(1, case)),
        of(Family::Tokio, "tokio-1", |case| lateness_on_tokio(1, case)),
        of(Family::Xiio, "xiio-2-inside", |case| lateness_inside(2, case)),
        of(Family::Xiio, "xiio-2-outside", |case| lateness_outside(2, case)),
        of(Family::Tokio, "tokio-2", |case| lateness_on_tokio(2, case)),
    ],
    extras: Extras::None,
    is_slow: false,
};

/// What the workers do without a rest, until they are told.
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

/// Runs `home`, which gets the time of sending with each event, beside a thread that sends `n` of them a second in `rounds` windows.
fn lateness(case: &Case, home: impl FnOnce(UnboundedReceiver<Instant>) -> Vec<Duration>) -> Sample {
    let (sender, events) = unbounded();
    thread::scope(|scope| {
        let source = scope.spawn(|| send_events(case, sender));
        let found = percentiles(home(events));
        let (lost, sent) = source.join().unwrap();
        found.with("lost", lost).with("sent", sent)
    })
}

/// Sends events, says how much of the workers' work is lost by that in percent, and how many a second there were.
fn send_events(case: &Case, events: UnboundedSender<Instant>) -> (f64, f64) {
    const WINDOW: Duration = Duration::from_millis(100);
    let period = Duration::from_secs(1) / case.n as u32;
    sleep_precisely();
    // So that the workers have begun.
    thread::sleep(WINDOW);
    let (mut n_sent, mut sending) = (0, Duration::ZERO);
    let mut due = Instant::now();
    let mut lost = Vec::new();
    for _ in 0..case.rounds {
        let [quiet, disturbed] = [false, true].map(|is_sending| {
            let (start, n_before) = (Instant::now(), BUSY.n_polls.load(Relaxed));
            while start.elapsed() < WINDOW {
                // After a late one the next comes sooner, but not at once: several events would be one wake-up.
                due = (due + period).max(Instant::now() + period / 4);
                thread::sleep(due.saturating_duration_since(Instant::now()));
                if is_sending {
                    events.unbounded_send(Instant::now()).unwrap();
                    n_sent += 1;
                }
            }
            let (n_polls, time) = (BUSY.n_polls.load(Relaxed) - n_before, start.elapsed());
            if is_sending {
                sending += time;
            }
            n_polls as f64 / time.as_secs_f64()
        });
        lost.push(100.0 * (1.0 - disturbed / quiet));
    }
    // Whatever else runs on the machine disturbs some of the windows.
    lost.sort_by(f64::total_cmp);
    (lost[lost.len() / 2], f64::from(n_sent) / sending.as_secs_f64())
}

/// Handles events until there are no more, and says how late each was.
async fn handle_events(mut events: UnboundedReceiver<Instant>) -> Vec<Duration> {
    let mut lateness = Vec::new();
    while let Some(sent) = events.next().await {
        lateness.push(sent.elapsed());
    }
    BUSY.is_over.store(true, Relaxed);
    lateness
}

async fn never_rest(_worker: usize) {
    while BUSY.go_on() {
        xiio::yield_now().await;
    }
}

fn lateness_inside(workers: usize, case: &Case) -> Sample {
    let home = async |events| {
        task_group!(workers = workers, |tg| {
            let workers = tg.workers().each(never_rest);
            xiio::join!(workers, handle_events(events)).1
        })
    };
    lateness(case, |events| xiio::run(home(events)))
}

fn lateness_outside(workers: usize, case: &Case) -> Sample {
    let group = async { task_group!(workers = workers, |tg| tg.workers().each(never_rest).await) };
    lateness(case, |events| xiio::run(async { xiio::join!(group, handle_events(events)).1 }))
}

fn lateness_on_tokio(workers: usize, case: &Case) -> Sample {
    let runtime = tokio_with(workers);
    let home = async |events| {
        for _ in 0..workers {
            ::tokio::spawn(async {
                while BUSY.go_on() {
                    ::tokio::task::yield_now().await;
                }
            });
        }
        handle_events(events).await
    };
    lateness(case, |events| runtime.block_on(home(events)))
}
