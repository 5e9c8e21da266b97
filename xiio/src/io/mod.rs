//! Readiness of any descriptor, and reading and writing through it.

mod readiness;

pub use readiness::{read, readable, writable, write, write_all};

pub(crate) use readiness::Readiness;
