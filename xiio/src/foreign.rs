//! What a runtime of others has put around this thread, to be put around another one.
//!
//! Only that of tokio (feature `tokio`) keeps anything in a thread; without it there is nothing here.
#![forbid(unsafe_code)]

use std::marker::PhantomData;

#[cfg(feature = "tokio")]
use tokio::runtime::{EnterGuard, Handle};

/// The context of tokio's that is around, if there is one.
#[derive(Debug)]
pub(crate) struct Surroundings {
    #[cfg(feature = "tokio")]
    tokio: Option<Handle>,
}

impl Surroundings {
    pub(crate) fn here() -> Self {
        Self {
            #[cfg(feature = "tokio")]
            tokio: Handle::try_current().ok(),
        }
    }

    /// Has it around until the result is dropped.
    pub(crate) fn enter(&self) -> Entered<'_> {
        Entered {
            #[cfg(feature = "tokio")]
            _tokio: self.tokio.as_ref().map(Handle::enter),
            surroundings: PhantomData,
        }
    }
}

/// See [`Surroundings::enter`].
#[must_use]
pub(crate) struct Entered<'a> {
    #[cfg(feature = "tokio")]
    _tokio: Option<EnterGuard<'a>>,
    surroundings: PhantomData<&'a Surroundings>,
}
