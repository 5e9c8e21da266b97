//! What a program has answered.

use serde_json::Value;

/// No answer is nested deeper. Whoever looks at one has the stack for that.
const MAX_BRACKETS: usize = 2048;

/// The only form there is so far.
const VERSION: u64 = 1;

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) pid: u64,
    pub(crate) program: String,
    pub(crate) milliseconds_old: u64,
    /// What keeps the loop, where it did not come to draw the tree.
    pub(crate) busy: Option<Busy>,
    /// `None` where it was not drawn.
    pub(crate) tree: Option<Vec<Node>>,
}

/// What is being polled.
#[derive(Debug)]
pub(crate) struct Busy {
    pub(crate) milliseconds: u64,
    /// On a worker, for which the loop waits.
    pub(crate) is_worker: bool,
    pub(crate) name: Option<String>,
    pub(crate) place: Option<Place>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) file: String,
    pub(crate) line: u64,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) kind: String,
    pub(crate) state: String,
    /// It is to begin when another task of its group has ended.
    pub(crate) is_held: bool,
    pub(crate) cancelled_as: Option<String>,
    pub(crate) what: String,
    pub(crate) name: Option<String>,
    pub(crate) place: Option<Place>,
    /// Values that tell a task apart from others of its place.
    pub(crate) locals: Vec<(String, String)>,
    pub(crate) milliseconds_left: Option<u64>,
    pub(crate) milliseconds_cancelled: Option<u64>,
    pub(crate) life: Option<Life>,
    pub(crate) pid: Option<u64>,
    pub(crate) descriptor: Option<String>,
    pub(crate) address: Option<String>,
    pub(crate) peer: Option<String>,
    pub(crate) children: Vec<Node>,
}

/// How it has gone with a task until now.
#[derive(Debug)]
pub(crate) struct Life {
    /// What tells it from others.
    pub(crate) number: u64,
    pub(crate) milliseconds_old: u64,
    pub(crate) polls: u64,
    pub(crate) microseconds_busy: u64,
}

impl Answer {
    /// Expects nothing of what comes: it may be anybody's.
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        let value = json(line)?;
        let version = number(&value, "version")?;
        if version != VERSION {
            return Err(format!("the program answers in version {version}, and this is for version {VERSION}"));
        }
        let tree = value.get("tree").map(nodes).transpose()?;
        let busy = value.get("busy").map(|busy| {
            Ok::<_, String>(Busy {
                milliseconds: number(busy, "milliseconds")?,
                is_worker: busy.get("worker").is_some(),
                name: text(busy, "name").ok(),
                place: place(busy),
            })
        });
        Ok(Self {
            pid: number(&value, "pid")?,
            program: text(&value, "program")?,
            milliseconds_old: number(&value, "milliseconds_old")?,
            busy: busy.transpose()?,
            tree,
        })
    }
}

/// An answer as JSON, if it is not nested too deeply. The parser calls itself for each bracket, and would stop at 128 of them.
fn json(line: &str) -> Result<Value, String> {
    let no_json = |what: &dyn std::fmt::Display| format!("the answer is no JSON that can be read: {what}");
    if depth(line) > MAX_BRACKETS {
        return Err(format!(
            "the answer is nested deeper than {MAX_BRACKETS} brackets, {} levels of a tree",
            MAX_BRACKETS / 2
        ));
    }
    let mut parser = serde_json::Deserializer::from_str(line);
    parser.disable_recursion_limit();
    let mut values = parser.into_iter();
    let value = values.next().ok_or_else(|| no_json(&"it is empty"))?.map_err(|error| no_json(&error))?;
    if values.next().is_some() { Err(no_json(&"something is behind it")) } else { Ok(value) }
}

/// How many brackets are open at once in a text, if it is JSON.
fn depth(line: &str) -> usize {
    let (mut deepest, mut n_open, mut is_string, mut is_escaped) = (0, 0_usize, false, false);
    for byte in line.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_string,
            b'"' => is_string = !is_string,
            b'[' | b'{' if !is_string => n_open += 1,
            b']' | b'}' if !is_string => n_open = n_open.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(n_open);
    }
    deepest
}

impl Node {
    /// What is waited for in it: itself if nothing is.
    pub(crate) fn leaves(&self) -> Vec<&Node> {
        if self.children.is_empty() { vec![self] } else { self.children.iter().flat_map(Self::leaves).collect() }
    }
}

fn nodes(value: &Value) -> Result<Vec<Node>, String> {
    value.as_array().ok_or("expected an array of nodes")?.iter().map(node).collect()
}

fn node(value: &Value) -> Result<Node, String> {
    Ok(Node {
        kind: text(value, "kind")?,
        state: text(value, "state")?,
        is_held: value.get("held").is_some(),
        cancelled_as: text(value, "cancelled_as").ok(),
        what: text(value, "what")?,
        name: text(value, "name").ok(),
        place: place(value),
        locals: locals(value),
        milliseconds_left: number(value, "milliseconds_left").ok(),
        milliseconds_cancelled: number(value, "milliseconds_cancelled").ok(),
        life: life(value),
        pid: number(value, "pid").ok(),
        descriptor: text(value, "descriptor").ok(),
        address: text(value, "address").ok(),
        peer: text(value, "peer").ok(),
        children: value.get("children").map(nodes).transpose()?.unwrap_or_default(),
    })
}

fn life(value: &Value) -> Option<Life> {
    Some(Life {
        number: number(value, "number").ok()?,
        milliseconds_old: number(value, "milliseconds_old").ok()?,
        polls: number(value, "polls").ok()?,
        microseconds_busy: number(value, "microseconds_busy").ok()?,
    })
}

fn locals(value: &Value) -> Vec<(String, String)> {
    let all = value.get("locals").and_then(Value::as_object).into_iter().flatten();
    all.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

fn place(value: &Value) -> Option<Place> {
    Some(Place { file: text(value, "file").ok()?, line: number(value, "line").ok()? })
}

fn text(value: &Value, field: &str) -> Result<String, String> {
    let found = value.get(field).and_then(Value::as_str);
    found.map(str::to_owned).ok_or_else(|| format!("expected a text in the field `{field}` of the answer"))
}

fn number(value: &Value, field: &str) -> Result<u64, String> {
    let found = value.get(field).and_then(Value::as_u64);
    found.ok_or_else(|| format!("expected a number in the field `{field}` of the answer"))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::STACK;

    #[test]
    fn a_hostile_answer_is_an_error_and_no_crash() {
        let deep = format!("{{\"version\":1,\"tree\":{}", "[{\"children\":".repeat(100_000));
        for line in ["", "{", "[]", "{}", "{\"version\":2}", "{\"version\":\"1\"}", &deep] {
            assert!(Answer::parse(line).is_err(), "{line:.40}");
        }
        let wrong = r#"{"version":1,"pid":1,"program":"a","milliseconds_old":0,"tree":[{"kind":3}]}"#;
        assert_eq!(Answer::parse(wrong).unwrap_err(), "expected a text in the field `kind` of the answer");
    }

    #[test]
    fn an_answer_may_be_nested_as_deeply_as_the_stack_of_the_command_allows() {
        let nested = |n: usize| format!("{}{}", "[{\"a]\\\"\":".repeat(n), "}]".repeat(n));
        assert_eq!(depth(&nested(3).replace("]}", "0]}")), 6);
        let deepest = nested(MAX_BRACKETS / 2).replace(":}", ":0}");
        assert!(json(&format!("[{deepest}]")).unwrap_err().contains("1024 levels"));
        let look = thread::Builder::new().stack_size(STACK).spawn(move || json(&deepest).map(drop)).unwrap();
        assert_eq!(look.join().unwrap(), Ok(()));
    }
}
