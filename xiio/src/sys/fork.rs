//! Locks that no other thread has while this process forks.
//!
//! The child has none of the other threads. A lock that one of them had would be locked there for ever, and the first run would hang.
//! So whoever forks takes the locks of the whole process before, and both processes let go of them. None of them is held for long, and nobody
//! forks who has one. What the program itself has given to `pthread_atfork` before its first run is called meanwhile, and must not run a tree.
//!
//! `std` has such a lock as well, for a moment where a thread begins, and nobody can hold that one.

use std::any::Any;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::signal;

/// A lock, held until this is dropped.
pub(crate) type Held = Box<dyn Any>;
type Hold = Box<dyn Fn() -> Held + Send>;

static HOLDS: Mutex<Vec<Hold>> = Mutex::new(Vec::new());

thread_local! {
    /// What this thread holds as it forks.
    static HELD: Cell<Vec<Held>> = const { Cell::new(Vec::new()) };
}

/// Has `hold` called by each thread that forks, if `is_held` does not say that it is so. Nobody who has its lock may wait for another such
/// lock.
///
/// What does not work: a `Once`, of which another thread may be in the middle as well.
pub(crate) fn hold(is_held: &AtomicBool, hold: impl Fn() -> Held + Send + 'static) {
    if !is_held.load(Ordering::Acquire) {
        set_up();
        let mut holds = HOLDS.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_held.swap(true, Ordering::AcqRel) {
            holds.push(Box::new(hold));
        }
    }
}

/// Takes a lock that each thread that forks takes as well.
pub(crate) fn lock<T: Send>(mutex: &'static Mutex<T>, is_held: &AtomicBool) -> MutexGuard<'static, T> {
    let lock = || mutex.lock().unwrap_or_else(PoisonError::into_inner);
    hold(is_held, move || Box::new(lock()));
    lock()
}

fn set_up() {
    static IS_SET_UP: AtomicBool = AtomicBool::new(false);
    if !IS_SET_UP.swap(true, Ordering::AcqRel) {
        // SAFETY: takes functions that may be called at any time. They do what may be done in a process of several threads before it
        // forks, and in its child they only write a number and let go of what they hold. Without memory for them a fork goes on as it would without.
        unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(in_child)) };
    }
}

extern "C" fn before_fork() {
    let holds = HOLDS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut held: Vec<Held> = holds.iter().map(|hold| hold()).collect();
    held.push(Box::new(holds));
    // In the last destructors of a thread they are let go of before.
    let _ = HELD.try_with(|slot| slot.set(held));
}

extern "C" fn after_fork() {
    let _ = HELD.try_with(|slot| drop(slot.take()));
}

extern "C" fn in_child() {
    signal::forget_walkers();
    after_fork();
}
