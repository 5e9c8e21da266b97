//! What few tasks of a set have, and what no other task pays for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ptr::NonNull;

use crate::task::refs::{Header, TaskRef};

type ByTask<V> = BTreeMap<NonNull<Header>, V>;

/// Values by task. Boxed, as a map that is empty takes three words and a call to drop it.
pub(super) struct Seldom<V> {
    values: RefCell<Option<Box<ByTask<V>>>>,
}

impl<V> Default for Seldom<V> {
    #[inline]
    fn default() -> Self {
        Self { values: RefCell::new(None) }
    }
}

impl<V: Clone> Seldom<V> {
    pub(super) fn insert(&self, task: TaskRef, value: V) {
        self.values.borrow_mut().get_or_insert_default().insert(task.as_ptr(), value);
    }

    pub(super) fn get(&self, task: TaskRef) -> Option<V> {
        self.values.borrow().as_ref()?.get(&task.as_ptr()).cloned()
    }

    pub(super) fn remove(&self, task: TaskRef) -> Option<V> {
        self.values.borrow_mut().as_mut()?.remove(&task.as_ptr())
    }
}
