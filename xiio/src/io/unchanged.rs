//! A descriptor whose flags are other people's business, with the traits of this room.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use super::{Read, Write, read, write};
use crate::runtime::checkpoint;
use crate::sys::fd::end_writing;
use crate::sys::nowait;

/// Reads and writes a descriptor without changing anything about it: [`read`](read()) and [`write`](write()) in the shape of a type.
///
/// For the standard streams, above all: these are often shared with other programs, which would not expect them to become
/// non-blocking. See [`read`](read()) for what becomes of those that several processes read. Everything else is faster as [`Async`](super::Async).
///
/// # Examples
/// ```no_run
/// use xiio::io::{BufRead, BufReader, Unchanged};
///
/// # xiio::run(async {
/// let mut lines = BufReader::new(Unchanged(std::io::stdin())).lines();
/// while let Some(line) = lines.next().await {
///     println!("{}", line?.to_uppercase());
/// }
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Unchanged<T>(pub T);

impl<T: AsFd> Read for Unchanged<T> {
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            checkpoint().await;
            return Ok(0);
        }
        read(&self.0, buf).await
    }
}

impl<T: AsFd> Write for Unchanged<T> {
    async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if buf.is_empty() {
            checkpoint().await;
            // It needs no room, but may be a packet. One that has to wait is tried once more.
            match nowait::write(self.0.as_fd(), buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
        write(&self.0, buf).await
    }

    /// Ends the direction to write of a socket, also for the others that share it.
    async fn close(&mut self) -> io::Result<()> {
        checkpoint().await;
        end_writing(self.0.as_fd())
    }
}

impl<T: AsFd> AsFd for Unchanged<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl<T: AsFd> AsRawFd for Unchanged<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
