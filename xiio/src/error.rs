//! The small errors of the crate and their texts.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io;

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
