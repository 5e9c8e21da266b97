//! A value that is set once, from any thread, and awaited by any number of tasks.

#[cfg(all(test, loom))]
mod models;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::task::{Context, Poll, Waker};

use crate::report::{Held, wake_all};
use crate::runtime::poll_leaf;
use crate::slab::Slab;
use crate::sync::{Mutex, MutexGuard, OnceLock, lock};
use crate::unwind::{self, Reached, inspecting};

/// A value that will be there some time. Clones are the same promise.
///
/// It may be set and awaited on any thread, inside of a runtime or not. For "a value or an error" let `T` be a `Result`;
/// [`Promise::set_ok`] and [`Promise::set_err`] then save a pair of parentheses.
///
/// A promise that nobody sets is awaited for ever.
///
/// # Examples
/// ```
/// use xiio::Promise;
///
/// let promise = Promise::new();
/// let setter = promise.clone();
/// let thread = std::thread::spawn(move || setter.set_ok(7).unwrap());
/// let value: Result<i32, String> = xiio::run(promise.wait());
/// assert_eq!(value, Ok(7));
/// thread.join().unwrap();
/// ```
///
/// # Source
/// `xiio.Future` in the Python original.
#[doc(alias("oneshot", "OnceCell"))]
pub struct Promise<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    value: OnceLock<T>,
    /// Wakers are user code: they are cloned, woken and dropped only while this is not locked.
    waiters: Mutex<Slab<Option<Waker>>>,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Slab<Option<Waker>>> {
        lock(&self.waiters)
    }
}

impl<T> Promise<T> {
    /// A promise that is not set.
    #[must_use]
    pub fn new() -> Self {
        let shared = Shared { value: OnceLock::new(), waiters: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// Sets the value and wakes whoever waits for it.
    ///
    /// # Errors
    /// Gives `value` back when the promise was set before.
    ///
    /// # Examples
    /// ```
    /// use xiio::Promise;
    ///
    /// let promise = Promise::new();
    /// assert_eq!(promise.set("first"), Ok(()));
    /// assert_eq!(promise.set("second"), Err("second"));
    /// assert_eq!(promise.get(), Some(&"first"));
    /// ```
    pub fn set(&self, value: T) -> Result<(), T> {
        self.shared.value.set(value)?;
        let woken: Vec<Waker> = self.shared.lock().iter_mut().filter_map(Option::take).collect();
        wake_all(woken);
        Ok(())
    }

    /// The value, if it is there.
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        self.shared.value.get()
    }

    /// Whether the value is there.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.get().is_some()
    }

    /// Waits until the value is there and gives a clone of it.
    ///
    /// # Cancellation
    /// Nothing is left behind; the value stays for the others.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xiio::{Promise, timeout};
    ///
    /// let promise = Promise::new();
    /// xiio::run(async {
    ///     assert!(timeout(Duration::from_millis(1), promise.wait()).await.is_err());
    ///     promise.set(7).unwrap();
    ///     assert_eq!((promise.wait().await, promise.wait().await), (7, 7));
    /// });
    /// ```
    pub fn wait(&self) -> WaitPromise<T>
    where
        T: Clone,
    {
        WaitPromise { set: self.wait_set(), reached: Reached::default() }
    }

    /// Waits until the value is there.
    pub(crate) fn wait_set(&self) -> WaitSet<T> {
        WaitSet { promise: self.clone(), key: None }
    }
}

impl<T, E> Promise<Result<T, E>> {
    /// Sets the promise to `Ok(value)`.
    ///
    /// # Errors
    /// Gives `value` back when the promise was set before.
    pub fn set_ok(&self, value: T) -> Result<(), T> {
        self.set(Ok(value)).map_err(|result| result.unwrap_or_else(|_| unreachable!("it is what was given")))
    }

    /// Sets the promise to `Err(error)`.
    ///
    /// # Errors
    /// Gives `error` back when the promise was set before.
    ///
    /// # Examples
    /// ```
    /// use xiio::Promise;
    ///
    /// let answer: Promise<Result<i32, &str>> = Promise::new();
    /// answer.set_err("nobody knows").unwrap();
    /// assert_eq!(answer.get(), Some(&Err("nobody knows")));
    /// ```
    pub fn set_err(&self, error: E) -> Result<(), E> {
        self.set(Err(error)).map_err(|result| match result {
            Ok(_) => unreachable!("it is what was given"),
            Err(error) => error,
        })
    }
}

impl<T> Clone for Promise<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Default for Promise<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for Promise<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Promise").field(&self.get()).finish()
    }
}

/// Waits for a promise to be set. Any kind of future may poll it.
pub(crate) struct WaitSet<T> {
    promise: Promise<T>,
    key: Option<usize>,
}

impl<T> WaitSet<T> {
    /// Where the tree is being drawn: notes that others than those who wait have the promise, if that is so. The tree waits with so
    /// many handles.
    #[inline]
    pub(crate) fn hope_for_others(&self, n_handles: usize) {
        inspecting(|drawing| {
            let shared = &self.promise.shared;
            // Locked while it is counted: whoever begins or ceases to wait elsewhere has a handle for longer than a place here.
            let waiters = shared.lock();
            let is_with_others = Arc::strong_count(shared) > waiters.len() + n_handles;
            drop(waiters);
            // Ordering: from those who have dropped theirs. What they have woken before is seen where there is no hope.
            fence(Ordering::Acquire);
            // What was cancelled does not go on by it.
            if is_with_others && !unwind::is_unwinding() {
                drawing.hope();
            }
        });
    }

    /// Whether the promise is set; if not, wakes the task when it is.
    pub(crate) fn poll_set(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.promise.is_set() {
            return Poll::Ready(());
        }
        let waker = Some(cx.waker().clone());
        let mut waiters = self.promise.shared.lock();
        let before = match self.key {
            Some(key) => std::mem::replace(&mut waiters[key], waker),
            None => {
                self.key = Some(waiters.insert(waker));
                None
            }
        };
        drop(waiters);
        drop(before);
        // It may have been set between the look and the registration.
        if self.promise.is_set() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<T> Drop for WaitSet<T> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let waker = self.promise.shared.lock().remove(key);
            drop(waker.map(Held::new));
        }
    }
}

/// The future of [`Promise::wait`].
#[must_use = "nothing is waited for unless this is awaited"]
pub struct WaitPromise<T> {
    set: WaitSet<T>,
    reached: Reached,
}

impl<T: Clone> Future for WaitPromise<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.poll_as("a promise", cx)
    }
}

impl<T: Clone> WaitPromise<T> {
    /// Polls it as a leaf that the tree shows by these words.
    pub(crate) fn poll_as(&mut self, what: &'static str, cx: &mut Context<'_>) -> Poll<T> {
        self.reached.note("promise");
        let polled = poll_leaf(cx, || what, |cx| self.set.poll_set(cx));
        if polled.is_pending() {
            self.set.hope_for_others(1);
        }
        polled.map(|()| match self.set.promise.get() {
            Some(value) => value.clone(),
            None => unreachable!("a promise that is set stays set"),
        })
    }
}

impl<T> fmt::Debug for WaitPromise<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitPromise").field("is_set", &self.set.promise.is_set()).finish()
    }
}
