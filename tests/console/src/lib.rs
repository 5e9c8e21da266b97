//! The test of `tests/console.rs` has no other code.
