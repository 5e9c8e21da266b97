//! Signals of the operating system, awaited like anything else.
//!
//! A [`subscribe`]d signal is counted by a handler and received by [`Signals::recv`]. Its default action (mostly the end of
//! the process) does not happen meanwhile. When the last subscription ends, the earlier disposition comes back: at once, or
//! a second after the last signal that was received.
//!
//! ```
//! use std::process::Command;
//! use xiio::signal::{self, SIGUSR1};
//!
//! #[xiio::main]
//! async fn main() -> std::io::Result<()> {
//!     let mut signals = signal::subscribe(&[SIGUSR1])?;
//!     Command::new("kill").args(["-USR1", &std::process::id().to_string()]).status()?;
//!     assert_eq!(signals.recv().await?, SIGUSR1);
//!     Ok(())
//! }
//! ```
//!
//! # Implementation
//! One handler for all signals, which touches atomics and writes one byte into a socket of each subscription; it is
//! installed with `SA_RESTART`, and keeps `errno`. A handler that was there before (another library's, say) is called
//! afterwards, as if it were still installed, but each time, and not inside of itself: `SA_RESETHAND` and `SA_NODEFER` do not count. With
//! its `SA_NOCLDSTOP` a subscription to `SIGCHLD` receives nothing for children that are stopped either. A subscription takes two
//! descriptors. There is no thread.

#[cfg(feature = "futures-core")]
mod stream;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::task::{Context, Poll, ready};

use crate::drawing::{Kind, Node};
use crate::io::poll_ready;
use crate::reactor::{Direction, Wait};
use crate::runtime::poll_leaf;
use crate::sys::signal::{Impatience, Subscription, name};
use crate::unwind::Reached;

pub use libc::{
    SIGABRT, SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGIO, SIGKILL, SIGPIPE, SIGPROF, SIGQUIT, SIGSTOP, SIGSYS,
    SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGUSR1, SIGUSR2, SIGVTALRM, SIGWINCH, SIGXCPU, SIGXFSZ,
};

/// Receives `signals` from now on, until the result is dropped.
///
/// There may be several subscriptions to one signal, on any thread, and each receives it. It can be called before the
/// runtime starts.
///
/// A signal that was ignored (as `nohup` does with `SIGHUP`, and a script with `SIGINT` for what it starts by `&`) is
/// received all the same, and ignored again afterwards; `cancel_on` leaves it ignored. A signal that every thread blocks
/// is not received.
///
/// One request to stop may be delivered twice: the terminal sends `SIGINT`, and a wrapper forwards it; a service manager sends
/// `SIGTERM` and `SIGHUP`. So a second delivery is a new request only a second later. When the subscription is dropped, the
/// rest of that second still counts for the signals that it received: where the default action would follow, further signals
/// of the list are swallowed.
///
/// A process that is forked off has the subscription as well. Each of the two receives what is sent to it.
///
/// # Errors
/// `InvalidInput` for signals that nobody can wait for: `SIGKILL` and `SIGSTOP`, which nobody can catch; `SIGSEGV`,
/// `SIGBUS`, `SIGFPE` and `SIGILL`, whose cause would run again; and numbers that are no signals. `ResourceBusy` when an
/// earlier subscription has ended, but a handler that was installed over its own is still there. And what `socketpair(2)`
/// and `sigaction(2)` report.
///
/// # Examples
/// ```
/// use xiio::signal::{self, SIGKILL};
///
/// let error = signal::subscribe(&[SIGKILL]).unwrap_err();
/// assert_eq!(error.to_string(), "cannot subscribe to SIGKILL: the kernel lets nobody catch it");
/// ```
///
/// # Source
/// `sigaction(2)`; `xiio.subscribe_signals` in the Python original.
pub fn subscribe(signals: &[i32]) -> io::Result<Signals> {
    Ok(Signals {
        #[cfg(feature = "futures-core")]
        place: stream::Place::new(),
        subscription: Subscription::new(signals, &Impatience::never())?,
    })
}

/// The `n`th real-time signal, counted from 0.
///
/// `None` beyond the last one; there are 31 with the C library of GNU. Unlike other signals they are queued: each one
/// that is sent is received.
///
/// # Examples
/// ```
/// assert!(xiio::signal::real_time(0).is_some());
/// assert!(xiio::signal::real_time(1000).is_none());
/// ```
///
/// # Source
/// `SIGRTMIN` in `signal(7)`.
#[cfg(target_os = "linux")]
#[must_use]
pub fn real_time(n: u32) -> Option<i32> {
    crate::sys::signal::real_time(i32::try_from(n).ok()?)
}

/// A subscription, see [`subscribe`].
///
/// When it is dropped, it forgets what it has not given yet. An earlier handler comes back at once. The default action comes
/// back a second after the last signal that was received; signals until then are forgotten too.
///
/// # Examples
/// ```
/// use xiio::process::run_process;
/// use xiio::signal::{SIGUSR1, subscribe};
///
/// # xiio::run(async {
/// let mut signals = subscribe(&[SIGUSR1])?;
/// let pid = std::process::id().to_string();
/// run_process(["kill", "-USR1", &pid]).await?;
/// assert_eq!(signals.recv().await?, SIGUSR1);
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
pub struct Signals {
    /// Declared before what it waits for.
    #[cfg(feature = "futures-core")]
    place: stream::Place,
    subscription: Subscription,
}

impl Signals {
    /// Waits for the next signal and gives its number.
    ///
    /// What came since the subscription is given, one delivery at a time. If there are several, the lowest number comes
    /// first.
    ///
    /// The kernel keeps one of each kind: the same signal sent again before the first was delivered is not seen (real-time
    /// signals are queued). So take a signal as "at least once since the last time".
    ///
    /// # Errors
    /// What `epoll_ctl(2)` reports; in a process that was forked off, also what `socketpair(2)` does.
    ///
    /// # Panics
    /// When polled outside of a runtime.
    ///
    /// # Cancellation
    /// No signal is lost.
    pub async fn recv(&mut self) -> io::Result<i32> {
        let (mut place, mut reached) = (None, Reached::default());
        poll_fn(|cx| {
            reached.note("wait for a signal");
            poll_take(&self.subscription, &mut place, cx)
        })
        .await
    }

    /// A signal that has come already, if there is one.
    ///
    /// # Examples
    /// ```
    /// use xiio::signal::{SIGUSR2, subscribe};
    ///
    /// let mut signals = subscribe(&[SIGUSR2])?;
    /// assert_eq!(signals.try_recv(), None);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn try_recv(&mut self) -> Option<i32> {
        self.subscription.take()
    }
}

fn describe(signals: &[i32]) -> String {
    let names: Vec<String> = signals.iter().map(|&signal| name(signal)).collect();
    names.join(" or ")
}

/// Takes a signal, or waits at the place, which goes before the subscription does.
fn poll_take(subscription: &Subscription, place: &mut Option<Wait>, cx: &mut Context<'_>) -> Poll<io::Result<i32>> {
    let describe = || Node::new(Kind::Signal, describe(subscription.signals()));
    poll_leaf(cx, describe, |cx| {
        loop {
            if let Some(signal) = subscription.take() {
                return Poll::Ready(Ok(signal));
            }
            subscription.be_in_this_process()?;
            ready!(poll_ready(subscription.as_fd(), Direction::Read, false, place, cx))?;
        }
    })
}

impl AsFd for Signals {
    /// Readable when there may be a signal to receive; for [`Condition`](crate::Condition). It must not be read from.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.subscription.as_fd()
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signals").field(&describe(self.subscription.signals())).finish()
    }
}
