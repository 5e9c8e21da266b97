//! Reading and writing what other processes use too, without waiting and without a change of its flags.
//!
//! Whether it is ready has been asked before. Another process may have been faster since, and the file itself may wait
//! then. So each kind of file is asked in a way that does not:
//!
//! | | |
//! |---|---|
//! | sockets | `MSG_DONTWAIT` |
//! | pipes, and what else has it | `RWF_NOWAIT` of `preadv2(2)` and `pwritev2(2)`; Linux 6.5 for pipes |
//! | named pipes, terminals, pipes of older kernels | `O_NONBLOCK` on an open file of our own, by `/proc/self/fd` |
//! | regular files, directories, disks | nothing: they are always ready, and nobody can be faster |
//!
//! What is left waits when somebody is faster: see [`crate::io::read()`]. So does a file of the kernel that waits for data and looks regular,
//! such as `/proc/kmsg`: nothing tells it from the others.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use super::socket::fresh::NO_SIGNAL;
use super::{Call, call, check_len, portion, retry};

/// How a file is asked.
enum Kind {
    Socket,
    Pipe,
    /// A device, or what has no place in the file system.
    Other,
    AlwaysReady,
}

impl Kind {
    fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        // SAFETY: the descriptor is open as long as it is borrowed, and this file does not close it.
        let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd.as_raw_fd()) });
        let kind = call(Call::Look, || file.metadata())?.file_type();
        Ok(match kind {
            kind if kind.is_socket() => Self::Socket,
            kind if kind.is_fifo() => Self::Pipe,
            kind if kind.is_file() || kind.is_dir() || kind.is_block_device() => Self::AlwaysReady,
            _ => Self::Other,
        })
    }
}

/// Whether `poll(2)` calls the file ready whatever it is asked for.
pub(crate) fn is_always_ready(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Kind::of(fd).map(|kind| matches!(kind, Kind::AlwaysReady))
}

/// Reads what is there. `WouldBlock` when there is nothing.
pub(crate) fn read(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    let len = portion(fd, buf.len());
    let buf = &mut buf[..len];
    match Kind::of(fd)? {
        Kind::AlwaysReady => attempt(fd, || read_file(fd, buf)),
        Kind::Socket => attempt(fd, || {
            // SAFETY: the buffer is ours for its whole length.
            check_len(unsafe { libc::recv(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), libc::MSG_DONTWAIT) })
        }),
        kind => match attempt(fd, || read_flagged(fd, buf)) {
            Err(error) if is_unsupported(&error) => match own_file(fd, &kind, OpenOptions::new().read(true)) {
                Some(own) => attempt(fd, || read_file(own.as_fd(), buf)),
                None => attempt(fd, || read_file(fd, buf)),
            },
            result => result,
        },
    }
}

/// Writes what there is room for. `WouldBlock` when there is none.
pub(crate) fn write(fd: BorrowedFd<'_>, buf: &[u8]) -> io::Result<usize> {
    let buf = &buf[..portion(fd, buf.len())];
    match Kind::of(fd)? {
        Kind::AlwaysReady => attempt(fd, || write_file(fd, buf)),
        Kind::Socket => attempt(fd, || {
            let flags = libc::MSG_DONTWAIT | NO_SIGNAL;
            // SAFETY: the buffer may be read for its whole length.
            check_len(unsafe { libc::send(fd.as_raw_fd(), buf.as_ptr().cast(), buf.len(), flags) })
        }),
        kind => match attempt(fd, || write_flagged(fd, buf)) {
            Err(error) if is_unsupported(&error) => match own_file(fd, &kind, OpenOptions::new().write(true)) {
                Some(own) => attempt(fd, || write_file(own.as_fd(), buf)),
                // A pipe that is ready has that much room, see `pipe(7)`.
                None => attempt(fd, || write_file(fd, &buf[..buf.len().min(libc::PIPE_BUF)])),
            },
            result => result,
        },
    }
}

fn attempt<T>(fd: BorrowedFd<'_>, mut make: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    retry(|| call(Call::Attempt(fd), &mut make))
}

fn read_file(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is ours for its whole length.
    check_len(unsafe { libc::read(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len()) })
}

fn write_file(fd: BorrowedFd<'_>, buf: &[u8]) -> io::Result<usize> {
    // SAFETY: the buffer may be read for its whole length.
    check_len(unsafe { libc::write(fd.as_raw_fd(), buf.as_ptr().cast(), buf.len()) })
}

/// The place that is the file's own: the offset -1, in two words of the machine. With 64 bits the first is all of it.
#[cfg(target_os = "linux")]
const OWN_PLACE: libc::c_long = -1;

/// A word of the machine as well: an `int` on the stack has its upper half from whoever was there before.
#[cfg(target_os = "linux")]
const NOWAIT: libc::c_long = libc::RWF_NOWAIT as libc::c_long;

/// `preadv2(2)` with `RWF_NOWAIT`. Not every `libc` has a function for it.
#[cfg(target_os = "linux")]
fn read_flagged(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    let part = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    let (fd, number) = (fd.as_raw_fd(), libc::SYS_preadv2);
    // SAFETY: one part, which lives until the call returns, as does the buffer that it names; that is ours for its length.
    let n_bytes = unsafe { libc::syscall(number, fd, &raw const part, 1_usize, OWN_PLACE, OWN_PLACE, NOWAIT) };
    check_len(n_bytes as libc::ssize_t)
}

/// `pwritev2(2)` with `RWF_NOWAIT`.
#[cfg(target_os = "linux")]
fn write_flagged(fd: BorrowedFd<'_>, buf: &[u8]) -> io::Result<usize> {
    // It is only read.
    let part = libc::iovec { iov_base: buf.as_ptr().cast_mut().cast(), iov_len: buf.len() };
    let (fd, number) = (fd.as_raw_fd(), libc::SYS_pwritev2);
    // SAFETY: one part, which lives until the call returns, as does the buffer that it names, which may be read.
    let n_bytes = unsafe { libc::syscall(number, fd, &raw const part, 1_usize, OWN_PLACE, OWN_PLACE, NOWAIT) };
    check_len(n_bytes as libc::ssize_t)
}

#[cfg(not(target_os = "linux"))]
fn read_flagged(_: BorrowedFd<'_>, _: &mut [u8]) -> io::Result<usize> {
    Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
}

#[cfg(not(target_os = "linux"))]
fn write_flagged(_: BorrowedFd<'_>, _: &[u8]) -> io::Result<usize> {
    Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
}

/// Whether the file or the kernel does not know the flag, or a filter forbids the call.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EPERM))
}

/// The same pipe or terminal once more, non-blocking; `None` where it cannot be had.
///
/// It is closed after one operation: opened for longer it would be an end of the pipe that others wait to see closed.
fn own_file(fd: BorrowedFd<'_>, kind: &Kind, options: &mut OpenOptions) -> Option<File> {
    let number = terminal_number(fd);
    if !matches!(kind, Kind::Pipe) && number.is_none() {
        return None;
    }
    let options = options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    let path = if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" };
    let own = call(Call::Look, || options.open(format!("{path}/{}", fd.as_raw_fd()))).ok()?;
    // `/dev/tty` is another terminal in another session.
    (terminal_number(own.as_fd()) == number).then_some(own)
}

/// Which terminal it is. `None` for what is no terminal, and for the master of one: to open that again would make another
/// terminal.
#[cfg(target_os = "linux")]
fn terminal_number(fd: BorrowedFd<'_>) -> Option<libc::c_uint> {
    let mut number: libc::c_uint = 0;
    // SAFETY: the request writes one `unsigned int`, which lives until the call returns.
    let is_master = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGPTN, &raw mut number) } == 0;
    // SAFETY: as above.
    let is_terminal = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGDEV, &raw mut number) } == 0;
    (is_terminal && !is_master).then_some(number)
}

#[cfg(not(target_os = "linux"))]
fn terminal_number(_: BorrowedFd<'_>) -> Option<libc::c_uint> {
    None
}
