//! Which recorders a thread notes to: the newest gets the events, and those before it get them again when it has ended.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Lane, Nanos, Recorder, Ring, spans};
use crate::drawing::Node;
use crate::sys;

thread_local! {
    static IS_ON: Cell<bool> = const { Cell::new(false) };
    // `ManuallyDrop`: it is asked also where the thread ends. It is empty when nobody records.
    static CURRENT: ManuallyDrop<RefCell<Option<Tap>>> = const { ManuallyDrop::new(RefCell::new(None)) };
    /// Those that get the events again when the newer ones have ended, the oldest first.
    static EARLIER: ManuallyDrop<RefCell<Vec<Tap>>> = const { ManuallyDrop::new(RefCell::new(Vec::new())) };
    static N_TAPS: Cell<u64> = const { Cell::new(0) };
}

/// Where a thread notes what happens.
pub(super) struct Tap {
    recorder: Arc<Recorder>,
    lane: usize,
    /// Tells it from the others of its thread; several of these may belong to one recorder.
    number: u64,
}

impl Tap {
    fn new(recorder: Arc<Recorder>, lane: usize) -> Self {
        Self { recorder, lane, number: 0 }
    }

    fn end(&self) {
        let now = sys::now();
        self.with_ring(|ring| ring.end_lane(now));
    }

    pub(super) fn note(&self, note: impl FnOnce(&mut Ring, Nanos)) {
        let now = sys::now();
        self.with_ring(|ring| {
            let at = ring.time_of(now);
            note(ring, at);
        });
    }

    fn is_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.recorder, &other.recorder) && self.lane == other.lane
    }

    pub(super) fn with_ring<R>(&self, look: impl FnOnce(&mut Ring) -> R) -> R {
        self.recorder.with_ring(|ring| {
            ring.lane = self.lane;
            look(ring)
        })
    }
}

/// Whether this thread is recorded, or spans follow its tasks.
#[inline]
pub(crate) fn is_on() -> bool {
    IS_ON.get()
}

/// The recorder of this thread.
pub(crate) fn current() -> Option<Arc<Recorder>> {
    CURRENT.with(|current| current.borrow().as_ref().map(|tap| Arc::clone(&tap.recorder)))
}

/// Records this thread until the result is dropped. The newest recorder that is left gets the events.
#[must_use = "the recording ends when this is dropped"]
pub(crate) fn begin(recorder: Arc<Recorder>) -> On {
    recorder.with_ring(|ring| ring.ended_at = None);
    begin_with(Tap::new(recorder, 0))
}

fn begin_with(tap: Tap) -> On {
    IS_ON.set(true);
    let number = N_TAPS.get();
    N_TAPS.set(number + 1);
    let before = CURRENT.with(|current| current.replace(Some(Tap { number, ..tap })));
    EARLIER.with(|earlier| earlier.borrow_mut().extend(before));
    On { number, _not_send: PhantomData }
}

/// Takes a tap of this thread away, and says whether another one notes to the same.
fn take_tap(number: u64) -> Option<(Tap, bool)> {
    CURRENT.with(|current| {
        let mut current = current.borrow_mut();
        EARLIER.with(|earlier| {
            let mut earlier = earlier.borrow_mut();
            let is_newest = current.as_ref().is_some_and(|tap| tap.number == number);
            let tap = if is_newest {
                mem::replace(&mut *current, earlier.pop())
            } else {
                let place = earlier.iter().position(|tap| tap.number == number);
                place.map(|place| earlier.remove(place))
            }?;
            if earlier.is_empty() {
                // Nobody drops it with the thread.
                *earlier = Vec::new();
            }
            let is_shared = earlier.iter().chain(&*current).any(|other| other.is_as(&tap));
            Some((tap, is_shared))
        })
    })
}

/// All that this thread notes to, or will note to again, each once.
fn recorders() -> Vec<Arc<Recorder>> {
    let mut found: Vec<Arc<Recorder>> = Vec::new();
    let mut add = |tap: &Tap| {
        if !found.iter().any(|recorder| Arc::ptr_eq(recorder, &tap.recorder)) {
            found.push(Arc::clone(&tap.recorder));
        }
    };
    CURRENT.with(|current| current.borrow().iter().for_each(&mut add));
    EARLIER.with(|earlier| earlier.borrow().iter().for_each(&mut add));
    found
}

/// All have waited since `began`, and the clock of the run has gone on by `passed`.
pub(crate) fn waited(began: Instant, passed: Duration) {
    if is_on() {
        let skipped = passed.saturating_sub(sys::now().saturating_duration_since(began));
        recorders().iter().for_each(|recorder| recorder.with_ring(|ring| ring.skip(skipped)));
    }
}

/// The lane of another thread, which works for a group of this one.
pub(crate) struct OtherLane(Tap);

/// Makes a lane for another thread, if this one is recorded. `root` is what runs there, for the group that `group` is the key of.
pub(crate) fn other_lane(group: usize, root: &Node) -> Option<OtherLane> {
    let recorder = current()?;
    let mut lane = 0;
    noting(|ring, at| {
        lane = ring.lanes.iter().position(Option::is_none).unwrap_or(ring.lanes.len());
        if lane == ring.lanes.len() {
            ring.lanes.push(None);
        }
        ring.lanes[lane] = Some(Lane { turned_at: at, ..Lane::NEW });
        let parent = ring.member(group, at, false, || None).number;
        ring.add(lane, at, parent, true, Some(root));
    });
    Some(OtherLane(Tap::new(recorder, lane)))
}

impl OtherLane {
    /// Records this thread in the lane until the result is dropped.
    #[must_use = "the recording ends when this is dropped"]
    pub(crate) fn begin(self) -> On {
        begin_with(self.0)
    }

    /// There is no thread.
    pub(crate) fn end(self) {
        self.0.end();
    }
}

/// Has spans of `tracing` follow the tasks of this thread until the result is dropped, if anybody subscribes.
#[must_use = "they are followed until this is dropped"]
pub(crate) fn begin_spans() -> SpansOn {
    let spans = spans::begin();
    IS_ON.set(IS_ON.get() || spans.is_some());
    SpansOn { spans }
}

/// See [`begin_spans`].
pub(crate) struct SpansOn {
    spans: Option<spans::On>,
}

impl Drop for SpansOn {
    fn drop(&mut self) {
        self.spans = None;
        note_whether_on();
    }
}

fn note_whether_on() {
    IS_ON.set(spans::is_on() || CURRENT.with(|current| current.borrow().is_some()));
}

/// See [`begin`].
pub(crate) struct On {
    number: u64,
    _not_send: PhantomData<*const ()>,
}

impl Drop for On {
    fn drop(&mut self) {
        if let Some((tap, false)) = take_tap(self.number) {
            tap.end();
        }
        note_whether_on();
    }
}

/// Calls `note` with what this thread notes by, if it is recorded. No code of the user runs in it.
#[inline]
pub(super) fn with_tap(note: impl FnOnce(&Tap)) {
    CURRENT.with(|current| {
        if let Some(tap) = &*current.borrow() {
            note(tap);
        }
    });
}

/// Calls `note` with the ring of this thread and the time, if this thread is recorded.
#[cold]
pub(super) fn noting(note: impl FnOnce(&mut Ring, Nanos)) {
    with_tap(|tap| tap.note(note));
}

/// Calls `note` with each of those that get the events again later. Where one is there twice, or is the newest as well, it is noted to once.
pub(super) fn with_earlier(mut note: impl FnMut(&Tap)) {
    CURRENT.with(|current| {
        let current = current.borrow();
        EARLIER.with(|earlier| {
            let earlier = earlier.borrow();
            for (place, tap) in earlier.iter().enumerate() {
                if !current.iter().chain(&earlier[..place]).any(|other| other.is_as(tap)) {
                    note(tap);
                }
            }
        });
    });
}
