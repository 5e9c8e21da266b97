//! Row 3: what it costs to wake one task, deep down or among many.

use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use crate::clock::Stopwatch;
use crate::floors::polls;
use crate::peers::{
    All, async_executor, compio, futures, futures_buffered, futures_concurrency, glommio, moro, tokio, xiio,
};
use crate::row::{CPU_NS, Case, Entry, Extras, Row, entry};
use crate::sample::Sample;
use crate::work::Leaf;

pub const ROW: Row = Row {
    name: "nested",
    title: "Wake one task through nested scopes",
    note: "Per wake, from outside, with three idle siblings on each level; in the last case one scope with 10 000 idle \
           ones. The main task, which wakes, is polled once per wake too. On tokio and async-executor tasks are flat: \
           depth does not exist for them. `async-fn` is a chain of boxed futures, each awaiting the next, without \
           siblings: the floor of everything that nests.",
    metrics: &[CPU_NS],
    // `n` idle siblings on each of `m` levels.
    cases: &[
        Case::new("depth 1", 3, 2_000_000).and(1),
        Case::new("depth 4", 3, 1_000_000).and(4),
        Case::new("depth 16", 3, 500_000).and(16),
        Case::new("among 10k idle", 10_000, 500_000).and(1),
    ],
    entries: &[
        Entry::floor("async-fn", polls::nested),
        entry!(wake, xiio::Xiio),
        entry!(wake, tokio::CurrentThread),
        entry!(wake, tokio::InLocalSet),
        entry!(wake, async_executor::Alone),
        entry!(wake, futures::Unordered),
        entry!(wake, futures::UnorderedBoxed),
        entry!(wake, futures_buffered::Buffered),
        entry!(wake, futures_concurrency::Group).except(&["among 10k idle"]),
        entry!(wake, moro::Moro),
        entry!(wake, compio::OnEpoll),
        entry!(wake, glommio::Glommio),
    ],
    extras: Extras::Instructions,
    is_slow: false,
};

type Boxed = Pin<Box<dyn Future<Output = ()>>>;

fn nest<R: All>(n_idle: u64, depth: u64, leaf: Leaf) -> Boxed {
    let innermost: Boxed = if depth == 1 { Box::pin(leaf) } else { nest::<R>(n_idle, depth - 1, leaf) };
    let idle = (0..n_idle).map(|_| Box::pin(pending()) as Boxed);
    Box::pin(R::all(idle.chain([innermost]).collect::<Vec<_>>().into_iter()))
}

fn wake<R: All>(case: &Case) -> Sample {
    let Case { n, m, rounds, .. } = *case;
    R::block_on(async move {
        let leaf = Leaf::default();
        let mut outermost = pin!(nest::<R>(n, m, leaf.clone()));
        let mut wake_until = async |n_polls| {
            poll_fn(|cx| {
                assert!(outermost.as_mut().poll(cx).is_pending());
                if leaf.n_polls() >= n_polls {
                    return Poll::Ready(());
                }
                leaf.wake();
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        };
        wake_until(100).await;
        let clock = Stopwatch::start();
        wake_until(100 + rounds).await;
        clock.per_operation(rounds)
    })
}
