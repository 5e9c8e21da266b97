//! Who hears of reports, and that nobody notices when the tree is drawn.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::thread;

use xiio::inspect::{Listening, listen, tree};
use xiio::{Promise, Task, bracket, task_group, timeout, try_task_group, yield_now};
use xiio_tests::{DropBomb, assert_panics, run, run_virtually};

/// Ends a group by two failures, of which the one that is no panic is reported.
fn report_once() {
    let scene = async || -> Result<(), &str> {
        try_task_group!(|tg| {
            tg.spawn(bracket((), async |()| pending::<Result<(), _>>().await, async |()| panic!("the second failure")));
            yield_now().await;
            Err("the first failure")?;
        })
    };
    assert_panics(&["the second failure"], || run(scene()));
}

/// A listener, and the number of reports that it has heard.
fn counting() -> (Listening, Rc<Cell<u32>>) {
    let n_heard = Rc::new(Cell::new(0));
    let counter = Rc::clone(&n_heard);
    (listen(move |_| counter.set(counter.get() + 1)), n_heard)
}

#[test]
fn the_listener_before_hears_again_when_the_last_one_is_gone() {
    let (_first, heard_by_first) = counting();
    let (second, heard_by_second) = counting();
    report_once();
    assert_eq!((heard_by_first.get(), heard_by_second.get()), (0, 1));
    drop(second);
    report_once();
    assert_eq!((heard_by_first.get(), heard_by_second.get()), (1, 1));
}

#[test]
fn listeners_that_go_in_the_order_they_came_hear_nothing_afterwards() {
    let (first, heard_by_first) = counting();
    let (second, heard_by_second) = counting();
    drop(first);
    report_once();
    assert_eq!((heard_by_first.get(), heard_by_second.get()), (0, 1));
    drop(second);
    report_once();
    assert_eq!((heard_by_first.get(), heard_by_second.get()), (0, 1));
    assert_eq!(Rc::strong_count(&heard_by_first), 1, "a listener is kept");
}

#[test]
fn a_listener_may_be_kept_until_its_thread_ends() {
    thread_local! {
        static LISTENING: RefCell<Option<Listening>> = const { RefCell::new(None) };
    }
    // A panic in the destructor of a thread-local would abort the process.
    let thread = thread::spawn(|| LISTENING.with(|slot| slot.replace(Some(listen(|_| ()))).is_none()));
    assert!(thread.join().unwrap());
}

#[test]
fn a_listener_that_takes_itself_out_and_panics_as_it_goes_harms_no_unwinding() {
    thread_local! {
        static ONCE: RefCell<Option<Listening>> = const { RefCell::new(None) };
    }
    let captured = DropBomb("what the listener has captured");
    ONCE.set(Some(listen(move |_| {
        let _captured = &captured;
        drop(ONCE.take());
    })));
    assert_panics(&["the body"], || {
        run(async {
            task_group!(|tg| {
                // It is dropped by the unwinding, and its output with it.
                let _task = tg.spawn(async { DropBomb("the output of a task") });
                yield_now().await;
                panic!("the body");
            });
        });
    });
    assert!(ONCE.take().is_none());
}

#[test]
fn a_drawing_loses_no_member_that_is_ready() {
    let (body, task) = (Promise::new(), Promise::new());
    let both = async {
        task_group!(|tg| {
            tg.spawn(task.wait());
            body.wait().await;
        });
    };
    let drawing = async {
        yield_now().await;
        // The body of the group stands in its queue in front of the task, and the root is drawn before it is polled.
        body.set(()).unwrap();
        task.set(()).unwrap();
        tree().await;
    };
    run(async { futures::join!(both, drawing) });
}

/// Leaves nothing of this turn: what is ready stays where it is.
fn use_up_turn() {
    let greedy = async {
        task_group!(|tg| {
            tg.spawn(async {
                loop {
                    yield_now().await;
                }
            });
        });
    };
    assert!(pin!(greedy).poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

#[test]
fn a_drawing_lets_no_member_of_a_cancelled_group_go_on() {
    let (sender, receiver) = futures::channel::oneshot::channel();
    let has_gone_on = Cell::new(false);
    run(async {
        task_group!(|tg| {
            tg.spawn(async {
                task_group!(|inner| {
                    inner.defer(async {});
                    receiver.await.unwrap();
                    has_gone_on.set(true);
                });
            });
            yield_now().await;
            sender.send(()).unwrap();
            use_up_turn();
            tg.cancel();
            tree().await;
        });
    });
    assert!(!has_gone_on.get());
}

#[test]
fn a_group_that_is_reached_while_it_is_drawn_does_not_begin() {
    let has_begun = Cell::new(false);
    run(async {
        let is_set = Promise::new();
        is_set.set(()).unwrap();
        let task = RefCell::new(None);
        task_group!(|tg| {
            tg.spawn(async {
                yield_now().await;
                let task: Task<()> = task.take().unwrap();
                task.cancel().await;
            });
            let has_had_its_share = async {
                for _ in 0..128 {
                    is_set.wait().await;
                }
                // An executor in here would poll for ever what stays pending in a drawing.
                task_group!(|_inner| has_begun.set(true));
            };
            task.replace(Some(tg.spawn(has_had_its_share)));
            yield_now().await;
            use_up_turn();
            tree().await;
        });
    });
    assert!(!has_begun.get());
}

/// Runs a group whose deferred cleanup comes to its end, which is `end`, while it is drawn.
fn end_a_deferred_cleanup_in_a_drawing(end: impl FnOnce()) {
    run(async {
        let is_set = Promise::new();
        is_set.set(()).unwrap();
        task_group!(|tg| {
            tg.defer(async {
                assert!(pin!(tree()).poll(&mut Context::from_waker(Waker::noop())).is_pending());
                // Has had its share, with the group in there, so what comes next begins in its next poll.
                for _ in 0..127 {
                    is_set.wait().await;
                }
                timeout(None, async {}).await.unwrap();
                end();
            });
        });
    });
}

#[test]
fn a_deferred_cleanup_that_ends_while_it_is_drawn_has_ended() {
    let n_ended = Cell::new(0);
    end_a_deferred_cleanup_in_a_drawing(|| n_ended.set(n_ended.get() + 1));
    assert_eq!(n_ended.get(), 1);
}

#[test]
fn the_panic_of_a_deferred_cleanup_while_it_is_drawn_is_thrown() {
    assert_panics(&["the cleanup failed"], || end_a_deferred_cleanup_in_a_drawing(|| panic!("the cleanup failed")));
}

#[test]
fn a_task_that_fails_while_it_is_drawn_lets_no_sibling_go_on() {
    let has_gone_on = Cell::new(false);
    let group = async {
        let is_set = Promise::new();
        is_set.set(()).unwrap();
        let (sender, receiver) = futures::channel::oneshot::channel();
        try_task_group!(|tg| {
            tg.spawn(async {
                yield_now().await;
                assert!(pin!(tree()).poll(&mut Context::from_waker(Waker::noop())).is_pending());
                use_up_turn();
                sender.send(()).unwrap();
                // Has had its share, with the group in there, so what comes next begins in its next poll.
                for _ in 0..127 {
                    is_set.wait().await;
                }
                timeout(None, async {}).await.unwrap();
                Err::<(), _>("failed")
            });
            tg.spawn(async {
                receiver.await.unwrap();
                has_gone_on.set(true);
                Ok(())
            });
            pending::<()>().await;
        })
    };
    // Of real time a turn has but a share.
    run_virtually(async { assert_eq!(group.await, Err("failed")) });
    assert!(!has_gone_on.get());
}
