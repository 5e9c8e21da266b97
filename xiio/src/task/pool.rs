//! Memory for blocks: chunks of places of one size, as tasks come and go faster than `malloc` does.
//!
//! A chunk is aligned to its size, so that a place finds its chunk by its address:
//!
//! ```text
//!   ┌────────┬───────┬───────┬───────┬──┄──┬───────┐
//!   │ header │ taken │ free ─┼─▶free │     │ never │   CHUNK bytes, aligned to CHUNK
//!   └────────┴───────┴───────┴───────┴──┄──┴───────┘
//!                  `free` ────▶ list         `n_fresh` places are left at the end
//! ```
//!
//! Chunks that have a place left are in their size's list; full ones are in none and come back with the first place that
//! is freed. A chunk that is empty leaves its list, unless it is the only one there; a few are kept, for any size.
//!
//! A pool belongs to a home, and is touched by the home's thread only. Places freed on other threads are handed over.
//! Debug builds take every block from the allocator, so that sanitizers see each on its own.

use std::alloc::{Layout, handle_alloc_error};
#[cfg(not(all(test, loom)))]
use std::alloc::{alloc, dealloc};
use std::cell::Cell;
use std::mem::offset_of;
use std::ptr::NonNull;

#[cfg(all(test, loom))]
use super::models::memory::{alloc, dealloc};

/// The alignment of chunks. What an allocator keeps in front of each must fit between two, so they are a bit smaller.
const CHUNK: usize = 1 << 14;
const CHUNK_LAYOUT: Layout = match Layout::from_size_align(CHUNK - 64, CHUNK) {
    Ok(layout) => layout,
    Err(_) => panic!("the layout of a chunk is valid"),
};
/// Sizes differ by this much, and no place is aligned to more.
const STEP: usize = 8;
/// Larger blocks are the allocator's.
const LARGEST: usize = 512;
const N_SIZES: usize = LARGEST / STEP;

/// Empty chunks that are kept, a quarter of a megabyte: a scope of a thousand tasks that ends is mostly followed by the next.
const MAX_SPARE: u32 = 16;

/// Free places of every size.
pub(super) struct Pool {
    /// For each size the chunks that have a place left.
    lists: [Cell<Option<NonNull<Chunk>>>; N_SIZES],
    /// Chunks that are empty and of no size, each pointing to the next.
    spare: Cell<Option<NonNull<Free>>>,
    n_spare: Cell<u32>,
}

/// The header of a chunk.
struct Chunk {
    prev: Cell<Option<NonNull<Chunk>>>,
    next: Cell<Option<NonNull<Chunk>>>,
    /// The places that were freed, each pointing to the next.
    free: Cell<Option<NonNull<Free>>>,
    /// The first of the places at the end that were never taken, if any is left.
    fresh: Cell<NonNull<u8>>,
    n_fresh: Cell<u32>,
    n_taken: Cell<u32>,
    size: u32,
}

impl Chunk {
    /// Whether no other chunk of this size has a place left.
    fn is_alone(&self) -> bool {
        self.prev.get().is_none() && self.next.get().is_none()
    }
}

struct Free {
    next: Option<NonNull<Free>>,
}

/// Where the first place is: aligned like all of them.
const FIRST: usize = size_of::<Chunk>().next_multiple_of(STEP);
const _: () = assert!(offset_of!(Chunk, prev) == 0 && FIRST < CHUNK / 8);

/// Whether blocks of this layout come from a pool.
pub(super) const fn is_pooled(layout: Layout) -> bool {
    !cfg!(any(debug_assertions, all(test, loom))) && fits(layout)
}

const fn fits(layout: Layout) -> bool {
    layout.size() <= LARGEST && layout.size() > 0 && layout.align() <= STEP
}

impl Pool {
    pub(super) const fn new() -> Self {
        Self { lists: [const { Cell::new(None) }; N_SIZES], spare: Cell::new(None), n_spare: Cell::new(0) }
    }

    fn list(&self, size: usize) -> &Cell<Option<NonNull<Chunk>>> {
        &self.lists[size / STEP - 1]
    }

    /// Memory for `layout`, which must fit.
    #[inline]
    pub(super) fn take(&self, layout: Layout) -> NonNull<u8> {
        debug_assert!(fits(layout));
        let size = layout.size().next_multiple_of(STEP);
        let chunk = self.list(size).get().unwrap_or_else(|| self.add_chunk(size));
        // SAFETY: chunks in a list are alive until they are taken out of it.
        let header = unsafe { chunk.as_ref() };
        let place = match header.free.get() {
            Some(place) => {
                // SAFETY: a place in the list of free ones holds a `Free`, written when it was freed.
                header.free.set(unsafe { place.as_ref() }.next);
                place.cast()
            }
            None => Self::take_fresh(header),
        };
        header.n_taken.set(header.n_taken.get() + 1);
        if header.free.get().is_none() && header.n_fresh.get() == 0 {
            self.unlink(chunk);
        }
        place
    }

    /// The next place that was never taken. There is one: the chunk is in a list and has none that was freed.
    fn take_fresh(header: &Chunk) -> NonNull<u8> {
        let place = header.fresh.get();
        header.n_fresh.set(header.n_fresh.get() - 1);
        // SAFETY: places lie side by side inside the chunk, and at its end there is room left for one more address.
        header.fresh.set(unsafe { place.add(header.size as usize) });
        place
    }

    #[cold]
    #[inline(never)]
    fn add_chunk(&self, size: usize) -> NonNull<Chunk> {
        let chunk = self.take_spare().unwrap_or_else(allocate_chunk).cast::<Chunk>();
        // SAFETY: the header is smaller than the chunk.
        let fresh = unsafe { chunk.cast::<u8>().add(FIRST) };
        let header = Chunk {
            prev: Cell::new(None),
            next: Cell::new(None),
            free: Cell::new(None),
            fresh: Cell::new(fresh),
            n_fresh: Cell::new(u32::try_from((CHUNK_LAYOUT.size() - FIRST) / size).unwrap_or(0)),
            n_taken: Cell::new(0),
            size: u32::try_from(size).unwrap_or(0),
        };
        // SAFETY: memory of a whole chunk that nobody uses, larger than a header and aligned to more.
        unsafe { chunk.write(header) };
        self.link(chunk);
        chunk
    }

    /// Takes back what [`Pool::take`] of this pool gave.
    ///
    /// # Safety
    /// - `place` came from `take` of this pool and was not put back since.
    /// - Nobody uses it any more.
    #[inline]
    pub(super) unsafe fn put_back(&self, place: NonNull<u8>) {
        // SAFETY: the chunk of a place lies at the next lower multiple of its alignment; the pointer keeps its provenance,
        // which is that of the chunk.
        let chunk =
            unsafe { NonNull::new_unchecked(place.as_ptr().map_addr(|addr| addr & !(CHUNK - 1))) }.cast::<Chunk>();
        // SAFETY: a chunk with a taken place is alive.
        let header = unsafe { chunk.as_ref() };
        let was_full = header.free.get().is_none() && header.n_fresh.get() == 0;
        let free = place.cast::<Free>();
        // SAFETY: the place is the caller's to give, at least `STEP` bytes large and as much aligned.
        unsafe { free.write(Free { next: header.free.get() }) };
        header.free.set(Some(free));
        let n_taken = header.n_taken.get() - 1;
        header.n_taken.set(n_taken);
        if was_full {
            self.link(chunk);
        } else if n_taken == 0 && !header.is_alone() {
            self.retire(chunk);
        }
    }

    /// Takes an empty chunk out of its list, and keeps it or gives it back.
    #[cold]
    #[inline(never)]
    fn retire(&self, chunk: NonNull<Chunk>) {
        self.unlink(chunk);
        let n_spare = self.n_spare.get();
        if n_spare == MAX_SPARE {
            // SAFETY: it came from `allocate_chunk`; no place of it is taken and it is in no list.
            unsafe { free_chunk(chunk.cast()) };
        } else {
            let spare = chunk.cast::<Free>();
            // SAFETY: nobody uses the chunk any more, which is larger than that and aligned to more.
            unsafe { spare.write(Free { next: self.spare.replace(Some(spare)) }) };
            self.n_spare.set(n_spare + 1);
        }
    }

    fn take_spare(&self) -> Option<NonNull<Free>> {
        let spare = self.spare.get()?;
        // SAFETY: what is in the list of spare chunks holds a `Free`, written when it was retired.
        self.spare.set(unsafe { spare.as_ref() }.next);
        self.n_spare.set(self.n_spare.get() - 1);
        Some(spare)
    }

    #[cold]
    #[inline(never)]
    fn link(&self, chunk: NonNull<Chunk>) {
        // SAFETY: the caller has a live chunk.
        let header = unsafe { chunk.as_ref() };
        let list = self.list(header.size as usize);
        let next = list.replace(Some(chunk));
        header.prev.set(None);
        header.next.set(next);
        if let Some(next) = next {
            // SAFETY: chunks in a list are alive.
            unsafe { next.as_ref() }.prev.set(Some(chunk));
        }
    }

    #[cold]
    #[inline(never)]
    fn unlink(&self, chunk: NonNull<Chunk>) {
        // SAFETY: the caller has a live chunk, which is in the list of its size.
        let header = unsafe { chunk.as_ref() };
        let (prev, next) = (header.prev.take(), header.next.take());
        match prev {
            // SAFETY: chunks in a list are alive.
            Some(prev) => unsafe { prev.as_ref() }.next.set(next),
            None => self.list(header.size as usize).set(next),
        }
        if let Some(next) = next {
            // SAFETY: as above.
            unsafe { next.as_ref() }.prev.set(prev);
        }
    }

    /// How many chunks have a place left, for tests.
    #[cfg(test)]
    fn n_chunks(&self, size: usize) -> usize {
        // SAFETY: chunks in a list are alive.
        std::iter::successors(self.list(size).get(), |chunk| unsafe { chunk.as_ref() }.next.get()).count()
    }
}

impl Drop for Pool {
    /// Homes are for ever, so this is for tests. A chunk with a place taken is left alone.
    fn drop(&mut self) {
        for list in &self.lists {
            let mut next = list.take();
            while let Some(chunk) = next {
                // SAFETY: chunks in a list are alive.
                let header = unsafe { chunk.as_ref() };
                next = header.next.get();
                if header.n_taken.get() == 0 {
                    // SAFETY: it came from `allocate_chunk`, nothing in it is taken, and the list is gone.
                    unsafe { free_chunk(chunk.cast()) };
                }
            }
        }
        while let Some(spare) = self.take_spare() {
            // SAFETY: as above.
            unsafe { free_chunk(spare) };
        }
    }
}

/// Memory of a whole chunk.
fn allocate_chunk() -> NonNull<Free> {
    // SAFETY: the layout has a size above zero.
    NonNull::new(unsafe { alloc(CHUNK_LAYOUT) }.cast()).unwrap_or_else(|| handle_alloc_error(CHUNK_LAYOUT))
}

/// Gives a chunk back.
///
/// # Safety
/// It came from `allocate_chunk`, and nobody uses it any more.
unsafe fn free_chunk(chunk: NonNull<Free>) {
    // SAFETY: the caller's contract is this one's.
    unsafe { dealloc(chunk.as_ptr().cast(), CHUNK_LAYOUT) };
}

/// Allocates outside of any pool.
pub(super) fn allocate(layout: Layout) -> NonNull<u8> {
    debug_assert!(layout.size() > 0);
    // SAFETY: a block is never empty, it has a header.
    NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

/// Frees what [`allocate`] gave.
///
/// # Safety
/// `place` came from `allocate` with the same layout, and nobody uses it any more.
pub(super) unsafe fn free(place: NonNull<u8>, layout: Layout) {
    // SAFETY: the caller's contract is this one's.
    unsafe { dealloc(place.as_ptr(), layout) };
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 8).expect("a valid layout")
    }

    #[test]
    fn places_do_not_overlap_and_are_aligned() {
        let pool = Pool::new();
        for size in [1, 16, 17, 100, 512] {
            let mut places: Vec<usize> = (0..1000).map(|_| pool.take(layout(size)).as_ptr().addr()).collect();
            places.sort_unstable();
            assert!(places.windows(2).all(|pair| pair[1] - pair[0] >= size.next_multiple_of(STEP)));
            assert!(places.iter().all(|place| place % STEP == 0));
            // The chunks are leaked here, with the places: back they go.
            for place in places {
                let place = NonNull::new(ptr::with_exposed_provenance_mut(place)).expect("no null");
                // SAFETY: taken above, and put back once.
                unsafe { pool.put_back(place) };
            }
        }
    }

    #[test]
    fn place_put_back_is_taken_first() {
        let pool = Pool::new();
        let first = pool.take(layout(64));
        let second = pool.take(layout(64));
        // SAFETY: taken above, and put back once.
        unsafe { pool.put_back(first) };
        assert_eq!(pool.take(layout(64)), first);
        for place in [first, second] {
            // SAFETY: as above.
            unsafe { pool.put_back(place) };
        }
    }

    #[test]
    fn of_empty_chunks_one_stays_with_its_size_and_a_few_are_kept_for_any() {
        let pool = Pool::new();
        let round = |size, n| {
            let places: Vec<_> = (0..n).map(|_| pool.take(layout(size))).collect();
            for place in places {
                // SAFETY: taken above, and put back once.
                unsafe { pool.put_back(place) };
            }
            (pool.n_chunks(size), pool.n_spare.get())
        };
        // 31 places of 512 bytes lie in a chunk, and 127 of 128.
        assert_eq!(round(512, 31 * 5), (1, 4));
        assert_eq!(round(512, 31 * 3), (1, 4));
        assert_eq!(round(128, 127 * 3), (1, 3));
        assert_eq!(round(128, 127 * 100), (1, MAX_SPARE));
    }
}
