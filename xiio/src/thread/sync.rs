//! What `job` is made of. A model of the hand-over includes that file beside a `sync` of `loom`'s types.

pub(super) use std::sync::atomic::{AtomicBool, Ordering};
pub(super) use std::sync::{Mutex, MutexGuard, PoisonError};
