//! Recordings: what happened to whom and when, for the program itself, in a file, and as a page.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::future::{pending, poll_fn};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Barrier;
use std::task::Poll;
use std::time::{Duration, Instant};

use serde_json::Value;
use xiio::inspect::{self, listen, record};
use xiio::signal::SIGQUIT;
use xiio::testing::{Tester, pause};
use xiio::{
    Promise, bracket, catch_panic, race, readable, run_in_thread, shield, sleep, task_group, timeout, yield_now,
};
use xiio_tests::os::{end_fork, fork, has_ended_well, rerun, wait_until};
use xiio_tests::{assert_panics, millis, run};

/// A trace, with what the tests look at.
struct Trace {
    trace: Value,
}

impl Trace {
    fn parse(text: &str) -> Self {
        Self { trace: serde_json::from_str(text).expect("a recording is JSON") }
    }

    fn events(&self) -> &[Value] {
        self.trace["traceEvents"].as_array().expect("there are events")
    }

    /// The number of the only member with this name.
    fn number(&self, name: &str) -> u64 {
        let has_name = |event: &&Value| event["cat"] == "life" && event["args"]["name"] == name;
        let found: Vec<&Value> = self.events().iter().filter(has_name).collect();
        assert_eq!(found.len(), 1, "`{name}` in {found:?}");
        found[0]["tid"].as_u64().unwrap()
    }

    fn life(&self, name: &str) -> &Value {
        let number = self.number(name);
        self.events().iter().find(|event| event["cat"] == "life" && event["tid"] == number).unwrap()
    }

    /// What happened to a member, in words, in the order of time.
    fn story(&self, name: &str) -> Vec<String> {
        let number = self.number(name);
        let mut story: Vec<(f64, String)> = Vec::new();
        for event in self.events() {
            let (of, args) = (event["tid"].as_u64().unwrap(), &event["args"]);
            let text = match (event["ph"].as_str().unwrap(), event["cat"].as_str().unwrap_or_default()) {
                ("X", "poll") if of == number => "poll".into(),
                ("s", "wake") if args["to"] == number => format!("woken by {}", args["how"].as_str().unwrap()),
                ("i", "cancel") if of == number => format!("cancelled, {}", args["why"].as_str().unwrap()),
                ("b", "cleanup") if of == number => format!("cleanup of {}", event["name"].as_str().unwrap()),
                ("e", "cleanup") if of == number => format!("end of {}", event["name"].as_str().unwrap()),
                ("i", "report") if of == number => format!("report {}", args["kind"].as_str().unwrap()),
                _ => continue,
            };
            story.push((event["ts"].as_f64().unwrap(), text));
        }
        story.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        story.into_iter().map(|(_, text)| text).collect()
    }
}

#[test]
fn the_life_of_a_task_is_in_order_from_its_spawn_to_its_end() {
    let recording = record(1000);
    let line = line!() + 3;
    run(async {
        task_group!(name = "workers", |tg| {
            let clingy = tg.spawn_named(
                "clingy",
                bracket((), async |()| pending::<()>().await, async |()| sleep(millis(2)).await),
            );
            tg.spawn_named("quick", async {
                yield_now().await;
            });
            sleep(millis(1)).await;
            clingy.cancel().await;
        });
    });
    let trace = Trace::parse(&recording.to_json());
    let life = trace.life("clingy");
    let asked = trace.events().iter().find(|event| event["cat"] == "cancel").unwrap();
    assert_eq!((&asked["args"]["file"], &asked["args"]["line"]), (&file!().into(), &(line + 8).into()));
    assert_eq!(life["args"]["file"], file!());
    assert_eq!(life["args"]["line"], line);
    assert_eq!(life["args"]["parent"], trace.number("workers"));
    assert_eq!((&life["args"]["end"], &life["args"]["begun"]), (&Value::from("cancelled"), &Value::from(true)));
    assert_eq!(
        trace.story("clingy"),
        [
            "poll",
            "cancelled, asked for",
            "woken by a task",
            "poll",
            "cleanup of bracket",
            "woken by a timer",
            "poll",
            "end of bracket"
        ]
    );
    assert_eq!(trace.story("quick"), ["poll", "woken by a task", "poll"]);
    assert_eq!(trace.life("quick")["args"]["end"], "a value");
    let root =
        trace.events().iter().find(|event| event["cat"] == "life" && event["args"]["what"] == "the root").unwrap();
    assert_eq!(trace.life("workers")["args"]["parent"], root["tid"]);
    assert!(trace.events().iter().any(|event| event["cat"] == "poll" && event["tid"] == root["tid"]));
}

#[test]
fn a_cleanup_that_is_cut_off_ends_with_whose_it_is() {
    let recorded = RefCell::new(String::new());
    Tester::new().virtual_time().run(|| async {
        let (recording, _listening) = (record(1000), listen(|_| {}));
        let late = task_group!(timeout = millis(10), grace = millis(20), |tg| {
            tg.spawn_named("clingy", shield(pending::<()>()));
        });
        assert!(late.is_err());
        sleep(millis(5000)).await;
        recorded.replace(recording.to_json());
    });
    let trace = Trace::parse(&recorded.take());
    let ends = trace.story("clingy").into_iter().filter(|part| part.starts_with("end of ")).count();
    assert_eq!(ends, 1, "{:?}", trace.story("clingy"));
    let ended = trace.events().iter().rfind(|event| event["ph"] == "e" && event["cat"] == "cleanup").unwrap();
    assert_eq!(ended["args"]["cut_off"], true);
    let life = trace.life("clingy");
    let over = life["ts"].as_f64().unwrap() + life["dur"].as_f64().unwrap();
    // Its destructors take their time.
    assert!((ended["ts"].as_f64().unwrap() - over).abs() < 100_000.0, "{ended} and {life}");
}

#[test]
fn a_cleanup_that_foreign_code_drops_half_way_is_cut_off_there() {
    let recorded = RefCell::new(String::new());
    Tester::new().virtual_time().run(|| async {
        let (recording, _listening) = (record(1000), listen(|_| {}));
        let held = bracket((), async |()| pending::<()>().await, async |()| pending::<()>().await);
        let half_way = timeout(millis(1), held);
        drop(futures::future::select(Box::pin(half_way), Box::pin(sleep(millis(5)))).await);
        sleep(millis(5000)).await;
        recorded.replace(recording.to_json());
    });
    let trace = Trace::parse(&recorded.take());
    let is_end = |event: &&Value| event["ph"] == "e" && event["cat"] == "cleanup";
    let ends: Vec<_> = trace.events().iter().filter(is_end).collect();
    assert!(!ends.is_empty());
    for end in ends {
        assert_eq!(end["args"]["cut_off"], true, "{end}");
        assert!(end["ts"].as_f64().unwrap() < 1_000_000.0, "{end}");
    }
}

#[test]
fn a_cleanup_on_another_thread_that_runs_to_its_end_is_not_cut_off() {
    let recorded = RefCell::new(String::new());
    run(async {
        let recording = record(1000);
        let begun = Promise::new();
        let begins = begun.clone();
        let tree = run_in_thread(async move || {
            bracket(begins, async |begins| begins.set(()).is_ok() && pending().await, async |_| sleep(millis(5)).await)
                .await
        });
        task_group!(|tg| {
            let task = tg.spawn(tree);
            begun.wait().await;
            task.cancel().await;
        });
        recorded.replace(recording.to_json());
    });
    let trace = Trace::parse(&recorded.take());
    let is_end = |event: &&Value| event["ph"] == "e" && event["name"] == "run_in_thread";
    let ends: Vec<_> = trace.events().iter().filter(is_end).collect();
    assert_eq!(ends.len(), 1, "{ends:?}");
    assert_ne!(ends[0]["args"]["cut_off"], true);
}

#[test]
fn who_takes_outputs_to_the_end_cancels_nobody_and_who_ends_early_is_named() {
    let recorded = RefCell::new(String::new());
    let line = run(async {
        let recording = record(1000);
        xiio::as_completed([async { 1 }]).consume(async |outputs| while outputs.next().await.is_some() {}).await;
        let line = line!() + 1;
        xiio::as_completed([pending::<()>()]).consume(async |_| yield_now().await).await;
        recorded.replace(recording.to_json());
        line
    });
    let trace = Trace::parse(&recorded.take());
    let cancelled: Vec<_> = trace.events().iter().filter(|event| event["cat"] == "cancel").collect();
    assert!(!cancelled.is_empty());
    for event in cancelled {
        assert_eq!((&event["args"]["file"], &event["args"]["line"]), (&file!().into(), &line.into()), "{event}");
    }
}

#[test]
fn a_deferred_cleanup_that_is_cut_off_is_marked_and_one_that_panics_is_not() {
    let recorded = RefCell::new(String::new());
    Tester::new().virtual_time().run(|| async {
        let (recording, _listening) = (record(1000), listen(|_| {}));
        let group = async {
            task_group!(timeout = millis(10), grace = millis(20), |tg| {
                tg.defer(pending());
                tg.defer(async { panic!("it has an end") });
                tg.defer(sleep(millis(1)));
                sleep(millis(1000)).await;
            })
        };
        assert!(catch_panic(group).await.is_err());
        sleep(millis(5000)).await;
        recorded.replace(recording.to_json());
    });
    let trace = Trace::parse(&recorded.take());
    let ends = trace.events().iter().filter(|event| event["ph"] == "e" && event["cat"] == "cleanup");
    let ends: Vec<_> = ends.map(|event| (event["args"]["cut_off"] == true, event["ts"].as_f64().unwrap())).collect();
    let [(false, _), (false, _), (true, at)] = ends[..] else { panic!("{ends:?}") };
    // The group has ended long before its recording.
    assert!(at < 4_000_000.0, "{at} microseconds");
}

#[test]
fn a_deferred_cleanup_that_the_panic_of_another_future_drops_is_cut_off() {
    let recording = record(1000);
    run(async {
        let group = async { task_group!(|tg| { tg.defer(pending()) }) };
        let beside = async {
            yield_now().await;
            panic!("it drops the group");
        };
        let panicked = catch_panic(async { futures::join!(group, beside) }).await.map(|((), ())| ());
        assert!(panicked.is_err());
    });
    let trace = Trace::parse(&recording.to_json());
    let ends = trace.events().iter().filter(|event| event["ph"] == "e" && event["cat"] == "cleanup");
    let ends: Vec<_> = ends.map(|event| event["args"]["cut_off"] == true).collect();
    assert_eq!(ends, [true]);
}

#[test]
fn a_deferred_cleanup_is_in_a_recording_like_any_other() {
    let recording = record(1000);
    let line = line!() + 5;
    run(async {
        task_group!(|outer| {
            outer.spawn_named("tidy", async {
                task_group!(name = "kept tidy", |tg| {
                    tg.defer(sleep(millis(2)));
                });
            });
        });
    });
    let trace = Trace::parse(&recording.to_json());
    let story = trace.story("kept tidy").join(", ");
    assert!(story.contains("cleanup of defer, ") && story.contains(", end of defer"), "{story}");
    let began = trace.events().iter().find(|event| event["ph"] == "b").unwrap();
    assert_eq!((&began["args"]["file"], &began["args"]["line"]), (&file!().into(), &line.into()));
}

#[test]
fn a_cleanup_that_is_cut_off_is_whose_it_is() {
    // The same place for both.
    let clean_up_for = |time| shield(sleep(time));
    let recorded = RefCell::new(String::new());
    Tester::new().virtual_time().run(|| async {
        let (recording, _listening) = (record(1000), listen(|_| {}));
        task_group!(|outer| {
            let around = outer.spawn_named("around", async {
                let cut_off = async {
                    task_group!(grace = millis(100), |tg| {
                        tg.spawn_named("clingy", clean_up_for(millis(1000)));
                    });
                };
                futures::join!(cut_off, clean_up_for(millis(200)));
            });
            yield_now().await;
            yield_now().await;
            around.cancel().await;
        });
        recorded.replace(recording.to_json());
    });
    let trace = Trace::parse(&recorded.take());
    let ends = |name: &str| {
        let number = trace.number(name);
        let is_end = |event: &&Value| event["ph"] == "e" && event["cat"] == "cleanup" && event["tid"] == number;
        let at = |event: &Value| (event["ts"].as_f64().unwrap() / 100_000.0).round();
        trace.events().iter().filter(is_end).map(at).collect::<Vec<_>>()
    };
    assert_eq!((ends("clingy"), ends("around")), (vec![1.0], vec![1.0, 2.0]));
}

#[test]
fn who_is_older_than_a_recording_has_not_begun_with_it() {
    let text = RefCell::new(String::new());
    let first = record(1000);
    run(async {
        task_group!(name = "old group", |tg| {
            tg.spawn_named("old task", async {
                yield_now().await;
                yield_now().await;
            });
            yield_now().await;
            let second = record(1000);
            task_group!(name = "new group", |tg| tg.spawn_named("new task", yield_now()).await);
            yield_now().await;
            text.replace(second.to_json());
        });
    });
    drop(first);
    let trace = Trace::parse(&text.take());
    let begun = ["old group", "old task", "new group", "new task"].map(|name| &trace.life(name)["args"]["begun"]);
    assert_eq!(begun, [false, false, true, true]);
}

#[test]
fn who_is_of_a_group_that_is_not_recorded_is_not_recorded_either() {
    let text = RefCell::new(String::new());
    // The limit has each poll noted.
    xiio::Builder::new().slow_poll(millis(60_000)).run(async {
        task_group!(|tg| {
            tg.spawn_named("quick", async {});
            tg.spawn_named("first", async {
                yield_now().await;
                yield_now().await;
            });
            let recording = record(1000);
            for _ in 0..5 {
                yield_now().await;
            }
            tg.spawn_named("second", yield_now()).await;
            text.replace(recording.to_json());
        });
    });
    let text = text.take();
    for name in ["quick", "first", "second"] {
        assert!(!text.contains(&format!("\"name\":\"{name}\"")), "{text}");
    }
}

#[test]
fn who_is_woken_and_dropped_is_not_on_the_way_to_a_poll_for_ever() {
    let recorded = RefCell::new(String::new());
    Tester::new().virtual_time().run(|| async {
        let recording = record(1000);
        task_group!(|tg| {
            let promise = Promise::new();
            let waited = promise.clone();
            let task = tg.spawn_named("dropped", async move { waited.wait().await });
            yield_now().await;
            promise.set(()).unwrap();
            task.cancel().await;
        });
        sleep(millis(5000)).await;
        recorded.replace(recording.to_json());
    });
    let trace = Trace::parse(&recorded.take());
    let life = trace.life("dropped");
    let over = life["ts"].as_f64().unwrap() + life["dur"].as_f64().unwrap();
    let arrows = trace.events().iter().filter(|event| event["ph"] == "f" && event["tid"] == trace.number("dropped"));
    let last = arrows.map(|event| event["ts"].as_f64().unwrap()).fold(0.0, f64::max);
    assert!(last <= over + 1.0, "an arrow ends at {last}, and who was woken at {over}");
}

#[test]
fn what_workers_do_is_in_lanes_of_their_own_below_their_group() {
    let recording = record(10_000);
    let both = Barrier::new(2);
    run(async {
        for _ in 0..3 {
            task_group!(name = "team", workers = 2, |tg| {
                for _ in 0..2 {
                    tg.workers().spawn(async || {
                        // Each is in a poll of its own at the same time.
                        both.wait();
                        task_group!(|inner| {
                            inner.spawn_named("nested", bracket((), async |()| pending::<()>().await, async |()| ()));
                            yield_now().await;
                            both.wait();
                        });
                    });
                }
                sleep(millis(1)).await;
                while inspect::tree().await.to_string().matches("nested").count() < 2 {}
                tg.cancel();
            });
        }
    });
    let trace = Trace::parse(&recording.to_json());
    let lives: HashMap<&Value, &Value> = {
        let lives = trace.events().iter().filter(|event| event["cat"] == "life");
        lives.map(|event| (&event["tid"], event)).collect()
    };
    let above = |life: &Value| {
        let around = |life: &Value| lives.get(&life["args"]["parent"]).copied();
        let all = std::iter::successors(around(life), |life| around(life)).map(|life| &life["args"]);
        all.map(|args| args["name"].as_str().or(args["what"].as_str()).unwrap().to_owned()).collect::<Vec<_>>()
    };
    let nested: Vec<&Value> = lives.values().filter(|life| life["args"]["name"] == "nested").copied().collect();
    assert_eq!(nested.len(), 6);
    for worker in ["worker 0", "worker 1"] {
        let of_worker: Vec<_> = nested.iter().filter(|life| above(life).contains(&worker.to_owned())).collect();
        assert_eq!(of_worker.len(), 3, "{worker}");
        for life in of_worker {
            assert_eq!(above(life), ["a group", "task", "a worker", worker, "team", "the root"]);
            assert_eq!(life["args"]["end"], "cancelled");
            let around = &lives[&lives[&life["args"]["parent"]]["args"]["parent"]]["tid"];
            let is_told = |event: &Value| event["tid"] == *around && event["args"]["why"] == "with its group";
            assert!(trace.events().iter().any(is_told));
        }
    }
    // Polls of the two tasks overlap, as the barrier asks for, and each worker has a thread of its own.
    let polls_of = |worker: &str| {
        let roots = lives.values().filter(|life| life["args"]["what"] == worker).map(|life| &life["tid"]);
        let roots: Vec<_> = roots.collect();
        let polls = trace.events().iter().filter(move |event| event["cat"] == "poll" && roots.contains(&&event["tid"]));
        polls.map(|event| (event["ts"].as_f64().unwrap(), event["dur"].as_f64().unwrap())).collect::<Vec<_>>()
    };
    let (here, there) = (polls_of("worker 0"), polls_of("worker 1"));
    let overlap = here
        .iter()
        .any(|(at, took)| there.iter().any(|(other, other_took)| at < &(other + other_took) && other < &(at + took)));
    assert!(overlap, "{here:?} {there:?}");
}

#[test]
fn a_report_of_a_worker_is_recorded_once() {
    let recording = record(1000);
    let _listening = inspect::listen(|_| {});
    run(async {
        task_group!(workers = 1, |tg| {
            tg.workers().spawn(async || {
                task_group!(|inner| {
                    inner.spawn(async { Err::<(), _>("unheard") });
                });
            });
        });
    });
    let trace = Trace::parse(&recording.to_json());
    assert_eq!(trace.events().iter().filter(|event| event["cat"] == "report").count(), 1);
}

#[test]
fn a_wake_says_who_it_came_from() {
    let recording = record(1000);
    let (reader, writer) = std::io::pipe().unwrap();
    run(async {
        let (set_here, set_elsewhere) = (Promise::new(), Promise::new());
        task_group!(|tg| {
            tg.spawn_named("of a task", set_here.clone().wait());
            tg.spawn_named("of a thread", set_elsewhere.clone().wait());
            tg.spawn_named("of a descriptor", readable(&reader));
            tg.spawn_named("setter", async {
                yield_now().await;
                let _ = set_here.set(());
            });
            yield_now().await;
            let setting = std::thread::spawn(move || {
                let _ = set_elsewhere.set(());
                drop(writer);
            });
            sleep(millis(1)).await;
            setting.join().unwrap();
        });
    });
    let trace = Trace::parse(&recording.to_json());
    assert_eq!(trace.story("of a task"), ["poll", "woken by a task", "poll"]);
    assert_eq!(trace.story("of a thread"), ["poll", "woken by another thread", "poll"]);
    assert_eq!(trace.story("of a descriptor"), ["poll", "woken by a descriptor", "poll"]);
    let arrow = trace.events().iter().find(|event| event["args"]["to"] == trace.number("of a task")).unwrap();
    assert_eq!(arrow["tid"], trace.number("setter"), "it comes from the one who set the promise");
    let head = trace.events().iter().find(|event| event["ph"] == "f" && event["id"] == arrow["id"]).unwrap();
    assert_eq!(head["tid"], trace.number("of a task"));
}

#[test]
fn a_cancellation_of_a_task_on_a_worker_is_recorded_with_who_has_asked_for_it() {
    for workers in [0, 1] {
        let recording = record(10_000);
        let begun = Promise::new();
        let line = line!() + 11;
        run(async {
            task_group!(name = "team", workers = workers, |tg| {
                let begins = begun.clone();
                let task = tg.workers().spawn(async move || {
                    task_group!(name = "in the task", |tg| {
                        tg.spawn(bracket((), async |()| pending::<()>().await, async |()| yield_now().await));
                        begins.set(()).unwrap();
                    });
                });
                begun.wait().await;
                task.cancel().await;
            });
        });
        let trace = Trace::parse(&recording.to_json());
        let asked = |event: &&Value| event["cat"] == "cancel" && event["args"]["why"] == "asked for";
        let asked: Vec<&Value> = trace.events().iter().filter(asked).collect();
        assert_eq!(asked.len(), 1, "{workers} {asked:?}");
        let (task, args) = (asked[0]["tid"].as_u64().unwrap(), &asked[0]["args"]);
        assert_eq!(trace.life("in the task")["args"]["parent"], task);
        assert_eq!((&args["by"], &args["line"]), (&trace.number("team").into(), &line.into()));
    }
}

#[test]
fn a_cancellation_says_why_and_goes_down_the_tree() {
    let trace = recorded_test(Tester::new().virtual_time(), || async {
        let late = task_group!(name = "outer", timeout = millis(50), |tg| {
            tg.spawn_named("parent", async {
                task_group!(name = "inner", |tg| {
                    tg.spawn_named(
                        "child",
                        bracket((), async |()| pending::<()>().await, async |()| yield_now().await),
                    );
                });
            });
            tg.spawn_named("plain", async {
                task_group!(name = "dropped", |tg| {
                    tg.spawn_named("grandchild", pending::<()>());
                });
            });
            tg.spawn_named("limited", async {
                let cleaned = bracket((), async |()| pending::<()>().await, async |()| ());
                let _ = timeout(Duration::ZERO, cleaned).await;
            });
        });
        assert!(late.is_err());
        let _: Result<(), ()> = xiio::try_task_group!(name = "failing", error = (), |tg| {
            tg.spawn_named("failed", async { Err::<(), ()>(()) });
            tg.spawn_named("sibling", async {
                pending::<()>().await;
                Ok(())
            });
        });
    });
    let why = |name: &str| trace.story(name).into_iter().find(|text| text.starts_with("cancelled")).unwrap_or_default();
    assert_eq!(why("outer"), "cancelled, its time is over");
    assert_eq!(why("parent"), "cancelled, with its group");
    assert_eq!(why("inner"), "cancelled, what is around it was cancelled");
    assert_eq!(why("child"), "cancelled, with its group");
    assert_eq!(why("limited"), "cancelled, a limit of time in it was over");
    assert_eq!(why("failing"), "cancelled, a member failed");
    assert_eq!(why("plain"), "cancelled, with its group");
    assert_eq!(why("grandchild"), "", "what has nothing to clean up is dropped with all that is in it");
    assert_eq!(trace.life("grandchild")["args"]["end"], "dropped");
    assert_eq!(trace.life("dropped")["args"]["end"], "dropped");
    assert_eq!(trace.life("failed")["args"]["end"], "a failure");
    assert_eq!(trace.life("sibling")["args"]["end"], "cancelled");
    assert_eq!(trace.life("limited")["args"]["end"], "a value", "its limit was not its end");
}

#[test]
fn a_race_that_is_won_is_told_as_such() {
    let recording = record(1000);
    run(race([true, false].map(|wins| async move {
        shield(yield_now()).await;
        if !wins {
            pending::<()>().await;
        }
    })));
    let trace = Trace::parse(&recording.to_json());
    let texts = |category: &str, what: &str| -> Vec<String> {
        let events = trace.events().iter().filter(|event| event["cat"] == category);
        events.filter_map(|event| Some(event["args"][what].as_str()?.to_owned())).collect()
    };
    assert_eq!(texts("cancel", "why"), ["a member won", "with its group"]);
    let ends = texts("life", "end");
    assert!(ends.contains(&"a value".to_owned()) && !ends.contains(&"a failure".to_owned()), "{ends:?}");
}

#[test]
fn a_ring_keeps_the_newest_events_and_who_lives() {
    let recording = record(100);
    run(async {
        task_group!(name = "long", |tg| {
            tg.spawn_named("patient", pending::<()>());
            for _ in 0..1000 {
                tg.spawn(async {}).await;
            }
            tg.spawn_named("last", yield_now()).await;
            let trace = Trace::parse(&recording.to_json());
            assert!(trace.trace["otherData"]["lost"].as_u64().unwrap() > 1000);
            let n_events = trace.events().iter().filter(|event| event["ph"] != "M" && event["cat"] != "life").count();
            assert!(
                n_events < 300,
                "{n_events} events, which are at most two for a wake and three for one of the loop's"
            );
            assert_eq!(trace.life("patient")["args"]["parent"], trace.number("long"));
            assert_eq!(trace.story("last").len(), 3);
            tg.cancel();
        });
    });
}

#[test]
fn a_name_with_html_and_control_characters_injects_nothing() {
    const NAME: &str = "</script><img src=x onerror=alert(1)>\"\\\u{0}\u{1b}[31m\u{2028}\u{202e}<!--";
    let recording = record(1000);
    run(async {
        task_group!(|tg| {
            tg.spawn_named(NAME, yield_now());
        });
    });
    let json = recording.to_json();
    assert_eq!(Trace::parse(&json).life(NAME)["args"]["name"], NAME);
    assert!(!json.contains(['\u{1b}', '\u{0}', '\u{202e}', '<']), "{json}");
    let page = recording.to_html();
    assert!(!page.contains("<img"), "the name is in the page as it is");
    // The page has its own two scripts and no more.
    assert_eq!((page.matches("<script").count(), page.matches("</script").count()), (2, 2));
    assert!(!page.contains("http:") && !page.contains("https:"), "the page refers to something outside");
}

#[test]
fn what_is_not_recorded_any_more_is_left_out() {
    let recording = record(1000);
    let inner = record(1000);
    run(async { task_group!(|tg| tg.spawn_named("inner", yield_now()).await) });
    let inner_trace = inner.to_json();
    drop(inner);
    run(async { task_group!(|tg| tg.spawn_named("outer", yield_now()).await) });
    let trace = recording.to_json();
    drop(recording);
    run(async { task_group!(|tg| tg.spawn_named("nobody's", yield_now()).await) });
    assert!(inner_trace.contains("inner") && !inner_trace.contains("outer"));
    assert!(trace.contains("outer") && !trace.contains("inner"));
}

#[test]
fn a_panic_in_a_recorded_task_is_its_end() {
    let recording = record(1000);
    assert_panics(&["on purpose"], || {
        run(async {
            task_group!(|tg| {
                tg.spawn_named("panicking", async { panic!("on purpose") });
                tg.spawn_named("sibling", pending::<()>());
            });
        });
    });
    let trace = Trace::parse(&recording.to_json());
    assert_eq!(trace.life("panicking")["args"]["end"], "a panic");
    assert_eq!(trace.life("sibling")["args"]["end"], "cancelled");
}

#[test]
fn a_run_that_panics_ends_its_polls() {
    let recording = record(1000);
    assert_panics(&["on purpose"], || run(async { panic!("on purpose") }));
    run(yield_now());
    let trace = Trace::parse(&recording.to_json());
    let root = trace.events().iter().find(|event| event["args"]["what"] == "the root").unwrap();
    let is_poll = |event: &&Value| event["cat"] == "poll" && event["tid"] == root["tid"];
    let number = |value: &Value| value.as_f64().unwrap();
    let polls = trace.events().iter().filter(is_poll).map(|event| (number(&event["ts"]), number(&event["dur"])));
    let mut polls: Vec<(f64, f64)> = polls.collect();
    polls.sort_by(|one, other| one.0.total_cmp(&other.0));
    assert!(polls.len() >= 3, "{polls:?}");
    // As far as a float goes.
    let is_over = |pair: &[(f64, f64)]| pair[0].0 + pair[0].1 <= pair[1].0 + 0.001;
    assert!(polls.windows(2).all(is_over), "a poll of the root is in another one: {polls:?}");
}

/// When somebody was polled, and for how long, in microseconds.
fn polls(trace: &Trace, name: &str) -> Vec<(f64, f64)> {
    let number = trace.number(name);
    let is_poll = |event: &&Value| event["cat"] == "poll" && event["tid"] == number;
    let found = trace.events().iter().filter(is_poll);
    let mut polls: Vec<(f64, f64)> =
        found.map(|event| (event["ts"].as_f64().unwrap(), event["dur"].as_f64().unwrap())).collect();
    polls.sort_by(|one, other| one.0.total_cmp(&other.0));
    polls
}

const HOUR: Duration = Duration::from_secs(3600);

/// The same in microseconds, as a trace has it.
const TRACED_HOUR: f64 = 3600e6;

/// What is measured of a test takes less, in microseconds.
const SOME: f64 = 60e6;

/// What is recorded of a test that does this.
fn recorded_test<F: Future<Output = ()>>(test: Tester, body: impl Fn() -> F) -> Trace {
    let json = RefCell::default();
    test.run(|| async {
        let recording = record(1000);
        body().await;
        json.replace(recording.to_json());
    });
    Trace::parse(&json.take())
}

#[test]
fn virtual_time_passes_in_a_recording_while_all_wait_and_real_time_while_somebody_runs() {
    let trace = recorded_test(Tester::new().virtual_time(), || async {
        task_group!(name = "patient", |tg| {
            tg.spawn_named("sleeper", async {
                sleep(HOUR).await;
                std::thread::sleep(millis(2));
                sleep(HOUR).await;
            });
        });
    });
    let sleeper = polls(&trace, "sleeper");
    let [(first, _), (second, took), (third, _)] = sleeper[..] else { panic!("{sleeper:?}") };
    // What is beyond the hours was measured.
    assert!((TRACED_HOUR..TRACED_HOUR + SOME).contains(&(second - first)), "{sleeper:?}");
    assert!((TRACED_HOUR..TRACED_HOUR + SOME).contains(&(third - second)), "{sleeper:?}");
    assert!((2e3..SOME).contains(&took), "{sleeper:?}");
    let woken: Vec<f64> =
        trace.events().iter().filter(|event| event["ph"] == "s").map(|event| event["ts"].as_f64().unwrap()).collect();
    let is_before = |poll: f64| woken.iter().any(|at| (poll - SOME..=poll).contains(at));
    assert!(is_before(second) && is_before(third), "{woken:?} lead to {sleeper:?}");
    assert!(trace.life("sleeper")["dur"].as_f64().unwrap() > 2.0 * TRACED_HOUR);
    assert!(trace.trace["otherData"]["microseconds"].as_f64().unwrap() > 2.0 * TRACED_HOUR);
    let skipped = trace.trace["otherData"]["virtual_microseconds"].as_f64().unwrap();
    assert!((2.0 * TRACED_HOUR - SOME..2.0 * TRACED_HOUR + SOME).contains(&skipped), "{skipped}");
}

/// Asserts that nobody is polled twice at once, and that no wake leads back in time.
fn assert_in_order(trace: &Trace) {
    let number = |event: &Value, field: &str| event[field].as_f64().unwrap();
    let mut polls: HashMap<u64, Vec<(f64, f64)>> = HashMap::new();
    let mut tails = HashMap::new();
    for event in trace.events() {
        if event["cat"] == "poll" {
            let (at, took) = (number(event, "ts"), number(event, "dur"));
            polls.entry(event["tid"].as_u64().unwrap()).or_default().push((at, took));
        } else if event["ph"] == "s" {
            tails.insert(event["id"].as_u64().unwrap(), number(event, "ts"));
        }
    }
    for polls in polls.values_mut() {
        polls.sort_by(|one, other| one.0.total_cmp(&other.0));
        // As far as a float goes.
        assert!(polls.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0 + 1.0), "{polls:?}");
    }
    for head in trace.events().iter().filter(|event| event["ph"] == "f") {
        assert!(tails[&head["id"].as_u64().unwrap()] <= number(head, "ts") + 1.0, "{head}");
    }
}

#[test]
fn virtual_and_real_time_in_one_recording_are_in_order() {
    let recording = record(100_000);
    let sleeps = || async {
        task_group!(|tg| {
            for number in 0..20 {
                tg.spawn(async move {
                    for _ in 0..5 {
                        let use_up = async |(): &mut ()| sleep(millis(number % 7)).await;
                        let nap = bracket((), use_up, async |()| sleep(millis(number % 3)).await);
                        let _ = timeout(millis(number % 5), nap).await;
                        std::thread::sleep(Duration::from_micros(number));
                    }
                });
            }
            // While it is waited for, time passes as outside.
            tg.spawn(xiio::in_thread(|| std::thread::sleep(millis(2))));
        });
    };
    run(sleeps());
    let of_test = recorded_test(Tester::new().virtual_time(), sleeps);
    let of_paused = recorded_test(Tester::new(), || async {
        task_group!(workers = 1, |tg| {
            for _ in 0..10 {
                tg.workers().spawn(async || std::thread::sleep(Duration::from_micros(100)));
            }
            pause();
            sleeps().await;
        });
    });
    run(sleeps());
    [&Trace::parse(&recording.to_json()), &of_test, &of_paused].into_iter().for_each(assert_in_order);
}

#[test]
fn the_clock_of_a_recording_goes_on_where_another_one_gets_the_events() {
    let trace = recorded_test(Tester::new().virtual_time(), || async {
        task_group!(name = "outer", |tg| {
            tg.spawn_named("watched", async {
                sleep(Duration::ZERO).await;
                let inner = record(10);
                sleep(HOUR).await;
                drop(inner);
                yield_now().await;
            });
        });
    });
    let watched = polls(&trace, "watched");
    let (first, last) = (watched[0].0, watched[watched.len() - 1].0);
    assert!((TRACED_HOUR..TRACED_HOUR + SOME).contains(&(last - first)), "{watched:?}");
}

#[test]
fn time_that_is_paused_is_virtual_from_then_on_also_beside_a_descriptor() {
    let (reader, writer) = std::io::pipe().unwrap();
    let trace = recorded_test(Tester::new(), || async {
        task_group!(name = "mixed", |tg| {
            tg.spawn_named("sleeper", async {
                sleep(millis(1)).await;
                pause();
                sleep(HOUR).await;
                let late = readable(&reader);
                let (late, ()) = xiio::join!(timeout(millis(20), late), sleep(millis(10)));
                assert!(late.is_err());
            });
        });
    });
    drop(writer);
    let sleeper = polls(&trace, "sleeper");
    let span = sleeper[sleeper.len() - 1].0 - sleeper[0].0;
    // The last twenty milliseconds were waited for, and are counted once.
    assert!((TRACED_HOUR + 21e3..TRACED_HOUR + SOME).contains(&span), "{sleeper:?}");
    assert!(sleeper.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0 + 1.0), "{sleeper:?}");
}

#[test]
fn a_sleep_of_a_thousand_years_is_cut_off_in_a_recording_and_harms_nothing() {
    let years = Duration::from_secs(1000 * 365 * 24 * 3600);
    let trace = recorded_test(Tester::new().virtual_time(), || async {
        task_group!(|tg| {
            tg.spawn_named("sleeper", async {
                sleep(years).await;
                sleep(years).await;
            });
        });
    });
    let sleeper = polls(&trace, "sleeper");
    assert_eq!(sleeper.len(), 3);
    assert!(sleeper.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{sleeper:?}");
}

/// Has more tasks than texts are kept, each with a name of its own.
fn tasks_with_names(n_at_once: usize) {
    run(async {
        for first in (0..20_000).step_by(n_at_once) {
            task_group!(|tg| {
                for number in first..first + n_at_once {
                    tg.spawn_named(format!("client {number}"), yield_now());
                }
            });
        }
    });
}

#[test]
fn the_newest_names_are_kept_however_many_there_were() {
    let recording = record(1000);
    tasks_with_names(10);
    let trace = Trace::parse(&recording.to_json());
    assert_eq!(trace.life("client 19999")["args"]["file"], file!());
    assert!(!recording.to_json().contains("more than are kept"));
}

#[test]
fn where_there_are_too_many_names_at_once_the_places_are_kept() {
    let recording = record(1_000_000);
    tasks_with_names(20_000);
    let trace = Trace::parse(&recording.to_json());
    let tasks: Vec<&Value> = trace.events().iter().filter(|event| event["args"]["kind"] == "task").collect();
    assert_eq!(tasks.len(), 20_000);
    assert!(tasks.iter().all(|task| task["args"]["file"] == file!()));
}

#[test]
fn who_ends_while_another_recording_gets_the_events_has_ended_in_both() {
    let outer = record(1000);
    run(async {
        task_group!(|tg| {
            let early = tg.spawn_named("early", sleep(millis(1)));
            yield_now().await;
            let inner = record(10);
            early.await;
            drop(inner);
            yield_now().await;
        });
    });
    assert_eq!(Trace::parse(&outer.to_json()).life("early")["args"]["end"], "a value");
}

#[test]
fn recordings_may_end_in_any_order() {
    let (older, newer) = (record(1000), record(1000));
    drop(older);
    run(async { task_group!(|tg| tg.spawn_named("kept", yield_now()).await) });
    assert!(newer.to_json().contains("kept"), "the newest gets the events");
    drop(newer);
    run(async {
        let tree = task_group!(|tg| {
            tg.spawn(pending::<()>());
            yield_now().await;
            let tree = inspect::tree().await;
            tg.cancel();
            tree
        });
        assert!(tree.nodes().all(|(_, node)| node.number().is_none()), "nobody records any more: {tree}");
    });
}

/// A directory of its own, which goes with this.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("xiio-recording-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_environment_has_each_run_written_also_one_that_panics() {
    let directory = Directory::new("environment");
    // A name that is no text, as file names may be.
    let file_name = |pid: &str, end: &str| [b"\xff", pid.as_bytes(), b"-", pid.as_bytes(), end.as_bytes()].concat();
    let path = |pid: &str, end: &str| directory.0.join(OsString::from_vec(file_name(pid, end)));
    let file = path("%p", ".json");
    let child = rerun("two_runs_of_which_one_panics").env("XIIO_RECORD", &file).spawn().unwrap();
    let pid = child.id().to_string();
    let (first, second) = (path(&pid, ".json"), path(&pid, ".json.1"));
    assert!(child.wait_with_output().unwrap().status.success());
    let trace = Trace::parse(&fs::read_to_string(first).unwrap());
    assert_eq!(trace.life("first")["args"]["end"], "a value");
    let trace = Trace::parse(&fs::read_to_string(second).unwrap());
    assert_eq!(trace.life("second")["args"]["end"], "dropped", "with its run, by the deadlock");
}

#[test]
#[ignore = "started by a test, with a variable"]
fn two_runs_of_which_one_panics() {
    xiio::run(async { task_group!(|tg| tg.spawn_named("first", yield_now()).await) });
    let deadlocked = xiio::Builder::new().detect_deadlock(millis(1));
    assert_panics(&["deadlock"], || {
        deadlocked.run(async { task_group!(|tg| tg.spawn_named("second", pending::<()>()).await) });
    });
}

/// A server may run each of its jobs by itself.
#[test]
fn a_thousand_runs_of_a_program_are_written() {
    let directory = Directory::new("many");
    let mut command = rerun("more_than_a_thousand_runs");
    command.env("XIIO_RECORD", directory.0.join("run")).stderr(std::process::Stdio::piped());
    let output = command.output().unwrap();
    assert!(output.status.success());
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 1000);
    let error = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = error.lines().filter(|line| line.starts_with("xiio: ")).collect();
    assert!(lines.len() == 1 && lines[0].contains("1000 runs"), "{error}");
}

#[test]
#[ignore = "started by a test, with a variable"]
fn more_than_a_thousand_runs() {
    for _ in 0..500 {
        xiio::run(yield_now());
    }
    xiio::run(async {
        for _ in 0..510 {
            run_in_thread(async || yield_now().await).await;
        }
    });
}

#[test]
fn a_run_within_a_short_recording_of_the_program_is_written_down_whole() {
    let directory = Directory::new("within");
    let mut command = rerun("program_that_records_few_events_around_its_run");
    let output = command.env("XIIO_RECORD", directory.0.join("file")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let trace = Trace::parse(&fs::read_to_string(directory.0.join("file")).unwrap());
    assert_eq!(trace.life("first")["args"]["end"], "a value");
    assert_eq!(trace.trace["otherData"]["lost"], 0);
}

#[test]
#[ignore = "started by a test, with a variable"]
fn program_that_records_few_events_around_its_run() {
    let recording = record(10);
    xiio::run(async {
        task_group!(|tg| tg.spawn_named("first", yield_now()).await);
        for _ in 0..20 {
            yield_now().await;
        }
        task_group!(|tg| {
            let computes = async {
                let start = Instant::now();
                while start.elapsed() < millis(2) {}
                yield_now().await;
                pending::<()>().await;
            };
            tg.spawn_named("hot", computes);
            yield_now().await;
            let tree = inspect::tree().await;
            let hot = tree.nodes().find(|(_, node)| node.name() == Some("hot")).unwrap().1;
            assert!(hot.busy().unwrap() >= millis(2), "{hot:?}");
            tg.cancel();
        });
    });
    let trace = Trace::parse(&recording.to_json());
    let n_polls = trace.events().iter().filter(|event| event["cat"] == "poll").count();
    assert!((1..=10).contains(&n_polls), "{n_polls} of ten events are polls");
    assert!(trace.trace["otherData"]["lost"].as_u64().unwrap() > 10, "{}", recording.to_json());
}

#[test]
fn what_a_forked_process_ends_stays_its_parents() {
    let directory = Directory::new("fork");
    let mut command = rerun("program_that_forks_in_a_run");
    command.env("XIIO_RECORD", directory.0.join("file")).env("XIIO_INSPECT", "1");
    fs::set_permissions(&directory.0, fs::Permissions::from_mode(0o700)).unwrap();
    let output = command.env("XDG_RUNTIME_DIR", &directory.0).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let trace = Trace::parse(&fs::read_to_string(directory.0.join("file")).unwrap());
    assert_eq!(trace.life("after the fork")["args"]["end"], "a value");
}

#[test]
#[ignore = "started by a test, with a variable"]
fn program_that_forks_in_a_run() {
    let (socket, file) = (std::env::var_os("XDG_RUNTIME_DIR").unwrap(), std::env::var_os("XIIO_RECORD").unwrap());
    let socket = PathBuf::from(socket).join(format!("xiio/{}.0", std::process::id()));
    let is_forked = xiio::Builder::new().tree_on(&[SIGQUIT]).run(async {
        let Some(pid) = fork() else { return true };
        assert!(has_ended_well(pid));
        assert!(socket.exists() && !PathBuf::from(file).exists());
        task_group!(|tg| tg.spawn_named("after the fork", yield_now()).await);
        false
    });
    if is_forked {
        end_fork(true);
    }
}

#[test]
fn a_recording_that_cannot_be_written_is_a_line_on_standard_error() {
    let directory = Directory::new("unwritable");
    let mut command = rerun("one_run");
    command.env("XIIO_RECORD", directory.0.join("missing/file")).stderr(std::process::Stdio::piped());
    let output = command.output().unwrap();
    assert!(output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("xiio: cannot write the recording"), "{error}");
}

#[test]
#[ignore = "started by a test, with a variable"]
fn one_run() {
    xiio::run(yield_now());
}

/// Runs a test that fails; gives what is in the page that it has left, and the note on it.
fn left_by(test: &str) -> (Trace, String) {
    let output = rerun(test).stderr(std::process::Stdio::piped()).output().unwrap();
    assert!(!output.status.success(), "`{test}` has not failed");
    let said = String::from_utf8(output.stderr).unwrap();
    let path = said.lines().find_map(|line| line.strip_prefix("what the tasks of this test have done is in "));
    let path = PathBuf::from(path.unwrap_or_else(|| panic!("no path in {said}")));
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with(&format!("recording.{test}")) && name.ends_with(".html"), "{name}");
    let page = fs::read_to_string(&path).unwrap();
    fs::remove_file(path).unwrap();
    let (_, trace) = page.split_once("<script id=\"trace\" type=\"application/json\">").unwrap();
    let trace = Trace::parse(trace.split_once("</script>").unwrap().0);
    let note = trace.trace["otherData"]["note"].as_str().unwrap().to_owned();
    (trace, note)
}

#[test]
fn a_test_that_fails_leaves_a_page_that_names_what_broke_it() {
    let (trace, note) = left_by("hangs");
    assert!(note.starts_with("deadlock: every task waits") && note.contains("`forgotten`"), "{note}");
    trace.number("forgotten");
    let (trace, note) = left_by("fails_with_an_err");
    assert_eq!(note, "the test gave an `Err`");
    trace.number("innocent");
    let (_, note) = left_by("fails_with_one_of_the_seeds");
    assert_eq!(note, "failed with seed 3; repeat it with `seed = 3`\nthe order is wrong");
    let (trace, note) = left_by("leaks_where_it_is_cancelled");
    assert!(
        note.starts_with("cancelled at await 3: it is open still\n") && note.contains("task `the transaction`"),
        "{note}"
    );
    let (_, note) = left_by("leaks_with_a_seed");
    assert!(
        note.starts_with("failed with seed 7; repeat it with `seed = 7`\ncancelled at await 2: left behind"),
        "{note}"
    );
    let by_test = |event: &&Value| event["args"]["why"] == "the test cancels it here";
    assert_eq!(trace.events().iter().filter(by_test).count(), 1);
}

#[test]
fn two_programs_of_one_name_leave_a_page_each() {
    let directory = Directory::new("pages");
    let deps = directory.0.join("debug/deps");
    fs::create_dir_all(&deps).unwrap();
    for hash in ["recording-0123456789abcdef", "recording-fedcba9876543210"] {
        let program = deps.join(hash);
        // A copy would still be open to write in a child that another test is just starting.
        fs::hard_link(std::env::current_exe().unwrap(), &program).unwrap();
        let output = Command::new(program).args(["--exact", "hangs", "--ignored"]).output().unwrap();
        assert!(!output.status.success());
    }
    let pages = fs::read_dir(directory.0.join("xiio")).unwrap();
    let mut names: Vec<String> = pages.map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["recording.hangs-0123456789abcdef.html", "recording.hangs-fedcba9876543210.html"]);
}

#[test]
fn a_test_that_does_not_fail_leaves_nothing() {
    let output = rerun("does_not_fail").stderr(std::process::Stdio::piped()).output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains("have done"), "{said}");
}

#[xiio::test(patience = Duration::from_millis(1))]
#[ignore = "started by a test, fails"]
async fn hangs() {
    task_group!(|tg| {
        tg.spawn_named("forgotten", pending::<()>());
    });
}

#[xiio::test]
#[ignore = "started by a test, fails"]
async fn fails_with_an_err() -> Result<(), String> {
    task_group!(|tg| tg.spawn_named("innocent", yield_now()).await);
    Err("on purpose".into())
}

#[xiio::test]
#[ignore = "started by a test"]
async fn does_not_fail() -> Result<(), String> {
    yield_now().await;
    Ok(())
}

#[test]
#[ignore = "started by a test, fails"]
fn fails_with_one_of_the_seeds() {
    let n_runs = std::cell::Cell::new(0);
    xiio::testing::Tester::new().seeds(1..9).run(|| async {
        n_runs.set(n_runs.get() + 1);
        yield_now().await;
        assert!(n_runs.get() < 3, "the order is wrong");
    });
}

#[xiio::test(seeds = 7..9, cancel_everywhere)]
#[ignore = "started by a test, fails"]
async fn leaks_with_a_seed() {
    let mut leaked = Box::pin(sleep(HOUR));
    assert!(poll_fn(|cx| Poll::Ready(leaked.as_mut().poll(cx))).await.is_pending());
    yield_now().await;
    let leaked = std::mem::ManuallyDrop::new(leaked);
    yield_now().await;
    drop(std::mem::ManuallyDrop::into_inner(leaked));
}

#[test]
#[ignore = "started by a test, fails"]
fn leaks_where_it_is_cancelled() {
    let is_open = std::cell::Cell::new(false);
    let transaction = || async {
        task_group!(|tg| {
            tg.spawn_named("the transaction", async {
                yield_now().await;
                is_open.set(true);
                yield_now().await;
                is_open.set(false);
            });
        });
    };
    let check = || assert!(!is_open.replace(false), "it is open still");
    xiio::testing::cancel_everywhere_and(transaction, check);
}

#[test]
fn the_thread_of_a_socket_ends_with_its_run_also_where_no_descriptor_is_left() {
    let directory = Directory::new("full");
    let mut command = rerun("program_that_ends_a_run_without_descriptors");
    command.env("XIIO_INSPECT", "1");
    fs::set_permissions(&directory.0, fs::Permissions::from_mode(0o700)).unwrap();
    let output = command.env("XDG_RUNTIME_DIR", &directory.0).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
#[ignore = "started by a test, with a variable"]
fn program_that_ends_a_run_without_descriptors() {
    xiio::run(async { set_limit(0) });
    set_limit(64);
    let is_left = || {
        let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
        let mut names = threads.filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok());
        names.any(|name| name.trim_end() == "xiio-inspect")
    };
    wait_until("the thread has ended", || !is_left());
}

#[expect(unsafe_code, reason = "std does not set limits")]
fn set_limit(limit: libc::rlim_t) {
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: 64 };
    // SAFETY: the limit lives until the call returns.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

/// Who has cleaned up is found among all who live, each time that a deferred cleanup ends.
#[test]
fn the_end_of_a_cleanup_takes_no_longer_for_those_who_live_beside_it() {
    fn time_of(n_groups: usize) -> Duration {
        let started = Instant::now();
        xiio::run(async {
            let _recording = record(1);
            task_group!(|tg| {
                for _ in 0..n_groups {
                    tg.spawn(async {
                        task_group!(|inner| {
                            inner.defer(async {});
                            yield_now().await;
                        });
                    });
                }
            });
        });
        started.elapsed()
    }

    let (few, many) = (time_of(3000), time_of(30_000));
    assert!(many < few * 30 + Duration::from_secs(1), "{few:?}, then {many:?}");
}
