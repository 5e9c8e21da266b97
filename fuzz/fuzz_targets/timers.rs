//! The timer wheel beside a sorted map: the same wakers fire at the same instants in the same order.
#![no_main]
#![allow(dead_code)]

#[path = "../../xiio/src/slab.rs"]
mod slab;
#[path = "../../xiio/src/timer.rs"]
mod timer;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use timer::{TimerKey, Timers};

/// Writes its number down when it is woken.
struct Number(u32, Arc<Mutex<Vec<u32>>>);

impl Wake for Number {
    fn wake(self: Arc<Self>) {
        self.1.lock().expect("no waker panics").push(self.0);
    }
}

struct Bench {
    timers: Timers,
    origin: Instant,
    now: Duration,
    /// Millisecond of the deadline, rounded up, and number: the order of firing.
    model: BTreeMap<(u128, u32), TimerKey>,
    n_timers: u32,
    woken: Arc<Mutex<Vec<u32>>>,
}

impl Bench {
    fn new() -> Self {
        let origin = Instant::now();
        Self {
            timers: Timers::new(origin),
            origin,
            now: Duration::ZERO,
            model: BTreeMap::new(),
            n_timers: 0,
            woken: Arc::default(),
        }
    }

    fn insert(&mut self, after: Duration) {
        let waker = Waker::from(Arc::new(Number(self.n_timers, Arc::clone(&self.woken))));
        let deadline = self.now + after;
        let key = self.timers.insert(self.origin + deadline, waker);
        let tick = deadline.as_nanos().div_ceil(1_000_000);
        assert!(self.model.insert((tick, self.n_timers), key).is_none());
        self.n_timers += 1;
    }

    fn remove(&mut self, which: usize) {
        let Some((&place, &key)) = self.model.iter().nth(which % self.model.len().max(1)) else { return };
        self.model.remove(&place);
        assert!(self.timers.remove(key).is_some());
        assert!(self.timers.remove(key).is_none(), "a key names no timer twice");
    }

    fn advance(&mut self, by: Duration) {
        self.now += by;
        let mut fired = Vec::new();
        self.timers.advance(self.origin + self.now, &mut fired);
        fired.into_iter().for_each(Waker::wake);
        let later = self.model.split_off(&(self.now.as_millis() + 1, 0));
        let due = std::mem::replace(&mut self.model, later);
        let expected: Vec<u32> = due.keys().map(|&(_, number)| number).collect();
        assert_eq!(std::mem::take(&mut *self.woken.lock().expect("no waker panics")), expected);
        assert!(due.values().all(|&key| self.timers.remove(key).is_none()), "what has fired is gone");
    }

    fn check(&self) {
        assert_eq!(self.timers.len(), self.model.len());
        let next = self.timers.next_deadline().map(|at| at.saturating_duration_since(self.origin).as_millis());
        let first = self.model.keys().next().map(|&(tick, _)| tick);
        assert_eq!(next.is_some(), first.is_some());
        assert!(next <= first, "it may ask to be called too early, never too late");
    }
}

/// From nanoseconds to centuries.
fn duration(exponent: u8, mantissa: u8) -> Duration {
    Duration::from_nanos(u64::from(mantissa) << (exponent % 54))
}

fuzz_target!(|data: &[u8]| {
    let mut bench = Bench::new();
    for step in data.chunks_exact(3).take(400) {
        match step[0] % 8 {
            0..4 => bench.insert(duration(step[1], step[2])),
            4 => bench.remove(usize::from(step[1])),
            5 => bench.timers.next_deadline().into_iter().for_each(|at| {
                let by = at.saturating_duration_since(bench.origin + bench.now);
                bench.advance(by);
            }),
            _ => bench.advance(duration(step[1], step[2])),
        }
        bench.check();
    }
    assert_eq!(bench.timers.clear().len(), bench.model.len());
});
