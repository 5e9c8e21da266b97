//! A thread ends and leaves its home to the next one, while tasks of it are still around.
//!
//! One test: another one's threads would move into the home in between.

use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use xiio::{sleep, task_group};
use xiio_tests::poll::{self, OnDrop};

type Boxed = Pin<Box<dyn Future<Output = ()>>>;

thread_local! {
    static LAST: RefCell<Option<Box<dyn std::any::Any>>> = const { RefCell::new(None) };
}

/// A group that is kept in a thread-local outlives the home of its thread's tasks. The next thread must not wake, and so
/// touch, what the old one is about to drop.
#[test]
fn a_thread_touches_no_task_of_the_thread_before() {
    struct Told(Mutex<Option<thread::ThreadId>>);
    impl std::task::Wake for Told {
        fn wake(self: Arc<Self>) {
            *self.0.lock().unwrap() = Some(thread::current().id());
        }
    }

    let told = Arc::new(Told(Mutex::default()));
    let (in_destructor, may_end) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (send_waker, wakers) = mpsc::channel::<Waker>();
    let old = {
        let (told, in_destructor, may_end) = (Arc::clone(&told), Arc::clone(&in_destructor), Arc::clone(&may_end));
        thread::spawn(move || {
            // Registered before anything of the runtime, and so destroyed after it.
            LAST.with(|_| ());
            let group: Boxed = Box::pin(async move {
                task_group!(|tg| {
                    tg.spawn(poll_fn(move |cx| {
                        let _ = send_waker.send(cx.waker().clone());
                        Poll::<()>::Pending
                    }));
                    pending::<()>().await;
                });
            });
            let wait = OnDrop(move || {
                in_destructor.wait();
                may_end.wait();
            });
            xiio::run(async {
                let mut group = group;
                assert!(poll::with(&told, group.as_mut()).is_pending());
                // Dropped in this order.
                LAST.set(Some(Box::new((wait, group))));
            });
        })
    };
    in_destructor.wait();
    let waker = wakers.recv().unwrap();
    let new = thread::spawn(move || {
        xiio::run(async {
            let id = thread::current().id();
            let other = waker.clone();
            thread::spawn(move || other.wake_by_ref()).join().unwrap();
            waker.wake();
            sleep(Duration::from_millis(20)).await;
            id
        })
    })
    .join()
    .unwrap();
    assert_ne!(*told.0.lock().unwrap(), Some(new), "a task of a thread that still lives was touched by another");
    may_end.wait();
    old.join().unwrap();
}
