//! The two ways to wait: on the poller's own descriptor, and through `Poller::wait`.

use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use polling::Poller;

use super::Direction;

/// How many events one wait reports at most; the rest comes with the next.
const MAX_EVENTS: usize = 256;

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
        let (portable, notifier) = portable::Portable::new(poller)?;
        Ok((Self::Portable(portable), notifier))
    }

    pub(super) fn wait(
        &mut self,
        poller: &Poller,
        timeout: Option<Duration>,
        on_event: &mut dyn FnMut(usize, Direction),
    ) -> io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Fast(fast) => fast.wait(poller, timeout, on_event),
            Self::Portable(portable) => portable.wait(poller, timeout, on_event),
        }
    }
}

#[cfg(target_os = "linux")]
mod fast {
    use std::io;
    use std::os::fd::AsFd;
    use std::sync::{Arc, OnceLock};
    use std::task::Waker;
    use std::time::Duration;

    use polling::{Event, Poller};

    use super::MAX_EVENTS;
    use crate::reactor::{Direction, source};
    use crate::sys::epoll::Events;
    use crate::sys::eventfd::EventFd;

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
            source::register(poller, notifier.as_fd(), Event::readable(NOTIFIER))?;
            let waker = Waker::from(Arc::clone(&notifier));
            let events = Events::with_capacity(MAX_EVENTS);
            Ok((Self { events, _notifier: notifier }, waker))
        }

        pub(super) fn wait(
            &mut self,
            poller: &Poller,
            timeout: Option<Duration>,
            on_event: &mut dyn FnMut(usize, Direction),
        ) -> io::Result<()> {
            self.events.wait(poller.as_fd(), timeout)?;
            for event in self.events.iter() {
                // Keys of `polling` itself and of the notifier are nobody's place.
                let Ok(key) = usize::try_from(event.key) else { continue };
                if event.is_readable {
                    on_event(key, Direction::Read);
                }
                if event.is_writable {
                    on_event(key, Direction::Write);
                }
            }
            Ok(())
        }
    }

    /// Whether waiting on the poller's descriptor reports the keys that were given to the poller. Tried once a process.
    pub(super) fn works() -> bool {
        static WORKS: OnceLock<bool> = OnceLock::new();
        *WORKS.get_or_init(|| std::env::var_os("XIIO_PORTABLE_REACTOR").is_none() && self_check().unwrap_or(false))
    }

    fn self_check() -> io::Result<bool> {
        let poller = Poller::new()?;
        if !poller.supports_edge() {
            return Ok(false);
        }
        let (mut fast, notifier) = Fast::new(&poller)?;
        notifier.wake();
        fast.events.wait(poller.as_fd(), Some(Duration::ZERO))?;
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

    use super::MAX_EVENTS;
    use crate::reactor::Direction;

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
        pub(super) fn new(poller: &Arc<Poller>) -> io::Result<(Self, Waker)> {
            if !poller.supports_edge() {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "xiio needs edge-triggered polling, which this system lacks",
                ));
            }
            let capacity = NonZeroUsize::new(MAX_EVENTS).unwrap_or(NonZeroUsize::MIN);
            let events = Events::with_capacity(capacity);
            Ok((Self { events }, Waker::from(Arc::new(Notifier(Arc::clone(poller))))))
        }

        pub(super) fn wait(
            &mut self,
            poller: &Poller,
            timeout: Option<Duration>,
            on_event: &mut dyn FnMut(usize, Direction),
        ) -> io::Result<()> {
            self.events.clear();
            poller.wait(&mut self.events, timeout)?;
            for event in self.events.iter() {
                let is_broken = event.is_err().unwrap_or(false) || event.is_interrupt();
                if event.readable || is_broken {
                    on_event(event.key, Direction::Read);
                }
                if event.writable || is_broken {
                    on_event(event.key, Direction::Write);
                }
            }
            Ok(())
        }
    }
}
