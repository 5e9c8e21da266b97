//! A child and those who descend from it.
//!
//! A process group is signalled as a whole by the kernel. A family is not, and while one looks its members start others and
//! end. So they are stopped first, parents before their children: one that is stopped starts nobody, and leaves no child to
//! another parent. One that was in the middle of starting somebody is found by a second look.

use super::stopped::Process;
use crate::sys::process::{PidFd, is_in_group, is_in_own_group, who};

/// How often those who are stopped are looked at. A process of another user cannot be stopped, and may start others for
/// ever.
const MAX_LOOKS: usize = 8;

#[derive(Debug)]
struct Member {
    pid: u32,
    process: PidFd,
}

/// Parents before their children.
#[derive(Debug)]
pub(super) struct Family {
    members: Vec<Member>,
}

impl Family {
    /// Those who are found now; nobody, if the child was reaped.
    pub(super) fn of(child: &Process) -> Self {
        let opened = PidFd::open(child.pid).ok();
        // Somebody else may have reaped it, the kernel for example. As long as nobody has, it is the one who was opened.
        let process = opened.filter(|_| !child.pidfd.is_reaped());
        let members = process.map(|process| Member { pid: child.pid, process }).into_iter().collect();
        let mut family = Self { members };
        family.look(|_| {});
        family
    }

    /// Stops them all, and finds who has come since.
    pub(super) fn freeze(&mut self) {
        for _ in 0..MAX_LOOKS {
            let n_before = self.members.len();
            self.look(|member| {
                let _ = member.process.send_signal(libc::SIGSTOP);
            });
            if self.members.len() == n_before {
                return;
            }
        }
    }

    /// Lets them go on, children first: so no parent finds its child stopped.
    pub(super) fn thaw(&self) {
        self.members.iter().rev().for_each(|member| {
            let _ = member.process.send_signal(libc::SIGCONT);
        });
    }

    pub(super) fn signal(&self, signal: i32) {
        for member in &self.members {
            let _ = member.process.send_signal(signal);
        }
    }

    /// Signals those who are neither a child nor in a group that was signalled.
    pub(super) fn signal_others(&self, signal: i32, child: Option<u32>, group: Option<u32>) {
        let has_heard = |pid| child == Some(pid) || group.is_some_and(|group| is_in_group(pid, group));
        for member in self.members.iter().filter(|member| !has_heard(member.pid)) {
            let _ = member.process.send_signal(signal);
        }
    }

    pub(super) fn processes(&self) -> impl Iterator<Item = &PidFd> {
        self.members.iter().map(|member| &member.process)
    }

    /// Those in our own group who do not ignore a signal.
    pub(super) fn hearing(&self, signal: i32) -> impl Iterator<Item = &PidFd> {
        let hears = move |member: &&Member| is_in_own_group(member.pid) && !who::ignores(member.pid, signal);
        self.members.iter().filter(hears).map(|member| &member.process)
    }

    fn look(&mut self, visit: impl Fn(&Member)) {
        let mut idx = 0;
        while let Some(member) = self.members.get(idx) {
            visit(member);
            let found = self.unknown_children_of(member);
            self.members.extend(found);
            idx += 1;
        }
    }

    fn unknown_children_of(&self, parent: &Member) -> Vec<Member> {
        let is_known = |pid: &u32| self.members.iter().any(|member| member.pid == *pid);
        let children = who::children_of(parent.pid).into_iter().filter(|pid| !is_known(pid));
        let children = children.filter_map(|pid| Member::open(pid, parent.pid)).collect();
        // The number of one that was reaped may be another's by now, and these may be that one's.
        if parent.process.is_reaped() { Vec::new() } else { children }
    }
}

impl Member {
    fn open(pid: u32, parent: u32) -> Option<Self> {
        let process = PidFd::open(pid).ok()?;
        // The number may have gone to another process in between; what the descriptor stands for stays the same.
        (who::is(pid).ok()??.parent == parent).then_some(Self { pid, process })
    }
}
