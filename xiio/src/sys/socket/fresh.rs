//! Sockets as they are made: non-blocking, closed on exec, and without a signal when the other end is gone.
//!
//! Most systems do that in the call which makes them. Those of Apple do it after it: a program that another thread starts
//! in between inherits the socket.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::c_int;

use super::RawAddr;
use crate::sys::{Call, call, check, retry};

/// What `send(2)` is told so that a stream which the other end has closed is an error and no signal.
#[cfg(not(target_vendor = "apple"))]
pub(crate) const NO_SIGNAL: c_int = libc::MSG_NOSIGNAL;
/// Nothing: the socket itself is told, by `SO_NOSIGPIPE`. `std` does so for those that it makes.
#[cfg(target_vendor = "apple")]
pub(crate) const NO_SIGNAL: c_int = 0;

#[cfg(not(target_vendor = "apple"))]
const FLAGS: c_int = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;

pub(super) fn stream(family: c_int) -> io::Result<OwnedFd> {
    #[cfg(not(target_vendor = "apple"))]
    let kind = libc::SOCK_STREAM | FLAGS;
    #[cfg(target_vendor = "apple")]
    let kind = libc::SOCK_STREAM;
    // SAFETY: takes its arguments by value and touches no memory of ours.
    let fd = call(Call::Make, || check(unsafe { libc::socket(family, kind, 0) }))?;
    // SAFETY: a result that is no error is a fresh descriptor owned by no one else.
    prepared(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(super) fn accept(listener: BorrowedFd<'_>, addr: &mut RawAddr) -> io::Result<OwnedFd> {
    let fd = call(Call::Make, || retry(|| check(accept_raw(listener.as_raw_fd(), addr))))?;
    // SAFETY: a result that is no error is a fresh descriptor owned by no one else.
    prepared(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(not(target_vendor = "apple"))]
fn accept_raw(listener: c_int, addr: &mut RawAddr) -> c_int {
    // SAFETY: the storage has room for any address, and the call is told how much.
    unsafe { libc::accept4(listener, addr.as_mut_ptr(), &raw mut addr.len, FLAGS) }
}

#[cfg(target_vendor = "apple")]
fn accept_raw(listener: c_int, addr: &mut RawAddr) -> c_int {
    // SAFETY: the storage has room for any address, and the call is told how much.
    unsafe { libc::accept(listener, addr.as_mut_ptr(), &raw mut addr.len) }
}

#[cfg(not(target_vendor = "apple"))]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it may fail")]
fn prepared(socket: OwnedFd) -> io::Result<OwnedFd> {
    Ok(socket)
}

#[cfg(target_vendor = "apple")]
fn prepared(socket: OwnedFd) -> io::Result<OwnedFd> {
    use std::os::fd::AsFd;

    let is_on: c_int = 1;
    // SAFETY: the request takes no argument.
    call(Call::Change, || check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIOCLEX) }))?;
    crate::sys::fd::set_nonblocking(socket.as_fd())?;
    super::setup::tell(socket.as_fd(), (libc::SOL_SOCKET, libc::SO_NOSIGPIPE), &is_on)?;
    Ok(socket)
}
