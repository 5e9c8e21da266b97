//! Blocking work on threads, awaited from tasks.
//!
//! ```text
//!                 1              2              3               4
//!   in_thread(f) ───▶ queued ───────▶ running ─────▶ finished ─────▶ value handed over
//!                        │               │
//!                        │ 5             │ 6 (asked to stop, and waited for)
//!                        ▼               ▼
//!                    f dropped       finished ──▶ value dropped
//!
//!  1 the first poll of `InThread`, `Pool::push`     4 the next poll of `InThread`
//!  2 `Crew::next` gives it to a worker              5, 6 the task is cancelled: `Job::cancel`
//!  3 `Job::work`, then `Job::publish` wakes the task
//! ```
//!
//! # Why `f` cannot borrow
//!
//! A future can be leaked, or foreign code can drop it half-way, and its thread runs on. What `f` borrowed would be gone
//! then. So `f` is `'static`: move what it needs in, share with an `Arc`, and give it back with the result.
//! [`std::thread::scope`] may borrow because it blocks until its threads have ended; inside `f` it is the tool for that.
//!
//! # Implementation
//!
//! One lock for the queue of a pool, one for each job, one allocation for each job. An idle worker parks on its own, and the one
//! that was idle last is woken first, so that the others can end. A worker that has been woken takes one job after the other. The
//! next worker is woken only when that one has taken a job and there are more. Even then the woken one keeps watching as long as
//! the queue moves fast enough (see `crew`). The runtime's thread is notified only if it sleeps, and once.

mod crew;
mod future;
mod job;
#[cfg(all(test, loom))]
mod models;
mod pool;

pub(crate) use future::{About, Awaited};
pub use future::{InThread, in_thread};
pub(crate) use pool::Standing;
pub use pool::{ThreadPool, is_cancelled};
