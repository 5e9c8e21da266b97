//! Descriptors that stand for processes, and signals to whole process groups. See `pidfd_open(2)`, `kill(2)`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{c_int, pid_t};

use super::{Call, call, check};

/// One process, also after it has ended and its number belongs to another. Readable when it has ended.
#[derive(Debug)]
pub(crate) struct PidFd(OwnedFd);

impl PidFd {
    /// For a process that is no other's yet: a child that was not reaped, say.
    ///
    /// # Errors
    /// `ESRCH` when there is no such process, `Unsupported` when the kernel is too old.
    pub(crate) fn open(pid: u32) -> io::Result<Self> {
        let pid = to_pid(pid)?;
        let open = || {
            // SAFETY: takes its arguments by value and touches no memory of ours.
            let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
            check(RawFd::try_from(fd).unwrap_or(-1))
        };
        let fd = call(Call::Make, open).map_err(|error| match error.raw_os_error() {
            // No permission is needed for it: this is the answer of a sandbox.
            Some(libc::EPERM) => unsupported(),
            _ => explain(error),
        })?;
        // SAFETY: a result that is no error is a fresh descriptor owned by no one else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self(fd))
    }

    /// Whether this kernel has such descriptors. To be asked before anything is started.
    ///
    /// # Errors
    /// `Unsupported` if not.
    pub(crate) fn check_supported() -> io::Result<()> {
        static IS_SUPPORTED: AtomicBool = AtomicBool::new(false);
        if !IS_SUPPORTED.load(Ordering::Relaxed) {
            Self::open(std::process::id())?;
            IS_SUPPORTED.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Sends a signal to this one process.
    ///
    /// # Errors
    /// `ESRCH` when it has been reaped, `EPERM`, `EINVAL` for a signal that does not exist.
    pub(crate) fn send_signal(&self, signal: c_int) -> io::Result<()> {
        let info = ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is open; without an info the kernel fills in one of its own.
        let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal, info, 0) };
        check(c_int::try_from(sent).unwrap_or(-1)).map_err(explain)?;
        Ok(())
    }
}

impl PidFd {
    /// The signal that has stopped this child, if it is stopped now; not known before Linux 5.4.
    pub(crate) fn stopped_by(&self) -> Option<c_int> {
        // SAFETY: integers, pointers and a union of such, for which zero is a value.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let options = libc::WSTOPPED | libc::WNOHANG | libc::WNOWAIT;
        let fd = self.0.as_raw_fd().unsigned_abs();
        // SAFETY: `info` is ours to be written to. Nothing is reaped.
        check(unsafe { libc::waitid(libc::P_PIDFD, fd, &raw mut info, options) }).ok()?;
        // SAFETY: as `waitid` has filled it in, or zero where nobody is stopped.
        let pid = unsafe { info.si_pid() };
        // SAFETY: as above.
        (pid != 0).then(|| unsafe { info.si_status() })
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn explain(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => unsupported(),
        _ => error,
    }
}

fn unsupported() -> io::Error {
    let text = "this kernel cannot watch processes: `pidfd_open` is missing (it came with Linux 5.3) or forbidden";
    io::Error::new(io::ErrorKind::Unsupported, text)
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
    // SAFETY: takes a number.
    to_pid(pid).is_ok_and(|pid| unsafe { libc::getpgid(pid) } == pid)
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

#[cfg(test)]
mod tests {
    use super::{PidFd, own_group, signal_group};

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
}
