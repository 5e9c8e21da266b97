//! The intrusive lists: tasks of a set (in spawn order, any of them may leave) and queues (first in, first out).
//!
//! Neither owns anything, and neither runs user code: an operation is complete before anything else happens.

use std::cell::Cell;

use super::refs::TaskRef;

/// The place of a task in a [`List`]; both null while it is in none.
#[derive(Default)]
pub(super) struct Links {
    prev: Cell<Option<TaskRef>>,
    next: Cell<Option<TaskRef>>,
}

/// A doubly linked list of tasks.
///
/// Invariant: every member's block is alive, and its `links` belong to this list.
#[derive(Default)]
pub(super) struct List {
    first: Cell<Option<TaskRef>>,
    last: Cell<Option<TaskRef>>,
}

impl List {
    pub(super) fn is_empty(&self) -> bool {
        self.first.get().is_none()
    }

    pub(super) fn first(&self) -> Option<TaskRef> {
        self.first.get()
    }

    pub(super) fn push_back(&self, task: TaskRef) {
        let links = &task.header().links;
        let last = self.last.replace(Some(task));
        links.prev.set(last);
        match last {
            Some(last) => last.header().links.next.set(Some(task)),
            None => self.first.set(Some(task)),
        }
    }

    /// Takes out `task`, which must be in this list.
    pub(super) fn remove(&self, task: TaskRef) {
        let links = &task.header().links;
        let (prev, next) = (links.prev.take(), links.next.take());
        match prev {
            Some(prev) => prev.header().links.next.set(next),
            None => self.first.set(next),
        }
        match next {
            Some(next) => next.header().links.prev.set(prev),
            None => self.last.set(prev),
        }
    }

    pub(super) fn pop_front(&self) -> Option<TaskRef> {
        let first = self.first.get()?;
        self.remove(first);
        Some(first)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = TaskRef> {
        std::iter::successors(self.first.get(), |task| task.header().links.next.get())
    }
}

/// A queue of tasks, linked through `next_queued`, which is null for the last one and for a task that is in none. A task is in one
/// queue at most; its flag `QUEUED` says so.
#[derive(Default)]
pub(super) struct Queue {
    first: Cell<Option<TaskRef>>,
    last: Cell<Option<TaskRef>>,
}

impl Queue {
    /// All that are in it, in a queue of their own.
    pub(super) fn take(&self) -> Self {
        Self { first: Cell::new(self.first.take()), last: Cell::new(self.last.take()) }
    }

    pub(super) fn last(&self) -> Option<TaskRef> {
        self.last.get()
    }

    #[inline]
    pub(super) fn push(&self, task: TaskRef) {
        match self.last.replace(Some(task)) {
            Some(last) => last.header().next_queued.set(Some(task)),
            None => self.first.set(Some(task)),
        }
    }

    /// Brings the one to the front that is drawn from the seed of the thread.
    #[cold]
    pub(super) fn bring_one_forward(&self) {
        let next = |task: &TaskRef| task.header().next_queued.get();
        let n_queued = std::iter::successors(self.first.get(), next).count();
        for _ in 0..super::schedule::draw(n_queued) {
            if let Some(front) = self.pop() {
                self.push(front);
            }
        }
    }

    #[inline]
    pub(super) fn first(&self) -> Option<TaskRef> {
        self.first.get()
    }

    #[inline]
    pub(super) fn pop(&self) -> Option<TaskRef> {
        let first = self.first.get()?;
        self.pop_first(first);
        Some(first)
    }

    /// Takes out `first`, which must be the first one.
    #[inline]
    pub(super) fn pop_first(&self, first: TaskRef) {
        let next = first.header().next_queued.take();
        self.first.set(next);
        if next.is_none() {
            self.last.set(None);
        }
    }
}
