//! xiio.

#[cfg_attr(not(test), expect(dead_code, reason = "the runtime will use it"))]
mod slab;
#[cfg_attr(not(test), expect(dead_code, reason = "the runtime will use it"))]
mod timer;
