//! Child processes: `std::process`, awaited, and with an end that is certain.
//!
//! - [`run_process`]: one call that runs a command, feeds it and gives what it wrote.
//! - [`Command`]: the builder of `std::process`, with the same methods.
//! - [`Child`]: a process that runs, with pipes to it.
//!
//! ```
//! use xiio::process::run_process;
//!
//! # xiio::run(async {
//! let sorted = run_process("sort").input("pear\napple\n").capture_output(true).check(true).await?;
//! assert_eq!(sorted.stdout, b"apple\npear\n");
//! # Ok::<(), xiio::process::ProcessError>(()) }).unwrap();
//! ```
//!
//! # A child is part of the tree
//!
//! No child outlives who waits for it. [`run_process`], [`Command::status`], [`Command::output`], [`Command::scope`] and
//! [`Child::wait`] clean up when they are cancelled, and who cancels waits for that:
//!
//! ```text
//!               1                   2                      3              4
//!   cancelled ────▶ asked to stop ────▶ leader has ended ────▶ all ended ────▶ reaped
//!                        │                    │                    ▲
//!                        └──── 5 ─────────────┴──────▶ killed ─────┘
//!
//!  1 SIGTERM (`Command::stop_signal`) and SIGCONT to the whole group     4 `Running::reap`
//!  2, 3 waited for as long as the grace lasts                            5 the grace (`Command::grace`) is over: SIGKILL
//! ```
//!
//! A child leads a process group of its own, and the group is what is signalled: its own children end with it. A child that
//! has left the group is signalled besides. A group of its own is not in the foreground of the terminal, and who reads the
//! terminal from the background is stopped by the kernel. So a child whose stdin is the terminal (inherited, or handed over) shares the group of this process instead; then it
//! alone is signalled, and Ctrl-C on the terminal reaches it directly. [`Command::own_group`] decides otherwise.
//!
//! A child that ends by itself is reaped when it is waited for, and what it has left behind in the background goes on, as in
//! `std`. Until it is reaped its group can be stopped: a cancellation that comes before (while something in the background
//! keeps a captured stream open, say) ends what was left behind, too.
//!
//! What may not be signalled, as it runs as another user (under `sudo`, say), is given up a second after the grace, and lives
//! on.
//!
//! A [`Child`] that is dropped (by foreign code, by a cancellation while something else is awaited, by a panic) is killed at
//! once with its group, without a grace, and is reaped without blocking.
//!
//! # Implementation
//!
//! The child's pidfd in the reactor tells of its end; there is no handler for `SIGCHLD`, and other code may have one. It must
//! not ignore that signal, though, as the kernel then reaps children by itself: waiting for one is an error that says so.
//! Starting a child is `std`'s: it blocks until the program is loaded. A child takes one descriptor, and one for each pipe.
//! Only a child that was dropped while it ran is waited for by a thread, which is there for the few milliseconds until the
//! kernel has ended it.
//!
//! Whether others of the group still run when its leader has ended is asked in `/proc`, and only if the group is not empty
//! then. Linux 5.3 or later is needed; on an older kernel nothing is started.

mod child;
mod command;
mod error;
mod members;
mod orphans;
mod run;
mod running;
mod stdio;

pub use child::Child;
pub use command::Command;
pub use error::ProcessError;
pub use run::{RunProcess, run_process};
pub use std::process::{ExitStatus, Output};
pub use stdio::{ChildStderr, ChildStdin, ChildStdout, Stdio};
