//! Many futures, their outputs as they come.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::{IntoFuture, poll_fn};
use std::iter::Fuse;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use super::in_place::{Unspawned, then};
use crate::pin::Pinned;
use crate::report::{Held, Undelivered, report_errs, report_replaced, wake_all};
use crate::runtime::poll_leaf;
use crate::task::is_of_ended_task;
use crate::task_group;
use crate::time::{YieldNow, yield_now};
use crate::unwind::Reached;

/// Runs futures side by side and hands their outputs to a consumer in the order of completion.
///
/// Nothing runs before [`AsCompleted::consume`]. The futures run on while the consumer is busy with something else,
/// and what they give waits for it in order.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use xiio::{as_completed, sleep};
///
/// let order = xiio::run(async {
///     let sleepers = [20, 1, 10].map(|millis| async move {
///         sleep(Duration::from_millis(millis)).await;
///         millis
///     });
///     as_completed(sleepers).consume(async |outputs| {
///         let mut order = Vec::new();
///         while let Some(millis) = outputs.next().await {
///             order.push(millis);
///         }
///         order
///     }).await
/// });
/// assert_eq!(order, [1, 10, 20]);
/// ```
#[track_caller]
#[doc(alias("FuturesUnordered", "buffer_unordered"))]
pub fn as_completed<I>(futures: I) -> AsCompleted<I::IntoIter>
where
    I: IntoIterator,
    I::Item: IntoFuture,
{
    AsCompleted { futures: futures.into_iter(), limit: usize::MAX, location: Location::caller() }
}

/// Futures whose outputs are wanted as they come, see [`as_completed`].
#[derive(Debug)]
#[must_use = "nothing runs before `consume`"]
pub struct AsCompleted<I> {
    futures: I,
    limit: usize,
    location: &'static Location<'static>,
}

impl<I> AsCompleted<I>
where
    I: Iterator,
    I::Item: IntoFuture,
{
    /// Runs at most `limit` of the futures at once. The iterator is asked for the next one only when there is a place, so
    /// it may be endless.
    ///
    /// # Panics
    /// When it is zero.
    ///
    /// # Examples
    /// ```
    /// use xiio::as_completed;
    ///
    /// // Only as many futures are made as it takes.
    /// let endless = (0..).map(|n| async move { n * n });
    /// let first = xiio::run(as_completed(endless).limit(2).consume(async |squares| squares.next().await));
    /// assert_eq!(first, Some(0));
    /// ```
    pub fn limit(mut self, limit: usize) -> Self {
        assert!(limit > 0, "`as_completed` with `limit(0)` could never start a future");
        self.limit = limit;
        self
    }

    /// Runs the futures, and `consumer` beside them; gives the consumer's value.
    ///
    /// When the consumer ends early the other futures are cancelled, and have cleaned up when `consume` returns.
    ///
    /// # Panics
    /// With the first panic of a future or of the consumer.
    ///
    /// # Cancellation
    /// Consumer and futures are cancelled, side by side; whoever cancels waits for their cleanup. Outputs that the consumer has
    /// not taken are dropped, and those that are an `Err` reported.
    pub fn consume<R>(
        self,
        consumer: impl AsyncFnOnce(&mut Completed<'_, <I::Item as IntoFuture>::Output>) -> R,
    ) -> impl Future<Output = R> {
        let Self { futures, limit, location } = self;
        let (futures, mut consumer) = (RefCell::new(futures.fuse()), Unspawned::new(consumer));
        async move {
            let outputs = Outputs::default();
            task_group!(|tg| {
                tg.stand_for("as_completed");
                for _ in 0..limit {
                    let Some(first) = futures.borrow_mut().next() else { break };
                    let row = Row { pause: None, futures: &futures, worker: Some(Worker::new(&outputs)) };
                    tg.spawn_at(Pinned::new(first.into_future(), row), location);
                }
                let value = consumer.take()(&mut Completed { outputs: &outputs }).await;
                tg.cancel_left_at(location);
                value
            })
        }
    }
}

/// What a task does that runs futures one after the other. It has a place for one: an `async` block would have one more for the first.
struct Row<'a, I: Iterator, T> {
    /// There after the end of a future.
    pause: Option<YieldNow>,
    futures: &'a RefCell<Fuse<I>>,
    /// Counts until there are no more.
    worker: Option<Worker<'a, T>>,
}

impl<F: IntoFuture, I: Iterator<Item = F>> Future for Pinned<F::IntoFuture, Row<'_, I, F::Output>> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let (mut slot, Row { pause, futures, worker }) = self.project();
        loop {
            if let Some(future) = slot.as_mut().as_pin_mut() {
                let output = Undelivered::new(ready!(future.poll(cx)), report_replaced);
                slot.set(None);
                if let Some(worker) = worker {
                    worker.give(output.deliver());
                }
                // The next one may be ready at once, and so on: others have their turn in between.
                *pause = Some(yield_now());
            }
            if let Some(pause) = pause {
                ready!(Pin::new(pause).poll(cx));
            }
            let next = futures.borrow_mut().next();
            let Some(next) = next else {
                *worker = None;
                return Poll::Ready(());
            };
            *pause = None;
            slot.set(Some(next.into_future()));
        }
    }
}

/// The outputs of tasks, in the order of completion: [`as_completed`] for tasks that spawn more of them.
///
/// [`Outputs::give`] wraps a future so that it leaves its output here. [`Outputs::next`] gives the outputs one by one, and `None`
/// when no such future is left. Declare it before the group whose tasks use it. Outputs that nobody has taken are dropped with it, and
/// those that are an `Err` reported.
///
/// # Examples
/// A crawler: each page leads to others.
/// ```
/// use xiio::{Outputs, task_group};
///
/// async fn links(page: u32) -> (u32, Vec<u32>) {
///     (page, [2 * page, 2 * page + 1].into_iter().filter(|link| *link < 8).collect())
/// }
///
/// let pages = xiio::run(async {
///     let outputs = Outputs::new();
///     task_group!(|tg| {
///         tg.spawn(outputs.give(links(1)));
///         let mut pages = Vec::new();
///         while let Some((page, links_of_page)) = outputs.next().await {
///             pages.push(page);
///             for link in links_of_page {
///                 tg.spawn(outputs.give(links(link)));
///             }
///         }
///         pages
///     })
/// });
/// assert_eq!(pages, [1, 2, 3, 4, 5, 6, 7]);
/// ```
#[doc(alias("FuturesUnordered", "JoinSet"))]
pub struct Outputs<T> {
    queue: RefCell<VecDeque<Held<T>>>,
    n_workers: Cell<usize>,
    /// Invariant: not borrowed while a waker is cloned, woken or dropped.
    waiting: RefCell<Vec<Held<Waker>>>,
}

impl<T> Default for Outputs<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Outputs<T> {
    /// No outputs, and nobody who will give any.
    #[must_use]
    pub fn new() -> Self {
        Self { queue: RefCell::default(), n_workers: Cell::new(0), waiting: RefCell::default() }
    }

    /// `future`, which leaves its output here. It counts from this call on as one that gives an output, until it has or is dropped.
    pub fn give<F>(&self, future: F) -> impl Future<Output = ()> + use<'_, T, F>
    where
        F: IntoFuture<Output = T>,
    {
        let worker = Worker::new(self);
        then(future.into_future(), move |output| worker.give(output))
    }

    /// The next output, in the order of completion; `None` when nobody will give one.
    ///
    /// Several may wait. Each output is given once.
    ///
    /// # Cancellation
    /// An output that was not given is given next time.
    pub async fn next(&self) -> Option<T> {
        let mut reached = Reached::default();
        poll_fn(|cx| {
            reached.note("wait for an output");
            self.poll_next(cx)
        })
        .await
    }

    /// [`Outputs::next`] for hand-written futures.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        poll_leaf(
            cx,
            || "the next output of tasks",
            |cx| {
                let found = self.find();
                if found.is_ready() {
                    return found;
                }
                self.wait(cx);
                // The clone of a waker is user code, which may have given something.
                self.find()
            },
        )
    }

    fn find(&self) -> Poll<Option<T>> {
        let next = self.queue.borrow_mut().pop_front().and_then(|mut output| output.take());
        if next.is_some() || self.n_workers.get() == 0 { Poll::Ready(next) } else { Poll::Pending }
    }

    fn wait(&self, cx: &mut Context<'_>) {
        let will_wake = |waker: &Held<Waker>| waker.get().is_some_and(|waker| waker.will_wake(cx.waker()));
        if self.waiting.borrow().iter().any(will_wake) {
            return;
        }
        let waker = Held::new(cx.waker().clone());
        if self.waiting.borrow().len() == self.waiting.borrow().capacity() {
            // Where nothing is given for long, all would be kept who have waited meanwhile.
            let is_of_ended = |waker: &mut Held<Waker>| waker.get().is_none_or(is_of_ended_task);
            let ended: Vec<_> = self.waiting.borrow_mut().extract_if(.., is_of_ended).collect();
            drop(ended);
            let n_left = self.waiting.borrow().len();
            self.waiting.borrow_mut().reserve(n_left + 1);
        }
        self.waiting.borrow_mut().push(waker);
    }

    fn push(&self, output: T) {
        self.queue.borrow_mut().push_back(Held::new(output));
        self.wake();
    }

    fn wake(&self) {
        wake_all(self.waiting.take().into_iter().filter_map(|mut waker| waker.take()));
    }
}

impl<T> Drop for Outputs<T> {
    fn drop(&mut self) {
        let queue = self.queue.take();
        report_errs(queue.iter().filter_map(Held::get), "`Outputs` or `as_completed`", "take all of them with `next`");
    }
}

impl<T> fmt::Debug for Outputs<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n_ready, n_workers) = (self.queue.borrow().len(), self.n_workers.get());
        f.debug_struct("Outputs").field("n_ready", &n_ready).field("n_workers", &n_workers).finish()
    }
}

/// The outputs, see [`Outputs::next`].
#[cfg(feature = "futures-core")]
impl<T> futures_core::Stream for &Outputs<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        Outputs::poll_next(&self, cx)
    }
}

/// Counts a task that gives outputs.
struct Worker<'a, T> {
    outputs: &'a Outputs<T>,
}

impl<'a, T> Worker<'a, T> {
    fn new(outputs: &'a Outputs<T>) -> Self {
        outputs.n_workers.set(outputs.n_workers.get() + 1);
        Self { outputs }
    }

    /// A method and not a field access, which a `move` closure would capture without the worker.
    fn give(&self, output: T) {
        self.outputs.push(output);
    }
}

impl<T> Drop for Worker<'_, T> {
    fn drop(&mut self) {
        let n_left = self.outputs.n_workers.get() - 1;
        self.outputs.n_workers.set(n_left);
        if n_left == 0 {
            self.outputs.wake();
        }
    }
}

/// What the consumer of [`AsCompleted::consume`] takes outputs from.
pub struct Completed<'a, T> {
    outputs: &'a Outputs<T>,
}

impl<T> Completed<'_, T> {
    /// The next output, in the order of completion; `None` when there will be no more.
    ///
    /// # Cancellation
    /// An output that was not given is given next time.
    pub async fn next(&mut self) -> Option<T> {
        self.outputs.next().await
    }
}

/// The outputs, see [`Completed::next`].
#[cfg(feature = "futures-core")]
impl<T> futures_core::Stream for Completed<'_, T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.outputs.poll_next(cx)
    }
}

impl<T> fmt::Debug for Completed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completed").finish_non_exhaustive()
    }
}
