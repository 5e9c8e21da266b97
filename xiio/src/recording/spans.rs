//! A span of `tracing` for each task, and events for what happens to it: with the names and fields that `console-subscriber` reads.
//!
//! A subscriber is code of the user: it is called while nothing here is borrowed, and a panic of it is an event lost.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::Span;
use tracing::level_filters::LevelFilter;

use super::{Place, ROOT, Why};
use crate::drawing::{FileLine, Kind, Node};

thread_local! {
    static IS_ON: Cell<bool> = const { Cell::new(false) };
    static SPANS: RefCell<HashMap<usize, Rc<Followed>>> = RefCell::default();
    /// Those of the polls that are under way, with their levels; `None` is a member without one.
    static ENTERED: RefCell<Vec<(u32, Option<Span>)>> = const { RefCell::new(Vec::new()) };
}

/// Tells tasks apart, whichever thread they are of.
static N_TASKS: AtomicU64 = AtomicU64::new(0);

/// A task that has a span, or will have one.
enum Followed {
    /// It may get a name before its first poll, and a span has its fields from the start. This is what it was spawned in.
    Spawned(Span),
    /// The span that its polls are in: its own, or, if nobody wants that, the one that it was spawned in.
    Begun { span: Span, is_own: bool },
}

/// Follows the tasks of this thread until the result is dropped, if there is a subscriber.
pub(super) fn begin() -> Option<On> {
    let is_first = LevelFilter::current() != LevelFilter::OFF && !IS_ON.replace(true);
    is_first.then_some(On { _not_send: PhantomData })
}

/// See [`begin`].
pub(super) struct On {
    _not_send: PhantomData<*const ()>,
}

impl Drop for On {
    fn drop(&mut self) {
        IS_ON.set(false);
        let left = SPANS.try_with(RefCell::take).unwrap_or_default();
        // One by one: a map in which a value panics as it goes keeps its memory.
        left.into_values().for_each(|followed| quietly(|| drop(followed)));
    }
}

pub(super) fn is_on() -> bool {
    IS_ON.get()
}

/// Calls a subscriber, if any is to be called.
fn quietly(call: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(call)) {
        // It may panic when it is dropped; with what, is left to leak.
        catch_unwind(AssertUnwindSafe(|| drop(payload))).unwrap_or_else(std::mem::forget);
    }
}

/// To be called and dropped in [`quietly`]: the clone and the drop of a span call the subscriber.
fn followed(key: usize) -> Option<Rc<Followed>> {
    SPANS.try_with(|spans| spans.borrow().get(&key).cloned()).ok().flatten()
}

fn follow(key: usize, followed: Followed) {
    let before = SPANS.try_with(|spans| spans.borrow_mut().insert(key, Rc::new(followed)));
    quietly(|| drop(before));
}

pub(super) fn spawned(key: usize) {
    if is_on() {
        quietly(|| follow(key, Followed::Spawned(Span::current())));
    }
}

pub(super) fn poll_began(level: u32, key: usize, describe: impl FnOnce() -> Node) {
    if !is_on() {
        return;
    }
    let mut entered = None;
    quietly(|| {
        entered = match followed(key).as_deref() {
            Some(Followed::Begun { span, .. }) => Some(span.clone()),
            Some(Followed::Spawned(around)) => Some(begin_span(key, around, &describe())),
            None if key == ROOT => Some(begin_span(key, &Span::current(), &describe())),
            // The body of a group is in the span of who has the group.
            None => None,
        };
        if let Some(span) = &entered {
            span.with_subscriber(|(id, subscriber)| subscriber.enter(id));
        }
    });
    let _ = ENTERED.try_with(|all| all.borrow_mut().push((level, entered)));
}

fn begin_span(key: usize, around: &Span, node: &Node) -> Span {
    let kind = if node.kind() == Kind::Task { "task" } else { "block_on" };
    let place = node.spawned_at();
    let span = tracing::trace_span!(
        target: "tokio::task",
        parent: around,
        "runtime.spawn",
        kind,
        task.name = node.name(),
        task.id = N_TASKS.fetch_add(1, Ordering::Relaxed),
        loc.file = place.map(Location::file),
        loc.line = place.map(Location::line),
        loc.col = place.map(Location::column),
    );
    let is_own = !span.is_disabled();
    // Nobody counts wakers. One stands for all: the console takes a task without any for one that nothing can wake.
    if is_own {
        note_waker(&span, "waker.clone");
    }
    let span = if is_own { span } else { around.clone() };
    follow(key, Followed::Begun { span: span.clone(), is_own });
    span
}

pub(super) fn poll_ended(level: u32) {
    if !is_on() {
        return;
    }
    let pop = || ENTERED.try_with(|all| all.borrow_mut().pop_if(|(at, _)| *at >= level)).ok().flatten();
    while let Some((_, left)) = pop() {
        quietly(|| {
            if let Some(span) = left {
                span.with_subscriber(|(id, subscriber)| subscriber.exit(id));
            }
        });
    }
}

pub(super) fn woken(key: usize) {
    if is_on() {
        quietly(|| {
            if let Some(Followed::Begun { span, is_own: true }) = followed(key).as_deref() {
                note_waker(span, "waker.wake_by_ref");
            }
        });
    }
}

/// Says what is done with a waker of the task of a span.
fn note_waker(span: &Span, op: &str) {
    if let Some(id) = span.id() {
        tracing::trace!(target: "tokio::task::waker", op, task.id = id.into_u64());
    }
}

pub(super) fn cancelled(key: Option<usize>, why: Why, place: Place) {
    if !is_on() {
        return;
    }
    let why = why.as_str();
    let place = || place.map(|place| FileLine(place).to_string());
    quietly(|| match key.and_then(followed).as_deref() {
        Some(Followed::Begun { span, .. } | Followed::Spawned(span)) => {
            tracing::debug!(target: "xiio", parent: span, why, place = place(), "a task was cancelled");
        }
        None => tracing::debug!(target: "xiio", why, place = place(), "cancelled"),
    });
}

pub(super) fn ended(key: usize) {
    if is_on() {
        let span = SPANS.try_with(|spans| spans.borrow_mut().remove(&key));
        quietly(|| drop(span));
    }
}
