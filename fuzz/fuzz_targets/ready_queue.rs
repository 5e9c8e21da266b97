//! The intrusive queue and list of tasks beside `VecDeque`s.
#![no_main]
#![allow(dead_code)]

#[path = "ready_queue/task.rs"]
mod task;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| task::compare(data));
