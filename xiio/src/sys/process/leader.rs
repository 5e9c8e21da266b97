//! Children that lead a process group, by choice at each start. See `setpgid(2)`.
//!
//! `std` keeps a group that was set. It can be set to another one, but not to ours where that has no number.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::sys::check;

/// Whether the children of one command lead a group.
#[derive(Debug)]
pub(crate) struct Leader {
    is_wanted: Arc<AtomicBool>,
}

impl Leader {
    /// For once in the life of a command: what is set up in its children cannot be taken back.
    pub(crate) fn of(command: &mut Command) -> Self {
        let is_wanted = Arc::<AtomicBool>::default();
        let ours = Arc::clone(&is_wanted);
        let set_up = move || {
            if ours.load(Relaxed) {
                // SAFETY: takes numbers.
                check(unsafe { libc::setpgid(0, 0) })?;
            }
            Ok(())
        };
        // SAFETY: it makes one system call, which is safe between `fork` and `exec`, takes no lock and allocates nothing.
        unsafe { command.pre_exec(set_up) };
        Self { is_wanted }
    }

    /// For the children that are started from now on.
    pub(crate) fn set(&self, is_wanted: bool) {
        self.is_wanted.store(is_wanted, Relaxed);
    }
}
