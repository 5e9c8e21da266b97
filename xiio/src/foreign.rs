//! What a runtime of others has put around this thread, to be put around another one.
//!
//! Only that of tokio (feature `tokio`) keeps anything in a thread; without it there is nothing here.
#![forbid(unsafe_code)]

use std::marker::PhantomData;

#[cfg(feature = "tokio")]
use tokio::runtime::{EnterGuard, Handle};

#[cfg(feature = "tokio")]
use crate::report::drop_safely;

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
            tokio: self.tokio.as_ref().map(Handle::enter),
            surroundings: PhantomData,
        }
    }
}

/// See [`Surroundings::enter`].
#[must_use]
pub(crate) struct Entered<'a> {
    #[cfg(feature = "tokio")]
    tokio: Option<EnterGuard<'a>>,
    surroundings: PhantomData<&'a Surroundings>,
}

// Tokio panics where code of the user has left a guard of its own behind. The thread goes on.
#[cfg(feature = "tokio")]
impl Drop for Entered<'_> {
    fn drop(&mut self) {
        drop_safely(self.tokio.take());
    }
}
