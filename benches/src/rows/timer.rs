//! Row 4: timers that do not come true, which is what most do, and timers that do.

use std::pin::{Pin, pin};
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::floors::wheel;
use crate::peers::{All, Timers, async_executor, compio, futures, glommio, monoio, tokio, xiio};
use crate::row::{CPU_NS, Case, Entry, Extras, Row, entry};
use crate::sample::Sample;
use crate::work::{pending_once, poll_in_a_row};

pub const MADE: Row = Row {
    name: "timer",
    title: "Make a timer and drop it",
    note: "Per sleep that is polled once and dropped long before its time; one by one, or so many alive together. Each \
           looks at the clock once. `raw-wheel` is a bare timing wheel.",
    metrics: &[CPU_NS],
    cases: &[
        Case::new("one by one", 1, 1_000_000),
        Case::new("10", 10, 100_000),
        Case::new("1000", 1000, 1000),
        Case::new("100k", 100_000, 10),
        Case::new("1M", 1_000_000, 1),
    ],
    entries: &[
        Entry::floor("raw-wheel", wheel::all_together),
        entry!(made, xiio::Xiio),
        entry!(made, tokio::CurrentThread),
        entry!(made, tokio::MultiThread),
        entry!(made, async_executor::Smol),
        entry!(made, monoio::OnEpoll),
        entry!(made, monoio::OnUring),
        entry!(made, compio::OnEpoll),
        entry!(made, glommio::Glommio).except(&["100k", "1M"]),
    ],
    extras: Extras::Instructions,
    is_slow: false,
};

pub const TIMEOUT: Row = Row {
    name: "timeout",
    title: "A timeout that does not come true",
    note: "Per `timeout(60 s, …)` around a future that is pending at its first poll and ready at the second, polled \
           twice in a row. The task gives way after every 64, before a runtime makes it.",
    metrics: &[CPU_NS],
    cases: &[Case::new("one by one", 1, 1_000_000)],
    entries: &[
        Entry::floor("raw-wheel", wheel::one_by_one),
        entry!(timeout, xiio::Xiio),
        entry!(timeout, tokio::CurrentThread),
        entry!(timeout, tokio::MultiThread),
        entry!(timeout, async_executor::Smol),
        entry!(timeout, monoio::OnEpoll),
        entry!(timeout, monoio::OnUring),
        entry!(timeout, compio::OnEpoll),
        entry!(timeout, glommio::Glommio),
    ],
    extras: Extras::Instructions,
    is_slow: false,
};

pub const FIRED: Row = Row {
    name: "fired",
    title: "Sleeps that come true",
    note: "Per sleeping task, all in one scope, with ends spread over a second. A thousand ticks of 1 ms are a thousand \
           wake-ups of the process, and the greater part of the floor.",
    metrics: &[CPU_NS],
    cases: &[Case::new("100k", 100_000, 1)],
    entries: &[
        Entry::floor("raw-wheel", wheel::fire),
        entry!(fired, xiio::Xiio),
        entry!(fired, tokio::CurrentThread),
        entry!(fired, tokio::InLocalSet),
        entry!(fired, tokio::MultiThread),
        entry!(fired, async_executor::Smol),
        entry!(fired, futures::UnorderedWithAsyncIo),
        entry!(fired, monoio::OnEpoll),
        entry!(fired, monoio::OnUring),
        entry!(fired, compio::OnEpoll),
        entry!(fired, glommio::Glommio),
    ],
    extras: Extras::None,
    is_slow: false,
};

fn far(i: u64) -> Duration {
    Duration::from_millis(60_000 + i % 1000)
}

fn made<R: Timers>(case: &Case) -> Sample {
    let Case { n, rounds, .. } = *case;
    R::block_on(async move {
        let mut sleeps = Vec::with_capacity(n as usize);
        let clock = Stopwatch::start();
        for _ in 0..rounds {
            sleeps.extend((0..n).map(|i| R::sleep(far(i))));
            for sleep in &mut sleeps {
                // SAFETY: the vector is neither grown nor moved from before it is cleared, which drops its elements
                // where they are.
                poll_in_a_row(unsafe { Pin::new_unchecked(sleep) }, 1).await;
            }
            sleeps.clear();
        }
        clock.per_operation(rounds * n)
    })
}

fn timeout<R: Timers>(case: &Case) -> Sample {
    let Case { n, rounds, .. } = *case;
    R::block_on(async move {
        let clock = Stopwatch::start();
        for i in 0..rounds * n {
            poll_in_a_row(pin!(R::timeout(far(i), pending_once())), 2).await;
            if i % 64 == 0 {
                R::yield_now().await;
            }
        }
        clock.per_operation(rounds * n)
    })
}

fn fired<R: Timers + All>(case: &Case) -> Sample {
    let n = case.n;
    R::block_on(async move {
        let clock = Stopwatch::start();
        R::all((0..n).map(|i| R::sleep(Duration::from_millis(1 + i % 1000)))).await;
        clock.per_operation(n)
    })
}
