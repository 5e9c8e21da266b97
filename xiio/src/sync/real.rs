//! What `std` has.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
pub(crate) use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
pub(crate) use std::thread::{Builder, Thread, current};
pub(crate) use std::thread_local;

use std::time::{Duration, Instant};

/// Parks this thread; `true` if the time is over.
pub(crate) fn park(limit: Duration) -> bool {
    let start = Instant::now();
    std::thread::park_timeout(limit);
    start.elapsed() >= limit
}
