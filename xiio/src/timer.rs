//! Deadlines: a hierarchical timing wheel with ticks of one millisecond.
//!
//! It knows no tasks and no clock: it keeps wakers, and is handed `now`. It wakes nobody and drops
//! no waker either: both may run code of the user, so they are handed back to the caller, who does
//! it outside of any borrow.
//!
//! # The wheel
//!
//! A deadline is a number of ticks since the origin, read as digits to the base 64, one wheel
//! (*level*) of 64 slots for each digit. A timer sits on the level of the **highest digit in which
//! it differs from the current tick**, in the slot of that digit:
//!
//! ```text
//!   current tick   …   0   3  17  60
//!   timer A        …   0   3  17  62    differs on level 0 first  → level 0, slot 62
//!   timer B        …   0   3  20   5    differs on level 1 first  → level 1, slot 20
//!   timer C        …   0   9   0   0    differs on level 2 first  → level 2, slot  9
//!
//!             0        17      20                            60  62
//!   level 2   ┌─┬─┬─┬─┬─┬─┬─┬─┬─┬─┬─ ⋯                                   slots of 64² ticks
//!             └─┴─┴─┴▲┴─┴─┴─┴─┴─┴C┴─ ⋯
//!   level 1   ┌─┬─┬─ ⋯ ─┬─┬─┬─┬─┬─ ⋯                                     slots of 64 ticks
//!             └─┴─┴─ ⋯ ─┴▲┴─┴─┴B┴─ ⋯
//!   level 0   ┌─┬─┬─ ⋯                                   ⋯ ─┬─┬─┬─┬─┐    slots of 1 tick
//!             └─┴─┴─ ⋯                                   ⋯ ─┴▲┴─┴A┴─┘    ▲ the current tick's own digit
//! ```
//!
//! What follows from it:
//!
//! 1. Every taken slot of a level lies right of its `▲` (level 0: at or right of it), and
//!    everything on a lower level is due before everything on a higher one. So the next slot to
//!    look at is the leftmost taken one of the lowest level that has any: two `trailing_zeros` on
//!    bitmaps, however far away it is. No tick is ever walked through.
//! 2. Time reaching a slot of a higher level *cascades* it: its timers now agree in that digit and
//!    move to lower levels, each at most once per level. A timeout that does not come true is taken
//!    out long before.
//! 3. The place depends on the deadline and the current tick alone, so timers of one tick always
//!    sit in one slot. Slots are queues, so such timers fire in the order of their insertion.
//!
//! Slots are rings of `u32` indices into one vector of entries; the head's `prev` is the tail.
//!
//! # Exactness
//!
//! A deadline is rounded up to a tick, and `now` down. So a timer never fires early, and at most
//! one tick late if [`Timers::advance`] is called when [`Timers::next_deadline`] says.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::slab::Slab;

/// Binary digits of a tick that one level takes.
const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: usize = 8;
/// The last tick, 8 700 years after the origin. What is due later is due then, and nobody waits for it.
///
/// It begins the last slot of the highest level, so that what is due before sits in other slots.
const LAST_TICK: u64 = (SLOTS as u64 - 1) << (BITS * (LEVELS as u32 - 1));
/// What is so far from the origin is never due.
pub(crate) const NEVER: Duration = Duration::from_millis(LAST_TICK);
/// The head of an empty slot.
const NONE: u32 = u32::MAX;
/// So many timers of a slot are looked at for the exact next deadline; a fuller slot is worth a
/// look when its time has come.
const LOOKS: usize = 16;
/// An idle wheel gives the memory of its entries back above this many.
const KEPT_ENTRIES: usize = 1024;

pub(crate) struct Timers {
    origin: Instant,
    /// All ticks before this one are over, and so is this one, except for what was inserted since
    /// with a deadline in the past.
    current: u64,
    /// For each level, a bit for each slot that has timers.
    ///
    /// Invariant: a bit is set exactly if the slot's head is not [`NONE`].
    taken: [u64; LEVELS],
    heads: [u32; LEVELS * SLOTS],
    entries: Slab<Entry>,
    /// That of the last insertion. Before the first one there is none behind it.
    last_stamp: NonZeroU32,
}

/// Names a timer until it has fired or was removed; afterwards it names none.
///
/// The stamp is one of a process-wide count of insertions, so the key of a timer of another wheel, on this thread or
/// another, names none here. A wheel takes 4096 stamps from it with its first timer, and again when they are used up. So the count starts
/// anew after 2²⁰ wheels with timers at the earliest; only a key kept exactly that long could name another timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TimerKey {
    index: u32,
    stamp: NonZeroU32,
}

struct Entry {
    waker: Waker,
    tick: u64,
    prev: u32,
    next: u32,
    stamp: NonZeroU32,
    /// Where it sits: `level * SLOTS + slot`.
    place: u16,
}

const _: () = assert!(size_of::<Entry>() <= 40 && size_of::<Option<TimerKey>>() == 8);

impl Timers {
    /// An empty wheel whose ticks count from `origin`.
    pub(crate) fn new(origin: Instant) -> Self {
        Timers {
            origin,
            current: 0,
            taken: [0; LEVELS],
            heads: [NONE; LEVELS * SLOTS],
            entries: Slab::new(),
            last_stamp: NonZeroU32::MAX,
        }
    }

    #[inline]
    fn take_stamp(&mut self) -> NonZeroU32 {
        self.last_stamp = self
            .last_stamp
            .checked_add(1)
            .filter(|next| !next.get().is_multiple_of(STAMPS_IN_A_BLOCK))
            .unwrap_or_else(first_stamp_of_a_block);
        self.last_stamp
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it is so far away that it is never due.
    pub(crate) fn is_never(&self, deadline: Instant) -> bool {
        self.tick_at_or_after(deadline) == LAST_TICK
    }

    /// Whether more than `n` are due at some time.
    pub(crate) fn has_more_than(&self, n: usize) -> bool {
        self.entries.iter().filter(|(_, entry)| entry.tick < LAST_TICK).nth(n).is_some()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keeps `waker` until `deadline`; one in the past is due at the next
    /// [`advance`](Self::advance).
    #[inline(always)]
    pub(crate) fn insert(&mut self, deadline: Instant, waker: Waker) -> TimerKey {
        let stamp = self.take_stamp();
        let tick = self.tick_at_or_after(deadline).max(self.current);
        let index = self.entries.insert(Entry { waker, tick, prev: NONE, next: NONE, stamp, place: 0 });
        let index = u32::try_from(index).ok().filter(|&index| index != NONE).expect("fewer than 2^32 - 1 timers");
        self.link(index, tick);
        TimerKey { index, stamp }
    }

    /// Takes the timer out and hands its waker back; `None` when it has fired, or is not of this
    /// wheel.
    #[inline]
    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<Waker> {
        self.waker(key)?;
        let Entry { prev, next, place, waker, .. } = self.entries.remove(key.index as usize);
        self.unlink(key.index, prev, next, place);
        Some(waker)
    }

    /// Has a timer fire at another time, with the waker that it has; `false` when it has fired, or is not of this wheel.
    #[cold]
    pub(crate) fn move_to(&mut self, key: TimerKey, deadline: Instant) -> bool {
        if self.waker(key).is_none() {
            return false;
        }
        let tick = self.tick_at_or_after(deadline).max(self.current);
        let entry = &mut self.entries[key.index as usize];
        entry.tick = tick;
        let (prev, next, place) = (entry.prev, entry.next, entry.place);
        self.unlink(key.index, prev, next, place);
        self.link(key.index, tick);
        true
    }

    /// The waker of a timer; `None` when it has fired, or is not of this wheel.
    #[inline]
    pub(crate) fn waker(&self, key: TimerKey) -> Option<&Waker> {
        let entry = self.entries.get(key.index as usize)?;
        (entry.stamp == key.stamp).then_some(&entry.waker)
    }

    /// Puts `waker` in the place of the timer's waker and hands that one back; `Err` gives `waker`
    /// itself back when the timer has fired, or is not of this wheel.
    ///
    /// Takes a waker, not a reference, because cloning one is code of the user: compare with
    /// [`waker`](Self::waker) first, then clone without holding a borrow.
    pub(crate) fn replace_waker(&mut self, key: TimerKey, waker: Waker) -> Result<Waker, Waker> {
        match self.entries.get_mut(key.index as usize) {
            Some(entry) if entry.stamp == key.stamp => Ok(std::mem::replace(&mut entry.waker, waker)),
            _ => Err(waker),
        }
    }

    /// When [`advance`](Self::advance) has to be called next at the latest; `None` when there is no
    /// timer, or none before the last tick: one that is due later would be inserted again at once, for
    /// ever, where the clock jumps to it.
    ///
    /// This is when the next timer fires, or, if that one shares a slot with many others, the
    /// beginning of the slot.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let (place, begin) = self.next_slot().filter(|&(_, begin)| begin < LAST_TICK)?;
        let head = self.heads[place];
        let (mut index, mut earliest) = (head, u64::MAX);
        for _ in 0..LOOKS {
            let entry = &self.entries[index as usize];
            earliest = earliest.min(entry.tick);
            index = entry.next;
            if index == head || place < SLOTS {
                return Some(self.origin + Duration::from_millis(earliest));
            }
        }
        Some(self.origin + Duration::from_millis(begin))
    }

    /// Moves the wakers of all timers that are due at `now` to the end of `fired`, in the order of
    /// their ticks, and of insertion within a tick.
    pub(crate) fn advance(&mut self, now: Instant, fired: &mut Vec<Waker>) {
        let target = self.tick_at_or_before(now).max(self.current);
        while let Some((place, begin)) = self.next_slot().filter(|&(_, begin)| begin <= target) {
            self.current = begin;
            if place < SLOTS {
                self.fire(place, fired);
            } else {
                self.cascade(place);
            }
        }
        self.current = target;
        if self.is_empty() && self.entries.capacity() > KEPT_ENTRIES {
            self.entries = Slab::new();
        }
    }

    /// Takes all timers out and hands their wakers over, in no particular order.
    pub(crate) fn clear(&mut self) -> Vec<Waker> {
        self.taken = [0; LEVELS];
        self.heads = [NONE; LEVELS * SLOTS];
        std::mem::take(&mut self.entries).into_values().map(|entry| entry.waker).collect()
    }

    /// The first taken slot, and the tick at which it begins.
    fn next_slot(&self) -> Option<(usize, u64)> {
        let level = self.taken.iter().position(|&slots| slots != 0)?;
        let slot = self.taken[level].trailing_zeros() as usize;
        let shift = level as u32 * BITS;
        let above = self.current >> shift >> BITS << BITS;
        Some((level * SLOTS + slot, (above | slot as u64) << shift))
    }

    fn fire(&mut self, place: usize, fired: &mut Vec<Waker>) {
        self.empty_slot(place, |timers, index| {
            fired.push(timers.entries.remove(index as usize).waker);
        });
    }

    /// Moves the timers of a slot that begins at the current tick to lower levels.
    fn cascade(&mut self, place: usize) {
        self.empty_slot(place, |timers, index| {
            timers.link(index, timers.entries[index as usize].tick);
        });
    }

    /// Unlinks all timers of a slot and hands each to `take`, first in, first out.
    fn empty_slot(&mut self, place: usize, mut take: impl FnMut(&mut Self, u32)) {
        let head = std::mem::replace(&mut self.heads[place], NONE);
        self.taken[place / SLOTS] &= !(1 << (place % SLOTS));
        let last = self.entries[head as usize].prev;
        let mut index = head;
        loop {
            let next = self.entries[index as usize].next;
            take(self, index);
            if index == last {
                return;
            }
            index = next;
        }
    }

    /// Puts an unlinked entry, due at `tick`, at the end of its slot.
    // Nearly every call is an insertion, and part of a timer's price.
    #[inline(always)]
    fn link(&mut self, index: u32, tick: u64) {
        let (level, slot) = place_of(tick, self.current);
        let place = level * SLOTS + slot;
        let head = self.heads[place];
        let (prev, next) = if head == NONE {
            self.heads[place] = index;
            self.taken[level] |= 1 << slot;
            (index, index)
        } else {
            let tail = std::mem::replace(&mut self.entries[head as usize].prev, index);
            self.entries[tail as usize].next = index;
            (tail, head)
        };
        let entry = &mut self.entries[index as usize];
        (entry.prev, entry.next, entry.place) = (prev, next, place as u16);
    }

    /// Closes the ring around the entry at `index`, which has these neighbours in this place.
    #[inline]
    fn unlink(&mut self, index: u32, prev: u32, next: u32, place: u16) {
        let place = usize::from(place);
        if next == index {
            self.heads[place] = NONE;
            self.taken[place / SLOTS] &= !(1 << (place % SLOTS));
            return;
        }
        self.entries[prev as usize].next = next;
        self.entries[next as usize].prev = prev;
        if self.heads[place] == index {
            self.heads[place] = next;
        }
    }

    #[inline]
    fn tick_at_or_after(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.origin);
        ticks(since.as_secs(), since.subsec_nanos().div_ceil(1_000_000))
    }

    #[inline]
    fn tick_at_or_before(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.origin);
        ticks(since.as_secs(), since.subsec_millis())
    }
}

/// So many stamps are taken from the count of the process at once.
const STAMPS_IN_A_BLOCK: u32 = 1 << 12;

#[cold]
fn first_stamp_of_a_block() -> NonZeroU32 {
    static NEXT_BLOCK: AtomicU32 = AtomicU32::new(0);
    let block = NEXT_BLOCK.fetch_add(1, Ordering::Relaxed);
    NonZeroU32::new(block.wrapping_mul(STAMPS_IN_A_BLOCK)).unwrap_or(NonZeroU32::MIN)
}

#[inline]
fn ticks(seconds: u64, milliseconds: u32) -> u64 {
    seconds.saturating_mul(1000).saturating_add(milliseconds.into()).min(LAST_TICK)
}

/// The level and the slot of `tick` when time is at `current`.
#[inline]
fn place_of(tick: u64, current: u64) -> (usize, usize) {
    let highest_difference = u64::BITS - 1 - ((tick ^ current) | 1).leading_zeros();
    let level = highest_difference / BITS;
    (level as usize, (tick >> (level * BITS)) as usize % SLOTS)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};
    use std::task::Wake;

    use super::*;

    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Timers whose wakers, woken, write their number into a list.
    struct Bench {
        timers: Timers,
        origin: Instant,
        woken: Arc<Mutex<Vec<u64>>>,
    }

    struct Number(u64, Arc<Mutex<Vec<u64>>>);

    impl Wake for Number {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    impl Bench {
        fn new() -> Self {
            let origin = Instant::now();
            Bench { timers: Timers::new(origin), origin, woken: Arc::default() }
        }

        fn waker(&self, number: u64) -> Waker {
            Arc::new(Number(number, self.woken.clone())).into()
        }

        fn insert(&mut self, number: u64, after: Duration) -> TimerKey {
            let waker = self.waker(number);
            self.timers.insert(self.origin + after, waker)
        }

        /// Advances and returns the numbers of what fired.
        fn advance(&mut self, to: Duration) -> Vec<u64> {
            let mut fired = Vec::new();
            self.timers.advance(self.origin + to, &mut fired);
            fired.into_iter().for_each(Waker::wake);
            std::mem::take(&mut self.woken.lock().unwrap())
        }

        fn next(&self) -> Option<Duration> {
            self.timers.next_deadline().map(|at| at - self.origin)
        }
    }

    #[test]
    fn a_wheel_without_timers_takes_no_stamps() {
        const N_WHEELS: u32 = 1 << 16;
        let first_stamp = || Bench::new().insert(0, ms(1)).stamp.get();
        let before = first_stamp();
        (0..N_WHEELS).for_each(|_| drop(Timers::new(Instant::now())));
        // Wheels of other tests take some meanwhile.
        assert!(first_stamp().wrapping_sub(before) / STAMPS_IN_A_BLOCK < N_WHEELS);
    }

    #[test]
    fn fires_in_order_of_deadline_then_of_insertion() {
        let mut bench = Bench::new();
        for (number, after) in [(0, 5000), (1, 70), (2, 3), (3, 70), (4, 0), (5, 5000), (6, 3)] {
            bench.insert(number, ms(after));
        }
        assert_eq!(bench.timers.len(), 7);
        assert_eq!(bench.advance(ms(4999)), [4, 2, 6, 1, 3]);
        assert_eq!(bench.advance(ms(5000)), [0, 5]);
        assert!(bench.timers.is_empty());
    }

    #[test]
    fn older_timers_of_a_tick_fire_first_though_they_cascaded() {
        let mut bench = Bench::new();
        bench.insert(0, ms(10_000));
        assert!(bench.advance(ms(9_990)).is_empty());
        bench.insert(1, ms(10_000));
        assert_eq!(bench.advance(ms(10_000)), [0, 1]);
    }

    #[test]
    fn never_fires_early_and_at_most_a_tick_late() {
        let mut bench = Bench::new();
        let deadline = Duration::from_micros(1_300);
        bench.insert(0, deadline);
        assert_eq!(bench.next(), Some(ms(2)));
        assert!(bench.advance(deadline).is_empty());
        assert!(bench.advance(Duration::from_nanos(1_999_999)).is_empty());
        assert_eq!(bench.advance(ms(2)), [0]);
    }

    #[test]
    fn a_deadline_in_the_past_fires_at_the_next_advance() {
        let mut bench = Bench::new();
        assert!(bench.advance(ms(1000)).is_empty());
        bench.insert(0, ms(10));
        bench.insert(1, ms(1000));
        assert!(bench.next() <= Some(ms(1000)));
        assert_eq!(bench.advance(ms(1000)), [0, 1]);
    }

    #[test]
    fn time_that_goes_back_changes_nothing() {
        let mut bench = Bench::new();
        assert!(bench.advance(ms(1000)).is_empty());
        bench.insert(0, ms(1001));
        assert!(bench.advance(ms(10)).is_empty());
        assert_eq!(bench.advance(ms(1001)), [0]);
    }

    #[test]
    fn next_deadline_of_a_lone_timer_is_exact_on_every_level() {
        for after in [0, 1, 63, 64, 65, 4095, 4096, 100_000, 1 << 30, 1 << 40, LAST_TICK - 1] {
            let mut bench = Bench::new();
            bench.advance(ms(7));
            bench.insert(0, ms(after));
            assert_eq!(bench.next(), Some(ms(after.max(7))));
            assert_eq!(bench.advance(ms(after.max(7))), [0]);
            assert_eq!(bench.next(), None);
        }
    }

    #[test]
    fn next_deadline_of_a_full_slot_is_not_late() {
        let mut bench = Bench::new();
        for number in 0..100 {
            bench.insert(number, ms(6399 - number));
        }
        assert!(bench.next() <= Some(ms(6300)));
        assert_eq!(bench.advance(ms(6300)), [99]);
    }

    #[test]
    fn far_deadlines_are_kept_and_years_are_jumped_over() {
        let mut bench = Bench::new();
        bench.insert(0, 100 * YEAR);
        bench.insert(1, 20_000 * YEAR);
        bench.insert(2, Duration::from_secs(i64::MAX as u64 / 2));
        assert!(bench.advance(99 * YEAR).is_empty());
        assert_eq!(bench.advance(100 * YEAR), [0]);
        assert!(bench.advance(8_000 * YEAR).is_empty());
        assert_eq!(bench.advance(30_000 * YEAR), [1, 2]);
        bench.insert(3, 40_000 * YEAR);
        assert_eq!(bench.advance(40_000 * YEAR), [3]);
    }

    #[test]
    fn what_is_due_at_the_last_tick_is_no_next_deadline_however_much_it_is() {
        let mut bench = Bench::new();
        for number in 0..100 {
            bench.insert(number, ms(LAST_TICK + number));
        }
        assert_eq!(bench.next(), None);
        bench.insert(100, ms(LAST_TICK - 1));
        assert_eq!(bench.next(), Some(ms(LAST_TICK - 1)));
        assert_eq!(bench.advance(ms(LAST_TICK - 1)), [100]);
        assert_eq!(bench.next(), None);
    }

    #[test]
    fn a_key_names_its_timer_only_while_it_is_there() {
        let mut bench = Bench::new();
        let fired = bench.insert(0, ms(1));
        let removed = bench.insert(1, ms(2));
        assert!(bench.timers.remove(removed).is_some());
        assert_eq!(bench.advance(ms(3)), [0]);
        let later = bench.insert(2, ms(4));
        for stale in [fired, removed] {
            assert!(bench.timers.remove(stale).is_none());
            assert!(bench.timers.waker(stale).is_none());
            assert!(bench.timers.replace_waker(stale, Waker::noop().clone()).is_err());
        }
        let mut successor = Timers::new(bench.origin);
        successor.insert(bench.origin, Waker::noop().clone());
        assert!(successor.remove(later).is_none());
        assert!(bench.timers.remove(later).is_some());
    }

    #[test]
    fn a_replaced_waker_comes_back_and_is_not_woken() {
        let mut bench = Bench::new();
        let key = bench.insert(0, ms(1));
        let new = bench.waker(1);
        assert!(!bench.timers.waker(key).unwrap().will_wake(&new));
        assert!(bench.timers.replace_waker(key, new.clone()).is_ok());
        assert!(bench.timers.waker(key).unwrap().will_wake(&new));
        assert_eq!(bench.advance(ms(1)), [1]);
    }

    #[test]
    fn a_moved_timer_fires_at_its_new_time_with_the_waker_it_has() {
        let mut bench = Bench::new();
        let (earlier, later, fired) = (bench.insert(0, ms(500)), bench.insert(1, ms(10)), bench.insert(2, ms(1)));
        bench.insert(3, ms(10));
        assert_eq!(bench.advance(ms(1)), [2]);
        assert!(bench.timers.move_to(earlier, bench.origin + ms(5)));
        assert!(bench.timers.move_to(later, bench.origin + ms(70)));
        assert!(!bench.timers.move_to(fired, bench.origin + ms(5)), "it names no timer any more");
        assert_eq!(bench.advance(ms(9)), [0]);
        assert_eq!(bench.advance(ms(69)), [3]);
        assert_eq!(bench.advance(ms(70)), [1]);
        assert!(bench.timers.is_empty());
    }

    #[test]
    fn clear_hands_all_wakers_over() {
        let mut bench = Bench::new();
        let keys = [1, 100, 10_000].map(|after| bench.insert(after, ms(after)));
        assert_eq!(bench.timers.clear().len(), 3);
        assert!(bench.timers.is_empty());
        assert_eq!(bench.next(), None);
        assert!(bench.timers.remove(keys[0]).is_none());
        assert!(bench.advance(ms(20_000)).is_empty());
    }

    #[test]
    fn no_two_wheels_share_a_stamp() {
        let mut wheels = [Timers::new(Instant::now()), Timers::new(Instant::now())];
        let mut stamps = std::collections::HashSet::new();
        for _ in 0..2 * STAMPS_IN_A_BLOCK {
            for wheel in &mut wheels {
                let key = wheel.insert(Instant::now(), Waker::noop().clone());
                assert!(stamps.insert(key.stamp));
                wheel.remove(key);
            }
        }
    }

    /// Random operations, each compared with an ordered map of (tick, number).
    #[test]
    fn does_what_an_ordered_map_does() {
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..60 {
            let mut bench = Bench::new();
            let mut model = BTreeMap::new();
            let mut now = Duration::ZERO;
            for number in 0..2000 {
                match random(11) {
                    10 if !model.is_empty() => {
                        let nth = random(model.len() as u64) as usize;
                        let place: (u128, u64) = *model.keys().nth(nth).unwrap();
                        let timer = model.remove(&place).unwrap();
                        let deadline = now + Duration::from_micros(random(1 << 30));
                        assert!(bench.timers.move_to(timer, bench.origin + deadline));
                        // Behind those of its new tick, which an order by number shows only for a tick of its own.
                        let tick = deadline.as_micros().div_ceil(1000).max(now.as_millis());
                        let is_alone = model.range((tick, 0)..=(tick, u64::MAX)).next().is_none();
                        if is_alone {
                            model.insert((tick, place.1), timer);
                        } else {
                            bench.timers.remove(timer);
                        }
                    }
                    0..=4 => {
                        let reach = 1 << random(45);
                        let micros = Duration::from_micros(random(reach));
                        let deadline = (now + micros).saturating_sub(ms(random(4)));
                        let key = bench.insert(number, deadline);
                        let tick = (deadline.as_micros().div_ceil(1000)).max(now.as_millis());
                        model.insert((tick, number), key);
                    }
                    5..=7 if !model.is_empty() => {
                        let nth = random(model.len() as u64) as usize;
                        let key = *model.keys().nth(nth).unwrap();
                        let timer = model.remove(&key).unwrap();
                        assert!(bench.timers.remove(timer).is_some());
                        assert!(bench.timers.remove(timer).is_none());
                    }
                    _ => {
                        let first = model.keys().next().map(|&(tick, _)| tick);
                        assert_eq!(bench.next().is_some(), first.is_some());
                        if let (Some(next), Some(first)) = (bench.next(), first) {
                            assert!(next.as_millis() <= first);
                        }
                        now = match bench.next() {
                            Some(next) if random(2) == 0 => next.max(now),
                            _ => {
                                let reach = 1 << random(36);
                                now + Duration::from_micros(random(reach))
                            }
                        };
                        let later = model.split_off(&(now.as_millis() + 1, 0));
                        let due = std::mem::replace(&mut model, later);
                        let expected: Vec<_> = due.keys().map(|&(_, number)| number).collect();
                        assert_eq!(bench.advance(now), expected);
                    }
                }
                assert_eq!(bench.timers.len(), model.len());
            }
        }
    }
}
