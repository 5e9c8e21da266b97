//! As the kernel tells, in one copy of its table. See `KERN_PROC` in `sysctl(3)`.

use std::io;
use std::ptr;

use libc::{c_int, kinfo_proc};

use super::super::to_pid;
use super::{Entry, Motion, motion_of_all};
use crate::sys::{Call, call, check};

/// `None` when it is gone, or somebody else's and hidden.
pub(crate) fn is(pid: u32) -> io::Result<Option<Entry>> {
    Ok(find(libc::KERN_PROC_PID, to_pid(pid)?)?.first().map(entry_of))
}

/// The processes of a group that run.
///
/// # Errors
/// When it cannot be found out: there is no memory left, say.
pub(crate) fn in_group(group: u32) -> io::Result<Vec<u32>> {
    let members = find(libc::KERN_PROC_PGRP, to_pid(group)?)?;
    Ok(members.iter().filter(|found| entry_of(found).is_running).map(|found| found.ki_pid.unsigned_abs()).collect())
}

/// The kernel lists all processes, and not those of one parent.
///
/// # Errors
/// As [`in_group`].
pub(crate) fn children_of(pid: u32) -> io::Result<Vec<u32>> {
    let all = find(libc::KERN_PROC_PROC, 0)?;
    let children = all.iter().filter(|found| found.ki_ppid.unsigned_abs() == pid);
    Ok(children.map(|found| found.ki_pid.unsigned_abs()).collect())
}

/// # Errors
/// As [`in_group`].
pub(crate) fn motion(pid: u32) -> io::Result<Motion> {
    Ok(motion_of_all(is(pid)?.as_ref()))
}

pub(crate) fn ignores(pid: u32, signal: i32) -> bool {
    let found = to_pid(pid).and_then(|pid| find(libc::KERN_PROC_PID, pid)).unwrap_or_default();
    // SAFETY: the set lives until the call returns, and is only read.
    found.first().is_some_and(|found| unsafe { libc::sigismember(&raw const found.ki_sigignore, signal) } == 1)
}

fn entry_of(found: &kinfo_proc) -> Entry {
    let (parent, group) = (found.ki_ppid.unsigned_abs(), found.ki_pgid.unsigned_abs());
    let started = found.ki_start.tv_sec as u64 * 1_000_000 + found.ki_start.tv_usec as u64;
    let (is_stopped, is_running) = (found.ki_stat == libc::SSTOP, found.ki_stat != libc::SZOMB);
    Entry { parent, group, started: Some(started), is_stopped, is_running }
}

/// Those whom a selector of `KERN_PROC` finds.
fn find(selector: c_int, number: c_int) -> io::Result<Vec<kinfo_proc>> {
    let mut found = Vec::new();
    loop {
        match ask(selector, number, &mut found) {
            // There have come more than there was room for.
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && found.capacity() > 0 => {}
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(Vec::new()),
            Err(error) => return Err(error),
            Ok(()) => return Ok(found),
        }
    }
}

fn ask(selector: c_int, number: c_int, found: &mut Vec<kinfo_proc>) -> io::Result<()> {
    const SIZE: usize = size_of::<kinfo_proc>();
    let name = [libc::CTL_KERN, libc::KERN_PROC, selector, number];
    let sysctl = |room: *mut kinfo_proc, mut len: usize| {
        call(Call::Change, || {
            // SAFETY: the name is as long as is said. The kernel is told `len` and writes no more bytes than that to `room`, which
            // is ours or null. It writes a length to `len`, which is ours. Nothing is set.
            check(unsafe { libc::sysctl(name.as_ptr(), 4, room.cast(), &raw mut len, ptr::null(), 0) })
        })?;
        Ok::<_, io::Error>(len)
    };
    // The kernel adds room for some who may come in between.
    let len = sysctl(ptr::null_mut(), 0)?;
    found.reserve(len.div_ceil(SIZE));
    let len = sysctl(found.as_mut_ptr(), found.capacity() * SIZE)?;
    // SAFETY: the kernel has written so many, of integers, characters and pointers that are not followed.
    unsafe { found.set_len(len / SIZE) };
    match found.first() {
        Some(first) if usize::try_from(first.ki_structsize) != Ok(SIZE) => {
            Err(io::Error::new(io::ErrorKind::Unsupported, "this kernel describes processes in another form"))
        }
        _ => Ok(()),
    }
}
