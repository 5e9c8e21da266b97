//! Waiting for a descriptor that is only borrowed: nothing about it is changed.
//!
//! Whether it is ready is asked with `poll(2)`; only one that is not is registered with the reactor, for as long as
//! somebody waits. So flags stay as they are, regular files (which cannot be registered) are always ready, and several
//! tasks may wait for one descriptor, each for its own direction or the same.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::reactor::{Direction, Wait};
use crate::runtime::{Runtime, poll_leaf};
use crate::sys;
use crate::unwind::Reached;

/// Waits until `fd` is readable: there is data, the end of the file, or an error to fetch.
///
/// Regular files always are. Nothing about the descriptor is changed, so a read afterwards may block if somebody else
/// has read in between.
///
/// # Errors
/// `EBADF` for a descriptor that is closed, and what `epoll_ctl(2)` reports; the descriptor is named.
///
/// # Panics
/// When polled outside of a runtime.
///
/// # Cancellation
/// Nothing is taken from the descriptor, and nothing stays registered.
///
/// # Examples
/// ```
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
///
/// let (mut a, mut b) = UnixStream::pair()?;
/// b.write_all(b"x")?;
/// xiio::run(xiio::readable(&a))?;
/// assert_eq!(a.read(&mut [0; 8])?, 1);
/// # std::io::Result::Ok(())
/// ```
pub async fn readable(fd: impl AsFd) -> io::Result<()> {
    Readiness::new(fd.as_fd(), Direction::Read).await
}

/// Waits until `fd` is writable: there is room, or an error to fetch.
///
/// See [`readable`] for errors, panics and cancellation.
///
/// # Examples
/// ```
/// let (_reader, writer) = std::io::pipe()?;
/// xiio::run(xiio::writable(&writer))?;
/// # std::io::Result::Ok(())
/// ```
pub async fn writable(fd: impl AsFd) -> io::Result<()> {
    Readiness::new(fd.as_fd(), Direction::Write).await
}

/// Waits until `fd` is readable, then reads once into `buf`.
///
/// Returns the number of bytes placed at the start of `buf`, `0..=buf.len()`; `0` is the end of the file.
///
/// # Errors
/// What `read(2)` reports. `EINTR` and `EAGAIN` are retried, never returned.
///
/// # Panics
/// When polled outside of a runtime.
///
/// # Cancellation
/// Dropped or cancelled before it is ready, it has taken no byte from `fd`.
///
/// # Examples
/// ```
/// use std::io::Write;
/// use std::os::unix::net::UnixStream;
///
/// let (a, mut b) = UnixStream::pair()?;
/// b.write_all(b"hello")?;
/// let mut buf = [0; 8];
/// let n = xiio::run(xiio::read(&a, &mut buf))?;
/// assert_eq!(&buf[..n], b"hello");
/// # std::io::Result::Ok(())
/// ```
///
/// # Source
/// `read(2)`; `xiio.read` in the Python original.
pub async fn read(fd: impl AsFd, buf: &mut [u8]) -> io::Result<usize> {
    let fd = fd.as_fd();
    loop {
        Readiness::new(fd, Direction::Read).await?;
        match sys::fd::read(fd, buf) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

/// Waits until `fd` is writable, then writes once from `buf`.
///
/// Returns the number of bytes taken from the start of `buf`, `0..=buf.len()`.
///
/// A blocking pipe that has room for less than all of `buf` would stop the thread until the rest is taken, so anything
/// that is no socket is given at most `PIPE_BUF` (4096) bytes at once: a pipe is writable when it has that much room. A
/// terminal is when it has any, so one whose other side takes nothing stops the thread when it is nearly full.
///
/// # Errors
/// What `write(2)` reports. `EINTR` and `EAGAIN` are retried, never returned.
///
/// # Panics
/// When polled outside of a runtime.
///
/// # Cancellation
/// Dropped or cancelled before it is ready, it has written nothing.
///
/// # Examples
/// ```
/// let (_reader, writer) = std::io::pipe()?;
/// assert_eq!(xiio::run(xiio::write(&writer, b"hello"))?, 5);
/// # std::io::Result::Ok(())
/// ```
///
/// # Source
/// `write(2)`, `pipe(7)`; `xiio.write` in the Python original.
pub async fn write(fd: impl AsFd, buf: &[u8]) -> io::Result<usize> {
    let fd = fd.as_fd();
    loop {
        Readiness::new(fd, Direction::Write).await?;
        match sys::fd::write(fd, buf) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

/// Writes all of `buf`, waiting as often as it takes.
///
/// # Errors
/// As [`write`](write()); `WriteZero` when nothing is accepted any more. How much was written before is not told.
///
/// # Panics
/// When polled outside of a runtime.
///
/// # Cancellation
/// A part of `buf` may have been written.
///
/// # Examples
/// ```
/// use std::io::Read;
///
/// let (mut reader, writer) = std::io::pipe()?;
/// xiio::run(xiio::write_all(&writer, b"hello"))?;
/// let mut buf = [0; 5];
/// reader.read_exact(&mut buf)?;
/// assert_eq!(&buf, b"hello");
/// # std::io::Result::Ok(())
/// ```
///
/// # Source
/// `xiio.writeall` in the Python original.
pub async fn write_all(fd: impl AsFd, mut buf: &[u8]) -> io::Result<()> {
    let fd = fd.as_fd();
    while !buf.is_empty() {
        match write(fd, buf).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n_written => buf = &buf[n_written..],
        }
    }
    Ok(())
}

/// Waits for one direction of a borrowed descriptor.
pub(crate) struct Readiness<'fd> {
    fd: BorrowedFd<'fd>,
    direction: Direction,
    is_beside_tasks: bool,
    reached: Reached,
    /// There while it waits. Ends its registration before the borrow of the descriptor ends.
    waiting: Option<Wait>,
}

impl<'fd> Readiness<'fd> {
    pub(crate) fn new(fd: BorrowedFd<'fd>, direction: Direction) -> Self {
        Self { fd, direction, is_beside_tasks: false, reached: Reached::default(), waiting: None }
    }

    /// For a wait that is none of the tasks', and so no hope for them.
    pub(crate) fn beside_tasks(self) -> Self {
        Self { is_beside_tasks: true, ..self }
    }

    /// Whether the task that polled last will be woken by the next event.
    pub(crate) fn is_registered(&self) -> bool {
        self.waiting.as_ref().is_some_and(Wait::is_registered)
    }

    /// `Ready` when the descriptor is ready in this very moment; asks for a wake otherwise.
    pub(crate) fn poll_now(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll_ready(self.fd, self.direction, self.is_beside_tasks, &mut self.waiting, cx)
    }
}

/// `Ready` when the descriptor is ready in this very moment; asks for a wake otherwise, at the place that the caller keeps
/// between its polls and drops before the descriptor.
pub(crate) fn poll_ready(
    fd: BorrowedFd<'_>,
    direction: Direction,
    is_beside_tasks: bool,
    waiting: &mut Option<Wait>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    if is_ready_now(fd, direction)? {
        *waiting = None;
        return Poll::Ready(Ok(()));
    }
    Runtime::with(|runtime| {
        let is_registered = waiting.as_ref().is_some_and(|wait| wait.belongs_to(runtime.reactor()));
        if !is_registered {
            // Registering reports what has become ready meanwhile: an edge-triggered descriptor begins with an event.
            let source = runtime.reactor().watch(fd, direction)?;
            if is_beside_tasks {
                source.set_beside_tasks();
            }
            *waiting = Some(source.wait(direction));
        }
        if let Some(wait) = waiting {
            wait.register(cx);
        }
        Poll::Pending
    })
}

fn is_ready_now(fd: BorrowedFd<'_>, direction: Direction) -> io::Result<bool> {
    sys::fd::is_ready(fd, direction)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot watch fd {}: {error}", fd.as_raw_fd())))
}

impl Future for Readiness<'_> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.reached.note("wait for a descriptor");
        let (fd, direction) = (self.fd.as_raw_fd(), self.direction);
        poll_leaf(cx, || direction.describe(fd), |cx| self.poll_now(cx))
    }
}
