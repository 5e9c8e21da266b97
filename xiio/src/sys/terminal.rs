//! The controlling terminal. See `tty(4)`, `credentials(7)`.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;

use super::{Call, call};

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
        Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)) => Err(error),
        Err(_) => Ok(false),
    }
}
