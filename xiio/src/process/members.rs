//! Who is in a process group, as `/proc` tells. See `proc_pid_stat(5)`.

use std::fs;
use std::io;

use crate::sys::pidfd::PidFd;
use crate::sys::{Call, call};

/// What is read of one process.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    is_running: bool,
    group: u32,
}

/// The processes of a group that run: no zombies, which only wait for their parent.
///
/// # Errors
/// When it cannot be found out: there are no descriptors left, say, or no `/proc`.
pub(super) fn running_members(group: u32) -> io::Result<Vec<PidFd>> {
    let mut members = Vec::new();
    for entry in call(Call::Make, || fs::read_dir("/proc"))? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        match running_member(pid, group) {
            Ok(member) => members.extend(member),
            // It is gone, or somebody else's.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH | libc::EACCES)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(members)
}

fn running_member(pid: u32, group: u32) -> io::Result<Option<PidFd>> {
    if !is_running_member(pid, group)? {
        return Ok(None);
    }
    let member = PidFd::open(pid)?;
    // The number may have gone to another process in between; what the descriptor stands for stays the same.
    Ok(is_running_member(pid, group)?.then_some(member))
}

fn is_running_member(pid: u32, group: u32) -> io::Result<bool> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    Ok(Stat::parse(&stat).is_some_and(|stat| stat.is_running && stat.group == group))
}

impl Stat {
    /// `pid (name) state parent group …`, where the name may hold anything, parentheses too.
    fn parse(text: &str) -> Option<Self> {
        let (_, fields) = text.rsplit_once(')')?;
        let mut fields = fields.split_whitespace();
        let state = fields.next()?;
        let group = fields.nth(1)?.parse().ok()?;
        Some(Self { is_running: !matches!(state, "Z" | "X" | "x"), group })
    }
}

#[cfg(test)]
mod tests {
    use super::Stat;

    #[test]
    fn name_may_hold_anything() {
        let parse = |text| Stat::parse(text).unwrap();
        assert_eq!(parse("12 (sh) S 1 34 34 0"), Stat { is_running: true, group: 34 });
        assert_eq!(parse("12 (a) Z 1 (2) 3)) Z 1 34 34 0"), Stat { is_running: false, group: 34 });
        assert_eq!(parse("12 (\n) ) R 1 7"), Stat { is_running: true, group: 7 });
    }

    #[test]
    fn what_is_cut_short_is_no_process() {
        for text in ["", "12", "12 (sh", "12 (sh)", "12 (sh) S", "12 (sh) S 1", "12 (sh) S 1 x"] {
            assert_eq!(Stat::parse(text), None, "{text}");
        }
    }
}
