//! How many tasks a set holds, where somebody wants to know: that they are many is said once.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ptr::NonNull;

use super::Core;
use crate::drawing::Node;
use crate::report::{ReportKind, report};
use crate::task::limits;
use crate::task::refs::{Header, TaskRef};

/// So many places are named where the tasks of a crowd were spawned.
const PLACES: usize = 3;

/// There in sets with a limit. Each of their tasks ends by [`Core::take_out`], which is not the shortest way.
pub(super) struct Crowd {
    limit: usize,
    n_tasks: Cell<usize>,
    is_reported: Cell<bool>,
    /// Tasks that take no place in the set, though they have the flag `PLACED`.
    beside: RefCell<BTreeSet<NonNull<Header>>>,
}

impl Crowd {
    #[inline]
    pub(super) fn watched() -> Option<Box<Self>> {
        let limit = limits::current().many_tasks;
        if limit == usize::MAX { None } else { Some(Self::new(limit)) }
    }

    #[cold]
    fn new(limit: usize) -> Box<Self> {
        Box::new(Self { limit, n_tasks: Cell::new(0), is_reported: Cell::new(false), beside: RefCell::default() })
    }

    /// Counts a new task; `true` if it is one too many, for the first time.
    pub(super) fn add(&self) -> bool {
        self.n_tasks.update(|n_tasks| n_tasks + 1);
        self.is_too_large() && !self.is_reported.get()
    }

    /// Counts a task that takes no place.
    pub(super) fn add_beside(&self, task: TaskRef) {
        self.beside.borrow_mut().insert(task.as_ptr());
    }

    /// Counts a task out; `true` if it took no place.
    pub(super) fn remove(&self, task: TaskRef) -> bool {
        self.n_tasks.update(|n_tasks| n_tasks - 1);
        self.beside.borrow_mut().remove(&task.as_ptr())
    }

    fn is_too_large(&self) -> bool {
        self.n_tasks.get() > self.limit
    }
}

impl Core {
    /// Says once that the set holds too many tasks. `node` is its group.
    pub(super) fn report_crowd(&self, node: impl FnOnce() -> Node) {
        let Some(crowd) = self.crowd.as_ref().filter(|crowd| crowd.is_too_large()) else { return };
        if !crowd.is_reported.replace(true) {
            let (node, n_tasks, places) = (node(), crowd.n_tasks.get(), self.places());
            let text = format!(
                "{node} holds {n_tasks} tasks ({places}); \
                 end those that are done with, let `limit` bound how many run, or wait before more are spawned"
            );
            report(ReportKind::ManyTasks, text);
        }
    }

    /// Where most of the tasks were spawned, in words.
    fn places(&self) -> String {
        let mut counts = BTreeMap::new();
        let location = |task: TaskRef| task.header().location;
        for location in self.tasks.iter().chain(self.doomed.iter()).map(location) {
            *counts.entry((location.file(), location.line())).or_insert(0_usize) += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, n_tasks)| std::cmp::Reverse(*n_tasks));
        let n_others: usize = counts.iter().skip(PLACES).map(|(_, n_tasks)| n_tasks).sum();
        let most = counts.iter().take(PLACES);
        let mut words: Vec<_> =
            most.map(|((file, line), n_tasks)| format!("{n_tasks} spawned at {file}:{line}")).collect();
        words.extend((n_others > 0).then(|| format!("{n_others} elsewhere")));
        words.join(", ")
    }
}
