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
    under_load_on(Some(1), case, question, serve)
}

/// Measures a server that may have several cores, which it shares with the load generator.
pub fn under_load_on_all_cores(
    case: &Case,
    question: &Question,
    serve: impl FnOnce(TcpListener) -> Stopwatch,
) -> Sample {
    under_load_on(None, case, question, serve)
}

fn under_load_on(
    core: Option<usize>,
    case: &Case,
    question: &Question,
    serve: impl FnOnce(TcpListener) -> Stopwatch,
) -> Sample {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let load = Load::start(core, &listener, question, case.n, case.rounds);
    let clock = serve(listener);
    let n_requests = load.finish();
    let sample = clock.per_operation(n_requests);
    let requests_per_second = 1e9 / sample.get("wall_ns").expect("the clock knows the wall");
    sample.with("requests", requests_per_second)
}

/// Has each of so many connections answered by a task of its own, to the end; the clock runs from when they are there.
pub fn serve<R: Net + Scopes, F>(
    listener: TcpListener,
    n_connections: u64,
    answer: impl Fn(R::Tcp) -> F + 'static,
) -> Stopwatch
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
pub async fn echo(connection: impl Stream) {
    echo_after(connection, || ()).await;
}

/// Sends back what comes, each time after some work.
pub async fn echo_after(mut connection: impl Stream, work: impl Fn()) {
    let mut buffer = [0; 1024];
    loop {
        match connection.read(&mut buffer).await {
            0 => return,
            n => {
                work();
                connection.write_all(&buffer[..n]).await;
            }
        }
    }
}
