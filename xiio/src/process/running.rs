//! A process that was started: waiting for its end, bringing it about, reaping it.

use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::process::ExitStatus;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::family::Family;
use super::members::Member;
use super::orphans::{FIRST_PAUSE, LONGEST_PAUSE};
use super::stopped::{LOOK, Look, Process};
use super::{members, orphans};
use crate::combine::timeout;
use crate::drawing::{Kind, Node};
use crate::io::Readiness;
use crate::report::{ReportKind, report};
use crate::runtime::{checkpoint, poll_leaf};
use crate::sys::fd::{Direction, is_ready};
use crate::sys::process::{PidFd, leads_group, signal_group};
use crate::sys::signal::last_key;
use crate::sys::{fork, is_shortage};
use crate::time::Deadline;
use crate::unwind::Reached;

/// How long the rest of a killed group is waited for. It may hold processes of another user, which live on; so may a child
/// that cannot be killed itself.
const AFTER_KILL: Duration = Duration::from_secs(1);

/// How long it takes to the next look, where only looks tell: there are too few descriptors.
const NEXT_LOOK: Duration = Duration::from_millis(10);

/// How a child is to be stopped.
#[derive(Debug, Clone, Copy)]
pub(super) struct StopPlan {
    pub(super) signal: i32,
    pub(super) grace: Duration,
    /// The child leads a group of its own, which is signalled as a whole.
    pub(super) has_group: bool,
    /// When the start began: what the terminal has sent since, the child has had.
    pub(super) started: Instant,
}

/// A child, without its pipes.
///
/// Invariant: its number is its own, and that of its group, as long as there is no status, and nobody else has reaped it.
#[derive(Debug)]
pub(super) struct Running {
    /// Is `None` only while it is dropped.
    child: Option<std::process::Child>,
    process: Rc<Process>,
    status: Option<ExitStatus>,
    /// Whose child it is. One that was forked off since has inherited the descriptor, and must leave the child alone.
    parent: fork::Process,
    plan: StopPlan,
    /// Whom a stop has asked to end, as long as it is not over: who drops the child or reaps it ends them.
    family: Option<Family>,
    /// It was told of that it lives on.
    is_left: bool,
}

impl Running {
    /// Takes charge of a child. If that is not possible, it is killed with its group.
    pub(super) fn new(mut child: std::process::Child, plan: StopPlan, program: String) -> io::Result<Self> {
        let pid = child.id();
        match PidFd::open(pid) {
            Ok(pidfd) => {
                let process = Rc::new(Process::new(pid, pidfd, program));
                Ok(Self {
                    child: Some(child),
                    process,
                    status: None,
                    parent: fork::Process::this(),
                    plan,
                    family: None,
                    is_left: false,
                })
            }
            Err(error) => {
                // If there is no such process any more, somebody else has reaped it.
                if error.raw_os_error() != Some(libc::ESRCH) {
                    let _ = if plan.has_group { signal_group(pid, libc::SIGKILL) } else { child.kill() };
                }
                orphans::reap(child);
                Err(error)
            }
        }
    }

    pub(super) fn process(&self) -> &Rc<Process> {
        &self.process
    }

    /// Signals the group and the child, or the child alone; nobody if it was reaped.
    ///
    /// # Errors
    /// `ECHILD` in a process that was forked off since: it is no child of this one. And what the system says.
    pub(super) fn signal(&self, signal: i32) -> io::Result<()> {
        if self.status.is_some() {
            return Ok(());
        }
        if !self.parent.is_this() {
            return Err(no_child());
        }
        let Some(group) = self.group() else { return self.process.pidfd.send_signal(signal) };
        // One that may not be signalled still leads a group of which others may.
        let sent = signal_group(group, signal);
        // One that has left the group would hear of nothing, and not even be killed.
        if leads_group(group) { sent } else { self.process.pidfd.send_signal(signal) }
    }

    /// The group that is signalled with the child: that of its number, whoever has made it lead one. None once it was reaped, by the
    /// kernel for example, as the number may then be another's.
    fn group(&self) -> Option<u32> {
        let pid = self.process.pid;
        (self.owns_number() && (self.plan.has_group || leads_group(pid))).then_some(pid)
    }

    /// Whether it is a child of ours that nobody has reaped: its number is its own, and that of its group.
    fn owns_number(&self) -> bool {
        self.is_to_be_ended() && !self.process.pidfd.is_reaped()
    }

    /// Whether this process has to see to its end: it is a child of ours, and was not reaped here.
    fn is_to_be_ended(&self) -> bool {
        self.status.is_none() && self.parent.is_this()
    }

    /// Waits until the child has ended. It is not reaped.
    pub(super) async fn ended(&self) -> io::Result<()> {
        if self.status.is_some() {
            checkpoint().await;
            return Ok(());
        }
        if !self.parent.is_this() {
            return Err(no_child());
        }
        let describe = || self.node("process");
        let mut readiness = Readiness::new(self.process.pidfd.as_fd(), Direction::Read);
        let mut look = Look::default();
        let poll = |cx: &mut Context<'_>| look.around(readiness.poll_now(cx), &self.process, cx);
        poll_with(&describe, poll).await
    }

    /// This process, or others of which only it is known, as what is waited for.
    fn node(&self, what: &str) -> Node {
        Node::new(Kind::Process, format!("{what} `{}` ({}) to end", self.process.program, self.process.pid))
            .waits_for(self.process.pid)
    }

    /// The status, if the child has ended.
    ///
    /// # Errors
    /// `ECHILD` if somebody else has reaped it: the number may be that of another child by now, which is not to be reaped. And in a
    /// process that was forked off since.
    pub(super) fn reap(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            if !self.owns_number() {
                return Err(no_child());
            }
            if self.family.is_some() {
                // A stop that was cut off would find the rest of the group no more. So it is not reaped if it ends behind this look.
                if !self.has_ended()? {
                    return Ok(None);
                }
                let _ = self.kill_all();
            }
            self.status = self.child.as_mut().map(std::process::Child::try_wait).transpose()?.flatten();
            if self.status.is_some() {
                self.part();
            }
        }
        Ok(self.status)
    }

    /// Whether the child has ended. It may have been reaped.
    fn has_ended(&self) -> io::Result<bool> {
        is_ready(self.process.pidfd.as_fd(), Direction::Read)
    }

    /// Waits until the child has ended, and reaps it.
    ///
    /// One that a debugger traces cannot be reaped before that one has taken notice of its end, and nothing tells of that.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(status) = self.reap()? {
                checkpoint().await;
                return Ok(status);
            }
            self.ended().await?;
            if let Some(status) = self.reap()? {
                return Ok(status);
            }
            self.leave_to_its_debugger(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn leave_to_its_debugger(&self, pause: Duration) {
        let Process { program, pid, .. } = &*self.process;
        let describe = || {
            let text = format!("process `{program}` ({pid}), which has ended, to be given up by its debugger");
            Node::new(Kind::Process, text).waits_for(*pid)
        };
        self::pause(pause, &describe).await;
    }

    /// Stops the child and its group, see [the module](super). Nothing if it was reaped, or is the child of another process.
    ///
    /// The child is reaped last: until then the number of the group is its own, and who finds the stop cut off can still end the rest.
    pub(super) async fn stop(&mut self) {
        // One that has ended and was not reaped still lends its number to its group, where others may run on.
        if !self.is_to_be_ended() {
            return;
        }
        self.plan.has_group |= self.group().is_some();
        // Those of a stop that was cut off may have lost their parents since.
        self.family.get_or_insert_with(|| Family::of(&self.process));
        self.wait_for_those_who_heard_the_terminal().await;
        self.ask();
        // What cannot be waited for is killed.
        let all_ended = async { self.ended().await.is_ok() && self.others_ended().await };
        if timeout(self.plan.grace, all_ended).await != Ok(true) {
            let may_live_on = self.kill_all().is_err();
            if timeout(may_live_on.then_some(AFTER_KILL), self.ended()).await.is_err() {
                return self.report_left("");
            }
            if timeout(AFTER_KILL, self.others_ended()).await.is_err() && self.others_run() {
                self.report_left("a descendant of ");
            }
        }
        self.part();
        let _ = self.wait().await;
    }

    /// Is done with the family.
    fn part(&mut self) {
        if self.family.take().is_some_and(|family| family.is_short()) {
            let Process { program, pid, .. } = &*self.process;
            let text = format!(
                "descendants of process `{program}` ({pid}) were to be stopped, and may live on: there were too few \
                 descriptors to find or to signal all of them"
            );
            self.report_once(text);
        }
    }

    /// Leaves the grace to those in our own group that had the same signal from the keyboard of the terminal as we had.
    async fn wait_for_those_who_heard_the_terminal(&self) {
        let Some((signal, ago)) = last_key().filter(|(_, ago)| *ago < self.plan.started.elapsed()) else { return };
        if !self.plan.has_group {
            let rest = self.plan.grace.saturating_sub(ago);
            let hearing = || self.family.iter().flat_map(|family| family.hearing(signal));
            // One may be stopped meanwhile.
            let all_ended = async { while timeout(LOOK, self.all_ended(hearing())).await.is_err() {} };
            let _ = timeout(rest, all_ended).await;
        }
    }

    /// Sends all whom a stop reaches its signal.
    fn ask(&mut self) {
        let signal = self.plan.signal;
        if let Some(family) = &mut self.family {
            family.freeze();
        }
        // Nobody twice: signals of real time queue, and a handler would run as often. A sandbox may refuse one way and not the other.
        let group = self.group().filter(|&group| signal_group(group, signal).is_ok());
        let has_heard = group.is_some_and(leads_group) || self.process.pidfd.send_signal(signal).is_ok();
        if let Some(family) = &mut self.family {
            family.signal_others(signal, has_heard.then_some(self.process.pid), group);
            family.thaw();
        }
        // One that was stopped could not act on it.
        let _ = self.signal(libc::SIGCONT);
    }

    /// Kills all whom a stop reaches.
    ///
    /// # Errors
    /// As [`Running::kill`].
    fn kill_all(&mut self) -> io::Result<()> {
        let family = self.family.get_or_insert_with(|| Family::of(&self.process));
        family.freeze();
        family.signal(libc::SIGKILL);
        let _ = self.signal(libc::SIGKILL);
        self.kill()
    }

    /// Kills the child alone.
    ///
    /// # Errors
    /// It lives on then, or was reaped by somebody else.
    pub(super) fn kill(&self) -> io::Result<()> {
        self.process.pidfd.send_signal(libc::SIGKILL)
    }

    /// Reports a process that was to end, and that nobody waits for any more.
    fn report_left(&mut self, whose: &str) {
        let Process { program, pid, .. } = &*self.process;
        let text = format!(
            "{whose}process `{program}` ({pid}) was to be stopped, and lives on: it could not be killed, \
             as one that runs as another user"
        );
        self.report_once(text);
    }

    fn report_once(&mut self, text: String) {
        if !std::mem::replace(&mut self.is_left, true) {
            report(ReportKind::ChildLeft, text);
        }
    }

    /// Waits until nobody runs of those who are to end with the child, and says whether that came true. The child has ended.
    async fn others_ended(&self) -> bool {
        let describe = || self.node("descendants of process");
        if !self.all_ended(self.family.iter().flat_map(Family::members)).await {
            return false;
        }
        loop {
            match self.members() {
                Ok(members) if members.is_empty() => return true,
                Ok(members) if self.all_ended(members.iter()).await => {}
                // They have been asked. Who lacks descriptors only cannot see them end.
                Err(error) if is_shortage(&error) => pause(NEXT_LOOK, &describe).await,
                Ok(_) | Err(_) => return false,
            }
        }
    }

    /// Whether it is known that somebody still runs of those who are to end with the child, which has ended.
    fn others_run(&self) -> bool {
        self.family.iter().flat_map(Family::members).any(Member::runs)
            || self.members().is_ok_and(|members| !members.is_empty())
    }

    /// Waits until these have ended, and says whether that came true.
    async fn all_ended(&self, members: impl Iterator<Item = &Member>) -> bool {
        let describe = || self.node("a descendant of process");
        for member in members {
            let Some(pidfd) = member.descriptor() else {
                while !member.has_ended() {
                    pause(NEXT_LOOK, &describe).await;
                }
                continue;
            };
            let mut readiness = Readiness::new(pidfd.as_fd(), Direction::Read);
            if poll_with(&describe, |cx| readiness.poll_now(cx)).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Who still runs of the group of a child that has ended.
    ///
    /// # Errors
    /// When it cannot be found out. The number of the group may be another's: somebody else has reaped the child.
    fn members(&self) -> io::Result<Vec<Member>> {
        match self.group() {
            Some(group) => members::running_members(group),
            None if self.plan.has_group => Err(no_child()),
            None => Ok(Vec::new()),
        }
    }
}

/// Kills whom a stop would ask, and whom one that was cut off has asked.
impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_to_be_ended() {
            return;
        }
        let is_refused = self.kill_all().is_err_and(|error| error.raw_os_error() == Some(libc::EPERM));
        // The kernel refuses it also for one that has ended and was another user's.
        if is_refused && !self.has_ended().unwrap_or(false) {
            self.report_left("");
        }
        self.part();
        if let Some(child) = self.child.take().filter(|_| self.owns_number()) {
            orphans::reap(child);
        }
    }
}

/// What the system says of a process that is not to be waited for here.
fn no_child() -> io::Error {
    io::Error::from_raw_os_error(libc::ECHILD)
}

async fn pause(pause: Duration, describe: &impl Fn() -> Node) {
    let mut pause = Deadline::after(pause);
    poll_with(describe, |cx| if pause.poll_elapsed(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
}

async fn poll_with<T>(describe: &impl Fn() -> Node, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    let mut reached = Reached::default();
    poll_fn(|cx| {
        reached.note("wait for a process");
        poll_leaf(cx, describe, &mut poll)
    })
    .await
}
