//! A child and those who descend from it, as `/proc` tells. See `proc_pid_task(5)`, `proc_pid_status(5)`.
//!
//! A process group is signalled as a whole by the kernel. A family is not, and while one looks its members start others and
//! end. So they are stopped first, parents before their children: one that is stopped starts nobody, and leaves no child to
//! another parent. One that was in the middle of starting somebody is found by a second look.

use std::fs;
use std::io;

use crate::sys::pidfd::PidFd;

/// How often those who are stopped are looked at. Who runs as another user cannot be stopped, and may start others for ever.
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
    /// Those who are found now; nobody, if the child is gone.
    pub(super) fn of(child: u32) -> Self {
        let process = PidFd::open(child);
        let mut family = Self { members: process.map(|process| Member { pid: child, process }).into_iter().collect() };
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

    pub(super) fn processes(&self) -> impl Iterator<Item = &PidFd> {
        self.members.iter().map(|member| &member.process)
    }

    /// Those who do not ignore a signal.
    pub(super) fn hearing(&self, signal: i32) -> impl Iterator<Item = &PidFd> {
        self.members.iter().filter(move |member| !ignores(member.pid, signal)).map(|member| &member.process)
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
        // The number of one that was reaped may be another's.
        if parent.process.send_signal(0).is_err_and(|error| error.raw_os_error() == Some(libc::ESRCH)) {
            return Vec::new();
        }
        let is_known = |pid: &u32| self.members.iter().any(|member| member.pid == *pid);
        let children = children_of(parent.pid).unwrap_or_default().into_iter().filter(|pid| !is_known(pid));
        children.filter_map(|pid| Member::open(pid, parent.pid)).collect()
    }
}

impl Member {
    fn open(pid: u32, parent: u32) -> Option<Self> {
        let process = PidFd::open(pid).ok()?;
        // The number may have gone to another process in between; what the descriptor stands for stays the same.
        (parent_of(pid)? == parent).then_some(Self { pid, process })
    }
}

/// The children of all threads of a process.
fn children_of(pid: u32) -> io::Result<Vec<u32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let listed = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
        children.extend(listed.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    Ok(children)
}

fn parent_of(pid: u32) -> Option<u32> {
    field(pid, "PPid:")?.parse().ok()
}

fn ignores(pid: u32, signal: i32) -> bool {
    let ignored = field(pid, "SigIgn:").and_then(|mask| u64::from_str_radix(&mask, 16).ok());
    ignored.is_some_and(|mask| mask.checked_shr(signal.unsigned_abs() - 1).is_some_and(|mask| mask & 1 == 1))
}

fn field(pid: u32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().to_owned())
}
