//! epoll and its like, as thin as they can be.

use std::io::{Error, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

pub struct Epoll(OwnedFd);

/// The events of one wait.
pub struct Events(Vec<libc::epoll_event>);

impl Events {
    pub fn new() -> Self {
        Events(Vec::with_capacity(256))
    }
}

impl Epoll {
    pub fn new() -> Self {
        // SAFETY: takes no pointer.
        let fd = checked(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) });
        // SAFETY: a result >= 0 is a fresh descriptor that nobody else owns.
        Epoll(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Watches `fd` for being readable, level-triggered.
    pub fn add(&self, fd: &impl AsFd, key: u64) {
        self.control(libc::EPOLL_CTL_ADD, fd, key);
    }

    pub fn remove(&self, fd: &impl AsFd) {
        self.control(libc::EPOLL_CTL_DEL, fd, 0);
    }

    fn control(&self, operation: i32, fd: &impl AsFd, key: u64) {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: key };
        let fd = fd.as_fd().as_raw_fd();
        // SAFETY: `event` is valid for the time of the call, and both descriptors are open.
        checked(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd, &mut event) });
    }

    /// Waits for events and returns their keys.
    pub fn wait<'e>(&self, events: &'e mut Events) -> impl Iterator<Item = u64> + use<'e> {
        let (fd, room) = (self.0.as_raw_fd(), events.0.capacity() as i32);
        // SAFETY: the vector has room for as many events as are asked for.
        let n = checked(unsafe { libc::epoll_wait(fd, events.0.as_mut_ptr(), room, -1) });
        // SAFETY: the kernel has written the first `n` events.
        unsafe { events.0.set_len(n as usize) };
        events.0.iter().map(|event| event.u64)
    }
}

/// Lets this process, and the ones it starts, have as many descriptors open as it may allow itself.
pub fn raise_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit lives through the call.
    checked(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) });
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: as above.
    checked(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) });
}

/// Turns the -1 of a system call into a panic with the reason.
pub fn checked(result: i32) -> RawFd {
    assert!(result >= 0, "system call: {}", Error::last_os_error());
    result
}

/// Reads once; `None` when there is nothing yet.
pub fn read_ready(mut stream: impl Read, buffer: &mut [u8]) -> Option<usize> {
    match stream.read(buffer) {
        Ok(n) => Some(n),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("read: {error}"),
    }
}

/// Writes a few bytes, for which there always is room.
pub fn write_few(mut stream: impl Write, bytes: &[u8]) {
    assert_eq!(stream.write(bytes).unwrap(), bytes.len());
}
