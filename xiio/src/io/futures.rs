//! The traits of the `futures-io` crate.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};

use super::Async;
use super::nonblocking::Moves;
use crate::reactor::Direction;
use crate::runtime::poll_checkpoint;

impl<T: AsFd> AsyncRead for &Async<T>
where
    for<'a> &'a T: Read,
{
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return poll_checkpoint(cx).map(|()| Ok(0));
        }
        self.poll_operate(Direction::Read, cx, |io| io.get_ref().read(buf))
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        if bufs.iter().all(|buf| buf.is_empty()) {
            return poll_checkpoint(cx).map(|()| Ok(0));
        }
        self.poll_operate(Direction::Read, cx, |io| io.get_ref().read_vectored(bufs))
    }
}

impl<T: AsFd> AsyncWrite for &Async<T>
where
    for<'a> &'a T: Write,
{
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_operate_moving(Moves::of(buf), Direction::Write, cx, |io| io.get_ref().write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_operate_moving(Moves::of_all(bufs), Direction::Write, cx, |io| io.get_ref().write_vectored(bufs))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_operate_moving(Moves::Nothing, Direction::Write, cx, |io| io.get_ref().flush())
    }

    /// Flushes, and ends the direction to write of a socket; the descriptor is closed when the `Async` is dropped.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Poll::Ready(self.end_writing())
    }
}

/// The traits of a type by those of something that it refers to: `delegate!([T] Type<T>, this => &this.0)`.
macro_rules! delegate {
    (read [$($generics:tt)*] $type:ty, $this:ident => $target:expr $(, where $($bounds:tt)*)?) => {
        impl<$($generics)*> ::futures_io::AsyncRead for $type $(where $($bounds)*)? {
            fn poll_read(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
                buf: &mut [u8],
            ) -> ::std::task::Poll<::std::io::Result<usize>> {
                let $this = self.as_ref().get_ref();
                ::futures_io::AsyncRead::poll_read(::std::pin::Pin::new(&mut $target), cx, buf)
            }

            fn poll_read_vectored(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
                bufs: &mut [::std::io::IoSliceMut<'_>],
            ) -> ::std::task::Poll<::std::io::Result<usize>> {
                let $this = self.as_ref().get_ref();
                ::futures_io::AsyncRead::poll_read_vectored(::std::pin::Pin::new(&mut $target), cx, bufs)
            }
        }
    };
    (write [$($generics:tt)*] $type:ty, $this:ident => $target:expr $(, where $($bounds:tt)*)?) => {
        impl<$($generics)*> ::futures_io::AsyncWrite for $type $(where $($bounds)*)? {
            fn poll_write(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
                buf: &[u8],
            ) -> ::std::task::Poll<::std::io::Result<usize>> {
                let $this = self.as_ref().get_ref();
                ::futures_io::AsyncWrite::poll_write(::std::pin::Pin::new(&mut $target), cx, buf)
            }

            fn poll_write_vectored(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
                bufs: &[::std::io::IoSlice<'_>],
            ) -> ::std::task::Poll<::std::io::Result<usize>> {
                let $this = self.as_ref().get_ref();
                ::futures_io::AsyncWrite::poll_write_vectored(::std::pin::Pin::new(&mut $target), cx, bufs)
            }

            fn poll_flush(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<::std::io::Result<()>> {
                let $this = self.as_ref().get_ref();
                ::futures_io::AsyncWrite::poll_flush(::std::pin::Pin::new(&mut $target), cx)
            }

            fn poll_close(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<::std::io::Result<()>> {
                let $this = self.as_ref().get_ref();
                ::futures_io::AsyncWrite::poll_close(::std::pin::Pin::new(&mut $target), cx)
            }
        }
    };
}

pub(crate) use delegate;

delegate!(read [T: AsFd] Async<T>, this => &*this, where for<'a> &'a T: Read);
delegate!(write [T: AsFd] Async<T>, this => &*this, where for<'a> &'a T: Write);
