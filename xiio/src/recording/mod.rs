//! What has happened to the tasks of a thread, and of the workers of its groups: the newest events, in a ring.
//!
//! An event has a fixed size. Texts are kept once, and of who lives there is one entry; so a recording does not grow with the time that it lasts.
//! Nothing is written where nobody records: each function here asks one byte of the thread first, and those who call them have asked a flag before.
//!
//! Who is recorded has a key, the address of its header, until it ends. Another one may have the same key later, and has a number of its own.
//!
//! Each thread has a lane in the ring: its root, its polls that are under way, and what its loop is at.
//!
//! Where time is virtual, that of a recording passes as the clock of the run while all wait, and as the system's while somebody is polled. So a poll
//! takes as long as it really took, an hour of sleep takes an hour, and nothing comes before what led to it. When all have waited, the beginning of the
//! recording is moved into the past by what the clock of the run has skipped; so an event costs the same there as anywhere.

mod how;
mod page;
#[cfg_attr(not(feature = "tracing"), path = "no_spans.rs")]
mod spans;
mod tap;
mod trace;
mod why;

pub(crate) use how::{End, How};
pub use page::page;
pub(crate) use tap::{On, OtherLane, SpansOn, begin, begin_spans, current, is_on, other_lane, waited};
pub(crate) use trace::{program, program_and_hash};
pub(crate) use why::Why;

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::drawing::{FileLine, Harmless, Kind, Node};
use crate::sync::{Mutex, lock};
use crate::sys;
use tap::{Tap, noting, with_earlier, with_tap};
use trace::Kept;

/// How many events are kept where nobody says how many.
pub(crate) const CAPACITY: usize = 1 << 17;

/// More different texts than these are not kept at once.
const MAX_TEXTS: usize = 1 << 14;

/// Texts are cut off behind so many characters.
const MAX_CHARS: usize = 2000;

/// The key of the root of the thread, which has no header. In the ring that of each lane has its index for a key.
pub(crate) const ROOT: usize = 0;

/// No more time is skipped in one recording, whatever a test sleeps for: a hundred years, which a number of nanoseconds can count several times.
const MAX_SKIPPED: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Nanoseconds since the recorder was made, with those that were skipped. An event is smaller with them than with a `Duration`, and they are quicker to add.
type Nanos = u64;

/// Where somebody asked for something.
pub(crate) type Place = Option<&'static Location<'static>>;

/// The number of nobody: the loop.
const NOBODY: u32 = 0;

/// The text of a member that nobody has described yet.
const UNKNOWN: u32 = 0;

/// The text of those for which there is no room.
const NOT_KEPT: u32 = 1;

/// The root, as it is drawn.
pub(crate) fn root() -> Node {
    Node::new(Kind::Body, "the root")
}

/// Keeps what happens, for whichever thread asks.
pub(crate) struct Recorder {
    ring: Mutex<Ring>,
}

/// Who is recorded: a task, the body of a group, or the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    number: u32,
    parent: u32,
    /// What it is, among the texts.
    text: u32,
}

/// Nobody, or one that is not known any more.
const NO_MEMBER: Member = Member { number: NOBODY, parent: NOBODY, text: UNKNOWN };

#[derive(Clone, Copy)]
struct Event {
    at: Nanos,
    member: Member,
    happened: Happened,
}

#[derive(Clone, Copy)]
enum Happened {
    Spawned,
    /// A poll has ended.
    Polled {
        took: Nanos,
    },
    /// Put into the queue, by a member or by the loop.
    Woken {
        by: u32,
        how: How,
    },
    /// Of what was asked for, `place` says where.
    Cancelled {
        by: u32,
        why: Why,
        place: Place,
    },
    /// A cleanup of a cancelled future: what it is, among the texts.
    CleanupBegan {
        text: u32,
    },
    CleanupEnded {
        text: u32,
        is_cut_off: bool,
    },
    Ended {
        how: End,
    },
    Reported {
        text: u32,
    },
}

/// What is said of a member, a cleanup or a report, once for all that say the same.
#[derive(Clone)]
struct Text {
    kind: &'static str,
    what: String,
    name: Option<String>,
    place: Option<&'static Location<'static>>,
    type_name: Option<&'static str>,
}

impl Text {
    fn of_cleanup(label: &'static str, place: Place) -> Self {
        Self { kind: "cleanup", what: label.into(), name: None, place, type_name: None }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} `{}`", Harmless(&self.what), Harmless(name))?,
            None => write!(f, "{}", Harmless(&self.what))?,
        }
        self.place.map_or(Ok(()), |place| write!(f, ", spawned at {}", FileLine(place)))
    }
}

/// What tells texts apart. A place and a type are told by their address.
#[derive(PartialEq, Eq, Hash)]
struct TextKey {
    kind: &'static str,
    what: String,
    name: Option<String>,
    place: usize,
    type_name: usize,
}

/// How it has gone with a member that has not ended.
#[derive(Clone, Copy)]
struct Life {
    member: Member,
    since: Nanos,
    n_polls: u64,
    /// In its polls, but not in those inside of them.
    busy: Nanos,
    /// When it was cancelled, by whom, and why. Of several times the first; but a group goes on after it was asked to cancel its tasks.
    cancelled: Option<Cancelled>,
}

/// See [`Life`].
#[derive(Clone, Copy)]
struct Cancelled {
    at: Nanos,
    by: Member,
    why: Why,
    place: Place,
}

impl Cancelled {
    /// In words behind "as"; `None` where what is around says it.
    fn reason(&self, by: &Text) -> Option<String> {
        let cause = match (self.why, self.place) {
            (Why::WithGroup, None) => return None,
            (Why::WithGroup, Some(_)) => "its group was cancelled",
            (why, _) => why.as_str(),
        };
        let place = self.place.map(|place| format!(" at {}", FileLine(place)));
        let by = (self.by.number != NOBODY).then(|| format!(" by {by}"));
        Some(format!("{cause}{}{}", place.unwrap_or_default(), by.unwrap_or_default()))
    }
}

/// [`Life`] for whoever draws a member.
pub(crate) struct TaskStats {
    pub(crate) number: u32,
    pub(crate) age: Duration,
    pub(crate) n_polls: u64,
    pub(crate) busy: Duration,
    pub(crate) cancelled: Option<Cancellation>,
}

/// When and why a member was cancelled.
pub(crate) struct Cancellation {
    pub(crate) ago: Duration,
    /// In words behind "as", where what is around does not say it.
    pub(crate) reason: Option<String>,
}

/// A poll that is under way.
#[derive(Clone, Copy)]
struct Open {
    key: usize,
    member: Member,
    level: u32,
    began: Nanos,
    /// What the polls inside of it have taken.
    inside: Nanos,
    /// Its events go to a newer recorder. Here it is known for as long as it lasts, to those who ask what keeps the loop.
    is_elsewhere: bool,
}

struct Ring {
    /// When the recorder was made; earlier by all that was skipped since then.
    started: Instant,
    skipped: Duration,
    capacity: usize,
    events: Vec<Event>,
    /// Where the next one goes once the ring is full.
    next: usize,
    n_lost: u64,
    /// The number that was given last.
    number: u32,
    /// The numbers that were in use when they last began anew, the greatest first: none of them is given again. Those that were passed are gone.
    taken: Vec<u32>,
    live: HashMap<usize, Life, BuildHasherDefault<Spread>>,
    /// The keys of those who live and have begun a cleanup, by their numbers.
    cleaning: HashMap<u32, usize, BuildHasherDefault<Spread>>,
    /// The first is home's. One whose thread has left is `None`.
    lanes: Vec<Option<Lane>>,
    /// That of the thread that is noting.
    lane: usize,
    /// When home was recorded last.
    ended_at: Option<Nanos>,
    texts: Vec<Text>,
    /// The places of texts that nothing speaks of any more.
    free_texts: Vec<u32>,
    /// How many events were lost when such texts were looked for last.
    n_lost_before: u64,
    /// Names and reports may be a stranger's choice, so they are spread in a way that nobody knows.
    text_keys: HashMap<TextKey, u32>,
    /// The texts of tasks without a name, by the addresses of place and type.
    spots: HashMap<(usize, usize), u32, BuildHasherDefault<Spread>>,
}

/// What is known of a thread.
#[derive(Clone)]
struct Lane {
    /// Each inside of the one before.
    open: Vec<Open>,
    /// When a poll began or ended last, or a member was drawn.
    turned_at: Nanos,
    /// It is a worker's that waits for one of its own.
    is_held_up: bool,
}

impl Lane {
    const NEW: Self = Self { open: Vec::new(), turned_at: 0, is_held_up: false };
}

/// Spreads addresses and numbers over a table. They are no stranger's choice.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

thread_local! {
    /// What the loop is at when nobody is polled, and when it has first woken somebody for that.
    static SOURCE: Cell<(How, Option<Instant>)> = const { Cell::new((How::Loop, None)) };
    /// What is carried out now.
    static ASKED: Cell<Option<Asked>> = const { Cell::new(None) };
}

/// A task was spawned into the group that `group` is the key of.
pub(crate) fn spawned(task: usize, group: usize, describe: impl FnOnce() -> Node) {
    spans::spawned(task);
    noting(|ring, at| {
        let parent = ring.member(group, at, false, || None).number;
        ring.add(task, at, parent, true, Some(&describe()));
    });
}

/// A task has a name now.
pub(crate) fn described(task: usize, node: &Node) {
    noting(|ring, _| {
        let text = ring.text_of_node(node);
        if let Some(life) = ring.live.get_mut(&task) {
            life.member.text = text;
        }
    });
}

/// How it has gone with a member until now, if it is recorded.
#[cold]
pub(crate) fn stats(key: usize) -> Option<TaskStats> {
    let mut stats = None;
    noting(|ring, at| {
        // A drawing of many goes on, though its polls are not noted.
        ring.lane().turned_at = at;
        stats = ring.live.get(&key).map(|life| TaskStats {
            number: life.member.number,
            age: Duration::from_nanos(at.saturating_sub(life.since)),
            n_polls: life.n_polls,
            busy: Duration::from_nanos(life.busy),
            cancelled: life.cancelled.map(|cancelled| Cancellation {
                ago: Duration::from_nanos(at.saturating_sub(cancelled.at)),
                reason: cancelled.reason(&ring.texts[cancelled.by.text as usize]),
            }),
        });
    });
    stats
}

/// A poll begins, inside of the one that is under way. So many levels are around it: one that has not been ended ends with the one around it, or
/// with the next at its level. A member that `is_new` has begun by that.
pub(crate) fn poll_began(level: u32, now: Instant, key: usize, is_new: bool, describe: impl Fn() -> Node) {
    spans::poll_began(level, key, &describe);
    with_tap(|tap| {
        tap.with_ring(|ring| {
            let at = ring.time_of(now);
            let key = if key == ROOT { ring.lane } else { key };
            let member = ring.member(key, at, is_new, || Some(describe()));
            ring.open(Open { key, member, level, began: at, inside: 0, is_elsewhere: false });
        });
    });
    with_earlier(|tap| {
        tap.with_ring(|ring| {
            let at = ring.time_of(now);
            let key = if key == ROOT { ring.lane } else { key };
            let member = ring.live.get(&key).map(|life| life.member);
            let member = member.unwrap_or_else(|| ring.stranger(&describe()));
            ring.open(Open { key, member, level, began: at, inside: 0, is_elsewhere: true });
        });
    });
}

/// The poll at this level has ended, if there is one; if it came to none after all, it is forgotten. `now` is set if there is one.
pub(crate) fn poll_ended(level: u32, now: &mut Option<Instant>, was_polled: bool) {
    spans::poll_ended(level);
    let mut end = |tap: &Tap| tap.with_ring(|ring| ring.end_polls(level, now, was_polled));
    with_tap(&mut end);
    with_earlier(end);
}

/// Wakes from here on are the loop's, for what it is at, unless a member is polled.
#[inline]
pub(crate) fn set_source(source: How) {
    if is_on() {
        SOURCE.set((source, None));
    }
}

/// When the loop wakes somebody, and for what. All that it finds at one look have the time of the first: nobody is polled in between.
fn woken_by_loop() -> (How, Instant) {
    let (source, found_at) = SOURCE.get();
    let at = found_at.unwrap_or_else(sys::now);
    // Elsewhere than in its turn the loop does not say when it looks again.
    SOURCE.set((source, (source != How::Loop).then_some(at)));
    (source, at)
}

/// A member was put into the queue, by whoever is polled now.
pub(crate) fn woken(key: usize) {
    spans::woken(key);
    with_tap(|tap| {
        tap.with_ring(|ring| {
            let Some(member) = ring.live.get(&key).map(|life| life.member) else { return };
            let (by, (how, at)) = match ring.lane().open.iter().rfind(|open| !open.is_elsewhere) {
                Some(open) => (open.member.number, (How::Task, sys::now())),
                None => (NOBODY, woken_by_loop()),
            };
            ring.push(ring.time_of(at), member, Happened::Woken { by, how });
        });
    });
}

/// Where somebody has asked for a cancellation that another thread carries out, and who that was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) place: Place,
    by: Option<Asker>,
}

/// A member, with its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asker {
    key: usize,
    member: Member,
}

impl Asked {
    /// Whoever is polled now on this thread asks, if that is recorded.
    pub(crate) fn at(place: Place) -> Self {
        let mut by = None;
        if is_on() {
            noting(|ring, _| {
                let (key, member) = ring.polled_with_key();
                by = Some(Asker { key, member });
            });
        }
        Self { place, by }
    }

    /// What is [`cancelled`] in here is by who has asked; by nobody, if that has ended since.
    pub(crate) fn carry_out(self, cancel: impl FnOnce()) {
        struct Restore(Option<Asked>);
        impl Drop for Restore {
            fn drop(&mut self) {
                ASKED.set(self.0);
            }
        }
        let _restore = Restore(ASKED.replace(Some(self)));
        cancel();
    }
}

/// A member was cancelled, by whoever is polled now; `None` is that one itself, or a part of it. `place` is where that was asked for.
pub(crate) fn cancelled(key: Option<usize>, why: Why, place: Place) {
    spans::cancelled(key, why, place);
    noting(|ring, at| {
        let by = match ASKED.get() {
            Some(Asked { by, .. }) => {
                by.filter(|by| ring.is_live(by.key, by.member.number)).map_or(NO_MEMBER, |by| by.member)
            }
            None => ring.polled(),
        };
        let life = key.and_then(|key| ring.live.get_mut(&key));
        let member = life.map_or(key.is_none().then_some(by), |life| {
            let is_first = life.cancelled.is_none_or(|before| before.why == Why::AskedFor && why != Why::WithGroup);
            if is_first {
                life.cancelled = Some(Cancelled { at, by, why, place });
            }
            Some(life.member)
        });
        if let Some(member) = member {
            ring.push(at, member, Happened::Cancelled { by: by.number, why, place });
        }
    });
}

/// A cleanup has begun, of the group with this key or of whoever is polled now. Gives the number of that member for [`cleanup_ended`].
#[inline]
pub(crate) fn cleanup_began(group: Option<usize>, label: &'static str, place: Place) -> u32 {
    let mut number = NOBODY;
    if is_on() {
        noting(|ring, at| {
            let group = group.and_then(|group| Some((group, ring.live.get(&group)?.member)));
            let (key, member) = group.unwrap_or_else(|| ring.polled_with_key());
            if ring.is_live(key, member.number) {
                ring.cleaning.insert(member.number, key);
            }
            let text = ring.text(Text::of_cleanup(label, place));
            ring.push(at, member, Happened::CleanupBegan { text });
            number = member.number;
        });
    }
    number
}

/// A cleanup of the member with the number has ended: cut off, by itself, or by a panic. Those of a member that has ended have ended with it.
#[inline]
pub(crate) fn cleanup_ended(number: u32, label: &'static str, place: Place, is_cut_off: bool) {
    if is_on() {
        noting(|ring, at| {
            // Who drops it is not always the one whose it is. Of one that nobody has noted nothing else is known.
            let polled = Some(ring.polled()).filter(|polled| [polled.number, NOBODY].contains(&number));
            let other = || {
                let key = *ring.cleaning.get(&number)?;
                ring.is_live(key, number).then(|| ring.live[&key].member)
            };
            if let Some(member) = polled.or_else(other) {
                let text = ring.text(Text::of_cleanup(label, place));
                ring.push(at, member, Happened::CleanupEnded { text, is_cut_off });
            }
        });
    }
}

/// A member has ended.
pub(crate) fn ended(key: usize, how: End) {
    spans::ended(key);
    let end = |ring: &mut Ring, at| {
        ring.end(key, at, how);
    };
    noting(end);
    // It would live for ever in those who get the events again later, and another one has its key by then.
    with_earlier(|tap| tap.note(end));
}

/// The worker that is recorded here waits for one of its own that is in a poll, or does so no more.
pub(crate) fn set_held_up(is_held_up: bool) {
    if is_on() {
        noting(|ring, _| ring.lane().is_held_up = is_held_up);
    }
}

/// Something was reported, in the poll of whoever is polled now.
pub(crate) fn reported(kind: impl FnOnce() -> String, what: &str) {
    if is_on() {
        noting(|ring, at| {
            let (member, name) = (ring.polled(), Some(kind()));
            let what = what.chars().take(MAX_CHARS).collect();
            let text = ring.text(Text { kind: "report", what, name, place: None, type_name: None });
            ring.push(at, member, Happened::Reported { text });
        });
    }
}

/// The innermost poll that is under way.
pub(crate) struct Busy {
    /// Since a poll began or ended last, or a member was drawn.
    pub(crate) since: Instant,
    /// Of the task that is polled, or whose future has the group that is; `None` is the root.
    pub(crate) task: Option<(&'static Location<'static>, Option<String>)>,
    /// It is on a worker.
    pub(crate) is_worker: bool,
}

impl Recorder {
    /// One that keeps so many events.
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        let mut ring = Ring {
            started: sys::now(),
            skipped: Duration::ZERO,
            capacity: capacity.max(1),
            events: Vec::new(),
            next: 0,
            n_lost: 0,
            number: NOBODY,
            taken: Vec::new(),
            live: HashMap::default(),
            cleaning: HashMap::default(),
            lanes: vec![Some(Lane::NEW)],
            lane: 0,
            ended_at: None,
            texts: Vec::new(),
            free_texts: Vec::new(),
            n_lost_before: 0,
            text_keys: HashMap::default(),
            spots: HashMap::default(),
        };
        for what in ["not described", "more than are kept"] {
            ring.text(Text { kind: "unknown", what: what.into(), name: None, place: None, type_name: None });
        }
        ring.add(ROOT, 0, NOBODY, true, Some(&root()));
        Arc::new(Self { ring: Mutex::new(ring) })
    }

    fn with_ring<R>(&self, look: impl FnOnce(&mut Ring) -> R) -> R {
        look(&mut lock(&self.ring))
    }

    /// What is being polled: at home, or, as home waits for a worker that is in a task, there since the longest time; `None` while the loop waits.
    pub(crate) fn busy(&self) -> Option<Busy> {
        self.with_ring(|ring| {
            let busy_in = |lane: &Option<Lane>| lane.as_ref().and_then(|lane| ring.busy_in(lane));
            let at_home = ring.lanes.first().and_then(busy_in);
            let others = ring.lanes.iter().skip(1).filter(|lane| lane.as_ref().is_some_and(|lane| !lane.is_held_up));
            let on_workers = others.filter_map(busy_in).filter(|busy| busy.task.is_some());
            let on_worker = on_workers.min_by_key(|busy| busy.since);
            on_worker.map(|busy| Busy { is_worker: true, ..busy }).or(at_home)
        })
    }

    /// Keeps so many events from now on, if that is more.
    pub(crate) fn grow(&self, capacity: usize) {
        self.with_ring(|ring| {
            if capacity > ring.capacity {
                ring.events.rotate_left(ring.next);
                (ring.next, ring.capacity) = (0, capacity);
            }
        });
    }

    /// The recording so far, in the format of Chrome's traces, which Perfetto reads. `note` says what it is of.
    pub(crate) fn trace(&self, note: Option<&str>) -> String {
        self.newest(usize::MAX).write(note)
    }

    /// So many of the newest events, to be written outside of the lock: the thread that is recorded goes on meanwhile.
    pub(crate) fn newest(&self, n_events: usize) -> Kept {
        // The clock is read in there: nothing is noted that is later.
        self.with_ring(|ring| Kept::of(ring, ring.ended_at.unwrap_or_else(|| ring.time_of(sys::now())), n_events))
    }
}

impl Ring {
    #[inline]
    fn time_of(&self, now: Instant) -> Nanos {
        let time = now.saturating_duration_since(self.started);
        time.as_secs() * 1_000_000_000 + u64::from(time.subsec_nanos())
    }

    /// What is being polled in a lane.
    fn busy_in(&self, lane: &Lane) -> Option<Busy> {
        let texts = lane.open.iter().rev().map(|open| &self.texts[open.member.text as usize]);
        let mut tasks = texts.filter_map(|text| Some((text.place?, text.name.clone())));
        let since = self.started + Duration::from_nanos(lane.turned_at);
        (!lane.open.is_empty()).then(|| Busy { since, task: tasks.next(), is_worker: false })
    }

    /// What comes from now on comes so much later. A poll that is under way, which is none of the thread that has waited, has not taken longer for that.
    fn skip(&mut self, by: Duration) {
        let by = by.min(MAX_SKIPPED - self.skipped);
        // A system whose clock cannot go back so far records the time that has really passed.
        let Some(started) = self.started.checked_sub(by) else { return };
        self.started = started;
        self.skipped += by;
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        for lane in self.lanes.iter_mut().flatten().filter(|lane| !lane.open.is_empty()) {
            lane.turned_at += nanos;
            lane.open.iter_mut().for_each(|open| open.began += nanos);
        }
    }

    /// That of the thread that is noting.
    #[inline]
    fn lane(&mut self) -> &mut Lane {
        self.lanes[self.lane].get_or_insert(Lane::NEW)
    }

    /// The thread that is noting notes no more.
    fn end_lane(&mut self, now: Instant) {
        let at = self.time_of(now);
        if self.lane == 0 {
            self.ended_at = Some(at);
            return;
        }
        self.lanes[self.lane] = None;
        self.end(self.lane, at, End::Plain);
    }

    /// The member with a key has ended, if it is known.
    fn end(&mut self, key: usize, at: Nanos, how: End) {
        let Some(Life { member, .. }) = self.live.remove(&key) else { return };
        if !self.cleaning.is_empty() {
            self.cleaning.remove(&member.number);
        }
        self.push(at, member, Happened::Ended { how });
    }

    #[inline]
    fn push(&mut self, at: Nanos, member: Member, happened: Happened) {
        let event = Event { at, member, happened };
        if self.events.len() < self.capacity {
            return self.events.push(event);
        }
        self.events[self.next] = event;
        self.next = if self.next + 1 == self.capacity { 0 } else { self.next + 1 };
        self.n_lost += 1;
    }

    /// A poll is under way.
    fn open(&mut self, poll: Open) {
        let lane = self.lane();
        lane.turned_at = poll.began;
        lane.open.push(poll);
    }

    /// Ends the polls from this level on.
    fn end_polls(&mut self, level: u32, now: &mut Option<Instant>, was_polled: bool) {
        while let Some(open) = self.lane().open.pop_if(|open| open.level >= level) {
            let at = self.time_of(*now.get_or_insert_with(sys::now));
            self.lane().turned_at = at;
            if was_polled {
                self.end_poll(&open, at.saturating_sub(open.began));
            }
        }
    }

    /// A poll has taken so long.
    fn end_poll(&mut self, open: &Open, took: Nanos) {
        if !open.is_elsewhere {
            self.push(open.began, open.member, Happened::Polled { took });
            if let Some(life) = self.live.get_mut(&open.key) {
                life.n_polls += 1;
                life.busy += took.saturating_sub(open.inside);
            }
        }
        if let Some(outer) = self.lane().open.last_mut() {
            outer.inside += took;
        }
    }

    /// Whoever is polled now: the root where nobody is.
    fn polled(&mut self) -> Member {
        self.polled_with_key().1
    }

    fn polled_with_key(&mut self) -> (usize, Member) {
        let open = self.lane().open.iter().rfind(|open| !open.is_elsewhere).map(|open| (open.key, open.member));
        open.unwrap_or_else(|| (self.lane, self.live[&self.lane].member))
    }

    /// Whether a member with this number has this key.
    fn is_live(&self, key: usize, number: u32) -> bool {
        self.live.get(&key).is_some_and(|life| life.member.number == number)
    }

    /// The member with a key. One that is not known yet is in whoever is polled, and is older than the recorder unless it `is_new`.
    #[inline]
    fn member(&mut self, key: usize, at: Nanos, is_new: bool, describe: impl FnOnce() -> Option<Node>) -> Member {
        match self.live.get(&key) {
            Some(life) if life.member.text != UNKNOWN => life.member,
            _ => self.describe(key, at, is_new, describe().as_ref()),
        }
    }

    #[cold]
    fn describe(&mut self, key: usize, at: Nanos, is_new: bool, node: Option<&Node>) -> Member {
        let text = node.map_or(UNKNOWN, |node| self.text_of_node(node));
        if let Some(life) = self.live.get_mut(&key) {
            life.member.text = text;
            let member = life.member;
            if is_new {
                // Somebody has spoken of it before its first poll.
                self.push(at, member, Happened::Spawned);
            }
            return member;
        }
        let parent = self.polled().number;
        self.add(key, at, parent, is_new, node)
    }

    /// One who is no member, as a newer recorder gets his events.
    #[cold]
    fn stranger(&mut self, node: &Node) -> Member {
        Member { number: NOBODY, parent: NOBODY, text: self.text_of_node(node) }
    }

    fn add(&mut self, key: usize, at: Nanos, parent: u32, is_new: bool, node: Option<&Node>) -> Member {
        let text = node.map_or(UNKNOWN, |node| self.text_of_node(node));
        let member = Member { number: self.new_number(), parent, text };
        self.live.insert(key, Life { member, since: at, n_polls: 0, busy: 0, cancelled: None });
        if is_new {
            self.push(at, member, Happened::Spawned);
        }
        member
    }

    /// One that nobody has who lives. There are enough for some days of a busy server.
    fn new_number(&mut self) -> u32 {
        loop {
            self.number = self.number.wrapping_add(1);
            if self.number == NOBODY {
                self.taken = self.live.values().map(|life| life.member.number).collect();
                self.taken.sort_unstable_by(|one, other| other.cmp(one));
            } else if self.taken.pop_if(|taken| *taken == self.number).is_none() {
                return self.number;
            }
        }
    }

    fn text_of_node(&mut self, node: &Node) -> u32 {
        // Most tasks have no name, and texts need not be made to find theirs.
        let spot = node.spawned_at().zip(node.type_name()).filter(|_| node.name().is_none());
        let spot = spot.map(|(place, type_name)| (std::ptr::from_ref(place).addr(), type_name.as_ptr().addr()));
        if let Some(index) = spot.and_then(|spot| self.spots.get(&spot)) {
            return *index;
        }
        let cut = |text: &str| text.chars().take(MAX_CHARS).collect();
        let text = |name| Text {
            kind: node.kind().as_str(),
            what: cut(node.what()),
            name,
            place: node.spawned_at(),
            type_name: node.type_name(),
        };
        let index = match self.text(text(node.name().map(cut))) {
            // There are more names than places.
            NOT_KEPT if node.name().is_some() => self.text(text(None)),
            index => index,
        };
        spot.filter(|_| index != NOT_KEPT).map(|spot| self.spots.insert(spot, index));
        index
    }

    /// Where a text is, put there if it is new.
    fn text(&mut self, text: Text) -> u32 {
        let Text { kind, what, name, place, type_name } = text.clone();
        let address = |place: Option<*const u8>| place.map_or(0, <*const u8>::addr);
        let place = address(place.map(|place| std::ptr::from_ref(place).cast()));
        let key = TextKey { kind, what, name, place, type_name: address(type_name.map(str::as_ptr)) };
        if let Some(index) = self.text_keys.get(&key) {
            return *index;
        }
        if self.texts.len() < MAX_TEXTS {
            self.free_texts.push(self.texts.len() as u32);
            self.texts.push(text.clone());
        } else if self.free_texts.is_empty() {
            self.free_unused_texts();
        }
        let Some(index) = self.free_texts.pop() else { return NOT_KEPT };
        self.texts[index as usize] = text;
        self.text_keys.insert(key, index);
        index
    }

    /// Looks for texts that no event and nobody who lives speaks of: where enough events were lost since the last look to make that worth it.
    #[cold]
    fn free_unused_texts(&mut self) {
        if self.n_lost - self.n_lost_before < self.capacity as u64 / 8 {
            return;
        }
        self.n_lost_before = self.n_lost;
        let of_event = |event: &Event| match event.happened {
            Happened::CleanupBegan { text } | Happened::CleanupEnded { text, .. } | Happened::Reported { text } => text,
            _ => UNKNOWN,
        };
        let mut is_used = vec![false; self.texts.len()];
        let mut keep = |text: u32| is_used[text as usize] = true;
        [UNKNOWN, NOT_KEPT].into_iter().for_each(&mut keep);
        self.events.iter().for_each(|event| [event.member.text, of_event(event)].into_iter().for_each(&mut keep));
        self.lanes.iter().flatten().flat_map(|lane| &lane.open).for_each(|open| keep(open.member.text));
        for life in self.live.values() {
            keep(life.member.text);
            life.cancelled.iter().for_each(|cancelled| keep(cancelled.by.text));
        }
        self.text_keys.retain(|_, text| is_used[*text as usize]);
        self.spots.retain(|_, text| is_used[*text as usize]);
        self.free_texts.extend((0..self.texts.len() as u32).filter(|text| !is_used[*text as usize]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_given_again_once_nobody_has_it() {
        Recorder::new(8).with_ring(|ring| {
            // The loop has none, and the root has the first one.
            let add = |ring: &mut Ring, key| ring.add(key, 0, NOBODY, true, None).number;
            assert_eq!([1, 2, 3, 4].map(|key| add(ring, key)), [2, 3, 4, 5]);
            ring.end(2, 0, End::Value);
            ring.number = u32::MAX - 2;
            assert_eq!([6, 7].map(|key| add(ring, key)), [u32::MAX - 1, u32::MAX]);
            assert_eq!([8, 9, 10].map(|key| add(ring, key)), [3, 6, 7]);
            // Another time around.
            [3, 10].into_iter().for_each(|key| ring.end(key, 0, End::Value));
            ring.number = u32::MAX - 2;
            assert_eq!([11, 12, 13].map(|key| add(ring, key)), [4, 7, 8]);
        });
    }
}
