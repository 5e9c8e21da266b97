//! Living with other runtimes and their libraries.
//!
//! | to run a xiio tree … | use | feature |
//! |---|---|---|
//! | inside tokio | [`on_tokio`] | `tokio` |
//! | inside anything that drives `async-io` (smol, async-std's successors) | [`on_async_io`] | `async-io` |
//! | inside any other loop | [`Embed`] | |
//!
//! A future that insists on tokio runs inside a xiio task in [`with_tokio`] (feature `tokio`). hyper serves and fetches
//! over xiio's streams with [`HyperStream`], [`HyperTimer`] and [`GroupExecutor`] (feature `hyper`); [`RequestTasks`] makes each
//! request a task, which cleans up when its client leaves. [`FuturesIo`] reads and writes a stream of a library for `futures`
//! (feature `futures-io`); the other way round, xiio's streams have those traits.
//!
//! Foreign code stops a future by dropping it, and a dropped future gets no cleanup that awaits. The general answer is
//! [`Task::cancel_on_drop`](crate::Task::cancel_on_drop): give that code the guard of a task instead of the future.
//! Foreign code on other threads reaches a group by [`TaskGroup::remote`](crate::TaskGroup::remote).
//!
//! # Implementation
//! No thread (but for `with_tokio`) and no polling loop. The reactor's own descriptor is watched by the foreign loop,
//! and one of its timers follows the next deadline of the tree; both cost nothing while nothing happens. Wakes from
//! outside go through the waker of the foreign task. The tree is the current runtime of its thread only while it takes
//! its turn, so tasks of both kinds live side by side, and may wake each other.
#![cfg_attr(
    not(all(feature = "tokio", feature = "async-io", feature = "futures-io", feature = "hyper")),
    allow(rustdoc::broken_intra_doc_links, reason = "what a feature brings is not there without it")
)]

#[cfg(feature = "async-io")]
mod async_io;
mod embed;
#[cfg(feature = "futures-io")]
mod futures_io;
#[cfg(feature = "hyper")]
mod hyper;
#[cfg(feature = "tokio")]
mod tokio;

#[cfg(feature = "async-io")]
pub use self::async_io::on_async_io;
#[cfg(feature = "futures-io")]
pub use self::futures_io::FuturesIo;
#[cfg(feature = "hyper")]
pub use self::hyper::{GroupExecutor, HyperStream, HyperTimer, Local, RequestTask, RequestTasks, TaskBody};
#[cfg(feature = "tokio")]
pub use self::tokio::{on_tokio, with_tokio};
pub use embed::Embed;
