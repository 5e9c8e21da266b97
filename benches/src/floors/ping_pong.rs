//! The floor of ping-pong: both ends in one epoll loop.

use std::os::unix::net::UnixStream;

use super::descriptors::{Epoll, Events, read_ready, write_few};
use crate::clock::Stopwatch;
use crate::row::Case;
use crate::sample::Sample;

pub fn epoll(case: &Case) -> Sample {
    let (a, b) = UnixStream::pair().unwrap();
    let ends = [a, b];
    let (epoll, mut events) = (Epoll::new(), Events::new());
    for (end, key) in ends.iter().zip(0..) {
        end.set_nonblocking(true).unwrap();
        epoll.add(end, key);
    }
    let mut buffer = [0; 8];
    let clock = Stopwatch::start();
    write_few(&ends[0], &buffer);
    let mut n_messages = 1;
    while n_messages < 2 * case.rounds {
        for key in epoll.wait(&mut events) {
            let end = &ends[key as usize];
            read_ready(end, &mut buffer).expect("the event said readable");
            write_few(end, &buffer);
            n_messages += 1;
        }
    }
    clock.per_operation(case.rounds)
}
