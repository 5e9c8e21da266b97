//! Models of a promise that is set on one thread and awaited on another.

use std::future::poll_fn;

use loom::thread;

use super::Promise;
use crate::sync::block_on;

#[test]
fn setting_wakes_whoever_waits_or_begins_to() {
    loom::model(|| {
        let promise = Promise::new();
        let setter = promise.clone();
        thread::spawn(move || setter.set(1).unwrap());
        let mut set = promise.wait_set();
        block_on(poll_fn(|cx| set.poll_set(cx)));
        assert_eq!(promise.get(), Some(&1));
    });
}

#[test]
fn one_of_two_setters_wins_and_both_see_its_value() {
    loom::model(|| {
        let promise = Promise::new();
        let setters = [1, 2].map(|number| {
            let promise = promise.clone();
            thread::spawn(move || {
                let is_mine = promise.set(number).is_ok();
                (is_mine, *promise.get().unwrap())
            })
        });
        let mut set = promise.wait_set();
        block_on(poll_fn(|cx| set.poll_set(cx)));
        let value = *promise.get().unwrap();
        let [first, second] = setters.map(|setter| setter.join().unwrap());
        assert_eq!([first, second], [(value == 1, value), (value == 2, value)]);
    });
}

#[test]
fn wait_may_end_while_the_promise_is_being_set() {
    loom::model(|| {
        let promise = Promise::new();
        let setter = promise.clone();
        let setter = thread::spawn(move || setter.set(1).unwrap());
        let mut left = promise.wait_set();
        let mut stays = promise.wait_set();
        let _ = block_on(poll_fn(|cx| std::task::Poll::Ready(left.poll_set(cx))));
        drop(left);
        block_on(poll_fn(|cx| stays.poll_set(cx)));
        setter.join().unwrap();
    });
}
