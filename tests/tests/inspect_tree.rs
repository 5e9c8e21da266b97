//! The tree as data: nodes with kind and fields, and the forms in which they are written.

use std::cell::RefCell;
use std::future::{IntoFuture, pending};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use xiio::inspect::{Kind, Node, State, Tree, listen, record, tree};
use xiio::io::Read;
use xiio::net::{TcpListener, TcpStream};
use xiio::process::run_process;
use xiio::signal::{SIGUSR1, SIGUSR2, subscribe};
use xiio::testing::Tester;
use xiio::{
    Condition, Promise, as_completed, bracket, branch, gather, in_thread, interval, join, race, race_ok, readable,
    shield, sleep, task_group, timeout, try_gather, try_join, yield_now,
};
use xiio_tests::Reports;

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

#[xiio::test(virtual_time)]
async fn whatever_time_ends_says_how_much_is_left() {
    let mut ticks = interval(MINUTE);
    ticks.tick().await;
    let tree = task_group!(name = "limited", timeout = 3 * MINUTE, |tg| {
        tg.spawn(async { ticks.tick().await });
        tg.spawn(async { Condition::new().timeout(2 * MINUTE).wait().await.is_ok() });
        tg.spawn(sleep(Duration::MAX));
        yield_now().await;
        let tree = tree().await;
        tg.cancel();
        tree
    });
    let left = |what: &str| {
        let (_, node) = tree.as_ref().unwrap().nodes().find(|(_, node)| node.to_string().starts_with(what)).unwrap();
        (node.kind(), node.time_left())
    };
    assert_eq!(left("group `limited`"), (Kind::Group, Some(3 * MINUTE)));
    assert_eq!(left("tick"), (Kind::Timer, Some(MINUTE)));
    assert_eq!(left("Condition"), (Kind::Timer, Some(2 * MINUTE)));
    assert_eq!(left("sleep for ever"), (Kind::Timer, None));
}

#[xiio::test(virtual_time)]
async fn what_is_cancelled_has_its_grace_left_and_no_limit_any_more() {
    let inside = async {
        let _ = task_group!(timeout = MINUTE, grace = 2 * MINUTE, |tg| {
            tg.spawn(timeout(5 * MINUTE, shield(pending::<()>())));
        });
    };
    let tree = tree_of_the_end(async {
        let _ = timeout(Duration::from_millis(1), inside).await;
    })
    .await;
    let cleaning = || tree.nodes().map(|(_, node)| node).filter(|node| node.state() == State::CleaningUp);
    let left: Vec<_> = cleaning().filter(|node| node.kind() == Kind::Limit).map(Node::time_left).collect();
    assert_eq!(left, [None, None], "{tree}");
    let left = cleaning().find(|node| node.kind() == Kind::Group).unwrap().time_left().unwrap();
    assert!(left <= 2 * MINUTE && left > MINUTE, "{tree}");
}

#[xiio::test(virtual_time)]
async fn a_wait_for_a_signal_or_for_any_of_several_things_says_what_ends_it() {
    let (reader, _writer) = std::io::pipe().unwrap();
    let mut signals = subscribe(&[SIGUSR1, SIGUSR2]).unwrap();
    let tree = task_group!(|tg| {
        tg.spawn(async { signals.recv().await.is_ok() });
        tg.spawn(async { Condition::new().readable(&reader).wait().await.is_ok() });
        tg.spawn(async { Condition::new().promise(&Promise::<()>::new()).wait().await.is_ok() });
        yield_now().await;
        let tree = tree().await;
        tg.cancel();
        tree
    });
    let tasks = tree.nodes().map(|(_, node)| node).filter(|node| node.kind() == Kind::Task);
    let kinds: Vec<Kind> = tasks.map(|task| task.children()[0].kind()).collect();
    assert_eq!(kinds, [Kind::Signal, Kind::Descriptor, Kind::Wait], "{tree}");
}

#[xiio::test]
async fn a_descriptor_is_drawn_with_what_it_is_and_who_is_at_its_other_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = TcpStream::connect(address).await.unwrap();
    let (server, peer) = listener.accept().await.unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    let tree = task_group!(|tg| {
        tg.spawn(async { (&server).read(&mut [0]).await.is_ok() });
        tg.spawn(async { listener.accept().await.is_ok() });
        tg.spawn(readable(&reader));
        tg.spawn(client.readable());
        yield_now().await;
        let tree = tree().await;
        tg.cancel();
        tree
    });
    let leaves: Vec<_> = tree.nodes().map(|(_, node)| node).filter(|node| node.kind() == Kind::Descriptor).collect();
    let what: Vec<_> = leaves.iter().map(|leaf| (leaf.descriptor().unwrap(), leaf.address(), leaf.peer())).collect();
    let (address, peer) = (address.to_string(), peer.to_string());
    assert_eq!(
        what,
        [
            ("TCP socket", Some(&*address), Some(&*peer)),
            ("TCP listener", Some(&*address), None),
            ("pipe", None, None),
            ("TCP socket", Some(&*peer), Some(&*address)),
        ]
    );
    assert!(leaves[0].to_string().ends_with(&format!("to be readable, TCP socket at {address} with {peer}")), "{tree}");
    let json = tree.to_json();
    assert!(json.contains(&format!(r#""descriptor":"TCP socket","address":"{address}","peer":"{peer}""#)), "{json}");
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

/// The tree a second after the start of what cleans up for longer.
async fn tree_of_the_end(ending: impl Future) -> Tree {
    task_group!(|tg| {
        tg.spawn(ending);
        sleep(Duration::from_secs(1)).await;
        tree().await
    })
}

#[xiio::test(virtual_time)]
async fn what_was_cancelled_says_why() {
    let clingy = || shield(sleep(MINUTE));
    let why = |tree: &Tree| {
        let nodes = tree.nodes().map(|(_, node)| node);
        let found: Vec<_> =
            nodes.filter_map(|node| Some((node.what().to_owned(), node.why_cancelled()?.to_owned()))).collect();
        assert!(
            tree.nodes()
                .filter(|(_, node)| node.why_cancelled().is_some())
                .all(|(_, n)| n.state() == State::CleaningUp)
        );
        found
    };
    let is = |what: &str, why: &str| (what.to_owned(), why.to_owned());

    let late = tree_of_the_end(async {
        let late = task_group!(timeout = Duration::from_millis(1), |tg| {
            tg.spawn(clingy());
        });
        assert!(late.is_err());
    });
    let late = late.await;
    assert_eq!(why(&late), [is("a group", "its time is over")]);
    assert!(late.to_string().contains(", as its time is over)"), "{late}");
    assert!(
        late.to_json().contains(r#""state":"cleaning up","cancelled_as":"its time is over""#),
        "{}",
        late.to_json()
    );

    let line = line!() + 5;
    let asked = tree_of_the_end(async {
        task_group!(|tg| {
            let (one, other) = (tg.spawn(clingy()), tg.spawn(clingy()));
            yield_now().await;
            drop(one.cancel());
            other.canceller().cancel();
            tg.spawn(clingy());
            yield_now().await;
            tg.cancel();
        });
    });
    let asked = asked.await;
    let found = why(&asked);
    for (cause, line) in [("asked for", line), ("asked for", line + 1), ("its group was cancelled", line + 4)] {
        let expected = is("task", &format!("{cause} at {}:{line} by a group", file!()));
        assert!(found.contains(&expected), "no {expected:?} in {asked}");
    }

    let failed = tree_of_the_end(async {
        let failed: Result<(), &str> = xiio::try_task_group!(error = &str, |tg| {
            tg.spawn(async {
                clingy().await;
                Ok(())
            });
            tg.spawn_named("broken", async {
                yield_now().await;
                Err::<(), _>("no luck")
            });
        });
        assert!(failed.is_err());
    });
    let failed = why(&failed.await);
    assert!(
        failed[0].1.starts_with("a task, `broken`, spawned at ") && failed[0].1.ends_with(", failed"),
        "{failed:?}"
    );

    let won = tree_of_the_end(race([false, true].map(async |wins| {
        if !wins {
            clingy().await;
        }
    })));
    let won = why(&won.await);
    assert!(
        won[0].0 == "race" && won[0].1.starts_with("a task, spawned at ") && won[0].1.ends_with(", won"),
        "{won:?}"
    );

    // The group inside says that it was not by itself.
    let limited = tree_of_the_end(async {
        let group = async {
            task_group!(|tg| {
                tg.spawn(clingy());
            });
        };
        assert!(timeout(Duration::from_millis(1), group).await.is_err());
    });
    assert_eq!(
        why(&limited.await),
        [is("timeout", "its time is over"), is("a group", "what is around it was cancelled")]
    );
}

#[xiio::test]
async fn who_waits_for_a_place_is_told_apart_from_who_begins_next() {
    let n_held = |tree: &Tree| tree.to_json().matches(r#""state":"not started","held":true"#).count();
    for (limit, expected) in [(1, 2), (3, 0)] {
        let tree = task_group!(limit = limit, |tg| {
            for _ in 0..3 {
                tg.spawn(pending::<()>());
            }
            let tree = tree().await;
            tg.cancel();
            tree
        });
        assert_eq!(n_held(&tree), expected, "{}", tree.to_json());
    }
}

#[xiio::test(virtual_time)]
async fn who_waits_for_a_cleanup_says_so() {
    let tree = task_group!(|tg| {
        let clingy = tg.spawn_named("clingy", shield(sleep(MINUTE)));
        tg.spawn(async {
            yield_now().await;
            clingy.cancel().await;
        });
        sleep(Duration::from_secs(1)).await;
        tree().await
    });
    assert!(tree.to_string().contains("the cleanup of the task `clingy`, spawned at "), "{tree}");
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

#[xiio::test]
async fn a_named_task_has_its_name_where_it_is_seen_and_where_it_is_awaited() {
    let tree = task_group!(limit = 2, |tg| {
        let poller = tg.spawn_named("poller", pending::<()>());
        tg.spawn_named(format!("waiter {}", 1), async { poller.outcome().await.is_ok() });
        yield_now().await;
        // There is no place for it.
        tg.spawn_named("late", async {});
        let tree = tree().await;
        tg.cancel();
        tree
    });
    let tasks = tree.nodes().map(|(_, node)| node).filter(|node| node.kind() == Kind::Task);
    let names: Vec<&str> = tasks.filter_map(Node::name).collect();
    assert_eq!(names, ["poller", "waiter 1", "late"], "{tree}");
    let text = tree.to_string();
    assert!(text.contains("task `poller`, spawned at tests/"), "{text}");
    assert!(text.contains("the task `poller`, spawned at "), "{text}");
    assert!(text.contains("task `late` (not started), spawned at"), "{text}");
}

#[xiio::test]
async fn a_name_is_gone_with_its_task() {
    let tree = task_group!(|tg| {
        let ended = tg.spawn_named("ended", async {});
        ended.await;
        tg.spawn_named("dropped", pending::<()>());
        tg.cancel();
        yield_now().await;
        // These take the memory of those, where it is given out again.
        for _ in 0..4 {
            tg.spawn(pending::<()>());
        }
        let tree = tree().await;
        tg.cancel();
        tree
    });
    let tasks: Vec<&Node> = tree.nodes().map(|(_, node)| node).filter(|node| node.kind() == Kind::Task).collect();
    assert!(tasks.len() == 4 && tasks.iter().all(|task| task.name().is_none()), "{tree}");
}

#[xiio::test]
async fn a_report_has_the_name_of_the_task_that_it_is_about() {
    let reports = Rc::new(RefCell::new(Vec::new()));
    let sink = Rc::clone(&reports);
    let _listening = listen(move |report| sink.borrow_mut().push(report.to_string()));
    let failed: Result<(), &str> = xiio::try_task_group!(error = &str, |tg| {
        tg.spawn_named(
            "second\u{1b}",
            shield(async {
                yield_now().await;
                yield_now().await;
                Err::<(), _>("later")
            }),
        );
        tg.spawn_named("first", async {
            yield_now().await;
            Err::<(), _>("at first")
        });
    });
    assert_eq!(failed, Err("at first"));
    let reports = reports.borrow();
    assert!(reports.len() == 1 && reports[0].starts_with(r"a task, `second\u{1b}`, spawned at tests/"), "{reports:?}");
}

/// What the tree calls the only group that `combinator` is.
async fn group_of(combinator: impl Future) -> String {
    let tree = task_group!(name = "around", |tg| {
        tg.spawn(combinator);
        yield_now().await;
        let tree = tree().await;
        tg.cancel();
        tree
    });
    let groups = tree.nodes().map(|(_, node)| node).filter(|node| node.kind() == Kind::Group && node.name().is_none());
    let names: Vec<&str> = groups.map(Node::what).collect();
    assert_eq!(names.len(), 1, "{tree}");
    names[0].to_owned()
}

#[xiio::test]
async fn a_combinator_goes_by_its_own_name() {
    let forever = pending::<()>;
    let failing = pending::<Result<(), ()>>;
    assert_eq!(group_of(gather([forever()])).await, "gather");
    assert_eq!(group_of(try_gather([failing()])).await, "try_gather");
    assert_eq!(group_of(async { join!(forever(), forever()) }).await, "join!");
    assert_eq!(group_of(async { try_join!(failing(), failing()) }).await, "try_join!");
    assert_eq!(group_of(race([forever()])).await, "race");
    assert_eq!(group_of(race_ok([failing()])).await, "race_ok");
    assert_eq!(group_of(async { race!(forever(), forever()) }).await, "race!");
    let completed = as_completed([forever()]).consume(async |outputs| outputs.next().await);
    assert_eq!(group_of(completed).await, "as_completed");
    assert_eq!(group_of(async { task_group!(|_tg| forever().await) }).await, "a group");
}

#[xiio::test]
async fn a_command_that_runs_is_called_run_process() {
    let tree = task_group!(|tg| {
        tg.spawn(run_process(["sleep", "60"]).into_future());
        yield_now().await;
        let tree = tree().await;
        tg.cancel();
        tree
    });
    let (_, command) = tree.nodes().find(|(_, node)| node.what() == "run_process").unwrap();
    assert_eq!((command.kind(), command.name()), (Kind::Process, Some("sleep")), "{tree}");
    assert!(command.pid().is_some_and(|pid| pid > 1));
}

#[test]
fn workers_are_drawn_with_their_tasks_in_the_tree_of_home() {
    let (line, n_begun) = (line!() + 6, AtomicUsize::new(0));
    let tree = xiio::run(async {
        task_group!(name = "with workers", workers = 2, |tg| {
            tg.spawn_named("at home", pending::<()>());
            for _ in 0..4 {
                let n_begun = &n_begun;
                tg.workers().spawn(async move || {
                    n_begun.fetch_add(1, SeqCst);
                    bracket((), async |()| sleep(MINUTE).await, async |()| ()).await;
                });
            }
            while n_begun.load(SeqCst) < 4 {
                sleep(Duration::from_millis(1)).await;
            }
            let tree = tree().await;
            tg.cancel();
            tree
        })
    });
    let (_, group) = tree.nodes().find(|(_, node)| node.name() == Some("with workers")).unwrap();
    let kinds: Vec<Kind> = group.children().iter().map(Node::kind).collect();
    assert!(kinds.starts_with(&[Kind::Body, Kind::Task, Kind::Worker]), "{tree}");
    let workers = group.children().iter().filter(|node| node.kind() == Kind::Worker);
    let tasks: Vec<&Node> = workers.flat_map(Node::children).collect();
    assert_eq!(tasks.len(), 4, "{tree}");
    for task in tasks {
        assert_eq!((task.kind(), task.state(), task.spawned_at().unwrap().line()), (Kind::Task, State::Running, line));
        let timer = &task.children()[0].children()[0];
        assert!(timer.kind() == Kind::Timer && timer.time_left().is_some_and(|left| left <= MINUTE), "{tree}");
    }
}

#[test]
fn workers_of_workers_are_drawn_and_each_asks_for_the_whole_of_its_thread() {
    let n_begun = AtomicUsize::new(0);
    let trees = xiio::run(async {
        task_group!(workers = 1, |tg| {
            let (n_begun, stop) = (&n_begun, Promise::new());
            let stops = stop.clone();
            let on_worker = tg.workers().spawn(async move || {
                task_group!(name = "inner", workers = 1, |tg| {
                    tg.workers().spawn(async move || {
                        n_begun.fetch_add(1, SeqCst);
                        stops.wait().await;
                    });
                    while n_begun.load(SeqCst) < 1 {
                        sleep(Duration::from_millis(1)).await;
                    }
                    let tree = tree().await;
                    n_begun.fetch_add(1, SeqCst);
                    tree
                })
            });
            while n_begun.load(SeqCst) < 2 {
                sleep(Duration::from_millis(1)).await;
            }
            let at_home = tree().await;
            stop.set(()).unwrap();
            [at_home, on_worker.await]
        })
    });
    let [at_home, on_worker] = trees;
    let is_promise = |tree: &Tree| tree.nodes().any(|(_, node)| node.what().contains("a promise"));
    let has_asker = |tree: &Tree| tree.nodes().any(|(_, node)| node.what() == "a drawing of the tree");
    let n_workers = |tree: &Tree| tree.nodes().filter(|(_, node)| node.kind() == Kind::Worker).count();
    assert!(is_promise(&at_home) && n_workers(&at_home) == 2, "{at_home}");
    assert!(is_promise(&on_worker) && n_workers(&on_worker) == 2, "{on_worker}");
    assert!(has_asker(&at_home) && has_asker(&on_worker), "{at_home}\n{on_worker}");
}

/// As at home.
#[test]
fn what_was_cancelled_on_a_worker_says_why() {
    for workers in [0, 1] {
        // A tree says more of who is recorded.
        let recording = record(10_000);
        let (n_begun, go_on) = (AtomicUsize::new(0), Promise::new());
        let line = line!() + 24;
        let tree = xiio::run(async {
            task_group!(name = "team", workers = workers, |tg| {
                let spawn = || {
                    let (n_begun, go_on) = (&n_begun, go_on.clone());
                    tg.workers().spawn(async move || {
                        n_begun.fetch_add(1, SeqCst);
                        bracket((), async |()| pending::<()>().await, async |()| shield(go_on.wait()).await).await;
                    })
                };
                let has_begun = async |n| {
                    while n_begun.load(SeqCst) < n {
                        sleep(Duration::from_millis(1)).await;
                    }
                };
                // Until the worker has obeyed.
                let with_cleanups = async |n| loop {
                    let tree = tree().await;
                    if tree.to_string().matches("bracket (cleaning up").count() == n {
                        break tree;
                    }
                };
                let cancelled = spawn();
                has_begun(1).await;
                let cancelled = cancelled.cancel();
                let look = async {
                    with_cleanups(1).await;
                    let _with_group = spawn();
                    has_begun(2).await;
                    tg.cancel();
                    let tree = with_cleanups(2).await;
                    go_on.set(()).unwrap();
                    tree
                };
                join!(cancelled, look).1
            })
        });
        drop(recording);
        let text = tree.to_string();
        let asked = [("asked for", line, "a group `team`"), ("its group was cancelled", line + 5, "task, spawned at ")];
        for (cause, line, by) in asked {
            let why = "task (cleaning up for ";
            let reason = format!(", as {cause} at {}:{line} by {by}", file!());
            assert!(
                text.lines().any(|line| line.contains(why) && line.contains(&reason)),
                "{reason} in {workers}\n{text}"
            );
        }
        assert!(text.contains("the cleanup of the task on a worker spawned at "), "{text}");
    }
}

#[test]
fn a_drawing_comes_also_where_a_worker_is_long_in_a_poll() {
    let tree = xiio::run(async {
        task_group!(workers = 1, |tg| {
            let (begin, begins) = std::sync::mpsc::channel();
            tg.workers().spawn(async move || {
                begin.send(()).unwrap();
                std::thread::sleep(Duration::from_millis(700));
                pending::<()>().await;
            });
            while begins.try_recv().is_err() {
                sleep(Duration::from_millis(1)).await;
            }
            let tree = tree().await;
            tg.cancel();
            tree
        })
    });
    // With its task, if it has come to it in time.
    assert!(only(&tree, Kind::Worker).what().starts_with("worker 0"), "{tree}");
}

/// A drawing waits for the end of a poll, and not for that of a turn, which has several.
#[test]
fn a_worker_is_drawn_between_two_polls() {
    let polled_for = Duration::from_millis(30);
    let trees = xiio::run(async {
        task_group!(workers = 1, |tg| {
            let begun = Promise::new();
            let begins = begun.clone();
            tg.workers().spawn(async move || {
                let _ = begins.set(());
                loop {
                    std::thread::sleep(polled_for);
                    yield_now().await;
                }
            });
            begun.wait().await;
            let mut trees = Vec::new();
            for _ in 0..4 {
                trees.push(tree().await.to_string());
            }
            tg.cancel();
            trees
        })
    });
    // All, where the machine has time.
    assert!(trees.iter().any(|tree| tree.contains("yield_now")), "{trees:?}");
}

/// Home cannot draw what is around the group before the worker comes out, and that waits for home.
#[test]
fn a_drawing_comes_also_where_a_worker_blocks_for_who_wants_it() {
    let tree = xiio::run(async {
        task_group!(name = "outer", workers = 1, |outer| {
            let ((begin, begins), (go_on, goes_on)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
            outer.workers().spawn(async move || {
                begin.send(()).unwrap();
                goes_on.recv().unwrap();
            });
            while begins.try_recv().is_err() {
                sleep(Duration::from_millis(1)).await;
            }
            // Of two groups that lend it is the outer one whose worker does not come out.
            let tree = task_group!(name = "inner", workers = 1, |inner| {
                let never = inner.workers().spawn(async || pending::<()>().await);
                let tree = tree().await;
                let _ = never.cancel().await;
                tree
            });
            go_on.send(()).unwrap();
            tree
        })
    });
    let place = |what: &str| tree.nodes().position(|(_, node)| node.to_string().contains(what));
    assert!(place("group `outer`").is_some() && place("group `outer`") < place("group `inner`"), "{tree}");
    assert!(place("worker 0, which was in a poll, 1 task(s)").is_some(), "{tree}");
    assert!(tree.to_string().starts_with("more around it, not drawn, as a worker is long in its poll\n"), "{tree}");
}

/// A look takes more of the stack than a poll does, and must not end a program that gets on.
#[test]
fn groups_that_are_too_far_in_are_not_drawn() {
    type AnyFuture<T> = Pin<Box<dyn Future<Output = T>>>;

    fn nested(depth: u32) -> AnyFuture<Tree> {
        Box::pin(async move {
            match depth {
                0 => tree().await,
                _ => task_group!(|tg| { tg.spawn(nested(depth - 1)).await }),
            }
        })
    }

    // The usual polls need more than a thread has, where a sanitizer makes them larger.
    let thread = std::thread::Builder::new().stack_size(8 << 20);
    let tree = thread.spawn(|| xiio::run(nested(500)).to_string()).unwrap().join().unwrap();
    let n_lines_with = |what: &str| tree.lines().filter(|line| line.contains(what)).count();
    assert_eq!(n_lines_with("more, too far in to be drawn"), 1, "{tree}");
    assert!((100..500).contains(&n_lines_with("a group")), "{tree}");
}

/// What `future` gives, in so many nodes.
fn in_nodes<'a, T: 'a>(n_nodes: u32, future: impl Future<Output = T> + 'a) -> Pin<Box<dyn Future<Output = T> + 'a>> {
    (0..n_nodes).fold(Box::pin(future), |inner, number| match number % 3 {
        0 => Box::pin(async move { timeout(MINUTE, inner).await.unwrap() }),
        1 => Box::pin(async move { bracket((), async |()| inner.await, async |()| {}).await }),
        _ => Box::pin(async move { branch(inner).await }),
    })
}

fn n_levels(tree: &Tree) -> usize {
    tree.nodes().map(|(depth, _)| depth + 1).max().unwrap()
}

fn n_too_far_in(tree: &Tree) -> usize {
    tree.nodes().filter(|(_, node)| node.what() == "more, too far in to be drawn").count()
}

/// On a thread whose stack has room for it.
fn drawn_deep_down<F: Future<Output = Tree>>(make: impl FnOnce() -> F + Send + 'static) -> Tree {
    let thread = std::thread::Builder::new().stack_size(256 << 20);
    thread.spawn(|| xiio::run(make())).unwrap().join().unwrap()
}

/// Whoever gets the drawing, writes it or drops it has a stack of its own, which may be smaller than that of the tree. `xiio-inspect` reads 1023 levels.
#[test]
fn what_is_too_far_in_is_not_drawn_whatever_it_is_in() {
    let tree = drawn_deep_down(|| in_nodes(1200, async { join!(tree(), tree()).0 }));
    assert_eq!(n_too_far_in(&tree), 1);
    assert!((500..1024).contains(&n_levels(&tree)), "{} levels", n_levels(&tree));
    assert_eq!(tree.to_json().matches("\"kind\"").count(), tree.nodes().count());
    assert_eq!(tree.to_dot().matches("label=").count(), tree.nodes().count());
}

/// A worker draws from the root of its thread on, and that has its place somewhere in the tree. Its stack is not large.
#[test]
fn what_a_worker_has_drawn_may_be_too_far_in() {
    let (begin, begins) = std::sync::mpsc::channel();
    let at_home = async move || {
        task_group!(workers = 1, |tg| {
            tg.workers().spawn(async move || {
                let begun = async move {
                    begin.send(()).unwrap();
                    pending::<()>().await;
                };
                in_nodes(100, begun).await;
            });
            while begins.try_recv().is_err() {
                sleep(Duration::from_millis(1)).await;
            }
            let tree = tree().await;
            tg.cancel();
            tree
        })
    };
    let tree = drawn_deep_down(move || in_nodes(950, at_home()));
    assert_eq!(n_too_far_in(&tree), 1, "{tree}");
    assert!((500..1024).contains(&n_levels(&tree)), "{} levels", n_levels(&tree));
}

/// What the program reports when it does this on a thread whose stack has room for it.
fn reported_deep_down(work: impl FnOnce() + Send + 'static) -> Vec<String> {
    let thread = std::thread::Builder::new().stack_size(256 << 20);
    let work = || {
        let reports = Reports::new();
        work();
        reports.texts()
    };
    thread.spawn(work).unwrap().join().unwrap()
}

#[test]
fn what_a_grace_cuts_off_on_workers_may_be_too_far_in() {
    for (n_around, is_too_far) in [(300, false), (950, true), (1100, true)] {
        let texts = reported_deep_down(move || {
            let begun = Promise::new();
            // Cancelled before it has begun, a shield does not hold.
            let clingy = || {
                shield(async {
                    begun.set(()).unwrap();
                    pending::<()>().await;
                })
            };
            let inner = async {
                task_group!(workers = 1, |tg| {
                    tg.workers().spawn(async || in_nodes(100, clingy()).await);
                });
            };
            xiio::run(async {
                task_group!(grace = Duration::from_millis(500), |tg| {
                    let task = tg.spawn(in_nodes(n_around, inner));
                    begun.wait().await;
                    task.cancel().await;
                });
            });
        });
        let [text] = &*texts else { panic!("not one report: {texts:?}") };
        let n_indented = text.lines().map(|line| line.len() - line.trim_start().len()).max().unwrap();
        assert!((300..1024).contains(&(n_indented / 2)), "{} levels", n_indented / 2);
        assert_eq!(text.contains("more, too far in to be drawn"), is_too_far, "{text}");
        // Where its group is not drawn the worker is, at the end.
        assert_eq!(text.contains("shield (cleaning up"), n_around != 950, "{text}");
    }
}

#[test]
fn a_cleanup_that_takes_long_is_reported_also_where_it_is_too_far_in() {
    for n_around in [600, 1100] {
        let texts = reported_deep_down(move || {
            let inner = async || {
                task_group!(|tg| {
                    let clingy = tg.spawn(shield(sleep(MINUTE)));
                    yield_now().await;
                    clingy.cancel().await;
                });
            };
            let tester = Tester::new().virtual_time().slow_cleanup(Duration::from_secs(1));
            tester.run(|| in_nodes(n_around, inner()));
        });
        let [text] = &*texts else { panic!("not one report: {texts:?}") };
        assert!(text.starts_with("a cleanup has taken 1s and goes on"), "{text}");
        let end = if n_around == 600 { "sleep, 59s more" } else { "more, too far in to be drawn" };
        assert!(text.contains(end), "{text}");
    }
}
