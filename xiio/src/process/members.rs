//! Who is in a process group.

use std::io;

use crate::sys::process::{PidFd, who};

/// The processes of a group that run: no zombies, which only wait for their parent.
///
/// # Errors
/// When it cannot be found out: there are no descriptors left, say.
pub(super) fn running_members(group: u32) -> io::Result<Vec<PidFd>> {
    let members = who::in_group(group)?.into_iter().map(|pid| running_member(pid, group));
    members.filter_map(Result::transpose).collect()
}

fn running_member(pid: u32, group: u32) -> io::Result<Option<PidFd>> {
    let member = match PidFd::open(pid) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        opened => opened?,
    };
    // The number may have gone to another process in between; what the descriptor stands for stays the same.
    let is_member = who::is(pid)?.is_some_and(|found| found.is_running && found.group == group);
    Ok(is_member.then_some(member))
}
