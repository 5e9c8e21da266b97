//! What runs a group inside the surrounding function, and empties it when that function is dropped.

use std::panic::resume_unwind;
use std::pin::Pin;

use super::fallible::{Failure, GroupError, TryTaskGroup};
use super::plain::TaskGroup;
use super::state::{BodyEnd, Cause, Ending, Group, Run};
use crate::error::Elapsed;
use crate::report::{Undelivered, drop_safely, report_err};

/// How the body of a plain group was left.
#[derive(Debug)]
pub enum Leave<X> {
    /// The tasks are waited for.
    Finish(X),
    /// The tasks are cancelled: a `?` leaves the function.
    Fail(X),
}

/// Reports what the body of a group was left with if it is an `Err`. Called where nobody is given it.
pub fn report_exit<T>(value: &T) {
    report_err(value, |type_name| {
        format!(
            "the body of a group ended with an `Err` that nobody is given ({type_name}), as the group was cancelled, or failed \
             otherwise; handle the error in the body, or leave it with `?`"
        )
    });
}

/// The guard of a plain group. At its end it empties the group, in place of the destructor that `ManuallyDrop`
/// suppresses.
#[must_use]
pub struct Guard<'a> {
    group: &'a Group<'a>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.group.close();
    }
}

/// The guard of a group that may fail, see [`Guard`].
#[must_use]
pub struct TryGuard<'a, E> {
    group: &'a TryTaskGroup<'a, E>,
}

impl<E> Drop for TryGuard<'_, E> {
    fn drop(&mut self) {
        self.group.close();
    }
}

impl<'a> Guard<'a> {
    /// Takes charge of `tg`.
    pub fn new(tg: &'a TaskGroup<'a>) -> Self {
        tg.group().guard();
        Self { group: tg.group() }
    }

    /// Runs a group without a time limit.
    pub fn run<B, X>(self, body: Pin<&mut Option<B>>, report_exit: fn(&X)) -> Run<'a, '_, B, Untimed<'a>>
    where
        B: Future<Output = Leave<X>>,
    {
        Run::new(self.group, body, Untimed(self), report_exit)
    }

    /// Runs a group with a time limit.
    pub fn run_timed<B, X>(self, body: Pin<&mut Option<B>>, report_exit: fn(&X)) -> Run<'a, '_, B, Timed<'a>>
    where
        B: Future<Output = Leave<X>>,
    {
        Run::new(self.group, body, Timed(self), report_exit)
    }

    fn conclude<X>(self, exit: Undelivered<X>) -> Result<X, Elapsed> {
        match self.group.take_failure() {
            Some(Cause::Panic(payload)) => {
                // Dropped by the unwinding it would abort if it panicked.
                drop_safely(exit);
                resume_unwind(payload)
            }
            Some(Cause::Elapsed) => Err(Elapsed),
            None | Some(_) => Ok(exit.deliver()),
        }
    }
}

/// The ending of a plain group without a time limit.
pub struct Untimed<'a>(Guard<'a>);

impl<X> Ending<Leave<X>> for Untimed<'_> {
    type Exit = X;
    type Output = X;

    fn judge(&self, output: Leave<X>) -> BodyEnd<X> {
        output.into()
    }

    fn conclude(self, exit: Undelivered<X>) -> X {
        self.0.conclude(exit).unwrap_or_else(|Elapsed| unreachable!("the group has no time limit"))
    }
}

/// The ending of a plain group with a time limit.
pub struct Timed<'a>(Guard<'a>);

impl<X> Ending<Leave<X>> for Timed<'_> {
    type Exit = X;
    type Output = Result<X, Elapsed>;

    fn judge(&self, output: Leave<X>) -> BodyEnd<X> {
        output.into()
    }

    fn conclude(self, exit: Undelivered<X>) -> Result<X, Elapsed> {
        self.0.conclude(exit)
    }
}

impl<X> From<Leave<X>> for BodyEnd<X> {
    fn from(leave: Leave<X>) -> Self {
        match leave {
            Leave::Finish(exit) => Self::Finish(exit),
            Leave::Fail(exit) => Self::Fail(exit),
        }
    }
}

impl<'a, E> TryGuard<'a, E> {
    /// Takes charge of `tg`.
    pub fn new(tg: &'a TryTaskGroup<'a, E>) -> Self {
        tg.group().guard();
        Self { group: tg }
    }

    /// Runs a group without a time limit; the first error is its error.
    pub fn run<B, X>(self, body: Pin<&mut Option<B>>, report_exit: fn(&X)) -> Run<'a, '_, B, FirstFailure<'a, E>>
    where
        B: Future<Output = Result<X, E>>,
    {
        Run::new(self.group.group(), body, FirstFailure { guard: self, from_elapsed: |_| None }, report_exit)
    }

    /// Runs a group with a time limit; the first error is its error.
    pub fn run_timed<B, X>(self, body: Pin<&mut Option<B>>, report_exit: fn(&X)) -> Run<'a, '_, B, FirstFailure<'a, E>>
    where
        B: Future<Output = Result<X, E>>,
        E: From<Elapsed>,
    {
        let from_elapsed = |elapsed| Some(E::from(elapsed));
        Run::new(self.group.group(), body, FirstFailure { guard: self, from_elapsed }, report_exit)
    }

    /// Runs a group without a time limit, and keeps all failures.
    pub fn run_all<B, X>(self, body: Pin<&mut Option<B>>, report_exit: fn(&X)) -> Run<'a, '_, B, AllFailures<'a, E>>
    where
        B: Future<Output = Result<X, E>>,
    {
        self.group.group().keep_all();
        Run::new(self.group.group(), body, AllFailures { guard: self, from_elapsed: |_| None }, report_exit)
    }

    /// Runs a group with a time limit, and keeps all failures.
    pub fn run_all_timed<B, X>(
        self,
        body: Pin<&mut Option<B>>,
        report_exit: fn(&X),
    ) -> Run<'a, '_, B, AllFailures<'a, E>>
    where
        B: Future<Output = Result<X, E>>,
        E: From<Elapsed>,
    {
        self.group.group().keep_all();
        let from_elapsed = |elapsed| Some(E::from(elapsed));
        Run::new(self.group.group(), body, AllFailures { guard: self, from_elapsed }, report_exit)
    }

    fn judge<X>(&self, output: Result<X, E>) -> BodyEnd<X> {
        match output {
            Ok(exit) => BodyEnd::Finish(exit),
            Err(error) => {
                self.group.errors().borrow_mut().push_back(error);
                BodyEnd::Error
            }
        }
    }
}

/// The ending of a group that fails with its first failure.
pub struct FirstFailure<'a, E> {
    guard: TryGuard<'a, E>,
    from_elapsed: fn(Elapsed) -> Option<E>,
}

impl<X, E> Ending<Result<X, E>> for FirstFailure<'_, E> {
    type Exit = X;
    type Output = Result<X, E>;

    fn judge(&self, output: Result<X, E>) -> BodyEnd<X> {
        self.guard.judge(output)
    }

    fn conclude(self, exit: Undelivered<X>) -> Result<X, E> {
        match self.guard.group.take_failure(self.from_elapsed) {
            Some(Failure::Panic(panic)) => {
                drop_safely(exit);
                panic.resume()
            }
            Some(Failure::Error(error)) => {
                drop_safely(exit);
                Err(error)
            }
            None => Ok(exit.deliver()),
        }
    }
}

/// The ending of a group that fails with all of its failures.
pub struct AllFailures<'a, E> {
    guard: TryGuard<'a, E>,
    from_elapsed: fn(Elapsed) -> Option<E>,
}

impl<X, E> Ending<Result<X, E>> for AllFailures<'_, E> {
    type Exit = X;
    type Output = Result<X, GroupError<E>>;

    fn judge(&self, output: Result<X, E>) -> BodyEnd<X> {
        self.guard.judge(output)
    }

    fn conclude(self, exit: Undelivered<X>) -> Result<X, GroupError<E>> {
        match GroupError::new(self.guard.group.take_failures(self.from_elapsed)) {
            Some(error) => {
                drop_safely(exit);
                Err(error)
            }
            None => Ok(exit.deliver()),
        }
    }
}
