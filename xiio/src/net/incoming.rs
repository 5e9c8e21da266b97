//! The clients of a listener.

use std::io;
use std::time::{Duration, Instant};

use super::{TcpListener, TcpStream, UnixListener, UnixStream};
use crate::sys::socket;
use crate::time::{now, sleep_until};

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
#[derive(Debug)]
pub struct Incoming<'a, L> {
    listener: &'a L,
    /// There after an attempt that failed: the next one would at once. An instant, as who gives up the wait and comes again
    /// has waited as well.
    not_before: Option<Instant>,
}

impl<'a, L> Incoming<'a, L> {
    pub(super) fn new(listener: &'a L) -> Self {
        Self { listener, not_before: None }
    }

    async fn next_by<S>(&mut self, accept: impl AsyncFn(&L) -> io::Result<S>) -> io::Result<S> {
        loop {
            if let Some(instant) = self.not_before {
                sleep_until(instant).await;
            }
            match accept(self.listener).await {
                Err(error) if socket::is_of_client(&error) => {}
                result => {
                    self.not_before = result.is_err().then(|| now() + PAUSE);
                    return result;
                }
            }
        }
    }
}

impl Incoming<'_, TcpListener> {
    /// Waits for the next client. Never `None`.
    ///
    /// # Errors
    /// What `accept(2)` reports, except what concerns a single client that is gone. After an error there is a short pause before the next
    /// attempt, so a loop that goes on does not spin. See the [room](super).
    ///
    /// # Cancellation
    /// No client is lost.
    pub async fn next(&mut self) -> Option<io::Result<TcpStream>> {
        Some(self.next_by(async |listener| listener.accept().await.map(|(client, _)| client)).await)
    }
}

impl Incoming<'_, UnixListener> {
    /// Waits for the next client. Never `None`.
    ///
    /// # Errors
    /// What `accept(2)` reports, except what concerns a single client that is gone. After an error there is a short pause before the next
    /// attempt, so a loop that goes on does not spin. See the [room](super).
    ///
    /// # Cancellation
    /// No client is lost.
    pub async fn next(&mut self) -> Option<io::Result<UnixStream>> {
        Some(self.next_by(async |listener| listener.accept().await.map(|(client, _)| client)).await)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// What comes of attempts that fail so, one after the other, and then give a client.
    fn next_after<const N: usize>(failures: [i32; N]) -> Result<&'static str, Option<i32>> {
        let failures = RefCell::new(failures.into_iter());
        let accept = async |(): &()| match failures.borrow_mut().next() {
            Some(code) => Err(io::Error::from_raw_os_error(code)),
            None => Ok("a client"),
        };
        crate::run(Incoming::new(&()).next_by(accept)).map_err(|error| error.raw_os_error())
    }

    #[test]
    fn clients_that_are_gone_are_passed_over() {
        assert_eq!(next_after([libc::ECONNABORTED, libc::EHOSTUNREACH, libc::EPROTO]), Ok("a client"));
    }

    #[test]
    fn what_concerns_all_clients_is_told() {
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EINVAL] {
            assert_eq!(next_after([libc::ECONNABORTED, code]), Err(Some(code)));
        }
    }
}
