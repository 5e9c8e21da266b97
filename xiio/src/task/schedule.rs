//! The order in which ready tasks are polled: first in first out, or drawn from a seed.

use std::cell::Cell;
use std::num::NonZeroU64;

thread_local! {
    /// The state of the generator while the schedule is drawn from a seed.
    static STATE: Cell<Option<NonZeroU64>> = const { Cell::new(None) };
}

/// Draws the order of everything that starts on this thread from now on from `seed`; `None` is first in first out.
pub(crate) fn set_seed(seed: Option<u64>) {
    // Xorshift never leaves zero, and near seeds must not give near orders.
    let spread = |seed: u64| {
        NonZeroU64::new(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15)).unwrap_or(NonZeroU64::MIN)
    };
    STATE.set(seed.map(spread));
}

/// Whether the order is drawn.
pub(super) fn is_seeded() -> bool {
    STATE.get().is_some()
}

/// A number below `n`, the next one of the seed. Zero without a seed.
///
/// # Source
/// Marsaglia, "Xorshift RNGs", 2003.
pub(super) fn draw(n: usize) -> usize {
    let Some(state) = STATE.get() else { return 0 };
    let mut x = state.get();
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    STATE.set(NonZeroU64::new(x));
    // The high bits are the better ones; the remainder's bias does not matter for a schedule.
    usize::try_from(x >> 33).unwrap_or(0) % n.max(1)
}
