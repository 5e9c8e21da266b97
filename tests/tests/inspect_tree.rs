//! The tree as data: nodes with kind and fields, and the forms in which they are written.

use std::future::pending;
use std::os::fd::AsRawFd;
use std::time::Duration;

use xiio::inspect::{Kind, Node, State, Tree, tree};
use xiio::{bracket, branch, in_thread, readable, shield, sleep, task_group, timeout, yield_now};

const MINUTE: Duration = Duration::from_secs(60);

/// The only node of this kind.
fn only(tree: &Tree, kind: Kind) -> &Node {
    let found: Vec<&Node> = tree.nodes().map(|(_, node)| node).filter(|node| node.kind() == kind).collect();
    assert_eq!(found.len(), 1, "{kind:?} in\n{tree}");
    found[0]
}

#[xiio::test(virtual_time)]
async fn each_node_says_what_it_is_and_what_it_waits_for() {
    let (reader, _writer) = std::io::pipe().unwrap();
    let line = line!() + 2;
    let tree = task_group!(name = "workers", |tg| {
        tg.spawn(timeout(MINUTE, bracket((), async |()| readable(&reader).await, async |()| {})));
        yield_now().await;
        let tree = tree().await;
        tg.cancel();
        tree
    });
    let (_, group) = tree.nodes().find(|(_, node)| node.name() == Some("workers")).unwrap();
    assert_eq!(group.kind(), Kind::Group);
    let kinds: Vec<Kind> = group.children().iter().map(Node::kind).collect();
    assert_eq!(kinds, [Kind::Body, Kind::Task]);
    let task = &group.children()[1];
    let spawned_at = task.spawned_at().unwrap();
    assert_eq!((spawned_at.file(), spawned_at.line()), (file!(), line));
    assert!(task.type_name().is_some_and(|name| name.contains("bracket")), "{:?}", task.type_name());
    let limit = only(&tree, Kind::Limit);
    assert_eq!((limit.kind(), limit.what(), limit.time_left()), (Kind::Limit, "timeout", Some(MINUTE)));
    let bracket = &limit.children()[0];
    assert_eq!((bracket.kind(), bracket.state()), (Kind::Bracket, State::Running));
    let descriptor = &bracket.children()[0];
    assert_eq!((descriptor.kind(), descriptor.fd()), (Kind::Descriptor, Some(reader.as_raw_fd())));
}

#[xiio::test]
async fn states_are_those_of_the_life_of_a_task() {
    let tree = task_group!(|tg| {
        let cleaning = tg.spawn(shield(sleep(Duration::from_millis(1))));
        yield_now().await;
        let cancelled = cleaning.cancel();
        tg.spawn(async {});
        let tree = tree().await;
        cancelled.await;
        tree
    });
    let states: Vec<State> =
        tree.nodes().filter(|(_, node)| node.kind() == Kind::Task).map(|(_, node)| node.state()).collect();
    assert!(states.contains(&State::CleaningUp), "{tree}");
    assert_eq!(only(&tree, Kind::Shield).state(), State::CleaningUp);
}

#[xiio::test]
async fn a_branch_and_a_thread_are_nodes() {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let tree = task_group!(|tg| {
        tg.spawn(branch(in_thread(move || receiver.recv().is_err())));
        yield_now().await;
        let tree = tree().await;
        drop(sender);
        tree
    });
    let branch = only(&tree, Kind::Branch);
    assert_eq!(branch.children()[0].kind(), Kind::Thread, "{tree}");
    assert!(branch.children()[0].spawned_at().is_some());
}

#[xiio::test]
async fn names_are_written_so_that_they_break_out_of_no_form() {
    let name = "a\"b\\c</script>\u{1b}[31m\n\u{2028}";
    let tree = task_group!(name = name, |tg| {
        tg.spawn(pending::<()>());
        let tree = tree().await;
        tg.cancel();
        tree
    });
    let json = tree.to_json();
    assert!(json.contains(r#""name":"a\"b\\c\u003c/script>\u001b[31m\u000a\u2028""#), "{json}");
    assert!(json.starts_with("[{\"kind\":\"group\",\"state\":\"running\""), "{json}");
    let dot = tree.to_dot();
    assert!(dot.contains(r#"[label="group `a\"b\\c</script>\\u{1b}[31m\\n"#), "{dot}");
    assert!(dot.contains("n0 -> n1;") && dot.ends_with("}\n"), "{dot}");
}
