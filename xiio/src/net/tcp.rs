//! TCP.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{self, Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::panic::Location;
use std::time::Duration;

use super::addr::{ToSocketAddrs, first, resolve};
use super::{as_in_std, connect, listener, settings, socket, stream, unconnected};
use crate::io::Async;
use crate::reactor::Direction;
use crate::sys::{Call, call, socket as sys};

/// How many clients may wait to be accepted; the system may allow less.
pub(super) const BACKLOG: i32 = 1024;

/// Takes clients. See [`std::net::TcpListener`], and the [module](super) for how its loop survives.
///
/// # Examples
/// ```
/// use xiio::net::{TcpListener, TcpStream};
///
/// # xiio::run(async {
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let (connected, accepted) = xiio::join!(TcpStream::connect(listener.local_addr()?), listener.accept());
/// let (client, addr) = accepted?;
/// assert_eq!(addr, connected?.local_addr()?);
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
pub struct TcpListener {
    io: Async<net::TcpListener>,
}

socket!(TcpListener = net::TcpListener);

impl TcpListener {
    /// Listens on the first address of `addr` that is free. Port 0 is any.
    ///
    /// Up to 1024 clients may wait to be accepted, or `net.core.somaxconn`; with `std` it is 128.
    ///
    /// # Errors
    /// Those of a look-up ([`lookup_host`](super::lookup_host)), and of the last address that was tried.
    ///
    /// # Cancellation
    /// Nothing is left behind.
    #[track_caller]
    pub fn bind(addr: impl ToSocketAddrs) -> impl Future<Output = io::Result<Self>> {
        let place = Location::caller();
        async move {
            let listener = first(&addr, place, |addr| call(Call::Make, || net::TcpListener::bind(addr))).await?;
            sys::set_backlog(listener.as_fd(), BACKLOG)?;
            listener.try_into()
        }
    }

    as_in_std! {
        /// The address it listens on.
        fn local_addr(&self) -> SocketAddr;
        /// How many routers a packet may pass.
        fn set_ttl(&self, ttl: u32);
        /// How many routers a packet may pass.
        fn ttl(&self) -> u32;
        /// Takes the error that is pending on the socket.
        fn take_error(&self) -> Option<io::Error>;
    }
}

listener!(TcpListener: accept => (TcpStream, SocketAddr));

/// A connection. See [`std::net::TcpStream`].
///
/// Both it and `&TcpStream` have [`Read`](crate::io::Read) and [`Write`](crate::io::Write). Dropped, it is closed.
///
/// # Examples
/// ```
/// use xiio::io::{Read, Write};
/// use xiio::net::{TcpListener, TcpStream};
///
/// # xiio::run(async {
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let mut stream = TcpStream::connect(listener.local_addr()?).await?;
/// let (mut client, _) = listener.accept().await?;
/// client.write_all(b"hello").await?;
/// drop(client);
/// let mut greeting = String::new();
/// stream.read_to_string(&mut greeting).await?;
/// assert_eq!(greeting, "hello");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
pub struct TcpStream {
    io: Async<net::TcpStream>,
}

socket!(TcpStream = net::TcpStream);
stream!(TcpStream: recv, recv_vectored, send, send_vectored);

impl TcpStream {
    pub(super) fn from_async(io: Async<net::TcpStream>) -> Self {
        Self { io }
    }

    /// Connects to the first address of `addr` that answers.
    ///
    /// Several addresses are tried as RFC 8305 ("happy eyeballs") says. IPv6 and IPv4 alternate, beginning with the family
    /// that the system prefers. The next attempt begins when one has failed or has not answered for 250 ms; the earlier
    /// ones go on. The first connection counts, the other attempts are given up.
    ///
    /// # Errors
    /// Those of a look-up ([`lookup_host`](super::lookup_host)), and what `connect(2)` reports for the address that failed last. There
    /// is no time limit but the system's (about two minutes); put it in a [`timeout`](crate::timeout()).
    ///
    /// # Cancellation
    /// Attempts are given up and their sockets closed. A look-up that runs is left alone and ends on its thread.
    ///
    /// # Examples
    /// ```no_run
    /// use std::time::Duration;
    /// use xiio::{net::TcpStream, timeout};
    ///
    /// # xiio::run(async {
    /// let stream = timeout(Duration::from_secs(10), TcpStream::connect("localhost:8080")).await??;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    #[track_caller]
    pub fn connect(addr: impl ToSocketAddrs) -> impl Future<Output = io::Result<Self>> {
        let place = Location::caller();
        async move { connect::connect_any(resolve(&addr, place).await?, place).await }
    }

    /// Waits until there is something, and reads once into `buf` without taking it.
    ///
    /// # Errors
    /// What `recv(2)` reports.
    ///
    /// # Cancellation
    /// Nothing is taken in any case.
    ///
    /// # Examples
    /// ```
    /// use xiio::io::{Read, Write};
    /// use xiio::net::{TcpListener, TcpStream};
    ///
    /// # xiio::run(async {
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let mut stream = TcpStream::connect(listener.local_addr()?).await?;
    /// stream.write_all(b"x").await?;
    /// let (mut client, _) = listener.accept().await?;
    /// assert_eq!(client.peek(&mut [0; 8]).await?, 1);
    /// assert_eq!(client.read(&mut [0; 8]).await?, 1);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io.operate(Direction::Read, |io| sys::peek(io.as_fd(), buf)).await
    }

    as_in_std! {
        /// The address of the other end.
        fn peer_addr(&self) -> SocketAddr;
        /// The address of this end.
        fn local_addr(&self) -> SocketAddr;
        /// Ends reading, writing or both; tasks that wait on this stream are woken.
        fn shutdown(&self, how: Shutdown);
        /// Sends small packets at once instead of waiting for more (`TCP_NODELAY`).
        fn set_nodelay(&self, is_on: bool);
        /// Whether small packets are sent at once.
        fn nodelay(&self) -> bool;
        /// How many routers a packet may pass.
        fn set_ttl(&self, ttl: u32);
        /// How many routers a packet may pass.
        fn ttl(&self) -> u32;
        /// Takes the error that is pending on the socket.
        fn take_error(&self) -> Option<io::Error>;
    }

    settings! {
        /// Asks a silent peer from time to time whether it is still there (`SO_KEEPALIVE`).
        KeepAlive: set_keepalive(is_on: bool), keepalive;
    }

    /// Turns `SO_KEEPALIVE` on: after `idle` without data a probe is sent every `interval`; when `n_probes` have had no answer
    /// the connection is broken.
    ///
    /// A part of a second counts as a whole one. Without this the system waits for two hours.
    ///
    /// # Errors
    /// What `setsockopt(2)` reports: `InvalidInput` for zeros, and for more than the system takes. Nothing has changed then.
    pub fn set_keepalive_times(&self, idle: Duration, interval: Duration, n_probes: u32) -> io::Result<()> {
        unconnected::set_keepalive_times(self.as_fd(), idle, interval, n_probes)
    }

    /// What happens to data that is not sent yet when the stream is closed: `Some(duration)` is `SO_LINGER`, and zero of it resets
    /// the connection.
    ///
    /// A duration above zero makes closing wait, and with it all tasks of this thread.
    ///
    /// # Errors
    /// What `setsockopt(2)` reports.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        sys::set_linger(self.as_fd(), linger)
    }

    /// What happens to data that is not sent yet: see [`TcpStream::set_linger`].
    ///
    /// # Errors
    /// What `getsockopt(2)` reports.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        sys::linger(self.as_fd())
    }
}

fn accept(io: &Async<net::TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    let (client, addr) = sys::accept(io.as_fd())?;
    Ok((TcpStream::from_async(Async::from_nonblocking(client.into())), addr))
}

fn recv(io: &Async<net::TcpStream>, buf: &mut [u8]) -> io::Result<usize> {
    let n_bytes = sys::recv(io.as_fd(), buf)?;
    io.note_transfer(Direction::Read, n_bytes, buf.len());
    Ok(n_bytes)
}

fn recv_vectored(io: &Async<net::TcpStream>, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    let received = sys::recv_message(io.as_fd(), bufs)?;
    io.note_transfer(Direction::Read, received.n_bytes, sys::capacity(bufs));
    Ok(received.n_bytes)
}

pub(super) fn send<S: AsFd>(io: &Async<S>, buf: &[u8]) -> io::Result<usize> {
    let n_bytes = sys::send(io.as_fd(), buf)?;
    io.note_transfer(Direction::Write, n_bytes, buf.len());
    Ok(n_bytes)
}

pub(super) fn send_vectored<S: AsFd>(io: &Async<S>, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    let n_bytes = sys::send_vectored(io.as_fd(), bufs)?;
    io.note_transfer(Direction::Write, n_bytes, sys::capacity(bufs));
    Ok(n_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Read, Write};
    use crate::join;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (client, server) = join!(TcpStream::connect(addr), listener.accept());
        (client.unwrap(), server.unwrap().0)
    }

    /// Question and answer, awaited before they are sent: both ends are registered and have their events.
    async fn round(a: &TcpStream, b: &TcpStream) {
        for (mut from, mut to) in [(a, b), (b, a)] {
            let mut buf = [0; 8];
            let (received, sent) = join!(to.read(&mut buf), from.write(b"text"));
            assert_eq!((sent.unwrap(), received.unwrap()), (4, 4));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn after_a_short_read_no_read_is_tried_in_vain() {
        crate::run(async {
            let (a, b) = pair().await;
            for _ in 0..3 {
                round(&a, &b).await;
                assert!(a.io.is_blocked(Direction::Read) && b.io.is_blocked(Direction::Read));
                assert!(!a.io.is_blocked(Direction::Write) && !b.io.is_blocked(Direction::Write));
            }
        });
    }

    #[test]
    fn after_a_full_read_and_at_the_end_the_next_read_is_tried() {
        crate::run(async {
            let (mut a, mut b) = pair().await;
            round(&a, &b).await;
            a.write_all(b"text").await.unwrap();
            b.read_exact(&mut [0; 4]).await.unwrap();
            assert!(!b.io.is_blocked(Direction::Read));
            drop(a);
            assert_eq!(b.read(&mut [0; 8]).await.unwrap(), 0);
            assert!(!b.io.is_blocked(Direction::Read));
        });
    }
}
