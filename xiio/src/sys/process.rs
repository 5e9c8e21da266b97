//! Processes: what stands for one, who there is, and signals to them and their groups.
//!
//! | | a descriptor | who there is |
//! |---|---|---|
//! | Linux, Android | `pidfd_open(2)` | `/proc` |
//! | FreeBSD | a `kqueue(2)` that watches the one process | `sysctl(3)` |
//! | macOS | the same | `libproc.h` |
//!
//! Each system has a file of each, with the same names in it: [`PidFd`]; [`who`].

#[cfg(any(target_os = "freebsd", target_os = "macos"))]
mod kqueue;
pub(crate) mod leader;
pub(crate) mod parent;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod pidfd;
pub(crate) mod who;

#[cfg(any(target_os = "freebsd", target_os = "macos"))]
pub(crate) use kqueue::PidFd;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) use pidfd::PidFd;

use std::io;

use libc::{c_int, pid_t};

use super::check;

impl PidFd {
    /// Whether the process has been reaped, so that its number may be another's.
    pub(crate) fn is_reaped(&self) -> bool {
        self.send_signal(0).is_err_and(|error| error.raw_os_error() == Some(libc::ESRCH))
    }
}

/// Sends a signal to every process of a group.
///
/// The number must be pinned: its leader has not been reaped, or a member is known to live.
pub(crate) fn signal_group(group: u32, signal: c_int) -> io::Result<()> {
    let group = to_pid(group)?;
    // SAFETY: takes its arguments by value and touches no memory of ours.
    check(unsafe { libc::kill(-group, signal) })?;
    Ok(())
}

/// Whether a process is in the group of its own number. The number must be pinned.
pub(crate) fn leads_group(pid: u32) -> bool {
    is_in_group(pid, pid)
}

/// Whether a process is in a group.
pub(crate) fn is_in_group(pid: u32, group: u32) -> bool {
    group_of(pid).is_ok_and(|found| found.unsigned_abs() == group)
}

/// Whether a process is in the group of this one. By the system and not by `/proc`, which may be another namespace's, or not there.
pub(crate) fn is_in_own_group(pid: u32) -> bool {
    group_of(pid).is_ok_and(|group| group == own_group())
}

/// Whether a process is not known to be in another group.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn may_be_in_group(pid: u32, group: u32) -> bool {
    match group_of(pid) {
        Ok(found) => found.unsigned_abs() == group,
        // A policy may forbid to ask.
        Err(error) => error.raw_os_error() != Some(libc::ESRCH),
    }
}

fn group_of(pid: u32) -> io::Result<pid_t> {
    let pid = to_pid(pid)?;
    // SAFETY: takes a number.
    check(unsafe { libc::getpgid(pid) })
}

/// The process group of this process.
pub(crate) fn own_group() -> pid_t {
    // SAFETY: has no contract and cannot fail.
    unsafe { libc::getpgrp() }
}

/// The number of a process, positive: zero and negative ones mean groups.
fn to_pid(pid: u32) -> io::Result<pid_t> {
    pid_t::try_from(pid).ok().filter(|pid| *pid > 0).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// What has become of a child of ours, if anything that `options` names has. It is not reaped.
///
/// # Errors
/// `ECHILD` of who is no child, or was reaped.
fn look_at_child(kind: libc::idtype_t, id: libc::id_t, options: c_int) -> io::Result<Option<c_int>> {
    // SAFETY: integers, pointers and a union of such, for which zero is a value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = options | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is ours to be written to.
    check(unsafe { libc::waitid(kind, id, &raw mut info, options) })?;
    // SAFETY: as `waitid` has filled it in, or zero where there is nothing to tell.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as above.
    Ok((pid != 0).then(|| unsafe { info.si_status() }))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};

    use super::{PidFd, own_group, signal_group, who};
    use crate::sys::fd::{Direction, is_ready};

    #[test]
    fn signal_zero_reaches_this_process_and_its_group() {
        PidFd::check_supported().unwrap();
        PidFd::open(std::process::id()).unwrap().send_signal(0).unwrap();
        signal_group(own_group().unsigned_abs(), 0).unwrap();
    }

    #[test]
    fn numbers_of_no_process_are_refused() {
        assert!(PidFd::open(0).is_err());
        assert!(PidFd::open(u32::MAX).is_err());
        assert!(signal_group(0, 0).is_err());
    }

    #[test]
    fn a_child_is_found_until_it_is_reaped() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let (pid, us) = (child.id(), std::process::id());
        let found = who::is(pid).unwrap().unwrap();
        assert_eq!((found.parent, found.group, found.is_running), (us, own_group().unsigned_abs(), true));
        assert!(who::in_group(found.group).unwrap().contains(&pid) && who::children_of(us).unwrap().contains(&pid));
        assert!(!who::ignores(pid, libc::SIGTERM));
        let before = PidFd::open(pid).unwrap();
        assert!(!is_ready(before.as_fd(), Direction::Read).unwrap());

        drop(child.stdin.take());
        while !is_ready(before.as_fd(), Direction::Read).unwrap() {
            std::thread::yield_now();
        }
        // It is a child that has ended, also for a look that comes late.
        before.send_signal(0).unwrap();
        assert!(is_ready(PidFd::open(pid).unwrap().as_fd(), Direction::Read).unwrap());
        assert!(who::is(pid).unwrap().is_none_or(|found| !found.is_running));

        child.wait().unwrap();
        for gone in [before.send_signal(0), PidFd::open(pid).map(drop)] {
            assert_eq!(gone.unwrap_err().raw_os_error(), Some(libc::ESRCH));
        }
    }
}
