//! Task groups: the surrounding task and those it spawns, ended together.
//!
//! A group is installed by `task_group!` or `try_task_group!`, whose body is its first member. The end of a group:
//!
//! ```text
//!   body done ──▶ tasks done ──────────────────────────▶ deferred done ──▶ value handed over
//!        │             │                                      ▲
//!        └── 1, 2 ─────┴── 1 ──▶ members cancelled ──▶ all unwound
//!
//!  1 the first failure: an error, a panic, the time limit, the parent's own cancellation
//!  2 `?` in the body
//! ```
//!
//! The group's state is a local of the surrounding `async fn`: a [`TaskGroup`] inside a `ManuallyDrop`, handed out as
//! `&'a TaskGroup<'a>`, and a guard whose `Drop` empties it. `ManuallyDrop` keeps the drop check from forbidding
//! that self-reference, and the guard does what the destructor would have done.

mod crew;
mod fallible;
mod guard;
mod lend;
mod macros;
mod options;
mod plain;
mod remote;
mod slot;
mod state;
mod task;
mod workers;

pub use fallible::new_try_group;
pub use guard::{Guard, Leave, TryGuard, report_exit};
pub use lend::lend;
pub use options::GroupOptions;
pub use plain::new_group;

pub use fallible::{Failure, GroupError, TryTaskGroup};
pub use plain::TaskGroup;
pub use remote::Remote;
pub use slot::{CancelWorkerTask, WorkerOutcome, WorkerTask};
pub use task::{CancelOnDrop, CancelTask, Canceller, Outcome, OutcomeOrCancel, Task};
pub use workers::{TryWorkers, Workers};
