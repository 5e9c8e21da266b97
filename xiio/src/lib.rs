//! Structured concurrency for Rust: tasks that borrow from their parent, cancellation that cleans up with `await`, and
//! blocks that do not end before their tasks have.

#![allow(dead_code, unused_imports, reason = "the rooms above will use it")]

mod condition;
mod error;
mod flow;
mod group;
mod pin;
mod promise;
mod reactor;
mod report;
mod root;
mod runtime;
mod slab;
mod sys;
mod task;
mod time;
mod timer;
mod unwind;
pub mod inspect;
pub mod io;
