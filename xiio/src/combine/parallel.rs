//! One function over many items, on several threads.

use std::panic::Location;

use crate::{task_group, try_task_group};

/// Chunks for each worker: enough that uneven items even out, few enough that small ones are worth it.
const CHUNKS_PER_WORKER: usize = 32;

/// How many items a worker takes at once.
fn chunk_size(n_items: usize, workers: usize) -> usize {
    n_items.div_ceil(workers.max(1) * CHUNKS_PER_WORKER).max(1)
}

/// Calls `function` for each item, on so many workers, and gives the outputs in the order of the items.
///
/// The items are handed out in chunks; within one they come one after the other. With no workers, and in a
/// [`test`](macro@crate::test) with virtual time or seeds, all run on this thread. For what computes; what mostly waits is
/// [`gather`](crate::gather())'s.
///
/// # Panics
/// With the first panic of `function`; the others are cancelled before.
///
/// # Cancellation
/// All are cancelled; who cancels waits for their cleanup.
///
/// # Examples
/// ```
/// let words = ["structured".to_string(), "concurrency".to_string()];
/// let lengths = xiio::run(xiio::parallel_map(2, &words, async |word| word.len()));
/// assert_eq!(lengths, [10, 11]);
/// ```
#[track_caller]
pub fn parallel_map<'a, I, F, T>(workers: usize, items: &'a [I], function: F) -> impl Future<Output = Vec<T>>
where
    I: Sync,
    F: AsyncFn(&'a I) -> T + Sync,
    T: Send,
{
    parallel_map_at(workers, items, function, Location::caller())
}

async fn parallel_map_at<'a, I, F, T>(
    workers: usize,
    items: &'a [I],
    function: F,
    location: &'static Location<'static>,
) -> Vec<T>
where
    I: Sync,
    F: AsyncFn(&'a I) -> T + Sync,
    T: Send,
{
    let function = &function;
    task_group!(workers = workers, |tg| {
        let chunks = items.chunks(chunk_size(items.len(), workers)).map(|chunk| {
            let map = async move || {
                let mut outputs = Vec::with_capacity(chunk.len());
                for item in chunk {
                    outputs.push(function(item).await);
                }
                outputs
            };
            tg.workers().spawn_at(None, map, Some, location)
        });
        let chunks: Vec<_> = chunks.collect();
        let mut outputs = Vec::with_capacity(items.len());
        for chunk in chunks {
            outputs.append(&mut chunk.await);
        }
        outputs
    })
}

/// [`parallel_map`] for a function that may fail: the first error cancels the rest.
///
/// # Errors
/// The first error, once the others have cleaned up.
///
/// # Panics
/// As [`parallel_map`].
///
/// # Cancellation
/// As [`parallel_map`].
///
/// # Examples
/// ```
/// let parse = async |text: &&str| text.parse::<i32>();
/// assert_eq!(xiio::run(xiio::try_parallel_map(2, &["1", "2"], parse)), Ok(vec![1, 2]));
/// assert!(xiio::run(xiio::try_parallel_map(2, &["1", "two"], parse)).is_err());
/// ```
#[track_caller]
pub fn try_parallel_map<'a, I, F, T, E>(
    workers: usize,
    items: &'a [I],
    function: F,
) -> impl Future<Output = Result<Vec<T>, E>>
where
    I: Sync,
    F: AsyncFn(&'a I) -> Result<T, E> + Sync,
    T: Send,
    E: Send,
{
    try_parallel_map_at(workers, items, function, Location::caller())
}

async fn try_parallel_map_at<'a, I, F, T, E>(
    workers: usize,
    items: &'a [I],
    function: F,
    location: &'static Location<'static>,
) -> Result<Vec<T>, E>
where
    I: Sync,
    F: AsyncFn(&'a I) -> Result<T, E> + Sync,
    T: Send,
    E: Send,
{
    let function = &function;
    try_task_group!(workers = workers, |tg| {
        let chunks = items.chunks(chunk_size(items.len(), workers)).map(|chunk| {
            let map = async move || {
                let mut outputs = Vec::with_capacity(chunk.len());
                for item in chunk {
                    outputs.push(function(item).await?);
                }
                Ok(outputs)
            };
            tg.workers().spawn_at(map, location)
        });
        let chunks: Vec<_> = chunks.collect();
        let mut outputs = Vec::with_capacity(items.len());
        for chunk in chunks {
            outputs.append(&mut chunk.await);
        }
        outputs
    })
}
