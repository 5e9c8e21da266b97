//! For what a socket is to be ready, or is.

use std::io;
use std::ops::BitOr;
use std::os::fd::BorrowedFd;

use crate::condition::Condition;

/// Reading, writing or both: what [`TcpStream::ready`](super::TcpStream::ready) and its like wait for, and what they say.
///
/// # Examples
/// ```
/// use xiio::net::{Interest, UnixStream};
///
/// # xiio::run(async {
/// let (a, _b) = UnixStream::pair()?;
/// let ready = a.ready(Interest::READABLE | Interest::WRITABLE).await?;
/// assert_eq!(ready, Interest::WRITABLE);
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest {
    read: bool,
    write: bool,
}

impl Interest {
    /// There is something to take: data, a client, the end, or an error.
    pub const READABLE: Self = Self { read: true, write: false };
    /// There is room to write, or an error.
    pub const WRITABLE: Self = Self { read: false, write: true };

    /// Whether it has to do with reading.
    #[must_use]
    pub fn is_readable(self) -> bool {
        self.read
    }

    /// Whether it has to do with writing.
    #[must_use]
    pub fn is_writable(self) -> bool {
        self.write
    }

    /// Waits for any of it, and gives what is there.
    pub(super) async fn wait(self, fd: BorrowedFd<'_>) -> io::Result<Self> {
        let mut condition = Condition::new();
        if self.read {
            condition = condition.readable(fd);
        }
        if self.write {
            condition = condition.writable(fd);
        }
        let ready = condition.wait().await?;
        Ok(Self { read: !ready.readable().is_empty(), write: !ready.writable().is_empty() })
    }
}

impl BitOr for Interest {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self { read: self.read || other.read, write: self.write || other.write }
    }
}
