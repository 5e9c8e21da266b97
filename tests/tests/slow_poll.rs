//! Polls and cleanups that take long are reported, with who has taken so long, and with nobody else.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use xiio::inspect::{Listening, ReportKind, listen};
use xiio::testing::Tester;
use xiio::{Builder, shield, sleep, task_group, yield_now};
use xiio_tests::LONG;

/// Longer than `LIMIT`.
const TOO_LONG: Duration = Duration::from_millis(200);
const LIMIT: Duration = Duration::from_millis(100);

/// Collects the reports of slow polls.
fn slow_polls() -> (Listening, Rc<RefCell<Vec<String>>>) {
    let texts = Rc::new(RefCell::new(Vec::new()));
    let sink = Rc::clone(&texts);
    let listening = listen(move |report| {
        if report.kind() == ReportKind::SlowPoll {
            sink.borrow_mut().push(report.to_string());
        }
    });
    (listening, texts)
}

async fn block() {
    thread::sleep(TOO_LONG);
}

#[test]
fn a_task_that_blocks_is_named_with_the_place_where_it_was_spawned() {
    let (_listening, texts) = slow_polls();
    let line = line!() + 5;
    Builder::new().slow_poll(LIMIT).run(async {
        task_group!(|outer| {
            outer.spawn(async {
                task_group!(|inner| {
                    inner.spawn(block());
                });
            });
        });
    });
    let place = format!("slow_poll.rs:{line}");
    let texts = texts.take();
    let [text] = &*texts else { panic!("not one report: {texts:?}") };
    assert!(
        text.starts_with("a task spawned at") && text.contains("block") && text.contains(&place),
        "no {place}: {text}"
    );
}

#[test]
fn the_root_and_the_bodies_of_groups_are_named() {
    let (_listening, texts) = slow_polls();
    let line = line!() + 5;
    Builder::new().slow_poll(LIMIT).run(async {
        yield_now().await;
        block().await;
        task_group!(|outer| {
            outer.spawn(async {
                task_group!(|_inner| {
                    yield_now().await;
                    block().await;
                });
            });
        });
    });
    let texts = texts.take();
    // Both are in one poll of the root, which ends last.
    let [body, root] = &*texts else { panic!("not two reports: {texts:?}") };
    assert!(root.starts_with("the root was polled"), "{root}");
    let place = format!("slow_poll.rs:{line}");
    assert!(body.starts_with("the body of a group in a task") && body.contains(&place), "no {place}: {body}");
}

#[test]
fn a_task_that_panics_or_is_cancelled_after_it_has_blocked_is_reported() {
    let (_listening, texts) = slow_polls();
    let panicked = xiio_tests::panic_text(|| {
        Builder::new().slow_poll(LIMIT).run(async {
            task_group!(|tg| {
                tg.spawn(async {
                    thread::sleep(TOO_LONG);
                    panic!("it has panicked");
                });
            });
        });
    });
    assert!(panicked.contains("it has panicked"));
    assert_eq!(texts.take().len(), 1);
    Builder::new().slow_poll(LIMIT).run(async {
        task_group!(|tg| {
            tg.spawn(async {
                tg.cancel();
                thread::sleep(TOO_LONG);
                sleep(LONG).await;
            });
        });
    });
    assert_eq!(texts.take().len(), 1);
}

#[test]
fn what_waits_long_or_gives_way_is_not_reported() {
    let (_listening, texts) = slow_polls();
    // A bound that a busy machine does not reach.
    Builder::new().slow_poll(Duration::from_secs(20)).run(async {
        task_group!(|tg| {
            tg.spawn(sleep(TOO_LONG));
            tg.spawn(async {
                let start = Instant::now();
                while start.elapsed() < TOO_LONG {
                    yield_now().await;
                }
            });
        });
    });
    assert_eq!(*texts.borrow(), [""; 0]);
}

#[test]
fn a_program_is_not_watched_unless_it_asks_for_it() {
    let (_listening, texts) = slow_polls();
    Builder::new().slow_poll(LIMIT).run(async {});
    xiio::run(async {
        task_group!(|tg| {
            tg.spawn(async { thread::sleep(Duration::from_millis(1_500)) });
        });
    });
    assert_eq!(*texts.borrow(), [""; 0]);
}

#[test]
fn a_test_is_watched_for_polls_of_a_second() {
    let (_listening, texts) = slow_polls();
    let body = || async {
        task_group!(|tg| {
            tg.spawn(async { thread::sleep(Duration::from_millis(1_500)) });
        });
    };
    Tester::new().run(body);
    assert_eq!(texts.take().len(), 1);
    Tester::new().slow_poll(None).run(body);
    assert_eq!(texts.take().len(), 0);
}

#[xiio::test(slow_poll = Duration::from_millis(100))]
async fn the_attribute_sets_the_limit() {
    let (_listening, texts) = slow_polls();
    task_group!(|tg| {
        tg.spawn(block());
    });
    assert_eq!(texts.borrow().len(), 1);
}

/// The reports of what `work` does in virtual time, where a cleanup may take a second.
fn slow_cleanups<F: Future<Output = ()>>(work: impl Fn() -> F) -> Vec<String> {
    let texts = Rc::new(RefCell::new(Vec::new()));
    let sink = Rc::clone(&texts);
    let _listening = listen(move |report| {
        assert_eq!(report.kind(), ReportKind::SlowCleanup);
        sink.borrow_mut().push(report.to_string());
    });
    Tester::new().virtual_time().slow_cleanup(Duration::from_secs(1)).run(work);
    texts.take()
}

fn cleaning_for(millis: u64) -> impl Future<Output = ()> {
    shield(sleep(Duration::from_millis(millis)))
}

#[test]
fn a_cleanup_that_takes_long_is_reported_while_it_lasts_with_who_cleans_up() {
    let ended = Rc::new(Cell::new(false));
    let texts = slow_cleanups(|| async {
        task_group!(|tg| {
            tg.spawn_named("at work", sleep(LONG));
            let clingy = tg.spawn_named("clingy", cleaning_for(5000));
            yield_now().await;
            let started = xiio::now();
            let watching = async {
                sleep(Duration::from_millis(1100)).await;
                ended.set(true);
            };
            tg.spawn(watching);
            clingy.cancel().await;
            assert!(ended.get() && xiio::now() - started < Duration::from_secs(6));
            tg.cancel();
        });
    });
    let [text] = &*texts else { panic!("not one report: {texts:?}") };
    assert!(text.starts_with("a cleanup has taken 1s and goes on; `grace` would bound it:\n"), "{text}");
    assert!(text.contains("task `clingy` (cleaning up ") && !text.contains("at work"), "{text}");
}

#[test]
fn one_that_takes_long_is_reported_once_among_many_that_do_not() {
    let texts = slow_cleanups(|| async {
        task_group!(|tg| {
            let slow = tg.spawn_named("slow", cleaning_for(1500));
            for _ in 0..10 {
                let quick = tg.spawn_named("quick", cleaning_for(900));
                yield_now().await;
                drop(quick.cancel());
                slow.canceller().cancel();
                sleep(Duration::from_millis(300)).await;
            }
        });
    });
    let [text] = &*texts else { panic!("not one report: {texts:?}") };
    assert!(text.contains("task `slow` (cleaning up "), "{text}");
}

#[test]
fn without_a_limit_no_cleanup_is_reported() {
    let _listening = listen(|report| panic!("{report}"));
    Tester::new().virtual_time().run(|| async {
        assert!(xiio::timeout(Duration::from_millis(1), cleaning_for(100_000)).await.is_err());
    });
}
