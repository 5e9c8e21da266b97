//! Registering with an epoll descriptor, and waiting on it with one system call.
//!
//! See `epoll_ctl(2)` and `epoll_wait(2)`. `epoll_pwait2` (Linux 5.11) takes nanoseconds; where it is missing, milliseconds are rounded up.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Call, call, check, check_len};

/// Room for what one wait may report.
pub(crate) struct Events {
    buffer: Vec<libc::epoll_event>,
}

/// One report: the key of the registration, and what happened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    pub(crate) key: u64,
    pub(crate) is_readable: bool,
    pub(crate) is_writable: bool,
    /// There is more to fetch than data: the other end has closed, an error, urgent data.
    pub(crate) is_special: bool,
}

const READABLE: u32 = (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR | libc::EPOLLPRI) as u32;
const WRITABLE: u32 = (libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR) as u32;

const SPECIAL: u32 = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR | libc::EPOLLPRI) as u32;

/// Asks for what a notifier reports.
pub(crate) const NOTIFIER_EDGES: u32 = (libc::EPOLLIN | libc::EPOLLET).cast_unsigned();

/// Asks for both directions. Hang-up and errors come unasked.
pub(crate) const BOTH_EDGES: u32 = READ_EDGES | libc::EPOLLOUT.cast_unsigned();

/// Asks for the direction of reading. Edge-triggered: an event is what *became* ready.
pub(crate) const READ_EDGES: u32 = (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLPRI | libc::EPOLLET).cast_unsigned();

/// Registers `fd` under `key`.
pub(crate) fn add(epoll: BorrowedFd<'_>, fd: BorrowedFd<'_>, key: u64, interest: u32) -> io::Result<()> {
    control(epoll, libc::EPOLL_CTL_ADD, fd, key, interest)
}

/// Registers a registered `fd` anew; what is ready now is reported again.
pub(crate) fn modify(epoll: BorrowedFd<'_>, fd: BorrowedFd<'_>, key: u64, interest: u32) -> io::Result<()> {
    control(epoll, libc::EPOLL_CTL_MOD, fd, key, interest)
}

fn control(
    epoll: BorrowedFd<'_>,
    operation: libc::c_int,
    fd: BorrowedFd<'_>,
    key: u64,
    interest: u32,
) -> io::Result<()> {
    let mut event = libc::epoll_event { events: interest, u64: key };
    // SAFETY: both descriptors are open, as they are borrowed; `event` lives until the call returns.
    let control = || check(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), operation, fd.as_raw_fd(), &raw mut event) });
    call(Call::Change, control)?;
    #[cfg(xiio_faults)]
    super::faults::note_watched(epoll, fd, key, interest);
    Ok(())
}

/// A time as the system call reads it: `__kernel_timespec`, two words of 64 bits on every machine. The `timespec` of a 32-bit C library
/// may be half as long.
#[repr(C)]
struct KernelTime {
    seconds: i64,
    nanoseconds: i64,
}

const _: () = assert!(size_of::<KernelTime>() == 16);

static HAS_PWAIT2: AtomicBool = AtomicBool::new(true);

impl Events {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        let buffer = Vec::with_capacity(capacity);
        Self { buffer }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Event> {
        self.buffer.iter().map(|event| Event {
            key: event.u64,
            is_readable: event.events & READABLE != 0,
            is_writable: event.events & WRITABLE != 0,
            is_special: event.events & SPECIAL != 0,
        })
    }

    /// Waits until something happens or `timeout` is over; `None` is no limit. A signal ends the wait early, without
    /// an event.
    pub(crate) fn wait(&mut self, epoll: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<()> {
        self.buffer.clear();
        // Only a wait that sleeps can be interrupted.
        let is_look = timeout == Some(Duration::ZERO);
        let what = if is_look { Call::Look } else { Call::Wait };
        let n_events = match call(what, || self.wait_once(epoll, timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            result => result?,
        };
        // SAFETY: the kernel has written this many events, and it was told of no more than the capacity.
        unsafe { self.buffer.set_len(n_events) };
        #[cfg(xiio_faults)]
        super::faults::add_report(epoll, &mut self.buffer);
        Ok(())
    }

    fn wait_once(&mut self, epoll: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<usize> {
        let needs_clock = timeout.is_some_and(|timeout| !timeout.is_zero());
        if needs_clock && HAS_PWAIT2.load(Ordering::Relaxed) {
            match self.pwait2(epoll, timeout.unwrap_or_default()) {
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                    HAS_PWAIT2.store(false, Ordering::Relaxed);
                }
                result => return result,
            }
        }
        self.wait_millis(epoll, timeout)
    }

    fn capacity(&self) -> libc::c_int {
        libc::c_int::try_from(self.buffer.capacity()).unwrap_or(libc::c_int::MAX)
    }

    fn pwait2(&mut self, epoll: BorrowedFd<'_>, timeout: Duration) -> io::Result<usize> {
        let timeout = KernelTime {
            seconds: timeout.as_secs().try_into().unwrap_or(i64::MAX),
            nanoseconds: timeout.subsec_nanos().into(),
        };
        // SAFETY: the buffer has room for `capacity` events and `timeout` lives until the call returns; without a signal
        // mask the size of one is not looked at.
        let n_events = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                epoll.as_raw_fd(),
                self.buffer.as_mut_ptr(),
                self.capacity(),
                &raw const timeout,
                ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        };
        check_len(n_events as libc::ssize_t)
    }

    fn wait_millis(&mut self, epoll: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<usize> {
        let millis = timeout.map_or(-1, |timeout| {
            let millis = timeout.as_nanos().div_ceil(1_000_000);
            libc::c_int::try_from(millis).unwrap_or(libc::c_int::MAX)
        });
        // SAFETY: the buffer has room for `capacity` events.
        let n_events =
            unsafe { libc::epoll_wait(epoll.as_raw_fd(), self.buffer.as_mut_ptr(), self.capacity(), millis) };
        check(n_events).map(|n_events| n_events.unsigned_abs() as usize)
    }
}
