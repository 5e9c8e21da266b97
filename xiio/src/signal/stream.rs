//! `Stream` for a subscription, which may go to another thread between two polls.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_core::Stream;

use super::{Signals, poll_take};
use crate::reactor::Wait;
use crate::report::drop_safely;
use crate::runtime::{Requests, Runtime};

thread_local! {
    /// Who waits on this thread without a future.
    static WAITING: RefCell<BTreeMap<u64, Wait>> = const { RefCell::new(BTreeMap::new()) };
}

/// A place in line that stays on the thread where it was taken.
///
/// Used or dropped on another one, it has the runtime there give it up. One that was taken in a run which has ended stays until its
/// thread ends, and holds up nobody.
pub(super) struct Place {
    /// Never used again, so that nobody comes to a place that is being given up.
    number: u64,
    /// Those of the runtime in which it was taken.
    home: Option<Arc<Requests>>,
}

impl Place {
    pub(super) fn new() -> Self {
        Self { number: new_number(), home: None }
    }

    fn take(&mut self) -> Option<Wait> {
        let (taken, home) = (take(self.number), self.home.take());
        if taken.is_none()
            && let Some(home) = home
        {
            let left = mem::replace(&mut self.number, new_number());
            home.call(Box::new(move || drop_safely(take(left))));
        }
        taken
    }

    fn put(&mut self, wait: Wait) {
        WAITING.with(|waiting| waiting.borrow_mut().insert(self.number, wait));
        self.home = Runtime::requests();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.take());
    }
}

fn new_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What waits on this thread under a number.
fn take(number: u64) -> Option<Wait> {
    WAITING.try_with(|waiting| waiting.borrow_mut().remove(&number)).ok().flatten()
}

/// The signals, see [`Signals::recv`]. They never end.
impl Stream for Signals {
    type Item = io::Result<i32>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut place = self.place.take();
        let signal = poll_take(&self.subscription, &mut place, cx);
        if let Some(wait) = place {
            self.place.put(wait);
        }
        signal.map(Some)
    }
}
