//! As `/proc` tells. See `proc_pid_stat(5)`, `proc_pid_status(5)`, `proc_pid_task(5)`.
//!
//! It may be that of another namespace of processes, in which the same numbers are others'. Then it tells nothing, as where there is none.

use std::fs;
use std::io;
use std::path::Path;
use std::process;
use std::str::SplitWhitespace;

use super::super::may_be_in_group;
use super::{Entry, Motion};
use crate::sys::{Call, call, unless_short};

/// Whether the numbers there are those of our namespace. To be asked before any of them is taken for one of ours.
fn is_ours() -> bool {
    fs::read_link("/proc/self").is_ok_and(|own| own == Path::new(&process::id().to_string()))
}

/// `None` when it is gone, or somebody else's and hidden: by the option `hidepid` of `proc(5)`, or a sandbox.
pub(crate) fn is(pid: u32) -> io::Result<Option<Entry>> {
    const NOBODY: &[libc::c_int] = &[libc::ENOENT, libc::ESRCH, libc::EACCES, libc::EPERM];
    match read(&format!("/proc/{pid}/stat")) {
        Ok(text) => Ok(parse(&text)),
        Err(error) if error.raw_os_error().is_some_and(|code| NOBODY.contains(&code)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The processes of a group that run.
///
/// # Errors
/// When it cannot be found out: there are no descriptors left, say, or no `/proc` of ours.
pub(crate) fn in_group(group: u32) -> io::Result<Vec<u32>> {
    if !is_ours() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut members = Vec::new();
    for entry in call(Call::Make, || fs::read_dir("/proc"))? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // That costs a hundredth of a look at its file, and hardly anybody of the system is in the group.
        if may_be_in_group(pid, group) && is(pid)?.is_some_and(|found| found.is_running && found.group == group) {
            members.push(pid);
        }
    }
    Ok(members)
}

/// The children of all threads of a process. Nobody where the kernel does not tell.
///
/// # Errors
/// When there are too few descriptors to find out: it takes two.
pub(crate) fn children_of(pid: u32) -> io::Result<Vec<u32>> {
    let mut children = Vec::new();
    let Some(threads) = is_ours().then(|| fs::read_dir(format!("/proc/{pid}/task"))) else { return Ok(children) };
    for thread in unless_short(threads)?.into_iter().flatten().flatten() {
        let list = unless_short(fs::read_to_string(thread.path().join("children")))?.unwrap_or_default();
        children.extend(list.split_whitespace().flat_map(str::parse::<u32>));
    }
    Ok(children)
}

/// Of all threads, as each stops by itself. Still, where the kernel does not tell.
///
/// # Errors
/// As [`children_of`].
pub(crate) fn motion(pid: u32) -> io::Result<Motion> {
    let mut motion = Motion::Still;
    let Some(threads) = is_ours().then(|| fs::read_dir(format!("/proc/{pid}/task"))) else { return Ok(motion) };
    for thread in unless_short(threads)?.into_iter().flatten().flatten() {
        let text = unless_short(fs::read(thread.path().join("stat")))?.unwrap_or_default();
        motion = motion.max(motion_in(&String::from_utf8_lossy(&text)));
    }
    Ok(motion)
}

pub(crate) fn ignores(pid: u32, signal: i32) -> bool {
    let status = is_ours().then(|| read(&format!("/proc/{pid}/status")).ok()).flatten();
    let ignored = status.and_then(|text| {
        let mask = text.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    ignored.is_some_and(|mask| mask.checked_shr(signal.unsigned_abs() - 1).is_some_and(|mask| mask & 1 == 1))
}

/// The name of a process is in it, which may be anything: the kernel cuts it after 15 bytes.
fn read(path: &str) -> io::Result<String> {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn motion_in(text: &str) -> Motion {
    match fields_of(text).and_then(|mut fields| fields.next()) {
        // Also one that a debugger has stopped.
        None | Some("T" | "t" | "Z" | "X" | "x") => Motion::Still,
        Some("R") => Motion::Runs,
        Some(_) => Motion::Waits,
    }
}

/// `pid (name) state parent group …`, where the name may hold anything, parentheses too.
fn parse(text: &str) -> Option<Entry> {
    let mut fields = fields_of(text)?;
    let state = fields.next()?;
    let (parent, group) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let started = fields.nth(16).and_then(|ticks| ticks.parse().ok());
    Some(Entry { parent, group, started, is_stopped: state == "T", is_running: !matches!(state, "Z" | "X" | "x") })
}

/// From the state on.
fn fields_of(text: &str) -> Option<SplitWhitespace<'_>> {
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace())
}

#[cfg(test)]
mod tests {
    use super::{Entry, Motion, motion_in, parse};

    #[test]
    fn name_may_hold_anything() {
        let parse = |text: &str| parse(text).unwrap();
        let entry = |group, started, is_running| Entry { parent: 1, group, started, is_stopped: false, is_running };
        let rest = "34 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 8731 9";
        assert_eq!(parse(&format!("12 (sh) S 1 34 {rest}")), entry(34, Some(8731), true));
        assert_eq!(parse(&format!("12 (a) Z 1 (2) 3)) Z 1 34 {rest}")), entry(34, Some(8731), false));
        assert!(parse("12 (sh) T 1 34 34 0").is_stopped);
        assert_eq!(parse("12 (\n) ) R 1 7"), entry(7, None, true));
    }

    #[test]
    fn who_does_nothing_is_still() {
        let motions = ["T", "t", "Z", "D", "S", "R"].map(|state| motion_in(&format!("12 (R) {state} 1 34")));
        let expected = [Motion::Still, Motion::Still, Motion::Still, Motion::Waits, Motion::Waits, Motion::Runs];
        assert_eq!(motions, expected);
        assert_eq!(motion_in(""), Motion::Still);
    }

    #[test]
    fn what_is_cut_short_is_no_process() {
        for text in ["", "12", "12 (sh", "12 (sh)", "12 (sh) S", "12 (sh) S 1", "12 (sh) S 1 x"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
