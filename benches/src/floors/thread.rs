//! The floor of offloading: one thread with a locked queue there, a locked list and an eventfd back.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex};

use super::descriptors::{Epoll, Events, checked};
use crate::clock::Stopwatch;
use crate::row::Case;
use crate::sample::Sample;

#[derive(Default)]
struct Shared {
    jobs: Mutex<Vec<u64>>,
    job_is_there: Condvar,
    done: Mutex<Vec<u64>>,
}

pub fn eventfd(case: &Case) -> Sample {
    let shared = Arc::new(Shared::default());
    // SAFETY: takes no pointer; a result >= 0 is a fresh descriptor that nobody else owns.
    let event = unsafe { OwnedFd::from_raw_fd(checked(libc::eventfd(0, libc::EFD_CLOEXEC))) };
    let (epoll, mut events) = (Epoll::new(), Events::new());
    epoll.add(&event, 0);

    let worker = {
        let shared = shared.clone();
        let event = event.try_clone().unwrap();
        std::thread::spawn(move || work(&shared, &event))
    };

    let n_jobs = case.n * case.rounds;
    let (mut n_started, mut n_done) = (0, 0);
    let clock = Stopwatch::start();
    while n_done < n_jobs {
        let n_new = (case.n - (n_started - n_done)).min(n_jobs - n_started);
        shared.jobs.lock().unwrap().extend(n_started..n_started + n_new);
        shared.job_is_there.notify_one();
        n_started += n_new;
        assert_eq!(epoll.wait(&mut events).count(), 1);
        let mut counter = [0; 8];
        // SAFETY: the buffer has the eight bytes that an eventfd writes.
        let n_read = unsafe { libc::read(event.as_raw_fd(), counter.as_mut_ptr().cast(), 8) };
        assert_eq!(n_read, 8);
        n_done += std::mem::take(&mut *shared.done.lock().unwrap()).len() as u64;
    }
    let sample = clock.per_operation(n_jobs);
    shared.jobs.lock().unwrap().push(STOP);
    shared.job_is_there.notify_one();
    worker.join().unwrap();
    sample
}

const STOP: u64 = u64::MAX;

fn work(shared: &Shared, event: &OwnedFd) {
    loop {
        let jobs = shared.jobs.lock().unwrap();
        let mut jobs = shared.job_is_there.wait_while(jobs, |jobs| jobs.is_empty()).unwrap();
        let jobs = std::mem::take(&mut *jobs);
        if jobs.contains(&STOP) {
            return;
        }
        shared.done.lock().unwrap().extend(jobs);
        let one = 1_u64;
        // SAFETY: eight bytes are read from a local.
        let n_written = unsafe { libc::write(event.as_raw_fd(), (&raw const one).cast(), 8) };
        assert_eq!(n_written, 8);
    }
}
