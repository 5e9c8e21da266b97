//! Operations without a future.
//!
//! A poll has no future of its own in which it could stand in line, so its place is in the descriptor: one a direction,
//! and the last task that polled is woken.

use std::cell::RefCell;
use std::io;
use std::os::fd::AsFd;
use std::task::{Context, Poll};

use super::Async;
use super::nonblocking::{Moves, Place};
use super::readiness::{describe, poll_ready};
use crate::reactor::Direction;
use crate::runtime::poll_leaf;

/// The places in line of those who poll without a future.
#[derive(Default)]
pub(super) struct Slots {
    read: RefCell<Place>,
    write: RefCell<Place>,
}

impl Slots {
    /// Polls with the place of a direction. That may be foreign code, so the place is taken out meanwhile.
    fn with<R>(&self, direction: Direction, poll: impl FnOnce(&mut Place) -> R) -> R {
        let slot = match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        };
        let mut place = slot.take();
        let polled = poll(&mut place);
        let before = slot.replace(place);
        drop(before);
        polled
    }
}

impl<T: AsFd> Async<T> {
    /// [`Async::readable`] for hand-written futures: of several tasks that poll, the last one is woken.
    ///
    /// # Errors
    /// What `epoll_ctl(2)` reports.
    ///
    /// # Panics
    /// When it has to wait outside of a runtime.
    ///
    /// # Examples
    /// ```
    /// use std::future::poll_fn;
    /// use std::io::{Read, Write};
    /// use xiio::io::Async;
    ///
    /// # xiio::run(async {
    /// let (reader, mut writer) = std::io::pipe()?;
    /// let mut reader = Async::new(reader)?;
    /// writer.write_all(b"x")?;
    /// poll_fn(|cx| reader.poll_readable(cx)).await?;
    /// assert_eq!(reader.get_mut().read(&mut [0; 8])?, 1);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_ready(Direction::Read, cx)
    }

    /// [`Async::writable`] for hand-written futures: of several tasks that poll, the last one is woken.
    ///
    /// See [`Async::poll_readable`] for errors and panics.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_ready(Direction::Write, cx)
    }

    /// [`Async::read_with`] for hand-written futures: of several tasks that poll, the last one is woken.
    ///
    /// # Errors
    /// Those of [`Async::read_with`].
    ///
    /// # Panics
    /// When it has to wait outside of a runtime.
    ///
    /// # Examples
    /// ```
    /// use std::future::poll_fn;
    /// use std::os::unix::net::UnixDatagram;
    /// use xiio::io::Async;
    ///
    /// # xiio::run(async {
    /// let (a, b) = UnixDatagram::pair()?;
    /// let a = Async::new(a)?;
    /// b.send(b"hi")?;
    /// let mut buf = [0; 8];
    /// assert_eq!(poll_fn(|cx| a.poll_read_with(cx, |socket| socket.recv(&mut buf))).await?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn poll_read_with<R>(
        &self,
        cx: &mut Context<'_>,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        self.poll_operate(Direction::Read, cx, |io| operation(io.get_ref()))
    }

    /// [`Async::write_with`] for hand-written futures: of several tasks that poll, the last one is woken.
    ///
    /// See [`Async::poll_read_with`] for errors and panics.
    pub fn poll_write_with<R>(
        &self,
        cx: &mut Context<'_>,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        self.poll_operate(Direction::Write, cx, |io| operation(io.get_ref()))
    }

    /// An operation without a future.
    pub(crate) fn poll_operate<R>(
        &self,
        direction: Direction,
        cx: &mut Context<'_>,
        operation: impl FnMut(&Self) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        self.poll_operate_moving(Moves::Bytes, direction, cx, operation)
    }

    /// The same for one that may need no room.
    pub(crate) fn poll_operate_moving<R>(
        &self,
        moves: Moves,
        direction: Direction,
        cx: &mut Context<'_>,
        operation: impl FnMut(&Self) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        self.slots.with(direction, |place| self.poll_operate_at(moves, direction, place, cx, operation))
    }

    fn poll_ready(&self, direction: Direction, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let fd = self.as_fd();
        poll_leaf(
            cx,
            || describe(direction, fd),
            |cx| self.slots.with(direction, |place| poll_ready(fd, direction, false, &mut place.wait, cx)),
        )
    }
}
