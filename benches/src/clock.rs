//! Time: of the processor for what happens in memory, of the wall for what waits.

use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

use crate::sample::Sample;

/// Measures the time of the processor (all threads of the process) and of the wall side by side.
pub struct Stopwatch {
    cpu: Duration,
    wall: Instant,
}

impl Stopwatch {
    pub fn start() -> Self {
        Stopwatch { wall: Instant::now(), cpu: process_cpu_time() }
    }

    /// The time since the start, shared out among so many operations.
    pub fn per_operation(&self, n_operations: u64) -> Sample {
        let cpu = process_cpu_time() - self.cpu;
        let wall = self.wall.elapsed();
        let nanos_each = |time: Duration| time.as_nanos() as f64 / n_operations as f64;
        Sample::new()
            .with("operations", n_operations as f64)
            .with("cpu_ns", nanos_each(cpu))
            .with("wall_ns", nanos_each(wall))
    }
}

/// Has the kernel end each sleep of this thread on time. By default it may add 50 us, to wake several threads at once.
pub fn sleep_precisely() {
    // SAFETY: the option takes a number of nanoseconds and touches no memory.
    let result = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
    assert_eq!(result, 0, "the slack of timers can be set");
}

fn process_cpu_time() -> Duration {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the pointer is valid for a write of a `timespec`, and the clock exists on every Linux.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, time.as_mut_ptr()) };
    assert_eq!(result, 0, "the clock of the process can be read");
    // SAFETY: the call succeeded, so it has written the whole structure.
    let time = unsafe { time.assume_init() };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
