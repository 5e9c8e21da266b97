//! Row 13: what a runtime adds to the cost of an HTTP server.

use std::convert::Infallible;

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;

use crate::floors;
use crate::load::HTTP;
use crate::peers::{Hyper, Scopes, async_executor, tokio, xiio};
use crate::row::{Better, Case, Entry, Extras, Metric, Row, entry};
use crate::sample::Sample;
use crate::server::{serve, under_load};

pub const ROW: Row = Row {
    name: "http",
    title: "HTTP/1.1 through hyper",
    note: "A GET answered with 13 bytes, by one version of hyper with its default settings for all. The streams are xiio's \
           `HyperStream`, hyper-util's `TokioIo`, and smol-hyper's `FuturesIo`; for the latter hyper copies head and body \
           into one buffer, as it does not write several at once. `raw` looks for the blank line and writes the same bytes. \
           Cores and load as in `echo`.",
    metrics: &[
        Metric { key: "cpu_ns", unit: "ns CPU per request", better: Better::Lower },
        Metric { key: "requests", unit: "requests/s", better: Better::Higher },
    ],
    cases: &[Case::new("64 connections", 64, 100_000)],
    entries: &[
        Entry::floor("raw", raw),
        entry!(http, xiio::Xiio),
        entry!(http, tokio::CurrentThread),
        entry!(http, tokio::InLocalSet),
        entry!(http, tokio::MultiThread),
        entry!(http, async_executor::Smol),
    ],
    extras: Extras::None,
    is_slow: false,
};

const BODY: &[u8] = b"Hello, world!";

/// What hyper answers, at some time.
const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\nHello, world!";

fn raw(case: &Case) -> Sample {
    under_load(case, &HTTP, |listener| {
        floors::server::serve(listener, case.n, |request| {
            assert!(request.ends_with(b"\r\n\r\n"), "a request comes in one piece on loopback");
            RESPONSE
        })
    })
}

fn http<R: Hyper + Scopes>(case: &Case) -> Sample {
    under_load(case, &HTTP, |listener| serve::<R, _>(listener, case.n, |connection| answer::<R>(connection, || ())))
}

/// Answers every request of a connection, each after some work, to the end.
pub(super) async fn answer<R: Hyper>(connection: R::Tcp, work: impl Fn()) {
    let hello = service_fn(async |_| {
        work();
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(BODY))))
    });
    http1::Builder::new().serve_connection(R::io(connection), hello).await.unwrap();
}
