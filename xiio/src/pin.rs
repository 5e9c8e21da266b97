//! A pinned future with plain state beside it: the one place where a pin is projected.
//!
//! Combinators such as [`timeout`](crate::timeout) keep the future they were given in place. Written as an `async fn`
//! each would hold it twice (once as an argument, once pinned), and nested ones 2ⁿ times.
#![allow(unsafe_code)]

use std::pin::Pin;

/// A future that is pinned with the struct, and state that is not.
///
/// Invariant: `future` is only ever reached through a pin, and dropped in place.
#[must_use = "nothing runs before it is awaited"]
pub struct Pinned<F, S> {
    future: Option<F>,
    state: S,
}

// `state` is never pinned, so it has no say in whether the whole may move.
impl<F: Unpin, S> Unpin for Pinned<F, S> {}

impl<F, S> Pinned<F, S> {
    pub(crate) fn new(future: F, state: S) -> Self {
        let future = Some(future);
        Self { future, state }
    }

    /// Changes the state, before the whole is pinned.
    pub(crate) fn map_state<T>(self, change: impl FnOnce(S) -> T) -> Pinned<F, T> {
        Pinned { future: self.future, state: change(self.state) }
    }

    pub(crate) fn project(self: Pin<&mut Self>) -> (Pin<&mut Option<F>>, &mut S) {
        // SAFETY: nothing is moved out of the reference: `future` is pinned again below, `state` is never pinned, and
        // there is neither a `Drop` that could move `future` nor another way to a `&mut` of it.
        let this = unsafe { self.get_unchecked_mut() };
        // SAFETY: `future` lives inside the pinned struct, which is `Unpin` only if `F` is.
        let future = unsafe { Pin::new_unchecked(&mut this.future) };
        (future, &mut this.state)
    }
}
