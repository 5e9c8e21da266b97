//! Very many tasks, and groups nested very deep.

use std::cell::Cell;
use std::pin::Pin;
use std::thread;

use xiio::{sleep, task_group, yield_now};
use xiio_tests::{DropCount, LONG, millis, run};

#[test]
fn a_hundred_thousand_tasks_at_once_all_end() {
    const N_TASKS: usize = 100_000;
    let (n_ended, drops) = (Cell::new(0), DropCount::new());
    run(async {
        task_group!(|tg| {
            for _ in 0..N_TASKS {
                let (n_ended, flag) = (&n_ended, drops.flag());
                tg.spawn(async move {
                    flag.touch();
                    yield_now().await;
                    n_ended.set(n_ended.get() + 1);
                });
            }
        });
    });
    assert_eq!((n_ended.get(), drops.get()), (N_TASKS, N_TASKS));
}

/// The usual size of a thread's stack.
const ORDINARY_STACK: usize = 2 << 20;

/// So many groups inside each other are fine in a thread of ordinary stack size. Each level is polled from inside the one
/// above, so the stack bounds the depth: measured on x86-64 with the test below, about 1 000 levels in a debug build (2 kB
/// each) and about 5 000 in release (0.4 kB each). Here a level is a boxed `async` block with a group of one task. Far
/// below both, as builds with a sanitizer have larger frames.
const SAFE_DEPTH: usize = 100;

fn nest<'a>(depth: usize, n_reached: &'a Cell<usize>, drops: &'a DropCount) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
    Box::pin(async move {
        let _flag = drops.flag();
        n_reached.set(n_reached.get() + 1);
        if depth == 0 {
            sleep(LONG).await;
            return;
        }
        task_group!(|tg| {
            tg.spawn(nest(depth - 1, n_reached, drops));
        });
        unreachable!("cancelled code does not run on");
    })
}

/// Nests groups, waits until the innermost sleeps, and cancels the outermost.
fn nest_and_cancel(depth: usize) {
    let (n_reached, drops) = (Cell::new(0), DropCount::new());
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(nest(depth, &n_reached, &drops));
            while n_reached.get() <= depth {
                sleep(millis(1)).await;
            }
            assert!(task.cancel().await.is_none());
        });
    });
    assert_eq!(drops.get(), depth + 1);
}

#[test]
fn groups_nested_to_a_safe_depth_are_cancelled_in_an_ordinary_stack() {
    let thread = thread::Builder::new().stack_size(ORDINARY_STACK).spawn(|| nest_and_cancel(SAFE_DEPTH)).unwrap();
    thread.join().unwrap();
}

/// Not a check but a measurement: `XIIO_DEPTH=n cargo test --test many_tasks measure -- --ignored`. It overflows its stack
/// where the limit is.
#[test]
#[ignore = "measures how deep groups may be nested"]
fn measure_how_deep_groups_may_be_nested() {
    let depth = std::env::var("XIIO_DEPTH").map_or(SAFE_DEPTH, |depth| depth.parse().unwrap());
    let thread = thread::Builder::new().stack_size(ORDINARY_STACK).spawn(move || nest_and_cancel(depth)).unwrap();
    thread.join().unwrap();
}
