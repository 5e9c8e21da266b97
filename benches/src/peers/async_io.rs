//! async-io and what is built on it (blocking, async-process), for everything that has no reactor of its own.

use std::future::Future;
use std::marker::PhantomData;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use async_io::{Async, Timer};
use async_process::Command;
use futures::FutureExt;
use futures_lite::future::or;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use smol_hyper::rt::FuturesIo;

use super::{Hyper, Net, Processes, Runtime, Stream, Threads, Timers};

/// The tasks of `T`, driven by `async_io::block_on`.
pub struct WithAsyncIo<T>(PhantomData<T>);

impl<T> Timers for WithAsyncIo<T>
where
    WithAsyncIo<T>: Runtime,
{
    fn sleep(duration: Duration) -> impl Future<Output = ()> {
        Timer::after(duration).map(drop)
    }

    fn timeout(duration: Duration, future: impl Future<Output = ()>) -> impl Future<Output = ()> {
        or(future, Self::sleep(duration))
    }
}

impl<T> Net for WithAsyncIo<T>
where
    WithAsyncIo<T>: Runtime,
{
    type Listener = Async<std::net::TcpListener>;
    type Tcp = Async<std::net::TcpStream>;
    type Unix = Async<UnixStream>;

    fn listener(listener: std::net::TcpListener) -> Self::Listener {
        Async::new(listener).unwrap()
    }

    async fn accept(listener: &mut Self::Listener) -> Self::Tcp {
        listener.accept().await.unwrap().0
    }

    fn unix(stream: UnixStream) -> Self::Unix {
        Async::new(stream).unwrap()
    }
}

impl<T> Stream for Async<T>
where
    Async<T>: futures_lite::AsyncRead + futures_lite::AsyncWrite + Unpin,
{
    async fn read(&mut self, buffer: &mut [u8]) -> usize {
        AsyncReadExt::read(self, buffer).await.unwrap()
    }

    async fn write_all(&mut self, bytes: &[u8]) {
        AsyncWriteExt::write_all(self, bytes).await.unwrap();
    }
}

impl<T> Hyper for WithAsyncIo<T>
where
    WithAsyncIo<T>: Runtime,
{
    type Io = FuturesIo<Self::Tcp>;

    fn io(stream: Self::Tcp) -> Self::Io {
        FuturesIo::new(stream)
    }
}

impl<T> Threads for WithAsyncIo<T>
where
    WithAsyncIo<T>: Runtime,
{
    async fn offload(job: impl FnOnce() -> u64 + Send + 'static) -> u64 {
        blocking::unblock(job).await
    }
}

impl<T> Processes for WithAsyncIo<T>
where
    WithAsyncIo<T>: Runtime,
{
    async fn run_program(program: &'static str) {
        let status = Command::new(program).status().await.unwrap();
        assert!(status.success());
    }
}
