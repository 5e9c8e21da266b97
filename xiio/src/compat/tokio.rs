//! A xiio tree inside a tokio runtime, and futures of tokio's inside a xiio tree.

use std::future::{IntoFuture, pending, poll_fn};
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::Instant;

use ::tokio::io::Interest;
use ::tokio::io::unix::AsyncFd;
use ::tokio::runtime::Handle;
use ::tokio::time::{self, Sleep};

use super::Embed;
use crate::combine::branch;
use crate::runtime::{Outside, TOKIO_THREAD};
use crate::sys::fork::{self, Process};

/// Runs a future, and every xiio task under it, inside a tokio runtime.
///
/// It stays on its thread, so it is awaited in [`tokio::task::LocalSet`], in a current-thread runtime, or as the
/// argument of `Runtime::block_on`. Inside, everything of xiio works, and futures of tokio work as well: their runtime
/// is around. Time is xiio's own: a paused clock of tokio's does not affect the sleeps of xiio.
///
/// # Panics
/// With the panic of the future; when polled outside of a tokio runtime, or in one without `enable_io` and
/// `enable_time`; when that is shut down before the tree has ended; and inside a xiio runtime.
///
/// # Cancellation
/// If tokio drops it (a `select!`, a `timeout`, an aborted task), it drops the whole tree: destructors run, cleanup
/// that awaits does not. To have that cleanup run, put [`xiio::timeout`](crate::timeout) inside.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
/// let value = runtime.block_on(xiio::compat::on_tokio(async {
///     xiio::task_group!(|tg| {
///         tg.spawn(xiio::sleep(Duration::from_millis(2)));
///         tg.spawn(tokio::time::sleep(Duration::from_millis(1)));
///     });
///     7
/// }));
/// assert_eq!(value, 7);
/// # std::io::Result::Ok(())
/// ```
///
/// # Source
/// `xiio.on_asyncio` in the Python original.
pub async fn on_tokio<F: IntoFuture>(future: F) -> F::Output {
    let mut tree = Embed::new(future).unwrap_or_else(|error| panic!("cannot start a runtime: {error}"));
    let readiness = watch(&tree).unwrap_or_else(|error| panic!("tokio cannot watch a xiio tree: {error}"));
    let mut timer = pin!(time::sleep_until(time::Instant::now()));
    poll_fn(|cx| {
        loop {
            let noted = note_readiness(&readiness, cx);
            if let Poll::Ready(value) = tree.turn(cx) {
                return Poll::Ready(value);
            }
            noted.unwrap_or_else(|error| panic!("tokio watches a xiio tree no longer: {error}"));
            ready!(poll_deadline(timer.as_mut(), tree.next_deadline(), cx));
        }
    })
    .await
}

#[allow(deprecated, reason = "its successor is unsafe and asks for a descriptor that stays open, as an `OwnedFd` does")]
fn watch<F: Future>(tree: &Embed<F>) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(tree.descriptor().try_clone_to_owned()?, Interest::READABLE)
}

/// Takes the readiness that tokio has seen so far, and asks to be woken at the next. The turn afterwards deals with it.
///
/// An error when there is no next, as the runtime is shut down.
fn note_readiness(readiness: &AsyncFd<OwnedFd>, cx: &mut Context<'_>) -> io::Result<()> {
    while let Poll::Ready(guard) = readiness.poll_read_ready(cx) {
        guard?.clear_ready();
    }
    Ok(())
}

/// `Ready` when the deadline has come; asks to be woken then otherwise.
fn poll_deadline(mut timer: Pin<&mut Sleep>, deadline: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
    let Some(deadline) = deadline else { return Poll::Pending };
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Poll::Ready(());
    }
    if timer.deadline() != time::Instant::from_std(deadline) || timer.is_elapsed() {
        timer.as_mut().reset(time::Instant::from_std(deadline));
    }
    if timer.poll(cx).is_ready() {
        // A clock of tokio's own that is ahead: paused in a test, say.
        cx.waker().wake_by_ref();
    }
    Poll::Pending
}

/// Runs a future of tokio's libraries inside a xiio task: sockets, timers and `spawn` of tokio find their runtime.
///
/// For a library that insists on tokio (`reqwest`, say) where the program is xiio's. The future stays in its task, so
/// it may borrow and need not be `Send`. Groups inside of it have the context as well, also on their workers, and so have
/// [`run_in_thread`](crate::run_in_thread) and [`in_thread`](crate::in_thread()):
/// `#[xiio::main(tokio)]` gives it to a whole program. Where a tokio runtime is around already, as under [`on_tokio`], that
/// one is used. It must be running meanwhile. If [`xiio::run`](crate::run) holds up the only thread of a current-thread
/// runtime, the future waits for ever: take [`on_tokio`] there.
///
/// Some futures of tokio's look for the runtime when they are made, before they are polled: `tokio::time::sleep(…)` as
/// the argument itself panics, in an `async` block it works.
///
/// # Panics
/// With the panic of the future. When the thread or its runtime cannot be started.
///
/// The panic of a task that the future hands to `tokio::spawn` goes to its `JoinHandle`. Such a task is outside of the tree, on another
/// thread: futures that wait for xiio panic in it. Functions that need more than a context panic as in any current-thread runtime:
/// `block_in_place`, and `spawn_local` outside of a `LocalSet`.
///
/// # Cancellation
/// Passed on to the future; whoever cancels waits for its cleanup, which has the context, too. A future of tokio's has no
/// cleanup that awaits, and is dropped at once, as tokio does it. Tasks that it has handed to `tokio::spawn` are not in
/// the tree: they run on, on the other thread, unless its destructors abort them.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use tokio::net::{TcpListener, TcpStream};
///
/// let answer = xiio::run(xiio::compat::with_tokio(async {
///     let listener = TcpListener::bind("127.0.0.1:0").await?;
///     let mut client = TcpStream::connect(listener.local_addr()?).await?;
///     xiio::task_group!(|tg| {
///         tg.spawn(async {
///             let (mut stream, _) = listener.accept().await.unwrap();
///             tokio::time::sleep(Duration::from_millis(1)).await;
///             stream.write_all(b"hello").await.unwrap();
///         });
///         let mut answer = String::new();
///         client.read_to_string(&mut answer).await?;
///         std::io::Result::Ok(answer)
///     })
/// }))?;
/// assert_eq!(answer, "hello");
/// # std::io::Result::Ok(())
/// ```
///
/// # Implementation
/// One thread for the whole process, `xiio-tokio`, runs a current-thread runtime that watches the descriptors and the
/// clock, and polls what is given to `tokio::spawn`. Each poll and the destructor of the future enter its context. The
/// thread starts with the first call (in a process that was forked off, too) and stays, since the tasks of connection
/// pools live there between two calls; while nothing happens it rests in the kernel. An event costs a wake from one
/// thread to another.
///
/// Without a second thread this is not possible. A runtime of tokio's turns only in a `block_on`, which may wait, and
/// does not give out the descriptor that it waits for. A program that does most of its work in tokio takes
/// [`on_tokio`], which has no second thread.
///
/// Time is tokio's inside of its futures, also in a test with virtual time: the clock does not jump while one is waited
/// for, nor is a deadlock seen.
pub fn with_tokio<F: IntoFuture>(future: F) -> impl Future<Output = F::Output> {
    let context = Handle::try_current().unwrap_or_else(|_| helper());
    branch(InContext { context, future: Some(Box::pin(future.into_future())), outside: Outside::default() })
}

/// A future that is polled and dropped in the context of a tokio runtime.
struct InContext<F> {
    context: Handle,
    /// Boxed, since the destructor has to reach it.
    future: Option<Pin<Box<F>>>,
    /// Keeps the runtime from taking the wait for a deadlock.
    outside: Outside,
}

impl<F: Future> Future for InContext<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { context, future, outside } = &mut *self;
        outside.count_here();
        let _entered = context.enter();
        let value = ready!(future.as_mut().expect("a future is not polled after its end").as_mut().poll(cx));
        *future = None;
        Poll::Ready(value)
    }
}

impl<F> Drop for InContext<F> {
    fn drop(&mut self) {
        // A future that is kept in a thread-local may outlive what keeps tokio's context.
        let has_ended = Handle::try_current().is_err_and(|error| error.is_thread_local_destroyed());
        let _entered = (!has_ended).then(|| self.context.enter());
        self.future = None;
    }
}

/// The runtime whose contexts are entered; its thread starts at the first call in this process, which may have been forked off another.
fn helper() -> Handle {
    static HELPER: Mutex<Option<Helper>> = Mutex::new(None);
    static IS_HELD: AtomicBool = AtomicBool::new(false);
    let mut helper = fork::lock(&HELPER, &IS_HELD);
    if let Some(helper) = helper.as_ref().filter(|helper| helper.of.is_this()) {
        return helper.context.clone();
    }
    let context = start_helper().unwrap_or_else(|error| panic!("cannot start a runtime of tokio: {error}"));
    // That of another process is left alone: its thread, which is not here, may have been in the middle of it.
    mem::forget(helper.replace(Helper { of: Process::this(), context: context.clone() }));
    context
}

/// A runtime of tokio's, and the process that has its thread.
struct Helper {
    of: Process,
    context: Handle,
}

fn start_helper() -> io::Result<Handle> {
    let runtime = ::tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new().name(TOKIO_THREAD.into()).spawn(move || runtime.block_on(pending::<()>()))?;
    Ok(handle)
}
