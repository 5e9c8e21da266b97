//! UDP.

use std::io;
use std::net::{self, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::panic::Location;

use super::addr::{ToSocketAddrs, first, resolve_one};
use super::{as_in_std, socket, without_waiting};
use crate::io::Async;
use crate::sys::{Call, call};

/// Sends and receives datagrams. See [`std::net::UdpSocket`].
///
/// # Examples
/// ```
/// use xiio::net::UdpSocket;
///
/// xiio::run(async {
///     let (a, b) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
///     a.send_to(b"hello", b.local_addr()?).await?;
///     let mut buf = [0; 16];
///     assert_eq!(b.recv_from(&mut buf).await?, (5, a.local_addr()?));
///     # std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
pub struct UdpSocket {
    io: Async<net::UdpSocket>,
}

socket!(UdpSocket = net::UdpSocket);

impl UdpSocket {
    /// A socket on the first address of `addr` that is free. Port 0 is any.
    ///
    /// # Errors
    /// Those of a look-up ([`lookup_host`](super::lookup_host)), and of the last address that was tried.
    ///
    /// # Cancellation
    /// Nothing is left behind.
    #[track_caller]
    pub fn bind(addr: impl ToSocketAddrs) -> impl Future<Output = io::Result<Self>> {
        let place = Location::caller();
        async move { first(&addr, place, |addr| call(Call::Make, || net::UdpSocket::bind(addr))).await?.try_into() }
    }

    /// From now on sends to and receives from the first address of `addr` that works, and no other.
    ///
    /// # Errors
    /// Those of a look-up, and of the last address that was tried.
    ///
    /// # Cancellation
    /// The socket is as it was.
    ///
    /// # Examples
    /// ```
    /// use xiio::net::UdpSocket;
    ///
    /// # xiio::run(async {
    /// let (a, b) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
    /// a.connect(b.local_addr()?).await?;
    /// a.send(b"hello").await?;
    /// assert_eq!(b.recv_from(&mut [0; 16]).await?, (5, a.local_addr()?));
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    #[track_caller]
    pub fn connect(&self, addr: impl ToSocketAddrs) -> impl Future<Output = io::Result<()>> {
        let place = Location::caller();
        async move { first(&addr, place, |addr| self.io.get_ref().connect(addr)).await }
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

    /// As [`UdpSocket::recv_from`], without taking the datagram.
    ///
    /// # Errors
    /// What `recvfrom(2)` reports.
    ///
    /// # Cancellation
    /// No datagram is lost.
    pub async fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.read_with(|socket| socket.peek_from(buf)).await
    }

    /// Sends a datagram to the first address of `addr`; gives the number of bytes, which is all.
    ///
    /// # Errors
    /// Those of a look-up, and what `sendto(2)` reports.
    ///
    /// # Cancellation
    /// Nothing has been sent.
    #[track_caller]
    pub fn send_to(&self, buf: &[u8], addr: impl ToSocketAddrs) -> impl Future<Output = io::Result<usize>> {
        let place = Location::caller();
        async move {
            let addr = resolve_one(&addr, place).await?;
            self.io.write_with(|socket| socket.send_to(buf, addr)).await
        }
    }

    /// Waits for a datagram from the connected address; gives its length. What `buf` has no room for is lost.
    ///
    /// # Errors
    /// What `recv(2)` reports; `ConnectionRefused` when nobody was there for a datagram sent before.
    ///
    /// # Cancellation
    /// No datagram is lost.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io.read_with(|socket| socket.recv(buf)).await
    }

    /// As [`UdpSocket::recv`], without taking the datagram.
    ///
    /// # Errors
    /// What `recv(2)` reports.
    ///
    /// # Cancellation
    /// No datagram is lost.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io.read_with(|socket| socket.peek(buf)).await
    }

    /// Sends a datagram to the connected address; gives the number of bytes, which is all.
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
        /// Shows a datagram that is there, and tells the address it is from.
        read fn try_peek_from / poll_peek_from = peek_from(buf: &mut [u8]) -> (usize, SocketAddr);
        /// Sends a datagram to the connected address.
        write fn try_send / poll_send = send(buf: &[u8]) -> usize;
        /// Sends a datagram to an address.
        write fn try_send_to / poll_send_to = send_to(buf: &[u8], addr: SocketAddr) -> usize;
    }

    as_in_std! {
        /// The connected address.
        fn peer_addr(&self) -> SocketAddr;
        /// The address of this end.
        fn local_addr(&self) -> SocketAddr;
        /// Allows to send to all hosts of a network (`SO_BROADCAST`).
        fn set_broadcast(&self, is_on: bool);
        /// Whether it may send to all hosts of a network.
        fn broadcast(&self) -> bool;
        /// Whether what is sent to a group comes back.
        fn set_multicast_loop_v4(&self, is_on: bool);
        /// Whether what is sent to a group comes back.
        fn multicast_loop_v4(&self) -> bool;
        /// How many routers a packet to a group may pass.
        fn set_multicast_ttl_v4(&self, ttl: u32);
        /// How many routers a packet to a group may pass.
        fn multicast_ttl_v4(&self) -> u32;
        /// Whether what is sent to a group comes back.
        fn set_multicast_loop_v6(&self, is_on: bool);
        /// Whether what is sent to a group comes back.
        fn multicast_loop_v6(&self) -> bool;
        /// Joins a group.
        fn join_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr);
        /// Leaves a group.
        fn leave_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr);
        /// Joins a group.
        fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32);
        /// Leaves a group.
        fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32);
        /// How many routers a packet may pass.
        fn set_ttl(&self, ttl: u32);
        /// How many routers a packet may pass.
        fn ttl(&self) -> u32;
        /// Takes the error that is pending on the socket.
        fn take_error(&self) -> Option<io::Error>;
    }
}
