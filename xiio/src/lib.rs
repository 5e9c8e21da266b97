//! Structured concurrency for Rust: tasks that borrow from their parent, blocks that do not end before their tasks
//! have, and cancellation that still gets to clean up, with `await`.
//!
//! ```
//! use std::time::Duration;
//! use xiio::{sleep, try_task_group};
//!
//! #[xiio::main]
//! async fn main() -> Result<(), std::num::ParseIntError> {
//!     let texts = vec!["1".to_string(), "2".to_string()];
//!     let sum = try_task_group!(|tg| {
//!         // Tasks borrow; the first error cancels the others.
//!         let numbers = texts.iter().map(|text| tg.spawn(async {
//!             sleep(Duration::from_millis(1)).await;
//!             text.parse::<i32>()
//!         }));
//!         let mut sum = 0;
//!         for number in numbers.collect::<Vec<_>>() {
//!             sum += number.await;
//!         }
//!         sum
//!     })?;
//!     // Here all tasks have ended, whatever happened.
//!     assert_eq!(sum, 3);
//!     Ok(())
//! }
//! ```
//!
//! # What to take
//!
//! | for | take |
//! |---|---|
//! | a program, a test | [`main`], [`test`](macro@test), or [`run`] |
//! | things side by side | [`task_group!`], [`try_task_group!`] |
//! | all, the first, each as it comes | [`gather`], [`try_gather`], [`race`](race()), [`race_ok`], [`as_completed`], [`Outputs`]; of different types [`join!`], [`try_join!`], [`race!`] |
//! | several processor cores | the option `workers`, [`parallel_map`], [`try_parallel_map`]; where home must not wait, [`run_in_thread`] |
//! | a limit of time | [`timeout`], [`deadline`], the options `timeout` and `deadline` |
//! | cleanup that awaits | [`bracket`], [`shield`], [`TaskGroup::defer`] |
//! | time | [`sleep`], [`sleep_until`], [`interval`], [`yield_now`] |
//! | descriptors | [`readable`], [`writable`], [`read`], [`write()`], [`write_all`], [`Condition`] |
//! | sockets | [`net`] |
//! | children, signals | [`run_process`], [`process::Command`]; [`signal::subscribe`] |
//! | a value from elsewhere | [`Promise`]; a task from elsewhere: [`TaskGroup::remote`] |
//! | a panic that is not everybody's | [`catch_panic`] |
//! | blocking work, files | [`in_thread`], [`thread::ThreadPool`]; [`fs`] |
//! | channels, locks, streams | those of other crates, such as `async-channel`, `async-lock` and `futures`; [`cooperative`] in a loop over them; what has `next` is a `Stream` (feature `futures-core`) |
//! | bytes in memory, between two tasks | [`io::duplex`] |
//! | to live inside a foreign loop | [`compat`] |
//! | a value that goes with a task and its children | [`local!`] |
//! | to see what goes on | [`inspect`] |
//! | to test with virtual time | [`testing`] |
//!
#![cfg_attr(all(doc, not(doctest)), doc = "The [guide] leads through all of it.")]
//!
//! # The laws of a group
//!
//! 1. When the block has its value, every task has ended, and what the tasks borrowed is free
//!    again.
//! 2. Tasks do not start inside `spawn`; they start when the parent next awaits.
//! 3. The first failure wins: an `Err`, a panic, a `?` in the body, the time limit, a cancelled parent. All others are
//!    cancelled, and the block waits until they have cleaned up.
//! 4. Later failures are not lost: `all_errors` keeps them; otherwise they are reported ([`inspect::listen`], or
//!    standard error without a listener).
//! 5. Finished tasks are freed at once; a group that runs for a year does not grow.
//! 6. Tasks may be added at any time before the block has its value, even after a cancellation. Only
//!    [`remote`](TaskGroup::remote) refuses then what other threads hand in.
//! 7. A task that is woken is polled, whatever the body or a sibling waits for.
//! 8. No task starves: a task that is always ready gives way after a bounded number of polls and awaits. Futures of
//!    other crates count where [`cooperative`] wraps them; nothing interrupts a computation.
//! 9. A panic anywhere in the group, even in a cleanup, is the group's panic, with its payload. It is thrown when all
//!    tasks have ended, in place of any other failure. A second panic is reported, and so is one of a cancelled
//!    [`catch_panic`], or of a tree that a signal of `cancel_on` has cancelled.
//!
//! They hold on the workers of a group as well (the option `workers`), with these differences. A worker may begin a task at
//! once. Cancelled code on another thread runs on to its next await of one of xiio's futures. A worker's task is polled only while its group is (see
//! [`task_group!`]), and whoever drops the group waits for the polls that its workers are in. The option `limit` holds twice: once for
//! the tasks at home, and once for those on all workers together. The limits of time that hold at home are not known on a worker: what no
//! worker has begun when the time is over does not begin, and of equal limits the inner one may elapse first. `all_errors` waits only for
//! the failures of tasks that are ready at home.
//!
//! # The laws of cancellation
//!
//! What is around a future cancels it: its group, a limit of time, a race. So does
//! [`Task::cancel`].
//!
//! 1. **Cancelled code does not run on.** After its cancellation only its destructors and cleanup run.
//! 2. Cleanup runs to its end, and may await. The innermost runs first; independent cleanups run
//!    side by side. An `Err` that it ends with, and that nobody is given, is reported.
//! 3. Whoever cancelled waits for it: the group, `timeout`, `race`, `task.cancel().await`, `run`.
//! 4. `grace` bounds the cleanup; what is cut off then is reported.
//! 5. What has nothing to clean up is dropped at once.
//! 6. Of nested limits the nearer wins, of equal ones the outer. Each `Elapsed` belongs to the limit that set it. A future
//!    whose limit is over at the start is still polled once.
//! 7. A future that foreign code drops gets what Rust gives: destructors, and no cleanup that awaits. The lost cleanup is
//!    reported.
//!
//! Where the documentation of a function has a section *Cancellation*, that section says what is lost or left
//! behind when the function stops half-way.
//!
//! Where foreign code would drop futures (the losers of `futures::select!`), use [`race!`]; inside of foreign combinators,
//! use [`branch`].
//!
//! # Borrowing
//!
//! Tasks may borrow what was declared before the block. They may not borrow what its body declares, as that ends
//! before they do:
//!
//! ```
//! # xiio::run(async {
//! let outside = String::from("declared before the block");
//! xiio::task_group!(|tg| {
//!     tg.spawn(async { assert_eq!(outside.len(), 25) });
//! });
//! # });
//! ```
//!
//! ```compile_fail,E0373
//! # xiio::run(async {
//! xiio::task_group!(|tg| {
//!     let inside = String::from("declared in the body");
//!     tg.spawn(async { assert_eq!(inside.len(), 20) });
//! });
//! # });
//! ```
//!
//! # Features
//!
//! | feature (none is on by default) | brings |
//! |---|---|
//! | `async-io` | `compat::on_async_io`: a tree inside a loop that drives `async-io` |
//! | `futures-core` | `Stream` for `Incoming`, `Lines`, `Split`, `Interval`, `Signals`, `Completed` and `&Outputs` |
//! | `futures-io` | the traits of the crate `futures-io` for `io::Async`, `io::DuplexStream`, the streams of `net`, their halves, and the pipes to children; `compat::FuturesIo` for the way back |
//! | `hyper` | `compat::HyperStream`, `HyperTimer`, `GroupExecutor`, `RequestTasks`, `Local`: hyper over the streams, the clock and the groups |
//! | `hyper-util` | the client of `hyper-util`, which keeps connections in a pool, over `compat::Local` and `tg.remote()` |
//! | `tokio` | `compat::on_tokio`: a tree inside a tokio runtime; `compat::with_tokio`: tokio's libraries inside a tree |
//! | `tracing` | spans that follow tasks across `spawn`, for `tokio-console` as well; every report of `inspect` is an event, instead of a line on standard error |
//!
//! The macros find xiio under any name that a crate gives it, also where another crate re-exports it.
//! Only `#[xiio::main]` and `#[xiio::test]` have to be told the name:
//! `#[that_name::main(crate = that_name)]`.
//!
//! # Implementation
//!
//! **Threads.** [`run`] uses the thread it is called on, and by itself starts none. The whole tree of tasks runs there. So
//! tasks need not be `Send`, and a task that computes or blocks holds up all others. A [`Waker`](std::task::Waker) and a
//! [`Promise`] may go to any thread. Other threads are started only by:
//!
//! - the workers of a group;
//! - [`run_in_thread`], [`in_thread`], [`thread::ThreadPool`] and what is built on them ([`fs`], the names of hosts in
//!   [`net`]);
//! - `compat::with_tokio`;
//! - a child process that was dropped while it ran;
//! - a signal of `cancel_on` that ends the process, for a second at most;
//! - showing the tree: `XIIO_INSPECT=1`, [`Builder::inspect`], [`Builder::tree_on`].
//!
//! **Memory.** A task is one block of memory, and so is the body of a group. The group itself is a local of the function
//! around it. In a release build blocks of up to 512 bytes come from a pool of the thread. Awaiting a handle allocates,
//! and so does the first task of a `try_task_group!`. Wakes on the thread of the task use no atomic instruction and
//! allocate nothing.
//!
//! **System calls.** A turn of the loop costs one `epoll_wait` (or `epoll_pwait2`) on Linux. Timers cost none: they sit
//! in a wheel with ticks of a millisecond, so a timer fires up to a millisecond late, and never early.
//!
//! **Limits.** A leaf (sleep, read, promise, …) that is always ready gives way after 128 times in one poll of its task,
//! and so does a group or combinator that begins. Both give way earlier where the turn has taken a millisecond, or a limit
//! of time around has run out. The loop looks at its timers and descriptors after 256 polls of tasks, and after 8 or 64
//! where those have taken a millisecond. Groups nest as deep as the stack allows, since each is polled inside the one
//! around it. On a stack of 2 MiB that is about 5 000 levels in a release build and 1 000 in a debug build
//! (`tests/tests/many_tasks.rs`). Only Linux is tested. Android, FreeBSD and macOS compile; Windows does not.

// On docs.rs each item says which feature brings it.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(not(target_os = "linux"), allow(dead_code, unused_imports, reason = "`process` alone uses some of it"))]

mod combine;
mod condition;
mod cores;
mod drawing;
mod error;
mod flow;
mod foreign;
mod group;
mod local;
mod pin;
mod promise;
mod reactor;
mod recording;
mod report;
mod root;
mod runtime;
mod slab;
mod sync;
mod sys;
mod task;
mod time;
mod timer;
mod unwind;

pub mod compat;
pub mod fs;
pub mod inspect;
pub mod io;
pub mod net;
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "macos"))]
pub mod process;
pub mod signal;
pub mod testing;
pub mod thread;

#[cfg(all(doc, not(doctest)))]
pub mod guide;

#[doc(hidden)]
pub mod __private;

pub use combine::{
    AsCompleted, Completed, Outputs, Shield, as_completed, bracket, branch, catch_panic, cooperative, deadline, gather,
    parallel_map, race, race_ok, shield, timeout, try_gather, try_parallel_map,
};
pub use condition::{Condition, Ready};
pub use error::{Cancelled, Elapsed, GroupEnded, Panic};
pub use group::{
    CancelOnDrop, CancelTask, CancelWorkerTask, Canceller, Failure, GroupError, Outcome, OutcomeOrCancel, Remote, Task,
    TaskGroup, TryTaskGroup, TryWorkers, WorkerOutcome, WorkerTask, Workers,
};
pub use io::{read, readable, writable, write, write_all};
pub use local::{AccessError, LocalKey, LocalScope};
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "macos"))]
pub use process::run_process;
pub use promise::{Promise, WaitPromise};
pub use root::{Builder, RunInThread, run, run_in_thread};
pub use thread::in_thread;
pub use time::{Interval, MissedTicks, Sleep, YieldNow, interval, interval_at, now, sleep, sleep_until, yield_now};
pub use xiio_macros::{main, test};
