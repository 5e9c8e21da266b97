//! A descriptor that other threads write to in order to wake one from its wait. See `eventfd(2)`.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::task::Wake;

use super::{Call, call, check};

/// Watched edge-triggered and never read: every write is an edge.
#[derive(Debug)]
pub(crate) struct EventFd(File);

impl EventFd {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: takes its arguments by value and touches no memory of ours.
        let fd = call(Call::Make, || check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) }))?;
        // SAFETY: a result that is no error is a fresh descriptor owned by no one else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self(File::from(fd)))
    }

    pub(crate) fn notify(&self) {
        // The counter overflows after 2⁶⁴ - 2 writes; there is no other way to fail.
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Wake for EventFd {
    fn wake(self: Arc<Self>) {
        self.notify();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.notify();
    }
}
