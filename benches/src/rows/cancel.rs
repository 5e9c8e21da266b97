//! Row 11: what it costs to cancel tasks that have nothing to clean up.

use std::future::pending;

use crate::floors::blocks;
use crate::peers::{
    Cancel, async_executor, futures, futures_buffered, futures_concurrency, glommio, moro, tokio, xiio,
};
use crate::row::{CPU_NS, Case, Entry, Extras, Row, entry};
use crate::sample::Sample;
use crate::work::{all_started, counted};

pub const ROW: Row = Row {
    name: "cancel",
    title: "Cancel pending tasks",
    note: "Per task, from asking for it until all have been dropped. compio is left out: it says cancelled before it has dropped. `raw-free` frees as \
           many blocks of 64 bytes.",
    metrics: &[CPU_NS],
    cases: &[Case::new("1000", 1000, 1), Case::new("100k", 100_000, 1)],
    entries: &[
        Entry::floor("raw-free", blocks::free),
        entry!(cancel, xiio::Xiio),
        entry!(cancel, tokio::CurrentThread),
        entry!(cancel, tokio::InLocalSet),
        entry!(cancel, tokio::MultiThread),
        entry!(cancel, async_executor::Alone),
        entry!(cancel, futures::Unordered),
        entry!(cancel, futures::UnorderedBoxed),
        entry!(cancel, futures_buffered::Buffered),
        entry!(cancel, futures_concurrency::Group),
        entry!(cancel, moro::Moro),
        entry!(cancel, glommio::Glommio),
    ],
    extras: Extras::None,
    is_slow: false,
};

fn cancel<R: Cancel>(case: &Case) -> Sample {
    let n = case.n;
    R::block_on(async move {
        let tasks = (0..n as usize).map(|_| counted(pending()));
        R::cancel(tasks, all_started(n)).await
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Otherwise the row would compare what is not the same.
    #[test]
    fn cancelled_tasks_have_been_dropped() {
        let mut n_started = 0;
        let mut check = |cancel: fn(Arc<()>, u64)| {
            let alive = Arc::new(());
            n_started += 100;
            cancel(alive.clone(), n_started);
            assert_eq!(Arc::strong_count(&alive), 1);
        };
        check(cancel_100::<xiio::Xiio>);
        check(cancel_100::<tokio::CurrentThread>);
        check(cancel_100::<tokio::InLocalSet>);
        check(cancel_100::<tokio::MultiThread>);
        check(cancel_100::<async_executor::Alone>);
        check(cancel_100::<futures::Unordered>);
        check(cancel_100::<futures::UnorderedBoxed>);
        check(cancel_100::<futures_buffered::Buffered>);
        check(cancel_100::<futures_concurrency::Group>);
        check(cancel_100::<moro::Moro>);
        check(cancel_100::<glommio::Glommio>);
    }

    fn cancel_100<R: Cancel>(alive: Arc<()>, n_started: u64) {
        R::block_on(async move {
            let task = |_| {
                let alive = alive.clone();
                counted(async move {
                    pending::<()>().await;
                    drop(alive);
                })
            };
            R::cancel((0..100).map(task), all_started(n_started)).await;
            assert_eq!(Arc::strong_count(&alive), 2, "{}", R::NAME);
        });
    }
}
