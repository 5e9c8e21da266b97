//! What is wanted from elsewhere: drawings, an end of what was left on the thread of a runtime, and timers that are moved or dropped where their runtime is not
//! the current one: on another thread, or between the turns of a foreign loop.
//!
//! A timer's key does not say which runtime it is of. So all are told, and the one that knows the key moves its timer.

use std::ops::DerefMut;
use std::sync::{Arc, atomic};
use std::task::Waker;
use std::time::Instant;

use crate::drawing::Drawing;
use crate::sync::{AtomicBool, Mutex, Ordering, StaticMutex, lock, lock_static};
use crate::sys;
use crate::sys::fork::{self, Process};
use crate::timer::TimerKey;

/// Of every runtime there is.
static ALL: StaticMutex<Vec<Arc<Requests>>> = StaticMutex::new(Vec::new());

fn all() -> impl DerefMut<Target = Vec<Arc<Requests>>> {
    lock_static(&ALL)
}

/// What others want of a runtime.
#[derive(Default)]
pub(super) struct Wanted {
    /// Timers, and when they are to fire, if at all.
    pub(super) moves: Vec<(TimerKey, Option<Instant>)>,
    pub(super) drawings: Vec<OnDrawnElsewhere>,
    #[cfg(feature = "futures-core")]
    pub(super) calls: Vec<Call>,
}

/// Is called on the thread of the runtime. It must not panic.
#[cfg(feature = "futures-core")]
type Call = Box<dyn FnOnce() + Send>;

/// Gets the drawing of the tree, on the thread of the tree.
type OnDrawnElsewhere = Box<dyn FnOnce(Drawing) + Send>;

/// What others want of one runtime.
pub(crate) struct Requests {
    is_any: AtomicBool,
    /// The root is being polled for a drawing.
    is_drawing: AtomicBool,
    /// Time is virtual there: only the runtime knows what is due.
    is_virtual: AtomicBool,
    wanted: Mutex<Wanted>,
    /// Ends the wait of the runtime's reactor.
    notifier: Waker,
    /// The process of the runtime.
    process: Process,
}

impl Requests {
    /// Those of a new runtime, which has to [leave](Self::leave).
    pub(super) fn join(notifier: Waker) -> Arc<Self> {
        let requests = Arc::new(Self {
            is_any: AtomicBool::new(false),
            is_drawing: AtomicBool::new(false),
            is_virtual: AtomicBool::new(false),
            wanted: Mutex::default(),
            notifier,
            process: Process::this(),
        });
        static IS_HELD: atomic::AtomicBool = atomic::AtomicBool::new(false);
        fork::hold(&IS_HELD, || Box::new(all()));
        let mut all = all();
        all.retain(|other| other.process == requests.process);
        all.push(Arc::clone(&requests));
        drop(all);
        requests
    }

    pub(super) fn set_virtual(&self) {
        self.is_virtual.store(true, Ordering::Relaxed);
    }

    pub(super) fn leave(self: &Arc<Self>) {
        all().retain(|other| !Arc::ptr_eq(other, self));
    }

    /// The loop draws the tree, or does so no more.
    pub(super) fn set_drawing(&self, is_drawing: bool) {
        self.is_drawing.store(is_drawing, Ordering::Release);
    }

    /// Whether the loop has come to drawing the tree.
    pub(crate) fn is_drawing(&self) -> bool {
        self.is_drawing.load(Ordering::Acquire)
    }

    /// Whether something was wanted since the last call of `take`.
    #[inline]
    pub(crate) fn is_any(&self) -> bool {
        self.is_any.load(Ordering::Acquire)
    }

    /// What was wanted since the last call.
    #[inline]
    pub(super) fn take(&self) -> Option<Wanted> {
        if self.is_any() { Some(self.take_some()) } else { None }
    }

    #[cold]
    fn take_some(&self) -> Wanted {
        self.is_any.store(false, Ordering::Relaxed);
        std::mem::take(&mut *lock(&self.wanted))
    }

    /// Has the tree drawn at the end of this turn, if the runtime comes to it.
    pub(crate) fn draw(&self, on_drawn: OnDrawnElsewhere) {
        self.want(|wanted| wanted.drawings.push(on_drawn));
    }

    /// Has something called in this turn, if the runtime comes to it.
    #[cfg(feature = "futures-core")]
    pub(crate) fn call(&self, call: Call) {
        self.want(|wanted| wanted.calls.push(call));
    }

    /// In a process that was forked off that of the runtime, nobody takes it. Another thread may have had the lock then.
    fn want(&self, add: impl FnOnce(&mut Wanted)) {
        if !self.process.is_this() {
            return;
        }
        add(&mut lock(&self.wanted));
        self.is_any.store(true, Ordering::Release);
        self.notifier.wake_by_ref();
    }
}

/// Has a timer that is due at `from`, or never, fire at another time, or never. It is none of the runtime `here`, the current one.
#[cold]
pub(super) fn move_timer(key: TimerKey, from: Option<Instant>, to: Option<Instant>, here: Option<&Arc<Requests>>) {
    // Where it is due it has fired, or does so now, and who waits for it is woken.
    let is_due = from.is_some_and(|from| from <= sys::now());
    let is_meant = |requests: &&Arc<Requests>| {
        let is_elsewhere = here.is_none_or(|here| !Arc::ptr_eq(requests, here));
        is_elsewhere && (!is_due || requests.is_virtual.load(Ordering::Relaxed))
    };
    let all = all();
    let meant: Vec<_> = all.iter().filter(is_meant).cloned().collect();
    drop(all);
    meant.iter().for_each(|requests| requests.want(|wanted| wanted.moves.push((key, to))));
}
