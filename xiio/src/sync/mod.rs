//! What crosses threads is made of these: of what `std` has, and in a model of what `loom` has.
//!
//! A model (see `docs/testing.md`) runs a few threads in every order that the memory model allows. They take turns on
//! one thread of the system, so the thread-locals that tell them apart come from here, too. No other build knows of
//! `loom`.

use std::sync::PoisonError;

#[cfg(not(all(test, loom)))]
mod real;
#[cfg(not(all(test, loom)))]
pub(crate) use real::*;

#[cfg(tsan)]
mod watched;

#[cfg(all(test, loom))]
mod modelled;
#[cfg(all(test, loom))]
pub(crate) use modelled::*;

/// A lock that a panic elsewhere does not take away: every critical section of the crate leaves whole data behind.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// [`lock`] for a static.
#[cfg(not(all(test, loom)))]
pub(crate) use lock as lock_static;

/// [`lock`] for a static, which is never one of `loom`'s.
#[cfg(all(test, loom))]
pub(crate) fn lock_static<T>(mutex: &StaticMutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
