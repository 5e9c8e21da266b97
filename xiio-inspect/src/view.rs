//! A recording as a page. Nothing is expected of the file: it may be cut off, or anybody's.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::text::json;

/// No recording is longer.
const MAX_BYTES: u64 = 1 << 30;

/// The only form there is so far.
const VERSION: u64 = 1;

pub(crate) fn page(file: &Path) -> Result<String, String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let mut text = String::new();
    let opened = File::open(file).map_err(|error| named(&error))?;
    opened.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|error| named(&error))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(named(&"the recording is longer than 1 GiB"));
    }
    check(&text).map_err(|error| named(&error))?;
    Ok(xiio::__private::recording_page(&json(&text)))
}

/// What the page looks at first. The rest is not kept, here and below: a recording may be long, and so may anything in it.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Recording<'a> {
    other_data: Option<OtherData>,
    #[serde(borrow)]
    trace_events: Option<&'a RawValue>,
}

#[derive(serde::Deserialize)]
struct OtherData {
    xiio_recording: Option<u64>,
}

/// Whether it is a whole recording, and each event has what the page looks at.
pub(crate) fn check(text: &str) -> Result<(), String> {
    let recording: Recording<'_> = serde_json::from_str(text)
        .map_err(|error| format!("expected a recording, which is JSON; was it cut off? {error}"))?;
    match recording.other_data.and_then(|about| about.xiio_recording) {
        Some(VERSION) => {}
        Some(version) => return Err(format!("the recording has version {version}, and this is for version {VERSION}")),
        None => return Err("expected a recording of xiio, with `xiio_recording` in its `otherData`".into()),
    }
    let events = recording.trace_events.ok_or("expected an array `traceEvents`")?;
    serde_json::from_str::<Events>(events.get()).map(drop).map_err(|error| format!("in `traceEvents`: {error}"))
}

/// Events that the page can show. Each is looked at as it comes.
struct Events;

impl<'de> Deserialize<'de> for Events {
    fn deserialize<D: Deserializer<'de>>(events: D) -> Result<Self, D::Error> {
        events.deserialize_seq(Self)
    }
}

impl<'de> Visitor<'de> for Events {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut events: A) -> Result<Self, A::Error> {
        let mut index = 0_usize;
        while let Some(event) = events.next_element()? {
            check_event(event).map_err(|error| A::Error::custom(format_args!("event {index}: {error}")))?;
            index += 1;
        }
        Ok(self)
    }
}

#[derive(serde::Deserialize)]
struct Event<'a> {
    ph: String,
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "cat")]
    category: Option<String>,
    tid: Option<f64>,
    ts: Option<f64>,
    dur: Option<f64>,
    id: Option<f64>,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
}

fn check_event(event: &RawValue) -> Result<(), String> {
    let object = |value: &RawValue| value.get().starts_with('{');
    if !object(event) {
        return Err("expected an object".into());
    }
    let event: Event<'_> = serde_json::from_str(event.get()).map_err(|error| error.to_string())?;
    if event.args.is_some_and(|args| !object(args)) {
        return Err("expected an object in `args`".into());
    }
    number("tid", event.tid)?;
    if event.ph == "M" {
        return Ok(());
    }
    event.category.ok_or("expected a text in `cat`")?;
    number("ts", event.ts)?;
    match &*event.ph {
        "X" => number("dur", event.dur),
        "b" | "e" | "s" | "f" => number("id", event.id),
        "i" => Ok(()),
        other => Err(format!("expected one of the phases M, X, b, e, s, f and i, got {other:?}")),
    }
}

fn number(field: &str, value: Option<f64>) -> Result<(), String> {
    let number = value.filter(|number| *number >= 0.0);
    number.map(drop).ok_or_else(|| format!("expected a number in `{field}` that is not negative"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_or_truncated_recording_is_an_error_and_no_crash() {
        let recording = xiio::inspect::record(100);
        xiio::run(xiio::sleep(std::time::Duration::from_millis(1)));
        let whole = recording.to_json();
        check(&whole).unwrap();
        for end in (0..whole.trim_end().len()).filter(|end| whole.is_char_boundary(*end)) {
            assert!(check(&whole[..end]).is_err(), "{end}");
        }
        let deep = "[".repeat(1_000_000);
        let of = |events: &str| format!("{{\"otherData\":{{\"xiio_recording\":1}},\"traceEvents\":{events}}}");
        let hostile = [
            "[]".to_owned(),
            "{\"traceEvents\":[]}".to_owned(),
            whole.replace("\"xiio_recording\":1", "\"xiio_recording\":2"),
            of("7"),
            of("[7]"),
            of("[{\"ph\":\"X\"}]"),
            of("[{\"ph\":\"X\",\"name\":\"\",\"tid\":1,\"cat\":\"\",\"ts\":-1,\"dur\":1}]"),
            of("[{\"ph\":\"?\",\"name\":\"\",\"tid\":1,\"cat\":\"\",\"ts\":1}]"),
            of(&deep),
            deep,
        ];
        for text in hostile {
            assert!(check(&text).is_err(), "{text:.80}");
        }
    }
}
