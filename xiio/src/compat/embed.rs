//! What every foreign loop needs to know of a xiio tree.

use std::fmt;
use std::future::IntoFuture;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::task::{Context, Poll};
use std::time::Instant;

use crate::runtime::Embedded;

/// A xiio tree that is driven by another loop.
///
/// The loop calls [`turn`](Embed::turn) once, and from then on whenever one of three things happens:
///
/// - the [`descriptor`](Embed::descriptor) is readable,
/// - the [`next_deadline`](Embed::next_deadline), which each turn may change, is over,
/// - the waker that it gave to the last turn is woken.
///
/// A loop that watches the descriptor edge-triggered notes that it is not readable any more *before* it calls `turn`. After a
/// turn the descriptor is not readable, unless something has happened since.
///
/// Dropping it drops the tree as dropping any future does: destructors run, cleanup that awaits does not. To end it with
/// cleanup, cancel something inside: a [`timeout`](crate::timeout), or a group that waits for a [`Promise`](crate::Promise)
/// of the loop's.
///
/// # Examples
/// A loop made of nothing but `poll(2)`; `Unpark` is a waker that ends the wait.
/// ```
/// use std::os::fd::{AsFd, AsRawFd};
/// use std::sync::Arc;
/// use std::task::{Context, Poll, Wake, Waker};
/// use std::time::{Duration, Instant};
/// use xiio::compat::Embed;
///
/// struct Unpark(std::os::unix::net::UnixStream);
/// impl Wake for Unpark {
///     fn wake(self: Arc<Self>) {
///         let _ = std::io::Write::write(&mut &self.0, b"x");
///     }
/// }
///
/// let (wakes, unpark) = std::os::unix::net::UnixStream::pair()?;
/// let waker = Waker::from(Arc::new(Unpark(unpark)));
/// let mut tree = Embed::new(async {
///     xiio::sleep(Duration::from_millis(10)).await;
///     xiio::in_thread(|| 7).await
/// })?;
/// let value = loop {
///     if let Poll::Ready(value) = tree.turn(&mut Context::from_waker(&waker)) {
///         break value;
///     }
///     let left = tree.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
///     let millis = left.map_or(-1, |left| left.as_millis() as i32 + 1);
///     let ask = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
///     let mut fds = [ask(tree.descriptor().as_raw_fd()), ask(wakes.as_raw_fd())];
///     unsafe { libc::poll(fds.as_mut_ptr(), 2, millis) };
///     if fds[1].revents != 0 {
///         std::io::Read::read(&mut &wakes, &mut [0; 64])?;
///     }
/// };
/// assert_eq!(value, 7);
/// # std::io::Result::Ok(())
/// ```
#[must_use = "nothing runs before `turn` is called"]
pub struct Embed<F: Future> {
    tree: Embedded<F>,
}

impl<F: Future> Embed<F> {
    /// A tree with `future` as its root, on this thread.
    ///
    /// # Errors
    /// When the system has no descriptors left for a poller. `Unsupported` where the poller reports no edges: that of `poll(2)`, say.
    pub fn new(future: impl IntoFuture<IntoFuture = F>) -> io::Result<Self> {
        Ok(Self { tree: Embedded::new(future.into_future())? })
    }

    /// Readable when a descriptor that the tree waits for is ready. It is the same for the whole life of the
    /// tree.
    ///
    /// It belongs to the tree; a loop that needs its own descriptor uses
    /// [`BorrowedFd::try_clone_to_owned`].
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.tree.descriptor()
    }

    /// When [`turn`](Embed::turn) is to be called at the latest; `None` if there is no such time.
    ///
    /// May be earlier than anything is due, never later.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.tree.next_deadline()
    }

    /// Does what there is to do and does not wait. `Ready` with the value of the future when it has ended.
    ///
    /// A turn is bounded: a turn that leaves something to do wakes `cx`.
    ///
    /// # Panics
    /// With the panic of the future. Also when the future has ended before, when a xiio runtime runs on this thread already,
    /// and when the system refuses to say which descriptors are ready.
    pub fn turn(&mut self, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.tree.turn(cx).map(|ended| match ended {
            Some(Ok(value)) => value,
            Some(Err(error)) => panic!("the reactor does not look: {error}"),
            None => panic!("a xiio tree took a turn after it had ended"),
        })
    }
}

impl<F: Future> AsFd for Embed<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor()
    }
}

impl<F: Future> AsRawFd for Embed<F> {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl<F: Future> fmt::Debug for Embed<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embed").field("descriptor", &self.descriptor()).finish_non_exhaustive()
    }
}
