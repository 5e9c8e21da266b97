//! Children that are signalled when their parent ends. See `PR_SET_PDEATHSIG(2const)`.

use std::io;
use std::os::unix::process::{CommandExt, parent_id};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

use libc::c_int;

use super::check;

/// The signal that the children of one command are sent when the thread ends that has started them.
#[derive(Debug)]
pub(crate) struct DeathSignal {
    /// 0 is none.
    signal: Arc<AtomicI32>,
}

impl DeathSignal {
    /// For once in the life of a command: what is set up in its children cannot be taken back.
    pub(crate) fn of(command: &mut Command) -> Self {
        let signal = Arc::new(AtomicI32::new(0));
        let (wanted, parent) = (Arc::clone(&signal), std::process::id());
        let set_up = move || ask_for(wanted.load(Relaxed), parent);
        // SAFETY: it makes system calls which are safe between `fork` and `exec`, takes no lock and allocates nothing.
        unsafe { command.pre_exec(set_up) };
        Self { signal }
    }

    /// For the children that are started from now on.
    pub(crate) fn set(&self, signal: c_int) {
        self.signal.store(signal, Relaxed);
    }
}

fn ask_for(signal: c_int, parent: u32) -> io::Result<()> {
    if signal == 0 {
        return Ok(());
    }
    // SAFETY: takes numbers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) })?;
    // It may have ended before. A parent outside of our namespace has no number.
    if parent_id() == parent || parent_id() == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
}
