//! What a future has on the thread of its tree, where the future itself may go to any thread.
//!
//! A node belongs to its thread: the scope that it joins is there. So it is kept in a table of that thread between the polls, and the
//! future has its number. Outside of a tree there is nothing to keep. A future that was polled in a tree and is taken to
//! another thread leaves its node behind, as if it had been leaked.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use super::future::{Awaited, Here};
use crate::runtime::Runtime;
use crate::unwind;

std::thread_local! {
    // `ManuallyDrop`: what leaked futures have here is leaked as well.
    static KEPT: ManuallyDrop<RefCell<BTreeMap<usize, Here>>> = const { ManuallyDrop::new(RefCell::new(BTreeMap::new())) };
}

static N_BOUND: AtomicUsize = AtomicUsize::new(0);

/// The number of what is kept, once there is something.
#[derive(Default)]
pub(crate) struct Bound(Option<usize>);

impl Bound {
    /// Polls a job with what its future has on this thread.
    pub(crate) fn poll<F, T>(&mut self, job: &mut Awaited<F, T>, cx: &mut Context<'_>) -> Poll<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // Out of the table meanwhile, as wakers are user code.
        let mut here = self.take().unwrap_or_else(|| job.here());
        let polled = job.poll(&mut here, cx);
        if polled.is_pending() && is_in_tree() {
            let number = *self.0.get_or_insert_with(|| N_BOUND.fetch_add(1, Ordering::Relaxed));
            KEPT.with(|kept| kept.borrow_mut().insert(number, here));
        }
        polled
    }

    fn take(&self) -> Option<Here> {
        let number = self.0?;
        KEPT.with(|kept| {
            let mut kept = kept.borrow_mut();
            let here = kept.remove(&number);
            if kept.is_empty() {
                // Without memory, as no destructor would free it.
                *kept = BTreeMap::new();
            }
            here
        })
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        drop(self.take());
    }
}

fn is_in_tree() -> bool {
    unwind::is_inside() || Runtime::try_with(|_| ()).is_some()
}
