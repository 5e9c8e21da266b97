//! The controlling terminal. See `tty(4)`, `credentials(7)`.

use std::fs::{self, File};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::OpenOptionsExt;

use super::{Call, call, is_shortage, unless_short};

/// Whether the session of this process has a terminal, in the foreground of which its group is or may come.
///
/// # Errors
/// When that cannot be found out, as there are no descriptors left.
pub(crate) fn has_terminal() -> io::Result<bool> {
    let mut options = File::options();
    // A line that waits for a carrier does not keep us.
    options.read(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK);
    match call(Call::Make, || options.open("/dev/tty")) {
        Ok(_) => Ok(true),
        Err(error) if is_shortage(&error) => Err(error),
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(false),
        // The device is not there or not for us, as in a container and in a sandbox. There may be a terminal all the same.
        Err(_) => Ok((0..=2).any(is_of_own_session) || has_number()?),
    }
}

/// Whether a descriptor is the terminal of our session.
fn is_of_own_session(fd: RawFd) -> bool {
    // SAFETY: takes a number, also one that is not open.
    let of_terminal = unsafe { libc::tcgetsid(fd) };
    // SAFETY: takes a number; zero is this process.
    of_terminal > 0 && of_terminal == unsafe { libc::getsid(0) }
}

/// Whether `/proc` tells of a terminal of ours, if there is one. See `tty_nr` in `proc_pid_stat(5)`.
fn has_number() -> io::Result<bool> {
    let stat = unless_short(call(Call::Make, || fs::read("/proc/self/stat")))?.unwrap_or_default();
    let stat = String::from_utf8_lossy(&stat);
    // The name, in parentheses, may hold anything.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
    Ok(fields.split_whitespace().nth(4).is_some_and(|number| number != "0"))
}
