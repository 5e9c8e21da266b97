//! The two ways to wait: on the poller's own descriptor, and through `Poller::wait`.

use std::io;
#[cfg(not(polling_test_poll_backend))]
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use polling::Poller;

/// One event: what a registration is ready for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Report {
    pub(super) key: usize,
    pub(super) is_readable: bool,
    pub(super) is_writable: bool,
    /// It is known that there is nothing but data, so an operation that moves less than it was asked to has moved all.
    pub(super) is_plain_data: bool,
}

impl Report {
    /// Whoever waits is to try.
    pub(super) fn of_anything(key: usize) -> Self {
        Self { key, is_readable: true, is_writable: true, is_plain_data: false }
    }
}

/// How many events one wait reports at most; the rest comes with the next.
const MAX_EVENTS: usize = 256;

/// The descriptor of a poller that reports edges: the one to wait on.
///
/// # Errors
/// `Unsupported` of a poller that reports once. What that is asked for is known just before a wait of its own.
pub(super) fn descriptor(poller: &Poller) -> io::Result<BorrowedFd<'_>> {
    #[cfg(not(polling_test_poll_backend))]
    if poller.supports_edge() {
        return Ok(poller.as_fd());
    }
    debug_assert!(!poller.supports_edge(), "a poller of edges has a descriptor");
    let advice = "no loop can watch this tree: the poller of this system reports no edges; use `xiio::run`";
    Err(io::Error::new(io::ErrorKind::Unsupported, advice))
}

/// How this process waits.
pub(super) enum Waiting {
    #[cfg(target_os = "linux")]
    Fast(fast::Fast),
    Portable(portable::Portable),
}

impl Waiting {
    /// The way that works here, and the waker that ends a wait from another thread.
    pub(super) fn new(poller: &Arc<Poller>) -> io::Result<(Self, Waker)> {
        #[cfg(target_os = "linux")]
        if fast::works() {
            let (fast, notifier) = fast::Fast::new(poller)?;
            return Ok((Self::Fast(fast), notifier));
        }
        let (portable, notifier) = portable::Portable::new(poller);
        Ok((Self::Portable(portable), notifier))
    }

    /// Whether a registration ends with its event, and asks for nothing that nobody waits for.
    pub(super) fn reports_once(&self, poller: &Poller) -> bool {
        match self {
            #[cfg(target_os = "linux")]
            Self::Fast(_) => false,
            Self::Portable(_) => !poller.supports_edge(),
        }
    }

    pub(super) fn wait(
        &mut self,
        poller: &Poller,
        timeout: Option<Duration>,
        on_event: &mut dyn FnMut(Report),
    ) -> io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Fast(fast) => fast.wait(poller, timeout, on_event),
            Self::Portable(portable) => portable.wait(poller, timeout, on_event),
        }
    }
}

#[cfg(target_os = "linux")]
pub(super) mod fast {
    use std::io;
    use std::os::fd::AsFd;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU8, Ordering};
    use std::task::Waker;
    use std::time::Duration;

    use polling::Poller;

    use super::{MAX_EVENTS, Report, descriptor};
    use crate::sys::epoll::{self, Events};
    use crate::sys::eventfd::EventFd;
    use crate::sys::{Call, call};

    /// The key of the notifier. The largest is `polling`'s own.
    const NOTIFIER: usize = usize::MAX - 1;

    pub(in crate::reactor) struct Fast {
        events: Events,
        /// Keeps the descriptor of the notifier open as long as it is watched.
        _notifier: Arc<EventFd>,
    }

    impl Fast {
        pub(super) fn new(poller: &Poller) -> io::Result<(Self, Waker)> {
            let notifier = Arc::new(EventFd::new()?);
            epoll::add(descriptor(poller)?, notifier.as_fd(), NOTIFIER as u64, epoll::NOTIFIER_EDGES)?;
            let waker = Waker::from(Arc::clone(&notifier));
            let events = Events::with_capacity(MAX_EVENTS);
            Ok((Self { events, _notifier: notifier }, waker))
        }

        pub(super) fn wait(
            &mut self,
            poller: &Poller,
            timeout: Option<Duration>,
            on_event: &mut dyn FnMut(Report),
        ) -> io::Result<()> {
            self.events.wait(descriptor(poller)?, timeout)?;
            for event in self.events.iter() {
                // Keys of `polling` itself and of the notifier are nobody's place.
                let Ok(key) = usize::try_from(event.key) else { continue };
                let is_plain_data = !event.is_special;
                on_event(Report { key, is_readable: event.is_readable, is_writable: event.is_writable, is_plain_data });
            }
            Ok(())
        }
    }

    /// Whether the poller's descriptor can be registered with and waited on directly. Tried once a process, or by each of the threads that
    /// come at the same time.
    ///
    /// What does not work: a `OnceLock`. A thread may be in the middle of it while another one forks, and the child would wait for it for ever.
    pub(in crate::reactor) fn works() -> bool {
        const UNKNOWN: u8 = 2;
        static WORKS: AtomicU8 = AtomicU8::new(UNKNOWN);
        match WORKS.load(Ordering::Relaxed) {
            UNKNOWN => {
                let is_asked = std::env::var_os("XIIO_PORTABLE_REACTOR").is_none();
                let works = is_asked && call(Call::SelfCheck, self_check).unwrap_or(false);
                WORKS.store(works.into(), Ordering::Relaxed);
                works
            }
            known => known == 1,
        }
    }

    fn self_check() -> io::Result<bool> {
        let poller = call(Call::Make, Poller::new)?;
        let (mut fast, notifier) = Fast::new(&poller)?;
        notifier.wake();
        fast.events.wait(descriptor(&poller)?, Some(Duration::ZERO))?;
        let is_notified = fast.events.iter().any(|event| event.key == NOTIFIER as u64 && event.is_readable);
        Ok(is_notified)
    }
}

mod portable {
    use std::io;
    use std::num::NonZeroUsize;
    use std::sync::Arc;
    use std::task::{Wake, Waker};
    use std::time::Duration;

    use polling::{Events, Poller};

    use super::{MAX_EVENTS, Report};

    pub(in crate::reactor) struct Portable {
        events: Events,
    }

    struct Notifier(Arc<Poller>);

    impl Wake for Notifier {
        fn wake(self: Arc<Self>) {
            // Fails only if the poller's own descriptor is gone, and then nothing waits on it.
            let _ = self.0.notify();
        }
    }

    impl Portable {
        pub(super) fn new(poller: &Arc<Poller>) -> (Self, Waker) {
            let capacity = NonZeroUsize::new(MAX_EVENTS).unwrap_or(NonZeroUsize::MIN);
            let events = Events::with_capacity(capacity);
            (Self { events }, Waker::from(Arc::new(Notifier(Arc::clone(poller)))))
        }

        pub(super) fn wait(
            &mut self,
            poller: &Poller,
            timeout: Option<Duration>,
            on_event: &mut dyn FnMut(Report),
        ) -> io::Result<()> {
            self.events.clear();
            let mut waited = poller.wait(&mut self.events, timeout);
            // The poller of `poll(2)` was notified, and looks for what another thread is about to write. It says so as an error, behind
            // which it takes itself for notified still, and would swallow each later notification. Only a wait that ends well undoes that.
            while waited.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                waited = poller.wait(&mut self.events, Some(Duration::ZERO));
            }
            waited?;
            for event in self.events.iter() {
                // `poll(2)` reports a descriptor that is closed as ready for nothing.
                let is_closed = !event.readable && !event.writable;
                let is_broken = event.is_err().unwrap_or(false) || event.is_interrupt() || is_closed;
                let (is_readable, is_writable) = (event.readable || is_broken, event.writable || is_broken);
                // `Poller` does not tell whether the other end has closed.
                on_event(Report { key: event.key, is_readable, is_writable, is_plain_data: false });
            }
            Ok(())
        }
    }
}
