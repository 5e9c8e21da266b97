//! What the rows of TCP servers share.

use std::future::Future;
use std::net::TcpListener;

use crate::clock::Stopwatch;
use crate::load::{Load, Question};
use crate::peers::{Net, Scopes, Spawn, Stream};
use crate::pin::pin_to_core;
use crate::row::Case;
use crate::sample::Sample;

/// Measures a server on core 0 while a load generator on core 1 asks.
/// `serve` starts the clock when all have connected.
pub fn under_load(case: &Case, question: &Question, serve: impl FnOnce(TcpListener) -> Stopwatch) -> Sample {
    pin_to_core(0);
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let load = Load::start(&listener, question, case.n, case.rounds);
    let clock = serve(listener);
    let n_requests = load.finish();
    let sample = clock.per_operation(n_requests);
    let requests_per_second = 1e9 / sample.get("wall_ns").expect("the clock knows the wall");
    sample.with("requests", requests_per_second)
}

/// Has each of so many connections answered by a task of its own, to the end; the clock runs from when they are there.
pub fn serve<R: Net + Scopes, F>(listener: TcpListener, n_connections: u64, answer: fn(R::Tcp) -> F) -> Stopwatch
where
    F: Future<Output = ()> + 'static,
{
    R::block_on(async move {
        let connections = accept_all::<R>(listener, n_connections).await;
        let clock = Stopwatch::start();
        R::scope(|scope| {
            for connection in connections {
                scope.spawn(answer(connection));
            }
        })
        .await;
        clock
    })
}

pub async fn accept_all<R: Net>(listener: TcpListener, n_connections: u64) -> Vec<R::Tcp> {
    let mut listener = R::listener(listener);
    let mut connections = Vec::new();
    for _ in 0..n_connections {
        connections.push(R::accept(&mut listener).await);
    }
    connections
}

/// Sends back what comes, to the end.
pub async fn echo(mut connection: impl Stream) {
    let mut buffer = [0; 1024];
    loop {
        match connection.read(&mut buffer).await {
            0 => return,
            n => connection.write_all(&buffer[..n]).await,
        }
    }
}
