//! The tree in the language of Graphviz, see `dot(1)`.

use std::fmt::Write;

use super::{Drawing, Node};

pub(super) fn write(drawing: &Drawing) -> String {
    let mut text = String::from("digraph tree {\n    node [shape=box, fontname=monospace];\n");
    let mut n_nodes = 0;
    for root in &drawing.roots {
        write_node(root, None, &mut n_nodes, &mut text);
    }
    text.push_str("}\n");
    text
}

fn write_node(node: &Node, parent: Option<usize>, n_nodes: &mut usize, text: &mut String) {
    let index = *n_nodes;
    *n_nodes += 1;
    let _ = writeln!(text, "    n{index} [label=\"{}\"];", escaped(&node.to_string()));
    if let Some(parent) = parent {
        let _ = writeln!(text, "    n{parent} -> n{index};");
    }
    for child in &node.children {
        write_node(child, Some(index), n_nodes, text);
    }
}

/// Between quotes entities as of HTML have a meaning.
fn escaped(label: &str) -> String {
    label.replace('&', "&amp;").replace('\\', "\\\\").replace('"', "\\\"")
}
