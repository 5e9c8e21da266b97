//! The tree as JSON, see RFC 8259.

use std::fmt::Write;

use super::{Drawing, Node, is_obeyed};

/// An array of nodes. Fields that a node does not have are left out.
pub(super) fn write(drawing: &Drawing) -> String {
    let mut text = String::new();
    write_nodes(&drawing.roots, &mut text);
    text
}

/// A pair of brackets for each level: the depth of the tree is bounded by the stack, which is deeper where it is polled.
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
    if let Some(reason) = &node.cancelled_as {
        write_field("cancelled_as", reason, text);
    }
    if let Some(ago) = node.cancelled_ago {
        write_number("milliseconds_cancelled", ago.as_millis(), text);
    }
    write_field("what", &node.what, text);
    if let Some(name) = &node.name {
        write_field("name", name, text);
    }
    if let Some(type_name) = node.type_name {
        write_field("type", type_name, text);
    }
    if let Some(location) = node.spawned_at {
        write_field("file", location.file(), text);
        write_number("line", location.line(), text);
        write_number("column", location.column(), text);
    }
    if !node.locals.is_empty() {
        text.push_str(",\"locals\":{");
        for (index, (name, value)) in node.locals.iter().enumerate() {
            text.push_str(if index > 0 { "," } else { "" });
            write_string(name, text);
            text.push(':');
            write_string(value, text);
        }
        text.push('}');
    }
    if let Some(number) = node.number {
        write_number("number", number, text);
    }
    if let Some(age) = node.age {
        write_number("milliseconds_old", age.as_millis(), text);
    }
    if let Some(n_polls) = node.n_polls {
        write_number("polls", n_polls, text);
    }
    if let Some(busy) = node.busy {
        write_number("microseconds_busy", busy.as_micros(), text);
    }
    if let Some(left) = node.time_left {
        write_number("milliseconds_left", left.as_millis(), text);
    }
    if let Some(fd) = node.fd {
        write_number("fd", fd, text);
    }
    let of_descriptor = [("descriptor", node.descriptor()), ("address", node.address()), ("peer", node.peer())];
    of_descriptor
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .for_each(|(name, value)| write_field(name, value, text));
    if let Some(pid) = node.pid {
        write_number("pid", pid, text);
    }
    if !node.children.is_empty() {
        text.push_str(",\"children\":");
        write_nodes(&node.children, text);
    }
    text.push('}');
}

fn write_field(name: &str, value: &str, text: &mut String) {
    let _ = write!(text, ",\"{name}\":");
    write_string(value, text);
}

fn write_number(name: &str, value: impl std::fmt::Display, text: &mut String) {
    let _ = write!(text, ",\"{name}\":{value}");
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
