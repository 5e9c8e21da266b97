//! xiio itself.

use std::future::Future;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use xiio::compat::HyperStream;
use xiio::io::{Read, Write};
use xiio::net::{TcpListener, TcpStream, UnixStream};
use xiio::{TaskGroup, task_group};

use super::{Cancel, Hyper, Net, Processes, Runtime, Scopes, Spawn, Stream, Threads, Timers};
use crate::clock::Stopwatch;
use crate::row::Family;
use crate::sample::Sample;

pub struct Xiio;

impl Runtime for Xiio {
    const NAME: &'static str = "xiio";
    const FAMILY: Family = Family::Xiio;

    fn block_on<F: Future>(main: F) -> F::Output {
        xiio::run(main)
    }

    fn yield_now() -> impl Future<Output = ()> {
        xiio::yield_now()
    }
}

pub struct Group<'scope>(&'scope TaskGroup<'scope>);

impl Spawn for Group<'_> {
    fn spawn(&mut self, future: impl Future<Output = ()> + 'static) {
        self.0.spawn(future);
    }
}

impl Scopes for Xiio {
    type Scope<'scope> = Group<'scope>;

    async fn scope(fill: impl FnOnce(&mut Group<'_>)) {
        task_group!(|tg| {
            fill(&mut Group(tg));
        });
    }
}

impl Cancel for Xiio {
    async fn cancel<F>(futures: impl ExactSizeIterator<Item = F>, started: impl Future<Output = ()>) -> Sample
    where
        F: Future<Output = ()> + 'static,
    {
        let n = futures.len() as u64;
        let clock = task_group!(|tg| {
            for future in futures {
                tg.spawn(future);
            }
            started.await;
            let clock = Stopwatch::start();
            tg.cancel();
            clock
        });
        clock.per_operation(n)
    }
}

impl Timers for Xiio {
    fn sleep(duration: Duration) -> impl Future<Output = ()> {
        xiio::sleep(duration)
    }

    async fn timeout(duration: Duration, future: impl Future<Output = ()>) {
        let _ = xiio::timeout(duration, future).await;
    }
}

impl Threads for Xiio {
    async fn offload(job: impl FnOnce() -> u64 + Send + 'static) -> u64 {
        xiio::in_thread(job).await
    }
}

impl Net for Xiio {
    type Listener = TcpListener;
    type Tcp = TcpStream;
    type Unix = UnixStream;

    fn listener(listener: std::net::TcpListener) -> TcpListener {
        listener.try_into().unwrap()
    }

    async fn accept(listener: &mut TcpListener) -> TcpStream {
        listener.accept().await.unwrap().0
    }

    fn unix(stream: StdUnixStream) -> UnixStream {
        stream.try_into().unwrap()
    }
}

impl Stream for TcpStream {
    async fn read(&mut self, buffer: &mut [u8]) -> usize {
        Read::read(self, buffer).await.unwrap()
    }

    async fn write_all(&mut self, bytes: &[u8]) {
        Write::write_all(self, bytes).await.unwrap();
    }
}

impl Stream for UnixStream {
    async fn read(&mut self, buffer: &mut [u8]) -> usize {
        Read::read(self, buffer).await.unwrap()
    }

    async fn write_all(&mut self, bytes: &[u8]) {
        Write::write_all(self, bytes).await.unwrap();
    }
}

impl Hyper for Xiio {
    type Io = HyperStream<TcpStream>;

    fn io(stream: TcpStream) -> Self::Io {
        HyperStream::new(stream)
    }
}

impl Processes for Xiio {
    async fn run_program(program: &'static str) {
        let status = xiio::process::Command::new(program).status().await.unwrap();
        assert!(status.success());
    }
}
