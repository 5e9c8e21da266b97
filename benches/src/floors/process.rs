//! The floor of running programs: std's `posix_spawn`, a pidfd for each child in one epoll, `waitid`.

use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Child, Command};

use super::descriptors::{Epoll, Events, checked};
use crate::clock::Stopwatch;
use crate::row::Case;
use crate::sample::Sample;

pub fn pidfd(case: &Case) -> Sample {
    let n_programs = case.n * case.rounds;
    let (epoll, mut events) = (Epoll::new(), Events::new());
    let mut children: Vec<Option<(Child, OwnedFd)>> = Vec::new();
    let clock = Stopwatch::start();
    for key in 0..case.n {
        children.push(Some(start(&epoll, key)));
    }
    let (mut n_started, mut n_done) = (case.n, 0);
    while n_done < n_programs {
        for key in epoll.wait(&mut events) {
            let (mut child, pidfd) = children[key as usize].take().expect("it was started");
            // Before the close: a child that has not yet reached its `exec` still holds a copy of the descriptor, and
            // with it the registration.
            epoll.remove(&pidfd);
            assert!(child.wait().unwrap().success());
            n_done += 1;
            if n_started < n_programs {
                n_started += 1;
                children[key as usize] = Some(start(&epoll, key));
            }
        }
    }
    clock.per_operation(n_programs)
}

fn start(epoll: &Epoll, key: u64) -> (Child, OwnedFd) {
    let child = Command::new("/bin/true").spawn().unwrap();
    // SAFETY: takes no pointer.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id() as libc::pid_t, 0) };
    // SAFETY: a result >= 0 is a fresh descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(checked(fd as i32)) };
    epoll.add(&pidfd, key);
    (child, pidfd)
}

/// std's own blocking `status`, in as many threads as programs run at a time.
pub fn threads(case: &Case) -> Sample {
    let Case { n, rounds, .. } = *case;
    let run = || {
        for _ in 0..rounds {
            assert!(Command::new("/bin/true").status().unwrap().success());
        }
    };
    let clock = Stopwatch::start();
    if n == 1 {
        run();
    } else {
        std::thread::scope(|scope| (0..n).for_each(|_| drop(scope.spawn(run))));
    }
    clock.per_operation(n * rounds)
}
