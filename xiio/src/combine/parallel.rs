//! One function over many items, on several threads.

use std::convert::Infallible;
use std::future::poll_fn;
use std::iter;
use std::mem;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::slice;
use std::task::{Context, Poll};

use crate::cores::{Part, Places};
use crate::runtime::ends_late_turn;
use crate::{task_group, try_task_group, yield_now};

/// A worker takes this part of what would be its share of the items that are left: many small ones for each call at first, and one
/// at a time at the end, so that uneven ones even out.
const PART_OF_SHARE: usize = 16;

/// So many items are handled in a row at most. What is done between two rows does not show then, beside items of a nanosecond.
const LONGEST_ROW: usize = 1024;

/// Items that are handed out to whoever asks, with the places for their outputs.
struct Chunks<'a, I, T> {
    items: &'a [I],
    places: Places<T>,
    n_parts: usize,
}

impl<'a, I, T> Chunks<'a, I, T> {
    fn new(items: &'a [I], workers: usize) -> Self {
        let n_parts = workers.max(1).saturating_mul(PART_OF_SHARE);
        Self { items, places: Places::new(items.len()), n_parts }
    }

    /// The next ones.
    fn next(&self) -> Option<Chunk<'a, '_, I, T>> {
        let outputs = self.places.take(|n_left| n_left.div_ceil(self.n_parts))?;
        Some(Chunk { items: self.items[outputs.range()].iter(), outputs })
    }
}

struct Chunk<'a, 'm, I, T> {
    /// Those that have not begun.
    items: slice::Iter<'a, I>,
    outputs: Part<'m, T>,
}

impl<'a, I, T> Chunk<'a, '_, I, T> {
    /// Handles so many items, as long as each is ready at once. One that is not stays in `slot`, and the next call goes on with it.
    ///
    /// A loop that holds nothing across an await: what it counts with stays in registers.
    fn go_on<P: Future, E>(
        &mut self,
        n_items: usize,
        begin: impl Fn(&'a I) -> P,
        judge: impl Fn(P::Output) -> Result<T, E>,
        mut slot: Pin<&mut Option<P>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), E>> {
        let mut polled = Poll::Ready(Ok(()));
        let (mut items, mut has_begun) = (self.items.clone(), slot.is_some());
        let next = || {
            if !mem::take(&mut has_begun) {
                slot.set(Some(begin(items.next()?)));
            }
            let Poll::Ready(output) = slot.as_mut().as_pin_mut()?.poll(cx) else {
                polled = Poll::Pending;
                return None;
            };
            slot.set(None);
            judge(output).map_err(|error| polled = Poll::Ready(Err(error))).ok()
        };
        self.outputs.fill(iter::from_fn(next).take(n_items));
        self.items = items;
        polled
    }
}

/// Handles chunks until there are no more. After an error no other worker gets a chunk either.
async fn map_chunks<'a, I, T, P: Future, E>(
    chunks: &Chunks<'a, I, T>,
    begin: impl Fn(&'a I) -> P,
    judge: impl Fn(P::Output) -> Result<T, E>,
) -> Result<(), E> {
    // Short rows at first, and after a long one: so one takes about twice as long as all before it, whatever an item takes.
    let mut row = 1;
    while let Some(mut chunk) = chunks.next() {
        let mut slot = pin!(None);
        while !chunk.outputs.is_full() {
            poll_fn(|cx| chunk.go_on(row, &begin, &judge, slot.as_mut(), cx)).await?;
            // Others may be waiting for this worker to leave, or for this thread: limits of time among them.
            row = if ends_late_turn() { 1 } else { (2 * row).min(LONGEST_ROW) };
            yield_now().await;
        }
    }
    Ok(())
}

/// Calls `function` for each item, on a number of workers, and gives the outputs in the order of the
/// items.
///
/// An idle worker takes the next few items, and handles one after the other. With no workers, in a tree inside a
/// foreign loop, and in a [`test`](macro@crate::test) with virtual time or seeds, all run on this thread. Use it for
/// functions that compute; for those that mostly wait, use [`gather`](crate::gather()).
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
    let location = Location::caller();
    async move {
        let workers = workers.min(items.len());
        let (function, chunks) = (&function, Chunks::new(items, workers));
        task_group!(workers = workers, |tg| {
            for _ in 0..workers.max(1).min(items.len()) {
                let chunks = &chunks;
                let map = async move || {
                    let Ok(()) = map_chunks(chunks, |item| function(item), Ok::<T, Infallible>).await;
                };
                tg.workers().spawn_at(None, map, Some, location);
            }
        });
        chunks.places.into_outputs()
    }
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
    let location = Location::caller();
    async move {
        let workers = workers.min(items.len());
        let (function, chunks) = (&function, Chunks::new(items, workers));
        try_task_group!(workers = workers, |tg| {
            for _ in 0..workers.max(1).min(items.len()) {
                let chunks = &chunks;
                let map = async move || map_chunks(chunks, |item| function(item), |result| result).await;
                tg.workers().spawn_at(map, location);
            }
        })?;
        Ok(chunks.places.into_outputs())
    }
}
