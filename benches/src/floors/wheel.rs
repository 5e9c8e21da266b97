//! A bare hierarchical timing wheel: what a timer costs without keys that outlive it, wakers to compare, or a runtime.

use std::hint::black_box;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::clock::Stopwatch;
use crate::row::Case;
use crate::sample::Sample;

const LEVELS: usize = 6;
const NONE: u32 = u32::MAX;

struct Node {
    tick: u64,
    waker: Option<Waker>,
    previous: u32,
    next: u32,
    slot: u32,
}

struct Wheel {
    origin: Instant,
    now: u64,
    heads: [u32; LEVELS * 64],
    nodes: Vec<Node>,
    free: Vec<u32>,
}

impl Wheel {
    fn new(capacity: u64) -> Self {
        Wheel {
            origin: Instant::now(),
            now: 0,
            heads: [NONE; LEVELS * 64],
            nodes: Vec::with_capacity(capacity as usize),
            free: Vec::with_capacity(capacity as usize),
        }
    }

    fn insert(&mut self, deadline: Instant) -> u32 {
        let after = deadline.duration_since(self.origin);
        let node = Node {
            tick: after.as_millis() as u64 + 1,
            waker: Some(Waker::noop().clone()),
            previous: NONE,
            next: NONE,
            slot: 0,
        };
        let index = match self.free.pop() {
            Some(index) => {
                self.nodes[index as usize] = node;
                index
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() as u32 - 1
            }
        };
        self.link(index);
        index
    }

    fn link(&mut self, index: u32) {
        let tick = self.nodes[index as usize].tick;
        let level = (63 - ((tick ^ self.now) | 1).leading_zeros()) / 6;
        let slot = level * 64 + (tick >> (level * 6)) as u32 % 64;
        let head = std::mem::replace(&mut self.heads[slot as usize], index);
        if head != NONE {
            self.nodes[head as usize].previous = index;
        }
        let node = &mut self.nodes[index as usize];
        (node.previous, node.next, node.slot) = (NONE, head, slot);
    }

    fn remove(&mut self, index: u32) {
        let node = &mut self.nodes[index as usize];
        let (previous, next, slot) = (node.previous, node.next, node.slot);
        node.waker = None;
        if previous == NONE {
            self.heads[slot as usize] = next;
        } else {
            self.nodes[previous as usize].next = next;
        }
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        self.free.push(index);
    }

    /// Goes on by one tick and returns the number of timers that were due.
    fn tick(&mut self) -> u64 {
        self.now += 1;
        for level in (1..LEVELS).rev() {
            if self.now.is_multiple_of(1 << (6 * level)) {
                let slot = level * 64 + (self.now >> (6 * level)) as usize % 64;
                let mut index = std::mem::replace(&mut self.heads[slot], NONE);
                while index != NONE {
                    let next = self.nodes[index as usize].next;
                    self.link(index);
                    index = next;
                }
            }
        }
        let mut n_fired = 0;
        let mut index = self.heads[self.now as usize % 64];
        while index != NONE {
            let next = self.nodes[index as usize].next;
            if let Some(waker) = self.nodes[index as usize].waker.take() {
                waker.wake();
            }
            self.remove(index);
            n_fired += 1;
            index = next;
        }
        n_fired
    }
}

/// Made and removed, one after the other, a look at the clock each.
pub fn one_by_one(case: &Case) -> Sample {
    let mut wheel = Wheel::new(1);
    let clock = Stopwatch::start();
    for i in 0..case.rounds * case.n {
        let index = wheel.insert(Instant::now() + Duration::from_millis(60_000 + i % 1000));
        wheel.remove(black_box(index));
    }
    clock.per_operation(case.rounds * case.n)
}

/// All made, then all removed.
pub fn all_together(case: &Case) -> Sample {
    let mut wheel = Wheel::new(case.n);
    let mut indices = Vec::with_capacity(case.n as usize);
    let clock = Stopwatch::start();
    for _ in 0..case.rounds {
        indices.extend((0..case.n).map(|i| {
            let deadline = Instant::now() + Duration::from_millis(60_000 + i % 1000);
            wheel.insert(deadline)
        }));
        for index in indices.drain(..) {
            wheel.remove(index);
        }
    }
    clock.per_operation(case.rounds * case.n)
}

/// All come true, spread over a second; the process sleeps from tick to tick.
pub fn fire(case: &Case) -> Sample {
    let mut wheel = Wheel::new(case.n);
    let clock = Stopwatch::start();
    for i in 0..case.n {
        wheel.insert(Instant::now() + Duration::from_millis(1 + i % 1000));
    }
    let mut n_left = case.n;
    while n_left > 0 {
        let due = wheel.origin + Duration::from_millis(wheel.now + 1);
        let wait = due.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            std::thread::sleep(wait);
        }
        n_left -= wheel.tick();
    }
    clock.per_operation(case.n)
}
