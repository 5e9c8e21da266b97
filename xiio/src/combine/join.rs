//! A few futures of different types, all of their outputs.

use std::future::IntoFuture;
use std::panic::Location;

use super::in_place::Unspawned;
use crate::{task_group, try_task_group};

/// Runs futures of different types side by side and gives their outputs as a tuple, in the order given.
///
/// It is awaited inside, and takes up to twelve. Each branch is cancelled on its own: while one cleans up, no other
/// goes on. See [`gather`](crate::gather) for any number of futures of one type.
///
/// # Panics
/// With the first panic of a branch; the others are cancelled before.
///
/// # Cancellation
/// All are cancelled, side by side; whoever cancels waits for their cleanup.
///
/// # Examples
/// ```
/// let (number, word) = xiio::run(async { xiio::join!(async { 1 }, async { "one" }) });
/// assert_eq!((number, word), (1, "one"));
/// ```
#[macro_export]
macro_rules! join {
    ($($future:expr),+ $(,)?) => {
        $crate::__private::Join::join(($($future,)+), ::std::panic::Location::caller()).await
    };
}

/// [`join!`](crate::join!) for futures that may fail: the first error cancels the rest.
///
/// It is awaited inside, and takes up to twelve futures of one error type; the outputs are those of `Ok`.
///
/// # Errors
/// The first error, once the others have cleaned up.
///
/// # Panics
/// As [`join!`](crate::join!).
///
/// # Cancellation
/// As [`join!`](crate::join!).
///
/// # Examples
/// ```
/// async fn sum() -> Result<i64, std::num::ParseIntError> {
///     let (a, b) = xiio::try_join!(async { "1".parse::<i32>() }, async { "2".parse::<i64>() })?;
///     Ok(i64::from(a) + b)
/// }
/// assert_eq!(xiio::run(sum()), Ok(3));
/// ```
#[macro_export]
macro_rules! try_join {
    ($($future:expr),+ $(,)?) => {
        $crate::__private::TryJoin::try_join(($($future,)+), ::std::panic::Location::caller()).await
    };
}

/// What [`join!`](crate::join!) awaits.
#[diagnostic::on_unimplemented(
    message = "`join!` takes up to twelve futures",
    label = "these are more",
    note = "`gather` takes any number of one type, and one of the futures may be an `async` block with a `join!` of its own"
)]
pub trait Join {
    /// A tuple of the outputs.
    type Output;

    /// Runs all to their end.
    fn join(self, location: &'static Location<'static>) -> impl Future<Output = Self::Output>;
}

/// What [`try_join!`](crate::try_join!) awaits.
#[diagnostic::on_unimplemented(
    message = "`try_join!` takes up to twelve futures",
    label = "these are more",
    note = "`try_gather` takes any number of one type, and one of the futures may be an `async` block with a `try_join!` of its own"
)]
pub trait TryJoin<E> {
    /// A tuple of the values.
    type Output;

    /// Runs all to their end, or to the first error.
    fn try_join(self, location: &'static Location<'static>) -> impl Future<Output = Result<Self::Output, E>>;
}

macro_rules! impl_join {
    ($($Future:ident $Value:ident $name:ident),+) => {
        impl<$($Future: IntoFuture),+> Join for ($($Future,)+) {
            type Output = ($($Future::Output,)+);

            fn join(self, location: &'static Location<'static>) -> impl Future<Output = Self::Output> {
                let ($($name,)+) = self;
                $(let mut $name = Unspawned::new($name);)+
                async move {
                    task_group!(|tg| {
                        tg.stand_for("join!");
                        $(let mut $name = tg.spawn_at($name.take().into_future(), location);)+
                        $($name.ended().await;)+
                        ($($name.into_output(),)+)
                    })
                }
            }
        }

        impl<Error, $($Value, $Future: IntoFuture<Output = Result<$Value, Error>>),+> TryJoin<Error> for ($($Future,)+) {
            type Output = ($($Value,)+);

            fn try_join(
                self,
                location: &'static Location<'static>,
            ) -> impl Future<Output = Result<Self::Output, Error>> {
                let ($($name,)+) = self;
                $(let mut $name = Unspawned::new($name);)+
                async move {
                    try_task_group!(|tg| {
                        tg.stand_for("try_join!");
                        $(let mut $name = tg.spawn_at($name.take().into_future(), location);)+
                        $($name.ended().await;)+
                        ($($name.into_output(),)+)
                    })
                }
            }
        }
    };
}

impl_join!(A1 V1 a1);
impl_join!(A1 V1 a1, A2 V2 a2);
impl_join!(A1 V1 a1, A2 V2 a2, A3 V3 a3);
impl_join!(A1 V1 a1, A2 V2 a2, A3 V3 a3, A4 V4 a4);
impl_join!(A1 V1 a1, A2 V2 a2, A3 V3 a3, A4 V4 a4, A5 V5 a5);
impl_join!(A1 V1 a1, A2 V2 a2, A3 V3 a3, A4 V4 a4, A5 V5 a5, A6 V6 a6);
impl_join!(A1 V1 a1, A2 V2 a2, A3 V3 a3, A4 V4 a4, A5 V5 a5, A6 V6 a6, A7 V7 a7);
impl_join!(A1 V1 a1, A2 V2 a2, A3 V3 a3, A4 V4 a4, A5 V5 a5, A6 V6 a6, A7 V7 a7, A8 V8 a8);
impl_join!(A1 V1 a1, A2 V2 a2, A3 V3 a3, A4 V4 a4, A5 V5 a5, A6 V6 a6, A7 V7 a7, A8 V8 a8, A9 V9 a9);
impl_join!(A1 V1 a1, A2 V2 a2, A3 V3 a3, A4 V4 a4, A5 V5 a5, A6 V6 a6, A7 V7 a7, A8 V8 a8, A9 V9 a9, A10 V10 a10);
impl_join!(A1 V1 a1, A2 V2 a2, A3 V3 a3, A4 V4 a4, A5 V5 a5, A6 V6 a6, A7 V7 a7, A8 V8 a8, A9 V9 a9, A10 V10 a10, A11 V11 a11);
impl_join!(A1 V1 a1, A2 V2 a2, A3 V3 a3, A4 V4 a4, A5 V5 a5, A6 V6 a6, A7 V7 a7, A8 V8 a8, A9 V9 a9, A10 V10 a10, A11 V11 a11, A12 V12 a12);
