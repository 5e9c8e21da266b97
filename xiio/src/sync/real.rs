//! What `std` has.

/// A lock for a static, which those of a model cannot be.
#[cfg(not(tsan))]
pub(crate) use std::sync::Mutex as StaticMutex;
pub(crate) use std::sync::OnceLock;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicU32, Ordering};
#[cfg(not(tsan))]
pub(crate) use std::sync::{Mutex, MutexGuard};
pub(crate) use std::thread::{Builder, Thread, current};
pub(crate) use std::thread_local;

use std::time::{Duration, Instant};

#[cfg(tsan)]
pub(crate) use super::watched::{Mutex, Mutex as StaticMutex, MutexGuard};

/// Parks this thread; `true` if the time is over.
pub(crate) fn park(limit: Duration) -> bool {
    let start = Instant::now();
    std::thread::park_timeout(limit);
    start.elapsed() >= limit
}
