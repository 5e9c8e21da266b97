//! The number of a child that the kernel has reaped goes to another process. A file of its own, as `SIGCHLD` is set for the whole
//! process.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::Child;

use xiio::process::{Command, Stdio};
use xiio::signal::{SIGCHLD, SIGTERM, SIGUSR1};
use xiio_tests::LONG;
use xiio_tests::os::{choose_next_number, send, set_handler};

/// Starts a process under a number that was used before, if the system allows that to this user. It waits for a child of its own.
fn start_under(pid: u32) -> Option<Child> {
    let script = "sleep 60 & echo $!; wait $!";
    // Somebody else may be faster.
    (0..100).find_map(|_| {
        choose_next_number(pid).ok()?;
        let mut command = std::process::Command::new("sh");
        let mut started =
            command.args(["-c", script]).process_group(0).stdout(std::process::Stdio::piped()).spawn().unwrap();
        if started.id() == pid {
            return Some(started);
        }
        send(child_of(&mut started), libc::SIGKILL);
        started.wait().unwrap();
        None
    })
}

fn child_of(started: &mut Child) -> u32 {
    let mut line = String::new();
    BufReader::new(started.stdout.take().unwrap()).read_line(&mut line).unwrap();
    line.trim().parse().unwrap()
}

#[test]
fn a_stranger_who_has_got_the_number_of_a_child_is_left_alone() {
    for fate in ["is dropped", "is stopped", "is signalled", "is waited for"] {
        set_handler(SIGCHLD, libc::SIG_IGN);
        xiio::run(async {
            let mut command = Command::new("cat");
            let mut child = command.stdin(Stdio::piped()).own_group(true).grace(LONG).spawn().unwrap();
            // It ends now, and not before it is watched.
            drop(child.stdin.take());
            child.wait_exited().await.unwrap();
            set_handler(SIGCHLD, libc::SIG_DFL);
            let Some(mut stranger) = start_under(child.id()) else {
                return eprintln!("not tested: no process can be started under a given number here");
            };
            match fate {
                "is stopped" => drop(child.stop().await.unwrap_err()),
                "is signalled" => drop(child.signal(SIGTERM).unwrap_err()),
                "is waited for" => drop(child.wait().await.unwrap_err()),
                _ => {}
            }
            drop(child);
            // Had one of the two been signalled before, this would not be what has ended them, nor would it be told here.
            send(child_of(&mut stranger), SIGUSR1);
            assert_eq!(stranger.wait().unwrap().code(), Some(128 + SIGUSR1), "the child {fate}");
        });
    }
}
