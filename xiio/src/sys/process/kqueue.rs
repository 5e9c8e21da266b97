//! A process as a descriptor, where the kernel has no such thing: a queue with one event, its end. See `kqueue(2)`.
//!
//! The event is never fetched, so the queue stays readable. A queue is closed in children.
//!
//! A signal goes to a number. The queue tells first whether its process has ended. So the number is another's only if the
//! process ends, is reaped by its parent, and a new one has its number, all between two system calls.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use libc::{c_int, pid_t};

use super::{look_at_child, to_pid};
use crate::sys::fd::{Direction, is_ready};
use crate::sys::{Call, call, check};

/// One process, also after it has ended and its number belongs to another. Readable when it has ended.
#[derive(Debug)]
pub(crate) struct PidFd {
    queue: OwnedFd,
    pid: pid_t,
}

impl PidFd {
    /// For a process that is no other's yet: a child that was not reaped, say.
    ///
    /// # Errors
    /// `ESRCH` when there is no such process.
    pub(crate) fn open(pid: u32) -> io::Result<Self> {
        let pid = to_pid(pid)?;
        // SAFETY: takes nothing and touches no memory of ours.
        let queue = call(Call::Make, || check(unsafe { libc::kqueue() }))?;
        // SAFETY: a result that is no error is a fresh descriptor owned by no one else.
        let queue = unsafe { OwnedFd::from_raw_fd(queue) };
        let watched = change(&queue, libc::EVFILT_PROC, pid.unsigned_abs(), libc::EV_ADD, libc::NOTE_EXIT);
        match watched {
            // On macOS one that has ended cannot be watched any more.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) && is_there(pid) => make_readable(&queue)?,
            watched => watched?,
        }
        Ok(Self { queue, pid })
    }

    /// Whether this kernel has such descriptors: each has.
    #[expect(clippy::unnecessary_wraps, reason = "elsewhere it may fail")]
    pub(crate) fn check_supported() -> io::Result<()> {
        Ok(())
    }

    /// Sends a signal to this one process.
    ///
    /// # Errors
    /// `ESRCH` when it has been reaped, `EPERM`, `EINVAL` for a signal that does not exist.
    pub(crate) fn send_signal(&self, signal: c_int) -> io::Result<()> {
        // A process that is no child of ours may be reaped at any time from its end on.
        if is_ready(self.as_fd(), Direction::Read)? && !is_child(self.pid) {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        // SAFETY: takes its arguments by value and touches no memory of ours.
        check(unsafe { libc::kill(self.pid, signal) })?;
        Ok(())
    }

    /// The signal that has stopped this child, if it is stopped now.
    pub(crate) fn stopped_by(&self) -> Option<c_int> {
        look_at_child(libc::P_PID, self.pid.unsigned_abs() as libc::id_t, libc::WSTOPPED).ok()?
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

/// Whether it is a child of ours that was not reaped.
fn is_child(pid: pid_t) -> bool {
    look_at_child(libc::P_PID, pid.unsigned_abs() as libc::id_t, libc::WEXITED).is_ok()
}

/// Whether there is such a process, also one that has ended and was not reaped.
fn is_there(pid: pid_t) -> bool {
    // SAFETY: takes its arguments by value and touches no memory of ours.
    let found = check(unsafe { libc::kill(pid, 0) });
    // A child is there, though nobody else finds it for a moment while it ends.
    found.is_ok() || is_child(pid)
}

/// The event of a number that we give ourselves.
fn make_readable(queue: &OwnedFd) -> io::Result<()> {
    change(queue, libc::EVFILT_USER, 0, libc::EV_ADD, 0)?;
    change(queue, libc::EVFILT_USER, 0, 0, libc::NOTE_TRIGGER)
}

fn change(queue: &OwnedFd, filter: i16, number: u32, flags: u16, notes: u32) -> io::Result<()> {
    // SAFETY: integers and a pointer, for which zero is a value. Systems have more fields, or fewer.
    let mut event: libc::kevent = unsafe { std::mem::zeroed() };
    event.ident = number as libc::uintptr_t;
    event.filter = filter;
    event.flags = flags;
    event.fflags = notes;
    call(Call::Change, || {
        // SAFETY: one change, which lives until the call returns, and no room for events.
        check(unsafe { libc::kevent(queue.as_raw_fd(), &raw const event, 1, ptr::null_mut(), 0, ptr::null()) })
    })?;
    Ok(())
}
