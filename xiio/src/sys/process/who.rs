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

pub(crate) use system::{children_of, ignores, in_group, is};

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
