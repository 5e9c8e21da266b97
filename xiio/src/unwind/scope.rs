//! What one owner has to clean up: the nodes that its future reached.

use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use super::parked::Letterbox;
use crate::error::Payload;
use crate::report::{ReportKind, drop_safely, report, report_panic, waking};
use crate::slab::Slab;

/// The nodes of one owner, and how far their cleanup is.
///
/// Wakers are user code: they are cloned, woken and dropped only while `nodes` is not borrowed.
#[derive(Default)]
pub(crate) struct Scope {
    unwinding: Cell<bool>,
    nodes: RefCell<Slab<Entry>>,
    /// Has the keys of nodes whose futures went where this cannot be reached; made when the first one might.
    letterbox: OnceCell<Arc<Letterbox>>,
    /// Nodes that have not been polled since the unwinding began.
    n_silent: Cell<usize>,
    /// Nodes that clean up, as far as is known: they have answered once and not finished.
    n_cleaning: Cell<usize>,
    /// Those of them that were polled in this pass, and so will wake the owner.
    n_awake: Cell<usize>,
    /// Counts the passes.
    pass: Cell<u32>,
    /// Passes in a row that reached no node, and were no reason to look for one.
    n_let_pass: Cell<u32>,
    /// How often in a row the nodes were looked for.
    n_probes: Cell<u32>,
    /// The nodes are looked for: they were woken after an idle pass.
    is_probing: Cell<bool>,
    /// So many idle passes are no reason to look for nodes that clean up, see [`Scope::judge_pass`].
    patience: Cell<u32>,
    /// There from when nodes are looked for until one of them ends.
    watch: RefCell<Option<Arc<Watch>>>,
    /// Somebody has woken the future behind the pass before: perhaps a node, and perhaps its last wake. Or that is not known.
    is_woken: Cell<bool>,
    /// Nodes were looked for in vain, which has been reported.
    is_given_up: Cell<bool>,
    /// Cancelled code that ran on has been reported.
    has_run_on: Cell<bool>,
    panic: RefCell<Option<Payload>>,
    /// Kept from one pass of the unwinding to the next, for whoever wants to know how long that takes.
    kept: Cell<Option<Box<dyn Any>>>,
}

thread_local! {
    static ON_BEGIN: Cell<Option<OnBegin>> = const { Cell::new(None) };
}

/// Hears of each unwinding and each deferred cleanup that begins. What it gives is dropped when that has ended; neither is code of the user.
pub(crate) type OnBegin = fn() -> Option<Box<dyn Any>>;

/// Has `hear` told of each that begins on this thread from now on.
pub(crate) fn on_begin(hear: Option<OnBegin>) {
    ON_BEGIN.set(hear);
}

/// Has whoever wants to know hear of a cleanup that begins; what comes back is to be kept until it has ended.
pub(super) fn begun() -> Option<Box<dyn Any>> {
    ON_BEGIN.get().and_then(|hear| hear())
}

/// The waker that an unwinding future is polled with, where it matters what has brought a pass about.
struct Watch {
    outer: Waker,
    /// That of all watches of one scope.
    is_woken: Arc<AtomicBool>,
}

impl Watch {
    fn takes_wake(&self) -> bool {
        self.is_woken.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Watch {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Relaxed);
        self.outer.wake_by_ref();
    }
}

struct Entry {
    waker: Waker,
    progress: Progress,
    /// The pass in which it was polled last, while it cleans up.
    awake_in: Option<u32>,
}

/// How far a node is with its cleanup.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Silent,
    Cleaning,
    Finished,
}

/// The waker of a node that was taken out.
pub(crate) enum Left {
    /// To be dropped.
    Unnoticed(Waker),
    /// To be woken: the owner waits for this node.
    Awaited(Waker),
}

/// What a pass over an unwinding future has shown.
pub(crate) enum Pass {
    /// Nodes are cleaning up; they wake the owner.
    Cleaning,
    /// Nodes have not answered, or not been polled again since; poll again.
    Again,
    /// Every node that could be reached has finished.
    Done,
}

/// How often in a row nodes are looked for in vain before those that are left are given up. A foreign combinator may yield
/// between its children, so one is too few; a leaked node never answers, so there must be an end.
const MAX_PROBES: u32 = 16;

impl Scope {
    pub(crate) fn is_unwinding(&self) -> bool {
        self.unwinding.get()
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.is_given_up.get()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.take_out_gone();
        self.nodes.borrow().len() == 0
    }

    pub(crate) fn insert(&self, waker: Waker) -> usize {
        self.count(Progress::Silent, 1);
        let progress = Progress::Silent;
        self.nodes.borrow_mut().insert(Entry { waker, progress, awake_in: None })
    }

    /// Takes a node out. Its waker is the caller's: to drop, or to wake if the owner waits for the node's cleanup, which
    /// was freed by somebody else then.
    #[must_use = "a waker must be dropped outside of any borrow"]
    pub(crate) fn remove(&self, key: usize) -> Left {
        let entry = self.nodes.borrow_mut().remove(key);
        if self.is_unwinding() {
            self.look_anew();
        }
        self.count(entry.progress, -1);
        self.count_awake(entry.awake_in, -1);
        match entry.progress {
            Progress::Cleaning => Left::Awaited(entry.waker),
            Progress::Silent | Progress::Finished => Left::Unnoticed(entry.waker),
        }
    }

    /// For a node whose future may go to another thread.
    pub(super) fn letterbox(&self) -> Arc<Letterbox> {
        self.take_out_gone();
        Arc::clone(self.letterbox.get_or_init(Arc::default))
    }

    pub(super) fn has_letterbox(&self, letterbox: &Arc<Letterbox>) -> bool {
        self.letterbox.get().is_some_and(|own| Arc::ptr_eq(own, letterbox))
    }

    /// Takes out the nodes that have gone.
    #[inline]
    fn take_out_gone(&self) {
        if let Some(letterbox) = self.letterbox.get() {
            self.empty(letterbox);
        }
    }

    #[cold]
    fn empty(&self, letterbox: &Letterbox) {
        for key in letterbox.empty() {
            // Who waits for them was woken by the letterbox.
            let (Left::Unnoticed(waker) | Left::Awaited(waker)) = self.remove(key);
            drop_safely(waker);
        }
    }

    pub(crate) fn will_wake(&self, key: usize, waker: &Waker) -> bool {
        self.nodes.borrow()[key].waker.will_wake(waker)
    }

    /// Replaces a node's waker. The old one is the caller's to drop.
    #[must_use = "a waker must be dropped outside of any borrow"]
    pub(crate) fn replace_waker(&self, key: usize, waker: Waker) -> Waker {
        std::mem::replace(&mut self.nodes.borrow_mut()[key].waker, waker)
    }

    /// A node tells, in its poll, how far it is.
    pub(crate) fn advance(&self, key: usize, progress: Progress) {
        let awake_in = (progress == Progress::Cleaning).then(|| self.pass.get());
        let (before, was_awake_in) = {
            let entry = &mut self.nodes.borrow_mut()[key];
            (std::mem::replace(&mut entry.progress, progress), std::mem::replace(&mut entry.awake_in, awake_in))
        };
        self.count(before, -1);
        self.count(progress, 1);
        self.count_awake(was_awake_in, -1);
        self.count_awake(awake_in, 1);
        match progress {
            Progress::Finished => self.look_anew(),
            Progress::Silent | Progress::Cleaning => self.note_reached(),
        }
    }

    fn note_reached(&self) {
        self.n_let_pass.set(0);
        self.n_probes.set(0);
    }

    /// A node has ended. The others may be where nobody comes to any more, and a wake of theirs may have come before.
    #[cold]
    fn look_anew(&self) {
        self.note_reached();
        self.patience.set(0);
        self.is_woken.set(true);
        drop_safely(self.watch.take());
    }

    fn count(&self, progress: Progress, change: isize) {
        let counter = match progress {
            Progress::Silent => &self.n_silent,
            Progress::Cleaning => &self.n_cleaning,
            Progress::Finished => return,
        };
        add(counter, change);
    }

    fn count_awake(&self, awake_in: Option<u32>, change: isize) {
        if awake_in == Some(self.pass.get()) {
            add(&self.n_awake, change);
        }
    }

    /// Marks the scope and wakes every node, so that combinators which poll only what was woken reach them.
    pub(crate) fn begin_unwind(&self) {
        self.unwinding.set(true);
        self.keep_unwinding(begun());
        self.wake_unfinished(usize::MAX);
    }

    /// Keeps what says, by its end, how long the unwinding has taken.
    pub(super) fn keep_unwinding(&self, kept: Option<Box<dyn Any>>) {
        self.kept.set(kept);
    }

    /// What was kept.
    pub(super) fn take_unwinding(&self) -> Option<Box<dyn Any>> {
        self.kept.take()
    }

    /// Wakes the first `n_most` nodes that have not finished.
    fn wake_unfinished(&self, n_most: usize) {
        let n_places = self.nodes.borrow().capacity();
        let is_unfinished =
            |key: &usize| self.nodes.borrow().get(*key).is_some_and(|entry| entry.progress != Progress::Finished);
        (0..n_places).filter(is_unfinished).take(n_most).for_each(|key| self.wake(key));
    }

    /// Wakes a node, if it is still there. Its waker is taken out meanwhile: it may free the node, and a clone would be
    /// user code under the borrow.
    fn wake(&self, key: usize) {
        let swap = |waker| match self.nodes.borrow_mut().get_mut(key) {
            Some(entry) => std::mem::replace(&mut entry.waker, waker),
            None => waker,
        };
        let waker = swap(Waker::noop().clone());
        waking(|| waker.wake_by_ref());
        let is_empty = self.nodes.borrow().get(key).is_some_and(|entry| entry.waker.will_wake(Waker::noop()));
        drop_safely(if is_empty { swap(waker) } else { waker });
    }

    /// The waker for the next pass, if it is not that of the owner.
    pub(crate) fn watching_waker(&self, outer: &Waker) -> Option<Waker> {
        let before = self.watch.take();
        if before.as_ref().is_none_or(|watch| watch.takes_wake()) {
            self.is_woken.set(true);
        }
        let is_watched = self.patience.get() > 0 || self.is_probing.get();
        let watch = is_watched.then(|| match &before {
            Some(watch) if watch.outer.will_wake(outer) => Arc::clone(watch),
            _ => {
                let is_woken = before.as_ref().map_or_else(Arc::default, |watch| Arc::clone(&watch.is_woken));
                Arc::new(Watch { outer: outer.clone(), is_woken })
            }
        });
        *self.watch.borrow_mut() = watch.clone();
        drop_safely(before);
        watch.map(Waker::from)
    }

    /// Judges a poll of the owner's future that ended pending.
    ///
    /// A node that was polled in this pass and still cleans up will wake the owner, and that is worth waiting for. Where
    /// there is none the others are looked for: their combinator may poll only what is woken, or may be gone.
    ///
    /// A combinator may wake itself after it has polled what was woken, as `FuturesUnordered` does. The pass that follows
    /// reaches nobody, and to look for the nodes again would make the next one. How many such passes there are, nobody
    /// knows: so each time that nodes were looked for and found, twice as many are let pass, until one of the nodes ends.
    /// So are passes that nobody has woken, as a combinator polls its branches when one is: each of two neighbours would look for its nodes whenever the
    /// other does. But a wake behind the pass before is always a reason: a node may have left it, and it may be the last.
    pub(crate) fn judge_pass(&self, cx: &Context<'_>) -> Pass {
        if let Some(letterbox) = self.letterbox.get() {
            // In this order: what comes in between is seen, and wakes as well.
            letterbox.wait(Some(cx.waker().clone()));
            self.empty(letterbox);
        }
        self.pass.set(self.pass.get().wrapping_add(1));
        // The future has woken itself in this pass.
        self.watch.borrow().iter().for_each(|watch| _ = watch.takes_wake());
        let was_woken = self.is_woken.take();
        if self.n_awake.replace(0) > 0 {
            if self.is_probing.take() {
                self.patience.set(self.patience.get().saturating_mul(2).saturating_add(1));
            }
            return Pass::Cleaning;
        }
        let n_unfinished = self.n_silent.get() + self.n_cleaning.get();
        if n_unfinished == 0 {
            return Pass::Done;
        }
        if !was_woken && self.lets_pass() {
            return Pass::Cleaning;
        }
        let n_probes = self.n_probes.get() + 1;
        self.n_probes.set(n_probes);
        if n_probes < MAX_PROBES {
            self.is_probing.set(true);
            // One that answers is enough, so the first is tried alone; all are when it does not.
            self.wake_unfinished(if n_probes == 1 { 1 } else { usize::MAX });
            return Pass::Again;
        }
        self.is_given_up.set(true);
        report(
            ReportKind::Unreachable,
            format!("{n_unfinished} cleanup(s) could not run to the end: started, and then leaked or polled by nobody"),
        );
        Pass::Done
    }

    /// Whether this pass, which has reached nobody, is no reason to look for the nodes.
    fn lets_pass(&self) -> bool {
        // One that was never reached wakes nobody; and one that is looked for has been woken.
        if self.n_cleaning.get() == 0 || self.n_probes.get() > 0 {
            return false;
        }
        self.n_let_pass.update(|n_passes| n_passes + 1);
        self.n_let_pass.get() <= self.patience.get()
    }

    /// Reports, once, that cancelled code has reached something that it should not have come to.
    #[cold]
    pub(crate) fn report_ran_on(&self, what: &str) {
        if self.has_run_on.replace(true) {
            return;
        }
        report(
            ReportKind::RanOn,
            format!(
                "cancelled code ran on to a `{what}`, which was not started; wrap the branches of foreign combinators in `xiio::branch`"
            ),
        );
    }

    /// Keeps the panic of a cleanup. Thrown at once, it would cut off the cleanup of its siblings.
    pub(crate) fn keep_panic(&self, payload: Payload) {
        let mut slot = self.panic.borrow_mut();
        if slot.is_none() {
            *slot = Some(payload);
        } else {
            drop(slot);
            report_panic("a cleanup panicked", payload);
        }
    }

    pub(crate) fn take_panic(&self) -> Option<Payload> {
        self.panic.borrow_mut().take()
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        drop_safely(self.watch.take());
        if let Some(letterbox) = self.letterbox.get() {
            letterbox.wait(None);
        }
        if let Some(payload) = self.panic.get_mut().take() {
            report_panic("a cleanup panicked", payload);
        }
    }
}

/// A count after so many have come or gone.
fn add(counter: &Cell<usize>, change: isize) {
    let count = counter.get().checked_add_signed(change);
    counter.set(count.expect("no more leave than have come"));
}
