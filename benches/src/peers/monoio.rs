//! monoio, on epoll and on io_uring.

use std::future::Future;
use std::marker::PhantomData;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream, UnixStream};
use monoio::task::JoinHandle;
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

use super::{Net, Runtime, Scopes, Spawn, Stream, Timers};

pub type OnEpoll = Monoio<LegacyDriver>;
pub type OnUring = Monoio<IoUringDriver>;

pub struct Monoio<D>(PhantomData<D>);

impl Runtime for OnEpoll {
    const NAME: &'static str = "monoio";

    fn block_on<F>(main: F) -> F::Output
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let runtime = RuntimeBuilder::<LegacyDriver>::new().enable_timer().build();
        runtime.unwrap().block_on(as_task(main))
    }
}

impl Runtime for OnUring {
    const NAME: &'static str = "monoio-uring";

    fn block_on<F>(main: F) -> F::Output
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let runtime = RuntimeBuilder::<IoUringDriver>::new().enable_timer().build();
        runtime.unwrap().block_on(as_task(main))
    }
}

/// The future of `block_on` must not wake itself without end: it would be polled before any task.
async fn as_task<F>(main: F) -> F::Output
where
    F: Future + 'static,
    F::Output: 'static,
{
    monoio::spawn(main).await
}

#[derive(Default)]
pub struct Tasks(Vec<JoinHandle<()>>);

impl Spawn for Tasks {
    fn spawn(&mut self, future: impl Future<Output = ()> + 'static) {
        self.0.push(monoio::spawn(future));
    }
}

impl<D: 'static> Scopes for Monoio<D>
where
    Monoio<D>: Runtime,
{
    type Scope<'scope> = Tasks;

    async fn scope(fill: impl FnOnce(&mut Tasks)) {
        let mut tasks = Tasks::default();
        fill(&mut tasks);
        for task in tasks.0 {
            task.await;
        }
    }
}

impl<D: 'static> Timers for Monoio<D>
where
    Monoio<D>: Runtime,
{
    fn sleep(duration: Duration) -> impl Future<Output = ()> {
        monoio::time::sleep(duration)
    }

    async fn timeout(duration: Duration, future: impl Future<Output = ()>) {
        let _ = monoio::time::timeout(duration, future).await;
    }
}

/// A stream with the buffers that monoio takes by value.
pub struct Buffered<S> {
    stream: S,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl<S> Buffered<S> {
    fn new(stream: S) -> Self {
        Buffered { stream, input: Vec::with_capacity(1024), output: Vec::with_capacity(1024) }
    }
}

impl<D: 'static> Net for Monoio<D>
where
    Monoio<D>: Runtime,
{
    type Listener = TcpListener;
    type Tcp = Buffered<TcpStream>;
    type Unix = Buffered<UnixStream>;

    fn listener(listener: std::net::TcpListener) -> TcpListener {
        listener.set_nonblocking(true).unwrap();
        TcpListener::from_std(listener).unwrap()
    }

    async fn accept(listener: &mut TcpListener) -> Self::Tcp {
        Buffered::new(listener.accept().await.unwrap().0)
    }

    fn unix(stream: StdUnixStream) -> Self::Unix {
        stream.set_nonblocking(true).unwrap();
        Buffered::new(UnixStream::from_std(stream).unwrap())
    }
}

impl<S: AsyncReadRent + AsyncWriteRent> Stream for Buffered<S> {
    async fn read(&mut self, buffer: &mut [u8]) -> usize {
        let (result, input) = self.stream.read(std::mem::take(&mut self.input)).await;
        self.input = input;
        let n = result.unwrap();
        buffer[..n].copy_from_slice(&self.input[..n]);
        n
    }

    async fn write_all(&mut self, bytes: &[u8]) {
        let mut output = std::mem::take(&mut self.output);
        output.clear();
        output.extend_from_slice(bytes);
        let (result, output) = self.stream.write_all(output).await;
        result.unwrap();
        self.output = output;
    }
}
