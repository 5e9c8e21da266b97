//! Standard error, which keeps nobody for long.
//!
//! A full pipe that nobody reads, or a terminal that was stopped by Ctrl-S, would keep a loop from its cleanups for ever. So who writes waits for a
//! bounded time, once until there is room again, and what has no room then is lost. The next text says so.
//!
//! The hook of a panic is `std`'s, and may still keep its thread.
//!
//! What does not work: `io::stderr()`. Another thread may be stuck with its lock. Nor `eprintln!`, which panics as well when nobody reads.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use super::fd::{Direction, is_ready};
use super::nowait;

/// How long one waits between two looks whether there is room, and how often where none comes: a second.
const PAUSE: Duration = Duration::from_millis(5);
const N_PAUSES: u32 = 200;
/// How often for one text, of which a slow reader takes a little now and then: five seconds.
const MAX_PAUSES: u32 = 1000;

static N_LOST: AtomicU32 = AtomicU32::new(0);

/// Writes a line or several, or loses them.
pub fn say(text: &str) {
    say_to(io::stderr().as_fd(), &N_LOST, text);
}

fn say_to(fd: BorrowedFd<'_>, n_lost: &AtomicU32, text: &str) {
    // Taken, so that of several threads one says so.
    let n_before = n_lost.swap(0, Ordering::Relaxed);
    if n_before > 0 {
        // One may have been cut in the middle of a line.
        let notice = format!("\nxiio: standard error had no room, {n_before} texts are lost\n");
        if write_all(fd, notice.as_bytes(), 0).is_err() {
            n_lost.fetch_add(n_before + 1, Ordering::Relaxed);
            return;
        }
    }
    if write_all(fd, format!("{text}\n").as_bytes(), N_PAUSES).is_err() {
        n_lost.fetch_add(1, Ordering::Relaxed);
    }
}

/// # Errors
/// `WouldBlock` when there was no room for so many pauses, or for all of it in time. What the system reports; nobody can be told of it.
fn write_all(fd: BorrowedFd<'_>, mut text: &[u8], patience: u32) -> io::Result<()> {
    let (mut n_pauses, mut n_left) = (patience, MAX_PAUSES);
    while !text.is_empty() {
        let written = match is_ready(fd, Direction::Write)? {
            true => nowait::write(fd, text),
            false => Err(io::ErrorKind::WouldBlock.into()),
        };
        match written {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n_bytes) => {
                text = &text[n_bytes..];
                n_pauses = patience;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && n_pauses > 0 && n_left > 0 => {
                (n_pauses, n_left) = (n_pauses - 1, n_left - 1);
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
