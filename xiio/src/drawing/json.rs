//! The tree as JSON, see RFC 8259.

use std::fmt::{Display, Write};
use std::panic::Location;

use super::{Drawing, Node, is_obeyed};

/// An array of nodes. Fields that a node does not have are left out.
pub(super) fn write(drawing: &Drawing) -> String {
    let mut text = String::new();
    write_nodes(&drawing.roots, &mut text);
    text
}

/// A pair of brackets for each level.
fn write_nodes(nodes: &[Node], text: &mut String) {
    text.push('[');
    for (index, node) in nodes.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write_node(node, text);
    }
    text.push(']');
}

fn write_node(node: &Node, text: &mut String) {
    text.push_str("{\"kind\":");
    write_string(node.kind.as_str(), text);
    write_field("state", node.state.as_str(), text);
    text.push_str(if node.is_held { ",\"held\":true" } else { "" });
    write_field("cancelled_as", node.cancelled_as.as_deref(), text);
    write_number("milliseconds_cancelled", node.cancelled_ago.map(|ago| whole(ago.as_millis())), text);
    write_field("what", &*node.what, text);
    write_field("name", node.name.as_deref(), text);
    write_field("type", node.type_name, text);
    write_field("file", node.spawned_at.map(Location::file), text);
    write_number("line", node.spawned_at.map(Location::line), text);
    write_number("column", node.spawned_at.map(Location::column), text);
    if !node.locals.is_empty() {
        text.push_str(",\"locals\":{");
        for (index, (name, value)) in node.locals.iter().enumerate() {
            text.push_str(if index > 0 { "," } else { "" });
            // Of two keys with one name a parser keeps one.
            match node.locals[..index].iter().filter(|(before, _)| before == name).count() {
                0 => write_string(name, text),
                n_before => write_string(&format!("{name}#{}", n_before + 1), text),
            }
            text.push(':');
            write_string(value, text);
        }
        text.push('}');
    }
    write_number("number", node.number, text);
    write_number("milliseconds_old", node.age.map(|age| whole(age.as_millis())), text);
    write_number("polls", node.n_polls, text);
    write_number("microseconds_busy", node.busy.map(|busy| whole(busy.as_micros())), text);
    write_number("milliseconds_left", node.time_left.map(|left| whole(left.as_millis())), text);
    write_number("fd", node.fd, text);
    write_field("descriptor", node.descriptor(), text);
    write_field("address", node.address(), text);
    write_field("peer", node.peer(), text);
    write_number("pid", node.pid, text);
    if !node.children.is_empty() {
        text.push_str(",\"children\":");
        write_nodes(&node.children, text);
    }
    text.push('}');
}

/// Writes nothing where there is no value.
fn write_field<'a>(name: &str, value: impl Into<Option<&'a str>>, text: &mut String) {
    if let Some(value) = value.into() {
        let _ = write!(text, ",\"{name}\":");
        write_string(value, text);
    }
}

/// Writes nothing where there is no value.
fn write_number(name: &str, value: Option<impl Display>, text: &mut String) {
    if let Some(value) = value {
        let _ = write!(text, ",\"{name}\":{value}");
    }
}

/// The time until an `Instant` may be longer than readers have numbers for.
fn whole(n_units: u128) -> u64 {
    u64::try_from(n_units).unwrap_or(u64::MAX)
}

/// A string as JSON has it.
pub(crate) fn string(value: &str) -> String {
    let mut text = String::new();
    write_string(value, &mut text);
    text
}

fn write_string(value: &str, text: &mut String) {
    text.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => {
                text.push('\\');
                text.push(c);
            }
            // `<` as well, so that a page may have the text in a script; and what a terminal obeys.
            c if c == '<' || is_obeyed(c) => {
                let _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('"');
}
