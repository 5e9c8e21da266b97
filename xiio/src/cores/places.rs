//! Outputs that several threads give, each written once to where it belongs.

use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::{self, MaybeUninit};
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::slice;

use crate::report::{going_on, report_errs};
use crate::sync::{Mutex, MutexGuard, lock};

/// Places for a number of outputs. They are taken in parts, whose outputs stay here once all of a part are there.
///
/// Invariant: a place is reached through the part that it was taken with, and through this once that part was dropped full.
pub(crate) struct Places<T> {
    /// Empty. It has the memory.
    outputs: Vec<T>,
    first: NonNull<T>,
    n_places: usize,
    ledger: Mutex<Ledger>,
    /// Outputs are written through `&self`: with a shorter lifetime in `T` it would be another type of places.
    _invariant: PhantomData<Cell<T>>,
}

#[derive(Default)]
struct Ledger {
    n_taken: usize,
    full: Vec<Range<usize>>,
}

// SAFETY: what threads that share it reach are the ledger, which is locked, and parts, of which no two have a place in common. So an
// output is only ever with one thread, as if it had been sent there.
unsafe impl<T: Send> Sync for Places<T> {}

impl<T> Places<T> {
    pub(crate) fn new(n_places: usize) -> Self {
        let mut outputs = Vec::with_capacity(n_places);
        let first = NonNull::new(outputs.as_mut_ptr()).expect("the pointer of a vector is not null");
        Self { outputs, first, n_places, ledger: Mutex::default(), _invariant: PhantomData }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// The next ones, as many as `share` makes of those that are left; `None` when there are no more.
    pub(crate) fn take(&self, share: impl FnOnce(usize) -> usize) -> Option<Part<'_, T>> {
        let mut ledger = self.ledger();
        let n_left = self.n_places - ledger.n_taken;
        let n = share(n_left).min(n_left);
        let range = ledger.n_taken..ledger.n_taken + n;
        ledger.n_taken = range.end;
        (n > 0).then(|| {
            // SAFETY: it ends within the places, and begins where all that were taken before end.
            let places = unsafe { self.places(range.clone()) };
            Part { owner: self, start: range.start, places, n_given: 0 }
        })
    }

    /// # Safety
    /// The range lies within the places, and nobody else reaches any of them while the result exists.
    #[expect(clippy::mut_from_ref, reason = "the caller sees to it that there is no other reference")]
    unsafe fn places(&self, range: Range<usize>) -> &mut [MaybeUninit<T>] {
        // SAFETY: the vector has the capacity for all places.
        let first = unsafe { self.first.add(range.start) };
        // SAFETY: the memory is the vector's, which has it for as long as `self` is borrowed. A place may be without a value. By the
        // caller's contract there is no other reference.
        unsafe { slice::from_raw_parts_mut(first.cast().as_ptr(), range.len()) }
    }

    /// The outputs, in the order of the places.
    ///
    /// # Panics
    /// When a place has none.
    pub(crate) fn into_outputs(mut self) -> Vec<T> {
        let full = mem::take(&mut self.ledger().full);
        assert_eq!(full.iter().map(Range::len).sum::<usize>(), self.n_places, "an output is missing");
        let mut outputs = mem::take(&mut self.outputs);
        // SAFETY: its capacity is that or more. No part is left that borrows from `self`. No two parts had a place in common, so
        // by the sum of those that were full each place has its output.
        unsafe { outputs.set_len(self.n_places) };
        outputs
    }
}

impl<T> Drop for Places<T> {
    fn drop(&mut self) {
        let mut full = mem::take(&mut self.ledger().full);
        // In the order of the places, as the drop of a vector. Neighbours are one range, and one report.
        full.sort_unstable_by_key(|range| range.start);
        full.dedup_by(|next, before| {
            let is_next = before.end == next.start;
            before.end = if is_next { next.end } else { before.end };
            is_next
        });
        for range in full {
            // SAFETY: it is that of parts that are gone.
            let places = unsafe { self.places(range) };
            // SAFETY: the parts were full. Nobody comes to the places any more.
            unsafe { discard(places) };
        }
    }
}

/// Drops outputs, each by itself. Destructors that panic take the place of no other panic, and of no error.
///
/// # Safety
/// Each place has one, which is not used any more.
unsafe fn discard<T>(places: &mut [MaybeUninit<T>]) {
    let outputs = ptr::from_mut(places) as *mut [T];
    // SAFETY: by the caller's contract. The two slices have the same layout.
    report_errs(unsafe { &*outputs }, "a `parallel_map`", "`try_parallel_map` fails with the first");
    if mem::needs_drop::<T>() {
        for place in places {
            // SAFETY: by the caller's contract.
            going_on("a destructor panicked", || unsafe { place.assume_init_drop() });
        }
    }
}

/// Some of the places, and the outputs that are there already: those of the first ones.
///
/// One that is dropped before it is full drops its outputs, and no others are taken after it: the whole will not come about.
pub(crate) struct Part<'a, T> {
    owner: &'a Places<T>,
    start: usize,
    places: &'a mut [MaybeUninit<T>],
    /// Invariant: so many of the first places have an output, and no others.
    n_given: usize,
}

impl<T> Part<'_, T> {
    /// The places, as numbers.
    pub(crate) fn range(&self) -> Range<usize> {
        self.start..self.start + self.places.len()
    }

    /// Whether each place has an output.
    pub(crate) fn is_full(&self) -> bool {
        self.n_given == self.places.len()
    }

    /// Takes outputs for the places that have none yet, until there are no more, or no such place is left.
    #[inline]
    pub(crate) fn fill(&mut self, outputs: impl Iterator<Item = T>) {
        let mut count = Count { n: self.n_given, of_part: &mut self.n_given };
        for (place, output) in self.places[count.n..].iter_mut().zip(outputs) {
            place.write(output);
            count.n += 1;
        }
    }
}

/// Counts beside the part, where the compiler can see that nobody looks, and tells it at the end: also that by a panic.
struct Count<'a> {
    n: usize,
    of_part: &'a mut usize,
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        *self.of_part = self.n;
    }
}

impl<T> Drop for Part<'_, T> {
    fn drop(&mut self) {
        if self.is_full() {
            self.owner.ledger().full.push(self.range());
            return;
        }
        self.owner.ledger().n_taken = self.owner.n_places;
        // SAFETY: these have an output, by the invariant. The part is gone.
        unsafe { discard(&mut self.places[..self.n_given]) };
    }
}

#[cfg(test)]
mod tests {
    use std::iter;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::rc::Rc;

    use super::*;

    #[test]
    fn outputs_are_in_the_order_of_the_places_whoever_is_first() {
        let places = Places::new(5);
        let mut first = places.take(|n_left| n_left / 2).unwrap();
        let mut second = places.take(|_| usize::MAX).unwrap();
        assert!(places.take(|_| 1).is_none());
        assert_eq!((first.range(), second.range()), (0..2, 2..5));
        second.fill((2..).map(|n| n.to_string()));
        drop(second);
        first.fill(["0".to_string()].into_iter());
        assert!(!first.is_full());
        first.fill((1..).map(|n| n.to_string()));
        drop(first);
        assert_eq!(places.into_outputs(), ["0", "1", "2", "3", "4"]);
        assert_eq!(Places::<String>::new(0).into_outputs(), [""; 0]);
    }

    #[test]
    fn outputs_of_what_does_not_come_about_are_dropped_once() {
        let output = Rc::new(());
        let places = Places::new(5);
        let [mut full, mut given_up] = [(); 2].map(|()| places.take(|_| 2).unwrap());
        full.fill(iter::repeat_with(|| Rc::clone(&output)));
        given_up.fill([Rc::clone(&output)].into_iter());
        assert_eq!(Rc::strong_count(&output), 4);
        drop(given_up);
        drop(full);
        assert_eq!(Rc::strong_count(&output), 3);
        assert!(places.take(|_| 1).is_none(), "one was given up");
        drop(places);
        assert_eq!(Rc::strong_count(&output), 1);
    }

    #[test]
    fn a_panic_in_the_middle_drops_what_was_given() {
        let output = Rc::new(());
        let places = Places::new(3);
        let outputs = (0..).map(|n| if n == 2 { panic!("at 2") } else { Rc::clone(&output) });
        let mut part = places.take(|n_left| n_left).unwrap();
        catch_unwind(AssertUnwindSafe(|| part.fill(outputs))).unwrap_err();
        assert_eq!(Rc::strong_count(&output), 3);
        drop(part);
        assert_eq!(Rc::strong_count(&output), 1);
    }

    #[test]
    #[should_panic(expected = "an output is missing")]
    fn a_part_that_was_leaked_is_missing() {
        let places = Places::new(2);
        let mut part = places.take(|n_left| n_left).unwrap();
        part.fill(iter::repeat(0));
        mem::forget(part);
        places.into_outputs();
    }
}
