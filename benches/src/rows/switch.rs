//! Row 2: what it costs to go from one task to the next.

use std::cell::Cell;
use std::rc::Rc;

use crate::clock::Stopwatch;
use crate::floors::polls;
use crate::peers::{
    All, async_executor, compio, futures, futures_buffered, futures_concurrency, glommio, moro, tokio, xiio,
};
use crate::row::{CPU_NS, Case, Entry, Extras, Row, entry};
use crate::sample::Sample;
use crate::work::yield_once;

pub const ROW: Row = Row {
    name: "switch",
    title: "Switch among tasks that yield",
    note: "Per switch, among so many tasks. Started and warm: the clock runs while all tasks exist. monoio is left out: it polls a task that wakes itself again at \
           once, before all others. The future that yields is the same \
           for all. `raw` polls boxed \
           futures in turn.",
    metrics: &[CPU_NS],
    cases: &[
        Case::new("10", 10, 400_000),
        Case::new("1000", 1000, 4000),
        Case::new("100k", 100_000, 40),
        Case::new("1M", 1_000_000, 4),
    ],
    entries: &[
        Entry::floor("raw", polls::in_turn),
        entry!(switch, xiio::Xiio),
        entry!(switch, tokio::CurrentThread),
        entry!(switch, tokio::InLocalSet),
        entry!(switch, async_executor::Alone),
        entry!(switch, futures::Unordered),
        entry!(switch, futures::UnorderedBoxed),
        entry!(switch, futures::Pool),
        entry!(switch, futures_buffered::Buffered),
        entry!(switch, futures_concurrency::Group).except(&["100k", "1M"]),
        entry!(switch, moro::Moro),
        entry!(switch, compio::OnEpoll),
        entry!(switch, glommio::Glommio),
    ],
    extras: Extras::Instructions,
    is_slow: false,
};

/// The first task takes the time, in which, if all take turns, each has yielded as often as it has.
fn switch<R: All>(case: &Case) -> Sample {
    let Case { n, rounds, .. } = *case;
    R::block_on(async move {
        let found = Rc::new(Cell::new(None));
        let n_switches = Rc::new(Cell::new(0));
        let tasks = (0..n).map(|i| {
            let (found, n_switches) = (found.clone(), n_switches.clone());
            async move {
                yield_once().await;
                let clock = (i == 0).then(Stopwatch::start);
                for _ in 0..rounds {
                    yield_once().await;
                    n_switches.set(n_switches.get() + 1);
                }
                if let Some(clock) = clock {
                    let sample = clock.per_operation(n_switches.get());
                    assert!(2 * n_switches.get() > rounds * n, "tasks that yield do not take turns");
                    found.set(Some(sample));
                }
            }
        });
        R::all(tasks).await;
        found.take().expect("the first task has ended")
    })
}
