//! A task's life: one heap block with a header, the future, then its output in the same place.
//!
//! ```text
//!              1           2              4              6
//!   (nothing) ───▶ queued ───▶ polling ─────▶ done ─────────▶ freed
//!                    ▲            │            ▲
//!                    └────────────┘            │
//!                      3 (woken)               │
//!                    queued ───▶ unwinding ────┘ 5
//!
//!  1 `TaskSet::insert`: the block is in the set's list, and in its ready queue
//!  2 `TaskSet::poll` pops it and polls its future under its own owner
//!  3 a waker puts it back; on the home thread that is a flag and a push, and the same one level up
//!  4 the future has ended and is dropped, `retire` takes the block out of the list; the output stays if a handle wants it
//!  5 `TaskSet::doom` or `Handle::cancel` moved it to the list of doomed, the next `TaskSet::poll` cancelled it
//!  6 the last of list, queue, handle and wakers is gone
//! ```
//!
//! Who may touch what: the future is polled and dropped by `TaskSet::poll` and `TaskSet::clear` only. A handle or a
//! waker never does: in a leaked set the futures' borrows are dead, and a task may cancel itself while it is polled.
//! Everything in the header but `shared` and `is_posted` belongs to the home thread, which the header names once and for
//! all (a home may have another thread later). Other threads count in `shared` and
//! post to the home's inbox; the last of them frees memory and runs no destructor.
//!
//! Tasks are polled only inside the poll of their set, so a set that is leaked is never polled again. That is the whole
//! argument for borrowing: there is no list of tasks anywhere but in the set itself.
#![allow(unsafe_code)]

mod block;
pub(crate) mod budget;
mod handle;
mod home;
pub(crate) mod limits;
mod links;
#[cfg(all(test, loom))]
mod models;
pub(crate) mod polls;
mod pool;
mod refs;
pub(crate) mod schedule;
mod set;
mod waker;

pub(crate) use handle::{Canceller as CancellerRef, Handle};
pub(crate) use home::Home;
pub(crate) use set::{
    Ended, Members, Polled, TaskSet, is_awaited_above, may_be_cancelled_next, note_cancelled, with_stats,
};
pub(crate) use waker::is_of_ended_task;
