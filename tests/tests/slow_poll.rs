//! Polls and cleanups that take long are reported, polls in vain and groups of many tasks, with who it is, and with nobody else.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::sync::OnceLock;
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use xiio::inspect::{Listening, ReportKind, listen, tree};
use xiio::io::{Read, Write, duplex};
use xiio::testing::Tester;
use xiio::{
    Builder, Canceller, GroupError, Task, bracket, shield, sleep, task_group, timeout, try_task_group, yield_now,
};
use xiio_tests::{LONG, Reports};

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
fn what_it_takes_to_draw_the_tree_is_no_slow_poll() {
    let (_listening, texts) = slow_polls();
    let is_drawn = Cell::new(false);
    // It takes long only as it is drawn.
    let drawn_slowly = poll_fn(|_| {
        if is_drawn.get() {
            thread::sleep(TOO_LONG);
        }
        Poll::<()>::Pending
    });
    Builder::new().slow_poll(LIMIT).run(async {
        task_group!(|tg| {
            tg.spawn(drawn_slowly);
            yield_now().await;
            is_drawn.set(true);
            tree().await;
            tg.cancel();
            // What blocks afterwards is reported.
            yield_now().await;
            block().await;
        });
    });
    let texts = texts.take();
    assert!(texts.len() == 1 && texts[0].starts_with("the body of a group in the root"), "{texts:?}");
}

#[test]
fn what_it_takes_to_draw_what_a_grace_cuts_off_is_no_slow_poll() {
    const GRACE: Duration = Duration::from_secs(1);
    // A task on a worker that is cancelled alone is polled when its grace is over, so it would be slow itself.
    for (of_worker, is_alone) in [(false, false), (false, true), (true, false)] {
        let (_listening, texts) = slow_polls();
        let end = OnceLock::new();
        // Nothing but the drawing polls it when the grace is over.
        let drawn_slowly = || {
            poll_fn(|_| {
                if end.get().is_some_and(|end| xiio::now() >= *end) {
                    thread::sleep(TOO_LONG);
                }
                Poll::<()>::Pending
            })
        };
        Tester::new().virtual_time().slow_poll(LIMIT).run(async || {
            task_group!(workers = usize::from(of_worker), grace = GRACE, |tg| {
                let at_home = (!of_worker).then(|| tg.spawn(shield(drawn_slowly())));
                if of_worker {
                    tg.workers().spawn(async || shield(drawn_slowly()).await);
                }
                // They begin.
                sleep(GRACE).await;
                end.set(xiio::now() + GRACE).unwrap();
                if is_alone {
                    at_home.unwrap().cancel().await;
                }
                tg.cancel();
            });
        });
        assert!(texts.borrow().is_empty(), "{of_worker}, {is_alone}: {:?}", texts.borrow());
    }
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
    assert!(
        text.starts_with("a cleanup has taken 1s and goes on; `grace` bounds that of what is cancelled:\n"),
        "{text}"
    );
    assert!(text.contains("task `clingy` (cleaning up ") && !text.contains("at work"), "{text}");
}

#[test]
fn a_cleanup_that_takes_long_is_reported_where_a_combinator_of_others_hides_it() {
    let texts = slow_cleanups(|| async {
        // It polls only what was woken, so a drawing does not reach the cleanup.
        let mut hidden: FuturesUnordered<_> =
            [timeout(Duration::ZERO, cleaning_for(5000)), timeout(Duration::ZERO, cleaning_for(100))]
                .into_iter()
                .collect();
        while hidden.next().await.is_some() {}
    });
    let [text] = &*texts else { panic!("not one report: {texts:?}") };
    assert!(text.starts_with("a cleanup has taken 1s and goes on; ") && text.contains("hides it"), "{text}");
}

/// The report of a cleanup that takes long, from `work` that only a grace ends.
fn hanging_cleanup<F: Future<Output = ()>>(work: impl Fn() -> F) -> String {
    let reports = Reports::new();
    Tester::new().virtual_time().slow_cleanup(Duration::from_secs(1)).run(work);
    assert_eq!(reports.kinds(), [ReportKind::SlowCleanup, ReportKind::GraceOver], "{:?}", reports.texts());
    reports.texts().swap_remove(0)
}

#[test]
fn a_cleanup_that_awaits_the_end_of_its_own_task_is_drawn_as_that() {
    for is_nested in [false, true] {
        let slot: RefCell<Option<Task<()>>> = RefCell::new(None);
        let text = hanging_cleanup(|| async {
            let release = async |()| {
                let own = slot.take().unwrap().cancel();
                if is_nested {
                    task_group!(|tg| {
                        tg.spawn(own);
                    });
                } else {
                    own.await;
                }
            };
            task_group!(grace = Duration::from_secs(5), |tg| {
                let task = tg.spawn_named("clingy", bracket((), async |()| pending::<()>().await, release));
                slot.replace(Some(task));
                yield_now().await;
                tg.cancel();
            });
        });
        let leaf = "the cleanup of the task that this is in, `clingy`, spawned at tests/tests/slow_poll.rs:";
        assert!(text.contains(leaf), "{text}");
    }
}

#[test]
fn a_task_that_awaits_another_one_is_not_said_to_be_in_it() {
    let texts = slow_cleanups(|| async {
        task_group!(|tg| {
            let slow = tg.spawn_named("slow", cleaning_for(1500));
            yield_now().await;
            slow.cancel().await;
        });
    });
    assert!(!texts.concat().contains("that this is in"), "{texts:?}");
}

#[test]
fn a_cleanup_that_waits_for_a_lock_of_a_branch_beside_it_is_drawn_beside_what_holds_that() {
    let line = line!() + 7;
    let text = hanging_cleanup(|| async {
        let lock = async_lock::Mutex::new(());
        let holder = async {
            let _guard = lock.lock().await;
            sleep(LONG).await;
        };
        let waiter = bracket((), async |()| pending::<()>().await, async |()| drop(lock.lock().await));
        task_group!(grace = Duration::from_secs(5), |tg| {
            tg.spawn(async { futures::join!(holder, waiter) });
            yield_now().await;
            tg.cancel();
        });
    });
    let drawn =
        format!("\n        sleep, 3599s more\n        bracket (cleaning up), made at tests/tests/slow_poll.rs:{line}");
    assert!(text.trim_end().ends_with(&drawn), "{text}");
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
fn a_deferred_cleanup_is_one_however_its_group_ends() {
    let long = async || sleep(Duration::from_millis(1500)).await;
    let texts = slow_cleanups(|| async {
        task_group!(name = "by itself", |tg| {
            tg.defer(long());
        });
        let late = task_group!(name = "by its limit", timeout = Duration::from_secs(1), |tg| {
            tg.defer(long());
            sleep(LONG).await;
        });
        assert!(late.is_err());
        let failed: Result<(), &str> = try_task_group!(name = "by a failure", error = &str, |tg| {
            tg.defer(long());
            tg.defer(async { sleep(Duration::from_millis(900)).await });
            Err("no luck")?;
        });
        assert!(failed.is_err());
    });
    let names = ["by itself", "by its limit", "by a failure"];
    assert_eq!(texts.len(), names.len(), "{texts:?}");
    for (text, name) in texts.iter().zip(names) {
        assert!(
            text.contains(&format!("group `{name}`")) && text.contains("a deferred cleanup, deferred at "),
            "{text}"
        );
    }
}

#[test]
fn a_cleanup_ends_before_what_owned_it_is_dropped() {
    let texts = slow_cleanups(|| async {
        let mut timed = pin!(timeout(Duration::ZERO, cleaning_for(100)));
        assert!(timed.as_mut().await.is_err());
        let (mut cleaning, mut n_polls) = (Box::pin(cleaning_for(100)), 0);
        let broken = poll_fn(move |cx| {
            n_polls += 1;
            assert!(n_polls == 1, "broken");
            cleaning.as_mut().poll(cx)
        });
        let mut broken = pin!(timeout(Duration::ZERO, broken));
        assert!(AssertUnwindSafe(broken.as_mut()).catch_unwind().await.is_err());
        // A second after those have begun this one has not taken one.
        sleep(Duration::from_millis(700)).await;
        assert!(timeout(Duration::ZERO, cleaning_for(500)).await.is_err());
        let late = task_group!(timeout = Duration::ZERO, |tg| {
            tg.defer(sleep(Duration::from_millis(950)));
            tg.spawn(cleaning_for(100));
            cleaning_for(100).await;
        });
        assert!(late.is_err());
    });
    assert_eq!(texts, [""; 0]);
}

#[test]
fn without_a_limit_no_cleanup_is_reported() {
    let _listening = listen(|report| panic!("{report}"));
    Tester::new().virtual_time().run(|| async {
        assert!(timeout(Duration::from_millis(1), cleaning_for(100_000)).await.is_err());
    });
}

/// So many polls in vain are allowed, and so many tasks.
const FEW: usize = 1000;

/// Wakes itself so many times, as code does that does not know how to wait.
fn spin(n_polls: usize) -> impl Future<Output = ()> {
    let mut left = n_polls;
    poll_fn(move |cx| {
        let Some(next) = left.checked_sub(1) else { return Poll::Ready(()) };
        left = next;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

/// Sends a byte there and back so many times; `on_byte` is called each time, beside `other`.
async fn play(n_rounds: usize, mut on_byte: impl FnMut(), other: impl Future<Output = ()>) {
    let (mut near, mut far) = duplex(1);
    task_group!(|tg| {
        tg.spawn(async move {
            let mut byte = [0];
            for _ in 0..n_rounds {
                near.write_all(b"a").await.unwrap();
                near.read_exact(&mut byte).await.unwrap();
            }
        });
        tg.spawn(async move {
            let mut byte = [0];
            for _ in 0..n_rounds {
                far.read_exact(&mut byte).await.unwrap();
                on_byte();
                far.write_all(b"b").await.unwrap();
            }
        });
        tg.spawn(other);
    });
}

#[test]
fn a_task_that_only_wakes_itself_is_named_once_with_what_it_awaits() {
    let reports = Reports::new();
    let line = line!() + 3;
    Builder::new().vain_polls(FEW).run(async {
        task_group!(|tg| {
            tg.spawn_named("restless", async {
                let (mut spin, mut sleep) = (pin!(spin(50 * FEW)), pin!(sleep(LONG)));
                poll_fn(|cx| match sleep.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(()),
                    Poll::Pending => spin.as_mut().poll(cx),
                })
                .await;
            });
            tg.spawn_named("calm", sleep(Duration::from_millis(1)));
        });
    });
    let place = format!("a task `restless`, spawned at tests/tests/slow_poll.rs:{line} (`");
    reports.assert_one(ReportKind::VainPolls, &[&place, "1001 times within a second", "\ntask `restless`", "sleep"]);
    assert!(!reports.texts()[0].contains("calm"), "{:?}", reports.texts());
}

#[test]
fn who_gives_way_on_purpose_may_do_so_as_often_as_it_likes() {
    let reports = Reports::new();
    Builder::new().vain_polls(FEW).run(async {
        task_group!(|tg| {
            tg.spawn(async {
                for _ in 0..10 * FEW {
                    yield_now().await;
                }
                spin(2 * FEW).await;
            });
        });
    });
    reports.assert_one(ReportKind::VainPolls, &["only woke itself"]);
}

#[test]
fn who_gets_on_or_is_woken_by_others_or_polls_seldom_is_not_polled_in_vain() {
    let reports = Reports::new();
    Builder::new().vain_polls(FEW).run(async {
        let waiting = RefCell::new(Waker::noop().clone());
        let n_polls = Cell::new(0);
        task_group!(|tg| {
            // Nothing of xiio is ready in it, but it is not its doing.
            let woken = poll_fn(|cx| {
                n_polls.update(|n_polls| n_polls + 1);
                waiting.replace(cx.waker().clone());
                if n_polls.get() < 2 * FEW { Poll::Pending } else { Poll::Ready(()) }
            });
            // Its task has a group, of which the members are busy, and wakes nobody else.
            tg.spawn(play(5 * FEW, || waiting.borrow().wake_by_ref(), woken));
            // It gives way so often that it would be reported if it did not come to anything in between.
            tg.spawn(async {
                for _ in 0..10 {
                    spin(FEW - 1).await;
                    let (mut near, mut far) = duplex(1);
                    near.write_all(b"a").await.unwrap();
                    far.read_exact(&mut [0]).await.unwrap();
                }
            });
        });
    });
    reports.assert_none();
}

#[test]
fn who_ends_or_is_cancelled_in_a_poll_in_vain_is_neither_reported_nor_polled_again() {
    let reports = Reports::new();
    for fate in ["ends", "is cancelled", "its group is cancelled"] {
        let (n_polls, canceller) = (Cell::new(0), RefCell::<Option<Canceller>>::default());
        Builder::new().vain_polls(FEW).run(async {
            task_group!(|tg| {
                let (n_polls, canceller, tg) = (&n_polls, &canceller, &tg);
                let task = tg.spawn(poll_fn(move |cx| {
                    n_polls.update(|n_polls| n_polls + 1);
                    cx.waker().wake_by_ref();
                    match fate {
                        _ if n_polls.get() != FEW + 1 => return Poll::Pending,
                        "ends" => return Poll::Ready(()),
                        "is cancelled" => canceller.borrow().iter().for_each(Canceller::cancel),
                        _ => tg.cancel(),
                    }
                    Poll::Pending
                }));
                canceller.replace(Some(task.canceller()));
            });
        });
        assert_eq!(n_polls.get(), FEW + 1, "a task that {fate}");
    }
    reports.assert_none();
}

#[test]
fn who_is_polled_in_vain_when_a_sibling_has_failed_is_not_polled_again() {
    let reports = Reports::new();
    let n_polls = Cell::new(0);
    let failed: Result<(), GroupError<&str>> = Builder::new().vain_polls(FEW).run(async {
        try_task_group!(all_errors, error = &str, |tg| {
            tg.spawn(async {
                for _ in 0..FEW {
                    yield_now().await;
                }
                Err::<(), _>("a sibling")
            });
            tg.spawn(poll_fn(|cx| {
                n_polls.update(|n_polls| n_polls + 1);
                cx.waker().wake_by_ref();
                Poll::<Result<(), _>>::Pending
            }));
        })
    });
    assert_eq!(failed.unwrap_err().into_failures().count(), 1);
    assert_eq!(n_polls.get(), FEW + 1, "in the last round it is polled once");
    reports.assert_none();
}

#[test]
fn polls_in_vain_are_counted_on_workers_too() {
    let reports = Reports::new();
    Builder::new().vain_polls(FEW).run(async {
        task_group!(workers = 1, |tg| {
            tg.workers().spawn(async || spin(2 * FEW).await);
        });
    });
    reports.assert_one(ReportKind::VainPolls, &["spawned at tests/tests/slow_poll.rs:"]);
}

#[test]
fn a_group_that_holds_too_many_tasks_is_named_once_with_where_they_were_spawned() {
    let reports = Reports::new();
    let line = line!() + 3;
    Builder::new().many_tasks(FEW).run(async {
        task_group!(name = "crowded", limit = 10, |tg| {
            let leak = || drop(tg.spawn(sleep(LONG)));
            (0..FEW - 1).for_each(|_| leak());
            drop(tg.spawn(sleep(LONG)));
            yield_now().await;
            reports.assert_none();
            (0..FEW).for_each(|_| leak());
            yield_now().await;
            tg.cancel();
        });
    });
    let place = format!("1999 spawned at tests/tests/slow_poll.rs:{line}, 1 spawned at");
    reports.assert_one(ReportKind::ManyTasks, &["group `crowded` holds 2000 tasks", &place]);
}

#[test]
fn tasks_that_have_ended_or_were_cancelled_are_not_many() {
    let reports = Reports::new();
    for limit in [7, usize::MAX] {
        Builder::new().many_tasks(FEW).run(async {
            task_group!(limit = limit, |tg| {
                for round in 0..20 {
                    (0..FEW).for_each(|task| match task % 3 {
                        0 => drop(tg.spawn(async {})),
                        1 => drop(tg.spawn(yield_now())),
                        _ => drop(tg.spawn_named("stays", sleep(LONG))),
                    });
                    // Some before they begin, some later.
                    if round % 2 == 0 {
                        yield_now().await;
                        yield_now().await;
                    }
                    tg.cancel();
                    yield_now().await;
                }
            });
            // Each group has its own.
            task_group!(|tg| (0..FEW).for_each(|_| drop(tg.spawn(async {}))));
        });
    }
    reports.assert_none();
}

#[test]
fn a_program_is_not_told_of_polls_in_vain_or_many_tasks_unless_it_asks_for_it() {
    let reports = Reports::new();
    let work = || async {
        task_group!(|tg| {
            for _ in 0..20_000 {
                tg.spawn(async {});
            }
            tg.spawn(spin(50_000));
        });
    };
    xiio::run(work());
    reports.assert_none();
    Tester::new().run(work);
    reports.assert_one(ReportKind::ManyTasks, &["group holds 20001 tasks"]);
    Tester::new().many_tasks(usize::MAX).vain_polls(10_000).run(work);
    assert_eq!(reports.kinds(), [ReportKind::ManyTasks, ReportKind::VainPolls]);
}

#[xiio::test(vain_polls = 100, many_tasks = 3)]
async fn the_attribute_sets_the_limits_of_polls_in_vain_and_of_tasks() {
    let reports = Reports::new();
    task_group!(|tg| {
        (0..4).for_each(|_| drop(tg.spawn(yield_now())));
    });
    task_group!(|tg| {
        tg.spawn(spin(1000));
    });
    assert_eq!(reports.kinds(), [ReportKind::ManyTasks, ReportKind::VainPolls]);
}
