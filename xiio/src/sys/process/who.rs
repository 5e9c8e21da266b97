//! Who there is: the processes of the system, each by its number, which may be another's a moment later.

#[cfg(any(target_os = "linux", target_os = "android"))]
#[path = "who/linux.rs"]
mod system;
#[cfg(target_os = "freebsd")]
#[path = "who/freebsd.rs"]
mod system;
#[cfg(target_os = "macos")]
#[path = "who/macos.rs"]
mod system;

pub(crate) use system::{children_of, ignores, in_group, is, motion};

/// What is known of a process.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) parent: u32,
    pub(crate) group: u32,
    /// When it has started, in a unit of the system's. With the number that is one process for ever. `None` where that is not told.
    pub(crate) started: Option<u64>,
    /// It does nothing until somebody lets it go on.
    pub(crate) is_stopped: bool,
    /// It has not ended; one that has only waits for its parent.
    pub(crate) is_running: bool,
}

/// Whether a process may do something before somebody lets it go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Motion {
    /// All of it is stopped or has ended.
    Still,
    /// Some of it waits in the kernel, as for the end of a child of `vfork(2)`, which may take long.
    Waits,
    /// Some of it runs.
    Runs,
}

/// [`motion`] where the kernel tells of a process as a whole.
#[cfg(any(target_os = "freebsd", target_os = "macos"))]
fn motion_of_all(found: Option<&Entry>) -> Motion {
    if found.is_none_or(|found| found.is_stopped || !found.is_running) { Motion::Still } else { Motion::Waits }
}
