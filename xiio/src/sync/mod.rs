//! What crosses threads is made of these: of what `std` has, and in a model of what `loom` has.
//!
//! A model (see `docs/testing.md`) runs a few threads in every order that the memory model allows. They take turns on
//! one thread of the system, so the thread-locals that tell them apart come from here, too. No other build knows of
//! `loom`.

#[cfg(not(all(test, loom)))]
mod real;
#[cfg(not(all(test, loom)))]
pub(crate) use real::*;

#[cfg(tsan)]
mod watched;

#[cfg(all(test, loom))]
mod modelled;
#[cfg(all(test, loom))]
pub(crate) use modelled::*;
