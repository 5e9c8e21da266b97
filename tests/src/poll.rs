//! Polling by hand, for tests that leave futures where no program would.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake};

/// Polls `future` once with the waker of the task that awaits this; `None` when it is pending.
pub async fn once<F: Future + ?Sized>(mut future: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Polls `future` once with `waker`, whatever task this is called in.
pub fn with<F: Future + ?Sized>(
    waker: &Arc<impl Wake + Send + Sync + 'static>,
    future: Pin<&mut F>,
) -> Poll<F::Output> {
    let waker = Arc::clone(waker).into();
    future.poll(&mut Context::from_waker(&waker))
}

/// A waker that counts its wakes.
#[derive(Debug, Default)]
pub struct CountWakes(AtomicUsize);

impl CountWakes {
    /// How often it was woken.
    #[must_use]
    pub fn n_wakes(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for CountWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A waker that runs a closure when it is woken.
pub struct OnWake<F>(pub F);

impl<F: Fn() + Send + Sync> Wake for OnWake<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

/// Leaks a value on purpose: it is listed, so that `LeakSanitizer` does not speak of it.
pub fn leak<'a, T: 'a>(value: T) -> &'a mut T {
    static LEAKED: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    let leaked = Box::leak(Box::new(value));
    LEAKED.lock().unwrap_or_else(PoisonError::into_inner).push(std::ptr::from_mut(leaked).addr());
    leaked
}

/// Runs a closure when it is dropped.
pub struct OnDrop<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
