//! Locks that no other thread has while this process forks.
//!
//! The child has none of the other threads. A lock that one of them had would be locked there for ever, and the first run would hang.
//! So whoever forks takes the locks of the whole process before, and both processes let go of them. None of them is held for long, and nobody
//! forks who has one. What the program itself has given to `pthread_atfork` before its first run is called meanwhile, and must not run a tree.
//!
//! `std` has such a lock as well, for a moment where a thread begins, and nobody can hold that one.

use std::any::Any;
use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::signal;

/// How many forks lie between the first process of this program and this one.
static N_FORKS: AtomicU32 = AtomicU32::new(0);

/// A process, as told from those that it was forked off: who finds one of these in its memory has inherited it.
///
/// What does not work: the number of the process. To ask for it is a system call, and the first process of a namespace may be forked off
/// that of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process(u32);

impl Process {
    /// This one.
    #[inline]
    pub(crate) fn this() -> Self {
        set_up();
        Self(N_FORKS.load(Ordering::Relaxed))
    }

    pub(crate) fn is_this(self) -> bool {
        self == Self::this()
    }

    /// The process that so many forks have led to.
    pub(crate) fn after(n_forks: u32) -> Self {
        Self(n_forks)
    }

    pub(super) fn n_forks(self) -> u32 {
        self.0
    }
}

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
    if !IS_SET_UP.load(Ordering::Acquire) && !IS_SET_UP.swap(true, Ordering::AcqRel) {
        // SAFETY: takes functions that may be called at any time. They do what may be done in a process of several threads before it
        // forks, and in its child they only write numbers and let go of what they hold, without the allocator. Without memory for them a fork
        // goes on as it would without.
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
    N_FORKS.fetch_add(1, Ordering::Relaxed);
    signal::forget_walkers();
    let _ = HELD.try_with(|slot| ManuallyDrop::new(slot.take()).drain(..).for_each(let_go_in_child));
}

/// Lets go of a lock, and leaves its memory: another thread of the parent may have had the lock of the allocator.
fn let_go_in_child(held: Held) {
    let held = Box::into_raw(held);
    // SAFETY: it was a box until now, and is not used any more.
    unsafe { held.drop_in_place() };
}
