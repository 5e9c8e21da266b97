//! The clients of a listener.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::{TcpListener, TcpStream, UnixListener, UnixStream};
use crate::io::Place as InLine;
use crate::sys::socket;
use crate::time::{Sleep, now, sleep_until};
use crate::unwind::Reached;

/// How long a listener rests when the system has no descriptor or no memory for a client.
const PAUSE: Duration = Duration::from_millis(20);

/// The clients of a listener, see [`TcpListener::incoming`].
///
/// # Examples
/// ```
/// use xiio::net::{TcpListener, TcpStream};
///
/// # xiio::run(async {
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let _stream = TcpStream::connect(listener.local_addr()?).await?;
/// let mut incoming = listener.incoming();
/// while let Some(client) = incoming.next().await {
///     match client {
///         Ok(client) => {
///             println!("{} is here", client.peer_addr()?);
///             break;
///         }
///         Err(error) => eprintln!("cannot take a client: {error}"),
///     }
/// }
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
pub struct Incoming<'a, L> {
    listener: &'a L,
    /// Set after an attempt that failed: the next one would fail at once. It is an instant, so that a caller who gives up
    /// the wait and comes again has waited as well.
    not_before: Option<Instant>,
    /// For those who poll without a future.
    #[cfg(feature = "futures-core")]
    place: Place,
}

/// Where the wait for a client stands.
#[derive(Default)]
struct Place {
    pause: Option<Sleep>,
    in_line: InLine,
}

impl<'a, L> Incoming<'a, L> {
    pub(super) fn new(listener: &'a L) -> Self {
        Self {
            listener,
            not_before: None,
            #[cfg(feature = "futures-core")]
            place: Place::default(),
        }
    }

    async fn next_by<S>(
        &mut self,
        accept: impl Fn(&L, &mut InLine, &mut Context<'_>) -> Poll<io::Result<S>>,
    ) -> io::Result<S> {
        let (mut place, mut reached) = (Place::default(), Reached::default());
        poll_fn(|cx| {
            reached.note("wait for a client");
            poll_by(self.listener, &mut self.not_before, &mut place, &accept, cx)
        })
        .await
    }
}

/// The next client, or an error that concerns all of them.
fn poll_by<L, S>(
    listener: &L,
    not_before: &mut Option<Instant>,
    place: &mut Place,
    accept: impl Fn(&L, &mut InLine, &mut Context<'_>) -> Poll<io::Result<S>>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<S>> {
    loop {
        if let Some(instant) = *not_before {
            ready!(Pin::new(place.pause.get_or_insert_with(|| sleep_until(instant))).poll(cx));
            (*not_before, place.pause) = (None, None);
        }
        match ready!(accept(listener, &mut place.in_line, cx)) {
            Err(error) if socket::is_of_client(&error) => {}
            result => {
                *not_before = result.is_err().then(|| now() + PAUSE);
                return Poll::Ready(result);
            }
        }
    }
}

impl<L: fmt::Debug> fmt::Debug for Incoming<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("listener", self.listener).finish_non_exhaustive()
    }
}

macro_rules! clients {
    ($listener:ident gives $stream:ident) => {
        impl Incoming<'_, $listener> {
            /// Waits for the next client. Never `None`.
            ///
            /// # Errors
            /// What `accept(2)` reports, except what concerns a single client that is gone. After an error the next attempt comes after a
            /// short pause, so a loop that goes on does not spin. See the [module](super).
            ///
            /// # Cancellation
            /// No client is lost.
            pub async fn next(&mut self) -> Option<io::Result<$stream>> {
                Some(self.next_by($listener::poll_client).await)
            }
        }

        /// The clients, see [`Incoming::next`].
        #[cfg(feature = "futures-core")]
        impl futures_core::Stream for Incoming<'_, $listener> {
            type Item = io::Result<$stream>;

            fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
                let Self { listener, not_before, place } = &mut *self;
                poll_by(*listener, not_before, place, $listener::poll_client, cx).map(Some)
            }
        }
    };
}

clients!(TcpListener gives TcpStream);
clients!(UnixListener gives UnixStream);

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// What comes of attempts that fail so, one after the other, and then give a client.
    fn next_after<const N: usize>(failures: [i32; N]) -> Result<&'static str, Option<i32>> {
        let failures = RefCell::new(failures.into_iter());
        let accept = |(): &(), _: &mut InLine, _: &mut Context<'_>| match failures.borrow_mut().next() {
            Some(code) => Poll::Ready(Err(io::Error::from_raw_os_error(code))),
            None => Poll::Ready(Ok("a client")),
        };
        crate::run(Incoming::new(&()).next_by(accept)).map_err(|error| error.raw_os_error())
    }

    #[test]
    fn clients_that_are_gone_are_passed_over() {
        assert_eq!(next_after([libc::ECONNABORTED, libc::EHOSTUNREACH, libc::EPROTO]), Ok("a client"));
    }

    #[test]
    fn what_concerns_all_clients_is_told() {
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EINVAL, libc::EPERM] {
            assert_eq!(next_after([libc::ECONNABORTED, code]), Err(Some(code)));
        }
    }
}
