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
//! While this process lives, no child outlives the code that waits for it. [`run_process`], [`Command::status`],
//! [`Command::output`], [`Command::scope`] and [`Child::wait`] clean up when they are cancelled, and whoever cancels waits
//! for that:
//!
//! ```text
//!               1                   2                      3              4
//!   cancelled ────▶ asked to stop ────▶ leader has ended ────▶ all ended ────▶ reaped
//!                        │                    │                    ▲
//!                        └──── 5 ─────────────┴──────▶ killed ─────┘
//!
//!  1 SIGTERM (`Command::stop_signal`) and SIGCONT to all whom a stop reaches       4 `Running::reap`
//!  2, 3 waited for as long as the grace lasts       5 the grace (`Command::grace`) is over: SIGKILL
//! ```
//!
//! The leader is reaped last: so long its number is that of its group. A stop that is cut off before, as by the grace of a task group, kills
//! all who are left, at once. So does [`Child::try_wait`] where it then reaps the leader. Where the child is kept, a second stop begins anew.
//!
//! The captured pipes of a call that is cancelled stay open until the stop is over, and what comes through them is read and lost: a child may
//! write while it cleans up. So do the pipes in [`Command::scope`] that `usage` has not taken; those it has taken go with it. [`Child::stop`] and a
//! cancelled [`Child::wait`] leave pipes alone that can be read afterwards: a child that writes more than they hold waits, and is killed after the grace.
//!
//! # Groups and terminals
//!
//! Without a terminal a child leads a process group of its own. Where this process has a controlling terminal, a child shares its
//! group, as the children of a script do. A group of its own would be in the background, and the kernel stops a background process that
//! reads or sets the terminal. [`Command::own_group`] overrides this.
//!
//! | what happens | a child on a terminal | a child in a group of its own |
//! |---|---|---|
//! | the child opens `/dev/tty` (a pager, `ssh`, `fzf`) | it reads, writes and sets it as this process does | there is none; with a terminal the kernel stops it, and that is reported |
//! | Ctrl-C, Ctrl-\ | the terminal signals it, as this process | this process alone hears of it |
//! | Ctrl-Z, `fg`, `bg` | it is stopped and goes on, as this process | it runs on |
//! | the terminal is closed | it has `SIGHUP`, as this process, or when that has ended | nothing |
//! | it is cancelled, stopped or dropped | its descendants are reached, one by one | its group is, and descendants who have left that |
//! | this process is stopped by `SIGSTOP` | it runs on | it runs on |
//! | this process is killed, or ends by a signal sent to it alone | it runs on, but with [`Command::dies_with_us`] | the same |
//!
//! Descendants are found by their parents, while all of them are stopped for a moment, so that nobody starts anybody meanwhile.
//! Who is in the middle of a `fork` is waited for, for 6 ms at most, and that blocks the thread; so is who gets no processor to stop on.
//! A `fork` that takes longer, as with gigabytes of memory, may leave its child behind where there is no group.
//! So a pipeline ends with its shell, and `timeout` with what it runs, though it makes a group. A process that has lost its
//! parent before (a daemon) is found in the group only; on a terminal it lives on. So it is with one that a member starts after it was asked to stop, in a
//! `trap` say, and does not wait for.
//!
//! A child that has received Ctrl-C or Ctrl-\ from the terminal is left alone for the grace, counted from then, and asked to stop only after that. A
//! child that ignores that signal is not waited for, nor is one that is stopped and cannot act on it. A program without `cancel_on` has ended by then
//! and cannot wait: its children end by the signal, or in their own time.
//!
//! `SIGHUP` is not taken so, as nothing tells whether the child has had it, too. With `cancel_on` for it, a child that cleans up after `SIGHUP` is
//! asked to stop in the middle of that. It may ignore the [stop signal](Command::stop_signal) meanwhile.
//!
//! A child that is stopped while it or one of its pipes is waited for is a [report](crate::inspect::ReportKind::ChildStopped) within a second or
//! two, once for each stop. It says which signal has stopped it, and what to do. It is cancelled like any other.
//!
//! A `pre_exec` may call `setsid`. The child then has no terminal, and its group is signalled as a whole.
//!
//! A shell with job control (`bash -i`) takes the terminal for a group of its own, and gives it back when it ends. One that ignores the signal to
//! stop and is killed cannot: a read of the terminal by this process then stops all of it. Give such a shell a [`Command::stop_signal`] that it heeds (`SIGHUP`).
//!
//! A child that ends by itself is reaped when it is waited for, and what it has left behind in the background goes on, as in
//! `std`. Until it is reaped its group can be stopped: a cancellation that comes before (while something in the background
//! keeps a captured stream open, say) ends what was left behind, too.
//!
//! A child that may not be signalled, as it runs as another user (under `sudo`, say), is given up a second after the grace,
//! and lives on. That is a [report](crate::inspect::ReportKind::ChildLeft), and an error of [`Child::stop`].
//!
//! With no descriptors left, a stop sees later who has ended, and may find no descendants. That is a report of the same kind: they may live on.
//!
//! A [`Child`] may be dropped: by foreign code, by a cancellation while something else is awaited, by a panic. It is then
//! killed at once with its group, without a grace, and is reaped without blocking. In a process that was forked off since, a drop and a stop
//! leave it alone, and to signal it or wait for it is `ECHILD`.
//!
//! # Implementation
//!
//! The child's pidfd in the reactor tells of its end; there is no handler for `SIGCHLD`, and other code may have one. It must
//! not ignore that signal, though, as the kernel then reaps children by itself: waiting for one is `ECHILD`, and [`ProcessError`] says why.
//! Starting a child is `std`'s: it blocks until the program is loaded. A child takes one descriptor, and one for each pipe. While it is stopped
//! each of its descendants takes one, as long as four are left to others. The rest of them are looked at a hundred times a second, and told from others
//! of their number by the time at which they have started. A thread waits
//! only for a child that was dropped while it ran; the thread is there for the few milliseconds until the kernel has ended the child. For one that
//! cannot be killed it stays, and looks four times a second, as long as that child lives.
//!
//! Whether others of the group still run when its leader has ended is asked in `/proc`. Descendants are those of `/proc/PID/task/TID/children`; a kernel without that file shows none, and a stop then reaches only the
//! child and its group. A `/proc` of another namespace of processes counts for none. Then nobody can wait for the others of a group, and a stop kills
//! them once their leader has ended. Whether a child is stopped is asked once a second while it or a pipe is waited for (Linux 5.4); the traits of
//! `futures-io` do not ask. Linux 5.3 or later is needed; on an older kernel nothing is started.
//!
//! # Other systems
//!
//! Nobody has run this module on a system that is not Linux.
//!
//! | | Android | FreeBSD | macOS |
//! |---|---|---|---|
//! | what tells of the end | as Linux, from Android 12 on; before, `Unsupported` | a kqueue with one event for each child | as FreeBSD |
//! | members of a group, descendants | `/proc`; those of the app alone are seen | `sysctl` with `KERN_PROC` | `proc_listpids` |
//! | a signal to one process | to its descriptor | to its number, after a look whether it has ended | as FreeBSD |
//! | [`Command::dies_with_us`] | as Linux | `PROC_PDEATHSIG_CTL`: when the process ends, not the thread | none: the start fails with `ENOSYS` |
//! | Ctrl-C of the terminal | as Linux | as Linux | cannot be told from another `SIGINT`: a stop asks at once, the grace is counted from then |
//!
//! Where a signal goes to a number, another process may have it by then. For that the process in question has to end and be reaped by
//! its parent, and its number has to come round, between two system calls.

mod child;
mod command;
mod error;
mod family;
mod members;
mod orphans;
mod run;
mod running;
mod stdio;
mod stopped;

pub use child::Child;
pub use command::Command;
pub use error::ProcessError;
pub use run::{RunProcess, run_process};
pub use std::process::{ExitStatus, Output};
pub use stdio::{ChildStderr, ChildStdin, ChildStdout, Stdio};
