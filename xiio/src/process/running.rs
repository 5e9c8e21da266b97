//! A process that was started: waiting for its end, bringing it about, reaping it.

use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::process::ExitStatus;
use std::time::Duration;

use super::{members, orphans};
use crate::combine::timeout;
use crate::io::Readiness;
use crate::runtime::poll_leaf;
use crate::sys::fd::Direction;
use crate::sys::pidfd::{PidFd, leads_group, signal_group};

/// How long the rest of a killed group is waited for. It may hold processes of another user, which live on; so may a child
/// that cannot be killed itself.
const AFTER_KILL: Duration = Duration::from_secs(1);

/// How a child is to be stopped.
#[derive(Debug, Clone, Copy)]
pub(super) struct StopPlan {
    pub(super) signal: i32,
    pub(super) grace: Duration,
    /// The child leads a group of its own, which is signalled as a whole.
    pub(super) has_group: bool,
}

/// A child, without its pipes.
///
/// Invariant: its number is its own, and that of its group, as long as there is no status, and nobody else has reaped it.
#[derive(Debug)]
pub(super) struct Running {
    /// Is `None` only while it is dropped.
    child: Option<std::process::Child>,
    pid: u32,
    pidfd: PidFd,
    status: Option<ExitStatus>,
    plan: StopPlan,
    program: String,
}

impl Running {
    /// Takes charge of a child. If that is not possible, it is killed with its group.
    pub(super) fn new(mut child: std::process::Child, plan: StopPlan, program: String) -> io::Result<Self> {
        let pid = child.id();
        match PidFd::open(pid) {
            Ok(pidfd) => Ok(Self { child: Some(child), pid, pidfd, status: None, plan, program }),
            Err(error) => {
                // If there is no such process any more, somebody else has reaped it.
                if error.raw_os_error() != Some(libc::ESRCH) {
                    let _ = if plan.has_group { signal_group(pid, libc::SIGKILL) } else { child.kill() };
                }
                orphans::reap(child);
                Err(explain_missing(error))
            }
        }
    }

    pub(super) fn id(&self) -> u32 {
        self.pid
    }

    pub(super) fn program(&self) -> &str {
        &self.program
    }

    /// Signals the group and the child, or the child alone; nobody if it was reaped.
    pub(super) fn signal(&self, signal: i32) -> io::Result<()> {
        match self.status {
            Some(_) => Ok(()),
            None if self.plan.has_group => {
                // Somebody else may have reaped it, the kernel for example, and then the number may be another's.
                self.pidfd.send_signal(0)?;
                let sent = signal_group(self.pid, signal);
                // One that has left the group would hear of nothing, and not even be killed.
                if leads_group(self.pid) { sent } else { self.pidfd.send_signal(signal) }
            }
            None => self.pidfd.send_signal(signal),
        }
    }

    /// Waits until the child has ended. It is not reaped.
    pub(super) async fn ended(&self) -> io::Result<()> {
        if self.status.is_some() {
            return Ok(());
        }
        let describe = || format!("process `{}` ({}) to end", self.program, self.pid);
        ended(&self.pidfd, &describe).await
    }

    /// The status, if the child has ended.
    pub(super) fn reap(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none()
            && let Some(child) = &mut self.child
        {
            self.status = child.try_wait().map_err(|error| self.explain("wait for", &explain_missing(error)))?;
        }
        Ok(self.status)
    }

    /// Waits until the child has ended, and reaps it.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.reap()? {
                return Ok(status);
            }
            self.ended().await?;
        }
    }

    /// Stops the child and its group, see [the room](super). Nothing if it was reaped.
    pub(super) async fn stop(&mut self) {
        // One that has ended and was not reaped still lends its number to its group, where others may run on.
        if self.status.is_some() {
            return;
        }
        let _ = self.signal(self.plan.signal);
        // One that was stopped could not act on it.
        let _ = self.signal(libc::SIGCONT);
        let grace = self.plan.grace;
        let has_ended = timeout(grace, async {
            // What cannot be waited for is killed.
            self.wait().await.is_ok() && self.group_ended().await
        });
        if has_ended.await == Ok(true) {
            return;
        }
        self.kill_all().await;
    }

    async fn kill_all(&mut self) {
        if self.status.is_none() {
            let _ = self.signal(libc::SIGKILL);
            let may_live_on = self.pidfd.send_signal(libc::SIGKILL).is_err();
            if timeout(may_live_on.then_some(AFTER_KILL), self.wait()).await.is_err() {
                return;
            }
        } else if !self.members().is_ok_and(|members| members.is_empty()) {
            // They have kept the number of the group since its leader was reaped. So they have if it cannot be found out who
            // they are: there is somebody.
            let _ = signal_group(self.pid, libc::SIGKILL);
        }
        let _ = timeout(AFTER_KILL, self.group_ended()).await;
    }

    /// Waits until nobody of the group runs, and says whether that came true. The leader has been reaped.
    async fn group_ended(&self) -> bool {
        loop {
            let Ok(members) = self.members() else { return false };
            if members.is_empty() {
                return true;
            }
            for member in &members {
                let describe = || format!("a descendant of process `{}` ({}) to end", self.program, self.pid);
                if ended(member, &describe).await.is_err() {
                    return false;
                }
            }
        }
    }

    /// Who still runs of the group of a leader that was reaped. `/proc` is looked at only if there is anybody.
    fn members(&self) -> io::Result<Vec<PidFd>> {
        if self.plan.has_group && signal_group(self.pid, 0).is_ok() {
            members::running_members(self.pid)
        } else {
            Ok(Vec::new())
        }
    }

    pub(super) fn explain(&self, what: &str, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("cannot {what} `{}`: {error}", self.program))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.signal(libc::SIGKILL);
        if let Some(child) = self.child.take()
            && self.status.is_none()
        {
            orphans::reap(child);
        }
    }
}

/// Says why a child of ours may not be there any more.
fn explain_missing(error: io::Error) -> io::Error {
    if !matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ECHILD)) {
        return error;
    }
    io::Error::new(error.kind(), format!("{error}; the kernel reaps children by itself while SIGCHLD is ignored"))
}

/// Waits until a process has ended.
async fn ended(process: &PidFd, describe: &impl Fn() -> String) -> io::Result<()> {
    let mut readiness = Readiness::new(process.as_fd(), Direction::Read);
    poll_fn(|cx| poll_leaf(cx, describe, |cx| readiness.poll_now(cx))).await
}
