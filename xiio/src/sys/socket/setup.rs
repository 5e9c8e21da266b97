//! What is set up before a socket is in use: its options and its address. And who is at the other end.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::SocketAddr as UnixAddr;

use super::super::{Call, call, check};
use super::{RawAddr, len_of};

/// An option whose value is an integer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Setting {
    ReuseAddr,
    ReusePort,
    SendBuffer,
    RecvBuffer,
    KeepAlive,
    /// Seconds without data before the first probe.
    KeepAliveIdle,
    /// Seconds between two probes.
    KeepAliveInterval,
    /// Probes without an answer that end the connection.
    KeepAliveProbes,
}

impl Setting {
    fn level_and_name(self) -> (libc::c_int, libc::c_int) {
        #[cfg(any(target_os = "macos", target_os = "ios"))]
        use libc::TCP_KEEPALIVE as TCP_KEEPIDLE;
        #[cfg(not(any(target_os = "macos", target_os = "ios")))]
        use libc::TCP_KEEPIDLE;
        match self {
            Self::ReuseAddr => (libc::SOL_SOCKET, libc::SO_REUSEADDR),
            Self::ReusePort => (libc::SOL_SOCKET, libc::SO_REUSEPORT),
            Self::SendBuffer => (libc::SOL_SOCKET, libc::SO_SNDBUF),
            Self::RecvBuffer => (libc::SOL_SOCKET, libc::SO_RCVBUF),
            Self::KeepAlive => (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
            Self::KeepAliveIdle => (libc::IPPROTO_TCP, TCP_KEEPIDLE),
            Self::KeepAliveInterval => (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
            Self::KeepAliveProbes => (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
        }
    }
}

/// Sets an option. What is too large for the system's integer is the largest.
pub(crate) fn set(fd: BorrowedFd<'_>, setting: Setting, value: u64) -> io::Result<()> {
    let value = libc::c_int::try_from(value).unwrap_or(libc::c_int::MAX);
    tell(fd, setting.level_and_name(), &value)
}

/// The value of an option.
pub(crate) fn get(fd: BorrowedFd<'_>, setting: Setting) -> io::Result<u32> {
    let mut value: libc::c_int = 0;
    ask(fd, setting.level_and_name(), &mut value)?;
    Ok(value.unsigned_abs())
}

/// An integer of the socket itself, which may be no stream, or no socket.
pub(crate) fn number(fd: BorrowedFd<'_>, name: libc::c_int) -> Option<libc::c_int> {
    let mut value: libc::c_int = 0;
    ask(fd, (libc::SOL_SOCKET, name), &mut value).ok().map(|()| value)
}

/// Fills `value`, an integer or a structure of integers, by `getsockopt(2)`.
pub(super) fn ask<T: Copy>(
    fd: BorrowedFd<'_>,
    (level, name): (libc::c_int, libc::c_int),
    value: &mut T,
) -> io::Result<()> {
    let mut len = len_of::<T>();
    call(Call::Look, || {
        // SAFETY: the value is ours, and the call writes no more than the length says.
        check(unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut *value).cast(), &raw mut len) })
    })?;
    Ok(())
}

/// Hands `value`, an integer or a structure of integers, to `setsockopt(2)`.
pub(super) fn tell<T: Copy>(
    fd: BorrowedFd<'_>,
    (level, name): (libc::c_int, libc::c_int),
    value: &T,
) -> io::Result<()> {
    call(Call::Change, || {
        // SAFETY: the value lives until the call returns, and is as long as it says.
        check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const *value).cast(), len_of::<T>()) })
    })?;
    Ok(())
}

/// `bind(2)`.
pub(crate) fn bind(fd: BorrowedFd<'_>, addr: &SocketAddr) -> io::Result<()> {
    bind_raw(fd, &RawAddr::from_ip(addr))
}

/// `bind(2)` for a socket within this machine.
pub(crate) fn bind_unix(fd: BorrowedFd<'_>, addr: &UnixAddr) -> io::Result<()> {
    bind_raw(fd, &RawAddr::from_unix(addr)?)
}

fn bind_raw(fd: BorrowedFd<'_>, addr: &RawAddr) -> io::Result<()> {
    call(Call::Make, || {
        // SAFETY: the address lives until the call returns, and is as long as it says.
        check(unsafe { libc::bind(fd.as_raw_fd(), addr.as_ptr(), addr.len) })
    })?;
    Ok(())
}

/// Who is at the other end of a socket within this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) uid: libc::uid_t,
    pub(crate) gid: libc::gid_t,
    /// Where the system tells.
    pub(crate) pid: Option<libc::pid_t>,
}

/// Who was at the other end when it connected.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn peer(fd: BorrowedFd<'_>) -> io::Result<Peer> {
    let mut peer = libc::ucred { pid: 0, uid: libc::uid_t::MAX, gid: libc::gid_t::MAX };
    ask(fd, (libc::SOL_SOCKET, libc::SO_PEERCRED), &mut peer)?;
    if peer.uid == libc::uid_t::MAX {
        // What Linux says of a socket that has no peer.
        return Err(io::ErrorKind::NotConnected.into());
    }
    Ok(Peer { uid: peer.uid, gid: peer.gid, pid: Some(peer.pid).filter(|pid| *pid != 0) })
}

/// Who was at the other end when it connected.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn peer(fd: BorrowedFd<'_>) -> io::Result<Peer> {
    let (mut uid, mut gid) = (0, 0);
    call(Call::Look, || {
        // SAFETY: both are ours and are written by the call.
        check(unsafe { libc::getpeereid(fd.as_raw_fd(), &raw mut uid, &raw mut gid) })
    })?;
    Ok(Peer { uid, gid, pid: None })
}
