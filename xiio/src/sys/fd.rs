//! Asking a descriptor, and making it non-blocking.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use super::{Call, call, check, retry};

/// One of the two ways in which a descriptor can be ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    Read,
    Write,
}

impl Direction {
    pub(crate) fn opposite(self) -> Self {
        match self {
            Self::Read => Self::Write,
            Self::Write => Self::Read,
        }
    }

    /// What one waits for who waits for this.
    pub(crate) fn describe(self, fd: RawFd) -> String {
        match self {
            Self::Read => format!("fd {fd} to be readable"),
            Self::Write => format!("fd {fd} to be writable"),
        }
    }
}

/// Whether an operation in this direction would not block now: there is data, room, the end of the file or an error to
/// fetch. Regular files always are. See `poll(2)`.
///
/// Urgent data is not asked for: `read(2)` passes it over, and would block where there is nothing else.
///
/// # Errors
/// `EBADF` for a descriptor that is not open.
pub(crate) fn is_ready(fd: BorrowedFd<'_>, direction: Direction) -> io::Result<bool> {
    let events = match direction {
        Direction::Read => libc::POLLIN,
        Direction::Write => libc::POLLOUT,
    };
    let mut ask = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    // SAFETY: one `pollfd`, which lives until the call returns.
    retry(|| check(unsafe { libc::poll(&raw mut ask, 1, 0) }))?;
    if ask.revents & libc::POLLNVAL != 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    Ok(ask.revents != 0)
}

/// Makes operations on the open file fail with `WouldBlock` instead of waiting. See `FIONBIO` in `ioctl_tty(2)`, which is
/// one call where `fcntl(2)` takes two.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_fionbio(fd, true)
}

/// Makes operations on the open file wait.
pub(crate) fn set_blocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_fionbio(fd, false)
}

fn set_fionbio(fd: BorrowedFd<'_>, is_on: bool) -> io::Result<()> {
    let mut is_on = libc::c_int::from(is_on);
    // SAFETY: the request reads one `int`, which lives until the call returns.
    call(Call::Change, || check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONBIO, &raw mut is_on) }))?;
    Ok(())
}
