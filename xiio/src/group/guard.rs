//! What runs a group inside the surrounding function, and empties it when that function is dropped.

use std::panic::resume_unwind;
use std::pin::Pin;

use super::fallible::{Failure, GroupError, TryTaskGroup};
use super::plain::TaskGroup;
use super::run::{BodyEnd, Cause, Group, Run};
use crate::error::Elapsed;
use crate::report::drop_safely;

/// How the body of a plain group was left.
#[derive(Debug)]
pub enum Leave<X> {
    /// The tasks are waited for.
    Finish(X),
    /// The tasks are cancelled: a `?` leaves the function.
    Fail(X),
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
    pub async fn run<B, X>(self, body: Pin<&mut Option<B>>) -> X
    where
        B: Future<Output = Leave<X>>,
    {
        match self.run_timed(body).await {
            Ok(exit) => exit,
            Err(Elapsed) => unreachable!("the group has no time limit"),
        }
    }

    /// Runs a group with a time limit.
    pub async fn run_timed<B, X>(self, body: Pin<&mut Option<B>>) -> Result<X, Elapsed>
    where
        B: Future<Output = Leave<X>>,
    {
        let group = self.group;
        let exit = Run::new(group, body, |leave| match leave {
            Leave::Finish(exit) => BodyEnd::Finish(exit),
            Leave::Fail(exit) => BodyEnd::Fail(exit),
        })
        .await;
        let failure = group.take_failures().into_iter().next();
        match (failure, exit) {
            (Some(Cause::Panic(payload)), exit) => {
                // Dropped by the unwinding it would abort if it panicked.
                drop_safely(exit);
                resume_unwind(payload)
            }
            (Some(Cause::Elapsed), _) => Err(Elapsed),
            (None | Some(_), Some(exit)) => Ok(exit),
            (None | Some(_), None) => unreachable!("a body ends with an exit or a failure"),
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
    pub async fn run<B, X>(self, body: Pin<&mut Option<B>>) -> Result<X, E>
    where
        B: Future<Output = Result<X, E>>,
    {
        self.run_first(body, |_| None).await
    }

    /// Runs a group with a time limit; the first error is its error.
    pub async fn run_timed<B, X>(self, body: Pin<&mut Option<B>>) -> Result<X, E>
    where
        B: Future<Output = Result<X, E>>,
        E: From<Elapsed>,
    {
        self.run_first(body, |elapsed| Some(E::from(elapsed))).await
    }

    /// Runs a group without a time limit, and keeps all failures.
    pub async fn run_all<B, X>(self, body: Pin<&mut Option<B>>) -> Result<X, GroupError<E>>
    where
        B: Future<Output = Result<X, E>>,
    {
        self.run_keeping_all(body, |_| None).await
    }

    /// Runs a group with a time limit, and keeps all failures.
    pub async fn run_all_timed<B, X>(self, body: Pin<&mut Option<B>>) -> Result<X, GroupError<E>>
    where
        B: Future<Output = Result<X, E>>,
        E: From<Elapsed>,
    {
        self.run_keeping_all(body, |elapsed| Some(E::from(elapsed))).await
    }

    async fn run_first<B, X>(self, body: Pin<&mut Option<B>>, from_elapsed: fn(Elapsed) -> Option<E>) -> Result<X, E>
    where
        B: Future<Output = Result<X, E>>,
    {
        let exit = self.run_body(body).await;
        match self.group.take_failures(from_elapsed).into_iter().next() {
            Some(Failure::Panic(payload)) => {
                drop_safely(exit);
                resume_unwind(payload)
            }
            Some(Failure::Error(error)) => Err(error),
            None => Ok(exit.unwrap_or_else(|| unreachable!("a body ends with an exit or a failure"))),
        }
    }

    async fn run_keeping_all<B, X>(
        self,
        body: Pin<&mut Option<B>>,
        from_elapsed: fn(Elapsed) -> Option<E>,
    ) -> Result<X, GroupError<E>>
    where
        B: Future<Output = Result<X, E>>,
    {
        self.group.group().keep_all();
        let exit = self.run_body(body).await;
        match GroupError::new(self.group.take_failures(from_elapsed)) {
            Some(error) => Err(error),
            None => Ok(exit.unwrap_or_else(|| unreachable!("a body ends with an exit or a failure"))),
        }
    }

    async fn run_body<B, X>(&self, body: Pin<&mut Option<B>>) -> Option<X>
    where
        B: Future<Output = Result<X, E>>,
    {
        Run::new(self.group.group(), body, |result| match result {
            Ok(exit) => BodyEnd::Finish(exit),
            Err(error) => {
                self.group.errors().borrow_mut().push_back(error);
                BodyEnd::Error
            }
        })
        .await
    }
}
