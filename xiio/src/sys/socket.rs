//! Sockets, as far as `std::net` cannot do it without waiting: connecting, and taking clients and data.
//!
//! All of these but [`send_patiently`] repeat a call that a signal has interrupted, and none waits for a socket that is non-blocking.

pub(crate) mod fresh;
pub(crate) mod setup;

use std::io::{self, IoSlice, IoSliceMut};
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::time::Duration;

use super::{Call, call, check, check_len, portion, retry};

/// The kernel moves no more than this in one call, so a shorter transfer of a longer buffer proves nothing.
pub(crate) const MAX_TRANSFER: usize = 0x7fff_f000;

/// `IOV_MAX`: more buffers than that are refused.
const MAX_BUFFERS: usize = 1024;

/// Buffers of no more bytes than this are joined before they are sent.
const MAX_JOINED: usize = 1024;

/// The family of a stream socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Ip4,
    Ip6,
    Unix,
}

impl Family {
    pub(crate) fn of(addr: &SocketAddr) -> Self {
        if addr.is_ipv4() { Self::Ip4 } else { Self::Ip6 }
    }
}

/// A stream socket that is not connected: non-blocking, and closed on exec.
pub(crate) fn stream(family: Family) -> io::Result<OwnedFd> {
    let family = match family {
        Family::Ip4 => libc::AF_INET,
        Family::Ip6 => libc::AF_INET6,
        Family::Unix => libc::AF_UNIX,
    };
    fresh::stream(family)
}

/// Begins to connect, or asks how it goes: `WouldBlock` until the connection is there. See `connect(2)`.
pub(crate) fn connect(fd: BorrowedFd<'_>, addr: &SocketAddr) -> io::Result<()> {
    connect_raw(fd, &RawAddr::from_ip(addr))
}

/// As [`connect`]. `WouldBlock` with a Unix socket: the queue of the listener is full, and nothing tells when it is not.
pub(crate) fn connect_unix(fd: BorrowedFd<'_>, addr: &UnixAddr) -> io::Result<()> {
    connect_raw(fd, &RawAddr::from_unix(addr)?)
}

fn connect_raw(fd: BorrowedFd<'_>, addr: &RawAddr) -> io::Result<()> {
    // SAFETY: the address lives until the call returns, and is as long as it says.
    let connected = retry(|| check(unsafe { libc::connect(fd.as_raw_fd(), addr.as_ptr(), addr.len) }));
    match connected {
        Ok(_) => Ok(()),
        Err(error) => match error.raw_os_error() {
            Some(libc::EINPROGRESS | libc::EALREADY) => Err(io::ErrorKind::WouldBlock.into()),
            Some(libc::EISCONN) => Ok(()),
            _ => Err(error),
        },
    }
}

/// Whether it is a socket that gives all the bytes it has at once: one of TCP, or a Unix socket for streams.
///
/// `SO_TYPE` in `socket(7)` does not tell that alone: a stream of SCTP gives one packet at a time. What has an option of TCP is TCP, with
/// several paths or with one.
pub(crate) fn is_byte_stream(fd: BorrowedFd<'_>) -> bool {
    let is_tcp = || setup::ask(fd, (libc::IPPROTO_TCP, libc::TCP_NODELAY), &mut 0).is_ok();
    let is_unix = || own_address(fd.as_raw_fd()).is_ok_and(|addr| addr.family() == libc::AF_UNIX);
    setup::number(fd, libc::SO_TYPE) == Some(libc::SOCK_STREAM) && (is_tcp() || is_unix())
}

/// Whether it is a socket of this machine alone: a Unix socket, or one that is bound to a loopback address.
pub(crate) fn is_loopback(fd: RawFd) -> bool {
    let is_loopback = |addr: &RawAddr| addr.to_ip().is_ok_and(|addr| addr.ip().is_loopback());
    own_address(fd).is_ok_and(|addr| addr.family() == libc::AF_UNIX || is_loopback(&addr))
}

/// See `getsockname(2)`.
fn own_address(fd: RawFd) -> io::Result<RawAddr> {
    let mut addr = RawAddr::new();
    call(Call::Look, || {
        // SAFETY: the storage has room for any address, and the call is told how much.
        check(unsafe { libc::getsockname(fd, addr.as_mut_ptr(), &raw mut addr.len) })
    })?;
    Ok(addr)
}

/// How many connections may wait to be accepted; `std` asks for 128.
pub(crate) fn set_backlog(fd: BorrowedFd<'_>, n_waiting: libc::c_int) -> io::Result<()> {
    // SAFETY: takes its arguments by value and touches no memory of ours.
    call(Call::Change, || check(unsafe { libc::listen(fd.as_raw_fd(), n_waiting) }))?;
    Ok(())
}

/// `SO_LINGER`; a part of a second counts as a whole one.
pub(crate) fn set_linger(fd: BorrowedFd<'_>, linger: Option<Duration>) -> io::Result<()> {
    let seconds = linger.unwrap_or_default().as_nanos().div_ceil(1_000_000_000);
    let option = libc::linger {
        l_onoff: linger.is_some().into(),
        l_linger: libc::c_int::try_from(seconds).unwrap_or(libc::c_int::MAX),
    };
    setup::tell(fd, (libc::SOL_SOCKET, libc::SO_LINGER), &option)
}

/// What [`set_linger`] has set.
pub(crate) fn linger(fd: BorrowedFd<'_>) -> io::Result<Option<Duration>> {
    let mut option = libc::linger { l_onoff: 0, l_linger: 0 };
    setup::ask(fd, (libc::SOL_SOCKET, libc::SO_LINGER), &mut option)?;
    Ok((option.l_onoff != 0).then(|| Duration::from_secs(u64::from(option.l_linger.unsigned_abs()))))
}

/// Takes a client from a listener: non-blocking, and closed on exec.
pub(crate) fn accept(fd: BorrowedFd<'_>) -> io::Result<(OwnedFd, SocketAddr)> {
    let mut addr = RawAddr::new();
    let client = fresh::accept(fd, &mut addr)?;
    Ok((client, addr.to_ip()?))
}

/// Whether [`accept`] failed for a reason that lies with this one client, which is gone: the next one may be asked for.
///
/// `accept(2)` passes on what the network has reported for a client that is in the queue. `EPERM` may be a firewall's as well as that of
/// a filter which refuses the call for ever.
pub(crate) fn is_of_client(error: &io::Error) -> bool {
    const OF_CLIENT: &[libc::c_int] = &[
        libc::ECONNABORTED,
        libc::EPROTO,
        libc::ENOPROTOOPT,
        libc::ENETDOWN,
        libc::ENETUNREACH,
        libc::EHOSTDOWN,
        libc::EHOSTUNREACH,
        #[cfg(any(target_os = "linux", target_os = "android"))]
        libc::ENONET,
    ];
    error.raw_os_error().is_some_and(|code| OF_CLIENT.contains(&code))
}

/// What is called for a task does not wait, also where the socket is not non-blocking any more: that is a matter of the open file,
/// which another descriptor shares that was cloned or handed on.
const AT_ONCE: libc::c_int = libc::MSG_DONTWAIT;

/// `recv(2)`.
pub(crate) fn recv(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    recv_with(fd, buf, AT_ONCE)
}

/// [`recv`] that takes nothing.
pub(crate) fn peek(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    recv_with(fd, buf, AT_ONCE | libc::MSG_PEEK)
}

fn recv_with(fd: BorrowedFd<'_>, buf: &mut [u8], flags: libc::c_int) -> io::Result<usize> {
    let len = portion(fd, buf.len());
    // SAFETY: the buffer is ours for its whole length.
    retry(|| check_len(unsafe { libc::recv(fd.as_raw_fd(), buf.as_mut_ptr().cast(), len, flags) }))
}

/// What [`recv_message`] has placed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    pub(crate) n_bytes: usize,
    /// The sender has sent descriptors or credentials along, which were dropped. A stream is cut there: what follows is
    /// in the queue still.
    pub(crate) is_cut: bool,
}

/// `recvmsg(2)` without room for control messages.
pub(crate) fn recv_message(fd: BorrowedFd<'_>, bufs: &mut [IoSliceMut<'_>]) -> io::Result<Received> {
    // SAFETY: a message header of zeros is one without an address, buffers and control messages.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    // `IoSliceMut` has the layout of `iovec`, says `std`.
    message.msg_iov = bufs.as_mut_ptr().cast();
    message.msg_iovlen = bufs.len().min(MAX_BUFFERS) as _;
    // SAFETY: the header and the buffers that it names are ours until the call returns.
    let n_bytes = retry(|| check_len(unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, AT_ONCE) }))?;
    Ok(Received { n_bytes, is_cut: message.msg_flags & libc::MSG_CTRUNC != 0 })
}

/// `send(2)`; a stream that the other end has closed is an error and no signal.
pub(crate) fn send(fd: BorrowedFd<'_>, buf: &[u8]) -> io::Result<usize> {
    retry(|| send_with(fd, buf, AT_ONCE))
}

/// [`send`] that waits for room, if the socket blocks. A signal ends it with `Interrupted`: repeated, it would wait for the whole limit of
/// the socket again.
pub(crate) fn send_patiently(fd: BorrowedFd<'_>, buf: &[u8]) -> io::Result<usize> {
    call(Call::Wait, || send_with(fd, buf, 0))
}

fn send_with(fd: BorrowedFd<'_>, buf: &[u8], flags: libc::c_int) -> io::Result<usize> {
    let (len, flags) = (portion(fd, buf.len()), fresh::NO_SIGNAL | flags);
    // SAFETY: the buffer may be read for its whole length.
    check_len(unsafe { libc::send(fd.as_raw_fd(), buf.as_ptr().cast(), len, flags) })
}

/// Has a thread that waits in `accept(2)` return from it, with an error, where the system can do that to a listener. See `shutdown(2)`.
pub(crate) fn end_listening(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes its arguments by value and touches no memory of ours.
    check(unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_RDWR) }).map(drop)
}

/// [`send`] for several buffers, the bytes of a stream. Few are joined: to copy them takes less than the kernel takes for a
/// list.
pub(crate) fn send_vectored(fd: BorrowedFd<'_>, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    if bufs.len() <= MAX_BUFFERS && capacity(bufs) <= MAX_JOINED {
        send_joined(fd, bufs)
    } else {
        send_message(fd, bufs)
    }
}

fn send_joined(fd: BorrowedFd<'_>, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    let mut joined = [0; MAX_JOINED];
    let mut len = 0;
    for buf in bufs {
        joined[len..][..buf.len()].copy_from_slice(buf);
        len += buf.len();
    }
    send(fd, &joined[..len])
}

/// `sendmsg(2)`; a stream that the other end has closed is an error and no signal.
fn send_message(fd: BorrowedFd<'_>, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: a message header of zeros is one without an address, buffers and control messages.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    // `IoSlice` has the layout of `iovec`, says `std`; what it names is only read.
    message.msg_iov = bufs.as_ptr().cast_mut().cast();
    message.msg_iovlen = bufs.len().min(MAX_BUFFERS) as _;
    // SAFETY: the header lives and the buffers that it names may be read until the call returns.
    retry(|| check_len(unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, fresh::NO_SIGNAL | AT_ONCE) }))
}

/// How many bytes the buffers hold that one call looks at.
pub(crate) fn capacity<B: std::ops::Deref<Target = [u8]>>(bufs: &[B]) -> usize {
    // They may all be the same memory, so the sum has no bound.
    bufs.iter().take(MAX_BUFFERS).fold(0, |sum: usize, buf| sum.saturating_add(buf.len()))
}

/// An address in the form of the system calls.
struct RawAddr {
    bytes: Storage,
    len: libc::socklen_t,
}

/// Each variant begins with the family, at the same place.
#[repr(C)]
union Storage {
    any: libc::sockaddr_storage,
    ip4: libc::sockaddr_in,
    ip6: libc::sockaddr_in6,
    unix: libc::sockaddr_un,
}

fn len_of<T>() -> libc::socklen_t {
    mem::size_of::<T>() as libc::socklen_t
}

impl RawAddr {
    /// Room for any address.
    fn new() -> Self {
        // SAFETY: it is made of integers, for which zero is a value.
        let any: libc::sockaddr_storage = unsafe { mem::zeroed() };
        Self { bytes: Storage { any }, len: len_of::<libc::sockaddr_storage>() }
    }

    fn as_ptr(&self) -> *const libc::sockaddr {
        (&raw const self.bytes).cast()
    }

    fn as_mut_ptr(&mut self) -> *mut libc::sockaddr {
        (&raw mut self.bytes).cast()
    }

    fn from_ip(addr: &SocketAddr) -> Self {
        let mut raw = Self::new();
        // Every field that is not named stays zero.
        match addr {
            SocketAddr::V4(addr) => {
                raw.bytes.ip4.sin_family = libc::AF_INET as libc::sa_family_t;
                raw.bytes.ip4.sin_port = addr.port().to_be();
                raw.bytes.ip4.sin_addr.s_addr = u32::from_ne_bytes(addr.ip().octets());
                raw.set_len(mem::size_of::<libc::sockaddr_in>());
            }
            SocketAddr::V6(addr) => {
                raw.bytes.ip6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                raw.bytes.ip6.sin6_port = addr.port().to_be();
                raw.bytes.ip6.sin6_flowinfo = addr.flowinfo();
                raw.bytes.ip6.sin6_addr.s6_addr = addr.ip().octets();
                raw.bytes.ip6.sin6_scope_id = addr.scope_id();
                raw.set_len(mem::size_of::<libc::sockaddr_in6>());
            }
        }
        raw
    }

    fn from_unix(addr: &UnixAddr) -> io::Result<Self> {
        // An abstract name follows a zero and ends where the length says, a path ends with a zero.
        let (name, start, n_zeros) = match (addr.as_pathname(), abstract_name(addr)) {
            (Some(path), _) => (path.as_os_str().as_bytes(), 0, 1),
            (None, Some(name)) => (name, 1, 1),
            (None, None) => return Err(io::Error::new(io::ErrorKind::InvalidInput, "the address has no name")),
        };
        // SAFETY: it is made of integers, for which zero is a value.
        let mut unix: libc::sockaddr_un = unsafe { mem::zeroed() };
        unix.sun_family = libc::AF_UNIX as libc::sa_family_t;
        let is_too_long = || io::Error::new(io::ErrorKind::InvalidInput, "the name of the address is too long");
        let places = unix.sun_path.get_mut(start..start + name.len()).ok_or_else(is_too_long)?;
        for (place, byte) in places.iter_mut().zip(name) {
            *place = byte.cast_signed() as libc::c_char;
        }
        let mut raw = Self::new();
        raw.bytes.unix = unix;
        raw.set_len(mem::offset_of!(libc::sockaddr_un, sun_path) + name.len() + n_zeros);
        Ok(raw)
    }

    /// How long the address is; the BSDs and Apple's systems want to read it in the address itself, too.
    fn set_len(&mut self, len: usize) {
        #[cfg(any(
            target_vendor = "apple",
            target_os = "freebsd",
            target_os = "dragonfly",
            target_os = "netbsd",
            target_os = "openbsd"
        ))]
        {
            // It fits: no address is longer than the 128 bytes of the storage.
            self.bytes.any.ss_len = len as u8;
        }
        self.len = len as libc::socklen_t;
    }

    fn family(&self) -> libc::c_int {
        // SAFETY: every byte was zero or written by the kernel, and the family is an integer.
        unsafe { self.bytes.any.ss_family }.into()
    }

    fn to_ip(&self) -> io::Result<SocketAddr> {
        match self.family() {
            libc::AF_INET => {
                // SAFETY: the family says that it is this one.
                let addr = unsafe { self.bytes.ip4 };
                let ip = Ipv4Addr::from(addr.sin_addr.s_addr.to_ne_bytes());
                Ok(SocketAddrV4::new(ip, u16::from_be(addr.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: the family says that it is this one.
                let addr = unsafe { self.bytes.ip6 };
                let ip = Ipv6Addr::from(addr.sin6_addr.s6_addr);
                let port = u16::from_be(addr.sin6_port);
                Ok(SocketAddrV6::new(ip, port, addr.sin6_flowinfo, addr.sin6_scope_id).into())
            }
            family => {
                let text = format!("expected an internet address, got one of family {family}");
                Err(io::Error::new(io::ErrorKind::InvalidInput, text))
            }
        }
    }
}

/// The name of an address that is no path, which Linux alone has.
fn abstract_name(addr: &UnixAddr) -> Option<&[u8]> {
    #[cfg(target_os = "android")]
    use std::os::android::net::SocketAddrExt;
    #[cfg(target_os = "linux")]
    use std::os::linux::net::SocketAddrExt;

    #[cfg(any(target_os = "linux", target_os = "android"))]
    let name = addr.as_abstract_name();
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let (name, _) = (None, addr);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_way_there_and_back() {
        let scoped = SocketAddrV6::new("fe80::1:2".parse().unwrap(), 9, 7, 3);
        for addr in ["127.0.0.1:80".parse().unwrap(), "[::1]:65535".parse().unwrap(), SocketAddr::from(scoped)] {
            assert_eq!(RawAddr::from_ip(&addr).to_ip().unwrap(), addr);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_of_tcp_and_unix_sockets_a_short_read_has_taken_all() {
        use std::os::fd::{AsFd, FromRawFd};

        // Some kernels do not have all of these.
        let is_byte_stream = |family, kind, protocol| {
            // SAFETY: takes its arguments by value and touches no memory of ours.
            let fd = check(unsafe { libc::socket(family, kind, protocol) }).ok()?;
            // SAFETY: a fresh descriptor owned by no one else.
            Some(is_byte_stream(unsafe { OwnedFd::from_raw_fd(fd) }.as_fd()))
        };
        assert_eq!(is_byte_stream(libc::AF_INET, libc::SOCK_STREAM, 0), Some(true));
        assert_eq!(is_byte_stream(libc::AF_UNIX, libc::SOCK_STREAM, 0), Some(true));
        assert_ne!(is_byte_stream(libc::AF_INET6, libc::SOCK_STREAM, 0), Some(false));
        assert_ne!(is_byte_stream(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP), Some(false));
        assert_eq!(is_byte_stream(libc::AF_INET, libc::SOCK_DGRAM, 0), Some(false));
        assert_eq!(is_byte_stream(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0), Some(false));
        assert_ne!(is_byte_stream(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP), Some(true));
        assert_ne!(is_byte_stream(libc::AF_VSOCK, libc::SOCK_STREAM, 0), Some(true));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_unix_address_is_as_long_as_its_name() {
        use std::os::linux::net::SocketAddrExt;

        let path = UnixAddr::from_pathname("/a").unwrap();
        assert_eq!(RawAddr::from_unix(&path).unwrap().len, 2 + 2 + 1);
        let name = UnixAddr::from_abstract_name(b"abc").unwrap();
        assert_eq!(RawAddr::from_unix(&name).unwrap().len, 2 + 1 + 3);
    }

    #[test]
    fn an_address_without_a_name_is_refused() {
        let unnamed = UnixAddr::from_pathname("").unwrap();
        assert!(RawAddr::from_unix(&unnamed).is_err());
        assert!(RawAddr::new().to_ip().is_err());
    }
}
