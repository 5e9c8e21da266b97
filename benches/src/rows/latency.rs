//! Row 12: how late a timer is when the thread is busy.

use std::cell::RefCell;
use std::net::TcpListener;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::load::{ECHO, Load};
use crate::peers::{Net, Scopes, Spawn, Timers, async_executor, compio, tokio, xiio};
use crate::pin::pin_to_core;
use crate::row::{Better, Case, Extras, Metric, Row, entry};
use crate::sample::Sample;
use crate::server::{accept_all, echo};
use crate::work::while_waiting_for;

pub(super) const fn percentile(key: &'static str, unit: &'static str) -> Metric {
    Metric { key, unit, better: Better::Lower }
}

pub const ROW: Row = Row {
    name: "latency",
    title: "Lateness of a 1 ms sleep beside busy tasks",
    note: "Of 1000 sleeps, one after the other, beside so many busy echo connections and a task that yields for ever, all on one \
           thread on core 0. A wheel of 1 ms ticks is up to 1 ms late by itself, xiio's as well as tokio's. monoio never comes to its \
           timers while a task yields for ever, so it is not here.",
    metrics: &[percentile("p999_us", "µs p99.9"), percentile("p50_us", "µs median"), percentile("max_us", "µs worst")],
    cases: &[Case::new("1000 connections", 1000, 1000)],
    entries: &[
        entry!(latency, xiio::Xiio),
        entry!(latency, tokio::CurrentThread),
        entry!(latency, tokio::InLocalSet),
        entry!(latency, async_executor::Smol),
        entry!(latency, compio::OnEpoll),
    ],
    extras: Extras::None,
    is_slow: false,
};

fn latency<R: Net + Scopes + Timers>(case: &Case) -> Sample {
    let Case { n, rounds, .. } = *case;
    pin_to_core(0);
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let load = Load::start(Some(1), &listener, &ECHO, n, u64::MAX);
    let sample = R::block_on(async move {
        let connections = accept_all::<R>(listener, n).await;
        let found = Rc::new(RefCell::new(None));
        let everything = R::scope(|scope| {
            for connection in connections {
                scope.spawn(echo(connection));
            }
            scope.spawn(async {
                loop {
                    R::yield_now().await;
                }
            });
            let found = found.clone();
            scope.spawn(async move {
                let lateness = sleep_again_and_again::<R>(rounds).await;
                *found.borrow_mut() = Some(lateness);
            });
        });
        while_waiting_for(everything, async {
            while found.borrow().is_none() {
                R::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        percentiles(found.take().expect("it was waited for"))
    });
    load.stop();
    sample
}

/// How late each of `n` sleeps of 1 ms ended.
async fn sleep_again_and_again<R: Timers>(n: u64) -> Vec<Duration> {
    let mut lateness = Vec::with_capacity(n as usize);
    for _ in 0..n {
        let due = Instant::now() + Duration::from_millis(1);
        R::sleep(Duration::from_millis(1)).await;
        lateness.push(due.elapsed());
    }
    lateness
}

pub(super) fn percentiles(mut lateness: Vec<Duration>) -> Sample {
    lateness.sort_unstable();
    let last = lateness.len() - 1;
    let at = |share: f64| lateness[(last as f64 * share) as usize].as_nanos() as f64 / 1e3;
    Sample::new().with("p999_us", at(0.999)).with("p50_us", at(0.5)).with("max_us", at(1.0))
}
