//! Combinators: futures made of futures, each of which can be cancelled on its own and cleans up.
//!
//! `timeout`, `deadline`, `branch`, `shield`, `bracket` and `catch_panic` hold their future in place; `gather`, `race`, `join` and
//! `as_completed` are groups underneath.

mod bracket;
mod caught;
mod completed;
mod gather;
mod join;
mod limit;
mod race;
mod shield;

pub use bracket::bracket;
pub use caught::catch_panic;
pub use completed::{AsCompleted, Completed, as_completed};
pub use gather::{gather, try_gather};
pub use limit::{branch, deadline, timeout};
pub use race::race;
pub use shield::shield;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::unwind::{Node, Owner};

/// Polls a future to its end while the scope around unwinds; the node stays pending in any case. Gives the value if the
/// future came to one.
fn poll_cleanup<F: Future>(node: &mut Node, owner: &mut Owner, slot: Pin<&mut Option<F>>, cx: &mut Context<'_>) {
    match catch_unwind(AssertUnwindSafe(|| owner.poll_slot(slot, cx).map(drop))) {
        Ok(Poll::Pending) => node.hold(cx, true),
        Ok(Poll::Ready(())) => node.finish(),
        Err(payload) => node.finish_with_panic(payload),
    }
}

/// What the expansions of `join!`, `try_join!` and `race!` write.
pub(crate) mod __private {
    pub use super::join::{Join, TryJoin};
    pub use super::race::{Either, Racer, Racers, no_racer_left, race_all, racer};
}
