//! The futures that tasks are made of in more than one row.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};

/// Wakes itself and is pending once.
pub async fn yield_once() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Is pending once without waking anybody: for [`poll_in_a_row`].
pub async fn pending_once() {
    let mut was_polled = false;
    poll_fn(|_| match std::mem::replace(&mut was_polled, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

/// Polls `future` so many times in a row, or until it is ready, without giving way to anybody.
pub async fn poll_in_a_row<F: Future>(mut future: Pin<&mut F>, n_polls: usize) {
    poll_fn(|cx| {
        let _ = (0..n_polls).any(|_| future.as_mut().poll(cx).is_ready());
        Poll::Ready(())
    })
    .await;
}

/// Polls `future` until `ready`, which has to be woken by itself, is ready, and drops it then.
pub async fn while_waiting_for<F: Future, T>(future: F, ready: impl Future<Output = T>) -> T {
    let (mut future, mut ready) = (pin!(future), pin!(ready));
    let mut is_over = false;
    poll_fn(|cx| {
        is_over = is_over || future.as_mut().poll(cx).is_ready();
        ready.as_mut().poll(cx)
    })
    .await
}

static STARTED: AtomicU64 = AtomicU64::new(0);

/// A future that counts among the [started](all_started) from its first poll on. By hand, because an async function
/// would hold its argument twice.
pub struct Counted<F> {
    future: F,
    has_started: bool,
}

pub fn counted<F>(future: F) -> Counted<F> {
    Counted { future, has_started: false }
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: nothing is moved out of the structure.
        let this = unsafe { self.get_unchecked_mut() };
        if !std::mem::replace(&mut this.has_started, true) {
            STARTED.fetch_add(1, Relaxed);
        }
        // SAFETY: `future` is pinned because the structure is, and has no other way out.
        unsafe { Pin::new_unchecked(&mut this.future) }.poll(cx)
    }
}

/// Waits, busily, until `n` [counted] futures have been polled.
pub async fn all_started(n: u64) {
    while STARTED.load(Relaxed) < n {
        yield_once().await;
    }
}

/// A future that never ends, for somebody else to wake and to count its polls.
#[derive(Clone, Default)]
pub struct Leaf(Rc<LeafState>);

#[derive(Default)]
struct LeafState {
    waker: RefCell<Option<Waker>>,
    n_polls: Cell<u64>,
}

impl Leaf {
    pub fn n_polls(&self) -> u64 {
        self.0.n_polls.get()
    }

    pub fn wake(&self) {
        if let Some(waker) = &*self.0.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

impl Future for Leaf {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.n_polls.set(self.0.n_polls.get() + 1);
        let mut waker = self.0.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}
