//! tokio: tasks in a `JoinSet`, on one thread, in a `LocalSet`, and on two workers.

use std::future::Future;
use std::marker::PhantomData;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::process::Command;
use tokio::runtime::Builder;
use tokio::task::coop::unconstrained;
use tokio::task::{JoinSet, LocalSet, spawn_blocking, spawn_local};

use super::{AssertSend, Cancel, Hyper, Net, Processes, Runtime, Scopes, Spawn, Stream, Threads, Timers, cancel_tasks};
use crate::row::Family;
use crate::sample::Sample;

pub type CurrentThread = Tokio<OnCurrentThread>;
pub type InLocalSet = Tokio<OnLocalSet>;
pub type MultiThread = Tokio<OnWorkers>;

pub struct Tokio<F>(PhantomData<F>);

/// Which of tokio's executors runs the tasks.
pub trait Flavor: 'static {
    const NAME: &'static str;
    type Set: Set;

    fn block_on<F>(main: F) -> F::Output
    where
        F: Future + 'static,
        F::Output: 'static;
}

pub trait Set: Spawn + Default + 'static {
    fn inner(&mut self) -> &mut JoinSet<()>;
}

pub struct OnCurrentThread;
pub struct OnLocalSet;
pub struct OnWorkers;

impl Flavor for OnCurrentThread {
    const NAME: &'static str = "tokio-ct";
    type Set = GlobalTasks;

    fn block_on<F>(main: F) -> F::Output
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        current_thread().block_on(global_task(main))
    }
}

impl Flavor for OnLocalSet {
    const NAME: &'static str = "tokio-localset";
    type Set = LocalTasks;

    fn block_on<F>(main: F) -> F::Output
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let main = async { spawn_local(unconstrained(main)).await.expect(NO_PANIC) };
        LocalSet::new().block_on(&current_thread(), main)
    }
}

impl Flavor for OnWorkers {
    const NAME: &'static str = "tokio-mt";
    type Set = GlobalTasks;

    fn block_on<F>(main: F) -> F::Output
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(global_task(main))
    }
}

const NO_PANIC: &str = "no task panics";

/// Runs `main` as a task, because the future of `block_on` has a slower way of being woken. Runs it
/// without a budget, because a budget that is used up makes timers pending without starting them.
async fn global_task<F>(main: F) -> F::Output
where
    F: Future + 'static,
    F::Output: 'static,
{
    let main = AssertSend(unconstrained(async { AssertSend(main.await) }));
    tokio::spawn(main).await.expect(NO_PANIC).0
}

fn current_thread() -> tokio::runtime::Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

impl<F: Flavor> Runtime for Tokio<F> {
    const NAME: &'static str = F::NAME;
    const FAMILY: Family = Family::Tokio;

    fn block_on<M>(main: M) -> M::Output
    where
        M: Future + 'static,
        M::Output: 'static,
    {
        F::block_on(main)
    }

    fn yield_now() -> impl Future<Output = ()> {
        tokio::task::yield_now()
    }
}

#[derive(Default)]
pub struct GlobalTasks(JoinSet<()>);

#[derive(Default)]
pub struct LocalTasks(JoinSet<()>);

impl Spawn for GlobalTasks {
    fn spawn(&mut self, future: impl Future<Output = ()> + 'static) {
        self.0.spawn(AssertSend(future));
    }
}

impl Spawn for LocalTasks {
    fn spawn(&mut self, future: impl Future<Output = ()> + 'static) {
        self.0.spawn_local(future);
    }
}

impl Set for GlobalTasks {
    fn inner(&mut self) -> &mut JoinSet<()> {
        &mut self.0
    }
}

impl Set for LocalTasks {
    fn inner(&mut self) -> &mut JoinSet<()> {
        &mut self.0
    }
}

impl<F: Flavor> Scopes for Tokio<F> {
    type Scope<'scope> = F::Set;

    async fn scope(fill: impl FnOnce(&mut F::Set)) {
        let mut set = F::Set::default();
        fill(&mut set);
        while let Some(result) = set.inner().join_next().await {
            result.expect(NO_PANIC);
        }
    }
}

impl<F: Flavor> Cancel for Tokio<F> {
    fn cancel<T>(
        futures: impl ExactSizeIterator<Item = T>,
        started: impl Future<Output = ()>,
    ) -> impl Future<Output = Sample>
    where
        T: Future<Output = ()> + 'static,
    {
        cancel_tasks(futures, started, async |mut set: F::Set| set.inner().shutdown().await)
    }
}

impl<F: Flavor> Timers for Tokio<F> {
    fn sleep(duration: Duration) -> impl Future<Output = ()> {
        tokio::time::sleep(duration)
    }

    async fn timeout(duration: Duration, future: impl Future<Output = ()>) {
        let _ = tokio::time::timeout(duration, future).await;
    }
}

impl<F: Flavor> Net for Tokio<F> {
    type Listener = TcpListener;
    type Tcp = TcpStream;
    type Unix = UnixStream;

    fn listener(listener: std::net::TcpListener) -> TcpListener {
        listener.set_nonblocking(true).unwrap();
        TcpListener::from_std(listener).unwrap()
    }

    async fn accept(listener: &mut TcpListener) -> TcpStream {
        listener.accept().await.unwrap().0
    }

    fn unix(stream: StdUnixStream) -> UnixStream {
        stream.set_nonblocking(true).unwrap();
        UnixStream::from_std(stream).unwrap()
    }
}

impl Stream for TcpStream {
    async fn read(&mut self, buffer: &mut [u8]) -> usize {
        AsyncReadExt::read(self, buffer).await.unwrap()
    }

    async fn write_all(&mut self, bytes: &[u8]) {
        AsyncWriteExt::write_all(self, bytes).await.unwrap();
    }
}

impl Stream for UnixStream {
    async fn read(&mut self, buffer: &mut [u8]) -> usize {
        AsyncReadExt::read(self, buffer).await.unwrap()
    }

    async fn write_all(&mut self, bytes: &[u8]) {
        AsyncWriteExt::write_all(self, bytes).await.unwrap();
    }
}

impl<F: Flavor> Hyper for Tokio<F> {
    type Io = TokioIo<TcpStream>;

    fn io(stream: TcpStream) -> Self::Io {
        TokioIo::new(stream)
    }
}

impl<F: Flavor> Threads for Tokio<F> {
    async fn offload(job: impl FnOnce() -> u64 + Send + 'static) -> u64 {
        spawn_blocking(job).await.unwrap()
    }
}

impl<F: Flavor> Processes for Tokio<F> {
    async fn run_program(program: &'static str) {
        let status = Command::new(program).status().await.unwrap();
        assert!(status.success());
    }
}
