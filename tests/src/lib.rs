//! The tests of xiio are in `tests/`, one file a situation.

pub mod example;
pub mod os;

#[cfg(doctest)]
mod docs;
