//! TCP, UDP and Unix sockets: the types of `std::net` and `std::os::unix::net`, awaited.
//!
//! Names and signatures are those of `std`. Three things differ. An operation that would block is awaited. A time limit is
//! [`timeout`](crate::timeout()), not a setting of the socket. Reading and writing is done by the traits [`Read`](crate::io::Read) and
//! [`Write`](crate::io::Write), which `&TcpStream` and `&UnixStream` have too. Sockets are non-blocking and registered once; see
//! [`Async`](crate::io::Async).
//!
//! # Examples
//! A server that answers every client by itself, and waits for all of them when it ends:
//! ```
//! use xiio::io::{Read, Write, copy};
//! use xiio::net::{TcpListener, TcpStream};
//!
//! xiio::run(async {
//!     let listener = TcpListener::bind("127.0.0.1:0").await?;
//!     let address = listener.local_addr()?;
//!     xiio::try_task_group!(error = std::io::Error, |tg| {
//!         let server = tg.spawn(async {
//!             xiio::task_group!(|clients| {
//!                 let mut incoming = listener.incoming();
//!                 while let Some(client) = incoming.next().await {
//!                     match client {
//!                         Ok(client) => {
//!                             clients.spawn(async move {
//!                                 // What happens to one client is its own matter.
//!                                 let _ = copy(&mut &client, &mut &client).await;
//!                             });
//!                         }
//!                         Err(error) => eprintln!("cannot take a client: {error}"),
//!                     }
//!                 }
//!             });
//!             Ok(())
//!         });
//!         let mut stream = TcpStream::connect(address).await?;
//!         stream.write_all(b"hello").await?;
//!         let mut answer = [0; 5];
//!         stream.read_exact(&mut answer).await?;
//!         assert_eq!(&answer, b"hello");
//!         server.cancel().await;
//!     })
//! })
//! # .unwrap();
//! ```
//!
//! # A server's loop survives
//! `accept(2)` fails for three kinds of reasons. If a server ends because of one of the first two, anybody can end it:
//! - one client: it was gone before it was taken (`ECONNABORTED`, and what the network reports). [`Incoming::next`] goes on
//!   to the next client; after [`TcpListener::accept`] do the same.
//! - resources: no more descriptors (`EMFILE`, `ENFILE`) or memory (`ENOBUFS`, `ENOMEM`). `next` gives the error, to be logged,
//!   and pauses before it tries again, as the client is still in the queue and the same would come at once. So a loop as above
//!   goes on when there are descriptors again, and does not spin meanwhile. Better still, take a permit of a semaphore before
//!   each `next`, with fewer permits than `RLIMIT_NOFILE`. The `limit` of a group is no such bound: a task that waits for its
//!   place holds its client already.
//! - the listener itself (`EBADF`, `EINVAL`, `ENOTSOCK`), which cannot happen with these types.
//!
//! `eprintln!`, as above, panics when nobody reads standard error any more. A server that has to survive that as well uses `writeln!`, and
//! lets its error go.
//!
//! # Panics
//! An operation that has to wait outside of a runtime panics.
//!
//! # Threads
//! A socket stays on the thread of its runtime. To serve it on another one, send the type of `std`, which is made with
//! `try_into`.
//!
//! # Implementation
//! Names are looked up by `getaddrinfo(3)` on threads of their own, 16 at most (see [`lookup_host`]); addresses and texts of addresses need
//! none. A connection costs a socket, two `connect(2)` and one `epoll_ctl(2)`. Over TCP an `accept4(2)` gives clients that need no further
//! call; over Unix sockets each is made non-blocking afterwards. A stream whose read or write was short is known to be empty or full, so request and answer cost one wait, one
//! `recv` and one `send` on either side.

mod addr;
mod connect;
#[cfg(all(test, feature = "futures-io"))]
mod futures_io_tests;
mod halves;
mod incoming;
mod interest;
mod tcp;
mod udp;
mod unconnected;
mod unix;

pub use addr::{ToSocketAddrs, lookup_host};
pub use halves::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};
pub use incoming::Incoming;
pub use interest::Interest;
pub use tcp::{TcpListener, TcpStream};
pub use udp::UdpSocket;
pub use unconnected::{TcpSocket, UnixSocket};
pub use unix::{UCred, UnixDatagram, UnixListener, UnixStream};

/// The methods of a socket that `std` has and that do not wait.
macro_rules! as_in_std {
    ($($(#[$doc:meta])* fn $name:ident(&self $(, $arg:ident: $type:ty)*) $(-> $output:ty)?;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Errors
            /// What the system reports.
            pub fn $name(&self $(, $arg: $type)*) -> std::io::Result<as_in_std!(@output $($output)?)> {
                self.io.get_ref().$name($($arg),*)
            }
        )*
    };
    (@output) => { () };
    (@output $output:ty) => { $output };
}

/// Options of a socket that are numbers or switches, by two methods each.
macro_rules! settings {
    (@bool $value:expr) => { $value != 0 };
    (@u32 $value:expr) => { $value };
    ($($(#[$doc:meta])* $setting:ident: $set:ident($arg:ident: $type:ident), $get:ident;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Errors
            /// What `setsockopt(2)` reports.
            pub fn $set(&self, $arg: $type) -> std::io::Result<()> {
                use crate::sys::socket::setup::{Setting, set};
                set(std::os::fd::AsFd::as_fd(self), Setting::$setting, $arg.into())
            }

            #[doc = concat!("What the system says of [`Self::", stringify!($set), "`].")]
            ///
            /// # Errors
            /// What `getsockopt(2)` reports.
            pub fn $get(&self) -> std::io::Result<$type> {
                use crate::sys::socket::setup::{Setting, get};
                let value = get(std::os::fd::AsFd::as_fd(self), Setting::$setting)?;
                Ok(settings!(@$type value))
            }
        )*
    };
}

/// What every socket has: its descriptor, and the way from and to the type of `std`.
macro_rules! socket {
    ($socket:ident = $std:ty) => {
        /// Takes a socket of `std`, which becomes non-blocking.
        impl TryFrom<$std> for $socket {
            type Error = std::io::Error;

            fn try_from(socket: $std) -> std::io::Result<Self> {
                Ok(Self { io: crate::io::Async::new_socket(socket)? })
            }
        }

        /// Gives the socket to `std`, blocking again.
        impl TryFrom<$socket> for $std {
            type Error = std::io::Error;

            fn try_from(socket: $socket) -> std::io::Result<Self> {
                let socket = socket.io.into_inner();
                socket.set_nonblocking(false)?;
                Ok(socket)
            }
        }

        /// Takes a socket whatever it was made by; it becomes non-blocking.
        impl TryFrom<std::os::fd::OwnedFd> for $socket {
            type Error = std::io::Error;

            fn try_from(socket: std::os::fd::OwnedFd) -> std::io::Result<Self> {
                <$std>::from(socket).try_into()
            }
        }

        /// Gives the descriptor away, blocking again.
        impl From<$socket> for std::os::fd::OwnedFd {
            fn from(socket: $socket) -> Self {
                let socket = socket.io.into_inner();
                // Fails only for what is no open file.
                let _ = socket.set_nonblocking(false);
                socket.into()
            }
        }

        impl std::os::fd::AsFd for $socket {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.io.as_fd()
            }
        }

        impl std::os::fd::AsRawFd for $socket {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                std::os::fd::AsRawFd::as_raw_fd(self.io.get_ref())
            }
        }

        impl std::fmt::Debug for $socket {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.io.get_ref().fmt(f)
            }
        }

        impl $socket {
            /// Waits until something can be taken without waiting: data, a client, the end, or an error.
            ///
            /// # Errors
            /// What `epoll_ctl(2)` reports.
            ///
            /// # Cancellation
            /// Nothing is taken.
            pub async fn readable(&self) -> std::io::Result<()> {
                self.io.readable().await
            }

            /// Waits until there is room to write, or an error.
            ///
            /// # Errors
            /// What `epoll_ctl(2)` reports.
            ///
            /// # Cancellation
            /// Nothing is written.
            pub async fn writable(&self) -> std::io::Result<()> {
                self.io.writable().await
            }

            /// Waits until it is ready for some of `interest`, and says for which.
            ///
            /// # Errors
            /// What `epoll_ctl(2)` reports.
            ///
            /// # Cancellation
            /// Nothing is taken or written.
            pub async fn ready(&self, interest: crate::net::Interest) -> std::io::Result<crate::net::Interest> {
                interest.wait(std::os::fd::AsFd::as_fd(self)).await
            }

            /// [`Self::readable`] for hand-written futures. Of several tasks that poll, the last one is woken.
            ///
            /// # Errors
            /// What `epoll_ctl(2)` reports.
            pub fn poll_readable(&self, cx: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
                self.io.poll_readable(cx)
            }

            /// [`Self::writable`] for hand-written futures. Of several tasks that poll, the last one is woken.
            ///
            /// # Errors
            /// What `epoll_ctl(2)` reports.
            pub fn poll_writable(&self, cx: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
                self.io.poll_writable(cx)
            }

            /// Calls `operation` now, and again whenever the socket has become readable, until it gives something else than
            /// `WouldBlock`: for what libraries do with a socket. See [`Async::read_with`](crate::io::Async::read_with).
            ///
            /// # Errors
            /// What `operation` gives, except `WouldBlock` and `Interrupted`; and what `epoll_ctl(2)` reports.
            ///
            /// # Cancellation
            /// `operation` is called no more.
            pub async fn read_with<R>(&self, operation: impl FnMut(&$std) -> std::io::Result<R>) -> std::io::Result<R> {
                self.io.read_with(operation).await
            }

            /// Calls `operation` now, and again whenever the socket has become writable, until it gives something else than
            /// `WouldBlock`. See [`Async::write_with`](crate::io::Async::write_with).
            ///
            /// # Errors
            /// What `operation` gives, except `WouldBlock` and `Interrupted`; and what `epoll_ctl(2)` reports.
            ///
            /// # Cancellation
            /// `operation` is called no more.
            pub async fn write_with<R>(
                &self,
                operation: impl FnMut(&$std) -> std::io::Result<R>,
            ) -> std::io::Result<R> {
                self.io.write_with(operation).await
            }

            /// [`Self::read_with`] for hand-written futures. Of several tasks that poll, the last one is woken.
            ///
            /// # Errors
            /// Those of [`Self::read_with`].
            pub fn poll_read_with<R>(
                &self,
                cx: &mut std::task::Context<'_>,
                operation: impl FnMut(&$std) -> std::io::Result<R>,
            ) -> std::task::Poll<std::io::Result<R>> {
                self.io.poll_read_with(cx, operation)
            }

            /// [`Self::write_with`] for hand-written futures. Of several tasks that poll, the last one is woken.
            ///
            /// # Errors
            /// Those of [`Self::write_with`].
            pub fn poll_write_with<R>(
                &self,
                cx: &mut std::task::Context<'_>,
                operation: impl FnMut(&$std) -> std::io::Result<R>,
            ) -> std::task::Poll<std::io::Result<R>> {
                self.io.poll_write_with(cx, operation)
            }

            /// Another descriptor of the same socket. What is read or taken by one is gone for the other. Whether they block is a matter of
            /// both. So a listener or a socket of datagrams must not be given to `std` while its clone is in use here: the clone would block
            /// the thread. A stream does not.
            ///
            /// # Errors
            /// What `fcntl(2)` reports.
            pub fn try_clone(&self) -> std::io::Result<Self> {
                let clone = crate::sys::call(crate::sys::Call::Make, || self.io.get_ref().try_clone())?;
                Ok(Self { io: self.io.clone_of(clone) })
            }
        }
    };
}

/// The ways to take a client, by a function that tries once.
macro_rules! listener {
    ($listener:ident: $accept:path => ($stream:ident, $addr:ident)) => {
        impl $listener {
            /// Waits for a client; gives it with its address.
            ///
            /// # Errors
            /// What `accept(2)` reports; see the [module](super) for which of them to go on after.
            ///
            /// # Cancellation
            /// No client is lost.
            pub async fn accept(&self) -> std::io::Result<($stream, $addr)> {
                self.io.operate(crate::reactor::Direction::Read, $accept).await
            }

            /// [`Self::accept`] for hand-written futures. Of several tasks that poll, the last one is woken.
            ///
            /// # Errors
            /// Those of [`Self::accept`].
            pub fn poll_accept(
                &self,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<($stream, $addr)>> {
                self.io.poll_operate(crate::reactor::Direction::Read, cx, $accept)
            }

            pub(super) fn poll_client(
                &self,
                place: &mut crate::io::Place,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<$stream>> {
                let accepted = self.io.poll_operate_at(
                    crate::io::Moves::Bytes,
                    crate::reactor::Direction::Read,
                    place,
                    cx,
                    $accept,
                );
                accepted.map_ok(|(client, _)| client)
            }

            /// The clients, one after the other, for a loop that survives what may happen to them.
            pub fn incoming(&self) -> crate::net::Incoming<'_, Self> {
                crate::net::Incoming::new(self)
            }
        }
    };
}

/// The traits of a stream and of a reference to it, by functions that try once.
macro_rules! stream {
    ($stream:ident: $recv:path, $recv_vectored:path, $send:path, $send_vectored:path) => {
        impl crate::io::Read for &$stream {
            async fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
                if buf.is_empty() {
                    crate::runtime::checkpoint().await;
                    return Ok(0);
                }
                self.io.operate(crate::reactor::Direction::Read, |io| $recv(io, buf)).await
            }

            async fn read_vectored(&mut self, bufs: &mut [std::io::IoSliceMut<'_>]) -> std::io::Result<usize> {
                if bufs.iter().all(|buf| buf.is_empty()) {
                    crate::runtime::checkpoint().await;
                    return Ok(0);
                }
                self.io.operate(crate::reactor::Direction::Read, |io| $recv_vectored(io, bufs)).await
            }
        }

        impl crate::io::Write for &$stream {
            async fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
                let moves = crate::io::Moves::of(buf);
                self.io.operate_moving(moves, crate::reactor::Direction::Write, |io| $send(io, buf)).await
            }

            async fn write_vectored(&mut self, bufs: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
                let moves = crate::io::Moves::of_all(bufs);
                self.io.operate_moving(moves, crate::reactor::Direction::Write, |io| $send_vectored(io, bufs)).await
            }

            async fn close(&mut self) -> std::io::Result<()> {
                crate::runtime::checkpoint().await;
                self.end_writing()
            }
        }

        crate::io::by_reference!(read [] $stream);
        crate::io::by_reference!(write [] $stream);

        impl $stream {
            /// A half to read and a half to write, for two tasks of one group.
            ///
            /// A reference to the stream does as well; this keeps the two from being confused.
            pub fn split(&self) -> (crate::net::ReadHalf<'_, Self>, crate::net::WriteHalf<'_, Self>) {
                crate::net::halves::split(self)
            }

            /// A half to read and a half to write, which may go different ways.
            ///
            /// The stream is closed when both are dropped. Dropping the half to write tells the other end that no more
            /// comes (`shutdown(2)`).
            pub fn into_split(self) -> (crate::net::OwnedReadHalf<Self>, crate::net::OwnedWriteHalf<Self>) {
                crate::net::halves::into_split(self, |stream| stream.shutdown(std::net::Shutdown::Write))
            }

            /// Reads once into `buf` what is there, without waiting.
            ///
            /// # Errors
            /// `WouldBlock` when there is nothing; otherwise those of [`Read::read`](crate::io::Read::read).
            pub fn try_read(&self, buf: &mut [u8]) -> std::io::Result<usize> {
                if buf.is_empty() { Ok(0) } else { $recv(&self.io, buf) }
            }

            /// As [`Self::try_read`], filling one buffer after the other.
            ///
            /// # Errors
            /// As [`Self::try_read`].
            pub fn try_read_vectored(&self, bufs: &mut [std::io::IoSliceMut<'_>]) -> std::io::Result<usize> {
                if bufs.iter().all(|buf| buf.is_empty()) { Ok(0) } else { $recv_vectored(&self.io, bufs) }
            }

            /// Writes once from `buf` what there is room for, without waiting.
            ///
            /// # Errors
            /// `WouldBlock` when there is none; otherwise those of [`Write::write`](crate::io::Write::write).
            pub fn try_write(&self, buf: &[u8]) -> std::io::Result<usize> {
                $send(&self.io, buf)
            }

            /// As [`Self::try_write`], from one buffer after the other.
            ///
            /// # Errors
            /// As [`Self::try_write`].
            pub fn try_write_vectored(&self, bufs: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
                $send_vectored(&self.io, bufs)
            }

            /// Ends the direction to write. A stream that is not connected any more has ended already.
            fn end_writing(&self) -> std::io::Result<()> {
                match self.shutdown(std::net::Shutdown::Write) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotConnected => Ok(()),
                    result => result,
                }
            }
        }

        #[cfg(feature = "futures-io")]
        impl futures_io::AsyncRead for &$stream {
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &mut [u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                if buf.is_empty() {
                    return crate::runtime::poll_checkpoint(cx).map(|()| Ok(0));
                }
                self.io.poll_operate(crate::reactor::Direction::Read, cx, |io| $recv(io, buf))
            }

            fn poll_read_vectored(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bufs: &mut [std::io::IoSliceMut<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                if bufs.iter().all(|buf| buf.is_empty()) {
                    return crate::runtime::poll_checkpoint(cx).map(|()| Ok(0));
                }
                self.io.poll_operate(crate::reactor::Direction::Read, cx, |io| $recv_vectored(io, bufs))
            }
        }

        /// Closing is `shutdown(2)` of writing. A stream that is not connected any more is closed already.
        #[cfg(feature = "futures-io")]
        impl futures_io::AsyncWrite for &$stream {
            fn poll_write(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let moves = crate::io::Moves::of(buf);
                self.io.poll_operate_moving(moves, crate::reactor::Direction::Write, cx, |io| $send(io, buf))
            }

            fn poll_write_vectored(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bufs: &[std::io::IoSlice<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let moves = crate::io::Moves::of_all(bufs);
                self.io.poll_operate_moving(moves, crate::reactor::Direction::Write, cx, |io| $send_vectored(io, bufs))
            }

            fn poll_flush(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                crate::runtime::poll_checkpoint(cx).map(Ok)
            }

            fn poll_close(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                crate::runtime::poll_checkpoint(cx).map(|()| self.end_writing())
            }
        }

        #[cfg(feature = "futures-io")]
        crate::io::delegate!(read [] $stream, this => &*this);
        #[cfg(feature = "futures-io")]
        crate::io::delegate!(write [] $stream, this => &*this);
    };
}

/// What datagrams are moved by, for those who do not wait and for hand-written futures.
macro_rules! without_waiting {
    (@read) => { crate::reactor::Direction::Read };
    (@write) => { crate::reactor::Direction::Write };
    ($($(#[$doc:meta])* $direction:ident fn $attempt:ident / $poll:ident = $name:ident($($arg:ident: $type:ty),*) -> $output:ty;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Errors
            /// `WouldBlock` when it would have to wait; otherwise what the system reports.
            pub fn $attempt(&self $(, $arg: $type)*) -> std::io::Result<$output> {
                self.io.get_ref().$name($($arg),*)
            }

            /// The same for hand-written futures, which wait. Of several tasks that poll a direction, the last one is woken.
            ///
            /// # Errors
            /// What the system reports.
            pub fn $poll(
                &self,
                cx: &mut std::task::Context<'_>
                $(, $arg: $type)*
            ) -> std::task::Poll<std::io::Result<$output>> {
                let direction = without_waiting!(@$direction);
                self.io.poll_operate(direction, cx, |io| io.get_ref().$name($($arg),*))
            }
        )*
    };
}

use {as_in_std, listener, settings, socket, stream, without_waiting};
