//! Waiting for a descriptor that is only borrowed: nothing about it is changed.
//!
//! `poll(2)` tells whether it is ready. Only a descriptor that is not ready is registered with the reactor, for as
//! long as somebody waits. So flags stay as they are, and regular files (which cannot be registered) are always ready.
//! Several tasks may wait for one descriptor, each for its own direction or the same.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::drawing::{Kind, Node};
use crate::reactor::{Direction, Wait};
use crate::runtime::{Runtime, checkpoint, poll_leaf};
use crate::sys;
use crate::sys::opened::{Opened, opened};
use crate::time::Deadline;
use crate::unwind::Reached;

/// How long it is at first until the next attempt that no event is the reason for. Twice as long the next time.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// How long it is at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(64);

/// Waits until `fd` is readable: there is data, the end of the file, or an error to fetch.
///
/// Regular files always are, but for those of the kernel that wait for data, such as `/proc/kmsg`. Nothing about the descriptor
/// is changed, so a read afterwards may block if somebody else has read in between.
///
/// An error in the queue of a socket (`IP_RECVERR`, `MSG_ZEROCOPY`) counts until it is fetched with `MSG_ERRQUEUE`, though a read finds nothing.
/// A loop that waits and tries does not rest meanwhile; [`read`](read()) and [`Async`](super::Async) do.
///
/// # Errors
/// `EBADF` for a descriptor that is closed, and what `epoll_ctl(2)` reports.
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
/// # Shared descriptors
/// Another process may read the same file and take what there was in between. The call then goes on waiting, and the
/// thread does not stand still. This holds for sockets, pipes, named pipes and terminals. Other ways would change flags
/// that the processes share.
///
/// Terminals, named pipes, and all pipes on Linux before 6.5 are opened once more for each read, non-blocking, through
/// `/proc`. Where opening fails, and with other devices and the master of a terminal, the thread waits if another
/// process has been faster. Opening fails without `/proc`, without permission (after `su`, say), and when there are no
/// descriptors left. The thread waits likewise for a file of the kernel that looks regular and waits for data, such as `/proc/kmsg` or
/// `trace_pipe`. A disk or a directory always keeps the thread for as long as it takes.
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
    transfer(fd, Direction::Read, || sys::nowait::read(fd, buf)).await
}

/// Waits until `fd` is writable, then writes once from `buf`.
///
/// Returns the number of bytes taken from the start of `buf`, `0..=buf.len()`.
///
/// It takes what there is room for and does not wait for more, whatever the flags of the descriptor. See [`read`](read()) for
/// the kinds of files where that is not so. Of those a pipe is given at most `PIPE_BUF` (4096) bytes at once: it is
/// writable when it has that much room.
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
    transfer(fd, Direction::Write, || sys::nowait::write(fd, buf)).await
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
    if buf.is_empty() {
        checkpoint().await;
    }
    while !buf.is_empty() {
        match write(fd, buf).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n_written => buf = &buf[n_written..],
        }
    }
    Ok(())
}

/// Waits until it is ready, and tries; again if another process has been faster.
async fn transfer(
    fd: BorrowedFd<'_>,
    direction: Direction,
    mut attempt: impl FnMut() -> io::Result<usize>,
) -> io::Result<usize> {
    let mut readiness = Readiness::new(fd, direction);
    loop {
        (&mut readiness).await?;
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => readiness.note_blocked(),
            result => return result,
        }
    }
}

/// Waits for one direction of a borrowed descriptor.
pub(crate) struct Readiness<'fd> {
    fd: BorrowedFd<'fd>,
    direction: Direction,
    is_beside_tasks: bool,
    reached: Reached,
    /// There once it has said that it is ready, and an attempt has blocked.
    again: Option<Again>,
    /// There while it waits, and once an attempt has blocked. Ends its registration before the borrow of the descriptor ends.
    waiting: Option<Wait>,
}

impl<'fd> Readiness<'fd> {
    pub(crate) fn new(fd: BorrowedFd<'fd>, direction: Direction) -> Self {
        let reached = Reached::default();
        Self { fd, direction, is_beside_tasks: false, reached, again: None, waiting: None }
    }

    /// For a wait that is none of the tasks', and so no hope for them.
    pub(crate) fn beside_tasks(self) -> Self {
        Self { is_beside_tasks: true, ..self }
    }

    /// An attempt has blocked.
    fn note_blocked(&mut self) {
        self.again = Some(Again::after(self.again.as_ref()));
    }

    /// Whether the task that polled last will be woken by the next event.
    pub(crate) fn is_registered(&self) -> bool {
        self.waiting.as_ref().is_some_and(Wait::is_registered)
    }

    /// `Ready` when the descriptor is ready in this very moment; asks for a wake otherwise.
    pub(crate) fn poll_now(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { fd, direction, is_beside_tasks, ref mut again, ref mut waiting, .. } = *self;
        let Some(again) = again else { return poll_ready(fd, direction, is_beside_tasks, waiting, cx) };
        if waiting.as_mut().is_some_and(Wait::take_event) || again.is_due(fd, direction, cx)? {
            return Poll::Ready(Ok(()));
        }
        // A registration begins with an event for what is ready, so nothing is missed since the attempt.
        line_up(fd, direction, is_beside_tasks, waiting, cx)?;
        Poll::Pending
    }
}

/// The next attempt after one that has blocked.
///
/// The descriptor may go on to say that it is ready, like a socket with an error in its queue, which no read fetches. So an event is the reason for it.
/// A terminal keeps all others out while somebody waits in a read of it, also while that one has been woken and is yet to run. No event tells when they may come
/// in. So it is also tried after a pause, as long as there is something.
pub(super) struct Again {
    pause: Duration,
    due: Deadline,
}

impl Again {
    pub(super) fn after(before: Option<&Self>) -> Self {
        // `testing::advance` goes from one pause to the next, and would have too many.
        let longest = if Runtime::with(Runtime::has_virtual_time) { Duration::MAX } else { LONGEST_PAUSE };
        let pause = before.map_or(FIRST_PAUSE, |before| before.pause.saturating_mul(2).min(longest));
        Self { pause, due: Deadline::after(pause) }
    }

    /// Whether it is time though there was no event; if not, wakes the task then, should there be something to try for.
    pub(super) fn is_due(
        &mut self,
        fd: BorrowedFd<'_>,
        direction: Direction,
        cx: &mut Context<'_>,
    ) -> io::Result<bool> {
        let is_worth_it = fd.is_terminal() && sys::fd::is_ready(fd, direction)?;
        Ok(is_worth_it && self.due.poll_elapsed(cx))
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
    if sys::fd::is_ready(fd, direction)? {
        *waiting = None;
        return Poll::Ready(Ok(()));
    }
    line_up(fd, direction, is_beside_tasks, waiting, cx)?;
    Poll::Pending
}

/// Asks for a wake when the descriptor is ready, also if it is already.
fn line_up(
    fd: BorrowedFd<'_>,
    direction: Direction,
    is_beside_tasks: bool,
    waiting: &mut Option<Wait>,
    cx: &mut Context<'_>,
) -> io::Result<()> {
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
        Ok(())
    })
}

impl Future for Readiness<'_> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.reached.note("wait for a descriptor");
        let (fd, direction) = (self.fd, self.direction);
        poll_leaf(cx, || describe(direction, fd), |cx| self.poll_now(cx))
    }
}

/// The leaf of a task that waits for a descriptor. Asks the system what the descriptor is.
pub(super) fn describe(direction: Direction, fd: BorrowedFd<'_>) -> Node {
    let number = fd.as_raw_fd();
    let node = Node::new(Kind::Descriptor, direction.describe(number)).watches(number);
    match opened(fd) {
        Some(Opened { kind, address, peer }) => node.opened(kind, address, peer),
        None => node,
    }
}
