//! The readiness of descriptors, turned into wakes. Knows no tasks.
//!
//! A descriptor is registered once, edge-triggered, and its [`Source`] remembers that it is ready until an operation would
//! block. So a busy socket costs no system call but its own reads and writes. Events for writing are asked for by the first
//! who waits to write: most descriptors never have anybody who does, and a Unix socket or a pipe would report that there is
//! room again at each read of its other end.
//!
//! One `Poller::wait` costs five system calls on Linux, of which four serve its own timer and notifier. So the reactor
//! registers with the poller's descriptor itself and waits on it, with one call (`wait::Fast`). Whether that works is
//! checked once a process; where it does not, and on other systems, `Poller` does both (`wait::Portable`).
//! `Poller::notify` is never mixed with the fast path: it would work once.
//!
//! The fast path also asks to be told when the other end closes (`EPOLLRDHUP`), which `Poller` does not. Only with that
//! may a stream forget that it is readable when a read was short ([`Source::clear_if_drained`]): the end of a stream that
//! arrives together with its last data is no event of its own.
//!
//! Some pollers know no edges: that of `poll(2)`, and event ports. They report once, and a registration ends with its
//! event. Just before each wait the reactor asks them for what somebody waits for (`ask_for_waited`), and that is the whole
//! difference. Readiness is remembered as ever. Nothing else stays registered: `poll(2)` reports a closed other end
//! unasked, each time, and the thread would not sleep. No foreign loop can watch such a poller. Urgent data that nobody
//! fetches does keep the thread awake there while somebody waits to read: `polling` asks for it with the rest. So does an error in the queue of a socket.
//! A regular file, a directory or a disk is refused there, as epoll refuses it: it is reported each time, whatever its operations say.
//! A build with `--cfg polling_test_poll_backend` has the poller of `poll(2)` on Linux.
//!
//! Invariants:
//!
//! - A registration is deleted before its descriptor is closed: a child between fork and exec still holds a copy, and would
//!   keep it reporting.
//! - Events of unknown keys are ignored.
//! - Registrations survive `ENOENT` and `EEXIST`: a leaked waiter may have left one behind for a descriptor that was closed
//!   since.

mod source;
mod table;
mod wait;

pub(crate) use crate::sys::fd::Direction;
pub(crate) use source::{Source, Wait};

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use polling::Poller;

use crate::report::wake_all;
use crate::sys::{Call, call};
use source::Watched;
use table::Table;
use wait::{Report, Waiting};

/// The descriptors that are watched on this thread.
pub(crate) struct Reactor {
    poller: std::sync::Arc<Poller>,
    waiting: RefCell<Waiting>,
    notifier: Waker,
    /// The number of a descriptor is the key of its registration as well.
    watched: RefCell<Table<Rc<Watched>>>,
    /// Empty between waits; its memory is kept.
    ready: Cell<Vec<Waker>>,
}

thread_local! {
    /// Left by a run on this thread for the next one.
    static KEPT: Cell<Option<Rc<Reactor>>> = const { Cell::new(None) };
}

impl Reactor {
    /// The one that this thread has kept, or a new one.
    pub(crate) fn kept_or_new() -> io::Result<Rc<Self>> {
        // Nothing is kept in the last destructors of a thread.
        match KEPT.try_with(Cell::take).ok().flatten() {
            Some(kept) if kept.n_sources() == 0 => Ok(kept),
            _ => Self::new().map(Rc::new),
        }
    }

    /// Keeps it for the next run on this thread: to make one, and to close it, takes about a dozen system calls.
    pub(crate) fn keep(self: &Rc<Self>) {
        drop(KEPT.replace(Some(Rc::clone(self))));
    }

    /// Closes the one that this thread has kept.
    pub(crate) fn drop_kept() {
        drop(KEPT.take());
    }

    fn new() -> io::Result<Self> {
        let poller = std::sync::Arc::new(call(Call::Make, Poller::new)?);
        let (waiting, notifier) = Waiting::new(&poller)?;
        let waiting = RefCell::new(waiting);
        Ok(Self { poller, waiting, notifier, watched: RefCell::default(), ready: Cell::default() })
    }

    /// Wakes the thread of this reactor from its wait; for other threads.
    pub(crate) fn notifier(&self) -> Waker {
        self.notifier.clone()
    }

    /// How many descriptors are watched.
    pub(crate) fn n_sources(&self) -> usize {
        self.watched.borrow().values().count()
    }

    /// Whether any task waits for a descriptor.
    pub(crate) fn has_waiters(&self) -> bool {
        self.watched.borrow().values().any(|watched| watched.has_waiters())
    }

    /// Whether all that tasks wait for are sockets of this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        self.watched.borrow().values().filter(|watched| watched.has_waiters()).all(|watched| watched.is_loopback())
    }

    /// The descriptor that becomes readable when there is something to do.
    ///
    /// # Errors
    /// `Unsupported` where the poller reports no edges.
    pub(crate) fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
        wait::descriptor(&self.poller)
    }

    /// Watches `fd` in a direction, together with whoever watches it already.
    ///
    /// # Errors
    /// What `epoll_ctl(2)` reports.
    pub(crate) fn watch(self: &Rc<Self>, fd: BorrowedFd<'_>, direction: Direction) -> io::Result<Source> {
        let known = self.watched.borrow().get(key_of(fd.as_raw_fd())).cloned();
        let watched = match known {
            Some(watched) => {
                // A leaked waiter may have left the entry behind; the kernel knows.
                source::rearm(&self.poller, fd, &watched, direction)?;
                watched
            }
            None => self.add(fd, direction)?,
        };
        Ok(Source::new(watched, Rc::downgrade(self)))
    }

    fn add(&self, fd: BorrowedFd<'_>, direction: Direction) -> io::Result<Rc<Watched>> {
        let watched = Rc::new(Watched::new(fd.as_raw_fd()));
        source::register(&self.poller, fd, &watched, direction)?;
        self.watched.borrow_mut().insert(watched.key(), Rc::clone(&watched));
        Ok(watched)
    }

    /// Forgets a descriptor that nobody watches any more.
    fn remove(&self, watched: &Watched) {
        source::deregister(&self.poller, watched.fd);
        let removed = self.watched.borrow_mut().remove(watched.key());
        drop(removed);
    }

    /// Waits until a descriptor is ready, the notifier is woken or `timeout` is over (`None` is no limit). Wakes the
    /// tasks that wait for what is ready. May return early.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> io::Result<()> {
        let mut ready = self.ready.take();
        let reports_once = self.waiting.borrow().reports_once(&self.poller);
        if reports_once {
            self.ask_for_waited(&mut ready);
        }
        let timeout = if ready.is_empty() { timeout } else { Some(Duration::ZERO) };
        let waited = self.waiting.borrow_mut().wait(&self.poller, timeout, &mut |report| {
            if let Some(watched) = self.watched.borrow().get(report.key) {
                watched.set_ready(report, &mut ready);
                if reports_once {
                    source::withdraw(&self.poller, watched);
                }
            }
        });
        wake_all(ready.drain(..));
        self.ready.set(ready);
        waited
    }

    /// Asks a poller that reports once. One that refuses leaves it to the operations to find out, and is asked again.
    fn ask_for_waited(&self, ready: &mut Vec<Waker>) {
        for watched in self.watched.borrow().values() {
            if source::ask_for_waited(&self.poller, watched).is_err() {
                watched.set_ready(Report::of_anything(watched.key()), ready);
            }
        }
    }
}

/// The key of a descriptor's registration. A number that is open is not negative.
fn key_of(fd: RawFd) -> usize {
    fd.unsigned_abs() as usize
}

impl Drop for Reactor {
    /// Wakes who still waits: it may be polled again in another run, and watch anew.
    fn drop(&mut self) {
        let mut waiting = Vec::new();
        for watched in self.watched.get_mut().values() {
            watched.set_ready(Report::of_anything(watched.key()), &mut waiting);
        }
        wake_all(waiting);
    }
}
