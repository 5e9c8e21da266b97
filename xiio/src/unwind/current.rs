//! The scope that is current on this thread, and the gate that every leaf passes.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::task::Context;

use super::scope::Scope;
use crate::drawing::{Drawing, Kind, Node, State};

/// No owner is polling on this thread.
const OUTSIDE: u8 = 0;
/// An owner polls: leaves and nodes go on as usual.
const INSIDE: u8 = 1;
/// There is a current scope.
const SCOPED: u8 = 2;
/// The loop has nothing else to do and polls a group that lends to its workers: who polls tasks shows where it is (see
/// `task::set`). To leaves and nodes this is a poll as usual.
const LENDING: u8 = 4;
/// The current scope unwinds: leaves stay pending, nodes clean up.
const UNWINDING: u8 = 8;
/// The tree is being drawn: leaves and groups describe themselves and stay pending.
const INSPECTING: u8 = 16;
/// Code that is being polled right now has been cancelled: nothing below goes on until the poll is back at the owner that
/// was cancelled.
const FROZEN: u8 = 32;
/// What holds for all owners below.
const PASSED_ON: u8 = LENDING | INSPECTING;

struct Current {
    /// Made when the first node joins, so that an owner without nodes allocates nothing.
    scope: Cell<Option<Rc<Scope>>>,
    mode: Cell<u8>,
    /// The depth of the outermost owner that was cancelled while it is polled.
    frozen_depth: Cell<u32>,
    /// How often code was polled in vain that is frozen, or drawn.
    n_vain_polls: Cell<u32>,
}

/// More polls of code that was cancelled in this very poll are a loop that does not give way: a foreign executor inside of
/// the task (a `block_on`), which would go on for ever.
const MAX_FROZEN_POLLS: u32 = 1 << 20;
/// So are more polls of one member while it is drawn. No task awaits so many things at once, but for those that its groups await.
const MAX_DRAWN_POLLS: u32 = 1 << 16;

thread_local! {
    // `ManuallyDrop`: a thread-local with a destructor costs a check at each access. The scope is empty outside of polls.
    static CURRENT: ManuallyDrop<Current> = const {
        ManuallyDrop::new(Current {
            scope: Cell::new(None),
            mode: Cell::new(OUTSIDE),
            frozen_depth: Cell::new(u32::MAX),
            n_vain_polls: Cell::new(0),
        })
    };
    static INSPECTION: RefCell<Option<Drawing>> = const { RefCell::new(None) };
}

impl Current {
    /// Makes another scope the current one, in the mode that is given. Whether the thread is frozen stays.
    #[inline]
    fn replace(&self, scope: Option<Rc<Scope>>, mode: u8) -> Option<Rc<Scope>> {
        let scoped = if scope.is_some() { SCOPED } else { 0 };
        let before = self.scope.replace(scope);
        self.mode.set((mode & !(FROZEN | SCOPED)) | scoped | (self.mode.get() & FROZEN));
        before
    }

    /// What holds of the mode: a member that is polled again and again while it is drawn goes on.
    #[cold]
    fn mode_that_counts(&self) -> u8 {
        let is_given_up = self.n_vain_polls.get() >= MAX_DRAWN_POLLS;
        if is_given_up { self.mode.get() & !INSPECTING } else { self.mode.get() }
    }
}

/// Makes a scope the current one: the owner's own, until the result is dropped; the one before afterwards.
#[inline]
pub(super) fn under(scope: &mut Option<Rc<Scope>>) -> Under<'_> {
    CURRENT.with(|current| {
        let outer_mode = current.mode.get();
        let is_unwinding = scope.as_ref().is_some_and(|scope| scope.is_unwinding());
        let own_mode = if is_unwinding { INSIDE | UNWINDING } else { INSIDE };
        let outer_scope = ManuallyDrop::new(current.replace(scope.take(), own_mode | (outer_mode & PASSED_ON)));
        Under { scope, outer_scope, outer_mode }
    })
}

/// See [`under`].
#[must_use]
pub(super) struct Under<'a> {
    scope: &'a mut Option<Rc<Scope>>,
    outer_scope: ManuallyDrop<Option<Rc<Scope>>>,
    outer_mode: u8,
}

impl Drop for Under<'_> {
    #[inline]
    fn drop(&mut self) {
        let outer = std::mem::take(&mut *self.outer_scope);
        *self.scope = CURRENT.with(|current| current.replace(outer, self.outer_mode));
    }
}

/// Many owners polled one after the other: the way in and out is paid once. Where [`is_plain`] there is none to be paid.
///
/// While it exists the current scope is that of the owner which is being polled, and empty between polls.
pub(crate) struct Shift {
    outer_scope: Option<Rc<Scope>>,
    outer_mode: u8,
}

impl Shift {
    pub(crate) fn begin() -> Self {
        CURRENT.with(|current| {
            let outer_mode = current.mode.get();
            let outer_scope = current.replace(None, INSIDE | (outer_mode & PASSED_ON));
            Self { outer_scope, outer_mode }
        })
    }

    /// Takes the scope that a poll has left, if a node has joined.
    #[inline]
    pub(super) fn take_scope() -> Option<Rc<Scope>> {
        CURRENT.with(|current| {
            let mode = current.mode.get();
            if mode & SCOPED == 0 {
                return None;
            }
            current.mode.set(mode & !SCOPED);
            current.scope.take()
        })
    }

    /// Lets go of a scope that was made between two polls, where a destructor or a waker has reached a node: it is nobody's,
    /// and the next owner would take it for its own.
    pub(crate) fn drop_stray_scope() {
        drop(Self::take_scope());
    }
}

impl Drop for Shift {
    fn drop(&mut self) {
        CURRENT.with(|current| current.replace(self.outer_scope.take(), self.outer_mode));
    }
}

/// Whether an owner without a scope polls, and nothing is cancelled, frozen or drawn: what other owners are polled under.
#[inline]
pub(crate) fn is_plain() -> bool {
    CURRENT.with(|current| current.mode.get() == INSIDE)
}

/// The current scope, made if this owner has none yet; `None` outside of any owner.
pub(super) fn current_scope() -> Option<Rc<Scope>> {
    CURRENT.with(|current| {
        if current.mode.get() & INSIDE == 0 {
            return None;
        }
        let scope = current.scope.take().unwrap_or_default();
        current.scope.set(Some(Rc::clone(&scope)));
        current.mode.set(current.mode.get() | SCOPED);
        Some(scope)
    })
}

/// Whether `scope` is the current one.
pub(super) fn is_current(scope: &Rc<Scope>) -> bool {
    CURRENT.with(|current| {
        let now = current.scope.take();
        let same = now.as_ref().is_some_and(|now| Rc::ptr_eq(now, scope));
        current.scope.set(now);
        same
    })
}

/// The current scope, if it is the one that is meant.
pub(super) fn current_scope_if(is_meant: impl FnOnce(&Scope) -> bool) -> Option<Rc<Scope>> {
    CURRENT.with(|current| {
        let now = current.scope.take();
        let found = now.clone().filter(|scope| is_meant(scope));
        current.scope.set(now);
        found
    })
}

/// Whether nothing is cancelled, frozen or drawn.
#[inline]
pub(super) fn is_usual() -> bool {
    CURRENT.with(|current| current.mode.get() < UNWINDING)
}

/// Whether what is polled now was cancelled.
pub(crate) fn is_unwinding() -> bool {
    CURRENT.with(|current| current.mode.get() & UNWINDING != 0)
}

/// Polls while the loop lends.
pub(crate) fn lending<R>(poll: impl FnOnce() -> R) -> R {
    struct Restore;
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.with(|current| current.mode.set(current.mode.get() & !LENDING));
        }
    }
    CURRENT.with(|current| current.mode.set(current.mode.get() | LENDING));
    let _restore = Restore;
    poll()
}

/// Whether the loop lends.
#[inline]
pub(crate) fn is_lending() -> bool {
    CURRENT.with(|current| current.mode.get() & LENDING != 0)
}

/// Whether an owner is polling on this thread.
pub(crate) fn is_inside() -> bool {
    CURRENT.with(|current| current.mode.get() & INSIDE != 0)
}

/// Whether code that is being polled right now has been cancelled.
#[inline]
pub(crate) fn is_frozen() -> bool {
    CURRENT.with(|current| current.mode.get() & FROZEN != 0)
}

/// What a leaf asks at the start of each poll: whether it may look at what it waits for. If not, it is pending and
/// registers nothing.
///
/// `describe` says what the leaf waits for; called only while the tree is drawn.
#[inline]
pub(crate) fn gate<N: Into<Node>>(cx: &mut Context<'_>, describe: impl FnOnce() -> N) -> bool {
    let mode = CURRENT.with(|current| current.mode.get());
    mode < UNWINDING || refuse(cx, describe)
}

/// Whatever a leaf has to do that may not go on.
#[cold]
fn refuse<N: Into<Node>>(cx: &mut Context<'_>, describe: impl FnOnce() -> N) -> bool {
    let mode = CURRENT.with(|current| current.mode_that_counts());
    if mode & INSPECTING != 0 {
        draw_leaf(describe().into());
    }
    stay_pending(mode, cx)
}

/// Has what may not go on polled again when it may; whether it may already.
fn stay_pending(mode: u8, cx: &Context<'_>) -> bool {
    // What is frozen or drawn is asked again once that is over. What is only under an unwinding scope never is.
    if mode & FROZEN != 0 || mode & (INSPECTING | UNWINDING) == INSPECTING {
        wait_for_thaw(cx);
    }
    mode < UNWINDING
}

/// Whether whoever has polled something that is still pending may cancel it now. Not if that has just cancelled itself, or was drawn:
/// then it is for the next poll, which comes.
#[inline]
pub(crate) fn may_cancel(cx: &Context<'_>) -> bool {
    is_usual() || stay_pending(CURRENT.with(|current| current.mode_that_counts()), cx)
}

/// Stays pending, and is polled again when the thread is not frozen or inspecting any more.
///
/// That does not come where a foreign executor inside of a task polls, which does not return. If it is only drawn, it goes on then.
///
/// # Panics
/// When such an executor polls what is frozen.
pub(super) fn wait_for_thaw(cx: &Context<'_>) {
    let n_vain_polls = count_vain_poll();
    assert!(
        !is_frozen() || n_vain_polls <= MAX_FROZEN_POLLS,
        "code that has cancelled itself is polled again and again and cannot go on; is it inside of a `block_on`? Await the \
         future instead, or return before"
    );
    cx.waker().wake_by_ref();
}

fn count_vain_poll() -> u32 {
    let n_vain_polls = CURRENT.with(|current| current.n_vain_polls.get()) + 1;
    if n_vain_polls == MAX_DRAWN_POLLS {
        // Something may be hidden that somebody will wake.
        inspecting(|drawing| {
            drawing.leaf(Node::new(Kind::Wait, "more than is drawn"));
            drawing.hope();
        });
    }
    CURRENT.with(|current| current.n_vain_polls.set(n_vain_polls));
    n_vain_polls
}

/// Called for leaves and nodes that were not reached before: under an unwinding scope that proves that cancelled code ran
/// on, which is reported.
#[inline]
pub(super) fn report_if_ran_on(what: &str) {
    let mode = CURRENT.with(|current| current.mode.get());
    if mode & UNWINDING != 0
        && mode & (INSPECTING | FROZEN) == 0
        && let Some(scope) = current_scope()
    {
        scope.report_ran_on(what);
    }
}

/// Cancelled code that is being polled right now, between the cancellation and the return of that poll.
///
/// Every owner on the stack has a depth; the cancelled one and everything below it stays pending from now on, until
/// [`Frozen::thaw`] at the depth of the cancelled owner.
pub(crate) fn freeze(depth: u32) {
    CURRENT.with(|current| {
        current.mode.set(current.mode.get() | FROZEN);
        current.frozen_depth.set(current.frozen_depth.get().min(depth));
    });
}

/// Polls below what was cancelled in this very poll, and is not to come back from there before something below has gone on.
pub(crate) fn thawed<R>(poll: impl FnOnce() -> R) -> R {
    struct Restore {
        frozen: u8,
        depth: u32,
    }
    impl Drop for Restore {
        fn drop(&mut self) {
            // What was cancelled meanwhile is frozen still.
            CURRENT.with(|current| {
                current.mode.set(current.mode.get() | self.frozen);
                current.frozen_depth.set(current.frozen_depth.get().min(self.depth));
            });
        }
    }
    let _restore = CURRENT.with(|current| {
        let frozen = current.mode.get() & FROZEN;
        current.mode.set(current.mode.get() & !FROZEN);
        Restore { frozen, depth: current.frozen_depth.replace(u32::MAX) }
    });
    poll()
}

/// Where a poll stands that finds the thread frozen.
pub(crate) enum Frozen {
    /// The cancelled owner is this one; everything goes on as usual now.
    Here,
    /// The cancelled owner is further up: stop and return.
    Above,
}

impl Frozen {
    /// Called by whoever polls owners of `depth` when one has returned and the thread is frozen.
    pub(crate) fn thaw(depth: u32) -> Self {
        CURRENT.with(|current| {
            if current.frozen_depth.get() < depth {
                return Self::Above;
            }
            current.frozen_depth.set(u32::MAX);
            current.n_vain_polls.set(0);
            current.mode.set(current.mode.get() & !FROZEN);
            Self::Here
        })
    }
}

/// Polls once in inspecting mode and gives what the leaves and groups said.
///
/// For the code between, this is a spurious poll: leaves stay pending and are woken again.
pub(crate) fn inspect(poll: impl FnOnce()) -> Drawing {
    inspect_on(Drawing::default(), poll)
}

/// The same for the whole tree, after its workers were asked to draw what they have.
pub(crate) fn inspect_tree(poll: impl FnOnce()) -> Drawing {
    inspect_on(Drawing::of_tree(), poll)
}

fn inspect_on(drawing: Drawing, poll: impl FnOnce()) -> Drawing {
    struct Restore {
        mode: u8,
        n_vain_polls: u32,
    }
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.with(|current| {
                // What was cancelled meanwhile is frozen still.
                current.mode.set(self.mode | (current.mode.get() & FROZEN));
                current.n_vain_polls.set(self.n_vain_polls);
            });
        }
    }
    let around = INSPECTION.with(|slot| slot.replace(Some(drawing)));
    let restore = CURRENT.with(|current| Restore {
        mode: current.mode.replace(current.mode.get() | INSPECTING),
        n_vain_polls: current.n_vain_polls.replace(0),
    });
    poll();
    drop(restore);
    INSPECTION.with(|slot| slot.replace(around)).unwrap_or_default()
}

/// A set whose members are drawn, one after the other, until this is dropped.
pub(crate) struct DrawnSet {
    n_vain_polls_around: u32,
}

impl DrawnSet {
    pub(crate) fn begin() -> Self {
        Self { n_vain_polls_around: CURRENT.with(|current| current.n_vain_polls.get()) }
    }

    /// A member is drawn. If its drawing is given up, the others are drawn all the same.
    pub(crate) fn begin_one(&self) {
        CURRENT.with(|current| current.n_vain_polls.set(0));
    }
}

impl Drop for DrawnSet {
    fn drop(&mut self) {
        CURRENT.with(|current| current.n_vain_polls.set(self.n_vain_polls_around));
        count_vain_poll();
    }
}

/// Whether the tree is being drawn.
#[inline]
pub(crate) fn is_inspecting() -> bool {
    CURRENT.with(|current| current.mode.get() & INSPECTING != 0 && current.mode_that_counts() & INSPECTING != 0)
}

/// Calls `draw` with the drawing if the tree is being drawn; tells whether it is.
#[inline]
pub(crate) fn inspecting(draw: impl FnOnce(&mut Drawing)) -> bool {
    let is_inspecting = is_inspecting();
    if is_inspecting {
        draw_on(draw);
    }
    is_inspecting
}

fn draw_on(draw: impl FnOnce(&mut Drawing)) {
    INSPECTION.with(|slot| slot.borrow_mut().as_mut().map(draw));
}

fn draw_leaf(node: Node) {
    inspecting(|drawing| drawing.leaf(node));
}

fn enter(node: Node) {
    inspecting(|drawing| drawing.enter(node));
}

/// How far something is that is drawn right now.
pub(crate) fn state() -> State {
    if is_unwinding() { State::CleaningUp } else { State::Running }
}

/// Draws a node around all that is drawn until the result is dropped, if the tree is being drawn.
#[inline]
pub(crate) fn draw_around(describe: impl FnOnce() -> Node) -> Around {
    let is_drawn = is_inspecting();
    if is_drawn {
        enter(describe());
    }
    Around { is_drawn }
}

/// See [`draw_around`].
#[must_use]
pub(crate) struct Around {
    is_drawn: bool,
}

impl Drop for Around {
    #[inline]
    fn drop(&mut self) {
        if self.is_drawn {
            // Inside of it the drawing may have been given up.
            draw_on(Drawing::leave);
        }
    }
}
