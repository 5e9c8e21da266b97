//! A thread ends and leaves its home to the next one, before a tree in a foreign loop is dropped.
//!
//! One test: another one's threads would move into the home in between.

use std::cell::RefCell;
use std::future::pending;
use std::sync::{Arc, Barrier, mpsc};
use std::task::{Context, Waker};
use std::thread;

use xiio::Promise;
use xiio::compat::Embed;
use xiio_tests::poll::OnDrop;

thread_local! {
    static LAST: RefCell<Option<Box<dyn std::any::Any>>> = const { RefCell::new(None) };
}

/// The tree must not close what the next thread has opened: it would hear of no wake any more.
#[test]
fn a_tree_that_is_dropped_late_takes_nothing_from_the_next_thread() {
    let (in_destructor, may_end) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let old = {
        let (in_destructor, may_end) = (Arc::clone(&in_destructor), Arc::clone(&may_end));
        thread::spawn(move || {
            // Registered before anything of the runtime, and so destroyed after it.
            LAST.with(|_| ());
            let mut tree = Embed::new(pending::<()>()).unwrap();
            assert!(tree.turn(&mut Context::from_waker(Waker::noop())).is_pending());
            let wait = OnDrop(move || {
                in_destructor.wait();
                may_end.wait();
            });
            // Dropped in this order.
            LAST.set(Some(Box::new((wait, tree))));
        })
    };
    in_destructor.wait();
    let (send_promise, promises) = mpsc::channel();
    let new = thread::spawn(move || {
        xiio::run(async {
            let promise = Promise::new();
            send_promise.send(promise.clone()).unwrap();
            promise.wait().await
        })
    });
    let promise = promises.recv().unwrap();
    may_end.wait();
    old.join().unwrap();
    promise.set(7).unwrap();
    assert_eq!(new.join().unwrap(), 7);
}
