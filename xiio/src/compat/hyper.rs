//! What hyper asks of a runtime: streams, a clock, and somebody to run its tasks.

mod local;
mod requests;

pub use self::local::Local;
pub use self::requests::{RequestTask, RequestTasks, TaskBody};

use std::cell::Cell;
use std::fmt;
use std::io::{self, IoSlice};
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use ::hyper::rt;
use futures_io::{AsyncRead, AsyncWrite};

use crate::group::{Remote, TaskGroup};
use crate::report::{ReportKind, report};
use crate::time::{Sleep, now, sleep, sleep_until};

/// So much is read at once.
const SCRATCH: usize = 16 * 1024;

thread_local! {
    /// Where reads go before they are copied; taken out while it is used.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A stream as hyper wants it: anything with the traits of `futures-io`, such as the streams of [`net`](crate::net), or one of
/// TLS around them.
///
/// # Examples
/// A server and a client on one connection.
/// ```
/// use std::convert::Infallible;
/// use hyper::{Request, Response, body::Bytes, service::service_fn};
/// use http_body_util::{BodyExt, Empty, Full};
/// use xiio::compat::HyperStream;
/// use xiio::net::{TcpListener, TcpStream};
///
/// type AnyError = Box<dyn std::error::Error>;
///
/// async fn serve_one(listener: TcpListener) {
///     let (stream, _) = listener.accept().await.unwrap();
///     let hello = service_fn(async |_| Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("hello")))));
///     let server = hyper::server::conn::http1::Builder::new();
///     server.serve_connection(HyperStream::new(stream), hello).await.unwrap();
/// }
///
/// async fn fetch(addr: std::net::SocketAddr) -> Result<Bytes, AnyError> {
///     let stream = HyperStream::new(TcpStream::connect(addr).await?);
///     let (mut client, connection) = hyper::client::conn::http1::handshake(stream).await?;
///     xiio::task_group!(|tg| {
///         tg.spawn(connection);
///         let request = Request::builder().header("host", "localhost").body(Empty::<Bytes>::new())?;
///         let response = client.send_request(request).await?;
///         drop(client);
///         Ok(response.into_body().collect().await?.to_bytes())
///     })
/// }
///
/// let body = xiio::run(async {
///     let listener = TcpListener::bind("127.0.0.1:0").await?;
///     let addr = listener.local_addr()?;
///     xiio::task_group!(|tg| {
///         tg.spawn(serve_one(listener));
///         fetch(addr).await
///     })
/// })?;
/// assert_eq!(body, "hello");
/// # Ok::<_, AnyError>(())
/// ```
///
/// hyper takes it to write several buffers at once. Where the stream does not (`poll_write_vectored` as `futures-io` has it), `writev(false)` of
/// hyper's builders for HTTP/1 puts head and body into one write; else they are two, and two records of TLS.
///
/// # Implementation
/// hyper hands out memory that is not initialised, which only `unsafe` code may be given to a reader; so what is read goes
/// through a buffer of the thread, 16 KiB at most at once, and is copied.
#[derive(Debug)]
pub struct HyperStream<S> {
    stream: S,
}

impl<S> HyperStream<S> {
    /// Wraps a stream.
    pub fn new(stream: S) -> Self {
        Self { stream }
    }

    /// Gives the stream back, for example after an upgrade.
    pub fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> rt::Read for HyperStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut room: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut buffer = BUFFER.take();
        buffer.resize(SCRATCH, 0);
        let len = room.remaining().min(SCRATCH);
        let polled = Pin::new(&mut self.stream).poll_read(cx, &mut buffer[..len]);
        if let Poll::Ready(Ok(n_read)) = polled {
            room.put_slice(&buffer[..n_read]);
        }
        BUFFER.set(buffer);
        polled.map_ok(|_| ())
    }
}

impl<S: AsyncWrite + Unpin> rt::Write for HyperStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        Pin::new(&mut self.stream).poll_close(cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}

/// The clock of the runtime as hyper wants it, for `Builder::timer`.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// let mut builder = hyper::server::conn::http1::Builder::new();
/// builder.timer(xiio::compat::HyperTimer).header_read_timeout(Duration::from_secs(5));
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct HyperTimer;

impl rt::Sleep for Sleep {}

impl rt::Timer for HyperTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(sleep(duration))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(sleep_until(deadline))
    }

    fn now(&self) -> Instant {
        now()
    }

    fn reset(&self, old: &mut Pin<Box<dyn rt::Sleep>>, deadline: Instant) {
        match old.as_mut().downcast_mut_pin::<Sleep>() {
            Some(mut old) => old.reset(deadline),
            None => *old = Box::pin(sleep_until(deadline)),
        }
    }
}

/// Runs what hyper spawns as tasks of a group: the streams of an HTTP/2 connection end with the group they are in.
///
/// They count for the `limit` of the group. With [`RequestTasks`] take another group than that of the requests if that has a limit.
///
/// # Examples
/// ```
/// use std::cell::Cell;
/// use hyper::rt::Executor;
/// use xiio::compat::GroupExecutor;
///
/// let n_run = Cell::new(0);
/// xiio::run(async {
///     xiio::task_group!(|tg| {
///         GroupExecutor::new(tg).execute(async { n_run.set(n_run.get() + 1) });
///     });
/// });
/// assert_eq!(n_run.get(), 1);
/// ```
pub struct GroupExecutor<'a, 'env> {
    group: &'a TaskGroup<'env>,
    /// Where it was made: its tasks are drawn with that place, as hyper's own would tell nothing.
    location: &'static Location<'static>,
}

impl<'a, 'env> GroupExecutor<'a, 'env> {
    /// Spawns into `group`. The tree shows this call as the place of the tasks.
    #[must_use]
    #[track_caller]
    pub fn new(group: &'a TaskGroup<'env>) -> Self {
        Self { group, location: Location::caller() }
    }
}

impl Clone for GroupExecutor<'_, '_> {
    fn clone(&self) -> Self {
        *self
    }
}

impl Copy for GroupExecutor<'_, '_> {}

impl<'env, F: Future + 'env> rt::Executor<F> for GroupExecutor<'_, 'env> {
    fn execute(&self, future: F) {
        self.group.spawn_at(future, self.location);
    }
}

/// For clients that keep their executor, such as the pooled one of `hyper-util`. A future that is spawned after the end of the
/// group is dropped, which is reported.
impl<F: Future + Send + 'static> rt::Executor<F> for Remote {
    fn execute(&self, future: F) {
        if let Err(ended) = self.spawn(|| future) {
            report(ReportKind::Refused, format!("a task of hyper's was refused: {ended}"));
        }
    }
}

impl fmt::Debug for GroupExecutor<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupExecutor").finish_non_exhaustive()
    }
}
