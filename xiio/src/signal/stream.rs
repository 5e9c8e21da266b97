//! `Stream` for a subscription, which may go to another thread between two polls.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_core::Stream;

use super::{Signals, poll_take};
use crate::reactor::Wait;

thread_local! {
    /// Who waits on this thread without a future.
    static WAITING: RefCell<BTreeMap<u64, Wait>> = const { RefCell::new(BTreeMap::new()) };
}

/// A place in line that stays on the thread where it was taken.
///
/// What is dropped on another thread leaves its place behind: a registration that the kernel has ended with the descriptor.
pub(super) struct Place {
    /// Never used again, so that nobody comes to a place that was left behind.
    number: u64,
}

impl Place {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { number: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    fn take(&self) -> Option<Wait> {
        WAITING.try_with(|waiting| waiting.borrow_mut().remove(&self.number)).ok().flatten()
    }

    fn put(&self, wait: Wait) {
        WAITING.with(|waiting| waiting.borrow_mut().insert(self.number, wait));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// The signals, see [`Signals::recv`]. They never end.
impl Stream for Signals {
    type Item = io::Result<i32>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut place = self.place.take();
        let signal = poll_take(&self.subscription, &mut place, cx);
        if let Some(wait) = place {
            self.place.put(wait);
        }
        signal.map(Some)
    }
}
