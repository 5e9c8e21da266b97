//! An answer in words.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::time::Duration;

use xiio::__private::is_obeyed;

use crate::answer::{Answer, Life, Node, Place};

/// More tasks than this of one place that wait for the same are summed up, and of a list no more are named.
const MAX_ALIKE: usize = 10;

/// Kinds of what is around a leaf. Where there is none foreign code is waited for.
const AROUND: [&str; 9] = ["body", "task", "group", "deferred", "limit", "branch", "bracket", "shield", "local"];

/// What a task waits for that has had its share of a turn.
const NO_WAIT: &str = "something that does not wait";

/// Kinds of leaves that something outside of the program ends.
const FROM_OUTSIDE: [&str; 4] = ["descriptor", "process", "signal", "thread"];

/// The line about the program.
pub(crate) fn head(answer: &Answer) -> String {
    let age = Duration::from_millis(answer.milliseconds_old);
    format!("{} {}, running for {age:?}\n", answer.pid, harmless(&answer.program))
}

/// The tree, as lines that are indented.
pub(crate) fn tree(answer: &Answer, is_whole: bool) -> String {
    let mut text = head(answer);
    match &answer.tree {
        Some(roots) => write_nodes(roots, 1, is_whole, &mut text),
        None => writeln!(text, "  {}", busy(answer)).unwrap_or_default(),
    }
    text
}

fn write_nodes(nodes: &[Node], depth: usize, is_whole: bool, text: &mut String) {
    let alike = alike(nodes);
    let is_summed_up = |node: &Node| !is_whole && key(node).is_some_and(|key| alike[&key] > MAX_ALIKE);
    for node in nodes.iter().filter(|node| !is_summed_up(node)) {
        let _ = writeln!(text, "{:indent$}{}", "", line(node), indent = 2 * depth);
        write_nodes(&node.children, depth + 1, is_whole, text);
    }
    if is_whole {
        return;
    }
    for ((place, wait), n_tasks) in alike.iter().filter(|(_, n_tasks)| **n_tasks > MAX_ALIKE) {
        let place = at(*place);
        let _ = writeln!(text, "{:indent$}{n_tasks} tasks spawned at {place}, {wait}", "", indent = 2 * depth);
    }
}

/// How many tasks are of one place and wait for the same.
fn alike(nodes: &[Node]) -> BTreeMap<(Place<'_>, String), usize> {
    let mut alike = BTreeMap::new();
    for key in nodes.iter().filter_map(key) {
        *alike.entry(key).or_default() += 1;
    }
    alike
}

/// What tasks that are alike have in common. None that cleans up is hidden among others.
fn key(node: &Node) -> Option<(Place<'_>, String)> {
    let place = node.place().filter(|_| node.kind == "task" && node.state != "cleaning up")?;
    Some((
        place,
        if is_to_begin(node) { "not started".into() } else { format!("waiting for: {}", waits_for(node, wait)) },
    ))
}

fn is_to_begin(node: &Node) -> bool {
    node.state == "not started"
}

/// What a task waits for: `wait` gives that of one leaf. What is to begin in it waits for the others, if there are any.
fn waits_for(node: &Node, wait: fn(&Node) -> String) -> String {
    let leaves = node.leaves();
    let has_begun = leaves.iter().any(|leaf| !is_to_begin(leaf));
    let mut waits: Vec<String> = leaves.into_iter().filter(|leaf| !has_begun || !is_to_begin(leaf)).map(wait).collect();
    waits.sort();
    waits.dedup();
    waits.join(" and ")
}

/// What a leaf waits for, as those that are alike say it: without what is another one for each.
fn wait(leaf: &Node) -> String {
    let is_of_task = leaf.what.starts_with("the task `") || leaf.what.starts_with("the task spawned at ");
    match (&*leaf.kind, leaf.pid) {
        ("process", Some(pid)) => harmless(&leaf.what.replace(&format!(" ({pid})"), "")),
        ("wait", _) if is_of_task => "another task".into(),
        _ if leaf.what.starts_with("Condition {") => "a `Condition`".into(),
        _ => only_wait(leaf),
    }
}

/// The same for a task that is spoken of alone. Of a descriptor its kind says more than its number.
fn only_wait(leaf: &Node) -> String {
    match (&*leaf.kind, leaf.what.split_once(" to be ")) {
        _ if is_to_begin(leaf) && leaf.is_held => "a place among those that its group has at once".into(),
        _ if is_to_begin(leaf) => "its turn to begin".into(),
        (kind, _) if AROUND.contains(&kind) => "something that xiio does not know".into(),
        ("worker", _) if is_busy_worker(leaf) => "tasks of a worker that is in a poll".into(),
        ("wait", _) if leaf.what == NO_WAIT => "its turn to go on".into(),
        ("descriptor", Some((_, direction))) => {
            format!("{} to be {}", harmless(leaf.descriptor.as_deref().unwrap_or("descriptor")), harmless(direction))
        }
        _ => harmless(&leaf.what),
    }
}

/// Whether it is a worker that could not be asked, as it is in the code of a task.
fn is_busy_worker(node: &Node) -> bool {
    node.kind == "worker" && node.what.contains(", which was in a poll, ")
}

fn line(node: &Node) -> String {
    let mut text = match (&node.name, &*node.kind) {
        (Some(name), "group") => format!("group `{}`", harmless(name)),
        (Some(name), _) => format!("{} `{}`", harmless(&node.what), harmless(name)),
        (None, _) => harmless(&node.what),
    };
    if node.state != "running" {
        let _ = write!(text, " ({}", harmless(&node.state));
        if let Some(ago) = node.milliseconds_cancelled {
            let _ = write!(text, " for {:.1?}", Duration::from_millis(ago));
        }
        if let Some(reason) = &node.cancelled_as {
            let _ = write!(text, ", as {}", harmless(reason));
        }
        text.push(')');
    }
    for (before, part) in [(", ", &node.descriptor), (" at ", &node.address), (" with ", &node.peer)] {
        if let Some(part) = part {
            let _ = write!(text, "{before}{}", harmless(part));
        }
    }
    if let Some(left) = node.milliseconds_left {
        let _ = write!(text, ", {:?} more", Duration::from_millis(left));
    }
    if let Some(place) = node.place() {
        let verb = match &*node.kind {
            "task" => "spawned",
            "deferred" => "deferred",
            _ => "made",
        };
        let _ = write!(text, ", {verb} at {}", at(place));
    }
    if let Some(Life { milliseconds_old, polls, microseconds_busy, .. }) = node.life() {
        let (old, busy) = (Duration::from_millis(milliseconds_old), Duration::from_micros(microseconds_busy));
        let _ = write!(text, ", {old:.1?} old, {polls} polls of {busy:.1?}");
    }
    text + &node.locals
}

/// What keeps the loop.
fn busy(answer: &Answer) -> String {
    let Some(busy) = &answer.busy else { return "It has not drawn its tree, and says nothing else.".into() };
    if busy.milliseconds < LONG_POLL {
        return "The loop has not come to draw its tree: it goes from poll to poll, and none of them lasts long."
            .into();
    }
    let since = Duration::from_millis(busy.milliseconds);
    let who = match (&busy.name, busy.place()) {
        (Some(name), Some(place)) => format!("the task `{}`, spawned at {},", harmless(name), at(place)),
        (_, Some(place)) => format!("the task spawned at {}", at(place)),
        _ => "the root".into(),
    };
    let what = if busy.is_worker { "waits for a worker" } else { "is blocked" };
    format!("The loop {what}: {who} has been running for {since:?} without an `await` that waits.")
}

/// A poll that lasts for fewer milliseconds does not block the loop.
const LONG_POLL: u64 = 500;

/// Of a place with so many tasks one may stand out.
const MIN_OTHERS: usize = 2;

/// What is younger stands out nowhere.
const MIN_OLD: u64 = 500;

/// What stands out is so many times as old as one in the middle.
const MUCH_OLDER: u64 = 5;

/// Tasks that are much older than most of their place: requests that are slow.
fn slow_ones(roots: &[Node]) -> Vec<String> {
    let mut places: BTreeMap<Place<'_>, Vec<(u64, &Node)>> = BTreeMap::new();
    for node in all(roots) {
        if let (Some(place), Some(life), "task") = (node.place(), node.life(), &*node.kind) {
            places.entry(place).or_default().push((life.milliseconds_old, node));
        }
    }
    let mut slow = Vec::new();
    for tasks in places.values_mut().filter(|tasks| tasks.len() > MIN_OTHERS) {
        tasks.sort_by_key(|(age, _)| *age);
        let (middle, oldest) = (tasks[tasks.len() / 2].0, tasks[tasks.len() - 1]);
        if oldest.0 >= MIN_OLD && oldest.0 / MUCH_OLDER >= middle.max(1) {
            let middle = Duration::from_millis(middle);
            slow.push(format!(
                "{}, waiting for: {}; one in the middle is {middle:?} old",
                titled(oldest.1),
                waits_for(oldest.1, only_wait)
            ));
        }
    }
    slow
}

/// The line of a task, with the values that it has set for itself.
fn titled(task: &Node) -> String {
    let mut text = line(task);
    let mut inside = task;
    while let [local] = &*inside.children
        && local.kind == "local"
    {
        let _ = write!(text, ", {}", harmless(&local.what));
        inside = local;
    }
    text
}

/// How often and how long the tasks of one look had been polled, by their numbers.
pub(crate) type Look = BTreeMap<u64, (u64, u64)>;

/// So many of the busiest are named.
const MAX_BUSIEST: usize = 3;

/// What cleans up for longer, in milliseconds, is stuck.
const MAX_CLEANUP: u64 = 1000;

/// Every node below these, and these.
fn all(roots: &[Node]) -> Vec<&Node> {
    let mut found: Vec<&Node> = roots.iter().collect();
    let mut next = 0;
    while let Some(node) = found.get(next) {
        found.extend(&node.children);
        next += 1;
    }
    found
}

/// Lines about the busiest and the stuck, given what was seen `seconds` before; and what is seen now.
pub(crate) fn marks(answer: &Answer, before: &Look, seconds: f64) -> (String, Look) {
    let nodes = all(answer.tree.as_deref().unwrap_or_default());
    let mut look = Look::new();
    let mut busiest = Vec::new();
    let mut text = String::new();
    for node in nodes {
        let Some(life) = node.life().filter(|_| node.kind == "task") else { continue };
        look.insert(life.number, (life.polls, life.microseconds_busy));
        if let Some((polls, busy)) = before.get(&life.number) {
            busiest.push((life.microseconds_busy.saturating_sub(*busy), life.polls.saturating_sub(*polls), node));
        }
        if node.milliseconds_cancelled.is_some_and(|ago| ago > MAX_CLEANUP) {
            let _ = writeln!(text, "  STUCK {}, waiting for: {}", titled(node), waits_for(node, only_wait));
        }
    }
    busiest.sort_by_key(|(busy, polls, _)| std::cmp::Reverse((*busy, *polls)));
    for (busy, polls, node) in busiest.into_iter().filter(|(busy, ..)| *busy > 0).take(MAX_BUSIEST) {
        let share = 100.0 * Duration::from_micros(busy).as_secs_f64() / seconds;
        let rate = polls as f64 / seconds;
        let _ = writeln!(text, "  BUSY {share:.1} % in {rate:.0} polls a second: {}", titled(node));
    }
    (text, look)
}

/// Many tasks of one group that are alike.
struct Crowd<'a> {
    n_tasks: usize,
    place: Place<'a>,
    wait: String,
    group: &'a Node,
}

impl fmt::Display for Crowd<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { n_tasks, place, wait, group } = self;
        write!(f, "{n_tasks} tasks of {}, spawned at {}, {wait}", line(group), at(*place))
    }
}

/// The largest crowd below a node, if there is one that is worth a word.
fn largest_crowd(node: &Node) -> Option<Crowd<'_>> {
    let alike = alike(&node.children).into_iter().max_by_key(|(_, n_tasks)| *n_tasks);
    let own = alike.filter(|(_, n_tasks)| *n_tasks > MAX_ALIKE);
    let own = own.map(|((place, wait), n_tasks)| Crowd { n_tasks, place, wait, group: node });
    node.children.iter().filter_map(largest_crowd).chain(own).max_by_key(|crowd| crowd.n_tasks)
}

/// What the program waits for, and who does not stop.
pub(crate) fn why(answer: &Answer) -> String {
    let mut text = head(answer);
    let Some(roots) = &answer.tree else {
        let _ = writeln!(text, "{}", busy(answer));
        let blocked = answer.busy.as_ref().filter(|busy| busy.milliseconds >= LONG_POLL);
        let _ = match blocked.map(|busy| busy.is_worker) {
            Some(true) => writeln!(text, "Of this tree only other workers go on meanwhile."),
            Some(false) => writeln!(text, "No other task of its thread goes on meanwhile."),
            None => Ok(()),
        };
        return text;
    };
    let mut tasks = Vec::new();
    roots.iter().for_each(|root| waiting(root, &mut tasks));
    if tasks.is_empty() {
        // There is no group.
        tasks.extend(roots);
    }
    let mut waits: BTreeMap<String, Vec<&Node>> = BTreeMap::new();
    for task in &tasks {
        waits.entry(waits_for(task, wait)).or_default().push(task);
    }
    let of_all = |(wait, tasks): (&String, &Vec<&Node>)| match **tasks {
        [task] => waits_for(task, only_wait),
        _ => format!("{wait} ({} times)", tasks.len()),
    };
    let waits: Vec<String> = waits.iter().map(of_all).collect();
    let _ = writeln!(text, "It waits for: {}.", waits.join("; "));
    for slow in slow_ones(roots) {
        let _ = writeln!(text, "Much older than others of its place: {slow}.");
    }
    if let Some(crowd) = roots.iter().filter_map(largest_crowd).max_by_key(|crowd| crowd.n_tasks) {
        let _ = writeln!(text, "The most of one place: {crowd}.");
    }
    let _ = match all(roots).into_iter().any(is_hopeful) {
        true => writeln!(text, "Time, a descriptor, a process, a signal or a thread may end some of that."),
        false => {
            writeln!(
                text,
                "No timer, descriptor, process, signal or thread that xiio knows of will end that; these wait for each other or for foreign code: {}.",
                few(&tasks, |task| line(task))
            )
        }
    };
    let mut stopping = Vec::new();
    roots.iter().for_each(|root| cleaning(root, Around::default(), &mut stopping));
    let _ = match stopping.is_empty() {
        true if all(roots).into_iter().any(is_undrawn) => {
            writeln!(text, "Nothing was cancelled that has not stopped, as far as it was drawn.")
        }
        true => writeln!(text, "Nothing was cancelled that has not stopped."),
        false => {
            writeln!(text, "Cancelled and not stopped yet: {}.", few(&stopping, |(node, around)| stops(node, *around)))
        }
    };
    text
}

/// Whether it ends without another task: by time, by what is outside of the program, or as it runs. Or perhaps, as nobody knows.
fn is_hopeful(node: &Node) -> bool {
    let runs = is_to_begin(node) && !node.is_held && ["task", "body"].contains(&&*node.kind);
    node.milliseconds_left.is_some()
        || runs
        || is_undrawn(node)
        || FROM_OUTSIDE.contains(&&*node.kind)
        || ["yield_now", NO_WAIT].contains(&&*node.what)
}

/// Whether it stands for others, of which nothing is known.
fn is_undrawn(node: &Node) -> bool {
    is_busy_worker(node) || node.what == "more, too far in to be drawn"
}

/// The first of many, and how many there are besides.
fn few<T>(all: &[T], text: impl Fn(&T) -> String) -> String {
    let mut parts: Vec<String> = all.iter().take(MAX_ALIKE).map(text).collect();
    let n_more = all.len().saturating_sub(MAX_ALIKE);
    parts.extend((n_more > 0).then(|| format!("and {n_more} more")));
    parts.join("; ")
}

/// The innermost tasks and bodies, which wait for themselves and for no other.
fn waiting<'a>(node: &'a Node, found: &mut Vec<&'a Node>) {
    let before = found.len();
    node.children.iter().for_each(|child| waiting(child, found));
    if found.len() == before && ["task", "body"].contains(&&*node.kind) {
        found.push(node);
    }
}

/// What is around a node.
#[derive(Clone, Copy, Default)]
struct Around<'a> {
    task: Option<&'a Node>,
    /// Something there cleans up.
    is_cleaning_up: bool,
    /// That of the outermost that was cancelled.
    reason: Option<&'a str>,
}

/// The innermost tasks that clean up; where there is none, the outermost of what does.
fn cleaning<'a>(node: &'a Node, around: Around<'a>, found: &mut Vec<(&'a Node, Around<'a>)>) {
    let before = found.len();
    let (is_task, is_cleaning_up) = (node.kind == "task", node.state == "cleaning up");
    let inside = Around {
        task: if is_task { Some(node) } else { around.task },
        is_cleaning_up: around.is_cleaning_up || is_cleaning_up,
        reason: around.reason.or(node.cancelled_as.as_deref()),
    };
    node.children.iter().for_each(|child| cleaning(child, inside, found));
    if found.len() == before && is_cleaning_up && (is_task || !around.is_cleaning_up) {
        found.push((node, around));
    }
}

/// What has not stopped, where it is, and what it waits for.
fn stops(node: &Node, around: Around<'_>) -> String {
    let mut text = line(node);
    if let Some(task) = around.task.filter(|_| node.kind != "task") {
        let _ = write!(text, " in {}", line(task));
    }
    let _ = write!(text, ", waiting for: {}", waits_for(node, only_wait));
    if let Some(reason) = around.reason.filter(|_| node.cancelled_as.is_none()) {
        let _ = write!(text, ", cancelled as {}", harmless(reason));
    }
    text
}

/// The tree in the language of Graphviz.
pub(crate) fn dot(answer: &Answer) -> String {
    let mut text = String::from("digraph tree {\n    node [shape=box, fontname=monospace];\n");
    let mut n_nodes = 0;
    match &answer.tree {
        Some(roots) => roots.iter().for_each(|root| dot_node(root, None, &mut n_nodes, &mut text)),
        None => writeln!(text, "    n0 [label=\"{}\"];", dot_label(&busy(answer))).unwrap_or_default(),
    }
    text.push_str("}\n");
    text
}

fn dot_node(node: &Node, parent: Option<usize>, n_nodes: &mut usize, text: &mut String) {
    let index = *n_nodes;
    *n_nodes += 1;
    let _ = writeln!(text, "    n{index} [label=\"{}\"];", dot_label(&line(node)));
    if let Some(parent) = parent {
        let _ = writeln!(text, "    n{parent} -> n{index};");
    }
    node.children.iter().for_each(|child| dot_node(child, Some(index), n_nodes, text));
}

/// Text between quotes, where entities as of HTML have a meaning.
fn dot_label(text: &str) -> String {
    text.replace('&', "&amp;").replace('\\', "\\\\").replace('"', "\\\"")
}

fn at(place: Place<'_>) -> String {
    format!("{}:{}", harmless(place.file), place.line)
}

/// Text of the program on a terminal: what that would obey is escaped.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().map(|c| if is_obeyed(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// An answer or a recording that was parsed, as it came, but for what a terminal would obey. In strings that may be written otherwise, and between
/// tokens a space does.
pub(crate) fn json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push(c),
            '\t' | '\r' => shown.push(' '),
            c if is_obeyed(c) => write!(shown, "\\u{:04x}", u32::from(c)).unwrap_or_default(),
            c => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(tree: &str) -> Answer {
        Answer::parse(&format!(r#"{{"version":1,"pid":7,"program":"a\u001b","milliseconds_old":5,"tree":[{tree}]}}"#))
            .unwrap()
    }

    #[test]
    fn many_tasks_that_are_alike_are_one_line_unless_all_are_asked_for() {
        let task = |fd: usize, name: &str| {
            format!(
                r#"{{"kind":"task","state":"running","what":"task","file":"server.rs","line":66{name},"children":[{{"kind":"descriptor","state":"running","what":"fd {fd} to be readable","descriptor":"TCP socket"}}]}}"#
            )
        };
        let tasks: Vec<String> = (0..9988).map(|fd| task(fd, "")).collect();
        let group =
            format!(r#"{{"kind":"group","state":"running","what":"a group","children":[{}]}}"#, tasks.join(","));
        let answer = answer(&group);
        let text = tree(&answer, false);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(
            text.ends_with("    9988 tasks spawned at server.rs:66, waiting for: TCP socket to be readable\n"),
            "{text}"
        );
        assert_eq!(tree(&answer, true).lines().count(), 2 + 2 * 9988);
        assert!(why(&answer).contains("It waits for: TCP socket to be readable (9988 times)."));
    }

    #[test]
    fn who_does_not_stop_has_the_reason_of_what_was_cancelled_first() {
        let leaf = r#"{"kind":"timer","state":"running","what":"sleep"}"#;
        let task =
            format!(r#"{{"kind":"task","state":"cleaning up","what":"task","name":"clingy","children":[{leaf}]}}"#);
        let group = |reason: &str, child: &str| {
            format!(
                r#"{{"kind":"group","state":"cleaning up","cancelled_as":"{reason}","what":"a group","children":[{child}]}}"#
            )
        };
        let answer = answer(&group("its time is over", &group("what is around it was cancelled", &task)));
        let said = "not stopped yet: task `clingy` (cleaning up), waiting for: sleep, cancelled as its time is over.";
        assert!(why(&answer).contains(said), "{}", why(&answer));
        assert!(tree(&answer, false).contains("a group (cleaning up, as its time is over)\n"));
    }

    #[test]
    fn a_cleanup_outside_of_tasks_or_in_a_part_of_one_has_not_stopped_either() {
        let leaf = r#"{"kind":"timer","state":"running","what":"sleep"}"#;
        let bracket = format!(r#"{{"kind":"bracket","state":"cleaning up","what":"bracket","children":[{leaf}]}}"#);
        let limit = format!(
            r#"{{"kind":"limit","state":"cleaning up","cancelled_as":"its time is over","what":"timeout","children":[{bracket}]}}"#
        );
        let said = "not stopped yet: timeout (cleaning up, as its time is over), waiting for: sleep.";
        assert!(why(&answer(&limit)).contains(said), "{}", why(&answer(&limit)));
        let task = format!(r#"{{"kind":"task","state":"running","what":"task","name":"late","children":[{limit}]}}"#);
        let said = "not stopped yet: timeout (cleaning up, as its time is over) in task `late`, waiting for: sleep.";
        assert!(why(&answer(&task)).contains(said), "{}", why(&answer(&task)));
    }

    #[test]
    fn what_time_or_the_outside_ends_is_told_apart_from_what_nothing_ends() {
        let node = |kind: &str, what: &str, more: &str| {
            format!(r#"{{"kind":"{kind}","state":"running","what":"{what}"{more}}}"#)
        };
        let promise = node("wait", "a promise", "");
        let around = |kind: &str, more: &str| node(kind, "it", &format!(r#"{more},"children":[{promise}]"#));
        let left = r#","milliseconds_left":10000"#;
        for hopeful in [
            node("timer", "sleep", left),
            node("descriptor", "fd 7 to be readable", ""),
            node("process", "it", ""),
            node("thread", "it", ""),
            node("signal", "SIGTERM", ""),
            node("wait", "yield_now", ""),
            node("wait", "more, too far in to be drawn", ""),
            node("wait", "Condition", left),
            node("limit", "timeout", left),
            around("limit", left),
            around("group", left),
        ] {
            let said = why(&answer(&hopeful));
            assert!(said.contains("a thread may end some of that"), "{hopeful}: {said}");
        }
        for hopeless in [promise.clone(), around("group", ""), node("timer", "sleep for ever", "")] {
            let said = why(&answer(&hopeless));
            assert!(said.contains("xiio knows of will end that"), "{hopeless}: {said}");
        }
    }

    #[test]
    fn who_runs_or_is_to_begin_is_hopeful_and_who_waits_for_a_place_is_not() {
        let node = |kind: &str, state: &str, what: &str, more: &str| {
            format!(r#"{{"kind":"{kind}","state":"{state}","what":"{what}"{more}}}"#)
        };
        let around = |child: &str| node("task", "running", "task", &format!(r#","children":[{child}]"#));
        let ready = node("task", "not started", "task", "");
        let gives_way = around(&node("wait", "running", "something that does not wait", ""));
        let on_worker = around(&node("worker", "running", "worker 0, which was in a poll, 3 task(s)", ""));
        let waits = [
            (ready, "its turn to begin"),
            (gives_way, "its turn to go on"),
            (on_worker, "tasks of a worker that is in a poll"),
        ];
        for (hopeful, wait) in waits {
            let said = why(&answer(&hopeful));
            assert!(said.contains("a thread may end some of that"), "{hopeful}: {said}");
            assert!(said.contains(&format!("It waits for: {wait}.")), "{hopeful}: {said}");
        }
        let held = node("task", "not started", "task", r#","held":true"#);
        let promise = around(&node("wait", "running", "a promise", ""));
        let said = why(&answer(&format!("{promise},{held}")));
        assert!(said.contains("It waits for: a place among those that its group has at once; a promise."), "{said}");
        assert!(said.contains("xiio knows of will end that"), "{said}");
    }

    #[test]
    fn foreign_code_in_whatever_is_around_it_is_something_that_xiio_does_not_know() {
        for kind in ["body", "task", "group", "local", "limit", "bracket", "shield", "branch", "deferred"] {
            let around = format!(r#"{{"kind":"{kind}","state":"running","what":"REQUEST = 7"}}"#);
            let task = format!(r#"{{"kind":"task","state":"running","what":"task","children":[{around}]}}"#);
            let said = why(&answer(&task));
            assert!(said.contains("It waits for: something that xiio does not know."), "{kind}: {said}");
        }
    }

    #[test]
    fn what_differs_among_tasks_that_are_alike_is_left_out_unless_there_is_one() {
        type Leaf<'a> = &'a dyn Fn(usize) -> String;
        let answer_of = |n_tasks: usize, leaf: Leaf<'_>| {
            let task = |index: usize| {
                let leaf = leaf(index);
                format!(
                    r#"{{"kind":"task","state":"running","what":"task","file":"a.rs","line":1,"children":[{leaf}]}}"#
                )
            };
            let tasks: Vec<String> = (0..n_tasks).map(task).collect();
            let tasks = tasks.join(",");
            answer(&format!(r#"{{"kind":"group","state":"running","what":"a group","children":[{tasks}]}}"#))
        };
        let process = |pid: usize| {
            format!(r#"{{"kind":"process","state":"running","what":"process `a` ({pid}) to end","pid":{pid}}}"#)
        };
        let condition = |fd: usize| {
            let what = format!("Condition {{ readable: [{fd}], writable: [], n_promises: 0, deadline: None }}");
            format!(r#"{{"kind":"descriptor","state":"running","what":"{what}"}}"#)
        };
        let task = |index: usize| {
            format!(r#"{{"kind":"wait","state":"running","what":"the task `t{index}`, spawned at a.rs:{index}"}}"#)
        };
        let leaves: [(&str, &str, Leaf<'_>); 3] = [
            ("process `a` to end", "process `a` (0) to end", &process),
            ("a `Condition`", "Condition { readable: [0], writable: [], n_promises: 0, deadline: None }", &condition),
            ("another task", "the task `t0`, spawned at a.rs:0", &task),
        ];
        for (alike, alone, leaf) in leaves {
            let many = tree(&answer_of(20, leaf), false);
            assert!(many.ends_with(&format!("    20 tasks spawned at a.rs:1, waiting for: {alike}\n")), "{many}");
            let said = why(&answer_of(20, leaf));
            assert!(said.contains(&format!("It waits for: {alike} (20 times).")), "{said}");
            let said = why(&answer_of(1, leaf));
            assert!(said.contains(&format!("It waits for: {alone}.")), "{said}");
        }
    }

    #[test]
    fn of_many_the_first_are_named_and_the_rest_are_counted() {
        let promise = r#"{"kind":"wait","state":"running","what":"a promise"}"#;
        let said_of = |n_tasks: usize, state: &str| {
            let task = |name: usize| {
                format!(r#"{{"kind":"task","state":"{state}","what":"task","name":"t{name}","children":[{promise}]}}"#)
            };
            why(&answer(&(0..n_tasks).map(task).collect::<Vec<_>>().join(",")))
        };
        for (start, state) in [("or for foreign code: ", "running"), ("Cancelled and not stopped yet: ", "cleaning up")]
        {
            let said = |n_tasks: usize| {
                let said = said_of(n_tasks, state);
                said.lines().find_map(|line| Some(line.split_once(start)?.1.to_owned())).unwrap()
            };
            assert!(said(10).contains("task `t9`") && !said(10).contains(" more"), "{}", said(10));
            assert!(!said(13).contains("task `t10`") && said(13).ends_with("; and 3 more."), "{}", said(13));
        }
    }

    #[test]
    fn what_was_not_drawn_may_have_been_cancelled() {
        let leaf = |kind: &str, what: &str| format!(r#"{{"kind":"{kind}","state":"running","what":"{what}"}}"#);
        assert!(why(&answer(&leaf("wait", "a promise"))).ends_with("Nothing was cancelled that has not stopped.\n"));
        for undrawn in
            [leaf("wait", "more, too far in to be drawn"), leaf("worker", "worker 0, which was in a poll, 3 task(s)")]
        {
            let said = why(&answer(&undrawn));
            assert!(said.ends_with("Nothing was cancelled that has not stopped, as far as it was drawn.\n"), "{said}");
        }
    }

    #[test]
    fn of_a_blocked_loop_it_says_no_more_than_it_knows() {
        let said_of = |worker: &str| {
            let busy = format!(r#""busy":{{"milliseconds":700{worker}}}"#);
            let text = format!(r#"{{"version":1,"pid":7,"program":"a","milliseconds_old":5,{busy}}}"#);
            why(&Answer::parse(&text).unwrap())
        };
        // Another tree of the program goes on, and so do jobs on threads.
        assert!(said_of("").ends_with("\nNo other task of its thread goes on meanwhile.\n"), "{}", said_of(""));
        let said = said_of(r#","worker":true"#);
        assert!(said.ends_with("\nOf this tree only other workers go on meanwhile.\n"), "{said}");
    }

    #[test]
    fn a_loop_that_is_not_blocked_is_not_said_to_be() {
        let of = |busy: &str| {
            let text = format!(r#"{{"version":1,"pid":7,"program":"a","milliseconds_old":5{busy}}}"#);
            why(&Answer::parse(&text).unwrap())
        };
        assert!(!of("").contains("goes on"), "{}", of(""));
        let short = of(r#","busy":{"milliseconds":3}"#);
        assert!(!short.contains("3ms") && !short.contains("goes on"), "{short}");
        assert!(short.contains("The loop has not come to draw its tree: it goes from poll to poll"), "{short}");
    }

    #[test]
    fn tasks_of_any_age_are_compared_with_others_of_their_place() {
        let said_of = |ages: [u64; 3]| {
            let task = |age: u64| {
                let life = format!(r#""number":1,"milliseconds_old":{age},"polls":1,"microseconds_busy":1"#);
                format!(r#"{{"kind":"task","state":"running","what":"task","file":"a.rs","line":1,{life}}}"#)
            };
            why(&answer(&ages.map(task).join(",")))
        };
        assert!(said_of([0, 100, 500]).contains("Much older than others of its place: task, spawned at a.rs:1, "));
        assert!(!said_of([0, 101, 504]).contains("Much older"));
        assert!(!said_of([0, u64::MAX / 4, u64::MAX]).contains("Much older"));
    }

    #[test]
    fn the_busiest_and_the_stuck_are_marked() {
        let task = |number: u32, polls: u32, busy: u32, more: &str| {
            format!(
                r#"{{"kind":"task","state":"running","what":"task","name":"t{number}","number":{number},"milliseconds_old":9,"polls":{polls},"microseconds_busy":{busy}{more}}}"#
            )
        };
        let seen = |busy: u32| {
            let stuck = task(3, 1, 1, r#","milliseconds_cancelled":1500"#);
            answer(&[task(1, busy / 100, busy, ""), task(2, 7, 7, ""), stuck].join(","))
        };
        let (first, look) = marks(&seen(1000), &Look::new(), 1.0);
        assert!(first.starts_with("  STUCK task `t3`") && first.lines().count() == 1, "{first}");
        let (second, _) = marks(&seen(501_000), &look, 1.0);
        assert!(second.contains("  BUSY 50.0 % in 5000 polls a second: task `t1`"), "{second}");
        assert!(!second.contains("`t2`"), "{second}");
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        let hostile = r#"{"kind":"task","state":"\u001b[31m","what":"a\nb","name":"\"\u001b]0;\u009b\u202e\u2066\u2028\u200f","file":"\u0007","line":1,"locals":{"\u001b":"\u001b[31m"}}"#;
        let answer = answer(hostile);
        for text in [tree(&answer, false), why(&answer), dot(&answer), head(&answer)] {
            let is_obeyed = |c| matches!(c, '\u{200f}' | '\u{2028}' | '\u{202e}' | '\u{2066}');
            assert!(!text.chars().any(|c| is_obeyed(c) || c.is_control() && c != '\n'), "{text:?}");
        }
        let raw = json("{\"version\":1,\"a\":\"\u{9b}\u{7f}\u{202e}é\"}\n");
        assert_eq!(raw, "{\"version\":1,\"a\":\"\\u009b\\u007f\\u202eé\"}\n");
        assert_eq!(json("{\"a\":\r0,\t\"b\":\n0}\r\n"), "{\"a\": 0, \"b\":\n0} \n", "there are spaces between tokens");
        assert!(dot(&answer).contains("\\\""), "{}", dot(&answer));
    }

    #[test]
    fn a_graph_has_the_text_as_it_is_also_of_a_loop_that_is_blocked() {
        let shown = dot(&answer(r#"{"kind":"task","state":"running","what":"task","name":"a &lt; b"}"#));
        assert!(shown.contains("[label=\"task `a &amp;lt; b`\"];"), "{shown}");
        let blocked = r#"{"version":1,"pid":7,"program":"a","milliseconds_old":5,"busy":{"milliseconds":700}}"#;
        let shown = dot(&Answer::parse(blocked).unwrap());
        assert!(shown.contains("[label=\"The loop is blocked: the root "), "{shown}");
    }
}
