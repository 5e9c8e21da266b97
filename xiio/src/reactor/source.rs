//! One watched descriptor: what it is ready for, and who waits for it.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::rc::{Rc, Weak};
use std::task::{Context, Waker};

use polling::{Event, PollMode, Poller};

use super::wait::Report;
#[cfg(target_os = "linux")]
use super::wait::{descriptor, fast};
use super::{Direction, Reactor, key_of};
use crate::report::Held;
use crate::slab::Slab;
#[cfg(target_os = "linux")]
use crate::sys::epoll;
use crate::sys::nowait::is_always_ready;
use crate::sys::signal::is_of_subscription;
use crate::sys::socket::is_loopback;

/// What the reactor knows of a descriptor. Shared by all who watch it.
pub(super) struct Watched {
    pub(super) fd: RawFd,
    n_users: Cell<usize>,
    interest: Cell<Interest>,
    /// See [`Source::set_beside_tasks`].
    is_beside_tasks: Cell<bool>,
    read: Side,
    write: Side,
}

/// Which events a registration asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Interest {
    read: bool,
    write: bool,
}

/// One direction.
///
/// Wakers are user code: they are cloned, woken and dropped only while `waiters` is not borrowed.
#[derive(Default)]
struct Side {
    /// Set by an event, unset by whoever finds out that the operation would block.
    is_ready: Cell<bool>,
    /// Whether all events have told of nothing but data; what else comes later is another event. `None` before the first.
    ///
    /// Urgent data cuts reads short where it was, also when it was fetched since and no event tells of it any more.
    is_plain_data: Cell<Option<bool>>,
    /// `None` for those that were woken and have not been polled since.
    waiters: RefCell<Slab<Option<Waker>>>,
}

impl Watched {
    pub(super) fn new(fd: RawFd) -> Self {
        let (n_users, interest) = (Cell::new(0), Cell::new(Interest::READ));
        let is_beside_tasks = Cell::new(false);
        Self { fd, n_users, interest, is_beside_tasks, read: Side::default(), write: Side::default() }
    }

    pub(super) fn key(&self) -> usize {
        key_of(self.fd)
    }

    /// What is asked for already, and this direction.
    fn interest_with(&self, direction: Direction) -> Interest {
        let Interest { read, write } = self.interest.get();
        Interest { read: read || direction == Direction::Read, write: write || direction == Direction::Write }
    }

    /// What somebody waits for and has not been woken for yet.
    fn waited_for(&self) -> Interest {
        Interest { read: self.read.wakes_somebody(), write: self.write.wakes_somebody() }
    }

    fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }

    /// Whether a task waits for it.
    pub(super) fn has_waiters(&self) -> bool {
        !self.is_beside_tasks.get() && [&self.read, &self.write].iter().any(|side| side.wakes_somebody())
    }

    /// Whether it is a socket of this machine alone, and no signals come by it.
    pub(super) fn is_loopback(&self) -> bool {
        is_loopback(self.fd) && !is_of_subscription(self.fd)
    }

    /// Notes an event; the wakers to be woken are put into `wakers`.
    pub(super) fn set_ready(&self, report: Report, wakers: &mut Vec<Waker>) {
        let sides = [(report.is_readable, &self.read), (report.is_writable, &self.write)];
        for (_, side) in sides.into_iter().filter(|(is_ready, _)| *is_ready) {
            side.is_ready.set(true);
            side.is_plain_data.set(Some(report.is_plain_data && side.is_plain_data.get() != Some(false)));
            wakers.extend(side.waiters.borrow_mut().iter_mut().filter_map(Option::take));
        }
    }
}

impl Side {
    /// Whether the next event will wake somebody.
    fn wakes_somebody(&self) -> bool {
        self.waiters.borrow().iter().any(|(_, waiter)| waiter.is_some())
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

    /// The code that waits for it is none of the tasks, and will wake none of them.
    pub(crate) fn set_beside_tasks(&self) {
        self.watched.is_beside_tasks.set(true);
    }

    /// Whether whoever waits for this direction will hear of it, without asking for it.
    pub(crate) fn covers(&self, direction: Direction) -> bool {
        direction == Direction::Read || self.watched.interest.get().write
    }

    pub(crate) fn is_ready(&self, direction: Direction) -> bool {
        self.watched.side(direction).is_ready.get()
    }

    /// An operation in this direction would block; an event will tell when it does not any more.
    pub(crate) fn clear_ready(&self, direction: Direction) {
        self.watched.side(direction).is_ready.set(false);
    }

    /// A read or write on a stream has moved less than it was asked to: the next one would block.
    ///
    /// Only where the events have told of nothing but data. Otherwise the end of the stream or an error may be left to
    /// fetch, and no other event will tell of it.
    pub(crate) fn clear_if_drained(&self, direction: Direction) {
        let side = self.watched.side(direction);
        if side.is_plain_data.get() == Some(true) {
            side.is_ready.set(false);
        }
    }

    /// It costs one attempt to find out otherwise.
    pub(crate) fn assume_ready(&self, direction: Direction) {
        self.watched.side(direction).is_ready.set(true);
    }

    /// This end has ended these directions: all who wait there are to try. Their wakers are the caller's to wake.
    ///
    /// Of such a direction nobody knows any more that there is nothing but data, and the other one is what it was.
    #[must_use = "a waker must be woken outside of any borrow"]
    pub(crate) fn note_own_end(&self, directions: &[Direction]) -> Vec<Waker> {
        let mut wakers = Vec::new();
        let [is_readable, is_writable] = [Direction::Read, Direction::Write].map(|it| directions.contains(&it));
        self.watched
            .set_ready(Report { is_readable, is_writable, ..Report::of_anything(self.watched.key()) }, &mut wakers);
        wakers
    }

    /// Whether `wait` stands in a line of this source.
    pub(crate) fn has(&self, wait: &Wait) -> bool {
        Rc::ptr_eq(&self.watched, &wait.source.watched)
    }

    /// One place in the line of those who wait for this direction.
    pub(crate) fn wait(&self, direction: Direction) -> Wait {
        let source = Self::new(Rc::clone(&self.watched), Weak::clone(&self.reactor));
        Wait { source, direction, key: None }
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
    /// Keeps the descriptor watched, whoever else has ceased to.
    source: Source,
    direction: Direction,
    key: Option<usize>,
}

impl Wait {
    /// Asks to be woken at the next event.
    pub(crate) fn register(&mut self, cx: &mut Context<'_>) {
        let waker = Some(cx.waker().clone());
        let side = self.source.watched.side(self.direction);
        match self.key {
            Some(key) => {
                let before = std::mem::replace(&mut side.waiters.borrow_mut()[key], waker);
                drop(before);
            }
            None => self.key = Some(side.waiters.borrow_mut().insert(waker)),
        }
    }

    /// Whether it is in a line of `reactor`.
    pub(crate) fn belongs_to(&self, reactor: &Rc<Reactor>) -> bool {
        self.source.belongs_to(reactor)
    }

    /// Whether an event has come since it registered. Then it has left the line, and may register for the next one.
    pub(crate) fn take_event(&mut self) -> bool {
        let has_come = self.key.is_some() && !self.is_registered();
        if has_come {
            self.leave();
        }
        has_come
    }

    fn leave(&mut self) {
        if let Some(key) = self.key.take() {
            let waker = self.source.watched.side(self.direction).waiters.borrow_mut().remove(key);
            drop(waker.map(Held::new));
        }
    }

    /// Whether the next event will wake somebody: it is asked to, and has not since.
    pub(crate) fn is_registered(&self) -> bool {
        self.key.is_some_and(|key| self.source.watched.side(self.direction).waiters.borrow()[key].is_some())
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Registers `fd` for a direction, or takes over a registration that was left behind.
pub(super) fn register(poller: &Poller, fd: BorrowedFd<'_>, watched: &Watched, direction: Direction) -> io::Result<()> {
    let (key, interest) = (watched.key(), watched.interest_with(direction));
    // As epoll does. It would report again and again what an operation on it finds to block.
    if !poller.supports_edge() && is_always_ready(fd)? {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    match add(poller, fd, key, interest) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => modify(poller, fd, key, interest),
        result => result,
    }?;
    watched.interest.set(interest);
    Ok(())
}

/// Makes sure that `fd` is still registered, and for this direction too; asks for an event if it is ready now.
pub(super) fn rearm(poller: &Poller, fd: BorrowedFd<'_>, watched: &Watched, direction: Direction) -> io::Result<()> {
    let interest = watched.interest_with(direction);
    match modify(poller, fd, watched.key(), interest) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return register(poller, fd, watched, direction),
        result => result?,
    }
    watched.interest.set(interest);
    Ok(())
}

/// For a poller that reports once: asks for what somebody waits for, and for nothing else.
pub(super) fn ask_for_waited(poller: &Poller, watched: &Watched) -> io::Result<()> {
    let waited_for = watched.waited_for();
    if waited_for == watched.interest.get() {
        return Ok(());
    }
    withdraw(poller, watched);
    if waited_for == Interest::NOTHING {
        return Ok(());
    }
    // SAFETY: whoever waits for the descriptor borrows or owns it. If it was leaked and closed meanwhile, the number names
    // nothing or another descriptor: the call fails, or there is a spurious wake.
    let fd = unsafe { BorrowedFd::borrow_raw(watched.fd) };
    add(poller, fd, watched.key(), waited_for)?;
    watched.interest.set(waited_for);
    Ok(())
}

/// For a poller that reports once: ends a registration whose event has come, or for which nobody waits.
///
/// One that asks for nothing would not do: `poll(2)` reports unasked, and each time, that the other end is closed.
pub(super) fn withdraw(poller: &Poller, watched: &Watched) {
    deregister(poller, watched.fd);
    watched.interest.set(Interest::NOTHING);
}

impl Interest {
    const NOTHING: Self = Self { read: false, write: false };
    const READ: Self = Self { read: true, write: false };

    /// Edges cost nothing while nobody reads.
    #[cfg(target_os = "linux")]
    fn edges(self) -> u32 {
        if self.write { epoll::BOTH_EDGES } else { epoll::READ_EDGES }
    }

    fn of(self, key: usize) -> Event {
        Event::new(key, self.read, self.write)
    }
}

fn mode_of(poller: &Poller) -> PollMode {
    if poller.supports_edge() { PollMode::Edge } else { PollMode::Oneshot }
}

fn add(poller: &Poller, fd: BorrowedFd<'_>, key: usize, interest: Interest) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if fast::works() {
        return epoll::add(descriptor(poller)?, fd, key as u64, interest.edges());
    }
    // SAFETY: the contract is to delete the source before it is closed. `Source` does, as it is dropped before the
    // descriptor that it watches. One that is leaked leaves a registration that the kernel ends with the descriptor;
    // all that can come of it is an event for a place that is taken by another descriptor, which is a spurious wake.
    unsafe { poller.add_with_mode(&fd, interest.of(key), mode_of(poller)) }
}

fn modify(poller: &Poller, fd: BorrowedFd<'_>, key: usize, interest: Interest) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if fast::works() {
        return epoll::modify(descriptor(poller)?, fd, key as u64, interest.edges());
    }
    poller.modify_with_mode(fd, interest.of(key), mode_of(poller))
}

/// Ends a registration, if there still is one.
pub(super) fn deregister(poller: &Poller, fd: RawFd) {
    // SAFETY: whoever watched the descriptor still borrows or owns it. If it was leaked and closed meanwhile, the number
    // names nothing or another descriptor: the call fails, or ends a registration that `rearm` makes again.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let _ = poller.delete(fd);
}
