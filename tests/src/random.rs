//! What random programs share.

use std::cell::Cell;
use std::pin::pin;
use std::task::{Context, Waker};

use xiio::{inspect, task_group, yield_now};

/// A number from the environment.
pub fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("`{name}` is a number")))
}

/// Numbers from a seed.
pub struct Draw(Cell<u64>);

impl Draw {
    pub fn new(seed: u64) -> Self {
        Self(Cell::new(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1))
    }

    /// A seed for something else.
    pub fn seed(&self) -> u64 {
        let mut x = self.0.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.set(x);
        x >> 33
    }

    pub fn below(&self, n: u64) -> u64 {
        self.seed() % n
    }

    pub fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Has the tree drawn when this poll is over, for nobody: no node waits for it.
pub fn draw_tree() {
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(pin!(inspect::tree()).poll(cx).is_pending());
    // Uses up the turn, so that whatever is ready now still stands in its queue then.
    let greedy = async {
        task_group!(|tg| {
            tg.spawn(async {
                loop {
                    yield_now().await;
                }
            });
        });
    };
    assert!(pin!(greedy).poll(cx).is_pending());
}
