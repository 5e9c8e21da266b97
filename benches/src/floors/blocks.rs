//! The floor of a task's life: one block of 64 bytes that is allocated, called and freed.

use std::hint::black_box;

use crate::clock::Stopwatch;
use crate::row::Case;
use crate::sample::Sample;

type Job = Box<dyn FnMut() -> u64>;

/// What a small task's block holds beside its vtable.
fn block(i: u64) -> Job {
    let mut payload = [i; 8];
    if i.is_multiple_of(2) {
        Box::new(move || {
            payload[0] += 1;
            payload[0]
        })
    } else {
        Box::new(move || {
            payload[0] += 2;
            payload[0]
        })
    }
}

/// Each block is freed before the next one is allocated.
pub fn one_by_one(case: &Case) -> Sample {
    let clock = Stopwatch::start();
    for _ in 0..case.rounds {
        for i in 0..case.n {
            black_box(block(black_box(i))());
        }
    }
    clock.per_operation(case.rounds * case.n)
}

/// All blocks of a round are alive together.
pub fn all_together(case: &Case) -> Sample {
    let mut jobs = Vec::with_capacity(case.n as usize);
    let mut one_round = || {
        jobs.extend((0..case.n).map(|i| block(black_box(i))));
        for mut job in jobs.drain(..) {
            black_box(job());
        }
    };
    one_round();
    let clock = Stopwatch::start();
    (0..case.rounds).for_each(|_| one_round());
    clock.per_operation(case.rounds * case.n)
}

/// Only the freeing of blocks that are alive together.
pub fn free(case: &Case) -> Sample {
    let jobs: Vec<Job> = (0..case.n).map(|i| block(black_box(i))).collect();
    let clock = Stopwatch::start();
    drop(black_box(jobs));
    clock.per_operation(case.n)
}
