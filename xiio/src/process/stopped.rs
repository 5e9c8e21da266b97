//! A child that is stopped: noticed and reported, while somebody waits for it or for its pipes.

use std::cell::Cell;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::report::{ReportKind, report};
use crate::sys::process::PidFd;
use crate::sys::signal::name;
use crate::time::{Deadline, now};

/// How often it is asked whether a child that is waited for is stopped: nothing tells of that.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// Which process a child is.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) pidfd: PidFd,
    pub(super) program: String,
    /// By what it was stopped at the last look.
    stopped_by: Cell<Option<i32>>,
    /// Not kept by those who wait: who races something else in a loop waits anew in each round.
    next_look: Cell<Instant>,
    /// What comes through the pipes that its [`Child`](super::Child) still has is wanted by nobody.
    are_pipes_given_up: Cell<bool>,
}

impl Process {
    pub(super) fn new(pid: u32, pidfd: PidFd, program: String) -> Self {
        let next_look = Cell::new(now() + LOOK);
        Self { pid, pidfd, program, stopped_by: Cell::new(None), next_look, are_pipes_given_up: Cell::new(false) }
    }

    pub(super) fn give_up_pipes(&self) {
        self.are_pipes_given_up.set(true);
    }

    pub(super) fn are_pipes_given_up(&self) -> bool {
        self.are_pipes_given_up.get()
    }

    /// When a look is due. The clock of a run with virtual time may have been far ahead of this one's.
    fn next_look(&self) -> Instant {
        self.next_look.set(self.next_look.get().min(now() + LOOK));
        self.next_look.get()
    }

    /// Another who waits may have looked.
    fn look_if_due(&self) {
        if self.next_look.get() <= now() {
            self.next_look.set(now() + LOOK);
            self.look_if_stopped();
        }
    }

    /// Reports a child that has been stopped since the last look.
    fn look_if_stopped(&self) {
        let now = self.pidfd.stopped_by();
        if let Some(signal) = now
            && self.stopped_by.get() != Some(signal)
        {
            let (program, pid) = (&self.program, self.pid);
            let text = format!("process `{program}` ({pid}) is stopped by {}: {}", name(signal), advice(signal, pid));
            report(ReportKind::ChildStopped, text);
        }
        self.stopped_by.set(now);
    }
}

/// Looks now and then, for as long as somebody waits.
#[derive(Default)]
pub(super) struct Look {
    /// From the first poll on that has to wait.
    next: Option<Deadline>,
}

impl Look {
    /// What a poll has come to that waits for this process.
    pub(super) fn around<T>(&mut self, polled: Poll<T>, process: &Process, cx: &mut Context<'_>) -> Poll<T> {
        if polled.is_pending() {
            let next = self.next.get_or_insert_with(|| Deadline::of(process.next_look()));
            while next.poll_elapsed(cx) {
                process.look_if_due();
                *next = Deadline::of(process.next_look());
            }
        }
        polled
    }
}

/// Why a child is stopped, and what to do.
fn advice(signal: i32, pid: u32) -> String {
    match signal {
        libc::SIGTTIN => {
            "it reads the terminal from the background; `own_group(false)` leaves it in the foreground".into()
        }
        libc::SIGTTOU => {
            "it writes to the terminal from the background, or sets it; `own_group(false)` leaves it in the foreground"
                .into()
        }
        _ => format!("`kill -CONT {pid}` lets it go on"),
    }
}
