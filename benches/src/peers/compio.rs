//! compio, on its polling driver and on io_uring.

use std::future::Future;
use std::marker::PhantomData;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use compio::BufResult;
use compio::driver::{DriverType, ProactorBuilder};
use compio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream, UnixStream};
use compio::runtime::{JoinHandle, RuntimeBuilder};

use super::{Net, Runtime, Scopes, Spawn, Stream, Threads, Timers};

pub type OnEpoll = Compio<Poll>;
pub type OnUring = Compio<Uring>;

pub struct Compio<D>(PhantomData<D>);

/// Which of compio's drivers does the input and output.
pub trait Driver: 'static {
    const NAME: &'static str;
    const DRIVER: DriverType;
}

pub struct Poll;
pub struct Uring;

impl Driver for Poll {
    const NAME: &'static str = "compio";
    const DRIVER: DriverType = DriverType::Poll;
}

impl Driver for Uring {
    const NAME: &'static str = "compio-uring";
    const DRIVER: DriverType = DriverType::IoUring;
}

impl<D: Driver> Runtime for Compio<D> {
    const NAME: &'static str = D::NAME;

    fn block_on<F>(main: F) -> F::Output
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let mut proactor = ProactorBuilder::new();
        proactor.driver_type(D::DRIVER);
        let runtime = RuntimeBuilder::new().with_proactor(proactor).build();
        runtime.unwrap().block_on(async { compio::runtime::spawn(main).await.expect(NO_PANIC) })
    }
}

const NO_PANIC: &str = "no task panics";

#[derive(Default)]
pub struct Tasks(Vec<JoinHandle<()>>);

impl Spawn for Tasks {
    fn spawn(&mut self, future: impl Future<Output = ()> + 'static) {
        self.0.push(compio::runtime::spawn(future));
    }
}

impl<D: Driver> Scopes for Compio<D> {
    type Scope<'scope> = Tasks;

    async fn scope(fill: impl FnOnce(&mut Tasks)) {
        let mut tasks = Tasks::default();
        fill(&mut tasks);
        for task in tasks.0 {
            task.await.expect(NO_PANIC);
        }
    }
}

impl<D: Driver> Timers for Compio<D> {
    fn sleep(duration: Duration) -> impl Future<Output = ()> {
        compio::time::sleep(duration)
    }

    async fn timeout(duration: Duration, future: impl Future<Output = ()>) {
        let _ = compio::time::timeout(duration, future).await;
    }
}

impl<D: Driver> Threads for Compio<D> {
    async fn offload(job: impl FnOnce() -> u64 + Send + 'static) -> u64 {
        compio::runtime::spawn_blocking(job).await.expect(NO_PANIC)
    }
}

/// A stream with the buffers that compio takes by value.
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

impl<D: Driver> Net for Compio<D> {
    type Listener = TcpListener;
    type Tcp = Buffered<TcpStream>;
    type Unix = Buffered<UnixStream>;

    fn listener(listener: std::net::TcpListener) -> TcpListener {
        TcpListener::from_std(listener).unwrap()
    }

    async fn accept(listener: &mut TcpListener) -> Self::Tcp {
        Buffered::new(listener.accept().await.unwrap().0)
    }

    fn unix(stream: StdUnixStream) -> Self::Unix {
        Buffered::new(UnixStream::from_std(stream).unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite> Stream for Buffered<S> {
    async fn read(&mut self, buffer: &mut [u8]) -> usize {
        let mut input = std::mem::take(&mut self.input);
        input.clear();
        let BufResult(result, input) = self.stream.read(input).await;
        self.input = input;
        let n = result.unwrap();
        buffer[..n].copy_from_slice(&self.input[..n]);
        n
    }

    async fn write_all(&mut self, bytes: &[u8]) {
        let mut output = std::mem::take(&mut self.output);
        output.clear();
        output.extend_from_slice(bytes);
        let BufResult(result, output) = self.stream.write_all(output).await;
        result.unwrap();
        self.output = output;
    }
}
