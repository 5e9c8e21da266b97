//! The small errors of the crate and their texts.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io;
use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};

/// A time limit was over before the work was done.
///
/// Each `Elapsed` comes from the `timeout`, `deadline` or group option that set the limit, and from no other.
/// It converts into [`std::io::Error`] of the kind [`TimedOut`](io::ErrorKind::TimedOut), so `?` works in functions
/// that return `io::Result`.
///
/// # Examples
/// ```
/// use std::{io, time::Duration};
///
/// let late = xiio::run(xiio::timeout(Duration::ZERO, std::future::pending::<()>())).unwrap_err();
/// assert_eq!(late.to_string(), "time limit is over");
/// assert_eq!(io::Error::from(late).kind(), io::ErrorKind::TimedOut);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("time limit is over")
    }
}

impl Error for Elapsed {}

impl From<Elapsed> for io::Error {
    fn from(elapsed: Elapsed) -> Self {
        Self::new(io::ErrorKind::TimedOut, elapsed)
    }
}

/// A task ended without a value: it was cancelled, or it failed and its group has the failure.
///
/// What [`Task::outcome`](crate::Task::outcome) gives.
///
/// # Examples
/// ```
/// use xiio::Cancelled;
///
/// xiio::run(async {
///     xiio::task_group!(|tg| {
///         let task = tg.spawn(std::future::pending::<()>());
///         tg.cancel();
///         let Err(Cancelled { .. }) = task.outcome().await else { panic!("it has ended") };
///     });
/// });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("task was cancelled before it had a value")
    }
}

impl Error for Cancelled {}

/// A group has ended, or is cancelled and takes no more tasks from other threads.
///
/// What [`Remote::spawn`](crate::Remote::spawn) gives.
///
/// # Examples
/// ```
/// let remote = xiio::run(async { xiio::task_group!(|tg| { tg.remote() }) });
/// let refused = remote.spawn(|| async {}).unwrap_err();
/// assert_eq!(refused.to_string(), "the group has ended or is cancelled; spawn while its body or a task of it runs");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupEnded;

impl fmt::Display for GroupEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the group has ended or is cancelled; spawn while its body or a task of it runs")
    }
}

impl Error for GroupEnded {}

/// A panic that was caught, as [`catch_panic`](crate::catch_panic) and [`Failure::Panic`](crate::Failure::Panic) give it.
///
/// Its `Display` says what the panic said. It is an ordinary error: `Send`, `Sync`, and to be boxed.
///
/// # Examples
/// ```
/// let panic = xiio::run(xiio::catch_panic(async { panic!("a bug") })).unwrap_err();
/// assert_eq!(panic.to_string(), "panicked: a bug");
/// assert_eq!(panic.into_payload().downcast_ref(), Some(&"a bug"));
/// ```
pub struct Panic {
    text: Box<str>,
    /// Locked, as a payload need not be `Sync`. Nobody waits for it: it is only taken out.
    payload: Mutex<Payload>,
}

impl Panic {
    pub(crate) fn new(payload: Payload) -> Self {
        Self { text: panic_text(&*payload).into(), payload: Mutex::new(payload) }
    }

    /// What was given to `panic!`, where it is a text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What the panic carries.
    #[must_use]
    pub fn into_payload(self) -> Box<dyn Any + Send> {
        self.payload.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Panics with the same payload, without another message on standard error.
    ///
    /// # Examples
    /// ```
    /// use std::panic::catch_unwind;
    ///
    /// let panic = xiio::run(xiio::catch_panic(async { panic!("a bug") })).unwrap_err();
    /// let payload = catch_unwind(|| panic.resume()).unwrap_err();
    /// assert_eq!(payload.downcast_ref(), Some(&"a bug"));
    /// ```
    pub fn resume(self) -> ! {
        resume_unwind(self.into_payload())
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "panicked: {}", self.text)
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Panic").field(&self.text).finish()
    }
}

impl Error for Panic {}

/// Says of an error what it is about: `what: error`. An error with a number of the system stays as it is: an `io::Error`
/// has room for the number or for a text, and a program that backs off looks for the number.
pub(crate) fn explain(error: io::Error, what: impl FnOnce() -> String) -> io::Error {
    match error.raw_os_error() {
        Some(_) => error,
        None => io::Error::new(error.kind(), format!("{}: {error}", what())),
    }
}

/// What a panic carries.
pub(crate) type Payload = Box<dyn Any + Send>;

/// The text of a panic, where it has one.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "(a payload that is no text)"
    }
}
