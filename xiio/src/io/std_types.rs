//! The traits for types of `std`, and for `Async` of them.

use std::io::{self, Cursor, Empty, IoSlice, IoSliceMut, Sink};
use std::os::fd::AsFd;

use super::nonblocking::Moves;
use super::{Async, BufRead, Read, Write, by_reference};
use crate::reactor::Direction;
use crate::runtime::checkpoint;

impl<T: AsFd> Read for &Async<T>
where
    for<'a> &'a T: io::Read,
{
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            checkpoint().await;
            return Ok(0);
        }
        self.operate(Direction::Read, |io| io::Read::read(&mut io.get_ref(), buf)).await
    }

    async fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if bufs.iter().all(|buf| buf.is_empty()) {
            checkpoint().await;
            return Ok(0);
        }
        self.operate(Direction::Read, |io| io::Read::read_vectored(&mut io.get_ref(), bufs)).await
    }
}

impl<T: AsFd> Write for &Async<T>
where
    for<'a> &'a T: io::Write,
{
    async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.operate_moving(Moves::of(buf), Direction::Write, |io| io::Write::write(&mut io.get_ref(), buf)).await
    }

    async fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.operate_moving(Moves::of_all(bufs), Direction::Write, |io| {
            io::Write::write_vectored(&mut io.get_ref(), bufs)
        })
        .await
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.operate_moving(Moves::Nothing, Direction::Write, |io| io::Write::flush(&mut io.get_ref())).await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.flush().await?;
        self.end_writing()
    }
}

by_reference!(read [T: AsFd] Async<T>, where for<'a> &'a T: io::Read);
by_reference!(write [T: AsFd] Async<T>, where for<'a> &'a T: io::Write);

/// Readers whose bytes are all in memory, so that those of `std` neither wait nor fail.
macro_rules! read_in_memory {
    ($($(#[$doc:meta])* [$($generics:tt)*] $type:ty;)*) => {$(
        $(#[$doc])*
        impl<$($generics)*> Read for $type {
            async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                checkpoint().await;
                io::Read::read(self, buf)
            }

            async fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                checkpoint().await;
                io::Read::read_vectored(self, bufs)
            }
        }

        /// All of it is buffered.
        impl<$($generics)*> BufRead for $type {
            async fn fill_buf(&mut self) -> io::Result<&[u8]> {
                checkpoint().await;
                io::BufRead::fill_buf(self)
            }

            fn consume(&mut self, n_bytes: usize) {
                // That of a `Cursor` takes any number.
                let n_buffered = io::BufRead::fill_buf(self).map_or(0, <[u8]>::len);
                assert!(n_bytes <= n_buffered, "{n_bytes} bytes were consumed, and {n_buffered} are buffered");
                io::BufRead::consume(self, n_bytes);
            }

            async fn fill_until(&mut self, end: u8, limit: usize) -> io::Result<usize> {
                checkpoint().await;
                let buffered = io::BufRead::fill_buf(self)?;
                let found = buffered.iter().position(|byte| *byte == end).map(|at| at + 1);
                Ok(found.unwrap_or(buffered.len()).min(limit))
            }
        }
    )*};
}

read_in_memory! {
    /// Always ready; reading takes from the front.
    [] &[u8];
    /// Always ready; reading goes on from its position.
    [T: AsRef<[u8]>] Cursor<T>;
    /// At its end at once.
    [] Empty;
}

/// Writers whose bytes go to memory or nowhere, so that those of `std` neither wait nor fail.
macro_rules! write_in_memory {
    ($($(#[$doc:meta])* $type:ty;)*) => {$(
        $(#[$doc])*
        impl Write for $type {
            async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                checkpoint().await;
                io::Write::write(self, buf)
            }

            async fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                checkpoint().await;
                io::Write::write_vectored(self, bufs)
            }
        }
    )*};
}

write_in_memory! {
    /// Always ready; writing appends.
    Vec<u8>;
    /// Always ready; what is written is dropped.
    Sink;
    /// Always ready; what is written is dropped.
    Empty;
}
