//! A child and those who descend from it.
//!
//! A process group is signalled as a whole by the kernel. A family is not, and while one looks its members start others and
//! end. So they are stopped first, parents before their children: one that is stopped starts nobody, and leaves no child to
//! another parent. One that is in the middle of starting somebody in the kernel stops only after that. So who is there is known when nobody was found
//! by a look before which all were seen stopped.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use super::members::Member;
use super::stopped::Process;
use crate::sys::is_shortage;
use crate::sys::process::who::{self, Motion};
use crate::sys::process::{is_in_group, is_in_own_group};

/// How often those who are stopped are looked at, with a pause in between that doubles: for 6 ms in all. A process of another user cannot be
/// stopped, and may start others for ever.
const MAX_LOOKS: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_micros(50);

/// How often, where somebody is left who waits in the kernel: for 3 ms in all. Behind `vfork(2)` it waits for a child that we have stopped.
const MAX_LOOKS_AT_WAITING: u32 = 7;

/// How often a signal waits for a descriptor, and for how long: 50 ms for all whom it is for.
const MAX_PAUSES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(1);

/// Parents before their children.
#[derive(Debug)]
pub(super) struct Family {
    members: Vec<Member>,
    /// There were too few descriptors to find all of them, or to signal one.
    is_short: bool,
}

impl Family {
    /// Those who are found now; nobody, if the child was reaped.
    pub(super) fn of(child: &Rc<Process>) -> Self {
        // Somebody else may have reaped it, the kernel for example.
        let members = if child.pidfd.is_reaped() { Vec::new() } else { vec![Member::child(child)] };
        let mut family = Self { members, is_short: false };
        let _ = family.look(|_| Ok(()));
        family
    }

    /// Whether somebody may live on whom a signal was for, as there were too few descriptors.
    pub(super) fn is_short(&self) -> bool {
        self.is_short
    }

    /// Stops them all, and finds who has come since.
    pub(super) fn freeze(&mut self) {
        let mut looked = Ok(());
        for n_looks in 1..=MAX_LOOKS {
            let (n_before, motion) = (self.members.len(), Cell::new(Motion::Still));
            looked = self.look(|member| {
                member.send_signal(libc::SIGSTOP)?;
                motion.set(motion.get().max(who::motion(member.pid)?));
                Ok(())
            });
            let are_still =
                motion.get() == Motion::Still || motion.get() == Motion::Waits && n_looks >= MAX_LOOKS_AT_WAITING;
            if are_still && looked.is_ok() && self.members.len() == n_before {
                break;
            }
            if n_looks < MAX_LOOKS {
                thread::sleep(FIRST_PAUSE * (1 << (n_looks - 1)));
            }
        }
        self.is_short |= looked.is_err();
    }

    /// Lets them go on, children first: so no parent finds its child stopped.
    pub(super) fn thaw(&mut self) {
        self.send(libc::SIGCONT, |_| true);
    }

    pub(super) fn signal(&mut self, signal: i32) {
        self.send(signal, |_| true);
    }

    /// Signals those who are neither a child nor in a group that was signalled.
    pub(super) fn signal_others(&mut self, signal: i32, child: Option<u32>, group: Option<u32>) {
        let has_heard = |pid| child == Some(pid) || group.is_some_and(|group| is_in_group(pid, group));
        self.send(signal, |pid| !has_heard(pid));
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    /// Those in our own group who act on a signal: they neither ignore it nor are stopped.
    pub(super) fn hearing(&self, signal: i32) -> impl Iterator<Item = &Member> {
        let hears = move |member: &&Member| {
            is_in_own_group(member.pid) && !who::ignores(member.pid, signal) && !is_stopped(member.pid)
        };
        self.members.iter().filter(hears)
    }

    /// Sends a signal to those who are meant, children first: so no parent that goes on finds its child stopped.
    fn send(&mut self, signal: i32, is_meant: impl Fn(u32) -> bool) {
        let is_short = |sent: io::Result<()>| sent.is_err_and(|error| is_shortage(&error));
        let mut n_pauses = MAX_PAUSES;
        for member in self.members.iter().rev().filter(|member| is_meant(member.pid)) {
            while is_short(member.send_signal(signal)) {
                if n_pauses == 0 {
                    self.is_short = true;
                    break;
                }
                // Another thread has taken the last descriptor. Who was stopped is to go on.
                n_pauses -= 1;
                thread::sleep(PAUSE);
            }
        }
    }

    /// Visits all, and finds their children.
    ///
    /// # Errors
    /// There were too few descriptors for all of them.
    fn look(&mut self, visit: impl Fn(&Member) -> io::Result<()>) -> io::Result<()> {
        let (mut idx, mut outcome) = (0, Ok(()));
        while let Some(member) = self.members.get(idx) {
            let visited = visit(member);
            let (found, is_all) = self.unknown_children_of(member);
            self.members.extend(found);
            for shortage in [is_all.err(), visited.err().filter(is_shortage)].into_iter().flatten() {
                outcome = Err(shortage);
            }
            idx += 1;
        }
        outcome
    }

    /// Those who are found, and whether there were too few descriptors to find all.
    fn unknown_children_of(&self, parent: &Member) -> (Vec<Member>, io::Result<()>) {
        let is_known = |pid: &u32| self.members.iter().any(|member| member.pid == *pid);
        let mut pids = match who::children_of(parent.pid) {
            Ok(pids) => pids,
            Err(error) => return (Vec::new(), Err(error)),
        };
        pids.retain(|pid| !is_known(pid));
        if pids.is_empty() {
            return (Vec::new(), Ok(()));
        }
        let (children, is_all) = Member::open_all(&pids, |found| found.parent == parent.pid);
        // The number of one that was reaped may be another's by now, and these may be that one's.
        match parent.is_reaped() {
            Ok(true) => (Vec::new(), is_all),
            is_reaped => (children, is_all.and(is_reaped.map(drop))),
        }
    }
}

fn is_stopped(pid: u32) -> bool {
    who::is(pid).is_ok_and(|found| found.is_some_and(|found| found.is_stopped))
}
