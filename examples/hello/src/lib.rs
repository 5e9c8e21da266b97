//! The example is `hello.rs`.
