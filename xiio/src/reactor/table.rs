//! What is kept for descriptors, by their numbers.

use std::collections::BTreeMap;

/// Numbers are small, as the system gives the smallest that is free: these have a place each. A program may choose a larger one, and places up
/// to that would take gigabytes.
const MAX_PLACES: usize = 1 << 16;

pub(super) struct Table<T> {
    places: Vec<Option<T>>,
    large: BTreeMap<usize, T>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { places: Vec::new(), large: BTreeMap::new() }
    }
}

impl<T> Table<T> {
    #[inline]
    pub(super) fn get(&self, number: usize) -> Option<&T> {
        match self.places.get(number) {
            Some(place) => place.as_ref(),
            None => self.large.get(&number),
        }
    }

    pub(super) fn insert(&mut self, number: usize, value: T) {
        if number >= MAX_PLACES {
            self.large.insert(number, value);
            return;
        }
        if number >= self.places.len() {
            self.places.resize_with(number + 1, || None);
        }
        self.places[number] = Some(value);
    }

    pub(super) fn remove(&mut self, number: usize) -> Option<T> {
        match self.places.get_mut(number) {
            Some(place) => place.take(),
            None => self.large.remove(&number),
        }
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.places.iter().flatten().chain(self.large.values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_number_takes_no_more_memory_than_a_small_one() {
        let mut table = Table::default();
        let numbers = [0, 9, MAX_PLACES - 1, MAX_PLACES, i32::MAX as usize];
        for number in numbers {
            assert!(table.get(number).is_none() && table.remove(number).is_none());
            table.insert(number, number);
        }
        assert_eq!(table.places.len(), MAX_PLACES);
        assert!(table.values().eq(&numbers));
        for number in numbers {
            assert_eq!(table.get(number), Some(&number));
            assert_eq!((table.remove(number), table.get(number)), (Some(number), None));
        }
        assert_eq!(table.values().count(), 0);
    }
}
