//! Sockets that are not in use yet, for options that must be set before.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{self, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram as StdUnixDatagram};
use std::path::Path;
use std::time::Duration;

use super::connect::connect_socket;
use super::{TcpListener, TcpStream, UnixDatagram, UnixListener, UnixStream, settings, unix};
use crate::sys;
use crate::sys::socket::setup::{self, Setting};
use crate::sys::socket::{self, Family};

/// A TCP socket that is neither connected nor listens: the place for options.
///
/// # Examples
/// ```
/// use xiio::net::{TcpSocket, TcpStream};
///
/// # xiio::run(async {
/// let socket = TcpSocket::new_v4()?;
/// socket.set_reuseaddr(true)?;
/// socket.set_recv_buffer_size(1 << 20)?;
/// socket.bind("127.0.0.1:0".parse().unwrap())?;
/// let listener = socket.listen(128)?;
/// let _stream = TcpStream::connect(listener.local_addr()?).await?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Source
/// `tokio::net::TcpSocket`.
pub struct TcpSocket {
    /// Whatever it becomes, what `std` can ask of it is the same.
    socket: net::TcpStream,
}

impl TcpSocket {
    /// A socket for addresses of IPv4.
    ///
    /// # Errors
    /// What `socket(2)` reports.
    pub fn new_v4() -> io::Result<Self> {
        Ok(Self { socket: socket::stream(Family::Ip4)?.into() })
    }

    /// A socket for addresses of IPv6.
    ///
    /// # Errors
    /// What `socket(2)` reports.
    pub fn new_v6() -> io::Result<Self> {
        Ok(Self { socket: socket::stream(Family::Ip6)?.into() })
    }

    settings! {
        /// Takes an address though connections of an earlier listener are still being wound up (`SO_REUSEADDR`).
        ReuseAddr: set_reuseaddr(is_on: bool), reuseaddr;
        /// Shares an address with other sockets that say so too, which take turns (`SO_REUSEPORT`).
        ReusePort: set_reuseport(is_on: bool), reuseport;
        /// Bytes that are kept until they are sent (`SO_SNDBUF`). Linux makes twice as much of it.
        SendBuffer: set_send_buffer_size(n_bytes: u32), send_buffer_size;
        /// Bytes that are kept until they are read (`SO_RCVBUF`). Linux makes twice as much of it.
        RecvBuffer: set_recv_buffer_size(n_bytes: u32), recv_buffer_size;
        /// Asks a silent peer from time to time whether it is still there (`SO_KEEPALIVE`).
        KeepAlive: set_keepalive(is_on: bool), keepalive;
    }

    /// Turns `SO_KEEPALIVE` on; see [`TcpStream::set_keepalive_times`].
    ///
    /// # Errors
    /// What `setsockopt(2)` reports.
    pub fn set_keepalive_times(&self, idle: Duration, interval: Duration, n_probes: u32) -> io::Result<()> {
        set_keepalive_times(self.as_fd(), idle, interval, n_probes)
    }

    /// Sends small packets at once instead of waiting for more (`TCP_NODELAY`).
    ///
    /// # Errors
    /// What `setsockopt(2)` reports.
    pub fn set_nodelay(&self, is_on: bool) -> io::Result<()> {
        self.socket.set_nodelay(is_on)
    }

    /// Whether small packets are sent at once.
    ///
    /// # Errors
    /// What `getsockopt(2)` reports.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.socket.nodelay()
    }

    /// What happens to data that is not sent yet at the end; see [`TcpStream::set_linger`].
    ///
    /// # Errors
    /// What `setsockopt(2)` reports.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        socket::set_linger(self.as_fd(), linger)
    }

    /// What happens to data that is not sent yet: see [`TcpSocket::set_linger`].
    ///
    /// # Errors
    /// What `getsockopt(2)` reports.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        socket::linger(self.as_fd())
    }

    /// Takes an address. Port 0 is any.
    ///
    /// # Errors
    /// What `bind(2)` reports.
    pub fn bind(&self, addr: SocketAddr) -> io::Result<()> {
        setup::bind(self.as_fd(), &addr)
    }

    /// The address that it was bound to.
    ///
    /// # Errors
    /// What `getsockname(2)` reports.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Listens. Up to `backlog` clients may wait to be accepted; the system may allow less.
    ///
    /// # Errors
    /// What `listen(2)` reports.
    pub fn listen(self, backlog: u32) -> io::Result<TcpListener> {
        set_backlog(self.as_fd(), backlog)?;
        net::TcpListener::from(OwnedFd::from(self.socket)).try_into()
    }

    /// Connects to an address.
    ///
    /// # Errors
    /// What `connect(2)` reports.
    ///
    /// # Cancellation
    /// The socket is closed.
    pub async fn connect(self, addr: SocketAddr) -> io::Result<TcpStream> {
        connect_socket(self.socket.into(), addr).await
    }
}

impl fmt::Debug for TcpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.fmt(f)
    }
}

impl AsFd for TcpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for TcpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// Gives the descriptor away, blocking again.
impl From<TcpSocket> for OwnedFd {
    fn from(socket: TcpSocket) -> Self {
        blocking(socket.socket.into())
    }
}

/// Takes a socket whatever it was made by; it becomes non-blocking.
impl TryFrom<OwnedFd> for TcpSocket {
    type Error = io::Error;

    fn try_from(socket: OwnedFd) -> io::Result<Self> {
        sys::fd::set_nonblocking(socket.as_fd())?;
        Ok(Self { socket: socket.into() })
    }
}

/// A Unix socket that is neither connected nor listens: the place for options.
///
/// # Examples
/// ```
/// use xiio::net::{UnixSocket, UnixStream};
///
/// # xiio::run(async {
/// let path = std::env::temp_dir().join(format!("xiio-socket-{}", std::process::id()));
/// let socket = UnixSocket::new_stream()?;
/// socket.set_send_buffer_size(1 << 16)?;
/// socket.bind(&path)?;
/// let listener = socket.listen(128)?;
/// let (client, accepted) = xiio::join!(UnixStream::connect(&path), listener.accept());
/// # std::fs::remove_file(&path)?;
/// # drop((client?, accepted?));
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Source
/// `tokio::net::UnixSocket`.
#[derive(Debug)]
pub struct UnixSocket {
    socket: OwnedFd,
    is_stream: bool,
}

impl UnixSocket {
    /// A socket that is to listen or to connect.
    ///
    /// # Errors
    /// What `socket(2)` reports.
    pub fn new_stream() -> io::Result<Self> {
        Ok(Self { socket: socket::stream(Family::Unix)?, is_stream: true })
    }

    /// A socket for datagrams.
    ///
    /// # Errors
    /// What `socket(2)` reports.
    pub fn new_datagram() -> io::Result<Self> {
        let socket = sys::call(sys::Call::Make, StdUnixDatagram::unbound)?;
        Ok(Self { socket: socket.into(), is_stream: false })
    }

    settings! {
        /// Bytes that are kept until they are received (`SO_SNDBUF`). Linux makes twice as much of it.
        SendBuffer: set_send_buffer_size(n_bytes: u32), send_buffer_size;
        /// Bytes that are kept until they are read (`SO_RCVBUF`). Linux makes twice as much of it, and looks at the sender's.
        RecvBuffer: set_recv_buffer_size(n_bytes: u32), recv_buffer_size;
    }

    /// Takes a path, where there must be no file.
    ///
    /// # Errors
    /// What `bind(2)` reports: `AddrInUse` when there is a file.
    pub fn bind(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.bind_addr(&UnixAddr::from_pathname(path)?)
    }

    /// Takes an address, which may be of the abstract name space.
    ///
    /// # Errors
    /// What `bind(2)` reports; `InvalidInput` for an address without a name.
    pub fn bind_addr(&self, addr: &UnixAddr) -> io::Result<()> {
        setup::bind_unix(self.as_fd(), addr)
    }

    /// Listens. Up to `backlog` clients may wait to be accepted; the system may allow less.
    ///
    /// # Errors
    /// What `listen(2)` reports; `InvalidInput` for a socket for datagrams.
    pub fn listen(self, backlog: u32) -> io::Result<UnixListener> {
        let socket = self.expect(true)?;
        set_backlog(socket.as_fd(), backlog)?;
        std::os::unix::net::UnixListener::from(socket).try_into()
    }

    /// Connects to the listener at a path; see [`UnixStream::connect`].
    ///
    /// # Errors
    /// What `connect(2)` reports; `InvalidInput` for a socket for datagrams.
    ///
    /// # Cancellation
    /// The socket is closed.
    pub async fn connect(self, path: impl AsRef<Path>) -> io::Result<UnixStream> {
        unix::connect_by(|| Ok((self.expect(true)?, UnixAddr::from_pathname(path)?))).await
    }

    /// As [`UnixSocket::connect`], to an address, which may be of the abstract name space.
    ///
    /// # Errors
    /// As [`UnixSocket::connect`]; `InvalidInput` for an address without a name.
    ///
    /// # Cancellation
    /// The socket is closed.
    pub async fn connect_addr(self, addr: &UnixAddr) -> io::Result<UnixStream> {
        unix::connect_by(|| Ok((self.expect(true)?, addr.clone()))).await
    }

    /// Sends and receives datagrams.
    ///
    /// # Errors
    /// `InvalidInput` for a socket for streams.
    pub fn datagram(self) -> io::Result<UnixDatagram> {
        self.expect(false)?.try_into()
    }

    fn expect(self, is_stream: bool) -> io::Result<OwnedFd> {
        let name = |is_stream| if is_stream { "a stream" } else { "datagrams" };
        if self.is_stream == is_stream {
            return Ok(self.socket);
        }
        let text = format!("expected a socket for {}, got one for {}", name(is_stream), name(self.is_stream));
        Err(io::Error::new(ErrorKind::InvalidInput, text))
    }
}

impl AsFd for UnixSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for UnixSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// Gives the descriptor away, blocking again.
impl From<UnixSocket> for OwnedFd {
    fn from(socket: UnixSocket) -> Self {
        blocking(socket.socket)
    }
}

fn blocking(socket: OwnedFd) -> OwnedFd {
    // Fails only for what is no open file.
    let _ = sys::fd::set_blocking(socket.as_fd());
    socket
}

fn set_backlog(fd: BorrowedFd<'_>, backlog: u32) -> io::Result<()> {
    socket::set_backlog(fd, backlog.try_into().unwrap_or(i32::MAX))
}

/// Turns probes on, and says when they are sent. A part of a second counts as a whole one. An error leaves the socket as it was.
pub(super) fn set_keepalive_times(
    fd: BorrowedFd<'_>,
    idle: Duration,
    interval: Duration,
    n_probes: u32,
) -> io::Result<()> {
    let seconds = |duration: Duration| duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0));
    let settings = [
        (Setting::KeepAliveIdle, seconds(idle)),
        (Setting::KeepAliveInterval, seconds(interval)),
        (Setting::KeepAliveProbes, n_probes.into()),
        (Setting::KeepAlive, 1),
    ];
    let before = settings.map(|(setting, _)| (setting, setup::get(fd, setting)));
    let set = settings.into_iter().try_for_each(|(setting, value)| setup::set(fd, setting, value));
    if set.is_err() {
        // Each system has bounds of its own, so what it takes is known when it has taken it.
        for (setting, value) in before {
            let _ = value.and_then(|value| setup::set(fd, setting, value.into()));
        }
    }
    set
}
