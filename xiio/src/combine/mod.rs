//! Combinators: futures made of futures, each of which can be cancelled on its own and cleans up.
//!
//! `timeout`, `deadline`, `branch`, `shield` and `bracket` hold their future in place, `catch_panic` in a box; `gather`, `race`, `join`,
//! `as_completed` and `parallel_map` are groups underneath.

mod bracket;
mod caught;
mod completed;
mod cooperative;
mod gather;
mod in_place;
mod join;
mod limit;
mod parallel;
mod race;
mod shield;

pub use bracket::bracket;
pub(crate) use bracket::bracket_of;
pub use caught::catch_panic;
pub use completed::{AsCompleted, Completed, Outputs, as_completed};
pub use cooperative::cooperative;
pub use gather::{gather, try_gather};
pub use limit::{branch, deadline, timeout};
pub use parallel::{parallel_map, try_parallel_map};
pub use race::{race, race_ok};
pub use shield::{Shield, shield};

/// What the expansions of `join!`, `try_join!` and `race!` write.
pub(crate) mod __private {
    pub use super::join::{Join, TryJoin};
    pub use super::race::{Either, Racer, Racers, no_racer_left, race_all, racer};
}
