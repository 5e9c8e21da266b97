//! Sockets within one machine. See `unix(7)`.

use std::io::{self, ErrorKind, IoSliceMut};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::tcp::{BACKLOG, send, send_vectored};
use super::{as_in_std, listener, socket, stream, without_waiting};
use crate::io::Async;
use crate::reactor::Direction;
use crate::runtime::{Outside, Runtime, checkpoint};
use crate::sys::socket::setup;
use crate::sys::{Call, call, socket as sys};
use crate::time::sleep;

/// The first and the longest wait where the system does not tell when the other end has room again.
const RETRY: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(50)];

/// Takes clients. See [`std::os::unix::net::UnixListener`], and the [module](super) for how its loop survives.
///
/// The file that it is bound to stays when it is dropped, as with `std`.
///
/// # Examples
/// ```
/// use xiio::io::{Read, Write};
/// use xiio::net::{UnixListener, UnixStream};
///
/// # xiio::run(async {
/// let path = std::env::temp_dir().join(format!("xiio-listener-{}", std::process::id()));
/// let listener = UnixListener::bind(&path)?;
/// let (stream, client) = xiio::join!(UnixStream::connect(&path), listener.accept());
/// client?.0.write_all(b"x").await?;
/// assert_eq!(stream?.read(&mut [0; 8]).await?, 1);
/// std::fs::remove_file(&path)?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
pub struct UnixListener {
    io: Async<net::UnixListener>,
}

socket!(UnixListener = net::UnixListener);

impl UnixListener {
    /// Listens on a path, where there must be no file.
    ///
    /// # Errors
    /// What `bind(2)` reports: `AddrInUse` when there is a file.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::listen(call(Call::Make, || net::UnixListener::bind(path))?)
    }

    /// Listens on an address, which may be of the abstract name space.
    ///
    /// # Errors
    /// What `bind(2)` reports.
    pub fn bind_addr(addr: &SocketAddr) -> io::Result<Self> {
        Self::listen(call(Call::Make, || net::UnixListener::bind_addr(addr))?)
    }

    fn listen(listener: net::UnixListener) -> io::Result<Self> {
        sys::set_backlog(listener.as_fd(), BACKLOG)?;
        listener.try_into()
    }

    as_in_std! {
        /// The address it listens on.
        fn local_addr(&self) -> SocketAddr;
        /// Takes the error that is pending on the socket.
        fn take_error(&self) -> Option<io::Error>;
    }
}

listener!(UnixListener: accept => (UnixStream, SocketAddr));

/// A connection. See [`std::os::unix::net::UnixStream`].
///
/// Both it and `&UnixStream` have [`Read`](crate::io::Read) and [`Write`](crate::io::Write). Dropped, it is closed.
///
/// # Examples
/// ```
/// use xiio::io::{Read, Write};
/// use xiio::net::UnixStream;
///
/// # xiio::run(async {
/// let (mut a, mut b) = UnixStream::pair()?;
/// a.write_all(b"hello").await?;
/// let mut greeting = [0; 5];
/// b.read_exact(&mut greeting).await?;
/// assert_eq!(&greeting, b"hello");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
pub struct UnixStream {
    io: Async<net::UnixStream>,
}

socket!(UnixStream = net::UnixStream);
stream!(UnixStream: recv, recv_vectored, send, send_vectored);

impl UnixStream {
    /// Connects to the listener at a path.
    ///
    /// While the queue of the listener is full it tries again, at first after 1 ms, at most every 50 ms: the system does
    /// not tell when there is room.
    ///
    /// # Errors
    /// What `connect(2)` reports: `NotFound` when there is no such file, `ConnectionRefused` when nobody listens there.
    ///
    /// # Cancellation
    /// The socket is closed.
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        connect_by(|| Ok((sys::stream(sys::Family::Unix)?, SocketAddr::from_pathname(path)?))).await
    }

    /// As [`UnixStream::connect`], to an address, which may be of the abstract name space.
    ///
    /// # Errors
    /// As [`UnixStream::connect`]; `InvalidInput` for an address without a name.
    ///
    /// # Cancellation
    /// The socket is closed.
    pub async fn connect_addr(addr: &SocketAddr) -> io::Result<Self> {
        connect_by(|| Ok((sys::stream(sys::Family::Unix)?, addr.clone()))).await
    }

    /// Who is at the other end, as it was when the two were connected.
    ///
    /// # Errors
    /// What `getsockopt(2)` reports.
    ///
    /// # Examples
    /// ```
    /// use xiio::net::UnixStream;
    ///
    /// # xiio::run(async {
    /// let (a, _b) = UnixStream::pair()?;
    /// # #[cfg(target_os = "linux")]
    /// assert_eq!(a.peer_cred()?.pid(), Some(std::process::id() as i32));
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn peer_cred(&self) -> io::Result<UCred> {
        setup::peer(self.as_fd()).map(UCred)
    }

    /// Two streams that are connected with each other.
    ///
    /// # Errors
    /// What `socketpair(2)` reports.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = call(Call::Make, net::UnixStream::pair)?;
        Ok((a.try_into()?, b.try_into()?))
    }

    as_in_std! {
        /// The address of the other end.
        fn peer_addr(&self) -> SocketAddr;
        /// The address of this end.
        fn local_addr(&self) -> SocketAddr;
        /// Takes the error that is pending on the socket.
        fn take_error(&self) -> Option<io::Error>;
    }

    /// Ends reading, writing or both; tasks that read or write this stream are woken.
    ///
    /// Those that wait on a clone are not: the system tells the other end only. Of an end of reading that one hears at its next write, and not
    /// while it waits for room.
    ///
    /// # Errors
    /// What `shutdown(2)` reports.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        shutdown(&self.io, how, net::UnixStream::shutdown)
    }
}

/// The user, the group and the process at the other end of a [`UnixStream`], see [`UnixStream::peer_cred`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UCred(setup::Peer);

impl UCred {
    /// The number of the user.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.0.uid
    }

    /// The number of the group.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.0.gid
    }

    /// The number of the process, where the system tells it.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.0.pid
    }
}

/// Connects a socket that is non-blocking to an address.
pub(super) async fn connect_by(make: impl FnOnce() -> io::Result<(OwnedFd, SocketAddr)>) -> io::Result<UnixStream> {
    checkpoint().await;
    let (socket, addr) = make()?;
    retry(|| sys::connect_unix(socket.as_fd(), &addr)).await?;
    Ok(UnixStream { io: Async::from_nonblocking(socket.into()) })
}

/// Repeats what would block and what no event tells of.
async fn retry<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let [mut pause, longest] = RETRY;
    let mut outside = Outside::default();
    loop {
        checkpoint().await;
        match attempt() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // Who makes room does it in the time outside; unless it is said to be a task of this program.
                if !Runtime::with(Runtime::is_loopback) {
                    outside.count_here();
                }
                sleep(pause).await;
            }
            result => return result,
        }
        pause = (pause * 2).min(longest);
    }
}

fn accept(io: &Async<net::UnixListener>) -> io::Result<(UnixStream, SocketAddr)> {
    let (client, addr) = call(Call::Make, || io.get_ref().accept())?;
    Ok((client.try_into()?, addr))
}

fn recv(io: &Async<net::UnixStream>, buf: &mut [u8]) -> io::Result<usize> {
    recv_vectored(io, &mut [IoSliceMut::new(buf)])
}

fn recv_vectored(io: &Async<net::UnixStream>, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    let received = sys::recv_message(io.as_fd(), bufs)?;
    // Where descriptors were sent along a read is short, though more is queued behind.
    if !received.is_cut {
        io.note_transfer(Direction::Read, received.n_bytes, sys::capacity(bufs));
    }
    Ok(received.n_bytes)
}

/// Sends and receives datagrams. See [`std::os::unix::net::UnixDatagram`].
///
/// # Examples
/// ```
/// use xiio::net::UnixDatagram;
///
/// # xiio::run(async {
/// let (a, b) = UnixDatagram::pair()?;
/// a.send(b"hello").await?;
/// assert_eq!(b.recv(&mut [0; 16]).await?, 5);
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
pub struct UnixDatagram {
    io: Async<net::UnixDatagram>,
}

socket!(UnixDatagram = net::UnixDatagram);

impl UnixDatagram {
    /// A socket on a path, where there must be no file.
    ///
    /// # Errors
    /// What `bind(2)` reports: `AddrInUse` when there is a file.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        call(Call::Make, || net::UnixDatagram::bind(path))?.try_into()
    }

    /// A socket on an address, which may be of the abstract name space.
    ///
    /// # Errors
    /// What `bind(2)` reports.
    pub fn bind_addr(addr: &SocketAddr) -> io::Result<Self> {
        call(Call::Make, || net::UnixDatagram::bind_addr(addr))?.try_into()
    }

    /// A socket without an address.
    ///
    /// # Errors
    /// What `socket(2)` reports.
    pub fn unbound() -> io::Result<Self> {
        call(Call::Make, net::UnixDatagram::unbound)?.try_into()
    }

    /// Two sockets that are connected with each other.
    ///
    /// # Errors
    /// What `socketpair(2)` reports.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = call(Call::Make, net::UnixDatagram::pair)?;
        Ok((a.try_into()?, b.try_into()?))
    }

    /// Sends to the socket at a path, and receives from no other, from now on.
    ///
    /// # Errors
    /// What `connect(2)` reports.
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.io.get_ref().connect(path)
    }

    /// As [`UnixDatagram::connect`], to an address.
    ///
    /// # Errors
    /// What `connect(2)` reports.
    pub fn connect_addr(&self, addr: &SocketAddr) -> io::Result<()> {
        self.io.get_ref().connect_addr(addr)
    }

    /// Waits for a datagram; gives its length and the address it is from. What `buf` has no room for is lost.
    ///
    /// # Errors
    /// What `recvfrom(2)` reports.
    ///
    /// # Cancellation
    /// No datagram is lost.
    pub async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.read_with(|socket| socket.recv_from(buf)).await
    }

    /// Waits for a datagram; gives its length. What `buf` has no room for is lost.
    ///
    /// # Errors
    /// What `recv(2)` reports.
    ///
    /// # Cancellation
    /// No datagram is lost.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io.read_with(|socket| socket.recv(buf)).await
    }

    /// Sends a datagram to the socket at a path; gives the number of bytes, which is all.
    ///
    /// While the queue there is full it tries again, at first after 1 ms, at most every 50 ms: the system does not tell an
    /// unconnected socket when there is room. Connected, [`UnixDatagram::send`] needs no such patience.
    ///
    /// # Errors
    /// What `sendto(2)` reports.
    ///
    /// # Cancellation
    /// Nothing has been sent.
    ///
    /// # Examples
    /// ```
    /// use xiio::net::UnixDatagram;
    ///
    /// # xiio::run(async {
    /// let path = std::env::temp_dir().join(format!("xiio-datagram-{}", std::process::id()));
    /// let (receiver, sender) = (UnixDatagram::bind(&path)?, UnixDatagram::unbound()?);
    /// sender.send_to(b"hello", &path).await?;
    /// assert_eq!(receiver.recv(&mut [0; 16]).await?, 5);
    /// std::fs::remove_file(&path)?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub async fn send_to(&self, buf: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        retry(|| self.io.get_ref().send_to(buf, path.as_ref())).await
    }

    /// As [`UnixDatagram::send_to`], to an address.
    ///
    /// # Errors
    /// What `sendto(2)` reports.
    ///
    /// # Cancellation
    /// Nothing has been sent.
    pub async fn send_to_addr(&self, buf: &[u8], addr: &SocketAddr) -> io::Result<usize> {
        retry(|| self.io.get_ref().send_to_addr(buf, addr)).await
    }

    /// Sends a datagram to the connected socket; gives the number of bytes, which is all.
    ///
    /// # Errors
    /// What `send(2)` reports.
    ///
    /// # Cancellation
    /// Nothing has been sent.
    pub async fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.io.write_with(|socket| socket.send(buf)).await
    }

    without_waiting! {
        /// Receives a datagram that is there.
        read fn try_recv / poll_recv = recv(buf: &mut [u8]) -> usize;
        /// Receives a datagram that is there, and tells the address it is from.
        read fn try_recv_from / poll_recv_from = recv_from(buf: &mut [u8]) -> (usize, SocketAddr);
        /// Sends a datagram to the connected socket.
        write fn try_send / poll_send = send(buf: &[u8]) -> usize;
    }

    /// Sends a datagram to the socket at a path, without waiting.
    ///
    /// # Errors
    /// `WouldBlock` when the queue there is full; otherwise what `sendto(2)` reports.
    pub fn try_send_to(&self, buf: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        self.io.get_ref().send_to(buf, path)
    }

    as_in_std! {
        /// The connected address.
        fn peer_addr(&self) -> SocketAddr;
        /// The address of this end.
        fn local_addr(&self) -> SocketAddr;
        /// Takes the error that is pending on the socket.
        fn take_error(&self) -> Option<io::Error>;
    }

    /// Ends reading, writing or both; tasks that wait on this socket to send are woken.
    ///
    /// Who receives goes on waiting: the system says to those who do not stop their thread that there is nothing yet.
    ///
    /// # Errors
    /// What `shutdown(2)` reports.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        shutdown(&self.io, how, net::UnixDatagram::shutdown)
    }
}

/// Ends one direction or both, which no event tells this end of.
fn shutdown<S: AsFd>(io: &Async<S>, how: Shutdown, end: impl FnOnce(&S, Shutdown) -> io::Result<()>) -> io::Result<()> {
    end(io.get_ref(), how)?;
    io.note_own_end(match how {
        Shutdown::Read => &[Direction::Read],
        Shutdown::Write => &[Direction::Write],
        Shutdown::Both => &[Direction::Read, Direction::Write],
    });
    Ok(())
}
