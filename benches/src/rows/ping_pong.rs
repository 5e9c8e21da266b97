//! Row 6: what waiting for a descriptor costs when there is nothing else to do.

use std::os::unix::net::UnixStream;

use crate::clock::Stopwatch;
use crate::floors;
use crate::peers::{All, Net, Stream, async_executor, compio, futures, monoio, tokio, xiio};
use crate::row::{CPU_NS, Case, Entry, Extras, Row, WALL_NS, entry};
use crate::sample::Sample;

pub const ROW: Row = Row {
    name: "ping-pong",
    title: "Ping-pong between two tasks over a socket pair",
    note: "Per round trip of 8 bytes. Everything happens on one thread (tokio-mt: two). `raw` is one epoll loop.",
    metrics: &[WALL_NS, CPU_NS],
    cases: &[Case::new("8 bytes", 2, 50_000)],
    entries: &[
        Entry::floor("raw", floors::ping_pong::epoll),
        entry!(ping_pong, xiio::Xiio),
        entry!(ping_pong, tokio::CurrentThread),
        entry!(ping_pong, tokio::InLocalSet),
        entry!(ping_pong, tokio::MultiThread),
        entry!(ping_pong, async_executor::Smol),
        entry!(ping_pong, futures::UnorderedWithAsyncIo),
        entry!(ping_pong, monoio::OnEpoll),
        entry!(ping_pong, monoio::OnUring),
        entry!(ping_pong, compio::OnEpoll),
        entry!(ping_pong, compio::OnUring),
    ],
    extras: Extras::SystemCalls,
    is_slow: false,
};

fn ping_pong<R: All + Net>(case: &Case) -> Sample {
    let rounds = case.rounds;
    R::block_on(async move {
        let (a, b) = UnixStream::pair().unwrap();
        let players = [(R::unix(a), true), (R::unix(b), false)];
        let clock = Stopwatch::start();
        R::all(players.into_iter().map(|(end, begins)| play::<R>(end, begins, rounds))).await;
        clock.per_operation(rounds)
    })
}

async fn play<R: Net>(mut end: R::Unix, begins: bool, rounds: u64) {
    const MESSAGE: [u8; 8] = [0; 8];
    // Longer than the message: a short read tells a runtime that there is no more, without asking
    // again.
    let mut buffer = [0; 64];
    for _ in 0..rounds {
        if begins {
            end.write_all(&MESSAGE).await;
        }
        assert_eq!(end.read(&mut buffer).await, MESSAGE.len());
        if !begins {
            end.write_all(&MESSAGE).await;
        }
    }
}
