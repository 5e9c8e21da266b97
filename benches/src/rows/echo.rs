//! Row 7: a TCP echo server under load.

use crate::floors;
use crate::load::ECHO;
use crate::peers::{Net, Scopes, async_executor, compio, monoio, tokio, xiio};
use crate::row::{Better, Case, Entry, Extras, Metric, Row, entry};
use crate::sample::Sample;
use crate::server::{self, serve, under_load};

pub const ROW: Row = Row {
    name: "echo",
    title: "TCP echo server",
    note: "64 bytes, each connection asks again when it has its answer; loopback; server on core 0, load generator (raw \
           epoll) on core 1. The first value is the server's CPU time per request. The load generator is nearly as \
           busy as the fast servers, which caps the requests per second: compare the CPU time. A machine has no ports for \
           100 000 connections to one address.",
    metrics: &[
        Metric { key: "cpu_ns", unit: "ns CPU per request", better: Better::Lower },
        Metric { key: "requests", unit: "requests/s", better: Better::Higher },
    ],
    cases: &[
        Case::new("10 connections", 10, 60_000),
        Case::new("50 connections", 50, 100_000),
        Case::new("1000 connections", 1000, 100_000),
        Case::new("10k connections", 10_000, 200_000),
    ],
    entries: &[
        Entry::floor("raw", raw),
        entry!(echo, xiio::Xiio),
        entry!(echo, tokio::CurrentThread),
        entry!(echo, tokio::InLocalSet),
        entry!(echo, tokio::MultiThread),
        entry!(echo, async_executor::Smol),
        entry!(echo, monoio::OnEpoll),
        entry!(echo, monoio::OnUring),
        entry!(echo, compio::OnEpoll),
        entry!(echo, compio::OnUring),
    ],
    extras: Extras::None,
    is_slow: false,
};

fn raw(case: &Case) -> Sample {
    under_load(case, &ECHO, |listener| floors::server::serve(listener, case.n, |request| request))
}

fn echo<R: Net + Scopes>(case: &Case) -> Sample {
    under_load(case, &ECHO, |listener| serve::<R, _>(listener, case.n, server::echo))
}
