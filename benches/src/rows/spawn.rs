//! Row 1: what a task costs from spawning it to knowing that it has ended.

use std::hint::black_box;

use crate::clock::Stopwatch;
use crate::floors::blocks;
use crate::peers::{
    All, Scopes, Spawn, async_executor, compio, futures, futures_buffered, futures_concurrency, glommio, monoio, moro,
    tokio, xiio,
};
use crate::row::{CPU_NS, Case, Entry, Extras, Row, entry};
use crate::sample::Sample;

pub const ROW: Row = Row {
    name: "spawn",
    title: "Spawn and join tasks that have nothing to do",
    note: "Per task, after a first round. A scope is filled with tasks of two types in turn, and joined. `fu`, `fu-buffered` and \
           `futuregroup` hold futures of one type only, so they get one type. `raw-hot` is malloc, an indirect call \
           and free of a 64-byte block; `raw-batch` the same with all blocks of a scope alive together.",
    metrics: &[CPU_NS],
    cases: &[
        Case::new("scopes of 10", 10, 100_000),
        Case::new("1000", 1000, 1000),
        Case::new("100k", 100_000, 10),
        Case::new("1M", 1_000_000, 2),
    ],
    entries: &[
        Entry::floor("raw-hot", blocks::one_by_one),
        Entry::floor("raw-batch", blocks::all_together),
        entry!(two_types, xiio::Xiio),
        entry!(two_types, tokio::CurrentThread),
        entry!(two_types, tokio::InLocalSet),
        entry!(two_types, tokio::MultiThread),
        entry!(two_types, async_executor::Alone),
        entry!(one_type, futures::Unordered),
        entry!(two_types, futures::UnorderedBoxed),
        entry!(two_types, futures::Pool),
        entry!(one_type, futures_buffered::Buffered),
        entry!(one_type, futures_concurrency::Group),
        entry!(two_types, moro::Moro),
        entry!(two_types, monoio::OnEpoll),
        entry!(two_types, compio::OnEpoll),
        entry!(two_types, glommio::Glommio),
    ],
    extras: Extras::Instructions,
    is_slow: false,
};

async fn small(i: u64) {
    black_box(i);
}

async fn larger(i: u64, more: [u64; 3]) {
    black_box(i + more[2]);
}

fn two_types<R: Scopes>(case: &Case) -> Sample {
    let Case { n, rounds, .. } = *case;
    R::block_on(async move {
        let one_scope = || {
            R::scope(|scope| {
                for i in 0..n {
                    if i.is_multiple_of(2) {
                        scope.spawn(small(i));
                    } else {
                        scope.spawn(larger(i, [i; 3]));
                    }
                }
            })
        };
        one_scope().await;
        let clock = Stopwatch::start();
        for _ in 0..rounds {
            one_scope().await;
        }
        clock.per_operation(rounds * n)
    })
}

fn one_type<R: All>(case: &Case) -> Sample {
    let Case { n, rounds, .. } = *case;
    R::block_on(async move {
        let one_scope = || R::all((0..n).map(|i| larger(i, [i; 3])));
        one_scope().await;
        let clock = Stopwatch::start();
        for _ in 0..rounds {
            one_scope().await;
        }
        clock.per_operation(rounds * n)
    })
}
