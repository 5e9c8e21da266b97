//! Standard error, which keeps nobody for long.
//!
//! A full pipe that nobody reads, or a terminal that was stopped by Ctrl-S, would keep a loop from its cleanups for ever. So who writes waits for a
//! bounded time, once until there is room again, and what has no room then is lost. The next text says so.
//!
//! What does not work: `io::stderr()`. Another thread may be stuck with its lock. Nor `eprintln!`, which panics as well when nobody reads.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use super::fd::{Direction, is_ready};
use super::nowait;

/// How long one waits between two looks whether there is room, and how often: a second.
const PAUSE: Duration = Duration::from_millis(5);
const N_PAUSES: u32 = 200;

static N_LOST: AtomicU32 = AtomicU32::new(0);

/// Writes a line or several, or loses them.
pub(crate) fn say(text: &str) {
    say_to(io::stderr().as_fd(), &N_LOST, text);
}

fn say_to(fd: BorrowedFd<'_>, n_lost: &AtomicU32, text: &str) {
    // Taken, so that of several threads one says so.
    let n_before = n_lost.swap(0, Ordering::Relaxed);
    let (mut whole, mut n_pauses) = (String::new(), N_PAUSES);
    if n_before > 0 {
        // One may have been cut in the middle of a line.
        whole = format!("\nxiio: standard error had no room, {n_before} texts are lost\n");
        n_pauses = 0;
    }
    whole.push_str(text);
    whole.push('\n');
    if write_all(fd, whole.as_bytes(), n_pauses).is_err() {
        n_lost.fetch_add(n_before + 1, Ordering::Relaxed);
    }
}

/// # Errors
/// `WouldBlock` when there was no room for all of it in time. What the system reports; nobody can be told of it.
fn write_all(fd: BorrowedFd<'_>, mut text: &[u8], mut n_pauses: u32) -> io::Result<()> {
    while !text.is_empty() {
        let written = match is_ready(fd, Direction::Write)? {
            true => nowait::write(fd, text),
            false => Err(io::ErrorKind::WouldBlock.into()),
        };
        match written {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n_bytes) => text = &text[n_bytes..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && n_pauses > 0 => {
                n_pauses -= 1;
                thread::sleep(PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, pipe};

    use super::*;

    #[test]
    fn what_finds_no_room_is_lost_and_counted() {
        let (mut reader, writer) = pipe().unwrap();
        let n_lost = AtomicU32::new(0);
        let say = |text: &str| say_to(writer.as_fd(), &n_lost, text);
        say(&"x".repeat(1 << 20));
        say("lost");
        assert_eq!(n_lost.load(Ordering::Relaxed), 2);
        // Whatever the size of the pipe is.
        let mut some = [0; 1 << 16];
        while is_ready(reader.as_fd(), Direction::Read).unwrap() {
            let n_read = reader.read(&mut some).unwrap();
            assert!(some[..n_read].iter().all(|&byte| byte == b'x'));
        }
        say("read");
        say("read as well");
        drop(writer);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        let rest = rest.trim_start_matches('x');
        assert_eq!(rest, "\nxiio: standard error had no room, 2 texts are lost\nread\nread as well\n");
    }

    #[test]
    fn nobody_has_to_read() {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        say_to(writer.as_fd(), &AtomicU32::new(0), "text");
    }
}
