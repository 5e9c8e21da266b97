//! A recording as a trace of Chrome's, see "Trace Event Format". Perfetto reads it, and the page of this room.
//!
//! Each member has a track of its own, with a slice for its life and one for each poll. A wake is an arrow from the poll it came from to the
//! poll it led to. A cleanup is an asynchronous slice, as it goes over several polls.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

use super::{Event, Happened, Member, NOBODY, Nanos, Ring, Text};
use crate::drawing::{FileLine, json_string};

/// What a ring had when it was asked, the oldest event first.
pub(crate) struct Kept {
    now: Nanos,
    skipped: Duration,
    n_lost: u64,
    events: Vec<Event>,
    live: Vec<Member>,
    texts: Vec<Text>,
}

/// From when to when a member is known to have lived.
struct Life {
    member: Member,
    from: Nanos,
    to: Nanos,
    is_begun: bool,
    how: Option<&'static str>,
}

impl Kept {
    /// So many of the newest events.
    pub(super) fn of(ring: &Ring, now: Nanos, n_events: usize) -> Self {
        let (newer, older) = ring.events.split_at(ring.next);
        let n_left_out = ring.events.len().saturating_sub(n_events);
        let (n_older, n_newer) = (n_left_out.min(older.len()), n_left_out.saturating_sub(older.len()));
        let mut events = [&older[n_older..], &newer[n_newer..]].concat();
        let open = ring.lanes.iter().flatten().flat_map(|lane| &lane.open).filter(|open| !open.is_elsewhere);
        let open = open.map(|open| {
            let happened = Happened::Polled { took: now.saturating_sub(open.began) };
            Event { at: open.began, member: open.member, happened }
        });
        events.extend(open);
        let live = ring.live.values().map(|life| life.member).collect();
        let n_lost = ring.n_lost + n_left_out as u64;
        Self { now, skipped: ring.skipped, n_lost, events, live, texts: ring.texts.clone() }
    }

    pub(crate) fn write(mut self, note: Option<&str>) -> String {
        // A poll is noted when it ends.
        self.events.sort_by_key(|event| event.at);
        let mut trace = Trace::new();
        let lives = self.lives();
        for life in &lives {
            trace.life(life, &self.texts[life.member.text as usize]);
        }
        self.write_events(&mut trace);
        let mut text = trace.text;
        let _ = write!(
            text,
            "\n],\"displayTimeUnit\":\"ns\",\"otherData\":{{\"xiio_recording\":1,\"program\":{},\"pid\":{},\"lost\":{},\"microseconds\":{}",
            json_string(&program()),
            std::process::id(),
            self.n_lost,
            Micros(self.now)
        );
        if !self.skipped.is_zero() {
            let _ = write!(text, ",\"virtual_microseconds\":{}", self.skipped.as_micros());
        }
        if let Some(note) = note {
            let _ = write!(text, ",\"note\":{}", json_string(note));
        }
        text.push_str("}}\n");
        text
    }

    /// Of all that the events speak of, and of all that live, in the order in which they came.
    fn lives(&self) -> Vec<Life> {
        let mut lives: HashMap<u32, Life> = HashMap::new();
        let begun_before = |member: Member| Life { member, from: 0, to: 0, is_begun: false, how: None };
        for Event { at, member, happened } in &self.events {
            let life = lives.entry(member.number).or_insert_with(|| Life { from: *at, ..begun_before(*member) });
            // The newest knows the name.
            life.member.text = member.text;
            life.to = life.to.max(*at);
            match happened {
                Happened::Spawned => life.is_begun = true,
                Happened::Polled { took } => life.to = life.to.max(*at + *took),
                Happened::Ended { how } => life.how = Some(how.as_str()),
                _ => {}
            }
        }
        for member in &self.live {
            let life = lives.entry(member.number).or_insert_with(|| begun_before(*member));
            (life.to, life.member.text) = (self.now, member.text);
        }
        let mut lives: Vec<Life> = lives.into_values().filter(|life| life.member.number != NOBODY).collect();
        lives.sort_by_key(|life| life.member.number);
        lives
    }

    fn write_events(&self, trace: &mut Trace) {
        let mut n_wakes = 0;
        // By member: the wakes that have not led to a poll yet.
        let mut arrows: HashMap<u32, Vec<u64>> = HashMap::new();
        // By member: the text and the number of each cleanup that has not ended yet, the innermost last.
        let mut cleanups: HashMap<u32, Vec<(u32, u64)>> = HashMap::new();
        for (index, event) in self.events.iter().enumerate() {
            let (at, track) = (event.at, event.member.number);
            match event.happened {
                Happened::Spawned => {}
                // What it was cleaning up was cut off, and what it was woken for it does not come to.
                Happened::Ended { .. } => {
                    for id in arrows.remove(&track).unwrap_or_default() {
                        trace.event("f", track, "wake", "wake", at, format_args!(",\"bp\":\"e\",\"id\":{id}"));
                    }
                    for (text, id) in cleanups.remove(&track).into_iter().flatten().rev() {
                        self.write_cleanup(trace, "e", event, text, id);
                    }
                }
                Happened::Polled { took } => {
                    trace.slice(track, "poll", "poll", at, took);
                    for id in arrows.remove(&track).unwrap_or_default() {
                        trace.event("f", track, "wake", "wake", at, format_args!(",\"bp\":\"e\",\"id\":{id}"));
                    }
                }
                Happened::Woken { by, how } => {
                    n_wakes += 1;
                    let how = how.as_str();
                    if by == NOBODY {
                        trace.slice(by, "loop", how, at, 0);
                    }
                    let args = format_args!(",\"id\":{n_wakes},\"args\":{{\"to\":{track},\"how\":\"{how}\"}}");
                    trace.event("s", by, "wake", "wake", at, args);
                    arrows.entry(track).or_default().push(n_wakes);
                }
                Happened::Cancelled { by, why, place } => {
                    let place = place.map(|place| format!(",{}", place_fields(place))).unwrap_or_default();
                    let why = why.as_str();
                    let args = format_args!(",\"s\":\"t\",\"args\":{{\"by\":{by},\"why\":\"{why}\"{place}}}");
                    trace.event("i", track, "cancel", "cancelled", at, args);
                }
                Happened::CleanupBegan { text } => {
                    let id = index as u64;
                    cleanups.entry(track).or_default().push((text, id));
                    self.write_cleanup(trace, "b", event, text, id);
                }
                Happened::CleanupEnded { text, .. } => {
                    let open = cleanups.entry(track).or_default();
                    if let Some(place) = open.iter().rposition(|(of, _)| *of == text) {
                        let (text, id) = open.remove(place);
                        self.write_cleanup(trace, "e", event, text, id);
                    }
                }
                Happened::Reported { text } => {
                    let Text { what, name, .. } = &self.texts[text as usize];
                    let (name, what) = (json_string(name.as_deref().unwrap_or("report")), json_string(what));
                    let args = format_args!(",\"s\":\"p\",\"args\":{{\"kind\":{name},\"text\":{what}}}");
                    trace.event("i", track, "report", "report", at, args);
                }
            }
        }
        // What was woken last has not been polled: the arrow ends where it was woken.
        for (track, ids) in arrows {
            for id in ids {
                trace.event("f", track, "wake", "wake", self.now, format_args!(",\"bp\":\"e\",\"id\":{id}"));
            }
        }
    }

    fn write_cleanup(&self, trace: &mut Trace, phase: &str, event: &Event, text: u32, id: u64) {
        let Text { what, place, .. } = &self.texts[text as usize];
        let mut fields = vec![];
        fields.extend(place.map(place_fields));
        let is_cut_off =
            matches!(event.happened, Happened::Ended { .. } | Happened::CleanupEnded { is_cut_off: true, .. });
        fields.extend(is_cut_off.then(|| "\"cut_off\":true".into()));
        let args = format_args!(",\"id\":{id},\"args\":{{{}}}", fields.join(","));
        trace.event(phase, event.member.number, "cleanup", what, event.at, args);
    }
}

/// A trace that is being written.
struct Trace {
    text: String,
}

impl Trace {
    fn new() -> Self {
        let mut trace = Self { text: "{\"traceEvents\":[".into() };
        trace.name("process_name", NOBODY, &program());
        trace.name("thread_name", NOBODY, "the loop");
        trace
    }

    fn separate(&mut self) {
        self.text.push_str(if self.text.ends_with('[') { "\n" } else { ",\n" });
    }

    fn name(&mut self, of: &str, track: u32, name: &str) {
        self.separate();
        let name = json_string(name);
        let _ = write!(
            self.text,
            "{{\"ph\":\"M\",\"pid\":1,\"tid\":{track},\"name\":\"{of}\",\"args\":{{\"name\":{name}}}}}"
        );
    }

    fn life(&mut self, life: &Life, text: &Text) {
        let Life { member, from, to, .. } = life;
        let mut label = match (&text.name, text.kind) {
            (Some(name), "group") => format!("group `{name}`"),
            (Some(name), _) => format!("{} `{name}`", text.what),
            (None, _) => text.what.clone(),
        };
        let mut fields = format!("\"kind\":{},\"what\":{}", json_string(text.kind), json_string(&text.what));
        if let Some(name) = &text.name {
            let _ = write!(fields, ",\"name\":{}", json_string(name));
        }
        if let Some(place) = text.place {
            let _ = write!(label, ", {}", FileLine(place));
            let _ = write!(fields, ",{}", place_fields(place));
        }
        if let Some(type_name) = text.type_name {
            let _ = write!(fields, ",\"type\":{}", json_string(type_name));
        }
        if let Some(how) = life.how {
            let _ = write!(fields, ",\"end\":\"{how}\"");
        }
        self.name("thread_name", member.number, &label);
        let parent = member.parent;
        let args = format_args!(
            ",\"dur\":{},\"args\":{{{fields},\"parent\":{parent},\"begun\":{}}}",
            Micros(to.saturating_sub(*from)),
            life.is_begun
        );
        self.event("X", member.number, "life", &label, *from, args);
    }

    fn slice(&mut self, track: u32, category: &str, name: &str, at: Nanos, took: Nanos) {
        self.event("X", track, category, name, at, format_args!(",\"dur\":{}", Micros(took)));
    }

    fn event(&mut self, phase: &str, track: u32, category: &str, name: &str, at: Nanos, rest: std::fmt::Arguments<'_>) {
        self.separate();
        let (name, at) = (json_string(name), Micros(at));
        let _ = write!(
            self.text,
            "{{\"ph\":\"{phase}\",\"pid\":1,\"tid\":{track},\"cat\":\"{category}\",\"name\":{name},\"ts\":{at}{rest}}}"
        );
    }
}

/// Microseconds with three digits behind the point, as the format has them.
struct Micros(Nanos);

impl std::fmt::Display for Micros {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

fn place_fields(place: &std::panic::Location<'_>) -> String {
    format!("\"file\":{},\"line\":{}", json_string(place.file()), place.line())
}

/// The name of this program; that of a test without what Cargo adds to it.
pub(crate) fn program() -> String {
    program_and_hash().0
}

/// The name, and what Cargo adds to it: `0123456789abcdef`, or nothing. Programs of one name differ in that.
pub(crate) fn program_and_hash() -> (String, String) {
    let path = std::env::current_exe().unwrap_or_default();
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let is_hash = |end: &str| end.len() == 16 && end.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (name, hash) = file.rsplit_once('-').filter(|(_, end)| is_hash(end)).unwrap_or((&file, ""));
    (name.to_owned(), hash.to_owned())
}
