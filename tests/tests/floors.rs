//! A room names only rooms on lower floors, so no cycle can appear. The table here is the only one.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Who may name whom: each room those on the floors above its own line.
const FLOORS: &[&[&str]] = &[
    &["drawing", "error", "sys", "sync", "pin", "slab", "flow"],
    &["recording"],
    &["report"],
    &["unwind", "timer", "reactor", "foreign"],
    &["local"],
    &["task"],
    &["cores"],
    &["runtime"],
    &["time", "promise"],
    &["io"],
    &["condition", "group", "signal", "thread", "inspect"],
    &["combine", "root", "fs"],
    &["net", "process", "compat", "testing"],
    &["__private", "guide"],
    &["lib"],
];

/// Macros, which have their names at the root whatever room they are of.
const MACROS: &[(&str, &str)] = &[
    ("task_group", "group"),
    ("try_task_group", "group"),
    ("join", "combine"),
    ("try_join", "combine"),
    ("race", "combine"),
    ("main", "root"),
    ("test", "root"),
];

#[test]
fn rooms_name_only_rooms_on_lower_floors() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("../xiio/src");
    let house = House::new(&fs::read_to_string(src.join("lib.rs")).unwrap());
    let mut files = Vec::new();
    find_sources(&src, &mut files);
    assert!(files.len() > 40, "only {} files found", files.len());
    let mut violations = Vec::new();
    for file in files {
        let modules = modules_of(file.strip_prefix(&src).unwrap());
        let text = fs::read_to_string(&file).unwrap();
        let found = house.violations(&modules, &text);
        violations.extend(found.into_iter().map(|(line, what)| format!("{}:{line}: {what}", file.display())));
    }
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn upward_sideways_and_hidden_paths_are_found_and_others_are_not() {
    let house = House::new("pub use group::{Task, TaskGroup};\npub use time::sleep;\n");
    let of = |modules: &[&str], text: &str| {
        house.violations(modules, text).into_iter().map(|(line, _)| line).collect::<Vec<_>>()
    };
    let above = "use crate::error::Elapsed;\nuse crate::runtime::Runtime;\n";
    assert_eq!(of(&["task", "set"], above), [2]);
    assert_eq!(of(&["unwind"], "use crate::timer::Timers;"), [1], "sideways");
    assert_eq!(of(&["task", "set"], "\n/* crate::group */ // crate::group\nlet x = \"crate::group\";"), [0; 0]);
    assert_eq!(of(&["time"], "use crate::{\n    error,\n    runtime::{Runtime, leaf},\n    group::Task,\n};"), [4]);
    assert_eq!(of(&["time"], "let task: crate::Task<()>;\ncrate::task_group!(|tg| {});"), [1, 2], "re-exported");
    assert_eq!(of(&["task", "set"], "use super::super::group::Run;\nuse super::refs::Header;"), [1]);
    assert_eq!(of(&["task"], "use super::group::Run;\nmod inner { use super::refs::Header; }"), [1]);
    assert_eq!(of(&["group", "run"], "use xiio::timeout;\nuse xiio::sleep;"), [1], "an unknown name, and a known one");
    let tests = "#[cfg(test)]\nmod tests {\n    use crate::group::Task;\n}\nuse crate::group::Task;\n";
    assert_eq!(of(&["timer"], tests), [5], "tests may name anything, what follows them may not");
    assert_eq!(of(&["timer"], "#[macro_export]\nmacro_rules! m { () => { $crate::timeout() } }"), [0; 0]);
}

/// The rooms by name, and what the roof re-exports of them.
struct House {
    floors: HashMap<String, usize>,
}

impl House {
    fn new(roof: &str) -> Self {
        let mut floors = HashMap::new();
        for (floor, rooms) in FLOORS.iter().enumerate() {
            floors.extend(rooms.iter().map(|room| ((*room).to_owned(), floor)));
        }
        for (name, room) in MACROS {
            floors.insert((*name).to_owned(), floors[*room]);
        }
        let roof = without_comments_and_strings(roof);
        for use_of in roof.split("pub use ").skip(1) {
            let Some((path, _)) = use_of.split_once(';') else { continue };
            let Some((room, names)) = path.split_once("::") else { continue };
            let Some(&floor) = floors.get(room.trim_start_matches("crate::")) else { continue };
            for name in names.split(|c: char| !is_name(c)).filter(|name| !name.is_empty()) {
                floors.entry(name.to_owned()).or_insert(floor);
            }
        }
        Self { floors }
    }

    /// The lines in which a file of these modules names a room that is not below its own, and what they say.
    fn violations(&self, modules: &[&str], text: &str) -> Vec<(usize, String)> {
        let room = modules.first().copied().unwrap_or("lib");
        let Some(&floor) = self.floors.get(room) else { return vec![(1, format!("`{room}` is on no floor"))] };
        if room == "lib" {
            return Vec::new();
        }
        let named = names_under_the_root(modules, &without_comments_and_strings(text));
        let is_upward = |name: &str| name != room && self.floors.get(name).is_none_or(|other| *other >= floor);
        let upward = named.into_iter().filter(|(_, name)| is_upward(name));
        upward.map(|(line, name)| (line, format!("`{room}` (floor {floor}) names `{name}`"))).collect()
    }
}

/// Every name directly under the crate's root that a text names, with its line.
fn names_under_the_root(modules: &[&str], text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut inline = InlineModules::default();
    for (at, c) in text.char_indices() {
        inline.advance(text, at, c);
        let rest = &text[at..];
        let begins = !text[..at].ends_with(|before: char| is_name(before) || before == '$' || before == ':');
        if !begins || inline.tests_at.is_some() {
            continue;
        }
        let after = rest.strip_prefix("crate::").or_else(|| rest.strip_prefix("xiio::"));
        let after = after.or_else(|| above(rest, modules.len() + inline.depth()));
        if let Some(after) = after {
            let line = 1 + text[..text.len() - after.len()].matches('\n').count();
            found.extend(first_names(after).into_iter().map(|(n_lines, name)| (line + n_lines, name)));
        }
    }
    found
}

/// What follows as many `super::` as lead to the root.
fn above(text: &str, depth: usize) -> Option<&str> {
    let mut rest = text;
    for _ in 0..depth {
        rest = rest.strip_prefix("super::")?;
    }
    (depth > 0).then_some(rest)
}

/// `a::b` to `a`; `{a::{b, c}, d}` to `a` and `d`; each with the number of lines before it.
fn first_names(text: &str) -> Vec<(usize, String)> {
    let name_at = |at: usize| -> (usize, String) {
        let name = text[at..].chars().take_while(|c| is_name(*c)).collect();
        (text[..at].matches('\n').count(), name)
    };
    if !text.starts_with('{') {
        return vec![name_at(0)];
    }
    let mut names = Vec::new();
    let (mut depth, mut is_first) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            '{' => {
                depth += 1;
                is_first = depth == 1;
            }
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' => is_first = depth == 1,
            c if is_first && is_name(c) => {
                names.push(name_at(at));
                is_first = false;
            }
            _ => {}
        }
    }
    names
}

/// The modules that are written out in the file, at the place that is being read.
#[derive(Default)]
struct InlineModules {
    n_braces: usize,
    opened_at: Vec<usize>,
    /// How many modules were open when a `mod tests` began: the tests of a room may stand on the roof.
    tests_at: Option<usize>,
}

impl InlineModules {
    fn depth(&self) -> usize {
        self.opened_at.len()
    }

    fn advance(&mut self, text: &str, at: usize, c: char) {
        match c {
            '{' => {
                self.n_braces += 1;
                let head = text[..at].rsplit([';', '}', '{', ']']).next().unwrap_or_default();
                let mut words = head.split_whitespace().skip_while(|word| *word != "mod").skip(1);
                if let Some(name) = words.next() {
                    self.opened_at.push(self.n_braces);
                    if name == "tests" {
                        self.tests_at.get_or_insert(self.depth());
                    }
                }
            }
            '}' => {
                if self.opened_at.last() == Some(&self.n_braces) {
                    if self.tests_at == Some(self.depth()) {
                        self.tests_at = None;
                    }
                    self.opened_at.pop();
                }
                self.n_braces -= 1;
            }
            _ => {}
        }
    }
}

/// The text with blanks for comments, strings and characters, line by line the same.
fn without_comments_and_strings(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => 1 + end_of_string(&rest[1..]),
            '\'' if rest[1..].starts_with(['{', '}', '"']) && rest[2..].starts_with('\'') => 3,
            _ => 0,
        };
        if skipped == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            out.extend(rest[..skipped].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[skipped..];
        }
    }
    out
}

/// Where the rest of a string ends, its quote included.
fn end_of_string(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// `reactor/wait.rs` to `reactor`, `wait`; `reactor/mod.rs` to `reactor`.
fn modules_of(file: &Path) -> Vec<&str> {
    let names = file.iter().map(|name| name.to_str().unwrap().trim_end_matches(".rs"));
    names.filter(|name| *name != "mod").collect()
}

fn find_sources(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find_sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
