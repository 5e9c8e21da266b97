//! The polls of a thread, each inside the one before: one that keeps all others waiting is reported, and each is recorded, where somebody wants
//! to know.
//!
//! Each has its own time only: that of the polls inside is not counted twice.
//!
//! A task is reported as well that is polled in vain again and again. A poll is in vain if it is pending, no leaf was ready in it, and no
//! group inside of it has polled anybody. Besides, the task that was woken last in it is the task itself. So a task that others wake is never
//! taken for one: only its own code knows whether what it did then was of any use.
//!
//! A task that waits in `yield_now` is not reported. That leaf is too hot to note anything here, so the task is drawn first, and the
//! drawing shows it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::budget;
use super::limits::{self, Limits};
use crate::drawing::{Drawing, Node};
use crate::recording;
use crate::report::{Origin, ReportKind, report};
use crate::sys;
use crate::unwind;

/// Whose poll it is.
#[derive(Clone)]
pub(crate) enum Who {
    Root,
    Body,
    Task { origin: Origin, type_name: fn() -> &'static str },
}

/// A poll that is under way, and that somebody wants to hear of.
struct Frame {
    key: usize,
    who: Who,
    /// How many are around it: one that has not been ended is ended by the next at its level.
    level: u32,
    began: Instant,
    /// What the polls inside of it have taken.
    inside: Duration,
    has_inside: bool,
}

/// What is known at the end of a poll.
#[must_use]
pub(crate) struct Noted {
    /// When it has ended, if there was one.
    pub(crate) at: Option<Instant>,
    /// To be reported: the task has been polled in vain too often.
    pub(crate) vain: Option<String>,
}

impl Noted {
    pub(crate) const NOTHING: Self = Self { at: None, vain: None };
}

/// The polls in vain of a member, one after the other.
struct Vain {
    n_polls: usize,
    /// Counted from here.
    since: Instant,
    is_reported: bool,
}

/// They are counted for so long at a time.
const WINDOW: Duration = Duration::from_secs(1);

/// Of so many members at once polls in vain are counted.
const MAX_VAIN: usize = 1 << 10;

thread_local! {
    /// Each inside of the one before.
    static FRAMES: RefCell<Vec<Frame>> = const { RefCell::new(Vec::new()) };
    /// By the keys of the members.
    static VAIN: RefCell<BTreeMap<usize, Vain>> = const { RefCell::new(BTreeMap::new()) };
}

/// Has what is beyond the limits reported on this thread, of the sets that are made from now on.
///
/// A run in the last destructors of a thread is not watched: there is nowhere left to write its polls down.
pub(crate) fn set_limits(limits: Limits) {
    let is_possible = FRAMES.try_with(RefCell::take).is_ok() && VAIN.try_with(RefCell::take).is_ok();
    limits::set(if is_possible { limits } else { Limits::default() });
}

/// What is known of a poll that begins.
pub(crate) struct Begun {
    pub(crate) level: u32,
    /// The time, if it is known.
    pub(crate) at: Option<Instant>,
    /// Of the member.
    pub(crate) key: usize,
    /// What happens to the member is recorded. Of one that was there before it is not, also where the limits want to know of its polls: its end is not
    /// noted either.
    pub(crate) is_recorded: bool,
    /// The member begins by this poll.
    pub(crate) is_new: bool,
}

/// A poll begins of a member, which `describe` draws.
#[cold]
pub(crate) fn begin(begun: &Begun, who: impl FnOnce() -> Who, describe: impl Fn() -> Node) {
    let Begun { level, key, is_recorded, is_new, .. } = *begun;
    let now = begun.at.unwrap_or_else(sys::now);
    if is_recorded {
        recording::poll_began(level, now, key, is_new, describe);
    }
    if limits::current().are_for_polls() {
        let frame = Frame { key, who: who(), level, began: now, inside: Duration::ZERO, has_inside: false };
        // In the last destructors of a thread there is nowhere to write it down.
        let _ = FRAMES.try_with(|frames| {
            let mut frames = frames.borrow_mut();
            frames.last_mut().into_iter().for_each(|outer| outer.has_inside = true);
            frames.push(frame);
        });
    }
}

/// The poll at this level is over, if there is one; or it did not come to one. `woken` is the key of the task that was woken last.
#[cold]
pub(crate) fn end(level: u32, is_recorded: bool, was_polled: bool, woken: Option<usize>) -> Noted {
    let mut noted = Noted::NOTHING;
    if is_recorded {
        recording::poll_ended(level, &mut noted.at, was_polled);
    }
    if limits::current().are_for_polls() {
        noted.vain = judge(level, &mut noted.at, was_polled, woken);
    }
    noted
}

/// Draws what `poll` polls, in the middle of another poll. That is not said to take longer: the drawing is no doing of its code.
pub(crate) fn inspect(poll: impl FnOnce()) -> Drawing {
    let is_watched = limits::current().are_for_polls();
    let innermost = || FRAMES.try_with(|frames| frames.borrow().last().map(|frame| (frame.level, frame.inside)));
    let around = if is_watched { innermost().ok().flatten() } else { None };
    let Some((level, inside)) = around else { return unwind::inspect(poll) };
    let began = sys::now();
    let drawing = unwind::inspect(poll);
    let took = sys::now().saturating_duration_since(began);
    FRAMES.with_borrow_mut(|frames| {
        // The polls that were drawn are part of that.
        let around = frames.last_mut().filter(|frame| frame.level == level);
        around.into_iter().for_each(|frame| frame.inside = inside + took);
    });
    drawing
}

/// Reports a poll that took long, and gives what is to be reported of one in vain. The clock is looked at if there is a poll.
fn judge(level: u32, ended_at: &mut Option<Instant>, was_polled: bool, woken: Option<usize>) -> Option<String> {
    let was_ready = budget::leaves().n_ready() > 0;
    let pop = |frames: &RefCell<Vec<Frame>>| frames.borrow_mut().pop_if(|frame| frame.level >= level);
    let mut text = None;
    while let Some(frame) = FRAMES.try_with(pop).ok().flatten() {
        let now = *ended_at.get_or_insert_with(sys::now);
        let took = now.saturating_duration_since(frame.began);
        let own = took.saturating_sub(frame.inside);
        FRAMES.with_borrow_mut(|frames| frames.last_mut().into_iter().for_each(|outer| outer.inside += took));
        // A drawing takes as long as there are tasks, and is no doing of the program's.
        if limits::current().slow_poll.is_some_and(|limit| own > limit) && !unwind::is_inspecting() {
            report_slow(&frame.who, own);
        }
        if was_polled {
            let is_vain = !was_ready && !frame.has_inside && frame.level == level && woken == Some(frame.key);
            let n_polls = count_vain(frame.key, is_vain, now);
            text = n_polls.map(|n_polls| describe_vain(&frame.who, n_polls));
        }
    }
    text
}

/// Counts anew how often a task is polled in vain.
pub(crate) fn let_off(key: usize) {
    VAIN.with_borrow_mut(|members| members.remove(&key));
}

/// Counts a poll in vain, or forgets those before it. Gives their number if they are too many, for the first time.
fn count_vain(key: usize, is_vain: bool, now: Instant) -> Option<usize> {
    let limit = limits::current().vain_polls;
    if limit == usize::MAX {
        return None;
    }
    let is_recent = |vain: &Vain| now.saturating_duration_since(vain.since) <= WINDOW;
    VAIN.with_borrow_mut(|members| {
        if !is_vain {
            members.remove(&key);
            return None;
        }
        if members.len() >= MAX_VAIN && !members.contains_key(&key) {
            // Who has ended in between is not heard of any more.
            members.retain(|_, vain| is_recent(vain));
            if members.len() >= MAX_VAIN {
                return None;
            }
        }
        let vain = members.entry(key).or_insert(Vain { n_polls: 0, since: now, is_reported: false });
        if !is_recent(vain) {
            (vain.n_polls, vain.since) = (0, now);
        }
        vain.n_polls += 1;
        let is_news = vain.n_polls > limit && !vain.is_reported;
        vain.is_reported |= is_news;
        is_news.then_some(vain.n_polls)
    })
}

/// A poll of the root.
#[cold]
pub(crate) fn of_root<R>(poll: impl FnOnce() -> R) -> R {
    let is_recorded = recording::is_on();
    let begun = Begun { level: 0, at: None, key: recording::ROOT, is_recorded, is_new: false };
    begin(&begun, || Who::Root, recording::root);
    let polled = poll();
    let _ = end(0, is_recorded, true, None);
    polled
}

fn report_slow(who: &Who, own: Duration) {
    let text = format!(
        "{} was polled for {own:.1?} without giving way, and nothing else could run; \
         give what blocks to `in_thread`, and let what computes for long await `yield_now`",
        name_inside(who)
    );
    report(ReportKind::SlowPoll, text);
}

fn describe_vain(who: &Who, n_polls: usize) -> String {
    format!(
        "{} was polled {n_polls} times within a second, and each time it only woke itself: nothing that it awaits was ready; \
         let it await what it waits for, or give way with `yield_now` if it computes",
        name(who)
    )
}

/// Whose poll it was, with who is around a body.
fn name_inside(who: &Who) -> String {
    match who {
        Who::Body => {
            let around = FRAMES.with_borrow(|frames| {
                let mut around = frames.iter().rev().map(|frame| &frame.who);
                around.find(|who| !matches!(who, Who::Body)).map_or_else(|| name(&Who::Root), name)
            });
            format!("the body of a group in {around}")
        }
        who => name(who),
    }
}

fn name(who: &Who) -> String {
    match who {
        Who::Root => "the root".into(),
        Who::Body => "the body of a group".into(),
        Who::Task { origin, type_name } => format!("a task {origin} (`{}`)", type_name()),
    }
}
