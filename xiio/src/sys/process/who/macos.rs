//! As the kernel tells, by the functions of `libproc.h`.

use std::io;

use libc::{c_int, pid_t, proc_bsdshortinfo};

use super::super::to_pid;
use super::{Entry, Motion, motion_of_all};
use crate::sys::{Call, call, is_shortage};

/// Of `proc_info.h`, which `libc` does not name.
const PROC_PGRP_ONLY: u32 = 2;
const PROC_PPID_ONLY: u32 = 6;

/// `None` when it has ended, or is somebody else's and hidden.
pub(crate) fn is(pid: u32) -> io::Result<Option<Entry>> {
    const SIZE: c_int = size_of::<proc_bsdshortinfo>() as c_int;
    let pid = to_pid(pid)?;
    // SAFETY: integers and characters, for which zero is a value.
    let mut found: proc_bsdshortinfo = unsafe { std::mem::zeroed() };
    let asked = call(Call::Look, || {
        // SAFETY: `found` is ours, and the call writes no more than it is told.
        let len = unsafe { libc::proc_pidinfo(pid, libc::PROC_PIDT_SHORTBSDINFO, 0, (&raw mut found).cast(), SIZE) };
        if len == SIZE { Ok(()) } else { Err(io::Error::last_os_error()) }
    });
    match asked {
        Ok(()) => Ok(Some(Entry {
            parent: found.pbsi_ppid,
            group: found.pbsi_pgid,
            // Of others it is told to few.
            started: None,
            is_stopped: found.pbsi_status == libc::SSTOP,
            is_running: found.pbsi_status != libc::SZOMB,
        })),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EPERM)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The processes of a group that run.
///
/// # Errors
/// When it cannot be found out: there is no memory left, say.
pub(crate) fn in_group(group: u32) -> io::Result<Vec<u32>> {
    let mut members = list(PROC_PGRP_ONLY, group)?;
    members.retain(|pid| is(*pid).is_ok_and(|found| found.is_some_and(|found| found.is_running)));
    Ok(members)
}

/// Nobody where the kernel does not tell.
///
/// # Errors
/// When there is too little memory to find out.
pub(crate) fn children_of(pid: u32) -> io::Result<Vec<u32>> {
    match list(PROC_PPID_ONLY, pid) {
        Err(error) if !is_shortage(&error) => Ok(Vec::new()),
        found => found,
    }
}

/// # Errors
/// As [`in_group`].
pub(crate) fn motion(pid: u32) -> io::Result<Motion> {
    Ok(motion_of_all(is(pid)?.as_ref()))
}

/// It is not to be found out. Nobody asks, as it does not tell of the terminal's keys either.
pub(crate) fn ignores(_: u32, _: i32) -> bool {
    false
}

/// Room for as many as a list has at first.
const MANY: usize = 64;

/// The numbers of those of one kind.
fn list(kind: u32, number: u32) -> io::Result<Vec<u32>> {
    let mut found: Vec<pid_t> = vec![0; MANY];
    loop {
        let size = c_int::try_from(size_of_val(&found[..])).unwrap_or(c_int::MAX);
        let len = call(Call::Change, || {
            // SAFETY: the address of this thread's `errno`, which lives as long as the thread.
            unsafe { libc::__error().write(0) };
            // SAFETY: the room is ours, and the call writes no more than it is told.
            let len = unsafe { libc::proc_listpids(kind, number, found.as_mut_ptr().cast(), size) };
            // No length is an error, or nobody.
            match io::Error::last_os_error() {
                error if len <= 0 && error.raw_os_error() != Some(0) => Err(error),
                _ => Ok(len),
            }
        })?;
        if len < size {
            found.truncate(len.unsigned_abs() as usize / size_of::<pid_t>());
            return Ok(found.into_iter().filter(|pid| *pid > 0).map(i32::unsigned_abs).collect());
        }
        // There may be more.
        found.resize(found.len() * 2, 0);
    }
}
