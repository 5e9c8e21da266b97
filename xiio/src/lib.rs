//! xiio.
