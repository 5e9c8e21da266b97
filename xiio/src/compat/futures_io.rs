//! A stream of the crate `futures-io` with the traits of [`io`](crate::io).

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

use crate::io::{Read, Write, by_reference};
use crate::runtime::poll_leaf;
use crate::unwind::Reached;

/// Anything with the traits of `futures-io`, such as a stream of TLS, with [`Read`] and [`Write`].
///
/// `&FuturesIo` has them too, so [`copy_bidirectional`](crate::io::copy_bidirectional) works. If several tasks read, the last one that waited is
/// woken, as everywhere with these traits. The other direction needs no wrapper: xiio's own streams have the traits of `futures-io` themselves.
///
/// # Errors
/// Those of the stream. `Deadlock` when the stream, while it is polled, polls itself through this wrapper.
///
/// # Cancellation
/// As [`Read::read`] and [`Write::write`] say, if the stream takes nothing before it is ready. That is the rule for these
/// traits.
///
/// # Examples
/// Lines that come through a library for `futures`.
/// ```
/// use futures::io::Cursor;
/// use xiio::compat::FuturesIo;
/// use xiio::io::{BufRead, BufReader};
///
/// # xiio::run(async {
/// let mut lines = BufReader::new(FuturesIo::new(Cursor::new("one\ntwo\n"))).lines();
/// assert_eq!(lines.next().await.unwrap()?, "one");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Source
/// `tokio_util::compat`.
pub struct FuturesIo<S> {
    stream: RefCell<S>,
}

impl<S> FuturesIo<S> {
    /// Wraps a stream. One that is not `Unpin` goes into a `Box::pin` first.
    pub fn new(stream: S) -> Self {
        Self { stream: RefCell::new(stream) }
    }

    /// The stream.
    pub fn get_mut(&mut self) -> &mut S {
        self.stream.get_mut()
    }

    /// Gives the stream back.
    pub fn into_inner(self) -> S {
        self.stream.into_inner()
    }
}

impl<S: Unpin> FuturesIo<S> {
    /// Waits for one of the stream's functions.
    async fn wait<T>(
        &self,
        mut poll: impl FnMut(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> io::Result<T> {
        let mut reached = Reached::default();
        poll_fn(|cx| {
            reached.note("foreign stream");
            self.poll(cx, &mut poll)
        })
        .await
    }

    /// One of the stream's functions as a leaf.
    fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let describe = || "a stream of `futures-io`";
        poll_leaf(cx, describe, |cx| {
            // The stream is foreign code. What it does under this borrow can reach the stream only through here.
            match self.stream.try_borrow_mut() {
                Ok(mut stream) => poll(Pin::new(&mut *stream), cx),
                Err(_) => Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::Deadlock,
                    "a stream in `FuturesIo` was used from inside of its own poll",
                ))),
            }
        })
    }
}

impl<S: AsyncRead + Unpin> Read for &FuturesIo<S> {
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.wait(|stream, cx| stream.poll_read(cx, buf)).await
    }

    async fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.wait(|stream, cx| stream.poll_read_vectored(cx, bufs)).await
    }
}

impl<S: AsyncWrite + Unpin> Write for &FuturesIo<S> {
    async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.wait(|stream, cx| stream.poll_write(cx, buf)).await
    }

    async fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.wait(|stream, cx| stream.poll_write_vectored(cx, bufs)).await
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.wait(AsyncWrite::poll_flush).await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.wait(AsyncWrite::poll_close).await
    }
}

by_reference!(read [S: AsyncRead + Unpin] FuturesIo<S>);
by_reference!(write [S: AsyncWrite + Unpin] FuturesIo<S>);

impl<S: fmt::Debug> fmt::Debug for FuturesIo<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FuturesIo").field("stream", &self.stream).finish()
    }
}
