//! The operating system: the one room with foreign functions.
#![allow(unsafe_code)]

#[cfg(target_os = "linux")]
pub(crate) mod epoll;
#[cfg(target_os = "linux")]
pub(crate) mod eventfd;
#[cfg(xiio_faults)]
mod faults;
pub(crate) mod fd;
pub(crate) mod fork;
pub(crate) mod nowait;
pub(crate) mod opened;
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "macos"))]
pub(crate) mod process;
pub(crate) mod signal;
pub(crate) mod socket;
pub(crate) mod stderr;
pub(crate) mod terminal;

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// What a system call does, as far as it matters for how it may fail.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(xiio_faults), allow(dead_code, reason = "only faults on purpose look at the descriptor"))]
pub(crate) enum Call<'fd> {
    /// Makes a descriptor, a process or a thread, of which there may be too many.
    Make,
    /// Changes what is there, for which memory may be missing.
    Change,
    /// May be interrupted by a signal.
    Wait,
    /// Moves something, or would block.
    Attempt(BorrowedFd<'fd>),
    /// Asks what is there now, which always works.
    Look,
    /// Finds out what this system can do.
    SelfCheck,
}

/// Makes a system call: the one place that all pass which may fail or wait, those of `std` as well.
///
/// Tests let calls fail here, see `faults`; any other build has nothing of that. What lacks nothing to be done (to send a
/// signal, to set its disposition, which is done in handlers, too) does not come here.
#[inline]
pub(crate) fn call<T>(call: Call<'_>, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    #[cfg(xiio_faults)]
    faults::strike(call)?;
    let _ = call;
    make()
}

/// Whether there are too few descriptors or there is too little memory: it may work a moment later.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

/// What was found, if anything; an error where it may be found later.
pub(crate) fn unless_short<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(error) if is_shortage(&error) => Err(error),
        found => Ok(found.ok()),
    }
}

/// How many of the `len` bytes that a stream is to move are asked for: all, but in a test.
#[inline]
fn portion(fd: BorrowedFd<'_>, len: usize) -> usize {
    #[cfg(xiio_faults)]
    let len = faults::portion(fd, len);
    let _ = fd;
    len
}

/// The clock.
#[inline]
pub(crate) fn now() -> Instant {
    let now = Instant::now();
    #[cfg(xiio_faults)]
    let now = faults::stand_still(now);
    now
}

/// The processor that this thread is on; `None` where the system does not tell.
pub(crate) fn processor() -> Option<u32> {
    #[cfg(target_os = "linux")]
    // SAFETY: takes nothing, and touches no memory of ours.
    return u32::try_from(unsafe { libc::sched_getcpu() }).ok();
    #[cfg(not(target_os = "linux"))]
    None
}

/// The user whose rights this process has.
pub(crate) fn user() -> u32 {
    // SAFETY: takes nothing, always works, and touches no memory of ours.
    unsafe { libc::geteuid() }
}

/// The result of a system call, `-1` turned into the error it left behind.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// As [`check`], for calls that give a length.
fn check_len(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Repeats a system call that a signal has interrupted.
fn retry<T>(mut make: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call(Call::Wait, &mut make) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
