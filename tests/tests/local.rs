//! Values of `local!`: who has them, who does not, and where they are seen.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use xiio::inspect::{Kind, Node, ReportKind, listen, tree};
use xiio::{
    AccessError, Promise, bracket, gather, in_thread, join, parallel_map, shield, sleep, task_group, timeout, yield_now,
};
use xiio_tests::{Reports, assert_panics, poll, poll_once};

xiio::local! {
    /// What everybody has.
    static REQUEST: u32, shown;
    static USER: String;
    static DEPTH: u32, not_inherited;
    /// Of a type that does not leave its thread.
    static TRACE: Rc<RefCell<Vec<u32>>>;
    static SENT: Arc<Mutex<Vec<u32>>>;
}

#[xiio::test]
async fn a_scope_has_its_value_between_its_awaits_and_nobody_else_has() {
    let one = REQUEST.scope(1, async {
        for _ in 0..3 {
            assert_eq!(REQUEST.get(), 1);
            yield_now().await;
        }
    });
    let two = REQUEST.scope(2, async {
        for _ in 0..3 {
            assert_eq!(REQUEST.with(u32::clone), 2);
            yield_now().await;
        }
    });
    let nobody = async {
        for _ in 0..3 {
            assert!(REQUEST.try_get().is_err());
            yield_now().await;
        }
    };
    join!(one, two, nobody);
}

#[xiio::test]
async fn a_task_has_what_was_current_where_it_was_spawned_whichever_group_it_is_of() {
    let seen = RefCell::new(Vec::new());
    let note = async |n_yields: u32| {
        for _ in 0..n_yields {
            yield_now().await;
        }
        seen.borrow_mut().push((n_yields, REQUEST.try_get().ok(), USER.try_get().ok()));
    };
    task_group!(|tg| {
        tg.spawn(note(1));
        REQUEST
            .scope(7, async {
                tg.spawn(note(2));
                USER.scope("Ada".into(), async { drop(tg.spawn(note(3))) }).await;
                REQUEST.scope(8, async { drop(tg.spawn(note(4))) }).await;
                tg.spawn(note(5));
            })
            .await;
        tg.spawn(note(6));
    });
    let ada = || Some("Ada".to_owned());
    assert_eq!(
        *seen.borrow(),
        [
            (1, None, None),
            (2, Some(7), None),
            (3, Some(7), ada()),
            (4, Some(8), None),
            (5, Some(7), None),
            (6, None, None)
        ]
    );
}

#[xiio::test]
async fn grandchildren_combinators_and_cleanups_inherit() {
    let released = Cell::new(0);
    REQUEST
        .scope(7, async {
            assert_eq!(gather((0..3).map(async |n| n + REQUEST.get())).await, [7, 8, 9]);
            task_group!(|tg| {
                tg.spawn(async {
                    yield_now().await;
                    task_group!(|inner| {
                        let grandchild = inner.spawn(async { REQUEST.get() });
                        assert_eq!(grandchild.await, 7);
                        inner.defer(async { released.set(released.get() + REQUEST.get()) });
                    });
                });
                tg.spawn(bracket(
                    (),
                    async |()| pending::<()>().await,
                    async |()| {
                        yield_now().await;
                        released.set(released.get() + REQUEST.get());
                    },
                ));
                yield_now().await;
                yield_now().await;
                yield_now().await;
                tg.cancel();
            });
        })
        .await;
    assert_eq!(released.get(), 14);
}

#[xiio::test]
async fn a_key_that_is_not_inherited_is_seen_by_no_task_of_a_group_inside_of_its_scope() {
    DEPTH
        .scope(
            3,
            REQUEST.scope(7, async {
                task_group!(|tg| {
                    // The group is polled where the key has its value.
                    let child = tg.spawn(async {
                        yield_now().await;
                        let grandchild = tg.spawn(async { DEPTH.try_get() });
                        (DEPTH.try_get(), grandchild.await, REQUEST.get())
                    });
                    let (child, grandchild, request) = child.await;
                    assert!(child.is_err() && grandchild.is_err());
                    assert_eq!(request, 7);
                    assert_eq!(DEPTH.get(), 3);
                });
            }),
        )
        .await;
    let alone = DEPTH.scope(3, async { task_group!(|tg| { tg.spawn(async { DEPTH.try_get() }).await }) });
    assert!(alone.await.is_err());
}

#[xiio::test]
async fn a_thread_job_has_what_may_leave_the_thread() {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let job = || {
        SENT.with(|sent| sent.lock().unwrap().push(REQUEST.get()));
        assert!(TRACE.try_with(|_| ()).is_err() && DEPTH.try_get().is_err());
        // A run on that thread goes on with them.
        xiio::run(async { task_group!(|tg| { tg.spawn(async { REQUEST.get() }).await }) })
    };
    let request = SENT.scope(Arc::clone(&sent), TRACE.scope(Rc::default(), DEPTH.scope(1, in_thread(job))));
    assert_eq!(REQUEST.scope(7, request).await, 7);
    assert_eq!(*sent.lock().unwrap(), [7]);
    // The thread has forgotten them.
    assert_eq!(in_thread(|| REQUEST.try_get().ok()).await, None);
}

#[test]
fn a_task_on_a_worker_has_what_may_leave_the_thread() {
    for n_workers in [0, 2] {
        xiio::run(REQUEST.scope(7, async {
            task_group!(workers = n_workers, |tg| {
                // Spawned there and awaited here.
                let request = Cell::new(None);
                REQUEST
                    .scope(8, async {
                        let task = tg.workers().spawn(async || {
                            yield_now().await;
                            let child = task_group!(|inner| { inner.spawn(async { REQUEST.get() }).await });
                            (REQUEST.get(), child)
                        });
                        request.set(Some(task));
                    })
                    .await;
                assert_eq!(request.take().unwrap().await, (8, 8));
            });
            assert_eq!(parallel_map(n_workers, &[0, 1, 2], async |n| n + REQUEST.get()).await, [7, 8, 9]);
        }));
    }
}

#[xiio::test]
async fn what_comes_from_elsewhere_has_what_its_group_has() {
    REQUEST
        .scope(7, async {
            task_group!(|tg| {
                let remote = tg.remote();
                std::thread::spawn(move || remote.spawn(|| async { assert_eq!(REQUEST.get(), 7) }))
                    .join()
                    .unwrap()
                    .unwrap();
            });
        })
        .await;
}

#[xiio::test]
async fn values_go_with_the_last_that_has_them() {
    let value = Rc::new(RefCell::new(Vec::new()));
    task_group!(|tg| {
        TRACE
            .scope(Rc::clone(&value), async {
                tg.spawn(async {
                    yield_now().await;
                    TRACE.with(|trace| trace.borrow_mut().push(1));
                });
                tg.spawn(pending::<()>());
            })
            .await;
        assert!(Rc::strong_count(&value) > 1);
        yield_now().await;
        yield_now().await;
        tg.cancel();
    });
    assert_eq!((Rc::strong_count(&value), &*value.borrow()), (1, &vec![1]));
}

/// Notes the request where it is dropped.
struct NoteRequest<'a>(&'a RefCell<Vec<Option<u32>>>);

impl Drop for NoteRequest<'_> {
    fn drop(&mut self) {
        self.0.borrow_mut().push(REQUEST.try_get().ok());
    }
}

#[xiio::test]
async fn destructors_see_the_value_however_what_they_are_in_ends() {
    let seen = RefCell::new(Vec::new());
    let hold = async |n_yields: u32| {
        let _note = NoteRequest(&seen);
        for _ in 0..n_yields {
            yield_now().await;
        }
    };
    // A task that has inherited, ended and cancelled; a scope inside of a task, cancelled; a scope that is dropped.
    task_group!(|tg| {
        REQUEST
            .scope(1, async {
                tg.spawn(hold(1));
                tg.spawn(hold(u32::MAX));
            })
            .await;
        tg.spawn(REQUEST.scope(2, hold(u32::MAX)));
        for _ in 0..4 {
            yield_now().await;
        }
        tg.cancel();
    });
    let mut dropped = Box::pin(REQUEST.scope(3, hold(1)));
    assert!(poll_once(dropped.as_mut()).await.is_pending());
    drop(dropped);
    assert_eq!(*seen.borrow(), [Some(1), Some(1), Some(2), Some(3)]);
    assert!(REQUEST.try_get().is_err());
}

#[xiio::test]
async fn a_panic_leaves_nothing_current() {
    let panicked = xiio::catch_panic(REQUEST.scope(1, async { panic!("a bug") })).await;
    assert!(panicked.is_err() && REQUEST.try_get().is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| REQUEST.sync_scope(1, || panic!("a bug")))).is_err());
    assert!(REQUEST.try_get().is_err());
    let group = async {
        task_group!(|tg| {
            REQUEST.scope(2, async { drop(tg.spawn(async { panic!("a bug") })) }).await;
        });
    };
    assert!(xiio::catch_panic(group).await.is_err() && REQUEST.try_get().is_err());
}

#[xiio::test]
async fn a_scope_that_is_leaked_leaves_nothing_current() {
    let value = Rc::<RefCell<Vec<u32>>>::default();
    let mut leaked = Box::pin(TRACE.scope(Rc::clone(&value), async {
        task_group!(|tg| {
            tg.spawn(pending::<()>());
        });
    }));
    assert!(poll_once(leaked.as_mut()).await.is_pending());
    poll::leak(leaked);
    assert!(TRACE.try_with(|_| ()).is_err() && Rc::strong_count(&value) > 1);
}

#[xiio::test]
async fn a_scope_may_be_polled_on_in_another_one() {
    let mut inner = pin!(USER.scope("Ada".into(), async {
        let before = REQUEST.get();
        yield_now().await;
        (before, REQUEST.get(), USER.get())
    }));
    REQUEST.scope(1, poll_fn(|cx| Poll::Ready(inner.as_mut().poll(cx).is_pending()))).await;
    assert_eq!(REQUEST.scope(2, inner).await, (1, 2, "Ada".to_owned()));
}

#[test]
fn what_a_key_without_a_value_says() {
    let error: AccessError = REQUEST.try_get().unwrap_err();
    let text = "`REQUEST` has no value here; it has one inside of `REQUEST.scope(value, future)` and in what is spawned \
                there, on other threads if the value is `Send` and `Sync`";
    assert_eq!(error.to_string(), text);
    let not_inherited = "`DEPTH` has no value here; it has one inside of `DEPTH.scope(value, future)`, and as it is \
                         `not_inherited`, not in what is spawned there";
    assert_eq!(DEPTH.try_get().unwrap_err().to_string(), not_inherited);
    let panicked = catch_unwind(|| REQUEST.get()).unwrap_err();
    assert_eq!(panicked.downcast_ref::<String>().map(String::as_str), Some(text));
}

#[test]
fn a_destructor_of_a_value_may_panic_and_ask_for_the_value() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(BOMB.try_with(|_| ()).is_err());
            panic!("a bug in a destructor");
        }
    }
    xiio::local!(static BOMB: Bomb);
    let reports = Rc::new(RefCell::new(Vec::new()));
    let sink = Rc::clone(&reports);
    let _listening = listen(move |report| sink.borrow_mut().push(report.to_string()));
    xiio::run(async {
        task_group!(|tg| {
            BOMB.scope(Bomb, async { drop(tg.spawn(yield_now())) }).await;
        });
    });
    assert_eq!(*reports.borrow(), ["a destructor panicked: a bug in a destructor"]);
}

#[test]
fn destructors_of_two_values_of_one_task_may_panic() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a bug in a destructor");
        }
    }
    xiio::local! {
        static FIRST: Bomb;
        static SECOND: Bomb;
    }
    let reports = Reports::new();
    xiio::run(async {
        task_group!(|tg| {
            FIRST.scope(Bomb, SECOND.scope(Bomb, async { drop(tg.spawn(yield_now())) })).await;
        });
    });
    assert_eq!(reports.kinds(), [ReportKind::LaterFailure; 2]);
}

#[xiio::test]
async fn the_tree_has_what_is_shown_where_it_begins() {
    let tree = USER
        .scope(
            "not shown".into(),
            REQUEST.scope(7, async {
                task_group!(|tg| {
                    tg.spawn(sleep(Duration::from_secs(60)));
                    REQUEST.scope(8, async { drop(tg.spawn(sleep(Duration::from_secs(60)))) }).await;
                    yield_now().await;
                    let tree = tree().await;
                    tg.cancel();
                    tree
                })
            }),
        )
        .await;
    let text = tree.to_string();
    assert!(!text.contains("not shown"), "{text}");
    let (_, scope) = tree.nodes().find(|(_, node)| node.kind() == Kind::Local).unwrap();
    assert_eq!(scope.what(), "REQUEST = 7");
    let group = &scope.children()[0];
    let tasks: Vec<Vec<(&str, &str)>> =
        group.children().iter().filter(|node| node.kind() == Kind::Task).map(|task| task.locals().collect()).collect();
    assert_eq!(tasks, [vec![], vec![("REQUEST", "8")]], "{text}");
    assert!(text.contains(", REQUEST = 8\n"), "{text}");
    assert!(tree.to_json().contains(r#""locals":{"REQUEST":"8"}"#), "{}", tree.to_json());
}

#[xiio::test]
async fn two_keys_of_one_name_are_two_in_the_tree_as_json() {
    mod other {
        xiio::local!(pub(super) static REQUEST: u32, shown);
    }
    let tree = task_group!(|tg| {
        let both = other::REQUEST.scope(9, async { drop(tg.spawn(pending::<()>())) });
        REQUEST.scope(8, both).await;
        let tree = tree().await;
        tg.cancel();
        tree
    });
    assert!(tree.to_json().contains(r#""locals":{"REQUEST":"8","REQUEST#2":"9"}"#), "{}", tree.to_json());
}

#[xiio::test]
async fn a_report_of_a_task_has_what_is_shown() {
    let reports = Rc::new(RefCell::new(Vec::new()));
    let sink = Rc::clone(&reports);
    let _listening = listen(move |report| sink.borrow_mut().push(report.to_string()));
    let failed: Result<(), u32> = xiio::try_task_group!(error = u32, |tg| {
        for request in [1, 2] {
            let failing = xiio::shield(async {
                yield_now().await;
                Err::<(), _>(REQUEST.get())
            });
            REQUEST.scope(request, async { drop(tg.spawn(failing)) }).await;
        }
    });
    assert_eq!(failed, Err(1));
    let reports = reports.borrow();
    assert!(reports.len() == 1 && reports[0].contains(", REQUEST = 2, of a group failed as well"), "{reports:?}");
}

#[xiio::test]
async fn a_value_that_cannot_be_shown_does_no_harm() {
    struct Hostile;
    impl fmt::Display for Hostile {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            HOSTILE.with(|_| ());
            assert!(!f.alternate() && HOSTILE.try_with(|_| ()).is_err(), "\x1b[31m");
            Ok(())
        }
    }
    xiio::local!(static HOSTILE: Hostile, shown);
    let _listening = listen(|_| {});
    let tree = task_group!(|tg| {
        HOSTILE.scope(Hostile, async { drop(tg.spawn(pending::<()>())) }).await;
        let tree = tree().await;
        tg.cancel();
        tree
    });
    let tasks: Vec<&Node> = tree.nodes().map(|(_, node)| node).filter(|node| node.kind() == Kind::Task).collect();
    assert_eq!(tasks[0].locals().collect::<Vec<_>>(), [("HOSTILE", "(its `Display` panicked)")]);
}

#[xiio::test(cancel_everywhere)]
async fn a_scope_hides_no_cleanup() {
    let is_clean = Rc::new(Cell::new(true));
    let flag = Rc::clone(&is_clean);
    let work = async move {
        flag.set(false);
        bracket(
            (),
            async |()| yield_now().await,
            async |()| {
                yield_now().await;
                flag.set(true);
            },
        )
        .await;
    };
    assert!(timeout(Duration::from_secs(60), REQUEST.scope(1, work)).await.is_ok());
    assert!(is_clean.get());
}

#[xiio::test]
async fn a_task_for_workers_has_what_was_sent_with_it_and_no_more() {
    let around = || Rc::new(RefCell::new(Vec::new()));
    for n_workers in [0, 1] {
        let has = TRACE.scope(around(), async {
            task_group!(workers = n_workers, |tg| {
                // What is around the group is not what is around the call, and neither leaves its thread.
                TRACE.scope(around(), async { tg.workers().spawn(async || TRACE.try_with(|_| ()).is_ok()).await }).await
            })
        });
        assert!(!has.await, "{n_workers}");
    }
}

#[test]
fn reports_of_tasks_on_workers_show_values() {
    for n_workers in [0, 1] {
        let reports = Reports::new();
        let (one, two) = (Promise::new(), Promise::new());
        let clingy = async || {
            one.set(()).unwrap();
            shield(pending::<()>()).await;
        };
        let usage = async |(): &mut ()| {
            two.set(()).unwrap();
            pending::<()>().await;
        };
        xiio::run(async {
            task_group!(workers = n_workers, grace = Duration::ZERO, |tg| {
                let task = REQUEST.sync_scope(7, || tg.workers().spawn(clingy));
                one.wait().await;
                task.cancel().await;
            });
        });
        let failing = async {
            task_group!(workers = n_workers, |tg| {
                let task = async || bracket((), usage, async |()| panic!("later")).await;
                REQUEST.sync_scope(8, || tg.workers().spawn(task));
                two.wait().await;
                panic!("first");
            });
        };
        assert_panics(&["first"], || xiio::run(failing));
        let texts = reports.texts();
        assert_eq!(texts.len(), 2, "{n_workers}: {texts:?}");
        assert!(texts[0].contains("REQUEST = 7") && texts[1].contains("REQUEST = 8"), "{n_workers}: {texts:?}");
    }
}
