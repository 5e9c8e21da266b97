//! Two streams in memory that are connected with each other.
//!
//! A direction is a bounded queue between a writer and a reader; both hold a count of it. Each end is told when the other
//! goes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, ErrorKind, Read as _};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::{Read, Write, by_reference};
use crate::report::{Held, wake_all};
use crate::runtime::{checkpoint, poll_leaf};
use crate::slab::Slab;
use crate::unwind::Reached;

/// Two streams in memory that are connected with each other: what is written to one is read from the other.
///
/// Each direction holds at most `max_buf_size` bytes; a writer waits when it is full. There is no descriptor, so a test in
/// [virtual time](crate::testing) may wait for them.
///
/// # Panics
/// When `max_buf_size` is zero.
///
/// # Examples
/// A server in a test that takes no time.
/// ```
/// use std::time::Duration;
/// use xiio::io::{BufRead, BufReader, Read, Write, duplex};
/// use xiio::testing::Tester;
///
/// /// Answers a line, or says goodbye after a minute.
/// async fn serve(stream: impl Read + Write) -> std::io::Result<()> {
///     let mut stream = BufReader::new(stream);
///     let mut line = String::new();
///     let read = xiio::timeout(Duration::from_secs(60), stream.read_line(&mut line)).await;
///     let answer = if read.is_ok() { line } else { "goodbye\n".to_string() };
///     stream.get_mut().write_all(answer.as_bytes()).await
/// }
///
/// Tester::new().virtual_time().run(|| async {
///     let (mut client, server) = duplex(1024);
///     xiio::task_group!(|tg| {
///         tg.spawn(serve(server));
///         let mut answer = String::new();
///         client.read_to_string(&mut answer).await.unwrap();
///         assert_eq!(answer, "goodbye\n");
///     });
/// });
/// ```
///
/// # Source
/// `tokio::io::duplex`.
#[must_use]
#[track_caller]
pub fn duplex(max_buf_size: usize) -> (DuplexStream, DuplexStream) {
    assert!(max_buf_size > 0, "`duplex(0)` could never move a byte");
    let [there, back] = [(); 2].map(|()| Rc::new(Pipe::new(max_buf_size)));
    let other = DuplexStream { incoming: Rc::clone(&there), outgoing: Rc::clone(&back) };
    (DuplexStream { incoming: back, outgoing: there }, other)
}

/// One of two streams that are connected in memory, see [`duplex`].
///
/// Both it and `&DuplexStream` have [`Read`] and [`Write`], so two tasks may share it. [`Write::close`] ends the direction to
/// write, as dropping it does; what was written before can still be read. Writing to a stream whose other end is gone is
/// the error `BrokenPipe`.
pub struct DuplexStream {
    incoming: Rc<Pipe>,
    outgoing: Rc<Pipe>,
}

/// One direction.
struct Pipe {
    /// Invariant: borrowed for single steps, never while user code runs.
    queue: RefCell<VecDeque<u8>>,
    max_len: usize,
    has_writer: Cell<bool>,
    has_reader: Cell<bool>,
    readers: Line,
    writers: Line,
}

impl Pipe {
    fn new(max_len: usize) -> Self {
        Self {
            queue: RefCell::default(),
            max_len,
            has_writer: Cell::new(true),
            has_reader: Cell::new(true),
            readers: Line::default(),
            writers: Line::default(),
        }
    }

    /// Moves what is there to `buf`; `None` when that is nothing, and more may come.
    fn read(&self, buf: &mut [u8]) -> Option<io::Result<usize>> {
        let n_read = self.queue.borrow_mut().read(buf);
        match n_read {
            Ok(0) if !buf.is_empty() && self.has_writer.get() => return None,
            Ok(1..) => self.writers.wake(),
            _ => {}
        }
        Some(n_read)
    }

    /// Moves what there is room for; `None` when there is none.
    fn write(&self, buf: &[u8]) -> Option<io::Result<usize>> {
        if !self.has_reader.get() || !self.has_writer.get() {
            return Some(Err(ErrorKind::BrokenPipe.into()));
        }
        let n_written = {
            let mut queue = self.queue.borrow_mut();
            let n_written = buf.len().min(self.max_len - queue.len());
            queue.extend(&buf[..n_written]);
            n_written
        };
        match n_written {
            0 if !buf.is_empty() => return None,
            0 => {}
            _ => self.readers.wake(),
        }
        Some(Ok(n_written))
    }

    fn end_writing(&self) {
        self.has_writer.set(false);
        self.readers.wake();
        // Those who share the stream and wait for room.
        self.writers.wake();
    }

    fn end_reading(&self) {
        self.has_reader.set(false);
        self.writers.wake();
    }
}

/// Those who wait for something.
///
/// Wakers are user code: they are cloned, woken and dropped while nothing is borrowed.
#[derive(Default)]
struct Line {
    waiters: RefCell<Slab<Option<Waker>>>,
    /// Who polled last without a future.
    #[cfg(feature = "futures-io")]
    polled: Cell<Option<Waker>>,
}

impl Line {
    /// Waits in the line until `attempt` has something.
    async fn wait<T>(&self, what: &'static str, mut attempt: impl FnMut() -> Option<io::Result<T>>) -> io::Result<T> {
        let mut place = Place { line: self, key: None };
        let mut reached = Reached::default();
        poll_fn(|cx| {
            reached.note(what);
            poll_leaf(cx, || what, |cx| attempt_or(&mut attempt, || place.register(cx)))
        })
        .await
    }

    fn wake(&self) {
        let waiting: Vec<Waker> = self.waiters.borrow_mut().iter_mut().filter_map(Option::take).collect();
        wake_all(waiting);
        #[cfg(feature = "futures-io")]
        wake_all(self.polled.take());
    }
}

/// Attempts, and again when it has asked for a wake: the waker is user code, and may have moved something.
fn attempt_or<T>(
    mut attempt: impl FnMut() -> Option<io::Result<T>>,
    ask_for_wake: impl FnOnce(),
) -> Poll<io::Result<T>> {
    let result = attempt().or_else(|| {
        ask_for_wake();
        attempt()
    });
    result.map_or(Poll::Pending, Poll::Ready)
}

/// A place in the line, which goes with the future that waits.
struct Place<'a> {
    line: &'a Line,
    key: Option<usize>,
}

impl Place<'_> {
    fn register(&mut self, cx: &mut Context<'_>) {
        let waker = Some(cx.waker().clone());
        let mut waiters = self.line.waiters.borrow_mut();
        let before = match self.key.and_then(|key| waiters.get_mut(key)) {
            Some(place) => std::mem::replace(place, waker),
            None => {
                self.key = Some(waiters.insert(waker));
                None
            }
        };
        drop(waiters);
        drop(before);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let waker = self.line.waiters.borrow_mut().remove(key);
            drop(waker.map(Held::new));
        }
    }
}

impl Read for &DuplexStream {
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.incoming.readers.wait("data of a duplex stream", || self.incoming.read(buf)).await
    }
}

impl Write for &DuplexStream {
    async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.outgoing.writers.wait("room in a duplex stream", || self.outgoing.write(buf)).await
    }

    async fn close(&mut self) -> io::Result<()> {
        checkpoint().await;
        self.outgoing.end_writing();
        Ok(())
    }
}

by_reference!(read [] DuplexStream);
by_reference!(write [] DuplexStream);

impl Drop for DuplexStream {
    fn drop(&mut self) {
        self.outgoing.end_writing();
        self.incoming.end_reading();
    }
}

impl fmt::Debug for DuplexStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n_readable = self.incoming.queue.borrow().len();
        f.debug_struct("DuplexStream").field("n_readable", &n_readable).finish_non_exhaustive()
    }
}

#[cfg(feature = "futures-io")]
mod polled {
    use std::pin::Pin;
    use std::task::ready;

    use futures_io::{AsyncRead, AsyncWrite};

    use super::{Context, DuplexStream, Line, Poll, attempt_or, io, poll_leaf};
    use crate::io::delegate;
    use crate::runtime::poll_checkpoint;

    impl Line {
        /// An attempt without a future: the last task that polled is woken.
        fn poll<T>(
            &self,
            what: &'static str,
            cx: &mut Context<'_>,
            mut attempt: impl FnMut() -> Option<io::Result<T>>,
        ) -> Poll<io::Result<T>> {
            poll_leaf(
                cx,
                || what,
                |cx| attempt_or(&mut attempt, || drop(self.polled.replace(Some(cx.waker().clone())))),
            )
        }
    }

    impl AsyncRead for &DuplexStream {
        fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
            self.incoming.readers.poll("data of a duplex stream", cx, || self.incoming.read(buf))
        }
    }

    /// Closing ends the direction to write.
    impl AsyncWrite for &DuplexStream {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.outgoing.writers.poll("room in a duplex stream", cx, || self.outgoing.write(buf))
        }

        fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            poll_checkpoint(cx).map(Ok)
        }

        fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            ready!(poll_checkpoint(cx));
            self.outgoing.end_writing();
            Poll::Ready(Ok(()))
        }
    }

    delegate!(read [] DuplexStream, this => &*this);
    delegate!(write [] DuplexStream, this => &*this);
}
