//! The number of a child that was reaped goes to another process. A file of its own, as `SIGCHLD` is set for the whole process.

use std::io::{BufRead, BufReader, Read, Write, pipe};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Child;
use std::sync::Mutex;

use xiio::process::{Command, Stdio};
use xiio::signal::{SIGCHLD, SIGTERM, SIGUSR1};
use xiio_tests::LONG;
use xiio_tests::os::{
    choose_next_number, end_fork, fork, group_of, has_ended_well, rerun, send, set_handler, state_of, trace, wait_until,
};

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

/// Held by each test: the other would find `SIGCHLD` ignored.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn a_stranger_who_has_got_the_number_of_a_child_is_left_alone() {
    let _alone = ALONE.lock();
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

#[test]
fn a_dropped_child_of_the_process_before_is_not_reaped_after_a_fork() {
    let _alone = ALONE.lock();
    let output = rerun("program_that_forks_with_a_dropped_child").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "a program for the test above, in which nothing else runs"]
fn program_that_forks_with_a_dropped_child() {
    let Some((dropped, debugger)) = drop_one_that_stays() else {
        return eprintln!("not tested: no process may trace another here");
    };
    let (mut when_reaped, mut is_reaped) = pipe().unwrap();
    let Some(forked) = fork() else {
        let work = || {
            when_reaped.read_exact(&mut [0]).unwrap();
            give_its_number_to_a_child(dropped);
        };
        end_fork(catch_unwind(AssertUnwindSafe(work)).is_ok())
    };
    end(debugger);
    wait_until("the dropped child is reaped", || group_of(dropped).is_none());
    is_reaped.write_all(b"!").unwrap();
    assert!(has_ended_well(forked));
}

/// Drops a child that can be reaped only when its debugger has ended.
fn drop_one_that_stays() -> Option<(u32, Child)> {
    xiio::run(async {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let mut debugger = std::process::Command::new("sleep");
        trace(debugger.arg("60"), child.id());
        Some((child.id(), debugger.spawn().ok()?))
    })
}

fn end(mut debugger: Child) {
    debugger.kill().unwrap();
    debugger.wait().unwrap();
}

fn give_its_number_to_a_child(pid: u32) {
    let Some(mut child) = start_under(pid) else {
        return eprintln!("not tested: no process can be started under a given number here");
    };
    send(child_of(&mut child), SIGUSR1);
    wait_until("the child has ended", || state_of(pid) == Some('Z'));
    // Another one that is dropped is reaped by a thread, which would take the other for the one that was dropped before the fork.
    let (dropped, debugger) = drop_one_that_stays().unwrap();
    end(debugger);
    wait_until("the other child is reaped", || group_of(dropped).is_none());
    assert_eq!(child.wait().unwrap().code(), Some(128 + SIGUSR1));
}
