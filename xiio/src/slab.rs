//! A vector whose elements keep their index: freed places are chained into a list and filled again,
//! last freed first.
//!
//! Nothing here knows a generation. An index that outlives its element will name another one; who
//! hands indices out keeps a stamp beside them (as `timer` does) or takes care that they do not
//! outlive it.

use std::ops::{Index, IndexMut};

/// The end of the list of free places.
const NONE: usize = usize::MAX;

#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Place<T>>,
    /// The place freed last, or [`NONE`] when every place is taken.
    free: usize,
    len: usize,
}

#[derive(Debug)]
enum Place<T> {
    Taken(T),
    /// Holds the place that was free before this one.
    Free(usize),
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Slab { places: Vec::new(), free: NONE, len: 0 }
    }

    /// Puts `value` into the place freed last, or into a new one, and returns its index.
    #[inline]
    pub(crate) fn insert(&mut self, value: T) -> usize {
        self.len += 1;
        let index = self.free;
        if let Some(place) = self.places.get_mut(index) {
            let Place::Free(next) = *place else { unreachable!("a place on the free list is taken") };
            self.free = next;
            *place = Place::Taken(value);
            return index;
        }
        self.places.push(Place::Taken(value));
        self.places.len() - 1
    }

    /// Takes the element at `index` out.
    ///
    /// # Panics
    /// When there is none.
    #[inline]
    pub(crate) fn remove(&mut self, index: usize) -> T {
        let place = &mut self.places[index];
        assert!(matches!(place, Place::Taken(_)), "no element at index {index}");
        let Place::Taken(value) = std::mem::replace(place, Place::Free(self.free)) else { unreachable!() };
        self.free = index;
        self.len -= 1;
        value
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        match self.places.get(index) {
            Some(Place::Taken(value)) => Some(value),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        match self.places.get_mut(index) {
            Some(Place::Taken(value)) => Some(value),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many elements fit before memory is asked for again.
    pub(crate) fn capacity(&self) -> usize {
        self.places.capacity()
    }

    /// The elements with their indices, in the order of the indices (not of insertion).
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.places.iter().enumerate().filter_map(|(index, place)| match place {
            Place::Taken(value) => Some((index, value)),
            Place::Free(_) => None,
        })
    }

    /// The elements in the order of their indices, to be changed.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.places.iter_mut().filter_map(|place| match place {
            Place::Taken(value) => Some(value),
            Place::Free(_) => None,
        })
    }

    /// The elements in the order of their indices.
    pub(crate) fn into_values(self) -> impl Iterator<Item = T> {
        self.places.into_iter().filter_map(|place| match place {
            Place::Taken(value) => Some(value),
            Place::Free(_) => None,
        })
    }
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Index<usize> for Slab<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: usize) -> &T {
        self.get(index).expect("an index names an element")
    }
}

impl<T> IndexMut<usize> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, index: usize) -> &mut T {
        self.get_mut(index).expect("an index names an element")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freed_places_are_filled_again_last_freed_first() {
        let mut slab = Slab::new();
        assert_eq!(["a", "b", "c"].map(|name| slab.insert(name)), [0, 1, 2]);
        assert_eq!((slab.remove(0), slab.remove(2)), ("a", "c"));
        assert_eq!((slab.len(), slab.get(0), slab.get(1), slab.get(7)), (1, None, Some(&"b"), None));
        assert_eq!(["d", "e", "f"].map(|name| slab.insert(name)), [2, 0, 3]);
        assert_eq!(slab.iter().collect::<Vec<_>>(), [(0, &"e"), (1, &"b"), (2, &"d"), (3, &"f")]);
        assert_eq!(slab.into_values().collect::<Vec<_>>(), ["e", "b", "d", "f"]);
    }

    #[test]
    #[should_panic(expected = "no element at index 0")]
    fn removing_twice_panics() {
        let mut slab = Slab::new();
        slab.insert(());
        slab.remove(0);
        slab.remove(0);
    }
}
