//! One function over many items, on several threads.

use std::collections::BTreeMap;
use std::mem;
use std::panic::Location;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::report::drop_safely;
use crate::runtime::ends_late_turn;
use crate::sync::{Mutex, PoisonError};
use crate::{task_group, try_task_group, yield_now};

/// A worker takes this part of what would be its share of the items that are left: many small ones for each call at first, and one
/// at a time at the end, so that uneven ones even out.
const PART_OF_SHARE: usize = 16;

/// Items that are handed out to whoever asks.
struct Chunks<'a, I> {
    items: &'a [I],
    n_taken: AtomicUsize,
    n_parts: usize,
}

impl<'a, I> Chunks<'a, I> {
    fn new(items: &'a [I], workers: usize) -> Self {
        Self { items, n_taken: AtomicUsize::new(0), n_parts: workers.max(1).saturating_mul(PART_OF_SHARE) }
    }

    /// The next ones, and the place of the first.
    fn next(&self) -> Option<(usize, &'a [I])> {
        let n_items = self.items.len();
        let end_of = |first| first + usize::div_ceil(n_items - first, self.n_parts);
        let take = |first| (first < n_items).then(|| end_of(first));
        // Ordering: nothing is handed over but the number.
        let first = self.n_taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        Some((first, &self.items[first..end_of(first)]))
    }
}

/// What the items have given, put together in their order.
struct Outputs<T> {
    parts: Mutex<Parts<T>>,
}

struct Parts<T> {
    joined: Given<T>,
    /// Those that come after one which is not there yet, by the place of the first.
    early: BTreeMap<usize, Given<T>>,
}

impl<T> Outputs<T> {
    fn new(n_items: usize) -> Self {
        let parts = Parts { joined: Given(Vec::with_capacity(n_items)), early: BTreeMap::new() };
        Self { parts: Mutex::new(parts) }
    }

    /// Puts in what a chunk has given. The workers do: home is woken once, at the end of all.
    fn put(&self, first: usize, outputs: Given<T>) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let Parts { joined: Given(joined), early } = &mut *parts;
        early.insert(first, outputs);
        while let Some(mut next) = early.remove(&joined.len()) {
            joined.append(&mut next.0);
        }
    }

    fn take(&self) -> Vec<T> {
        mem::take(&mut self.parts.lock().unwrap_or_else(PoisonError::into_inner).joined.0)
    }
}

/// What some items have given. A destructor of theirs that panics takes the place of no error.
struct Given<T>(Vec<T>);

impl<T> Drop for Given<T> {
    fn drop(&mut self) {
        drop_safely(mem::take(&mut self.0));
    }
}

/// Others may be waiting for this worker to leave, or for this thread: limits of time among them.
async fn give_way() {
    ends_late_turn();
    yield_now().await;
}

/// Calls `function` for each item, on a number of workers, and gives the outputs in the order of the
/// items.
///
/// An idle worker takes the next few items, and handles one after the other. With no workers, and in a
/// [`test`](macro@crate::test) with virtual time or seeds, all run on this thread. Use it for functions that compute; for those
/// that mostly wait, use [`gather`](crate::gather()).
///
/// # Panics
/// With the first panic of `function`; the others are cancelled before.
///
/// # Cancellation
/// All are cancelled; whoever cancels waits for their cleanup.
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
    let workers = workers.min(items.len());
    let (function, chunks, outputs) = (&function, &Chunks::new(items, workers), &Outputs::new(items.len()));
    task_group!(workers = workers, |tg| {
        for _ in 0..workers.max(1).min(items.len()) {
            let map = async move || {
                while let Some((first, chunk)) = chunks.next() {
                    let mut given = Given(Vec::with_capacity(chunk.len()));
                    for item in chunk {
                        given.0.push(function(item).await);
                    }
                    outputs.put(first, given);
                    give_way().await;
                }
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
    let workers = workers.min(items.len());
    let (function, chunks, outputs) = (&function, &Chunks::new(items, workers), &Outputs::new(items.len()));
    try_task_group!(workers = workers, |tg| {
        for _ in 0..workers.max(1).min(items.len()) {
            let map = async move || {
                while let Some((first, chunk)) = chunks.next() {
                    let mut given = Given(Vec::with_capacity(chunk.len()));
                    for item in chunk {
                        given.0.push(function(item).await?);
                    }
                    outputs.put(first, given);
                    give_way().await;
                }
                Ok(())
            };
            tg.workers().spawn_at(map, location);
        }
    })?;
    Ok(outputs.take())
}
