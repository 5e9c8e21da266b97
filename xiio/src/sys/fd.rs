//! Asking a descriptor, and making it non-blocking.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
#[cfg(any(target_vendor = "apple", test))]
use std::ptr;

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

    /// The text for a task that waits for this direction.
    pub(crate) fn describe(self, fd: RawFd) -> String {
        match self {
            Self::Read => format!("fd {fd} to be readable"),
            Self::Write => format!("fd {fd} to be writable"),
        }
    }
}

/// Tells the other end of a socket that no more comes; nothing for what has no such end, or none any more. See `shutdown(2)`.
///
/// # Errors
/// `EBADF` for a descriptor that is not open.
pub(crate) fn end_writing(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes its arguments by value and touches no memory of ours.
    match check(unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_WR) }) {
        Err(error) if ![libc::ENOTSOCK, libc::ENOTCONN, libc::EOPNOTSUPP].map(Some).contains(&error.raw_os_error()) => {
            Err(error)
        }
        _ => Ok(()),
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
    if ask.revents & libc::POLLNVAL != 0 { is_ready_though_invalid(fd, direction) } else { Ok(ask.revents != 0) }
}

#[cfg(not(target_vendor = "apple"))]
fn is_ready_though_invalid(_: BorrowedFd<'_>, _: Direction) -> io::Result<bool> {
    Err(io::Error::from_raw_os_error(libc::EBADF))
}

/// The `poll(2)` of Apple's systems knows no devices, so no terminals.
#[cfg(target_vendor = "apple")]
fn is_ready_though_invalid(fd: BorrowedFd<'_>, direction: Direction) -> io::Result<bool> {
    is_selected(fd, direction)
}

/// As [`is_ready`], by `select(2)`, which has no room for large numbers.
#[cfg(any(target_vendor = "apple", test))]
fn is_selected(fd: BorrowedFd<'_>, direction: Direction) -> io::Result<bool> {
    let number = fd.as_raw_fd();
    if usize::try_from(number).is_ok_and(|number| number >= libc::FD_SETSIZE) {
        let text = format!("this system cannot wait for a device as fd {number}, only below {}", libc::FD_SETSIZE);
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    let select = || {
        // SAFETY: integers, for which zero is a value: the empty set.
        let mut set: libc::fd_set = unsafe { std::mem::zeroed() };
        // SAFETY: the set is ours and has a place for the number.
        unsafe { libc::FD_SET(number, &raw mut set) };
        let (read, write) = match direction {
            Direction::Read => (&raw mut set, ptr::null_mut()),
            Direction::Write => (ptr::null_mut(), &raw mut set),
        };
        let mut no_time = libc::timeval { tv_sec: 0, tv_usec: 0 };
        // SAFETY: the set and the time live until the call returns; it looks at no number that is larger.
        check(unsafe { libc::select(number + 1, read, write, ptr::null_mut(), &raw mut no_time) })
    };
    Ok(retry(select)? > 0)
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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;

    use super::{Direction, is_ready, is_selected};

    #[test]
    fn poll_and_select_say_the_same() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        for ask in [is_ready, is_selected] {
            assert!(!ask(reader.as_fd(), Direction::Read).unwrap());
            assert!(ask(writer.as_fd(), Direction::Write).unwrap());
        }
        writer.write_all(b"x").unwrap();
        for ask in [is_ready, is_selected] {
            assert!(ask(reader.as_fd(), Direction::Read).unwrap());
        }
    }
}
