//! Living with other runtimes: a xiio tree inside a foreign loop.
//!
//! # Implementation
//! No thread and no polling loop. The reactor's own descriptor is watched by the foreign loop, and one of its timers follows
//! the next deadline of the tree; both cost nothing while nothing happens. Wakes from outside go through the waker of the
//! foreign task. The tree is the current runtime of its thread only while it takes its turn, so tasks of both kinds live
//! side by side, and may wake each other.

mod embed;

pub use embed::Embed;
