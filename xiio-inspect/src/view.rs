//! A recording as a page. Nothing is expected of the file: it may be cut off, or anybody's.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

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
    Ok(xiio::__private::recording_page(&text))
}

/// Whether it is a whole recording, and each event has what the page looks at.
pub(crate) fn check(text: &str) -> Result<(), String> {
    // The parser refuses what is nested deeper than 128 brackets.
    let trace: Value = serde_json::from_str(text)
        .map_err(|error| format!("expected a recording, which is JSON; was it cut off? {error}"))?;
    let version = trace.pointer("/otherData/xiio_recording").and_then(Value::as_u64);
    match version {
        Some(VERSION) => {}
        Some(version) => return Err(format!("the recording has version {version}, and this is for version {VERSION}")),
        None => return Err("expected a recording of xiio, with `xiio_recording` in its `otherData`".into()),
    }
    let events = trace.get("traceEvents").and_then(Value::as_array).ok_or("expected an array `traceEvents`")?;
    for (index, event) in events.iter().enumerate() {
        check_event(event).map_err(|error| format!("event {index}: {error}"))?;
    }
    Ok(())
}

fn check_event(event: &Value) -> Result<(), String> {
    let event = event.as_object().ok_or("expected an object")?;
    let phase = text(event, "ph")?;
    text(event, "name")?;
    number(event, "tid")?;
    if event.get("args").is_some_and(|args| !args.is_object()) {
        return Err("expected an object in `args`".into());
    }
    if phase == "M" {
        return Ok(());
    }
    text(event, "cat")?;
    number(event, "ts")?;
    match phase {
        "X" => number(event, "dur"),
        "b" | "e" | "s" | "f" => number(event, "id"),
        "i" => Ok(()),
        other => Err(format!("expected one of the phases M, X, b, e, s, f and i, got {other:?}")),
    }
}

fn text<'a>(event: &'a Map<String, Value>, field: &str) -> Result<&'a str, String> {
    event.get(field).and_then(Value::as_str).ok_or_else(|| format!("expected a text in `{field}`"))
}

fn number(event: &Map<String, Value>, field: &str) -> Result<(), String> {
    let number = event.get(field).and_then(Value::as_f64).filter(|number| *number >= 0.0);
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
