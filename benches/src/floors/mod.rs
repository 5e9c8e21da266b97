//! The raw floors: what is left of a row's question when all of the runtime is taken away. Written by hand against the
//! allocator, epoll, pidfd and threads, for each row in a file of its own.

pub mod blocks;
pub mod descriptors;
pub mod ping_pong;
pub mod polls;
pub mod process;
pub mod server;
pub mod thread;
pub mod wheel;
