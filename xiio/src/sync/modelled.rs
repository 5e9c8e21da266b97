//! What `loom` has, and what it has not, made of the former.

pub(crate) use std::sync::Mutex as StaticMutex;

pub(crate) use loom::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicU32, Ordering};
pub(crate) use loom::sync::{Mutex, MutexGuard};
pub(crate) use loom::thread::Builder;

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use loom::sync::Condvar;
use loom::thread::AccessError;

use super::lock;

/// A value that is set once. Whoever sees it sees what came before; the value itself needs no model.
pub(crate) struct OnceLock<T> {
    value: std::sync::OnceLock<T>,
    is_set: AtomicBool,
    setting: Mutex<()>,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        Self { value: std::sync::OnceLock::new(), is_set: AtomicBool::new(false), setting: Mutex::default() }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.is_set.load(Ordering::Acquire).then(|| self.value.get()).flatten()
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        let _setting = self.setting.lock();
        self.value.set(value)?;
        self.is_set.store(true, Ordering::Release);
        Ok(())
    }
}

/// `thread_local!` with keys that have the methods of `std`'s.
macro_rules! modelled_thread_local {
    ($($(#[$attr:meta])* static $name:ident: $ty:ty = const $init:block;)+) => {
        $($(#[$attr])* static $name: $crate::sync::LocalKey<$ty> = {
            loom::thread_local! { static KEY: $ty = $init; }
            $crate::sync::LocalKey::new(&KEY)
        };)+
    };
}
pub(crate) use modelled_thread_local as thread_local;

pub(crate) struct LocalKey<T: 'static>(&'static loom::thread::LocalKey<T>);

impl<T> LocalKey<T> {
    pub(crate) const fn new(key: &'static loom::thread::LocalKey<T>) -> Self {
        Self(key)
    }

    pub(crate) fn with<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        self.0.with(f)
    }

    pub(crate) fn try_with<R>(&self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        self.0.try_with(f)
    }
}

impl<T: Copy + Default> LocalKey<Cell<T>> {
    /// The default too when the thread ends: `loom` takes all its keys away at once.
    pub(crate) fn get(&self) -> T {
        self.try_with(Cell::get).unwrap_or_default()
    }

    pub(crate) fn set(&self, value: T) {
        self.with(|cell| cell.set(value));
    }

    pub(crate) fn replace(&self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: Default> LocalKey<RefCell<T>> {
    pub(crate) fn take(&self) -> T {
        self.with(RefCell::take)
    }

    pub(crate) fn set(&self, value: T) {
        drop(self.with(|cell| cell.replace(value)));
    }
}

/// A thread that can be parked. `loom`'s own `unpark` hands over more than the one of `std` promises, and wakes from locks as
/// well.
#[derive(Clone)]
pub(crate) struct Thread(Arc<Parker>);

#[derive(Default)]
struct Parker {
    is_unparked: Mutex<bool>,
    unparked: Condvar,
}

loom::thread_local! {
    static CURRENT: Thread = Thread(Arc::default());
}

pub(crate) fn current() -> Thread {
    CURRENT.with(Clone::clone)
}

impl Thread {
    pub(crate) fn unpark(&self) {
        self.0.wake_by_ref();
    }

    /// A waker that unparks it.
    pub(crate) fn waker(&self) -> Waker {
        Arc::clone(&self.0).into()
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        *lock(&self.is_unparked) = true;
        self.unparked.notify_one();
    }
}

/// Parks this thread; `true` if the time is over. A model has no clock: a short time is over at once, a long one never,
/// so a wake that is lost is a deadlock.
pub(crate) fn park(limit: Duration) -> bool {
    if limit < Duration::from_secs(1) {
        loom::thread::yield_now();
        return true;
    }
    let parker = current().0;
    let mut is_unparked = lock(&parker.is_unparked);
    while !*is_unparked {
        is_unparked = parker.unparked.wait(is_unparked).unwrap_or_else(PoisonError::into_inner);
    }
    *is_unparked = false;
    false
}

/// Polls `future` on this thread, which parks between.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = current().waker();
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        park(Duration::MAX);
    }
}
