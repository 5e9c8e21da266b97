//! The floor of switching and of nesting: boxed futures that are polled in turn, or through each other.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::clock::Stopwatch;
use crate::row::Case;
use crate::sample::Sample;
use crate::work::{Leaf, yield_once};

/// `n` boxed futures polled in turn.
pub fn in_turn(case: &Case) -> Sample {
    async fn forever() {
        loop {
            yield_once().await;
        }
    }
    let mut tasks: Vec<Pin<Box<dyn Future<Output = ()>>>> = (0..case.n).map(|_| Box::pin(forever()) as _).collect();
    let mut cx = Context::from_waker(Waker::noop());
    let clock = Stopwatch::start();
    for _ in 0..case.rounds {
        for task in &mut tasks {
            assert!(task.as_mut().poll(&mut cx).is_pending());
        }
    }
    clock.per_operation(case.n * case.rounds)
}

/// A leaf woken and polled through `m` boxed async functions, each awaiting the next.
pub fn nested(case: &Case) -> Sample {
    fn nest(depth: u64, leaf: Leaf) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async move {
            if depth == 1 {
                leaf.await;
            } else {
                nest(depth - 1, leaf).await;
            }
        })
    }
    let leaf = Leaf::default();
    let mut outermost = nest(case.m, leaf.clone());
    let mut cx = Context::from_waker(Waker::noop());
    let clock = Stopwatch::start();
    for _ in 0..case.rounds {
        leaf.wake();
        assert_eq!(outermost.as_mut().poll(&mut cx), Poll::Pending);
    }
    clock.per_operation(case.rounds)
}
