//! Row 5: what a sleeping task weighs.

use std::time::Duration;

use crate::peers::{All, Timers, async_executor, compio, futures, glommio, monoio, tokio, xiio};
use crate::row::{Better, Case, Extras, Metric, Row, entry};
use crate::sample::Sample;
use crate::work::{all_started, counted, while_waiting_for};

pub const ROW: Row = Row {
    name: "memory",
    title: "Memory of a sleeping task",
    note: "Growth of the resident set by a million tasks that sleep for an hour, per task. Handles count where a runtime \
           needs them to join.",
    metrics: &[Metric { key: "bytes", unit: "bytes", better: Better::Lower }],
    cases: &[Case::new("1M", 1_000_000, 1)],
    entries: &[
        entry!(memory, xiio::Xiio),
        entry!(memory, tokio::CurrentThread),
        entry!(memory, tokio::InLocalSet),
        entry!(memory, tokio::MultiThread),
        entry!(memory, async_executor::Smol),
        entry!(memory, futures::UnorderedWithAsyncIo),
        entry!(memory, monoio::OnEpoll),
        entry!(memory, compio::OnEpoll),
        entry!(memory, glommio::Glommio),
    ],
    extras: Extras::None,
    is_slow: false,
};

fn memory<R: All + Timers>(case: &Case) -> Sample {
    let n = case.n;
    R::block_on(async move {
        let before = resident_bytes();
        let sleeps = (0..n).map(|_| counted(R::sleep(Duration::from_secs(3600))));
        while_waiting_for(R::all(sleeps), async {
            all_started(n).await;
            Sample::new().with("bytes", (resident_bytes() - before) as f64 / n as f64)
        })
        .await
    })
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("/proc is mounted");
    let pages = statm.split(' ').nth(1).and_then(|field| field.parse::<u64>().ok());
    pages.expect("the second field is a number of pages") * 4096
}
