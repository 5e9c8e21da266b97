//! What expansions need for `?`, `return` and their kind to leave a block.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::task::Poll;

/// What `?` does, for the types that it is written behind in the body of a group.
#[diagnostic::on_unimplemented(
    message = "`?` in the body of a group works on `Result`, `Option`, `ControlFlow` and `Poll<Result<…>>`, not on `{Self}`",
    label = "this is none of them"
)]
pub trait Branch {
    /// What the `?` expression evaluates to.
    type Output;
    /// What leaves the block: the value without its good half.
    type Residual;

    /// Goes on with the output, or leaves with the residual.
    fn branch(self) -> ControlFlow<Self::Residual, Self::Output>;
}

impl<T, E> Branch for Result<T, E> {
    type Output = T;
    type Residual = Result<Infallible, E>;

    #[inline]
    fn branch(self) -> ControlFlow<Self::Residual, T> {
        match self {
            Ok(value) => ControlFlow::Continue(value),
            Err(error) => ControlFlow::Break(Err(error)),
        }
    }
}

impl<T> Branch for Option<T> {
    type Output = T;
    type Residual = Option<Infallible>;

    #[inline]
    fn branch(self) -> ControlFlow<Self::Residual, T> {
        match self {
            Some(value) => ControlFlow::Continue(value),
            None => ControlFlow::Break(None),
        }
    }
}

impl<B, C> Branch for ControlFlow<B, C> {
    type Output = C;
    type Residual = ControlFlow<B, Infallible>;

    #[inline]
    fn branch(self) -> ControlFlow<Self::Residual, C> {
        match self {
            ControlFlow::Continue(value) => ControlFlow::Continue(value),
            ControlFlow::Break(value) => ControlFlow::Break(ControlFlow::Break(value)),
        }
    }
}

impl<T, E> Branch for Poll<Result<T, E>> {
    type Output = Poll<T>;
    type Residual = Result<Infallible, E>;

    #[inline]
    fn branch(self) -> ControlFlow<Self::Residual, Poll<T>> {
        match self {
            Poll::Ready(Ok(value)) => ControlFlow::Continue(Poll::Ready(value)),
            Poll::Ready(Err(error)) => ControlFlow::Break(Err(error)),
            Poll::Pending => ControlFlow::Continue(Poll::Pending),
        }
    }
}

impl<T, E> Branch for Poll<Option<Result<T, E>>> {
    type Output = Poll<Option<T>>;
    type Residual = Result<Infallible, E>;

    #[inline]
    fn branch(self) -> ControlFlow<Self::Residual, Poll<Option<T>>> {
        match self {
            Poll::Ready(Some(Ok(value))) => ControlFlow::Continue(Poll::Ready(Some(value))),
            Poll::Ready(Some(Err(error))) => ControlFlow::Break(Err(error)),
            Poll::Ready(None) => ControlFlow::Continue(Poll::Ready(None)),
            Poll::Pending => ControlFlow::Continue(Poll::Pending),
        }
    }
}

/// [`Branch::branch`] as a function.
#[inline]
pub fn branch<B: Branch>(value: B) -> ControlFlow<B::Residual, B::Output> {
    value.branch()
}

/// The type that a function returns, known before the body of a group is looked at: `return` values need it for their
/// coercions.
#[derive(Debug)]
pub struct Hint<T>(PhantomData<fn() -> T>);

impl<T> Hint<T> {
    #[must_use]
    /// A hint of a type that the context tells.
    #[expect(clippy::new_without_default, reason = "only expansions make one")]
    pub fn new() -> Self {
        Self(PhantomData)
    }

    /// Only its type is used.
    #[must_use]
    pub fn absurd(&self) -> T {
        unreachable!("only its type is used")
    }

    /// The value, of the type of the hint.
    #[must_use]
    pub fn through(&self, value: T) -> T {
        value
    }
}

/// The return type of a function around a group with a `bail!` or `ensure!` in it.
#[diagnostic::on_unimplemented(
    message = "a macro of this name returns an error, and the function around this group returns `{Self}`",
    label = "this works in a function that returns `Result` or `Option`"
)]
pub trait Bail {
    /// What such a macro returns: the type of the function, without a value.
    type Stayed;

    /// It has not returned.
    fn stayed() -> Self::Stayed;
}

impl<T, E> Bail for Result<T, E> {
    type Stayed = Result<(), E>;

    #[inline]
    fn stayed() -> Self::Stayed {
        Ok(())
    }
}

impl<T> Bail for Option<T> {
    type Stayed = Option<()>;

    #[inline]
    fn stayed() -> Self::Stayed {
        Some(())
    }
}

/// [`Bail::stayed`] of the type of the hint. No method: what the trait says of a type without it would not be shown.
#[inline]
pub fn stayed<T: Bail>(_: &Hint<T>) -> T::Stayed {
    T::stayed()
}

/// Calls what has a `bail!` or `ensure!` in it, whose `return` is then its own. No closure that is called where it stands: it would be linted.
#[inline]
pub fn call<S>(bailing: impl FnOnce() -> S) -> S {
    bailing()
}

/// The return type of a function around a `try_task_group!`, whose error type is the group's.
#[diagnostic::on_unimplemented(
    message = "the error type of this `try_task_group!` cannot be taken from the function around, which returns `{Self}`",
    label = "say it with `error = Type`, or `error = _` where the context tells",
    note = "in a function that returns a `Result` the group's error type is the function's"
)]
pub trait Fallible {
    /// The error of the function, and of the group.
    type Error;

    /// Never called; only its type is used.
    fn failed(error: Self::Error) -> Self;
}

impl<T, E> Fallible for Result<T, E> {
    type Error = E;

    fn failed(error: E) -> Self {
        Err(error)
    }
}

/// [`Fallible::failed`] as a function.
pub fn failed<R: Fallible>(error: R::Error) -> R {
    R::failed(error)
}
