//! The examples of xiio are in `examples/`.
