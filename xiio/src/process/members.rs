//! Those who are to end with a child: who is in its group, and what stands for one of them.

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;

use super::stopped::Process;
use crate::sys::fd::{Direction, is_ready};
use crate::sys::process::{PidFd, who};
use crate::sys::unless_short;

/// How many descriptors are left to others: a look at a process takes one or two, also that which finds its children.
const RESERVE: usize = 4;

/// A process that is to end with a child, or that child.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) pid: u32,
    handle: Handle,
}

#[derive(Debug)]
enum Handle {
    Child(Rc<Process>),
    Open(PidFd),
    /// There are too few descriptors to hold one of each. It is opened for a moment to be signalled, and is the same process as before if it
    /// has started at the same time.
    Numbered {
        started: u64,
    },
}

impl Member {
    pub(super) fn child(process: &Rc<Process>) -> Self {
        Self { pid: process.pid, handle: Handle::Child(Rc::clone(process)) }
    }

    /// Those of `pids` who are what `is_meant` says, and whether there were too few descriptors to find that out of all.
    pub(super) fn open_all(pids: &[u32], is_meant: impl Fn(&who::Entry) -> bool) -> (Vec<Self>, io::Result<()>) {
        let (mut members, mut is_all) = (Vec::new(), Ok(()));
        for (&pid, pidfd) in pids.iter().zip(open_leaving_some(pids)) {
            match Self::new(pid, pidfd, &is_meant) {
                Ok(member) => members.extend(member),
                Err(error) => is_all = Err(error),
            }
        }
        (members, is_all)
    }

    fn new(pid: u32, pidfd: Option<PidFd>, is_meant: impl Fn(&who::Entry) -> bool) -> io::Result<Option<Self>> {
        // The number may have gone to another process in between; what the descriptor stands for stays the same.
        let Some(found) = unless_short(who::is(pid))?.flatten().filter(is_meant) else { return Ok(None) };
        let handle = match (pidfd, found.started) {
            (Some(pidfd), _) => Handle::Open(pidfd),
            (None, Some(started)) => Handle::Numbered { started },
            (None, None) => return Err(io::Error::from_raw_os_error(libc::EMFILE)),
        };
        Ok(Some(Self { pid, handle }))
    }

    /// What stands for it, and becomes readable when it ends.
    pub(super) fn descriptor(&self) -> Option<&PidFd> {
        match &self.handle {
            Handle::Child(process) => Some(&process.pidfd),
            Handle::Open(pidfd) => Some(pidfd),
            Handle::Numbered { .. } => None,
        }
    }

    /// # Errors
    /// `ESRCH` when it was reaped, and a shortage.
    pub(super) fn send_signal(&self, signal: i32) -> io::Result<()> {
        match self.descriptor() {
            Some(pidfd) => pidfd.send_signal(signal),
            None => {
                // Before the look: so it stands for the one who is seen there, or an earlier one, and that is none.
                let pidfd = PidFd::open(self.pid)?;
                match self.entry()? {
                    Some(_) => pidfd.send_signal(signal),
                    None => Err(io::Error::from_raw_os_error(libc::ESRCH)),
                }
            }
        }
    }

    /// Whether it was reaped, so that its number may be another's.
    pub(super) fn is_reaped(&self) -> io::Result<bool> {
        match self.descriptor() {
            Some(pidfd) => Ok(pidfd.is_reaped()),
            None => Ok(self.entry()?.is_none()),
        }
    }

    /// Whether one without a descriptor has ended. Not, as long as that cannot be found out.
    pub(super) fn has_ended(&self) -> bool {
        self.entry().is_ok_and(|found| found.is_none_or(|found| !found.is_running))
    }

    /// Whether it is known that it has not ended.
    pub(super) fn runs(&self) -> bool {
        match self.descriptor() {
            Some(pidfd) => is_ready(pidfd.as_fd(), Direction::Read).is_ok_and(|has_ended| !has_ended),
            None => self.entry().is_ok_and(|found| found.is_some_and(|found| found.is_running)),
        }
    }

    /// What is known of one without a descriptor, if it is still there.
    fn entry(&self) -> io::Result<Option<who::Entry>> {
        let Handle::Numbered { started } = self.handle else { return Ok(None) };
        Ok(unless_short(who::is(self.pid))?.flatten().filter(|found| found.started == Some(started)))
    }
}

/// A descriptor for each that is there, as long as a few are left then.
fn open_leaving_some(pids: &[u32]) -> Vec<Option<PidFd>> {
    let own = std::process::id();
    let reserve: io::Result<Vec<PidFd>> = (0..RESERVE).map(|_| PidFd::open(own)).collect();
    pids.iter().map(|&pid| PidFd::open(pid).ok().filter(|_| reserve.is_ok())).collect()
}

/// The processes of a group that run: no zombies, which only wait for their parent.
///
/// # Errors
/// When it cannot be found out: there are no descriptors left, say.
pub(super) fn running_members(group: u32) -> io::Result<Vec<Member>> {
    let (members, is_all) = Member::open_all(&who::in_group(group)?, |found| found.is_running && found.group == group);
    is_all.map(|()| members)
}
