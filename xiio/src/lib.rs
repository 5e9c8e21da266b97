//! Structured concurrency for Rust: tasks that borrow from their parent, cancellation that cleans up with `await`, and
//! blocks that do not end before their tasks have.

extern crate self as xiio;

mod combine;
mod condition;
mod error;
mod flow;
mod group;
mod pin;
mod promise;
mod reactor;
mod report;
mod root;
mod runtime;
mod slab;
mod sys;
mod task;
mod time;
mod timer;
mod unwind;

pub mod fs;
pub mod inspect;
pub mod io;
pub mod signal;
pub mod testing;
pub mod thread;

#[doc(hidden)]
pub mod __private;

pub use combine::{
    AsCompleted, Completed, as_completed, bracket, branch, deadline, gather, race, shield, timeout, try_gather,
};
pub use condition::{Condition, Ready};
pub use error::{Cancelled, Elapsed};
pub use group::{CancelTask, Failure, GroupError, Outcome, Task, TaskGroup, TryTaskGroup};
pub use io::{read, readable, writable, write, write_all};
pub use promise::{Promise, WaitPromise};
pub use root::{Builder, run};
pub use thread::in_thread;
pub use time::{Interval, Sleep, YieldNow, interval, now, sleep, sleep_until, yield_now};
pub use xiio_macros::{main, task_group, test, try_task_group};
