//! What the standard streams of a child are connected to, and our ends of its pipes.

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut, PipeReader, PipeWriter};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::rc::{Rc, Weak};

use super::stopped::{Look, Process};
use crate::io::{Async, Read, Write};
use crate::sys;

/// What a standard stream of a child is connected to; as `std::process::Stdio`.
///
/// It is a type of its own, since that of `std` does not tell whether it is a pipe, which can take input.
///
/// # Examples
/// ```
/// use xiio::process::{Command, Stdio};
///
/// # xiio::run(async {
/// let status = Command::new("echo").arg("to nobody").stdout(Stdio::null()).status().await?;
/// assert!(status.success());
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Stdio {
    target: Target,
}

#[derive(Debug)]
enum Target {
    Inherit,
    Null,
    Piped,
    /// The standard output of this process.
    Stdout,
    /// The standard error of this process.
    Stderr,
    Descriptor(OwnedFd),
    /// What `std` knows of and does not tell.
    Std(std::process::Stdio),
}

impl Stdio {
    /// The stream of this process.
    #[must_use]
    pub fn inherit() -> Self {
        Self { target: Target::Inherit }
    }

    /// Nothing: reads are at the end, writes are lost.
    #[must_use]
    pub fn null() -> Self {
        Self { target: Target::Null }
    }

    /// A pipe, of which [`Child`](super::Child) has the other end.
    #[must_use]
    pub fn piped() -> Self {
        Self { target: Target::Piped }
    }

    pub(super) fn is_piped(&self) -> bool {
        matches!(self.target, Target::Piped)
    }
}

impl From<Stdio> for std::process::Stdio {
    fn from(stdio: Stdio) -> Self {
        match stdio.target {
            Target::Inherit => Self::inherit(),
            Target::Null => Self::null(),
            Target::Piped => Self::piped(),
            Target::Stdout => io::stdout().into(),
            Target::Stderr => io::stderr().into(),
            Target::Descriptor(fd) => fd.into(),
            Target::Std(stdio) => stdio,
        }
    }
}

macro_rules! stdio_from_descriptors {
    ($($of:ty),*) => {$(
        impl From<$of> for Stdio {
            fn from(descriptor: $of) -> Self {
                Self { target: Target::Descriptor(descriptor.into()) }
            }
        }
    )*};
}

/// The standard output of this process, for another stream of the child.
///
/// # Examples
/// ```
/// use xiio::process::Command;
///
/// # xiio::run(async {
/// let status = Command::new("ls").arg("/nowhere").stderr(std::io::stdout()).status().await?;
/// assert!(!status.success());
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
impl From<io::Stdout> for Stdio {
    fn from(_: io::Stdout) -> Self {
        Self { target: Target::Stdout }
    }
}

/// The standard error of this process, for another stream of the child.
impl From<io::Stderr> for Stdio {
    fn from(_: io::Stderr) -> Self {
        Self { target: Target::Stderr }
    }
}

/// That of `std`. Nobody can tell whether it is a pipe, so a command that has it for stdin cannot be given input.
impl From<std::process::Stdio> for Stdio {
    fn from(stdio: std::process::Stdio) -> Self {
        Self { target: Target::Std(stdio) }
    }
}

stdio_from_descriptors!(OwnedFd, File, PipeReader, PipeWriter, UnixStream);

/// A pipe to the stdin of a child. Closed when it is dropped; the child then reads to the end.
///
/// Writing to a child that has closed its stdin, or has ended, is the error `BrokenPipe`.
#[derive(Debug)]
pub struct ChildStdin {
    pipe: Async<PipeWriter>,
    /// Whoever waits for the pipe waits for the process.
    process: Weak<Process>,
}

/// A pipe from the stdout of a child.
#[derive(Debug)]
pub struct ChildStdout {
    pipe: Async<PipeReader>,
    /// Whoever waits for the pipe waits for the process.
    process: Weak<Process>,
}

/// A pipe from the stderr of a child.
#[derive(Debug)]
pub struct ChildStderr {
    pipe: Async<PipeReader>,
    /// Whoever waits for the pipe waits for the process.
    process: Weak<Process>,
}

macro_rules! pipe_ends {
    ($($end:ident of $std:ty),*) => {$(
        impl $end {
            pub(super) fn new(pipe: $std, process: &Rc<Process>) -> io::Result<Self> {
                Ok(Self { pipe: Async::new(OwnedFd::from(pipe).into())?, process: Rc::downgrade(process) })
            }
        }

        impl AsFd for $end {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.pipe.as_fd()
            }
        }

        impl AsRawFd for $end {
            fn as_raw_fd(&self) -> RawFd {
                self.pipe.as_raw_fd()
            }
        }

        /// Gives the pipe away, blocking again.
        impl From<$end> for OwnedFd {
            fn from(end: $end) -> Self {
                let pipe = end.pipe.into_inner();
                // Fails only for what is no open file.
                let _ = sys::fd::set_blocking(pipe.as_fd());
                pipe.into()
            }
        }

        /// The pipe for another child. It blocks again, as programs expect.
        impl From<$end> for Stdio {
            fn from(end: $end) -> Self {
                OwnedFd::from(end).into()
            }
        }
    )*};
}

pipe_ends!(
    ChildStdin of std::process::ChildStdin,
    ChildStdout of std::process::ChildStdout,
    ChildStderr of std::process::ChildStderr
);

macro_rules! readers {
    ($($end:ty),*) => {$(
        impl Read for $end {
            async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                // Not taken for drained when it was short: the child may write packets (`O_DIRECT`), and nothing tells.
                beside(&self.process, (&self.pipe).read(buf)).await
            }

            async fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                beside(&self.process, (&self.pipe).read_vectored(bufs)).await
            }
        }
    )*};
}

readers!(ChildStdout, ChildStderr);

#[cfg(feature = "futures-io")]
crate::io::delegate!(read [] ChildStdout, this => &this.pipe);
#[cfg(feature = "futures-io")]
crate::io::delegate!(read [] ChildStderr, this => &this.pipe);
// Closing flushes; the child reads to the end when its stdin is dropped.
#[cfg(feature = "futures-io")]
crate::io::delegate!(write [] ChildStdin, this => &this.pipe);

impl Write for ChildStdin {
    async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        beside(&self.process, (&self.pipe).write(buf)).await
    }

    async fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        beside(&self.process, (&self.pipe).write_vectored(bufs)).await
    }
}

/// Moves data of a process, and looks meanwhile whether that is stopped.
async fn beside<T>(process: &Weak<Process>, transfer: impl Future<Output = T>) -> T {
    let (mut transfer, mut look) = (pin!(transfer), Look::default());
    poll_fn(|cx| {
        let polled = transfer.as_mut().poll(cx);
        match process.upgrade() {
            Some(process) => look.around(polled, &process, cx),
            None => polled,
        }
    })
    .await
}
