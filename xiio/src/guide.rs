//! The pages that lead through xiio: a tour, cancellation, what is `Send`, and the way from tokio.
//!
//! The links between them are those of the repository. Each program that is shown with its output is run by a test.

#[doc = include_str!("../docs/tour.md")]
pub mod tour {}

#[doc = include_str!("../docs/cancellation.md")]
pub mod cancellation {}

#[doc = include_str!("../docs/send.md")]
pub mod send {}

#[doc = include_str!("../docs/from_tokio.md")]
pub mod from_tokio {}
