//! Children that are signalled when their parent ends. See `PR_SET_PDEATHSIG(2const)` on Linux, `PROC_PDEATHSIG_CTL` in
//! `procctl(2)` on FreeBSD; macOS has nothing of that kind.

use std::io;
use std::os::unix::process::{CommandExt, parent_id};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::Relaxed};

use libc::c_int;

#[cfg(not(target_os = "macos"))]
use crate::sys::check;

/// The signal that the children of one command are sent when the thread ends that has started them; on FreeBSD,
/// when the process does.
#[derive(Debug)]
pub(crate) struct DeathSignal {
    wanted: Arc<Wanted>,
}

#[derive(Debug, Default)]
struct Wanted {
    /// 0 is none.
    signal: AtomicI32,
    /// Who starts the child: a command may be used in a process that was forked off.
    parent: AtomicU32,
}

impl DeathSignal {
    /// For once in the life of a command: what is set up in its children cannot be taken back.
    pub(crate) fn of(command: &mut Command) -> Self {
        let wanted = Arc::<Wanted>::default();
        let ours = Arc::clone(&wanted);
        let set_up = move || ask_for(ours.signal.load(Relaxed), ours.parent.load(Relaxed));
        // SAFETY: it makes system calls which are safe between `fork` and `exec`, takes no lock and allocates nothing.
        unsafe { command.pre_exec(set_up) };
        Self { wanted }
    }

    /// For the children that this process starts from now on.
    pub(crate) fn set(&self, signal: c_int) {
        self.wanted.signal.store(signal, Relaxed);
        self.wanted.parent.store(std::process::id(), Relaxed);
    }
}

fn ask_for(signal: c_int, parent: u32) -> io::Result<()> {
    if signal == 0 {
        return Ok(());
    }
    ask_system(signal)?;
    // It may have ended before. A parent outside of our namespace has no number.
    if parent_id() == parent || parent_id() == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn ask_system(signal: c_int) -> io::Result<()> {
    // SAFETY: takes numbers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) })?;
    Ok(())
}

#[cfg(target_os = "freebsd")]
fn ask_system(mut signal: c_int) -> io::Result<()> {
    // SAFETY: the request reads one `int`, which lives until the call returns; the process 0 is the one that calls.
    check(unsafe { libc::procctl(libc::P_PID, 0, libc::PROC_PDEATHSIG_CTL, (&raw mut signal).cast()) })?;
    Ok(())
}

/// Allocates nothing, as nothing may after a fork.
#[cfg(target_os = "macos")]
fn ask_system(_: c_int) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}
