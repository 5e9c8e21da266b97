//! Row 9: what it costs to run a program.

use crate::clock::Stopwatch;
use crate::floors;
use crate::peers::{All, Processes, async_executor, tokio, xiio};
use crate::row::{CPU_NS, Case, Entry, Extras, Row, WALL_NS, entry};
use crate::sample::Sample;

pub const ROW: Row = Row {
    name: "process",
    title: "Run /bin/true",
    note: "Per program, spawned and waited for; one by one, and sixteen at a time. `fork` and `exec` are nearly all of it. \
           `std` waits in a thread for each; `raw-pidfd` is one epoll loop.",
    metrics: &[WALL_NS, CPU_NS],
    cases: &[Case::new("one by one", 1, 300), Case::new("16 at a time", 16, 40)],
    entries: &[
        Entry::floor("raw-pidfd", floors::process::pidfd),
        Entry::floor("std", floors::process::threads),
        entry!(run, xiio::Xiio),
        entry!(run, tokio::CurrentThread),
        entry!(run, tokio::MultiThread),
        entry!(run, async_executor::Smol),
    ],
    extras: Extras::None,
    is_slow: false,
};

fn run<R: All + Processes>(case: &Case) -> Sample {
    let Case { n, rounds, .. } = *case;
    R::block_on(async move {
        let one_after_the_other = |_| async move {
            for _ in 0..rounds {
                R::run_program("/bin/true").await;
            }
        };
        let clock = Stopwatch::start();
        R::all((0..n).map(one_after_the_other)).await;
        clock.per_operation(n * rounds)
    })
}
