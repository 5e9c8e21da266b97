//! Row 7: a TCP echo server under load.

use std::net::TcpListener;

use crate::clock::Stopwatch;
use crate::floors;
use crate::load::Load;
use crate::peers::{Net, Scopes, Spawn, Stream, async_executor, compio, monoio, tokio, xiio};
use crate::pin::pin_to_core;
use crate::row::{Better, Case, Entry, Extras, Metric, Row, entry};
use crate::sample::Sample;

pub const ROW: Row = Row {
    name: "echo",
    title: "TCP echo server",
    note: "64 bytes, each connection asks again when it has its answer; loopback; server on core 0, load generator (raw \
           epoll) on core 1. The first value is the server's CPU time per request. The load generator is nearly as \
           busy as the fast servers, which caps the requests per second: compare the CPU time.",
    metrics: &[
        Metric { key: "cpu_ns", unit: "ns CPU per request", better: Better::Lower },
        Metric { key: "requests", unit: "requests/s", better: Better::Higher },
    ],
    cases: &[
        Case::new("10 connections", 10, 60_000),
        Case::new("50 connections", 50, 100_000),
        Case::new("1000 connections", 1000, 100_000),
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
    under_load(case, |listener| floors::echo::serve(listener, case.n))
}

fn echo<R: Net + Scopes>(case: &Case) -> Sample {
    let n_connections = case.n;
    under_load(case, |listener| {
        R::block_on(async move {
            let mut listener = R::listener(listener);
            let mut connections = Vec::new();
            for _ in 0..n_connections {
                connections.push(R::accept(&mut listener).await);
            }
            let clock = Stopwatch::start();
            R::scope(|scope| {
                for connection in connections {
                    scope.spawn(answer(connection));
                }
            })
            .await;
            clock
        })
    })
}

/// Sends back what comes, to the end.
pub async fn answer(mut connection: impl Stream) {
    let mut buffer = [0; 1024];
    loop {
        match connection.read(&mut buffer).await {
            0 => return,
            n => connection.write_all(&buffer[..n]).await,
        }
    }
}

/// Measures a server on core 0 while a load generator on core 1 asks.
/// `serve` starts the clock when all have connected.
fn under_load(case: &Case, serve: impl FnOnce(TcpListener) -> Stopwatch) -> Sample {
    pin_to_core(0);
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let load = Load::start(&listener, case.n, case.rounds);
    let clock = serve(listener);
    let n_requests = load.finish();
    let sample = clock.per_operation(n_requests);
    let requests_per_second = 1e9 / sample.get("wall_ns").expect("the clock knows the wall");
    sample.with("requests", requests_per_second)
}
