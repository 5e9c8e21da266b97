//! The traits for types of `std`, and for `Async` of them.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::AsFd;

use super::nonblocking::Moves;
use super::{Async, Read, Write, by_reference};
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

/// Always ready; reading takes from the front.
impl Read for &[u8] {
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        checkpoint().await;
        io::Read::read(self, buf)
    }
}

/// Always ready; writing appends.
impl Write for Vec<u8> {
    async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        checkpoint().await;
        self.extend_from_slice(buf);
        Ok(buf.len())
    }

    async fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        checkpoint().await;
        io::Write::write_vectored(self, bufs)
    }
}
