//! Which cores this process may run on.

use std::io::Error;

/// Keeps this process, and the threads and children it will start, on one core.
pub fn pin_to_core(core: usize) {
    // SAFETY: a set of zeros is a valid empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the index is checked by the function.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the size is that of the set, which lives through the call.
    let result = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) };
    assert_eq!(result, 0, "pin to core {core}: {}", Error::last_os_error());
}
