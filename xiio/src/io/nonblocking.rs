//! A descriptor that is owned, made non-blocking and registered once.
//!
//! ```text
//!                 2                       3
//!   ┌─ untried ───────▶ blocked ◀──────────────── ready
//!   │      │               │                        ▲
//!   └──1───┘               └────────── 4 ───────────┘
//!
//!  1 an operation does not block        `poll_operation`; one that moves nothing is tried whatever is known
//!  2 it does: registered                `register`
//!  3 it does, or it moved less than it was asked to (streams)   `Source::clear_ready`, `clear_if_drained`
//!  4 an event of the reactor            `Source`, set by the reactor
//!    or, of a terminal, a pause          `Again`
//! ```
//!
//! Each direction goes this way by itself. So a descriptor that never blocks is never registered, and one that is costs
//! one `epoll_ctl(2)` in its life, or two if a write blocks after a read.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use super::polled::Slots;
use super::readiness::{Again, describe, readable, writable};
use crate::reactor::{Direction, Source, Wait};
use crate::report::wake_all;
use crate::runtime::{Runtime, poll_leaf};
use crate::sys;
use crate::unwind::Reached;

/// A descriptor of any type, for operations that wait without stopping the thread.
///
/// It owns the descriptor, makes it non-blocking, and registers it with the runtime the first time that an operation would
/// block. It is deregistered before it is closed, and registers anew when it is used under a later [`run`](crate::run()).
///
/// For sockets there is [`net`](crate::net); this is for the rest: pipes, terminals, timers, devices, sockets of other
/// families. Where `&T` has the traits of `std::io`, `Async<T>` and `&Async<T>` have [`Read`](super::Read) and
/// [`Write`](super::Write). Several tasks may use it at once, in the same direction too; each is woken.
///
/// It stays on the thread of its runtime. To hand a descriptor to another thread, send what [`Async::into_inner`] gives.
///
/// # Examples
/// ```
/// use std::io;
/// use xiio::io::{Async, Read, Write};
///
/// xiio::run(async {
///     let (reader, writer) = io::pipe()?;
///     let (mut reader, mut writer) = (Async::new(reader)?, Async::new(writer)?);
///     let mut word = [0; 5];
///     xiio::join!(
///         async { reader.read_exact(&mut word).await.unwrap() },
///         async { writer.write_all(b"hello").await.unwrap() },
///     );
///     assert_eq!(&word, b"hello");
///     # io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
pub struct Async<T> {
    /// Declared before the descriptor: the registration ends before that is closed.
    ///
    /// Invariant: not borrowed while anything but this file runs.
    source: RefCell<Option<Source>>,
    pub(super) slots: Slots,
    /// A short read tells that it is empty. Of what is no socket nobody asks.
    is_byte_stream: bool,
    /// An attempt may block although there is something, see [`Again`].
    may_be_terminal: bool,
    inner: T,
}

/// Where a wait for an operation stands.
#[derive(Default)]
pub(crate) struct Place {
    pub(super) wait: Option<Wait>,
    /// Of terminals alone.
    again: Option<Box<Again>>,
}

impl<T: AsFd> Async<T> {
    /// Takes a descriptor and makes it non-blocking.
    ///
    /// That is a matter of the open file, so of all descriptors that share it, in other processes too. Where it must not
    /// change, as for a terminal that was inherited, use [`Unchanged`](super::Unchanged).
    ///
    /// # Errors
    /// What `ioctl(2)` reports.
    pub fn new(inner: T) -> io::Result<Self> {
        sys::fd::set_nonblocking(inner.as_fd())?;
        let may_be_terminal = inner.as_fd().is_terminal();
        Ok(Self { may_be_terminal, ..Self::from_nonblocking(inner) })
    }

    /// As [`Async::new`], for a socket of which nobody knows how it was made: it may be one of packets.
    pub(crate) fn new_socket(inner: T) -> io::Result<Self> {
        let is_byte_stream = sys::socket::is_byte_stream(inner.as_fd());
        Ok(Self { is_byte_stream, ..Self::new(inner)? })
    }

    /// Takes a descriptor that is non-blocking already, and no terminal.
    pub(crate) fn from_nonblocking(inner: T) -> Self {
        Self {
            source: RefCell::default(),
            slots: Slots::default(),
            is_byte_stream: true,
            may_be_terminal: false,
            inner,
        }
    }

    /// Takes another descriptor of the same open file.
    pub(crate) fn clone_of(&self, inner: T) -> Self {
        let Self { is_byte_stream, may_be_terminal, .. } = *self;
        Self { is_byte_stream, may_be_terminal, ..Self::from_nonblocking(inner) }
    }

    /// The descriptor.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// The descriptor. Its registration ends, to be made anew when needed: another descriptor may be put in its place, which
    /// must be non-blocking.
    pub fn get_mut(&mut self) -> &mut T {
        self.source = RefCell::default();
        self.slots = Slots::default();
        self.may_be_terminal = true;
        &mut self.inner
    }

    /// Gives the descriptor back, deregistered. It stays non-blocking.
    ///
    /// # Examples
    /// ```
    /// use xiio::io::Async;
    ///
    /// # xiio::run(async {
    /// let (_reader, writer) = std::io::pipe()?;
    /// let writer = Async::new(writer)?;
    /// writer.writable().await?;
    /// let _of_std: std::io::PipeWriter = writer.into_inner();
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn into_inner(self) -> T {
        self.inner
    }

    /// The same descriptor in another type, with its registration.
    pub(crate) fn map<U>(self, into: impl FnOnce(T) -> U) -> Async<U> {
        let Self { source, slots, is_byte_stream, may_be_terminal, inner } = self;
        Async { source, slots, is_byte_stream, may_be_terminal, inner: into(inner) }
    }

    /// Waits until it is readable: there is data, the end of the file, or an error to fetch.
    ///
    /// # Errors
    /// What `epoll_ctl(2)` reports.
    ///
    /// # Cancellation
    /// Nothing is taken from the descriptor.
    ///
    /// # Examples
    /// ```
    /// use std::io::{Read, Write};
    /// use xiio::io::Async;
    ///
    /// # xiio::run(async {
    /// let (reader, mut writer) = std::io::pipe()?;
    /// let mut reader = Async::new(reader)?;
    /// writer.write_all(b"x")?;
    /// reader.readable().await?;
    /// // It does not block, so the functions of `std` may be used now.
    /// assert_eq!(reader.get_mut().read(&mut [0; 8])?, 1);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub async fn readable(&self) -> io::Result<()> {
        readable(&self.inner).await
    }

    /// Waits until it is writable: there is room, or an error to fetch.
    ///
    /// See [`Async::readable`] for errors and cancellation.
    ///
    /// # Cancellation
    /// Nothing is written.
    pub async fn writable(&self) -> io::Result<()> {
        writable(&self.inner).await
    }

    /// Calls `operation` now, and again whenever the descriptor has become readable, until it gives something else than
    /// `WouldBlock`.
    ///
    /// `operation` must really try to take something: `WouldBlock` means that it waits for the next event, which comes only
    /// when the descriptor *becomes* readable.
    ///
    /// # Errors
    /// What `operation` gives, except `WouldBlock` and `Interrupted`; and what `epoll_ctl(2)` reports for a descriptor that
    /// cannot be watched.
    ///
    /// # Panics
    /// When it has to wait outside of a runtime.
    ///
    /// # Cancellation
    /// `operation` is called no more. What it does between its return and the end of this future is nothing.
    ///
    /// # Examples
    /// ```
    /// use std::os::unix::net::UnixDatagram;
    /// use xiio::io::Async;
    ///
    /// xiio::run(async {
    ///     let (a, b) = UnixDatagram::pair()?;
    ///     let a = Async::new(a)?;
    ///     b.send(b"hi")?;
    ///     let mut buf = [0; 8];
    ///     assert_eq!(a.read_with(|socket| socket.recv(&mut buf)).await?, 2);
    ///     # std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub async fn read_with<R>(&self, mut operation: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.operate(Direction::Read, move |io| operation(&io.inner)).await
    }

    /// Calls `operation` now, and again whenever the descriptor has become writable, until it gives something else than
    /// `WouldBlock`.
    ///
    /// See [`Async::read_with`] for errors, panics and cancellation.
    ///
    /// # Cancellation
    /// `operation` is called no more.
    ///
    /// # Examples
    /// ```
    /// use std::os::unix::net::UnixDatagram;
    /// use xiio::io::Async;
    ///
    /// # xiio::run(async {
    /// let (a, b) = UnixDatagram::pair()?;
    /// let a = Async::new(a)?;
    /// assert_eq!(a.write_with(|socket| socket.send(b"hi")).await?, 2);
    /// assert_eq!(b.recv(&mut [0; 8])?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub async fn write_with<R>(&self, mut operation: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.operate(Direction::Write, move |io| operation(&io.inner)).await
    }

    /// The future of an operation.
    pub(crate) fn operate<R, F>(&self, direction: Direction, operation: F) -> Operation<'_, T, F>
    where
        F: FnMut(&Self) -> io::Result<R>,
    {
        self.operate_moving(Moves::Bytes, direction, operation)
    }

    /// The same for an operation that may need no room.
    pub(crate) fn operate_moving<R, F>(&self, moves: Moves, direction: Direction, operation: F) -> Operation<'_, T, F>
    where
        F: FnMut(&Self) -> io::Result<R>,
    {
        Operation { io: self, moves, direction, reached: Reached::default(), place: Place::default(), operation }
    }

    /// A read from a stream has given `n_bytes` of at most `capacity`: if it was short, the stream is empty.
    ///
    /// Only for what gives all it has: sockets of bytes, not terminals (a line at a time) or packets, which pipes may have, too.
    #[inline]
    pub(crate) fn note_transfer(&self, direction: Direction, n_bytes: usize, capacity: usize) {
        // A read of nothing is the end, which is ready for ever.
        if self.is_byte_stream
            && 0 < n_bytes
            && n_bytes < capacity.min(sys::socket::MAX_TRANSFER)
            && let Some(source) = &*self.source.borrow()
        {
            source.clear_if_drained(direction);
        }
    }

    /// Ends the direction to write of a socket; of anything else nothing.
    pub(crate) fn end_writing(&self) -> io::Result<()> {
        sys::fd::end_writing(self.get_ref().as_fd())?;
        self.note_own_end(&[Direction::Write]);
        Ok(())
    }

    /// Has all who wait for these directions try: this end has ended them, which no event tells.
    pub(crate) fn note_own_end(&self, directions: &[Direction]) {
        let waiting = self.source.borrow().as_ref().map(|source| source.note_own_end(directions));
        wake_all(waiting.into_iter().flatten());
    }

    /// An operation as a leaf, whose place in line the caller keeps between its polls and drops before the descriptor.
    #[inline]
    pub(crate) fn poll_operate_at<R>(
        &self,
        moves: Moves,
        direction: Direction,
        place: &mut Place,
        cx: &mut Context<'_>,
        mut operation: impl FnMut(&Self) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        let describe = || describe(direction, self.inner.as_fd());
        poll_leaf(cx, describe, |cx| self.poll_operation(moves, direction, place, cx, &mut operation))
    }

    /// Tries until it is done or would block; then `place` is in line for the next event.
    fn poll_operation<R>(
        &self,
        moves: Moves,
        direction: Direction,
        place: &mut Place,
        cx: &mut Context<'_>,
        operation: &mut impl FnMut(&Self) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        let mut is_tried_first = matches!(moves, Moves::Nothing);
        loop {
            if !std::mem::take(&mut is_tried_first) && self.is_blocked(direction) {
                match self.poll_blocked(direction, place, cx) {
                    Ok(true) => {}
                    Ok(false) => return Poll::Pending,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            match sys::call(sys::Call::Attempt(self.as_fd()), || operation(self)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Err(error) = self.note_blocked(direction) {
                        return Poll::Ready(Err(error));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    is_tried_first = matches!(moves, Moves::Nothing);
                }
                result => {
                    place.again = None;
                    return Poll::Ready(result);
                }
            }
        }
    }

    /// Asks for a wake at the next event. Whether an operation is to be tried although there was none.
    fn poll_blocked(&self, direction: Direction, place: &mut Place, cx: &mut Context<'_>) -> io::Result<bool> {
        self.line_up(direction, &mut place.wait)?.register(cx);
        if !self.may_be_terminal {
            return Ok(false);
        }
        let again = place.again.get_or_insert_with(|| Box::new(Again::after(None)));
        let is_due = again.is_due(self.inner.as_fd(), direction, cx)?;
        if is_due {
            **again = Again::after(Some(again));
            // What is left then is there for the next one as well.
            self.source.borrow().as_ref().inspect(|source| source.assume_ready(direction));
        }
        Ok(is_due)
    }

    /// Whether an operation in this direction is known to block, so that it is not tried.
    #[inline]
    pub(crate) fn is_blocked(&self, direction: Direction) -> bool {
        self.source.borrow().as_ref().is_some_and(|source| !source.is_ready(direction))
    }

    fn note_blocked(&self, direction: Direction) -> io::Result<()> {
        if let Some(source) = &*self.source.borrow() {
            source.clear_ready(direction);
            return Ok(());
        }
        self.register(direction)?;
        // The other direction has not been tried. That costs one attempt; an event would cost a turn of the loop.
        if let Some(source) = &*self.source.borrow() {
            source.assume_ready(direction.opposite());
        }
        Ok(())
    }

    fn register(&self, direction: Direction) -> io::Result<()> {
        let source = Runtime::with(|runtime| runtime.reactor().watch(self.inner.as_fd(), direction))?;
        let before = self.source.replace(Some(source));
        drop(before);
        Ok(())
    }

    /// A place in the line of those who wait for an event, under the runtime that polls now.
    fn line_up<'w>(&self, direction: Direction, wait: &'w mut Option<Wait>) -> io::Result<&'w mut Wait> {
        let will_hear = Runtime::with(|runtime| {
            let source = self.source.borrow();
            source.as_ref().is_some_and(|source| source.belongs_to(runtime.reactor()) && source.covers(direction))
        });
        if !will_hear {
            // A registration begins with an event for what is ready now.
            self.register(direction)?;
        }
        let new = match &*self.source.borrow() {
            Some(source) if !wait.as_ref().is_some_and(|wait| source.has(wait)) => Some(source.wait(direction)),
            _ => None,
        };
        if new.is_some() {
            *wait = new;
        }
        Ok(wait.as_mut().unwrap_or_else(|| unreachable!("it was registered above")))
    }
}

impl<T: AsFd> AsFd for Async<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl<T: AsFd> AsRawFd for Async<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl<T: fmt::Debug> fmt::Debug for Async<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Async").field(&self.inner).finish()
    }
}

/// What an operation moves.
#[derive(Clone, Copy)]
pub(crate) enum Moves {
    Bytes,
    /// It is a flush, or a write of nothing. Where no byte has room it may still be done, and only trying tells: it may be an empty packet.
    Nothing,
}

impl Moves {
    pub(crate) fn of(buf: &[u8]) -> Self {
        if buf.is_empty() { Self::Nothing } else { Self::Bytes }
    }

    pub(crate) fn of_all(bufs: &[io::IoSlice<'_>]) -> Self {
        if bufs.iter().all(|buf| buf.is_empty()) { Self::Nothing } else { Self::Bytes }
    }
}

/// Repeats an operation until it does not block.
#[must_use = "nothing happens unless this is awaited"]
pub(crate) struct Operation<'a, T, F> {
    io: &'a Async<T>,
    moves: Moves,
    direction: Direction,
    reached: Reached,
    place: Place,
    operation: F,
}

// The operation is only ever called, never pinned.
impl<T, F> Unpin for Operation<'_, T, F> {}

impl<T, F, R> Future for Operation<'_, T, F>
where
    T: AsFd,
    F: FnMut(&Async<T>) -> io::Result<R>,
{
    type Output = io::Result<R>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<R>> {
        let Self { io, moves, direction, reached, place, operation } = &mut *self;
        reached.note("wait for a descriptor");
        io.poll_operate_at(*moves, *direction, place, cx, operation)
    }
}
