//! Runs in the last destructors of a thread, when it has given its home back, with a tree in a thread-local beside them.
//!
//! A panic in the destructor of a thread-local aborts the process.

use std::cell::RefCell;
use std::future::pending;
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::thread;

use xiio::compat::Embed;
use xiio::{in_thread, sleep, task_group};
use xiio_tests::millis;
use xiio_tests::poll::OnDrop;

type Anything = Option<Box<dyn std::any::Any>>;

thread_local! {
    static ONE: RefCell<Anything> = const { RefCell::new(None) };
    static TWO: RefCell<Anything> = const { RefCell::new(None) };
}

/// A tree that has a task, a timer and work on another thread in it.
fn tree() -> Box<dyn std::any::Any> {
    let future = async {
        task_group!(|tg| {
            tg.spawn(in_thread(|| thread::sleep(millis(5))));
            tg.spawn(sleep(millis(1)));
            pending::<()>().await;
        });
    };
    let mut tree = Embed::new(Box::pin(future)).unwrap();
    assert!(tree.turn(&mut Context::from_waker(Waker::noop())).is_pending());
    Box::new(tree)
}

fn run_late() -> i32 {
    xiio::run(async {
        task_group!(|tg| {
            let answer = tg.spawn(async {
                sleep(millis(1)).await;
                in_thread(|| 7).await
            });
            answer.await
        })
    })
}

/// Both thread-locals are registered before anything of the runtime, and so destroyed after it; `ONE` last.
fn in_last_destructors(last: impl FnOnce() -> Box<dyn std::any::Any>, before: impl FnOnce() -> Box<dyn std::any::Any>) {
    ONE.with(|_| ());
    TWO.with(|_| ());
    let before = before();
    ONE.set(Some(last()));
    TWO.set(Some(before));
}

#[test]
fn runs_in_late_destructors_work_beside_a_tree() {
    for order in 0..3 {
        let (sender, answers) = mpsc::channel();
        let runs = move || -> Box<dyn std::any::Any> { Box::new(OnDrop(move || sender.send(run_late()).unwrap())) };
        let thread = thread::spawn(move || match order {
            0 => in_last_destructors(tree, runs),
            1 => in_last_destructors(runs, tree),
            _ => in_last_destructors(
                || {
                    let mut tree = Some(tree());
                    // The tree is dropped in the run.
                    Box::new(OnDrop(move || xiio::run(async { drop(tree.take()) })))
                },
                runs,
            ),
        });
        thread.join().unwrap();
        assert_eq!(answers.recv(), Ok(7));
    }
}
