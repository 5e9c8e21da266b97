//! The runtimes that are compared, each in a file of its own, and the traits through which the rows use them.
//!
//! A row is written once, generic over the traits it needs; a runtime implements those for which it has something. All
//! of it is resolved when compiling, so the traits cost nothing at run time.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::row::Family;
use crate::sample::Sample;
use crate::work;

pub mod async_executor;
pub mod async_io;
pub mod compio;
pub mod futures;
pub mod futures_buffered;
pub mod futures_concurrency;
pub mod glommio;
pub mod monoio;
pub mod moro;
pub mod tokio;
pub mod xiio;

/// Passes for `Send` where a runtime demands it although everything stays on one thread. Also where a row is generic, so
/// that the compiler cannot see that its future is `Send`.
pub struct AssertSend<T>(pub T);

// SAFETY: the futures of the rows are made of integers, atomics, and what the runtime itself hands out for use in its
// tasks; the few that hold an `Rc` (`work::Leaf`) run on runtimes of one thread only.
unsafe impl<T> Send for AssertSend<T> {}

impl<F: Future> Future for AssertSend<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: the field is pinned whenever the wrapper is: it is never moved out of one that has been polled, and
        // there is no `Drop` of the wrapper's own.
        unsafe { self.map_unchecked_mut(|wrapper| &mut wrapper.0) }.poll(cx)
    }
}

/// Polls `main` in a busy loop: the cheapest way to run what needs no runtime.
pub fn poll_to_the_end<F: Future>(main: F) -> F::Output {
    let mut main = pin!(main);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = main.as_mut().poll(&mut cx) {
            return output;
        }
    }
}

pub trait Runtime: 'static {
    const NAME: &'static str;
    const FAMILY: Family = Family::Peer;

    /// Runs `main` to its end.
    fn block_on<F>(main: F) -> F::Output
    where
        F: Future + 'static,
        F::Output: 'static;

    /// The runtime's own way to let the others run.
    fn yield_now() -> impl Future<Output = ()> {
        work::yield_once()
    }
}

/// Groups into which futures of any type can be spawned.
pub trait Scopes: Runtime {
    type Scope<'scope>: Spawn;

    /// Opens a group, lets `fill` spawn into it, and waits until all that was spawned has ended.
    fn scope(fill: impl FnOnce(&mut Self::Scope<'_>)) -> impl Future<Output = ()>;
}

pub trait Spawn {
    fn spawn(&mut self, future: impl Future<Output = ()> + 'static);
}

/// Runs futures of one type side by side.
pub trait All: Runtime {
    /// Waits until all of them have ended. Dropped before, it drops them, or has them dropped.
    fn all<F>(futures: impl Iterator<Item = F>) -> impl Future<Output = ()>
    where
        F: Future<Output = ()> + 'static;
}

impl<R: Scopes> All for R {
    async fn all<F>(futures: impl Iterator<Item = F>)
    where
        F: Future<Output = ()> + 'static,
    {
        R::scope(|scope| futures.for_each(|future| scope.spawn(future))).await;
    }
}

/// Ends tasks that would go on for ever.
pub trait Cancel: All {
    /// Runs the futures until `started` is ready, and measures from there until they have been dropped.
    fn cancel<F>(
        futures: impl ExactSizeIterator<Item = F>,
        started: impl Future<Output = ()>,
    ) -> impl Future<Output = Sample>
    where
        F: Future<Output = ()> + 'static,
    {
        cancel_by_drop::<Self, F>(futures, started)
    }
}

async fn cancel_by_drop<R: All + ?Sized, F>(
    futures: impl ExactSizeIterator<Item = F>,
    started: impl Future<Output = ()>,
) -> Sample
where
    F: Future<Output = ()> + 'static,
{
    let n = futures.len() as u64;
    let clock = work::while_waiting_for(R::all(futures), async {
        started.await;
        Stopwatch::start()
    });
    clock.await.per_operation(n)
}

/// Spawns, waits for `started`, and measures how long `cancel` takes to end them.
async fn cancel_tasks<S: Spawn + Default, F>(
    futures: impl ExactSizeIterator<Item = F>,
    started: impl Future<Output = ()>,
    cancel: impl AsyncFnOnce(S),
) -> Sample
where
    F: Future<Output = ()> + 'static,
{
    let n = futures.len() as u64;
    let mut tasks = S::default();
    futures.for_each(|future| tasks.spawn(future));
    started.await;
    let clock = Stopwatch::start();
    cancel(tasks).await;
    clock.per_operation(n)
}

pub trait Timers: Runtime {
    fn sleep(duration: Duration) -> impl Future<Output = ()>;

    /// Runs `future` for at most `duration`.
    fn timeout(duration: Duration, future: impl Future<Output = ()>) -> impl Future<Output = ()>;
}

/// A connection. Errors are the end of the measurement.
pub trait Stream {
    /// The number of bytes read, 0 at the end.
    fn read(&mut self, buffer: &mut [u8]) -> impl Future<Output = usize>;
    fn write_all(&mut self, bytes: &[u8]) -> impl Future<Output = ()>;
}

pub trait Net: Runtime {
    type Listener;
    type Tcp: Stream + 'static;
    type Unix: Stream + 'static;

    fn listener(listener: std::net::TcpListener) -> Self::Listener;
    fn accept(listener: &mut Self::Listener) -> impl Future<Output = Self::Tcp>;
    fn unix(stream: std::os::unix::net::UnixStream) -> Self::Unix;
}

/// Connections in the shape that hyper asks for.
pub trait Hyper: Net {
    type Io: hyper::rt::Read + hyper::rt::Write + Unpin + 'static;

    fn io(stream: Self::Tcp) -> Self::Io;
}

pub trait Threads: Runtime {
    /// Runs `job` on another thread.
    fn offload(job: impl FnOnce() -> u64 + Send + 'static) -> impl Future<Output = u64>;
}

pub trait Processes: Runtime {
    /// Runs a program without arguments until it has exited with success.
    fn run_program(program: &'static str) -> impl Future<Output = ()>;
}
