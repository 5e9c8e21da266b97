//! Timers that are moved where their runtime is not the current one: on another thread, or between the turns of a foreign
//! loop.
//!
//! A timer's key does not say which runtime it is of. So all are told, and the one that knows the key moves its timer.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use crate::sync::{AtomicBool, Mutex, Ordering, PoisonError, StaticMutex};
use crate::timer::TimerKey;

/// Of every runtime there is.
static ALL: StaticMutex<Vec<Arc<Moves>>> = StaticMutex::new(Vec::new());

/// What others want of the timers of one runtime.
pub(super) struct Moves {
    is_any: AtomicBool,
    wanted: Mutex<Vec<(TimerKey, Instant)>>,
    /// Ends the wait of the runtime's reactor.
    notifier: Waker,
}

impl Moves {
    /// Those of a new runtime, which has to [leave](Self::leave).
    pub(super) fn join(notifier: Waker) -> Arc<Self> {
        let moves = Arc::new(Self { is_any: AtomicBool::new(false), wanted: Mutex::new(Vec::new()), notifier });
        ALL.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&moves));
        moves
    }

    pub(super) fn leave(self: &Arc<Self>) {
        ALL.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| !Arc::ptr_eq(other, self));
    }

    /// What was wanted since the last call.
    #[inline]
    pub(super) fn take(&self) -> Vec<(TimerKey, Instant)> {
        if self.is_any.load(Ordering::Acquire) { self.take_some() } else { Vec::new() }
    }

    #[cold]
    fn take_some(&self) -> Vec<(TimerKey, Instant)> {
        self.is_any.store(false, Ordering::Relaxed);
        std::mem::take(&mut *self.wanted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn want(&self, key: TimerKey, at: Instant) {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).push((key, at));
        self.is_any.store(true, Ordering::Release);
        self.notifier.wake_by_ref();
    }
}

/// Has a timer fire at another time that is none of the runtime which is current here, if any is.
#[cold]
pub(super) fn move_timer(key: TimerKey, at: Instant) {
    let all = ALL.lock().unwrap_or_else(PoisonError::into_inner).clone();
    all.iter().for_each(|moves| moves.want(key, at));
}
