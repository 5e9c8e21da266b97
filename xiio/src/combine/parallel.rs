//! One function over many items, on several threads.

use std::collections::BTreeMap;
use std::mem;
use std::panic::Location;

use crate::report::Held;
use crate::sync::{Mutex, PoisonError};
use crate::{task_group, try_task_group};

/// Chunks for each worker: enough that uneven items even out, few enough that small ones are worth it.
const CHUNKS_PER_WORKER: usize = 32;

/// How many items a worker takes at once.
fn chunk_size(n_items: usize, workers: usize) -> usize {
    n_items.div_ceil(workers.max(1) * CHUNKS_PER_WORKER).max(1)
}

/// What the items have given, put together in their order.
struct Outputs<T> {
    parts: Mutex<Parts<T>>,
}

struct Parts<T> {
    joined: Vec<T>,
    n_joined: usize,
    /// Those that come after one which is not there yet.
    early: BTreeMap<usize, Vec<T>>,
}

impl<T> Outputs<T> {
    fn new(n_items: usize) -> Self {
        let parts = Parts { joined: Vec::with_capacity(n_items), n_joined: 0, early: BTreeMap::new() };
        Self { parts: Mutex::new(parts) }
    }

    /// Puts in what the chunk of this number has given. The workers do: home is woken once, at the end of all.
    fn put(&self, number: usize, outputs: Vec<T>) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let Parts { joined, n_joined, early } = &mut *parts;
        early.insert(number, outputs);
        while let Some(mut next) = early.remove(n_joined) {
            joined.append(&mut next);
            *n_joined += 1;
        }
    }

    fn take(&self) -> Vec<T> {
        mem::take(&mut self.parts.lock().unwrap_or_else(PoisonError::into_inner).joined)
    }
}

impl<T> Drop for Parts<T> {
    fn drop(&mut self) {
        drop(Held::new((mem::take(&mut self.joined), mem::take(&mut self.early))));
    }
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
    let (function, outputs) = (&function, &Outputs::new(items.len()));
    task_group!(workers = workers, |tg| {
        for (number, chunk) in items.chunks(chunk_size(items.len(), workers)).enumerate() {
            let map = async move || {
                let mut given = Vec::with_capacity(chunk.len());
                for item in chunk {
                    given.push(function(item).await);
                }
                outputs.put(number, given);
            };
            tg.workers().spawn_at(None, map, Some, location);
        }
    });
    outputs.take()
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
    let (function, outputs) = (&function, &Outputs::new(items.len()));
    try_task_group!(workers = workers, |tg| {
        for (number, chunk) in items.chunks(chunk_size(items.len(), workers)).enumerate() {
            let map = async move || {
                let mut given = Vec::with_capacity(chunk.len());
                for item in chunk {
                    given.push(function(item).await?);
                }
                outputs.put(number, given);
                Ok(())
            };
            tg.workers().spawn_at(map, location);
        }
    })?;
    Ok(outputs.take())
}
