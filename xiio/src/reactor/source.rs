//! One watched descriptor: what it is ready for, and who waits for it.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use polling::{Event, PollMode, Poller};

use super::{Direction, Reactor};
use crate::slab::Slab;

/// What the reactor knows of a descriptor. Shared by all who watch it.
pub(super) struct Watched {
    pub(super) fd: RawFd,
    pub(super) key: usize,
    n_users: Cell<usize>,
    read: Side,
    write: Side,
}

/// One direction.
///
/// Wakers are user code: they are cloned, woken and dropped only while `waiters` is not borrowed.
#[derive(Default)]
struct Side {
    /// Set by an event, unset by who finds out that the operation would block.
    is_ready: Cell<bool>,
    /// `None` for those that were woken and have not been polled since.
    waiters: RefCell<Slab<Option<Waker>>>,
}

impl Watched {
    pub(super) fn new(fd: RawFd, key: usize) -> Self {
        Self { fd, key, n_users: Cell::new(0), read: Side::default(), write: Side::default() }
    }

    fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }

    pub(super) fn has_waiters(&self) -> bool {
        [&self.read, &self.write].iter().any(|side| side.waiters.borrow().len() > 0)
    }

    /// Notes an event; the wakers to be woken are put into `wakers`.
    pub(super) fn set_ready(&self, direction: Direction, wakers: &mut Vec<Waker>) {
        let side = self.side(direction);
        side.is_ready.set(true);
        wakers.extend(side.waiters.borrow_mut().iter_mut().filter_map(Option::take));
    }
}

/// Watches a descriptor; the last one to go ends the registration.
pub(crate) struct Source {
    watched: Rc<Watched>,
    reactor: Weak<Reactor>,
}

impl Source {
    pub(super) fn new(watched: Rc<Watched>, reactor: Weak<Reactor>) -> Self {
        watched.n_users.set(watched.n_users.get() + 1);
        Self { watched, reactor }
    }

    /// Whether this is a source of `reactor`; one of a runtime that has ended reports nothing any more.
    pub(crate) fn belongs_to(&self, reactor: &Rc<Reactor>) -> bool {
        std::ptr::eq(self.reactor.as_ptr(), Rc::as_ptr(reactor))
    }

    pub(crate) fn is_ready(&self, direction: Direction) -> bool {
        self.watched.side(direction).is_ready.get()
    }

    /// An operation in this direction would block; an event will tell when it does not any more.
    pub(crate) fn clear_ready(&self, direction: Direction) {
        self.watched.side(direction).is_ready.set(false);
    }

    /// One place in the line of those who wait for this direction.
    pub(crate) fn wait(&self, direction: Direction) -> Wait {
        Wait { watched: Rc::clone(&self.watched), direction, key: None }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let n_users = self.watched.n_users.get() - 1;
        self.watched.n_users.set(n_users);
        if n_users == 0
            && let Some(reactor) = self.reactor.upgrade()
        {
            reactor.remove(&self.watched);
        }
    }
}

/// A waiter of one direction; leaves the line when it is dropped.
pub(crate) struct Wait {
    watched: Rc<Watched>,
    direction: Direction,
    key: Option<usize>,
}

impl Wait {
    /// Asks to be woken at the next event.
    pub(crate) fn register(&mut self, cx: &mut Context<'_>) {
        let waker = Some(cx.waker().clone());
        let side = self.watched.side(self.direction);
        match self.key {
            Some(key) => {
                let before = std::mem::replace(&mut side.waiters.borrow_mut()[key], waker);
                drop(before);
            }
            None => self.key = Some(side.waiters.borrow_mut().insert(waker)),
        }
    }

    /// `Ready` while the descriptor is, as far as the reactor knows.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.watched.side(self.direction).is_ready.get() {
            return Poll::Ready(());
        }
        self.register(cx);
        Poll::Pending
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let waker = self.watched.side(self.direction).waiters.borrow_mut().remove(key);
            drop(waker);
        }
    }
}

/// Registers `fd`, or takes over a registration that was left behind.
pub(super) fn register(poller: &Poller, fd: BorrowedFd<'_>, interest: Event) -> io::Result<()> {
    // SAFETY: the contract is to delete the source before it is closed. `Source` does, as it is dropped before the
    // descriptor that it watches. One that is leaked leaves a registration that the kernel ends with the descriptor;
    // all that can come of it is an event for a place that is taken by another descriptor, which is a spurious wake.
    let added = unsafe { poller.add_with_mode(&fd, interest, PollMode::Edge) };
    match added {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            poller.modify_with_mode(fd, interest, PollMode::Edge)
        }
        result => result,
    }
    .map_err(|error| cannot_watch(fd, &error))
}

/// Makes sure that `fd` is still registered, and asks for an event if it is ready now.
pub(super) fn rearm(poller: &Poller, fd: BorrowedFd<'_>, key: usize) -> io::Result<()> {
    match poller.modify_with_mode(fd, Event::all(key), PollMode::Edge) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => register(poller, fd, Event::all(key)),
        result => result.map_err(|error| cannot_watch(fd, &error)),
    }
}

/// Ends a registration, if there still is one.
pub(super) fn deregister(poller: &Poller, fd: RawFd) {
    // SAFETY: whoever watched the descriptor still borrows or owns it. If it was leaked and closed meanwhile, the number
    // names nothing or another descriptor: the call fails, or ends a registration that `rearm` makes again.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let _ = poller.delete(fd);
}

fn cannot_watch(fd: BorrowedFd<'_>, error: &io::Error) -> io::Error {
    use std::os::fd::AsRawFd;
    io::Error::new(error.kind(), format!("cannot watch fd {}: {error}", fd.as_raw_fd()))
}
