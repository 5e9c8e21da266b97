//! What one owner has to clean up: the nodes that its future reached.

use std::cell::{Cell, RefCell};
use std::task::Waker;

use crate::error::Payload;
use crate::report::{ReportKind, report};
use crate::slab::Slab;

/// The nodes of one owner, and how far their cleanup is.
///
/// Wakers are user code: they are cloned, woken and dropped only while `nodes` is not borrowed.
#[derive(Default)]
pub(crate) struct Scope {
    unwinding: Cell<bool>,
    nodes: RefCell<Slab<Entry>>,
    /// Nodes that have not been polled since the unwinding began.
    n_silent: Cell<usize>,
    /// Nodes that clean up right now.
    n_cleaning: Cell<usize>,
    /// Passes in which no silent node answered.
    n_idle_passes: Cell<u8>,
    panic: RefCell<Option<Payload>>,
}

struct Entry {
    waker: Waker,
    progress: Progress,
}

/// How far a node is with its cleanup.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Silent,
    Cleaning,
    Finished,
}

/// What a pass over an unwinding future has shown.
pub(crate) enum Pass {
    /// Nodes are cleaning up; they wake the owner.
    Cleaning,
    /// Nodes have not answered yet; poll again.
    Again,
    /// Every node that could be reached has finished.
    Done,
}

/// How many passes in a row may reach no new node before the silent ones are given up. A foreign combinator may yield
/// between its children, so one is too few; a leaked node never answers, so there must be an end.
const MAX_IDLE_PASSES: u8 = 16;

impl Scope {
    pub(crate) fn is_unwinding(&self) -> bool {
        self.unwinding.get()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.borrow().len() == 0
    }

    pub(crate) fn insert(&self, waker: Waker) -> usize {
        self.count(Progress::Silent, 1);
        let progress = Progress::Silent;
        self.nodes.borrow_mut().insert(Entry { waker, progress })
    }

    /// Takes a node out. Its waker is the caller's to drop.
    #[must_use = "a waker must be dropped outside of any borrow"]
    pub(crate) fn remove(&self, key: usize) -> Waker {
        let entry = self.nodes.borrow_mut().remove(key);
        self.count(entry.progress, -1);
        entry.waker
    }

    pub(crate) fn will_wake(&self, key: usize, waker: &Waker) -> bool {
        self.nodes.borrow()[key].waker.will_wake(waker)
    }

    /// Replaces a node's waker. The old one is the caller's to drop.
    #[must_use = "a waker must be dropped outside of any borrow"]
    pub(crate) fn replace_waker(&self, key: usize, waker: Waker) -> Waker {
        std::mem::replace(&mut self.nodes.borrow_mut()[key].waker, waker)
    }

    pub(crate) fn advance(&self, key: usize, progress: Progress) {
        let before = std::mem::replace(&mut self.nodes.borrow_mut()[key].progress, progress);
        self.count(before, -1);
        self.count(progress, 1);
        self.n_idle_passes.set(0);
    }

    fn count(&self, progress: Progress, change: isize) {
        let counter = match progress {
            Progress::Silent => &self.n_silent,
            Progress::Cleaning => &self.n_cleaning,
            Progress::Finished => return,
        };
        counter.set(counter.get().strict_add_signed(change));
    }

    /// Marks the scope and wakes every node, so that combinators which poll only what was woken reach them.
    pub(crate) fn begin_unwind(&self) {
        self.unwinding.set(true);
        let wakers: Vec<Waker> = self.nodes.borrow().iter().map(|(_, entry)| entry.waker.clone()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Judges a poll of the owner's future that ended pending.
    pub(crate) fn judge_pass(&self) -> Pass {
        if self.n_cleaning.get() > 0 {
            return Pass::Cleaning;
        }
        if self.n_silent.get() == 0 {
            return Pass::Done;
        }
        let n_idle_passes = self.n_idle_passes.get() + 1;
        self.n_idle_passes.set(n_idle_passes);
        if n_idle_passes < MAX_IDLE_PASSES {
            return Pass::Again;
        }
        let n_silent = self.n_silent.get();
        report(
            ReportKind::Unreachable,
            format!("{n_silent} cleanup(s) could not run: started, and then leaked or polled by nobody"),
        );
        Pass::Done
    }

    /// Keeps the panic of a cleanup. Thrown at once, it would cut off the cleanup of its siblings.
    pub(crate) fn keep_panic(&self, payload: Payload) {
        let mut slot = self.panic.borrow_mut();
        if slot.is_none() {
            *slot = Some(payload);
        } else {
            drop(slot);
            report_panic(&*payload);
        }
    }

    pub(crate) fn take_panic(&self) -> Option<Payload> {
        self.panic.borrow_mut().take()
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        if let Some(payload) = self.panic.get_mut().take() {
            report_panic(&*payload);
        }
    }
}

fn report_panic(payload: &(dyn std::any::Any + Send)) {
    let text = crate::error::panic_text(payload);
    report(ReportKind::LaterFailure, format!("a cleanup panicked: {text}"));
}
