//! Row 8: what it costs to have something done by another thread.

use crate::clock::Stopwatch;
use crate::floors;
use crate::peers::{All, Threads, async_executor, compio, futures, tokio, xiio};
use crate::pin::pin_to_core;
use crate::row::{CPU_NS, Case, Entry, Extras, Row, WALL_NS, entry};
use crate::sample::Sample;

pub const ROW: Row = Row {
    name: "offload",
    title: "Have a job done by a thread",
    note: "Per job that does nothing, there and back; so many in flight. With one in flight on two cores every job is two \
           wake-ups of an idle core, and the scheduler's placement decides; on one core the runtime does. `raw` is one \
           thread, a locked queue and an eventfd.",
    metrics: &[WALL_NS, CPU_NS],
    // `n` in flight, on `m` cores.
    cases: &[
        Case::new("1 in flight, one core", 1, 20_000).and(1),
        Case::new("1 in flight, two cores", 1, 5000).and(2),
        Case::new("64 in flight, two cores", 64, 1500).and(2),
    ],
    entries: &[
        Entry::floor("raw", raw),
        entry!(offload, xiio::Xiio),
        entry!(offload, tokio::CurrentThread),
        entry!(offload, tokio::InLocalSet),
        entry!(offload, tokio::MultiThread),
        entry!(offload, async_executor::Smol),
        entry!(offload, futures::UnorderedWithAsyncIo),
        entry!(offload, compio::OnEpoll),
    ],
    extras: Extras::None,
    is_slow: false,
};

fn raw(case: &Case) -> Sample {
    limit_cores(case);
    floors::thread::eventfd(case)
}

fn offload<R: All + Threads>(case: &Case) -> Sample {
    limit_cores(case);
    let Case { n, rounds, .. } = *case;
    R::block_on(async move {
        let one_after_the_other = |i| async move {
            for _ in 0..rounds {
                assert_eq!(R::offload(move || i).await, i);
            }
        };
        let clock = Stopwatch::start();
        R::all((0..n).map(one_after_the_other)).await;
        clock.per_operation(n * rounds)
    })
}

fn limit_cores(case: &Case) {
    if case.m == 1 {
        pin_to_core(0);
    }
}
