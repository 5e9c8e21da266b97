//! A lock whose hand-over ThreadSanitizer sees. That of `std` is not compiled for it, and hands over in a function that is
//! not inlined when two threads want it at once.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LockResult, PoisonError};

#[derive(Default)]
pub(crate) struct Mutex<T> {
    data: std::sync::Mutex<T>,
    was_locked: AtomicBool,
}

impl<T> Mutex<T> {
    pub(crate) const fn new(data: T) -> Self {
        Self { data: std::sync::Mutex::new(data), was_locked: AtomicBool::new(false) }
    }

    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        let data = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        self.was_locked.load(Ordering::Acquire);
        Ok(MutexGuard { data, was_locked: &self.was_locked })
    }
}

pub(crate) struct MutexGuard<'a, T> {
    data: std::sync::MutexGuard<'a, T>,
    was_locked: &'a AtomicBool,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.data
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.data
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.was_locked.store(true, Ordering::Release);
    }
}
