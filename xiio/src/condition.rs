//! Waiting for the first of several things: descriptors, promises, a deadline.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::drawing::{Kind, Node};
use crate::io::Readiness;
use crate::promise::{Promise, WaitSet};
use crate::reactor::Direction;
use crate::runtime::poll_leaf;
use crate::sys;
use crate::time::{Deadline, left, now};
use crate::unwind::Reached;

/// Several things, any of which is enough: readable descriptors, writable descriptors, promises, a deadline.
///
/// It is made for libraries that hand out sets of descriptors and a timeout, and want to be called when something is
/// ready. A condition with nothing in it is never fulfilled.
///
/// # Examples
/// ```
/// use std::{io::Write, os::fd::AsRawFd, os::unix::net::UnixStream, time::Duration};
/// use xiio::Condition;
///
/// let (a, mut b) = UnixStream::pair()?;
/// b.write_all(b"x")?;
/// let condition = Condition::new().readable(&a).timeout(Duration::from_secs(60));
/// let ready = xiio::run(condition.wait())?;
/// assert_eq!(ready.readable(), [a.as_raw_fd()]);
/// assert!(!ready.is_elapsed());
/// # std::io::Result::Ok(())
/// ```
///
/// # Source
/// `xiio.Condition` in the Python original.
#[derive(Default)]
#[must_use = "a condition does nothing unless it is awaited"]
pub struct Condition<'a> {
    descriptors: BTreeMap<RawFd, Interest<'a>>,
    promises: Vec<Box<dyn AnyPromise + 'a>>,
    deadline: Option<Instant>,
}

struct Interest<'a> {
    /// Whatever keeps it open meanwhile.
    fd: Box<dyn AsFd + 'a>,
    read: bool,
    write: bool,
}

impl Interest<'_> {
    fn directions(&self) -> impl Iterator<Item = Direction> + use<> {
        let read = self.read.then_some(Direction::Read);
        read.into_iter().chain(self.write.then_some(Direction::Write))
    }
}

/// What a [`Condition`] found when it ended. Descriptors are in ascending order.
///
/// # Examples
/// ```
/// use std::os::fd::AsRawFd;
/// use std::time::Duration;
/// use xiio::{Condition, Promise};
///
/// let (reader, writer) = std::io::pipe()?;
/// let promise = Promise::<u32>::new();
/// let condition = Condition::new().readable(&reader).writable(&writer).promise(&promise).timeout(Duration::from_secs(60));
/// let ready = xiio::run(condition.wait())?;
/// assert_eq!(ready.writable(), [writer.as_raw_fd()]);
/// assert!(ready.readable().is_empty() && !ready.is_promise_set() && !ready.is_elapsed());
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ready {
    readable: Vec<RawFd>,
    writable: Vec<RawFd>,
    is_promise_set: bool,
    is_elapsed: bool,
}

impl Ready {
    fn note(&mut self, fd: BorrowedFd<'_>, direction: Direction) {
        match direction {
            Direction::Read => self.readable.push(fd.as_raw_fd()),
            Direction::Write => self.writable.push(fd.as_raw_fd()),
        }
    }

    /// The descriptors that are readable.
    #[must_use]
    pub fn readable(&self) -> &[RawFd] {
        &self.readable
    }

    /// The descriptors that are writable.
    #[must_use]
    pub fn writable(&self) -> &[RawFd] {
        &self.writable
    }

    /// Whether one of the promises is set.
    #[must_use]
    pub fn is_promise_set(&self) -> bool {
        self.is_promise_set
    }

    /// Whether the deadline is over.
    #[must_use]
    pub fn is_elapsed(&self) -> bool {
        self.is_elapsed
    }

    fn is_any(&self) -> bool {
        !self.readable.is_empty() || !self.writable.is_empty() || self.is_promise_set || self.is_elapsed
    }
}

/// A promise of any type: only whether it is set matters.
trait AnyPromise {
    fn is_set(&self) -> bool;
    fn wait_set(&self) -> Box<dyn PollSet + '_>;
}

trait PollSet {
    fn poll_set(&mut self, cx: &mut Context<'_>) -> Poll<()>;
    fn hope_for_others(&self);
}

impl<T> AnyPromise for Promise<T> {
    fn is_set(&self) -> bool {
        self.is_set()
    }

    fn wait_set(&self) -> Box<dyn PollSet + '_> {
        Box::new(self.wait_set())
    }
}

impl<T> PollSet for WaitSet<T> {
    fn poll_set(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_set(cx)
    }

    fn hope_for_others(&self) {
        // One is the condition's.
        self.hope_for_others(2);
    }
}

impl<'a> Condition<'a> {
    /// A condition with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Fulfilled when `fd` is readable: a reference, a [`BorrowedFd`], or a descriptor to be kept until the condition is dropped.
    ///
    /// # Examples
    /// Of a library that hands out numbers:
    /// ```
    /// use std::os::fd::{AsRawFd, BorrowedFd};
    /// use xiio::Condition;
    ///
    /// let (a, b) = (std::io::pipe()?, std::io::pipe()?);
    /// let mut condition = Condition::new();
    /// for number in [a.1.as_raw_fd(), b.1.as_raw_fd()] {
    ///     // SAFETY: Both pipes are open for longer than the condition is there.
    ///     condition = condition.writable(unsafe { BorrowedFd::borrow_raw(number) });
    /// }
    /// assert_eq!(xiio::run(condition.wait())?.writable().len(), 2);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn readable(self, fd: impl AsFd + 'a) -> Self {
        self.watch(Box::new(fd), true, false)
    }

    /// Fulfilled when `fd` is writable; see [`Condition::readable`].
    pub fn writable(self, fd: impl AsFd + 'a) -> Self {
        self.watch(Box::new(fd), false, true)
    }

    fn watch(mut self, fd: Box<dyn AsFd + 'a>, read: bool, write: bool) -> Self {
        let number = fd.as_fd().as_raw_fd();
        let interest = self.descriptors.entry(number).or_insert(Interest { fd, read: false, write: false });
        interest.read |= read;
        interest.write |= write;
        self
    }

    /// Fulfilled when `promise` is set.
    pub fn promise<T: 'a>(mut self, promise: &Promise<T>) -> Self {
        self.promises.push(Box::new(promise.clone()));
        self
    }

    /// Fulfilled at `deadline`, or at the deadline set before if that is earlier.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(self.deadline.map_or(deadline, |before| before.min(deadline)));
        self
    }

    /// Fulfilled `timeout` from now. One beyond the clock's range is no deadline.
    pub fn timeout(self, timeout: Duration) -> Self {
        match now().checked_add(timeout) {
            Some(deadline) => self.deadline(deadline),
            None => self,
        }
    }

    /// A condition that is fulfilled when either is: both directions of one descriptor are watched, promises are united, the
    /// earlier deadline counts.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xiio::{Condition, Promise};
    ///
    /// let promise = Promise::new();
    /// promise.set(7).unwrap();
    /// let late = Condition::new().timeout(Duration::from_secs(60));
    /// let either = late.combine(Condition::new().promise(&promise));
    /// assert!(xiio::run(either.wait())?.is_promise_set());
    /// # std::io::Result::Ok(())
    /// ```
    pub fn combine(mut self, other: Self) -> Self {
        self.promises.extend(other.promises);
        if let Some(deadline) = other.deadline {
            self = self.deadline(deadline);
        }
        for Interest { fd, read, write } in other.descriptors.into_values() {
            self = self.watch(fd, read, write);
        }
        self
    }

    /// Whether any part holds now. Does not wait, and works outside of a runtime.
    ///
    /// # Errors
    /// `EBADF` for a descriptor that is closed.
    ///
    /// # Examples
    /// ```
    /// use xiio::Condition;
    ///
    /// let (reader, writer) = std::io::pipe()?;
    /// assert!(!Condition::new().readable(&reader).is_fulfilled()?);
    /// assert!(Condition::new().writable(&writer).is_fulfilled()?);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn is_fulfilled(&self) -> io::Result<bool> {
        self.look().map(|ready| ready.is_any())
    }

    fn look(&self) -> io::Result<Ready> {
        let mut ready = Ready {
            is_promise_set: self.promises.iter().any(|promise| promise.is_set()),
            is_elapsed: self.deadline.is_some_and(|deadline| deadline <= now()),
            ..Ready::default()
        };
        for interest in self.descriptors.values() {
            for direction in interest.directions() {
                if sys::fd::is_ready(interest.fd.as_fd(), direction)? {
                    ready.note(interest.fd.as_fd(), direction);
                }
            }
        }
        Ok(ready)
    }

    fn node(&self) -> Node {
        let kind = match () {
            () if !self.descriptors.is_empty() => Kind::Descriptor,
            () if self.deadline.is_some() => Kind::Timer,
            () => Kind::Wait,
        };
        Node::new(kind, format!("{self:?}")).has_left(left(self.deadline))
    }

    /// Waits until any part holds, and tells which do then.
    ///
    /// # Errors
    /// `EBADF` for a descriptor that is closed, and what `epoll_ctl(2)` reports for one that cannot be watched.
    ///
    /// # Panics
    /// When polled outside of a runtime.
    ///
    /// # Cancellation
    /// Nothing is taken from any descriptor, and nothing stays registered.
    pub async fn wait(&self) -> io::Result<Ready> {
        let interests = self.descriptors.values();
        let asked =
            interests.flat_map(|interest| interest.directions().map(|direction| (interest.fd.as_fd(), direction)));
        let mut descriptors: Vec<_> =
            asked.map(|(fd, direction)| (fd, direction, Readiness::new(fd, direction))).collect();
        let mut promises: Vec<_> = self.promises.iter().map(|promise| promise.wait_set()).collect();
        let mut deadline = Deadline::until(self.deadline);
        let mut reached = Reached::default();
        poll_fn(|cx| {
            reached.note("condition");
            let polled = poll_leaf(
                cx,
                || self.node(),
                |cx| {
                    // Not looked at again afterwards: others may take from a descriptor meanwhile.
                    let mut ready = Ready { is_elapsed: deadline.poll_elapsed(cx), ..Ready::default() };
                    for promise in &mut promises {
                        ready.is_promise_set |= promise.poll_set(cx).is_ready();
                    }
                    for (fd, direction, readiness) in &mut descriptors {
                        match readiness.poll_now(cx)? {
                            Poll::Ready(()) => ready.note(*fd, *direction),
                            Poll::Pending => {}
                        }
                    }
                    if ready.is_any() { Poll::Ready(Ok(ready)) } else { Poll::Pending }
                },
            );
            promises.iter().for_each(|promise| promise.hope_for_others());
            polled
        })
        .await
    }
}

impl fmt::Debug for Condition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |wanted: fn(&Interest<'_>) -> bool| {
            let interests = self.descriptors.iter().filter(move |(_, interest)| wanted(interest));
            interests.map(|(fd, _)| *fd).collect::<Vec<_>>()
        };
        f.debug_struct("Condition")
            .field("readable", &of(|interest| interest.read))
            .field("writable", &of(|interest| interest.write))
            .field("n_promises", &self.promises.len())
            .field("deadline", &self.deadline)
            .finish()
    }
}
