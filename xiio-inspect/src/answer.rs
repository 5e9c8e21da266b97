//! What a program has answered.

use std::fmt::{self, Write};

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::text::harmless;

/// No answer is nested deeper. Whoever looks at one has the stack for that.
const MAX_BRACKETS: usize = 2048;

/// No answer has more nodes, each of which takes some 400 bytes here. An answer with so many tasks would be too long before. Only many waits in one task
/// are said in fewer bytes.
const MAX_NODES: usize = 1 << 21;

/// The only form there is so far.
const VERSION: u64 = 1;

#[derive(Debug, Deserialize)]
struct Version {
    version: u64,
}

#[derive(Debug, Deserialize)]
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
#[derive(Debug, Deserialize)]
pub(crate) struct Busy {
    pub(crate) milliseconds: u64,
    /// On a worker, for which the loop waits.
    #[serde(default, rename = "worker")]
    pub(crate) is_worker: bool,
    #[serde(default, deserialize_with = "text")]
    pub(crate) name: Option<String>,
    #[serde(default, deserialize_with = "text")]
    file: Option<String>,
    #[serde(default, deserialize_with = "number")]
    line: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place<'a> {
    pub(crate) file: &'a str,
    pub(crate) line: u64,
}

/// What is left out of it here is not kept, however long it is.
#[derive(Debug, Deserialize)]
pub(crate) struct Node {
    pub(crate) kind: String,
    pub(crate) state: String,
    /// It is to begin when another task of its group has ended.
    #[serde(default, rename = "held")]
    pub(crate) is_held: bool,
    #[serde(default, deserialize_with = "text")]
    pub(crate) cancelled_as: Option<String>,
    pub(crate) what: String,
    #[serde(default, deserialize_with = "text")]
    pub(crate) name: Option<String>,
    #[serde(default, deserialize_with = "text")]
    file: Option<String>,
    #[serde(default, deserialize_with = "number")]
    line: Option<u64>,
    /// Values that tell a task apart from others of its place, as they are said behind it.
    #[serde(default, deserialize_with = "locals")]
    pub(crate) locals: String,
    #[serde(default, deserialize_with = "number")]
    pub(crate) milliseconds_left: Option<u64>,
    #[serde(default, deserialize_with = "number")]
    pub(crate) milliseconds_cancelled: Option<u64>,
    #[serde(default, deserialize_with = "number")]
    number: Option<u64>,
    #[serde(default, deserialize_with = "number")]
    milliseconds_old: Option<u64>,
    #[serde(default, deserialize_with = "number")]
    polls: Option<u64>,
    #[serde(default, deserialize_with = "number")]
    microseconds_busy: Option<u64>,
    #[serde(default, deserialize_with = "number")]
    pub(crate) pid: Option<u64>,
    #[serde(default, deserialize_with = "text")]
    pub(crate) descriptor: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub(crate) address: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub(crate) peer: Option<String>,
    #[serde(default)]
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
        let (depth, n_nodes) = brackets(line);
        if depth > MAX_BRACKETS {
            let n_levels = MAX_BRACKETS / 2;
            return Err(format!(
                "the answer is nested deeper than {MAX_BRACKETS} brackets, {n_levels} levels of a tree"
            ));
        }
        if n_nodes > MAX_NODES {
            return Err(format!("the answer has more than {MAX_NODES} nodes"));
        }
        let Version { version } = json(line)?;
        if version != VERSION {
            return Err(format!("the program answers in version {version}, and this is for version {VERSION}"));
        }
        json(line)
    }
}

/// The parser calls itself for each bracket, and would stop at 128 of them.
fn json<T: DeserializeOwned>(line: &str) -> Result<T, String> {
    let mut parser = serde_json::Deserializer::from_str(line);
    parser.disable_recursion_limit();
    let value = T::deserialize(&mut parser).and_then(|value| parser.end().map(|()| value));
    value.map_err(|error| format!("the answer is no JSON that can be read: {error}"))
}

/// How many brackets are open at once in a text, if it is JSON, and how many objects and arrays it has that are no field of another one: nodes may be
/// written as either.
fn brackets(line: &str) -> (usize, usize) {
    let (mut deepest, mut n_nodes, mut n_open, mut is_string, mut is_escaped) = (0, 0, 0_usize, false, false);
    let mut before = b' ';
    for byte in line.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_string,
            b'"' => is_string = !is_string,
            b'[' | b'{' if !is_string => {
                n_open += 1;
                n_nodes += usize::from(before != b':');
            }
            b']' | b'}' if !is_string => n_open = n_open.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(n_open);
        before = byte;
    }
    (deepest, n_nodes)
}

impl Busy {
    pub(crate) fn place(&self) -> Option<Place<'_>> {
        Some(Place { file: self.file.as_deref()?, line: self.line? })
    }
}

impl Node {
    pub(crate) fn place(&self) -> Option<Place<'_>> {
        Some(Place { file: self.file.as_deref()?, line: self.line? })
    }

    pub(crate) fn life(&self) -> Option<Life> {
        Some(Life {
            number: self.number?,
            milliseconds_old: self.milliseconds_old?,
            polls: self.polls?,
            microseconds_busy: self.microseconds_busy?,
        })
    }

    /// What is waited for in it: itself if nothing is.
    pub(crate) fn leaves(&self) -> Vec<&Node> {
        if self.children.is_empty() { vec![self] } else { self.children.iter().flat_map(Self::leaves).collect() }
    }
}

/// What an optional field may be. Of anything else nothing is kept, and the rest of the answer is as good as ever.
enum Scalar {
    Number(u64),
    Text(String),
    Other,
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        struct Scalars;

        impl<'de> Visitor<'de> for Scalars {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar::Number(number))
            }

            fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(text.into()))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Scalar, E> {
                Ok(Scalar::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Scalar, E> {
                Ok(Scalar::Other)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Scalar, E> {
                Ok(Scalar::Other)
            }

            fn visit_unit<E>(self) -> Result<Scalar, E> {
                Ok(Scalar::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, values: A) -> Result<Scalar, A::Error> {
                IgnoredAny.visit_seq(values).map(|_| Scalar::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, values: A) -> Result<Scalar, A::Error> {
                IgnoredAny.visit_map(values).map(|_| Scalar::Other)
            }
        }

        value.deserialize_any(Scalars)
    }
}

fn number<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u64>, D::Error> {
    Scalar::deserialize(value).map(|value| if let Scalar::Number(number) = value { Some(number) } else { None })
}

fn text<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    Scalar::deserialize(value).map(|value| if let Scalar::Text(text) = value { Some(text) } else { None })
}

fn locals<'de, D: Deserializer<'de>>(values: D) -> Result<String, D::Error> {
    struct Locals;

    impl<'de> Visitor<'de> for Locals {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("texts by their names")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut values: A) -> Result<String, A::Error> {
            let mut text = String::new();
            while let Some((name, value)) = values.next_entry::<String, String>()? {
                let _ = write!(text, ", {} = {}", harmless(&name), harmless(&value));
            }
            Ok(text)
        }
    }

    values.deserialize_map(Locals)
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
        let of = |node: &str| format!(r#"{{"version":1,"pid":1,"program":"a","milliseconds_old":0,"tree":[{node}]}}"#);
        let error = Answer::parse(&of(r#"{"kind":3}"#)).unwrap_err();
        assert!(error.contains("invalid type: integer `3`, expected a string at line 1 column "), "{error}");
        let error = Answer::parse(&of(r#"{"kind":"task","state":"running"}"#)).unwrap_err();
        assert!(error.contains("missing field `what` at line 1 column "), "{error}");
        let error = Answer::parse(&(of("") + "{}")).unwrap_err();
        assert!(error.contains("trailing characters"), "{error}");
        // A later version may have anything else.
        let error = Answer::parse(r#"{"tree":7,"version":2}"#).unwrap_err();
        assert_eq!(error, "the program answers in version 2, and this is for version 1");
        for node in ["{},", "[\"\"],"] {
            let many = of(&node.repeat(MAX_NODES));
            assert_eq!(Answer::parse(&many).unwrap_err(), "the answer has more than 2097152 nodes");
        }
    }

    #[test]
    fn an_optional_field_that_is_something_else_is_left_out() {
        for other in ["1e300", "18446744073709551616", "-1", "true", "null", "[[1]]", r#"{"a":[2]}"#] {
            let node = format!(
                r#"{{"kind":"task","state":"","what":"","name":{other},"number":{other},"pid":"","fd":{other}}}"#
            );
            let line = format!(r#"{{"version":1,"pid":1,"program":"","milliseconds_old":0,"tree":[{node}]}}"#);
            let node = Answer::parse(&line).unwrap().tree.unwrap().remove(0);
            assert_eq!((node.name, node.number, node.pid), (None, None, None), "{other}");
        }
    }

    #[test]
    fn an_answer_may_be_nested_as_deeply_as_the_stack_of_the_command_allows() {
        let nested = |n: usize| {
            let node = r#"[{"kind":"a]\\\"[","state":"","what":"","children":"#;
            let (before, after) = (node.repeat(n), "}]".repeat(n));
            format!(r#"{{"version":1,"pid":1,"program":"","milliseconds_old":0,"tree":{before}[]{after}}}"#)
        };
        assert_eq!(brackets(&nested(3)), (8, 4));
        // The values of a task are kept in its node.
        assert_eq!(brackets(r#"{"tree":[{"locals":{"a":":{"}},{"locals":{}}]}"#), (4, 3));
        let deepest = nested(MAX_BRACKETS / 2 - 1);
        assert!(Answer::parse(&deepest.replace("[]", "[[]]")).unwrap_err().contains("1024 levels"));
        let look = thread::Builder::new().stack_size(STACK).spawn(move || Answer::parse(&deepest).map(drop)).unwrap();
        assert_eq!(look.join().unwrap(), Ok(()));
    }
}
