//! The tests of xiio are in `tests/`, one file a situation.

pub mod example;

#[cfg(doctest)]
mod docs;
