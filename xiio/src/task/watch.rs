//! How long a poll takes, where somebody wants to know: one that keeps all others waiting is reported.
//!
//! Polls are nested, and each has its own time only: that of the polls inside, which are watched as well, is not counted twice.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use crate::report::{Origin, ReportKind, report};
use crate::sys;

/// Whose poll it is.
#[derive(Clone)]
pub(crate) enum Who {
    Root,
    Body,
    Task { origin: Origin, type_name: fn() -> &'static str },
}

/// A poll that is under way.
struct Frame {
    who: Who,
    /// How many are around it: one that has not been ended is ended by the next at its level.
    level: u32,
    began: Instant,
    /// What the polls inside of it have taken.
    inside: Duration,
}

thread_local! {
    static LIMIT: Cell<Option<Duration>> = const { Cell::new(None) };
    /// Each inside of the one before.
    static FRAMES: RefCell<Vec<Frame>> = const { RefCell::new(Vec::new()) };
}

/// Has each poll on this thread reported that takes longer, of the sets that are made from now on; `None` is none.
///
/// A run in the last destructors of a thread is not watched: there is nowhere left to write its polls down.
pub(crate) fn set_limit(limit: Option<Duration>) {
    let is_possible = FRAMES.try_with(RefCell::take).is_ok();
    LIMIT.set(limit.filter(|_| is_possible));
}

/// What takes longer is reported, of polls on this thread.
pub(crate) fn limit() -> Option<Duration> {
    LIMIT.get()
}

/// Whether anybody wants to know.
pub(crate) fn is_on() -> bool {
    limit().is_some()
}

/// A poll begins.
#[cold]
pub(crate) fn begin(who: Who, level: u32) {
    let frame = Frame { who, level, began: sys::now(), inside: Duration::ZERO };
    FRAMES.with_borrow_mut(|frames| frames.push(frame));
}

/// The poll at this level is over, if there is one.
#[cold]
pub(crate) fn end(level: u32) {
    let now = sys::now();
    let pop = |frames: &mut Vec<Frame>| frames.pop_if(|frame| frame.level >= level);
    while let Some(frame) = FRAMES.with_borrow_mut(pop) {
        let took = now.saturating_duration_since(frame.began);
        let own = took.saturating_sub(frame.inside);
        FRAMES.with_borrow_mut(|frames| frames.last_mut().into_iter().for_each(|outer| outer.inside += took));
        if LIMIT.get().is_some_and(|limit| own > limit) {
            report_slow(&frame.who, own);
        }
    }
}

/// A poll that nothing that is watched is around.
#[cold]
pub(crate) fn watched<R>(who: Who, poll: impl FnOnce() -> R) -> R {
    begin(who, 0);
    let polled = poll();
    end(0);
    polled
}

fn report_slow(who: &Who, own: Duration) {
    let name = match who {
        Who::Body => {
            let around = FRAMES.with_borrow(|frames| {
                let mut around = frames.iter().rev().map(|frame| &frame.who);
                around.find(|who| !matches!(who, Who::Body)).map_or_else(|| name(&Who::Root), name)
            });
            format!("the body of a group in {around}")
        }
        who => name(who),
    };
    let text = format!(
        "{name} was polled for {own:.1?} without giving way, and nothing else could run; \
         give what blocks to `in_thread`, and let what computes for long await `yield_now`"
    );
    report(ReportKind::SlowPoll, text);
}

fn name(who: &Who) -> String {
    match who {
        Who::Root => "the root".into(),
        Who::Body => "the body of a group".into(),
        Who::Task { origin, type_name } => format!("a task {origin} (`{}`)", type_name()),
    }
}
