//! Many futures, all of their outputs.

use std::future::IntoFuture;
use std::panic::Location;

use super::in_place::Unspawned;
use crate::group::Task;
use crate::{task_group, try_task_group};

/// Runs futures side by side and gives their outputs, in the order given and not of completion.
///
/// An empty input gives an empty vector.
///
/// # Panics
/// With the first panic of a future; the others are cancelled before.
///
/// # Cancellation
/// All are cancelled, side by side; whoever cancels waits for their cleanup.
///
/// # Examples
/// ```
/// let words = ["structured", "concurrency"];
/// let lengths = xiio::run(xiio::gather(words.map(|word| async move { word.len() })));
/// assert_eq!(lengths, [10, 11]);
/// ```
///
/// # Source
/// `xiio.gather` in the Python original.
#[track_caller]
#[doc(alias("join_all"))]
pub fn gather<I>(futures: I) -> impl Future<Output = Vec<<I::Item as IntoFuture>::Output>>
where
    I: IntoIterator,
    I::Item: IntoFuture,
{
    let (location, mut futures) = (Location::caller(), Unspawned::new(futures));
    async move {
        task_group!(|tg| {
            tg.stand_for("gather");
            let mut tasks: Vec<_> =
                futures.take().into_iter().map(|future| tg.spawn_at(future.into_future(), location)).collect();
            for task in &mut tasks {
                task.ended().await;
            }
            tasks.into_iter().map(Task::into_output).collect()
        })
    }
}

/// [`gather`] for futures that may fail: the first error cancels the rest.
///
/// # Errors
/// The first error, once the others have cleaned up.
///
/// # Panics
/// As [`gather`].
///
/// # Cancellation
/// As [`gather`].
///
/// # Examples
/// ```
/// let parsed = xiio::run(xiio::try_gather(["1", "2"].map(|text| async { text.parse::<i32>() })));
/// assert_eq!(parsed, Ok(vec![1, 2]));
/// let failed = xiio::run(xiio::try_gather(["1", "x"].map(|text| async { text.parse::<i32>() })));
/// assert!(failed.is_err());
/// ```
#[track_caller]
#[doc(alias("try_join_all"))]
pub fn try_gather<I, T, E>(futures: I) -> impl Future<Output = Result<Vec<T>, E>>
where
    I: IntoIterator,
    I::Item: IntoFuture<Output = Result<T, E>>,
{
    let (location, mut futures) = (Location::caller(), Unspawned::new(futures));
    async move {
        try_task_group!(|tg| {
            tg.stand_for("try_gather");
            let mut tasks: Vec<_> =
                futures.take().into_iter().map(|future| tg.spawn_at(future.into_future(), location)).collect();
            for task in &mut tasks {
                task.ended().await;
            }
            tasks.into_iter().map(Task::into_output).collect()
        })
    }
}
