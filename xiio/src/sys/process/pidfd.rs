//! The descriptors of Linux that stand for processes. See `pidfd_open(2)`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::c_int;

use super::{look_at_child, to_pid};
use crate::sys::{Call, call, check};

/// `P_PIDFD` of `waitid(2)`, which not every `libc` names.
const BY_DESCRIPTOR: libc::idtype_t = 3;

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
            check_allowed()?;
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

    /// The signal that has stopped this child, if it is stopped now; not known before Linux 5.4.
    pub(crate) fn stopped_by(&self) -> Option<c_int> {
        let fd = self.0.as_raw_fd().unsigned_abs();
        look_at_child(BY_DESCRIPTOR, fd, libc::WSTOPPED).ok()?
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(target_os = "linux")]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it may fail")]
fn check_allowed() -> io::Result<()> {
    Ok(())
}

/// The filter of an app ends the process at a call that the C library does not make itself, as before Android 12 this one.
#[cfg(target_os = "android")]
fn check_allowed() -> io::Result<()> {
    // SAFETY: the name ends with a zero; nothing is loaded, and what is found is not called.
    let function = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"pidfd_open".as_ptr()) };
    if function.is_null() { Err(unsupported()) } else { Ok(()) }
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
