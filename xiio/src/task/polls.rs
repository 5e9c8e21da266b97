//! The polls of a thread, each inside the one before: one that keeps all others waiting is reported, and each is recorded, where somebody wants
//! to know.
//!
//! Each has its own time only: that of the polls inside is not counted twice.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use crate::drawing::Node;
use crate::recording;
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
    /// There if slow polls are reported.
    who: Option<Who>,
    /// How many are around it: one that has not been ended is ended by the next at its level.
    level: u32,
    began: Instant,
    /// What the polls inside of it have taken.
    inside: Duration,
    is_recorded: bool,
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

/// A poll begins of the member with the key, which `describe` draws.
#[cold]
pub(crate) fn begin(level: u32, who: impl FnOnce() -> Who, key: usize, describe: impl Fn() -> Node) {
    let (now, is_recorded) = (sys::now(), recording::is_on());
    if is_recorded {
        recording::poll_began(key, now, describe);
    }
    let who = LIMIT.get().map(|_| who());
    let frame = Frame { who, level, began: now, inside: Duration::ZERO, is_recorded };
    let is_kept = FRAMES.try_with(|frames| frames.borrow_mut().push(frame)).is_ok();
    if is_recorded && !is_kept {
        recording::poll_ended(now, false);
    }
}

/// The poll at this level is over, if there is one; or it did not come to one.
#[cold]
pub(crate) fn end(level: u32, was_polled: bool) {
    let pop = |frames: &RefCell<Vec<Frame>>| frames.borrow_mut().pop_if(|frame| frame.level >= level);
    let mut ended_at = None;
    while let Some(frame) = FRAMES.try_with(pop).ok().flatten() {
        let now = *ended_at.get_or_insert_with(sys::now);
        if frame.is_recorded {
            recording::poll_ended(now, was_polled);
        }
        let Some(who) = frame.who else { continue };
        let took = now.saturating_duration_since(frame.began);
        let own = took.saturating_sub(frame.inside);
        FRAMES.with_borrow_mut(|frames| frames.last_mut().into_iter().for_each(|outer| outer.inside += took));
        if LIMIT.get().is_some_and(|limit| own > limit) {
            report_slow(&who, own);
        }
    }
}

/// A poll of the root.
#[cold]
pub(crate) fn of_root<R>(poll: impl FnOnce() -> R) -> R {
    begin(0, || Who::Root, recording::ROOT, recording::root);
    let polled = poll();
    end(0, true);
    polled
}

fn report_slow(who: &Who, own: Duration) {
    let name = match who {
        Who::Body => {
            let around = FRAMES.with_borrow(|frames| {
                let mut around = frames.iter().rev().filter_map(|frame| frame.who.as_ref());
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
