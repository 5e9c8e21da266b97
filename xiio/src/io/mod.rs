//! Readiness of any descriptor, and reading and writing through it.
//!
//! - [`readable`], [`writable`], [`read`](read()), [`write`](write()), [`write_all`]: for a descriptor that is only borrowed. Nothing about it is changed.
//! - [`Async`]: for one that is owned. It is made non-blocking and registered once, which saves two system calls each time
//!   something waits.
//! - [`Read`], [`Write`], [`BufRead`]: what everything that is read and written here has in common, with [`copy`],
//!   [`BufReader`], [`BufWriter`] and [`Take`] on top.
//!
//! # The traits
//! They are the traits of `std::io` with `async` methods, and most code written for `std` needs no more than `.await`. Not there are:
//! - `bytes`, and `by_ref`: a `&mut` of a reader or writer is one itself;
//! - `write_fmt`, and so `write!`: make the text with `format!` for `write_all`, or `write!` it to a `Vec<u8>` before;
//! - `Write` for `Cursor` and `&mut [u8]`, and either trait for `VecDeque<u8>`: a `Vec<u8>` is written to;
//! - `BufRead` for [`Chain`], as a line may go from one reader to the other: put a [`BufReader`] around.
//!
//! `Read` and `Write` have one required method each, `BufRead` has three. Elsewhere such traits have `poll_read` and `poll_write`, for two
//! reasons. A future of `async fn` in a trait cannot be told to be `Send`, and a trait with `async fn` cannot be made into `dyn`.
//! The first is of no concern here, as a task never leaves its thread. And a future of its own gives each reader its own place in
//! the line: with `poll_read` the last of several tasks that read from one socket is woken, and the others are forgotten. The
//! price is the second: there is no `Box<dyn Read>`. [`DynRead`], [`DynWrite`] and [`DynReadWrite`] are what there is in its
//! place, at the price of an allocation for each call.
//!
//! As in `std`, what can be read through a shared reference has the traits for the reference too: `&TcpStream` is
//! `Read + Write`, so two tasks may share one socket without splitting it.
//!
//! # Panics
//! What has to wait outside of a runtime panics.
//!
//! # Features
//! `futures-core`: [`Lines`] and [`Split`] are streams.
//!
//! `futures-io`: `Async`, `DuplexStream`, the streams of [`net`](crate::net), their halves and the pipes to children have the
//! traits of the `futures-io` crate. There the last task that polled a direction is woken.
//!
//! # Implementation
//! A read that waits is a `recv(2)` that would block the first time, then none: registered edge-triggered, a stream is known to be
//! empty when a read was short. So request and answer over one stream cost one wait, one read and one write each.

mod adapters;
mod buf_writer;
mod buffered;
mod copy;
mod duplex;
mod dynamic;
#[cfg(feature = "futures-io")]
mod futures;
mod nonblocking;
mod polled;
mod readiness;
mod std_types;
#[cfg(feature = "futures-core")]
mod stream;
mod traits;
mod unchanged;

pub use adapters::{Chain, Take};
pub use buf_writer::BufWriter;
pub use buffered::{BufRead, BufReader, Lines, Split};
pub use copy::{copy, copy_bidirectional};
pub use duplex::{DuplexStream, duplex};
pub use dynamic::{DynRead, DynReadWrite, DynWrite};
pub use nonblocking::Async;
pub use readiness::{read, readable, writable, write, write_all};
pub use traits::{Read, Write};
pub use unchanged::Unchanged;

#[cfg(feature = "futures-io")]
pub(crate) use futures::delegate;
pub(crate) use nonblocking::{Moves, Place};
pub(crate) use readiness::{Readiness, poll_ready};
pub(crate) use traits::by_reference;
